"""Training is the same on one device, on many, with the model split, and in two processes."""

import json
import os
import socket
import subprocess
import sys
from itertools import chain
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from bert4keras_lite.configs import ARCHITECTURES
from bert4keras_lite.models import build_transformer_model
from pretraining import distribution

BACKEND = keras.backend.backend()
SCRIPT = Path(__file__).with_name("tiny_training.py")
ONLY_JAX = pytest.mark.skipif(BACKEND != "jax", reason="keras.distribution is for JAX")
MANY = pytest.mark.skipif(BACKEND == "torch", reason="on PyTorch there is one device")

# everything in the optimizer that looks at all gradients, or at more than one batch
OPTIMIZER = {
    "weight_decay": 0.01,
    "gradient_accumulation_steps": 2,
    "global_clipnorm": 0.1,
    "lazy": ["token_embedding"],
    "lookahead": [2, 0.5],
    "ema_momentum": 0.9,
    "skip_nonfinite": True,
}
LAMB = {"layer_adaptation": True, "gradient_centralization": True, "weight_decay": 0.01}
# TensorFlow's replicas draw masks of their own
DROPOUT = 0.1 if BACKEND == "jax" else 0.0
TINY = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position": 32,
}
# what each of TensorFlow's replicas has added up so far is its own
OWN = "gradient_accumulator" if BACKEND == "tensorflow" else "no variable"
PLAIN = {"steps": 3, "optimizer": {"global_clipnorm": 1.0}}
FULL = {"steps": 4, "broken": 1, "optimizer": OPTIMIZER}
RUNS = {"plain": PLAIN, "full": FULL, "lamb": {"steps": 2, "dropout": DROPOUT, "optimizer": LAMB}}


def start(directory, runs, devices, **environment):
    directory.mkdir(parents=True)
    environment |= {"KERAS_BACKEND": BACKEND, "VIRTUAL_DEVICES": str(devices)}
    environment["XLA_FLAGS"] = (  # and little time for the compiler
        f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0 "
        "--xla_llvm_disable_expensive_passes=true"
    )
    environment["JAX_PLATFORMS"], environment["CUDA_VISIBLE_DEVICES"] = "cpu", ""
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(directory), json.dumps(runs)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def results(process, directory, runs):
    said, _ = process.communicate(timeout=3600)  # against hanging alone
    assert process.returncode == 0, said
    return [dict(np.load(directory / f"{i}.npz")) for i in range(len(runs))]


def train(directory, runs, devices):
    return results(start(directory, runs, devices), directory, runs)


def assert_same(one, other, tolerance=1e-6, but="no variable"):
    losses, others = one["losses"], other["losses"]
    np.testing.assert_allclose(losses, others, rtol=0, atol=1e-5)
    # Keras counts the optimizers of a process
    names = [[name for name in run if but not in name] for run in (one, other)]
    assert len(names[0]) == len(names[1]) > 10
    for a, b in zip(*names, strict=True):
        if a != "losses":
            np.testing.assert_allclose(one[a], other[b], rtol=0, atol=tolerance, err_msg=a)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A directory with a pretrained model, so to speak."""
    sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "max_position": 12}
    transformer = build_transformer_model(
        model="bert", with_lm=True, return_keras_model=False, **TINY | sizes
    )
    directory = tmp_path_factory.mktemp("pretrained")
    transformer.save_checkpoint(directory)
    return str(directory)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, checkpoint):
    """What one device makes of each of `RUNS`, and of a run from a checkpoint."""
    runs = RUNS | {"checkpoint": {"steps": 1, "checkpoint": checkpoint}}
    alone = [run | {"devices": 1} for run in runs.values()]
    return dict(zip(runs, train(tmp_path_factory.mktemp("alone") / "runs", alone, 1), strict=True))


MESHES = {
    "jax": [
        ("plain", {"devices": 2}),
        ("full", {"devices": 4}),
        ("plain", {"devices": 8}),
        ("full", {"data_parallel": 2, "model_parallel": 4}),
        ("lamb", {"data_parallel": 4, "model_parallel": 2}),
        ("plain", {"model_parallel": 8}),
    ],
    "tensorflow": [("plain", {"devices": 4}), ("full", {"devices": 2}), ("lamb", {"devices": 2})],
}


@pytest.mark.long
@MANY
def test_any_number_of_devices_trains_alike(tmp_path, alone):
    cases = MESHES[BACKEND]
    runs = [RUNS[name] | devices for name, devices in cases]
    done = train(tmp_path / "runs", runs, 8 if BACKEND == "jax" else 4)
    for (name, _), run in zip(cases, done, strict=True):
        assert np.isnan(run["losses"]).tolist() == [
            name == "full" and i == 1 for i in range(len(run["losses"]))
        ]
        assert_same(run, alone[name], but=OWN)


def two_processes(directory, runs, devices):
    """Results of two hosts that train together."""
    with socket.socket() as one, socket.socket() as other:
        for free in (one, other):
            free.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{free.getsockname()[1]}" for free in (one, other)]
    coordinator = addresses[0] if BACKEND == "jax" else ",".join(addresses)
    processes = []
    for host in range(2):
        settings = {"hosts": 2, "coordinator": coordinator, "process_id": host}
        these = [run | settings for run in runs]
        processes.append(start(directory / str(host), these, devices))
    try:
        return [results(p, directory / str(host), runs) for host, p in enumerate(processes)]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.long
@MANY
def test_two_processes_train_like_one(tmp_path, alone, checkpoint):
    # the last two are one run that is interrupted, on JAX with the model split over both processes
    split = {"state": str(tmp_path / "state")} | ({"model_parallel": 4} if BACKEND == "jax" else {})
    runs = [FULL, {"steps": 1, "checkpoint": checkpoint}]
    runs += [PLAIN | split | {"steps": 1}, PLAIN | split | {"steps": 2}]
    runs[0], runs[3] = (runs[i] | {"export": str(tmp_path / f"model {i}")} for i in (0, 3))
    # TensorFlow makes one strategy of several workers in the life of a process
    groups = [runs] if BACKEND == "jax" else [[run] for run in runs]
    devices = 2 if BACKEND == "jax" else 1
    pairs = [two_processes(tmp_path / str(i), group, devices) for i, group in enumerate(groups)]
    first, second = (list(chain(*runs)) for runs in zip(*pairs, strict=True))
    for one, other in zip(first, second, strict=True):
        assert_same(one, other, tolerance=0, but=OWN)  # to the last bit
    full, from_checkpoint, begun, ended = first
    assert_same(full, alone["full"], but=OWN)
    assert_same(from_checkpoint, alone["checkpoint"])
    ended["losses"] = np.concatenate([begun["losses"], ended["losses"]])
    assert_same(ended, alone["plain"])
    averages = {
        path.rsplit("/", 1)[-1].removesuffix("_average"): value
        for path, value in full.items()
        if path.endswith("_average")
    }
    for i, weights, slash in ((0, averages, "_"), (3, ended, "/")):
        (path,) = (tmp_path / f"model {i}").glob("model-*/tf")
        written = build_transformer_model(
            path, return_keras_model=False, with_lm="linear"
        ).variables
        for name, variable in written.items():
            value = weights[name.replace("/", slash)]
            np.testing.assert_array_equal(ops.convert_to_numpy(variable), value, err_msg=name)


# Layouts


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_the_rules_cover_every_family(family):
    heads = {"with_lm": True} if family.endswith("_decoder") else {"with_discriminator": True}
    transformer = build_transformer_model(model=family, return_keras_model=False, **TINY, **heads)
    layouts = distribution.check(transformer, 4)
    assert layouts.keys() == {v.path for v in transformer.model.variables}
    for variable in transformer.model.variables:
        axes = layouts[variable.path]
        assert len(axes) == len(variable.shape)
        if "ffn" in variable.path and variable.path.endswith("kernel"):
            assert distribution.MODEL in axes


def test_columns_lead_to_a_part_and_rows_back():
    split = {
        "block_0/attention/query/kernel": (None, "model"),
        "block_0/attention/query/bias": ("model",),
        "block_0/attention/output/kernel": ("model", None),
        "block_0/attention/output/bias": (None,),
        "decoder_block_3/cross/value/kernel": (None, "model"),
        "block_0/ffn/input/kernel": (None, "model"),
        "block_0/ffn/output/kernel": ("model", None),
        "generator_token_embedding/embeddings": ("model", None),
        "position_embedding/embeddings": (None, None),
        "block_0/attention_out_norm/gamma": (None,),
    }
    for path, axes in split.items():
        assert distribution.layout_of(path, (8,) * len(axes), 4) == axes, path


def test_a_variable_without_a_rule_is_named():
    with pytest.raises(ValueError, match=r"my_head/kernel.*no rule"):
        distribution.layout_of("my_head/kernel", (4, 4), 2)


def test_an_axis_that_does_not_divide_is_named():
    with pytest.raises(ValueError, match=r"token_embedding/embeddings \(21128, 768\): axis 0"):
        distribution.layout_of("token_embedding/embeddings", (21128, 768), 16)


def test_heads_must_divide():
    transformer = build_transformer_model(model="bert", return_keras_model=False, **TINY)
    with pytest.raises(ValueError, match="num_attention_heads=4"):
        distribution.check(transformer, 8)


# Settings


@pytest.mark.parametrize(
    ("values", "found", "shape"),
    [
        ({}, 8, (8, 1)),
        ({"devices": 4}, 8, (4, 1)),
        ({"model_parallel": 4}, 8, (2, 4)),
        ({"data_parallel": 2}, 8, (2, 1)),
        ({"devices": 8, "data_parallel": 2, "model_parallel": 4}, 8, (2, 4)),
        ({"hosts": 2, "model_parallel": 2}, 16, (8, 2)),
    ],
)
def test_the_mesh_that_settings_ask_for(values, found, shape):
    assert distribution.mesh_shape(distribution.DeviceSettings(**values), found) == shape


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"devices": 16}, 8),
        ({"devices": 0}, 8),
        ({"model_parallel": 3}, 8),
        ({"devices": 8, "data_parallel": 3}, 8),
        ({"data_parallel": 4, "model_parallel": 4}, 8),
        ({"hosts": 2, "devices": 8}, 16),
    ],
)
def test_a_mesh_that_there_are_no_devices_for(values, found):
    with pytest.raises(ValueError, match="devices="):
        distribution.mesh_shape(distribution.DeviceSettings(**values), found)


@pytest.mark.skipif(BACKEND != "torch", reason="others have many devices")
def test_pytorch_has_one_device():
    with distribution.scope(distribution.DeviceSettings()):
        assert distribution.hosts() == (1, 0)
    for more in ({"devices": 2}, {"model_parallel": 2}, {"hosts": 2}):
        with (
            pytest.raises(ValueError, match=r"backend|devices"),
            distribution.scope(distribution.DeviceSettings(**more)),
        ):
            pass


@pytest.mark.skipif(BACKEND != "tensorflow", reason="about tf.distribute")
def test_what_tensorflow_cannot_do_is_said():
    with (
        pytest.raises(ValueError, match="model_parallel=2 needs the JAX backend"),
        distribution.scope(distribution.DeviceSettings(model_parallel=2)),
    ):
        pass
    with pytest.raises(ValueError, match="addresses of all of them"):
        distribution.workers(
            distribution.DeviceSettings(hosts=2, coordinator="127.0.0.1:1", process_id=0)
        )


def test_one_device_feeds_from_the_step_asked_for():
    def from_step(step):
        while True:
            yield np.full((3, 2), step), np.full((3,), step), np.ones(3)
            step += 1

    with distribution.scope(distribution.DeviceSettings(devices=1)):
        assert distribution.hosts() == (1, 0)
        batches = distribution.make_dataset(from_step, 5)
        assert [int(next(batches)[0][0, 0]) for _ in range(3)] == [5, 6, 7]


def test_a_batch_that_does_not_divide_is_one_error(monkeypatch):
    monkeypatch.setattr(distribution, "readers", lambda: (2, 0, 4))  # two hosts of four devices
    with pytest.raises(ValueError, match="batch of 12 rows is not divisible by the 8 devices"):
        distribution.make_dataset(
            lambda step: iter([({"token_ids": np.ones((6, 3))}, None, None)]), 0
        )


@pytest.mark.parametrize("steps_per_epoch", [1, 3])
def test_fit_trains_every_batch_once_and_in_order(steps_per_epoch):
    """Keras reads two batches to learn their shapes, and one to build; none may be lost."""

    def from_step(step):
        while True:
            yield np.full((2, 1), step, "float32"), np.full((2, 1), step, "float32"), np.ones(2)
            step += 1

    with distribution.scope(distribution.DeviceSettings(devices=1)):
        model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="zeros")])
        model.compile("sgd", lambda y, x: keras.ops.mean(y + 0 * x, axis=-1))
        losses = []
        model.fit(
            distribution.make_dataset(from_step, 4),
            epochs=3,
            steps_per_epoch=steps_per_epoch,
            verbose=0,
            callbacks=[
                keras.callbacks.LambdaCallback(on_epoch_end=lambda _, x: losses.append(x["loss"]))
            ],
        )
    steps = np.arange(4, 4 + 3 * steps_per_epoch).reshape(3, steps_per_epoch)
    assert losses == pytest.approx(steps.mean(axis=1).tolist())
