"""What shapes a model: the fields, the families, and the config files others publish.

Knows no framework: reading a config and telling a family take no Keras.
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
from .arguments import expected_number
from .checkpoints import CheckpointError, save_checkpoint, saving_checkpoint
from .checkpoints.matching import (
    MOST_BLOCKS,
    detect_format,
    gather,
    is_copy,
    locate,
    match,
    overflows,
    unknown_names,
)
from .files import complete, write_text
from .parsing import expecting, nearest, read_bytes, read_json, shown

# in the values of a config
NOT_UNDERSTOOD = "keys that are not understood"
SPELLED = "keys of the values"  # field -> how the file calls it
MAX_NOT_UNDERSTOOD = 200
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
# kinds of values in a config, in words
_KINDS = {
    bool: "true or false",
    dict: "an object",
    int: "a whole number",
    list: "a list",
    str: "a name",
}
# the least and the most of numbers, where that is not 1 to 2**31 - 1 or, of fractions, 0 to 1e30
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
    """Everything that shapes a model. The defaults are BERT's.

    The first five have no default; the names are those of Google's `bert_config.json` where it
    has one.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    family: str = "bert"  # whose names its weights have in a checkpoint: a key of mappings.WEIGHTS
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
    sequence_length: int | None = None  # None: any
    hierarchical_position: bool | float | None = None
    custom_position_ids: bool = False
    shared_segment_embeddings: bool = False  # segment ids are looked up among the tokens
    pad_token_id: int = 0  # hidden from attention; -1: nothing is
    # how positions enter: "learned" vectors, "rotary" angles, "relative" vectors (NEZHA), a bias
    # for "buckets" of distances (T5)
    position: str = "learned"
    rotate_values: bool = False
    rotary_halves: bool = False  # which pairs are turned: see layers.rotate
    rotary_base: float = 10000.0
    relative_max_distance: int = 64
    relative_buckets: int = 32
    # blocks
    stacks: str = "one"  # "both": an encoder and a decoder; "encoder", "decoder": one of the two
    num_decoder_layers: int | None = None  # num_hidden_layers
    share_blocks: bool = False  # every block has the same weights
    norm: str = "layer"  # a key of layers.NORMS
    norm_at: str = "post"  # where, in layers.NORM_SLOTS
    first_norm: bool = True  # whether block 0, too, normalizes what its attention reads ("pre")
    norm_epsilon: float = 1e-12
    embedding_norm: bool = True
    embedding_projection: bool = False  # to the hidden size, even from vectors of that size
    final_norm: bool = False
    use_bias: bool = True
    gated: bool = False  # the feed-forward layer
    # attention
    attention: str = "full"  # a key of layers.ATTENTIONS
    num_landmarks: int = 64  # of "nystrom"
    attention_scale: bool = True
    attend: str = "all"
    residual_attention_scores: bool = False
    cross_position_bias: bool = False  # the position bias reaches a decoder's cross-attention
    # heads: False, True (the usual activation) or the name of an activation
    with_pool: bool | str = False
    with_nsp: bool | str = False
    with_lm: bool | str = False
    with_discriminator: bool | str = False
    lm_transform: bool = True  # a dense layer and a normalization before the scores of tokens
    lm_bias: bool = True
    tie_word_embeddings: bool = True  # the scores come from the token table
    scale_decoder_outputs: bool | str = False  # by hidden_size ** -0.5; "tied": before a tied head

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            _check(field, value, field.name)
            if isinstance(value, np.generic):
                object.__setattr__(self, field.name, value.item())
        if self.attention_head_size is None and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is no multiple of num_attention_heads="
                f"{self.num_attention_heads}: correct one of them or give attention_head_size."
            )
        if self.pad_token_id >= self.vocab_size:
            raise ValueError(
                f"pad_token_id={self.pad_token_id}: expected an id of the vocabulary, at most "
                f"{self.vocab_size - 1}, or -1 if there is none."
            )
        if self.with_lm and not self.lm_transform and self.token_size != self.hidden_size:
            raise ValueError(
                f"embedding_size={self.embedding_size}: a language-model head without lm_transform "
                f"needs token vectors of hidden_size={self.hidden_size}."
            )
        if self.attend == "unilm" and not (
            self.segment_vocab_size > 1 or self.shared_segment_embeddings
        ):
            raise ValueError(
                "application='unilm' tells source from target by the segment ids: it needs a "
                "segment_vocab_size of at least 2."
            )
        if self.stacks != "one" and self.attend != "all":
            raise ValueError(
                f"application={self.attend!r:.200} is for models of one stack; {self.family} has an "
                "encoder and a decoder, and writes without it."
            )
        size = self.head_size if self.position == "relative" else self.key_size
        if self.position in ("rotary", "relative") and size % 2:
            raise ValueError(
                f"position={self.position!r} is for pairs of entries: expected an even size of a "
                f"head, got {size}. Correct hidden_size, num_attention_heads, attention_head_size "
                "or attention_key_size."
            )
        values_have_positions = self.position == "relative" or (
            self.position == "rotary" and self.rotate_values and self.attention != "gau"
        )
        if values_have_positions and self.key_size != self.head_size:
            raise ValueError(
                f"attention_key_size={self.key_size}: in this model the values have positions, "
                f"too; expected the size of a head, {self.head_size}."
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
                f"attention={self.attention!r} is for {models} with absolute or rotary positions, "
                "without residual attention scores; this model is another: use attention='full'."
            )

    @property
    def head_size(self):
        return self.attention_head_size or self.hidden_size // self.num_attention_heads

    @property
    def key_size(self):
        return self.attention_key_size or self.head_size

    @property
    def token_size(self):
        return self.embedding_size or self.hidden_size

    @property
    def filler(self):
        """The id that fills up rows on the right; None: each id would be seen by other tokens."""
        if self.pad_token_id < 0 and self.attend != "lm":
            return None
        return max(self.pad_token_id, 0)

    @property
    def has_segments(self):
        return bool(self.segment_vocab_size or self.shared_segment_embeddings)

    @property
    def block_counts(self):
        """The number of blocks, for the counters of the tables in `mappings.py`."""
        return {"i": self.num_hidden_layers, "j": self.num_decoder_layers or self.num_hidden_layers}

    @property
    def fits_head_hf(self):
        """Whether transformers computes the head of tokens with the activation of the model."""
        fixed = self.family == "electra_generator" and self.with_lm
        return not fixed or self.hidden_act in ("gelu", "gelu_erf")

    @property
    def rescales(self):
        """Whether what a decoder gives is scaled by `hidden_size ** -0.5`."""
        if self.scale_decoder_outputs == "tied":
            return bool(self.with_lm) and self.tie_word_embeddings
        return self.scale_decoder_outputs

    @classmethod
    def from_values(cls, values, where="the options"):
        """A config from a dict that may hold more than a config; `where` names it in errors."""
        given = {name: value for name, value in values.items() if value is not None}
        for field in fields(cls):
            if field.name in given:
                _check(field, given[field.name], f"{where}: {key_of(values, field.name)}")
        missing = [f.name for f in fields(cls) if f.default is MISSING and f.name not in given]
        if missing:
            raise ValueError(
                f"{where}: no {', '.join(missing)}. Pass the checkpoint's own config file, or "
                "give these as options."
            )
        try:
            config = cls(**{f.name: given[f.name] for f in fields(cls) if f.name in given})
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        config._check_use(values, where)
        usual = {
            "embedding_size": config.hidden_size,
            "attention_head_size": config.hidden_size / config.num_attention_heads,
            "attention_key_size": config.head_size,
            "num_decoder_layers": config.num_hidden_layers,
        }
        said_twice = {name: None for name, value in usual.items() if given.get(name) == value}
        return replace(config, **said_twice)

    def _check_use(self, values, where):
        """Raises if the file that values were read from says that the model is used otherwise."""
        told = []
        if values.get("mask") in ("causal", "causal_with_prefix"):
            attend = "lm" if values["mask"] == "causal" else "unilm"
            told.append(("mask", values["mask"], attend))
        if self.stacks == "one" and values.get("is_decoder"):
            told.append(("is_decoder", "true", "lm"))
        for key, value, attend in told:
            if self.attend == "all":
                raise ValueError(
                    f"{where}: {key} is {value}, which means that a token sees only {_SEEN[attend]}; "
                    f"expected application={attend!r}, which computes that. Pass it, or take {key} "
                    "out of the file if it is wrong."
                )
        pooler, head = values.get("pooler_activation"), values.get("classifier_activation")
        has_tanh = self.with_pool is True or (self.with_nsp and not self.with_pool)
        if has_tanh and pooler not in (None, "tanh"):
            raise ValueError(
                f"{where}: pooler_activation is {shown(pooler)}, and tanh is built; expected the "
                "same. Pass it as with_pool=, or take it out of the file if it is wrong."
            )
        same = head in (self.hidden_act, mappings.ACTIVATIONS_HF.get(self.hidden_act))
        if self.family == "modernbert" and self.with_lm and head and not same:
            raise ValueError(
                f"{where}: classifier_activation is {shown(head)} (gelu where it is left out), and "
                f"{key_of(values, 'hidden_act')} is {shown(self.hidden_act)}; expected the same, as "
                "the head of tokens is computed no other way. Build the model without with_lm."
            )

    def to_json(self, format):
        """What a published config file of `format` (`"tf"` or `"hf"`) says of this model.

        Returns:
            A dict.

        Raises:
            ValueError: `"hf"`, and the graph is one that transformers does not know.
        """
        if callable(self.hidden_act):
            raise ValueError(
                f"hidden_act={shown(self.hidden_act)}: a config has no name for this function; "
                "expected a model whose activation has one. Save it with model.save('x.keras')."
            )
        row = ARCHITECTURES[self.family]
        shape = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _OF_USE}
        own = {
            f.name
            for f in fields(self)
            if f.name in shape and shape[f.name] != row.get(f.name, f.default)
        }
        if format == "tf":
            there, model_type = mappings.KEYS_TF, self.family
        elif self.family in mappings.HUGGING_FACE:
            model_type, _, there = mappings.HUGGING_FACE[self.family]
            del shape["gated"]  # told by the name of the activation
            shape["hidden_act"] = self._activation_hf(model_type)
            if not self.fits_head_hf:
                raise ValueError(
                    f"hidden_act={shown(self.hidden_act)}: the head of tokens of Hugging Face's "
                    "ELECTRA has gelu, whatever this is: use format='tf' or 'keras'."
                )
        else:
            raise ValueError(f"Hugging Face has no {self.family}: use format='tf' or 'keras'.")
        nameless = own - there.keys() - {"embedding_projection"}
        if self.intermediate_size == 4 * self.hidden_size:
            nameless -= {"intermediate_size"}  # what GPT's always is
        if self.position != "learned":
            nameless -= {"max_position"}
        if format == "hf" and nameless:
            raise ValueError(
                f"Hugging Face's {model_type} has no {', '.join(sorted(nameless))}: use "
                "format='tf' or 'keras'."
            )
        values = {"model_type": model_type}
        if self.pad_token_id != row.get("pad_token_id", 0):
            values[mappings.HIDDEN_TOKEN] = self.pad_token_id
        if self.family == "modernbert":
            values["global_attn_every_n_layers"] = 1
        values |= {there[name]: shape[name] for name in shape if name in there}
        if format == "tf":
            return values | {name: shape[name] for name in own if name not in there}
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
                    "Hugging Face's mt5 has no scale_decoder_outputs=True: use format='tf' or 'keras'."
                )
        if model_type == "modernbert":
            values["embedding_dropout"] = values["mlp_dropout"]
            values["local_rope_theta"] = self.rotary_base
            values["classifier_activation"] = values["hidden_activation"]
        if "resid_pdrop" in values:
            values["embd_pdrop"] = values["resid_pdrop"]
        if "embedding_size" in there:
            values["embedding_size"] = self.token_size
        if self.pad_token_id >= 0:
            values["pad_token_id"] = self.pad_token_id
        return {key: value for key, value in values.items() if value is not None}

    def _activation_hf(self, model_type):
        """Hugging Face's name of the activation, in the key that the family has for it."""
        name = mappings.ACTIVATIONS_HF.get(self.hidden_act, self.hidden_act)
        of_gpt = model_type == "openai-gpt"
        if name not in (mappings.GPT_KNOWS if of_gpt else mappings.TRANSFORMERS_KNOWS):
            raise ValueError(
                f"Hugging Face's {model_type} has no hidden_act={shown(self.hidden_act)}: use "
                "format='tf' or 'keras'."
            )
        said = {"openai-gpt": {"gelu_new": "gelu"}, "t5": {}, "mt5": {}}.get(model_type)
        if said is None:
            return name
        if name == "gelu" and (self.gated or of_gpt):
            raise ValueError(
                f"Hugging Face's {model_type} has the tanh form of gelu, this model the exact one: "
                "use format='tf' or 'keras'."
            )
        if self.gated:
            return "gated-" + name.removesuffix("_new")
        return said.get(name, name)


_FIELDS = {field.name: field for field in fields(Config)}


def key_of(values, name):
    """What the file that values were read from calls a field; its name, if the value is no file's."""
    key, told = values.get(SPELLED, {}).get(name, (name, None))
    return key if told is not None and values.get(name) is told else name


def under_our_names(options):
    """Options under the names of fields, and field -> what it was called here, and the value."""
    ours, spelled = {}, {}
    for key, value in options.items():
        name = mappings.CONFIG_KEYS.get(key, key)
        if name in ours:
            raise TypeError(f"{spelled[name][0]} and {key} are both the {name}. Pass one of them.")
        ours[name], spelled[name] = value, (key, value)
    return ours, spelled


def _check(field, value, name):
    """Raises unless a field of `Config`, which is to be called `name`, can have a value."""
    if expected := _expected(field, value):
        raise ValueError(f"{name} is {value!r:.200}; expected {expected}.")


def _expected(field, value):
    """What a field of `Config` expects, in words, if a value is not that; else None."""
    name, types = field.name, get_args(field.type) or (field.type,)
    if name in CHOICES:
        expected = f"one of {', '.join(map(str, CHOICES[name]))}"
        return None if _is_one_of(value, CHOICES[name]) else expected
    if (type(None) in types and value is None) or (bool in types and isinstance(value, bool)):
        return None
    for kind, what, least, most in (
        (int, "an integer", 1, 2**31 - 1),
        (float, "a number", 0, 1e30),
    ):
        if kind in types:
            least, most = _RANGES.get(name, (least, most))
            number = numbers.Integral if kind is int else numbers.Real
            fits = isinstance(value, number) and not isinstance(value, bool)
            return None if fits and least <= value <= most else f"{what} from {least} to {most}"
    if types == (bool,):
        return "True or False"
    flag = "True, False, " if bool in types else ""
    named = isinstance(value, str) or (callable(value) and hasattr(value, "__name__"))
    return None if named else f"{flag}a name or a function"


def _is_one_of(value, choices):
    """Whether a value is one of several, of the same type: `1` is not `True`."""
    return any(type(value) is type(choice) and value == choice for choice in choices)


def _unfit(value, only):
    """What is wrong with a value of `mappings.CONFIG_ONLY`, in words, or None."""
    kind = isinstance(only, type)
    if value is None or (type(value) is only if kind else _is_one_of(value, only)):
        return None
    if kind:
        return f"expected {_KINDS[only]}"
    return f"here only {only or 'nothing'} is computed. Another value is another architecture"


# what a token sees with an application, in words
_SEEN = {"lm": "what came before", "unilm": "the first text and what came before"}

# keys of `mappings.CONFIG_ONLY` that are held against the model once it is known
_OF_THE_MODEL = (
    "model_type",
    "architectures",
    "is_decoder",
    "mask",
    "pooler_activation",
    "classifier_activation",
)

# keys that tell one family from others: the value, the family, and the model_type that may stand there
_TELLS = {
    "norm_type": ("rms_norm", "roformer_v2", "roformer"),  # JunnyYu's RoFormerV2
    "use_relative_position": (True, "nezha", "bert"),
}

# fields that say how a model is used, not what it is
_OF_USE = {
    "family", "attend", "custom_position_ids", "sequence_length", "stacks", "attention",
    "num_landmarks", "with_pool", "with_nsp", "with_lm", "with_discriminator", "pad_token_id",
    "shared_segment_embeddings",
}  # fmt: skip

# fields that change no prediction
_OF_TRAINING = {"dropout_rate", "attention_dropout_rate", "initializer_range"}

# what "gelu" may mean in a config that says no model_type
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

# Each family as its differences from BERT.
ARCHITECTURES = {
    "bert": {},
    "roberta": {},
    "albert": {"family": "albert", "share_blocks": True, "hidden_act": "gelu_tanh"},
    "albert_unshared": {"family": "albert_unshared", "hidden_act": "gelu_tanh"},
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
# As in bert4keras, a model that writes has its language-model head unless told otherwise.
APPLICATIONS = {
    "encoder": {},
    "lm": {"attend": "lm", "with_lm": True},
    "unilm": {"attend": "unilm", "with_lm": True},
}


def read_config(path):
    """The values of a published config file, under our names.

    Args:
        path: of a JSON file, as Google, Hugging Face, bert4keras, OpenAI or UER write it.

    Returns:
        A dict; `"model_type"` is left in it if it was there. Under `NOT_UNDERSTOOD`, if there are
        any, the keys that may change the architecture, with their values: see `judge`.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it is no JSON object, or a key
            has a value that changes the architecture in a way that is not known here.
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


_SEVERAL_KINDS = ("with_lm",)  # `with_mlm` may be true, and `final_activation` say which


def translate(raw, where="the config"):
    """Published keys and values to ours; see `read_config`."""
    values, spelled, not_understood = {}, {}, {}
    for key, value in raw.items():
        name = mappings.CONFIG_KEYS.get(key, key)
        if key == "pad_token_id" and raw.get("model_type") != "modernbert":
            continue  # often wrong: HFL's configs say 1, the vocabulary 0; see HIDDEN_TOKEN
        of_modernbert = raw.get("model_type") == "modernbert" and raw.get("norm_eps") is not None
        if key == "layer_norm_eps" and of_modernbert:
            continue  # in early configs, with a value that nothing reads
        if key in mappings.CONFIG_ONLY:
            if unfit := _unfit(value, mappings.CONFIG_ONLY[key]):
                raise ValueError(f"{where}: {key} is {shown(value)}; {unfit}.")
        elif name in _FIELDS:
            if value is not None and not (name == "hidden_act" and isinstance(value, list)):
                _check(_FIELDS[name], value, f"{where}: {key}")
            if values.get(name) is None:
                values[name], spelled[name] = value, (key, value)
            elif value not in (None, values[name]) and name not in _SEVERAL_KINDS:
                raise ValueError(
                    f"{where}: {spelled[name][0]} is {values[name]!r:.200}, and {key} is"
                    f" {value!r:.200}; expected the same, as both are the {name}. Take the wrong one"
                    " out of the file."
                )
        elif value and not re.fullmatch(mappings.CONFIG_NOTES, key, re.DOTALL):
            not_understood[key] = value
    values = {name: value for name, value in values.items() if value is not None}
    if len(not_understood) > MAX_NOT_UNDERSTOOD:
        raise ValueError(
            f"{where}: {len(not_understood)} keys are not understood, such as"
            f" {next(iter(not_understood))!r:.200}; expected the config of a model."
        )
    if not_understood:
        values[NOT_UNDERSTOOD] = not_understood
    values[SPELLED] = spelled
    if isinstance(raw.get("n_embd"), int) and "intermediate_size" not in values:
        values["intermediate_size"] = 4 * raw["n_embd"]  # GPT-2's n_inner: null
    if raw.get("n_ctx") is not None:
        _check(_FIELDS["max_position"], raw["n_ctx"], f"{where}: n_ctx")
        values.setdefault("max_position", raw["n_ctx"])
    if "emb_size" in raw and "hidden_size" not in values:
        values["hidden_size"] = raw["emb_size"]
    try:
        _translate_activation(raw, values)
        _translate_kinds_of_layers(raw, values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    values |= {key: raw[key] for key in _OF_THE_MODEL if raw.get(key)}
    if raw.get("model_type") == "modernbert" and raw.get("hidden_activation"):
        values.setdefault("classifier_activation", "gelu")  # as transformers has it
    if raw.get("model_type") in ("t5", "mt5"):
        # transformers 5 keeps the old meaning of the tie flag in the second key
        tied = values.pop("tie_word_embeddings", True)
        if raw["model_type"] == "mt5":
            values["scale_decoder_outputs"] = False
        else:
            values.setdefault("scale_decoder_outputs", tied)
        values.setdefault("num_decoder_layers", values.get("num_hidden_layers"))
    elif raw.get("is_encoder_decoder"):
        raise ValueError(
            f"{where}: is_encoder_decoder is true, but model_type={raw.get('model_type')!r:.200} is "
            "none of t5, mt5: no such model is known here."
        )
    for key, (value, family, vague) in _TELLS.items():
        model_type = values.get("model_type")
        if raw.get(key) == value and model_type in (None, vague):
            values["model_type"] = family
        elif (
            raw.get(key) is not None
            and model_type in {*mappings.MODEL_TYPES, *mappings.WEIGHTS}
            and (raw[key] == value) != (model_type == family)
        ):
            raise ValueError(
                f"{where}: {key} is {shown(raw[key])}, and model_type is {model_type!r}; expected "
                f"{shown(value)} for {family} alone. Take the wrong one out of the file."
            )
    return values


def judge(values, where, names=(), all_known=False):
    """Decides on the keys of a config that are not understood.

    Args:
        values: from `read_config`; the keys are taken out.
        where: the config, in messages.
        names: of the weights.
        all_known: whether each of them has a place in the model.

    Returns:
        Sentences: keys that people left in a config, where the weights say that the architecture
        is known.

    Raises:
        ValueError: a key that may change the architecture.
    """
    ours = [*(f.name for f in fields(Config)), *mappings.CONFIG_KEYS]
    parts, said = {part for name in names for part in re.split("[./]", name)}, []
    for key, value in values.pop(NOT_UNDERSTOOD, {}).items():
        what = f"the key {shown(key)} (value {shown(value)}) is not understood"
        near = nearest(key, ours)
        shapes = (
            re.fullmatch(mappings.CONFIG_GEOMETRY, key, re.DOTALL)
            or nearest(key, near, cutoff=0.9)
            or key in parts
        )
        if all_known and not shapes:
            said.append(f"{what}; all weights have their place without it, so it is passed over.")
            continue
        raise ValueError(
            f"{where}: {what}, and "
            + ("is part of the architecture" if shapes else "may change the architecture")
            + (f"; is {near[0]!r:.200} meant?" if near else ".")
            + ("" if shapes else " If it does not, take it out of the file.")
        )
    return said


def gate_of(activation, name="hidden_act"):
    """bert4keras' `["gelu", "linear"]` for a gated layer, as fields of `Config`; or nothing."""
    if not isinstance(activation, (list, tuple)):
        return {}
    match activation:
        case [str() as name]:
            return {"hidden_act": name, "gated": False}
        case [str() as name, "linear"]:
            return {"hidden_act": name, "gated": True}
    raise ValueError(
        f"{name} is {activation!r:.200}; expected a name, or a list of one and 'linear' for a gate."
    )


def _translate_activation(raw, values):
    """T5's and UER's keys for it, bert4keras' list, the tanh of GPT's "gelu"."""
    values.update(gate_of(values.get("hidden_act"), key_of(values, "hidden_act")))
    for key, told in _told_of_feed_forward(raw):
        for name, value in told.items():
            if values.setdefault(name, value) != value:
                raise ValueError(
                    f"{key} is {shown(raw[key])}, which means {name}={value!r:.200}, and another key"
                    f" {values[name]!r:.200}; expected the same. Take the wrong one out of the file."
                )
    if raw.get("afn") == "gelu" or raw.get("hidden_act") == "gelu_fast":
        values["hidden_act"] = "gelu_tanh"


def _told_of_feed_forward(raw):
    """The keys of T5 and UER, and what they mean: `(key, fields of Config)`."""
    for key in ("feed_forward_proj", "feed_forward"):
        if raw.get(key) not in (None, "dense"):
            gate, _, act = raw[key].rpartition("-")
            if not act or gate not in ("", "gated"):
                raise ValueError(f"{key} is {shown(raw[key])}; expected e.g. 'gated-gelu'.")
            if act == "gated":  # UER's
                yield key, {"gated": True}
            else:
                act = "gelu_new" if raw[key] == "gated-gelu" else act
                yield key, {"gated": bool(gate), "hidden_act": act}
    for key, name in (("is_gated_act", "gated"), ("dense_act_fn", "hidden_act")):
        if raw.get(key) is not None:
            yield key, {name: raw[key]}


def _translate_kinds_of_layers(raw, values):
    """transformers' `layer_types`, and its `rope_parameters` for each of them."""
    full, kinds = "full_attention", raw.get("layer_types")
    if kinds is not None and not (isinstance(kinds, list) and all(kind == full for kind in kinds)):
        raise ValueError(f"layer_types is {kinds!r:.200}; here only {full!r} is computed.")
    said = raw.keys() & {"layer_types", "global_attn_every_n_layers"}
    if raw.get("model_type") == "modernbert" and not said:
        raise ValueError(
            "global_attn_every_n_layers is left out, which means 3: two of three layers see 128 "
            "tokens only; here only full attention, 1, is computed."
        )
    rope = raw.get("rope_parameters") or {}
    if full in rope and rope.keys() <= {full, "sliding_attention"}:
        rope = rope[full]
    if not isinstance(rope, dict) or not all(map(_is_plain_rope, rope.keys(), rope.values())):
        raise ValueError(
            f"rope_parameters is {shown(raw['rope_parameters'])}; expected an object with rope_theta, "
            "and rope_type 'default': no other is computed here."
        )
    base = rope.get("rope_theta")
    if base is not None and values.setdefault("rotary_base", base) != base:
        raise ValueError(
            f"rope_theta of rope_parameters is {shown(base)}, and {key_of(values, 'rotary_base')} is "
            f"{values['rotary_base']!r:.200}; expected the same. Take the wrong one out of the file."
        )


def _is_plain_rope(key, value):
    """Whether a key of `rope_parameters` says nothing that is not computed."""
    if key == "rope_theta":
        return value is None or not _expected(_FIELDS["rotary_base"], value)
    return key in mappings.ROPE_ONLY and (
        value is None or _is_one_of(value, mappings.ROPE_ONLY[key])
    )


# ---------------------------------------------------------------- reading a family off its files


def recognize(values, names=()):
    """The family of a checkpoint, by its config and the names of its weights.

    Args:
        values: from `read_config`.
        names: of the arrays; empty: the config alone decides.

    Returns:
        A key of `ARCHITECTURES`.

    Raises:
        ValueError: config and names contradict each other, or do not suffice.
    """
    model_type = values.get("model_type")
    allowed = mappings.MODEL_TYPES.get(model_type)
    if model_type in mappings.WEIGHTS and model_type not in mappings.MODEL_TYPES:
        allowed = [model_type]
    if model_type and not allowed:
        raise ValueError(
            f"model_type is {model_type!r:.200}; known are "
            f"{', '.join(sorted({*mappings.MODEL_TYPES, *mappings.WEIGHTS}))}. If the graph is one "
            "of these, name it with model=."
        )
    found = families_of(names)
    if not model_type and (sign := _foreign(values, names, found)):
        raise ValueError(
            f"{sign}, whose graph is another one than BERT's or GPT-2's; expected a model_type that is "
            "known. If the graph is nevertheless one of these, name it with model=."
        )
    if not names:
        return allowed[0] if allowed else "bert"
    family = _by_names(allowed, found, model_type)
    if ARCHITECTURES[family].get("stacks") == "both":
        if not any(re.match(r"decoder[./]", name) for name in names):
            return f"{family}_encoder"
        if not any(re.match(r"encoder[./]", name) for name in names):
            return f"{family}_decoder"
    return family


def _foreign(values, names, found):
    """A sign that a model is one of `mappings.FOREIGN`, in words, or None."""
    for name in map(str, values.get("architectures", ())):
        if re.fullmatch(mappings.FOREIGN_CLASS, name):
            return f"architectures has {shown(name)}"
    for name in names:
        prefix, dot, _ = name.partition(".")
        if not found and dot and re.fullmatch(mappings.FOREIGN, prefix.replace("_", "").lower()):
            return f"the names of the weights begin with {prefix!r}"
        if re.fullmatch(mappings.FOREIGN_HEAD, name, re.DOTALL):
            return f"{shown(name)} is the head of a RoBERTa"
    return None


def _by_names(allowed, found, model_type):
    """The family that the config allows (None: any) and the names have."""
    if not found:
        return allowed[0] if allowed else "bert"
    if allowed is None:
        if len(found) > 1 and found[0] == "nezha":
            raise ValueError(
                f"the names of the weights fit {' and '.join(found)} alike, and the config does "
                f"not say which: pass model={found[0]!r:.200} or model={found[1]!r:.200}."
            )
        return found[0]
    both = [family for family in allowed if family in found]
    if not both:
        raise ValueError(
            f"the config says model_type={model_type!r:.200}, but the names of the weights are those "
            f"of {' or '.join(found)}: one of the two files belongs elsewhere. If you know "
            "better, pass model=."
        )
    return both[0]


def families_of(names):
    """The families that have such names, the likeliest first."""
    plain = [n for n in names if not any(re.match(p, n) for p in mappings.SKIPPABLE)]
    for pattern, absent, families in mappings.FINGERPRINTS:
        if any(re.match(pattern, n) for n in plain):
            body = [n for n in plain if not n.startswith("cls")]
            if absent is None or not any(re.match(absent, n) for n in body):
                return families
    return []


def settle(family, values, checkpoint=None):
    """Config values as the family and the file mean them, and sentences on what was decided.

    Files in bert4keras' form say "gelu" where the published weights were trained with the tanh
    form.
    """
    dialect = getattr(checkpoint, "dialect", None)
    outdated = dialect.outdated if dialect else ()
    values = {name: value for name, value in values.items() if name not in outdated}
    model_type = values.pop("model_type", None)
    base = family.removesuffix("_encoder").removesuffix("_decoder")
    tanh = base in ("albert", "albert_unshared", "gpt", "gpt2", "t5.1.1", "mt5.1.1")
    says_exactly = model_type in {*mappings.MODEL_TYPES, *mappings.WEIGHTS}
    if tanh and not says_exactly and values.get("hidden_act") == "gelu":
        values["hidden_act"] = "gelu_tanh"
        return values, [
            f"hidden_act is 'gelu', which published {family} weights mean as the tanh form: that "
            "is used. Pass hidden_act='gelu_erf' for the exact one (bert4keras' default), or "
            "hidden_act='gelu_tanh' to say so yourself."
        ]
    return values, []


# where a variable's shape tells a field: the end of its path, the axis, the field
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


def read_off(checkpoint, family, values):
    """What the arrays of a checkpoint say that the config does not.

    Args:
        checkpoint: mapping name -> array.
        family: a key of `ARCHITECTURES`.
        values: from `read_config`; what is in them is not read off.

    Returns:
        A dict of fields of `Config`.

    Raises:
        CheckpointError: one of the arrays is no matrix.
    """
    row = ARCHITECTURES[family]
    table = mappings.WEIGHTS[row.get("family", "bert")]
    located, counts = locate(checkpoint, table, mappings.ROLES)
    found = {}

    def size(end, axis):
        """The length of an axis of the first variable whose path ends so, or None."""
        place = next((place for path, place in located.items() if path.endswith(end)), None)
        if place is not None and len(place.shape) < 2:
            raise CheckpointError(
                f"{getattr(checkpoint, 'path', 'the checkpoint')}: {place.name!r:.200}: expected two "
                f"axes, got the shape {place.stored}. Get or copy the file again."
            )
        return place and int(place.shape[axis])

    for end, axis, name in _MEASURES:
        if (length := size(end, axis)) is not None:
            found[name] = length
    if row.get("position", "learned") == "learned" and "segment_vocab_size" not in found:
        found["segment_vocab_size"] = 0
    if found.get("embedding_size") == found.get("hidden_size"):
        found.pop("embedding_size", None)
        found["embedding_projection"] = "embedding_projection/kernel" in located
    if getattr(checkpoint, "num_heads", None):
        found["num_attention_heads"] = checkpoint.num_heads
    if counts.get("i"):
        found["num_hidden_layers"] = counts["i"]
    if counts.get("j"):
        found["num_decoder_layers"] = counts["j"]
    if row.get("attention") == "gau":
        inner = size("block_0/attention/output/kernel", 0)
        found |= {} if inner is None else {"intermediate_size": inner}
    if row.get("stacks"):
        found["gated"] = any(path.endswith("ffn/gate/kernel") for path in located)
        heads, query = size("relative_bias/embeddings", 1), size("attention/query/kernel", 1)
        if heads and query:
            found |= {"num_attention_heads": heads, "attention_head_size": query // heads}
    found = {name: value for name, value in found.items() if name not in values or name == "gated"}
    half = row.get("stacks") and not counts.get("j")  # an encoder, without the head
    if not half and (head := _own_head(checkpoint, table)) is not None:
        found["tie_word_embeddings"] = not head
    return found


def without_place(checkpoint, row):
    """The names of a checkpoint that a family has no variable for, and that mean nothing else.

    Args:
        row: of `ARCHITECTURES`.
    """
    table = mappings.WEIGHTS[row.get("family", "bert")]
    known = [*mappings.SKIPPABLE, *mappings.COPIES, *mappings.TIED_HEADS]
    return unknown_names(checkpoint, table, mappings.ROLES, known)


def refuse_roberta(values, where):
    """Raises if a model has the sizes of RoBERTa's own graph, which counts positions from 2.

    Args:
        values: of the config, and what was read off the weights.
        where: the config, in messages.
    """
    positions, segments = values.get("max_position", 0), values.get("segment_vocab_size")
    counted = isinstance(positions, numbers.Integral)  # else it is an error of its own
    if segments == 1 and counted and positions > 2 and (positions - 2) & (positions - 3) == 0:
        raise ValueError(
            f"{where}: {positions} positions and 1 segment are the sizes of RoBERTa's own graph, "
            "which counts positions from 2 and is not built here. (The Chinese RoBERTa of HFL and "
            "others is a BERT of 512 positions and 2 segments.)"
        )


def _own_head(checkpoint, table):
    """Whether there is a head apart from the token table; None if the family always ties."""
    names = {role: there for role, _, *there in table if role in ("tokens", "tokens_out")}
    endings = ["", ".weight", "/kernel"]

    def stored(role):
        spelled = [
            n
            for there in names[role]
            for n in ((there,) if isinstance(there, str) else there or ())
        ]
        return next((n + e for n in spelled for e in endings if n + e in checkpoint), None)

    if "tokens_out" not in names:
        return None
    head, tokens = stored("tokens_out"), stored("tokens")
    if head is None or tokens is None:
        return False
    return not is_copy(checkpoint, head, tokens)


def cautions(family, values, checkpoint):
    """Sentences on what is ambiguous in these files, and what to do about it.

    Args:
        family: a key of `ARCHITECTURES`.
        values: of the config that is built.
        checkpoint: mapping name -> array, in the names of the tables.
    """
    names = set(checkpoint)
    said = []
    if family == "gpt" and values.get("vocab_size") == 13088:
        said.append(
            "CDial's vocabulary comes in two orders: Hugging Face's has [CLS] in row 0 and [PAD] "
            "in row 1, that for bert4keras has them swapped. Use the vocab.txt that came with "
            "these weights."
        )
    if family.startswith(("mt5.1.1", "t5.1.1")) and values.get("vocab_size") == 50000:
        said.append(
            "a vocabulary of 50000 is T5-PEGASUS', which has the names of mT5 but computes "
            "otherwise: if it is, pass model='t5_pegasus'."
        )
    if values.get("with_lm") and _untrained_head(checkpoint, names):
        said.append(
            "cls/predictions looks never trained (its normalization is exactly 1 and 0): some "
            "publishers put random numbers there. Fine-tune before you trust the MLM head, or "
            "take another checkpoint."
        )
    return said


def _untrained_head(checkpoint, names):
    for gamma, beta in (
        ("cls/predictions/transform/LayerNorm/gamma", "cls/predictions/transform/LayerNorm/beta"),
        ("cls.predictions.transform.LayerNorm.weight", "cls.predictions.transform.LayerNorm.bias"),
        ("cls.predictions.transform.LayerNorm.gamma", "cls.predictions.transform.LayerNorm.beta"),
    ):
        if gamma in names and beta in names:
            return bool(np.all(checkpoint[gamma] == 1) and np.all(checkpoint[beta] == 0))
    return False


def find_files(config_path, checkpoint_path):
    """Where the config and the checkpoint are, given one or both or a directory of both.

    Returns:
        The values of the config, the checkpoint (a path, a mapping or None), and the place of the
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
                f"{config_path}: no bert_config.json or config.json in this directory."
            )
        return _of_directory(path), checkpoint_path, str(path)
    return read_config(path), checkpoint_path, str(path)


def _of_directory(path):
    """The values of the config of a directory: `config.json` and `bert_config.json` shape one model."""
    values, other = read_config(path), path.with_name("config.json")
    if path.name != "bert_config.json" or not other.is_file():
        return values
    others = read_config(other)
    for name in sorted(_FIELDS.keys() & values.keys() & others.keys() - _OF_USE - _OF_TRAINING):
        pair = [values[name], others[name]]
        vague = name == "hidden_act" and "model_type" not in values  # see `settle`
        if pair[0] != pair[1] and not (vague and all(act in _GELUS for act in pair)):
            raise ValueError(
                f"{path}: {key_of(values, name)} is {shown(values[name])}, and "
                f"{key_of(others, name)} of {other.name} is {shown(others[name])}; expected the same. "
                "Delete the file that does not belong to the weights, or name the other."
            )
    return values


def config_in(directory):
    """The config file of a directory, or None."""
    directory = Path(directory)
    complete(directory)
    names = ["bert_config.json", "config.json", "hparams.json"]
    names += sorted(path.name for path in directory.glob("*config*.json"))
    unwanted = ("tokenizer_config.json", "generation_config.json", ADAPTER)
    return next(
        (directory / n for n in names if n not in unwanted and (directory / n).is_file()), None
    )


def warn(sentences, where):
    """Warns in the line of whoever called this package."""
    level, frame, package = 1, sys._getframe(), __name__.partition(".")[0]
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        level, frame = level + 1, frame.f_back
    for sentence in sentences:
        warnings.warn(f"{where}: {sentence}", stacklevel=level)


def check_vocabulary(directory, config):
    """Raises if the `vocab.txt` beside a checkpoint has more tokens than the model has rows.

    Warns if its padding is another id than the one that the model hides.
    """
    lines = _vocabulary_lines(directory)
    if lines is not None:
        file, count = Path(directory) / "vocab.txt", lines.count(b"\n") - 1
        if count > config.vocab_size:
            raise ValueError(
                f"{file} has {count} tokens, but the model has {config.vocab_size} rows for them: "
                "one of the two belongs to another checkpoint."
            )
        padding = _padding_of(lines)
        if padding is not None and config.pad_token_id not in (-1, padding):
            said = (
                f"[PAD] has the id {padding}, but the model hides {config.pad_token_id} from "
                f"attention: build it with pad_token_id={padding}, and fill up batches with that id."
            )
            warn([said], file)


def moved_padding(directory, pad_token_id, keep_tokens):
    """The id of padding among the rows of `keep_tokens`, and what to warn of, as a list.

    It is that of `[PAD]` in the `vocab.txt` of the directory, else `pad_token_id`; -1 stays.
    """
    if expected_number(pad_token_id, 0, 2**31 - 1):
        return pad_token_id, []
    lines, kept = _vocabulary_lines(directory), [*keep_tokens]
    padding = None if lines is None else _padding_of(lines)
    padding = pad_token_id if padding is None else padding
    if padding not in kept:
        said = (
            f"keep_tokens leaves out row {padding}, the padding: the model hides no id from "
            "attention. Keep it, or pass pad_token_id=, the id that fills up batches."
        )
        return -1, [said]
    place = kept.index(padding)
    said = (
        f"keep_tokens makes row {padding}, the padding, row {place}: the model hides that id from "
        f"attention. Fill up batches with it, and pass pad_token_id={place} to say so."
    )
    return place, [said] * (place != pad_token_id)


def _vocabulary_lines(directory):
    """The `vocab.txt` of a directory as bytes, with `"\\n"` around each line; None: there is none."""
    file = Path(directory) / "vocab.txt" if isinstance(directory, (str, Path)) else None
    if file is None or not file.is_file():
        return None
    return b"\n" + read_bytes(file).rstrip(b"\r\n").replace(b"\r\n", b"\n") + b"\n"


def _padding_of(lines):
    """The id of `[PAD]` in what `_vocabulary_lines` gives; None: it is not there."""
    place = lines.find(b"\n[PAD]\n")
    return None if place < 0 else lines.count(b"\n", 0, place)


def check_adapter(directory):
    """Warns if the directory of a checkpoint has an adapter, too, with which others load it."""
    file = Path(directory) / ADAPTER if isinstance(directory, (str, Path)) else None
    if file and file.exists():
        said = (
            "the adapter that it describes is left out, and transformers would add it to the "
            "weights: merge it into them (merge_and_unload of peft), or remove it."
        )
        warn([said], file)


def contradiction(model, values, where):
    """Raises if a config names another family than the one asked for."""
    model_type = values.get("model_type")
    if model_type not in {*mappings.MODEL_TYPES, *mappings.WEIGHTS}:
        return  # none, or one that is not known here: then model= decides
    base = model.removesuffix("_encoder").removesuffix("_decoder")
    allowed = mappings.MODEL_TYPES.get(model_type, [model_type])
    if base == "roberta":
        base = "bert"
    if base not in allowed:
        raise ValueError(
            f"{where}: model_type is {model_type!r:.200}, but model={model!r:.200} was asked for. Leave "
            "model= out, or take model_type out of the file if it is wrong."
        )


# which layers a head has, and the option that builds it
_HEAD_LAYERS = {
    "pooler": "with_pool",
    "nsp": "with_nsp",
    "discriminator_dense": "with_discriminator",
    "lm_dense": "with_lm",
    "lm_bias": "with_lm",
    "lm_activation": "with_lm",
}


HEADS = ("with_pool", "with_nsp", "with_lm", "with_discriminator")
# the option that builds a model without a layer
WITHOUT = {layer: f"{option}=False" for layer, option in _HEAD_LAYERS.items()} | {
    "lm_norm": "with_lm=False",
    "lm_head": "with_lm=False",
    "discriminator_prediction": "with_discriminator=False",
    "segment_embedding": "segment_vocab_size=0",
}


def heads_among(names):
    """The options that build the heads found among names of layers (or paths of variables)."""
    layers = {name.split("/")[0] for name in names}
    heads = {option: True for layer, option in _HEAD_LAYERS.items() if layer in layers}
    if "with_nsp" in heads:
        heads.pop("with_pool", None)
    return heads


def match_weights(variables, checkpoint, config, where, **options):
    """Pairs the variables of a model with the arrays of a checkpoint: see `matching.match`.

    Args:
        variables: path -> shape.
        checkpoint: mapping name -> array, in the names of the tables.
        config: the `Config` of the model.
        where: the checkpoint, in messages.
        **options: of `match`.

    Raises:
        CheckpointError: they do not fit, or have another number of heads.
    """
    c, heads = config, getattr(checkpoint, "num_heads", None)
    if heads not in (None, c.num_attention_heads):
        raise CheckpointError(
            f"{where}: its arrays have an axis for {heads} heads, and the model has "
            f"num_attention_heads={c.num_attention_heads}; expected the same. Correct the "
            "config or the option."
        )
    if not c.fits_head_hf and detect_format(checkpoint) == "hf":
        raise CheckpointError(
            f"{where}: hidden_act={shown(c.hidden_act)}, and the head of tokens of Hugging Face's "
            "ELECTRA has gelu; expected the same, as it is computed no other way. Build the model "
            "without with_lm."
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


def advice(config, checkpoint, chosen=()):
    """What to say of a checkpoint that does not fit a model: whose it seems, or which sizes differ.

    Sizes that are `chosen` differ on purpose.
    """
    c = config
    families = families_of(checkpoint)
    mine = {name for name, row in ARCHITECTURES.items() if row.get("family") == c.family}
    mine.add(c.family)
    if families and not mine & {*families}:
        return f"\nThe names look like those of model={families[0]!r}."
    measured = read_off(checkpoint, c.family, {})
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
        f"\nThe weights are those of a model with {weights}; this one has {model}: correct the "
        "config or the options, or take the weights that belong to them."
    )


class _Lazy(Mapping):
    """name -> array, made when it is asked for, in a dtype of choice."""

    def __init__(self, functions, dtype, progress):
        self.functions, self.dtype, self.progress = functions, dtype, progress

    def __getitem__(self, name):
        array = np.asarray(self.functions[name]())
        if self.dtype is None:
            return array
        if overflows(array, self.dtype):
            raise CheckpointError(
                f"dtype={np.dtype(self.dtype)}: {name!r:.200} has numbers of dtype {array.dtype} that "
                "are infinite in it; expected a wider one. Choose another dtype, or none."
            )
        return array.astype(self.dtype)

    def __iter__(self):
        return iter(self.progress(self.functions))

    def __len__(self):
        return len(self.functions)


def file_names(config, format):
    """What the weights and the config of a checkpoint are called, `(weights, config)`.

    For `"tf"` those are the names that Google and everybody after it use.
    """
    of_bert = "bert/" in (mappings.WEIGHTS[config.family][0][2] or "")
    stem = "bert_" if format == "tf" and of_bert else ""
    weights = {"tf": f"{stem}model.ckpt", "hf": "model.safetensors", "keras": "model.keras"}[format]
    return weights, f"{stem}config.json"


def write(directory, config, format, arrays, dtype=None, progress=iter):
    """Writes weights and config as others read them, together: see `files.saving`.

    Args:
        directory: is made if missing.
        config: a `Config`.
        format: `"tf"` or `"hf"`.
        arrays: mapping path (as in `mappings.py`) -> array; may be lazy.
        dtype: of what is written; None: as it is.
        progress: wraps the iteration over the arrays.

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
            # transformers has a projection there even where it has nothing to do
            functions |= gather(
                {
                    "embedding_projection/kernel": np.eye(config.hidden_size, dtype="float32"),
                    "embedding_projection/bias": np.zeros(config.hidden_size, "float32"),
                },
                *(table, mappings.ROLES, format, config.block_counts),
            )
        functions |= _bias_of_head(arrays, functions, table)
        _, (bare, with_lm, with_all), _ = mappings.HUGGING_FACE[config.family]
        heads = heads_among(arrays)
        decodes = any(path.startswith("decoder_") for path in arrays)
        some = with_lm if "with_lm" in heads or config.with_lm or decodes else bare
        every = heads.keys() & {"with_nsp", "with_discriminator"}
        values["architectures"] = [with_all if every else some]
    kind = "safetensors" if format == "hf" else "tf"
    with saving_checkpoint(directory) as stage:
        save_checkpoint(stage / weights_name, _Lazy(functions, dtype, progress), kind)
        write_config(stage / config_name, values)


def _bias_of_head(arrays, functions, table):
    """The bias of a head of its own, under the name by which transformers reads it there."""
    names = {here: hf for _, here, _, hf in table}
    if not {"lm_head/embeddings", "lm_bias/beta"} <= arrays.keys():
        return {}
    return {f"{names['lm_head']}.bias": functions[f"{names['lm_bias']}.bias"]}


def write_config(path, values):
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
