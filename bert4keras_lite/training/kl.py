"""Kullback-Leibler divergences between predictions."""

import keras
from keras import ops

from ..types import Tensor

__all__ = [
    "Divergence",
    "divergence_of",
    "kl_of_binary_probabilities",
    "kl_of_binary_scores",
    "kl_of_probabilities",
    "kl_of_scores",
]


def kl_of_scores(p: Tensor, q: Tensor) -> Tensor:
    """Returns KL(p || q) of distributions, from logits `(batch, ..., dim)` to `(batch, ...)`."""
    log_p, log_q = ops.log_softmax(p, axis=-1), ops.log_softmax(q, axis=-1)
    return ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)


def kl_of_probabilities(p: Tensor, q: Tensor) -> Tensor:
    """Returns KL(p || q) of probabilities that sum to 1, `(batch, ..., dim)` to `(batch, ...)`."""
    p, q = (ops.clip(x, keras.config.epsilon(), 1) for x in (p, q))
    return ops.sum(p * (ops.log(p) - ops.log(q)), axis=-1)


def kl_of_binary_scores(p: Tensor, q: Tensor) -> Tensor:
    """Returns the mean divergence of `dim` binary predictions given by logits."""
    p, q = (ops.stack([x, ops.zeros_like(x)], axis=-1) for x in (p, q))
    return ops.mean(kl_of_scores(p, q), axis=-1)


def kl_of_binary_probabilities(p: Tensor, q: Tensor) -> Tensor:
    """Returns the mean divergence of `dim` binary predictions given by probabilities."""
    p, q = (ops.stack([x, 1 - x], axis=-1) for x in (p, q))
    return ops.mean(kl_of_probabilities(p, q), axis=-1)


def divergence_of(loss):
    """Returns the divergence that matches one of Keras' cross entropies.

    Raises:
        ValueError: it is another loss.
    """
    k, given = keras.losses, loss
    loss = k.get(loss)
    from_logits = getattr(loss, "from_logits", False)
    if isinstance(loss, (k.SparseCategoricalCrossentropy, k.CategoricalCrossentropy)) or loss in (
        k.sparse_categorical_crossentropy,
        k.categorical_crossentropy,
    ):
        return kl_of_scores if from_logits else kl_of_probabilities
    if isinstance(loss, k.BinaryCrossentropy) or loss is k.binary_crossentropy:
        return kl_of_binary_scores if from_logits else kl_of_binary_probabilities
    raise ValueError(
        f"loss={given!r:.200}: no divergence is known for this loss; expected a cross entropy of "
        "Keras. Pass divergence=, such as kl_of_scores or kl_of_probabilities (see "
        "bert4keras_lite.training)."
    )


class Divergence(keras.losses.Loss):
    """Wraps a function of two outputs as a Keras loss, with masks and weights applied by Keras."""

    def __init__(self, function):
        super().__init__(name="divergence")
        self.function = function

    def call(self, y_true, y_pred):
        return self.function(y_true, y_pred)
