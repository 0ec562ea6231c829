"""What is seen of a run: rows that are there once, numbers that are right, optional parts."""

import io
import os
import sys

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretraining.log import Log, read_log
from pretraining.monitor import Monitor, Work, measured_flops, plot

WORK = Work(tokens=100, flops=10**6, peak=1e9, peak_label="the peak given")


def fit(monitor, steps, epochs):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    batches = iter(lambda: (np.ones((4, 2)), np.ones((4, 1))), None)
    model.fit(
        (batch for batch in batches),
        steps_per_epoch=steps,
        epochs=epochs,
        callbacks=[monitor],
        verbose=0,
        shuffle=False,
    )


def test_rows_have_steps_tokens_and_speed(tmp_path):
    stream = io.StringIO()
    fit(Monitor(tmp_path, 0, 12, WORK, batches_a_step=2, stream=stream), steps=4, epochs=3)
    rows = read_log(tmp_path / "log.csv")
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert [row["tokens"] for row in rows] == [400, 800, 1200]
    assert rows[0]["loss"] > rows[2]["loss"]
    for row in rows:
        assert row["learning_rate"] == pytest.approx(0.1)
        speed = row["tokens_per_second"]
        assert speed > 0
        assert row["model_flops_utilization"] == pytest.approx(speed / 100 * 1e6 / 1e9)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3 and "\r" not in stream.getvalue()
    assert lines[2].startswith("6/6 [====================] 0:00:00 left  loss ")
    assert lines[2].endswith("% of the peak given")


def test_a_run_that_goes_on_leaves_no_step_twice(tmp_path):
    fit(Monitor(tmp_path, 0, 12, WORK), steps=2, epochs=3)
    fit(Monitor(tmp_path, 4, 12, WORK), steps=2, epochs=2)  # the checkpoint was of step 4
    assert [row["step"] for row in read_log(tmp_path / "log.csv")] == [2, 4, 6, 8]


@given(st.lists(st.integers(1, 9), max_size=6), st.integers(0, 40), st.integers(0, 30))
def test_logs_go_on_wherever_they_were_cut(tmp_path_factory, gaps, last, lost):
    path = tmp_path_factory.mktemp("log") / "log.csv"
    steps = np.cumsum(gaps).tolist()
    log = Log(path, 0)
    for step in steps:
        log.write({"step": step, "loss": 1 / step})
    if steps and lost:
        path.write_bytes(path.read_bytes()[:-lost])
    whole = [row["step"] for row in read_log(path)]
    assert whole == steps[: len(whole)]
    log = Log(path, last)
    log.write({"step": last + 1, "loss": 0.5, "accuracy": 0.25})
    rows = read_log(path)
    assert [row["step"] for row in rows] == [step for step in whole if step <= last] + [last + 1]
    assert rows[-1] == {"step": last + 1, "loss": 0.5, "accuracy": 0.25}
    assert all(row["loss"] == 1 / row["step"] for row in rows[:-1])


@pytest.mark.once
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tokens,loss\n1,2\n", r"line 1: the columns \[.*expected step"),
        ("step,loss,loss\n1,2,3\n", "line 1: .*each once"),
        ("step,loss\n1,2\n2,many\n", "line 3: .*'many'"),
        ("step,loss\n²,2\n", "line 2: .*'²'"),
        ("step,loss\n" + "1" * 5000 + ",2\n", "line 2: the step inf"),
        ("step,loss\n1.5,2\n", "line 2: the step 1.5; expected a whole number"),
        ("step,loss\n,2\n", "line 2: the step None"),
        ("step,loss\n1,2,3\n", "line 2: 3 values; expected 2"),
        ("step,loss\n1\n", "line 2: 1 values; expected 2"),
        ("step,loss\n1,\0\n", "line 2: "),
        ('step,loss\n1,"2\n', "line 2: unexpected end of data"),
        ("step,loss\n" + "1" * 200_000 + ",2\n", "line 2: field larger"),
    ],
)
def test_a_damaged_log_is_named(tmp_path, text, told):
    (tmp_path / "log.csv").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=rf"log\.csv, {told}") as caught:
        Log(tmp_path / "log.csv", 5)
    assert len(str(caught.value)) < 600


@pytest.mark.once
def test_a_run_that_is_killed_before_its_first_row_goes_on(tmp_path):
    (tmp_path / "log.csv").write_text("step,loss\n5,1.5\n")
    for _ in range(2):
        Log(tmp_path / "log.csv", 0)
    assert read_log(tmp_path / "log.csv") == []


@pytest.mark.once
def test_rows_outlive_their_file(tmp_path):
    log = Log(tmp_path / "log.csv", 0)
    log.write({"step": 1, "损失": 0.5})
    (tmp_path / "log.csv").unlink()
    log.write({"step": 2, "损失": 0.25})
    assert read_log(tmp_path / "log.csv") == [*log.rows]
    assert [row["损失"] for row in log.rows] == [0.5, 0.25]


@pytest.mark.once
def test_a_log_in_another_encoding_is_named(tmp_path):
    (tmp_path / "log.csv").write_bytes("step,损失\n".encode("gb18030"))
    with pytest.raises(ValueError, match=r"log\.csv: expected text in UTF-8"):
        read_log(tmp_path / "log.csv")


@pytest.mark.once
@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_log_that_is_no_file(tmp_path, make):
    make(tmp_path / "log.csv")
    with pytest.raises(ValueError, match=r"log\.csv: expected a file"):
        Log(tmp_path / "log.csv", 5)


def test_a_terminal_sees_one_line_that_changes(tmp_path):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    monitor = Monitor(tmp_path, 0, 6, WORK, stream=stream)
    monitor.shown = float("-inf")
    fit(monitor, steps=3, epochs=2)
    assert stream.getvalue().startswith("\r2/6 [=======.............]")
    assert stream.getvalue().count("\n") == 2


def test_the_plot_is_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    rows = [{"tokens": 10 * i, "loss": 1 / i} for i in range(1, 5)]
    plot(rows, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.once
@pytest.mark.parametrize(
    "log", ["step\n4\n", "step,tokens,loss\n4,,1.0\n", "step,tokens,loss\n4,9,\n"]
)
def test_rows_without_loss_or_tokens_are_not_in_the_plot(tmp_path, log):
    pytest.importorskip("matplotlib")
    (tmp_path / "log.csv").write_text(log)
    stream = io.StringIO()
    monitor = Monitor(tmp_path, 4, 6, WORK, stream=stream)
    monitor.log.write({"step": 6, "tokens": 10, "loss": 1.0})
    monitor.close()
    assert (tmp_path / "loss.png").is_file() and not stream.getvalue()


@pytest.mark.once
def test_a_plot_that_fails_ends_no_run(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "loss.png").mkdir()
    stream = io.StringIO()
    Monitor(tmp_path, 0, 6, WORK, stream=stream).close()
    assert stream.getvalue().startswith("No plot: ")


def test_without_matplotlib_there_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    stream = io.StringIO()
    Monitor(tmp_path, 0, 6, WORK, stream=stream).close()
    assert "bert4keras_lite[plots]" in stream.getvalue()


def test_without_tensorboard_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    with pytest.raises(ImportError, match=r"bert4keras_lite\[pretraining\]"):
        Monitor(tmp_path, 0, 6, WORK, tensorboard=True)


def test_tensorboard_reads_what_is_written(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monitor = Monitor(tmp_path, 0, 4, WORK, tensorboard=True)
    fit(monitor, steps=2, epochs=2)
    monitor.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    losses = [(event.step, event.value) for event in events.Scalars("loss")]
    expected = [(row["step"], row["loss"]) for row in read_log(tmp_path / "log.csv")]
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


def test_the_measured_peak_is_a_speed():
    assert 1e6 < measured_flops("float32", 256, seconds=0.05) < 1e16
