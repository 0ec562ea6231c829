"""Optimizers: Keras' optimizers with more options, Tiger, learning rate schedules.

`extend(keras.optimizers.AdamW)` is AdamW with more keyword arguments; `AdamW`, `Lion` and others in
this package are made by it. Each option is a feature in `features`, which acts at its place in one
update (see `OptimizerExtensions.features`), so options may be combined freely:

    gradients, skipped where not finite -> summed over micro-batches and replicas
    -> clipped -> centralized
    -> decayed and updated at the rate of the variable, or only the rows with a gradient
    -> adapted to the norm of the variable -> Lookahead -> moving average

All counts are of updates, not of micro-batches. `extend_with_...` are aliases compatible with
bert4keras.
"""

from ..deprecated import moved
from .averages import EvaluateAverages
from .bert4keras_names import (
    extend_with_exponential_moving_average,
    extend_with_gradient_accumulation,
    extend_with_layer_adaptation,
    extend_with_lazy_optimization,
    extend_with_lookahead,
    extend_with_parameter_wise_lr,
    extend_with_piecewise_linear_lr,
    extend_with_weight_decay,
)
from .extended import (
    SGD,
    Adafactor,
    Adam,
    AdamW,
    Lazy,
    Lion,
    Lookahead,
    OptimizerExtensions,
    extend,
)
from .loss_scale import LossScaleOptimizer
from .schedules import PiecewiseLinear, layerwise_multipliers, linear_decay
from .tiger import Tiger

__all__ = [
    "SGD",
    "Adafactor",
    "Adam",
    "AdamW",
    "EvaluateAverages",
    "Lazy",
    "Lion",
    "Lookahead",
    "LossScaleOptimizer",
    "OptimizerExtensions",
    "PiecewiseLinear",
    "Tiger",
    "extend",
    "extend_with_exponential_moving_average",
    "extend_with_gradient_accumulation",
    "extend_with_layer_adaptation",
    "extend_with_lazy_optimization",
    "extend_with_lookahead",
    "extend_with_parameter_wise_lr",
    "extend_with_piecewise_linear_lr",
    "extend_with_weight_decay",
    "layerwise_multipliers",
    "linear_decay",
]

__getattr__ = moved(__name__, {"Extended": "optimizers.OptimizerExtensions"})
