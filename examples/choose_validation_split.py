"""Chooses a validation set that is like the test set, by asking a model which is which.

    python examples/choose_validation_split.py [--checkpoint DIR] [--data DIR] [--share 0.2]

A classifier learns to tell the texts of train from those of test ("adversarial validation"). Each
text of train is judged by a model that has not seen it, in folds. If that cannot be told (area under
the curve near 0.5), any split will do. If it can, the texts of train that look most like test are
the better validation set, and what is chosen on them will hold on test sooner.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: a directory with train and test of sentiment.py's formats. Without it, the sample in
    examples/data, whose test speaks in other words than its train.
--share: of train, how much is put aside.

Writes examples/output/chosen.{train,valid}.tsv, `text TAB label`.
"""

import argparse

import keras
import numpy as np
from iflytek import classifier
from sentence_vectors import ranks
from sentiment import read
from trials import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches
from bert4keras_lite.files import saving

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--checkpoint")
parser.add_argument("--data", default=DATA)
parser.add_argument("--share", type=float, default=0.2)
parser.add_argument("--folds", type=int, default=4)
parser.add_argument("--maxlen", type=int, default=128)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--learning-rate", type=float, help="2e-5, or 1e-3 for tiny-zh")
args = parser.parse_args()
if not 0 < args.share < 1:
    parser.error(f"--share {args.share}: expected more than 0 and less than 1.")
checkpoint = args.checkpoint or "tiny-zh"
learning_rate = args.learning_rate or (2e-5 if args.checkpoint else 1e-3)

keras.utils.set_random_seed(0)
tokenizer = load_tokenizer(checkpoint)
train, test = read(args.data, "train"), read(args.data, "test")
texts = [text for text, _ in train + test]
is_test = np.arange(len(texts)) >= len(train)
fold = np.random.default_rng(0).permutation(len(texts)) % args.folds


def batches(which, **options):
    samples = [
        (tokenizer.encode(texts[i], maxlen=args.maxlen), int(is_test[i]))
        for i in np.where(which)[0]
    ]
    return Batches(samples, args.batch_size, buckets=4, **options)


# how much each text looks like one of test, to a model that was trained without it
likeness = np.zeros(len(texts))
for number in range(args.folds):
    print(f"fold {number + 1} of {args.folds}")
    model = classifier(
        build_transformer_model(checkpoint, dropout_rate=0.1), keras.layers.Dense(1, name="is_test")
    )
    model.compile(
        keras.optimizers.AdamW(learning_rate), keras.losses.BinaryCrossentropy(from_logits=True)
    )
    model.optimizer.build(model.trainable_variables)  # one trace
    # the smaller of the two sets counts as much as the larger
    share = is_test[fold != number].mean()
    model.fit(
        batches(fold != number, shuffle=True),
        epochs=args.epochs,
        class_weight={0: 0.5 / (1 - share), 1: 0.5 / share},
    )
    left_out = batches(fold == number)
    likeness[fold == number] = left_out.restore(model.predict(left_out, verbose=0))[:, 0]


def area_under_curve(scores, positive):
    """The chance that a positive has the higher score (Mann and Whitney's U)."""
    count = positive.sum()
    above = ranks(scores)[positive].sum() - count * (count + 1) / 2
    return above / (count * (len(scores) - count))


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
with saving(OUTPUT) as folder:  # both together, or neither
    for name, keep in (("train", ~chosen), ("valid", chosen)):
        pairs = zip(train, keep, strict=True)
        rows = [f"{text}\t{label}\n" for (text, label), kept in pairs if kept]
        (folder / f"chosen.{name}.tsv").write_text("".join(rows), encoding="utf-8")
        mean = likeness[: len(train)][keep].mean()
        print(f"chosen.{name}.tsv: {len(rows)} texts, mean likeness {mean:+.2f}")
print("most like test:", *(train[i][0] for i in order[:3]), sep="\n  ")
print("least like test:", *(train[i][0] for i in order[-3:]), sep="\n  ")
