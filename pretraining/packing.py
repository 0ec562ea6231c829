"""Packs documents into full rows of token ids, with the starts of words."""

import hashlib
from functools import cached_property
from itertools import chain

import numpy as np

from bert4keras_lite.tokenizers import SpTokenizer, Tokenizer, load_tokenizer

from .masking import FEATURES, NEEDED, record_length
from .segmentation import Segmenter
from .stateless_random import keys, uniform

__all__ = [
    "COUNTS",
    "MODES",
    "WORDS",
    "Packer",
    "open_tokenizer",
    "sentinel_ids",
    "special_ids",
    "vocabulary_hash",
]

MODES = tuple(FEATURES)
WORDS = ("jieba", "dictionary", "tokens")
# Limit of the characters to tokenize together; longer documents are split.
_TOGETHER = 1 << 18
# Counts: documents, their tokens and unknown tokens; rows, the tokens in them, and their capacity.
COUNTS = ("documents", "tokens", "unknown", "examples", "filled", "places")
_SEPARATORS = ("<|endoftext|>", "<eod>", "<eos>", "<sep>")
# Descriptions of special tokens that may be missing in a vocabulary
_NAMES = {
    "cls": "a start token such as [CLS]",
    "sep": "an end token such as [SEP] or </s>",
    "mask": "a mask token such as [MASK]",
}
_SENTINELS = ("<extra_id_{}>", "[unused{}]")


def open_tokenizer(path, cased=False):
    """Opens the tokenizer of a checkpoint's directory, or of a vocabulary file.

    Args:
        path: a directory (see `load_tokenizer`), a sentencepiece `*.model`, or a `vocab.txt`.
        cased: whether a `vocab.txt` is for cased text. Default False.
    """
    if str(path).endswith(".model"):
        return SpTokenizer(path)
    if str(path).endswith(".txt"):
        return Tokenizer(path, do_lower_case=not cased)
    return load_tokenizer(path, **({"do_lower_case": False} if cased else {}))


def vocabulary_hash(tokenizer):
    """Returns the SHA-256 of all tokens in the order of their ids."""
    tokens = map(tokenizer.id_to_token, range(tokenizer.vocab_size))
    return hashlib.sha256("\n".join(tokens).encode("utf-8", "surrogatepass")).hexdigest()


def sentinel_ids(tokenizer):
    """Returns the ids of T5's sentinels in order; an empty list if there are none.

    These are `<extra_id_0>`, `<extra_id_1>`, ...; in BERT's vocabularies `[unused1]`, `[unused2]`,
    ...
    """
    unknown = tokenizer.token_unk_id
    for name in _SENTINELS:
        first = 0 if name == _SENTINELS[0] else 1
        ids = [tokenizer.token_to_id(name.format(i)) for i in range(first, first + 100)]
        known = ids[: ids.index(unknown)] if unknown in ids else ids
        if known:
            return known
    return []


def special_ids(tokenizer):
    """Returns the ids of the special tokens by their names in BERT; None for missing ones."""
    return {
        "pad": tokenizer.token_pad_id,
        "unk": tokenizer.token_unk_id,
        "cls": tokenizer.token_start_id,
        "sep": tokenizer.token_end_id,
        "mask": tokenizer.token_mask_id,
    }


class Packer:
    """Packs documents into rows of at most `record_length` tokens.

    | mode | a row |
    |---|---|
    | mlm, electra | [CLS] text [SEP] |
    | lm | [CLS] text, without [CLS] if the tokenizer has none |
    | unilm | [CLS] text [SEP] more text [SEP]; segment 1 begins after the first [SEP] |
    | t5 | text of such a length that masking leaves `sequence_length` tokens for the encoder |

    Rows continue across the ends of documents, which are marked by a separator. A row ends when it
    is full, even within a word, and the next one continues from there; only the last row is not
    full. With `apart`, each document begins a new row.

    Args:
        tokenizer: a tokenizer of `bert4keras_lite.tokenizers`.
        mode: `"mlm"`, `"electra"`, `"lm"`, `"unilm"` or `"t5"`.
        sequence_length: length of the model's longest input.
        words: the definition of a word for `"mlm"` and `"electra"`: `"jieba"` (default, with its
            new words), `"dictionary"` (words in jieba's dictionary only) or `"tokens"` (the pieces
            of WordPiece between spaces, punctuation and Chinese characters; each token in other
            tokenizers).
        apart: whether each document begins a new row. Default False.
        separator: token between documents. Default None: the tokenizer's `token_end`, or one of
            `<|endoftext|>`, `<eod>`, `<eos>`, `<sep>`.
        seed: seed of the position at which `"unilm"` splits a row. Default 0.

    Raises:
        ValueError: the vocabulary lacks tokens that the mode needs, or an argument is invalid.
    """

    def __init__(
        self,
        tokenizer,
        mode,
        sequence_length,
        words="jieba",
        apart=False,
        separator=None,
        seed=0,
    ):
        if mode not in MODES or words not in WORDS:
            raise ValueError(
                f"mode={mode!r}, words={words!r}; expected one of {', '.join(MODES)} and of"
                f" {', '.join(WORDS)}."
            )
        self.tokenizer, self._mode, self._seed, self._apart = tokenizer, mode, seed, apart
        self._words = words
        self._check_vocabulary()
        special = special_ids(tokenizer)
        self._sep_id, self._unk_id = special["sep"], special["unk"]
        in_t5, in_lm = mode == "t5", mode == "lm"
        self._prefix = [] if in_t5 or special["cls"] is None else [special["cls"]]
        self._suffix = [] if in_t5 or in_lm else [self._sep_id]
        self.record_length = record_length(mode, sequence_length)
        frame = len(self._prefix) + len(self._suffix) + (mode == "unilm")
        self._body = self.record_length - frame
        if self._body < 2:
            raise ValueError(f"sequence_length={sequence_length}: no room for text; expected more.")
        # With `apart`, the end of a row marks that of a document, but a language model has to
        # generate an end token.
        self._separator = None if apart and not in_lm else self._find_separator(separator)
        if self._has_words:
            self._is_continuation = np.array(
                [tokenizer.id_to_token(i).startswith("##") for i in range(tokenizer.vocab_size)]
            )

    def _check_vocabulary(self):
        special = special_ids(self.tokenizer)
        for name in NEEDED[self._mode]:
            if special[name] is None:
                raise ValueError(
                    f"--mode {self._mode} needs {_NAMES[name]}, which the vocabulary lacks."
                )
        if "mask" in NEEDED[self._mode] and (others := self.tokenizer.other_uses_of_mask()):
            raise ValueError(
                f"--mode {self._mode} needs a mask token of its own, and"
                f" {self.tokenizer.token_mask!r:.200} is the vocabulary's token_{others[0]}, too."
                " Set another one in the tokenizer's files."
            )
        if self._mode == "t5" and not sentinel_ids(self.tokenizer):
            raise ValueError(
                "--mode t5 needs sentinels in the vocabulary: <extra_id_0>, ... or [unused1], ..."
            )

    @property
    def _has_words(self):
        return self._mode in ("mlm", "electra")

    @cached_property
    def _segmenter(self):
        return Segmenter(new_words=self._words == "jieba")

    def _find_separator(self, token):
        if token is None and self._sep_id is not None:
            return self._sep_id
        for candidate in _SEPARATORS if token is None else (token,):
            i = self.tokenizer.token_to_id(candidate)
            if i != self._unk_id or candidate == self.tokenizer.token_unk:
                return i
        raise ValueError(
            f"--separator {token or '(none given)'}: not in the vocabulary; expected a token to put"
            " between documents."
        )

    # Text to tokens

    def _encoded(self, texts):
        """Encodes texts.

        Returns:
            `(ids, starts, lengths)`: the ids of all texts, concatenated; whether each begins a
            word, or None; and the number of ids of each text.
        """
        if not self._has_words:
            rows = [self._trimmed(self.tokenizer.encode(text)[0]) for text in texts]
            return _flat(rows), None, np.array(list(map(len, rows)))
        rows, all_offsets, begins, begin = [], [], [], 0
        for text in texts:
            ids, _, offsets = self.tokenizer.encode(text, return_offsets=True)
            rows.append(self._trimmed(ids))
            all_offsets.append(self._trimmed(offsets))
            begins.append(begin)
            begin += len(text) + 1
        lengths = np.array(list(map(len, rows)))
        ids = _flat(rows)
        spans = _flat(chain.from_iterable(all_offsets)).reshape(-1, 2)
        spans += np.repeat(begins, lengths)[:, None]
        starts = ~self._is_continuation[ids]
        # Tokens with bytes of the same character belong to one word.
        starts[1:] &= spans[1:, 0] >= spans[:-1, 1]
        if self._words != "tokens":
            starts &= self._segmenter.word_starts("\n".join(texts))[spans[:, 0]]
        return ids, starts, lengths

    def _trimmed(self, items):
        """Returns the items without those of the start and the end token."""
        end = len(items) - (self.tokenizer.token_end is not None)
        return items[self.tokenizer.token_start is not None : end]

    # Tokens to rows

    def pack(self, documents, number=0):
        """Packs the documents of a shard.

        Args:
            documents: iterable of strings.
            number: index of the shard, which with the seed determines where `"unilm"` splits its
                rows. Default 0.

        Yields:
            `(features, lengths)` of many rows, for `shards.encode_examples`.
        """
        self.counts = dict.fromkeys(COUNTS, 0)
        # number of tokens so far of a document that has not ended yet
        self._unfinished = 0
        rest = _nothing(self._has_words)
        for texts in _batches(documents):
            rest, (columns, lengths) = self._rows(texts, rest)
            if len(lengths):
                yield self._finished(columns, lengths, number)
        if len(rest["token_ids"]):
            yield self._finished(rest, np.array([len(rest["token_ids"])]), number)

    def _rows(self, texts, rest):
        """Splits texts into rows without special tokens.

        Args:
            texts: list of pairs `(text, whether a document ends with it)`.
            rest: the tokens left from earlier texts, which come first.

        Returns:
            `(rest, (columns, lengths))`: the tokens left, and the rows, concatenated.
        """
        ids, starts, lengths = self._encoded([text for text, _ in texts])
        self.counts["tokens"] += len(ids)
        self.counts["unknown"] += int(np.count_nonzero(ids == self._unk_id))
        columns = {"token_ids": ids}
        if starts is not None:
            columns["word_starts"] = starts
        ended = self._ends(lengths, np.array([ends for _, ends in texts]))
        self.counts["documents"] += len(ended)
        if self._separator is not None:
            columns["token_ids"] = np.insert(ids, ended, self._separator)
            if starts is not None:
                columns["word_starts"] = np.insert(starts, ended, True)
            ended = ended + np.arange(1, len(ended) + 1)

        before = len(rest["token_ids"])
        columns = {name: np.concatenate([rest[name], column]) for name, column in columns.items()}
        total = len(columns["token_ids"])
        edges = np.arange(0, total + 1, self._body)
        if self._apart:
            begins = np.concatenate([[0], ended + before])
            pieces = -(-np.diff(begins) // self._body)
            within = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
            edges = np.repeat(begins[:-1], pieces) + within * self._body
            # The last row of an unfinished document is left for the next texts.
            last = begins[-1]
            edges = np.concatenate([edges, np.arange(last, total + 1, self._body)])
        done = edges[-1]
        rest = {name: column[done:] for name, column in columns.items()}
        columns = {name: column[:done] for name, column in columns.items()}
        return rest, (columns, np.diff(edges))

    def _ends(self, lengths, ends):
        """Returns the positions at which documents end; empty documents do not count.

        Args:
            lengths: the numbers of tokens of texts.
            ends: whether a document ends with each text.
        """
        at = np.cumsum(lengths)[ends]
        sizes = np.diff(at, prepend=-self._unfinished)
        self._unfinished = int(lengths.sum()) - (at[-1] if len(at) else -self._unfinished)
        return at[sizes > 0]

    def _finished(self, columns, lengths, number):
        """Adds the special tokens to rows; returns `(columns, lengths)`."""
        ends = np.cumsum(lengths)
        begins = ends - lengths
        # The tokens to insert: positions in all rows, ids, and segments
        positions = [begins] * len(self._prefix) + [ends] * len(self._suffix)
        tokens, segments = [*self._prefix, *self._suffix], [0, 1]
        if self._mode == "unilm":
            examples = self.counts["examples"] + np.arange(len(lengths))
            drawn = uniform(keys(self._seed, number), examples)
            middle = begins + 1 + (drawn * (lengths - 1)).astype(np.int64)
            columns["segment_ids"] = np.arange(ends[-1]) >= np.repeat(middle, lengths)
            positions.insert(1, middle)
            tokens.insert(1, self._sep_id)
            segments.insert(1, 0)
        if "word_starts" in columns:
            columns["word_starts"][begins] = True
        if tokens:
            inserted = {"token_ids": tokens, "segment_ids": segments}
            inserted["word_starts"] = [True] * len(tokens)
            positions = np.stack(positions, axis=1).ravel()
            columns = {
                name: np.insert(column, positions, np.tile(inserted[name], len(lengths)))
                for name, column in columns.items()
            }
        lengths = lengths + len(tokens)
        self.counts["examples"] += len(lengths)
        self.counts["filled"] += int(lengths.sum())
        self.counts["places"] += len(lengths) * self.record_length
        return columns, lengths


def _flat(lists):
    """Returns the integers of an iterable of lists in one array."""
    return np.fromiter(chain.from_iterable(lists), np.int64)


def _nothing(has_words):
    empty = {"token_ids": np.zeros(0, np.int64), "word_starts": np.zeros(0, bool)}
    return empty if has_words else {"token_ids": empty["token_ids"]}


def _pieces(text):
    """Yields `(piece, is_last)`: a text split into short pieces, if possible at ends of lines."""
    while len(text) > _TOGETHER:
        end = text.rfind("\n", 0, _TOGETHER) + 1 or _TOGETHER
        yield text[:end], False
        text = text[end:]
    yield text, True


def _batches(documents):
    """Yields lists, of many characters, of `(text, whether a document ends with it)`."""
    batch, size = [], 0
    for document in documents:
        for piece, ends in _pieces(document):
            if batch and size + len(piece) > _TOGETHER:
                yield batch
                batch, size = [], 0
            batch.append((piece, ends))
            size += len(piece)
    if batch:
        yield batch
