"""Writes files so that nothing is lost: whenever a save is interrupted, the old or the new is whole.

    with saving("out") as stage:  # a directory in `out` that nobody looks into
        model.save(stage / "model.keras")
        write_text(stage / "labels.json", text)

The files of one `saving` are one unit, and take their names together:

1. All are written to `.saving-<random>` in the directory, and brought to the disk. When this is
   interrupted, nothing has changed; the next save removes what is left.
2. `.saving-<random>` is renamed to `.saved-by-bert4keras_lite`. At this stroke the new save takes the
   place of the old one. It fails as long as there is such a directory with files in it, so that
   saves of several threads or processes come one after the other.
3. The files move from there to their names. When this is interrupted, whoever reads or saves in
   the directory next goes on with it: every reader of the toolkit begins with `complete`.

A directory may come from strangers: no link is followed, no pipe is waited for, and a save of
another user is not completed. Its owner may change it meanwhile: it is opened once, and all goes by
its descriptor. Only the body of `saving` writes by a path.

Knows no framework.
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
except ImportError:  # Windows: there, what an interrupted save leaves is not removed
    fcntl = None

STAGE, COMMITTED = ".saving-", ".saved-by-bert4keras_lite"
MOST = 10_000  # files of a save
PERMISSIONS = 0o777  # that a new file takes over: not to run as its owner or group
OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST)  # another save has begun
# what earlier versions left when they were interrupted: NAME.PROCESS.tmp
OLD_STRAY = re.compile(r"(checkpoint|.+\.(index|safetensors|data-\d{5}-of-\d{5}))\.\d+\.tmp")


class SaveError(OSError):
    """A save that failed, and changed nothing: says which file cannot be written, and why."""


class IncompleteSaveError(SaveError, ValueError):
    """An interrupted save that cannot be completed; a `ValueError`, as readers promise."""


@contextmanager
def saving(directory):
    """Makes a directory for the files of a save, which take their names together at its end.

    When the body raises, nothing has changed.

    Args:
        directory: where the files belong; is made if missing.

    Returns:
        A context manager that gives the `Path` of an empty directory. Files in it replace those of
        the same name in `directory`, whose permissions they take over, and new directories are
        added to it; others there stay. It may be used for another `saving`.

    Raises:
        SaveError: a file cannot be written.
    """
    with _staging(directory) as stage:
        yield stage.path


@contextmanager
def replacing(path):
    """A file, open for writing bytes, that takes the place of `path` when it is complete.

    When the body raises, what was there stays. Raises `SaveError` like `saving`.
    """
    path = Path(path)
    with _staging(path.parent) as stage, stage.create(path.name) as file:
        yield file


def write_text(path, text, encoding="utf-8"):
    """Writes a text file in one piece: see `replacing`."""
    content = text.encode(encoding)
    with replacing(path) as file:
        file.write(content)


def complete(directory):
    """Gives the files of an interrupted save their names. Without one, does nothing.

    Raises:
        IncompleteSaveError: there is one, and the directory cannot be written; or it is of another
            user, or holds a link or other things that no save leaves.
    """
    if os.path.lexists(Path(directory) / COMMITTED):
        with suppress(FileNotFoundError), _Directory(directory) as around:
            _complete(around)


def tidy(directory):
    """Completes an interrupted save, and removes what others have left of which nothing came."""
    with _Directory(directory) as around:
        _tidy(around)


def discard(directory):
    """Removes a directory with all in it, in one stroke for whoever looks at it meanwhile."""
    directory = Path(directory)
    hidden = directory.with_name(f"{STAGE}{uuid.uuid4().hex}")
    os.rename(directory, hidden)
    with suppress(RecursionError):  # directories of strangers, a thousand deep
        shutil.rmtree(hidden, ignore_errors=True)  # what is left of it, the next save removes


def final(path):
    """The `Path` that a file in the directory of a `saving` has in the end."""
    return Path(*(part for part in Path(path).parts if not part.startswith(STAGE)))


class _Directory:
    """A directory that is held open: whatever takes the name of its path meanwhile is not touched.

    Where directories have no descriptors (Windows), its path stands for it.

    Args:
        path: its path.
        within: the `_Directory` around it, in which it must not be a link; None: by its path.
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
        """What a function of `os` returns for a name in the directory; errors tell its path."""
        try:
            return function(self._place(name), *arguments, dir_fd=self.descriptor, **options)
        except OSError as error:
            if error.filename is not None:
                error.filename = str(self.path / error.filename)
            raise

    def move(self, function, name, target, new):
        """Calls `os.rename` or `os.replace` for a name here and a new one in another directory."""
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
        """An iterator over what is in it, as `os.scandir` gives it."""
        return os.scandir(self.path if self.descriptor is None else self.descriptor)

    def create(self, name):
        """A new file in it, open for writing bytes."""

        def opened(name, flags):
            return self.call(os.open, name, flags | os.O_EXCL, 0o666)

        return open(name, "wb", opener=opened)

    def is_in(self, around):
        """Whether it still has its name in the `_Directory` around it."""
        with suppress(FileNotFoundError):
            there = around.call(os.lstat, self.path.name)
            return self.descriptor is None or os.path.samestat(there, os.fstat(self.descriptor))
        return False

    def sync(self):
        """Brings its names to the disk."""
        if self.descriptor is not None:
            os.fsync(self.descriptor)

    def sync_all(self):
        """Brings its names to the disk, and all files and directories in it."""
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

    def remove(self, around):
        """Removes it from the `_Directory` around it, with all in it, as far as that can be."""
        with suppress(OSError, RecursionError):
            with self.entries() as entries:
                inside = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
            for name, is_directory in inside:
                if is_directory:
                    with _Directory(self.path / name, self) as inner:
                        inner.remove(self)
                else:
                    self.call(os.unlink, name)
            around.call(os.rmdir, self.path.name)


@contextmanager
def _staging(directory):
    """`saving`, which gives the `_Directory` for the files."""
    directory = Path(directory).absolute()  # the body may go elsewhere
    around, made, stage = None, [], None
    try:
        made = [path for path in (directory, *directory.parents) if not path.exists()]
        directory.mkdir(parents=True, exist_ok=True)
        around = _Directory(directory)
        _tidy(around)
        stage = _make_stage(around)
        yield stage
        if not _is_of_a_save(directory):
            for path in made:
                with _Directory(path.parent) as parent:
                    parent.sync()
        _commit(stage, around)
    except BaseException as error:
        failure = _failure(error, stage, directory)
        if stage and stage.is_in(around):  # else it is committed
            stage.remove(around)
        for path in made:
            with suppress(OSError):
                path.rmdir()
        if failure is error:
            raise
        raise failure from error
    else:
        _complete(around)
    finally:
        for held in filter(None, (stage, around)):
            held.__exit__()


def _is_of_a_save(directory):
    """Whether a save goes on around a directory, at whose end all comes to the disk."""
    return final(directory) != directory


def _complete(around):
    """`complete`, of a `_Directory`."""
    while True:
        try:
            _take_names(around)
        except FileNotFoundError:  # nothing is left, or another process does the same
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
            if error.errno not in OCCUPIED:  # it is empty: nothing is missing
                return


def _has_committed(around):
    with suppress(FileNotFoundError):
        around.call(os.lstat, COMMITTED)
        return True
    return False


def _take_names(around):
    """Moves what is in the directory of a save to its names, and nothing that a link leads to."""
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
    """The names in the directory of a save, once these are known to be of one."""
    path = committed.path
    if committed.descriptor is not None:
        owner = os.fstat(committed.descriptor).st_uid
        # the owner of the directory around it may do there what he likes anyway
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
        there, ours = around.call(os.lstat, name), committed.call(os.lstat, name)
        same = os.path.samestat(there, ours)
    except FileNotFoundError:  # a new name
        same = False
    if same:  # two names of one file, of which `os.replace` would leave both
        committed.call(os.unlink, name)
    else:
        committed.move(os.replace, name, around, name)


def _tidy(around):
    """`tidy`, of a `_Directory`."""
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
    """A new `_Directory`, whose lock says that its owner lives."""
    while True:
        path = around.path / f"{STAGE}{uuid.uuid4().hex}"
        around.call(os.mkdir, path.name)
        with suppress(FileNotFoundError):  # removed before it was locked
            stage = _Directory(path, around)
            if fcntl is not None:
                with suppress(OSError):  # a file system without locks: nobody removes anything
                    fcntl.flock(stage.descriptor, fcntl.LOCK_SH)
            if stage.is_in(around):
                return stage
            stage.__exit__()


def _remove_if_abandoned(name, around):
    if fcntl is None:
        return
    with (
        suppress(OSError),  # it is locked, or no directory, or another process removes it
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
    """Gives a file of a save the permissions of the one that it replaces, or that a link leads to."""
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(around.call(os.lstat, name).st_mode):
            path = os.fspath(stage.path / name)
            raise IsADirectoryError(errno.EISDIR, "a directory has this name", path)
    old = None
    with suppress(OSError):  # a new name, or a link that leads nowhere
        old = around.call(os.stat, name).st_mode
    if old is not None and stat.S_ISREG(old):
        stage.call(os.chmod, name, old & PERMISSIONS)


def _failure(error, stage, directory):
    """What to raise for an error: where a file cannot be written, that, under its final name."""
    if not isinstance(error, OSError) or isinstance(
        error, SaveError | ConnectionError | TimeoutError
    ):
        return error
    if error.errno is None:  # not of the system: something that the body reads says so
        return error
    path = None if error.filename is None else Path(os.fsdecode(error.filename))
    if stage and path and stage.path not in (path, *path.parents):
        return error  # of something else that the body does, such as reading
    if stage and not path:  # a full disk does not say: the file that was written last
        files = stage.path.rglob("*")
        path = max(files, key=lambda path: path.lstat().st_mtime_ns, default=None)
    failure = SaveError(
        f"{final(path or directory)}: cannot be written: {error.strerror or error}. What was there "
        "before is unchanged."
    )
    failure.errno = error.errno
    return failure
