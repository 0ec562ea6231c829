"""Reads HDF5 files for `hdf5.py`, in a process of its own: `python hdf5_child.py`, requests on stdin.

A damaged file can end the process that gives it to libhdf5. Imports nothing of the toolkit. Every
request is a line of JSON, every answer, too: `{"size": 5}`, and so many bytes after it, or
`{"error": "..."}`. The first request is answered only if h5py is `{"unavailable": "..."}`.

    {"files": [[path, start, size], ...], "room": 5678, "seconds": 9, "path": [...]}
    {"probe": false}      -> what is in each file, as JSON; true: all is read
    {"place": [0, "a/b"]} -> the bytes of a dataset: the number of the file, the name
"""

import io
import json
import math
import os
import signal
import sys
import time
from contextlib import ExitStack, contextmanager

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
    """Bounds what this process takes from now on, where the system can: bytes, and CPU seconds."""
    try:
        import resource
    except ImportError:  # Windows
        return

    def at_most(kind, value):
        hard = resource.getrlimit(kind)[1]  # which nobody may raise
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))

    at_most(resource.RLIMIT_CPU, math.ceil(time.process_time()) + seconds)
    if os.path.exists("/proc/self/statm"):
        with open("/proc/self/statm") as file:
            most = int(file.read().split()[0]) * resource.getpagesize() + room
        at_most(resource.RLIMIT_AS, most)


class Inventory:
    """What is in files, and how much room there is for what is not in one piece.

    Args:
        room: bytes.
        probe: whether another library is to read the files afterwards: all is read, and what Keras
            does not write is an error.
    """

    def __init__(self, room, probe):
        self.room, self.probe, self.count = room, probe, 0

    def of(self, h5):
        """What is in one of them, under one name each: h5py reads it under all that it has."""
        self.datasets, self.layers = [], {}
        check_names("/", h5)
        if link := h5.id.links.visit(odd_link, info=True):
            raise ValueError(f"{as_text(link)!r:.200} is a link; expected none")
        h5.visititems(self.add)
        return {"datasets": self.datasets, "layers": self.layers}

    def add(self, path, item):
        self.count += 1
        if self.count > MOST:
            raise ValueError(f"more than {MOST} datasets and groups")
        if hasattr(item, "shape") or hasattr(item, "keys"):
            check_names(path, item)
        if hasattr(item, "shape"):
            self.datasets.append(self.dataset(path, item))
            if self.probe:
                self.approve(path, item, self.datasets[-1])
            return
        if self.probe and not hasattr(item, "keys"):
            raise ValueError(f"{path!r:.200} is a type; expected groups and arrays only")
        group, _, last = path.rpartition("/")
        if last == "vars":
            name = item.attrs.get("name", group.rpartition("/")[2])
            self.layers[group] = as_text(name if isinstance(name, bytes) else str(name))

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
        return told

    def approve(self, path, item, told):
        """Raises where an array is not of numbers, or damaged, or tells Keras of another dtype."""
        expected = "bfloat16" if told["bfloat16"] else None
        if not told["plain"] or str(item.attrs.get("dtype")) != str(expected):
            raise ValueError(
                f"{path!r:.200} is no array of numbers in this file, as Keras has them"
            )
        if told["offset"] is None:
            item[()]

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


def check_names(path, item):
    """Raises if a group or an array has two names."""
    from h5py import h5o

    if h5o.get_info(item.id).rc > 1:
        raise ValueError(f"{path!r:.200} has another name; expected one for each group and array")


def odd_link(path, info):
    """The path of what is another name, in another file, or not in UTF-8, where h5py trips."""
    from h5py import h5l

    try:
        path.decode()
    except UnicodeDecodeError:
        return path
    return None if info.type == h5l.TYPE_HARD else path


def as_text(name):
    """A name of HDF5, of which h5py gives bytes, or text with half characters, as text."""
    content = name if isinstance(name, bytes) else name.encode(errors="surrogateescape")
    try:
        return content.decode()
    except UnicodeDecodeError:
        told = content.decode(errors="backslashreplace")
        raise ValueError(f"the name '{told:.200}' is not in UTF-8; expected text") from None


@contextmanager
def naming(path):
    """Errors name the file."""
    try:
        yield
    except Exception as error:
        what = f"{type(error).__name__}: {str(error)[:200]}"
        raise ValueError(f"{os.path.basename(path)[:80]}: {what}") from error


@contextmanager
def opened(path, start, size):
    """An HDF5 file in a stretch of another."""
    import h5py

    with open(path, "rb") as file:
        part = io.BufferedReader(Part(file, start, size), 1 << 16)
        with h5py.File(part, "r") as h5:
            yield h5


class Reader:
    """Answers requests; needs h5py, and has no limits of its own.

    The last file that was read of stays open.
    """

    def __init__(self, files, room):
        self.files, self.room = files, room
        self.number, self.h5, self.open = None, None, ExitStack()

    def answer(self, request):
        """The bytes that a request asks for."""
        return self.dataset(*request["place"]) if "place" in request else self.all(request["probe"])

    def all(self, probe):
        inventory, told = Inventory(self.room, probe), []
        for file in self.files:
            with naming(file[0]), opened(*file) as h5:
                told.append(inventory.of(h5))
        text = json.dumps(told).encode()
        if len(text) > self.room // 8:
            raise ValueError(f"names that take {len(text)} bytes")
        return text

    def dataset(self, number, name):
        with naming(self.files[number][0]):
            if number != self.number:
                self.open.close()
                self.number = None
                self.h5 = self.open.enter_context(opened(*self.files[number]))
                self.number = number
            import numpy  # found as h5py is

            item = self.h5[name]
            Inventory(self.room, probe=False).check(name, item)
            return memoryview(numpy.asarray(item[()]).reshape(-1).view("u1"))


def say(told, content=b""):
    sys.stdout.buffer.write(json.dumps(told).encode() + b"\n")
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def main():
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it may go on
    os.environ["HDF5_PLUGIN_PRELOAD"] = "::"  # a file cannot ask for code that lies on this machine
    start = json.loads(sys.stdin.buffer.readline())
    sys.path[:] = start["path"]
    try:
        import h5py  # noqa: F401  before there are limits
    except ImportError as error:
        say({"unavailable": str(error)[:300]})
        return
    limit(start["room"], start["seconds"])
    reader = Reader(start["files"], start["room"])
    for line in sys.stdin.buffer:
        try:
            content = reader.answer(json.loads(line))
        except Exception as error:
            say({"error": str(error)[:300] or type(error).__name__})
        else:
            say({"size": len(content)}, content)
            del content


if __name__ == "__main__":
    main()
