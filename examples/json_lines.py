"""What the examples that read JSON share: a file line by line, and which line is not as it should be."""

import json

from bert4keras_lite.parsing import parse_json, size_of


def read_lines(path, read, expected):
    """What is told by a file of JSON objects, one a line; empty lines are skipped.

    Args:
        path: a UTF-8 file.
        read: gives, for an object, the list of what it tells.
        expected: what a line looks like, for the error.

    Returns:
        One list of all that was told.

    Raises:
        SystemExit: `read` does not understand a line, or it is a pipe; file, line and reason are
            named.

    Example:
        >>> read_lines("a.json", lambda row: [row["text"]], 'a line {"text": ...}')
    """
    found = []
    check_file(path)
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                line = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                found += read(parsed(line)) if line else []
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise SystemExit(
                    f"{path}, line {number}: expected {expected}; {reason(error)}: {line[:80]!r}"
                ) from None
    return found


def check_file(path):
    """Ends with a message if a path is that of no file; a pipe would be waited for."""
    try:
        size_of(path)
    except ValueError as error:
        raise SystemExit(str(error)) from None


def read_text(path):
    """The text of a UTF-8 file, whose lines end in LF; ends with a message if it is none."""
    check_file(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SystemExit(f"{path}: expected text in UTF-8 ({error!s:.200}).") from None


def parsed(line):
    """What a line of JSON holds; half of a character, such as `"\\ud800"` alone, becomes `?`."""
    row = parse_json(line.encode(), halves=True)
    if "\\ud" in line.lower():
        row = json.loads(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace"))
    return row


def reason(error):
    """What an error says, in words."""
    if isinstance(error, KeyError):
        return f"there is no {error}"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error})"
    return str(error)
