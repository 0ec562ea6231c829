"""File access, local or remote (`gs://`, `hdfs://`, ... with `tf.io.gfile`)."""

import glob
import io
import os
import shutil
import tempfile
import uuid
from contextlib import contextmanager, suppress

from bert4keras_lite import files as local
from bert4keras_lite.checkpoints import CheckpointError
from bert4keras_lite.hub import HubError
from bert4keras_lite.parsing import size_of

__all__ = [
    "MISTAKES",
    "copy",
    "exists",
    "find",
    "is_remote",
    "join",
    "local_copy",
    "make_directory",
    "names_in",
    "not_a_link",
    "open_binary",
    "remove",
    "replacing",
    "size",
]

# errors of a user, which commands print in one line, without a traceback
MISTAKES = (CheckpointError, HubError, ImportError, OSError, ValueError)


def is_remote(path):
    """Returns whether a path is a `scheme://...` name."""
    return "://" in str(path)


def _gfile(path):
    try:
        from tensorflow.io import gfile
    except ImportError:
        raise ImportError(
            f"{path}: names with :// are opened by tf.io.gfile, and TensorFlow is not installed;"
            ' install it with: pip install "bert4keras_lite[tensorflow]".'
        ) from None
    return gfile


def join(directory, name):
    """Returns the path of a file in a directory."""
    return (
        f"{str(directory).rstrip('/')}/{name}"
        if is_remote(directory)
        else os.path.join(directory, name)
    )


def exists(path):
    """Returns whether a file or directory exists."""
    return _gfile(path).exists(path) if is_remote(path) else os.path.exists(path)


def size(path):
    """Returns the number of bytes of a file."""
    return _gfile(path).stat(path).length if is_remote(path) else os.path.getsize(path)


def find(pattern):
    """Returns the sorted files that match a glob pattern; `**` is any number of directories.

    The name of an existing file matches only that file, even if it contains glob characters.
    """
    if is_remote(pattern):
        gfile = _gfile(pattern)
        is_file = lambda path: gfile.exists(path) and not gfile.isdir(path)  # noqa: E731
        search = gfile.glob
    else:
        is_file, search = os.path.isfile, _matches
    return [pattern] if is_file(pattern) else sorted(filter(is_file, set(search(pattern))))


def _matches(pattern):
    """Yields the matches of a local glob pattern; links do not lead to a directory twice."""
    parts = pattern.replace(os.altsep or os.sep, os.sep).split(os.sep)
    if "**" not in parts:
        return glob.iglob(pattern)
    at = parts.index("**")
    above, rest = os.sep.join([*parts[:at], ""]), os.sep.join(parts[at + 1 :] or ["*"])
    return (
        path
        for top in (glob.iglob(above) if above else [""])
        for folder in _folders(top)
        for path in _matches(glob.escape(folder) + rest)
    )


def _folders(top):
    """Yields a directory and all non-hidden directories in it, each once, as prefixes of paths."""
    seen, left = set(), [top]
    while left:
        folder = left.pop()
        with suppress(OSError):  # as in other patterns, unreadable directories have no files
            status = os.stat(folder or os.curdir)
            inode = status.st_dev, status.st_ino
            if inode in seen:
                continue
            seen.add(inode)
            with os.scandir(folder or os.curdir) as entries:
                names = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
            yield folder
            left += [os.path.join(folder, name, "") for name in sorted(names, reverse=True)]


def names_in(directory):
    """Returns the names of the entries of a directory."""
    return _gfile(directory).listdir(directory) if is_remote(directory) else os.listdir(directory)


def make_directory(path):
    """Creates a directory and its parents if they do not exist."""
    if is_remote(path):
        _gfile(path).makedirs(path)
    else:
        os.makedirs(path, exist_ok=True)


def not_a_link(path):
    """Returns a path to write, move or delete, after checking that it is not a link.

    Raises:
        CheckpointError: it is a link.
    """
    if path.is_symlink():
        raise CheckpointError(
            f"{path}: is a link; expected a directory of this training. Remove it, or replace it by"
            " its target."
        )
    return path


def remove(path):
    """Removes a file."""
    if is_remote(path):
        _gfile(path).remove(path)
    else:
        os.remove(path)


def copy(source, target):
    """Copies a local or remote file to a local path, atomically."""
    with open_binary(source) as reader, replacing(target) as writer:
        shutil.copyfileobj(reader, writer, 1 << 22)


@contextmanager
def local_copy(path):
    """Context with a local path of a file: a temporary copy if the file is remote."""
    if not is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        target = os.path.join(folder, "copy")
        copy(path, target)
        yield target


class _RemoteReader(io.RawIOBase):
    """Adapts a file of `tf.io.gfile` to `io.BufferedReader`."""

    def __init__(self, path):
        super().__init__()
        self._file = _gfile(path).GFile(path, "rb")

    def readable(self):
        return True

    def seekable(self):
        return True

    def readinto(self, buffer):
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset, whence=io.SEEK_SET):
        self._file.seek(offset, whence)
        return self._file.tell()

    def tell(self):
        return self._file.tell()

    def close(self):
        self._file.close()
        super().close()


def open_binary(path):
    """Opens a file for reading bytes.

    Raises:
        ValueError: it is a directory, a pipe or a device.
        OSError: it cannot be opened.
    """
    if is_remote(path):
        return io.BufferedReader(_RemoteReader(path), 1 << 20)
    size_of(path)
    return open(path, "rb", buffering=1 << 20)


@contextmanager
def replacing(path):
    """Context with a file for writing bytes, which replaces `path` only when it is complete.

    After an exception or a crash, an existing file is unchanged. A crash also leaves a temporary
    file: for a local one see `bert4keras_lite.files`, for a remote one it is `NAME.tmp-...`.
    """
    if not is_remote(path):
        with local.replacing(path) as file:
            yield file
        return
    gfile, temporary = _gfile(path), f"{path}.tmp-{uuid.uuid4().hex}"
    try:
        with gfile.GFile(temporary, "wb") as file:
            yield file
        gfile.rename(temporary, path, overwrite=True)
    except BaseException:
        if gfile.exists(temporary):
            gfile.remove(temporary)
        raise
