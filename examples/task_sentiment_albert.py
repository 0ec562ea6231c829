"""Is a review positive or negative? Fine-tunes a Chinese ALBERT, with learning rate warm-up.

    python examples/task_sentiment_albert.py [--checkpoint DIR] [--data DIR]

All blocks of an ALBERT share their weights: it is small on disk, and every update changes all
blocks at once, which makes warm-up important.

--checkpoint: an ALBERT: Google's, brightmart's or Hugging Face's files. The default, tiny-zh, is
    not one: each of its blocks has weights of its own.
--data: a directory with the train, valid (or dev) and test files of the reviews bert4keras ships
    (sentiment.train.data: text TAB label) or of ChnSentiCorp (train.tsv: label TAB text_a).
"""

import argparse

import keras
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer, save_classifier
from bert4keras_lite.data import Batches, read_splits, read_tsv
from bert4keras_lite.optimizers import AdamW

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA)
parser.add_argument("--maxlen", type=int, default=128)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--epochs", type=int, help="10, or 8 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="1e-4, or 1e-3 for tiny-zh")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
epochs = args.epochs or (8 if is_small else 10)
learning_rate = args.learning_rate or (1e-3 if is_small else 1e-4)
keras.utils.set_random_seed(args.seed)
tokenizer = load_tokenizer(args.checkpoint)


# the data
def read(path):
    """(text, label) pairs of a file of reviews; label 1 is positive."""
    if path.name.startswith("sentiment."):  # bert4keras: text TAB label
        return read_tsv(path)
    if path.name in ("train.tsv", "dev.tsv", "test.tsv"):  # ChnSentiCorp: label TAB text
        return [(text, label) for label, text in read_tsv(path, (int, str), header=True)]
    return []


splits = read_splits(args.data, read)
last = "valid" if splits["test"] is splits["valid"] else "test"
batches = {}
for split, samples in splits.items():
    rows = [(tokenizer.encode(text, maxlen=args.maxlen), label) for text, label in samples]
    batches[split] = Batches(rows, args.batch_size, shuffle=split == "train", buckets=8)

# the model
albert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
x = albert.output[:, 0]  # the [CLS] vector
x = keras.layers.Dropout(0.1)(x)
x = keras.layers.Dense(2, name="classifier")(x)
model = keras.Model(albert.inputs, x)
# the learning rate rises during the first tenth of the updates, and falls to a tenth
updates = epochs * len(batches["train"])
model.compile(
    AdamW(learning_rate, lr_schedule={updates // 10 + 1: 1.0, updates + 1: 0.1}),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
)
model.optimizer.build(model.trainable_variables)  # one trace

# the training
OUTPUT.mkdir(exist_ok=True)
best = OUTPUT / "sentiment_albert.weights.h5"
checkpoints = keras.callbacks.ModelCheckpoint(
    best, monitor="val_accuracy", save_best_only=True, save_weights_only=True
)
model.fit(
    batches["train"], epochs=epochs, validation_data=batches["valid"], callbacks=[checkpoints]
)
model.load_weights(best)
save_classifier(OUTPUT / "sentiment_albert", model, ["negative", "positive"], tokenizer)

# the result
accuracy = model.evaluate(batches[last], verbose=0)[1]
print(f"{last} accuracy: {accuracy:.4f}, with {model.count_params():,} weights")
texts = ["房间很不错，服务也很出色。", "质量很离谱，客服真的很糟心。"]
logits = model.predict(tokenizer.encode_batch(texts), verbose=0)
for text, (negative, positive) in zip(texts, logits, strict=True):
    print("😀" if positive > negative else "😞", text)
