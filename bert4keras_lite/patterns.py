"""Regular expressions from settings and files, with limits on length and time.

Needs no framework. Expressions have the syntax of Python's `re`; `regex` searches, because its
searches can be stopped.
"""

import math
import re
from time import process_time

import regex

from .parsing import shown

__all__ = ["check_patterns", "search"]

LONGEST = 1000  # characters of an expression
MOST_REPEATS = 1000  # product of the numbers in braces: `regex` expands such repeats
SECONDS = 5  # processor time for compiling all expressions of an option, and for searching
_COUNTS = re.compile(r"\{([0-9]*),?([0-9]*)\}")


def check_patterns(argument, patterns):
    """Raises an error unless values are regular expressions within the limits.

    Args:
        argument: name of the argument, for the message.
        patterns: a list of values.

    Raises:
        ValueError: names the argument, and what is wrong; or they take more than five seconds.
    """
    end = process_time() + SECONDS
    for pattern in patterns:
        _check_pattern(argument, pattern)
        if process_time() > end:  # ranges of characters whose case is ignored take milliseconds
            raise _too_slow(argument, pattern)


def _check_pattern(argument, pattern):
    try:
        if not isinstance(pattern, str) or len(pattern) > LONGEST:
            raise ValueError(f"a text of at most {LONGEST} characters")
        if "{" in _COUNTS.sub("", pattern):
            raise ValueError("braces around numbers only")
        counts = (
            max(1, *(int(count[:9] or 1) for count in pair)) for pair in _COUNTS.findall(pattern)
        )
        if math.prod(counts) > MOST_REPEATS:
            raise ValueError(f"no more than {MOST_REPEATS} repeats in braces")
        re.compile(pattern)
    except (re.error, ValueError, RecursionError, OverflowError) as error:
        raise ValueError(
            f"{argument}: {shown(pattern)}: expected a regular expression ({error!s:.100})."
        ) from None


def _too_slow(argument, pattern):
    return ValueError(
        f"{argument}: {shown(pattern)}: took more than {SECONDS} seconds, with those before it;"
        " expected fewer or simpler regular expressions, without repeats within repeats."
    )


def search(argument, patterns, names, ignore_case=False):
    """Returns whether regular expressions occur in names.

    Args:
        argument: name of the argument with the expressions, for the message.
        patterns: a list of expressions.
        names: a list of strings.
        ignore_case: whether to ignore case.

    Returns:
        For each expression a list of bool, one for each name.

    Raises:
        ValueError: one is not a regular expression, or they take more than five seconds.
    """
    check_patterns(argument, patterns)
    flags, rows, end = regex.IGNORECASE if ignore_case else 0, [], process_time() + SECONDS
    for pattern in patterns:
        expression = regex.compile(pattern, flags)
        try:
            row = [
                bool(expression.search(name, timeout=max(end - process_time(), 0.001)))
                for name in names
            ]
        except TimeoutError:
            raise _too_slow(argument, pattern) from None
        if process_time() > end:
            raise _too_slow(argument, pattern)
        rows.append(row)
    return rows
