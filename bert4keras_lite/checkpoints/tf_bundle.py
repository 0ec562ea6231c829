"""Reader and writer of TensorFlow's V2 checkpoint: `PREFIX.index`, `PREFIX.data-?????-of-?????`.

In this format, the "tensor bundle", the index is a sorted string table (LevelDB's table format)
from the name of a tensor to a protocol buffer with dtype, shape, shard, offset, size and checksum;
the data files hold only values.

Reference:
    tensorflow/core/util/tensor_bundle/tensor_bundle.h, core/protobuf/tensor_bundle.proto,
    core/lib/strings/ordered_code.cc;
    https://github.com/google/leveldb/blob/main/doc/table_format.md
"""

import glob
import math
import os
import re
import warnings
from collections import defaultdict
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from ..checksums import masked_crc32c
from ..files import final
from ..parsing import FREE, listed
from ..protobuf import (
    FIXED,
    MESSAGE,
    VARINT,
    encode_field,
    encode_varint,
    read_fields,
    read_varint,
)
from .base import (
    MAX_RANK,
    MAX_TENSORS,
    CheckpointError,
    Entry,
    MappedFile,
    as_bytes,
    checked_shape,
    damaged,
    reading,
    size_of,
    unreadable,
)

__all__ = ["prefix_in", "prefix_of", "read_entries", "remove_unused", "write"]

DTYPES = {  # of tensorflow/core/framework/types.proto; quantized types are stored as plain integers
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    4: np.dtype("u1"),
    5: np.dtype("<i2"),
    6: np.dtype("i1"),
    8: np.dtype("<c8"),
    9: np.dtype("<i8"),
    10: np.dtype(bool),
    11: np.dtype("i1"),
    12: np.dtype("u1"),
    13: np.dtype("<i4"),
    14: np.dtype(ml_dtypes.bfloat16),
    15: np.dtype("<i2"),
    16: np.dtype("<u2"),
    17: np.dtype("<u2"),
    18: np.dtype("<c16"),
    19: np.dtype("<f2"),
    22: np.dtype("<u4"),
    23: np.dtype("<u8"),
    24: np.dtype(ml_dtypes.float8_e5m2),
    25: np.dtype(ml_dtypes.float8_e4m3fn),
}
NUMBERS = {dtype: number for number, dtype in reversed(DTYPES.items())}  # plain types come first
OTHER_KINDS = {7: "strings", 20: "a resource", 21: "a variant"}

FOOTER_SIZE = 48
TRAILER_SIZE = 5  # of a block: the type of its compression, and a checksum
MAX_INDEX = 32 << 20  # bytes of an index file: more than for 100,000 long names
MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
MOST_VALUES = 4 << 20  # bytes of the descriptions in an index, in addition to its own size
MAX_EXTENTS = 1 << 18  # slices of all variables, times their axes
# limits for the cells of the grid formed by the edges of a variable's slices: in total, per slice
MAX_CELLS, CELLS_OF_A_SLICE = 16 << 20, 4096
# number of a field -> its type, and whether it may be repeated; other fields are ignored, but not
# in slices, which are parsed for each reading
HEADER = {1: (VARINT, False), 2: (VARINT, False)}
ENTRY = {
    **dict.fromkeys((1, 3, 4, 5), (VARINT, False)),
    2: (MESSAGE, False),
    6: (FIXED, False),
    7: (MESSAGE, True),
}
SHAPE = {2: (MESSAGE, True), 3: (VARINT, False)}
DIMENSION = {1: (VARINT, False)}
SLICE = {1: (MESSAGE, True)}
EXTENT = {1: (VARINT, False), 2: (VARINT, False)}
ALIGNMENT = 64  # of the tensors in a data file: not required, but good for mapped views


def data_path(prefix, shard, shards):
    """Returns the path of a data file."""
    return Path(f"{prefix}.data-{shard:05d}-of-{shards:05d}")


# Reading


class BundleEntry(NamedTuple):
    """Description of a tensor in the index, a `BundleEntryProto`."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    slices: list  # of bytes, a `TensorSliceProto` each: parsed, they take far more memory


def read_entries(prefix, verify):
    """Reads the bundle at `prefix`: returns name -> `Entry`.

    Args:
        prefix: a `Path`.
        verify: whether to verify the checksum of a tensor when it is read.

    Raises:
        CheckpointError: the bundle is damaged or incomplete.
    """
    index = Path(f"{prefix}.index")
    with reading(index):
        table = dict(_read_table(index))
        if b"" not in table:
            raise damaged(index, "it has no header")
        header = _read_message(table.pop(b""), HEADER)
        if _only(header, 2) != 0:
            raise CheckpointError(
                f"{index}: written on a big-endian machine, which is not supported. Save it on a "
                "little-endian one."
            )
        stored, slices, extents, room = {}, 0, 0, _room_for_keys(size_of(index))
        for key, value in table.items():
            stored[key] = _parse_entry(value)
            count = len(stored[key].slices)
            slices, extents = slices + count, extents + count * max(1, len(stored[key].shape))
            room -= len(key) * count  # the key of each slice contains this key
            if slices > len(table) or room < 0:
                raise damaged(index, "it refers to more slices than it has")
            if extents > MAX_EXTENTS:
                raise damaged(index, f"its slices have more than {MAX_EXTENTS} axes in total")
        bundle = _Bundle(prefix, _only(header, 1), stored, verify)
        bundle.check_sizes()
        # keys that start with a zero byte hold the slices of partitioned variables
        return {key.decode(): bundle.entry(key) for key in stored if not key.startswith(b"\0")}


class _Bundle:
    """Data files of a bundle, with the descriptions in its index."""

    def __init__(self, prefix, shards, stored, verify):
        self.prefix, self.shards, self.stored, self.verify = prefix, shards, stored, verify
        self.files = {}

    def file(self, shard):
        """Opens a data file.

        Raises:
            CheckpointError: it is missing.
        """
        if shard not in self.files:
            path = data_path(self.prefix, shard, self.shards)
            if not path.exists():
                raise CheckpointError(
                    f"{path}: this shard ({shard + 1} of {self.shards}) is missing; expected "
                    f"{self.prefix.name}.index and all of its data files. Get it as well."
                )
            self.files[shard] = MappedFile(path, is_kept=True)
        return self.files[shard]

    def check_sizes(self):
        """Checks that the tensors do not take more bytes than the files have: they cannot overlap.

        Raises:
            CheckpointError: they do.
        """
        numbers = [entry for entry in self.stored.values() if entry.dtype in DTYPES]
        size = sum(entry.size for entry in numbers)
        files = [self.file(shard) for shard in {entry.shard for entry in numbers if entry.size}]
        if size > sum(file.size for file in files):
            problem = f"its tensors take {size} bytes, more than the data files have"
            raise damaged(f"{self.prefix}.index", problem)
        extents = sorted((x.shard, x.offset, x.offset + x.size) for x in numbers if x.size)
        for extent, following in pairwise(extents):
            (shard, _, end), (next_shard, start, _) = extent, following
            if shard == next_shard and start < end and extent != following:
                raise damaged(f"{self.prefix}.index", f"two tensors have byte {start} of a file")

    def entry(self, key):
        """Makes the `Entry` of a tensor."""
        name, entry = key.decode(), self.stored[key]
        if entry.dtype == 0:
            raise damaged(f"{self.prefix}.index", f"{name!r:.200} has no type")
        if entry.dtype not in DTYPES:
            content = OTHER_KINDS.get(entry.dtype, f"values of TensorFlow's type {entry.dtype}")
            return unreadable(self.prefix, name, entry.shape, content)
        return self.partitioned(name, key) if entry.slices else self.whole(name, key)

    def whole(self, name, key):
        """Makes the `Entry` of a tensor that is stored in one piece."""
        entry = self.stored[key]
        file, dtype = self.file(entry.shard), DTYPES[entry.dtype]
        if entry.size != math.prod(entry.shape) * dtype.itemsize:
            problem = f"{name!r:.200} of shape {entry.shape!r:.200} cannot take {entry.size} bytes"
            raise damaged(f"{self.prefix}.index", problem)
        plain = file.entry(name, entry.offset, entry.shape, dtype)
        if not self.verify:
            return plain

        def read():
            array = plain.read()
            if masked_crc32c(as_bytes(array)) != entry.checksum:
                raise damaged(file.path, f"the checksum of {name!r:.200} is wrong")
            return array

        return plain._replace(read=read)

    def partitioned(self, name, key):
        """Makes the `Entry` of a variable that is stored in slices, each with its own key."""
        entry, index = self.stored[key], Path(f"{self.prefix}.index")
        shape = checked_shape(self.prefix, name, entry.shape)

        def parts():  # computed again for reading: for all variables they would take much memory
            for packed in entry.slices:
                extents = _parse_slice(packed)
                box = [
                    (0, full) if length < 0 else (start, start + length)
                    for (start, length), full in zip(extents, shape, strict=True)
                ]
                part = _slice_key(key, extents)
                if part not in self.stored:
                    raise damaged(index, f"a slice of {name!r:.200} is missing")
                yield box, self.whole(name, part)

        boxes = np.empty((len(entry.slices), len(shape), 2), "int64")
        dtype = DTYPES[entry.dtype]
        for i, (box, part) in enumerate(parts()):
            if part.dtype != dtype:
                problem = f"a slice of {name!r:.200} has dtype {part.dtype}, and the whole {dtype}"
                raise damaged(index, problem)
            if part.shape != tuple(end - start for start, end in box) or any(
                end > full for (_, end), full in zip(box, shape, strict=True)
            ):
                raise damaged(
                    index, f"a slice of {name!r:.200} has the wrong shape {part.shape!s:.200}"
                )
            boxes[i] = np.reshape(box, (len(shape), 2))
        if not _tile(boxes, shape):
            raise damaged(index, f"slices of {name!r:.200} are missing, or there twice")

        def read():
            array = np.zeros(shape, dtype)
            for box, part in parts():
                array[tuple(slice(*extent) for extent in box)] = part.read()
            return array

        return Entry(shape, dtype, read)


def _tile(boxes, shape):
    """Whether boxes within a shape cover it completely, without overlaps.

    Args:
        boxes: integers `(boxes, axes, 2)`, the starts and ends.
        shape: of the variable.

    Raises:
        ValueError: their edges form a finer grid than those of any partitioner.
    """
    boxes = boxes[(boxes[..., 0] < boxes[..., 1]).all(axis=1)]
    if 0 in shape:
        return True
    indices = np.empty_like(boxes)  # in the grid of all edges
    cells = []
    for axis, length in enumerate(shape):
        edges = np.unique(boxes[:, axis])
        if not len(edges) or edges[0] != 0 or edges[-1] != length:
            return False
        indices[:, axis] = np.searchsorted(edges, boxes[:, axis])
        cells.append(len(edges) - 1)
    if math.prod(cells) > min(MAX_CELLS, CELLS_OF_A_SLICE * len(boxes)):
        raise ValueError(
            f"{len(boxes)} slices whose edges make a grid of {math.prod(cells)} cells."
        )
    covered = np.zeros(cells, bool)
    for box in indices.tolist():
        region = covered[(..., *(slice(*extent) for extent in box))]
        if region.any():
            return False
        region[...] = True
    return bool(covered.all())


def _read_table(path):
    """Yields the (key, value) pairs of a sorted string table, in order.

    Raises:
        CheckpointError: it is damaged, or would take far more memory than its size explains.
    """
    if size_of(path) > MAX_INDEX:
        raise damaged(path, f"it is longer than {MAX_INDEX} bytes")
    data = path.read_bytes()
    if len(data) < FOOTER_SIZE or not data.endswith(MAGIC):
        raise damaged(path, "it does not end as the index of a TensorFlow checkpoint does")
    footer = data[-FOOTER_SIZE:]
    _, _, position = _read_handle(footer, 0)  # of the block of metadata, which is not used
    offset, size, _ = _read_handle(footer, position)
    end, last, count, left = 0, None, 0, MOST_VALUES + len(data)
    room = _room_for_keys(len(data))

    def pairs(offset, size):
        nonlocal room
        for key, value in _read_block(path, data, offset, size):
            room -= len(key)
            if room < 0:
                raise damaged(path, f"too many names, or too long ones, for {len(data)} bytes")
            yield key, value

    for i, (limit, handle) in enumerate(pairs(offset, size)):
        if i == MAX_TENSORS:
            raise damaged(path, f"it has more than {MAX_TENSORS} blocks")
        offset, size, _ = _read_handle(handle, 0)
        if offset < end:
            raise damaged(path, "its blocks overlap")
        end = offset + size + TRAILER_SIZE
        for key, value in pairs(offset, size):
            count, left = count + 1, left - len(value)
            if left < 0 or count > MAX_TENSORS:
                raise damaged(
                    path, f"too many tensors, or too long descriptions, for {len(data)} bytes"
                )
            if last is not None and key <= last:
                raise damaged(path, "its names are not in order")
            last = key
            yield key, value
        # TensorFlow finds the block of a name by these limits
        if last is not None and last > limit:
            raise damaged(path, "a name is not in the block that the list of blocks gives for it")
        last = limit


def _room_for_keys(size):
    """Returns the limit for the bytes of all keys (they share prefixes) in `size` bytes."""
    return FREE // 2 + 4 * size


def _read_handle(data, position):
    """Reads the offset and size of a block; returns them and the next position."""
    offset, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return offset, size, position


def _read_block(path, data, offset, size):
    """Yields the pairs of a block.

    A block has entries with prefix-compressed keys, restart points, the type of its compression,
    and a checksum. TensorFlow searches from the restart points, where an entry has its whole key.

    Raises:
        CheckpointError: the block is damaged.
    """
    block, compression = data[offset : offset + size], data[offset + size : offset + size + 1]
    checksum = data[offset + size + 1 : offset + size + 5]
    if checksum != masked_crc32c(block + compression).to_bytes(4, "little"):
        raise damaged(path, "a checksum is wrong")
    if compression != b"\0":  # as in many releases of Google
        block = _decompress(block, FREE // 2 + 2 * len(block))
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    points = np.frombuffer(block[end:-4], "<u4") if end >= 0 else ()
    if len(points) != restarts or (end > 0 and not (restarts and points[0] == 0)):
        raise damaged(path, "a block does not start with a restart point")
    key, position, passed = b"", 0, 0  # passed: number of restart points
    while position < end:
        restart = passed < restarts and points[passed] == position
        passed += restart
        shared, position = read_varint(block, position)
        if shared > (0 if restart else len(key)):
            raise damaged(path, "an entry shares more of a key than the previous one has")
        unshared, position = read_varint(block, position)
        length, position = read_varint(block, position)
        key = key[:shared] + block[position : position + unshared]
        position += unshared
        if position + length > end:
            raise damaged(path, "an entry is longer than its block")
        yield key, block[position : position + length]
        position += length
    if end > 0 and passed < restarts:
        raise damaged(path, "a restart point is not the start of an entry")


def _decompress(data, most=FREE):
    """Decompresses Snappy, which has literal bytes and copies of previous bytes.

    Args:
        data: bytes.
        most: limit for the decompressed bytes.

    Raises:
        ValueError: it is damaged, or the limit is exceeded.

    Reference:
        https://github.com/google/snappy/blob/main/format_description.txt
    """
    size, position = read_varint(data, 0)
    out = bytearray()
    if size > most:
        raise ValueError(f"a block of {len(data)} bytes that grows to {size}.")
    while position < len(data) and len(out) <= size:
        tag = data[position]
        position += 1
        element, length = tag & 3, (tag >> 2) + 1
        if element == 0:
            if length > 60:  # the length itself is in the next 1 to 4 bytes
                width = length - 60
                length = int.from_bytes(data[position : position + width], "little") + 1
                position += width
            out += data[position : position + length]
            position += length
            continue
        if element == 1:
            length, high, width = (length - 1) % 8 + 4, tag >> 5 << 8, 1
        else:
            high, width = 0, 2 if element == 2 else 4
        back = high + int.from_bytes(data[position : position + width], "little")
        position += width
        if not 0 < back <= len(out):
            raise ValueError("a copy from before the beginning of a block.")
        start = len(out) - back
        copied = out[start : start + length]
        out += (copied * -(-length // back))[:length]  # a copy may overlap its own output
    if len(out) != size:
        raise ValueError(f"a block of {len(out)} bytes that should have {size}.")
    return bytes(out)


def _read_message(data, types, others=True):
    """Reads the fields of a protocol buffer: number -> list of ints and bytes.

    Args:
        data: bytes.
        types: number -> wire type, and whether the field may be repeated.
        others: whether other fields are ignored (the default), or errors.

    Raises:
        ValueError: a field has another type (other parsers ignore it) or is repeated but may not be
            (other parsers merge it).
    """
    fields = defaultdict(list)
    for count, (number, value, start, _) in enumerate(read_fields(data)):
        if count == MAX_TENSORS:
            raise ValueError(f"a message of more than {MAX_TENSORS} fields.")
        if number not in types:
            if others:
                continue
            raise ValueError(f"field {number} in a slice.")
        wire_type, repeated = types[number]
        if data[start] & 7 != wire_type:
            raise ValueError(
                f"field {number} of wire type {data[start] & 7}, expected {wire_type}."
            )
        if fields[number] and not repeated:
            raise ValueError(f"field {number} twice in a message that has it once.")
        fields[number].append(value)
    return fields


def _parse_entry(data):
    """Parses a `BundleEntryProto`."""
    fields = _read_message(data, ENTRY)
    shape = _read_message(_only(fields, 2, b""), SHAPE)
    dimensions = shape[2]
    if _only(shape, 3):
        raise ValueError("a tensor of unknown rank.")
    if len(dimensions) > MAX_RANK:
        raise ValueError(f"a tensor of {len(dimensions)} axes.")
    dimensions = (_read_message(dimension, DIMENSION) for dimension in dimensions)
    return BundleEntry(
        dtype=_only(fields, 1),
        shape=tuple(_only(dimension, 1) for dimension in dimensions),
        shard=_only(fields, 3),
        offset=_only(fields, 4),
        size=_only(fields, 5),
        checksum=_only(fields, 6),
        slices=fields[7],
    )


def _parse_slice(data):
    """Parses a `TensorSliceProto`: returns (start, length) for each axis."""
    extents = _read_message(data, SLICE, others=False)[1]
    if len(extents) > MAX_RANK:
        raise ValueError(f"a slice of {len(extents)} axes.")
    return [_parse_extent(extent) for extent in extents]


def _parse_extent(data):
    """Parses (start, length) of an axis of a slice; the length -1 means the whole axis."""
    fields = _read_message(data, EXTENT, others=False)
    start, length = _only(fields, 1), _only(fields, 2, -1)
    if start >= 1 << 60 or length >= 1 << 60:
        raise ValueError("a slice that begins or ends nowhere.")
    return start, length


def _only(fields, number, default=0):
    """Returns the value of a field that occurs at most once, or its default."""
    return fields[number][0] if fields[number] else default


def _slice_key(name, extents):
    """Makes the key of a slice: name, rank, starts and lengths, in an order-preserving encoding."""
    escaped = name.replace(b"\0", b"\0\xff")  # byte 255 would have to be escaped, but is not UTF-8
    rank = bytes([1, len(extents)]) if extents else b"\0"
    numbers = b"".join(_ordered(number) for pair in extents for number in pair)
    return b"\0" + escaped + b"\0\1" + rank + numbers


def _ordered(number):
    """Encodes an integer so that the bytes sort like the numbers."""
    if number < 0:
        return b"\x7f"  # of -1, the only negative number in a slice
    length = number.bit_length() // 7 + 1  # as many leading ones as bytes, then a sign bit
    return (number | ((1 << length) - 1) << 7 * length).to_bytes(length, "big")


# Finding


def is_there(path):
    """Whether something has this path, a file or not; raises an `OSError` if nothing can."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last for a NUL in it
        return False
    return True


def prefix_of(path):
    """Returns the prefix of a bundle, if `path` is the prefix or one of its files, or None."""
    name = re.sub(r"\.(index|data-\d{5}-of-\d{5})$", "", path.name)
    prefix = path.with_name(name)
    return prefix if name != path.name or is_there(f"{prefix}.index") else None


def prefix_in(directory):
    """Returns the prefix in the state file of a directory, or that of its only index, or None.

    Raises:
        CheckpointError: the state file is wrong, or there are several indexes and no state file.
    """
    state, indexes = directory / "checkpoint", sorted(directory.glob("*.index"))
    stems = listed([index.stem for index in indexes])
    named = _named_in(state) if is_there(state) else None
    if named is not None:
        inside = not named.is_absolute() and ".." not in named.parts
        # the state file of a directory that was moved has the old absolute path
        for prefix in ([directory / named] if inside else []) + [directory / named.name]:
            with reading(state):
                if is_there(f"{prefix}.index"):
                    return prefix
        problem = f"{named.name!r:.200}, which is not in this directory"
        if not inside:
            problem = f"{str(named)!r:.200}, outside of this directory, which has no such file"
        if len(indexes) > 1:
            raise CheckpointError(f"{state}: names {problem}. Pass one of these prefixes: {stems}.")
        if not indexes and not inside:
            raise CheckpointError(f"{state}: names {problem}. Pass that prefix itself.")
        if indexes:
            warnings.warn(f"{state}: names {problem}; {stems} is read.", stacklevel=2)
    if len(indexes) > 1:
        raise CheckpointError(
            f"{directory}: holds {len(indexes)} TensorFlow checkpoints, and no 'checkpoint' file "
            f"that names one. Pass one of these prefixes: {stems}."
        )
    return indexes[0].with_suffix("") if indexes else None


def _named_in(state):
    """Returns the prefix that a state file names, as a `Path`, or None.

    Raises:
        CheckpointError: it is not UTF-8, or it names several.
    """
    size_of(state)
    with open(state, "rb") as file:
        text = file.read(1 << 20)  # the prefix comes first
    names = re.findall(rb'^model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', text, re.M)
    if not names:
        return None
    if len(names) > 1:
        raise CheckpointError(
            f"{state}: has model_checkpoint_path {len(names)} times; expected it once, as"
            " TensorFlow does. Pass the prefix itself."
        )
    name = _unescape(names[0])
    try:
        return Path(name.decode())
    except UnicodeDecodeError:
        raise CheckpointError(
            f"{state}: names {name!r:.200}, which is not UTF-8. Pass the prefix itself."
        ) from None


def _unescape(text):
    """Unescapes a quoted string, in which non-ASCII bytes may be octal numbers; returns bytes."""

    def plain(escape):
        return bytes([int(escape[1], 8) & 255]) if len(escape[1]) == 3 else escape[1]

    return re.sub(rb"\\([0-7]{3}|.)", plain, text)


# Writing


def write(prefix, tensors):
    """Writes a bundle of one shard, and the state file that names it, to paths not in use yet."""
    with open(data_path(prefix, 0, 1), "wb") as file:
        entries = dict(_write_data(prefix, file, tensors))
    _write_index(prefix, entries)
    name = prefix.name.replace("\\", "\\\\").replace('"', '\\"')
    text = f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n'
    prefix.with_name("checkpoint").write_bytes(text.encode())


def remove_unused(prefix):
    """Removes the data files of a replaced checkpoint that had more shards.

    Errors are ignored: these files are not read any more.
    """
    digits = "[0-9]" * 5
    files = glob.glob(f"{glob.escape(str(prefix))}.data-{digits}-of-{digits}")
    for path in set(map(Path, files)) - {data_path(prefix, 0, 1)}:
        with suppress(OSError):
            path.unlink()


def _write_data(prefix, file, tensors):
    """Writes the values, and yields the (key, value) pairs of the index.

    Raises:
        CheckpointError: the format does not support a dtype or a name.
    """
    offset = 0
    for name in tensors:
        array = np.asarray(tensors[name])
        number = NUMBERS.get(array.dtype.newbyteorder("<"))
        if number is None or not name or name.startswith("\0"):
            raise CheckpointError(
                f"{final(prefix)}: cannot save {name!r:.200} of dtype {array.dtype} in a "
                "TensorFlow checkpoint; expected numbers, and a name that is not empty and does "
                "not begin with a zero byte."
            )
        data = as_bytes(array)
        offset += file.write(bytes(-offset % ALIGNMENT))
        dimensions = b"".join(encode_field(2, encode_field(1, n)) for n in array.shape)
        fields = {1: number, 2: dimensions, 4: offset, 5: data.size}
        entry = b"".join(encode_field(*field) for field in fields.items())
        entry += encode_varint(6 << 3 | FIXED) + masked_crc32c(data).to_bytes(4, "little")
        yield name.encode(), entry
        offset += file.write(data)


def _write_index(prefix, entries):
    """Writes the index file."""
    # one shard, little-endian; version: producer 1
    header = encode_field(1, 1) + encode_field(3, encode_field(1, 1))
    table = _block([(b"", header), *sorted(entries.items())])
    meta, last_key = _block([]), max(entries, default=b"")
    index = _block([(last_key, _handle(0, table))])
    footer = _handle(len(table), meta) + _handle(len(table + meta), index)
    footer = footer.ljust(FOOTER_SIZE - len(MAGIC), b"\0") + MAGIC
    Path(f"{prefix}.index").write_bytes(table + meta + index + footer)


def _block(pairs):
    """Makes a table block in which every entry is a restart point, so that no key is compressed."""
    block, restarts = bytearray(), []
    for key, value in pairs:
        restarts.append(len(block))
        block += b"".join(map(encode_varint, (0, len(key), len(value)))) + key + value
    restarts = restarts or [0]
    for number in (*restarts, len(restarts)):
        block += number.to_bytes(4, "little")
    block += b"\0"  # not compressed
    return bytes(block) + masked_crc32c(bytes(block)).to_bytes(4, "little")


def _handle(offset, block):
    return encode_varint(offset) + encode_varint(
        len(block) - 5
    )  # without compression type and checksum
