"""Reader of Paddle's `.pdparams` files that runs no code in them.

`paddle.save` pickles a dict name -> NumPy array (since version 2.1 also name -> (name, array)).
The stack machine of `torch_file` executes the instructions that build these. Arrays stay in
the file until they are read: as bytes, or, in the protocols before 3, as text with a character for
each byte.

Reference:
    python/paddle/framework/io.py (`_build_saved_state_dict`, `_pickle_save`); numpy's
    `multiarray._reconstruct`.
"""

import math
import re
import sys
from typing import NamedTuple

import ml_dtypes
import numpy as np

from ..parsing import shown
from .base import (
    MAX_TENSORS,
    CheckpointError,
    Entry,
    MappedFile,
    checked_shape,
    damaged,
    unreadable,
)
from .torch_file import Unpickler, dictionary

__all__ = ["START", "read_entries"]

# a pickle of the protocols that Paddle writes, which begins with a dict
START = re.compile(rb"\x80[\x02-\x04](\x95.{8})?\}", re.DOTALL)
SPLIT = "UnpackBigParamInfor@@"  # names the parts of large arrays, before protocol 4

# opcode -> bytes before its argument
BYTES = {"SHORT_BINBYTES": 2, "BINBYTES": 5, "BINBYTES8": 9}
TEXTS = {"BINUNICODE": 5, "BINUNICODE8": 9}
STATE = ("version", "shape", "dtype", "order", "data")  # what describes an array
LONG_TEXT = 4096  # bytes; longer than any name
# NumPy has no bfloat16: Paddle stores its bits
DTYPES = {
    "f4": "<f4",
    "f8": "<f8",
    "f2": "<f2",
    "i8": "<i8",
    "i4": "<i4",
    "u2": ml_dtypes.bfloat16,
    "b1": "?",
}


class Stored(NamedTuple):
    """Bytes of the file: those of an array, or of text with a character for each byte of it."""

    offset: int
    length: int
    is_text: bool = False


class Array:
    """NumPy array in a pickle, which its state describes."""

    __slots__ = ("state",)

    def __init__(self):
        self.state = None


class DType:
    """NumPy dtype in a pickle."""

    __slots__ = ("code", "little")

    def __init__(self, code):
        self.code, self.little = code, True


def _dtype(code, _align=False, _copy=True):
    """Makes the dtype of a code such as `"f4"`."""
    if not isinstance(code, str):  # anything else may be endless to hash
        raise ValueError("a dtype whose code is not a string.")
    return DType(code)


def _array(_class, _shape, _code):
    """Makes an array that its state will describe."""
    return Array()


def _encode(text, encoding):
    """Converts text to the bytes that it stands for, unless they stay in the file."""
    if encoding != "latin1" or not isinstance(text, str | Stored):
        raise ValueError("an encoding of text that is not that of bytes.")
    return text if isinstance(text, Stored) else text.encode("latin1")


def _pair(items):
    """Makes the pair of a name and an array."""
    if len(items) != 2:
        raise ValueError("a tuple that is not a name and an array.")
    return tuple(items)


GLOBALS: dict[str, object] = {
    "collections.OrderedDict": dictionary,
    "_codecs.encode": _encode,
    "numpy.dtype": _dtype,
    "numpy.core.multiarray._reconstruct": _array,
    "numpy._core.multiarray._reconstruct": _array,
}
for _module in ("builtins", "__builtin__"):  # of Python 3 and, up to protocol 2, of Python 2
    GLOBALS |= {f"{_module}.tuple": _pair, f"{_module}.bytes": lambda: b""}


class PaddleUnpickler(Unpickler):
    """Stack machine for a `.pdparams` file."""

    names = GLOBALS

    def _run(self, name, argument):
        if name in BYTES:
            self.stack.append(Stored(self.position + BYTES[name], len(argument)))
        elif name in TEXTS and len(argument) > LONG_TEXT:
            start = self.position + TEXTS[name]
            self.stack.append(Stored(start, self.file.buffer.tell() - start, is_text=True))
        else:
            super()._run(name, argument)

    def _call(self, function, arguments):
        if function is _encode:
            self.spend(sys.getsizeof(arguments[0]))
        return super()._call(function, arguments)

    def _build(self, state, target):
        if isinstance(target, DType):
            target.little = state[1] in ("<", "|")
        elif isinstance(target, Array):
            if not isinstance(state, tuple) or len(state) != len(STATE):
                raise ValueError(f"an array that is not described by {', '.join(STATE)}.")
            target.state = state
        else:
            super()._build(state, target)


def read_entries(path, allowance):
    """Reads a `.pdparams` file: returns name -> `Entry`.

    Args:
        path: of the file.
        allowance: a `torch_file.Allowance`.

    Raises:
        CheckpointError: it holds no arrays by name, or is damaged.
    """
    file = MappedFile(path)
    machine = PaddleUnpickler(file, allowance)
    value = machine.load(file.buffer)
    if file.buffer.tell() != file.size:
        raise damaged(path, f"after its dict there are {file.size - file.buffer.tell()} bytes")
    if not isinstance(value, dict):
        value = {}
    if SPLIT in value:
        raise CheckpointError(
            f"{path}: its large arrays are in parts; expected whole ones. Save it again with "
            "paddle.save(paddle.load(...), path, protocol=4)."
        )
    arrays = {
        name: item[1] if isinstance(item, tuple) and len(item) == 2 else item
        for name, item in value.items()
    }
    arrays = {name: item for name, item in arrays.items() if isinstance(item, Array)}
    for name in arrays:
        if not isinstance(name, str):
            raise damaged(path, f"an array has the name {shown(name)}, which is not a text")
    if not arrays:
        raise CheckpointError(
            f"{path}: holds no arrays by name; expected a state_dict. Save layer.state_dict()."
        )
    if len(arrays) > MAX_TENSORS:
        raise ValueError(f"more than {MAX_TENSORS} arrays.")
    return {name: _entry(file, name, array) for name, array in arrays.items()}


def _entry(file, name, array):
    """Makes the `Entry` of an array."""
    if array.state is None:
        raise damaged(file.path, f"{name!r:.200} is not described")
    _version, shape, dtype, is_fortran, data = array.state
    shape = checked_shape(file.path, name, shape)
    if not isinstance(dtype, DType):
        raise damaged(file.path, f"{name!r:.200} has no dtype")
    if dtype.code not in DTYPES or not dtype.little:
        order = "" if dtype.little else "big-endian "
        return unreadable(file.path, name, shape, f"values of kind {order}{dtype.code:.20}")
    dtype, order = np.dtype(DTYPES[dtype.code]), "F" if is_fortran else "C"
    size = math.prod(shape) * dtype.itemsize
    problem = f"{name!r:.200} of shape {shape!s:.200} does not have {size} bytes"

    def decoded():
        content = data
        if isinstance(data, Stored):
            text = file.buffer[data.offset : data.offset + data.length]
            content = text.decode("utf-8").encode("latin1")
        if len(content) != size:
            raise damaged(file.path, problem)
        return np.frombuffer(content, dtype).reshape(shape, order=order)

    if isinstance(data, Stored) and not data.is_text:
        if data.length != size:
            raise damaged(file.path, problem)
        return file.entry(name, data.offset, shape, dtype, order)
    # each byte takes 1 or 2 bytes of text
    fits = size <= data.length <= 2 * size if isinstance(data, Stored) else isinstance(data, bytes)
    if not fits or (isinstance(data, bytes) and len(data) != size):
        raise damaged(file.path, problem)
    return Entry(shape, dtype, decoded)
