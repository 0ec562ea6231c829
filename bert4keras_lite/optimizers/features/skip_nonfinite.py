"""Skips batches whose gradients are not finite, and counts them."""

import keras
from keras import ops

from ...backend import all_finite
from ..keras_private import micro_batches
from .base import Feature, unchanged_unless

__all__ = ["SkipNonfinite"]


class SkipNonfinite(Feature):
    """Leaves everything but the counts unchanged; outermost, so that it covers all the others.

    A rate that is not finite makes each replica and each variable skip the update.
    """

    fusable = True

    def __init__(self, optimizer, skip_nonfinite):
        super().__init__(optimizer)
        if skip_nonfinite and isinstance(optimizer, keras.optimizers.Nadam):
            raise ValueError(
                "skip_nonfinite: not supported by Nadam, whose momentum schedule is shared by all "
                "variables. Use Adam or AdamW."
            )
        optimizer.skip_nonfinite = skip_nonfinite

    def config(self):
        return {"skip_nonfinite": self.optimizer.skip_nonfinite}

    def plan(self, variables):
        return [self.optimizer.skip_nonfinite] * len(variables)

    def build(self, variables):
        optimizer = self.optimizer
        if optimizer.skip_nonfinite:
            optimizer.skipped, optimizer.skipped_in_a_row = (
                optimizer.add_variable((), "zeros", "int", "only_first_replica", name=name)
                for name in ("skipped", "skipped_in_a_row")
            )

    def step(self, gradients, variables, rate, inner):
        finite = all_finite([gradient for gradient in gradients if gradient is not None])
        inner(gradients, variables, ops.where(finite, rate, float("nan")))
        optimizer, batches = self.optimizer, micro_batches(self.optimizer)
        skipped = ops.cast(ops.logical_not(finite), batches.dtype)
        optimizer.skipped.assign_add(skipped)
        optimizer.skipped_in_a_row.assign((optimizer.skipped_in_a_row + skipped) * skipped)
        batches.assign_sub(skipped)  # Keras is going to add 1

    def update(self, gradient, variable, rate, inner):
        with unchanged_unless(ops.isfinite(rate), self.optimizer, variable):
            inner(gradient, variable, rate)
