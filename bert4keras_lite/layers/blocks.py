"""The feed-forward layer, and the block that every model is a stack of."""

import keras

from .attention import GatedAttentionUnit, MultiHeadAttention, NystromAttention
from .base import Layer, dense, register
from .dropout import Dropout
from .normalization import LayerNormalization
from .remat import rematerialized


@register
class FeedForward(Layer):
    """Two dense layers with an activation between them, at every position alike.

    Args:
        units: size in the middle.
        activation: its name, as configs spell it.
        gated: whether the middle is multiplied by a second, linear projection.
        use_bias: whether the layers have a bias.
        initializer_range: standard deviation of the initial kernels.

    Call arguments:
        x: `(batch, length, dim)`.

    Returns:
        `(batch, length, dim)`.

    Reference:
        Vaswani et al., arXiv 1706.03762, section 3.3; gated: Shazeer, arXiv 2002.05202,
        equation 6.
    """

    def __init__(
        self,
        units,
        activation="gelu",
        gated=False,
        use_bias=True,
        initializer_range=0.02,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = units
        self.activation = activation
        self.gated = gated
        self.use_bias = use_bias
        self.initializer_range = initializer_range

    def build(self, x_shape):
        bias = {"use_bias": self.use_bias}
        self.input_dense = dense(self, "input", x_shape, self.units, self.activation, **bias)
        if self.gated:
            self.gate_dense = dense(self, "gate", x_shape, self.units, **bias)
        middle = (*x_shape[:-1], self.units)
        self.output_dense = dense(self, "output", middle, x_shape[-1], **bias)

    def call(self, x):
        y = self.input_dense(x)
        return self.output_dense(y * self.gate_dense(x) if self.gated else y)

    def compute_output_shape(self, x_shape):
        return tuple(x_shape)


ATTENTIONS = {
    "full": MultiHeadAttention,
    "nystrom": NystromAttention,
    "gau": GatedAttentionUnit,
}

# kinds of normalization, as arguments of `LayerNormalization`
NORMS = {
    "layer": {},
    "rms": {"zero_mean": False, "offset": False},
    "plain_rms": {"zero_mean": False, "offset": False, "scale": False},
    "bias_free": {"offset": False},
}

# where a block normalizes: what goes into, or what comes out of, a residual branch
NORM_SLOTS = {
    "post": ("attention_out", "cross_out", "ffn_out"),
    "pre": ("attention_in", "cross_in", "ffn_in"),
    "pre_ffn": ("cross_in", "ffn_in"),  # what comes into the block is normalized already
    "gpt2_ml": ("ffn_in", "ffn_out"),
}


@register
class TransformerBlock(Layer):
    """One block: attention, attention to a memory if there is one, feed-forward, each residual.

    Args:
        attention: arguments of the attention, as a dict; `"kind"` is a key of `ATTENTIONS`.
        ffn: arguments of `FeedForward`, or None (a gated attention unit needs none).
        cross: arguments of the `MultiHeadAttention` to a memory, or None.
        norm: arguments of `LayerNormalization`.
        norm_at: a key of `NORM_SLOTS`.
        dropout: rate on what each branch adds to the residual.
        remat: in training, keep only what goes into the block, and compute all within again on
            the way back.

    Call arguments:
        x: `(batch, length, dim)`.
        bias: what is visible, from `AttentionBias`.
        memory: `(batch, keys, dim)`, for `cross`.
        memory_bias: what is visible of the memory.
        condition: `(batch, size)`, for conditional normalization.
        scores: attention scores of the block below.
        angles, distances: see `MultiHeadAttention`.
        caches: name of a branch (`"attention"`, `"cross"`) -> its `Cache`.

    Returns:
        `(batch, length, dim)`, and the attention scores if `attention` has `return_scores`.

    Reference:
        Devlin et al., "BERT", arXiv 1810.04805; Vaswani et al., arXiv 1706.03762, figure 1. On
        the place of normalization: Xiong et al., arXiv 2002.04745, figure 1.
    """

    def __init__(
        self,
        attention,
        ffn=None,
        cross=None,
        norm=None,
        norm_at="post",
        dropout=0.0,
        remat=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.attention = dict(attention)
        self.ffn = ffn and dict(ffn)
        self.cross = cross and dict(cross)
        self.norm = dict(norm or {})
        self.norm_at = norm_at
        self.dropout = dropout
        self.remat, self.inside_remat = remat, False
        self.return_scores = self.attention.get("return_scores", False)

    def build(self, x_shape, memory_shape=None, condition_shape=None):
        def part(kind, name, arguments):
            return kind(name=name, dtype=self.dtype_policy, **arguments)

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
        # tf.train.Checkpoint does not look into dicts; in the order of names, in which Keras saves
        # a layer's attributes, these come after the two dicts, where its files have the parts
        for part_of_block in (*self.branches.values(), *self.norms.values()):
            setattr(self, f"part_{part_of_block.name}", part_of_block)
        self.dropout_layer = Dropout(self.dropout, dtype=self.dtype_policy)

    def call(
        self,
        x,
        bias=None,
        memory=None,
        memory_bias=None,
        condition=None,
        scores=None,
        angles=None,
        distances=None,
        caches=None,
        training=False,
    ):
        if self.remat and training and not self.inside_remat:
            context = {"bias": bias, "memory": memory, "memory_bias": memory_bias}
            context |= {"condition": condition, "scores": scores}
            context |= {"angles": angles, "distances": distances}
            return rematerialized(self, x, {k: v for k, v in context.items() if v is not None})
        caches = caches or {}

        def normalize(slot, x):
            return self.norms[slot](x, condition=condition) if slot in self.norms else x

        def residual(name, x, **context):
            context["cache"] = caches.get(name)
            y = self.branches[name](
                normalize(f"{name}_in", x), **{k: v for k, v in context.items() if v is not None}
            )
            y, more = y if isinstance(y, tuple) else (y, None)
            return normalize(f"{name}_out", x + self.dropout_layer(y)), more

        x, scores = residual(
            "attention", x, bias=bias, scores=scores, angles=angles, distances=distances
        )
        if self.cross:
            x, _ = residual("cross", x, memory=memory, bias=memory_bias)
        if self.ffn:
            x, _ = residual("ffn", x)
        return (x, scores) if self.return_scores else x

    def compute_output_spec(self, x, **context):
        batch, length, _ = x.shape
        y = keras.KerasTensor(x.shape, self.compute_dtype)
        if not self.return_scores:
            return y
        scores = (batch, self.attention["num_heads"], length, length)
        return y, keras.KerasTensor(scores, self.compute_dtype)

    def compute_mask(self, x, previous_mask=None):
        return (previous_mask, None) if self.return_scores else previous_mask
