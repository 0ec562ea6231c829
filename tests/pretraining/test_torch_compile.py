"""PyTorch: a step that is recorded and compiled as one program does what Keras' step does."""

from functools import partial

import keras
import numpy as np
import pytest

from bert4keras_lite.optimizers import AdamW
from pretraining import objectives

if keras.backend.backend() != "torch":
    pytest.skip("Only PyTorch records steps.", allow_module_level=True)

import torch

from pretraining.torch_compile import compile_whole_steps

LENGTH, PREDICTIONS, VOCABULARY = 10, 3, 40
MODEL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
MODEL |= {"intermediate_size": 32, "dropout_rate": 0.0, "attention_dropout_rate": 0.0}
OPTIONS = {
    "weight_decay": 0.01,
    "global_clipnorm": 0.5,
    "lr_schedule": {2: 1.0, 8: 0.1},
    "lookahead": (2, 0.5),
    "ema_momentum": 0.9,
    "skip_nonfinite": True,
    "layer_adaptation": True,
}


def batch(step, rows):
    random = np.random.default_rng(step)
    ids = random.integers(1, VOCABULARY, (rows, LENGTH), dtype="int32")
    positions = np.argsort(random.random(ids.shape), axis=1)[:, :PREDICTIONS].astype("int32")
    inputs = {"token_ids": ids, "segment_ids": ids * 0, "masked_positions": positions}
    targets = np.take_along_axis(ids, positions, axis=1)
    return inputs, targets, random.random(targets.shape).astype("float32")


def trained(whole, family="roformer", rows=(4, 4, 4, 6), spoilt=None, **options):
    """The logs of a few steps, and the model."""
    keras.utils.set_random_seed(0)
    model = objectives.build("mlm", VOCABULARY, model=MODEL | {"family": family}).model
    model.compile(AdamW(1e-2, **options), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    if whole:
        compile_whole_steps(model)
    logs = []
    for step, count in enumerate(rows):
        inputs, targets, weights = batch(step, count)
        weights[0, 0] = np.inf if step == spoilt else weights[0, 0]
        inputs = {tensor.name: inputs[tensor.name] for tensor in model.inputs}
        logs.append(model.train_on_batch(inputs, targets, weights, return_dict=True))
    return logs, model


def assert_same(found, expected):
    (logs, model), (expected_logs, expected_model) = found, expected
    for ours, theirs in zip(logs, expected_logs, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, err_msg=name)
    pairs = zip(
        [*model.variables, *model.optimizer.variables],
        [*expected_model.variables, *expected_model.optimizer.variables],
        strict=True,
    )
    for ours, theirs in pairs:
        if "seed" not in ours.path:
            ours, theirs, path = *map(keras.ops.convert_to_numpy, (ours, theirs)), ours.path
            np.testing.assert_allclose(ours, theirs, atol=2e-5, err_msg=path)


@pytest.mark.parametrize("spoilt", [None, 1])
@pytest.mark.parametrize("family", ["roformer", "bert"])
def test_recorded_is_what_keras_does(monkeypatch, family, spoilt):
    monkeypatch.setattr(torch, "compile", lambda operations, **_: operations)
    options = OPTIONS | {"family": family, "spoilt": spoilt}
    found = trained(True, **options)
    assert_same(found, trained(False, **options))
    assert int(found[1].optimizer.skipped) == (spoilt is not None)
    assert len(found[1].train_function.program.programs) == 2  # one for each number of rows


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_a_variable_that_the_loss_does_not_depend_on(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda operations, **_: operations)
    build = objectives.build

    def with_unused_layer(*arguments, **options):
        objective = build(*arguments, **options)
        objective.model.unused = keras.layers.Dense(2, name="unused")
        objective.model.unused.build((None, 2))
        return objective

    monkeypatch.setattr(objectives, "build", with_unused_layer)
    found = trained(True, rows=(4, 4), **OPTIONS)
    assert any(v.path == "unused/kernel" for v in found[1].trainable_variables)
    assert_same(found, trained(False, rows=(4, 4), **OPTIONS))


def test_compiled_the_variables_change_in_place(monkeypatch):
    # what a backend is given, without minutes of making machine code of it
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    assert_same(trained(True, rows=(4, 4)), trained(False, rows=(4, 4)))


def test_a_step_that_asks_for_values_is_compiled_in_pieces():
    with pytest.warns(UserWarning, match="cannot be compiled as a whole"):
        found = trained(True, gradient_accumulation_steps=2)
    assert_same(found, trained(False, gradient_accumulation_steps=2))


def test_float16_scales_the_loss():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        with pytest.warns(UserWarning, match="cannot be compiled as a whole"):
            found = trained(True)
    finally:
        keras.config.set_dtype_policy("float32")
    assert all(np.isfinite(logs["loss"]) for logs in found[0])
