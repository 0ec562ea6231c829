"""Tokens that a text is cut at before anything else: those added to a vocabulary, and special ones."""

import re
from collections import defaultdict
from dataclasses import asdict, dataclass

import regex

MAX_ADDED = 1 << 16  # tokens that are no part of the vocabulary proper
MAX_LOOKED_AT = 10_000  # characters of a text, in looking for them at one place
# Unicode's White_Space, as `tokenizers` has it: Python's `\s` and `strip` take U+001C to U+001F as well
WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_SPACE, _WORD = re.compile(f"[{WHITE_SPACE}]*"), regex.compile(r"\w")


@dataclass(frozen=True, slots=True)
class AddedToken:
    """One token that is read in a text as it stands.

    Args:
        content: the token.
        id: its id; None if the vocabulary has it already.
        lstrip: the white space before it belongs to it.
        rstrip: the white space after it belongs to it.
        single_word: is read only where no letter or digit touches it.
        normalized: is looked for after the tokenizer's normalization, of the text and of the token
            itself: lower-cased, `<E>` is found in `<e>`. WordPiece alone; elsewhere such tokens
            are looked for after the others.
        special: is no part of a text: `decode` leaves it out.
    """

    content: str
    id: int | None = None
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False
    special: bool = False

    def flags(self):
        """All but the id, as `tokenizer_config.json` has it."""
        return {key: value for key, value in asdict(self).items() if key != "id"}


class Finder:
    """Finds tokens in a text: the leftmost, and of several there the longest.

    Args:
        tokens: dict of what stands in the text, none of it empty -> `AddedToken`.

    Raises:
        ValueError: tokens that begin alike have so many lengths that each place of a text would
            have to be looked at far more often than those of any model ask for.
    """

    def __init__(self, tokens):
        self._tokens = tokens
        lengths = defaultdict(set)
        for content in tokens:
            lengths[content[0]].add(len(content))
        for char, found in lengths.items():
            if sum(found) > MAX_LOOKED_AT:
                raise ValueError(
                    f"added_tokens: those that begin with {char!r} have {len(found)} lengths,"
                    f" {sum(found)} characters; expected at most {MAX_LOOKED_AT}. Put them into the"
                    " vocabulary."
                )
        # first character -> the lengths of the tokens with it, the greatest first
        self._lengths = {char: sorted(found, reverse=True) for char, found in lengths.items()}
        self._first = re.compile(f"[{re.escape(''.join(lengths))}]")

    def is_in(self, text):
        """Whether any of the tokens is in a text."""
        return self._next(text, 0) is not None

    def find(self, text):
        """The tokens of a text, without the white space beside them.

        Returns:
            A list of `(start, end, AddedToken)`.
        """
        found, span = [], self._next(text, 0)
        while span is not None:
            start, end = span
            token = self._tokens[text[start:end]]
            if not (token.single_word and _touches_a_word(text, start, end)):
                found.append((start, end, token))
            span = self._next(text, end)
        return found

    def _next(self, text, start):
        """Where the first token at `start` or after it starts and ends, or None."""
        while match := self._first.search(text, start):
            start = match.start()
            for length in self._lengths[match[0]]:
                if text[start : start + length] in self._tokens:
                    return start, min(start + length, len(text))
            start += 1
        return None


def _touches_a_word(text, start, end):
    return bool((start and _WORD.match(text, start - 1)) or _WORD.match(text, end))


def parts(text, found):
    """A text in parts: the tokens found, with the white space they take, and what is between.

    Args:
        text: a string.
        found: what `Finder.find` returns.

    Returns:
        A list of `(start, end, token)` that covers the text, where `token` is an `AddedToken` or
        None. Nothing is empty, but for the only part of an empty text.
    """
    result, done, space = [], 0, 0
    for start, end, token in found:
        if token.lstrip:
            start = done + len(text[done:start].rstrip(WHITE_SPACE))
        if token.rstrip:
            if end > space:  # else this white space is known
                space = _SPACE.match(text, end).end()
            end = space
        if done < start:
            result.append((done, start, None))
        result.append((start, end, token))
        done = end
    if done < len(text) or not text:
        result.append((done, len(text), None))
    return result
