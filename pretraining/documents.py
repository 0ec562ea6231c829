"""Reads documents from text files or parts of them; cleaning and selection of documents.

A file is split into parts at arbitrary bytes. A document belongs to the part in which it begins, so
all parts together yield each document once, in any number of processes and any order.
"""

import gzip
import html
import io
import re
import sys
import zlib
from dataclasses import dataclass
from functools import partial

from bert4keras_lite.parsing import FREE, SURROGATES, check_encoding, naming, parse_json

from . import files

__all__ = [
    "UNITS",
    "Format",
    "Part",
    "Selection",
    "count_chinese",
    "divide",
    "find_inputs",
    "read_documents",
    "without_space",
]

UNITS = ("paragraphs", "line", "file")
_COMPRESSED = (".gz", ".zst")
# Limit of the decompressed bytes of a file: so many, plus so many times the size of the file
UNPACKED_FREE, UNPACKED_TIMES = 8 << 20, 200
PIECE = 1 << 16  # characters of a long text that are processed together


@dataclass(frozen=True)
class Part:
    """The bytes of a file from `begin` to `end`; None means the end of the file."""

    path: str
    begin: int = 0
    end: int | None = None


@dataclass(frozen=True)
class Format:
    """Format of the documents in text files.

    Args:
        unit: what a document is in plain text: `"paragraphs"` (default) between empty lines, a
            `"line"`, or the whole `"file"`. In JSON lines (`*.json`, `*.jsonl`), each line is a
            document.
        text_key: the key of the text in JSON lines. Default `text`.
        encoding: the character encoding; no other character may contain the byte of a newline.
            Default UTF-8.

    Raises:
        ValueError: the encoding is unknown or not supported.
    """

    unit: str = "paragraphs"
    text_key: str = "text"
    encoding: str = "utf-8"

    def __post_init__(self):
        check_encoding(self.encoding)
        try:
            fits = b"\n".decode(self.encoding) == "\n"
        except UnicodeError:
            fits = False
        if not fits:
            raise ValueError(
                f"encoding={self.encoding!r}: expected one in which the byte 10 is a newline, as in"
                " utf-8 or gb18030. Convert the files first."
            )


def find_inputs(patterns):
    """Finds the files of glob patterns.

    Returns:
        A list of `(path, bytes)`, each file once.

    Raises:
        ValueError: a pattern matches no file.
    """
    sizes = {}
    for pattern in patterns:
        paths = files.find(pattern)
        if not paths:
            raise ValueError(f"--input {pattern!r}: no such file; expected text or JSON lines.")
        sizes.update((path, files.size(path)) for path in paths)
    return list(sizes.items())


def _is_divisible(path, unit):
    return not path.endswith(_COMPRESSED) and (unit != "file" or _is_json(path))


def _is_json(path):
    name = path
    for ending in _COMPRESSED:
        name = name.removesuffix(ending)
    return name.endswith((".json", ".jsonl"))


def divide(inputs, count, unit):
    """Splits files into `count` groups of parts, with about the same number of bytes each.

    Args:
        inputs: list of `(path, bytes)`, see `find_inputs`.
        count: the number of groups.
        unit: see `Format`. Compressed files, and files that are one document, are not split.

    Returns:
        A list of `count` lists of `Part`s.
    """
    total = max(sum(size for _, size in inputs), 1)
    groups, offset = [[] for _ in range(count)], 0
    for path, size in inputs:
        if not _is_divisible(path, unit):
            groups[min(offset * count // total, count - 1)].append(Part(path))
        else:
            first, last = offset * count // total, (offset + size) * count // total
            for number in range(max(first - 1, 0), min(last + 1, count)):
                begin = max(number * total // count - offset, 0)
                end = min((number + 1) * total // count - offset, size)
                if begin < end:
                    groups[number].append(Part(path, begin, end))
        offset += size
    return groups


class _ZstdReader(io.RawIOBase):
    """Decompressed stream of a zst file; unlike zstandard's reader, it detects a truncated file."""

    def __init__(self, file, path):
        super().__init__()
        try:
            import zstandard
        except ImportError:
            raise ImportError(
                f"{path}: .zst needs the package zstandard; install it with: pip install"
                ' "bert4keras_lite[pretraining]".'
            ) from None
        most = min(FREE // 2 + files.size(path), 1 << 27)
        unpacker = zstandard.ZstdDecompressor(max_window_size=most)
        self._file, self._new = file, unpacker.decompressobj
        self._frame, self._packed, self._ready = None, b"", memoryview(b"")

    def readable(self):
        return True

    def readinto(self, buffer):
        while not self._ready:
            packed = self._packed or self._file.read(1 << 9)  # may decompress to 16 MB
            if not packed and self._frame is None:
                return 0
            if not packed:
                raise EOFError("a frame of zstd has no end")
            self._frame = self._frame or self._new()
            self._ready, self._packed = memoryview(self._frame.decompress(packed)), b""
            if self._frame.eof:
                self._packed, self._frame = self._frame.unused_data, None
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count

    def close(self):
        self._file.close()
        super().close()


def _opened(path):
    """Opens a file for reading its decompressed bytes."""
    file = files.open_binary(path)
    if path.endswith(".gz"):
        return gzip.open(file)
    if path.endswith(".zst"):
        return io.BufferedReader(_ZstdReader(file, path), 1 << 20)
    return file


def _is_damage(error):
    """Returns whether an error means that a compressed file is damaged."""
    errors = (EOFError, gzip.BadGzipFile, zlib.error)
    return isinstance(error, errors) or type(error).__name__ == "ZstdError"


def _too_long(path, at, line):
    return ValueError(
        f"{path}, byte {at}: a line of {len(line)} bytes or more, which would take far more memory"
        " than the file. Put each document, or sentence, on a line of its own."
    )


def _lines(part, encoding):
    """Yields `(position, text)` of the lines that begin in a part or after it."""
    size = files.size(part.path)
    longest, widest = FREE // 4 + size, FREE // 4 + 2 * size
    packed = part.path.endswith(_COMPRESSED)
    most = UNPACKED_FREE + UNPACKED_TIMES * size if packed else float("inf")
    try:
        with naming(part.path), _opened(part.path) as file:
            at = part.begin
            if at:
                # A line belongs to this part if the previous line ends at `begin` or later.
                file.seek(at - 1)
                at -= 1
                while piece := file.readline(1 << 20):
                    at += len(piece)
                    if piece.endswith(b"\n"):
                        break
            for line in iter(partial(file.readline, longest + 1), b""):
                if len(line) > longest:
                    raise _too_long(part.path, at, line)
                if at > most:
                    raise ValueError(
                        f"{part.path}: holds more than {most} bytes, unpacked, in {size}, far more"
                        " than a text. If it is a text, unpack it first."
                    )
                try:
                    text = line.decode(encoding).rstrip("\r\n")
                except UnicodeDecodeError as error:
                    raise ValueError(
                        f"{part.path} is not {encoding} text ({error.reason} at byte"
                        f" {at + error.start}); pass its --encoding, e.g. gb18030."
                    ) from None
                if sys.getsizeof(text) > widest:
                    raise _too_long(part.path, at, line)
                begin, at = at, at + len(line)
                del line
                yield begin, text
    except Exception as error:
        if _is_damage(error):
            raise ValueError(f"{part.path} is damaged or cut off ({error}).") from None
        raise


def read_documents(part, layout, advance=lambda number: None):
    """Yields the documents that begin in a part of a file.

    Args:
        part: a `Part`.
        layout: a `Format`.
        advance: a function that is called now and then with the number of bytes read since the
            last call. Default: does nothing.

    Yields:
        Strings, with lines separated by `"\\n"`.

    Raises:
        ValueError: a file is damaged, has another encoding, or a line is not a JSON object with a
            text.
    """
    end = float("inf") if part.end is None else part.end
    if part.path.endswith(_COMPRESSED):
        progress = _Progress(advance, files.size(part.path), divisible=False)
    else:
        progress = _Progress(advance, (part.end or files.size(part.path)) - part.begin)
    if _is_json(part.path):
        documents = _of_json(part, layout, end)
    elif layout.unit == "line":
        documents = _of_lines(part, layout, end)
    elif layout.unit == "file":
        documents = _of_file(part, layout)
    else:
        documents = _of_paragraphs(part, layout, end)
    for at, text in documents:
        progress.at(at - part.begin)
        if text:
            yield text.removeprefix("\ufeff")
    progress.done()


class _Progress:
    """Reports positions in a file as increments of progress."""

    def __init__(self, advance, size, divisible=True):
        self._advance, self._size, self._divisible, self._last = advance, size, divisible, 0

    def at(self, position):
        if self._divisible and position - self._last > 1 << 18:
            self._advance(position - self._last)
            self._last = position

    def done(self):
        self._advance(self._size - self._last)


class _Document:
    """Collects the lines of a document, within a memory limit set by the size of its file."""

    def __init__(self, path):
        self.path, self.most = path, FREE + 7 * files.size(path)
        self.begin(0)

    def begin(self, at):
        """Begins a new document at a position of the file."""
        self.at, self.lines, self.room = at, [], self.most

    def add(self, line):
        self.lines.append(line)
        self.room -= sys.getsizeof(line) + 4 * len(line)  # the latter when lines are joined
        if self.room < 0:
            raise ValueError(
                f"{self.path}, byte {self.at}: a document of more than {len(self.lines) - 1} lines,"
                " which would take far more memory than the file. Put an empty line after each"
                " document, or give --document line."
            )

    def text(self):
        return "\n".join(self.lines)


def _of_file(part, layout):
    document = _Document(part.path)
    for _, line in _lines(part, layout.encoding):
        document.add(line)
    yield 0, document.text().strip()


def _of_lines(part, layout, end):
    for at, line in _lines(part, layout.encoding):
        if at >= end:
            return
        yield at, line.strip()


def _of_json(part, layout, end):
    for at, line in _lines(part, layout.encoding):
        if at >= end:
            return
        if not line.strip():
            continue
        try:
            text = parse_json(line.encode(), halves=True)[layout.text_key]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ValueError(
                f"{part.path}, byte {at}: expected a JSON object with the key"
                f" {layout.text_key!r} ({type(error).__name__}: {error!s:.200}); see --text-key."
            ) from None
        if not isinstance(text, str):
            raise ValueError(
                f"{part.path}, byte {at}: {layout.text_key!r}: expected a string, got"
                f" {type(text).__name__}."
            )
        yield at, SURROGATES.sub("\ufffd", text.replace("\r\n", "\n").strip())


def _of_paragraphs(part, layout, end):
    """Yields documents between empty lines; each belongs to where the line before it begins."""
    document, begun = _Document(part.path), part.begin == 0
    for at, line in _lines(part, layout.encoding):
        if line.strip():
            if begun:
                if not document.lines:
                    document.begin(at)
                document.add(line.strip())
            continue
        if document.lines:
            yield document.at, document.text()
            document.begin(at)
        if at >= end:
            return
        begun = True
    if document.lines:
        yield document.at, document.text()


# Cleaning

# A tag, or the beginning of a comment
_TAGS = re.compile(r"<(?:/?[a-zA-Z][^<>]{0,200}>|!--)")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ufff9-\uffff]"
    "|[\ue000-\uf8ff]"
)
_SPACES = re.compile(r"[^\S\n]+")
_EMPTY_LINES = re.compile(r" ?\n[ \n]*")
# Repeated signs: lines of hyphens or dots, laughter
_REPEATED = re.compile(r"([^\w\s])\1{5}")

# Character references with more digits than Python parses; they are not valid
_HUGE_ENTITY = re.compile(r"&(?=#[0-9]{1000})")


def clean(text):
    """Cleans a text of markup, invisible characters and repetitions.

    HTML entities become characters, and tags spaces. Invisible, private-use and control characters
    are removed. Runs of white space become one space or newline, and more than five of the same
    sign become three.
    """
    text = _unescaped(text)
    text = _joined(text, _tags(text), " ")
    text = _replaced(_INVISIBLE, "", text.replace("\r", "\n"))
    text = _replaced(_EMPTY_LINES, "\n", _replaced(_SPACES, " ", text))
    return _without_runs(text).strip()


def _unescaped(text):
    """Replaces HTML entities by characters, piece by piece to save memory.

    `html.unescape` would keep a list of all entities. A text is only split before a `&`, so no
    entity is split.
    """
    result, start = io.StringIO(newline=""), 0
    while start < len(text):
        end = text.find("&", start + PIECE)
        end = len(text) if end < 0 else end
        result.write(html.unescape(_HUGE_ENTITY.sub("&amp;", text[start:end])))
        start = end
    return result.getvalue()


def _tags(text):
    """Yields the spans of tags, and of comments of at most 500 characters in one line.

    The end of a comment is searched for only once for all comments that may begin before it.
    """
    at, close = 0, -1
    while match := _TAGS.search(text, at):
        start, at = match.span()
        if match[0] == "<!--":
            if close < at:
                close = text.find("-->", at)
                close = 2 * len(text) + 500 if close < 0 else close
            if close > at + 500 or text.find("\n", at, close) >= 0:
                continue
            at = close + 3
        yield start, at


def _replaced(pattern, new, text):
    """Returns `pattern.sub(new, text)`, without a list of all the pieces of a long text."""
    if len(text) < 16 * PIECE:
        return pattern.sub(new, text)
    return _joined(text, (match.span() for match in pattern.finditer(text)), new)


def _joined(text, spans, new):
    """Returns a text with its spans, which are in order, replaced by `new`."""
    result, at = io.StringIO(newline=""), 0
    for start, end in spans:
        result.write(text[at:start])
        result.write(new)
        at = end
    result.write(text[at:])
    return result.getvalue()


def _without_runs(text):
    """Shortens runs of more than five of the same sign to three.

    A regular expression that matches a whole run would take 80 bytes a character.
    """

    def spans():
        end = 0
        while match := _REPEATED.search(text, end):
            end = match.end()
            for step in (PIECE, 256, 1):
                signs = match[1] * step
                while text.startswith(signs, end):
                    end += step
            yield match.start() + 3, end

    return _joined(text, spans(), "")


_CHINESE = re.compile("[㐀-䶿一-鿿]")


def without_space(text):
    """Returns a text without white space."""
    pieces = range(0, len(text), PIECE)
    return "".join(["".join(text[start : start + PIECE].split()) for start in pieces])


def count_chinese(text):
    """Returns the number of Chinese characters in a text."""
    pieces = range(0, len(text), PIECE)
    return sum(len(_CHINESE.findall(text, start, start + PIECE)) for start in pieces)


@dataclass(frozen=True)
class Selection:
    """Cleans and selects documents.

    Args:
        cleaned: whether to apply `clean`. Default False.
        min_characters: shorter documents are left out. Default 1.
        min_chinese: documents with a lower fraction of Chinese characters are left out; white space
            does not count. Default 0.
    """

    cleaned: bool = False
    min_characters: int = 1
    min_chinese: float = 0.0

    def __call__(self, text):
        """Returns the text, cleaned if so set, or `""` if it is left out."""
        if self.cleaned:
            text = clean(text)
        if len(text) < self.min_characters:
            return ""
        if self.min_chinese and self._lacks_chinese(text):
            return ""
        return text

    def _lacks_chinese(self, text):
        return count_chinese(text) < self.min_chinese * len(without_space(text))
