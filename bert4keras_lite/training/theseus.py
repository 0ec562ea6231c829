"""BERT-of-Theseus: compresses a model by randomly replacing blocks during training."""

from dataclasses import fields
from typing import Any

import keras
from keras import ops

__all__ = ["ModuleReplacement", "theseus"]


@keras.saving.register_keras_serializable("bert4keras_lite")
class ModuleReplacement(keras.layers.Layer):
    """Randomly replaces a group of predecessor blocks by its successor block during training.

    One random choice holds for the whole batch. Inference uses the successor only.

    Args:
        predecessors: layers, applied in this order.
        successor: the layer that replaces them.
        rate: initial probability of the successor, kept in the variable `rate`.
        growth: added to `rate` after each training step, up to 1.

    Call arguments:
        x, ...: see `TransformerBlock`.

    Returns:
        See `TransformerBlock`.

    Reference:
        Xu et al., "BERT-of-Theseus", arXiv 2002.02925, section 3.
    """

    def __init__(self, predecessors, successor, rate=0.5, growth=0.0, **kwargs):
        super().__init__(**kwargs)
        self.predecessors = list(predecessors)
        self.successor = successor
        self.growth = growth
        self.initial_rate = rate
        self.rate = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(rate), trainable=False, name="rate"
        )
        self.seed = keras.random.SeedGenerator()
        self.supports_masking = True

    def call(self, x, scores=None, training=False, **context):
        new = self.successor(x, scores=scores, **context)
        if not training:
            return new
        old, attention_scores = x, ()
        for block in self.predecessors:
            old = block(old, scores=scores, **context)
            if isinstance(old, tuple):
                old, *attention_scores = old
                scores = attention_scores[0]
        old = (old, *attention_scores) if attention_scores else old
        replaced = keras.random.uniform((), seed=self.seed) < self.rate
        self.rate.assign(ops.minimum(self.rate + self.growth, 1.0))
        return keras.tree.map_structure(lambda new, old: ops.where(replaced, new, old), new, old)

    def compute_output_spec(self, x, training=False, **context):
        return self.successor.compute_output_spec(x, **context)

    def compute_mask(self, x, previous_mask=None):
        return self.successor.compute_mask(x, previous_mask)

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return super().get_config() | {
            "predecessors": [serialize(block) for block in self.predecessors],
            "successor": serialize(self.successor),
            "rate": self.initial_rate,
            "growth": self.growth,
        }

    @classmethod
    def from_config(cls, config):
        restore = keras.saving.deserialize_keras_object
        predecessors = [restore(block) for block in config["predecessors"]]
        return cls(
            **config | {"predecessors": predecessors, "successor": restore(config["successor"])}
        )


def theseus(
    predecessor: Any, successor: Any, rate: float = 0.5, growth: float = 0.0
) -> keras.Model:
    """Returns a model in which blocks of a small model randomly replace those of a large one.

    The large model, already trained for the task, is frozen, embeddings included; the small one
    starts with its embedding values. The blocks of the large model are grouped, and each group has
    a successor. After training with the frozen head on top, `successor.model` is the result; train
    it some more by itself.

    Args:
        predecessor, successor: `Transformer`s (`return_keras_model=False`) that differ only in
            `num_hidden_layers`, where the first is a multiple of the second.
        rate, growth: see `ModuleReplacement`.

    Returns:
        A `keras.Model` from the inputs of `predecessor` to the last hidden state, or to the heads
        of the config.

    Raises:
        ValueError: the two models do not match.

    Example:
        >>> large = build_transformer_model(directory, return_keras_model=False)
        >>> config = dataclasses.replace(large.config, num_hidden_layers=3)
        >>> small = build_transformer_model(model=config, return_keras_model=False)
        >>> classify = keras.layers.Dense(119, activation="softmax")
        >>> model = keras.Model(large.model.inputs, classify(large.model.output[:, 0]))
        >>> ...  # compile and fit the large model
        >>> classify.trainable = False
        >>> mixed = theseus(large, small)
        >>> model = keras.Model(mixed.inputs, classify(mixed.output[:, 0]))
        >>> ...  # compile and fit: the blocks of the small model learn
        >>> classify.trainable = True
        >>> model = keras.Model(small.model.inputs, classify(small.model.output[:, 0]))
        >>> ...  # compile and fit, now without the large one

    Reference:
        Xu et al., "BERT-of-Theseus", arXiv 2002.02925, section 3.
    """
    large, small = predecessor.config, successor.config
    differing = [
        f.name
        for f in fields(large)
        if f.name != "num_hidden_layers" and getattr(large, f.name) != getattr(small, f.name)
    ]
    if differing:
        raise ValueError(
            f"theseus: the two models differ in {', '.join(differing)}; expected the same config, "
            "except for num_hidden_layers."
        )
    if large.stacks != "one" or large.share_blocks:
        raise ValueError("theseus: expected one stack of blocks that do not share their weights.")
    group, rest = divmod(large.num_hidden_layers, small.num_hidden_layers)
    if rest:
        raise ValueError(
            f"theseus: {large.num_hidden_layers} blocks cannot be split evenly into "
            f"{small.num_hidden_layers}; expected a divisor as num_hidden_layers of successor."
        )

    layers = {k.removeprefix(predecessor.prefix): v for k, v in predecessor.layers.items()}
    successors = {k.removeprefix(successor.prefix): v for k, v in successor.layers.items()}
    for layer in layers.values():
        layer.trainable = False
    for name in successors.keys() & layers.keys():
        if not name.startswith("block_"):
            successors[name].set_weights(layers[name].get_weights())
    blocks = [layers.pop(f"block_{i}") for i in range(large.num_hidden_layers)]
    for i in range(small.num_hidden_layers):
        layers[f"block_{i}"] = ModuleReplacement(
            blocks[i * group : (i + 1) * group],
            successors[f"block_{i}"],
            rate,
            growth,
            name=f"block_{i}",
            dtype=successors[f"block_{i}"].dtype_policy,
        )
    mixed = type(successor)(
        small,
        layer_norm_cond=predecessor.condition,
        additional_input_layers=predecessor.more_inputs,
        layers=layers,
    )
    return mixed.model
