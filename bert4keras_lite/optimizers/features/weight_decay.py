"""Decoupled weight decay (arXiv 1711.05101, Algorithm 2)."""

from keras import ops

from .base import Feature, excluded, pattern_list

__all__ = ["WeightDecay"]


class WeightDecay(Feature):
    """Subtracts `rate * weight_decay * variable` before the Keras optimizer's update."""

    fusable = True

    def __init__(self, optimizer, exclude_from_weight_decay):
        super().__init__(optimizer)
        optimizer.not_decayed = pattern_list(exclude_from_weight_decay)

    def config(self):
        return {"exclude_from_weight_decay": self.optimizer.not_decayed}

    def plan(self, variables):
        optimizer = self.optimizer
        names = optimizer.names_of(variables)
        left_out = excluded("exclude_from_weight_decay", optimizer.not_decayed, variables, names)
        return [bool(optimizer.weight_decay) and not is_out for is_out in left_out]

    def update(self, gradient, variable, rate, inner):
        decay = rate * self.optimizer.weight_decay
        self.optimizer.assign_sub(variable, ops.multiply(variable, decay))
        inner(gradient, variable, rate)
