"""Tiger."""

import re

import keras
from keras import ops

from ..arguments import check_number
from .backends import where
from .extended import Extended
from .rates import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class Tiger(Extended, keras.optimizers.Optimizer):
    """Signs of momentum, at rates that go with the size of the variables.

    A gradient with NaN changes no momentum and shrinks the variable a little instead.

    Args:
        learning_rate: relative to the root mean square of a matrix (of each row of embeddings);
            half of it itself for biases and normalizations.
        beta: of the momentum.
        shrink: the factor of what is left of a variable (of its distance to 1, for scales of
            normalizations) when its gradient has NaN.
        kwargs: see `Extended`.

    Reference:
        Su, "Tiger: a tight-fisted optimizer", kexue.fm/archives/9512.
    """

    def __init__(
        self,
        learning_rate=0.001,
        beta=0.965,
        weight_decay=0.01,
        shrink=0.99,
        name="tiger",
        **kwargs,
    ):
        check_number("beta", beta, 0.0, 1.0)
        check_number("shrink", shrink, 0.0, 1.0)
        super().__init__(learning_rate, weight_decay=weight_decay, name=name, **kwargs)
        self.beta, self.shrink = beta, shrink

    def build(self, variables):
        if not self.built:
            super().build(variables)
            self._momentums = self.add_optimizer_variables(variables, "momentum")

    def get_config(self):
        return super().get_config() | {"beta": self.beta, "shrink": self.shrink}

    def _change(self, gradient, variable, rate, plan):
        index = self._get_variable_index(variable)
        path, m = self._trainable_variables[index].path, self._momentums[index]
        target = 0.0
        if re.search("norm|bias", path):
            target, rate = float(path.endswith("gamma")), rate / 2
        else:
            axis = -1 if "embedding" in path else None
            rate = rate * ops.sqrt(ops.mean(ops.square(variable), axis, keepdims=axis is not None))
        broken = ops.any(ops.isnan(gradient))
        moved = self.beta * m + (1 - self.beta) * gradient
        self.assign(m, where(broken, m, moved))
        step = ops.sign(m) + (ops.multiply(variable, self.weight_decay) if plan.decayed else 0)
        shrunk = (variable - target) * self.shrink + target
        self.assign(variable, ops.where(broken, shrunk, variable - rate * step))
