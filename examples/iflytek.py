"""What the examples on IFLYTEK share: CLUE's JSON lines, the classifier, a few predictions.

A set is a directory of train.json, dev.json, test_public.json and labels.json. The first of the
three that is there is trained on, and the last tells the accuracy (CLUE's own test.json has no
labels). A line is {"label": "11", "label_des": "外卖", "sentence": "..."}; TNEWS has the same.
"""

from pathlib import Path

import keras
from json_lines import read_lines
from trials import train_and_test

from bert4keras_lite import load_tokenizer
from bert4keras_lite.data import Batches


def read(directory):
    """`(train, test, names)`: lists of (text, number of the label), and what the labels are called."""

    def rows(path):
        return read_lines(path, lambda row: [row], '{"label": ..., ...}')

    names = {str(row["label"]): row["label_des"] for row in rows(Path(directory) / "labels.json")}
    numbers = {label: number for number, label in enumerate(names)}
    train, test = (
        [(row["sentence"], numbers[row["label"]]) for row in rows(path)]
        for path in train_and_test(directory, ["train.json", "dev.json", "test_public.json"])
    )
    return train, test, list(names.values())


def batches(rows, args, **options):
    """The texts as a BERT reads them, in padded batches."""
    tokenizer = load_tokenizer(args.checkpoint)
    samples = [(tokenizer.encode(text, maxlen=args.maxlen), label) for text, label in rows]
    return Batches(samples, args.batch_size, buckets=4, **options)


def classifier(bert, dense):
    """The scores of the classes: a dense layer on the [CLS] vector."""
    return keras.Model(bert.inputs, dense(keras.layers.Dropout(0.1)(bert.output[:, 0])))


def show(models, rows, names, args):
    """What the models take some texts for."""
    inputs = batches(rows, args)
    guesses = [
        inputs.restore(model.predict(inputs, verbose=0)).argmax(axis=1) for model in models.values()
    ]
    print(f"\ntext | right | {' | '.join(models)}")
    for (text, label), *found in zip(rows, *guesses, strict=True):
        print(text[:30], *(names[i] for i in (label, *found)), sep=" | ")
