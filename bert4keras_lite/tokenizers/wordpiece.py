"""WordPiece tokenization of Chinese (and other) text, in plain Python and fast.

The ids are those of Google's BERT code, character for character, so that they fit the rows of a
pretrained embedding table:

1. clean: drop control characters, turn every kind of space into a space,
2. put spaces around each Chinese character,
3. lower-case and strip accents (if `do_lower_case`),
4. split at white space and around punctuation,
5. cut each word into the longest pieces of the vocabulary (WordPiece).

Steps 1 to 4 change one character at a time, with two rare exceptions, so they are one
`str.translate` through a table that fills itself; step 5 sees the same words again and again, so
it is a table that fills itself, too.

Where other libraries differ from Google's code:

| text | here and Google | Hugging Face `tokenizers` | to get the latter |
|---|---|---|---|
| `[MASK]` in running text | `[`, `mask`, `]` | one token | `special_tokens_in_text=True` |
| word of 101 to 200 characters | cut into pieces | `[UNK]` | `word_maxlen=100` |
| private-use characters (U+E000...) | kept, hence `[UNK]` | dropped | `drop_private_use=True` |
| capital sigma at the end of a word | final sigma | plain sigma | - |
| U+2B820 to U+2B91F (CJK extension E) | one word each | run together | - |

Marks and punctuation that are newer than one side's Unicode tables differ as well.

Reference: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding", 2018, https://arxiv.org/abs/1810.04805; the algorithm is that of
`tokenization.py` in https://github.com/google-research/bert.
"""

import re
import unicodedata
from bisect import bisect_right
from itertools import accumulate, chain, islice
from pathlib import Path

from .base import DictTokenizer, Memo

# Vocabulary files


def load_vocab(path, encoding="utf-8", simplified=False, startswith=None):
    """Reads a vocabulary file: one token a line, the line number is its id.

    Only the first column of a line counts, as some files carry frequencies in a second one.
    A line of white space alone is the token `""`: it keeps its row but no text ever yields it
    (line 344 of Google's Chinese vocabulary is a lone U+2028). Of a token that occurs twice the
    last line counts, as in Google's code. Empty lines at the end of the file are no rows.

    Args:
        path: the file, usually `vocab.txt` of a checkpoint.
        encoding: its character encoding.
        simplified: leave out the tokens that Chinese text never yields: everything longer than
            one character that contains a Chinese character or punctuation.
        startswith: with `simplified`, a list of tokens to keep and to number first, e.g.
            `["[PAD]", "[UNK]", "[CLS]", "[SEP]"]`; special tokens not named here are left out.

    Returns:
        A dict token -> id. With `simplified`, a tuple of the smaller, renumbered dict and the
        list `keep_tokens` of the old ids, for `build_transformer_model(..., keep_tokens=)`.

    Raises:
        ValueError: the file is empty or not text, or lacks a token of `startswith`.
        OSError: it cannot be opened.

    Example:
        >>> token_dict, keep_tokens = load_vocab(
        ...     "vocab.txt", simplified=True, startswith=["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
        ... )
    """
    if Path(path).is_dir():
        raise ValueError(f"{path} is a directory; give the vocabulary file in it (vocab.txt)")
    try:
        # Lines end at "\n" only: a vocabulary may hold other line separators as tokens.
        with open(path, encoding=encoding, newline="\n") as file:
            lines = file.read().removeprefix("\ufeff").rstrip("\r\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no {encoding} text ({error.reason} at byte {error.start}); expected a"
            " vocabulary of one token a line; give its encoding=, e.g. 'gb18030'"
        ) from None
    token_dict = {(line.split() or [""])[0]: row for row, line in enumerate(lines)}
    if not any(token_dict):
        raise ValueError(f"{path} holds no tokens; expected one token a line")
    if not simplified:
        return token_dict

    startswith = list(dict.fromkeys(startswith or []))
    if missing := [token for token in startswith if token not in token_dict]:
        raise ValueError(f"{path} has no {missing[0]!r}, which startswith= asks for")
    rest = [t for t in token_dict if t not in startswith and not _is_redundant(t)]
    kept = startswith + sorted(rest, key=token_dict.get)
    return {token: i for i, token in enumerate(kept)}, [token_dict[token] for token in kept]


def save_vocab(path, token_dict, encoding="utf-8"):
    """Writes a vocabulary such that `load_vocab` reads the same ids.

    Args:
        path: the file to write.
        token_dict: dict token -> id. Ids without a token become empty lines.
        encoding: character encoding of the file.

    Raises:
        ValueError: two tokens have one id, or a token contains white space.
    """
    rows = [""] * (max(token_dict.values(), default=-1) + 1)
    for token, row in token_dict.items():
        if rows[row]:
            raise ValueError(f"token_dict gives id {row} to both {rows[row]!r} and {token!r}")
        if token.split() not in ([], [token]):
            raise ValueError(f"token {token!r} contains white space and cannot be saved")
        rows[row] = token
    Path(path).write_text("".join(f"{token}\n" for token in rows), encoding, newline="\n")


# Characters


def _is_cjk(char):
    """Whether Google's code sets this character apart: Chinese, but neither kana nor hangul."""
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
    """Unicode's punctuation and all ASCII symbols (`$`, `+`, `^`, ...)."""
    if char.isascii():
        return char.isprintable() and not char.isalnum() and char != " "
    return unicodedata.category(char).startswith("P")


def _stem(token):
    """The text of a piece, without the `##` that continues a word."""
    return token[2:] if token.startswith("##") else token


def _is_redundant(token):
    """Whether no text yields this token, since its characters are always set apart."""
    return len(token) > 1 and any(_is_cjk(c) or _is_punctuation(c) for c in _stem(token))


def _clean(char, drop_private_use):
    """Steps 1 and 2: what becomes of one character before lower-casing."""
    if char in "\t\n\r":
        return " "
    category = unicodedata.category(char)
    if char in "\0\ufffd" or category in ("Cc", "Cf") or (drop_private_use and category == "Co"):
        return ""
    if category == "Zs":
        return " "
    return f" {char} " if _is_cjk(char) else char


def _normalize(text, lower, drop_private_use):
    """Steps 1 to 4, except the splitting at spaces, on a whole text.

    Returns:
        The text with words apart by spaces, and for each of its characters the position in
        `text` of the character it came from.
    """
    pairs = [(c, i) for i, char in enumerate(text) for c in _clean(char, drop_private_use)]
    if lower:
        # Only the whole text tells where a sigma is final; both its forms are one character.
        lowered = iter("".join(c for c, _ in pairs).lower())
        pairs = [(new, i) for c, i in pairs for new in islice(lowered, len(c.lower()))]
        pairs = [(new, i) for c, i in pairs for new in unicodedata.normalize("NFD", c)]
        pairs = [(c, i) for c, i in _canonical_order(pairs) if unicodedata.category(c) != "Mn"]
    pairs = [(new, i) for c, i in pairs for new in (f" {c} " if _is_punctuation(c) else c)]
    return "".join(c for c, _ in pairs), [i for _, i in pairs]


def _canonical_order(pairs):
    """Sorts the marks behind each base character by their class, as NFD demands."""
    keys, base = [], 0
    for i, (char, _) in enumerate(pairs):
        mark_class = unicodedata.combining(char)
        base = base if mark_class else i
        keys.append((base, mark_class))
    return [pairs[i] for i in sorted(range(len(pairs)), key=keys.__getitem__)]


# Stands in the table of characters for those whose form depends on their neighbours. No form
# contains it otherwise, as NUL is a character that cleaning drops.
_CONTEXT = "\0"


def _char_form(char, lower, drop_private_use):
    """What `_normalize` makes of one character in any text, or `_CONTEXT` if that varies."""
    form, _ = _normalize(char, lower, drop_private_use)
    depends = lower and (char == "Σ" or any(map(unicodedata.combining, form)))
    return _CONTEXT if depends else form


def _always_alone():
    """A regular-expression class of characters that are, unchanged, a word wherever they stand.

    Punctuation like `:` is not among them: a sigma looks through it for the end of its word.
    """
    blocks = chain(range(0x21, 0x7F), range(0x2010, 0x205F), range(0x3000, 0x3040))
    marks = [
        char
        for char in map(chr, chain(blocks, range(0xFF00, 0xFF70)))
        if _char_form(char, True, False) == f" {char} " and f"AΣ{char}A".lower()[1] == "ς"
    ]
    return "㐀-䶿一-鿿" + re.escape("".join(marks))


# Splits a text into runs of such characters (even items) and everything else (odd items).
_RUNS = re.compile(f"([^{_always_alone()}]+)")


# Where each character of a text of single characters starts and ends: to share these tuples is
# much faster than to make them for every text.
_UNIT_SPANS = [(i, i + 1) for i in range(4096)]


class Tokenizer(DictTokenizer):
    """BERT's WordPiece tokenizer.

    Args:
        token_dict: dict token -> id, or the path of a vocabulary file.
        do_lower_case: lower-case the text and strip accents. Chinese checkpoints want this,
            unless they are called "cased". (The default of bert4keras is False.)
        word_maxlen: words of more characters are unknown.
        special_tokens_in_text: read `[MASK]`, `[SEP]`, ... in a text as these tokens; by default
            they are text like any other and are split.
        drop_private_use: drop private-use characters instead of reading them as unknown words.
        **kwargs: `token_start`, `token_end`, `token_mask`, `token_unk`, `token_pad`,
            `pre_tokenize`, `token_translate`, see `TokenizerBase`.

    Attributes:
        vocab_size: number of rows of the embedding table, i.e. the highest id + 1.
        token_start_id, token_end_id, token_mask_id, token_unk_id, token_pad_id: ids of the
            special tokens, None for what the vocabulary lacks. bert4keras' spellings
            (`_token_start_id`, `_token_dict`, `_vocab_size`, ...) are there as well.

    Example:
        >>> tokenizer = Tokenizer("chinese_L-12_H-768_A-12/vocab.txt")
        >>> tokenizer.tokenize("语言模型BERT")
        ['[CLS]', '语', '言', '模', '型', 'be', '##rt', '[SEP]']
        >>> token_ids, segment_ids = tokenizer.encode("语言模型BERT")
        >>> tokenizer.decode(token_ids)
        '语言模型bert'
    """

    def __init__(
        self,
        token_dict,
        do_lower_case=True,
        word_maxlen=200,
        special_tokens_in_text=False,
        drop_private_use=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not isinstance(token_dict, dict):
            token_dict = load_vocab(token_dict)
        self._set_vocab(token_dict)
        self._longest_token = max(map(len, token_dict), default=0)
        self._do_lower_case = do_lower_case
        self._word_maxlen = word_maxlen
        self._drop_private_use = drop_private_use

        if self.token_unk_id is None:
            raise ValueError(
                f"token_unk={self.token_unk!r} is not in the vocabulary; name the token it has"
            )
        self._special_set = set(self.special_tokens.values())
        self._specials = None
        if special_tokens_in_text:
            specials = [token for token in self.special_tokens.values() if token in token_dict]
            self._specials = re.compile(f"({'|'.join(map(re.escape, specials))})")

        self._char_forms = Memo(self._compute_char_form)
        self._char_ids = Memo(self._compute_char_id)
        self._word_tokens = Memo(self._compute_word_tokens, longest=32)
        self._word_ids = Memo(self._compute_word_ids, longest=32)
        self._run_ids = Memo(self._compute_run_ids, longest=16)
        self._run_offsets = Memo(self._compute_run_offsets, longest=16)

    # Tables

    def _compute_char_form(self, code):
        return _char_form(chr(code), self._do_lower_case, self._drop_private_use)

    def _compute_char_id(self, char):
        return self.token_to_id(self._token_translate.get(char, char))

    def _compute_word_tokens(self, word):
        """The longest pieces, from left to right; the word itself if that does not work out."""
        if len(word) > self._word_maxlen:
            return (word,)
        pieces, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(min(len(word), start + self._longest_token), start, -1):
                piece = prefix + word[start:end]
                if piece in self._token_dict:
                    break
            else:
                return (word,)
            pieces.append(piece)
            start = end
        return tuple(pieces)

    def _compute_word_ids(self, word):
        translate = self._token_translate
        return tuple(self.token_to_id(translate.get(t, t)) for t in self._word_tokens[word])

    def _compute_run_ids(self, run):
        return tuple(chain.from_iterable(map(self._word_ids.__getitem__, self._words(run))))

    def _compute_run_offsets(self, run):
        """Start and end in the run of each of its tokens."""
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
        """Steps 1 to 4: the words of a text, cleaned and normalized."""
        spaced = text.translate(self._char_forms)
        if _CONTEXT in spaced:
            spaced, _ = _normalize(text, self._do_lower_case, self._drop_private_use)
        return spaced.split()

    def _pieces(self, text):
        return [token for word in self._words(text) for token in self._word_tokens[word]]

    def _tokenize(self, text):
        if self._specials is None:
            return self._tokenize_plain(text)
        tokens = []
        for i, part in enumerate(self._specials.split(text)):
            tokens += [part] if i % 2 else self._tokenize_plain(part)
        return tokens

    def _tokenize_plain(self, text):
        if self._pre_tokenize is None:
            return self._pieces(text)
        if self._do_lower_case:
            decomposed = unicodedata.normalize("NFD", text.lower())
            text = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
        tokens = []
        for word in self._pre_tokenize(text):
            tokens += [word] if word and word in self._token_dict else self._pieces(word)
        return tokens

    @property
    def _is_plain(self):
        """Whether a text may be cut into runs, as no hook wants to see all of it."""
        return self._pre_tokenize is None and self._specials is None

    def _encode(self, text):
        if not self._is_plain:
            return super()._encode(text)
        ids, alone = [], True
        for run in _RUNS.split(text):
            if alone:
                ids += map(self._char_ids.__getitem__, run)
            else:
                ids += self._run_ids[run]
            alone = not alone
        return ids

    def _encode_with_offsets(self, text):
        if not self._is_plain:
            positions = self._positions(text, self._tokenize(text))
            return self._encode(text), [(p[0], p[-1] + 1) if p else (0, 0) for p in positions]
        spans = _UNIT_SPANS
        if len(text) > len(spans):
            spans = [(i, i + 1) for i in range(len(text))]
        ids, offsets, start, alone = [], [], 0, True
        for run in _RUNS.split(text):
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
        """What `_normalize` returns, by way of the table if that will do."""
        forms = [self._char_forms[code] for code in map(ord, text)]
        if _CONTEXT in forms:
            return _normalize(text, self._do_lower_case, self._drop_private_use)
        return "".join(forms), [i for i, form in enumerate(forms) for _ in form]

    def _aligned_words(self, text):
        """The words of a text, and for each of their characters its position in the text."""
        words, origins, start = [], [], 0
        for i, part in enumerate([text] if self._specials is None else self._specials.split(text)):
            spaced, at = (part, range(len(part))) if i % 2 else self._aligned(part)
            words += spaced.split()
            origins += [start + o for c, o in zip(spaced, at, strict=True) if not c.isspace()]
            start += len(part)
        return words, origins

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
                    raise ValueError(f"rematch: token {token!r} is not in the rest of the text")
                end = begin + len(piece)
            elif self._specials is None or not normalized.startswith(piece, begin):
                end = begin
                if token == self.token_unk and begin < len(normalized):
                    end = word_ends[bisect_right(word_ends, begin)]
            # One character may have become several (a Hangul syllable its letters), and NFD may
            # have swapped marks.
            mapping.append(sorted(set(origins[begin:end])))
            begin = end
        return mapping

    def _is_special(self, token):
        """Whether a token is none of the text, as are `[CLS]`, `[unused1]`, ..."""
        bracketed = len(token) > 1 and token[0] == "[" and token[-1] == "]"
        return bracketed or token in self._special_set

    def decode(self, ids, tokens=None):
        """Readable text from token ids: no spaces between Chinese characters, no special tokens.

        Args:
            ids: list, array or tensor of ids.
            tokens: the tokens themselves, used instead of `ids` if given.

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


_DECODING_RULES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (" +", " "),
        # English contractions: it's, don't
        ("' (re|m|s|t|ve|d|ll) ", r"'\1 "),
        # No space behind Chinese punctuation, nor behind opening brackets and operators
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
