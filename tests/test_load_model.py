"""What comes out of a `.keras` file can do all that it could before it was saved."""

import copy
import importlib
import json
import resource
import subprocess
import sys
import tarfile
import zipfile

import keras
import numpy as np
import pytest
from goldens import make_version_1 as version_1
from keras.src import backend
from keras.src.saving.serialization_lib import SafeModeScope
from running import operation_by_operation, outputs_of

import bert4keras_lite
from bert4keras_lite import (
    build_transformer_model,
    claims,
    generate,
    layers,
    load_model,
    loading,
    losses,
    open_checkpoint,
)
from bert4keras_lite.checkpoints import CheckpointError
from bert4keras_lite.loading import read_keras_model, transformer_of
from bert4keras_lite.models import Transformer
from bert4keras_lite.optimizers import AdamW

SIZES = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 6,
    "max_position": 8,
}
IDS = [np.array([[2, 5, 6, 3], [2, 8, 3, 0]]), np.zeros((2, 4), int)]


def build(model="bert", **options):
    transformer = build_transformer_model(
        model=model, return_keras_model=False, **(SIZES | options)
    )
    random = np.random.RandomState(0)
    for weight in transformer.model.weights:
        weight.assign(random.standard_normal(weight.shape))
    return transformer


def assert_same_checkpoint(first, second, directory, format="tf"):
    checkpoints = []
    for name, transformer in (("first", first), ("second", second)):
        transformer.save_checkpoint(directory / format / name, format)
        checkpoints.append(open_checkpoint(directory / format / name))
    first, second = checkpoints
    assert list(first) == list(second)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], name)


@pytest.mark.parametrize(
    ("name", "options"),
    [("bert", {"application": "lm"}), ("t5.1.1", {"with_lm": "linear"})],
)
def test_generates_and_saves_checkpoints(name, options, tmp_path, monkeypatch):
    operation_by_operation(monkeypatch)
    transformer = build(name, **options)
    transformer.model.save(tmp_path / "m.keras")
    expected = generate(transformer.model, [2, 5], 4)[0].ids.tolist()
    model = load_model(tmp_path / "m.keras")
    assert model.transformer.model is model
    assert model.transformer.config == transformer.config
    assert generate(model, [2, 5], 4)[0].ids.tolist() == expected
    by_keras = keras.saving.load_model(tmp_path / "m.keras")
    assert generate(by_keras, [2, 5], 4)[0].ids.tolist() == expected
    assert_same_checkpoint(transformer, model.transformer, tmp_path)
    model.save(tmp_path / "twice.keras")
    again = load_model(tmp_path / "twice.keras", return_keras_model=False)
    assert_same_checkpoint(transformer, again, tmp_path, "hf")


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gte", {"without_bias": ("ffn/gate", "attention/key")}),
        ("eurobert", {"num_key_value_heads": 1}),
        ("modernbert", {}),
        ("deberta_v2", {"convolution": 3, "relative_buckets": 4, "relative_max_distance": 8}),
    ],
)
def test_what_only_some_families_have(name, options, tmp_path):
    transformer = build(name, **options)
    transformer.model.save(tmp_path / "m.keras")
    assert load_model(tmp_path / "m.keras").transformer.config == transformer.config


def test_a_model_with_a_transformer_within(tmp_path):
    bert = build(with_mlm="linear", with_pool=True)
    logits = keras.layers.Dense(3, name="classifier")(bert.hidden_states[-1][:, 0])
    model = keras.Model(bert.inputs, logits)
    model.compile(AdamW(0.01), "mse")
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(3)
    model.save(tmp_path / "tuned.keras")
    again = load_model(tmp_path / "tuned.keras")
    np.testing.assert_array_equal(outputs_of(again, IDS)[0], outputs_of(model, IDS)[0])
    assert type(again.optimizer) is AdamW
    assert int(keras.ops.convert_to_numpy(again.optimizer.iterations)) == 3
    body = again.transformer
    assert not body.config.with_lm  # no heads were in the model
    assert not body.config.with_pool
    assert body.variables.keys() == build().variables.keys()
    np.testing.assert_array_equal(
        outputs_of(body.model, IDS)[0],
        outputs_of(keras.Model(bert.inputs, bert.hidden_states[-1]), IDS)[0],
    )
    # what is built on it has the inputs and the layers of the model
    longer = keras.Model(again.inputs, [again.output, body.hidden_states[0]])
    assert len(outputs_of(longer, IDS)) == 2
    body.save_checkpoint(tmp_path / "body", "hf")


@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_half_of_an_encoder_decoder(half, tmp_path):
    whole = build("t5.1.1", num_hidden_layers=2, num_decoder_layers=1)
    model = getattr(whole, half)
    model.save(tmp_path / "half.keras")
    again = load_model(tmp_path / "half.keras", return_keras_model=False)
    assert again.config.stacks == half
    assert again.variables.keys() < whole.variables.keys()
    memory = np.random.RandomState(0).standard_normal((2, 3, 8)).astype("float32")
    inputs = [IDS[0]] if half == "encoder" else [memory, IDS[0]]
    np.testing.assert_array_equal(outputs_of(again.model, inputs), outputs_of(model, inputs))
    again.save_checkpoint(tmp_path / half)


def test_the_first_blocks_of_a_model(tmp_path):
    whole = build(num_hidden_layers=3, with_pool=True)
    model = keras.Model(whole.inputs, whole.hidden_states[1])
    model.save(tmp_path / "two.keras")
    again = load_model(tmp_path / "two.keras", return_keras_model=False)
    assert again.config.num_hidden_layers == 2
    again.save_checkpoint(tmp_path / "two", "hf")
    loaded = build_transformer_model(tmp_path / "two")
    np.testing.assert_array_equal(outputs_of(loaded, IDS)[0], outputs_of(model, IDS)[0])


def test_what_is_less_than_a_transformer(tmp_path):
    whole = build("gpt2")
    keras.Model(whole.inputs, whole.hidden_states[0]).save(tmp_path / "m.keras")
    advice = "a part of a Transformer, without final_norm. Load it with keras.saving.load_model"
    with pytest.raises(ValueError, match=advice):
        load_model(tmp_path / "m.keras")


def test_a_prefix_that_there_is_not(tmp_path):
    build(prefix="first_").model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match=r"m\.keras: prefix='zz': expected one of 'first_'"):
        load_model(tmp_path / "m.keras", prefix="zz")


def test_a_condition_comes_back(tmp_path, monkeypatch):
    operation_by_operation(monkeypatch)
    values = keras.Input((3,), name="values")
    condition = keras.layers.Dense(4)(values)
    transformer = build(
        **{"application": "lm", "layer_norm_cond": condition, "additional_input_layers": values}
    )
    transformer.model.save(tmp_path / "m.keras")
    more = {"more_inputs": [np.ones((1, 3), "float32")]}
    again = load_model(tmp_path / "m.keras", return_keras_model=False)
    found, expected = (generate(t, [2, 5], 3, **more)[0] for t in (again, transformer))
    assert found.ids.tolist() == expected.ids.tolist()
    assert found.score == pytest.approx(expected.score, rel=1e-5)


def test_a_condition_that_an_old_file_does_not_tell_of(tmp_path):
    values = keras.Input((3,), name="values")
    transformer = build(layer_norm_cond=values, additional_input_layers=values)
    transformer.token_embedding.transformer = None  # as in version 0.1.0
    transformer.save_checkpoint(tmp_path, "keras")
    with pytest.raises(ValueError, match=r"model\.keras: has conditional normalization"):
        load_model(tmp_path)


def test_several_in_one_model(tmp_path):
    one, two = build(prefix="one_"), build(prefix="two_", hidden_size=6)
    joined = keras.layers.Concatenate()([one.model.output, two.model.output])
    model = keras.Model([*one.inputs, *two.inputs], joined)
    model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match=r"several transformers; pass prefix=, .*'one_', 'two_'"):
        load_model(tmp_path / "m.keras")
    for transformer in (one, two):
        again = load_model(tmp_path / "m.keras", prefix=transformer.prefix).transformer
        assert_same_checkpoint(again, transformer, tmp_path)
    nested = keras.Sequential([keras.Input((None,), dtype="int32"), build("t5.1.1_encoder").model])
    nested.save(tmp_path / "nested.keras")
    assert load_model(tmp_path / "nested.keras").transformer.config.stacks == "encoder"


def test_values_that_json_has_no_word_for(tmp_path):
    pooled = build(with_pool=keras.activations.relu, norm_epsilon=np.float32(0.5)).model
    pooled.save(tmp_path / "m.keras")
    config = load_model(tmp_path / "m.keras").transformer.config
    assert (config.with_pool, config.norm_epsilon) == ("relu", 0.5)


class Scaled(Transformer):
    def output_heads(self, x):
        return [x * 2.0]


def test_subclass(tmp_path):
    transformer = build(Scaled)
    transformer.model.save(tmp_path / "m.keras")
    assert type(load_model(tmp_path / "m.keras").transformer) is Scaled
    Scaled.__name__ = "Renamed"  # as if it had not been imported
    with pytest.raises(
        ValueError, match=r"m\.keras: .* of class 'Scaled'; expected one .* Import that class first"
    ):
        load_model(tmp_path / "m.keras")
    Scaled.__name__ = "Scaled"


@pytest.mark.parametrize("family", ["bert", "gau_alpha"])
def test_file_of_version_1(family, tmp_path):
    """Its Transformer is told by the config beside it."""
    with tarfile.open(version_1.FOLDER / "tensorflow.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    transformer = load_model(tmp_path / family, compile=False, return_keras_model=False)
    transformer.save_checkpoint(tmp_path / "tf")
    assert len(open_checkpoint(tmp_path / "tf")) == len(transformer.model.weights)
    config = tmp_path / family / "config.json"
    values = json.loads(config.read_text())
    for key in ("vocab_size", "intermediate_size"):
        config.write_text(json.dumps(values | {key: values[key] + 2}))
        with pytest.raises(
            ValueError, match=r"model\.keras: .*config\.json has .*; expected the same"
        ):
            load_model(tmp_path / family, compile=False)
    (tmp_path / family / "config.json").rename(tmp_path / "config.json")
    with pytest.raises(ValueError, match=r"model\.keras: expected a model of"):
        load_model(tmp_path / family, compile=False)


def test_files_that_are_not_for_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.keras: no such file"):
        load_model(tmp_path / "no.keras")
    build().model.save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(ValueError, match=r"m\.weights\.h5: expected a \.keras file"):
        load_model(tmp_path / "m.weights.h5")
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    model.save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match=r"other\.keras: expected a model of build_transformer_m"):
        load_model(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="expected a model of build_transformer_model"):
        transformer_of(model)


@pytest.mark.filterwarnings("ignore:.*lambda")
def test_no_pickled_code_is_run(tmp_path, monkeypatch):
    """Neither of a lambda layer, nor where Keras was told that it may."""
    bert = build()
    outputs = keras.layers.Lambda(lambda x: x)(bert.model.output)
    keras.Model(bert.inputs, outputs).save(tmp_path / "m.keras")
    monkeypatch.setattr("marshal.loads", lambda *_: pytest.fail("code was read"))
    with SafeModeScope(False), pytest.raises(ValueError, match=r"m\.keras: contains code"):
        load_model(tmp_path / "m.keras")


# files of strangers


def rewritten(path, change, compression=zipfile.ZIP_STORED):
    """The file `path`, whose config `change` has changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content, compression if name == "config.json" else None)
    return path


def plain(path, layer=None):
    """A model of few layers, in a file."""
    inputs = keras.Input((4, 3), name="in")
    outputs = keras.layers.Dense(2, name="dense")(layer(inputs) if layer else inputs)
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse", metrics=["mae"])
    model.save(path)
    return path


class Stream:
    """A file that is written from the beginning to the end, as to a pipe."""

    def __init__(self, path):
        self.content, self.path = b"", path

    def write(self, data):
        self.content += data
        return len(data)

    def flush(self):
        self.path.write_bytes(self.content)


@pytest.mark.parametrize("how", ["another order", "a stream", "with directories"])
def test_archives_that_others_packed(how, tmp_path):
    with zipfile.ZipFile(plain(tmp_path / "m.keras")) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    if how == "another order":
        members.reverse()
    if how == "with directories":
        members = [("assets/", b""), ("__MACOSX/._config.json", b"x"), *members]
    path = tmp_path / "other.keras"
    with zipfile.ZipFile(Stream(path) if how == "a stream" else path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    assert len(read_keras_model(path).layers) == 2


@pytest.mark.parametrize(
    "compression, folder, told",
    [
        (
            zipfile.ZIP_DEFLATED,
            "",
            "its member 'model.weights.h5' is compressed; expected one that",
        ),
        (zipfile.ZIP_STORED, "m/", "has no member 'config.json'; expected one, at the top of the"),
    ],
)
def test_archives_that_others_packed_otherwise(compression, folder, told, tmp_path):
    with zipfile.ZipFile(plain(tmp_path / "m.keras")) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    path = tmp_path / "other.keras"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(folder + name, content)
    with pytest.raises(CheckpointError, match=rf"other\.keras: {told}"):
        read_keras_model(path)


def layer_of(config, name):
    return next(layer for layer in config["config"]["layers"] if layer["config"]["name"] == name)


def of_keras(name, module="keras.layers", **config):
    item = {"module": module, "class_name": name, "config": config, "registered_name": None}
    shape = {"build_config": {"input_shape": [None, 4, 3]}}
    return item | (shape if module == "keras.layers" else {})


def replaced(config, item):
    """The layer `dense` becomes another."""
    layer = layer_of(config, "dense")
    item["config"] = {"name": "dense", **item["config"]}
    layer.update(item)
    for key in layer.keys() - item.keys() - {"name", "inbound_nodes"}:
        del layer[key]


def within(name, item):
    return lambda config: replaced(config, of_keras(name, layer=item))


def activated(item):
    return lambda config: layer_of(config, "dense")["config"].update(activation=item)


def named(item):
    return lambda config: replaced(config, item)


LOOKUP = {"vocabulary": "/etc/passwd"}
FUNCTION = {"class_name": "function", "registered_name": "load_model", "config": "load_model"}
NAMED = {
    "pickle": (named(of_keras("TorchModuleWrapper", module="gASVAA==")), "TorchModuleWrapper"),
    "file of words": (named(of_keras("StringLookup", **LOOKUP)), "StringLookup"),
    "file of numbers": (named(of_keras("IntegerLookup", **LOOKUP)), "IntegerLookup"),
    "file of texts": (named(of_keras("TextVectorization", **LOOKUP)), "TextVectorization"),
    "saved model": (named(of_keras("TFSMLayer", filepath="/tmp/x")), "TFSMLayer"),
    "inner layer": (within("TimeDistributed", of_keras("StringLookup", **LOOKUP)), "StringLookup"),
    "module of another": (
        named(of_keras("StringLookup", "keras.losses", **LOOKUP)),
        "StringLookup",
    ),
    "private module": (
        named(of_keras("StringLookup", "keras.src.layers.preprocessing.string_lookup", **LOOKUP)),
        "StringLookup",
    ),
    "no module": (
        named({"class_name": "StringLookup", "config": LOOKUP.copy(), "name": "dense"}),
        "StringLookup",
    ),
    "no name": (named(of_keras(["StringLookup"])), r"\['StringLookup"),
    "function": (activated(FUNCTION | {"module": "keras.saving"}), "load_model"),
    "function of the system": (
        activated(FUNCTION | {"module": "os", "config": "system"}),
        "system",
    ),
    "no function": (activated(FUNCTION | {"module": "keras.losses", "config": ["x"]}), r"\['x'\]"),
    "calls a function": (named(of_keras("Map", "keras.src.ops.core")), "Map"),
    "patterns": (
        lambda config: config["compile_config"].update(
            optimizer=of_keras("MultiOptimizer", "keras.optimizers", learning_rate=0.1)
        ),
        "MultiOptimizer",
    ),
    "metric": (
        lambda config: config["compile_config"].update(
            metrics=[of_keras("get_file", "keras.utils", origin="http://localhost")]
        ),
        "get_file",
    ),
    "precision": (
        lambda config: layer_of(config, "dense")["config"].update(
            dtype=of_keras("DTypePolicyMap", "keras.dtype_policies")
        ),
        "DTypePolicyMap",
    ),
    "shape": (
        lambda config: layer_of(config, "dense").update(
            build_config={"input_shape": of_keras("StringLookup", **LOOKUP)}
        ),
        "StringLookup",
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_only_what_computes_may_be_named(name, tmp_path):
    """Also where Keras was told that code in files may run."""
    change, told = NAMED[name]
    path = rewritten(plain(tmp_path / "m.keras"), change)
    with (
        SafeModeScope(False),
        pytest.raises(ValueError, match=rf"m\.keras: names '?{told}") as error,
    ):
        read_keras_model(path)
    assert "pass custom_objects={name: class}" in str(error.value)


def test_what_may_be_named_is_there():
    for module, names in claims.NAMES.items():
        assert not [name for name in names if not hasattr(importlib.import_module(module), name)]
    for module in claims.MODULES | claims.OPERATIONS:
        importlib.import_module(module)


class Doubled(keras.layers.Layer):
    """With a variable that cannot be made without memory."""

    def __init__(self, **options):
        super().__init__(**options)
        self.factor = keras.Variable(np.full((), 2.0, "float32"), trainable=False)

    def call(self, x):
        return x * self.factor


def test_classes_of_the_user(tmp_path):
    plain(tmp_path / "m.keras", Doubled())
    with pytest.raises(ValueError, match=r"m\.keras: names 'Doubled' of 'test_load_model'"):
        read_keras_model(tmp_path / "m.keras")
    model = read_keras_model(tmp_path / "m.keras", custom_objects={"Doubled": Doubled})
    assert [type(layer) for layer in model.layers[1:]] == [Doubled, keras.layers.Dense]
    plain(tmp_path / "m.keras", keras.layers.RandomContrast(0.1))
    with pytest.raises(ValueError, match=r"names 'RandomContrast' of 'keras.layers'"):
        read_keras_model(tmp_path / "m.keras")
    allowed = {"RandomContrast": keras.layers.RandomContrast}
    model = read_keras_model(tmp_path / "m.keras", custom_objects=allowed)
    assert type(model.layers[1]) is keras.layers.RandomContrast


def test_layers_of_keras(tmp_path):
    inputs = keras.Input((4, 3))
    x = keras.layers.Bidirectional(keras.layers.LSTM(2, return_sequences=True))(inputs)
    x = keras.layers.BatchNormalization()(keras.layers.MultiHeadAttention(2, 3)(x, x))
    x = keras.layers.TimeDistributed(keras.layers.Dense(3, "gelu", kernel_regularizer="l2"))(x)
    x = keras.layers.SpectralNormalization(keras.layers.Dense(3, kernel_constraint="non_neg"))(x)
    x = keras.layers.RNN(keras.layers.GRUCell(2))(x)
    x = keras.Sequential([keras.layers.Dropout(0.1), keras.layers.Dense(2)])(x)
    model = keras.Model(inputs, keras.ops.softmax(x[:, :1] * 2.0 + keras.ops.mean(x)))
    rate = keras.optimizers.schedules.CosineDecay(0.1, 10)
    model.compile(keras.optimizers.Adam(rate), keras.losses.Huber(), metrics=[keras.metrics.AUC()])
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "m.keras")
    again = read_keras_model(tmp_path / "m.keras")
    ones = np.ones((2, 4, 3), "float32")
    np.testing.assert_array_equal(outputs_of(again, [ones])[0], outputs_of(model, [ones])[0])


def test_columns_of_a_table(tmp_path):
    inputs = [keras.Input((1,), dtype="int32"), keras.Input((1,))]
    encoded = keras.layers.CategoryEncoding(4, "one_hot")(inputs[0])
    binned = keras.layers.Discretization([0.0, 1.0], output_mode="one_hot")(inputs[1])
    model = keras.Model(inputs, keras.layers.Concatenate()([encoded, binned]))
    model.save(tmp_path / "m.keras")
    rows = [np.array([[3], [0]]), np.array([[0.5], [2.0]])]
    again = read_keras_model(tmp_path / "m.keras")
    expected = [[0, 0, 0, 1, 0, 1, 0], [1, 0, 0, 0, 0, 0, 1]]
    np.testing.assert_array_equal(outputs_of(again, rows)[0], expected)


def test_muon_leaves_out_layers_by_words(tmp_path):
    model = keras.models.load_model(plain(tmp_path / "m.keras"))
    words = ["dense/bias", "out-put_1.x"]
    model.compile(keras.optimizers.Muon(0.1, exclude_layers=words), "mse")
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "m.keras")
    assert read_keras_model(tmp_path / "m.keras").optimizer.exclude_layers == words
    for words in (["(a+)+b"], [1], "dense"):

        def change(config, words=words):
            config["compile_config"]["optimizer"]["config"]["exclude_layers"] = words

        with pytest.raises(ValueError, match=r"m\.keras: exclude_layers of Muon is .*; expected a"):
            read_keras_model(rewritten(tmp_path / "m.keras", change))


HUGE = 30_000_000
HUGE_ARRAY = {"class_name": "__numpy__", "config": {"value": HUGE, "dtype": "int64"}}


def side_by_side(count, layer=None):
    """A change of a config: so many layers that all read the input."""

    def change(config):
        dense = layer_of(config, "dense")
        for i in range(count):
            added = copy.deepcopy(dense) | copy.deepcopy(layer or of_keras("Identity"))
            added["name"] = f"more_{i}"
            added["config"] = {**added["config"], "name": f"more_{i}"}
            config["config"]["layers"].append(added)

    return change


def in_each_other(name, count, item):
    for i in range(count):
        item["config"]["name"] = f"inner_{i}"
        item = of_keras(name, layer=item)
    return item


def in_a_row(count):
    layers = [of_keras("Identity") for _ in range(count)]
    for i, layer in enumerate(layers):
        layer["config"]["name"] = f"inner_{i}"
    return of_keras("Sequential", "keras", layers=layers)


NUMPY = {"class_name": "__numpy__", "config": {"value": ["a"] * 1000, "dtype": "U500000"}}
OBJECTS = {
    "array of texts": (
        named(of_keras("Rescaling", scale=NUMPY)),
        "holds an array of dtype 'U500000'; expected one of numbers",
    ),
    "tensor of texts": (
        named(of_keras("Rescaling", scale=NUMPY | {"class_name": "__tensor__"})),
        "holds an array of dtype 'U500000'; expected one of numbers",
    ),
    "array of nothing": (
        named(of_keras("Rescaling", scale={"class_name": "__numpy__", "config": [1]})),
        r"holds an array of dtype \[1\]; expected one of numbers",
    ),
    "normalization": (
        lambda config: (
            layer_of(config, "in")["config"].update(batch_shape=[None, 4, 1 << 26]),
            replaced(
                config,
                of_keras("Normalization", axis=-1, mean=0.0, variance=1.0)
                | {"build_config": {"input_shape": [None, 4, 1 << 26]}},
            ),
        ),
        r"its config claims \d{9} bytes of weights",
    ),
    "layers": (side_by_side(3000), "its config claims layers and other objects that take"),
    "layers in a row": (named(in_a_row(300)), "its config claims layers and other objects"),
    "copies": (
        named(in_each_other("Bidirectional", 30, of_keras("LSTM", units=1, return_sequences=True))),
        "its config claims layers and other objects that take",
    ),
    "variables": (
        side_by_side(250, of_keras("BatchNormalization")),
        r"its config claims \d{3,} weights or more",
    ),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_that_a_file_does_not_explain(name, tmp_path, monkeypatch):
    change, told = OBJECTS[name]
    if name == "variables":
        monkeypatch.setattr(claims, "FREE_OBJECTS", 10 << 20)
        monkeypatch.setattr(claims, "TIMES_OBJECTS", 0)
    path = rewritten(plain(tmp_path / "m.keras"), change, zipfile.ZIP_DEFLATED)
    before = peak()
    with pytest.raises(ValueError, match=rf"m\.keras: {told}"):
        read_keras_model(path)
    assert peak() - before < (64 << 20) + 8 * path.stat().st_size


def test_arrays_of_numbers_are_read(tmp_path):
    scale = np.array([1.0, 2.0, 3.0], "float32")
    mean, variance = np.zeros(3, "float32"), np.ones(3, "float32")
    layers = [keras.layers.Rescaling(scale), keras.layers.Normalization(-1, mean, variance)]
    for layer in layers:
        plain(tmp_path / "m.keras", layer)
        again = read_keras_model(tmp_path / "m.keras").layers[1]
        ones = np.ones((1, 4, 3), "float32")
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (again(ones), layer(ones))))


CLAIMS = {
    "dense": lambda config: layer_of(config, "dense")["config"].update(units=HUGE),
    "embedding": named(of_keras("Embedding", input_dim=HUGE, output_dim=8)),
    "metric": lambda config: config["compile_config"].update(
        metrics=[of_keras("MeanIoU", "keras.metrics", num_classes=10_000)]
    ),
    "thresholds": lambda config: config["compile_config"].update(
        metrics=[of_keras("AUC", "keras.metrics", num_thresholds=HUGE)]
    ),
    "thresholds in an array": lambda config: config["compile_config"].update(
        metrics=[of_keras("AUC", "keras.metrics", num_thresholds=HUGE_ARRAY)]
    ),
}


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@pytest.mark.parametrize("name", CLAIMS)
def test_weights_that_a_file_does_not_have_take_no_memory(name, tmp_path):
    path = rewritten(plain(tmp_path / "m.keras"), CLAIMS[name])
    before = peak()
    with pytest.raises(ValueError, match=r"m\.keras: (its config claims|num_thr.*) .*\d{8,}"):
        read_keras_model(path)
    assert peak() - before < (64 << 20) + 8 * path.stat().st_size
    assert not keras.src.backend.common.global_state.get_global_attribute("uninitialized_variables")


def test_inputs_that_are_computed_with_take_no_memory(tmp_path):
    """PyTorch tells shapes by values where a layer fails without: 83 times 12000 times 1000."""

    def change(config):
        layer_of(config, "in")["config"]["batch_shape"] = [None, 12_000, 1000]
        layer_of(config, "dense")["build_config"] = {"input_shape": [None, 12_000, 3]}

    path = rewritten(plain(tmp_path / "m.keras"), change)
    before = peak()
    with pytest.raises(ValueError, match=r"m\.keras: Keras cannot load it"):
        read_keras_model(path)
    assert peak() - before < (64 << 20) + 8 * path.stat().st_size


def test_what_a_table_of_tokens_tells_takes_no_memory(tmp_path):
    """Layers that the model lacks were built, as large as it says."""
    whole = build("gpt2")
    keras.Model(whole.inputs, whole.hidden_states[0]).save(tmp_path / "m.keras")

    def change(config):
        told = layer_of(config, "token_embedding")["config"]
        table = json.loads(told["transformer"])
        table["layers"] = ["token_embedding", *table["inputs"]]
        table["config"] |= {"intermediate_size": HUGE, "num_hidden_layers": 1}
        told["transformer"] = json.dumps(table)

    path = rewritten(tmp_path / "m.keras", change)
    before = peak()
    with pytest.raises(ValueError, match=r"m\.keras: has a part of a Transformer, without"):
        load_model(path)
    assert peak() - before < (64 << 20) + 8 * path.stat().st_size


@pytest.mark.parametrize(
    "family, blocks, added, told",
    [
        ("gpt2", 2, "block_1999", "has a part of a Transformer, without block_1"),
        ("gpt2", 128, None, "has a part of a Transformer, without block_0"),
        ("albert", 10_000, None, "num_hidden_layers is 10000; expected an integer from 1 to 128"),
    ],
)
def test_blocks_that_a_model_does_not_have_are_not_built(family, blocks, added, told, tmp_path):
    whole = build(family)
    if added:
        outputs = keras.layers.Identity(name=added)(whole.model.output)
    else:
        outputs = whole.model.get_layer("position_embedding").output
    keras.Model(whole.inputs, outputs).save(tmp_path / "m.keras")

    def change(config):
        tokens = layer_of(config, "token_embedding")["config"]
        table = json.loads(tokens["transformer"])
        table["layers"] += [added] * bool(added)
        table["config"]["num_hidden_layers"] = blocks
        tokens["transformer"] = json.dumps(table)

    with pytest.raises(ValueError, match=rf"m\.keras: {told}"):
        load_model(rewritten(tmp_path / "m.keras", change))


TABLES = {
    "bias": ("RelativeBias", {"num_heads": 1}, "max_distance"),
    "vectors": ("RelativeVectors", {"size": 2}, "max_distance"),
    "angles": ("RotaryAngles", {}, "size"),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_a_layer_computes_are_counted(name, tmp_path):
    """A layer within a loss is run to tell a shape."""
    kind, options, large = TABLES[name]
    layer = getattr(layers, kind)(**options, **{large: 16})
    positions = keras.Input((4,), dtype="int32", name="in")
    outputs = layer(positions) if name == "angles" else layer(positions, positions)
    function = keras.Model(positions, outputs)
    path = tmp_path / "m.keras"
    model = keras.Model(positions, layers.Loss(function=function, name="loss")(positions))
    model.save(path)
    read_keras_model(path)
    for size in (HUGE, HUGE_ARRAY):

        def change(config, size=size):
            inner = layer_of(config, "loss")["config"]["function"]
            layer_of(inner, layer.name)["config"][large] = size

        model.save(path)
        before = peak()
        with pytest.raises(ValueError, match=r"m\.keras: its config claims layers and other obj"):
            read_keras_model(rewritten(path, change))
        assert peak() - before < (64 << 20) + 8 * path.stat().st_size


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="others tell shapes by tracing")
def test_values_that_shapes_are_told_by_take_little_memory():
    def copies(count, times=1):
        def call(x):
            keras.ops.convert_to_numpy(x)  # which needs values
            copied = [keras.ops.tile(x, (1, count))[:, :1] for _ in range(times)]
            return keras.ops.concatenate(copied, axis=1)

        return call

    x = keras.KerasTensor((None, 4))
    with claims.unallocated():
        assert backend.compute_output_spec(copies(10_000), x).shape == (None, 1)
        before = peak()
        for call in (copies(10**8), copies(20_000, times=50)):  # of which views are kept
            with pytest.raises(MemoryError, match=r"tensors of \d{8,} bytes to infer a shape"):
                backend.compute_output_spec(call, x)
        assert peak() - before < 64 << 20


def of_dense(**values):
    return lambda config: layer_of(config, "dense")["config"].update(values)


BROKEN = {
    "argument": of_dense(**{"x" * 1000: 1}),
    "units": of_dense(units="many"),
    "activation": of_dense(activation="a" * 1000),
    "no layers": lambda config: config["config"].pop("layers"),
    "list of layers": lambda config: config["config"].update(layers=1),
    "no name": lambda config: config["config"]["layers"][0].pop("name"),
    "no nodes": lambda config: config["config"]["layers"][1].pop("inbound_nodes"),
    "another output": lambda config: config["config"].update(output_layers=[["none", 0, 0]]),
    "other weights": of_dense(units=5),
    "optimizer": lambda config: config["compile_config"].update(optimizer="none"),
    "compiled": lambda config: config.update(compile_config={"x": 1}),
    "nothing": lambda config: config.clear(),
    "module": lambda config: config.update(class_name="DTypePolicy", module="keras", config={}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_errors_of_keras_are_one_of_ours(name, tmp_path):
    path = rewritten(plain(tmp_path / "m.keras"), BROKEN[name])
    with pytest.raises(
        ValueError, match=r"m\.keras: (Keras cannot load it|expected a model)"
    ) as error:
        load_model(path)
    assert len(str(error.value)) - len(str(path)) < 400


@pytest.mark.parametrize(
    "told", ["[" * 200, "{}", "[]", '{"config": {}, "prefix": 1, "layers": 2}']
)
def test_a_table_of_tokens_that_tells_nonsense(told, tmp_path):
    build().model.save(tmp_path / "m.keras")

    def change(config):
        layer_of(config, "token_embedding")["config"]["transformer"] = told

    with pytest.raises(ValueError, match=r"m\.keras: ") as error:
        load_model(rewritten(tmp_path / "m.keras", change))
    assert len(str(error.value)) - len(str(tmp_path)) < 400


@pytest.mark.parametrize(
    ("family", "values", "told"),
    [
        ("bert", {"hidden_size": 16}, "output_dim=16 for the layer 'token_embedding', which has 8"),
        ("bert", {"vocab_size": 70}, "input_dim=70 for the layer 'token_embedding', which has 20"),
        ("bert", {"num_attention_heads": 4}, "num_heads=4 for the layer 'block_0', which has 2"),
        (
            "bert",
            {"hidden_act": "relu"},
            "activation='relu' for the layer 'block_0', which has 'gelu'",
        ),
        (
            "bert",
            {"norm_epsilon": 0.1},
            "epsilon=0.1 for the layer 'embedding_norm', which has 1e-12",
        ),
        (
            "bert",
            {"pad_token_id": 3},
            "pad_token_id=3 for the layer 'token_embedding', which has 0",
        ),
        ("gpt2", {"attend": "all"}, "attend='all' for the layer 'attention_bias', which has 'lm'"),
        ("roformer", {"rotary_base": 5.0}, "base=5.0 for the layer 'rotary', which has 10000.0"),
    ],
)
def test_a_table_of_tokens_that_tells_of_another_model(family, values, told, tmp_path):
    build(family).model.save(tmp_path / "m.keras")

    def change(config):
        tokens = layer_of(config, "token_embedding")["config"]
        table = json.loads(tokens["transformer"])
        table["config"] |= values
        table["beside"] = "config.json"  # means nothing
        tokens["transformer"] = json.dumps(table)

    with pytest.raises(ValueError, match=rf"m\.keras: its token table has {told}; expected"):
        load_model(rewritten(tmp_path / "m.keras", change))


@pytest.mark.parametrize(
    ("family", "values", "layer"),
    [
        ("bert", {"embedding_norm": False}, "embedding_norm"),
        ("bert", {"lm_transform": False}, "lm_dense"),
        ("bert", {"lm_bias": False}, "lm_bias"),
        ("gpt2", {"final_norm": False}, "final_norm"),
    ],
)
def test_a_table_of_tokens_that_leaves_layers_out(family, values, layer, tmp_path):
    build(family, with_lm="linear").model.save(tmp_path / "m.keras")

    def change(config):
        tokens = layer_of(config, "token_embedding")["config"]
        table = json.loads(tokens["transformer"])
        table["config"] |= values
        tokens["transformer"] = json.dumps(table)

    with pytest.raises(ValueError, match=rf"describes a model without .*{layer}"):
        load_model(rewritten(tmp_path / "m.keras", change))


@pytest.mark.parametrize(
    ("values", "options"),
    [({"class": "C" * 100_000}, {}), ({"prefix": "p" * 100_000}, {"prefix": "q" * 100_000})],
)
def test_long_words_of_a_table_of_tokens_are_cut(values, options, tmp_path):
    build().model.save(tmp_path / "m.keras")

    def change(config):
        tokens = layer_of(config, "token_embedding")["config"]
        tokens["transformer"] = json.dumps(json.loads(tokens["transformer"]) | values)

    with pytest.raises(ValueError, match=r"m\.keras: ") as error:
        load_model(rewritten(tmp_path / "m.keras", change), **options)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("operation", ["unstack", "split"])
def test_operations_of_many_outputs_are_counted(operation, tmp_path):
    x = keras.Input((8,), name="wide")
    function = getattr(keras.ops, operation)
    first, *_ = function(x, 8, axis=1)
    keras.Model(x, first).save(tmp_path / "m.keras")

    def change(config):
        layer_of(config, "wide")["config"]["batch_shape"] = [None, 300_000]
        (layer,) = (layer for layer in config["config"]["layers"] if layer["name"] != "wide")
        told = layer["config"]
        (key,) = (k for k in ("num", "indices_or_sections") if k in told)
        told[key] = 300_000

    with pytest.raises(ValueError, match=r"m\.keras: its config claims layers and other objects"):
        load_model(rewritten(tmp_path / "m.keras", change))


@pytest.mark.parametrize("name", ["silu", "gelu", "leaky_relu"])
def test_activations_given_as_functions(name, tmp_path):
    rng = np.random.default_rng(0)
    function = getattr(keras.activations, name)
    condition = keras.Input((3,), name="condition")
    options = {"layer_norm_cond": condition, "additional_input_layers": condition}
    bert = build(hidden_act=function, layer_norm_cond_hidden_act=function, **options)
    bert.model.save(tmp_path / "m.keras")
    ids = rng.integers(1, 20, (2, 5))
    inputs = [ids, 0 * ids, rng.normal(size=(2, 3)).astype("float32")]
    loaded = load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(
        loaded.predict_on_batch(inputs), bert.model.predict_on_batch(inputs)
    )
    if name == "leaky_relu":
        with pytest.raises(ValueError, match="a config has no name for this function"):
            bert.save_checkpoint(tmp_path / "hf", "hf")
    else:
        plain = build(hidden_act=function)
        plain.save_checkpoint(tmp_path / "tf", "tf")
        again = build_transformer_model(tmp_path / "tf")
        np.testing.assert_array_equal(
            again.predict_on_batch(inputs[:2]), plain.model.predict_on_batch(inputs[:2])
        )


def test_what_is_changed_after_building_is_believed(tmp_path):
    model = build(dropout_rate=0.1).model
    for layer in model._flatten_layers():
        for name in ("rate", "dropout"):
            if isinstance(getattr(layer, name, None), float):
                setattr(layer, name, 0.3)
    model.save(tmp_path / "m.keras")
    load_model(tmp_path / "m.keras")


def test_a_name_that_means_another_format(tmp_path):
    """An archive behind an HDF5 file: Keras reads that by its name, in this process."""
    content = plain(tmp_path / "m.keras").read_bytes()
    for name in ("m.h5", "m.hdf5", "m.zip"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}: expected a \.keras file"):
            read_keras_model(tmp_path / name)


def test_a_file_that_changes_between_check_and_reading(tmp_path, monkeypatch):
    path = plain(tmp_path / "m.keras")
    other = rewritten(plain(tmp_path / "other.keras"), NAMED["file of words"][0])

    def change(*arguments, check=loading.check_memory, **options):
        check(*arguments, **options)
        other.replace(path)

    monkeypatch.setattr(loading, "check_memory", change)
    assert len(read_keras_model(path).layers) == 2  # of the file that was checked
    monkeypatch.undo()

    def mapped(path, make=loading.MappedFile):
        rewritten(plain(other), CLAIMS["dense"]).replace(path)
        return make(path)

    plain(path)
    monkeypatch.setattr(loading, "MappedFile", mapped)
    with pytest.raises(ValueError, match=r"m\.keras: was changed while it was read"):
        read_keras_model(path)


NEW_PROCESS = """
import sys
import bert4keras_lite
model = bert4keras_lite.load_model(sys.argv[1])
print(type(model.optimizer).__name__, model.loss.__name__, model.transformer.config.family)
"""


@pytest.mark.long
def test_a_new_process_needs_no_other_import(tmp_path):
    model = build().model
    model.compile(AdamW(0.01), losses.multilabel_categorical_crossentropy)
    model.save(tmp_path / "m.keras")
    done = subprocess.run(
        [sys.executable, "-c", NEW_PROCESS, tmp_path / "m.keras"], capture_output=True, text=True
    )
    assert done.stdout.split() == ["AdamW", "multilabel_categorical_crossentropy", "bert"], (
        done.stderr
    )


@pytest.mark.once
@pytest.mark.parametrize(
    ("installed", "environment", "config", "chosen"),
    [
        (["torch"], {}, False, "torch"),
        (["jax"], {}, False, "jax"),
        (["jax", "torch"], {}, False, None),
        ([], {}, False, None),
        (["torch"], {"KERAS_BACKEND": "jax"}, False, "jax"),
        (["torch"], {}, True, None),
    ],
)
def test_backend_that_is_installed(installed, environment, config, chosen, tmp_path, monkeypatch):
    monkeypatch.setattr(bert4keras_lite, "find_spec", lambda name: name in installed or None)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    if config:
        (tmp_path / "keras.json").write_text('{"backend": "tensorflow"}')
    bert4keras_lite._choose_backend()  # after Keras: too late
    assert bert4keras_lite.os.environ.get("KERAS_BACKEND") == environment.get("KERAS_BACKEND")
    monkeypatch.delitem(sys.modules, "keras")
    bert4keras_lite._choose_backend()
    assert bert4keras_lite.os.environ.get("KERAS_BACKEND") == chosen
    monkeypatch.delenv("KERAS_BACKEND", raising=False)


@pytest.mark.once
@pytest.mark.parametrize(
    ("dtype", "said"),
    [("int8", "1 of its arrays are integers or bool; expected 0"), ("bool", "1 of its arrays"),
     ("complex64", "has complex numbers")],
)  # fmt: skip
def test_numbers_that_keras_would_convert(tmp_path, dtype, said):
    h5py = pytest.importorskip("h5py")
    build().model.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    weights = tmp_path / "model.weights.h5"
    weights.write_bytes(members[weights.name])
    with h5py.File(weights, "r+") as file:
        names = []
        file.visititems(lambda n, x: names.append(n) if isinstance(x, h5py.Dataset) else None)
        values = np.ones(file[names[0]].shape, dtype)
        del file[names[0]]
        file[names[0]] = values
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        for name, content in (members | {weights.name: weights.read_bytes()}).items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match=f"m.keras: {said}"):
        load_model(tmp_path / "m.keras")
