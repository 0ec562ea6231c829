"""What a pretrained model brings: three tasks, each learned from its weights and from random ones.

    python examples/does_pretraining_help.py --checkpoint RUN/model/tf --data D [--seeds N]
        [--tasks pairs --rows 1000,6000 --epochs 4,2 --keep 1]

D: a directory with ChnSentiCorp (chnsenticorp), AFQMC (afqmc) and CLUENER (cluener). AFQMC's and
CLUENER's test files have no labels: they are tested on dev, and all are trained for a fixed number of
epochs, so that nothing is chosen by it. Seven of ten pairs in AFQMC mean different things, and who
says so of all has an accuracy of .69; so pairs are scored by the area under the ROC curve, the share
of cases in which a pair that means the same gets a higher score than one that does not. The score is
the cosine of the two texts' vectors, trained to put the pairs in order (CoSENT).

`--rows` gives the sizes of the labelled set to compare at, `--epochs` one number for all of them, or one
for each: the fewer labels there are, the more the model has to know before. `--tasks` takes some of
the tasks, as each wants sizes of its own; `--keep 1` shows what was found of other tasks and sizes before.

Without options: tiny-zh, on the samples in examples/data.
"""

import json
from functools import partial
from pathlib import Path

import keras
import numpy as np
from labeling import Spans, read_entities, without_padding
from sentiment import read
from trials import DATA, OUTPUT, arguments, compare

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.configs import config_in
from bert4keras_lite.data import Batches, read_splits, read_tsv
from bert4keras_lite.files import write_text
from bert4keras_lite.hub import local_directory
from bert4keras_lite.layers import GlobalAveragePooling1D
from bert4keras_lite.losses import cosent, sequence_crossentropy
from bert4keras_lite.metrics import bio_spans
from bert4keras_lite.optimizers import AdamW, linear_decay
from bert4keras_lite.parsing import read_json

try:
    from matplotlib.figure import Figure
except ImportError:
    Figure = None

args = arguments(
    __doc__,
    seeds=3,
    data=DATA,
    tasks="reviews,pairs,names",
    maxlen=128,
    batch_size=32,
    rows="0",  # numbers of labelled texts to learn from; 0: all
    epochs="3",  # for each number
    learning_rate=(1e-4, 1e-3),
    precision="float32",  # or mixed_bfloat16
    keep=0,
)
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
        args.learning_rate, lr_schedule=schedule, weight_decay=0.01, lazy=["token_embedding"]
    )
    model.compile(optimizer, loss, jit_compile=args.jit_compile)
    model.optimizer.build(model.trainable_variables)  # one trace
    model.fit(batches, epochs=epochs, verbose=2)


def mean_vector(body):
    """A vector a text."""
    return keras.Model(body.inputs, GlobalAveragePooling1D()(body.output))


# one label a text, or a pair of texts


def reviews():
    """`(train, test)`: lists of (text, label)."""
    directory = data / "chnsenticorp" if (data / "chnsenticorp").is_dir() else data
    return [read(directory, split) for split in ("train", "test")]


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
    """`(train, test)`: lists of (text, spans)."""
    directory = data / "cluener" if (data / "cluener").is_dir() else data / "entities"
    samples = read_splits(directory, read_entities)
    return samples["train"], samples["valid"]


def tag(sets, epochs, pretrained):
    kinds = sorted({kind for _, spans in sets[0] for *_, kind in spans})
    tags = ["O", *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")]

    def target(spans, size, length):
        target = np.full(length, -1)
        target[:size] = 0
        for start, end, kind in spans:
            target[start:end] = tags.index(f"I-{kind}")
            target[start] = tags.index(f"B-{kind}")
        return target

    train_set = Spans(sets[0], tokenizer, args, target, shuffle=True)
    body = bert(pretrained)
    model = keras.Model(body.inputs, keras.layers.Dense(len(tags), name="tags")(body.output))
    train(model, train_set.batches, epochs, sequence_crossentropy)

    def decode(inputs):
        rows = model.predict_on_batch(inputs).argmax(axis=-1)
        return [bio_spans([tags[i] for i in row]) for row in without_padding(rows, inputs)]

    return model, Spans(sets[1], tokenizer, args).score(decode)


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
        _, results[name][str(len(sets[0]))] = compare(runs, args.seeds, metric)


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


found = OUTPUT / "does_pretraining_help.json"
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
    draw(OUTPUT / "does_pretraining_help.png")
print("\n| task | labelled | from scratch | pretrained |\n|---|---|---|---|")
for name, scores in results.items():
    for size, ways in scores.items():
        cells = [f"{np.mean(x):.3f} ± {np.std(x):.3f}" for x in ways.values()]
        print(f"| {name}, {TASKS[name][2]} | {int(size):,} | {' | '.join(cells)} |")
