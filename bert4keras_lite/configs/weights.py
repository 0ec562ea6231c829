"""Weights of a checkpoint by a config, without a framework: heads, matching, writing.

`weights_io.py` does the same for a built model, and the command line for a file.
"""

from pathlib import Path

import numpy as np

from .. import mappings
from ..checkpoints import CheckpointError, save_checkpoint
from ..checkpoints.matching import (
    EXACT,
    LazyArrays,
    ModelWeights,
    detect_format,
    gather,
    locate,
    match,
)
from ..checkpoints.stage import saving_checkpoint
from ..parsing import shown
from .architectures import ARCHITECTURES, HUGGING_FACE, KINDS
from .config import Config
from .published import file_names, write_config
from .recognition import MEASURED, families_of, infer_from_weights, unmatched_names
from .written import config_json

__all__ = ["HEADS", "classifier_hint", "heads_among", "match_weights", "mismatch_hint", "write"]

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

# layer -> the option that builds a model without it; no warning says that one is not built
WITHOUT = {layer: f"{option}=False" for layer, option in _HEAD_LAYERS.items()} | {
    "lm_norm": "with_lm=False",
    "lm_head": "with_lm=False",
    "discriminator_prediction": "with_discriminator=False",
    "segment_embedding": "segment_vocab_size=0",
}


def heads_among(names, kind=None):
    """Returns the options that build the heads in a list of layer names (or variable paths).

    Args:
        names: of layers or variables.
        kind: of the classifier, where checkpoints have the same names for several: see `mappings`.
    """
    layers = {name.split("/")[0] for name in names}
    heads = {option: True for layer, option in _HEAD_LAYERS.items() if layer in layers}
    if "with_nsp" in heads:
        heads.pop("with_pool", None)
    kinds = [kind for kind in KINDS if f"{kind}_classifier" in layers]
    kind = kinds[0] if len(kinds) == 1 else kind
    return heads | ({"with_classifier": kind} if kind in kinds else {})


def match_weights(
    shapes, checkpoint, config, where, options=EXACT, hint=lambda: "", optional=(), **fields
):
    """Matches the variables of a model to the arrays of a checkpoint: see `matching.match`.

    Args:
        shapes: path -> shape.
        checkpoint: mapping name -> array, with the names of the tables.
        config: the `Config` of the model.
        where: name of the checkpoint in messages.
        options, hint: see `match`.
        optional: endings of the paths of more variables that a checkpoint need not have.
        **fields: `dtypes` and `resize` of `ModelWeights`.

    Raises:
        CheckpointError: they do not match, have different numbers of heads, or transformers
            computes the head with another activation.
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
            f"{where}: hidden_act is {shown(c.hidden_act)}; expected 'gelu', with which Hugging "
            f"Face's {HUGGING_FACE[c.family].model_type} always computes the language-model head. "
            "Build the model without with_lm."
        )
    copies, skippable = [*mappings.COPIES], [*mappings.SKIPPABLE]
    tied = c.with_lm and c.tie_word_embeddings and c.stacks != "encoder"
    (copies if tied else skippable).extend(mappings.TIED_HEADS)
    model = ModelWeights(
        shapes,
        mappings.WEIGHTS[c.family],
        mappings.ROLES,
        c.block_counts,
        optional=[*mappings.OPTIONAL, *mappings.ZEROS.get(c.family, ()), *optional],
        skippable=skippable,
        copies=copies,
        elsewhere={row[1].split("/")[0] for t in mappings.WEIGHTS.values() for row in t},
        without=WITHOUT,
        **fields,
    )
    return match(model, checkpoint, options, where, hint)


def mismatch_hint(config, checkpoint, shapes_of, chosen=()):
    """Returns a hint on why a checkpoint does not match a model: another family, or other sizes.

    Args:
        config: the `Config` of the model.
        checkpoint: mapping name -> array, with the names of the tables.
        shapes_of: function of a `Config`, see `shapes.py`.
        chosen: fields that differ on purpose.

    Returns:
        A sentence to add to the error message, or an empty string.
    """
    c = config
    families = families_of(checkpoint)
    same_family = {name for name, row in ARCHITECTURES.items() if row["family"] == c.family}
    if families and not same_family & {*families}:
        return f"\nThe names look like those of model={families[0]!r}."
    measured = infer_from_weights(checkpoint, c.family, {})
    ours = {name: getattr(c, name) for name in MEASURED} | {"embedding_size": c.token_size}
    ours = {name: value for name, value in ours.items() if name not in chosen}
    ours |= {"num_decoder_layers": c.block_counts["j"]} if c.stacks != "one" else {}
    ours["decoder_intermediate_size"] = c.of_stack("decoder_").intermediate_size
    differ = [n for n, size in measured.items() if size and n in ours and size != ours[n]]
    if "hidden_size" not in measured or not differ:
        return _family_hint(c, checkpoint, shapes_of) or classifier_hint(c, checkpoint)
    weights, model = (
        ", ".join(f"{name}={sizes[name]}" for name in differ) for sizes in (measured, ours)
    )
    return (
        f"\nThe weights are those of a model with {weights}; this one has {model}. Correct the "
        "config or the options, or take the weights that belong to them."
    )


def _family_hint(config, checkpoint, shapes_of):
    """Returns a hint which family has all parts of the blocks of a checkpoint, if not this model.

    Args:
        config, checkpoint, shapes_of: see `mismatch_hint`.

    Returns:
        A sentence to add to the error message, or an empty string.
    """

    def parts(paths):
        return {path for path in paths if "block" in path.split("/")[0]}

    sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    sizes += ("intermediate_size", "attention_head_size")
    sizes = {name: getattr(config, name) for name in sizes}
    for name, row in ARCHITECTURES.items():
        if row.get("stacks", "one") != config.stacks or unmatched_names(checkpoint, row):
            continue
        located, _ = locate(checkpoint, mappings.WEIGHTS[row["family"]], mappings.ROLES)
        if parts(located) == parts(shapes_of(config)):
            return ""
        if parts(located) == parts(shapes_of(Config.from_values(row | sizes))):
            return (
                f"\nThe blocks of the checkpoint have the parts of model={name!r}. Pass that, or "
                "correct the config and the options."
            )
    return ""


def classifier_hint(config, checkpoint):
    """Returns a hint on why a checkpoint does not match a model, if its classifier is another.

    Args:
        config: the `Config` of the model.
        checkpoint: mapping name -> array, with the names of the tables.

    Returns:
        A sentence to add to the error message, or an empty string.
    """
    if not config.with_classifier:
        return ""
    located, _ = locate(checkpoint, mappings.WEIGHTS[config.family], mappings.ROLES)
    kernel = located.get(f"{config.with_classifier}_classifier/kernel")
    count = kernel and int(kernel.shape[-1])
    if count is None:
        return (
            f"\nThe checkpoint has no classifier with_classifier={config.with_classifier!r}. Pass "
            "new_classifier=True to start one at random, for fine-tuning."
        )
    if count != config.num_labels:
        return (
            f"\nThe classifier of the checkpoint has {count} labels; expected {config.num_labels}. "
            "Correct id2label or labels=, or pass new_classifier=True to start another classifier."
        )
    return ""


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
    values = config_json(config, format)
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
        functions |= _bias_of_untied_head(arrays, functions, table)
        if HUGGING_FACE[config.family].unties_stacks and not config.tie_word_embeddings:
            first, *others = table[0][3]
            functions |= {f"{name}.weight": functions[f"{first}.weight"] for name in others}
        bare, with_lm, with_all = HUGGING_FACE[config.family].classes
        heads = heads_among(arrays)
        decodes = any(path.startswith("decoder_") for path in arrays)
        class_names = with_lm if "with_lm" in heads or config.with_lm or decodes else bare
        other_heads = heads.keys() & {"with_nsp", "with_discriminator"}
        values.setdefault("architectures", [with_all if other_heads else class_names])
    file_format = "safetensors" if format == "hf" else "tf"
    with saving_checkpoint(directory) as stage:
        save_checkpoint(stage / weights_name, LazyArrays(functions, dtype, progress), file_format)
        write_config(stage / config_name, values)


def _bias_of_untied_head(arrays, functions, table):
    """Returns the bias of an untied head, under the name that transformers reads there."""
    names = {path: hf for _, path, _, hf in table}
    if not {"lm_head/embeddings", "lm_bias/beta"} <= arrays.keys():
        return {}
    return {f"{names['lm_head']}.bias": functions[f"{names['lm_bias']}.bias"]}
