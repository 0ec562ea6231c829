"""Dropout, whose random numbers are cheap."""

from math import prod

import keras

from .base import register


@register
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout`, but that PyTorch draws its mask with fewer random bits on a CPU.

    There 16 random bits decide whether a number stays, so the rate is rounded to 1/65,536; what
    stays is divided by the rounded share, and the mean is kept. A layer with a seed of its own,
    and a step that is compiled, do as Keras does.

    Call arguments:
        x: a tensor of any shape, of floating point numbers.
        training: whether to drop anything.

    Returns:
        The shape of `x`.
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
        """Whether PyTorch computes with `x` on a CPU at once, and Keras' way has no more to offer."""
        if keras.backend.backend() != "torch" or self.seed is not None or self.noise_shape:
            return False
        import torch

        here = type(x) is torch.Tensor and x.device.type == "cpu"
        return here and 0 < self.rate < 1 and not torch.compiler.is_compiling()
