"""Pipelines: answers to texts are those of the model, whatever is in the batch."""

import itertools

import keras
import numpy as np
import pytest
from goldens.recipes import FOLDER
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bert4keras_lite import (
    build_transformer_model,
    doctor,
    extract_entities,
    extract_features,
    fill_mask,
    load_tagger,
    load_tokenizer,
    optimizers,
    pipelines,
    save_tagger,
    serving,
)
from bert4keras_lite.applications import doctor as new_doctor
from bert4keras_lite.applications import serving as new_serving
from bert4keras_lite.pipelines import FeatureExtractor, base
from bert4keras_lite.pipelines.base import Encoded

TINY = FOLDER / "bert/hf_tiny_safetensors"
TEXTS = ["天地不是人", "大", "人不是天地大小" * 3]
CLOSE = 1e-5


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(TINY)


@pytest.fixture
def extractor(tokenizer):
    model = build_transformer_model(TINY, return_keras_model=False)
    made = FeatureExtractor(model, tokenizer)
    made.longest = None
    return made


def outputs(model, tokenizer, text):
    ids = np.array([tokenizer.encode(text)[0]])
    return np.asarray(model.predict_on_batch([ids, ids * 0]))[0]


def test_fill_mask(tokenizer):
    model = build_transformer_model(TINY, with_mlm=True)
    texts = ["天[MASK]不是人", "[MASK]" * 20]
    first, second = fill_mask(model, tokenizer, texts, top_k=3)
    assert len(first) == 1 and len(second) == 20
    encode = load_tokenizer(TINY, special_tokens_in_text=True)
    probs = outputs(model, encode, texts[0])[2]
    best = np.argsort(-probs)[:3]
    assert [token for token, _ in first[0]] == tokenizer.ids_to_tokens(best)
    np.testing.assert_allclose([prob for _, prob in first[0]], probs[best], atol=CLOSE)
    np.testing.assert_allclose(
        second[-1][0][1], outputs(model, encode, texts[1])[20].max(), atol=CLOSE
    )
    assert [t for t, _ in fill_mask(model.transformer, tokenizer, texts[0])[0]][:3] == [
        token for token, _ in first[0]
    ]


def test_features(tokenizer):
    model = build_transformer_model(TINY)
    states = [outputs(model, tokenizer, text) for text in TEXTS]
    for batch_size in (1, 32):
        found = extract_features(model, tokenizer, TEXTS, None, batch_size)
        for rows, expected in zip(found, states, strict=True):
            np.testing.assert_allclose(rows, expected, atol=CLOSE)
    means = extract_features(model, tokenizer, TEXTS)
    np.testing.assert_allclose(means, [rows[1:-1].mean(0) for rows in states], atol=CLOSE)
    firsts = extract_features(model, tokenizer, TEXTS, "cls")
    np.testing.assert_allclose(firsts, [rows[0] for rows in states], atol=CLOSE)
    single = extract_features(model, tokenizer, TEXTS[0], "cls")
    np.testing.assert_allclose(single, firsts[0], atol=CLOSE)
    assert extract_features(model, tokenizer, []).shape == (0, firsts.shape[1])


def test_entities_leave_a_compiled_model_as_it_is(tokenizer, tmp_path):
    base = build_transformer_model(TINY)
    varied = keras.initializers.RandomNormal(stddev=1.0, seed=0)
    tagger = keras.Model(base.inputs, keras.layers.Dense(3, kernel_initializer=varied)(base.output))
    labels = ["O", "B-人", "I-人"]
    save_tagger(tmp_path, tagger, labels, tokenizer)
    optimizer = keras.optimizers.SGD()
    tagger.compile(optimizer, "mse")
    found = extract_entities(tagger, labels, tokenizer, TEXTS)
    assert any(found) and tagger.optimizer is optimizer
    assert found == extract_entities(*load_tagger(tmp_path), TEXTS)
    assert found[0] == extract_entities(tagger, labels, tokenizer, TEXTS[0])


def test_errors_name_the_text_or_the_argument(tokenizer):
    model = build_transformer_model(TINY)
    with pytest.raises(ValueError, match=r"^'': the text is empty"):
        extract_features(model, tokenizer, ["天", ""])
    with pytest.raises(ValueError, match=r"^bert: the model has no masked-language-model head"):
        fill_mask(model, tokenizer, "天[MASK]")
    with pytest.raises(ValueError, match=r"^pooling: expected 'mean', 'cls' or None, got 'max'"):
        extract_features(model, tokenizer, TEXTS, pooling="max")
    with pytest.raises(TypeError, match=r"^texts: expected a list"):
        extract_features(model, tokenizer, None)
    with pytest.raises(ValueError, match=r"^batch_size=0: expected"):
        extract_features(model, tokenizer, TEXTS, batch_size=0)
    model.get_layer("token_embedding").set_weights(
        [np.full_like(x, np.nan) for x in model.get_layer("token_embedding").get_weights()]
    )
    with pytest.raises(ValueError, match=r"^'大': the model's output is not finite"):
        FeatureExtractor(model, tokenizer)(["大"])


def test_import_paths_of_version_0_1():
    for old, names, home in (
        (serving, ("Limits", "create_app", "load", "run"), new_serving),
        (serving, ("attention_model", "save_tagger"), pipelines),
        (doctor, ("SENTENCES", "Reading", "Report", "examine"), new_doctor),
    ):
        for name in names:
            with pytest.warns(DeprecationWarning, match=rf"Import {name} from {home.__name__}\."):
                assert getattr(old, name) is getattr(home, name)
    with pytest.warns(
        DeprecationWarning, match=r"Import OptimizerExtensions from bert4keras_lite\."
    ):
        assert optimizers.Extended is optimizers.OptimizerExtensions
    with pytest.raises(AttributeError, match="has no attribute 'other'"):
        _ = doctor.other


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 20), st.booleans())
def test_batches_are_full_and_tight(extractor, sizes, batch_size, is_padded):
    extractor.filler = 0 if is_padded else None
    items = [Encoded("", [5] * size) for size in sizes]
    batches = list(extractor.batches(items, batch_size))
    assert sorted(row for batch in batches for row in batch) == list(range(len(items)))
    for batch in batches:
        length = extractor.length_of([items[row] for row in batch])
        longest, shortest = max(sizes[row] for row in batch), min(sizes[row] for row in batch)
        assert 1 <= len(batch) <= batch_size
        assert len(batch) == 1 or len(batch) * longest <= base.PASS
        if not is_padded:
            assert length == longest == shortest
        elif keras.backend.backend() == "jax":
            assert longest <= length < 2 * max(longest, base.SHORTEST)
        else:
            assert longest <= length < longest + 8
    # none could be joined with the next, but for rounding to a power of two
    for batch, following in itertools.pairwise(batches):
        if is_padded and len(batch) < batch_size:
            length = extractor.length_of([items[row] for row in batch])
            assert 2 * (len(batch) + 1) * length > base.PASS or 2 * (len(batch) + 1) > batch_size
            assert max(sizes[row] for row in following) <= min(sizes[row] for row in batch)
