"""From a config and a checkpoint to a Keras model.

A model is a row of differences from BERT (`ARCHITECTURES`), an application is another
(`APPLICATIONS`), and `Transformer` draws the graph that the two rows and the published config
describe. The result is an ordinary functional `keras.Model`.
"""

import difflib
import inspect
import json
import warnings
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

import keras
import numpy as np
from keras import ops

from . import mappings
from .checkpoints import open_checkpoint, save_checkpoint
from .checkpoints.base import release
from .checkpoints.matching import match, orthogonally_resize, slots
from .layers import (
    AttentionBias,
    LayerNormalization,
    PositionEmbedding,
    ScaleOffset,
    TokenEmbedding,
    TransformerBlock,
    WeightInitializer,
    deferred_initialization,
    get_activation,
)
from .tokenizers import save_vocab


@dataclass(frozen=True)
class Config:
    """Everything that shapes a model. The defaults are BERT's.

    The first five have no default; the names are those of Google's `bert_config.json` where it
    has one. `from_json` reads a published file.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    hidden_act: str = "gelu"
    embedding_size: int | None = None  # hidden_size
    attention_head_size: int | None = None  # hidden_size / num_attention_heads
    attention_key_size: int | None = None  # attention_head_size
    dropout_rate: float = 0.0
    attention_dropout_rate: float = 0.0
    norm_epsilon: float = 1e-12
    initializer_range: float = 0.02
    # inputs
    max_position: int = 512
    segment_vocab_size: int = 2  # 0: no segments
    sequence_length: int | None = None  # None: any
    hierarchical_position: bool | float | None = None
    custom_position_ids: bool = False
    shared_segment_embeddings: bool = False  # segment ids are looked up among the tokens
    # attention
    attend: str = "all"
    residual_attention_scores: bool = False
    # heads: False, True (the usual activation) or the name of an activation
    with_pool: bool | str = False
    with_nsp: bool | str = False
    with_mlm: bool | str = False

    def __post_init__(self):
        if self.attention_head_size is None and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is no multiple of num_attention_heads="
                f"{self.num_attention_heads}: correct one of them or give attention_head_size."
            )

    @property
    def head_size(self):
        return self.attention_head_size or self.hidden_size // self.num_attention_heads

    @property
    def token_size(self):
        return self.embedding_size or self.hidden_size

    @classmethod
    def from_values(cls, values, where="the options"):
        """A config from a dict that may hold more than a config; `where` names it in errors."""
        given = {name: value for name, value in values.items() if value is not None}
        missing = [f.name for f in fields(cls) if f.default is MISSING and f.name not in given]
        if missing:
            raise ValueError(
                f"{where}: no {', '.join(missing)}. Pass the checkpoint's own config file, or "
                "give these as options."
            )
        return cls(**{f.name: given[f.name] for f in fields(cls) if f.name in given})

    def to_json(self, format):
        """What a published config file of `format` (`"tf"` or `"hf"`) says of this model.

        Returns:
            A dict.

        Raises:
            ValueError: `"hf"`, and the graph is one that transformers' BERT does not know.
        """
        there = {ours: theirs for theirs, ours in mappings.CONFIG_KEYS.items()}
        shape = [f for f in fields(self) if f.name not in mappings.CONFIG_OF_USE]
        values = {
            there.get(f.name, f.name): getattr(self, f.name)
            for f in shape
            if f.name in mappings.CONFIG_ALWAYS
        }
        own = {
            f.name: getattr(self, f.name)
            for f in shape
            if f.name not in mappings.CONFIG_ALWAYS and getattr(self, f.name) != f.default
        }
        if format == "hf":
            if own:
                raise ValueError(f"transformers' BERT has no {', '.join(own)}: use format='tf'.")
            values["hidden_act"] = mappings.ACTIVATIONS_HF.get(self.hidden_act, self.hidden_act)
            values |= {"model_type": "bert", "pad_token_id": 0}
        return values | own


ARCHITECTURES = {"bert": {}, "roberta": {}}

# As in bert4keras, a model that writes has its language-model head unless told otherwise.
APPLICATIONS = {
    "encoder": {},
    "lm": {"attend": "lm", "with_mlm": True},
    "unilm": {"attend": "unilm", "with_mlm": True},
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
        name: of the model.

    Attributes:
        model: the `keras.Model`.
        inputs, outputs: its tensors, as lists.
        hidden_states: one tensor `(batch, length, hidden_size)` a block.
        layers: name -> layer.
    """

    def __init__(
        self,
        config,
        layer_norm_cond=None,
        layer_norm_cond_hidden_size=None,
        layer_norm_cond_hidden_act=None,
        additional_input_layers=None,
        layers=None,
        prefix=None,
        name=None,
    ):
        if config.attend == "unilm" and not config.segment_vocab_size:
            raise ValueError(
                "application='unilm' tells source from target by the segment ids: it needs a "
                "segment_vocab_size of at least 1."
            )
        self.config = config
        self.condition = layer_norm_cond
        self.norm_arguments = {
            "epsilon": config.norm_epsilon,
            "hidden_units": layer_norm_cond_hidden_size,
            "hidden_activation": layer_norm_cond_hidden_act or "linear",
        }
        self.layers = {} if layers is None else layers
        self.prefix = prefix or ""
        self.hidden_states = []

        ids = self.make_inputs()
        more = [] if additional_input_layers is None else additional_input_layers
        self.inputs = [*ids.values(), *keras.tree.flatten(more)]
        x = self.encode(self.embed(**ids), self.attention_bias(**ids))
        self.outputs = self.heads(x) or [x]
        outputs = self.outputs[0] if len(self.outputs) == 1 else self.outputs
        self.model = keras.Model(self.inputs, outputs, name=name)

    def layer(self, kind, name, **arguments):
        """The layer of that name: a shared one, or a new `kind(**arguments)`."""
        name = self.prefix + name
        if name not in self.layers:
            self.layers[name] = kind(name=name, **arguments)
        return self.layers[name]

    def dense(self, name, units, activation=None):
        return self.layer(
            keras.layers.Dense,
            name,
            units=units,
            activation=get_activation(activation),
            kernel_initializer=self.initializer,
        )

    def normalize(self, name, x):
        return self.layer(LayerNormalization, name, **self.norm_arguments)(
            x, condition=self.condition
        )

    @property
    def initializer(self):
        return WeightInitializer(stddev=self.config.initializer_range)

    def make_inputs(self):
        """Keras inputs by name, each of shape `(batch, length)`."""
        names = ["token_ids"]
        if self.config.segment_vocab_size:
            names.append("segment_ids")
        if self.config.custom_position_ids:
            names.append("position_ids")
        shape = (self.config.sequence_length,)
        return {name: keras.Input(shape, dtype="int32", name=self.prefix + name) for name in names}

    def embed(self, token_ids, segment_ids=None, position_ids=None):
        """Ids to vectors: token + segment + position, normalized. `(batch, length, hidden_size)`."""
        c = self.config
        token_embedding = self.layer(
            TokenEmbedding,
            "token_embedding",
            input_dim=c.vocab_size,
            output_dim=c.token_size,
            mask_zero=True,
            embeddings_initializer=self.initializer,
        )
        x = token_embedding(token_ids)
        if segment_ids is not None and c.shared_segment_embeddings:
            add = self.layer(keras.layers.Add, "token_segment_embedding")
            x = add([x, token_embedding(segment_ids)])
        elif segment_ids is not None:
            x = self.added_table("segment_embedding", c.segment_vocab_size)(x, segment_ids)
        x = self.added_table(
            "position_embedding", c.max_position, hierarchical=c.hierarchical_position
        )(x, position_ids)
        x = self.normalize("embedding_norm", x)
        x = self.layer(keras.layers.Dropout, "embedding_dropout", rate=c.dropout_rate)(x)
        if c.token_size != c.hidden_size:
            x = self.dense("embedding_projection", c.hidden_size)(x)
        return x

    def added_table(self, name, size, **arguments):
        return self.layer(
            PositionEmbedding,
            name,
            input_dim=size,
            output_dim=self.config.token_size,
            initializer_range=self.config.initializer_range,
            **arguments,
        )

    def attention_bias(self, token_ids, segment_ids=None, position_ids=None):
        """What every query may see, computed once for all blocks."""
        return self.layer(
            AttentionBias,
            "attention_bias",
            attend=self.config.attend,
            segments_are_tokens=self.config.shared_segment_embeddings,
        )(token_ids, segment_ids)

    def encode(self, x, bias):
        """The blocks, one on the other. `(batch, length, hidden_size)` in and out."""
        c = self.config
        scores = None
        for i in range(c.num_hidden_layers):
            block = self.layer(
                TransformerBlock,
                f"block_{i}",
                num_heads=c.num_attention_heads,
                head_size=c.head_size,
                key_size=c.attention_key_size,
                intermediate_size=c.intermediate_size,
                activation=c.hidden_act,
                dropout=c.dropout_rate,
                attention_dropout=c.attention_dropout_rate,
                norm_epsilon=c.norm_epsilon,
                return_scores=c.residual_attention_scores,
                condition_units=self.norm_arguments["hidden_units"],
                condition_activation=self.norm_arguments["hidden_activation"],
                initializer_range=c.initializer_range,
            )
            x = block(x, bias=bias, condition=self.condition, scores=scores)
            if c.residual_attention_scores:
                x, scores = x
            self.hidden_states.append(x)
        return x

    def heads(self, x):
        """The outputs asked for, in bert4keras' order; none: the last hidden state is the output.

        `with_pool`: `(batch, hidden_size)`; `with_nsp`, in its place: `(batch, 2)`, entry 0 for
        "the second text follows the first"; `with_mlm`: `(batch, length, vocab_size)`.
        """
        c = self.config
        outputs = []
        if c.with_pool or c.with_nsp:
            activation = c.with_pool if isinstance(c.with_pool, str) else "tanh"
            outputs.append(self.dense("pooler", c.hidden_size, activation)(x[:, 0]))
        if c.with_nsp:
            logits = self.dense("nsp", 2)(outputs.pop())
            outputs.append(self.probabilities("nsp", c.with_nsp, logits))
        if c.with_mlm:
            x = self.dense("mlm_dense", c.token_size, c.hidden_act)(x)
            x = self.normalize("mlm_norm", x)
            x = self.layers[self.prefix + "token_embedding"](x, reverse=True)
            x = self.layer(ScaleOffset, "mlm_bias", scale=False)(x)
            outputs.append(self.probabilities("mlm", c.with_mlm, x))
        return outputs

    def probabilities(self, name, activation, logits):
        """Softmax, or the activation named; in float32 also under mixed precision."""
        activation = get_activation("softmax" if activation is True else activation)
        name = f"{name}_activation"
        return self.layer(keras.layers.Activation, name, activation=activation, dtype="float32")(
            logits
        )

    @property
    def variables(self):
        """Path (as in `mappings.py`, without `prefix`) -> Keras variable."""
        return {
            variable.path[variable.path.index(name) + len(self.prefix) :]: variable
            for name, layer in self.layers.items()
            for variable in layer.weights
        }

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
        where = "the checkpoint"
        if not isinstance(checkpoint, Mapping):
            where = str(checkpoint)
            checkpoint = open_checkpoint(checkpoint)
        variables = self.variables
        plan = match(
            {path: tuple(variable.shape) for path, variable in variables.items()},
            checkpoint,
            mappings.BERT,
            mappings.ROLES,
            self.config.num_hidden_layers,
            optional=mappings.OPTIONAL,
            skippable=mappings.SKIPPABLE,
            fingerprints=mappings.FINGERPRINTS,
            keep_tokens=keep_tokens,
            compound_tokens=compound_tokens,
            resize=self.resized if autoresize_weights else None,
            ignore_invalid=ignore_invalid_weights,
            where=where,
        )
        for path, read in plan.items():
            array = read()
            # a copy for JAX, which would otherwise go on using the memory of the mapped file
            variables[path].assign(np.array(array) if keras.backend.backend() == "jax" else array)
            release(array)
        return plan.keys()

    def resized(self, path, array, shape):
        """An array brought to another shape, scaled so that a block's output keeps its size."""
        old, array = array.shape, orthogonally_resize(array, shape)
        if "/query/" in path or "/key/" in path:
            array = array * (shape[-1] / old[-1]) ** 0.25
        elif "/ffn/input/" in path and "relu" not in self.config.hidden_act:
            array = array * (shape[-1] / old[-1]) ** 0.5
        elif "/ffn/" in path:
            array = array * (old[0] / shape[0]) ** 0.5
        return array

    def save_checkpoint(self, directory, format="tf", vocab=None):
        """Writes the weights and the config as others read them.

        Args:
            directory: is made if missing.
            format: `"tf"`: Google's `bert_config.json` and `bert_model.ckpt`; `"hf"`: Hugging
                Face's `config.json` and `model.safetensors`.
            vocab: dict token -> id, or a `Tokenizer`, to write as `vocab.txt`.
        """
        if format not in ("tf", "hf"):
            raise ValueError(f"format={format!r}: expected 'tf' or 'hf'.")
        config = self.config.to_json(format)
        variables = self.variables
        arrays = {
            slot.names[0]: _turned(ops.convert_to_numpy(variables[slot.here]), slot.turn)
            for slot in slots(mappings.BERT, mappings.ROLES, format, self.config.num_hidden_layers)
            if slot.here in variables
        }
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        if format == "tf":
            save_checkpoint(directory / "bert_model.ckpt", arrays, "tf")
            file = directory / "bert_config.json"
        else:
            config["architectures"] = [
                "BertForPreTraining" if self.config.with_mlm else "BertModel"
            ]
            save_checkpoint(directory / "model.safetensors", arrays, "safetensors")
            file = directory / "config.json"
        file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if vocab is not None:
            save_vocab(directory / "vocab.txt", getattr(vocab, "token_dict", vocab))


def _turned(array, turn):
    return array.T if turn == "turn" else array


LOADING_OPTIONS = inspect.signature(Transformer.load_checkpoint).parameters.keys() - {
    "self",
    "checkpoint",
}


def build_transformer_model(
    config_path=None,
    checkpoint_path=None,
    model="bert",
    application="encoder",
    return_keras_model=True,
    **options,
):
    """Builds a model, and loads a checkpoint into it.

    Args:
        config_path: a published config file, or the directory that holds it with its checkpoint
            (then both are found there). None: the options are the config.
        checkpoint_path: a TensorFlow checkpoint (its prefix), a `.safetensors` or PyTorch file,
            a directory with one of them, or a dict name -> array. None: random weights.
        model: the architecture (`"bert"`, `"roberta"`), a `Config`, or a subclass of
            `Transformer`.
        application: `"encoder"`; `"lm"`, a language model that sees only what came before;
            `"unilm"`, a sequence-to-sequence model that tells source from target by the segment
            ids. The last two have the language-model head.
        return_keras_model: False gives the `Transformer`, which knows the hidden states and can
            save checkpoints.
        **options: fields of `Config` (`with_mlm=True`, `dropout_rate=0.1`, ...), arguments of
            `Transformer` (`layer_norm_cond=...`) and of loading:

            - `keep_tokens`: ids of the vocabulary rows to keep, in their new order;
            - `compound_tokens`: for each row to append, the ids it is the average of;
            - `autoresize_weights`, `ignore_invalid_weights`: see `Transformer.load_checkpoint`.

    Returns:
        A `keras.Model` with inputs `token_ids` and `segment_ids`, integers `(batch, length)`, and
        the outputs of `Transformer.heads`.

    Raises:
        TypeError: an option that does not exist; the nearest name is suggested.
        ValueError: a config that is incomplete or contradicts itself.
        CheckpointError: a checkpoint that is damaged or does not fit.

    Example:
        >>> bert = build_transformer_model("chinese_L-12_H-768_A-12", with_mlm=True)
        >>> bert.predict([token_ids, segment_ids])  # (batch, length, 21128)
    """
    values, checkpoint, where = _find_files(config_path, checkpoint_path)
    kind, row = _architecture(model)
    graph = inspect.signature(kind.__init__).parameters.keys() - {"self", "config", "kwargs"}
    options = {mappings.CONFIG_KEYS.get(name, name): value for name, value in options.items()}
    _check_options(options, {f.name for f in fields(Config)} | graph | LOADING_OPTIONS)
    if application not in APPLICATIONS:
        raise ValueError(f"application={application!r}: expected one of {', '.join(APPLICATIONS)}.")

    values = row | values | {k: v for k, v in options.items() if v is not None}
    values |= {k: v for k, v in APPLICATIONS[application].items() if not options.get(k)}
    keep, compound = options.get("keep_tokens"), options.get("compound_tokens")
    if keep is not None:
        values["vocab_size"] = len(keep)
    if compound:
        values["vocab_size"] += len(compound)
    config = Config.from_values(values, where)
    arguments = {name: options[name] for name in graph & options.keys()}

    if checkpoint is None:
        transformer = kind(config, **arguments)
    else:
        with deferred_initialization():
            transformer = kind(config, **arguments)
        loaded = transformer.load_checkpoint(
            checkpoint, **{name: options[name] for name in LOADING_OPTIONS & options.keys()}
        )
        _initialize_rest(transformer, loaded)
    return transformer.model if return_keras_model else transformer


def _architecture(model):
    if isinstance(model, Config):
        return Transformer, {f.name: getattr(model, f.name) for f in fields(model)}
    if inspect.isclass(model) and issubclass(model, Transformer):
        return model, {}
    if model in ARCHITECTURES:
        return Transformer, ARCHITECTURES[model]
    raise ValueError(
        f"model={model!r}: expected one of {', '.join(ARCHITECTURES)}, a Config or a subclass of "
        "Transformer."
    )


def _check_options(options, known):
    for name in options.keys() - known:
        near = difflib.get_close_matches(name, known, 1)
        raise TypeError(
            f"build_transformer_model has no option {name!r}"
            + (f"; did you mean {near[0]!r}?" if near else f". It has: {', '.join(sorted(known))}.")
        )


def _initialize_rest(transformer, loaded):
    """Draws the matrices that building under `deferred_initialization` left at zero."""
    start_at_zero = ("gamma_dense/kernel", "beta_dense/kernel")
    for path, variable in transformer.variables.items():
        if path not in loaded and len(variable.shape) > 1 and not path.endswith(start_at_zero):
            variable.assign(transformer.initializer(variable.shape, variable.dtype))


def _find_files(config_path, checkpoint_path):
    """The values of the config file, the checkpoint (a path, a mapping or None), and the place."""
    if (
        config_path is None
        and isinstance(checkpoint_path, (str, Path))
        and Path(checkpoint_path).is_dir()
    ):
        config_path = checkpoint_path
    if config_path is None:
        return {}, checkpoint_path, "the options"
    path = Path(config_path)
    if path.is_dir():
        checkpoint_path = path if checkpoint_path is None else checkpoint_path
        names = [
            "bert_config.json",
            "config.json",
            *sorted(p.name for p in path.glob("*config*.json")),
        ]
        path = next((path / name for name in names if (path / name).is_file()), None)
        if path is None:
            raise FileNotFoundError(
                f"{config_path}: no bert_config.json or config.json in this directory."
            )
    return _read_config(path), checkpoint_path, str(path)


def _read_config(path):
    """The values of a published config file, under our names."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such config file.") from None
    except ValueError as error:
        raise ValueError(f"{path}: expected a JSON config, but {error}.") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a JSON object with the values of a config.")
    for key, only in (("model_type", "bert"), ("position_embedding_type", "absolute")):
        if values.get(key, only) != only:
            raise ValueError(
                f"{path}: {key} is {values[key]!r}; this version reads {only!r} alone."
            )
    values = {mappings.CONFIG_KEYS.get(key, key): value for key, value in values.items()}
    unknown = values.keys() - {f.name for f in fields(Config)} - mappings.CONFIG_NOTES
    if unknown:
        warnings.warn(
            f"{path}: not understood and left out: {', '.join(sorted(unknown))}. If one of them "
            "changes the architecture, the numbers will be wrong.",
            stacklevel=4,
        )
    return values
