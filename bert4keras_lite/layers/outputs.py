"""Output layers: sequence concatenation, a choice of inputs, and losses as layers."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from ..backend import mean_in_forward_pass
from ..types import Tensor
from .base import Layer, register

__all__ = ["Concatenate1D", "FirstInput", "Loss"]


@register
class Concatenate1D(Layer):
    """Concatenates sequences along the length, and their masks, even if only some have one.

    Call arguments:
        inputs: a list of `(batch, length_i, dim)`.

    Returns:
        `(batch, sum of lengths, dim)`.
    """

    def call(self, inputs: list[Tensor]) -> Tensor:
        return ops.concatenate(inputs, axis=1)

    def compute_mask(
        self, inputs: list[Tensor], previous_mask: list[Tensor | None] | None = None
    ) -> Tensor | None:
        if previous_mask is None or all(mask is None for mask in previous_mask):
            return None
        return ops.concatenate(
            [
                ops.ones_like(x[..., 0], dtype="bool") if mask is None else mask
                for x, mask in zip(inputs, previous_mask, strict=True)
            ],
            axis=1,
        )


@register
class FirstInput(Layer):
    """Returns its first input; the second keeps the layers that compute it in the model.

    Call arguments:
        x, other: tensors.

    Returns:
        `x`.
    """

    def call(self, x: Tensor, other: Tensor) -> Tensor:
        return x

    def compute_output_spec(self, x: Tensor, other: Tensor) -> keras.KerasTensor:
        return keras.KerasTensor(x.shape, x.dtype)


@register
class Loss(Layer):
    """A loss as a layer, for losses that need more than one target and one prediction.

    Pass a function, or subclass and override `compute_loss`. Its result is added to the training
    loss of the model, so `model.compile` needs no loss:

        @keras.saving.register_keras_serializable()
        class MaskedLanguageModel(Loss):
            def compute_loss(self, inputs):
                y_true, mask, logits = inputs
                losses = ops.sparse_categorical_crossentropy(y_true, logits, from_logits=True)
                self.add_metric(ops.mean(y_true == ops.argmax(logits, -1)), name="accuracy")
                return ops.sum(losses * mask) / ops.sum(mask)

        logits = MaskedLanguageModel(output_axis=2)([y_true, mask, bert.output])
        model = keras.Model([*bert.inputs, y_true, mask], logits)
        model.compile("adam")
        model.fit(data)  # all arrays are inputs

    Args:
        output_axis: index of the input that the layer returns, or a list of indices; None: all.
        function: function of the inputs, used as `compute_loss`. Register it with
            `keras.saving.register_keras_serializable` if the model is to be saved.

    Call arguments:
        inputs: a tensor, or a list of them.

    Returns:
        The selected inputs, unchanged.

    Raises:
        NotImplementedError: there is neither a `function` nor a `compute_loss`.
    """

    def __init__(
        self,
        output_axis: int | list[int] | None = None,
        function: Callable | None = None,
        **kwargs: Any,
    ) -> None:
        # always float32, so that metrics are accurate; the inputs are not cast
        super().__init__(autocast=False, **kwargs | {"dtype": "float32"})
        self.output_axis = output_axis
        if isinstance(function, dict):  # from a file
            function = keras.saving.deserialize_keras_object(function)
        self.function = function
        self.means = Means()

    def compute_loss(self, inputs: list[Tensor]) -> Tensor:
        """Computes the loss of a batch.

        Args:
            inputs: the inputs of the layer.

        Returns:
            A tensor, whose mean is the loss; or a dict of name -> tensor, which are summed and each
            reported as a metric.
        """
        if self.function is None:
            raise NotImplementedError(
                f"{self.name}: the layer has no loss function. Override compute_loss(self, inputs) "
                "in a subclass of Loss, or pass Loss(function=...)."
            )
        return self.function(inputs)

    def add_metric(self, value: Tensor, name: str) -> None:
        """Reports the mean of a tensor, averaged over the batches, as a metric called `name`."""
        self.means.update(name, ops.stop_gradient(ops.mean(ops.cast(value, "float32"))))

    @property
    def metrics(self) -> list[keras.Metric]:
        return [*super().metrics, *self.means.values()]

    def call(self, inputs: list[Tensor]) -> Tensor:
        losses = self.compute_loss(inputs)
        if isinstance(losses, dict):
            for name, loss in losses.items():
                self.add_metric(loss, name)
        else:
            losses = {"loss": losses}
        for loss in losses.values():
            self.add_loss(ops.mean(loss))
        return self.selected(inputs)

    def selected(self, inputs: list[Tensor]) -> Tensor:
        """Returns the inputs, or masks, that `output_axis` selects."""
        if self.output_axis is None:
            return inputs
        if isinstance(self.output_axis, (list, tuple)):
            return [inputs[i] for i in self.output_axis]
        return inputs[self.output_axis]

    def compute_mask(
        self, inputs: list[Tensor], previous_mask: list[Tensor | None] | None = None
    ) -> Tensor | None:
        return None if previous_mask is None else self.selected(previous_mask)


class Means:
    """Running means by name, created when a name first appears (in the symbolic call)."""

    def __init__(self):
        self.metrics = {}

    def values(self):
        return self.metrics.values()

    def update(self, name, value):
        if name not in self.metrics:
            self.metrics[name] = mean_in_forward_pass(name)
        self.metrics[name].update_state(value)
