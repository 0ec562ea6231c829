"""Do two questions ask the same? Fine-tunes a Chinese BERT on labelled pairs.

    python examples/task_sentence_similarity.py [--checkpoint DIR] [--data DIR]

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: a directory with train, valid (or dev) and, if it has labels, test files of LCQMC or AFQMC,
    whose lines are text TAB text TAB label.
"""

import argparse

import keras
import numpy as np
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer, save_classifier
from bert4keras_lite.data import Batches, read_splits, read_tsv

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA)
parser.add_argument("--maxlen", type=int, default=128)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--learning-rate", type=float, help="2e-5, or 5e-4 for tiny-zh")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
learning_rate = args.learning_rate or (5e-4 if args.checkpoint == "tiny-zh" else 2e-5)
keras.utils.set_random_seed(args.seed)
tokenizer = load_tokenizer(args.checkpoint)


# the data
def read(path):
    """(text, text, label) of each line; label 1: they ask the same."""
    is_pairs = path.name.startswith("matching.") or path.stem in ("train", "valid", "dev", "test")
    return read_tsv(path, (str, str, int)) if is_pairs else []


splits = read_splits(args.data, read)
last = "valid" if splits["test"] is splits["valid"] else "test"
batches = {}
for split, samples in splits.items():
    rows = [(tokenizer.encode(a, b, maxlen=args.maxlen), label) for a, b, label in samples]
    batches[split] = Batches(rows, args.batch_size, shuffle=split == "train", buckets=8)

# the model
bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
x = bert.output[:, 0]  # the [CLS] vector, which depends on both texts: [CLS] a [SEP] b [SEP]
x = keras.layers.Dropout(0.1)(x)
x = keras.layers.Dense(2, name="classifier")(x)
model = keras.Model(bert.inputs, x)
model.compile(
    keras.optimizers.AdamW(learning_rate),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
)
model.optimizer.build(model.trainable_variables)  # one trace

# the training
OUTPUT.mkdir(exist_ok=True)
best = OUTPUT / "similarity.weights.h5"
checkpoints = keras.callbacks.ModelCheckpoint(
    best, monitor="val_accuracy", save_best_only=True, save_weights_only=True
)
model.fit(
    batches["train"], epochs=args.epochs, validation_data=batches["valid"], callbacks=[checkpoints]
)
model.load_weights(best)
save_classifier(OUTPUT / "similarity", model, ["different", "same"], tokenizer)

# the result
print(f"{last} accuracy: {model.evaluate(batches[last], verbose=0)[1]:.4f}")
pairs = [
    ("怎么申请退款？", "退款要怎么申请？"),
    ("怎么申请退款？", "退款什么时候到账？"),
    ("这附近有地铁站吗？", "请问附近有没有地铁站？"),
]
logits = model.predict(tokenizer.encode_batch(*zip(*pairs, strict=True)), verbose=0)
for (first, second), (differ, same) in zip(pairs, logits, strict=True):
    print(f"{1 / (1 + np.exp(differ - same)):.2f}", first, second)
