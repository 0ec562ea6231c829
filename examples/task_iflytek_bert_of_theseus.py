"""What is an app for? Classifies its description with a third of the layers (BERT of Theseus).

    python examples/task_iflytek_bert_of_theseus.py [--checkpoint DIR] [--data DIR]
        [--method METHOD]

A large model learns the task. Then each training step randomly replaces some of its groups of
layers by the layers of a small model, which learn to do the same, until the small model remains and
is trained a little more (Xu et al., arXiv 2002.02925). To compare: `--method large` is the large
model, `--method small` the small one, trained as usual for as many epochs in all.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: a directory with CLUE's IFLYTEK or TNEWS: labels.json, and two or more of train.json,
    dev.json and test_public.json, whose lines are {"label": "11", "label_des": "外卖", "sentence":
    "..."}.
    The first of these files is for training, the last for testing.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import keras
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer, save_classifier
from bert4keras_lite.data import Batches, read_json_lines
from bert4keras_lite.training import theseus

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA / "apps")
parser.add_argument("--method", choices=["theseus", "small", "large"], default="theseus")
parser.add_argument("--layers", type=int, help="of the small model: 3, or 1 for tiny-zh")
parser.add_argument("--maxlen", type=int, default=128)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--epochs", type=int, help="5, or 8 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="2e-5, or 1e-3 for tiny-zh")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
epochs = args.epochs or (8 if is_small else 5)
layers = args.layers or (1 if is_small else 3)
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


# the models
def large_bert():
    return build_transformer_model(args.checkpoint, dropout_rate=0.1, return_keras_model=False)


def small_bert():
    """The first layers of the checkpoint."""
    large = large_bert()
    config = replace(large.config, num_hidden_layers=layers)
    small = build_transformer_model(model=config, return_keras_model=False)
    for name, layer in small.layers.items():
        layer.set_weights(large.layers[name].get_weights())
    return small


def train(bert, dense, epochs):
    """Trains a classifier, a dense layer on the [CLS] vector of a BERT, and returns it."""
    x = keras.layers.Dropout(0.1)(bert.output[:, 0])
    model = keras.Model(bert.inputs, dense(x))
    model.compile(
        keras.optimizers.AdamW(learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
    )
    model.optimizer.build(model.trainable_variables)  # one trace
    model.fit(batches(samples["train"], shuffle=True, buckets=4), epochs=epochs)
    return model


# the training
dense = keras.layers.Dense(len(names), name="classifier")
if args.method == "large":
    model = train(large_bert().model, dense, epochs)
elif args.method == "small":
    model = train(small_bert().model, dense, 3 * epochs)
else:
    predecessor, successor = large_bert(), small_bert()
    train(predecessor.model, dense, epochs)
    dense.trainable = False
    train(theseus(predecessor, successor), dense, 2 * epochs)
    dense.trainable = True
    model = train(successor.model, dense, epochs)
save_classifier(OUTPUT / f"iflytek_{args.method}", model, names, tokenizer)

# the result
print(f"test accuracy: {model.evaluate(batches(samples['test']), verbose=0)[1]:.4f}")
few = samples["test"][:8]
print("\ntrue | predicted | text")
for (text, label), guess in zip(
    few, model.predict(batches(few), verbose=0).argmax(axis=1), strict=True
):
    print(names[label], names[guess], text[:30], sep=" | ")
