"""Checks of tensor values: an error where they are known, NaN in compiled programs.

And the number that stands for minus infinity, `NEG_INF`.
"""

import keras
import numpy as np
from keras import ops

from ..backend import is_concrete

__all__ = ["NEG_INF", "check_shape", "integer_labels", "neg_inf", "raise_or_nan", "value_range"]

NEG_INF = -1e9  # finite, and smaller than any logit, in float32 and bfloat16
NEG_INF_FLOAT16 = -3e4  # two of them can be added


def neg_inf(dtype):
    """Returns the number for masked scores and logits of a dtype, given by its name."""
    return NEG_INF_FLOAT16 if dtype == "float16" else NEG_INF


def raise_or_nan(wrong, error):
    """Raises an error if any value is wrong, or returns a function that sets wrong values to NaN.

    Args:
        wrong: boolean tensor.
        error: function without arguments that returns the message.

    Returns:
        A function of a float tensor, to which `wrong` broadcasts. If the values of `wrong` are
        known, it returns the tensor unchanged.

    Raises:
        ValueError: the values are known, and some are True.
    """
    if not is_concrete(wrong):
        return lambda x: ops.where(wrong, float("nan"), x)
    # NumPy, as in a traced program an operation of Keras would become a part of it
    known = isinstance(wrong, np.ndarray | np.generic | bool)
    if bool(np.any(wrong) if known else ops.any(wrong)):
        raise ValueError(error())
    return lambda x: x


def check_shape(name, x, expected, advice, broadcast=False):
    """Checks the shape of a tensor; sizes that are not known yet (None) are not checked.

    Args:
        name: of the argument, in the message.
        x: a tensor.
        expected: its shape.
        advice: what to do, for the message.
        broadcast: whether a scalar, or axes of size 1, will do as well.

    Raises:
        ValueError: it has another shape.
    """
    if None in (getattr(shape, "rank", 0) for shape in (x.shape, expected)):
        return  # TensorFlow does not even know the number of axes
    got, expected = tuple(x.shape), tuple(expected)
    fits = len(got) == len(expected) or (broadcast and not got)
    for size, other in zip(got, expected, strict=False):
        fits &= None in (size, other) or size == other or (broadcast and size == 1)
    if not fits:
        raise ValueError(f"{name}: expected the shape {expected}, got {got}. {advice}")


def integer_labels(labels):
    """Returns labels as int32. A label that is not a whole number becomes larger than any class.

    Raises:
        ValueError: there is such a label, and the values are known.
    """
    labels = ops.convert_to_tensor(labels)
    if keras.backend.is_float_dtype(keras.backend.standardize_dtype(labels.dtype)):
        fractional = ops.not_equal(labels, ops.floor(labels))
        raise_or_nan(
            fractional,
            lambda: (
                "y_true: labels that are not whole numbers; expected ids, got "
                f"{value_range(labels)}."
            ),
        )
        labels = ops.where(fractional, 1 << 30, labels)
    return ops.cast(labels, "int32")


def value_range(x):
    """Returns the minimum and the maximum of an array, for messages."""
    x = ops.convert_to_numpy(x)
    return f"{x.min()} to {x.max()}"
