"""Which tokens to write, given the scores of all: greedy, sampling and beam search.

A state is a dict of tensors of fixed shapes, so that a compiled loop can carry it; `batch` rows
(prompts) have `width` beams each, and room for `length` tokens:

- `count`: how many tokens were written, a scalar;
- `tokens`: `(batch, width, length)`;
- `ancestors`: of each token, in which beam it was written, `(batch, width, length)`;
- `score`: the sum of log-probabilities, `(batch, width)`;
- `open`: rows that are still written, `(batch,)`;
- `done`, `lengths`: which sequences ended, and how long they are, stop token included,
  `(batch, width)`; with beams, `ended_tokens`, `ended_scores` and these two tell of the best
  sequences that ended so far;
- `seen`: which tokens occurred, `(batch, width, vocab_size)`, if these are penalized.
"""

from dataclasses import dataclass

from keras import ops

NEG_INF = (
    -1e9
)  # far below every sum of log-probabilities: of tokens that are barred, of empty beams
BARRED = -3e38  # what a sequence with such a token is worth, whatever the length penalty


@dataclass(frozen=True)
class DecodingConfig:
    """What decides which program is compiled; everything else is an argument of it.

    Attributes:
        kind: `"greedy"`, `"sample"` or `"beams"`.
        width: beams of each row.
        early_stopping: when a row's beam search ends; see `generate`.
        likeliest: how many tokens are put in order, so that `top_k` and `top_p` can choose some to
            sample among; None: none are, and all may be drawn.
        penalized: whether tokens that occurred are penalized.
        candidates: how many continuations are looked at for each beam.
    """

    kind: str = "greedy"
    width: int = 1
    early_stopping: bool | str = False
    likeliest: int | None = None
    penalized: bool = False
    candidates: int = 2


def first_state(search, batch, length, seen):
    """Nothing is written yet. `seen`: `(batch, vocab_size)`, the tokens of the prompts."""
    shape = (batch, search.width)
    state = {
        "count": ops.zeros((), "int32"),
        "tokens": ops.zeros((*shape, length), "int32"),
        "ancestors": ops.zeros((*shape, length), "int32"),
        "score": ops.zeros(shape),
        "open": ops.ones((batch,), "bool"),
        "done": ops.zeros(shape, "bool"),
        "lengths": ops.zeros(shape, "int32"),
    }
    if search.kind == "beams":  # all begin alike: the first choice is the first beam's
        state["score"] = ops.where(ops.arange(search.width)[None] == 0, state["score"], NEG_INF)
        state["ended_tokens"] = state["tokens"]
        state["ended_scores"] = ops.full(shape, -float("inf"))
    if search.early_stopping == "best":
        state["places"] = ops.full((batch,), search.width, "int32")
    if search.penalized:
        state["seen"] = ops.repeat(seen[:, None], search.width, axis=1)
    return state


def choose(search, scores, state, limits):
    """Writes one token to every sequence.

    Args:
        scores: of the model, `(batch, 1 or width, vocab_size)`.
        limits: a dict of tensors: `most` and `least`, the numbers of new tokens; `stops`,
            booleans `(vocab_size,)`; `bias` on the scores, which broadcasts to them;
            `temperature`, `top_k`, `top_p` (infinite: all), `repetition_penalty`,
            `length_penalty`; `noise`, uniform numbers `(batch, width, length)`.

    Returns:
        The next state.
    """
    scores = ops.cast(scores, "float32")
    scores = ops.broadcast_to(scores, (*state["score"].shape, scores.shape[-1]))
    if search.kind != "beams":
        return _choose_alone(search, scores, state, limits)
    step = _choose_until_best_ends if search.early_stopping == "best" else _choose_beams
    return step(search, processed(ops.log_softmax(scores), state, limits), state, limits)


def processed(scores, state, limits):
    """Scores after the repetition penalty (arXiv 1909.05858, section 4.1) and all that is barred."""
    if "seen" in state:
        penalty = limits["repetition_penalty"]
        weaker = ops.where(scores < 0, scores * penalty, scores / penalty)
        scores = ops.where(state["seen"], weaker, scores)
    others = ops.logical_and(limits["bias"] == 0, ops.logical_not(limits["stops"]))
    # a stop token that is all that is allowed is never too early
    least = ops.where(ops.any(others, axis=-1, keepdims=True), limits["least"], 0)
    too_early = ops.logical_and(limits["stops"], state["count"] < least)
    return ops.where(too_early, NEG_INF, scores) + limits["bias"]


def _choose_alone(search, scores, state, limits):
    """Every sequence for itself: the most likely token, or a random one."""
    wanted = processed(scores, state, limits)
    if search.kind == "greedy":
        token = ops.cast(ops.argmax(wanted, axis=-1), "int32")
    else:
        noise = ops.take(limits["noise"], state["count"], axis=2)
        token = sample(wanted / limits["temperature"], noise, search, limits)
    going = ops.logical_not(state["done"])
    gain = ops.take_along_axis(ops.log_softmax(scores), token[..., None], axis=-1)[..., 0]
    token = ops.where(going, token, 0)
    stops = ops.logical_or(ops.take(limits["stops"], token), state["done"])
    return state | {
        **_written(state, token, ops.zeros_like(token) + ops.arange(search.width, dtype="int32")),
        "score": state["score"] + ops.where(going, gain, 0.0),
        "done": stops,
        "lengths": state["lengths"] + ops.cast(going, "int32"),
        "open": ops.logical_not(ops.all(stops, axis=1)),
    }


def sample(scores, noise, search, limits):
    """A token from the distribution of the scores, by the inverse of its distribution function.

    Args:
        scores: `(..., vocab_size)`.
        noise: uniform in [0, 1), `(...)`.
        search: a `DecodingConfig`: `likeliest` is looked at.
        limits: `top_k`, at most `likeliest`; `top_p` of the nucleus: the fewest tokens that
            together are so likely.

    Returns:
        int32 `(...)`.

    Reference:
        Holtzman et al., "The Curious Case of Neural Text Degeneration", arXiv 1904.09751,
        section 3.1.
    """
    ids = None
    if search.likeliest:
        scores, ids = ops.top_k(scores, search.likeliest)
        rank = ops.arange(search.likeliest, dtype="int32")
        scores = ops.where(rank < limits["top_k"], scores, -float("inf"))
    shares = ops.softmax(scores, axis=-1)
    if search.likeliest:
        before = ops.cumsum(shares, axis=-1) - shares
        shares = ops.where(before < limits["top_p"], shares, 0.0)
    sums = ops.cumsum(shares, axis=-1)
    total = sums[..., -1:]
    # just below the total: rounding must not lead beyond the last token that has a share
    drawn = ops.minimum(noise[..., None] * total, total * (1 - 1e-6))
    place = ops.sum(ops.cast(sums <= drawn, "int32"), axis=-1)
    if ids is None:
        return place
    return ops.cast(ops.take_along_axis(ids, place[..., None], axis=-1)[..., 0], "int32")


def _choose_beams(search, log_probs, state, limits):
    """The best continuations of all beams of a row together.

    More candidates than beams are looked at, so that enough remain when some of them end. What
    ends among the best `width` is kept aside, by its score over its length to the power of the
    length penalty. A row is closed when what runs can no longer beat what was kept, as
    transformers judges it.
    """
    width, count = search.width, state["count"] + 1
    value, token, parent = _candidates(state, log_probs, width * search.candidates)
    ends = ops.logical_or(ops.take(limits["stops"], token), count >= limits["most"])
    score, order = ops.top_k(ops.where(ends, value + NEG_INF, value), width)

    penalty = limits["length_penalty"]

    def worth(sums, length):
        length = ops.cast(length, "float32")
        return ops.where(sums > NEG_INF / 2, sums / length**penalty, BARRED)

    new = ops.logical_and(ends, ops.arange(token.shape[1])[None] < width)
    new = ops.logical_and(new, state["open"][:, None])
    new_scores = ops.where(new, worth(value, count), -float("inf"))
    kept, place = ops.top_k(ops.concatenate([state["ended_scores"], new_scores], axis=1), width)

    def merged(old, new):
        return of_beams(ops.concatenate([old, new], axis=1), place)

    done = merged(state["done"], new)
    longest = limits["most"] if search.early_stopping == "never" else count
    longest = ops.where(penalty > 0, longest, count)
    worst = ops.where(done, ops.min(kept, axis=1, keepdims=True), -float("inf"))
    is_open = ops.any(worth(score[:, :1], longest) > worst, axis=1)
    if search.early_stopping is True:
        is_open = ops.logical_and(is_open, ops.logical_not(ops.all(done, axis=1)))
    return state | {
        **_written(state, of_beams(token, order), of_beams(parent, order)),
        "score": score,
        "open": ops.logical_and(state["open"], is_open),
        "done": done,
        "lengths": merged(state["lengths"], ops.zeros_like(token) + count),
        "ended_tokens": merged(state["ended_tokens"], _appended(state, token, parent)),
        "ended_scores": kept,
    }


def _choose_until_best_ends(search, log_probs, state, limits):
    """bert4keras' beam search: a row is closed when its best beam ends; others that end are dropped.

    A dropped beam leaves its place empty, so that the search becomes narrower.
    """
    value, token, parent = _candidates(state, log_probs, search.width)
    stops = ops.take(limits["stops"], token)
    taken = ops.arange(search.width)[None] < state["places"][:, None]
    runs = ops.logical_and(taken, ops.logical_not(stops))
    written = _written(state, token, parent)
    first = ops.logical_or(stops[:, 0], written["count"] >= limits["most"])
    closes = ops.logical_and(state["open"], first)

    def settled(name, new):
        which = ops.reshape(closes, (-1,) + (1,) * (len(new.shape) - 1))
        return ops.where(which, new, state[name])

    return state | {
        **written,
        "score": ops.where(runs, value, NEG_INF),
        "places": state["places"] - ops.sum(ops.cast(ops.logical_and(taken, stops), "int32"), 1),
        "open": ops.logical_and(state["open"], ops.logical_not(closes)),
        "done": settled("done", stops),
        "lengths": settled("lengths", ops.zeros_like(token) + written["count"]),
        "ended_tokens": settled("ended_tokens", written["tokens"]),
        "ended_scores": settled("ended_scores", value),
    }


def _candidates(state, log_probs, number):
    """The best continuations of a row, at most `number`: scores, tokens, the beams they continue."""
    batch, width, vocab_size = log_probs.shape
    total = ops.reshape(log_probs + state["score"][..., None], (batch, width * vocab_size))
    value, place = ops.top_k(total, min(number, width * vocab_size))
    place = ops.cast(place, "int32")
    return value, place % vocab_size, place // vocab_size


def _appended(state, token, parent):
    """The sequences of the beams `parent`, each with its token."""
    here = ops.arange(state["tokens"].shape[2], dtype="int32") == state["count"]
    return ops.where(here, token[..., None], of_beams(state["tokens"], parent))


def _written(state, token, parent):
    """What changes when beam `i` becomes beam `parent[i]` and its token."""
    here = ops.arange(state["tokens"].shape[2], dtype="int32") == state["count"]
    own = ops.arange(parent.shape[1], dtype="int32")[None, :, None]
    changed = {
        "count": state["count"] + 1,
        "tokens": _appended(state, token, parent),
        "ancestors": ops.where(here, own, of_beams(state["ancestors"], parent)),
    }
    if "seen" in state:
        now = ops.arange(state["seen"].shape[-1], dtype="int32") == token[..., None]
        changed["seen"] = ops.logical_or(of_beams(state["seen"], parent), now)
    return changed


def of_beams(x, beams):
    """`x[row, beams[row]]` for each row: `(batch, m, ...)` and `(batch, n)` to `(batch, n, ...)`."""
    index = ops.reshape(beams, (*beams.shape, *[1] * (len(x.shape) - 2)))
    index = ops.broadcast_to(index, (*beams.shape, *x.shape[2:]))
    return ops.take_along_axis(x, ops.cast(index, "int32"), axis=1)
