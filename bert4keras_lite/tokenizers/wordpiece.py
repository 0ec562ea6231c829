"""WordPiece tokenizer for Chinese (and other) text, in fast plain Python.

The ids are exactly those of Google's BERT code, so they fit pretrained embedding tables:

1. clean: drop control characters, replace every kind of space by a space,
2. put spaces around each Chinese character (if `tokenize_chinese_chars`),
3. lower-case (if `do_lower_case`) and strip accents (if `strip_accents`),
4. split at white space and around punctuation,
5. split each word greedily into the longest pieces of the vocabulary (WordPiece).

Steps 1 to 4 change one character at a time, with two rare exceptions, so they are one
`str.translate` with a lazily filled table. Step 5 is cached too, as words repeat.

Differences between Google's code and Hugging Face's:

| text | this tokenizer and Google | Hugging Face `tokenizers` | to get the latter |
|---|---|---|---|
| `[MASK]` in running text | `[`, `mask`, `]` | one token | `special_tokens_in_text=True` |
| word of 101 to 200 characters | cut into pieces | `[UNK]` | `word_maxlen=100` |
| private-use characters (U+E000...) | kept, hence `[UNK]` | dropped | `drop_private_use=True` |
| capital sigma at the end of a word | final sigma | plain sigma | - |
| U+2B820 to U+2B91F (CJK extension E) | one word each | joined into one word | - |

Marks and punctuation that are missing in the Unicode tables of either side differ as well.

Reference: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding", 2018, https://arxiv.org/abs/1810.04805; the algorithm is that of
`tokenization.py` in https://github.com/google-research/bert.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, chain, islice
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

from ..arguments import checks_flags
from ..files import complete, write_text
from ..parsing import check_encoding, read_lines
from ..types import PathLike
from .added import parts
from .base import DictTokenizer, Memo, TokenizerBase, locate
from .classes import ROWS
from .words import jieba_words

__all__ = ["Tokenizer", "load_vocab", "save_vocab", "vocab_text"]

# Vocabulary files


@checks_flags
def load_vocab(
    path: PathLike,
    encoding: str = "utf-8",
    simplified: bool = False,
    startswith: Sequence[str] | None = None,
) -> Any:
    """Reads a vocabulary file: one token a line, whose id is the line number from 0.

    Only the first column of a line counts, as some files have frequencies in a second one. A line
    with only white space is the token `""`: it keeps its id, but no text contains it (line 344 of
    Google's Chinese vocabulary is a lone U+2028). If a token occurs twice, the last line counts,
    as in Google's code. Empty lines at the end of the file are ignored.

    Args:
        path: the file, usually `vocab.txt` of a checkpoint.
        encoding: its character encoding. Default UTF-8.
        simplified: whether to leave out tokens that Chinese text never yields: those longer than
            one character that contain a Chinese character or punctuation. Default False.
        startswith: with `simplified`, a list of tokens to keep and to number first, e.g.
            `["[PAD]", "[UNK]", "[CLS]", "[SEP]"]`; special tokens not in it are left out. Default
            None.

    Returns:
        A dict token -> id. With `simplified`, a tuple of the smaller, renumbered dict and the
        list `keep_tokens` of the old ids, for `build_transformer_model(..., keep_tokens=)`.

    Raises:
        ValueError: the file is empty, not text, or lacks a token of `startswith`; or the encoding
            is unknown.
        OSError: the file cannot be opened.

    Example:
        >>> token_dict, keep_tokens = load_vocab(
        ...     "vocab.txt", simplified=True, startswith=["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
        ... )
    """
    if Path(path).is_dir():
        raise ValueError(f"{path} is a directory; pass the vocabulary file in it (vocab.txt).")
    check_encoding(encoding)
    complete(Path(path).parent)
    try:
        # Lines end at "\n" only: a vocabulary may hold other line separators as tokens.
        lines = read_lines(path, encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not {encoding} text ({error.reason} at byte {error.start}); expected a"
            " vocabulary of one token a line. Pass its encoding=, e.g. 'gb18030'."
        ) from None
    lines[0] = lines[0].removeprefix("\ufeff")
    while len(lines) > 1 and not lines[-1].strip("\r"):
        lines.pop()
    token_dict = {(line.split(None, 1) or [""])[0]: row for row, line in enumerate(lines)}
    if not any(token_dict):
        raise ValueError(f"{path} holds no tokens; expected one token a line.")
    if not simplified:
        return token_dict

    startswith = list(dict.fromkeys(startswith or []))
    if missing := [token for token in startswith if token not in token_dict]:
        raise ValueError(f"{path} has no {missing[0]!r:.200}, which startswith= asks for.")
    rest = [t for t in token_dict if t not in startswith and not _is_redundant(t)]
    kept = startswith + sorted(rest, key=token_dict.__getitem__)
    return {token: i for i, token in enumerate(kept)}, [token_dict[token] for token in kept]


def save_vocab(path: PathLike, token_dict: dict[str, int], encoding: str = "utf-8") -> None:
    """Writes a vocabulary file from which `load_vocab` reads the same ids.

    Args:
        path: the file to write.
        token_dict: dict token -> id. Ids without a token become empty lines.
        encoding: character encoding of the file. Default UTF-8.

    Raises:
        TypeError: `token_dict` is not a dict token -> id.
        ValueError: two tokens have the same id, a token contains white space, or the encoding is
            unknown.
        OSError: the file cannot be written; an existing file is then unchanged.
    """
    check_encoding(encoding)
    write_text(path, vocab_text(token_dict), encoding)


def vocab_text(vocab, argument="token_dict"):
    """Returns the text of a vocabulary file, with one token a line.

    Args:
        vocab: dict token -> id, or a tokenizer that has one as `token_dict`.
        argument: name of the argument in error messages. Default `token_dict`.

    Raises:
        TypeError, ValueError: see `save_vocab`.
    """
    token_dict = getattr(vocab, "token_dict", vocab)
    if not isinstance(token_dict, Mapping) or not all(
        isinstance(token, str) and isinstance(row, Integral) for token, row in token_dict.items()
    ):
        raise TypeError(
            f"{argument}: expected a dict token -> id or a Tokenizer, got {repr(vocab)[:200]}. "
            "load_vocab reads such a dict from a file."
        )
    rows = [""] * (max(token_dict.values(), default=-1) + 1)
    for token, row in token_dict.items():
        if row < 0:
            raise ValueError(f"{argument}: {token!r:.200} has the id {row}; expected 0 or more.")
        if rows[row]:
            raise ValueError(
                f"{argument} gives id {row} to both {rows[row]!r:.200} and {token!r:.200}; expected"
                " a different id for each token."
            )
        if token.split(None, 1) not in ([], [token]):
            raise ValueError(
                f"{argument}: {token!r:.200} contains white space and cannot be saved."
            )
        rows[row] = token
    return "".join(f"{token}\n" for token in rows)


# Characters


def _is_cjk(char):
    """Returns whether Google's code makes a word of the character: Chinese, not kana or hangul."""
    code = ord(char)
    return (
        0x4E00 <= code <= 0x9FFF
        or 0x3400 <= code <= 0x4DBF
        or 0xF900 <= code <= 0xFAFF
        or 0x20000 <= code <= 0x2A6DF
        or 0x2A700 <= code <= 0x2CEAF
        or 0x2F800 <= code <= 0x2FA1F
    )


def _is_punctuation(char):
    """Returns whether a character is punctuation in Unicode or an ASCII symbol (`$`, `+`, ...)."""
    if char.isascii():
        return char.isprintable() and not char.isalnum() and char != " "
    return unicodedata.category(char).startswith("P")


def _stem(token):
    """Returns the text of a piece, without the `##` that continues a word."""
    return token[2:] if token.startswith("##") else token


def _is_redundant(token, chinese=True):
    """Returns whether no text yields a token, because its characters always are separate words.

    That is the case for punctuation, and for Chinese characters if `chinese`.
    """
    return len(token) > 1 and any(
        _is_punctuation(c) or (chinese and _is_cjk(c)) for c in _stem(token)
    )


class Rules(NamedTuple):
    """Normalization rules of a tokenizer; see the arguments of `Tokenizer`."""

    lower: bool = True
    strip_accents: bool = True
    chinese: bool = True
    drop_private_use: bool = False
    punctuation: bool = True


def _clean(char, rules):
    """Returns a character after steps 1 and 2 (cleaning, spaces around Chinese characters)."""
    if char in "\t\n\r":
        return " "
    category = unicodedata.category(char)
    if char in "\0\ufffd" or category in ("Cc", "Cf"):
        return ""
    if category == "Co" and rules.drop_private_use:
        return ""
    if category == "Zs":
        return " "
    return f" {char} " if rules.chinese and _is_cjk(char) else char


def _normalize(text, rules):
    """Applies steps 1 to 4, except for the split at spaces, to a whole text.

    Returns:
        `(normalized, origins)`: the text with words separated by spaces, and for each of its
        characters the position in `text` it came from.
    """
    pairs = [(c, i) for i, char in enumerate(text) for c in _clean(char, rules)]
    pairs = _folded(pairs, rules)
    if rules.punctuation:
        pairs = [(new, i) for c, i in pairs for new in (f" {c} " if _is_punctuation(c) else c)]
    return "".join(c for c, _ in pairs), [i for _, i in pairs]


def _origin(spaced, origins, start, end):
    """Returns the start and end, in the original text, of a part of a normalized text.

    `_normalize` puts spaces around some characters. Such a space at an edge of the part does not
    include its character, if that is outside of the part. The origin of a part that has only such
    spaces is empty, between two characters.

    Args:
        spaced, origins: the normalized text, and for each character its position in the original.
        start, end: of the part.
    """
    first, last = start, end
    while first < last and spaced[first].isspace() and origins[first] in origins[start - 1 : start]:
        first += 1
    while (
        first < last and spaced[last - 1].isspace() and origins[last - 1] in origins[end : end + 1]
    ):
        last -= 1
    if first < last:
        return min(origins[first:last]), max(origins[first:last]) + 1
    position = origins[end] if last < end else origins[start - 1] + 1
    return position, position


def _folded(pairs, rules):
    """Applies step 3 to a whole text, given as a list of `(character, position)`."""
    if rules.lower:
        # The form of a final sigma depends on the whole text; both forms are one character.
        lowered = iter("".join(c for c, _ in pairs).lower())
        pairs = [(new, i) for c, i in pairs for new in islice(lowered, len(c.lower()))]
    if rules.strip_accents:
        pairs = [(new, i) for c, i in pairs for new in unicodedata.normalize("NFD", c)]
        pairs = [(c, i) for c, i in _canonical_order(pairs) if unicodedata.category(c) != "Mn"]
    return pairs


def _canonical_order(pairs):
    """Sorts the marks after each base character by their combining class, as NFD requires."""
    keys, base = [], 0
    for i, (char, _) in enumerate(pairs):
        mark_class = unicodedata.combining(char)
        base = base if mark_class else i
        keys.append((base, mark_class))
    return [pairs[i] for i in sorted(range(len(pairs)), key=keys.__getitem__)]


# Marks characters whose form depends on their neighbours, in the table of character forms. No
# form contains it otherwise, as cleaning drops NUL.
_CONTEXT = "\0"


def _without_spaces(spaced, origins):
    """Returns the words of a normalized text, and the origins of their characters."""
    return spaced.split(), [i for c, i in zip(spaced, origins, strict=True) if not c.isspace()]


def _char_form(char, rules):
    """Returns the normalized form of a character, or `_CONTEXT` if it depends on the text."""
    form, _ = _normalize(char, rules)
    depends = (rules.lower and char == "Σ") or (
        rules.strip_accents and any(map(unicodedata.combining, form))
    )
    return _CONTEXT if depends else form


def _always_alone():
    """Returns a regular-expression class (inside) of marks that are always one unchanged word.

    Punctuation like `:` is not among them, because it does not end the word of a final sigma.
    """
    blocks = chain(range(0x21, 0x7F), range(0x2010, 0x205F), range(0x3000, 0x3040))
    marks = [
        char
        for char in map(chr, chain(blocks, range(0xFF00, 0xFF70)))
        if _char_form(char, Rules()) == f" {char} " and f"AΣ{char}A".lower()[1] == "ς"
    ]
    return re.escape("".join(marks))


# Splits a text into runs of such marks (even items) and of other characters (odd items). With
# `chinese`, Chinese characters count as such marks.
_RUNS = {
    chinese: re.compile(f"([^{'㐀-䶿一-鿿' if chinese else ''}{_always_alone()}]+)")
    for chinese in (True, False)
}


# Spans of single characters: sharing these tuples is much faster than making them for every text.
_UNIT_SPANS = [(i, i + 1) for i in range(4096)]


class Tokenizer(DictTokenizer):
    """WordPiece tokenizer, as in BERT.

    Args:
        token_dict: dict token -> id, or the path of a vocabulary file.
        do_lower_case: whether to lower-case the text. Chinese checkpoints expect this, unless they
            are called "cased". Default True (False in bert4keras).
        word_maxlen: longer words, in characters, are unknown. Default 200.
        drop_private_use: whether to drop private-use characters, which otherwise are unknown words.
            Default False.
        strip_accents: whether to strip accents; None (default), as in Google's code, for the value
            of `do_lower_case`.
        tokenize_chinese_chars: whether each Chinese character is a word. Default True; otherwise
            they are split into pieces (`今`, `##天`) like letters.
        **kwargs: `token_start`, `token_end`, `token_mask`, `token_unk`, `token_pad`,
            `pre_tokenize`, `token_translate`, `added_tokens`, `special_tokens_in_text`, see
            `TokenizerBase`.

    Attributes:
        vocab_size: number of rows of the embedding table, i.e. the highest id + 1.
        token_start_id, token_end_id, token_mask_id, token_unk_id, token_pad_id: ids of the
            special tokens, None for those not in the vocabulary. The names of bert4keras
            (`_token_start_id`, `_token_dict`, `_vocab_size`, ...) exist too.

    Example:
        >>> tokenizer = Tokenizer("chinese_L-12_H-768_A-12/vocab.txt")
        >>> tokenizer.tokenize("语言模型BERT")
        ['[CLS]', '语', '言', '模', '型', 'be', '##rt', '[SEP]']
        >>> token_ids, segment_ids = tokenizer.encode("语言模型BERT")
        >>> tokenizer.decode(token_ids)
        '语言模型bert'
    """

    @checks_flags
    def __init__(
        self,
        token_dict: dict[str, int] | PathLike,
        do_lower_case: bool = True,
        word_maxlen: int = 200,
        special_tokens_in_text: bool = False,
        drop_private_use: bool = False,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(special_tokens_in_text=special_tokens_in_text, **kwargs)
        vocab = token_dict if isinstance(token_dict, dict) else load_vocab(token_dict)
        self._do_lower_case = do_lower_case
        self._rules = Rules(
            bool(do_lower_case),
            bool(do_lower_case if strip_accents is None else strip_accents),
            bool(tokenize_chinese_chars),
            bool(drop_private_use),
        )
        self._runs = _RUNS[self._rules.chinese]
        self._set_vocab(vocab)
        self._longest_token = max(map(len, vocab), default=0)
        self._word_maxlen = word_maxlen

        if self.token_unk_id is None:
            raise ValueError(
                f"token_unk={self.token_unk!r:.200} is not in the vocabulary; pass a token that is."
            )
        self._char_forms = Memo(self._compute_char_form)
        self._char_ids = Memo(self._compute_char_id)
        self._word_tokens = Memo(self._compute_word_tokens, longest=32)
        self._word_ids = Memo(self._compute_word_ids, longest=32)
        self._run_ids = Memo(self._compute_run_ids, longest=16)
        self._run_offsets = Memo(self._compute_run_offsets, longest=16)

    def with_vocabulary(self, token_dict: dict[str, int], **changes: Any) -> "Tokenizer":
        """Returns a tokenizer with the same rules and another vocabulary.

        Args:
            token_dict: dict token -> id. Added tokens that are not in it are dropped.
            **changes: arguments of `Tokenizer` to change.

        Returns:
            A `Tokenizer`.
        """
        added = [t for t in self.added_tokens.values() if t.content in token_dict]
        names = {token.content for token in added} - self._vocab.keys()
        rules = {
            "do_lower_case": self._rules.lower,
            "strip_accents": self._rules.strip_accents,
            "tokenize_chinese_chars": self._rules.chinese,
            "drop_private_use": self._rules.drop_private_use,
            "word_maxlen": self._word_maxlen,
            "special_tokens_in_text": self._special_tokens_in_text,
            "pre_tokenize": self._pre_tokenize,
            "token_translate": self._token_translate,
            "token_second": self.token_second,
            "second_segment": self.second_segment,
            "added_tokens": [replace(t, id=token_dict[t.content]) for t in added],
            **{f"token_{name}": token for name, token in self.special_tokens.items()},
        }
        vocab = {token: i for token, i in token_dict.items() if token not in names}
        tokenizer = Tokenizer(vocab, **{**rules, **changes})
        stops = self.ids_to_tokens(self.other_stop_ids)
        tokenizer.other_stop_ids = [token_dict[t] for t in stops if t in token_dict]
        return tokenizer

    def simplified(self) -> tuple[TokenizerBase, list[int] | None]:
        """Returns this tokenizer without the tokens that no Chinese text yields: 1/3 of Google's.

        These are the tokens of more than one character that contain a Chinese character or
        punctuation, such as `##天`: these characters always are separate words. Tokens with
        Chinese characters are kept if words stay whole (`pre_tokenize`) or if
        `tokenize_chinese_chars` is False. Special tokens come first, then all others in their
        order, without `[unused1]` and the like.

        Returns:
            A tuple of the `Tokenizer` and the list `keep_tokens` of the old ids, for
            `build_transformer_model(..., keep_tokens=)`.
        """
        apart = self._rules.chinese and self._pre_tokenize in (None, list)
        special = [self.special_tokens[name] for name in ("pad", "unk", "start", "end", "mask")]
        first = [token for token in dict.fromkeys(special) if token in self._token_dict]
        rest = [
            token
            for token in sorted(self._token_dict, key=self._token_dict.get)
            if token not in first
            and (token in self.added_tokens or not _is_redundant(token, chinese=apart))
        ]
        kept = {token: i for i, token in enumerate(first + rest)}
        return self.with_vocabulary(kept), [self._token_dict[token] for token in kept]

    def _save_vocabulary(self, directory):
        save_vocab(directory / "vocab.txt", self._vocab)
        by_jieba = self._pre_tokenize is jieba_words
        values = {
            "tokenizer_class": f"{'RoFormer' if by_jieba else 'Bert'}Tokenizer",
            "do_lower_case": self._rules.lower,
            "strip_accents": self._rules.strip_accents,
            "tokenize_chinese_chars": self._rules.chinese,
            "max_input_chars_per_word": self._word_maxlen,
        }
        (row, *_) = (row for row in ROWS if row.algorithm == "WordPiece")
        return row.names, values

    # Functions whose results are cached

    def _compute_char_form(self, code):
        return _char_form(chr(code), self._rules)

    def _compute_char_id(self, token):
        """Returns the id of a character, or of another token of a word."""
        token = self._token_translate.get(token, token)
        return self._vocab.get(token, self.token_unk_id)

    def _added_id(self, added):
        return self.token_to_id(self._token_translate.get(added.content, added.content))

    def _compute_word_tokens(self, word):
        """Splits a word greedily into the longest pieces; an unknown word is returned whole."""
        if len(word) > self._word_maxlen:
            return (word,)
        pieces, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(min(len(word), start + self._longest_token), start, -1):
                piece = prefix + word[start:end]
                if piece in self._vocab:
                    break
            else:
                return (word,)
            pieces.append(piece)
            start = end
        return tuple(pieces)

    def _compute_word_ids(self, word):
        return tuple(map(self._compute_char_id, self._word_tokens[word]))

    def _compute_run_ids(self, run):
        return tuple(chain.from_iterable(map(self._word_ids.__getitem__, self._words(run))))

    def _compute_run_offsets(self, run):
        """Returns `(start, end)` in the run for each of its tokens."""
        spaced, origins = self._aligned(run)
        offsets, end = [], 0
        for word in spaced.split():
            begin = spaced.index(word, end)
            for i, token in enumerate(self._word_tokens[word]):
                end = begin + len(token) - (2 if i else 0)
                source = origins[begin:end]
                offsets.append((min(source), max(source) + 1))
                begin = end
        return tuple(offsets)

    # Text to tokens

    def _words(self, text):
        """Returns the normalized words of a text: steps 1 to 4."""
        spaced = text.translate(self._char_forms)
        if _CONTEXT in spaced:
            spaced, _ = _normalize(text, self._rules)
        return spaced.split()

    def _pieces(self, text):
        return [token for word in self._words(text) for token in self._word_tokens[word]]

    def _set_finders(self, in_text):
        self._late_rules = self._rules._replace(punctuation=False)
        in_text = {
            _normalize(content, self._late_rules)[0] if token.normalized else content: token
            for content, token in in_text.items()
        }
        in_text.pop("", None)  # tokens that consist of control characters
        super()._set_finders(in_text)
        if self._late_finder:
            self._late_forms = Memo(self._compute_late_form)

    def _compute_late_form(self, code):
        return _char_form(chr(code), self._late_rules)

    def _late_parts(self, text):
        """Splits a text at the added tokens that match its normalized form."""
        spaced = text.translate(self._late_forms)
        if _CONTEXT not in spaced and not self._late_finder.is_in(spaced):
            return parts(text, [])
        spaced, origins = _normalize(text, self._late_rules)
        matches = [
            (*_origin(spaced, origins, start, end), token)
            for start, end, token in self._late_finder.find(spaced)
        ]
        return parts(text, matches)

    def _tokenize(self, text):
        tokens = []
        for start, end, added in self._parts(text):
            tokens += [added.content] if added else self._tokenize_plain(text[start:end])
        return tokens

    def _tokenize_plain(self, text):
        if self._pre_tokenize is None:
            return self._pieces(text)
        if self._rules.lower:
            text = text.lower()
        if self._rules.strip_accents:
            decomposed = unicodedata.normalize("NFD", text)
            text = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
        tokens = []
        for word in self._pre_tokenize(text):
            tokens += [word] if word and word in self._vocab else self._pieces(word)
        return tokens

    def _encode(self, text):
        if self._finder is self._late_finder is None:
            return self._encode_plain(text)
        ids = []
        for start, end, added in self._parts(text):
            ids += [self._added_id(added)] if added else self._encode_plain(text[start:end])
        return ids

    def _encode_plain(self, text):
        """Returns the ids of a text without added tokens."""
        if self._pre_tokenize is not None:
            return list(map(self._compute_char_id, self._tokenize_plain(text)))
        ids, alone = [], True
        for run in self._runs.split(text):
            if alone:
                ids += map(self._char_ids.__getitem__, run)
            else:
                ids += self._run_ids[run]
            alone = not alone
        return ids

    def _encode_with_offsets(self, text):
        ids, offsets = [], []
        for start, end, added in self._parts(text):
            if added:
                part_ids, spans = [self._added_id(added)], [(0, end - start)]
            else:
                part_ids, spans = self._encode_plain_with_offsets(text[start:end])
            ids += part_ids
            offsets += [(start + i, start + j) for i, j in spans] if start else spans
        return ids, offsets

    def _encode_plain_with_offsets(self, text):
        if self._pre_tokenize is not None:
            positions = self._positions(text, self._tokenize_plain(text))
            spans = [(p[0], p[-1] + 1) if p else (0, 0) for p in positions]
            return self._encode_plain(text), spans
        spans = _UNIT_SPANS
        if len(text) > len(spans):
            spans = [(i, i + 1) for i in range(len(text))]
        ids, offsets, start, alone = [], [], 0, True
        for run in self._runs.split(text):
            end = start + len(run)
            if alone:
                ids += map(self._char_ids.__getitem__, run)
                offsets += spans[start:end]
            else:
                ids += self._run_ids[run]
                offsets += [(start + begin, start + stop) for begin, stop in self._run_offsets[run]]
            start, alone = end, not alone
        return ids, offsets

    # Tokens to text

    def _aligned(self, text):
        """Returns the result of `_normalize`, from the cached character forms if possible."""
        forms = [self._char_forms[code] for code in map(ord, text)]
        if _CONTEXT in forms:
            return _normalize(text, self._rules)
        return "".join(forms), [i for i, form in enumerate(forms) for _ in form]

    def _aligned_runs(self, text):
        """Yields the results of `_aligned_words` for a text without added tokens, run by run."""
        if self._pre_tokenize is None:
            yield _without_spaces(*self._aligned(text))
            return
        pairs = _folded([(c, i) for i, c in enumerate(text)], self._rules)
        folded = "".join(c for c, _ in pairs)
        words = self._pre_tokenize(folded)
        for word, start in zip(words, locate(folded, words), strict=True):
            at = [i for _, i in pairs[start : start + len(word)]]
            if word in self._vocab:
                yield [word], at
            else:  # normalize the word by itself, as in tokenization: in the text it may differ
                spaced, inner = self._aligned(word)
                yield _without_spaces(spaced, [at[i] for i in inner])

    def _aligned_words(self, text):
        """Returns the words of a text, and the position in the text of each of their characters."""
        words, origins = [], []
        for start, end, added in self._parts(text):
            if added:
                words.append(added.content)
                origins += [start + i for i in self._origins_of(added, text[start:end])]
                continue
            for run_words, positions in self._aligned_runs(text[start:end]):
                words += run_words
                origins += [start + i for i in positions]
        return words, origins

    def _origins_of(self, added, text):
        """Returns the position in its part of a text for each character of an added token.

        White space next to the token and characters that normalization drops do not count.
        """
        content, normalized, origins = added.content, text, range(len(text))
        if added.normalized:
            content, _ = _normalize(content, self._late_rules)
            normalized, origins = _normalize(text, self._late_rules)
        begin = max(normalized.find(content), 0)  # -1 if a sigma has another form than in the text
        positions = sorted(set(origins[begin : begin + len(content)])) or [0]
        size = len(added.content)
        return [positions[i * len(positions) // size] for i in range(size)]

    def _positions(self, text, tokens):
        words, origins = self._aligned_words(text)
        normalized = "".join(words)
        word_ends = list(accumulate(map(len, words)))
        mapping, begin = [], 0
        for token in tokens:
            piece = _stem(token)
            if token in self._token_translate_inv and not normalized.startswith(piece, begin):
                token = self._token_translate_inv[token]
                piece = _stem(token)
            end = begin + len(piece)
            if not self._is_special(token):
                begin = normalized.find(piece, begin)
                if begin < 0:
                    raise ValueError(
                        f"rematch: token {token!r:.200} is not in the rest of the text."
                    )
                end = begin + len(piece)
            elif token not in self._read_in_text or not normalized.startswith(piece, begin):
                end = begin
                if token == self.token_unk and begin < len(normalized):
                    end = word_ends[bisect_right(word_ends, begin)]
            # A character may have become several (e.g. the letters of a Hangul syllable), and NFD
            # may have reordered marks.
            mapping.append(sorted(set(origins[begin:end])))
            begin = end
        return mapping

    def _is_special(self, token):
        """Returns whether a token is not part of the text, like `[CLS]`, `[unused1]`, ..."""
        bracketed = len(token) > 1 and token[0] == "[" and token[-1] == "]"
        return token in self._special_set or (bracketed and token not in self.added_tokens)

    def decode(self, ids: Any, tokens: list[str] | None = None) -> str:
        """Returns the text of ids: no spaces between Chinese characters, no special tokens.

        Args:
            ids: list, array or tensor of ids.
            tokens: list of tokens to use instead of `ids`. Default None.

        Returns:
            A string.
        """
        text = ""
        for token in tokens or self.ids_to_tokens(ids):
            if self._is_special(token):
                continue
            single = len(token) == 1
            if token.startswith("##"):
                text += token[2:]
            elif single and _is_cjk(token):
                text += token
            elif single and _is_punctuation(token):
                text += f"{token} "
            elif text and _is_cjk(text[-1]):
                text += token
            else:
                text += f" {token}"
        for pattern, replacement in _DECODING_RULES:
            text = pattern.sub(replacement, text)
        return text.strip()

    def decode_stable(self, ids: Any) -> str:
        """Returns the part of `decode(ids)` that further ids cannot change, for streaming.

        A possible contraction at the end is left out: its space is removed if a word follows.
        """
        return _OPEN_CONTRACTION.sub("", self.decode(ids))


_CONTRACTIONS = ("re", "m", "s", "t", "ve", "d", "ll")
_BEGINNINGS = "|".join(sorted({word[:size] for word in _CONTRACTIONS for size in (1, 2)}))
_OPEN_CONTRACTION = re.compile(rf"(?<=') ({_BEGINNINGS})\Z")
_DECODING_RULES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (" +", " "),
        # English contractions: it's, don't
        (f"' ({'|'.join(_CONTRACTIONS)}) ", r"'\1 "),
        # No space after Chinese punctuation, opening brackets and operators
        (
            "([·\u2013\u2014\u2018\u2019\u201b-\u201f\u2026\u2027\u3000-\u3003\u3008-\u3011"
            "\u3014-\u301f\u3030\u303e\u303f\ufe4f\ufe51\ufe54\uff01-\uff0d\uff0f\uff1a-\uff20"
            r"\uff3b-\uff40\uff5b-\uff64+\-/={(<\[]) ",
            r"\1",
        ),
        # Decimal numbers
        (r"(\d\.) (\d)", r"\1\2"),
    ]
]
