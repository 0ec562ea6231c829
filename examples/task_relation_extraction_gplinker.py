"""Who wrote what, who was born where: triples of subject, predicate and object, with GPLinker.

    python examples/task_relation_extraction_gplinker.py [--checkpoint DIR] [--data DIR]

GPLinker scores pairs of tokens with GlobalPointers: first and last token of a subject or of an
object, and, for each predicate, the first tokens of its subject and its object, and their last
tokens. A triple is where all of these agree. Almost all pairs are negative, so the labels are the
indices of the few others (sparse multilabel cross entropy). F1 is printed for the trained weights
and for their moving average (EMA).

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: a directory with the train and dev files of DuIE (JSON lines).

Reference: https://kexue.fm/archives/8888; the loss: arXiv 2208.02955.
"""

import argparse

import keras
import numpy as np
from keras import ops
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import (
    Batches,
    pad_samples,
    read_json_lines,
    read_splits,
    sequence_padding,
)
from bert4keras_lite.layers import GlobalPointer
from bert4keras_lite.losses import sparse_multilabel_categorical_crossentropy
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
        triples = row.get("spo_list", [])
        triples = {(t["subject"], t["predicate"], t["object"]) for t in triples}
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
MOST = 2 * max(len(triples) for _, triples in samples["train"])  # no head has more pairs


def batches(samples, **options):
    rows = []
    for text, triples in samples:
        ids, segments, offsets = encode(text)
        rows.append((ids, segments, in_tokens(text, triples, offsets)))
    return Batches(rows, args.batch_size, collate, length=lambda row: len(row[0]), **options)


def collate(rows, length):
    inputs = pad_samples([(ids, segments) for ids, segments, _ in rows], length)
    targets = [target(triples, length) for *_, triples in rows]
    return inputs, {name: np.stack([row[name] for row in targets]) for name in targets[0]}


def target(triples, length):
    """The indices of the positive pairs, `(heads, MOST)` for each of the outputs."""
    entities = [set(), set()]
    firsts, lasts = ([set() for _ in predicates] for _ in range(2))
    for (start, end), predicate, (object_start, object_end) in triples:
        entities[0].add((start, end - 1))
        entities[1].add((object_start, object_end - 1))
        firsts[predicates.index(predicate)].add((start, object_start))
        lasts[predicates.index(predicate)].add((end - 1, object_end - 1))
    return {
        name: sequence_padding(
            [[i * length + j for i, j in sorted(pairs)] for pairs in heads], MOST, -1, dtype="int32"
        )
        for name, heads in (("entities", entities), ("firsts", firsts), ("lasts", lasts))
    }


# the model
bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
# subject and object may be in any order and at any distance
anywhere = {"RoPE": False, "tril_mask": False}
pointers = {
    "entities": GlobalPointer(2, 64, name="entities"),
    "firsts": GlobalPointer(len(predicates), 64, name="firsts", **anywhere),
    "lasts": GlobalPointer(len(predicates), 64, name="lasts", **anywhere),
}
model = keras.Model(bert.inputs, {name: layer(bert.output) for name, layer in pointers.items()})


def pairs_loss(y_true, logits):
    """For each head, the positive pairs against all others; the sum over the heads."""
    logits = ops.reshape(logits, (*ops.shape(logits)[:2], -1))
    return ops.sum(sparse_multilabel_categorical_crossentropy(y_true, logits), axis=-1)


def predict(samples):
    """The triples of each text on which entities, first tokens and last tokens agree."""
    predicted = []
    # batch by batch, as the logits of all pairs of all texts take much memory
    outputs = (model.predict_on_batch(inputs) for inputs, _ in batches(samples))
    heads = (row for logits in outputs for row in zip(*map(logits.get, pointers), strict=True))
    for (text, _), logits in zip(samples, heads, strict=True):
        entities, firsts, lasts = (pairs > 0 for pairs in logits)
        subjects, objects = (np.argwhere(pairs) for pairs in entities)
        triples = {
            ((start, last + 1), predicates[i], (object_start, object_last + 1))
            for start, last in subjects
            for object_start, object_last in objects
            for i in np.flatnonzero(firsts[:, start, object_start] & lasts[:, last, object_last])
        }
        predicted.append(in_text(text, triples, encode(text)[2]))
    return predicted


def f1(samples):
    return triple_scores([triples for _, triples in samples], predict(samples)).f1


# the training
train = batches(samples["train"], shuffle=True, buckets=4)
warm_up = len(train)
model.compile(
    AdamW(learning_rate, lr_schedule={warm_up: 1.0}, ema_momentum=ema_momentum),
    dict.fromkeys(model.output_names, pairs_loss),
)
model.optimizer.build(model.trainable_variables)  # one trace
inputs, targets = train[0]
model.compute_loss(y=targets, y_pred=model(inputs))  # of several losses, too
model.fit(train, epochs=epochs)

# the result
print(f"as trained: F1 {f1(samples['test']):.4f}")
model.optimizer.apply_ema_weights()
OUTPUT.mkdir(exist_ok=True)
model.save_weights(OUTPUT / "gplinker.weights.h5")
few = samples["test"][:5]
for (text, _), triples in zip(few, predict(few), strict=True):
    print(text, *sorted(map(" / ".join, triples)), sep="\n    ")
print(f"{last} F1, moving average: {f1(samples['test']):.4f}")
