"""Documents that occur twice, exactly or nearly.

A document is a set of shingles, of five characters each. The share of shingles that two documents
have in common of all that either has is estimated by MinHash: of each of many orders of all
shingles the first one of the document is kept; in that share of the orders, both have the same.
Documents that agree in all orders of some band are compared.

References: Broder, "On the resemblance and containment of documents", 1997; Leskovec, Rajaraman
& Ullman, "Mining of Massive Datasets", chapter 3.
"""

import hashlib

import numpy as np

from .documents import without_space
from .segmentation import codes_of
from .stateless_random import keys

SHINGLE = 5
ORDERS = 128
BANDS = 32
AT_ONCE = 1 << 16  # shingles that are in memory together

_MULTIPLIERS = keys(np.arange(ORDERS), 1) | np.uint64(1)
_SUMMANDS = keys(np.arange(ORDERS), 2)


def digest(text):
    """128 bits of a text's hash, as two uint64; white space does not count."""
    data = hashlib.blake2b(without_space(text).encode("utf-8", "surrogatepass"), digest_size=16)
    return np.frombuffer(data.digest(), "<u8")


def signature(text):
    """The MinHash of a text: `ORDERS` numbers, uint32; white space does not count."""
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
    """The hashes of the different shingles of some characters."""
    codes = codes.astype(np.uint64)
    shingles = np.zeros(len(codes) - size + 1, np.uint64)
    for i in range(size):
        shingles = (shingles ^ codes[i : i + len(shingles)]) * np.uint64(0x9E3779B97F4A7C15)
    return np.unique(shingles ^ (shingles >> np.uint64(29)))


def repeated(digests):
    """Which documents are equal to one before them.

    Args:
        digests: `(documents, 2)` uint64.

    Returns:
        An array of bool.
    """
    order = np.lexsort(digests.T)  # of equal ones, the first one is before the others
    equal = np.ones(max(len(digests) - 1, 0), bool)
    for column in digests.T:
        in_order = column[order]
        equal &= in_order[1:] == in_order[:-1]
    found = np.zeros(len(digests), bool)
    found[order[1:][equal]] = True
    return found


def nearly_repeated(signatures, threshold):
    """Which documents are about the same as one before them.

    In each band a document is compared with the first one that agrees with it there.

    Args:
        signatures: `(documents, ORDERS)` uint32.
        threshold: the least share of common shingles.

    Returns:
        An array of bool.
    """
    found = np.zeros(len(signatures), bool)
    for band in np.split(signatures, BANDS, axis=1):
        _, first, groups = np.unique(band, axis=0, return_index=True, return_inverse=True)
        first = first[groups.ravel()]
        (later,) = np.nonzero(~found & (first < np.arange(len(first))))
        for begin in range(0, len(later), 1 << 16):
            some = later[begin : begin + (1 << 16)]
            alike = (signatures[some] == signatures[first[some]]).mean(1)
            found[some] = alike >= threshold
    return found
