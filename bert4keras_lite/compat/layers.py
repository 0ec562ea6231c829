"""`bert4keras.layers`: the layers of Keras, and those of bert4keras with their old arguments."""

import functools
import inspect
from typing import Any

import keras
import numpy as np
from keras import initializers, ops
from keras.layers import *  # noqa: F403  # as in bert4keras.layers

from .. import layers
from ..layers import (  # noqa: F401  # with the same arguments
    Concatenate1D,
    ConditionalRandomField,
    EfficientGlobalPointer,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    GlobalPointer,
    MaximumEntropyMarkovModel,
)
from ..layers.base import get_activation
from ..types import Shape, Tensor
from .backend import (
    apply_rotary_position_embeddings,
    attention_normalize,
    sinusoidal_embeddings,
)
from .keras_backend import TRAINING

OURS = [
    "BatchConcat",
    "BatchSplit",
    "Concatenate1D",
    "ConditionalRandomField",
    "EfficientGlobalPointer",
    "Embedding",
    "FeedForward",
    "GlobalAveragePooling1D",
    "GlobalMaxPooling1D",
    "GlobalPointer",
    "Lambda",
    "Layer",
    "LayerNormalization",
    "Loss",
    "MaximumEntropyMarkovModel",
    "MultiHeadAttention",
    "PositionEmbedding",
    "ScaleOffset",
    "SinusoidalPositionEmbedding",
]
__all__ = sorted({*(name for name in vars(keras.layers) if name[0].isupper()), *OURS})


class Layer(keras.layers.Layer):
    """Base class of layers in scripts: it propagates masks, and `K.in_train_phase` works in it.

    Mask arguments, `compute_mask` and `compute_output_shape` are as in Keras 2.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "call" in vars(cls):
            cls.call = _with_training(vars(cls)["call"])

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True


def _with_training(call):
    """Returns a method like `call`, which tells `K.in_train_phase` whether the layer is trained."""
    signature = inspect.signature(call)
    parameters = list(signature.parameters.values())
    passes = "training" in signature.parameters or any(p.kind is p.VAR_KEYWORD for p in parameters)
    if "training" not in signature.parameters:
        keyword = inspect.Parameter("training", inspect.Parameter.KEYWORD_ONLY, default=None)
        last = next((i for i, p in enumerate(parameters) if p.kind is p.VAR_KEYWORD), None)
        parameters.insert(len(parameters) if last is None else last, keyword)

    @functools.wraps(call)
    def with_training(self, *args, training=None, **kwargs):
        token = TRAINING.set(bool(training))
        try:
            kwargs |= {"training": training} if passes else {}
            return call(self, *args, **kwargs)
        finally:
            TRAINING.reset(token)

    with_training.__signature__ = signature.replace(parameters=parameters)
    return with_training


class Lambda(keras.layers.Lambda):
    """Keras' layer of a function; its output has no mask."""

    def __init__(self, function: Any, output_shape: Any = None, **kwargs: Any) -> None:
        super().__init__(function, output_shape, **kwargs)
        self.supports_masking = True


class Embedding(keras.layers.Embedding):
    """Keras' embedding; `mode="dense"` multiplies vectors by the table; token 0 is never masked.

    Position 0 of the mask is True, as in bert4keras.
    """

    def call(self, inputs: Tensor, mode: str = "embedding") -> Tensor:
        if mode == "embedding":
            return super().call(ops.cast(inputs, "int32"))
        return ops.matmul(inputs, ops.transpose(self.embeddings))

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        if len(inputs.shape) != 2:
            return mask
        mask = super().compute_mask(inputs, mask)
        if mask is None:
            return None
        return ops.concatenate([ops.ones_like(mask[:, :1]), mask[:, 1:]], 1)

    def compute_output_spec(self, inputs: Tensor, mode: str = "embedding") -> keras.KerasTensor:
        last = self.output_dim if mode == "embedding" else self.input_dim
        shape = inputs.shape if mode == "embedding" else inputs.shape[:-1]
        return keras.KerasTensor((*shape, last), self.compute_dtype)


class _Conditional:
    """Mixin: the condition is the second of a list of inputs, if `conditional` is True."""

    path: str

    def __init__(
        self,
        conditional: bool = False,
        hidden_activation: Any = "linear",
        hidden_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        self.conditional = conditional
        self.hidden_initializer = hidden_initializer
        super().__init__(hidden_activation=hidden_activation, **kwargs)

    def build(self, input_shape: Any) -> None:
        super().build(*(input_shape if self.conditional else [input_shape]))

    def call(self, inputs: Any) -> Tensor:
        return super().call(*(inputs if self.conditional else [inputs]))

    @property
    def weights(self) -> list[keras.Variable]:
        """The weights, in the order of bert4keras."""
        order = ["beta", "gamma", "hidden_dense", "beta_dense", "gamma_dense"]
        return sorted(
            super().weights,
            key=lambda w: order.index(w.path.removeprefix(f"{self.path}/").partition("/")[0]),
        )

    def compute_output_shape(self, input_shape: Any) -> Shape:
        return tuple(input_shape[0] if self.conditional else input_shape)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return previous_mask[0] if self.conditional and previous_mask else previous_mask


class ScaleOffset(_Conditional, layers.ScaleOffset):
    """`layers.ScaleOffset`; see `_Conditional`. `scale` and `offset` may be numbers."""

    def __init__(self, scale: Any = True, offset: Any = True, **kwargs: Any) -> None:
        self.constants = [
            None if isinstance(value, bool | None.__class__) else value for value in (scale, offset)
        ]
        super().__init__(scale=scale is True, offset=offset is True, **kwargs)

    def call(self, inputs: Any) -> Tensor:
        x = super().call(inputs)
        scale, offset = self.constants
        x = x if scale is None else x * scale
        return x if offset is None else x + offset


class LayerNormalization(_Conditional, layers.LayerNormalization):
    """`layers.LayerNormalization`; see `_Conditional`. The default of `epsilon` is Keras'."""

    def __init__(
        self,
        zero_mean: bool = True,
        unit_variance: bool = True,
        epsilon: float | None = None,
        **kwargs: Any,
    ) -> None:
        if not unit_variance:
            raise ValueError(
                "LayerNormalization: unit_variance=False is not supported. Subtract the mean in a"
                " Lambda layer instead."
            )
        super().__init__(zero_mean=zero_mean, epsilon=epsilon or keras.config.epsilon(), **kwargs)


class BatchSplit(Layer):
    """Splits the batch into parts of equal size (a number of them), or of these proportions."""

    def __init__(self, parts: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parts = parts

    def call(self, inputs: Any) -> list[Tensor]:
        if isinstance(inputs, list):
            return [part for x in inputs for part in self.call(x)]
        batch = ops.shape(inputs)[0]
        if np.ndim(self.parts):
            sums = np.cumsum(self.parts)
            ends = [0, *(int(p) * batch // int(sums[-1]) for p in sums)]
        else:
            size = -(-batch // self.parts)
            ends = [size * i for i in range(self.parts + 1)]
        return [inputs[a:b] for a, b in zip(ends, [*ends[1:-1], None], strict=True)]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"parts": self.parts}


class BatchConcat(Layer):
    """Joins parts of a batch."""

    def call(self, inputs: list[Tensor]) -> Tensor:
        return ops.concatenate(inputs, 0)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return None if mask is None or None in mask else ops.concatenate(mask, 0)


class MultiHeadAttention(Layer):
    """Attention of `[query, key, value, ...]`, with the arguments of bert4keras.

    Args:
        heads, head_size: number of heads, and their size in values.
        out_dim: size of the output; default `heads * head_size`.
        key_size: size of queries and keys; default `head_size`.
        normalization: see `backend.attention_normalize`.
        return_attention_scores: whether to return `[output, scores]`.

    Call arguments:
        inputs: query, key, value; then the bias (a mask, or added to the scores) if `a_bias`, and
            the positions that `p_bias` needs.
        a_bias: whether there is a bias.
        p_bias: `"rotary"`, `"typical_relative"`, `"t5_relative"` or None.
    """

    def __init__(
        self,
        heads: int,
        head_size: int,
        out_dim: int | None = None,
        key_size: int | None = None,
        use_bias: bool = True,
        normalization: str = "softmax",
        attention_scale: bool = True,
        attention_dropout: float | None = None,
        return_attention_scores: bool = False,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.heads, self.head_size = heads, head_size
        self.out_dim = out_dim or heads * head_size
        self.key_size = key_size or head_size
        self.use_bias, self.normalization = use_bias, normalization
        self.attention_scale = attention_scale
        self.attention_dropout = attention_dropout
        self.return_attention_scores = return_attention_scores
        self.kernel_initializer = initializers.get(kernel_initializer)

    def build(self, input_shape: Any) -> None:
        sizes = {"q": self.key_size, "k": self.key_size, "v": self.head_size}
        for i, (name, size) in enumerate(sizes.items()):
            _add_dense(self, f"{name}_dense", input_shape[i], size * self.heads)
        memory = (*input_shape[0][:-1], self.head_size * self.heads)
        _add_dense(self, "o_dense", memory, self.out_dim)
        self.dropout = keras.layers.Dropout(self.attention_dropout or 0)
        self.built = True

    def call(self, inputs: list, mask: Any = None, a_bias: Any = None, p_bias: Any = None) -> Any:
        q_mask, v_mask = (None, None) if mask is None else (mask[0], mask[2])
        parts = []
        for x, name in zip(inputs[:3], "qkv", strict=True):
            size = self.head_size if name == "v" else self.key_size
            x = getattr(self, f"{name}_dense")(x)
            parts.append(ops.reshape(x, (*ops.shape(x)[:2], self.heads, size)))
        context = {"a_bias": a_bias, "p_bias": p_bias}
        o, a = self.pay_attention_to([*parts, *inputs[3:]], [q_mask, v_mask], **context)
        o = self.o_dense(ops.reshape(o, (*ops.shape(o)[:2], self.heads * self.head_size)))
        return [o, a] if self.return_attention_scores else o

    def pay_attention_to(self, inputs: list, mask: Any = None, **kwargs: Any) -> tuple:
        """Returns the values that each query attends to, by head, and the scores."""
        (q, k, v), rest = inputs[:3], list(inputs[3:])
        bias = rest.pop(0) if kwargs.get("a_bias") else None
        p_bias = kwargs.get("p_bias")
        if p_bias == "rotary":
            q, k = apply_rotary_position_embeddings(rest[0], q, k)
        a = ops.einsum("bjhd,bkhd->bhjk", q, k)
        if p_bias == "typical_relative":
            a = a + ops.einsum("bjhd,jkd->bhjk", q, rest[0])
        elif p_bias == "t5_relative":
            a = a + ops.transpose(rest[0], (2, 0, 1))[None]
        a = a / self.key_size**0.5 if self.attention_scale else a
        if bias is not None and len(bias.shape) == 3:
            bias = bias[:, None]
        weights = attention_normalize(a, mask[1], -1, self.normalization, bias)
        weights = self.dropout(weights)
        o = ops.einsum("bhjk,bkhd->bjhd", weights, v)
        if p_bias == "typical_relative":
            o = o + ops.einsum("bhjk,jkd->bjhd", weights, rest[0])
        return o, a

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        if mask is None:
            return None
        return [mask[0], None] if self.return_attention_scores else mask[0]


def _add_dense(parent, name, input_shape, units, activation=None):
    """Adds a dense layer to a layer, with the initializer and `use_bias` of it."""
    layer = keras.layers.Dense(
        units,
        activation=activation,
        use_bias=parent.use_bias,
        kernel_initializer=keras.initializers.clone_initializer(parent.kernel_initializer),
        name=name,
    )
    layer.build(input_shape)
    setattr(parent, name, layer)


class FeedForward(Layer):
    """Two dense layers; a list of two activations multiplies two projections (arXiv 2002.05202)."""

    def __init__(
        self,
        units: int,
        activation: Any = "relu",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units, self.use_bias = units, use_bias
        names = activation if isinstance(activation, list) else [activation]
        self.activation = [get_activation(name) for name in names]
        self.kernel_initializer = initializers.get(kernel_initializer)

    def build(self, input_shape: Shape) -> None:
        for i, activation in enumerate(self.activation):
            _add_dense(self, f"i{i}_dense", input_shape, self.units, activation)
        _add_dense(self, "o_dense", (*input_shape[:-1], self.units), input_shape[-1])
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        x = self.i0_dense(inputs)
        for i in range(1, len(self.activation)):
            x = x * getattr(self, f"i{i}_dense")(inputs)
        return self.o_dense(x)


class _Positions(Layer):
    """Base class of position embeddings, which are merged with their input."""

    def __init__(
        self, merge_mode: str = "add", custom_position_ids: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.merge_mode, self.custom_position_ids = merge_mode, custom_position_ids

    def vectors(self, positions: Tensor) -> Tensor:
        """Returns the vectors of positions, `(batch or 1, length, dim)`."""
        raise NotImplementedError

    def call(self, inputs: Any) -> Tensor:
        if self.custom_position_ids:
            inputs, positions = inputs
        else:
            positions = ops.arange(ops.shape(inputs)[1], dtype="int32")[None]
        vectors = ops.cast(self.vectors(positions), self.compute_dtype)
        if self.merge_mode == "add":
            return inputs + vectors
        if self.merge_mode == "mul":
            return inputs * (vectors + 1)
        if self.merge_mode == "zero":
            return vectors
        shape = (*ops.shape(inputs)[:2], self.output_dim)
        return ops.concatenate([inputs, ops.broadcast_to(vectors, shape)], -1)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return mask[0] if isinstance(mask, list) else mask


class PositionEmbedding(_Positions):
    """Learned positions; `hierarchical` extends them (https://kexue.fm/archives/7947)."""

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        merge_mode: str = "add",
        hierarchical: Any = None,
        embeddings_initializer: Any = "zeros",
        custom_position_ids: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(merge_mode, custom_position_ids, **kwargs)
        self.input_dim, self.output_dim = input_dim, output_dim
        self.hierarchical = hierarchical
        self.embeddings_initializer = initializers.get(embeddings_initializer)

    def build(self, input_shape: Any) -> None:
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.input_dim, self.output_dim),
            initializer=self.embeddings_initializer,
        )

    def vectors(self, positions: Tensor) -> Tensor:
        positions, table = ops.cast(positions, "int32"), ops.convert_to_tensor(self.embeddings)
        if not self.hierarchical:
            return ops.take(table, positions, axis=0)
        alpha = 0.4 if self.hierarchical is True else self.hierarchical
        table = (table - alpha * table[:1]) / (1 - alpha)
        parts = (
            ops.take(table, index, axis=0)
            for index in (positions // self.input_dim, positions % self.input_dim)
        )
        return alpha * next(parts) + (1 - alpha) * next(parts)


class SinusoidalPositionEmbedding(_Positions):
    """Sines and cosines of the positions (arXiv 1706.03762, section 3.5)."""

    def __init__(
        self,
        output_dim: int,
        merge_mode: str = "add",
        custom_position_ids: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(merge_mode, custom_position_ids, **kwargs)
        self.output_dim = output_dim

    def vectors(self, positions: Tensor) -> Tensor:
        return sinusoidal_embeddings(positions, self.output_dim)


class Loss(layers.Loss):
    """`layers.Loss` whose `compute_loss` also gets the masks of its inputs.

    Integer inputs are converted to floats, which all inputs of Keras 2 were.
    """

    def call(self, inputs: Any, mask: Any = None) -> Any:
        floats = keras.tree.map_structure(_as_float, inputs)
        takes_mask = len(inspect.signature(self.compute_loss).parameters) > 1
        loss = self.compute_loss(floats, mask) if takes_mask else self.compute_loss(floats)
        self.add_loss(ops.mean(loss))
        return self.selected(inputs)

    def add_metric(self, value: Tensor, name: str, aggregation: str = "mean") -> None:
        """Reports the mean of a tensor as a metric."""
        super().add_metric(value, name)


def _as_float(x):
    kind = keras.backend.standardize_dtype(x.dtype)
    return ops.cast(x, keras.config.floatx()) if kind.startswith(("int", "uint")) else x
