"""From the vectors of a sequence to one vector."""

import keras
from keras import ops

from .base import Layer, register


class GlobalPooling1D(Layer):
    """What poolings share: shapes, and that a hidden token has no influence."""

    def call(self, x, visible=None, mask=None):
        visible = mask if visible is None else visible
        if visible is None:
            visible = ops.ones_like(x[..., 0], dtype="bool")
        return ops.cast(self.pool(x, ops.cast(visible, "bool")[..., None]), x.dtype)

    def compute_output_spec(self, x, visible=None, mask=None):
        return keras.KerasTensor((x.shape[0], x.shape[2]), self.compute_dtype)

    def compute_mask(self, x, previous_mask=None):
        return None


@register
class GlobalAveragePooling1D(GlobalPooling1D):
    """The mean of a sequence's visible vectors, summed in float32 at least.

    Call arguments:
        x: `(batch, length, dim)`.
        visible: booleans `(batch, length)`, which tokens count; those of Keras' own mask when
            left out.

    Returns:
        `(batch, dim)`; zeros where no token is visible.

    Example:

        sentence = GlobalAveragePooling1D()(bert.output)
    """

    def pool(self, x, visible):
        dtype = keras.backend.result_type(x.dtype, "float32")
        weights = ops.cast(visible, dtype)
        total = ops.sum(ops.where(visible, ops.cast(x, dtype), 0.0), axis=1)
        return total / ops.maximum(ops.sum(weights, axis=1), 1.0)


@register
class GlobalMaxPooling1D(GlobalPooling1D):
    """The largest number of a sequence's visible vectors, in each place.

    Call arguments:
        x: `(batch, length, dim)`.
        visible: booleans `(batch, length)`, which tokens count; those of Keras' own mask when
            left out.

    Returns:
        `(batch, dim)`; zeros where no token is visible.

    Example:

        sentence = GlobalMaxPooling1D()(bert.output)
    """

    def pool(self, x, visible):
        largest = ops.max(ops.where(visible, x, -float("inf")), axis=1)
        return ops.where(ops.any(visible, axis=1), largest, 0.0)
