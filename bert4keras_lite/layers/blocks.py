"""Feed-forward layer and Transformer block."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import keras

from ..types import Shape, Tensor
from .attention import (
    DisentangledAttention,
    GatedAttentionUnit,
    MultiHeadAttention,
    NystromAttention,
)
from .base import Layer, dense, dense_flops, register
from .cache import Cache
from .dropout import Dropout
from .normalization import LayerNormalization
from .remat import rematerialized

__all__ = ["ATTENTIONS", "FeedForward", "TransformerBlock"]


@register
class FeedForward(Layer):
    """Position-wise feed-forward layer: two dense layers with an activation between them.

    Args:
        units: size of the intermediate vectors.
        activation: name of the activation, as in configs.
        gated: whether to multiply the intermediate vectors by a second, linear projection.
        use_bias: whether the dense layers have a bias.
        without_bias: names of those that have none even so: `"input"`, `"gate"`, `"output"`.
        initializer_range: standard deviation of the initial kernels.

    Call arguments:
        x: `(batch, length, dim)`.

    Returns:
        `(batch, length, dim)`.

    Reference:
        Vaswani et al., arXiv 1706.03762, section 3.3; gated: Shazeer, arXiv 2002.05202,
        equation 6.
    """

    split: ClassVar = {"input": "columns", "gate": "columns", "output": "rows"}

    def __init__(
        self,
        units: int,
        activation: str = "gelu",
        gated: bool = False,
        use_bias: bool = True,
        without_bias: Sequence[str] = (),
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.activation = activation
        self.gated = gated
        self.use_bias = use_bias
        self.without_bias = list(without_bias)
        self.initializer_range = initializer_range

    def build(self, x_shape: Shape) -> None:
        def part(name, shape, units, activation=None):
            has_bias = self.use_bias and name not in self.without_bias
            return dense(self, name, shape, units, activation, use_bias=has_bias)

        self.input_dense = part("input", x_shape, self.units, self.activation)
        if self.gated:
            self.gate_dense = part("gate", x_shape, self.units)
        self.output_dense = part("output", (*x_shape[:-1], self.units), x_shape[-1])

    def call(self, x: Tensor) -> Tensor:
        y = self.input_dense(x)
        return self.output_dense(y * self.gate_dense(x) if self.gated else y)

    def flops(self, length: int) -> int:
        """Returns the FLOPs of the forward pass of a sequence."""
        gate = (self.gate_dense,) if self.gated else ()
        return dense_flops(length, self.input_dense, *gate, self.output_dense)

    def compute_output_shape(self, x_shape: Shape) -> Shape:
        return tuple(x_shape)


ATTENTIONS: dict[str, Any] = {
    "full": MultiHeadAttention,
    "nystrom": NystromAttention,
    "gau": GatedAttentionUnit,
    "disentangled": DisentangledAttention,
}

# where a block normalizes: the input of a residual branch ("in"), what the branch adds ("added"),
# or the sum ("out")
NORM_SLOTS = {
    "post": ("attention_out", "cross_out", "ffn_out"),
    "pre": ("attention_in", "cross_in", "ffn_in"),
    "pre_ffn": ("cross_in", "ffn_in"),  # the input of the block is normalized already
    "gpt2_ml": ("ffn_in", "ffn_out"),
    "sandwich": (
        *("attention_in", "attention_added"),
        *("cross_in", "cross_added"),
        *("ffn_in", "ffn_added"),
    ),
}


@register
class TransformerBlock(Layer):
    """Transformer block: self-attention, optional cross-attention, feed-forward, each residual.

    Args:
        attention: arguments of the attention, as a dict; its `"kind"` is a key of `ATTENTIONS`.
        ffn: arguments of `FeedForward`, or None (a gated attention unit needs none).
        cross: arguments of the `MultiHeadAttention` to a memory, or None.
        norm: arguments of `LayerNormalization`.
        norm_at: a key of `NORM_SLOTS`.
        dropout: dropout rate of the output of each branch, before it is added to the residual.
        remat: whether to recompute the block in the backward pass of training and keep only its
            inputs (gradient checkpointing).

    Call arguments:
        x: `(batch, length, dim)`.
        bias: attention mask as a bias, from `AttentionBias`.
        memory: source of keys and values of `cross`, `(batch, keys, dim)`.
        memory_bias: mask of the memory, as a bias.
        condition: `(batch, size)`, for conditional normalization.
        scores: attention scores of the previous block.
        angles, distances: see `MultiHeadAttention`.
        caches: branch (`"attention"`, `"cross"`) -> `Cache`.

    Returns:
        `(batch, length, dim)`; if `attention` has `return_scores`, a tuple of it and the attention
        scores.

    Reference:
        Devlin et al., "BERT", arXiv 1810.04805; Vaswani et al., arXiv 1706.03762, figure 1. On
        the place of normalization: Xiong et al., arXiv 2002.04745, figure 1; of a branch's input
        and of what it adds: Ding et al., "CogView", arXiv 2105.13290, section 2.4.
    """

    def __init__(
        self,
        attention: dict[str, Any],
        ffn: dict[str, Any] | None = None,
        cross: dict[str, Any] | None = None,
        norm: dict[str, Any] | None = None,
        norm_at: str = "post",
        dropout: float = 0.0,
        remat: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.attention = dict(attention)
        self.ffn = ffn and dict(ffn)
        self.cross = cross and dict(cross)
        self.norm = dict(norm or {})
        self.norm_at = norm_at
        self.dropout = dropout
        self.remat, self.inside_remat = remat, False
        self.return_scores = self.attention.get("return_scores", False)

    def build(
        self,
        x_shape: Shape,
        memory_shape: Shape | None = None,
        condition_shape: Shape | None = None,
    ) -> None:
        def part(cls, name, arguments):
            return cls(name=name, dtype=self.dtype_policy, **arguments)

        arguments = dict(self.attention)
        attention = part(ATTENTIONS[arguments.pop("kind", "full")], "attention", arguments)
        attention.build(x_shape)
        self.branches = {"attention": attention}
        if self.cross:
            cross = part(MultiHeadAttention, "cross", self.cross)
            cross.build(x_shape, memory_shape)
            self.branches["cross"] = cross
        if self.ffn:
            ffn = part(FeedForward, "ffn", self.ffn)
            ffn.build(x_shape)
            self.branches["ffn"] = ffn
        self.norms = {}
        for slot in NORM_SLOTS[self.norm_at]:
            if slot.split("_")[0] in self.branches:
                self.norms[slot] = part(LayerNormalization, f"{slot}_norm", self.norm)
                self.norms[slot].build(x_shape, condition_shape)
        # tf.train.Checkpoint does not look into dicts. Keras saves attributes in alphabetical
        # order: these names come after the two dicts, so its files keep the parts where they were
        for part_of_block in (*self.branches.values(), *self.norms.values()):
            setattr(self, f"part_{part_of_block.name}", part_of_block)
        self.dropout_layer = Dropout(self.dropout, dtype=self.dtype_policy)

    def call(
        self,
        x: Tensor,
        bias: Tensor | None = None,
        memory: Tensor | None = None,
        memory_bias: Tensor | None = None,
        condition: Tensor | None = None,
        scores: Tensor | None = None,
        angles: Tensor | None = None,
        distances: Tensor | None = None,
        caches: Mapping[str, Cache] | None = None,
        training: bool = False,
    ) -> Tensor:
        if self.remat and training and not self.inside_remat:
            context = {"bias": bias, "memory": memory, "memory_bias": memory_bias}
            context |= {"condition": condition, "scores": scores}
            context |= {"angles": angles, "distances": distances}
            return rematerialized(self, x, {k: v for k, v in context.items() if v is not None})
        contexts: dict[str, dict[str, Any]] = {
            "attention": {"bias": bias, "scores": scores, "angles": angles, "distances": distances},
            "cross": {"memory": memory, "bias": memory_bias},
        }
        for step, value in self.steps(x, contexts, condition, caches or {}):
            if step == "attention_scores":
                scores = value
            elif step.endswith("_out"):
                x = value
        return (x, scores) if self.return_scores else x

    def steps(
        self,
        x: Tensor,
        contexts: Mapping[str, Mapping[str, Tensor | None]],
        condition: Tensor | None = None,
        caches: Mapping[str, Cache] = MappingProxyType({}),
    ) -> Iterator[tuple[str, Tensor]]:
        """Computes the block step by step.

        Args:
            x: `(batch, length, dim)`.
            contexts: branch -> arguments of it.
            condition, caches: see the call arguments.

        Yields:
            Pairs of a name and a tensor. For each branch, such as `"ffn"`: `"ffn_in"`, its input;
            `"ffn"`, its output; `"ffn_dropout"`, what it adds; `"ffn_add"`, the sum; `"ffn_out"`,
            the sum after normalization, if there is one; and `"ffn_scores"`, if it returns scores.
        """

        def normalize(slot, x):
            return self.norms[slot](x, condition=condition) if slot in self.norms else x

        for name, branch in self.branches.items():
            context = {**contexts.get(name, {}), "cache": caches.get(name)}
            y = normalize(f"{name}_in", x)
            yield f"{name}_in", y
            y = branch(y, **{k: v for k, v in context.items() if v is not None})
            if isinstance(y, tuple):
                y, scores = y
                yield f"{name}_scores", scores
            yield name, y
            y = self.dropout_layer(normalize(f"{name}_added", y))
            yield f"{name}_dropout", y
            x = x + y
            yield f"{name}_add", x
            x = normalize(f"{name}_out", x)
            yield f"{name}_out", x

    def flops(self, length: int, memory_length: int | None = None) -> int:
        """Returns the FLOPs of the forward pass of a sequence, and a memory for `cross`."""
        lengths = {"attention": (length, length), "cross": (length, memory_length)}
        return sum(
            branch.flops(*lengths.get(name, (length,))) for name, branch in self.branches.items()
        )

    def compute_output_spec(
        self, x: Tensor, **context: Any
    ) -> keras.KerasTensor | tuple[keras.KerasTensor, keras.KerasTensor]:
        batch, length, _ = x.shape
        y = keras.KerasTensor(x.shape, self.compute_dtype)
        if not self.return_scores:
            return y
        scores = (batch, self.attention["num_heads"], length, length)
        return y, keras.KerasTensor(scores, self.compute_dtype)

    def compute_mask(self, x: Tensor, previous_mask: Tensor | None = None) -> Tensor | None:
        return (previous_mask, None) if self.return_scores else previous_mask
