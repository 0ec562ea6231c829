"""The end of a graph: sequences side by side, and losses that are a part of it."""

import keras
import numpy as np
from keras import ops

from .base import Layer, register


@register
class Concatenate1D(Layer):
    """Sequences one after the other, and their masks, also where only some have one.

    Call arguments:
        inputs: a list of `(batch, length_i, dim)`.

    Returns:
        `(batch, sum of lengths, dim)`.
    """

    def call(self, inputs):
        return ops.concatenate(inputs, axis=1)

    def compute_mask(self, inputs, previous_mask=None):
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
class Loss(Layer):
    """A loss as a layer: for losses that need more than one target and one prediction.

    Give a function, or derive a class and write `compute_loss`. What it gives is added to the
    loss that the model trains on, so `model.compile` needs none:

        @keras.saving.register_keras_serializable()
        class MaskedLanguageModel(Loss):
            def compute_loss(self, inputs):
                y_true, visible, scores = inputs
                each = ops.sparse_categorical_crossentropy(y_true, scores, from_logits=True)
                self.add_metric(ops.mean(y_true == ops.argmax(scores, -1)), name="accuracy")
                return ops.sum(each * visible) / ops.sum(visible)

        scores = MaskedLanguageModel(output_axis=2)([y_true, visible, bert.output])
        model = keras.Model([*bert.inputs, y_true, visible], scores)
        model.compile("adam")
        model.fit(data)  # all arrays are inputs

    Args:
        output_axis: which of the inputs, by number, the layer hands on; a list of numbers: those;
            None: all.
        function: from the inputs to what `compute_loss` gives. Register it with
            `keras.saving.register_keras_serializable`, if the model is to be saved.

    Call arguments:
        inputs: a tensor, or a list of them.

    Returns:
        The chosen inputs, unchanged.
    """

    def __init__(self, output_axis=None, function=None, **kwargs):
        # single precision always, for the metrics' sake; the inputs stay what they are
        super().__init__(autocast=False, **kwargs | {"dtype": "float32"})
        self.output_axis = output_axis
        if isinstance(function, dict):  # out of a file
            function = keras.saving.deserialize_keras_object(function)
        self.function = function
        self.means = Means()

    def compute_loss(self, inputs):
        """The loss of a batch.

        Args:
            inputs: what the layer is called with.

        Returns:
            A tensor, of which the mean counts; or a dict of several by name, which are summed,
            and each shown as a metric.
        """
        if self.function is None:
            raise NotImplementedError(
                f"{self.name} has no loss: write compute_loss(self, inputs) in a class derived "
                "from Loss, or give Loss(function=...)."
            )
        return self.function(inputs)

    def add_metric(self, value, name):
        """Shows the mean of a tensor over the batches seen, under a name, while training."""
        self.means.update(name, ops.stop_gradient(ops.mean(ops.cast(value, "float32"))))

    @property
    def metrics(self):
        return [*super().metrics, *self.means.values()]

    def call(self, inputs):
        losses = self.compute_loss(inputs)
        if isinstance(losses, dict):
            for name, loss in losses.items():
                self.add_metric(loss, name)
        else:
            losses = {"loss": losses}
        for loss in losses.values():
            self.add_loss(ops.mean(loss))
        return self.chosen(inputs)

    def chosen(self, inputs):
        if self.output_axis is None:
            return inputs
        if isinstance(self.output_axis, (list, tuple)):
            return [inputs[i] for i in self.output_axis]
        return inputs[self.output_axis]

    def compute_mask(self, inputs, previous_mask=None):
        return None if previous_mask is None else self.chosen(previous_mask)


class Means:
    """Running means by name, made when a name first appears (in the symbolic call)."""

    def __init__(self):
        self.metrics = {}

    def values(self):
        return self.metrics.values()

    def update(self, name, value):
        if name not in self.metrics:
            kind = HostMean if keras.backend.backend() == "jax" else keras.metrics.Mean
            self.metrics[name] = kind(name=name)
        self.metrics[name].update_state(value)


class HostMean(keras.metrics.Metric):
    """A running mean kept on the host, which a compiled JAX step reports to and asks.

    Keras' JAX trainer drops what a layer writes into a metric's variables in the forward pass.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.reset_state()

    def reset_state(self):
        self.total, self.count = 0.0, 0

    def update_state(self, value):
        import jax

        jax.debug.callback(self.add, value)

    def add(self, value):
        self.total += float(value)
        self.count += 1

    def mean(self):
        return np.float32(self.total / max(self.count, 1))

    def result(self):
        import jax

        return jax.experimental.io_callback(self.mean, jax.ShapeDtypeStruct((), "float32"))
