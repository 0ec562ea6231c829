"""Attention masks and position encodings.

Each is computed once and passed to every block.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from ..arguments import checks_flags
from ..types import Shape, Tensor
from .base import Layer, WeightInitializer, register
from .embeddings import PositionEmbedding, count_positions, token_mask
from .values import neg_inf

__all__ = [
    "AttentionBias",
    "DistanceVectors",
    "RelativeBias",
    "RelativeVectors",
    "RotaryAngles",
    "SinusoidalPositions",
    "WindowBias",
    "rotate",
    "sinusoids",
]


@register
class AttentionBias(Layer):
    """Attention mask as a bias on scores: 0 where attention is allowed, else very negative.

    The negative number is finite and fits into the layer's precision. A query with all keys masked
    therefore attends to all of them evenly, and never gives NaN.

    Args:
        attend: `"all"`: every token that is not padding (encoder); `"lm"`: causal, so in addition
            no later token (language model); `"unilm"`: prefix, so the first segment, and in the
            second segment the tokens up to the query (sequence-to-sequence in one stack).
        pad_token_id: id of the padding token; -1: there is no padding.
        segments_are_tokens: whether segment ids come from the vocabulary. If so, the padding id
            masks tokens there, too (as bert4keras does with shared segment embeddings).
        keep_first: whether the first token of a row is never masked, even if it is padding (as in
            bert4keras). False allows padding on the left.

    Call arguments:
        token_ids: `(batch, length)`.
        segment_ids: `(batch, length)`; for `"unilm"` 0 in the source and 1 in the target.
        visible: bool `(batch, length)`, True at tokens that are not padding, if the ids do not
            tell. Defaults to all ids but `pad_token_id`, and position 0 whatever its id.

    Returns:
        `(batch, 1, 1 or length, length)`: batch, heads, queries, keys.

    Reference:
        Dong et al., "Unified Language Model Pre-training", arXiv 1905.03197, figure 1.
    """

    def __init__(
        self,
        attend: str = "all",
        pad_token_id: int = 0,
        segments_are_tokens: bool = False,
        keep_first: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.attend = attend
        self.pad_token_id = pad_token_id
        self.segments_are_tokens = segments_are_tokens
        self.keep_first = keep_first

    def call(
        self, token_ids: Tensor, segment_ids: Tensor | None = None, visible: Tensor | None = None
    ) -> Tensor:
        if visible is None:
            visible = token_mask(token_ids, self.pad_token_id, self.keep_first)
        if self.segments_are_tokens:
            visible = ops.logical_and(visible, token_mask(segment_ids, self.pad_token_id))
        attention_mask = visible[:, None, None, :]
        if self.attend != "all":
            if self.attend == "lm":
                order = count_positions(token_ids)
            else:
                order = ops.cumsum(segment_ids, axis=1)
            no_later = order[:, None, None, :] <= order[:, None, :, None]
            attention_mask = ops.logical_and(attention_mask, no_later)
        return self.from_visible(attention_mask)

    def from_visible(self, attention_mask: Tensor) -> Tensor:
        """Converts a boolean attention mask of any shape to a bias."""
        return ops.cast(
            ops.where(attention_mask, 0.0, neg_inf(self.compute_dtype)), self.compute_dtype
        )

    def compute_output_spec(
        self, token_ids: Tensor, segment_ids: Tensor | None = None, visible: Tensor | None = None
    ) -> keras.KerasTensor:
        batch, length = token_ids.shape
        queries = 1 if self.attend == "all" else length
        return keras.KerasTensor((batch, 1, queries, length), self.compute_dtype)

    def compute_mask(self, token_ids: Tensor, previous_mask: Tensor | None = None) -> Tensor | None:
        return None


@register
class WindowBias(Layer):
    """Narrows an attention bias to keys near the query, for sliding layers.

    The scores are still computed for all pairs: it costs as much as full attention.

    Args:
        window: number of tokens that a query sees on each side.

    Call arguments:
        bias: output of `AttentionBias`, `(batch, 1, 1 or queries, keys)`.
        query_positions, key_positions: integers `(1, queries)` and `(1, keys)`.

    Returns:
        `(batch, 1, queries, keys)`.

    Reference:
        Beltagy et al., "Longformer", arXiv 2004.05150, section 3.1.
    """

    def __init__(self, window: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.window = window

    def call(self, bias: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        distance = ops.abs(key_positions[0][None, :] - query_positions[0][:, None])
        outside = ops.where(distance <= self.window, 0.0, neg_inf(self.compute_dtype))
        # not a sum, which could be infinite in half precision
        return ops.minimum(bias, ops.cast(outside, bias.dtype)[None, None])

    def compute_output_spec(
        self, bias: Tensor, query_positions: Tensor, key_positions: Tensor
    ) -> keras.KerasTensor:
        shape = (bias.shape[0], 1, query_positions.shape[1], key_positions.shape[1])
        return keras.KerasTensor(shape, self.compute_dtype)


def _check_pairs(size):
    if size < 2 or size % 2:
        raise ValueError(
            f"size={size}: expected an even number, because each pair of entries has an angle."
        )


def sinusoids(positions, size, base=10000.0, scaled=None):
    """Returns the angles `p / base ** (2 i / size)`, `(..., size / 2)` for `(...)`.

    Args:
        positions: integers.
        size, base: see `RotaryAngles`.
        scaled: function of the frequencies, which changes them; None: none.
    """
    frequencies = base ** (-np.arange(0, size, 2, dtype="float32") / size)
    frequencies = scaled(frequencies) if scaled else frequencies
    return ops.cast(positions, "float32")[..., None] * ops.convert_to_tensor(frequencies)


@register
class SinusoidalPositions(PositionEmbedding):
    """Adds a fixed vector for each position: sines in its first half, cosines in the second.

    Args:
        input_dim: number of positions.
        output_dim: size of the vectors.
        **kwargs: see `PositionEmbedding`.

    Call arguments:
        x: `(batch, length, output_dim)`.
        positions: integers `(batch, length)` or `(1, length)`.

    Returns:
        `(batch, length, output_dim)`.

    Raises:
        ValueError: see `PositionEmbedding`; or `output_dim` is odd.

    Reference:
        Vaswani et al., arXiv 1706.03762, section 3.5, where sines and cosines alternate; in halves
        in PEGASUS: Zhang et al., arXiv 1912.08777.
    """

    def __init__(self, input_dim: int, output_dim: int, **kwargs: Any) -> None:
        super().__init__(input_dim, output_dim, **kwargs)
        _check_pairs(output_dim)
        # in float64: in float32, an angle of a thousand radians has an error of 6e-5
        exponents = np.arange(0, output_dim, 2) / output_dim
        angles = np.arange(input_dim)[:, None] * 10000.0**-exponents
        table = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
        self.embeddings = table.astype("float32")

    def build(self, x_shape: Shape) -> None:
        """Creates no variables: the table is fixed."""


@register
class RotaryAngles(Layer):
    """Angles of the rotary position embedding of queries and keys.

    Args:
        size: size of the queries and keys of a head, or of the part of them that is rotated.
        base: base of the geometric progression; the longest wavelength is about
            `2 pi * base` tokens.
        scaling: how frequencies are lowered for longer texts than those of pretraining, a dict as
            in configs: its `"rope_type"` is `"linear"` (all divided by `"factor"`), `"llama3"`,
            `"yarn"`, or `"dynamic"` (a larger base for the longest text of a batch). None: they are
            not.

    Call arguments:
        positions: integers `(batch or 1, length)`.

    Returns:
        float32 `(batch or 1, length, size / 2)`.

    Raises:
        ValueError: `size` is odd.

    Reference:
        Su et al., "RoFormer", arXiv 2104.09864, equation 15; Peng et al., "YaRN", arXiv 2309.00071,
        section 3.
    """

    def __init__(
        self,
        size: int,
        base: float = 10000.0,
        scaling: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check_pairs(size)
        self.size = size
        self.base = base
        self.scaling = scaling

    def call(self, positions: Tensor) -> Tensor:
        if self.scaling is None:
            return sinusoids(positions, self.size, self.base)
        kinds: dict[str, Any] = {
            "linear": self.linear,
            "llama3": self.llama3,
            "yarn": self.yarn,
        }
        scaled = kinds.get(self.scaling["rope_type"])
        if scaled is None:
            angles = sinusoids(positions, self.size, self.base)
            return angles * self.dynamic(positions, **self.numbers)
        return sinusoids(
            positions, self.size, self.base, lambda frequencies: scaled(frequencies, **self.numbers)
        )

    @property
    def numbers(self) -> dict[str, Any]:
        """The values of `scaling`, without its type."""
        scaling = dict(self.scaling or {})
        scaling.pop("rope_type", None)
        return {
            "length" if name.startswith("original") else name: scaling[name] for name in scaling
        }

    def linear(self, frequencies: np.ndarray, factor: float) -> np.ndarray:
        """Divides all frequencies by the factor."""
        return frequencies / np.float32(factor)

    def llama3(
        self,
        frequencies: np.ndarray,
        factor: float,
        low_freq_factor: float,
        high_freq_factor: float,
        length: float,
    ) -> np.ndarray:
        """Divides those by the factor whose wavelength is long compared to texts of pretraining."""
        turns = length * frequencies / (2 * np.pi)
        share = np.clip((turns - low_freq_factor) / (high_freq_factor - low_freq_factor), 0, 1)
        return (frequencies * (share + (1 - share) / factor)).astype("float32")

    @checks_flags
    def yarn(
        self,
        frequencies: np.ndarray,
        factor: float,
        length: float,
        beta_fast: float = 32,
        beta_slow: float = 1,
        truncate: bool = True,
        **of_scores: float,
    ) -> np.ndarray:
        """Divides those by the factor that make few turns within a text of pretraining."""

        def pair_of(turns):
            """Returns the pair of entries that makes so many turns, as a fraction."""
            return self.size * np.log(length / (2 * np.pi * turns)) / (2 * np.log(self.base))

        first, last = pair_of(beta_fast), pair_of(beta_slow)
        if truncate:
            first, last = np.floor(first), np.ceil(last)
        first, last = max(first, 0), min(last, self.size - 1)
        last = last + 0.001 if first == last else last
        share = np.clip((np.arange(self.size // 2) - first) / (last - first), 0, 1)
        return (frequencies * (1 - share + share / factor)).astype("float32")

    def dynamic(self, positions: Tensor, factor: float, length: float) -> Tensor:
        """Returns the factor of each angle, `(size / 2,)`, that a larger base means."""
        longest = ops.maximum(ops.cast(ops.max(positions), "float32") + 1, float(length))
        exponents = -np.arange(0, self.size, 2, dtype="float32") / (self.size - 2)
        growth = factor * longest / length - (factor - 1)
        return ops.power(growth, ops.convert_to_tensor(exponents))

    def compute_output_spec(self, positions: Tensor) -> keras.KerasTensor:
        return keras.KerasTensor((*positions.shape, self.size // 2), "float32")


@checks_flags
def rotate(x: Tensor, angles: Tensor, halves: bool = False) -> Tensor:
    """Rotates each pair of entries of the last axis by an angle.

    Args:
        x: `(batch, length, heads, size)`.
        angles: in radians, `(batch or 1, length, rotated / 2)`; see `RotaryAngles`. Only the first
            `rotated` entries are rotated, the others stay as they are.
        halves: whether to pair the first half of the entries with the second half, as in GPT-NeoX.
            False pairs neighbours, (0, 1), (2, 3), ..., as in the paper.

    Returns:
        A tensor of the shape of `x`.
    """
    rotated = 2 * angles.shape[-1]
    if rotated < x.shape[-1]:
        first, rest = ops.split(x, [rotated], axis=-1)
        return ops.concatenate([rotate(first, angles, halves), rest], axis=-1)
    cos, sin = ops.cos(angles), ops.sin(angles)
    if halves:
        cos, sin = (ops.cast(y, x.dtype)[:, :, None] for y in (cos, sin))
        first, second = ops.split(x, 2, axis=-1)
        turned = [first * cos - second * sin, second * cos + first * sin]
        return ops.concatenate(turned, axis=-1)
    cos, sin = (
        ops.cast(ops.stack(pair, axis=-1), x.dtype)[:, :, None]
        for pair in ((cos, cos), (-sin, sin))
    )
    pairs = ops.reshape(x, (-1, *ops.shape(x)[1:-1], x.shape[-1] // 2, 2))
    turned = pairs * cos + ops.flip(pairs, axis=-1) * sin
    return ops.reshape(turned, (-1, ops.shape(x)[1], *x.shape[2:]))


@register
class RelativeVectors(Layer):
    """Fixed sinusoidal vectors of the clipped distances between queries and keys.

    Args:
        size: size of the vectors, the same as that of a head.
        max_distance: larger distances are clipped to it.

    Call arguments:
        query_positions: integers `(1, queries)`.
        key_positions: integers `(1, keys)`.

    Returns:
        `(queries, keys, size)`.

    Raises:
        ValueError: `size` is odd.

    Reference:
        Wei et al., "NEZHA", arXiv 1909.00204, equations 3 to 5.
    """

    def __init__(self, size: int, max_distance: int = 64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _check_pairs(size)
        self.size = size
        self.max_distance = max_distance

    def call(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        m = self.max_distance
        angles = sinusoids(np.arange(2 * m + 1), self.size)
        table = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)
        table = ops.cast(ops.reshape(table, (2 * m + 1, self.size)), self.compute_dtype)
        distance = key_positions[0][None, :] - query_positions[0][:, None]
        return ops.take(table, ops.clip(distance, -m, m) + m, axis=0)

    def compute_output_spec(
        self, query_positions: Tensor, key_positions: Tensor
    ) -> keras.KerasTensor:
        shape = (query_positions.shape[1], key_positions.shape[1], self.size)
        return keras.KerasTensor(shape, self.compute_dtype)


@register
class DistanceVectors(Layer):
    """Learned vectors of the distances between queries and keys.

    A distance is the query's position minus the key's, in buckets with a sign: up to half of them
    hold one distance each, the others grow logarithmically.

    Args:
        size: size of the vectors.
        num_buckets: number of buckets on each side.
        max_distance: one more than the first distance of the last bucket.
        initializer_range: standard deviation of the initial vectors.

    Call arguments:
        query_positions: integers `(1, queries)`.
        key_positions: integers `(1, keys)`.

    Returns:
        The vectors, `(2 * num_buckets, size)`; and for each query and key the number of their
        vector, int32 `(queries, keys)`.

    Reference:
        He et al., "DeBERTa", arXiv 2006.03654, equation 3; the buckets are those of its second
        version.
    """

    def __init__(
        self,
        size: int,
        num_buckets: int = 256,
        max_distance: int = 512,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.size = size
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.initializer_range = initializer_range
        if not 2 <= num_buckets // 2 < max_distance - 1:
            raise ValueError(
                f"num_buckets={num_buckets}, max_distance={max_distance}: expected at least 4 "
                "buckets, and a max_distance of more than half of them and one."
            )

    def build(self, query_positions_shape: Shape) -> None:
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(2 * self.num_buckets, self.size),
            initializer=WeightInitializer(stddev=self.initializer_range),
        )

    def call(self, query_positions: Tensor, key_positions: Tensor) -> tuple[Tensor, Tensor]:
        distance = query_positions[0][:, None] - key_positions[0][None, :]
        buckets = ops.convert_to_tensor(self.buckets_of_distances(), dtype="int32")
        bucket = ops.take(buckets, ops.minimum(ops.abs(distance), self.max_distance))
        rows = ops.where(distance < 0, -bucket, bucket) + self.num_buckets
        vectors = ops.cast(ops.convert_to_tensor(self.embeddings), self.compute_dtype)
        return vectors, ops.clip(rows, 0, 2 * self.num_buckets - 1)

    def buckets_of_distances(self) -> np.ndarray:
        """Returns the bucket of each distance from 0 to `max_distance`."""
        middle, distance = self.num_buckets // 2, np.arange(self.max_distance + 1)
        steps = np.log(np.maximum(distance, middle) / middle)
        steps /= np.log((self.max_distance - 1) / middle)
        far = np.ceil(steps * (middle - 1)) + middle
        return np.where(distance <= middle, distance, far).astype("int32")

    def compute_output_spec(
        self, query_positions: Tensor, key_positions: Tensor
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        vectors = (2 * self.num_buckets, self.size)
        rows = (query_positions.shape[1], key_positions.shape[1])
        return keras.KerasTensor(vectors, self.compute_dtype), keras.KerasTensor(rows, "int32")

    def compute_mask(self, query_positions: Tensor, previous_mask: Any = None) -> tuple:
        return None, None


@register
class RelativeBias(Layer):
    """Learned bias on the attention scores, for each head and each bucket of distances.

    Half of the buckets hold one distance each, the others grow logarithmically.

    Args:
        num_heads: number of heads.
        num_buckets: number of rows of the table.
        max_distance: distances from here on share the last bucket.
        bidirectional: whether keys after the query have their own buckets. False puts them into the
            bucket of distance 0.
        initializer_range: standard deviation of the initial table.

    Call arguments:
        query_positions: integers `(1, queries)`.
        key_positions: integers `(1, keys)`.

    Returns:
        `(1, num_heads, queries, keys)`.

    Raises:
        ValueError: there are too few buckets, or `max_distance` is within the buckets of one
            distance each.

    Reference:
        Raffel et al., "T5", arXiv 1910.10683, section 2.1.
    """

    def __init__(
        self,
        num_heads: int,
        num_buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.bidirectional = bidirectional
        self.initializer_range = initializer_range
        exact = num_buckets // (4 if bidirectional else 2)
        if not 0 < exact < max_distance:
            raise ValueError(
                f"num_buckets={num_buckets}, max_distance={max_distance}: expected at least"
                f" {4 if bidirectional else 2} buckets, and a max_distance of more than {exact},"
                " the number of distances with a bucket each."
            )

    def build(self, query_positions_shape: Shape) -> None:
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.num_buckets, self.num_heads),
            initializer=WeightInitializer(stddev=self.initializer_range),
        )

    def call(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        buckets = self.bucket(key_positions[0][None, :] - query_positions[0][:, None])
        bias = ops.take(ops.convert_to_tensor(self.embeddings), buckets, axis=0)
        return ops.cast(ops.transpose(bias, (2, 0, 1))[None], self.compute_dtype)

    def bucket(self, distance: Tensor) -> Tensor:
        """Returns the row of the table for a distance (key position minus query position)."""
        buckets, offset = self.num_buckets, 0
        if self.bidirectional:
            buckets //= 2
            offset = ops.where(distance > 0, buckets, 0)
            distance = ops.abs(distance)
        else:
            distance = ops.maximum(-distance, 0)
        rows = ops.convert_to_tensor(self.rows_of_distances(buckets), dtype="int32")
        return offset + ops.take(rows, ops.minimum(distance, self.max_distance))

    def rows_of_distances(self, buckets: int) -> np.ndarray:
        """Returns the bucket of each distance from 0 to `max_distance`."""
        exact = buckets // 2
        distance = np.arange(self.max_distance + 1)
        steps = np.log(np.maximum(distance, exact) / exact) / np.log(self.max_distance / exact)
        # 1e-6: where the logarithm is a whole number, rounding errors must not make it smaller
        far = exact + (steps * (buckets - exact) + 1e-6).astype("int32")
        return np.where(distance < exact, distance, np.minimum(far, buckets - 1))

    def compute_output_spec(
        self, query_positions: Tensor, key_positions: Tensor
    ) -> keras.KerasTensor:
        shape = (1, self.num_heads, query_positions.shape[1], key_positions.shape[1])
        return keras.KerasTensor(shape, self.compute_dtype)
