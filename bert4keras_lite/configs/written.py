"""Writing the parameters of a model as a published config file has them.

Uses no framework.
"""

from dataclasses import fields
from itertools import chain
from typing import Any

from .. import mappings
from ..parsing import shown
from .architectures import ARCHITECTURES, HUGGING_FACE, KINDS
from .config import OF_USE, Config

__all__ = ["config_json"]


def config_json(config: Config, format: str) -> dict[str, Any]:
    """Returns the content of a published config file for a model.

    Args:
        config: of the model.
        format: `"tf"` (Google's keys) or `"hf"` (transformers' keys).

    Returns:
        A dict.

    Raises:
        ValueError: `format` is `"hf"`, and transformers does not implement this model.
    """
    if callable(config.hidden_act):
        raise ValueError(
            f"hidden_act={shown(config.hidden_act)}: a config has no name for this function; "
            "expected a model whose activation has one. Save it with model.save('x.keras')."
        )
    row, hugging_face = ARCHITECTURES[config.family], HUGGING_FACE.get(config.family)
    shape = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in OF_USE}
    changed = {
        f.name
        for f in fields(config)
        if f.name in shape and shape[f.name] != row.get(f.name, f.default)
    }
    if format == "tf":
        keys, model_type = mappings.BERT_KEYS, config.family
    elif hugging_face:
        keys, model_type = hugging_face.keys, hugging_face.model_type
        del shape["gated"]  # it is in the name of the activation
        shape["hidden_act"] = _activation_hf(config, model_type)
        if not config.fits_head_hf:
            raise ValueError(
                f"hidden_act={shown(config.hidden_act)}: Hugging Face's {model_type} always "
                "computes the language-model head with gelu. Use another format."
            )
        if config.first_position not in (0, config.pad_token_id + 1):
            raise ValueError(
                f"Hugging Face's {model_type} counts positions from pad_token_id + 1; expected "
                f"pad_token_id={config.first_position - 1}, got {config.pad_token_id}. Keep that "
                "row of the vocabulary in its place, or use format='keras'."
            )
    else:
        raise ValueError(f"Hugging Face has no {config.family}. Use format='tf' or 'keras'.")
    computed = hugging_face.computed if hugging_face and format == "hf" else {}
    nameless = changed - keys.keys() - computed.keys() - {"embedding_projection"}
    if config.with_classifier and config.classifier_pooling and "classifier_pooling" not in keys:
        nameless |= {"classifier_pooling"}
    if config.intermediate_size == 4 * config.hidden_size:
        nameless -= {"intermediate_size"}  # the only value for GPT
    if config.position != "learned":
        nameless -= {"max_position"}
    if format == "hf" and nameless:
        raise ValueError(
            f"Hugging Face's {model_type} has no {', '.join(sorted(nameless))}. Use "
            "format='tf' or 'keras'."
        )
    values: dict[str, Any] = {"model_type": model_type}
    is_read = format == "hf" and model_type in mappings.PADDING_READ
    if config.pad_token_id != row.get("pad_token_id", 0) and not is_read:
        values[mappings.PAD_TOKEN_KEY] = config.pad_token_id
    if hugging_face:
        values |= hugging_face.constants
    values |= {keys[name]: shape[name] for name in shape if name in keys}
    values |= {key: value(config) for pairs in computed.values() for key, value in pairs}
    if format == "tf":
        values |= {name: shape[name] for name in changed if name not in keys}
        # a missing one would mean another value
        read: set = {*mappings.MISSING.get(config.family, ())}
        pairs = hugging_face.computed.values() if hugging_face else ()
        values |= {key: value(config) for key, value in chain(*pairs) if key in read}
        return values | _classifier_json(config, keys)
    if "d_ff" in values:
        values |= {
            "d_kv": config.head_size,
            "num_decoder_layers": config.block_counts["j"],
            "scale_decoder_outputs": config.scale_decoder_outputs is True
            or (config.scale_decoder_outputs == "tied" and config.tie_word_embeddings),
            "is_encoder_decoder": True,
            "decoder_start_token_id": 0,
            "eos_token_id": 1,
        }
        if model_type == "mt5" and values["scale_decoder_outputs"]:
            raise ValueError(
                "Hugging Face's mt5 has no scale_decoder_outputs=True. Use format='tf' or 'keras'."
            )
    copies = hugging_face.copies if hugging_face else {}
    values |= {key: values[source] for key, source in copies.items()}
    if "task_vocab_size" in keys:
        values["use_task_id"] = config.task_vocab_size > 0
    if "embedding_size" in keys:
        values["embedding_size"] = config.token_size
    if config.pad_token_id >= 0:
        values["pad_token_id"] = config.pad_token_id
    values |= _classifier_json(config, keys)
    nulls = hugging_face.nulls if hugging_face else ()
    return {key: value for key, value in values.items() if value is not None or key in nulls}


def _classifier_json(config, keys):
    """Returns the keys of the classifier in a published config; `keys`: field -> key."""
    if not config.with_classifier:
        return {}
    row = HUGGING_FACE.get(config.family)
    stem = row.classes[0].removesuffix("Model").removesuffix("Encoder") if row else ""
    values: dict[str, Any] = {"architectures": [stem + KINDS[config.with_classifier]]}
    if config.labels:
        values["id2label"] = {str(i): label for i, label in enumerate(config.labels)}
        values["label2id"] = {label: i for i, label in enumerate(config.labels)}
    if config.problem_type:
        values["problem_type"] = config.problem_type
    for name in ("classifier_dropout", "classifier_pooling"):
        if getattr(config, name) is not None:
            values[keys.get(name, name)] = getattr(config, name)
    if config.classifier_pooling in ("cls", "bos"):  # EuroBERT alone has the second name
        values["classifier_pooling"] = "bos" if config.family == "eurobert" else "cls"
    if config.filler_id not in (None, -1):
        values["pad_token_id"] = config.filler_id  # transformers needs it for batches
    return values


def _activation_hf(config, model_type):
    """Returns Hugging Face's name of the activation, for a config of this `model_type`."""
    name = mappings.ACTIVATIONS_HF.get(config.hidden_act, config.hidden_act)
    of_gpt = model_type == "openai-gpt"
    if name not in (mappings.NAMED_HF_GPT if of_gpt else mappings.NAMED_HF):
        raise ValueError(
            f"Hugging Face's {model_type} has no hidden_act={shown(config.hidden_act)}. Use "
            "format='tf' or 'keras'."
        )
    renamed = {"openai-gpt": {"gelu_new": "gelu"}, "t5": {}, "mt5": {}}.get(model_type)
    if renamed is None:
        return name
    if name == "gelu" and (config.gated or of_gpt):
        raise ValueError(
            f"Hugging Face's {model_type} has the tanh form of gelu, this model the exact "
            "form. Use format='tf' or 'keras'."
        )
    if config.gated:
        return "gated-" + name.removesuffix("_new")
    return renamed.get(name, name)
