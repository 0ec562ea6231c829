"""The layers a Transformer is made of.

Shapes are written as `(batch, length, dim)`. No call argument is named `mask`: what a query may
see travels as an additive `bias` on the attention scores (`AttentionBias` makes it), while Keras'
own implicit mask only marks padding for the layers a user puts on top (losses, poolings).
"""

import contextlib
import inspect

import keras
import numpy as np
from keras import ops

register = keras.saving.register_keras_serializable("bert4keras_lite")


@register
def gelu_erf(x):
    """`x * Phi(x)` with the exact normal distribution function (arXiv 1606.08415)."""
    if keras.backend.backend() == "tensorflow":  # its own has no ONNX, and is a fifth slower
        return x * (0.5 + 0.5 * ops.erf(x * 0.5**0.5))
    return keras.activations.gelu(x, approximate=False)


@register
def gelu_tanh(x):
    """GELU with the tanh approximation of the normal distribution (arXiv 1606.08415, section 2)."""
    return keras.activations.gelu(x, approximate=True)


# the names found in published configs; every other name is Keras' own
ACTIVATIONS = {
    "gelu": gelu_erf,
    "gelu_erf": gelu_erf,
    "gelu_tanh": gelu_tanh,
    "gelu_new": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "swish": keras.activations.silu,
    "leaky_relu": keras.activations.leaky_relu,
}


def get_activation(name):
    """The activation function of a published config's name (`"gelu"` is the exact one)."""
    return ACTIVATIONS.get(name) or keras.activations.get(name)


@register
class WeightInitializer(keras.initializers.TruncatedNormal):
    """Truncated normal, as BERT initializes; nothing yet inside `deferred_initialization()`."""

    deferred = False

    def __init__(self, mean=0.0, stddev=0.02, seed=None):
        super().__init__(mean, stddev, seed)

    def __call__(self, shape, dtype=None):
        if not WeightInitializer.deferred:
            return super().__call__(shape, dtype)
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            return tf.raw_ops.Empty(shape=shape, dtype=dtype)
        return ops.convert_to_tensor(np.empty(shape, dtype))


@contextlib.contextmanager
def deferred_initialization():
    """Layers built in here get memory but no values, for weights a checkpoint will overwrite.

    Drawing a hundred million random numbers would take most of the loading time, and even
    filling them with zeros a good part of it.
    """
    WeightInitializer.deferred = True
    try:
        yield
    finally:
        WeightInitializer.deferred = False


class Layer(keras.layers.Layer):
    """A layer that keeps every constructor argument under its own name: that is its config."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def get_config(self):
        classes = [c for c in type(self).__mro__ if issubclass(c, Layer) and c is not Layer]
        arguments = {
            name
            for c in classes
            for name, parameter in inspect.signature(c.__init__).parameters.items()
            if name != "self" and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        }
        return super().get_config() | {name: getattr(self, name) for name in sorted(arguments)}


def dense(parent, name, input_shape, units, activation=None, **kwargs):
    """A built dense sub-layer of `parent`, in its precision and with its `initializer_range`."""
    kwargs.setdefault("kernel_initializer", WeightInitializer(stddev=parent.initializer_range))
    layer = keras.layers.Dense(
        units, get_activation(activation), dtype=parent.dtype_policy, name=name, **kwargs
    )
    layer.build(input_shape)
    return layer


@register
class TokenEmbedding(keras.layers.Embedding):
    """Token vectors, and, with `reverse=True`, the scores of all tokens by the same table.

    Id 0 is padding. The mask leaves position 0 visible whatever stands there, as bert4keras
    does, so that no row is ever wholly hidden (decoders may begin with the padding token).

    Args:
        input_dim: vocabulary size.
        output_dim: size of the vectors.

    Call arguments:
        inputs: integer ids of shape `(batch, length)`; with `reverse`, vectors of shape
            `(batch, length, output_dim)`.

    Returns:
        `(batch, length, output_dim)`; with `reverse`, `(batch, length, input_dim)`.

    Reference:
        Press and Wolf, "Using the Output Embedding to Improve Language Models",
        arXiv 1608.05859.
    """

    def call(self, inputs, reverse=False):
        if reverse:
            return ops.matmul(inputs, ops.transpose(self.embeddings))
        return super().call(inputs)

    def compute_mask(self, inputs, mask=None):
        if not self.mask_zero or len(inputs.shape) != 2:
            return mask
        return token_mask(inputs)

    def compute_output_shape(self, input_shape):
        if len(input_shape) == 3:
            return (*input_shape[:2], self.input_dim)
        return super().compute_output_shape(input_shape)

    def compute_output_spec(self, inputs, reverse=False):
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), self.compute_dtype)


def token_mask(token_ids):
    """True where a token is no padding; position 0 always is. `(batch, length)` in and out."""
    # counted, because a symbolic tensor of unknown length has no arange
    position = ops.cumsum(ops.ones_like(token_ids), axis=1)
    return ops.logical_or(ops.not_equal(token_ids, 0), ops.equal(position, 1))


@register
class PositionEmbedding(Layer):
    """Adds a learned vector for each position, or for each of other small integers (segments).

    Args:
        input_dim: number of trained positions.
        output_dim: size of the vectors.
        hierarchical: `True` (0.4) or a number `a` in (0, 1): position `i * input_dim + j` gets
            `a * u[i] + (1 - a) * u[j]` with `u = (table - a * table[0]) / (1 - a)`, which leaves
            the trained positions as they are and reaches `input_dim ** 2` positions.
        initializer_range: standard deviation of the initial table.

    Call arguments:
        x: `(batch, length, output_dim)`.
        positions: integers `(batch, length)` or `(1, length)`; 0, 1, 2, ... when left out.

    Returns:
        `(batch, length, output_dim)`.

    Reference:
        For the hierarchical decomposition: https://kexue.fm/archives/7947
    """

    def __init__(self, input_dim, output_dim, hierarchical=None, initializer_range=0.02, **kwargs):
        super().__init__(**kwargs)
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.hierarchical = hierarchical
        self.initializer_range = initializer_range
        self.alpha = 0.4 if hierarchical is True else hierarchical

    def build(self, x_shape):
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.input_dim, self.output_dim),
            initializer=WeightInitializer(stddev=self.initializer_range),
        )

    def call(self, x, positions=None):
        table, size, length = ops.convert_to_tensor(self.embeddings), self.input_dim, x.shape[1]
        if positions is None:
            if isinstance(length, int) and length > size and not self.alpha:
                raise ValueError(
                    f"{self.name}: the input has {length} tokens, but there are {size} positions. "
                    f"Cut the input (maxlen={size}) or build with hierarchical_position=True."
                )
            # counted, because an exported graph may not know the length
            positions = ops.cumsum(ops.ones_like(x[:1, :, 0], dtype="int32"), axis=1) - 1
        if self.alpha:
            table = (table - self.alpha * table[:1]) / (1 - self.alpha)
            coarse = ops.take(table, positions // size, axis=0)
            fine = ops.take(table, positions % size, axis=0)
            added = self.alpha * coarse + (1 - self.alpha) * fine
        else:
            added = ops.take(table, positions, axis=0)
        return x + ops.cast(added, x.dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)


@register
class ScaleOffset(Layer):
    """`gamma * x + beta` along the last axis, both optionally moved by a condition.

    With a condition `c`: `gamma + W_g c` and `beta + W_b c`. The two maps start at zero, so
    that training begins at the unconditioned (pretrained) layer.

    Args:
        scale: whether there is a `gamma`.
        offset: whether there is a `beta`.
        hidden_units: when given, `c` first goes through a dense layer of that size.
        hidden_activation: of that layer.
        initializer_range: standard deviation of its initial weights.

    Call arguments:
        x: `(batch, ..., dim)`.
        condition: `(batch, size)`, or a tensor with as many axes as `x`.

    Returns:
        The shape of `x`.

    Reference:
        Conditional layer normalization, https://kexue.fm/archives/7124
    """

    def __init__(
        self,
        scale=True,
        offset=True,
        hidden_units=None,
        hidden_activation="linear",
        initializer_range=0.02,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.scale = scale
        self.offset = offset
        self.hidden_units = hidden_units
        self.hidden_activation = hidden_activation
        self.initializer_range = initializer_range

    def build(self, x_shape, condition_shape=None):
        dim = x_shape[-1]
        self.gamma = self.beta = None
        if self.scale:
            self.gamma = self.add_weight(name="gamma", shape=(dim,), initializer="ones")
        if self.offset:
            self.beta = self.add_weight(name="beta", shape=(dim,), initializer="zeros")
        if condition_shape is None:
            return
        if self.hidden_units:
            self.hidden_dense = dense(
                self,
                "hidden_dense",
                condition_shape,
                self.hidden_units,
                self.hidden_activation,
                use_bias=False,
            )
            condition_shape = (*condition_shape[:-1], self.hidden_units)
        zeros = {"use_bias": False, "kernel_initializer": "zeros"}
        if self.scale:
            self.gamma_dense = dense(self, "gamma_dense", condition_shape, dim, **zeros)
        if self.offset:
            self.beta_dense = dense(self, "beta_dense", condition_shape, dim, **zeros)

    def call(self, x, condition=None):
        gamma, beta = self.gamma, self.beta
        if condition is not None:
            while len(condition.shape) < len(x.shape):
                condition = ops.expand_dims(condition, 1)
            if self.hidden_units:
                condition = self.hidden_dense(condition)
            if self.scale:
                gamma = gamma + self.gamma_dense(condition)
            if self.offset:
                beta = beta + self.beta_dense(condition)
        if self.scale:
            x = x * ops.cast(gamma, x.dtype)
        if self.offset:
            x = x + ops.cast(beta, x.dtype)
        return x

    def compute_output_shape(self, x_shape, condition_shape=None):
        return tuple(x_shape)


@register
class LayerNormalization(ScaleOffset):
    """Layer normalization, optionally conditional (see `ScaleOffset`).

    Mean and variance are taken in float32 at least, so half precision does not lose them.

    Args:
        epsilon: added to the variance.

    Call arguments:
        x: `(batch, ..., dim)`.
        condition: `(batch, size)` or None.

    Returns:
        The shape of `x`.

    Reference:
        Ba et al., "Layer Normalization", arXiv 1607.06450, equation 4.
    """

    def __init__(self, epsilon=1e-12, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def call(self, x, condition=None):
        y = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
        y = y - ops.mean(y, axis=-1, keepdims=True)
        y = y * ops.rsqrt(ops.mean(ops.square(y), axis=-1, keepdims=True) + self.epsilon)
        return ops.cast(super().call(y, condition), x.dtype)


@register
class AttentionBias(Layer):
    """What a query sees, as numbers to add to attention scores: 0 if visible, else very negative.

    The numbers are finite, so a row that sees nothing gives an even average and never NaN, and
    they fit into the layer's precision.

    Args:
        attend: `"all"`: every token that is no padding (an encoder); `"lm"`: also no later token
            (a language model); `"unilm"`: a token sees the first segment and what precedes it
            in the second (a sequence-to-sequence model in one stack).
        segments_are_tokens: segment ids come from the vocabulary, so that there, too, id 0 is
            padding and hides its token (what bert4keras does with shared segment embeddings).

    Call arguments:
        token_ids: `(batch, length)`.
        segment_ids: `(batch, length)`; for `"unilm"` 0 in the source and 1 in the target.

    Returns:
        `(batch, 1, 1 or length, length)`: batch, heads, queries, keys.

    Reference:
        Dong et al., "Unified Language Model Pre-training", arXiv 1905.03197, figure 1.
    """

    def __init__(self, attend="all", segments_are_tokens=False, **kwargs):
        super().__init__(**kwargs)
        self.attend = attend
        self.segments_are_tokens = segments_are_tokens

    def call(self, token_ids, segment_ids=None):
        present = token_mask(token_ids)
        if self.segments_are_tokens:
            present = ops.logical_and(present, token_mask(segment_ids))
        visible = present[:, None, None, :]
        if self.attend != "all":
            if self.attend == "lm":
                order = ops.cumsum(ops.ones_like(token_ids), axis=1)
            else:
                order = ops.cumsum(segment_ids, axis=1)
            no_later = order[:, None, None, :] <= order[:, None, :, None]
            visible = ops.logical_and(visible, no_later)
        hidden = -3e4 if self.compute_dtype == "float16" else -1e9
        return ops.cast(ops.where(visible, 0.0, hidden), self.compute_dtype)

    def compute_output_spec(self, token_ids, segment_ids=None):
        batch, length = token_ids.shape
        queries = 1 if self.attend == "all" else length
        return keras.KerasTensor((batch, 1, queries, length), self.compute_dtype)


@register
class MultiHeadAttention(Layer):
    """Multi-head attention: `softmax(Q K^T / sqrt(d) + bias) V`, projected back.

    Args:
        num_heads: number of heads.
        head_size: size of a head's values.
        key_size: size of a head's queries and keys; `head_size` when left out.
        dropout: rate on the attention probabilities.
        return_scores: whether to give the scores (before `bias`) as well.
        initializer_range: standard deviation of the initial kernels.

    Call arguments:
        x: queries come from here, `(batch, length, dim)`.
        bias: added to the scores; broadcasts to `(batch, num_heads, length, length)`.
        scores: scores of the block below to add, `(batch, num_heads, length, length)`.

    Returns:
        `(batch, length, dim)`, and the scores with `return_scores`.

    Reference:
        Vaswani et al., "Attention Is All You Need", arXiv 1706.03762, section 3.2. Residual
        scores: He et al., "RealFormer", arXiv 2012.11747; as in bert4keras, a block adds the
        scores of the block below alone, where the paper adds the running sum.
    """

    def __init__(
        self,
        num_heads,
        head_size,
        key_size=None,
        dropout=0.0,
        return_scores=False,
        initializer_range=0.02,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.head_size = head_size
        self.key_size = key_size or head_size
        self.dropout = dropout
        self.return_scores = return_scores
        self.initializer_range = initializer_range

    def build(self, x_shape):
        keys, values = self.num_heads * self.key_size, self.num_heads * self.head_size
        self.query = dense(self, "query", x_shape, keys)
        self.key = dense(self, "key", x_shape, keys)
        self.value = dense(self, "value", x_shape, values)
        self.output_dense = dense(self, "output", (*x_shape[:-1], values), x_shape[-1])
        self.dropout_layer = keras.layers.Dropout(self.dropout, dtype=self.dtype_policy)

    def call(self, x, bias=None, scores=None):
        query = self.split_heads(self.query(x), self.key_size)
        key = self.split_heads(self.key(x), self.key_size)
        value = self.split_heads(self.value(x), self.head_size)
        own = ops.einsum("bqhd,bkhd->bhqk", query * self.key_size**-0.5, key)
        addends = [addend for addend in (scores, bias) if addend is not None]
        probabilities = self.dropout_layer(ops.softmax(sum(addends, own), axis=-1))
        y = ops.einsum("bhqk,bkhd->bqhd", probabilities, value)
        y = self.output_dense(
            ops.reshape(y, (-1, ops.shape(x)[1], self.num_heads * self.head_size))
        )
        return (y, own) if self.return_scores else y

    def split_heads(self, x, size):
        """`(batch, length, num_heads * size)` to `(batch, length, num_heads, size)`."""
        return ops.reshape(x, (-1, ops.shape(x)[1], self.num_heads, size))

    def compute_output_shape(self, x_shape):
        batch, length, _ = x_shape
        scores = (batch, self.num_heads, length, length)
        return (tuple(x_shape), scores) if self.return_scores else tuple(x_shape)


@register
class FeedForward(Layer):
    """Two dense layers with an activation between them, at every position alike.

    Args:
        units: size in the middle.
        activation: its name, as configs spell it.
        initializer_range: standard deviation of the initial kernels.

    Call arguments:
        x: `(batch, length, dim)`.

    Returns:
        `(batch, length, dim)`.

    Reference:
        Vaswani et al., arXiv 1706.03762, section 3.3.
    """

    def __init__(self, units, activation="gelu", initializer_range=0.02, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.activation = activation
        self.initializer_range = initializer_range

    def build(self, x_shape):
        dim = x_shape[-1]
        self.input_dense = dense(self, "input", x_shape, self.units, self.activation)
        self.output_dense = dense(self, "output", (*x_shape[:-1], self.units), dim)

    def call(self, x):
        return self.output_dense(self.input_dense(x))

    def compute_output_shape(self, x_shape):
        return tuple(x_shape)


@register
class TransformerBlock(Layer):
    """One block: attention, then feed-forward, each with a residual and a normalization after it.

    Args:
        num_heads, head_size, key_size, attention_dropout, return_scores: see `MultiHeadAttention`.
        intermediate_size, activation: see `FeedForward`.
        dropout: rate on what each of the two adds to the residual.
        norm_epsilon: of the normalizations.
        condition_units, condition_activation: see `ScaleOffset`.
        initializer_range: standard deviation of the initial kernels.

    Call arguments:
        x: `(batch, length, dim)`.
        bias: what is visible, from `AttentionBias`.
        condition: `(batch, size)`, for conditional normalization.
        scores: attention scores of the block below.

    Returns:
        `(batch, length, dim)`, and the attention scores with `return_scores`.

    Reference:
        Devlin et al., "BERT", arXiv 1810.04805; Vaswani et al., arXiv 1706.03762, figure 1.
    """

    def __init__(
        self,
        num_heads,
        head_size,
        intermediate_size,
        key_size=None,
        activation="gelu",
        dropout=0.0,
        attention_dropout=0.0,
        norm_epsilon=1e-12,
        return_scores=False,
        condition_units=None,
        condition_activation="linear",
        initializer_range=0.02,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.head_size = head_size
        self.intermediate_size = intermediate_size
        self.key_size = key_size
        self.activation = activation
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.norm_epsilon = norm_epsilon
        self.return_scores = return_scores
        self.condition_units = condition_units
        self.condition_activation = condition_activation
        self.initializer_range = initializer_range

    def build(self, x_shape, condition_shape=None):
        common = {"dtype": self.dtype_policy, "initializer_range": self.initializer_range}
        self.attention = MultiHeadAttention(
            self.num_heads,
            self.head_size,
            self.key_size,
            self.attention_dropout,
            self.return_scores,
            name="attention",
            **common,
        )
        self.ffn = FeedForward(self.intermediate_size, self.activation, name="ffn", **common)
        self.attention_norm, self.ffn_norm = (
            LayerNormalization(
                epsilon=self.norm_epsilon,
                hidden_units=self.condition_units,
                hidden_activation=self.condition_activation,
                name=name,
                **common,
            )
            for name in ("attention_norm", "ffn_norm")
        )
        self.dropout_layer = keras.layers.Dropout(self.dropout, dtype=self.dtype_policy)
        self.attention.build(x_shape)
        self.ffn.build(x_shape)
        self.attention_norm.build(x_shape, condition_shape)
        self.ffn_norm.build(x_shape, condition_shape)

    def call(self, x, bias=None, condition=None, scores=None):
        y = self.attention(x, bias=bias, scores=scores)
        if self.return_scores:
            y, scores = y
        x = self.attention_norm(x + self.dropout_layer(y), condition=condition)
        x = self.ffn_norm(x + self.dropout_layer(self.ffn(x)), condition=condition)
        return (x, scores) if self.return_scores else x

    def compute_output_spec(self, x, bias=None, condition=None, scores=None):
        batch, length, _ = x.shape
        y = keras.KerasTensor(x.shape, self.compute_dtype)
        if not self.return_scores:
            return y
        return y, keras.KerasTensor((batch, self.num_heads, length, length), self.compute_dtype)

    def compute_mask(self, x, previous_mask=None):
        return (previous_mask, None) if self.return_scores else previous_mask
