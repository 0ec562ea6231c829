"""Runs training from settings: builds the model, calls `fit`, exports the result."""

import contextlib
import signal
import sys
from pathlib import Path

import keras

from bert4keras_lite import optimizers
from bert4keras_lite.files import write_text
from bert4keras_lite.hub import local_directory
from bert4keras_lite.optimizers import keras_private
from bert4keras_lite.parsing import shown

from . import distribution, objectives
from .batches import ALIKE, Examples, fitting
from .checkpointing import (
    Checkpoints,
    EachStep,
    NonFinite,
    StopOnSignal,
    any_process,
    gather,
    process,
)
from .config import as_yaml
from .files import join, not_a_link
from .monitor import Monitor, Work, measured_flops
from .packing import open_tokenizer, vocabulary_hash
from .validation import Validation

__all__ = ["make_optimizer", "precision", "run"]

TOKENIZER_FILES = (
    "vocab.txt", "vocab.json", "merges.txt", "*.model", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
# Patterns of the folders in `output` that a run writes into, down to those of a model's parts
FOLDERS = ("checkpoints", "nonfinite", "tensorboard", "model*", "model*/*", "model*/*/*")


def make_optimizer(
    *,
    optimizer,
    steps,
    learning_rate,
    warmup_steps,
    schedule,
    final_rate,
    weight_decay,
    exclude_from_weight_decay,
    clipnorm,
    ema_momentum,
    accumulation_steps,
    precision,
    **adam,
):
    """Makes the optimizer from the settings of the same names, see `config.Settings`.

    Args:
        **adam: `beta_1`, `beta_2`, `epsilon` and `bias_correction`; ignored for `"adafactor"`.

    Returns:
        One of `bert4keras_lite.optimizers`; `"lamb"` is AdamW with layer adaptation (arXiv
        1904.00962). In `"mixed_float16"` it is wrapped in a `LossScaleOptimizer`, which counts the
        updates that it skips.
    """
    points = {warmup_steps: 1.0}
    if schedule == "linear":
        points[steps] = final_rate
    options = {
        "learning_rate": learning_rate,
        "lr_schedule": points,
        "weight_decay": weight_decay,
        "exclude_from_weight_decay": exclude_from_weight_decay,
        "global_clipnorm": clipnorm,
        "ema_momentum": ema_momentum,
        "gradient_accumulation_steps": accumulation_steps if accumulation_steps > 1 else None,
        "skip_nonfinite": True,
    }
    if optimizer == "adafactor":
        inner = optimizers.Adafactor(**options)
    else:
        inner = optimizers.AdamW(
            layer_adaptation=optimizer == "lamb",
            exclude_from_layer_adaptation=exclude_from_weight_decay,
            **adam,
            **options,
        )
    return optimizers.LossScaleOptimizer(inner) if precision == "mixed_float16" else inner


def run(settings, export_to=None, stream=sys.stdout):
    """Trains a model, resuming from the last checkpoint in `output` if there is one, and saves it.

    Writes `settings.yaml`, `checkpoints`, the files of `Monitor` and, at the end, `model/tf` and
    `model/hf` to `output`. On SIGUSR1 the current model is written to `model-<step>`.

    Args:
        settings: `config.Settings`.
        export_to: a directory to which the model of the last checkpoint is written, without any
            training. Default None: train.
        stream: text stream for the progress; None for no output. Default standard output.

    Returns:
        The `Objective`.

    Raises:
        ValueError: settings contradict each other, the corpus or the machine.
        CheckpointError: a checkpoint is damaged or belongs to another model, or a folder of
            `output` is a link.
        FloatingPointError: see `NonFinite`.
        SystemExit: with code 143 after SIGTERM, when the checkpoint is written.
    """
    for name in ("corpus", "output"):
        if getattr(settings, name) is None:
            raise ValueError(f"{name}: expected a directory.")
    output = Path(settings.output)
    keras.utils.set_random_seed(settings.seed)
    devices = distribution.DeviceSettings(**settings.part("devices"))
    with precision(settings.precision), distribution.scope(devices):
        hosts, host = distribution.hosts()
        examples = Examples(
            settings.corpus,
            settings.objective,
            settings.batch_size // settings.accumulation_steps,
            settings.seed,
            hosts,
            host,
            settings.cache,
            **settings.masking,
        )
        validation = validation_of(settings, examples)
        manifest = examples.manifest
        vocabulary = Vocabulary(settings.vocab, settings.checkpoint, settings.corpus, manifest)
        objective = objectives.build(vocab_size=manifest["vocab_size"], **settings.part("model"))
        check(objective, manifest, settings.model_parallel or 1)
        model = objective.model
        optimizer = make_optimizer(**settings.part("optimizer"))
        model.compile(optimizer, jit_compile=settings.jit_compile)
        model.optimizer.build(model.trainable_variables)  # otherwise the step is traced twice
        if keras.backend.backend() == "torch" and model.jit_compile and not settings.remat:
            from .torch_compile import compile_whole_steps

            compile_whole_steps(model)
        best = "val_loss" if settings.validation else "loss"
        check_links(output)
        checkpoints = Checkpoints(output / "checkpoints", keep=settings.keep, best=best)
        start = checkpoints.restore(model)
        if export_to is not None:
            if not start:
                raise ValueError(f"{output}: no checkpoint to export.")
            export(objective, export_to, vocabulary)
            return objective
        stop = StopOnSignal()
        callbacks = [
            checkpoints.callback(every=settings.save_every * settings.accumulation_steps),
            ExportOnSignal(objective, output, vocabulary, start),
            stop,
            NonFinite(settings.nonfinite_limit, output / "nonfinite", examples.batch, start),
        ]
        monitor = None
        if process()[0] == 0:
            write_text(output / "settings.yaml", as_yaml(settings))
            monitor = monitor_of(settings, objective, examples, start, stream, validation)
            callbacks.insert(0, monitor)
        every, end = (
            number * settings.accumulation_steps for number in (settings.log_every, settings.steps)
        )
        fit(objective, examples, range(start, end), every, callbacks)
        if monitor:
            monitor.close()
        if stop.received:
            sys.exit(stop.exit_code)
        export(objective, output / "model", vocabulary)
    return objective


@contextlib.contextmanager
def precision(policy):
    """Context in which layers are created with a dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def check_links(output):
    """Raises CheckpointError if an existing folder that a run writes into is a link."""
    for path in (path for pattern in FOLDERS for path in output.glob(pattern)):
        if path.is_dir():
            not_a_link(path)


def check(objective, manifest, model_parallel):
    """Raises ValueError if the model does not match the devices or the corpus of a manifest."""
    for transformer in objective.parts.values():
        distribution.check(transformer, model_parallel)
    config = objective.transformer.config
    pad, model_pad = manifest["special_ids"]["pad"] or 0, config.pad_token_id
    if model_pad >= 0 and pad != model_pad:
        raise ValueError(
            f"pad token mismatch: the corpus uses id {pad}, the model pad_token_id={model_pad}. Set"
            f" model.pad_token_id={pad}."
        )
    longest = config.max_position ** (2 if config.hierarchical_position else 1)
    length = manifest["sequence_length"]
    if config.position == "learned" and length > longest:
        raise ValueError(
            f"the corpus has sequences of {length} tokens, the model {longest} positions. Set "
            "model.max_position, or make a corpus of shorter sequences."
        )


def validation_of(settings, examples):
    """Returns the `Validation` of the settings, or None.

    Raises:
        ValueError: see `Validation`; the corpora differ in their settings; there are several hosts;
            or `validate_every` is not a multiple of `log_every`.
    """
    if settings.validation is None:
        return None
    if distribution.hosts()[0] > 1:
        raise ValueError(
            "validation: expected one host; with several, evaluate the model after training."
        )
    every = settings.validate_every or settings.save_every
    if every % settings.log_every:
        raise ValueError(
            f"validate_every={every} (save_every, if it is null): expected a multiple of"
            f" log_every={settings.log_every}."
        )
    validation = Validation(
        settings.validation,
        settings.objective,
        settings.batch_size // settings.accumulation_steps,
        settings.cache and join(settings.cache, "validation"),
        **settings.masking,
    )
    for name in ALIKE:
        expected, actual = examples.manifest[name], validation.examples.manifest[name]
        if expected != actual:
            raise ValueError(
                f"validation: {settings.validation} has {name} {shown(actual)}, and the corpus has"
                f" {shown(expected)}; expected corpora made with the same settings."
            )
    return validation


def monitor_of(settings, objective, examples, start, stream, validation):
    """Returns the `Monitor` of a run, with the tokens and FLOPs of its batches."""
    hosts, _, devices = distribution.readers()
    inputs, (targets, _), _ = examples.spec
    rows, length = next(shape for name, (shape, _) in inputs.items() if name.endswith("token_ids"))
    tokens = hosts * rows * (length + (targets[1] if settings.objective == "t5" else 0))
    peak, label = settings.peak_flops, "the peak given"
    if peak is None:
        peak = measured_flops(keras.config.dtype_policy().compute_dtype)
        label = f"the {peak / 1e12:.3g} TFLOP/s measured"
    work = Work(
        tokens,
        hosts * rows * objective.flops_per_example(length, targets[1], targets[1]),
        peak * hosts * devices * (settings.model_parallel or 1),
        label,
    )
    return Monitor(
        settings.output,
        start,
        settings.steps * settings.accumulation_steps,
        work,
        settings.accumulation_steps,
        settings.tensorboard,
        stream,
        validation,
        (settings.validate_every or settings.save_every) * settings.accumulation_steps,
    )


def fit(objective, examples, steps, every, callbacks):
    """Calls `model.fit` with "epochs" that end at multiples of `every` batches.

    After an interruption within an epoch, the first epoch is the rest of it. The checkpoint holds
    the state of the metrics, so the row in the log is that of an uninterrupted run.

    Args:
        objective: an `Objective`, compiled.
        examples: `batches.Examples`.
        steps: the range of the batches to train on.
        every: number of batches of an epoch.
        callbacks: callbacks of Keras.
    """
    model, names = objective.model, objective.inputs
    done, end = steps.start, steps.stop
    while done < end:
        batches = min(every - done % every, end - done)
        epochs = max(1, (end - done) // every) if batches == every else 1
        model.fit(
            distribution.make_dataset(lambda step: fitting(examples.from_step(step), names), done),
            steps_per_epoch=batches,
            epochs=epochs,
            callbacks=callbacks,
            verbose=0,
            shuffle=False,
        )
        if model.stop_training:
            return
        done += batches * epochs


class Vocabulary:
    """Tokenizer files, to be saved with a model.

    Args:
        vocab: a directory with a tokenizer, a `vocab.txt` or a `*.model`; or None.
        checkpoint: a directory that has one, if `vocab` is None; or None.
        corpus: name of the corpus, for messages.
        manifest: the contents of its `corpus.json`.

    Attributes:
        files: dict name -> path.

    Raises:
        ValueError: `vocab` does not exist, or the corpus was made with another vocabulary.
    """

    def __init__(self, vocab, checkpoint, corpus, manifest):
        self.files = {}
        path = Path(local_directory(vocab or checkpoint or ""))
        if vocab and not path.exists():
            raise ValueError(f"vocab={vocab}: no such file or directory.")
        if path.is_file() and vocab:
            self.files = {"vocab.txt" if path.suffix == ".txt" else path.name: path}
        elif path != Path() and path.is_dir():
            self.files = {file.name: file for name in TOKENIZER_FILES for file in path.glob(name)}
        if vocab and vocabulary_hash(open_tokenizer(vocab)) != manifest["vocabulary_sha256"]:
            raise ValueError(f"vocab={vocab}: {corpus} was made with another vocabulary.")


def export(objective, directory, vocabulary):
    """Writes the model in Google's and in Hugging Face's format, each with the tokenizer files.

    If there is a moving average of the weights, it is written. A family that transformers does not
    have is written in Google's format only. All hosts must call this together; the first writes.

    Args:
        objective: an `Objective`.
        directory: the directory for `tf` and `hf`.
        vocabulary: a `Vocabulary`.
    """
    with trained_weights(objective.model):
        if process()[0] > 0:
            return
        for format in ("tf", "hf"):
            try:
                objective.save(Path(directory) / format, format, vocabulary.files)
            except ValueError as error:
                print(f"Not written as {format}: {error}", file=sys.stderr)


@contextlib.contextmanager
def trained_weights(model):
    """Context in which the model has its final weights: the moving averages, if there are any.

    All hosts must enter it together, as each may hold only a part of a variable; within it, each
    has the whole variable in memory.
    """
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if keras.backend.backend() != "jax" or process()[1] == 1:
        with optimizer.averaged_weights() if optimizer.use_ema else contextlib.nullcontext():
            yield
        return
    averages = {}
    if optimizer.use_ema:
        pairs = zip(
            keras_private.weights(optimizer), keras_private.averages(optimizer), strict=True
        )
        averages = {weight.path: average for weight, average in pairs}
    parts = [variable.value for variable in model.variables]
    wholes = [gather(averages.get(variable.path, variable)) for variable in model.variables]
    try:
        for variable, whole in zip(model.variables, wholes, strict=True):
            variable._value = whole
        yield
    finally:
        for variable, part in zip(model.variables, parts, strict=True):
            variable._value = part


class ExportOnSignal(EachStep):
    """Callback that exports the model after the current step when the process receives SIGUSR1.

    With several hosts it exports after the epoch, if any of them received the signal.

    Args:
        objective, vocabulary: see `export`.
        output: the directory for `model-<update>`.
        start: number of steps trained before, see `EachStep`.
    """

    def __init__(self, objective, output, vocabulary, start):
        super().__init__(start)
        self.objective, self.output, self.vocabulary = objective, Path(output), vocabulary
        self.requested = False

    def on_train_begin(self, logs=None):
        self.before = signal.signal(signal.SIGUSR1, self.request)

    def on_train_end(self, logs=None):
        signal.signal(signal.SIGUSR1, self.before)

    def request(self, *_):
        self.requested = True

    def reach(self, step, logs=None):
        if self.requested and process()[1] == 1:
            self.export()

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if process()[1] > 1 and any_process(self.requested):
            self.export()

    def export(self):
        self.requested = False
        # `self.model` copies the state out of JAX's step
        update = int(gather(self.model.optimizer.iterations))
        export(self.objective, self.output / f"model-{update}", self.vocabulary)
