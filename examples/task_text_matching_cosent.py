"""How like do two sentences mean? Trains sentence vectors on scored pairs, with CoSENT's loss.

    python examples/task_text_matching_cosent.py [--checkpoint DIR] [--data DIR] [--seeds N]

CoSENT (Su, https://kexue.fm/archives/8847) asks for the right order: a pair that is more alike
than another shall have the larger cosine. It is compared with the vectors before any training and
with the usual regression, whose cosine shall be the score itself (Reimers and Gurevych, arXiv
1908.10084).

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: a directory of STS-B's, LCQMC's or AFQMC's files: see sentence_vectors.py.
"""

from functools import partial

import keras
from sentence_vectors import read, sentence_model, show, test_score
from trials import DATA, arguments, compare, save

from bert4keras_lite import load_tokenizer
from bert4keras_lite.data import Batches
from bert4keras_lite.losses import cosent

args = arguments(
    __doc__,
    seeds=3,
    data=DATA / "sts",
    maxlen=64,
    batch_size=32,
    epochs=(5, 10),
    learning_rate=(2e-5, 5e-4),
)
tokenizer = load_tokenizer(args.checkpoint)
train, test = read(args.data)
most = max(likeness for *_, likeness in train)
samples = [
    (sum((tokenizer.encode(text, maxlen=args.maxlen) for text in texts), ()), likeness / most)
    for *texts, likeness in train
]


def fit(loss=None):
    batches = Batches(samples, args.batch_size, shuffle=True, buckets=4)
    encoder = sentence_model(args.checkpoint, dropout_rate=0.1)
    if loss:
        # both texts of a pair go through the same encoder
        inputs = [keras.Input((None,), dtype="int32") for _ in range(4)]
        cosine = keras.layers.Dot(axes=1, normalize=True)
        model = keras.Model(inputs, cosine([encoder(inputs[:2]), encoder(inputs[2:])]))
        model.compile(
            keras.optimizers.AdamW(args.learning_rate), loss, jit_compile=args.jit_compile
        )
        model.optimizer.build(model.trainable_variables)  # one trace
        model.fit(batches, epochs=args.epochs)
    return encoder, test_score(encoder, test, args)


models, scores = compare(
    {
        "untrained": fit,
        "regression": partial(fit, "mean_squared_error"),
        "CoSENT": partial(fit, cosent),
    },
    args.seeds,
    "Spearman's rank correlation",
)
save(models["CoSENT"], "cosent")
show(models, test[:8], args)
