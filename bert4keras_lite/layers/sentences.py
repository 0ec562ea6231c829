"""Pooling of token vectors as sentence-transformers does it."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ..parsing import shown
from ..types import Tensor
from .base import Layer, register

__all__ = ["SentencePooling"]


def _sum(x, pooled, weights=1.0):
    return ops.sum(ops.where(pooled, x * weights, 0.0), axis=1)


def _count(x, pooled):
    return ops.maximum(ops.sum(ops.cast(pooled, x.dtype), axis=1), 1e-9)


def _number(pooled):
    """Returns the number of each token among the pooled ones of its row, from 1."""
    return ops.cumsum(ops.cast(pooled, "int32"), axis=1)


def _first(x, pooled):
    return _sum(x, ops.logical_and(pooled, _number(pooled) == 1))


def _last(x, pooled):
    count = ops.sum(ops.cast(pooled, "int32"), axis=1, keepdims=True)
    return _sum(x, ops.logical_and(pooled, _number(pooled) == count))


def _maximum(x, pooled):
    return ops.max(ops.where(pooled, x, -float("inf")), axis=1)


def _mean(x, pooled):
    return _sum(x, pooled) / _count(x, pooled)


def _mean_sqrt(x, pooled):
    return _sum(x, pooled) / ops.sqrt(_count(x, pooled))


def _weighted_mean(x, pooled):
    """Weights 1, 2, 3, ... count all positions, pooled or not."""
    weights = ops.cumsum(ops.ones_like(x[:, :, :1]), axis=1)
    total = _sum(weights, pooled)
    return _sum(x, pooled, weights) / ops.maximum(total, 1e-9)


POOLINGS = {
    "cls": _first,
    "max": _maximum,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}


@register
class SentencePooling(Layer):
    """Pools the vectors of pooled tokens in one way or several, as sentence-transformers does.

    Args:
        modes: `"cls"`, `"max"`, `"mean"`, `"mean_sqrt_len_tokens"`, `"weightedmean"` or
            `"lasttoken"`; or a list of them, whose results are concatenated. Default `"mean"`.

    Call arguments:
        x: `(batch, length, dim)`.
        pooled: `(batch, length)`, not 0 at tokens to use, at least one in each row.

    Returns:
        `(batch, dim * len(modes))`, in float32 at least.

    Raises:
        ValueError: a mode is not known.

    Reference: Reimers & Gurevych, "Sentence-BERT", 2019, https://arxiv.org/abs/1908.10084.
    """

    def __init__(self, modes: str | Sequence[str] = "mean", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.modes = [modes] if isinstance(modes, str) else list(modes)
        if not self.modes or not set(self.modes) <= POOLINGS.keys():
            raise ValueError(f"modes: {shown(modes)}; expected some of {', '.join(POOLINGS)}.")

    def call(self, x: Tensor, pooled: Tensor) -> Tensor:
        x = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
        pooled = ops.cast(pooled, "bool")[..., None]
        return ops.concatenate([POOLINGS[mode](x, pooled) for mode in self.modes], axis=-1)

    def compute_output_spec(self, x: Tensor, pooled: Tensor) -> keras.KerasTensor:
        dtype = keras.backend.result_type(x.dtype, "float32")
        return keras.KerasTensor((x.shape[0], x.shape[2] * len(self.modes)), dtype)

    def compute_mask(self, x: Tensor, previous_mask: Tensor | None = None) -> None:
        return None
