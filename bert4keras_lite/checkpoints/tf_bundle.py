"""TensorFlow's V2 checkpoint, the "tensor bundle": `PREFIX.index` and `PREFIX.data-?????-of-?????`.

The index is a sorted string table (LevelDB's table format) from tensor name to a protocol buffer
with dtype, shape, shard, offset, size and checksum; the data files hold bare values.

Reference: tensorflow/core/util/tensor_bundle/tensor_bundle.h, core/protobuf/tensor_bundle.proto,
core/lib/strings/ordered_code.cc; https://github.com/google/leveldb/blob/main/doc/table_format.md
"""

import glob
import math
import re
import warnings
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import ml_dtypes
import numpy as np

from ..files import final
from ..parsing import FREE, listed, read_fields, read_varint
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

DTYPES = {  # of tensorflow/core/framework/types.proto; quantized kinds are stored as plain integers
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
NUMBERS = {dtype: number for number, dtype in reversed(DTYPES.items())}  # plain kinds come first
OTHER_KINDS = {7: "strings", 20: "a resource", 21: "a variant"}

FOOTER_SIZE = 48
TRAILER_SIZE = 5  # of a block: the kind of its compression, and a checksum
MAX_INDEX = 32 << 20  # bytes of an index file, which a hundred thousand long names do not reach
MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
MOST_VALUES = 4 << 20  # bytes of what an index says of its tensors, beside its own size
MAX_EXTENTS = 1 << 18  # slices of one variable, times its axes
# cells of the grid that all edges of the slices of a variable make: in any case, and for each slice
MAX_CELLS, CELLS_OF_A_SLICE = 16 << 20, 4096
VARINT, MESSAGE, FIXED = 0, 2, 5  # types of fields in protocol buffers
# number of a field -> its type, and whether it may be repeated; others are passed over
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
ALIGNMENT = 64  # of the tensors in a data file: TensorFlow does not mind, mapped views gain by it


def data_path(prefix, shard, shards):
    """The name of one data file."""
    return Path(f"{prefix}.data-{shard:05d}-of-{shards:05d}")


# Reading


class BundleEntry(NamedTuple):
    """A `BundleEntryProto`."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    slices: list  # of bytes, a `TensorSliceProto` each: taken apart they take far more memory


def read_entries(prefix, verify):
    """Name -> `Entry` of the bundle at `prefix`; `verify` checks every tensor when it is read."""
    index = Path(f"{prefix}.index")
    with reading(index):
        table = dict(_read_table(index))
        header = _read_message(table.pop(b""), HEADER)
        if _only(header, 2) != 0:
            raise CheckpointError(f"{index}: of a big-endian machine, which is not supported")
        stored, slices, room = {}, 0, _room_for_keys(size_of(index))
        for key, value in table.items():
            stored[key] = _parse_entry(value)
            slices += len(stored[key].slices)
            room -= len(key) * len(stored[key].slices)  # each slice has its own key, with that name
            if slices > len(table) or room < 0:
                raise damaged(index, "it speaks of more slices than it has")
        bundle = _Bundle(prefix, _only(header, 1), stored, verify)
        bundle.check_sizes()
        # keys that start with a zero byte hold the slices of partitioned variables
        return {key.decode(): bundle.entry(key) for key in stored if not key.startswith(b"\0")}


class _Bundle:
    """The data files of one bundle, and what its index says of them."""

    def __init__(self, prefix, shards, stored, verify):
        self.prefix, self.shards, self.stored, self.verify = prefix, shards, stored, verify
        self.files = {}

    def file(self, shard):
        if shard not in self.files:
            path = data_path(self.prefix, shard, self.shards)
            if not path.exists():
                raise CheckpointError(
                    f"{path}: this shard ({shard + 1} of {self.shards}) is missing; a checkpoint is "
                    f"whole only with {self.prefix.name}.index and all of its data files"
                )
            self.files[shard] = MappedFile(path)
        return self.files[shard]

    def check_sizes(self):
        """Raises if the tensors take more room than there is: none may lie on another."""
        numbers = [entry for entry in self.stored.values() if entry.dtype in DTYPES]
        size = sum(entry.size for entry in numbers)
        files = [self.file(shard) for shard in {entry.shard for entry in numbers if entry.size}]
        if size > sum(file.size for file in files):
            what = f"its tensors take {size} bytes, more than the data files have"
            raise damaged(f"{self.prefix}.index", what)

    def entry(self, key):
        name, entry = key.decode(), self.stored[key]
        if entry.dtype == 0:
            raise damaged(f"{self.prefix}.index", f"{name!r:.200} has no type")
        if entry.dtype not in DTYPES:
            kind = OTHER_KINDS.get(entry.dtype, f"values of TensorFlow's type {entry.dtype}")
            return unreadable(self.prefix, name, entry.shape, kind)
        return self.partitioned(name, key) if entry.slices else self.whole(name, key)

    def whole(self, name, key):
        entry = self.stored[key]
        file, dtype = self.file(entry.shard), DTYPES[entry.dtype]
        if entry.size != math.prod(entry.shape) * dtype.itemsize:
            what = f"{name!r:.200} of shape {entry.shape!r:.200} cannot take {entry.size} bytes"
            raise damaged(f"{self.prefix}.index", what)
        plain = file.entry(name, entry.offset, entry.shape, dtype)
        if not self.verify:
            return plain

        def read():
            array = plain.read()
            if _checksum(as_bytes(array)) != entry.checksum:
                raise damaged(file.path, f"the checksum of {name!r:.200} is wrong")
            return array

        return plain._replace(read=read)

    def partitioned(self, name, key):
        """A variable that was saved in slices, each under a key of its own."""
        entry, index = self.stored[key], Path(f"{self.prefix}.index")
        shape = checked_shape(self.prefix, name, entry.shape)

        def parts():  # made again when they are read: of all variables they would take much memory
            for packed in entry.slices:
                extents = _parse_slice(packed)
                box = [
                    (0, full) if length < 0 else (start, start + length)
                    for (start, length), full in zip(extents, shape, strict=True)
                ]
                yield box, self.whole(name, _slice_key(key, extents))

        boxes = np.empty((len(entry.slices), len(shape), 2), "int64")
        dtype = DTYPES[entry.dtype]
        for i, (box, part) in enumerate(parts()):
            if part.dtype != dtype:
                what = f"a slice of {name!r:.200} has dtype {part.dtype}, and the whole {dtype}"
                raise damaged(index, what)
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
    """Whether boxes within a shape cover all of it, and nothing twice.

    Args:
        boxes: integers `(boxes, axes, 2)`, the starts and ends.

    Raises:
        ValueError: their edges make too fine a grid, which those of no partitioner do.
    """
    boxes = boxes[(boxes[..., 0] < boxes[..., 1]).all(axis=1)]
    if 0 in shape:
        return True
    places = np.empty_like(boxes)  # in the grid of all edges
    cells = []
    for axis, length in enumerate(shape):
        edges = np.unique(boxes[:, axis])
        if not len(edges) or edges[0] != 0 or edges[-1] != length:
            return False
        places[:, axis] = np.searchsorted(edges, boxes[:, axis])
        cells.append(len(edges) - 1)
    if math.prod(cells) > min(MAX_CELLS, CELLS_OF_A_SLICE * len(boxes)):
        raise ValueError(f"{len(boxes)} slices whose edges make a grid of {math.prod(cells)} cells")
    covered = np.zeros(cells, bool)
    for box in places.tolist():
        cell = covered[(..., *(slice(*extent) for extent in box))]
        if cell.any():
            return False
        cell[...] = True
    return bool(covered.all())


def _read_table(path):
    """The (key, value) pairs of a sorted string table, in its order."""
    if size_of(path) > MAX_INDEX:
        raise damaged(path, f"it is longer than {MAX_INDEX} bytes")
    data = path.read_bytes()
    if len(data) < FOOTER_SIZE or not data.endswith(MAGIC):
        raise damaged(path, "it does not end as the index of a TensorFlow checkpoint does")
    footer = data[-FOOTER_SIZE:]
    _, _, position = _read_handle(footer, 0)  # of the block of meta data, which is not used
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
        # by these keys, between the blocks, TensorFlow looks for a name
        if last is not None and last > limit:
            raise damaged(path, "a name is in another block than the list of blocks says")
        last = limit


def _room_for_keys(size):
    """How many bytes the keys of all blocks may have, which repeat each other, in `size` bytes."""
    return FREE // 2 + 4 * size


def _read_handle(data, position):
    offset, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return offset, size, position


def _read_block(path, data, offset, size):
    """The pairs of one block: entries with prefix-compressed keys, restart points, kind, checksum.

    TensorFlow looks for a name from the restart points on, which have to be entries with whole keys.
    """
    block, kind = data[offset : offset + size], data[offset + size : offset + size + 1]
    checksum = data[offset + size + 1 : offset + size + 5]
    if int.from_bytes(checksum, "little") != _checksum(block + kind) or len(checksum) < 4:
        raise damaged(path, "a checksum is wrong")
    if kind != b"\0":  # as in many of Google's own releases
        block = _decompress(block, FREE // 2 + 2 * len(block))
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    points = np.frombuffer(block[end:-4], "<u4") if end >= 0 else ()
    if len(points) != restarts or (end > 0 and not (restarts and points[0] == 0)):
        raise damaged(path, "a block has no restart point at its beginning")
    key, position, passed = b"", 0, 0
    while position < end:
        restart = passed < restarts and points[passed] == position
        passed += restart
        shared, position = read_varint(block, position)
        if shared > (0 if restart else len(key)):
            raise damaged(path, "an entry repeats more of a key than there is")
        unshared, position = read_varint(block, position)
        length, position = read_varint(block, position)
        key = key[:shared] + block[position : position + unshared]
        position += unshared
        if position + length > end:
            raise damaged(path, "an entry is longer than its block")
        yield key, block[position : position + length]
        position += length
    if end > 0 and passed < restarts:
        raise damaged(path, "a restart point is not where an entry begins")


def _decompress(data, most=FREE):
    """Undoes Snappy: literal bytes, and copies of what is already there; `most` bytes are allowed.

    Reference: https://github.com/google/snappy/blob/main/format_description.txt
    """
    size, position = read_varint(data, 0)
    out = bytearray()
    if size > most:
        raise ValueError(f"a block of {len(data)} bytes that grows to {size}")
    while position < len(data) and len(out) <= size:
        tag = data[position]
        position += 1
        kind, length = tag & 3, (tag >> 2) + 1
        if kind == 0:
            if length > 60:  # the length itself is in the next 1 to 4 bytes
                width = length - 60
                length = int.from_bytes(data[position : position + width], "little") + 1
                position += width
            out += data[position : position + length]
            position += length
            continue
        if kind == 1:
            length, high, width = (length - 1) % 8 + 4, tag >> 5 << 8, 1
        else:
            high, width = 0, 2 if kind == 2 else 4
        back = high + int.from_bytes(data[position : position + width], "little")
        position += width
        if not 0 < back <= len(out):
            raise ValueError("a copy from before the beginning of a block")
        start = len(out) - back
        copied = out[start : start + length]
        out += (copied * -(-length // back))[:length]  # a copy may run into what it writes
    if len(out) != size:
        raise ValueError(f"a block of {len(out)} bytes that should have {size}")
    return bytes(out)


def _read_message(data, kinds):
    """The fields of a protocol buffer: number -> list of ints and bytes.

    Raises:
        ValueError: one has another type than in `kinds`, or is there twice and may not be: other
            parsers pass the one over, and merge the others.
    """
    fields = defaultdict(list)
    for count, (number, value, start, _) in enumerate(read_fields(data)):
        if count == MAX_TENSORS:
            raise ValueError(f"a message of more than {MAX_TENSORS} fields")
        if number not in kinds:
            continue
        wire, repeated = kinds[number]
        if data[start] & 7 != wire:
            raise ValueError(f"field {number} of wire type {data[start] & 7}, expected {wire}")
        if fields[number] and not repeated:
            raise ValueError(f"field {number} twice in a message that has it once")
        fields[number].append(value)
    return fields


def _parse_entry(data):
    fields = _read_message(data, ENTRY)
    shape = _read_message(_only(fields, 2, b""), SHAPE)
    dimensions = shape[2]
    if _only(shape, 3):
        raise ValueError("a tensor of unknown rank")
    extents = len(fields[7]) * max(1, len(dimensions))
    if len(dimensions) > MAX_RANK or extents > MAX_EXTENTS:
        raise ValueError(f"a tensor of {len(dimensions)} axes in {len(fields[7])} slices")
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
    """The extents of a `TensorSliceProto`, one for each axis."""
    extents = _read_message(data, SLICE)[1]
    if len(extents) > MAX_RANK:
        raise ValueError(f"a slice of {len(extents)} axes")
    return [_parse_extent(extent) for extent in extents]


def _parse_extent(data):
    """(start, length) of one axis of a slice; the length -1 stands for the whole axis."""
    fields = _read_message(data, EXTENT)
    start, length = _only(fields, 1), _only(fields, 2, -1)
    if start >= 1 << 60 or length >= 1 << 60:
        raise ValueError("a slice that begins or ends nowhere")
    return start, length


def _only(fields, number, default=0):
    """The value of a field that occurs at most once; one that is not there has its default."""
    return fields[number][0] if fields[number] else default


def _slice_key(name, extents):
    """The key of a slice: name, rank, starts and lengths in an encoding that sorts as they do."""
    escaped = name.replace(b"\0", b"\0\xff")  # UTF-8 has no byte 255, which would need it too
    rank = bytes([1, len(extents)]) if extents else b"\0"
    numbers = b"".join(_ordered(number) for pair in extents for number in pair)
    return b"\0" + escaped + b"\0\1" + rank + numbers


def _ordered(number):
    if number < 0:
        return b"\x7f"  # of -1, the only negative number in a slice
    length = number.bit_length() // 7 + 1  # as many leading ones as bytes, then a sign bit
    return (number | ((1 << length) - 1) << 7 * length).to_bytes(length, "big")


def _checksum(data):
    """CRC32C, masked as in LevelDB, so that checksums of data with checksums stay good."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


# Finding


def prefix_of(path):
    """The prefix of the bundle that `path` is, or is a file of; None if it is none."""
    name = re.sub(r"\.(index|data-\d{5}-of-\d{5})$", "", path.name)
    prefix = path.with_name(name)
    return prefix if name != path.name or Path(f"{prefix}.index").is_file() else None


def prefix_in(directory):
    """The prefix that the state file of a directory names, or that its only index has, or None."""
    state, indexes = directory / "checkpoint", sorted(directory.glob("*.index"))
    stems = listed([index.stem for index in indexes])
    named = _named_in(state) if state.is_file() else None
    if named is not None:
        inside = not named.is_absolute() and ".." not in named.parts
        # a directory that moved still holds what its state file knows by an older, full path
        for prefix in ([directory / named] if inside else []) + [directory / named.name]:
            with reading(state):
                if Path(f"{prefix}.index").is_file():
                    return prefix
        what = f"{named.name!r:.200}, which is not here"
        if not inside:
            what = f"{str(named)!r:.200}, outside of this directory, and no such file is here"
        if len(indexes) > 1:
            raise CheckpointError(f"{state}: names {what}; name one that is: {stems}")
        if not indexes and not inside:
            raise CheckpointError(f"{state}: names {what}; name that prefix itself.")
        if indexes:
            warnings.warn(f"{state}: names {what}; {stems} is read", stacklevel=2)
    if len(indexes) > 1:
        raise CheckpointError(
            f"{directory}: holds {len(indexes)} TensorFlow checkpoints and no 'checkpoint' file that "
            f"says which; name one: {stems}"
        )
    return indexes[0].with_suffix("") if indexes else None


def _named_in(state):
    """The prefix that a state file names, as a `Path`, or None."""
    size_of(state)
    with open(state, "rb") as file:
        text = file.read(1 << 20)  # what is named comes first
    found = re.search(rb'^model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', text, re.M)
    if not found:
        return None
    name = _unescape(found[1])
    try:
        return Path(name.decode())
    except UnicodeDecodeError:
        raise CheckpointError(
            f"{state}: names {name!r:.200}, which is no UTF-8 text; name the prefix itself."
        ) from None


def _unescape(text):
    """The bytes of a quoted string, in which those outside of ASCII may be octal numbers."""

    def plain(escape):
        return bytes([int(escape[1], 8) & 255]) if len(escape[1]) == 3 else escape[1]

    return re.sub(rb"\\([0-7]{3}|.)", plain, text)


# Writing


def write(prefix, tensors):
    """Writes a bundle of one shard, and the state file that names it, where nobody reads yet."""
    with open(data_path(prefix, 0, 1), "wb") as file:
        entries = dict(_write_data(prefix, file, tensors))
    _write_index(prefix, entries)
    name = prefix.name.replace("\\", "\\\\").replace('"', '\\"')
    text = f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n'
    prefix.with_name("checkpoint").write_bytes(text.encode())


def remove_unused(prefix):
    """Removes the data files that a checkpoint of more shards had, as far as that can be.

    It has been replaced, and they do no harm.
    """
    digits = "[0-9]" * 5
    files = glob.glob(f"{glob.escape(str(prefix))}.data-{digits}-of-{digits}")
    for path in set(map(Path, files)) - {data_path(prefix, 0, 1)}:
        with suppress(OSError):
            path.unlink()


def _write_data(prefix, file, tensors):
    """Writes the values, and yields the pairs that the index needs."""
    offset = 0
    for name in tensors:
        array = np.asarray(tensors[name])
        number = NUMBERS.get(array.dtype.newbyteorder("<"))
        if number is None or not name or name.startswith("\0"):
            raise CheckpointError(
                f"{final(prefix)}: cannot save {name!r:.200} of dtype {array.dtype} in a TensorFlow checkpoint: "
                "values must be numbers, and names must not be empty or begin with a zero byte"
            )
        data = as_bytes(array)
        offset += file.write(bytes(-offset % ALIGNMENT))
        dimensions = b"".join(_field(2, _field(1, n)) for n in array.shape)
        entry = _field(1, number) + _field(2, dimensions) + _field(4, offset) + _field(5, data.size)
        entry += _varint(6 << 3 | 5) + _checksum(data).to_bytes(4, "little")
        yield name.encode(), entry
        offset += file.write(data)


def _write_index(prefix, entries):
    header = _field(1, 1) + _field(3, _field(1, 1))  # one shard, little-endian; version: producer 1
    table = _block([(b"", header), *sorted(entries.items())])
    meta, last_key = _block([]), max(entries, default=b"")
    index = _block([(last_key, _handle(0, table))])
    footer = _handle(len(table), meta) + _handle(len(table + meta), index)
    footer = footer.ljust(FOOTER_SIZE - len(MAGIC), b"\0") + MAGIC
    Path(f"{prefix}.index").write_bytes(table + meta + index + footer)


def _block(pairs):
    """A table block that makes every entry a restart point, so that no key is compressed."""
    block, restarts = bytearray(), []
    for key, value in pairs:
        restarts.append(len(block))
        block += _varint(0) + _varint(len(key)) + _varint(len(value)) + key + value
    restarts = restarts or [0]
    for number in (*restarts, len(restarts)):
        block += number.to_bytes(4, "little")
    block += b"\0"  # not compressed
    return bytes(block) + _checksum(bytes(block)).to_bytes(4, "little")


def _handle(offset, block):
    return _varint(offset) + _varint(len(block) - 5)  # less the kind and the checksum


def _varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def _field(number, value):
    """A field of a protocol buffer: an int, or bytes with their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value
