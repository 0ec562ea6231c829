"""Config files and directories as they are published: finding, reading, translating them."""

import json
import re
import sys
import warnings
from collections.abc import Mapping
from dataclasses import fields
from os.path import lexists
from pathlib import Path

from .. import mappings
from ..arguments import expected_number
from ..checkpoints.matching import MOST_BLOCKS
from ..files import complete, write_text
from ..parsing import expecting, nearest, read_bytes, read_json, shown
from ..types import PathLike
from .architectures import FAMILIES, HUGGING_FACE, MODEL_TYPES
from .config import (
    FIELDS,
    FILE_PADDING,
    OF_TRAINING,
    OF_USE,
    SOURCE_KEYS,
    SUMMARY,
    UNKNOWN_KEYS,
    Config,
    check_field,
    expected_value,
    is_one_of,
    key_of,
    unsupported_value,
)
from .rope import LENGTH, TYPES, expected_scaling

__all__ = [
    "check_adapter",
    "check_unknown_keys",
    "check_vocabulary",
    "config_in",
    "file_names",
    "find_files",
    "gate_of",
    "moved_ids",
    "moved_padding",
    "read_config",
    "warn",
    "write_config",
]

MAX_UNKNOWN_KEYS = 200

ADAPTER = "adapter_config.json"  # of peft

# model_type -> padding id, for families whose positions depend on it
PADDING = {
    names.model_type: FAMILIES[family].fields["pad_token_id"]
    for family, names in HUGGING_FACE.items()
    if FAMILIES[family].fields.get("first_position")
}

# what "gelu" may mean in a config without a model_type
_GELUS = ("gelu", "gelu_new", "gelu_tanh")


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


# keys of `mappings.CONFIG_ONLY` that are compared with the model when it is known
_OF_MODEL = (
    "model_type",
    "architectures",
    "is_decoder",
    "mask",
    "pooler_activation",
    "classifier_activation",
    "id2label",
    "position_embedding_type",
)

# key that only one family has -> its value, the family, and the model_type with which it is valid
_OF_ONE_FAMILY = {
    "norm_type": ("rms_norm", "roformer_v2", "roformer"),  # JunnyYu's RoFormerV2
    "use_relative_position": (True, "nezha", "bert"),
}

# model_type of encoder-decoders
_TWO_STACKS = sorted(
    model_type
    for model_type, families in MODEL_TYPES.items()
    if any(FAMILIES[family].fields.get("stacks") == "both" for family in families)
)

_SEVERAL_KINDS = ("with_lm",)  # `with_mlm` may be true next to a `final_activation` with a name


def translate(raw, where="the config"):
    """Converts published keys and values to ours; see `read_config`.

    Args:
        raw: dict, the content of a config file.
        where: name of the config in messages.
    """
    raw = _of_paddle(raw)
    values, source_keys, unknown_keys, given = {}, {}, {}, raw.keys()
    model_type = raw.get("model_type") if isinstance(raw.get("model_type"), str) else None
    raw = mappings.MISSING.get(model_type, {}) | dict(raw)
    padding = PADDING.get(model_type)
    if padding is not None and raw.get("pad_token_id", padding) not in (None, padding):
        raise ValueError(
            f"{where}: pad_token_id is {shown(raw['pad_token_id'])}; expected {padding}, from which"
            f" {model_type} counts positions. Correct it, if the vocabulary says so too."
        )
    for key, value in raw.items():
        name = mappings.CONFIG_KEYS.get(key, key)
        has = f"{key} is" if key in given else f"{key} is missing, which means"
        if key == "pad_token_id" and model_type not in mappings.PADDING_READ:
            continue  # often wrong: HFL's configs say 1, the vocabulary 0; see PAD_TOKEN_KEY
        if key in mappings.DECODER_IDS and model_type not in mappings.DECODER_IDS_READ:
            continue
        if key == "tie_word_embeddings" and type(value) is int and value == 0:
            continue  # UER's BART says 0, also of a tied head: the weights tell
        if key in (leftovers := mappings.LEFTOVERS.get(model_type, {})):
            if value not in (None, leftovers[key]):
                raise ValueError(
                    f"{where}: {key} is {shown(value)}; expected {shown(leftovers[key])}, as in "
                    f"every {model_type}. Other values mean an architecture that is not "
                    "implemented, such as mBART."
                )
            continue
        if key in mappings.UNSET and value == mappings.UNSET[key]:
            continue
        of_modernbert = raw.get("model_type") == "modernbert" and raw.get("norm_eps") is not None
        if key == "layer_norm_eps" and of_modernbert:
            continue  # in early configs, with a value that no code reads
        if key in mappings.CONFIG_ONLY:
            if reason := unsupported_value(value, mappings.CONFIG_ONLY[key]):
                raise ValueError(f"{where}: {has} {shown(value)}; {reason}.")
        elif name in FIELDS:
            is_gate = name == "hidden_act" and isinstance(value, list)
            if (
                not is_gate
                and value is not None
                and (expected := expected_value(FIELDS[name], value))
            ):
                raise ValueError(f"{where}: {has} {value!r:.200}; expected {expected}.")
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
        check_field(FIELDS["max_position"], raw["n_ctx"], f"{where}: n_ctx")
        values.setdefault("max_position", raw["n_ctx"])
    if "emb_size" in raw and "hidden_size" not in values:
        values["hidden_size"] = raw["emb_size"]
    try:
        _translate_activation(raw, values)
        _translate_layers(raw, values)
        _translate_biases(raw, values)
        _translate_rope(raw, values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    values |= {key: raw[key] for key in _OF_MODEL if raw.get(key)}
    values |= {key: raw[key] for key in SUMMARY if key in raw}
    if raw.get("use_task_id"):
        values.setdefault("task_vocab_size", 3)
        if raw.get("model_type") in (None, "bert"):  # first revisions of ERNIE 3.0
            values["model_type"] = "ernie"
    elif "task_type_vocab_size" in raw:  # transformers writes it nevertheless
        values.pop("task_vocab_size", None)
    if not expected_number(raw.get("pad_token_id"), 0, 2**31 - 1):
        values[FILE_PADDING] = raw["pad_token_id"]
    if raw.get("model_type") == "modernbert" and raw.get("hidden_activation"):
        values.setdefault("classifier_activation", "gelu")  # the default of transformers
    _translate_model_type(raw, values, where)
    return values


def _translate_model_type(raw, values, where):
    """Converts what T5's keys mean, and keys and classes that only one family has, to model_type.

    Raises:
        ValueError: a key contradicts the model_type.
    """
    if raw.get("model_type") in ("t5", "mt5"):
        # transformers 5 has the old meaning of the tie flag under the second key
        tied = values.pop("tie_word_embeddings", True)
        if raw["model_type"] == "mt5":
            values["scale_decoder_outputs"] = False
        else:
            values.setdefault("scale_decoder_outputs", tied)
        values.setdefault("num_decoder_layers", values.get("num_hidden_layers"))
    elif raw.get("is_encoder_decoder") and raw.get("model_type") not in _TWO_STACKS:
        raise ValueError(
            f"{where}: is_encoder_decoder is true, but model_type is "
            f"{raw.get('model_type')!r:.200}; expected {', '.join(_TWO_STACKS)}. Other "
            "encoder-decoders are not implemented."
        )
    classes, family = mappings.OF_CLASSES.get(raw.get("model_type"), (None, None))
    if classes and any(re.fullmatch(classes, str(name)) for name in raw.get("architectures") or ()):
        values["model_type"] = family
    for key, (value, family, general) in _OF_ONE_FAMILY.items():
        model_type = values.get("model_type")
        if raw.get(key) == value and model_type in (None, general):
            values["model_type"] = family
        elif (
            raw.get(key) is not None
            and model_type in {*MODEL_TYPES, *mappings.WEIGHTS}
            and (raw[key] == value) != (model_type == family)
        ):
            raise ValueError(
                f"{where}: {key} is {shown(raw[key])}, and model_type is {model_type!r}; expected "
                f"{shown(value)} for {family} and for no other. Remove the wrong one from the file."
            )


def _of_paddle(raw):
    """Returns the config in a `model_config.json` of PaddleNLP, or `raw` if it is another.

    Its class of a task has the arguments of the class of the model in `init_args`. The epsilon of
    its normalizations is not in the file: ERNIE's `init_weights` sets it to 1e-12.
    """
    name = raw.get("init_class")
    if not isinstance(name, str):
        return raw
    for _ in range(2):  # a task, and its model
        match raw.get("init_args"):
            case [dict() as inner, *_]:
                raw = inner
    return {"layer_norm_eps": 1e-12, "architectures": [name]} | raw


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
            _set_field(values, name, value, key, raw)
    if raw.get("afn") == "gelu" or raw.get("hidden_act") == "gelu_fast":
        values["hidden_act"] = "gelu_tanh"


def _set_field(values, name, value, key, raw):
    """Sets a field of `Config` to the value that a key of the file means.

    Raises:
        ValueError: another key means another value.
    """
    if values.setdefault(name, value) != value:
        raise ValueError(
            f"{key} is {shown(raw[key])}, which means {name}={value!r:.200}, and another key "
            f"{values[name]!r:.200}; expected the same. Remove the wrong one from the file."
        )


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


def _translate_layers(raw, values):
    """Converts the kinds of the layers and their window, and whether positions are added."""
    names, every = raw.get("layer_types"), raw.get("global_attn_every_n_layers")
    pattern = raw.get("sliding_window_pattern")
    if pattern is not None and names is None and "layer_kinds" not in raw:
        if problem := expected_number(pattern, 1, MOST_BLOCKS):
            raise ValueError(f"sliding_window_pattern is {shown(pattern)}; expected {problem}.")
        values["layer_kinds"] = (*["sliding"] * (pattern - 1), "full")
    if every is not None:
        if problem := expected_number(every, 1, MOST_BLOCKS):
            raise ValueError(f"global_attn_every_n_layers is {shown(every)}; expected {problem}.")
        values["layer_kinds"] = ("full", *["sliding"] * (every - 1))
    if names is not None:
        kinds = [str(name).removesuffix("_attention") for name in names]
        count = values.get("num_hidden_layers", len(kinds))
        if expected := expected_value(FIELDS["layer_kinds"], kinds):
            raise ValueError(
                f"layer_types is {shown(names)}; expected {expected}, followed by '_attention'."
            )
        if len(kinds) != count:
            raise ValueError(
                f"layer_types has {len(kinds)} names, and {key_of(values, 'num_hidden_layers')} is "
                f"{shown(count)}; expected a name for each layer. Correct the file."
            )
        if not _repeats(values.get("layer_kinds"), kinds):
            values["layer_kinds"] = _period(kinds)
    if (window := raw.get("local_attention")) is not None:  # of both sides
        if problem := expected_number(window, 2, 2**31 - 1):
            raise ValueError(f"local_attention is {shown(window)}; expected {problem}.")
        _set_field(values, "window", window // 2, "local_attention", raw)
    is_used = raw.get("use_sliding_window") is not False
    if (window := raw.get("sliding_window")) is not None and is_used:
        if problem := expected_number(window, 2, 2**31 - 1):
            raise ValueError(f"sliding_window is {shown(window)}; expected {problem}.")
        # without the query
        _set_field(values, "window", window - 1, "sliding_window", raw)
        full, count = raw.get("max_window_layers"), values.get("num_hidden_layers", 1)
        full = max(full or 0, 0)
        if names is None and pattern is None and full < count:
            values["layer_kinds"] = _period(["full"] * full + ["sliding"] * (count - full))
    if (biased := raw.get("position_biased_input")) is not None:
        position = "learned" if biased else "none"
        _set_field(values, "position", position, "position_biased_input", raw)
        if "max_position" in values:
            values.setdefault("relative_max_distance", values["max_position"])


def _translate_biases(raw, values):
    """Converts which dense layers of the blocks of Llama and its kin have a bias."""
    # without a model_type, as Llama reads them, which is the first
    every = {
        key: parts for keys in reversed(mappings.BIASES.values()) for key, parts in keys.items()
    }
    model_type = raw.get("model_type")
    keys = every if model_type is None else mappings.BIASES.get(model_type, {})
    for key in every:
        if raw.get(key) and key not in keys:
            readers = [name for name, names in mappings.BIASES.items() if key in names]
            raise ValueError(
                f"{key} is true; expected false, or a model_type of {', '.join(readers)}."
            )
    biased = {part for key in keys if raw.get(key) for part in keys[key]}
    is_given = model_type is not None and any(raw.get(key) is not None for key in keys)
    if not biased and not is_given:
        return
    values["use_bias"] = bool(biased)
    without = [part for part in mappings.BLOCK_PARTS if part not in biased]
    values["without_bias"] = tuple(without) if biased else ()


def _period(names):
    """Returns the shortest tuple that gives these names when it is repeated."""
    sizes = range(1, len(names) + 1)
    return next(tuple(names[:size]) for size in sizes if _repeats(names[:size], names))


def _repeats(cycle, names):
    """Whether a cycle, repeated, gives these names; None does not."""
    return bool(cycle) and all(name == cycle[i % len(cycle)] for i, name in enumerate(names))


# model_type and key of rotary positions that have a value for each kind of layers
_KINDS_DIFFER = [
    ("modernbert", "rope_parameters"),
    ("modernbert", "rope_scaling"),
    ("gemma3_text", "rope_parameters"),
]


def _translate_rope(raw, values):
    """Converts the bases and the scaling of rotary positions, of one or of each kind of layers."""
    keys = [key for key in ("rope_parameters", "rope_scaling") if raw.get(key)]
    key = next(iter(keys), "rope_scaling")
    rope = raw.get(key) or {}
    if len(keys) == 2 and rope != raw["rope_scaling"]:
        raise ValueError(
            f"rope_parameters is {shown(rope)}, and rope_scaling is {shown(raw['rope_scaling'])};"
            " expected the same. Remove the wrong one from the file."
        )
    by_kind = rope.keys() and rope.keys() <= {"full_attention", "sliding_attention"}
    if rope and not by_kind and (raw.get("model_type"), key) in _KINDS_DIFFER:
        raise ValueError(
            f"{key} is {shown(rope)}; expected an object for 'full_attention' and one for "
            "'sliding_attention', as versions of transformers read a single one in different ways."
        )
    for kind, field in (
        ("full_attention", "rotary_base"),
        ("sliding_attention", "sliding_rotary_base"),
    ):
        of_kind = (rope.get(kind) if by_kind else rope if kind == "full_attention" else None) or {}
        if not isinstance(of_kind, dict) or not all(map(_is_known_rope, of_kind, of_kind.values())):
            raise ValueError(
                f"{key} is {shown(raw[key])}; expected an object with rope_theta and a rope_type "
                f"that is implemented: {', '.join(map(repr, mappings.ROPE_ONLY['type']))}."
            )
        for inner, name in (("rope_theta", field), ("partial_rotary_factor", "rotary_share")):
            value = of_kind.get(inner)
            if value is not None and values.setdefault(name, value) != value:
                raise ValueError(
                    f"{inner} of {key} is {shown(value)}, and {key_of(values, name)} is "
                    f"{values[name]!r:.200}; expected the same. Remove the wrong one from the file."
                )
        type_, *others = dict.fromkeys(
            [of_kind[name] for name in ("rope_type", "type") if of_kind.get(name)] or ["default"]
        )
        if others or (type_ == "default" and of_kind.get("factor") not in (None, 1)):
            raise ValueError(
                f"{key} is {shown(raw[key])}; expected one type, and no factor without one. Remove "
                "the wrong keys from the file."
            )
        if type_ != "default":
            scaling = {
                name: value
                for name, value in of_kind.items()
                if value is not None and name not in ROPE_ALWAYS
            }
            _scale_rope({"rope_type": type_, **scaling}, kind, raw, values, key)
    is_read = raw.get("model_type") in (None, *mappings.PARTLY_ROTARY)
    if values.get("rotary_share", 1) != 1 and not is_read:
        raise ValueError(
            f"partial_rotary_factor is {shown(values['rotary_share'])}; expected 1, or a "
            f"model_type of {' or '.join(mappings.PARTLY_ROTARY)}. Correct the file."
        )


# keys of `rope_parameters` that are not about scaling
ROPE_ALWAYS = ("rope_theta", "type", "rope_type", "partial_rotary_factor")


def _scale_rope(scaling, kind, raw, values, key):
    """Adds the scaling of rotary positions to the values of a config.

    Args:
        scaling: as in `Config.rotary_scaling`; or with the type `"ntk"`: the base is multiplied by
            the factor, and the lowest frequency divided by it (https://kexue.fm/archives/9706).
        kind: of the layers.
        raw: content of the config file.
        values: field of `Config` -> value.
        key: of the file, for messages.
    """
    sizes = [values.get(name) for name in ("hidden_size", "num_attention_heads", "rotary_base")]
    if scaling["rope_type"] == "ntk":
        if problem := expected_number(scaling.get("factor"), 1e-6, 1e6):
            raise ValueError(
                f"factor of {key} is {shown(scaling.get('factor'))}; expected {problem}."
            )
        if not (all(sizes) and sizes[0] >= sizes[1]):
            raise ValueError(
                f"{key} has the type 'ntk'; expected rope_theta, hidden_size and "
                "num_attention_heads, from which it is computed. Correct the file."
            )
        hidden_size, num_heads, base = sizes
        values["rotary_base"] = base * scaling["factor"]
        factor = scaling["factor"] ** (2 * num_heads / hidden_size)
        scaling = {"rope_type": "linear", "factor": float(factor)}
    elif LENGTH in TYPES[scaling["rope_type"]].required:
        length = raw.get(LENGTH) or scaling.get(LENGTH) or values.get("max_position")
        if scaling["rope_type"] == "dynamic":  # transformers does not read the other keys
            length = values.get("max_position")
        scaling |= {} if length is None else {LENGTH: length}
    if kind != "full_attention":
        raise ValueError(
            f"{key} scales {kind}; expected that only layers with full attention are scaled."
        )
    if expected := expected_scaling(scaling):
        raise ValueError(f"{key} is {shown(raw[key])}; expected {expected}.")
    values["rotary_scaling"] = scaling


def _is_known_rope(key, value):
    """Whether a key of `rope_parameters` has a value that is implemented."""
    if key in ("rope_theta", "partial_rotary_factor"):
        return value is None or not expected_value(FIELDS[mappings.CONFIG_KEYS[key]], value)
    if key in mappings.ROPE_ONLY:
        return value is None or is_one_of(value, mappings.ROPE_ONLY[key])
    return any(key in (*kind.required, *kind.optional) for kind in TYPES.values())


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
    if path.name != "bert_config.json" or not lexists(other):
        return values
    others = read_config(other)
    for name in sorted(FIELDS.keys() & values.keys() & others.keys() - OF_USE - OF_TRAINING):
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


def config_in(directory: PathLike) -> Path | None:
    """Returns the path of the config file of a directory, or None."""
    directory = Path(directory)
    complete(directory)
    names = ["bert_config.json", "config.json", "hparams.json"]
    names += sorted(path.name for path in directory.glob("*config*.json"))
    other_configs = ("tokenizer_config.json", "generation_config.json", ADAPTER)
    return next(
        (directory / n for n in names if n not in other_configs and lexists(directory / n)), None
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
        ValueError: it has more tokens, or positions are counted from another padding id.
    """
    if config.first_position:
        _check_padding(directory, config)
    lines = _vocabulary_lines(directory)
    if lines is not None:
        file, count = Path(directory) / "vocab.txt", lines.count(b"\n") - 1
        if count > config.vocab_size:
            raise ValueError(
                f"{file}: has {count} tokens; expected at most {config.vocab_size}, the vocab_size "
                "of the model. One of the two belongs to another checkpoint."
            )
        padding = _padding_of(lines)
        if padding is not None and config.pad_token_id not in (-1, padding):
            message = (
                f"[PAD] has the id {padding}, but the model masks {config.pad_token_id} in "
                f"attention. Build it with pad_token_id={padding}, and pad batches with that id."
            )
            warn([message], file)


def _check_padding(directory, config):
    """Checks that no vocabulary next to a checkpoint has another padding id than the model.

    Raises:
        ValueError: one has.
    """
    if not isinstance(directory, (str, Path)):
        return
    lines, folder = _vocabulary_lines(directory), Path(directory)
    ids = {} if lines is None else {"vocab.txt": _padding_of(lines)}
    if lexists(file := folder / "vocab.json"):
        vocabulary = read_json(file)
        ids[file.name] = vocabulary.get("<pad>") if isinstance(vocabulary, dict) else None
    if lexists(file := folder / "tokenizer_config.json"):
        settings = read_json(file)
        settings = settings if isinstance(settings, dict) else {}
        added, name = settings.get("added_tokens_decoder"), settings.get("pad_token")
        name = name.get("content") if isinstance(name, dict) else name
        for i, token in added.items() if isinstance(added, dict) else ():
            if isinstance(token, dict) and name and token.get("content") == name:
                ids[file.name] = int(i) if i.isdecimal() and len(i) < 20 else i
    for name, padding in ids.items():
        if padding not in (None, config.pad_token_id):
            raise ValueError(
                f"{folder / name}: the padding token has the id {shown(padding)}; expected "
                f"{config.pad_token_id}, from which {config.family} counts positions. The "
                "vocabulary belongs to another model."
            )


def moved_padding(directory, pad_token_id, keep_tokens):
    """Finds the padding id among the rows of `keep_tokens`.

    Args:
        directory: of the config. The id of `[PAD]` in its `vocab.txt` is used instead of
            `pad_token_id`.
        pad_token_id: of the config; -1 stays -1.
        keep_tokens: ids of the rows to keep.

    Returns:
        The new padding id, -1 if its row is not kept; and a list of warnings, if the id changes.
    """
    if expected_number(pad_token_id, 0, 2**31 - 1):
        return pad_token_id, []
    lines, kept = _vocabulary_lines(directory), [*keep_tokens]
    padding = None if lines is None else _padding_of(lines)
    padding = pad_token_id if padding is None else padding
    if padding not in kept:
        message = (
            f"keep_tokens leaves out row {padding}, the padding, so no id is masked in attention. "
            "Keep it, or pass pad_token_id=, the id that pads batches."
        )
        return -1, [message]
    new = kept.index(padding)
    message = (
        f"keep_tokens makes row {padding}, the padding, row {new}: that id is masked in "
        f"attention. Pad batches with it, and pass pad_token_id={new} to confirm it."
    )
    return new, [message] * (new != pad_token_id)


# fields that are ids of rows, besides `pad_token_id`: of a decoder, and of a classifier
_DECODER_ROWS = ("decoder_start_id", "forced_start_id", "forced_end_id")
_ROWS = (*_DECODER_ROWS, "filler_id")


def moved_ids(values, given, keep_tokens, where):
    """Finds the ids of a config that are not padding among the rows of `keep_tokens`.

    Args:
        values: field -> value, the ids counted as in the whole vocabulary.
        given: options, whose ids are those of the new rows already.
        keep_tokens: ids of the rows to keep.
        where: the config, in messages.

    Returns:
        field -> new id; None for an id of a decoder that is not built.

    Raises:
        ValueError: the row of an id is not kept.
    """
    kept, moved = [*keep_tokens], {}
    for name in _ROWS:
        row = values.get(name)
        if name in given or row in (None, -1):
            continue
        if row in kept:
            moved[name] = kept.index(row)
        elif values.get("stacks") == "encoder" and name in _DECODER_ROWS:
            moved[name] = None
        else:
            raise ValueError(
                f"{where}: keep_tokens leaves out row {row}, which is {key_of(values, name)}; "
                f"expected rows with it. Keep it, or pass {name}=, the id of a row that is kept."
            )
    return moved


def _vocabulary_lines(directory):
    """Returns the `vocab.txt` of a directory, with `"\\n"` around each line, or None."""
    file = Path(directory) / "vocab.txt" if isinstance(directory, (str, Path)) else None
    if file is None or not lexists(file):
        return None
    return b"\n" + read_bytes(file).rstrip(b"\r\n").replace(b"\r\n", b"\n") + b"\n"


def _padding_of(lines):
    """Returns the id of `[PAD]` (or `<pad>`) in the result of `_vocabulary_lines`, or None."""
    offset = max(lines.find(b"\n[PAD]\n"), lines.find(b"\n<pad>\n"))
    return None if offset < 0 else lines.count(b"\n", 0, offset)


def check_adapter(directory):
    """Warns if the directory of a checkpoint also has an adapter, which is not loaded."""
    file = Path(directory) / ADAPTER if isinstance(directory, (str, Path)) else None
    if file and file.exists():
        message = (
            "the adapter that it describes is not loaded, but transformers would add it to the "
            "weights. Merge it into them (merge_and_unload of peft), or remove it."
        )
        warn([message], file)


def file_names(config, format):
    """Returns the file names `(weights, config)` of a checkpoint.

    For `"tf"` these are Google's names.
    """
    of_bert = "bert/" in (mappings.WEIGHTS[config.family][0][2] or "")
    stem = "bert_" if format == "tf" and of_bert else ""
    weights = {"tf": f"{stem}model.ckpt", "hf": "model.safetensors", "keras": "model.keras"}[format]
    return weights, f"{stem}config.json"


def write_config(path, values):
    """Writes a config file, as JSON."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
