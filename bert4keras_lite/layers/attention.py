"""Attention: in full, by landmarks, and with a gate of its own."""

import numpy as np
from keras import ops

from .base import Layer, dense, register
from .cache import Cache
from .dropout import Dropout
from .normalization import ScaleOffset
from .positions import rotate


@register
class MultiHeadAttention(Layer):
    """Multi-head attention: `softmax(Q K^T / sqrt(d) + bias) V`, projected back.

    Args:
        num_heads: number of heads.
        head_size: size of a head's values.
        key_size: size of a head's queries and keys; `head_size` when left out.
        dropout: rate on the attention probabilities.
        use_bias: whether the projections have a bias.
        scale: whether scores are divided by `sqrt(key_size)`.
        rotate_values: whether `angles` turn the values, too.
        rotary_halves: which pairs they turn: see `rotate`.
        return_scores: whether to give the scores (before `bias`) as well.
        initializer_range: standard deviation of the initial kernels.

    Call arguments:
        x: queries come from here, `(batch, length, dim)`.
        memory: keys and values come from here, `(batch, keys, dim)`; `x` when left out.
        bias: added to the scores; broadcasts to `(batch, num_heads, length, keys)`.
        scores: scores of the block below to add, `(batch, num_heads, length, keys)`.
        angles: from `RotaryAngles`.
        distances: from `RelativeVectors`; added to the keys, and to the values, of each query.
        cache: a `Cache` of earlier keys and values, to which those of this call are added.

    Returns:
        `(batch, length, dim)`, and the scores with `return_scores`.

    Reference:
        Vaswani et al., "Attention Is All You Need", arXiv 1706.03762, section 3.2. Residual
        scores: He et al., "RealFormer", arXiv 2012.11747; as in bert4keras, a block adds the
        scores of the block below alone, where the paper adds the running sum. Distances: Shaw
        et al., arXiv 1803.02155, equations 3 and 4.
    """

    def __init__(
        self,
        num_heads,
        head_size,
        key_size=None,
        dropout=0.0,
        use_bias=True,
        scale=True,
        rotate_values=False,
        rotary_halves=False,
        return_scores=False,
        initializer_range=0.02,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.head_size = head_size
        self.key_size = key_size or head_size
        self.dropout = dropout
        self.use_bias = use_bias
        self.scale = scale
        self.rotate_values = rotate_values
        self.rotary_halves = rotary_halves
        self.return_scores = return_scores
        self.initializer_range = initializer_range

    def build(self, x_shape, memory_shape=None):
        memory_shape = memory_shape or x_shape
        keys, values = self.num_heads * self.key_size, self.num_heads * self.head_size
        self.query = dense(self, "query", x_shape, keys, use_bias=self.use_bias)
        self.key = dense(self, "key", memory_shape, keys, use_bias=self.use_bias)
        self.value = dense(self, "value", memory_shape, values, use_bias=self.use_bias)
        self.output_dense = dense(
            self, "output", (*x_shape[:-1], values), x_shape[-1], use_bias=self.use_bias
        )
        self.dropout_layer = Dropout(self.dropout, dtype=self.dtype_policy)

    def call(self, x, memory=None, bias=None, scores=None, angles=None, distances=None, cache=None):
        query = self.split_heads(self.query(x), self.key_size)
        if angles is not None:
            query = rotate(query, angles, self.rotary_halves)
        if self.scale:
            query = query * self.key_size**-0.5
        memory = x if memory is None else memory
        key, value = (cache or Cache()).extend(lambda: self.keys_and_values(memory, angles))
        y, scores = self.attend(query, key, value, bias, scores, distances)
        y = self.output_dense(
            ops.reshape(y, (-1, ops.shape(x)[1], self.num_heads * self.head_size))
        )
        return (y, scores) if self.return_scores else y

    def keys_and_values(self, memory, angles=None):
        """Of every position of a memory, `(batch, num_heads, size, keys)` each.

        The positions come last: so products with few queries run along memory.
        """
        key = self.split_heads(self.key(memory), self.key_size)
        value = self.split_heads(self.value(memory), self.head_size)
        if angles is not None:
            key = rotate(key, angles, self.rotary_halves)
            if self.rotate_values:
                value = rotate(value, angles, self.rotary_halves)
        return ops.transpose(key, (0, 2, 3, 1)), ops.transpose(value, (0, 2, 3, 1))

    def attend(self, query, key, value, bias=None, scores=None, distances=None):
        """From queries `(batch, length, num_heads, size)`: the heads' outputs, and the scores."""
        own = ops.einsum("bqhd,bhdk->bhqk", query, key)
        if distances is not None:
            own = own + ops.einsum("bqhd,qkd->bhqk", query, distances)
        addends = [addend for addend in (scores, bias) if addend is not None]
        probabilities = self.dropout_layer(ops.softmax(sum(addends, own), axis=-1))
        y = ops.einsum("bhqk,bhdk->bqhd", probabilities, value)
        if distances is not None:
            y = y + ops.einsum("bhqk,qkd->bqhd", probabilities, distances)
        return y, own

    def split_heads(self, x, size):
        """`(batch, length, num_heads * size)` to `(batch, length, num_heads, size)`."""
        return ops.reshape(x, (-1, ops.shape(x)[1], self.num_heads, size))

    def compute_output_shape(self, x_shape, memory_shape=None):
        batch, length, _ = x_shape
        scores = (batch, self.num_heads, length, (memory_shape or x_shape)[1])
        return (tuple(x_shape), scores) if self.return_scores else tuple(x_shape)


@register
class NystromAttention(MultiHeadAttention):
    """Attention by way of a few landmarks; its cost grows with the length, not with its square.

    A landmark is the mean of neighbouring queries (or keys); every visible token belongs to one.
    With `F` the softmax of all queries on the landmark keys, `A` of landmarks on landmarks and
    `B` of the landmark queries on all keys, attention is about `F A^+ B V`. For rows of at most
    `num_landmarks` visible tokens, which then are the landmarks, it is full attention.

    Args:
        num_landmarks: how many.
        iterations: steps to the pseudo-inverse `A^+`.
        **kwargs: see `MultiHeadAttention`.

    Call arguments:
        x, bias, angles: see `MultiHeadAttention`. The bias says which keys are visible, alike
            for all queries: `(batch, 1, 1, length)`.

    Returns:
        `(batch, length, dim)`.

    Reference:
        Xiong et al., "Nyströmformer", arXiv 2102.03902, equations 13 and 14; without the optional
        convolution over the values, which no pretrained checkpoint has.
    """

    def __init__(self, num_heads, head_size, num_landmarks=64, iterations=6, **kwargs):
        super().__init__(num_heads, head_size, **kwargs)
        self.num_landmarks = num_landmarks
        self.iterations = iterations

    def attend(self, query, key, value, bias=None, scores=None, distances=None):
        if scores is not None or distances is not None or (bias is not None and bias.shape[2] != 1):
            raise ValueError(
                f"{self.name}: landmarks serve encoders with absolute or rotary positions only "
                "(no residual scores, no relative positions, no application='lm' or 'unilm')."
            )
        if bias is None:
            bias = ops.zeros_like(key[:, :1, :1, :])
        full = super().attend
        length = key.shape[3]
        if isinstance(length, int):
            short = length <= self.num_landmarks
            y = full(query, key, value, bias)[0] if short else self.mix(query, key, value, bias)
        else:
            y = ops.cond(
                ops.shape(key)[3] <= self.num_landmarks,
                lambda: full(query, key, value, bias)[0],
                lambda: self.mix(query, key, value, bias),
            )
        return y, None

    def mix(self, query, key, value, bias):
        """`F A^+ B V`, each factor applied to what stands on its right."""
        near, padding_mask, each_alone = self.landmarks(bias)
        landmark_queries = ops.einsum("bmk,bkhd->bmhd", near, query)
        landmark_keys = ops.einsum("bmk,bhdk->bhdm", near, key)
        hidden = ops.cast(ops.where(padding_mask, 0.0, ops.min(bias) - 1), query.dtype)

        def softmax(queries, keys, bias):
            return ops.softmax(ops.einsum("bqhd,bhdk->bhqk", queries, keys) + bias, axis=-1)

        f = softmax(query, landmark_keys, hidden[:, None, None, :])
        b = softmax(landmark_queries, key, bias)
        a = softmax(landmark_queries, landmark_keys, hidden[:, None, None, :])
        a = a * ops.cast(padding_mask, a.dtype)[:, None, :, None]
        y = ops.einsum("bhmk,bhdk->bhmd", b, value)
        y = ops.matmul(self.pseudo_inverse(a), y)
        y = ops.where(each_alone[:, :, None, None], ops.einsum("bmk,bhdk->bhmd", near, value), y)
        return ops.einsum("bhqm,bhmd->bqhd", f, y)

    def landmarks(self, bias):
        """The averages `(batch, landmarks, length)`, which landmarks have any token `(batch,
        landmarks)`, and in which rows none has more than one `(batch, 1)`.

        The visible tokens of a row are dealt out evenly and in order, so that padding has no
        influence.
        """
        visible = ops.cast(bias[:, 0, 0, :] > -1, "float32")
        rank = ops.cumsum(visible, axis=1) - 1
        count = ops.sum(visible, axis=1, keepdims=True)
        landmark = ops.floor(rank * (self.num_landmarks / ops.maximum(count, self.num_landmarks)))
        member = landmark[:, None, :] == ops.arange(self.num_landmarks, dtype="float32")[:, None]
        member = ops.cast(member, "float32") * visible[:, None, :]
        size = ops.sum(member, axis=-1, keepdims=True)
        averages = ops.cast(member / ops.maximum(size, 1), bias.dtype)
        return averages, size[..., 0] > 0, count <= self.num_landmarks

    def pseudo_inverse(self, a):
        """Moore-Penrose inverse by the iteration of the paper's equation 14."""
        z = ops.transpose(a, (0, 1, 3, 2)) / (
            ops.max(ops.sum(a, axis=-1, keepdims=True), axis=-2, keepdims=True)
            * ops.max(ops.sum(a, axis=-2, keepdims=True), axis=-1, keepdims=True)
        )
        identity = ops.eye(self.num_landmarks, dtype=a.dtype)
        for _ in range(self.iterations):
            az = ops.matmul(a, z)
            inner = 15 * identity - ops.matmul(az, 7 * identity - az)
            z = 0.25 * ops.matmul(z, 13 * identity - ops.matmul(az, inner))
        return z


@register
class GatedAttentionUnit(Layer):
    """Attention and gated feed-forward in one: `W_o (U * A V)`, with a single head.

    Args:
        units: size of `U` and `V`.
        key_size: size of queries and keys, which are one shared vector, scaled twice.
        activation: of the input projection.
        normalization: `"softmax"`; `"softmax_plus"`, a softmax whose temperature depends on how
            many keys are visible; `"squared_relu"`, divided by their number.
        dropout: rate on the attention probabilities.
        use_bias: whether there are biases and offsets.
        scale: whether scores are divided by `sqrt(key_size)`.
        initializer_range: standard deviation of the initial kernels.

    Call arguments:
        x: `(batch, length, dim)`.
        bias: what is visible, from `AttentionBias`: `(batch, 1, 1 or length, length)`.
        angles: from `RotaryAngles`.
        cache: see `MultiHeadAttention`.

    Returns:
        `(batch, length, dim)`.

    Reference:
        Hua et al., "Transformer Quality in Linear Time", arXiv 2202.10447, section 2.2;
        softmax_plus: https://kexue.fm/archives/8823
    """

    def __init__(
        self,
        units,
        key_size,
        activation="swish",
        normalization="softmax_plus",
        dropout=0.0,
        use_bias=True,
        scale=True,
        initializer_range=0.02,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = units
        self.key_size = key_size
        self.activation = activation
        self.normalization = normalization
        self.dropout = dropout
        self.use_bias = use_bias
        self.scale = scale
        self.initializer_range = initializer_range

    def build(self, x_shape):
        width = 2 * self.units + self.key_size
        self.input_dense = dense(
            self, "input", x_shape, width, self.activation, use_bias=self.use_bias
        )
        self.query_scale, self.key_scale = (
            ScaleOffset(offset=self.use_bias, name=name, dtype=self.dtype_policy)
            for name in ("query_scale", "key_scale")
        )
        for layer in (self.query_scale, self.key_scale):
            layer.build((*x_shape[:-1], self.key_size))
        self.output_dense = dense(
            self, "output", (*x_shape[:-1], self.units), x_shape[-1], use_bias=self.use_bias
        )
        self.dropout_layer = Dropout(self.dropout, dtype=self.dtype_policy)

    def call(self, x, bias=None, angles=None, cache=None):
        gate, value, shared = ops.split(self.input_dense(x), [self.units, 2 * self.units], axis=-1)
        query, key = self.query_scale(shared), self.key_scale(shared)
        if angles is not None:
            query, key = (rotate(y[:, :, None, :], angles)[:, :, 0, :] for y in (query, key))
        if self.scale:
            query = query * self.key_size**-0.5
        keys_and_values = [ops.transpose(y, (0, 2, 1)) for y in (key, value)]
        key, value = (cache or Cache()).extend(lambda: keys_and_values)
        scores = ops.einsum("bqd,bdk->bqk", query, key)
        bias = ops.zeros_like(scores) if bias is None else bias[:, 0]
        probabilities = self.dropout_layer(self.normalize(scores, bias))
        return self.output_dense(gate * ops.einsum("bqk,bdk->bqd", probabilities, value))

    def normalize(self, scores, bias):
        visible = ops.cast(bias > -1, "float32")
        count = ops.sum(visible, axis=-1, keepdims=True)
        if self.normalization == "squared_relu":
            shares = ops.square(ops.relu(scores)) * ops.cast(visible, scores.dtype)
            return shares / ops.cast(ops.maximum(count, 1), scores.dtype)
        if self.normalization == "softmax_plus":  # 16: very short texts need no cooling
            temperature = ops.log(ops.maximum(count, 16)) / np.log(512).astype("float32")
            scores = scores * ops.cast(temperature, scores.dtype)
        return ops.softmax(scores + bias, axis=-1)

    def compute_output_shape(self, x_shape):
        return tuple(x_shape)
