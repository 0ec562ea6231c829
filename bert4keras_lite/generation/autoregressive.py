"""Beam search and sampling with a user-defined `predict`, with bert4keras' interface."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import Any

import keras
import numpy as np

from ..arguments import RANGES, check_number, check_ranges, checks_flags

__all__ = ["AutoRegressiveDecoder", "draw"]


def _apply_temperature(scores, temperature, rtype):
    """Applies a temperature to logits or probabilities; returns probabilities. Rows of 0 stay 0.

    Each row is first scaled so that its largest probability is 1, and cannot underflow to zeros.
    """
    best = scores.max(1, keepdims=True)
    if rtype == "logits":
        scores = np.exp((scores - best) / temperature)
    else:
        scores = (scores / np.where(best > 0, best, 1)) ** (1 / temperature)
    total = scores.sum(1, keepdims=True)
    return scores / np.where(total > 0, total, 1)


def _check_scores(scores, rtype):
    """Raises if what `predict` returned are not valid logits or probabilities."""
    if np.isnan(scores).any():
        raise ValueError("predict: returned NaN; expected probabilities or logits.")
    if rtype == "logits" and not np.isfinite(scores.max(1)).all():
        raise ValueError(
            "predict: returned a row of logits whose largest is infinite; expected at least one "
            "finite number in each row, and no +inf."
        )
    if rtype == "probas" and not (np.isfinite(scores) & (scores >= 0)).all():
        raise ValueError(
            f"predict: returned probabilities from {scores.min()} to {scores.max()}; expected "
            'finite ones, at least 0. Pass default_rtype="logits" if they are logits.'
        )


class AutoRegressiveDecoder(ABC):
    """Generates with any function that predicts the next token.

    Subclass it and define `predict`, decorated with `wraps`. If a single model makes the
    predictions, `generate` is many times faster, as it has a key/value cache. This class is for
    what `generate` does not cover: combining several models, or voting over many sources.

    Args:
        start_id: first token of every sequence; None: sequences start empty.
        end_id: the token that ends a sequence.
        maxlen: maximum number of new tokens.
        minlen: minimum length of a sequence, `start_id` included; none ends before it.

    Raises:
        ValueError: `maxlen` is below 1.

    Example:
        >>> class Title(AutoRegressiveDecoder):
        ...     @AutoRegressiveDecoder.wraps(default_rtype="probas")
        ...     def predict(self, inputs, output_ids, states):
        ...         token_ids, segment_ids = inputs
        ...         token_ids = np.concatenate([token_ids, output_ids], 1)
        ...         segment_ids = np.concatenate([segment_ids, np.ones_like(output_ids)], 1)
        ...         return self.last_token(model).predict([token_ids, segment_ids], verbose=0)
        >>> Title(None, tokenizer.token_end_id, maxlen=32).beam_search([ids, segments], topk=4)
    """

    def __init__(self, start_id: int | None, end_id: int, maxlen: int, minlen: int = 1) -> None:
        _expect(maxlen >= 1, "maxlen", maxlen, "at least 1")
        self.start_id, self.end_id = start_id, end_id
        self.maxlen, self.minlen = maxlen, minlen
        self.models: dict = {}
        begin = [] if start_id is None else [start_id]
        self.first_output_ids = np.array([begin], "int64").reshape(1, -1)

    @staticmethod
    def wraps(default_rtype: str = "probas", use_states: bool = False) -> Callable:
        """Returns a decorator of `predict` that handles temperature, result type and states.

        Args:
            default_rtype: what `predict` returns: `"probas"` (probabilities) or `"logits"`.
            use_states: whether it returns a pair, the second being states for the next step.
        """
        _expect(
            default_rtype in ("probas", "logits"),
            "default_rtype",
            default_rtype,
            "'probas' or 'logits'",
        )

        def decorator(predict):
            @wraps(predict)
            def wrapped(self, inputs, output_ids, states, temperature=1, rtype=default_rtype):
                _expect(rtype in ("probas", "logits"), "rtype", rtype, "'probas' or 'logits'")
                check_ranges(temperature=temperature)
                prediction = predict(self, inputs, output_ids, states)
                is_pair = isinstance(prediction, (list, tuple)) and len(prediction) == 2
                if is_pair != use_states:
                    raise ValueError(
                        f"predict: returned a {type(prediction).__name__} with "
                        f"use_states={use_states}; expected (scores, states) if it is True, "
                        "scores alone if not."
                    )
                scores, states = prediction if use_states else (prediction, None)
                scores = np.asarray(scores)
                if scores.ndim != 2 or len(scores) != len(output_ids):
                    raise ValueError(
                        f"predict: returned an array of shape {scores.shape}; expected "
                        f"({len(output_ids)}, vocabulary), a row for each of output_ids."
                    )
                _check_scores(scores, default_rtype)
                if default_rtype == "logits" or temperature != 1:
                    scores = _apply_temperature(
                        scores.astype("float64"), temperature, default_rtype
                    )
                return (scores if rtype == "probas" else np.log(scores + 1e-12)), states

            return wrapped

        return decorator

    @abstractmethod
    def predict(self, inputs: list[np.ndarray], output_ids: np.ndarray, states: Any = None) -> Any:
        """Returns probabilities or logits of the next token, `(rows, vocab_size)`.

        Args:
            inputs: list of arrays, those of the search, with a row for each sequence. Changes
                made to them in place stay for the rest of the search.
            output_ids: the sequences so far, `(rows, length)`.
            states: what the last call returned, with `use_states`.
        """

    def last_token(self, model: keras.Model) -> keras.Model:
        """Returns a Keras model that outputs the last position only; built once per model."""
        import keras

        if id(model) not in self.models:
            outputs = [keras.ops.take(y, -1, axis=1) for y in model.outputs]
            last = keras.Model(model.inputs, outputs[0] if len(outputs) == 1 else outputs)
            self.models[id(model)] = model, last  # keeps the model alive, so its id is not reused
        return self.models[id(model)][1]

    @checks_flags
    def beam_search(
        self,
        inputs: list[np.ndarray],
        topk: int,
        states: Any = None,
        temperature: float = 1,
        min_ends: int = 1,
        batched: bool = False,
        n_best: int | None = None,
    ) -> Any:
        """Returns the most likely sequence by beam search.

        The search is over when the best beam ends. Other beams that end are dropped, which makes
        the search narrower, as in bert4keras.

        Args:
            inputs: list of arrays for one example; with `batched`, each has a leading axis of
                examples, and all are searched together.
            topk: number of beams.
            states: states for the first call of `predict`. Arrays in them that have a row for
                each sequence are reordered with their sequences (bert4keras leaves this to the
                user); numbers and arrays of another length stay as they are.
            temperature: divides the logits; 1 by default.
            min_ends: number of `end_id` that end a sequence.
            batched: whether `inputs` has several examples.
            n_best: return at most this many sequences, with their scores: those in the beam at
                the end, and those that ended before.

        Returns:
            int64 array, `start_id` and `end_id` included. With `n_best`, a list of `(ids, score)`:
            first the sequence that is returned without `n_best`, then the others, best first.
            With `batched`, a list of these.

        Raises:
            ValueError: an option is out of its range, or `predict` returned invalid values.
        """
        predict: Callable = self.predict  # of `wraps`, which adds arguments
        _expect(topk >= 1, "topk", topk, "at least 1")
        _expect(n_best is None or n_best >= 1, "n_best", n_best, "at least 1, or None")
        rows, count = first_rows(inputs, batched)
        examples = np.arange(count)  # the example of each row
        ids, scores = np.repeat(self.first_output_ids, count, 0), np.zeros(count)
        widths = [topk] * count
        closed: list[list] = [[] for _ in range(count)]
        ended: list[list] = [[] for _ in range(count)]
        for step in range(self.maxlen):
            log_probs, states = predict(rows, ids, states, temperature, "logits")
            kept = []  # of each running sequence: example, ids, score, and its previous row
            for example in range(count):
                beams = np.flatnonzero(examples == example)
                if not len(beams):
                    continue
                total = scores[beams, None] + log_probs[beams]
                width = min(widths[example], total.size)
                best = np.argpartition(-total, width - 1, axis=None)[:width]
                best = best[np.argsort(-total.ravel()[best], kind="stable")]
                parents, tokens = np.unravel_index(best, total.shape)
                new_ids = np.concatenate([ids[beams[parents]], tokens[:, None]], 1)
                new_scores = total[parents, tokens]
                ends = (tokens == self.end_id) & ((new_ids == self.end_id).sum(1) >= min_ends)
                ends &= new_ids.shape[1] >= self.minlen
                if ends[0] or step == self.maxlen - 1:
                    closed[example] = list(zip(new_ids, new_scores, strict=True)) + ended[example]
                    continue
                ended[example] += list(zip(new_ids[ends], new_scores[ends], strict=True))
                widths[example] -= int(ends.sum())
                running = np.flatnonzero(~ends)
                kept += [(example, new_ids[i], new_scores[i], beams[parents[i]]) for i in running]
            if not kept:
                break
            row_count = len(ids)
            examples, ids, scores, origins = (np.array(x) for x in zip(*kept, strict=True))
            rows, states = [x[origins] for x in rows], of_rows(states, origins, row_count)
        if n_best is None:
            results = [sequences[0][0] for sequences in closed]
        else:
            results = [[s[0], *sorted(s[1:], key=lambda pair: -pair[1])][:n_best] for s in closed]
        return results if batched else results[0]

    @checks_flags
    def random_sample(
        self,
        inputs: list[np.ndarray],
        n: int,
        topk: int | None = None,
        topp: float | None = None,
        states: Any = None,
        temperature: float = 1,
        min_ends: int = 1,
        batched: bool = False,
        seed: int | None = None,
    ) -> list:
        """Returns randomly sampled sequences.

        Args:
            inputs, states, temperature, min_ends, batched: see `beam_search`.
            n: number of sequences for each example.
            topk: sample from this many most likely tokens; None: from all.
            topp: sample from the smallest set of tokens whose probability is at least this.
            seed: seed of the samples. By default it is drawn from NumPy, so `np.random.seed` and
                `keras.utils.set_random_seed` determine it.

        Returns:
            List of `n` int64 arrays, in the order in which they ended; with `batched`, a list of
            such lists.

        Raises:
            ValueError: an option is out of its range, or `predict` returned invalid values.
        """
        predict: Callable = self.predict  # of `wraps`, which adds arguments
        _expect(n >= 1, "n", n, "at least 1")
        _expect(topk is None or topk >= 1, "topk", topk, "at least 1, or None")
        if topp is not None:
            check_number("topp", topp, *RANGES["top_p"])
        random = np.random.default_rng(np.random.randint(2**31) if seed is None else seed)
        rows, count = first_rows(inputs, batched)
        examples = np.arange(count)
        ids = np.repeat(self.first_output_ids, count, 0)
        results: list[list[np.ndarray]] = [[] for _ in range(count)]
        for step in range(self.maxlen):
            probs, states = predict(rows, ids, states, temperature, "probas")
            if step == 0:
                states = of_rows(states, np.repeat(np.arange(count), n), count)
                examples, ids, probs, *rows = (
                    np.repeat(x, n, axis=0) for x in (examples, ids, probs, *rows)
                )
            ids = np.concatenate([ids, draw(probs, topk, topp, random)[:, None]], 1)
            ends = (ids[:, -1] == self.end_id) & ((ids == self.end_id).sum(1) >= min_ends)
            ends &= ids.shape[1] >= self.minlen
            for row in np.flatnonzero(ends):
                results[examples[row]].append(ids[row])
            states = of_rows(states, np.flatnonzero(~ends), len(ids))
            examples, ids, *rows = (x[~ends] for x in (examples, ids, *rows))
            if not len(ids):
                break
        for example, row in zip(examples, ids, strict=True):
            results[example].append(row)
        return results if batched else results[0]


def first_rows(inputs, batched):
    """Returns a copy of the inputs with a row for each example, and the number of examples."""
    rows = [np.array(x if batched else [x]) for x in inputs]
    counts = {len(x) for x in rows} if batched else {1}  # one example may have no inputs at all
    if len(counts) != 1:
        raise ValueError(
            "inputs: with batched=True expected one array or more, all with a row for each "
            f"example, got lengths {[len(x) for x in rows]}."
        )
    return rows, counts.pop()


def of_rows(states, rows, count):
    """Selects rows of every array with `count` rows in nested lists and dicts; keeps the rest."""
    if len(rows) == count and (rows == np.arange(count)).all():
        return states
    if isinstance(states, dict):
        return {name: of_rows(x, rows, count) for name, x in states.items()}
    if isinstance(states, (list, tuple)):
        build = getattr(states, "_make", type(states))  # a named tuple takes fields one by one
        return build(of_rows(x, rows, count) for x in states)
    if hasattr(states, "shape") and len(states.shape) and states.shape[0] == count:
        return np.asarray(states)[rows]
    return states


def draw(probs, topk, topp, random):
    """Samples a token from each row of probabilities `(rows, vocab_size)`.

    Args:
        probs: `(rows, vocab_size)`; rows need not sum to 1.
        topk: sample from this many most likely tokens; None: from all.
        topp: sample from the smallest set of tokens whose probability is at least this, or None.
        random: a NumPy random generator.

    Returns:
        int64 `(rows,)`.
    """
    order = np.argsort(-probs, axis=1, kind="stable")[:, :topk]
    probs = np.take_along_axis(probs, order, 1).astype("float64")
    probs /= probs.sum(1, keepdims=True)
    if topp is not None:
        probs[np.cumsum(probs, 1) - probs >= topp] = 0
    sums = np.cumsum(probs, 1)
    if not (sums[:, -1] > 0).all():
        raise ValueError("predict: no token can be drawn; the probabilities are all 0 or NaN.")
    rank = (sums <= random.random((len(sums), 1)) * sums[:, -1:]).sum(1)
    rank = np.minimum(rank, (probs > 0).sum(1) - 1)
    return order[np.arange(len(order)), rank]


def _expect(holds, name, value, expected):
    if not holds:
        raise ValueError(f"{name}={value!r}: expected {expected}.")
