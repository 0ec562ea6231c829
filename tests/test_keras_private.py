"""Private names of Keras' optimizers: one file has them all, and they are those of this Keras."""

import ast
from pathlib import Path

import keras
import numpy as np
import pytest

from bert4keras_lite import optimizers
from bert4keras_lite.optimizers.keras_private import state_of

# Versions of Keras with which all tests of optimizers passed on all backends. For another one, read
# `keras_private.py` next to its `base_optimizer.py` and the `optimizer.py` of its backends.
HOLDS_FOR = {"3.15.1"}

ROOT = Path(__file__).resolve().parents[1]
PRIVATE = ROOT / "bert4keras_lite" / "optimizers" / "keras_private.py"
OTHERS = [
    *sorted(set(PRIVATE.parent.rglob("*.py")) - {PRIVATE}),
    *sorted((ROOT / "pretraining").glob("*.py")),
]
BACKEND_METHODS = {
    "_all_reduce_sum_gradients": "tensorflow",
    "_parallel_update_step": "torch",
}
# called or defined by the mixins
OURS = {
    *("_keras_update", "_on_gradients", "_on_nonfinite", "_reduced", "_update_all"),
    "_update_at_once",
}
MOST = {"use_ema": True, "gradient_accumulation_steps": 2}


def weights():
    """A matrix and a vector."""
    return [keras.Variable(np.ones((3, 2)), name="kernel"), keras.Variable(np.ones(2), name="bias")]


def names_in_keras():
    """Private attributes and methods of Keras' Adam with most options, and of its loss scaling."""
    adam = keras.optimizers.Adam(**MOST)
    adam.build(weights())
    names = {*dir(adam), *dir(keras.optimizers.LossScaleOptimizer)}
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def private_names(path):
    """Private attributes that a file uses of anything, methods that it defines, and texts."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Attribute(attr=name) | ast.FunctionDef(name=name) | ast.Constant(value=name):
                if isinstance(name, str) and name.startswith("_") and not name.startswith("__"):
                    yield name


def test_version():
    assert keras.__version__ in HOLDS_FOR


def test_all_names_are_in_one_file():
    keras_names = names_in_keras()
    for path in OTHERS:
        assert not keras_names & set(private_names(path)), path


def test_names_are_in_keras():
    backend, keras_names = keras.backend.backend(), names_in_keras()
    for name in set(private_names(PRIVATE)) - OURS:
        if BACKEND_METHODS.get(name, backend) == backend:
            assert name in keras_names, name


@pytest.mark.parametrize(
    ("name", "options", "attributes"),
    [
        ("Adadelta", {}, {"_accumulated_grads", "_accumulated_delta_vars"}),
        ("Adafactor", {}, {"_r", "_c", "_v"}),
        ("Adagrad", {}, {"_accumulators"}),
        ("Adam", {"amsgrad": True}, {"_momentums", "_velocities", "_velocity_hats"}),
        ("Adamax", {}, {"_m", "_u"}),
        ("AdamW", {}, {"_momentums", "_velocities"}),
        ("Ftrl", {}, {"_accumulators", "_linears"}),
        ("Lion", {}, {"_momentums"}),
        ("RMSprop", {"momentum": 0.9}, {"_momentums", "_velocities"}),
        ("SGD", {"momentum": 0.9}, {"momentums"}),
    ],
)
def test_the_state_of_a_weight_by_name(name, options, attributes):
    optimizer = optimizers.extend(getattr(keras.optimizers, name))(
        0.1, lookahead=(2, 0.5), skip_nonfinite=True, ema_momentum=0.9, **options,
        gradient_accumulation_steps=2,
    )  # fmt: skip
    optimizer.build(weights())
    states = [state_of(optimizer, i) for i in range(2)]
    ours = {name for feature in optimizer.features for name in feature.state}
    assert states[0].keys() == states[1].keys() == attributes | ours
    kept = {id(variable) for state in states for variable in state.values()}
    others = [v.name for v in optimizer.variables if id(v) not in kept]
    assert others == ["iteration", "learning_rate", "skipped", "skipped_in_a_row"]
