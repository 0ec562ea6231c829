"""Reads and writes TFRecord files of `tf.train.Example`s without TensorFlow.

A TFRecord file is a sequence of records: the length of the data as uint64, a masked CRC-32C of
these eight bytes, the data, a masked CRC-32C of the data. An Example is a map from names to lists
of numbers in protocol-buffer encoding; here all lists are of int64.

Each shard `NAME.tfrecord` has an index `NAME.index.npz` in the same directory: the offsets of its
records, and the counts from when it was made.

References: https://www.tensorflow.org/tutorials/load_data/tfrecord;
https://protobuf.dev/programming-guides/encoding.
"""

import io
import mmap
import os
import struct
from functools import lru_cache

import numpy as np

from bert4keras_lite.checkpoints import CheckpointError, open_checkpoint
from bert4keras_lite.checksums import masked_crc32c
from bert4keras_lite.parsing import naming, size_of
from bert4keras_lite.protobuf import encode_field, read_fields

from .files import exists, local_copy, replacing

__all__ = [
    "MANIFEST",
    "Shard",
    "decode_examples",
    "encode_examples",
    "index_name",
    "read_arrays",
    "read_index",
    "shard_name",
    "write_arrays",
    "write_shard",
]

MANIFEST = "corpus.json"
_HEADER = struct.Struct("<QI")
_CRC = struct.Struct("<I")
_OVERHEAD = _HEADER.size + _CRC.size
_BLOCK = 1 << 16  # numbers to decode at a time
_MAPPED = 100  # shards to keep open: processes have a few hundred file descriptors


def shard_name(index, count):
    """Returns the name of a shard's file."""
    return f"shard-{index:05d}-of-{count:05d}.tfrecord"


def index_name(name):
    """Returns the name of a shard's index file."""
    return f"{name.removesuffix('.tfrecord')}.index.npz"


# Varints: seven bits a byte, the lowest first; all bytes but the last one have 0x80 set


def encode_varints(values):
    """Encodes integers as varints.

    Args:
        values: array of int64.

    Returns:
        `(data, ends)`: an array of uint8, and the end of each number in it.
    """
    bits = np.asarray(values, np.int64).view(np.uint64)
    sizes = np.ones(len(bits), np.int64)
    rest = bits >> np.uint64(7)
    while rest.any():
        sizes += rest != 0
        rest = rest >> np.uint64(7)
    ends = np.cumsum(sizes)
    data = np.zeros(ends[-1] if len(ends) else 0, np.uint8)
    begins, longest = ends - sizes, int(sizes.max(initial=0))
    for i in range(longest):
        having = sizes > i
        septets = (bits[having] >> np.uint64(7 * i)).astype(np.uint8) & 0x7F
        data[begins[having] + i] = septets | ((sizes[having] > i + 1) * np.uint8(0x80))
    return data, ends


def decode_varints(data):
    """Decodes varints.

    Args:
        data: array of uint8.

    Returns:
        `(values, ends)`: an array of int64, and the end of each number in `data`.

    Raises:
        ValueError: the last number is cut off, or a number has more than 64 bits.
    """
    ends = np.flatnonzero(data < 0x80) + 1
    if len(data) != (ends[-1] if len(ends) else 0):
        raise ValueError("a number is cut off.")
    if len(ends) == len(data):
        return data.astype(np.int64), ends
    values, begin = np.zeros(len(ends), np.uint64), 0
    for first in range(0, len(ends), _BLOCK):
        block_ends = ends[first : first + _BLOCK]
        block = _varints_of_block(data[: block_ends[-1]], begin, block_ends)
        values[first : first + _BLOCK] = block
        begin = block_ends[-1]
    return values.view(np.int64), ends


def _varints_of_block(data, begin, ends):
    """Decodes the varints with these ends, the first of which begins at `begin`, as uint64."""
    begins = np.concatenate([[begin], ends[:-1]])
    sizes = ends - begins
    longest = sizes.max()
    if longest > 10 or (data[begins[sizes == 10] + 9] > 1).any():
        raise ValueError("a number has more than 64 bits.")
    values = np.zeros(len(ends), np.uint64)
    for i in range(longest):
        having = sizes > i
        septets = (data[begins[having] + i] & 0x7F).astype(np.uint64)
        values[having] |= septets << np.uint64(7 * i)
    return values


def encode_examples(features, lengths):
    """Serializes many `tf.train.Example`s.

    Args:
        features: dict name -> array of integers: the lists of all examples, concatenated.
        lengths: the length of each example's lists.

    Returns:
        A list of bytes, one for each example.
    """
    row_ends = np.cumsum(lengths)
    columns = []
    for name, values in features.items():
        data, ends = encode_varints(values)
        ends = np.concatenate([[0], ends])[np.concatenate([[0], row_ends])].tolist()
        columns.append((encode_field(1, name.encode()), data.tobytes(), ends))
    records = []
    for row in range(len(row_ends)):
        entries = []
        for key, data, ends in columns:
            int64_list = encode_field(1, data[ends[row] : ends[row + 1]])
            entries.append(encode_field(1, key + encode_field(2, encode_field(3, int64_list))))
        records.append(encode_field(1, b"".join(entries)))
    return records


def _fields(data, *numbers):
    """Yields `(number, bytes)` of each field of a message, which may only have these numbers."""
    for number, value, _, _ in read_fields(data):
        if isinstance(value, int) or number not in numbers:
            raise ValueError("expected a tf.train.Example of packed lists of integers.")
        yield number, value


def _each_once(data, *numbers):
    """Returns the bytes of each field, which may occur at most once; `b""` if it is missing."""
    fields = {}
    for number, value in _fields(data, *numbers):
        if number in fields:
            raise ValueError("a field of a tf.train.Example is there twice.")
        fields[number] = value
    return [fields.get(number, b"") for number in numbers]


def _lists_of(record):
    """Returns a dict name -> encoded numbers of a serialized `tf.train.Example`, as views."""
    encoded = {}
    (features,) = _each_once(memoryview(record), 1)
    for _, entry in _fields(features, 1):
        name, lists = _each_once(entry, 1, 2)
        (integers,) = _each_once(lists, 3)
        (encoded[bytes(name).decode()],) = _each_once(integers, 1)
    return encoded


def decode_examples(records, names):
    """Decodes `tf.train.Example`s, the inverse of `encode_examples`.

    Args:
        records: list of serialized `tf.train.Example`s.
        names: the names of the lists to decode.

    Returns:
        `(features, lengths)`, see `encode_examples`; int64.

    Raises:
        ValueError: a record is not an Example, or lacks one of `names`.
    """
    try:
        rows = [_lists_of(record) for record in records]
        features, lengths = {}, None
        for name in names:
            parts = [row[name] for row in rows]
            data = np.frombuffer(b"".join(parts), np.uint8)
            features[name], ends = decode_varints(data)
            row_ends = np.searchsorted(ends, np.cumsum([len(part) for part in parts]), "right")
            row_lengths = np.diff(row_ends, prepend=0)
            if lengths is not None and not np.array_equal(row_lengths, lengths):
                raise ValueError(f"{name} does not have as many numbers as {names[0]}.")
            lengths = row_lengths
    except KeyError as error:
        raise ValueError(f"a record has no list {error}; expected {', '.join(names)}.") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"a record is not a tf.train.Example ({error}).") from None
    return features, lengths


# Records


def framed(record):
    """Returns a record with lengths and checksums, as in a TFRecord file."""
    length = struct.pack("<Q", len(record))
    return b"".join(
        [length, _CRC.pack(masked_crc32c(length)), record, _CRC.pack(masked_crc32c(record))]
    )


def write_shard(path, records, counts=dict):
    """Writes a shard and its index, both atomically.

    The index is written first, so if a shard exists, its index does too.

    Args:
        path: name of the file, ending in `.tfrecord`.
        records: iterable of bytes.
        counts: a function that returns a dict name -> integer, to be stored in the index; it is
            called after the last record. Default: no counts.
    """
    ends = [0]
    with replacing(path) as file:
        for record in records:
            data = framed(record)
            file.write(data)
            ends.append(ends[-1] + len(data))
        numbers = {name: np.int64(number) for name, number in counts().items()}
        write_arrays(index_name(path), {"offsets": np.array(ends)} | numbers)


def write_arrays(path, arrays):
    """Writes a dict name -> array as an `.npz` file, atomically."""
    buffer = io.BytesIO()  # `np.savez` seeks, which a remote file cannot
    np.savez(buffer, **arrays)
    with replacing(path) as file:
        file.write(buffer.getvalue())


def read_arrays(path):
    """Reads an `.npz` file as a dict name -> array.

    Raises:
        ValueError: it is damaged, does not only hold numbers, or would take far more memory than
            its size explains.
        OSError: it cannot be opened.
    """
    try:
        with local_copy(path) as local_path:
            size_of(local_path)  # rejects a directory, in which `open_checkpoint` looks for files
            arrays = open_checkpoint(local_path)
            return {name: np.array(arrays[name]) for name in arrays}
    except CheckpointError as error:
        raise ValueError(str(error)) from None


def read_index(path):
    """Reads the index of a shard.

    Args:
        path: name of the shard.

    Returns:
        `(offsets, counts)`: the offsets of the records and of the end of the last one; and the
        counts, see `write_shard`.

    Raises:
        ValueError: the index file is damaged.
        OSError: it cannot be opened.
    """
    name = index_name(path)
    try:
        counts = read_arrays(name)
        offsets = counts.pop("offsets", None)
        if offsets is None or not _are_offsets(offsets):
            raise ValueError("offsets: expected integers that ascend from 0.")
        for key, value in counts.items():
            if value.shape or value.dtype.kind not in "iu" or value < 0:
                raise ValueError(f"{key!r:.200}: expected one integer, not below 0.")
    except ValueError as error:
        problem = str(error).removesuffix(".")
        raise ValueError(
            f"{name} is not an index of a shard ({problem:.300}). Remove it and its shard and rerun"
            " the command to make the corpus again; only missing shards are rebuilt."
        ) from None
    return offsets.astype(np.int64), {key: int(value) for key, value in counts.items()}


def _are_offsets(array):
    """Returns whether an array is valid as the offsets of a shard's records."""
    if array.ndim != 1 or array.dtype.kind not in "iu" or not len(array) or array[0] != 0:
        return False
    offsets = array.astype(np.int64)
    return bool((offsets >= 0).all() and (np.diff(offsets) >= _OVERHEAD).all())


def _state(status):
    """Returns values that change if a file is replaced or written to."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@lru_cache(_MAPPED)
def _mapped(path, state):
    """Maps a file into memory, after checking that it still has a given `_state`."""
    size_of(path)
    with naming(path), open(path, "rb") as file:
        if _state(os.fstat(file.fileno())) != state:
            raise ValueError(f"{path} was changed while it was read; start again.")
        size = state[2]  # an empty file cannot be mapped
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""


class Shard:
    """The records of a TFRecord file, by number; the file is mapped, not loaded.

    Args:
        path: a local TFRecord file. If it has no index, it is scanned once.

    Raises:
        ValueError: the file is cut off, or is not a TFRecord file.
    """

    def __init__(self, path):
        self.path, size = path, size_of(path)
        self._state = _state(os.stat(path))
        self._offsets = read_index(path)[0] if exists(index_name(path)) else self._scan()
        if self._offsets[-1] != size:
            raise ValueError(
                f"{path} has {size} bytes and its index says {self._offsets[-1]}: it was cut off or"
                " changed. Remove this shard and rerun the command to make the corpus again; only"
                " missing shards are rebuilt."
            )

    def __len__(self):
        return len(self._offsets) - 1

    @property
    def _data(self):
        return _mapped(self.path, self._state)

    def _scan(self):
        offsets = [0]
        while offsets[-1] < len(self._data):
            begin = offsets[-1]
            if begin + _OVERHEAD > len(self._data):
                self._fail(len(offsets) - 1, "is cut off")
            length = self._length(len(offsets) - 1, begin)
            offsets.append(begin + _OVERHEAD + length)
            if offsets[-1] > len(self._data):
                self._fail(len(offsets) - 2, "is cut off")
        return np.array(offsets)

    def _length(self, number, begin):
        length, crc = _HEADER.unpack_from(self._data, begin)
        if crc != masked_crc32c(self._data[begin : begin + 8]):
            self._fail(number, "has a length with another checksum")
        return length

    def _fail(self, number, problem):
        raise ValueError(
            f"{self.path}: record {number} {problem}; the file is damaged, or not a TFRecord file."
            " Remove it and rerun the command to make the corpus again; only missing shards are"
            " rebuilt."
        )

    def __getitem__(self, number):
        """Returns the data of a record, as bytes."""
        begin, end = self._offsets[number : number + 2].tolist()
        if self._length(number, begin) != end - begin - _OVERHEAD:
            self._fail(number, "has another length than the index says")
        record = self._data[begin + _HEADER.size : end - _CRC.size]
        if _CRC.unpack_from(self._data, end - _CRC.size)[0] != masked_crc32c(record):
            self._fail(number, "has another checksum")
        return record
