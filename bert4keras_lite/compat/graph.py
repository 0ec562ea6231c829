"""bert4keras' layers, by name and by place, in the graphs of this toolkit.

bert4keras makes a Keras layer of each operation, this toolkit one of a whole block. `OldLayer`
stands for a layer of bert4keras: it has its weights, and `output` is the same tensor, computed
again by `InnerOutput` if it lies inside a block.
"""

import weakref
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

from ..layers import TransformerBlock
from ..types import Tensor

__all__ = [
    "ORDERED",
    "InnerOutput",
    "OldLayer",
    "find_layer",
    "layers_before",
    "list_old_layers",
    "old_name",
    "owner_of",
    "register_owner",
]

# layer -> the `compat.models.Transformer` that made it
OWNERS: "weakref.WeakKeyDictionary[keras.layers.Layer, Any]" = weakref.WeakKeyDictionary()
# bert4keras' names of the branches of a block, and of the steps after a branch
BRANCHES = {
    "attention": "MultiHeadSelfAttention",
    "cross": "MultiHeadCrossAttention",
    "ffn": "FeedForward",
}
GATED_UNIT = "GatedAttentionUnit"
# parts of the layers, in the order in which bert4keras creates their weights
ATTENTION_WEIGHTS = [
    f"{part}/{kind}" for part in ("query", "key", "value", "output") for kind in ("kernel", "bias")
]
FFN_WEIGHTS = [
    f"{part}/{kind}" for part in ("input", "gate", "output") for kind in ("kernel", "bias")
]
NORM_WEIGHTS = ["beta", "gamma", "hidden_dense/kernel", "beta_dense/kernel", "gamma_dense/kernel"]
OTHER_WEIGHTS = ["kernel", "bias", "embeddings", *NORM_WEIGHTS]


class Place(NamedTuple):
    """What a layer of bert4keras is here.

    Attributes:
        name: in bert4keras.
        layer: name of the layer here that has its weights.
        output: name of the layer with its output; None: this graph has no such tensor.
        has_weights: whether the weights of `layer` are its weights.
        step: of a block (see `TransformerBlock.steps`); None: the layer is not a block.
        call: the only call of `output` that is meant; None: all of them are.
        transposed: whether its weights are the transposed ones of bert4keras.
    """

    name: str
    layer: str
    output: str | None
    has_weights: bool = True
    step: str | None = None
    call: int | None = None
    transposed: bool = False


# layers outside of blocks, in the order of bert4keras: its name, and what it is here
LAYERS = [
    Place("Embedding-Token", "token_embedding", "token_embedding"),
    Place("Embedding-Segment", "segment_embedding", None),
    Place("Embedding-Token-Segment", "segment_embedding", "segment_embedding", False),
    Place("Embedding-Token-Segment", "token_segment_embedding", "token_segment_embedding"),
    Place("Embedding-Position", "position_embedding", "position_embedding"),
    Place("Embedding-Norm", "embedding_norm", "embedding_norm"),
    Place("Embedding-Dropout", "embedding_dropout", "embedding_dropout"),
    Place("Embedding-Mapping", "embedding_projection", "embedding_projection"),
    Place("Embedding-Rotary-Position", "rotary", None),
    Place("Embedding-Relative-Position", "relative", None),
    Place("Encoder-Embedding-Dropout", "embedding_dropout", "embedding_dropout", False, call=0),
    Place("Decoder-Embedding-Dropout", "embedding_dropout", "embedding_dropout", False, call=1),
    Place("Encoder-Embedding-Relative-Position", "encoder_relative_bias", None),
    Place("Decoder-Embedding-Relative-Position", "decoder_relative_bias", None),
    Place("Attention-Mask", "attention_bias", None),
]
HEADS = [
    Place("Output-Norm", "final_norm", "final_norm"),
    Place("Encoder-Output-Norm", "encoder_final_norm", "encoder_final_norm"),
    Place("Decoder-Output-Norm", "decoder_final_norm", "decoder_final_norm"),
    Place("Encoder-Output-Dropout", "encoder_dropout", "encoder_dropout"),
    Place("Decoder-Output-Dropout", "decoder_dropout", "decoder_dropout"),
    Place("Decoder-Output-Scale", "decoder_final_norm", None, False),
    Place("Pooler", "pooler", None, False),
    Place("Pooler-Dense", "pooler", "pooler"),
    Place("NSP-Proba", "nsp", "nsp_activation"),
    Place("Discriminator-Dense", "discriminator_dense", "discriminator_dense"),
    Place("Discriminator-Prediction", "discriminator_prediction", "discriminator_activation"),
    Place("MLM-Dense", "lm_dense", "lm_dense"),
    Place("MLM-Norm", "lm_norm", "lm_norm"),
    Place("MLM-Bias", "lm_bias", "lm_bias"),
    Place("Decoder-Output-LM", "lm_head", "lm_activation", transposed=True),
    Place("MLM-Activation", "lm_activation", "lm_activation"),
]
# families that have other names: here -> there
OTHER_NAMES = {
    "gpt": {"MLM-Activation": "LM-Activation"},
    "gpt2": {"MLM-Activation": "LM-Activation"},
    "gpt2_ml": {"MLM-Activation": "LM-Activation"},
    "roformer_v2": {"MLM-Activation": "Output-MLM-Activation"},
    "t5": {"MLM-Activation": "Decoder-Output-LM-Activation"},
}
# families whose layers are known in the order of bert4keras
ORDERED = {"bert", "albert", "nezha", "roformer", "electra"}
MASKS = {"lm": "Attention-LM-Mask", "unilm": "Attention-UniLM-Mask"}


def list_old_layers(transformer: Any) -> list[Place]:
    """Returns the layers of bert4keras in the graph of a `Transformer`, in their order there."""
    c, known = transformer.config, transformer.layers
    names = OTHER_NAMES.get(c.family, {})
    counts = c.block_counts

    def among(rows):
        for place in rows:
            if transformer.prefix + place.layer not in known:
                continue
            if place.name.endswith("-Dropout") and not c.dropout_rate:
                continue
            if place.call is not None and c.stacks != "both":
                place = place._replace(call=0)
            if place.name.startswith(("Encoder-", "Decoder-")) and c.stacks == "one":
                continue
            if place.name == "Embedding-Dropout" and c.family == "roformer_v2":
                place = place._replace(output=None)  # it comes before the normalization there
            name = MASKS.get(c.attend) if place.name == "Attention-Mask" else place.name
            if name is not None:
                yield place._replace(name=names.get(name, name))

    old_layers = [*among(LAYERS)]
    stacks = {"": ("i", "Transformer-%d-")}
    if c.stacks != "one":
        stacks = {
            "encoder_": ("i", "Encoder-Transformer-%d-"),
            "decoder_": ("j", "Decoder-Transformer-%d-"),
        }
    for stack, (counter, old) in stacks.items():
        if transformer.prefix + (f"{stack}block_0", "block")[bool(c.share_blocks)] in known:
            for i in range(1 if c.share_blocks else counts[counter]):
                old_layers += block_places(transformer, stack, old, i)
    old_layers += among(HEADS)
    return [place._replace(name=transformer.prefix + place.name) for place in old_layers]


class InnerOutput(keras.layers.Layer):
    """Computes a tensor inside a block again, from the inputs of the block.

    Args:
        block: a `TransformerBlock`, whose weights it shares.
        step: see `TransformerBlock.steps`.

    Call arguments:
        those of the block.
    """

    def __init__(self, block: TransformerBlock, step: str, **kwargs: Any) -> None:
        super().__init__(dtype=block.dtype_policy, **kwargs)
        self.block, self.step = block, step
        self.supports_masking = True

    def build(self, *shapes: Any, **named: Any) -> None:
        self.built = True

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
    ) -> Tensor:
        contexts = {
            "attention": {"bias": bias, "scores": scores, "angles": angles, "distances": distances},
            "cross": {"memory": memory, "bias": memory_bias},
        }
        steps = self.block.steps(x, contexts, condition)
        return next(value for step, value in steps if step == self.step)

    def compute_mask(self, x: Tensor, previous_mask: Tensor | None = None) -> Tensor | None:
        return previous_mask

    def get_config(self) -> dict[str, Any]:
        raise ValueError(
            f"{self.name}: a model with an output from inside a block cannot be saved as a whole."
            " Use save_weights, and build it again."
        )


def register_owner(transformer: Any) -> None:
    """Notes which `Transformer` made its layers, and the names of their variables."""
    for layer in transformer.layers.values():
        OWNERS.setdefault(layer, transformer)
    for place in transformer.old_layers:
        for variable in OldLayer(transformer, place).weights:
            variable.bert4keras_name = f"{place.name}/{variable.path.rpartition('/')[2]}:0"


def old_name(variable: keras.Variable) -> str:
    """Returns the name of a variable in bert4keras; of a layer of the script, its path."""
    return getattr(variable, "bert4keras_name", f"{variable.path}:0")


def owner_of(layers: Iterable[Any]) -> Any:
    """Returns the `Transformer` that made the first of the layers that one made, or None."""
    return next((OWNERS[layer] for layer in layers if layer in OWNERS), None)


def layers_before(inputs: Any) -> list[Any]:
    """Returns the layers from a layer, or an output of one, back to the inputs; nearest first."""
    if isinstance(inputs, OldLayer):
        inputs = inputs.output
    if keras.utils.is_keras_tensor(inputs):
        start = inputs._keras_history.operation
    elif isinstance(inputs, keras.layers.Layer):
        start = inputs
    else:
        raise ValueError(
            f"search_layer: expected a layer or an output of one, got {type(inputs).__name__}. In"
            " a loss there are only numbers: search before compile, with the output of the model;"
            " for a gradient penalty use bert4keras_lite.training.gradient_penalty."
        )
    reached, waiting = [], [start]
    while waiting:
        operation = waiting.pop(0)
        if operation in reached:
            continue
        reached.append(operation)
        if isinstance(operation, keras.Model):
            waiting += operation.layers
        for node in operation._inbound_nodes[:1]:
            waiting += [parent.operation for parent in node.parent_nodes]
    return reached


def find_layer(layers: Iterable[Any], name: str) -> Any:
    """Returns the layer of this name, here or in bert4keras, among layers; None: there is none."""
    layers = list(layers)
    for layer in layers:
        if layer.name == name:
            return layer
    for owner in {id(OWNERS[x]): OWNERS[x] for x in layers if x in OWNERS}.values():
        for place in owner.old_layers:
            if place.name == name and owner.layers[owner.prefix + place.layer] in layers:
                return OldLayer(owner, place)
    return None


class OldLayer:
    """A layer of bert4keras by its name: its weights, and its outputs.

    Attributes:
        name: in bert4keras.
        layer: the Keras layer that it is, or is part of.
    """

    def __init__(self, transformer: Any, place: Place) -> None:
        self.transformer, self.place, self.name = transformer, place, place.name
        self.layer = transformer.layers[transformer.prefix + place.layer]

    def __getattr__(self, name):
        return getattr(self.part, name)

    def __repr__(self):
        return f"<{self.name}, of {self.layer.name}>"

    def __eq__(self, other):
        return isinstance(other, OldLayer) and (self.name, self.layer) == (other.name, other.layer)

    def __hash__(self):
        return hash((self.name, self.layer))

    @property
    def part(self) -> Any:
        """The Keras layer with the weights: one inside a block, if it is one."""
        step = self.place.step
        if step is None:
            return self.layer
        if step.endswith(("_add", "_dropout")):
            return self.layer.dropout_layer
        return self.layer.norms[step] if step in self.layer.norms else self.layer.branches[step]

    @property
    def output(self) -> Tensor:
        """The output of the first call."""
        return self.get_output_at(0)

    def get_output_at(self, index: int) -> Tensor:
        """Returns the output of a call of the layer, counted from 0; negative ones from the end.

        Raises:
            ValueError: there is no such call, or the tensor is not in the graph here.
        """
        if self.place.output is None:
            raise ValueError(
                f"{self.name}: its output is not in this graph, where {self.layer.name} computes it"
                " together with another tensor. Take the output of the layer after it."
            )
        nodes = self.nodes
        place = index + len(nodes) if index < 0 else index
        if not 0 <= place < len(nodes):
            raise ValueError(
                f"{self.name}: there is no output {index}; expected -{len(nodes)} to"
                f" {len(nodes) - 1}."
            )
        if self.place.step not in (None, last_step(self.layer)):
            return self.inner(place, nodes[place])
        return nodes[place].output_tensors[0]

    @property
    def nodes(self) -> list[Any]:
        """The calls of the layer in the graph of its `Transformer`."""
        if self.place.step is None:
            layers, call = self.transformer.layers, self.place.call
            nodes = layers[f"{self.transformer.prefix}{self.place.output}"]._inbound_nodes
            return nodes if call is None else nodes[call : call + 1]
        graph = {id(tensor) for tensor in self.transformer.block_outputs}
        nodes = self.layer._inbound_nodes
        return [node for node in nodes if id(node.output_tensors[0]) in graph]

    def inner(self, index: int, node: Any) -> Tensor:
        """Returns the output of a step inside a block; a second call gives the same tensor."""
        made = self.transformer.inner_outputs
        key = (self.layer, self.place.step, index)
        if key not in made:
            layer = InnerOutput(self.layer, str(self.place.step), name=f"{self.name}-{index}")
            arguments = {k: v for k, v in node.arguments.kwargs.items() if k in CONTEXT}
            made[key] = layer(*node.arguments.args, **arguments)
        return made[key]

    @property
    def weights(self) -> list[keras.Variable]:
        """The weights, in the order of bert4keras."""
        part, step = self.part, self.place.step
        if not self.place.has_weights:
            return []
        orders = {"attention": ATTENTION_WEIGHTS, "cross": ATTENTION_WEIGHTS, "ffn": FFN_WEIGHTS}
        order = orders.get(step or "", OTHER_WEIGHTS)
        paths = {w.path.removeprefix(f"{part.path}/"): w for w in part.weights}
        named = {max((o for o in order if p.endswith(o)), key=len): w for p, w in paths.items()}
        return [named[name] for name in order if name in named]

    @property
    def trainable_weights(self) -> list[keras.Variable]:
        """The weights that are trained, in the order of bert4keras."""
        return [w for w in self.weights if w.trainable]

    def get_weights(self) -> list[np.ndarray]:
        """Returns the values of the weights, in the order and the shapes of bert4keras."""
        values = [np.array(keras.ops.convert_to_numpy(w)) for w in self.weights]
        return [value.T for value in values] if self.place.transposed else values

    def set_weights(self, values: list[np.ndarray]) -> None:
        """Sets the values of the weights, in the order and the shapes of bert4keras.

        Raises:
            ValueError: there are more or fewer, or they have other shapes.
        """
        given = [np.shape(value) for value in values]
        if given != self.shapes:
            raise ValueError(
                f"{self.name}: expected weights of the shapes {self.shapes}, got {given}."
            )
        for weight, value in zip(self.weights, values, strict=True):
            weight.assign(np.transpose(value) if self.place.transposed else value)

    @property
    def shapes(self) -> list[tuple]:
        """The shapes of the weights in bert4keras."""
        step = -1 if self.place.transposed else 1
        return [tuple(weight.shape)[::step] for weight in self.weights]

    @property
    def trainable(self) -> bool:
        """Whether its weights are trained."""
        return self.part.trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if self.weights:
            self.part.trainable = value


CONTEXT = {"bias", "memory", "memory_bias", "condition", "scores", "angles", "distances"}


def last_step(layer: Any) -> str | None:
    """Returns the last step of a block that has an effect; None: the layer is not a block."""
    if not isinstance(layer, TransformerBlock):
        return None
    last = next(reversed(layer.branches))
    return f"{last}_out" if f"{last}_out" in layer.norms else f"{last}_add"


def block_places(transformer: Any, stack: str, old: str, i: int) -> Iterator[Place]:
    """Yields the layers of bert4keras in a block, in their order.

    Args:
        transformer: a `compat.models.Transformer`.
        stack: prefix of the name of the blocks here.
        old: prefix of their names there, with a `%d` for the number.
        i: number of the block.
    """
    c = transformer.config
    layer = "block" if c.share_blocks else f"{stack}block_{i}"
    block = transformer.layers[transformer.prefix + layer]
    prefix = old.replace("%d-", "") if c.share_blocks else old.replace("%d", str(i))
    for branch in block.branches:
        name = prefix + (GATED_UNIT if c.attention == "gau" else BRANCHES[branch])
        norms = ("-Norm-0", "-Norm-1") if c.norm_at == "gpt2_ml" else ("-Norm", "-Norm")
        steps = {
            f"{branch}_in": norms[0],
            branch: "",
            f"{branch}_dropout": "-Dropout",
            f"{branch}_add": "-Add",
            f"{branch}_out": norms[1],
        }
        for step, suffix in steps.items():
            has_weights = step == branch or step in block.norms
            is_there = c.dropout_rate if "_dropout" in step else "_add" in step
            if has_weights or is_there:
                yield Place(name + suffix, layer, layer, has_weights, step)
