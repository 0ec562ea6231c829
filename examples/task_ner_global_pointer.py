"""Finds entities, also nested ones: a Chinese BERT with GlobalPointer.

    python examples/task_ner_global_pointer.py [--checkpoint DIR] [--data DIR] [--method efficient]

For each type, every pair of tokens has a logit: is it the first and the last token of an entity?
Pairs with a logit above 0 are the prediction. Rotary positions tell the layer how far apart two
tokens are (`--method without-rotary` does without). The efficient form computes the pairs once for
all types, and distinguishes these by two numbers for each token.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: a directory with the train and dev files of CLUENER (JSON lines), or of People's Daily,
    Weibo or MSRA (a character and its tag a line).

Reference: Su et al., "Global Pointer", arXiv 2208.03054; https://kexue.fm/archives/8373, 8877.
"""

import argparse
from itertools import accumulate

import keras
import numpy as np
from keras import ops
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import (
    Batches,
    pad_samples,
    read_columns,
    read_json_lines,
    read_splits,
)
from bert4keras_lite.layers import EfficientGlobalPointer, GlobalPointer
from bert4keras_lite.losses import multilabel_categorical_crossentropy
from bert4keras_lite.metrics import bio_spans, span_scores
from bert4keras_lite.optimizers import AdamW, linear_decay
from bert4keras_lite.pipelines import save_tagger
from bert4keras_lite.spans import character_spans, token_spans
from bert4keras_lite.training import BestEpoch

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA / "entities")
parser.add_argument(
    "--method", choices=["GlobalPointer", "efficient", "without-rotary"], default="GlobalPointer"
)
parser.add_argument("--maxlen", type=int, default=128)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--epochs", type=int, help="5, or 10 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="2e-5, or 1e-3 for tiny-zh")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
epochs = args.epochs or (10 if is_small else 5)
learning_rate = args.learning_rate or (1e-3 if is_small else 2e-5)
keras.utils.set_random_seed(args.seed)
tokenizer = load_tokenizer(args.checkpoint)


# the data
def read(path):
    """(text, set of (start, end, type)) for each text of a file."""
    return read_json_lines(path, cluener) if path.suffix == ".json" else tagged(path)


def cluener(row):
    """A line of CLUENER, whose ends are included; None for those of its test file."""
    if "label" not in row:
        return None
    mentions = [(type_, spans) for type_, names in row["label"].items() for spans in names.values()]
    return row["text"], {
        (start, end + 1, type_) for type_, spans in mentions for start, end in spans
    }


def tagged(path):
    """A character and its tag a line; in Weibo with its place in the word, as in 科0 技1."""
    samples, sentences = [], read_columns(path)
    for line in (line for sentence in sentences for line in sentence if len(line) != 2):
        raise SystemExit(f"{path}: expected lines of a character and its tag, got {line}.")
    is_numbered = all(len(c) > 1 and c[-1].isdigit() for sentence in sentences for c, _ in sentence)
    for sentence in sentences:
        characters = [c[:-1] if is_numbered else c for c, _ in sentence]
        ends = [0, *accumulate(map(len, characters))]
        spans = bio_spans([tag for _, tag in sentence])
        spans = {(ends[start], ends[end], type_) for start, end, type_ in spans}
        samples.append(("".join(characters), spans))
    return samples


samples = read_splits(args.data, read)
last = "valid" if samples["test"] is samples["valid"] else "test"
types = sorted({type_ for _, spans in samples["train"] for *_, type_ in spans})


def batches(samples, **options):
    """Batches of token ids and segment ids, and of the pairs of tokens that are entities."""
    rows = []
    for text, spans in samples:
        ids, segments, offsets = tokenizer.encode(text, maxlen=args.maxlen, return_offsets=True)
        rows.append((ids, segments, token_spans(spans, offsets)))
    return Batches(rows, args.batch_size, collate, length=lambda row: len(row[0]), **options)


def collate(rows, length):
    """Labels `(batch, types, length, length)`: 1 for first and last token of an entity."""
    labels = np.zeros((len(rows), len(types), length, length), "float32")
    for i, (_, _, spans) in enumerate(rows):
        for start, end, type_ in spans:
            labels[i, types.index(type_), start, end - 1] = 1
    return pad_samples([(ids, segments) for ids, segments, _ in rows], length), labels


# the model
bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
if args.method == "efficient":
    pointers = EfficientGlobalPointer(len(types), 64, name="pointers")
else:
    is_rotary = args.method == "GlobalPointer"
    pointers = GlobalPointer(len(types), 64, RoPE=is_rotary, name="pointers")
model = keras.Model(bert.inputs, pointers(bert.output))


def pairs_loss(y_true, logits):
    """For each type, the pairs that are entities against all others; the sum over the types."""
    rows = ops.shape(logits)[:2]
    y_true, logits = (ops.reshape(x, (*rows, -1)) for x in (y_true, logits))
    return ops.sum(multilabel_categorical_crossentropy(y_true, logits), axis=-1)


def predict(samples):
    """The entities of each text, sets of (start, end, type)."""
    entities = []
    # batch by batch, as the logits of all pairs of all texts take much memory
    logits = (row for inputs, _ in batches(samples) for row in model.predict_on_batch(inputs))
    for (text, _), row in zip(samples, logits, strict=True):
        *_, offsets = tokenizer.encode(text, maxlen=args.maxlen, return_offsets=True)
        pairs = np.argwhere(row > 0).tolist()
        spans = {(start, last + 1, types[i]) for i, start, last in pairs}
        entities.append(character_spans(spans, offsets))
    return entities


def f1(samples):
    return span_scores([spans for _, spans in samples], predict(samples)).f1


# the training
train = batches(samples["train"], shuffle=True, buckets=4)
model.compile(AdamW(learning_rate, lr_schedule=linear_decay(epochs * len(train))), pairs_loss)
model.optimizer.build(model.trainable_variables)  # one trace
best = BestEpoch(lambda: {"f1": f1(samples["valid"])}, OUTPUT / "pointers.weights.h5")
model.fit(train, epochs=epochs, callbacks=[best])

# the result
few = samples["test"][:5]
for (text, _), spans in zip(few, predict(few), strict=True):
    print(text)
    for start, end, type_ in sorted(spans):
        print(f"    {text[start:end]} ({type_})")
print(f"{last} F1: {f1(samples['test']):.4f}")
folder = OUTPUT / "pointers"
save_tagger(folder, model, types, tokenizer)
print(f"For a server: python -m bert4keras_lite serve {args.checkpoint} --ner {folder}")
