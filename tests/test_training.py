"""Training methods against plain Keras, and NumPy on models small enough to differentiate."""

import keras
import numpy as np
import pytest
from keras import ops
from running import long_but

from bert4keras_lite import build_transformer_model, training
from bert4keras_lite.data import Batches
from bert4keras_lite.losses import simcse
from bert4keras_lite.training.kl import divergence_of
from bert4keras_lite.training.theseus import ModuleReplacement

BACKEND = keras.backend.backend()
VOCABULARY, DIM, CLASSES, ROWS, LENGTH = 7, 3, 4, 5, 6
RATE = 0.1
TINY = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position": 8,
    "dropout_rate": 0.0,
}


# A model of two matrices, in Keras and in NumPy


class TiedMean(keras.layers.Layer):
    """Mean token vector, scored against the same vectors."""

    def build(self, shape):
        self.embeddings = self.add_weight(shape=(VOCABULARY, DIM), name="embeddings")

    def call(self, ids):
        mean = ops.mean(ops.take(self.embeddings, ids, axis=0), axis=1)
        return ops.matmul(mean, ops.transpose(self.embeddings))


def data():
    random = np.random.default_rng(1)
    ids = random.integers(0, VOCABULARY, (ROWS, LENGTH)).astype("int32")
    return ids, random.integers(0, CLASSES, ROWS).astype("int32")


def scores_model(dropout=0.0, layer=None, tied=False):
    ids = keras.Input((LENGTH,), dtype="int32")
    if tied:
        return keras.Model(ids, TiedMean(name="token_embedding")(ids))
    x = keras.layers.Embedding(VOCABULARY, DIM, "normal", name="token_embedding")(ids)
    x = keras.layers.GlobalAveragePooling1D()(x)
    x = keras.layers.Dropout(dropout)(x)
    x = keras.layers.Dense(CLASSES, use_bias=False, name="classifier")(x)
    model = keras.Model(ids, x if layer is None else layer(x))
    for variable in model.trainable_variables:
        variable.assign(np.random.default_rng(2).normal(size=variable.shape))
    return model


def compiled(model, optimizer=None, **options):
    options.setdefault("loss", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.compile(optimizer or keras.optimizers.SGD(RATE), **options)
    model.optimizer.build(model.trainable_variables)
    return model


def log_softmax(z):
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def scores(weights, ids):
    if len(weights) == 1:
        return weights[0][ids].mean(1) @ weights[0].T
    return weights[0][ids].mean(1) @ weights[1]


def cross_entropy(weights, ids, labels):
    return -log_softmax(scores(weights, ids))[np.arange(len(ids)), labels].mean()


def kl(p, q):
    """From scores, the mean over rows."""
    p, q = log_softmax(p), log_softmax(q)
    return (np.exp(p) * (p - q)).sum(-1).mean()


def derivative(function, arrays):
    """Central differences, in float64."""
    found = []
    for array in arrays:
        slope = np.zeros_like(array)
        for i in np.ndindex(array.shape):
            sides = []
            for step in (1e-5, -2e-5):
                array[i] += step
                sides.append(function(arrays))
            array[i] += 1e-5
            slope[i] = (sides[0] - sides[1]) / 2e-5
        found.append(slope)
    return found


def weights_of(model):
    return [ops.convert_to_numpy(v).astype("float64") for v in model.trainable_variables]


def one_step(model, x, y):
    """The loss Keras shows, and the gradients that one step of SGD took."""
    before = weights_of(model)
    loss = model.train_on_batch(x, y, return_dict=True)["loss"]
    after = weights_of(model)
    return float(loss), [(a - b) / RATE for a, b in zip(before, after, strict=True)]


def unit(x):
    return x / np.sqrt((x**2).sum())


def moved(weights, by):
    return [weights[0] + by, *weights[1:]]


def slope_of_embeddings(function, weights):
    return derivative(lambda table: function([*table, *weights[1:]]), [weights[0].copy()])[0]


def assert_step(model, x, y, loss, gradients):
    found, taken = one_step(model, x, y)
    assert found == pytest.approx(loss, rel=1e-5)
    for a, b in zip(taken, gradients, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("clean", [True, False], ids=["clean", "adversarial-only"])
@pytest.mark.parametrize("steps", [1, 3])
def test_adversarial_training_by_hand(steps, clean, tied):
    ids, labels = data()
    model = compiled(scores_model(tied=tied))
    epsilon, step_size = 0.9, 0.4
    if steps == 1:
        training.adversarial_training(model, "token_embedding", epsilon, clean)
        step_size = epsilon
    else:
        training.projected_adversarial_training(
            model, "token_embedding", epsilon, step_size, steps, clean
        )

    def loss(weights):
        return cross_entropy(weights, ids, labels)

    weights = weights_of(model)
    delta = np.zeros_like(weights[0])
    for _ in range(steps):
        delta = delta + step_size * unit(slope_of_embeddings(loss, moved(weights, delta)))
        norm = np.sqrt((delta**2).sum())
        delta *= min(1, epsilon / norm)
    assert steps == 1 or norm > epsilon  # projected at the last step at least
    value, gradients = loss(moved(weights, delta)), derivative(loss, moved(weights, delta))
    if clean:
        value += loss(weights)
        gradients = [a + b for a, b in zip(gradients, derivative(loss, weights), strict=True)]
    assert_step(model, ids, labels, value, gradients)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_gradient_penalty_is_of_second_order(tied):
    ids, labels = data()
    model = compiled(scores_model(tied=tied))
    training.gradient_penalty(model, "token_embedding", weight=3.0)

    def slope(weights):
        """Of the cross entropy by the embeddings, by hand."""
        change = np.exp(log_softmax(scores(weights, ids)))
        change[np.arange(ROWS), labels] -= 1
        change /= ROWS
        found = np.zeros_like(weights[0])
        np.add.at(found, ids, (change @ (weights[0] if tied else weights[1].T))[:, None] / LENGTH)
        return found + (change.T @ weights[0][ids].mean(1) if tied else 0)

    weights = weights_of(model)
    by_differences = slope_of_embeddings(lambda w: cross_entropy(w, ids, labels), weights)
    np.testing.assert_allclose(slope(weights), by_differences, atol=1e-8)

    def loss(weights):
        return cross_entropy(weights, ids, labels) + 0.5 * 3.0 * (slope(weights) ** 2).sum()

    assert_step(model, ids, labels, loss(weights), derivative(loss, weights))


@pytest.mark.parametrize("unlabelled", [False, True], ids=["labelled", "unlabelled"])
def test_virtual_adversarial_training_by_hand(unlabelled):
    ids, labels = data()
    texts = np.random.default_rng(3).integers(0, VOCABULARY, (9, LENGTH)).astype("int32")
    model = compiled(scores_model())
    training.virtual_adversarial_training(
        model,
        "token_embedding",
        texts if unlabelled else None,
        batch_size=4,
        epsilon=0.8,
        weight=2.0,
        xi=0.5,
        iterations=2,
    )
    seed = keras.random.SeedGenerator(0)
    seed.state.assign(ops.convert_to_numpy(model.virtual_adversarial_seed.state))
    weights = weights_of(model)
    direction = ops.convert_to_numpy(keras.random.normal(weights[0].shape, seed=seed))
    x = texts[ops.convert_to_numpy(keras.random.randint((4,), 0, 9, seed=seed))]
    x = x if unlabelled else ids
    clean = scores(weights, x)

    def difference(weights):
        return kl(clean, scores(weights, x))

    for _ in range(2):
        direction = slope_of_embeddings(difference, moved(weights, 0.5 * unit(direction)))
    worst = 0.8 * unit(direction)

    def loss(weights):
        return cross_entropy(weights, ids, labels) + 2.0 * difference(moved(weights, worst))

    assert difference(moved(weights, worst)) > 1e-3
    assert_step(model, ids, labels, loss(weights), derivative(loss, weights))


class Alternate(keras.layers.Layer):
    """In training, halves every second row: a dropout that one can foresee."""

    def call(self, x, training=False):
        if not training:
            return x
        return ops.reshape(
            ops.reshape(x, (-1, 2, CLASSES)) * ops.convert_to_tensor([[1.0], [0.5]]),
            (-1, CLASSES),
        )


def test_r_drop_by_hand():
    ids, labels = data()
    model = compiled(scores_model(layer=Alternate()), metrics=["accuracy"])
    training.r_drop(model, weight=4.0)

    def loss(weights):
        p = scores(weights, ids)
        q = p / 2
        likely = [log_softmax(z)[np.arange(ROWS), labels].mean() for z in (p, q)]
        return -np.mean(likely) + 4.0 * (kl(p, q) + kl(q, p)) / 2

    weights = weights_of(model)
    assert_step(model, ids, labels, loss(weights), derivative(loss, weights))


def test_r_drop_masks_and_weighs_the_divergence():
    """Padding and sample weights count as they do in a loss."""
    ids, _ = data()
    ids = np.where(np.arange(LENGTH) < [[6], [4], [5], [1], [3]], np.maximum(ids, 1), 0)
    labels = np.random.default_rng(4).integers(0, CLASSES, ids.shape)
    weight = np.array([1, 2, 0, 1, 3], "float32")[:, None] * np.ones(ids.shape, "float32")
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = keras.layers.Embedding(VOCABULARY, DIM, "normal", mask_zero=True)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(CLASSES)(x))

    def large_where_padded(p, q):
        """How far from 0 the first score is, and 100 more where Keras' mask should hide it."""
        return ops.abs(q[..., 0]) + 100 * ops.cast(ops.all(q == padding, axis=-1), q.dtype)

    before = model.get_weights()
    padding = ops.convert_to_numpy(model(np.zeros((1, LENGTH), "int32")))[0, 0]
    compiled(model)
    plain = model.evaluate(ids, labels, sample_weight=weight, verbose=0, batch_size=ROWS)
    compiled(model, loss=lambda y_true, y_pred: large_where_padded(None, y_pred))
    added = model.evaluate(ids, labels, sample_weight=weight, verbose=0, batch_size=ROWS)
    assert added < 50
    compiled(model)
    training.r_drop(model, weight=3.0, divergence=large_where_padded)
    loss = model.train_on_batch(ids, labels, sample_weight=weight)
    assert float(loss) == pytest.approx(plain + 3.0 * added, rel=1e-5)
    # weights go through several passes
    model.set_weights(before)
    training.adversarial_training(model, model.layers[1].name, 0.0)
    loss = model.train_on_batch(ids, labels, sample_weight=weight)
    assert float(loss) == pytest.approx(2 * (plain + 3.0 * added), rel=1e-5)


def test_dropout_pairs_are_neighbours():
    ids, labels = data()
    model = compiled(scores_model(dropout=0.5), loss=simcse)
    training.dropout_pairs(model)
    model.fit(ids, labels, batch_size=ROWS, verbose=0)
    seen = []

    def loss(y_true, y_pred):
        seen.append((y_true, y_pred))
        return simcse(y_true, y_pred)

    compiled(model, loss=loss, run_eagerly=True, jit_compile=False)
    if BACKEND != "jax":  # there, what is seen is a tracer
        model.train_on_batch(ids, labels)
        y_true, y_pred = (ops.convert_to_numpy(ops.stop_gradient(x)) for x in seen[-1])
        assert y_pred.shape == (2 * ROWS, CLASSES)
        assert (y_true.ravel()[::2] == y_true.ravel()[1::2]).all()
        assert not np.allclose(y_pred[::2], y_pred[1::2])


# Dropout


@pytest.mark.parametrize("method", ["fgm", "pgd", "vat"])
def test_all_passes_have_the_same_dropout(method):
    """Next to no perturbation gives next to no difference, whatever was dropped."""
    ids, labels = data()

    def trained(method):
        keras.utils.set_random_seed(5)
        model = compiled(scores_model(dropout=0.5))
        if method == "fgm":
            training.adversarial_training(model, "token_embedding", 1e-6)
        elif method == "pgd":
            training.projected_adversarial_training(model, "token_embedding", 1e-6, 1e-6, 2)
        elif method == "vat":
            training.virtual_adversarial_training(
                model, "token_embedding", epsilon=1e-6, weight=1e3
            )
        keras.utils.set_random_seed(6)
        return model.train_on_batch(ids, labels, return_dict=True)["loss"]

    factor = 1 if method == "vat" else 2
    assert float(trained(method)) == pytest.approx(factor * float(trained(None)), rel=1e-4)


def test_dropout_differs_between_steps():
    ids, labels = data()
    model = compiled(scores_model(dropout=0.5), keras.optimizers.SGD(0.0))
    training.adversarial_training(model, "token_embedding", 0.1)
    losses = {float(model.train_on_batch(ids, labels)) for _ in range(4)}
    assert len(losses) == 4


# As ever


def two_headed(policy="float32", **_):
    """Two outputs, dropout, batch statistics, a regularizer and an added loss."""
    ids = keras.Input((LENGTH,), dtype="int32", name="ids")
    x = keras.layers.Embedding(
        VOCABULARY, 8, name="token_embedding", embeddings_regularizer="l2", dtype=policy
    )(ids)
    x = keras.layers.Dropout(0.2, dtype=policy, seed=1)(x)
    x = keras.layers.GlobalAveragePooling1D(dtype=policy)(x)
    x = keras.layers.ActivityRegularization(l2=0.1, dtype="float32")(x)
    x = keras.layers.BatchNormalization(dtype=policy)(x)
    one = keras.layers.Dense(CLASSES, name="one", dtype="float32")(x)
    two = keras.layers.Dense(1, name="two", activation="sigmoid", dtype="float32")(x)
    model = keras.Model(ids, {"one": one, "two": two})
    if policy != "float32":
        model.dtype_policy = keras.DTypePolicy(policy)
    return model


LOSSES = {
    "one": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "two": "binary_crossentropy",
}
WAYS = {
    "plain": {},
    "eager": {"run_eagerly": True},
    "several steps": {"steps_per_execution": 2},
    "mixed": {"policy": "mixed_float16"},
}


def fitted(way, method=None, before=False):
    way = dict(way)
    keras.utils.set_random_seed(7)
    model = two_headed(policy=way.pop("policy", "float32"))
    if method and before:
        method(model)
    compiled(
        model,
        keras.optimizers.Adam(0.01),
        loss=LOSSES,
        loss_weights={"one": 1.0, "two": 0.5},
        metrics={"one": ["accuracy"]},
        weighted_metrics={"two": ["accuracy"]},
        **way,
    )
    if method and not before:
        method(model)
    random = np.random.default_rng(8)
    rows = 16 if BACKEND == "jax" else 22  # JAX compiles once more for a smaller last batch
    ids = random.integers(0, VOCABULARY, (rows, LENGTH)).astype("int32")
    labels = {"one": random.integers(0, CLASSES, rows), "two": random.integers(0, 2, (rows, 1))}
    weights = {"one": random.random(rows), "two": random.random(rows)}
    valid = (ids[:6], {k: v[:6] for k, v in labels.items()}) if not way else None
    history = model.fit(
        ids,
        labels,
        sample_weight=weights,
        validation_data=valid,
        batch_size=8,
        epochs=2,
        shuffle=False,
        verbose=0,
    ).history
    return model, history


def without_perturbation(model):
    training.adversarial_training(model, "token_embedding", epsilon=0.0, clean=False)


@pytest.mark.parametrize(
    "way",
    long_but(
        ["plain"], {"tensorflow": [*WAYS], "jax": ["plain"], "torch": ["plain", "mixed"]}[BACKEND]
    ),
)
def test_without_perturbation_training_is_keras_own(way):
    """Metrics, weights, several losses, added losses, state: all as without us."""
    plain, expected = fitted(WAYS[way])
    ours, history = fitted(WAYS[way], without_perturbation, before=way == "eager")
    assert history.keys() == expected.keys()
    tolerance = 2e-3 if way == "mixed" else 2e-5
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=tolerance, err_msg=name)
    for a, b in zip(plain.variables, ours.variables, strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(b), ops.convert_to_numpy(a), atol=tolerance, err_msg=a.path
        )
    assert way != "mixed" or isinstance(ours.optimizer, keras.optimizers.LossScaleOptimizer)


METHODS = {
    "virtual": lambda model: training.virtual_adversarial_training(
        model, "token_embedding", np.zeros((4, LENGTH), "int32"), batch_size=2
    ),
    "joined": lambda model: (
        training.r_drop(model),
        training.gradient_penalty(model, "token_embedding"),
        training.adversarial_training(model, "token_embedding"),
    ),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_fits(method, tmp_path):
    """In half precision with loss scaling; what is saved is the plain model."""
    model, history = fitted(WAYS["mixed"], METHODS[method])
    assert np.isfinite(list(history.values())).all()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.train_step.__self__ is again
    ids = data()[0]
    expected, found = (m.predict(ids, verbose=0) for m in (model, again))
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1e-6)
    plain = two_headed(**WAYS["mixed"])
    assert [w.shape for w in again.weights] == [w.shape for w in plain.weights]


@pytest.mark.long
@pytest.mark.skipif(BACKEND == "torch", reason="takes a C++ compiler")
def test_compiled_as_not():
    """With and without XLA the same."""
    ids, labels = data()
    found = []
    for jit_compile in (False, True):
        model = scores_model(layer=Alternate())
        compiled(model, jit_compile=jit_compile)
        METHODS["joined"](model)
        found.append(one_step(model, ids, labels))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    METHODS["virtual"](model)  # whose random numbers are others with TensorFlow's XLA
    assert np.isfinite(one_step(model, ids, labels)[0])


def test_loss_scaling_does_not_change_the_penalty():
    ids, labels = data()
    found = []
    for scale in (None, 1024.0):
        model = compiled(scores_model(), keras.optimizers.SGD(RATE, loss_scale_factor=scale))
        training.gradient_penalty(model, "token_embedding", 3.0)
        training.adversarial_training(model, "token_embedding", 0.5)
        found.append(one_step(model, ids, labels))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_frozen_embeddings_are_moved_and_not_trained():
    ids, labels = data()
    model = scores_model()
    model.get_layer("token_embedding").trainable = False
    compiled(model)
    training.adversarial_training(model, "token_embedding", 0.7, clean=False)
    table = ops.convert_to_numpy(model.get_layer("token_embedding").embeddings).astype("float64")
    (kernel,) = weights_of(model)

    def loss(weights):
        return cross_entropy(weights, ids, labels)

    slope = slope_of_embeddings(loss, [table, kernel])
    there = moved([table, kernel], 0.7 * unit(slope))
    assert_step(model, ids, labels, loss(there), derivative(loss, there)[1:])
    after = ops.convert_to_numpy(model.get_layer("token_embedding").embeddings)
    np.testing.assert_array_equal(after, table.astype("float32"))


def test_compiled_again_and_again():
    """Another loss, another method: nothing of the former step remains."""
    ids, labels = data()
    model = compiled(scores_model(), keras.optimizers.SGD(0.0))
    without_perturbation(model)
    first = float(model.train_on_batch(ids, labels))
    assert first == pytest.approx(cross_entropy(weights_of(model), ids, labels), rel=1e-5)
    labels = np.eye(CLASSES)[labels]
    compiled(model, keras.optimizers.SGD(0.0), loss="mse")
    second = float(model.train_on_batch(ids, labels))
    expected = ((scores(weights_of(model), ids) - labels) ** 2).mean()
    assert second == pytest.approx(expected, rel=1e-5)
    training.r_drop(model, 2.0, divergence=lambda p, q: p[..., 0] * 0 + 1)
    assert float(model.train_on_batch(ids, labels)) == pytest.approx(second + 2.0, rel=1e-5)


def test_class_weights_count():
    ids, labels = data()
    weight = {0: 1.0, 1: 2.0, 2: 0.5, 3: 3.0}
    model = compiled(scores_model(), keras.optimizers.SGD(0.0))
    without_perturbation(model)
    by_class = model.fit(ids, labels, class_weight=weight, verbose=0, batch_size=ROWS)
    each = [weight[label] for label in labels]
    by_row = compiled(scores_model()).evaluate(
        ids, labels, sample_weight=np.array(each), verbose=0, batch_size=ROWS
    )
    assert by_class.history["loss"][0] == pytest.approx(by_row, rel=1e-5)


def test_our_models_learn():
    random = np.random.default_rng(9)
    ids = random.integers(5, 20, (24, 8)).astype("int32")
    labels = (ids[:, 1] > 12).astype("int32")
    bert = build_transformer_model(num_hidden_layers=1, **TINY | {"dropout_rate": 0.1})
    model = keras.Model(bert.inputs, keras.layers.Dense(2)(bert.output[:, 0]))
    compiled(model, keras.optimizers.Adam(0.01))
    training.gradient_penalty(model, "token_embedding", 0.1)
    losses = model.fit([ids, ids * 0], labels, epochs=8, verbose=0, batch_size=24).history
    assert losses["loss"][-1] < losses["loss"][0]


# Errors


def test_unknown_names_are_listed():
    model = compiled(scores_model())
    with pytest.raises(ValueError, match=r"'tokens'.*model has: token_embedding\."):
        training.adversarial_training(model, "tokens")
    with pytest.raises(ValueError, match="build the model first"):
        training.gradient_penalty(keras.Sequential([keras.layers.Dense(2)]), "token_embedding")


def test_two_methods_for_one_place():
    model = compiled(scores_model())
    training.adversarial_training(model, "token_embedding")
    with pytest.raises(ValueError, match="already"):
        training.projected_adversarial_training(model, "token_embedding")
    with pytest.raises(ValueError, match="steps=0"):
        training.projected_adversarial_training(model, "token_embedding", steps=0)


def test_a_train_step_of_ones_own_is_left_alone():
    class Own(keras.Model):
        def train_step(self, *args):
            raise NotImplementedError

    ids = keras.Input((LENGTH,))
    with pytest.raises(ValueError, match="Own: the model has a custom train_step"):
        training.r_drop(Own(ids, keras.layers.Dense(1)(ids)))


def test_loss_that_does_not_tell_the_divergence():
    ids, labels = data()
    model = compiled(scores_model(), loss="mse")
    training.r_drop(model)
    with pytest.raises(ValueError, match="Pass divergence="):
        model.train_on_batch(ids, np.eye(CLASSES)[labels % CLASSES])


def test_unlabelled_arrays_of_different_length():
    with pytest.raises(ValueError, match=r"\[2, 3\] rows"):
        training.virtual_adversarial_training(
            compiled(scores_model()), "token_embedding", [np.zeros((2, 4)), np.zeros((3, 4))]
        )


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("sparse_categorical_crossentropy", training.kl_of_probabilities),
        (keras.losses.CategoricalCrossentropy(from_logits=True), training.kl_of_scores),
        (keras.losses.BinaryCrossentropy(), training.kl_of_binary_probabilities),
        (keras.losses.BinaryCrossentropy(from_logits=True), training.kl_of_binary_scores),
    ],
)
def test_divergence_of_keras_losses(loss, expected):
    assert divergence_of(loss) is expected


def test_divergences_agree():
    random = np.random.default_rng(0)
    p, q = random.normal(size=(2, 6, 3))
    sigmoid = 1 / (1 + np.exp(-np.stack([p, q])))

    def numpy(function, *args):
        return ops.convert_to_numpy(function(*(ops.convert_to_tensor(x, "float32") for x in args)))

    by_row = (np.exp(log_softmax(p)) * (log_softmax(p) - log_softmax(q))).sum(-1)
    np.testing.assert_allclose(numpy(training.kl_of_scores, p, q), by_row, rtol=1e-4)
    probabilities = np.exp(log_softmax(p)), np.exp(log_softmax(q))
    found = numpy(training.kl_of_probabilities, *probabilities)
    np.testing.assert_allclose(found, by_row, rtol=1e-4)
    a, b = sigmoid
    binary = (a * np.log(a / b) + (1 - a) * np.log((1 - a) / (1 - b))).mean(-1)
    np.testing.assert_allclose(numpy(training.kl_of_binary_scores, p, q), binary, rtol=1e-3)
    found = numpy(training.kl_of_binary_probabilities, a, b)
    np.testing.assert_allclose(found, binary, rtol=1e-3)


# BERT of Theseus


def pair(large, small, **options):
    return [
        build_transformer_model(
            num_hidden_layers=n, return_keras_model=False, **TINY, initializer_range=0.5, **options
        )
        for n in (large, small)
    ]


def inputs():
    ids = np.random.default_rng(0).integers(1, 20, (3, 5)).astype("int32")
    return [ids, ids * 0]


@pytest.mark.parametrize("options", [{}, {"residual_attention_scores": True}])
def test_theseus_mixes_the_two(options):
    large, small = pair(2, 1, **options)
    expected = large.model.predict(inputs(), verbose=0)
    mixed = training.theseus(large, small, rate=0.0)
    in_training = ops.convert_to_numpy(ops.stop_gradient(mixed(inputs(), training=True)))
    np.testing.assert_allclose(in_training, expected, atol=1e-5)
    np.testing.assert_allclose(
        mixed.predict(inputs(), verbose=0), small.model.predict(inputs(), verbose=0), atol=1e-6
    )
    for layer in mixed.layers:
        if isinstance(layer, ModuleReplacement):
            layer.rate.assign(1.0)
    replaced = ops.convert_to_numpy(ops.stop_gradient(mixed(inputs(), training=True)))
    np.testing.assert_allclose(replaced, small.model.predict(inputs(), verbose=0), atol=1e-5)


def test_theseus_draws_for_each_group():
    large, small = pair(2, 2)
    mixed = training.theseus(large, small, rate=0.5)
    outputs = [ops.stop_gradient(mixed(inputs(), training=True)) for _ in range(30)]
    seen = {round(float(ops.convert_to_numpy(y)[0, 0, 0]), 3) for y in outputs}
    assert len(seen) == 4  # two groups, each old or new


def test_theseus_trains_the_successor_alone(tmp_path):
    large, small = pair(2, 1)
    before = large.model.get_weights()
    mixed = training.theseus(large, small, rate=0.5, growth=0.1)
    assert {v.path.split("/")[0] for v in mixed.trainable_variables} == {"block_0"}
    assert len(mixed.trainable_variables) == len(small.layers["block_0"].weights)
    head = keras.layers.Dense(2, trainable=False)
    model = compiled(
        keras.Model(mixed.inputs, head(mixed.output[:, 0])), keras.optimizers.Adam(0.01)
    )
    x = [np.repeat(a, 4, axis=0) for a in inputs()]
    model.fit(x, np.arange(12) % 2, batch_size=4, epochs=1, verbose=0)
    for a, b in zip(before, large.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(
        small.token_embedding.get_weights()[0], large.token_embedding.get_weights()[0]
    )
    assert float(mixed.get_layer("block_0").rate) == pytest.approx(0.8)
    # what is handed out is what was trained
    np.testing.assert_allclose(
        small.model.predict(x, verbose=0), mixed.predict(x, verbose=0), atol=1e-6
    )
    assert all(layer.trainable for layer in small.model.layers)
    mixed.save(tmp_path / "mixed.keras")
    again = keras.saving.load_model(tmp_path / "mixed.keras")
    np.testing.assert_allclose(again.predict(x, verbose=0), mixed.predict(x, verbose=0), atol=1e-6)
    assert float(again.get_layer("block_0").rate) == pytest.approx(0.8)


def test_theseus_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="3 blocks cannot be split evenly into 2"):
        training.theseus(*pair(3, 2))
    large, _ = pair(4, 2)
    other = build_transformer_model(
        num_hidden_layers=2, return_keras_model=False, **TINY | {"intermediate_size": 12}
    )
    with pytest.raises(ValueError, match="differ in intermediate_size"):
        training.theseus(large, other)


# Several tasks


def tasks():
    random = np.random.default_rng(0)

    def samples(count, label):
        for i in range(count):
            ids = random.integers(1, 20, 3 + i % 4)
            yield (ids, ids * 0), label(ids)

    return {
        "topic": Batches(list(samples(20, lambda ids: len(ids) % 3)), 4),
        "tags": Batches(list(samples(12, lambda ids: ids % 2)), 4),
    }


def test_tasks_come_in_proportion():
    whole = training.TaskBatches(tasks())
    assert sorted(name for name, _ in whole.order) == ["tags"] * 3 + ["topic"] * 5
    mixed = training.TaskBatches(tasks(), {"topic": 1, "tags": 3}, steps=10, seed=0)
    assert [sum(name == task for name, _ in mixed.order) for task in tasks()] == [3, 7] or [
        sum(name == task for name, _ in mixed.order) for task in tasks()
    ] == [2, 8]
    first = list(mixed.order)
    mixed.on_epoch_end()
    assert mixed.order != first
    (ids, segments, task), labels, weights = mixed[0]
    name = mixed.order[0][0]
    other = {"topic": "tags", "tags": "topic"}[name]
    assert (task == ["topic", "tags"].index(name)).all()
    assert weights[name].all() and not weights[other].any()
    assert labels["topic"].shape == (len(ids),) and labels["tags"].shape == ids.shape
    assert segments.shape == ids.shape


def test_tasks_train_one_model_by_condition():
    task = keras.Input((), dtype="int32", name="task")
    condition = keras.layers.Embedding(2, 4)(task)
    bert = build_transformer_model(
        num_hidden_layers=1, **TINY, layer_norm_cond=condition, additional_input_layers=task
    )
    outputs = {
        "topic": keras.layers.Dense(3, name="topic")(bert.output[:, 0]),
        "tags": keras.layers.Dense(2, name="tags")(bert.output),
    }
    model = keras.Model(bert.inputs, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    compiled(model, keras.optimizers.Adam(0.01), loss={"topic": loss, "tags": loss})
    batches = training.TaskBatches(tasks(), seed=0)
    history = model.fit(batches, epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    ids, segments = inputs()
    first, second = (
        model.predict([ids, segments, np.full(3, i)], verbose=0)["topic"] for i in range(2)
    )
    assert not np.allclose(first, second)


def test_proportions_name_every_task():
    with pytest.raises(ValueError, match="for each of topic, tags"):
        training.TaskBatches(tasks(), {"topic": 1})


# The learning rate


def test_find_learning_rate_puts_everything_back(tmp_path):
    pytest.importorskip("matplotlib")
    ids, labels = data()
    model = compiled(scores_model(dropout=0.01), keras.optimizers.Adam(0.003))
    model.fit(ids, labels, verbose=0)
    variables = [*model.variables, *model.optimizer.variables]
    before = [ops.convert_to_numpy(v).copy() for v in variables]
    picture = tmp_path / "rates.png"
    found = training.find_learning_rate(model, [(ids, labels)], 1e-5, 100.0, 60, picture=picture)
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value, variable.path)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.003)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert 1e-4 < found.best < 10
    assert found.rates[0] == pytest.approx(1e-5) and np.all(np.diff(found.rates) > 0)
    assert min(found.losses) < found.losses[0]


def test_find_learning_rate_without_matplotlib(monkeypatch):
    monkeypatch.setattr("bert4keras_lite.training.lr_finder.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"bert4keras_lite\[plots\]"):
        training.find_learning_rate(None, None, picture="rates.png")


def test_find_learning_rate_refuses():
    ids, labels = data()
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    model = compiled(scores_model(), keras.optimizers.SGD(schedule))
    with pytest.raises(ValueError, match="schedule"):
        training.find_learning_rate(model, [(ids, labels)])
    with pytest.raises(ValueError, match="expected batches, got none"):
        training.find_learning_rate(compiled(scores_model()), [])
    with pytest.raises(ValueError, match="steps=1"):
        training.find_learning_rate(model, [(ids, labels)], steps=1)


def test_best_epoch_is_restored(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    weights, metrics = [], iter([{"f1": 0.2, "size": 9}, {"f1": 0.7, "size": 1}, {"f1": 0.7}])

    def evaluate():
        weights.append(model.get_weights()[0])
        return next(metrics)

    path = tmp_path / "output" / "best.weights.h5"
    best = training.BestEpoch(evaluate, path)
    history = model.fit(np.ones((4, 1)), np.ones(4), epochs=3, verbose=0, callbacks=[best]).history
    assert history["val_f1"] == [0.2, 0.7, 0.7] and history["val_size"][:2] == [9, 1]
    np.testing.assert_array_equal(model.get_weights()[0], weights[1])
    assert not np.array_equal(weights[1], weights[2])
    model.set_weights([weights[0]])
    model.load_weights(path)
    np.testing.assert_array_equal(model.get_weights()[0], weights[1])
    with pytest.raises(ValueError, match=r"ends in \.weights\.h5"):
        training.BestEpoch(evaluate, tmp_path / "best.keras")
