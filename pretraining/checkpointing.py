"""Fault tolerance: atomic training checkpoints, clean stop on SIGTERM, non-finite guard.

    checkpoints = Checkpoints("run/checkpoints", keep=3, best="loss")
    start = checkpoints.restore(model)  # 0 if there is no checkpoint
    stop = StopOnSignal()
    model.fit(batches_from(start), ..., callbacks=[checkpoints.callback(every=1000), stop])
    sys.exit(stop.exit_code)

A checkpoint is a directory `step-00001000`: all variables by name in `variables.safetensors`, and
the length and checksum of that file in `state.json`; `files.saving` writes both atomically. So
whenever the process ends, a checkpoint is complete or does not exist. Training that resumes from it
is reproduced bit for bit: it holds the weights, the optimizer's variables, the random states and,
in the middle of an epoch, the state of the metrics. (Random numbers must come from the seed
generators of layers, as in Keras' layers, or from PyTorch's generator. The data must be a function
of the step.)
"""

import json
import re
import signal
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from math import isfinite
from pathlib import Path
from types import NoneType

import google_crc32c
import keras
import numpy as np
from keras import ops

from bert4keras_lite.checkpoints import CheckpointError, save_checkpoint
from bert4keras_lite.checkpoints.base import reading
from bert4keras_lite.checkpoints.safetensor_file import read_entries
from bert4keras_lite.checkpoints.stage import saving_checkpoint
from bert4keras_lite.files import discard, replacing, tidy, write_text
from bert4keras_lite.optimizers import LossScaleOptimizer, OptimizerExtensions
from bert4keras_lite.parsing import (
    excerpt,
    first_lines,
    naming,
    parse_json,
    read_bytes,
    shown,
    size_of,
)

from . import distribution
from .files import not_a_link

__all__ = [
    "Checkpoints",
    "EachStep",
    "NonFinite",
    "StopOnSignal",
    "any_process",
    "gather",
    "process",
]

STATE, VARIABLES = "state.json", "variables.safetensors"
NAME = re.compile("step-([0-9]{8}|[1-9][0-9]{8,})")  # name of a checkpoint's directory
METRICS = "metrics/"  # prefix of the names of metrics' variables
# Prefixes of directories that earlier versions left: incomplete checkpoints, and complete ones that
# were being replaced
OLD_TEMPORARY, OLD_REPLACED = ".tmp-step-", ".old-step-"
OURS = re.compile(rf"{NAME.pattern}|{re.escape(OLD_TEMPORARY)}.*|{re.escape(OLD_REPLACED)}.*", re.S)
EXIT_CODE_OF_SIGNALS = 128  # plus the number of the signal, as in shells


class Checkpoints:
    """Manages the checkpoints of one training run in a directory.

    With several hosts, each process must call `save` and `restore` at the same steps; the first
    one writes and all read, so they must share the directory. Otherwise only one process may use
    the directory at a time.

    Args:
        directory: created if missing. Incomplete files of an interrupted process are removed.
        keep: the number of latest checkpoints to keep. Default 3.
        best: the name of a metric, whose best checkpoint is kept too. Default None.
        direction: whether the smallest or largest value is best, `"min"` (default) or `"max"`.
        asynchronous: whether `save` only copies the variables, and a thread writes them. Default
            True. One checkpoint is written at a time, so at most one copy is in memory.

    Raises:
        CheckpointError: a checkpoint's path in the directory is a link.

    Example:
        >>> checkpoints = Checkpoints("run/checkpoints", keep=3, best="loss")
        >>> start = checkpoints.restore(model)
        >>> model.fit(..., callbacks=[checkpoints.callback(every=1000)])
    """

    def __init__(self, directory, keep=3, best=None, direction="min", asynchronous=True):
        if keep < 1:
            raise ValueError(f"keep={keep}: expected 1 checkpoint or more.")
        if direction not in ("min", "max"):
            raise ValueError(f"direction={direction!r}: expected 'min' or 'max'.")
        self.directory = Path(directory)
        self.keep, self.best, self.direction = keep, best, direction
        self.step = 0  # step of the last checkpoint that was restored or saved
        self.random = {}  # the backend's random state at that step
        self.metrics = {}  # name -> array: state of the metrics at that step, within an epoch
        self._writer = ThreadPoolExecutor(1, "checkpoints") if asynchronous else None
        self._pending = None
        self.directory.mkdir(parents=True, exist_ok=True)
        for path in self.directory.iterdir():
            if OURS.fullmatch(path.name):
                not_a_link(path)
        if process()[0] == 0:
            self._tidy()

    def _tidy(self):
        for path in self.directory.glob(f"{OLD_REPLACED}*"):
            original = path.with_name(path.name.removeprefix(".old-"))
            if not original.exists():
                path.rename(original)
        for prefix in (OLD_TEMPORARY, OLD_REPLACED):
            for path in self.directory.glob(f"{prefix}*"):
                discard(path)
        tidy(self.directory)
        checkpoints = (path for path in self.directory.iterdir() if NAME.fullmatch(path.name))
        for path in filter(Path.is_dir, checkpoints):
            tidy(path)
            if not any(path.iterdir()):
                path.rmdir()

    def path(self, step):
        """Returns the directory of a step's checkpoint."""
        return self.directory / f"step-{step:08d}"

    def steps(self):
        """Returns the sorted steps that have a checkpoint, damaged or not."""
        paths = (path for path in self.directory.iterdir() if NAME.fullmatch(path.name))
        return sorted(int(path.name[5:]) for path in paths if holds_files(path))

    def best_step(self):
        """Returns the step whose checkpoint has the best value of the metric, or None."""
        values = {}
        for step in self.steps():
            try:
                value = self._state(step)["metrics"].get(self.best)
            except CheckpointError:
                continue  # `restore` reports it
            if value is not None and isfinite(value):
                values[step] = value if self.direction == "min" else -value
        return min(values, key=values.get, default=None)

    # Saving

    def save(self, step, model, metrics=None, in_epoch=False):
        """Saves a checkpoint.

        Args:
            step: the number of steps trained so far.
            model: a compiled model, not in the middle of a step.
            metrics: dict name -> number. Default None.
            in_epoch: whether the epoch continues after this step. If so, the state of the model's
                metrics is saved, so that their means cover the whole epoch. Default False.

        Raises:
            CheckpointError: this checkpoint cannot be written or, if asynchronous, the previous
                one.
            ValueError: the metric `best` is not in `metrics`.
        """
        self.wait()
        metrics = {name: float(value) for name, value in (metrics or {}).items()}
        # Validation metrics are not known in the middle of an epoch.
        if metrics and self.best and self.best not in metrics and self.best[:4] != "val_":
            raise ValueError(
                f"best={self.best!r}: there is no such metric; expected one of"
                f" {', '.join(metrics)}."
            )
        with own_weights(model):
            arrays = {name: gather(variable) for name, variable in variables_of(model).items()}
        variables = metrics_of(model) if in_epoch else {}
        self.metrics = {name: gather(variable) for name, variable in variables.items()}
        self.random, self.step = random_state(), step
        arrays |= self.random | self.metrics
        if process()[0] > 0:
            return
        state = {
            "step": step,
            # JSON has no NaN
            "metrics": {n: value if isfinite(value) else None for n, value in metrics.items()},
            "backend": keras.backend.backend(),
            "keras": keras.version(),
        }
        if self._writer is None:
            self._write(state, arrays)
        else:
            self._pending = self._writer.submit(self._write, state, arrays)

    def wait(self):
        """Waits until the last checkpoint is written.

        Raises:
            CheckpointError: it could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _write(self, state, arrays):
        with saving_checkpoint(not_a_link(self.path(state["step"]))) as stage:
            save_checkpoint(stage / VARIABLES, arrays, format="safetensors")
            files = {VARIABLES: fingerprint(stage / VARIABLES)}
            write_text(stage / STATE, json.dumps(state | {"files": files}, indent=1))
        try:
            self._remove_old(state["step"])
        except OSError as error:
            raise CheckpointError(
                f"{self.directory}: old checkpoints cannot be removed: {error.strerror or error}."
            ) from error

    def _remove_old(self, last):
        # Later ones are damaged, or belong to a run that was abandoned.
        steps = [step for step in self.steps() if step <= last]
        kept = {*steps[-self.keep :], self.best_step()}
        for step in steps:
            if step not in kept:
                discard(not_a_link(self.path(step)))

    # Restoring

    def restore(self, model, step=None):
        """Restores a checkpoint into the model's and the optimizer's variables.

        Args:
            model: a compiled model.
            step: the step of the checkpoint. Default None: the last one that is not damaged, with
                a warning for each damaged one. (Checkpoints of later steps are kept: remove them,
                or the next restart resumes from them.)

        Returns:
            int, the step to resume at; 0 if there are no checkpoints.

        Raises:
            CheckpointError: all checkpoints are damaged, or the variables differ from the model's
                in names, shapes or dtypes. Nothing is changed then.
        """
        self.wait()
        steps = [step] if step is not None else self.steps()[::-1]
        damages = []
        for candidate in steps:
            try:
                entries = self._read(candidate)
            except CheckpointError as error:
                damages.append(str(error).removesuffix("."))
                continue
            for damage in damages:
                warnings.warn(f"{damage}. Resuming from step {candidate}.", stacklevel=2)
            self._assign(entries, model, self.path(candidate))
            self.step = candidate
            return candidate
        if step is not None:
            raise CheckpointError(f"{damages[0]}. There are checkpoints of steps {self.steps()}.")
        if damages:
            raise CheckpointError(
                first_lines(damages)
                + ". No earlier checkpoint is complete; to start from scratch, "
                "choose another directory or empty this one."
            )
        self.random, self.metrics = random_state(), {}
        return 0

    def _state(self, step):
        path = self.path(step) / STATE
        try:
            state = parse_json(read_bytes(path))
        except FileNotFoundError:
            raise CheckpointError(f"{path}: is missing.") from None
        except ValueError as error:
            raise CheckpointError(f"{path}: is damaged ({error!s:.300}).") from None
        for name, expected, fits in (
            ("metrics", "numbers or null by name", _are_metrics),
            ("files", f"size and crc32c of {VARIABLES}", _are_fingerprints),
            ("step", f"{step}, as in its directory", lambda x: type(x) is int and x == step),
            *(
                (name, "a string", lambda x: isinstance(x, str | NoneType))
                for name in ("backend", "keras")
            ),
        ):
            value = state.get(name) if isinstance(state, dict) else state
            if not fits(value):
                raise CheckpointError(
                    f"{path}: is damaged ({name}: expected {expected}, got {shown(value)})."
                )
        return state

    def _read(self, step):
        """Reads a checkpoint as a dict name -> `Entry`, after checking size and checksum."""
        expected = self._state(step)["files"][VARIABLES]
        path = self.path(step) / VARIABLES
        try:
            actual = fingerprint(path)
        except FileNotFoundError:
            raise CheckpointError(f"{path}: is missing.") from None
        except ValueError as error:
            raise CheckpointError(f"{path}: is damaged ({error}).") from None
        for name, value in expected.items():
            if actual[name] != value:
                raise CheckpointError(
                    f"{path}: is damaged: its {name} is {actual[name]} and was {shown(value)}."
                )
        with reading(path):
            return read_entries(path)

    def _assign(self, entries, model, path):
        metrics = {name: entry for name, entry in entries.items() if name.startswith(METRICS)}
        entries = {name: entry for name, entry in entries.items() if name not in metrics}
        variables = variables_of(model)
        random = random_state()
        ours = {n: spec(v.shape, v.dtype) for n, v in {**variables, **random}.items()}
        theirs = {name: spec(entry.shape, entry.dtype) for name, entry in entries.items()}
        differences = [
            *(f"- {name} {ours[name]}: missing" for name in ours if name not in theirs),
            *(
                f"+ {excerpt(name)} {theirs[name]}: left over"
                for name in theirs
                if name not in ours
            ),
            *(
                f"! {name}: {theirs[name]}, the model has {ours[name]}"
                for name in ours
                if name in theirs and theirs[name] != ours[name]
            ),
        ]
        if differences:
            raise CheckpointError(
                f"{path}: was saved by another model, optimizer or backend:\n"
                + first_lines(differences)
                + "\nChoose another directory, or restore the settings that it was made with."
            )
        random = {name: np.array(entries[name].read()) for name in random}
        try:
            check_random_state(random)
        except (RuntimeError, TypeError) as error:
            raise CheckpointError(
                f"{path}: is damaged (states of random numbers that PyTorch does not accept: "
                f"{error!s:.200})."
            ) from None
        for name, variable in variables.items():
            # A copy, as JAX may donate the memory.
            variable.assign(np.array(entries[name].read()))
        self.random = random
        self.metrics = {name: np.array(entry.read()) for name, entry in metrics.items()}
        set_random_state(self.random)

    def callback(self, every):
        """Returns a callback for `fit` that saves every `every` steps and at the end.

        Steps are counted from `restore`, and metrics are means over the epoch so far. After a
        checkpoint in the middle of an epoch, the first epoch of `fit` is the rest of that epoch,
        and its metrics cover the whole of it.

        Args:
            every: number of steps between two checkpoints.
        """
        return Save(self, every)


class EachStep(keras.callbacks.Callback):
    """Callback that calls `reach(step, logs)` after each step, with logs at the end of an epoch.

    An epoch that was interrupted, e.g. by a signal, does not count as ended: `cut` is then True.

    It acts at the beginning of the next batch. With `on_train_batch_end`, Keras would fetch the
    metrics of each step from the device, and wait for them.

    Args:
        step: number of steps trained before. Default 0.
    """

    def __init__(self, step=0):
        super().__init__()
        self.step, self.cut = step, False

    def on_epoch_begin(self, epoch, logs=None):
        self._before = self.step

    def on_train_batch_begin(self, batch, logs=None):
        if batch:  # otherwise the step was reached at the end of the previous epoch
            self.reach(self._before + batch)
        # The step after this batch (or batches).
        self.step = self._before + batch + self._model.steps_per_execution

    def on_epoch_end(self, epoch, logs=None):
        self.cut = self.step - self._before < (self.params.get("steps") or 0)
        self.reach(self.step, None if self.cut else logs)


class Save(EachStep):
    """Callback that saves checkpoints, see `Checkpoints.callback`."""

    def __init__(self, checkpoints, every):
        super().__init__()
        if every < 1:
            raise ValueError(f"every={every}: expected 1 step or more.")
        self.checkpoints, self.every = checkpoints, every
        self._logs = None  # logs of the epoch that ended with this step

    def on_train_begin(self, logs=None):
        self.step = self._begin = self.checkpoints.step

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        if self._before == self._begin:
            set_metrics(self._model, self.checkpoints.metrics)

    def on_train_batch_begin(self, batch, logs=None):
        super().on_train_batch_begin(batch, logs)
        if self._before + batch == self._begin:
            # PyTorch's data loaders draw a random number each time one is started.
            set_random_state(self.checkpoints.random)

    def reach(self, step, logs=None):
        self._logs = logs
        if step // self.every > self.checkpoints.step // self.every:
            self._save(step, logs, in_epoch=logs is None)

    def on_train_end(self, logs=None):
        if self.step > self.checkpoints.step:
            # These logs include what other callbacks added.
            self._save(self.step, self._logs or logs, self.cut)
        self.checkpoints.wait()

    def _save(self, step, logs, in_epoch):
        model = self.model  # the property copies the state out of JAX's step
        metrics = logs or model.get_metrics_result()
        numbers = {name: value for name, value in metrics.items() if ops.ndim(value) == 0}
        self.checkpoints.save(step, model, numbers, in_epoch)


class StopOnSignal(keras.callbacks.Callback):
    """Stops `fit` cleanly when the process receives a signal.

    The current step is finished or, with several hosts, the epoch, so that all stop at the same
    step. `fit` returns after `on_train_end` of the callbacks, where `Checkpoints` saves. Further
    signals are ignored until the process ends.

    Args:
        signals: the signals to react to. Default SIGTERM.

    Attributes:
        received: the number of the signal, or None.
        exit_code: the status for `sys.exit`: 0, or 143 after SIGTERM.
    """

    def __init__(self, signals=(signal.SIGTERM,)):
        super().__init__()
        self.signals, self.received = signals, None

    @property
    def exit_code(self):
        return 0 if self.received is None else EXIT_CODE_OF_SIGNALS + self.received

    def on_train_begin(self, logs=None):
        self._before = {number: signal.signal(number, self._receive) for number in self.signals}

    def _receive(self, number, frame):
        self.received = number
        if process()[1] == 1:
            # not `self.model`, which would copy the state out of JAX's step
            self._model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        if process()[1] > 1:
            anywhere = any_process(self.received is not None)
            self.received = self.received or (self.signals[0] if anywhere else None)
        if self.received is not None:
            self._model.stop_training = True

    def on_train_end(self, logs=None):
        # A second signal must not interrupt the final save.
        if self.received is None:
            for number, handler in self._before.items():
                signal.signal(number, handler)


class NonFinite(EachStep):
    """Warns of batches that the optimizer skipped, and stops training after too many in a row.

    Args:
        limit: number of skipped batches in a row after which training stops.
        directory: where the first `limit` batches of that row are written, as `batch-STEP.npz`.
        batch: a function step -> batch (this host's rows).
        start: the step that training resumes at. Default 0.
        every: number of steps between two checks of the optimizer's counters, each of which waits
            for the device. Default None: at the end of an epoch.

    Raises:
        ValueError: at the beginning of training, if the optimizer does not skip batches.
        FloatingPointError: in `fit`, if the limit is reached. The variables are as they were
            before the first skipped batch of the row.

    Example:
        >>> optimizer = AdamW(1e-4, skip_nonfinite=True)
        >>> callbacks = [NonFinite(10, "run/nonfinite", examples.batch, start)]
    """

    def __init__(self, limit, directory, batch, start=0, every=None):
        super().__init__(start)
        if limit < 1:
            raise ValueError(f"limit={limit}: expected 1 batch or more.")
        self.limit, self.directory, self.batch, self.every = limit, Path(directory), batch, every

    def on_train_begin(self, logs=None):
        optimizer = self._model.optimizer
        if not getattr(optimizer, "skip_nonfinite", isinstance(optimizer, LossScaleOptimizer)):
            raise ValueError(
                "NonFinite needs an optimizer that counts what it skips: one of "
                "bert4keras_lite.optimizers with skip_nonfinite=True, in float16 within "
                "bert4keras_lite.optimizers.LossScaleOptimizer (Keras' own does not count)."
            )
        self._skipped, self._checked = self._count("skipped"), self.step

    def reach(self, step, logs=None):
        if self.every is not None and step - self._checked >= self.every:
            self._check(step)

    def on_epoch_end(self, epoch, logs=None):
        self._check(self.step)  # also if a signal interrupted the epoch

    def _check(self, step):
        self._checked = step
        skipped = self._count("skipped")
        if skipped == self._skipped:
            return
        row = self._count("skipped_in_a_row")
        report = (
            f"Up to step {step}, {skipped} batches had gradients that are not finite and were "
            f"skipped, {skipped - self._skipped} of them since the last check"
        )
        self._skipped = skipped
        if row < self.limit:
            warnings.warn(f"{report}.", stacklevel=2)
            return
        for bad in range(step - row, step - row + self.limit):
            self._keep(bad)
        raise FloatingPointError(
            f"{report}, the last {row} in a row (limit={self.limit}). The batches from step "
            f"{step - row} on are in {self.directory}."
        )

    def _count(self, name):
        optimizer = self.model.optimizer  # `self.model` copies the state out of JAX's step
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        return int(ops.convert_to_numpy(getattr(optimizer, name))) if optimizer.built else 0

    def _keep(self, step):
        host, hosts = process()
        name = f"batch-{step:08d}" + (f"-of-process-{host}" if hosts > 1 else "")
        arrays = {
            "/".join(map(str, path)): array
            for path, array in keras.tree.flatten_with_path(self.batch(step))
        }
        with replacing(self.directory / f"{name}.npz") as file:
            np.savez(file, **arrays)


def variables_of(model):
    """Returns a dict name -> variable of all that training changes; builds the optimizer if needed.

    Names are paths without the numbers that Keras gives objects in the order of their creation.
    """
    optimizer = model.optimizer
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    variables, seen = {}, Counter()
    for part, group in (("model", model.variables), ("optimizer", optimizer.variables)):
        for variable in group:
            path = variable.path
            if part == "optimizer":  # drop its name, which may be numbered
                path = path.partition("/")[2] or path
            path = re.sub(r"\bseed_generator_\d+\b", "seed_generator", f"{part}/{path}")
            seen[path] += 1
            variables[path if seen[path] == 1 else f"{path} #{seen[path]}"] = variable
    return variables


def own_weights(model):
    """Returns a context in which the model has its own weights, not their moving averages."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return optimizer.own_weights() if isinstance(optimizer, OptimizerExtensions) else nullcontext()


def metrics_of(model):
    """Returns a dict name -> variable of the metrics; numbered, as the variables' names may be."""
    variables = enumerate(model.metrics_variables)
    return {f"{METRICS}{i}/{variable.name}": variable for i, variable in variables}


def set_metrics(model, arrays):
    """Restores the state of the metrics, or warns if the model has other metrics.

    Args:
        model: a compiled model.
        arrays: dict name -> array, by the names of `metrics_of`.
    """
    variables = metrics_of(model)
    if arrays and {name: spec(v.shape, v.dtype) for name, v in variables.items()} != {
        name: spec(array.shape, array.dtype) for name, array in arrays.items()
    }:
        warnings.warn(
            "The checkpoint was saved with other metrics, in the middle of an epoch; expected"
            f" {', '.join(variables) or 'none'}, got {excerpt(', '.join(arrays))}. The metrics of"
            " the rest of the epoch do not include the steps before.",
            stacklevel=2,
        )
        return
    for name, array in arrays.items():
        variables[name].assign(array)


def holds_files(directory):
    """Returns whether a directory exists and has files other than hidden ones of a save."""
    try:
        return any(not path.name.startswith(".") for path in directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return False


def spec(shape, dtype):
    """Returns dtype and shape as text, e.g. `float32[2, 3]`."""
    return f"{dtype}{list(shape)}"


def _are_metrics(value):
    return isinstance(value, dict) and all(
        number is None or type(number) is float or (type(number) is int and abs(number) < 1 << 63)
        for number in value.values()
    )


def _are_fingerprints(value):
    entry = value.get(VARIABLES) if isinstance(value, dict) else None
    return isinstance(entry, dict) and {name: type(x) for name, x in entry.items()} == {
        "size": int,
        "crc32c": str,
    }


def fingerprint(path):
    """Returns the size and checksum of a file.

    Raises:
        ValueError: it is a directory, a pipe or a device.
        OSError: it cannot be opened.
    """
    size_of(path)
    checksum = google_crc32c.Checksum()
    with naming(path), open(path, "rb") as file:
        while part := file.read(1 << 20):
            checksum.update(part)
        return {"size": file.tell(), "crc32c": checksum.hexdigest().decode()}


# Backend-specific functions


def process():
    """Returns `(index, count)`: the index of this process, and the number of processes."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.process_index(), jax.process_count()
    hosts, host = distribution.hosts()
    return host, hosts


def any_process(flag):
    """Returns whether the flag is true in any process; all processes must call this together."""
    if keras.backend.backend() == "jax":
        from jax.experimental import multihost_utils

        return bool(multihost_utils.process_allgather(np.array(flag)).any())
    import tensorflow as tf

    strategy = tf.distribute.get_strategy()
    flags = strategy.run(lambda: tf.constant(int(flag)))
    return bool(strategy.reduce("SUM", flags, axis=None) > 0)


def gather(variable):
    """Returns the whole value of a variable as a NumPy array, a copy.

    All processes must call this together, as each may hold only a part of the value.

    Args:
        variable: a variable or a tensor, e.g. `optimizer.iterations`.
    """
    value = ops.convert_to_tensor(variable)
    if keras.backend.backend() == "jax" and not value.is_fully_addressable:
        from jax.experimental import multihost_utils

        value = multihost_utils.process_allgather(value, tiled=True)
    # A copy: the array may share memory with the variable, which the next step overwrites.
    return np.array(ops.convert_to_numpy(value))


def random_state():
    """Returns a dict name -> array of the backend's random states; only PyTorch has them."""
    if keras.backend.backend() != "torch":
        return {}
    import torch

    states = {"random/cpu": torch.get_rng_state().numpy().copy()}
    if torch.cuda.is_available():
        states["random/cuda"] = torch.cuda.get_rng_state().numpy().copy()
    return states


def check_random_state(states):
    """Raises RuntimeError or TypeError if PyTorch does not accept the random states."""
    for name, state in states.items():
        import torch

        torch.Generator(name.removeprefix("random/")).set_state(torch.from_numpy(state))


def set_random_state(states):
    """Restores the random states of `random_state`."""
    if states:
        import torch

        torch.set_rng_state(torch.from_numpy(states["random/cpu"]))
        if "random/cuda" in states:
            torch.cuda.set_rng_state(torch.from_numpy(states["random/cuda"]))
