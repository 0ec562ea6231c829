"""Beam search and sampling over a user's own scoring function, with bert4keras' interface."""

from abc import ABC, abstractmethod
from functools import wraps

import numpy as np

from ..arguments import RANGES, check_number, check_ranges, checks_flags


def _tempered(scores, temperature, rtype):
    """The probabilities of logits, or of probabilities, at a temperature; rows of 0 stay 0.

    The largest becomes 1 before anything else: none of the powers is too small for all to be 0.
    """
    best = scores.max(1, keepdims=True)
    if rtype == "logits":
        scores = np.exp((scores - best) / temperature)
    else:
        scores = (scores / np.where(best > 0, best, 1)) ** (1 / temperature)
    total = scores.sum(1, keepdims=True)
    return scores / np.where(total > 0, total, 1)


def _check_scores(scores, rtype):
    """Raises where logits, or probabilities, are none."""
    if np.isnan(scores).any():
        raise ValueError("predict gave NaN: expected probabilities or logits.")
    if rtype == "logits" and not np.isfinite(scores.max(1)).all():
        raise ValueError(
            "predict gave a row of logits whose largest is infinite: expected at least one finite "
            "number in each row, and no +inf."
        )
    if rtype == "probas" and not (np.isfinite(scores) & (scores >= 0)).all():
        raise ValueError(
            f"predict gave probabilities from {scores.min()} to {scores.max()}: expected finite "
            'ones, at least 0. Say default_rtype="logits" if they are logits.'
        )


class AutoRegressiveDecoder(ABC):
    """Writes with any function that scores the next token.

    Subclass it and write `predict`, decorated with `wraps`. Where one model does all the
    scoring, `generate` is many times faster: it keeps what was computed. This class is for what
    it cannot know: scores of several models together, a vote over many sources.

    Args:
        start_id: what every sequence begins with; None: nothing.
        end_id: the token that ends it.
        maxlen: how many tokens to write at most.
        minlen: below this length, `start_id` included, no sequence ends.

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

    def __init__(self, start_id, end_id, maxlen, minlen=1):
        _expect(maxlen >= 1, "maxlen", maxlen, "at least 1")
        self.start_id, self.end_id = start_id, end_id
        self.maxlen, self.minlen = maxlen, minlen
        self.models = {}
        begin = [] if start_id is None else [start_id]
        self.first_output_ids = np.array([begin], "int64").reshape(1, -1)

    @staticmethod
    def wraps(default_rtype="probas", use_states=False):
        """Decorates `predict`, so that temperature, kind of result and states need no thought.

        Args:
            default_rtype: what the function gives: `"probas"` or `"logits"`.
            use_states: whether it gives a pair, with states for the next step.
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
                found = predict(self, inputs, output_ids, states)
                pair = isinstance(found, (list, tuple)) and len(found) == 2
                if pair != use_states:
                    raise ValueError(
                        f"predict gave a {type(found).__name__}, with use_states={use_states}: "
                        "expected (scores, states) if it is True, scores alone if not."
                    )
                scores, states = found if use_states else (found, None)
                scores = np.asarray(scores)
                if scores.ndim != 2 or len(scores) != len(output_ids):
                    raise ValueError(
                        f"predict gave an array of shape {scores.shape}: expected "
                        f"({len(output_ids)}, vocabulary), a row for each of output_ids."
                    )
                _check_scores(scores, default_rtype)
                if default_rtype == "logits" or temperature != 1:
                    scores = _tempered(scores.astype("float64"), temperature, default_rtype)
                return (scores if rtype == "probas" else np.log(scores + 1e-12)), states

            return wrapped

        return decorator

    @abstractmethod
    def predict(self, inputs, output_ids, states=None):
        """Scores of the next token, `(rows, vocabulary)`.

        Args:
            inputs: those of the search, a row for each sequence. What is changed in them stays
                changed for the rest of the search.
            output_ids: what was written, `(rows, length)`.
            states: what the last call gave, if `use_states`.
        """

    def last_token(self, model):
        """The same Keras model, giving its last position only. Made once for each model."""
        import keras

        if id(model) not in self.models:
            outputs = [keras.ops.take(y, -1, axis=1) for y in model.outputs]
            last = keras.Model(model.inputs, outputs[0] if len(outputs) == 1 else outputs)
            self.models[id(model)] = model, last  # the model is kept, so that its id stays its own
        return self.models[id(model)][1]

    @checks_flags
    def beam_search(
        self, inputs, topk, states=None, temperature=1, min_ends=1, batched=False, n_best=None
    ):
        """The most likely sequences.

        When the best beam has ended, the search is over; others that end are dropped and leave
        their place empty, as in bert4keras.

        Args:
            inputs: list of arrays for one example; with `batched`, each has an axis of examples
                in front, and all are searched together.
            topk: number of beams.
            states: for the first call of `predict`. Arrays in them that have a row for each
                sequence go with their sequences, which bert4keras leaves to the user; numbers
                and arrays of another length stay as they are.
            temperature: scores are divided by it.
            min_ends: how many `end_id` make a sequence ended.
            n_best: give at most so many sequences with their scores: those in the beam at the
                end, and those that ended before.

        Returns:
            int64 array, `start_id` and `end_id` included; with `n_best` a list of `(ids, score)`:
            the one that would be given without it, then the others, best first; with `batched` a
            list of these.
        """
        _expect(topk >= 1, "topk", topk, "at least 1")
        _expect(n_best is None or n_best >= 1, "n_best", n_best, "at least 1, or None")
        rows, count = first_rows(inputs, batched)
        owner = np.arange(count)  # whose sequence each row is
        ids, scores = np.repeat(self.first_output_ids, count, 0), np.zeros(count)
        places, closed, ended = [topk] * count, [None] * count, [[] for _ in range(count)]
        for step in range(self.maxlen):
            gains, states = self.predict(rows, ids, states, temperature, "logits")
            kept = []  # of each sequence that goes on: owner, ids, score, and the row it was
            for example in range(count):
                mine = np.flatnonzero(owner == example)
                if not len(mine):
                    continue
                total = scores[mine, None] + gains[mine]
                width = min(places[example], total.size)
                best = np.argpartition(-total, width - 1, axis=None)[:width]
                best = best[np.argsort(-total.ravel()[best], kind="stable")]
                parents, tokens = np.unravel_index(best, total.shape)
                new = np.concatenate([ids[mine[parents]], tokens[:, None]], 1)
                worth = total[parents, tokens]
                ends = (tokens == self.end_id) & ((new == self.end_id).sum(1) >= min_ends)
                ends &= new.shape[1] >= self.minlen
                if ends[0] or step == self.maxlen - 1:
                    closed[example] = list(zip(new, worth, strict=True)) + ended[example]
                    continue
                ended[example] += list(zip(new[ends], worth[ends], strict=True))
                places[example] -= int(ends.sum())
                going = np.flatnonzero(~ends)
                kept += [(example, new[i], worth[i], mine[parents[i]]) for i in going]
            if not kept:
                break
            before = len(ids)
            owner, ids, scores, origins = (np.array(x) for x in zip(*kept, strict=True))
            rows, states = [x[origins] for x in rows], of_rows(states, origins, before)
        if n_best is None:
            found = [sequences[0][0] for sequences in closed]
        else:
            found = [[s[0], *sorted(s[1:], key=lambda one: -one[1])][:n_best] for s in closed]
        return found if batched else found[0]

    @checks_flags
    def random_sample(
        self,
        inputs,
        n,
        topk=None,
        topp=None,
        states=None,
        temperature=1,
        min_ends=1,
        batched=False,
        seed=None,
    ):
        """Random sequences.

        Args:
            n: how many, for each example.
            topk: draw among so many tokens.
            topp: draw among the fewest tokens that together have this probability.
            seed: of the draws. The default is drawn from NumPy, so `np.random.seed` and
                `keras.utils.set_random_seed` govern it.
            others: see `beam_search`.

        Returns:
            list of `n` int64 arrays, those that ended first in front; with `batched` a list of
            such lists.
        """
        _expect(n >= 1, "n", n, "at least 1")
        _expect(topk is None or topk >= 1, "topk", topk, "at least 1, or None")
        if topp is not None:
            check_number("topp", topp, *RANGES["top_p"])
        random = np.random.default_rng(np.random.randint(2**31) if seed is None else seed)
        rows, count = first_rows(inputs, batched)
        owner = np.arange(count)
        ids = np.repeat(self.first_output_ids, count, 0)
        results = [[] for _ in range(count)]
        for step in range(self.maxlen):
            shares, states = self.predict(rows, ids, states, temperature, "probas")
            if step == 0:
                states = of_rows(states, np.repeat(np.arange(count), n), count)
                owner, ids, shares, *rows = (
                    np.repeat(x, n, axis=0) for x in (owner, ids, shares, *rows)
                )
            ids = np.concatenate([ids, draw(shares, topk, topp, random)[:, None]], 1)
            ends = (ids[:, -1] == self.end_id) & ((ids == self.end_id).sum(1) >= min_ends)
            ends &= ids.shape[1] >= self.minlen
            for row in np.flatnonzero(ends):
                results[owner[row]].append(ids[row])
            states = of_rows(states, np.flatnonzero(~ends), len(ids))
            owner, ids, *rows = (x[~ends] for x in (owner, ids, *rows))
            if not len(ids):
                break
        for example, row in zip(owner, ids, strict=True):
            results[example].append(row)
        return results if batched else results[0]


def first_rows(inputs, batched):
    """A user's inputs, copied, with a row for each example; and how many examples there are."""
    rows = [np.array(x if batched else [x]) for x in inputs]
    counts = {len(x) for x in rows} if batched else {1}  # one example may have no inputs at all
    if len(counts) != 1:
        raise ValueError(
            "inputs: with batched=True expected one array or more, of as many rows as there are "
            f"examples; got lengths {[len(x) for x in rows]}."
        )
    return rows, counts.pop()


def of_rows(states, rows, count):
    """Of each array with `count` rows in nested lists and dicts, those rows; the rest as it is."""
    if len(rows) == count and (rows == np.arange(count)).all():
        return states
    if isinstance(states, dict):
        return {name: of_rows(x, rows, count) for name, x in states.items()}
    if isinstance(states, (list, tuple)):
        make = getattr(states, "_make", type(states))  # a named tuple takes its fields one by one
        return make(of_rows(x, rows, count) for x in states)
    if hasattr(states, "shape") and len(states.shape) and states.shape[0] == count:
        return np.asarray(states)[rows]
    return states


def draw(shares, topk, topp, random):
    """A token from each row of probabilities `(rows, vocabulary)`, among the likely ones."""
    order = np.argsort(-shares, axis=1, kind="stable")[:, :topk]
    shares = np.take_along_axis(shares, order, 1).astype("float64")
    shares /= shares.sum(1, keepdims=True)
    if topp is not None:
        shares[np.cumsum(shares, 1) - shares >= topp] = 0
    sums = np.cumsum(shares, 1)
    if not (sums[:, -1] > 0).all():
        raise ValueError("No token can be drawn: the probabilities are all 0, or not numbers.")
    place = (sums <= random.random((len(sums), 1)) * sums[:, -1:]).sum(1)
    place = np.minimum(place, (shares > 0).sum(1) - 1)
    return order[np.arange(len(order)), place]


def _expect(holds, name, value, expected):
    if not holds:
        raise ValueError(f"{name}={value!r}: expected {expected}.")
