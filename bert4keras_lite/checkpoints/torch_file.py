"""PyTorch's `.bin`, `.pt` and `.pth` files, read without running anything they contain.

Such a file is a pickle that describes tensors, and the bytes of their storages: members of a zip
archive, or, before PyTorch 1.6, one after the other behind the pickle. A pickle is a program.
`pickletools` takes it apart into instructions, and the stack machine here carries out those that
build plain containers and descriptions of tensors. It knows no way to import or call anything else:
for other objects, as trainers keep them beside the weights, it puts a placeholder.

Reference: torch/serialization.py, torch/_utils.py; the comments of Python's pickletools.py.
"""

import math
import pickletools
import re
import sys
from collections import Counter
from typing import NamedTuple

import ml_dtypes
import numpy as np

from ..parsing import FREE, shown
from .base import (
    MAX_RANK,
    MAX_TENSORS,
    CheckpointError,
    Entry,
    MappedFile,
    checked_shape,
    damaged,
    unreadable,
)
from .zip_file import open_zip, read_member, stored_at

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
# in the words of protocol 1, and of the later ones, which put it into a frame from protocol 4 on
LEGACY_START = re.compile(
    b"L%dL\n\\.|" % LEGACY_MAGIC
    + rb"\x80[\x02-\x05](\x95.{8})?\x8a\x0a"
    + re.escape(LEGACY_MAGIC.to_bytes(10, "little") + b"."),
    re.DOTALL,
)

WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
SUBMODULES = ("model", "module")  # of these, what models call a part of themselves


class Storage(NamedTuple):
    """A run of values in the file; its dtype is a `Foreign` if NumPy has none."""

    key: str
    dtype: np.dtype
    count: int
    offset: int = 0  # at which an old "view" of it begins
    length: int | None = None  # of that view; None: all of the storage


class Tensor(NamedTuple):
    """A strided view on a storage; offset and strides count values, not bytes."""

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple
    strides: tuple


class Unreadable(NamedTuple):
    """A tensor that is listed, but whose values cannot be given."""

    kind: str
    shape: tuple


TENSORS = (Tensor, Unreadable)


class Foreign:
    """A class or function that a pickle names and this module lacks, or what that would make.

    It is neither imported nor called, and takes no notice of what a pickle puts into it.
    """

    __slots__ = ("name",)

    def __init__(self, name):
        self.name = name


class OddKey:
    """Stands for a key that is neither a text nor a small integer.

    Such keys could be made to collide, or nested so deeply that hashing them ends the process.
    """

    __slots__ = ("kind",)

    def __init__(self, kind):
        self.kind = kind


def _tensor(storage, offset, shape, strides, requires_grad=False, hooks=None, metadata=None):
    return _view(storage, storage.dtype, offset, shape, strides, metadata)


def _tensor_of_dtype(storage, offset, shape, strides, requires_grad, hooks, dtype, metadata=None):
    return _view(storage, dtype, offset, shape, strides, metadata)


def _view(storage, dtype, offset, shape, strides, metadata):
    if isinstance(dtype, Foreign):
        return Unreadable(dtype.name, shape)
    if isinstance(metadata, dict) and (metadata.get("conj") or metadata.get("neg")):
        return Unreadable("conjugated or negated view", shape)
    return Tensor(storage, dtype, offset, shape, strides)


def _parameter(tensor, requires_grad, hooks, state=None):
    _check_attributes(state)
    return tensor


def _check_attributes(state):
    """Raises where the attributes of a tensor hold tensors, of which one could be its values."""
    for attributes in state if isinstance(state, tuple) and len(state) == 2 else (state,):
        tensors = isinstance(attributes, dict) and any(
            isinstance(value, TENSORS) for value in attributes.values()
        )
        if tensors or not isinstance(attributes, dict | None):
            raise ValueError("attributes of a tensor that may change its values")


def _tensor_of_type(function, kind, arguments, state=None):
    """A tensor of a subclass, or one that has attributes, such as a `torch.nn.Buffer`."""
    _check_attributes(state)
    if function not in (_tensor, _tensor_of_dtype):
        return Unreadable(kind.name, ())
    tensor = function(*arguments)
    if kind.name not in ("torch.Tensor", "torch.nn.parameter.Parameter"):
        return Unreadable(kind.name, tensor.shape)
    return tensor


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
    """Sets an item; see `OddKey`."""
    plain = isinstance(key, str) or (type(key) is int and abs(key) < 1 << 60)
    dictionary[key if plain else OddKey(type(key).__name__)] = value


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

# all that a pickle may name and is given: functions, and dtypes
GLOBALS = {
    "collections.OrderedDict": _dictionary,
    "collections.defaultdict": lambda factory=None: {},
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _tensor_of_type,
    "torch.storage.UntypedStorage": np.dtype("u1"),
}
for _dtype, (_names, _storage) in _DTYPES.items():
    GLOBALS |= {f"torch.{name}": np.dtype(_dtype) for name in _names}
    if _storage:
        GLOBALS[f"torch.{_storage}Storage"] = np.dtype(_dtype)

# functions that make tensors of other kinds: the kind, and its shape among the arguments
KINDS = {
    "torch._utils._rebuild_qtensor": ("quantized", lambda arguments: arguments[2]),
    "torch._utils._rebuild_meta_tensor_no_storage": ("meta", lambda arguments: arguments[1]),
    "torch._utils._rebuild_sparse_tensor": (
        "sparse",
        lambda arguments: next(part for part in arguments[1] if type(part) is tuple),
    ),
}
MAKES_TENSORS = re.compile(r"torch\.(\w+\.)*_rebuild_\w+")
# bytes of a value of other storages, without which one cannot tell where the next one begins
ITEM_SIZES = {
    **dict.fromkeys(["torch.QInt8Storage", "torch.QUInt8Storage"], 1),
    **dict.fromkeys(["torch.QUInt4x2Storage", "torch.QUInt2x4Storage"], 1),
    "torch.QInt32Storage": 4,
}


# numbers that trainers keep beside the weights, by which files of one checkpoint are told
COUNTERS = ("iteration", "global_steps", "mp_world_size", "checkpoint_version")


class Allowance:
    """What the descriptions in all PyTorch files of one checkpoint may take together.

    Attributes:
        room: bytes of memory that are left for the values of pickles. Each instruction takes
            `LEAST` of them or more, so that the time is bounded, too.
        repeated: bytes that are left for values which tensors repeat (by a stride of 0): they take
            no room in the file, but all the more in memory.
    """

    def __init__(self):
        self.room, self.repeated = FREE * 3 // 2, FREE // 2

    def add(self, file):
        """Adds what the size of a `MappedFile` explains."""
        self.room += 6 * file.size
        self.repeated += file.size

    def spend(self, room):
        """Raises once the values take more memory than the pickles explain."""
        self.room -= room
        if self.room < 0:
            raise ValueError("a pickle that would take far more memory than its length explains")


def read_zip(path, allowance):
    """Name -> `Entry` of a file by PyTorch 1.6 or later, and what `COUNTERS` say in it."""
    file = MappedFile(path)
    machine, places = Unpickler(file, allowance, views=False), {}
    with open_zip(file) as archive:
        spelled = Counter(map(str.lower, archive.namelist()))

        def sole(name):  # PyTorch finds one of those that differ in capital letters
            if spelled[name.lower()] > 1:
                raise damaged(
                    path, f"it has more members of the name {name!r:.200}, in other letters"
                )
            return name

        def content(name):  # which may be compressed
            sole(name)
            allowance.spend(archive.getinfo(name).file_size)
            return read_member(file, archive, name)

        names = archive.namelist()
        root = names[0].partition("/")[0] + "/"  # as PyTorch finds it
        if not all(name.startswith(root) for name in names):
            raise ValueError(f"members outside of the directory {root!r:.200}")
        if f"{root}byteorder" in names:
            _require_little(path, content(f"{root}byteorder") == b"little")
        value = machine.load(content(f"{root}data.pkl"))
        tensors = _weights(machine, value)
        for key, storage in machine.storages.items():
            member = archive.getinfo(sole(f"{root}data/{key}"))
            _require_size(path, storage, member.file_size)
            places[key] = stored_at(file, archive, member.filename), member.file_size
    return _entries(file, tensors, places, allowance), _counters(value)


def read_legacy(path, allowance):
    """The same of a file by PyTorch before 1.6."""
    file = MappedFile(path)
    machine, stream = Unpickler(file, allowance), file.buffer
    stream.seek(0)
    _magic, _version, system, value = (machine.load(stream) for _ in range(4))
    _require_little(path, system["little_endian"])
    tensors, keys = _weights(machine, value), machine.load(stream)
    places, position = {}, stream.tell()
    for key in keys:
        if not isinstance(key, str):
            raise ValueError("a storage whose key is no text")
        count = int.from_bytes(stream[position : position + 8], "little")
        storage = machine.storages[key]
        size = count * _item_size(storage.dtype)
        _require_size(path, storage, size)
        places[key] = position + 8, size
        position += 8 + size
    if position > file.size:
        raise damaged(path, f"it should have {position} bytes and has {file.size}")
    return _entries(file, tensors, places, allowance), _counters(value)


def _counters(value):
    return {key: value[key] for key in COUNTERS if type(value.get(key)) in (int, float)}


def _item_size(dtype):
    return ITEM_SIZES[dtype.name] if isinstance(dtype, Foreign) else dtype.itemsize


def _require_size(path, storage, size):
    """Raises if the values of a storage are not as many as its description says."""
    known = not isinstance(storage.dtype, Foreign) or storage.dtype.name in ITEM_SIZES
    if known and size != storage.count * _item_size(storage.dtype):
        what = (
            f"its storage {storage.key!r:.200} of {storage.count} values cannot take {size} bytes"
        )
        raise damaged(path, what)


def _require_little(path, is_little):
    if not is_little:
        raise CheckpointError(f"{path}: written on a big-endian machine, which is not supported")


# what instructions take at most, in bytes: the objects that they make, and their places; and so
# much that the instructions which a small file explains are carried out in a few seconds
LEAST = 24
ARGUMENTS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
    *("BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
CONTAINERS = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "LIST", "EMPTY_DICT", "DICT")
CALLS = ("REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST")
COSTS = {
    "MARK": 48,
    **dict.fromkeys(CONTAINERS, 96),
    **dict.fromkeys(CALLS, 112),
    "BINPERSID": 208,
}
PAIR, FIRST = 112, 160  # of an item of a dictionary, and what the first one takes besides
LISTED = 640  # of a tensor that is found
LONGEST_NAME = 200  # characters of a function or class


class Unpickler:
    """A stack machine for the pickles of one file.

    Args:
        file: the `MappedFile`.
        allowance: the `Allowance`, to which its size is added.
        views: whether storages may be parts of others, as before PyTorch 0.4.

    Attributes:
        storages: those that the pickles speak of, by key.
        foreign: name -> `Foreign` of what they named.
        spend: that of the allowance.
    """

    def __init__(self, file, allowance, views=True):
        self.path, self.storages, self.foreign = file.path, {}, {}
        self._views = {} if views else None  # key -> `Storage`
        allowance.add(file)
        self.spend = allowance.spend

    def load(self, stream):
        """The value of one pickle: of bytes, or of a mapped file from its position on."""
        self.stack, self.marks, self.memo = [], [], {}
        for opcode, argument, _ in pickletools.genops(stream):
            self.spend(COSTS.get(opcode.name, LEAST))
            if opcode.name == "STOP":
                return self._pop()
            self._run(opcode.name, argument)
        raise ValueError("a pickle without an end")

    def _run(self, name, argument):
        """Carries out one instruction."""
        stack = self.stack
        match name:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self.marks.append(len(stack))
            case "POP":
                self._pop()
            case "POP_MARK":
                self._since_mark()
            case "DUP":
                stack.append(self._top())
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._put(argument)
            case "MEMOIZE":
                self._put(len(self.memo))
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(name == "NEWTRUE")
            case _ if name in ARGUMENTS:
                self.spend(sys.getsizeof(argument))
                stack.append(argument)
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._last(int(name[-1]))))
            case "TUPLE":
                stack.append(tuple(self._since_mark()))
            case "EMPTY_LIST":
                stack.append([])
            case "LIST":
                stack.append(self._since_mark())
            case "APPEND":
                self._extend(self._last(1))
            case "APPENDS" | "ADDITEMS":
                self._extend(self._since_mark())
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                items = self._since_mark()
                stack.append({})
                self._update(items)
            case "SETITEM":
                self._update(self._last(2))
            case "SETITEMS":
                self._update(self._since_mark())
            case "EMPTY_SET":
                stack.append(self._global("builtins.set"))
            case "FROZENSET":
                self._since_mark()
                stack.append(self._global("builtins.frozenset"))
            case "GLOBAL":
                stack.append(self._global(argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                stack.append(self._global(".".join(self._last(2))))
            case "BINPERSID":
                stack.append(self._persistent(self._pop()))
            case "REDUCE" | "NEWOBJ":
                stack.append(self._call(*self._last(2)))
            case "NEWOBJ_EX":
                function, arguments, _ = self._last(3)
                stack.append(self._call(function, arguments))
            case "OBJ":
                function, *arguments = self._since_mark()
                stack.append(self._call(function, tuple(arguments)))
            case "INST":
                arguments = tuple(self._since_mark())
                stack.append(self._call(self._global(argument.replace(" ", ".")), arguments))
            case "BUILD":
                self._build(self._pop(), self._top())
            case _:
                raise CheckpointError(
                    f"{self.path}: its pickle has the instruction {name}, and only tensors in "
                    "plain containers are read; save a state_dict, or as safetensors"
                )

    def _since_mark(self):
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _last(self, count):
        """Takes what comes last off the stack: nothing from before a mark."""
        if len(self.stack) - (self.marks[-1] if self.marks else 0) < count:
            raise ValueError("an instruction without all of its operands")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _pop(self):
        return self._last(1)[0]

    def _top(self):
        top = self._pop()
        self.stack.append(top)
        return top

    def _put(self, place):
        """Remembers what comes last."""
        if place not in self.memo:
            self.spend(PAIR)
        self.memo[place] = self._top()

    def _build(self, state, target):
        """Takes notice of attributes: an ordered dictionary has the versions of a module.

        Those of a tensor would be another storage.
        """
        versions = isinstance(target, dict) and isinstance(state, dict)
        if not isinstance(target, Foreign) and not (versions and state.keys() <= {"_metadata"}):
            raise ValueError("attributes of what is no object of a class")

    def _extend(self, items):
        if self._holds(list):
            self._top().extend(items)

    def _update(self, items):
        if self._holds(dict):
            target = self._top()
            self.spend(PAIR * (len(items) // 2) + (0 if target else FIRST))
            for key, value in zip(items[::2], items[1::2], strict=True):
                put(target, key, value)

    def _holds(self, kind):
        """Whether what comes last is a container of a kind, and not a foreign one."""
        target = self._top()
        if not isinstance(target, kind | Foreign):
            raise ValueError(f"items put into what is no {kind.__name__}")
        return isinstance(target, kind)

    def _global(self, name):
        if name in GLOBALS:
            return GLOBALS[name]
        if name not in self.foreign:
            if len(name) > LONGEST_NAME:
                raise ValueError(f"a name of {len(name)} characters")
            self.spend(PAIR + 4 * len(name))
            self.foreign[name] = Foreign(name)
        return self.foreign[name]

    def _call(self, function, arguments):
        """What a call makes; that of a foreign function is a tensor, or of no interest."""
        self.spend(LEAST * len(arguments))
        if isinstance(function, Foreign):
            if not MAKES_TENSORS.fullmatch(function.name):
                return function
            kind, shape_in = KINDS.get(function.name, (function.name, lambda _: ()))
            return Unreadable(kind, shape_in(arguments))
        if function is _dictionary and arguments:
            self.spend(PAIR * len(arguments[0]))
        return function(*arguments)

    def _persistent(self, identifier):
        """What an old file calls a class with its source, or a storage."""
        if identifier[0] == "module":
            return identifier[1]
        storage, view = _storage(identifier)
        if view is not None:
            if self._views is None:
                raise ValueError("a view in an archive")
            if view not in self._views:
                self.spend(PAIR)
            if self._views.setdefault(view, storage) != storage:
                raise damaged(
                    self.path, f"its view {view!r:.200} is described twice, and differently"
                )
        if self._views and (storage.key in self._views or view in self.storages):
            raise damaged(self.path, "one of its views has the key of a storage")
        known = self.storages.setdefault(storage.key, storage)
        differs = known[:3] != storage[:3]  # as only those that hold nothing may
        if differs and (known.count or storage.count):
            what = f"its storage {storage.key!r:.200} is described twice, and differently"
            raise damaged(self.path, what)
        return storage


def _storage(identifier):
    """A `Storage` by its description, and the key of the view that it is, or None."""
    kind, dtype, key, _device, count, *view = identifier
    known = isinstance(dtype, np.dtype | Foreign)
    counted = type(count) is int and 0 <= count < 1 << 60
    if kind != "storage" or not known or not counted or not isinstance(key, str):
        raise ValueError("a persistent object that is no storage")
    if view and view[0] is not None:
        view_key, offset, length = view[0]
        numbers = (offset, length)
        if not isinstance(view_key, str) or not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError("a view that is none of a storage")
        return Storage(key, dtype, count, offset, length), view_key
    return Storage(key, dtype, count), None


def _weights(machine, value):
    """Name -> `Tensor` or `Unreadable` in the value of a pickle."""
    tensors = named_tensors(value, machine.path, machine.spend) if isinstance(value, dict) else {}
    if not tensors and machine.foreign:
        raise CheckpointError(
            f"{machine.path}: its pickle asks for {shown(next(iter(machine.foreign)))}, which is "
            "not run, and holds no tensors by name; save model.state_dict() instead of the model, "
            "or as safetensors"
        )
    if not tensors:
        raise CheckpointError(
            f"{machine.path}: holds no tensors by name; save a state_dict (a dictionary of tensors)"
        )
    return tensors


def named_tensors(value, path="", spend=lambda room: None):
    """The tensors in nested dictionaries, their keys joined by dots.

    Trainers wrap the weights, as `{"model": {...}, "optimizer": {...}, "epoch": 3}`: such a
    wrapper is opened; one of another name, where it is the only dictionary of tensors. Numbers,
    strings, lists and the like are no weights and are left out.

    Args:
        value: the dictionary.
        path: of the file, for messages.
        spend: is told the bytes of memory that each name will take.
    """
    for _ in WRAPPERS:
        inner = _wrapped(value)
        if inner is None:
            break
        for wrapper in WRAPPERS:
            other = value.get(wrapper)
            if isinstance(other, dict) and _differ(inner, other):
                raise CheckpointError(
                    f"{path}: holds two models, of which one is named {wrapper!r}, with tensors of the "
                    "same names; expected one. Save the state_dict of the one that is meant alone."
                )
        value = inner
    tensors, seen = {}, set()

    def gather(group, prefix):
        seen.add(id(group))  # a pickle can hold a dictionary twice, or in itself
        for i, (key, item) in enumerate(group.items()):
            inner = isinstance(item, dict) and id(item) not in seen
            if not inner and not isinstance(item, TENSORS):
                continue
            odd = isinstance(key, OddKey)
            name = f"{prefix}<{key.kind} {i}>" if odd else f"{prefix}{key}"
            spend(LISTED + 2 * sys.getsizeof(name))
            if len(tensors) == MAX_TENSORS:
                raise ValueError(f"more than {MAX_TENSORS} tensors")
            if inner:
                gather(item, f"{name}.")
            elif name in tensors:
                raise CheckpointError(
                    f"{path}: two tensors are named {name!r:.200}; expected a name for each. "
                    "Rename one of them, and save again."
                )
            else:
                tensors[name] = Unreadable(f"{key.kind} as a key", item.shape) if odd else item

    gather(value, "")
    return tensors


def _wrapped(value):
    """The dictionary of weights that a dictionary wraps, or None if it wraps none."""
    for wrapper in WRAPPERS:
        inner = value.get(wrapper)
        if isinstance(inner, dict) and _holds_tensors(inner):
            tensors = (pair for pair in value.items() if isinstance(pair[1], TENSORS))
            if not any(_is_weight(wrapper, name, tensor) for name, tensor in tensors):
                return inner
    if any(isinstance(item, TENSORS) for item in value.values()):
        return None
    groups = [
        item
        for item in value.values()
        if isinstance(item, dict)
        and _holds_tensors(item)
        and not item.keys() >= {"state", "param_groups"}  # an optimizer
    ]
    flat = len(groups) == 1 and all(isinstance(inner, TENSORS) for inner in groups[0].values())
    return groups[0] if flat else None


def _differ(group, other):
    """Whether two dictionaries have tensors of one name with other places in the file."""
    places = [
        {
            name: (*tensor.storage, tensor.offset)
            for name, tensor in tensors.items()
            if isinstance(tensor, Tensor) and type(tensor.offset) is int
        }
        for tensors in (group, other)
    ]
    return any(places[1].get(name, place) != place for name, place in places[0].items())


def _holds_tensors(group):
    return any(isinstance(inner, (*TENSORS, dict)) for inner in group.values())


def _is_weight(wrapper, name, tensor):
    """Whether a tensor next to a wrapper is the model's, not a trainer's step, metric or random state."""
    if isinstance(name, str) and "." in name:
        return True
    counts = isinstance(tensor, Tensor) and tensor.dtype.kind in "biu"
    return wrapper in SUBMODULES and not counts and any(n != 1 for n in tensor.shape)


def _entries(file, tensors, places, allowance):
    entries = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, Unreadable):
            shape = checked_shape(file.path, name, tensor.shape)
            entries[name] = unreadable(file.path, name, shape, f"values of kind {tensor.kind}")
            continue
        entries[name] = entry = _entry(file, name, tensor, *places[tensor.storage.key])
        count = math.prod(entry.shape)
        pairs = zip(entry.shape, tensor.strides, strict=True)
        if count > 1 + sum((n - 1) * stride for n, stride in pairs):
            allowance.repeated -= count * entry.dtype.itemsize
        if allowance.repeated < 0:
            what = f"{name!r:.200} of shape {entry.shape!s:.200} repeats its values"
            raise damaged(file.path, what)
    return entries


def _entry(file, name, tensor, start, size):
    storage, dtype = tensor.storage, tensor.dtype
    shape = checked_shape(file.path, name, tensor.shape)
    numbers = (tensor.offset, storage.offset, *checked_shape(file.path, name, tensor.strides))
    if not isinstance(dtype, np.dtype) or not all(type(n) is int for n in numbers):
        raise ValueError(f"a description of {name!r:.200} that is none of a tensor")
    strides = tuple(stride * dtype.itemsize for stride in tensor.strides)
    begin = storage.offset * storage.dtype.itemsize + tensor.offset * dtype.itemsize
    end = size
    if storage.length is not None:
        end = min(size, (storage.offset + storage.length) * storage.dtype.itemsize)
    reach = sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) + dtype.itemsize
    if math.prod(shape) == 0:
        reach = 0
    if min((tensor.offset, *strides)) < 0 or begin + reach > end or start + size > file.size:
        what = (
            f"{name!r:.200} of shape {shape!s:.200} does not fit into its storage of {size} bytes"
        )
        raise damaged(file.path, what)
    return Entry(shape, dtype, lambda: file.array(start + begin, shape, dtype, strides))
