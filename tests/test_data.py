"""Padding, truncation, segmentation, reading, and batches of similar length."""

import itertools
import json
import subprocess
import sys
import tracemalloc
from collections import Counter
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4keras_lite import data
from bert4keras_lite.data import (
    Batches,
    Question,
    choose_buckets,
    next_token_labels,
    pad_samples,
    read_columns,
    read_json_lines,
    read_splits,
    read_squad,
    read_tsv,
    sequence_padding,
    text_segmentate,
    truncate_sequences,
)

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "examples" / "data"
SHARED = ROOT.parent / "shared" / "data"

laws = settings(deadline=None, derandomize=True, max_examples=60)
ragged = st.lists(st.lists(st.integers(1, 99), max_size=12), min_size=1, max_size=12)

# --- sequence_padding ----------------------------------------------------------------------------

# made by bert4keras 0.11.5
PADDED = [
    ({}, [[1, 2, 3], [4, 0, 0]]),
    ({"length": 2}, [[1, 2], [4, 0]]),
    ({"length": 4, "mode": "pre"}, [[0, 1, 2, 3], [0, 0, 0, 4]]),
    ({"length": 2, "mode": "pre"}, [[1, 2], [0, 4]]),
    ({"value": -1}, [[1, 2, 3], [4, -1, -1]]),
]
PADDED_2D = [
    (
        {},
        [
            [[0, 1, 2], [3, 4, 5], [0, 0, 0], [0, 0, 0]],
            [[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]],
        ],
    ),
    ({"length": [3, 2]}, [[[0, 1], [3, 4], [0, 0]], [[0, 0], [1, 0], [2, 0]]]),
    ({"length": [3, 2], "mode": "pre"}, [[[0, 0], [0, 1], [3, 4]], [[0, 0], [0, 1], [0, 2]]]),
]


@pytest.mark.parametrize("options, expected", PADDED)
def test_padding_is_that_of_bert4keras(options, expected):
    for kind in (list, np.array):
        padded = sequence_padding([kind([1, 2, 3]), kind([4])], **options)
        assert padded.tolist() == expected
        assert padded.dtype == np.int64


@pytest.mark.parametrize("options, expected", PADDED_2D)
def test_padding_of_two_axes_is_that_of_bert4keras(options, expected):
    arrays = [np.arange(6).reshape(2, 3), np.arange(4).reshape(4, 1)]
    assert sequence_padding(arrays, seq_dims=2, **options).tolist() == expected
    lists = [array.tolist() for array in arrays]
    assert sequence_padding(lists, seq_dims=2, **options).tolist() == expected


@laws
@given(ragged, st.integers(0, 15) | st.none(), st.sampled_from(["post", "pre"]))
def test_padding_keeps_what_fits_and_fills_the_rest(rows, length, mode):
    padded = sequence_padding(rows, length, value=-7, mode=mode)
    width = max(map(len, rows)) if length is None else length
    assert padded.shape == (len(rows), width)
    for row, kept in zip(padded.tolist(), (row[:width] for row in rows), strict=True):
        filling = [-7] * (width - len(kept))
        assert row == (kept + filling if mode == "post" else filling + kept)


@laws
@given(st.lists(ragged, min_size=1, max_size=5), st.sampled_from(["post", "pre"]))
def test_padding_two_ragged_axes_is_padding_one_after_the_other(nested, mode):
    height, width = max(map(len, nested)), max(len(row) for rows in nested for row in rows)
    one_by_one = []
    for rows in nested:
        empty = [[0] * width] * (height - len(rows))
        block = sequence_padding(rows, width, mode=mode).tolist()
        one_by_one.append(block + empty if mode == "post" else empty + block)
    assert sequence_padding(nested, seq_dims=2, mode=mode).tolist() == one_by_one


def test_padding_leaves_trailing_axes_alone():
    padded = sequence_padding([np.ones((2, 3)), np.zeros((0, 3)), np.zeros((1, 3))], value=7)
    assert padded.shape == (3, 2, 3)
    assert padded[2].tolist() == [[0, 0, 0], [7, 7, 7]]
    assert (padded[1] == 7).all()


def test_padding_dtype():
    assert sequence_padding([[1], [2, 3]], dtype="int32").dtype == np.int32
    assert sequence_padding([[1], [2.5, 3]]).dtype == np.float64
    assert sequence_padding([[], [2, 3]]).dtype == np.int64
    assert sequence_padding([[], []]).shape == (2, 0)
    assert sequence_padding([[1.0], [2, 3]], dtype="int32").tolist() == [[1, 0], [2, 3]]
    assert sequence_padding([[0.1], [2]], dtype="float16").dtype == np.float16


@pytest.mark.parametrize(
    ("items", "dtype"),
    [
        ([300], "uint8"),
        ([1.7], "int32"),
        ([np.nan], "int32"),
        ([-1], "uint32"),
        ([1e300], "float32"),
    ],
)
def test_items_that_a_dtype_cannot_hold(items, dtype):
    with pytest.raises(ValueError, match=f"inputs: expected items that {dtype} can hold, got"):
        sequence_padding([items, [1]], dtype=dtype)


@pytest.mark.parametrize(
    "inputs, options, message",
    [
        ([], {}, "at least one sequence"),
        ([[1]], {"mode": "left"}, '"post" or "pre"'),
        ([1, 2], {}, "sequence of 1 axes"),
        ([[[1], [2, 3]]], {}, "ragged in more axes"),
        ([np.ones((2, 3)), np.ones((2, 4))], {}, "must be the same"),
    ],
)
def test_padding_errors(inputs, options, message):
    with pytest.raises(ValueError, match=message):
        sequence_padding(inputs, **options)


# --- truncate_sequences and text_segmentate -------------------------------------------------------

# made by bert4keras 0.11.5
TRUNCATED = [
    (5, -1, ([1, 2, 3, 4], [5, 6, 7]), [[1, 2], [5, 6, 7]]),
    (5, -2, ([1, 2, 3, 4], [5, 6, 7, 8]), [[1, 4], [5, 6, 8]]),
    (4, [1, -2], ([1, 2, 3, 4], [5, 6, 7]), [[1, 4], [5, 7]]),
    (3, 1, ([1, 2, 3], [], [4, 5, 6]), [[1], [4, 6]]),
    (9, -1, ([1], [2]), [[1], [2]]),
    (0, -1, ([1, 2], [3]), [[], []]),
]
TEXT = (
    "今天下雨。我们在家看书，喝茶；晚上没有出门。\n"
    "第二天天晴了，大家一起去爬山，山上的风景很美！  回家以后，每个人都很累。"
)
SEGMENTED = [
    (
        (TEXT, 8, "。，"),
        "今天下雨。|我们在家看书，|喝茶；晚上没有出门。|第二天天晴了，|大家一起去爬山，|"
        "山上的风景很美！  回家以后，|每个人都很累。",
    ),
    (
        (TEXT, 12, "\n。；，"),
        "今天下雨。|我们在家看书，喝茶；|晚上没有出门。|第二天天晴了，|大家一起去爬山，|"
        "山上的风景很美！  回家以后，|每个人都很累。",
    ),
    (
        (TEXT, 20, "\n。！，", "，。"),
        "今天下雨|我们在家看书，喝茶；晚上没有出门|第二天天晴了，大家一起去爬山|山上的风景很美！|"
        "回家以后，每个人都很累",
    ),
    ((TEXT, 5, ""), TEXT),
    ((TEXT, 200, "\n"), TEXT),
    (("a,,b,,,c", 3, ","), "a,,|b,,,|c"),
    (("  ", 3, ","), ""),
]


@pytest.mark.parametrize("maxlen, indices, sequences, expected", TRUNCATED)
def test_truncation_is_that_of_bert4keras(maxlen, indices, sequences, expected):
    assert truncate_sequences(maxlen, indices, *map(list, sequences)) == expected


def test_truncation_refuses_a_negative_length():
    with pytest.raises(ValueError, match="maxlen"):
        truncate_sequences(-1, -1, [1])


@pytest.mark.parametrize("arguments, expected", SEGMENTED)
def test_segmentation_is_that_of_bert4keras(arguments, expected):
    assert text_segmentate(*arguments, truncate=False) == expected.split("|")


@laws
@given(
    st.text("，。\n春夏秋冬", max_size=60),
    st.integers(1, 12),
    st.sampled_from(["", "。", "\n。，"]),
)
def test_no_segment_is_too_long_and_none_is_lost(text, maxlen, seps):
    pieces = text_segmentate(text, maxlen, seps)
    assert max(map(len, pieces)) <= maxlen
    assert "".join("".join(pieces).split()) == "".join(text.split())


def test_segmentation_refuses_a_length_of_zero():
    with pytest.raises(ValueError, match="maxlen"):
        text_segmentate("今天", 0)


# --- read_tsv ------------------------------------------------------------------------------------


def test_tsv_with_mark_crlf_header_and_rare_line_separators(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_bytes(
        "\ufefftext\ttext\tlabel\r\n怎么\u2028退货\t如何退货\t1\r\n\r\n甲\t乙\t0".encode()
    )
    rows = [("怎么\u2028退货", "如何退货", 1), ("甲", "乙", 0)]
    assert read_tsv(path, (str, str, int), header=True) == rows


@pytest.mark.parametrize("line", ["好", "好\t一", "好\t1\t2"])
def test_tsv_errors_name_file_and_line(tmp_path, line):
    path = tmp_path / "bad.tsv"
    path.write_text(f"好\t1\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"bad\.tsv, line 2: expected str TAB int"):
        read_tsv(path)


def test_tsv_of_another_encoding_names_file_and_line(tmp_path):
    path = tmp_path / "bad.tsv"
    path.write_bytes("好\t1\n".encode() + "好\t1\n".encode("gb18030"))
    with pytest.raises(
        ValueError, match=r"bad\.tsv, line 2: expected text in UTF-8, got .* at byte"
    ):
        read_tsv(path)


@pytest.mark.once
@pytest.mark.parametrize(("line", "types"), [("中\t1\n", (str, int)), ("中\n", (str,))])
def test_short_rows_take_no_more_memory_than_the_file_explains(tmp_path, line, types):
    path = tmp_path / "short.tsv"
    path.write_text(line * 750_000, encoding="utf-8")
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"short\.tsv, line \d+: expected rows that take no more"):
        read_tsv(path, types)
    assert tracemalloc.get_traced_memory()[1] < (64 << 20) + 8 * path.stat().st_size
    tracemalloc.stop()


@pytest.mark.once
@pytest.mark.parametrize(
    ("read", "line"),
    [
        (read_json_lines, "{}\n"),
        (read_json_lines, '{"a": "中"}\n'),
        (partial(read_json_lines, convert=lambda row: [("a",)]), "[1]\n"),
        (read_columns, "中 " * 100 + "\n"),
        (partial(read_columns, separator=","), ",中文" * 100 + "\n"),
    ],
)
def test_short_values_take_no_more_memory_than_the_file_explains(tmp_path, monkeypatch, read, line):
    monkeypatch.setattr(data, "FREE", 1 << 20)
    path = tmp_path / "short.json"
    path.write_text(line * (300_000 // len(line)), encoding="utf-8")
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"short\.json, line \d+: expected rows that take no more"):
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (3 << 20) + 8 * path.stat().st_size


def test_a_line_of_columns_is_short(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("a O\n" + "a" * 70_000, "utf-8")
    with pytest.raises(ValueError, match=r"long\.txt, line 2: expected at most 65536 bytes"):
        read_columns(path)


def test_many_rows_of_ordinary_length(tmp_path):
    path = tmp_path / "long.tsv"
    path.write_text("这家店的菜很好\t1\n" * 300_000, encoding="utf-8")
    assert len(read_tsv(path)) == 300_000


# --- choose_buckets ------------------------------------------------------------------------------


def padded_tokens(lengths, buckets):
    return sum(min(b for b in buckets if b >= n) for n in lengths)


@laws
@given(st.data(), st.integers(1, 4), st.sampled_from([1, 3, 8]))
def test_no_other_buckets_pad_less(data, max_buckets, multiple):
    lengths = data.draw(st.lists(st.integers(0, 10 * multiple), min_size=1, max_size=25))
    buckets = choose_buckets(lengths, max_buckets, multiple)
    longest = max(*lengths, 1)
    assert len(buckets) <= max_buckets
    assert buckets == sorted(set(buckets))
    assert buckets[-1] == longest
    assert all(n % multiple == 0 for n in buckets[:-1])
    grid = range(multiple, longest, multiple)
    assert padded_tokens(lengths, buckets) == min(
        padded_tokens(lengths, [*inner, longest])
        for k in range(max_buckets)
        for inner in itertools.combinations(grid, k)
    )


def test_buckets_of_very_long_samples_stay_cheap():
    lengths = np.random.default_rng(0).integers(1, 100_000, 5000)
    buckets = choose_buckets(lengths, 8)
    assert len(buckets) == 8
    assert buckets[-1] == lengths.max()


# --- Batches -------------------------------------------------------------------------------------

lengths_and_size = st.tuples(
    st.lists(st.integers(1, 70), min_size=1, max_size=60), st.integers(1, 9)
)


def make_samples(lengths):
    """Samples that say who they are: ((ids, segments), label), the ids all 1 + their index."""
    return [(([i + 1] * n, [1] * n), i) for i, n in enumerate(lengths)]


def epoch(batches):
    return [batches[i] for i in range(len(batches))]


@laws
@given(lengths_and_size, st.booleans(), st.sampled_from([None, 1, 3, 8, [16, 40, 80]]))
def test_every_sample_whole_and_once_an_epoch(drawn, shuffle, buckets):
    lengths, batch_size = drawn
    batches = Batches(make_samples(lengths), batch_size, shuffle=shuffle, seed=1, buckets=buckets)
    shapes = set()
    for _ in range(3):
        labels, small, tokens = [], 0, 0
        for (ids, segments), targets in epoch(batches):
            shapes.add(ids.shape)
            labels += targets.tolist()
            small += len(targets) < batch_size
            tokens += ids.size
            assert ids.dtype == np.int32
            assert (segments == (ids > 0)).all()
            assert segments.sum(axis=1).tolist() == [lengths[i] for i in targets]
            assert ids.max(axis=1).tolist() == [i + 1 for i in targets]
        assert sorted(labels) == list(range(len(lengths)))
        assert labels == batches.order.tolist()
        assert small <= 1
        assert tokens == batches.num_tokens
        assert batches.padding_share == pytest.approx(1 - sum(lengths) / tokens)
        batches.on_epoch_end()
    most = {None: 1, 1: 1, 3: 3, 8: 8}.get(buckets if not isinstance(buckets, list) else 3)
    assert len({length for _, length in shapes}) <= most
    assert len(shapes) <= most + 1  # one more for the smaller batch


@laws
@given(lengths_and_size)
def test_sorted_batches_never_pad_more_than_random_ones_on_the_same_grid(drawn):
    lengths, batch_size = drawn
    samples = make_samples(lengths)
    buckets = Batches(samples, batch_size, buckets=64)  # every multiple of 8 that occurs
    order = np.random.default_rng(0).permutation(len(lengths))
    unsorted = 0
    for i in range(0, len(order), batch_size):
        batch = [lengths[k] for k in order[i : i + batch_size]]
        unsorted += len(batch) * min(b for b in buckets.buckets if b >= max(batch))
    partial = len(lengths) % batch_size  # may be padded to the longest of all
    assert buckets.num_tokens <= unsorted + partial * max(lengths)
    if not partial:
        assert buckets.num_tokens <= unsorted


def test_bucketing_saves_most_of_the_padding():
    lengths = np.random.default_rng(0).lognormal(4, 0.7, 2000).astype(int).clip(2, 256)
    samples = make_samples(lengths)
    random = Batches(samples, 32, shuffle=True, seed=0)
    bucketed = Batches(samples, 32, shuffle=True, seed=0, buckets=8)
    assert random.padding_share > 0.6
    assert bucketed.padding_share < 0.2
    assert len(set(bucketed.buckets)) == 8


def test_shuffling_follows_the_seed_and_the_epoch():
    samples = make_samples(np.random.default_rng(0).integers(1, 50, 200))

    def orders(seed, buckets):
        batches = Batches(samples, 8, shuffle=True, seed=seed, buckets=buckets)
        found = []
        for _ in range(3):
            found.append(tuple(batches.order))
            batches.on_epoch_end()
        return found

    for buckets in (None, 4):
        assert orders(1, buckets) == orders(1, buckets)
        assert len({*orders(1, buckets), *orders(2, buckets)}) == 6
    keras.utils.set_random_seed(3)
    first = orders(None, 4)
    keras.utils.set_random_seed(3)
    assert orders(None, 4) == first


def test_who_shares_a_batch_changes_though_lengths_are_alike():
    samples = make_samples([10 + i % 3 for i in range(60)])
    batches = Batches(samples, 6, shuffle=True, seed=0, buckets=3)
    first = {frozenset(targets.tolist()) for _, targets in epoch(batches)}
    batches.on_epoch_end()
    second = {frozenset(targets.tolist()) for _, targets in epoch(batches)}
    assert not first & second


@laws
@given(lengths_and_size, st.sampled_from([None, 4]))
def test_restore_puts_predictions_in_the_order_of_the_data(drawn, buckets):
    lengths, batch_size = drawn
    batches = Batches(make_samples(lengths), batch_size, buckets=buckets)
    targets = np.concatenate([targets for _, targets in epoch(batches)])
    assert batches.restore(targets).tolist() == list(range(len(lengths)))
    assert batches.restore(targets.tolist()) == list(range(len(lengths)))
    if buckets is None:
        assert targets.tolist() == list(range(len(lengths)))


@laws
@given(lengths_and_size, st.booleans(), st.integers(0, 3))
def test_the_first_two_batches_differ_in_length_if_any_do(drawn, shuffle, seed):
    # or Keras on TensorFlow would take the length of the first two for that of all
    lengths, batch_size = drawn
    batches = Batches(make_samples(lengths), batch_size, shuffle=shuffle, seed=seed, buckets=8)
    widths = [ids.shape[1] for (ids, _), _ in epoch(batches)]
    assert len(set(widths)) == 1 or widths[0] != widths[1]


def test_collate_and_length_of_ones_own():
    texts = [("天气很好", 1), ("雨", 0), ("下了一整天的雪", 1)]

    def collate(samples, length):
        ids = sequence_padding([[ord(c) for c in text] for text, _ in samples], length)
        return ids, np.array([label for _, label in samples])

    batches = Batches(texts, 2, collate, buckets=[4, 8, 16], length=lambda sample: len(sample[0]))
    assert [ids.shape for ids, _ in epoch(batches)] == [(2, 4), (1, 8)]
    assert [ids.shape for ids, _ in epoch(Batches(texts, 3, collate))] == [(3, 7)]


def test_collating_nested_samples():
    samples = [({"ids": [1, 2], "age": 3}, 0.5, 1.0), ({"ids": [4], "age": 5}, 0.25, 2.0)]
    inputs, targets, weights = pad_samples(samples, 3)
    assert inputs["ids"].tolist() == [[1, 2, 0], [4, 0, 0]]
    assert inputs["age"].tolist() == [3, 5]
    assert targets.dtype == weights.dtype == np.float32
    with pytest.raises(ValueError, match="does not fit"):
        pad_samples([([1, 2, 3],)], 2)


def test_labels_that_are_lists():
    """Only what is as long as its text is padded."""
    data = [([1, 2, 3], [1]), ([4], [0]), ([5, 6], [1])]
    ids, labels = Batches(data, 3)[0]
    assert ids.shape == (3, 3) and labels.tolist() == [[1], [0], [1]]
    # one batch in which the label is as long as each text
    assert Batches(data, 1, buckets=[3])[1][1].shape == (1, 1)
    classes = [(([1] * n, [0] * n), [0.0, 1.0, 1.0, 0.0, 0.0]) for n in (3, 5, 2)]
    (ids, segments), labels = Batches(classes, 3, buckets=4)[0]
    assert ids.shape == segments.shape == (3, 5) and labels.shape == (3, 5)
    assert Batches([classes[0], classes[2]], 2)[0][0][0].shape == (2, 3)
    tags = [(([1] * n, [0] * n), [2] * n, [1.0] * n) for n in (3, 1)]
    _, labels, weights = Batches(tags, 2)[0]
    assert labels.tolist() == [[2, 2, 2], [2, 0, 0]] and weights.shape == (2, 3)
    with pytest.raises(ValueError, match=r"part 1: shapes \[\(1,\), \(2,\)\]; expected the same"):
        Batches([([1, 2, 3], [1]), ([4, 5, 6], [0, 1])], 2)[0]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"data": []}, "at least one sample"),
        ({"data": [([1], 0)], "batch_size": 0}, "batch_size"),
        ({"data": [([1], 0), ([1] * 9, 0)], "buckets": [4, 8]}, r"data\[1\] has length 9"),
        ({"data": [([1], 0)], "buckets": []}, "buckets must be positive"),
        ({"data": [([1], 0)], "buckets": [0, 8]}, "buckets must be positive"),
        ({"data": [([1], 0)], "buckets": 0}, "buckets must be positive"),
        ({"data": [("text", 0)], "buckets": 4}, "length function"),
        ({"data": [([1], 0), ([[1, 2], [3]], 0)]}, r"samples\[1\], part 0: expected a number"),
        (
            {"data": [([1], 0), ([1],)]},
            r"samples\[1\] has the parts 0, and samples\[0\] has 0, 1",
        ),
        ({"data": [({"a": [1]}, 0), ({"b": [1]}, 0)]}, r"samples\[1\] has the parts 0/b, 1"),
    ],
)
def test_batches_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        Batches(**arguments)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (None, "samples, part 1: expected numbers, got None"),
        ("a", "samples, part 1: expected numbers, got 'a'"),
        (1 << 40, r"samples, part 1: integers up to \d+; expected integers that fit into int32"),
        (1e300, r"samples, part 1: numbers up to 1e\+300; expected numbers that fit into float32"),
    ],
)
def test_labels_that_are_no_numbers_of_a_batch(label, message):
    with pytest.raises(ValueError, match=message):
        Batches([([1, 2], 0), ([3], label)], 2)[0]


def test_kinds_of_numbers_of_a_batch():
    rows = [np.array([1, 2], kind) for kind in ("uint64", "uint32", "uint8", "float16")]
    assert [Batches([(row,)], 1)[0][0].dtype.name for row in rows] == [
        *("int32", "int32", "uint8", "float32")
    ]
    with pytest.raises(
        ValueError, match="part 0: integers up to 1099511627776; expected integers that fit"
    ):
        Batches([(np.array([1 << 40], "uint64"),)], 1)[0]


def test_restore_errors():
    samples = make_samples([1, 2, 3])
    with pytest.raises(ValueError, match="expected 3 predictions, got 2"):
        Batches(samples, 2).restore(np.zeros(2))
    with pytest.raises(ValueError, match="shuffle=False"):
        Batches(samples, 2, shuffle=True).restore(np.zeros(3))


@pytest.mark.parametrize("buckets", [None, 3])
def test_fit_evaluate_and_predict(buckets):
    """Batches of many lengths pass through one small model; the labels have words of their own."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    # most are of the same length: any two batches are likely to agree on it
    lengths = np.where(rng.random(300) < 0.7, 24, rng.integers(3, 60, 300))
    rows = [rng.integers(1, 5, n) + 4 * (i % 2) for i, n in enumerate(lengths)]
    samples = [(row, i % 2) for i, row in enumerate(rows)]

    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(9, 8, mask_zero=True)(ids)
    x = keras.layers.GlobalAveragePooling1D()(x)
    model = keras.Model(ids, keras.layers.Dense(1, activation="sigmoid")(x))
    model.compile(keras.optimizers.Adam(0.05), "binary_crossentropy", metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    train = Batches(samples, 16, shuffle=True, seed=0, buckets=buckets)
    valid = Batches(samples, 64, buckets=buckets)
    history = model.fit(train, validation_data=valid, epochs=6, verbose=0).history
    assert history["val_accuracy"][-1] > 0.95
    assert train.epoch >= 6  # Keras on JAX looks at the first batch before it starts

    assert model.evaluate(valid, verbose=0, return_dict=True)["accuracy"] > 0.95
    unlabelled = Batches([(row,) for row in rows], 64, buckets=buckets)
    scores = unlabelled.restore(model.predict(unlabelled, verbose=0))[:, 0]
    alone = [float(model.predict_on_batch(row[None].astype("int32"))[0, 0]) for row in rows[:20]]
    assert scores[:20] == pytest.approx(alone, abs=1e-4)


# --- sample data and real data --------------------------------------------------------------------


def test_sample_is_what_its_script_writes():
    done = subprocess.run(
        [sys.executable, SAMPLE / "make_sample.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_sample_splits_share_no_text():
    corpus = (SAMPLE / "corpus.txt").read_text(encoding="utf-8").replace("\n", "")
    splits = {
        split: read_tsv(SAMPLE / f"sentiment.{split}.tsv") for split in ("train", "valid", "test")
    }
    texts = Counter(text for rows in splits.values() for text, _ in rows)
    assert max(texts.values()) == 1
    assert not [text for text in texts if text[:-1] in corpus]

    pairs = Counter(
        frozenset(row[:2])
        for split in splits
        for row in read_tsv(SAMPLE / f"matching.{split}.tsv", (str, str, int))
    )
    assert max(pairs.values()) == 1
    questions = set((SAMPLE / "corpus.txt").read_text(encoding="utf-8").splitlines())
    for split in ("valid", "test"):
        for one, other, _ in read_tsv(SAMPLE / f"matching.{split}.tsv", (str, str, int)):
            assert not {one, other} & questions


def test_sample_labels_are_balanced_and_its_vocabulary_complete():
    vocabulary = (SAMPLE / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert vocabulary[0] == "[PAD]"
    assert len(vocabulary) == len(set(vocabulary))
    for path in SAMPLE.glob("*.tsv"):
        types = (str, int) if path.name.startswith("sentiment") else (str, str, int)
        rows = read_tsv(path, types)
        assert sum(row[-1] for row in rows) * 2 == len(rows)
        assert set("".join("".join(row[:-1]) for row in rows)) <= set(vocabulary)
    corpus = (SAMPLE / "corpus.txt").read_text(encoding="utf-8")
    assert set(corpus) - {"\n"} <= set(vocabulary)


def test_bucketing_on_real_reviews():
    path = SHARED / "chnsenticorp" / "train.tsv"
    if not path.exists():
        pytest.skip("the shared data sets are not here")
    rows = read_tsv(path, (int, str), header=True)
    lengths = [min(len(text) + 2, 256) for _, text in rows]
    order = np.random.default_rng(0).permutation(len(lengths))
    unsorted = 0
    for i in range(0, len(order), 32):
        batch = [lengths[k] for k in order[i : i + 32]]
        unsorted += len(batch) * max(batch)
    batches = Batches(
        lengths, 32, lambda samples, length: None, shuffle=True, seed=0, buckets=8, length=int
    )
    assert unsorted / batches.num_tokens > 2


# --- reading data sets ---------------------------------------------------------------------------


def test_json_lines_are_converted(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('\ufeff{"text": "好", "label": 1}\n\n{"text": "\\ud800坏"}\n', "utf-8")
    assert read_json_lines(path) == [{"text": "好", "label": 1}, {"text": "?坏"}]
    rows = read_json_lines(path, lambda row: (row["text"], 1) if "label" in row else None)
    assert rows == [("好", 1)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [("{}", "no key 'label'"), ("[1]", "list indices"), ("{", "Expecting"), ("\udcff", "utf-8")],
)
def test_json_lines_of_another_form_are_named(tmp_path, line, reason):
    path = tmp_path / "a.json"
    path.write_bytes(b'{"label": 1}\n' + line.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=rf"a\.json, line 2: expected .*{reason}"):
        read_json_lines(path, lambda row: row["label"])
    with pytest.raises(ValueError, match="expected a file"):
        read_json_lines(tmp_path)


def test_columns_are_read(tmp_path):
    path = tmp_path / "example.dev"
    path.write_text("\ufeff王 B-PER\r\n芳 I-PER\r\n\r\n\r\n# O\n\n", "utf-8", newline="")
    assert read_columns(path) == [[["王", "B-PER"], ["芳", "I-PER"]], [["#", "O"]]]
    path.write_text("1\t王 芳\n\n2\t在", "utf-8")
    assert read_columns(path, "\t") == [[["1", "王 芳"]], [["2", "在"]]]
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"example\.dev, line 1: expected text in UTF-8"):
        read_columns(path)


def test_questions_are_read(tmp_path):
    row = {"question": "谁？", "id": "1", "answers": [{"text": "王芳", "answer_start": 9}]}
    paragraph = {"context": "王芳和李强，王芳", "qas": [row], "id": "0"}
    path = tmp_path / "dev.json"

    def read():
        path.write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}), "utf-8")
        return read_squad(path)

    assert read() == [Question("王芳和李强，王芳", "谁？", ("王芳",), 6)]  # the nearest position
    row["answers"][0]["text"] = "赵伟"
    assert read()[0].start == -1
    for context in ([1], None):
        paragraph["context"] = context
        with pytest.raises(
            ValueError, match=r"data\[0\].paragraphs\[0\].qas\[0\]: expected the form"
        ):
            read()
    del row["answers"]
    with pytest.raises(ValueError, match=r"qas\[0\].*answers"):
        read()
    path.write_text("[", encoding="utf-8")
    with pytest.raises(ValueError, match=r"dev\.json: expected JSON"):
        read_squad(path)


@pytest.mark.parametrize("text", ["aXbX", "XXaX", "abcd", "aaXX", "XXXX", ""])
@pytest.mark.parametrize("answer", ["X", "XX", "aX"])
@pytest.mark.parametrize("start", [-9, -1, 0, 1, 2, 3, 9])
def test_the_nearest_answer(text, answer, start):
    places = [i for i in range(len(text)) if text.startswith(answer, i)]
    nearest = min(places, key=lambda i: (abs(i - start), i), default=-1)
    assert data._nearest(text, answer, start) == nearest


def test_many_answers_that_are_not_in_a_long_passage(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "_SEARCHED", 10_000)
    row = {"question": "?", "answers": [{"text": "a", "answer_start": 0}]}
    paragraph = {"context": "ba" * 500, "qas": [row] * 10}
    path = tmp_path / "dev.json"
    path.write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}), "utf-8")
    assert [question.start for question in read_squad(path)] == [1] * 10
    paragraph["qas"] *= 2
    path.write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}), "utf-8")
    with pytest.raises(ValueError, match=r"dev\.json, .*qas\[10\]: expected most answers at their"):
        read_squad(path)


def test_splits_are_found_by_their_names(tmp_path):
    for name in ("train_data.json", "my-dev.x", "test1_data.json", "developer.txt", "README.md"):
        (tmp_path / name).touch()
    with pytest.warns(UserWarning, match="no test file with labels"):
        splits = read_splits(tmp_path, lambda path: [path.name])
    assert splits == {"train": ["train_data.json"], "valid": ["my-dev.x"], "test": ["my-dev.x"]}
    with pytest.raises(ValueError, match="expected a file with labels that has train in its name"):
        read_splits(tmp_path, lambda path: [])
    for name in ("other.train.tsv", "test.json"):
        (tmp_path / name).touch()
    # files that `read` finds nothing in are ignored
    splits = read_splits(tmp_path, lambda path: [path.name] if path.suffix != ".tsv" else [])
    assert splits["train"] == ["train_data.json"] and splits["test"] == ["test.json"]


def test_one_file_is_cut_into_splits(tmp_path):
    path = tmp_path / "all.txt"
    path.touch()
    splits = read_splits(path, lambda path: [*range(20)])
    assert splits == {"train": [*range(16)], "valid": [16, 17], "test": [18, 19]}
    assert read_splits(tmp_path, lambda path: [*range(20)]) == splits
    with pytest.raises(ValueError, match=r"expected at least ten samples, .* got 9 samples"):
        read_splits(path, lambda path: [*range(9)])
    with pytest.raises(ValueError, match="directory whose files have train"):
        read_splits(tmp_path, lambda path: path.read_text().split())
    with pytest.raises(ValueError, match="directory whose files have train"):
        read_splits(tmp_path, read_json_lines)
    with pytest.raises(ValueError, match=r"^[^ ]*all\.txt, line 1: expected JSON"):
        path.write_text("{")
        read_splits(path, read_json_lines)
    with pytest.raises(ValueError, match="does not exist"):
        read_splits(tmp_path / "missing", list)


def test_labels_are_the_tokens_that_follow():
    ids = np.array([[2, 5, 6, 3, 7, 3, 0]])
    segments = np.array([[0, 0, 0, 0, 1, 1, 0]])
    labels = next_token_labels(ids, segments == 1)
    assert labels.tolist() == [[-1, -1, -1, 7, 3, -1, -1]]
