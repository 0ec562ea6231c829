"""Weights of whole models that bert4keras saved under Keras 2 in HDF5 (`.h5`, `.weights`)."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..checkpoints.keras_file import is_h5, read_h5
from ..types import PathLike
from .backend import sinusoidal_embeddings
from .graph import OldLayer, owner_of

__all__ = ["is_keras2_file", "load_keras2_file"]

# the order in which layers of Keras 2 create what has no number in its name
KINDS = [
    "hidden_dense",
    "kernel",
    "bias",
    "embeddings",
    "beta",
    "gamma",
    "trans",
    "l_trans",
    "r_trans",
]


def is_keras2_file(path: PathLike) -> bool:
    """Whether a file is HDF5 with weights as Keras 2 names them, `layer/.../kernel:0`."""
    path = Path(os.fspath(path))
    return path.is_file() and is_h5(path) and any(name.endswith(":0") for name in read_h5(path)[0])


def load_keras2_file(model: keras.Model, path: PathLike) -> None:
    """Loads the weights of a model: all of them, or none.

    Layers of bert4keras are found by their names; others, such as a classifier, by their names or
    in the order of the numbers in them.

    Raises:
        ValueError: a layer is missing in the file or in the model, or has another shape.
        CheckpointError: the file is damaged.
    """
    plan = list(paired(model, layers_of_file(path), path))
    for layer, entries in plan:
        stored_shapes, expected = [entry.shape for entry in entries], shapes_of(layer)
        if stored_shapes != expected:
            raise ValueError(
                f"{path}: {layer.name} has weights of the shapes {stored_shapes}; expected"
                f" {expected}. Build the model with the config and options that it was saved with."
            )
    for layer, entries in plan:
        layer.set_weights([entry.read() for entry in entries])


def shapes_of(layer: Any) -> list[tuple]:
    """Returns the shapes of the weights of a layer of Keras or of bert4keras."""
    return layer.shapes if isinstance(layer, OldLayer) else [tuple(w.shape) for w in layer.weights]


def layers_of_file(path: PathLike) -> dict[str, list[Any]]:
    """Returns layer -> its arrays, in the order in which Keras 2 created them."""
    entries, _ = read_h5(Path(os.fspath(path)))
    groups: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, entry in entries.items():
        name = name.removeprefix("model_weights/")
        if not name.startswith(("optimizer_weights/", "top_level_model_weights/")):
            layer, _, rest = name.partition("/")
            groups[layer][rest.removesuffix(":0")] = entry
    return {
        layer: [arrays[name] for name in sorted(arrays, key=_creation)]
        for layer, arrays in groups.items()
    }


def _creation(name):
    """A key that sorts the weights of a layer as they were created."""
    *parents, last = name.split("/")
    last = re.sub(r"_\d+$", "", last)
    numbers = [_number(parent) for parent in parents]
    return (len(parents) > 1, numbers, KINDS.index(last) if last in KINDS else len(KINDS), name)


def _number(name):
    """The number at the end of a name that Keras chose; 0: there is none."""
    stored_shapes = re.search(r"_(\d+)$", name)
    return int(stored_shapes[1]) if stored_shapes else 0


def paired(
    model: keras.Model, stored: dict[str, list[Any]], path: PathLike
) -> Iterator[tuple[Any, list[Any]]]:
    """Yields each layer with weights, and its `Entry`s in the file.

    Raises:
        ValueError: some layers have no counterpart, or a table that is computed differs.
    """
    stored = {name: arrays for name, arrays in stored.items() if arrays}
    layers = list(model._flatten_layers(include_self=False, recursive=False))
    owners = [owner for owner in dict.fromkeys(map(_owner, layers)) if owner is not None]
    old = [OldLayer(owner, place) for owner in owners for place in owner.old_layers]
    taken = {id(layer) for owner in owners for layer in owner.layers.values()}
    for layer in {layer.name: layer for layer in old if layer.layer in layers}.values():
        if layer.weights and layer.name not in stored:
            raise ValueError(
                f"{path}: has no layer {layer.name!r}; it has {_some(stored)}. Load it into the"
                " model that it was saved from."
            )
        if layer.weights:
            yield layer, stored.pop(layer.name)
        elif layer.name in stored:
            check_table(layer.name, stored.pop(layer.name)[0], path)
    others = {x.name: x for x in layers if x.weights and id(x) not in taken}
    for name in [name for name in others if name in stored]:
        yield others.pop(name), stored.pop(name)
    if len(others) != len(stored):
        raise ValueError(
            f"{path}: {_some(stored) or 'no layer'} is left over for {_some(others) or 'no layer'}"
            " of the model. Load it into the model that it was saved from."
        )
    names = sorted(stored, key=lambda name: (_number(name), name))
    for layer, name in zip(others.values(), names, strict=True):
        yield layer, stored[name]


def check_table(name: str, entry: Any, path: PathLike) -> None:
    """Raises a `ValueError` if a table of positions differs from the one that is computed here."""
    rows, size = entry.shape
    computed = keras.ops.convert_to_numpy(sinusoidal_embeddings(np.arange(rows), size))
    if not np.allclose(entry.read(), computed, atol=1e-5):
        raise ValueError(
            f"{path}: {name} was trained, but the positions here are computed. Take them out of the"
            " model, or train it again."
        )


def _owner(layer):
    return owner_of([layer])


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
