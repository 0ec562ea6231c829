"""Inputs and labels as Keras 2 took them."""

import keras
import numpy as np
import pytest

from bert4keras_lite.compat import models, snippets

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
