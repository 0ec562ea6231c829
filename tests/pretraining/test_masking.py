"""What is hidden, what is shown instead, and what is asked for."""

import tracemalloc
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretraining.masking import (
    NextTokens,
    PrefixToText,
    ReplacedTokens,
    Rows,
    SpanCorruption,
    WholeWordMasking,
    corrupted_lengths,
    span_counts,
    uncorrupted_length,
)
from pretraining.stateless_random import keys

pytestmark = pytest.mark.once

PAD, UNK, CLS, SEP, MASK = 0, 100, 101, 102, 103
VOCAB_SIZE, LENGTH = 1000, 32


def joined(lists):
    return list(chain.from_iterable(lists))


def manifest(length=LENGTH, record_length=None):
    return {
        "sequence_length": length,
        "record_length": record_length or length,
        "vocab_size": VOCAB_SIZE,
        "special_ids": {"pad": PAD, "unk": UNK, "cls": CLS, "sep": SEP, "mask": MASK},
        "sentinel_ids": list(range(999, 899, -1)),
    }


def rows_of(words, length=LENGTH):
    """Rows of lists of words; a word is a list of ids."""
    rows = [[i for word in row for i in word] for row in words]
    starts = [[n == 0 for word in row for n in range(len(word))] for row in words]
    features = {"token_ids": joined(rows), "word_starts": joined(starts)}
    return Rows(features, list(map(len, rows)), length, PAD)


ORDINARY = st.integers(200, 899)
WORD = st.lists(st.one_of(ORDINARY, st.just(UNK)), min_size=1, max_size=4)


@st.composite
def text_rows(draw):
    """Rows of one to eight words, in one case in three with a separator within."""
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        body = draw(st.lists(WORD, min_size=1, max_size=8))
        if draw(st.integers(0, 2)) == 0:
            body.insert(draw(st.integers(0, len(body))), [SEP])
        rows.append([[CLS], *body, [SEP]])
    return rows


@given(text_rows(), st.integers(0, 1 << 40), st.sampled_from([0.15, 0.4]))
def test_whole_words_and_no_special_tokens_are_hidden(words, seed, rate):
    rows = rows_of(words)
    original = rows.token_ids.copy()
    masking = WholeWordMasking(manifest(), rate=rate)
    inputs, targets, weights = masking(rows, keys(seed, np.arange(len(words))))
    np.testing.assert_array_equal(rows.token_ids, original)
    for number, row in enumerate(words):
        count = int(weights[number].sum())
        assert weights[number].tolist() == [1] * count + [0] * (weights.shape[1] - count)
        hidden = inputs["masked_positions"][number, :count].tolist()
        assert hidden == sorted(set(hidden))
        np.testing.assert_array_equal(targets[number, :count], original[number, hidden])
        assert (
            not targets[number, count:].any()
            and not inputs["masked_positions"][number, count:].any()
        )
        shown = original[number].copy()
        shown[hidden] = inputs["token_ids"][number, hidden]
        np.testing.assert_array_equal(inputs["token_ids"][number], shown)
        assert not {PAD, UNK, CLS, SEP} & set(inputs["token_ids"][number, hidden].tolist())

        at, sizes = 0, []
        for word in row:
            places = [at + i for i, token in enumerate(word) if token not in (UNK, CLS, SEP)]
            assert set(places) <= set(hidden) or not set(places) & set(hidden)
            sizes.append(len(places))
            at += len(word)
        assert set(hidden) <= {i for i in range(at) if original[number, i] not in (UNK, CLS, SEP)}
        # some, and no more than a word beyond what is wanted
        assert bool(count) == bool(sum(sizes))
        assert count <= max(round(rate * sum(sizes) + 0.5), 1) + max(sizes) - 1


def many_rows(count, word_sizes=(1, 2, 2, 3)):
    rng = np.random.RandomState(0)
    rows = []
    for _ in range(count):
        row, size = [[CLS]], 1
        while size < 124:
            word = rng.randint(200, 900, rng.choice(word_sizes)).tolist()
            row.append(word)
            size += len(word)
        rows.append([*row, [SEP]])
    return rows_of(rows, 128)


def test_single_tokens_are_as_whole_words_of_one_token():
    """As if each token were a word; in words of two most that are touched are hidden by half."""
    rows, ones = many_rows(200, [2]), many_rows(200, [2])
    ones.word_starts[:] = True
    drawn = keys(7, np.arange(200))
    found = WholeWordMasking(manifest(128), whole_words=False)(rows, drawn)
    expected = WholeWordMasking(manifest(128))(ones, drawn)
    for name in expected[0]:
        np.testing.assert_array_equal(found[0][name], expected[0][name])
    np.testing.assert_array_equal(found[1], expected[1])
    hidden = np.zeros((200, 128), bool)
    places, weights = found[0]["masked_positions"], found[2] > 0
    hidden[np.nonzero(weights)[0], places[weights]] = True
    halves = hidden[:, 1:125].reshape(200, -1, 2).sum(axis=2)
    # of two tokens, each hidden with p = 0.15 by itself: 2 p (1 - p) / (1 - (1 - p)^2) = 0.92
    assert 0.88 < (halves == 1).sum() / (halves > 0).sum() < 0.96


def test_rates_are_right():
    rows = many_rows(500)
    inputs, targets, weights = WholeWordMasking(manifest(128))(rows, keys(1, np.arange(500)))
    maskable = (rows.token_ids >= 200).sum()
    assert weights.sum() / maskable == pytest.approx(0.15, rel=0.01)

    row, slot = np.nonzero(weights)
    shown = inputs["token_ids"][row, inputs["masked_positions"][row, slot]]
    asked, total = targets[row, slot], len(row)
    counts = np.array([(shown == MASK).sum(), (shown == asked).sum(), 0])
    counts[2] = total - counts.sum()
    # a random token is the same one again once in 995
    expected = total * np.array([0.8, 0.1 + 0.1 / 995, 0.1 - 0.1 / 995])
    assert ((counts - expected) ** 2 / expected).sum() < 13.8  # 2 degrees of freedom, 0.1 %
    replaced = shown[(shown != MASK) & (shown != asked)]
    histogram, _ = np.histogram(replaced, 10, (0, VOCAB_SIZE))
    assert ((histogram - len(replaced) / 10) ** 2 / (len(replaced) / 10)).sum() < 30


def test_short_and_long_words_are_hidden_alike():
    rows = many_rows(400)
    _, _, weights = masked = WholeWordMasking(manifest(128))(rows, keys(2, np.arange(400)))
    row, slot = np.nonzero(weights)
    hidden = np.zeros(rows.token_ids.shape, bool)
    hidden[row, masked[0]["masked_positions"][row, slot]] = True
    number = np.cumsum(rows.word_starts, 1) + np.arange(400)[:, None] * 1000
    sizes = np.bincount(number.ravel())[number]
    for size in (1, 2, 3):
        of_size = (sizes == size) & (rows.token_ids >= 200)
        assert hidden[of_size].mean() == pytest.approx(0.15, abs=0.012)


def test_masks_are_functions_of_the_keys():
    rows, masking = many_rows(8), WholeWordMasking(manifest(128))
    all_keys = keys(3, np.arange(8))
    inputs, *_ = masking(rows, all_keys)
    part = Rows(
        {
            "token_ids": rows.token_ids[5][rows.real[5]],
            "word_starts": rows.word_starts[5][rows.real[5]],
        },
        rows.lengths[5:6],
        128,
        PAD,
    )
    alone, *_ = masking(part, all_keys[5:6])
    np.testing.assert_array_equal(alone["token_ids"][0], inputs["token_ids"][5])
    other, *_ = masking(rows, keys(4, np.arange(8)))
    assert (other["token_ids"] != inputs["token_ids"]).any(1).all()


def test_a_word_without_room_is_not_hidden():
    rows = rows_of([[[CLS], *[[300, 301, 302]] * 8, [SEP]]])
    for most, count in ((2, 0), (4, 3), (32, 12)):
        masking = WholeWordMasking(manifest(), rate=0.45, max_predictions=most)
        counts = [masking(rows, keys(i, [0]))[2].sum() for i in range(20)]
        assert min(counts) <= count <= max(counts) and max(counts) <= most


@pytest.mark.parametrize("most", [0, -1, LENGTH + 1, 10**13])
def test_room_for_predictions_is_that_of_a_row(most):
    with pytest.raises(ValueError, match=f"max_predictions={most}: expected .* from 1 to {LENGTH}"):
        WholeWordMasking(manifest(), max_predictions=most)


def test_words_too_long_to_be_words_are_not_hidden():
    rule, words = [300] * 60, [[i] for i in range(400, 460)]
    rows = rows_of([[[CLS], *words[:30], rule, *words[30:], [SEP]]] * 200, 128)
    inputs, _, weights = WholeWordMasking(manifest(128))(rows, keys(0, np.arange(200)))
    assert (inputs["token_ids"][:, 31:91] == 300).all()
    assert weights.sum(1).mean() == pytest.approx(0.15 * 60, rel=0.05)


def test_a_row_of_special_tokens_asks_for_nothing():
    inputs, _, weights = WholeWordMasking(manifest())(
        rows_of([[[CLS], [UNK], [SEP]]]), keys(1, [1])
    )
    assert not weights.any()
    assert inputs["token_ids"][0, :3].tolist() == [CLS, UNK, SEP]


def test_all_ordinary_tokens_are_shown_instead():
    rows, asked = many_rows(400, [1]), {"mask_share": 0, "random_share": 1, "rate": 0.5}
    few = manifest(128) | {"vocab_size": 104}
    rows.token_ids[rows.token_ids > MASK] = 7
    inputs, _, weights = WholeWordMasking(few, **asked)(rows, keys(0, np.arange(400)))
    shown = np.take_along_axis(inputs["token_ids"], inputs["masked_positions"], 1)[weights > 0]
    assert set(shown.tolist()) == set(range(104)) - {PAD, UNK, CLS, SEP, MASK}


def test_no_memory_for_the_vocabulary():
    tracemalloc.start()
    WholeWordMasking(manifest() | {"vocab_size": 1 << 24})(rows_of([[[CLS], [5]]]), keys(1, [1]))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_electra_shows_no_random_tokens():
    rows = many_rows(100)
    inputs, targets, weights = ReplacedTokens(manifest(128))(rows, keys(1, np.arange(100)))
    row, slot = np.nonzero(weights)
    shown = inputs["token_ids"][row, inputs["masked_positions"][row, slot]]
    assert ((shown == MASK) | (shown == targets[row, slot])).all()
    assert (shown == MASK).mean() == pytest.approx(0.85, abs=0.03)


@pytest.mark.parametrize("objective", [WholeWordMasking, ReplacedTokens])
@pytest.mark.parametrize(
    "options", [{"rate": 0}, {"rate": 1.5}, {"mask_share": 0.9, "random_share": 0.2}]
)
def test_options_out_of_range(objective, options):
    for most in (0, -1, 10_000, "8"):
        with pytest.raises(ValueError, match=r"max_predictions=.*expected a whole number from 1"):
            objective(manifest(), max_predictions=most)
    with pytest.raises(ValueError, match=r"expected (a fraction|probabilities)"):
        objective(manifest(), **options)


def test_next_tokens():
    inputs, targets, weights = NextTokens(manifest(6))(
        rows_of([[[CLS], [7], [8], [9]], [[CLS], [5]]], 6), keys(0, [0, 1])
    )
    assert inputs["token_ids"].tolist() == [[CLS, 7, 8, 9, 0, 0], [CLS, 5, 0, 0, 0, 0]]
    assert targets[0, :3].tolist() == [7, 8, 9]
    assert weights.tolist() == [[1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]]


def test_next_tokens_where_padding_is_a_token():
    # GPT-2 has one token for padding and for the end of a text
    features = {"token_ids": [5, PAD, 6, PAD]}
    _, targets, weights = NextTokens(manifest(6))(Rows(features, [4], 6, PAD), keys(0, [0]))
    assert targets[0, :3].tolist() == [PAD, 6, PAD] and weights[0].tolist() == [1, 1, 1, 0, 0, 0]


def test_prefix_to_text():
    features = {"token_ids": [CLS, 7, SEP, 8, 9, SEP], "segment_ids": [0, 0, 0, 1, 1, 1]}
    inputs, targets, weights = PrefixToText(manifest(8))(Rows(features, [6], 8, PAD), keys(0, [0]))
    assert inputs["segment_ids"].tolist() == [[0, 0, 0, 1, 1, 1, 0, 0]]
    assert weights.tolist() == [[0, 0, 1, 1, 1, 0, 0, 0]]
    assert targets[0, 2:5].tolist() == [8, 9, SEP]


# T5


def test_lengths_are_those_of_t5():
    # what google-research/text-to-text-transfer-transformer computes for 512
    assert uncorrupted_length(512) == 568
    assert corrupted_lengths(568) == (512, 114)


@given(st.integers(1, 700), st.floats(0.05, 0.6), st.floats(1, 6))
def test_span_counts_fit(length, density, mean_span):
    tokens, spans = span_counts(length, density, mean_span)
    assert 0 <= spans <= tokens <= max(length - spans, 0)
    assert (spans > 0) == (tokens > 0) == (length > 1)


@given(
    st.lists(st.integers(1, uncorrupted_length(LENGTH)), min_size=1, max_size=5),
    st.integers(0, 1 << 40),
)
def test_spans_put_together_are_the_text(lengths, seed):
    rng = np.random.RandomState(seed % 1000)
    texts = [rng.randint(200, 800, length).tolist() for length in lengths]
    described = manifest(LENGTH, uncorrupted_length(LENGTH))
    rows = Rows({"token_ids": joined(texts)}, lengths, described["record_length"], PAD)
    objective = SpanCorruption(described)
    inputs, targets, weights = objective(rows, keys(seed, np.arange(len(texts))))
    sentinels = described["sentinel_ids"]
    for number, text in enumerate(texts):
        encoder = [i for i in inputs["encoder_token_ids"][number].tolist() if i != PAD]
        answer = [i for i in targets[number].tolist() if i != PAD]
        tokens, spans = span_counts(len(text))
        assert (len(encoder), len(answer)) == corrupted_lengths(len(text))
        assert encoder.pop() == answer.pop() == SEP
        assert (
            [i for i in encoder if i >= 900] == [i for i in answer if i >= 900] == sentinels[:spans]
        )
        parts, blanks = {}, []
        for i in answer:
            if i >= 900:
                blanks = parts.setdefault(i, [])
            else:
                blanks.append(i)
        assert all(parts.values()) and sum(map(len, parts.values())) == tokens
        assert [j for i in encoder for j in parts.get(i, [i])] == text
        asked = (len(answer) + 1) if spans else 0
        assert weights[number].tolist() == [1] * asked + [0] * (weights.shape[1] - asked)
        if spans:
            decoder = inputs["decoder_token_ids"][number]
            assert decoder[:asked].tolist() == [PAD, *answer]
            assert not decoder[asked:].any()


def test_blanks_are_anywhere():
    described = manifest(512, 568)
    rows = Rows({"token_ids": np.full(568 * 400, 300)}, [568] * 400, 568, PAD)
    inputs, *_ = SpanCorruption(described)(rows, keys(7, np.arange(400)))
    share = (inputs["encoder_token_ids"] >= 900).mean(0)
    # a text begins with a clean token, and ends with a blank; between, one place is as good
    assert share[0] == 0 and share[-2] == 1
    assert share[5:-20].mean() == pytest.approx(28 / 511, rel=0.05)
    assert share[5:-20].max() < 0.12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"density": 0}, "expected a fraction"),
        ({"mean_span": 0.5}, "at least 1"),
        ({"density": 0.5, "mean_span": 1.0}, "100 sentinels"),
        ({"mean_span": 1.5}, "leave"),
    ],
)
def test_span_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        SpanCorruption(manifest(512, 568), **options)
