"""Files of Keras are paired by name, as strictly as those of every other format."""

import h5py
import keras
import numpy as np
import pytest

from bert4keras_lite import build_transformer_model
from bert4keras_lite.checkpoints import CheckpointError, open_checkpoint
from bert4keras_lite.checkpoints.keras_file import renumbered
from bert4keras_lite.lora import enable_lora
from bert4keras_lite.models import Transformer

SIZES = {
    "vocab_size": 12,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 6,
    "max_position": 8,
}


def build(checkpoint=None, model="bert", **options):
    transformer = build_transformer_model(
        None, checkpoint, model, return_keras_model=False, **(SIZES | options)
    )
    if checkpoint is None:
        random = np.random.RandomState(0)
        for weight in transformer.model.weights:
            weight.assign(random.standard_normal(weight.shape))
    return transformer


def assert_same(found, expected, among=None):
    found, expected = found.variables, expected.variables
    assert found.keys() == expected.keys() if among is None else found.keys() <= expected.keys()
    for path, variable in found.items():
        np.testing.assert_array_equal(np.array(variable), np.array(expected[path]), path)


def refused(checkpoint, *lines, into=build, **options):
    """That building with a checkpoint fails, and that all lines of the report are these."""
    with pytest.raises(CheckpointError, match="does not match the model") as error:
        into(checkpoint, **options)
    report = [line for line in str(error.value).split("\n") if line[:1] in "-+!"]
    assert sorted(report) == sorted(lines)
    return str(error.value)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A masked language model, and its two files."""
    directory = tmp_path_factory.mktemp("saved")
    transformer = build(with_mlm="linear")
    transformer.model.save_weights(directory / "m.weights.h5")
    transformer.model.save(directory / "m.keras")
    return transformer, [directory / "m.weights.h5", directory / "m.keras"]


def test_same_graph(saved):
    transformer, files = saved
    for file in files:
        assert_same(build(file, with_mlm="linear"), transformer)
        assert_same(build(file, with_mlm="linear", prefix="x_"), transformer)


def test_shards(saved, tmp_path):
    """A model in several files has the names of one in a single file."""
    transformer, (file, _) = saved
    transformer.model.save_weights(tmp_path / "m.weights.json", max_shard_size=600 / 2**30)
    assert len(list(tmp_path.glob("m_*.weights.h5"))) > 3
    shards, whole = open_checkpoint(tmp_path), open_checkpoint(file)
    assert shards.path == tmp_path / "m.weights.json" and shards.format == "keras"
    assert set(shards) == set(whole) and shards.layers == whole.layers
    for name in whole:
        np.testing.assert_array_equal(shards[name], whole[name])
    assert_same(build(tmp_path / "m.weights.json", with_mlm="linear"), transformer)


@pytest.mark.filterwarnings("error:.*left unused")
def test_head_that_is_not_asked_for(saved):
    """As of other formats, the weights of heads that tables know are left without a word."""
    transformer, files = saved
    for file in files:
        assert_same(build(file), transformer, among=())


def test_other_head(saved):
    for file in saved[1]:
        message = refused(file, "- pooler/kernel", "- pooler/bias", with_pool=True)
        assert str(file) in message
        assert "ignore_invalid_weights=True" in message


def test_other_number_of_blocks(saved):
    transformer, files = saved
    last = [path for path in transformer.variables if path.startswith("block_1/")]
    assert len(last) == 16
    for file in files:
        fewer = refused(file, *(f"+ {path}" for path in last), num_hidden_layers=1)
        assert "more blocks" in fewer
        more = (f"- {path.replace('block_1', 'block_2')}" for path in last)
        refused(file, *more, num_hidden_layers=3)


def test_other_shape_and_place(saved):
    for file in saved[1]:
        refused(
            file,
            "! position_embedding/embeddings: (8, 8) in the checkpoint, (9, 8) in the model",
            max_position=9,
        )
        norms = [
            f"{sign} block_{i}/{name}_{place}_norm/{part}"
            for sign, place in (("-", "in"), ("+", "out"))
            for i in range(2)
            for name in ("attention", "ffn")
            for part in ("gamma", "beta")
        ]
        refused(file, *norms, norm_at="pre")


def test_options_of_loading(saved):
    """None of them is passed over."""
    transformer, (file, _) = saved
    tokens = np.array(transformer.variables["token_embedding/embeddings"])
    bias = np.array(transformer.variables["lm_bias/beta"])
    kept = build(file, with_mlm="linear", keep_tokens=[3, 1], compound_tokens=[[0, 1]]).variables
    np.testing.assert_allclose(
        np.array(kept["token_embedding/embeddings"]), [*tokens[[3, 1]], tokens[[3, 1]].mean(0)]
    )
    np.testing.assert_allclose(np.array(kept["lm_bias/beta"]), [*bias[[3, 1]], bias[[3, 1]].mean()])
    larger = build(file, hidden_size=16, autoresize_weights=True).variables
    assert larger["token_embedding/embeddings"].shape == (12, 16)
    with pytest.warns(UserWarning, match=r"ignored, as requested:\n- pooler/kernel\n- pooler/bias"):
        with_pool = build(file, with_pool=True, ignore_invalid_weights=True).variables
    assert np.array(with_pool["pooler/kernel"]).any()
    np.testing.assert_array_equal(np.array(with_pool["token_embedding/embeddings"]), tokens)


def test_body_of_a_fine_tuned_model(saved, tmp_path):
    transformer, _ = saved
    outputs = keras.layers.Dense(3)(transformer.hidden_states[-1])
    keras.Model(transformer.inputs, outputs).save_weights(tmp_path / "tuned.weights.h5")
    with pytest.warns(UserWarning, match="left unused, 2 arrays: dense/0, dense/1"):
        assert_same(build(tmp_path / "tuned.weights.h5"), transformer, among=())


class WithDense(Transformer):
    """Has a layer that is in no table, under a name of its own."""

    def output_heads(self, x):
        return [self.layer(keras.layers.Dense, "mine", units=2)(x)]


def test_layers_of_ones_own(tmp_path):
    """Also those that Keras named, whatever it called them in another process."""

    def conditional(checkpoint=None):
        values = keras.Input((3,), name="values")
        condition = keras.layers.Dense(4)(keras.layers.Dense(5)(values))
        return build(
            checkpoint,
            WithDense,
            **{"layer_norm_cond": condition, "additional_input_layers": values},
        )

    first = conditional()
    first.model.save_weights(tmp_path / "m.weights.h5")
    keras.layers.Dense(1)  # Keras counts on
    again = conditional(tmp_path / "m.weights.h5")
    assert_same(again, first)
    for found, expected in zip(again.model.weights, first.model.weights, strict=True):
        np.testing.assert_array_equal(np.array(found), np.array(expected), expected.path)

    build().model.save_weights(tmp_path / "plain.weights.h5")
    refused(
        tmp_path / "plain.weights.h5",
        *("- mine/kernel", "- mine/bias"),
        into=lambda path: build(path, WithDense),
    )


def test_names_that_keras_counted():
    layers = [("dense_3", "Dense"), ("mine", "Dense"), ("layer_norm_9", "LayerNorm")]
    layers += [("dense_12", "dense_2"), ("block_1", "TransformerBlock"), ("x_dense_1", "Dense")]
    assert list(renumbered(layers)) == [
        *("dense", "mine", "layer_norm", "dense_1", "block_1", "x_dense_1"),
    ]


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("a\nb", None),
        ("tok\n", None),
        ("x_" + "1" * 5000, None),
        ("a", "b\nc"),
        ("a", "x_" + "1" * 5000),
    ],
)
def test_odd_names_of_groups_and_layers(tmp_path, group, name):
    path = tmp_path / "m.weights.h5"
    with h5py.File(path, "w") as file:
        file[f"layers/{group}/vars/0"] = np.zeros((12, 8), "f4")
        if name:
            file[f"layers/{group}/vars"].attrs["name"] = name
    with pytest.raises(CheckpointError) as raised:
        build(path)
    message = str(raised.value)
    assert message.startswith(f"{path} does not match the model")
    assert len(max(message.splitlines(), key=len)) < 400
    assert repr(name or group)[1:-1][:100] in message  # escaped


def test_two_groups_of_one_layer(saved, tmp_path):
    """None of them is taken, unless the model has no such layer."""
    transformer, (file, _) = saved
    path = tmp_path / "m.weights.h5"
    path.write_bytes(file.read_bytes())
    norm = next(g for g, name in open_checkpoint(path).layers.items() if name == "embedding_norm")
    with h5py.File(path, "a") as h5:
        for copy, name in (("y", "other"), ("z", "other"), ("a", "embedding_norm")):
            h5.copy(norm, f"layers/{copy}")
            h5[f"layers/{copy}/vars"].attrs["name"] = name
    with pytest.raises(CheckpointError) as error:
        build(path, with_mlm="linear")
    assert f"'layers/a' and {norm!r} are both of a layer named 'embedding_norm'" in str(error.value)
    with h5py.File(path, "a") as h5:
        del h5["layers/a"]
    with pytest.warns(
        UserWarning, match=r"left unused, 4 arrays: layers/y/vars/0, layers/y/vars/1"
    ):
        assert_same(build(path, with_mlm="linear"), transformer)


@pytest.mark.filterwarnings("ignore:.*`quantize` method")
def test_file_of_a_quantized_model(tmp_path, monkeypatch):
    """Its whole numbers never get into a model that is not quantized, nor the other way about."""
    monkeypatch.setattr("gc.collect", lambda: 0)  # Keras does so for each layer; takes long
    options = {"num_hidden_layers": 1, "use_bias": False}
    quantized = build(**options)
    quantized.model.save_weights(tmp_path / "float.weights.h5")
    quantized.model.quantize("int8")
    quantized.model.save_weights(tmp_path / "int8.weights.h5")
    expected = {path: np.array(variable) for path, variable in quantized.variables.items()}
    with pytest.raises(CheckpointError, match="quantized") as error:
        build(tmp_path / "int8.weights.h5", **options)
    assert "\n- block_0/attention/query/kernel\n" in str(error.value)
    with pytest.raises(CheckpointError, match="- block_0/attention/query/kernel\n"):
        quantized.load_checkpoint(tmp_path / "float.weights.h5")
    for variable in quantized.variables.values():
        variable.assign(np.zeros(variable.shape))
    quantized.load_checkpoint(tmp_path / "int8.weights.h5")
    for path, variable in quantized.variables.items():
        np.testing.assert_array_equal(np.array(variable), expected[path], path)


def test_into_a_model_with_lora(saved):
    """The file has the sums: products start anew, at zero."""
    transformer, files = saved
    adapted = build(with_mlm="linear")
    enable_lora(adapted.model, rank=2)
    products = [v for v in adapted.model.variables if "lora_kernel" in v.path]
    for file in files:
        for variable in products:
            variable.assign(np.ones(variable.shape))
        adapted.load_checkpoint(file)
        assert_same(adapted, transformer)
        assert all(np.array(v).any() == v.path.endswith("_a") for v in products)


@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_half_of_an_encoder_decoder(half, tmp_path):
    whole = build(model="t5.1.1", num_hidden_layers=1, with_lm="linear")
    whole.model.save_weights(tmp_path / "m.weights.h5")
    heads = {"with_lm": "linear"} if half == "decoder" else {}
    part = build(tmp_path / "m.weights.h5", model=f"t5.1.1_{half}", num_hidden_layers=1, **heads)
    assert_same(part, whole, among=())
