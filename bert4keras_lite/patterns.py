"""Regular expressions from settings and files, with limits on length and time.

Needs no framework. Expressions have the syntax of Python's `re`; `regex` searches, because its
searches can be stopped.
"""

import math
import re
from time import process_time

import regex

from .parsing import shown

__all__ = ["check_pattern", "search"]

LONGEST = 1000  # characters of an expression
MOST_REPEATS = 1000  # product of the numbers in braces: `regex` expands such repeats
SECONDS = 5  # processor time of a search in all names
_COUNTS = re.compile(r"\{([0-9]*),?([0-9]*)\}")


def check_pattern(argument, pattern):
    """Raises an error unless a value is a regular expression within the limits.

    Args:
        argument: name of the argument, for the message.
        pattern: the value.

    Raises:
        ValueError: names the argument, and what is wrong.
    """
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


def search(argument, pattern, names, ignore_case=False):
    """Returns, for each name, whether a regular expression occurs in it.

    Args:
        argument: name of the argument with the expression, for the message.
        pattern: the expression.
        names: a list of strings.
        ignore_case: whether to ignore case.

    Returns:
        A list of bool.

    Raises:
        ValueError: it is not a regular expression, or takes more than five seconds.
    """
    check_pattern(argument, pattern)
    expression = regex.compile(pattern, regex.IGNORECASE if ignore_case else 0)
    end = process_time() + SECONDS
    try:
        return [
            bool(expression.search(name, timeout=max(end - process_time(), 0.001)))
            for name in names
        ]
    except TimeoutError:
        raise ValueError(
            f"{argument}: {shown(pattern)}: took more than {SECONDS} seconds; expected a simpler"
            " regular expression, without repeats within repeats."
        ) from None
