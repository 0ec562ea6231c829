"""What a model has seen of a prompt, kept between requests."""

from dataclasses import dataclass

import numpy as np
from keras import ops

from .request import rounded_up

__all__ = ["Past"]


@dataclass(frozen=True, eq=False)
class Past:
    """The keys and values of tokens that a model has seen.

    Attributes:
        ids: the tokens, `(length,)`.
        caches: for each block keys and values, arrays `(1, ..., length)`.
    """

    ids: np.ndarray
    caches: list

    @classmethod
    def of(cls, request, state):
        """Returns that of a prompt and its new tokens, but for the last one.

        Args:
            request: the `GenerationRequest` of one sequence.
            state: its last `State`.
        """
        (prompt,), start = request.prompts, int(request.arrays["start"][0, 0])
        count = int(ops.convert_to_numpy(state.num_tokens)) - 1
        new = ops.convert_to_numpy(state.tokens)[0, 0, :count]
        end = request.arrays["tokens"].shape[1] + count
        caches = [
            tuple(ops.convert_to_numpy(x)[..., start:end].copy() for x in pair)
            for pair in state.caches
        ]
        return cls(np.concatenate([prompt, new]), caches)

    def give(self, request):
        """Sets `past` of a request to the keys and values of the tokens with which both begin.

        Tokens that are not known are computed together with some before them, so that their number
        is a multiple of `STEP` and few programs are compiled.

        Returns:
            The number of tokens whose keys and values are given.
        """
        (prompt,), start = request.prompts, int(request.arrays["start"][0, 0])
        new = len(prompt) - min(self.shared(prompt), len(prompt) - 1)
        count = max(0, len(prompt) - rounded_up(new))
        if count:
            request.past = [
                tuple(np.pad(x[..., :count], [(0, 0)] * (x.ndim - 1) + [(start, 0)]) for x in pair)
                for pair in self.caches
            ]
        return count

    def shared(self, ids):
        """Returns with how many of these tokens a sequence of ids begins."""
        count = min(len(ids), len(self.ids))
        differ = np.flatnonzero(self.ids[:count] != ids[:count])
        return int(differ[0]) if len(differ) else count
