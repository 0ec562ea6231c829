"""The private names of Keras' optimizers, all in this file.

Keras calls the private methods of `PrivateMethods` and `LossScalePrivateMethods`, which call ours.
The functions give names to private attributes. `tests/test_keras_private.py` says which versions of
Keras this holds for, and that no other file of this package uses such a name.

No public method is enough: Keras' public `apply` clips, accumulates, averages and updates in one
private method, and `update_step` sees one variable, without the others.
"""

from typing import TYPE_CHECKING

import keras

from ..backend import clip_by_global_norm, without_gradients

__all__ = [
    "AVERAGES",
    "GRADIENT_SUMS",
    "LossScalePrivateMethods",
    "Mixin",
    "PrivateMethods",
    "adam_moments",
    "add_gradients",
    "averages",
    "class_of_instances",
    "gradient_sums",
    "index_of",
    "is_overwritten",
    "micro_batches",
    "public_class",
    "state_of",
    "updates_like",
    "weights",
]

# attributes that list all variables; the other lists of an optimizer are indexed like its weights
ALL_VARIABLES = ("_variables", "_trainable_variables")
AVERAGES, GRADIENT_SUMS = "_model_variables_moving_average", "_accumulated_gradients"


def weights(optimizer):
    """Returns the list of weights that an optimizer was built for."""
    return optimizer._trainable_variables


def index_of(optimizer, variable):
    """Returns the index in `weights` of a variable (on TensorFlow also of a `tf.Variable`)."""
    return optimizer._get_variable_index(variable)


def is_overwritten(optimizer, variable):
    """Whether Keras replaces a variable by its gradient: scales in float8."""
    return optimizer._overwrite_variable_with_gradient(variable)


def micro_batches(optimizer):
    """Returns the variable that counts batches; `iterations` counts updates."""
    return optimizer._iterations


def averages(optimizer):
    """Returns the moving averages of all weights."""
    return getattr(optimizer, AVERAGES)


def gradient_sums(optimizer):
    """Returns the accumulated gradients of all weights."""
    return getattr(optimizer, GRADIENT_SUMS)


def add_gradients(optimizer, gradients, sums):
    """Adds gradients to some of the `gradient_sums`, on all replicas."""
    optimizer._backend_increment_gradient_accumulators(gradients, sums)


def adam_moments(optimizer):
    """Returns the first and second moments of all weights, of Adam."""
    return optimizer._momentums, optimizer._velocities


def state_of(optimizer, index):
    """Returns a dict attribute -> variable of all that an optimizer keeps for one weight.

    By Keras' convention, an attribute is a list that has the variable of each weight at its index.
    """
    columns = {name: x for name, x in vars(optimizer).items() if isinstance(x, list)}
    return {
        name: column[index]
        for name, column in columns.items()
        if name not in ALL_VARIABLES
        and index < len(column)
        and isinstance(column[index], keras.Variable)
    }


def public_class(optimizer):
    """Returns the class of an optimizer in `keras.optimizers`.

    On PyTorch, Keras' optimizers are instances of faster, private subclasses.
    """
    return next(c for c in type(optimizer).__mro__ if ".backend." not in c.__module__)


def class_of_instances(optimizer_class):
    """Returns the class of what a Keras optimizer class creates; `public_class` inverts it."""
    if keras.backend.backend() != "torch" or not optimizer_class.__module__.startswith("keras."):
        return optimizer_class
    return type(optimizer_class())


def updates_like(optimizer, optimizer_class):
    """Whether the Keras optimizer has the `update_step` of a public class of Keras."""
    return super(PrivateMethods, optimizer).update_step.__func__ is optimizer_class.update_step


if TYPE_CHECKING:
    Mixin = keras.optimizers.Optimizer  # of which a class before an optimizer has the methods
else:
    Mixin = object


class PrivateMethods:
    """Mixin before a Keras optimizer: takes its place in Keras' private methods.

    A class with it has `_on_gradients(gradients, variables)`, which is called with the gradients of
    a batch; `_update_at_once(pairs, rate)`, which updates what it can and returns the other pairs
    (PyTorch); and `_reduced(gradient, variable)`, which is called with a gradient that was summed
    over replicas (TensorFlow).
    """

    def _backend_apply_gradients(self, grads, trainable_variables):
        self._on_gradients(grads, trainable_variables)

    def _keras_update(self, gradient, variable, rate):
        """Updates one variable as the Keras optimizer does."""
        if hasattr(super(), "_parallel_update_step"):  # PyTorch: fused in-place operations
            super()._parallel_update_step([gradient], [variable], rate)
        else:
            super().update_step(gradient, variable, rate)

    def _update_all(self, gradients, variables, rate):
        """Clips gradients, and updates each variable by `update_step`."""
        backend = keras.backend.backend()
        if backend != "tensorflow":  # which clips in `_all_reduce_sum_gradients`
            gradients = self._clip_gradients(gradients)
        if backend != "torch":
            self._backend_update_step(gradients, variables, rate)
            return
        with without_gradients():
            pairs = zip(gradients, variables, strict=True)
            for gradient, variable in self._update_at_once(pairs, rate):
                self.update_step(gradient, variable, rate)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        """Clips on TensorFlow: the norm to clip is that of the sum over all replicas."""
        absent = [(g, v) for g, v in grads_and_vars if g is None]
        reduced = super()._all_reduce_sum_gradients(
            [(g, v) for g, v in grads_and_vars if g is not None]
        )
        grads = self._clip_gradients([self._reduced(g, v) for g, v in reduced])
        return [(g, v) for g, (_, v) in zip(grads, reduced, strict=True)] + absent

    def _clip_gradients(self, grads):
        if keras.backend.backend() != "torch" or not self.global_clipnorm or self.clipnorm:
            return super()._clip_gradients(grads)
        present = [g for g in grads if g is not None]
        clipped = iter(clip_by_global_norm(present, self.global_clipnorm))
        return [None if g is None else next(clipped) for g in grads]

    def _get_current_learning_rate(self):
        """Returns the rate of the update; Keras would evaluate a schedule at the micro-batch."""
        if isinstance(self._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            return self._learning_rate(self.iterations)
        return super()._get_current_learning_rate()


class LossScalePrivateMethods:
    """Mixin before Keras' loss scaling: calls `_on_nonfinite()` when it skips a step."""

    def _stateful_handle_non_finite_grads(self):
        super()._stateful_handle_non_finite_grads()
        self._on_nonfinite()

    def _stateless_handle_non_finite_grads(self, optimizer_variables, trainable_variables):
        trainable, values = super()._stateless_handle_non_finite_grads(
            optimizer_variables, trainable_variables
        )
        pairs = list(zip(self.variables, values, strict=True))
        with keras.StatelessScope(pairs) as scope:
            self._on_nonfinite()
        return trainable, [scope.get_current_value(variable) for variable in self.variables]
