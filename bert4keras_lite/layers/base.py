"""Base class of the layers, activations, and weight initialization."""

import contextlib
import inspect
import math
from typing import Any

import keras
from keras import ops

from ..arguments import check_flags
from ..backend import affine, empty, gelu
from ..types import Function, Tensor

__all__ = [
    "ACTIVATIONS",
    "Layer",
    "WeightInitializer",
    "activation_name",
    "deferred_initialization",
    "dense",
    "dense_flops",
    "gelu_erf",
    "gelu_tanh",
    "get_activation",
    "parts_of",
    "register",
    "softmax",
]


def register(function: Function) -> Function:
    """Decorates a class or function that `.keras` files may name."""
    return keras.saving.register_keras_serializable("bert4keras_lite")(function)


@register
def gelu_erf(x: Tensor) -> Tensor:
    """Computes the exact GELU, `x * Phi(x)`, Phi the normal distribution (arXiv 1606.08415)."""
    return gelu(x)


@register
def gelu_tanh(x: Tensor) -> Tensor:
    """Computes GELU with the tanh approximation (arXiv 1606.08415, section 2)."""
    return keras.activations.gelu(x, approximate=True)


# names in published configs; all other names are those of Keras
ACTIVATIONS = {
    "gelu": gelu_erf,
    "gelu_erf": gelu_erf,
    "gelu_tanh": gelu_tanh,
    "gelu_new": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "swish": keras.activations.silu,
}


def get_activation(name):
    """Returns the activation function for a name of a published config; `"gelu"` is the exact one.

    Raises:
        ValueError: the name is unknown, or it is Keras' `glu`, which halves the last axis.
    """
    # a file of Keras has a dict for what was given as a function
    function = ACTIVATIONS.get(name) if isinstance(name, str) else None
    function = function or keras.activations.get(dict(name) if isinstance(name, dict) else name)
    if function is keras.activations.glu:
        raise ValueError(
            "activation='glu' gives half as many values as it gets; expected one that keeps the "
            "size. Use e.g. 'gelu' in a layer with gated=True."
        )
    return function


def activation_name(activation):
    """The name that a config has for an activation; of a function that has none, the function."""
    for name, function in ACTIVATIONS.items():
        if function is activation:
            return name
    name = getattr(activation, "__name__", None)
    # Keras' leaky_relu has another slope than configs mean by that name
    known = name != "leaky_relu" and getattr(keras.activations, str(name), None) is activation
    return name if known else activation


@register
class WeightInitializer(keras.initializers.TruncatedNormal):
    """Truncated normal initializer, as in BERT; skipped inside `deferred_initialization()`."""

    deferred = False

    def __init__(self, mean=0.0, stddev=0.02, seed=None):
        super().__init__(mean, stddev, seed)

    def __call__(self, shape, dtype=None):
        if not WeightInitializer.deferred:
            return super().__call__(shape, dtype)
        return empty(shape, dtype)


@contextlib.contextmanager
def deferred_initialization():
    """Skips the initialization of layers built inside, for weights that a checkpoint overwrites.

    The layers get memory but no values. Drawing a hundred million random numbers would take most of
    the loading time, and even filling them with zeros a good part of it.
    """
    WeightInitializer.deferred = True
    try:
        yield
    finally:
        WeightInitializer.deferred = False


class Layer(keras.layers.Layer):
    """Base layer whose config is its constructor arguments, each kept under its own name."""

    def __new__(cls, *args, **kwargs):
        # Keras inspects the constructors, so they must not be wrapped by `checks_flags`
        flags = {
            name: isinstance(parameter.default, bool)
            for name, parameter in cls._arguments().items()
        }
        names = list(inspect.signature(cls.__init__).parameters)[1:]
        check_flags(flags, dict(zip(names, args, strict=False)) | kwargs)
        return super().__new__(cls, *args, **kwargs)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {n: getattr(self, n) for n in sorted(self._arguments())}

    @classmethod
    def _arguments(cls):
        """Returns name -> parameter, of the constructors of the class and of its bases."""
        classes = [c for c in cls.__mro__ if issubclass(c, Layer) and c is not Layer]
        return {
            name: parameter
            for c in reversed(classes)
            for name, parameter in inspect.signature(c.__init__).parameters.items()
            if name != "self" and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        }

    # Sub-layers are created in `build`, in the parent's precision, so a `.keras` file has to store
    # which of them were quantized.

    def get_build_config(self) -> dict[str, Any] | None:
        modes = [layer.quantization_mode for layer in self._flatten_layers(include_self=False)]
        return {**(super().get_build_config() or {}), "quantized": modes}

    def build_from_config(self, config: dict[str, Any]) -> None:
        super().build_from_config(config)
        layers = list(self._flatten_layers(include_self=False))
        for layer, mode in zip(layers, config.get("quantized", ()), strict=False):
            if mode:
                layer.quantize(mode)
        if not self.trainable:  # nor are the sub-layers, which were created only now
            for layer in layers:
                layer.trainable = False


def softmax(attention_scores):
    """Returns the softmax over the last axis, which is computed in float32 at least."""
    dtype = attention_scores.dtype
    precise = ops.cast(attention_scores, keras.backend.result_type(dtype, "float32"))
    return ops.cast(ops.softmax(precise, axis=-1), dtype)


@register
class Dense(keras.layers.Dense):
    """`keras.layers.Dense` with a faster sum for PyTorch; see `backend.affine`."""

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        y = affine(x, self.kernel, self.bias)
        return y if self.activation is None else self.activation(y)

    def quantize(self, mode: Any = None, type_check: bool = True, config: Any = None) -> None:
        # Keras refuses subclasses, as they may compute something else
        super().quantize(mode, type_check=False, config=config)


def dense(parent, name, input_shape, units, activation=None, **kwargs):
    """Returns a built dense sub-layer of `parent`, with its precision and `initializer_range`."""
    kwargs.setdefault("kernel_initializer", WeightInitializer(stddev=parent.initializer_range))
    layer = Dense(units, get_activation(activation), dtype=parent.dtype_policy, name=name, **kwargs)
    layer.build(input_shape)
    return layer


def parts_of(branch, paths):
    """Returns what follows `branch/` in paths within a block, such as `Config.without_bias`.

    A list, as in the config of a saved layer, with which it is compared.
    """
    return [part for name, _, part in (path.partition("/") for path in paths) if name == branch]


def dense_flops(rows, *layers):
    """Returns the FLOPs of built dense layers on `rows` vectors."""
    return sum(2 * rows * math.prod(layer.kernel.shape) for layer in layers)
