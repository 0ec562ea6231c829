"""Wrong arguments of public functions: one ValueError that names them."""

import re

import pytest

from bert4keras_lite import data, metrics
from bert4keras_lite.optimizers import PiecewiseLinear, layerwise_multipliers

pytestmark = pytest.mark.once

NAN = float("nan")
RAGGED = [[1, 2, 3], [4]]
SAMPLES = [([1, 2], 0), ([1], 1)]
# what is called with a wrong value, and the values
CALLS = {
    "sequence_padding": (lambda x: data.sequence_padding(x), [[], None, 5, {}]),
    "length": (lambda x: data.sequence_padding(RAGGED, x), ["abc", -1, 1.5, NAN, [None], {}]),
    "value": (
        lambda x: data.sequence_padding(RAGGED, value=x),
        [None, 1.5, NAN, "abc", {}, 10**25],
    ),
    "seq_dims": (lambda x: data.sequence_padding(RAGGED, seq_dims=x), [0, -1, None, "a", NAN]),
    "maxlen": (
        lambda x: data.truncate_sequences(x, -1, [1, 2]),
        [-1, None, 1.5, NAN, "abc", [], {}],
    ),
    "indices": (
        lambda x: data.truncate_sequences(1, x, [1, 2], [3]),
        [[], [0], 5, -3, 1.5, None, "a", [[0], [0]], 10**25],
    ),
    "sequences": (lambda x: data.truncate_sequences(1, -1, x), ["abc", 5, -1, 1.5, {"a": 1}]),
    "text": (lambda x: data.text_segmentate(x, 2), [None, 5, [], ["a"], b"a"]),
    "text_segmentate maxlen": (lambda x: data.text_segmentate("abc", x), [0, -1, None, NAN, 1.5]),
    "seps": (lambda x: data.text_segmentate("abc", 2, x), [5, [1], [""], [None], {"a": 1}]),
    "strips": (lambda x: data.text_segmentate("abc", 2, "\n", x), [5, [], ["a"]]),
    "types": (lambda x: data.read_tsv(__file__, x), [None, 5, (), "abc", ["a"], [None]]),
    "a line": (lambda x: data.read_tsv(__file__, (x,)), [{}.__getitem__, lambda cell: cell / 2]),
    "lengths": (lambda x: data.choose_buckets(x), [[], None, 5, "abc", [1.5], [[1]], {}]),
    "max_buckets": (lambda x: data.choose_buckets([1, 2], x), [0, -1, None, NAN, [1]]),
    "multiple": (lambda x: data.choose_buckets([1, 999], 2, x), [0, -1, None, NAN, 0.5]),
    "samples": (lambda x: data.pad_samples(x, 4), [[], None, 5, {}, "abc"]),
    "pad_samples length": (lambda x: data.pad_samples(SAMPLES, x), [None, -1, "a", NAN, []]),
    "data": (lambda x: data.Batches(x), [[], None, 5, {}, "abc"]),
    "batch_size": (lambda x: data.Batches(SAMPLES, x), [0, -1, None, 1.5, NAN, "a", []]),
    "seed": (lambda x: data.Batches(SAMPLES, seed=x), [-1, 1.5, "a", [], 10**25]),
    "buckets": (lambda x: data.Batches(SAMPLES, buckets=x), [0, -1, 1.5, [], [None], "ab", [-1]]),
    "predictions": (lambda x: data.Batches(SAMPLES).restore(x), [None, 5, [], [1]]),
    "true spans": (
        lambda x: metrics.span_scores([x], [[]]),
        ["abc", None, 5, [1], ["abc", "ab"], [(0, 1)], [(0, 1, [])], {"abc": 1}],
    ),
    "true": (lambda x: metrics.span_scores(x, [[]]), ["a", None, 5, [], [5]]),
    "predicted": (lambda x: metrics.triple_scores([[]], x), ["a", None, 5, [], [5]]),
    "tags": (lambda x: metrics.bio_spans(x), [None, 5, [1], [None], [["B"]], ["X"]]),
    "characters": (lambda x: metrics.characters(x), [None, 5, [], b"a"]),
    "words": (lambda x: metrics.words(x), [None, 5, [], b"a"]),
    "bleu": (lambda x: metrics.bleu(x, ["a"]), ["a", None, 5, [[]], [None], [[1]], [5]]),
    "rouge": (lambda x: metrics.rouge(["a"], x), ["a", None, 5, [[]], [None], [["a"]]]),
    "rouge true": (lambda x: metrics.rouge(x, ["a"]), [[[]], [None], [[1]]]),
    "segment": (lambda x: metrics.bleu(["a"], ["a"], x), [None, 5, "abc"]),
    "points": (
        lambda x: PiecewiseLinear(1.0, x),
        [
            {},
            None,
            5,
            [1],
            {-1: 1.0},
            {0: NAN},
            {1.5: 1.0},
            {"a": 1},
            {0: None},
            {0: "1" * 5000 + "x"},
        ],
    ),
    "decay": (lambda x: layerwise_multipliers(None, x), [-1.0, NAN, None, "a", []]),
}


@pytest.mark.parametrize(
    ("name", "number"),
    [(name, i) for name, (_, values) in CALLS.items() for i in range(len(values))],
)
def test_a_wrong_value_is_told(name, number):
    function, values = CALLS[name]
    if name in ("bleu", "segment"):
        pytest.importorskip("sacrebleu")
    if name.startswith("rouge"):
        pytest.importorskip("rouge_score")
    with pytest.raises(ValueError) as caught:
        function(values[number])
    assert type(caught.value) is ValueError and len(str(caught.value)) < 500
    assert re.search("expect|need|must|fits no|texts in", str(caught.value))


def test_indices_may_be_more_than_sequences():
    assert data.truncate_sequences(2, [-2, -1], [1, 2, 3], []) == [[1, 3]]
    assert data.truncate_sequences(2, -1, [1, 2, 3], None) == [[1, 2]]


def test_floats_that_are_whole_fill_integers():
    assert data.sequence_padding(RAGGED, value=-1e9)[1, 1] == -(10**9)
    assert data.sequence_padding([[0.5], []], value=0.1)[1, 0] == 0.1
