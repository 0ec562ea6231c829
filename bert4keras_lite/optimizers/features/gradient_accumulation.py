"""Sums the gradients of several batches before an update."""

from functools import partial

from keras import ops

from ...backend import cond_with_variables, dense_gradient
from ..keras_private import (
    GRADIENT_SUMS,
    add_gradients,
    gradient_sums,
    index_of,
    micro_batches,
)
from .base import Feature

__all__ = ["GradientAccumulation"]


class GradientAccumulation(Feature):
    """Makes each update use the mean of the gradients of `gradient_accumulation_steps` batches.

    The option and the variables are Keras' own.
    """

    state = (GRADIENT_SUMS,)
    covers_all = True
    fusable = True

    def plan(self, variables):
        return [bool(self.optimizer.gradient_accumulation_steps)] * len(variables)

    def step(self, gradients, variables, rate, inner):
        """Adds the gradients to the sums, or updates with their means on the last batch."""
        optimizer, steps = self.optimizer, self.optimizer.gradient_accumulation_steps
        sums = [gradient_sums(optimizer)[index_of(optimizer, v)] for v in variables]

        def update(rate, *grads):
            means = [
                (before if g is None else dense_gradient(g) + before) / steps
                for g, before in zip(grads, sums, strict=True)
            ]
            inner(means, variables, rate)

        def add(rate, *grads):
            present = [
                (dense_gradient(g), s) for g, s in zip(grads, sums, strict=True) if g is not None
            ]
            grads, present_sums = zip(*present, strict=True)
            if optimizer.skip_nonfinite:
                grads = [ops.where(ops.isfinite(rate), g, 0) for g in grads]
            add_gradients(optimizer, grads, present_sums)

        is_last = partial(ops.equal, (micro_batches(optimizer) + 1) % steps, 0)
        cond_with_variables(
            is_last, update, add, [rate, *gradients], [*variables, *optimizer.variables]
        )

    def update(self, gradient, variable, rate, inner):
        inner(gradient, variable, rate)
        sums = gradient_sums(self.optimizer)[index_of(self.optimizer, variable)]
        self.optimizer.assign(sums, ops.zeros(sums.shape, sums.dtype))
