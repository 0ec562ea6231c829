"""Options added to Keras' optimizers, and the extended optimizers."""

import inspect
from collections.abc import Sequence
from functools import cache
from numbers import Real
from typing import Any

import keras
from keras import ops

from ..arguments import check_number, checks_flags
from ..backend import dense_gradient, each_row_once
from ..types import Tensor
from . import adam
from .features import (
    AveragedWeights,
    BiasCorrection,
    GradientAccumulation,
    GradientCentralization,
    LayerAdaptation,
    LazyRows,
    LearningRates,
    MovingAverage,
    SkipNonfinite,
    SlowWeights,
    WeightDecay,
)
from .features.base import Names, surround_step, surround_update, unchanged_unless
from .keras_private import (
    PrivateMethods,
    class_of_instances,
    index_of,
    is_overwritten,
    public_class,
    weights,
)
from .schedules import MOST_RATE, PACKAGE, PiecewiseLinear

__all__ = [
    "SGD",
    "Adafactor",
    "Adam",
    "AdamW",
    "Lazy",
    "Lion",
    "Lookahead",
    "OptimizerExtensions",
    "extend",
]

# ranges of Keras' own options
RANGES = {
    "weight_decay": (0.0, 1e12),
    "clipnorm": (0.0, 1e12),  # 0: Keras does not clip
    "clipvalue": (0.0, 1e12),
    "global_clipnorm": (0.0, 1e12),
    "loss_scale_factor": (1e-12, 1e12),
    "ema_momentum": (0.0, 1.0),
    "gradient_accumulation_steps": (2, 2**31 - 1),
    "beta_1": (0.0, 1.0),
    "beta_2": (0.0, 1.0),
}


class OptimizerExtensions(AveragedWeights, PrivateMethods):
    """Mixin that adds options to a Keras optimizer; see `extend`.

    Each option is a feature in the package `features`. `features` lists them in the order in which
    they act, whatever the order of arguments: each surrounds the following ones, and the innermost
    surround the update of the Keras optimizer.

    Patterns are case-insensitive regular expressions, searched for in the paths of variables
    (`block_0/ffn/input/kernel`), within five seconds for all patterns of an option. A
    pattern that matches no variable raises a `ValueError`, as it is usually a typo.

    Args:
        learning_rate: float or schedule.
        lr_schedule: points of a `PiecewiseLinear` by which `learning_rate` is multiplied.
        lr_multipliers: dict of pattern -> factor of the learning rate, or points of a
            `PiecewiseLinear`; the first matching pattern applies. See `layerwise_multipliers`.
        weight_decay: float; each update subtracts `rate * weight_decay * variable` (arXiv
            1711.05101, Algorithm 2, whose schedule multiplier is our rate).
        exclude_from_weight_decay: patterns. Defaults to biases and all variables of
            normalizations.
        bias_correction: `False`: Adam without it, as the original BERT was trained.
        layer_adaptation: whether to scale the update of each variable by the norm of the variable
            over that of the update (LAMB, arXiv 1904.00962, Algorithm 2, if used with AdamW).
        exclude_from_layer_adaptation: patterns. Defaults as above.
        gradient_centralization: whether to subtract the mean over their inputs from gradients of
            matrices, except embeddings (arXiv 2004.01461, equation 1).
        lazy: patterns of embeddings. Rows without a gradient stay unchanged, including their
            moments and decay. TensorFlow and PyTorch do not touch them, so an update costs only the
            rows of the batch; on JAX, whose gradients have all rows, it costs more than a
            plain one (benchmarks/optimizers.py).
        lookahead: `(sync_period, slow_step)` (arXiv 1907.08610, Algorithm 1). After every
            `sync_period` updates, the slow weights (initially the weights before the first update)
            move `slow_step` of the way to the weights, and the weights are set to them. This holds
            for all trainable variables, with or without a gradient in that update.
        ema_momentum: momentum of a moving average of all trainable variables. Until the end of the
            first update it equals the variables (so weights may be loaded after `build`). It enters
            the model only by `averaged_weights` or the callback `EvaluateAverages`; unlike in Keras
            not at the end of `fit`, so that a second `fit` continues the first.
        gradient_accumulation_steps: number of batches per update, which uses the mean of their
            gradients, for all variables that have one in any of these batches.
        skip_nonfinite: whether to skip batches with a gradient that is not finite: weights,
            moments, averages, sums and `iterations` stay unchanged. (With accumulation, the update
            waits for another batch.) The variables `skipped` and `skipped_in_a_row` count such
            batches. All of this stays on the device, without synchronization. (In `mixed_float16`
            use `optimizers.LossScaleOptimizer`, or nothing is counted: Keras' loss scaling skips
            such batches itself.)
        kwargs: arguments of the Keras optimizer.

    Raises:
        ValueError: a pattern matches no variable, or an option is out of its range.

    Example:
        >>> optimizer = AdamW(
        ...     2e-5, weight_decay=0.01, lr_schedule={100: 1.0, 1000: 0.0},
        ...     lr_multipliers={"crf": 100}, lookahead=(5, 0.5), ema_momentum=0.999)
    """

    WEIGHT_DECAY = WeightDecay  # the feature; a subclass may decay in its own update

    @checks_flags
    def __init__(
        self,
        learning_rate: Any = None,
        *,
        lr_schedule: dict | None = None,
        lr_multipliers: dict[str, Any] | None = None,
        exclude_from_weight_decay: Sequence[str] | None = None,
        bias_correction: bool = True,
        layer_adaptation: bool = False,
        exclude_from_layer_adaptation: Sequence[str] | None = None,
        gradient_centralization: bool = False,
        lazy: Sequence[str] = (),
        lookahead: tuple[int, float] | None = None,
        ema_momentum: float | None = None,
        skip_nonfinite: bool = False,
        **kwargs: Any,
    ) -> None:
        if learning_rate is None:
            base = type(self).__mro__[type(self).__mro__.index(PrivateMethods) + 1]
            learning_rate = inspect.signature(base).parameters["learning_rate"].default
        if isinstance(learning_rate, Real):
            check_number("learning_rate", learning_rate, 0.0, MOST_RATE)
            learning_rate = float(learning_rate)
        elif lr_schedule is not None:
            raise ValueError(
                f"lr_schedule: expected a number as learning_rate, got {learning_rate!r:.200}."
            )
        if lr_schedule is not None:
            learning_rate = PiecewiseLinear(learning_rate, lr_schedule)
        if ema_momentum is not None:
            kwargs |= {"use_ema": True, "ema_momentum": ema_momentum}
        for name in RANGES.keys() & kwargs.keys():
            if kwargs[name] is not None:
                check_number(name, kwargs[name], *RANGES[name])
        super().__init__(learning_rate, **kwargs)
        self.learning_rates = LearningRates(self, lr_multipliers)
        self.weight_decays = self.WEIGHT_DECAY(self, exclude_from_weight_decay)
        self.lazy_rows = LazyRows(self, lazy)
        self._around = (  # of all weights, with or without a gradient
            SkipNonfinite(self, skip_nonfinite),
            MovingAverage(self),
            SlowWeights(self, lookahead),
            GradientAccumulation(self),  # its `step` decides whether any feature updates
        )
        self._within = (  # of weights with a gradient
            self.learning_rates,
            GradientCentralization(self, gradient_centralization),
            LayerAdaptation(self, layer_adaptation, exclude_from_layer_adaptation),
            self.lazy_rows,
            self.weight_decays,
            BiasCorrection(self, bias_correction),
        )
        self.features = self._around + self._within

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for feature in self.features:
            config |= feature.config()
        return config

    def build(self, variables: list[keras.Variable]) -> None:
        """Plans which features apply to which variables, then adds Keras' and their variables.

        The last features add theirs first: files hold the variables in this order.
        """
        if self.built:
            return
        for feature in self.features:
            feature.applies = feature.plan(variables)
        others = [feature.applies for feature in self.features if not feature.fusable]
        self.fusable = [not any(column) for column in zip(*others, strict=True)]
        # indices of weights without a gradient in this batch
        self.absent: frozenset[int] = frozenset()
        super().build(variables)
        for feature in reversed(self.features):
            feature.build(variables)

    def names_of(self, variables: Sequence[keras.Variable]) -> Names:
        """Returns what patterns of variables are searched in: their paths."""
        return Names([variable.path for variable in variables])

    def _on_gradients(self, gradients, variables):
        """Makes one step with the gradients of a batch: an update, unless it only adds to sums."""
        rate = ops.convert_to_tensor(self.learning_rate)
        if any(any(feature.applies) for feature in self.features if feature.covers_all):
            gradients, variables = self._with_absent(gradients, variables)
        surround_step(self.features, self._update_all)(gradients, variables, rate)

    def _with_absent(self, gradients, variables):
        """Adds the variables without a gradient, for the features that cover all."""
        present = {index_of(self, variable) for variable in variables}
        absent = {
            i: variable
            for i, variable in enumerate(weights(self))
            if i not in present and not is_overwritten(self, variable)
        }
        self.absent = frozenset(absent)
        return [*gradients, *[None] * len(absent)], [*variables, *absent.values()]

    def _reduced(self, gradient, variable):
        """Returns a gradient with one term for each row: sparse for `lazy`, or else dense."""
        if self.lazy_rows.applies[index_of(self, variable)]:
            return each_row_once(gradient)
        return dense_gradient(gradient)

    def _update_at_once(self, pairs, rate):
        """Updates those of the variables that it can by one operation; returns the other pairs."""
        return adam.update_at_once(self, pairs, rate) if adam.is_plain(self) else pairs

    def update_step(
        self, gradient: Tensor | None, variable: keras.Variable, learning_rate: Any
    ) -> None:
        """Updates one variable (on TensorFlow a `tf.Variable`).

        Args:
            gradient: None: only the slow weights and the average of the variable are updated.
            variable: the variable.
            learning_rate: scalar.
        """
        update = surround_update(self._around, index_of(self, variable), self._descend)
        update(gradient, variable, learning_rate)

    def _descend(self, gradient, variable, rate):
        """Applies a gradient, if there is any."""
        if gradient is None:
            return
        index, rate = index_of(self, variable), ops.cast(rate, variable.dtype)
        update = surround_update(self._within, index, self._inner_update)
        if index in self.absent:
            # its gradient, if any, is from earlier micro-batches
            with unchanged_unless(ops.any(ops.not_equal(gradient, 0)), self, variable):
                update(gradient, variable, rate)
        else:
            update(gradient, variable, rate)

    def _inner_update(self, gradient, variable, rate):
        """Makes the update that all features surround: that of the Keras optimizer."""
        self._keras_update(gradient, variable, rate)


@cache
def extend(base: type[keras.optimizers.Optimizer]) -> type[keras.optimizers.Optimizer]:
    """Returns a subclass of a Keras optimizer with the options of `OptimizerExtensions`.

    Args:
        base: a subclass of `keras.optimizers.Optimizer`.

    Returns:
        A subclass of `base`. Those of Keras' optimizers that this module defines are registered
        when it is imported, so a `.keras` file with one loads anywhere. Others must be extended
        before such a file is loaded.

    Raises:
        ValueError: `base` is not a class of Keras optimizers.
    """
    if isinstance(base, type) and issubclass(base, OptimizerExtensions):
        return base
    if not (isinstance(base, type) and issubclass(base, keras.optimizers.Optimizer)):
        raise ValueError(f"extend: expected a class of Keras optimizers, got {base!r:.200}.")
    doc = f"`keras.optimizers.{base.__name__}` with the options of `OptimizerExtensions`."
    bases = OptimizerExtensions, class_of_instances(base)
    extended = type(base.__name__, bases, {"__doc__": doc, "__module__": __name__})
    return keras.saving.register_keras_serializable(PACKAGE)(extended)


SGD = extend(keras.optimizers.SGD)
Adam = extend(keras.optimizers.Adam)
AdamW = extend(keras.optimizers.AdamW)
Adafactor = extend(keras.optimizers.Adafactor)
Lion = extend(keras.optimizers.Lion)


def Lookahead(
    inner: keras.optimizers.Optimizer, sync_period: int = 5, slow_step: float = 0.5
) -> keras.optimizers.Optimizer:
    """Returns a Keras optimizer with Lookahead (arXiv 1907.08610).

    Args:
        inner: an optimizer that was not used yet, extended or not.
        sync_period: number of updates between two moves of the slow weights.
        slow_step: fraction of the way that they move.

    Returns:
        A new optimizer.

    Raises:
        ValueError: `inner` is not such an optimizer.

    Example:
        >>> optimizer = Lookahead(keras.optimizers.AdamW(1e-3), sync_period=5, slow_step=0.5)
    """
    return _with(inner, lookahead=(sync_period, slow_step))


def Lazy(
    inner: keras.optimizers.Optimizer, patterns: Sequence[str] = ("embedding",)
) -> keras.optimizers.Optimizer:
    """Returns a Keras optimizer that leaves rows without a gradient unchanged.

    Args:
        inner: an optimizer that was not used yet, extended or not.
        patterns: patterns of the paths of variables whose rows are updated separately.

    Returns:
        A new optimizer.

    Raises:
        ValueError: `inner` is not such an optimizer.
    """
    return _with(inner, lazy=patterns)


def _with(inner, **options):
    if not isinstance(inner, keras.optimizers.Optimizer) or inner.built:
        raise ValueError(
            f"inner: expected a Keras optimizer that is not built yet, got {inner!r:.200}."
        )
    if isinstance(inner, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            "inner: expected an optimizer without loss scaling. Put the loss scaling around it: "
            "LossScaleOptimizer(Lookahead(inner))."
        )
    return extend(public_class(inner)).from_config(inner.get_config() | options)
