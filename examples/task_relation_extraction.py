"""Who wrote what, who was born where: triples of subject, predicate and object, subject first.

    python examples/task_relation_extraction.py [--checkpoint DIR] [--data DIR] [--seeds N]

A Chinese BERT marks where subjects begin and end. Then, for one subject at a time, its vectors
move scale and offset of a layer normalization (a conditional one) over the whole text, from which,
for each predicate, begin and end of the objects are marked. In training the subject is drawn.
F1 is printed for the weights as they are trained, and for their moving average (EMA).

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: a directory with the train and dev files of DuIE (JSON lines). Without it, the sample in
    examples/data.

Reference: Wei et al., "A Novel Cascade Binary Tagging Framework", arXiv 1909.03227; conditional
normalization: https://kexue.fm/archives/7161.
"""

from itertools import zip_longest

import keras
import numpy as np
from keras import ops
from labeling import Triples, read_splits, read_triples, without_padding
from trials import DATA, OUTPUT, arguments, compare

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import pad_samples
from bert4keras_lite.files import saving
from bert4keras_lite.layers import LayerNormalization
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


class OneSubject(Triples):
    """Batches of texts with one of their subjects, drawn anew each time."""

    def collate(self, rows, length):
        inputs = pad_samples([(ids, segments) for ids, segments, _ in rows], length)
        chosen = np.zeros((len(rows), 2), "int32")
        subject_ends = np.full((len(rows), length, 2), -1.0, "float32")
        object_ends = np.full((len(rows), length, 2 * len(predicates)), -1.0, "float32")
        for i, (ids, _, triples) in enumerate(rows):
            subject_ends[i, : len(ids)] = object_ends[i, : len(ids)] = 0
            subjects = sorted({subject for subject, _, _ in triples})
            for start, end in subjects:
                subject_ends[i, [start, end - 1], [0, 1]] = 1
            if not subjects:
                continue
            # the begin of one with the end of another is no subject, and has no objects
            start = subjects[np.random.randint(len(subjects))][0]
            ends = [end for _, end in subjects if end > start]
            end = ends[np.random.randint(len(ends))]
            chosen[i] = start, end - 1
            for subject, predicate, (first, behind) in triples:
                if subject == (start, end):
                    both = 2 * predicates.index(predicate) + np.arange(2)
                    object_ends[i, [first, behind - 1], both] = 1
        return (*inputs, chosen), {"subjects": subject_ends, "objects": object_ends}


train = OneSubject(samples["train"], tokenizer, args, shuffle=True)
test = Triples(samples["test"], tokenizer, args)


# the model
def ends_loss(y_true, scores):
    """Binary cross entropy of all ends that a token may be; padding is marked by -1."""
    losses = ops.binary_crossentropy(ops.maximum(y_true, 0), scores, from_logits=True)
    return ops.sum(ops.where(y_true < 0, 0.0, losses), axis=-1)


def spans(scores):
    """Each begin with the nearest end from there on; scores `(length, 2)`."""
    starts, lasts = (np.flatnonzero(scores[:, i] > 0) for i in (0, 1))
    behind = [lasts[lasts >= start] for start in starts]
    return [(start, last[0]) for start, last in zip(starts, behind, strict=True) if len(last)]


class Extractor:
    """Finds subjects (`reader`) and the objects of one (`finder`); `model` is both, to train."""

    def __init__(self):
        bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
        size = bert.output.shape[-1]
        # hardly any token is an end: the scores begin at a probability of 1 %
        rare = {"bias_initializer": keras.initializers.Constant(-4.6)}
        subject_ends = keras.layers.Dense(2, name="subject_ends", **rare)
        object_ends = keras.layers.Dense(2 * len(predicates), name="object_ends", **rare)
        conditioned = LayerNormalization(name="conditioned")

        def object_scores(states, chosen):
            subject = ops.take_along_axis(states, chosen[:, :, None], axis=1)
            subject = ops.reshape(subject, (-1, 2 * size))
            return object_ends(conditioned(states, condition=subject))

        states, chosen = keras.Input((None, size)), keras.Input((2,), dtype="int32")
        subjects = subject_ends(bert.output)
        self.reader = keras.Model(bert.inputs, [bert.output, subjects])
        self.finder = keras.Model([states, chosen], object_scores(states, chosen))
        self.model = keras.Model(
            [*bert.inputs, chosen],
            {"subjects": subjects, "objects": object_scores(bert.output, chosen)},
        )

    def decode(self, inputs):
        states, scores = self.reader.predict_on_batch(inputs)
        found = [set() for _ in states]
        subjects = [spans(row) for row in without_padding(scores, inputs)]
        # the first subject of every text at once, then the second, ...; [CLS] is none
        for chosen in zip_longest(*subjects, fillvalue=(0, 0)):
            scores = self.finder.predict_on_batch([states, np.array(chosen, "int32")])
            for triples, (start, last), row in zip(
                found, chosen, without_padding(scores, inputs), strict=True
            ):
                if last == 0:
                    continue
                pairs = np.split(row, len(predicates), axis=1)
                for predicate, pair in zip(predicates, pairs, strict=True):
                    for begin, end in spans(pair):
                        triples.add(((start, last + 1), predicate, (begin, end + 1)))
        return found


# the training
def fit():
    """As trained."""
    global extractor
    extractor = Extractor()
    warm_up = len(train.batches)
    optimizer = AdamW(
        args.learning_rate, lr_schedule={warm_up: 1.0}, ema_momentum=args.ema_momentum
    )
    extractor.model.compile(optimizer, {"subjects": ends_loss, "objects": ends_loss})
    extractor.model.optimizer.build(extractor.model.trainable_variables)  # one trace
    inputs, targets = train.batches[0]
    extractor.model.compute_loss(
        y=targets, y_pred=extractor.model(inputs)
    )  # of several losses, too
    extractor.model.fit(train.batches, epochs=args.epochs)
    return extractor, test.score(extractor.decode)


def average():
    """The same model with the moving average of its weights."""
    with extractor.model.optimizer.averaged_weights():
        return extractor, test.score(extractor.decode)


_, scores = compare({"as trained": fit, "moving average": average}, args.seeds, metric="F1")

# the result: the average of the last seed
extractor.model.optimizer.apply_ema_weights()
with saving(OUTPUT) as folder:  # interrupted, it leaves what was there before
    extractor.model.save_weights(folder / "relations.weights.h5")
for text, triples in list(zip(test.texts, test.predict(extractor.decode), strict=True))[:5]:
    print(text, *sorted(map(" / ".join, triples)), sep="\n    ")
