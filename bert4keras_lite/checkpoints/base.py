"""Base of the checkpoint formats: errors, the lazy mapping, the mapped file, limits.

Files are not trusted. Whatever a file claims, opening it takes no more memory than its size
explains and does not crash the process: see `docs/reliability.md`.
"""

import difflib
import math
import mmap
import os
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import parsing
from ..types import PathLike

__all__ = [
    "MAX_RANK",
    "MAX_TENSORS",
    "Checkpoint",
    "CheckpointError",
    "Entry",
    "FormatError",
    "MappedFile",
    "PrivateViews",
    "as_bytes",
    "checked_shape",
    "damaged",
    "read_json",
    "reading",
    "release",
    "size_of",
    "unreadable",
]

MAX_RANK = 32  # of arrays, in every supported NumPy
MAX_TENSORS = 50_000  # per file
COMPARED = 10_000  # names that are compared with a missing one: more would take seconds


class CheckpointError(Exception):
    """Error for a checkpoint that cannot be read or written; names the file and what to do.

    Names in the message may be from the file, so control characters are escaped.
    """

    def __str__(self):
        return parsing.printable(super().__str__(), keep="\n\t")


class FormatError(CheckpointError, ValueError):
    """Error for a model whose variables have no names in a format."""


class MissingTensorError(CheckpointError, KeyError):
    """Error for a name that a checkpoint does not have; also a `KeyError`, as for any mapping."""

    def __init__(self, path, name, names):
        super().__init__(path, name, names)
        self.path, self.name, self.names = path, name, names

    def __str__(self):  # lazy, as `get` and `in` raise and drop this error
        near = difflib.get_close_matches(str(self.name), self.names[:COMPARED], n=3)
        listed = ", ".join(f"{name!r:.200}" for name in near)
        hint = f"the nearest names are {listed}" if near else f"it holds {len(self.names)} others"
        return f"{self.path}: no tensor is named {self.name!r:.200}; {hint}."


class Entry(NamedTuple):
    """Tensor of a checkpoint: its shape, its dtype, and a function that reads it."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]


class Checkpoint(Mapping):
    """Lazy, read-only mapping from the names of a checkpoint's tensors to NumPy arrays.

    Returned by `open_checkpoint`. Opening reads names, shapes and dtypes; a tensor is read on
    access, and is a view on the memory-mapped file where the format allows it. A view keeps its
    file mapped, so nothing has to be closed. A file must not be changed in place while it is in
    use, by a `Checkpoint` or by a model that was loaded from it (see `PrivateViews`); replacing it,
    as `save_checkpoint` does, is safe.

    Attributes:
        path: the file that was opened (for TensorFlow the prefix, for shards their index).
        format: `"tf"`, `"safetensors"`, `"torch"`, `"paddle"`, `"npz"` or `"keras"`.
        dialect: the `Dialect` that its names were translated from (see `dialects.py`), or None.
        layers: for Keras files: group -> name of its layer.
        num_heads: number of attention heads, if arrays of the file have an axis for them, or None.
        counters: for PyTorch files: numbers stored next to the weights, see
            `torch_file.COUNTERS`.
    """

    def __init__(
        self,
        path: PathLike,
        format: str,
        entries: Mapping[str, Entry],
        dialect: Any = None,
        layers: Any = None,
        num_heads: int | None = None,
        counters: Any = None,
    ) -> None:
        self.path, self.format, self._entries = Path(path), format, entries
        self.dialect, self.layers, self.num_heads = dialect, layers, num_heads
        self.counters = counters or {}

    def entry(self, name: str) -> Entry:
        """Returns the `Entry` of a tensor."""
        try:
            return self._entries[name]
        except (KeyError, TypeError):
            raise MissingTensorError(self.path, name, list(self._entries)) from None

    def __getitem__(self, name: str) -> np.ndarray:
        entry = self.entry(name)
        with reading(self.path):
            return entry.read()

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a tensor, a tuple of ints, without reading it."""
        return self.entry(name).shape

    def dtype(self, name: str) -> np.dtype:
        """Returns the NumPy dtype of a tensor (`object` if unreadable), without reading it."""
        return self.entry(name).dtype

    def __repr__(self):
        return (
            f"<Checkpoint {str(self.path)!r:.200}: {len(self)} tensors, format"
            f" {self.format!r:.200}>"
        )


@contextmanager
def reading(path):
    """Context that converts any error of a parser to a `CheckpointError` that names the file."""
    try:
        yield
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except Exception as error:
        raise damaged(path, f"{type(error).__name__}: {error!s:.200}") from error


def damaged(path, problem):
    """Makes the error for a damaged file.

    Args:
        path: of the file.
        problem: what is wrong; a period at its end is optional.
    """
    return CheckpointError(
        f"{path}: damaged or truncated: {problem.removesuffix('.')}. Get or copy the file again."
    )


def size_of(path):
    """Returns the size of a file in bytes, after checking that it is a file and not a pipe.

    Raises:
        CheckpointError: it is not.
    """
    try:
        return parsing.size_of(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def read_json(path, text):
    """Parses JSON.

    Args:
        path: of the file, for messages.
        text: bytes.

    Raises:
        CheckpointError: it is not JSON, has a key twice, or would take far more memory than its
            length explains.
    """
    try:
        return parsing.parse_json(text, repeats="none")
    except ValueError as error:
        raise damaged(path, f"{error!s:.300}") from error


def unreadable(path, name, shape, content):
    """Makes an entry for a tensor whose values are not numbers: reading it raises.

    Args:
        path: of the file, for messages.
        name, shape: of the tensor.
        content: what the tensor holds, in words.
    """

    def read():
        raise CheckpointError(
            f"{path}: {name!r:.200} holds {content}, and only numbers can be read, of dtypes that "
            "NumPy or ml_dtypes has. Leave it out, or save it in another dtype."
        )

    return Entry(shape, np.dtype(object), read)


class FileMap(mmap.mmap):
    """Read-only map of a file into memory, which knows the file.

    Attributes:
        path: of the file.
        state: see `_state`.
        is_kept: see `MappedFile`.
    """


class MappedFile:
    """File that is mapped into memory when its first array is read.

    Args:
        path: of the file.
        is_kept: whether models may use the memory of the file as long as they live, because hardly
            any program writes into files of its format in place; see `PrivateViews`.
    """

    def __init__(self, path, is_kept=False):
        self.path, self.is_kept = Path(path), is_kept
        self.size = size_of(path)

    @cached_property
    def buffer(self):
        if not self.size:  # an empty file, such as a shard of empty tensors, cannot be mapped
            return b""
        with parsing.naming(self.path), open(self.path, "rb") as file:
            buffer = FileMap(file.fileno(), 0, access=mmap.ACCESS_READ)
            buffer.path, buffer.state, buffer.is_kept = self.path, _state(file), self.is_kept
            return buffer

    def array(self, offset, shape, dtype, strides=None, order="C"):
        """Returns a read-only view on the file, or a copy if the values are not aligned in it."""
        array = np.ndarray(shape, dtype, self.buffer, offset, strides, order)
        return array if array.flags.aligned else array.copy(order)

    def entry(self, name, offset, shape, dtype, order="C"):
        """Makes an `Entry` for contiguous values, after checking that the file has all of them.

        Args:
            name, shape, dtype: of the tensor.
            offset: of its first byte.
            order: `"C"` or `"F"`.

        Raises:
            CheckpointError: the file is too short.
        """
        shape = checked_shape(self.path, name, shape)
        size = math.prod(shape) * dtype.itemsize
        if not 0 <= offset <= self.size - size:
            extent = f"{size} bytes from byte {offset}"
            problem = f"{name!r:.200} should take {extent}, and the file has {self.size}"
            raise damaged(self.path, problem)
        return Entry(shape, dtype, lambda: self.array(offset, shape, dtype, order=order))


def _state(file):
    """Returns what tells whether a file at the same path is still the same one, unchanged."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _map_of(array):
    """Returns the `FileMap` that an array is a view on, or None."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array if isinstance(array, FileMap) else None


def release(array):
    """Releases the memory of the mapped file that an array is a view on, if it is one.

    This is for reading a large file once, part by part. The array stays valid; accessing it reads
    the file again.
    """
    mapped = _map_of(array)
    if mapped is not None and hasattr(mapped, "madvise"):  # not on Windows
        mapped.madvise(mmap.MADV_DONTNEED)


class PrivateViews:
    """Gives out views on mapped files that may be written to, each part of a file once.

    The files are mapped again for this, so that a model may use the views as its own memory: what
    is written to a page stays in memory, and neither the file nor another model has it. The file
    must not be written to or truncated meanwhile, which would change the views or end the process;
    replacing or deleting it is safe. On Windows, where mapped files cannot be replaced, there are
    no such views.
    """

    def __init__(self):
        self.files = {}  # `FileMap` -> private map of its file, and the parts that were given out

    def view(self, array):
        """Returns a view with the values of an array, or None if there can be none."""
        mapped = _map_of(array)
        if mapped is None or not mapped.is_kept or os.name != "posix":
            return None
        if min(array.strides, default=0) <= 0:  # a value would have several places
            return None
        if mapped not in self.files:
            self.files[mapped] = _mapped_again(mapped), []
        private, parts = self.files[mapped]
        start = array.ctypes.data - np.frombuffer(mapped, np.uint8).ctypes.data
        sizes = (stride * (n - 1) for stride, n in zip(array.strides, array.shape, strict=True))
        part = start, start + sum(sizes) + array.itemsize
        place = bisect(parts, part)
        overlaps = any(
            low < part[1] and part[0] < high for low, high in parts[max(place - 1, 0) : place + 1]
        )
        if private is None or overlaps:
            return None
        parts.insert(place, part)
        return np.ndarray(array.shape, array.dtype, private, start, array.strides)


def _mapped_again(mapped):
    """Maps the file of a `FileMap` privately; returns None if it is not there any more."""
    try:
        with open(mapped.path, "rb") as file:
            is_same = _state(file) == mapped.state
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) if is_same else None
    except OSError:  # the file was deleted, or the system does not promise that much memory
        return None


def checked_shape(path, name, shape):
    """Returns `shape` as a tuple, after checking that it is a shape.

    Raises:
        CheckpointError: it is not.
    """
    if (
        not isinstance(shape, list | tuple)
        or len(shape) > MAX_RANK
        or not all(type(n) is int and 0 <= n < 1 << 60 for n in shape)
    ):
        raise damaged(path, f"{name!r:.200} has the impossible shape {parsing.shown(shape)}")
    return tuple(shape)


def as_bytes(array):
    """Returns the values of an array, contiguous and little-endian, as a flat array of bytes."""
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return array.reshape(-1).view(np.uint8)
