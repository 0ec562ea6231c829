"""The sets of abstracts and titles that the examples on CSL read.

A set is a file, or a directory with train, valid (or dev) and test files, whose lines are
`title TAB abstract` (CLGE), `to title TAB abstract TAB title` (the CSL benchmark) or JSON objects
with `title` and `abst`.
"""

import io

from json_lines import read_lines, read_text


def read_titles(path):
    """(abstract, title) pairs of a file."""
    if path.suffix == ".json":
        form = '{"title": "...", "abst": "..."}'
        return read_lines(path, lambda row: [(row["abst"], row["title"])], form)
    pairs = []
    for number, line in enumerate(io.StringIO(read_text(path)), 1):
        match line.rstrip("\n").split("\t"):
            case [title, abstract] | ["to title", abstract, title]:
                pairs.append((abstract, title))
            case [_, _, _]:
                pass  # another task of the benchmark
            case _:
                raise SystemExit(
                    f"{path}, line {number}: expected title TAB abstract, or "
                    f"to title TAB abstract TAB title, found {line.strip()[:60]!r}."
                )
    return pairs
