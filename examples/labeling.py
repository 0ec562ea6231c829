"""What does_pretraining_help.py needs of sequence labelling: named entities, read and in batches."""

import re
from itertools import accumulate

import keras
import numpy as np
from json_lines import read_lines, read_text

from bert4keras_lite.data import Batches, pad_samples
from bert4keras_lite.metrics import bio_spans, span_scores
from bert4keras_lite.spans import character_spans, token_spans


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


BUCKETS = 4  # so many lengths of batches


class Spans:
    """Texts with spans `(start, end, type)`: batches for a model, and its scores.

    Args:
        samples: list of `(text, spans)`.
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
            (ids, segments, token_spans(spans, offsets))
            for (ids, segments, offsets), spans in zip(encoded, self.labels, strict=True)
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
        rows = zip(self.batches.restore(found), self.offsets, strict=True)
        return [character_spans(*row) for row in rows]

    def score(self, decode):
        """F1 of what `predict` finds."""
        return span_scores(list(self.labels), self.predict(decode)).f1


def without_padding(rows, inputs):
    """The rows of a batch, an item for each token, without those of the padding."""
    sizes = np.count_nonzero(inputs[0], axis=1)
    rows = keras.ops.convert_to_numpy(rows)
    return [row[:size] for row, size in zip(rows, sizes, strict=True)]
