"""Reader of NumPy's `.npz` archives: maps uncompressed members, and unpickles nothing."""

import io
import math
import zipfile

import numpy as np

from .base import Entry, MappedFile, checked_shape, damaged, unreadable
from .zip_file import check_crc, open_zip, stored_at, unpacked

__all__ = ["read_entries"]


def read_entries(path, verify):
    """Reads a `.npz` file: returns name -> `Entry`; `verify` checks each array when it is read."""
    file, entries = MappedFile(path), {}
    room = LEAST_HEADERS + file.size // 4
    with open_zip(file) as archive:
        for member in archive.infolist():
            if member.filename.endswith(".npy"):
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as packed:
                    header, size = _header(packed)
                room -= len(header.getvalue().rstrip())
                if room < 0:
                    raise damaged(
                        path, f"too many headers, or too long ones, for {file.size} bytes"
                    )
                entries[name] = _entry(file, archive, member, verify, header, size)
    return entries


MAX_HEADER = 10_000  # bytes, as in NumPy
LEAST_HEADERS = 1 << 20  # bytes of all headers: NumPy takes microseconds for each


def _header(stream):
    """Reads the header of a `.npy` file; returns it as a stream, and its length."""
    start = stream.read(12)
    width = 2 if start[6:7] == b"\1" else 4  # bytes of the number that is the length of the rest
    length = 8 + width + int.from_bytes(start[8 : 8 + width], "little")
    if length > MAX_HEADER:
        raise ValueError(f"a description of {length} bytes.")
    return io.BytesIO(start + stream.read(max(0, length - 12))), length


def _entry(file, archive, member, verify, header, header_size):
    """Makes the `Entry` of a member."""
    name = member.filename.removesuffix(".npy")
    version = np.lib.format.read_magic(header)
    read_header = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, fortran, dtype = read_header(header)
    shape, order = checked_shape(file.path, name, shape), "F" if fortran else "C"
    if dtype.kind not in "biufc":
        return unreadable(file.path, name, shape, f"values of dtype {dtype!s:.200}")
    size = math.prod(shape) * dtype.itemsize
    if header_size + size != member.file_size:
        problem = (
            f"{name!r:.200} of shape {shape!s:.200} and dtype {dtype} cannot take {size} bytes"
        )
        raise damaged(file.path, problem)
    if member.compress_type == zipfile.ZIP_STORED:
        start = stored_at(file, archive, member.filename)
        plain = file.entry(name, start + header_size, shape, dtype, order)
        if not verify:
            return plain

        def read_stored():
            check_crc(file, member, start)
            return plain.read()

        return plain._replace(read=read_stored)

    def read():  # `unpacked` always checks the checksum
        array, position = np.empty(shape, dtype, order), -header_size
        values = memoryview(array.reshape(-1, order=order).view(np.uint8))
        for piece in unpacked(file, member):
            part = piece[max(0, -position) :]
            position += len(piece)
            values[position - len(part) : position] = part
        return array

    return Entry(shape, dtype, read)
