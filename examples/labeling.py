"""What the examples of sequence labelling and of relations share.

The files of the data sets and how they are read, spans of characters as spans of tokens and back,
batches that know their texts. The models, their losses and how their answers are read stand in the
examples themselves.
"""

import re
from itertools import accumulate
from pathlib import Path

import keras
import numpy as np
from json_lines import read_lines, read_text

from bert4keras_lite.data import Batches, pad_samples
from bert4keras_lite.metrics import bio_spans, span_scores, triple_scores

# --- the files -------------------------------------------------------------------------------------

SPLITS = {"train": {"train"}, "valid": {"valid", "dev"}, "test": {"test"}}


def read_splits(directory, read):
    """The samples of a directory's files for train, valid (or dev) and test, by split.

    A file belongs to the split that stands in its name between dots, underscores or hyphens:
    `dev.json`, `example.dev`, `train_data.json`. Without a test file that has labels, the valid
    samples are those of the test too.

    Args:
        directory: where the files are.
        read: reads the samples `(text, labels)` of a file.
    """
    samples = {}
    for path in sorted(Path(directory).iterdir()):
        for split, names in SPLITS.items():
            if path.is_file() and names & set(re.split("[._-]", path.name)):
                samples[split] = read(path)
    for split in ("train", "valid"):
        if not samples.get(split):
            names = " or ".join(sorted(SPLITS[split]))
            raise SystemExit(f"{directory}: no file with labels has {names} in its name.")
    if not samples.get("test"):
        print(f"{directory}: no test file with labels; scores are those of the valid file.")
        samples["test"] = samples["valid"]
    return samples


def read_blocks(path):
    """The sentences of a file that has a word a line, and an empty line after each sentence."""
    blocks = re.split("\n\n+", read_text(path).strip("\n"))
    return [block.split("\n") for block in blocks]


def read_entities(path):
    """(text, set of (start, end, type)) of CLUENER's JSON lines, or of lines `character BIO-tag`."""
    if path.suffix == ".json":
        return read_lines(path, entities_of, '{"text": ..., "label": {type: {words: spans}}}')
    blocks = [[line.split() for line in block] for block in read_blocks(path)]
    for cells in (cells for block in blocks for cells in block if len(cells) != 2):
        raise SystemExit(f"{path}: expected lines of a character and its tag, found {cells}.")
    # Weibo's characters have their place in the word behind them: 科0 技1
    numbered = all(len(word) > 1 and word[-1].isdigit() for block in blocks for word, _ in block)
    samples = []
    for block in blocks:
        characters = [word[:-1] if numbered else word for word, _ in block]
        ends = [0, *accumulate(map(len, characters))]
        spans = bio_spans([tag for _, tag in block])
        spans = {(ends[start], ends[end], kind) for start, end, kind in spans}
        samples.append(("".join(characters), spans))
    return samples


def entities_of(row):
    """The text of a line of CLUENER with its entities; nothing where these are not told."""
    if "label" not in row:
        return []
    entities = {
        (start, end + 1, kind)
        for kind, mentions in row["label"].items()
        for spans in mentions.values()
        for start, end in spans
    }
    return [(row["text"], entities)]


def read_words(path):
    """(text, set of (start, end, "word")) of CoNLL-U, or of lines of words parted by spaces."""
    if path.suffix.startswith(".conll"):
        rows = [[line.split("\t") for line in block] for block in read_blocks(path)]
        if any(len(cells) < 2 for row in rows for cells in row if cells[0].isdigit()):
            raise SystemExit(f"{path}: expected words in the second column, between tabs.")
        sentences = [[cells[1] for cells in row if cells[0].isdigit()] for row in rows]
    else:
        sentences = map(str.split, read_text(path).strip("\n").split("\n"))
    return [join_words(words) for words in sentences if words]


def join_words(words):
    """A text with no spaces between words, but between Latin ones, and the spans of the words."""
    text, spans = "", set()
    for word in words:
        if re.fullmatch("[A-Za-z0-9]{2}", text[-1:] + word[0]):
            text += " "
        spans.add((len(text), len(text) + len(word), "word"))
        text += word
    return text, spans


def read_triples(path):
    """(text, set of (subject, predicate, object)) of DuIE's JSON lines."""
    return read_lines(path, triples_of, '{"text": ..., "spo_list": [...]}')


def triples_of(row):
    """The text of a line of DuIE with its triples; nothing where there are none."""
    if not row.get("spo_list"):
        return []
    triples = {(t["subject"], t["predicate"], t["object"]) for t in row["spo_list"]}
    return [(row["text"], triples)]


# --- spans of characters, spans of tokens ----------------------------------------------------------


def token_spans(spans, offsets):
    """Of spans `(start, end, type)` of characters those that whole tokens make up, as such."""
    starts = {start: i for i, (start, end) in enumerate(offsets) if start < end}
    ends = {end: i + 1 for i, (start, end) in enumerate(offsets) if start < end}
    return {
        (starts[start], ends[end], kind)
        for start, end, kind in spans
        if start in starts and end in ends
    }


def character_spans(spans, offsets):
    """Spans of tokens as spans of characters."""
    return {(offsets[start][0], offsets[end - 1][1], kind) for start, end, kind in spans}


def token_triples(text, triples, offsets):
    """`((start, end), predicate, (start, end))` of tokens: where subject and object first stand."""
    text, found = text.lower(), set()
    for first, predicate, second in triples:
        begins = text.find(first.lower()), text.find(second.lower())
        ends = [begin + len(word) for begin, word in zip(begins, (first, second), strict=True)]
        spans = [
            span
            for begin, end in zip(begins, ends, strict=True)
            for *span, _ in token_spans({(begin, end, "")}, offsets)
        ]
        if len(spans) == 2:
            found.add((tuple(spans[0]), predicate, tuple(spans[1])))
    return found


def text_triples(text, triples, offsets):
    """The words of triples of tokens."""

    def words(span):
        return text[offsets[span[0]][0] : offsets[span[1] - 1][1]]

    return {(words(first), predicate, words(second)) for first, predicate, second in triples}


# --- texts with labels -----------------------------------------------------------------------------


BUCKETS = 4  # so many lengths of batches


class Labelled:
    """Texts with labels: batches for a model, and what its answers are held against.

    Args:
        samples: list of `(text, labels)`.
        tokenizer: of the model.
        args: of the command line: `maxlen` and `batch_size`.
        target: makes a sample's target of its labels in tokens, its number of tokens and the
            length of the batch. The targets of a batch have one shape.
        shuffle: whether the batches come in another order in every epoch.
    """

    def __init__(self, samples, tokenizer, args, target=None, shuffle=False):
        self.texts, self.labels = zip(*samples, strict=True)
        encoded = [
            tokenizer.encode(text, maxlen=args.maxlen, return_offsets=True) for text in self.texts
        ]
        self.offsets = [offsets for *_, offsets in encoded]
        self.target = target
        rows = [
            (ids, segments, self.in_tokens(*sample, offsets))
            for (ids, segments, offsets), sample in zip(encoded, samples, strict=True)
        ]
        self.batches = Batches(
            rows,
            args.batch_size,
            collate=self.collate,
            shuffle=shuffle,
            buckets=BUCKETS,
            length=lambda row: len(row[0]),
        )

    def collate(self, rows, length):
        """`(inputs, targets)` of a batch; without a `target`, inputs alone."""
        inputs = pad_samples([(ids, segments) for ids, segments, _ in rows], length)
        if self.target is None:
            return (inputs,)
        targets = [self.target(labels, len(ids), length) for ids, _, labels in rows]
        return inputs, keras.tree.map_structure(lambda *arrays: np.stack(arrays), *targets)

    def predict(self, decode):
        """What a model finds in each text, in the order of the texts.

        Args:
            decode: gives, for the token ids and segments of a batch, the labels of each sample
                in tokens.
        """
        found = [
            labels
            for i in range(len(self.batches))
            for labels in decode(self.batches[i][0])
        ]  # fmt: skip
        rows = zip(self.texts, self.batches.restore(found), self.offsets, strict=True)
        return [self.in_text(*row) for row in rows]

    def score(self, decode):
        """F1 of what `predict` finds."""
        return self.scores(list(self.labels), self.predict(decode)).f1


class Spans(Labelled):
    """Texts with spans `(start, end, type)`."""

    scores = staticmethod(span_scores)

    def in_tokens(self, text, spans, offsets):
        return token_spans(spans, offsets)

    def in_text(self, text, spans, offsets):
        return character_spans(spans, offsets)


class Triples(Labelled):
    """Texts with triples `(subject, predicate, object)` of words."""

    scores = staticmethod(triple_scores)
    in_tokens = staticmethod(token_triples)
    in_text = staticmethod(text_triples)


def without_padding(rows, inputs):
    """The rows of a batch, an item for each token, without those of the padding."""
    sizes = np.count_nonzero(inputs[0], axis=1)
    rows = keras.ops.convert_to_numpy(rows)
    return [row[:size] for row, size in zip(rows, sizes, strict=True)]


# --- training ------------------------------------------------------------------------------------


def straight_down(epochs, batches):
    """Points of a schedule: a tenth of the updates up, then down to nothing."""
    updates = epochs * len(batches)
    return {0: 0.0, max(1, updates // 10): 1.0, updates: 0.0}


def show(text, spans):
    """Prints a text and what stands in its spans."""
    print(text)
    for start, end, kind in sorted(spans):
        print(f"    {text[start:end]} ({kind})")
