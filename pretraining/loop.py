"""A run: from settings, by `fit`, to a model that everything else loads."""

import contextlib
import signal
import sys
from pathlib import Path

import keras

from bert4keras_lite import optimizers
from bert4keras_lite.files import write_text
from bert4keras_lite.hub import local_directory
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
from .files import join, own
from .monitor import Monitor, Work, measured_flops
from .packing import open_tokenizer, vocabulary_hash
from .validation import Validation

TOKENIZER_FILES = (
    "vocab.txt", "vocab.json", "merges.txt", "*.model", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
# what a run writes into within its output, down to the folders of a model's parts
FOLDERS = ("checkpoints", "nonfinite", "tensorboard", "model*", "model*/*", "model*/*/*")


def optimizer(settings):
    """The optimizer that the settings describe.

    Returns:
        One of `bert4keras_lite.optimizers`; `"lamb"` is AdamW with layer adaptation (arXiv
        1904.00962). In `"mixed_float16"` it is in loss scaling, which counts what it skips.
    """
    points = {settings.warmup_steps: 1.0}
    if settings.schedule == "linear":
        points[settings.steps] = settings.final_rate
    accumulation = settings.accumulation_steps
    options = {
        "learning_rate": settings.learning_rate,
        "lr_schedule": points,
        "weight_decay": settings.weight_decay,
        "exclude_from_weight_decay": settings.exclude_from_weight_decay,
        "global_clipnorm": settings.clipnorm,
        "ema_momentum": settings.ema_momentum,
        "gradient_accumulation_steps": accumulation if accumulation > 1 else None,
        "skip_nonfinite": True,
    }
    if settings.optimizer == "adafactor":
        inner = optimizers.Adafactor(**options)
    else:
        inner = optimizers.AdamW(
            beta_1=settings.beta_1,
            beta_2=settings.beta_2,
            epsilon=settings.epsilon,
            bias_correction=settings.bias_correction,
            layer_adaptation=settings.optimizer == "lamb",
            exclude_from_layer_adaptation=settings.exclude_from_weight_decay,
            **options,
        )
    scaled = settings.precision == "mixed_float16"
    return optimizers.LossScaleOptimizer(inner) if scaled else inner


def run(settings, export_to=None, stream=sys.stdout):
    """Trains, from the last checkpoint in `output` if there is one, and saves the model.

    `output` gets `settings.yaml`, `checkpoints`, what `Monitor` writes and, in the end,
    `model/tf` and `model/hf`. On SIGUSR1 the model as it is goes to `model-<step>`.

    Args:
        settings: `config.Settings`.
        export_to: a directory: nothing is trained, and the model of the last checkpoint goes
            there.
        stream: gets what there is to say; None: nothing is said.

    Returns:
        The `Objective`.

    Raises:
        ValueError: settings that do not fit each other, the corpus or the machine.
        CheckpointError: a checkpoint that is damaged, or is not of this model; a folder of
            `output` that is a link.
        FloatingPointError: see `NonFinite`.
        SystemExit: with code 143 after SIGTERM, when the checkpoint is written.
    """
    for name in ("corpus", "output"):
        if getattr(settings, name) is None:
            raise ValueError(f"{name}: expected a directory.")
    output = Path(settings.output)
    keras.utils.set_random_seed(settings.seed)
    with precision(settings.precision), distribution.scope(settings):
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
        vocabulary = Vocabulary(settings, examples.manifest)
        objective = objectives.build(settings, examples.manifest["vocab_size"])
        check(objective, settings, examples)
        model = objective.model
        model.compile(optimizer(settings), jit_compile=settings.jit_compile)
        model.optimizer.build(model.trainable_variables)  # one trace
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
        fit(objective, examples, settings, start, callbacks)
        if monitor:
            monitor.close()
        if stop.received:
            sys.exit(stop.exit_code)
        export(objective, output / "model", vocabulary)
    return objective


@contextlib.contextmanager
def precision(policy):
    """Within, layers are made for this precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def check_links(output):
    """Raises if a folder that a run writes into, of those that are there, leads elsewhere."""
    for path in (path for pattern in FOLDERS for path in output.glob(pattern)):
        if path.is_dir():
            own(path)


def check(objective, settings, examples):
    """Raises if the model cannot be split as the settings ask, or does not know the corpus' text."""
    for transformer in objective.parts.values():
        distribution.check(transformer, settings.model_parallel or 1)
    config = objective.transformer.config
    pad, here = examples.manifest["special_ids"]["pad"] or 0, config.pad_token_id
    if here >= 0 and pad != here:
        raise ValueError(
            f"the corpus is padded with token {pad}, which the model takes for a word: set "
            f"model.pad_token_id to {pad} (it is {here})."
        )
    longest = config.max_position ** (2 if config.hierarchical_position else 1)
    length = examples.manifest["sequence_length"]
    if config.position == "learned" and length > longest:
        raise ValueError(
            f"the corpus has sequences of {length} tokens, the model {longest} positions: set "
            "model.max_position, or make a corpus of shorter sequences."
        )


def validation_of(settings, examples):
    """The `Validation` that the settings ask for, or None.

    Raises:
        ValueError: as `Validation`; a corpus of other rows or another vocabulary; several hosts; a
            time for it within the steps of a row of the log.
    """
    if settings.validation is None:
        return None
    if distribution.hosts()[0] > 1:
        raise ValueError("validation: expected one host; with several, measure the model after.")
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
        here, there = examples.manifest[name], validation.examples.manifest[name]
        if here != there:
            raise ValueError(
                f"validation: {settings.validation} has {name} {shown(there)}, and the corpus has"
                f" {shown(here)}; expected corpora made with the same settings."
            )
    return validation


def monitor_of(settings, objective, examples, start, stream, validation):
    """A `Monitor` that knows how much work a batch of these examples is."""
    hosts, _, devices = distribution.readers()
    inputs, (targets, _), _ = examples.spec
    rows, length = next(shape for name, (shape, _) in inputs.items() if name.endswith("token_ids"))
    tokens = hosts * rows * (length + (targets[1] if settings.objective == "t5" else 0))
    peak, said = settings.peak_flops, "the peak given"
    if peak is None:
        peak = measured_flops(keras.config.dtype_policy().compute_dtype)
        said = f"the {peak / 1e12:.3g} TFLOP/s measured"
    work = Work(
        tokens,
        hosts * rows * objective.flops_per_example(length, targets[1], targets[1]),
        peak * hosts * devices * (settings.model_parallel or 1),
        said,
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


def fit(objective, examples, settings, start, callbacks):
    """`model.fit`, whose "epochs" end at multiples of `log_every` steps.

    After a stop in the middle of one, the first is what was left of it, and the checkpoint has the
    metrics of what came before: its row is that of a run without a stop.
    """
    model, names = objective.model, objective.inputs
    every = settings.log_every * settings.accumulation_steps
    done, end = start, settings.steps * settings.accumulation_steps
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
    """The files of a tokenizer, which go with a model: name -> path, as `files`.

    Args:
        settings: has `vocab`: a directory with a tokenizer, a `vocab.txt` or a `*.model`; or
            `checkpoint`, a directory that has one.
        manifest: of a corpus.

    Raises:
        ValueError: the corpus was made with another vocabulary.
    """

    def __init__(self, settings, manifest):
        self.files = {}
        path = Path(local_directory(settings.vocab or settings.checkpoint or ""))
        if settings.vocab and not path.exists():
            raise ValueError(f"vocab={settings.vocab}: no such file or directory.")
        if path.is_file() and settings.vocab:
            self.files = {"vocab.txt" if path.suffix == ".txt" else path.name: path}
        elif path != Path() and path.is_dir():
            self.files = {file.name: file for name in TOKENIZER_FILES for file in path.glob(name)}
        if settings.vocab:
            found = vocabulary_hash(open_tokenizer(settings.vocab))
            if found != manifest["vocabulary_sha256"]:
                raise ValueError(
                    f"vocab={settings.vocab}: {settings.corpus} was made with another vocabulary."
                )


def export(objective, directory, vocabulary):
    """Writes the model in Google's format and for Hugging Face, each with the vocabulary.

    With a moving average of the weights, that is what is written. A family that transformers does
    not know has Google's format alone. All hosts must ask; the first of them writes.

    Args:
        objective: an `Objective`.
        directory: gets `tf` and `hf`.
        vocabulary: a `Vocabulary`.
    """
    with trained_weights(objective.model):
        if process()[0] > 0:
            return
        for kind in ("tf", "hf"):
            try:
                objective.save(Path(directory) / kind, kind, vocabulary.files)
            except ValueError as error:
                print(f"Not written as {kind}: {error}", file=sys.stderr)


@contextlib.contextmanager
def trained_weights(model):
    """Within, the weights are what training gives: their moving averages, where there are any.

    Between hosts each must ask, as each may hold but a part of a variable; within, the whole of it is
    in its memory.
    """
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if keras.backend.backend() != "jax" or process()[1] == 1:
        with optimizer.averaged_weights() if optimizer.use_ema else contextlib.nullcontext():
            yield
        return
    averages = {}
    if optimizer.use_ema:
        kept = optimizer._model_variables_moving_average
        averages = {v.path: a for v, a in zip(optimizer._trainable_variables, kept, strict=True)}
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
    """Exports the model whenever the process gets SIGUSR1, as it is after the step.

    With several hosts it is after the epoch, and the signal to any of them is enough: all take part.

    Args:
        objective, vocabulary: see `export`.
        output: a directory, which gets `model-<update>`.
        start: see `EachStep`.
    """

    def __init__(self, objective, output, vocabulary, start):
        super().__init__(start)
        self.objective, self.output, self.vocabulary = objective, Path(output), vocabulary
        self.asked = False

    def on_train_begin(self, logs=None):
        self.before = signal.signal(signal.SIGUSR1, self.ask)

    def on_train_end(self, logs=None):
        signal.signal(signal.SIGUSR1, self.before)

    def ask(self, *_):
        self.asked = True

    def reach(self, step, logs=None):
        if self.asked and process()[1] == 1:
            self.export()

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if process()[1] > 1 and any_process(self.asked):
            self.export()

    def export(self):
        self.asked = False
        update = int(gather(self.model.optimizer.iterations))  # JAX' state is out of its step
        export(self.objective, self.output / f"model-{update}", self.vocabulary)
