"""What the checkpoint formats share: the error, the lazy mapping, the mapped file, the limits.

Files come from strangers. Whatever they claim, opening one takes no more memory than its size
explains, and no process is lost to it: see `docs/reliability.md`.
"""

import difflib
import math
import mmap
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import parsing

MAX_RANK = 32  # of every NumPy that is supported
MAX_TENSORS = 50_000  # of one file
COMPARED = 10_000  # names, with one that is not there: more would take seconds


class CheckpointError(Exception):
    """A checkpoint that cannot be read or written: says which file, what is wrong, what to do.

    Names in it may come out of a file: control characters are escaped.
    """

    def __str__(self):
        return parsing.printable(super().__str__(), keep="\n\t")


class FormatError(CheckpointError, ValueError):
    """A model that a format has no names for."""


class MissingTensorError(CheckpointError, KeyError):
    """A name that a checkpoint does not hold; also a `KeyError`, as mappings promise."""

    def __init__(self, path, name, names):
        super().__init__(path, name, names)
        self.path, self.name, self.names = path, name, names

    def __str__(self):  # lazily: `get` and `in` raise and drop this error, and never pay for it
        near = difflib.get_close_matches(str(self.name), self.names[:COMPARED], n=3)
        listed = ", ".join(f"{name!r:.200}" for name in near)
        hint = f"the nearest names are {listed}" if near else f"it holds {len(self.names)} others"
        return f"{self.path}: no tensor is named {self.name!r:.200}; {hint}"


class Entry(NamedTuple):
    """One tensor of a checkpoint: what is known without reading it, and how to read it."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]


class Checkpoint(Mapping):
    """The tensors of a checkpoint: a lazy, read-only mapping from name to NumPy array.

    Made by `open_checkpoint`. Opening reads names, shapes and dtypes; a tensor is read when it is
    asked for, and is a view on the memory-mapped file where the format allows. Such a view keeps
    its file mapped, so there is nothing to close. A file must not be changed in place while it is
    in use; replacing it, as `save_checkpoint` does, is safe.

    Attributes:
        path: the file that was opened (for TensorFlow the prefix, for shards their index).
        format: `"tf"`, `"safetensors"`, `"torch"`, `"npz"` or `"keras"`.
        dialect: what its names were translated from (see `dialects.py`), or None.
        layers: of a file of Keras: group -> the name of the layer that it is of.
        num_heads: how many heads of attention its arrays had an axis for, or None.
        counters: of a file of PyTorch: numbers beside the weights, see `torch_file.COUNTERS`.
    """

    def __init__(
        self, path, format, entries, dialect=None, layers=None, num_heads=None, counters=None
    ):
        self.path, self.format, self._entries = Path(path), format, entries
        self.dialect, self.layers, self.num_heads = dialect, layers, num_heads
        self.counters = counters or {}

    def entry(self, name):
        """The `Entry` of a tensor."""
        try:
            return self._entries[name]
        except (KeyError, TypeError):
            raise MissingTensorError(self.path, name, list(self._entries)) from None

    def __getitem__(self, name):
        entry = self.entry(name)
        with reading(self.path):
            return entry.read()

    def __iter__(self):
        return iter(self._entries)

    def __len__(self):
        return len(self._entries)

    def __contains__(self, name):
        return name in self._entries

    def shape(self, name):
        """The shape of a tensor, a tuple of ints. Reads no data."""
        return self.entry(name).shape

    def dtype(self, name):
        """The NumPy dtype of a tensor; `object` for one that cannot be read. Reads no data."""
        return self.entry(name).dtype

    def __repr__(self):
        return f"<Checkpoint {str(self.path)!r:.200}: {len(self)} tensors, format {self.format!r:.200}>"


@contextmanager
def reading(path):
    """Turns whatever a parser trips over in a damaged file into one `CheckpointError`."""
    try:
        yield
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:
        raise damaged(path, f"{type(error).__name__}: {error!s:.200}") from error


def damaged(path, what):
    """The error for a file that is not what it should be."""
    return CheckpointError(f"{path}: damaged or truncated: {what}; get or copy the file again")


def size_of(path):
    """The size of a file in bytes, once it is known to be one: a pipe would never end."""
    try:
        return parsing.size_of(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def read_json(path, text):
    """What a JSON text of bytes holds; no key may be there twice.

    Raises:
        CheckpointError: it would take far more memory than its length explains.
    """
    try:
        return parsing.parse_json(text, repeats="none")
    except ValueError as error:
        raise damaged(path, f"{error!s:.300}") from error


def unreadable(path, name, shape, kind):
    """An entry that is listed but whose values are not numbers."""

    def read():
        raise CheckpointError(
            f"{path}: {name!r:.200} holds {kind}, and only numbers can be read, of dtypes "
            "that NumPy or ml_dtypes has; leave it out, or save it in another dtype"
        )

    return Entry(shape, np.dtype(object), read)


class MappedFile:
    """A file mapped into memory when its first array is read."""

    def __init__(self, path):
        self.path = Path(path)
        self.size = size_of(path)

    @cached_property
    def buffer(self):
        with parsing.naming(self.path), open(self.path, "rb") as file:
            # the system refuses to map nothing, and a shard of empty tensors is an empty file
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self.size else b""

    def array(self, offset, shape, dtype, strides=None, order="C"):
        """A read-only view on the file; a copy where the file has the values out of alignment."""
        array = np.ndarray(shape, dtype, self.buffer, offset, strides, order)
        return array if array.flags.aligned else array.copy(order)

    def entry(self, name, offset, shape, dtype, order="C"):
        """An `Entry` for values stored in one piece, after checking that the file has them all."""
        shape = checked_shape(self.path, name, shape)
        size = math.prod(shape) * dtype.itemsize
        if not 0 <= offset <= self.size - size:
            place = f"{size} bytes from byte {offset}"
            what = f"{name!r:.200} should take {place}, and the file has {self.size}"
            raise damaged(self.path, what)
        return Entry(shape, dtype, lambda: self.array(offset, shape, dtype, order=order))


def release(array):
    """Lets the system take back the memory of the mapped file that `array` is a view on, if it is.

    For reading a large file once, part by part: the array stays valid, and what is touched again
    is read again.
    """
    while isinstance(array, np.ndarray):
        array = array.base
    if isinstance(array, mmap.mmap) and hasattr(array, "madvise"):  # not on Windows
        array.madvise(mmap.MADV_DONTNEED)


def checked_shape(path, name, shape):
    """`shape` as a tuple, once it is known to be one."""
    if (
        not isinstance(shape, list | tuple)
        or len(shape) > MAX_RANK
        or not all(type(n) is int and 0 <= n < 1 << 60 for n in shape)
    ):
        raise damaged(path, f"{name!r:.200} has the impossible shape {parsing.shown(shape)}")
    return tuple(shape)


def as_bytes(array):
    """The values of an array, contiguous and little-endian, as a flat view of bytes."""
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return array.reshape(-1).view(np.uint8)
