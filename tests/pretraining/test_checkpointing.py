"""Training that is interrupted comes out as if it had not been."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import interrupted_training as interrupted
import keras
import numpy as np
import pytest
from interrupted_training import STEPS, batch, batches, make_model, values

from bert4keras_lite.checkpoints import CheckpointError, save_checkpoint
from bert4keras_lite.files import COMMITTED
from bert4keras_lite.optimizers import LossScaleOptimizer
from pretraining import checkpointing
from pretraining.checkpointing import Checkpoints, NonFinite, StopOnSignal

BACKEND = keras.backend.backend()
SCRIPT = interrupted.__file__
ENVIRONMENT = os.environ | {"KERAS_BACKEND": BACKEND, "CUDA_VISIBLE_DEVICES": ""}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def start(directory, *arguments):
    command = [sys.executable, SCRIPT, str(directory), *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)


def wait_for(process, *lines):
    """Until all of them are printed, in any order."""
    missing = set(lines)
    while missing:
        found = process.stdout.readline()
        assert found, f"{missing} never came; exit code {process.wait()}"
        missing.discard(found.rstrip())


def kill(process, number=signal.SIGKILL):
    process.send_signal(number)
    process.stdout.read()
    return process.wait()


def losses(directory):
    """Step -> loss, as text; a step that was trained twice had the same loss."""
    lines = (Path(directory) / "losses.jsonl").read_text().splitlines()
    found = {}
    for step, loss in map(json.loads, lines):
        assert found.setdefault(step, repr(loss)) == repr(loss), step
    return found


@pytest.fixture(scope="module")
def compiled():
    """A model, which compiles its step once for all tests, and its first values."""
    model = make_model()
    return model, values(model)


@pytest.fixture
def model(compiled):
    model, first = compiled
    for name, variable in checkpointing.variables_of(model).items():
        variable.assign(np.array(first[name]))
    return model


@pytest.mark.long
def test_killed_and_restarted(tmp_path, model):
    expected = values(interrupted.train(model, tmp_path / "straight"))
    chance = random.Random(BACKEND)
    stuck = chance.choice([4, 6, 8, 10, 12])
    # in the middle of a write, while training goes on
    process = start(tmp_path, stuck)
    wait_for(process, "writing in checkpoints_0", f"step {stuck + 1}")
    time.sleep(chance.random() / 20)
    assert kill(process) == -signal.SIGKILL
    assert list((tmp_path / f"step-{stuck:08d}").glob(".saving-*"))
    # asked to leave, twice
    process = start(tmp_path)
    wait_for(process, "step 15")
    process.send_signal(signal.SIGTERM)
    assert kill(process, signal.SIGTERM) == 143
    assert 15 <= Checkpoints(tmp_path).steps()[-1] == max(losses(tmp_path)) < STEPS
    last = values(interrupted.train(model, tmp_path))
    found = losses(tmp_path)
    assert_same(last, expected)
    assert found == losses(tmp_path / "straight")
    assert list(found) == list(range(1, STEPS + 1))
    assert "nan" in found.values()


def test_saved_in_an_epoch(tmp_path, model):
    checkpoints = Checkpoints(tmp_path, keep=9)
    save = checkpoints.callback(3)
    model.fit(batches(0), epochs=2, steps_per_epoch=5, callbacks=[save], verbose=0)
    assert checkpoints.steps() == [3, 6, 9, 10]
    metrics = json.loads((checkpoints.path(3) / checkpointing.STATE).read_text())["metrics"]
    assert metrics["loss"] > 0
    straight = values(model)
    for step in (3, 6):
        assert checkpoints.restore(model, step) == step
        # in two parts, as the rest of an epoch and the others would be
        for first in (step, step + 2):
            last = step + 2 if first == step else 10
            save = checkpoints.callback(99)
            model.fit(batches(first), steps_per_epoch=last - first, callbacks=[save], verbose=0)
        assert_same(values(model), straight)


def test_the_metrics_of_an_epoch_go_on(tmp_path, model):
    checkpoints = Checkpoints(tmp_path, keep=9)
    fit = {"verbose": 0, "callbacks": [checkpoints.callback(4)]}
    whole = model.fit(batches(0), steps_per_epoch=6, **fit).history["loss"]
    assert checkpoints.restore(model, 6) == 6 and checkpoints.metrics == {}  # the epoch had ended
    assert checkpoints.restore(model, 4) == 4
    assert model.fit(batches(4), steps_per_epoch=2, **fit).history["loss"] == whole
    with pytest.warns(UserWarning, match=r"other metrics.* got metrics/0/sum"):
        checkpointing.set_metrics(model, {"metrics/0/sum": np.zeros(())})


def test_what_earlier_versions_left(tmp_path):
    for name in (".tmp-step-00000001", ".old-step-00000002", ".old-step-00000003", "step-00000003"):
        (tmp_path / name).mkdir()
        (tmp_path / name / checkpointing.STATE).write_text(name)
    (tmp_path / "step-00000004" / ".saving-0").mkdir(parents=True)
    assert Checkpoints(tmp_path).steps() == [2, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
    assert (tmp_path / "step-00000003" / checkpointing.STATE).read_text() == "step-00000003"


def small_model(**options):
    model = make_model(units=2, **options)
    checkpointing.variables_of(model)
    return model


OPERATIONS = ["fsync", "rename", "replace", "mkdir", "rmdir", "unlink"]


def write_until(checkpoints, contents, count):
    """In a child: writes, and dies before the operation `count` on files, if it comes so far."""
    child = os.fork()
    if child == 0:
        left = [count]

        def dying(function):
            def call(*args, **kwargs):
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)
                return function(*args, **kwargs)

            return call

        for name in OPERATIONS:
            setattr(os, name, dying(getattr(os, name)))
        code = 1
        try:
            checkpoints._write(*contents)
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


@pytest.mark.filterwarnings("ignore:.*fork")
@pytest.mark.parametrize("step", [3, 2])
def test_killed_between_any_two_operations(tmp_path, step):
    """While a third checkpoint replaces the first, or the last is written again."""

    def contents(step, value=None):
        arrays = {"model/x": np.full(1000, value or step, "float32")}
        return {"step": step, "metrics": {}}, arrays

    def held(checkpoints):
        return {step: checkpoints._read(step)["model/x"].read()[0] for step in checkpoints.steps()}

    count, killed, seen = 0, True, set()
    while killed:
        directory = tmp_path / str(count)
        checkpoints = Checkpoints(directory, keep=2, asynchronous=False)
        for old in (1, 2):
            checkpoints._write(*contents(old))
        killed = write_until(checkpoints, contents(step, 7), count)
        found = held(Checkpoints(directory, keep=2))
        assert found in ({1: 1, 2: 2}, {2: 2, 3: 7}, {1: 1, 2: 2, 3: 7}, {1: 1, 2: 7})
        assert not list(directory.glob(".*"))
        seen.add(max(found.values()))
        count += 1
    assert count > 8
    assert seen == {2, 7}


def test_the_last_and_the_best_stay(tmp_path):
    model = small_model()
    for best, direction, kept in (
        (None, "min", [5, 6]),
        ("loss", "min", [2, 5, 6]),
        ("loss", "max", [1, 5, 6]),
    ):
        checkpoints = Checkpoints(tmp_path / f"{best}-{direction}", 2, best, direction)
        for step, loss in enumerate([3.0, 0.5, float("nan"), 1.0, 2.0, 0.7], 1):
            checkpoints.save(step, model, {"loss": loss})
        checkpoints.wait()
        assert checkpoints.steps() == kept
        assert checkpoints.best_step() == (None if best is None else kept[0])
    with pytest.raises(ValueError, match=r"lost.*loss"):
        Checkpoints(tmp_path, best="lost").save(7, model, {"loss": 1.0})


def damage_size(path):
    os.truncate(path / checkpointing.VARIABLES, 100)


def damage_bit(path):
    content = bytearray((path / checkpointing.VARIABLES).read_bytes())
    content[-1] ^= 1
    (path / checkpointing.VARIABLES).write_bytes(content)


DAMAGES = {
    "size": damage_size,
    "crc32c": damage_bit,
    "variables.safetensors: is missing": lambda path: (path / checkpointing.VARIABLES).unlink(),
    "state.json: is missing": lambda path: (path / checkpointing.STATE).unlink(),
    "state.json: is damaged": lambda path: os.truncate(path / checkpointing.STATE, 20),
}


@pytest.mark.parametrize("told", DAMAGES)
def test_the_one_before_a_damaged_one(tmp_path, told):
    model, checkpoints = small_model(), Checkpoints(tmp_path)
    for step in (1, 2):
        model.weights[0].assign(np.full(model.weights[0].shape, step))
        checkpoints.save(step, model)
    checkpoints.wait()
    DAMAGES[told](checkpoints.path(2))
    with pytest.warns(UserWarning, match=f"step-00000002.*{told}.*from step 1"):
        assert checkpoints.restore(model) == 1
    assert (values(model)["model/token_embedding/embeddings"] == 1).all()
    DAMAGES[told](checkpoints.path(1))
    with pytest.raises(CheckpointError, match=rf"{told}.*\n.*{told}.*empty"):
        checkpoints.restore(model)
    with pytest.raises(CheckpointError, match=rf"{told}[^;]*There are .* \[1, 2\]"):
        checkpoints.restore(model, 1)
    checkpoints.save(2, model)  # takes the place of what was damaged
    assert checkpoints.restore(model) == 2


FILES = {checkpointing.VARIABLES: {"size": 10, "crc32c": "00000000"}}


@pytest.mark.once
@pytest.mark.parametrize(
    ("changed", "told"),
    [
        *[({"metrics": value}, "metrics") for value in (None, [], {"loss": "1"}, {"loss": True})],
        ({"metrics": {"loss": 10**400}}, "metrics"),
        *[({"files": value}, "files") for value in (None, [], {}, {checkpointing.VARIABLES: []})],
        *[({"files": {checkpointing.VARIABLES: value}}, "files") for value in ({}, {"size": 10})],
        ({"files": {checkpointing.VARIABLES: {"size": "10", "crc32c": "00000000"}}}, "files"),
        (
            {"files": {checkpointing.VARIABLES: {"size": 10, "crc32c": "00000000", "sha": ""}}},
            "files",
        ),
        *[({"step": value}, "step") for value in (None, "2", 2.0, True, 500)],
        ({"backend": 5}, "backend"),
        ({"keras": []}, "keras"),
    ],
)
def test_a_state_with_other_values_is_damaged(tmp_path, changed, told):
    model, checkpoints = small_model(), Checkpoints(tmp_path, best="loss")
    checkpoints.path(2).mkdir()
    (checkpoints.path(2) / checkpointing.VARIABLES).write_bytes(b"0123456789")
    content = {"step": 2, "metrics": {"loss": 1.0}, "files": FILES}
    content |= {"backend": "jax", "keras": "3.0.0", **changed}
    (checkpoints.path(2) / checkpointing.STATE).write_text(json.dumps(content))
    assert checkpoints.best_step() is None
    with pytest.raises(CheckpointError, match=rf"state\.json: is damaged \({told}: expected"):
        checkpoints.restore(model)


@pytest.mark.once
@pytest.mark.parametrize("content", ["[]", "3", "[" * 5000, '{"metrics": {"a": 1, "a": 2}}'])
def test_a_state_of_another_kind_is_damaged(tmp_path, content):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.path(2).mkdir()
    (checkpoints.path(2) / checkpointing.STATE).write_text(content)
    with pytest.raises(CheckpointError, match=r"state\.json: is damaged"):
        checkpoints.restore(small_model())


@pytest.mark.once
@pytest.mark.parametrize(
    "header", [b"[]", b'{"a": {}}', b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}']
)
def test_variables_with_the_right_checksum_and_another_header(tmp_path, header):
    model, checkpoints = small_model(), Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, model)
    checkpoints.wait()
    variables, state = (
        checkpoints.path(2) / name for name in (checkpointing.VARIABLES, checkpointing.STATE)
    )
    variables.write_bytes(len(header).to_bytes(8, "little") + header)
    content = json.loads(state.read_text())
    content["files"] = {variables.name: checkpointing.fingerprint(variables)}
    state.write_text(json.dumps(content))
    with pytest.warns(UserWarning, match=r"variables\.safetensors: damaged .*from step 1"):
        assert checkpoints.restore(model) == 1


@pytest.mark.once
@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
@pytest.mark.parametrize("name", [checkpointing.STATE, checkpointing.VARIABLES])
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_not_waited_for(tmp_path, name, make):
    model, checkpoints = small_model(), Checkpoints(tmp_path)
    checkpoints.save(2, model)
    checkpoints.wait()
    (checkpoints.path(2) / name).unlink()
    make(checkpoints.path(2) / name)
    with pytest.raises(CheckpointError, match=rf"{name}: is damaged .*expected a file"):
        checkpoints.restore(model)


@pytest.mark.once
def test_other_things_beside_checkpoints(tmp_path):
    (tmp_path / "step-00000003").write_bytes(b"a file")
    (tmp_path / "step-00000004.tar").write_bytes(b"a file")
    (tmp_path / "step-000000005").mkdir()
    (tmp_path / "step-000000005" / "a").write_bytes(b"a number with nine digits")
    model, checkpoints = small_model(), Checkpoints(tmp_path, keep=1)
    assert checkpoints.steps() == []
    checkpoints.save(6, model)
    checkpoints.wait()
    assert checkpoints.restore(model) == 6


@pytest.mark.once
@pytest.mark.parametrize("name", ["step-00000001", ".old-step-00000001", ".tmp-step-00000001-a"])
@pytest.mark.parametrize("content", [[], ["kept"], [".saving-1/kept"], [f"{COMMITTED}/kept"]])
def test_links_lead_nowhere(tmp_path, name, content):
    """Nothing is written, moved or deleted outside of the directory."""
    for other in map((tmp_path / "other").joinpath, content):
        other.parent.mkdir(parents=True)
        other.write_bytes(b"a file")
    (tmp_path / "other").mkdir(exist_ok=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "other")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(
        CheckpointError, match=rf"{re.escape(name)}: is a link; expected a directory"
    ):
        Checkpoints(tmp_path / "run")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("step", [1, 2])
def test_a_link_that_comes_while_it_trains(tmp_path, step):
    """In place of the checkpoint that is written, and of one that is removed."""
    model, checkpoints = small_model(), Checkpoints(tmp_path / "run", keep=1, asynchronous=False)
    checkpoints.save(1, model)
    files = [*checkpoints.path(1).iterdir()]
    checkpoints.path(1).rename(tmp_path / "other")
    checkpoints.path(1).symlink_to(tmp_path / "other")
    with pytest.raises(CheckpointError, match="step-00000001: is a link"):
        checkpoints.save(step, model)
    assert len([*(tmp_path / "other").iterdir()]) == len(files)


def test_going_back(tmp_path):
    """What is saved on the new course stays, whatever there is of the old one."""
    model, checkpoints = small_model(), Checkpoints(tmp_path, keep=1)
    for step in (5, 9):
        checkpoints.save(step, model)
        checkpoints.wait()
    DAMAGES["size"](checkpoints.path(9))
    for step in (6, 7):
        checkpoints.save(step, model)
    checkpoints.wait()
    assert checkpoints.steps() == [7, 9]
    with pytest.warns(UserWarning, match="from step 7"):
        assert checkpoints.restore(model) == 7


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"units": 3}, [r"! model/dense/kernel: float32\[2, 2\], the model has float32\[3, 3\]"]),
        ({"ema_momentum": None}, [r"\+ optimizer/dense_kernel_average float32\[2, 2\]: left over"]),
        ({"amsgrad": True}, [r"- optimizer/dense_kernel_velocity_hat float32\[2, 2\]: missing"]),
    ],
)
def test_another_model_changes_nothing(tmp_path, change, told):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, small_model())
    other = small_model(**change) if "units" not in change else make_model(**change)
    before = values(other)
    with pytest.raises(CheckpointError) as error:
        checkpoints.restore(other)
    for line in told:
        assert re.search(line, str(error.value))
    assert_same(values(other), before)


def test_names_and_checksums_of_strangers_are_told_in_short(tmp_path):
    """Control characters as escapes, values cut at 200 characters, no more than 40 differences."""
    checkpoints, model = Checkpoints(tmp_path, asynchronous=False), small_model()
    checkpoints.save(1, model)
    variables, described = (
        checkpoints.path(1) / checkpointing.VARIABLES,
        checkpoints.path(1) / checkpointing.STATE,
    )
    content = json.loads(described.read_text())

    def told(**changes):
        content["files"][checkpointing.VARIABLES] = checkpointing.fingerprint(variables) | changes
        described.write_text(json.dumps(content))
        with pytest.raises(CheckpointError) as error:
            checkpoints.restore(model, 1)
        assert "\x1b" not in str(error.value)
        return str(error.value)

    assert len(told(crc32c="\x1b[31m" + "x" * 1_000_000)) < 1000
    names = [f"\x1b[31m{'y' * 500}{i}" for i in range(100)]
    arrays = {name: np.zeros(1, "float32") for name in names}
    save_checkpoint(variables, arrays, format="safetensors")
    assert re.search(r"\n- model.* missing\n(.*\n)*\.\.\. and \d+ more\n", told())
    assert len(told()) < 40 * 300


@pytest.mark.skipif(BACKEND != "torch", reason="other backends have no random state of their own")
def test_damaged_random_state_changes_nothing(tmp_path, monkeypatch):
    checkpoints, found = Checkpoints(tmp_path, asynchronous=False), checkpointing.random_state()
    wrong = {name: np.full_like(array, 255) for name, array in found.items()}
    with monkeypatch.context() as changed:
        changed.setattr(checkpointing, "random_state", lambda: wrong)
        checkpoints.save(1, small_model())
    other = small_model()
    before, random_before = values(other), checkpointing.random_state()
    with pytest.raises(
        CheckpointError, match=r"step-00000001: is damaged \(states of random numbers"
    ):
        checkpoints.restore(other)
    assert_same(values(other), before)
    assert_same(checkpointing.random_state(), random_before)


def test_names_do_not_depend_on_what_was_made_before(tmp_path):
    names = [list(checkpointing.variables_of(small_model())) for _ in range(2)]
    assert names[0] == names[1]
    seeds = [name for name in names[0] if "seed" in name]
    assert len(seeds) == 2
    assert "optimizer/iteration" in names[0]


def test_saving_copies_before_it_returns(tmp_path, monkeypatch, model):
    """Later steps, which may write to the same memory, change nothing in what is being saved."""
    checkpoints = Checkpoints(tmp_path)
    started, go_on = threading.Event(), threading.Event()
    write = checkpointing.save_checkpoint

    def slow(*args, **kwargs):
        started.set()
        assert go_on.wait(60)
        write(*args, **kwargs)

    monkeypatch.setattr(checkpointing, "save_checkpoint", slow)
    expected = values(model)
    checkpoints.save(0, model)
    assert started.wait(60)
    model.fit(batches(0), steps_per_epoch=3, verbose=0)
    assert checkpoints.steps() == []
    second = threading.Thread(target=checkpoints.save, args=(3, model))
    second.start()
    second.join(0.2)
    assert second.is_alive()  # one write at a time
    go_on.set()
    second.join(60)
    checkpoints.wait()
    assert checkpoints.steps() == [0, 3]
    checkpoints.restore(model, 0)
    assert_same(values(model), expected)


@pytest.mark.parametrize("how", ["save", "wait"])
def test_errors_of_the_thread_surface(tmp_path, monkeypatch, how):
    model, checkpoints = small_model(), Checkpoints(tmp_path)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        checkpoints.save(1, model)
        with pytest.raises(CheckpointError, match=r"step-00000001.*No space left"):
            checkpoints.save(2, model) if how == "save" else checkpoints.wait()
    assert list(tmp_path.iterdir()) == []
    checkpoints.save(3, model)
    checkpoints.wait()
    assert checkpoints.steps() == [3]


class Send(checkpointing.EachStep):
    def reach(self, step, logs=None):
        if step == 4:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_ends_fit_after_the_step(tmp_path, model):
    before = signal.getsignal(signal.SIGTERM)
    checkpoints, stop = Checkpoints(tmp_path), StopOnSignal()
    callbacks = [stop, checkpoints.callback(100), Send()]
    try:
        model.fit(batches(0), steps_per_epoch=50, epochs=3, callbacks=callbacks, verbose=0)
        assert signal.getsignal(signal.SIGTERM) != before  # another must not interrupt what follows
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stop.exit_code == 143
    assert checkpoints.steps() == [5]  # it came as the fifth step was about to begin
    stop = StopOnSignal()
    model.fit(batches(5), steps_per_epoch=2, callbacks=[stop], verbose=0)
    assert stop.exit_code == 0
    assert signal.getsignal(signal.SIGTERM) == before


def broken_from(first, last):
    def changed(step):
        x, y, weights = batch(step)
        return x, y, weights * (np.nan if first <= step <= last else 1)

    return changed


def feed(function):
    step = 0
    while True:
        yield function(step)
        step += 1


def test_batches_that_are_not_finite(tmp_path, monkeypatch, model):
    monkeypatch.setattr(interrupted, "BROKEN", None)
    data = broken_from(2, 3)
    watch = NonFinite(3, tmp_path, data, every=2)
    with pytest.warns(UserWarning, match=r"step 4, 2 batches .* skipped, 2 of them"):
        model.fit(feed(data), steps_per_epoch=8, callbacks=[watch], verbose=0)
    assert list(tmp_path.iterdir()) == []
    data, before = broken_from(5, 99), []
    watch = NonFinite(3, tmp_path, data, every=4)
    keep = checkpointing.EachStep()
    keep.reach = lambda step, logs=None: step == 5 and before.append(values(keep.model))
    with pytest.raises(FloatingPointError, match=r"3 in a row .limit=3.*from step 5"):
        model.fit(feed(data), steps_per_epoch=50, callbacks=[keep, watch], verbose=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"batch-0000000{step}.npz" for step in (5, 6, 7)
    ]
    with np.load(tmp_path / "batch-00000006.npz") as saved:
        arrays = list(saved.values())
        assert saved.files[0] == "0/token_ids"
    for found, expected in zip(arrays, keras.tree.flatten(data(6)), strict=True):
        np.testing.assert_array_equal(found, expected)
    after = values(model)
    changed = {name for name in after if not np.array_equal(after[name], before[0][name])}
    counts = {"optimizer/skipped", "optimizer/skipped_in_a_row"}
    assert {name for name in changed if "seed" not in name} == counts


def test_batches_that_loss_scaling_leaves_out(tmp_path, monkeypatch):
    monkeypatch.setattr(interrupted, "BROKEN", None)
    model = make_model(jit=False)
    model.compile(LossScaleOptimizer(model.optimizer), model.loss, jit_compile=False)
    data = broken_from(2, 99)
    with pytest.raises(FloatingPointError, match=r"2 in a row .limit=2.*from step 2"):
        watch = NonFinite(2, tmp_path, data, every=2)
        model.fit(feed(data), steps_per_epoch=50, callbacks=[watch], verbose=0)


@pytest.mark.parametrize("scaled", [False, True])
def test_an_optimizer_that_does_not_count(tmp_path, scaled):
    model = make_model(skip_nonfinite=scaled)
    if scaled:
        model.compile(keras.optimizers.LossScaleOptimizer(model.optimizer))
    with pytest.raises(ValueError, match="skip_nonfinite=True"):
        model.fit(batches(0), steps_per_epoch=1, callbacks=[NonFinite(3, tmp_path, batch)])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: Checkpoints(path, keep=0), "keep=0"),
        (lambda path: Checkpoints(path, direction="up"), "direction='up'"),
        (lambda path: Checkpoints(path).callback(0), "every=0"),
        (lambda path: NonFinite(0, path, batch), "limit=0"),
    ],
)
def test_bad_arguments(tmp_path, make, told):
    with pytest.raises(ValueError, match=told):
        make(tmp_path)


def test_an_empty_directory(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoints = Checkpoints(tmp_path / "new" / "one")
        assert checkpoints.restore(small_model()) == 0
    assert checkpoints.steps() == []
    assert checkpoints.best_step() is None
