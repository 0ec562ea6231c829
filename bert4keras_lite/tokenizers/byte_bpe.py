"""Byte-level byte pair encoding (BPE), as in GPT-2, RoBERTa, Qwen and Llama 3.

1. A regular expression, or several one after another, splits the text into words, numbers,
   punctuation and spaces; a word keeps the space before it.
2. The UTF-8 bytes of each piece are written in an alphabet of 256 visible characters (a space is
   `Ġ`), so no character is unknown.
3. The pair of neighbouring symbols that comes first in the list of merges is joined, repeatedly,
   until no pair is in the list.

A Chinese character has three bytes and often takes two or three tokens of GPT-2's vocabulary.

Reference: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section
2.2; the algorithm is that of `src/encoder.py` in https://github.com/openai/gpt-2.
"""

import json
import os
import unicodedata
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from ..arguments import checks_flags
from ..files import complete
from ..parsing import read_json, read_lines, shown
from ..types import PathLike
from .added import WHITE_SPACE, parts
from .base import DictTokenizer, Memo, byte_spans, locate
from .classes import ROWS
from .output import write_byte_bpe
from .settings import checked_merges, checked_vocab
from .splitting import GPT2, checked_pattern, composed, cut_by_all, limit_patterns
from .wordpiece import load_vocab

__all__ = ["ALPHABET", "ByteBPETokenizer", "read_merges", "read_vocab"]


def _byte_alphabet():
    """Returns the characters of the 256 bytes: visible ones themselves, others from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


ALPHABET = _byte_alphabet()
_SPACES = WHITE_SPACE + ALPHABET[ord(" ")]
# Attributes that the row of a tokenizer class determines, and their values in most classes
_RULES = {
    "patterns": (GPT2,),
    "normal_form": None,
    "trim_offsets": False,
    "second_segment": 1,
}
_BYTE_OF = {char: byte for byte, char in enumerate(ALPHABET)}


def _symbols(text):
    """Returns the UTF-8 bytes of a text as a string over the alphabet."""
    return "".join(map(ALPHABET.__getitem__, text.encode("utf-8", "replace")))


def _token_bytes(token):
    """Returns the bytes of a token; a token not written in the alphabet is taken as plain text."""
    if all(char in _BYTE_OF for char in token):
        return bytes(map(_BYTE_OF.__getitem__, token))
    return token.encode("utf-8", "replace")


def read_vocab(path):
    """Reads a dict token -> id from a JSON file, or from a file with one token a line."""
    complete(Path(path).parent)
    if Path(path).suffix != ".json":
        return load_vocab(path)
    return checked_vocab(path, read_json(path))


def read_merges(path, vocab):
    """Reads the pairs of symbols from a merges file, best first."""
    try:
        lines = read_lines(path)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected text in UTF-8, got {error.reason} at byte {error.start}."
        ) from None

    def pairs():
        for number, line in enumerate(lines, 1):
            pair = line.split(None, 2)
            if not pair or (number == 1 and line.startswith("#version")):
                continue
            if len(pair) != 2:
                raise ValueError(f"{path}, line {number}: expected two symbols, got {shown(line)}.")
            yield pair

    return checked_merges(path, pairs(), vocab)


class ByteBPETokenizer(DictTokenizer):
    """Byte-level BPE tokenizer, as in GPT-2, RoBERTa, Qwen and Llama 3.

    Its ids are those of OpenAI's code; with `special_tokens_in_text=True`, those of Hugging
    Face's GPT-2 tokenizer.

    Every token has a source in the text. If the bytes of a character are split among several
    tokens, each of them has the character as its source, so the offsets of neighbouring tokens may
    overlap. The space before a word belongs to the word's token.

    Args:
        vocab: dict token -> id; or its file: `vocab.json` (Hugging Face), `encoder.json`
            (OpenAI), or `vocab.txt` with one token a line.
        merges: list of pairs of symbols, best first; or its file, `merges.txt` or `vocab.bpe`.
        special_tokens_in_text: whether `<|endoftext|>` in a text becomes that token. Default False.
        token_start: token put before a text. Default None, as GPT-2 has none.
        token_end: token put after each text. Default None: GPT-2 puts `<|endoftext|>` between
            documents, which is left to the caller.
        token_mask: default `<mask>`.
        token_unk, token_pad: default `<|endoftext|>`.
        patterns: list of regular expressions that split a text into words, each applied to the
            pieces of the one before it. Default None: that of GPT-2.
        normal_form: `"NFC"` to compose characters first; None (default) leaves them as they are.
        ignore_merges: whether a word that is in the vocabulary is one token, whatever the merges
            say. Default False.
        trim_offsets: whether the offsets of a token leave out the spaces at its ends. Default
            False.
        **kwargs: `pre_tokenize`, `token_translate`, `added_tokens`, `token_second` and
            `second_segment`, see `TokenizerBase`.

    Raises:
        ValueError: a file is invalid, vocabulary and merges do not belong together, or a regular
            expression is not understood.

    Example:
        >>> tokenizer = ByteBPETokenizer("vocab.json", "merges.txt")
        >>> tokenizer.tokenize("Hello world")
        ['Hello', 'Ġworld']
        >>> tokenizer.decode(tokenizer.encode("Hello 世界")[0])
        'Hello 世界'
    """

    @checks_flags
    def __init__(
        self,
        vocab: PathLike | dict[str, int],
        merges: PathLike | Sequence[tuple[str, str]],
        special_tokens_in_text: bool = False,
        token_start: str | None = None,
        token_end: str | None = None,
        token_mask: str | None = "<mask>",
        token_unk: str | None = "<|endoftext|>",
        token_pad: str | None = "<|endoftext|>",
        patterns: Sequence[str] | None = None,
        normal_form: str | None = None,
        ignore_merges: bool = False,
        trim_offsets: bool = False,
        **kwargs: Any,
    ) -> None:
        if normal_form not in (None, "NFC"):
            raise ValueError(f"normal_form={normal_form!r:.200}; expected 'NFC' or None.")
        self.patterns = (GPT2,) if patterns is None else tuple(patterns)
        self.normal_form, self.trim_offsets = normal_form, trim_offsets
        limit_patterns(self.patterns)
        self._compiled = [checked_pattern(pattern) for pattern in self.patterns]
        self.ignore_merges = ignore_merges
        super().__init__(
            token_start,
            token_end,
            token_mask,
            token_unk,
            token_pad,
            special_tokens_in_text=special_tokens_in_text,
            **kwargs,
        )
        source = "vocab" if isinstance(vocab, dict) else vocab
        token_dict = vocab if isinstance(vocab, dict) else read_vocab(vocab)
        pairs = read_merges(merges, token_dict) if isinstance(merges, str | os.PathLike) else merges
        for first, second in pairs:
            if first + second not in token_dict:
                raise ValueError(
                    f"the merges join {first!r:.200} and {second!r:.200}, but {source} has no"
                    f" {first + second!r:.200}; expected vocabulary and merges of one model."
                )
        self._set_vocab(token_dict)
        self.vocab = token_dict  # without the added tokens
        self._ranks = {tuple(pair): rank for rank, pair in enumerate(pairs)}
        if self.token_unk_id is None and not token_dict.keys() >= set(ALPHABET):
            raise ValueError(
                f"{source} lacks some of the 256 bytes and token_unk={self.token_unk!r:.200}; pass"
                " as token_unk a token of the vocabulary."
            )

        self._word_tokens = Memo(self._compute_word_tokens, longest=32)
        self._word_ids = Memo(self._compute_word_ids, longest=32)

    @property
    def merges(self) -> list[tuple[str, str]]:
        """The pairs of symbols that are joined, best first."""
        return list(self._ranks)

    def _row(self):
        """Returns the `TokenizerClass` that has all rules of this tokenizer, or None."""
        return next(
            (
                row
                for row in ROWS
                if row.algorithm == "byte-level BPE"
                and not (row.by_file or self.ignore_merges)
                and self.token_second == (self.token_end if "token_second" in row.names else None)
                and _RULES | row.options == {name: getattr(self, name) for name in _RULES}
            ),
            None,
        )

    def _save_vocabulary(self, directory):
        row = self._row()
        if row is None:
            return write_byte_bpe(directory, self)
        vocab = json.dumps(self._vocab, ensure_ascii=False)
        (directory / "vocab.json").write_text(vocab, "utf-8")
        lines = ["#version: 0.2", *map(" ".join, self._ranks), ""]
        (directory / "merges.txt").write_text("\n".join(lines), "utf-8", newline="\n")
        values = {"tokenizer_class": row.classes.split("|")[0]}
        for ours, theirs in (("token_start", "bos"), ("token_end", "eos")):
            token = getattr(self, ours)
            if token is not None and ours not in row.names:
                values |= {f"add_{theirs}_token": True, f"{theirs}_token": token}
        return row.names, values

    # Functions whose results are cached

    def _compute_word_tokens(self, word):
        """Returns a word's tokens: joins the best-ranked pair until no pair is in the merges."""
        whole = _symbols(word)
        if self.ignore_merges and whole in self._vocab:
            return (whole,)
        symbols = list(whole)
        size, ranks = len(symbols), self._ranks
        # Indices of the neighbours of each symbol. A symbol joined to its left neighbour is None.
        left, right = list(range(-1, size - 1)), list(range(1, size + 1))
        heap = [(ranks[p], i) for i, p in enumerate(pairwise(symbols)) if p in ranks]
        heapify(heap)
        while heap:
            rank, i = heappop(heap)
            j = right[i]
            # Either symbol may have been joined to another one since this pair was pushed.
            if j == size or ranks.get((symbols[i], symbols[j])) != rank:
                continue
            symbols[i], symbols[j] = symbols[i] + symbols[j], None
            right[i] = k = right[j]
            if k < size:
                left[k] = i
                if (pair := (symbols[i], symbols[k])) in ranks:
                    heappush(heap, (ranks[pair], i))
            h = left[i]
            if h >= 0 and (pair := (symbols[h], symbols[i])) in ranks:
                heappush(heap, (ranks[pair], h))
        return tuple(symbol for symbol in symbols if symbol is not None)

    def _compute_word_ids(self, word):
        translate = self._token_translate
        return tuple(self.token_to_id(translate.get(t, t)) for t in self._word_tokens[word])

    # Text to tokens

    def _words(self, text):
        """Returns the words of `pre_tokenize`, each tokenized by itself; or the whole text."""
        return [text] if self._pre_tokenize is None else list(self._pre_tokenize(text))

    def _word_list(self, text):
        if self.normal_form:
            text = unicodedata.normalize(self.normal_form, text)
        return [word for words in self._words(text) for word in cut_by_all(self._compiled, words)]

    def _tokenize(self, text):
        tokens = []
        for start, end, added in self._parts(text):
            if added:
                tokens.append(added.content)
            else:
                words = self._word_list(text[start:end])
                tokens += chain.from_iterable(map(self._word_tokens.__getitem__, words))
        return tokens

    def _encode(self, text):
        ids = []
        for start, end, added in self._parts(text):
            if added:
                content = added.content
                ids.append(self.token_to_id(self._token_translate.get(content, content)))
            else:
                words = self._word_list(text[start:end])
                ids += chain.from_iterable(map(self._word_ids.__getitem__, words))
        return ids

    def _spans(self, text):
        """Returns `(start, end)` of each token of a text without added tokens."""
        text, origins = composed(text, self.normal_form)
        words, spans = self._words(text), []
        for start, word in zip(locate(text, words), words, strict=True):
            pieces = map(self._word_tokens.__getitem__, cut_by_all(self._compiled, word))
            tokens = list(chain.from_iterable(pieces))
            for token, (i, j) in zip(tokens, byte_spans(word, map(len, tokens)), strict=True):
                span = origins[start + i], origins[start + j - 1] + 1
                spans.append(self._trimmed(token, *span))
        return spans

    def _added_span(self, text):
        return self._trimmed(text, 0, len(text))

    def _trimmed(self, token, start, end):
        """Returns the span of a token; with `trim_offsets`, without the spaces at its ends."""
        if not self.trim_offsets:
            return start, end
        start = min(start + len(token) - len(token.lstrip(_SPACES)), end)
        return start, max(end - len(token) + len(token.rstrip(_SPACES)), start)

    def _set_finders(self, in_text):
        """Composes the characters of the tokens that match the normalized text."""
        super()._set_finders(
            {
                composed(content, self.normal_form)[0] if token.normalized else content: token
                for content, token in in_text.items()
            }
        )

    def _late_parts(self, text):
        new, origins = composed(text, self.normal_form)
        edges = [*origins, len(text)]
        matches = self._late_finder.find(new)
        return parts(text, [(edges[start], edges[end], token) for start, end, token in matches])

    # Tokens to text

    def decode(self, ids: Any) -> str:
        """Returns the text of token ids, without special tokens; other added tokens are kept.

        Bytes that do not form a whole character, e.g. after truncation, become U+FFFD.

        Args:
            ids: list, array or tensor of ids.

        Returns:
            A string.
        """
        tokens = [self._token_translate_inv.get(t, t) for t in self.ids_to_tokens(ids)]
        text = b"".join(
            t.encode("utf-8", "replace") if t in self.added_tokens else _token_bytes(t)
            for t in tokens
            if t not in self._special_set
        )
        return text.decode("utf-8", "replace")
