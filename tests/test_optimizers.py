"""Optimizers against their papers, read into NumPy."""

import itertools
import os
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from bert4keras_lite import build_transformer_model, optimizers
from bert4keras_lite.optimizers import (
    SGD,
    Adafactor,
    Adam,
    AdamW,
    EvaluateAverages,
    Lazy,
    Lion,
    Lookahead,
    LossScaleOptimizer,
    PiecewiseLinear,
    Tiger,
    extend,
    layerwise_multipliers,
)

BACKEND = keras.backend.backend()
SHAPES = {
    "dense/kernel": (4, 3),
    "dense/bias": (3,),
    "out_norm/gamma": (3,),
    "token_embedding/embeddings": (6, 4),
}


class Holder(keras.layers.Layer):
    """Variables with the paths of `SHAPES`."""

    def __init__(self, weights):
        super().__init__()
        self.own = []
        for path, value in weights.items():
            layer, name = path.split("/")
            with keras.name_scope(layer):
                self.own.append(keras.Variable(value, name=name))


def run(optimizer, gradients, weights):
    """The weights after each of the gradients, dicts like the weights."""
    holder = Holder(weights)
    found = []
    for gradient in gradients:
        arrays = [ops.convert_to_tensor(gradient[path]) for path in weights]
        optimizer.apply(arrays, holder.own)
        found.append(
            {p: ops.convert_to_numpy(v) + 0 for p, v in zip(weights, holder.own, strict=True)}
        )
    return found


def draw(count=5, seed=0):
    """Weights, and `count` gradients of them."""
    random = np.random.default_rng(seed)
    return (
        {path: random.normal(0, 1, shape).astype("float32") for path, shape in SHAPES.items()},
        [
            {path: random.normal(0, 1, shape).astype("float32") for path, shape in SHAPES.items()}
            for _ in range(count)
        ],
    )


def near(found, expected, tolerance=1e-6):
    for path, value in expected.items():
        scale = max(1.0, np.abs(value).max())
        np.testing.assert_allclose(found[path], value, atol=tolerance * scale, rtol=0, err_msg=path)


def adamw(weights, gradients, rates, decay, decayed, correction=True, betas=(0.9, 0.999), eps=1e-7):
    """AdamW, arXiv 1711.05101, Algorithm 2; in the form of 1412.6980, end of section 2."""
    weights = {k: v.astype("float64") for k, v in weights.items()}
    m = {k: 0 * v for k, v in weights.items()}
    v = {k: 0 * v for k, v in weights.items()}
    for t, gradient in enumerate(gradients, 1):
        for k in weights:
            g = gradient[k].astype("float64")
            m[k] = betas[0] * m[k] + (1 - betas[0]) * g
            v[k] = betas[1] * v[k] + (1 - betas[1]) * g * g
            scale = np.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t) if correction else 1
            update = scale * m[k] / (np.sqrt(v[k]) + eps)
            if k in decayed:
                update = update + decay * weights[k]
            rate = rates(t - 1, k) if callable(rates) else rates
            weights[k] = weights[k] - rate * update
    return weights


KERNELS = {"dense/kernel", "token_embedding/embeddings"}


@pytest.mark.parametrize("correction", [True, False])
def test_adamw(correction):
    weights, gradients = draw()
    found = run(AdamW(0.01, weight_decay=0.1, bias_correction=correction), gradients, weights)[-1]
    near(found, adamw(weights, gradients, 0.01, 0.1, KERNELS, correction))


def test_exclusion_from_decay_is_by_path_whatever_the_capitals():
    weights, gradients = draw()
    gradients = [{k: 0 * v for k, v in gradients[0].items()}]
    optimizer = AdamW(0.1, weight_decay=0.5, exclude_from_weight_decay=["Norm", "bias"])
    found = run(optimizer, gradients, weights)[0]
    for path, value in weights.items():
        factor = 0.95 if path in KERNELS else 1
        np.testing.assert_allclose(found[path], value * factor, rtol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"lr_multipliers": {"classifier": 10.0}},
        {"lazy": ["tokens"]},
        {"exclude_from_weight_decay": ["LayerNorm"]},
        {"exclude_from_layer_adaptation": ["LayerNorm"]},
    ],
)
def test_a_pattern_that_fits_nothing(options):
    weights, gradients = draw(1)
    (pattern,) = next(iter(options.values()))
    with pytest.raises(ValueError, match=f"{next(iter(options))}.*{pattern}.*dense/kernel"):
        run(AdamW(0.1, **options), gradients, weights)


def test_rates_by_path():
    weights, gradients = draw(6)
    multipliers = {"embedding": 0.1, "dense/(kernel|bias)": {2: 1.0, 4: 0.5}, "dense/bias": 100.0}
    optimizer = AdamW(
        0.01, weight_decay=0.1, lr_multipliers=multipliers, lr_schedule={0: 0.5, 3: 1.0}
    )

    def rates(t, path):
        rate = 0.01 * np.interp(t, [0, 3], [0.5, 1])
        if "embedding" in path:
            return 0.1 * rate
        return rate * np.interp(t, [0, 2, 4], [0, 1, 0.5]) if "dense" in path else rate

    near(run(optimizer, gradients, weights)[-1], adamw(weights, gradients, rates, 0.1, KERNELS))


@pytest.mark.parametrize(
    "points", [{0: 0.0, 10: 1.0, 100: 0.1}, {10: 1.0, 20: 0.0}, {0: 1.0}, {3: 0.5}]
)
def test_piecewise_linear(points):
    schedule = PiecewiseLinear(2.0, points)
    schedule = PiecewiseLinear.from_config(schedule.get_config())
    known = sorted(({0: 0.0} | points).items())
    for step in [0, 1, 3, 5, 10, 11, 19, 20, 55, 100, 1000]:
        expected = 2 * np.interp(step, *zip(*known, strict=True))
        np.testing.assert_allclose(float(schedule(step)), expected, rtol=1e-6)


def test_linear_decay_rises_and_falls_to_zero():
    assert optimizers.linear_decay(100) == {0: 0.0, 10: 1.0, 100: 0.0}
    assert optimizers.linear_decay(100, warmup=0.5) == {0: 0.0, 50: 1.0, 100: 0.0}
    # few updates: the first one, or two, still have a learning rate
    assert optimizers.linear_decay(5) == {0: 0.0, 1: 1.0, 5: 0.0}
    assert optimizers.linear_decay(1) == optimizers.linear_decay(1, 0) == {0: 1.0, 1: 0.0}
    for arguments in ((0,), (10, 1.5)):
        with pytest.raises(ValueError, match=r"updates|warmup"):
            optimizers.linear_decay(*arguments)


def test_lookahead():
    weights, gradients = draw(8)
    found = run(Lookahead(keras.optimizers.SGD(0.1), 3, 0.4), gradients, weights)
    fast = {k: v.astype("float64") for k, v in weights.items()}
    slow = dict(fast)
    for t, gradient in enumerate(gradients, 1):
        fast = {k: fast[k] - 0.1 * gradient[k] for k in fast}
        if t % 3 == 0:
            slow = {k: slow[k] + 0.4 * (fast[k] - slow[k]) for k in fast}
            fast = dict(slow)
        near(found[t - 1], fast)


def test_lookahead_does_not_destroy_a_checkpoint():
    """bert4keras' starts the slow weights at 0, and halves all in the first step."""
    weights, gradients = draw(1)
    near(run(Lookahead(keras.optimizers.Adam(1e-12)), gradients, weights)[0], weights, 1e-9)


# Variables without a gradient: None in a dict of gradients


def apply(optimizer, holder, gradient):
    """One call of the optimizer with the gradients that are there."""
    paths = dict(zip(SHAPES, holder.own, strict=True))
    pairs = [(g if g is None else ops.convert_to_tensor(g), paths[p]) for p, g in gradient.items()]
    optimizer.apply_gradients(pairs)
    return [ops.convert_to_numpy(v) + 0 for v in holder.own]


def without(gradient, *paths):
    return {path: None if path in paths else value for path, value in gradient.items()}


HEAD = ("dense/kernel", "dense/bias")
ABSENT = pytest.mark.filterwarnings("ignore:Gradients do not exist")


@ABSENT
def test_lookahead_of_a_head_trained_by_turns():
    """A variable's slow weights are its own, whenever its first gradient comes."""
    weights, gradients = draw(7)
    gradients = [without(g, *HEAD) if t % 2 == 0 else g for t, g in enumerate(gradients)]
    optimizer, holder = SGD(0.1, lookahead=(3, 0.4)), Holder(weights)
    fast = {k: v.astype("float64") for k, v in weights.items()}
    slow = dict(fast)
    for t, gradient in enumerate(gradients, 1):
        found = apply(optimizer, holder, gradient)
        fast = {k: v if gradient[k] is None else v - 0.1 * gradient[k] for k, v in fast.items()}
        if t % 3 == 0:
            slow = {k: slow[k] + 0.4 * (fast[k] - slow[k]) for k in fast}
            fast = dict(slow)
        near(dict(zip(SHAPES, found, strict=True)), fast)


@ABSENT
@pytest.mark.parametrize("accumulation", [None, 2])
def test_averages_of_variables_without_a_gradient(accumulation):
    weights, gradients = draw(6)
    gradients = [without(g, *HEAD) if t < 4 else g for t, g in enumerate(gradients)]
    options = {"gradient_accumulation_steps": accumulation, "skip_nonfinite": True}
    optimizer, holder = SGD(0.1, ema_momentum=0.7, **options), Holder(weights)
    average = None
    for t, gradient in enumerate(gradients, 1):
        values = apply(optimizer, holder, gradient)
        if t % (accumulation or 1) == 0:
            pairs = zip(values, values if average is None else average, strict=True)
            average = [0.7 * a + 0.3 * v for v, a in pairs]
        with optimizer.averaged_weights():
            for a, v in zip(average or values, holder.own, strict=True):
                np.testing.assert_allclose(ops.convert_to_numpy(v), a, atol=1e-6)


def test_averages_of_weights_that_come_after_build():
    """Up to the first update they are the weights, whatever these were at `build`."""
    (first, _), (weights, gradients) = draw(seed=1), draw(2)
    holder, optimizer = Holder(first), SGD(0.1, ema_momentum=0.7, lookahead=(1, 0.5))
    optimizer.build(holder.own)
    for slots in (optimizer._slow, optimizer._model_variables_moving_average):
        for slot, value in zip(slots, first.values(), strict=True):
            np.testing.assert_array_equal(ops.convert_to_numpy(slot), value)
    for variable, value in zip(holder.own, weights.values(), strict=True):
        variable.assign(value)
    with optimizer.averaged_weights():
        for variable, value in zip(holder.own, weights.values(), strict=True):
            np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)
    found = apply(optimizer, holder, gradients[0])
    expected = {k: weights[k] - 0.05 * gradients[0][k] for k in weights}
    near(dict(zip(SHAPES, found, strict=True)), expected)
    with optimizer.averaged_weights():
        found = [ops.convert_to_numpy(variable) for variable in holder.own]
        near(dict(zip(SHAPES, found, strict=True)), expected)


@ABSENT
@pytest.mark.parametrize("options", [{}, {"global_clipnorm": 0.5, "skip_nonfinite": True}])
def test_gradients_of_some_micro_batches(options):
    """What is missing in a micro-batch, the last of a cycle or another, is 0 in the sum."""
    weights, gradients = draw(6)
    parts = [
        [without(gradients[0], *HEAD), gradients[1]],
        [gradients[2], without(gradients[3], *HEAD)],
        [without(g, *HEAD) for g in gradients[4:]],
    ]
    options = {"weight_decay": 0.1, "epsilon": 1e-3, **options}
    accumulated = AdamW(0.01, gradient_accumulation_steps=2, **options)
    whole = AdamW(0.01, **options)
    one, other = Holder(weights), Holder(weights)
    for first, second in parts:
        absent = [k for k in weights if first[k] is None and second[k] is None]
        mean = {k: sum(p[k] for p in (first, second) if p[k] is not None) / 2 for k in weights}
        apply(accumulated, one, first)
        found = apply(accumulated, one, second)
        expected = apply(whole, other, without(mean, *absent))
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


@ABSENT
@pytest.mark.skipif(BACKEND == "jax", reason="the gradients of JAX are never None")
def test_a_head_that_has_no_loss():
    x, y = examples()
    options = EVERYTHING | {"lr_multipliers": {}}
    model = two_headed(AdamW(0.01, **options, gradient_accumulation_steps=2))
    before = model.get_layer("unused").get_weights()
    model.fit(x, [y, y], batch_size=4, verbose=0)
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 3
    with model.optimizer.averaged_weights():
        averages = model.get_layer("unused").get_weights()
    for found, average, own in zip(
        model.get_layer("unused").get_weights(), averages, before, strict=True
    ):
        np.testing.assert_array_equal(found, own)
        np.testing.assert_allclose(average, own, atol=1e-6)


def test_layer_adaptation():
    """LAMB, arXiv 1904.00962, Algorithm 2, with the identity for phi."""
    weights, gradients = draw(4)
    weights["dense/kernel"] *= 0  # no norm: as Adam
    optimizer = AdamW(0.01, weight_decay=0.1, layer_adaptation=True, epsilon=1e-6)
    found = run(optimizer, gradients, weights)[-1]
    own = {k: v.astype("float64") for k, v in weights.items()}
    m, v = ({k: 0 * x for k, x in own.items()} for _ in range(2))
    for t, gradient in enumerate(gradients, 1):
        for k in own:
            m[k] = 0.9 * m[k] + 0.1 * gradient[k]
            v[k] = 0.999 * v[k] + 0.001 * np.square(gradient[k], dtype="float64")
            scale = np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            update = scale * m[k] / (np.sqrt(v[k]) + 1e-6)
            ratio = 1
            if k in KERNELS:
                update = update + 0.1 * own[k]
                norm = np.linalg.norm(own[k])
                ratio = norm / np.linalg.norm(update) if norm else 1
            own[k] = own[k] - 0.01 * ratio * update
    near(found, own)


def test_gradient_centralization():
    weights, gradients = draw(2)
    found = run(SGD(0.1, gradient_centralization=True), gradients, weights)[-1]
    for path in weights:
        moved = sum(g[path] for g in gradients)
        if path == "dense/kernel":
            moved = moved - moved.mean(0)
        np.testing.assert_allclose(found[path], weights[path] - 0.1 * moved, atol=1e-6)


def test_moving_average():
    weights, gradients = draw(5)
    optimizer = SGD(0.1, ema_momentum=0.7)
    holder = Holder(weights)
    values, average = [], None
    for gradient in gradients:
        optimizer.apply([ops.convert_to_tensor(g) for g in gradient.values()], holder.own)
        values.append([ops.convert_to_numpy(v) + 0 for v in holder.own])
        average = values[-1] if average is None else [
            0.7 * a + 0.3 * v for a, v in zip(average, values[-1], strict=True)
        ]  # fmt: skip
    with optimizer.averaged_weights():
        inside = [ops.convert_to_numpy(v) + 0 for v in holder.own]
        with pytest.raises(ValueError, match="already"):
            optimizer.apply_ema_weights()
    for a, b, c, v in zip(inside, average, values[-1], holder.own, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
        np.testing.assert_array_equal(c, ops.convert_to_numpy(v))
    with pytest.raises(ValueError, match="ema_momentum"):
        SGD(0.1).apply_ema_weights()


def test_global_clipping():
    weights, gradients = draw(2)
    found = run(SGD(0.1, global_clipnorm=1.5), gradients, weights)[-1]
    moved = dict.fromkeys(weights, 0)
    for gradient in gradients:
        norm = np.sqrt(sum((g.astype("float64") ** 2).sum() for g in gradient.values()))
        moved = {k: moved[k] + gradient[k] * min(1, 1.5 / norm) for k in weights}
    near(found, {k: weights[k] - 0.1 * moved[k] for k in weights})


@pytest.mark.skipif(BACKEND != "torch", reason="of PyTorch's fused kernel")
@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("accumulation", [None, 2])
def test_many_variables_at_once_as_one_by_one(monkeypatch, broken, accumulation):
    options = {"weight_decay": 0.1, "global_clipnorm": 1.0, "skip_nonfinite": True}
    options |= {"lr_multipliers": {"norm": {0: 0.5, 3: 2.0}, "bias": 3.0}, "bias_correction": False}
    options |= {"gradient_accumulation_steps": accumulation}
    weights, gradients = draw(6)
    if broken:
        gradients[3]["dense/bias"][1] = np.nan
    # as transposed products are
    turned = [{k: np.asarray(g, order="F") for k, g in some.items()} for some in gradients]
    at_once = run(AdamW(0.01, **options), turned, weights)
    monkeypatch.setattr(AdamW, "_update_at_once", lambda self, pairs, rate: list(pairs))
    one_by_one = run(AdamW(0.01, **options), gradients, weights)
    for a, b in zip(at_once, one_by_one, strict=True):
        near(a, b)


def test_lion():
    """arXiv 2302.06675, Algorithm 2."""
    weights, gradients = draw(4)
    found = run(Lion(0.01, weight_decay=0.1), gradients, weights)[-1]
    own, m = {k: v.astype("float64") for k, v in weights.items()}, dict.fromkeys(weights, 0.0)
    for gradient in gradients:
        for k in own:
            update = np.sign(0.9 * m[k] + 0.1 * gradient[k])
            own[k] = own[k] - 0.01 * (update + (0.1 * own[k] if k in KERNELS else 0))
            m[k] = 0.99 * m[k] + 0.01 * gradient[k]
    near(found, own)


def test_adafactor():
    """arXiv 1804.04235, Algorithms 4 and 5, with the values of section 9."""
    weights, gradients = draw(4)
    found = run(Adafactor(0.01), gradients, weights)[-1]
    own = {k: v.astype("float64") for k, v in weights.items()}
    rows, columns, second = {}, {}, {}
    for t, gradient in enumerate(gradients, 1):
        beta = 1 - t**-0.8
        for k in own:
            g = gradient[k].astype("float64")
            square = g * g + 1e-30
            if g.ndim == 2:
                rows[k] = beta * rows.get(k, 0) + (1 - beta) * square.sum(1, keepdims=True)
                columns[k] = beta * columns.get(k, 0) + (1 - beta) * square.sum(0, keepdims=True)
                v = rows[k] * columns[k] / rows[k].sum()
            else:
                v = second[k] = beta * second.get(k, 0) + (1 - beta) * square
            update = g / np.sqrt(v)
            update /= max(1, np.sqrt((update**2).mean()))
            size = max(1e-3, np.sqrt((own[k] ** 2).mean()))
            own[k] = own[k] - size * min(0.01, t**-0.5) * update
    near(found, own, 3e-6)


def test_tiger():
    weights, gradients = draw(4)
    gradients[2]["dense/kernel"][0, 0] = np.nan
    gradients[2]["out_norm/gamma"][1] = np.nan
    found = run(Tiger(0.01, beta=0.9, weight_decay=0.1), gradients, weights)[-1]
    own, m = {k: v.astype("float64") for k, v in weights.items()}, dict.fromkeys(weights, 0.0)
    for gradient in gradients:
        for k, g in gradient.items():
            target = 1 if "gamma" in k else 0
            if np.isnan(g).any():
                own[k] = (own[k] - target) * 0.99 + target
                continue
            m[k] = 0.9 * m[k] + 0.1 * g
            axis = {"dense/kernel": (0, 1), "token_embedding/embeddings": 1}.get(k)
            size = 0.5 if axis is None else np.sqrt((own[k] ** 2).mean(axis, keepdims=True))
            update = np.sign(m[k]) + (0.1 * own[k] if k in KERNELS else 0)
            own[k] = own[k] - 0.01 * size * update
    near(found, own)


# In a model, as users do


def tiny(classes=3, seed=0):
    keras.utils.set_random_seed(seed)
    ids = keras.Input((4,), dtype="int32")
    x = keras.layers.Embedding(20, 6, name="token_embedding")(ids)
    x = keras.layers.Dense(6, activation="tanh", name="dense")(keras.ops.sum(x, 1))
    x = keras.layers.LayerNormalization(name="norm")(x)
    return keras.Model(ids, keras.layers.Dense(classes, name="classifier")(x))


def fit(optimizer, batch, x, y, epochs=1, model=None, **options):
    model = model or tiny()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **options)
    model.optimizer.build(model.trainable_variables)
    model.fit(x, y, batch_size=batch, epochs=epochs, shuffle=False, verbose=0)
    return model


def examples(count=24, seed=0):
    random = np.random.default_rng(seed)
    # repeated tokens, and some that never come
    return random.integers(1, 12, (count, 4)), random.integers(0, 3, count)


def assert_same(one, other, tolerance):
    for a, b in zip(one.weights, other.weights, strict=True):
        a, b = ops.convert_to_numpy(a), ops.convert_to_numpy(b)
        np.testing.assert_allclose(a, b, atol=tolerance, rtol=0)


def two_headed(optimizer):
    """A model with a second head that has no loss."""
    inner = tiny()
    head = keras.layers.Dense(2, name="unused")(inner.layers[-2].output)
    model = keras.Model(inner.inputs, [inner.output, head])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss=[loss, None], jit_compile=False)
    optimizer.build(model.trainable_variables)
    return model


EVERYTHING = {
    "weight_decay": 0.05,
    "lr_schedule": {0: 0.2, 2: 1.0, 6: 0.1},
    "lr_multipliers": {"classifier": 3.0},
    "gradient_centralization": True,
    "lookahead": (2, 0.5),
    "ema_momentum": 0.9,
    "global_clipnorm": 0.5,
}


@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.long)])
def test_accumulation_counts_updates(jit):
    """k micro-batches are one batch k times as large, whatever counts steps."""
    x, y = examples()
    # no moment of a gradient that is nearly zero, whose sign rounding decides
    options = EVERYTHING | {"epsilon": 1e-3}
    jit = {"jit_compile": jit}
    whole = AdamW(0.01, **options)
    parts = AdamW(0.01, **options, gradient_accumulation_steps=3)
    one = fit(whole, 6, x, y, epochs=2, **jit)
    other = fit(parts, 2, x, y, epochs=2, **jit)
    assert int(ops.convert_to_numpy(parts.iterations)) == 8
    assert_same(one, other, 1e-6)
    with whole.averaged_weights(), parts.averaged_weights():
        assert_same(one, other, 1e-6)


@pytest.mark.parametrize("inner", [AdamW, Lion])
def test_rows_without_a_gradient_stay(inner):
    x, y = examples()
    model = tiny()
    before = ops.convert_to_numpy(model.get_layer("token_embedding").embeddings) + 0
    options = {"weight_decay": 0.1}
    lazy = inner(0.01, **options, lazy=["token_embedding"])
    fit(lazy, 8, x, y, model=model)
    after = ops.convert_to_numpy(model.get_layer("token_embedding").embeddings)
    seen = np.isin(np.arange(20), x)
    assert 0 < seen.sum() < 20
    np.testing.assert_array_equal(after[~seen], before[~seen])
    assert (after[seen] != before[seen]).any(1).all()
    # where all rows have a gradient, it is the plain optimizer
    x = np.stack([np.random.default_rng(i).permutation(20) for i in range(4)]).reshape(20, 4)
    models = [
        fit(inner(0.01, **options, **more), 20, x, y[:20])
        for more in ({}, {"lazy": "token_embedding"})
    ]
    assert_same(*models, 1e-6)


def test_lazy_moments_wait():
    """A row's moments do not fade in steps that do not see it."""
    weights = {"token_embedding/embeddings": np.ones((3, 2), "float32")}
    path = "token_embedding/embeddings"
    gradients = [
        {path: np.array([[1, 1], [0, 0], [2, 2]], "float32")},
        {path: np.array([[0, 0], [3, 3], [0, 0]], "float32")},
        {path: np.array([[-1, 2], [0, 0], [0, 0]], "float32")},
    ]
    found = run(Lazy(keras.optimizers.Adam(0.1)), gradients, weights)
    m, v, w = (np.zeros((3, 2)) for _ in range(3))
    w += 1
    for t, gradient in enumerate(gradients, 1):
        g = gradient[path]
        rows = g.any(1)
        m[rows] = 0.9 * m[rows] + 0.1 * g[rows]
        v[rows] = 0.999 * v[rows] + 0.001 * g[rows] ** 2
        alpha = 0.1 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        w[rows] -= alpha * m[rows] / (np.sqrt(v[rows]) + 1e-7)
        np.testing.assert_allclose(found[t - 1][path], w, atol=2e-6)


@pytest.mark.parametrize("clip", [None, 0.01])
def test_repeated_tokens_are_added_before_they_are_squared(clip):
    """Keras on TensorFlow squares the parts of a sparse gradient instead of their sum."""
    x = np.array([[1, 1, 1, 2], [1, 2, 2, 3]])
    options = {"loss": "mse", "epochs": 3}

    def trained(lookup, x, more):
        ids = keras.Input(x.shape[1:], dtype=x.dtype)
        table = lookup(ids)
        model = keras.Model(ids, ops.sum(table, 1))
        model.weights[0].assign(np.linspace(-1, 1, 20).reshape(5, 4))
        model.compile(AdamW(0.01, global_clipnorm=clip, weight_decay=0.0, **more), options["loss"])
        model.optimizer.build(model.trainable_variables)
        model.fit(x, np.ones((2, 4)), epochs=options["epochs"], verbose=0)
        return ops.convert_to_numpy(model.weights[0])

    one_hot = np.eye(5, dtype="float32")[x]
    expected = trained(keras.layers.Dense(4, use_bias=False), one_hot, {})
    for more in ({}, {"lazy": "embedding"}):
        found = trained(keras.layers.Embedding(5, 4), x, more)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def with_broken_batches(x, y, batch, at):
    """Each of the batches `at` once more before itself, with a weight that is not finite."""
    order, weights = [], []
    for i in range(len(x) // batch):
        rows = list(range(i * batch, (i + 1) * batch))
        if i in at:
            order += rows
            weights += [np.inf, *[1.0] * (batch - 1)] if i % 2 else [np.nan] * batch
        order += rows
        weights += [1.0] * batch
    return x[order], y[order], np.array(weights, "float32")


@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("make", "options"),
    [
        (AdamW, EVERYTHING | {"lazy": "token_embedding"}),
        (AdamW, EVERYTHING | {"gradient_accumulation_steps": 3}),
        (Adafactor, {}),
        (Lion, {"layer_adaptation": True}),
        (SGD, {"momentum": 0.9}),
        (Tiger, {}),
    ],
)
def test_a_batch_that_is_not_finite_has_not_come(make, options, jit):
    x, y = examples()
    more = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
    models = []
    for at in ((), (0, 1, 5)):
        model = tiny()
        inner = make(0.01, skip_nonfinite=True, **options)
        model.compile(inner, keras.losses.SparseCategoricalCrossentropy(True), jit_compile=jit)
        model.optimizer.build(model.trainable_variables)
        *data, weights = with_broken_batches(x, y, 4, at)
        model.fit(*data, sample_weight=weights, **more)
        models.append(model)
    # PyTorch compiles a step anew for other counts, and that may round in another way
    tolerance = 1e-6 if jit and BACKEND == "torch" else 0
    assert_same(*models, tolerance)
    whole, broken = (model.optimizer for model in models)
    assert int(ops.convert_to_numpy(whole.skipped)) == 0
    assert int(ops.convert_to_numpy(broken.skipped)) == 6
    for a, b in zip(whole.variables, broken.variables, strict=True):
        if a is not whole.skipped:
            a, b = ops.convert_to_numpy(a), ops.convert_to_numpy(b)
            np.testing.assert_allclose(a, b, atol=tolerance, rtol=tolerance)


def test_counts_of_what_was_skipped():
    weights, (good, *_) = draw()
    bad = {k: np.where(k == "out_norm/gamma", np.inf, v).astype("float32") for k, v in good.items()}
    optimizer = AdamW(0.01, skip_nonfinite=True)
    holder, found = Holder(weights), []
    for gradient in (bad, good, bad, bad, good):
        optimizer.apply([ops.convert_to_tensor(gradient[p]) for p in weights], holder.own)
        counts = optimizer.skipped, optimizer.skipped_in_a_row, optimizer.iterations
        found.append(tuple(int(ops.convert_to_numpy(count)) for count in counts))
    assert found == [(1, 1, 0), (1, 0, 1), (2, 1, 1), (3, 2, 1), (3, 0, 2)]


@pytest.mark.parametrize("clip", [{}, {"global_clipnorm": 0.5}])
def test_saved_and_restored_bit_for_bit(tmp_path, clip):
    x, y = examples()
    make = lambda: AdamW(  # noqa: E731
        0.01, **EVERYTHING | clip, lazy=["embedding"], gradient_accumulation_steps=2
    )
    straight = fit(make(), 4, x, y, epochs=4)
    half = fit(make(), 4, x, y, epochs=2)
    half.save(tmp_path / "half.keras")
    again = keras.models.load_model(tmp_path / "half.keras")
    assert type(again.optimizer) is AdamW
    assert again.optimizer.get_config() == half.optimizer.get_config()
    again.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    assert_same(straight, again, 0)
    for a, b in zip(straight.optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))


def test_the_variables_of_a_saved_state():
    """Keras' files have no names, just this order."""
    holder = Holder({"dense/kernel": np.ones((2, 2), "float32")})
    options = {"gradient_accumulation_steps": 2, "lookahead": (2, 0.5), "ema_momentum": 0.9}
    optimizer = AdamW(0.01, **options, skip_nonfinite=True)
    optimizer.build(holder.own)
    names = [v.name.rpartition("kernel_")[2] for v in optimizer.variables]
    assert names == [
        "iteration", "learning_rate", "average", "gradient_accumulator", "momentum", "velocity",
        "slow", "skipped", "skipped_in_a_row",
    ]  # fmt: skip


def test_a_file_loads_where_the_module_was_not_imported(tmp_path):
    x, y = examples(4)
    fit(Tiger(0.01, lookahead=(2, 0.5)), 4, x, y).save(tmp_path / "tiger.keras")
    code = f"import keras; m = keras.models.load_model({str(tmp_path / 'tiger.keras')!r}); "
    code += "assert m.optimizer.lookahead == (2, 0.5) and m.optimizer.beta == 0.965"
    code = "import bert4keras_lite.optimizers; " + code
    environment = os.environ | {"KERAS_BACKEND": BACKEND, "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


DOORS = {
    "extend_with_weight_decay": {
        "weight_decay_rate": 0.1,
        "exclude_from_weight_decay": ["Norm", "bias"],
    },
    "extend_with_layer_adaptation": {"exclude_from_layer_adaptation": ["Norm", "bias"]},
    "extend_with_piecewise_linear_lr": {"lr_schedule": {2: 1, 10: 0.1}},
    "extend_with_gradient_accumulation": {"grad_accum_steps": 2},
    "extend_with_lookahead": {"steps_per_slow_update": 2, "slow_step_size": 0.3},
    "extend_with_lazy_optimization": {"include_in_lazy_optimization": ["embedding"]},
    "extend_with_exponential_moving_average": {"ema_momentum": 0.9},
    "extend_with_parameter_wise_lr": {"paramwise_lr_schedule": {"dense": 10}},
}  # fmt: skip


def test_doors_in_any_order():
    weights, gradients = draw(6)
    options = {k: v for door in DOORS.values() for k, v in door.items()}
    found = []
    for names in (list(DOORS), list(reversed(DOORS)), sorted(DOORS)):
        made = keras.optimizers.Adam
        for name in names:
            made = getattr(optimizers, name)(made, name="Mine")
        optimizer = made(learning_rate=0.01, **options)
        assert type(optimizer) is Adam
        found.append(run(optimizer, gradients, weights)[-1])
    direct = Adam(
        0.01,
        weight_decay=0.1,
        layer_adaptation=True,
        lr_schedule={2: 1, 10: 0.1},
        gradient_accumulation_steps=2,
        lookahead=(2, 0.3),
        lazy="embedding",
        ema_momentum=0.9,
        lr_multipliers={"dense": 10},
    )
    found.append(run(direct, gradients, weights)[-1])
    for one, other in itertools.pairwise(found):
        near(one, other, 0)


@pytest.mark.parametrize("name", DOORS)
def test_each_door_alone(name):
    door = getattr(optimizers, name)
    weights, gradients = draw(4)
    plain = run(keras.optimizers.Adam(0.01), gradients, weights)[-1]
    found = run(door(keras.optimizers.Adam)(0.01, **DOORS[name]), gradients, weights)[-1]
    changed = any(np.abs(found[k] - plain[k]).max() > 1e-5 for k in weights)
    unchanged = {"extend_with_exponential_moving_average", "extend_with_lazy_optimization"}
    assert changed == (name not in unchanged)


def test_loss_scaling_counts_what_it_leaves_out(tmp_path):
    x, y = examples()
    model, options = tiny(), {"batch_size": 4, "shuffle": False, "verbose": 0}
    optimizer = LossScaleOptimizer(AdamW(0.01, skip_nonfinite=True))
    loss = keras.losses.SparseCategoricalCrossentropy(True)
    model.compile(optimizer, loss, jit_compile=False)
    optimizer.build(model.trainable_variables)
    *data, weights = with_broken_batches(x, y, 4, (0, 1, 5))

    def counts(optimizer):
        names = "skipped", "skipped_in_a_row", "iterations"
        return [int(ops.convert_to_numpy(getattr(optimizer, name))) for name in names]

    model.fit(*data, sample_weight=weights, **options)
    assert counts(optimizer.inner_optimizer) == [3, 0, 6]
    model.fit(x[:8], y[:8], sample_weight=np.full(8, np.nan), **options)
    assert counts(optimizer.inner_optimizer) == [5, 2, 6]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").optimizer
    assert type(again) is LossScaleOptimizer
    assert counts(again.inner_optimizer) == [5, 2, 6]
    theirs = keras.optimizers.LossScaleOptimizer(AdamW(0.01, skip_nonfinite=True))
    theirs.build(model.trainable_variables)
    shapes = [[v.shape for v in some.variables] for some in (optimizer, theirs)]
    assert shapes[0] == shapes[1]  # files of either fit the other


def test_loss_scaling_changes_nothing():
    x, y = examples()
    plain = fit(AdamW(0.01, **EVERYTHING, epsilon=1e-3), 8, x, y)
    scaled = keras.optimizers.LossScaleOptimizer(AdamW(0.01, **EVERYTHING, epsilon=1e-3))
    assert_same(plain, fit(scaled, 8, x, y), 1e-6)


def test_mixed_precision_learns():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = tiny()
    finally:
        keras.config.set_dtype_policy("float32")
    x, y = examples()
    optimizer = AdamW(0.02, weight_decay=0.01, lookahead=(3, 0.5), gradient_accumulation_steps=2)
    fit(optimizer, 8, x, y, epochs=30, model=model)
    assert model.optimizer.inner_optimizer is optimizer
    scores = model.predict(x, verbose=0)
    assert (scores.argmax(1) == y).mean() > 0.7


def test_evaluation_with_averages():
    x, y = examples()
    y = np.eye(3)[y]
    model = tiny()
    model.compile(AdamW(0.05, ema_momentum=0.9), "mse")
    told = {"x": x, "y": y, "batch_size": 24, "verbose": 0}
    fitted = {"epochs": 2, "validation_data": (x, y), "callbacks": [EvaluateAverages()]}
    history = model.fit(**told, **fitted).history["val_loss"]
    plain = model.evaluate(**told)
    averaged = model.evaluate(**told, callbacks=[EvaluateAverages()])
    assert averaged == pytest.approx(history[-1]) != pytest.approx(plain)
    assert model.evaluate(**told) == plain
    with model.optimizer.averaged_weights():
        assert model.evaluate(**told) == pytest.approx(averaged)
    scores = model.predict(x, verbose=0, callbacks=[EvaluateAverages()])
    assert np.square(scores - y).mean() == pytest.approx(averaged)


class Watch(keras.callbacks.Callback):
    """Keeps a model's weights at the ends and beginnings of epochs."""

    def __init__(self):
        super().__init__()
        self.ends, self.begins = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.ends.append(self.model.get_weights())

    def on_epoch_begin(self, epoch, logs=None):
        self.begins.append(self.model.get_weights())


def averaging(scaled=False):
    """A model whose validation gets worse with time, and what `fit` gets."""
    keras.utils.set_random_seed(0)
    x, y = (np.random.normal(size=(24, size)).astype("float32") for size in (3, 1))
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    optimizer = AdamW(0.3, ema_momentum=0.7)
    optimizer = keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer
    model.compile(optimizer, "mse", run_eagerly=True)
    optimizer.build(model.trainable_variables)
    data = {"x": x[:16], "y": y[:16], "batch_size": 8, "validation_data": (x[16:], y[16:])}
    return model, data | {"epochs": 3, "verbose": 0, "shuffle": False}


def loss_of(model, data, **options):
    return model.evaluate(*data["validation_data"], batch_size=8, verbose=0, **options)


@pytest.mark.parametrize("first", [True, False])
def test_the_best_averages_are_kept(tmp_path, first):
    """Whatever the order of callbacks, and a second `fit` goes on as if nothing had been saved."""
    model, data = averaging()
    model.fit(**data)
    expected, (model, data) = model.get_weights(), averaging()
    saved = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True)
    weights = keras.callbacks.ModelCheckpoint(
        tmp_path / "{epoch}.weights.h5", save_weights_only=True
    )
    callbacks, watch = [saved, weights], Watch()
    callbacks = [EvaluateAverages(), *callbacks] if first else [*callbacks, EvaluateAverages()]
    losses = model.fit(**data, callbacks=[*callbacks, watch]).history["val_loss"]
    assert len({round(loss, 4) for loss in losses}) == 3
    best = keras.models.load_model(tmp_path / "best.keras")
    assert loss_of(best, data) == pytest.approx(min(losses), abs=1e-6)
    for found, right in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(found, right)
    for epoch, loss in enumerate(losses, 1):
        model.load_weights(tmp_path / f"{epoch}.weights.h5")
        assert loss_of(model, data) == pytest.approx(loss, abs=1e-6)
        assert loss_of(model, data, callbacks=[EvaluateAverages()]) == pytest.approx(loss, abs=1e-6)
        if epoch < 3:
            model.optimizer.reset_old_weights()
            for found, right in zip(model.get_weights(), watch.begins[epoch], strict=True):
                np.testing.assert_array_equal(found, right)


@pytest.mark.parametrize("first", [True, False])
def test_early_stopping_restores_the_best_averages(first):
    model, data = averaging(scaled=True)
    stop = keras.callbacks.EarlyStopping(patience=9, restore_best_weights=True)
    callbacks = [EvaluateAverages(), stop] if first else [stop, EvaluateAverages()]
    losses = model.fit(**data, callbacks=callbacks).history["val_loss"]
    assert loss_of(model, data) == pytest.approx(min(losses), abs=1e-6)
    assert not model.optimizer.inner_optimizer.averages_are_in


def test_a_training_resumed_from_what_was_validated(tmp_path):
    path = tmp_path / "{epoch}.keras"
    model, data = averaging()
    model.fit(**data, callbacks=[EvaluateAverages(), keras.callbacks.ModelCheckpoint(path)])
    again = keras.models.load_model(tmp_path / "2.keras")
    again.fit(**data, initial_epoch=2, callbacks=[EvaluateAverages()])
    assert_same(model, again, 0)


def test_averages_in_callbacks_of_ones_own():
    model, data = averaging()
    optimizer, watch, losses = model.optimizer, Watch(), []

    class Evaluate(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            with optimizer.averaged_weights():
                losses.append(loss_of(model, data))
            with optimizer.own_weights():
                watch.ends.append(model.get_weights())
            assert optimizer.averages_are_in

    evaluate = [Evaluate(), EvaluateAverages()]
    history = model.fit(**data | {"epochs": 1}, callbacks=evaluate).history["val_loss"]
    assert losses == pytest.approx(history, abs=1e-6)
    for a, b in zip(model.get_weights(), watch.ends[0], strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_put_in_over_the_averages_stay():
    """As after a stop within a validation: what was taken out does not come back over them."""
    model, data = averaging()
    model.fit(**data)
    model.optimizer.apply_ema_weights()
    model.set_weights([np.full(w.shape, 7.0) for w in model.get_weights()])
    assert not model.optimizer.averages_are_in
    model.optimizer.learning_rate.assign(0.0)
    model.fit(**data, callbacks=[EvaluateAverages()])
    for weight in model.get_weights():
        np.testing.assert_array_equal(weight, np.full(weight.shape, 7.0))


def test_an_interrupted_validation_leaves_the_averages_in():
    class Interrupt(keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    model, data = averaging()
    uninterrupted, _ = averaging()
    uninterrupted.set_weights(model.get_weights())
    data["epochs"] = 1
    uninterrupted.fit(**data, callbacks=[EvaluateAverages()])
    with pytest.raises(KeyboardInterrupt):
        model.fit(**data, callbacks=[EvaluateAverages(), Interrupt()])
    if keras.backend.backend() != "jax":  # where Keras ends `fit` even then
        model.optimizer.reset_old_weights()
    for a, b in zip(model.get_weights(), uninterrupted.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_training_with_the_averages_in_makes_them_weights():
    model, data = averaging()
    model.fit(**data)
    model.optimizer.apply_ema_weights()
    model.fit(**data)
    trained = model.get_weights()
    with pytest.raises(ValueError, match="not in the variables"):
        model.optimizer.reset_old_weights()
    with model.optimizer.averaged_weights():
        assert np.abs(model.get_weights()[0] - trained[0]).max() > 1e-4
    for a, b in zip(model.get_weights(), trained, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("optimizer", [AdamW, partial(keras.optimizers.AdamW, use_ema=True)])
def test_evaluation_without_averages(optimizer):
    model = tiny()
    model.compile(optimizer(0.1), "mse")
    with pytest.raises(ValueError, match=r"ema_momentum, got AdamW\.$"):
        model.predict(examples()[0], callbacks=[EvaluateAverages()], verbose=0)


def test_layerwise():
    config = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2,
              "intermediate_size": 8, "max_position_embeddings": 8}  # fmt: skip
    model = build_transformer_model(config, with_pool=True)
    optimizer = SGD(1.0, lr_multipliers=layerwise_multipliers(model, 0.5))
    optimizer.build(model.trainable_variables)
    rates = {
        v.path: optimizer.learning_rates.multipliers[i]
        for i, v in enumerate(model.trainable_variables)
    }
    for path, rate in rates.items():
        depth = int(path.split("_")[1].split("/")[0]) + 1 if path.startswith("block_") else 0
        # google-research/electra, model/optimization.py, _get_layer_lrs
        assert rate == (1 if path.startswith("pooler") else 0.5 ** (3 + 2 - depth)), path
    t5 = build_transformer_model(config, model="t5.1.1", with_lm="linear")
    rates = layerwise_multipliers(t5, 0.5)
    assert not any(
        "lm_head" in pattern for pattern in rates
    )  # a head, though its weights are vectors
    assert rates["^encoder_relative_bias/embeddings$"] == rates["^token_embedding/embeddings$"]
    albert = build_transformer_model(config | {"embedding_size": 4}, model="albert")
    with pytest.raises(ValueError, match="blocks"):
        layerwise_multipliers(albert, 0.5)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: AdamW(0.1, lookahead=(0, 0.5)), "lookahead"),
        (lambda: AdamW(0.1, lookahead=(5, 1.5)), "lookahead"),
        (lambda: AdamW(0.1, lookahead=(5,)), r"lookahead=\(5,\): expected a period"),
        (lambda: AdamW(0.1, lookahead=(True, 0.5)), r"lookahead=\(True, 0\.5\): expected a period"),
        (lambda: AdamW(0.1, lookahead=5), r"lookahead=5: expected a period"),
        (
            lambda: AdamW(0.1, ema_momentum=0.9, ema_overwrite_frequency=10),
            "ema_overwrite_frequency is 10; expected None",
        ),
        (lambda: AdamW(0.1, lr_schedule={}), "lr_schedule"),
        (lambda: AdamW(PiecewiseLinear(1, {0: 1}), lr_schedule={0: 1}), "lr_schedule"),
        (lambda: AdamW(0.1, lr_schedule={2: -1.0}), r"lr_schedule=.* to factor \(0 or more\)"),
        (
            lambda: AdamW(0.1, lr_schedule={"2": 1.0, 2: 0.0}),
            "lr_schedule=.* expected a dict of update",
        ),
        (lambda: AdamW(0.1, lr_multipliers={"a": {2: -1.0}}), r"to factor \(0 or more\)"),
        (lambda: AdamW(0.1, lr_multipliers=["a"]), "lr_multipliers=.* expected a dict"),
        (lambda: PiecewiseLinear("x", {2: 1.0}), "rate='x': expected a number from 0"),
        (lambda: AdamW(-0.1), "learning_rate=-0.1: expected a number from 0"),
        (lambda: AdamW(float("nan")), "learning_rate=nan: expected a number"),
        (lambda: AdamW(True), "learning_rate=True: expected a number"),
        (lambda: AdamW(0.1, weight_decay=-0.5), "weight_decay=-0.5: expected a number from 0"),
        (lambda: AdamW(0.1, weight_decay="0.01"), "weight_decay='0.01': expected a number"),
        (lambda: AdamW(0.1, clipnorm=-1.0), "clipnorm=-1.0: expected a number from 0"),
        (lambda: AdamW(0.1, beta_1=1.5), "beta_1=1.5: expected a number from 0.0 to 1.0"),
        (lambda: AdamW(0.1, ema_momentum=float("nan")), "ema_momentum=nan: expected a number"),
        (
            lambda: AdamW(0.1, gradient_accumulation_steps=2.5),
            "gradient_accumulation_steps=2.5: expected a whole number from 2",
        ),
        (lambda: Tiger(0.1, beta=2), "beta=2: expected a number from 0.0 to 1.0"),
        (lambda: Tiger(0.1, shrink=-5), "shrink=-5: expected a number from 0.0 to 1.0"),
        (
            lambda: optimizers.extend_with_lookahead(keras.optimizers.SGD)(
                0.1, steps_per_slow_update=0
            ),
            r"lookahead=\(0, 0\.5\): expected a period",
        ),
        (lambda: SGD(0.1, bias_correction=False), "bias_correction"),
        (lambda: extend(keras.layers.Dense), "extend"),
        (lambda: extend(keras.optimizers.Nadam)(0.1, skip_nonfinite=True), "skip_nonfinite"),
        (lambda: Lookahead("adam"), "optimizer"),
        (lambda: LossScaleOptimizer(AdamW(0.1)), "skip_nonfinite=True"),
        (lambda: Lazy(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())), "around"),
    ],
)
def test_bad_options(make, told):
    with pytest.raises(ValueError, match=told):
        make()


def test_defaults_are_those_of_keras():
    for made in (SGD, Adam, AdamW, Lion, Adafactor):
        base = getattr(keras.optimizers, made.__name__)
        config = made().get_config()
        for name, value in base().get_config().items():
            if name not in ("name", "ema_momentum"):
                assert config[name] == pytest.approx(value), name
        assert made.from_config(config).get_config() == config


DISTRIBUTED = """
import numpy as np
import sys
sys.path.insert(0, {tests!r})
from test_optimizers import *
x, y = examples()
options = dict(EVERYTHING, epsilon=1e-3)
for more in ({{}}, {{"gradient_accumulation_steps": 3}}, {{"lazy": "token_embedding"}}):
    with scope():
        model = fit(AdamW(0.01, **options, **more), 4, x, y, model=tiny())
    alone = fit(AdamW(0.01, **options, **more), 4, x, y)
    assert_same(model, alone, 1e-6)
    with scope():
        scaled = keras.optimizers.LossScaleOptimizer(AdamW(0.01, **options, **more))
        model = fit(scaled, 4, x, y, model=tiny())
    assert_same(model, alone, 1e-6)
    with scope():
        model = tiny()
        optimizer = AdamW(0.01, **options, **more, skip_nonfinite=True)
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(True))
    # the one row that is not finite is on one of the devices
    x_, y_, weights = with_broken_batches(x, y, 4, (1, 2))
    model.fit(x_, y_, 4, sample_weight=weights, shuffle=False, verbose=0)
    assert_same(model, alone, 1e-6)
    assert int(ops.convert_to_numpy(optimizer.skipped)) == 2
for more in ({{}}, {{"gradient_accumulation_steps": 3}}):
    with scope():
        model = two_headed(AdamW(0.01, **options, **more))
        model.fit(x, [y, y], 4, shuffle=False, verbose=0)
    alone = two_headed(AdamW(0.01, **options, **more))
    alone.fit(x, [y, y], 4, shuffle=False, verbose=0)
    assert_same(model, alone, 1e-6)
    with model.optimizer.averaged_weights(), alone.optimizer.averaged_weights():
        assert_same(model, alone, 1e-6)
print("the same")
"""
SCOPES = {
    "tensorflow": """
        import tensorflow as tf
        cpu = tf.config.list_physical_devices("CPU")[0]
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, two)
        scope = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope
    """,
    "jax": """
        import os
        os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
        import keras, contextlib
        @contextlib.contextmanager
        def scope():
            assert len(keras.distribution.list_devices("cpu")) == 2
            keras.distribution.set_distribution(keras.distribution.DataParallel())
            yield
            keras.distribution.set_distribution(None)
    """,
}


@pytest.mark.long
@pytest.mark.skipif(BACKEND not in SCOPES, reason="Keras has no data parallelism for PyTorch")
def test_on_two_devices():
    code = textwrap.dedent(SCOPES[BACKEND]) + DISTRIBUTED.format(tests=str(Path(__file__).parent))
    environment = os.environ | {"KERAS_BACKEND": BACKEND, "CUDA_VISIBLE_DEVICES": ""}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert "the same" in found.stdout, found.stderr[-3000:]


def test_the_name_of_version_0_1():
    with pytest.warns(DeprecationWarning, match=r"Import OptimizerExtensions from bert4keras_lite"):
        assert optimizers.Extended is optimizers.OptimizerExtensions
