"""Checkpoints of every common format as lazy mappings from name to NumPy array, and back.

Needs neither TensorFlow, PyTorch nor Keras, and runs nothing that a file contains.

Example:

    with_names = open_checkpoint("chinese_L-12_H-768_A-12")
    with_names.shape("bert/embeddings/word_embeddings")        # (21128, 768)
    save_checkpoint("model.safetensors", with_names, format="safetensors")
"""

import warnings
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path

from ..arguments import checks_flags
from ..files import SaveError, complete, saving
from ..parsing import is_file_name, listed
from . import keras_file, megatron, npz_file, safetensor_file, tf_bundle, torch_file
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
from .zip_file import open_zip

__all__ = ["Checkpoint", "CheckpointError", "open_checkpoint", "save_checkpoint"]

LEAST_NAME = 64  # bytes of an index for each tensor, if it lists more than one file may have
# what the names of descriptions of checkpoints in several files end with
INDEX = (".index.json", "weights.json")
LOOKED_FOR = (
    "model.safetensors, model.safetensors.index.json, a TensorFlow checkpoint ('checkpoint' or one "
    "*.index), pytorch_model.bin, pytorch_model.bin.index.json, one *.safetensors, one *.npz, "
    "one *.weights.json, one *.weights.h5, one *.keras, mp_rank_*_model_states.pt"
)


@checks_flags
def open_checkpoint(path, verify=True):
    """Opens a checkpoint of any format as a lazy mapping from name to NumPy array.

    The format is told by what is in the file: TensorFlow (V2), safetensors, PyTorch (zip and
    older), `.npz`, Keras `.weights.h5` and `.keras`. That all shards are there and are long enough
    is checked here, so that no tensor is found missing when half a model is loaded.

    Args:
        path: a file, the `.index.json` (of Keras, `.weights.json`) of a sharded checkpoint, the
            prefix (or any file) of a TensorFlow checkpoint, or a directory that holds one checkpoint.
        verify: whether to check the checksum of a tensor when it is read, where the format has
            such: TensorFlow's and `.npz`. (Those of TensorFlow's index are always checked.)

    Returns:
        A `Checkpoint`.

    Raises:
        CheckpointError: nothing is there, a shard is missing, or a file is damaged, of an unknown
            format, or a pickle of more than tensors.

    Example:

        checkpoint = open_checkpoint("chinese_L-12_H-768_A-12/bert_model.ckpt")
        for name in checkpoint:
            print(name, checkpoint.shape(name), checkpoint.dtype(name))
        kernel = checkpoint["bert/pooler/dense/kernel"]
    """
    path = Path(path)
    if "\0" in str(path):
        raise CheckpointError(f"{str(path)!r:.200}: no file has such a name.")
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
    """The `Checkpoint` of each rank, in the order of their numbers."""
    ranks = {path.name.split("_")[2]: path for path in paths}
    numbers = [f"{i:02d}" for i in range(len(paths))]
    absent = [number for number in numbers if number not in ranks]
    if absent:
        raise CheckpointError(
            f"{paths[0].parent}: holds {len(paths)} of the files {megatron.FILES}, but none of rank "
            f"{absent[0]}; get the files of all ranks"
        )
    if len({_identity(path) for path in paths}) < len(paths):
        raise CheckpointError(
            f"{paths[0].parent}: two of the files {megatron.FILES} are links to one; expected a file "
            "for each rank. Get the files of all ranks."
        )
    allowance = torch_file.Allowance()
    return [_open(ranks[number], True, allowance) for number in numbers]


def _identity(path):
    """What tells a file from all others, by whatever name it is opened."""
    status = path.stat()
    return (status.st_dev, status.st_ino) if status.st_ino else path.resolve()


def _find(directory):
    """The checkpoint that a directory holds."""

    def only(pattern):
        found = sorted(directory.glob(pattern))
        if len(found) > 1:
            raise CheckpointError(
                f"{directory}: holds {len(found)} files {pattern}; name one of them: "
                + listed([file.name for file in found])
            )
        return found[0] if found else None

    def named(name):
        return directory / name if (directory / name).is_file() else None

    path = (
        named("model.safetensors")
        or named("model.safetensors.index.json")
        or tf_bundle.prefix_in(directory)
        or named("pytorch_model.bin")
        or named("pytorch_model.bin.index.json")
        or only("*.safetensors")
        or only("*.npz")
        or only("*.weights.json")
        or only("*.weights.h5")
        or only("*.keras")
    )
    if path is None:
        raise CheckpointError(f"{directory}: holds no checkpoint; looked for {LOOKED_FOR}")
    return path


def _open(path, verify, allowance=None):
    """The checkpoint of a file; `allowance` is that of all files of which it is one."""
    prefix = tf_bundle.prefix_of(path)
    if prefix is not None:
        return Checkpoint(prefix, "tf", tf_bundle.read_entries(prefix, verify))
    if not path.exists():
        raise CheckpointError(
            f"{path}: no such file, nor {path.name}.index of a TensorFlow checkpoint; name a "
            "checkpoint's file, its prefix, or the directory that holds it"
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
        return Checkpoint(path, format, read_entries(path))


def _open_sharded(path, verify):
    """A checkpoint in several files, by its JSON index: name of tensor -> name of file."""
    files = _weight_map(path)
    names, entries, allowance = {}, dict.fromkeys(files), torch_file.Allowance()
    shards = _shards(path, files.values())
    for name, file in files.items():
        names.setdefault(shards[file], []).append(name)
    for place, own in names.items():
        shard = _open(place, verify, allowance)
        if shard.format not in ("safetensors", "torch"):
            raise CheckpointError(
                f"{shard.path}: is of format {shard.format}, which has no shards."
            )
        _check_index(
            shard, [name for name in shard if shards.get(files.get(name)) != place], files, path
        )
        entries.update(_of_index(shard, own, path))
    return Checkpoint(path, shard.format, entries)


def _check_index(shard, others, files, index):
    """Raises if a shard holds a tensor that an index lists of another, and tells what it does not list.

    Args:
        others: names of its tensors that the index does not say to be here.
        files: name -> shard of the index.
    """
    twice = next((name for name in others if name in files), None)
    if twice is not None:
        raise CheckpointError(
            f"{shard.path}: holds {twice!r:.200}, which is in {files[twice]!r:.200}, as {index} says; "
            "expected it in one shard. Get or copy the files again."
        )
    if others:
        warnings.warn(
            f"{shard.path}: {len(others)} tensors, such as {others[0]!r:.200}, are not listed in "
            f"{index}, and left out.",
            stacklevel=2,
        )


def _of_index(shard, names, index):
    """Name -> `Entry` of what an index lists of a shard: no more of it is kept."""
    absent = next((name for name in names if name not in shard), None)
    if absent is not None:
        raise CheckpointError(f"{shard.path}: {absent!r:.200} should be here, as {index} says")
    kept = Checkpoint(shard.path, shard.format, {name: shard.entry(name) for name in names})
    return {
        name: Entry(kept.shape(name), kept.dtype(name), partial(kept.__getitem__, name))
        for name in names
    }


def _open_sharded_keras(path):
    """A model of Keras in several files, by its JSON index: group of variables -> names of files."""
    groups = {
        group: [files] if isinstance(files, str) else files
        for group, files in _weight_map(path).items()
    }
    shards = _shards(path, chain.from_iterable(groups.values()))
    for shard in shards.values():
        if not keras_file.is_h5(shard):
            raise CheckpointError(f"{shard}: is no HDF5 file, as {path} says")
    groups = {group: [shards[file] for file in files] for group, files in groups.items()}
    entries, layers = keras_file.read_shards(path, groups)
    return Checkpoint(path, "keras", entries, layers=layers)


def _weight_map(path):
    """What the index of a sharded checkpoint tells of its files."""
    most = max(MAX_TENSORS, size_of(path) // LEAST_NAME)
    files = read_json(path, path.read_bytes())["weight_map"]
    if len(files) > most or not files:
        raise damaged(path, f"it lists {len(files)} tensors; expected 1 to {most}")
    return files


def _shards(path, files):
    """Name -> path of the files that an index lists, once they are known to be beside it.

    Links to one file have one path: it is opened once.
    """
    shards, paths = {}, {}
    for file in sorted(set(files)):
        if not is_file_name(file):
            raise CheckpointError(f"{path}: names a shard outside of its directory: {file!r:.200}")
        if file.endswith(INDEX):
            raise CheckpointError(f"{path}: names an index as a shard: {file!r:.200}")
        shards[file] = path.parent / file
        if not shards[file].is_file():
            raise CheckpointError(
                f"{shards[file]!s:.400}: this shard, listed in {path}, is missing"
            )
        shards[file] = paths.setdefault(_identity(shards[file]), shards[file])
    return shards


def _format_of(path):
    """The format of a file, and the function that reads it."""
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
    elif safetensor_file.looks_like(start):
        return "safetensors", safetensor_file.read_entries
    elif keras_file.is_h5(path):
        return "keras", keras_file.read_h5
    raise CheckpointError(f"{path}: {_what_it_may_be(start)}")


def _what_it_may_be(start):
    if not start:
        return "is empty; get or copy the file again"
    if start.startswith(b"version https://git-lfs"):
        return (
            "is only Git LFS's pointer to a checkpoint; fetch the file itself with `git lfs pull`"
        )
    if start[257:262] == b"ustar":
        return "is a tar archive; unpack it (or, if an old PyTorch wrote it, save it again)"
    return (
        "not a checkpoint of a known format (TensorFlow, safetensors, PyTorch, .npz, .weights.h5, "
        ".keras), or damaged at its start"
    )


def save_checkpoint(path, tensors, format="tf", metadata=None):
    """Saves named arrays as a TensorFlow checkpoint or a safetensors file.

    Whenever saving is interrupted, what was at `path` before stays whole (see `files.saving`).
    Tensors are fetched one at a time.

    Args:
        path: for TensorFlow the prefix, such as `"out/bert_model.ckpt"`: writes
            `bert_model.ckpt.index`, `bert_model.ckpt.data-00000-of-00001` and the directory's
            state file `checkpoint`. For safetensors the file. Missing directories are made.
        tensors: a mapping from name to array, possibly lazy (a `Checkpoint`, for one).
            For safetensors a mapping that is not a `Checkpoint` is gone through twice, since that
            format begins with all shapes.
        format: `"tf"` or `"safetensors"`.
        metadata: for safetensors, a dictionary of strings to store along; the default
            `{"format": "pt"}` is what `transformers` asks for.

    Raises:
        CheckpointError: a dtype or name that the format cannot hold, or a file that cannot be
            written.
        ValueError: an unknown format, or metadata for a format that has none.

    Example:

        save_checkpoint("out/bert_model.ckpt", {"bert/pooler/dense/bias": np.zeros(768)})
    """
    if format not in ("tf", "safetensors") or (format == "tf" and metadata is not None):
        raise ValueError(
            f"format must be 'tf' (without metadata) or 'safetensors', and is {format!r} with "
            f"metadata={metadata!r}"
        )
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path}: is a directory; name a file in it (or a prefix, for 'tf')")
    with saving_checkpoint(path.parent) as stage:
        if format == "tf":
            tf_bundle.write(stage / path.name, tensors)
        else:
            safetensor_file.write(stage / path.name, tensors, metadata or {"format": "pt"})


@contextmanager
def saving_checkpoint(directory):
    """`files.saving` for checkpoints: its error is a `CheckpointError`, and no old shard stays."""
    try:
        with saving(directory) as stage:
            yield stage
            bundles = [path.stem for path in stage.glob("*.index")]
    except SaveError as error:
        raise CheckpointError(str(error)) from error
    for name in bundles:
        tf_bundle.remove_unused(Path(directory) / name)
