"""What the config of a `.keras` file names, and the memory that it claims, before Keras builds it."""

import math
import re
import sys
from contextlib import contextmanager, nullcontext
from importlib import import_module

import keras
from keras.src.backend.common import global_state

from .parsing import shown

FREE = 8 << 20  # bytes that variables may take in any case
THRESHOLDS = 100_000  # of a metric, which keeps them in a list
TENSORS = 48 << 20  # bytes at once, where PyTorch computes with values to tell a shape
# bytes that objects take beside their values: a layer, a call of one, a variable (with its share of
# the layers within a layer), a pair of layers of a Sequential, and anything else that has a class
LAYER, CALL, VARIABLE, PAIR, OBJECT = 20 << 10, 6 << 10, 25 << 10, 1 << 10, 1 << 10
FREE_OBJECTS, TIMES_OBJECTS = 40 << 20, 6  # bytes that these may take, beside times the file
# layers that compute a table for as many distances or places as they are told: its bytes
TABLES = {
    "RelativeBias": lambda told: 40 * _number(told, "max_distance"),
    "RelativeVectors": lambda told: 24 * _number(told, "max_distance") * _number(told, "size"),
    "RotaryAngles": lambda told: 12 * _number(told, "size"),
}
# operations with as many outputs as they are told
OUTPUTS = {"Unstack": "num", "Split": "indices_or_sections", "ArraySplit": "indices_or_sections"}
# how many times the size of the file variables may take; those of quantized layers, which are made
# as floating point numbers first
TIMES, QUANTIZED_TIMES = 1, 8

# Layers of Keras that only compute. Not among them: those that hold code (Lambda,
# TorchModuleWrapper, JaxLayer, FlaxLayer), read files (TFSMLayer, StringLookup, IntegerLookup,
# TextVectorization) or prepare pictures, sounds and most tables.
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
# all in these only computes, but for what searches names for patterns, which may take for ever
MODULES = {
    *("keras.activations", "keras.constraints", "keras.dtype_policies", "keras.initializers"),
    *("keras.losses", "keras.metrics", "keras.ops", "keras.optimizers", "keras.quantizers"),
    *("keras.optimizers.schedules", "keras.regularizers"),
}
# of which `module` is followed by `torch_adam` and so on: what PyTorch has behind those of Keras
TORCH_OPTIMIZERS = "keras.src.backend.torch.optimizers.torch_"
PATTERNS = {"DTypePolicyMap", "MultiOptimizer", "OptimizerMap"}
PLAIN = re.compile(r"[\w/. -]{0,200}")  # a pattern that takes linear time, as Muon may have them
# what Keras makes of `x + y` and `keras.ops.mean(x)`, but for what calls functions
OPERATIONS = {
    f"keras.src.ops.{name}" for name in ("core", "image", "linalg", "math", "nn", "numpy")
}
CALLING = {
    *("AssociativeScan", "Cond", "ForiLoop", "Map", "Scan", "Switch", "VectorizedMap", "WhileLoop"),
}
# whose objects are small
SMALL = {
    *("keras.constraints", "keras.dtype_policies", "keras.initializers", "keras.regularizers"),
    *("builtins", "keras.activations"),
}
VALUES = {
    f"__{name}__" for name in ("bytes", "ellipsis", "keras_tensor", "numpy", "slice", "tensor")
}
NUMBERS = {
    *("bool", "bfloat16", "float16", "float32", "float64", "complex64", "complex128"),
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
}


def check_names(config, where, custom_objects=None):
    """Raises if a config names anything that could do more than compute.

    Args:
        config: what the JSON text of a `.keras` file holds.
        where: the file, for the error.
        custom_objects: what the user allows besides.

    Returns:
        Whether it names classes or functions of the user.

    Raises:
        ValueError: it does.
    """
    custom, named = False, list(_named(config))
    if any(item["class_name"] == "__lambda__" for item in named):
        raise ValueError(
            f"{where}: holds code, of a Lambda layer or another lambda, which is not run. Write it "
            "as a class or function with keras.saving.register_keras_serializable, and save again."
        )
    for item in named:
        if item["class_name"] in ("__numpy__", "__tensor__"):
            _check_numbers(item.get("config"), where)
        if item["class_name"] == "Muon":
            _check_patterns(item.get("config"), where)
        users = _of_user(item, custom_objects or {})
        if not users and not _only_computes(item):
            name = item.get("config") if item["class_name"] == "function" else item["class_name"]
            raise ValueError(
                f"{where}: names {name!r:.100} of {item.get('module')!r:.100}; expected layers and "
                "functions that only compute. If it is yours, or you trust it, pass custom_objects="
                "{name: class}, or import what registers it."
            )
        custom |= users
    return custom


def _check_numbers(told, where):
    """Raises if an array within a config is not one of numbers: texts can be of any length."""
    dtype = told.get("dtype") if isinstance(told, dict) else told
    if not isinstance(dtype, str) or dtype not in NUMBERS:
        raise ValueError(
            f"{where}: holds an array of dtype {shown(dtype)}; expected one of numbers, such as "
            "float32. Save the model again without it."
        )


def _check_patterns(told, where):
    """Raises if an optimizer would search names of layers for more than words."""
    words = told.get("exclude_layers") if isinstance(told, dict) else None
    if not isinstance(words, list | None) or not all(
        isinstance(word, str) and PLAIN.fullmatch(word) for word in words or ()
    ):
        raise ValueError(
            f"{where}: exclude_layers of Muon is {shown(words)}; expected a list of parts of names, "
            "of letters, digits, spaces and /._- only."
        )


def _named(value):
    """All within what JSON can hold that names a class or function for Keras."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += value.values()
            if "class_name" in value:
                yield value
        elif isinstance(value, list):
            left += value


def _of_user(item, custom_objects):
    """Whether it is registered, or passed, and not by this toolkit."""
    registered = _registered(item, custom_objects)
    if registered is not None:
        return not str(getattr(registered, "__module__", "")).startswith(f"{__package__}.")
    module, name = item.get("module"), item["class_name"]
    if not isinstance(module, str) or not isinstance(name, str):
        return False
    meant = getattr(sys.modules.get(module), name, None)
    return meant is not None and any(meant is passed for passed in custom_objects.values())


def _registered(item, custom_objects=None):
    """What Keras takes for it before it looks at the module, or None."""
    function = item["class_name"] == "function"
    name = item.get("config") if function else item.get("registered_name", item["class_name"])
    if "module" not in item or not isinstance(name, str):
        return None  # without a module, old formats look elsewhere
    return keras.saving.get_registered_object(name, custom_objects)


def _only_computes(item):
    name, module = item["class_name"], item.get("module")
    if not isinstance(name, str) or not isinstance(module, str | None):
        return False
    if name in VALUES or _registered(item) is not None:
        return True
    if name == "function":
        name = item.get("config")
        if module == "builtins" and isinstance(name, str):  # activations, losses and so on
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
        meant = getattr(import_module(module), name, None)
        return isinstance(meant, type) and issubclass(meant, keras.Operation)
    return False


class _Variables(list):
    """Variables without memory, which raises where Keras makes more of them than there may be."""

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
    """Variables that Keras makes within take no memory; gives the list of them.

    Args:
        most_bytes: that their values may take.
        most: bytes that their objects may take.
    """
    pending = global_state.get_global_attribute("uninitialized_variables")
    variables = _Variables(most_bytes, most)
    global_state.set_global_attribute("uninitialized_variables", variables)
    try:
        with keras.StatelessScope(initialize_variables=False), _small_tensors():
            yield variables
    finally:
        global_state.set_global_attribute("uninitialized_variables", pending)


def allocate(variables):
    """Gives variables of `unallocated` memory and their first values."""
    for variable in variables:
        variable._deferred_initialize()


def _small_tensors():
    """Where Keras must compute with values to tell a shape, what there is at once is small.

    PyTorch tells most shapes by tensors without values, of its device "meta"; where an operation
    fails with those, the whole layer is run.
    """
    if keras.backend.backend() != "torch":
        return nullcontext()
    import torch
    from torch.multiprocessing.reductions import StorageWeakRef
    from torch.utils._python_dispatch import TorchDispatchMode

    # what only the values tell, and is no larger than they are
    small = {torch.ops.aten._local_scalar_dense, torch.ops.aten.equal, torch.ops.aten.is_nonzero}

    def tensors_in(value):
        return (x for x in torch.utils._pytree.tree_leaves(value) if isinstance(x, torch.Tensor))

    def without_values(value):
        if isinstance(value, torch.Tensor):
            return value.to("meta")
        if isinstance(value, torch.Generator):
            return None
        return torch.device("meta") if isinstance(value, torch.device) else value

    class SmallTensors(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.sizes = {}  # of the storages that there are

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            made = kwargs.get("device")
            within = [*tensors_in((args, kwargs))]
            meta = made.type == "meta" if made else all(x.is_meta for x in within) and within
            if not meta and function.overloadpacket not in small:
                arguments, options = torch.utils._pytree.tree_map(without_values, (args, kwargs))
                self.make_room(function(*arguments, **options))
            result = function(*args, **kwargs)
            for tensor in tensors_in(result):
                if not tensor.is_meta:
                    storage = tensor.untyped_storage()
                    self.sizes[StorageWeakRef(storage)] = storage.nbytes()
            return result

        def make_room(self, coming):
            self.sizes = {ref: size for ref, size in self.sizes.items() if not ref.expired()}
            size = sum(x.untyped_storage().nbytes() for x in tensors_in(coming))
            size += sum(self.sizes.values())
            if size > TENSORS:
                raise MemoryError(f"tensors of {size} bytes to tell the shape of another")

    return SmallTensors()


def check_memory(config, where, size, custom_objects=None):
    """Builds a model without memory, and raises if its variables claim more than its file explains.

    Args:
        config: see `check_names`, which it has passed.
        where: the file, for the error.
        size: of the file, in bytes.
        custom_objects: for Keras.

    Raises:
        ValueError: they do. (Whatever else Keras raises where a config is wrong.)
    """
    for item in _named(config):
        told = item.get("config")
        if isinstance(told, dict) and _number(told, "num_thresholds") > THRESHOLDS:
            raise ValueError(
                f"{where}: num_thresholds is {shown(told['num_thresholds'])}; expected at most "
                f"{THRESHOLDS}."
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


def _too_many(where, what, size):
    return ValueError(
        f"{where}: its config claims {what}; expected at most those of a file of {size} bytes. Get "
        "or copy the file again."
    )


def _cost(value, copies=1):
    """The bytes that all objects take that a config names, beside their values.

    A Bidirectional copies what is in it, and a Sequential is built again for each of its layers.
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
    told = value.get("config")
    table = name and TABLES.get(getattr(_registered(value), "__name__", None))
    if table and isinstance(told, dict):
        cost += copies * table(told)
    if name in OUTPUTS and isinstance(told, dict):
        parts = told.get(OUTPUTS[name])
        parts = len(parts) if isinstance(parts, list) else _number(told, OUTPUTS[name])
        cost += copies * CALL * parts
    if name == "Sequential" and isinstance(told, dict) and isinstance(told.get("layers"), list):
        cost += copies * PAIR * len(told["layers"]) ** 2
    inner = (_cost(inner, copies) for inner in value.values() if isinstance(inner, list | dict))
    return cost + sum(inner)


def _number(told, name):
    """A number of a config, 0 if it is not told, infinity if it is something else: an array, say."""
    value = told.get(name)
    if value is None:
        return 0
    return abs(value) if isinstance(value, int | float) else math.inf


def _without_values(value, compiled):
    """A copy of a config without what computes with the values of variables.

    Args:
        value: any part of it.
        compiled: a list; gets what models are compiled with, without optimizers, whose variables
            are as many as those of the model, some times.
    """
    if isinstance(value, list):
        return [_without_values(inner, compiled) for inner in value]
    if not isinstance(value, dict):
        return value
    value = dict(value)
    told = value.pop("compile_config", None)
    if isinstance(told, dict):
        names = ("loss", "metrics", "weighted_metrics")
        compiled.append({name: told[name] for name in names if name in told})
    if value.get("class_name") == "Normalization" and isinstance(value.get("config"), dict):
        # then it has variables as large as what it would compute of these at once
        value["config"] = {**value["config"], "mean": None, "variance": None}
    if _quantized(value):
        value["build_config"] = {**value["build_config"], "quantized": []}
    return {key: _without_values(inner, compiled) for key, inner in value.items()}


def _quantized(item):
    """Whether layers within a layer of ours are quantized after they are built."""
    built = item.get("build_config")
    return isinstance(built, dict) and bool(built.get("quantized"))


def _size_of(dtype):
    """The bytes of a number."""
    bits = re.search(r"\d+", dtype)
    return max(1, int(bits[0]) // 8) if bits else 1
