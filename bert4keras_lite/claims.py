"""Checks of the config of a `.keras` file, before Keras builds it: classes, and memory."""

import math
import re
import sys
from contextlib import contextmanager
from importlib import import_module

import keras
from keras.src.backend.common import global_state

from .backend import small_tensors
from .parsing import shown

__all__ = ["allocate", "check_memory", "check_names", "unallocated"]

FREE = 8 << 20  # bytes that variables may take in any file
THRESHOLDS = 100_000  # of a metric, which keeps them in a list
TENSORS = 48 << 20  # bytes at a time, where PyTorch computes with values to infer a shape
# bytes of objects, without their values: a layer, a call of a layer, a variable (with its share of
# nested layers), a pair of layers of a Sequential, and any other object that has a class
LAYER, CALL, VARIABLE, PAIR, OBJECT = 20 << 10, 6 << 10, 25 << 10, 1 << 10, 1 << 10
FREE_OBJECTS, TIMES_OBJECTS = 40 << 20, 6  # objects may take that many bytes + times the file size
# layers that compute a table whose size depends on an argument -> bytes of the table
TABLES = {
    "DistanceVectors": lambda config: 40 * _number(config, "max_distance"),
    "RelativeBias": lambda config: 40 * _number(config, "max_distance"),
    "RelativeVectors": lambda config: (
        24 * _number(config, "max_distance") * _number(config, "size")
    ),
    "RotaryAngles": lambda config: 12 * _number(config, "size"),
}
# operations whose number of outputs is an argument -> that argument
OUTPUTS = {"Unstack": "num", "Split": "indices_or_sections", "ArraySplit": "indices_or_sections"}
# variables may take that many times the size of the file; the second is for quantized layers, which
# are created with floating point numbers first
TIMES, QUANTIZED_TIMES = 1, 8

# Layers of Keras that only compute. Not in this list: layers that hold code (Lambda,
# TorchModuleWrapper, JaxLayer, FlaxLayer), that read files (TFSMLayer, StringLookup, IntegerLookup,
# TextVectorization), and most that preprocess images, audio and tables.
LAYERS = frozenset(
    [
        "Activation",
        "ActivityRegularization",
        "AdaptiveAveragePooling1D",
        "AdaptiveAveragePooling2D",
        "AdaptiveAveragePooling3D",
        "AdaptiveMaxPooling1D",
        "AdaptiveMaxPooling2D",
        "AdaptiveMaxPooling3D",
        "Add",
        "AdditiveAttention",
        "AlphaDropout",
        "Attention",
        "Average",
        "AveragePooling1D",
        "AveragePooling2D",
        "AveragePooling3D",
        "BatchNormalization",
        "CategoryEncoding",
        "Bidirectional",
        "Concatenate",
        "Conv1D",
        "Conv1DTranspose",
        "Conv2D",
        "Conv2DTranspose",
        "Conv3D",
        "Conv3DTranspose",
        "ConvLSTM1D",
        "ConvLSTM2D",
        "ConvLSTM3D",
        "Cropping1D",
        "Cropping2D",
        "Cropping3D",
        "Dense",
        "DepthwiseConv1D",
        "DepthwiseConv2D",
        "Discretization",
        "Dot",
        "Dropout",
        "ELU",
        "EinsumDense",
        "Embedding",
        "Flatten",
        "GRU",
        "GRUCell",
        "GaussianDropout",
        "GaussianNoise",
        "GlobalAveragePooling1D",
        "GlobalAveragePooling2D",
        "GlobalAveragePooling3D",
        "GlobalMaxPooling1D",
        "GlobalMaxPooling2D",
        "GlobalMaxPooling3D",
        "GroupNormalization",
        "GroupQueryAttention",
        "Identity",
        "InputLayer",
        "LSTM",
        "LSTMCell",
        "LayerNormalization",
        "LeakyReLU",
        "Masking",
        "MaxPooling1D",
        "MaxPooling2D",
        "MaxPooling3D",
        "Maximum",
        "Minimum",
        "MultiHeadAttention",
        "Multiply",
        "Normalization",
        "PReLU",
        "Permute",
        "RMSNormalization",
        "RNN",
        "ReLU",
        "RepeatVector",
        "Rescaling",
        "Reshape",
        "ReversibleEmbedding",
        "SeparableConv1D",
        "SeparableConv2D",
        "SimpleRNN",
        "SimpleRNNCell",
        "Softmax",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
        "SpectralNormalization",
        "StackedRNNCells",
        "Subtract",
        "TimeDistributed",
        "UnitNormalization",
        "UpSampling1D",
        "UpSampling2D",
        "UpSampling3D",
        "ZeroPadding1D",
        "ZeroPadding2D",
        "ZeroPadding3D",
    ]
)
NAMES = {
    "keras": {"DTypePolicy", "FloatDTypePolicy", "Model", "Sequential"},
    "keras.layers": LAYERS,
    "keras.models": {"Model", "Sequential"},
    "keras.random": {"SeedGenerator"},
    "keras.src.models.functional": {"Functional"},
}
# modules in which everything only computes, except for `PATTERNS`
MODULES = {
    *("keras.activations", "keras.constraints", "keras.dtype_policies", "keras.initializers"),
    *("keras.losses", "keras.metrics", "keras.ops", "keras.optimizers", "keras.quantizers"),
    *("keras.optimizers.schedules", "keras.regularizers"),
}
# prefix of the modules `torch_adam` and so on, the PyTorch implementations of Keras' optimizers
TORCH_OPTIMIZERS = "keras.src.backend.torch.optimizers.torch_"
# classes that match names against regular expressions, which can take exponential time
PATTERNS = {"DTypePolicyMap", "MultiOptimizer", "OptimizerMap"}
PLAIN = re.compile(r"[\w/. -]{0,200}")  # regular expressions for Muon that take linear time
# modules of the operations that Keras makes of `x + y` and `keras.ops.mean(x)`, and those of them
# that call functions
OPERATIONS = {
    f"keras.src.ops.{name}" for name in ("core", "image", "linalg", "math", "nn", "numpy")
}
CALLING = {
    *("AssociativeScan", "Cond", "ForiLoop", "Map", "Scan", "Switch", "VectorizedMap", "WhileLoop"),
}
# modules with small objects
SMALL = {
    *("keras.constraints", "keras.dtype_policies", "keras.initializers", "keras.regularizers"),
    *("builtins", "keras.activations"),
}
VALUES = {
    f"__{name}__" for name in ("bytes", "ellipsis", "keras_tensor", "numpy", "slice", "tensor")
}
NUMBERS = {
    *("bool", "bfloat16", "float16", "float32", "float64", "complex64", "complex128"),
    *(f"{prefix}{bits}" for prefix in ("int", "uint") for bits in (8, 16, 32, 64)),
}


def check_names(config, where, custom_objects=None):
    """Checks that a config names only classes and functions that compute.

    Args:
        config: parsed JSON of a `.keras` file.
        where: the file, in messages.
        custom_objects: name -> class or function that the user allows as well.

    Returns:
        Whether it names classes or functions of the user.

    Raises:
        ValueError: it names something else, or contains code.
    """
    has_custom, named = False, list(_named(config))
    if any(item["class_name"] == "__lambda__" for item in named):
        raise ValueError(
            f"{where}: contains code, of a Lambda layer or another lambda, which is not run. Write "
            "it as a class or function with keras.saving.register_keras_serializable, and save "
            "again."
        )
    for item in named:
        if item["class_name"] in ("__numpy__", "__tensor__"):
            _check_numbers(item.get("config"), where)
        if item["class_name"] == "Muon":
            _check_patterns(item.get("config"), where)
        is_custom = _of_user(item, custom_objects or {})
        if not is_custom and not _only_computes(item):
            name = item.get("config") if item["class_name"] == "function" else item["class_name"]
            raise ValueError(
                f"{where}: names {name!r:.100} of {item.get('module')!r:.100}; expected layers and "
                "functions that only compute. If it is yours, or you trust it, pass custom_objects="
                "{name: class}, or import the module that registers it."
            )
        has_custom |= is_custom
    return has_custom


def _check_numbers(array_config, where):
    """Checks that an array in a config is numeric: strings can have any length.

    Raises:
        ValueError: it is not.
    """
    dtype = array_config.get("dtype") if isinstance(array_config, dict) else array_config
    if not isinstance(dtype, str) or dtype not in NUMBERS:
        raise ValueError(
            f"{where}: holds an array of dtype {shown(dtype)}; expected one of numbers, such as "
            "float32. Save the model again without it."
        )


def _check_patterns(optimizer_config, where):
    """Checks that Muon matches the names of layers against plain words only.

    Raises:
        ValueError: it does not.
    """
    is_dict = isinstance(optimizer_config, dict)
    words = optimizer_config.get("exclude_layers") if is_dict else None
    if not isinstance(words, list | None) or not all(
        isinstance(word, str) and PLAIN.fullmatch(word) for word in words or ()
    ):
        raise ValueError(
            f"{where}: exclude_layers of Muon is {shown(words)}; expected a list of parts of names "
            "that have only letters, digits, spaces and /._-."
        )


def _named(value):
    """Yields each dict in parsed JSON that names a class or function for Keras."""
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += value.values()
            if "class_name" in value:
                yield value
        elif isinstance(value, list):
            pending += value


def _of_user(item, custom_objects):
    """Whether an item names a class or function that is registered or passed, and not ours."""
    registered = _registered(item, custom_objects)
    if registered is not None:
        return not str(getattr(registered, "__module__", "")).startswith(f"{__package__}.")
    module, name = item.get("module"), item["class_name"]
    if not isinstance(module, str) or not isinstance(name, str):
        return False
    obj = getattr(sys.modules.get(module), name, None)
    return obj is not None and any(obj is passed for passed in custom_objects.values())


def _registered(item, custom_objects=None):
    """Returns the registered object of an item, which Keras takes before the module's, or None."""
    is_function = item["class_name"] == "function"
    name = item.get("config") if is_function else item.get("registered_name", item["class_name"])
    if "module" not in item or not isinstance(name, str):
        return None  # without a module, Keras reads it in old formats
    return keras.saving.get_registered_object(name, custom_objects)


def _only_computes(item):
    """Whether an item names something of Keras or of this toolkit that only computes."""
    name, module = item["class_name"], item.get("module")
    if not isinstance(name, str) or not isinstance(module, str | None):
        return False
    if name in VALUES or _registered(item) is not None:
        return True
    if name == "function":
        name = item.get("config")
        if module == "builtins" and isinstance(name, str):  # activations, losses etc.
            return True
    if not isinstance(name, str):
        return False
    if module in NAMES:
        return name in NAMES[module]
    if str(module).startswith(TORCH_OPTIMIZERS):
        module = "keras.optimizers"
    if module in MODULES:
        return name not in PATTERNS and callable(getattr(import_module(module), name, None))
    if module in OPERATIONS and name not in CALLING:
        cls = getattr(import_module(module), name, None)
        return isinstance(cls, type) and issubclass(cls, keras.Operation)
    return False


class _Variables(list):
    """List of variables without memory; raises `MemoryError` when Keras adds too many.

    Args:
        most_bytes: limit for the bytes of their values.
        most: limit for the bytes of the objects.
    """

    def __init__(self, most_bytes, most):
        super().__init__()
        self.most_bytes, self.most, self.bytes = most_bytes, most, 0

    def append(self, variable):
        super().append(variable)
        self.bytes += math.prod(variable.shape) * _size_of(variable.dtype)
        if self.are_large or self.are_many:
            raise MemoryError(f"{self.bytes} bytes of {len(self)} variables")

    @property
    def are_large(self):
        return self.bytes > self.most_bytes

    @property
    def are_many(self):
        return len(self) * VARIABLE > self.most


@contextmanager
def unallocated(most_bytes=math.inf, most=math.inf):
    """Context in which Keras creates variables without memory; gives the list of them.

    Args:
        most_bytes: limit for the bytes that their values would take.
        most: limit for the bytes of the objects.

    Raises:
        MemoryError: a limit is exceeded.
    """
    pending = global_state.get_global_attribute("uninitialized_variables")
    variables = _Variables(most_bytes, most)
    global_state.set_global_attribute("uninitialized_variables", variables)
    try:
        with keras.StatelessScope(initialize_variables=False), small_tensors(TENSORS):
            yield variables
    finally:
        global_state.set_global_attribute("uninitialized_variables", pending)


def allocate(variables):
    """Allocates and initializes the variables of `unallocated`."""
    for variable in variables:
        variable._deferred_initialize()


def check_memory(config, where, size, custom_objects=None):
    """Builds a model without memory, to check that it needs no more than its file explains.

    Args:
        config: parsed JSON of the file, after `check_names`.
        where: the file, in messages.
        size: of the file, in bytes.
        custom_objects: for Keras.

    Raises:
        ValueError: it needs more memory. (A wrong config raises other errors of Keras.)
    """
    for item in _named(config):
        arguments = item.get("config")
        if isinstance(arguments, dict) and _number(arguments, "num_thresholds") > THRESHOLDS:
            raise ValueError(
                f"{where}: num_thresholds is {shown(arguments['num_thresholds'])}; expected at "
                f"most {THRESHOLDS}."
            )
    most = FREE_OBJECTS + TIMES_OBJECTS * size
    needed = _cost(config)
    if needed > most:
        raise _too_many(where, f"layers and other objects that take {needed} bytes", size)
    compiled = []
    model = _without_values(config, compiled)
    times = QUANTIZED_TIMES if any(map(_quantized, _named(config))) else TIMES
    with unallocated(FREE + times * size, most - needed) as variables:
        for part in (model, *compiled):
            try:
                keras.saving.deserialize_keras_object(part, custom_objects, safe_mode=True)
            finally:
                if variables.are_large:
                    raise _too_many(where, f"{variables.bytes} bytes of weights", size)
                if variables.are_many:
                    raise _too_many(where, f"{len(variables)} weights or more", size)


def _too_many(where, objects, size):
    """Makes the error for a config that claims too much memory."""
    return ValueError(
        f"{where}: its config claims {objects}; expected at most those of a file of {size} bytes. "
        "Get or copy the file again."
    )


def _cost(value, copies=1):
    """Estimates the bytes of all objects that a config names, without their values.

    A Bidirectional copies its content, and a Sequential is built again for each of its layers.
    """
    if isinstance(value, list):
        return sum(_cost(inner, copies) for inner in value if isinstance(inner, list | dict))
    cost, name, module = 0, value.get("class_name"), value.get("module")
    if name == "Bidirectional":
        copies *= 2
    if name == "__keras_tensor__":
        cost = copies * CALL
    elif name in VALUES or name == "function" or module in SMALL or name == "DTypePolicy":
        cost = copies * OBJECT
    elif name is not None:
        cost = copies * LAYER
    arguments = value.get("config")
    table = name and TABLES.get(getattr(_registered(value), "__name__", None))
    if table and isinstance(arguments, dict):
        cost += copies * table(arguments)
    if name in OUTPUTS and isinstance(arguments, dict):
        outputs = arguments.get(OUTPUTS[name])
        outputs = len(outputs) if isinstance(outputs, list) else _number(arguments, OUTPUTS[name])
        cost += copies * CALL * outputs
    layers = arguments.get("layers") if isinstance(arguments, dict) else None
    if name == "Sequential" and isinstance(layers, list):
        cost += copies * PAIR * len(layers) ** 2
    inner = (_cost(inner, copies) for inner in value.values() if isinstance(inner, list | dict))
    return cost + sum(inner)


def _number(arguments, name):
    """Returns a number of a config: 0 if it is missing, infinity if it is not a number."""
    value = arguments.get(name)
    if value is None:
        return 0
    return abs(value) if isinstance(value, int | float) else math.inf


def _without_values(value, compiled):
    """Copies a config without the parts that compute with the values of variables.

    Args:
        value: any part of the config.
        compiled: a list, to which the losses and metrics of models are appended. Optimizers are
            left out: they have a few times the variables of the model.
    """
    if isinstance(value, list):
        return [_without_values(inner, compiled) for inner in value]
    if not isinstance(value, dict):
        return value
    value = dict(value)
    compile_config = value.pop("compile_config", None)
    if isinstance(compile_config, dict):
        names = ("loss", "metrics", "weighted_metrics")
        compiled.append({name: compile_config[name] for name in names if name in compile_config})
    if value.get("class_name") == "Normalization" and isinstance(value.get("config"), dict):
        # without them it creates variables of the same size, instead of computing with the values
        value["config"] = {**value["config"], "mean": None, "variance": None}
    if _quantized(value):
        value["build_config"] = {**value["build_config"], "quantized": []}
    return {key: _without_values(inner, compiled) for key, inner in value.items()}


def _quantized(item):
    """Whether the sub-layers of a layer of ours are quantized after they are built."""
    build_config = item.get("build_config")
    return isinstance(build_config, dict) and bool(build_config.get("quantized"))


def _size_of(dtype):
    """Returns the bytes of a number of this dtype."""
    bits = re.search(r"\d+", dtype)
    return max(1, int(bits[0]) // 8) if bits else 1
