"""Compiles whole PyTorch training steps (forward, backward, update) as one graph.

Keras passes `torch.compile` a step with Python code that the compiler cannot trace, so it compiles
hundreds of small pieces. Here the step runs once on fake tensors, which records all operations on
tensors; the resulting graph is compiled, so that operations are fused across layers and into the
update. Shapes must be constant, as in packed batches.
"""

import warnings
from contextlib import contextmanager

import keras
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.utils import _pytree as pytree

from bert4keras_lite.backend import Recorded

__all__ = ["compile_whole_steps"]


def compile_whole_steps(model):
    """Makes `fit` run each step as one program, which is compiled for each new shape of a batch.

    A step in which Python reads the value of a tensor cannot be recorded (gradient accumulation;
    random numbers from Keras' seeds). It is compiled as in Keras, after a warning.

    Args:
        model: a model compiled with an optimizer, for batches of inputs, targets and weights. Its
            own `train_step` is not called, and its `make_train_function` is replaced: Keras has no
            hook for it, and in files, a subclass would be a class that Keras cannot load alone.
    """

    def make_train_function(force=False):
        if force or model.train_function is None:
            model.train_function = WholeStep(model)

    model.make_train_function = make_train_function


class WholeStep:
    """`train_function` of a Keras model; called with `[batch]`, it returns the logs."""

    def __init__(self, model):
        self.model, self.in_pieces = model, None
        self.program = Recorded(
            self.step, self.variables, in_place, compile_graph, tracing_mode="fake"
        )

    def __call__(self, data):
        if self.in_pieces:
            return self.in_pieces(data)
        try:
            return self.program(pytree.tree_map(keras.ops.convert_to_tensor, data[0]))
        except (DataDependentOutputException, GuardOnDataDependentSymNode):
            warnings.warn(
                "The training step cannot be compiled as a whole, as Python reads the value of a "
                "tensor in it; it is compiled in pieces.",
                stacklevel=2,
            )
            type(self.model).make_train_function(self.model, force=True)
            self.in_pieces = self.model.train_function
            return self(data)

    def variables(self):
        """Returns all variables that a step reads or changes, of a built optimizer."""
        model = self.model
        model.optimizer.build(model.trainable_variables)
        all_variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
        return list({id(v): v for v in all_variables}.values())

    def step(self, data):
        """Runs a training step like Keras' `train_step`, without storing gradients in tensors."""
        model = self.model
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred = model(x, training=True)
        loss = model.compute_loss(x, y, y_pred, weight, training=True)
        model._loss_tracker.update_state(loss, sample_weight=len(keras.tree.flatten(x)[0]))
        trainable = model.trainable_variables
        scaled = model.optimizer.scale_loss(loss)
        values = [v.value for v in trainable]
        gradients = torch.autograd.grad(scaled, values, allow_unused=True)
        with torch.no_grad():
            model.optimizer.apply(list(gradients), trainable)
            logs = model.compute_metrics(x, y, y_pred, weight)
            return {name: keras.ops.convert_to_tensor(value) for name, value in logs.items()}


@contextmanager
def in_place(variables, values):
    """Context in which variables have other values, that assignments change in place."""
    originals = [v._value for v in variables]
    try:
        for variable, value in zip(variables, values, strict=True):
            needs = variable._value.requires_grad
            variable._value = value.detach().requires_grad_(needs)
        yield
    finally:
        for variable, value in zip(variables, originals, strict=True):
            variable._value = value


def compile_graph(operations, _):
    """Compiles the recorded operations for the shapes of the batch."""
    return torch.compile(operations, dynamic=False)
