"""Reads an HDF5 file for `hdf5.py`, in a process of its own: `python hdf5_child.py`, a request on stdin.

The last line on stderr is an error, or the CPU seconds that it took. A damaged file can end the
process that gives it to libhdf5. Imports nothing of the toolkit.

    {"path": ..., "start": 0, "size": 1234, "room": 5678, "seconds": 9}                  -> what is in it, as JSON
    {"path": ..., "start": 0, "size": 1234, "room": 5678, "seconds": 9, "names": ["a/b"]} -> the bytes of datasets
    {"path": ..., "start": 0, "size": 1234, "room": 5678, "seconds": 9, "probe": true}   -> all is read; the first
"""

import io
import json
import math
import os
import sys
import time

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
    """What is in a file, and how much room there is for what is not in one piece."""

    def __init__(self, h5, room, probe):
        self.h5, self.room, self.probe = h5, room, probe
        self.datasets, self.layers, self.count = [], {}, 0

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
        dtype = item.dtype
        bfloat16 = dtype.itemsize == 2 and str(item.attrs.get("dtype")) == "bfloat16"
        plain = dtype.kind in "biufc" or bfloat16
        told = {
            "name": path,
            "shape": item.shape,
            "dtype": dtype.str,
            "bfloat16": bfloat16,
            "plain": plain and not item.external and not item.is_virtual and item.shape is not None,
            "offset": item.id.get_offset(),
        }
        if told["plain"] and told["offset"] is None:
            self.check(path, item)
            if self.probe:
                item[()]
        return told

    def check(self, path, item):
        """What is in chunks or filled in takes memory that the file does not."""
        whole = math.prod(item.shape) * item.dtype.itemsize
        chunk = math.prod(item.chunks) * item.dtype.itemsize if item.chunks else 0
        self.room -= whole
        if self.room < 0 or chunk > self.room + whole:
            raise ValueError(
                f"{path!r:.200} of shape {item.shape} would take {max(whole, chunk)} bytes"
            )


def answer(request):
    """What is to be written for a request, in parts; needs h5py, and has no limits."""
    import h5py

    with open(request["path"], "rb") as file:
        part = io.BufferedReader(Part(file, request["start"], request["size"]), 1 << 16)
        with h5py.File(part, "r") as h5:
            if "names" in request:
                inventory = Inventory(h5, request["room"], False)
                for name in request["names"]:
                    inventory.check(name, h5[name])
                    yield h5[name][()].tobytes()
                return
            inventory = Inventory(h5, request["room"], request.get("probe"))
            h5.visititems(inventory.add)
            told = {"datasets": inventory.datasets, "layers": inventory.layers}
            yield json.dumps(told).encode()


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
        sys.exit(f"{type(error).__name__}: {str(error)[:200]}")
