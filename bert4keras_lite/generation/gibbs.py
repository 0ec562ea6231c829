"""Text generation with a masked language model, by Gibbs sampling."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from ..arguments import check_number, check_ranges, check_right_padding, integers
from .autoregressive import draw

__all__ = ["gibbs_sample"]


def gibbs_sample(
    model: keras.Model,
    token_ids: Any,
    steps: int,
    mask_id: int,
    positions: Any = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    forbidden_tokens: Sequence[int] = (),
    segment_ids: Any = None,
    callback: Callable | None = None,
    seed: int | None = None,
) -> np.ndarray:
    """Samples rows of tokens: each step masks one position of each row and samples its token.

    Args:
        model: a bidirectional Keras model of `build_transformer_model(..., with_mlm=True)` or
            `with_mlm="linear"`.
        token_ids: initial ids, `(batch, length)`, or one row.
        steps: number of tokens to sample in each row.
        mask_id: the id of `[MASK]`.
        positions: the positions to sample, the same in each row, before its padding. By default
            all of a row but the first and last token (`[CLS]`, `[SEP]`) before its padding. Each
            round over the positions has a new order; rows with fewer positions than others sample
            theirs more than once.
        temperature: below 1 (the default) prefers likely tokens.
        top_k: sample from this many most likely tokens; None: from all.
        forbidden_tokens: ids that are never sampled.
        segment_ids: in the shape of `token_ids`; 0 by default.
        callback: called with the number of the step and the rows, after each step. The rows
            change in the next step, so copy what you keep.
        seed: seed of the samples.

    Returns:
        int64 array in the shape of `token_ids`.

    Raises:
        ValueError: an option is out of its range, or the model has no language-model output.

    Example:
        >>> ids, _ = tokenizer.encode("科学技术是第一生产力。")
        >>> gibbs_sample(bert, ids, 100, tokenizer.token_mask_id, positions=[1, 2, 3, 4])

    Reference:
        Wang and Cho, "BERT has a Mouth, and It Must Speak", arXiv 1902.04094, section 3. Rounds
        over all positions mix faster than random positions.
    """
    given = integers("token_ids", token_ids)
    if given.ndim not in (1, 2):
        raise ValueError(
            f"token_ids: expected one row or (batch, length), got an array of shape {given.shape}."
        )
    rows = np.atleast_2d(given)
    length = rows.shape[1]
    if positions is not None:
        positions = np.unique(integers("positions", positions))
        if not len(positions) or positions.min() < 0 or positions.max() >= length:
            raise ValueError(
                f"positions={positions!s:.200}: expected one or more from 0 to {length - 1}."
            )
    check_ranges(temperature=temperature, top_k=top_k, seed=seed)
    check_number("steps", steps, 1, 2**31 - 1)
    if len(model.outputs) != 1:
        raise ValueError(
            f"{model.name}: the model has {len(model.outputs)} outputs; expected one, the "
            "logits of tokens. Build it with with_mlm=True and no other head."
        )
    config = getattr(getattr(model, "transformer", None), "config", None)
    if config is not None and not config.with_lm:
        raise ValueError(
            f"{model.name}: the model has no language-model head. Build it with with_mlm=True."
        )
    if config is not None and (config.stacks != "one" or config.attend == "lm"):
        raise ValueError(
            f"{config.family}: expected a bidirectional model of one stack, such as BERT. Use "
            "generate for this one."
        )
    check_number("mask_id", mask_id, 0, 2**31 - 1)
    ids = np.append(rows, mask_id)
    if config is not None and not 0 <= ids.min() <= ids.max() < config.vocab_size:
        raise ValueError(
            f"token_ids, mask_id: ids from {ids.min()} to {ids.max()}; expected 0 to "
            f"{config.vocab_size - 1}. Use the tokenizer of this checkpoint."
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
    row_positions = [_positions(row, pad) if positions is None else positions for row in rows]
    if not all(map(len, row_positions)):
        raise ValueError(
            "token_ids: a row has no tokens between its first and its last. Pass positions."
        )
    most = max(map(len, row_positions))
    filled = np.stack([np.resize(row, most) for row in row_positions])
    segments = _segments(segment_ids, rows.shape, config)
    random = np.random.default_rng(seed)
    orders = random.permuted(filled, axis=1)
    for step in range(steps):
        turn = step % most
        if step and not turn:
            orders = random.permuted(orders, axis=1)
        index = (np.arange(len(rows)), orders[:, turn])
        rows[index] = mask_id
        inputs = [rows, segments][: len(model.inputs)]
        logits = model.predict_on_batch(inputs if len(inputs) > 1 else rows)
        logits = np.asarray(logits)[index].astype("float64")
        if logits.min() >= 0 and np.allclose(logits.sum(-1), 1, atol=1e-2):
            logits = np.log(np.maximum(logits, 1e-30))  # the model's output is probabilities
        logits[:, forbidden] = -np.inf
        logits /= temperature
        best = logits.max(1, keepdims=True)
        if not np.isfinite(best).all():
            raise ValueError(
                "forbidden_tokens: no token can be drawn; all are forbidden, or the logits are NaN."
            )
        rows[index] = draw(np.exp(logits - best), top_k, None, random)
        if callback is not None:
            callback(step, rows)
    return rows.reshape(given.shape)


def _segments(segment_ids, shape, config):
    """Checks segment ids and broadcasts them to the shape of the rows; None gives 0."""
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


def _positions(row, pad):
    """Returns all positions of a row but the first, the last before the padding, and padding."""
    return np.arange(1, _last(row, pad))


def _last(row, pad):
    """Returns the position of the last token before the padding of a row."""
    return np.flatnonzero(row != pad)[-1:].sum()
