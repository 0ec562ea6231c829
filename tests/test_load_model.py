"""What comes out of a `.keras` file can do all that it could before it was saved."""

import subprocess
import sys
import tarfile

import keras
import numpy as np
import pytest
from goldens import make_version_1 as version_1
from keras.src.saving.serialization_lib import SafeModeScope
from running import operation_by_operation, outputs_of

import bert4keras_lite
from bert4keras_lite import build_transformer_model, generate, load_model, losses, open_checkpoint
from bert4keras_lite.loading import transformer_of
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
    with pytest.raises(ValueError, match=r"model\.keras: .* moved by a condition"):
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
    def heads(self, x):
        return [x * 2.0]


def test_subclass(tmp_path):
    transformer = build(Scaled)
    transformer.model.save(tmp_path / "m.keras")
    assert type(load_model(tmp_path / "m.keras").transformer) is Scaled
    Scaled.__name__ = "Renamed"  # as if it had not been imported
    with pytest.raises(ValueError, match=r"m\.keras: .* of class Scaled\. Import that class"):
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
    with SafeModeScope(False), pytest.raises(ValueError, match=r"m\.keras: holds code"):
        load_model(tmp_path / "m.keras")


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
