"""Loading `.keras` files, with the `Transformer` of the model.

`model.save` stores what the `Transformer` was built from (`Transformer.description`) in the config
of the token embedding; `transformer_of` rebuilds it. Published checkpoints are loaded by
`models.build_transformer_model`.
"""

import re
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras.src.saving import saving_lib

from . import losses, optimizers, training  # noqa: F401

# Keras finds the classes and functions that a file names once these are imported
from .arguments import checks_flags
from .checkpoints import CheckpointError
from .checkpoints.base import MappedFile, reading
from .checkpoints.keras_file import read_keras
from .checkpoints.zip_file import open_zip, read_member
from .claims import allocate, check_memory, check_names, unallocated
from .configs import ARCHITECTURES, Config, config_in
from .configs.published import read_config
from .configs.weights import HEADS, heads_among
from .files import complete
from .layers import TokenEmbedding
from .layers.base import get_activation
from .models import Transformer, class_for
from .parsing import parse_json, shown
from .types import PathLike

__all__ = ["load_model", "read_keras_model", "transformer_of"]

# arguments of layers that may differ from the config (they can change later, or are in no config);
# and sizes, the only arguments that are reliable in configs of version 0.1.0
FREE = {
    *("dropout", "rate", "remat", "initializer_range", "name", "dtype", "trainable"),
    *("hidden_units", "hidden_activation", "kernel_initializer", "embeddings_initializer"),
}
SIZES = {"input_dim", "output_dim", "units", "num_heads"}


@checks_flags
def load_model(
    path: PathLike,
    compile: bool = True,
    custom_objects: dict[str, Any] | None = None,
    prefix: str | None = None,
    return_keras_model: bool = True,
) -> Any:
    """Loads a model saved by `model.save` or `Transformer.save_checkpoint`, with its `Transformer`.

    Like `keras.saving.load_model`, with the layers, losses and optimizers of this toolkit
    registered. The loaded model generates text, saves checkpoints and can be extended as before. No
    code in the file is run, whatever the settings of Keras: the file may only name classes and
    functions that compute (of Keras and of this toolkit) and your own. It takes no more memory than
    its size explains.

    Args:
        path: a `.keras` file, or a directory with `model.keras`. The model may be one of
            `build_transformer_model`, or any `keras.Model` that contains one.
        compile: whether to compile the model as before, with the state of the optimizer; default
            True.
        custom_objects: name -> class or function of your own that is not registered; or one of
            Keras that reads files or runs code, if you trust it.
        prefix: of the `Transformer`, if the model has several.
        return_keras_model: False returns the `Transformer`.

    Returns:
        The `keras.Model`, whose attribute `transformer` is its `Transformer`. `transformer.model`
        is the model of the file, or, if that has other layers as well, a model of the part.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a `.keras` file, contains code, names classes that are not allowed,
            claims too much memory, cannot be loaded by Keras, or has no `Transformer` or several.
        CheckpointError: it is damaged.

    Example:
        >>> model.save("tuned.keras")
        >>> model = load_model("tuned.keras")  # in any process
        >>> model.transformer.save_checkpoint("tuned", "hf")
    """
    path = Path(path)
    if path.is_dir():
        path = path / "model.keras"
    model = read_keras_model(path, compile, custom_objects)
    with _one_error(path):
        transformer = transformer_of(model, prefix, path)
    return model if return_keras_model else transformer


@checks_flags
def read_keras_model(path, compile=True, custom_objects=None):
    """Loads any model from a `.keras` file, without running code in it.

    Args:
        path: a `Path` of a `.keras` file.
        compile, custom_objects: see `load_model`.

    Raises:
        FileNotFoundError, ValueError, CheckpointError: see `load_model`.
    """
    complete(path.parent)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file. Pass a .keras file that model.save wrote.")
    if not str(path).endswith(".keras") or not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path}: expected a .keras file, as model.save writes it. Load weights alone with "
            "build_transformer_model(config_path, checkpoint_path)."
        )
    with _one_error(path), open(path, "rb") as file:
        integer_arrays = _check(path, file, custom_objects)
        # the open file, as another one may have taken its path
        model = saving_lib.load_model(file, custom_objects, compile=compile, safe_mode=True)
        integers = [v for v in model.variables if re.match("u?int|bool", str(v.dtype))]
        if integer_arrays > len(integers):  # Keras would convert them
            raise ValueError(
                f"{path}: {integer_arrays} of its arrays are integers or bool; expected"
                f" {len(integers)}, as the model has. Save the model again."
            )
        return model


@contextmanager
def _one_error(path):
    """Converts any error of Keras to a `ValueError` that names the file."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(f"{path}:"):
            raise
        raise ValueError(
            f"{path}: Keras cannot load it ({type(error).__name__}: {error!s:.200}). Load it with "
            "the version of Keras and the classes that it was saved with."
        ) from error


def _check(path, file, custom_objects):
    """Checks a `.keras` file before Keras loads it.

    Args:
        path: of the file.
        file: the same file, open.
        custom_objects: see `load_model`.

    Returns:
        The number of arrays of integers or bool, but for those of the optimizer; 0 if the file
        names classes of the user, which may keep others than their variables.

    Raises:
        ValueError: it names classes that are not allowed, or claims too much memory.
        CheckpointError: it is damaged.
    """
    mapped = MappedFile(path)
    with reading(path), open_zip(mapped) as archive:
        text = read_member(mapped, archive, "config.json")
        config = parse_json(text)
    with zipfile.ZipFile(file) as archive:
        same = archive.getinfo("config.json").file_size == len(text)
        if not same or archive.read("config.json") != text:
            raise ValueError(f"{path}: was changed while it was read. Load it again.")
    has_custom = check_names(config, path, custom_objects)
    # damaged weights can crash the library that Keras reads them with
    entries, _ = read_keras(path, probe=True)
    kinds = [np.dtype(x.dtype).kind for n, x in entries.items() if not n.startswith("optimizer/")]
    if "c" in kinds:
        raise ValueError(
            f"{path}: has complex numbers; expected weights of real ones. Save it again."
        )
    try:
        check_memory(config, path, mapped.size, custom_objects)
    except Exception as error:
        # classes of the user may fail when they are built without memory
        if not has_custom or str(error).startswith(f"{path}:"):
            raise
    return 0 if has_custom else sum(kind in "iub" for kind in kinds)


def transformer_of(model, prefix=None, path=None):
    """Returns the `Transformer` of a model, or of a part of it.

    A model that was loaded, or made from another model, has the layers of a `Transformer`, and its
    token table has the description: the graph is built again from the same layers.

    Args:
        model: a `keras.Model`; or a `Transformer`, which is returned.
        prefix: of the `Transformer`; None: there is only one.
        path: of the file of the model, which may have a config next to it.

    Raises:
        ValueError: there is none, or there are several.
    """
    known = model if isinstance(model, Transformer) else getattr(model, "transformer", None)
    if known is not None and prefix in (None, known.prefix):
        return known
    where = path or getattr(model, "name", model)
    parts, config_path = list(_described_parts(model)), None
    if not parts:
        parts, config_path = _described_by_config(model, path), path and config_in(path.parent)
    prefixes = ", ".join(shown(description["prefix"]) for _, description in parts)[:200]
    if parts and prefix is not None:
        parts = [
            (part, description) for part, description in parts if description["prefix"] == prefix
        ]
        if not parts:
            raise ValueError(f"{where}: prefix={shown(prefix)}: expected one of {prefixes}.")
    if not parts:
        raise ValueError(
            f"{where}: expected a model of build_transformer_model, or one that contains it; found "
            "no layers of one. Load other models with keras.saving.load_model."
        )
    if len(parts) > 1:
        raise ValueError(f"{where}: has several transformers; pass prefix=, one of {prefixes}.")
    ((part, description),) = parts
    transformer = _rebuilt(part, description, where, config_path)
    if {layer.name for layer in model.layers} == {layer.name for layer in transformer.model.layers}:
        transformer.model = model
    model.transformer = transformer
    return transformer


def _described_parts(model):
    """Yields each model in a model that has a described token table, with the description."""
    for layer in getattr(model, "layers", ()):
        if isinstance(layer, TokenEmbedding) and layer.transformer:
            yield model, parse_json(layer.transformer.encode())
        elif isinstance(layer, keras.Model):
            yield from _described_parts(layer)


def _described_by_config(model, path):
    """Returns the same for a file of version 0.1.0 without a description, by the config next to it.

    Raises:
        ValueError: the model has conditional normalization, which a config does not describe.
    """
    config_path = path and config_in(path.parent)
    names = [layer.name for layer in model.layers]
    if not config_path or "token_embedding" not in names:
        return []
    if any(hasattr(layer, "gamma_dense") for layer in model._flatten_layers()):
        raise ValueError(
            f"{path}: has conditional normalization, which a file of version 0.1.0 does not "
            "describe. Build the model again, and pass the file as checkpoint_path."
        )
    values = read_config(config_path)
    values = ARCHITECTURES.get(values.get("model_type"), {}) | values | heads_among(names)
    description = {"config": values, "prefix": "", "layers": names, "inputs": []}
    return [(model, description)]


def _rebuilt(model, description, where, config_path):
    """Builds a `Transformer` from the layers of a model.

    Args:
        model: a `keras.Model`.
        description: see `Transformer.description`.
        where: the model, in messages.
        config_path: of the config that the description is from, or None.

    Raises:
        ValueError: layers are missing, or differ from the description.
    """
    operations = {operation.name: operation for operation in model.operations}
    inputs = {operation.name for operation in map(_operation, model.inputs)}
    names = inputs.union(description["layers"]) & operations.keys()
    plain = [name.removeprefix(description["prefix"]) for name in names]
    config = _of_part(Config.from_values(description["config"], str(where)), plain, where)
    layers = {name: operations[name] for name in names}
    arguments = {}
    if "condition" in description:
        name, index = description["condition"]
        arguments["layer_norm_cond"] = keras.tree.flatten(operations[name].output)[index]
    if description["inputs"]:
        more_inputs = [operations[name].output for name in description["inputs"]]
        arguments["additional_input_layers"] = more_inputs
    cls = _class(description.get("class"), config.stacks, where)
    with unallocated() as variables:
        transformer = cls(
            config, layers=dict(layers), prefix=description["prefix"], name=model.name, **arguments
        )
    missing = [n for n, layer in transformer.layers.items() if n not in layers and layer.weights]
    if missing:
        raise _missing(where, ", ".join(missing))
    if cls is class_for(config.stacks):
        unused = [
            n for n in layers.keys() - transformer.layer_arguments.keys() if layers[n].weights
        ]
        if unused:
            raise ValueError(
                f"{where}: {config_path or 'its token table'} describes a model "
                f"without {shown(', '.join(sorted(unused)))}; expected one with all of its layers. "
                + ("Use the config of this model." if config_path else "Save the model again.")
            )
        _compare(transformer.layer_arguments, layers, config_path, where)
    allocate(variables)
    for name in inputs & transformer.layers.keys():
        del transformer.layers[name]
    return transformer


def _compare(layer_arguments, layers, config_path, where):
    """Checks that layers are as their config describes them: generation and saving rely on it.

    Args:
        layer_arguments: name -> arguments of a layer, according to the config.
        layers: name -> layer of the file.
        config_path: of the config, if it is not in the file.
        where: the file, in messages.

    Raises:
        ValueError: an argument differs.
    """
    source = config_path or "its token table"
    for name, arguments in layer_arguments.items():
        if name not in layers:
            continue
        layer_config = layers[name].get_config()
        for key, expected, value in _common_items(arguments, layer_config):
            if (key not in SIZES if config_path else key in FREE) or _same(key, expected, value):
                continue
            raise ValueError(
                f"{where}: {source} has {key}={shown(expected)} for the layer {name!r:.80}, which "
                f"has {shown(value)}; expected the same. "
                + ("Take the config of this model." if config_path else "Save the model again.")
            )


def _common_items(first, second):
    """Yields `(key, first value, second value)` for common keys of two dicts, also nested ones."""
    for key in filter(second.__contains__, first):
        if isinstance(first[key], dict) and isinstance(second[key], dict):
            yield from _common_items(first[key], second[key])
        else:
            yield key, first[key], second[key]


def _same(key, expected, value):
    """Whether an argument has the expected value; activations are compared as functions."""
    if isinstance(expected, tuple):  # a list in a file
        return isinstance(value, list | tuple) and expected == tuple(value)
    if not key.endswith("activation"):
        return expected == value
    try:
        return get_activation(expected) is get_activation(value)
    except (TypeError, ValueError):
        return True


def _missing(where, names):
    """Makes the error for a model that has only a part of a `Transformer`."""
    return ValueError(
        f"{where}: has a part of a Transformer, without {names:.200}. Load it with "
        "keras.saving.load_model."
    )


def _of_part(config, names, where):
    """Returns the config of the part that a model has: its heads, its stacks, its first blocks.

    Args:
        config: of the whole `Transformer`.
        names: of the layers, without the prefix.
        where: the file, in messages.

    Raises:
        ValueError: blocks are missing.
    """
    has = {stack: any(n.startswith(f"{stack}_") for n in names) for stack in ("encoder", "decoder")}
    stacks = config.stacks
    if stacks == "both" and not all(has.values()):
        stacks = "encoder" if has["encoder"] else "decoder"
    blocks = [re.fullmatch(r"(encoder_|decoder_|)block_(\d{1,9})", name) for name in names]
    numbers = {}
    for stack, number in (match.groups() for match in blocks if match):
        numbers.setdefault(stack, set()).add(int(number))
    counts = {stack: len(indices) for stack, indices in numbers.items()}
    built = {"one": {"": "i"}, "both": {"encoder_": "i", "decoder_": "j"}}
    for stack, counter in built.get(stacks, {f"{stacks}_": "i"}).items():
        claimed = config.block_counts[counter]
        expected = range(counts.get(stack, 0 if config.share_blocks else min(1, claimed)))
        if missing := set(expected) - numbers.get(stack, set()):
            raise _missing(where, f"{stack}block_{min(missing)}")
    first = counts.get("", counts.get("encoder_", config.num_hidden_layers))
    second = counts.get("decoder_", config.num_decoder_layers)
    return replace(
        config,
        stacks=stacks,
        num_hidden_layers=first,
        num_decoder_layers=None if second == first else second,
        **{head: False for head in (*HEADS, "with_classifier") if head not in heads_among(names)},
    )


def _operation(tensor):
    return tensor._keras_history.operation


def _class(name, stacks, where):
    """Returns the class of a `Transformer` by its name; it must have been imported.

    Raises:
        ValueError: there is no such class.
    """
    if name in (None, "Transformer", "EncoderDecoder"):
        return class_for(stacks)
    classes = [Transformer]
    for cls in classes:
        classes += cls.__subclasses__()
    for cls in classes:
        if cls.__name__ == name:
            return cls
    raise ValueError(
        f"{where}: its Transformer is of class {shown(name)}; expected one that has been imported. "
        "Import that class first."
    )
