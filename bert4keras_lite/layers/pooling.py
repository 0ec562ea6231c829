"""Pooling layers: one vector for a sequence."""

import keras
from keras import ops

from ..types import Tensor
from .base import Layer, register

__all__ = ["GlobalAveragePooling1D", "GlobalMaxPooling1D"]


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
        dtype = keras.backend.result_type(x.dtype, "float32")
        weights = ops.cast(visible, dtype)
        total = ops.sum(ops.where(visible, ops.cast(x, dtype), 0.0), axis=1)
        return total / ops.maximum(ops.sum(weights, axis=1), 1.0)


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
