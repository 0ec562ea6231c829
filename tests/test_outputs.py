"""Poolings, Concatenate1D, and losses inside the graph."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops
from running import long_but

from bert4keras_lite import layers as L

GOLDEN = Path(__file__).parent / "goldens" / "outputs" / "bert4keras.npz"
COMPILED = keras.backend.backend() != "torch"
POOLINGS = {"average": L.GlobalAveragePooling1D, "max": L.GlobalMaxPooling1D}


@pytest.mark.parametrize("name", POOLINGS)
def test_poolings(name):
    golden = np.load(GOLDEN)
    x, visible = golden["x"], golden["visible"]
    found = ops.convert_to_numpy(POOLINGS[name]()(x, visible=visible))
    np.testing.assert_allclose(found, golden[f"{name}/output"], rtol=1e-5, atol=1e-6)
    plain = ops.convert_to_numpy(POOLINGS[name]()(x))
    expected = x.mean(1) if name == "average" else x.max(1)
    np.testing.assert_allclose(plain, expected, rtol=1e-5, atol=1e-6)
    nothing = ops.convert_to_numpy(POOLINGS[name]()(x, visible=visible & False))
    np.testing.assert_array_equal(nothing, 0)


def test_average_in_half_precision_sums_in_single():
    x = np.full((1, 4000, 2), 30.0, "float16")
    mean = L.GlobalAveragePooling1D(dtype="float16")(x)
    np.testing.assert_array_equal(ops.convert_to_numpy(mean), 30)


@pytest.mark.parametrize(
    "dtype", long_but(["float32", "mixed_float16"], ["float32", "mixed_float16", "mixed_bfloat16"])
)
@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_in_a_model(name, dtype, tmp_path):
    ids = keras.Input((None,), dtype="int32")
    x = L.TokenEmbedding(9, 6, dtype=dtype)(ids)
    y = keras.layers.Dense(1, dtype="float32")(POOLINGS[name](dtype=dtype)(x))
    model = keras.Model(ids, y)
    model.compile("sgd", "mse", jit_compile=COMPILED)
    model.optimizer.build(model.trainable_variables)
    batch = np.array([[3, 4, 5, 0], [6, 0, 0, 0], [0, 0, 0, 0]])
    assert np.isfinite(model.fit(batch, np.ones((3, 1)), verbose=0).history["loss"]).all()
    found = model.predict(batch, verbose=0)
    shorter = model.predict(batch[:1, :3], verbose=0)  # padding has no influence
    np.testing.assert_allclose(shorter, found[:1], rtol=1e-2 if dtype != "float32" else 1e-5)
    model.save(tmp_path / "pooling.keras")
    again = keras.saving.load_model(tmp_path / "pooling.keras")
    np.testing.assert_array_equal(again.predict(batch, verbose=0), found)


def test_concatenate_sequences_with_and_without_mask(tmp_path):
    ids, more = keras.Input((None,), dtype="int32"), keras.Input((None, 6))
    x = L.TokenEmbedding(9, 6)(ids)
    both = L.Concatenate1D()([x, more])
    assert both.shape == (None, None, 6)
    model = keras.Model([ids, more], [both, L.GlobalMaxPooling1D()(both)])
    batch = np.array([[3, 4, 0], [6, 0, 0]])
    others = np.random.RandomState(0).standard_normal((2, 2, 6)).astype("float32")
    sequence, largest = model.predict([batch, others], verbose=0)
    visible = np.concatenate([batch != 0, np.ones((2, 2), bool)], axis=1)
    assert sequence.shape == (2, 5, 6)
    for row, shown in enumerate(visible):
        np.testing.assert_allclose(largest[row], sequence[row, shown].max(0), rtol=1e-6)
    model.save(tmp_path / "both.keras")
    again = keras.saving.load_model(tmp_path / "both.keras")
    np.testing.assert_array_equal(again.predict([batch, others], verbose=0)[1], largest)
    assert L.Concatenate1D().compute_mask([others, others], [None, None]) is None


@keras.saving.register_keras_serializable("test_outputs")
class Squares(L.Loss):
    def compute_loss(self, inputs):
        y_true, y_pred = inputs
        self.add_metric(ops.abs(y_true - y_pred), name="distance")
        return ops.square(y_true - y_pred)


@keras.saving.register_keras_serializable("test_outputs")
def two_losses(inputs):
    y_true, y_pred = inputs
    return {"squares": ops.square(y_true - y_pred), "size": 0.1 * ops.abs(y_pred)}


def with_loss(loss):
    x, y_true = keras.Input((3,)), keras.Input((1,))
    y_pred = keras.layers.Dense(1, kernel_initializer="ones", name="dense")(x)
    model = keras.Model([x, y_true], loss([y_true, y_pred]))
    model.compile(keras.optimizers.SGD(0.1), jit_compile=COMPILED)
    model.optimizer.build(model.trainable_variables)
    return model


X = np.random.RandomState(0).standard_normal((8, 3)).astype("float32")
Y = X.sum(1, keepdims=True) + np.linspace(-1, 1, 8, dtype="float32")[:, None]


@pytest.mark.parametrize("fit", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_a_loss_with_a_metric(fit, dtype):
    model = with_loss(Squares(output_axis=1, dtype=dtype))
    logs = model.evaluate([X, Y], batch_size=4, return_dict=True, verbose=0)
    error = Y - X.sum(1, keepdims=True)
    np.testing.assert_allclose(logs["loss"], np.square(error).mean(), rtol=1e-5)
    np.testing.assert_allclose(logs["distance"], np.abs(error).mean(), rtol=1e-5)
    if fit:
        history = model.fit([X, Y], batch_size=4, epochs=5, verbose=0).history
        assert history["loss"][-1] < history["loss"][0]
        assert history["distance"][-1] < history["distance"][0] < 1
        # the metric of an epoch forgets the one before, and so does that of an evaluation
        after = model.evaluate([X, Y], return_dict=True, verbose=0)
        found = np.abs(Y - model.predict([X, Y], verbose=0)).mean()
        np.testing.assert_allclose(after["distance"], found, rtol=1e-4)


def test_several_losses_by_name():
    model = with_loss(L.Loss(output_axis=1, function=two_losses))
    logs = model.evaluate([X, Y], return_dict=True, verbose=0)
    predicted = X.sum(1, keepdims=True)
    squares, size = np.square(Y - predicted).mean(), 0.1 * np.abs(predicted).mean()
    np.testing.assert_allclose(logs["squares"], squares, rtol=1e-5)
    np.testing.assert_allclose(logs["size"], size, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], squares + size, rtol=1e-5)


def test_a_model_with_two_losses_shows_the_gradient_of_both():
    x, y_true = keras.Input((3,)), keras.Input((1,))
    y_pred = keras.layers.Dense(1, kernel_initializer="ones", use_bias=False, name="dense")(x)
    y = Squares(output_axis=1, name="first")([y_true, y_pred])
    y = L.Loss(output_axis=1, function=two_losses, name="second")([y_true, y])
    model = keras.Model([x, y_true], y)
    model.compile(keras.optimizers.SGD(0.1), jit_compile=COMPILED)
    model.optimizer.build(model.trainable_variables)
    model.train_on_batch([X, Y])
    predicted = X.sum(1, keepdims=True)
    slope = 2 * 2 * (predicted - Y) + 0.1 * np.sign(predicted)
    expected = 1 - 0.1 * X.T @ slope / 8
    np.testing.assert_allclose(model.get_layer("dense").get_weights()[0], expected, rtol=1e-4)


@pytest.mark.parametrize("output_axis", [None, 1, [1, 0]])
def test_what_a_loss_hands_on(output_axis):
    layer = L.Loss(output_axis=output_axis, function=two_losses)
    outputs = layer([ops.convert_to_tensor(Y), ops.convert_to_tensor(2 * Y)])
    expected = [Y, 2 * Y] if output_axis is None else [2 * Y, Y][: np.size(output_axis)]
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    assert len(outputs) == len(expected)
    for found, array in zip(outputs, expected, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(found), array)


@pytest.mark.parametrize("loss", [Squares(1, name="l"), L.Loss(1, two_losses, name="l")])
def test_a_loss_in_a_file(loss, tmp_path):
    model = with_loss(loss)
    model.save(tmp_path / "loss.keras")
    again = keras.saving.load_model(tmp_path / "loss.keras")
    first, second = (m.evaluate([X, Y], return_dict=True, verbose=0) for m in (model, again))
    assert first == pytest.approx(second)


def test_a_loss_without_any_says_what_to_do():
    with pytest.raises(NotImplementedError, match="compute_loss"):
        L.Loss().compute_loss([])
