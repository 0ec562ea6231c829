"""The sets of reviews that the examples on sentiment read.

A set is a directory with the files of the splits, whose lines are `text TAB label` (the reviews
bert4keras ships, the sample in examples/data) or, with a header, `label TAB text_a` (ChnSentiCorp).
"""

from pathlib import Path

from bert4keras_lite.data import read_tsv


def read(directory, *splits):
    """(text, label) pairs of the first split that is there; label 1 is positive."""
    for split in splits:
        for name in (f"sentiment.{split}.tsv", f"sentiment.{split}.data", f"{split}.tsv"):
            path = Path(directory) / name
            if path.is_file() and path.name == f"{split}.tsv":
                return [(text, label) for label, text in read_tsv(path, (int, str), header=True)]
            if path.is_file():
                return read_tsv(path)
    raise SystemExit(f"{directory}: no sentiment.{splits[0]}.tsv, .data or {splits[0]}.tsv in it.")
