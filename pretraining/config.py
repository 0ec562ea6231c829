"""Settings of a training run: from a YAML file or recipe, overridden by flags."""

import contextlib
import dataclasses
import difflib
import inspect
import json
import math
import re
import typing
from dataclasses import dataclass, field, fields
from itertools import chain
from pathlib import Path
from types import NoneType

from bert4keras_lite.arguments import check_number
from bert4keras_lite.configs import ARCHITECTURES, Config
from bert4keras_lite.parsing import (
    SURROGATES,
    RepeatedKeyError,
    parse_json,
    read_bytes,
    shown,
    size_of,
)
from bert4keras_lite.patterns import check_patterns

from .masking import OBJECTIVES

__all__ = ["Settings", "as_yaml", "load"]

RECIPES = Path(__file__).with_name("recipes")
# Limits of a settings file: its bytes, and its keys and values (PyYAML takes 600 bytes for each)
MAX_SIZE, MAX_VALUES = 1 << 17, 1 << 16
MAX_DEPTH = 20  # of lists within each other: PyYAML goes through all of them for each token
MAX_TEXT = 1000  # characters of a text
ODD_NUMBER = re.compile(r"[-+]?0[0-9_]|.*:", re.DOTALL)  # octal or sexagesimal
CHOICES = {
    "objective": ("mlm", "lm", "unilm", "t5", "electra"),
    "backend": ("tensorflow", "jax", "torch"),
    "optimizer": ("adamw", "lamb", "adafactor"),
    "schedule": ("linear", "constant"),
    "precision": ("float32", "mixed_bfloat16", "mixed_float16"),
}
COUNT = (1, 2**31 - 1)
# Minimum and maximum of numbers that are not null; those of `model` are checked by `Config`
RANGES = {
    "seed": (0, 2**32 - 1),
    "generator_size": (0.001, 1.0),
    "discriminator_weight": (0.0, 1e6),
    "batch_size": (1, 1 << 20),
    "steps": (1, 1 << 40),
    "learning_rate": (0.0, 1000.0),
    "warmup_steps": (0, 1 << 40),
    "final_rate": (0.0, 1.0),
    "weight_decay": (0.0, 1000.0),
    "beta_1": (0.0, 0.999999),
    "beta_2": (0.0, 0.999999),
    "epsilon": (1e-30, 1.0),
    "clipnorm": (1e-12, 1e12),
    "ema_momentum": (0.0, 1.0),
    "accumulation_steps": (1, 1 << 20),
    "nonfinite_limit": COUNT,
    "vocabulary_chunk": COUNT,
    "data_parallel": COUNT,
    "model_parallel": COUNT,
    "hosts": COUNT,
    "process_id": (0, 2**31 - 1),
    "log_every": (1, 1 << 40),
    "save_every": (1, 1 << 40),
    "validate_every": (1, 1 << 40),
    "keep": COUNT,
    "peak_flops": (1.0, 1e30),
}


# What a part of a run is given: the arguments of its function or class, which have these names
PARTS = {
    # objectives.build
    "model": (
        *("objective", "model", "checkpoint", "remat", "vocabulary_chunk", "seed"),
        *("generator_size", "generator_checkpoint", "discriminator_weight"),
    ),
    # loop.make_optimizer
    "optimizer": (
        *("optimizer", "steps", "learning_rate", "warmup_steps", "schedule", "final_rate"),
        *("weight_decay", "exclude_from_weight_decay", "clipnorm", "ema_momentum"),
        *("beta_1", "beta_2", "epsilon", "bias_correction", "accumulation_steps", "precision"),
    ),
    # distribution.DeviceSettings
    "devices": (
        *("devices", "data_parallel", "model_parallel", "hosts", "coordinator", "process_id"),
    ),
}


@dataclass(frozen=True)
class Settings:
    """Settings of a training run. A step is an update of the weights.

    Raises:
        ValueError: a value has the wrong type or is out of its range.
    """

    # Input and output
    objective: str = "mlm"
    # a directory of python -m pretraining.corpus; or several: directory -> times in an epoch
    corpus: str | dict | None = None
    validation: str | dict | None = None  # like corpus, held-out text: val_loss, best checkpoint
    output: str | None = None  # directory of checkpoints, log, plot, and the final model
    vocab: str | None = None  # vocab.txt, or a directory with a tokenizer; saved with the model
    backend: str | None = None  # None: KERAS_BACKEND or Keras' settings
    seed: int = 0

    # Model
    checkpoint: str | None = None  # initial weights; None: random weights
    model: dict = field(default_factory=dict)  # fields of Config; "family": of ARCHITECTURES
    generator_size: float = 0.25  # ELECTRA's generator, as a fraction of the discriminator
    generator_checkpoint: str | None = None
    discriminator_weight: float = 50.0

    # Data
    batch_size: int = 32  # sequences in a step, on all devices together
    masking: dict = field(default_factory=dict)  # arguments of the objective's class in masking.py
    cache: str | None = None  # a local directory to copy a remote corpus to

    # Optimization
    steps: int = 1000
    optimizer: str = "adamw"
    learning_rate: float = 1e-4
    warmup_steps: int = 0
    schedule: str = "linear"  # after the warm-up: linear decay to final_rate, or constant
    final_rate: float = 0.0  # as a fraction of learning_rate
    weight_decay: float = 0.01
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-6
    bias_correction: bool = True
    exclude_from_weight_decay: list | None = None  # patterns of paths; None: norms and biases
    clipnorm: float | None = 1.0  # norm of all gradients together
    ema_momentum: float | None = None  # save the moving average of the weights at the end
    accumulation_steps: int = 1  # parts into which a batch is split, processed one by one
    nonfinite_limit: int = 10  # updates in a row with non-finite gradients that end the run

    # Memory and speed
    precision: str = "float32"
    remat: bool = False  # recompute activations instead of keeping them
    vocabulary_chunk: int | None = None  # tokens whose logits are computed at a time; None: all
    jit_compile: bool | str = "auto"

    # Devices: see distribution.DeviceSettings
    devices: int | str = "auto"
    data_parallel: int | None = None
    model_parallel: int | None = None
    hosts: int = 1
    coordinator: str | None = None
    process_id: int | None = None

    # Logging and checkpoints; intervals in steps
    log_every: int = 100
    save_every: int = 1000
    validate_every: int | None = None  # a multiple of log_every; None: save_every
    keep: int = 3  # number of latest checkpoints to keep, besides the best
    peak_flops: float | None = None  # FLOP/s of one device; None: measured
    tensorboard: bool = False

    def __post_init__(self):
        for name, annotation in typing.get_type_hints(Settings).items():
            object.__setattr__(self, name, converted(name, getattr(self, name), annotation))
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in choices:
                raise ValueError(f"{name}={value!r:.200}: expected one of {', '.join(choices)}.")
        for name, ends in RANGES.items():
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), *ends)
        if self.jit_compile not in (True, False, "auto"):
            raise ValueError(f"jit_compile={shown(self.jit_compile)}: expected a bool or 'auto'.")
        if self.devices != "auto" and not (type(self.devices) is int and self.devices >= 1):
            raise ValueError(
                f"devices={shown(self.devices)}: expected a whole number of at least 1, or 'auto'."
            )
        check_patterns("exclude_from_weight_decay", self.exclude_from_weight_decay or ())
        object.__setattr__(self, "masking", masking_options(self.objective, self.masking))
        if self.batch_size % self.accumulation_steps:
            raise ValueError(
                f"batch_size={self.batch_size} cannot be split into accumulation_steps="
                f"{self.accumulation_steps} equal parts."
            )
        if not 0 <= self.warmup_steps < self.steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps}: expected fewer than steps={self.steps}."
            )
        object.__setattr__(self, "model", model_fields(self.model))

    def part(self, name):
        """Returns the settings of a part of the run, a dict: see `PARTS`."""
        return {setting: getattr(self, setting) for setting in PARTS[name]}


def converted(name, value, annotation):
    """Converts a value to the type of its field, and checks it.

    YAML parses `1e-4` as a string, which is converted if a float is expected.

    Args:
        name: the name of the setting, for error messages.
        value: the value.
        annotation: the type of the field, e.g. `int | None`.

    Raises:
        ValueError: the value has another type, is an empty string, or is not finite.
    """
    types = typing.get_args(annotation) or (annotation,)
    if isinstance(value, str) and str not in types and float in types:
        with contextlib.suppress(ValueError):
            value = float(value)
    if type(value) is int and int not in types and float in types and abs(value) < 1 << 1000:
        value = float(value)
    if type(value) is float and float not in types and int in types and value.is_integer():
        value = int(value)
    if type(value) not in types:
        expected = " or ".join("null" if t is NoneType else t.__name__ for t in types)
        raise ValueError(f"{name}={shown(value)}: expected {expected}.")
    if value == "":
        raise ValueError(f"{name}='': expected a text that is not empty.")
    check_values(name, value)
    return value


def check_values(name, value):
    """Raises ValueError if a setting, or a value in it, is a text or number beyond the limits."""
    if isinstance(value, dict | list):
        for inner in chain(value, value.values()) if isinstance(value, dict) else value:
            check_values(name, inner)
        return
    if isinstance(value, str) and ("\0" in value or SURROGATES.search(value)):
        raise ValueError(
            f"{name}={shown(value)}: expected a text without null or lone surrogate characters."
        )
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise ValueError(f"{name}={shown(value)}: expected at most {MAX_TEXT} characters.")
    is_long = isinstance(value, int) and not -(1 << 63) <= value < 1 << 63
    if is_long or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(
            f"{name}={shown(value)}: expected finite numbers, integers of at most 64 bits."
        )


def masking_options(objective, values):
    """Returns the `masking` settings (arguments of the objective's class), checked and converted.

    Each must have the type of its default.
    """
    cls = OBJECTIVES[objective]
    known = dict(inspect.signature(cls.__init__).parameters)
    if known.pop("options", None):  # `**options` are the arguments of the base class
        known = inspect.signature(cls.__base__.__init__).parameters | known
    known = {name: x.default for name, x in known.items() if name not in ("self", "manifest")}
    check_names(values, known, f"masking of {objective}")
    types = {name: int | None if x is None else type(x) for name, x in known.items()}
    return {
        name: converted(f"masking.{name}", value, types[name]) for name, value in values.items()
    }


def model_fields(values):
    """Returns the `model` settings (fields of `Config`), checked and converted."""
    types = typing.get_type_hints(Config)
    check_names(values, types, "model")
    values = {
        name: converted(f"model.{name}", value, types[name]) for name, value in values.items()
    }
    if "family" in values and values["family"] not in ARCHITECTURES:
        raise ValueError(
            f"model.family={values['family']!r:.200}: expected one of {', '.join(ARCHITECTURES)}."
        )
    return values


def check_names(given, known, where):
    """Raises ValueError if a given name is not known; suggests the nearest one."""
    for name in given:
        if not isinstance(name, str):
            raise ValueError(f"{where}: expected names of settings, got {shown(name)}.")
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            raise ValueError(
                f"{where}: there is no setting {name!r:.200}"
                + (
                    f"; did you mean {near[0]!r:.200}?"
                    if near
                    else f". There are {', '.join(known)}."
                )
            )


def load(config=None, flags=()):
    """Loads settings from a file, with flags that override it.

    Args:
        config: path of a YAML file, or the name of a recipe. Default None: flags only.
        flags: list of flags, e.g. `["--steps", "10", "--model.hidden_size=128"]`. Default none.

    Returns:
        `Settings`.

    Raises:
        ValueError: a setting does not exist (the nearest name is suggested), or a value is invalid.
        ImportError: PyYAML is not installed.

    Example:
        >>> settings = load("tiny", ["--corpus", "corpus", "--output", "run"])
    """
    values = {} if config is None else read(config)
    for name, value in parsed(flags):
        group, _, key = name.rpartition(".")
        if not group:
            values[name] = value
        elif group in ("model", "masking"):
            before = values.get(group) or {}
            values[group] = {**converted(group, before, dict), key: value}
        else:
            raise ValueError(f"--{name}: only model and masking have settings of their own.")
    known = [f.name for f in fields(Settings)]
    check_names(values, known, "the flags" if config is None else str(config))
    groups = {name: {} for name in ("model", "masking") if values.get(name, {}) is None}
    try:
        return Settings(**values | groups)
    except ValueError as error:
        raise ValueError(f"{config}: {error}" if config else str(error)) from None


def read(config):
    """Reads the values of a YAML file, or of a recipe by its name."""
    try:
        import yaml
    except ImportError:
        raise ImportError(
            "Settings in a file need PyYAML: pip install 'bert4keras_lite[pretraining]'."
        ) from None
    path = Path(config)
    if not path.is_file() and (RECIPES / f"{config}.yaml").is_file():
        path = RECIPES / f"{config}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(recipe.stem for recipe in RECIPES.glob("*.yaml")))
        raise ValueError(f"{config}: no such file, and none of the recipes: {names}.")
    size = size_of(path)
    if size > MAX_SIZE:
        raise ValueError(f"{path}: has {size} bytes; expected settings, at most {MAX_SIZE}.")

    class Loader(yaml.SafeLoader):
        count = depth = 0

        def compose_node(self, parent, index):
            """Composes a node; rejects deep ones, and aliases, which could expand to billions."""
            self.count += 1
            if self.count > MAX_VALUES:
                raise yaml.YAMLError(f"more than {MAX_VALUES} keys and values")
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError(
                    "a reference (*) to another value, of which settings have none"
                )
            if self.depth > MAX_DEPTH:
                raise RecursionError
            self.depth += 1
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def compose_scalar_node(self, anchor):
            """Composes a scalar; rejects numbers that YAML 1.1 misreads: 017 as 15, 1:30 as 90."""
            node = super().compose_scalar_node(anchor)
            if node.tag.endswith((":int", ":float")) and ODD_NUMBER.match(node.value):
                raise yaml.YAMLError(
                    f"the number {node.value!r:.200}, which may be read in two ways; write it in"
                    " decimal digits, or in quotes if it is a text"
                )
            return node

        def construct_mapping(self, node, deep=False):
            """Constructs a mapping; rejects repeated keys, of which PyYAML takes the last value."""
            mapping, keys = super().construct_mapping(node, deep), set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node)
                if key in keys:
                    line = key_node.start_mark.line + 1
                    raise yaml.YAMLError(
                        f"the key {key!r:.200} is there twice, again in line {line}"
                    )
                keys.add(key)
            return mapping

    try:
        values = yaml.load(read_bytes(path).decode("utf-8"), Loader)
    # PyYAML does not catch Python's errors of invalid numbers, dates and keys.
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
        AttributeError,
        RecursionError,
    ) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"{path}: expected YAML, but {reason!s:.300}.") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a mapping of settings to values.")
    return values


def parsed(flags):
    """Yields `(name, value)` of each flag; a value that is not JSON is a string."""
    flags = iter(flags)
    for flag in flags:
        if not flag.startswith("--"):
            raise ValueError(f"{flag}: expected --name value.")
        name, equals, value = flag[2:].partition("=")
        if not equals:
            value = next(flags, None)
            if value is None or value.startswith("--"):
                raise ValueError(f"--{name}: expected a value after it.")
        try:
            yield name, parse_json(value.encode())
        except RepeatedKeyError as error:
            raise ValueError(f"--{name} {value:.200}: {error}.") from None
        except ValueError:
            yield name, value


def as_yaml(settings):
    """Returns the text of a file that `load` reads: JSON, which is valid YAML."""
    return json.dumps(dataclasses.asdict(settings), indent=2, ensure_ascii=False) + "\n"
