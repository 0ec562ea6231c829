"""The texts of labelled data sets, without their labels: more to read where a corpus is small.

    python -m pretraining.texts --input 'D/**/*train*' --without 'D/**/*test*' --output texts.txt

Every string with six Chinese characters or more in JSON, JSON lines or columns between tabs becomes
a document, once; but none that stands in a file of `--without`, so that nothing of a test is read.
(On going on with the texts of a task see Gururangan et al., arXiv 2004.10964, section 4.)
"""

import argparse
import io
import re
import sys

from bert4keras_lite.arguments import complain, within
from bert4keras_lite.parsing import SURROGATES, RepeatedKeyError, naming, parse_json, size_of

from . import files
from .documents import count_chinese

_COLUMN = re.compile(r"[^\t]+")
_LINE = re.compile("[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")  # as `str.splitlines` ends them


def strings(value):
    """All strings within what JSON can hold, but no keys of objects.

    Half of a character, such as `"\\ud800"` alone, becomes U+FFFD.
    """
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield SURROGATES.sub("\ufffd", value)
        elif isinstance(value, dict | list):
            left += [*(value.values() if isinstance(value, dict) else value)][::-1]


def read_texts(path, min_chinese=6):
    """The strings of a file: of JSON, of JSON lines, or between the tabs of its lines.

    Args:
        path: of the file, local or any that `tf.io.gfile` knows.
        min_chinese: Chinese characters that a string must have.

    Returns:
        A list, in the order of the file.

    Raises:
        ValueError: the file is no text in UTF-8, or an object in it has a key with two values.
    """
    with naming(path), files.open_binary(path) as file:
        content = file.read().removeprefix(b"\xef\xbb\xbf")
    try:
        found = parsed(content)
        strings_of_lines = (
            string for line in io.BytesIO(content) for string in strings_of_line(line)
        )
        return [
            string
            for string in (strings_of_lines if found is None else strings(found))
            if count_chinese(string) >= min_chinese
        ]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected JSON or lines of text in UTF-8 ({error}).") from None
    except RepeatedKeyError as error:
        raise ValueError(f"{path}: {error}; expected one value.") from None


def strings_of_line(line):
    """The strings of a line of bytes: of JSON, or between tabs."""
    found = parsed(line)
    if found is not None:
        return strings(found)
    return (match[0] for match in _COLUMN.finditer(line.decode().rstrip("\r\n")))


def parsed(text):
    """The object or the list of a JSON text of bytes; None if it is none, or would take too much."""
    try:
        found = parse_json(text, halves=True)
    except RepeatedKeyError:
        raise
    except ValueError:
        return None
    return found if isinstance(found, dict | list) else None


def lines_of(path):
    """The lines of a local text file in UTF-8, without their ends; errors name the file."""
    size_of(path)
    try:
        with naming(path), open(path, encoding="utf-8") as file:
            for line in file:
                yield line.rstrip("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8 ({error!s:.200}).") from None


def rows_of_pairs(path):
    """The rows of a table of pairs: lists that begin with book, classical and modern text.

    What is in further columns is one text.
    """
    for number, line in enumerate(lines_of(path), 1):
        row = line.split("\t", 3)
        if len(row) < 3:
            raise ValueError(
                f"{path}, line {number}: {len(row)} columns; expected book, classical and modern text"
                " between tabs."
            )
        yield row


def find(patterns):
    """The files of some glob patterns, in order, each once.

    Raises:
        ValueError: a pattern fits no file.
    """
    found = {}
    for pattern in patterns:
        paths = files.find(pattern)
        if not paths:
            raise ValueError(f"{pattern!r}: no such file; expected JSON, or columns between tabs.")
        found |= dict.fromkeys(paths)
    return list(found)


def write_texts(inputs, without, output, min_chinese=6):
    """Writes the texts of some files, an empty line after each. The file appears when it is whole.

    Args:
        inputs: paths of files to read.
        without: paths of files whose texts are left out.
        output: path to write to.
        min_chinese: see `read_texts`.

    Returns:
        How many texts were written.

    Raises:
        ValueError: see `read_texts`.
    """
    out = {text for path in without for text in read_texts(path, min_chinese)}
    read = [text for path in inputs for text in read_texts(path, min_chinese)]
    kept = [text for text in dict.fromkeys(read) if text not in out]
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
    except (ValueError, OSError) as error:
        complain(error)
        return 1
    print(f"{count:,} texts of {len(inputs)} files in {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
