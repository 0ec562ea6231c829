"""HDF5 files of strangers: a child process reads them, which a damaged one may end.

What lies in one piece of the file, which is all that Keras writes, is mapped here.
"""

import json
import math
import subprocess
import sys
from itertools import accumulate, islice
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from ..parsing import FREE
from .base import (
    MAX_TENSORS,
    CheckpointError,
    Entry,
    MappedFile,
    checked_shape,
    damaged,
    read_json,
    unreadable,
)

CHILD = Path(__file__).with_name("hdf5_child.py")
ALONG = 16 << 20  # bytes
OVERTAXED = "reading it ended or overtaxed the HDF5 library"
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class Part(NamedTuple):
    """Where an HDF5 file is in a `MappedFile`."""

    file: MappedFile
    start: int
    size: int


def read(path, parts, probe=False):
    """What HDF5 files hold, all of which one process reads.

    Args:
        path: what they belong to, for messages.
        parts: the `Part` of each.
        probe: read all of it, so that another library may be trusted to read it afterwards.

    Returns:
        For each: name -> `Entry`, and group -> the name of the layer that it is of.

    Raises:
        CheckpointError: one is damaged, or would take far more memory than its size explains.
    """
    packed = _Packed(path, parts)
    told = read_json(path, packed.ask(**({"probe": True} if probe else {})))
    count = sum(len(one["datasets"]) for one in told)
    if count > MAX_TENSORS:
        raise damaged(path, f"it has {count} datasets")
    return [(_entries(packed, i, one["datasets"]), one["layers"]) for i, one in enumerate(told)]


class _Packed:
    """The datasets that are not in one piece of their file: in chunks, compressed, or filled in.

    A process for each of many small ones would take long: those that follow are read along. All
    processes share the CPU seconds that may be spent on reading the file once.
    """

    def __init__(self, path, parts):
        self.path, self.parts = path, parts
        self.seconds = self.allowed = 8 + sum(part.size for part in parts) // 10_000_000
        self.sizes, self.read_along, self.done = {}, {}, set()

    def ask(self, **request):
        """What a child process says of the files."""
        if self.seconds <= 0:
            raise damaged(self.path, OVERTAXED)
        seconds = math.ceil(self.seconds)
        content, taken = _ask(self.path, self.parts, seconds, **request)
        self.seconds -= taken
        return content

    def read(self, place):
        """The bytes of a dataset.

        Args:
            place: the number of its file, and its name.
        """
        if place in self.done:  # the file is read again
            self.seconds, self.done = self.allowed, set()
        self.done.add(place)
        content = self.read_along.pop(place, None)
        if content is None:
            places = self._from(place)
            content = self.ask(places=places)
            ends = [*accumulate(self.sizes[place] for place in places)]
            if len(content) != ends[-1]:
                raise damaged(self.path, f"{place[1]!r:.200} has another size")
            self.read_along = {
                other: content[begin:end]
                for other, begin, end in zip(places[1:], ends, ends[1:], strict=False)
            }
            content = content[: ends[0]]
        return content

    def _from(self, place):
        """That place, and those that follow, as long as they take little."""
        places, room = [place], ALONG
        for other in islice(self.sizes, list(self.sizes).index(place) + 1, None):
            room -= self.sizes[other] + 200
            if room < 0:
                break
            places.append(other)
        return places


def _entries(packed, number, datasets):
    return {item["name"]: _entry(packed, number, item) for item in datasets if item["name"]}


def _entry(packed, number, item):
    file, start, _ = packed.parts[number]
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
    place = number, name
    packed.sizes[place] = math.prod(shape) * dtype.itemsize
    return Entry(shape, dtype, lambda: np.frombuffer(packed.read(place), dtype).reshape(shape))


def _ask(path, parts, seconds, **request):
    """What a child process says of files, and how many CPU seconds it took."""
    request |= {
        "files": [(str(part.file.path.absolute()), part.start, part.size) for part in parts],
        "room": 2 * FREE + 8 * sum(part.size for part in parts),
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
            f"{path}: {sys.executable!r} cannot be started to read it: {error}. Save the "
            "weights as safetensors."
        ) from error
    lines = child.stderr.decode("utf-8", "replace").strip().splitlines() or [""]
    if child.returncode:
        what = lines[-1] if child.returncode == 1 else OVERTAXED
        raise damaged(path, f"{what:.300}")
    return child.stdout, float(lines[-1])
