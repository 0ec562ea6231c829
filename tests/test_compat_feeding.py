"""Inputs and labels as Keras 2 took them."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from bert4keras_lite.compat import models, snippets
from bert4keras_lite.compat.models import build_transformer_model

IDS = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
LABELS = np.array([[0], [1], [1], [0], [1], [0]])


def small_model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None,), name="Input-Token")
    x = keras.ops.sum(inputs, axis=1, keepdims=True)
    outputs = keras.layers.Dense(2, activation="softmax", name="Probas")(x)
    model = models.Model(inputs, outputs)
    model.compile(
        keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def result(model):
    return model.evaluate(IDS, LABELS, verbose=0)


@pytest.mark.parametrize(
    "inputs, labels",
    [
        (IDS, {"Probas": LABELS}),
        (IDS, [LABELS]),
        ([IDS], LABELS),
        (IDS.tolist(), LABELS.tolist()),
        ({"Input-Token": IDS}, {"Probas": LABELS}),
    ],
)
def test_arrays_as_keras_2_took_them(inputs, labels):
    plain, model = small_model(), small_model()
    expected = plain.train_on_batch(IDS, LABELS)
    np.testing.assert_allclose(model.train_on_batch(inputs, labels), expected, rtol=1e-6)
    plain.fit(IDS, LABELS, shuffle=False, verbose=0)
    model.fit(inputs, labels, shuffle=False, verbose=0, validation_data=(IDS, {"Probas": LABELS}))
    np.testing.assert_allclose(result(model), result(plain), rtol=1e-6)
    np.testing.assert_allclose(model.evaluate(inputs, labels, verbose=0), result(plain), rtol=1e-6)
    np.testing.assert_allclose(model.test_on_batch(inputs, labels), result(plain), rtol=1e-6)
    np.testing.assert_allclose(
        model.predict_on_batch(inputs), plain.predict(IDS, verbose=0), rtol=1e-6
    )


class Samples(snippets.DataGenerator):
    def __iter__(self, random=False):
        for _, i in self.sample(random):
            yield [IDS[i]], [LABELS[i]]


def test_datasets_and_generators_name_the_output():
    plain, generated = small_model(), small_model()
    plain.fit(IDS, LABELS, batch_size=2, shuffle=False, verbose=0)
    batches = (({"Input-Token": IDS[i : i + 2]}, {"Probas": LABELS[i : i + 2]}) for i in (0, 2, 4))
    generated.fit(batches, steps_per_epoch=3, verbose=0)
    np.testing.assert_allclose(result(generated), result(plain), rtol=1e-6)


def test_to_dataset_names_the_output():
    plain, model = small_model(), small_model()
    plain.train_on_batch(IDS, LABELS)
    dataset = Samples(range(6), 6).to_dataset(
        types=[("float32",), ("float32",)],
        shapes=[([None],), ([1],)],
        names=[("Input-Token",), ("Probas",)],
        padded_batch=True,
    )
    model.fit(dataset, steps_per_epoch=1, verbose=0, validation_data=dataset, validation_steps=1)
    np.testing.assert_allclose(result(model), result(plain), rtol=1e-5)


def test_weights_of_samples_by_the_name_of_the_output():
    weights = np.arange(6.0)
    plain, model = small_model(), small_model()
    expected = plain.train_on_batch(IDS, LABELS, weights)
    found = model.train_on_batch(IDS, {"Probas": LABELS}, {"Probas": weights})
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_another_name_is_an_error():
    with pytest.raises(
        ValueError, match=r"expected labels for the output 'Probas', got \['Prob'\]"
    ):
        small_model().fit(IDS, {"Prob": LABELS}, verbose=0)


def test_several_outputs_by_name():
    inputs = keras.Input((3,))
    outputs = [keras.layers.Dense(1, name=name)(inputs) for name in ("a", "b")]
    model = models.Model(inputs, outputs)
    model.compile("sgd", "mse")
    labels = {"a": IDS[:, :1], "b": IDS[:, 1:2]}
    by_place = model.test_on_batch(IDS, list(labels.values()))
    np.testing.assert_allclose(model.test_on_batch(IDS, labels), by_place, rtol=1e-6)


def model_of_losses():
    """A model whose outputs are numbers: a loss, and one that is only shown."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    rows = keras.layers.Dense(1, use_bias=False)(inputs)
    squares = keras.layers.Lambda(lambda x: keras.ops.mean(x**2), output_shape=(), name="squares")
    mean = keras.layers.Lambda(keras.ops.mean, output_shape=(), name="mean")
    model = models.Model(inputs, [squares(rows), mean(rows)])
    losses = {
        "squares": lambda y_true, y_pred: y_pred,
        "mean": lambda y_true, y_pred: keras.ops.stop_gradient(y_pred),
    }
    model.compile(keras.optimizers.SGD(0.1), losses)
    return model


def test_outputs_that_are_losses():
    model = model_of_losses()
    kernel = model.get_weights()[0]
    targets = {"squares": np.zeros(6), "mean": np.zeros(6)}
    for _ in range(2):
        rows = IDS @ kernel
        total, *_ = model.train_on_batch(IDS, targets)
        np.testing.assert_allclose(total, np.mean(rows**2) + np.mean(rows), rtol=1e-5)
        kernel = kernel - 0.1 * 2 / 6 * IDS.T @ rows
        np.testing.assert_allclose(model.get_weights()[0], kernel, rtol=1e-5)


DISTRIBUTED = """
import tensorflow as tf

devices = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
import keras
from bert4keras_lite.compat import models

with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    inputs = keras.Input((3,))
    model = models.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse")
print("compiled")
"""


def test_strategies_of_tensorflow():
    done = subprocess.run(
        [sys.executable, "-c", DISTRIBUTED], capture_output=True, text=True, check=False
    )
    if keras.backend.backend() == "tensorflow":
        assert done.stdout.strip().endswith("compiled"), done.stderr
    else:
        assert "ValueError: MirroredStrategy distributes training on TensorFlow only" in done.stderr


BERT = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 8,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
}


def test_a_checkpoint_is_loaded_with_the_options_of_the_model(tmp_path):
    build_transformer_model(
        BERT, with_mlm="linear", return_keras_model=False
    ).save_weights_as_checkpoint(tmp_path / "bert_model.ckpt")
    options = {
        "keep_tokens": [0, 4, 7, 9],
        "compound_tokens": [[0, 2]],
        "num_hidden_layers": 2,
        "with_mlm": "linear",
        "return_keras_model": False,
    }
    at_once = build_transformer_model(BERT, tmp_path / "bert_model.ckpt", **options)
    later = build_transformer_model(BERT, **options)
    later.load_weights_from_checkpoint(tmp_path / "bert_model.ckpt")
    ids = np.array([[1, 2, 3, 4]], "float32")
    batch = [ids, 0 * ids]
    assert later.model.predict(batch).shape == (1, 4, 5)
    np.testing.assert_array_equal(later.model.predict(batch), at_once.model.predict(batch))
