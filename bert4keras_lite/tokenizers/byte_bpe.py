"""GPT-2's byte-level byte pair encoding.

1. A regular expression cuts the text into words, numbers, punctuation and spaces; a word keeps
   the space before it.
2. The UTF-8 bytes of each piece are written in an alphabet of 256 visible characters (a space is
   `Ġ`), so that there are no unknown characters.
3. Of all neighbouring symbols, the pair that comes first in the list of merges is joined, again
   and again.

A Chinese character is three bytes and, in GPT-2's vocabulary, often two or three tokens.

Reference: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section
2.2; the algorithm is that of `src/encoder.py` in https://github.com/openai/gpt-2.
"""

import json
from heapq import heapify, heappop, heappush
from itertools import chain, pairwise
from pathlib import Path

import regex

from ..arguments import checks_flags
from ..files import complete
from ..parsing import read_json, read_lines, shown
from .base import DictTokenizer, Memo, byte_spans, locate
from .settings import checked_merges, checked_vocab
from .wordpiece import load_vocab

# English contractions, words, numbers, everything else, and spaces. Of several spaces the last
# goes with the word that follows.
_WORDS = regex.compile(r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


def _byte_alphabet():
    """The 256 characters that stand for bytes: visible ones for themselves, others from U+0100."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(others)) for byte in range(256)]


ALPHABET = _byte_alphabet()
_BYTE_OF = {char: byte for byte, char in enumerate(ALPHABET)}


def _symbols(text):
    """The bytes of a text as a string over the alphabet."""
    return "".join(map(ALPHABET.__getitem__, text.encode("utf-8", "replace")))


def _token_bytes(token):
    """The bytes a token stands for; an added token outside the alphabet stands for itself."""
    if all(char in _BYTE_OF for char in token):
        return bytes(map(_BYTE_OF.__getitem__, token))
    return token.encode("utf-8", "replace")


def read_vocab(path):
    """The dict token -> id of a JSON file, or of a file with one token a line."""
    complete(Path(path).parent)
    if Path(path).suffix != ".json":
        return load_vocab(path)
    return checked_vocab(path, read_json(path))


def read_merges(path, vocab):
    """The pairs of symbols of a file of merges, best first."""
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
    """GPT-2's byte-level BPE tokenizer.

    Its ids are those of OpenAI's code; with `special_tokens_in_text=True`, those of Hugging
    Face's GPT-2 tokenizer.

    Every token has a source in the text. A character whose bytes are parted among several tokens
    counts as the source of each of them, so the offsets of neighbours may overlap. The space
    before a word belongs to the word's token.

    Args:
        vocab: dict token -> id; or a file of it: `vocab.json` (Hugging Face), `encoder.json`
            (OpenAI), or `vocab.txt` with one token a line.
        merges: list of pairs of symbols, best first; or a file of it, `merges.txt` or
            `vocab.bpe`.
        token_start: token put in front of a text; None, as GPT-2 has none.
        token_end: token put behind each text; None: GPT-2 puts `<|endoftext|>` between
            documents, which is the caller's choice.
        token_mask, token_unk, token_pad: the other special tokens.
        **kwargs: `pre_tokenize`, `token_translate`, `added_tokens`, and
            `special_tokens_in_text`, which reads `<|endoftext|>` in a text as that token; see
            `TokenizerBase`.

    Raises:
        ValueError: a file is not what it should be, or the two do not belong together.

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
        vocab,
        merges,
        special_tokens_in_text=False,
        token_start=None,
        token_end=None,
        token_mask="<mask>",
        token_unk="<|endoftext|>",
        token_pad="<|endoftext|>",
        **kwargs,
    ):
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
        if not isinstance(vocab, dict):
            vocab = read_vocab(vocab)
        if isinstance(merges, str | Path):
            merges = read_merges(merges, vocab)
        for first, second in merges:
            if first + second not in vocab:
                raise ValueError(
                    f"the merges join {first!r:.200} and {second!r:.200}, but {source} has no"
                    f" {first + second!r:.200}; expected vocabulary and merges of one model"
                )
        self._set_vocab(vocab)
        self._ranks = {tuple(pair): rank for rank, pair in enumerate(merges)}
        if self.token_unk_id is None and not vocab.keys() >= set(ALPHABET):
            raise ValueError(
                f"{source} lacks some of the 256 bytes and token_unk={self.token_unk!r:.200}; name the"
                " token it has for what is unknown"
            )

        self._word_tokens = Memo(self._compute_word_tokens, longest=32)
        self._word_ids = Memo(self._compute_word_ids, longest=32)

    def _save_vocabulary(self, directory):
        vocab = json.dumps(self._vocab, ensure_ascii=False)
        (directory / "vocab.json").write_text(vocab, "utf-8")
        lines = ["#version: 0.2", *map(" ".join, self._ranks), ""]
        (directory / "merges.txt").write_text("\n".join(lines), "utf-8", newline="\n")
        values = {"tokenizer_class": "GPT2Tokenizer"}
        for token, theirs in ((self.token_start, "bos"), (self.token_end, "eos")):
            if token is not None:
                values |= {f"add_{theirs}_token": True, f"{theirs}_token": token}
        return "byte-level BPE", values

    # Tables

    def _compute_word_tokens(self, word):
        """Joins neighbours, the best-ranked pair first, until no pair is among the merges."""
        symbols = list(_symbols(word))
        size, ranks = len(symbols), self._ranks
        # Neighbours of each symbol; a symbol that was joined to its left neighbour is None.
        left, right = list(range(-1, size - 1)), list(range(1, size + 1))
        heap = [(ranks[p], i) for i, p in enumerate(pairwise(symbols)) if p in ranks]
        heapify(heap)
        while heap:
            rank, i = heappop(heap)
            j = right[i]
            # Symbols may have been joined otherwise since their pair was noted.
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
        """What of a text without added tokens is cut on its own."""
        return [text] if self._pre_tokenize is None else list(self._pre_tokenize(text))

    def _word_list(self, text):
        return [word for words in self._words(text) for word in _WORDS.findall(words)]

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

    def _encode_with_offsets(self, text):
        offsets = []
        for start, end, added in self._parts(text):
            spans = [(0, end - start)] if added else self._spans(text[start:end])
            offsets += [(start + i, start + j) for i, j in spans]
        return self._encode(text), offsets

    def _spans(self, text):
        """Where the tokens of a text without added tokens start and end."""
        words, spans = self._words(text), []
        for start, word in zip(locate(text, words), words, strict=True):
            tokens = chain.from_iterable(map(self._word_tokens.__getitem__, _WORDS.findall(word)))
            spans += [(start + i, start + j) for i, j in byte_spans(word, map(len, tokens))]
        return spans

    # Tokens to text

    def decode(self, ids):
        """The text of token ids, without special tokens; other added tokens stay as they are.

        Bytes that are no whole character, as after a truncation, become U+FFFD.

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
