"""What training must not lose: checkpoints that are whole, and stops in good order.

    checkpoints = Checkpoints("run/checkpoints", keep=3, best="loss")
    start = checkpoints.restore(model)  # 0 where there is none
    stop = StopOnSignal()
    model.fit(batches_from(start), ..., callbacks=[checkpoints.callback(every=1000), stop])
    sys.exit(stop.exit_code)

A checkpoint is a directory `step-00001000`: all variables by name in `variables.safetensors`, and
`state.json`, which says how long that file is, and its checksum; `files.saving` writes both as one.
So whenever the process ends, there is a whole checkpoint or none, and training from it gives the
same numbers, bit for bit: weights, all that the optimizer keeps, the states of random numbers, and
in the middle of an epoch those of the metrics are in it. (Random numbers must be drawn from the seed
generators of layers, as Keras' layers do, or be PyTorch's own. The data must be a function of the
step.)
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

from bert4keras_lite.checkpoints import CheckpointError, save_checkpoint, saving_checkpoint
from bert4keras_lite.checkpoints.safetensor_file import read_entries
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
from .files import own

STATE, VARIABLES = "state.json", "variables.safetensors"
NAME = re.compile("step-([0-9]{8}|[1-9][0-9]{8,})")  # of a checkpoint
METRICS = "metrics/"  # where the names of their variables begin
# what earlier versions left: half a checkpoint, and a whole one that another was about to replace
OLD_TEMPORARY, OLD_REPLACED = ".tmp-step-", ".old-step-"
OURS = re.compile(rf"{NAME.pattern}|{re.escape(OLD_TEMPORARY)}.*|{re.escape(OLD_REPLACED)}.*", re.S)
EXIT_CODE_OF_SIGNALS = 128  # plus the number of the signal, as shells have it


class Checkpoints:
    """The checkpoints of one run of training, in one directory.

    With several hosts each process must call `save` and `restore` at the same steps; the first of
    them writes, and all of them read, so the directory must be one that all see. Otherwise no two
    processes may use a directory at a time.

    Args:
        directory: is made if missing. What an interrupted process left half done is removed.
        keep: how many of the last checkpoints stay.
        best: the name of a metric; the checkpoint with its best value stays, too.
        direction: `"min"` or `"max"`: which value of the metric is best.
        asynchronous: `save` copies the variables and returns; a thread writes. One checkpoint is
            written at a time, so that at most one copy is in memory.

    Raises:
        CheckpointError: what has the name of a checkpoint there is a link.

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
        self.step = 0  # of the last checkpoint that was restored or saved
        self.random = {}  # the backend's random state then
        self.metrics = {}  # name -> array: what the metrics held then, in the middle of an epoch
        self._writer = ThreadPoolExecutor(1, "checkpoints") if asynchronous else None
        self._pending = None
        self.directory.mkdir(parents=True, exist_ok=True)
        for path in self.directory.iterdir():
            if OURS.fullmatch(path.name):
                own(path)
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
        """The directory of a step's checkpoint."""
        return self.directory / f"step-{step:08d}"

    def steps(self):
        """Steps that have a checkpoint, damaged or not, in order."""
        paths = (path for path in self.directory.iterdir() if NAME.fullmatch(path.name))
        return sorted(int(path.name[5:]) for path in paths if holds_files(path))

    def best_step(self):
        """The step whose checkpoint has the best value of the metric, or None."""
        values = {}
        for step in self.steps():
            try:
                value = self._state(step)["metrics"].get(self.best)
            except CheckpointError:
                continue  # whoever restores it will hear of it
            if value is not None and isfinite(value):
                values[step] = value if self.direction == "min" else -value
        return min(values, key=values.get, default=None)

    # Saving

    def save(self, step, model, metrics=None, in_epoch=False):
        """Saves all that training goes on from.

        Args:
            step: how many steps led here.
            model: compiled, in no step at the moment.
            metrics: dict of name -> number.
            in_epoch: whether an epoch goes on after this step: then the state of the model's metrics
                is saved, so that their means will be those of the whole epoch.

        Raises:
            CheckpointError: this one cannot be written, or, if asynchronous, the one before it.
        """
        self.wait()
        metrics = {name: float(value) for name, value in (metrics or {}).items()}
        # what validation measures is not known in the middle of an epoch
        if metrics and self.best and self.best not in metrics and self.best[:4] != "val_":
            raise ValueError(f"best={self.best!r}: the metrics are {', '.join(metrics)}.")
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
        """Returns when nothing is being written.

        Raises:
            CheckpointError: what was being written could not be.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _write(self, state, arrays):
        with saving_checkpoint(own(self.path(state["step"]))) as stage:
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
        # later ones are damaged, or of another course that was left
        steps = [step for step in self.steps() if step <= last]
        kept = {*steps[-self.keep :], self.best_step()}
        for step in steps:
            if step not in kept:
                discard(own(self.path(step)))

    # Restoring

    def restore(self, model, step=None):
        """Puts a checkpoint's values into the variables.

        Args:
            model: compiled.
            step: whose checkpoint; None: the last that is whole. For each damaged one there is a
                warning. (Those of later steps stay: remove them, or the next restart takes them.)

        Returns:
            int, the step to go on with: 0 where there are no checkpoints.

        Raises:
            CheckpointError: none is whole, or the checkpoint's variables are not the model's, by
                names, shapes and dtypes. Then nothing has changed.
        """
        self.wait()
        steps = [step] if step is not None else self.steps()[::-1]
        damages = []
        for candidate in steps:
            try:
                entries = self._read(candidate)
            except CheckpointError as error:
                damages.append(str(error))
                continue
            for damage in damages:
                warnings.warn(f"{damage}. Going on from step {candidate}.", stacklevel=2)
            self._assign(entries, model, self.path(candidate))
            self.step = candidate
            return candidate
        if step is not None:
            raise CheckpointError(f"{damages[0]}. There are checkpoints of steps {self.steps()}.")
        if damages:
            raise CheckpointError(
                first_lines(damages) + ". No checkpoint before is whole; to begin anew, name "
                "another directory or empty this one."
            )
        self.random, self.metrics = random_state(), {}
        return 0

    def _state(self, step):
        path = self.path(step) / STATE
        try:
            state = parse_json(read_bytes(path))
        except FileNotFoundError:
            raise CheckpointError(f"{path}: is missing") from None
        except ValueError as error:
            raise CheckpointError(f"{path}: is damaged ({error!s:.300})") from None
        for name, expected, fits in (
            ("metrics", "numbers or null by name", _are_metrics),
            ("files", f"size and crc32c of {VARIABLES}", _are_fingerprints),
            ("step", f"{step}, as its directory says", lambda x: type(x) is int and x == step),
            *(
                (name, "a text", lambda x: isinstance(x, str | NoneType))
                for name in ("backend", "keras")
            ),
        ):
            value = state.get(name) if isinstance(state, dict) else state
            if not fits(value):
                raise CheckpointError(
                    f"{path}: is damaged ({name}: expected {expected}, got {shown(value)})"
                )
        return state

    def _read(self, step):
        """Name -> `Entry` of a checkpoint whose file is as it was written."""
        expected = self._state(step)["files"][VARIABLES]
        path = self.path(step) / VARIABLES
        try:
            found = fingerprint(path)
        except FileNotFoundError:
            raise CheckpointError(f"{path}: is missing") from None
        except ValueError as error:
            raise CheckpointError(f"{path}: is damaged ({error})") from None
        for what, value in expected.items():
            if found[what] != value:
                raise CheckpointError(
                    f"{path}: is damaged: its {what} is {found[what]} and was {shown(value)}"
                )
        return read_entries(path)

    def _assign(self, entries, model, path):
        metrics = {name: entry for name, entry in entries.items() if name.startswith(METRICS)}
        entries = {name: entry for name, entry in entries.items() if name not in metrics}
        variables = variables_of(model)
        random = random_state()
        expected = {n: kind(v.shape, v.dtype) for n, v in {**variables, **random}.items()}
        found = {name: kind(entry.shape, entry.dtype) for name, entry in entries.items()}
        differences = [
            *(f"- {name} {expected[name]}: missing" for name in expected if name not in found),
            *(
                f"+ {excerpt(name)} {found[name]}: left over"
                for name in found
                if name not in expected
            ),
            *(
                f"! {name}: {found[name]}, the model has {expected[name]}"
                for name in expected
                if name in found and found[name] != expected[name]
            ),
        ]
        if differences:
            raise CheckpointError(
                f"{path}: was saved by another model, optimizer or backend:\n"
                + first_lines(differences)
                + "\nName another directory, or restore the settings that it was made with."
            )
        random = {name: np.array(entries[name].read()) for name in random}
        try:
            check_random_state(random)
        except (RuntimeError, TypeError) as error:
            raise CheckpointError(
                f"{path}: is damaged (states of random numbers that PyTorch does not take: "
                f"{error!s:.200})"
            ) from None
        for name, variable in variables.items():
            variable.assign(np.array(entries[name].read()))  # its own memory: JAX may give it away
        self.random = random
        self.metrics = {name: np.array(entry.read()) for name, entry in metrics.items()}
        set_random_state(self.random)

    def callback(self, every):
        """A callback for `fit` that saves, each so many steps and at the end.

        It counts steps from `restore`. Metrics are those of the epoch so far. Where the checkpoint
        was saved in the middle of an epoch, the first epoch is the rest of it: its metrics are
        those of both.
        """
        return Save(self, every)


class EachStep(keras.callbacks.Callback):
    """Calls `reach(step, logs)` when a step has ended, with logs where an epoch ends with it.

    An epoch that is cut short, as by a signal, has not ended: `cut` says so.

    It looks when the next batch begins: for callbacks that look when one ends, Keras fetches the
    metrics of each step from the device, and waits for them.

    Args:
        step: how many steps there were before.
    """

    def __init__(self, step=0):
        super().__init__()
        self.step, self.cut = step, False

    def on_epoch_begin(self, epoch, logs=None):
        self._before = self.step

    def on_train_batch_begin(self, batch, logs=None):
        if batch:  # else it was reached when the epoch before ended
            self.reach(self._before + batch)
        self.step = self._before + batch + self._model.steps_per_execution  # when it has ended

    def on_epoch_end(self, epoch, logs=None):
        self.cut = self.step - self._before < (self.params.get("steps") or 0)
        self.reach(self.step, None if self.cut else logs)


class Save(EachStep):
    """See `Checkpoints.callback`."""

    def __init__(self, checkpoints, every):
        super().__init__()
        if every < 1:
            raise ValueError(f"every={every}: expected 1 step or more.")
        self.checkpoints, self.every = checkpoints, every
        self._logs = None  # of the epoch that has ended with the step

    def on_train_begin(self, logs=None):
        self.step = self._begin = self.checkpoints.step

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        if self._before == self._begin:
            set_metrics(self._model, self.checkpoints.metrics)

    def on_train_batch_begin(self, batch, logs=None):
        super().on_train_batch_begin(batch, logs)
        if self._before + batch == self._begin:
            # PyTorch's data loaders draw a random number each time that one is begun
            set_random_state(self.checkpoints.random)

    def reach(self, step, logs=None):
        self._logs = logs
        if step // self.every > self.checkpoints.step // self.every:
            self._save(step, logs, in_epoch=logs is None)

    def on_train_end(self, logs=None):
        if self.step > self.checkpoints.step:
            self._save(self.step, self._logs or logs, self.cut)  # with what callbacks added to them
        self.checkpoints.wait()

    def _save(self, step, logs, in_epoch):
        model = self.model  # asking for it takes the state out of JAX' step
        metrics = logs or model.get_metrics_result()
        numbers = {name: value for name, value in metrics.items() if ops.ndim(value) == 0}
        self.checkpoints.save(step, model, numbers, in_epoch)


class StopOnSignal(keras.callbacks.Callback):
    """Ends `fit` in good order when a signal asks the process to leave.

    The step that runs is finished, or with several hosts the epoch, so that all stop at the same
    one. `fit` returns after the callbacks' `on_train_end`, which is where `Checkpoints` save. More
    signals change nothing, until the process ends.

    Args:
        signals: that mean it.

    Attributes:
        received: the number of the signal, or None.
        exit_code: 0, or 143 for SIGTERM: for `sys.exit`.
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
            self._model.stop_training = True  # `self.model` would take JAX' state out of its step

    def on_epoch_end(self, epoch, logs=None):
        if process()[1] > 1:
            some = any_process(self.received is not None)
            self.received = self.received or (self.signals[0] if some else None)
        if self.received is not None:
            self._model.stop_training = True

    def on_train_end(self, logs=None):
        # a second signal must not interrupt what is saved on the way out
        if self.received is None:
            for number, handler in self._before.items():
                signal.signal(number, handler)


class NonFinite(EachStep):
    """Warns of batches that the optimizer skipped, and ends a training that skips all of them.

    Args:
        limit: after so many in a row it ends.
        directory: gets the batches of that row, the first `limit`, each as `batch-STEP.npz`.
        batch: function of a step that gives its batch (of this host's rows).
        start: the step that training goes on from.
        every: steps between two looks at the optimizer's counters, each of which waits for the
            device. None: when an epoch ends.

    Raises:
        ValueError: when training begins: the optimizer does not skip.
        FloatingPointError: out of `fit`: the limit is reached. The variables are as they were
            before the row.

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
        self._skipped, self._looked = self._count("skipped"), self.step

    def reach(self, step, logs=None):
        if self.every is not None and step - self._looked >= self.every:
            self._look(step)

    def on_epoch_end(self, epoch, logs=None):
        self._look(self.step)  # also where a signal has cut it short

    def _look(self, step):
        self._looked = step
        skipped = self._count("skipped")
        if skipped == self._skipped:
            return
        row = self._count("skipped_in_a_row")
        told = (
            f"Up to step {step}, {skipped} batches had gradients that are not finite and were "
            f"skipped, {skipped - self._skipped} of them since the last look"
        )
        self._skipped = skipped
        if row < self.limit:
            warnings.warn(f"{told}.", stacklevel=2)
            return
        for bad in range(step - row, step - row + self.limit):
            self._keep(bad)
        raise FloatingPointError(
            f"{told}, the last {row} in a row (limit={self.limit}). The batches from step "
            f"{step - row} on are in {self.directory}."
        )

    def _count(self, name):
        optimizer = self.model.optimizer  # asking for the model takes the state out of JAX' step
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
    """Name -> variable: what training changes. Builds the optimizer if nobody has.

    Paths, without the numbers that Keras draws in the order in which things were made in a process.
    """
    optimizer = model.optimizer
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    variables, seen = {}, Counter()
    for part, some in (("model", model.variables), ("optimizer", optimizer.variables)):
        for variable in some:
            path = variable.path
            if part == "optimizer":  # whose own name has a number, too
                path = path.partition("/")[2] or path
            path = re.sub(r"\bseed_generator_\d+\b", "seed_generator", f"{part}/{path}")
            seen[path] += 1
            variables[path if seen[path] == 1 else f"{path} #{seen[path]}"] = variable
    return variables


def own_weights(model):
    """Within, moving averages that are being evaluated are not in the model."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return optimizer.own_weights() if isinstance(optimizer, OptimizerExtensions) else nullcontext()


def metrics_of(model):
    """Name -> variable: what the metrics hold. Their own names may have numbers: see above."""
    variables = enumerate(model.metrics_variables)
    return {f"{METRICS}{i}/{variable.name}": variable for i, variable in variables}


def set_metrics(model, arrays):
    """Has the metrics go on with what `metrics_of` gave, if they are the same."""
    variables = metrics_of(model)
    if arrays and {name: kind(v.shape, v.dtype) for name, v in variables.items()} != {
        name: kind(array.shape, array.dtype) for name, array in arrays.items()
    }:
        warnings.warn(
            "The checkpoint was saved with other metrics, in the middle of an epoch; expected "
            f"{', '.join(variables) or 'none'}, got {excerpt(', '.join(arrays))}. What is shown for the rest "
            "of the epoch does not have the steps before.",
            stacklevel=2,
        )
        return
    for name, array in arrays.items():
        variables[name].assign(array)


def holds_files(directory):
    """Whether there is such a directory, with more in it than the hidden files of a save."""
    try:
        return any(not path.name.startswith(".") for path in directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return False


def kind(shape, dtype):
    return f"{dtype}{list(shape)}"


def _are_metrics(value):
    return isinstance(value, dict) and all(
        number is None or type(number) is float or (type(number) is int and abs(number) < 1 << 63)
        for number in value.values()
    )


def _are_fingerprints(value):
    found = value.get(VARIABLES) if isinstance(value, dict) else None
    return isinstance(found, dict) and {name: type(x) for name, x in found.items()} == {
        "size": int,
        "crc32c": str,
    }


def fingerprint(path):
    """The size and checksum of a file.

    Raises:
        ValueError: it is a directory, a pipe or a device.
        OSError: it can't be opened.
    """
    size_of(path)
    checksum = google_crc32c.Checksum()
    with naming(path), open(path, "rb") as file:
        while part := file.read(1 << 20):
            checksum.update(part)
        return {"size": file.tell(), "crc32c": checksum.hexdigest().decode()}


# What differs between backends


def process():
    """`(index, count)`: which of the processes that train together this is."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.process_index(), jax.process_count()
    hosts, host = distribution.hosts()
    return host, hosts


def any_process(flag):
    """Whether it is true for any of the processes, all of which must ask."""
    if keras.backend.backend() == "jax":
        from jax.experimental import multihost_utils

        return bool(multihost_utils.process_allgather(np.array(flag)).any())
    import tensorflow as tf

    strategy = tf.distribute.get_strategy()
    flags = strategy.run(lambda: tf.constant(int(flag)))
    return bool(strategy.reduce("SUM", flags, axis=None) > 0)


def gather(variable):
    """A copy in this process' memory. Each process must ask: it may hold but a part.

    Args:
        variable: a variable, or what has been computed from some, as `optimizer.iterations`.
    """
    value = ops.convert_to_tensor(variable)
    if keras.backend.backend() == "jax" and not value.is_fully_addressable:
        from jax.experimental import multihost_utils

        value = multihost_utils.process_allgather(value, tiled=True)
    # without the copy it may be the memory of the variable, which the next step writes to
    return np.array(ops.convert_to_numpy(value))


def random_state():
    """Name -> array: where the backend's own random numbers are, if it has any."""
    if keras.backend.backend() != "torch":
        return {}
    import torch

    states = {"random/cpu": torch.get_rng_state().numpy().copy()}
    if torch.cuda.is_available():
        states["random/cuda"] = torch.cuda.get_rng_state().numpy().copy()
    return states


def check_random_state(states):
    """Raises if `set_random_state` would, as PyTorch does: a RuntimeError or TypeError."""
    for name, state in states.items():
        import torch

        torch.Generator(name.removeprefix("random/")).set_state(torch.from_numpy(state))


def set_random_state(states):
    """Puts back what `random_state` gave."""
    if states:
        import torch

        torch.set_rng_state(torch.from_numpy(states["random/cpu"]))
        if "random/cuda" in states:
            torch.cuda.set_rng_state(torch.from_numpy(states["random/cuda"]))
