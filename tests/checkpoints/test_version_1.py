"""What version 0.1.0 wrote in Keras' formats loads, with the values that it had.

See tests/goldens/make_version_1.py. Weights and outputs were frozen on TensorFlow, checkpoints of
pretraining on each backend.
"""

import tarfile

import keras
import numpy as np
import pytest
from goldens import make_version_1 as version_1

import bert4keras_lite.optimizers  # noqa: F401 - Keras finds the classes that a file names
from bert4keras_lite import build_transformer_model
from bert4keras_lite.checkpoints.safetensor_file import read_entries
from bert4keras_lite.pipelines import load_tagger
from pretraining.checkpointing import Checkpoints, variables_of

BACKEND = keras.backend.backend()
in_every_family = pytest.mark.parametrize("family", version_1.FAMILIES)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """Unpacks the archive that a backend wrote, once; gives its directory."""
    directory = tmp_path_factory.mktemp("version_1")

    def unpack(backend):
        target = directory / backend
        if not target.exists():
            with tarfile.open(version_1.FOLDER / f"{backend}.tar.xz") as archive:
                archive.extractall(target, filter="data")
        return target

    return unpack


def assert_outputs(model, directory, name):
    with np.load(directory / "outputs.npz") as arrays:
        inputs = [arrays[f"{name}/input_{i}"] for i in range(len(model.inputs))]
        for i, output in enumerate(version_1.outputs_of(model, inputs)):
            np.testing.assert_allclose(output, arrays[f"{name}/output_{i}"], rtol=0, atol=1e-5)


def assert_values(variables, directory, family):
    """Each has the value in the checkpoint of pretraining; random states are not saved."""
    entries = read_entries(directory / family / "step-00000002" / "variables.safetensors")
    for name, variable in variables.items():
        if "seed_generator_state" not in name:
            found = keras.ops.convert_to_numpy(variable)
            np.testing.assert_array_equal(found, entries[name].read(), name)


@in_every_family
def test_keras_file(family, unpacked):
    directory = unpacked("tensorflow")
    model = keras.saving.load_model(directory / family / "model.keras")
    assert_outputs(model, directory, family)
    variables = variables_of(model)
    assert sum(name.startswith("optimizer/") for name in variables) > len(model.weights)
    assert_values(variables, directory, family)


@in_every_family
@pytest.mark.parametrize("file", ["model.weights.h5", "model.keras"])
def test_weights_into_a_model(family, file, unpacked):
    directory = unpacked("tensorflow")
    path = directory / family / file
    built = build_transformer_model(None, path, **version_1.options_of(family))
    assert_outputs(built, directory, family)
    again = build_transformer_model(**version_1.options_of(family))
    again.load_weights(path)
    assert_outputs(again, directory, family)


@in_every_family
def test_checkpoint_of_pretraining(family, unpacked):
    directory = unpacked(BACKEND)
    model = build_transformer_model(**version_1.options_of(family))
    version_1.compile_like(model)
    assert Checkpoints(directory / family, asynchronous=False).restore(model) == version_1.STEPS
    assert_outputs(model, directory, family)
    assert_values(variables_of(model), directory, family)


def test_quantized(unpacked, monkeypatch):
    monkeypatch.setattr("gc.collect", lambda: 0)  # Keras does so for each layer; takes long
    directory = unpacked("tensorflow")
    model = keras.saving.load_model(directory / "int8.keras")
    assert_outputs(model, directory, "int8")


def test_tagger(unpacked):
    directory = unpacked("tensorflow")
    model, labels, tokenizer = load_tagger(directory / "tagger")
    assert labels == version_1.LABELS
    assert tokenizer.encode("甲乙")[0] == [2, 5, 6, 3]
    assert_outputs(model, directory, "tagger")
