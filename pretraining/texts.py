"""Extracts the texts of labelled data sets, without their labels, for pretraining.

    python -m pretraining.texts --input 'D/**/*train*' --without 'D/**/*test*' --output texts.txt

Every string with at least six Chinese characters in JSON, JSON lines or tab-separated columns
becomes a document, once; except for those that occur in a file of `--without`, so that no test data
is used.
(On pretraining with the texts of a task see Gururangan et al., arXiv 2004.10964, section 4.)
"""

import argparse
import io
import re
import sys

from bert4keras_lite.arguments import complain, within
from bert4keras_lite.parsing import SURROGATES, RepeatedKeyError, naming, parse_json, size_of

from . import files
from .documents import count_chinese

__all__ = ["lines_of", "main", "rows_of_pairs", "write_texts"]

_COLUMN = re.compile(r"[^\t]+")
_LINE = re.compile("[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")  # lines as in `str.splitlines`


def strings(value):
    """Yields all strings in a JSON value, except the keys of objects.

    Lone surrogates, such as `"\\ud800"`, become U+FFFD.
    """
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield SURROGATES.sub("\ufffd", value)
        elif isinstance(value, dict | list):
            left += [*(value.values() if isinstance(value, dict) else value)][::-1]


def read_texts(path, min_chinese=6):
    """Reads the strings of a file of JSON, JSON lines or tab-separated columns.

    Args:
        path: path of the file, local or remote (`tf.io.gfile`).
        min_chinese: the least number of Chinese characters in a string. Default 6.

    Returns:
        A list of strings, in the order of the file.

    Raises:
        ValueError: the file is not text in UTF-8, or an object in it has a repeated key.
    """
    with naming(path), files.open_binary(path) as file:
        content = file.read().removeprefix(b"\xef\xbb\xbf")
    try:
        value = parsed(content)
        strings_of_lines = (
            string for line in io.BytesIO(content) for string in strings_of_line(line)
        )
        return [
            string
            for string in (strings_of_lines if value is None else strings(value))
            if count_chinese(string) >= min_chinese
        ]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected JSON or lines of text in UTF-8 ({error}).") from None
    except RepeatedKeyError as error:
        raise ValueError(f"{path}: {error}; expected one value.") from None


def strings_of_line(line):
    """Returns an iterator over the strings of a line of bytes: of its JSON, or its columns."""
    value = parsed(line)
    if value is not None:
        return strings(value)
    return (match[0] for match in _COLUMN.finditer(line.decode().rstrip("\r\n")))


def parsed(text):
    """Parses a JSON object or list; returns None if it is neither, invalid or too large."""
    try:
        value = parse_json(text, halves=True)
    except RepeatedKeyError:
        raise
    except ValueError:
        return None
    return value if isinstance(value, dict | list) else None


def lines_of(path):
    """Yields the lines of a local UTF-8 file, without line ends; errors name the file."""
    size_of(path)
    try:
        with naming(path), open(path, encoding="utf-8") as file:
            for line in file:
                yield line.rstrip("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8 ({error!s:.200}).") from None


def rows_of_pairs(path):
    """Yields the rows of a table of pairs, lists of book, classical and modern text.

    All further columns are one item.
    """
    for number, line in enumerate(lines_of(path), 1):
        row = line.split("\t", 3)
        if len(row) < 3:
            raise ValueError(
                f"{path}, line {number}: {len(row)} columns; expected book, classical and modern"
                " text between tabs."
            )
        yield row


def find(patterns):
    """Returns the files of glob patterns, in order, each once.

    Raises:
        ValueError: a pattern matches no file.
    """
    unique = {}
    for pattern in patterns:
        paths = files.find(pattern)
        if not paths:
            raise ValueError(f"{pattern!r}: no such file; expected JSON, or columns between tabs.")
        unique |= dict.fromkeys(paths)
    return list(unique)


def write_texts(inputs, without, output, min_chinese=6):
    """Writes the texts of files, with an empty line after each; the file is written atomically.

    Args:
        inputs: paths of files to read.
        without: paths of files whose texts are left out.
        output: path of the output.
        min_chinese: see `read_texts`. Default 6.

    Returns:
        The number of texts written.

    Raises:
        ValueError: see `read_texts`.
    """
    excluded = {text for path in without for text in read_texts(path, min_chinese)}
    texts = [text for path in inputs for text in read_texts(path, min_chinese)]
    kept = [text for text in dict.fromkeys(texts) if text not in excluded]
    with files.replacing(output) as file:
        for text in kept:
            for line in filter(None, (match[0].strip() for match in _LINE.finditer(text))):
                file.write(f"{line}\n".encode())
            file.write(b"\n")
    return len(kept)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", nargs="+", required=True, metavar="GLOB")
    parser.add_argument("--without", nargs="+", default=[], metavar="GLOB")
    parser.add_argument("--output", required=True, metavar="FILE")
    parser.add_argument("--min-chinese", type=within(0, 2**31 - 1), default=6, metavar="CHARACTERS")
    options = parser.parse_args(arguments)
    try:
        inputs, without = find(options.input), find(options.without)
        count = write_texts(inputs, without, options.output, options.min_chinese)
    except files.MISTAKES as error:
        complain(error)
        return 1
    print(f"{count:,} texts of {len(inputs)} files in {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
