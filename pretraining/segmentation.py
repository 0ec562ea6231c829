"""Fast jieba word segmentation of long texts with NumPy.

jieba processes one sentence after the other in Python. Here the same dictionary is a NumPy hash
table, and the dynamic program for the most probable words runs on all stretches of a text in
parallel, which is several times faster. The words are exactly jieba's, except that stretches of
more than 4,000 characters without punctuation or space, which take jieba minutes, are split.

Reference: https://github.com/fxsj/jieba, version 0.42 (the algorithm: words of the dictionary by
the highest product of frequencies, new words by a hidden Markov model).
"""

import logging
from itertools import accumulate
from math import log

import numpy as np

from bert4keras_lite.tokenizers.base import Memo
from bert4keras_lite.tokenizers.words import with_dictionary

__all__ = ["Segmenter", "codes_of"]

# Longer stretches, which are rare except in junk, are left to jieba itself: a step for few
# stretches is not efficient.
LONGEST = 400
CUT = 4000  # characters to pass to jieba at a time, as its time grows with the square

_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def _stretch_characters():
    """Returns for each code of the basic plane whether the character can be in a word of jieba."""
    table = np.zeros(1 << 16, bool)
    table[0x4E00 : 0x9FD5 + 1] = True
    table[[ord(c) for c in "0123456789+#&._%-"]] = True
    for first, last in ("az", "AZ"):
        table[ord(first) : ord(last) + 1] = True
    return table


_IN_STRETCH = _stretch_characters()
_LETTER_OR_DIGIT = np.array([chr(code).isalnum() for code in range(128)])


def codes_of(text):
    """Returns the code points of a text, as an array of uint32."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _runs(mask):
    """Returns the begins and ends of the runs of true values."""
    padded = np.zeros(len(mask) + 2, bool)
    padded[1:-1] = mask
    return np.flatnonzero(padded[1:] != padded[:-1]).reshape(-1, 2).T


def _extend(keys, codes):
    """Returns the hashes of strings with one more character, given their hashes so far."""
    return (keys ^ codes.astype(np.uint64)) * _FACTOR


class _Dictionary:
    """Hash table of jieba's words and their prefixes, with open addressing.

    Attributes:
        keys: hashes; 0 for an empty slot.
        log_probs: logarithms of relative frequencies; -inf for prefixes that are not words.
    """

    def __init__(self, frequencies, total):
        keys, log_probs = self._entries(frequencies, log(total))
        bits = max(4, (4 * len(keys)).bit_length())
        self._shift, self._last = np.uint64(64 - bits), (1 << bits) - 1
        self.keys = np.zeros(1 << bits, np.uint64)
        self.log_probs = np.zeros(1 << bits)
        slots, pending = self._first_slots(keys), np.arange(len(keys))
        while pending.size:
            free = pending[self.keys[slots[pending]] == 0]
            self.keys[slots[free]] = keys[free]
            placed = self.keys[slots[pending]] == keys[pending]
            self.log_probs[slots[pending[placed]]] = log_probs[pending[placed]]
            pending = pending[~placed]
            slots[pending] = (slots[pending] + 1) & self._last
        if np.count_nonzero(self.keys) < len(keys):
            raise RuntimeError(
                "two words of jieba's dictionary have the same hash; change _FACTOR."
            )

    @staticmethod
    def _entries(frequencies, log_total):
        by_length = {}
        for word, frequency in frequencies.items():
            words, numbers = by_length.setdefault(len(word), ([], []))
            words.append(word)
            numbers.append(frequency)
        all_keys, log_probs = [], []
        for length, (words, numbers) in by_length.items():
            keys = np.zeros(len(words), np.uint64)
            for column in codes_of("".join(words)).reshape(len(words), length).T:
                keys = _extend(keys, column)
            all_keys.append(keys)
            # Not np.log, whose last bit may differ from math.log, which jieba uses.
            log_probs += [log(number) - log_total if number else -np.inf for number in numbers]
        return np.concatenate(all_keys), np.array(log_probs)

    def _first_slots(self, keys):
        return (keys >> self._shift).astype(np.int64)

    def find(self, keys):
        """Returns `(slots, found)`: the slots of keys, and whether each key is in the table."""
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
    """Order of the characters of many stretches, in which each step of the search is a slice.

    Stretches are sorted by length, longest first. `bounds[t]` is the index of the first character
    with `t` characters after it in its stretch; there is one for each stretch longer than `t`.
    """

    def __init__(self, begins, ends):
        order = np.argsort(begins - ends, kind="stable")
        self.begins, self.ends = begins[order], ends[order]
        self.lengths = self.ends - self.begins
        longest = int(self.lengths[0])
        # counts[t]: number of stretches longer than t
        self.counts = np.searchsorted(-self.lengths, -np.arange(longest), side="left")
        self.bounds = np.concatenate([[0], np.cumsum(self.counts)])
        self.after = np.repeat(np.arange(longest), self.counts)  # characters after each one
        rows = np.arange(self.bounds[-1]) - self.bounds[self.after]
        self.positions = self.ends[rows] - 1 - self.after


class _NewWords:
    """jieba's hidden Markov model of new words.

    Each character begins (B), is within (M) or ends (E) a word, or is a word by itself (S). Of
    equally probable states, jieba takes the last one in the alphabet; hence the order of the
    states, and of the two possible previous states of each.
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
        """Returns whether a word begins with each character, in the order of the layout."""
        emitted = self._emitted[:, codes[layout.positions]]
        came_from = np.zeros(emitted.shape, np.int8)
        paths, bounds, counts = np.zeros((4, 0)), layout.bounds, layout.counts
        for after in reversed(range(len(counts))):
            continued, begin = paths.shape[1], bounds[after]
            step = slice(begin, begin + continued)
            new = emitted[:, begin + continued : begin + counts[after]] + self._start[:, None]
            log_probs = np.empty_like(paths)
            for state, ((first, to_first), (last, to_last)) in enumerate(self._steps):
                by_first = paths[first] + to_first + emitted[state, step]
                by_last = paths[last] + to_last + emitted[state, step]
                came_from[state, step] = np.where(by_last >= by_first, last, first)
                log_probs[state] = np.maximum(by_first, by_last)
            paths = np.concatenate([log_probs, new], axis=1)
        end, alone = self.STATES.index("E"), self.STATES.index("S")
        states = np.where(paths[alone] >= paths[end], alone, end)
        starts = np.empty(len(layout.positions), bool)
        for after, count in enumerate(counts.tolist()):
            step = bounds[after] + np.arange(count)
            states = states[:count]
            starts[step] = (states == self.STATES.index("B")) | (states == alone)
            starts[step[layout.lengths[:count] == after + 1]] = True
            states = came_from[states, step]
        return starts


class Segmenter:
    """Finds the starts of jieba's words.

    Args:
        new_words: whether to find words that are not in the dictionary too, with jieba's hidden
            Markov model (`HMM=True`). Default True.
        tokenizer: a `jieba.Tokenizer` with another dictionary. Default None: jieba's.

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
        self._new_word_model = _NewWords() if new_words else None
        self._joined = Memo(self._compute_joined, longest=12)

    def word_starts(self, text):
        """Returns whether a word begins with each character of a text, a bool array.

        Characters outside of jieba's words (punctuation, spaces) are words by themselves.
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
        """Returns for each length the log-probabilities of words that begin at each character."""
        log_probs, at = [], np.arange(len(layout.positions))
        without_word = np.ones(len(at), bool)
        keys = np.zeros(len(at), np.uint64)
        while at.size:
            length = len(log_probs) + 1
            keys = _extend(keys, codes[layout.positions[at] + length - 1])
            slots, found = self._dictionary.find(keys)
            at, keys = at[found], keys[found]
            level = np.full(len(layout.positions), -np.inf)
            level[at] = self._dictionary.log_probs[slots[found]]
            without_word &= np.isneginf(level)
            log_probs.append(level)
            continues = layout.after[at] >= length
            at, keys = at[continues], keys[continues]
        log_probs[0][without_word] = self._unknown
        return log_probs

    def _likeliest(self, codes, layout):
        """Returns the length of the word that begins at each character on the best path."""
        log_probs = self._edges(codes, layout)
        best = np.full(len(layout.positions), -np.inf)
        sizes = np.ones(len(layout.positions), np.int64)
        bounds = layout.bounds.tolist()
        for after, count in enumerate(layout.counts.tolist()):
            step = slice(bounds[after], bounds[after] + count)
            for size, level in enumerate(log_probs[: after + 1], 1):
                rest = 0.0
                if size <= after:
                    begin = bounds[after - size]
                    rest = best[begin : begin + count]
                candidate = level[step] + rest
                # of equally probable words the longer one, as in jieba
                better = candidate >= best[step]
                best[step][better] = candidate[better]
                sizes[step][better] = size
        return sizes

    @staticmethod
    def _mark(starts, layout, sizes):
        """Follows the best paths, and sets `starts` at the first characters of words."""
        starts[layout.positions] = False
        rows, after = np.arange(len(layout.begins)), layout.lengths - 1
        while rows.size:
            at = layout.bounds[after] + rows
            starts[layout.positions[at]] = True
            after = after - sizes[at]
            rows, after = rows[after >= 0], after[after >= 0]

    @staticmethod
    def _singles(starts, layout):
        """Returns which characters are words by themselves."""
        single = np.zeros(len(starts), bool)
        single[layout.positions] = starts[layout.positions]
        # After a stretch there is always a start, or the end of the text.
        single[:-1] &= starts[1:]
        return single

    @staticmethod
    def _join_letters(text, codes, starts, single):
        """Joins adjacent single letters and digits into words."""
        letters = single & (codes < 128) & _LETTER_OR_DIGIT[np.minimum(codes, 127)]
        starts[1:][letters[1:] & letters[:-1]] = False

    def _join_new_words(self, text, codes, starts, single):
        """Finds new words in adjacent single characters."""
        run = np.zeros(len(codes), bool)
        for begin, end in np.transpose(_runs(single)).tolist():
            # jieba does not touch a run that is a word of its dictionary, though an improbable one
            if end - begin > 1 and not self._jieba.FREQ.get(text[begin:end]):
                run[begin:end] = True
        chinese = run & (codes >= 0x4E00)
        begins, ends = _runs(chinese)
        if begins.size:
            layout = _Layout(begins, ends)
            starts[layout.positions] = self._new_word_model.word_starts(codes, layout)
        for begin, end in np.transpose(_runs(run & ~chinese)).tolist():
            if end - begin > 1:
                starts[[begin + i for i in self._joined[text[begin:end]]]] = False

    @staticmethod
    def _compute_joined(run):
        """Returns the indices in a run of letters, digits and signs that do not begin a word."""
        from jieba import finalseg

        begins = {0, *accumulate(map(len, finalseg.cut(run)))}
        return [i for i in range(len(run)) if i not in begins]
