"""What is the news about? Fifteen classes from a headline and its keywords.

    python examples/task_tnews.py [--checkpoint DIR] [--data DIR] [--keywords no]

The headline and its keywords are read as two texts, or the headline alone.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: a directory with CLUE's TNEWS: labels.json, train.json and dev.json, whose lines are
    {"label": "102", "label_des": "news_entertainment", "sentence": "...", "keywords": "..."}.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer, save_classifier
from bert4keras_lite.data import Batches, read_json_lines

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA / "headlines")
parser.add_argument("--keywords", choices=["yes", "no"], default="yes")
parser.add_argument("--maxlen", type=int, default=64)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--epochs", type=int, help="3, or 6 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="2e-5, or 1e-3 for tiny-zh")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
epochs = args.epochs or (6 if is_small else 3)
learning_rate = args.learning_rate or (1e-3 if is_small else 2e-5)
keras.utils.set_random_seed(args.seed)

# the data
tokenizer = load_tokenizer(args.checkpoint)
labels = read_json_lines(Path(args.data) / "labels.json")
names = {str(row["label"]): row["label_des"] for row in labels}
numbers = {label: number for number, label in enumerate(names)}


def sample(row):
    """(headline, keywords, number of the class) of a line."""
    return row["sentence"], row["keywords"], numbers[row["label"]]


train_samples = read_json_lines(Path(args.data) / "train.json", sample)
test_samples = read_json_lines(Path(args.data) / "dev.json", sample)  # CLUE keeps its test labels


def batches(samples, **options):
    rows = []
    for headline, keywords, label in samples:
        texts = [headline, keywords] if args.keywords == "yes" and keywords else [headline]
        rows.append((tokenizer.encode(*texts, maxlen=args.maxlen), label))
    return Batches(rows, args.batch_size, **options)


train, test = batches(train_samples, shuffle=True, buckets=4), batches(test_samples)

# the model
bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
x = bert.output[:, 0]  # the [CLS] vector
x = keras.layers.Dropout(0.1)(x)
x = keras.layers.Dense(len(names), name="classifier")(x)
model = keras.Model(bert.inputs, x)
model.compile(
    keras.optimizers.AdamW(learning_rate),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
)
model.optimizer.build(model.trainable_variables)  # one trace

# the training
model.fit(train, epochs=epochs)
save_classifier(OUTPUT / "tnews", model, [*names.values()], tokenizer)

# the result: which classes are confused
predicted = model.predict(test, verbose=0).argmax(axis=1)
true = np.array([label for *_, label in test_samples])
confusion = np.zeros((len(names), len(names)), int)
np.add.at(confusion, (true, predicted), 1)
print("class | correct | most often confused with")
for number, name in enumerate(names.values()):
    wrong = confusion[number].copy()
    wrong[number] = 0
    other = f"{[*names.values()][wrong.argmax()]} ({wrong.max()})" if wrong.any() else ""
    print(f"{name} | {confusion[number, number]} of {confusion[number].sum()} | {other}")
print(f"test accuracy: {np.mean(predicted == true):.4f}")
