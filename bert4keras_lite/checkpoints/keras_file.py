"""Keras' `.weights.h5` and `.keras` files; tensors are named by their paths in the HDF5 file."""

import re
from collections import Counter

from . import hdf5
from .base import Checkpoint, CheckpointError, MappedFile, damaged
from .zip_file import open_zip, stored_at

SIGNATURE = b"\x89HDF\r\n\x1a\n"
WEIGHTS = "model.weights.h5"  # in a `.keras` archive


def is_h5(path):
    """Whether a file is of HDF5: there may be something else in the first 512 bytes, 1024, ..."""
    with open(path, "rb") as file:
        place, start = 0, file.read(len(SIGNATURE))
        while start != SIGNATURE and len(start) == len(SIGNATURE):
            place = max(512, 2 * place)
            file.seek(place)
            start = file.read(len(SIGNATURE))
    return start == SIGNATURE


def read_h5(path, probe=False):
    """Name -> `Entry` of an HDF5 file, and group -> name of a layer; see `hdf5.read`."""
    file = MappedFile(path)
    return hdf5.read(path, [hdf5.Part(file, 0, file.size)], probe)[0]


def read_keras(path, probe=False):
    """The same of the weights in a `.keras` archive."""
    file = MappedFile(path)
    with open_zip(file) as archive:
        start, size = stored_at(file, archive, WEIGHTS), archive.getinfo(WEIGHTS).file_size
    return hdf5.read(path, [hdf5.Part(file, start, size)], probe)[0]


def read_shards(path, groups):
    """The same of a model in several HDF5 files.

    Args:
        path: the `.weights.json` that tells of them.
        groups: group of variables, with a slash before it -> the paths of the files that have some.
    """
    paths = sorted({shard for shards in groups.values() for shard in shards})
    files = [MappedFile(shard) for shard in paths]
    told = hdf5.read(path, [hdf5.Part(file, 0, file.size) for file in files])
    entries, layers, where = {}, {}, {}
    for shard, (more, names) in zip(paths, told, strict=True):
        for name, entry in more.items():
            if name in entries:
                raise damaged(path, f"{name!r:.200} is in {where[name].name!r:.200}, and in others")
            entries[name], where[name] = entry, shard
        layers = names | layers  # the first of them has the name: the others, but variables
    there = {(f"/{name}".rpartition("/vars/")[0], shard) for name, shard in where.items()}
    for group, shards in groups.items():
        for shard in shards:
            if (group.removesuffix("/vars"), shard) not in there:
                raise damaged(shard, f"{group!r:.200} should be here, as {path} says")
    return entries, layers


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

    Raises:
        CheckpointError: the file has two layers of the name of one of the model's.
    """
    entries = {}
    for layer, groups in _by_layer(checkpoint, prefix).items():
        arrays, *others = groups.values()
        if others:
            if layer in layers:
                first, second, *_ = groups
                raise CheckpointError(
                    f"{checkpoint.path}: {first!r:.200} and {second!r:.200} are both of a layer named "
                    f"{layer!r:.200}; expected one. Leave out the one that is not the model's."
                )
            entries |= {
                name: checkpoint.entry(name) for a in groups.values() for name in a.values()
            }
            continue
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
    """Path of a layer, of names -> group -> key -> name of the array."""
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
    stem, mark, number = group.rpartition("_")
    if mark and re.fullmatch(r"\d{1,9}", number):
        return stem, int(number)
    return group, 0


def without_prefix(name, prefix, names):
    """The name of a layer without `prefix`; or without the one that the table of tokens has."""
    tokens = "token_embedding"
    if f"{prefix}{tokens}" not in names:
        prefix = next((n.removesuffix(tokens) for n in names if n.endswith(tokens)), "")
    return name.removeprefix(prefix)


def renumbered(layers):
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
