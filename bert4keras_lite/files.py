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
another user is not completed.

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
    directory = Path(directory).absolute()  # the body may go elsewhere
    made, stage, lock = [], None, None
    try:
        made = [path for path in (directory, *directory.parents) if not path.exists()]
        directory.mkdir(parents=True, exist_ok=True)
        tidy(directory)
        stage, lock = _make_stage(directory)
        yield stage
        for path in made:
            _sync(path.parent, directory)
        _commit(stage, directory)
    except BaseException as error:
        failure = _failure(error, stage, directory)
        if stage:
            shutil.rmtree(stage, ignore_errors=True)
        for path in made:
            with suppress(OSError):
                path.rmdir()
        if failure is error:
            raise
        raise failure from error
    finally:
        if lock is not None:
            os.close(lock)
    complete(directory)


@contextmanager
def replacing(path):
    """A file, open for writing bytes, that takes the place of `path` when it is complete.

    When the body raises, what was there stays. Raises `SaveError` like `saving`.
    """
    path = Path(path)
    with saving(path.parent) as stage, open(stage / path.name, "wb") as file:
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
    directory = Path(directory)
    committed = directory / COMMITTED
    while os.path.lexists(committed):
        try:
            _take_names(committed, directory)
        except FileNotFoundError:  # another process does the same
            continue
        except IncompleteSaveError:
            raise
        except OSError as error:
            raise IncompleteSaveError(
                f"{error.filename2 or directory}: a save was interrupted while its files took their "
                f"names, and cannot be completed: {error.strerror or error}. Open the directory "
                "once where it can be written, and no directory has the name of a file."
            ) from error
        try:
            committed.rmdir()
        except OSError as error:
            if error.errno not in OCCUPIED:  # it is empty: nothing is missing
                return


def _take_names(committed, directory):
    """Moves what is in the directory of a save to its names, and nothing that a link leads to."""
    if not stat.S_ISDIR(os.lstat(committed).st_mode):
        raise IncompleteSaveError(
            f"{committed}: expected the directory of an interrupted save, got a link or a file. "
            "Remove it."
        )
    source = None
    if os.name == "posix":  # held open, whatever takes its name meanwhile
        source = os.open(committed, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        names = _names_to_take(committed, source)
        if names:
            _sync(directory, directory)
            for name in names:
                _take_name(name, committed, source, directory)
            _sync(directory, directory)
    finally:
        if source is not None:
            os.close(source)


def _names_to_take(committed, source):
    """The names in the directory of a save, once these are known to be of one.

    Args:
        source: the descriptor of the directory, or None where there are no such.
    """
    if source is not None:
        owner = os.fstat(source).st_uid
        # the owner of the directory around it may do there what he likes anyway
        if owner not in (os.geteuid(), os.stat(committed.parent).st_uid):
            raise IncompleteSaveError(
                f"{committed}: was left by an interrupted save of another user, {owner}. Let that "
                "user open the directory, or remove it."
            )
    names = []
    with os.scandir(committed if source is None else source) as entries:
        for entry in islice(entries, MOST + 1):
            if not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
                raise IncompleteSaveError(
                    f"{committed}: expected files of an interrupted save, got a link, a pipe or a "
                    f"device: {entry.name!r:.200}. Remove it."
                )
            names.append(entry.name)
    if len(names) > MOST:
        raise IncompleteSaveError(
            f"{committed}: expected at most {MOST} files of an interrupted save, got more. "
            "Remove it."
        )
    return sorted(names)


def _take_name(name, committed, source, directory):
    path, target = name if source is not None else committed / name, directory / name
    try:
        same = os.path.samestat(os.lstat(target), os.stat(path, dir_fd=source))
    except FileNotFoundError:  # a new name
        same = False
    if same:  # two names of one file, of which `os.replace` would leave both
        os.unlink(path, dir_fd=source)
    else:
        os.replace(path, target, src_dir_fd=source)


def tidy(directory):
    """Completes an interrupted save, and removes what others have left of which nothing came."""
    complete(directory)
    for path in list(Path(directory).iterdir()):
        if path.name.startswith(STAGE):
            _remove_if_abandoned(path)
        elif OLD_STRAY.fullmatch(path.name):
            with suppress(OSError):  # it is a directory, or another process removes it
                path.unlink()


def discard(directory):
    """Removes a directory with all in it, in one stroke for whoever looks at it meanwhile."""
    directory = Path(directory)
    hidden = directory.with_name(f"{STAGE}{uuid.uuid4().hex}")
    os.rename(directory, hidden)
    shutil.rmtree(hidden, ignore_errors=True)  # what is left of it, the next save removes


def final(path):
    """The `Path` that a file in the directory of a `saving` has in the end."""
    return Path(*(part for part in Path(path).parts if not part.startswith(STAGE)))


def _sync(path, directory):
    """Brings a file to the disk, or the names in a directory, for a save in `directory`.

    A save within a save waits for that one's end.
    """
    if final(directory) != directory:
        return
    if os.name == "posix" or path.is_file():  # elsewhere a directory cannot be opened
        descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _make_stage(directory):
    """A new directory, and the descriptor whose lock says that its owner lives."""
    while True:
        stage = directory / f"{STAGE}{uuid.uuid4().hex}"
        stage.mkdir()
        if fcntl is None:
            return stage, None
        with suppress(FileNotFoundError):  # removed before it was locked
            lock = os.open(stage, os.O_RDONLY)
            with suppress(OSError):  # a file system without locks: nobody removes anything there
                fcntl.flock(lock, fcntl.LOCK_SH)
            if stage.exists():
                return stage, lock
            os.close(lock)


def _remove_if_abandoned(stage):
    if fcntl is None:
        return
    with suppress(OSError):  # it is locked, or no directory, or another process removes it
        lock = os.open(stage, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(stage, ignore_errors=True)
        finally:
            os.close(lock)


def _commit(stage, directory):
    for path in list(stage.iterdir()):
        old = directory / path.name
        if old.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a directory has this name", str(path))
        with suppress(FileNotFoundError):
            shutil.copymode(old, path)
    for path in (*stage.rglob("*"), stage):
        _sync(path, directory)
    while True:
        try:
            os.rename(stage, directory / COMMITTED)
            break
        except OSError as error:
            if error.errno not in OCCUPIED:
                raise
            complete(directory)


def _failure(error, stage, directory):
    """What to raise for an error: where a file cannot be written, that, under its final name."""
    if not isinstance(error, OSError) or isinstance(
        error, SaveError | ConnectionError | TimeoutError
    ):
        return error
    if error.errno is None:  # not of the system: something that the body reads says so
        return error
    path = None if error.filename is None else Path(os.fsdecode(error.filename))
    if stage and path and stage not in (path, *path.parents):
        return error  # of something else that the body does, such as reading
    if stage and not path:  # a full disk does not say: the file that was written last
        path = max(stage.rglob("*"), key=lambda path: path.stat().st_mtime_ns, default=None)
    failure = SaveError(
        f"{final(path or directory)}: cannot be written: {error.strerror or error}. What was there "
        "before is unchanged."
    )
    failure.errno = error.errno
    return failure
