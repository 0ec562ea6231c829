"""Detection of exact and near-duplicate documents, by hashes and MinHash.

A document is a set of shingles of five characters each. MinHash estimates the Jaccard similarity of
two documents, i.e. the number of common shingles divided by the number of all their shingles: for
each of many random orders of all shingles, only the first shingle of a document is kept, and the
fraction of orders in which two documents keep the same one is the estimate. Two documents are
compared if they agree in all orders of at least one band.

References: Broder, "On the resemblance and containment of documents", 1997; Leskovec, Rajaraman
& Ullman, "Mining of Massive Datasets", chapter 3.
"""

import hashlib

import numpy as np

from .documents import without_space
from .segmentation import codes_of
from .stateless_random import keys

__all__ = ["ORDERS", "digest", "nearly_repeated", "repeated", "signature"]

SHINGLE = 5
ORDERS = 128
BANDS = 32
AT_ONCE = 1 << 16  # shingles in memory at a time

_MULTIPLIERS = keys(np.arange(ORDERS), 1) | np.uint64(1)
_SUMMANDS = keys(np.arange(ORDERS), 2)


def digest(text):
    """Returns 128 bits of a text's hash, as two uint64; white space does not count."""
    data = hashlib.blake2b(without_space(text).encode("utf-8", "surrogatepass"), digest_size=16)
    return np.frombuffer(data.digest(), "<u8")


def signature(text):
    """Returns the MinHash of a text, `(ORDERS,)` uint32; white space does not count."""
    codes = codes_of(without_space(text))
    size = max(1, min(SHINGLE, len(codes)))
    least = np.full(ORDERS, np.iinfo(np.uint32).max, np.uint32)
    for begin in range(0, len(codes) - size + 1, AT_ONCE):
        shingles = _shingles(codes[begin : begin + AT_ONCE + size - 1], size)
        for first in range(0, len(shingles), 1024):
            block = shingles[first : first + 1024, None] * _MULTIPLIERS + _SUMMANDS
            least = np.minimum(least, (block >> np.uint64(32)).astype(np.uint32).min(0))
    return least


def _shingles(codes, size):
    """Returns the hashes of the distinct shingles of an array of characters."""
    codes = codes.astype(np.uint64)
    shingles = np.zeros(len(codes) - size + 1, np.uint64)
    for i in range(size):
        shingles = (shingles ^ codes[i : i + len(shingles)]) * np.uint64(0x9E3779B97F4A7C15)
    return np.unique(shingles ^ (shingles >> np.uint64(29)))


def repeated(digests):
    """Finds documents that are equal to an earlier one.

    Args:
        digests: `(documents, 2)` uint64.

    Returns:
        A bool array `(documents,)`.
    """
    order = np.lexsort(digests.T)  # stable: the first of equal documents comes first
    equal = np.ones(max(len(digests) - 1, 0), bool)
    for column in digests.T:
        in_order = column[order]
        equal &= in_order[1:] == in_order[:-1]
    duplicate = np.zeros(len(digests), bool)
    duplicate[order[1:][equal]] = True
    return duplicate


def nearly_repeated(signatures, threshold):
    """Finds documents that are similar to an earlier one.

    In each band, a document is compared with the first one that agrees with it in this band.

    Args:
        signatures: `(documents, ORDERS)` uint32.
        threshold: the least similarity, from 0 to 1.

    Returns:
        A bool array `(documents,)`.
    """
    duplicate = np.zeros(len(signatures), bool)
    for band in np.split(signatures, BANDS, axis=1):
        _, first, groups = np.unique(band, axis=0, return_index=True, return_inverse=True)
        first = first[groups.ravel()]
        (later,) = np.nonzero(~duplicate & (first < np.arange(len(first))))
        for begin in range(0, len(later), 1 << 16):
            block = later[begin : begin + (1 << 16)]
            similarity = (signatures[block] == signatures[first[block]]).mean(1)
            duplicate[block] = similarity >= threshold
    return duplicate
