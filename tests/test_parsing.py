"""What the limits on files of strangers do; hostile files themselves are in `tests/hostile.py`."""

import pytest

from bert4keras_lite.parsing import shown

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    "value",
    [
        *("长", b"ab", 0, -1.5, None, True, (), (1,), (1, "a"), [], [[]], {}, {"a": [1, {}]}, 1j),
        *("a" * 150, "'", "a\nb", {None: (), (1, 2): {}}, 1 << 900),
    ],
)
def test_shown_is_repr(value):
    assert shown(value) == repr(value)[:200]


def test_shown_is_cut():
    tuples, lists, dictionary = (), [], {}
    for _ in range(100):
        tuples, lists = (tuples, tuples), [lists, lists]
    dictionary["a"] = [dictionary]
    assert shown(tuples).startswith("((((") and len(shown(tuples)) == 200
    assert shown(lists).startswith("[[[[") and len(shown(lists)) == 200
    assert shown(dictionary).startswith("{'a': [{'a': [")
    assert shown("a" * (1 << 24)) == "'" + "a" * 199
    assert shown([1 << 100_000]) == "[<an integer of 100001 bits>]"
