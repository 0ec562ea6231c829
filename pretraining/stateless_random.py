"""Random numbers that are functions of what they are for, for whole arrays at once.

A generator that is advanced gives numbers that depend on all that was drawn before. Here the
number for (seed, epoch, example, position) is a hash of these four, so that a restart, another
number of hosts or another order of work finds the same one.

Reference: Steele, Lea & Flood, "Fast splittable pseudorandom number generators", 2014
(SplitMix64); its mixing function is Stafford's variant 13.
"""

from math import isqrt

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_ROUNDS = 6


def _mix(x):
    """A bijection of 64 bits in which every bit of the result depends on every bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def keys(*parts):
    """Hashes of numbers, to be given to the functions below.

    Args:
        *parts: integers from 0 to 2**63 - 1, or arrays of them that broadcast; their order counts.

    Returns:
        An array of uint64 of the shape to which they broadcast.
    """
    with np.errstate(over="ignore"):
        state = np.uint64(0)
        for part in parts:
            state = _mix(_mix(state + _GAMMA) + np.asarray(part, np.uint64))
    return state


def uniform(key, positions):
    """Numbers in [0, 1): for each key and position one.

    Args:
        key: array of uint64 from `keys`.
        positions: integers that broadcast with `key`.
    """
    with np.errstate(over="ignore"):
        bits = _mix(np.asarray(key) + (np.asarray(positions, np.uint64) + np.uint64(1)) * _GAMMA)
    return (bits >> np.uint64(11)) * 2.0**-53


def permuted(indices, size, key):
    """Where a random permutation of `range(size)` takes some indices, without the rest of it.

    A Feistel network permutes the places of a rectangle with at least `size` of them: row and
    column are shifted in turn by a hash of the other one. What falls outside of `size` is
    permuted again until it is inside.

    Args:
        indices: array of integers from 0 to size - 1.
        size: length of the permutation.
        key: which permutation, from `keys`.

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
