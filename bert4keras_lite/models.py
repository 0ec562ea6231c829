"""Transformer models as Keras graphs, built from a config and a checkpoint.

A family is a row of differences from BERT, and so is an application (`configs/architectures.py`).
`Transformer` builds the graph that these two rows and the published config describe. The result is
an ordinary functional `keras.Model`.
"""

import inspect
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import keras
import numpy as np
from keras import ops

from . import mappings, weights_io
from .arguments import check_flags, check_options, checks_flags, expected_number
from .checkpoints.matching import MatchOptions, check_rows
from .configs import APPLICATIONS, ARCHITECTURES, Config
from .configs.classifiers import classifier_fields
from .configs.config import EACH, SOURCE_KEYS, key_of, to_field_names
from .configs.published import (
    check_adapter,
    check_unknown_keys,
    check_vocabulary,
    find_files,
    gate_of,
    moved_ids,
    moved_padding,
    warn,
)
from .configs.recognition import (
    check_family,
    check_not_roberta,
    check_stacks,
    infer_from_weights,
    known_issues,
    recognize,
    resolve_ambiguities,
    unmatched_names,
)
from .configs.weights import HEADS
from .hub import local_directory
from .layers import (
    AttentionBias,
    Convolution,
    DistanceVectors,
    Dropout,
    LayerNormalization,
    PositionEmbedding,
    Positions,
    RelativeBias,
    RelativeVectors,
    RotaryAngles,
    ScaleOffset,
    SinusoidalPositions,
    TokenEmbedding,
    TransformerBlock,
    WindowBias,
)
from .layers.base import (
    ACTIVATIONS,
    WeightInitializer,
    activation_name,
    deferred_initialization,
    get_activation,
    parts_of,
)
from .layers.blocks import ATTENTIONS
from .layers.cache import Cache
from .layers.normalization import NORMS
from .layers.outputs import FirstInput
from .layers.pooling import TokenPooling
from .parsing import shown
from .types import PathLike, Shape, Tensor

if TYPE_CHECKING:
    from .tokenizers import TokenizerBase

__all__ = ["Config", "EncoderDecoder", "Transformer", "build_transformer_model", "class_for"]

# dtype policies of Keras: of weights and computations, or of weights in float32
DTYPES = ("float32", "bfloat16", "float16", "float64", "mixed_bfloat16", "mixed_float16")
# a `Transformer`, and the condition that it has now: see `Transformer.conditioned`
CONDITIONED: ContextVar[tuple[Any, Any]] = ContextVar("CONDITIONED", default=(None, None))
# name in version 0.1 -> name now
RENAMED = {
    "draw": "build_graph",
    "heads": "output_heads",
    "input": "new_input",
    "token_scores": "token_logits",
}


class LayersByName:
    """The layers of a `Transformer`, by name: each is shared, or made when it is first asked for.

    Attributes:
        config: a `Config`.
        layers: name -> layer.
        layer_arguments: name -> arguments of a layer, also for shared layers.
        common, norm_arguments: arguments of many layers, and of normalizations.
        remat: whether blocks keep only their inputs in training.
        prefix: prefix of the name of every layer.
        condition: of the normalizations, for the graph; see `current_condition`.
        dtype: dtype policy of new layers; None: Keras' global one.
    """

    config: Config
    layers: dict[str, keras.Layer]
    layer_arguments: dict[str, dict]
    common: dict[str, Any]
    norm_arguments: dict[str, Any]
    remat: bool
    prefix: str
    condition: Tensor | None
    dtype: str | None

    def layer(self, cls: type, name: str, **arguments: Any) -> Any:
        """Returns the layer of that name: a shared one, or a new `cls(**arguments)`."""
        name = self.prefix + name
        layer = self.layers.get(name)
        if layer is not None and name not in self.layer_arguments and not layer.weights:
            # a shared layer without weights is its arguments: those of this model count
            has = layer.get_config()
            layer = None if any(has.get(k, v) != v for k, v in arguments.items()) else layer
        if layer is None:
            policy = {} if self.dtype is None else {"dtype": self.dtype}
            layer = self.layers[name] = cls(name=name, **policy | arguments)
        self.layer_arguments.setdefault(name, arguments)
        return layer

    def dense(
        self, name: str, units: int, activation: Any = None, use_bias: bool | None = None
    ) -> keras.layers.Dense:
        """Returns a dense layer, with a bias if `use_bias` (default: that of the config)."""
        return self.layer(
            keras.layers.Dense,
            name,
            units=units,
            activation=get_activation(activation),
            use_bias=self.config.use_bias if use_bias is None else use_bias,
            kernel_initializer=self.initializer,
        )

    def normalize(self, name: str, x: Tensor, stack: str = "") -> Tensor:
        """Applies a normalization layer, with the condition if there is one."""
        arguments = self.norm_arguments | {"epsilon": self.config.of_stack(stack).norm_epsilon}
        layer = self.layer(LayerNormalization, name, **arguments)
        return layer(x, condition=self.current_condition)

    @contextmanager
    def conditioned(self, condition: Tensor | None) -> Iterator[None]:
        """Context that sets the condition of the normalizations, in this thread.

        Args:
            condition: tensor `(batch, size)`, or None.
        """
        token = CONDITIONED.set((self, condition))
        try:
            yield
        finally:
            CONDITIONED.reset(token)

    @property
    def current_condition(self) -> Tensor | None:
        """Condition of the normalizations: that of `conditioned`, or outside of it the graph's."""
        transformer, condition = CONDITIONED.get()
        return condition if transformer is self else self.condition

    @property
    def initializer(self) -> WeightInitializer:
        """Initializer of kernels and tables."""
        return WeightInitializer(stddev=self.config.initializer_range)

    def token_table(self, name: str) -> TokenEmbedding:
        """Returns a table with one vector per token, for embeddings or, in reverse, for logits."""
        c = self.config
        return self.layer(
            TokenEmbedding,
            name,
            input_dim=c.vocab_size,
            output_dim=c.token_size,
            pad_token_id=c.pad_token_id,
            keep_first=not c.first_position,
            scale=c.hidden_size**0.5 if c.scale_embeddings else 1.0,
            embeddings_initializer=self.initializer,
        )

    def added_table(self, name: str, size: int, **arguments: Any) -> PositionEmbedding:
        """Returns a layer that looks up vectors in a table of `size` rows and adds them."""
        return self.layer(
            PositionEmbedding,
            name,
            input_dim=size,
            output_dim=self.config.token_size,
            **self.common,
            **arguments,
        )

    def add_positions(self, x: Tensor, positions: Tensor | None, stack: str) -> Tensor:
        """Adds the vectors of learned or sinusoidal positions, if the config has them."""
        c = self.config.of_stack(stack)
        if c.position == "learned":
            if positions is not None and c.position_offset:
                positions = positions + c.position_offset
            return self.added_table(
                f"{stack}position_embedding",
                c.max_position + c.position_offset,
                hierarchical=c.hierarchical_position,
            )(x, positions)
        if c.position == "sinusoidal":
            sizes = {"input_dim": c.max_position, "output_dim": c.token_size}
            return self.layer(SinusoidalPositions, "sinusoidal_positions", **sizes)(x, positions)
        return x

    def rotary_angles(self, positions: Tensor, name: str = "rotary") -> Tensor:
        """Computes the angles of rotary position encoding, of full or (by name) sliding layers."""
        c = self.config
        base, scaling = c.rotary_base, c.rotary_scaling
        if name == "sliding_rotary" and c.sliding_rotary_base:
            base, scaling = c.sliding_rotary_base, None
        layer = self.layer(RotaryAngles, name, size=c.rotary_size, base=base, scaling=scaling)
        return layer(positions)

    def block(self, name: str, with_memory: bool = False, first: bool = False) -> TransformerBlock:
        """Returns a Transformer block.

        Args:
            name: of the layer.
            with_memory: whether it has cross-attention.
            first: whether it is block 0.
        """
        c = self.config.of_stack("decoder_" if with_memory else "")
        linear = {"use_bias": c.use_bias, **self.common}
        attention_cls = ATTENTIONS[c.attention]
        attention = {"dropout": c.attention_dropout_rate, **linear, **attention_cls.arguments_of(c)}
        ffn = {"units": c.intermediate_size, "activation": c.hidden_act, "gated": c.gated, **linear}
        ffn["without_bias"] = parts_of("ffn", c.without_bias)
        return self.layer(
            TransformerBlock,
            name,
            attention={"kind": c.attention, **attention},
            ffn=None if attention_cls.replaces_ffn else ffn,
            cross=attention if with_memory else None,
            norm=self.norm_arguments | {"epsilon": c.norm_epsilon},
            norm_at="pre_ffn" if first and not c.first_norm else c.norm_at,
            dropout=c.dropout_rate,
            remat=self.remat,
        )

    def probabilities(
        self, name: str, activation: Any, logits: Tensor, usual: str = "softmax"
    ) -> Tensor:
        """Applies the activation of a head, in float32 also under mixed precision.

        Args:
            name: of the head.
            activation: name or function; True: `usual`.
            logits: a tensor.
            usual: the default activation of the head.
        """
        activation = get_activation(usual if activation is True else activation)
        name = f"{name}_activation"
        return self.layer(keras.layers.Activation, name, activation=activation, dtype="float32")(
            logits
        )


class Transformer(LayersByName):
    """Graph of a Transformer model in Keras layers, with loading and saving of its weights.

    To change a part of the graph, subclass it and pass the class as `model=`: `embed`, `encode` and
    `output_heads` take tensors and return tensors.

    Args:
        config: a `Config`.
        layer_norm_cond: tensor `(batch, size)` that shifts scale and offset of every
            normalization (see `ScaleOffset`), usually one of `additional_input_layers`.
        layer_norm_cond_hidden_size, layer_norm_cond_hidden_act: units and activation of a dense
            layer on the condition; default: no such layer.
        additional_input_layers: a Keras input tensor, or a list of them, to add to the model's
            inputs.
        layers: name -> layer, of another `Transformer`: layers with these names are shared instead
            of created.
        prefix: prefix of the name of every layer, so that two models fit into one graph.
        remat: whether to keep only the inputs of each block in training, and to recompute the rest
            in the backward pass: far less memory, about a third more time.
        dtype: of weights and computations, `"float32"`, `"bfloat16"`, `"float16"` or `"float64"`;
            or `"mixed_bfloat16"` or `"mixed_float16"`, with weights in float32. Softmax,
            normalizations and the activations of heads are in float32 at least. Default None:
            Keras' `keras.config.dtype_policy()`.
        name: of the model.

    Attributes:
        family: of the class, the family that it is for, a key of `ARCHITECTURES`; default None:
            that of the checkpoint.
        model: the `keras.Model`.
        inputs, outputs: its tensors, as lists.
        hidden_states: one tensor `(batch, length, hidden_size)` per block.
        layers: name -> layer.
    """

    family: ClassVar[str | None] = None

    def __init_subclass__(cls, **kwargs):
        """Lets a subclass, or a mixin of it, use the names of version 0.1 as well."""
        super().__init_subclass__(**kwargs)
        for old, new in RENAMED.items():
            owner = next(base for base in cls.__mro__ if {old, new} & vars(base).keys())
            if new not in vars(owner):
                warnings.warn(
                    f"{owner.__name__}.{old} is called {new} now. Rename the method.",
                    DeprecationWarning,
                    stacklevel=2,
                )
                setattr(cls, new, vars(owner)[old])
            elif old not in vars(owner):
                for name in (old, new):  # both in one class: a subclass looks for the first
                    setattr(cls, name, vars(owner)[new])

    @checks_flags
    def __init__(
        self,
        config: Config,
        layer_norm_cond: Tensor | None = None,
        layer_norm_cond_hidden_size: int | None = None,
        layer_norm_cond_hidden_act: str | Callable | None = None,
        additional_input_layers: Tensor | list[Tensor] | None = None,
        layers: dict[str, keras.Layer] | None = None,
        prefix: str | None = None,
        remat: bool = False,
        dtype: str | None = None,
        name: str | None = None,
    ) -> None:
        self.config = config
        self.remat = remat
        self.dtype = dtype
        if dtype is not None and dtype not in DTYPES:
            raise ValueError(
                f"dtype: {shown(dtype)}; expected one of {', '.join(DTYPES)}, or None."
            )
        more_inputs = [] if additional_input_layers is None else additional_input_layers
        self.more_inputs = keras.tree.flatten(more_inputs)
        _check_types(
            layer_norm_cond=(
                layer_norm_cond,
                _is_tensor,
                "a keras.Input, or a tensor made from one",
            ),
            layer_norm_cond_hidden_size=(layer_norm_cond_hidden_size, _is_size, "an integer"),
            layer_norm_cond_hidden_act=(layer_norm_cond_hidden_act, _is_activation, "a name"),
            additional_input_layers=(more_inputs, _are_tensors, "a keras.Input, or a list of them"),
            layers=(layers, _are_layers, "a dict name -> layer"),
            prefix=(prefix, _is_text, "a string"),
            name=(name, _is_text, "a string"),
        )
        self.condition = layer_norm_cond
        self.common = {"initializer_range": config.initializer_range}
        self.norm_arguments = NORMS[config.norm] | {
            "epsilon": config.norm_epsilon,
            "hidden_units": layer_norm_cond_hidden_size,
            "hidden_activation": activation_name(layer_norm_cond_hidden_act or "linear"),
            **self.common,
        }
        self.layers = dict(layers or {})
        # name -> arguments of a layer, also for shared layers
        self.layer_arguments: dict[str, dict] = {}
        self.prefix = prefix or ""
        self.hidden_states: list[Tensor] = []

        self.ids = self.make_inputs()
        self.inputs = [*self.ids.values(), *self.more_inputs]
        self.outputs = self.build_graph(**self.ids)
        self.model = self.keras_model(self.inputs, self.outputs, name)
        self.model.transformer = self
        table = self.layers.get(f"{self.prefix}token_embedding")
        if isinstance(table, TokenEmbedding) and table.transformer is None:
            table.transformer = json.dumps(self.description(), default=plain_value)

    def description(self) -> dict[str, Any]:
        """Returns what `loading.transformer_of` needs to rebuild this `Transformer`, as a dict."""
        values = {f.name: getattr(self.config, f.name) for f in fields(Config)}
        description: dict[str, Any] = {
            "class": type(self).__name__,
            "config": {name: value for name, value in values.items() if value is not None},
            "prefix": self.prefix,
            "layers": list(self.layers),
            "inputs": [tensor.name for tensor in self.more_inputs],
        }
        if self.condition is not None:
            operation, _, index = self.condition._keras_history
            description["condition"] = [operation.name, index]
        return description

    def keras_model(
        self, inputs: Any, outputs: list[Tensor], name: str | None = None
    ) -> keras.Model:
        """Makes the `keras.Model` from inputs to outputs; a single output is not in a list."""
        return keras.Model(inputs, outputs[0] if len(outputs) == 1 else outputs, name=name)

    def make_inputs(self) -> dict[str, Tensor]:
        """Makes the Keras inputs, each `(batch, length)`, as a dict by name."""
        c = self.config
        names = ["token_ids"]
        if c.has_segments:
            names.append("segment_ids")
        if c.custom_position_ids:
            names.append("position_ids")
        return {name: self.new_input(name) for name in names}

    def new_input(self, name: str, *dims: int, dtype: str = "int32") -> Tensor:
        """Makes or shares a Keras input `(batch, length, *dims)`."""
        name = self.prefix + name
        if name in self.layers:  # when a loaded model is rebuilt
            return self.layers[name].output
        return keras.Input((self.config.sequence_length, *dims), dtype=dtype, name=name)

    input = new_input  # its name in version 0.1

    def build_graph(
        self,
        token_ids: Tensor,
        segment_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> list[Tensor]:
        """Builds the graph from inputs to outputs.

        Args:
            token_ids, segment_ids, position_ids: Keras inputs `(batch, length)`; the last two may
                be None.

        Returns:
            A list of tensors, see `output_heads`; without heads, `(batch, length, hidden_size)`.
        """
        positions = self.positions(token_ids) if position_ids is None else position_ids
        x = self.embed(token_ids, positions, segment_ids)
        context = {"bias": self.attention_bias(token_ids, segment_ids)}
        context |= self.position_context(positions)
        # a window counts tokens of the row, whatever the positions are
        counts = position_ids is None or "sliding" not in self.config.layer_kinds
        indexes = positions if counts else self.positions(token_ids)
        x = self.encode(x, self.with_kinds(context, positions, indexes))
        return self.output_heads(x) or [x]

    draw = build_graph  # its name in version 0.1

    def positions(self, token_ids: Tensor) -> Tensor:
        """Counts the positions; see `Positions`."""
        c = self.config
        limit = None if c.hierarchical_position else c.most_tokens
        counted = {"first": c.first_position, "pad_token_id": c.pad_token_id}
        counted = counted if c.first_position else {}
        return self.layer(Positions, "counted_positions", limit=limit, **counted)(token_ids)

    def embed(
        self,
        token_ids: Tensor,
        positions: Tensor | None = None,
        segment_ids: Tensor | None = None,
        stack: str = "",
    ) -> Tensor:
        """Embeds ids: the sum of token, segment and position embeddings, normalized.

        Args:
            token_ids, segment_ids: `(batch, length)`.
            positions: `(batch or 1, length)`.
            stack: prefix of the names of the layers that each stack has for itself.

        Returns:
            `(batch, length, hidden_size)`.
        """
        c = self.config.of_stack(stack)
        x = self.token_embedding(token_ids)
        if segment_ids is not None and c.shared_segment_embeddings:
            add = self.layer(keras.layers.Add, "token_segment_embedding")
            x = add([x, self.token_embedding(segment_ids)])
        elif segment_ids is not None:
            x = self.added_table("segment_embedding", c.segment_vocab_size)(x, segment_ids)
        for name, (rows, row) in c.constant_tables.items():
            x = self.added_table(name, rows, row=row)(x)
        x = self.add_positions(x, positions, stack)
        if c.embedding_norm:
            x = self.normalize(f"{stack}embedding_norm", x, stack)
        x = self.layer(Dropout, "embedding_dropout", rate=c.dropout_rate)(x)
        if c.token_size != c.hidden_size or c.embedding_projection:
            x = self.dense("embedding_projection", c.hidden_size)(x)
        return x

    @property
    def token_embedding(self) -> TokenEmbedding:
        """The table of the token embeddings."""
        return self.token_table("token_embedding")

    def attention_bias(
        self,
        token_ids: Tensor,
        segment_ids: Tensor | None = None,
        attend: str | None = None,
        stack: str = "",
    ) -> Tensor:
        """Computes the attention mask, as a bias on the attention scores, once for all blocks."""
        layer = self.attention_bias_layer(attend, stack)
        needs_segments = layer.attend == "unilm" or layer.segments_are_tokens
        return layer(token_ids, segment_ids if needs_segments else None)

    def attention_bias_layer(self, attend: str | None = None, stack: str = "") -> AttentionBias:
        """Returns the layer that computes the attention mask; `attend` replaces the config's."""
        c = self.config
        return self.layer(
            AttentionBias,
            f"{stack}attention_bias",
            attend=attend or c.attend,
            pad_token_id=c.pad_token_id,
            segments_are_tokens=c.shared_segment_embeddings,
            keep_first=not c.first_position,
        )

    def position_context(
        self,
        positions: Tensor,
        cache_positions: Tensor | None = None,
        key_cache_positions: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Computes the position arguments of attention, once for all blocks.

        Args:
            positions: of the queries, `(batch or 1, queries)`.
            cache_positions, key_cache_positions: positions of queries and keys in the cache, `(1,
                queries)` and `(1, keys)`, for relative distances; default: `positions`.

        Returns:
            A dict with `angles`, or `distances`, or nothing.
        """
        c = self.config
        cache_positions = positions if cache_positions is None else cache_positions
        keys = cache_positions if key_cache_positions is None else key_cache_positions
        if ATTENTIONS[c.attention].needs_vectors:
            table = self.layer(
                DistanceVectors,
                "relative_vectors",
                size=c.hidden_size,
                num_buckets=c.relative_buckets,
                max_distance=c.relative_max_distance,
                **self.common,
            )
            vectors, rows = table(cache_positions, keys)
            # without the condition, whose first axis is the batch
            norm = self.layer(LayerNormalization, "relative_norm", **self.norm_arguments)
            return {"distances": (norm(vectors), rows)}
        if c.position == "rotary":
            return {"angles": self.rotary_angles(positions)}
        if c.position == "relative":
            distances = self.layer(
                RelativeVectors,
                "relative",
                size=c.head_size,
                max_distance=c.relative_max_distance,
            )
            return {"distances": distances(cache_positions, keys)}
        return {}

    def with_kinds(
        self,
        context: dict[str, Any],
        positions: Tensor,
        indexes: Tensor,
        key_indexes: Tensor | None = None,
    ) -> dict[str, Any]:
        """Adds to a context, under the name of a kind of layers, what is different in these layers.

        Args:
            context: of full layers, with `bias`.
            positions: of the queries, `(batch or 1, queries)`.
            indexes, key_indexes: of queries and keys in the row or in the cache, `(1,
                queries)` and `(1, keys)`; default: `indexes`.
        """
        c = self.config
        if "sliding" not in c.layer_kinds:
            return context
        narrow = self.layer(WindowBias, "sliding_bias", window=c.window)
        keys = indexes if key_indexes is None else key_indexes
        sliding = {"bias": narrow(context["bias"], indexes, keys)}
        if c.position == "rotary":
            sliding["angles"] = self.rotary_angles(positions, "sliding_rotary")
        return context | {"sliding": sliding}

    def encode(
        self,
        x: Tensor,
        context: dict[str, Tensor],
        stack: str = "",
        memory: Tensor | None = None,
        memory_bias: Tensor | None = None,
        caches: Sequence[dict[str, Cache]] | None = None,
        blocks: range | None = None,
    ) -> Tensor:
        """Applies the blocks of a stack.

        Args:
            x: `(batch, length, hidden_size)`.
            context: arguments of the attention of every block: `bias`, `angles`, `distances`; and
                those of `with_kinds`.
            stack: prefix of the names of the layers.
            memory, memory_bias: outputs and attention bias of the encoder, for a decoder.
            caches: for each block, a `Cache` for each attention branch.
            blocks: numbers of the blocks; default: all.

        Returns:
            `(batch, length, hidden_size)`.
        """
        c = self.config
        context = context | {"condition": self.current_condition}
        if stack == "decoder_":
            context |= {"memory": memory, "memory_bias": memory_bias}
        counter = "j" if stack == "decoder_" else "i"
        attention_scores, embeddings = None, x
        for i in range(c.block_counts[counter]) if blocks is None else blocks:
            x, attention_scores = self.encode_block(
                i, x, context, stack, attention_scores, embeddings, caches[i] if caches else None
            )
        return self.normalize(f"{stack}final_norm", x, stack) if c.final_norm else x

    def encode_block(
        self,
        i: int,
        x: Tensor,
        context: dict[str, Any],
        stack: str = "",
        scores: Tensor | None = None,
        embeddings: Tensor | None = None,
        caches: dict[str, Cache] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Applies a block of a stack.

        Args:
            i: number of the block.
            x: `(batch, length, hidden_size)`.
            context: arguments of the block, with those of `with_kinds`.
            stack: prefix of the names of the layers.
            scores: attention scores of the block before, if they are residual.
            embeddings: input of block 0.
            caches: a `Cache` for each attention branch.

        Returns:
            Its output, and the attention scores if they are residual.
        """
        c = self.config
        shared = {name: value for name, value in context.items() if name not in EACH["layer_kinds"]}
        name = "block" if c.share_blocks else f"{stack}block_{i}"
        block = self.block(name, with_memory=stack == "decoder_", first=i == 0)
        x = block(x, scores=scores, caches=caches, **shared | context.get(c.kind_of(i), {}))
        x, scores = x if c.residual_attention_scores else (x, None)
        x = self.after_block(i, x, embeddings, shared)
        if keras.utils.is_keras_tensor(x):  # of the graph, not of a decode step
            self.hidden_states.append(x)
        return x, scores

    def after_block(
        self, i: int, x: Tensor, embeddings: Tensor | None, context: dict[str, Any]
    ) -> Tensor:
        """Hook between the blocks: returns what the next one gets.

        Args:
            i: number of the block.
            x: its output, `(batch, length, hidden_size)`.
            embeddings: input of block 0.
            context: arguments of the attention of full layers.
        """
        c = self.config
        if i or not c.convolution:
            return x
        convolution = self.layer(
            Convolution,
            "convolution",
            filters=c.hidden_size,
            kernel_size=(c.convolution,),  # as in the config of a saved layer
            activation=get_activation(c.convolution_act),
            kernel_initializer=self.initializer,
        )
        y = convolution(embeddings, context["bias"])
        y = self.layer(Dropout, "convolution_dropout", rate=c.dropout_rate)(y)
        y = self.layer(keras.layers.Add, "convolution_add")([x, y])
        return self.normalize("convolution_norm", y)

    def output_heads(self, x: Tensor) -> list[Tensor]:
        """Computes the outputs of the heads of the config, in bert4keras' order.

        Args:
            x: hidden states `(batch, length, hidden_size)`.

        Returns:
            A list, which is empty if the last hidden states are the output. `with_pool`: `(batch,
            hidden_size)`; `with_nsp`, instead of it: `(batch, 2)`, entry 0 for "the second text
            follows the first"; `with_discriminator`: `(batch, length, 1)`, for "the token was
            replaced"; `with_classifier`: logits, see `classifier_outputs`; `with_lm`: `(batch,
            length, vocab_size)`.
        """
        c = self.config
        outputs = []
        if c.with_pool or c.with_nsp:
            activation = "tanh" if isinstance(c.with_pool, bool) else c.with_pool
            outputs.append(self.dense("pooler", c.hidden_size, activation)(x[:, 0]))
        if c.with_nsp:
            logits = self.dense("nsp", 2)(outputs.pop())
            outputs.append(self.probabilities("nsp", c.with_nsp, logits))
        if c.with_discriminator:
            y = self.dense("discriminator_dense", c.hidden_size, c.hidden_act)(x)
            y = self.dense("discriminator_prediction", 1)(y)
            outputs.append(self.probabilities("discriminator", c.with_discriminator, y, "sigmoid"))
        outputs += self.classifier_outputs(x)
        if c.with_lm:
            outputs.append(self.probabilities("lm", c.with_lm, self.token_logits(x)))
        return outputs

    heads = output_heads  # its name in version 0.1

    def classifier_outputs(self, x: Tensor) -> list[Tensor]:
        """Computes the logits of the classifier, in float32.

        Args:
            x: hidden states `(batch, length, hidden_size)`.

        Returns:
            A list, empty without a classifier. `with_classifier="text"`: `(batch, labels)`;
            `"tokens"`: `(batch, length, labels)`; `"spans"`: `(batch, length, 2)`, for "a span
            begins, ends with this token"; `"choice"`: `(batch, 1)`, one row for each choice.
        """
        c, head = self.config, self.config.head
        if head is None:
            return []
        position = "mean" if head.position == "late" else head.position
        padding = c.filler_id if position == "last" else c.pad_token_id

        def pooled(x):
            pool = {"position": position, "pad_token_id": padding}
            return self.layer(TokenPooling, "token_pooling", **pool)(x, self.ids["token_ids"])

        x = pooled(x) if head.position not in (None, "late") else x
        if head.dense:
            activation = head.activation or c.hidden_act
            x = self.dense(head.dense, c.hidden_size, activation, head.dense_bias)(x)
        x = self.normalize(head.norm, x) if head.norm else x
        x = pooled(x) if head.position == "late" else x
        rate = c.dropout_rate if c.classifier_dropout is None else c.classifier_dropout
        x = self.layer(Dropout, "classifier_dropout", rate=rate)(x)
        last = self.dense(f"{c.with_classifier}_classifier", c.num_labels, None, head.use_bias)
        return [self.probabilities("classifier", "linear", last(x))]

    def token_logits(self, x: Tensor) -> Tensor:
        """Computes the logits of the language-model head.

        Args:
            x: hidden states `(batch, length, hidden_size)`.

        Returns:
            `(batch, length, vocab_size)`.
        """
        c = self.config
        if c.lm_transform:
            x = self.dense("lm_dense", c.token_size, c.hidden_act)(x)
            x = self.normalize("lm_norm", x)
        table = self.token_embedding if c.tie_word_embeddings else self.token_table("lm_head")
        x = table(x, reverse=True)
        return self.layer(ScaleOffset, "lm_bias", scale=False)(x) if c.lm_bias else x

    token_scores = token_logits  # its name in version 0.1

    @property
    def variables(self) -> dict[str, keras.Variable]:
        """Path (as in `mappings.py`, without `prefix`) -> Keras variable, without LoRA's."""
        return weights_io.variables_of(self)

    @property
    def table(self) -> list[tuple]:
        """Table of weight names of the family, from `mappings.py`."""
        return mappings.WEIGHTS[self.config.family]

    @checks_flags
    def load_checkpoint(
        self,
        checkpoint: PathLike | Mapping[str, np.ndarray],
        keep_tokens: Sequence[int] | None = None,
        compound_tokens: Sequence[Sequence[int]] | None = None,
        autoresize_weights: bool = False,
        ignore_invalid_weights: bool = False,
        new_classifier: bool = False,
    ) -> set[str]:
        """Loads weights by name: all of them, or none unless `ignore_invalid_weights` is True.

        Args:
            checkpoint: a path for `open_checkpoint`, or a mapping name -> array. The weights may be
                in the memory of the mapped file: do not write to it in place (see `Checkpoint`).
            keep_tokens, compound_tokens: see `build_transformer_model`.
            autoresize_weights: whether to resize arrays of another shape
                (https://kexue.fm/archives/8444); default False.
            ignore_invalid_weights: whether to initialize at random, with a warning, weights that
                are missing or have another shape; default False.
            new_classifier: whether to start the last layer of the classifier at random, whatever
                classifier the file has, and the layers before it if the file lacks them; default
                False.

        Returns:
            A set of paths: of the loaded variables, and of those that such a file does not hold.

        Raises:
            CheckpointError: see `checkpoints.matching.match`.
        """
        options = MatchOptions(
            keep_tokens,
            compound_tokens,
            autoresize_weights,
            ignore_invalid_weights,
            new_classifier,
        )
        return weights_io.load(self, checkpoint, options)

    def resized(self, path: str, array: np.ndarray, shape: Shape) -> np.ndarray:
        """Resizes an array, and scales it so that the magnitude of the block's output is kept."""
        return weights_io.resized(path, array, shape, self.config.hidden_act)

    def save_checkpoint(
        self,
        directory: PathLike,
        format: str = "tf",
        vocab: "TokenizerBase | dict[str, int] | None" = None,
    ) -> None:
        """Saves the weights and the config in a published format.

        Saving is atomic: if it is interrupted, the directory has either all old files or all new
        ones (see `files.saving`).

        Args:
            directory: is created if missing.
            format: `"tf"` (default): a TensorFlow checkpoint with the publisher's weight names and
                a config like Google's; `"hf"`: Hugging Face's `config.json` and
                `model.safetensors`; `"keras"`: `model.keras`, with the graph.
            vocab: a tokenizer, to save its files as well, or a dict token -> id, to write it as
                `vocab.txt`; None: neither.

        Raises:
            ValueError, TypeError: the format has no such model, `vocab` is not a vocabulary, or the
                directory holds a checkpoint in another format.
            CheckpointError: as `ValueError`, or a file cannot be written.
        """
        weights_io.save(self, directory, format, vocab)


class EncoderDecoder(Transformer):
    """Encoder-decoder graph: an encoder, and a decoder that attends to its outputs.

    With `config.parallel_decoder`, these are the outputs before the last blocks of the encoder. A
    full model has these blocks and saves them, but only the encoder alone trains and applies them.

    Inputs and outputs depend on `config.stacks`:

    - `"both"`: `token_ids` and `decoder_token_ids`, to the outputs of the decoder;
    - `"encoder"`: `token_ids`, to `(batch, length, hidden_size)`;
    - `"decoder"`: `memory` (outputs of the encoder, without a mask) and `decoder_token_ids`, to the
      outputs of the decoder.

    Attributes:
        encoder, decoder: the two halves of a full model as separate models that share its layers.

    Reference:
        Vaswani et al., arXiv 1706.03762, figure 1. T5: Raffel et al., arXiv 1910.10683; BART:
        Lewis et al., arXiv 1910.13461; PEGASUS: Zhang et al., arXiv 1912.08777; CPT: Shao et al.,
        arXiv 2109.05729.
    """

    def make_inputs(self) -> dict[str, Tensor]:
        inputs = {}
        if self.config.stacks != "decoder":
            inputs["token_ids"] = self.new_input("token_ids")
        else:
            inputs["memory"] = self.memory_input()
        if self.config.stacks != "encoder":
            inputs["decoder_token_ids"] = self.new_input("decoder_token_ids")
        return inputs

    def memory_input(self) -> Tensor:
        """Makes the input for the outputs of the encoder, `(batch, length, hidden_size)`."""
        return self.new_input("memory", self.config.hidden_size, dtype=keras.config.floatx())

    def build_graph(
        self,
        token_ids: Tensor | None = None,
        decoder_token_ids: Tensor | None = None,
        memory: Tensor | None = None,
    ) -> list[Tensor]:
        memory_bias = None
        if token_ids is not None:
            memory_bias = self.attention_bias(token_ids, stack="encoder_")
            memory = self.memory = self.encode_source(token_ids, memory_bias)
        if decoder_token_ids is None:
            return self.classifier_outputs(memory) or [memory]
        return self.decode(decoder_token_ids, memory, memory_bias)

    draw = build_graph  # type: ignore[assignment]  # its name in version 0.1

    def encode_source(self, token_ids: Tensor, bias: Tensor) -> Tensor:
        """Computes the outputs of the encoder, `(batch, length, hidden_size)`."""
        c, positions = self.config, self.positions(token_ids)
        if c.position == "buckets":
            bias = bias + self.relative_bias("encoder_")(positions, positions)
        x = self.embed(token_ids, positions, stack="encoder_")
        is_parallel = c.parallel_decoder and c.stacks == "both"
        blocks = range(c.memory_blocks) if is_parallel else None
        x = self.encode(x, {"bias": bias}, "encoder_", blocks=blocks)
        if is_parallel and keras.utils.is_keras_tensor(x):  # of the graph, not for generation
            x = self.with_last_blocks(x, bias)
        return self.end_of_stack(x, "encoder_")

    def with_last_blocks(self, memory: Tensor, bias: Tensor) -> Tensor:
        """Returns `memory`, with the blocks next to a parallel decoder in its graph.

        They are not trained, unless they are shared with another model that trains them.
        """
        c, shared = self.config, {*self.layers}
        blocks = range(c.memory_blocks, c.block_counts["i"])
        last = self.encode(memory, {"bias": bias}, "encoder_", blocks=blocks)
        for name in self.layers.keys() - shared:
            self.layers[name].trainable = False
        return self.layer(FirstInput, "encoder_memory")(memory, last)

    def end_of_stack(self, x: Tensor, stack: str) -> Tensor:
        """Applies the dropout after the last block of a stack, if there is one."""
        c = self.config
        if not c.stack_dropout:
            return x
        return self.layer(Dropout, f"{stack}dropout", rate=c.dropout_rate)(x)

    def decode(
        self, token_ids: Tensor, memory: Tensor, memory_bias: Tensor | None = None
    ) -> list[Tensor]:
        """Computes the outputs of the decoder, as a list: see `output_heads`."""
        positions = self.positions(token_ids)
        bias = self.attention_bias(token_ids, attend="lm", stack="decoder_")
        source_positions = self.positions(memory) if self.config.cross_position_bias else None
        x = self.decoded(
            token_ids, bias, positions, positions, memory, memory_bias, source_positions
        )
        return self.output_heads(x) or [x]

    def decoded(
        self,
        token_ids: Tensor,
        bias: Tensor,
        positions: Tensor,
        key_positions: Tensor,
        memory: Tensor,
        memory_bias: Tensor | None,
        source_positions: Tensor | None = None,
        caches: Sequence[dict[str, Cache]] | None = None,
    ) -> Tensor:
        """Computes the last hidden states of the decoder, `(batch, length, hidden_size)`."""
        c = self.config
        if c.position == "buckets":
            relative = self.relative_bias("decoder_", bidirectional=False)
            bias = bias + relative(positions, key_positions)
            if c.cross_position_bias:
                cross = relative(positions, source_positions)
                memory_bias = cross if memory_bias is None else memory_bias + cross
        x = self.embed(token_ids, positions, stack="decoder_")
        x = self.encode(x, {"bias": bias}, "decoder_", memory, memory_bias, caches)
        x = self.end_of_stack(x, "decoder_")
        return x * c.hidden_size**-0.5 if c.rescales else x

    def relative_bias(self, stack: str, bidirectional: bool = True) -> RelativeBias:
        """Returns the layer of T5's relative position bias, for the encoder or the decoder."""
        c = self.config
        return self.layer(
            RelativeBias,
            f"{stack}relative_bias",
            num_heads=c.of_stack(stack).num_attention_heads,
            num_buckets=c.relative_buckets,
            max_distance=c.relative_max_distance,
            bidirectional=bidirectional,
            **self.common,
        )

    @cached_property
    def encoder(self) -> keras.Model:
        return self.keras_model(self.ids["token_ids"], [self.memory])

    @cached_property
    def decoder(self) -> keras.Model:
        memory, token_ids = self.memory_input(), self.new_input("decoder_token_ids")
        return self.keras_model([memory, token_ids], self.decode(token_ids, memory))


def _check_types(**arguments):
    """Checks the types of arguments.

    Args:
        **arguments: name -> `(value, predicate, expected)`: the value, which may be None, a
            function that tells whether it has the right type, and that type in words.

    Raises:
        TypeError: a value has another type.
    """
    for name, (value, predicate, expected) in arguments.items():
        if value is not None and not predicate(value):
            raise TypeError(f"{name}: expected {expected}, got {shown(value)}.")


_is_tensor = keras.utils.is_keras_tensor


def _are_tensors(values):
    return all(map(_is_tensor, keras.tree.flatten(values)))


def _are_layers(values):
    return isinstance(values, dict) and all(isinstance(x, keras.Operation) for x in values.values())


def _is_size(value):
    return not expected_number(value, 1, 2**31 - 1)


def _is_text(value):
    return isinstance(value, str)


def _is_activation(value):
    return isinstance(value, str) or (callable(value) and hasattr(value, "__name__"))


def _is_path_or_mapping(value):
    return isinstance(value, str | os.PathLike | Mapping)


def plain_value(value):
    """Converts a value that JSON cannot hold: a NumPy scalar, or a function (to its name)."""
    return value.item() if isinstance(value, np.generic) else value.__name__


LOADING_OPTIONS = inspect.signature(Transformer.load_checkpoint).parameters.keys() - {
    "self",
    "checkpoint",
}


@checks_flags
def build_transformer_model(
    config_path: PathLike | dict | None = None,
    checkpoint_path: PathLike | Mapping[str, np.ndarray] | None = None,
    model: str | Config | type = "auto",
    application: str = "encoder",
    return_keras_model: bool = True,
    **options: Any,
) -> Any:
    """Builds a model and loads a checkpoint.

    Args:
        config_path: a published config file; or a directory with the config and the checkpoint
            (then both are read from it); or the name of a model on a hub (`"owner/name"`, see
            `hub.py`). None: the options are the config.
        checkpoint_path: a TensorFlow checkpoint (its prefix), a `.safetensors`, PyTorch or
            `.keras` file, a directory with one of them, or a dict name -> array. None: random
            weights.
        model: the family, a key of `ARCHITECTURES`; or `"auto"` (default), to infer it from the
            config and the weight names; or a `Config`; or a subclass of `Transformer`.
        application: `"encoder"` (default): the family as it is; `"lm"`: a causal language model;
            `"unilm"`: a sequence-to-sequence model that distinguishes source and target by the
            segment ids. The last two have the language-model head.
        return_keras_model: False returns the `Transformer`, which has the hidden states and saves
            checkpoints.
        **options: fields of `Config` (`with_mlm=True`, `dropout_rate=0.1`, ...; `with_mlm` is an
            alias of `with_lm`), arguments of `Transformer` (`layer_norm_cond=...`), and arguments
            of loading:

            - `keep_tokens`: ids of the vocabulary rows to keep, in their new order; the padding id
              that is masked moves with its row, unless `pad_token_id` is given, and so do
              `decoder_start_id`, `forced_start_id`, `forced_end_id` and `filler_id`;
            - `compound_tokens`: for each row to append, the ids whose rows are averaged;
            - `autoresize_weights`, `ignore_invalid_weights`, `new_classifier`: see
              `Transformer.load_checkpoint`.

            `with_classifier=True` builds the classifier that the config names, and
            `with_classifier="text"` (or `"tokens"`, `"spans"`, `"choice"`) one of that kind; it
            takes the place of the language-model head.

    Returns:
        A `keras.Model`. The inputs of BERT are `token_ids` and `segment_ids`, integers `(batch,
        length)`, its outputs those of `Transformer.output_heads`; for T5 see `EncoderDecoder`.

    Raises:
        TypeError: an option does not exist; the message suggests the nearest name.
        ValueError: the config is incomplete, or contradicts itself or the checkpoint.
        CheckpointError: the checkpoint is damaged or does not match.

    Example:
        >>> bert = build_transformer_model("chinese_L-12_H-768_A-12", with_mlm=True)
        >>> bert.predict([token_ids, segment_ids])  # (batch, length, 21128)
    """
    _check_types(
        config_path=(config_path, _is_path_or_mapping, "a path, or a dict"),
        checkpoint_path=(checkpoint_path, _is_path_or_mapping, "a path, or a dict name -> array"),
        application=(application, _is_text, "a name"),
    )
    files = _find(*map(local_directory, (config_path, checkpoint_path)))
    options, source_keys = _field_options(options)
    family = _family_of(model, files)
    _check_options(options, family.cls, application)
    config, values, notes = _make_config(files, family, application, options, source_keys)
    arguments = {name: options[name] for name in _graph_arguments(family.cls) & options.keys()}
    if files.checkpoint is None:
        transformer = family.cls(config, **arguments)
    else:
        warn([*notes, *known_issues(family.name, values, files.named)], files.where)
        loading = {name: options[name] for name in LOADING_OPTIONS & options.keys()}
        transformer = _loaded(family.cls, config, arguments, files.checkpoint, loading)
    return transformer.model if return_keras_model else transformer


class _Files(NamedTuple):
    """What a model is built from.

    Attributes:
        config_path: a path, a dict or None.
        values: of the config.
        checkpoint: mapping name -> array, with the names of the tables; None: random weights.
        where: the config, in messages; without one, the checkpoint.
    """

    config_path: object
    values: dict
    checkpoint: Mapping | None
    where: str

    @property
    def named(self):
        """The checkpoint, if its names tell the family: those in a Keras file only count layers."""
        return {} if weights_io.is_keras(self.checkpoint) else self.checkpoint or {}


def _find(config_path, checkpoint_path):
    """Reads the config and opens the checkpoint; returns the `_Files`."""
    values, checkpoint, where = find_files(config_path, checkpoint_path)
    if checkpoint is not None:
        checkpoint, weights_where = weights_io.opened(checkpoint)
        where = weights_where if where == "the options" else where
    return _Files(config_path, values, checkpoint, where)


def _field_options(options):
    """Converts options to the names and values of `Config`; also returns field -> given name."""
    options, source_keys = to_field_names(options)
    if callable(options.get("hidden_act")):
        options["hidden_act"] = activation_name(options["hidden_act"])
    return options | gate_of(options.get("hidden_act")), source_keys


class _Family(NamedTuple):
    """The class that builds the graph, a key of `ARCHITECTURES`, and differences from BERT."""

    cls: type
    name: str
    row: dict


def _family_of(model, files):
    """Returns the `_Family` for the argument `model`, or the one that the files are of."""
    if isinstance(model, Config):
        row = {f.name: getattr(model, f.name) for f in fields(model)}
        return _Family(class_for(model.stacks), model.family, row)
    if isinstance(model, str) and model in ARCHITECTURES:
        check_family(model, files.values, files.where)
        row = ARCHITECTURES[model]
        return _Family(class_for(row.get("stacks", "one")), model, row)
    given_cls = model if inspect.isclass(model) and issubclass(model, Transformer) else None
    if given_cls is None and model != "auto":
        raise ValueError(
            f"model={model!r}: expected 'auto', one of {', '.join(ARCHITECTURES)}, a Config or a "
            "subclass of Transformer."
        )
    family = given_cls and given_cls.family
    if family:
        check_family(family, files.values, files.where)
    else:
        try:
            family = recognize(files.values, list(files.named))
        except ValueError as error:
            raise ValueError(f"{files.where}: {error}") from None
    row = ARCHITECTURES[family]
    return _Family(given_cls or class_for(row.get("stacks", "one")), family, row)


def class_for(stacks):
    """Returns the class that builds the graph for a value of `Config.stacks`."""
    return Transformer if stacks == "one" else EncoderDecoder


def _graph_arguments(cls):
    """Returns the names of a `Transformer`'s arguments, without the config."""
    return inspect.signature(cls.__init__).parameters.keys() - {"self", "config", "kwargs"}


def _check_options(options, cls, application):
    """Checks the names of all options, the values of those of loading, and `application`."""
    known = {f.name for f in fields(Config)} | _graph_arguments(cls) | LOADING_OPTIONS
    check_flags(Transformer.load_checkpoint.flags, options)  # even if nothing is loaded
    others = {name: name for name in mappings.CONFIG_KEYS}  # these are accepted as well
    check_options("build_transformer_model", options, known, others)
    if application not in APPLICATIONS:
        raise ValueError(f"application={application!r}: expected one of {', '.join(APPLICATIONS)}.")


def _make_config(files, family, application, options, source_keys):
    """Makes the config: options over the application's, the file's, the weights', the family's.

    Args:
        files: `_Files`.
        family: a `_Family`.
        application, options: see `build_transformer_model`.
        source_keys: field -> name under which the option was given.

    Returns:
        The `Config`, the values that it was made from, and warnings about them.
    """
    given = {name: value for name, value in options.items() if value is not None}
    all_known = bool(files.named) and not unmatched_names(files.named, family.row)
    ignored_keys = check_unknown_keys(files.values, files.where, files.named, all_known)
    values = {name: value for name, value in files.values.items() if name not in given}
    values, ambiguities = resolve_ambiguities(family.name, values, files.checkpoint)
    values |= _classifier_values(files, family, values, given)
    inferred = infer_from_weights(files.named, family.name, values) if files.named else {}
    if options.get("new_classifier"):
        inferred.pop("labels", None)
    check_not_roberta(family.name, values | inferred, files.where)
    check_stacks(family.name, values, files.where)
    values = family.row | inferred | values | given
    values |= {k: v for k, v in APPLICATIONS[application].items() if not options.get(k)}
    values[SOURCE_KEYS] = values.get(SOURCE_KEYS, {}) | source_keys
    keep, compound = options.get("keep_tokens"), options.get("compound_tokens")
    check_rows(2**31, keep, compound)  # loading checks it again, with the number of rows
    warnings_on_padding = []
    if keep is not None:
        values["vocab_size"] = len(keep)
        if "pad_token_id" not in given:
            padding = values.get("pad_token_id", Config.pad_token_id)
            padding, warnings_on_padding = moved_padding(files.config_path, padding, keep)
            values["pad_token_id"] = padding
        values |= moved_ids(values, given, keep, files.where)
    if compound:
        values["vocab_size"] = Config.from_values(values, files.where).vocab_size + len(compound)
    config = Config.from_values(values, files.where)
    _check_activations(config, values, files.where)
    if keep is None and not compound:
        check_vocabulary(files.config_path, config)
    check_adapter(files.config_path)
    warn(warnings_on_padding, files.where)
    return config, values, [*ignored_keys, *ambiguities]


def _classifier_values(files, family, values, given):
    """Returns the fields of `Config` for the classifier.

    Args:
        files: `_Files`.
        family: a `_Family`.
        values: of the config.
        given: options that are not None; `with_classifier` is removed from it.
    """
    asked = given.pop("with_classifier", values.get("with_classifier"))
    of_file = {k: v for k, v in values.items() if k != "id2label" or "labels" not in given}
    is_new = bool(given.get("new_classifier"))
    fields = classifier_fields(family.row["family"], asked, of_file, files.where, is_new)
    of_row = {k: family.row[k] for k in ("with_classifier", "labels") if family.row.get(k)}
    if is_new and not (of_row | fields).get("with_classifier"):
        raise ValueError(
            "new_classifier=True: the model has no classifier. Pass its kind, with_classifier="
            "'text', 'tokens', 'spans' or 'choice'."
        )
    return of_row | fields


def _check_activations(config, values, where):
    """Checks the activations of a config, which was made from `values`.

    Raises:
        ValueError: an activation is ambiguous, unknown, or changes the shape.
    """
    for name in ("hidden_act", "convolution_act", *HEADS):
        value = getattr(config, name)
        if value == "leaky_relu":
            raise ValueError(
                f"{where}: {key_of(values, name)} is 'leaky_relu', whose slope is 0.2 in Keras and "
                f"0.01 in PyTorch. Pass the right one as a function, {name}=."
            )
        try:
            is_known = not isinstance(value, str) or value in ACTIVATIONS
            is_valid = is_known or _keeps_shape(get_activation(value))  # compiles, on JAX
        except (TypeError, ValueError):
            is_valid = False
        if not is_valid:
            raise ValueError(
                f"{where}: {key_of(values, name)} is {value!r:.200}; expected the name of an"
                " activation that keeps the shape, such as 'gelu' or 'relu'."
            )


def _keeps_shape(function):
    """Whether an activation takes one array and returns one of the same shape."""
    array = ops.zeros((1, 2))
    return function(array).shape == array.shape


def _loaded(cls, config, arguments, checkpoint, loading):
    """Builds a `Transformer`, loads its weights, and initializes those that no file provides.

    Args:
        cls: the class.
        config: the `Config`.
        arguments: of the class.
        checkpoint: mapping name -> array, with the names of the tables.
        loading: arguments of `Transformer.load_checkpoint`.
    """
    if cls is class_for(config.stacks) and "layers" not in arguments:
        prefix = arguments.get("prefix") or ""
        weights_io.check_names(config, checkpoint, prefix, MatchOptions(**loading))
    with deferred_initialization():
        transformer = cls(config, **arguments)
    loaded = transformer.load_checkpoint(checkpoint, **loading)
    _initialize_rest(transformer, loaded)
    return transformer


def _initialize_rest(transformer, loaded):
    """Initializes the matrices that `deferred_initialization` left at zero and no file provided."""
    zero_initialized = ("gamma_dense/kernel", "beta_dense/kernel")
    for path, variable in transformer.variables.items():
        if path not in loaded and len(variable.shape) > 1 and not path.endswith(zero_initialized):
            variable.assign(transformer.initializer(variable.shape, variable.dtype))
