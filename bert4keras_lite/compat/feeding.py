"""Inputs and labels as Keras 2 took them, converted for Keras 3."""

from typing import Any

import keras
import numpy as np
from keras import ops

from ..backend import varying_batches

__all__ = ["arrays_of", "batches_of", "labels_of", "vectors_of"]


def arrays_of(data: Any, count: int, least: int = 2) -> Any:
    """Converts a list of arrays, or of numbers, for a model; other data stay as they are.

    Args:
        data: inputs or labels.
        count: number of inputs or outputs of the model.
        least: axes of an array that is alone in a list.
    """
    if not isinstance(data, list):
        return data
    if count > 1:
        return [np.asarray(array) for array in data]
    return np.asarray(data[0] if len(data) == 1 and np.ndim(data[0]) >= least else data)


def labels_of(model: Any, labels: Any) -> Any:
    """Returns the labels of the only output of a model, from a dict by its name or a list of one.

    Raises:
        ValueError: the dict has other names.
    """
    names = getattr(model, "output_names", ())
    if len(names) != 1:
        return labels
    if isinstance(labels, list | tuple) and len(labels) == 1:
        return labels[0]
    if not isinstance(labels, dict):
        return labels
    if list(labels) != list(names):
        raise ValueError(
            f"{model.name}: expected labels for the output {names[0]!r}, got {sorted(labels)}."
            " Use the name of the output, or pass the labels alone."
        )
    return labels[names[0]]


def vectors_of(outputs: Any) -> Any:
    """Returns outputs with at least one axis: in Keras 2, one may be a loss, a mere number."""

    def vector(x):
        return x if len(x.shape) else ops.expand_dims(x, 0)

    return keras.tree.map_structure(vector, outputs)


def batches_of(x):
    """Converts a generator of batches, so that all axes may vary; other data stay as they are."""
    if not hasattr(x, "__next__"):
        return x

    def arrays():
        for batch in x:
            batch = batch if isinstance(batch, tuple) else (batch,)
            parts = [part for part in batch if part is not None]
            yield tuple(keras.tree.map_structure(np.asarray, _as_tuples(part)) for part in parts)

    return varying_batches(arrays())


def _as_tuples(x):
    """Converts a list of inputs to a tuple, which TensorFlow does not take for an array."""
    return tuple(x) if isinstance(x, list) else x
