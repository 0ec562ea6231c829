"""Each loss against its formula in NumPy, with gradients, edge cases, in Keras' training."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from bert4keras_lite import losses as L
from bert4keras_lite.layers import Loss


def randn(*shape, seed=0, scale=1.0):
    return (scale * np.random.RandomState(seed).standard_normal(shape)).astype("float32")


def value_and_gradients(function, *arrays):
    """Of the sum of what a function gives, by the backend's own differentiation, compiled."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        @tf.function(jit_compile=True)
        def both(*tensors):
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                value = function(*tensors)
                total = tf.reduce_sum(value)
            return value, tape.gradient(total, tensors)

        value, gradients = both(*map(tf.constant, arrays))
    elif backend == "jax":
        import jax

        def total(*tensors):
            value = function(*tensors)
            return value.sum(), value

        places = tuple(range(len(arrays)))
        both = jax.jit(jax.value_and_grad(total, places, has_aux=True))
        (_, value), gradients = both(*arrays)
    else:
        import torch

        tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
        value = function(*tensors)
        value.sum().backward()
        gradients = [tensor.grad for tensor in tensors]
    return ops.convert_to_numpy(value), [ops.convert_to_numpy(g) for g in gradients]


def slopes(function, x, step=1e-5):
    """The gradient of the sum of what a NumPy function gives, by differences."""
    x, result = x.astype("float64"), np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        either = [x.copy(), x.copy()]
        either[0][place] += step
        either[1][place] -= step
        result[place] = (np.sum(function(either[0])) - np.sum(function(either[1]))) / (2 * step)
    return result


# ---------------------------------------------------------------- the formulas


def log_softmax(scores):
    return scores - np.logaddexp.reduce(scores, axis=-1, keepdims=True)


def each(y_true, scores, formula):
    """A formula of label and log probabilities, for each label that is not -1."""
    losses = np.zeros(y_true.shape)
    for place in np.ndindex(y_true.shape):
        if y_true[place] >= 0:
            losses[place] = formula(y_true[place], log_softmax(scores[place]))
    return losses


def crossentropy(y_true, scores):
    return each(y_true, scores, lambda label, logs: -logs[label])


def smoothed(y_true, scores):
    return each(y_true, scores, lambda label, logs: -0.9 * logs[label] - 0.1 * logs.mean())


def focal(y_true, scores):
    return each(y_true, scores, lambda label, logs: -((1 - np.exp(logs[label])) ** 2) * logs[label])


def two_class(y_true, scores):
    return crossentropy(y_true, np.stack([np.zeros_like(scores), scores], -1))


def multilabel(y_true, scores):
    """log(1 + sum (1 - y) e^s) + log(1 + sum y e^-s), https://kexue.fm/archives/9064."""
    y_true, counted = np.maximum(y_true, 0), y_true >= 0
    negative = (counted * (1 - y_true) * np.exp(scores)).sum(-1)
    positive = (counted * y_true * np.exp(-scores)).sum(-1)
    return np.log1p(negative) + np.log1p(positive)


def dense(ids, classes, first=0):
    """Ids of classes as a row of 0 and 1."""
    rows = np.zeros((*ids.shape[:-1], classes))
    for place in np.ndindex(ids.shape):
        if ids[place] >= first:
            rows[(*place[:-1], ids[place])] = 1
    return rows


def cosines(vectors):
    vectors = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors[::2] * vectors[1::2]).sum(-1)


def cosent(labels, similar):
    total = 1.0
    for i in range(len(labels)):
        for j in range(len(labels)):
            if labels[i] > labels[j]:
                total += np.exp(20.0 * (similar[j] - similar[i]))
    return np.log(total)


def info_nce(keys, vectors):
    keys, vectors = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (keys, vectors))
    return np.array([-log_softmax(keys @ v / 0.05)[i] for i, v in enumerate(vectors)])


LABELS = np.array([[1, 0, -1, 3], [-1, -1, -1, -1], [2, 2, 0, 1]])
MANY = np.random.RandomState(3).randint(0, 2, (3, 2, 5))
IDS = np.array([[4, 1, -1], [-1, -1, -1], [0, 1, 2]])
FROM_1 = np.array([[4, 1, 0], [0, 0, 0], [3, 1, 2]])
ALIKE = np.array([0.0, 3.0, 3.0, 1.0])

# name -> loss, its formula, y_true, y_pred
CASES = {
    "crossentropy": (L.sequence_crossentropy, crossentropy, LABELS, randn(3, 4, 5)),
    "large scores": (L.sequence_crossentropy, crossentropy, LABELS, randn(3, 4, 5, scale=300)),
    "texts": (L.sequence_crossentropy, crossentropy, LABELS[0], randn(4, 5)),
    "two classes": (L.sequence_crossentropy, two_class, np.minimum(LABELS, 1), randn(3, 4)),
    "smoothed": (L.label_smoothed, smoothed, LABELS, randn(3, 4, 5)),
    "focal": (L.focal, focal, LABELS, randn(3, 4, 5, scale=2)),
    "multilabel": (L.multilabel_categorical_crossentropy, multilabel, MANY, randn(3, 2, 5)),
    "all labels": (
        L.multilabel_categorical_crossentropy,
        multilabel,
        np.array([[1, 1, 1], [0, 0, 0], [-1, -1, -1], [-1, 1, 0]]),
        randn(4, 3),
    ),
    "soft labels": (
        L.multilabel_categorical_crossentropy,
        multilabel,
        np.random.RandomState(4).uniform(size=(3, 5)).astype("float32"),
        randn(3, 5),
    ),
    "sparse": (
        L.sparse_multilabel_categorical_crossentropy,
        lambda ids, scores: multilabel(dense(ids, 6), scores),
        IDS,
        randn(3, 6),
    ),
    "sparse, all positive": (
        L.sparse_multilabel_categorical_crossentropy,
        lambda ids, scores: multilabel(dense(ids, 3), scores),
        np.array([[[2, 0, 1]]]),
        randn(1, 1, 3),
    ),
    "sparse from 1": (
        lambda y, s: L.sparse_multilabel_categorical_crossentropy(y, s, mask_zero=True),
        lambda ids, scores: multilabel(dense(ids, 6, first=1)[..., 1:], scores[..., 1:]),
        FROM_1,
        randn(3, 6),
    ),
    "cosent": (L.cosent, cosent, ALIKE, randn(4, scale=0.3)),
    "cosent of vectors": (
        L.cosent,
        lambda labels, vectors: cosent(labels[::2, 0], cosines(vectors)),
        np.repeat(ALIKE, 2)[:, None],
        randn(8, 6),
    ),
    "cosent, one pair": (L.cosent, cosent, ALIKE[:1], randn(1)),
    "cosent, nothing to order": (L.cosent, cosent, np.ones(3), randn(3)),
    "info_nce": (L.info_nce, info_nce, randn(4, 6, seed=1), randn(4, 6)),
    "hard negatives": (L.info_nce, info_nce, randn(8, 6, seed=1), randn(4, 6)),
    "simcse": (
        L.simcse,
        lambda _, vectors: info_nce(vectors[1::2], vectors[::2]),
        np.zeros((8, 1)),
        randn(8, 6),
    ),
    "simcse, one text": (
        L.simcse,
        lambda _, vectors: info_nce(vectors[1::2], vectors[::2]),
        np.zeros((2, 1)),
        randn(2, 6),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient(name):
    loss, formula, y_true, y_pred = CASES[name]
    labels = ops.convert_to_tensor(y_true)
    value, (gradient,) = value_and_gradients(lambda scores: loss(labels, scores), y_pred)
    expected = formula(y_true, y_pred.astype("float64"))
    assert value.shape == np.shape(expected) and value.dtype == np.float32
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)
    expected = slopes(lambda scores: formula(y_true, scores), y_pred)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", CASES)
def test_half_precision_scores_lose_nothing_more(name, dtype):
    loss, _, y_true, y_pred = CASES[name]
    rounded = ops.cast(y_pred, dtype)
    value = ops.convert_to_numpy(loss(y_true, rounded))
    expected = ops.convert_to_numpy(loss(y_true, ops.cast(rounded, "float32")))
    assert value.dtype == np.float32 and np.isfinite(value).all()
    np.testing.assert_array_equal(value, expected)


# ---------------------------------------------------------------- what each promises


def test_weights_and_the_mean_over_what_counts():
    scores = randn(3, 4, 5)
    weights = np.array([[1, 1, 1, 0], [1, 1, 1, 1], [0, 0.5, 2, 1]], "float32")
    losses = ops.convert_to_numpy(L.sequence_crossentropy(LABELS, scores, weights))
    np.testing.assert_allclose(losses, weights * crossentropy(LABELS, scores), rtol=1e-5)
    mean = ops.convert_to_numpy(L.masked_mean(losses, LABELS >= 0))
    np.testing.assert_allclose(mean, losses.sum() / 7, rtol=1e-6)
    assert ops.convert_to_numpy(L.masked_mean(losses, LABELS > 9)) == 0
    np.testing.assert_allclose(
        ops.convert_to_numpy(L.masked_mean(losses)), losses.mean(), rtol=1e-6
    )


def test_focal_options():
    scores = randn(3, 4, 5)
    plain, weighted = (
        ops.convert_to_numpy(L.focal(LABELS, scores, gamma=0, alpha=alpha))
        for alpha in (None, [1.0, 2.0, 3.0, 4.0, 5.0])
    )
    np.testing.assert_allclose(plain, crossentropy(LABELS, scores), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(weighted, plain * (1 + LABELS), rtol=1e-5)


def test_focal_of_a_sure_prediction():
    """1 - p is 5e-18 here, which float32 cannot tell from 0 but by way of the other class."""
    scores = np.array([[40.0, 0.0]], "float32")
    expected = np.exp(-40.0) ** 1.5
    value = ops.convert_to_numpy(L.focal(np.array([0]), scores, gamma=0.5))
    # log p itself rounds to 0
    np.testing.assert_allclose(value, [expected], atol=1e-12)
    wrong, (slope,) = value_and_gradients(lambda s: L.focal(np.array([1]), s), scores)
    np.testing.assert_allclose(wrong, [40.0], rtol=1e-6)
    np.testing.assert_allclose(slope, [[1.0, -1.0]], rtol=1e-5)


@given(st.data())
@settings(max_examples=25)
def test_sparse_is_dense(data):
    """The same loss from ids as from 0 and 1, for whatever scores, repeated ids included."""
    classes = 4
    ids = data.draw(st.lists(st.integers(-1, classes - 1), min_size=4, max_size=4))
    scores = data.draw(st.lists(st.floats(-40, 40, width=32), min_size=classes, max_size=classes))
    ids, scores = np.array([ids]), np.array([scores], "float32")
    sparse = ops.convert_to_numpy(L.sparse_multilabel_categorical_crossentropy(ids, scores))
    other = L.multilabel_categorical_crossentropy(dense(ids, classes), scores)
    np.testing.assert_allclose(sparse, ops.convert_to_numpy(other), rtol=1e-5, atol=1e-6)


def test_negatives_are_not_lost_beside_large_positives():
    """bert4keras 0.11.5 gives 8.88 for both, and a gradient that lowers the positive score."""
    for negative in (-30.0, 3.0):
        scores = np.array([[25.0, negative]], "float32")
        value, (gradient,) = value_and_gradients(
            lambda s: L.sparse_multilabel_categorical_crossentropy(np.array([[0]]), s), scores
        )
        np.testing.assert_allclose(value, [np.log1p(np.exp(negative))], atol=1e-6)
        np.testing.assert_allclose(gradient[0, 1], 1 / (1 + np.exp(-negative)), rtol=1e-4)


@pytest.mark.parametrize("hidden", [-np.inf, -1e12, -6e4])
def test_hidden_classes_do_not_count(hidden):
    """As `GlobalPointer` hides them: with minus infinity, or a large finite number."""
    y_true, scores = MANY.astype("float32"), randn(3, 2, 5)
    scores[..., 3], y_true[..., 3] = hidden, 0
    value, (gradient,) = value_and_gradients(
        lambda s: L.multilabel_categorical_crossentropy(y_true, s), scores
    )
    rest = [0, 1, 2, 4]
    np.testing.assert_allclose(value, multilabel(y_true[..., rest], scores[..., rest]), rtol=1e-5)
    assert (gradient[..., 3] == 0).all() and np.isfinite(gradient).all()


def test_electra():
    labels = np.array([[-1, 3, -1], [2, -1, -1]])
    replaced = np.array([[0, 1, 0], [1, 0, -1]])
    scores, found = randn(2, 3, 5), randn(2, 3, 1, seed=1)
    value = L.electra_loss((labels, replaced), (scores, found))
    expected = crossentropy(labels, scores).sum() / 2
    sigmoid = 1 / (1 + np.exp(-found[..., 0]))
    each = -np.log(np.where(replaced == 1, sigmoid, 1 - sigmoid))
    expected += 50 * each[replaced >= 0].mean()
    np.testing.assert_allclose(ops.convert_to_numpy(value), expected, rtol=1e-5)


# ---------------------------------------------------------------- large vocabularies


@pytest.mark.parametrize(("classes", "chunk"), [(10, 10), (10, 4), (10, 64)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_projected_in_chunks(classes, chunk, with_bias):
    labels = np.array([[1, 9, -1, 3], [-1, -1, -1, -1], [2, 2, 0, 1]])
    weights = np.array([[1.0, 0.0, 2.0, 1.0]], "float32")
    arrays = [randn(3, 4, 6), randn(classes, 6, seed=1), *[randn(classes, seed=2)] * with_bias]

    def plain(x, table, bias=0.0):
        scores = ops.matmul(x, ops.transpose(table)) + bias
        return L.sequence_crossentropy(labels, scores, weights)

    def in_chunks(*arguments):
        x, table, bias = (*arguments, None)[:3]
        return L.projected_crossentropy(labels, x, table, bias, weights, chunk=chunk)

    expected, expected_gradients = value_and_gradients(plain, *arrays)
    value, gradients = value_and_gradients(in_chunks, *arrays)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    for gradient, golden in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, golden, rtol=1e-4, atol=1e-6)


def test_projected_in_half_precision():
    labels, x, table = np.array([1, 9, -1, 3]), randn(4, 6), randn(10, 6, seed=1)

    def half(x, table):
        return L.projected_crossentropy(labels, ops.cast(x, "bfloat16"), table, chunk=4)

    value, gradients = value_and_gradients(half, x, table)
    exact, exact_gradients = value_and_gradients(
        lambda x, table: L.projected_crossentropy(labels, x, table, chunk=4), x, table
    )
    np.testing.assert_allclose(value, exact, atol=0.03)
    for gradient, golden in zip(gradients, exact_gradients, strict=True):
        np.testing.assert_allclose(gradient, golden, atol=0.03)


def largest_tensor(function, *arrays):
    """How many numbers the largest tensor holds that value and gradients are computed with."""
    backend = keras.backend.backend()
    sizes = [0]
    if backend == "torch":
        from torch.utils._python_dispatch import TorchDispatchMode

        class Sizes(TorchDispatchMode):
            def __torch_dispatch__(self, function, types, args=(), kwargs=None):
                result = function(*args, **(kwargs or {}))
                flat = keras.tree.flatten(result)
                sizes.extend(x.numel() for x in flat if hasattr(x, "numel"))
                return result

        with Sizes():
            value_and_gradients(function, *arrays)
    elif backend == "jax":
        import jax

        def is_program(x):
            return hasattr(x, "jaxpr") or hasattr(x, "eqns")

        def visit(jaxpr):
            for equation in jaxpr.eqns:
                sizes.extend(getattr(v.aval, "size", 0) for v in equation.outvars)
                for inner in jax.tree.leaves(equation.params, is_leaf=is_program):
                    if is_program(inner):
                        visit(getattr(inner, "jaxpr", inner))

        places = tuple(range(len(arrays)))
        visit(jax.make_jaxpr(jax.grad(lambda *x: function(*x).sum(), places))(*arrays).jaxpr)
    else:
        import tensorflow as tf

        @tf.function
        def both(*tensors):
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                value = tf.reduce_sum(function(*tensors))
            return tape.gradient(value, tensors)

        graph = both.get_concrete_function(*map(tf.constant, arrays)).graph
        graph = graph.as_graph_def(add_shapes=True)
        loops = [node for function in graph.library.function for node in function.node_def]
        for node in [*graph.node, *loops]:
            for shape in node.attr["_output_shapes"].list.shape:
                sizes.append(np.prod([max(d.size, 0) for d in shape.dim]))
    return max(sizes)


def test_scores_of_the_whole_vocabulary_are_never_held():
    tokens, classes, dim, chunk = 60, 90, 4, 10
    x, table, labels = randn(tokens, dim), randn(classes, dim, seed=1), np.arange(tokens)

    def in_chunks(x, table):
        return L.projected_crossentropy(labels, x, table, chunk=chunk)

    def plain(x, table):
        return L.sequence_crossentropy(labels, ops.matmul(x, ops.transpose(table)))

    assert largest_tensor(plain, x, table) == tokens * classes
    assert largest_tensor(in_chunks, x, table) == tokens * chunk


# ---------------------------------------------------------------- inside Keras


def test_fit_averages_over_what_counts(tmp_path):
    """Padded labels, implicit masks and weights of samples: the mean Keras reports."""
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(9, 5, mask_zero=True)(ids)
    model = keras.Model(ids, x)
    model.compile("sgd", L.sequence_crossentropy)
    model.optimizer.build(model.trainable_variables)
    data = np.array([[1, 2, 3, 0], [4, 0, 0, 0], [5, 6, 7, 8]])
    labels = np.array([[1, -1, 2, -1], [3, -1, -1, -1], [0, 4, 4, -1]])
    each = crossentropy(labels, model.predict(data, verbose=0))
    counted = (labels >= 0).sum()
    loss = model.evaluate(data, labels, verbose=0, batch_size=3)
    np.testing.assert_allclose(loss, each.sum() / counted, rtol=1e-5)
    weights = np.repeat([[1.0], [0.0], [3.0]], 4, axis=1)
    loss = model.evaluate(data, labels, sample_weight=weights, verbose=0, batch_size=3)
    np.testing.assert_allclose(loss, (each * weights).sum() / counted, rtol=1e-5)


def test_as_many_classes_as_there_are_tokens():
    """The ids of positions, or pairs of them, in texts of any length."""
    ids = keras.Input((None,), dtype="int32")
    model = keras.Model(ids, keras.layers.Embedding(9, 2)(ids))

    def loss(y_true, y_pred):
        scores = ops.reshape(y_pred, (ops.shape(y_pred)[0], -1))
        return L.sparse_multilabel_categorical_crossentropy(y_true, scores)

    model.compile("sgd", loss)
    model.optimizer.build(model.trainable_variables)
    for length in (4, 5):
        inputs = np.arange(3 * length).reshape(3, length) % 9
        targets = np.array([[1, -1], [0, 7], [-1, -1]])
        scores = model.predict(inputs, verbose=0).reshape(3, -1)
        expected = multilabel(dense(targets, 2 * length), scores).mean()
        np.testing.assert_allclose(model.train_on_batch(inputs, targets), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (L.sequence_crossentropy, np.array([0, 2, -1, 1])),
        (L.label_smoothed, np.array([[0], [2], [-1], [1]])),
        (L.focal, np.array([0, 2, -1, 1])),
        (L.multilabel_categorical_crossentropy, MANY[:2].reshape(4, 5)[:, :3]),
        (
            L.sparse_multilabel_categorical_crossentropy,
            np.array([[0, 1], [2, -1], [-1] * 2, [1, 0]]),
        ),
        (L.cosent, np.repeat(ALIKE, 2)),
        (L.simcse, np.zeros(4)),
        (L.info_nce, randn(4, 3, seed=5)),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_trained_with_and_kept_in_a_file(loss, targets, tmp_path):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    model.compile(keras.optimizers.SGD(0.001), loss)
    model.optimizer.build(model.trainable_variables)
    inputs = randn(len(targets), 6)
    first = model.train_on_batch(inputs, targets)
    assert model.evaluate(inputs, targets, verbose=0) < first
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        again.evaluate(inputs, targets, verbose=0), model.evaluate(inputs, targets, verbose=0)
    )


@pytest.mark.parametrize(
    "loss",
    [
        L.sequence_crossentropy,
        L.label_smoothed,
        L.focal,
        L.sparse_multilabel_categorical_crossentropy,
    ],
)
def test_a_label_beyond_the_classes(loss):
    targets, scores = np.array([[3], [1]]), randn(2, 3)
    with pytest.raises(ValueError, match=r"y_true: .* expected at most 2, got 1 to 3"):
        loss(targets, scores)
    with pytest.raises(
        ValueError, match=r"y_true: labels that are not whole numbers; expected ids, got 0\.5 to 1"
    ):
        loss(np.array([[0.5], [1.0]]), scores)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    model.compile("sgd", loss, jit_compile=keras.backend.backend() != "torch")
    if keras.backend.backend() == "torch":  # whose steps are eager
        with pytest.raises(ValueError, match="expected at most 2"):
            model.test_on_batch(scores, targets)
    else:
        assert np.isnan(model.test_on_batch(scores, targets))


def test_a_label_beyond_the_table():
    with pytest.raises(ValueError, match=r"y_true: .* expected at most 2, got 1 to 3"):
        L.projected_crossentropy(np.array([1, 3]), randn(2, 4), randn(3, 4), chunk=2)


def test_logits_that_are_not_numbers():
    scores = randn(2, 3)
    scores[0, 1] = np.nan
    found = ops.convert_to_numpy(L.multilabel_categorical_crossentropy(np.eye(3)[:2], scores))
    assert np.isnan(found).tolist() == [True, False]


TOKENS, CLASSES = np.zeros((4, 4), int), randn(4, 4, 5)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            lambda: L.sequence_crossentropy(TOKENS[:, :1], CLASSES),
            r"y_true: .* \(4, 4\), got \(4, 1",
        ),
        (lambda: L.sequence_crossentropy(TOKENS[0], CLASSES), r"y_true: .* \(4, 4\), got \(4,\)"),
        (lambda: L.label_smoothed(TOKENS[:1], CLASSES), r"y_true: .* \(4, 4\), got \(1, 4\)"),
        (
            lambda: L.sequence_crossentropy(TOKENS, CLASSES, TOKENS[0]),
            r"weights: .* \(4, 4\), got \(4,\)",
        ),
        (lambda: L.masked_mean(TOKENS, TOKENS[0]), r"counted: .* \(4, 4\), got \(4,\)"),
        (lambda: L.masked_mean(TOKENS, TOKENS[:, :1]), r"counted: .* \(4, 4\), got \(4, 1\)"),
        (lambda: L.focal(TOKENS, CLASSES, alpha=[1.0, 2.0]), r"alpha: .* \(5,\), got \(2,\)"),
        (lambda: L.focal(TOKENS, CLASSES, alpha=[1.0] * 4 + [-1.0]), "alpha=-1.0: expected"),
        (lambda: L.focal(TOKENS, CLASSES, gamma=-1), "gamma=-1: expected a number from 0"),
        (lambda: L.label_smoothed(TOKENS, CLASSES, smoothing=10), "smoothing=10: expected"),
        (
            lambda: L.multilabel_categorical_crossentropy(MANY[:1], randn(3, 2, 5)),
            r"y_true: .* \(1, 2, 5",
        ),
        (
            lambda: L.sparse_multilabel_categorical_crossentropy(IDS[:1], randn(2, 6)),
            r"y_true: .* \(2, 3\), got \(1, 3\)",
        ),
        (lambda: L.cosent(ALIKE[:1], randn(4)), r"y_true: .* \(4,\), got \(1,\)"),
        (lambda: L.cosent(ALIKE[:3], randn(3, 6)), "y_pred: 3 vectors; expected an even number"),
        (lambda: L.cosent(np.array([0.0, np.nan]), randn(2)), "y_true: some labels are NaN"),
        (lambda: L.cosent(ALIKE, randn(4), scale=-1), "scale=-1: expected a number from"),
        (lambda: L.info_nce(randn(3, 6), randn(4, 6)), "y_true: 3 keys for 4 vectors"),
        (lambda: L.info_nce(randn(4, 6), randn(4, 6), temperature=0), "temperature=0: expected"),
        (lambda: L.simcse(None, randn(5, 6)), "y_pred: 5 vectors; expected an even number"),
        (lambda: L.electra_loss((), (), weight=-50), "weight=-50: expected a number from 0"),
        (
            lambda: L.projected_crossentropy(TOKENS[0], randn(4, 6), randn(5, 6), chunk=-1),
            "chunk=-1: expected a whole number from 1",
        ),
        (
            lambda: L.projected_crossentropy(TOKENS[:, :1], randn(4, 4, 6), randn(5, 6)),
            r"x: .* \(4, 1, 6\), got \(4, 4, 6\)",
        ),
        (
            lambda: L.projected_crossentropy(TOKENS[0], randn(4, 6), randn(5, 6), np.zeros(1)),
            r"bias: .* \(5,\), got \(1,\)",
        ),
    ],
)
def test_shapes_and_options_that_do_not_fit(loss, message):
    with pytest.raises(ValueError, match=message):
        loss()


def test_shapes_and_options_that_fit():
    each = ops.convert_to_numpy(L.sequence_crossentropy(TOKENS, CLASSES))
    weights = np.arange(4.0)[:, None]  # of texts
    found = L.sequence_crossentropy(TOKENS, CLASSES, weights)
    np.testing.assert_allclose(ops.convert_to_numpy(found), each * weights, rtol=1e-6)
    found = L.sequence_crossentropy(TOKENS[:, :1], CLASSES[:, 0], weights)
    np.testing.assert_allclose(ops.convert_to_numpy(found), each[:, 0] * weights[:, 0], rtol=1e-6)
    learned = keras.Variable(0.05)
    vectors = randn(4, 6)
    found, expected = (L.info_nce(vectors, vectors, t) for t in (ops.abs(learned), 0.05))
    np.testing.assert_allclose(*map(ops.convert_to_numpy, (found, expected)), rtol=1e-5)


def test_labels_that_are_not_numbers():
    labels = np.array([[np.nan, 0, 1], [0, 0, 1]])
    found = ops.convert_to_numpy(L.multilabel_categorical_crossentropy(labels, randn(2, 3)))
    assert np.isnan(found).tolist() == [True, False]


def test_shapes_that_are_not_known_yet():
    """In a graph, sizes are None, or what Keras puts in their place; a known one is compared."""
    labels, scores = keras.Input((None,), dtype="int32"), keras.Input((None, 5))
    both = {"token": labels, "text": keras.Input((1,), dtype="int32")}

    def mean(inputs):
        losses = L.sequence_crossentropy(*inputs, weights=inputs[0] >= 0)
        return L.masked_mean(losses, inputs[0] >= 0)

    layer = Loss(output_axis=1, function=mean)
    model = keras.Model([both["token"], scores], layer([both["token"], scores]))
    model.compile("sgd")
    loss = model.evaluate([TOKENS, CLASSES], verbose=0, batch_size=3)
    assert np.isfinite(loss)
    fixed = keras.Input((4, 5))
    with pytest.raises(ValueError, match="y_true: expected the shape"):
        Loss(function=mean)([both["text"], fixed])


def test_an_odd_number_of_vectors_in_a_program():
    """Their number is not known there: on TensorFlow it ends in NaN or its own error."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    compiled = keras.backend.backend() != "torch"
    model.compile("sgd", L.simcse, jit_compile=compiled)
    try:
        assert np.isnan(model.evaluate(randn(5, 3), np.zeros(5), verbose=0))
    except ValueError as error:
        assert "y_pred: 5 vectors" in str(error)
