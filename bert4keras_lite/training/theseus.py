"""Blocks replaced, at random and then for good, by fewer ones."""

from dataclasses import fields

import keras
from keras import ops


@keras.saving.register_keras_serializable("bert4keras_lite")
class ModuleReplacement(keras.layers.Layer):
    """Some blocks, or the one that learns to do their work: in training chance decides.

    One draw holds for the whole batch. In inference the successor alone is at work.

    Args:
        predecessors: layers, one after the other.
        successor: the layer to replace them.
        rate: how often the successor is taken; the variable `rate` begins there.
        growth: is added to `rate` after each training step, until it is 1.

    Call arguments:
        x, ...: those of `TransformerBlock`.

    Returns:
        What a block returns.

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
        old, more = x, ()
        for block in self.predecessors:
            old = block(old, scores=scores, **context)
            if isinstance(old, tuple):
                old, *more = old
                scores = more[0]
        old = (old, *more) if more else old
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


def theseus(predecessor, successor, rate=0.5, growth=0.0):
    """A model in which blocks of a small model take, at random, the place of those of a large one.

    The large one, already trained for the task, is frozen, its embeddings included, whose values
    the small one adopts; its blocks are grouped, and each group has a successor. Trained with the
    frozen head on top, `successor.model` is what remains; train it some more by itself.

    Args:
        predecessor, successor: `Transformer`s (`return_keras_model=False`) that differ in
            `num_hidden_layers` alone, of which the first is a multiple of the second.
        rate, growth: see `ModuleReplacement`.

    Returns:
        A `keras.Model` from the inputs of `predecessor` to the last hidden state, or what heads
        the config has.

    Raises:
        ValueError: the two do not fit.

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
            f"theseus: the two models differ in {', '.join(differing)}; expected one config, "
            "num_hidden_layers aside."
        )
    if large.stacks != "one" or large.share_blocks:
        raise ValueError("theseus: expected one stack of blocks that do not share their weights.")
    group, rest = divmod(large.num_hidden_layers, small.num_hidden_layers)
    if rest:
        raise ValueError(
            f"theseus: {large.num_hidden_layers} blocks cannot be dealt out among "
            f"{small.num_hidden_layers}."
        )

    layers = {k.removeprefix(predecessor.prefix): v for k, v in predecessor.layers.items()}
    heirs = {k.removeprefix(successor.prefix): v for k, v in successor.layers.items()}
    for layer in layers.values():
        layer.trainable = False
    for name in heirs.keys() & layers.keys():
        if not name.startswith("block_"):
            heirs[name].set_weights(layers[name].get_weights())
    blocks = [layers.pop(f"block_{i}") for i in range(large.num_hidden_layers)]
    for i in range(small.num_hidden_layers):
        layers[f"block_{i}"] = ModuleReplacement(
            blocks[i * group : (i + 1) * group],
            heirs[f"block_{i}"],
            rate,
            growth,
            name=f"block_{i}",
            dtype=heirs[f"block_{i}"].dtype_policy,
        )
    mixed = type(successor)(
        small,
        layer_norm_cond=predecessor.condition,
        additional_input_layers=predecessor.more_inputs,
        layers=layers,
    )
    return mixed.model
