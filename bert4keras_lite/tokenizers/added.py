"""Added and special tokens: their flags, and the search for them in a text."""

import re
from collections import defaultdict
from dataclasses import asdict, dataclass

import regex

__all__ = ["MAX_ADDED", "WHITE_SPACE", "AddedToken", "Finder", "parts"]

MAX_ADDED = 1 << 16  # tokens outside the vocabulary file
MAX_LOOKED_AT = 10_000  # characters compared at one position of a text
# Unicode's White_Space, as in `tokenizers`; Python's `\s` and `strip` also take U+001C to U+001F
WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_SPACE, _WORD = re.compile(f"[{WHITE_SPACE}]*"), regex.compile(r"\w")


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token that is matched in a text before the text is tokenized.

    Args:
        content: the token.
        id: its id; None (default) if it is in the vocabulary or the id is not known yet.
        lstrip: whether the white space before the token belongs to it. Default False, as for all
            flags.
        rstrip: whether the white space after the token belongs to it.
        single_word: match the token only where no letter or digit touches it.
        normalized: match the token after the tokenizer has normalized the text and the token:
            with lower-casing, `<E>` matches `<e>`. In WordPiece only; other tokenizers just match
            such tokens after the others.
        special: whether `decode` leaves the token out.
    """

    content: str
    id: int | None = None
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False
    special: bool = False

    def flags(self):
        """Returns all fields but the id, as a dict in the format of `tokenizer_config.json`."""
        return {key: value for key, value in asdict(self).items() if key != "id"}


class Finder:
    """Finds tokens in a text: leftmost first, and the longest of several that start together.

    Args:
        tokens: dict text to find (not empty) -> `AddedToken`.

    Raises:
        ValueError: tokens with the same first character have too many different lengths, which
            would make the search slow at every position of a text. No real model comes close.
    """

    def __init__(self, tokens):
        self._tokens = tokens
        lengths = defaultdict(set)
        for content in tokens:
            lengths[content[0]].add(len(content))
        for char, sizes in lengths.items():
            if sum(sizes) > MAX_LOOKED_AT:
                raise ValueError(
                    f"added_tokens: those that begin with {char!r} have {len(sizes)} lengths,"
                    f" {sum(sizes)} characters; expected at most {MAX_LOOKED_AT}. Put them into the"
                    " vocabulary."
                )
        # first character -> the lengths of the tokens that begin with it, longest first
        self._lengths = {char: sorted(sizes, reverse=True) for char, sizes in lengths.items()}
        self._first = re.compile(f"[{re.escape(''.join(lengths))}]")

    def is_in(self, text):
        """Returns whether a text contains any of the tokens."""
        return self._next(text, 0) is not None

    def find(self, text):
        """Finds the tokens in a text.

        Returns:
            A list of `(start, end, AddedToken)`; the spans do not include white space next to the
            tokens.
        """
        matches, span = [], self._next(text, 0)
        while span is not None:
            start, end = span
            token = self._tokens[text[start:end]]
            if not (token.single_word and _touches_a_word(text, start, end)):
                matches.append((start, end, token))
            span = self._next(text, end)
        return matches

    def _next(self, text, start):
        """Returns `(start, end)` of the first token at or after `start`, or None."""
        while match := self._first.search(text, start):
            start = match.start()
            for length in self._lengths[match[0]]:
                if text[start : start + length] in self._tokens:
                    return start, min(start + length, len(text))
            start += 1
        return None


def _touches_a_word(text, start, end):
    return bool((start and _WORD.match(text, start - 1)) or _WORD.match(text, end))


def parts(text, matches):
    """Splits a text into added tokens and the stretches between them.

    Args:
        text: a string.
        matches: the matches, as returned by `Finder.find`.

    Returns:
        A list of `(start, end, token)` that covers the text. `token` is an `AddedToken`, with the
        white space that it strips, or None between tokens. No part is empty, except the only part
        of an empty text.
    """
    result, done, space = [], 0, 0
    for start, end, token in matches:
        if token.lstrip:
            start = done + len(text[done:start].rstrip(WHITE_SPACE))
        if token.rstrip:
            if end > space:  # otherwise the end of this white space is already known
                space = _SPACE.match(text, end).end()
            end = space
        if done < start:
            result.append((done, start, None))
        result.append((start, end, token))
        done = end
    if done < len(text) or not text:
        result.append((done, len(text), None))
    return result
