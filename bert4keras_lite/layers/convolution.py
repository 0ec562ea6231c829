"""Convolution over neighbouring tokens."""

from typing import Any

import keras
from keras import ops

from ..types import Shape, Tensor
from .base import register

__all__ = ["Convolution"]


@register
class Convolution(keras.layers.Conv1D):
    """Convolution over neighbouring tokens, in which padding counts as zeros.

    Args:
        filters: size of the outputs.
        kernel_size: number of tokens, odd.
        **kwargs: other arguments of `keras.layers.Conv1D`.

    Call arguments:
        x: `(batch, length, dim)`.
        bias: attention mask as a bias, `(batch, 1, 1, length)`.

    Returns:
        `(batch, length, filters)`, zero at padding if the activation of zero is.
    """

    def __init__(self, filters: int, kernel_size: int, **kwargs: Any) -> None:
        super().__init__(filters, kernel_size, **{"padding": "same"} | kwargs)
        self.supports_masking = True

    def build(self, x_shape: Shape) -> None:
        super().build(x_shape)

    def call(self, x: Tensor, bias: Tensor) -> Tensor:
        is_token = ops.cast(bias[:, 0, 0, :, None] > -1, x.dtype)
        return super().call(x * is_token) * is_token

    def compute_output_spec(self, x: Tensor, bias: Tensor) -> keras.KerasTensor:
        return keras.KerasTensor((*x.shape[:-1], self.filters), self.compute_dtype)
