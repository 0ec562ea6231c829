"""What the examples on sentence vectors share: pairs of texts, a vector a text, Spearman's rank.

A set is a directory of train.txt, dev.txt and test.txt, whose lines are `text TAB text TAB number`:
how like they mean, 0 to 5 (STS-B), or whether they mean the same, 0 or 1 (LCQMC, AFQMC). The first
of the three that is there is trained on, the last is tested on.
"""

import keras
import numpy as np
from trials import train_and_test

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches, read_tsv
from bert4keras_lite.layers import GlobalAveragePooling1D


def read(directory):
    """`(train, test)`: lists of (text, text, how alike they are)."""
    files = train_and_test(directory, ["train.txt", "dev.txt", "test.txt"])
    return [read_tsv(file, (str, str, float)) for file in files]


def sentence_model(checkpoint, dropout_rate):
    """A vector a text: the mean of its token vectors, `(batch, hidden_size)`."""
    bert = build_transformer_model(checkpoint, dropout_rate=dropout_rate)
    return keras.Model(bert.inputs, GlobalAveragePooling1D()(bert.output))


def cosines(model, pairs, args):
    """Of the two vectors of each pair, `(pairs,)`."""
    tokenizer = load_tokenizer(args.checkpoint)
    texts = [text for pair in pairs for text in pair[:2]]
    samples = [(tokenizer.encode(text, maxlen=args.maxlen),) for text in texts]
    batches = Batches(samples, args.batch_size, buckets=4)
    vectors = batches.restore(model.predict(batches, verbose=0))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors[::2] * vectors[1::2]).sum(axis=1)


def ranks(values):
    """1 for the smallest; equals share the mean of their places."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def spearman(x, y):
    """How well one order agrees with the other, -1 to 1."""
    return np.corrcoef(ranks(x), ranks(y))[0, 1]


def test_score(model, pairs, args):
    """Spearman's rank correlation of the cosines with what people said."""
    return spearman(cosines(model, pairs, args), [likeness for *_, likeness in pairs])


def show(models, pairs, args):
    """The cosines that the models give to some pairs."""
    print(f"\nright | {' | '.join(models)} | texts")
    columns = [cosines(model, pairs, args) for model in models.values()]
    for (first, second, likeness), *found in zip(pairs, *columns, strict=True):
        numbers = " | ".join(f"{value:.2f}" for value in found)
        print(f"{likeness:g} | {numbers} | {first} / {second}")
