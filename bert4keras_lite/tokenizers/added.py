"""Tokens that a text is cut at before anything else: those added to a vocabulary, and special ones."""

import re
from array import array
from dataclasses import asdict, dataclass

import regex

MAX_ADDED = 1 << 16  # tokens that are no part of the vocabulary proper
MAX_CHARACTERS = 1 << 20  # of all of them
NONE = 0xFFFFFFFF  # no character
_SPACE, _WORD = re.compile(r"\s*"), regex.compile(r"\w")


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

    Takes time that grows with the text and the tokens, not with their product: the automaton of Aho
    and Corasick for the tokens spelled backwards reads a text from its end, and knows at each
    character the longest token that begins with it.

    Args:
        tokens: dict of what stands in the text, none of it empty -> `AddedToken`.

    Raises:
        ValueError: the tokens have more characters than those of any model.

    Reference: Aho, Corasick, "Efficient string matching", 1975, https://doi.org/10.1145/360825.360855.
    """

    def __init__(self, tokens):
        count = sum(map(len, tokens))
        if count > MAX_CHARACTERS:
            raise ValueError(
                f"added_tokens: they have {count} characters; expected at most {MAX_CHARACTERS}. Put"
                " them into the vocabulary."
            )
        self._tokens, self._longest = tokens, max(map(len, tokens))
        self._first = re.compile(f"[{re.escape(''.join({content[0] for content in tokens}))}]")
        # state -> the character that leads to it from the state before it, if one does; the other
        # steps are in `_steps`: state and character -> state. State 0 is that of no character.
        self._chars, self._steps = array("I", [NONE, NONE]), {}
        parents, chars, depths = array("I", [0]), array("I", [0]), array("I", [0])
        ends = {}
        for content in tokens:
            state = 0
            for depth, char in enumerate(map(ord, reversed(content)), 1):
                after = self._step(state, char)
                if not after:
                    after = len(parents)
                    if after == state + 1:
                        self._chars[after] = char
                    else:
                        self._steps[state << 21 | char] = after
                    self._chars.append(NONE)
                    parents.append(state)
                    chars.append(char)
                    depths.append(depth)
                state = after
            ends[state] = len(content)
        # state -> that of its longest end which is a state, too; and the longest token it ends with
        self._shorter, self._lengths = (array("I", bytes(4 * len(parents))) for _ in range(2))
        for state in sorted(range(1, len(parents)), key=depths.__getitem__):
            if parents[state]:
                self._shorter[state] = self._after(self._shorter[parents[state]], chars[state])
            self._lengths[state] = ends.get(state, self._lengths[self._shorter[state]])

    def is_in(self, text):
        """Whether any of the tokens may be in a text."""
        return any(self._spans(text, *window) for window in self._windows(text))

    def find(self, text):
        """The tokens of a text, without the white space beside them.

        Returns:
            A list of `(start, end, AddedToken)`.
        """
        found, done = [], 0
        for window in self._windows(text):
            for start, end in self._spans(text, *window):
                if start < done:
                    continue
                done = end
                token = self._tokens[text[start:end]]
                if not (token.single_word and _touches_a_word(text, start, end)):
                    found.append((start, end, token))
        return found

    def _windows(self, text):
        """Where the parts of a text start and end in which tokens may be, by their first characters."""
        start = end = -1
        for match in self._first.finditer(text):
            if match.start() >= end:
                if end > 0:
                    yield start, end
                start = match.start()
            end = min(match.start() + self._longest, len(text))
        if end > 0:
            yield start, end

    def _spans(self, text, first, last):
        """Where tokens start in a part of a text, and where the longest one there ends, in order."""
        spans, state = [], 0
        for start in range(last - 1, first - 1, -1):
            state = self._after(state, ord(text[start]))
            if self._lengths[state]:
                spans.append((start, start + self._lengths[state]))
        return spans[::-1]

    def _step(self, state, char):
        """The state of one more character, or 0."""
        if self._chars[state + 1] == char:
            return state + 1
        return self._steps.get(state << 21 | char, 0)

    def _after(self, state, char):
        """The state of the longest end of what was read that is one, after one more character."""
        while not (after := self._step(state, char)) and state:
            state = self._shorter[state]
        return after


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
            start = done + len(text[done:start].rstrip())
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
