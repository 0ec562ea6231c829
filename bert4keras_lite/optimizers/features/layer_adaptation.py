"""Layer-wise adaptation (LAMB, arXiv 1904.00962, Algorithm 2)."""

from keras import ops

from .base import Feature, excluded, pattern_list

__all__ = ["LayerAdaptation"]


class LayerAdaptation(Feature):
    """Scales the update of a variable by the norm of the variable over that of the update."""

    def __init__(self, optimizer, layer_adaptation, exclude_from_layer_adaptation):
        super().__init__(optimizer)
        optimizer.layer_adaptation = layer_adaptation
        optimizer.not_adapted = pattern_list(exclude_from_layer_adaptation)

    def config(self):
        return {
            "layer_adaptation": self.optimizer.layer_adaptation,
            "exclude_from_layer_adaptation": self.optimizer.not_adapted,
        }

    def plan(self, variables):
        optimizer = self.optimizer
        names = optimizer.names_of(variables)
        left_out = excluded(
            "exclude_from_layer_adaptation", optimizer.not_adapted, variables, names
        )
        return [optimizer.layer_adaptation and not is_out for is_out in left_out]

    def update(self, gradient, variable, rate, inner):
        before = ops.copy(variable)
        inner(gradient, variable, ops.ones_like(rate))
        direction = ops.subtract(variable, before)
        norm, size = ops.norm(before), ops.norm(direction)
        ratio = ops.where((norm > 0) & (size > 0), norm / size, 1)
        self.optimizer.assign(variable, before + rate * ratio * direction)
