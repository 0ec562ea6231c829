"""The 5-gram model, against its formula in plain Python."""

from collections import Counter

import numpy as np
import pytest

from pretraining.ngrams import KneserNey

V = 6


def drawn(rows, seed):
    random = np.random.RandomState(seed)
    table = random.dirichlet(np.full(V, 0.3), size=(V, V))
    filled = np.full((rows, 9), -1, "int64")
    for row in filled:
        a, b = random.randint(V, size=2)
        for i in range(random.randint(3, 10)):
            a, b = b, random.choice(V, p=table[a, b])
            row[i] = b
    return filled


def reference(rows, order):
    """`p(word, context)`; a row begins with a token of its own, which no context goes beyond."""
    texts = [["<s>", *(int(x) for x in row if x >= 0)] for row in rows]

    def grams(n):
        """All that end at a token of a text, cut at its beginning."""
        return Counter(
            tuple(text[max(0, i - n + 1) : i + 1]) for text in texts for i in range(1, len(text))
        )

    levels = []
    for n in range(1, order + 1):
        counts = grams(n)
        if n < order:
            # a gram that the beginning cuts short stays what it is, and follows one thing
            counts = Counter(gram[-n:] if len(gram) > n else gram for gram in grams(n + 1))
        of = [sum(c == k for c in counts.values()) for k in (1, 2, 3, 4)]
        y = of[0] / max(of[0] + 2 * of[1], 1)
        d = [0] + [k - (k + 1) * y * of[k] / max(of[k - 1], 1) for k in (1, 2, 3)]
        d = [min(max(x, 0), k) for k, x in enumerate(d)]
        levels.append((counts, d))

    def p(word, context):
        value = 1 / V
        for n in range(1, order + 1):
            counts, d = levels[n - 1]
            history = tuple(context[max(0, len(context) - n + 1) :]) if n > 1 else ()
            same = {gram: c for gram, c in counts.items() if gram[:-1] == history}
            total = sum(same.values())
            if not total:
                continue
            kept = same.get((*history, word), 0)
            kept = max(kept - d[min(kept, 3)], 0)
            value = (kept + sum(d[min(c, 3)] for c in same.values()) * value) / total
        return value

    return p


@pytest.mark.once
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_as_the_formula_says(order):
    train, test = drawn(40, 0), drawn(5, 1)
    p = reference(train, order)
    expected = []
    for row in test:
        text = ["<s>", *(int(x) for x in row if x >= 0)]
        expected += [p(text[i], text[:i]) for i in range(1, len(text))]
    model = KneserNey(train, V, order)
    np.testing.assert_allclose(model.probabilities(test), expected, rtol=1e-12)


@pytest.mark.once
def test_probabilities_of_all_tokens_sum_to_one():
    model = KneserNey(drawn(40, 0), V, 5)
    context = drawn(1, 3)[0][:3]
    rows = np.concatenate([np.tile(context, (V, 1)), np.arange(V)[:, None]], axis=1)
    p = model.probabilities(rows).reshape(V, 4)
    np.testing.assert_allclose(p[:, 3].sum(), 1, rtol=1e-12)
