"""A knowledge base in memory, and what task_entity_linking.py reads of texts and entries."""

from collections import Counter, defaultdict
from itertools import pairwise
from math import log1p

import numpy as np

from bert4keras_lite.data import sequence_padding
from bert4keras_lite.spans import character_spans, token_spans


class Index:
    """Names of a knowledge base: where they are in a text, and which entries have them.

    Args:
        entries: dicts with `"id"` and `"names"`.

    Example:
        >>> index = Index([{"id": 1, "names": ["长城"]}, {"id": 2, "names": ["长城", "长城汽车"]}])
        >>> index.matches("我去长城"), index.candidates("长城", 8)
        ([(2, 4)], [1, 2])
    """

    COMMON = 1000  # two characters that stand in more names than this tell nothing

    def __init__(self, entries):
        self.owners, self.with_pair = defaultdict(list), defaultdict(list)
        for entry in entries:
            for name in {name.lower(): None for name in entry["names"]}:
                self.owners[name].append(entry["id"])
        for name in self.owners:
            for pair in {*pairwise(name)}:
                self.with_pair[pair].append(name)
        self.longest = max(map(len, self.owners))

    def matches(self, text):
        """The names in a text, `[(start, end), ...]`: left to right, the longest at each place."""
        text, start, matches = text.lower(), 0, []
        while start < len(text):
            ends = range(min(len(text), start + self.longest), start + 1, -1)
            end = next((end for end in ends if text[start:end] in self.owners), None)
            if end:
                matches.append((start, end))
            start = end or start + 1
        return matches

    def candidates(self, name, count):
        """At most `count` entries: of this name, then of those that share most pairs with it."""
        name, alike = name.lower(), Counter()
        for pair in dict.fromkeys(pairwise(name)):  # in order: the same candidates in every run
            if len(self.with_pair.get(pair, ())) <= self.COMMON:
                alike.update(self.with_pair.get(pair, ()))
        near = sorted(alike, key=lambda other: -alike[other] / (len(other) + len(name)))
        names = [name] * (name in self.owners) + near[:count]
        return [*dict.fromkeys(number for name in names for number in self.owners[name])][:count]


class Knowledge:
    """The index, and how names were used in the texts to train on.

    Args:
        entries: as in the kb.json of prepare_entity_linking.py.
        samples: (text, mentions `(start, end, id)`) to count in.
        most: so many candidates a mention.
    """

    NAME_FEATURES = 4  # of a token: a known name begins, ends, goes on; how often it was a mention
    FEATURES = 6  # of a mention and a candidate

    def __init__(self, entries, samples, most):
        self.entries = {entry["id"]: entry for entry in entries}
        self.index, self.most = Index(entries), most
        self.meant = defaultdict(Counter)  # name -> how often it meant an entry
        self.occurrences = Counter()  # name -> how often it was in a text
        for text, mentions in samples:
            spans = {(start, end): number for start, end, number in mentions}
            names = {*spans, *self.index.matches(text)}
            self.occurrences.update(text[a:b].lower() for a, b in names)
            for (start, end), number in spans.items():
                self.meant[text[start:end].lower()][number] += 1

    def names(self, text, true=None):
        """The known names in a text: `(start, end, how often this name was a mention)`.

        Args:
            true: the mentions, where `text` is one to train on; what was counted for a place is
                taken away again for it.
        """
        spans = {(start, end) for start, end, _ in true or ()}
        for start, end in self.index.matches(text):
            name = text[start:end].lower()
            times = self.meant[name].total() if name in self.meant else 0
            times -= (start, end) in spans
            total = self.occurrences[name] - (true is not None)
            yield start, end, (times + 0.5) / (total + 1)

    def candidates(self, name):
        return self.index.candidates(name, self.most)

    def most_met(self, name):
        """The candidate that this name meant most often, or else the first; "" without any."""
        times = self.meant.get(name.lower(), Counter())
        return max(self.candidates(name), key=lambda number: times[number], default="")

    def features(self, text, start, end, number, true=None):
        """What speaks for a candidate: in training, in its names, in what it shares with a text.

        Args:
            number: of the candidate.
            true: the right one, where `text` is one to train on; what was counted for this very
                mention is taken away again.
        """
        name, entry = text[start:end].lower(), self.entries[number]
        context = f"{text[:start]}\n{text[end:]}".lower()
        counted = self.meant.get(name, Counter())
        times = counted[number] - (number == true)
        shared = {*pairwise(context)} & {*pairwise(entry["text"].lower())}
        return [
            times / max(1, counted.total() - (true is not None)),
            float(times > 0),
            float(name == entry["names"][0].lower()),
            float(name in map(str.lower, entry["names"])),
            float(any(value in context for value in entry["values"])),
            log1p(len(shared)),
        ]


class Inputs:
    """Texts, mentions and entries as inputs of the models, arrays of fixed shapes.

    Args:
        tokenizer, known: the tokenizer, and the `Knowledge`.
        maxlen: most tokens of a text.
        maxpair: most tokens of a text and the description of an entry.
    """

    def __init__(self, tokenizer, known, maxlen, maxpair):
        self.tokenizer, self.known, self.maxlen, self.maxpair = tokenizer, known, maxlen, maxpair

    def offsets(self, text):
        return self.tokenizer.encode(text, maxlen=self.maxlen, return_offsets=True)[2]

    def text(self, text, true=None):
        """Token ids, and for each token what the names of the knowledge base say."""
        features = np.zeros((self.maxlen, self.known.NAME_FEATURES), "float32")
        names = {*self.known.names(text, true)}
        for first, after, share in token_spans(names, self.offsets(text)):
            features[first, 0] = features[after - 1, 1] = 1  # begins, ends
            features[first:after, 2:] = 1, share
        return {"ids": self.ids(text), "name_features": features}

    def ids(self, text):
        return padded(self.tokenizer.encode(text, maxlen=self.maxlen)[0], self.maxlen)

    def pair(self, text, span, number, true=None):
        """A mention in a text, and an entry: what is read, and what is known before reading."""
        [(first, after, _)] = token_spans({(*span, "")}, self.offsets(text))
        entry = self.known.entries[number]["text"]
        ids, segments = self.tokenizer.encode(text, entry, maxlen=self.maxpair)
        return {
            "ids": self.ids(text),
            "positions": np.array([first, after - 1], "int32"),
            "pair_ids": padded(ids, self.maxpair),
            "pair_segments": padded(segments, self.maxpair),
            "pair_features": np.array(self.known.features(text, *span, number, true), "float32"),
        }

    def mentions(self, text, marks):
        """The mentions in a text, `(start, end)`: each begin with the nearest end from there on.

        Args:
            marks: `(maxlen, 2)`, whether a mention begins at a token, and whether it ends there.
        """
        offsets, mentions, after = self.offsets(text), set(), 0
        marks = marks[: len(offsets)]
        for start in np.flatnonzero(marks[:, 0]):
            lasts = np.flatnonzero(marks[start:, 1])
            if start >= after and len(lasts) and offsets[start][1]:
                after = int(start + lasts[0] + 1)
                mentions.add((int(start), after, ""))
        return {(start, end) for start, end, _ in character_spans(mentions, offsets) if end > start}


def padded(numbers, length):
    return sequence_padding([numbers], length)[0].astype("int32")
