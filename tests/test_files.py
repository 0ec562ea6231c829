"""Saves interrupted at every step leave the old files or the new ones, never some of each."""

import builtins
import errno
import multiprocessing
import os
import shutil
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import chaos
import pytest

from bert4keras_lite import files
from bert4keras_lite.checkpoints import CheckpointError, open_checkpoint
from bert4keras_lite.files import SaveError, complete, discard, replacing, saving, tidy, write_text
from bert4keras_lite.tokenizers import load_tokenizer

pytestmark = pytest.mark.once

OLD = {"config.json": "old", "model.safetensors": "old" * 1000, "vocab.txt": "old"}
NEW = {"config.json": "new", "model.safetensors": "new" * 2000, "vocab.txt": "new", "more": "new"}


def save(directory, contents):
    with saving(directory) as stage:
        for name, text in contents.items():
            (stage / name).write_text(text)


def held(directory):
    """Name -> text of a directory, hidden ones as well."""
    return {path.name: path.is_file() and path.read_text() for path in directory.iterdir()}


def test_files_are_replaced_together_and_others_stay(tmp_path):
    target = tmp_path / "a" / "b"
    save(target, OLD)
    (target / "README").write_text("kept")
    save(target, NEW)
    assert held(target) == NEW | {"README": "kept"}


def test_a_save_within_a_save(tmp_path):
    save(tmp_path, OLD)
    with saving(tmp_path) as stage:
        write_text(stage / "config.json", "new")
        save(stage, {"vocab.txt": "new"})
        assert held(stage) == {"config.json": "new", "vocab.txt": "new"}
    assert held(tmp_path) == OLD | {"config.json": "new", "vocab.txt": "new"}


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt()])
def test_nothing_stays_of_a_body_that_raises(tmp_path, error):
    for target in (tmp_path / "old", tmp_path / "new" / "deep"):
        if target.name == "old":
            save(target, OLD)
        with pytest.raises(type(error)), saving(target) as stage:
            write_text(stage / "config.json", "half")
            raise error
    assert held(tmp_path / "old") == OLD
    assert not (tmp_path / "new").exists()


# every step

OPERATIONS = [
    *((os, name) for name in ("mkdir", "open", "fsync", "rename", "replace", "rmdir", "unlink")),
    (builtins, "open"),
]


class PowerCut(BaseException):
    pass


def interrupt(patch, count, make_error, lasting):
    """The operation `count` on files raises; if `lasting`, later ones. `[-1]`, or less, then."""
    left = [count]

    def wrapped(function):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] == -1 or (lasting and left[0] < 0):
                raise make_error()
            return function(*args, **kwargs)

        return call

    for module, name in OPERATIONS:
        patch.setattr(module, name, wrapped(getattr(module, name)))
    patch.setattr(shutil, "rmtree", wrapped(shutil.rmtree))
    return left


@pytest.mark.parametrize("power", [True, False], ids=["power cut", "error of the system"])
def test_the_old_or_the_new_is_whole_after_every_step(tmp_path, monkeypatch, power):
    """A power cut ends everything at one step; an error is handled by the steps after it."""
    count, finished, seen = 0, False, set()
    while not finished:
        directory = tmp_path / str(count)
        save(directory, OLD)
        with monkeypatch.context() as patch:
            error = PowerCut if power else lambda: OSError(errno.ENOSPC, "No space left on device")
            left = interrupt(patch, count, error, lasting=power)
            told = ""
            try:
                save(directory, NEW)
            except (PowerCut, SaveError) as raised:
                told = str(raised) or "power cut"
            finished = left[0] >= 0
        complete(directory)
        found = {name: text for name, text in held(directory).items() if name[0] != "."}
        assert found in (OLD, NEW)
        assert told or found == NEW
        assert "unchanged" not in told or found == OLD
        seen.add(found == NEW)
        tidy(directory)
        assert held(directory) in (OLD, NEW)
        save(directory, NEW)  # the next save works, and sweeps
        assert held(directory) == NEW
        count += 1
    assert seen == {True, False}
    assert count > 15


def test_one_file_is_the_old_or_the_new(tmp_path, monkeypatch):
    path, count, finished = tmp_path / "vocab.txt", 0, False
    while not finished:
        path.write_text("old")
        with monkeypatch.context() as patch:
            left = interrupt(patch, count, PowerCut, lasting=True)
            with suppress(PowerCut):
                write_text(path, "新", "gb18030")
            finished = left[0] >= 0
        complete(tmp_path)
        assert path.read_bytes() in (b"old", "新".encode("gb18030"))
        count += 1
    assert [path.name for path in tmp_path.iterdir()] == ["vocab.txt"]


def test_files_are_on_the_disk_before_names_change(tmp_path, monkeypatch):
    events, names = [], {}

    def opened(path, *args, function=os.open, **kwargs):
        descriptor = function(path, *args, **kwargs)
        names[descriptor] = Path(path).name
        return descriptor

    def recorded(name, function):
        def call(first, *rest, **options):
            path = names[first] if name == "fsync" else Path(first).name
            events.append((name, "stage" if path.startswith(files.STAGE) else path))
            return function(first, *rest, **options)

        return call

    monkeypatch.setattr(os, "open", opened)
    for name in ("fsync", "rename", "replace", "rmdir"):
        monkeypatch.setattr(os, name, recorded(name, getattr(os, name)))
    save(tmp_path, OLD)
    place, here = events.index(("rename", "stage")), ("fsync", tmp_path.name)
    assert set(events[:place]) == {("fsync", name) for name in [*OLD, "stage"]}
    replaced = [("replace", name) for name in sorted(OLD)]
    assert events[place + 1 :] == [here, *replaced, here, ("rmdir", files.COMMITTED)]


def test_permissions_stay(tmp_path):
    (tmp_path / "shared").write_text("old")
    (tmp_path / "shared").chmod(0o664)
    (tmp_path / "secret").write_text("old")
    (tmp_path / "secret").chmod(0o400)
    save(tmp_path, dict.fromkeys(("shared", "secret"), "new"))
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"shared": 0o664, "secret": 0o400}


def test_no_file_becomes_a_program_that_runs_as_its_owner(tmp_path):
    (tmp_path / "program").write_text("old")
    (tmp_path / "program").chmod(0o6755)
    (tmp_path / "link").symlink_to("program")
    save(tmp_path, dict.fromkeys(("link", "program"), "new"))
    assert {path.lstat().st_mode & 0o7777 for path in tmp_path.iterdir()} == {0o755}


@pytest.mark.parametrize("target", [".", "x", "/nowhere", "/dev/null"])
def test_links_that_lead_to_no_file_are_replaced(tmp_path, target):
    (tmp_path / "x").symlink_to(target)
    save(tmp_path, {"x": "new"})
    assert (tmp_path / "x").read_text() == "new" and not (tmp_path / "x").is_symlink()


def test_directories_too_deep_to_be_removed(tmp_path):
    """No exception, whatever is left: neither of what is discarded, nor in the next save."""
    deepest = tmp_path / "out" / "old"
    deepest.mkdir(parents=True)
    before = Path.cwd()
    try:
        os.chdir(deepest)
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
        os.chdir(before)
        discard(deepest)
        assert not deepest.exists()
        save(tmp_path / "out", {"x": "new"})
        assert (tmp_path / "out" / "x").read_text() == "new"
    finally:
        os.chdir(before)
        subprocess.run(["rm", "-rf", tmp_path / "out"], check=True)  # pytest could not


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path):
    (tmp_path / "blob").write_text("old")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").symlink_to(tmp_path / "blob")
    save(tmp_path / "out", {"x": "new"})
    assert (tmp_path / "blob").read_text() == "old"
    assert (tmp_path / "out" / "x").read_text() == "new"


def test_a_body_that_goes_to_another_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with saving("out") as stage:
        (stage / "x").write_text("new")
        os.chdir("elsewhere")
    assert held(tmp_path / "out") == {"x": "new"}
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_directory_is_added_but_takes_no_place(tmp_path):
    with saving(tmp_path) as stage:
        (stage / "more").mkdir()
        (stage / "more" / "x").write_text("first")
    assert (tmp_path / "more" / "x").read_text() == "first"
    with pytest.raises(SaveError, match="more: cannot be written"), saving(tmp_path) as stage:
        (stage / "more").mkdir()
    assert (tmp_path / "more" / "x").read_text() == "first"


# several at once


def save_often(directory, who, times):
    for number in range(times):
        text = f"{who}-{number}"
        save(directory, dict.fromkeys(("config.json", "model.safetensors", "vocab.txt"), text))


def test_of_savers_at_once_one_wins(tmp_path):
    fork = multiprocessing.get_context("fork")
    savers = [fork.Process(target=save_often, args=(tmp_path, i, 20)) for i in range(2)]
    savers += [threading.Thread(target=save_often, args=(tmp_path, i, 20)) for i in range(2, 4)]
    for saver in savers:
        saver.start()
    for saver in savers:
        saver.join()
    assert [saver.exitcode for saver in savers[:2]] == [0, 0]
    found = held(tmp_path)
    assert len(found) == 3
    assert len(set(found.values())) == 1
    assert found["vocab.txt"].endswith("-19")


def test_a_save_that_goes_on_is_no_stray(tmp_path):
    with saving(tmp_path) as first:
        (first / "x").write_text("first")
        save(tmp_path, {"x": "second"})
        assert first.exists()
    assert held(tmp_path) == {"x": "first"}


def test_names_are_unique_over_threads(tmp_path):
    stages, barrier = [], threading.Barrier(8)

    def begin():
        with saving(tmp_path) as stage:
            stages.append(stage)
            barrier.wait()  # all are open at the same time

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(stages)) == 8


# what others left


def test_strays_are_removed(tmp_path):
    for name in (".saving-0", ".saving-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_text("half")
    ours = [
        "model.safetensors.17.tmp", "checkpoint.1.tmp", "bert_model.ckpt.index.4.tmp",
        "bert_model.ckpt.data-00000-of-00001.43.tmp",
    ]  # fmt: skip
    theirs = ["notes.17.tmp", "model.safetensors.tmp", ".saved.txt", "my.saving-1"]
    for name in ours + theirs:
        (tmp_path / name).write_text("x")
    save(tmp_path, OLD)
    assert held(tmp_path).keys() == {*OLD, *theirs}


def test_a_directory_is_discarded_in_one_stroke(tmp_path, monkeypatch):
    (tmp_path / "step").mkdir()
    (tmp_path / "step" / "x").write_text("x")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        discard(tmp_path / "step")
    assert not (tmp_path / "step").exists()
    tidy(tmp_path)
    assert held(tmp_path) == {}


# what cannot be


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path):
    save(tmp_path, OLD)
    with pytest.raises(SaveError) as raised, saving(tmp_path) as stage:
        (stage / "config.json").write_text("new")
        os.utime(stage / "config.json", (0, 0))
        (stage / "model.safetensors").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(raised.value) == (
        f"{tmp_path / 'model.safetensors'}: cannot be written: No space left on device. What was "
        "there before is unchanged."
    )
    assert raised.value.errno == errno.ENOSPC
    assert held(tmp_path) == OLD


def test_errors_of_reading_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"), saving(tmp_path):
        Path("nowhere").read_text()


def test_names_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(SaveError, match=r"file: cannot be written: (File exists|Not a directory)"):
        save(tmp_path / "file", NEW)
    with pytest.raises(SaveError, match="cannot be written: Not a directory"):
        save(tmp_path / "file" / "deeper", NEW)
    (tmp_path / "out" / "config.json").mkdir(parents=True)
    with pytest.raises(SaveError, match=r"out.config.json: cannot be written: a directory has"):
        save(tmp_path / "out", NEW)
    assert held(tmp_path / "out") == {"config.json": False}
    with (
        pytest.raises(SaveError, match="file: cannot be written"),
        replacing(tmp_path / "file" / "x"),
    ):
        pass


def test_an_interrupted_save_that_cannot_be_completed_is_told(tmp_path, monkeypatch):
    (tmp_path / files.COMMITTED).mkdir()
    (tmp_path / files.COMMITTED / "config.json").write_text("new")

    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", read_only)
        with pytest.raises(SaveError, match=r"was interrupted.*Read-only file system"):
            complete(tmp_path)
    complete(tmp_path)
    assert held(tmp_path) == {"config.json": "new"}


def test_a_reader_does_not_mind_an_empty_rest(tmp_path, monkeypatch):
    """As a kill leaves it between the last file and the end, where one may only read."""
    (tmp_path / files.COMMITTED).mkdir()

    def refused(path, **_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "rmdir", refused)
    files.complete(tmp_path)


def test_a_save_that_cannot_be_completed_says_so(tmp_path):
    """It was tried for ever where a directory stood in the way."""
    for directory in (tmp_path / files.COMMITTED / "sub", tmp_path / "sub"):
        directory.mkdir(parents=True)
        (directory / "x").write_text("x")
    with pytest.raises(files.SaveError, match="cannot be completed"):
        files.complete(tmp_path)


def test_an_error_of_the_body_is_its_own(tmp_path):
    for error in (OSError("remote"), ConnectionResetError(errno.ECONNRESET, "reset")):
        with pytest.raises(type(error), match=r"^remote$|reset"), files.saving(tmp_path):
            raise error


# what strangers left


def committed_in(directory):
    """The directory of an interrupted save, in a new directory."""
    committed = directory / files.COMMITTED
    committed.mkdir(parents=True)
    return committed


def test_a_link_to_another_directory_is_not_followed(tmp_path):
    """Its files would move to the stranger's directory."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "key").write_text("secret")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / files.COMMITTED).symlink_to(tmp_path / "mine")
    for act in (complete, tidy, lambda directory: save(directory, NEW)):
        with pytest.raises(SaveError, match=r"lite: expected the directory .* got a link or a fi"):
            act(tmp_path / "out")
    assert held(tmp_path / "mine") == {"key": "secret"}


def test_a_link_that_takes_the_place_of_a_save_meanwhile(tmp_path, monkeypatch):
    committed, mine = committed_in(tmp_path / "out"), tmp_path / "mine"
    mine.mkdir()
    (mine / "key").write_text("secret")

    def opened(path, *args, function=os.open, **options):
        if Path(path).name == committed.name and not committed.is_symlink():
            committed.rmdir()
            committed.symlink_to(mine)
        return function(path, *args, **options)

    monkeypatch.setattr(os, "open", opened)
    with pytest.raises(SaveError, match=r"out: a save was interrupted .* Not a directory"):
        complete(tmp_path / "out")
    assert held(mine) == {"key": "secret"}


def swap(directory, mine):
    """What the owner of a directory may do at any moment: another takes its name."""
    directory.rename(directory.with_name("swapped"))
    directory.symlink_to(mine)


@pytest.mark.parametrize("moment", [1, 2])
def test_a_directory_that_a_link_replaces_meanwhile(tmp_path, monkeypatch, moment):
    """While a save in it is completed: its files went into the directory of the link."""
    out, mine = tmp_path / "out", tmp_path / "mine"
    committed = committed_in(out)
    for name in ("key", "note"):
        (committed / name).write_text("strange")
    mine.mkdir()
    (mine / "key").write_text("secret")
    calls = []

    def replace(name, *args, function=os.replace, **options):
        calls.append(name)
        if len(calls) == moment:
            swap(out, mine)
        return function(name, *args, **options)

    monkeypatch.setattr(os, "replace", replace)
    complete(out)
    assert len(calls) == 2
    assert held(mine) == {"key": "secret"}
    assert held(tmp_path / "swapped").items() >= {"key": "strange", "note": "strange"}.items()


def test_a_stage_that_a_link_replaces_meanwhile(tmp_path):
    """Files in the directory of the link got other permissions."""
    out, mine = tmp_path / "out", tmp_path / "mine"
    for directory, mode in ((out, 0o666), (mine, 0o600)):
        directory.mkdir()
        (directory / "key").write_text("secret")
        (directory / "key").chmod(mode)
    message = r"out: .* another process took \.saving-\w+ away\. Save"
    with pytest.raises(SaveError, match=message), saving(out) as stage:
        (stage / "key").write_text("new")
        swap(stage, mine)
    assert (mine / "key").stat().st_mode & 0o777 == 0o600
    assert held(mine) == {"key": "secret"}
    assert (out / "key").read_text() == "secret"


def test_one_file_that_is_written_while_its_directory_is_replaced(tmp_path, monkeypatch):
    """It was written to where a link in place of its stage led."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "key").write_text("secret")
    (tmp_path / "out").mkdir()

    def opened(path, *args, function=builtins.open, **options):
        for stage in (tmp_path / "out").glob(f"{files.STAGE}*"):
            swap(stage, mine)
        return function(path, *args, **options)

    monkeypatch.setattr(builtins, "open", opened)
    with pytest.raises(SaveError, match="away"):
        write_text(tmp_path / "out" / "key", "new")
    monkeypatch.undo()
    assert held(mine) == {"key": "secret"}


def make_link(path):
    path.symlink_to("/etc/passwd")


def make_dangling_link(path):
    path.symlink_to("nowhere")


@pytest.mark.parametrize("make", [make_link, make_dangling_link, os.mkfifo])
def test_only_files_and_directories_take_names(tmp_path, make):
    make(committed_in(tmp_path) / "vocab.txt")
    with pytest.raises(SaveError, match=r"got a link, a pipe or a device: 'vocab\.txt'\. Remove"):
        complete(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [files.COMMITTED]


def test_two_names_of_one_file(tmp_path):
    """To rename one to the other does nothing: it was tried for ever."""
    committed = committed_in(tmp_path)
    (tmp_path / "vocab.txt").write_text("new")
    os.link(tmp_path / "vocab.txt", committed / "vocab.txt")
    (committed / "config.json").write_text("new")
    complete(tmp_path)
    assert held(tmp_path) == {"vocab.txt": "new", "config.json": "new"}


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo])
def test_what_is_no_save(tmp_path, make):
    make(tmp_path / files.COMMITTED)
    with pytest.raises(SaveError, match=r"lite: expected the directory .* a file\. Remove it\."):
        complete(tmp_path)


def test_too_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST", 2)
    committed = committed_in(tmp_path)
    for name in "abc":
        (committed / name).touch()
    with pytest.raises(SaveError, match="expected at most 2 files"):
        complete(tmp_path)
    (committed / "a").unlink()
    complete(tmp_path)
    assert sorted(held(tmp_path)) == ["b", "c"]


@pytest.mark.parametrize(
    ("around", "save", "done"), [(0, 1, False), (1, 1, True), (1, 0, True), (1, 2, False)]
)
def test_saves_of_another_user_are_left_alone(tmp_path, monkeypatch, around, save, done):
    """Only those of oneself (0), and of whoever has the directory, are completed."""
    (committed_in(tmp_path) / "vocab.txt").write_text("new")
    users = {tmp_path / files.COMMITTED: save, tmp_path: around}
    inodes = {path.stat().st_ino: user for path, user in users.items()}

    def owned(function):
        def call(*args, **options):
            values = [*function(*args, **options)]
            values[4] = inodes.get(values[1], 0)
            return os.stat_result(values)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 0)
        for name in ("fstat", "stat"):
            patch.setattr(os, name, owned(getattr(os, name)))
        if done:
            complete(tmp_path)
        else:
            with pytest.raises(SaveError, match=f"save of another user, {save}. Let that user"):
                complete(tmp_path)
    assert held(tmp_path).keys() == {"vocab.txt" if done else files.COMMITTED}


def test_strays_that_are_no_directories(tmp_path):
    """A pipe was waited for."""
    os.mkfifo(tmp_path / ".saving-0")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("kept")
    (tmp_path / ".saving-1").symlink_to(tmp_path / "mine")
    (tmp_path / "checkpoint.1.tmp").mkdir()
    save(tmp_path, {"vocab.txt": "new"})
    assert (tmp_path / "vocab.txt").read_text() == "new"
    assert held(tmp_path / "mine") == {"x": "kept"}


def read_model(directory):
    from bert4keras_lite.loading import load_model

    return load_model(directory)


def build_model(directory):
    from bert4keras_lite.models import build_transformer_model

    return build_transformer_model(directory)


@pytest.mark.parametrize(
    ("read", "error"),
    [
        (load_tokenizer, ValueError),
        (build_model, ValueError),
        (read_model, ValueError),
        (open_checkpoint, CheckpointError),
    ],
)
def test_readers_give_their_own_error(tmp_path, read, error):
    (committed_in(tmp_path) / "vocab.txt").write_text("new")
    (tmp_path / "vocab.txt").mkdir()
    with pytest.raises(error, match=r"vocab\.txt: a save was interrupted .* no directory has the"):
        read(tmp_path)


@pytest.mark.parametrize("format", chaos.FORMATS)
def test_make_chaos_can_save_what_it_kills(format, tmp_path):
    saved = chaos.Saved("A", 60)
    saved.save(tmp_path, format)
    assert saved.differences(tmp_path, format) == []
    assert chaos.Saved("B", 70).differences(tmp_path, format) != []
