"""What is the news about? Fifteen classes from a headline and its keywords.

    python examples/task_tnews.py [--checkpoint DIR] [--data DIR] [--seeds N]

Read as two texts, headline and keywords, and, for comparison, without the keywords.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: a directory in the format of CLUE's TNEWS (train.json, dev.json, labels.json): see iflytek.py.
    Without it, the sample in examples/data/headlines.
"""

from functools import partial
from pathlib import Path

import keras
import numpy as np
from iflytek import classifier
from json_lines import read_lines
from trials import DATA, arguments, compare, save, train_and_test

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches

args = arguments(
    __doc__,
    seeds=3,
    data=DATA / "headlines",
    maxlen=64,
    batch_size=32,
    epochs=(3, 6),
    learning_rate=(2e-5, 1e-3),
)
tokenizer = load_tokenizer(args.checkpoint)


def rows(path):
    return read_lines(path, lambda row: [row], '{"label": ..., ...}')


names = {str(row["label"]): row["label_des"] for row in rows(Path(args.data) / "labels.json")}
train, test = map(rows, train_and_test(args.data, ["train.json", "dev.json"]))


def batches(rows, with_keywords, **options):
    numbers = {label: number for number, label in enumerate(names)}
    samples = []
    for row in rows:
        keywords = row["keywords"] if with_keywords else ""
        ids = tokenizer.encode(row["sentence"], keywords or None, maxlen=args.maxlen)
        samples.append((ids, numbers[row["label"]]))
    return Batches(samples, args.batch_size, buckets=4, **options)


def fit(with_keywords):
    bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
    model = classifier(bert, keras.layers.Dense(len(names), name="classifier"))
    model.compile(
        keras.optimizers.AdamW(args.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
        jit_compile=args.jit_compile,
    )
    model.optimizer.build(model.trainable_variables)  # one trace
    model.fit(batches(train, with_keywords, shuffle=True), epochs=args.epochs)
    return model, model.evaluate(batches(test, with_keywords), verbose=0)[1]


models, scores = compare(
    {"headline": partial(fit, False), "with keywords": partial(fit, True)}, args.seeds
)
save(models["with keywords"], "tnews")

# which classes are taken for which
inputs = batches(test, with_keywords=True)
guesses = inputs.restore(models["with keywords"].predict(inputs, verbose=0)).argmax(axis=1)
right = [list(names).index(row["label"]) for row in test]
taken = np.zeros((len(names), len(names)), int)
np.add.at(taken, (right, guesses), 1)
print("\nclass | right of | most often taken for")
for number, name in enumerate(names.values()):
    wrong = taken[number].copy()
    wrong[number] = 0
    other = f"{[*names.values()][wrong.argmax()]} ({wrong.max()})" if wrong.any() else ""
    print(f"{name} | {taken[number, number]} of {taken[number].sum()} | {other}")
