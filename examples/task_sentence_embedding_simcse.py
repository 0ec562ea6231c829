"""Sentence vectors from sentences alone: nobody says which are alike (unsupervised SimCSE).

    python examples/task_sentence_embedding_simcse.py [--checkpoint DIR] [--data DIR] [--seeds N]

Each sentence goes through the model twice, and dropout makes two vectors of it: they shall find one
another among those of all other sentences of the batch (Gao et al., arXiv 2104.08821). The vectors
are tested on scored pairs, before and after.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: a directory of STS-B's, LCQMC's or AFQMC's files: see sentence_vectors.py.
"""

from functools import partial

import keras
from sentence_vectors import read, sentence_model, show, test_score
from trials import DATA, arguments, compare, save

from bert4keras_lite import load_tokenizer
from bert4keras_lite.data import Batches
from bert4keras_lite.losses import simcse
from bert4keras_lite.training import dropout_pairs

args = arguments(
    __doc__,
    seeds=3,
    data=DATA / "sts",
    maxlen=64,
    batch_size=64,
    epochs=(1, 3),
    learning_rate=(1e-5, 3e-4),
    dropout_rate=0.1,
)
tokenizer = load_tokenizer(args.checkpoint)
train, test = read(args.data)
sentences = sorted({text for *pair, _ in train for text in pair})
# Keras wants a label, the loss does not
samples = [(tokenizer.encode(text, maxlen=args.maxlen), 0) for text in sentences]
print(f"{len(sentences)} sentences without a score to train on")


def fit(learn=True):
    model = sentence_model(args.checkpoint, args.dropout_rate)
    if learn:
        model.compile(
            keras.optimizers.AdamW(args.learning_rate), simcse, jit_compile=args.jit_compile
        )
        model.optimizer.build(model.trainable_variables)  # one trace
        dropout_pairs(model)
        batches = Batches(samples, args.batch_size, shuffle=True, buckets=4)
        model.fit(batches, epochs=args.epochs)
    return model, test_score(model, test, args)


models, scores = compare(
    {"before": partial(fit, learn=False), "SimCSE": fit}, args.seeds, "Spearman's rank correlation"
)
save(models["SimCSE"], "simcse")
show(models, test[:8], args)
