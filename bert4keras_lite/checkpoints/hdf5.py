"""Reader of untrusted HDF5 files, in a child process, which a damaged file may crash.

Arrays in one piece of the file, as Keras writes them, are mapped in this process.
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

__all__ = ["Part", "read"]

CHILD = Path(__file__).with_name("hdf5_child.py")
OVERTAXED = "reading it crashed or overtaxed the HDF5 library"
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class Part(NamedTuple):
    """Range of bytes of a `MappedFile` that is an HDF5 file."""

    file: MappedFile
    start: int
    size: int


def read(path, parts, probe=False):
    """Reads the contents of HDF5 files, in one child process.

    Args:
        path: of the checkpoint, for messages.
        parts: the `Part` of each file.
        probe: whether to read everything, and to raise for anything that Keras does not write, so
            that another library can read the files afterwards; default False.

    Returns:
        For each file: name -> `Entry`, and group -> name of its layer.

    Raises:
        CheckpointError: a file is damaged, or would take far more memory than its size explains.
    """
    packed = _Packed(path, parts)
    inventories = read_json(path, packed.ask({"probe": probe}))
    count = sum(len(inventory["datasets"]) for inventory in inventories)
    if count > MAX_TENSORS:
        raise damaged(path, f"it has {count} datasets")
    contents = [
        (_entries(packed, i, inventory["datasets"]), inventory["layers"])
        for i, inventory in enumerate(inventories)
    ]
    if not packed.sizes:
        packed.stop()
    return contents


class _Packed:
    """Datasets that are not contiguous in their file: chunked, compressed, or filled with a value.

    A child process reads them, in any order, until each has been read once: its limit of CPU
    seconds is for that. Reading one again starts another process.
    """

    def __init__(self, path, parts):
        self.path, self.parts = path, parts
        self.sizes, self.done = {}, set()
        self.child, self.lock = None, threading.RLock()

    def ask(self, request):
        """Returns the answer of the child process to a request; starts the process if needed."""
        with self.lock:
            if self.child is None or self.child.owner != os.getpid():  # a fork needs its own
                self.child = _Child(self.path, self.parts)
            try:
                return self.child.ask(request)
            except CheckpointError:
                raise
            except BaseException:  # such as Ctrl-C: a part of the answer has not been read
                self.stop()
                raise

    def read(self, key):
        """Reads the bytes of a dataset.

        Args:
            key: tuple of the number of its file, and its name.
        """
        with self.lock:
            if key in self.done:
                self.stop()
            content = self.ask({"place": key})
            if len(content) != self.sizes[key]:
                raise damaged(self.path, f"{key[1]!r:.200} has another size")
            self.done.add(key)
            if len(self.done) == len(self.sizes):
                self.stop()
            return content

    def stop(self):
        """Ends the child process; the next request starts another."""
        with self.lock:
            self.child, self.done = None, set()


def _entries(packed, number, datasets):
    """Makes name -> `Entry` for the datasets of a file."""
    return {item["name"]: _entry(packed, number, item) for item in datasets if item["name"]}


def _entry(packed, number, item):
    file, start, _ = packed.parts[number]
    name, dtype = item["name"], np.dtype(item["dtype"])
    if not item["plain"]:
        content = f"values of dtype {dtype}, or from other files"
        return unreadable(file.path, name, tuple(item["shape"] or ()), content)
    shape = checked_shape(file.path, name, item["shape"])
    if item["bfloat16"]:
        dtype = BFLOAT16  # HDF5 has no such dtype
    if item["offset"] is not None:
        return file.entry(name, start + item["offset"], shape, dtype)

    if 0 in shape:
        return Entry(shape, dtype, lambda: np.zeros(shape, dtype))
    key = number, name
    packed.sizes[key] = math.prod(shape) * dtype.itemsize
    return Entry(shape, dtype, lambda: np.frombuffer(packed.read(key), dtype).reshape(shape))


class _Child:
    """Child process that reads HDF5 files; it ends with this object."""

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
                "path": [directory for directory in sys.path if directory],  # to import h5py from
            }
        )

    def send(self, request):
        """Sends a request, as a line of JSON."""
        with suppress(OSError):  # then there will be no answer
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()

    def ask(self, request):
        """Sends a request and returns the bytes of the answer.

        Raises:
            CheckpointError: h5py is not installed, or the file is damaged.
        """
        self.send(request)
        head = self.process.stdout.readline()
        answer = json.loads(head) if head.endswith(b"\n") else {"error": OVERTAXED}
        if "unavailable" in answer:
            raise CheckpointError(
                f"{self.path}: h5py, which reads it, cannot be imported: "
                f"{answer['unavailable']:.300}. Install h5py, or save the weights as safetensors."
            )
        if "error" in answer:
            raise damaged(self.path, f"{answer['error']:.300}")
        content = self.process.stdout.read(answer["size"])
        if len(content) < answer["size"]:
            raise damaged(self.path, OVERTAXED)
        return content


def _end(process, owner):
    """Ends a child process, unless this process is a fork of its owner."""
    if os.getpid() == owner:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):
            pipe.close()
