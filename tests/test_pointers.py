"""Span scores against bert4keras and the formula; what is hidden; every precision."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops
from running import long_but

from bert4keras_lite import layers as L
from bert4keras_lite.losses import (
    multilabel_categorical_crossentropy,
    sparse_multilabel_categorical_crossentropy,
)

GOLDEN = Path(__file__).parent / "goldens" / "outputs" / "bert4keras.npz"
CASES = {
    "pointer": (L.GlobalPointer, {"heads": 3, "head_size": 8}),
    "pointer_plain": (
        L.GlobalPointer,
        {"heads": 3, "head_size": 5, "RoPE": False, "use_bias": False, "tril_mask": False},
    ),
    "efficient": (L.EfficientGlobalPointer, {"heads": 3, "head_size": 8}),
    "efficient_plain": (
        L.EfficientGlobalPointer,
        {"heads": 3, "head_size": 5, "RoPE": False, "tril_mask": False},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bert4keras_computes_the_same(case):
    golden = np.load(GOLDEN)
    kind, options = CASES[case]
    layer = kind(**options)
    layer.build((None, None, golden["x"].shape[-1]))
    layer.set_weights([golden[f"{case}/weight_{i}"] for i in range(len(layer.weights))])
    found = ops.convert_to_numpy(layer(golden["x"], visible=golden["visible"]))
    expected = golden[f"{case}/output"]
    hidden = np.isneginf(expected)
    np.testing.assert_array_equal(found < -1e8, hidden)
    np.testing.assert_allclose(found[~hidden], expected[~hidden], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_what_is_hidden(case):
    kind, options = CASES[case]
    x = np.random.RandomState(0).standard_normal((3, 5, 6)).astype("float32")
    visible = np.array([[1, 1, 1, 1, 1], [0, 1, 1, 0, 1], [0] * 5], bool)
    scores = ops.convert_to_numpy(kind(**options)(x, visible=visible))
    assert scores.shape == (3, 3, 5, 5) and np.isfinite(scores).all()
    shown = visible[:, None, :, None] & visible[:, None, None, :]
    if options.get("tril_mask", True):
        shown = shown & np.triu(np.ones((5, 5), bool))
    np.testing.assert_array_equal(scores > -1e8, np.broadcast_to(shown, scores.shape))


@pytest.mark.parametrize(
    "dtype",
    long_but(["mixed_float16"], ["float32", "mixed_float16", "mixed_bfloat16", "float16"]),
)
@pytest.mark.parametrize("case", ["pointer", "efficient"])
def test_trains_compiled_in_every_precision(case, dtype):
    kind, options = CASES[case]
    x, visible = keras.Input((None, 6)), keras.Input((None,), dtype="bool")
    model = keras.Model([x, visible], kind(**options, dtype=dtype)(x, visible=visible))
    random = np.random.RandomState(0)
    vectors = random.standard_normal((8, 5, 6)).astype("float32")
    shown = np.arange(5) < random.randint(0, 6, (8, 1))
    pairs = shown[:, None, :, None] & shown[:, None, None, :] & np.triu(np.ones((5, 5), bool))
    spans = (random.rand(8, 3, 5, 5) < 0.3) & pairs

    def loss(y_true, y_pred):
        y_pred = ops.cast(y_pred, "float32")
        each = ops.softplus(ops.where(y_true > 0, -y_pred, y_pred))
        return ops.mean(each, axis=(1, 2, 3))

    optimizer = keras.optimizers.SGD(0.5)
    compiled = keras.backend.backend() != "torch"
    model.compile(optimizer, loss=loss, jit_compile=compiled)
    model.optimizer.build(model.trainable_variables)
    history = model.fit([vectors, shown], spans.astype("float32"), epochs=5, verbose=0)
    losses = history.history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    scores = model.predict([vectors[:3, :4], shown[:3, :4]], verbose=0)
    assert np.isfinite(scores).all() and (scores < -1e4).any()


@pytest.mark.parametrize("case", CASES)
def test_keras_mask_and_file(case, tmp_path):
    kind, options = CASES[case]
    ids = keras.Input((None,), dtype="int32")
    x = L.TokenEmbedding(9, 6, name="token_embedding")(ids)
    model = keras.Model(ids, kind(**options, name="pointer")(x))
    assert model.output_shape == (None, 3, None, None)
    batch = np.array([[3, 4, 5, 0], [6, 0, 0, 0]])
    scores = model.predict(batch, verbose=0)
    visible = batch != 0
    again = model.get_layer("pointer")(model.layers[1](batch), visible=visible)
    np.testing.assert_allclose(ops.convert_to_numpy(again), scores, rtol=1e-5, atol=1e-6)
    assert (scores[1, :, 0, 1:] < -1e8).all() and (scores[1, :, 0, 0] > -1e8).all()
    model.save(tmp_path / "pointer.keras")
    loaded = keras.saving.load_model(tmp_path / "pointer.keras")
    np.testing.assert_array_equal(loaded.predict(batch, verbose=0), scores)


def test_rotary_positions_need_an_even_size():
    with pytest.raises(ValueError, match=r"head_size=5.*even"):
        L.GlobalPointer(2, 5)


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
@pytest.mark.parametrize("span", [(2, 1), (1, 3), (3, 3)])
def test_a_gold_span_at_a_hidden_place(span, dtype):
    """The end before the start, or in the padding: it gave a loss of a thousand million."""
    x = np.random.RandomState(0).standard_normal((2, 4, 8)).astype("float32")
    visible = np.array([[1, 1, 1, 0], [1, 1, 1, 1]], bool)
    scores = L.GlobalPointer(1, 4, dtype=dtype)(x, visible=visible)
    scores = ops.reshape(scores, (2, 16))
    y_true = np.zeros((2, 16), "float32")
    y_true[:, 1 * 4 + 2] = 1
    assert ops.convert_to_numpy(multilabel_categorical_crossentropy(y_true, scores)).max() < 20
    y_true[0, span[0] * 4 + span[1]] = 1
    with pytest.raises(ValueError, match="y_true: a label is a masked span"):
        multilabel_categorical_crossentropy(y_true, scores)
    with pytest.raises(ValueError, match="masked span"):
        ids = np.array([[span[0] * 4 + span[1]], [6]])
        sparse_multilabel_categorical_crossentropy(ids, scores)
