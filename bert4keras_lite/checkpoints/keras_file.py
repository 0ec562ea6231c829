"""Keras' `.weights.h5` and `.keras` files; tensors are named by their paths in the HDF5 file."""

import math
import zipfile
from contextlib import contextmanager

import ml_dtypes
import numpy as np

from .base import Entry, MappedFile, checked_shape, unreadable
from .zip_file import MAX_RATIO, open_zip, stored_at

WEIGHTS = "model.weights.h5"  # in a `.keras` archive
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def read_h5(path):
    """Name -> `Entry` of an HDF5 file."""
    return _read(MappedFile(path), 0, _open_h5)


def read_keras(path):
    """Name -> `Entry` of the weights in a `.keras` archive."""
    file = MappedFile(path)
    with open_zip(file) as archive:
        start = stored_at(file, archive, WEIGHTS)
    return _read(file, start, _open_keras)


@contextmanager
def _open_h5(path):
    import h5py

    with h5py.File(path, "r") as h5:
        yield h5


@contextmanager
def _open_keras(path):
    with (
        zipfile.ZipFile(path) as archive,
        archive.open(WEIGHTS) as weights,
        _open_h5(weights) as h5,
    ):
        yield h5


def _read(file, start, open_h5):
    """The datasets of the HDF5 file that begins at byte `start` of `file`."""
    entries = {}

    def add(name, item):
        if hasattr(item, "shape"):  # a dataset, not a group
            entries[name] = _entry(file, start, open_h5, name, item)

    with open_h5(file.path) as h5:
        h5.visititems(add)
    return entries


def _entry(file, start, open_h5, name, dataset):
    shape, dtype = checked_shape(file.path, name, dataset.shape), dataset.dtype
    if dataset.attrs.get("dtype") == "bfloat16" and dtype.itemsize == 2:
        dtype = BFLOAT16  # which HDF5 has no name for
    if dataset.external or dataset.is_virtual or (dtype.kind not in "biufc" and dtype != BFLOAT16):
        return unreadable(file.path, name, shape, f"values of dtype {dtype}, or from other files")
    offset = dataset.id.get_offset()
    if offset is not None:
        return file.entry(name, start + offset, shape, dtype)
    if math.prod(shape) * dtype.itemsize > MAX_RATIO * file.size:
        raise ValueError(f"{name!r} of shape {shape} cannot be in a file of {file.size} bytes")

    def read():  # in chunks, compressed, or empty: not in one piece of the file
        with open_h5(file.path) as h5:
            return h5[name][()].view(dtype)

    return Entry(shape, dtype, read)
