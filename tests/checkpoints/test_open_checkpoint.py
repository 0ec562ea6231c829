import argparse
import json
import mmap
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from make_checkpoints import expected

from bert4keras_lite.checkpoints import CheckpointError, open_checkpoint, tf_bundle

pytestmark = pytest.mark.once

EXPECTED = expected()


def at_the_root(array):
    while isinstance(array, np.ndarray):
        array = array.base
    return array


# what the libraries themselves wrote


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("file", EXPECTED)
def test_golden_files(goldens, file, verify, assert_same):
    assert_same(open_checkpoint(goldens / file, verify), EXPECTED[file])


def test_format_and_path(goldens):
    for file, format in {
        "torch.pt": "torch",
        "torch_sharded": "torch",
        "paddle_4.pdparams": "paddle",
        "brain.safetensors": "safetensors",
        "arrays.npz": "npz",
        "dense.weights.h5": "keras",
        "dense.keras": "keras",
        "tf2": "tf",
    }.items():
        assert open_checkpoint(str(goldens / file)).format == format
    assert open_checkpoint(goldens / "tf2").path == goldens / "tf2" / "ckpt-1"
    assert open_checkpoint(goldens / "torch.pt").path == goldens / "torch.pt"
    assert "15 tensors" in repr(open_checkpoint(goldens / "torch.pt"))


def test_object_based_tensorflow_checkpoint(goldens):
    checkpoint = open_checkpoint(goldens / "tf2", verify=True)
    kernel = checkpoint["dense/kernel/.ATTRIBUTES/VARIABLE_VALUE"]
    np.testing.assert_array_equal(kernel, np.arange(6).reshape(2, 3))
    assert checkpoint["step/.ATTRIBUTES/VARIABLE_VALUE"] == 3
    graph = "_CHECKPOINTABLE_OBJECT_GRAPH"
    assert checkpoint.dtype(graph).kind == "O" and checkpoint.shape(graph) == ()
    with pytest.raises(CheckpointError, match="holds strings"):
        checkpoint[graph]


@pytest.mark.parametrize(
    "spelling", ["", "/model.ckpt", "/model.ckpt.index", "/model.ckpt.data-00001-of-00002"]
)
def test_spellings_of_a_tensorflow_checkpoint(goldens, spelling, assert_same):
    assert_same(open_checkpoint(f"{goldens}/shards{spelling}"), EXPECTED["shards/model.ckpt"])


@pytest.mark.parametrize(
    "state",
    ['"model.ckpt"', '"/long/gone/model.ckpt"', r'"\155odel.ckpt"'],
)
def test_state_file(goldens, tmp_path, state, assert_same):
    shutil.copytree(goldens / "shards", tmp_path, dirs_exist_ok=True)
    (tmp_path / "checkpoint").write_text(f"model_checkpoint_path: {state}\n")
    assert_same(open_checkpoint(tmp_path), EXPECTED["shards/model.ckpt"])


def test_a_state_file_of_something_that_is_not_here(goldens, tmp_path, assert_same):
    shutil.copytree(goldens / "shards", tmp_path, dirs_exist_ok=True)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "other.ckpt"\n')
    with pytest.warns(
        UserWarning, match=r"names 'other\.ckpt', which is not in this directory; model.* is read"
    ):
        assert_same(open_checkpoint(tmp_path), EXPECTED["shards/model.ckpt"])


def test_several_bundles_need_a_state_file(goldens, tmp_path):
    for name in ("a", "b"):
        for file in (goldens / "partitioned").iterdir():
            shutil.copy(file, tmp_path / file.name.replace("model", name))
    with pytest.raises(CheckpointError, match=r"2 TensorFlow checkpoints.*a\.ckpt, b\.ckpt"):
        open_checkpoint(tmp_path)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "b.ckpt"\n')
    assert open_checkpoint(tmp_path).path.name == "b.ckpt"


def test_two_files_of_one_kind(goldens, tmp_path):
    for name in ("first", "second"):
        shutil.copy(goldens / "brain.safetensors", tmp_path / f"{name}.safetensors")
    with pytest.raises(CheckpointError, match="2 files"):
        open_checkpoint(tmp_path)


def test_order_of_preference_in_a_directory(goldens, tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no checkpoint; looked for model.safetensors"):
        open_checkpoint(tmp_path)
    data = "model.ckpt.data-00000-of-00001"
    shutil.copy(goldens / "partitioned" / data, tmp_path)
    for source, target, format in [
        ("dense.weights.h5", "any.weights.h5", "keras"),
        ("arrays.npz", "any.npz", "npz"),
        ("brain.safetensors", "any.safetensors", "safetensors"),
        ("torch_module.bin", "pytorch_model.bin", "torch"),
        ("partitioned/model.ckpt.index", "model.ckpt.index", "tf"),
    ]:
        shutil.copy(goldens / source, tmp_path / target)
        assert open_checkpoint(tmp_path).format == format
    shutil.copy(goldens / "brain.safetensors", tmp_path / "model.safetensors")
    assert open_checkpoint(tmp_path).path == tmp_path / "model.safetensors"


def test_mapping(goldens):
    checkpoint = open_checkpoint(goldens / "torch_module.bin")
    assert len(checkpoint) == 3 and "0.bias" in checkpoint and "bias" not in checkpoint
    assert checkpoint.get("bias") is None and 3 not in checkpoint
    for missing in (lambda: checkpoint["0.bia"], lambda: checkpoint.shape("0.bia")):
        with pytest.raises(KeyError) as error:
            missing()
        assert isinstance(error.value, CheckpointError)
        assert (
            "torch_module.bin: no tensor is named '0.bia'; the nearest names are '0.bias'"
            in str(error.value)
        )
    with pytest.raises(TypeError):
        checkpoint["0.bias"] = 0
    with pytest.raises(ValueError):  # read-only
        open_checkpoint(goldens / "brain.safetensors")["brain"][:] = 0


def test_slice_keys_sort_like_tensorflow():
    # sizes around the places where the encoding grows by a byte, as TensorFlow 2.21 writes them
    assert [tf_bundle._ordered(n).hex() for n in (-1, 0, 63, 64, 8191, 8192, 2**20)] == [
        "7f",
        "80",
        "bf",
        "c040",
        "dfff",
        "e02000",
        "f0100000",
    ]


@pytest.mark.parametrize(
    "boxes, shape, whole",
    [
        ([[(0, 2), (0, 3)], [(2, 4), (0, 1)], [(2, 4), (1, 3)]], (4, 3), True),  # like bricks
        ([[(0, 2), (0, 3)], [(2, 4), (0, 1)], [(2, 4), (0, 2)]], (4, 3), False),  # as many values
        ([[(0, 2)], [(2, 3)]], (4,), False),
        ([[(1, 4)]], (4,), False),
        ([[(0, 4)], [(2, 2)]], (4,), True),
        ([[]], (), True),
        ([[], []], (), False),
        ([[(0, 0), (0, 3)]], (0, 3), True),
    ],
)
def test_slices_cover_a_variable_once(boxes, shape, whole):
    boxes = np.array(boxes, "int64").reshape(len(boxes), len(shape), 2)
    assert tf_bundle._tile(boxes, shape) == whole


def test_snappy():
    literal = bytes([60 << 2, 69]) + b"x" * 70  # a length in a byte of its own
    copies = bytes([(4 - 4) << 2 | 1, 70]) + bytes([(64 - 1) << 2 | 2, 1, 0])
    copies += bytes([(2 - 1) << 2 | 3, 138, 0, 0, 0])
    data = bytes([70 + 3 + 4 + 64 + 2 & 0x7F | 0x80, 1]) + literal + bytes([2 << 2]) + b"abc"
    text = b"x" * 70 + b"abc"
    for back, length in ((70, 4), (1, 64), (138, 2)):
        for _ in range(length):
            text += text[-back : len(text) - back + 1]
    assert tf_bundle._decompress(data + copies) == text
    with pytest.raises(ValueError, match="should have"):
        tf_bundle._decompress(data + copies[:-5])


# laziness


def sparse_safetensors(path):
    """64 GiB of nothing, then four bytes that matter."""
    hole = 1 << 36
    header = json.dumps(
        {
            "hole": {"dtype": "U8", "shape": [hole], "data_offsets": [0, hole]},
            "last": {"dtype": "F32", "shape": [1], "data_offsets": [hole, hole + 4]},
        }
    ).encode()
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + hole)
        file.seek(0, os.SEEK_END)
        file.write(np.float32(3).tobytes())


def test_one_tensor_does_not_read_the_file(tmp_path):
    sparse_safetensors(tmp_path / "sparse.safetensors")
    checkpoint = open_checkpoint(tmp_path / "sparse.safetensors")
    assert checkpoint.shape("hole") == (1 << 36,)
    assert checkpoint["last"] == 3
    assert checkpoint["hole"][1 << 35] == 0


@pytest.mark.parametrize(
    "file, name",
    [
        ("shards/model.ckpt", "bert/pooler/dense/kernel"),
        ("brain.safetensors", "brain"),
        ("torch.pt", "transposed"),
        ("dense.weights.h5", "layers/dense/vars/0"),
    ],
)
def test_arrays_are_views_on_the_mapped_file(goldens, file, name):
    assert isinstance(at_the_root(open_checkpoint(goldens / file)[name]), mmap.mmap)


def test_tied_tensors_share_memory(goldens):
    checkpoint = open_checkpoint(goldens / "torch.pt")
    assert np.shares_memory(checkpoint["plain"], checkpoint["tied"])
    assert not np.shares_memory(checkpoint["plain"], checkpoint["parameter"])


def test_damage_in_one_tensor_leaves_the_others(goldens, tmp_path):
    shutil.copytree(goldens / "shards", tmp_path, dirs_exist_ok=True)
    data = tmp_path / "model.ckpt.data-00000-of-00002"
    content = bytearray(data.read_bytes())
    content[0] ^= 1
    data.write_bytes(content)
    tensors = EXPECTED["shards/model.ckpt"]
    damaged = []
    checkpoint = open_checkpoint(tmp_path)
    for name in checkpoint:
        try:
            np.testing.assert_array_equal(checkpoint[name], tensors[name])
        except CheckpointError as error:
            assert "checksum" in str(error) and data.name in str(error)
            damaged.append(name)
    assert len(damaged) == 1
    open_checkpoint(tmp_path, verify=False)[damaged[0]]  # without verification nobody looks


def test_imports_no_framework():
    code = (
        "import sys, bert4keras_lite.checkpoints as c; c.open_checkpoint(sys.argv[1])['plain'];"
        "sys.exit(' '.join({'keras', 'tensorflow', 'torch', 'jax'} & set(sys.modules)) or 0)"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    file = os.path.join(root, "tests", "goldens", "checkpoints", "torch.pt")
    done = subprocess.run([sys.executable, "-c", code, file], cwd=root, capture_output=True)
    assert done.returncode == 0, done.stderr


# real checkpoints beside the repository


def variables(directory):
    """name -> (shape, dtype) as the directory's list says."""
    listed = json.loads((directory / "variables.json").read_text())
    return {name: (tuple(shape), dtype) for name, (shape, dtype) in listed.items()}


@pytest.mark.parametrize("name", ["keras_bert_toy", "keras_gpt2_toy"])
def test_real_toy_checkpoints(shared, name):
    checkpoint = open_checkpoint(shared / name, verify=True)
    found = {n: (a.shape, str(a.dtype)) for n, a in checkpoint.items()}
    assert found == variables(shared / name)


INDEX_ONLY = {
    "albert_tiny_google_finetuned": 76,
    "albert_tiny_zh": 31,
    "albert_tiny_zh_finetuned": 75,
    "albert_tiny_zh_google": 97,
    "bert_domain": 202,
    "chinese_rbt3": 70,
    "t5_mtf_tiny": 105,
}


@pytest.mark.parametrize("name", INDEX_ONLY)
def test_real_indexes(shared, tmp_path, name):
    source = shared / "index_only" / name
    (index,) = source.glob("*.index")
    with pytest.raises(CheckpointError, match=r"shard \(\d of \d\) is missing"):
        open_checkpoint(index)
    shutil.copy(index, tmp_path)
    # TensorFlow writes the tensors of a shard one after the other, in the order of their names
    rng = np.random.default_rng(0)
    table = dict(tf_bundle._read_table(index))
    shards = tf_bundle._read_message(table.pop(b""), tf_bundle.HEADER)[1][-1]
    samples = {}
    for key, value in sorted(table.items()):
        entry = tf_bundle._parse_entry(value)
        sample = rng.integers(0, 128, min(entry.size, 4096), "uint8").tobytes()
        path = tf_bundle.data_path(tmp_path / index.stem, entry.shard, shards)
        with open(path, "r+b" if path.exists() else "wb") as file:
            file.seek(entry.offset)
            file.write(sample)
            file.truncate(max(entry.offset + entry.size, file.seek(0, os.SEEK_END)))
        samples[key.decode()] = sample
    checkpoint = open_checkpoint(tmp_path, verify=False)  # these data are made up
    assert len(checkpoint) == INDEX_ONLY[name]
    assert {n: (checkpoint.shape(n), str(checkpoint.dtype(n))) for n in checkpoint} == variables(
        source
    )
    for n, sample in samples.items():
        array = checkpoint[n]
        assert (array.shape, str(array.dtype)) == variables(source)[n]
        assert array.tobytes()[: len(sample)] == sample
    if name != "t5_mtf_tiny":  # whose values are bfloat16 and need no more than the sample
        with pytest.raises(CheckpointError, match="checksum"):
            open_checkpoint(tmp_path, verify=True)[n]


# against the libraries, where they are installed


def test_partitioned_variables_of_tensorflow(tmp_path):
    tf = pytest.importorskip("tensorflow")
    cuts = [0, 63, 64, 128, 8191, 8192, 16384, 2**20, 2**20 + 9]
    value = np.arange(cuts[-1] * 2, dtype="int32").reshape(-1, 2)
    slices = [f"{len(value)} 2 {a},{b - a}:-" for a, b in pairwise(cuts)]
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "m"),
        tensor_names=["v/词"] * len(slices),
        shape_and_slices=slices,
        tensors=[value[a:b] for a, b in pairwise(cuts)],
    )
    np.testing.assert_array_equal(open_checkpoint(tmp_path, verify=True)["v/词"], value)


def test_torch_state_dicts(tmp_path):
    torch = pytest.importorskip("torch")
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16)
    model = torch.nn.ModuleDict({"layer": layer, "table": torch.nn.Embedding(5, 8)}).to(
        torch.bfloat16
    )
    for zipped in (True, False):
        torch.save(model.state_dict(), tmp_path / "m.bin", _use_new_zipfile_serialization=zipped)
        checkpoint = open_checkpoint(tmp_path / "m.bin")
        assert list(checkpoint) == list(model.state_dict())
        for name, tensor in model.state_dict().items():
            assert checkpoint[name].dtype == ml_dtypes.bfloat16
            np.testing.assert_array_equal(
                checkpoint[name].astype("float32"), tensor.float().numpy()
            )
        torch.save(model, tmp_path / "whole.bin", _use_new_zipfile_serialization=zipped)
        with pytest.raises(CheckpointError, match=r"'torch\.nn\.modules.*state_dict"):
            open_checkpoint(tmp_path / "whole.bin")


def test_more_than_a_hundred_ranks_of_megatron(tmp_path):
    """They are joined by their numbers: by their names, 100 comes before 11."""
    torch = pytest.importorskip("torch")
    for rank in range(102):
        module = {"word_embeddings.weight": torch.full((1, 2), float(rank))}
        torch.save({"module": module}, tmp_path / f"mp_rank_{rank:02d}_model_states.pt")
    table = open_checkpoint(tmp_path)["word_embeddings.weight"]
    np.testing.assert_array_equal(table[:, 0], np.arange(102))


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        ([1.0, 2.0, 3.0], [1.01, 2.0, 3.0], True),
        ([1e20, 2.0, np.nan], [1e20, 2.01, np.nan], True),
        ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], False),
        ([1e20, 2.0, 3.0], [-1e20, 2.0, 3.0], False),
        ([1e20, 2.0, 3.0], [1e20, -50.0, 99.0], False),
        ([np.inf, 1.0, 1.0], [np.inf, 9.0, 9.0], False),
        ([np.inf, 1.0, 1.0], [3e38, 1.0, 1.0], False),
        ([1.0, 2.0, np.nan], [1.0, 2.0, 0.0], False),
        ([1.0, 2.0, 0.0], [1.0, 2.0, np.nan], False),
    ],
)
def test_ranks_of_megatron_with_huge_numbers(tmp_path, first, second, alike):
    torch = pytest.importorskip("torch")
    for rank, array in enumerate((first, second)):
        module = {"position_embeddings.weight": torch.tensor(array)}
        torch.save({"module": module}, tmp_path / f"mp_rank_{rank:02d}_model_states.pt")
    checkpoint = open_checkpoint(tmp_path)
    if alike:
        array = checkpoint["position_embeddings.weight"]
        np.testing.assert_array_equal(array, np.array(first, "float32"))
    else:
        with pytest.raises(CheckpointError, match="is not the same in all of the files"):
            checkpoint["position_embeddings.weight"]


def test_old_torch_pickles(tmp_path):
    """Files of older versions, spelled by hand: a view storage, an OrderedDict of pairs."""
    torch = pytest.importorskip("torch")
    tensor = torch.arange(6.0)
    torch.save({"a": tensor}, tmp_path / "m.pt", _use_new_zipfile_serialization=False)
    content = (tmp_path / "m.pt").read_bytes()
    # the last item of the storage's identity is None, or (key of the view, offset, length)
    changed = content.replace(b"K\x06Nt", b"K\x06(X\x01\x00\x00\x00vK\x02K\x03tt")
    changed = changed.replace(b"K\x00K\x06\x85", b"K\x00K\x03\x85")
    assert len(changed) == len(content) + 11
    (tmp_path / "m.pt").write_bytes(changed)
    np.testing.assert_array_equal(open_checkpoint(tmp_path / "m.pt")["a"], [2, 3, 4])


@pytest.mark.parametrize("protocol", range(1, 6))
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("checksums", [True, False])
def test_torch_pickles_of_every_protocol(tmp_path, protocol, zipped, checksums):
    torch = pytest.importorskip("torch")
    tensors = {"a": torch.arange(6).reshape(2, 3).T, "b": torch.nn.Parameter(torch.ones(4))}
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(checksums)
    try:
        torch.save(
            tensors,
            tmp_path / "m.pt",
            pickle_protocol=protocol,
            _use_new_zipfile_serialization=zipped,
        )
    finally:
        torch.serialization.set_crc32_options(before)
    checkpoint = open_checkpoint(tmp_path / "m.pt")
    assert list(checkpoint) == ["a", "b"]
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(checkpoint[name], tensor.detach().numpy())


# kind, as the error says it -> how to make such a tensor
OTHER_KINDS = {
    "torch.complex32": lambda torch, grid: grid.to(torch.complex32),
    "torch.float8_e4m3fnuz": lambda torch, grid: grid.to(torch.float8_e4m3fnuz),
    "quantized": lambda torch, grid: torch.quantize_per_tensor(grid, 0.1, 0, torch.qint32),
    "meta": lambda torch, grid: grid.to("meta"),
    "sparse": lambda torch, grid: grid.to_sparse(),
    "torch._utils._rebuild_nested_tensor": lambda torch, grid: torch.nested.nested_tensor([grid]),
    "conjugated or negated view": lambda torch, grid: grid.to(torch.complex64).conj(),
    "tuple as a key": lambda torch, grid: grid,
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.filterwarnings("ignore")  # PyTorch announces that some of them will change
def test_torch_tensors_of_other_kinds(tmp_path, kind, zipped):
    """One that cannot be read is listed, and in nobody's way."""
    torch = pytest.importorskip("torch")
    key, name = ((1, (2, 3)), "<tuple 1>") if kind.startswith("tuple") else ("b", "b")
    tensor = OTHER_KINDS[kind](torch, torch.ones(2, 3))
    values = {"a": torch.arange(4.0), key: tensor, "c": torch.arange(3)}
    torch.save(values, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    checkpoint = open_checkpoint(tmp_path / "m.pt")
    assert list(checkpoint) == ["a", name, "c"]
    assert checkpoint.shape(name) == (() if "nested" in kind else (2, 3))
    assert checkpoint.dtype(name) == np.dtype(object)
    np.testing.assert_array_equal(checkpoint["a"], [0, 1, 2, 3])
    np.testing.assert_array_equal(checkpoint["c"], [0, 1, 2])
    with pytest.raises(CheckpointError, match=f"m.pt: {name!r} holds values of kind {kind}, and"):
        checkpoint[name]


@pytest.mark.parametrize(
    "kind, dtype",
    [
        ("F8_E4M3FNUZ", "float8_e4m3fnuz"),
        ("F8_E5M2FNUZ", "float8_e5m2fnuz"),
        ("F8_E8M0", "float8_e8m0fnu"),
        ("F4", "float4_e2m1fn_x2"),
    ],
)
def test_safetensors_of_other_kinds(tmp_path, kind, dtype):
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("safetensors.torch")
    tensor = torch.zeros(2, 4, dtype=torch.uint8).view(getattr(torch, dtype))
    tensors = {"a": torch.arange(4.0), "b": tensor, "c": torch.arange(3)}
    library.save_file(tensors, tmp_path / "m.safetensors")
    checkpoint = open_checkpoint(tmp_path / "m.safetensors")
    assert set(checkpoint) == {"a", "b", "c"}
    assert checkpoint.shape("b") == (2, 8 if kind == "F4" else 4)
    assert checkpoint.dtype("b") == np.dtype(object)
    np.testing.assert_array_equal(checkpoint["a"], [0, 1, 2, 3])
    np.testing.assert_array_equal(checkpoint["c"], [0, 1, 2])
    with pytest.raises(CheckpointError, match=f"'b' holds values of kind '{kind}', and only num"):
        checkpoint["b"]


def test_torch_storages_of_nothing(tmp_path):
    """Only of them one can have two dtypes."""
    torch = pytest.importorskip("torch")
    empty = torch.empty(0)
    for zipped in (True, False):
        tensors = {"a": empty, "b": empty.view(torch.int16), "c": torch.ones(2)}
        torch.save(tensors, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
        checkpoint = open_checkpoint(tmp_path / "m.pt")
        assert [checkpoint[name].shape for name in "abc"] == [(0,), (0,), (2,)]


def test_messages_repeat_little(tmp_path):
    kind = np.dtype([(f"field_{i}", "f4") for i in range(200)])
    names = {"k" * 300 + f"{i}": np.zeros(2) for i in range(3)}
    np.savez(tmp_path / "m.npz", mixed=np.zeros(2, kind), **names)
    checkpoint = open_checkpoint(tmp_path / "m.npz")
    with pytest.raises(CheckpointError, match=r"holds values of dtype \[\('field_0") as error:
        checkpoint["mixed"]
    assert len(str(error.value).replace(str(tmp_path), "")) < 400
    with pytest.raises(CheckpointError, match="the nearest names are 'k") as error:
        checkpoint["k" * 300]
    assert max(len(part) for part in re.findall("k+", str(error.value))) <= 200


def test_torch_buffers(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.nn.Buffer(torch.arange(3))}, tmp_path / "m.pt")
    np.testing.assert_array_equal(open_checkpoint(tmp_path / "m.pt")["a"], [0, 1, 2])


@pytest.mark.parametrize("protocol", range(1, 6))
@pytest.mark.parametrize("zipped", [True, False])
def test_torch_objects_beside_weights(tmp_path, protocol, zipped):
    """What trainers keep is passed over, and not built."""
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    training = {
        "args": argparse.Namespace(rate=1e-3, output=Path("out")),
        "optimizer": optimizer.state_dict(),
        "history": defaultdict(list, {"loss": [0.5, 0.25]}),
        "seen": Counter(["a", "b", "a"]),
        "options": {(1, (2, 3)): 1, 0.5: 2, None: 3, True: 4, b"k": 5, 1 << 80: 6, ("a",): []},
        "random": np.random.default_rng(0),
        "sets": [{1, (2, 3)}, frozenset({"a"}), bytearray(b"ab"), 1j, slice(2), torch.float16],
    }
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": zipped}
    for name in ("state_dict", "weights"):
        torch.save({**training, name: layer.state_dict()}, tmp_path / "m.pt", **options)
        checkpoint = open_checkpoint(tmp_path / "m.pt")
        assert list(checkpoint) == ["weight", "bias"]
        np.testing.assert_array_equal(checkpoint["weight"], layer.weight.detach().numpy())


def test_unwrapping(tmp_path):
    torch = pytest.importorskip("torch")
    x = torch.ones(2)

    def names(value):
        torch.save(value, tmp_path / "m.pt")
        return list(open_checkpoint(tmp_path / "m.pt"))

    assert names({"state_dict": {"a": x}, "optimizer": {"b": x}}) == ["a"]
    assert names({"model": {"module": {"a": x}}}) == ["a"]
    assert names({"model": {"a": x}, "b": x}) == ["model.a", "b"]
    weights = {"a.weight": x}
    step, best, random = torch.tensor(3), torch.tensor(71.2), torch.get_rng_state()
    assert names({"state_dict": weights, "best_acc1": best, "losses": x}) == ["a.weight"]
    assert names({"model_state_dict": weights, "step": step}) == ["a.weight"]
    assert names({"model": weights, "rng": random, "rate": best.reshape(1)}) == ["a.weight"]
    assert names({"model": {"module": weights, "step": step}, "n": best}) == ["a.weight"]
    for beside in ({"head.weight": x}, {"head.scale": best}, {"bias": x}):
        assert names({"model": weights, **beside}) == ["model.a.weight", *beside]
    assert names({"model": {"name": 1}, "scale": best}) == ["scale"]
    assert names({"state_dict": weights, "head.weight": x}) == [
        "state_dict.a.weight",
        "head.weight",
    ]
    assert names({"encoder": {"a": {"w": x}}, "n": 1}) == ["encoder.a.w"]
    circular = {"a": x}
    circular["again"] = circular
    assert names({"model": circular}) == ["a"]
    endless = {}
    endless["model"] = endless
    for value in (endless, {"a": 1}, [x], x, {}):
        with pytest.raises(CheckpointError, match="no tensors by name"):
            names(value)


def test_keras_compressed_and_shared_datasets(tmp_path):
    h5py = pytest.importorskip("h5py")
    grid = np.arange(600, dtype="float32").reshape(20, 30)
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        file.create_dataset("a/packed", data=grid, compression="gzip")
        file.create_dataset("a/empty", data=np.zeros((0, 3), "float16"))
        file.create_dataset("a/unwritten", shape=(2, 2), dtype="int32")
        file.create_dataset("a/text", data="a string")
        file.create_dataset("a/far", (4,), "f4", external=[("other.bin", 0, 16)])
    checkpoint = open_checkpoint(tmp_path)
    np.testing.assert_array_equal(checkpoint["a/packed"], grid)
    assert checkpoint["a/empty"].shape == (0, 3) and not checkpoint["a/unwritten"].any()
    for name in ("a/text", "a/far"):
        with pytest.raises(CheckpointError, match="only numbers can be read"):
            checkpoint[name]


def test_hdf5_numbers_of_other_layouts(tmp_path):
    h5py = pytest.importorskip("h5py")
    bfloat16, biased = h5py.h5t.IEEE_F16LE.copy(), h5py.h5t.IEEE_F32LE.copy()
    bfloat16.set_fields(15, 7, 8, 0, 7)
    bfloat16.set_ebias(127)
    biased.set_ebias(100)
    shifted, boolean = h5py.h5t.STD_I32LE.copy(), h5py.h5t.enum_create(h5py.h5t.STD_I8LE)
    shifted.set_precision(12)
    shifted.set_offset(8)
    for value, name in enumerate([b"FALSE", b"TRUE"]):
        boolean.enum_insert(name, value)
    numbers = np.arange(6)
    stored = {
        "bfloat16": (bfloat16, numbers.astype(ml_dtypes.bfloat16).view("<u2")),
        "biased": (biased, np.ldexp(numbers, -27).astype("<f4")),
        "shifted": (shifted, numbers.astype("<i4") << 8),
        "boolean": (boolean, (numbers % 2).astype("i1")),
    }
    plain = {kind: numbers.astype(kind) for kind in ("<f2", ">f4", ">c8", "<i8", "u1", ">u2")}
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        for name, (kind, values) in stored.items():
            dataset = h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple((6,)))
            dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, values, mtype=kind)
        for kind, values in plain.items():
            file[kind] = values
        file["marked"] = numbers.astype(ml_dtypes.bfloat16)  # as Keras does
        file["marked"].attrs["dtype"] = "bfloat16"
    checkpoint = open_checkpoint(tmp_path)
    for name in ("bfloat16", "biased", "shifted", "marked", *plain):
        np.testing.assert_array_equal(checkpoint[name].astype("c8"), numbers)
    assert checkpoint["boolean"].tolist() == [False, True] * 3


@pytest.mark.parametrize("size", [512, 4096])
def test_hdf5_behind_a_user_block(tmp_path, size):
    h5py = pytest.importorskip("h5py")
    path, grid = tmp_path / "m.weights.h5", np.arange(600, dtype="float32").reshape(20, 30)
    with h5py.File(path, "w", userblock_size=size) as file:
        file["a/plain"] = grid
        file.create_dataset("a/packed", data=grid, compression="gzip")
    for note in (b"", b"a note of the user"):
        path.write_bytes(note + path.read_bytes()[len(note) :])
        checkpoint = open_checkpoint(path)
        assert checkpoint.format == "keras"
        np.testing.assert_array_equal(checkpoint["a/plain"], grid)
        np.testing.assert_array_equal(checkpoint["a/packed"], grid)


def test_npz_of_objects_is_not_unpickled(tmp_path):
    np.savez(
        tmp_path / "m.npz", objects=np.array([{}], dtype=object), text=np.array("x"), n=np.ones(1)
    )
    checkpoint = open_checkpoint(tmp_path / "m.npz")
    assert checkpoint["n"] == 1
    for name in ("objects", "text"):
        with pytest.raises(CheckpointError, match="only numbers can be read"):
            checkpoint[name]


def test_other_zip_archives_are_no_checkpoints(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(CheckpointError, match="not a checkpoint of a known format"):
        open_checkpoint(tmp_path / "m.pt")
