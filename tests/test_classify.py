"""`classify` and `tag`: their answers are the model's own logits, whatever is in the batch."""

import json

import keras
import numpy as np
import pytest
from goldens.recipes import FOLDER

from bert4keras_lite import (
    build_transformer_model,
    classify,
    extract_entities,
    load_classifier,
    load_tagger,
    load_tokenizer,
    save_classifier,
    save_tagger,
    tag,
)
from bert4keras_lite.layers import ConditionalRandomField
from bert4keras_lite.pipelines import TextClassifier, UnsupportedTask
from bert4keras_lite.pipelines.classifiers import probabilities_of

TINY = FOLDER / "bert/hf_tiny_safetensors"
TEXTS = ["天地不是人", ("大", "人不是天地"), "人不是天地大小" * 3, ("天地", "大小")]
NAMES = ["差评", "中评", "好评"]


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(TINY)


def built(kind="text", labels=NAMES, **options):
    """A `Transformer` with a new classifier, whose last layer is far from zero."""
    options |= {"with_classifier": kind, "labels": labels, "new_classifier": True}
    transformer = build_transformer_model(TINY, return_keras_model=False, **options)
    kernel = transformer.variables[f"{kind}_classifier/kernel"]
    kernel.assign(np.random.RandomState(0).standard_normal(kernel.shape))
    return transformer


def logits_of(model, tokenizer, text):
    parts = text if isinstance(text, tuple) else (text,)
    inputs = [np.array([row]) for row in tokenizer.encode(*parts)]
    return keras.ops.convert_to_numpy(model.predict_on_batch(inputs))[0]


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def test_labels_of_texts_and_pairs(tokenizer):
    transformer = built()
    expected = [softmax(logits_of(transformer.model, tokenizer, text)) for text in TEXTS]
    for batch_size in (1, 32):
        answers = classify(transformer, TEXTS, tokenizer, 3, batch_size=batch_size)
        for answer, probs in zip(answers, expected, strict=True):
            assert [name for name, _ in answer] == [NAMES[i] for i in np.argsort(-probs)]
            np.testing.assert_allclose([p for _, p in answer], np.sort(probs)[::-1], atol=1e-5)
    for text, probs in zip(TEXTS, expected, strict=True):
        label, probability = classify(transformer.model, text, tokenizer)
        assert label == NAMES[probs.argmax()]
        assert abs(probability - probs.max()) < 1e-5
    assert TextClassifier(transformer.model, NAMES, tokenizer).filler == 0


def test_texts_that_are_too_long_are_shortened_if_asked(tokenizer):
    model, text = built().model, "天地" * 300
    with pytest.raises(ValueError, match="602 tokens; at most"):
        classify(model, text, tokenizer)
    shorter = classify(model, text, tokenizer, maxlen=12)
    assert shorter == classify(model, text[:10], tokenizer)


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_problem_types(tokenizer, problem, tmp_path):
    transformer = built(problem_type=problem)
    logits = logits_of(transformer.model, tokenizer, TEXTS[0])
    transformer.save_checkpoint(tmp_path / "hf", "hf", vocab=tokenizer)
    save_classifier(tmp_path / "keras", transformer.model, NAMES, tokenizer, problem)
    for model in (transformer, tmp_path / "hf", tmp_path / "keras"):
        answers = classify(model, TEXTS[0], tokenizer, top_k=3)
        values = logits if problem == "regression" else 1 / (1 + np.exp(-logits))
        expected = dict(zip(NAMES, values, strict=True))
        for name, value in answers:
            assert abs(value - expected[name]) < 1e-5
        if problem == "multi_label_classification":
            several = classify(model, TEXTS[0], tokenizer)
            assert {name for name, _ in several} == {n for n, p in expected.items() if p >= 0.5}


@pytest.mark.once
def test_probabilities():
    logits = np.array([-1000.0, 0.0, 1000.0])
    np.testing.assert_allclose(probabilities_of(logits), [0, 0, 1], atol=1e-12)
    several = probabilities_of(logits, "multi_label_classification")
    np.testing.assert_allclose(several, [0, 0.5, 1], atol=1e-12)
    np.testing.assert_allclose(probabilities_of(np.zeros((2, 1))), 0.5)
    np.testing.assert_array_equal(probabilities_of(logits, "regression"), logits)


def test_directories(tokenizer, tmp_path):
    """Hugging Face's files, a Keras file of a `Transformer`, and a graph of one's own."""
    transformer = built()
    transformer.save_checkpoint(tmp_path / "hf", "hf", vocab=tokenizer)
    transformer.save_checkpoint(tmp_path / "keras", "keras", vocab=tokenizer)
    base = build_transformer_model(TINY)
    varied = keras.initializers.RandomNormal(stddev=1.0, seed=0)
    own = keras.Model(
        base.inputs, keras.layers.Dense(3, kernel_initializer=varied)(base.output[:, 0])
    )
    save_classifier(tmp_path / "own", own, NAMES, tokenizer)
    for name, model in (("hf", transformer.model), ("keras", transformer.model), ("own", own)):
        answers = classify(tmp_path / name, TEXTS, top_k=3)
        for text, answer in zip(TEXTS, answers, strict=True):
            probs = softmax(logits_of(model, tokenizer, text))
            expected = dict(zip(NAMES, probs, strict=True))
            for label, probability in answer:
                assert abs(probability - expected[label]) < 1e-5
        loaded, labels, _, problem = load_classifier(tmp_path / name)
        assert list(labels) == NAMES and problem is None
        # texts of other lengths share a pass
        assert TextClassifier(loaded, labels, tokenizer).filler == 0


def test_spans_and_their_probabilities(tokenizer, tmp_path):
    labels = ["O", "B-人", "I-人"]
    transformer = built("tokens", labels)
    transformer.save_checkpoint(tmp_path / "hf", "hf", vocab=tokenizer)
    save_tagger(tmp_path / "tagger", transformer.model, labels, tokenizer)
    texts = [text for text in TEXTS if isinstance(text, str)]
    entities = extract_entities(transformer.model, labels, tokenizer, texts)
    assert any(entities)
    for model in (transformer, tmp_path / "hf", tmp_path / "tagger"):
        for text, spans, expected in zip(
            texts, tag(model, texts, tokenizer), entities, strict=True
        ):
            assert [span[:3] for span in spans] == expected
            probs = softmax(logits_of(transformer.model, tokenizer, text)).max(-1)[1:-1]
            for start, end, _, probability in spans:  # a token is a character
                assert abs(probability - probs[start:end].mean()) < 1e-5
    with pytest.raises(ValueError, match=r"expected 'text'. Use tag"):
        classify(tmp_path / "hf", texts)


def test_labels_that_are_no_tags_of_spans(tokenizer):
    """Each token is a span of its own, such as a part of speech."""
    transformer = built("tokens", ["O", "LABEL_1", "名词"])
    best = logits_of(transformer.model, tokenizer, TEXTS[0]).argmax(-1)[1:-1]
    spans = tag(transformer, TEXTS[0], tokenizer)
    names = transformer.config.labels
    expected = [(i, i + 1, names[n]) for i, n in enumerate(best) if n]
    assert [span[:3] for span in spans] == expected and expected


def test_spans_of_a_crf_have_no_probability(tokenizer, tmp_path):
    base = build_transformer_model(TINY)
    logits = keras.layers.Dense(3, kernel_initializer="random_normal")(base.output)
    model = keras.Model(base.inputs, ConditionalRandomField()(logits))
    labels = ["B-人", "I-人", "E-人"]
    save_tagger(tmp_path, model, labels, tokenizer)
    spans = tag(tmp_path, TEXTS[0])
    assert spans and all(span.probability is None for span in spans)
    assert [span[:3] for span in spans] == extract_entities(*load_tagger(tmp_path), TEXTS[0])


@pytest.mark.once
def test_what_cannot_be_classified(tokenizer, tmp_path):
    model = built().model
    with pytest.raises(TypeError, match=r"tokenizer: expected a Tokenizer, got None. Pass"):
        classify(model, "天地")
    for texts in (3, [3], [("天", 3)], [("天", "地", "人")]):
        with pytest.raises(TypeError, match="texts: expected"):
            classify(model, texts, tokenizer)
    with pytest.raises(ValueError, match="the text is empty"):
        classify(model, ["天", ""], tokenizer)
    with pytest.raises(ValueError, match="top_k"):
        classify(model, "天", tokenizer, top_k=0)
    with pytest.raises(UnsupportedTask, match="with_classifier='text'; expected 'tokens'"):
        tag(model, "天", tokenizer)
    with pytest.raises(ValueError, match=r"architectures is .*, which names no classifier"):
        classify(TINY, "天")
    both = built(with_lm=True)
    with pytest.raises(UnsupportedTask, match="2 outputs; expected the logits of the labels alone"):
        classify(both, "天", tokenizer)


@pytest.mark.once
def test_what_cannot_be_saved(tokenizer, tmp_path):
    model = built().model
    with pytest.raises(ValueError, match=r"2 labels for a model whose output is \(None, 3\)"):
        save_classifier(tmp_path, model, ["a", "b"], tokenizer)
    with pytest.raises(ValueError, match="problem_type is 'ranking'"):
        save_classifier(tmp_path, model, NAMES, tokenizer, "ranking")
    for labels in ("abc", {*NAMES}, iter(NAMES), dict.fromkeys(NAMES), None):
        with pytest.raises(TypeError, match="labels: expected a list of strings"):
            save_classifier(tmp_path, model, labels, tokenizer)
    with pytest.raises(ValueError, match=r"labels: '\\ud800' has half of a character"):
        save_classifier(tmp_path, model, ["\ud800", "b", "c"], tokenizer)
    for none in (None, built(), keras.Sequential([keras.layers.Dense(3)])):
        with pytest.raises(ValueError, match=r"output is unknown; expected a keras\.Model"):
            save_classifier(tmp_path, none, NAMES, tokenizer)
    ends = keras.Model(model.inputs, keras.layers.Softmax(name="p")(model.output))
    ended = keras.Model(model.inputs, keras.layers.Activation("softmax")(model.output))
    for wrong in (ends, ended):
        with pytest.raises(ValueError, match=r"expected logits. Leave the activation out"):
            save_classifier(tmp_path, wrong, NAMES, tokenizer)
    assert not [*tmp_path.iterdir()]
    save_classifier(tmp_path, model, NAMES, tokenizer)
    (tmp_path / "labels.json").write_text(json.dumps("abc"))
    with pytest.raises(ValueError, match=r"expected a JSON list of names, .*, got 'abc'"):
        load_classifier(tmp_path)
    (tmp_path / "labels.json").write_text(json.dumps({"labels": NAMES, "problem": "regression"}))
    with pytest.raises(ValueError, match=r"an object with labels and problem_type, got {'labe"):
        load_classifier(tmp_path)
    (tmp_path / "labels.json").write_text(json.dumps(["a", "b"]))
    with pytest.raises(ValueError, match="2 labels for a model"):
        load_classifier(tmp_path)
