"""`python -m bert4keras_lite migrate`: changes scripts for bert4keras so that they run here.

The imports change; the rest of a script stays, with its format. What has no counterpart is listed
with the number of its line and what to use instead.
"""

import difflib
import io
from pathlib import Path
from typing import NamedTuple

from ...files import write_text
from ...types import PathLike

__all__ = ["Migrated", "Remark", "migrate", "migrate_file"]


class Remark(NamedTuple):
    """A place in a script that has to be changed by hand: its line, from 1, and what to do."""

    line: int
    text: str


class Migrated(NamedTuple):
    """A migrated script, and what is left to do."""

    text: str
    remarks: list[Remark]


def migrate(text: str) -> Migrated:
    """Changes a script for bert4keras.

    Args:
        text: the script.

    Raises:
        ImportError: libcst is not installed.
        ValueError: the text is not Python 3.
    """
    try:
        import libcst

        from .changer import Changer
    except ImportError:
        raise ImportError(
            "migrate needs libcst. Install it: pip install 'bert4keras_lite[migrate]'."
        ) from None
    try:
        wrapper = libcst.MetadataWrapper(libcst.parse_module(text))
    except libcst.ParserSyntaxError as error:
        raise ValueError(
            f"line {error.raw_line}: not Python 3 ({error.message}). Convert it first, e.g. print"
            " statements to print()."
        ) from None
    changer = Changer()
    module = wrapper.visit(changer)
    return Migrated(module.code, [Remark(*remark) for remark in sorted(set(changer.remarks))])


def migrate_file(path: PathLike, write: bool = False) -> tuple[str, list[Remark]]:
    """Changes a script in a file.

    Args:
        path: of the script, UTF-8.
        write: whether to write it; otherwise the file stays as it is.

    Returns:
        The differences, in the form of `diff -u`, and what is left to do.

    Raises:
        OSError, ValueError: it cannot be read, or is not Python 3.
    """
    path = Path(path)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            old = file.read()
        new, remarks = migrate(old)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error.reason}). Convert it first.") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    before, after = (io.StringIO(text).readlines() for text in (old, new))
    difference = "".join(difflib.unified_diff(before, after, str(path), str(path)))
    if write and new != old:
        write_text(path, new)
    return difference, remarks
