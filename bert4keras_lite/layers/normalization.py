"""Normalization layers, optionally conditional."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from ..backend import layer_norm
from ..types import Shape, Tensor
from .base import Layer, dense, register

__all__ = ["NORMS", "LayerNormalization", "ScaleOffset"]

# types of normalization, as arguments of `LayerNormalization`
NORMS: dict[str, dict[str, Any]] = {
    "layer": {},
    "rms": {"zero_mean": False, "offset": False},
    "rms_plus_one": {"zero_mean": False, "offset": False, "plus_one": True},
    "plain_rms": {"zero_mean": False, "offset": False, "scale": False},
    "bias_free": {"offset": False},
}


@register
class ScaleOffset(Layer):
    """Scales and shifts the last axis: `gamma * x + beta`, both optionally conditional.

    With a condition `c` it is `gamma + W_g c` and `beta + W_b c`. Both matrices are initialized to
    zero, so that training starts from the unconditional (pretrained) layer.

    Args:
        scale: whether there is a `gamma`.
        offset: whether there is a `beta`.
        plus_one: whether `1 + gamma` takes the place of `gamma`, which then starts at zero.
        hidden_units: size of a dense layer applied to `c` first; None: there is none.
        hidden_activation: activation of that layer.
        initializer_range: standard deviation of its initial weights.

    Call arguments:
        x: `(batch, ..., dim)`.
        condition: `(batch, size)`, or a tensor with as many axes as `x`.

    Returns:
        A tensor of the shape of `x`.

    Reference:
        Conditional layer normalization, https://kexue.fm/archives/7124
    """

    def __init__(
        self,
        scale: bool = True,
        offset: bool = True,
        plus_one: bool = False,
        hidden_units: int | None = None,
        hidden_activation: str | Callable = "linear",
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.scale = scale
        self.offset = offset
        self.plus_one = plus_one
        self.hidden_units = hidden_units
        self.hidden_activation = hidden_activation
        self.initializer_range = initializer_range

    def build(self, x_shape: Shape, condition_shape: Shape | None = None) -> None:
        self.dim = dim = x_shape[-1]
        self.gamma = self.beta = None
        if self.scale:
            initializer = "zeros" if self.plus_one else "ones"
            self.gamma = self.add_weight(name="gamma", shape=(dim,), initializer=initializer)
        if self.offset:
            self.beta = self.add_weight(name="beta", shape=(dim,), initializer="zeros")
        if condition_shape is None:
            return
        if self.hidden_units:
            self.hidden_dense = dense(
                self,
                "hidden_dense",
                condition_shape,
                self.hidden_units,
                self.hidden_activation,
                use_bias=False,
            )
            condition_shape = (*condition_shape[:-1], self.hidden_units)
        zeros = {"use_bias": False, "kernel_initializer": "zeros"}
        if self.scale:
            self.gamma_dense = dense(self, "gamma_dense", condition_shape, dim, **zeros)
        if self.offset:
            self.beta_dense = dense(self, "beta_dense", condition_shape, dim, **zeros)

    def call(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        gamma, beta = self.scale_and_offset(x, condition)
        if gamma is not None:
            x = x * gamma
        return x if beta is None else x + beta

    def scale_and_offset(
        self, x: Tensor, condition: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Returns the factor of `x` and what is added to it; None: there is none."""
        gamma, beta = self.gamma, self.beta
        if condition is not None:
            while len(condition.shape) < len(x.shape):
                condition = ops.expand_dims(condition, 1)
            if self.hidden_units:
                condition = self.hidden_dense(condition)
            if self.scale:
                gamma = gamma + self.gamma_dense(condition)
            if self.offset:
                beta = beta + self.beta_dense(condition)
        if gamma is not None:
            gamma = ops.cast(gamma, x.dtype)
            gamma = 1 + gamma if self.plus_one else gamma
        return gamma, beta if beta is None else ops.cast(beta, x.dtype)

    def compute_output_shape(self, x_shape: Shape, condition_shape: Shape | None = None) -> Shape:
        return tuple(x_shape)


@register
class LayerNormalization(ScaleOffset):
    """Layer normalization, optionally conditional (see `ScaleOffset`).

    Mean and variance are computed in float32 at least, for accuracy in half precision.

    Args:
        epsilon: added to the variance.
        zero_mean: whether to subtract the mean; False is RMS normalization.

    Call arguments:
        x: `(batch, ..., dim)`.
        condition: `(batch, size)` or None.

    Returns:
        A tensor of the shape of `x`.

    Reference:
        Ba et al., "Layer Normalization", arXiv 1607.06450, equation 4; Zhang and Sennrich, "Root
        Mean Square Layer Normalization", arXiv 1910.07467, equation 4.
    """

    def __init__(self, epsilon: float = 1e-12, zero_mean: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.zero_mean = zero_mean

    def call(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        y = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
        if not self.zero_mean:
            y = y * ops.rsqrt(ops.mean(ops.square(y), axis=-1, keepdims=True) + self.epsilon)
        elif condition is None:
            y = layer_norm(y, self.dim, self.epsilon, *self.scale_and_offset(y, None))
            return ops.cast(y, x.dtype)
        else:
            y = layer_norm(y, self.dim, self.epsilon)
        return ops.cast(super().call(y, condition), x.dtype)
