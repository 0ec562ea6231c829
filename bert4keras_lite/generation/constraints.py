"""What may be written: `allowed_tokens` of `generate`, as functions of what was written so far."""


class Trie:
    """Only the given sequences may be written.

    Args:
        sequences: lists of ids.
        stop_id: the token that ends a sequence; needed where one is the beginning of another.

    Example:
        >>> names = Trie([tokenizer.encode(name)[0][1:-1] for name in entities], stop_id=102)
        >>> generate(model, prompts, num_beams=4, stop_ids=102, allowed_tokens=names)
    """

    def __init__(self, sequences, stop_id=None):
        self.stop_id = stop_id
        self.root = {}
        for sequence in sequences:
            node = self.root
            for token in sequence:
                node = node.setdefault(int(token), {})
            node[None] = {}  # here a sequence ends
        if not self.root:
            raise ValueError("Trie: there is no sequence to be written.")
        if stop_id is None and any(None in node and len(node) > 1 for node in _nodes(self.root)):
            raise ValueError(
                "Trie: a sequence begins with another; give stop_id, which ends the shorter one."
            )

    def __call__(self, prefix):
        """The ids that may follow, sorted; none after a whole sequence without `stop_id`."""
        node = self.root
        for token in prefix:
            node = node.get(token, {})
        ends = [self.stop_id] if None in node and self.stop_id is not None else []
        return sorted({token for token in node if token is not None} | set(ends))


def _nodes(root):
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += node.values()


class Substrings:
    """What is written must occur in a source as one run: an answer taken from a passage.

    Args:
        source_ids: the passage.
        stop_id: the token that may end the answer, at any place.
        n: look at so many tokens only: every `n` that are written in a row must occur in a row.
            None: all.

    Example:
        >>> generate(model, [question + passage], stop_ids=102,
        ...          allowed_tokens=Substrings(passage, stop_id=102))
    """

    def __init__(self, source_ids, stop_id=None, n=None):
        if n is not None and n < 1:
            raise ValueError(f"Substrings: n={n}: expected at least 1, or None.")
        self.source = [int(token) for token in source_ids]
        self.stop_id, self.n = stop_id, n
        self.ends = {(): range(len(self.source))}  # run -> the places right behind it

    def __call__(self, prefix):
        """The ids that may follow, sorted."""
        run = tuple(prefix if self.n is None else prefix[max(0, len(prefix) - self.n + 1) :])
        following = {self.source[i] for i in self.places(run) if i < len(self.source)}
        if prefix and self.stop_id is not None:
            following.add(self.stop_id)
        return sorted(following)

    def places(self, run):
        """The places right behind each occurrence of a run."""
        known = next(size for size in range(len(run), -1, -1) if run[:size] in self.ends)
        places = self.ends[run[:known]]
        for size, token in enumerate(run[known:], known + 1):
            places = [i + 1 for i in places if i < len(self.source) and self.source[i] == token]
            self.ends[run[:size]] = places
        return places
