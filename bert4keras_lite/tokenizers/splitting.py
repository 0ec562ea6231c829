r"""Splitting a text into words by regular expressions, and composing its characters, for byte BPE.

The library `tokenizers` has another engine for regular expressions (oniguruma). A pattern is
accepted if all its elements mean the same in both: `.`, `\s`, `\p{L}`, sets, groups, lookarounds,
quantifiers, but not `^`, `$`, `\b`, `\w`, `\h`.
"""

import unicodedata
from math import prod

import regex

from ..parsing import shown

__all__ = ["GPT2", "QWEN", "checked_pattern", "composed", "cut"]

# English contractions, words, numbers, everything else, and spaces. The last of several spaces
# belongs to the word after it.
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Contractions in any case, single digits, and line breaks apart from other spaces
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LONGEST, SECONDS = 1_000, 5  # characters of a pattern; time to split a text
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
    except regex.error as error:
        raise ValueError(
            f"{name}: {shown(pattern)} is not a regular expression ({error}); expected a valid one."
        ) from None


def cut(pattern, text):
    """Returns the matches of a compiled pattern in a text, and the stretches between them.

    Raises:
        ValueError: the pattern needs more than 5 seconds.
    """
    try:
        matches = [] if pattern.groups else pattern.findall(text, timeout=SECONDS)
        if sum(map(len, matches)) == len(text):  # nearly always
            return list(filter(None, matches))
        return _cut_slowly(pattern, text)
    except TimeoutError:
        raise ValueError(
            f"patterns: {shown(pattern.pattern)} takes more than {SECONDS} seconds for a text of"
            f" {len(text)} characters; expected a faster one. Shorten the text."
        ) from None


def _cut_slowly(pattern, text):
    pieces, end = [], 0
    for match in pattern.finditer(text, timeout=SECONDS):
        start, stop = match.span()
        pieces += [text[end:start], text[start:stop]]
        end = stop
    return [piece for piece in (*pieces, text[end:]) if piece]


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
