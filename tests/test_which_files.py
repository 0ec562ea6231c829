"""Which files of a directory are read, and what is said where they contradict each other."""

import json

import numpy as np
import pytest

from bert4keras_lite.checkpoints import CheckpointError, open_checkpoint, save_checkpoint
from bert4keras_lite.configs.published import find_files
from bert4keras_lite.tokenizers import load_tokenizer

pytestmark = pytest.mark.once

CONFIG = {"vocab_size": 5, "hidden_size": 4, "hidden_act": "gelu", "layer_norm_eps": 1e-12}


def shard(path, **tensors):
    arrays = {name: np.full(2, value, "f4") for name, value in tensors.items()}
    save_checkpoint(path, arrays, "safetensors")


def indexed(folder, **files):
    text = json.dumps({"weight_map": files})
    (folder / "model.safetensors.index.json").write_text(text)
    return folder


def test_a_name_of_its_own_comes_before_any_other(tmp_path):
    shard(tmp_path / "ema.safetensors", w=9)
    shard(tmp_path / "pytorch_model.bin", w=1)
    assert open_checkpoint(tmp_path).path.name == "pytorch_model.bin"


def test_a_tensor_in_two_shards(tmp_path):
    shard(tmp_path / "a.safetensors", w=1)
    shard(tmp_path / "b.safetensors", w=2, x=2)
    indexed(tmp_path, w="a.safetensors", x="b.safetensors")
    told = (
        r"b\.safetensors: holds 'w', which is in 'a\.safetensors' according to .*expected it in one"
        r" shard"
    )
    with pytest.raises(CheckpointError, match=told):
        open_checkpoint(tmp_path)


def test_a_tensor_that_no_index_lists(tmp_path):
    shard(tmp_path / "a.safetensors", w=1, bias=2)
    told = (
        r"a\.safetensors: 1 tensors, such as 'bias', are not listed in .*index\.json, and left out"
    )
    with pytest.warns(UserWarning, match=told):
        assert list(open_checkpoint(indexed(tmp_path, w="a.safetensors"))) == ["w"]


@pytest.mark.parametrize("ending", ["npz", "index", "model"])
def test_long_names_of_files_are_cut(tmp_path, ending):
    for i in range(20):
        (tmp_path / f"{i:02}{'x' * 200}.{ending}").write_bytes(b"x")
    read = load_tokenizer if ending == "model" else open_checkpoint
    with pytest.raises((CheckpointError, ValueError), match=r"20 files match|holds 20 ") as caught:
        read(tmp_path)
    assert len(str(caught.value).replace(str(tmp_path), "")) < 400


@pytest.mark.parametrize(
    "theirs, told",
    [
        ({}, None),
        ({"hidden_act": "gelu_new", "hidden_dropout_prob": 0.2}, None),  # see `resolve_ambiguities`
        ({"hidden_act": "relu"}, "hidden_act is 'gelu', and hidden_act of config.json is 'relu'"),
        ({"hidden_size": 8}, "hidden_size is 4, and hidden_size of config.json is 8; expected"),
        ({"layer_norm_eps": 1e-3}, "layer_norm_eps is 1e-12, and layer_norm_eps of config.json"),
    ],
)
def test_two_configs_shape_one_model(tmp_path, theirs, told):
    (tmp_path / "bert_config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | theirs))
    if told is None:
        values, _, where = find_files(tmp_path, None)
        assert where.endswith("bert_config.json") and values["hidden_act"] == "gelu"
        return
    with pytest.raises(ValueError, match=told):
        find_files(tmp_path, None)
    values, *_ = find_files(tmp_path / "config.json", None)
    assert values["vocab_size"] == 5
