"""Classifies texts longer than those that a BERT can read, by hierarchical positions.

    python examples/basic_long_texts_hierarchical_position.py [--checkpoint DIR]
        [--data DIR] [--method cut]

BERT has a vector for each of its n positions (512), and none beyond. With
`hierarchical_position=True`, position i * n + j has a vector computed from those of i and j: n²
positions from n, of which the first n stay as they were. To compare: `--method cut` truncates texts
to n tokens, `--method repeat` counts positions from 0 again after each n.

--checkpoint: a Chinese BERT, Google's or Hugging Face's files. Without it, tiny-zh, whose rotary
    positions are replaced by a table of 32 new ones.
--data: a directory with the train, valid (or dev) and test files of the reviews bert4keras ships
    (sentiment.train.data: text TAB label) or of ChnSentiCorp (train.tsv: label TAB text_a). In the
    sample, texts say only at their end whether something was good.

Reference: https://kexue.fm/archives/7947
"""

import argparse
import json
from pathlib import Path

import keras
import numpy as np
from sample import DATA

from bert4keras_lite import (
    Transformer,
    build_transformer_model,
    load_tokenizer,
    open_checkpoint,
)
from bert4keras_lite.data import Batches, read_splits, read_tsv
from bert4keras_lite.hub import local_directory
from bert4keras_lite.layers import GlobalMaxPooling1D

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA / "long")
parser.add_argument("--method", choices=["hierarchical", "repeat", "cut"], default="hierarchical")
parser.add_argument("--positions", type=int, help="512, or 32 for tiny-zh")
parser.add_argument("--maxlen", type=int, help="2048, or 128 for tiny-zh")
parser.add_argument("--batch-size", type=int, help="8, or 16 for tiny-zh")
parser.add_argument("--epochs", type=int, help="3, or 5 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="2e-5, or 3e-4 for tiny-zh")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
args.positions = args.positions or (32 if is_small else 512)
args.maxlen = args.maxlen or (128 if is_small else 2048)
args.batch_size = args.batch_size or (16 if is_small else 8)
args.epochs = args.epochs or (5 if is_small else 3)
args.learning_rate = args.learning_rate or (3e-4 if is_small else 2e-5)
maxlen = args.positions if args.method == "cut" else args.maxlen
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


def batches(samples, **options):
    rows = [(tokenizer.encode(text, maxlen=maxlen), label) for text, label in samples]
    return Batches(rows, args.batch_size, buckets=2, **options)


samples = read_splits(args.data, read)
last = "valid" if samples["test"] is samples["valid"] else "test"
lengths = [len(tokenizer.encode(text, maxlen=args.maxlen)[0]) for text, _ in samples["test"]]
print(f"texts have {np.mean(lengths):.0f} tokens, {max(lengths)} at most")

# the first n positions
directory = Path(local_directory(args.checkpoint))
config, weights = directory, dict(open_checkpoint(directory))
if args.checkpoint == "tiny-zh":  # like BERT except for its positions, which are new here
    config = json.loads((directory / "config.json").read_text("utf-8")) | {"model_type": "bert"}
    weights = {name.replace("roformer.", "bert."): array for name, array in weights.items()}
    table = "bert.embeddings.position_embeddings.weight"
    weights[table] = np.random.default_rng(0).normal(0.0, 0.02, (args.positions, 256))
(table,) = (name for name in weights if "position_embeddings" in name)
weights[table] = weights[table][: args.positions]


class Recounted(Transformer):
    """Counts positions from 0 again after each n."""

    def positions(self, token_ids):
        return super().positions(token_ids) % self.config.max_position


# the model
bert = build_transformer_model(
    config,
    weights,
    model=Recounted if args.method == "repeat" else "bert",
    max_position=args.positions,
    hierarchical_position=True,
    dropout_rate=0.1,
)
x = GlobalMaxPooling1D()(bert.output)
model = keras.Model(bert.inputs, keras.layers.Dense(2, name="classifier")(x))
model.compile(
    keras.optimizers.AdamW(args.learning_rate, clipnorm=1.0),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
)
model.optimizer.build(model.trainable_variables)  # one trace

# the training
model.fit(batches(samples["train"], shuffle=True), epochs=args.epochs)

# the result
print(f"{last} accuracy: {model.evaluate(batches(samples['test']), verbose=0)[1]:.4f}")
