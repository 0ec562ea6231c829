"""Constraints on generated text: functions for `allowed_tokens` of `generate`."""

from collections.abc import Iterable, Sequence

__all__ = ["Substrings", "Trie"]


class Trie:
    """Allows only the given sequences.

    Args:
        sequences: lists of ids.
        stop_id: the token that ends a sequence; required if one sequence is a prefix of another.

    Raises:
        ValueError: there are no sequences, or `stop_id` is required and missing.

    Example:
        >>> names = Trie([tokenizer.encode(name)[0][1:-1] for name in entities], stop_id=102)
        >>> generate(model, prompts, num_beams=4, stop_ids=102, allowed_tokens=names)
    """

    def __init__(self, sequences: Iterable[Sequence[int]], stop_id: int | None = None) -> None:
        self.stop_id = stop_id
        self.root: dict = {}
        for sequence in sequences:
            node = self.root
            for token in sequence:
                node = node.setdefault(int(token), {})
            node[None] = {}  # the end of a sequence
        if not self.root:
            raise ValueError("Trie, sequences: expected at least one sequence of ids, got none.")
        if stop_id is None and any(None in node and len(node) > 1 for node in _nodes(self.root)):
            raise ValueError(
                "Trie, sequences: a sequence begins with another. Pass stop_id, which ends the "
                "shorter one."
            )

    def __call__(self, prefix: Sequence[int]) -> list[int]:
        """Returns the allowed next ids, sorted; none after a complete one without `stop_id`."""
        node = self.root
        for token in prefix:
            node = node.get(token, {})
        ends = [self.stop_id] if None in node and self.stop_id is not None else []
        return sorted({token for token in node if token is not None} | set(ends))


def _nodes(root):
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        stack += node.values()


class Substrings:
    """Allows only contiguous parts of a source, such as an answer taken from a passage.

    Args:
        source_ids: the ids of the passage.
        stop_id: the token that may end the answer, at any position after the first.
        n: compare n-grams only: every `n` consecutive tokens must occur in the source.
            None: the whole text must occur.

    Raises:
        ValueError: `n` is below 1.

    Example:
        >>> generate(model, [question + passage], stop_ids=102,
        ...          allowed_tokens=Substrings(passage, stop_id=102))
    """

    def __init__(
        self, source_ids: Sequence[int], stop_id: int | None = None, n: int | None = None
    ) -> None:
        if n is not None and n < 1:
            raise ValueError(f"Substrings, n={n}: expected at least 1, or None.")
        self.source = [int(token) for token in source_ids]
        self.stop_id, self.n = stop_id, n
        # run -> end positions of its occurrences
        self.ends: dict[tuple[int, ...], Sequence[int]] = {(): range(len(self.source))}

    def __call__(self, prefix: Sequence[int]) -> list[int]:
        """Returns the allowed next ids, sorted."""
        run = tuple(prefix if self.n is None else prefix[max(0, len(prefix) - self.n + 1) :])
        allowed = {self.source[i] for i in self.places(run) if i < len(self.source)}
        if prefix and self.stop_id is not None:
            allowed.add(self.stop_id)
        return sorted(allowed)

    def places(self, run: tuple[int, ...]) -> Sequence[int]:
        """Returns the position after each occurrence of a run of ids in the source."""
        known = next(size for size in range(len(run), -1, -1) if run[:size] in self.ends)
        ends = self.ends[run[:known]]
        for size, token in enumerate(run[known:], known + 1):
            ends = [i + 1 for i in ends if i < len(self.source) and self.source[i] == token]
            self.ends[run[:size]] = ends
        return ends
