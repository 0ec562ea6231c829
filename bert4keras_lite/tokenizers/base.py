"""Base classes of the tokenizers: special tokens, truncation, pairs, batches, offsets."""

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from numbers import Integral
from sys import getsizeof
from typing import Any

import numpy as np

from ..arguments import check_number, checks_flags
from ..files import saving
from ..types import PathLike
from .added import AddedToken, Finder, parts
from .chat import ChatMethods
from .settings import write_settings

__all__ = ["DictTokenizer", "Memo", "TokenizerBase", "byte_spans", "locate"]

NO_LIMIT = 1 << 100  # tokens; transformers has 10**30 for no limit
ENTRY = 120  # bytes of overhead of a dict entry, at most


def size_of(value):
    """Returns the bytes of memory that a value takes; for a tuple, with its items."""
    inner = sum(map(size_of, value)) if isinstance(value, tuple) else 0
    return getsizeof(value) + inner


class Memo(dict):
    """Cache of a function's results, which is emptied when it is full.

    Threads may share a cache: at worst two of them compute the same value.

    Args:
        compute: a function key -> value.
        longest: keys longer than this are not cached, as they rarely repeat; None (default)
            caches all keys.

    Attributes:
        limit: approximate number of bytes that all keys and values may take.
    """

    limit = 1 << 24

    def __init__(self, compute, longest=None):
        super().__init__()
        self.compute = compute
        self.longest = longest
        self.size = 0

    def __missing__(self, key):
        value = self.compute(key)
        if self.longest is None or len(key) <= self.longest:
            size = ENTRY + size_of(key) + size_of(value)
            if self.size + size > self.limit:
                self.clear()
                self.size = 0
            self[key] = value
            self.size += size
        return value

    def __reduce__(self):
        return type(self), (self.compute, self.longest)


def _truncated(items, length, index, least=0):
    """Deletes the item at `index` repeatedly until `length` items are left.

    Raises:
        ValueError: `length` is below `least`, the number of start and end tokens; or `index` is
            outside of the text.
    """
    excess = len(items) - length
    if excess <= 0:
        return items
    start = index if index >= 0 else len(items) + index + 1 - excess
    if length < least or start < 0 or start + excess > len(items):
        raise ValueError(
            f"cannot shorten {len(items)} tokens to {length} at position {index}: maxlen is too"
            " small, or truncate_from lies outside the text."
        )
    return items[:start] + items[start + excess :]


def _truncated_lengths(lengths, maxlen):
    """Returns the lengths after shortening the longer (or first) text one token at a time."""
    if len(lengths) == 1:
        return [min(lengths[0], maxlen)]
    first, second = lengths
    if first + second <= maxlen:
        return lengths
    half = maxlen // 2
    return [min(first, max(half, maxlen - second)), min(second, max(maxlen - half, maxlen - first))]


def byte_spans(text, lengths):
    """Returns the character spans of consecutive pieces of a text's UTF-8 bytes.

    Args:
        text: a string.
        lengths: the number of bytes of each piece.

    Returns:
        A list of `(start, end)`. A character that is split belongs to every piece with one of its
        bytes, so neighbouring spans may overlap.
    """
    owners = [i for i, char in enumerate(text) for _ in char.encode("utf-8", "replace")]
    spans, end = [], 0
    for length in lengths:
        begin, end = end, end + length
        spans.append((owners[begin], owners[end - 1] + 1))
    return spans


def locate(text, words):
    """Returns the start positions of words that occur in a text in this order.

    Raises:
        ValueError: a word is not in the rest of the text.
    """
    starts, end = [], 0
    for word in words:
        start = text.find(word, end)
        if start < 0:
            raise ValueError(
                f"offsets: the word {word!r:.200} of pre_tokenize is not in the rest of the text; a"
                " pre_tokenize that rewrites the text allows no offsets."
            )
        starts.append(start)
        end = start + len(word)
    return starts


class TokenizerBase(ChatMethods, ABC):
    """Base class of all tokenizers: special tokens, truncation, pairs, batches.

    A subclass implements `_tokenize`, `_spans`, `token_to_id`, `id_to_token`, `decode` and
    `_save_vocabulary`. It calls `_set_special_ids` once its vocabulary is set, and
    splits a text with `_parts` before it tokenizes it.

    Args:
        token_start: token put before a text, or None. Default `[CLS]`.
        token_end: token put after each text, or None. Default `[SEP]`.
        token_mask: token of masked positions. Default `[MASK]`.
        token_unk: token for whatever is not in the vocabulary. Default `[UNK]`.
        token_pad: token that pads batches. Default `[PAD]`.
        pre_tokenize: a function text -> list of words, called before the tokenization itself,
            e.g. `jieba_words` for models with words in their vocabulary. Words that are in a
            WordPiece vocabulary stay whole. Default None.
        token_translate: dict token -> token, applied to the tokens of a text. Default None.
        added_tokens: dict token -> id, or list of `AddedToken`: tokens that are matched in a text
            before it is tokenized, e.g. those added before fine-tuning. Default None.
        special_tokens_in_text: whether special tokens (`[MASK]`, `</s>`, ...) that occur in a
            text become these tokens. By default (False) they are ordinary text.
        token_second: token put before the second text of a pair, after the `token_end` of the
            first; `</s>` in RoBERTa. Default None.
        second_segment: segment of the second text, 0 or 1. Default 1.

    Attributes:
        model_max_length: the most tokens of a text that the files of a checkpoint name, or None;
            set by `load_tokenizer`, and not used by the tokenizer itself.
        chat_templates: dict name -> Jinja, for `apply_chat_template`; set by `load_tokenizer`,
            empty if the checkpoint has none. The name is `"default"`, or `"tool_use"`.
        chat_tokens: dict such as `{"bos_token": "<s>"}`, variables of the templates; set by
            `load_tokenizer`.
        other_stop_ids: ids besides that of `token_end` that end a generated text; set by
            `load_tokenizer`.
    """

    other_stop_ids: Sequence[int] = ()
    model_max_length: int | None = None
    vocab_size: int
    token_start: str | None
    token_end: str | None
    token_mask: str | None
    token_unk: str | None
    token_pad: str | None
    token_start_id: int | None
    token_end_id: int | None
    token_mask_id: int | None
    token_unk_id: int | None
    token_pad_id: int | None

    @checks_flags
    def __init__(
        self,
        token_start: str | None = "[CLS]",
        token_end: str | None = "[SEP]",
        token_mask: str | None = "[MASK]",
        token_unk: str | None = "[UNK]",
        token_pad: str | None = "[PAD]",
        pre_tokenize: Callable[[str], list[str]] | None = None,
        token_translate: dict[str, str] | None = None,
        added_tokens: Any = None,
        special_tokens_in_text: bool = False,
        token_second: str | None = None,
        second_segment: int = 1,
    ) -> None:
        check_number("second_segment", second_segment, 0, 1)
        self.second_segment = second_segment
        self.token_second = token_second
        self.special_tokens = {
            "start": token_start,
            "end": token_end,
            "mask": token_mask,
            "unk": token_unk,
            "pad": token_pad,
        }
        self._pre_tokenize = pre_tokenize
        self._token_translate = dict(token_translate or {})
        self._token_translate_inv = {new: old for old, new in self._token_translate.items()}
        if isinstance(added_tokens, dict):
            added_tokens = [AddedToken(token, i) for token, i in added_tokens.items()]
        self.added_tokens = {token.content: token for token in added_tokens or []}
        self._special_tokens_in_text = special_tokens_in_text

    @property
    def stop_ids(self) -> list[int]:
        """All ids that end a generated text."""
        return [*self._end_ids, *self.other_stop_ids]

    def other_uses_of_mask(self) -> list[str]:
        """Returns the names of special tokens that share the mask token's id, e.g. `["unk"]`."""
        ids = {name: getattr(self, f"token_{name}_id") for name in self.special_tokens}
        mask = ids.pop("mask")
        return [name for name, i in ids.items() if i == mask and mask is not None]

    def _numbered(self, known):
        """Returns a dict added token -> id.

        Args:
            known: a function token -> id in the vocabulary, or None.

        Raises:
            ValueError: an added token is empty, has no id, or its id differs from that in the
                vocabulary.
        """
        ids = {}
        for token in self.added_tokens.values():
            if not token.content:
                raise ValueError("added_tokens: one of them is empty; expected non-empty strings.")
            i = known(token.content)
            ids[token.content] = given = i if token.id is None else token.id
            if given is None:
                raise ValueError(
                    f"added_tokens: {token.content!r:.200} has no id and is not in the vocabulary;"
                    " give its id."
                )
            if i not in (None, given):
                raise ValueError(
                    f"added_tokens: {token.content!r:.200} is given the id {given}; expected {i},"
                    " its id in the vocabulary."
                )
        return ids

    def _set_special_ids(self, known):
        """Sets `token_start_id`, `token_end_id`, etc.; None for tokens not in the dict `known`."""
        for name, token in self.special_tokens.items():
            # bert4keras has the underscored names, and many scripts use them.
            for prefix in ("", "_"):
                setattr(self, f"{prefix}token_{name}", token)
                setattr(self, f"{prefix}token_{name}_id", known.get(token))
        around = {name: getattr(self, f"token_{name}") for name in ("start", "end", "second")}
        for name, token in around.items():
            if token is not None and token not in known:
                raise ValueError(
                    f"token_{name}={token!r:.200} is not in the vocabulary; pass a token that is,"
                    f" or token_{name}=None for none."
                )
        self._start_ids, self._end_ids, self._second_ids = (
            [] if token is None else [known[token]] for token in around.values()
        )
        self.token_second_id = known.get(self.token_second)
        self._special_set = {
            *self.special_tokens.values(),
            *(token for token, added in self.added_tokens.items() if added.special),
        }
        # The special tokens to match in a text, if `special_tokens_in_text` is set.
        specials = {
            token: self.added_tokens.get(token, AddedToken(token, known[token], special=True))
            for token in filter(None, self.special_tokens.values())
            if token in known
        }
        self._markup = in_text = {**self.added_tokens, **specials}
        if not self._special_tokens_in_text:
            in_text = {
                token: in_text[token] for token in self.added_tokens if token not in specials
            }
        self._read_in_text = set(in_text)
        self._set_finders(in_text)

    def _set_finders(self, in_text):
        """Prepares `_parts`, which first matches tokens in the raw text, then `normalized` ones.

        Args:
            in_text: dict text to match -> `AddedToken`.
        """
        rounds = [
            {content: token for content, token in in_text.items() if token.normalized is late}
            for late in (False, True)
        ]
        self._finder, self._late_finder = (Finder(tokens) if tokens else None for tokens in rounds)

    def _parts(self, text):
        """Splits a text into `(start, end, AddedToken or None)`; parts with None are tokenized."""
        split = [(0, len(text), None)]
        if self._finder:
            split = parts(text, self._finder.find(text))
        if not self._late_finder:
            return split
        return [
            (start + begin, start + stop, late)
            for start, end, token in split
            for begin, stop, late in (
                self._late_parts(text[start:end]) if token is None else [(0, end - start, token)]
            )
        ]

    def lowered(self, text: str) -> str:
        """Returns a text in lower case, but for the added and special tokens in it."""
        return "".join(
            text[start:end] if added else "".join(map(str.lower, text[start:end]))
            for start, end, added in self._parts(text)
        )

    def _late_parts(self, text):
        return parts(text, self._late_finder.find(text))

    @abstractmethod
    def _tokenize(self, text):
        """Returns the list of tokens of a text: no start and end token, not translated."""

    @abstractmethod
    def token_to_id(self, token: str) -> int:
        """Returns the id of a token; that of `token_unk` if it is not in the vocabulary."""

    @abstractmethod
    def id_to_token(self, i: int) -> str:
        """Returns the token of an id."""

    @abstractmethod
    def decode(self, ids: Any) -> str:
        """Returns the text of token ids."""

    def decode_stable(self, ids: Any) -> str:
        """Returns the part of `decode(ids)` that further ids cannot change, for streaming.

        Bytes at the end that are not a whole character are left out: further ids may complete them.
        """
        return self.decode(ids).rstrip("\ufffd")

    def save(self, directory: PathLike) -> None:
        """Writes files from which `load_tokenizer` restores this tokenizer.

        Special tokens, added tokens and settings go into `tokenizer_config.json`. These arguments
        are not stored; pass them to `load_tokenizer` again: `pre_tokenize` (unless the vocabulary
        implies it, as WoBERT's), `token_translate`, `special_tokens_in_text`, `drop_private_use`;
        in WordPiece and with the model file of T5 also `token_second` and `second_segment`.

        Args:
            directory: created if missing.

        Raises:
            OSError: a file cannot be written; existing files are then unchanged.
            ValueError: a token contains white space, which a vocabulary file cannot store; use
                `added_tokens` for it.
        """
        with saving(directory) as stage:
            names, values = self._save_vocabulary(stage)
            write_settings(stage, names, values, self)

    def simplified(self) -> "tuple[TokenizerBase, list[int] | None]":
        """Returns `(tokenizer, keep_tokens)`: here the tokenizer itself and None.

        `Tokenizer` overrides this to drop tokens that no text needs; `keep_tokens` is then for
        `build_transformer_model`.
        """
        return self, None

    @abstractmethod
    def _save_vocabulary(self, directory):
        """Writes the vocabulary files; returns the names of special tokens, and settings.

        The names are those of `TokenizerClass.names`.
        """

    def tokens_to_ids(self, tokens: list[str]) -> list[int]:
        """Returns the ids of a list of tokens."""
        return [self.token_to_id(token) for token in tokens]

    def ids_to_tokens(self, ids: Any) -> list[str]:
        """Returns the tokens of a list, one-dimensional array or tensor of ids.

        Raises:
            TypeError: the items are not integers, e.g. they are the rows of a batch.
        """
        try:
            return [self.id_to_token(i) for i in ids]
        except TypeError:
            raise TypeError(
                f"expected a list or an array of ids of one text, got {ids!r:.80}. Pass the rows of"
                " a batch one by one."
            ) from None

    def _translated(self, text):
        """Returns the translated tokens of a text, without start and end token."""
        translate = self._token_translate
        tokens = self._tokenize(text)
        return [translate.get(token, token) for token in tokens] if translate else tokens

    def tokenize(self, text: str, maxlen: int | None = None) -> list[str]:
        """Splits a text into tokens, with start and end token.

        Words outside the vocabulary stay as they are instead of becoming `token_unk`, so that
        `rematch` finds them.

        Args:
            text: a string.
            maxlen: the most tokens to return, start and end token included; a longer text loses
                its end. Default None: no limit.

        Returns:
            A list of strings.
        """
        start = [] if self.token_start is None else [self.token_start]
        end = [] if self.token_end is None else [self.token_end]
        tokens = [*start, *self._translated(text), *end]
        if maxlen is None:
            return tokens
        check_number("maxlen", maxlen, 0, NO_LIMIT)
        return _truncated(tokens, maxlen, -1 - len(end), len(start + end))

    def _encode(self, text):
        """Returns the ids of a text, without start and end token."""
        return self.tokens_to_ids(self._translated(text))

    def _encode_with_offsets(self, text):
        """Returns `(ids, offsets)` of a text; `offsets` holds `(start, end)` of each token.

        A subclass implements `_spans`, which returns the offsets of a text without added tokens.
        `Tokenizer` overrides this to compute ids and offsets in one pass.
        """
        offsets = []
        for start, end, added in self._parts(text):
            part = text[start:end]
            spans = [self._added_span(part)] if added else self._spans(part)
            offsets += [(start + i, start + j) for i, j in spans]
        return self._encode(text), offsets

    def _added_span(self, text):
        """Returns `(start, end)` of an added token in its part of a text, with white space."""
        return 0, len(text)

    def _sequence(self, text, return_offsets):
        """Returns `[ids]` or `[ids, offsets]` of a text or a list of tokens."""
        if not isinstance(text, str):
            if return_offsets or not isinstance(text, list | tuple):
                expected = "a string" if return_offsets else "a string or a list of tokens"
                raise TypeError(f"encode: expected {expected}, got {type(text).__name__}.")
            other = next((token for token in text if not isinstance(token, str)), None)
            if other is not None:
                raise TypeError(
                    f"encode: expected a string or a list of tokens, got a list with {other!r:.80}."
                )
            return [self.tokens_to_ids(text)]
        if not return_offsets:
            return [[*self._start_ids, *self._encode(text), *self._end_ids]]
        ids, offsets = self._encode_with_offsets(text)
        no_source = [(0, 0)]
        return [
            [*self._start_ids, *ids, *self._end_ids],
            no_source * len(self._start_ids) + offsets + no_source * len(self._end_ids),
        ]

    def _sequences(self, texts):
        """Returns `_sequence` of each text; subclasses may process them together, to be faster."""
        return [self._sequence(text, False) for text in texts]

    def rematch(self, text: str, tokens: list[str]) -> list[list[int]]:
        """Aligns tokens with the characters of the text they came from.

        This is exact whatever the tokenizer changed in the text: case, accents, spaces, NFKC. If
        the text was truncated on the left, prefer `encode(..., return_offsets=True)`, because
        `rematch` takes the first occurrence of the first token.

        Args:
            text: the text before tokenization.
            tokens: its tokens, as returned by `tokenize` or `ids_to_tokens`.

        Returns:
            A list with one list for each token: the positions of its characters in `text`, empty
            for special tokens. In WordPiece a `token_unk` covers the rest of a word.

        Raises:
            ValueError: a token does not occur in the rest of the text.

        Example:
            >>> tokenizer.rematch("A  Café店", ["[CLS]", "a", "cafe", "店", "[SEP]"])
            [[], [0], [3, 4, 5, 6], [7], []]
        """
        tokens = list(tokens)
        start = int(bool(tokens) and tokens[0] == self.token_start)
        end = len(tokens) - int(len(tokens) > start and tokens[-1] == self.token_end)
        middle = self._positions(text, tokens[start:end])
        return [[]] * start + middle + [[]] * (len(tokens) - end)

    def _positions(self, text, tokens):
        ids, offsets = self._encode_with_offsets(text)
        occurring, remaining, mapping = set(ids), iter(zip(ids, offsets, strict=True)), []
        for token, token_id in zip(tokens, self.tokens_to_ids(tokens), strict=True):
            if token_id not in occurring and token in self.special_tokens.values():
                mapping.append([])
                continue
            span = next((span for i, span in remaining if i == token_id), None)
            if span is None:
                raise ValueError(f"rematch: token {token!r:.200} is not in the rest of the text.")
            mapping.append(list(range(*span)))
        return mapping

    def __call__(self, texts: Any, second_texts: Any = None, **options: Any) -> tuple:
        """Encodes a text by `encode`, or a list of texts by `encode_batch`.

        Args:
            texts: a string, or a list of strings or of pairs of them (tuples).
            second_texts: the second text, or a list of them; None (default) if there is none.
            **options: other arguments of `encode` or `encode_batch`, such as `maxlen`.

        Returns:
            `(token_ids, segment_ids)`: two lists for a text, two arrays `(batch, length)` for a
            list of texts, as models take them.

        Example:
            >>> model.predict(tokenizer(["今天天气好", "是"], maxlen=128))
        """
        encode = self.encode if isinstance(texts, str) else self.encode_batch
        return encode(texts, second_texts, **options)

    @checks_flags
    def encode(
        self,
        first_text: str | list[str],
        second_text: str | list[str] | None = None,
        maxlen: int | None = None,
        pattern: str = "S*E*E",
        truncate_from: str | int | tuple[int, int] = "right",
        return_offsets: bool = False,
    ) -> tuple[list, ...]:
        """Encodes a text or a pair of texts as token ids and segment ids.

        Args:
            first_text: a string, or a list of tokens as returned by `tokenize`.
            second_text: the same, or None (default).
            maxlen: the most ids to return; None (default) for no limit. Of two texts, the longer
                one is shortened first.
            pattern: `"S*E*E"` (default: start, first, end, `token_second` if there is one, second,
                end), or `"S*ES*E"` with a start token before the second text instead.
            truncate_from: where a text is shortened: `"right"` (default, before its end token),
                `"left"` (after its start token), or the position at which tokens are deleted; a
                pair of positions for a pair of texts.
            return_offsets: whether to return the offsets of the tokens too. Default False.

        Returns:
            `(token_ids, segment_ids)`, two lists of ints; segments are 0 for the first and
            `second_segment` (1 in BERT) for the second text. With `return_offsets`, a third list
            with `(start, end)` of each token: `text[start:end]` is its source. Special tokens
            around the texts have `(0, 0)`.

        Raises:
            ValueError: `pattern` or `truncate_from` is unknown, or `maxlen` is too small.
            TypeError: a text is neither a string nor a list.

        Example:
            >>> tokenizer.encode("今天", "天气好", maxlen=6)
            ([101, 791, 1921, 102, 1921, 102], [0, 0, 0, 0, 1, 1])
        """
        sequences = [self._sequence(first_text, return_offsets)]
        if second_text is not None:
            sequences.append(self._sequence(second_text, return_offsets))
        return self._joined(sequences, maxlen, pattern, truncate_from)

    def _joined(self, sequences, maxlen, pattern, truncate_from):
        """Returns the result of `encode`, given the `_sequence` of one or two texts."""
        is_pair = len(sequences) == 2
        if pattern not in ("S*E*E", "S*ES*E"):
            raise ValueError(f"pattern={pattern!r:.200}; expected 'S*E*E' or 'S*ES*E'.")
        if not is_pair and maxlen is None and truncate_from == "right":  # the most frequent case
            (result,) = sequences
            return (result[0], [0] * len(result[0]), *result[1:])
        # The start token of a second text is replaced only after truncation.
        replaced, second_ids = 0, []
        if is_pair and pattern == "S*E*E":
            replaced, second_ids = len(self._start_ids), self._second_ids
        surplus = replaced - len(second_ids)

        indices = self._truncation_indices(truncate_from)
        if maxlen is not None:
            check_number("maxlen", maxlen, 0, NO_LIMIT)
            least = isinstance(truncate_from, str) and len(self._start_ids) + len(self._end_ids)
            lengths = _truncated_lengths([len(s[0]) for s in sequences], maxlen + surplus)
            sequences = [
                [_truncated(items, length, index, least) for items in sequence]
                for sequence, length, index in zip(sequences, lengths, indices, strict=False)
            ]

        if is_pair:
            first, second = sequences
            between = (second_ids, [(0, 0)] * len(second_ids))  # ids, offsets
            result = [a + c + b[replaced:] for a, b, c in zip(first, second, between, strict=False)]
            length = len(result[0]) - len(first[0])
            segment_ids = [0] * len(first[0]) + [self.second_segment] * length
        else:
            (result,) = sequences
            segment_ids = [0] * len(result[0])
        token_ids, *offsets = result
        return (token_ids, segment_ids, *offsets)

    def _truncation_indices(self, truncate_from):
        if truncate_from == "right":
            return (-1 - len(self._end_ids),) * 2
        if truncate_from == "left":
            return (len(self._start_ids),) * 2
        indices = truncate_from if isinstance(truncate_from, list | tuple) else [truncate_from] * 2
        if len(indices) != 2 or any(
            isinstance(index, bool) or not isinstance(index, Integral) for index in indices
        ):
            raise ValueError(
                f"truncate_from={truncate_from!r:.200}; expected 'right', 'left', a position or"
                " two."
            )
        return indices

    def encode_batch(
        self,
        first_texts: Sequence,
        second_texts: Sequence | None = None,
        maxlen: int | None = None,
        pattern: str = "S*E*E",
        truncate_from: str | int | tuple[int, int] = "right",
        length: int | None = None,
        padding: str = "right",
    ) -> tuple[np.ndarray, np.ndarray]:
        """Encodes many texts as token ids and segment ids, padded to one length.

        Args:
            first_texts: list of strings or lists of tokens, as `first_text` of `encode`; or list of
                pairs of texts, each a tuple of two.
            second_texts: list of as many second texts, or None (default).
            maxlen: the most ids in a row, as in `encode`.
            pattern: as in `encode`.
            truncate_from: as in `encode`.
            length: length of the rows; None (default) for that of the longest.
            padding: side that is padded with `token_pad_id` (and segment 0): `"right"` (default) or
                `"left"`.

        Returns:
            `(token_ids, segment_ids)`, two int32 arrays of shape `(batch, length)`.

        Raises:
            ValueError: the numbers of texts differ, a row is longer than `length`, `padding` is
                unknown, or padding is needed and `token_pad` is not in the vocabulary.
            TypeError: a string instead of a list, or tuples that are not all pairs.

        Example:
            >>> token_ids, segment_ids = tokenizer.encode_batch(["今天天气好", "是"], maxlen=128)
        """
        if padding not in ("right", "left"):
            raise ValueError(f"padding={padding!r:.200}; expected 'right' or 'left'.")
        for name, texts in (("first_texts", first_texts), ("second_texts", second_texts)):
            if isinstance(texts, str | bytes):
                raise TypeError(
                    f"encode_batch: {name} is one text; expected a list, got {texts!r:.80}."
                )
        first_texts = list(first_texts)
        if any(isinstance(text, tuple) for text in first_texts):
            first_texts, second_texts = _columns_of_pairs(first_texts, second_texts)
        elif self._look_like_pairs(first_texts):
            raise TypeError(
                "encode_batch: expected texts, lists of tokens, or tuples of two texts, got "
                f"{first_texts[0]!r:.80}, a list without a token."
            )
        if second_texts is not None and len(second_texts) != len(first_texts):
            raise ValueError(
                f"{len(first_texts)} first_texts but {len(second_texts)} second_texts; expected"
                " the same number."
            )
        columns = [self._sequences(ts) for ts in (first_texts, second_texts) if ts is not None]
        rows = [
            self._joined(sequences, maxlen, pattern, truncate_from)
            for sequences in zip(*columns, strict=True)
        ]
        lengths = [len(token_ids) for token_ids, _ in rows]
        longest = max(lengths, default=0)
        length = longest if length is None else length
        if longest > length:
            raise ValueError(
                f"length={length}: a text has {longest} tokens; pass maxlen={length} to truncate."
            )
        if self.token_pad_id is None and any(n < length for n in lengths):
            raise ValueError(
                f"texts of different lengths need padding, but token_pad={self.token_pad!r:.200} is"
                " not in the vocabulary; pass a token that is."
            )
        token_ids = np.full((len(rows), length), self.token_pad_id or 0, "int32")
        segment_ids = np.zeros((len(rows), length), "int32")
        for i, (row, n) in enumerate(zip(rows, lengths, strict=True)):
            filled = slice(n) if padding == "right" else slice(length - n, length)
            token_ids[i, filled], segment_ids[i, filled] = row
        return token_ids, segment_ids

    def _look_like_pairs(self, texts):
        """Returns whether all texts are lists of two strings, neither of them a token."""
        return bool(texts) and all(
            isinstance(text, list)
            and [type(part) for part in text] == [str, str]
            and max(map(len, text)) > 1
            and not any(part in self.special_tokens.values() for part in text)
            and all(self.token_to_id(part) == self.token_unk_id for part in text)
            for text in texts
        )


def _columns_of_pairs(pairs, second_texts):
    """Returns the first and the second texts of a list of pairs."""
    other = next((p for p in pairs if not isinstance(p, tuple) or len(p) != 2), None)
    if other is not None or second_texts is not None:
        got = "second_texts, too" if other is None else f"{other!r:.80} among them"
        raise TypeError(f"encode_batch: expected pairs of texts, tuples of two, got {got}.")
    return zip(*pairs, strict=True)


class DictTokenizer(TokenizerBase):
    """Base class of tokenizers whose vocabulary is a dict token -> id. Ids may have gaps."""

    def _set_vocab(self, token_dict):
        self._vocab = token_dict  # without the added tokens
        if added := self._numbered(token_dict.get):
            owners = {i: token for token, i in token_dict.items()}
            for token, i in added.items():
                if owners.setdefault(i, token) != token:
                    raise ValueError(
                        f"added_tokens: id {i} of {token!r:.200} is that of {owners[i]!r:.200};"
                        " expected an id that the vocabulary does not use."
                    )
            token_dict = {**token_dict, **added}
        self.token_dict = self._token_dict = token_dict
        self._token_dict_inv = {i: token for token, i in token_dict.items()}
        self.vocab_size = self._vocab_size = max(token_dict.values(), default=-1) + 1
        self._set_special_ids(token_dict)

    def known_id(self, token: str) -> int | None:
        """Returns the id of a token, or None if it is not in the vocabulary."""
        return self._token_dict.get(token)

    def token_to_id(self, token: str) -> int:
        """Returns the id of a token; that of `token_unk` if it is not in the vocabulary."""
        return self._token_dict.get(token, self.token_unk_id)

    def id_to_token(self, i: int) -> str:
        """Returns the token of an id (an integer of any library); `""` for a row without token.

        Raises:
            ValueError: the id is negative or not below `vocab_size`.
        """
        i = operator.index(i)
        if not 0 <= i < self.vocab_size:
            raise ValueError(f"id {i} is not in the vocabulary of {self.vocab_size} tokens.")
        return self._token_dict_inv.get(i, "")
