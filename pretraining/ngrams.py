"""A 5-gram model of a corpus: what a language model has to be better than.

    python -m pretraining.ngrams --corpus WORK/lm --heldout WORK/heldout-lm [--order 5]

prints the perplexity of the rows held out, token by token, each row by itself.
"""

import argparse
import sys

import numpy as np

from bert4keras_lite.arguments import within

from .batches import read_manifest
from .files import join
from .shards import Shard, decode_examples

BITS = 20  # of the id of a token
UNKNOWN = (1 << 42) - 1  # a context that is in no row


def rows_of(corpus):
    """The rows of a corpus of mode `lm`, filled up with `-1`: `(rows, length)`."""
    manifest = read_manifest(corpus)
    rows = []
    for described in manifest["shards"]:
        shard = Shard(join(corpus, described["name"]))
        records = [shard[i] for i in range(described["examples"])]
        features, lengths = decode_examples(records, ("token_ids",))
        filled = np.full((len(lengths), manifest["record_length"]), -1, "int64")
        filled[np.arange(filled.shape[1]) < np.asarray(lengths)[:, None]] = features["token_ids"]
        rows.append(filled)
    return np.concatenate(rows)


class KneserNey:
    """Interpolated Kneser-Ney smoothing with three discounts.

    Args:
        rows: ids of tokens, `(rows, length)`, filled up with `-1`.
        vocab_size: of the tokens.
        order: tokens of an n-gram.

    Reference:
        Chen and Goodman, "An empirical study of smoothing techniques for language modeling",
        Harvard TR-10-98, section 3: modified Kneser-Ney smoothing, interpolated.
    """

    def __init__(self, rows, vocab_size, order=5):
        self.vocab_size = vocab_size
        self.levels = []
        places = rows >= 0
        keys = _keys(rows, places)
        for n in range(1, order + 1):
            known, first, ids = np.unique(keys, return_index=True, return_inverse=True)
            keys = _keys(rows, places, ids)
            if n == order:
                counts = np.bincount(ids)
            else:  # how many tokens it follows, not how often it occurs
                _, first = np.unique(keys, return_index=True)
                counts = np.bincount(ids[first], minlength=len(known))
            self.levels.append(_Level(known, counts))

    def probabilities(self, rows):
        """Of each token of some rows, given the tokens before it in its row: `(tokens,)`."""
        places = rows >= 0
        keys = _keys(rows, places)
        p = np.full(len(keys), 1 / self.vocab_size)
        for level in self.levels:
            ids = level.find(keys)
            p = level.interpolated(keys >> BITS, ids, p)
            keys = _keys(rows, places, ids)
        return p

    def perplexity(self, rows):
        return float(np.exp(-np.log(self.probabilities(rows)).mean()))


def _keys(rows, places, ids=None):
    """A number for each token with what stands before it: `context << BITS | token`.

    Args:
        rows, places: ids of tokens, and which there are.
        ids: numbers of the n-grams that end at each token (-1: unknown), of which the one before it
            is its context; None: no context.
    """
    contexts = np.zeros(rows.shape, "int64")
    if ids is not None:
        contexts[places] = np.where(ids < 0, UNKNOWN, ids + 1)
        contexts = np.roll(contexts, 1, axis=1)
        contexts[:, 0] = 0  # the beginning of a row
    return contexts[places] << BITS | rows[places]


class _Level:
    """Counts of the n-grams of one length, and what they leave to shorter ones."""

    def __init__(self, known, counts):
        self.known = known
        n = [np.count_nonzero(counts == k) for k in (1, 2, 3, 4)]
        share = n[0] / max(n[0] + 2 * n[1], 1)
        discounts = [k - (k + 1) * share * n[k] / max(n[k - 1], 1) for k in (1, 2, 3)]
        taken = np.clip([0, *discounts], 0, range(4))[np.minimum(counts, 3)]
        self.kept = counts - taken
        self.totals = np.bincount(known >> BITS, counts)
        self.left = np.bincount(known >> BITS, taken)

    def find(self, keys):
        """The numbers of n-grams; -1: unknown."""
        at = np.minimum(np.searchsorted(self.known, keys), len(self.known) - 1)
        return np.where(self.known[at] == keys, at, -1)

    def interpolated(self, contexts, ids, shorter):
        """Probabilities, from those that one token less of context gives."""
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
    try:
        rows, held_out = rows_of(options.corpus), rows_of(options.heldout)
        vocab_size = read_manifest(options.corpus)["vocab_size"]
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    model = KneserNey(rows, vocab_size, options.order)
    print(
        f"{options.order}-grams of {(rows >= 0).sum():,} tokens: perplexity"
        f" {model.perplexity(held_out):.2f} of {(held_out >= 0).sum():,} tokens"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
