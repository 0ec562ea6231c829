"""Who wrote what, who was born where: triples of subject, predicate and object, subject first.

    python examples/task_relation_extraction.py [--checkpoint DIR] [--data DIR]

A Chinese BERT marks where subjects begin and end. Then the vectors of one subject are the condition
of a layer normalization of the whole text, from which begin and end of the objects are marked, for
each predicate. In training the subject is drawn at random. F1 is printed for the trained weights
and for their moving average (EMA).

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: a directory with the train and dev files of DuIE (JSON lines).

Reference: Wei et al., "A Novel Cascade Binary Tagging Framework", arXiv 1909.03227; conditional
normalization: https://kexue.fm/archives/7161.
"""

import argparse
from itertools import zip_longest

import keras
import numpy as np
from keras import ops
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches, pad_samples, read_json_lines, read_splits
from bert4keras_lite.layers import LayerNormalization
from bert4keras_lite.metrics import triple_scores
from bert4keras_lite.optimizers import AdamW
from bert4keras_lite.spans import token_spans

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA / "triples")
parser.add_argument("--ema-momentum", type=float, help="0.999, or 0.95 for tiny-zh")
parser.add_argument("--maxlen", type=int, default=128)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--epochs", type=int, help="10, or 20 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="2e-5, or 1e-3 for tiny-zh")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
epochs = args.epochs or (20 if is_small else 10)
learning_rate = args.learning_rate or (1e-3 if is_small else 2e-5)
ema_momentum = args.ema_momentum or (0.95 if is_small else 0.999)
keras.utils.set_random_seed(args.seed)
tokenizer = load_tokenizer(args.checkpoint)


# the data
def read(path):
    """(text, set of (subject, predicate, object)) of each line of DuIE that has triples."""

    def sample(row):
        triples = {(t["subject"], t["predicate"], t["object"]) for t in row.get("spo_list", [])}
        return (row["text"], triples) if triples else None

    return read_json_lines(path, sample)


def encode(text):
    return tokenizer.encode(text, maxlen=args.maxlen, return_offsets=True)


def in_tokens(text, triples, offsets):
    """((start, end), predicate, (start, end)): the first mentions of subject and object."""
    spans = set()
    for subject, predicate, object_ in triples:
        mentions = []
        for name in (subject, object_):
            start = text.lower().find(name.lower())
            mentions += token_spans({(start, start + len(name), "")}, offsets)
        if len(mentions) == 2:
            spans.add((mentions[0][:2], predicate, mentions[1][:2]))
    return spans


def in_text(text, triples, offsets):
    """The names of triples of tokens."""

    def name(span):
        return text[offsets[span[0]][0] : offsets[span[1] - 1][1]]

    return {(name(subject), predicate, name(object_)) for subject, predicate, object_ in triples}


samples = read_splits(args.data, read)
last = "valid" if samples["test"] is samples["valid"] else "test"
predicates = sorted({predicate for _, triples in samples["train"] for _, predicate, _ in triples})


def collate(rows, length):
    """A batch of texts, each with one of its subjects, drawn again each time."""
    ids, segments = pad_samples([(ids, segments) for ids, segments, _ in rows], length)
    chosen = np.zeros((len(rows), 2), "int32")
    subject_ends = np.full((len(rows), length, 2), -1.0, "float32")  # -1 for padding
    object_ends = np.full((len(rows), length, 2 * len(predicates)), -1.0, "float32")
    for i, (tokens, _, triples) in enumerate(rows):
        subject_ends[i, : len(tokens)] = object_ends[i, : len(tokens)] = 0
        subjects = sorted({subject for subject, _, _ in triples})
        for start, end in subjects:
            subject_ends[i, [start, end - 1], [0, 1]] = 1
        if not subjects:
            continue
        # the begin of one with the end of another is not a subject, and has no objects
        start = subjects[np.random.randint(len(subjects))][0]
        ends = [end for _, end in subjects if end > start]
        end = ends[np.random.randint(len(ends))]
        chosen[i] = start, end - 1
        for subject, predicate, (object_start, object_end) in triples:
            if subject == (start, end):
                columns = 2 * predicates.index(predicate) + np.arange(2)
                object_ends[i, [object_start, object_end - 1], columns] = 1
    return (ids, segments, chosen), {"subjects": subject_ends, "objects": object_ends}


rows = []
for text, triples in samples["train"]:
    ids, segments, offsets = encode(text)
    rows.append((ids, segments, in_tokens(text, triples, offsets)))
train = Batches(rows, args.batch_size, collate, shuffle=True, buckets=4)

# the model: `reader` finds subjects, `finder` the objects of one; `model` is both, for training
bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
size = bert.output.shape[-1]
# hardly any token is an end: the logits begin at a probability of 1 %
rare = {"bias_initializer": keras.initializers.Constant(-4.6)}
subject_ends = keras.layers.Dense(2, name="subject_ends", **rare)(bert.output)
chosen = keras.Input((2,), dtype="int32")
subject = ops.take_along_axis(bert.output, chosen[:, :, None], axis=1)
subject = ops.reshape(subject, (-1, 2 * size))
dense = keras.layers.Dense(2 * len(predicates), name="object_ends", **rare)
object_ends = dense(LayerNormalization(name="conditioned")(bert.output, condition=subject))
reader = keras.Model(bert.inputs, [bert.output, subject_ends])
finder = keras.Model([bert.output, chosen], object_ends)
model = keras.Model([*bert.inputs, chosen], {"subjects": subject_ends, "objects": object_ends})


def ends_loss(y_true, logits):
    """Binary cross entropy of all ends that a token may be; -1 is ignored."""
    losses = ops.binary_crossentropy(ops.maximum(y_true, 0), logits, from_logits=True)
    return ops.sum(ops.where(y_true < 0, 0.0, losses), axis=-1)


def spans(logits):
    """Each begin with the nearest end from there on, as (start, end); logits `(length, 2)`."""
    starts, lasts = (np.flatnonzero(logits[:, i] > 0) for i in (0, 1))
    return [(i, min(lasts[lasts >= i]) + 1) for i in starts if any(lasts >= i)]


def decode(inputs):
    """The triples of each text of a batch, in tokens."""
    sizes = np.count_nonzero(inputs[0], axis=1)  # without padding
    states, logits = reader.predict_on_batch(inputs)
    subjects = [spans(row[:size]) for row, size in zip(logits, sizes, strict=True)]
    triples_of_texts = [set() for _ in sizes]
    # the first subject of every text, then the second, ...; [CLS], if it has no more
    for chosen in zip_longest(*subjects, fillvalue=(0, 1)):
        logits = finder.predict_on_batch([states, np.subtract(chosen, (0, 1), dtype="int32")])
        rows = zip(triples_of_texts, chosen, logits, sizes, strict=True)
        for triples, subject, row, size in rows:
            pairs = np.split(row[:size], len(predicates), axis=1)
            for predicate, pair in zip(predicates, pairs, strict=True):
                if subject != (0, 1):
                    triples |= {(subject, predicate, object_) for object_ in spans(pair)}
    return triples_of_texts


def predict(samples):
    """The triples of each text."""
    batches = Batches([(encode(text)[:2],) for text, _ in samples], args.batch_size)
    predicted = (triples for (inputs,) in batches for triples in decode(inputs))
    pairs = zip(samples, predicted, strict=True)
    return [in_text(text, triples, encode(text)[2]) for (text, _), triples in pairs]


def f1(samples):
    return triple_scores([triples for _, triples in samples], predict(samples)).f1


# the training, which begins with an epoch of warm-up
optimizer = AdamW(learning_rate, lr_schedule={len(train): 1.0}, ema_momentum=ema_momentum)
model.compile(optimizer, {"subjects": ends_loss, "objects": ends_loss})
model.optimizer.build(model.trainable_variables)  # one trace
inputs, targets = train[0]
model.compute_loss(y=targets, y_pred=model(inputs))  # of several losses, too
model.fit(train, epochs=epochs)

# the result
print(f"as trained: F1 {f1(samples['test']):.4f}")
model.optimizer.apply_ema_weights()
OUTPUT.mkdir(exist_ok=True)
model.save_weights(OUTPUT / "relations.weights.h5")
few = samples["test"][:5]
for (text, _), triples in zip(few, predict(few), strict=True):
    print(text, *sorted(map(" / ".join, triples)), sep="\n    ")
print(f"{last} F1, moving average: {f1(samples['test']):.4f}")
