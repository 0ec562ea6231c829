"""Dropout with a faster random mask for PyTorch on a CPU."""

from math import prod

import keras

from .base import register


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

    LEVELS = 2**16

    def call(self, x, training=False):
        if not (training and self.fast(x)):
            return super().call(x, training=training)
        import torch

        dropped, count = round(self.rate * self.LEVELS), prod(x.shape)
        words = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[:count].view(x.shape)
        mask = torch.empty(x.shape, dtype=x.dtype)
        torch.ge(bits, dropped - self.LEVELS // 2, out=mask)
        return x * mask.mul_(self.LEVELS / (self.LEVELS - dropped))

    def fast(self, x):
        """Returns whether the fast mask applies: an eager PyTorch tensor on a CPU, no options."""
        if keras.backend.backend() != "torch" or self.seed is not None or self.noise_shape:
            return False
        import torch

        eager_on_cpu = type(x) is torch.Tensor and x.device.type == "cpu"
        return eager_on_cpu and 0 < self.rate < 1 and not torch.compiler.is_compiling()
