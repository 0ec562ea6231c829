import os
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bert4keras_lite.checkpoints import (
    CheckpointError,
    open_checkpoint,
    safetensor_file,
    save_checkpoint,
    tf_bundle,
)

PATHS = {"tf": "bert_model.ckpt", "safetensors": "model.safetensors"}
DTYPES = {"tf": set(tf_bundle.NUMBERS), "safetensors": set(safetensor_file.NAMES)}
formats = pytest.mark.parametrize("format", PATHS)


def arrays(dtypes):
    """Arrays of any dtype, byte order, layout and rank up to 4, with axes of length 0."""

    @st.composite
    def draw_array(draw):
        dtype = draw(st.sampled_from(sorted(dtypes, key=str)))
        shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
        size = int(np.prod(shape)) * dtype.itemsize
        content = draw(st.binary(min_size=size, max_size=size))
        if dtype.kind == "b":
            content = bytes(byte & 1 for byte in content)
        array = np.frombuffer(content, dtype).reshape(shape)
        if dtype.kind in "iufc" and draw(st.booleans()):
            array = array.astype(dtype.newbyteorder(">"))
        if draw(st.booleans()):
            array = array.T
        if array.ndim and draw(st.booleans()):
            array = array[::-2]
        return array

    return draw_array()


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda name: name != "__metadata__" and not name.startswith("\0")
)


@formats
@settings(deadline=None, derandomize=True, max_examples=100)
@given(data=st.data())
def test_round_trip_is_bit_equal(format, data):
    tensors = data.draw(st.dictionaries(names, arrays(DTYPES[format]), max_size=5))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / PATHS[format]
        save_checkpoint(path, tensors, format)
        for where in (path, directory):
            checkpoint = open_checkpoint(where, verify=True)
            assert set(checkpoint) == set(tensors)
            for name, tensor in tensors.items():
                array = checkpoint[name]
                assert array.dtype == tensor.dtype.newbyteorder("<")
                assert array.shape == tensor.shape and array.flags.aligned
                assert array.tobytes() == tensor.astype(array.dtype).tobytes()


TENSORS = {
    "bert/embeddings/词向量": np.arange(6, dtype="float32").reshape(2, 3),
    "transposed": np.arange(6, dtype=">f8").reshape(2, 3).T,
    "brain": np.array([1.5, -2, 3], ml_dtypes.bfloat16),
    "half": np.array([1.5], "float16"),
    "flags": np.array([True, False]),
    "step": np.array(7, "int64"),
    "nothing": np.zeros((0, 3), "int32"),
    "a/very/" + "long/" * 60 + "name": np.ones(1, "uint8"),
}


@formats
def test_save_what_was_opened_over_itself(tmp_path, format, assert_same):
    path = tmp_path / PATHS[format]
    save_checkpoint(path, TENSORS, format)
    for _ in range(3):
        save_checkpoint(path, open_checkpoint(path), format)
        assert_same(open_checkpoint(path, verify=True), TENSORS)
    other = {"tf": "safetensors", "safetensors": "tf"}[format]
    save_checkpoint(tmp_path / "new" / PATHS[other], open_checkpoint(path), other)
    assert_same(open_checkpoint(tmp_path / "new"), TENSORS)


def test_names_of_the_files(tmp_path):
    for _ in range(2):
        save_checkpoint(tmp_path / "out" / "bert_model.ckpt", TENSORS)
        assert sorted(os.listdir(tmp_path / "out")) == [
            "bert_model.ckpt.data-00000-of-00001",
            "bert_model.ckpt.index",
            "checkpoint",
        ]
    save_checkpoint(tmp_path / "out" / "second", TENSORS)
    assert open_checkpoint(tmp_path / "out").path.name == "second"
    assert open_checkpoint(tmp_path / "out" / "bert_model.ckpt").path.name == "bert_model.ckpt"


def test_shards_of_an_older_checkpoint_are_removed(tmp_path, goldens, assert_same):
    for file in (goldens / "shards").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    old = open_checkpoint(tmp_path)
    kept = {name: np.array(array) for name, array in old.items()}
    save_checkpoint(tmp_path / "model.ckpt", TENSORS)
    assert len(os.listdir(tmp_path)) == 3
    assert_same(open_checkpoint(tmp_path, verify=True), TENSORS)
    assert_same(old, kept)  # what was open stays readable


def test_a_directory_with_the_name_of_an_old_shard_stays(tmp_path, assert_same):
    (tmp_path / "model.ckpt.data-00001-of-00002").mkdir()
    save_checkpoint(tmp_path / "model.ckpt", TENSORS)
    assert_same(open_checkpoint(tmp_path, verify=True), TENSORS)


# interruption


class Fails(dict):
    """Gives the tensors but one."""

    def __getitem__(self, name):
        if name == "step":
            raise KeyboardInterrupt
        return super().__getitem__(name)


@formats
def test_an_interrupted_save_leaves_the_old_checkpoint(tmp_path, format, assert_same):
    path = tmp_path / PATHS[format]
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, Fails(TENSORS), format)
    assert os.listdir(tmp_path) == []
    save_checkpoint(path, {"old": np.ones(1000)}, format)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, Fails(TENSORS), format)
    assert before == {file.name: file.read_bytes() for file in tmp_path.iterdir()}


@formats
def test_a_tensor_that_fails_when_its_turn_comes(tmp_path, format):
    path = tmp_path / PATHS[format]
    save_checkpoint(path, {"old": np.ones(1000)}, format)
    source = tmp_path / "source.ckpt"
    save_checkpoint(source, TENSORS)
    data = tf_bundle.data_path(source, 0, 1)
    data.write_bytes(data.read_bytes()[:-1] + b"\2")  # shapes are fine, a checksum is not
    with pytest.raises(CheckpointError, match="checksum"):
        save_checkpoint(path, open_checkpoint(source, verify=True), format)
    assert list(open_checkpoint(path)) == ["old"]
    assert not list(tmp_path.glob("*.tmp"))


class PowerCut(Exception):
    pass


@pytest.mark.parametrize("old_shards", [1, 2])
def test_a_bundle_is_whole_after_every_step(
    tmp_path, goldens, monkeypatch, assert_same, old_shards
):
    """Cuts the power before and after every change of the directory: old or new must be whole."""
    new = TENSORS
    steps = 0
    while True:
        prefix = tmp_path / f"{steps}" / "model.ckpt"
        prefix.parent.mkdir()
        if old_shards == 2:
            for file in (goldens / "shards").iterdir():
                (prefix.parent / file.name).write_bytes(file.read_bytes())
        else:
            save_checkpoint(prefix, {"old": np.ones(5)})
        old = {name: np.array(array) for name, array in open_checkpoint(prefix).items()}
        left = [steps]

        def cut(change, left=left):
            def changed(*args, **kwargs):
                if left[0] == 0:
                    raise PowerCut
                left[0] -= 1
                return change(*args, **kwargs)

            return changed

        with monkeypatch.context() as patch:
            for name in ("rename", "replace", "rmdir"):
                patch.setattr(os, name, cut(getattr(os, name)))
            patch.setattr(Path, "unlink", cut(Path.unlink))
            try:
                save_checkpoint(prefix, new)
                finished = True
            except PowerCut:
                finished = False
        checkpoint = open_checkpoint(prefix, verify=True)
        assert_same(checkpoint, new if set(checkpoint) == set(new) else old)
        if not finished:  # the next save works, and sweeps
            save_checkpoint(prefix, new)
        assert_same(open_checkpoint(prefix, verify=True), new)
        assert len(list(prefix.parent.glob("*.data-?????-of-?????"))) == 1
        if finished:
            break
        steps += 1
    assert steps > 4


# bad input


@formats
@pytest.mark.parametrize("value", [np.array("text"), np.array([None])])
def test_values_that_are_not_numbers(tmp_path, format, value):
    with pytest.raises(CheckpointError, match="cannot save 'bad' of dtype"):
        save_checkpoint(tmp_path / "m", {"good": np.ones(1), "bad": value}, format)
    assert os.listdir(tmp_path) == []


def test_names_that_cannot_be(tmp_path):
    for format, name in (("tf", ""), ("tf", "\0slice"), ("safetensors", "__metadata__")):
        with pytest.raises(CheckpointError, match="cannot save"):
            save_checkpoint(tmp_path / "m", {name: np.ones(1)}, format)


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="'torch'"):
        save_checkpoint(tmp_path / "m", {}, "torch")
    with pytest.raises(ValueError, match="metadata"):
        save_checkpoint(tmp_path / "m", {}, "tf", {"a": "b"})
    with pytest.raises(CheckpointError, match="is a directory"):
        save_checkpoint(tmp_path, {})
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_checkpoint(tmp_path / "file" / "m", {})


# what the libraries say


def test_tensorflow_reads_it(tmp_path):
    tf = pytest.importorskip("tensorflow")
    prefix = str(tmp_path / '模"型.ckpt')
    for _ in range(2):
        save_checkpoint(prefix, TENSORS)
        reader = tf.train.load_checkpoint(str(tmp_path))
        assert set(reader.get_variable_to_shape_map()) == set(TENSORS)
        for name, tensor in TENSORS.items():
            np.testing.assert_array_equal(tf.train.load_variable(prefix, name), tensor)
    assert tf.train.latest_checkpoint(str(tmp_path)) == prefix
    save_checkpoint(tmp_path / "none", {})
    assert tf.train.list_variables(str(tmp_path / "none")) == []


def test_safetensors_reads_it(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    from safetensors import safe_open

    tensors = {name: array for name, array in TENSORS.items() if name != "brain"}
    save_checkpoint(tmp_path / "m.safetensors", tensors, "safetensors")
    found = numpy.load_file(tmp_path / "m.safetensors")
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor)
    with safe_open(tmp_path / "m.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}
    save_checkpoint(tmp_path / "m.safetensors", {}, "safetensors", {"来源": "自制"})
    with safe_open(tmp_path / "m.safetensors", "np") as file:
        assert file.metadata() == {"来源": "自制"} and not list(file.keys())


def test_torch_reads_bfloat16(tmp_path):
    pytest.importorskip("torch")
    from safetensors.torch import load_file

    save_checkpoint(tmp_path / "m.safetensors", TENSORS, "safetensors")
    assert load_file(tmp_path / "m.safetensors")["brain"].tolist() == [1.5, -2, 3]
