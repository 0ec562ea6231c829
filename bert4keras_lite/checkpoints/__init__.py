"""Reading and writing checkpoints of all common formats, as lazy mappings name -> NumPy array.

Needs neither TensorFlow, PyTorch nor Keras, and runs no code in a file.

Example:

    with_names = open_checkpoint("chinese_L-12_H-768_A-12")
    with_names.shape("bert/embeddings/word_embeddings")        # (21128, 768)
    save_checkpoint("model.safetensors", with_names, format="safetensors")
"""

import warnings
from collections.abc import Mapping
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from ..arguments import checks_flags
from ..files import SaveError, complete
from ..parsing import LONGEST_NAME, is_file_name, listed
from ..types import PathLike
from . import keras_file, megatron, npz_file, paddle_file, safetensor_file, tf_bundle, torch_file
from .base import (
    MAX_TENSORS,
    Checkpoint,
    CheckpointError,
    Entry,
    MappedFile,
    damaged,
    read_json,
    reading,
    size_of,
)
from .stage import saving_checkpoint
from .zip_file import open_zip

__all__ = ["Checkpoint", "CheckpointError", "open_checkpoint", "save_checkpoint"]

LEAST_NAME = 64  # bytes per tensor of an index that lists more than `MAX_TENSORS`
# endings of the names of files that describe a sharded checkpoint
INDEX = (".index.json", "weights.json")
LOOKED_FOR = (
    "model.safetensors, model.safetensors.index.json, a TensorFlow checkpoint ('checkpoint' or one "
    "*.index), pytorch_model.bin, pytorch_model.bin.index.json, model_state.pdparams, "
    "one *.safetensors, one *.npz, one *.pdparams, "
    "one *.weights.json, one *.weights.h5, one *.keras, mp_rank_*_model_states.pt"
)


@checks_flags
def open_checkpoint(path: PathLike, verify: bool = True) -> Checkpoint:
    """Opens a checkpoint of any format as a lazy mapping from name to NumPy array.

    The format is recognized by the content of the file: TensorFlow (V2), safetensors, PyTorch (zip
    and older), Paddle's `.pdparams`, `.npz`, Keras `.weights.h5` and `.keras`. Opening checks that
    all shards exist and are long enough, so that loading does not fail halfway.

    Args:
        path: a file, the `.index.json` (for Keras, `.weights.json`) of a sharded checkpoint, the
            prefix (or any file) of a TensorFlow checkpoint, or a directory with one checkpoint.
        verify: whether to verify the checksum of a tensor when it is read, for formats that have
            checksums: TensorFlow's and `.npz`; default True. (Those of TensorFlow's index are
            always verified.)

    Returns:
        A `Checkpoint`.

    Raises:
        CheckpointError: there is no checkpoint, a shard is missing, or a file is damaged, has an
            unknown format, or is a pickle of other objects than tensors.

    Example:

        checkpoint = open_checkpoint("chinese_L-12_H-768_A-12/bert_model.ckpt")
        for name in checkpoint:
            print(name, checkpoint.shape(name), checkpoint.dtype(name))
        kernel = checkpoint["bert/pooler/dense/kernel"]
    """
    path = Path(path)
    if "\0" in str(path):
        raise CheckpointError(f"{str(path)!r:.200}: no file can have such a name.")
    with reading(path):
        directory = path if path.is_dir() else path.parent
    try:
        complete(directory)
    except SaveError as error:
        raise CheckpointError(str(error)) from error
    with reading(path):
        if path == directory:
            ranks = list(path.glob(megatron.FILES))
            if ranks:
                return Checkpoint(path, "torch", megatron.read_entries(_ranks(ranks), path))
            path = _find(path)
        return _open(path, verify)


def _ranks(paths):
    """Opens the `Checkpoint` of each rank, in the order of the ranks.

    Raises:
        CheckpointError: a rank is missing.
    """
    ranks = {path.name.split("_")[2]: path for path in paths}
    numbers = [f"{i:02d}" for i in range(len(paths))]
    missing = [number for number in numbers if number not in ranks]
    if missing:
        raise CheckpointError(
            f"{paths[0].parent}: holds {len(paths)} of the files {megatron.FILES}, but none of "
            f"rank {missing[0]}. Get the files of all ranks."
        )
    if len({_identity(path) for path in paths}) < len(paths):
        raise CheckpointError(
            f"{paths[0].parent}: two of the files {megatron.FILES} are links to the same file; "
            "expected a file for each rank. Get the files of all ranks."
        )
    allowance = torch_file.Allowance()
    return [_open(ranks[number], True, allowance) for number in numbers]


def _identity(path):
    """Returns a key that is the same for all paths of a file."""
    status = path.stat()
    return (status.st_dev, status.st_ino) if status.st_ino else path.resolve()


def _find(directory):
    """Returns the path of the checkpoint in a directory.

    Raises:
        CheckpointError: there is none, or several.
    """

    def only(pattern):
        paths = sorted(directory.glob(pattern))
        if len(paths) > 1:
            raise CheckpointError(
                f"{directory}: holds {len(paths)} files {pattern}; expected one. Pass the path of "
                f"one of them: {listed([path.name for path in paths])}."
            )
        return paths[0] if paths else None

    def named(name):
        return directory / name if (directory / name).is_file() else None

    path = (
        named("model.safetensors")
        or named("model.safetensors.index.json")
        or tf_bundle.prefix_in(directory)
        or named("pytorch_model.bin")
        or named("pytorch_model.bin.index.json")
        or named("model_state.pdparams")
        or only("*.safetensors")
        or only("*.npz")
        or only("*.weights.json")
        or only("*.weights.h5")
        or only("*.keras")
        or only("*.pdparams")
    )
    if path is None:
        raise CheckpointError(f"{directory}: holds no checkpoint; looked for {LOOKED_FOR}.")
    return path


def _open(path, verify, allowance=None):
    """Opens the checkpoint of a file.

    Args:
        path: of the file.
        verify: see `open_checkpoint`.
        allowance: `torch_file.Allowance` for all files of a sharded checkpoint, or None.
    """
    prefix = tf_bundle.prefix_of(path)
    if prefix is not None:
        return Checkpoint(prefix, "tf", tf_bundle.read_entries(prefix, verify))
    if not path.exists():
        raise CheckpointError(
            f"{path}: no such file, nor {path.name}.index of a TensorFlow checkpoint. Pass the "
            "file of a checkpoint, its prefix, or its directory."
        )
    size_of(path)
    with reading(path):
        if path.name.endswith(".index.json"):
            return _open_sharded(path, verify)
        if path.name.endswith("weights.json"):
            return _open_sharded_keras(path)
        format, read_entries = _format_of(path)
        if format == "keras":
            entries, layers = read_entries(path)
            return Checkpoint(path, format, entries, layers=layers)
        if format == "npz":
            read_entries = partial(read_entries, verify=verify)
        if format == "torch":
            entries, counters = read_entries(path, allowance or torch_file.Allowance())
            return Checkpoint(path, format, entries, counters=counters)
        if format == "paddle":
            read_entries = partial(read_entries, allowance=torch_file.Allowance())
        return Checkpoint(path, format, read_entries(path))


def _open_sharded(path, verify):
    """Opens a sharded checkpoint, by its JSON index: name of tensor -> name of file."""
    files = _weight_map(path)
    names, entries, allowance = {}, dict.fromkeys(files), torch_file.Allowance()
    shards = _shards(path, files.values())
    for name, file in files.items():
        names.setdefault(shards[file], []).append(name)
    for shard_path, shard_names in names.items():
        shard = _open(shard_path, verify, allowance)
        if shard.format not in ("safetensors", "torch"):
            raise CheckpointError(
                f"{shard.path}: has the format {shard.format}; expected safetensors or torch, for "
                "a shard."
            )
        others = [name for name in shard if shards.get(files.get(name)) != shard_path]
        _check_index(shard, others, files, path)
        entries.update(_listed_entries(shard, shard_names, path))
    return Checkpoint(path, shard.format, entries)


def _check_index(shard, others, files, index):
    """Checks the tensors of a shard that the index does not list for it; warns if there are any.

    Args:
        shard: a `Checkpoint`.
        others: names of these tensors.
        files: name -> file, from the index.
        index: path of the index.

    Raises:
        CheckpointError: the index lists one of them for another shard.
    """
    duplicate = next((name for name in others if name in files), None)
    if duplicate is not None:
        raise CheckpointError(
            f"{shard.path}: holds {duplicate!r:.200}, which is in {files[duplicate]!r:.200} "
            f"according to {index}; expected it in one shard. Get or copy the files again."
        )
    if others:
        warnings.warn(
            f"{shard.path}: {len(others)} tensors, such as {others[0]!r:.200}, are not listed in "
            f"{index}, and left out.",
            stacklevel=2,
        )


def _listed_entries(shard, names, index):
    """Returns name -> `Entry` of the tensors that an index lists for a shard, and frees the rest.

    Raises:
        CheckpointError: the shard does not have one of them.
    """
    missing = next((name for name in names if name not in shard), None)
    if missing is not None:
        raise CheckpointError(
            f"{shard.path}: {missing!r:.200} should be in this file, according to {index}. Get or "
            "copy the files again."
        )
    kept = Checkpoint(shard.path, shard.format, {name: shard.entry(name) for name in names})
    return {
        name: Entry(kept.shape(name), kept.dtype(name), partial(kept.__getitem__, name))
        for name in names
    }


def _open_sharded_keras(path):
    """Opens a sharded Keras model, by its JSON index: group of variables -> names of files."""
    groups = {
        group: [files] if isinstance(files, str) else files
        for group, files in _weight_map(path).items()
    }
    shards = _shards(path, chain.from_iterable(groups.values()))
    for shard in shards.values():
        if not keras_file.is_h5(shard):
            raise CheckpointError(
                f"{shard}: is not HDF5; expected a shard of {path}. Get or copy the file again."
            )
    groups = {group: [shards[file] for file in files] for group, files in groups.items()}
    entries, layers = keras_file.read_shards(path, groups)
    return Checkpoint(path, "keras", entries, layers=layers)


def _weight_map(path):
    """Reads the map of names to files from the index of a sharded checkpoint."""
    most = max(MAX_TENSORS, size_of(path) // LEAST_NAME)
    files = read_json(path, path.read_bytes())["weight_map"]
    if len(files) > most or not files:
        raise damaged(path, f"it lists {len(files)} tensors; expected 1 to {most}")
    return files


def _shards(path, files):
    """Returns name -> path of the files that an index lists, which must be next to the index.

    Links to the same file have one path, so that it is opened once.

    Raises:
        CheckpointError: a file is missing, or would be in another directory.
    """
    shards, paths = {}, {}
    for file in sorted(set(files)):
        if not is_file_name(file):
            raise CheckpointError(
                f"{path}: names a shard outside of its directory: {file!r:.200}; expected a file "
                f"name of at most {LONGEST_NAME} bytes."
            )
        if file.endswith(INDEX):
            raise CheckpointError(
                f"{path}: names an index as a shard: {file!r:.200}; expected a file of tensors."
            )
        shards[file] = path.parent / file
        if not shards[file].is_file():
            raise CheckpointError(
                f"{shards[file]!s:.400}: this shard, listed in {path}, is missing. Get it as well."
            )
        shards[file] = paths.setdefault(_identity(shards[file]), shards[file])
    return shards


def _format_of(path):
    """Recognizes the format of a file; returns it and the function that reads it."""
    with open(path, "rb") as file:
        start = file.read(512)
    if start.startswith(b"PK\3\4"):
        with open_zip(MappedFile(path)) as archive:
            members = archive.namelist()
        if any(name.endswith("/data.pkl") for name in members):
            return "torch", torch_file.read_zip
        if keras_file.WEIGHTS in members:
            return "keras", keras_file.read_keras
        if any(name.endswith(".npy") for name in members):
            return "npz", npz_file.read_entries
    elif torch_file.LEGACY_START.match(start):
        return "torch", torch_file.read_legacy
    elif paddle_file.START.match(start):
        return "paddle", paddle_file.read_entries
    elif safetensor_file.looks_like(start):
        return "safetensors", safetensor_file.read_entries
    elif keras_file.is_h5(path):
        return "keras", keras_file.read_h5
    raise CheckpointError(f"{path}: {_describe_unknown(start)}")


def _describe_unknown(start):
    """Describes a file of no known format, by its first bytes, for the error message."""
    if not start:
        return "is empty. Get or copy the file again."
    if start.startswith(b"version https://git-lfs"):
        return "is only the Git LFS pointer of a checkpoint. Fetch the file with `git lfs pull`."
    if start[257:262] == b"ustar":
        return "is a tar archive. Unpack it (or, if an old PyTorch wrote it, save it again)."
    return (
        "not a checkpoint of a known format (TensorFlow, safetensors, PyTorch, Paddle, .npz, "
        ".weights.h5, .keras), or damaged at its start."
    )


def save_checkpoint(
    path: PathLike,
    tensors: Mapping[str, np.ndarray],
    format: str = "tf",
    metadata: dict[str, str] | None = None,
) -> None:
    """Saves named arrays as a TensorFlow checkpoint or a safetensors file.

    Saving is atomic: if it is interrupted, the old files at `path` stay (see `files.saving`).
    Tensors are read one at a time.

    Args:
        path: for TensorFlow the prefix, such as `"out/bert_model.ckpt"`: writes
            `bert_model.ckpt.index`, `bert_model.ckpt.data-00000-of-00001` and the state file
            `checkpoint` of the directory. For safetensors the file. Missing directories are
            created.
        tensors: mapping name -> array, possibly lazy, such as a `Checkpoint`. For safetensors, a
            mapping that is not a `Checkpoint` is read twice, as that format begins with all shapes.
        format: `"tf"` (default) or `"safetensors"`.
        metadata: for safetensors, a dict of strings to store; the default `{"format": "pt"}` is
            required by transformers.

    Raises:
        CheckpointError: the format does not support a dtype or a name, or a file cannot be written.
        ValueError: the format is unknown, or has no metadata.

    Example:

        save_checkpoint("out/bert_model.ckpt", {"bert/pooler/dense/bias": np.zeros(768)})
    """
    if format not in ("tf", "safetensors") or (format == "tf" and metadata is not None):
        raise ValueError(
            f"format: expected 'tf' (without metadata) or 'safetensors', got {format!r:.200} with "
            f"metadata={metadata!r:.200}."
        )
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(
            f"{path}: is a directory; expected the path of a file (or the prefix, for 'tf')."
        )
    with saving_checkpoint(path.parent) as stage:
        if format == "tf":
            tf_bundle.write(stage / path.name, tensors)
        else:
            safetensor_file.write(stage / path.name, tensors, metadata or {"format": "pt"})
