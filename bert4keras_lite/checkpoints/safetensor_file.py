"""The safetensors format: a JSON header, then the values of all tensors without gaps.

Reference: https://huggingface.co/docs/safetensors, "Format". The library's own NumPy front end
knows no bfloat16 and copies every tensor; the format is small enough to map it directly.
"""

import json
import math

import ml_dtypes
import numpy as np

from ..files import final
from .base import Checkpoint, CheckpointError, MappedFile, as_bytes, damaged

DTYPES = {
    "BOOL": np.dtype(bool),
    **{f"{kind}{8 * n}": np.dtype(f"<{kind.lower()}{n}") for kind in "IU" for n in (1, 2, 4, 8)},
    **{f"F{8 * n}": np.dtype(f"<f{n}") for n in (2, 4, 8)},
    "C64": np.dtype("<c8"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def looks_like(start):
    """Whether a file that starts with these bytes may be safetensors."""
    return start[4:9] == b"\0\0\0\0{"  # the length of a header in 8 bytes, and the header


def read_entries(path):
    """Name -> `Entry` of one `.safetensors` file."""
    file = MappedFile(path)
    length = int.from_bytes(file.buffer[:8], "little")
    if length > file.size - 8:
        raise damaged(path, f"its header should take {length} bytes, and the file has {file.size}")
    header = json.loads(file.buffer[8 : 8 + length])
    header.pop("__metadata__", None)
    return {name: _entry(file, name, 8 + length, info) for name, info in header.items()}


def _entry(file, name, start, info):
    if info["dtype"] not in DTYPES:
        raise CheckpointError(
            f"{file.path}: {name!r} has dtype {info['dtype']!r}; known are {', '.join(DTYPES)}"
        )
    begin, end = info["data_offsets"]
    entry = file.entry(name, start + begin, info["shape"], DTYPES[info["dtype"]])
    if begin < 0 or end - begin != math.prod(entry.shape) * entry.dtype.itemsize:
        raise damaged(file.path, f"{name!r} of shape {entry.shape} cannot take {end - begin} bytes")
    return entry


def write(path, tensors, metadata):
    """Writes one `.safetensors` file, to a name that nobody reads yet."""
    kinds = {name: _kind(path, tensors, name) for name in tensors}
    # widest values first, as the library does: then every tensor is aligned without gaps
    order = sorted(kinds, key=lambda name: -kinds[name][1].itemsize)
    header, offset = {"__metadata__": metadata}, 0
    for name in order:
        shape, dtype = kinds[name]
        end = offset + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": NAMES[dtype], "shape": shape, "data_offsets": (offset, end)}
        offset = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            array = np.asarray(tensors[name])
            if (array.shape, array.dtype.newbyteorder("<")) != kinds[name]:
                raise CheckpointError(f"{final(path)}: {name!r} changed while it was being saved")
            file.write(as_bytes(array))


def _kind(path, tensors, name):
    """Shape and dtype. They precede all data, so a lazy mapping is gone through twice."""
    if isinstance(tensors, Checkpoint):
        shape, dtype = tensors.shape(name), tensors.dtype(name)
    else:
        array = np.asarray(tensors[name])
        shape, dtype = array.shape, array.dtype
    dtype = dtype.newbyteorder("<")
    if dtype not in NAMES or name == "__metadata__":
        raise CheckpointError(
            f"{final(path)}: cannot save {name!r} of dtype {dtype}: safetensors has {', '.join(DTYPES)}, "
            "and keeps the name '__metadata__' for itself"
        )
    return shape, dtype
