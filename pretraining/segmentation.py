"""The words of a text as jieba finds them, for much text at once.

jieba looks at one sentence after the other, in Python. Here the same dictionary is a hash table
of NumPy and all stretches of a text take each step of the search for the likeliest words together,
which is several times faster. The words are jieba's, to the last one; only a stretch of more than 4,000
characters without punctuation or space, which takes jieba minutes, is cut into several.

Reference: https://github.com/fxsj/jieba, version 0.42 (the algorithm: words of the dictionary by
the highest product of frequencies, new words by a hidden Markov model).
"""

import logging
from itertools import accumulate
from math import log

import numpy as np

from bert4keras_lite.tokenizers.base import Memo
from bert4keras_lite.tokenizers.words import with_dictionary

# Longer stretches (there are hardly any but in junk) are left to jieba itself: few stretches that
# take a step together would make the step dear.
LONGEST = 400
CUT = 4000  # and not more of them at once: its seconds grow with the square

_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def _stretch_characters():
    """For each code of the basic plane, whether jieba looks for words among such characters."""
    table = np.zeros(1 << 16, bool)
    table[0x4E00 : 0x9FD5 + 1] = True
    table[[ord(c) for c in "0123456789+#&._%-"]] = True
    for first, last in ("az", "AZ"):
        table[ord(first) : ord(last) + 1] = True
    return table


_IN_STRETCH = _stretch_characters()
_LETTER_OR_DIGIT = np.array([chr(code).isalnum() for code in range(128)])


def codes_of(text):
    """The code points of a text, as an array of uint32."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _runs(mask):
    """Where the runs of true values begin and end."""
    padded = np.zeros(len(mask) + 2, bool)
    padded[1:-1] = mask
    return np.flatnonzero(padded[1:] != padded[:-1]).reshape(-1, 2).T


def _extend(keys, codes):
    """The hash of strings of which `keys` are the hashes and `codes` the next characters."""
    return (keys ^ codes.astype(np.uint64)) * _FACTOR


class _Dictionary:
    """jieba's words and their beginnings, in a hash table with open addressing.

    `scores` are logarithms of relative frequencies; -inf where there are only longer words.
    """

    def __init__(self, frequencies, total):
        keys, scores = self._entries(frequencies, log(total))
        bits = max(4, (4 * len(keys)).bit_length())
        self._shift, self._last = np.uint64(64 - bits), (1 << bits) - 1
        # 0 is an empty place
        self.keys = np.zeros(1 << bits, np.uint64)
        self.scores = np.zeros(1 << bits)
        slots, pending = self._first_slots(keys), np.arange(len(keys))
        while pending.size:
            free = pending[self.keys[slots[pending]] == 0]
            self.keys[slots[free]] = keys[free]
            here = self.keys[slots[pending]] == keys[pending]
            self.scores[slots[pending[here]]] = scores[pending[here]]
            pending = pending[~here]
            slots[pending] = (slots[pending] + 1) & self._last
        if np.count_nonzero(self.keys) < len(keys):
            raise RuntimeError("two words of jieba's dictionary have one hash; change _FACTOR")

    @staticmethod
    def _entries(frequencies, log_total):
        by_length = {}
        for word, frequency in frequencies.items():
            words, numbers = by_length.setdefault(len(word), ([], []))
            words.append(word)
            numbers.append(frequency)
        all_keys, scores = [], []
        for length, (words, numbers) in by_length.items():
            keys = np.zeros(len(words), np.uint64)
            for column in codes_of("".join(words)).reshape(len(words), length).T:
                keys = _extend(keys, column)
            all_keys.append(keys)
            # Not np.log, whose last bit may be another than that of jieba's numbers.
            scores += [log(number) - log_total if number else -np.inf for number in numbers]
        return np.concatenate(all_keys), np.array(scores)

    def _first_slots(self, keys):
        return (keys >> self._shift).astype(np.int64)

    def find(self, keys):
        """The slots of keys, and whether they are there at all."""
        slots = self._first_slots(keys)
        held = self.keys[slots]
        found = held == keys
        (others,) = np.nonzero(~found & (held != 0))
        while others.size:
            slots[others] = (slots[others] + 1) & self._last
            held = self.keys[slots[others]]
            found[others] = held == keys[others]
            others = others[~found[others] & (held != 0)]
        return slots, found


class _Layout:
    """An order of the characters of many stretches, in which a step of the search is a slice.

    Stretches are sorted by length, the longest first; `bounds[t]` is where the characters begin
    that have `t` characters behind them in their stretch, one of each stretch longer than that.
    """

    def __init__(self, begins, ends):
        order = np.argsort(begins - ends, kind="stable")
        self.begins, self.ends = begins[order], ends[order]
        self.lengths = self.ends - self.begins
        longest = int(self.lengths[0])
        # how many stretches are longer than t
        self.counts = np.searchsorted(-self.lengths, -np.arange(longest), side="left")
        self.bounds = np.concatenate([[0], np.cumsum(self.counts)])
        self.behind = np.repeat(np.arange(longest), self.counts)
        rows = np.arange(self.bounds[-1]) - self.bounds[self.behind]
        self.positions = self.ends[rows] - 1 - self.behind


class _NewWords:
    """jieba's hidden Markov model: each character begins a word (B), is within (M) or ends one
    (E), or is one by itself (S).

    Of equally likely states the one that comes last in the alphabet is taken, as in jieba; hence
    their order, and that of the two states that each may follow.
    """

    STATES = "BEMS"
    PREVIOUS = (("E", "S"), ("B", "M"), ("B", "M"), ("E", "S"))

    def __init__(self):
        from jieba import finalseg

        never = finalseg.MIN_FLOAT
        self._start = np.array([finalseg.start_P[state] for state in self.STATES])
        self._steps = [
            [(self.STATES.index(y), finalseg.trans_P[y].get(state, never)) for y in previous]
            for state, previous in zip(self.STATES, self.PREVIOUS, strict=True)
        ]
        self._emitted = np.full((4, 1 << 16), never)
        for row, state in zip(self._emitted, self.STATES, strict=True):
            row[[ord(char) for char in finalseg.emit_P[state]]] = list(
                finalseg.emit_P[state].values()
            )

    def word_starts(self, codes, layout):
        """For each character in the order of the layout, whether a word begins with it."""
        emitted = self._emitted[:, codes[layout.positions]]
        came_from = np.zeros(emitted.shape, np.int8)
        paths, bounds, counts = np.zeros((4, 0)), layout.bounds, layout.counts
        for behind in reversed(range(len(counts))):
            going_on, begin = paths.shape[1], bounds[behind]
            here = slice(begin, begin + going_on)
            new = emitted[:, begin + going_on : begin + counts[behind]] + self._start[:, None]
            scores = np.empty_like(paths)
            for state, ((first, to_first), (last, to_last)) in enumerate(self._steps):
                one = paths[first] + to_first + emitted[state, here]
                other = paths[last] + to_last + emitted[state, here]
                came_from[state, here] = np.where(other >= one, last, first)
                scores[state] = np.maximum(one, other)
            paths = np.concatenate([scores, new], axis=1)
        end, alone = self.STATES.index("E"), self.STATES.index("S")
        states = np.where(paths[alone] >= paths[end], alone, end)
        starts = np.empty(len(layout.positions), bool)
        for behind, count in enumerate(counts.tolist()):
            here = bounds[behind] + np.arange(count)
            states = states[:count]
            starts[here] = (states == self.STATES.index("B")) | (states == alone)
            starts[here[layout.lengths[:count] == behind + 1]] = True
            states = came_from[states, here]
        return starts


class Segmenter:
    """Finds where jieba's words begin.

    Args:
        new_words: also find words that the dictionary lacks, by jieba's hidden Markov model
            (`HMM=True`).
        tokenizer: a `jieba.Tokenizer` with another dictionary; the default is jieba's own.

    Example:
        >>> Segmenter().word_starts("我来到北京")
        array([ True,  True, False,  True, False])
    """

    def __init__(self, new_words=True, tokenizer=None):
        import jieba

        jieba.setLogLevel(logging.WARNING)
        self._jieba = with_dictionary(tokenizer)
        self._new_words = new_words
        self._unknown = -log(self._jieba.total)
        self._dictionary = _Dictionary(self._jieba.FREQ, self._jieba.total)
        self._hidden = _NewWords() if new_words else None
        self._joined = Memo(self._compute_joined, longest=12)

    def word_starts(self, text):
        """For each character of a text, whether a word begins with it: an array of bool.

        Characters that are in no word for jieba (punctuation, spaces) stand alone.
        """
        codes = codes_of(text)
        begins, ends = _runs((codes < 1 << 16) & _IN_STRETCH[np.minimum(codes, 0xFFFF)])
        starts = np.ones(len(codes), bool)
        short = ends - begins <= LONGEST
        for begin, end in zip(begins[~short].tolist(), ends[~short].tolist(), strict=True):
            starts[begin:end] = False
            for first in range(begin, end, CUT):
                words = self._jieba.lcut(text[first : min(first + CUT, end)], HMM=self._new_words)
                starts[first + np.cumsum([0, *map(len, words[:-1])])] = True
        if short.any():
            layout = _Layout(begins[short], ends[short])
            sizes = self._likeliest(codes, layout)
            self._mark(starts, layout, sizes)
            join = self._join_new_words if self._new_words else self._join_letters
            join(text, codes, starts, self._singles(starts, layout))
        return starts

    def _edges(self, codes, layout):
        """For each length of words the scores of the words that begin at each character."""
        scores, at = [], np.arange(len(layout.positions))
        nothing = np.ones(len(at), bool)
        keys = np.zeros(len(at), np.uint64)
        while at.size:
            length = len(scores) + 1
            keys = _extend(keys, codes[layout.positions[at] + length - 1])
            slots, found = self._dictionary.find(keys)
            at, keys = at[found], keys[found]
            level = np.full(len(layout.positions), -np.inf)
            level[at] = self._dictionary.scores[slots[found]]
            nothing &= np.isneginf(level)
            scores.append(level)
            more = layout.behind[at] >= length
            at, keys = at[more], keys[more]
        scores[0][nothing] = self._unknown
        return scores

    def _likeliest(self, codes, layout):
        """For each character the length of the word that begins with it on the best path."""
        scores = self._edges(codes, layout)
        best = np.full(len(layout.positions), -np.inf)
        sizes = np.ones(len(layout.positions), np.int64)
        bounds = layout.bounds.tolist()
        for behind, count in enumerate(layout.counts.tolist()):
            here = slice(bounds[behind], bounds[behind] + count)
            for size, level in enumerate(scores[: behind + 1], 1):
                rest = 0.0
                if size <= behind:
                    there = bounds[behind - size]
                    rest = best[there : there + count]
                candidate = level[here] + rest
                # of equals the longer word, as jieba has it
                better = candidate >= best[here]
                best[here][better] = candidate[better]
                sizes[here][better] = size
        return sizes

    @staticmethod
    def _mark(starts, layout, sizes):
        """Walks along the best paths, and leaves `starts` true at the words' first characters."""
        starts[layout.positions] = False
        rows, behind = np.arange(len(layout.begins)), layout.lengths - 1
        while rows.size:
            at = layout.bounds[behind] + rows
            starts[layout.positions[at]] = True
            behind = behind - sizes[at]
            rows, behind = rows[behind >= 0], behind[behind >= 0]

    @staticmethod
    def _singles(starts, layout):
        """Which characters are words by themselves."""
        single = np.zeros(len(starts), bool)
        single[layout.positions] = starts[layout.positions]
        # Behind a stretch there is always a start, or the end of the text.
        single[:-1] &= starts[1:]
        return single

    @staticmethod
    def _join_letters(text, codes, starts, single):
        """Makes words of neighbouring single letters and digits."""
        letters = single & (codes < 128) & _LETTER_OR_DIGIT[np.minimum(codes, 127)]
        starts[1:][letters[1:] & letters[:-1]] = False

    def _join_new_words(self, text, codes, starts, single):
        """Looks for new words among neighbouring single characters."""
        run = np.zeros(len(codes), bool)
        for begin, end in np.transpose(_runs(single)).tolist():
            # jieba leaves alone what is a word of the dictionary, only an unlikely one here
            if end - begin > 1 and not self._jieba.FREQ.get(text[begin:end]):
                run[begin:end] = True
        chinese = run & (codes >= 0x4E00)
        begins, ends = _runs(chinese)
        if begins.size:
            layout = _Layout(begins, ends)
            starts[layout.positions] = self._hidden.word_starts(codes, layout)
        for begin, end in np.transpose(_runs(run & ~chinese)).tolist():
            if end - begin > 1:
                starts[[begin + i for i in self._joined[text[begin:end]]]] = False

    @staticmethod
    def _compute_joined(run):
        """Which characters of a run of letters, digits and signs go on with the word before."""
        from jieba import finalseg

        begins = {0, *accumulate(map(len, finalseg.cut(run)))}
        return [i for i in range(len(run)) if i not in begins]
