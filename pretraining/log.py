"""The log of a run, `log.csv`, with a row for each logged step; without any framework."""

import codecs
import csv
import io
import os
from itertools import chain
from pathlib import Path

from bert4keras_lite.files import replacing
from bert4keras_lite.parsing import naming, shown, size_of

__all__ = ["Log"]

FIRST_COLUMNS = ["step", "tokens", "loss"]
MAX_COLUMNS = 1000


class Log:
    """A CSV file with a row for each logged step, none twice.

    The text of the file is kept in memory; dicts would take about ten times as much.

    Args:
        path: path of the file; an existing file is continued.
        last: rows of later steps are dropped.
    """

    def __init__(self, path, last):
        self.path, self.content = Path(path), io.BytesIO()

        def kept():
            return (row for row in rows_of_file(path) if row["step"] <= last)

        self.columns = list(dict.fromkeys(name for row in kept() for name in row)) or ["step"]
        if self.path.is_file():
            self.write_all(kept())

    @property
    def rows(self):
        """An iterator over the rows, see `read_log`."""
        return rows_of(io.BytesIO(self.content.getvalue()), self.path)

    def write(self, row):
        """Appends a row, a dict column -> number; new columns rewrite the file."""
        if row.keys() <= set(self.columns) and self.path.is_file():
            begin = self.content.tell()
            self.writer.writerow(row)
            with self.path.open("ab") as file:
                file.write(self.content.getvalue()[begin:])
                file.flush()
                os.fsync(file.fileno())  # so that no later checkpoint survives without this row
        else:
            self.columns = list(dict.fromkeys([*FIRST_COLUMNS, *self.columns, *row]))
            self.write_all(chain(self.rows, [row]))

    def write_all(self, rows):
        """Rewrites the file atomically: a run that is killed leaves the old or the new one."""
        self.content = io.BytesIO()
        self.writer = csv.DictWriter(codecs.getwriter("utf-8")(self.content), self.columns)
        self.writer.writeheader()
        self.writer.writerows(rows)
        with replacing(self.path) as file:
            file.write(self.content.getvalue())


def read_log(path):
    """Reads a `log.csv` as a list of dicts column -> number; empty if there is no file.

    An incomplete last line of a killed run is left out.

    Raises:
        ValueError: a value is not a number, a row has no step, or rows differ in their columns.
    """
    return list(rows_of_file(path))


def rows_of_file(path):
    """Yields the rows of `read_log` one by one."""
    if Path(path).exists():
        size_of(path)
        with naming(path), open(path, "rb") as file:
            yield from rows_of(file, path)


def rows_of(file, path):
    """Yields the rows of a `log.csv` that is open for reading bytes."""
    reader = csv.reader(finished_lines(file), strict=True)
    try:
        columns = next(reader, ["step"])
        if "step" not in columns or len(set(columns)) < len(columns):
            raise ValueError(f"the columns {shown(columns)}; expected step and others, each once.")
        for cells in reader:
            if len(cells) != len(columns):
                raise ValueError(f"{len(cells)} values; expected {len(columns)}, as in line 1.")
            row = {name: number(cell) for name, cell in zip(columns, cells, strict=True) if cell}
            if type(row.get("step")) is not int:
                raise ValueError(f"the step {shown(row.get('step'))}; expected a whole number.")
            yield row
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8 ({error!s:.200}).") from None
    except (ValueError, csv.Error) as error:
        problem = str(error).removesuffix(".")
        raise ValueError(
            f"{path}, line {reader.line_num}: {problem:.300}. Correct it, or move the file away:"
            " the run continues without these rows."
        ) from None


def finished_lines(file):
    """Yields the lines of a file, except an incomplete last one; limits the number of cells."""
    for line in io.TextIOWrapper(file, "utf-8", newline="\n"):
        if (count := line.count(",")) >= MAX_COLUMNS:
            raise ValueError(
                f"the line after it has {count + 1} values; expected at most {MAX_COLUMNS}."
            )
        if line.endswith("\n"):
            yield line


def number(text):
    """Returns the int or float of a cell."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else float(text)
