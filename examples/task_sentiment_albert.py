"""Is a review positive or negative? Fine-tunes a Chinese ALBERT, at a rate that first rises.

    python examples/task_sentiment_albert.py [--checkpoint DIR] [--data DIR]

All blocks of an ALBERT are the same block, so that it is small on disk, and every step of training
moves all of it at once: hence the warm-up.

--checkpoint: an ALBERT, Google's, brightmart's or Hugging Face's files. Without it,
    tiny-zh, each of whose blocks has weights of its own.
--data: reviews as task_sentiment_classification.py reads them. Without it, the sample in examples/data.
"""

import argparse

import keras
from sentiment import read
from trials import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches
from bert4keras_lite.optimizers import AdamW

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--checkpoint")
parser.add_argument("--data", default=DATA)
parser.add_argument("--maxlen", type=int, default=128)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--epochs", type=int, help="10, or 8 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="1e-4, or 1e-3 for tiny-zh")
args = parser.parse_args()
checkpoint = args.checkpoint or "tiny-zh"
learning_rate = args.learning_rate or (1e-4 if args.checkpoint else 1e-3)
epochs = args.epochs or (10 if args.checkpoint else 8)

# the data
tokenizer = load_tokenizer(checkpoint)
train, valid, test = (
    Batches(
        [(tokenizer.encode(text, maxlen=args.maxlen), label) for text, label in rows],
        args.batch_size,
        shuffle=True,
        buckets=8,
    )
    for rows in (read(args.data, *splits) for splits in (["train"], ["valid", "dev"], ["test"]))
)

# the model
albert = build_transformer_model(checkpoint, dropout_rate=0.1)
x = keras.layers.Dropout(0.1)(albert.output[:, 0])  # the [CLS] vector
model = keras.Model(albert.inputs, keras.layers.Dense(2, name="classifier")(x))

# the training: the rate rises during the first tenth of the updates, and falls to a tenth
updates = epochs * len(train)
model.compile(
    AdamW(learning_rate, lr_schedule={updates // 10 + 1: 1.0, updates + 1: 0.1}),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
)
model.optimizer.build(model.trainable_variables)  # one trace
OUTPUT.mkdir(exist_ok=True)
best = OUTPUT / "sentiment_albert.weights.h5"
model.fit(
    train,
    epochs=epochs,
    validation_data=valid,
    callbacks=[
        keras.callbacks.ModelCheckpoint(
            best, monitor="val_accuracy", save_best_only=True, save_weights_only=True
        )
    ],
)
model.load_weights(best)

# the result
accuracy = model.evaluate(test, verbose=0)[1]
print(f"test accuracy: {accuracy:.4f}, with {model.count_params():,} weights")
texts = ["房间很不错，服务也很出色。", "质量很离谱，客服真的很糟心。"]
for text, scores in zip(
    texts, model.predict(tokenizer.encode_batch(texts), verbose=0), strict=True
):
    print("😀" if scores[1] > scores[0] else "😞", text)
