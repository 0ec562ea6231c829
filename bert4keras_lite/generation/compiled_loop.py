"""The compiled part of writing: prompts are read at once, then token after token is written.

Slots of a cache: first those of the prompts, which are filled up on the left so that all end at
the same slot; then, for each new token, one for each beam. Beams never move in the cache: each
sees the slots of the beams it descends from.
"""

import copy
import warnings

import keras
from keras import ops

from .search import choose, first_state


class CompiledLoop:
    """Reads prompts and writes, with one compiled function for each.

    A call with other values but the same shapes compiles nothing.

    Args:
        transformer: a `Transformer`.
        search: a `DecodingConfig`.
    """

    def __init__(self, transformer, search):
        self.transformer = transformer
        self.search = search
        self.begin = compiled(transformer, self._begin)
        self.step = compiled(transformer, self._step)
        in_python = keras.backend.backend() == "torch"
        self.run = self._run_step_by_step if in_python else compiled(transformer, self._run)

    def with_condition(self, condition):
        """The transformer, to be called on tensors."""
        transformer = copy.copy(self.transformer)
        transformer.condition, transformer.hidden_states = condition, []
        return transformer

    def _begin(self, prompt, limits):
        """Reads the prompts and chooses the first tokens.

        Args:
            prompt: a dict of tensors: `tokens`, `segments` `(batch, prompt length)`, `start`
                `(batch, 1)`, `next_segment` `(batch, 1)`, and where they exist `source`
                `(batch, source length)`, its `lengths` `(batch, 1)` and `condition`.
            limits: see `search.choose`.

        Returns:
            What stays as it is while writing, and the state; see `search.py`.
        """
        transformer = self.with_condition(prompt.get("condition"))
        tokens, start = prompt["tokens"], prompt["start"]
        batch, length = tokens.shape
        room = limits["noise"].shape[2]
        cache_positions = ops.arange(length, dtype="int32")[None]
        memory, memory_bias = transformer.encode_prompt(prompt.get("source"), prompt.get("lengths"))
        caches = transformer.caches()
        with warnings.catch_warnings():  # a decoder's first token sees itself and nothing else
            warnings.filterwarnings("ignore", "You are using a softmax over axis -1")
            scores = transformer.decode_step(
                caches,
                tokens,
                prompt.get("segments"),
                start,
                cache_positions,
                cache_positions,
                memory=memory,
                memory_bias=memory_bias,
            )
        pairs = [
            {name: (cache.keys, cache.values) for name, cache in block.items()} for block in caches
        ]
        is_token = cache_positions >= start
        fixed = {
            "visible": ops.logical_and(
                is_token,
                ops.logical_or(cache_positions == start, tokens != transformer.config.pad_token_id),
            ),
            "start": start,
            "memories": [block.pop("cross", ()) for block in pairs],
        }
        fixed |= {k: prompt[k] for k in ("next_segment", "condition") if k in prompt}
        if memory_bias is not None:
            fixed["memory_bias"] = memory_bias
        seen = None
        if self.search.penalized:
            seen = which_occur(tokens, is_token, scores.shape[-1])
        state = first_state(self.search, batch, room, seen)
        state["caches"] = [
            tuple(with_room(x, room * self.search.width) for x in block["attention"])
            for block in pairs
        ]
        return fixed, choose(self.search, scores, state, limits)

    def _step(self, fixed, state, limits):
        """Writes one token more to every sequence."""
        transformer = self.with_condition(fixed.get("condition"))
        width, last = self.search.width, state["count"] - 1
        tokens = ops.take(state["tokens"], last, axis=2)
        length, room = fixed["visible"].shape[1], state["tokens"].shape[2]
        times = ops.arange(room * width, dtype="int32") // width
        pairs = [
            {"attention": pair, **({"cross": memory} if memory else {})}
            for pair, memory in zip(state["caches"], fixed["memories"], strict=True)
        ]
        caches = transformer.caches(pairs, index=length + last * width)
        segments = fixed.get("next_segment")
        scores = transformer.decode_step(
            caches,
            tokens,
            None if segments is None else segments + ops.zeros_like(tokens),
            fixed["start"],
            ops.zeros((1, width), "int32") + length + last,
            ops.concatenate([ops.arange(length, dtype="int32"), length + times])[None],
            visible=self.visible(fixed, state, transformer.config.pad_token_id),
            memory_bias=fixed.get("memory_bias"),
        )
        caches = [(block["attention"].keys, block["attention"].values) for block in caches]
        return choose(self.search, scores, state | {"caches": caches}, limits)

    def visible(self, fixed, state, pad_token_id):
        """Which slots each beam sees, `(batch, width, slots)`."""
        batch, width, room = state["tokens"].shape
        written = ops.logical_and(
            ops.arange(room, dtype="int32") < state["count"], state["tokens"] != pad_token_id
        )
        beams = ops.arange(width, dtype="int32")
        own = ops.logical_and(written[..., None], state["ancestors"][..., None] == beams)
        own = ops.reshape(own, (batch, width, room * width))
        prompt = fixed["visible"][:, None]
        prompt = ops.broadcast_to(prompt, (batch, width, prompt.shape[2]))
        return ops.concatenate([prompt, own], axis=2)

    def _run(self, fixed, state, limits):
        """Writes until all rows are closed."""

        return ops.while_loop(
            lambda state: goes_on(state, limits),
            lambda state: [self._step(fixed, state, limits)],
            [state],
        )[0]

    def _run_step_by_step(self, fixed, state, limits):
        while goes_on(state, limits):
            state = self.step(fixed, state, limits)
        return state


def which_occur(tokens, is_token, vocab_size):
    """Which ids are among the tokens of each row: `(batch, length)` to `(batch, vocab_size)`."""
    batch, length = tokens.shape
    rows = ops.repeat(ops.arange(batch, dtype="int32"), length)
    ids = ops.reshape(ops.where(is_token, tokens, vocab_size), (-1,))  # others: one column more
    seen = ops.zeros((batch, vocab_size + 1), "bool")
    places = ops.stack([rows, ops.cast(ids, "int32")], axis=1)
    return ops.scatter_update(seen, places, ops.ones((batch * length,), "bool"))[:, :-1]


def goes_on(state, limits):
    """Whether there is more to write."""
    return ops.logical_and(ops.any(state["open"]), state["count"] < limits["most"])


def with_room(x, count):
    """An array of a cache, with so many empty slots more."""
    return ops.pad(x, [(0, 0)] * (len(x.shape) - 1) + [(0, count)])


def compiled(transformer, function):
    """The function as one program; weights are read anew at each call.

    JAX and TensorFlow compile it with XLA, once for each set of shapes; PyTorch runs it as it is.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True, autograph=False)
    if backend == "torch":
        from .traced import traced

        return traced(transformer.model.variables, function)

    import jax

    variables = transformer.model.variables

    @jax.jit
    def program(values, *arguments):
        with keras.StatelessScope(zip(variables, values, strict=True)):
            return function(*arguments)

    return lambda *arguments: program([v.value for v in variables], *arguments)
