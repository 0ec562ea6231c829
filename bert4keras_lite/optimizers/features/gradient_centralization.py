"""Gradient centralization (arXiv 2004.01461, equation 1)."""

from keras import ops

from .base import Feature

__all__ = ["GradientCentralization"]


class GradientCentralization(Feature):
    """Subtracts the mean over their inputs from gradients of matrices, except embeddings."""

    def __init__(self, optimizer, gradient_centralization):
        super().__init__(optimizer)
        optimizer.gradient_centralization = gradient_centralization

    def config(self):
        return {"gradient_centralization": self.optimizer.gradient_centralization}

    def plan(self, variables):
        return [
            self.optimizer.gradient_centralization
            and len(variable.shape) > 1
            and "embedding" not in variable.path
            for variable in variables
        ]

    def update(self, gradient, variable, rate, inner):
        inputs = tuple(range(len(gradient.shape) - 1))
        gradient = gradient - ops.mean(gradient, axis=inputs, keepdims=True)
        inner(gradient, variable, rate)
