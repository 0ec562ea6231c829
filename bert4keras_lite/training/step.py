"""The training step shared by all methods, as functions of the values of variables."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import keras
from keras import ops

from ..backend import (
    current_values,
    random_state,
    replicas,
    set_random_state,
    trains_functionally,
    value_and_gradients,
    without_gradients,
)
from .kl import Divergence, divergence_of

__all__ = ["Step"]


class Batch(NamedTuple):
    """Input of a training step: data, the state before it, and the loss scale."""

    data: Any
    state: Any
    scale: Any


class Result(NamedTuple):
    """Loss (not scaled), prediction, and the state after the step."""

    loss: Any
    y_pred: Any
    state: Any


class Step:
    """A training step as functions of values, which methods wrap.

    `objective(values, batch)` returns a `Result`; `gradients(values, batch)` returns a `Result` and
    the gradients of the scaled loss, None where it does not depend on a value. Values are a list
    with one entry for each of `variables`. A state is a pair: the values of `state_variables`
    (seeds, metrics, ...), and on torch, whose dropout does not use Keras' seeds, the state of its
    random number generators. Passing the same state twice reproduces the same dropout masks.
    """

    def __init__(self, model):
        if type(model).train_step is not keras.Model.train_step:
            raise ValueError(
                f"{type(model).__name__}: the model has a custom train_step; expected that of "
                "keras.Model, which training methods replace."
            )
        self.model = model
        self.tables = []
        self.objective = self.plain_objective
        self.gradients = self.plain_gradients
        model.make_train_function = self.make_train_function

    @classmethod
    def of(cls, model):
        """Returns the step of a model that has a method already, or a new one."""
        model.train_function = None  # `make_train_function` creates a new one
        step = getattr(model.make_train_function, "__self__", None)
        return step if isinstance(step, cls) else cls(model)

    def make_train_function(self, force=False):
        """Replaces the method of the model that `fit` calls after each `compile`.

        Keras has no hook for this, and a subclass would be another model than the one that the
        user has compiled, and in files a class that Keras cannot load alone.
        """
        model = self.model
        if not model.optimizer.built:
            # before the first step: TensorFlow would trace it again when variables are added
            model.optimizer.build(model.trainable_variables)
        if force or model.train_function is None:
            # a new function each time, because JAX caches compiled functions
            model.train_step = partial(
                self.train_functionally if trains_functionally() else self.train_in_place
            )
        return type(model).make_train_function(model, force)

    def add_table(self, name):
        """Returns the matrix of the embedding layer of that name, and adds it to `variables`."""
        tables = {}
        for variable in self.model.weights:
            layer, weight_name = ["", *variable.path.split("/")][-2:]
            if weight_name == "embeddings":
                tables.setdefault(layer, []).append(variable)
        matches = tables.get(name, [])
        if len(matches) != 1:
            raise ValueError(
                f"embedding={name!r}: expected the name of one embedding layer, got "
                f"{len(matches)} matches. The model has: "
                f"{', '.join(tables) or 'none (build the model first)'}."
            )
        self.tables += matches
        return matches[0]

    @property
    def variables(self):
        """The trainable variables, in Keras' order, and frozen embeddings that methods perturb."""
        trainable = self.model.trainable_variables
        known = {id(v) for v in trainable}
        frozen = {id(v): v for v in self.tables if id(v) not in known}
        return [*trainable, *frozen.values()]

    @property
    def state_variables(self):
        """The variables that a step may change, other than weights of the optimizer."""
        return [*self.model.non_trainable_variables, *self.model.metrics_variables]

    def index(self, table):
        """Returns the position of a variable in `variables`."""
        return next(i for i, v in enumerate(self.variables) if v is table)

    @staticmethod
    def shifted(values, index, by):
        """Returns the values, with `by` added to one of them."""
        value = values[index] + ops.cast(by, values[index].dtype)
        return [*values[:index], value, *values[index + 1 :]]

    def run(self, values, state, function):
        """Returns `function()` with the variables at these values, and the state after it."""
        old_values, random = state
        variables, others = self.variables, self.state_variables
        set_random_state(random)
        pairs = [*zip(others, old_values, strict=True), *zip(variables, values, strict=True)]
        with keras.StatelessScope(pairs, collect_losses=True) as scope:
            result = function()
        variable_ids = {id(v) for v in variables}
        new_values = [
            old if id(v) in variable_ids else scope.get_current_value(v)
            for v, old in zip(others, old_values, strict=True)
        ]
        return result, (new_values, random_state())

    def plain_objective(self, values, batch):
        """Computes the compiled loss, as `fit` does without methods."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch.data)

        def function():
            y_pred = self.model(x, training=True)
            weight = _copied(sample_weight)
            return y_pred, self.model.compute_loss(x, y, y_pred, weight, training=True)

        (y_pred, loss), state = self.run(values, batch.state, function)
        return Result(loss, y_pred, state)

    def plain_gradients(self, values, batch):
        """Computes the gradients of the scaled loss with respect to all values."""
        (_, result), gradients = value_and_gradients(partial(self.scaled, batch=batch), values)
        return result, gradients

    def gradient_of_value(self, index, values, batch):
        """Returns the gradient with respect to one value; the other entries are None."""

        def scaled(value):
            return self.scaled([*values[:index], *value, *values[index + 1 :]], batch)

        (_, result), (gradient,) = value_and_gradients(scaled, [values[index]])
        return result, [gradient if i == index else None for i in range(len(values))]

    def scaled(self, values, batch):
        """Returns the scaled loss and the `Result` of the objective."""
        result = self.objective(values, batch)
        return result.loss * batch.scale, result

    def divergence(self, p, q, function=None, sample_weight=None):
        """Returns the divergence of outputs `q` from `p`, summed over all outputs with a loss."""
        rows = zip(
            *(_by_output(self.model, x) for x in (p, q, self.model.loss, sample_weight)),
            strict=True,
        )
        losses = [
            Divergence(function or divergence_of(loss))(p, q, _copied(weight))
            for p, q, loss, weight in rows
            if loss is not None or function
        ]
        return sum(losses[1:], losses[0])

    def train_in_place(self, data):
        """Runs a training step on TensorFlow and torch; replaces `train_step`."""
        model = self.model
        model._symbolic_build(data_batch=data)  # metrics not in the state would be lost
        others = self.state_variables
        old_values = current_values(others)
        scale = model.optimizer.scale_loss(1.0)
        batch = Batch(data, (old_values, random_state()), scale)
        result, gradients = self.gradients(current_values(self.variables), batch)
        for variable, old, new in zip(others, old_values, result.state[0], strict=True):
            if new is not old:
                variable.assign(new)
        trainable = model.trainable_variables
        with without_gradients():
            model.optimizer.apply(gradients[: len(trainable)], trainable)
        return self.report(data, result)

    def train_functionally(self, state, data):
        """Runs a training step on JAX; replaces `train_step`."""
        model = self.model
        trainable, non_trainable, optimizer, metrics = state
        known = {
            id(v): x for v, x in zip(model.non_trainable_variables, non_trainable, strict=True)
        }
        frozen = [known[id(v)] for v in self.variables[len(trainable) :]]
        with keras.StatelessScope(list(zip(model.optimizer.variables, optimizer, strict=True))):
            scale = model.optimizer.scale_loss(1.0)
        batch = Batch(data, ([*non_trainable, *metrics], None), scale)
        result, gradients = self.gradients([*trainable, *frozen], batch)
        new_state = result.state[0]
        non_trainable, metrics = new_state[: len(non_trainable)], new_state[len(non_trainable) :]
        trainable, optimizer = model.optimizer.stateless_apply(
            optimizer, gradients[: len(trainable)], trainable
        )
        pairs = list(zip(model.metrics_variables, metrics, strict=True))
        with keras.StatelessScope(pairs) as scope:
            logs = self.report(data, result)
        metrics = [scope.get_current_value(v) for v in model.metrics_variables]
        return logs, (trainable, non_trainable, optimizer, metrics)

    def report(self, data, result):
        """Updates the metrics, and returns the logs of the step."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        loss = result.loss * replicas()
        rows = ops.shape(next(x for x in keras.tree.flatten(x) if x is not None))[0]
        if isinstance(self.model.optimizer, keras.optimizers.LossScaleOptimizer):
            # it skips steps whose gradients, which can be a part of the loss here, overflow
            rows = ops.where(ops.isfinite(loss), ops.cast(rows, loss.dtype), 0)
            loss = ops.where(ops.isfinite(loss), loss, 0)
        self.model._loss_tracker.update_state(loss, sample_weight=rows)
        return self.model.compute_metrics(x, y, result.y_pred, sample_weight)


def _by_output(model, structure):
    """Returns a list with one item per output, from a dict by name, a list, or one item for all."""
    if isinstance(structure, Mapping):
        return [structure.get(name) for name in model.output_names]
    if isinstance(structure, (list, tuple)):
        return list(structure)
    return [structure] * len(model.outputs)


def _copied(weights):
    """Copies weights, because Keras on torch multiplies them by the mask in place."""
    return keras.tree.map_structure(lambda x: None if x is None else ops.copy(x), weights)
