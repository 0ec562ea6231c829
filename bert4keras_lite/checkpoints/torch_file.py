"""Reader of PyTorch's `.bin`, `.pt` and `.pth` files that runs no code in them.

Such a file has a pickle that describes tensors, and the bytes of their storages: as members of a
zip archive, or, before PyTorch 1.6, one after another after the pickle. A pickle is a program.
`pickletools` parses it into instructions, and the stack machine in this module executes those that
build plain containers and descriptions of tensors. It cannot import or call anything else: other
objects, which trainers store next to the weights, are replaced by placeholders.

Reference:
    torch/serialization.py, torch/_utils.py; the comments of Python's pickletools.py.
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

__all__ = ["LEGACY_START", "Allowance", "Unpickler", "dictionary", "read_legacy", "read_zip"]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
# for protocol 1, and for later ones, which have a frame since protocol 4
LEGACY_START = re.compile(
    b"L%dL\n\\.|" % LEGACY_MAGIC
    + rb"\x80[\x02-\x05](\x95.{8})?\x8a\x0a"
    + re.escape(LEGACY_MAGIC.to_bytes(10, "little") + b"."),
    re.DOTALL,
)

WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
SUBMODULES = ("model", "module")  # those that are also names of submodules of models


class Storage(NamedTuple):
    """Contiguous values in the file; the dtype is a `Placeholder` if NumPy does not have it."""

    key: str
    dtype: np.dtype
    count: int  # type: ignore[assignment]  # hides the method of tuples
    offset: int = 0  # start of a "view" on it, in old files
    length: int | None = None  # of that view; None: the whole storage


class Tensor(NamedTuple):
    """Strided view on a storage; offset and strides count values, not bytes."""

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple
    strides: tuple


class Unreadable(NamedTuple):
    """Tensor whose values cannot be read."""

    kind: str
    shape: tuple


TENSORS = (Tensor, Unreadable)


class Placeholder:
    """Placeholder for an unsupported class or function that a pickle names, or for its result.

    It is neither imported nor called, and ignores the items and attributes that a pickle sets.
    """

    __slots__ = ("name",)

    def __init__(self, name):
        self.name = name


class OddKey:
    """Placeholder for a key that is neither a string nor a small integer.

    Such keys could be made to collide, or be nested so deeply that hashing them crashes the
    process.
    """

    __slots__ = ("kind",)

    def __init__(self, kind):
        self.kind = kind


def _tensor(storage, offset, shape, strides, requires_grad=False, hooks=None, metadata=None):
    """Makes a tensor with the dtype of its storage."""
    return _view(storage, storage.dtype, offset, shape, strides, metadata)


def _tensor_of_dtype(storage, offset, shape, strides, requires_grad, hooks, dtype, metadata=None):
    """Makes a tensor with its own dtype."""
    return _view(storage, dtype, offset, shape, strides, metadata)


def _view(storage, dtype, offset, shape, strides, metadata):
    """Makes a `Tensor`, or an `Unreadable`."""
    if isinstance(dtype, Placeholder):
        return Unreadable(dtype.name, shape)
    if isinstance(metadata, dict) and (metadata.get("conj") or metadata.get("neg")):
        return Unreadable("conjugated or negated view", shape)
    return Tensor(storage, dtype, offset, shape, strides)


def _parameter(tensor, requires_grad, hooks, state=None):
    """Makes a parameter, which is a tensor here."""
    _check_attributes(state)
    return tensor


def _check_attributes(state):
    """Checks that the attributes of a tensor hold no tensors, which could be its values.

    Raises:
        ValueError: they do.
    """
    for attributes in state if isinstance(state, tuple) and len(state) == 2 else (state,):
        tensors = isinstance(attributes, dict) and any(
            isinstance(value, TENSORS) for value in attributes.values()
        )
        if tensors or not isinstance(attributes, dict | None):
            raise ValueError("attributes of a tensor that may change its values.")


def _tensor_of_type(function, cls, arguments, state=None):
    """Makes a tensor of a subclass, or one with attributes, such as a `torch.nn.Buffer`."""
    _check_attributes(state)
    if function not in (_tensor, _tensor_of_dtype):
        return Unreadable(cls.name, ())
    tensor = function(*arguments)
    if cls.name not in ("torch.Tensor", "torch.nn.parameter.Parameter"):
        return Unreadable(cls.name, tensor.shape)
    return tensor


def _size(dimensions):
    """Makes a `torch.Size`, as a tuple."""
    if len(dimensions) > MAX_RANK:
        raise ValueError(f"a shape of {len(dimensions)} axes.")
    return tuple(dimensions)


def dictionary(items=()):
    """Makes an `OrderedDict`, as a dict, from the pairs that Python 2 wrote."""
    result = {}
    for key, value in items:
        put(result, key, value)
    return result


def put(dictionary, key, value):
    """Sets an item of a dict; other keys than strings and small integers become an `OddKey`."""
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

# names that are supported in a pickle -> function or dtype
GLOBALS = {
    "collections.OrderedDict": dictionary,
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
for _dtype, (_names, _class) in _DTYPES.items():
    GLOBALS |= {f"torch.{name}": np.dtype(_dtype) for name in _names}
    if _class:
        GLOBALS[f"torch.{_class}Storage"] = np.dtype(_dtype)

# functions that make unsupported tensors -> their kind, and a function arguments -> shape
KINDS = {
    "torch._utils._rebuild_qtensor": ("quantized", lambda arguments: arguments[2]),
    "torch._utils._rebuild_meta_tensor_no_storage": ("meta", lambda arguments: arguments[1]),
    "torch._utils._rebuild_sparse_tensor": (
        "sparse",
        lambda arguments: next(part for part in arguments[1] if type(part) is tuple),
    ),
}
MAKES_TENSORS = re.compile(r"torch\.(\w+\.)*_rebuild_\w+")
# bytes of a value in unsupported storages, to find the next storage of an old file
ITEM_SIZES = {
    **dict.fromkeys(["torch.QInt8Storage", "torch.QUInt8Storage"], 1),
    **dict.fromkeys(["torch.QUInt4x2Storage", "torch.QUInt2x4Storage"], 1),
    "torch.QInt32Storage": 4,
}


# numbers that trainers store next to the weights, which are the same in files of one checkpoint
COUNTERS = ("iteration", "global_steps", "mp_world_size", "checkpoint_version")


class Allowance:
    """Memory limits for all PyTorch files of a checkpoint together.

    Attributes:
        room: bytes left for the objects of pickles. Each instruction takes at least `LEAST`, which
            limits the time as well.
        repeated: bytes left for tensors that repeat values (with a stride of 0), which take more
            memory than the file has.
    """

    def __init__(self):
        self.room, self.repeated = FREE * 3 // 2, FREE // 2

    def add(self, file):
        """Raises the limits in proportion to the size of a `MappedFile`."""
        self.room += 6 * file.size
        self.repeated += file.size

    def spend(self, room):
        """Takes bytes from `room`.

        Raises:
            ValueError: nothing is left.
        """
        self.room -= room
        if self.room < 0:
            raise ValueError("a pickle that would take far more memory than its length explains.")


def read_zip(path, allowance):
    """Reads a file of PyTorch 1.6 or later: returns name -> `Entry`, and the `COUNTERS` in it."""
    file = MappedFile(path)
    machine, locations = Unpickler(file, allowance, views=False), {}
    with open_zip(file) as archive:
        spellings = Counter(map(str.lower, archive.namelist()))

        def sole(name):  # PyTorch ignores case, and would take any of them
            if spellings[name.lower()] > 1:
                raise damaged(
                    path, f"it has several members named {name!r:.200}, if case is ignored"
                )
            return name

        def content(name):  # of a member that may be compressed
            sole(name)
            allowance.spend(archive.getinfo(name).file_size)
            return read_member(file, archive, name)

        names = archive.namelist()
        root = names[0].partition("/")[0] + "/"  # as in PyTorch
        if not all(name.startswith(root) for name in names):
            raise ValueError(f"members outside of the directory {root!r:.200}.")
        if f"{root}byteorder" in names:
            _require_little(path, content(f"{root}byteorder") == b"little")
        value = machine.load(content(f"{root}data.pkl"))
        tensors = _weights(machine, value)
        for key, storage in machine.storages.items():
            member = archive.getinfo(sole(f"{root}data/{key}"))
            _require_size(path, storage, member.file_size)
            locations[key] = stored_at(file, archive, member.filename), member.file_size
    return _entries(file, tensors, locations, allowance), _counters(value)


def read_legacy(path, allowance):
    """Reads a file of PyTorch before 1.6, like `read_zip`."""
    file = MappedFile(path)
    machine, stream = Unpickler(file, allowance), file.buffer
    stream.seek(0)
    _magic, _version, system, value = (machine.load(stream) for _ in range(4))
    _require_little(path, system["little_endian"])
    tensors, keys = _weights(machine, value), machine.load(stream)
    locations, position = {}, stream.tell()
    for key in keys:
        if not isinstance(key, str):
            raise ValueError("a storage whose key is not a string.")
        count = int.from_bytes(stream[position : position + 8], "little")
        storage = machine.storages[key]
        size = count * _item_size(storage.dtype)
        _require_size(path, storage, size)
        locations[key] = position + 8, size
        position += 8 + size
    if position > file.size:
        raise damaged(path, f"it should have {position} bytes and has {file.size}")
    return _entries(file, tensors, locations, allowance), _counters(value)


def _counters(value):
    return {key: value[key] for key in COUNTERS if type(value.get(key)) in (int, float)}


def _item_size(dtype):
    return ITEM_SIZES[dtype.name] if isinstance(dtype, Placeholder) else dtype.itemsize


def _require_size(path, storage, size):
    """Checks that the size of a storage matches its description.

    Raises:
        CheckpointError: it does not.
    """
    known = not isinstance(storage.dtype, Placeholder) or storage.dtype.name in ITEM_SIZES
    if known and size != storage.count * _item_size(storage.dtype):
        problem = (
            f"its storage {storage.key!r:.200} of {storage.count} values cannot take {size} bytes"
        )
        raise damaged(path, problem)


def _require_little(path, is_little):
    """Checks the byte order.

    Raises:
        CheckpointError: it is big-endian.
    """
    if not is_little:
        raise CheckpointError(
            f"{path}: written on a big-endian machine, which is not supported. Save it on a "
            "little-endian one."
        )


# bytes that an instruction takes at most: the objects that it makes, and references to them; and
# enough that the instructions allowed for a small file take only a few seconds
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
PAIR, FIRST = 112, 160  # of an item of a dict, and in addition of the first item
LISTED = 640  # of a tensor in the result
LONGEST_NAME = 200  # characters of a function or class


class Unpickler:
    """Stack machine for the pickles of a file.

    Args:
        file: the `MappedFile`.
        allowance: the `Allowance`, to which the size of the file is added.
        views: whether storages may be views on others, as before PyTorch 0.4.

    Attributes:
        storages: key -> `Storage` in the pickles.
        placeholders: name -> `Placeholder` in the pickles.
        spend: method of the allowance.
        names: names that are supported -> function or dtype.
        position: of the instruction that is executed, in the stream.
    """

    names = GLOBALS

    def __init__(self, file, allowance, views=True):
        self.file, self.path, self.storages, self.placeholders = file, file.path, {}, {}
        self._views = {} if views else None  # key -> `Storage`
        allowance.add(file)
        self.spend = allowance.spend

    def load(self, stream):
        """Returns the value of a pickle.

        Args:
            stream: bytes, or a mapped file at the position of the pickle.

        Raises:
            ValueError, CheckpointError: the pickle is damaged or not supported.
        """
        self.stack, self.marks, self.memo = [], [], {}
        for opcode, argument, self.position in pickletools.genops(stream):
            self.spend(COSTS.get(opcode.name, LEAST))
            if opcode.name == "STOP":
                return self._pop()
            self._run(opcode.name, argument)
        raise ValueError("a pickle without an end.")

    def _run(self, name, argument):
        """Executes one instruction."""
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
                    f"{self.path}: its pickle has the instruction {name}; expected only tensors in "
                    "plain containers. Save a state_dict, or save as safetensors."
                )

    def _since_mark(self):
        """Pops the items since the last mark."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _last(self, count):
        """Pops the last `count` items of the stack.

        Raises:
            ValueError: there are fewer since the last mark.
        """
        if len(self.stack) - (self.marks[-1] if self.marks else 0) < count:
            raise ValueError("an instruction without all of its operands.")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _pop(self):
        return self._last(1)[0]

    def _top(self):
        top = self._pop()
        self.stack.append(top)
        return top

    def _put(self, index):
        """Stores the last item in the memo."""
        if index not in self.memo:
            self.spend(PAIR)
        self.memo[index] = self._top()

    def _build(self, state, target):
        """Checks the attributes of an object: an `OrderedDict` may have the versions of modules.

        Raises:
            ValueError: others have attributes; those of a tensor could be another storage.
        """
        are_dicts = isinstance(target, dict) and isinstance(state, dict)
        if not isinstance(target, Placeholder) and not (
            are_dicts and state.keys() <= {"_metadata"}
        ):
            raise ValueError("attributes of a value that is not an object of a class.")

    def _extend(self, items):
        if self._holds(list):
            self._top().extend(items)

    def _update(self, items):
        if self._holds(dict):
            target = self._top()
            self.spend(PAIR * (len(items) // 2) + (0 if target else FIRST))
            for key, value in zip(items[::2], items[1::2], strict=True):
                put(target, key, value)

    def _holds(self, cls):
        """Whether the last item is a container of this class, and not a `Placeholder`.

        Raises:
            ValueError: it is neither.
        """
        target = self._top()
        if not isinstance(target, cls | Placeholder):
            raise ValueError(f"items put into a value that is not a {cls.__name__}.")
        return isinstance(target, cls)

    def _global(self, name):
        """Returns the function or dtype of a name, or a `Placeholder`."""
        if name in self.names:
            return self.names[name]
        if name not in self.placeholders:
            if len(name) > LONGEST_NAME:
                raise ValueError(f"a name of {len(name)} characters.")
            self.spend(PAIR + 4 * len(name))
            self.placeholders[name] = Placeholder(name)
        return self.placeholders[name]

    def _call(self, function, arguments):
        """Calls a function; a `Placeholder` gives an `Unreadable` tensor, or itself."""
        self.spend(LEAST * len(arguments))
        if isinstance(function, Placeholder):
            if not MAKES_TENSORS.fullmatch(function.name):
                return function
            kind, shape_in = KINDS.get(function.name, (function.name, lambda _: ()))
            return Unreadable(kind, shape_in(arguments))
        if function is dictionary and arguments:
            self.spend(PAIR * len(arguments[0]))
        return function(*arguments)

    def _persistent(self, identifier):
        """Returns the object of a persistent id: a storage, or, in old files, a class."""
        if identifier[0] == "module":
            return identifier[1]
        storage, view = _storage(identifier)
        if view is not None:
            if self._views is None:
                raise ValueError("a view on a storage, which archives do not have.")
            if view not in self._views:
                self.spend(PAIR)
            if self._views.setdefault(view, storage) != storage:
                problem = f"its view {view!r:.200} is described twice, and differently"
                raise damaged(self.path, problem)
        if self._views and (storage.key in self._views or view in self.storages):
            raise damaged(self.path, "a view and a storage have the same key")
        known = self.storages.setdefault(storage.key, storage)
        differs = known[:3] != storage[:3]  # only empty storages may differ
        if differs and (known.count or storage.count):
            problem = f"its storage {storage.key!r:.200} is described twice, and differently"
            raise damaged(self.path, problem)
        return storage


def _storage(identifier):
    """Makes the `Storage` of a persistent id.

    Returns:
        The `Storage`, and the key of the view that it is, or None.

    Raises:
        ValueError: it is not the id of a storage.
    """
    kind, dtype, key, _device, count, *view = identifier
    has_dtype = isinstance(dtype, np.dtype | Placeholder)
    has_count = type(count) is int and 0 <= count < 1 << 60
    if kind != "storage" or not has_dtype or not has_count or not isinstance(key, str):
        raise ValueError("a persistent object that is not a storage.")
    if view and view[0] is not None:
        view_key, offset, length = view[0]
        numbers = (offset, length)
        if not isinstance(view_key, str) or not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError("a description of a view that is not one of a storage.")
        return Storage(key, dtype, count, offset, length), view_key
    return Storage(key, dtype, count), None


def _weights(machine, value):
    """Returns name -> `Tensor` or `Unreadable` in the value of a pickle.

    Raises:
        CheckpointError: there are none.
    """
    tensors = named_tensors(value, machine.path, machine.spend) if isinstance(value, dict) else {}
    if not tensors and machine.placeholders:
        raise CheckpointError(
            f"{machine.path}: its pickle needs {shown(next(iter(machine.placeholders)))}, which is "
            "not run for safety, and holds no tensors by name. Save model.state_dict() instead of "
            "the model, or save as safetensors."
        )
    if not tensors:
        raise CheckpointError(
            f"{machine.path}: holds no tensors by name. Save a state_dict (a dict of tensors)."
        )
    return tensors


def named_tensors(value, path="", spend=lambda room: None):
    """Collects the tensors in nested dicts; their keys are joined by dots.

    Trainers wrap the weights, as in `{"model": {...}, "optimizer": {...}, "epoch": 3}`: a wrapper
    with a known name is opened; one with another name only if it is the only dict of tensors.
    Numbers, strings, lists and the like are not weights and are left out.

    Args:
        value: the dict.
        path: of the file, for messages.
        spend: is called with the bytes of memory that each name takes.

    Raises:
        ValueError, CheckpointError: there are too many tensors, two with the same name, or two
            models.
    """
    for _ in WRAPPERS:
        inner = _wrapped(value)
        if inner is None:
            break
        for wrapper in WRAPPERS:
            other = value.get(wrapper)
            if isinstance(other, dict) and _differ(inner, other):
                raise CheckpointError(
                    f"{path}: holds two models with the same names of tensors, one of them under "
                    f"{wrapper!r}; expected one. Save only the state_dict of the one to load."
                )
        value = inner
    tensors, seen = {}, set()

    def gather(group, prefix):
        seen.add(id(group))  # a pickle can contain a dict twice, or in itself
        for i, (key, item) in enumerate(group.items()):
            inner = isinstance(item, dict) and id(item) not in seen
            if not inner and not isinstance(item, TENSORS):
                continue
            odd = isinstance(key, OddKey)
            name = f"{prefix}<{key.kind} {i}>" if odd else f"{prefix}{key}"
            spend(LISTED + 2 * sys.getsizeof(name))
            if len(tensors) == MAX_TENSORS:
                raise ValueError(f"more than {MAX_TENSORS} tensors.")
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
    """Returns the dict of weights in a wrapper, or None if `value` is not a wrapper."""
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
    """Whether two dicts have different tensors under the same name."""
    locations = [
        {
            name: (*tensor.storage, tensor.offset)
            for name, tensor in tensors.items()
            if isinstance(tensor, Tensor) and type(tensor.offset) is int
        }
        for tensors in (group, other)
    ]
    ours, theirs = locations
    return any(theirs.get(name, location) != location for name, location in ours.items())


def _holds_tensors(group):
    return any(isinstance(inner, (*TENSORS, dict)) for inner in group.values())


def _is_weight(wrapper, name, tensor):
    """Whether a tensor next to a wrapper is a weight, and not a step, metric or random state."""
    if isinstance(name, str) and "." in name:
        return True
    counts = isinstance(tensor, Tensor) and tensor.dtype.kind in "biu"
    return wrapper in SUBMODULES and not counts and any(n != 1 for n in tensor.shape)


def _entries(file, tensors, locations, allowance):
    """Makes name -> `Entry`.

    Args:
        file: the `MappedFile`.
        tensors: name -> `Tensor` or `Unreadable`.
        locations: key of a storage -> its offset and size in the file, in bytes.
        allowance: the `Allowance`.
    """
    entries = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, Unreadable):
            shape = checked_shape(file.path, name, tensor.shape)
            entries[name] = unreadable(file.path, name, shape, f"values of kind {tensor.kind}")
            continue
        entries[name] = entry = _entry(file, name, tensor, *locations[tensor.storage.key])
        count = math.prod(entry.shape)
        pairs = zip(entry.shape, tensor.strides, strict=True)
        if count > 1 + sum((n - 1) * stride for n, stride in pairs):
            allowance.repeated -= count * entry.dtype.itemsize
        if allowance.repeated < 0:
            problem = f"{name!r:.200} of shape {entry.shape!s:.200} repeats its values"
            raise damaged(file.path, problem)
    return entries


def _entry(file, name, tensor, start, size):
    """Makes the `Entry` of a tensor, whose storage has `size` bytes from byte `start` on.

    Raises:
        ValueError, CheckpointError: its description is wrong.
    """
    storage, dtype = tensor.storage, tensor.dtype
    shape = checked_shape(file.path, name, tensor.shape)
    numbers = (tensor.offset, storage.offset, *checked_shape(file.path, name, tensor.strides))
    if not isinstance(dtype, np.dtype) or not all(type(n) is int for n in numbers):
        raise ValueError(f"the description of {name!r:.200} is not that of a tensor.")
    strides = tuple(stride * dtype.itemsize for stride in tensor.strides)
    begin = storage.offset * storage.dtype.itemsize + tensor.offset * dtype.itemsize
    end = size
    if storage.length is not None:
        end = min(size, (storage.offset + storage.length) * storage.dtype.itemsize)
    reach = sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) + dtype.itemsize
    if math.prod(shape) == 0:
        reach = 0
    if min((tensor.offset, *strides)) < 0 or begin + reach > end or start + size > file.size:
        problem = (
            f"{name!r:.200} of shape {shape!s:.200} does not fit into its storage of {size} bytes"
        )
        raise damaged(file.path, problem)
    return Entry(shape, dtype, lambda: file.array(start + begin, shape, dtype, strides))
