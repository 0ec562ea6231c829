"""TensorFlow traces each training step once, as the optimizer has its variables before it."""

import keras
import numpy as np
import pytest

from bert4keras_lite import build_transformer_model
from bert4keras_lite.optimizers import SGD, AdamW, EvaluateAverages, Lion, Tiger
from bert4keras_lite.training import adversarial_training, dropout_pairs, find_learning_rate, r_drop

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow alone traces a step twice"
)

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
X, Y = np.arange(24).reshape(6, 4) % 9, np.arange(6) % 2


@pytest.fixture
def traces(monkeypatch):
    """Gives how often Python has run through an update of any optimizer."""
    passes = []
    apply = keras.optimizers.Optimizer.apply

    def watched(optimizer, *arguments, **options):
        passes.append(optimizer)
        return apply(optimizer, *arguments, **options)

    monkeypatch.setattr(keras.optimizers.Optimizer, "apply", watched)
    return lambda: len(passes)


@pytest.fixture
def model():
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(9, 8, name="token_embedding")(ids)
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Dropout(0.1)(x))
    return keras.Model(ids, keras.layers.Dense(2)(x))


def fit(model, **options):
    model.fit(X, Y, batch_size=2, epochs=2, verbose=0, **options)


def test_the_line_of_the_guide(model, traces):
    model.compile("adamw", LOSS, metrics=[keras.metrics.SparseCategoricalAccuracy()])
    model.optimizer.build(model.trainable_variables)
    fit(model)
    assert traces() == 1


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: AdamW(0.1, gradient_accumulation_steps=2, lookahead=(2, 0.5), ema_momentum=0.9),
        lambda: AdamW(0.1, lazy=["embedding"], layer_adaptation=True, skip_nonfinite=True),
        lambda: SGD(0.1, lr_schedule={2: 1.0, 6: 0.0}, lr_multipliers={"dense": 2.0}),
        lambda: Lion(0.1, gradient_centralization=True, global_clipnorm=1.0),
        lambda: Tiger(0.1, gradient_accumulation_steps=2),
        lambda: keras.optimizers.LossScaleOptimizer(AdamW(0.1)),
    ],
)
def test_our_optimizers(optimizer, model, traces):
    model.compile(optimizer(), LOSS)
    model.optimizer.build(model.trainable_variables)
    fit(model)
    assert traces() == 1


def test_a_callback_builds_the_optimizer(model, traces):
    model.compile(AdamW(0.1, ema_momentum=0.9), LOSS)
    fit(model, callbacks=[EvaluateAverages()])
    assert traces() == 1


@pytest.mark.parametrize(
    "method",
    [lambda model: adversarial_training(model, "token_embedding"), r_drop, dropout_pairs],
)
def test_training_methods_build_the_optimizer(method, model, traces):
    loss = method(model)
    model.compile("sgd", loss or LOSS)
    fit(model)
    assert traces() == 1


def test_the_search_for_a_learning_rate_builds_the_optimizer(model, traces):
    model.compile("sgd", LOSS)
    find_learning_rate(model, [(X[:2], Y[:2]), (X[2:4], Y[2:4])], highest=1e-3, steps=4)
    assert traces() == 1


def test_a_whole_bert(traces):
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    bert = build_transformer_model(
        vocab_size=9, num_hidden_layers=1, max_position=8, dropout_rate=0.1, **sizes
    )
    model = keras.Model(bert.inputs, keras.layers.Dense(2)(bert.output[:, 0]))
    model.compile(AdamW(0.01), LOSS)
    model.optimizer.build(model.trainable_variables)
    model.fit([X, X * 0], Y, batch_size=4, verbose=0)  # the last batch is smaller
    assert traces() == 1


def test_several_losses(traces):
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(9, 8)(ids))
    model = keras.Model(ids, {"a": keras.layers.Dense(2)(x), "b": keras.layers.Dense(2)(x)})
    model.compile("sgd", {"a": LOSS, "b": LOSS})
    model.optimizer.build(model.trainable_variables)
    targets = {"a": Y, "b": Y}
    model.compute_loss(y=targets, y_pred=model(X))
    model.fit(X, targets, batch_size=2, verbose=0)
    assert traces() == 1
