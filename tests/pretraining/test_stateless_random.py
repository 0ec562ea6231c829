"""Numbers that are functions of what they are for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretraining.stateless_random import keys, permuted, uniform

pytestmark = pytest.mark.once

NUMBERS = st.integers(0, 2**63 - 1)


def test_numbers_are_those_of_splitmix64():
    # published first numbers of the generator with seed 1234567
    bits = np.array(
        [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431],
        np.uint64,
    )
    np.testing.assert_array_equal(
        uniform(np.uint64(1234567), np.arange(4)), (bits >> np.uint64(11)) / 2**53
    )


@given(NUMBERS, NUMBERS, NUMBERS)
def test_keys_tell_numbers_and_their_order(a, b, c):
    found = {int(keys(*parts)) for parts in {(a, b, c), (b, a, c), (a, c, b), (a, b)}}
    assert len(found) == len({(a, b, c), (b, a, c), (a, c, b), (a, b)})
    np.testing.assert_array_equal(keys(a, np.array([b, c])), [keys(a, b), keys(a, c)])


def test_numbers_are_uniform_and_independent():
    drawn = uniform(keys(5, np.arange(1000))[:, None], np.arange(100))
    assert drawn.min() >= 0 and drawn.max() < 1
    counts, _ = np.histogram(drawn, 64)
    chi_square = ((counts - drawn.size / 64) ** 2 / (drawn.size / 64)).sum()
    assert chi_square < 103  # 63 degrees of freedom, 0.1 %
    for other in (drawn[:, 1:], np.roll(drawn, 1, 0)[:, 1:]):
        assert abs(np.corrcoef(drawn[:, :-1].ravel(), other.ravel())[0, 1]) < 0.01


@given(st.integers(1, 3000), NUMBERS)
def test_a_permutation_is_one(size, seed):
    found = permuted(np.arange(size), size, keys(seed))
    np.testing.assert_array_equal(np.sort(found), np.arange(size))


def test_a_permutation_of_a_part_is_part_of_it():
    size = 10**12 + 7
    some = np.array([0, 5, size - 1, 123456789])
    found = permuted(some, size, keys(1))
    assert len(set(found.tolist())) == 4 and found.max() < size
    np.testing.assert_array_equal(found[1:2], permuted(some[1:2], size, keys(1)))


def test_permutations_are_uniform():
    counts = np.zeros((10, 10))
    for seed in range(3000):
        counts[np.arange(10), permuted(np.arange(10), 10, keys(seed))] += 1
    assert ((counts - 300) ** 2 / 300).sum() < 126  # 81 degrees of freedom, 0.1 %
