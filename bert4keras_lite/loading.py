"""From a `.keras` file to a model that can do all that it could before it was saved."""

import re
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import keras
from keras.src.saving import saving_lib

from . import losses, optimizers, training  # noqa: F401

# Keras finds the classes and functions that a file names once these are imported
from .arguments import checks_flags
from .checkpoints import CheckpointError
from .checkpoints.base import MappedFile, reading
from .checkpoints.keras_file import read_keras
from .checkpoints.zip_file import open_zip, read_member
from .claims import allocate, check_memory, check_names, unallocated
from .configs import ARCHITECTURES, HEADS, Config, config_in, heads_among, read_config
from .files import complete
from .layers import TokenEmbedding, get_activation
from .models import Transformer, class_for
from .parsing import parse_json, shown

# arguments of layers: those that everybody may change later, or that no config tells; and sizes, the
# only ones that the configs of version 0.1.0 tell as they are
FREE = {
    *("dropout", "rate", "remat", "initializer_range", "name", "dtype", "trainable"),
    *("hidden_units", "hidden_activation", "kernel_initializer", "embeddings_initializer"),
}
SIZES = {"input_dim", "output_dim", "units", "num_heads"}


@checks_flags
def load_model(path, compile=True, custom_objects=None, prefix=None, return_keras_model=True):
    """Loads a model that `model.save` or `Transformer.save_checkpoint` wrote, with its `Transformer`.

    It is `keras.saving.load_model`, with all that a file of ours may name at hand: layers, losses,
    optimizers. What is loaded generates, saves checkpoints and is built upon as before. No code
    in a file is run, whatever Keras was told; a file names only what computes (of Keras and of
    this toolkit) and what is yours, and takes no more memory than its size explains.

    Args:
        path: a `.keras` file, or the directory that has it as `model.keras`. The model may be one
            of `build_transformer_model`, or any `keras.Model` with one of them within.
        compile: whether to compile it as it was, and to go on with the state of the optimizer.
        custom_objects: name -> class or function of your own, of those that are not registered; or
            of Keras, where you trust one that reads files or runs code.
        prefix: of the `Transformer`, where a model has several.
        return_keras_model: False gives the `Transformer`.

    Returns:
        The `keras.Model`; its attribute `transformer` is the `Transformer` within. The `model` of
        that is the one in the file, or, where this has layers of others, one of its part.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no `.keras` file, or has code in it, or names what is neither harmless nor
            yours, or claims too much memory, or Keras cannot load it, or has no `Transformer`, or
            several.
        CheckpointError: it is damaged.

    Example:
        >>> model.save("tuned.keras")
        >>> model = load_model("tuned.keras")  # also in another process
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
    """The model in a `.keras` file, no code of which is run, whatever Keras was told.

    Args, Raises: see `load_model`; any model is read.
    """
    complete(path.parent)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file. Pass a .keras file that model.save wrote.")
    if not str(path).endswith(".keras") or not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path}: expected a .keras file, as model.save writes it. Weights alone go into a "
            "model by build_transformer_model(config_path, checkpoint_path)."
        )
    with _one_error(path), open(path, "rb") as file:
        _check(path, file, custom_objects)
        # not the name, which another file may have taken
        return saving_lib.load_model(file, custom_objects, compile=compile, safe_mode=True)


@contextmanager
def _one_error(path):
    """Turns whatever Keras trips over into one `ValueError` that names the file."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(f"{path}:"):
            raise
        raise ValueError(
            f"{path}: Keras cannot load it ({type(error).__name__}: {error!s:.200}). Load it with "
            "the version of Keras, and the classes, that it was saved with."
        ) from error


def _check(path, file, custom_objects):
    """Raises if a `.keras` file is damaged, or names or claims what it should not.

    Args:
        file: the same, open.
    """
    mapped = MappedFile(path)
    with reading(path), open_zip(mapped) as archive:
        text = read_member(mapped, archive, "config.json")
        config = parse_json(text)
    with zipfile.ZipFile(file) as archive:
        same = archive.getinfo("config.json").file_size == len(text)
        if not same or archive.read("config.json") != text:
            raise ValueError(f"{path}: was changed while it was read. Load it again.")
    users = check_names(config, path, custom_objects)
    read_keras(path, probe=True)  # Keras gives the weights to a library that damage can end
    try:
        check_memory(config, path, mapped.size, custom_objects)
    except Exception as error:
        # classes of the user need not bear to be built without memory
        if not users or str(error).startswith(f"{path}:"):
            raise


def transformer_of(model, prefix=None, path=None):
    """The `Transformer` that a model is, or that is within it.

    A model out of a file, or made of another model, has the layers of one, and its table of tokens
    tells how they belong together: the graph is built again, of the same layers.

    Args:
        model: a `keras.Model`.
        prefix: of the `Transformer`; None: there is but one.
        path: the file that it comes from, beside which there may be a config.

    Raises:
        ValueError: there is none, or there are several.
    """
    known = getattr(model, "transformer", None)
    if known is not None and prefix in (None, known.prefix):
        return known
    where = path or getattr(model, "name", model)
    found, beside = list(_described(model)), None
    if not found:
        found, beside = _described_beside(model, path), path and config_in(path.parent)
    prefixes = ", ".join(shown(told["prefix"]) for _, told in found)[:200]
    if found and prefix is not None:
        found = [(part, told) for part, told in found if told["prefix"] == prefix]
        if not found:
            raise ValueError(f"{where}: prefix={shown(prefix)}: expected one of {prefixes}.")
    if not found:
        raise ValueError(
            f"{where}: expected a model of build_transformer_model, or one with it within; found "
            "no layers of one. Other models are loaded by keras.saving.load_model."
        )
    if len(found) > 1:
        raise ValueError(f"{where}: has several transformers; pass prefix=, one of {prefixes}.")
    ((part, told),) = found
    transformer = _built_again(part, told, where, beside)
    if {layer.name for layer in model.layers} == {layer.name for layer in transformer.model.layers}:
        transformer.model = model
    model.transformer = transformer
    return transformer


def _described(model):
    """The models within a model that have a table of tokens, and what that tells."""
    for layer in getattr(model, "layers", ()):
        if isinstance(layer, TokenEmbedding) and layer.transformer:
            yield model, parse_json(layer.transformer.encode())
        elif isinstance(layer, keras.Model):
            yield from _described(layer)


def _described_beside(model, path):
    """The same of a file of version 0.1.0, whose table tells nothing: by a config beside it."""
    config = path and config_in(path.parent)
    names = [layer.name for layer in model.layers]
    if not config or "token_embedding" not in names:
        return []
    if any(hasattr(layer, "gamma_dense") for layer in model._flatten_layers()):
        raise ValueError(
            f"{path}: its normalizations are moved by a condition, of which a file of version 0.1.0 "
            "does not tell. Build the model again, with the file as checkpoint_path."
        )
    values = read_config(config)
    values = ARCHITECTURES.get(values.get("model_type"), {}) | values | heads_among(names)
    told = {"config": values, "prefix": "", "layers": names, "inputs": []}
    return [(model, told)]


def _built_again(model, told, where, beside):
    """A `Transformer` of the layers of a model; `beside` is the config that tells of it, or None."""
    operations = {operation.name: operation for operation in model.operations}
    inputs = {operation.name for operation in map(_operation, model.inputs)}
    ours = inputs.union(told["layers"]) & operations.keys()
    plain = [name.removeprefix(told["prefix"]) for name in ours]
    config = _of_part(Config.from_values(told["config"], str(where)), plain, where)
    layers = {name: operations[name] for name in ours}
    arguments = {}
    if "condition" in told:
        name, index = told["condition"]
        arguments["layer_norm_cond"] = keras.tree.flatten(operations[name].output)[index]
    if told["inputs"]:
        more = [operations[name].output for name in told["inputs"]]
        arguments["additional_input_layers"] = more
    kind = _class(told.get("class"), config.stacks, where)
    with unallocated() as variables:
        transformer = kind(
            config, layers=dict(layers), prefix=told["prefix"], name=model.name, **arguments
        )
    lacking = [n for n, layer in transformer.layers.items() if n not in layers and layer.weights]
    if lacking:
        raise _lacks(where, ", ".join(lacking))
    if kind is class_for(config.stacks):
        unused = [n for n in layers.keys() - transformer.asked_for.keys() if layers[n].weights]
        if unused:
            raise ValueError(
                f"{where}: {beside or 'its table of tokens'} tells of a model without "
                f"{shown(', '.join(sorted(unused)))}, which is there; expected one of the same layers. "
                + ("Take the config that is the model's." if beside else "Save the model again.")
            )
        _compare(transformer.asked_for, layers, beside, where)
    allocate(variables)
    for name in inputs & transformer.layers.keys():
        del transformer.layers[name]
    return transformer


def _compare(asked_for, layers, beside, where):
    """Raises if layers are others than a config says, by which they are generated with and saved.

    Args:
        asked_for: name -> arguments of a layer, as the config says.
        layers: name -> layer of the file.
        beside: the config, if it is not in the file.
        where: the file.
    """
    said = beside or "its table of tokens"
    for name, arguments in asked_for.items():
        if name not in layers:
            continue
        has = layers[name].get_config()
        for key, expected, value in _both(arguments, has):
            if (key not in SIZES if beside else key in FREE) or _same(key, expected, value):
                continue
            raise ValueError(
                f"{where}: {said} says {key}={shown(expected)} of the layer {name!r:.80}, which has "
                f"{shown(value)}; expected the same. "
                + ("Take the config that is the model's." if beside else "Save the model again.")
            )


def _both(first, second):
    """The keys that two dicts have, also within dicts of them, and the two values."""
    for key in filter(second.__contains__, first):
        if isinstance(first[key], dict) and isinstance(second[key], dict):
            yield from _both(first[key], second[key])
        else:
            yield key, first[key], second[key]


def _same(key, expected, value):
    """Whether an argument of a layer is what was expected; functions cannot be told by names."""
    if not key.endswith("activation"):
        return expected == value
    try:
        return get_activation(expected) is get_activation(value)
    except (TypeError, ValueError):
        return True


def _lacks(where, what):
    return ValueError(
        f"{where}: has a part of a Transformer, without {what:.200}. Load it with "
        "keras.saving.load_model."
    )


def _of_part(config, names, where):
    """The config of what a model has of a Transformer: its heads, its stacks, its first blocks.

    Args:
        names: of the layers, without the prefix.
        where: the file, for the error.

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
    counts = {stack: len(there) for stack, there in numbers.items()}
    built = {"one": {"": "i"}, "both": {"encoder_": "i", "decoder_": "j"}}
    for stack, counter in built.get(stacks, {f"{stacks}_": "i"}).items():
        claimed = config.block_counts[counter]
        expected = range(counts.get(stack, 0 if config.share_blocks else min(1, claimed)))
        if missing := set(expected) - numbers.get(stack, set()):
            raise _lacks(where, f"{stack}block_{min(missing)}")
    first = counts.get("", counts.get("encoder_", config.num_hidden_layers))
    second = counts.get("decoder_", config.num_decoder_layers)
    return replace(
        config,
        stacks=stacks,
        num_hidden_layers=first,
        num_decoder_layers=None if second == first else second,
        **{head: False for head in HEADS if head not in heads_among(names)},
    )


def _operation(tensor):
    return tensor._keras_history.operation


def _class(name, stacks, where):
    """The class of a `Transformer`, of those that there are in this process."""
    if name in (None, "Transformer", "EncoderDecoder"):
        return class_for(stacks)
    classes = [Transformer]
    for kind in classes:
        classes += kind.__subclasses__()
    for kind in classes:
        if kind.__name__ == name:
            return kind
    raise ValueError(
        f"{where}: its Transformer is of class {shown(name)}; expected one that has been imported. "
        "Import that class before."
    )
