"""HDF5 files of strangers: a child process reads them, which a damaged one may end.

What lies in one piece of the file, which is all that Keras writes, is mapped here.
"""

import json
import math
import os
import subprocess
import sys
import threading
import weakref
from contextlib import suppress
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
        probe: read all of it, and refuse what Keras does not write, so that another library may be
            trusted to read it afterwards.

    Returns:
        For each: name -> `Entry`, and group -> the name of the layer that it is of.

    Raises:
        CheckpointError: one is damaged, or would take far more memory than its size explains.
    """
    packed = _Packed(path, parts)
    told = read_json(path, packed.ask({"probe": probe}))
    count = sum(len(one["datasets"]) for one in told)
    if count > MAX_TENSORS:
        raise damaged(path, f"it has {count} datasets")
    found = [(_entries(packed, i, one["datasets"]), one["layers"]) for i, one in enumerate(told)]
    if not packed.sizes:
        packed.stop()
    return found


class _Packed:
    """The datasets that are not in one piece of their file: in chunks, compressed, or filled in.

    A child process reads them, in whatever order, until all have been read once: that many CPU
    seconds it has. Who reads one again gets another process.
    """

    def __init__(self, path, parts):
        self.path, self.parts = path, parts
        self.sizes, self.done = {}, set()
        self.child, self.lock = None, threading.RLock()

    def ask(self, request):
        """What a child process says of the files."""
        with self.lock:
            if self.child is None or self.child.owner != os.getpid():  # a fork has its own
                self.child = _Child(self.path, self.parts)
            try:
                return self.child.ask(request)
            except CheckpointError:
                raise
            except BaseException:  # such as Ctrl-C: the rest of the answer is still to come
                self.stop()
                raise

    def read(self, place):
        """The bytes of a dataset.

        Args:
            place: the number of its file, and its name.
        """
        with self.lock:
            if place in self.done:
                self.stop()
            content = self.ask({"place": place})
            if len(content) != self.sizes[place]:
                raise damaged(self.path, f"{place[1]!r:.200} has another size")
            self.done.add(place)
            if len(self.done) == len(self.sizes):
                self.stop()
            return content

    def stop(self):
        """Ends the child process; the next reading of the file starts another."""
        with self.lock:
            self.child, self.done = None, set()


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


class _Child:
    """A process that reads HDF5 files, and ends with this object."""

    def __init__(self, path, parts):
        self.path, self.owner = path, os.getpid()
        size = sum(part.size for part in parts)
        files = [(str(part.file.path.absolute()), part.start, part.size) for part in parts]
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-I", str(CHILD)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            raise CheckpointError(
                f"{path}: {sys.executable!r} cannot be started to read it: {error}. Save the "
                "weights as safetensors."
            ) from error
        weakref.finalize(self, _end, self.process, self.owner)
        self.send(
            {
                "files": files,
                "room": 2 * FREE + 8 * size,
                "seconds": 8 + size // 10_000_000,
                "path": [place for place in sys.path if place],  # where h5py is found here
            }
        )

    def send(self, request):
        with suppress(OSError):  # its answer will be missing
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()

    def ask(self, request):
        """The bytes of the answer."""
        self.send(request)
        head = self.process.stdout.readline()
        told = json.loads(head) if head.endswith(b"\n") else {"error": OVERTAXED}
        if "unavailable" in told:
            raise CheckpointError(
                f"{self.path}: h5py, which reads it, cannot be imported: {told['unavailable']:.300}. "
                "Install h5py, or save the weights as safetensors."
            )
        if "error" in told:
            raise damaged(self.path, f"{told['error']:.300}")
        content = self.process.stdout.read(told["size"])
        if len(content) < told["size"]:
            raise damaged(self.path, OVERTAXED)
        return content


def _end(process, owner):
    """Ends a process of ours, not that of the one which this is a fork of."""
    if os.getpid() == owner:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):
            pipe.close()
