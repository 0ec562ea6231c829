"""Ids to vectors: tokens, positions, segments."""

import keras
from keras import ops

from .base import Layer, WeightInitializer, register
from .values import extent, mark_wrong


@register
class TokenEmbedding(keras.layers.ReversibleEmbedding):
    """Token vectors, and, with `reverse=True`, the scores of all tokens by the same table.

    The mask leaves position 0 visible whatever stands there, as bert4keras does, so that no row
    is ever wholly hidden (decoders may begin with the padding token).

    Args:
        input_dim: vocabulary size.
        output_dim: size of the vectors.
        pad_token_id: the id that is padding; -1: no id is.
        transformer: of which `Transformer` it is the table, in JSON, for `load_model`.

    Call arguments:
        inputs: integer ids of shape `(batch, length)`; with `reverse`, vectors of shape
            `(batch, length, output_dim)`.

    Returns:
        `(batch, length, output_dim)`; with `reverse`, `(batch, length, input_dim)`.

    Raises:
        ValueError: ids below 0, or beyond the table, in an eager call; in a compiled program
            their vectors are NaN, or the backend raises.

    Reference:
        Press and Wolf, "Using the Output Embedding to Improve Language Models",
        arXiv 1608.05859.
    """

    def __init__(self, input_dim, output_dim, pad_token_id=0, transformer=None, **kwargs):
        super().__init__(input_dim, output_dim, **kwargs)
        self.pad_token_id = pad_token_id
        self.transformer = transformer
        self.supports_masking = True

    def get_config(self):
        own = {"pad_token_id": self.pad_token_id, "transformer": self.transformer}
        return super().get_config() | own

    def call(self, inputs, reverse=False):
        return self.looked_up(super().call, inputs, reverse)

    def quantized_call(self, inputs, reverse=False):
        return self.looked_up(super().quantized_call, inputs, reverse)

    def looked_up(self, call, inputs, reverse):
        if reverse:
            return call(inputs, reverse=True)
        advice = "Take the tokenizer of this checkpoint, or resize its embeddings."
        mark = mark_outside(self, inputs, self.input_dim, advice)
        return mark(call(inputs))

    def compute_mask(self, inputs, mask=None):
        if len(inputs.shape) != 2:
            return mask
        return token_mask(inputs, self.pad_token_id)

    def quantize(self, mode=None, type_check=True, config=None):
        super().quantize(mode, type_check=False, config=config)


def mark_outside(layer, ids, size, advice):
    """See `mark_wrong`: for ids that have no row in a table of that size. `advice` ends the message."""
    ids = ops.cast(ids, "int32")  # in 8 bits there is no such size to compare with
    outside = ops.logical_or(ops.less(ids, 0), ops.greater_equal(ids, size))
    return mark_wrong(
        outside[..., None],
        lambda: (
            f"{layer.name}: ids without a vector; expected 0 to {size - 1}, got {extent(ids)}. "
            f"{advice}"
        ),
    )


def token_mask(token_ids, pad_token_id=0):
    """True where a token is no padding; position 0 always is. `(batch, length)` in and out."""
    return ops.logical_or(
        ops.not_equal(token_ids, pad_token_id), ops.equal(count_positions(token_ids), 0)
    )


def count_positions(ids):
    """0, 1, 2, ... along the second axis. Counted: an exported graph may not know the length."""
    return ops.cumsum(ops.ones_like(ids, dtype="int32"), axis=1) - 1


@register
class Positions(Layer):
    """The positions 0, 1, 2, ... of a sequence.

    Args:
        limit: how many there may be at most; None: any number.

    Call arguments:
        x: token ids `(batch, length)` or vectors `(batch, length, dim)`.

    Returns:
        Integers of shape `(1, length)`.
    """

    def __init__(self, limit=None, **kwargs):
        super().__init__(**kwargs)
        self.limit = limit

    def call(self, x):
        length = x.shape[1]
        if self.limit and isinstance(length, int) and length > self.limit:
            raise ValueError(
                f"{self.name}: the input has {length} tokens, but there are {self.limit} "
                f"positions. Cut the input (maxlen={self.limit}) or build with "
                "hierarchical_position=True."
            )
        return count_positions(x[:1] if len(x.shape) == 2 else x[:1, :, 0])

    def compute_output_spec(self, x):
        return keras.KerasTensor((1, x.shape[1]), "int32")

    def compute_mask(self, x, previous_mask=None):
        return None


@register
class PositionEmbedding(Layer):
    """Adds a learned vector for each position, or for each of other small integers (segments).

    Args:
        input_dim: number of trained positions.
        output_dim: size of the vectors.
        hierarchical: `True` (0.4) or a number `a` from 0 (none) to 0.999: position `i * input_dim + j` gets
            `a * u[i] + (1 - a) * u[j]` with `u = (table - a * table[0]) / (1 - a)`, which leaves
            the trained positions as they are and reaches `input_dim ** 2` positions.
        initializer_range: standard deviation of the initial table.

    Call arguments:
        x: `(batch, length, output_dim)`.
        positions: integers `(batch, length)` or `(1, length)`.

    Returns:
        `(batch, length, output_dim)`.

    Raises:
        ValueError: see `TokenEmbedding`; or `hierarchical` is out of its range.

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
        if not 0 <= (self.alpha or 0) <= 0.999:
            raise ValueError(
                f"hierarchical={hierarchical!r:.200}: expected True, or a number from 0 to 0.999."
            )

    def build(self, x_shape):
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.input_dim, self.output_dim),
            initializer=WeightInitializer(stddev=self.initializer_range),
        )

    def call(self, x, positions):
        table, size = ops.convert_to_tensor(self.embeddings), self.input_dim
        advice = "Correct the ids, or build the model with a larger table."
        mark = mark_outside(self, positions, size**2 if self.alpha else size, advice)
        if self.alpha:
            table = (table - self.alpha * table[:1]) / (1 - self.alpha)
            coarse = ops.take(table, positions // size, axis=0)
            fine = ops.take(table, positions % size, axis=0)
            added = self.alpha * coarse + (1 - self.alpha) * fine
        else:
            added = ops.take(table, positions, axis=0)
        return x + mark(ops.cast(added, x.dtype))

    def compute_output_spec(self, x, positions):
        return keras.KerasTensor(x.shape, x.dtype)

    def compute_mask(self, x, previous_mask=None):
        return previous_mask
