"""Makes the texts, vocabulary and corpora of `tiny-zh`, the models included in the toolkit.

    python -m pretraining.tiny_zh --data D --output WORK

D is a directory with some of `lm_modern_prose/text.txt`, `lm_laws/text.txt` (documents between
empty lines), `classical_modern/pairs.tsv` (book TAB classical TAB modern), `poetry/song_ci.jsonl`
and `poetry/classics.jsonl` (title, paragraphs). See docs/tiny-zh.md for their sources and licences.
The output in WORK is

- `texts/train-KIND.txt` and `texts/heldout-KIND.txt`, where KIND is modern, laws, classical or
  poems: about one of fifty documents is held out, by a hash of its text, so the choice does not
  depend on the other texts;
- `vocab.txt` with 7,000 entries;
- `mlm` and `lm`, the corpora of the encoder and the decoder, with rows of 128 and 256 tokens, and
  `heldout-mlm`, `heldout-lm`.

Then `python -m pretraining.train --config tiny_zh --corpus WORK/mlm --vocab WORK/vocab.txt --output
RUN` trains the encoder; with `--config tiny_zh_gpt2` and `WORK/lm`, the decoder.
"""

import argparse
import contextlib
import hashlib
import string
import sys
from collections import Counter
from itertools import groupby
from pathlib import Path

from bert4keras_lite.arguments import complain
from bert4keras_lite.files import replacing
from bert4keras_lite.parsing import parse_json, shown

from . import corpus
from .files import MISTAKES
from .texts import lines_of, rows_of_pairs

__all__ = ["main"]

VOCABULARY = 7000
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PUNCTUATION = "，。、；：？！“”‘’（）《》〈〉【】「」『』…—～·￥％"
TODAY = "圳鑫雯嗨咔喽嘞呃诶唔噗哔"  # common in today's texts, but rare in these
HELD_OUT = 50  # one of so many documents is held out
LENGTHS = {"mlm": 128, "lm": 256}
LINES = 100  # lines of a document, for books without marked chapters


def paragraphs(path):
    """Yields the documents of a text, lists of lines between empty lines."""
    for filled, lines in groupby(map(str.strip, lines_of(path)), key=bool):
        if filled:
            yield list(lines)


def columns(path, column):
    """Yields the documents of a table of pairs, each with a hundred consecutive lines of a book."""
    for _, book in groupby(rows_of_pairs(path), key=lambda row: row[0]):
        lines = [row[column] for row in book]
        for begin in range(0, len(lines), LINES):
            yield lines[begin : begin + LINES]


def poems(path):
    """Yields the documents of JSON lines, the title and lines of each poem."""
    for number, line in enumerate(lines_of(path), 1):
        with contextlib.suppress(ValueError):
            match parse_json(line.encode()):
                case {"title": title, "paragraphs": [*paragraphs]} if all(
                    isinstance(text, str) for text in (title, *paragraphs)
                ):
                    yield [title, *paragraphs]
                    continue
        raise ValueError(
            f"{path}, line {number}: expected a JSON object with title, a string, and paragraphs, a"
            f" list of strings; got {shown(line)}."
        )


SOURCES = [
    ("modern", "lm_modern_prose/text.txt", paragraphs),
    ("modern", "classical_modern/pairs.tsv", lambda path: columns(path, 2)),
    ("laws", "lm_laws/text.txt", paragraphs),
    ("classical", "classical_modern/pairs.tsv", lambda path: columns(path, 1)),
    ("classical", "poetry/classics.jsonl", poems),
    ("poems", "poetry/song_ci.jsonl", poems),
]
KINDS = list(dict.fromkeys(kind for kind, *_ in SOURCES))


def is_held_out(document):
    """Returns whether a document, a list of lines, is held out."""
    digest = hashlib.sha256("\n".join(document).encode()).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT == 0


def write_texts(data, folder):
    """Writes the training and held-out texts of each kind.

    Args:
        data: `Path` of the directory with the sources.
        folder: `Path` of the output directory.

    Returns:
        A `Counter` of the characters of the training texts.

    Raises:
        FileNotFoundError: all sources are missing.
        ValueError: a source has another format.
    """
    sources = [source for source in SOURCES if (data / source[1]).is_file()]
    if not sources:
        names = ", ".join(dict.fromkeys(name for _, name, _ in SOURCES))
        raise FileNotFoundError(f"{data}: expected one of {names} in it.")
    folder.mkdir(parents=True, exist_ok=True)
    characters = Counter()
    for kind in KINDS:
        documents = [
            document for k, name, read in sources if k == kind for document in read(data / name)
        ]
        for part, held in (("train", False), ("heldout", True)):
            with replacing(folder / f"{part}-{kind}.txt") as file:
                for document in documents:
                    if is_held_out(document) == held:
                        file.write(("\n".join(document) + "\n\n").encode())
                        if not held:
                            characters.update("".join(document))
    return characters


def usual_characters():
    """Returns the 3,755 characters of GB 2312's first level, the common ones of today."""
    cells = ((row + 0xA0, cell + 0xA0) for row in range(16, 56) for cell in range(1, 95))
    return [bytes(cell).decode("gb2312", errors="ignore") for cell in cells]


def vocabulary(characters, size=VOCABULARY):
    """Makes a vocabulary: special tokens, ASCII, punctuation, common and frequent characters.

    Args:
        characters: a `Counter` of the characters of the texts.
        size: number of entries. Default 7,000.

    Returns:
        A list of tokens, each once. Letters and digits are also included as continuations.
    """
    ascii_signs = [c for c in string.printable if c.isprintable() and c == c.lower() and c != " "]
    inner = [f"##{c}" for c in string.ascii_lowercase + string.digits]
    usual = sorted(filter(None, usual_characters()), key=lambda c: -characters[c])
    rest = (c for c, _ in characters.most_common() if len(c.encode()) > 1 and c.isprintable())
    tokens = [*SPECIAL, *ascii_signs, *inner, *PUNCTUATION, *usual, *TODAY, *rest]
    return list(dict.fromkeys(tokens))[:size]


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, metavar="D")
    parser.add_argument("--output", required=True, metavar="WORK")
    options = parser.parse_args(arguments)
    work = Path(options.output)
    try:
        characters = write_texts(Path(options.data), work / "texts")
        with replacing(work / "vocab.txt") as file:
            file.write("".join(f"{token}\n" for token in vocabulary(characters)).encode())
    except FileNotFoundError as error:
        parser.error(f"--data {error}")
    except MISTAKES as error:
        complain(error)
        return 1
    for part, prefix, shards in (("train", "", 8), ("heldout", "heldout-", 1)):
        for mode, length in LENGTHS.items():
            failed = corpus.main(
                [
                    *("--input", str(work / "texts" / f"{part}-*.txt"), "--mode", mode),
                    *("--output", str(work / f"{prefix}{mode}"), "--shards", str(shards)),
                    *("--vocab", str(work / "vocab.txt"), "--sequence-length", str(length)),
                    *("--clean", "--unique", "--min-characters", "4"),
                ]
            )
            if failed:
                return failed
    return 0


if __name__ == "__main__":
    sys.exit(main())
