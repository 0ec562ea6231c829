"""Reader of Keras' `.weights.h5` and `.keras` files; names are paths in the HDF5 file."""

import re
from collections import Counter

from . import hdf5
from .base import Checkpoint, CheckpointError, MappedFile, damaged
from .zip_file import open_zip, stored_at

__all__ = ["WEIGHTS", "is_h5", "read_h5", "read_keras", "read_shards", "renumbered", "under_paths"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
WEIGHTS = "model.weights.h5"  # in a `.keras` archive


def is_h5(path):
    """Whether a file is HDF5; a user block of 512, 1024, 2048, ... bytes may come first."""
    with open(path, "rb") as file:
        offset, start = 0, file.read(len(SIGNATURE))
        while start != SIGNATURE and len(start) == len(SIGNATURE):
            offset = max(512, 2 * offset)
            file.seek(offset)
            start = file.read(len(SIGNATURE))
    return start == SIGNATURE


def read_h5(path, probe=False):
    """Reads an HDF5 file: name -> `Entry`, and group -> name of a layer; see `hdf5.read`."""
    file = MappedFile(path)
    return hdf5.read(path, [hdf5.Part(file, 0, file.size)], probe)[0]


def read_keras(path, probe=False):
    """Reads the weights in a `.keras` archive, like `read_h5`."""
    file = MappedFile(path)
    with open_zip(file) as archive:
        start, size = stored_at(file, archive, WEIGHTS), archive.getinfo(WEIGHTS).file_size
    return hdf5.read(path, [hdf5.Part(file, start, size)], probe)[0]


def read_shards(path, groups):
    """Reads a model in several HDF5 files, like `read_h5`.

    Args:
        path: of the `.weights.json` that lists them.
        groups: group of variables, with a leading slash -> paths of the files that have some of
            them.

    Raises:
        CheckpointError: a file is damaged, or does not have what the list says.
    """
    paths = sorted({shard for shards in groups.values() for shard in shards})
    files = [MappedFile(shard) for shard in paths]
    contents = hdf5.read(path, [hdf5.Part(file, 0, file.size) for file in files])
    entries, layers, where = {}, {}, {}
    for shard, (shard_entries, names) in zip(paths, contents, strict=True):
        for name, entry in shard_entries.items():
            if name in entries:
                raise damaged(path, f"{name!r:.200} is in {where[name].name!r:.200}, and in others")
            entries[name], where[name] = entry, shard
        layers = (
            names | layers
        )  # only the first file has the layer's name, the others only variables
    stored = {(f"/{name}".rpartition("/vars/")[0], shard) for name, shard in where.items()}
    for group, shards in groups.items():
        for shard in shards:
            if (group.removesuffix("/vars"), shard) not in stored:
                raise damaged(shard, f"{group!r:.200} should be in this file, according to {path}")
    return entries, layers


def under_paths(checkpoint, layers, dtypes, prefix=""):
    """Renames the arrays of a Keras file to the paths of variables.

    Keras names arrays by the classes and the order of layers; but the file also has the name of
    each layer, which is used here.

    Args:
        checkpoint: with names from `read_h5` or `read_keras`.
        layers: path of a layer -> key of one of its arrays -> path of the variable.
        dtypes: path of a variable -> dtype; default: a floating point dtype.
        prefix: of the names of layers in the model; the file may have another.

    Returns:
        A `Checkpoint`. If the model has no such layer, or the file has more arrays for it or other
        dtypes (integers or not), the name of an array is the path of the layer and its key.

    Raises:
        CheckpointError: the file has two layers with the name of a layer of the model.
    """
    entries = {}
    for layer, groups in _by_layer(checkpoint, prefix).items():
        arrays, *others = groups.values()
        if others:
            if layer in layers:
                first, second, *_ = groups
                raise CheckpointError(
                    f"{checkpoint.path}: {first!r:.200} and {second!r:.200} are both of a layer "
                    f"named {layer!r:.200}; expected one. Leave out the one that is not of the "
                    "model."
                )
            entries |= {
                name: checkpoint.entry(name) for a in groups.values() for name in a.values()
            }
            continue
        paths = layers.get(layer, {})
        matches = arrays.keys() <= paths.keys() and all(
            _is_integer(checkpoint.dtype(name)) == _is_integer(dtypes.get(paths[key], ""))
            for key, name in arrays.items()
        )
        for key, name in arrays.items():
            entries[paths[key] if matches else f"{layer}/{key}"] = checkpoint.entry(name)
    return Checkpoint(checkpoint.path, "keras", entries)


def _is_integer(dtype):
    return re.match("u?int|bool", str(dtype)) is not None


def _by_layer(checkpoint, prefix):
    """Groups the arrays of a file: path of a layer -> group -> key -> name of the array."""
    names = dict(checkpoint.layers)
    tops = sorted((g for g in names if re.fullmatch("layers/[^/]+", g)), key=_natural)
    plain = [without_prefix(names[group], prefix, names.values()) for group in tops]
    names |= zip(tops, renumbered(zip(plain, map(_last, tops), strict=True)), strict=True)
    layers = {}
    for name in checkpoint:
        group, _, key = name.rpartition("/vars/")
        if group.startswith("layers/"):
            parts = group.split("/")
            groups = ["/".join(parts[: i + 1]) for i in range(len(parts))]
            path = "/".join(names[g] for g in groups if g in names)
            layers.setdefault(path, {}).setdefault(group, {})[key] = name
    return layers


def _last(group):
    return group.rpartition("/")[2]


def _natural(group):
    """Splits a name into stem and number, to sort `dense_2` before `dense_10`."""
    stem, mark, number = group.rpartition("_")
    if mark and re.fullmatch(r"\d{1,9}", number):
        return stem, int(number)
    return group, 0


def without_prefix(name, prefix, names):
    """Removes from the name of a layer `prefix`, or else the prefix of the file's token table."""
    tokens = "token_embedding"
    if f"{prefix}{tokens}" not in names:
        prefix = next((n.removesuffix(tokens) for n in names if n.endswith(tokens)), "")
    return name.removeprefix(prefix)


def renumbered(layers):
    """Yields the names of layers; automatic names of Keras (`dense_7`) are numbered again.

    Args:
        layers: pairs (name, class) of strings; the class in camel or snake case.
    """
    counts = Counter()
    for name, cls in layers:
        stem, cls_stem = _natural(name)[0], _natural(cls)[0]
        if stem.replace("_", "") == cls_stem.replace("_", "").lower():
            name = f"{stem}_{counts[stem]}" if counts[stem] else stem
            counts[stem] += 1
        yield name
