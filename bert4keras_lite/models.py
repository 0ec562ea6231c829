"""From a config and a checkpoint to a Keras model.

A family is a row of differences from BERT, an application is another (`configs.py`), and
`Transformer` draws the graph that the two rows and the published config describe. The result is
an ordinary functional `keras.Model`.
"""

import inspect
import json
import os
from collections.abc import Mapping
from dataclasses import fields
from functools import cached_property, partial
from pathlib import Path

import keras
import numpy as np
from keras import ops

from . import mappings
from .arguments import check_flags, check_options, checks_flags, expected_number
from .checkpoints import open_checkpoint, saving_checkpoint
from .checkpoints.base import release
from .checkpoints.foreign import adapt
from .checkpoints.keras_file import counted_anew, under_paths
from .checkpoints.matching import check_rows, has_names, layers_of, orthogonally_resize
from .configs import (
    APPLICATIONS,
    ARCHITECTURES,
    HEADS,
    SPELLED,
    Config,
    advice,
    cautions,
    check_adapter,
    check_vocabulary,
    contradiction,
    file_names,
    find_files,
    gate_of,
    judge,
    key_of,
    match_weights,
    moved_padding,
    read_off,
    recognize,
    refuse_roberta,
    settle,
    under_our_names,
    warn,
    without_place,
    write,
    write_config,
)
from .files import write_text
from .hub import local_directory
from .layers import (
    NORMS,
    AttentionBias,
    Cache,
    Dropout,
    LayerNormalization,
    PositionEmbedding,
    Positions,
    RelativeBias,
    RelativeVectors,
    RotaryAngles,
    ScaleOffset,
    TokenEmbedding,
    TransformerBlock,
    WeightInitializer,
    activation_name,
    deferred_initialization,
    get_activation,
    token_mask,
)
from .lora import folded, own_variables, start_anew
from .parsing import shown
from .shapes import shapes_of
from .tokenizers.base import TokenizerBase
from .tokenizers.wordpiece import vocab_text

# names of weights and configs that `Transformer.save_checkpoint` writes in some format
WRITTEN = {
    *("model.safetensors", "model.keras", "model.ckpt.index", "bert_model.ckpt.index"),
    *("config.json", "bert_config.json"),
}


class Transformer:
    """The graph of a model, as Keras layers, and the way its weights go in and out.

    Subclass it and pass the class as `model=` to change a part: `embed`, `encode` and `heads`
    take tensors and give tensors.

    Args:
        config: a `Config`.
        layer_norm_cond: tensor `(batch, size)` that moves scale and offset of every
            normalization (see `ScaleOffset`), usually from one of `additional_input_layers`.
        layer_norm_cond_hidden_size, layer_norm_cond_hidden_act: a dense layer on the condition.
        additional_input_layers: a Keras input tensor, or a list, to join the model's inputs.
        layers: name -> layer, of another `Transformer`: a layer whose name is in it is shared
            instead of made.
        prefix: put before the name of every layer, so that two models fit into one graph.
        remat: in training, keep only what goes into each block, and compute the rest again on the
            way back: far less memory, about a third more time.
        name: of the model.

    Attributes:
        model: the `keras.Model`.
        inputs, outputs: its tensors, as lists.
        hidden_states: one tensor `(batch, length, hidden_size)` a block.
        layers: name -> layer.
    """

    @checks_flags
    def __init__(
        self,
        config,
        layer_norm_cond=None,
        layer_norm_cond_hidden_size=None,
        layer_norm_cond_hidden_act=None,
        additional_input_layers=None,
        layers=None,
        prefix=None,
        remat=False,
        name=None,
    ):
        self.config = config
        self.remat = remat
        more = [] if additional_input_layers is None else additional_input_layers
        self.more_inputs = keras.tree.flatten(more)
        _check_kinds(
            layer_norm_cond=(layer_norm_cond, _is_tensor, "a keras.Input or what was made of one"),
            layer_norm_cond_hidden_size=(layer_norm_cond_hidden_size, _is_size, "a whole number"),
            layer_norm_cond_hidden_act=(layer_norm_cond_hidden_act, _is_activation, "a name"),
            additional_input_layers=(more, _are_tensors, "a keras.Input, or a list of such"),
            layers=(layers, _are_layers, "a dict name -> layer"),
            prefix=(prefix, _is_text, "a text"),
            name=(name, _is_text, "a text"),
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
        self.asked_for = {}  # name -> arguments of a layer, also of one that is shared
        self.prefix = prefix or ""
        self.hidden_states = []

        self.ids = self.make_inputs()
        self.inputs = [*self.ids.values(), *self.more_inputs]
        self.outputs = self.draw(**self.ids)
        self.model = self.keras_model(self.inputs, self.outputs, name)
        self.model.transformer = self
        table = self.layers.get(f"{self.prefix}token_embedding")
        if isinstance(table, TokenEmbedding) and table.transformer is None:
            table.transformer = json.dumps(self.description(), default=plain_value)

    def description(self):
        """What `loading.transformer_of` makes it again from, in a model out of a file."""
        values = {f.name: getattr(self.config, f.name) for f in fields(Config)}
        description = {
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

    def keras_model(self, inputs, outputs, name=None):
        return keras.Model(inputs, outputs[0] if len(outputs) == 1 else outputs, name=name)

    def make_inputs(self):
        """Keras inputs by name, each of shape `(batch, length)`."""
        c = self.config
        names = ["token_ids"]
        if c.has_segments:
            names.append("segment_ids")
        if c.custom_position_ids:
            names.append("position_ids")
        return {name: self.input(name) for name in names}

    def input(self, name, *dims, dtype="int32"):
        name = self.prefix + name
        if name in self.layers:  # which are those of a model out of a file
            return self.layers[name].output
        return keras.Input((self.config.sequence_length, *dims), dtype=dtype, name=name)

    def draw(self, token_ids, segment_ids=None, position_ids=None):
        """From inputs to outputs, as a list."""
        positions = self.positions(token_ids) if position_ids is None else position_ids
        x = self.embed(token_ids, positions, segment_ids)
        context = {"bias": self.attention_bias(token_ids, segment_ids)}
        x = self.encode(x, context | self.position_context(positions))
        return self.heads(x) or [x]

    def layer(self, kind, name, **arguments):
        """The layer of that name: a shared one, or a new `kind(**arguments)`."""
        name = self.prefix + name
        layer = self.layers.get(name)
        if layer is not None and name not in self.asked_for and not layer.weights:
            # of another model, and all that it is are its arguments: those of this one count
            has = layer.get_config()
            layer = None if any(has.get(k, v) != v for k, v in arguments.items()) else layer
        if layer is None:
            layer = self.layers[name] = kind(name=name, **arguments)
        self.asked_for.setdefault(name, arguments)
        return layer

    def dense(self, name, units, activation=None):
        return self.layer(
            keras.layers.Dense,
            name,
            units=units,
            activation=get_activation(activation),
            use_bias=self.config.use_bias,
            kernel_initializer=self.initializer,
        )

    def normalize(self, name, x):
        return self.layer(LayerNormalization, name, **self.norm_arguments)(
            x, condition=self.condition
        )

    @property
    def initializer(self):
        return WeightInitializer(stddev=self.config.initializer_range)

    def positions(self, token_ids):
        """0, 1, 2, ..., `(1, length)`."""
        c = self.config
        limit = c.max_position if c.position == "learned" and not c.hierarchical_position else None
        return self.layer(Positions, "counted_positions", limit=limit)(token_ids)

    def embed(self, token_ids, positions=None, segment_ids=None):
        """Ids to vectors: token + segment + position, normalized. `(batch, length, hidden_size)`."""
        c = self.config
        x = self.token_embedding(token_ids)
        if segment_ids is not None and c.shared_segment_embeddings:
            add = self.layer(keras.layers.Add, "token_segment_embedding")
            x = add([x, self.token_embedding(segment_ids)])
        elif segment_ids is not None:
            x = self.added_table("segment_embedding", c.segment_vocab_size)(x, segment_ids)
        if c.position == "learned":
            x = self.added_table(
                "position_embedding", c.max_position, hierarchical=c.hierarchical_position
            )(x, positions)
        if c.embedding_norm:
            x = self.normalize("embedding_norm", x)
        x = self.layer(Dropout, "embedding_dropout", rate=c.dropout_rate)(x)
        if c.token_size != c.hidden_size or c.embedding_projection:
            x = self.dense("embedding_projection", c.hidden_size)(x)
        return x

    @property
    def token_embedding(self):
        return self.token_table("token_embedding")

    def token_table(self, name):
        """A vector for each token: to look up, or, from the other side, to score with."""
        c = self.config
        return self.layer(
            TokenEmbedding,
            name,
            input_dim=c.vocab_size,
            output_dim=c.token_size,
            pad_token_id=c.pad_token_id,
            embeddings_initializer=self.initializer,
        )

    def added_table(self, name, size, **arguments):
        return self.layer(
            PositionEmbedding,
            name,
            input_dim=size,
            output_dim=self.config.token_size,
            **self.common,
            **arguments,
        )

    def attention_bias(self, token_ids, segment_ids=None, attend=None, stack=""):
        """What every query may see, computed once for all blocks."""
        layer = self.attention_bias_layer(attend, stack)
        needs_segments = layer.attend == "unilm" or layer.segments_are_tokens
        return layer(token_ids, segment_ids if needs_segments else None)

    def attention_bias_layer(self, attend=None, stack=""):
        c = self.config
        return self.layer(
            AttentionBias,
            f"{stack}attention_bias",
            attend=attend or c.attend,
            pad_token_id=c.pad_token_id,
            segments_are_tokens=c.shared_segment_embeddings,
        )

    def position_context(self, positions, slots=None, key_slots=None):
        """What attention learns about positions, computed once for all blocks.

        Args:
            positions: of the queries, `(batch or 1, queries)`.
            slots, key_slots: where queries and keys stand to one another, `(1, queries)` and
                `(1, keys)`; at `positions` when left out.
        """
        c = self.config
        if c.position == "rotary":
            return {"angles": self.rotary_angles(positions)}
        if c.position == "relative":
            distances = self.layer(
                RelativeVectors,
                "relative",
                size=c.head_size,
                max_distance=c.relative_max_distance,
            )
            slots = positions if slots is None else slots
            return {"distances": distances(slots, slots if key_slots is None else key_slots)}
        return {}

    def encode(self, x, context, stack="", memory=None, memory_bias=None, caches=None):
        """The blocks, one on the other. `(batch, length, hidden_size)` in and out.

        Args:
            context: arguments that every block's attention gets: `bias`, `angles`, `distances`.
            stack: put before the names of the layers.
            memory, memory_bias: of an encoder, for a decoder.
            caches: for each block, a `Cache` for each branch that attends.
        """
        c = self.config
        context = context | {"condition": self.condition}
        if stack == "decoder_":
            context |= {"memory": memory, "memory_bias": memory_bias}
        counter = "j" if stack == "decoder_" else "i"
        scores = None
        for i in range(c.block_counts[counter]):
            name = "block" if c.share_blocks else f"{stack}block_{i}"
            block = self.block(name, with_memory=stack == "decoder_", first=i == 0)
            x = block(x, scores=scores, caches=caches and caches[i], **context)
            if c.residual_attention_scores:
                x, scores = x
            self.hidden_states.append(x)
        return self.normalize(f"{stack}final_norm", x) if c.final_norm else x

    def rotary_angles(self, positions):
        c = self.config
        return self.layer(RotaryAngles, "rotary", size=c.key_size, base=c.rotary_base)(positions)

    def block(self, name, with_memory=False, first=False):
        c = self.config
        linear = {"use_bias": c.use_bias, **self.common}
        attention = {"kind": c.attention, "dropout": c.attention_dropout_rate, **linear}
        ffn = None
        if c.attention == "gau":
            attention |= {"units": c.intermediate_size, "key_size": c.key_size}
            attention |= {"activation": c.hidden_act}
        else:
            attention |= {
                "num_heads": c.num_attention_heads,
                "head_size": c.head_size,
                "key_size": c.key_size,
                "scale": c.attention_scale,
                "rotate_values": c.rotate_values,
                "rotary_halves": c.rotary_halves,
                "return_scores": c.residual_attention_scores,
            }
            ffn = {"units": c.intermediate_size, "activation": c.hidden_act, "gated": c.gated}
            ffn |= linear
        if c.attention == "nystrom":
            attention["num_landmarks"] = c.num_landmarks
        cross = {k: v for k, v in attention.items() if k != "kind"}
        return self.layer(
            TransformerBlock,
            name,
            attention=attention,
            ffn=ffn,
            cross=cross if with_memory else None,
            norm=self.norm_arguments,
            norm_at="pre_ffn" if first and not c.first_norm else c.norm_at,
            dropout=c.dropout_rate,
            remat=self.remat,
        )

    def heads(self, x):
        """The outputs asked for, in bert4keras' order; none: the last hidden state is the output.

        `with_pool`: `(batch, hidden_size)`; `with_nsp`, in its place: `(batch, 2)`, entry 0 for
        "the second text follows the first"; `with_discriminator`: `(batch, length, 1)`, whether a
        token was replaced; `with_lm`: `(batch, length, vocab_size)`.
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
        if c.with_lm:
            outputs.append(self.probabilities("lm", c.with_lm, self.token_scores(x)))
        return outputs

    def token_scores(self, x):
        """`(batch, length, hidden_size)` to `(batch, length, vocab_size)`."""
        c = self.config
        if c.lm_transform:
            x = self.dense("lm_dense", c.token_size, c.hidden_act)(x)
            x = self.normalize("lm_norm", x)
        table = self.token_embedding if c.tie_word_embeddings else self.token_table("lm_head")
        x = table(x, reverse=True)
        return self.layer(ScaleOffset, "lm_bias", scale=False)(x) if c.lm_bias else x

    def probabilities(self, name, activation, logits, usual="softmax"):
        """The usual activation, or the one named; in float32 also under mixed precision."""
        activation = get_activation(usual if activation is True else activation)
        name = f"{name}_activation"
        return self.layer(keras.layers.Activation, name, activation=activation, dtype="float32")(
            logits
        )

    def caches(self, keys_and_values=None, index=None):
        """A `Cache` for each attending branch of each block: see `encode`.

        Args:
            keys_and_values: for each block, branch -> `(keys, values)`; None: all are empty.
            index: the slot to write to.
        """
        count, branches = self.config.block_counts["i"], ("attention",)
        if self.config.stacks != "one":
            count, branches = self.config.block_counts["j"], ("attention", "cross")
        empty = [dict.fromkeys(branches, ()) for _ in range(count)]
        return [
            {
                name: Cache(*pair, index=None if name == "cross" else index)
                for name, pair in block.items()
            }
            for block in keys_and_values or empty
        ]

    def read_source(self, token_ids, lengths):
        """What a decoder attends to, and where: nothing, with one stack."""
        return None, None

    def next_scores(
        self,
        caches,
        token_ids,
        segment_ids,
        start,
        slots,
        key_slots,
        visible=None,
        memory=None,
        memory_bias=None,
    ):
        """The scores of what comes next, from tokens and from what the caches hold.

        The same layers as in the graph, on tensors. A batch of prompts of different lengths
        ends at the same slot: the shorter ones start later.

        Args:
            caches: from `caches`; what is read goes into them.
            token_ids, segment_ids: `(batch, queries)`: a prompt, filled up on the left; or, one
                for each beam, the token last chosen.
            start: the slot in which each row's first token stands, `(batch, 1)`.
            slots, key_slots: of the queries and of the keys, `(1, queries)` and `(1, keys)`.
            visible: which keys each query may see, `(batch, queries, keys)`; None: these are
                the prompts, of which a token sees what `application` says.
            memory, memory_bias: from `read_source`.

        Returns:
            `(batch, queries, vocab_size)`, of the last query alone where `visible` is None.
        """
        positions = ops.maximum(slots - start, 0)
        x = self.embed(token_ids, positions, segment_ids)
        context = {"bias": self.writing_bias(token_ids, segment_ids, start, slots, visible)}
        context |= self.position_context(positions, slots, key_slots)
        x = self.encode(x, context, caches=caches)
        return self.token_scores(x[:, -1:] if visible is None else x)

    def writing_bias(self, token_ids, segment_ids, start, slots, visible, attend=None, stack=""):
        layer = self.attention_bias_layer(attend, stack)
        if visible is not None:
            return layer.from_visible(visible[:, None])
        visible = ops.logical_and(
            slots >= start,
            ops.logical_or(slots == start, ops.not_equal(token_ids, self.config.pad_token_id)),
        )
        return layer(token_ids, segment_ids, visible)

    @property
    def variables(self):
        """Path (as in `mappings.py`, without `prefix`) -> Keras variable; none of LoRA's."""
        return {
            variable.path[variable.path.index(name) + len(self.prefix) :]: variable
            for name, layer in self.layers.items()
            for variable in layer.weights
            if "/lora_" not in variable.path
        }

    def saved_variables(self):
        """What Keras saves of the model, the layers that are not from here included.

        Returns:
            Path of a layer -> key in Keras' files -> path; and path -> variable. Paths are those of
            `variables`.
        """
        names = counted_anew(
            (self.plain_name(layer), type(layer).__name__) for layer in self.model.layers
        )
        layers, variables = {}, {}
        for top, name in zip(self.model.layers, names, strict=True):
            for layer in top._flatten_layers():
                for key, variable in own_variables(layer).items():
                    inside = f"/{variable.path}".partition(f"/{top.name}/")[2]
                    path = f"{name}/{inside or variable.path}"
                    layers.setdefault(path.rpartition("/")[0], {})[key] = path
                    variables[path] = variable
        return layers, variables

    def plain_name(self, layer):
        return layer.name.removeprefix(self.prefix) if layer.name in self.layers else layer.name

    @property
    def table(self):
        return mappings.WEIGHTS[self.config.family]

    @checks_flags
    def load_checkpoint(
        self,
        checkpoint,
        keep_tokens=None,
        compound_tokens=None,
        autoresize_weights=False,
        ignore_invalid_weights=False,
    ):
        """Gives the variables the values of a checkpoint; nothing is assigned unless all fits.

        Args:
            checkpoint: a path that `open_checkpoint` understands, or a mapping name -> array.
            keep_tokens, compound_tokens: see `build_transformer_model`.
            autoresize_weights: bring arrays of another shape to size (https://kexue.fm/archives/8444).
            ignore_invalid_weights: start at random what is missing or of another shape.

        Raises:
            CheckpointError: see `checkpoints.matching.match`.
        """
        checkpoint, where = _opened(checkpoint)
        variables, c = self.variables, self.config
        hint = _hint(c, checkpoint, keep_tokens, compound_tokens)
        of_keras = getattr(checkpoint, "format", None) == "keras"
        if of_keras:
            layers, variables = self.saved_variables()
            layers = layers_of(self.table, mappings.ROLES) | layers
        dtypes = {path: variable.dtype for path, variable in variables.items()}
        if of_keras:
            checkpoint = under_paths(checkpoint, layers, dtypes, self.prefix)
        plan = match_weights(
            {path: tuple(variable.shape) for path, variable in variables.items()},
            checkpoint,
            c,
            dtypes=dtypes,
            keep_tokens=keep_tokens,
            compound_tokens=compound_tokens,
            resize=self.resized if autoresize_weights else None,
            ignore_invalid=ignore_invalid_weights,
            where=where,
            hint=lambda: hint(checkpoint),
        )
        for path, read in plan.items():
            array = np.asarray(read())
            if not array.dtype.isnative or array.dtype.itemsize > 8:  # which PyTorch lacks
                array = array.astype(dtypes[path])
            # a copy for JAX, which would otherwise go on using the memory of the mapped file
            variables[path].assign(np.array(array) if keras.backend.backend() == "jax" else array)
            release(array)
        start_anew(self.model)
        return plan.keys() | self.variables.keys() - variables.keys()

    def resized(self, path, array, shape):
        """An array brought to another shape, scaled so that a block's output keeps its size."""
        old, array = array.shape, orthogonally_resize(array, shape)
        if "/query/" in path or "/key/" in path:
            array = array * (shape[-1] / old[-1]) ** 0.25
        elif "/ffn/input/" in path and "relu" not in str(self.config.hidden_act):
            array = array * (shape[-1] / old[-1]) ** 0.5
        elif "/ffn/" in path:
            array = array * (old[0] / shape[0]) ** 0.5
        return array

    def save_checkpoint(self, directory, format="tf", vocab=None):
        """Writes the weights and the config as others read them.

        All files are one unit: whenever saving is interrupted, the old save is whole, or the new
        one is (see `files.saving`).

        Args:
            directory: is made if missing.
            format: `"tf"`: a TensorFlow checkpoint under the names of the family's publisher,
                with Google's kind of config; `"hf"`: Hugging Face's `config.json` and
                `model.safetensors`; `"keras"`: `model.keras`, which holds the graph as well.
            vocab: a tokenizer, whose files are written as well, or a dict token -> id, to write as
                `vocab.txt`.

        Raises:
            ValueError, TypeError: the format has no such model, or `vocab` is no vocabulary, or the
                directory holds a checkpoint in another format.
            CheckpointError: as `ValueError`, or a file cannot be written.
        """
        if format not in ("tf", "hf", "keras"):
            raise ValueError(f"format={format!r}: expected 'tf', 'hf' or 'keras'.")
        tokenizer = vocab if isinstance(vocab, TokenizerBase) else None
        text = None if vocab is tokenizer else vocab_text(vocab, "vocab")
        count = text.count("\n") if text is not None else tokenizer.vocab_size if tokenizer else 0
        if count > self.config.vocab_size:
            raise ValueError(
                f"vocab: {count} tokens, but the model has {self.config.vocab_size} rows for them. "
                "Give the vocabulary that the model was made for."
            )
        weights_name, config_name = file_names(self.config, format)
        there = {name for name in WRITTEN if (Path(directory) / name).exists()}
        others = sorted(there - {weights_name, f"{weights_name}.index", config_name})
        if others:  # readers would take these, or a part of each
            raise ValueError(
                f"{directory}: holds {', '.join(others)} of a checkpoint in another format. Save "
                "into another directory, or delete them."
            )
        with saving_checkpoint(directory) as stage:
            if format == "keras":
                write_config(stage / config_name, self.config.to_json("tf"))
                self.model.save(stage / weights_name)
            else:
                with folded(self.model):
                    arrays = {path: ops.convert_to_numpy(v) for path, v in self.variables.items()}
                    write(stage, self.config, format, arrays)
            if text is not None:
                write_text(stage / "vocab.txt", text)
            if tokenizer:
                tokenizer.save(stage)


class EncoderDecoder(Transformer):
    """T5: an encoder, and a decoder that attends to it.

    Inputs and outputs depend on `config.stacks`: `"both"`: `token_ids`, `decoder_token_ids` to
    the decoder's outputs; `"encoder"`: `token_ids` to `(batch, length, hidden_size)`;
    `"decoder"`: `memory` (what the encoder gave, all of it visible) and `decoder_token_ids`.

    Attributes:
        encoder, decoder: the two halves of a whole model as models of their own, sharing its
            layers.

    Reference:
        Raffel et al., "T5", arXiv 1910.10683.
    """

    def make_inputs(self):
        inputs = {}
        if self.config.stacks != "decoder":
            inputs["token_ids"] = self.input("token_ids")
        else:
            inputs["memory"] = self.memory_input()
        if self.config.stacks != "encoder":
            inputs["decoder_token_ids"] = self.input("decoder_token_ids")
        return inputs

    def memory_input(self):
        return self.input("memory", self.config.hidden_size, dtype=keras.config.floatx())

    def draw(self, token_ids=None, decoder_token_ids=None, memory=None):
        memory_bias = None
        if token_ids is not None:
            memory_bias = self.attention_bias(token_ids, stack="encoder_")
            memory = self.memory = self.encode_source(token_ids, memory_bias)
        return (
            [memory]
            if decoder_token_ids is None
            else self.decode(decoder_token_ids, memory, memory_bias)
        )

    def encode_source(self, token_ids, bias):
        positions = self.positions(token_ids)
        bias = bias + self.relative_bias("encoder_")(positions, positions)
        x = self.encode(self.embed(token_ids), {"bias": bias}, "encoder_")
        return self.layer(Dropout, "encoder_dropout", rate=self.config.dropout_rate)(x)

    def decode(self, token_ids, memory, memory_bias=None):
        """The decoder's outputs: see `heads`."""
        positions = self.positions(token_ids)
        bias = self.attention_bias(token_ids, attend="lm", stack="decoder_")
        source_positions = self.positions(memory) if self.config.cross_position_bias else None
        x = self.decoded(
            token_ids, bias, positions, positions, memory, memory_bias, source_positions
        )
        return self.heads(x) or [x]

    def decoded(
        self,
        token_ids,
        bias,
        positions,
        key_positions,
        memory,
        memory_bias,
        source_positions=None,
        caches=None,
    ):
        """The decoder's last hidden states, `(batch, length, hidden_size)`."""
        relative = self.relative_bias("decoder_", bidirectional=False)
        bias = bias + relative(positions, key_positions)
        if self.config.cross_position_bias:
            cross = relative(positions, source_positions)
            memory_bias = cross if memory_bias is None else memory_bias + cross
        x = self.embed(token_ids)
        x = self.encode(x, {"bias": bias}, "decoder_", memory, memory_bias, caches)
        x = self.layer(Dropout, "decoder_dropout", rate=self.config.dropout_rate)(x)
        return x * self.config.hidden_size**-0.5 if self.config.rescales else x

    def read_source(self, token_ids, lengths):
        """The encoder's states of rows of ids of these `lengths` `(batch, 1)`, and their bias."""
        is_token = self.positions(token_ids) < lengths
        visible = ops.logical_and(is_token, token_mask(token_ids, self.config.pad_token_id))
        bias = self.attention_bias_layer(stack="encoder_")(token_ids, visible=visible)
        return self.encode_source(token_ids, bias), bias

    def next_scores(
        self,
        caches,
        token_ids,
        segment_ids,
        start,
        slots,
        key_slots,
        visible=None,
        memory=None,
        memory_bias=None,
    ):
        bias = self.writing_bias(token_ids, None, start, slots, visible, "lm", "decoder_")
        source_slots = ops.arange(memory_bias.shape[-1])[None]
        x = self.decoded(
            token_ids, bias, slots, key_slots, memory, memory_bias, source_slots, caches
        )
        return self.token_scores(x[:, -1:] if visible is None else x)

    def relative_bias(self, stack, bidirectional=True):
        c = self.config
        return self.layer(
            RelativeBias,
            f"{stack}relative_bias",
            num_heads=c.num_attention_heads,
            num_buckets=c.relative_buckets,
            max_distance=c.relative_max_distance,
            bidirectional=bidirectional,
            **self.common,
        )

    @cached_property
    def encoder(self):
        return self.keras_model(self.ids["token_ids"], [self.memory])

    @cached_property
    def decoder(self):
        memory, token_ids = self.memory_input(), self.input("decoder_token_ids")
        return self.keras_model([memory, token_ids], self.decode(token_ids, memory))


def _check_kinds(**arguments):
    """Raises where an argument is of another kind.

    Args:
        arguments: name -> its value, a function that tells whether it is of its kind, and the kind
            in words. None is left alone.
    """
    for name, (value, is_of_kind, kind) in arguments.items():
        if value is not None and not is_of_kind(value):
            raise TypeError(f"{name}: expected {kind}, got {shown(value)}.")


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


def _is_place(value):
    return isinstance(value, str | os.PathLike | Mapping)


def plain_value(value):
    """A value of a config that JSON has no word for: a NumPy scalar, or a function by its name."""
    return value.item() if isinstance(value, np.generic) else value.__name__


def _hint(config, checkpoint, keep_tokens=None, compound_tokens=None):
    """A function that tells of a checkpoint what may be wrong if it does not fit a model."""
    if getattr(checkpoint, "format", None) == "keras":
        return quantized
    chosen = {"vocab_size"} if keep_tokens is not None or compound_tokens else ()
    return partial(advice, config, chosen=chosen)


def _check_names(
    config,
    checkpoint,
    prefix,
    keep_tokens=None,
    compound_tokens=None,
    autoresize_weights=False,
    ignore_invalid_weights=False,
):
    """Raises what loading would if the names of a checkpoint are not those of a model.

    So no block is built that a config claims and the checkpoint does not have.

    Args: see `Transformer` and `Transformer.load_checkpoint`.
    """
    table, shapes = mappings.WEIGHTS[config.family], shapes_of(config)
    sizes, where = config.block_counts, str(getattr(checkpoint, "path", "the checkpoint"))
    if ignore_invalid_weights:
        return
    if getattr(checkpoint, "format", None) == "keras":
        checkpoint = under_paths(checkpoint, layers_of(table, mappings.ROLES), {}, prefix)
        blocks = {path.split("/")[0] for path in shapes if "block" in path}
        if blocks <= {name.split("/")[0] for name in checkpoint}:
            return
    elif has_names(shapes, checkpoint, table, mappings.ROLES, sizes, mappings.OPTIONAL):
        return
    hint = _hint(config, checkpoint, keep_tokens, compound_tokens)
    match_weights(
        shapes,
        checkpoint,
        config,
        keep_tokens=keep_tokens,
        compound_tokens=compound_tokens,
        resize=(lambda path, array, shape: array) if autoresize_weights else None,
        where=where,
        hint=lambda: hint(checkpoint),
    )


def quantized(checkpoint):
    """What to say of a file of Keras that does not fit, if it is of a quantized model."""
    if not any(checkpoint.dtype(name) == "int8" for name in checkpoint):
        return ""
    return "\nIts weights are quantized: load it as a whole, with bert4keras_lite.load_model."


def _opened(checkpoint):
    """A checkpoint in the names of the tables, and what to call it."""
    if isinstance(checkpoint, Mapping):
        return adapt(checkpoint), str(getattr(checkpoint, "path", "the checkpoint"))
    return adapt(open_checkpoint(checkpoint)), str(checkpoint)


LOADING_OPTIONS = inspect.signature(Transformer.load_checkpoint).parameters.keys() - {
    "self",
    "checkpoint",
}


@checks_flags
def build_transformer_model(
    config_path=None,
    checkpoint_path=None,
    model="auto",
    application="encoder",
    return_keras_model=True,
    **options,
):
    """Builds a model, and loads a checkpoint into it.

    Args:
        config_path: a published config file, or the directory that holds it with its checkpoint
            (then both are found there), or the name of a model on a hub (`"owner/name"`, see
            `hub.py`). None: the options are the config.
        checkpoint_path: a TensorFlow checkpoint (its prefix), a `.safetensors`, PyTorch or
            `.keras` file, a directory with one of them, or a dict name -> array. None: random
            weights.
        model: the family, a key of `ARCHITECTURES`; `"auto"`: the config and the names of the
            weights tell; or a `Config`, or a subclass of `Transformer`.
        application: `"encoder"`: as the family is; `"lm"`, a language model that sees only what
            came before; `"unilm"`, a sequence-to-sequence model that tells source from target by
            the segment ids. The last two have the language-model head.
        return_keras_model: False gives the `Transformer`, which knows the hidden states and can
            save checkpoints.
        **options: fields of `Config` (`with_mlm=True`, `dropout_rate=0.1`, ...; `with_mlm` is
            another name of `with_lm`), arguments of `Transformer` (`layer_norm_cond=...`) and of
            loading:

            - `keep_tokens`: ids of the vocabulary rows to keep, in their new order; the padding that
              the model hides from attention moves with them, unless `pad_token_id` is given;
            - `compound_tokens`: for each row to append, the ids it is the average of;
            - `autoresize_weights`, `ignore_invalid_weights`: see `Transformer.load_checkpoint`.

    Returns:
        A `keras.Model`. BERT's inputs are `token_ids` and `segment_ids`, integers `(batch,
        length)`, its outputs those of `Transformer.heads`; for T5 see `EncoderDecoder`.

    Raises:
        TypeError: an option that does not exist; the nearest name is suggested.
        ValueError: a config that is incomplete or contradicts itself, or the checkpoint.
        CheckpointError: a checkpoint that is damaged or does not fit.

    Example:
        >>> bert = build_transformer_model("chinese_L-12_H-768_A-12", with_mlm=True)
        >>> bert.predict([token_ids, segment_ids])  # (batch, length, 21128)
    """
    _check_kinds(
        config_path=(config_path, _is_place, "a path, or a dict"),
        checkpoint_path=(checkpoint_path, _is_place, "a path, or a dict name -> array"),
        application=(application, _is_text, "a name"),
    )
    config_path, checkpoint_path = map(local_directory, (config_path, checkpoint_path))
    values, checkpoint, where = find_files(config_path, checkpoint_path)
    if checkpoint is not None:
        checkpoint, weights_where = _opened(checkpoint)
        where = weights_where if where == "the options" else where
    options, spelled = under_our_names(options)
    if callable(options.get("hidden_act")):
        options["hidden_act"] = activation_name(options["hidden_act"])
    options |= gate_of(options.get("hidden_act"))
    # a Keras file names its arrays by the order of the layers, which tells nothing here
    named = {} if getattr(checkpoint, "format", None) == "keras" else checkpoint or {}
    kind, family, row = _architecture(model, values, list(named), where)
    graph = inspect.signature(kind.__init__).parameters.keys() - {"self", "config", "kwargs"}
    known = {f.name for f in fields(Config)} | graph | LOADING_OPTIONS
    check_flags(Transformer.load_checkpoint.flags, options)  # also where nothing is loaded
    others = {name: name for name in mappings.CONFIG_KEYS}  # they will do as well
    check_options("build_transformer_model", options, known, others)
    if application not in APPLICATIONS:
        raise ValueError(f"application={application!r}: expected one of {', '.join(APPLICATIONS)}.")

    given = {name for name, value in options.items() if value is not None}
    said = judge(values, where, named, bool(named) and not without_place(named, row))
    values = {name: value for name, value in values.items() if name not in given}
    values, ambiguous = settle(family, values, checkpoint)
    measured = read_off(named, family, values) if named else {}
    refuse_roberta(values | measured, where)
    values = row | measured | values | {name: options[name] for name in given}
    values |= {k: v for k, v in APPLICATIONS[application].items() if not options.get(k)}
    values[SPELLED] = values.get(SPELLED, {}) | spelled
    keep, compound = options.get("keep_tokens"), options.get("compound_tokens")
    check_rows(2**31, keep, compound)  # how many there are, loading knows
    moved = []
    if keep is not None:
        values["vocab_size"] = len(keep)
        if "pad_token_id" not in given:
            hidden = values.get("pad_token_id", Config.pad_token_id)
            values["pad_token_id"], moved = moved_padding(config_path, hidden, keep)
    if compound:
        values["vocab_size"] = Config.from_values(values, where).vocab_size + len(compound)
    config = Config.from_values(values, where)
    _check_activations(config, values, where)
    if keep is None and not compound:
        check_vocabulary(config_path, config)
    check_adapter(config_path)
    warn(moved, where)
    arguments = {name: options[name] for name in graph & options.keys()}

    if checkpoint is None:
        transformer = kind(config, **arguments)
    else:
        warn([*said, *ambiguous, *cautions(family, values, named)], where)
        loading = {name: options[name] for name in LOADING_OPTIONS & options.keys()}
        if kind is class_for(config.stacks) and "layers" not in arguments:
            _check_names(config, checkpoint, arguments.get("prefix") or "", **loading)
        with deferred_initialization():
            transformer = kind(config, **arguments)
        loaded = transformer.load_checkpoint(checkpoint, **loading)
        _initialize_rest(transformer, loaded)
    return transformer.model if return_keras_model else transformer


def _check_activations(config, values, where):
    """Raises if a config, made of `values`, names an activation that cannot be one here."""
    for name in ("hidden_act", *HEADS):
        value = getattr(config, name)
        if value == "leaky_relu":
            raise ValueError(
                f"{where}: {key_of(values, name)} is 'leaky_relu', whose slope is 0.2 in Keras and 0.01"
                f" in PyTorch. Pass the one that is meant as a function, {name}=."
            )
        try:
            keeps = not isinstance(value, str) or _keeps_shape(get_activation(value))
        except (TypeError, ValueError):
            keeps = False
        if not keeps:
            raise ValueError(
                f"{where}: {key_of(values, name)} is {value!r:.200}; expected the name of an"
                " activation that keeps the shape, such as 'gelu' or 'relu'."
            )


def _keeps_shape(function):
    """Whether an activation takes one array, and gives one of that shape."""
    array = ops.zeros((1, 2))
    return function(array).shape == array.shape


def _architecture(model, values, names, where):
    """The class that draws the graph, the family, and its differences from BERT."""
    if isinstance(model, Config):
        row = {f.name: getattr(model, f.name) for f in fields(model)}
        return class_for(model.stacks), model.family, row
    if isinstance(model, str) and model in ARCHITECTURES:
        contradiction(model, values, where)
        row = ARCHITECTURES[model]
        return class_for(row.get("stacks", "one")), model, row
    given_kind = model if inspect.isclass(model) and issubclass(model, Transformer) else None
    if given_kind is None and model != "auto":
        raise ValueError(
            f"model={model!r}: expected 'auto', one of {', '.join(ARCHITECTURES)}, a Config or a "
            "subclass of Transformer."
        )
    try:
        family = recognize(values, names)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    row = ARCHITECTURES[family]
    return given_kind or class_for(row.get("stacks", "one")), family, row


def class_for(stacks):
    """The class that draws a graph of so many `Config.stacks`."""
    return Transformer if stacks == "one" else EncoderDecoder


def _initialize_rest(transformer, loaded):
    """Draws the matrices that building under `deferred_initialization` left at zero."""
    start_at_zero = ("gamma_dense/kernel", "beta_dense/kernel")
    for path, variable in transformer.variables.items():
        if path not in loaded and len(variable.shape) > 1 and not path.endswith(start_at_zero):
            variable.assign(transformer.initializer(variable.shape, variable.dtype))
