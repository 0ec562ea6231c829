"""Is a review positive or negative? Fine-tunes a Chinese BERT on labelled texts.

    python examples/task_sentiment_classification.py [--checkpoint DIR] [--data DIR]

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: a directory with the train, valid (or dev) and test files of the reviews bert4keras ships, or
    of ChnSentiCorp: see sentiment.py. Without it, the sample in examples/data.
"""

import argparse

import keras
from sentiment import read
from trials import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--checkpoint")
parser.add_argument("--data", default=DATA)
parser.add_argument("--maxlen", type=int, default=128)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--epochs", type=int, help="3, or 8 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="2e-5, or 1e-3 for tiny-zh")
args = parser.parse_args()
checkpoint = args.checkpoint or "tiny-zh"
learning_rate = args.learning_rate or (2e-5 if args.checkpoint else 1e-3)
epochs = args.epochs or (3 if args.checkpoint else 8)

# the data
tokenizer = load_tokenizer(checkpoint)
batches = {}
for name, splits in (("train", ["train"]), ("valid", ["valid", "dev"]), ("test", ["test"])):
    samples = [
        (tokenizer.encode(text, maxlen=args.maxlen), label)
        for text, label in read(args.data, *splits)
    ]
    batches[name] = Batches(samples, args.batch_size, shuffle=name == "train", buckets=8)

# the model
bert = build_transformer_model(checkpoint, dropout_rate=0.1)
x = bert.output[:, 0]  # the [CLS] vector
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
best = OUTPUT / "sentiment.weights.h5"
model.fit(
    batches["train"],
    epochs=epochs,
    validation_data=batches["valid"],
    callbacks=[
        keras.callbacks.ModelCheckpoint(
            best, monitor="val_accuracy", save_best_only=True, save_weights_only=True
        )
    ],
)
model.load_weights(best)

# the result
print(f"test accuracy: {model.evaluate(batches['test'], verbose=0)[1]:.4f}")
texts = [
    "房间很不错，服务也很出色。",
    "质量很离谱，客服真的很糟心。",
    "虽然位置很差，但是早餐非常惊艳，值得推荐。",
]
for text, scores in zip(
    texts, model.predict(tokenizer.encode_batch(texts), verbose=0), strict=True
):
    print("😀" if scores[1] > scores[0] else "😞", text)
