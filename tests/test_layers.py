"""Each layer against its formula in NumPy, and the shapes, masks and configs it promises."""

import keras
import numpy as np
import pytest
from keras import ops

from bert4keras_lite import layers as L
from bert4keras_lite.backend import value_and_gradients, without_gradients
from bert4keras_lite.layers.attention import recording_probs
from bert4keras_lite.layers.base import get_activation
from bert4keras_lite.layers.normalization import NORMS


def randn(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape).astype("float32")


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


LAYERS = {
    "position": (
        L.PositionEmbedding,
        {"input_dim": 9, "output_dim": 8},
        {"positions": (2, 5)},
    ),
    "hierarchical": (
        L.PositionEmbedding,
        {"input_dim": 3, "output_dim": 8, "hierarchical": 0.3},
        {"positions": (2, 5)},
    ),
    "scale": (L.ScaleOffset, {"offset": False}, {}),
    "offset": (L.ScaleOffset, {"scale": False}, {}),
    "norm": (L.LayerNormalization, {"epsilon": 1e-5}, {}),
    "conditional": (
        L.LayerNormalization,
        {"hidden_units": 4, "hidden_activation": "relu"},
        {"condition": (2, 6)},
    ),
    "dropout": (L.Dropout, {"rate": 0.3}, {}),
    "attention": (L.MultiHeadAttention, {"num_heads": 2, "head_size": 3, "key_size": 5}, {}),
    "ffn": (L.FeedForward, {"units": 16, "activation": "swish"}, {}),
    "gated": (L.FeedForward, {"units": 16, "gated": True, "use_bias": False}, {}),
    "rms": (L.LayerNormalization, {"zero_mean": False, "scale": False, "offset": False}, {}),
    "landmarks": (L.NystromAttention, {"num_heads": 2, "head_size": 4, "num_landmarks": 3}, {}),
    "unit": (L.GatedAttentionUnit, {"units": 16, "key_size": 4}, {}),
    "squared": (
        L.GatedAttentionUnit,
        {"units": 16, "key_size": 4, "normalization": "squared_relu", "scale": False},
        {},
    ),
    "block": (
        L.TransformerBlock,
        {"attention": {"num_heads": 2, "head_size": 4}, "ffn": {"units": 16}, "dropout": 0.1},
        {},
    ),
    "block with condition": (
        L.TransformerBlock,
        {
            "attention": {"num_heads": 2, "head_size": 4},
            "ffn": {"units": 16},
            "norm": {"hidden_units": 3},
        },
        {"condition": (2, 6)},
    ),
    "block of a decoder": (
        L.TransformerBlock,
        {
            "attention": {"num_heads": 2, "head_size": 4},
            "cross": {"num_heads": 2, "head_size": 4},
            "ffn": {"units": 16},
            "norm_at": "pre",
        },
        {"memory": (2, 3, 8)},
    ),
    "block of a unit": (
        L.TransformerBlock,
        {"attention": {"kind": "gau", "units": 16, "key_size": 4}},
        {},
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_config_shapes_and_file_round_trip(name, tmp_path):
    kind, arguments, more = LAYERS[name]
    x = keras.Input((None, 8))
    kinds = {key: "int32" if key == "positions" else "float32" for key in more}
    others = {key: keras.Input(shape[1:], dtype=kinds[key]) for key, shape in more.items()}
    layer = kind(**arguments, name="layer")
    model = keras.Model([x, *others.values()], layer(x, **others))
    assert model.output_shape == (None, None, 8)
    again = kind.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()

    data = [
        randn(2, 5, 8),
        *(np.abs(randn(*shape)).astype(kinds[key]) for key, shape in more.items()),
    ]
    output = ops.convert_to_numpy(model(data))
    assert output.shape == (2, 5, 8)
    model.save(tmp_path / "layer.keras")
    reloaded = keras.saving.load_model(tmp_path / "layer.keras")
    np.testing.assert_array_equal(ops.convert_to_numpy(reloaded(data)), output)
    if keras.backend.backend() == "tensorflow":  # whose checkpoints follow attributes
        import tensorflow as tf

        saved = tf.train.Checkpoint(layer=layer).write(str(tmp_path / "layer"))
        shapes = [tuple(s) for name, s in tf.train.list_variables(saved) if "VARIABLE" in name]
        assert sorted(shapes) == sorted(tuple(weight.shape) for weight in layer.weights)


def test_gelu_of_every_name():
    from math import erf, pi

    x = np.linspace(-4, 4, 41).astype("float32")
    exact = x * 0.5 * (1 + np.vectorize(erf)(x / 2**0.5))
    tanh = 0.5 * x * (1 + np.tanh((2 / pi) ** 0.5 * (x + 0.044715 * x**3)))
    for name, expected in [("gelu", exact), ("gelu_erf", exact), ("gelu_new", tanh)]:
        y = ops.convert_to_numpy(get_activation(name)(ops.convert_to_tensor(x)))
        np.testing.assert_allclose(y, expected, atol=1e-6)
    with pytest.raises(ValueError):
        get_activation("no such thing")


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


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dropout(dtype):
    x = ops.cast(ops.ones((7, 31, 301)), dtype)  # 65,317: not a multiple of what is drawn at once
    layer = L.Dropout(0.3, dtype=dtype)
    assert layer(x, training=False) is x
    keras.utils.set_random_seed(1)
    first, second = layer(x, training=True), layer(x, training=True)
    keras.utils.set_random_seed(1)
    if keras.backend.backend() == "torch":
        np.testing.assert_array_equal(*map(ops.convert_to_numpy, (first, layer(x, training=True))))
    first, second = (ops.convert_to_numpy(ops.cast(y, "float32")) for y in (first, second))
    assert set(np.unique(first)) == {0, first.max()}
    np.testing.assert_allclose(first.max(), 1 / 0.7, rtol=1e-5 if dtype == "float32" else 4e-3)
    deviation = (0.3 * 0.7 / x.shape[0] / x.shape[1] / x.shape[2]) ** 0.5
    assert abs((first == 0).mean() - 0.3) < 5 * deviation
    assert abs(((first == 0) & (second == 0)).mean() - 0.09) < 5 * deviation
    neighbours = (first[..., 1:] == 0) & (first[..., :-1] == 0)
    assert abs(neighbours.mean() - 0.09) < 5 * deviation


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="others keep gradients elsewhere")
def test_dropout_lets_gradients_through_where_it_lets_numbers_through():
    import torch

    x = torch.ones(5, 77, requires_grad=True)
    y = L.Dropout(0.4)(x, training=True)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


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


BIASES = {
    "none": None,
    "padding": np.where(np.arange(6) < [[4], [6]], 0, -1e12)[:, None, None, :],
    "causal": np.where(np.tri(6) > 0, 0, -1e12)[None, None],
    "of heads": randn(1, 4, 6, 6),
    "nothing visible": np.full((2, 1, 6, 6), -1e12),
}


@pytest.mark.parametrize("bias", list(BIASES))
@pytest.mark.parametrize("shape", [{}, {"key_size": 5}, {"num_kv_heads": 2}, {"scale": False}])
def test_attention_without_probabilities(bias, shape):
    """The backend's fast way and the plain one, which keeps probabilities; their gradients."""
    bias = None if BIASES[bias] is None else BIASES[bias].astype("float32")
    layer = L.MultiHeadAttention(4, 3, **shape)
    layer.build((2, 6, 8))
    layer.set_weights([randn(*w.shape, seed=i) for i, w in enumerate(layer.get_weights())])

    x = randn(2, 6, 8)

    def loss(values):
        with keras.StatelessScope(list(zip(layer.weights, values, strict=True))):
            y = layer(x, bias=bias)
        return ops.sum(ops.square(y)), y

    def output_and_gradients():
        values = [ops.convert_to_tensor(w) for w in layer.get_weights()]
        gradients = value_and_gradients(loss, values)[1]
        with without_gradients():
            y = layer(x, bias=bias)
        return [ops.convert_to_numpy(t) for t in (y, *gradients)]

    with recording_probs() as probs:
        y, *gradients = output_and_gradients()
    assert [p.shape for p in probs] == [(2, 4, 6, 6)] * 2
    fast_y, *fast_gradients = output_and_gradients()
    np.testing.assert_allclose(fast_y, y, rtol=0, atol=1e-5 * np.abs(y).max())
    largest = max(np.abs(g).max() for g in gradients)
    for actual, golden in zip(fast_gradients, gradients, strict=True):
        np.testing.assert_allclose(actual, golden, rtol=0, atol=1e-5 * largest)


def test_attention_drops_probabilities_in_training():
    layer = L.MultiHeadAttention(2, 4, dropout=0.5)
    x = randn(2, 6, 8)
    layer.build(x.shape)
    calm = [ops.convert_to_numpy(layer(x)) for _ in range(2)]
    np.testing.assert_array_equal(*calm)
    assert np.abs(ops.convert_to_numpy(layer(x, training=True)) - calm[0]).max() > 1e-3


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


def test_padding_on_the_left_is_hidden_where_the_first_token_is_not_kept():
    ids = np.array([[1, 1, 7, 0], [1, 1, 1, 1]])
    bias = L.AttentionBias(pad_token_id=1, keep_first=False)(ids)
    expected = [[False, False, True, True], [False] * 4]
    np.testing.assert_array_equal(ops.convert_to_numpy(bias)[:, 0, 0] == 0, expected)


def test_positions_of_roberta():
    """Tokens are counted, wherever the padding is; padding gets the position before the first."""
    ids = np.array([[0, 5, 6, 1, 1], [1, 1, 0, 5, 6], [0, 1, 5, 1, 6], [1, 1, 1, 1, 1]])
    positions = L.Positions(limit=5, first=2, pad_token_id=1)(ids)
    expected = [[2, 3, 4, 1, 1], [1, 1, 2, 3, 4], [2, 1, 3, 1, 4], [1, 1, 1, 1, 1]]
    np.testing.assert_array_equal(ops.convert_to_numpy(positions), expected)
    rows = keras.KerasTensor((None, None), "int32")
    assert L.Positions(first=2, pad_token_id=1).compute_output_spec(rows).shape == (None, None)


def test_without_positions_each_token_gets_row_0():
    layer, x = L.PositionEmbedding(4, 8), randn(2, 3, 8)
    layer.build((None, None, 8))
    layer.set_weights([table := randn(4, 8, seed=1)])
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), x + table[0], atol=1e-6)


def test_hidden_scores_fit_half_precision():
    bias = L.AttentionBias(dtype="float16")(np.array([[1, 0, 0]]))
    bias = ops.convert_to_numpy(bias)
    assert bias.dtype == np.float16 and np.isfinite(bias).all() and bias.min() < -1e4


def test_hierarchical_positions_keep_the_trained_ones():
    layer = L.PositionEmbedding(4, 8, hierarchical=True)
    layer.build((None, None, 8))
    table = randn(4, 8)
    layer.set_weights([table])
    y = ops.convert_to_numpy(layer(np.zeros((1, 16, 8), "float32"), np.arange(16)[None]))
    np.testing.assert_allclose(y[0, :4], table, atol=1e-6)
    u = (table - 0.4 * table[:1]) / 0.6
    np.testing.assert_allclose(y[0, 11], 0.4 * u[2] + 0.6 * u[3], atol=1e-6)


def test_too_many_positions_name_the_remedy():
    with pytest.raises(ValueError, match=r"5 tokens.*4 positions.*hierarchical_position"):
        L.Positions(limit=4)(np.zeros((1, 5), "int32"))


def test_rotation_depends_on_distances_alone():
    """RoFormer's equation 13, and its matrix of equation 15 in NumPy."""
    angles = L.RotaryAngles(6)(np.arange(9)[None])
    x, y = randn(6), randn(6, seed=1)

    def turned(vector, position):
        pairs = vector.reshape(3, 2)
        theta = position * 10000.0 ** (-2 * np.arange(3) / 6)
        cos, sin = np.cos(theta), np.sin(theta)
        return np.stack(
            [pairs[:, 0] * cos - pairs[:, 1] * sin, pairs[:, 1] * cos + pairs[:, 0] * sin], -1
        ).reshape(6)

    rows = ops.convert_to_numpy(L.rotate(ops.convert_to_tensor(np.tile(x, (1, 9, 1, 1))), angles))[
        0, :, 0
    ]
    for position in range(9):
        np.testing.assert_allclose(rows[position], turned(x, position), atol=1e-5)
    products = [turned(x, i) @ turned(y, i + 2) for i in range(5)]
    np.testing.assert_allclose(products, products[0], atol=1e-5)


def test_rotation_of_halves_is_that_of_neighbours_in_another_order():
    angles = L.RotaryAngles(6, base=500.0)(np.arange(9)[None])
    np.testing.assert_allclose(angles[0, 7], 7 * 500.0 ** (-2 * np.arange(3) / 6), rtol=1e-6)
    x, order = randn(2, 9, 2, 6), [0, 3, 1, 4, 2, 5]
    halves = ops.convert_to_numpy(L.rotate(ops.convert_to_tensor(x), angles, halves=True))
    neighbours = ops.convert_to_numpy(L.rotate(ops.convert_to_tensor(x[..., order]), angles))
    np.testing.assert_allclose(halves[..., order], neighbours, atol=1e-6)
    assert np.abs(halves - neighbours).max() > 0.1


@pytest.mark.parametrize("halves", [True, False])
def test_the_rest_of_a_head_is_not_rotated(halves):
    x, angles = randn(2, 9, 3, 10), L.RotaryAngles(4)(np.arange(9)[None])
    whole = ops.convert_to_numpy(L.rotate(ops.convert_to_tensor(x), angles, halves))
    part = ops.convert_to_numpy(L.rotate(ops.convert_to_tensor(x[..., :4]), angles, halves))
    np.testing.assert_array_equal(whole[..., 4:], x[..., 4:])
    np.testing.assert_array_equal(whole[..., :4], part)
    assert np.abs(part - x[..., :4])[:, 1:].max() > 0.1


def test_rms_normalization_by_one_more_than_gamma():
    x, gamma = randn(3, 5), randn(5, seed=1)
    layer = L.LayerNormalization(1e-6, **NORMS["rms_plus_one"])
    expected = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, atol=1e-6)
    layer.set_weights([gamma])
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected * (1 + gamma), atol=1e-6)


@pytest.mark.parametrize(("dtype", "scale"), [("float32", 20.0**0.5), ("bfloat16", 4.46875)])
def test_scaled_embeddings(dtype, scale):
    """The factor is rounded to the dtype of the vectors, as in Gemma 3; logits have none."""
    plain, scaled = (L.TokenEmbedding(7, 20, scale=s, dtype=dtype) for s in (1.0, 20.0**0.5))
    ids, table = np.array([[3, 1, 6]]), randn(7, 20)
    for layer in (plain, scaled):
        layer.build((None, None))
        layer.set_weights([table])
    vectors = ops.convert_to_numpy(ops.cast(plain(ids), "float32"))
    expected = ops.cast(ops.cast(vectors * np.float32(scale), dtype), "float32")
    found = ops.convert_to_numpy(ops.cast(scaled(ids), "float32"))
    np.testing.assert_array_equal(found, ops.convert_to_numpy(expected))
    x = ops.cast(randn(2, 20), dtype)
    first, second = (ops.cast(layer(x, reverse=True), "float32") for layer in (plain, scaled))
    np.testing.assert_array_equal(ops.convert_to_numpy(first), ops.convert_to_numpy(second))
    assert scaled.get_config()["scale"] == 20.0**0.5


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "most"), [(32, 128), (8, 20)])
def test_buckets_of_distances(bidirectional, buckets, most):
    """Half exact, then steps of the logarithm, read from T5's description with whole numbers."""
    layer = L.RelativeBias(2, buckets, most, bidirectional)
    half = buckets // 2 if bidirectional else buckets
    exact = half // 2

    def expected(distance):
        offset = half if bidirectional and distance > 0 else 0
        n = abs(distance) if bidirectional else max(-distance, 0)
        if n < exact:
            return offset + n
        steps = half - exact  # the largest k with (most / exact) ** (k / steps) <= n / exact
        k = max(k for k in range(steps) if most**k * exact**steps <= n**steps * exact**k)
        return offset + exact + k

    distances = np.arange(-most - 40, most + 40)
    found = ops.convert_to_numpy(layer.bucket(ops.convert_to_tensor(distances, "int32")))
    np.testing.assert_array_equal(found, [expected(int(d)) for d in distances])


@pytest.mark.once
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: L.RelativeBias(2, num_buckets=1), "num_buckets=1, .* at least 4 buckets"),
        (lambda: L.RelativeBias(2, 1, bidirectional=False), "num_buckets=1, .* at least 2 buckets"),
        (lambda: L.RelativeBias(2, 32, max_distance=8), "max_distance of more than 8"),
        (lambda: L.RotaryAngles(5), "size=5: expected an even number"),
        (lambda: L.RelativeVectors(5), "size=5: expected an even number"),
        (lambda: L.PositionEmbedding(4, 2, hierarchical=1.0), "hierarchical=1.0: expected True"),
        (lambda: get_activation("glu"), "activation='glu' gives half as many"),
    ],
)
def test_positions_without_a_meaning(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_relative_vectors_are_sinusoids_of_clipped_distances():
    found = ops.convert_to_numpy(L.RelativeVectors(6, 3)(np.arange(8)[None], np.arange(8)[None]))
    for query in range(8):
        for key in range(8):
            p = min(max(key - query, -3), 3) + 3
            theta = p / 10000.0 ** (2 * np.arange(3) / 6)
            expected = np.stack([np.sin(theta), np.cos(theta)], -1).reshape(6)
            np.testing.assert_allclose(found[query, key], expected, atol=1e-6)


def test_a_gated_unit_by_hand():
    layer = L.GatedAttentionUnit(4, 2, normalization="softmax_plus", initializer_range=0.5)
    x = randn(1, 20, 6)
    bias = np.zeros((1, 1, 1, 20), "float32")
    bias[..., 18:] = -1e9
    y = ops.convert_to_numpy(layer(x, bias=bias))
    h = x @ np.array(layer.input_dense.kernel) + np.array(layer.input_dense.bias)
    h = h / (1 + np.exp(-h))
    u, v, shared = h[0, :, :4], h[0, :, 4:8], h[0, :, 8:]
    scores = shared @ shared.T / 2**0.5 * np.log(18) / np.log(512) + bias[0, 0]
    expected = (u * (softmax(scores) @ v)) @ np.array(layer.output_dense.kernel)
    np.testing.assert_allclose(y[0], expected, atol=1e-5)


@pytest.mark.parametrize("wrong", [-1, 5])
@pytest.mark.parametrize("kind", [L.TokenEmbedding, L.PositionEmbedding])
def test_ids_without_a_vector(kind, wrong):
    """On JAX and PyTorch -1 is the last row, on JAX an id beyond is NaN, under XLA the last row."""
    layer = kind(5, 3)
    ids = np.array([[1, wrong, 4]])
    arguments = [randn(1, 3, 3)] if kind is L.PositionEmbedding else []
    with pytest.raises(
        ValueError, match=rf"expected 0 to 4, got {min(wrong, 1)} to {max(wrong, 4)}"
    ):
        layer(*arguments, ids)
    inputs = keras.Input((3,), dtype="int32")
    x = [inputs] if not arguments else [keras.ops.zeros_like(inputs[..., None], "float32"), inputs]
    model = keras.Model(inputs, layer(*x))
    model.compile(jit_compile=keras.backend.backend() != "torch")
    if keras.backend.backend() == "torch":  # whose programs are eager
        with pytest.raises(ValueError, match="expected 0 to 4"):
            model.predict(ids, verbose=0)
        return
    found = model.predict(ids, verbose=0)
    np.testing.assert_array_equal(np.isnan(found[0]).all(-1), [False, True, False])
    assert np.isfinite(found[0, [0, 2]]).all()


def test_ids_of_8_bits_in_a_large_table():
    layer = L.TokenEmbedding(400, 4)
    ids = np.array([[1, 200, 255]], "uint8")
    found, expected = (ops.convert_to_numpy(layer(x)) for x in (ids, ids.astype("int32")))
    np.testing.assert_array_equal(found, expected)


def test_ids_out_of_range_of_a_quantized_table():
    ids = keras.Input((None,), dtype="int32")
    model = keras.Model(ids, L.TokenEmbedding(20, 4)(ids))
    model.quantize("int8")
    with pytest.raises(ValueError, match="ids without a vector; expected 0 to 19, got -3 to 1"):
        model(np.array([[-3, 1]]))
