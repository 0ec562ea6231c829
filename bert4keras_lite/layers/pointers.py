"""Span-scoring layers for nested entities: GlobalPointer and its efficient form."""

from typing import Any

import keras
from keras import ops

from ..types import Shape, Tensor
from .base import Layer, register
from .embeddings import count_positions
from .positions import rotate, sinusoids
from .values import neg_inf

__all__ = ["EfficientGlobalPointer", "GlobalPointer"]


@register
class GlobalPointer(Layer):
    """Returns a logit for each entity type and each span, given by its first and last token.

    A span is predicted where its logit is above 0; train with
    `multilabel_categorical_crossentropy` or its sparse form.

    Args:
        heads: number of entity types.
        head_size: size of the queries (of first tokens) and keys (of last tokens) of a type.
        RoPE: whether to apply rotary position embedding, so that logits depend on the span length.
        use_bias: whether the projections have a bias.
        tril_mask: whether to mask spans that end before they begin.
        kernel_initializer: initializer of the projections.

    Call arguments:
        x: `(batch, length, dim)`.
        visible: bool `(batch, length)`, True at tokens to use. Defaults to Keras' implicit mask.

    Returns:
        `(batch, heads, length, length)`: types, first tokens, last tokens. Masked spans have a
        large negative value that is finite in the layer's precision.

    Raises:
        ValueError: `head_size` is odd, with `RoPE`.

    Example:

        spans = GlobalPointer(heads=len(categories), head_size=64)(bert.output)
        model = keras.Model(bert.inputs, spans)

    Reference:
        Su et al., "Global Pointer", arXiv 2208.03054, section 3.1;
        https://kexue.fm/archives/8373
    """

    def __init__(
        self,
        heads: int,
        head_size: int,
        RoPE: bool = True,
        use_bias: bool = True,
        tril_mask: bool = True,
        kernel_initializer: str | keras.initializers.Initializer = "lecun_normal",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if RoPE and head_size % 2:
            raise ValueError(
                f"{self.name}: rotary position embedding needs pairs; expected an even head_size, "
                f"got head_size={head_size}. Use an even number, or RoPE=False."
            )
        self.heads = heads
        self.head_size = head_size
        self.RoPE = RoPE
        self.use_bias = use_bias
        self.tril_mask = tril_mask
        self.kernel_initializer = kernel_initializer

    def build(self, x_shape: Shape) -> None:
        self.dense = self.projection("dense", x_shape, 2 * self.heads * self.head_size)

    def projection(self, name: str, input_shape: Shape, units: int) -> keras.layers.Dense:
        layer = keras.layers.Dense(
            units,
            use_bias=self.use_bias,
            kernel_initializer=self.kernel_initializer,
            dtype=self.dtype_policy,
            name=name,
        )
        layer.build(input_shape)
        return layer

    def call(self, x: Tensor, visible: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        visible = mask if visible is None else visible
        span_masks = []
        if visible is not None:
            visible = ops.cast(visible, "bool")
            span_masks += [visible[:, None, :, None], visible[:, None, None, :]]
        if self.tril_mask:
            positions = self.positions(x)
            span_masks.append(positions[:, None, :, None] <= positions[:, None, None, :])
        logits = self.span_logits(x)
        masked = ops.cast(neg_inf(self.compute_dtype), logits.dtype)
        for span_mask in span_masks:
            logits = ops.where(span_mask, logits, masked)
        return logits

    def span_logits(self, x: Tensor) -> Tensor:
        """Returns the logits of all spans, `(batch, heads, length, length)`."""
        y = self.dense(x)
        y = ops.reshape(y, (-1, ops.shape(x)[1], self.heads, 2 * self.head_size))
        return self.products(*ops.split(y, 2, axis=-1))

    def products(self, query: Tensor, key: Tensor) -> Tensor:
        """Returns the scaled products of rotated queries and keys."""
        if self.RoPE:
            angles = sinusoids(self.positions(query[..., 0]), self.head_size)
            query, key = rotate(query, angles), rotate(key, angles)
        return ops.einsum("bmhd,bnhd->bhmn", query * self.head_size**-0.5, key)

    @staticmethod
    def positions(x: Tensor) -> Tensor:
        """Returns 0, 1, 2, ... along the second of three axes: `(1, length)`."""
        return count_positions(x[:1, :, 0])

    def compute_output_spec(
        self, x: Tensor, visible: Tensor | None = None, mask: Tensor | None = None
    ) -> keras.KerasTensor:
        batch, length, _ = x.shape
        return keras.KerasTensor((batch, self.heads, length, length), self.compute_dtype)

    def compute_mask(self, x: Tensor, previous_mask: Tensor | None = None) -> Tensor | None:
        return None


@register
class EfficientGlobalPointer(GlobalPointer):
    """`GlobalPointer` with far fewer weights: span detection shared by all types, and a type bias.

    All types share one product of query and key. Each type adds a bias for the first token and one
    for the last.

    Args:
        **kwargs: see `GlobalPointer`.

    Call arguments:
        x, visible: see `GlobalPointer`.

    Returns:
        `(batch, heads, length, length)`, see `GlobalPointer`.

    Reference:
        Su et al., "Global Pointer", arXiv 2208.03054, section 3.2;
        https://kexue.fm/archives/8877
    """

    def build(self, x_shape: Shape) -> None:
        self.p_dense = self.projection("p_dense", x_shape, 2 * self.head_size)
        shape = (*x_shape[:-1], 2 * self.head_size)
        self.q_dense = self.projection("q_dense", shape, 2 * self.heads)

    def span_logits(self, x: Tensor) -> Tensor:
        shared = self.p_dense(x)
        common = self.products(shared[:, :, None, ::2], shared[:, :, None, 1::2])
        biases = ops.transpose(self.q_dense(shared), (0, 2, 1)) / 2
        return common + biases[:, 1::2, :, None] + biases[:, ::2, None, :]
