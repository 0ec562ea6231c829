"""NumPy's `.npz` archives; members saved without compression are mapped, and none is unpickled."""

import math
import zipfile

import numpy as np

from .base import Entry, MappedFile, checked_shape, unreadable
from .zip_file import open_zip, stored_at


def read_entries(path):
    """Name -> `Entry` of one `.npz` file."""
    file = MappedFile(path)
    with open_zip(file) as archive:
        return {
            member.filename.removesuffix(".npy"): _entry(file, archive, member)
            for member in archive.infolist()
            if member.filename.endswith(".npy")
        }


def _entry(file, archive, member):
    name = member.filename.removesuffix(".npy")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read_header(stream)
        header_size = stream.tell()
    shape, order = checked_shape(file.path, name, shape), "F" if fortran else "C"
    if dtype.kind not in "biufc":
        return unreadable(file.path, name, shape, f"values of dtype {dtype}")
    size = math.prod(shape) * dtype.itemsize
    if header_size + size != member.file_size:
        raise ValueError(f"{name!r} of shape {shape} and dtype {dtype} cannot take {size} bytes")
    if member.compress_type == zipfile.ZIP_STORED:
        start = stored_at(file, archive, member.filename) + header_size
        return file.entry(name, start, shape, dtype, order)

    def read():
        with open_zip(file) as archive:
            return np.ndarray(shape, dtype, archive.read(member), header_size, order=order)

    return Entry(shape, dtype, read)
