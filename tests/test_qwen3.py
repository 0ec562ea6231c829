"""Qwen3-Embedding and Qwen3-Reranker: the numbers of transformers, from directories like theirs."""

import json

import numpy as np
import pytest
from goldens import make_qwen3
from goldens.make_qwen3 import GOLDEN, INSTRUCTION, MAXLEN, PASSAGES, QUERY, TEXTS

from bert4keras_lite import SentenceEncoder, build_transformer_model, load_tokenizer, rerank
from bert4keras_lite.pipelines import Reranker, UnsupportedTask
from bert4keras_lite.pipelines.reranking import load_reranker

FROZEN = np.load(GOLDEN)


@pytest.fixture
def directory(tmp_path):
    """Writes the directory of a case."""

    def write(case):
        make_qwen3.write_case(tmp_path, case)
        return tmp_path

    return write


def test_embedding(directory):
    """The end token is pooled, although it is the one that pads; a text may hold it as well."""
    encoder = SentenceEncoder(directory("embedding"))
    vectors = [encoder.encode(TEXTS, prompt_name=name) for name in ("document", "query")]
    np.testing.assert_allclose(vectors, FROZEN["embedding"], rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(encoder.encode(TEXTS[0]), vectors[0][0], rtol=1e-5, atol=1e-6)
    written_out = encoder.encode([make_qwen3.PROMPT + text for text in TEXTS])
    np.testing.assert_allclose(written_out, vectors[1], rtol=1e-5, atol=1e-6)


def test_embedding_of_fewer_dimensions(directory):
    """They are not scaled again, as in sentence-transformers."""
    encoder = SentenceEncoder(directory("embedding"), truncate_dim=12)
    assert encoder.dim == 12
    vectors = encoder.encode(TEXTS)
    np.testing.assert_allclose(vectors, FROZEN["embedding"][0, :, :12], rtol=1e-5, atol=2e-6)


def test_embedding_in_bfloat16(directory):
    encoder = SentenceEncoder(directory("embedding"), dtype="bfloat16")
    assert {v.dtype for v in encoder.transformer.variables.values()} == {"bfloat16"}
    vectors = encoder.encode(TEXTS)
    cosines = (vectors * FROZEN["embedding"][0]).sum(-1)
    assert vectors.dtype == np.float32 and cosines.min() > 0.999, cosines


@pytest.mark.parametrize("batch_size", [1, 32])
def test_reranker(directory, batch_size):
    """Probabilities of "yes"; of the second passage only the body is truncated."""
    options = {"instruction": INSTRUCTION, "maxlen": MAXLEN, "batch_size": batch_size}
    results = rerank(directory("reranker"), QUERY, PASSAGES, normalize=True, **options)
    probs = {r.position: r.score for r in results}
    in_order = [probs[i] for i in range(len(PASSAGES))]
    np.testing.assert_allclose(in_order, FROZEN["reranker"], rtol=1e-5, atol=1e-6)
    assert [r.position for r in results] == np.argsort(-FROZEN["reranker"]).tolist()


def test_ids_of_the_reranker(directory):
    model, labels, tokenizer = load_reranker(directory("reranker"), INSTRUCTION)
    reranker = Reranker(model, labels, tokenizer, MAXLEN, instruction=INSTRUCTION)
    assert reranker.prepare((QUERY, PASSAGES[0])).ids == FROZEN["reranker_ids"].tolist()
    assert len(reranker.prepare((QUERY, PASSAGES[1])).ids) == MAXLEN
    probs = 1 / (1 + np.exp(-np.array(reranker([(QUERY, passage) for passage in PASSAGES]))))
    np.testing.assert_allclose(probs, FROZEN["reranker"], rtol=1e-5, atol=1e-6)


def test_reranker_as_a_classifier(directory):
    """The same text for a port with one label, whose row is that of "yes" less that of "no"."""
    options = {"instruction": INSTRUCTION, "maxlen": MAXLEN}
    results = rerank(directory("classifier"), QUERY, PASSAGES, **options)
    logits = [r.score for r in sorted(results)]
    np.testing.assert_allclose(logits, FROZEN["classifier"], rtol=1e-5, atol=1e-5)
    probs = 1 / (1 + np.exp(-FROZEN["classifier"]))
    np.testing.assert_allclose(probs, FROZEN["reranker"], rtol=1e-5, atol=1e-6)


def test_reranker_of_a_model(directory):
    folder = directory("reranker")
    model = build_transformer_model(folder, with_lm="linear", dtype="bfloat16")
    tokenizer = load_tokenizer(folder, special_tokens_in_text=True)
    options = {"instruction": INSTRUCTION, "maxlen": MAXLEN, "normalize": True}
    results = sorted(rerank(model, QUERY, PASSAGES, tokenizer, **options))
    np.testing.assert_allclose([r.score for r in results], FROZEN["reranker"], atol=0.02)
    with pytest.raises(UnsupportedTask, match=r"'<\|im_start\|>' in a text is not one token"):
        rerank(model, QUERY, PASSAGES, load_tokenizer(folder), **options)
    encoder = build_transformer_model(folder)
    with pytest.raises(UnsupportedTask, match=r"neither a classifier nor a causal language model"):
        rerank(encoder, QUERY, PASSAGES, tokenizer, **options)


def test_wrong_requests(directory):
    folder = directory("reranker")
    with pytest.raises(ValueError, match=r"with_classifier|no classifier|instruction"):
        rerank(folder, QUERY, PASSAGES)  # a pair, for a classifier that is not there
    with pytest.raises(ValueError, match=r"maxlen: 100; expected at least \d+, with the tokens"):
        rerank(folder, QUERY, PASSAGES, maxlen=100, instruction=INSTRUCTION)
    with pytest.raises(ValueError, match=r"the query or the passage is empty"):
        rerank(folder, QUERY, [""], maxlen=MAXLEN, instruction=INSTRUCTION)
    with pytest.raises(TypeError, match=r"instruction: expected a text or None, got 3\."):
        rerank(folder, QUERY, PASSAGES, instruction=3)


def test_answers_that_are_no_tokens(directory):
    folder = directory("reranker")
    content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    content["model"]["merges"].remove(["y", "es"])
    vocab = content["model"]["vocab"]
    vocab["sey"] = vocab.pop("yes")
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(UnsupportedTask, match=r"tokenizer: 'yes' is not one token; expected"):
        rerank(folder, QUERY, PASSAGES, instruction=INSTRUCTION)
