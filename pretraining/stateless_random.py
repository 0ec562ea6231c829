"""Counter-based (stateless) random numbers for reproducible, restartable sampling.

The numbers of a stateful generator depend on all draws before. Here the number for (seed, epoch,
example, position) is a hash of these four, so it is the same after a restart, with another number
of hosts, or in another order of work. All functions work on arrays.

Reference: Steele, Lea & Flood, "Fast splittable pseudorandom number generators", 2014
(SplitMix64); its mixing function is Stafford's variant 13.
"""

from math import isqrt

import numpy as np

__all__ = ["keys", "permuted", "uniform"]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_ROUNDS = 6


def _mix(x):
    """Returns a bijection of 64 bits in which every output bit depends on every input bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def keys(*parts):
    """Returns hashes of numbers, as keys for the functions below.

    Args:
        *parts: integers from 0 to 2**63 - 1, or arrays of them that broadcast; the order matters.

    Returns:
        An array of uint64 of the broadcast shape.
    """
    with np.errstate(over="ignore"):
        state = np.uint64(0)
        for part in parts:
            state = _mix(_mix(state + _GAMMA) + np.asarray(part, np.uint64))
    return state


def uniform(key, positions):
    """Returns a uniform random number in [0, 1) for each key and position.

    Args:
        key: array of uint64 from `keys`.
        positions: integers that broadcast with `key`.

    Returns:
        An array of float64 of the broadcast shape.
    """
    with np.errstate(over="ignore"):
        bits = _mix(np.asarray(key) + (np.asarray(positions, np.uint64) + np.uint64(1)) * _GAMMA)
    return (bits >> np.uint64(11)) * 2.0**-53


def permuted(indices, size, key):
    """Applies a random permutation of `range(size)` to some indices, without computing all of it.

    A Feistel network permutes the cells of a rectangle with at least `size` cells: row and column
    are shifted in turn by a hash of the other one. Results that are not below `size` are permuted
    again until they are.

    Args:
        indices: array of integers from 0 to size - 1.
        size: length of the permutation.
        key: key of the permutation, from `keys`.

    Returns:
        An array of int64 of the shape of `indices`.
    """
    width = np.uint64(isqrt(size - 1) + 1)
    height = np.uint64(-(-size // int(width)))
    rounds = [(keys(key, i, 0), keys(key, i, 1)) for i in range(_ROUNDS)]
    values = np.array(indices, np.uint64)
    outside = np.ones(values.shape, bool)
    while outside.any():
        row, column = np.divmod(values[outside], width)
        for of_column, of_row in rounds:
            row = (row + _mix(column + of_column) % height) % height
            column = (column + _mix(row + of_row) % width) % width
        values[outside] = row * width + column
        outside[outside] = values[outside] >= size
    return values.astype(np.int64)
