"""Adam without bias correction, as the original BERT was trained."""

import keras

from .. import adam
from .base import Feature

__all__ = ["BiasCorrection"]


class BiasCorrection(Feature):
    """With `bias_correction=False`, divides the rate by Adam's factor, which cancels it."""

    fusable = True

    def __init__(self, optimizer, bias_correction):
        super().__init__(optimizer)
        if not bias_correction and not isinstance(optimizer, keras.optimizers.Adam):
            raise ValueError(
                "bias_correction=False: expected an optimizer with bias correction, such as Adam, "
                f"got {type(optimizer).__name__}."
            )
        optimizer.bias_correction = bias_correction

    def config(self):
        return {"bias_correction": self.optimizer.bias_correction}

    def plan(self, variables):
        return [not self.optimizer.bias_correction] * len(variables)

    def update(self, gradient, variable, rate, inner):
        correction = adam.bias_correction(self.optimizer, variable.dtype)
        inner(gradient, variable, rate / correction)
