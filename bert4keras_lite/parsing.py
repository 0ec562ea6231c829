"""Reads JSON and text of strangers within limits: for configs, vocabularies, tokenizers, headers.

Whatever a file claims or repeats, reading it takes no more memory than its size explains, does not
wait for a pipe, and ends in one error. Knows no framework. See `docs/reliability.md`.
"""

import difflib
import json
import os
import re
import stat
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

FREE = 32 << 20  # bytes of memory that reading a description may take in any case
MAX_DEPTH = 100  # of lists and objects within each other
_ITEM = 64  # bytes that the least thing in a list or object takes
_OBJECT = 240  # bytes that an object with one key takes
_PAIR = 96  # bytes that a key and its value take until an object is made of them and looked through
_LINE = 200  # bytes that a line takes as a string and a key
# an escape that is half of a character beyond U+FFFF, alone or with its other half
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
SURROGATES = re.compile("[\ud800-\udfff]")
_WIDTHS = {1: 8, 5: 4}  # bytes of a number in a protocol buffer, by the type of its field
SHOWN = 200  # characters of a value that a message repeats


class RepeatedKeyError(ValueError):
    """A JSON object that has a key twice."""


# what moves the cursor of a terminal, ends a line, or turns the direction of what follows
_CONTROLS = re.compile(
    "[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text, keep=""):
    """A text out of a file as a terminal or a log may show it: control characters are escaped.

    Args:
        text: a string, or what is made one.
        keep: control characters that stay.
    """

    def escaped(match):
        char = match[0]
        return char if char in keep else char.encode("unicode_escape").decode()

    return _CONTROLS.sub(escaped, str(text))


def excerpt(text):
    """A text out of a file as a message repeats it: `printable`, and cut at 200 characters."""
    return printable(str(text)[:SHOWN])[:SHOWN]


def first_lines(lines, most=40):
    """The first ones of a list of lines, and how many more there are, as a text."""
    left = len(lines) - most
    return "\n".join(lines[:most] + [f"... and {left} more"] * (left > 0))


@contextmanager
def naming(path):
    """Gives an `OSError` of the system the name of its file, which one of `read` does not have."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def shown(value):
    """The `repr` of a value out of a file, cut at 200 characters; no more than that is ever made.

    That of a tuple which holds another twice, and so on, would never end.
    """
    text = ""
    for piece in _pieces(value):
        text += piece
        if len(text) >= SHOWN:
            break
    return text[:SHOWN]


def _pieces(value):
    """The parts of a `repr`, one after the other."""
    if isinstance(value, dict):
        yield "{"
        for i, (key, item) in enumerate(value.items()):
            yield ", " if i else ""
            yield from _pieces(key)
            yield ": "
            yield from _pieces(item)
        yield "}"
    elif isinstance(value, list | tuple):
        first, last = "[]" if isinstance(value, list) else "()"
        yield first
        for i, item in enumerate(value):
            yield ", " if i else ""
            yield from _pieces(item)
        yield f",{last}" if last == ")" and len(value) == 1 else last
    elif isinstance(value, str | bytes | bytearray):
        yield repr(value[:SHOWN])
    elif isinstance(value, int) and value.bit_length() > 1000:  # Python refuses to print some
        yield f"<an integer of {value.bit_length()} bits>"
    else:
        yield repr(value)


def listed(names):
    """Names as a message lists them: at most five, cut at 200 characters."""
    return ", ".join(names[:5])[:SHOWN]


def nearest(name, names, cutoff=0.6):
    """The one of `names` that a name is most like, in a list; an empty one if there is none.

    None is like a name of more than 100 characters: difflib lists the places of each of them.
    """
    return difflib.get_close_matches(name, names, 1, cutoff) if len(name) <= 100 else []


def size_of(path):
    """The size of a file in bytes, once it is known to be one: a pipe would never end.

    Raises:
        ValueError: it is a directory, a pipe or a device.
        OSError: it is not there.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path}: expected a file, and it is a directory, a pipe or a device.")
    return status.st_size


def check_encoding(encoding):
    """Raises a `ValueError` if there is no such encoding of characters."""
    try:
        "\n".encode(encoding)
    except (LookupError, ValueError):
        raise ValueError(
            f"encoding={encoding!r:.200}: no encoding of characters has this name; expected one, e.g."
            " 'utf-8' or 'gb18030'."
        ) from None


def is_file_name(name):
    """Whether what a file tells is the name of another one beside it: no path, and not `..`."""
    if not isinstance(name, str) or name == ".." or "\0" in name:
        return False
    return Path(name).name == name


def read_bytes(path):
    """The bytes of a file; raises like `size_of`."""
    size_of(path)
    with naming(path):
        return Path(path).read_bytes()


def read_lines(path, encoding="utf-8"):
    """The lines of a text file, which end at `"\\n"` alone.

    Raises:
        UnicodeDecodeError: it has another encoding.
        ValueError: it is no file, or has so many short lines that they would take far more memory.
        OSError: it cannot be opened.
    """
    content = read_bytes(path)
    count = content.count(b"\n")
    if _LINE * count > 2 * FREE + 6 * len(content):
        raise ValueError(f"{path}: holds {count} lines in {len(content)} bytes, which is too many.")
    text = content.decode(encoding)
    del content
    return text.split("\n")


def read_varint(data, at):
    """The integer at `at` of a protocol buffer, and the position after it.

    It has seven bits a byte, the lowest first.

    Raises:
        ValueError: it has no end within ten bytes, or more than 64 bits, of which other parsers
            take some; or bytes of zeros at its end.
    """
    value = 0
    for i, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            if value >= 1 << 64:
                break
            if not byte and i:
                raise ValueError("an integer that takes more bytes than it needs")
            return value, at + i + 1
    raise ValueError("an integer that is cut off, or of more than 64 bits")


def read_fields(data):
    """The fields of a protocol buffer, in order.

    Yields:
        `(number, value, start, end)`: the value is an int or bytes, and the field, with its number,
        lies between `start` and `end`.

    Raises:
        ValueError: it is damaged, or has groups, which are obsolete, or numbers of fields that no
            field can have: other parsers take some of their bits.
    """
    end = 0
    while end < len(data):
        start = end
        tag, at = read_varint(data, start)
        if not 8 <= tag < 1 << 32:
            raise ValueError(f"field {tag >> 3} in a protocol buffer")
        wire = tag & 7
        if wire == 0:
            value, end = read_varint(data, at)
        elif wire in _WIDTHS:
            end = at + _WIDTHS[wire]
            value = int.from_bytes(data[at:end], "little")
        elif wire == 2:
            length, at = read_varint(data, at)
            end = at + length
            value = data[at:end]
        else:
            raise ValueError(f"wire type {wire} in a protocol buffer")
        if end > len(data):
            raise ValueError("a protocol buffer that is cut off")
        yield tag >> 3, value, start, end


def parse_json(text, repeats="equal", halves=False):
    """What a JSON text holds.

    Args:
        text: bytes, in UTF-8.
        repeats: of a key that is there twice, `"equal"`: other values than the first are an
            error; `"none"`: that is one in any case.
        halves: whether half of a character, such as `"\\ud800"` alone, may be in it.

    Raises:
        RepeatedKeyError: a `ValueError`: a key is there twice.
        ValueError: it is no JSON, is nested too deeply, holds half a character, or would take far
            more memory than its length explains. The messages name no file.
    """
    objects = text.count(b"{")
    items = text.count(b",") + text.count(b"[") + objects
    decoded = text.decode("utf-8-sig")
    needed = _ITEM * (items - objects) + _OBJECT * objects + sys.getsizeof(decoded)
    if repeats == "equal":  # the reader of the others allows few names in one object
        needed += _PAIR * text.count(b":")
    if needed > FREE + 6 * len(text):
        raise ValueError(f"a JSON text with {items} items in {len(text)} bytes")
    try:
        value = json.loads(decoded, object_pairs_hook=_HOOKS[repeats])
    except RecursionError:
        raise ValueError(f"lists or objects more than {MAX_DEPTH} deep within each other") from None
    if _depth(value) > MAX_DEPTH:
        raise ValueError(f"lists or objects more than {MAX_DEPTH} deep within each other")
    if not halves and _HALF.search(text) and any(map(SURROGATES.search, texts_in(value))):
        raise ValueError("half of a character, such as \\ud800 alone")
    return value


def read_json(path):
    """What a JSON file holds; a key may be there twice with equal values only.

    Raises like `parse_json` and `size_of`, with the file's name.
    """
    text = read_bytes(path)
    try:
        return parse_json(text)
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON, got {error!s:.200}.") from None


@contextmanager
def expecting(path, what):
    """Turns whatever code trips over in values of other types than expected into one `ValueError`."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, RecursionError, OverflowError) as error:
        raise ValueError(
            f"{path}: expected {what}, got values of other types ({type(error).__name__}:"
            f" {error!s:.200})."
        ) from error


def texts_in(value):
    """All strings within what JSON can hold, in order, those that are keys among them."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            left += reversed(value)
        elif isinstance(value, dict):
            left += (part for pair in reversed(value.items()) for part in reversed(pair))


def _depth(value):
    """How deep lists and objects are within each other; no more than one over the limit."""
    level = [value] if isinstance(value, list | dict) else []
    for depth in range(MAX_DEPTH + 1):
        if not level:
            return depth
        level = [
            inner
            for item in level
            for inner in (item.values() if isinstance(item, dict) else item)
            if isinstance(inner, list | dict)
        ]
    return MAX_DEPTH + 1


def _without_repeats(pairs):
    result = dict(pairs)
    if len(result) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise RepeatedKeyError(f"the key {twice!r:.200} is there twice")
    return result


def _without_contradictions(pairs):
    result = dict(pairs)
    if len(result) < len(pairs):
        for key, value in pairs:
            if value != result[key]:
                raise RepeatedKeyError(
                    f"the key {key!r:.60} is there twice, with the values {shown(value):.50} and"
                    f" {shown(result[key]):.50}"
                )
    return result


_HOOKS = {"equal": _without_contradictions, "none": _without_repeats}
