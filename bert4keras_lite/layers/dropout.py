"""Dropout with a faster random mask for PyTorch on a CPU."""

import keras

from ..backend import fast_dropout
from ..types import Tensor
from .base import register

__all__ = ["Dropout"]


@register
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout` with fewer random bits per number for PyTorch on a CPU.

    There 16 random bits decide whether a number is kept, so the rate is rounded to 1/65,536; kept
    numbers are divided by the rounded fraction, which preserves the mean. A layer with its own
    seed, and a compiled step, use Keras' implementation.

    Call arguments:
        x: floating-point tensor of any shape.
        training: whether to apply dropout.

    Returns:
        A tensor of the shape of `x`.
    """

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        y = None
        if training and 0 < self.rate < 1 and self.seed is None and not self.noise_shape:
            y = fast_dropout(x, self.rate)
        return super().call(x, training=training) if y is None else y
