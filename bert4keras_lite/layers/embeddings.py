"""Embedding layers: tokens, positions, segments."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from ..types import Shape, Tensor
from .base import Layer, WeightInitializer, register
from .values import raise_or_nan, value_range

__all__ = ["PositionEmbedding", "Positions", "TokenEmbedding", "count_positions", "token_mask"]


@register
class TokenEmbedding(keras.layers.ReversibleEmbedding):
    """Token embedding; with `reverse=True`, logits over the vocabulary from the same table.

    The mask keeps position 0 (unless `keep_first` is False), as in bert4keras, so that no row is
    masked completely (decoders may begin with the padding token).

    Args:
        input_dim: vocabulary size.
        output_dim: size of the vectors.
        pad_token_id: id of the padding token; -1: there is no padding.
        transformer: description of the `Transformer` that the table belongs to, in JSON, for
            `load_model`.
        keep_first: see `AttentionBias`.
        scale: factor of the vectors, rounded to their dtype; logits have none. Defaults to 1.

    Call arguments:
        inputs: integer ids `(batch, length)`; with `reverse`, vectors
            `(batch, length, output_dim)`.

    Returns:
        `(batch, length, output_dim)`; with `reverse`, `(batch, length, input_dim)`.

    Raises:
        ValueError: an id is below 0 or not in the table, in an eager call. In a compiled program
            the vectors of such ids are NaN, or the backend raises an error.

    Reference:
        Press and Wolf, "Using the Output Embedding to Improve Language Models",
        arXiv 1608.05859.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        pad_token_id: int = 0,
        transformer: str | None = None,
        keep_first: bool = True,
        scale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_dim, output_dim, **kwargs)
        self.pad_token_id = pad_token_id
        self.keep_first = keep_first
        self.transformer = transformer
        self.scale = scale
        self.supports_masking = True

    def get_config(self) -> dict[str, Any]:
        names = ("pad_token_id", "transformer", "keep_first", "scale")
        return super().get_config() | {name: getattr(self, name) for name in names}

    def call(self, inputs: Tensor, reverse: bool = False) -> Tensor:
        return self.lookup(super().call, inputs, reverse)

    def quantized_call(self, inputs: Tensor, reverse: bool = False) -> Tensor:
        return self.lookup(super().quantized_call, inputs, reverse)

    def lookup(self, call: Callable, inputs: Tensor, reverse: bool) -> Tensor:
        """Returns `scale * call(inputs)`, after a check of the ids; without `scale` in reverse."""
        if reverse:
            return call(inputs, reverse=True)
        advice = "Take the tokenizer of this checkpoint, or resize its embeddings."
        nan_where_wrong = check_ids(self, inputs, self.input_dim, advice)
        vectors = nan_where_wrong(call(inputs))
        return vectors if self.scale == 1 else vectors * ops.cast(self.scale, vectors.dtype)

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        if len(inputs.shape) != 2:
            return mask
        return token_mask(inputs, self.pad_token_id, self.keep_first)

    def quantize(
        self, mode: str | None = None, type_check: bool = True, config: Any = None
    ) -> None:
        super().quantize(mode, type_check=False, config=config)


def check_ids(layer, ids, size, advice):
    """Checks that each id has a row in a table; see `raise_or_nan`.

    Args:
        layer: named in the error message.
        ids: integers of any shape.
        size: number of rows of the table.
        advice: last sentence of the error message.
    """
    ids = ops.cast(ids, "int32")  # 8-bit ids cannot be compared with a larger size
    outside = ops.logical_or(ops.less(ids, 0), ops.greater_equal(ids, size))
    return raise_or_nan(
        outside[..., None],
        lambda: (
            f"{layer.name}: ids without a vector; expected 0 to {size - 1}, "
            f"got {value_range(ids)}. {advice}"
        ),
    )


def token_mask(token_ids, pad_token_id=0, keep_first=True):
    """Returns True where a token is not padding, and at position 0 if `keep_first`."""
    is_token = ops.not_equal(token_ids, pad_token_id)
    if not keep_first:
        return is_token
    return ops.logical_or(is_token, ops.equal(count_positions(token_ids), 0))


def count_positions(ids):
    """Returns 0, 1, 2, ... along the second axis.

    Counted, because the length may be unknown in an exported graph.
    """
    return ops.cumsum(ops.ones_like(ids, dtype="int32"), axis=1) - 1


@register
class Positions(Layer):
    """Returns the positions of a sequence: 0, 1, 2, ..., or those of RoBERTa.

    Args:
        limit: maximum number of positions; None: unlimited.
        first: position of the first token. Above 0, tokens that are not padding get `first`,
            `first + 1`, ..., wherever the padding is, and padding gets `first - 1`.
        pad_token_id: id of the padding token, for `first` above 0.

    Call arguments:
        x: token ids `(batch, length)` or vectors `(batch, length, dim)`.

    Returns:
        Integers of shape `(1, length)`; with `first` above 0, `(batch, length)`.

    Raises:
        ValueError: the input is longer than `limit`.

    Reference:
        fairseq/utils.py, `make_positions`.
    """

    def __init__(
        self, limit: int | None = None, first: int = 0, pad_token_id: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.limit = limit
        self.first = first
        self.pad_token_id = pad_token_id

    def call(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        if self.limit and isinstance(length, int) and length > self.limit:
            raise ValueError(
                f"{self.name}: the input has {length} tokens, but there are {self.limit} "
                f"positions. Cut the input (maxlen={self.limit}) or build with "
                "hierarchical_position=True."
            )
        if self.first:
            is_token = ops.cast(ops.not_equal(x, self.pad_token_id), "int32")
            return ops.cumsum(is_token, axis=1) * is_token + (self.first - 1)
        return count_positions(x[:1] if len(x.shape) == 2 else x[:1, :, 0])

    def compute_output_spec(self, x: Tensor) -> keras.KerasTensor:
        return keras.KerasTensor((x.shape[0] if self.first else 1, x.shape[1]), "int32")

    def compute_mask(self, x: Tensor, previous_mask: Tensor | None = None) -> Tensor | None:
        return None


@register
class PositionEmbedding(Layer):
    """Adds a learned vector for each position, or for other small integers (such as segments).

    Args:
        input_dim: number of trained positions.
        output_dim: size of the vectors.
        hierarchical: None, `True` (means 0.4), or a number `a` from 0 (off) to 0.999. Position
            `i * input_dim + j` gets `a * u[i] + (1 - a) * u[j]` with
            `u = (table - a * table[0]) / (1 - a)`, which keeps the trained positions unchanged and
            extends them to `input_dim ** 2` positions.
        initializer_range: standard deviation of the initial table.
        row: of the table, for each token if `positions` is None.

    Call arguments:
        x: `(batch, length, output_dim)`.
        positions: integers `(batch, length)` or `(1, length)`; None: `row` for each token.

    Returns:
        `(batch, length, output_dim)`.

    Raises:
        ValueError: see `TokenEmbedding`; or `hierarchical` is out of its range.

    Reference:
        For the hierarchical decomposition: https://kexue.fm/archives/7947
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        hierarchical: bool | float | None = None,
        initializer_range: float = 0.02,
        row: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.row = row
        self.hierarchical = hierarchical
        self.initializer_range = initializer_range
        self.alpha = 0.4 if hierarchical is True else hierarchical
        if not 0 <= (self.alpha or 0) <= 0.999:
            raise ValueError(
                f"hierarchical={hierarchical!r:.200}: expected True, or a number from 0 to 0.999."
            )

    def build(self, x_shape: Shape) -> None:
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.input_dim, self.output_dim),
            initializer=WeightInitializer(stddev=self.initializer_range),
        )

    def call(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        table, size = ops.convert_to_tensor(self.embeddings), self.input_dim
        if positions is None:
            return x + ops.cast(table[self.row], x.dtype)
        advice = "Correct the ids, or build the model with a larger table."
        nan_where_wrong = check_ids(self, positions, size**2 if self.alpha else size, advice)
        if self.alpha:
            table = (table - self.alpha * table[:1]) / (1 - self.alpha)
            coarse = ops.take(table, positions // size, axis=0)
            fine = ops.take(table, positions % size, axis=0)
            added = self.alpha * coarse + (1 - self.alpha) * fine
        else:
            added = ops.take(table, positions, axis=0)
        return x + nan_where_wrong(ops.cast(added, x.dtype))

    def compute_output_spec(self, x: Tensor, positions: Tensor | None = None) -> keras.KerasTensor:
        return keras.KerasTensor(x.shape, x.dtype)

    def compute_mask(self, x: Tensor, previous_mask: Tensor | None = None) -> Tensor | None:
        return previous_mask
