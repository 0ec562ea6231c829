"""Do two questions ask the same? Fine-tunes a Chinese BERT on labelled pairs.

    python examples/task_sentence_similarity.py [--checkpoint DIR] [--data DIR]

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: a directory with train, valid (or dev) and, if it has labels, test files of LCQMC or AFQMC,
    whose lines are `text TAB text TAB label`. Without it, the sample in examples/data.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from trials import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches, read_tsv

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--checkpoint")
parser.add_argument("--data", default=DATA)
parser.add_argument("--maxlen", type=int, default=128)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--learning-rate", type=float, help="2e-5, or 5e-4 for tiny-zh")
args = parser.parse_args()
checkpoint = args.checkpoint or "tiny-zh"
learning_rate = args.learning_rate or (2e-5 if args.checkpoint else 5e-4)
tokenizer = load_tokenizer(checkpoint)


def batches(*splits, **options):
    """Batches of the first split that is there; a pair is one sequence, [CLS] a [SEP] b [SEP]."""
    names = [f"{prefix}{split}{end}" for split in splits for prefix, end in
             (("matching.", ".tsv"), ("", ".txt"), ("", ".tsv"))]  # fmt: skip
    path = next((Path(args.data) / n for n in names if (Path(args.data) / n).is_file()), None)
    if path is None:
        return None
    samples = [
        (tokenizer.encode(first, second, maxlen=args.maxlen), label)
        for first, second, label in read_tsv(path, (str, str, int))
    ]
    return Batches(samples, args.batch_size, buckets=8, **options)


train, valid, test = batches("train", shuffle=True), batches("valid", "dev"), batches("test")
if train is None or valid is None:
    raise SystemExit(
        f"{args.data}: expected train.txt and dev.txt, or matching.train.tsv and so on."
    )

# the model
bert = build_transformer_model(checkpoint, dropout_rate=0.1)
x = bert.output[:, 0]  # the [CLS] vector, which has seen both texts
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
model.fit(
    train,
    epochs=args.epochs,
    validation_data=valid,
    callbacks=[
        keras.callbacks.ModelCheckpoint(
            best, monitor="val_accuracy", save_best_only=True, save_weights_only=True
        )
    ],
)
model.load_weights(best)

# the result
name, last = ("test", test) if test else ("valid", valid)
print(f"{name} accuracy: {model.evaluate(last, verbose=0)[1]:.4f}")
pairs = [
    ("怎么申请退款？", "退款要怎么申请？"),
    ("怎么申请退款？", "退款什么时候到账？"),
    ("这附近有地铁站吗？", "请问附近有没有地铁站？"),
]
scores = model.predict(tokenizer.encode_batch(*zip(*pairs, strict=True)), verbose=0)
for (first, second), (differ, same) in zip(pairs, scores, strict=True):
    print(f"{1 / (1 + np.exp(differ - same)):.2f}", first, second)
