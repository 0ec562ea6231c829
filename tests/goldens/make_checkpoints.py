"""Makes tests/goldens/checkpoints: small checkpoints by TensorFlow, PyTorch, Paddle and others.

    python tests/goldens/make_checkpoints.py        # needs tensorflow, torch, safetensors, keras
    python tests/goldens/make_checkpoints.py paddle # needs paddlepaddle 3.3.1

`expected()` says what is in them; the tests import it, so it needs NumPy and ml_dtypes only.
"""

import json
import os
import sys
from pathlib import Path

import ml_dtypes
import numpy as np

HERE = Path(__file__).resolve().parent / "checkpoints"


def expected():
    """Name -> array of every golden file, by the file's name."""
    rng = np.random.default_rng(0)
    dense = {
        "bert/embeddings/词向量": rng.standard_normal((7, 5), "float32"),
        "bert/pooler/dense/kernel": rng.standard_normal((5, 5), "float32"),
        "step": np.array(12345, "int64"),
        "mask": np.array([True, False, True]),
        "half": rng.standard_normal((2, 3)).astype("float16"),
        "brain": rng.standard_normal((3, 2)).astype(ml_dtypes.bfloat16),
        "empty": np.zeros((0, 4), "float32"),
    }
    partitioned = {
        "rows": rng.standard_normal((11, 3), "float32"),
        "columns": rng.standard_normal((2, 300), "float32"),
        "whole": np.arange(4, dtype="int32"),
    }
    grid = np.arange(24, dtype="float32").reshape(4, 6)
    torch = {
        "plain": grid,
        "transposed": grid.T,
        "strided": grid[1:, ::2],
        "tied": grid,
        "expanded": np.broadcast_to(np.float32(7), (2, 3)),
        "scalar": np.array(5, "int64"),
        "empty": np.zeros((0, 3), "float32"),
        "bool": np.array([True, False]),
        "half": np.array([1.5, -2], "float16"),
        "brain": np.array([1.5, -2, 3], ml_dtypes.bfloat16),
        "eight": np.array([1.5, -2], ml_dtypes.float8_e4m3fn),
        "unsigned": np.array([1, 65535], "uint16"),
        "complex": np.array([1 + 2j], "complex64"),
        "parameter": grid[0],
        "词.weight": grid[1],
    }
    paddle = {
        "ernie.词.weight": grid,
        "half": np.array([1.5, -2], "float16"),
        "brain": np.array([1.5, -2, 3], ml_dtypes.bfloat16),
        "step": np.array([3, 1 << 40], "int64"),
        "mask": np.array([True, False]),
        "scalar": np.array(0.5, "float32"),
    }
    module = {"0.weight": grid[:2, :3], "0.bias": grid[2, :2], "1.running_mean": grid[3, :2]}
    return {
        "shards/model.ckpt": dense,
        "partitioned/model.ckpt": partitioned,
        "torch.pt": torch,
        "torch_legacy.pt": torch,
        "torch_nested.bin": module,
        "torch_module.bin": module,
        "torch_sharded": module,
        "paddle_2.pdparams": paddle,
        "paddle_4.pdparams": paddle,
        "paddle_layer.pdparams": {"weight": grid[:3, :2], "bias": grid[3, :2]},
        "brain.safetensors": {
            "brain": dense["brain"],
            "步": dense["step"],
            "empty": dense["empty"],
        },
        "arrays.npz": {"grid": grid, "turned": grid.T, "step": dense["step"]},
        "compressed.npz": {"grid": grid, "turned": grid.T, "step": dense["step"]},
        "dense.weights.h5": {
            "layers/dense/vars/0": grid[:3, :2],
            "layers/dense/vars/1": grid[3, :2],
        },
        "dense.keras": {"layers/dense/vars/0": grid[:3, :2], "layers/dense/vars/1": grid[3, :2]},
    }


def make_tensorflow(files):
    import tensorflow as tf

    # two bundles merged are one bundle of two shards, as parameter servers used to write
    names = sorted(files["shards/model.ckpt"])
    tensors = files["shards/model.ckpt"]
    parts = []
    for i, part in enumerate((names[::2], names[1::2])):
        parts.append(str(HERE / f"part{i}"))
        tf.raw_ops.SaveV2(
            prefix=parts[-1],
            tensor_names=part,
            shape_and_slices=[""] * len(part),
            tensors=[tf.constant(tensors[name]) for name in part],
        )
    target = HERE / "shards/model.ckpt"
    target.parent.mkdir(exist_ok=True)
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(target))

    tensors = files["partitioned/model.ckpt"]
    rows, columns = tensors["rows"], tensors["columns"]
    target = HERE / "partitioned/model.ckpt"
    target.parent.mkdir(exist_ok=True)
    tf.raw_ops.SaveV2(
        prefix=str(target),
        tensor_names=["rows", "rows", "rows", "columns", "columns", "whole"],
        shape_and_slices=[
            "11 3 0,4:-",
            "11 3 4,4:-",
            "11 3 8,3:-",
            "2 300 -:0,200",
            "2 300 -:200,100",
            "",
        ],
        tensors=[
            rows[:4],
            rows[4:8],
            rows[8:],
            columns[:, :200],
            columns[:, 200:],
            tensors["whole"],
        ],
    )

    root = tf.train.Checkpoint(dense=tf.Module(), step=tf.Variable(3, dtype=tf.int64))
    root.dense.kernel = tf.Variable(np.arange(6, dtype="float32").reshape(2, 3))
    (HERE / "tf2").mkdir(exist_ok=True)
    root.save(str(HERE / "tf2/ckpt"))


def make_torch(files):
    import torch

    grid = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tensors = {
        "plain": grid,
        "transposed": grid.T,
        "strided": grid[1:, ::2],
        "tied": grid,
        "expanded": torch.full((1,), 7.0).expand(2, 3),
        "scalar": torch.tensor(5),
        "empty": torch.zeros(0, 3),
        "bool": torch.tensor([True, False]),
        "half": torch.tensor([1.5, -2], dtype=torch.float16),
        "brain": torch.tensor([1.5, -2, 3], dtype=torch.bfloat16),
        "eight": torch.tensor([1.5, -2]).to(torch.float8_e4m3fn),
        "unsigned": torch.tensor([1, 65535]).to(torch.uint16),
        "complex": torch.tensor([1 + 2j], dtype=torch.complex64),
        "parameter": torch.nn.Parameter(grid[0].clone()),
        "词.weight": grid[1].clone(),
        # not tensors, to be left out
        "size": torch.Size([2, 3]),
        "device": torch.device("cpu"),
        "dtype": torch.bfloat16,
        "epoch": 3,
        "loss": 0.5,
        "names": ["a", ("b", None, True)],
        "big": 1 << 80,
    }
    torch.save(tensors, HERE / "torch.pt")
    torch.save(tensors, HERE / "torch_legacy.pt", _use_new_zipfile_serialization=False)
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2, affine=False))
    arrays = files["torch_module.bin"]
    state = module.state_dict()  # an OrderedDict with an attribute, unlike the plain ones above
    state.update({name: torch.tensor(array) for name, array in arrays.items()})
    del state["1.running_var"], state["1.num_batches_tracked"]
    torch.save(state, HERE / "torch_module.bin")
    optimizer = {"state": {0: {"exp_avg": grid}}, "lr": 1e-5}
    torch.save({"epoch": 1, "optimizer": optimizer, "model": state}, HERE / "torch_nested.bin")

    directory = HERE / "torch_sharded"
    directory.mkdir(exist_ok=True)
    weight_map = {}
    for i, name in enumerate(arrays):
        file = f"pytorch_model-{i + 1:05d}-of-{len(arrays):05d}.bin"
        torch.save({name: torch.tensor(arrays[name])}, directory / file)
        weight_map[name] = file
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")


def make_paddle(files):
    import paddle

    tensors = {
        name: paddle.to_tensor(array.astype("float32")).astype("bfloat16")
        if array.dtype == ml_dtypes.bfloat16
        else paddle.to_tensor(array)
        for name, array in files["paddle_2.pdparams"].items()
    }
    for protocol in (2, 4):
        paddle.save(tensors, str(HERE / f"paddle_{protocol}.pdparams"), protocol=protocol)
    layer = paddle.nn.Linear(3, 2)
    for name, parameter in layer.state_dict().items():
        parameter.set_value(files["paddle_layer.pdparams"][name])
    paddle.save(layer.state_dict(), str(HERE / "paddle_layer.pdparams"))


def make_others(files):
    import keras
    import safetensors.torch
    import torch

    arrays = files["brain.safetensors"]
    tensors = {
        "brain": torch.tensor(arrays["brain"].astype("float32")).to(torch.bfloat16),
        "步": torch.tensor(arrays["步"]),
        "empty": torch.tensor(arrays["empty"]),
    }
    safetensors.torch.save_file(tensors, HERE / "brain.safetensors", metadata={"format": "pt"})
    np.savez(HERE / "arrays.npz", **files["arrays.npz"])
    np.savez_compressed(HERE / "compressed.npz", **files["compressed.npz"])
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")])
    model.set_weights(list(files["dense.keras"].values()))
    model.save_weights(HERE / "dense.weights.h5")
    model.save(HERE / "dense.keras")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    HERE.mkdir(exist_ok=True)
    makers = (make_tensorflow, make_torch, make_others)
    for make in (make_paddle,) if sys.argv[1:] == ["paddle"] else makers:
        make(expected())
