"""Who wrote what, who was born where: triples of subject, predicate and object, all at once.

    python examples/task_relation_extraction_gplinker.py [--checkpoint DIR] [--data DIR] [--seeds N]

GPLinker scores pairs of tokens with GlobalPointers: which are first and last token of a subject or
of an object, and, for each predicate, which are the first tokens of its subject and object, and
which the last ones. A triple is what all of these agree on. Almost all of the pairs are negative,
so the loss gets the few others by their numbers (sparse multilabel cross entropy). F1 is printed
for the weights as they are trained, and for their moving average (EMA).

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: a directory with the train and dev files of DuIE (JSON lines). Without it, the sample in
    examples/data.

Reference: https://kexue.fm/archives/8888; the loss: arXiv 2208.02955.
"""

import keras
import numpy as np
from labeling import Triples, read_splits, read_triples
from trials import DATA, OUTPUT, arguments, compare

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import sequence_padding
from bert4keras_lite.files import saving
from bert4keras_lite.layers import GlobalPointer
from bert4keras_lite.losses import sparse_multilabel_categorical_crossentropy
from bert4keras_lite.optimizers import AdamW

args = arguments(
    __doc__,
    seeds=3,
    data=DATA / "triples",
    maxlen=128,
    batch_size=16,
    epochs=(10, 20),
    learning_rate=(2e-5, 1e-3),
    ema_momentum=(0.999, 0.95),
)
tokenizer = load_tokenizer(args.checkpoint)

# the data
samples = read_splits(args.data, read_triples)
predicates = sorted({predicate for _, triples in samples["train"] for _, predicate, _ in triples})
MOST = 2 * max(len(triples) for _, triples in samples["train"])  # no head has more pairs


def target(triples, size, length):
    """The numbers of the pairs that are meant, `(heads, MOST)` for each of the outputs."""
    entities = [set(), set()]
    firsts, lasts = ([set() for _ in predicates] for _ in range(2))
    for (start, end), predicate, (begin, behind) in triples:
        entities[0].add((start, end - 1))
        entities[1].add((begin, behind - 1))
        firsts[predicates.index(predicate)].add((start, begin))
        lasts[predicates.index(predicate)].add((end - 1, behind - 1))
    return {
        name: sequence_padding(
            [[i * length + j for i, j in sorted(pairs)] for pairs in heads], MOST, -1, dtype="int32"
        )
        for name, heads in (("entities", entities), ("firsts", firsts), ("lasts", lasts))
    }


train = Triples(samples["train"], tokenizer, args, target, shuffle=True)
test = Triples(samples["test"], tokenizer, args)


# the model
def pairs_loss(y_true, scores):
    """For each head, the pairs that are meant against all others; summed over the heads."""
    scores = keras.ops.reshape(scores, (*keras.ops.shape(scores)[:2], -1))
    return keras.ops.sum(sparse_multilabel_categorical_crossentropy(y_true, scores), axis=-1)


def linker():
    bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
    # subject and object may stand in any order and at any distance
    anywhere = {"RoPE": False, "tril_mask": False}
    pointers = {
        "entities": GlobalPointer(2, 64, name="entities"),
        "firsts": GlobalPointer(len(predicates), 64, name="firsts", **anywhere),
        "lasts": GlobalPointer(len(predicates), 64, name="lasts", **anywhere),
    }
    outputs = {name: layer(bert.output) for name, layer in pointers.items()}
    return keras.Model(bert.inputs, outputs)


def decode(inputs):
    """The triples on which entities, first tokens and last tokens agree."""
    scores = model.predict_on_batch(inputs)
    found = []
    for entities, firsts, lasts in zip(
        *(scores[name] > 0 for name in ("entities", "firsts", "lasts")), strict=True
    ):
        subjects, objects = (np.argwhere(pairs) for pairs in entities)
        found.append(
            {
                ((start, end + 1), predicates[i], (begin, behind + 1))
                for start, end in subjects
                for begin, behind in objects
                for i in np.flatnonzero(firsts[:, start, begin] & lasts[:, end, behind])
            }
        )
    return found


# the training
def fit():
    """As trained."""
    global model
    model = linker()
    warm_up = len(train.batches)
    optimizer = AdamW(
        args.learning_rate, lr_schedule={warm_up: 1.0}, ema_momentum=args.ema_momentum
    )
    model.compile(optimizer, dict.fromkeys(model.output_names, pairs_loss))
    model.optimizer.build(model.trainable_variables)  # one trace
    inputs, targets = train.batches[0]
    model.compute_loss(y=targets, y_pred=model(inputs))  # of several losses, too
    model.fit(train.batches, epochs=args.epochs)
    return model, test.score(decode)


def average():
    """The same model with the moving average of its weights."""
    with model.optimizer.averaged_weights():
        return model, test.score(decode)


_, scores = compare({"as trained": fit, "moving average": average}, args.seeds, metric="F1")

# the result: the average of the last seed
model.optimizer.apply_ema_weights()
with saving(OUTPUT) as folder:  # interrupted, it leaves what was there before
    model.save_weights(folder / "gplinker.weights.h5")
for text, triples in list(zip(test.texts, test.predict(decode), strict=True))[:5]:
    print(text, *sorted(map(" / ".join, triples)), sep="\n    ")
