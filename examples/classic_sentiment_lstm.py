"""Is a review positive or negative? An LSTM over characters or words.

    python examples/classic_sentiment_lstm.py [--data DIR] [--units characters]

As it was done before there were pretrained models:

- one-hot: each character is a vector with a single 1;
- characters: each has a vector that is learned with the rest;
- words: jieba splits the text, and each word has a learned vector.

The label is predicted from the last state of the LSTM. The number of known units, their number in a
text and the accuracy are printed.

--data: a directory with the train, valid (or dev) and test files of the reviews bert4keras ships
    (sentiment.train.data: text TAB label) or of ChnSentiCorp (train.tsv: label TAB text_a).

Reference: https://kexue.fm/archives/3863
"""

import argparse
from collections import Counter

import jieba
import keras
import numpy as np
from sample import DATA

from bert4keras_lite.data import Batches, read_splits, read_tsv, sequence_padding

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--data", default=DATA / "reviews")
parser.add_argument("--units", choices=["words", "characters", "one-hot"], default="words")
parser.add_argument("--maxlen", type=int, default=128)
parser.add_argument("--size", type=int, default=64, help="of vectors and of the LSTM: 64")
parser.add_argument("--min-count", type=int, default=2, help="of units that are known: 2")
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--learning-rate", type=float, default=3e-3)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
keras.utils.set_random_seed(args.seed)
jieba.setLogLevel("ERROR")
split_text = jieba.lcut if args.units == "words" else list


# the data
def read(path):
    """(text, label) pairs of a file of reviews; label 1 is positive."""
    if path.name.startswith("sentiment."):  # bert4keras: text TAB label
        return read_tsv(path)
    if path.name in ("train.tsv", "dev.tsv", "test.tsv"):  # ChnSentiCorp: label TAB text
        return [(text, label) for label, text in read_tsv(path, (int, str), header=True)]
    return []


samples = read_splits(args.data, read)
last = "valid" if samples["test"] is samples["valid"] else "test"
counts = Counter(unit for text, _ in samples["train"] for unit in split_text(text))
known = [unit for unit, count in counts.items() if count >= args.min_count]
ids = {unit: i for i, unit in enumerate(known, 2)}  # 0 is padding, 1 every rare unit


def encode(text):
    return [ids.get(unit, 1) for unit in split_text(text)[: args.maxlen]] or [1]


def batches(samples, **options):
    rows = [(encode(text), label) for text, label in samples]
    return Batches(rows, args.batch_size, buckets=3, **options)


# the model
number = len(ids) + 2
if args.units == "one-hot":  # a one-hot vector is a row of the identity matrix
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

# the training
model.fit(
    batches(samples["train"], shuffle=True),
    epochs=args.epochs,
    validation_data=batches(samples["valid"]),
)

# the result
length = np.mean([len(encode(text)) for text, _ in samples["test"]])
print(f"{len(ids)} {args.units} known, {length:.1f} in a text")
print(f"{last} accuracy: {model.evaluate(batches(samples['test']), verbose=0)[1]:.4f}")
texts = [
    "房间很不错，服务也很出色。",
    "质量很离谱，客服真的很糟心。",
    "虽然位置很差，但是早餐非常惊艳。",
]
probs = model.predict_on_batch(sequence_padding([encode(text) for text in texts]))
for text, prob in zip(texts, probs, strict=True):
    print(f"{prob.item():.2f} {text}")
