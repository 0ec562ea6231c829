"""5-gram model of a corpus, a baseline for language models.

    python -m pretraining.ngrams --corpus WORK/lm --heldout WORK/heldout-lm [--order 5]

prints the perplexity per token of the held-out rows, each row by itself. It takes about 50 bytes of
memory for each token and length of n-grams.
"""

import argparse
import sys

import numpy as np

from bert4keras_lite.arguments import complain, within

from .batches import decoded, manifests_of, shards_of
from .files import MISTAKES

__all__ = ["main"]

AT_ONCE = 1000  # records to decode together
BITS = 20  # bits of a token id
UNKNOWN = (1 << 42) - 1  # a context that is not in any row


def rows_of(corpus, manifest):
    """Reads all rows of a corpus of mode `lm`.

    Returns:
        `(ids, lengths)`: the token ids of all rows, concatenated, and the lengths of the rows.

    Raises:
        ValueError: the corpus is damaged, has no token, or ids of more than `BITS` bits.
    """
    if manifest["vocab_size"] > 1 << BITS:
        raise ValueError(
            f"{corpus}: vocab_size: expected at most {1 << BITS}, got {manifest['vocab_size']}."
        )
    ids, lengths = [], []
    for shard in shards_of(corpus, manifest):
        for begin in range(0, len(shard), AT_ONCE):
            records = [shard[i] for i in range(begin, min(begin + AT_ONCE, len(shard)))]
            features, row_lengths = decoded(records, ("token_ids",), manifest, corpus)
            ids.append(features["token_ids"])
            lengths.append(row_lengths)
    ids = np.concatenate(ids)
    if not len(ids):
        raise ValueError(f"{corpus}: expected tokens, got empty rows only.")
    return ids, np.concatenate(lengths)


class KneserNey:
    """N-gram model with modified, interpolated Kneser-Ney smoothing (three discounts).

    Args:
        ids, lengths: the training rows, see `rows_of`.
        vocab_size: number of tokens in the vocabulary.
        order: number of tokens in an n-gram. Default 5.

    Reference:
        Chen and Goodman, "An empirical study of smoothing techniques for language modeling",
        Harvard TR-10-98, section 3: modified Kneser-Ney smoothing, interpolated.
    """

    def __init__(self, ids, lengths, vocab_size, order=5):
        self.vocab_size = vocab_size
        self.levels = []
        keys = _keys(ids, lengths)
        for n in range(1, order + 1):
            known, first, numbers = np.unique(keys, return_index=True, return_inverse=True)
            keys = _keys(ids, lengths, numbers)
            if n == order:
                counts = np.bincount(numbers)
            else:  # the number of distinct tokens before it, not the number of occurrences
                _, first = np.unique(keys, return_index=True)
                counts = np.bincount(numbers[first], minlength=len(known))
            self.levels.append(_Level(known, counts))

    def probabilities(self, ids, lengths):
        """Returns the probability of each token given those before it in its row: `(tokens,)`."""
        keys = _keys(ids, lengths)
        p = np.full(len(keys), 1 / self.vocab_size)
        for level in self.levels:
            numbers = level.find(keys)
            p = level.interpolated(keys >> BITS, numbers, p)
            keys = _keys(ids, lengths, numbers)
        return p

    def perplexity(self, ids, lengths):
        """Returns the perplexity per token of rows."""
        return float(np.exp(-np.log(self.probabilities(ids, lengths)).mean()))


def _keys(ids, lengths, numbers=None):
    """Returns a key of each token and its context: `context << BITS | token`.

    Args:
        ids, lengths: see `rows_of`.
        numbers: the numbers of the n-grams that end at each token (-1: unknown); the one that ends
            before a token is its context. Default None: no context.
    """
    contexts = np.zeros(len(ids), "int64")
    if numbers is not None:
        contexts[1:] = np.where(numbers < 0, UNKNOWN, numbers + 1)[:-1]
        begins = np.cumsum(lengths) - lengths
        contexts[begins[lengths > 0]] = 0
    return contexts << BITS | ids


class _Level:
    """Counts of the n-grams of one length, and the mass that is discounted for shorter ones."""

    def __init__(self, known, counts):
        self.known = known
        n = [np.count_nonzero(counts == k) for k in (1, 2, 3, 4)]
        y = n[0] / max(n[0] + 2 * n[1], 1)
        discounts = [k - (k + 1) * y * n[k] / max(n[k - 1], 1) for k in (1, 2, 3)]
        taken = np.clip([0, *discounts], 0, range(4))[np.minimum(counts, 3)]
        self.kept = counts - taken
        self.totals = np.bincount(known >> BITS, counts)
        self.left = np.bincount(known >> BITS, taken)

    def find(self, keys):
        """Returns the numbers of n-grams by their keys; -1 for unknown ones."""
        at = np.minimum(np.searchsorted(self.known, keys), len(self.known) - 1)
        return np.where(self.known[at] == keys, at, -1)

    def interpolated(self, contexts, ids, shorter):
        """Returns probabilities, interpolated with those of contexts shorter by one token."""
        known = contexts < len(self.totals)
        at = np.where(known, contexts, 0)
        known &= self.totals[at] > 0
        total = np.where(known, self.totals[at], 1)
        kept = np.where(ids >= 0, self.kept[ids], 0)
        return np.where(known, (kept + self.left[at] * shorter) / total, shorter)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", required=True, metavar="DIR")
    parser.add_argument("--heldout", required=True, metavar="DIR")
    parser.add_argument("--order", type=within(1, 64), default=5)
    options = parser.parse_args(arguments)
    corpora = options.corpus, options.heldout
    try:
        manifests = manifests_of(dict.fromkeys(corpora, 1))
        train, held_out = (rows_of(corpus, manifests[corpus]) for corpus in corpora)
    except MISTAKES as error:
        complain(error)
        return 1
    model = KneserNey(*train, manifests[options.corpus]["vocab_size"], options.order)
    print(
        f"{options.order}-grams of {len(train[0]):,} tokens: perplexity"
        f" {model.perplexity(*held_out):.2f} of {len(held_out[0]):,} tokens"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
