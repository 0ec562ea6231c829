r"""Splitting a text into words by regular expressions, and composing its characters, for byte BPE.

The library `tokenizers` has another engine for regular expressions (oniguruma). A pattern is
accepted if all its elements mean the same in both: `.`, `\s`, `\p{L}`, sets, groups, lookarounds,
quantifiers, but not `^`, `$`, `\b`, `\w`, `\h`.
"""

import unicodedata
from math import prod
from time import process_time

import regex

from ..parsing import shown

__all__ = ["GPT2", "QWEN", "checked_pattern", "composed", "cut_by_all", "limit_patterns"]

# English contractions, words, numbers, everything else, and spaces. The last of several spaces
# belongs to the word after it.
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Contractions in any case, single digits, and line breaks apart from other spaces
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LONGEST, SECONDS = 1_000, 5  # characters of a pattern; processor time to split a text by all
MOST_PATTERNS = 16  # of a tokenizer: each takes time to compile; published ones have at most 5
MOST_REPEATS = 1_000  # product of the numbers in braces: `regex` expands such repeats
_COUNTS = regex.compile(r"\{(\d+)(?:,(\d*))?\}")
_ELEMENT = regex.compile(
    r"""
    \\[pP]\{\^?[A-Za-z_]+\} | \\[sSdDrntvf] | \\u[0-9A-Fa-f]{4} | \\[^\w\s]
    | \(\?(?:i:|:|=|!|<=|<!) | \((?!\?) | [)|.] | [?*+][?+]? | \{\d{1,3}(?:,\d{0,3})?\}\??
    | \[\^?(?:
        \\[pP]\{\^?[A-Za-z_]+\} | \\[sSdDrntvf] | \\u[0-9A-Fa-f]{4} | \\[^\w\s]
        | [^\[\]\\&~|-] | ([&~|-])(?!\1)
      )+\]
    | [^\\\[\](){}|?*+^$.]
    """,
    regex.VERBOSE,
)


def checked_pattern(pattern, name="patterns"):
    """Returns a compiled pattern after checking that all its elements are understood.

    Args:
        pattern: a regular expression.
        name: of the argument or file, for error messages. Default `"patterns"`.

    Raises:
        ValueError: it is not a string, too long or invalid, or has an element that may mean
            something else in `tokenizers`.
    """
    if not isinstance(pattern, str) or len(pattern) > LONGEST:
        raise ValueError(
            f"{name}: {shown(pattern)}; expected a regular expression of at most {LONGEST}"
            " characters."
        )
    at = 0
    while at < len(pattern):
        match = _ELEMENT.match(pattern, at)
        if match is None:
            raise ValueError(
                f"{name}: the regular expression {shown(pattern)} has {shown(pattern[at : at + 9])}"
                f" at position {at}; expected only elements that mean the same in every library."
            )
        at = match.end()
    counts = (max(int(n or 1) for n in pair) for pair in _COUNTS.findall(pattern))
    if prod(max(count, 1) for count in counts) > MOST_REPEATS:
        raise ValueError(
            f"{name}: {shown(pattern)} repeats too much; expected numbers in braces whose product"
            f" is at most {MOST_REPEATS}."
        )
    try:
        return regex.compile(pattern)
    except (regex.error, RecursionError) as error:
        raise ValueError(
            f"{name}: {shown(pattern)} is not a regular expression ({error}); expected a valid one,"
            " with few groups within each other."
        ) from None


def limit_patterns(patterns, name="patterns"):
    """Raises ValueError if a tokenizer has more than `MOST_PATTERNS` patterns."""
    if len(patterns) > MOST_PATTERNS:
        raise ValueError(
            f"{name}: has {len(patterns)} regular expressions that split texts; expected at most"
            f" {MOST_PATTERNS}."
        )


def cut_by_all(patterns, text):
    """Returns the pieces of a text: each compiled pattern cuts those of the one before it.

    Raises:
        ValueError: the patterns need more than 5 seconds.
    """
    pieces, end = [text] if text else [], process_time() + SECONDS
    for pattern in patterns:
        pieces = [new for piece in pieces for new in cut(pattern, piece, end)]
    return pieces


def cut(pattern, text, end):
    """Returns the matches of a compiled pattern in a text, and the stretches between them.

    Args:
        pattern: the compiled pattern.
        text: a string.
        end: processor time at which to stop.

    Raises:
        ValueError: the pattern needs more time.
    """
    try:
        matches = [] if pattern.groups else pattern.findall(text, timeout=_left(end))
        if sum(map(len, matches)) == len(text):  # nearly always
            return list(filter(None, matches))
        return _cut_slowly(pattern, text, end)
    except TimeoutError:
        raise ValueError(
            f"patterns: {shown(pattern.pattern)}, with those before it, takes more than {SECONDS}"
            f" seconds, here for {len(text)} characters; expected a faster one. Shorten the text."
        ) from None


def _left(end):
    """Returns the seconds that are left until a processor time."""
    return max(end - process_time(), 0.001)


def _cut_slowly(pattern, text, end):
    pieces, done = [], 0
    for match in pattern.finditer(text, timeout=_left(end)):
        start, stop = match.span()
        pieces += [text[done:start], text[start:stop]]
        done = stop
    return [piece for piece in (*pieces, text[done:]) if piece]


def composed(text, form):
    """Returns a normalized text, and the position in the text of each of its characters.

    A composed character has the position of the first one it is made of. If there are others in
    its stretch, they are counted from its end, as in `tokenizers`.

    Args:
        text: a string.
        form: `"NFC"`, or None to return the text as it is.
    """
    if form is None or unicodedata.is_normalized(form, text):
        return text, range(len(text))

    def new(part):
        return unicodedata.normalize(form, part)

    parts = []  # stretches that are normalized independently of each other
    for char in text:
        if parts and (
            unicodedata.combining(char) or new(parts[-1] + char) != new(parts[-1]) + new(char)
        ):
            parts[-1] += char
        else:
            parts.append(char)
    result, origins, start = [], [], 0
    for part in parts:
        result.append(new(part))
        gone = len(part) - len(result[-1])
        origins += [start + (i and max(0, i + gone)) for i in range(len(result[-1]))]
        start += len(part)
    return "".join(result), origins
