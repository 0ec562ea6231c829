"""Layers of a Transformer.

Shapes are written as `(batch, length, dim)`. Attention masks are passed as an additive `bias` on
the attention scores (see `AttentionBias`). Keras' implicit mask only marks padding, for the layers
that users put on top (taggers, pointers, poolings) and for losses. These layers take it as `mask`
when `visible` is not passed; no other layer has a call argument of that name.
"""

from .attention import (
    DisentangledAttention,
    GatedAttentionUnit,
    MultiHeadAttention,
    NystromAttention,
)
from .base import (
    ACTIVATIONS,
    Layer,
    gelu_erf,
    gelu_tanh,
)
from .blocks import FeedForward, TransformerBlock
from .convolution import Convolution
from .crf import ConditionalRandomField, CRFLoss, MaximumEntropyMarkovModel, ViterbiDecoder
from .dropout import Dropout
from .embeddings import PositionEmbedding, Positions, TokenEmbedding
from .normalization import LayerNormalization, ScaleOffset
from .outputs import Concatenate1D, Loss
from .pointers import EfficientGlobalPointer, GlobalPointer
from .pooling import GlobalAveragePooling1D, GlobalMaxPooling1D
from .positions import (
    AttentionBias,
    DistanceVectors,
    RelativeBias,
    RelativeVectors,
    RotaryAngles,
    SinusoidalPositions,
    WindowBias,
    rotate,
)
from .sentences import SentencePooling

__all__ = [
    "ACTIVATIONS",
    "AttentionBias",
    "CRFLoss",
    "Concatenate1D",
    "ConditionalRandomField",
    "Convolution",
    "DisentangledAttention",
    "DistanceVectors",
    "Dropout",
    "EfficientGlobalPointer",
    "FeedForward",
    "GatedAttentionUnit",
    "GlobalAveragePooling1D",
    "GlobalMaxPooling1D",
    "GlobalPointer",
    "Layer",
    "LayerNormalization",
    "Loss",
    "MaximumEntropyMarkovModel",
    "MultiHeadAttention",
    "NystromAttention",
    "PositionEmbedding",
    "Positions",
    "RelativeBias",
    "RelativeVectors",
    "RotaryAngles",
    "ScaleOffset",
    "SentencePooling",
    "SinusoidalPositions",
    "TokenEmbedding",
    "TransformerBlock",
    "ViterbiDecoder",
    "WindowBias",
    "gelu_erf",
    "gelu_tanh",
    "rotate",
]
