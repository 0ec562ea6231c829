"""PyTorch's `.bin`, `.pt` and `.pth` files, read without running anything they contain.

Such a file is a pickle that describes tensors, and the bytes of their storages: members of a zip
archive, or, before PyTorch 1.6, one after the other behind the pickle. A pickle is a program.
`pickletools` takes it apart into instructions, and the stack machine here carries out those that
build plain containers and descriptions of tensors; it knows no way to import or call anything else.

Reference: torch/serialization.py, torch/_utils.py; the comments of Python's pickletools.py.
"""

import math
import pickletools
from typing import NamedTuple

import ml_dtypes
import numpy as np

from ..parsing import FREE
from .base import (
    MAX_RANK,
    MAX_TENSORS,
    CheckpointError,
    Entry,
    MappedFile,
    checked_shape,
    damaged,
)
from .zip_file import open_zip, read_member, stored_at

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_START = b"\x80\x02\x8a\x0a" + LEGACY_MAGIC.to_bytes(10, "little") + b"."

WRAPPERS = ("state_dict", "model_state_dict", "model", "module")


class Storage(NamedTuple):
    """A run of values in the file."""

    key: str
    dtype: np.dtype
    count: int
    offset: int = 0  # of an old "view" storage in the one whose key it has


class Tensor(NamedTuple):
    """A strided view on a storage; offset and strides count values, not bytes."""

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple
    strides: tuple


def _tensor(storage, offset, shape, strides, *_):
    return Tensor(storage, storage.dtype, offset, shape, strides)


def _tensor_of_dtype(storage, offset, shape, strides, requires_grad, hooks, dtype, *_):
    return Tensor(storage, dtype, offset, shape, strides)


_DTYPES = {  # dtype -> its names in torch, and its typed storage
    "float32": (("float32", "float"), "Float"),
    "float64": (("float64", "double"), "Double"),
    "float16": (("float16", "half"), "Half"),
    ml_dtypes.bfloat16: (("bfloat16",), "BFloat16"),
    ml_dtypes.float8_e4m3fn: (("float8_e4m3fn",), None),
    ml_dtypes.float8_e5m2: (("float8_e5m2",), None),
    "int64": (("int64", "long"), "Long"),
    "int32": (("int32", "int"), "Int"),
    "int16": (("int16", "short"), "Short"),
    "int8": (("int8",), "Char"),
    "uint8": (("uint8",), "Byte"),
    "uint16": (("uint16",), None),
    "uint32": (("uint32",), None),
    "uint64": (("uint64",), None),
    "bool": (("bool",), "Bool"),
    "complex64": (("complex64",), "ComplexFloat"),
    "complex128": (("complex128",), "ComplexDouble"),
}


def _size(dimensions):
    """A `torch.Size`."""
    if len(dimensions) > MAX_RANK:
        raise ValueError(f"a shape of {len(dimensions)} axes")
    return tuple(dimensions)


def _dictionary(items=()):
    """An `OrderedDict` of pairs, as Python 2 wrote it."""
    result = {}
    for key, value in items:
        put(result, key, value)
    return result


def put(dictionary, key, value):
    """Sets an item whose key is one that state dictionaries have: a text or a small integer.

    Others could be made to collide, or nested so deeply that hashing them ends the process.
    """
    if not (isinstance(key, str) or (type(key) is int and abs(key) < 1 << 60)):
        raise ValueError(f"a key of type {type(key).__name__}")
    dictionary[key] = value


# all that a pickle may name: functions it may call, and dtypes
GLOBALS = {
    "collections.OrderedDict": _dictionary,
    "__builtin__.set": lambda *_: (),  # Megatron's notes on its shards
    "builtins.set": lambda *_: (),
    "torch.Size": _size,
    "torch.device": lambda *_: None,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "torch._utils._rebuild_parameter_with_state": lambda tensor, *_: tensor,
    "torch.storage.UntypedStorage": np.dtype("u1"),
}
# what training scripts keep beside the weights (states of NumPy's generators): no weights, left out
for _name in (
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.ndarray",
    "numpy.dtype",
    "_codecs.encode",
):
    GLOBALS[_name] = lambda *_: None
for _dtype, (_names, _storage) in _DTYPES.items():
    GLOBALS |= {f"torch.{name}": np.dtype(_dtype) for name in _names}
    if _storage:
        GLOBALS[f"torch.{_storage}Storage"] = np.dtype(_dtype)


def read_zip(path):
    """Name -> `Entry` of a file by PyTorch 1.6 or later."""
    file, storages, places = MappedFile(path), {}, {}
    with open_zip(file) as archive:
        names = archive.namelist()
        root = next(name for name in names if name.endswith("/data.pkl")).removesuffix("data.pkl")
        if f"{root}byteorder" in names:
            _require_little(path, read_member(file, archive, f"{root}byteorder") == b"little")
        value = unpickle(path, read_member(file, archive, f"{root}data.pkl"), storages)
        for key in storages:
            member = archive.getinfo(f"{root}data/{key}")
            places[key] = stored_at(file, archive, member.filename), member.file_size
    return _entries(file, value, places)


def read_legacy(path):
    """Name -> `Entry` of a file by PyTorch before 1.6."""
    file = MappedFile(path)
    stream, storages = file.buffer, {}
    stream.seek(0)
    _magic, _version, system, value, keys = (unpickle(path, stream, storages) for _ in range(5))
    _require_little(path, system["little_endian"])
    places, position = {}, stream.tell()
    for key in keys:
        count = int.from_bytes(stream[position : position + 8], "little")
        size = count * storages[key].dtype.itemsize
        places[key] = position + 8, size
        position += 8 + size
    if position > file.size:
        raise damaged(path, f"it should have {position} bytes and has {file.size}")
    return _entries(file, value, places)


def _require_little(path, is_little):
    if not is_little:
        raise CheckpointError(f"{path}: written on a big-endian machine, which is not supported")


# instructions that make a container
BUILDERS = {
    "TUPLE",
    "TUPLE1",
    "TUPLE2",
    "TUPLE3",
    "EMPTY_LIST",
    "LIST",
    "EMPTY_DICT",
    "DICT",
    "REDUCE",
}


def unpickle(path, stream, storages):
    """The value of one pickle; `storages` gathers those that it speaks of, by key."""
    stack, marks, memo = [], [], {}
    room = FREE + 4 * (len(stream) if isinstance(stream, bytes) else stream.size())

    def since_mark():
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    def last(count):
        items = stack[-count:]
        del stack[-count:]
        return items

    def update(items):
        for key, value in zip(items[::2], items[1::2], strict=True):
            put(stack[-1], key, value)

    def call(function, arguments):
        nonlocal room
        room -= 16 * len(arguments)
        if function is _dictionary and arguments:
            room -= 100 * len(arguments[0])
        if room < 0:
            return None
        return function(*arguments)

    for opcode, argument, _ in pickletools.genops(stream):
        room -= 16 if argument is None else 100
        if opcode.name in BUILDERS:
            room -= 80
        if room < 0:
            raise ValueError("a pickle that would take far more memory than its length explains")
        match opcode.name:
            case "STOP":
                return stack.pop()
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                marks.append(len(stack))
            case "POP":
                stack.pop()
            case "POP_MARK":
                since_mark()
            case "DUP":
                stack.append(stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1" | "LONG4" | "FLOAT":
                stack.append(argument)
            case "BINFLOAT" | "STRING" | "BINSTRING" | "SHORT_BINSTRING" | "UNICODE" | "BINUNICODE":
                stack.append(argument)
            case "SHORT_BINUNICODE" | "BINUNICODE8" | "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8":
                stack.append(argument)
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(last(int(opcode.name[-1]))))
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "EMPTY_LIST":
                stack.append([])
            case "LIST":
                stack.append(since_mark())
            case "APPEND":
                items = last(1)
                stack[-1].extend(items)
            case "APPENDS":
                items = since_mark()
                stack[-1].extend(items)
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                items = since_mark()
                stack.append({})
                update(items)
            case "SETITEM":
                update(last(2))
            case "SETITEMS":
                update(since_mark())
            case "GLOBAL":
                stack.append(_global(path, argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                stack.append(_global(path, ".".join(last(2))))
            case "BINPERSID":
                storage = _storage(stack.pop())
                storages[storage.key] = storage
                stack.append(storage)
            case "REDUCE":
                stack.append(call(*last(2)))
            case "BUILD":  # attributes: of an ordered dictionary of weights, the module's versions
                stack.pop()
            case _:
                raise CheckpointError(
                    f"{path}: its pickle wants to build an object ({opcode.name}), and only tensors "
                    "in plain containers are read; save a state_dict, or as safetensors"
                )
    raise ValueError("a pickle without an end")


def _global(path, name):
    if name not in GLOBALS:
        raise CheckpointError(
            f"{path}: its pickle asks for {name!r:.200}, which is not run: only tensors in plain "
            "containers are read; save model.state_dict() instead of the model, or as safetensors"
        )
    return GLOBALS[name]


def _storage(identifier):
    kind, dtype, key, _device, count, *view = identifier
    if kind != "storage" or not isinstance(dtype, np.dtype) or not isinstance(key, str):
        raise ValueError("a persistent object that is no storage")
    if view and view[0] is not None:
        _view_key, offset, count = view[0]
        return Storage(key, dtype, count, offset)
    return Storage(key, dtype, count)


def named_tensors(value):
    """The tensors in nested dictionaries, their keys joined by dots.

    Trainers wrap the weights, as `{"model": {...}, "optimizer": {...}, "epoch": 3}`: such a
    wrapper is opened; one of another name, where it is the only dictionary of tensors. Numbers,
    strings, lists and the like are no weights and are left out.
    """
    for _ in WRAPPERS:
        inner = [value[key] for key in WRAPPERS if isinstance(value.get(key), dict)] or _only(value)
        if not inner or any(isinstance(item, Tensor) for item in value.values()):
            break
        value = inner[0]
    tensors, seen, room = {}, set(), FREE

    def gather(group, prefix):
        nonlocal room
        seen.add(id(group))  # a pickle can hold a dictionary twice, or in itself
        for key, item in group.items():
            if isinstance(item, Tensor):
                name = f"{prefix}{key}"
                tensors[name], room = item, room - len(name)
                if room < 0 or len(tensors) > MAX_TENSORS:
                    raise ValueError("too many names of tensors, or too long ones")
            elif isinstance(item, dict) and id(item) not in seen:
                gather(item, f"{prefix}{key}.")

    gather(value, "")
    return tensors


def _only(value):
    """The dictionary of tensors in a dictionary, as a list; empty if there is none or another group."""
    groups = [
        item
        for item in value.values()
        if isinstance(item, dict)
        and any(isinstance(inner, (Tensor, dict)) for inner in item.values())
        and not item.keys() >= {"state", "param_groups"}  # an optimizer
    ]
    flat = len(groups) == 1 and all(isinstance(inner, Tensor) for inner in groups[0].values())
    return groups if flat else []


def _entries(file, value, places):
    tensors = named_tensors(value) if isinstance(value, dict) else {}
    if not tensors:
        raise CheckpointError(
            f"{file.path}: holds no tensors by name; save a state_dict (a dictionary of tensors)"
        )
    # repeated values (a stride of 0) take no room in the file, but all the more in memory
    room, entries = max(file.size, 2**20), {}
    for name, tensor in tensors.items():
        entry = _entry(file, name, tensor, *places[tensor.storage.key])
        count = math.prod(entry.shape)
        pairs = zip(entry.shape, tensor.strides, strict=True)
        if count > 1 + sum((n - 1) * stride for n, stride in pairs):
            room -= count
        if room < 0:
            raise damaged(file.path, f"{name!r:.200} of shape {entry.shape} repeats its values")
        entries[name] = entry
    return entries


def _entry(file, name, tensor, start, size):
    storage, dtype = tensor.storage, tensor.dtype
    shape = checked_shape(file.path, name, tensor.shape)
    numbers = (tensor.offset, storage.offset, *checked_shape(file.path, name, tensor.strides))
    if not isinstance(dtype, np.dtype) or not all(type(n) is int for n in numbers):
        raise ValueError(f"a description of {name!r:.200} that is none of a tensor")
    strides = tuple(stride * dtype.itemsize for stride in tensor.strides)
    begin = storage.offset * storage.dtype.itemsize + tensor.offset * dtype.itemsize
    reach = sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) + dtype.itemsize
    if math.prod(shape) == 0:
        reach = 0
    repeated = math.prod(shape) > max(file.size, 2**20)
    if min((begin, *strides)) < 0 or begin + reach > size or start + size > file.size or repeated:
        what = f"{name!r:.200} of shape {shape} does not fit into its storage of {size} bytes"
        raise damaged(file.path, what)
    return Entry(shape, dtype, lambda: file.array(start + begin, shape, dtype, strides))
