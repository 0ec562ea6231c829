"""What one sees of a run: a line as it goes, a table, TensorBoard, and a plot in the end."""

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


class Monitor(EachStep):
    """Writes a row for each "epoch" of `fit`, which here is so many batches.

    A row has the means of the epoch, the learning rate, and how fast it went; an epoch that was cut
    short has none. `Checkpoints` must come after it among the callbacks: a row whose step is in no
    checkpoint is written again, and one that is missing would be so for good. What is waited for
    before the first step runs (the compiler) does not count as time.

    Args:
        directory: gets `log.csv`, `loss.png`, and with `events` a folder `tensorboard`.
        start: how many batches there were before. Rows of an earlier run that come after are
            dropped: those steps are taken once more.
        batches: when the run ends.
        work: a `Work`.
        batches_a_step: how many make an update.
        tensorboard: whether to write for TensorBoard.
        stream: where lines go; None: nowhere.
        validation: a `Validation`: what it measures goes into the rows, as `val_loss` and so on, and
            to the callbacks that come after. None: there is none.
        validate_every: batches between, a multiple of an epoch's; it is done at the end, too. Its time
            does not count.

    Raises:
        ImportError: TensorBoard is wanted and not there.
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
        self.waits = True  # for the compiler
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
        """Adds what is measured on other text to the logs of an epoch, where it is time to."""
        if self.validation and (step % self.validate_every == 0 or step == self.batches):
            if self.stream and self.stream.isatty():
                self.stream.write(f"\r{self.progress(step)}  validation\033[K")
                self.stream.flush()
            measured = self.validation(self.model)
            logs |= {f"val_{name}": value for name, value in measured.items()}

    def write(self, step, now, logs):
        """A row and a line, at the end of an epoch."""
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
            said = [f"{name} {value:.4g}" for name, value in sorted(logs.items(), key=loss_first)]
            said.append(f"{row['tokens_per_second']:,.0f} tokens/s")
            said.append(f"{row['model_flops_utilization']:.1%} of {self.work.said}")
            line = "  ".join([self.progress(step), *said])
            self.stream.write(f"\r{line}\033[K\n" if self.stream.isatty() else f"{line}\n")
            self.stream.flush()

    def progress(self, step):
        """How far it is, and how long it will take."""
        done, end = step // self.batches_a_step, self.batches // self.batches_a_step
        then, before = self.begin
        left = (time.perf_counter() - then) * (self.batches - step) / max(step - before, 1)
        bar = round(20 * step / self.batches)
        return f"{done:,}/{end:,} [{'=' * bar}{'.' * (20 - bar)}] {duration(left)} left"

    def close(self):
        """Draws the plot, and ends what was begun. Call it when the run is over."""
        if self.events:
            self.events.close()
        try:
            plot(self.log.rows, self.directory / "loss.png")
        except Exception as error:  # whatever it is: the model is not saved yet
            if self.stream:
                self.stream.write(f"No plot: {error!s:.200}\n")


@dataclass(frozen=True)
class Work:
    """How much a batch is, and what could be done.

    Attributes:
        tokens: of a batch, on all hosts.
        flops: that a batch takes; see `Objective.flops_per_example`.
        peak: that all devices can do in a second.
        said: where that number is from.
    """

    tokens: int
    flops: int
    peak: float
    said: str


class Events:
    """Rows as TensorBoard reads them."""

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
    """Draws loss against tokens.

    Args:
        rows: of a `Log`, in any iterable. Those without one of the two are left out.
        path: of the picture, a PNG file.

    Raises:
        ImportError: there is no matplotlib.
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
    """Floating point operations a second of one device, in products of square matrices.

    Args:
        dtype: of the matrices.
        size: of the matrices; None: large enough for the device.
        seconds: how long to try, about.
    """
    size = size or (8192 if has_accelerator() else 1024)
    random = np.random.default_rng(0).standard_normal((size, size), "float32")
    x = ops.cast(ops.convert_to_tensor(random / size**0.5), dtype)

    def run(count):
        """Seconds of so many products, each of the last one's result."""
        begin, y = time.perf_counter(), x
        for _ in range(count):
            y = ops.matmul(y, x)
        float(ops.convert_to_numpy(ops.cast(y[0, 0], "float32")))
        return time.perf_counter() - begin

    run(1)
    count = max(1, int(seconds / run(1)))
    return 2 * size**3 * count / min(run(count) for _ in range(2))


def has_accelerator():
    """Whether the backend computes on something else than the processor."""
    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.is_available()
    return not keras.distribution.list_devices()[0].startswith("cpu")


def duration(seconds):
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"


def loss_first(item):
    return item[0] != "loss", item[0]
