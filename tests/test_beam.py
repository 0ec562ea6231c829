"""Beam handlers: what one process answers, whatever happens to the process of the model."""

import os
import pickle
import sys
import threading

import numpy as np
import pytest

from bert4keras_lite.models import build_transformer_model
from bert4keras_lite.pipelines import SentenceEncoder, classify, load_classifier, rerank
from bert4keras_lite.tokenizers import load_tokenizer

pytestmark = pytest.mark.once
TEXTS = ["今天天气真好", "语言模型", "我们去北京看熊猫，天气很好。" * 3, "好"]
HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture
def beam():
    pytest.importorskip("apache_beam")
    from bert4keras_lite.applications import beam

    return beam


@pytest.fixture
def in_child(monkeypatch):
    """Lets the processes of models find the tasks of this file."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([HERE, *sys.path]))


def serve(number):
    """Runs in the process of a model, as `beam.serve` does, with a task of its own."""
    from bert4keras_lite.applications import beam

    def make(model, settings, batch_size):
        def answer(batch):
            if "once" in batch and not os.path.exists(model):
                open(model, "w").close()
                os.kill(os.getpid(), 9)
            if "always" in batch:
                os.kill(os.getpid(), 9)
            return [(text, os.getpid()) for text in batch]

        return answer

    beam.TASKS["own"] = make
    beam.serve(number)


def process_of(beam, tmp_path, attempts=3):
    task = ("own", str(tmp_path / "flag"), {}, 8, "raise")
    return beam.ModelProcess(task, attempts, "test_beam")


def test_without_beam_an_error_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "bert4keras_lite.applications.beam", raising=False)
    monkeypatch.setitem(sys.modules, "apache_beam.ml.inference.base", None)
    with pytest.raises(ImportError, match=r'pip install "bert4keras_lite\[beam\]"'):
        import bert4keras_lite.applications.beam  # noqa: F401


@pytest.mark.long
def test_a_process_that_dies_is_started_again(beam, in_child, tmp_path, caplog):
    process = process_of(beam, tmp_path)
    (first,) = process.answers(["a"])
    found = process.answers(["b", "once"])
    assert [text for text, _ in found] == ["b", "once"] and found[0][1] != first[1]
    assert "died with exit code -9" in caplog.text
    with pytest.raises(RuntimeError, match=r"died 3 times, with exit code -9, on a batch of 1;"):
        process.answers(["always"])
    assert process.answers(["c"])[0][0] == "c"


@pytest.mark.long
def test_an_interrupted_batch_does_not_answer_the_next(beam, in_child, tmp_path, monkeypatch):
    process = process_of(beam, tmp_path)
    (first,) = process.answers(["a"])

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(process.connection, "recv", interrupted)
    with pytest.raises(KeyboardInterrupt):
        process.answers(["b"])
    assert process.process is None
    (second,) = process.answers(["c"])
    assert second[0] == "c" and second[1] != first[1]


@pytest.mark.long
@pytest.mark.parametrize("element", ["两字", ("熊猫", "竹子"), ("熊猫", [None]), None, ("熊猫",)])
def test_elements_that_are_no_queries(beam, classifier, element):
    handler = beam.RerankPassages(classifier(["LABEL_0"]), errors="return")
    (result,) = handler.run_inference([element], handler.load_model())
    assert "expected a query and a list of passages" in result.inference.message


@pytest.mark.long
def test_several_threads_ask_one_process(beam, in_child, tmp_path):
    process, results = process_of(beam, tmp_path), {}
    threads = [
        threading.Thread(target=lambda i=i: results.update({i: process.answers([f"{i}"] * 3)}))
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all([text for text, _ in results[i]] == [f"{i}"] * 3 for i in range(8))
    assert len({number for answers in results.values() for _, number in answers}) == 1


@pytest.mark.long
def test_vectors_are_those_of_one_process(beam):
    handler = pickle.loads(pickle.dumps(beam.EncodeTexts("tiny-zh", batch_size=2)))
    results = list(handler.run_inference(TEXTS, handler.load_model()))
    assert [result.example for result in results] == TEXTS
    with pytest.warns(UserWarning, match="mean"):
        expected = SentenceEncoder("tiny-zh").encode(TEXTS)
    np.testing.assert_allclose([r.inference for r in results], expected, rtol=0, atol=1e-5)


@pytest.fixture
def classifier(tmp_path):
    """The directory of a classifier of pairs or texts, with one label or three."""

    def make(labels):
        transformer = build_transformer_model(
            "tiny-zh",
            with_classifier="text",
            labels=labels,
            new_classifier=True,
            return_keras_model=False,
        )
        transformer.save_checkpoint(tmp_path / "m", "hf", vocab=load_tokenizer("tiny-zh"))
        return tmp_path / "m"

    return make


@pytest.mark.long
def test_labels_are_those_of_one_process(beam, classifier):
    directory = classifier(["差评", "中评", "好评"])
    handler = beam.ClassifyTexts(directory, errors="return")
    process = handler.load_model()
    results = [r.inference for r in handler.run_inference([*TEXTS, ""], process)]
    for (label, probability), expected in zip(results, classify(directory, TEXTS), strict=False):
        assert label == expected.name and abs(probability - expected.probability) < 1e-6
    assert isinstance(results[-1], beam.InvalidText) and "empty" in results[-1].message
    with pytest.raises(ValueError, match="empty"):
        list(
            beam.ClassifyTexts(directory).run_inference(
                [""], beam.ClassifyTexts(directory).load_model()
            )
        )


@pytest.mark.long
def test_passages_are_ranked_as_in_one_process(beam, classifier):
    directory = classifier(["LABEL_0"])
    assert len(load_classifier(directory)[1]) == 1
    elements = [("今天天气如何", TEXTS), ("熊猫", TEXTS[:1]), ("北京", TEXTS[1:3])]
    handler = beam.RerankPassages(directory, top_k=3)
    results = [r.inference for r in handler.run_inference(elements, handler.load_model())]
    for answer, (query, passages) in zip(results, elements, strict=True):
        expected = rerank(directory, query, passages, top_k=3)
        assert [(i, passage) for i, _, passage in answer] == [
            (e.position, e.passage) for e in expected
        ]
        np.testing.assert_allclose([a[1] for a in answer], [e.score for e in expected], atol=1e-5)


@pytest.mark.long
def test_a_model_that_is_missing_is_an_error_at_once(beam, tmp_path):
    handler = beam.EncodeTexts(tmp_path / "missing")
    with pytest.raises((FileNotFoundError, ValueError), match="missing"):
        handler.run_inference(["a"], handler.load_model())


@pytest.mark.parametrize(
    ("options", "message"),
    [({"errors": "skip"}, "errors: expected"), ({"batch_size": 0}, "batch_size"), ({"k": 1}, "k")],
)
def test_wrong_arguments(beam, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        beam.EncodeTexts("tiny-zh", **options)
    with pytest.raises(ValueError, match="top_k=-1: expected"):
        beam.RerankPassages("tiny-zh", top_k=-1)


@pytest.mark.long
def test_a_pipeline_with_two_workers_loses_and_doubles_nothing(beam, tmp_path):
    import apache_beam
    from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
    from apache_beam.options.pipeline_options import PipelineOptions

    texts = [(i, TEXTS[i % 4] * (1 + i % 7)) for i in range(200)]
    workers = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    handler = KeyedModelHandler(beam.EncodeTexts("tiny-zh", batch_size=16))
    with apache_beam.Pipeline("DirectRunner", PipelineOptions(workers)) as pipeline:
        (
            pipeline
            | apache_beam.Create(texts)
            | apache_beam.Reshuffle()
            | RunInference(handler)
            | apache_beam.MapTuple(lambda key, r: f"{key} {r.inference[0]:.6f}")
            | apache_beam.io.WriteToText(str(tmp_path / "out"))
        )
    lines = [x.split() for path in tmp_path.iterdir() for x in path.read_text().splitlines()]
    found = {int(key): float(value) for key, value in lines}
    assert len(lines) == len(found) == len(texts)
    with pytest.warns(UserWarning, match="mean"):
        expected = SentenceEncoder("tiny-zh").encode([text for _, text in texts])[:, 0]
    np.testing.assert_allclose([found[i] for i in range(len(texts))], expected, atol=1e-5)
