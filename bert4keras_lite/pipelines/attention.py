"""Attention probabilities of a built model."""

from itertools import chain
from typing import Any

import keras
from keras import ops

from ..layers import TransformerBlock
from ..layers.attention import recording_probs

__all__ = ["attention_model"]


def attention_model(transformer: Any) -> keras.Model:
    """Returns a model that outputs a `Transformer`'s attention probabilities, sharing its layers.

    Args:
        transformer: a `Transformer`; for an encoder-decoder, its encoder is used.

    Returns:
        A `keras.Model` with the inputs of the transformer (or encoder) and the output
        `(batch, blocks, heads, queries, keys)`, float32. A gated attention unit has one head.

    Raises:
        ValueError: the attention does not compute such a matrix (Nyström attention).

    Example:
        >>> transformer = build_transformer_model(directory, return_keras_model=False)
        >>> attention_model(transformer).predict([token_ids, segment_ids])[0, -1, 0]
    """
    model = transformer.model if transformer.config.stacks != "both" else transformer.encoder
    model = keras.Model(model.inputs, model.outputs)
    return keras.Model(model.inputs, AttentionProbabilities(model)(model.inputs))


class AttentionProbabilities(keras.layers.Layer):
    """Runs a model and outputs its attention probabilities; see `attention_model`.

    Layers that it runs compute them instead of calling a kernel that keeps none.
    """

    def __init__(self, model, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.model = model
        # ALBERT calls one block several times
        nodes = chain.from_iterable(model._nodes_by_depth.values())
        calls = [x.operation for x in nodes if isinstance(x.operation, TransformerBlock)]
        self.blocks, blocks = len(calls), dict.fromkeys(calls)
        layers = [block.branches["attention"] for block in blocks]
        if not all(layer.has_probs for layer in layers) or not layers:
            raise ValueError(
                f"{model.name}: the model computes no attention matrix, such as with Nyström "
                "attention. Build it with attention='full'."
            )
        self.heads = getattr(layers[0], "num_heads", 1)

    def call(self, inputs):
        with recording_probs() as probs:
            self.model(inputs, training=False)
        # a gated attention unit has no axis of heads
        probs = [x if len(x.shape) == 4 else x[:, None] for x in probs]
        return ops.cast(ops.stack(probs, axis=1), "float32")

    def compute_output_spec(self, inputs):
        return keras.KerasTensor((None, self.blocks, self.heads, None, None), "float32")
