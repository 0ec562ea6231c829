"""Compiles whole PyTorch training steps (forward, backward, update) as one graph.

Keras passes `torch.compile` a step with Python code that the compiler cannot trace, so it compiles
hundreds of small pieces. Here the step runs once on fake tensors, which records all operations on
tensors; the resulting graph is compiled, so that operations are fused across layers and into the
update. Shapes must be constant, as in packed batches.
"""

import warnings

import keras
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.utils import _pytree as pytree


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
        self.model, self.programs, self.in_pieces = model, {}, None

    def __call__(self, data):
        if self.in_pieces:
            return self.in_pieces(data)
        leaves, structure = pytree.tree_flatten(data[0])
        tensors = [keras.ops.convert_to_tensor(leaf) for leaf in leaves]
        key = (structure, *((t.shape, t.dtype) for t in tensors))
        try:
            if key not in self.programs:
                self.programs[key] = self.record(tensors, structure)
        except (DataDependentOutputException, GuardOnDataDependentSymNode):
            warnings.warn(
                "The training step cannot be compiled as a whole, as Python reads the value of a "
                "tensor in it; it is compiled in pieces.",
                stacklevel=2,
            )
            type(self.model).make_train_function(self.model, force=True)
            self.in_pieces = self.model.train_function
            return self(data)
        program, variables, names = self.programs[key]
        values = [v.value.detach() for v in variables]
        return dict(zip(names, program(*values, *tensors), strict=True))

    def record(self, tensors, structure):
        """Records and compiles the step for a batch.

        Args:
            tensors: the tensors of the batch.
            structure: their structure, from `pytree.tree_flatten`.

        Returns:
            `(program, variables, names)`: the compiled program, the variables whose values are its
            arguments before the tensors, and the names of the logs that it returns.

        Raises:
            DataDependentOutputException, GuardOnDataDependentSymNode: see `compile_whole_steps`.
        """
        model, names = self.model, []
        model.optimizer.build(model.trainable_variables)
        all_variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
        variables = list({id(v): v for v in all_variables}.values())

        def flat(*arguments):
            values, batch = arguments[: len(variables)], arguments[len(variables) :]
            originals = [v._value for v in variables]
            try:
                for variable, value in zip(variables, values, strict=True):
                    needs = variable._value.requires_grad
                    variable._value = value.detach().requires_grad_(needs)
                logs = self.step(pytree.tree_unflatten(list(batch), structure))
            finally:
                for variable, value in zip(variables, originals, strict=True):
                    variable._value = value
            names.extend(logs)
            return tuple(logs.values())

        values = [v.value.detach() for v in variables]
        operations = make_fx(flat, tracing_mode="fake")(*values, *tensors)
        return torch.compile(operations, dynamic=False), variables, names

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
