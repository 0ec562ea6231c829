"""Arguments that are True or False take nothing else."""

import importlib
import inspect

import numpy as np
import pytest

import bert4keras_lite
from bert4keras_lite.arguments import checks_flags
from bert4keras_lite.layers import (
    EfficientGlobalPointer,
    GlobalPointer,
    LayerNormalization,
    TransformerBlock,
)
from bert4keras_lite.models import build_transformer_model

pytestmark = pytest.mark.once

MODULES = [
    *("applications.doctor", "applications.serving", "checkpoints", "data", "generation", "layers"),
    *("loading", "lora", "losses", "metrics", "models", "optimizers", "pipelines", "tokenizers"),
    "training",
]
# `training` may be a tensor; the others are told by code of the toolkit or of Keras alone
OF_LAYERS = {"call", "quantized_call", "quantize", "compute_output_spec"}
INNER = {
    "DisentangledAttention.attend",
    "MultiHeadAttention.attend",
    "NystromAttention.attend",
    "Transformer.block",
    "EncoderDecoder.relative_bias",
}


def public_functions():
    """The functions of all modules, and the constructors and methods of their classes."""
    for module in (bert4keras_lite, *(f"bert4keras_lite.{name}" for name in MODULES)):
        module = importlib.import_module(module) if isinstance(module, str) else module
        own = [n for n, v in vars(module).items() if getattr(v, "__module__", 0) == module.__name__]
        for name in getattr(module, "__all__", own):
            value = getattr(module, name)
            if inspect.isfunction(value):
                yield value
            elif inspect.isclass(value):
                yield from filter(inspect.isfunction, vars(value).values())


def test_all_flags_are_checked():
    """Config checks its own, by the kinds of its fields; so do layers, before they are made."""
    for function in public_functions():
        defaults = [x.default for x in inspect.signature(function).parameters.values()]
        name = function.__qualname__
        known = name in INNER or function.__name__ in OF_LAYERS or name == "Config.__init__"
        known |= function.__name__ == "__init__" and ".layers." in function.__module__
        if any(isinstance(default, bool) for default in defaults) and not known:
            assert hasattr(function, "flags") or function.__name__.startswith("_"), name


@pytest.mark.parametrize("value", ["no", "False", 0, 1, None, [], np.ones(2)], ids=str)
def test_what_is_no_flag(value):
    @checks_flags
    def function(x, *, y=1, flag=False):
        return x, y, flag

    assert function(3) == (3, 1, False) and function(value, flag=np.bool_(True))[2]
    with pytest.raises(ValueError, match=r"flag=.*: expected True or False"):
        function(3, flag=value)
    for name in ("ignore_invalid_weights", "autoresize_weights", "return_keras_model", "remat"):
        with pytest.raises(ValueError, match=f"{name}=.*: expected True or False"):
            build_transformer_model(None, None, "bert", **SIZES | {name: value})


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: GlobalPointer(3, 4, tril_mask="no"), "tril_mask"),
        (lambda: GlobalPointer(3, 4, "no"), "RoPE"),
        (lambda: EfficientGlobalPointer(3, 4, use_bias="no"), "use_bias"),
        (lambda: LayerNormalization(scale="no"), "scale"),
        (lambda: TransformerBlock({}, {}, norm={}, remat="no"), "remat"),
    ],
)
def test_flags_of_layers(make, name):
    with pytest.raises(ValueError, match=f"{name}='no': expected True or False"):
        make()


def test_positional_flags():
    @checks_flags
    def function(x, flag=False):
        return x, flag

    assert function(1, True) == (1, True)
    with pytest.raises(ValueError, match="flag='no': expected True or False"):
        function(1, "no")


SIZES = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
