"""Atomic saves: if a save is interrupted, either all old files or all new files are complete.

    with saving("out") as stage:  # a hidden directory in `out`
        model.save(stage / "model.keras")
        write_text(stage / "labels.json", text)

The files of one `saving` get their names together:

1. All are written to `.saving-<random>` in the directory and synced to disk. If this is
   interrupted, nothing has changed; the next save removes the rest.
2. `.saving-<random>` is renamed to `.saved-by-bert4keras_lite`, which commits the save. The rename
   fails while such a directory with files exists, so saves of several threads or processes run one
   after another.
3. The files are moved from there to their names. If this is interrupted, the next reader or save
   in the directory completes it: every reader of the toolkit first calls `complete`.

A directory may be untrusted: links are not followed, pipes are not waited for, and a save of
another user is not completed. As its owner may change it meanwhile, it is opened once and accessed
by its descriptor; only the body of `saving` writes by path.

This module imports no framework.
"""

import errno
import os
import re
import shutil
import stat
import uuid
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where the rest of an interrupted save is not removed
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "IncompleteSaveError",
    "SaveError",
    "complete",
    "discard",
    "final",
    "replacing",
    "saving",
    "tidy",
    "write_text",
]

STAGE, COMMITTED = ".saving-", ".saved-by-bert4keras_lite"
MOST = 10_000  # maximum number of files of a save
PERMISSIONS = 0o777  # bits that a new file takes over from the old one: not setuid and setgid
OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST)  # another save is committed but not completed
# temporary files of earlier versions that were interrupted: NAME.PROCESS.tmp
OLD_STRAY = re.compile(r"(checkpoint|.+\.(index|safetensors|data-\d{5}-of-\d{5}))\.\d+\.tmp")


class SaveError(OSError):
    """A save failed and changed nothing; the message names the file and the reason."""


class IncompleteSaveError(SaveError, ValueError):
    """An interrupted save cannot be completed; a `ValueError`, as documented for readers."""


@contextmanager
def saving(directory):
    """Creates a directory for the files of a save, which get their names together at its end.

    If the body raises, nothing is changed.

    Args:
        directory: directory of the files; created if missing.

    Returns:
        A context manager that gives the `Path` of an empty directory. Files in it replace those of
        the same name in `directory` and take over their permissions; new directories are added;
        other files in `directory` stay. The empty directory may itself be used for `saving`.

    Raises:
        SaveError: a file cannot be written.
    """
    with _staging(directory) as stage:
        yield stage.path


@contextmanager
def replacing(path):
    """Opens a file for writing bytes that replaces `path` when the body ends.

    If the body raises, the old file stays.

    Raises:
        SaveError: the file cannot be written.
    """
    path = Path(path)
    with _staging(path.parent) as stage, stage.create(path.name) as file:
        yield file


def write_text(path, text, encoding="utf-8"):
    """Writes a text file atomically; see `replacing`."""
    content = text.encode(encoding)
    with replacing(path) as file:
        file.write(content)


def complete(directory):
    """Completes an interrupted save in a directory, if there is one: gives its files their names.

    Raises:
        IncompleteSaveError: the directory cannot be written, the save is of another user, or it has
            links or other entries that no save makes.
    """
    if os.path.lexists(Path(directory) / COMMITTED):
        with suppress(FileNotFoundError), _Directory(directory) as around:
            _complete(around)


def tidy(directory):
    """Completes an interrupted save, and removes the files of aborted ones."""
    with _Directory(directory) as around:
        _tidy(around)


def discard(directory):
    """Removes a directory with its contents; for others it disappears at once."""
    directory = Path(directory)
    hidden = directory.with_name(f"{STAGE}{uuid.uuid4().hex}")
    os.rename(directory, hidden)
    with suppress(RecursionError):  # untrusted directories may be nested a thousand deep
        shutil.rmtree(hidden, ignore_errors=True)  # the next save removes the rest


def final(path):
    """Returns the final `Path` of a file in the directory of a `saving`."""
    return Path(*(part for part in Path(path).parts if not part.startswith(STAGE)))


class _Directory:
    """An open directory: another directory that gets its path meanwhile is not touched.

    On Windows, where directories have no descriptors, the path is used.

    Args:
        path: path of the directory.
        within: its parent `_Directory`, in which it must not be a link; None: opened by path.
    """

    def __init__(self, path, within=None):
        self.path, self.descriptor = Path(path), None
        if os.name != "posix":
            return
        flags = os.O_RDONLY | os.O_DIRECTORY
        if within is None:
            self.descriptor = os.open(path, flags)
        else:
            self.descriptor = within.call(os.open, self.path.name, flags | os.O_NOFOLLOW)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.descriptor is not None:
            os.close(self.descriptor)

    def call(self, function, name, *arguments, **options):
        """Calls a function of `os` for a name in the directory; errors have the full path."""
        try:
            return function(self._place(name), *arguments, dir_fd=self.descriptor, **options)
        except OSError as error:
            if error.filename is not None:
                error.filename = str(self.path / error.filename)
            raise

    def move(self, function, name, target, new):
        """Calls `os.rename` or `os.replace` for a name and a new name in another directory."""
        descriptors = {"src_dir_fd": self.descriptor, "dst_dir_fd": target.descriptor}
        try:
            function(self._place(name), target._place(new), **descriptors)
        except OSError as error:
            if error.filename is not None:
                error.filename = str(self.path / error.filename)
            if error.filename2 is not None:
                error.filename2 = str(target.path / error.filename2)
            raise

    def _place(self, name):
        return os.fspath(self.path / name) if self.descriptor is None else name

    def entries(self):
        """Returns an iterator over its entries, like `os.scandir`."""
        return os.scandir(self.path if self.descriptor is None else self.descriptor)

    def create(self, name):
        """Creates a file in it, opened for writing bytes."""

        def opened(name, flags):
            return self.call(os.open, name, flags | os.O_EXCL, 0o666)

        return open(name, "wb", opener=opened)

    def is_in(self, parent):
        """Returns whether it still has its name in its parent `_Directory`."""
        with suppress(FileNotFoundError):
            status = parent.call(os.lstat, self.path.name)
            return self.descriptor is None or os.path.samestat(status, os.fstat(self.descriptor))
        return False

    def sync(self):
        """Syncs its list of names to disk."""
        if self.descriptor is not None:
            os.fsync(self.descriptor)

    def sync_all(self):
        """Syncs its list of names and all files and directories in it to disk."""
        with self.entries() as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    with _Directory(self.path / entry.name, self) as inner:
                        inner.sync_all()
                elif entry.is_file(follow_symlinks=False):
                    self._sync_file(entry.name)
        self.sync()

    def _sync_file(self, name):
        descriptor = self.call(os.open, name, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove(self, parent):
        """Removes it with its contents from its parent `_Directory`, as far as possible."""
        with suppress(OSError, RecursionError):
            with self.entries() as entries:
                names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
            for name, is_directory in names:
                if is_directory:
                    with _Directory(self.path / name, self) as inner:
                        inner.remove(self)
                else:
                    self.call(os.unlink, name)
            parent.call(os.rmdir, self.path.name)


@contextmanager
def _staging(directory):
    """Does `saving`, but gives the `_Directory` for the files."""
    directory = Path(directory).absolute()  # the body may change the working directory
    around, created, stage = None, [], None
    try:
        created = [path for path in (directory, *directory.parents) if not path.exists()]
        directory.mkdir(parents=True, exist_ok=True)
        around = _Directory(directory)
        _tidy(around)
        stage = _make_stage(around)
        yield stage
        if not _is_of_a_save(directory):
            for path in created:
                with _Directory(path.parent) as parent:
                    parent.sync()
        _commit(stage, around)
    except BaseException as error:
        failure = _failure(error, stage, directory)
        if stage and stage.is_in(around):  # not committed
            stage.remove(around)
        for path in created:
            with suppress(OSError):
                path.rmdir()
        if failure is error:
            raise
        raise failure from error
    else:
        _complete(around)
    finally:
        for opened in filter(None, (stage, around)):
            opened.__exit__()


def _is_of_a_save(directory):
    """Returns whether a directory is in the stage of an outer save, which syncs all at its end."""
    return final(directory) != directory


def _complete(around):
    """Does `complete` for a `_Directory`."""
    while True:
        try:
            _take_names(around)
        except FileNotFoundError:  # done, or another process is completing it
            if not _has_committed(around):
                return
            continue
        except IncompleteSaveError:
            raise
        except OSError as error:
            raise IncompleteSaveError(
                f"{error.filename2 or around.path}: a save was interrupted while its files took "
                f"their names, and cannot be completed: {error.strerror or error}. Open the "
                "directory once where it can be written, and no directory has the name of a file."
            ) from error
        try:
            around.call(os.rmdir, COMMITTED)
        except OSError as error:
            if error.errno not in OCCUPIED:  # it is empty: no file is missing
                return


def _has_committed(around):
    with suppress(FileNotFoundError):
        around.call(os.lstat, COMMITTED)
        return True
    return False


def _take_names(around):
    """Moves the files of a committed save to their names, without following links."""
    path = around.path / COMMITTED
    if not stat.S_ISDIR(around.call(os.lstat, COMMITTED).st_mode):
        raise IncompleteSaveError(
            f"{path}: expected the directory of an interrupted save, got a link or a file. "
            "Remove it."
        )
    with _Directory(path, around) as committed:
        names = _names_to_take(committed, around)
        if names:
            _sync_names(around)
            for name in names:
                _take_name(name, committed, around)
            _sync_names(around)


def _sync_names(around):
    if not _is_of_a_save(around.path):
        around.sync()


def _names_to_take(committed, around):
    """Returns the names in the directory of a committed save, after checks that they are of one."""
    path = committed.path
    if committed.descriptor is not None:
        owner = os.fstat(committed.descriptor).st_uid
        # the owner of the parent directory can change it in any way without this
        if owner not in (os.geteuid(), os.fstat(around.descriptor).st_uid):
            raise IncompleteSaveError(
                f"{path}: was left by an interrupted save of another user, {owner}. Let that user "
                "open the directory, or remove it."
            )
    names = []
    with committed.entries() as entries:
        for entry in islice(entries, MOST + 1):
            if not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
                raise IncompleteSaveError(
                    f"{path}: expected files of an interrupted save, got a link, a pipe or a "
                    f"device: {entry.name!r:.200}. Remove it."
                )
            names.append(entry.name)
    if len(names) > MOST:
        raise IncompleteSaveError(
            f"{path}: expected at most {MOST} files of an interrupted save, got more. Remove it."
        )
    return sorted(names)


def _take_name(name, committed, around):
    try:
        old, new = around.call(os.lstat, name), committed.call(os.lstat, name)
        same = os.path.samestat(old, new)
    except FileNotFoundError:  # a new name
        same = False
    if same:  # two hard links to one file, both of which `os.replace` would leave
        committed.call(os.unlink, name)
    else:
        committed.move(os.replace, name, around, name)


def _tidy(around):
    """Does `tidy` for a `_Directory`."""
    _complete(around)
    with around.entries() as entries:
        names = [entry.name for entry in entries]
    for name in names:
        if name.startswith(STAGE):
            _remove_if_abandoned(name, around)
        elif OLD_STRAY.fullmatch(name):
            with suppress(OSError):  # it is a directory, or another process removes it
                around.call(os.unlink, name)


def _make_stage(around):
    """Creates the `_Directory` of a save, locked while its process is running."""
    while True:
        path = around.path / f"{STAGE}{uuid.uuid4().hex}"
        around.call(os.mkdir, path.name)
        with suppress(FileNotFoundError):  # removed before it was locked
            stage = _Directory(path, around)
            if fcntl is not None:
                with suppress(OSError):  # a file system without locks: stages are never removed
                    fcntl.flock(stage.descriptor, fcntl.LOCK_SH)
            if stage.is_in(around):
                return stage
            stage.__exit__()


def _remove_if_abandoned(name, around):
    if fcntl is None:
        return
    with (
        suppress(OSError),  # it is locked, not a directory, or another process removes it
        _Directory(around.path / name, around) as stage,
    ):
        fcntl.flock(stage.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        stage.remove(around)


def _commit(stage, around):
    with stage.entries() as entries:
        names = [entry.name for entry in entries]
    for name in names:
        _take_over_mode(name, stage, around)
    if not _is_of_a_save(around.path):
        stage.sync_all()
    if not stage.is_in(around):
        raise SaveError(
            f"{around.path}: cannot be written: another process took {stage.path.name} away. Save "
            "where nobody else may write."
        )
    while True:
        try:
            around.move(os.rename, stage.path.name, around, COMMITTED)
            break
        except OSError as error:
            if error.errno not in OCCUPIED:
                raise
            _complete(around)


def _take_over_mode(name, stage, around):
    """Gives a file of a save the permissions of the file it replaces, or of a link's target."""
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(around.call(os.lstat, name).st_mode):
            path = os.fspath(stage.path / name)
            raise IsADirectoryError(errno.EISDIR, "a directory has this name", path)
    old = None
    with suppress(OSError):  # a new name, or a broken link
        old = around.call(os.stat, name).st_mode
    if old is not None and stat.S_ISREG(old):
        stage.call(os.chmod, name, old & PERMISSIONS)


def _failure(error, stage, directory):
    """Returns the error to raise: a `SaveError` with the final name if a file cannot be written."""
    if not isinstance(error, OSError) or isinstance(
        error, SaveError | ConnectionError | TimeoutError
    ):
        return error
    if error.errno is None:  # not from the operating system, but from code in the body
        return error
    path = None if error.filename is None else Path(os.fsdecode(error.filename))
    if stage and path and stage.path not in (path, *path.parents):
        return error  # from another operation of the body, such as reading
    if stage and not path:  # a full disk gives no name: it is the file that was written last
        files = stage.path.rglob("*")
        path = max(files, key=lambda path: path.lstat().st_mtime_ns, default=None)
    failure = SaveError(
        f"{final(path or directory)}: cannot be written: {error.strerror or error}. What was there "
        "before is unchanged."
    )
    failure.errno = error.errno
    return failure
