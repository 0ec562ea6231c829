"""Text from a masked language model: one token after the other is forgotten and drawn anew."""

import numpy as np

from ..arguments import check_number, check_ranges, check_right_padding, integers
from .autoregressive import draw


def gibbs_sample(
    model,
    token_ids,
    steps,
    mask_id,
    positions=None,
    temperature=1.0,
    top_k=None,
    forbidden_tokens=(),
    segment_ids=None,
    callback=None,
    seed=None,
):
    """Gibbs sampling: in each step one position of each row is masked and drawn from the model.

    Args:
        model: a Keras model of `build_transformer_model(..., with_mlm=True)`, or `"linear"`, each of
            whose tokens sees those that follow.
        token_ids: where to begin, `(batch, length)`; or one row.
        steps: how many tokens of each row to draw.
        mask_id: the id of `[MASK]`.
        positions: those to be drawn, of each row, before its padding; when left out, of each row all but the first and the last
            (`[CLS]`, `[SEP]`) before the padding. In each round they come in another order; a row
            of fewer is drawn again meanwhile.
        temperature: below 1 prefers likely tokens.
        top_k: draw among so many tokens.
        forbidden_tokens: ids that are never drawn.
        segment_ids: in the shape of `token_ids`; 0 when left out.
        callback: is called with the number of the step and the rows, after each step. The rows
            change in the next step: copy what is to be kept.
        seed: of the draws.

    Returns:
        int64 array in the shape of `token_ids`.

    Raises:
        ValueError: an option out of its range, or a model that does not give scores of tokens.

    Reference:
        Wang and Cho, "BERT has a Mouth, and It Must Speak", arXiv 1902.04094, section 3; rounds
        over all positions mix faster than positions at random.

    Example:
        >>> ids, _ = tokenizer.encode("科学技术是第一生产力。")
        >>> gibbs_sample(bert, ids, 100, tokenizer.token_mask_id, positions=[1, 2, 3, 4])
    """
    given = integers("token_ids", token_ids)
    if given.ndim not in (1, 2):
        raise ValueError(f"token_ids: expected one row, or (batch, length), got {given.shape}.")
    rows = np.atleast_2d(given)
    length = rows.shape[1]
    if positions is not None:
        positions = np.unique(integers("positions", positions))
        if not len(positions) or positions.min() < 0 or positions.max() >= length:
            raise ValueError(f"positions={positions}: expected some from 0 to {length - 1}.")
    check_ranges(temperature=temperature, top_k=top_k, seed=seed)
    check_number("steps", steps, 1, 2**31 - 1)
    if len(model.outputs) != 1:
        raise ValueError(
            f"{model.name} has {len(model.outputs)} outputs: expected the scores of tokens alone; "
            "build it with with_mlm=True and no other head."
        )
    config = getattr(getattr(model, "transformer", None), "config", None)
    if config is not None and not config.with_lm:
        raise ValueError(f"{model.name} gives no scores of tokens: build it with with_mlm=True.")
    if config is not None and (config.stacks != "one" or config.attend == "lm"):
        raise ValueError(
            f"{config.family}: expected a model of one stack whose tokens see those that follow, as "
            "BERT's do. Use generate."
        )
    check_number("mask_id", mask_id, 0, 2**31 - 1)
    ids = np.append(rows, mask_id)
    if config is not None and not 0 <= ids.min() <= ids.max() < config.vocab_size:
        raise ValueError(
            f"token_ids, mask_id: ids from {ids.min()} to {ids.max()}; expected 0 to "
            f"{config.vocab_size - 1}. Take the tokenizer of this checkpoint."
        )
    size = model.outputs[0].shape[-1]
    forbidden = list(forbidden_tokens)
    for token in forbidden:
        check_number("forbidden_tokens", token, 0, size - 1)
    pad = -1 if config is None else config.pad_token_id
    check_right_padding("token_ids", rows, pad)
    if positions is not None and max(positions) > (last := min(_last(row, pad) for row in rows)):
        raise ValueError(
            f"positions: {max(positions)} is in the padding of a row; expected at most {last}."
        )
    places = [_places(row, pad) if positions is None else positions for row in rows]
    if not all(map(len, places)):
        raise ValueError("token_ids: a row has nothing between its first and its last token.")
    most = max(map(len, places))
    places = np.stack([np.resize(row, most) for row in places])
    segments = _segments(segment_ids, rows.shape, config)
    random = np.random.default_rng(seed)
    orders = random.permuted(places, axis=1)
    for step in range(steps):
        turn = step % most
        if step and not turn:
            orders = random.permuted(orders, axis=1)
        here = (np.arange(len(rows)), orders[:, turn])
        rows[here] = mask_id
        inputs = [rows, segments][: len(model.inputs)]
        scores = model.predict_on_batch(inputs if len(inputs) > 1 else rows)
        scores = np.asarray(scores)[here].astype("float64")
        if scores.min() >= 0 and np.allclose(scores.sum(-1), 1, atol=1e-2):
            scores = np.log(np.maximum(scores, 1e-30))  # the model gives probabilities
        scores[:, forbidden] = -np.inf
        scores /= temperature
        best = scores.max(1, keepdims=True)
        if not np.isfinite(best).all():
            raise ValueError(
                "No token can be drawn: forbidden_tokens leaves none, or scores are NaN."
            )
        shares = np.exp(scores - best)
        rows[here] = draw(shares, top_k, None, random)
        if callback is not None:
            callback(step, rows)
    return rows.reshape(given.shape)


def _segments(segment_ids, shape, config):
    """Segment ids for rows of a shape, once they are known to fit the model; 0 for None."""
    segments = integers("segment_ids", 0 if segment_ids is None else segment_ids)
    if segments.shape not in ((), shape[1:], shape):
        raise ValueError(
            f"segment_ids: expected the shape of token_ids, {shape}, got {segments.shape}."
        )
    size = config and (config.segment_vocab_size or config.vocab_size)
    if size and not 0 <= segments.min() <= segments.max() < size:
        raise ValueError(
            f"segment_ids: ids from {segments.min()} to {segments.max()}; expected 0 to {size - 1}."
        )
    return np.broadcast_to(segments, shape)


def _places(row, pad):
    """All but the first and the last token of a row, which padding may follow."""
    return np.arange(1, _last(row, pad))


def _last(row, pad):
    """Where the last token of a row is, which padding may follow."""
    return np.flatnonzero(row != pad)[-1:].sum()
