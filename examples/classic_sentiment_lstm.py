"""Is a review positive or negative? Three ways to show a text to an LSTM, side by side.

    python examples/classic_sentiment_lstm.py [--data DIR] [--seeds N]

As it was done before there were pretrained models:

- one-hot: each character is a vector with a single 1;
- characters: each has a vector that is learned with the rest;
- words: jieba cuts the text, and each word has a learned vector.

The LSTM's last state tells the label. The accuracies are printed, how many units each way knows, how
many of them a text has, and what all three think of some sentences.

--data: a directory with the train, valid (or dev) and test files of the reviews bert4keras ships, or
    of ChnSentiCorp: see sentiment.py. Without it, the sample in examples/data.

Reference: https://kexue.fm/archives/3863
"""

import argparse
from collections import Counter
from functools import partial

import jieba
import keras
import numpy as np
from sentiment import read
from trials import DATA, compare

from bert4keras_lite.data import Batches, sequence_padding

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--data", default=DATA / "reviews")
parser.add_argument("--maxlen", type=int, default=128)
parser.add_argument("--size", type=int, default=64, help="of vectors and of the LSTM: 64")
parser.add_argument("--min-count", type=int, default=2, help="of units that are known: 2")
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--learning-rate", type=float, default=3e-3)
parser.add_argument("--seeds", type=int, default=1)
args = parser.parse_args()

splits = {"train": ["train"], "valid": ["valid", "dev"], "test": ["test"]}
data = {split: read(args.data, *names) for split, names in splits.items()}
jieba.setLogLevel("ERROR")


class Units:
    """Texts as the ids of their characters or words: 0 is padding, 1 every rare unit."""

    def __init__(self, cut):
        self.cut = cut
        counts = Counter(unit for text, _ in data["train"] for unit in cut(text))
        known = [unit for unit, count in counts.items() if count >= args.min_count]
        self.ids = {unit: i for i, unit in enumerate(known, 2)}

    def encode(self, text):
        return [self.ids.get(unit, 1) for unit in self.cut(text)[: args.maxlen]] or [1]

    def batches(self, rows, **options):
        samples = [(self.encode(text), label) for text, label in rows]
        return Batches(samples, args.batch_size, buckets=3, **options)


def fit(units, one_hot):
    number = len(units.ids) + 2
    if one_hot:  # a one-hot vector is a row of the identity matrix
        table = {"output_dim": number, "embeddings_initializer": "identity", "trainable": False}
    else:
        table = {"output_dim": args.size}
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(number, mask_zero=True, **table),
            keras.layers.LSTM(args.size),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(args.learning_rate, clipnorm=1.0),
        "binary_crossentropy",
        metrics=[keras.metrics.BinaryAccuracy("accuracy")],
        # XLA compiles longer than this training takes
        jit_compile="auto" if keras.config.backend() == "jax" else False,
    )
    model.optimizer.build(model.trainable_variables)  # one trace
    model.fit(
        units.batches(data["train"], shuffle=True),
        epochs=args.epochs,
        validation_data=units.batches(data["valid"]),
    )
    return model, model.evaluate(units.batches(data["test"]), verbose=0)[1]


characters, words = Units(list), Units(jieba.lcut)
ways = {"one-hot": (characters, True), "characters": (characters, False), "words": (words, False)}
models, scores = compare({name: partial(fit, *way) for name, way in ways.items()}, seeds=args.seeds)

print("\nunits known, units a text")
for name, (units, _) in ways.items():
    length = np.mean([len(units.encode(text)) for text, _ in data["test"]])
    print(f"{name:10}  {len(units.ids):6}  {length:5.1f}")

texts = [
    "房间很不错，服务也很出色。",
    "质量很离谱，客服真的很糟心。",
    "虽然位置很差，但是早餐非常惊艳。",
]
print("\nprobability of a good review:", ", ".join(ways))
good = [
    models[name].predict_on_batch(sequence_padding([units.encode(text) for text in texts]))
    for name, (units, _) in ways.items()
]
for text, *shares in zip(texts, *good, strict=True):
    print(*(f"{share.item():.2f}" for share in shares), text)
