"""Layers of bert4keras by name and by place: the same weights and the same outputs, or an error."""

from pathlib import Path

import keras
import numpy as np
import pytest
from goldens.make_old_models import MODELS, build

from bert4keras_lite.compat import layers, models
from bert4keras_lite.compat.backend import keras as old_keras

FOLDER = Path(__file__).parent / "goldens" / "old_models"
# outputs that this graph does not have: the error says so
MISSING = {"Embedding-Segment", "Pooler", "Decoder-Output-Scale"}
TOLERANCE = 1e-5


def loaded(name):
    """Returns a model with the weights that bert4keras saved, its inputs, and the golden file."""
    keras.utils.clear_session()
    model, inputs = build(models, layers, old_keras, name)
    model.load_weights(FOLDER / f"{name}.h5")
    return model, inputs, np.load(FOLDER / f"{name}.npz")


@pytest.mark.parametrize("name", MODELS)
def test_files_of_keras_2_and_layers_by_name(name):
    model, inputs, golden = loaded(name)
    names, outputs = [], []
    for key in golden.files:
        layer, _, index = key.partition(":")
        if not index or layer.startswith(("Attention-", "lambda", "dense", "input", "conditional")):
            continue
        try:
            outputs.append(model.get_layer(layer).get_output_at(int(index)))
            names.append(key)
        except ValueError as error:
            assert "its output is not in this graph" in str(error) or layer.startswith("Input-"), (
                key
            )
        except AttributeError:
            assert "Input-" in layer, key
    assert len(names) >= 12
    values = models.Model(model.inputs, outputs)(inputs)
    for key, value in zip(names, values, strict=True):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(value), golden[key], atol=TOLERANCE, rtol=1e-5, err_msg=key
        )


@pytest.mark.parametrize("name", ["bert_nsp", "bert_unilm", "bert_lm", "albert", "nezha",
                                  "roformer", "electra", "classifier"])  # fmt: skip
def test_layers_by_place(name):
    model, _, golden = loaded(name)
    known = [str(layer) for layer in golden["layers"]]
    found = [layer.name for layer in model.layers]
    assert len(found) == len(known)
    for mine, there in zip(found, known, strict=True):
        assert mine == there or there.startswith(("lambda", "dense")), (mine, there)
    assert model.layers[-2].name == found[-2]
    assert [layer.name for layer in model.layers[2:5]] == found[2:5]
