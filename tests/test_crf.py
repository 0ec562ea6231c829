"""Taggers against all paths written out, bert4keras and pytorch-crf; as users train them."""

import itertools
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from running import long_but

from bert4keras_lite import layers as L

GOLDENS = Path(__file__).parent / "goldens" / "outputs"


def randn(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape).astype("float32")


def numpy(x):
    return ops.convert_to_numpy(x)


def logsumexp(x, axis=None):
    high = np.max(x, axis=axis, keepdims=True)
    return np.squeeze(high, axis) + np.log(np.sum(np.exp(x - high), axis=axis))


def built(kind, trans, **options):
    """A layer with these true transitions (or factors of them)."""
    layer = kind(**options)
    layer.build((None, None, len(trans[0])))
    layer.set_weights([x / layer.lr_multiplier for x in trans])
    return layer


def paths_of(length, tags):
    return np.array(list(itertools.product(range(tags), repeat=length)), int).reshape(-1, length)


def crf_totals(scores, trans, paths):
    """The score of each path through `(length, tags)`."""
    total = scores[np.arange(len(scores)), paths].sum(1)
    return total + trans[paths[:, :-1], paths[:, 1:]].sum(1)


def memm_totals(scores, trans, paths):
    """The log-probability of each path, forward and backward, as the formula is written."""
    total = np.zeros(len(paths))
    for n, path in enumerate(paths):
        for tags, nodes, moves in [(path, scores, trans), (path[::-1], scores[::-1], trans.T)]:
            for t, tag in enumerate(tags):
                logits = nodes[t] if t == 0 else (nodes[t] + moves[tags[t - 1]]) / 2
                total[n] += logits[tag] - logsumexp(logits)
    return total


# hidden tokens at the end, at the beginning, in the middle, everywhere
VISIBLE = np.array(
    [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 0, 1, 0, 1], [0, 1, 0, 0, 0], [0] * 5],
    bool,
)


@st.composite
def batches(draw):
    tags, length = draw(st.sampled_from([1, 3])), 5  # few shapes: each is compiled
    seed, scale = draw(st.integers(0, 999)), draw(st.sampled_from([0.3, 3.0, 60.0]))
    random = np.random.RandomState(seed)
    scores = (scale * random.standard_normal((3, length, tags))).astype("float32")
    trans = (scale * random.standard_normal((tags, tags))).astype("float32")
    visible = random.rand(3, length) < draw(st.sampled_from([0.5, 1.0]))
    labels = random.randint(0, tags, (3, length))
    return scores, trans, visible, labels


@given(batches())
@settings(max_examples=12)
def test_crf_against_all_paths(batch):
    scores, trans, visible, labels = batch
    crf = built(L.ConditionalRandomField, [trans])
    marked = crf(scores, visible=visible)
    loss = numpy(crf.sparse_loss(labels, marked))
    unlabelled = numpy(crf.sparse_loss(np.where(visible, labels, -1), crf(scores)))
    np.testing.assert_array_equal(loss, unlabelled)
    one_hot = np.eye(scores.shape[-1])[labels] * visible[..., None]
    np.testing.assert_array_equal(numpy(crf.dense_loss(one_hot, crf(scores))), loss)
    for row in range(3):
        shown = visible[row]
        if not shown.any():
            assert loss[row] == 0
            continue
        nodes, tags = scores[row, shown].astype("float64"), labels[row, shown]
        totals = crf_totals(nodes, trans, paths_of(len(nodes), scores.shape[-1]))
        expected = logsumexp(totals) - crf_totals(nodes, trans, tags[None])[0]
        np.testing.assert_allclose(loss[row], expected, rtol=2e-5, atol=2e-4)


@given(batches(), st.sampled_from([1, 4]))
@settings(max_examples=10)
@pytest.mark.parametrize("kind", [L.ConditionalRandomField, L.MaximumEntropyMarkovModel])
def test_decoding_against_all_paths(kind, batch, n_best):
    scores, trans, visible, _ = batch
    tagger = built(kind, [trans])
    found = numpy(tagger.decode(tagger(scores, visible=visible), n_best=n_best))
    np.testing.assert_array_equal(found, numpy(tagger.decode(scores, visible, n_best)))
    if kind is L.MaximumEntropyMarkovModel:
        check_best(found, scores, trans, visible, n_best, memm_totals)
        return
    check_best(found, scores, trans, visible, n_best, crf_totals)
    in_numpy = L.ViterbiDecoder(trans).decode_batch(scores, visible, n_best)
    assert in_numpy.shape == found.shape
    check_best(in_numpy, scores, trans, visible, n_best, crf_totals)


def check_best(found, scores, trans, visible, n_best, score):
    """The paths found are different ones, with the largest scores there are, in order."""
    found = found.reshape(len(scores), n_best, -1)
    for row, shown in enumerate(visible):
        assert (found[row][:, ~shown] == -1).all()
        if not shown.any():
            continue
        nodes, mine = scores[row, shown].astype("float64"), found[row][:, shown]
        totals = np.sort(score(nodes, trans, paths_of(len(nodes), scores.shape[-1])))
        best = totals[::-1][:n_best]
        assert (mine[len(best) :] == -1).all()
        mine = mine[: len(best)]
        assert len({tuple(path) for path in mine.tolist()}) == len(best)
        assert mine.min() >= 0
        np.testing.assert_allclose(score(nodes, trans, mine), best, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("forbidden", [-1e4, -200.0])
def test_forbidden_transitions(forbidden):
    """Numbers too far apart for a product of exponentials in float32."""
    scores = 100 * randn(2, 6, 3)
    trans = randn(3, 3, seed=1)
    trans[0, 1] = trans[2, 2] = forbidden
    crf = built(L.ConditionalRandomField, [trans])
    labels = np.random.RandomState(2).randint(0, 3, (2, 6))
    loss = numpy(crf.sparse_loss(labels, scores))
    for row in range(2):
        totals = crf_totals(scores[row].astype("float64"), trans, paths_of(6, 3))
        expected = logsumexp(totals) - crf_totals(scores[row], trans, labels[row][None])[0]
        np.testing.assert_allclose(loss[row], expected, rtol=1e-5, atol=1e-2)


def test_starts_and_ends():
    scores, trans = randn(4, 5, 3), randn(3, 3, seed=1)
    decoder = L.ViterbiDecoder(trans, starts=[0, 2], ends=[1])
    kept = scores.copy()
    found = decoder.decode_batch(scores, VISIBLE[:4])
    np.testing.assert_array_equal(scores, kept)
    for row, shown in enumerate(VISIBLE[:4]):
        paths = paths_of(shown.sum(), 3)
        paths = paths[np.isin(paths[:, 0], [0, 2]) & (paths[:, -1] == 1)]
        best = paths[crf_totals(scores[row, shown], trans, paths).argmax()]
        np.testing.assert_array_equal(found[row, shown], best)
        np.testing.assert_array_equal(decoder.decode(scores[row, shown]), best)


@pytest.mark.parametrize("hidden_dim", [None, 2])
def test_memm_by_its_formula(hidden_dim):
    scores, labels = randn(6, 5, 4), np.random.RandomState(1).randint(0, 4, (6, 5))
    if hidden_dim:
        weights = [randn(4, 2, seed=2), randn(4, 2, seed=3)]
        trans = weights[0] @ weights[1].T
    else:
        weights = [trans := randn(4, 4, seed=2)]
    memm = built(L.MaximumEntropyMarkovModel, weights, hidden_dim=hidden_dim, lr_multiplier=5)
    np.testing.assert_allclose(numpy(memm.trans), trans, rtol=1e-5, atol=1e-6)
    loss = numpy(memm.sparse_loss(labels, memm(scores, visible=VISIBLE)))
    expected = [
        -memm_totals(scores[row, shown], trans, labels[row, shown][None])[0] / 2
        for row, shown in enumerate(VISIBLE)
    ]
    np.testing.assert_allclose(loss * VISIBLE.sum() / 6, expected, rtol=1e-4, atol=1e-5)
    one_hot = np.eye(4)[labels] * VISIBLE[..., None]
    np.testing.assert_allclose(numpy(memm.dense_loss(one_hot, scores)), loss, rtol=1e-6)


def test_accuracy_counts_visible_tokens():
    scores, labels = randn(6, 5, 4), np.random.RandomState(1).randint(0, 4, (6, 5))
    crf = built(L.ConditionalRandomField, [randn(4, 4)])
    right = (scores.argmax(-1) == labels)[VISIBLE].mean()
    found = numpy(crf.sparse_accuracy(labels, crf(scores, visible=VISIBLE)))
    assert found.shape == (6,)
    np.testing.assert_allclose(found.mean(), right, rtol=1e-6)
    one_hot = np.eye(4)[labels] * VISIBLE[..., None]
    np.testing.assert_allclose(numpy(crf.dense_accuracy(one_hot, scores)).mean(), right, rtol=1e-6)


KINDS = {
    "crf": (L.ConditionalRandomField, {"lr_multiplier": 10}),
    "memm": (L.MaximumEntropyMarkovModel, {"lr_multiplier": 10}),
    "memm_low_rank": (L.MaximumEntropyMarkovModel, {"hidden_dim": 2}),
}


def tagging(kind, options, dtype=None, implicit=False):
    """A tagger of token ids, with its tagger layer."""
    ids = keras.Input((None,), dtype="int32")
    x = L.TokenEmbedding(9, 8, dtype=dtype, name="token_embedding")(ids)
    scores = keras.layers.Dense(3, dtype=dtype)(x)
    tagger = kind(**options, dtype=dtype, name="tagger")
    if implicit:
        return keras.Model(ids, tagger(scores)), tagger
    visible = keras.Input((None,), dtype="bool")
    return keras.Model([ids, visible], tagger(scores, visible=visible)), tagger


IDS = np.random.RandomState(0).randint(1, 9, (24, 6))
LENGTHS = np.random.RandomState(1).randint(0, 7, 24)
SHOWN = np.arange(6) < LENGTHS[:, None]
TAGS = (IDS + np.roll(IDS, 1, axis=1)) % 3


@pytest.mark.parametrize(
    ("name", "dtype"),
    long_but(
        [("crf", "mixed_float16"), ("memm_low_rank", "mixed_float16")],
        [
            ("crf", "float32"),
            ("crf", "mixed_float16"),
            ("crf", "bfloat16"),
            ("memm", "mixed_bfloat16"),
            ("memm_low_rank", "mixed_float16"),
        ],
    ),
)
def test_trains_compiled_in_every_precision(name, dtype):
    model, tagger = tagging(*KINDS[name], dtype=dtype)
    compiled = keras.backend.backend() != "torch"
    model.compile(
        keras.optimizers.RMSprop(0.02),
        loss=tagger.sparse_loss,
        metrics=[tagger.sparse_accuracy],
        jit_compile=compiled,
    )
    model.optimizer.build(model.trainable_variables)
    history = model.fit([IDS, SHOWN], TAGS, batch_size=8, epochs=4, shuffle=False, verbose=0)
    losses = history.history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < losses[0] - 0.01
    shorter = model.evaluate([IDS[:5, :3], SHOWN[:5, :3]], TAGS[:5, :3], verbose=0)
    assert np.isfinite(shorter).all()
    predicted = model.predict([IDS, SHOWN], verbose=0)
    assert predicted.dtype == np.float32
    tags = numpy(tagger.decode(predicted))
    np.testing.assert_array_equal(tags >= 0, SHOWN)
    weights = [numpy(ops.cast(w, "float32")) for w in tagger.weights]
    assert all(np.isfinite(w).all() for w in weights)


@pytest.mark.parametrize("name", KINDS)
def test_keras_mask_and_file(name, tmp_path):
    kind, options = KINDS[name]
    model, tagger = tagging(kind, options, implicit=True)
    ids = np.where(SHOWN, IDS, 0)
    predicted = model.predict(ids, verbose=0)
    shown = SHOWN.copy()
    shown[:, 0] = True  # as TokenEmbedding has it
    np.testing.assert_array_equal((predicted > -1e8).all(-1), shown)
    model.save(tmp_path / "tagger.keras")
    again = keras.saving.load_model(tmp_path / "tagger.keras")
    np.testing.assert_array_equal(again.predict(ids, verbose=0), predicted)
    layer = again.get_layer("tagger")
    assert layer.get_config() == tagger.get_config()
    found, expected = (numpy(x.decode(predicted)) for x in (layer, tagger))
    np.testing.assert_array_equal(found, expected)


def test_a_compiled_model_in_a_file(tmp_path):
    model, tagger = tagging(L.ConditionalRandomField, {"lr_multiplier": 10}, implicit=True)
    model.compile("sgd", loss=tagger.sparse_loss, metrics=[tagger.sparse_accuracy])
    model.optimizer.build(model.trainable_variables)
    model.fit(IDS, TAGS, verbose=0)
    model.save(tmp_path / "tagger.keras")
    again = keras.saving.load_model(tmp_path / "tagger.keras")
    found, expected = (m.evaluate(IDS, TAGS, verbose=0, return_dict=True) for m in (again, model))
    assert found.keys() == {"loss", "sparse_accuracy"}
    assert found == pytest.approx(expected)
    # the loss looks at the transitions of the layer that was loaded
    layer = again.get_layer("tagger")
    layer.set_weights([layer.get_weights()[0] + np.eye(3)])
    assert again.evaluate(IDS, TAGS, verbose=0)[0] != pytest.approx(expected["loss"])


@pytest.mark.parametrize("sparse", [True, False])
def test_losses_and_accuracies_in_files_of_version_0_1(sparse):
    layer = L.ConditionalRandomField.from_config({"name": "tagger_of_a_file"})
    layer.build((None, None, 3))
    scores = layer(randn(24, 6, 3))
    labels = TAGS if sparse else np.eye(3)[TAGS]
    for what in ("loss", "accuracy"):
        name = f"{'sparse' if sparse else 'dense'}_{what}"
        item = {"class_name": "OfTagger", "registered_name": "bert4keras_lite>OfTagger"}
        item |= {"module": "bert4keras_lite.layers.crf", "build_config": None}
        item["config"] = {"tagger": "tagger_of_a_file", "name": name}
        function = keras.saving.deserialize_keras_object(item)
        expected = numpy(getattr(layer, name)(labels, scores))
        np.testing.assert_array_equal(numpy(function(labels, scores)), expected)
    item["config"] = {"tagger": "none", "name": "sparse_loss"}
    with pytest.raises(ValueError, match="sparse_loss: the model has no layer 'none'"):
        keras.saving.deserialize_keras_object(item)


def test_a_copy_of_a_model_has_the_loss_of_its_own_layer():
    model, tagger = tagging(L.ConditionalRandomField, {}, implicit=True)
    model.compile("sgd", loss=L.CRFLoss(tagger))
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    expected = model.evaluate(IDS, TAGS, verbose=0)
    tagger.set_weights([tagger.get_weights()[0] + np.eye(3)])
    assert copy.evaluate(IDS, TAGS, verbose=0) == pytest.approx(expected)


def test_transitions_are_stored_divided():
    layer = L.ConditionalRandomField(lr_multiplier=100)
    layer.build((None, None, 4))
    assert np.abs(numpy(layer.trans)).max() > 0.1
    np.testing.assert_allclose(layer.get_weights()[0] * 100, numpy(layer.trans), rtol=1e-6)


@pytest.mark.parametrize("case", ["crf", "memm", "memm_low_rank"])
def test_bert4keras_computes_the_same(case):
    golden = np.load(GOLDENS / "bert4keras.npz")
    kind, options = KINDS[case]
    layer = kind(**options)
    scores, labels, visible = (golden[x] for x in ("scores", "labels", "visible"))
    layer.build(scores.shape)
    count = len(layer.weights)
    layer.set_weights([golden[f"{case}/weight_{i}"] for i in range(count)])
    y = layer(scores, visible=visible)
    # bert4keras counts a MEMM's hits given the true neighbours
    accuracies = ("sparse_accuracy", "dense_accuracy") if case == "crf" else ()
    for method in ("sparse_loss", "dense_loss", *accuracies):
        truth = labels if method.startswith("sparse") else np.eye(scores.shape[-1])[labels]
        found = numpy(getattr(layer, method)(truth, y))
        expected = golden[f"{case}/{method}"]
        found = found if expected.ndim else found.mean()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_bert4keras_decodes_the_same():
    golden = np.load(GOLDENS / "bert4keras.npz")
    decoder = L.ViterbiDecoder(golden["viterbi/trans"], starts=[0, 3], ends=[1, 3])
    for scores, shown, expected in zip(
        golden["scores"], golden["visible"], golden["viterbi/tags"], strict=True
    ):
        np.testing.assert_array_equal(decoder.decode(scores[shown]), expected[shown])


def test_pytorch_crf_computes_the_same():
    golden = np.load(GOLDENS / "torchcrf.npz")
    crf = built(L.ConditionalRandomField, [golden["trans"]])
    y = crf(golden["scores"], visible=golden["visible"])
    loss = numpy(crf.sparse_loss(golden["labels"], y))
    np.testing.assert_allclose(loss, golden["loss"], rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(numpy(crf.decode(y)), golden["tags"])


@pytest.mark.parametrize("kind", [L.ConditionalRandomField, L.MaximumEntropyMarkovModel])
def test_a_label_beyond_the_tags(kind):
    """It was counted in the normalizer alone: a finite loss, and a wrong one."""
    layer, scores = built(kind, [randn(3, 3)]), randn(2, 4, 3)
    right, wrong = (
        np.array([[0, 1, 2, 1], [0, 1, -1, -1]]),
        np.array([[0, 1, 3, 1], [0, 1, -1, -1]]),
    )
    assert np.isfinite(numpy(layer.sparse_loss(right, scores))).all()
    for method in (layer.sparse_loss, layer.sparse_accuracy):
        with pytest.raises(ValueError, match=r"y_true: .*expected 0 to 2.*got -1 to 3\."):
            method(wrong, scores)


@pytest.mark.parametrize("kind", [L.ConditionalRandomField, L.MaximumEntropyMarkovModel])
def test_labels_of_another_kind_or_shape(kind):
    layer, scores = built(kind, [randn(3, 3)]), randn(2, 4, 3)
    labels = np.array([[0, 1, 2, 1], [0, 1, -1, -1]])
    expected = numpy(layer.sparse_loss(labels, scores))
    for same in (labels[..., None], labels.astype("float32"), np.where(labels < 0, -100, labels)):
        np.testing.assert_array_equal(numpy(layer.sparse_loss(same, scores)), expected)
    with pytest.raises(ValueError, match="y_true: labels that are not whole numbers"):
        layer.sparse_loss(labels + 0.5, scores)
    for other in (labels.T, labels[:, :3], labels.reshape(-1)):
        with pytest.raises(ValueError, match=r"y_true: labels of shape .* expected \(2, 4\)"):
            layer.sparse_loss(other, scores)


@pytest.mark.parametrize("kind", [L.ConditionalRandomField, L.MaximumEntropyMarkovModel])
def test_a_label_beyond_the_tags_in_a_compiled_step(kind):
    inputs = keras.Input((4, 3))
    layer = kind()
    model = keras.Model(inputs, layer(inputs))
    model.compile("sgd", layer.sparse_loss, jit_compile=keras.backend.backend() != "torch")
    if keras.backend.backend() == "torch":  # whose steps are eager
        with pytest.raises(ValueError, match="expected 0 to 2"):
            model.test_on_batch(randn(1, 4, 3), np.array([[0, 1, 3, 1]]))
    else:
        assert np.isnan(model.test_on_batch(randn(1, 4, 3), np.array([[0, 1, 3, 1]])))


@pytest.mark.parametrize("kind", [L.ConditionalRandomField, L.MaximumEntropyMarkovModel])
def test_logits_that_are_not_numbers(kind):
    layer, scores = built(kind, [randn(3, 3)]), randn(1, 4, 3)
    scores[0, 2] = np.nan
    with pytest.raises(ValueError, match="decode: the scores are NaN"):
        layer.decode(scores)
    with pytest.raises(ValueError, match="decode: the scores are NaN"):
        L.ViterbiDecoder(randn(3, 3)).decode_batch(scores)
    visible = np.array([[1, 1, 0, 0]], bool)
    assert numpy(layer.decode(scores, visible)).tolist()[0][2:] == [-1, -1]
    assert np.isnan(numpy(layer.sparse_loss(np.array([[0, 1, 2, 1]]), scores))).any()


def test_weights_are_of_sequences():
    model, tagger = tagging(L.ConditionalRandomField, {}, implicit=True)
    model.compile("sgd", tagger.sparse_loss, jit_compile=False)
    each = numpy(tagger.sparse_loss(TAGS, model(IDS)))
    for shape in ((24,), (24, 1)):
        weights = np.arange(24, dtype="float32").reshape(shape)
        found = model.evaluate(IDS, TAGS, 24, sample_weight=weights, verbose=0)
        assert found == pytest.approx((each * np.arange(24)).mean(), rel=1e-4)
    square = np.ones((6, 6), "float32")  # which would be taken for those of six sequences
    with pytest.raises(
        ValueError, match=r"sample_weight: expected one for each sequence.*label -1"
    ):
        tagger.sparse_loss(TAGS[:6], model(IDS[:6]), square)
    refused = ValueError
    if keras.backend.backend() == "tensorflow":  # whose `evaluate` does not know the rank
        import tensorflow as tf

        refused = tf.errors.InvalidArgumentError
    with pytest.raises(refused):
        model.evaluate(IDS[:6], TAGS[:6], 6, sample_weight=square, verbose=0)
