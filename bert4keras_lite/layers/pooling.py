"""Pooling layers: one vector for a sequence."""

from typing import Any

import keras
from keras import ops

from ..types import Tensor
from .base import Layer, register

__all__ = ["GlobalAveragePooling1D", "GlobalMaxPooling1D", "TokenPooling"]


class GlobalPooling1D(Layer):
    """Base class of the poolings: shapes, and masks."""

    def call(self, x: Tensor, visible: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        visible = mask if visible is None else visible
        if visible is None:
            visible = ops.ones_like(x[..., 0], dtype="bool")
        return ops.cast(self.pool(x, ops.cast(visible, "bool")[..., None]), x.dtype)

    def compute_output_spec(
        self, x: Tensor, visible: Tensor | None = None, mask: Tensor | None = None
    ) -> keras.KerasTensor:
        return keras.KerasTensor((x.shape[0], x.shape[2]), self.compute_dtype)

    def compute_mask(self, x: Tensor, previous_mask: Tensor | None = None) -> Tensor | None:
        return None


@register
class GlobalAveragePooling1D(GlobalPooling1D):
    """Averages the vectors of the unmasked tokens of a sequence, in float32 at least.

    Call arguments:
        x: `(batch, length, dim)`.
        visible: bool `(batch, length)`, True at tokens to use. Defaults to Keras' implicit mask.

    Returns:
        `(batch, dim)`; zeros if all tokens are masked.

    Example:

        sentence = GlobalAveragePooling1D()(bert.output)
    """

    def pool(self, x: Tensor, visible: Tensor | None) -> Tensor:
        return mean_of_tokens(x, visible)


@register
class GlobalMaxPooling1D(GlobalPooling1D):
    """Takes the element-wise maximum of the vectors of the unmasked tokens of a sequence.

    Call arguments:
        x: `(batch, length, dim)`.
        visible: bool `(batch, length)`, True at tokens to use. Defaults to Keras' implicit mask.

    Returns:
        `(batch, dim)`; zeros if all tokens are masked.

    Example:

        sentence = GlobalMaxPooling1D()(bert.output)
    """

    def pool(self, x: Tensor, visible: Tensor | None) -> Tensor:
        largest = ops.max(ops.where(visible, x, -float("inf")), axis=1)
        return ops.where(ops.any(visible, axis=1), largest, 0.0)


def mean_of_tokens(x, is_token):
    """Averages the vectors of tokens, in float32 at least.

    Args:
        x: `(batch, length, dim)`.
        is_token: bool `(batch, length, 1)`.

    Returns:
        `(batch, dim)`; zeros for a row without tokens.
    """
    dtype = keras.backend.result_type(x.dtype, "float32")
    weights = ops.cast(is_token, dtype)
    total = ops.sum(ops.where(is_token, ops.cast(x, dtype), 0.0), axis=1)
    return total / ops.maximum(ops.sum(weights, axis=1), 1.0)


@register
class TokenPooling(Layer):
    """Takes one vector of a sequence: of the first or the last token, or the mean over the tokens.

    Args:
        position: `"first"` (default), `"last"` or `"mean"`.
        pad_token_id: id of padding, which is not a token, except at position 0; -1: there is none.

    Call arguments:
        x: `(batch, length, dim)`.
        token_ids: `(batch, length)`.

    Returns:
        `(batch, dim)`.
    """

    def __init__(self, position: str = "first", pad_token_id: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.position, self.pad_token_id = position, pad_token_id

    def call(self, x: Tensor, token_ids: Tensor) -> Tensor:
        if self.position == "first":
            return x[:, 0]
        indices = ops.arange(ops.shape(token_ids)[1])
        is_token = ops.logical_or(ops.not_equal(token_ids, self.pad_token_id), indices == 0)
        if self.position == "mean":
            return ops.cast(mean_of_tokens(x, is_token[..., None]), x.dtype)
        last = ops.max(ops.where(is_token, indices, 0), axis=1)
        return ops.take_along_axis(x, last[:, None, None], axis=1)[:, 0]

    def compute_output_spec(self, x: Tensor, token_ids: Tensor) -> keras.KerasTensor:
        return keras.KerasTensor((x.shape[0], x.shape[2]), self.compute_dtype)

    def compute_mask(self, x: Tensor, previous_mask: Tensor | None = None) -> Tensor | None:
        return None
