"""Child process of `hdf5.py` that reads HDF5 files: `python hdf5_child.py`, with requests on stdin.

A damaged file can crash the process in which libhdf5 reads it. This module imports nothing of the
toolkit. Every request is a line of JSON, and so is every answer: `{"size": 5}`, followed by that
many bytes, or `{"error": "..."}`. The first request has an answer only if h5py cannot be imported:
`{"unavailable": "..."}`.

    {"files": [[path, start, size], ...], "room": 5678, "seconds": 9, "path": [...]}
    {"probe": false}      -> the contents of each file, as JSON; true: everything is read
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

__all__ = ["main"]

MOST = 100_000  # datasets and groups


class Part(io.RawIOBase):
    """Range of bytes of a file, as a file."""

    def __init__(self, file, start, size):
        self.file, self.start, self.size, self.position = file, start, size, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=os.SEEK_SET):
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.size}[whence]
        self.position = base + offset
        return self.position

    def tell(self):
        return self.position

    def readinto(self, buffer):
        self.file.seek(self.start + self.position)
        count = max(0, min(len(buffer), self.size - self.position))
        read = self.file.readinto(memoryview(buffer)[:count])
        self.position += read
        return read


def limit(room, seconds):
    """Limits the memory and CPU time of this process from now on, where the system supports it.

    Args:
        room: bytes.
        seconds: of CPU time.
    """
    try:
        import resource
    except ImportError:  # Windows
        return

    def at_most(limit, value):
        hard = resource.getrlimit(limit)[1]  # which cannot be raised
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))

    at_most(resource.RLIMIT_CPU, math.ceil(time.process_time()) + seconds)
    if os.path.exists("/proc/self/statm"):
        with open("/proc/self/statm") as file:
            most = int(file.read().split()[0]) * resource.getpagesize() + room
        at_most(resource.RLIMIT_AS, most)


class Inventory:
    """Lists the contents of files.

    Args:
        room: limit for the bytes of all datasets that are not contiguous.
        probe: whether another library will read the files afterwards: then everything is read, and
            anything that Keras does not write is an error.
    """

    def __init__(self, room, probe):
        self.room, self.probe, self.count = room, probe, 0

    def of(self, h5):
        """Lists the datasets and layers of a file.

        Raises:
            ValueError: an object has several names, under each of which h5py would read it.
        """
        self.datasets, self.layers = [], {}
        check_names("/", h5)
        if link := h5.id.links.visit(odd_link, info=True):
            raise ValueError(f"{as_text(link)!r:.200} is a link; expected none.")
        h5.visititems(self.add)
        return {"datasets": self.datasets, "layers": self.layers}

    def add(self, path, item):
        """Adds a group or dataset."""
        self.count += 1
        if self.count > MOST:
            raise ValueError(f"more than {MOST} datasets and groups.")
        if hasattr(item, "shape") or hasattr(item, "keys"):
            check_names(path, item)
        if hasattr(item, "shape"):
            self.datasets.append(self.dataset(path, item))
            if self.probe:
                self.approve(path, item, self.datasets[-1])
            return
        if self.probe and not hasattr(item, "keys"):
            raise ValueError(f"{path!r:.200} is a type; expected groups and arrays only.")
        group, _, last = path.rpartition("/")
        if last == "vars":
            name = item.attrs.get("name", group.rpartition("/")[2])
            self.layers[group] = as_text(name if isinstance(name, bytes) else str(name))

    def dataset(self, path, item):
        """Describes a dataset, as a dict."""
        try:
            dtype = item.dtype
        except TypeError:  # a time, or an integer of three bytes
            dtype = None
        bfloat16 = dtype == "V2" and str(item.attrs.get("dtype")) == "bfloat16"
        plain = bfloat16 or (dtype is not None and dtype.kind in "biufc")
        plain = plain and not item.external and not item.is_virtual and item.shape is not None
        description = {
            "name": path,
            "shape": item.shape,
            "dtype": dtype.str if dtype else "O",
            "bfloat16": bfloat16,
            "plain": plain,
            "offset": self.offset(item) if plain else None,
        }
        if plain and description["offset"] is None:
            self.check(path, item)
        return description

    def approve(self, path, item, description):
        """Checks that a dataset is a numeric array as Keras writes it, and can be read.

        Raises:
            ValueError: it is not.
        """
        expected = "bfloat16" if description["bfloat16"] else None
        if not description["plain"] or str(item.attrs.get("dtype")) != str(expected):
            raise ValueError(
                f"{path!r:.200} is not an array of numbers in this file, as Keras writes them."
            )
        if description["offset"] is None:
            item[()]

    def offset(self, item):
        """Returns the offset of the values if they are contiguous and stored as in NumPy, or None.

        HDF5 has numbers that NumPy does not have, such as floats with another exponent; their dtype
        here is the one that they are converted to.
        """
        from h5py import h5t

        size = math.prod(item.shape) * item.dtype.itemsize
        as_in_numpy = item.id.get_type() == h5t.py_create(item.dtype, logical=True)
        return item.id.get_offset() if as_in_numpy and item.id.get_storage_size() == size else None

    def check(self, path, item):
        """Checks the size of a dataset in chunks or filled with a value, larger than in the file.

        Raises:
            ValueError: there is not enough room.
        """
        size = math.prod(item.shape) * item.dtype.itemsize
        chunk = math.prod(item.chunks) * item.dtype.itemsize if item.chunks else 0
        self.room -= size
        if self.room < 0 or chunk > self.room + size:
            raise ValueError(
                f"{path!r:.200} of shape {item.shape} would take {max(size, chunk)} bytes."
            )


def check_names(path, item):
    """Checks that a group or a dataset has only one name.

    Raises:
        ValueError: it has several.
    """
    from h5py import h5o

    if h5o.get_info(item.id).rc > 1:
        raise ValueError(f"{path!r:.200} has another name; expected one for each group and array.")


def odd_link(path, info):
    """Returns the path of a soft or external link, or a path not in UTF-8 (h5py fails on these)."""
    from h5py import h5l

    try:
        path.decode()
    except UnicodeDecodeError:
        return path
    return None if info.type == h5l.TYPE_HARD else path


def as_text(name):
    """Decodes a name of HDF5, which h5py returns as bytes, or as text with surrogates.

    Raises:
        ValueError: it is not UTF-8.
    """
    content = name if isinstance(name, bytes) else name.encode(errors="surrogateescape")
    try:
        return content.decode()
    except UnicodeDecodeError:
        escaped = content.decode(errors="backslashreplace")
        raise ValueError(f"the name '{escaped:.200}' is not in UTF-8; expected text.") from None


@contextmanager
def naming(path):
    """Context that adds the name of the file to errors."""
    try:
        yield
    except Exception as error:
        cause = f"{type(error).__name__}: {str(error)[:200]}"
        raise ValueError(f"{os.path.basename(path)[:80]}: {cause}") from error


@contextmanager
def opened(path, start, size):
    """Context that opens an HDF5 file in a range of bytes of a file."""
    import h5py

    with open(path, "rb") as file:
        part = io.BufferedReader(Part(file, start, size), 1 << 16)
        with h5py.File(part, "r") as h5:
            yield h5


class Reader:
    """Answers requests; needs h5py, and sets no limits.

    The file of the last request stays open.
    """

    def __init__(self, files, room):
        self.files, self.room = files, room
        self.number, self.h5, self.open = None, None, ExitStack()

    def answer(self, request):
        """Returns the bytes of the answer to a request."""
        return self.dataset(*request["place"]) if "place" in request else self.all(request["probe"])

    def all(self, probe):
        """Returns the contents of all files, as JSON."""
        inventory, contents = Inventory(self.room, probe), []
        for file in self.files:
            with naming(file[0]), opened(*file) as h5:
                contents.append(inventory.of(h5))
        text = json.dumps(contents).encode()
        if len(text) > self.room // 8:
            raise ValueError(f"names that take {len(text)} bytes.")
        return text

    def dataset(self, number, name):
        """Returns the bytes of a dataset."""
        with naming(self.files[number][0]):
            if number != self.number:
                self.open.close()
                self.number = None
                self.h5 = self.open.enter_context(opened(*self.files[number]))
                self.number = number
            import numpy  # from the same path as h5py

            item = self.h5[name]
            Inventory(self.room, probe=False).check(name, item)
            return memoryview(numpy.asarray(item[()]).reshape(-1).view("u1"))


def respond(answer, content=b""):
    """Writes an answer to stdout: a line of JSON, and bytes."""
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def main():
    """Answers requests from stdin until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent may continue after Ctrl-C
    os.environ["HDF5_PLUGIN_PRELOAD"] = "::"  # no plugins of libhdf5, whatever a file requires
    start = json.loads(sys.stdin.buffer.readline())
    sys.path[:] = start["path"]
    try:
        import h5py  # noqa: F401  before the limits are set
    except ImportError as error:
        respond({"unavailable": str(error)[:300]})
        return
    limit(start["room"], start["seconds"])
    reader = Reader(start["files"], start["room"])
    for line in sys.stdin.buffer:
        try:
            content = reader.answer(json.loads(line))
        except Exception as error:
            respond({"error": str(error)[:300] or type(error).__name__})
        else:
            respond({"size": len(content)}, content)
            del content


if __name__ == "__main__":
    main()
