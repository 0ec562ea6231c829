"""Trainings in the style of bert4keras: the losses are those of bert4keras itself."""

import types
from pathlib import Path

import keras
import numpy as np
import pytest
from goldens.make_old_training import TRAININGS

from bert4keras_lite.compat import backend, layers, models, optimizers, snippets

GOLDEN = np.load(Path(__file__).parent / "goldens" / "old_training.npz")


@pytest.mark.parametrize("training", TRAININGS, ids=lambda training: training.__name__)
def test_losses_are_those_of_bert4keras(training):
    keras.utils.clear_session()
    b = types.SimpleNamespace(
        backend=backend,
        keras=backend.keras,
        layers=layers,
        models=models,
        optimizers=optimizers,
        snippets=snippets,
        as_labels=lambda labels: labels,
        inputs_alone=lambda inputs: (inputs, None),
    )
    losses = training(b)
    np.testing.assert_allclose(losses, GOLDEN[training.__name__], atol=1e-4)
