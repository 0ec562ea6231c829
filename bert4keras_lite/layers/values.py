"""Arguments that are out of range: an error where values can be looked at, NaN in a program."""

import keras
import numpy as np
from keras import ops


def mark_wrong(wrong, error):
    """Raises an error if anything is wrong, or returns a function that puts NaN there.

    Args:
        wrong: booleans, a tensor.
        error: function of nothing that gives the message.

    Returns:
        A function of a tensor of floats, to which `wrong` broadcasts. If the values of `wrong` are
        at hand, it gives the tensor as it is.

    Raises:
        ValueError: the values are at hand, and some are true.
    """
    if not at_hand(wrong):
        return lambda x: ops.where(wrong, float("nan"), x)
    # what is known before a program is traced: an operation of Keras would become a part of it
    known = isinstance(wrong, np.ndarray | np.generic | bool)
    if bool(np.any(wrong) if known else ops.any(wrong)):
        raise ValueError(error())
    return lambda x: x


def check_shape(name, x, expected, advice, stretches=False):
    """Raises where a tensor has another shape; sizes that are not known yet, None, pass.

    Args:
        name: of the argument.
        x: a tensor.
        expected: its sizes, a tuple.
        advice: what to do, for the message.
        stretches: whether a single value, and axes of size 1 in place of others, will do.

    Raises:
        ValueError: names the argument and both shapes.
    """
    if None in (getattr(shape, "rank", 0) for shape in (x.shape, expected)):
        return  # of these, TensorFlow does not even know how many axes they have
    got, expected = tuple(x.shape), tuple(expected)
    fit = len(got) == len(expected) or (stretches and not got)
    for size, other in zip(got, expected, strict=False):
        fit &= None in (size, other) or size == other or (stretches and size == 1)
    if not fit:
        raise ValueError(f"{name}: expected the shape {expected}, got {got}. {advice}")


def whole_numbers(labels):
    """Labels as int32; one that is no whole number is made larger than any.

    Raises:
        ValueError: there is such a label, and the values are at hand.
    """
    labels = ops.convert_to_tensor(labels)
    if keras.backend.is_float_dtype(keras.backend.standardize_dtype(labels.dtype)):
        fractional = ops.not_equal(labels, ops.floor(labels))
        mark_wrong(
            fractional,
            lambda: (
                f"y_true: labels that are no whole numbers; got {extent(labels)}. Expected ids."
            ),
        )
        labels = ops.where(fractional, 1 << 30, labels)
    return ops.cast(labels, "int32")


def at_hand(x):
    """Whether the values of a tensor are known now, and no other device is waited for.

    They are not while a program is being traced or compiled, nor, on PyTorch, on a GPU.
    """
    if isinstance(x, np.ndarray | np.generic | bool):
        return True
    if isinstance(x, keras.KerasTensor):
        return False
    if keras.backend.backend() == "tensorflow":
        return hasattr(x, "numpy")
    if keras.backend.backend() == "jax":
        import jax

        return not isinstance(x, jax.core.Tracer)
    import torch
    from torch.utils._python_dispatch import _get_current_dispatch_mode

    tracing = torch.compiler.is_compiling() or torch.jit.is_tracing()
    recorded = _get_current_dispatch_mode() is not None  # as `make_fx` and `torch.export` do
    return type(x) is torch.Tensor and x.device.type == "cpu" and not (tracing or recorded)


def extent(x):
    """The least and the greatest of an array, for messages."""
    x = ops.convert_to_numpy(x)
    return f"{x.min()} to {x.max()}"
