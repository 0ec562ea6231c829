"""Spans of characters and of tokens, and windows over long texts; uses no framework."""

from .arguments import MOST, check_number
from .parsing import shown

__all__ = ["character_spans", "sliding_windows", "token_spans"]


def token_spans(spans: set, offsets: list) -> set:
    """Converts spans of characters to spans of tokens.

    Args:
        spans: `(start, end, type)` in characters, the end excluded.
        offsets: `(start, end)` of each token in the text, as `encode(..., return_offsets=True)`
            returns them; `(0, 0)` for special tokens.

    Returns:
        A set of `(start, end, type)` in tokens. Spans that begin or end within a token, or after
        the last one, are left out.

    Example:
        >>> ids, segments, offsets = tokenizer.encode("王芳在昆明", return_offsets=True)
        >>> token_spans({(3, 5, "LOC")}, offsets)
        {(4, 6, 'LOC')}
    """
    starts = {start: i for i, (start, end) in enumerate(offsets) if start < end}
    ends = {end: i + 1 for i, (start, end) in enumerate(offsets) if start < end}
    return {
        (starts[start], ends[end], type_)
        for start, end, type_ in spans
        if start in starts and end in ends
    }


def character_spans(spans: set, offsets: list) -> set:
    """Converts spans of tokens to spans of characters, the inverse of `token_spans`.

    Args:
        spans: `(start, end, type)` in tokens, the end excluded.
        offsets: see `token_spans`.

    Returns:
        A set of `(start, end, type)` in characters.

    Raises:
        ValueError: a span is empty, or not within the tokens.
    """
    for span in spans:
        if not 0 <= span[0] < span[1] <= len(offsets):
            raise ValueError(
                f"spans: expected (start, end, type) within {len(offsets)} tokens, got "
                f"{shown(span)}."
            )
    return {(offsets[start][0], offsets[end - 1][1], type_) for start, end, type_ in spans}


def sliding_windows(length: int, width: int, stride: int | None = None) -> list:
    """Returns windows that cover a sequence, the last one perhaps shorter.

    Args:
        length: length of the sequence.
        width: the most items in a window.
        stride: items from the start of one window to that of the next, at most `width`. Default
            None: half of `width`, so that an answer of up to that length lies within a window.

    Returns:
        A list of `(start, end)`, at least one.

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> sliding_windows(10, 4)
        [(0, 4), (2, 6), (4, 8), (6, 10)]
    """
    check_number("length", length, 0, MOST)
    check_number("width", width, 1, MOST)
    stride = max(1, width // 2) if stride is None else stride
    check_number("stride", stride, 1, width)
    starts = range(0, max(1, length - width + stride), stride)
    return [(start, min(start + width, length)) for start in starts]
