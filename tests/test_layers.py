"""Each layer against its formula in NumPy, and the shapes, masks and configs it promises."""

import keras
import numpy as np
import pytest
from keras import ops

from bert4keras_lite import layers as L


def randn(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape).astype("float32")


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


LAYERS = {
    "position": (L.PositionEmbedding, {"input_dim": 9, "output_dim": 8}, {}),
    "hierarchical": (
        L.PositionEmbedding,
        {"input_dim": 3, "output_dim": 8, "hierarchical": 0.3},
        {},
    ),
    "scale": (L.ScaleOffset, {"offset": False}, {}),
    "offset": (L.ScaleOffset, {"scale": False}, {}),
    "norm": (L.LayerNormalization, {"epsilon": 1e-5}, {}),
    "conditional": (
        L.LayerNormalization,
        {"hidden_units": 4, "hidden_activation": "relu"},
        {"condition": (2, 6)},
    ),
    "attention": (L.MultiHeadAttention, {"num_heads": 2, "head_size": 3, "key_size": 5}, {}),
    "ffn": (L.FeedForward, {"units": 16, "activation": "swish"}, {}),
    "block": (
        L.TransformerBlock,
        {"num_heads": 2, "head_size": 4, "intermediate_size": 16, "dropout": 0.1},
        {},
    ),
    "block with condition": (
        L.TransformerBlock,
        {"num_heads": 2, "head_size": 4, "intermediate_size": 16, "condition_units": 3},
        {"condition": (2, 6)},
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_config_shapes_and_file_round_trip(name, tmp_path):
    kind, arguments, more = LAYERS[name]
    x = keras.Input((None, 8))
    others = {key: keras.Input(shape[1:]) for key, shape in more.items()}
    layer = kind(**arguments, name="layer")
    model = keras.Model([x, *others.values()], layer(x, **others))
    assert model.output_shape == (None, None, 8)
    again = kind.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()

    data = [randn(2, 5, 8), *(randn(*shape) for shape in more.values())]
    output = ops.convert_to_numpy(model(data))
    assert output.shape == (2, 5, 8)
    model.save(tmp_path / "layer.keras")
    reloaded = keras.saving.load_model(tmp_path / "layer.keras")
    np.testing.assert_array_equal(ops.convert_to_numpy(reloaded(data)), output)


def test_gelu_of_every_name():
    from math import erf, pi

    x = np.linspace(-4, 4, 41).astype("float32")
    exact = x * 0.5 * (1 + np.vectorize(erf)(x / 2**0.5))
    tanh = 0.5 * x * (1 + np.tanh((2 / pi) ** 0.5 * (x + 0.044715 * x**3)))
    for name, expected in [("gelu", exact), ("gelu_erf", exact), ("gelu_new", tanh)]:
        y = ops.convert_to_numpy(L.get_activation(name)(ops.convert_to_tensor(x)))
        np.testing.assert_allclose(y, expected, atol=1e-6)
    with pytest.raises(ValueError):
        L.get_activation("no such thing")


def test_layer_normalization():
    x, gamma, beta, condition = randn(2, 5, 8), randn(8, seed=1), randn(8, seed=2), randn(2, 3)
    w_gamma, w_beta = randn(3, 8, seed=3), randn(3, 8, seed=4)
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)

    plain = L.LayerNormalization()
    plain.build((2, 5, 8))
    plain.set_weights([gamma, beta])
    np.testing.assert_allclose(
        ops.convert_to_numpy(plain(x)), normal * gamma + beta, rtol=1e-5, atol=1e-5
    )

    conditional = L.LayerNormalization()
    conditional.build((2, 5, 8), (2, 3))
    conditional.gamma.assign(gamma)
    conditional.beta.assign(beta)
    # maps that start at zero: training begins at the unconditioned layer
    np.testing.assert_allclose(
        ops.convert_to_numpy(conditional(x, condition=condition)),
        normal * gamma + beta,
        rtol=1e-5,
        atol=1e-5,
    )
    conditional.gamma_dense.set_weights([w_gamma])
    conditional.beta_dense.set_weights([w_beta])
    expected = (
        normal * (gamma + condition @ w_gamma)[:, None] + (beta + condition @ w_beta)[:, None]
    )
    for c in (condition, condition[:, None]):
        np.testing.assert_allclose(
            ops.convert_to_numpy(conditional(x, condition=c)), expected, rtol=1e-5, atol=1e-5
        )


def test_layer_normalization_in_half_precision_keeps_a_large_mean():
    layer = L.LayerNormalization(dtype="mixed_float16")
    x = (100 + randn(2, 3, 64)).astype("float16")
    y = ops.convert_to_numpy(layer(x)).astype("float32")
    x = x.astype("float32")
    expected = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    np.testing.assert_allclose(y, expected, atol=5e-3)


@pytest.mark.parametrize("key_size", [None, 5])
def test_attention(key_size):
    x, bias = randn(2, 6, 8), np.where(randn(2, 1, 6, 6, seed=9) > 1, -1e9, 0).astype("float32")
    layer = L.MultiHeadAttention(2, 3, key_size, return_scores=True)
    layer.build((2, 6, 8))
    layer.set_weights([randn(*w.shape, seed=i) for i, w in enumerate(layer.get_weights())])
    kernel_q, bias_q, kernel_k, bias_k, kernel_v, bias_v, kernel_o, bias_o = layer.get_weights()

    def heads(y):
        return y.reshape(2, 6, 2, -1).transpose(0, 2, 1, 3)

    q, k, v = (
        heads(x @ kernel_q + bias_q),
        heads(x @ kernel_k + bias_k),
        heads(x @ kernel_v + bias_v),
    )
    scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(key_size or 3)
    expected = (softmax(scores + bias) @ v).transpose(0, 2, 1, 3).reshape(
        2, 6, 6
    ) @ kernel_o + bias_o
    y, own = (ops.convert_to_numpy(t) for t in layer(x, bias=bias))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(own, scores, rtol=1e-4, atol=1e-4)


def test_what_is_visible():
    ids = np.array([[7, 8, 0, 9, 0], [0, 0, 0, 0, 0]])
    segments = np.array([[0, 0, 1, 1, 1], [0, 0, 0, 0, 0]])

    def visible(**arguments):
        bias = L.AttentionBias(**arguments)(ids, segments)
        return ops.convert_to_numpy(bias) == 0

    encoder = visible()
    assert encoder.shape == (2, 1, 1, 5)
    np.testing.assert_array_equal(encoder[0, 0, 0], [True, True, False, True, False])
    np.testing.assert_array_equal(encoder[1, 0, 0], [True, False, False, False, False])
    lm = visible(attend="lm")[0, 0]
    np.testing.assert_array_equal(lm, np.tril(np.ones((5, 5), bool)) & encoder[0, 0])
    unilm = visible(attend="unilm")[0, 0]
    order = [0, 0, 1, 2, 3]
    np.testing.assert_array_equal(unilm, np.less_equal.outer(order, order).T & encoder[0, 0])


def test_hidden_scores_fit_half_precision():
    bias = L.AttentionBias(dtype="float16")(np.array([[1, 0, 0]]))
    bias = ops.convert_to_numpy(bias)
    assert bias.dtype == np.float16 and np.isfinite(bias).all() and bias.min() < -1e4


def test_hierarchical_positions_keep_the_trained_ones():
    layer = L.PositionEmbedding(4, 8, hierarchical=True)
    layer.build((None, None, 8))
    table = randn(4, 8)
    layer.set_weights([table])
    y = ops.convert_to_numpy(layer(np.zeros((1, 11, 8), "float32")))[0]
    np.testing.assert_allclose(y[:4], table, atol=1e-5)
    u = (table - 0.4 * table[:1]) / 0.6
    np.testing.assert_allclose(y[9], 0.4 * u[2] + 0.6 * u[1], atol=1e-5)


def test_too_many_positions_name_the_remedy():
    layer = L.PositionEmbedding(4, 8)
    with pytest.raises(ValueError, match=r"5 tokens.*4 positions.*hierarchical_position"):
        layer(np.zeros((1, 5, 8), "float32"))


def test_deferred_initialization_ends():
    with L.deferred_initialization():
        pass
    values = ops.convert_to_numpy(L.WeightInitializer(stddev=0.5)((1000,), "float32"))
    assert 0.4 < values.std() < 0.5 and np.abs(values).max() < 1.01
