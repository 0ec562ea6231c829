"""Compiled generation: one prefill of the prompts, then a loop of decode steps.

Cache positions: first those of the prompts, which are padded on the left so that all end at the
same position; then, for each new token, one position for each beam. Beams are never moved in the
cache: each beam attends to the positions of its ancestors.
"""

import warnings
from functools import partial

from keras import ops

from ..backend import compiled_by_shape, compiles_loops
from ..layers.cache import Cache
from .decoding import decode_step, empty_caches, encode_prompt
from .forbidden import which_occur
from .search import choose, first_state

__all__ = ["CompiledLoop"]


class CompiledLoop:
    """Prefill and decode loop, each compiled as one function.

    A call with new values but the same shapes does not compile again.

    Args:
        transformer: a `Transformer`.
        search: a `DecodingConfig`.
    """

    def __init__(self, transformer, search):
        self.transformer = transformer
        self.search = search
        compiled = partial(compiled_by_shape, variables=transformer.model.variables)
        self.begin = compiled(self._begin)
        self.step = compiled(self._step)
        self.run = compiled(self._run) if compiles_loops() else self._run_step_by_step

    def _begin(self, prompt, sampling_params):
        """Prefills the cache with the prompts and chooses the first tokens.

        Args:
            prompt: dict of tensors: `tokens`, `segments` `(batch, prompt length)`, `start`
                `(batch, 1)`, `next_segment` `(batch, 1)`, and if they exist `source`
                `(batch, source length)`, its `lengths` `(batch, 1)` and `condition`; and `past`, a
                list with keys and values for each block, `(batch, ..., first tokens)`: those of the
                first cache positions, which are not computed again.
            sampling_params: see `search.choose`.

        Returns:
            `(fixed, state)`: a dict of what is constant during generation, and the `State`.
        """
        transformer = self.transformer
        tokens, start = prompt["tokens"], prompt["start"]
        batch, length = tokens.shape
        room = sampling_params["noise"].shape[2]
        cache_positions = ops.arange(length, dtype="int32")[None]
        is_token = cache_positions >= start
        prompt_mask = ops.logical_and(
            is_token,
            ops.logical_or(cache_positions == start, tokens != transformer.config.pad_token_id),
        )
        caches, known = empty_caches(transformer.config), 0
        attention_mask, segments = None, prompt.get("segments")
        if "past" in prompt:
            known = prompt["past"][0][0].shape[-1]
            caches = [
                {"attention": Cache(*(with_room(x, length - known) for x in pair), index=known)}
                for pair in prompt["past"]
            ]
            attention_mask = ops.logical_and(
                prompt_mask[:, None], cache_positions[:, None] <= cache_positions[:, known:, None]
            )
        with transformer.conditioned(prompt.get("condition")):
            source = prompt.get("source"), prompt.get("lengths")
            memory, memory_bias = encode_prompt(transformer, *source)
            with warnings.catch_warnings():  # a decoder's first token attends to itself only
                warnings.filterwarnings("ignore", "You are using a softmax over axis -1")
                logits = decode_step(
                    transformer,
                    caches,
                    tokens[:, known:],
                    None if segments is None else segments[:, known:],
                    start,
                    cache_positions[:, known:],
                    cache_positions,
                    attention_mask,
                    memory=memory,
                    memory_bias=memory_bias,
                    last_only=True,
                )
        pairs = [
            {name: (cache.keys, cache.values) for name, cache in block.items()} for block in caches
        ]
        fixed = {
            "prompt_mask": prompt_mask,
            "start": start,
            "memories": [block.pop("cross", ()) for block in pairs],
        }
        fixed |= {k: prompt[k] for k in ("next_segment", "condition") if k in prompt}
        if memory_bias is not None:
            fixed["memory_bias"] = memory_bias
        seen = None
        if self.search.penalized:
            seen = which_occur(tokens, is_token, logits.shape[-1])
        state = first_state(self.search, batch, room, seen)
        caches = [
            tuple(with_room(x, room * self.search.width) for x in block["attention"])
            for block in pairs
        ]
        state = state._replace(caches=caches)
        return fixed, choose(self.search, logits, state, sampling_params)

    def _step(self, fixed, state, sampling_params):
        """Appends one token to every sequence; returns the next state."""
        transformer = self.transformer
        width, last = self.search.width, state.num_tokens - 1
        tokens = ops.take(state.tokens, last, axis=2)
        length, room = fixed["prompt_mask"].shape[1], state.tokens.shape[2]
        steps = ops.arange(room * width, dtype="int32") // width
        caches = [
            {"attention": Cache(*pair, index=length + last * width), "cross": Cache(*memory)}
            for pair, memory in zip(state.caches, fixed["memories"], strict=True)
        ]
        segments = fixed.get("next_segment")
        with transformer.conditioned(fixed.get("condition")):
            logits = decode_step(
                transformer,
                caches,
                tokens,
                None if segments is None else segments + ops.zeros_like(tokens),
                fixed["start"],
                ops.zeros((1, width), "int32") + length + last,
                ops.concatenate([ops.arange(length, dtype="int32"), length + steps])[None],
                self.attention_mask(fixed, state, transformer.config.pad_token_id),
                memory_bias=fixed.get("memory_bias"),
            )
        caches = [(block["attention"].keys, block["attention"].values) for block in caches]
        return choose(self.search, logits, state._replace(caches=caches), sampling_params)

    def attention_mask(self, fixed, state, pad_token_id):
        """Returns which cache positions each beam attends to, `(batch, width, positions)`."""
        batch, width, room = state.tokens.shape
        is_token = ops.logical_and(
            ops.arange(room, dtype="int32") < state.num_tokens, state.tokens != pad_token_id
        )
        beams = ops.arange(width, dtype="int32")
        new_mask = ops.logical_and(is_token[..., None], state.ancestors[..., None] == beams)
        new_mask = ops.reshape(new_mask, (batch, width, room * width))
        prompt_mask = fixed["prompt_mask"][:, None]
        prompt_mask = ops.broadcast_to(prompt_mask, (batch, width, prompt_mask.shape[2]))
        return ops.concatenate([prompt_mask, new_mask], axis=2)

    def _run(self, fixed, state, sampling_params):
        """Generates until all rows are closed; returns the last state."""

        return ops.while_loop(
            lambda state: is_running(state, sampling_params),
            lambda state: [self._step(fixed, state, sampling_params)],
            [state],
        )[0]

    def _run_step_by_step(self, fixed, state, sampling_params):
        while is_running(state, sampling_params):
            state = self.step(fixed, state, sampling_params)
        return state


def is_running(state, sampling_params):
    """Returns whether a row is open and the maximum length is not reached."""
    return ops.logical_and(ops.any(state.open), state.num_tokens < sampling_params["most"])


def with_room(x, count):
    """Appends `count` empty positions to an array of a cache."""
    return ops.pad(x, [(0, 0)] * (len(x.shape) - 1) + [(0, count)])
