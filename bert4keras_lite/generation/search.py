"""Choosing the next tokens from logits: greedy, sampling and beam search.

Everything is a tensor of a fixed shape, so that a compiled loop can carry it.
"""

from dataclasses import dataclass
from typing import NamedTuple

from keras import ops

from ..layers.values import NEG_INF
from .forbidden import forbidden_tokens

__all__ = ["BARRED", "DecodingConfig", "choose", "first_state"]

# `NEG_INF` is the log-probability of tokens that are not allowed, and the score of empty beams: it
# is below every possible sum
BARRED = -3e38  # score of a sequence with such a token, for any length penalty


@dataclass(frozen=True)
class DecodingConfig:
    """Static options: each combination is compiled once; all other options are tensors.

    Attributes:
        kind: `"greedy"`, `"sample"` or `"beams"`.
        width: number of beams of each row.
        early_stopping: when a row's beam search ends; see `generate`.
        likeliest: number of most likely tokens to sort, for `top_k` and `top_p`; None: no sorting,
            all tokens may be sampled.
        penalized: whether a repetition penalty is applied.
        forced: whether the first or the last token is given.
        candidates: number of continuations to consider for each beam.
        forbids: whether there are bad words of several tokens, or n-grams must not repeat.
        ngram_window: length of the windows in which n-grams are compared; 0: they may repeat.
    """

    kind: str = "greedy"
    width: int = 1
    early_stopping: bool | str = False
    likeliest: int | None = None
    penalized: bool = False
    forced: bool = False
    candidates: int = 2
    forbids: bool = False
    ngram_window: int = 0


class State(NamedTuple):
    """The sequences so far: `batch` rows (prompts) of `width` beams, with room for `length` tokens.

    A field that a search does not need is an empty tuple.

    Attributes:
        num_tokens: number of new tokens so far, a scalar.
        tokens: the new tokens, `(batch, width, length)`.
        ancestors: the beam in which each token was appended, `(batch, width, length)`.
        score: sum of log-probabilities, `(batch, width)`.
        open: rows that are not complete yet, `(batch,)`.
        done, lengths: which sequences ended, and their lengths with the stop token, `(batch,
            width)`. In beam search these two, `ended_tokens` and `ended_scores` describe the best
            sequences that ended so far.
        ended_tokens, ended_scores: `(batch, width, length)` and `(batch, width)`, in beam search.
        widths: number of running beams of each row, `(batch,)`, with `early_stopping="best"`.
        seen: which tokens occurred, `(batch, width, vocab_size)`, with a repetition penalty.
        caches: keys and values of each block, see `compiled_loop.py`.
    """

    num_tokens: object
    tokens: object
    ancestors: object
    score: object
    open: object
    done: object
    lengths: object
    ended_tokens: object = ()
    ended_scores: object = ()
    widths: object = ()
    seen: object = ()
    caches: object = ()


def first_state(search, batch, length, seen):
    """Returns the `State` without new tokens.

    Args:
        search: a `DecodingConfig`.
        batch: number of rows.
        length: room for new tokens.
        seen: bool `(batch, vocab_size)`, the tokens of the prompts; None without a penalty.
    """
    shape = (batch, search.width)
    state = State(
        num_tokens=ops.zeros((), "int32"),
        tokens=ops.zeros((*shape, length), "int32"),
        ancestors=ops.zeros((*shape, length), "int32"),
        score=ops.zeros(shape),
        open=ops.ones((batch,), "bool"),
        done=ops.zeros(shape, "bool"),
        lengths=ops.zeros(shape, "int32"),
    )
    if search.kind == "beams":
        is_first = ops.arange(search.width)[None] == 0
        state = state._replace(  # all beams are equal: only the first takes part in the first step
            score=ops.where(is_first, state.score, NEG_INF),
            ended_tokens=state.tokens,
            ended_scores=ops.full(shape, -float("inf")),
        )
    if search.early_stopping == "best":
        state = state._replace(widths=ops.full((batch,), search.width, "int32"))
    if search.penalized:
        state = state._replace(seen=ops.repeat(seen[:, None], search.width, axis=1))
    return state


def choose(search, logits, state, sampling_params):
    """Appends one token to every sequence.

    Args:
        search: a `DecodingConfig`.
        logits: of the model, `(batch, 1 or width, vocab_size)`.
        state: the `State`.
        sampling_params: dict of tensors: `most` and `least`, the numbers of new tokens; `stops`
            and `begin_suppressed`, bool `(vocab_size,)`; `bias`, added to the logits, to which it
            broadcasts; those of `forbidden_tokens`; `temperature`, `top_k`, `top_p` (infinite:
            all), `repetition_penalty`, `length_penalty`; `forced_start` and `forced_end`, the ids
            of the first and of the last possible token, or -1; `noise`, uniform random numbers
            `(batch, width, length)`.

    Returns:
        The next `State`.
    """
    logits = ops.cast(logits, "float32")
    logits = ops.broadcast_to(logits, (*state.score.shape, logits.shape[-1]))
    if search.kind != "beams":
        return _choose_alone(search, logits, state, sampling_params)
    step = _choose_until_best_ends if search.early_stopping == "best" else _choose_beams
    log_probs = processed(search, ops.log_softmax(logits), state, sampling_params)
    return step(search, log_probs, state, sampling_params)


def processed(search, scores, state, sampling_params):
    """Applies the repetition penalty, the forced tokens, and bars those that may not come.

    Args:
        search: a `DecodingConfig`.
        scores: logits or log-probabilities, `(batch, width, vocab_size)`.
        state: the `State`.
        sampling_params: see `choose`.

    Reference:
        Repetition penalty: Keskar et al., "CTRL", arXiv 1909.05858, section 4.1.
    """
    if search.penalized:
        penalty = sampling_params["repetition_penalty"]
        lowered = ops.where(scores < 0, scores * penalty, scores / penalty)
        scores = ops.where(state.seen, lowered, scores)
    stops, is_first = sampling_params["stops"], state.num_tokens == 0
    barred = ops.logical_and(sampling_params["begin_suppressed"], is_first)
    if search.forbids:
        marks = forbidden_tokens(search, state, sampling_params, scores.shape[-1])
        barred = ops.logical_or(barred, marks)
    allowed = ops.logical_and(sampling_params["bias"] == 0, ops.logical_not(barred))
    others = ops.logical_and(allowed, ops.logical_not(stops))
    # where only stop tokens are allowed, the minimum length does not apply
    least = ops.where(ops.any(others, axis=-1, keepdims=True), sampling_params["least"], 0)
    too_early = ops.logical_and(stops, state.num_tokens < least)
    barred = ops.logical_or(barred, too_early)
    scores = ops.where(barred, NEG_INF, scores) + sampling_params["bias"]
    return forced(scores, state, sampling_params) if search.forced else scores


def forced(scores, state, sampling_params):
    """Leaves one token in the first and in the last possible step, if it is given.

    If that is the same step, the last token counts, as in transformers.

    Args:
        scores: logits or log-probabilities, `(batch, width, vocab_size)`.
        state: the `State`.
        sampling_params: see `choose`.

    Returns:
        In these steps 0 for that token and `NEG_INF` for all others.
    """
    token = ops.where(state.num_tokens == 0, sampling_params["forced_start"], -1)
    is_last = state.num_tokens == sampling_params["most"] - 1
    is_end = ops.logical_and(is_last, sampling_params["forced_end"] >= 0)
    token = ops.where(is_end, sampling_params["forced_end"], token)
    is_token = ops.arange(scores.shape[-1], dtype="int32") == token
    return ops.where(token < 0, scores, ops.where(is_token, 0.0, NEG_INF))


def _choose_alone(search, logits, state, sampling_params):
    """Chooses for each sequence the most likely token, or a random one."""
    processed_logits = processed(search, logits, state, sampling_params)
    if search.kind == "greedy":
        token = ops.cast(ops.argmax(processed_logits, axis=-1), "int32")
    else:
        noise = ops.take(sampling_params["noise"], state.num_tokens, axis=2)
        token = sample(
            processed_logits / sampling_params["temperature"], noise, search, sampling_params
        )
    running = ops.logical_not(state.done)
    gain, value = (
        ops.take_along_axis(x, token[..., None], axis=-1)[..., 0]
        for x in (ops.log_softmax(logits), processed_logits)
    )
    gain = ops.where(value <= NEG_INF / 2, NEG_INF, gain)  # then no token is allowed
    token = ops.where(running, token, 0)
    stops = ops.logical_or(ops.take(sampling_params["stops"], token), state.done)
    beams = ops.zeros_like(token) + ops.arange(search.width, dtype="int32")
    return append_tokens(search, state, token, beams)._replace(
        score=state.score + ops.where(running, gain, 0.0),
        done=stops,
        lengths=state.lengths + ops.cast(running, "int32"),
        open=ops.logical_not(ops.all(stops, axis=1)),
    )


def sample(logits, noise, search, sampling_params):
    """Samples a token from the distribution of the logits, by inverse transform sampling.

    Args:
        logits: `(..., vocab_size)`.
        noise: uniform in [0, 1), `(...)`.
        search: a `DecodingConfig`, for its `likeliest`.
        sampling_params: `top_k`, at most `likeliest`; `top_p`: nucleus sampling, from the smallest
            set of tokens whose probability is at least this.

    Returns:
        int32 `(...)`.

    Reference:
        Holtzman et al., "The Curious Case of Neural Text Degeneration", arXiv 1904.09751,
        section 3.1.
    """
    ids = None
    if search.likeliest:
        logits, ids = ops.top_k(logits, search.likeliest)
        rank = ops.arange(search.likeliest, dtype="int32")
        logits = ops.where(rank < sampling_params["top_k"], logits, -float("inf"))
    probs = ops.softmax(logits, axis=-1)
    if search.likeliest:
        before = ops.cumsum(probs, axis=-1) - probs
        probs = ops.where(before < sampling_params["top_p"], probs, 0.0)
    sums = ops.cumsum(probs, axis=-1)
    total = sums[..., -1:]
    # just below the total: rounding must not select a token after the last possible one
    drawn = ops.minimum(noise[..., None] * total, total * (1 - 1e-6))
    index = ops.sum(ops.cast(sums <= drawn, "int32"), axis=-1)
    if ids is None:
        return index
    return ops.cast(ops.take_along_axis(ids, index[..., None], axis=-1)[..., 0], "int32")


def _choose_beams(search, log_probs, state, sampling_params):
    """Chooses the best continuations of all beams of a row together.

    More candidates than beams are considered, so that enough remain when some of them end. Those
    that end among the best `width` are kept apart, ranked by score / length**length_penalty. A
    row is closed when no running beam can beat the kept ones, by the rules of transformers.
    """
    width, count = search.width, state.num_tokens + 1
    value, token, parent = _candidates(state, log_probs, width * search.candidates)
    ends = ops.logical_or(
        ops.take(sampling_params["stops"], token), count >= sampling_params["most"]
    )
    score, order = ops.top_k(ops.where(ends, value + NEG_INF, value), width)

    penalty = sampling_params["length_penalty"]

    def worth(sums, length):
        length = ops.cast(length, "float32")
        return ops.where(sums > NEG_INF / 2, sums / length**penalty, BARRED)

    new = ops.logical_and(ends, ops.arange(token.shape[1])[None] < width)
    new = ops.logical_and(new, state.open[:, None])
    new_scores = ops.where(new, worth(value, count), -float("inf"))
    kept, ranks = ops.top_k(ops.concatenate([state.ended_scores, new_scores], axis=1), width)

    def merged(old, new):
        return of_beams(ops.concatenate([old, new], axis=1), ranks)

    done = merged(state.done, new)
    longest = sampling_params["most"] if search.early_stopping == "never" else count
    longest = ops.where(penalty > 0, longest, count)
    worst = ops.where(done, ops.min(kept, axis=1, keepdims=True), -float("inf"))
    is_open = ops.any(worth(score[:, :1], longest) > worst, axis=1)
    if search.early_stopping is True:
        is_open = ops.logical_and(is_open, ops.logical_not(ops.all(done, axis=1)))
    running = append_tokens(search, state, of_beams(token, order), of_beams(parent, order))
    return running._replace(
        score=score,
        open=ops.logical_and(state.open, is_open),
        done=done,
        lengths=merged(state.lengths, ops.zeros_like(token) + count),
        ended_tokens=merged(state.ended_tokens, _appended(state, token, parent)),
        ended_scores=kept,
    )


def _choose_until_best_ends(search, log_probs, state, sampling_params):
    """Beam search of bert4keras: a row is closed when its best beam ends.

    Other beams that end are dropped, and the search becomes narrower.
    """
    value, token, parent = _candidates(state, log_probs, search.width)
    stops = ops.take(sampling_params["stops"], token)
    in_use = ops.arange(search.width)[None] < state.widths[:, None]
    running = ops.logical_and(in_use, ops.logical_not(stops))
    following = append_tokens(search, state, token, parent)
    best_ends = ops.logical_or(stops[:, 0], following.num_tokens >= sampling_params["most"])
    closes = ops.logical_and(state.open, best_ends)

    def where_closed(new, old):
        condition = ops.reshape(closes, (-1,) + (1,) * (len(new.shape) - 1))
        return ops.where(condition, new, old)

    lengths = ops.zeros_like(token) + following.num_tokens
    return following._replace(
        score=ops.where(running, value, NEG_INF),
        widths=state.widths - ops.sum(ops.cast(ops.logical_and(in_use, stops), "int32"), 1),
        open=ops.logical_and(state.open, ops.logical_not(closes)),
        done=where_closed(stops, state.done),
        lengths=where_closed(lengths, state.lengths),
        ended_tokens=where_closed(following.tokens, state.ended_tokens),
        ended_scores=where_closed(value, state.ended_scores),
    )


def _candidates(state, log_probs, number):
    """Returns scores, tokens and parent beams of the best continuations, at most `number` a row."""
    batch, width, vocab_size = log_probs.shape
    total = ops.reshape(log_probs + state.score[..., None], (batch, width * vocab_size))
    value, index = ops.top_k(total, min(number, width * vocab_size))
    index = ops.cast(index, "int32")
    return value, index % vocab_size, index // vocab_size


def _appended(state, token, parent):
    """Returns the sequences of the beams `parent`, each followed by its new token."""
    is_new = ops.arange(state.tokens.shape[2], dtype="int32") == state.num_tokens
    return ops.where(is_new, token[..., None], of_beams(state.tokens, parent))


def append_tokens(search, state, token, parent):
    """Returns the `State` in which beam `i` is beam `parent[i]` followed by `token[i]`."""
    is_new = ops.arange(state.tokens.shape[2], dtype="int32") == state.num_tokens
    beams = ops.arange(parent.shape[1], dtype="int32")[None, :, None]
    following = state._replace(
        num_tokens=state.num_tokens + 1,
        tokens=_appended(state, token, parent),
        ancestors=ops.where(is_new, beams, of_beams(state.ancestors, parent)),
    )
    if not search.penalized:
        return following
    now = ops.arange(state.seen.shape[-1], dtype="int32") == token[..., None]
    return following._replace(seen=ops.logical_or(of_beams(state.seen, parent), now))


def of_beams(x, beams):
    """Gathers `x[row, beams[row]]`: `(batch, m, ...)` and `(batch, n)` to `(batch, n, ...)`."""
    index = ops.reshape(beams, (*beams.shape, *[1] * (len(x.shape) - 2)))
    index = ops.broadcast_to(index, (*beams.shape, *x.shape[2:]))
    return ops.take_along_axis(x, ops.cast(index, "int32"), axis=1)
