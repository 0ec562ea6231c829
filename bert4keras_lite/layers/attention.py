"""Attention layers: multi-head, Nyström, and the gated attention unit.

What the rest of the toolkit needs to know of an attention layer, the layer itself tells: its
arguments for a config (`arguments_of`), the shapes of its cache (`cache_shapes`), its FLOPs
(`flops`), the projections that LoRA adapts (`lora_targets`), how its projections are split over
devices (`split`), and whether it is a whole block (`replaces_ffn`) or computes a matrix of
probabilities (`has_probs`).
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from keras import ops

from ..backend import fast_attention
from ..types import Shape, Tensor
from .base import Layer, dense, dense_flops, parts_of, register, softmax
from .cache import Cache
from .dropout import Dropout
from .normalization import NORMS, LayerNormalization, ScaleOffset
from .positions import rotate

if TYPE_CHECKING:
    from ..configs import Config

__all__ = [
    "DisentangledAttention",
    "GatedAttentionUnit",
    "MultiHeadAttention",
    "NystromAttention",
    "recording_probs",
]

RECORDED: ContextVar[list | None] = ContextVar("attention probabilities", default=None)


@contextlib.contextmanager
def recording_probs() -> Iterator[list[Tensor]]:
    """Gives a list to which each attention layer called in the context appends its probabilities.

    They are `(batch, num_heads, length, keys)`, before dropout; `(batch, length, keys)` of a gated
    attention unit. Layers without such a matrix append nothing.
    """
    probs: list[Tensor] = []
    token = RECORDED.set(probs)
    try:
        yield probs
    finally:
        RECORDED.reset(token)


@register
class MultiHeadAttention(Layer):
    """Multi-head attention: `softmax(Q K^T / sqrt(d) + bias) V` and an output projection.

    Args:
        num_heads: number of heads.
        head_size: size of the values of a head.
        key_size: size of the queries and keys of a head. Defaults to `head_size`.
        dropout: dropout rate of the attention probabilities.
        use_bias: whether the projections have a bias.
        scale: whether to divide the scores by `sqrt(key_size)`.
        score_factor: another factor of these scores.
        rotate_values: whether to rotate the values by `angles`, too.
        rotary_halves: which entries form the rotated pairs; see `rotate`.
        num_kv_heads: number of heads of the keys and values, each for as many heads of queries.
            Defaults to `num_heads`.
        without_bias: names of the projections that have no bias even if `use_bias`: `"query"`,
            `"key"`, `"value"`, `"output"`.
        head_norm: arguments, as a dict, of a `LayerNormalization` of each head's queries and one of
            its keys, before they are rotated; None: they are not normalized.
        return_scores: whether to also return the attention scores (before `bias` is added).
        initializer_range: standard deviation of the initial kernels.

    Call arguments:
        x: source of the queries, `(batch, length, dim)`.
        memory: source of the keys and values, `(batch, keys, dim)`. Defaults to `x`.
        bias: added to the scores; broadcasts to `(batch, num_heads, length, keys)`.
        scores: attention scores of the previous block, added to the scores of this one,
            `(batch, num_heads, length, keys)`.
        angles: output of `RotaryAngles`.
        distances: output of `RelativeVectors`; added to the keys and to the values of each query.
        cache: `Cache` of earlier keys and values; those of this call are added to it.

    Returns:
        `(batch, length, dim)`; with `return_scores`, a tuple of it and the scores.

    Reference:
        Vaswani et al., "Attention Is All You Need", arXiv 1706.03762, section 3.2. Residual
        scores: He et al., "RealFormer", arXiv 2012.11747; as in bert4keras, a block adds the
        scores of the previous block only, where the paper adds the running sum. Distances: Shaw
        et al., arXiv 1803.02155, equations 3 and 4. Shared keys and values: Ainslie et al., "GQA",
        arXiv 2305.13245. Normalized queries and keys: Henry et al., arXiv 2010.04245, there by the
        L2 norm.
    """

    lora_targets = ("query", "value")
    split: ClassVar = {"query": "columns", "key": "columns", "value": "columns", "output": "rows"}
    replaces_ffn = False
    has_probs = True
    needs_vectors = False  # whether it takes `DistanceVectors`

    @classmethod
    def arguments_of(cls, config: "Config") -> dict[str, Any]:
        """Returns the arguments of the layer, as a dict, that a `Config` determines."""
        return {
            "num_heads": config.num_attention_heads,
            "head_size": config.head_size,
            "key_size": config.key_size,
            "scale": config.attention_scale,
            "score_factor": config.score_factor,
            "rotate_values": config.rotate_values,
            "rotary_halves": config.rotary_halves,
            "num_kv_heads": config.num_key_value_heads,
            "without_bias": parts_of("attention", config.without_bias),
            "head_norm": NORMS[config.norm] | {"epsilon": config.norm_epsilon}
            if config.head_norm
            else None,
            "return_scores": config.residual_attention_scores,
        }

    def __init__(
        self,
        num_heads: int,
        head_size: int,
        key_size: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        scale: bool = True,
        score_factor: float = 1.0,
        rotate_values: bool = False,
        rotary_halves: bool = False,
        num_kv_heads: int | None = None,
        without_bias: Sequence[str] = (),
        head_norm: dict[str, Any] | None = None,
        return_scores: bool = False,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.head_size = head_size
        self.key_size = key_size or head_size
        self.dropout = dropout
        self.use_bias = use_bias
        self.scale = scale
        self.score_factor = score_factor
        self.rotate_values = rotate_values
        self.rotary_halves = rotary_halves
        self.num_kv_heads = num_kv_heads
        self.without_bias = list(without_bias)
        self.head_norm = head_norm and dict(head_norm)
        self.return_scores = return_scores
        self.initializer_range = initializer_range

    def build(self, x_shape: Shape, memory_shape: Shape | None = None) -> None:
        memory_shape = memory_shape or x_shape

        def projection(name, shape, units):
            has_bias = self.use_bias and name not in self.without_bias
            return dense(self, name, shape, units, use_bias=has_bias)

        self.query = projection("query", x_shape, self.num_heads * self.key_size)
        self.key = projection("key", memory_shape, self.kv_heads * self.key_size)
        self.value = projection("value", memory_shape, self.kv_heads * self.head_size)
        values = self.num_heads * self.head_size
        self.output_dense = projection("output", (*x_shape[:-1], values), x_shape[-1])
        self.dropout_layer = Dropout(self.dropout, dtype=self.dtype_policy)
        if self.head_norm is not None:
            self.query_norm, self.key_norm = (
                LayerNormalization(dtype=self.dtype_policy, name=name, **self.head_norm)
                for name in ("query_norm", "key_norm")
            )
            for norm in (self.query_norm, self.key_norm):
                norm.build((self.key_size,))

    @property
    def kv_heads(self) -> int:
        """Number of heads of the keys and values."""
        return self.num_kv_heads or self.num_heads

    @property
    def score_scale(self) -> float:
        """Factor of the scores, if they are scaled."""
        return self.score_factor * self.key_size**-0.5

    def call(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        bias: Tensor | None = None,
        scores: Tensor | None = None,
        angles: Tensor | None = None,
        distances: Tensor | None = None,
        cache: Cache | None = None,
        training: bool = False,
    ) -> Tensor:
        query = self.split_heads(self.query(x), self.key_size)
        if self.head_norm is not None:
            query = self.query_norm(query)
        if angles is not None:
            query = rotate(query, angles, self.rotary_halves)
        if self.scale:
            query = query * self.score_scale
        memory = x if memory is None else memory
        key, value = (cache or Cache()).extend(lambda: self.keys_and_values(memory, angles))
        y, scores = self.attend(query, key, value, bias, scores, distances, training)
        y = self.output_dense(
            ops.reshape(y, (-1, ops.shape(x)[1], self.num_heads * self.head_size))
        )
        return (y, scores) if self.return_scores else y

    def cache_shapes(self, batch: int, length: int) -> list[Shape]:
        """Returns the shapes of the keys and of the values in a `Cache` of `length` positions."""
        return [(batch, self.kv_heads, size, length) for size in (self.key_size, self.head_size)]

    def flops(self, length: int, keys: int) -> int:
        """Returns the FLOPs of the forward pass of a sequence, with `keys` positions of memory."""
        projections = dense_flops(length, self.query, self.output_dense)
        projections += dense_flops(keys, self.key, self.value)
        return projections + 2 * length * keys * self.num_heads * (self.key_size + self.head_size)

    def keys_and_values(
        self, memory: Tensor, angles: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns the keys and values of a memory, `(batch, kv_heads, size, keys)` each.

        Positions are the last axis, so that products with few queries read memory contiguously.
        """
        key = self.split_heads(self.key(memory), self.key_size, self.kv_heads)
        value = self.split_heads(self.value(memory), self.head_size, self.kv_heads)
        if self.head_norm is not None:
            key = self.key_norm(key)
        if angles is not None:
            key = rotate(key, angles, self.rotary_halves)
            if self.rotate_values:
                value = rotate(value, angles, self.rotary_halves)
        return ops.transpose(key, (0, 2, 3, 1)), ops.transpose(value, (0, 2, 3, 1))

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None = None,
        scores: Tensor | None = None,
        distances: Tensor | None = None,
        training: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Returns the output of each head, and the attention scores, if they were computed.

        Args:
            query: `(batch, length, num_heads, size)`.
            key, value: `(batch, kv_heads, size, keys)`.
            bias, scores, distances: see the call arguments.
            training: whether there is dropout.

        Returns:
            `(batch, length, num_heads, size)`, and the scores without `bias` and `scores`.
        """
        recorded = RECORDED.get()
        keeps_probs = self.return_scores or recorded is not None or (training and self.dropout)
        if scores is None and distances is None and not keeps_probs:
            y = fast_attention(query, key, value, bias, self.num_heads != self.kv_heads)
            if y is not None:
                return y, None
        attention_scores = self.grouped("bqhgd,bhdk->bhgqk", query, key)
        if distances is not None:
            attention_scores = attention_scores + ops.einsum("bqhd,qkd->bhqk", query, distances)
        addends = [addend for addend in (scores, bias) if addend is not None]
        probs = softmax(sum(addends, attention_scores))
        if recorded is not None:
            recorded.append(probs)
        probs = self.dropout_layer(probs)
        y = self.grouped("bhgqk,bhdk->bqhgd", probs, value)
        if distances is not None:
            y = y + ops.einsum("bhqk,qkd->bqhd", probs, distances)
        return y, attention_scores

    def grouped(self, equation: str, x: Tensor, shared: Tensor) -> Tensor:
        """Computes an `einsum` of a tensor with one that groups of its heads share.

        Args:
            equation: with an axis `h` of the groups and `g` of the heads in each.
            x: tensor whose `h` and `g` are one axis, `num_heads`.
            shared: tensor without `g`.

        Returns:
            The result, with `h` and `g` as one axis.
        """
        groups = self.num_heads // self.kv_heads
        if groups == 1:
            return ops.einsum(equation.replace("g", ""), x, shared)
        axis, shape = equation.index("h"), ops.shape(x)
        apart = (*shape[:axis], self.kv_heads, groups, *shape[axis + 1 :])
        y = ops.einsum(equation, ops.reshape(x, (-1, *apart[1:])), shared)
        axis, shape = equation.partition(">")[2].index("h"), ops.shape(y)
        return ops.reshape(y, (-1, *shape[1:axis], self.num_heads, *shape[axis + 2 :]))

    def split_heads(self, x: Tensor, size: int, num_heads: int | None = None) -> Tensor:
        """Reshapes `(batch, length, num_heads * size)` to `(batch, length, num_heads, size)`."""
        return ops.reshape(x, (-1, ops.shape(x)[1], num_heads or self.num_heads, size))

    def compute_output_shape(
        self, x_shape: Shape, memory_shape: Shape | None = None
    ) -> Shape | tuple[Shape, Shape]:
        batch, length, _ = x_shape
        scores = (batch, self.num_heads, length, (memory_shape or x_shape)[1])
        return (tuple(x_shape), scores) if self.return_scores else tuple(x_shape)


@register
class DisentangledAttention(MultiHeadAttention):
    """Disentangled attention: scores of contents, and of contents with relative positions.

    Queries and keys of the positions are projections of `distances` by the kernels of the contents.
    The sum of the three scores is divided by `sqrt(3 * key_size)`.

    Args:
        num_vectors: number of vectors of `DistanceVectors`.
        **kwargs: see `MultiHeadAttention`.

    Call arguments:
        x, bias, cache: see `MultiHeadAttention`.
        distances: output of `DistanceVectors`, normalized: the vectors, and which one is that of a
            query and a key.

    Returns:
        `(batch, length, dim)`.

    Reference:
        He et al., "DeBERTa", arXiv 2006.03654, equations 2 to 4, with the shared projections of its
        second version.
    """

    needs_vectors = True

    @classmethod
    def arguments_of(cls, config: "Config") -> dict[str, Any]:
        return super().arguments_of(config) | {"num_vectors": 2 * config.relative_buckets}

    def __init__(
        self, num_heads: int, head_size: int, num_vectors: int = 512, **kwargs: Any
    ) -> None:
        super().__init__(num_heads, head_size, **kwargs)
        self.num_vectors = num_vectors

    @property
    def score_scale(self) -> float:
        return (3 * self.key_size) ** -0.5

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None = None,
        scores: Tensor | None = None,
        distances: Any = None,
        training: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        relative = self.relative_scores(query, key, *distances)
        bias = relative if bias is None else bias + relative
        return super().attend(query, key, value, bias, training=training)

    def relative_scores(self, query: Tensor, key: Tensor, vectors: Tensor, rows: Tensor) -> Tensor:
        """Returns the scores of contents with positions, `(batch, num_heads, queries, keys)`.

        Args:
            query, key: see `attend`.
            vectors, rows: `(num_vectors, dim)`, and integers `(queries, keys)`.
        """
        shape, count = (-1, self.num_heads, self.key_size), self.num_vectors
        queries = ops.reshape(self.query(vectors), shape) * self.score_scale
        keys = ops.reshape(self.key(vectors), shape)

        def picked(scores, number):
            """Takes the score of `rows` for each content, with one index for all heads."""
            flat = ops.reshape(scores, (-1, self.num_heads, ops.shape(scores)[2] * count))
            return ops.take(flat, number * count + rows, axis=-1)

        # counted, because the lengths may be unknown in an exported graph
        of_query, of_key = (ops.cumsum(ops.ones_like(rows), axis=axis) - 1 for axis in (0, 1))
        return picked(ops.einsum("bqhd,rhd->bhqr", query, keys), of_query) + picked(
            ops.einsum("bhdk,rhd->bhkr", key, queries), of_key
        )

    def flops(self, length: int, keys: int) -> int:
        projections = dense_flops(self.num_vectors, self.query, self.key)
        scores = 2 * (length + keys) * self.num_vectors * self.num_heads * self.key_size
        return super().flops(length, keys) + projections + scores


@register
class NystromAttention(MultiHeadAttention):
    """Nyström attention: approximates softmax attention by a few landmarks, in linear time.

    A landmark is the mean of neighbouring queries (or keys); each visible token belongs to one.
    With `F` the softmax of all queries on the landmark keys, `A` of landmarks on landmarks and
    `B` of the landmark queries on all keys, attention is about `F A^+ B V`. For rows of at most
    `num_landmarks` visible tokens, each of which is a landmark, it equals full attention.

    Args:
        num_landmarks: number of landmarks.
        iterations: number of iterations for the pseudo-inverse `A^+`.
        **kwargs: see `MultiHeadAttention`.

    Call arguments:
        x, bias, angles: see `MultiHeadAttention`. All queries share one mask: `bias` is
            `(batch, 1, 1, length)`.

    Returns:
        `(batch, length, dim)`.

    Raises:
        ValueError: `scores`, `distances` or a bias that differs between queries is passed.

    Reference:
        Xiong et al., "Nyströmformer", arXiv 2102.03902, equations 13 and 14; without the optional
        convolution over the values, which no pretrained checkpoint has.
    """

    has_probs = False

    @classmethod
    def arguments_of(cls, config: "Config") -> dict[str, Any]:
        return super().arguments_of(config) | {"num_landmarks": config.num_landmarks}

    def __init__(
        self,
        num_heads: int,
        head_size: int,
        num_landmarks: int = 64,
        iterations: int = 6,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_heads, head_size, **kwargs)
        self.num_landmarks = num_landmarks
        self.iterations = iterations

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None = None,
        scores: Tensor | None = None,
        distances: Tensor | None = None,
        training: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        if scores is not None or distances is not None or (bias is not None and bias.shape[2] != 1):
            raise ValueError(
                f"{self.name}: Nyström attention supports only encoders with absolute or rotary "
                "positions; expected no residual scores, no relative positions, and no "
                "application='lm' or 'unilm'."
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

    def mix(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """Returns `F A^+ B V`, multiplied from right to left."""
        averages, landmark_mask, is_short = self.landmarks(bias)
        landmark_queries = ops.einsum("bmk,bkhd->bmhd", averages, query)
        landmark_keys = ops.einsum("bmk,bhdk->bhdm", averages, key)
        landmark_bias = ops.cast(ops.where(landmark_mask, 0.0, ops.min(bias) - 1), query.dtype)

        def probs(queries, keys, bias):
            return softmax(ops.einsum("bqhd,bhdk->bhqk", queries, keys) + bias)

        f = probs(query, landmark_keys, landmark_bias[:, None, None, :])
        b = probs(landmark_queries, key, bias)
        a = probs(landmark_queries, landmark_keys, landmark_bias[:, None, None, :])
        a = a * ops.cast(landmark_mask, a.dtype)[:, None, :, None]
        y = ops.einsum("bhmk,bhdk->bhmd", b, value)
        y = ops.matmul(self.pseudo_inverse(a), y)
        y = ops.where(is_short[:, :, None, None], ops.einsum("bmk,bhdk->bhmd", averages, value), y)
        return ops.einsum("bhqm,bhmd->bqhd", f, y)

    def landmarks(self, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the matrix that averages tokens to landmarks, and two masks.

        The visible tokens of a row are split evenly and in order, so padding has no influence.

        Args:
            bias: `(batch, 1, 1, length)`.

        Returns:
            Averages `(batch, landmarks, length)`; which landmarks have any token, bool
            `(batch, landmarks)`; and which rows have at most one token per landmark, bool
            `(batch, 1)`.
        """
        mask = ops.cast(bias[:, 0, 0, :] > -1, "float32")
        rank = ops.cumsum(mask, axis=1) - 1
        count = ops.sum(mask, axis=1, keepdims=True)
        landmark = ops.floor(rank * (self.num_landmarks / ops.maximum(count, self.num_landmarks)))
        member = landmark[:, None, :] == ops.arange(self.num_landmarks, dtype="float32")[:, None]
        member = ops.cast(member, "float32") * mask[:, None, :]
        size = ops.sum(member, axis=-1, keepdims=True)
        averages = ops.cast(member / ops.maximum(size, 1), bias.dtype)
        return averages, size[..., 0] > 0, count <= self.num_landmarks

    def pseudo_inverse(self, a: Tensor) -> Tensor:
        """Returns the Moore-Penrose inverse of `a`, by the iteration of the paper's equation 14."""
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
    """Gated attention unit: single-head attention and a gated feed-forward layer in one.

    Computes `W_o (U * A V)`, where `A` are the attention probabilities.

    Args:
        units: size of `U` and `V`.
        key_size: size of queries and keys, which are one shared projection, scaled twice.
        activation: activation of the input projection.
        normalization: `"softmax"`; `"softmax_plus"`, a softmax whose temperature depends on the
            number of visible keys; or `"squared_relu"`, divided by that number.
        dropout: dropout rate of the attention probabilities.
        use_bias: whether projections have biases, and queries and keys have offsets.
        scale: whether to divide the scores by `sqrt(key_size)`.
        initializer_range: standard deviation of the initial kernels.

    Call arguments:
        x: `(batch, length, dim)`.
        bias: attention mask as a bias, from `AttentionBias`:
            `(batch, 1, 1 or length, length)`.
        angles: output of `RotaryAngles`.
        cache: see `MultiHeadAttention`.

    Returns:
        `(batch, length, dim)`.

    Reference:
        Hua et al., "Transformer Quality in Linear Time", arXiv 2202.10447, section 2.2;
        softmax_plus: https://kexue.fm/archives/8823
    """

    lora_targets = ("input",)  # one kernel projects to values, gate and queries
    split: ClassVar = {
        "input": "whole",
        "query_scale": "whole",
        "key_scale": "whole",
        "output": "rows",
    }
    replaces_ffn = True
    has_probs = True
    needs_vectors = False

    @classmethod
    def arguments_of(cls, config: "Config") -> dict[str, Any]:
        """Returns the arguments of the layer, as a dict, that a `Config` determines."""
        return {
            "units": config.intermediate_size,
            "key_size": config.key_size,
            "activation": config.hidden_act,
        }

    def __init__(
        self,
        units: int,
        key_size: int,
        activation: str | Callable = "swish",
        normalization: str = "softmax_plus",
        dropout: float = 0.0,
        use_bias: bool = True,
        scale: bool = True,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.key_size = key_size
        self.activation = activation
        self.normalization = normalization
        self.dropout = dropout
        self.use_bias = use_bias
        self.scale = scale
        self.initializer_range = initializer_range

    def build(self, x_shape: Shape) -> None:
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

    def call(
        self,
        x: Tensor,
        bias: Tensor | None = None,
        angles: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
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
        probs = self.normalize(scores, bias)
        if (recorded := RECORDED.get()) is not None:
            recorded.append(probs)
        probs = self.dropout_layer(probs)
        return self.output_dense(gate * ops.einsum("bqk,bdk->bqd", probs, value))

    def cache_shapes(self, batch: int, length: int) -> list[Shape]:
        """Returns the shapes of the keys and of the values in a `Cache` of `length` positions."""
        return [(batch, size, length) for size in (self.key_size, self.units)]

    def flops(self, length: int, keys: int) -> int:
        """Returns the FLOPs of the forward pass of a sequence that attends to `keys` positions."""
        projections = dense_flops(length, self.input_dense, self.output_dense)
        return projections + 2 * length * keys * (self.key_size + self.units)

    def normalize(self, scores: Tensor, bias: Tensor) -> Tensor:
        mask = ops.cast(bias > -1, "float32")
        count = ops.sum(mask, axis=-1, keepdims=True)
        if self.normalization == "squared_relu":
            weights = ops.square(ops.relu(scores)) * ops.cast(mask, scores.dtype)
            return weights / ops.cast(ops.maximum(count, 1), scores.dtype)
        if self.normalization == "softmax_plus":  # with fewer than 16 keys as with 16
            temperature = ops.log(ops.maximum(count, 16)) / np.log(512).astype("float32")
            scores = scores * ops.cast(temperature, scores.dtype)
        return softmax(scores + bias)

    def compute_output_shape(self, x_shape: Shape) -> Shape:
        return tuple(x_shape)
