"""`bert4keras.backend`: Keras, `K`, and the functions of old scripts on tensors."""

import itertools
import math
import types
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import keras as keras3
import numpy as np
from keras import ops

from .. import losses
from ..layers import gelu_erf, gelu_tanh
from ..types import Tensor
from . import keras_backend as K
from .keras_backend import dtype as dtype_of
from .keras_backend import flatten, reshape

__all__ = [
    "GELU",
    "K",
    "Sinusoidal",
    "align",
    "apply_rotary_position_embeddings",
    "attention_normalize",
    "batch_gather",
    "custom_objects",
    "divisible_temporal_padding",
    "dtype",
    "flatten",
    "gelu_erf",
    "gelu_tanh",
    "get_available_gpus",
    "is_tf_keras",
    "keras",
    "leaky_relu",
    "multilabel_categorical_crossentropy",
    "piecewise_linear",
    "pool1d",
    "recompute_grad",
    "reshape",
    "root_mean_square",
    "search_layer",
    "sequence_masking",
    "set_gelu",
    "sinusoidal_embeddings",
    "sparse_multilabel_categorical_crossentropy",
    "swish",
    "symbolic",
    "where",
]

is_tf_keras = True  # what matters to scripts: Keras is one with its backend
custom_objects: dict[str, Any] = {}  # all classes are registered
GELU = {"gelu": gelu_erf}  # what `hidden_act="gelu"` means: see `set_gelu`


class _Keras(types.ModuleType):
    """Keras 3, with the layers, models and `backend` of this package in the places of its own."""

    def __getattr__(self, name):
        if name == "backend":
            return K
        if name in ("layers", "models"):
            return import_module(f"bert4keras_lite.compat.{name}")
        try:
            return getattr(keras3, name)
        except AttributeError:
            nearest = get_close_matches(name, dir(keras3), 1)
            advice = f" Did you mean keras.{nearest[0]}?" if nearest else ""
            raise AttributeError(f"keras.{name}: Keras 3 has no such name.{advice}") from None


keras: Any = _Keras("keras")


def __getattr__(name):
    if name == "tf":
        return import_module("tensorflow")
    raise AttributeError(f"bert4keras_lite.compat.backend has no {name!r}.")


def get_available_gpus() -> list[str]:
    """Returns the names of the GPUs."""
    return keras3.distribution.list_devices("gpu")


def set_gelu(version: str) -> None:
    """Sets what `"gelu"` in a config means for the models built after it: `"erf"` or `"tanh"`."""
    functions = {"erf": gelu_erf, "tanh": gelu_tanh}
    if version.lower() not in functions:
        raise ValueError(f"set_gelu: expected 'erf' or 'tanh', got {version!r}.")
    GELU["gelu"] = functions[version.lower()]


def piecewise_linear(t: Tensor, schedule: dict[int, float], from_zero: bool = True) -> Tensor:
    """Returns the value at step `t` of a line through the points `step -> value`.

    Args:
        t: a tensor.
        schedule: the points; the value stays after the last of them.
        from_zero: whether the line begins at 0 in step 0, if no point says otherwise.
    """
    points = sorted(schedule.items())
    if from_zero and points[0][0] != 0:
        points = [(0, 0.0), *points]
    t = ops.cast(t, keras3.config.floatx())
    x = ops.full_like(t, points[0][1])
    for (begin, start), (end, stop) in itertools.pairwise(points):
        x = ops.where(t >= begin, start + (t - begin) * ((stop - start) / (end - begin)), x)
    return ops.where(t >= points[-1][0], ops.full_like(t, points[-1][1]), x)


def search_layer(inputs: Any, name: str, exclude_from: Any = None) -> Any:
    """Finds a layer by name, from a layer or an output of one back to the inputs.

    Returns:
        The layer, also by its name in bert4keras, or None.
    """
    from .graph import find_layer, layers_before

    return find_layer(layers_before(inputs), name)


def align(tensor: Tensor, axes: Sequence[int], ndim: int | None = None) -> Tensor:
    """Moves axis `i` of a tensor to axis `axes[i]` of one with `ndim` axes; others have size 1."""
    ndim = ndim or max(axes) + 1
    kept = [axis % ndim for axis in axes]
    return tensor[tuple(slice(None) if i in kept else None for i in range(ndim))]


def dtype(x: Any) -> str | None:
    """Returns the name of the dtype; None if it has none."""
    return dtype_of(x) if hasattr(x, "dtype") else None


def where(cond: Any, x: Any, y: Any) -> Tensor:
    """Selects elements, with broadcasting."""
    cond = ops.cast(cond, "bool")
    kind = dtype(x) or dtype(y) or keras3.config.floatx()
    x, y = (v if dtype(v) else ops.cast(v, kind) for v in (x, y))
    return ops.where(cond, x, y)


def sequence_masking(
    x: Tensor,
    mask: Tensor | None = None,
    value: float = 0,
    axis: Any = None,
    bias: Tensor | None = None,
    return_mask: bool = False,
) -> Any:
    """Replaces masked elements of sequences.

    Args:
        x: a tensor.
        mask: `(batch, length)`, True at elements to keep.
        value: in the place of the others.
        axis: the axis of the sequence, or a list of them; default 1.
        bias: added to `x`; or a second mask, if it is boolean.
        return_mask: whether to return a pair of the result and the mask of the shape of `x`.
    """
    axes = [1] if axis is None else axis if isinstance(axis, list) else [axis]
    full = None
    if mask is not None:
        for a in axes:
            along = align(ops.cast(mask, "bool"), [0, a], len(x.shape))
            full = along if full is None else ops.logical_and(full, along)
    if bias is not None and dtype(bias) == "bool":
        full = bias if full is None else ops.logical_and(full, bias)
    elif bias is not None:
        x = x + bias
    if full is not None:
        x = ops.where(full, x, ops.cast(value, x.dtype))
    return (x, full) if return_mask else x


def batch_gather(params: Tensor, indices: Tensor) -> Tensor:
    """Takes vectors of each sample by their indices.

    Args:
        params: `(batch, n, ...)`.
        indices: `(batch, k)`, of any dtype.

    Returns:
        `(batch, k, ...)`.
    """
    axis = len(indices.shape) - 1
    indices = ops.cast(indices, "int32")
    rest = ops.shape(params)[axis + 1 :]
    for _ in rest:
        indices = ops.expand_dims(indices, -1)
    indices = ops.broadcast_to(indices, (*ops.shape(indices)[: axis + 1], *rest))
    return ops.take_along_axis(params, indices, axis)


def pool1d(
    x: Tensor,
    pool_size: int,
    strides: int = 1,
    padding: str = "valid",
    data_format: str | None = None,
    pool_mode: str = "max",
) -> Tensor:
    """Pools a sequence of vectors, by `"max"` or `"avg"`."""
    pool = {"max": ops.max_pool, "avg": ops.average_pool}[pool_mode]
    return pool(x, pool_size, strides, padding, data_format)


def divisible_temporal_padding(x: Tensor, n: int) -> Tensor:
    """Pads a sequence with zeros so that its length is a multiple of `n`."""
    length = ops.shape(x)[1]
    return ops.pad(x, ((0, 0), (0, -length % n), (0, 0)))


def root_mean_square(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Returns the root of the mean of the squares."""
    return ops.sqrt(ops.mean(ops.square(x), axis, keepdims))


def swish(x: Tensor) -> Tensor:
    """Returns `x * sigmoid(x)`."""
    return ops.silu(x)


def leaky_relu(x: Tensor, alpha: float = 0.2) -> Tensor:
    """Returns `x`, or `alpha * x` where it is negative."""
    return ops.leaky_relu(x, alpha)


def attention_normalize(
    a: Tensor,
    mask: Tensor | None = None,
    axis: int = -1,
    method: str = "softmax",
    bias: Tensor | None = None,
) -> Tensor:
    """Normalizes attention scores.

    Args:
        a: `(batch, ..., queries, keys)`.
        mask: `(batch, keys)`.
        axis: of the keys.
        method: `"softmax"`; `"squared_relu"` (arXiv 2202.10447); `"softmax_plus"`
            (https://kexue.fm/archives/8823).
        bias: see `sequence_masking`.
    """
    a, mask = sequence_masking(a, mask, -np.inf, axis, bias, True)
    if method == "softmax":
        return ops.softmax(a, axis)
    if mask is None:
        keys = ops.cast(ops.shape(a)[-1], a.dtype)
    else:
        keys = ops.sum(ops.cast(mask, a.dtype), axis, keepdims=True)
    if method == "squared_relu":
        return ops.square(ops.relu(a)) / keys
    if method == "softmax_plus":
        return ops.softmax(a * (ops.log(ops.maximum(keys, 16)) / math.log(512)), axis)
    return a


def sinusoidal_embeddings(pos: Tensor, dim: int, base: float = 10000) -> Tensor:
    """Returns the sines (even) and cosines (odd places) of positions, `(..., dim)`."""
    steps = ops.arange(0, dim // 2, dtype=keras3.config.floatx())
    angles = ops.cast(pos, steps.dtype)[..., None] * ops.power(float(base), -2 * steps / dim)
    pairs = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)
    return ops.reshape(pairs, (*ops.shape(angles)[:-1], dim))


class Sinusoidal(keras3.initializers.Initializer):
    """Initializes a table by `sinusoidal_embeddings` (arXiv 1706.03762, section 3.5)."""

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Tensor:
        size, dim = shape
        return sinusoidal_embeddings(ops.arange(size, dtype=keras3.config.floatx()), dim)


def apply_rotary_position_embeddings(sinusoidal: Tensor, *tensors: Tensor) -> Any:
    """Rotates pairs of neighbouring elements (arXiv 2104.09864, equation 34).

    Args:
        sinusoidal: `sinusoidal_embeddings` of the positions, `(batch, length, dim)`.
        *tensors: `(batch, length, ..., dim)`.

    Returns:
        A tensor for one, else a list.
    """
    sinusoidal = align(sinusoidal, [0, 1, -1], len(tensors[0].shape))
    cos, sin = (ops.repeat(sinusoidal[..., i::2], 2, -1) for i in (1, 0))
    outputs = []
    for x in tensors:
        turned = ops.reshape(ops.stack([-x[..., 1::2], x[..., ::2]], -1), ops.shape(x))
        outputs.append(x * cos + turned * sin)
    return outputs[0] if len(outputs) == 1 else outputs


def multilabel_categorical_crossentropy(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """See `losses.multilabel_categorical_crossentropy`."""
    return losses.multilabel_categorical_crossentropy(y_true, y_pred)


def sparse_multilabel_categorical_crossentropy(
    y_true: Tensor, y_pred: Tensor, mask_zero: bool = False
) -> Tensor:
    """See `losses.sparse_multilabel_categorical_crossentropy`."""
    y_true = ops.cast(y_true, "int32")
    return losses.sparse_multilabel_categorical_crossentropy(y_true, y_pred, mask_zero)


def symbolic(f: Callable) -> Callable:
    """Returns the function: Keras 3 traces functions itself."""
    return f


def recompute_grad(call: Callable) -> Callable:
    """Returns the method; `build_transformer_model(..., remat=True)` saves memory instead."""
    return call
