"""The training step that all methods share, in functions of the values of variables."""

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import keras
from keras import ops

from .kl import Divergence, divergence_of


class Batch(NamedTuple):
    """What a training step is given: data, state before it, and what the loss is multiplied by."""

    data: Any
    state: Any
    scale: Any


class Result(NamedTuple):
    """Loss (not scaled), prediction, and the state after."""

    loss: Any
    y_pred: Any
    state: Any


class Step:
    """A training step in functions of values, which methods wrap one around the other.

    `objective(values, batch)` gives a `Result`; `gradients(values, batch)` gives a `Result` and
    the gradients of the scaled loss, None where it does not depend on a value. Values are a list, one
    for each of `variables`. A state is a pair: the values of `state_variables` (seeds, metrics,
    ...), and on torch, whose dropout has none of Keras' seeds, the state of its random numbers.
    Whoever passes the same state twice gets the same dropout twice.
    """

    def __init__(self, model):
        if type(model).train_step is not keras.Model.train_step:
            raise ValueError(f"{type(model).__name__} has a train_step of its own, left untouched.")
        self.model = model
        self.tables = []
        self.objective = self.plain_objective
        self.gradients = self.plain_gradients
        model.make_train_function = self.make_train_function

    @classmethod
    def of(cls, model):
        """The step of a model that has a method already, or a new one."""
        model.train_function = None  # to be made anew
        step = getattr(model.make_train_function, "__self__", None)
        return step if isinstance(step, cls) else cls(model)

    def make_train_function(self, force=False):
        """What `fit` calls after each `compile`."""
        model = self.model
        if not model.optimizer.built:
            # before the first step, which TensorFlow would trace again for each new variable
            model.optimizer.build(model.trainable_variables)
        if force or model.train_function is None:
            # each time another function, as JAX remembers what it compiled
            jax = keras.backend.backend() == "jax"
            model.train_step = partial(self.train_functionally if jax else self.train_in_place)
        return type(model).make_train_function(model, force)

    def add_table(self, name):
        """The matrix of the embedding layer of that name, which is now among `variables`."""
        tables = {}
        for variable in self.model.weights:
            *_, layer, kind = ["", *variable.path.split("/")]
            if kind == "embeddings":
                tables.setdefault(layer, []).append(variable)
        found = tables.get(name, [])
        if len(found) != 1:
            raise ValueError(
                f"{len(found) or 'No'} embedding layers of the model are called {name!r}. It has: "
                f"{', '.join(tables) or 'none (build the model first)'}."
            )
        self.tables += found
        return found[0]

    @property
    def variables(self):
        """The trainable ones, in Keras' order, and frozen embeddings that a method moves."""
        trainable = self.model.trainable_variables
        known = {id(v) for v in trainable}
        frozen = {id(v): v for v in self.tables if id(v) not in known}
        return [*trainable, *frozen.values()]

    @property
    def state_variables(self):
        return [*self.model.non_trainable_variables, *self.model.metrics_variables]

    def index(self, table):
        return next(i for i, v in enumerate(self.variables) if v is table)

    @staticmethod
    def moved(values, here, by):
        """The values, of which one is moved."""
        there = values[here] + ops.cast(by, values[here].dtype)
        return [*values[:here], there, *values[here + 1 :]]

    def run(self, values, state, function):
        """`function()` with the variables at these values, and the state that it leaves."""
        seen, random = state
        variables, others = self.variables, self.state_variables
        _set_random_state(random)
        pairs = [*zip(others, seen, strict=True), *zip(variables, values, strict=True)]
        with keras.StatelessScope(pairs, collect_losses=True) as scope:
            result = function()
        moved = {id(v) for v in variables}
        left = [
            old if id(v) in moved else scope.get_current_value(v)
            for v, old in zip(others, seen, strict=True)
        ]
        return result, (left, _random_state())

    def plain_objective(self, values, batch):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch.data)

        def function():
            y_pred = self.model(x, training=True)
            weight = _copied(sample_weight)
            return y_pred, self.model.compute_loss(x, y, y_pred, weight, training=True)

        (y_pred, loss), state = self.run(values, batch.state, function)
        return Result(loss, y_pred, state)

    def plain_gradients(self, values, batch):
        (_, result), gradients = value_and_gradients(partial(self.scaled, batch=batch), values)
        return result, gradients

    def gradient_of_one(self, here, values, batch):
        """The gradient by one value alone, in its place among nothings."""

        def scaled(moved):
            return self.scaled([*values[:here], *moved, *values[here + 1 :]], batch)

        (_, result), (gradient,) = value_and_gradients(scaled, [values[here]])
        return result, [gradient if i == here else None for i in range(len(values))]

    def scaled(self, values, batch):
        result = self.objective(values, batch)
        return result.loss * batch.scale, result

    def divergence(self, p, q, function=None, sample_weight=None):
        """How outputs `q` differ from outputs `p`, over all outputs that have a loss."""
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
        """`train_step` of TensorFlow and torch."""
        model = self.model
        model._symbolic_build(data_batch=data)  # metrics that are missing from the state get lost
        others = self.state_variables
        seen = _values(others)
        scale = model.optimizer.scale_loss(1.0)
        batch = Batch(data, (seen, _random_state()), scale)
        result, gradients = self.gradients(_values(self.variables), batch)
        for variable, old, new in zip(others, seen, result.state[0], strict=True):
            if new is not old:
                variable.assign(new)
        trainable = model.trainable_variables
        with _without_gradients():
            model.optimizer.apply(gradients[: len(trainable)], trainable)
        return self.report(data, result)

    def train_functionally(self, state, data):
        """`train_step` of JAX."""
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
        left = result.state[0]
        non_trainable, metrics = left[: len(non_trainable)], left[len(non_trainable) :]
        trainable, optimizer = model.optimizer.stateless_apply(
            optimizer, gradients[: len(trainable)], trainable
        )
        pairs = list(zip(model.metrics_variables, metrics, strict=True))
        with keras.StatelessScope(pairs) as scope:
            logs = self.report(data, result)
        metrics = [scope.get_current_value(v) for v in model.metrics_variables]
        return logs, (trainable, non_trainable, optimizer, metrics)

    def report(self, data, result):
        """Updates the metrics; the logs of the step."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        loss = result.loss * replicas()
        rows = ops.shape(next(x for x in keras.tree.flatten(x) if x is not None))[0]
        if isinstance(self.model.optimizer, keras.optimizers.LossScaleOptimizer):
            # which leaves steps out whose gradients, here part of the loss, overflow
            rows = ops.where(ops.isfinite(loss), ops.cast(rows, loss.dtype), 0)
            loss = ops.where(ops.isfinite(loss), loss, 0)
        self.model._loss_tracker.update_state(loss, sample_weight=rows)
        return self.model.compute_metrics(x, y, result.y_pred, sample_weight)


def _by_output(model, structure):
    """One item for each output: of a dict by name, of a list in order, or the same for all."""
    if isinstance(structure, Mapping):
        return [structure.get(name) for name in model.output_names]
    if isinstance(structure, (list, tuple)):
        return list(structure)
    return [structure] * len(model.outputs)


def _copied(weights):
    """On torch, Keras multiplies the weights it is given by the mask, in place."""
    return keras.tree.map_structure(lambda x: None if x is None else ops.copy(x), weights)


# What differs between backends


def value_and_gradients(function, values, create_graph=False):
    """A function's value, and the gradients of the first part of it.

    Args:
        function: takes a list of tensors, gives a scalar and something else.
        values: the tensors.
        create_graph: whether a derivative will be taken of the gradients (torch needs to know).

    Returns:
        What the function gave, and a list of gradients, None where nothing depends on a value (on
        JAX, zeros).
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.value_and_grad(function, has_aux=True)(values)
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(values)
            result = function(values)
        gradients = tape.gradient(result[0], values)
        # those of embeddings come as slices, which cannot be added
        return result, [None if g is None else tf.convert_to_tensor(g) for g in gradients]
    import torch

    values = [v if v.requires_grad else v.detach().requires_grad_() for v in values]
    result = function(values)
    return result, torch.autograd.grad(
        result[0], values, allow_unused=True, create_graph=create_graph
    )


def _values(variables):
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return [tf.convert_to_tensor(v.value) for v in variables]
    return [v.value for v in variables]


def _without_gradients():
    if keras.backend.backend() == "torch":
        import torch

        return torch.no_grad()
    return nullcontext()


def _random_state():
    """That of torch; the other backends draw from Keras' seeds alone."""
    if keras.backend.backend() != "torch":
        return None
    import torch

    return torch.get_rng_state(), torch.cuda.get_rng_state_all()


def _set_random_state(state):
    if state is not None:
        import torch

        torch.set_rng_state(state[0])
        torch.cuda.set_rng_state_all(state[1])


def replicas():
    """Among how many devices TensorFlow divides a batch, and Keras its loss."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync
