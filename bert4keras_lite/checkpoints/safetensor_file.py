"""Reader and writer of safetensors: a JSON header, then the values of all tensors without gaps.

The NumPy API of the library has no bfloat16 and copies every tensor; the format is simple enough to
map it directly.

Reference:
    https://huggingface.co/docs/safetensors, "Format".
"""

import json
import math

import ml_dtypes
import numpy as np

from ..files import final
from ..parsing import shown
from .base import (
    MAX_TENSORS,
    Checkpoint,
    CheckpointError,
    MappedFile,
    as_bytes,
    checked_shape,
    damaged,
    read_json,
    unreadable,
)

__all__ = ["looks_like", "read_entries", "write"]

DTYPES = {
    "BOOL": np.dtype(bool),
    **{f"{kind}{8 * n}": np.dtype(f"<{kind.lower()}{n}") for kind in "IU" for n in (1, 2, 4, 8)},
    **{f"F{8 * n}": np.dtype(f"<f{n}") for n in (2, 4, 8)},
    "C64": np.dtype("<c8"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}
ALIGNMENT = 64  # of the first value, so that frameworks can use the memory of the mapped file
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def looks_like(start):
    """Whether a file that starts with these bytes may be safetensors."""
    return start[4:9] == b"\0\0\0\0{"  # the length of the header in 8 bytes, then the header


def read_entries(path):
    """Reads a `.safetensors` file: returns name -> `Entry`."""
    file = MappedFile(path, is_kept=True)
    length = int.from_bytes(file.buffer[:8], "little")
    if length > file.size - 8:
        raise damaged(path, f"its header should take {length} bytes, and the file has {file.size}")
    header = read_json(path, file.buffer[8 : 8 + length])
    header.pop("__metadata__", None)
    if len(header) > MAX_TENSORS:
        raise damaged(path, f"it lists {len(header)} tensors, more than {MAX_TENSORS}")
    entries = {name: _entry(file, name, 8 + length, info) for name, info in header.items()}
    _check_cover(file, 8 + length, header)
    return entries


def _check_cover(file, start, header):
    """Checks that the tensors fill the file without gaps or overlaps, as the format requires.

    Raises:
        CheckpointError: they do not.
    """
    end = 0
    for begin, next_end, name in sorted(
        (*info["data_offsets"], name) for name, info in header.items()
    ):
        if begin != end:
            problem = "a gap before" if begin > end else "an overlap with others at"
            raise damaged(file.path, f"{problem} {name!r:.200}")
        end = next_end
    if start + end != file.size:
        raise damaged(file.path, f"{file.size - start - end} bytes after its last tensor")


def _entry(file, name, start, info):
    """Makes the `Entry` of a tensor."""
    dtype, (begin, end) = info["dtype"], info["data_offsets"]
    if dtype not in DTYPES:  # its values may take parts of bytes
        shape = checked_shape(file.path, name, info["shape"])
        if not isinstance(dtype, str) or not 0 <= begin <= end:
            raise damaged(file.path, f"the description of {name!r:.200} is not that of a tensor")
        return unreadable(file.path, name, shape, f"values of kind {shown(dtype)}")
    entry = file.entry(name, start + begin, info["shape"], DTYPES[dtype])
    if begin < 0 or end - begin != math.prod(entry.shape) * entry.dtype.itemsize:
        problem = f"{name!r:.200} of shape {entry.shape!s:.200} cannot take {end - begin} bytes"
        raise damaged(file.path, problem)
    return entry


def write(path, tensors, metadata):
    """Writes a `.safetensors` file, to a path that is not in use yet."""
    described = {name: _description(path, tensors, name) for name in tensors}
    # widest values first, like the library: then every tensor is aligned without gaps
    order = sorted(described, key=lambda name: -described[name][1].itemsize)
    header, offset = {"__metadata__": metadata}, 0
    for name in order:
        shape, dtype = described[name]
        end = offset + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": NAMES[dtype], "shape": shape, "data_offsets": (offset, end)}
        offset = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            array = np.asarray(tensors[name])
            if (array.shape, array.dtype.newbyteorder("<")) != described[name]:
                raise CheckpointError(
                    f"{final(path)}: {name!r:.200} changed while it was being saved. Save it again."
                )
            file.write(as_bytes(array))


def _description(path, tensors, name):
    """Returns the shape and dtype of a tensor; a lazy mapping is read once more for this.

    Raises:
        CheckpointError: safetensors does not support the dtype or the name.
    """
    if isinstance(tensors, Checkpoint):
        shape, dtype = tensors.shape(name), tensors.dtype(name)
    else:
        array = np.asarray(tensors[name])
        shape, dtype = array.shape, array.dtype
    dtype = dtype.newbyteorder("<")
    if dtype not in NAMES or name == "__metadata__":
        raise CheckpointError(
            f"{final(path)}: cannot save {name!r:.200} of dtype {dtype} as safetensors; expected "
            f"one of {', '.join(DTYPES)}, and another name than '__metadata__'."
        )
    return shape, dtype
