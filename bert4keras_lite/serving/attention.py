"""How much each token attends to each other one, of a model as it is."""

import contextlib
from itertools import chain

import keras
from keras import ops

from ..layers import NystromAttention, TransformerBlock


def attention_model(transformer):
    """A model of a `Transformer`'s attention, which shares its layers.

    Args:
        transformer: of an encoder-decoder, the encoder is meant.

    Returns:
        A `keras.Model` that takes the inputs of the transformer (or encoder) and gives the
        probabilities `(batch, blocks, heads, queries, keys)`, float32. A gated attention unit has
        one head.

    Raises:
        ValueError: the attention is one that computes no such matrix.

    Example:
        >>> transformer = build_transformer_model(directory, return_keras_model=False)
        >>> attention_model(transformer).predict([token_ids, segment_ids])[0, -1, 0]
    """
    model = transformer.model if transformer.config.stacks != "both" else transformer.encoder
    model = keras.Model(model.inputs, model.outputs)
    return keras.Model(model.inputs, AttentionProbabilities(model)(model.inputs))


class AttentionProbabilities(keras.layers.Layer):
    """Runs a model and gives, instead of its outputs, what `attention_model` describes.

    Whatever a layer's kind of attention, its probabilities pass through its dropout, which does
    nothing outside of training: there they are seen.
    """

    def __init__(self, model, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.model = model
        # ALBERT calls one block again and again
        nodes = chain.from_iterable(model._nodes_by_depth.values())
        calls = [x.operation for x in nodes if isinstance(x.operation, TransformerBlock)]
        self.blocks, blocks = len(calls), dict.fromkeys(calls)
        layers = [block.branches["attention"] for block in blocks]
        if not layers or any(isinstance(layer, NystromAttention) for layer in layers):
            raise ValueError(
                f"{model.name}: there is no matrix of attention to look at, as in blocks that "
                "attend by landmarks; build it with attention='full'."
            )
        self.dropouts = [layer.dropout_layer for layer in layers]
        self.heads = getattr(layers[0], "num_heads", 1)

    def call(self, inputs):
        with seeing(self.dropouts) as seen:
            self.model(inputs, training=False)
        # a gated attention unit has no axis of heads
        seen = [x if len(x.shape) == 4 else x[:, None] for x in seen]
        return ops.cast(ops.stack(seen, axis=1), "float32")

    def compute_output_spec(self, inputs):
        return keras.KerasTensor((None, self.blocks, self.heads, None, None), "float32")


@contextlib.contextmanager
def seeing(layers):
    """A list to which, in here, each call of these layers appends its input."""
    seen = []

    def see(x, training=False):
        seen.append(x)
        return x

    for layer in layers:
        layer.call = see
    try:
        yield seen
    finally:
        for layer in layers:
            del layer.call
