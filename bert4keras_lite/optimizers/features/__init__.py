"""Features of the optimizers, one a file; `OptimizerExtensions` composes them in a fixed order.

A new one subclasses `base.Feature`, which says when its methods are called. It is `fusable` only if
`adam.update_at_once` does the same.
"""

from .bias_correction import BiasCorrection
from .gradient_accumulation import GradientAccumulation
from .gradient_centralization import GradientCentralization
from .layer_adaptation import LayerAdaptation
from .lazy import LazyRows
from .learning_rates import LearningRates
from .lookahead import SlowWeights
from .moving_average import AveragedWeights, MovingAverage
from .skip_nonfinite import SkipNonfinite
from .weight_decay import WeightDecay

__all__ = [
    "AveragedWeights",
    "BiasCorrection",
    "GradientAccumulation",
    "GradientCentralization",
    "LayerAdaptation",
    "LazyRows",
    "LearningRates",
    "MovingAverage",
    "SkipNonfinite",
    "SlowWeights",
    "WeightDecay",
]
