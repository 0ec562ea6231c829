"""Chooses a validation set that is like the test set, with a classifier of train and test.

    python examples/choose_validation_split.py [--checkpoint DIR] [--data DIR] [--share 0.2]

A classifier learns to tell the texts of train from those of test ("adversarial validation"). Each
text of train is scored by a model that was trained without it, in folds. If the two cannot be told
apart (area under the curve near 0.5), any split will do. Otherwise the texts of train that look
most like test are the better validation set.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: a directory with the train and test files of the reviews bert4keras ships
    (sentiment.train.data: text TAB label) or of ChnSentiCorp (train.tsv: label TAB text_a). In the
    sample, the words of test are not those of train.
--share: fraction of train that becomes the validation set.

Writes examples/output/chosen.{train,valid}.tsv, `text TAB label`.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches, read_tsv
from bert4keras_lite.files import saving

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA)
parser.add_argument("--share", type=float, default=0.2)
parser.add_argument("--folds", type=int, default=4)
parser.add_argument("--maxlen", type=int, default=128)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--learning-rate", type=float, help="2e-5, or 1e-3 for tiny-zh")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
if not 0 < args.share < 1:
    parser.error(f"--share {args.share}: expected more than 0 and less than 1.")
learning_rate = args.learning_rate or (1e-3 if args.checkpoint == "tiny-zh" else 2e-5)
keras.utils.set_random_seed(args.seed)
tokenizer = load_tokenizer(args.checkpoint)


# the data
def read(split):
    """(text, label) pairs of a split."""
    for name in (f"sentiment.{split}.tsv", f"sentiment.{split}.data"):
        if (path := Path(args.data) / name).is_file():
            return read_tsv(path)
    rows = read_tsv(Path(args.data) / f"{split}.tsv", (int, str), header=True)
    return [(text, label) for label, text in rows]


train, test = read("train"), read("test")
texts = [text for text, _ in train + test]
is_test = np.arange(len(texts)) >= len(train)
fold = np.random.default_rng(args.seed).permutation(len(texts)) % args.folds


def batches(which, **options):
    samples = [
        (tokenizer.encode(texts[i], maxlen=args.maxlen), int(is_test[i]))
        for i in np.where(which)[0]
    ]
    return Batches(samples, args.batch_size, **options)


# the logit that a text is from test, of a model that was trained without it
likeness = np.zeros(len(texts))
for number in range(args.folds):
    print(f"fold {number + 1} of {args.folds}")
    bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
    x = keras.layers.Dropout(0.1)(bert.output[:, 0])  # the [CLS] vector
    model = keras.Model(bert.inputs, keras.layers.Dense(1, name="is_test")(x))
    model.compile(
        keras.optimizers.AdamW(learning_rate), keras.losses.BinaryCrossentropy(from_logits=True)
    )
    model.optimizer.build(model.trainable_variables)  # one trace
    # the smaller of the two sets counts as much as the larger
    share = is_test[fold != number].mean()
    model.fit(
        batches(fold != number, shuffle=True, buckets=4),
        epochs=args.epochs,
        class_weight={0: 0.5 / (1 - share), 1: 0.5 / share},
    )
    likeness[fold == number] = model.predict(batches(fold == number), verbose=0)[:, 0]


def area_under_curve(scores, positive):
    """Probability that a positive has a higher score than a negative; half for equal ones."""
    difference = scores[positive][:, None] - scores[~positive]
    return (np.sign(difference).mean() + 1) / 2


auc = area_under_curve(likeness, is_test)
print(f"\narea under the curve: {auc:.3f} (0.5: train and test look alike, 1: all else)")
edges = np.linspace(likeness.min(), likeness.max(), 11)
counts = [np.histogram(likeness[which], edges)[0] for which in (~is_test, is_test)]
print("looks like test | train | test")
for low, *both in zip(edges, *counts, strict=False):
    bars = ("█" * round(30 * n / max(map(max, counts))) for n in both)
    print(f"{low:+6.2f} | " + " | ".join(f"{bar:30}" for bar in bars))

order = np.argsort(-likeness[: len(train)], kind="stable")
chosen = np.isin(np.arange(len(train)), order[: round(args.share * len(train))])
with saving(OUTPUT) as folder:  # both files, or none
    for name, keep in (("train", ~chosen), ("valid", chosen)):
        pairs = zip(train, keep, strict=True)
        rows = [f"{text}\t{label}\n" for (text, label), kept in pairs if kept]
        (folder / f"chosen.{name}.tsv").write_text("".join(rows), encoding="utf-8")
        mean = likeness[: len(train)][keep].mean()
        print(f"chosen.{name}.tsv: {len(rows)} texts, mean likeness {mean:+.2f}")
print("most like test:", *(train[i][0] for i in order[:3]), sep="\n  ")
print("least like test:", *(train[i][0] for i in order[-3:]), sep="\n  ")
