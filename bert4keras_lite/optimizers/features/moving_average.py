"""Moving averages of the weights, and their exchange with the weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from ...backend import copy_values
from ..keras_private import AVERAGES, Mixin, averages, index_of, micro_batches, weights
from .base import Feature

__all__ = ["AveragedWeights", "MovingAverage"]

OWN_WEIGHTS = "own_weights_"  # prefix of keys in files, before the index of a variable


class MovingAverage(Feature):
    """Averages each weight after its update, whether it had a gradient or not.

    The option and the variables are Keras' own.
    """

    state = (AVERAGES,)
    covers_all = True

    def __init__(self, optimizer):
        super().__init__(optimizer)
        if optimizer.ema_overwrite_frequency:
            raise ValueError(
                f"ema_overwrite_frequency is {optimizer.ema_overwrite_frequency}; expected None. "
                "To use the averages, call apply_ema_weights or pass the callback EvaluateAverages."
            )

    def config(self):
        return {} if self.optimizer.use_ema else {"ema_momentum": None}

    def plan(self, variables):
        return [self.optimizer.use_ema] * len(variables)

    def build(self, variables):
        if self.optimizer.use_ema:
            copy_values(averages(self.optimizer), variables)

    def update(self, gradient, variable, rate, inner):
        inner(gradient, variable, rate)
        optimizer = self.optimizer
        average = averages(optimizer)[index_of(optimizer, variable)]
        momentum = ops.where(ops.equal(optimizer.iterations, 0), 0.0, optimizer.ema_momentum)
        momentum = ops.cast(momentum, variable.dtype)
        value = ops.add(momentum * average, ops.multiply(1 - momentum, variable))
        optimizer.assign(average, value)


class AveragedWeights(Mixin):
    """Mixin before a Keras optimizer: methods that put the averages into the weights and back.

    Files hold the raw weights, too, while the averages are in the weights.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._own_weights: Any = None  # the raw weights, while the averages are in the variables
        self._averages_at: int | None = None  # the step at which they were exchanged
        self._in_fit = False  # whether that was within `fit`

    def finalize_variable_values(self, var_list: list[keras.Variable]) -> None:
        """Restores the raw weights at the end of `fit`.

        Keras calls it before callbacks may restore the best weights.
        """
        if self._in_fit and self.averages_are_in:
            self.reset_old_weights()

    @property
    def averages_are_in(self) -> bool:
        """Whether the variables hold their moving averages: exchanged, and not changed since."""
        if self._own_weights is None or self._averages_at != self._step():
            return False
        expected = averages(self) if self._step() else self._own_weights
        return all(map(_equal, weights(self), expected))

    def _step(self):
        return int(ops.convert_to_numpy(micro_batches(self)))

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Context in which the variables have the values of their moving averages.

        Example:
            >>> with optimizer.averaged_weights():
            ...     model.evaluate(batches)
        """
        if self.averages_are_in:
            yield
            return
        self.apply_ema_weights()
        try:
            yield
        finally:
            self.reset_old_weights()

    @contextmanager
    def own_weights(self) -> Iterator[None]:
        """Context in which the variables have the raw weights, with which training continues."""
        if not self.averages_are_in:
            yield
            return
        in_fit = self._in_fit
        self.reset_old_weights()
        try:
            yield
        finally:
            self.apply_ema_weights(in_fit)

    def apply_ema_weights(self, in_fit: bool = False) -> None:
        """Puts the moving averages into the variables, until `reset_old_weights`.

        A file of the model saved in between has both: the averages as its weights, and the raw
        weights in the state of the optimizer. After it is loaded, `reset_old_weights`, or `fit`
        with `EvaluateAverages`, continues from the raw weights.

        Args:
            in_fit: whether the end of `fit` restores the raw weights, too.

        Raises:
            ValueError: there are no averages yet, or they are in the variables already.
        """
        if not self.use_ema or not self.built:
            raise ValueError(
                "apply_ema_weights: there is no moving average yet. Pass ema_momentum to the "
                "optimizer, and train."
            )
        if self.averages_are_in:
            raise ValueError(
                "apply_ema_weights: the moving averages are in the variables already. Call "
                "reset_old_weights first."
            )
        self._own_weights = [ops.convert_to_numpy(v) + 0 for v in weights(self)]
        self._averages_at, self._in_fit = self._step(), in_fit
        if int(ops.convert_to_numpy(self.iterations)):
            copy_values(weights(self), averages(self))

    def reset_old_weights(self) -> None:
        """Restores the raw weights that `apply_ema_weights` replaced.

        Raises:
            ValueError: the averages are not in the variables, or the model was trained since.
        """
        if not self.averages_are_in:
            raise ValueError(
                "reset_old_weights: the moving averages are not in the variables. Call "
                "apply_ema_weights first."
            )
        for variable, value in zip(weights(self), self._own_weights, strict=True):
            variable.assign(value)
        self._own_weights = None

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        if self.averages_are_in:
            for i, value in enumerate(self._own_weights):
                store[f"{OWN_WEIGHTS}{i}"] = value

    def load_own_variables(self, store: Any) -> None:
        # Keras' HDF5 store is not iterable
        values = {name: store[name] for name in store.keys()}  # noqa: SIM118
        own_weights = {
            name: values.pop(name) for name in list(values) if name.startswith(OWN_WEIGHTS)
        }
        super().load_own_variables(values)
        self._own_weights = None
        names = [f"{OWN_WEIGHTS}{i}" for i in range(len(weights(self)))]
        if self.built and own_weights.keys() == set(names):
            self._own_weights = [np.array(own_weights[name]) for name in names]
            self._averages_at, self._in_fit = self._step(), False


def _equal(x, y):
    x, y = (np.asarray(ops.convert_to_numpy(value), "float32") for value in (x, y))
    return np.array_equal(x, y, equal_nan=True)
