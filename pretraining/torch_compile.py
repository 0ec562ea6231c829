"""PyTorch: a training step recorded whole (forward, backward, update), and compiled as one program.

Keras gives `torch.compile` a step full of Python that the compiler cannot follow, so that it
compiles hundreds of small pieces. Here the step runs once on tensors without values, which notes
down every operation on tensors; what is compiled is that list, in which operations fuse across
layers, and into the update. Shapes must stay the same, as those of packed batches do.
"""

import warnings

import keras
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.utils import _pytree as pytree


def compile_whole_steps(model):
    """Has `fit` run each step of a model as one program, compiled at the first batch of a shape.

    A step in which Python asks for the value of a tensor cannot be recorded (gradient
    accumulation; random numbers from Keras' seeds): it is compiled in Keras' way, after a warning.

    Args:
        model: compiled with an optimizer; its own `train_step` is not called. Its batches have
            inputs, targets and weights.
    """

    def make_train_function(force=False):
        if force or model.train_function is None:
            model.train_function = WholeStep(model)

    model.make_train_function = make_train_function


class WholeStep:
    """`train_function` of a Keras model: called with `[batch]`, gives the logs."""

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
                "The training step cannot be compiled as a whole, as Python asks for the value of a "
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
        """The program, the variables whose values it takes before a batch, and the logs' names.

        Args:
            tensors: of a batch.
            structure: how they are nested, of `pytree.tree_flatten`.

        Raises:
            DataDependentOutputException, GuardOnDataDependentSymNode: see `compile_whole_steps`.
        """
        model, names = self.model, []
        model.optimizer.build(model.trainable_variables)
        every = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
        variables = list({id(v): v for v in every}.values())

        def flat(*everything):
            values, batch = everything[: len(variables)], everything[len(variables) :]
            own = [v._value for v in variables]
            try:
                for variable, value in zip(variables, values, strict=True):
                    needs = variable._value.requires_grad
                    variable._value = value.detach().requires_grad_(needs)
                logs = self.step(pytree.tree_unflatten(list(batch), structure))
            finally:
                for variable, value in zip(variables, own, strict=True):
                    variable._value = value
            names.extend(logs)
            return tuple(logs.values())

        values = [v.value.detach() for v in variables]
        operations = make_fx(flat, tracing_mode="fake")(*values, *tensors)
        return torch.compile(operations, dynamic=False), variables, names

    def step(self, data):
        """Keras' `train_step`, but that it leaves no gradients in the tensors."""
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
