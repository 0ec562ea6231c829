"""Weights of a `Transformer` in and out: its variables by path, loading, resizing, saving.

A path is as in `mappings.py`, e.g. `block_0/ffn/input/kernel`, without the `prefix` of the layers.

All that needs no framework is elsewhere, so that the command line converts without one: opening a
file in `checkpoints`, which of its arrays a config asks for in `configs/weights.py`, comparing
names and shapes in `checkpoints/matching.py`.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
from keras import ops

from . import mappings
from .backend import assign_shared
from .checkpoints import CheckpointError, open_checkpoint
from .checkpoints.base import PrivateViews, release
from .checkpoints.dialects import adapt
from .checkpoints.keras_file import renumbered, under_paths
from .checkpoints.matching import has_names, layers_of, orthogonally_resize, unfit_numbers
from .checkpoints.stage import saving_checkpoint
from .configs.published import file_names, write_config
from .configs.weights import classifier_hint, match_weights, mismatch_hint, write
from .configs.written import config_json
from .files import write_text
from .lora import folded, own_variables, reset_lora
from .parsing import shown
from .shapes import shapes_of
from .tokenizers.base import TokenizerBase
from .tokenizers.wordpiece import vocab_text

__all__ = ["check_names", "is_keras", "load", "opened", "resized", "save", "variables_of"]

# files of weights and configs that `save` writes, in all formats
WRITTEN = {
    *("model.safetensors", "model.keras", "model.ckpt.index", "bert_model.ckpt.index"),
    *("config.json", "bert_config.json"),
}


def opened(checkpoint):
    """Opens a checkpoint and converts its names to those of the tables.

    Returns:
        The checkpoint, and its name for messages.
    """
    if isinstance(checkpoint, Mapping):
        return adapt(checkpoint), str(getattr(checkpoint, "path", "the checkpoint"))
    return adapt(open_checkpoint(checkpoint)), str(checkpoint)


def is_keras(checkpoint):
    """Whether a checkpoint is a Keras file, which counts layers instead of naming them."""
    return getattr(checkpoint, "format", None) == "keras"


def variables_of(transformer):
    """Lists the variables of a `Transformer` that a table may have: path -> Keras variable."""
    return {
        variable.path[variable.path.index(name) + len(transformer.prefix) :]: variable
        for name, layer in transformer.layers.items()
        for variable in layer.weights
        if "/lora_" not in variable.path
    }


def saved_variables(transformer):
    """Lists what Keras saves of the model, including layers that are not of this toolkit.

    Returns:
        Path of a layer -> key in Keras' files -> path; and path -> variable. Paths are those of
        `variables_of`.
    """
    names = renumbered(
        (_plain_name(transformer, layer), type(layer).__name__)
        for layer in transformer.model.layers
    )
    layers, variables = {}, {}
    for top, name in zip(transformer.model.layers, names, strict=True):
        for layer in top._flatten_layers():
            for key, variable in own_variables(layer).items():
                inside = f"/{variable.path}".partition(f"/{top.name}/")[2]
                path = f"{name}/{inside or variable.path}"
                layers.setdefault(path.rpartition("/")[0], {})[key] = path
                variables[path] = variable
    return layers, variables


def _plain_name(transformer, layer):
    """Returns the name of a layer without `prefix`."""
    is_ours = layer.name in transformer.layers
    return layer.name.removeprefix(transformer.prefix) if is_ours else layer.name


def load(transformer, checkpoint, options):
    """Loads the weights of a `Transformer`: see `Transformer.load_checkpoint`.

    Args:
        transformer: the `Transformer`.
        checkpoint: a path, or a mapping name -> array.
        options: `MatchOptions`.

    Returns:
        A set of paths: of the loaded variables, and of those that such a file does not hold.
    """
    checkpoint, where = opened(checkpoint)
    variables, config = transformer.variables, transformer.config
    hint = _hint(config, checkpoint, options)
    of_keras = is_keras(checkpoint)
    layers, stored = saved_variables(transformer) if of_keras else ({}, variables)
    dtypes = {path: variable.dtype for path, variable in stored.items()}
    if of_keras:
        layers = layers_of(transformer.table, mappings.ROLES) | layers
        checkpoint = under_paths(checkpoint, layers, dtypes, transformer.prefix)
    shapes = {path: tuple(variable.shape) for path, variable in stored.items()}
    shapes, optional = _to_read(shapes, config, options)
    plan = match_weights(
        shapes,
        checkpoint,
        config,
        where,
        options,
        hint=lambda: hint(checkpoint),
        optional=optional,
        dtypes=dtypes,
        resize=transformer.resized,
    )
    _check_positions(transformer, checkpoint, where, options)
    for path in {*mappings.ZEROS.get(config.family, ())} & stored.keys() - plan.keys():
        stored[path].assign(np.zeros(shapes[path], "float32"))
    views = PrivateViews()
    for path, read in plan.items():
        array = np.asarray(read())
        if not array.dtype.isnative or array.dtype.itemsize > 8:  # PyTorch has no such dtypes
            array = array.astype(dtypes[path])
        assign_shared(stored[path], array, views.view)
        release(array)
    reset_lora(transformer.model)
    return plan.keys() | variables.keys() - stored.keys()


def _check_positions(transformer, checkpoint, where, options):
    """Checks that fixed tables of positions in a checkpoint are those that the model computes.

    Args:
        transformer: the `Transformer`.
        checkpoint: mapping name -> array, with the names of the tables.
        where: the checkpoint, in messages.
        options: `MatchOptions`.

    Raises:
        CheckpointError: a table differs; with `ignore_invalid_weights` that is a warning.
    """
    layer = transformer.layers.get(f"{transformer.prefix}sinusoidal_positions")
    for name in checkpoint if layer else ():
        if not re.fullmatch(mappings.FIXED_POSITIONS, name):
            continue
        reason = unfit_numbers(checkpoint, name, "float32")
        if not reason and not _are_positions(np.asarray(checkpoint[name]), layer.embeddings):
            reason = "differs from the sines and cosines that the model computes"
        if reason:
            message = (
                f"{where}: {shown(name)}: {reason}; expected the same. Get the file again, or pass "
                "ignore_invalid_weights=True to use what the model computes."
            )
            if not options.ignore_invalid_weights:
                raise CheckpointError(message)
            warnings.warn(message, stacklevel=2)


def _are_positions(stored, computed):
    """Whether the rows that two tables share are equal, up to the rounding of the stored dtype."""
    if stored.ndim != 2 or stored.shape[1] != computed.shape[1]:
        return False
    rows = min(len(stored), len(computed))
    tolerance = max(1e-5, float(ml_dtypes.finfo(stored.dtype).eps))
    return np.allclose(stored[:rows].astype("float32"), computed[:rows], rtol=0, atol=tolerance)


def _to_read(shapes, config, options):
    """Selects the variables to read: not the last layer of a new classifier.

    Args:
        shapes: path -> shape.
        config: the `Config`.
        options: `MatchOptions`.

    Returns:
        path -> shape; and the paths that a checkpoint need not have: the layers before that one.
    """
    if not options.new_classifier:
        return shapes, []
    last = f"{config.with_classifier}_classifier/"
    without = shapes_of(replace(config, with_classifier=False))
    kept = {path: shape for path, shape in shapes.items() if not path.startswith(last)}
    return kept, sorted(shapes_of(config).keys() - without.keys())


def check_names(config, checkpoint, prefix, options):
    """Checks that a checkpoint has the names of a model, before the model is built.

    This avoids building blocks that the config claims but the checkpoint does not have.

    Args:
        config: the `Config`.
        checkpoint: mapping name -> array, with the names of the tables.
        prefix: see `Transformer`.
        options: `MatchOptions`.

    Raises:
        CheckpointError: the one that loading would raise.
    """
    table = mappings.WEIGHTS[config.family]
    shapes, optional = _to_read(shapes_of(config), config, options)
    sizes, where = config.block_counts, str(getattr(checkpoint, "path", "the checkpoint"))
    if options.ignore_invalid_weights:
        return
    if is_keras(checkpoint):
        checkpoint = under_paths(checkpoint, layers_of(table, mappings.ROLES), {}, prefix)
        blocks = {path.split("/")[0] for path in shapes if "block" in path}
        if blocks <= {name.split("/")[0] for name in checkpoint}:
            return
    else:
        absent = [*mappings.OPTIONAL, *mappings.ZEROS.get(config.family, ()), *optional]
        if has_names(shapes, checkpoint, table, mappings.ROLES, sizes, absent):
            return
    hint = _hint(config, checkpoint, options)
    match_weights(shapes, checkpoint, config, where, options, lambda: hint(checkpoint), optional)


def _hint(config, checkpoint, options):
    """Returns a function `checkpoint -> str`: a hint on why it does not match a model."""
    if is_keras(checkpoint):
        return partial(_keras_hint, config)
    other_rows = options.keep_tokens is not None or options.compound_tokens
    chosen = {"vocab_size"} if other_rows else ()
    return partial(mismatch_hint, config, shapes_of=shapes_of, chosen=chosen)


def _keras_hint(config, checkpoint):
    """Returns a hint on a Keras file that does not match: a quantized model, or a classifier."""
    if not any(checkpoint.dtype(name) == "int8" for name in checkpoint):
        return classifier_hint(config, checkpoint)
    return "\nIts weights are quantized. Load the whole model, with bert4keras_lite.load_model."


def resized(path, array, shape, activation):
    """Resizes an array, and scales it so that the magnitude of the block's output is kept.

    Args:
        path: of the variable.
        array: its value in another size.
        shape: of the variable.
        activation: of the feed-forward layers, by name.
    """
    old, array = array.shape, orthogonally_resize(array, shape)
    if "/query/" in path or "/key/" in path:
        array = array * (shape[-1] / old[-1]) ** 0.25
    elif "/ffn/input/" in path and "relu" not in str(activation):
        array = array * (shape[-1] / old[-1]) ** 0.5
    elif "/ffn/" in path:
        array = array * (old[0] / shape[0]) ** 0.5
    return array


def save(transformer, directory, format="tf", vocab=None):
    """Saves the weights and the config of a `Transformer`: see `Transformer.save_checkpoint`."""
    config = transformer.config
    if format not in ("tf", "hf", "keras"):
        raise ValueError(f"format={format!r}: expected 'tf', 'hf' or 'keras'.")
    tokenizer = vocab if isinstance(vocab, TokenizerBase) else None
    text = None if vocab is tokenizer else vocab_text(vocab, "vocab")
    count = text.count("\n") if text is not None else tokenizer.vocab_size if tokenizer else 0
    if count > config.vocab_size:
        raise ValueError(
            f"vocab: has {count} tokens; expected at most {config.vocab_size}, the "
            "vocab_size of the model. Pass the vocabulary that the model was made for."
        )
    weights_name, config_name = file_names(config, format)
    existing = {name for name in WRITTEN if (Path(directory) / name).exists()}
    others = sorted(existing - {weights_name, f"{weights_name}.index", config_name})
    if others:  # a reader might take these, or a mixture
        raise ValueError(
            f"{directory}: holds {', '.join(others)} of a checkpoint in another format. Save "
            "into another directory, or delete them."
        )
    with saving_checkpoint(directory) as stage:
        if format == "keras":
            write_config(stage / config_name, config_json(config, "tf"))
            transformer.model.save(stage / weights_name)
        else:
            with folded(transformer.model):
                variables = transformer.variables.items()
                arrays = {path: ops.convert_to_numpy(v) for path, v in variables}
                write(stage, config, format, arrays)
        if text is not None:
            write_text(stage / "vocab.txt", text)
        if tokenizer:
            tokenizer.save(stage)
