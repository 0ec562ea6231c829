"""The 5-gram model, against its formula in plain Python."""

import json
from collections import Counter

import numpy as np
import pytest

from pretraining.ngrams import KneserNey, main
from pretraining.shards import MANIFEST, encode_examples, write_shard

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


def flat(rows):
    """Ids and lengths of rows that are filled up with -1."""
    return rows[rows >= 0], (rows >= 0).sum(1)


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
    model = KneserNey(*flat(train), V, order)
    np.testing.assert_allclose(model.probabilities(*flat(test)), expected, rtol=1e-12)


@pytest.mark.once
def test_probabilities_of_all_tokens_sum_to_one():
    model = KneserNey(*flat(drawn(40, 0)), V, 5)
    context = drawn(1, 3)[0][:3]
    rows = np.concatenate([np.tile(context, (V, 1)), np.arange(V)[:, None]], axis=1)
    p = model.probabilities(*flat(rows)).reshape(V, 4)
    np.testing.assert_allclose(p[:, 3].sum(), 1, rtol=1e-12)


MANIFEST_OF_ROWS = {
    "mode": "lm", "sequence_length": 64, "record_length": 64, "vocab_size": 300,
    "vocabulary_sha256": "x", "sentinel_ids": [], "settings": {},
    "special_ids": {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4},
}  # fmt: skip


def corpus_of(folder, ids, lengths, **changes):
    folder.mkdir()
    shards = [{"name": "a.tfrecord", "examples": len(lengths)}]
    (folder / MANIFEST).write_text(json.dumps(MANIFEST_OF_ROWS | {"shards": shards} | changes))
    records = encode_examples({"token_ids": np.array(ids, np.int64)}, np.array(lengths))
    write_shard(str(folder / "a.tfrecord"), records)
    return str(folder)


@pytest.mark.once
def test_from_corpora_to_a_perplexity(tmp_path, capsys):
    train = corpus_of(tmp_path / "a", [2, 5, 6, 7] * 60, [0, 60] * 4)
    assert main(["--corpus", train, "--heldout", train]) == 0
    assert "5-grams of 240 tokens: perplexity 1." in capsys.readouterr().out
    other = corpus_of(tmp_path / "b", [2, 5], [2], vocabulary_sha256="y")
    assert main(["--corpus", train, "--heldout", other]) == 1
    assert "has vocabulary_sha256 'y'" in capsys.readouterr().err


@pytest.mark.once
@pytest.mark.parametrize(
    ("ids", "lengths", "changes", "message"),
    [
        ([2, 5, 6, 7], [4], {"record_length": 1 << 24}, "record_length: expected 64"),
        ([2, 5, 1 << 62], [3], {}, "token_ids: expected numbers from 0 to 299"),
        ([2, 5, 1 << 21], [3], {}, "token_ids: expected numbers from 0 to 299"),
        ([2, 5], [2], {"vocab_size": 1 << 21}, "vocab_size: expected at most 1048576"),
        ([2, 5], [2], {"shards": []}, "has 0 examples"),
        ([2, 5], [2], {"shards": [{"name": "a.tfrecord", "examples": 3}]}, "has 1 examples"),
        ([5] * 160, [160], {}, "a record of 160 tokens; expected 64"),
        ([], [0, 0], {}, "expected tokens, got empty rows only"),
    ],
)
def test_corpora_of_strangers(tmp_path, capsys, ids, lengths, changes, message):
    corpus = corpus_of(tmp_path / "a", ids, lengths, **changes)
    assert main(["--corpus", corpus, "--heldout", corpus]) == 1
    assert message in capsys.readouterr().err
