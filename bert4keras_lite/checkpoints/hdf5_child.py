"""Reads HDF5 files for `hdf5.py`, in a process of its own: `python hdf5_child.py`, a request on stdin.

The last line on stderr is an error, or the CPU seconds that it took. A damaged file can end the
process that gives it to libhdf5. Imports nothing of the toolkit.

    {"files": [[path, start, size], ...], "room": 5678, "seconds": 9}  -> what is in each, as JSON
    {..., "places": [[0, "a/b"], ...]}  -> the bytes of datasets: the number of the file, the name
    {..., "probe": true}                -> all is read; as the first
"""

import io
import json
import math
import os
import sys
import time
from contextlib import contextmanager
from itertools import groupby

MOST = 100_000  # datasets and groups


class Part(io.RawIOBase):
    """A stretch of a file, as a file."""

    def __init__(self, file, start, size):
        self.file, self.start, self.size, self.place = file, start, size, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=os.SEEK_SET):
        self.place = (
            offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.size}[whence]
        )
        return self.place

    def tell(self):
        return self.place

    def readinto(self, buffer):
        self.file.seek(self.start + self.place)
        count = max(0, min(len(buffer), self.size - self.place))
        read = self.file.readinto(memoryview(buffer)[:count])
        self.place += read
        return read


def limit(room, seconds):
    """Bounds what this process takes, where the system can: bytes beside those it has, and CPU seconds."""
    try:
        import resource
    except ImportError:  # Windows
        return

    def at_most(kind, value):
        hard = resource.getrlimit(kind)[1]  # which nobody may raise
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))

    at_most(resource.RLIMIT_CPU, seconds)
    if os.path.exists("/proc/self/statm"):
        with open("/proc/self/statm") as file:
            most = int(file.read().split()[0]) * resource.getpagesize() + room
        at_most(resource.RLIMIT_AS, most)


class Inventory:
    """What is in files, and how much room there is for what is not in one piece."""

    def __init__(self, room, probe):
        self.room, self.probe, self.count = room, probe, 0

    def of(self, h5):
        """What is in one of them."""
        self.datasets, self.layers = [], {}
        h5.visititems(self.add)
        return {"datasets": self.datasets, "layers": self.layers}

    def add(self, path, item):
        self.count += 1
        if self.count > MOST:
            raise ValueError(f"more than {MOST} datasets and groups")
        if hasattr(item, "shape"):
            self.datasets.append(self.dataset(path, item))
            return
        group, _, last = path.rpartition("/")
        if last == "vars":
            self.layers[group] = str(item.attrs.get("name", group.rpartition("/")[2]))

    def dataset(self, path, item):
        try:
            dtype = item.dtype
        except TypeError:  # of a time, or an integer of three bytes
            dtype = None
        bfloat16 = dtype == "V2" and str(item.attrs.get("dtype")) == "bfloat16"
        plain = bfloat16 or (dtype is not None and dtype.kind in "biufc")
        plain = plain and not item.external and not item.is_virtual and item.shape is not None
        told = {
            "name": path,
            "shape": item.shape,
            "dtype": dtype.str if dtype else "O",
            "bfloat16": bfloat16,
            "plain": plain,
            "offset": self.offset(item) if plain else None,
        }
        if plain and told["offset"] is None:
            self.check(path, item)
            if self.probe:
                item[()]
        return told

    def offset(self, item):
        """Where in the file its values are, in one piece and as NumPy has them; None: they are not.

        HDF5 knows numbers that NumPy does not, such as floating point numbers of another exponent,
        and tells the dtype that they are converted to.
        """
        from h5py import h5t

        size = math.prod(item.shape) * item.dtype.itemsize
        as_they_are = item.id.get_type() == h5t.py_create(item.dtype, logical=True)
        return item.id.get_offset() if as_they_are and item.id.get_storage_size() == size else None

    def check(self, path, item):
        """What is in chunks or filled in takes memory that the file does not."""
        whole = math.prod(item.shape) * item.dtype.itemsize
        chunk = math.prod(item.chunks) * item.dtype.itemsize if item.chunks else 0
        self.room -= whole
        if self.room < 0 or chunk > self.room + whole:
            raise ValueError(
                f"{path!r:.200} of shape {item.shape} would take {max(whole, chunk)} bytes"
            )


@contextmanager
def opened(path, start, size):
    """An HDF5 file in a stretch of another; errors name it."""
    import h5py

    try:
        with open(path, "rb") as file:
            part = io.BufferedReader(Part(file, start, size), 1 << 16)
            with h5py.File(part, "r") as h5:
                yield h5
    except Exception as error:
        what = f"{type(error).__name__}: {str(error)[:200]}"
        raise ValueError(f"{os.path.basename(path)[:80]}: {what}") from error


def answer(request):
    """What is to be written for a request, in parts; needs h5py, and has no limits."""
    files = request["files"]
    inventory = Inventory(request["room"], request.get("probe"))
    if "places" not in request:
        told = []
        for file in files:
            with opened(*file) as h5:
                told.append(inventory.of(h5))
        yield json.dumps(told).encode()
        return
    for number, places in groupby(request["places"], lambda place: place[0]):
        with opened(*files[number]) as h5:
            for _, name in places:
                inventory.check(name, h5[name])
                yield h5[name][()].tobytes()


def main():
    os.environ["HDF5_PLUGIN_PRELOAD"] = "::"  # a file cannot ask for code that lies on this machine
    import h5py  # noqa: F401  before there are limits

    request = json.load(sys.stdin)
    limit(request["room"], request["seconds"])
    for part in answer(request):
        sys.stdout.buffer.write(part)
    print(f"\n{time.process_time()}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        sys.exit(str(error)[:300] or type(error).__name__)
