"""`rerank`: its scores are the model's own logits of a pair, whatever is in the batch."""

import keras
import numpy as np
import pytest
from goldens.recipes import FOLDER

from bert4keras_lite import build_transformer_model, load_tokenizer, rerank
from bert4keras_lite.pipelines import FeatureExtractor, Reranker, UnsupportedTask
from bert4keras_lite.tokenizers import Tokenizer

TINY = FOLDER / "bert/hf_tiny_safetensors"
QUERY, PASSAGES = "天地", ["人不是天地大小", "大", "人不是", "天地不是人" * 2]
SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position": 34,
}


def with_large_kernel(transformer):
    kernel = transformer.variables["text_classifier/kernel"]
    kernel.assign(np.random.RandomState(0).standard_normal(kernel.shape))
    return transformer


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(TINY)


@pytest.fixture(scope="module")
def bert():
    options = {"with_classifier": "text", "labels": ["LABEL_0"], "new_classifier": True}
    built = build_transformer_model(TINY, return_keras_model=False, **options)
    return with_large_kernel(built)


@pytest.fixture(scope="module")
def xlm_roberta():
    """An XLM-R with a vocabulary of characters, whose padding is row 1."""
    options = SIZES | {"with_classifier": "text", "labels": ["LABEL_0"]}
    model = build_transformer_model(model="xlm_roberta", return_keras_model=False, **options)
    tokens = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", *"天地人不是大小"]
    vocab = {token: i for i, token in enumerate([*tokens, *map(str, range(60 - len(tokens)))])}
    return with_large_kernel(model), Tokenizer(vocab)


def logit_of(transformer, tokenizer, query, passage):
    rows = tokenizer.encode(query, passage)
    inputs = [np.array([row]) for row in rows][: len(transformer.inputs)]
    return float(keras.ops.convert_to_numpy(transformer.model.predict_on_batch(inputs))[0, 0])


def test_passages_of_an_iterator(bert, tokenizer):
    expected = rerank(bert, QUERY, PASSAGES, tokenizer)
    assert rerank(bert, QUERY, iter(PASSAGES), tokenizer) == expected


@pytest.mark.parametrize("batch_size", [1, 32])
def test_best_first(bert, tokenizer, batch_size):
    expected = [logit_of(bert, tokenizer, QUERY, passage) for passage in PASSAGES]
    ranked = rerank(bert, QUERY, PASSAGES, tokenizer, batch_size=batch_size)
    assert [r.position for r in ranked] == np.argsort(expected)[::-1].tolist()
    assert all(PASSAGES[r.position] == r.passage for r in ranked)
    scores = [expected[r.position] for r in ranked]
    np.testing.assert_allclose([r.score for r in ranked], scores, atol=1e-5)
    best = rerank(bert.model, QUERY, PASSAGES, tokenizer, top_k=2, normalize=True)
    assert [r.position for r in best] == [r.position for r in ranked[:2]]
    probs = 1 / (1 + np.exp(-np.array(scores[:2])))
    np.testing.assert_allclose([r.score for r in best], probs, atol=1e-5)


def test_a_directory_of_xlm_roberta(xlm_roberta, tmp_path):
    """One segment, and padding that counts no positions."""
    transformer, tokenizer = xlm_roberta
    expected = [logit_of(transformer, tokenizer, QUERY, passage) for passage in PASSAGES]
    transformer.save_checkpoint(tmp_path, "hf", vocab=tokenizer)
    ranked = rerank(tmp_path, QUERY, PASSAGES)
    np.testing.assert_allclose(
        [r.score for r in ranked], [expected[r.position] for r in ranked], atol=1e-5
    )
    assert Reranker(transformer.model, ["LABEL_0"], tokenizer).maxlen == 32  # of 34 positions


def test_only_the_passage_is_shortened(bert, tokenizer):
    reranker = Reranker(bert.model, ["LABEL_0"], tokenizer, maxlen=16)
    ids = reranker.prepare((QUERY, "人不是天地大小" * 9)).ids
    query, passage = tokenizer.encode(QUERY)[0], tokenizer.encode("人不是天地大小" * 9)[0]
    assert len(ids) == 16
    assert ids == [*query, *passage[1:12], query[-1]]
    ids = reranker.prepare(("天地" * 20, "人不是大小")).ids
    query, passage = tokenizer.encode("天地" * 20)[0], tokenizer.encode("人不是大小")[0]
    assert ids == [*query[:13], query[-1], passage[1], passage[-1]]  # 12 of 16 are the query's


def test_errors(bert, tokenizer, xlm_roberta):
    with pytest.raises(ValueError, match="the query or the passage is empty"):
        rerank(bert, QUERY, ["人", ""], tokenizer)
    with pytest.raises(TypeError, match=r"expected pairs \(query, passage\) of strings"):
        rerank(bert, QUERY, ["人", 1], tokenizer)
    with pytest.raises(TypeError, match="passages: expected a list"):
        rerank(bert, QUERY, "人", tokenizer)
    with pytest.raises(UnsupportedTask, match="has 2 labels; expected one"):
        Reranker(bert.model, ["a", "b"], tokenizer)
    with pytest.raises(UnsupportedTask, match="with_classifier=False; expected 'text'"):
        rerank(build_transformer_model(TINY), QUERY, PASSAGES, tokenizer)
    with pytest.raises(UnsupportedTask, match="the tokenizer pads with 0, and positions are"):
        rerank(xlm_roberta[0], QUERY, PASSAGES, tokenizer)
    encoder = build_transformer_model(model="xlm_roberta", return_keras_model=False, **SIZES)
    with pytest.raises(UnsupportedTask, match="counted from the padding id 1"):
        FeatureExtractor(encoder, tokenizer)
