"""HDF5 files of strangers: a child process reads them, which a damaged one may end.

What lies in one piece of the file, which is all that Keras writes, is mapped here.
"""

import json
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np

from ..parsing import FREE
from .base import CheckpointError, Entry, checked_shape, damaged, read_json, unreadable

CHILD = Path(__file__).with_name("hdf5_child.py")
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
    text = _ask(file, start, size, **({"probe": True} if probe else {}))
    told = read_json(file.path, text)
    entries = {
        item["name"]: _entry(file, start, size, item) for item in told["datasets"] if item["name"]
    }
    return entries, told["layers"]


def _entry(file, start, size, item):
    name, dtype = item["name"], np.dtype(item["dtype"])
    if not item["plain"]:
        what = f"values of dtype {dtype}, or from other files"
        return unreadable(file.path, name, tuple(item["shape"] or ()), what)
    shape = checked_shape(file.path, name, item["shape"])
    if item["bfloat16"]:
        dtype = BFLOAT16  # which HDF5 has no name for
    if item["offset"] is not None:
        return file.entry(name, start + item["offset"], shape, dtype)

    def read():  # in chunks, compressed, or empty: not in one piece of the file
        return np.frombuffer(_ask(file, start, size, name=name), dtype).reshape(shape)

    return Entry(shape, dtype, read)


def _ask(file, start, size, **request):
    """What the child says of a file."""
    request |= {
        "path": str(file.path.absolute()),
        "start": start,
        "size": size,
        "room": 2 * FREE + 8 * size,
        "seconds": 8 + size // 10_000_000,
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
    if child.returncode:
        lines = child.stderr.decode("utf-8", "replace").strip().splitlines() or [""]
        what = (
            lines[-1] if child.returncode == 1 else "reading it ended or overtaxed the HDF5 library"
        )
        raise damaged(file.path, f"{what:.300}")
    return child.stdout
