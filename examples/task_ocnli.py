"""Does the second sentence follow from the first, contradict it, or neither?

    python examples/task_ocnli.py [--checkpoint DIR] [--data DIR] [--sentences second]

`--sentences second` reads the second sentence alone: how far it gets shows how much the sentences
give away without the first one.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: a directory with OCNLI or CMNLI: train.json (or train.50k.json, .30k, .10k) and dev.json,
    whose lines are {"sentence1": "...", "sentence2": "...", "label": "neutral"}. Lines on which the
    annotators did not agree (label "-") are left out.
"""

import argparse
from pathlib import Path

import keras
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer, save_classifier
from bert4keras_lite.data import Batches, read_json_lines

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA / "inference")
parser.add_argument("--sentences", choices=["both", "second"], default="both")
parser.add_argument("--maxlen", type=int, default=128)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--epochs", type=int, help="3, or 8 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="2e-5, or 1e-3 for tiny-zh")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
epochs = args.epochs or (8 if is_small else 3)
learning_rate = args.learning_rate or (1e-3 if is_small else 2e-5)
keras.utils.set_random_seed(args.seed)
tokenizer = load_tokenizer(args.checkpoint)

# the data
NAMES = ["entailment", "neutral", "contradiction"]


def sample(row):
    """(sentence, sentence, number of the label) of a line."""
    if row["label"] == "-":
        return None
    return row["sentence1"], row["sentence2"], NAMES.index(row["label"])


def batches(samples, **options):
    rows = []
    for first, second, label in samples:
        sentences = [first, second] if args.sentences == "both" else [second]
        rows.append((tokenizer.encode(*sentences, maxlen=args.maxlen), label))
    return Batches(rows, args.batch_size, **options)


files = [Path(args.data) / f"train{size}.json" for size in ("", ".50k", ".30k", ".10k")]
train_file = next((file for file in files if file.is_file()), files[0])
train = read_json_lines(train_file, sample)
test = read_json_lines(Path(args.data) / "dev.json", sample)  # the test labels are not public

# the model
bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
x = bert.output[:, 0]  # the [CLS] vector
x = keras.layers.Dropout(0.1)(x)
x = keras.layers.Dense(len(NAMES), name="classifier")(x)
model = keras.Model(bert.inputs, x)
model.compile(
    keras.optimizers.AdamW(learning_rate),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
)
model.optimizer.build(model.trainable_variables)  # one trace

# the training
model.fit(batches(train, shuffle=True, buckets=4), epochs=epochs)
save_classifier(OUTPUT / "ocnli", model, NAMES, tokenizer)

# the result
print(f"test accuracy: {model.evaluate(batches(test), verbose=0)[1]:.4f}")
guesses = model.predict(batches(test[:8]), verbose=0).argmax(axis=1)
print("\ntrue | predicted | sentences")
for (first, second, label), guess in zip(test[:8], guesses, strict=True):
    print(f"{NAMES[label]} | {NAMES[guess]} | {first} / {second}")
