"""Keras' `.weights.h5` and `.keras` files; tensors are named by their paths in the HDF5 file."""

import math
import re
import zipfile
from collections import Counter
from contextlib import contextmanager

import ml_dtypes
import numpy as np

from .base import Checkpoint, Entry, MappedFile, checked_shape, reading, unreadable
from .zip_file import MAX_RATIO, open_zip, stored_at

WEIGHTS = "model.weights.h5"  # in a `.keras` archive
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def read_h5(path):
    """Name -> `Entry` of an HDF5 file."""
    return _read(MappedFile(path), 0, _open_h5)


def read_keras(path):
    """Name -> `Entry` of the weights in a `.keras` archive."""
    file = MappedFile(path)
    with open_zip(file) as archive:
        start = stored_at(file, archive, WEIGHTS)
    return _read(file, start, _open_keras)


@contextmanager
def _open_h5(path):
    import h5py

    with h5py.File(path, "r") as h5:
        yield h5


@contextmanager
def _open_keras(path):
    with (
        zipfile.ZipFile(path) as archive,
        archive.open(WEIGHTS) as weights,
        _open_h5(weights) as h5,
    ):
        yield h5


def _read(file, start, open_h5):
    """The datasets of the HDF5 file that begins at byte `start` of `file`."""
    entries = {}

    def add(name, item):
        if hasattr(item, "shape"):  # a dataset, not a group
            entries[name] = _entry(file, start, open_h5, name, item)

    with open_h5(file.path) as h5:
        h5.visititems(add)
    return entries


def _entry(file, start, open_h5, name, dataset):
    shape, dtype = checked_shape(file.path, name, dataset.shape), dataset.dtype
    if dataset.attrs.get("dtype") == "bfloat16" and dtype.itemsize == 2:
        dtype = BFLOAT16  # which HDF5 has no name for
    if dataset.external or dataset.is_virtual or (dtype.kind not in "biufc" and dtype != BFLOAT16):
        return unreadable(file.path, name, shape, f"values of dtype {dtype}, or from other files")
    offset = dataset.id.get_offset()
    if offset is not None:
        return file.entry(name, start + offset, shape, dtype)
    if math.prod(shape) * dtype.itemsize > MAX_RATIO * file.size:
        raise ValueError(f"{name!r} of shape {shape} cannot be in a file of {file.size} bytes")

    def read():  # in chunks, compressed, or empty: not in one piece of the file
        with open_h5(file.path) as h5:
            return h5[name][()].view(dtype)

    return Entry(shape, dtype, read)


def under_paths(checkpoint, layers, dtypes, prefix=""):
    """A file of Keras under the paths of variables.

    Keras names arrays by the classes of layers and their order; but the file also tells the name
    that each layer had, which says more.

    Args:
        checkpoint: from `read_h5` or `read_keras`.
        layers: path of a layer -> key of an array of its own -> path of the variable.
        dtypes: path of a variable -> its dtype; those left out are floating point numbers.
        prefix: of the names of layers in the model; in the file they may have another.

    Returns:
        A `Checkpoint`. Where the model has no such layer, or the file has more arrays for it or
        another kind of numbers, arrays stand under the path of the layer and their keys.
    """
    entries = {}
    for layer, arrays in _by_layer(checkpoint, prefix).items():
        paths = layers.get(layer, {})
        fits = arrays.keys() <= paths.keys() and all(
            _whole_numbers(checkpoint.dtype(name)) == _whole_numbers(dtypes.get(paths[key], ""))
            for key, name in arrays.items()
        )
        for key, name in arrays.items():
            entries[paths[key] if fits else f"{layer}/{key}"] = checkpoint.entry(name)
    return Checkpoint(checkpoint.path, "keras", entries)


def _whole_numbers(dtype):
    return re.match("u?int|bool", str(dtype)) is not None


def _by_layer(checkpoint, prefix):
    """Path of a layer, of names -> key -> name of the array."""
    names = _layer_names(checkpoint.path)
    tops = sorted((g for g in names if re.fullmatch("layers/[^/]+", g)), key=_natural)
    plain = [without_prefix(names[group], prefix, names.values()) for group in tops]
    names |= zip(tops, counted_anew(zip(plain, map(_last, tops), strict=True)), strict=True)
    layers = {}
    for name in checkpoint:
        group, _, key = name.rpartition("/vars/")
        if group.startswith("layers/"):
            parts = group.split("/")
            groups = ["/".join(parts[: i + 1]) for i in range(len(parts))]
            path = "/".join(names[g] for g in groups if g in names)
            layers.setdefault(path, {})[key] = name
    return layers


def _layer_names(path):
    """Group of a file -> the name of the layer that it is of."""
    names = {}

    def add(path, item):
        group, _, last = path.rpartition("/")
        if last == "vars":
            names[group] = str(item.attrs.get("name", _last(group)))

    with reading(path), (_open_keras if zipfile.is_zipfile(path) else _open_h5)(path) as h5:
        h5.visititems(add)
    return names


def _last(group):
    return group.rpartition("/")[2]


def _natural(group):
    stem, number = re.fullmatch(r"(.*?)(?:_(\d+))?", group).groups()
    return stem, int(number or 0)


def without_prefix(name, prefix, names):
    """The name of a layer without `prefix`; or without the one that the table of tokens has."""
    tokens = "token_embedding"
    if f"{prefix}{tokens}" not in names:
        prefix = next((n.removesuffix(tokens) for n in names if n.endswith(tokens)), "")
    return name.removeprefix(prefix)


def counted_anew(layers):
    """The names of layers; those that Keras made up (`dense_7`) counted anew, in order.

    Args:
        layers: pairs of a name and of the layer's class, in either spelling.
    """
    counts = Counter()
    for name, kind in layers:
        stem, plain = _natural(name)[0], _natural(kind)[0]
        if stem.replace("_", "") == plain.replace("_", "").lower():
            name = f"{stem}_{counts[stem]}" if counts[stem] else stem
            counts[stem] += 1
        yield name
