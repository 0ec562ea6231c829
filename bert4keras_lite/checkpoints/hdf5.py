"""HDF5 files of strangers: a child process reads them, which a damaged one may end.

What lies in one piece of the file, which is all that Keras writes, is mapped here.
"""

import json
import math
import subprocess
import sys
from itertools import accumulate, islice
from pathlib import Path

import ml_dtypes
import numpy as np

from ..parsing import FREE
from .base import MAX_TENSORS, CheckpointError, Entry, checked_shape, damaged, read_json, unreadable

CHILD = Path(__file__).with_name("hdf5_child.py")
ALONG = 16 << 20  # bytes
OVERTAXED = "reading it ended or overtaxed the HDF5 library"
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def read(file, start, size, probe=False):
    """What an HDF5 file holds.

    Args:
        file: a `MappedFile`.
        start, size: where in it the HDF5 file is.
        probe: read all of it, so that another library may be trusted to read it afterwards.

    Returns:
        Name -> `Entry`, and group -> the name of the layer that it is of.

    Raises:
        CheckpointError: it is damaged, or would take far more memory than its size explains.
    """
    packed = _Packed(file, start, size)
    told = read_json(file.path, packed.ask(**({"probe": True} if probe else {})))
    if len(told["datasets"]) > MAX_TENSORS:
        raise damaged(file.path, f"it has {len(told['datasets'])} datasets")
    entries = {
        item["name"]: _entry(file, start, packed, item) for item in told["datasets"] if item["name"]
    }
    return entries, told["layers"]


class _Packed:
    """The datasets of a file that are not in one piece of it: in chunks, compressed, or filled in.

    A process for each of many small ones would take long: those that follow are read along. All
    processes share the CPU seconds that may be spent on reading the file once.
    """

    def __init__(self, file, start, size):
        self.file, self.start, self.size = file, start, size
        self.seconds = self.allowed = 8 + size // 10_000_000
        self.sizes, self.read_along, self.done = {}, {}, set()

    def ask(self, **request):
        """What a child process says of the file."""
        if self.seconds <= 0:
            raise damaged(self.file.path, OVERTAXED)
        seconds = math.ceil(self.seconds)
        content, taken = _ask(self.file, self.start, self.size, seconds, **request)
        self.seconds -= taken
        return content

    def read(self, name):
        """The bytes of a dataset."""
        if name in self.done:  # the file is read again
            self.seconds, self.done = self.allowed, set()
        self.done.add(name)
        content = self.read_along.pop(name, None)
        if content is None:
            names = self._from(name)
            content = self.ask(names=names)
            ends = [*accumulate(self.sizes[name] for name in names)]
            if len(content) != ends[-1]:
                raise damaged(self.file.path, f"{name!r:.200} has another size")
            self.read_along = {
                other: content[begin:end]
                for other, begin, end in zip(names[1:], ends, ends[1:], strict=False)
            }
            content = content[: ends[0]]
        return content

    def _from(self, name):
        """That name, and those that follow, as long as they take little."""
        names, room = [name], ALONG
        for other in islice(self.sizes, list(self.sizes).index(name) + 1, None):
            room -= self.sizes[other] + 200
            if room < 0:
                break
            names.append(other)
        return names


def _entry(file, start, packed, item):
    name, dtype = item["name"], np.dtype(item["dtype"])
    if not item["plain"]:
        what = f"values of dtype {dtype}, or from other files"
        return unreadable(file.path, name, tuple(item["shape"] or ()), what)
    shape = checked_shape(file.path, name, item["shape"])
    if item["bfloat16"]:
        dtype = BFLOAT16  # which HDF5 has no name for
    if item["offset"] is not None:
        return file.entry(name, start + item["offset"], shape, dtype)

    if 0 in shape:
        return Entry(shape, dtype, lambda: np.zeros(shape, dtype))
    packed.sizes[name] = math.prod(shape) * dtype.itemsize
    return Entry(shape, dtype, lambda: np.frombuffer(packed.read(name), dtype).reshape(shape))


def _ask(file, start, size, seconds, **request):
    """What a child process says of a file, and how many CPU seconds it took."""
    request |= {
        "path": str(file.path.absolute()),
        "start": start,
        "size": size,
        "room": 2 * FREE + 8 * size,
        "seconds": seconds,
    }
    try:
        child = subprocess.run(
            [sys.executable, "-I", str(CHILD)],
            input=json.dumps(request).encode(),
            capture_output=True,
        )
    except OSError as error:
        raise CheckpointError(
            f"{file.path}: {sys.executable!r} cannot be started to read it: {error}. Save the "
            "weights as safetensors."
        ) from error
    lines = child.stderr.decode("utf-8", "replace").strip().splitlines() or [""]
    if child.returncode:
        what = lines[-1] if child.returncode == 1 else OVERTAXED
        raise damaged(file.path, f"{what:.300}")
    return child.stdout, float(lines[-1])
