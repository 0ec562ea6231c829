"""Pretrains a small Chinese model on public texts with one command, in about an hour on two cores.

    python -m pretraining.laptop --data D --vocab vocab.txt --output RUN
        [--labelled] [--tasks FOLDER ...] [settings]

D is a directory with `lm_laws/text.txt`, `lm_modern_prose/text.txt`,
`lm_cluecorpus_sample/*_bert_*.txt` (documents between empty lines) and `classical_modern/pairs.tsv`
(book TAB classical TAB modern). Missing files are skipped. The web texts, 3 % of all but the only
ones in today's everyday language, are read 16 times in an epoch (see docs/pretraining.md).

`--labelled` adds the training texts of all labelled sets in D, without their labels, six times in
an epoch: every file with `train` in its name, except for texts that also occur in a file of `dev`,
`valid` or `test`. `--tasks chnsenticorp afqmc` adds those in these folders of D, 32 times:
pretraining on the texts of a task helps (Gururangan et al., arXiv 2004.10964, section 4).

All other flags are those of `pretraining.train`, and override the recipe `tiny`. RUN is the
directory of the corpora and of the run's output; the same command resumes an interrupted run.
"""

import argparse
import json
import re
import sys
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from bert4keras_lite.arguments import complain
from bert4keras_lite.files import replacing

from . import corpus, train
from .files import MISTAKES, not_a_link
from .texts import rows_of_pairs, write_texts

__all__ = ["main"]

TEXTS = ("lm_laws/text.txt", "lm_modern_prose/text.txt")
WEB = "lm_cluecorpus_sample/CLUECorpusSmall_bert_sampled.txt"
WEB_TIMES, LABELLED_TIMES, TASKS_TIMES = 16, 6, 32
TRAIN, HELD_BACK = re.compile(r"(?<![a-z])train"), re.compile(r"(?<![a-z])(dev|valid|test)")
PAIRS = "classical_modern/pairs.tsv"
DEEPEST = 100  # levels of nested directories


def write_pairs(source, target):
    """Writes the classical and the modern text of each book as documents between empty lines."""
    with replacing(target) as file:
        for _, book in groupby(rows_of_pairs(source), key=lambda row: row[0]):
            modern = bytearray()
            for row in book:
                file.write(f"{row[1]}\n".encode())
                modern += f"{row[2]}\n".encode()
            file.write(b"\n" + modern + b"\n")


def files_within(data):
    """Returns all files below a directory, sorted; links to directories are not followed.

    Raises:
        ValueError: directories are nested more than `DEEPEST` levels deep.
    """
    files, left = [], [(data, 0)]
    while left:
        folder, depth = left.pop()
        if depth > DEEPEST:
            raise ValueError(
                f"{data}: has directories nested more than {DEEPEST} levels deep; expected data"
                f" sets. Remove {str(folder.relative_to(data))[:60]!r}..., or move the data sets"
                " away."
            )
        entries = []
        with suppress(PermissionError):
            entries = sorted(folder.iterdir())
        for path in entries:
            if path.is_dir() and not path.is_symlink():
                left.append((path, depth + 1))
            elif path.is_file():
                files.append(path)
    return sorted(files)


def write_labelled(data, folders, target):
    """Writes the texts of all training files in folders, except those that are also in test files.

    Args:
        data: `Path` of the directory with all sets, whose test files all count.
        folders: `Path`s within `data`, or `data` itself.
        target: path of the output: texts, with an empty line after each.
    """
    paths = files_within(data)
    train, held = ([p for p in paths if word.search(p.name)] for word in (TRAIN, HELD_BACK))
    write_texts([p for p in train if any(f in p.parents for f in folders)], held, target)


def write_parts(data, output, labelled):
    """Writes the texts of the data that are not plain text, and lists all text files.

    Args:
        data: `Path` of the directory with all sets.
        output: `Path` of the directory to write to.
        labelled: dict name -> (folders with labelled sets, number of times in an epoch).

    Returns:
        A list of `(name, files, number of times in an epoch)`.
    """
    output.mkdir(parents=True, exist_ok=True)
    texts = [data / name for name in TEXTS if (data / name).is_file()]
    if (data / PAIRS).is_file():
        texts.append(output / "classical_modern.txt")
        write_pairs(data / PAIRS, texts[-1])
    web = [data / WEB] if (data / WEB).is_file() else []
    parts = [("corpus", texts, 1), ("web", web, WEB_TIMES)]
    for name, (folders, times) in labelled.items():
        if folders:
            write_labelled(data, folders, output / f"{name}.txt")
            parts.append((name, [output / f"{name}.txt"], times))
    return parts


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--vocab", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--labelled", action="store_true")
    parser.add_argument("--tasks", nargs="+", default=[], metavar="FOLDER")
    parser.add_argument("--sequence-length", default="128")
    options, flags = parser.parse_known_args(arguments)
    data, output = Path(options.data), Path(options.output)
    for folder in options.tasks:
        if not (data / folder).is_dir():
            parser.error(f"--tasks {folder}: expected a folder in {data}.")
    labelled = {
        "labelled": ([data] if options.labelled else [], LABELLED_TIMES),
        "tasks": ([data / folder for folder in options.tasks], TASKS_TIMES),
    }
    try:
        parts = write_parts(data, output, labelled)
        folders = {name: str(not_a_link(output / name)) for name, _, _ in parts}
    except MISTAKES as error:
        complain(error)
        return 1
    corpora = {}
    for name, files, times in parts:
        if not files:
            continue
        corpora[folders[name]] = times
        failed = corpus.main(
            [
                *("--input", *map(str, files), "--output", folders[name]),
                *("--mode", "mlm", "--vocab", options.vocab, "--shards", "16"),
                *("--sequence-length", options.sequence_length, "--clean", "--unique"),
            ]
        )
        if failed:
            return failed
    if not corpora:
        parser.error(f"--data {data}: expected one of {', '.join([*TEXTS, WEB, PAIRS])} in it.")
    return train.main(
        [
            *("--config", "tiny", "--corpus", json.dumps(corpora)),
            *("--output", str(output), "--vocab", options.vocab, *flags),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
