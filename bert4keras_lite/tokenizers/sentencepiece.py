"""sentencepiece tokenizers: T5, mT5, XLNet, XLM-R, and CPM, which uses words of jieba.

sentencepiece normalizes a text before it splits it: usually NFKC (full-width letters and
punctuation become ASCII), runs of white space become one space, spaces at both ends are dropped,
and one space is put in front. `decode` returns the normalized text.

Reference: Kudo & Richardson, "SentencePiece: A simple and language independent subword
tokenizer and detokenizer for Neural Text Processing", 2018, https://arxiv.org/abs/1808.06226.
"""

import operator
import re
import struct
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece

from ..files import complete
from ..parsing import FREE, SURROGATES, read_bytes, shown
from ..protobuf import encode_field, read_fields
from ..types import PathLike
from .added import MAX_ADDED, WHITE_SPACE, AddedToken
from .base import TokenizerBase, byte_spans, locate
from .classes import ROWS
from .output import write_unigram
from .words import jieba_new_words

__all__ = ["CpmTokenizer", "SpTokenizer", "model_of"]

_TO_SPACES = dict.fromkeys(map(ord, WHITE_SPACE), " ")
_SENTINEL = re.compile(r"<extra_id_(\d+)>")


# The model file: a protocol buffer, whose field 1 is the list of pieces

# Settings that can make a text longer: field of the model -> (field in it, description)
_UNKNOWN, _CHARACTERS = "the text of the unknown piece", "the text that replaces a character"
_REPLACEMENTS = {2: (44, _UNKNOWN), 3: (2, _CHARACTERS), 5: (2, _CHARACTERS)}
PIECE = 290  # bytes of memory that sentencepiece takes for a piece or field, besides its content
MAX_REPLACEMENT = 256  # bytes; the longest of NFKC has 33
# Types of pieces, and the pieces that fairseq's ids count first instead of the model's first three
_NORMAL, _UNKNOWN_PIECE, _CONTROL, _BYTE = 1, 2, 3, 6
_FRONT, _REPLACED = ["<s>", "<pad>", "</s>", "<unk>"], ["<unk>", "<s>", "</s>"]
_BYTE_PIECE = re.compile("<0x[0-9A-F]{2}>")


def _fields(proto, path):
    """Yields the fields of a model or of a part of it, see `read_fields`; errors name the file."""
    try:
        yield from read_fields(proto)
    except ValueError as error:
        raise ValueError(
            f"{path} is not a sentencepiece model ({error}). Get or copy the file again."
        ) from None


def _numbered(proto, path):
    """Returns an iterator over the `(number, value)` of the fields of a model or of a part."""
    return ((number, value) for number, value, *_ in _fields(proto, path))


def _check(proto, path):
    """Checks that a model takes no more memory than its size explains, and texts stay short."""
    most = left = (2 * FREE + 6 * len(proto)) // PIECE

    def fields(part):
        nonlocal left
        for number, value, *_ in _fields(part, path):
            left -= 1
            if left < 0:
                raise ValueError(
                    f"{path}: has more than {most} pieces and settings; expected at most so many in"
                    f" {len(proto)} bytes. Get or copy the file again."
                )
            yield number, value

    for number, part in fields(proto):
        if number not in _REPLACEMENTS or not isinstance(part, bytes):
            continue
        text_field, name = _REPLACEMENTS[number]
        for inner, value in fields(part):
            if inner != text_field or not isinstance(value, bytes):
                continue
            if name == _CHARACTERS:  # the size of a trie, the trie, and zero-terminated texts
                value = value[4 + int.from_bytes(value[:4], "little") :]
            if re.search(rb"[^\0]{%d}" % (MAX_REPLACEMENT + 1), value):
                raise ValueError(
                    f"{path}: {name} has more than {MAX_REPLACEMENT} bytes; expected at most so"
                    " many, as texts would become far longer than they are."
                )


def _split(proto, path):
    """Returns the start and end of each piece of a model, and the other fields.

    These are without the self test, which a model with other pieces would fail.
    """
    starts, ends, rest = array("q"), array("q"), bytearray()
    for number, value, start, end in _fields(proto, path):
        if number == 1 and isinstance(value, bytes):
            starts.append(start)
            ends.append(end)
        elif number != 4:
            rest += proto[start:end]
    return starts, ends, rest


def _piece(text, score=0.0, kind=_NORMAL):
    """Returns the field of a piece."""
    number = b"\x15" + struct.pack("<f", score)  # field 2, of 32 bits
    return encode_field(1, encode_field(1, text.encode()) + number + encode_field(3, kind))


def _as_fairseq(proto, names, path):
    """Returns the model with the ids of fairseq: four pieces, those from the fourth on, `<mask>`.

    Args:
        names: the pieces of the model.
    """
    if names[:3] != _REPLACED or {*_FRONT, "<mask>"} & {*names[3:]}:
        raise ValueError(
            f"{path}: its pieces begin with {shown(names[:5])}; expected <unk>, <s>, </s>, and no"
            " <pad> or <mask>, as in the models of XLM-R."
        )
    starts, ends, rest = _split(proto, path)
    front = [_piece(text, kind=_CONTROL) for text in _FRONT[:3]]
    front += [_piece(_FRONT[3], kind=_UNKNOWN_PIECE)]
    pieces = [proto[start:end] for start, end in zip(starts[3:], ends[3:], strict=True)]
    return b"".join([*front, *pieces, _piece("<mask>", kind=_CONTROL), rest])


def model_of(pieces, unk_id, special, characters, byte_fallback):
    """Returns a sentencepiece model, as bytes, with the pieces of a `tokenizer.json`.

    Args:
        pieces: dict piece -> score, in the order of the ids.
        unk_id: id of the unknown piece.
        special: set of the pieces that match no text.
        characters: the `precompiled_charsmap`, as bytes.
        byte_fallback: whether unknown characters become the pieces of their bytes.
    """

    def kind(i, text):
        if i == unk_id:
            return _UNKNOWN_PIECE
        if text in special:
            return _CONTROL
        return _BYTE if byte_fallback and _BYTE_PIECE.fullmatch(text) else _NORMAL

    fields = [_piece(text, score, kind(i, text)) for i, (text, score) in enumerate(pieces.items())]
    unigram = encode_field(3, 1)
    trainer = unigram + encode_field(35, int(byte_fallback)) + encode_field(40, unk_id)
    normalizer = encode_field(1, b"tokenizer.json") + encode_field(2, characters) * bool(characters)
    return b"".join([*fields, encode_field(2, trainer), encode_field(3, normalizer)])


def _reduced(proto, keep_tokens, path):
    """Returns the model with only the pieces `keep_tokens`, in that order.

    Ids after the last piece (extra rows of an embedding table) get no piece and must come last.
    """
    starts, ends, rest = _split(proto, path)
    pieces = len(starts)
    count = sum(i < pieces for i in keep_tokens)
    if len(set(keep_tokens)) < len(keep_tokens) or min(keep_tokens) < 0:
        raise ValueError("keep_tokens: expected ids of rows to keep, none negative, none twice.")
    if any(i >= pieces for i in keep_tokens[:count]):
        raise ValueError(
            f"keep_tokens: {path} has {pieces} pieces; expected ids beyond them at the end."
        )
    reduced = bytearray()
    for i in keep_tokens[:count]:
        reduced += proto[starts[i] : ends[i]]
    return bytes(reduced + rest)


def _processor(proto, problem):
    """Returns the processor of a model; `problem` begins the error message if that fails."""
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(proto)
    except RuntimeError as error:
        raise ValueError(f"{problem} ({error}).") from None
    return processor


def _load(path, keep_tokens, layout):
    """Loads a model, reduced to `keep_tokens` unless the file is reduced already.

    Args:
        path: the file, or the bytes of a model.
        keep_tokens: list of ids, or None.
        layout: `"fairseq"` or None.
    """
    if isinstance(path, bytes):
        path, proto = "the model", path
    else:
        complete(Path(path).parent)
        proto = read_bytes(path)
    _check(proto, path)  # before the self test of the model, which encodes texts
    model = _processor(proto, f"{path} is not a sentencepiece model")
    pieces = model.get_piece_size()
    try:
        for i in range(pieces):
            model.id_to_piece(i)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected pieces in UTF-8, got {error.object!r:.200}. Get or copy the file"
            " again."
        ) from None
    if layout:
        proto = _as_fairseq(proto, list(map(model.id_to_piece, range(pieces))), path)
        model = _processor(proto, f"{path} cannot be given fairseq's ids")
        pieces += 2
    if keep_tokens is None:
        return model
    if not keep_tokens:
        raise ValueError("keep_tokens is empty; expected the ids of the rows to keep.")
    # If the file is reduced already, some of the old ids are beyond its pieces.
    if len(keep_tokens) >= pieces and max(keep_tokens) >= pieces:
        return model
    del model
    return _processor(
        _reduced(proto, keep_tokens, path),
        f"keep_tokens: expected the ids of <unk> and, if {path} has them, of all 256 bytes",
    )


class SpTokenizer(TokenizerBase):
    """Tokenizer with a sentencepiece model.

    Args:
        model_path: the model file, e.g. `spiece.model`; or its contents, as bytes.
        keep_tokens: list of the old ids of a reduced vocabulary, as for
            `build_transformer_model(..., keep_tokens=)`; ids are then positions in this list.
            The file may be the whole model, which is reduced on loading, or the reduced one, such
            as bert4keras' `sentencepiece_cn.model`. Ids without a piece decode to `""`. Default
            None: the whole vocabulary.
        extra_ids: number of T5's sentinels `<extra_id_0>`, `<extra_id_1>`, ... after the pieces,
            numbered from the end: 100 for T5 (`<extra_id_0>` is 32099), where they are not in the
            model file. They are added tokens that `decode` keeps. Default 0, also for mT5, whose
            file has the pieces `▁<extra_id_n>`.
        layout: `"fairseq"` for the ids of XLM-R: `<s>`, `<pad>`, `</s>`, `<unk>`, the pieces of the
            file from the fourth on, `<mask>`. Default None: the pieces of the file.
        trim_offsets: whether the offsets of a token leave out the space before it, and all white
            space of Unicode counts as such; as in Hugging Face's tokenizer of XLM-R. Default False.
        token_start: token put before a text, or None (default).
        token_end: token put after each text, or None. Default `</s>`.
        token_mask, token_pad: the other special tokens; None (default) for those of the model. The
            unknown token is always the model's.
        **kwargs: `pre_tokenize` (words are joined by spaces), `token_translate`, `added_tokens`,
            `special_tokens_in_text`, `token_second` and `second_segment`, see `TokenizerBase`.

    Attributes:
        vocab_size: number of ids, including added tokens and ids without a piece.
        keep_tokens: the list of old ids, or None.

    Raises:
        ValueError: the file is not a sentencepiece model, `keep_tokens` or `layout` does not match
            it, or it has no `token_start` or `token_end`.

    Example:
        >>> tokenizer = SpTokenizer("t5/spiece.model", extra_ids=100)
        >>> tokenizer.tokenize("Hello <extra_id_0>!")
        ['▁Hello', '<extra_id_0>', '▁', '!', '</s>']
    """

    token_unk_id: int

    def __init__(
        self,
        model_path: PathLike | bytes,
        keep_tokens: Sequence[int] | None = None,
        extra_ids: int = 0,
        token_start: str | None = None,
        token_end: str | None = "</s>",
        token_mask: str | None = None,
        token_pad: str | None = None,
        layout: str | None = None,
        trim_offsets: bool = False,
        **kwargs: Any,
    ) -> None:
        if layout not in (None, "fairseq"):
            raise ValueError(f"layout={layout!r:.200}; expected 'fairseq' or None.")
        self.layout, self.trim_offsets = layout, trim_offsets
        self.keep_tokens = None if keep_tokens is None else list(map(operator.index, keep_tokens))
        if self.keep_tokens is not None and extra_ids:
            raise ValueError("extra_ids: a vocabulary with keep_tokens has none; expected 0.")
        if not 0 <= extra_ids <= MAX_ADDED:
            raise ValueError(
                f"extra_ids: expected a number from 0 to {MAX_ADDED}, got {shown(extra_ids)}."
            )
        self.sp_model = model = _load(model_path, self.keep_tokens, layout)
        self._model_path = "the model" if isinstance(model_path, bytes) else model_path
        self._in_memory = isinstance(model_path, bytes)
        self._pieces = model.get_piece_size()
        # not `model.unk_id()`, which is -1 if the name of the piece differs from the settings
        self._unk_id = next(filter(model.is_unknown, range(self._pieces)))
        self._extra_ids = extra_ids
        self._added_ids = {}
        pad = -1 if layout else model.pad_id()
        super().__init__(
            token_start,
            token_end,
            token_mask or self._first_piece("<mask>", "[MASK]"),
            model.id_to_piece(self._unk_id),
            token_pad or (model.id_to_piece(pad) if pad >= 0 else self._first_piece("<pad>")),
            **kwargs,
        )
        last = self._pieces + extra_ids - 1
        for i in range(extra_ids):
            token = AddedToken(f"<extra_id_{i}>", last - i)
            self.added_tokens.setdefault(token.content, token)
        self._added_ids = self._numbered(self._piece_id)
        self._added_tokens_inv = {i: token for token, i in self._added_ids.items()}
        self._rows = max(self._pieces, len(self.keep_tokens or []))
        for i, token in self._added_tokens_inv.items():
            if i < self._rows and self._piece_id(token) != i:
                raise ValueError(
                    f"added_tokens: id {i} of {token!r:.200} is a row of {self._model_path};"
                    " expected ids"
                    f" from {self._rows} on."
                )
        self.vocab_size = self._vocab_size = max(self._rows - 1, *self._added_tokens_inv, 0) + 1
        tokens = filter(None, self.special_tokens.values())
        self._set_special_ids({t: self.known_id(t) for t in tokens if self.is_known(t)})

    def _save_vocabulary(self, directory):
        if self.layout or self._in_memory:
            return write_unigram(directory, self)
        (directory / "spiece.model").write_bytes(self.sp_model.serialized_model_proto())
        values = {"tokenizer_class": "T5Tokenizer", "extra_ids": self._extra_ids}
        (row, *_) = (row for row in ROWS if row.algorithm == "sentencepiece")
        return row.names, values

    # Ids

    def _piece_id(self, token):
        """Returns the id of a token among the pieces of the model, or None."""
        if SURROGATES.search(token):
            return None
        i = self.sp_model.piece_to_id(token)
        if i != self._unk_id or token == self.sp_model.id_to_piece(i):
            return i
        return self._piece_id(f"▁{token}") if _SENTINEL.fullmatch(token) else None

    def known_id(self, token: str) -> int | None:
        """Returns the id of a token, or None if it is not in the vocabulary."""
        i = self._added_ids.get(token)
        return self._piece_id(token) if i is None else i

    def is_known(self, token: str) -> bool:
        """Returns whether a token is in the vocabulary."""
        return self.known_id(token) is not None

    def rules(self) -> dict[str, Any]:
        """Returns the settings that a `tokenizer.json` of this model must share, by name."""
        proto = self.sp_model.serialized_model_proto()

        def settings(wanted):  # a repeated message is merged: the last value of a field counts
            fields = _numbered(proto, self._model_path)
            message = b"".join(value for number, value in fields if number == wanted)
            return dict(_numbered(message, self._model_path))

        trainer, normalizer = settings(2), settings(3)
        return {
            "unk_id": self._unk_id,
            "byte_fallback": any(map(self.sp_model.is_byte, range(self._pieces))),
            "precompiled_charsmap": normalizer.get(2, b""),
            "add_dummy_prefix": normalizer.get(3) != 0,
            "remove_extra_whitespaces": normalizer.get(4) != 0,
            "escape_whitespaces": normalizer.get(5) != 0,
            "treat_whitespace_as_suffix": trainer.get(24, 0) != 0,
        }

    def _is_control(self, token):
        """Returns whether a token is a piece that matches no text, and decodes to none."""
        i = self._piece_id(token)
        return i is not None and self.sp_model.is_control(i)

    def _first_piece(self, *tokens):
        return next(filter(self.is_known, tokens), None)

    def token_to_id(self, token: str) -> int:
        """Returns the id of a token; that of `token_unk` if it is not in the vocabulary."""
        i = self.known_id(token)
        return self.token_unk_id if i is None else i

    def id_to_token(self, i: int) -> str:
        """Returns the token of an id (an integer of any library); `""` for a row without piece.

        Raises:
            ValueError: the id is negative or not below `vocab_size`.
        """
        i = operator.index(i)
        if not 0 <= i < self.vocab_size:
            raise ValueError(f"id {i} is not in the vocabulary of {self.vocab_size} tokens.")
        if i in self._added_tokens_inv:
            return self._added_tokens_inv[i]
        return self.sp_model.id_to_piece(i) if i < self._pieces else ""

    # Text to tokens

    def _call(self, method, *args, **kwargs):
        """Calls a method of the model; a damaged model may return bytes that are not UTF-8.

        Raises:
            ValueError: the call fails.
        """
        try:
            return getattr(self.sp_model, method)(*args, **kwargs)
        except (UnicodeDecodeError, RuntimeError) as error:
            raise ValueError(
                f"{self._model_path}: damaged: sentencepiece fails with this model"
                f" ({error!s:.200}). Get or copy the file again."
            ) from None

    def _prepared(self, text):
        """Returns the text to pass to sentencepiece, with U+FFFD for lone surrogates."""
        text = SURROGATES.sub("\ufffd", text)
        if self.trim_offsets:
            text = text.translate(_TO_SPACES)
        return text if self._pre_tokenize is None else " ".join(self._pre_tokenize(text))

    def _tokenize(self, text):
        tokens = []
        for start, end, added in self._parts(text):
            if added:
                tokens.append(added.content)
            else:
                tokens += self._call("encode_as_pieces", self._prepared(text[start:end]))
        return tokens

    def _encode(self, text):
        if self._token_translate:
            return super()._encode(text)
        ids = []
        for start, end, added in self._parts(text):
            if added:
                ids.append(self.known_id(added.content))
            else:
                ids += self._call("encode_as_ids", self._prepared(text[start:end]))
        return ids

    def _sequences(self, texts):
        """Encodes all texts in one call, on all cores, which is faster than one by one."""
        if self._token_translate or not all(
            isinstance(text, str) and self._parts(text) == [(0, len(text), None)] for text in texts
        ):
            return super()._sequences(texts)
        rows = self._call("encode_as_ids", [self._prepared(text) for text in texts])
        return [[[*self._start_ids, *ids, *self._end_ids]] for ids in rows]

    def _spans(self, text):
        """Returns `(start, end)` of each token of a text without added tokens."""
        prepared = self._prepared(text)
        # Pieces cover the normalized text; a byte piece covers one of its bytes.
        pieces = self._call("encode_as_pieces", prepared)
        is_byte = map(self.sp_model.is_byte, map(self.sp_model.piece_to_id, pieces))
        lengths = [1 if byte else len(p.encode()) for p, byte in zip(pieces, is_byte, strict=True)]
        normalized, origins = self._call("normalize", prepared, with_offsets=True)
        inner = byte_spans(normalized, lengths)
        if self.trim_offsets:
            spans = [_trimmed(normalized, origins, *span) for span in inner]
        else:
            spans = [(origins[i], origins[j]) for i, j in inner]
        if self._pre_tokenize is None:
            return spans
        sources = self._sources(text)
        return [(sources[i][0], sources[max(i, j - 1)][1]) for i, j in spans]

    def _sources(self, text):
        """Returns the source `(start, end)` of each character of the prepared text, and of its end.

        A space between two words has an empty source at the start of the second word.
        """
        words = list(self._pre_tokenize(text))
        sources = []
        for start, word in zip(locate(text, words), words, strict=True):
            sources.append((start, start))
            sources += [(i, i + 1) for i in range(start, start + len(word))]
        return [*sources, (len(text), len(text))][1:]

    # Tokens to text

    def decode(self, ids: Any) -> str:
        """Returns the text of token ids, without special tokens such as `</s>`.

        Sentinels are kept, as they mark which blank a text fills, and so are added tokens that are
        not special. The unknown token becomes ` ⁇ `.

        Args:
            ids: list, array or tensor of ids.

        Returns:
            A string.
        """
        text, pieces = "", []
        for token in [*self.ids_to_tokens(ids), None]:
            if token is not None and (token not in self._added_ids or self._is_control(token)):
                pieces.append(self._token_translate_inv.get(token, token))
                continue
            text += self._call("decode_pieces", [piece for piece in pieces if piece])
            pieces = []
            if token is not None and (token not in self._special_set or _SENTINEL.fullmatch(token)):
                text += token
        return text


def _trimmed(normalized, origins, start, end):
    """Returns the source of a piece without the space before it.

    A piece that is only a space has the source of the character after it, as in `tokenizers`.
    """
    start += normalized[start] == "▁"
    last = max(end - 1, start)
    return origins[start], origins[last] + 1


# CPM

_MARKS = str.maketrans(" \n", "▂▃")
_MARKS_INVERSE = str.maketrans("▂▃", " \n", " ")


class CpmTokenizer(SpTokenizer):
    """Tokenizer of CPM and PanGu: sentencepiece on the words of jieba, joined by spaces.

    Spaces of the text become `▂` (U+2582), newlines `▃` (U+2583). There are no start and end
    tokens by default.

    CPM's model file was changed in November 2020: its piece 3 was `<cls>` before and is `▃` since
    then. The weights are the same, and a newline is id 3 with either file.

    Args:
        model_path: the model file, `chinese_vocab.model`.
        token_start, token_end: as in `SpTokenizer`. Default None.
        **kwargs: see `SpTokenizer`.

    Example:
        >>> tokenizer = CpmTokenizer("cpm/chinese_vocab.model")
        >>> tokenizer.decode(tokenizer.encode("清华大学 北京")[0])
        '清华大学 北京'
    """

    def __init__(
        self,
        model_path: PathLike,
        token_start: str | None = None,
        token_end: str | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("pre_tokenize", jieba_new_words)
        super().__init__(model_path, token_start=token_start, token_end=token_end, **kwargs)
        if not self.is_known("▂"):
            raise ValueError(f"{model_path} has no piece '▂' (U+2582); expected a model of CPM.")
        if not self.is_known("▃"):
            self._token_translate.setdefault("▃", "<cls>")
            self._token_translate_inv.setdefault("<cls>", "▃")

    def _save_vocabulary(self, directory):
        names, values = super()._save_vocabulary(directory)
        return names, {**values, "tokenizer_class": "CpmTokenizer"}

    def _prepared(self, text):
        text = SURROGATES.sub("\ufffd", text)
        return " ".join(word.translate(_MARKS) for word in self._pre_tokenize(text))

    def decode(self, ids: Any) -> str:
        """Returns the text of token ids, see `SpTokenizer.decode`, with its spaces and newlines."""
        return super().decode(ids).translate(_MARKS_INVERSE)
