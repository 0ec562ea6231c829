"""Compares pretrained with random weights on three tasks.

    python benchmarks/does_pretraining_help.py --checkpoint RUN/model/tf --data D [--seeds N]
        [--tasks pairs --rows 1000,6000 --epochs 4,2 --keep 1]

D: a directory with ChnSentiCorp (chnsenticorp), AFQMC (afqmc) and CLUENER (cluener). AFQMC's and
CLUENER's test files have no labels: they are tested on dev, and all are trained for a fixed number
of epochs, so that nothing is chosen by it. Seven of ten pairs in AFQMC mean different things, so an
accuracy of .69 is trivial; pairs are scored by the area under the ROC curve, the probability that a
pair that means the same has a higher cosine than one that does not. The cosines are trained with
CoSENT.

`--rows` gives the sizes of the labelled set to compare, `--epochs` one number for all of them, or
one for each. `--tasks` selects some of the tasks; `--keep 1` also shows the scores of other tasks
and sizes from an earlier run.

Without options: tiny-zh, on the samples in examples/data.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import keras
import numpy as np
from compare import report

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.configs import config_in
from bert4keras_lite.data import (
    Batches,
    read_json_lines,
    read_splits,
    read_tsv,
    sequence_padding,
)
from bert4keras_lite.files import write_text
from bert4keras_lite.hub import local_directory
from bert4keras_lite.layers import GlobalAveragePooling1D
from bert4keras_lite.losses import cosent, sequence_crossentropy
from bert4keras_lite.metrics import bio_spans, span_scores
from bert4keras_lite.optimizers import AdamW, linear_decay
from bert4keras_lite.parsing import read_json
from bert4keras_lite.spans import character_spans, token_spans

try:
    from matplotlib.figure import Figure
except ImportError:
    Figure = None

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=EXAMPLES / "data")
parser.add_argument("--tasks", default="reviews,pairs,names")
parser.add_argument("--rows", default="0", help="numbers of labelled texts to learn from; 0: all")
parser.add_argument("--epochs", default="3", help="one number, or one for each of --rows")
parser.add_argument("--seeds", type=int, default=3)
parser.add_argument("--maxlen", type=int, default=128)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--learning-rate", type=float, help="1e-4, or 1e-3 for tiny-zh")
parser.add_argument("--precision", default="float32", help="or mixed_bfloat16")
parser.add_argument("--keep", type=int, default=0, help="1: keep other scores of an earlier run")
parser.add_argument("--output", type=Path, default=EXAMPLES / "output")
args = parser.parse_args()
learning_rate = args.learning_rate or (1e-3 if args.checkpoint == "tiny-zh" else 1e-4)
rows, epochs = ([int(n) for n in text.split(",")] for text in (args.rows, args.epochs))
if len(epochs) not in (1, len(rows)):
    raise SystemExit(f"--epochs {args.epochs}: expected one number, or {len(rows)}, as --rows has.")
sizes = list(zip(rows, epochs * len(rows) if len(epochs) == 1 else epochs, strict=True))
keras.config.set_dtype_policy(args.precision)
tokenizer = load_tokenizer(args.checkpoint)
data = Path(args.data)


def bert(pretrained):
    if pretrained:
        return build_transformer_model(args.checkpoint, dropout_rate=0.1)
    config = config_in(local_directory(args.checkpoint))
    return build_transformer_model(config, dropout_rate=0.1)


def train(model, batches, epochs, loss):
    schedule = linear_decay(epochs * len(batches))
    optimizer = AdamW(
        learning_rate, lr_schedule=schedule, weight_decay=0.01, lazy=["token_embedding"]
    )
    model.compile(optimizer, loss)
    model.optimizer.build(model.trainable_variables)  # one trace
    model.fit(batches, epochs=epochs, verbose=2)


def mean_vector(body):
    """A vector for each text."""
    return keras.Model(body.inputs, GlobalAveragePooling1D()(body.output))


# one label a text, or a pair of texts


def reviews():
    """`(train, test)`: lists of (text, label)."""
    if (data / "chnsenticorp").is_dir():  # label TAB text
        files = [data / "chnsenticorp" / f"{split}.tsv" for split in ("train", "test")]
        rows = [read_tsv(file, (int, str), header=True) for file in files]
        return [[(text, label) for label, text in split] for split in rows]
    return [read_tsv(data / f"sentiment.{split}.tsv") for split in ("train", "test")]


def pairs():
    """`(train, test)`: lists of (text, text, label)."""
    files = [data / "afqmc" / f"{split}.txt" for split in ("train", "dev")]
    if not files[0].is_file():
        files = [data / f"matching.{split}.tsv" for split in ("train", "test")]
    return [read_tsv(file, (str, str, int)) for file in files]


def learn(model, loss, sets, epochs):
    """Trains on rows of texts and a label.

    Returns:
        What the model says of each test row, and the labels of these.
    """
    train_batches, test_batches = (
        Batches(
            [
                (sum((tokenizer.encode(text, maxlen=args.maxlen) for text in texts), ()), label)
                for *texts, label in rows
            ],
            args.batch_size,
            shuffle=shuffle,
            buckets=8,
        )
        for rows, shuffle in ((sets[0], True), (sets[1], False))
    )
    train(model, train_batches, epochs, loss)
    said = test_batches.restore(model.predict(test_batches, verbose=0))
    return said, np.array([label for *_, label in sets[1]])


def classify(sets, epochs, pretrained):
    """Good or bad, by the mean of the text's vectors; the share of right answers."""
    vector = mean_vector(bert(pretrained))
    x = keras.layers.Dropout(0.1)(vector.output)
    model = keras.Model(vector.inputs, keras.layers.Dense(2, name="classifier")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    said, labels = learn(model, loss, sets, epochs)
    return model, float(np.mean(said.argmax(axis=-1) == labels))


def area(labels, scores):
    """Under the ROC curve: Mann and Whitney's statistic, where equal scores count half."""
    yes, no = scores[labels == 1], np.sort(scores[labels == 0])
    wins = np.searchsorted(no, yes, "left") + np.searchsorted(no, yes, "right")
    return np.mean(wins) / 2 / len(no)


def match(sets, epochs, pretrained):
    """The cosine of the texts' vectors; the area under its ROC curve."""
    vector = mean_vector(bert(pretrained))
    inputs = [keras.Input((None,), dtype="int32") for _ in range(4)]
    vectors = [vector(inputs[:2]), vector(inputs[2:])]
    model = keras.Model(inputs, keras.layers.Dot(axes=1, normalize=True, dtype="float32")(vectors))
    said, labels = learn(model, cosent, sets, epochs)
    return model, float(area(labels, said[:, 0]))


# names in texts


def entities():
    """`(train, test)`: lists of (text, spans), of CLUENER's JSON lines."""
    directory = data / "cluener" if (data / "cluener").is_dir() else data / "entities"
    samples = read_splits(directory, lambda path: read_json_lines(path, entities_of))
    return samples["train"], samples["valid"]


def entities_of(row):
    """A line of CLUENER, whose ends are included; None for those of its test file."""
    if "label" not in row:
        return None
    mentions = [(type_, spans) for type_, names in row["label"].items() for spans in names.values()]
    return row["text"], {
        (start, end + 1, type_) for type_, spans in mentions for start, end in spans
    }


class Tagging:
    """Texts with BIO tags."""

    def __init__(self, samples):
        types = sorted({type_ for _, spans in samples for *_, type_ in spans})
        self.tags = ["O", *(f"{prefix}-{type_}" for type_ in types for prefix in "BI")]

    def batches(self, samples, **options):
        rows = []
        for text, spans in samples:
            ids, segments, offsets = tokenizer.encode(text, maxlen=args.maxlen, return_offsets=True)
            labels = [0] * len(ids)
            for start, end, type_ in token_spans(spans, offsets):
                labels[start:end] = [self.tags.index(f"I-{type_}")] * (end - start)
                labels[start] = self.tags.index(f"B-{type_}")
            rows.append((ids, segments, labels))
        length = lambda row: len(row[0])  # noqa: E731
        return Batches(rows, args.batch_size, self.collate, length=length, **options)

    def collate(self, rows, length):
        ids, segments, labels = zip(*rows, strict=True)
        inputs = sequence_padding(ids, length), sequence_padding(segments, length)
        return inputs, sequence_padding(labels, length, value=-1)  # the loss ignores -1

    def f1(self, model, samples):
        """F1 of the spans that a model predicts."""
        predicted = []
        paths = model.predict(self.batches(samples), verbose=0).argmax(axis=-1)
        for (text, _), path in zip(samples, paths, strict=True):
            *_, offsets = tokenizer.encode(text, maxlen=args.maxlen, return_offsets=True)
            spans = bio_spans([self.tags[i] for i in path[: len(offsets)]])
            predicted.append(character_spans(spans, offsets))
        return span_scores([spans for _, spans in samples], predicted).f1


def tag(sets, epochs, pretrained):
    """BIO tags of names; F1."""
    tagging, body = Tagging(sets[0]), bert(pretrained)
    logits = keras.layers.Dense(len(tagging.tags), name="tags")(body.output)
    model = keras.Model(body.inputs, logits)
    batches = tagging.batches(sets[0], shuffle=True, buckets=4)
    train(model, batches, epochs, sequence_crossentropy)
    return model, tagging.f1(model, sets[1])


def compare(runs, metric):
    """Trains in each way from each seed; prints the scores, and returns name -> one a seed."""
    scores = {name: [] for name in runs}
    for seed in range(args.seeds):
        for name, run in runs.items():
            print(f"\n--- {name}, seed {seed}")
            keras.utils.set_random_seed(seed)
            scores[name].append(run()[1])
    print(f"\n{report(metric, scores)}")
    return scores


TASKS = {
    "reviews": (reviews, classify, "accuracy"),
    "pairs": (pairs, match, "area under the ROC curve"),
    "names": (entities, tag, "F1"),
}
results = {name: {} for name in args.tasks.split(",")}
for name in results:
    if name not in TASKS:
        raise SystemExit(f"--tasks {args.tasks}: expected some of {', '.join(TASKS)}.")
    load, fit, metric = TASKS[name]
    rows, tests = load()
    for size, epochs in sizes:
        sets = rows[:size] if size else rows, tests
        print(f"\n=== {name}: {len(sets[0])} to learn from, {len(tests)} to test")
        runs = {
            way: partial(fit, sets, epochs, pretrained)
            for way, pretrained in (("from scratch", False), ("pretrained", True))
        }
        results[name][str(len(sets[0]))] = compare(runs, metric)


def draw(path):
    """A point for each seed, a line through their means."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    for axes, (name, scores) in zip(
        figure.subplots(1, len(results), squeeze=False)[0], results.items(), strict=True
    ):
        sizes = [int(size) for size in scores]
        for color, way in (("C0", "from scratch"), ("C1", "pretrained")):
            values = np.array([scores[size][way] for size in scores])
            axes.plot(sizes, values.mean(axis=1), color, label=way)
            axes.plot(sizes, values, f"{color}o", alpha=0.5)
        axes.set(title=name, ylabel=TASKS[name][2], xlabel="labelled texts", xscale="log")
        axes.set_xticks(sizes, sizes, minor=False)
        axes.minorticks_off()
        axes.grid(axis="y", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


found = args.output / "does_pretraining_help.json"
if args.keep and found.is_file():
    kept = read_json(found)
    for name, scores in results.items():
        sizes = kept.get(name, {}) | scores
        kept[name] = {size: sizes[size] for size in sorted(sizes, key=int)}
    results = kept
write_text(found, json.dumps(results, indent=1))
if Figure is None:
    print("\nNo plot: it needs matplotlib (bert4keras_lite[plots]).")
else:
    draw(args.output / "does_pretraining_help.png")
print("\n| task | labelled | from scratch | pretrained |\n|---|---|---|---|")
for name, scores in results.items():
    for size, ways in scores.items():
        cells = [f"{np.mean(x):.3f} ± {np.std(x):.3f}" for x in ways.values()]
        print(f"| {name}, {TASKS[name][2]} | {int(size):,} | {' | '.join(cells)} |")
