"""`bert4keras.optimizers`: Adam as bert4keras computes it, and what extends it."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from .. import optimizers
from ..backend import dense_gradient
from ..optimizers import (
    extend_with_exponential_moving_average,
    extend_with_gradient_accumulation,
    extend_with_lazy_optimization,
    extend_with_lookahead,
    extend_with_parameter_wise_lr,
    extend_with_piecewise_linear_lr,
)
from ..optimizers.bert4keras_names import extend_with
from ..optimizers.features.base import Names
from .graph import old_name

__all__ = [
    "AdaFactor",
    "AdaFactorV1",
    "AdaFactorV2",
    "Adam",
    "Lion",
    "LionV2",
    "extend_with_exponential_moving_average",
    "extend_with_exponential_moving_average_v2",
    "extend_with_gradient_accumulation",
    "extend_with_gradient_accumulation_v2",
    "extend_with_layer_adaptation",
    "extend_with_layer_adaptation_v2",
    "extend_with_lazy_optimization",
    "extend_with_lazy_optimization_v2",
    "extend_with_lookahead",
    "extend_with_lookahead_v2",
    "extend_with_parameter_wise_lr",
    "extend_with_parameter_wise_lr_v2",
    "extend_with_piecewise_linear_lr",
    "extend_with_piecewise_linear_lr_v2",
    "extend_with_weight_decay",
    "extend_with_weight_decay_v2",
]


class _Adam(keras.optimizers.Adam):
    """The update of bert4keras' Adam."""

    corrects_bias = True

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates a variable and its moments."""
        index = self._get_variable_index(variable)
        m, v = self._momentums[index], self._velocities[index]
        rate, gradient = ops.cast(learning_rate, variable.dtype), dense_gradient(gradient)
        self.assign_add(m, (gradient - m) * (1 - self.beta_1))
        self.assign_add(v, (ops.square(gradient) - v) * (1 - self.beta_2))
        mean, square = ops.convert_to_tensor(m), ops.convert_to_tensor(v)
        if self.corrects_bias:
            step = ops.cast(self.iterations + 1, variable.dtype)
            mean = mean / (1 - ops.power(ops.cast(self.beta_1, variable.dtype), step))
            square = square / (1 - ops.power(ops.cast(self.beta_2, variable.dtype), step))
        self.assign_sub(variable, rate * mean / (ops.sqrt(square) + self.epsilon))


class Adam(optimizers.extend(_Adam)):
    """Adam (arXiv 1412.6980, Algorithm 1) as in bert4keras, to be extended.

    Epsilon is 1e-6, and added after the bias correction; Keras adds it before, which is a larger
    epsilon in the first steps. `bias_correction=False` is Adam of the original BERT. Patterns of
    variables are searched in their names in bert4keras.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        bias_correction: bool = True,
        **kwargs: Any,
    ) -> None:
        moments = {"beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon}
        super().__init__(learning_rate, **moments, **kwargs)
        self.corrects_bias = bias_correction

    def names_of(self, variables: Sequence[keras.Variable]) -> Names:
        """Returns what patterns are searched in: the names of variables in bert4keras."""
        return Names([old_name(variable) for variable in variables], as_in_bert4keras=True)


def extend_with_weight_decay(base: type, name: str | None = None) -> Any:
    """Adds `weight_decay_rate` (0.01) and `exclude_from_weight_decay` (nothing)."""
    return extend_with(base, weight_decay=0.01, exclude_from_weight_decay=[])


def extend_with_layer_adaptation(base: type, name: str | None = None) -> Any:
    """Adds `exclude_from_layer_adaptation` (nothing): LAMB, if `base` is Adam with decay."""
    return extend_with(base, layer_adaptation=True, exclude_from_layer_adaptation=[])


Lion = LionV2 = optimizers.Lion
AdaFactor = AdaFactorV1 = AdaFactorV2 = optimizers.Adafactor
extend_with_exponential_moving_average_v2 = extend_with_exponential_moving_average
extend_with_gradient_accumulation_v2 = extend_with_gradient_accumulation
extend_with_layer_adaptation_v2 = extend_with_layer_adaptation
extend_with_lazy_optimization_v2 = extend_with_lazy_optimization
extend_with_lookahead_v2 = extend_with_lookahead
extend_with_parameter_wise_lr_v2 = extend_with_parameter_wise_lr
extend_with_piecewise_linear_lr_v2 = extend_with_piecewise_linear_lr
extend_with_weight_decay_v2 = extend_with_weight_decay
