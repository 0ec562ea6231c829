"""Model configs: the fields, the families, and reading published config files.

Uses no framework: reading a config and recognizing a family do not need Keras.
"""

import json
import numbers
import re
import sys
import warnings
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import get_args

import numpy as np

from . import mappings
from .checkpoints import CheckpointError, save_checkpoint, saving_checkpoint
from .checkpoints.matching import (
    MOST_BLOCKS,
    gather,
    is_copy,
    locate,
    match,
    overflows,
    unknown_names,
)
from .files import complete, write_text
from .parsing import expecting, nearest, read_bytes, read_json, shown

# keys that `read_config` adds to the values of a config
UNKNOWN_KEYS = "keys that are not understood"
SOURCE_KEYS = "keys of the values"  # field -> (its key in the file, value)
MAX_UNKNOWN_KEYS = 200
ADAPTER = "adapter_config.json"  # of peft

# fields of `Config` whose values are names
CHOICES = {
    "family": tuple(mappings.WEIGHTS),
    "position": ("learned", "rotary", "relative", "buckets"),
    "stacks": ("one", "both", "encoder", "decoder"),
    "norm": ("layer", "rms", "plain_rms", "bias_free"),
    "norm_at": ("post", "pre", "pre_ffn", "gpt2_ml"),
    "attention": ("full", "nystrom", "gau"),
    "attend": ("all", "lm", "unilm"),
    "scale_decoder_outputs": (False, True, "tied"),
}
# types of values in a config, in words
_KINDS = {
    bool: "true or false",
    dict: "an object",
    int: "a whole number",
    list: "a list",
    str: "a name",
}
# ranges of numbers, where they are not 1 to 2**31 - 1 for integers, and 0 to 1e30 for floats
_RANGES = {
    "num_hidden_layers": (1, MOST_BLOCKS),
    "num_decoder_layers": (1, MOST_BLOCKS),
    "segment_vocab_size": (0, 2**31 - 1),
    "pad_token_id": (-1, 2**31 - 1),
    "dropout_rate": (0, 1),
    "attention_dropout_rate": (0, 1),
    "hierarchical_position": (0, 0.999),
    "rotary_base": (1, 1e30),
    "relative_max_distance": (1, 65_536),
    "relative_buckets": (4, 131_071),
}


@dataclass(frozen=True)
class Config:
    """Configuration of a model, with BERT's defaults.

    The first five fields have no default. Names are those of Google's `bert_config.json` where it
    has the field.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    family: str = "bert"  # names of the weights in a checkpoint: a key of mappings.WEIGHTS
    hidden_act: str = "gelu"
    embedding_size: int | None = None  # hidden_size
    attention_head_size: int | None = None  # hidden_size / num_attention_heads
    attention_key_size: int | None = None  # attention_head_size
    dropout_rate: float = 0.0
    attention_dropout_rate: float = 0.0
    initializer_range: float = 0.02
    # inputs
    max_position: int = 512
    segment_vocab_size: int = 2  # 0: no segments
    sequence_length: int | None = None  # None: any length
    hierarchical_position: bool | float | None = None
    custom_position_ids: bool = False
    shared_segment_embeddings: bool = False  # segment ids are looked up in the token table
    pad_token_id: int = 0  # masked in attention; -1: no token is
    # position encoding: "learned" vectors, "rotary" angles, "relative" vectors (NEZHA), a bias for
    # "buckets" of distances (T5)
    position: str = "learned"
    rotate_values: bool = False
    rotary_halves: bool = False  # which pairs of entries are rotated: see layers.rotate
    rotary_base: float = 10000.0
    relative_max_distance: int = 64
    relative_buckets: int = 32
    # blocks
    stacks: str = "one"  # "both": an encoder and a decoder; "encoder", "decoder": only that one
    num_decoder_layers: int | None = None  # num_hidden_layers
    share_blocks: bool = False  # every block has the same weights
    norm: str = "layer"  # a key of layers.NORMS
    norm_at: str = "post"  # a key of layers.NORM_SLOTS
    first_norm: bool = True  # whether block 0 also normalizes the input of its attention ("pre")
    norm_epsilon: float = 1e-12
    embedding_norm: bool = True
    embedding_projection: bool = False  # to hidden_size, even if embedding_size equals it
    final_norm: bool = False
    use_bias: bool = True
    gated: bool = False  # gated feed-forward layer
    # attention
    attention: str = "full"  # a key of layers.ATTENTIONS
    num_landmarks: int = 64  # for attention="nystrom"
    attention_scale: bool = True
    attend: str = "all"
    residual_attention_scores: bool = False
    cross_position_bias: bool = False  # add the position bias in a decoder's cross-attention too
    # heads: False, True (the default activation) or the name of an activation
    with_pool: bool | str = False
    with_nsp: bool | str = False
    with_lm: bool | str = False
    with_discriminator: bool | str = False
    lm_transform: bool = True  # a dense layer and a normalization before the logits
    lm_bias: bool = True
    tie_word_embeddings: bool = True  # the logits are computed with the token table
    # multiply by hidden_size ** -0.5; "tied": only before a tied head
    scale_decoder_outputs: bool | str = False

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            _check(field, value, field.name)
            if isinstance(value, np.generic):
                object.__setattr__(self, field.name, value.item())
        if self.attention_head_size is None and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not a multiple of num_attention_heads="
                f"{self.num_attention_heads}. Correct one of them, or pass attention_head_size."
            )
        if self.pad_token_id >= self.vocab_size:
            raise ValueError(
                f"pad_token_id={self.pad_token_id}: expected an id of the vocabulary, at most "
                f"{self.vocab_size - 1}, or -1 for no padding token."
            )
        if self.with_lm and not self.lm_transform and self.token_size != self.hidden_size:
            raise ValueError(
                f"embedding_size={self.embedding_size}: a language-model head without lm_transform "
                f"needs embeddings of hidden_size={self.hidden_size}."
            )
        if self.attend == "unilm" and not (
            self.segment_vocab_size > 1 or self.shared_segment_embeddings
        ):
            raise ValueError(
                "application='unilm' distinguishes source and target by the segment ids; expected "
                f"a segment_vocab_size of at least 2, got {self.segment_vocab_size}."
            )
        if self.stacks != "one" and self.attend != "all":
            raise ValueError(
                f"application={self.attend!r:.200} is for models of one stack; {self.family} is an "
                "encoder-decoder. Generate with it directly, without application=."
            )
        size = self.head_size if self.position == "relative" else self.key_size
        if self.position in ("rotary", "relative") and size % 2:
            raise ValueError(
                f"position={self.position!r} needs pairs of entries; expected an even head size, "
                f"got {size}. Correct hidden_size, num_attention_heads, attention_head_size or "
                "attention_key_size."
            )
        values_have_positions = self.position == "relative" or (
            self.position == "rotary" and self.rotate_values and self.attention != "gau"
        )
        if values_have_positions and self.key_size != self.head_size:
            raise ValueError(
                f"attention_key_size={self.key_size}: this model encodes positions in the values "
                f"as well; expected the head size, {self.head_size}."
            )
        if self.position == "buckets" and self.relative_max_distance <= self.relative_buckets // 2:
            raise ValueError(
                f"relative_max_distance={self.relative_max_distance}: half of the buckets hold one "
                f"distance each; expected more than {self.relative_buckets // 2}, half of "
                "relative_buckets. Correct one of them."
            )
        if self.attention != "full" and (
            (self.attention == "nystrom" and self.attend != "all")
            or self.stacks != "one"
            or self.position not in ("learned", "rotary")
            or self.residual_attention_scores
        ):
            models = "encoders" if self.attention == "nystrom" else "models of one stack"
            raise ValueError(
                f"attention={self.attention!r} is for {models} with absolute or rotary positions "
                "and without residual attention scores. Use attention='full' for this model."
            )

    @property
    def head_size(self):
        """Size of the values of a head."""
        return self.attention_head_size or self.hidden_size // self.num_attention_heads

    @property
    def key_size(self):
        """Size of the queries and keys of a head."""
        return self.attention_key_size or self.head_size

    @property
    def token_size(self):
        """Size of the token embeddings."""
        return self.embedding_size or self.hidden_size

    @property
    def filler(self):
        """The id that pads rows on the right; None if other tokens would attend to any id."""
        if self.pad_token_id < 0 and self.attend != "lm":
            return None
        return max(self.pad_token_id, 0)

    @property
    def has_segments(self):
        return bool(self.segment_vocab_size or self.shared_segment_embeddings)

    @property
    def block_counts(self):
        """Number of blocks, for each counter of the tables in `mappings.py`."""
        return {"i": self.num_hidden_layers, "j": self.num_decoder_layers or self.num_hidden_layers}

    @property
    def rescales(self):
        """Whether the outputs of the decoder are multiplied by `hidden_size ** -0.5`."""
        if self.scale_decoder_outputs == "tied":
            return bool(self.with_lm) and self.tie_word_embeddings
        return self.scale_decoder_outputs

    @classmethod
    def from_values(cls, values, where="the options"):
        """Makes a config from a dict, which may have other keys as well.

        Args:
            values: field -> value; None counts as missing.
            where: name of the config in error messages.

        Raises:
            ValueError: a field is missing or has a wrong value.
        """
        given = {name: value for name, value in values.items() if value is not None}
        for field in fields(cls):
            if field.name in given:
                _check(field, given[field.name], f"{where}: {key_of(values, field.name)}")
        missing = [f.name for f in fields(cls) if f.default is MISSING and f.name not in given]
        if missing:
            raise ValueError(
                f"{where}: no {', '.join(missing)}. Pass the config file of the checkpoint, or "
                "pass these as options."
            )
        try:
            config = cls(**{f.name: given[f.name] for f in fields(cls) if f.name in given})
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if values.get("is_decoder") and config.stacks == "one" and config.attend == "all":
            raise ValueError(
                f"{where}: is_decoder is true, which means causal attention; expected "
                "application='lm'. Pass it, or remove is_decoder from the file if it is wrong."
            )
        defaults = {
            "embedding_size": config.hidden_size,
            "attention_head_size": config.hidden_size / config.num_attention_heads,
            "attention_key_size": config.head_size,
            "num_decoder_layers": config.num_hidden_layers,
        }
        redundant = {name: None for name, value in defaults.items() if given.get(name) == value}
        return replace(config, **redundant)

    def to_json(self, format):
        """Returns the content of a published config file for this model.

        Args:
            format: `"tf"` (Google's keys) or `"hf"` (transformers' keys).

        Returns:
            A dict.

        Raises:
            ValueError: `format` is `"hf"`, and transformers does not implement this model.
        """
        if callable(self.hidden_act):
            raise ValueError(
                f"hidden_act={shown(self.hidden_act)}: a config has no name for this function; "
                "expected a model whose activation has one. Save it with model.save('x.keras')."
            )
        row = ARCHITECTURES[self.family]
        shape = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _OF_USE}
        changed = {
            f.name
            for f in fields(self)
            if f.name in shape and shape[f.name] != row.get(f.name, f.default)
        }
        if format == "tf":
            keys, model_type = mappings.KEYS_TF, self.family
        elif self.family in mappings.HUGGING_FACE:
            model_type, _, keys = mappings.HUGGING_FACE[self.family]
            del shape["gated"]  # it is in the name of the activation
            shape["hidden_act"] = self._activation_hf(model_type)
        else:
            raise ValueError(f"Hugging Face has no {self.family}. Use format='tf' or 'keras'.")
        nameless = changed - keys.keys() - {"embedding_projection"}
        if self.intermediate_size == 4 * self.hidden_size:
            nameless -= {"intermediate_size"}  # the only value for GPT
        if self.position != "learned":
            nameless -= {"max_position"}
        if format == "hf" and nameless:
            raise ValueError(
                f"Hugging Face's {model_type} has no {', '.join(sorted(nameless))}. Use "
                "format='tf' or 'keras'."
            )
        values = {"model_type": model_type}
        if self.pad_token_id != row.get("pad_token_id", 0):
            values[mappings.PAD_TOKEN_KEY] = self.pad_token_id
        if self.family == "modernbert":
            values["global_attn_every_n_layers"] = 1
        values |= {keys[name]: shape[name] for name in shape if name in keys}
        if format == "tf":
            return values | {name: shape[name] for name in changed if name not in keys}
        if "d_ff" in values:
            values |= {
                "d_kv": self.head_size,
                "num_decoder_layers": self.block_counts["j"],
                "scale_decoder_outputs": self.scale_decoder_outputs is True
                or (self.scale_decoder_outputs == "tied" and self.tie_word_embeddings),
                "is_encoder_decoder": True,
                "decoder_start_token_id": 0,
                "eos_token_id": 1,
            }
            if model_type == "mt5" and values["scale_decoder_outputs"]:
                raise ValueError(
                    "Hugging Face's mt5 has no scale_decoder_outputs=True. Use format='tf' or "
                    "'keras'."
                )
        if model_type == "modernbert":
            values["embedding_dropout"] = values["mlp_dropout"]
            values["local_rope_theta"] = self.rotary_base
        if "resid_pdrop" in values:
            values["embd_pdrop"] = values["resid_pdrop"]
        if "embedding_size" in keys:
            values["embedding_size"] = self.token_size
        if self.pad_token_id >= 0:
            values["pad_token_id"] = self.pad_token_id
        return {key: value for key, value in values.items() if value is not None}

    def _activation_hf(self, model_type):
        """Returns Hugging Face's name of the activation, for a config of this `model_type`."""
        name = mappings.ACTIVATIONS_HF.get(self.hidden_act, self.hidden_act)
        renamed = {"openai-gpt": {"gelu_new": "gelu"}, "t5": {}, "mt5": {}}.get(model_type)
        if renamed is None:
            return name
        if name == "gelu" and (self.gated or model_type == "openai-gpt"):
            raise ValueError(
                f"Hugging Face's {model_type} has the tanh form of gelu, this model the exact "
                "form. Use format='tf' or 'keras'."
            )
        if self.gated:
            return "gated-" + name.removesuffix("_new")
        return renamed.get(name, name)


_FIELDS = {field.name: field for field in fields(Config)}


def key_of(values, name):
    """Returns the key of a field in the file it was read from, or its name for other values."""
    key, value = values.get(SOURCE_KEYS, {}).get(name, (name, None))
    return key if value is not None and values.get(name) is value else name


def to_field_names(options):
    """Renames options from published keys to fields of `Config`.

    Returns:
        field -> value, and field -> (the key in `options`, value).

    Raises:
        TypeError: two options are the same field.
    """
    ours, source_keys = {}, {}
    for key, value in options.items():
        name = mappings.CONFIG_KEYS.get(key, key)
        if name in ours:
            raise TypeError(
                f"{source_keys[name][0]} and {key} both mean {name}. Pass only one of them."
            )
        ours[name], source_keys[name] = value, (key, value)
    return ours, source_keys


def _check(field, value, name):
    """Checks the value of a field of `Config`; `name` is that of the field in messages.

    Raises:
        ValueError: the field cannot have that value.
    """
    if expected := _expected(field, value):
        raise ValueError(f"{name} is {value!r:.200}; expected {expected}.")


def _expected(field, value):
    """Describes the values that a field of `Config` may have, or returns None if this is one."""
    name, types = field.name, get_args(field.type) or (field.type,)
    if name in CHOICES:
        expected = f"one of {', '.join(map(str, CHOICES[name]))}"
        return None if _is_one_of(value, CHOICES[name]) else expected
    if (type(None) in types and value is None) or (bool in types and isinstance(value, bool)):
        return None
    for dtype, noun, least, most in (
        (int, "an integer", 1, 2**31 - 1),
        (float, "a number", 0, 1e30),
    ):
        if dtype in types:
            least, most = _RANGES.get(name, (least, most))
            number = numbers.Integral if dtype is int else numbers.Real
            is_number = isinstance(value, number) and not isinstance(value, bool)
            in_range = is_number and least <= value <= most
            return None if in_range else f"{noun} from {least} to {most}"
    if types == (bool,):
        return "True or False"
    flag = "True, False, " if bool in types else ""
    named = isinstance(value, str) or (callable(value) and hasattr(value, "__name__"))
    return None if named else f"{flag}a name or a function"


def _is_one_of(value, choices):
    """Whether a value equals one of several and has its type: `1` is not `True`."""
    return any(type(value) is type(choice) and value == choice for choice in choices)


def _unsupported(value, only):
    """Tells what is wrong with a value of a key of `mappings.CONFIG_ONLY`, or returns None."""
    by_type = isinstance(only, type)
    if value is None or (type(value) is only if by_type else _is_one_of(value, only)):
        return None
    if by_type:
        return f"expected {_KINDS[only]}"
    return (
        f"expected {only or 'no value'}. Other values mean an architecture that is not implemented"
    )


# fields that depend on how a model is used, not on its architecture
_OF_USE = {
    "family", "attend", "custom_position_ids", "sequence_length", "stacks", "attention",
    "num_landmarks", "with_pool", "with_nsp", "with_lm", "with_discriminator", "pad_token_id",
    "shared_segment_embeddings",
}  # fmt: skip

# fields that do not change predictions
_OF_TRAINING = {"dropout_rate", "attention_dropout_rate", "initializer_range"}

# what "gelu" may mean in a config without a model_type
_GELUS = ("gelu", "gelu_new", "gelu_tanh")

_PLAIN = {"norm": "plain_rms", "use_bias": False, "position": "rotary"}
_LANGUAGE_MODEL = {"with_lm": True, "lm_transform": False, "lm_bias": False}
_GPT = _LANGUAGE_MODEL | {
    "family": "gpt",
    "hidden_act": "gelu_tanh",
    "norm_epsilon": 1e-5,
    "embedding_norm": False,
    "segment_vocab_size": 0,
    "pad_token_id": -1,
    "attend": "lm",
}
_GPT2 = _GPT | {"family": "gpt2", "norm_at": "pre", "final_norm": True, "max_position": 1024}
_GPT2_ML = _GPT2 | {
    "family": "gpt2_ml",
    "hidden_act": "gelu",
    "norm_at": "gpt2_ml",
    "embedding_norm": True,
    "final_norm": False,
    "pad_token_id": 0,
}
_T5 = _LANGUAGE_MODEL | {
    "family": "t5.1.0",
    "stacks": "both",
    "hidden_act": "relu",
    "position": "buckets",
    "relative_max_distance": 128,
    "segment_vocab_size": 0,
    "norm": "rms",
    "norm_at": "pre",
    "norm_epsilon": 1e-6,
    "embedding_norm": False,
    "final_norm": True,
    "use_bias": False,
    "attention_scale": False,
    "scale_decoder_outputs": "tied",
}
_T5_1_1 = _T5 | {
    "family": "t5.1.1",
    "hidden_act": "gelu_tanh",
    "gated": True,
    "tie_word_embeddings": False,
}
_MT5 = _T5_1_1 | {"family": "mt5.1.1"}

# Each family, as its differences from BERT.
ARCHITECTURES = {
    "bert": {},
    "roberta": {},
    "albert": {"family": "albert", "share_blocks": True},
    "albert_unshared": {"family": "albert_unshared"},
    "nezha": {"family": "nezha", "position": "relative"},
    "roformer": {"family": "roformer", "position": "rotary"},
    "roformer_v2": _PLAIN
    | {"family": "roformer_v2", "hidden_act": "relu", "lm_transform": False, "lm_bias": False},
    "gau_alpha": _PLAIN
    | {
        "family": "gau_alpha",
        "attention": "gau",
        "attention_key_size": 128,
        "num_attention_heads": 1,
        "hidden_act": "swish",
        "lm_transform": False,
        "lm_bias": False,
    },
    "modernbert": {
        "family": "modernbert",
        "position": "rotary",
        "rotary_halves": True,
        "rotary_base": 160_000.0,
        "segment_vocab_size": 0,
        "norm": "bias_free",
        "norm_at": "pre",
        "norm_epsilon": 1e-5,
        "first_norm": False,
        "final_norm": True,
        "use_bias": False,
        "gated": True,
    },
    "electra": {"family": "electra"},
    "electra_generator": {"family": "electra_generator"},
    "gpt": _GPT,
    "gpt2": _GPT2,
    "gpt2_ml": _GPT2_ML,
    "t5.1.0": _T5,
    "t5.1.1": _T5_1_1,
    "mt5.1.1": _MT5,
    "t5_pegasus": _MT5
    | {
        "family": "t5_pegasus",
        "hidden_act": "gelu",
        "cross_position_bias": True,
        "scale_decoder_outputs": True,
    },
}
ARCHITECTURES |= {
    f"{name}_{stack}": row | {"stacks": stack}
    for name, row in ARCHITECTURES.items()
    if row.get("stacks") == "both"
    for stack in ("encoder", "decoder")
}
# As in bert4keras, generative models have the language-model head unless with_lm=False.
APPLICATIONS = {
    "encoder": {},
    "lm": {"attend": "lm", "with_lm": True},
    "unilm": {"attend": "unilm", "with_lm": True},
}


def read_config(path):
    """Reads a published config file, and renames its keys to the fields of `Config`.

    Args:
        path: JSON file in the form of Google, Hugging Face, bert4keras, OpenAI or UER.

    Returns:
        A dict of values, with `"model_type"` if the file has it. If the file has unknown keys that
        may change the architecture, they are under `UNKNOWN_KEYS`, with their values: see
        `check_unknown_keys`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a JSON object, or a key has a value that describes an architecture
            that is not implemented.
    """
    path = Path(path)
    complete(path.parent)
    try:
        raw = read_json(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such config file.") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: expected a JSON object with the values of a config.")
    with expecting(path, "the values of a config"):
        return translate(raw, path)


_SEVERAL_KINDS = ("with_lm",)  # `with_mlm` may be true next to a `final_activation` with a name


def translate(raw, where="the config"):
    """Converts published keys and values to ours; see `read_config`.

    Args:
        raw: dict, the content of a config file.
        where: name of the config in messages.
    """
    values, source_keys, unknown_keys = {}, {}, {}
    for key, value in raw.items():
        name = mappings.CONFIG_KEYS.get(key, key)
        if key == "pad_token_id" and raw.get("model_type") != "modernbert":
            continue  # often wrong: HFL's configs say 1, the vocabulary 0; see PAD_TOKEN_KEY
        if key == "layer_norm_eps" and "norm_eps" in raw:
            continue  # in early configs of ModernBERT, with a value that no code reads
        if key in mappings.CONFIG_ONLY:
            if reason := _unsupported(value, mappings.CONFIG_ONLY[key]):
                raise ValueError(f"{where}: {key} is {shown(value)}; {reason}.")
        elif name in _FIELDS:
            if value is not None and not (name == "hidden_act" and isinstance(value, list)):
                _check(_FIELDS[name], value, f"{where}: {key}")
            if values.get(name) is None:
                values[name], source_keys[name] = value, (key, value)
            elif value not in (None, values[name]) and name not in _SEVERAL_KINDS:
                raise ValueError(
                    f"{where}: {source_keys[name][0]} is {values[name]!r:.200}, and {key} is"
                    f" {value!r:.200}; expected the same, as both mean {name}. Remove the wrong one"
                    " from the file."
                )
        elif value and not re.fullmatch(mappings.CONFIG_NOTES, key, re.DOTALL):
            unknown_keys[key] = value
    values = {name: value for name, value in values.items() if value is not None}
    if len(unknown_keys) > MAX_UNKNOWN_KEYS:
        raise ValueError(
            f"{where}: {len(unknown_keys)} keys are unknown, such as"
            f" {next(iter(unknown_keys))!r:.200}; expected the config of a model."
        )
    if unknown_keys:
        values[UNKNOWN_KEYS] = unknown_keys
    values[SOURCE_KEYS] = source_keys
    if isinstance(raw.get("n_embd"), int) and "intermediate_size" not in values:
        values["intermediate_size"] = 4 * raw["n_embd"]  # GPT-2's n_inner: null
    if raw.get("n_ctx") is not None:
        _check(_FIELDS["max_position"], raw["n_ctx"], f"{where}: n_ctx")
        values.setdefault("max_position", raw["n_ctx"])
    if "emb_size" in raw and "hidden_size" not in values:
        values["hidden_size"] = raw["emb_size"]
    try:
        _translate_activation(raw, values)
        _translate_layer_types(raw, values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    values |= {
        key: raw[key] for key in ("model_type", "architectures", "is_decoder") if raw.get(key)
    }
    if raw.get("model_type") in ("t5", "mt5"):
        # transformers 5 has the old meaning of the tie flag under the second key
        tied = values.pop("tie_word_embeddings", True)
        if raw["model_type"] == "mt5":
            values["scale_decoder_outputs"] = False
        else:
            values.setdefault("scale_decoder_outputs", tied)
        values.setdefault("num_decoder_layers", values.get("num_hidden_layers"))
    elif raw.get("is_encoder_decoder"):
        raise ValueError(
            f"{where}: is_encoder_decoder is true, but model_type is "
            f"{raw.get('model_type')!r:.200}; expected t5 or mt5. Other encoder-decoders are not "
            "implemented."
        )
    if raw.get("norm_type") == "rms_norm":  # JunnyYu's RoFormerV2
        values["model_type"] = "roformer_v2"
    if raw.get("use_relative_position") and values.get("model_type", "bert") == "bert":
        values["model_type"] = "nezha"
    return values


def check_unknown_keys(values, where, names=(), all_known=False):
    """Decides whether the unknown keys of a config can be ignored.

    Args:
        values: from `read_config`; the unknown keys are removed from it.
        where: name of the config in messages.
        names: of the weights.
        all_known: whether each weight has a variable in the model.

    Returns:
        A list of warnings about keys that are ignored, because all weights match a known
        architecture.

    Raises:
        ValueError: a key may change the architecture.
    """
    known_keys = [*(f.name for f in fields(Config)), *mappings.CONFIG_KEYS]
    parts, ignored = {part for name in names for part in re.split("[./]", name)}, []
    for key, value in values.pop(UNKNOWN_KEYS, {}).items():
        problem = f"the key {shown(key)} (value {shown(value)}) is unknown"
        near = nearest(key, known_keys)
        is_geometry = (
            re.fullmatch(mappings.CONFIG_GEOMETRY, key, re.DOTALL)
            or nearest(key, near, cutoff=0.9)
            or key in parts
        )
        if all_known and not is_geometry:
            ignored.append(f"{problem}; it is ignored, as all weights match the model without it.")
            continue
        raise ValueError(
            f"{where}: {problem}, and "
            + ("is part of the architecture" if is_geometry else "may change the architecture")
            + (f"; did you mean {near[0]!r:.200}?" if near else ".")
            + ("" if is_geometry else " If it does not, remove it from the file.")
        )
    return ignored


def gate_of(activation, name="hidden_act"):
    """Converts bert4keras' `["gelu", "linear"]`, a gated layer, to fields of `Config`.

    Args:
        activation: the value of `hidden_act`.
        name: of the option, in the error message.

    Returns:
        A dict, empty if `activation` is not a list.

    Raises:
        ValueError: it is another list.
    """
    if not isinstance(activation, (list, tuple)):
        return {}
    match activation:
        case [str() as name]:
            return {"hidden_act": name, "gated": False}
        case [str() as name, "linear"]:
            return {"hidden_act": name, "gated": True}
    raise ValueError(
        f"{name} is {activation!r:.200}; expected a name, or a list of a name and 'linear' for a "
        "gate."
    )


def _translate_activation(raw, values):
    """Converts the activation: bert4keras' list, T5's and UER's keys, GPT's "gelu" in tanh form."""
    values.update(gate_of(values.get("hidden_act"), key_of(values, "hidden_act")))
    for key, meaning in _feed_forward_fields(raw):
        for name, value in meaning.items():
            if values.setdefault(name, value) != value:
                raise ValueError(
                    f"{key} is {shown(raw[key])}, which means {name}={value!r:.200}, and another "
                    f"key {values[name]!r:.200}; expected the same. Remove the wrong one from the "
                    "file."
                )
    if raw.get("afn") == "gelu" or raw.get("hidden_act") == "gelu_fast":
        values["hidden_act"] = "gelu_tanh"


def _feed_forward_fields(raw):
    """Yields `(key, fields of Config)` for the keys of T5 and UER about the feed-forward layer."""
    for key in ("feed_forward_proj", "feed_forward"):
        if raw.get(key) not in (None, "dense"):
            gate, _, act = raw[key].rpartition("-")
            if not act or gate not in ("", "gated"):
                raise ValueError(f"{key} is {shown(raw[key])}; expected e.g. 'gated-gelu'.")
            if act == "gated":  # as UER writes it
                yield key, {"gated": True}
            else:
                act = "gelu_new" if raw[key] == "gated-gelu" else act
                yield key, {"gated": bool(gate), "hidden_act": act}
    for key, name in (("is_gated_act", "gated"), ("dense_act_fn", "hidden_act")):
        if raw.get(key) is not None:
            yield key, {name: raw[key]}


def _translate_layer_types(raw, values):
    """Converts transformers' `layer_types`, and its `rope_parameters` for each of them."""
    full, types = "full_attention", raw.get("layer_types")
    if types is not None and not (isinstance(types, list) and all(name == full for name in types)):
        raise ValueError(
            f"layer_types is {types!r:.200}; expected only {full!r}, the one that is implemented."
        )
    given = raw.keys() & {"layer_types", "global_attn_every_n_layers"}
    if raw.get("model_type") == "modernbert" and not given:
        raise ValueError(
            "global_attn_every_n_layers is missing, which means 3: two of three layers see only "
            "128 tokens; expected 1, as only full attention is implemented."
        )
    rope = raw.get("rope_parameters") or {}
    if full in rope and rope.keys() <= {full, "sliding_attention"}:
        rope = rope[full]
    if not isinstance(rope, dict) or not all(map(_is_plain_rope, rope.keys(), rope.values())):
        raise ValueError(
            f"rope_parameters is {shown(raw['rope_parameters'])}; expected an object with "
            "rope_theta and rope_type 'default', the only type that is implemented."
        )
    base = rope.get("rope_theta")
    if base is not None and values.setdefault("rotary_base", base) != base:
        raise ValueError(
            f"rope_theta of rope_parameters is {shown(base)}, and {key_of(values, 'rotary_base')} "
            f"is {values['rotary_base']!r:.200}; expected the same. Remove the wrong one from the "
            "file."
        )


def _is_plain_rope(key, value):
    """Whether a key of `rope_parameters` has a value that is implemented."""
    if key == "rope_theta":
        return value is None or not _expected(_FIELDS["rotary_base"], value)
    return key in mappings.ROPE_ONLY and (
        value is None or _is_one_of(value, mappings.ROPE_ONLY[key])
    )


# ---------------------------------------------------------------- recognizing the family


def recognize(values, names=()):
    """Recognizes the family of a checkpoint, by its config and the names of its weights.

    Args:
        values: from `read_config`.
        names: of the arrays; empty: the config alone decides.

    Returns:
        A key of `ARCHITECTURES`.

    Raises:
        ValueError: config and names contradict each other, or are not enough to decide.
    """
    model_type = values.get("model_type")
    allowed = mappings.MODEL_TYPES.get(model_type)
    if model_type in mappings.WEIGHTS and model_type not in mappings.MODEL_TYPES:
        allowed = [model_type]
    if model_type and not allowed:
        raise ValueError(
            f"model_type is {model_type!r:.200}; expected one of "
            f"{', '.join(sorted({*mappings.MODEL_TYPES, *mappings.WEIGHTS}))}. If the architecture "
            "is one of these, pass it as model=."
        )
    families = families_of(names)
    if not model_type and (sign := _other_architecture(values, names, families)):
        raise ValueError(
            f"{sign}, whose architecture differs from BERT's and GPT-2's; expected a known "
            "model_type. If the architecture is a known one after all, pass it as model=."
        )
    if not names:
        return allowed[0] if allowed else "bert"
    family = _by_names(allowed, families, model_type)
    if ARCHITECTURES[family].get("stacks") == "both":
        if not any(re.match(r"decoder[./]", name) for name in names):
            return f"{family}_encoder"
        if not any(re.match(r"encoder[./]", name) for name in names):
            return f"{family}_decoder"
    return family


def _other_architecture(values, names, families):
    """Describes a sign that a model is one of `mappings.OTHER_ARCHITECTURES`, or returns None."""
    for name in map(str, values.get("architectures", ())):
        known = re.fullmatch(mappings.MODEL_CLASS, name)
        if known and re.fullmatch(mappings.OTHER_ARCHITECTURES, known[1].lower()):
            return f"architectures has {shown(name)}"
    for name in names:
        prefix, dot, _ = name.partition(".")
        if (
            not families
            and dot
            and re.fullmatch(mappings.OTHER_ARCHITECTURES, prefix.replace("_", "").lower())
        ):
            return f"the weight names begin with {prefix!r}"
        if re.fullmatch(mappings.ROBERTA_HEAD, name, re.DOTALL):
            return f"{shown(name)} is the head of a RoBERTa"
    return None


def _by_names(allowed, families, model_type):
    """Returns the first family that both the config (None: any) and the weight names allow."""
    if not families:
        return allowed[0] if allowed else "bert"
    if allowed is None:
        if len(families) > 1 and families[0] == "nezha":
            raise ValueError(
                f"the weight names match both {' and '.join(families)}, and the config has no "
                f"model_type. Pass model={families[0]!r:.200} or model={families[1]!r:.200}."
            )
        return families[0]
    both = [family for family in allowed if family in families]
    if not both:
        raise ValueError(
            f"the config has model_type={model_type!r:.200}, but the weight names are those of "
            f"{' or '.join(families)}; expected files of one model. Correct one of them, or pass "
            "model= to decide."
        )
    return both[0]


def families_of(names):
    """Lists the families that have such weight names, the most likely first."""
    plain = [n for n in names if not any(re.match(p, n) for p in mappings.SKIPPABLE)]
    for pattern, absent, families in mappings.FINGERPRINTS:
        if any(re.match(pattern, n) for n in plain):
            body = [n for n in plain if not n.startswith("cls")]
            if absent is None or not any(re.match(absent, n) for n in body):
                return families
    return []


def resolve_ambiguities(family, values, checkpoint=None):
    """Resolves config values whose meaning depends on the family or the file.

    Files in bert4keras' form have "gelu" where the published weights were trained with the tanh
    form.

    Args:
        family: a key of `ARCHITECTURES`.
        values: from `read_config`.
        checkpoint: mapping name -> array, or None.

    Returns:
        The values, and a list of warnings about what was decided.
    """
    dialect = getattr(checkpoint, "dialect", None)
    outdated = dialect.outdated if dialect else ()
    values = {name: value for name, value in values.items() if name not in outdated}
    model_type = values.pop("model_type", None)
    values = mappings.DEFAULTS_HF.get(model_type, {}) | values
    base = family.removesuffix("_encoder").removesuffix("_decoder")
    tanh = base in ("albert", "albert_unshared", "gpt", "gpt2", "t5.1.1", "mt5.1.1")
    is_exact = model_type in {*mappings.MODEL_TYPES, *mappings.WEIGHTS}
    if tanh and not is_exact and values.get("hidden_act") == "gelu":
        values["hidden_act"] = "gelu_tanh"
        return values, [
            f"hidden_act is 'gelu', which means the tanh form in published {family} weights: that "
            "is used. Pass hidden_act='gelu_erf' for the exact form (bert4keras' default), or "
            "hidden_act='gelu_tanh' to confirm the tanh form."
        ]
    return values, []


# fields that are the length of an axis of a variable: the end of its path, the axis, the field
_MEASURES = [
    ("token_embedding/embeddings", 0, "vocab_size"),
    ("token_embedding/embeddings", 1, "embedding_size"),
    ("position_embedding/embeddings", 0, "max_position"),
    ("segment_embedding/embeddings", 0, "segment_vocab_size"),
    ("attention/output/kernel", 1, "hidden_size"),
    ("ffn/input/kernel", 1, "intermediate_size"),
    ("relative_bias/embeddings", 0, "relative_buckets"),
]
MEASURED = [name for *_, name in _MEASURES] + ["num_hidden_layers"]


def infer_from_weights(checkpoint, family, values):
    """Infers missing config fields from the shapes of the weights.

    Args:
        checkpoint: mapping name -> array.
        family: a key of `ARCHITECTURES`.
        values: from `read_config`; fields in it are not inferred.

    Returns:
        A dict of fields of `Config`.

    Raises:
        CheckpointError: an array is not a matrix.
    """
    row = ARCHITECTURES[family]
    table = mappings.WEIGHTS[row.get("family", "bert")]
    located, counts = locate(checkpoint, table, mappings.ROLES)
    inferred = {}

    def size(end, axis):
        """Returns the length of an axis of the first variable whose path ends so, or None."""
        array = next((array for path, array in located.items() if path.endswith(end)), None)
        if array is not None and len(array.shape) < 2:
            raise CheckpointError(
                f"{getattr(checkpoint, 'path', 'the checkpoint')}: {array.name!r:.200}: expected "
                f"two axes, got the shape {array.stored}. Get or copy the file again."
            )
        return array and int(array.shape[axis])

    for end, axis, name in _MEASURES:
        if (length := size(end, axis)) is not None:
            inferred[name] = length
    if row.get("position", "learned") == "learned" and "segment_vocab_size" not in inferred:
        inferred["segment_vocab_size"] = 0
    if inferred.get("embedding_size") == inferred.get("hidden_size"):
        inferred.pop("embedding_size", None)
        inferred["embedding_projection"] = "embedding_projection/kernel" in located
    if getattr(checkpoint, "num_heads", None):
        inferred["num_attention_heads"] = checkpoint.num_heads
    if counts.get("i"):
        inferred["num_hidden_layers"] = counts["i"]
    if counts.get("j"):
        inferred["num_decoder_layers"] = counts["j"]
    if row.get("attention") == "gau":
        inner = size("block_0/attention/output/kernel", 0)
        inferred |= {} if inner is None else {"intermediate_size": inner}
    if row.get("stacks"):
        inferred["gated"] = any(path.endswith("ffn/gate/kernel") for path in located)
        heads, query = size("relative_bias/embeddings", 1), size("attention/query/kernel", 1)
        if heads and query:
            inferred |= {"num_attention_heads": heads, "attention_head_size": query // heads}
    inferred = {
        name: value for name, value in inferred.items() if name not in values or name == "gated"
    }
    encoder_only = row.get("stacks") and not counts.get("j")  # which has no head
    if not encoder_only and (untied := _has_untied_head(checkpoint, table)) is not None:
        inferred["tie_word_embeddings"] = not untied
    return inferred


def unmatched_names(checkpoint, row):
    """Lists the names of a checkpoint that a family has no variable for and that are not skippable.

    Args:
        checkpoint: mapping name -> array.
        row: a value of `ARCHITECTURES`.
    """
    table = mappings.WEIGHTS[row.get("family", "bert")]
    known = [*mappings.SKIPPABLE, *mappings.COPIES, *mappings.TIED_HEADS]
    return unknown_names(checkpoint, table, mappings.ROLES, known)


def check_not_roberta(values, where):
    """Checks that a model does not have the sizes of Facebook's RoBERTa.

    RoBERTa counts positions from 2, which is not implemented.

    Args:
        values: of the config, with what was inferred from the weights.
        where: name of the config in messages.

    Raises:
        ValueError: it has 1 segment, and 2 positions more than a power of two.
    """
    positions, segments = values.get("max_position", 0), values.get("segment_vocab_size")
    is_integer = isinstance(positions, numbers.Integral)  # other values are another error
    if segments == 1 and is_integer and positions > 2 and (positions - 2) & (positions - 3) == 0:
        raise ValueError(
            f"{where}: {positions} positions and 1 segment are the sizes of Facebook's RoBERTa, "
            "which counts positions from 2 and is not implemented. (The Chinese RoBERTa of HFL and "
            "others is a BERT with 512 positions and 2 segments.)"
        )


def _has_untied_head(checkpoint, table):
    """Whether a checkpoint has a head that differs from the token table.

    Returns:
        A bool, or None if the family always ties the two.
    """
    columns = {role: names for role, _, *names in table if role in ("tokens", "tokens_out")}
    endings = ["", ".weight", "/kernel"]

    def stored(role):
        prefixes = [
            prefix
            for names in columns[role]
            for prefix in ((names,) if isinstance(names, str) else names or ())
        ]
        return next((p + e for p in prefixes for e in endings if p + e in checkpoint), None)

    if "tokens_out" not in columns:
        return None
    head, tokens = stored("tokens_out"), stored("tokens")
    if head is None or tokens is None:
        return False
    return not is_copy(checkpoint, head, tokens)


def known_issues(family, values, checkpoint):
    """Lists warnings about known ambiguities of published checkpoints, and what to do about them.

    Args:
        family: a key of `ARCHITECTURES`.
        values: of the config that is built.
        checkpoint: mapping name -> array, with the names of the tables.
    """
    names = set(checkpoint)
    issues = []
    if family == "gpt" and values.get("vocab_size") == 13088:
        issues.append(
            "CDial's vocabulary comes in two orders: Hugging Face's has [CLS] in row 0 and [PAD] "
            "in row 1, the one for bert4keras has them swapped. Use the vocab.txt that came with "
            "these weights."
        )
    if family.startswith(("mt5.1.1", "t5.1.1")) and values.get("vocab_size") == 50000:
        issues.append(
            "a vocabulary of 50000 is that of T5-PEGASUS, which has the names of mT5 but another "
            "architecture. If this is one, pass model='t5_pegasus'."
        )
    if values.get("with_lm") and _untrained_head(checkpoint, names):
        issues.append(
            "cls/predictions looks never trained (its normalization is exactly 1 and 0): some "
            "publishers put random numbers there. Fine-tune the MLM head before you use it, or "
            "take another checkpoint."
        )
    return issues


def _untrained_head(checkpoint, names):
    """Whether the normalization of the masked-language-model head has its initial values."""
    for gamma, beta in (
        ("cls/predictions/transform/LayerNorm/gamma", "cls/predictions/transform/LayerNorm/beta"),
        ("cls.predictions.transform.LayerNorm.weight", "cls.predictions.transform.LayerNorm.bias"),
        ("cls.predictions.transform.LayerNorm.gamma", "cls.predictions.transform.LayerNorm.beta"),
    ):
        if gamma in names and beta in names:
            return bool(np.all(checkpoint[gamma] == 1) and np.all(checkpoint[beta] == 0))
    return False


def find_files(config_path, checkpoint_path):
    """Finds the config and the checkpoint, given either, both, or a directory with both.

    Returns:
        The values of the config; the checkpoint (a path, a mapping or None); and the path of the
        config, for messages.
    """
    if (
        config_path is None
        and isinstance(checkpoint_path, (str, Path))
        and Path(checkpoint_path).is_dir()
        and config_in(checkpoint_path)
    ):
        config_path = checkpoint_path
    if config_path is None:
        return {}, checkpoint_path, "the options"
    if isinstance(config_path, Mapping):
        return translate(config_path), checkpoint_path, "the config"
    path = Path(config_path)
    if path.is_dir():
        checkpoint_path = path if checkpoint_path is None else checkpoint_path
        path = config_in(path)
        if path is None:
            raise FileNotFoundError(
                f"{config_path}: this directory has no bert_config.json or config.json."
            )
        return _of_directory(path), checkpoint_path, str(path)
    return read_config(path), checkpoint_path, str(path)


def _of_directory(path):
    """Reads the config of a directory; `config.json` and `bert_config.json` must be of one model.

    Raises:
        ValueError: the two differ.
    """
    values, other = read_config(path), path.with_name("config.json")
    if path.name != "bert_config.json" or not other.is_file():
        return values
    others = read_config(other)
    for name in sorted(_FIELDS.keys() & values.keys() & others.keys() - _OF_USE - _OF_TRAINING):
        pair = [values[name], others[name]]
        ambiguous = name == "hidden_act" and "model_type" not in values  # `resolve_ambiguities`
        if pair[0] != pair[1] and not (ambiguous and all(act in _GELUS for act in pair)):
            raise ValueError(
                f"{path}: {key_of(values, name)} is {shown(values[name])}, and "
                f"{key_of(others, name)} of {other.name} is {shown(others[name])}; expected the "
                "same. Delete the file that does not belong to the weights, or pass the path of "
                "the other."
            )
    return values


def config_in(directory):
    """Returns the path of the config file of a directory, or None."""
    directory = Path(directory)
    complete(directory)
    names = ["bert_config.json", "config.json", "hparams.json"]
    names += sorted(path.name for path in directory.glob("*config*.json"))
    other_configs = ("tokenizer_config.json", "generation_config.json", ADAPTER)
    return next(
        (directory / n for n in names if n not in other_configs and (directory / n).is_file()), None
    )


def warn(sentences, where):
    """Issues warnings, attributed to the line outside of this package that made the call."""
    level, frame, package = 1, sys._getframe(), __name__.partition(".")[0]
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        level, frame = level + 1, frame.f_back
    for sentence in sentences:
        warnings.warn(f"{where}: {sentence}", stacklevel=level)


def check_vocabulary(directory, config):
    """Checks that the `vocab.txt` next to a checkpoint has at most as many tokens as the model.

    Warns if the id of its padding token is not the one that the model masks.

    Raises:
        ValueError: it has more tokens.
    """
    if not isinstance(directory, (str, Path)):
        return
    file = Path(directory) / "vocab.txt"
    if file.is_file():
        lines = b"\n" + read_bytes(file).rstrip(b"\r\n").replace(b"\r\n", b"\n") + b"\n"
        count = lines.count(b"\n") - 1
        if count > config.vocab_size:
            raise ValueError(
                f"{file}: has {count} tokens; expected at most {config.vocab_size}, the vocab_size "
                "of the model. One of the two belongs to another checkpoint."
            )
        offset = lines.find(b"\n[PAD]\n")
        padding = lines.count(b"\n", 0, offset)
        if offset >= 0 and config.pad_token_id not in (-1, padding):
            message = (
                f"[PAD] has the id {padding}, but the model masks {config.pad_token_id} in "
                f"attention. Build it with pad_token_id={padding}, and pad batches with that id."
            )
            warn([message], file)


def check_adapter(directory):
    """Warns if the directory of a checkpoint also has an adapter, which is not loaded."""
    file = Path(directory) / ADAPTER if isinstance(directory, (str, Path)) else None
    if file and file.exists():
        message = (
            "the adapter that it describes is not loaded, but transformers would add it to the "
            "weights. Merge it into them (merge_and_unload of peft), or remove it."
        )
        warn([message], file)


def check_family(model, values, where):
    """Checks that a config does not name another family than `model`.

    Raises:
        ValueError: it does.
    """
    model_type = values.get("model_type")
    if model_type not in {*mappings.MODEL_TYPES, *mappings.WEIGHTS}:
        return  # missing or unknown: then model= decides
    base = model.removesuffix("_encoder").removesuffix("_decoder")
    allowed = mappings.MODEL_TYPES.get(model_type, [model_type])
    if base == "roberta":
        base = "bert"
    if base not in allowed:
        raise ValueError(
            f"{where}: model_type is {model_type!r:.200}, but model={model!r:.200} was passed. "
            "Leave model= out, or remove model_type from the file if it is wrong."
        )


# layer of a head -> the option that builds the head
_HEAD_LAYERS = {
    "pooler": "with_pool",
    "nsp": "with_nsp",
    "discriminator_dense": "with_discriminator",
    "lm_dense": "with_lm",
    "lm_bias": "with_lm",
    "lm_activation": "with_lm",
}


HEADS = ("with_pool", "with_nsp", "with_lm", "with_discriminator")
# layer -> the option that builds a model without it
WITHOUT = {layer: f"{option}=False" for layer, option in _HEAD_LAYERS.items()} | {
    "lm_norm": "with_lm=False",
    "lm_head": "with_lm=False",
    "discriminator_prediction": "with_discriminator=False",
    "segment_embedding": "segment_vocab_size=0",
}


def heads_among(names):
    """Returns the options that build the heads in a list of layer names (or variable paths)."""
    layers = {name.split("/")[0] for name in names}
    heads = {option: True for layer, option in _HEAD_LAYERS.items() if layer in layers}
    if "with_nsp" in heads:
        heads.pop("with_pool", None)
    return heads


def match_weights(variables, checkpoint, config, where, **options):
    """Matches the variables of a model to the arrays of a checkpoint: see `matching.match`.

    Args:
        variables: path -> shape.
        checkpoint: mapping name -> array, with the names of the tables.
        config: the `Config` of the model.
        where: name of the checkpoint in messages.
        **options: of `match`.

    Raises:
        CheckpointError: they do not match, or have different numbers of heads.
    """
    c, heads = config, getattr(checkpoint, "num_heads", None)
    if heads not in (None, c.num_attention_heads):
        raise CheckpointError(
            f"{where}: its arrays have an axis for {heads} heads, and the model has "
            f"num_attention_heads={c.num_attention_heads}; expected the same. Correct the "
            "config or the option."
        )
    copies, skippable = [*mappings.COPIES], [*mappings.SKIPPABLE]
    tied = c.with_lm and c.tie_word_embeddings and c.stacks != "encoder"
    (copies if tied else skippable).extend(mappings.TIED_HEADS)
    return match(
        variables,
        checkpoint,
        mappings.WEIGHTS[c.family],
        mappings.ROLES,
        c.block_counts,
        optional=mappings.OPTIONAL,
        skippable=skippable,
        copies=copies,
        without=WITHOUT,
        elsewhere={row[1].split("/")[0] for t in mappings.WEIGHTS.values() for row in t},
        where=where,
        **options,
    )


def mismatch_hint(config, checkpoint, chosen=()):
    """Returns a hint on why a checkpoint does not match a model: another family, or other sizes.

    Args:
        config: the `Config` of the model.
        checkpoint: mapping name -> array, with the names of the tables.
        chosen: fields that differ on purpose.

    Returns:
        A sentence to add to the error message, or an empty string.
    """
    c = config
    families = families_of(checkpoint)
    same_family = {name for name, row in ARCHITECTURES.items() if row.get("family") == c.family}
    same_family.add(c.family)
    if families and not same_family & {*families}:
        return f"\nThe names look like those of model={families[0]!r}."
    measured = infer_from_weights(checkpoint, c.family, {})
    ours = {name: getattr(c, name) for name in MEASURED} | {"embedding_size": c.token_size}
    ours = {name: value for name, value in ours.items() if name not in chosen}
    ours |= {"num_decoder_layers": c.block_counts["j"]} if c.stacks != "one" else {}
    differ = [n for n, size in measured.items() if size and n in ours and size != ours[n]]
    if "hidden_size" not in measured or not differ:
        return ""
    weights, model = (
        ", ".join(f"{name}={sizes[name]}" for name in differ) for sizes in (measured, ours)
    )
    return (
        f"\nThe weights are those of a model with {weights}; this one has {model}. Correct the "
        "config or the options, or take the weights that belong to them."
    )


class _Lazy(Mapping):
    """Mapping name -> array, computed on access and converted to `dtype`."""

    def __init__(self, functions, dtype, progress):
        self.functions, self.dtype, self.progress = functions, dtype, progress

    def __getitem__(self, name):
        array = np.asarray(self.functions[name]())
        if self.dtype is None:
            return array
        if overflows(array, self.dtype):
            raise CheckpointError(
                f"dtype={np.dtype(self.dtype)}: {name!r:.200} has numbers of dtype {array.dtype} "
                "that are infinite in it; expected a wider dtype. Choose another, or None."
            )
        return array.astype(self.dtype)

    def __iter__(self):
        return iter(self.progress(self.functions))

    def __len__(self):
        return len(self.functions)


def file_names(config, format):
    """Returns the file names `(weights, config)` of a checkpoint.

    For `"tf"` these are Google's names.
    """
    of_bert = "bert/" in (mappings.WEIGHTS[config.family][0][2] or "")
    stem = "bert_" if format == "tf" and of_bert else ""
    weights = {"tf": f"{stem}model.ckpt", "hf": "model.safetensors", "keras": "model.keras"}[format]
    return weights, f"{stem}config.json"


def write(directory, config, format, arrays, dtype=None, progress=iter):
    """Writes weights and config in a published format, atomically: see `files.saving`.

    Args:
        directory: is created if missing.
        config: a `Config`.
        format: `"tf"` or `"hf"`.
        arrays: mapping path (as in `mappings.py`) -> array; may be lazy.
        dtype: of the arrays in the file; None: as they are.
        progress: function that wraps the iterator over the arrays.

    Raises:
        ValueError, CheckpointError: the format has no such model, or a file cannot be written.
    """
    values = config.to_json(format)
    table = mappings.WEIGHTS[config.family]
    functions = gather(arrays, table, mappings.ROLES, format, config.block_counts)
    directory = Path(directory)
    weights_name, config_name = file_names(config, format)
    if format == "hf":
        if config.family == "albert" and "embedding_projection/kernel" not in arrays:
            # transformers has a projection even if both sizes are equal
            functions |= gather(
                {
                    "embedding_projection/kernel": np.eye(config.hidden_size, dtype="float32"),
                    "embedding_projection/bias": np.zeros(config.hidden_size, "float32"),
                },
                *(table, mappings.ROLES, format, config.block_counts),
            )
        _, (bare, with_lm, with_all), _ = mappings.HUGGING_FACE[config.family]
        heads = heads_among(arrays)
        decodes = any(path.startswith("decoder_") for path in arrays)
        class_names = with_lm if "with_lm" in heads or config.with_lm or decodes else bare
        other_heads = heads.keys() & {"with_nsp", "with_discriminator"}
        values["architectures"] = [with_all if other_heads else class_names]
    file_format = "safetensors" if format == "hf" else "tf"
    with saving_checkpoint(directory) as stage:
        save_checkpoint(stage / weights_name, _Lazy(functions, dtype, progress), file_format)
        write_config(stage / config_name, values)


def write_config(path, values):
    """Writes a config file, as JSON."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
