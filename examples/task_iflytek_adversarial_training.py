"""What is an app for? Classifies its description, with adversarial training.

    python examples/task_iflytek_adversarial_training.py [--checkpoint DIR] [--data DIR]
        [--epsilon E]

Each batch is learned twice: as it is, and with the token vectors moved, by `epsilon` in all, in the
direction in which the loss grows fastest (FGM: Miyato et al., arXiv 1605.07725). `--epsilon 0` is
plain training.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: a directory with CLUE's IFLYTEK or TNEWS: labels.json, and two or more of train.json,
    dev.json and test_public.json, whose lines are {"label": "11", "label_des": "外卖", "sentence":
    "..."}.
    The first of these files is for training, the last for testing.
"""

import argparse
from pathlib import Path

import keras
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer, save_classifier
from bert4keras_lite.data import Batches, read_json_lines
from bert4keras_lite.training import adversarial_training

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA / "apps")
parser.add_argument("--epsilon", type=float, default=0.5)
parser.add_argument("--maxlen", type=int, default=128)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--epochs", type=int, help="5, or 12 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="2e-5, or 1e-3 for tiny-zh")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
epochs = args.epochs or (12 if is_small else 5)
learning_rate = args.learning_rate or (1e-3 if is_small else 2e-5)
keras.utils.set_random_seed(args.seed)
tokenizer = load_tokenizer(args.checkpoint)

# the data
labels = read_json_lines(Path(args.data) / "labels.json")
names = {str(row["label"]): row["label_des"] for row in labels}
numbers = {label: number for number, label in enumerate(names)}
names = list(names.values())


def read(path):
    """(text, number of the class) of each line."""
    return read_json_lines(path, lambda row: (row["sentence"], numbers[row["label"]]))


def batches(samples, **options):
    rows = [(tokenizer.encode(text, maxlen=args.maxlen), label) for text, label in samples]
    return Batches(rows, args.batch_size, **options)


files = [Path(args.data) / f"{split}.json" for split in ("train", "dev", "test_public")]
files = [file for file in files if file.is_file()]
if len(files) < 2:
    raise SystemExit(f"{args.data}: expected two or more of train, dev and test_public.json.")
samples = {"train": read(files[0]), "test": read(files[-1])}

# the model
bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
x = bert.output[:, 0]  # the [CLS] vector
x = keras.layers.Dropout(0.1)(x)
x = keras.layers.Dense(len(names), name="classifier")(x)
model = keras.Model(bert.inputs, x)
if args.epsilon:
    adversarial_training(model, "token_embedding", args.epsilon)
model.compile(
    keras.optimizers.AdamW(learning_rate),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
)
model.optimizer.build(model.trainable_variables)  # one trace

# the training
model.fit(batches(samples["train"], shuffle=True, buckets=4), epochs=epochs)
save_classifier(OUTPUT / "iflytek_adversarial", model, names, tokenizer)

# the result
print(f"test accuracy: {model.evaluate(batches(samples['test']), verbose=0)[1]:.4f}")
few = samples["test"][:8]
print("\ntrue | predicted | text")
for (text, label), guess in zip(
    few, model.predict(batches(few), verbose=0).argmax(axis=1), strict=True
):
    print(names[label], names[guess], text[:30], sep=" | ")
