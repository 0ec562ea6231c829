"""Training monitor: console line, CSV log, TensorBoard, loss plot."""

import time
from array import array
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import ops

from bert4keras_lite.files import replacing

from .checkpointing import EachStep
from .log import Log

__all__ = ["Monitor", "Work", "measured_flops"]


class Monitor(EachStep):
    """Callback that logs a row after each "epoch" of `fit`, i.e. a fixed number of batches.

    A row has the means of the epoch, the learning rate and the speed; an interrupted epoch has no
    row. `Checkpoints` must come after this callback: a row after the last checkpoint is written
    again, but a row that is missing before a checkpoint would never be. The time before the first
    step (compilation) does not count.

    Args:
        directory: where `log.csv`, `loss.png` and, with `tensorboard`, a folder `tensorboard` are
            written.
        start: number of batches trained before. Later rows of an earlier run are dropped, as their
            steps are repeated.
        batches: total number of batches of the run.
        work: a `Work`.
        batches_a_step: number of batches in an update. Default 1.
        tensorboard: whether to write event files for TensorBoard. Default False.
        stream: text stream for the console line. Default None: no output.
        validation: a `Validation`, whose results go into the rows as `val_loss` etc., and to the
            callbacks after this one. Default None.
        validate_every: number of batches between validations, a multiple of an epoch's. The last
            batch is followed by one, too. Their time does not count. Default 1.

    Raises:
        ImportError: `tensorboard` is set and TensorBoard is not installed.
    """

    def __init__(
        self,
        directory,
        start,
        batches,
        work,
        batches_a_step=1,
        tensorboard=False,
        stream=None,
        validation=None,
        validate_every=1,
    ):
        super().__init__(start)
        self.directory, self.stream = Path(directory), stream
        self.directory.mkdir(parents=True, exist_ok=True)
        self.batches, self.batches_a_step, self.work = batches, batches_a_step, work
        self.log = Log(self.directory / "log.csv", start // batches_a_step)
        self.events = Events(self.directory / "tensorboard") if tensorboard else None
        self.validation, self.validate_every = validation, validate_every
        self.waits = True  # for compilation
        self.shown = 0.0

    def on_train_begin(self, logs=None):
        self.since = time.perf_counter(), self.step
        if self.waits:
            self.begin = self.since

    def reach(self, step, logs=None):
        now = time.perf_counter()
        if logs is not None:
            self.validate(step, logs)
            self.write(step, now, logs)
            self.since = time.perf_counter(), step
        elif self.waits:
            self.since = self.begin = now, step
        elif self.stream and self.stream.isatty() and now - self.shown > 1:
            self.shown = now
            self.stream.write(f"\r{self.progress(step)}\033[K")
            self.stream.flush()
        self.waits = False

    def validate(self, step, logs):
        """Adds the validation metrics to the logs of an epoch, if they are due."""
        if self.validation and (step % self.validate_every == 0 or step == self.batches):
            if self.stream and self.stream.isatty():
                self.stream.write(f"\r{self.progress(step)}  validation\033[K")
                self.stream.flush()
            metrics = self.validation(self.model)
            logs |= {f"val_{name}": value for name, value in metrics.items()}

    def write(self, step, now, logs):
        """Writes a row and a line at the end of an epoch."""
        then, before = self.since
        rate = (step - before) / (now - then)
        row = {"step": step // self.batches_a_step, "tokens": step * self.work.tokens}
        row |= {name: float(value) for name, value in logs.items()}
        row["learning_rate"] = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        row["tokens_per_second"] = rate * self.work.tokens
        row["model_flops_utilization"] = rate * self.work.flops / self.work.peak
        self.log.write(row)
        if self.events:
            self.events.write(row)
        if self.stream:
            cells = [f"{name} {value:.4g}" for name, value in sorted(logs.items(), key=loss_first)]
            cells.append(f"{row['tokens_per_second']:,.0f} tokens/s")
            cells.append(f"{row['model_flops_utilization']:.1%} of {self.work.peak_label}")
            line = "  ".join([self.progress(step), *cells])
            self.stream.write(f"\r{line}\033[K\n" if self.stream.isatty() else f"{line}\n")
            self.stream.flush()

    def progress(self, step):
        """Returns the progress at a step, as text with the remaining time."""
        done, end = step // self.batches_a_step, self.batches // self.batches_a_step
        then, before = self.begin
        left = (time.perf_counter() - then) * (self.batches - step) / max(step - before, 1)
        bar = round(20 * step / self.batches)
        return f"{done:,}/{end:,} [{'=' * bar}{'.' * (20 - bar)}] {duration(left)} left"

    def close(self):
        """Draws the plot and closes the event file; to be called at the end of the run."""
        if self.events:
            self.events.close()
        try:
            plot(self.log.rows, self.directory / "loss.png")
        except Exception as error:  # must not prevent the model from being saved
            if self.stream:
                self.stream.write(f"No plot: {error!s:.200}\n")


@dataclass(frozen=True)
class Work:
    """Computational cost of a batch, and peak performance of the devices.

    Attributes:
        tokens: tokens of a batch, on all hosts.
        flops: FLOPs of a batch; see `Objective.flops_per_example`.
        peak: peak FLOP/s of all devices.
        peak_label: description of `peak`, for the console line.
    """

    tokens: int
    flops: int
    peak: float
    peak_label: str


class Events:
    """Writes rows as TensorBoard events."""

    def __init__(self, directory):
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            raise ImportError(
                "tensorboard: true needs TensorBoard: pip install 'bert4keras_lite[pretraining]'."
            ) from None
        self.event, self.summary = event_pb2.Event, summary_pb2.Summary
        Path(directory).mkdir(parents=True, exist_ok=True)
        self.writer = EventFileWriter(str(directory))

    def write(self, row):
        values = [
            self.summary.Value(tag=name, simple_value=value)
            for name, value in row.items()
            if name != "step"
        ]
        summary = self.summary(value=values)
        self.writer.add_event(self.event(step=row["step"], wall_time=time.time(), summary=summary))

    def close(self):
        self.writer.close()


def plot(rows, path):
    """Plots loss against tokens.

    Args:
        rows: iterable of rows of a `Log`. Rows without tokens or loss are left out.
        path: path of the PNG file.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import EngFormatter
    except ImportError:
        raise ImportError("it needs matplotlib: pip install 'bert4keras_lite[plots]'.") from None
    series = {
        "loss": (array("d"), {"label": "training"}),
        "val_loss": (array("d"), {"label": "validation", "marker": "o", "markersize": 3}),
    }
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="tokens", ylabel="loss")
    for row in rows:
        for name, (points, _) in series.items():
            if {"tokens", name} <= row.keys():
                points.extend((row["tokens"], row[name]))
    for points, look in series.values():
        if points:
            axes.plot(points[::2], points[1::2], **look)
            axes.legend()
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.grid(alpha=0.3)
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=150)


def measured_flops(dtype, size=None, seconds=0.5):
    """Measures the FLOP/s of one device with products of square matrices.

    Args:
        dtype: dtype of the matrices.
        size: size of the matrices. Default None: large enough for the device.
        seconds: approximate duration of the measurement. Default 0.5.

    Returns:
        A float.
    """
    size = size or (8192 if has_accelerator() else 1024)
    random = np.random.default_rng(0).standard_normal((size, size), "float32")
    x = ops.cast(ops.convert_to_tensor(random / size**0.5), dtype)

    def run(count):
        """Returns the seconds for a chain of products."""
        begin, y = time.perf_counter(), x
        for _ in range(count):
            y = ops.matmul(y, x)
        float(ops.convert_to_numpy(ops.cast(y[0, 0], "float32")))
        return time.perf_counter() - begin

    run(1)
    count = max(1, int(seconds / run(1)))
    return 2 * size**3 * count / min(run(count) for _ in range(2))


def has_accelerator():
    """Returns whether the backend computes on another device than the CPU."""
    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.is_available()
    return not keras.distribution.list_devices()[0].startswith("cpu")


def duration(seconds):
    """Returns a duration as `h:mm:ss`."""
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"


def loss_first(item):
    """Sort key of `(name, value)` that puts the loss first."""
    return item[0] != "loss", item[0]
