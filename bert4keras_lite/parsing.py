"""Reads untrusted JSON and text within limits: configs, vocabularies, tokenizers, headers.

Whatever a file contains, reading it takes memory in proportion to its size, does not wait for a
pipe, and raises a single clear error if it is invalid. This module imports no framework. See
`docs/reliability.md`.
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

__all__ = [
    "FREE",
    "LONGEST_NAME",
    "SURROGATES",
    "RepeatedKeyError",
    "check_encoding",
    "excerpt",
    "expecting",
    "first_lines",
    "is_file_name",
    "listed",
    "naming",
    "nearest",
    "parse_json",
    "printable",
    "read_bytes",
    "read_json",
    "read_lines",
    "shown",
    "size_of",
]

FREE = 32 << 20  # bytes of memory that reading a description may always take
MAX_DEPTH = 100  # maximum nesting of lists and objects
LONGEST_NAME = 255  # bytes of the name of a file, in the usual file systems
_ITEM = 64  # bytes of the smallest item of a list or object
_OBJECT = 240  # bytes of an object with one key
_PAIR = 96  # bytes of a key and its value while their object is built and checked
_LINE = 200  # bytes of a line as a string and a key
# an escape of a surrogate (half of a character beyond U+FFFF), alone or with the other half
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
SURROGATES = re.compile("[\ud800-\udfff]")
SHOWN = 200  # characters of a value that a message quotes


class RepeatedKeyError(ValueError):
    """A JSON object has a key twice."""


# characters that move the cursor of a terminal, end a line, or change the text direction
_CONTROLS = re.compile(
    "[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text, keep=""):
    """Escapes control characters, so that untrusted text can be shown in a terminal or log.

    Args:
        text: a string, or a value to convert to one.
        keep: control characters to keep.
    """

    def escaped(match):
        char = match[0]
        return char if char in keep else char.encode("unicode_escape").decode()

    return _CONTROLS.sub(escaped, str(text))


def excerpt(text):
    """Prepares untrusted text for a message: `printable`, cut at 200 characters."""
    return printable(str(text)[:SHOWN])[:SHOWN]


def first_lines(lines, most=40):
    """Joins the first lines of a list, and says how many more there are."""
    left = len(lines) - most
    return "\n".join(lines[:most] + [f"... and {left} more"] * (left > 0))


@contextmanager
def naming(path):
    """Adds a file name to `OSError`s in the context, as those of `read` have none."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def shown(value):
    """Returns the `repr` of an untrusted value, cut at 200 characters, without computing the rest.

    The full `repr` of tuples that hold another tuple twice, and so on, would never end.
    """
    text = ""
    for piece in _pieces(value):
        text += piece
        if len(text) >= SHOWN:
            break
    return text[:SHOWN]


def _pieces(value):
    """Yields the parts of a `repr`."""
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
    elif isinstance(value, int) and value.bit_length() > 1000:  # Python may raise for these
        yield f"<an integer of {value.bit_length()} bits>"
    else:
        yield repr(value)


def listed(names):
    """Lists names for a message: at most five, cut at 200 characters."""
    return ", ".join(names[:5])[:SHOWN]


def nearest(name, names, cutoff=0.6):
    """Returns a list with the most similar of `names` to a name; empty if none is similar.

    Names of more than 100 characters are similar to none, as difflib indexes every character.
    """
    return difflib.get_close_matches(name, names, 1, cutoff) if len(name) <= 100 else []


def size_of(path):
    """Returns the size of a file in bytes, after a check that it is a regular file.

    Raises:
        ValueError: it is a directory, a pipe (which would never end) or a device.
        OSError: it does not exist.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path}: expected a file, and it is a directory, a pipe or a device.")
    return status.st_size


def check_encoding(encoding):
    """Raises a `ValueError` if a character encoding does not exist."""
    try:
        "\n".encode(encoding)
    except (LookupError, ValueError):
        raise ValueError(
            f"encoding={encoding!r:.200}: no encoding of characters has this name; expected one "
            "such as 'utf-8' or 'gb18030'."
        ) from None


def is_file_name(name):
    """Returns whether an untrusted value is a plain file name: no path, not `..`, not too long."""
    if not isinstance(name, str) or name == ".." or "\0" in name:
        return False
    return Path(name).name == name and len(name.encode("utf-8", "surrogatepass")) <= LONGEST_NAME


def read_bytes(path):
    """Returns the bytes of a file; raises like `size_of`."""
    size_of(path)
    with naming(path):
        return Path(path).read_bytes()


def read_lines(path, encoding="utf-8"):
    """Returns the lines of a text file, split at `"\\n"` only.

    Raises:
        UnicodeDecodeError: it has another encoding.
        ValueError: it is not a regular file, or has so many short lines that they would take far
            more memory than the file.
        OSError: it cannot be opened.
    """
    content = read_bytes(path)
    count = content.count(b"\n")
    if _LINE * count > 2 * FREE + 6 * len(content):
        raise ValueError(f"{path}: holds {count} lines in {len(content)} bytes, which is too many.")
    text = content.decode(encoding)
    del content
    return text.split("\n")


def parse_json(text, repeats="equal", halves=False):
    """Parses a JSON text.

    Args:
        text: bytes, in UTF-8.
        repeats: whether an object may have a key twice: `"equal"` (the default): with equal values
            only; `"none"`: never.
        halves: whether a lone surrogate, such as `"\\ud800"`, is allowed; False by default.

    Returns:
        The value.

    Raises:
        RepeatedKeyError: a `ValueError`: a key occurs twice.
        ValueError: the text is not JSON, is nested too deeply, has a lone surrogate, or would take
            far more memory than its length explains. Messages do not name a file.
    """
    objects = text.count(b"{")
    items = text.count(b",") + text.count(b"[") + objects
    decoded = text.decode("utf-8-sig")
    needed = _ITEM * (items - objects) + _OBJECT * objects + sys.getsizeof(decoded)
    if repeats == "equal":  # with "none", callers allow few keys in an object
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
    """Parses a JSON file; a key may occur twice with equal values only.

    Raises:
        ValueError, OSError: see `parse_json` and `size_of`; messages name the file.
    """
    text = read_bytes(path)
    try:
        return parse_json(text)
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON, got {error!s:.200}.") from None


@contextmanager
def expecting(path, what):
    """Turns the errors that code raises for values of unexpected types into a `ValueError`."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, RecursionError, OverflowError) as error:
        raise ValueError(
            f"{path}: expected {what}, got values of other types ({type(error).__name__}:"
            f" {error!s:.200})."
        ) from error


def texts_in(value):
    """Yields all strings in a JSON value, in order, including keys."""
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            stack += reversed(value)
        elif isinstance(value, dict):
            stack += (part for pair in reversed(value.items()) for part in reversed(pair))


def _depth(value):
    """Returns the nesting depth of lists and objects, at most `MAX_DEPTH + 1`."""
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
        key, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise RepeatedKeyError(f"the key {key!r:.200} is there twice")
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
