"""`K`: what old scripts use of `keras.backend` of Keras 2, on the three backends of Keras 3.

The functions have the names, arguments and defaults that they had, and take tensors and symbolic
tensors. Where a name of Keras 2 has no meaning any more, `K.name` raises an `AttributeError` that
says what to use instead.
"""

import math
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from difflib import get_close_matches
from typing import Any

import keras
import numpy as np
from keras import ops

from ..types import Tensor
from .names import GONE

__all__ = [
    "TRAINING",
    "arange",
    "argmax",
    "argmin",
    "batch_dot",
    "batch_get_value",
    "batch_set_value",
    "binary_crossentropy",
    "cast",
    "categorical_crossentropy",
    "concatenate",
    "constant",
    "cumprod",
    "cumsum",
    "dtype",
    "eval",
    "expand_dims",
    "flatten",
    "function",
    "gather",
    "get_value",
    "hard_sigmoid",
    "in_test_phase",
    "in_train_phase",
    "int_shape",
    "is_tensor",
    "l2_normalize",
    "mean",
    "ones_like",
    "permute_dimensions",
    "prod",
    "random_binomial",
    "random_normal",
    "random_uniform",
    "relu",
    "repeat",
    "repeat_elements",
    "reshape",
    "set_value",
    "sparse_categorical_crossentropy",
    "sqrt",
    "std",
    "switch",
    "temporal_padding",
    "truncated_normal",
    "update",
    "update_add",
    "var",
    "variable",
    "zeros_like",
]

# whether the layer that is being called is trained: see `compat.layers.Layer`
TRAINING: ContextVar[Any] = ContextVar("TRAINING", default=None)
# same name and arguments in `keras.ops`
SAME = (
    *("abs", "all", "any", "clip", "cos", "dot", "elu", "equal"),
    *("exp", "greater", "greater_equal", "less", "less_equal", "log", "logsumexp", "max"),
    *("maximum", "min", "minimum", "ndim", "not_equal", "one_hot", "ones", "pow"),
    *("round", "shape", "sigmoid", "sign", "sin", "softmax", "softplus", "softsign", "square"),
    *("squeeze", "stack", "stop_gradient", "sum", "tanh", "tile", "transpose", "where", "zeros"),
)
OTHER_NAMES: dict[str, Callable] = {
    "pow": ops.power,
    "clear_session": keras.utils.clear_session,
    "epsilon": keras.config.epsilon,
    "floatx": keras.config.floatx,
    "image_data_format": keras.config.image_data_format,
    "set_epsilon": keras.config.set_epsilon,
    "set_floatx": keras.config.set_floatx,
    "set_image_data_format": keras.config.set_image_data_format,
}


def __getattr__(name):
    if name in OTHER_NAMES:
        return OTHER_NAMES[name]
    if name in SAME:
        return getattr(ops, name)
    if name in GONE:
        raise AttributeError(f"K.{name}: {GONE[name]}")
    known = [*__all__, *SAME, *OTHER_NAMES]
    nearest = get_close_matches(name, known, 1)
    advice = f"Did you mean K.{nearest[0]}? " if nearest else ""
    raise AttributeError(f"K.{name}: not available here. {advice}See keras.ops for its functions.")


def int_shape(x: Any) -> tuple:
    """Returns the static shape, with None for unknown sizes."""
    return tuple(x.shape)


def dtype(x: Any) -> str:
    """Returns the name of the dtype."""
    return keras.backend.standardize_dtype(x.dtype)


def is_tensor(x: Any) -> bool:
    """Whether it is a tensor or a symbolic tensor."""
    return keras.utils.is_keras_tensor(x) or ops.is_tensor(x)


def cast(x: Any, dtype: str) -> Tensor:
    """Converts to a dtype."""
    return ops.cast(x, dtype)


def constant(value: Any, dtype: str | None = None, shape: Sequence[int] | None = None) -> Tensor:
    """Returns a constant tensor."""
    array = np.asarray(value, dtype or keras.config.floatx())
    return ops.convert_to_tensor(array if shape is None else np.broadcast_to(array, shape))


def variable(value: Any, dtype: str | None = None, name: str | None = None) -> keras.Variable:
    """Returns a variable with this value."""
    return keras.Variable(value, dtype=dtype or keras.config.floatx(), name=name)


def zeros_like(x: Tensor, dtype: str | None = None, name: str | None = None) -> Tensor:
    """Returns zeros of the shape of `x`."""
    return ops.zeros_like(x, dtype=dtype)


def ones_like(x: Tensor, dtype: str | None = None, name: str | None = None) -> Tensor:
    """Returns ones of the shape of `x`."""
    return ops.ones_like(x, dtype=dtype)


def eval(x: Any) -> np.ndarray:
    """Returns the value of a tensor or a variable as an array.

    Raises:
        ValueError: it is symbolic and has no value.
    """
    if keras.utils.is_keras_tensor(x):
        raise ValueError(
            f"K.eval: {x.name} is an output of a layer, which has no value. Make a model of it and"
            " call predict."
        )
    return np.array(ops.convert_to_numpy(x))


get_value = eval


def set_value(x: keras.Variable, value: Any) -> None:
    """Assigns a value to a variable.

    Raises:
        TypeError: `x` is a tensor, which has no other value.
    """
    if not hasattr(x, "assign"):
        raise TypeError(
            f"K.set_value: expected a variable, got a {type(x).__name__}. Make it by K.variable."
        )
    x.assign(value)


def batch_get_value(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    """Returns the values of variables."""
    return [eval(x) for x in variables]


def batch_set_value(pairs: Any) -> None:
    """Assigns values to variables, given as pairs `(variable, value)`."""
    for x, value in pairs:
        x.assign(value)


def update(x: keras.Variable, new: Tensor) -> Tensor:
    """Assigns a value to a variable, and returns it."""
    x.assign(new)
    return x.value


def update_add(x: keras.Variable, increment: Tensor) -> Tensor:
    """Adds a value to a variable, and returns the sum."""
    return update(x, x + increment)


def function(inputs: Any, outputs: Any) -> Callable[[Any], Any]:
    """Returns a function from arrays for `inputs` to arrays of `outputs`, symbolic tensors."""
    several = isinstance(outputs, list | tuple)
    model = keras.Model(inputs, outputs)

    def run(arrays: Any) -> Any:
        arrays = [np.asarray(x) for x in arrays] if isinstance(arrays, list | tuple) else arrays
        result = model(arrays, training=False)
        return [eval(x) for x in result] if several else eval(result)

    return run


def reshape(x: Tensor, *args: Any) -> Tensor:
    """Changes the shape.

    Args:
        x: a tensor.
        *args: a shape; or `shape1, axis1, shape2, axis2, ...`, which replaces each of the axes by a
            shape, with at most one -1 in it.
    """
    if len(args) == 1:
        return ops.reshape(x, tuple(args[0]))
    if len(args) % 2:
        raise ValueError(f"reshape: expected a shape, or pairs of shape and axis, got {args}.")
    sizes = ops.shape(x)
    shape = [[size] for size in sizes]
    for new, axis in zip(args[::2], args[1::2], strict=True):
        known = int(np.prod([size for size in new if size != -1], dtype=int))
        shape[axis] = [sizes[axis] // known if size == -1 else size for size in new]
    return ops.reshape(x, tuple(size for axis in shape for size in axis))


def flatten(x: Tensor, start: int | None = None, end: int | None = None) -> Tensor:
    """Joins the axes from `start` to before `end` into one; default: all."""
    sizes = ops.shape(x)
    start, end = start or 0, end or len(sizes)
    return ops.reshape(x, (*sizes[:start], prod(sizes[start:end]), *sizes[end:]))


def permute_dimensions(x: Tensor, pattern: Sequence[int]) -> Tensor:
    """Reorders the axes."""
    return ops.transpose(x, tuple(pattern))


def expand_dims(x: Tensor, axis: int = -1) -> Tensor:
    """Inserts an axis of size 1."""
    return ops.expand_dims(x, axis)


def concatenate(tensors: Sequence[Tensor], axis: int = -1) -> Tensor:
    """Joins tensors along an axis."""
    return ops.concatenate(tensors, axis)


def repeat(x: Tensor, n: int) -> Tensor:
    """Repeats a `(batch, dim)` tensor: `(batch, n, dim)`."""
    return ops.repeat(x[:, None], n, axis=1)


def repeat_elements(x: Tensor, rep: int, axis: int) -> Tensor:
    """Repeats each element along an axis."""
    return ops.repeat(x, rep, axis=axis)


def temporal_padding(x: Tensor, padding: tuple[int, int] = (1, 1)) -> Tensor:
    """Pads the axis 1 of a tensor of three axes with zeros."""
    return ops.pad(x, ((0, 0), tuple(padding), (0, 0)))


def gather(reference: Tensor, indices: Tensor) -> Tensor:
    """Returns the rows with these indices."""
    return ops.take(reference, ops.cast(indices, "int32"), axis=0)


def cumsum(x: Tensor, axis: int = 0) -> Tensor:
    """Returns the sums of the elements so far along an axis."""
    return ops.cumsum(x, axis)


def cumprod(x: Tensor, axis: int = 0) -> Tensor:
    """Returns the products of the elements so far along an axis."""
    return ops.cumprod(x, axis)


def prod(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Returns the product along axes; of a shape, its number of elements."""
    if isinstance(x, tuple | list) and all(isinstance(size, int) for size in x):
        return math.prod(x)
    return ops.prod(x, axis, keepdims)


def _real(x):
    """Converts truth values and integers to floats, of which means are taken."""
    return ops.cast(x, keras.config.floatx()) if "float" not in dtype(x) else x


def mean(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Returns the mean along axes."""
    return ops.mean(_real(x), axis, keepdims)


def var(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Returns the variance along axes."""
    return ops.var(_real(x), axis, keepdims)


def std(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Returns the standard deviation along axes."""
    return ops.std(_real(x), axis, keepdims)


def sqrt(x: Tensor) -> Tensor:
    """Returns the square root, 0 of negative numbers."""
    return ops.sqrt(ops.maximum(x, 0))


def relu(x: Tensor, alpha: float = 0.0, max_value: Any = None, threshold: float = 0.0) -> Tensor:
    """Returns the rectified tensor."""
    return keras.activations.relu(x, alpha, max_value, threshold)


def hard_sigmoid(x: Tensor) -> Tensor:
    """Returns `0.2 x + 0.5` between 0 and 1."""
    return ops.clip(0.2 * x + 0.5, 0, 1)


def argmax(x: Tensor, axis: int = -1) -> Tensor:
    """Returns the index of the largest element along an axis."""
    return ops.argmax(x, axis)


def argmin(x: Tensor, axis: int = -1) -> Tensor:
    """Returns the index of the smallest element along an axis."""
    return ops.argmin(x, axis)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: str = "int32") -> Tensor:
    """Returns numbers from `start` to before `stop`, or from 0 to before `start`."""
    return ops.arange(start, stop, step, dtype=dtype)


def l2_normalize(x: Tensor, axis: int | None = None) -> Tensor:
    """Divides by the length of the vectors along an axis."""
    squares = ops.sum(ops.square(x), axis, keepdims=True)
    return x * ops.rsqrt(ops.maximum(squares, 1e-12))


def batch_dot(x: Tensor, y: Tensor, axes: Any = None) -> Tensor:
    """Returns the products of each sample of `x` and of `y`, summed over an axis of each.

    Args:
        x, y: `(batch, ...)`, with two or three axes.
        axes: the axis of each, or one for both. Default: the last of `x`, and the last but one of
            `y` (if it has two: its last).
    """
    ranks = len(x.shape), len(y.shape)
    if axes is None:
        axes = ranks[0] - 1, max(ranks[1] - 2, 1)
    axes = (axes, axes) if isinstance(axes, int) else axes
    first, second = (
        ["b", *names[: rank - 1]] for names, rank in zip(("ij", "kl"), ranks, strict=True)
    )
    summed = [axis % rank for axis, rank in zip(axes, ranks, strict=True)]
    first[summed[0]] = second[summed[1]] = "s"
    kept = [name for name in [*first, *second[1:]] if name != "s"]
    product = ops.einsum(f"{''.join(first)},{''.join(second)}->{''.join(kept)}", x, y)
    return product if len(kept) > 1 else ops.expand_dims(product, 1)


def switch(condition: Tensor, then_expression: Any, else_expression: Any) -> Tensor:
    """Selects one of two tensors, or of two functions that return them, by a condition."""
    yes, no = (x() if callable(x) else x for x in (then_expression, else_expression))
    condition = ops.cast(condition, "bool")
    while len(condition.shape) < max(len(ops.shape(yes)), len(ops.shape(no))):
        condition = ops.expand_dims(condition, -1)
    return ops.where(condition, yes, no)


def in_train_phase(x: Any, alt: Any, training: Any = None) -> Any:
    """Returns `x` in training, `alt` otherwise; within a layer of `compat.layers.Layer`.

    Raises:
        RuntimeError: it is called elsewhere, where nobody can tell.
    """
    training = TRAINING.get() if training is None else training
    if training is None:
        raise RuntimeError(
            "K.in_train_phase: called outside of a layer. Derive the layer from bert4keras_lite."
            "compat.layers.Layer, or pass training=True or False."
        )
    chosen = x if training else alt
    return chosen() if callable(chosen) else chosen


def in_test_phase(x: Any, alt: Any, training: Any = None) -> Any:
    """Returns `x` outside of training, `alt` in it; see `in_train_phase`."""
    return in_train_phase(alt, x, training)


def random_uniform(
    shape: Sequence[int],
    minval: float = 0.0,
    maxval: float = 1.0,
    dtype: str | None = None,
    seed: Any = None,
) -> Tensor:
    """Draws from a uniform distribution."""
    return keras.random.uniform(shape, minval, maxval, dtype, seed)


def random_normal(
    shape: Sequence[int],
    mean: float = 0.0,
    stddev: float = 1.0,
    dtype: str | None = None,
    seed: Any = None,
) -> Tensor:
    """Draws from a normal distribution."""
    return keras.random.normal(shape, mean, stddev, dtype, seed)


def truncated_normal(
    shape: Sequence[int],
    mean: float = 0.0,
    stddev: float = 1.0,
    dtype: str | None = None,
    seed: Any = None,
) -> Tensor:
    """Draws from a normal distribution, within two standard deviations."""
    return keras.random.truncated_normal(shape, mean, stddev, dtype, seed)


def random_binomial(
    shape: Sequence[int], p: float = 0.0, dtype: str | None = None, seed: Any = None
) -> Tensor:
    """Draws ones with probability `p`, and zeros."""
    uniform = keras.random.uniform(shape, seed=seed)
    return ops.cast(uniform <= p, dtype or keras.config.floatx())


def binary_crossentropy(target: Tensor, output: Tensor, from_logits: bool = False) -> Tensor:
    """Returns the cross-entropy of each element.

    Of probabilities, epsilon is added to both logarithms' arguments after clipping, as in Keras 2.
    """
    target = ops.cast(target, output.dtype)
    if from_logits:
        return ops.binary_crossentropy(target, output, from_logits=True)
    epsilon = keras.config.epsilon()
    output = ops.clip(output, epsilon, 1 - epsilon)
    return -(target * ops.log(output + epsilon) + (1 - target) * ops.log(1 - output + epsilon))


def categorical_crossentropy(
    target: Tensor, output: Tensor, from_logits: bool = False, axis: int = -1
) -> Tensor:
    """Returns the cross-entropy along an axis, to one-hot targets."""
    target = ops.cast(target, output.dtype)
    return ops.categorical_crossentropy(target, output, from_logits, axis)


def sparse_categorical_crossentropy(
    target: Tensor, output: Tensor, from_logits: bool = False, axis: int = -1
) -> Tensor:
    """Returns the cross-entropy along an axis, to integer targets of any dtype."""
    target = ops.reshape(ops.cast(target, "int32"), ops.shape(output)[:-1])
    return ops.sparse_categorical_crossentropy(target, output, from_logits, axis)
