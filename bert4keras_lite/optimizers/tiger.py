"""Tiger optimizer: sign momentum, weights shrunk on NaN."""

import re
from typing import Any

import keras
from keras import ops

from ..arguments import check_number
from ..backend import where
from .extended import OptimizerExtensions
from .features import WeightDecay
from .features.base import Feature
from .keras_private import index_of, weights
from .schedules import PACKAGE

__all__ = ["Tiger"]


class OwnWeightDecay(WeightDecay):
    """Only plans which variables decay: Tiger's update decays them."""

    update = Feature.update


@keras.saving.register_keras_serializable(PACKAGE)
class Tiger(OptimizerExtensions, keras.optimizers.Optimizer):
    """Tiger optimizer: the sign of the momentum, at a rate relative to the size of the variable.

    A gradient with NaN leaves the momentum unchanged and shrinks the variable a little instead.

    Args:
        learning_rate: relative to the root mean square of a matrix (of each row of embeddings);
            biases and normalizations use half of it as an absolute rate.
        beta: decay rate of the momentum.
        shrink: factor applied to a variable (for scales of normalizations, to its distance
            to 1) when its gradient has NaN.
        kwargs: see `OptimizerExtensions`.

    Reference:
        Su, "Tiger: a tight-fisted optimizer", kexue.fm/archives/9512.
    """

    WEIGHT_DECAY = OwnWeightDecay

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta: float = 0.965,
        weight_decay: float | None = 0.01,
        shrink: float = 0.99,
        name: str = "tiger",
        **kwargs: Any,
    ) -> None:
        check_number("beta", beta, 0.0, 1.0)
        check_number("shrink", shrink, 0.0, 1.0)
        super().__init__(learning_rate, weight_decay=weight_decay, name=name, **kwargs)
        self.beta, self.shrink = beta, shrink

    def build(self, variables: list[keras.Variable]) -> None:
        if not self.built:
            super().build(variables)
            self.momentums = self.add_optimizer_variables(variables, "momentum")

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"beta": self.beta, "shrink": self.shrink}

    def _inner_update(self, gradient, variable, rate):
        index = index_of(self, variable)
        path, m = weights(self)[index].path, self.momentums[index]
        target = 0.0
        if re.search("norm|bias", path):
            target, rate = float(path.endswith("gamma")), rate / 2
        else:
            axis = -1 if "embedding" in path else None
            rate = rate * ops.sqrt(ops.mean(ops.square(variable), axis, keepdims=axis is not None))
        has_nan = ops.any(ops.isnan(gradient))
        new_m = self.beta * m + (1 - self.beta) * gradient
        self.assign(m, where(has_nan, m, new_m))
        decays = self.weight_decays.applies[index]
        step = ops.sign(m) + (ops.multiply(variable, self.weight_decay) if decays else 0)
        shrunk = (variable - target) * self.shrink + target
        self.assign(variable, ops.where(has_nan, shrunk, variable - rate * step))
