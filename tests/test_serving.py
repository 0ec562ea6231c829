"""The server: what it answers is what the model says, whoever asks at the same time."""

import asyncio
import contextlib
import gc
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from goldens.make_sentences import GOLDEN, write_case
from goldens.make_sentences import TEXTS as SENTENCES
from goldens.recipes import FOLDER
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from bert4keras_lite import (
    Tokenizer,
    build_transformer_model,
    generate_text,
    load_tokenizer,
    stream,
)
from bert4keras_lite.applications.cli import main
from bert4keras_lite.applications.serving import Limits, abilities, following, load
from bert4keras_lite.applications.serving.abilities import (
    GeneratedText,
    Served,
    TextGenerator,
)
from bert4keras_lite.applications.serving.worker import Failed, Job, Overloaded, Timeout, Worker
from bert4keras_lite.generation import Generated
from bert4keras_lite.generation.generate import TextStream
from bert4keras_lite.layers import ConditionalRandomField, GlobalPointer
from bert4keras_lite.metrics import bio_spans
from bert4keras_lite.pipelines import (
    EntityExtractor,
    FeatureExtractor,
    FillMask,
    InvalidOutput,
    InvalidRequest,
    UnsupportedTask,
    attention_model,
    classify,
    extract_entities,
    extract_information,
    load_tagger,
    rerank,
    save_tagger,
)
from bert4keras_lite.pipelines import base as pipelines_base
from bert4keras_lite.pipelines import entities as pipelines_entities
from bert4keras_lite.tokenizers.added import AddedToken

httpx = pytest.importorskip("httpx")
TestClient = pytest.importorskip("fastapi.testclient").TestClient
create_app = pytest.importorskip("bert4keras_lite.applications.serving.app").create_app
from bert4keras_lite.applications.serving import server  # noqa: E402
from bert4keras_lite.applications.serving.server import Server, config  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "bert4keras_lite/applications/serving/page"
TINY = FOLDER / "bert/hf_tiny_safetensors"
TEXTS = ["天地不是人", "大人不小", "天", "人不是天地大小" * 3]
CLOSE = 1e-5
# random weights look like those that nobody trained
pytestmark = pytest.mark.filterwarnings("ignore:.*looks never trained:UserWarning")


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(TINY)


@pytest.fixture(scope="module")
def bert():
    return build_transformer_model(TINY, with_mlm=True, return_keras_model=False)


@pytest.fixture(scope="module")
def served():
    return load(TINY)


def asking(app):
    """A client of an application, without a server."""
    return TestClient(app, base_url="http://localhost")


@pytest.fixture(scope="module")
def client(served):
    with asking(create_app(served)) as client:
        yield client


@pytest.fixture(scope="module")
def gpt2(tokenizer, tmp_path_factory):
    """A directory with a small language model, whose random weights make varied texts."""
    directory = tmp_path_factory.mktemp("gpt2")
    keras.utils.set_random_seed(1)
    transformer = build_transformer_model(
        model="gpt2",
        vocab_size=tokenizer.vocab_size,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position=64,
        initializer_range=0.5,
        with_lm="linear",
        return_keras_model=False,
    )
    transformer.save_checkpoint(directory, format="tf", vocab=tokenizer)
    return directory


@pytest.fixture(scope="module")
def served_writer(gpt2):
    return load(gpt2, new_tokens=32)


@pytest.fixture(scope="module")
def writer(served_writer):
    with asking(create_app(served_writer, Limits(new_tokens=32))) as client:
        yield client


def answer(client, path, **body):
    response = client.post(f"/v1/{path}", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def error(response, status):
    """The error of a response, which has the form that is promised."""
    assert response.status_code == status, response.text
    found = response.json()["error"]
    assert found["status"] == status and found["message"]
    return found


def events(text):
    """Kinds and data of server-sent events."""
    parts = [part.split("\n") for part in text.split("\n\n")[:-1]]
    return [(kind.removeprefix("event: "), json.loads(data[6:])) for kind, data in parts]


# ---------------------------------------------------------------- what the abilities answer


def test_masks_get_the_models_probabilities(client, bert, tokenizer):
    found = answer(client, "fill-mask", texts=["天[MASK]不是人", "[MASK]大[MASK]"], top=3)[
        "results"
    ]
    assert [len(result["masks"]) for result in found] == [1, 2]
    start, mask, end = tokenizer.tokens_to_ids(["[CLS]", "[MASK]", "[SEP]"])
    ids = np.array([[start, mask, *tokenizer.tokens_to_ids("大"), mask, end]])
    shares = np.asarray(bert.model.predict_on_batch([ids, ids * 0]))[0]
    for place, candidates in zip((1, 3), found[1]["masks"], strict=True):
        best = np.argsort(-shares[place])[:3]
        assert [one["token"] for one in candidates] == tokenizer.ids_to_tokens(best)
        np.testing.assert_allclose(
            [one["probability"] for one in candidates], shares[place, best], atol=CLOSE
        )


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_and_their_cosines(client, tokenizer, pooling):
    model = build_transformer_model(TINY)
    expected = []
    for text in TEXTS:
        ids = np.array([tokenizer.encode(text)[0]])
        states = np.asarray(model.predict_on_batch([ids, ids * 0]))[0]
        expected.append(states[0] if pooling == "cls" else states[1:-1].mean(axis=0))
    found = answer(client, "vectors", texts=TEXTS, pooling=pooling)["vectors"]
    np.testing.assert_allclose(found, expected, atol=CLOSE)
    unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    found = answer(client, "similarity", texts=TEXTS, pooling=pooling)["similarity"]
    np.testing.assert_allclose(found, unit @ unit.T, atol=CLOSE)


def test_vectors_of_sentence_transformers(tmp_path):
    write_case(tmp_path, "default_prompt")
    served = load(tmp_path)
    with asking(create_app(served)) as client:
        found = answer(client, "vectors", texts=SENTENCES)["vectors"]
        np.testing.assert_allclose(found, np.load(GOLDEN)["default_prompt"], rtol=1e-5, atol=2e-6)
        response = client.post("/v1/vectors", json={"texts": ["大"], "pooling": "mean"})
        assert error(response, 422)["field"] == "pooling"
    assert served.abilities["vectors"].transformer is served.transformer
    (tmp_path / "modules.json").write_text("[]", "utf-8")
    assert "expected Transformer, Pooling" in load(tmp_path).cannot["vectors"]


def test_attention_of_the_first_block_by_hand(client, bert, tokenizer):
    found = answer(client, "attention", text="天地不是人", layers=[0])
    assert [token["token"] for token in found["tokens"]] == ["[CLS]", *"天地不是人", "[SEP]"]
    assert [token["start"] for token in found["tokens"][1:6]] == [0, 1, 2, 3, 4]
    ids = np.array([tokenizer.encode("天地不是人")[0]])
    embedded = keras.Model(bert.inputs, bert.model.get_layer("embedding_dropout").output)
    x = np.asarray(embedded.predict_on_batch([ids, ids * 0]))[0]
    values = {path: np.asarray(v) for path, v in bert.variables.items()}
    heads = bert.config.num_attention_heads
    q, k = (
        (
            x @ values[f"block_0/attention/{name}/kernel"]
            + values[f"block_0/attention/{name}/bias"]
        ).reshape(len(x), heads, -1)
        for name in ("query", "key")
    )
    scores = np.exp(np.einsum("qhd,khd->hqk", q, k) / np.sqrt(q.shape[-1]))
    expected = scores / scores.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(found["weights"][0], expected, atol=1e-4)
    some = answer(client, "attention", text="天地不是人", layers=[1, 0], heads=[2])
    assert (some["layers"], some["heads"]) == ([1, 0], [2])
    np.testing.assert_allclose(some["weights"][1][0], expected[2], atol=1e-4)


@pytest.mark.parametrize("family", ["albert", "nezha", "gau_alpha", "gpt2", "t5.1.1"])
def test_attention_of_every_kind_of_block(family):
    more = {"attention_key_size": 8} if family == "gau_alpha" else {}
    transformer = build_transformer_model(
        **{"model": family, "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2},
        **{"num_attention_heads": 2, "intermediate_size": 16, "max_position": 16},
        **{"return_keras_model": False, "with_lm": True, **more},
    )
    ids = np.array([[3, 4, 5, 6, 7], [8, 9, 10, 0, 0]])
    model = attention_model(transformer)
    inputs = [ids, ids * 0][: len(model.inputs)]
    before = model.predict_on_batch(inputs)
    heads = 1 if family == "gau_alpha" else 2
    assert before.shape == (2, 2, heads, 5, 5) == (2, *model.output_shape[1:3], 5, 5)
    np.testing.assert_allclose(np.asarray(before)[0].sum(axis=-1), 1, atol=CLOSE)
    if family != "gpt2":  # which has no padding of its own
        np.testing.assert_allclose(np.asarray(before)[1, ..., 3:], 0, atol=1e-6)
    else:
        np.testing.assert_array_equal(np.triu(np.asarray(before)[0, 0, 0], 1), 0)
    # nobody watches any more: the model computes as ever
    assert not any("call" in vars(layer) for layer in transformer.model._flatten_layers())


def test_landmarks_have_no_matrix_to_show():
    transformer = build_transformer_model(TINY, attention="nystrom", return_keras_model=False)
    with pytest.raises(ValueError, match="attention='full'"):
        attention_model(transformer)


def test_writing_is_what_generate_text_writes(writer, gpt2):
    model, tokenizer = build_transformer_model(gpt2, with_lm="linear"), load_tokenizer(gpt2)
    (expected,) = generate_text(model, tokenizer, "天地", 12)
    found = answer(writer, "generate", text="天地", max_new_tokens=12)
    assert (found["text"], found["tokens"]) == (expected.text, len(expected.ids))
    assert found["reason"] == ("stop" if expected.finished else "length") and found["seed"] is None
    assert found["score"] == pytest.approx(expected.score, abs=1e-4)
    short = answer(writer, "generate", text="天地", max_new_tokens=2)
    assert short["tokens"] == 2 and short["reason"] == "length"
    assert expected.text.startswith(short["text"])
    (expected,) = generate_text(model, tokenizer, "天地", 12, no_repeat_ngram_size=1)
    other = answer(writer, "generate", text="天地", max_new_tokens=12, no_repeat_ngram_size=1)
    assert other["text"] == expected.text != found["text"]


def test_streamed_pieces_are_the_text(writer):
    body = {"text": "天地", "max_new_tokens": 12, "sample": True, "temperature": 3.0, "seed": 5}
    whole = answer(writer, "generate", **body)
    response = writer.post("/v1/generate", json=body | {"stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    *pieces, (kind, ending) = events(response.text)
    assert len(pieces) > 2 and {kind for kind, _ in pieces} == {"piece"} and kind == "end"
    assert "".join(piece["text"] for _, piece in pieces) == whole.pop("text")
    assert ending == whole
    assert (
        answer(writer, "generate", **body)["text"]
        != answer(writer, "generate", **body | {"seed": 6})["text"]
    )
    unseeded = answer(writer, "generate", **{k: v for k, v in body.items() if k != "seed"})
    again = answer(writer, "generate", **body | {"seed": unseeded["seed"]})
    assert again["text"] == unseeded["text"]


def test_text_that_later_tokens_change_is_not_told_before(tokenizer, gpt2, monkeypatch):
    """Contractions of English lose a space when a word follows them."""
    words = {word: i for i, word in enumerate(["[UNK]", "it", "'", "s", "good"])}
    writer = TextGenerator.__new__(TextGenerator)
    writer.transformer, writer.tokenizer = None, Tokenizer(words, token_start=None, token_end=None)
    ids = [1, 2, 3, 4, 2, 3]

    class Told:
        def __init__(self, *_, **__):
            self.sampling_params = {}

        def steps(self):
            return range(1, len(ids) + 1)

        def results(self, count):
            return [[Generated(np.array(ids[:count]), -1.0, False)]]

    monkeypatch.setattr(abilities, "GenerationRequest", Told)
    monkeypatch.setattr(abilities, "text_options", lambda *_: {})
    told = []
    job = SimpleNamespace(over=False, emit=told.append, end=lambda: told.append(None))
    job.errors = contextlib.nullcontext
    job.item = abilities.GenerationInput((1,), 32, len(ids), 0, ())
    assert list(writer.program([job])) == [None] * len(ids)
    *pieces, end, _ = told
    assert pieces == ["it", "'", "s good", "'", " s"]
    assert end == GeneratedText("length", 6, -1.0, "it's good' s") and end.text == "".join(pieces)


@pytest.mark.parametrize(("length", "new_tokens"), [(30, 30), (40, 4), (56, 4)])
def test_prompts_may_take_all_but_the_room_for_the_answer(writer, length, new_tokens):
    """There are 64 positions, one of which takes the start token."""
    text = "天" * length
    found = answer(writer, "generate", text=text, max_new_tokens=new_tokens)
    assert 0 < found["tokens"] <= new_tokens


@pytest.mark.parametrize("marks", ["neither", "start", "end"])
def test_masks_of_tokenizers_without_start_or_end(bert, marks):
    start, end = ("[CLS]" if marks == "start" else None), ("[SEP]" if marks == "end" else None)
    tokenizer = load_tokenizer(TINY, token_start=start, token_end=end)
    ability = FillMask(bert, tokenizer)
    for inner, text in ((["[MASK]"], "[MASK]"), (["天", "[MASK]", "地"], "天[MASK]地")):
        tokens = [*([start] if start else []), *inner, *([end] if end else [])]
        item = ability.prepare(text)
        assert item.ids == tokenizer.tokens_to_ids(tokens)
        ids = np.array([item.ids])
        probs = np.asarray(bert.model.predict_on_batch([ids, ids * 0]))[0]
        (output,) = ability.predicted([item])
        (found,) = ability.answer(item, output)
        place = inner.index("[MASK]") + (start is not None)
        assert found[0][1] == pytest.approx(probs[place].max(), abs=CLOSE)


# ---------------------------------------------------------------- padding


@pytest.mark.parametrize("name", ["unk", "pad", "start"])
def test_a_mask_that_is_another_special_token_masks_nothing(bert, tokenizer, name):
    token = tokenizer.special_tokens[name]
    other = load_tokenizer(TINY, token_mask=token)
    with pytest.raises(UnsupportedTask, match=rf"not for masks alone: .* token_{name}\."):
        FillMask(bert, other)


def test_masks_are_those_that_were_found(bert, tokenizer, monkeypatch):
    ability = FillMask(bert, tokenizer)
    mask = ability.tokenizer.token_mask_id
    monkeypatch.setattr(ability.tokenizer, "encode", lambda text: ([2, mask, 3], [0, 0, 0]))
    assert ability.prepare("天[MASK]地").positions == [2]


@pytest.fixture(scope="module", params=[3, -1])
def padded_otherwise(request, tokenizer, tmp_path_factory):
    """A directory with a model of that padding id, saved, and one with its tagger."""
    directory = tmp_path_factory.mktemp("padded")
    transformer = build_transformer_model(
        TINY, with_mlm=True, pad_token_id=request.param, return_keras_model=False
    )
    transformer.save_checkpoint(directory, "hf", tokenizer)
    base = build_transformer_model(TINY, pad_token_id=request.param)
    varied = keras.initializers.RandomNormal(stddev=1.0, seed=0)
    scores = keras.layers.Dense(3, kernel_initializer=varied)(base.output)
    tagger = keras.Model(base.inputs, ConditionalRandomField()(scores))
    save_tagger(directory / "tagger", tagger, ["O", "B-人", "I-人"], tokenizer)
    return load(directory, ner=directory / "tagger"), transformer, request.param


def test_neighbours_change_no_number_whatever_id_is_padding(padded_otherwise, tokenizer):
    served, transformer, pad = padded_otherwise
    assert served.transformer.config.pad_token_id == pad
    plain = keras.Model(transformer.inputs, transformer.hidden_states[-1])
    with asking(create_app(served, Limits(wait=0.2))) as client:
        together = answer(client, "vectors", texts=TEXTS)["vectors"]
        for text, vector in zip(TEXTS, together, strict=True):
            ids = np.array([tokenizer.encode(text)[0]])
            expected = np.asarray(plain.predict_on_batch([ids, ids * 0]))[0, 1:-1].mean(axis=0)
            np.testing.assert_allclose(vector, expected, atol=CLOSE)
        found = answer(client, "entities", texts=TEXTS)["results"]
        assert any(found)
        assert found == [answer(client, "entities", texts=[text])["results"][0] for text in TEXTS]
        masked = [f"{text}[MASK]" for text in TEXTS]
        for text, one in zip(
            masked, answer(client, "fill-mask", texts=masked)["results"], strict=True
        ):
            (alone,) = answer(client, "fill-mask", texts=[text])["results"]
            for a, b in zip(one["masks"][0], alone["masks"][0], strict=True):
                assert a["probability"] == pytest.approx(b["probability"], abs=CLOSE)


def test_scores_of_tags_alone_and_together(padded_otherwise, tokenizer):
    ability = padded_otherwise[0].abilities["entities"]
    items = [ability.prepare(text) for text in TEXTS]
    for key in {ability.key(item) for item in items}:
        batch = [item for item in items if ability.key(item) == key]
        for item, (scores, _) in zip(batch, ability.predicted(batch), strict=True):
            _, plain = tags_of(ability.model, tokenizer, item.text)
            np.testing.assert_allclose(scores[: len(item.ids)], plain[0], atol=CLOSE)


# ---------------------------------------------------------------- numbers that are none


def spoiled(transformer, token):
    """Makes the vector of a token NaN, as of a model whose training has diverged."""
    (table,) = (v for path, v in transformer.variables.items() if "token_embedding" in path)
    values = np.array(keras.ops.convert_to_numpy(table))
    values[token] = np.nan
    table.assign(values)


def not_finite(response):
    return "not finite" in error(response, 500)["message"]


def logged(caplog):
    """What was logged, but for TensorFlow's advice on speed."""
    return [record for record in caplog.records if record.name != "tensorflow"]


@pytest.fixture(scope="module")
def served_nan(tmp_path_factory, tokenizer):
    """What can do all, and has NaN as the vector of 大."""
    base = build_transformer_model(TINY, return_keras_model=False)
    spoiled(base, tokenizer.token_to_id("大"))
    directory = tmp_path_factory.mktemp("tagger")
    labels = ["O", "B-人"]
    model = keras.Model(base.inputs, keras.layers.Dense(2)(base.model.output))
    save_tagger(directory, model, labels, tokenizer)
    served = load(TINY, ner=directory, application="unilm")
    spoiled(served.transformer, tokenizer.token_to_id("大"))
    return served


def test_the_objects_of_the_model_are_frozen(served, monkeypatch):
    """Otherwise large requests make the garbage collector look at all of them, and all wait."""
    frozen = []
    monkeypatch.setattr(server.Server, "run", lambda _: frozen.append(gc.get_freeze_count()))
    try:
        server.run(served, access_log=False)
    finally:
        gc.unfreeze()
    assert frozen[0] > 10_000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("fill-mask", {"texts": ["[MASK]天"]}),
        ("fill-mask", {"texts": ["天" + "[MASK]" * 16] * 32, "top": 50}),  # sent in pieces
        ("vectors", {"texts": ["天", "大"]}),
        ("vectors", {"texts": ["大"], "pooling": "cls"}),
        ("similarity", {"texts": ["天", "大"]}),
        ("attention", {"text": "大"}),
        ("entities", {"texts": ["天", "大"]}),
        ("generate", {"text": "天", "max_new_tokens": 3}),
        ("generate", {"text": "天", "max_new_tokens": 3, "sample": True, "top_k": 2}),
    ],
)
def test_numbers_that_are_none_are_an_error(served_nan, path, body, caplog):
    with asking(create_app(served_nan)) as client:
        assert not_finite(client.post(f"/v1/{path}", json=body))
        if path == "generate":
            response = client.post("/v1/generate", json=body | {"stream": True})
            ((kind, told),) = events(response.text)
            assert (kind, told["status"]) == ("error", 500) and "not finite" in told["message"]
    assert logged(caplog) == []


@pytest.mark.parametrize("kind", ["softmax", "CRF", "pointers"])
def test_scores_that_are_none_are_an_error_of_one_text(kind, tokenizer, caplog):
    base = build_transformer_model(TINY, return_keras_model=False)
    labels = ["O", "B-人"]
    layer = GlobalPointer(2, 8) if kind == "pointers" else keras.layers.Dense(2)
    output = layer(base.model.output)
    output = ConditionalRandomField()(output) if kind == "CRF" else output
    ability = EntityExtractor(keras.Model(base.inputs, output), labels, tokenizer)
    spoiled(base, tokenizer.token_to_id("大"))
    with working() as worker:
        right, wrong = run(worker, *((ability, ability.prepare(text)) for text in ("天地", "大")))
        assert isinstance(right, list) and isinstance(wrong, Failed)
        if kind == "CRF":
            (transitions,) = ability.model.layers[-1].weights
            transitions.assign(np.full((2, 2), np.nan))
            (wrong,) = run(worker, (ability, ability.prepare("天地")))
            assert isinstance(wrong, Failed) and "not finite" in str(wrong)
    assert logged(caplog) == []


def test_scores_of_what_cannot_be_are_none_of_an_error():
    scores = np.array([[-np.inf, 1.0]])
    assert pipelines_entities.check_logits(scores) is scores
    for wrong in (np.inf, np.nan):
        with pytest.raises(InvalidOutput, match="not finite"):
            pipelines_entities.check_logits(np.array([[wrong, 1.0]]))


def held_by(answer):
    """Bytes that stay in memory as long as an answer of arrays does."""
    return (answer if answer.base is None else answer.base).nbytes


def test_an_answer_keeps_nothing_of_its_batch(served):
    """A client that is slow to read may keep its answer for a minute, but no more than that."""
    attention, vectors = served.abilities["attention"], served.abilities["vectors"]
    look = attention.prepare("天地不是人", layers=[1], heads=[2, 0])
    with working(wait=0.5) as worker:
        jobs = [(attention, look), *[(attention, attention.prepare("天"))] * 7]
        weights, *_ = run(worker, *jobs)
        states, *_ = run(worker, *[(vectors, vectors.prepare("天地不是人"))] * 8)
    assert held_by(weights) == weights.nbytes == 4 * 2 * 7 * 7
    assert held_by(states) == 4 * served.transformer.config.hidden_size


def test_an_id_that_the_model_lacks_is_refused_for_its_text_alone(served_writer):
    ability = served_writer.abilities["generate"]
    longer = type("Longer", (), {"encode": lambda self, text: ([2, 10**6], [0, 0])})()
    longer.token_end, longer.id_to_token = None, "token{}".format
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ability, "tokenizer", longer)
        with pytest.raises(InvalidRequest, match="'token1000000' has the id 1000000; the model"):
            ability.prepare("天")


def fails_alone(ability, items, caplog):
    """Whether the first of two texts of a batch has an answer, and the second one an error."""
    with working(wait=5.0, batch=2) as worker:
        right, wrong = run(worker, *((ability, item) for item in items))
    told = isinstance(wrong, Failed) and "Error in the model" in str(wrong)
    return told and not isinstance(right, Exception) and len(logged(caplog)) == 1


def test_a_text_without_an_answer_fails_alone(served, caplog, monkeypatch):
    ability = served.abilities["vectors"]
    items = [ability.prepare(text) for text in ("天地", "大人")]
    answer = ability.answer
    monkeypatch.setattr(
        ability, "answer", lambda item, y: answer(item, {items[0].text: y}[item.text])
    )
    assert fails_alone(ability, items, caplog)


def test_a_text_that_cannot_be_decoded_fails_alone(served_writer, caplog, monkeypatch):
    ability = served_writer.abilities["generate"]
    items = [ability.prepare(text) for text in ("天地", "大人")]
    streams = iter([abilities.TextStream(ability.tokenizer), abilities.TextStream(None)])
    monkeypatch.setattr(abilities, "TextStream", lambda tokenizer: next(streams))
    assert fails_alone(ability, items, caplog)


def test_rows_without_token_are_no_candidates(served):
    ability = served.abilities["fill-mask"]
    size = ability.tokenizer.vocab_size
    found = ability.candidates(np.arange(size + 5, dtype="float32"))
    assert found[0] == (ability.tokenizer.id_to_token(size - 1), size - 1)


def tags_of(model, tokenizer, text):
    ids = np.array([tokenizer.encode(text)[0]])
    return ids, np.asarray(model.predict_on_batch([ids, ids * 0]))


@pytest.mark.parametrize("kind", ["softmax", "CRF", "pointers"])
def test_entities_of_a_saved_tagger(kind, tokenizer, tmp_path):
    labels = ["人", "地"] if kind == "pointers" else ["O", "B-人", "I-人", "B-地", "I-地"]
    base = build_transformer_model(TINY)
    if kind == "pointers":
        output = GlobalPointer(len(labels), 8)(base.output)
    else:
        varied = keras.initializers.RandomNormal(stddev=1.0, seed=0)
        output = keras.layers.Dense(len(labels), kernel_initializer=varied)(base.output)
    output = ConditionalRandomField()(output) if kind == "CRF" else output
    model = keras.Model(base.inputs, output)
    save_tagger(tmp_path, model, labels, tokenizer)
    with asking(create_app(load(TINY, ner=tmp_path))) as client:
        found = answer(client, "entities", texts=TEXTS)["results"]
        assert client.get("/v1/model").json()["entities"] == labels
    assert any(found)
    for text, entities in zip(TEXTS, found, strict=True):
        ids, scores = tags_of(model, tokenizer, text)
        if kind == "pointers":
            spans = {(i, j + 1, labels[k]) for _, k, i, j in np.argwhere(scores > 0)}
        else:
            decode = model.layers[-1].decode if kind == "CRF" else lambda x: x.argmax(axis=-1)
            rows = keras.ops.convert_to_numpy(decode(scores))
            spans = bio_spans(["O", *(labels[tag] for tag in rows[0][1:-1]), "O"])
        inside = {(i - 1, j - 1, k) for i, j, k in spans if i > 0 and j < ids.shape[1]}
        assert {(one["start"], one["end"], one["kind"]) for one in entities} == inside
        assert all(one["text"] == text[one["start"] : one["end"]] for one in entities)


class Wrapped(keras.layers.Wrapper):
    """A layer that runs a model of its own."""

    def call(self, inputs):
        return self.layer(inputs)

    def compute_output_shape(self, shapes):
        return (*shapes[0], 3)


@pytest.mark.parametrize(
    "end", ["nested", "in another type", "dropped", "hidden", "before the end"]
)
def test_tags_are_decoded_wherever_the_crf_is(end, tokenizer, tmp_path):
    labels, base = ["O", "B-人", "I-人"], build_transformer_model(TINY)
    varied = keras.initializers.RandomNormal(stddev=1.0, seed=0)
    crf = ConditionalRandomField(name="crf")
    scores = crf(keras.layers.Dense(3, kernel_initializer=varied)(base.output))
    crf.weights[0].assign(np.random.default_rng(0).normal(size=(3, 3)) * 5)
    flat = keras.Model(base.inputs, scores)
    inputs = [keras.Input((None,), dtype="int32", name=name) for name in ("a", "b")]
    model = {
        "nested": lambda: keras.Model(inputs, flat(inputs)),
        "in another type": lambda: keras.Model(
            base.inputs, keras.layers.Activation("linear", dtype="float64")(scores)
        ),
        "dropped": lambda: keras.Model(
            inputs, keras.layers.Identity()(keras.layers.Dropout(0.5)(flat(inputs)))
        ),
        "hidden": lambda: keras.Model(base.inputs, Wrapped(flat)(base.inputs)),
        "before the end": lambda: keras.Model(base.inputs, keras.layers.Activation("tanh")(scores)),
    }[end]()
    if end in ("hidden", "before the end"):
        with pytest.raises(ValueError, match="logits of 'crf' are not the model's output"):
            save_tagger(tmp_path, model, labels, tokenizer)
        return
    save_tagger(tmp_path, model, labels, tokenizer)
    found = EntityExtractor(*load_tagger(tmp_path))
    for text in TEXTS:
        item = found.prepare(text)
        ((_, tags),) = found.predicted([item])
        _, plain = tags_of(flat, tokenizer, text)
        np.testing.assert_array_equal(tags[: len(item.ids)], np.asarray(crf.decode(plain))[0])


TOPS = {
    "dense": [keras.layers.Dropout(0.1), keras.layers.Dense(8, "relu")],
    "softmax": [keras.layers.Activation("softmax")],
    "recurrent": [keras.layers.Bidirectional(keras.layers.LSTM(4, return_sequences=True))],
    "backwards": [keras.layers.LSTM(4, return_sequences=True, go_backwards=True)],
    "convolution": [keras.layers.Conv1D(8, 5, padding="same")],
    "norm over tokens": [keras.layers.UnitNormalization(axis=1)],
    "no mask": [keras.layers.Reshape((-1, 16)), keras.layers.LSTM(8, return_sequences=True)],
}


def beside(base):
    """What a convolution of the embeddings gives, beside what the blocks give."""
    embedded = base.get_layer("embedding_dropout").output
    near = keras.layers.Conv1D(8, 5, padding="same")(embedded)
    return keras.layers.Concatenate()([base.output, near])


def block_without_bias(base):
    block = base.get_layer("block_0")
    return type(block).from_config(block.get_config() | {"name": "block_on_top"})(base.output)


def over_tokens(x):
    return x - keras.ops.mean(x, axis=1, keepdims=True)


GRAPHS = {
    "beside": beside,
    "block": block_without_bias,
    "nested": lambda base: base(base.inputs),
    "activation": lambda base: keras.layers.Activation(over_tokens)(base.output),
}


@pytest.mark.parametrize("top", [*TOPS, *GRAPHS])
def test_what_is_on_top_sees_no_filling(top, tokenizer):
    base = build_transformer_model(TINY)
    x = GRAPHS[top](base) if top in GRAPHS else base.output
    for layer in TOPS.get(top, []):
        x = type(layer).from_config(layer.get_config())(x)
    model = keras.Model(base.inputs, keras.layers.Dense(3)(x))
    ability = EntityExtractor(model, ["O", "B-人", "I-人"], tokenizer)
    assert (ability.filler is not None) == (top in ("dense", "softmax", "recurrent"))
    assert ability.vocab_size == base.transformer.config.vocab_size
    assert ability.longest == base.transformer.config.max_position
    for text in ("天地不是人", "大"):
        item = ability.prepare(text)
        ((scores, _),) = ability.predicted([item])
        _, alone = tags_of(model, tokenizer, text)
        np.testing.assert_allclose(scores[: len(item.ids)], alone[0], atol=1e-5)


@pytest.mark.parametrize("top", ["dense", "convolution"])
def test_models_for_texts_of_one_length(top, tokenizer):
    """Whatever is on top: it sees as much padding as in training."""
    base = build_transformer_model(TINY, sequence_length=12)
    x = base.output
    for layer in TOPS[top]:
        x = type(layer).from_config(layer.get_config())(x)
    model = keras.Model(base.inputs, keras.layers.Dense(3)(x))
    ability = EntityExtractor(model, ["O", "B-人", "I-人"], tokenizer)
    items = [ability.prepare(text) for text in ("天地不是人", "大")]
    for item, (scores, _) in zip(items, ability.predicted(items), strict=True):
        ids = np.array([item.ids + [0] * (12 - len(item.ids))])
        alone = np.asarray(model.predict_on_batch([ids, ids * 0]))[0]
        np.testing.assert_allclose(scores, alone, atol=CLOSE)
    with pytest.raises(InvalidRequest, match="at most 12 fit"):
        ability.prepare("天" * 11)
    served = load(TINY, sequence_length=12)
    vectors, others = served.abilities["vectors"], load(TINY).abilities["vectors"]
    for found, expected in zip(
        vectors.predicted([vectors.prepare("大人")]),
        others.predicted([others.prepare("大人")]),
        strict=True,
    ):
        np.testing.assert_allclose(found[:4], expected[:4], atol=CLOSE)
    base = build_transformer_model(TINY, sequence_length=12, pad_token_id=-1)
    model = keras.Model(base.inputs, keras.layers.Dense(3)(base.output))
    with pytest.raises(UnsupportedTask, match="for texts of 12 tokens and has no padding"):
        EntityExtractor(model, ["O", "B-人", "I-人"], tokenizer)


def test_a_tagger_that_takes_more_than_a_text(tokenizer):
    base = build_transformer_model(TINY)
    more = keras.Input((None, 4), name="words")
    model = keras.Model([*base.inputs, more], keras.layers.Concatenate()([base.output, more]))
    with pytest.raises(UnsupportedTask, match=r"takes token_ids, segment_ids, words; expected"):
        EntityExtractor(model, ["O"], tokenizer)


@pytest.mark.parametrize(
    ("sides", "ids"),
    [((), [5, 6, 4, 6, 5]), (("lstrip",), [5, 4, 6, 5]), (("lstrip", "rstrip"), [5, 4, 5])],
)
def test_a_mask_takes_the_white_space_beside_it(bert, sides, ids):
    mask = AddedToken("[MASK]", **dict.fromkeys(sides, True))
    tokenizer = SimpleNamespace(
        token_mask="[MASK]",
        token_mask_id=4,
        token_start=None,
        token_end=None,
        added_tokens={"[MASK]": mask},
        other_uses_of_mask=list,
        encode=lambda text: ([6 if character == " " else 5 for character in text], None),
    )
    assert FillMask(bert, tokenizer).prepare("a [MASK] a").ids == ids


def test_programs_for_many_lengths_are_not_all_kept(tokenizer, monkeypatch):
    """Where nothing fills up texts, JAX has a program for each length: clients choose them."""
    monkeypatch.setattr(pipelines_base, "PROGRAMS", 2)
    transformer = build_transformer_model(TINY, pad_token_id=-1, return_keras_model=False)
    ability, made = FeatureExtractor(transformer, tokenizer), []
    make = ability.model.make_predict_function
    monkeypatch.setattr(
        ability.model,
        "make_predict_function",
        lambda force=False: made.append(force) or make(force=force),
    )
    for length in (1, 2, 1, 3, 4, 3, 5):
        item = ability.prepare("天" * length)
        (states,) = ability.predicted([item])
        assert len(states) == length + 2 and len(ability.shapes) <= 2
    assert made.count(True) == (2 if keras.backend.backend() == "jax" else 0)


def test_a_tagger_that_finds_a_span_everywhere(tokenizer, monkeypatch):
    base = build_transformer_model(TINY)
    model = keras.Model(base.inputs, GlobalPointer(2, 8)(base.output))
    ability = EntityExtractor(model, ["人", "地"], tokenizer)
    item = ability.prepare("天地")
    monkeypatch.setattr(pipelines_entities, "SPANS", 31)
    assert ability.answer(item, (np.zeros((2, 4, 4)), None)) == []
    with pytest.raises(InvalidOutput, match="finds 32 spans in a text; at most 31"):
        ability.answer(item, (np.ones((2, 4, 4)), None))


def test_a_prompt_that_begins_with_padding_is_refused_before_it_has_neighbours():
    transformer = build_transformer_model(
        TINY, with_lm="linear", application="lm", return_keras_model=False
    )
    for start, text, fits in (
        (None, "[PAD]天", False),
        (None, "天[PAD]", True),
        ("[PAD]", "天", True),
    ):
        tokenizer = load_tokenizer(
            TINY, token_start=start, token_end=None, special_tokens_in_text=True
        )
        writer = TextGenerator(transformer, tokenizer, 32)
        with contextlib.nullcontext() if fits else pytest.raises(InvalidRequest, match="padding"):
            writer.prepare(text, new_tokens=4)


def test_a_token_that_is_none_is_refused(tokenizer):
    with pytest.raises(InvalidRequest, match=r"not in the vocabulary, which has no '\[UNK\]'"):
        pipelines_base.check_ids([2, None], 9, tokenizer)


def test_a_token_that_the_model_hides_has_no_tag(tokenizer):
    base = build_transformer_model(TINY, return_keras_model=False)
    scores = keras.layers.Dense(2)(base.model.output)
    model = keras.Model(base.inputs, ConditionalRandomField()(scores))
    ability = EntityExtractor(model, ["O", "B-人"], tokenizer)
    item = ability.prepare("天地")
    tags = np.array([0, -1, 0, 0])
    assert ability.answer(item, (np.zeros((4, 2)), tags)) == []


def test_an_entity_ends_before_a_special_token_that_has_its_tag(tokenizer):
    base = build_transformer_model(TINY)
    model = keras.Model(base.inputs, keras.layers.Dense(3)(base.output))
    ability = EntityExtractor(model, ["O", "B-人", "I-人"], tokenizer)
    item = ability.prepare("人天地")
    for tags, start in [((0, 0, 1, 2, 2), 1), ((1, 2, 2, 2, 2), 0)]:
        assert ability.answer(item, (np.zeros((5, 3)), np.array(tags))) == [(start, 3, "人")]


def test_a_tagger_that_does_not_fit_says_so(tokenizer, tmp_path):
    base = build_transformer_model(TINY)
    model = keras.Model(base.inputs, keras.layers.Dense(3)(base.output))
    with pytest.raises(ValueError, match="2 labels for a model whose output"):
        save_tagger(tmp_path, model, ["O", "B"], tokenizer)
    with pytest.raises(FileNotFoundError, match=r"no model\.keras"):
        load(TINY, ner=tmp_path)
    with pytest.raises(TypeError, match=r"tokenizer: expected a Tokenizer, got 'vocab\.txt'"):
        save_tagger(tmp_path, model, ["O", "B", "I"], "vocab.txt")
    with pytest.raises(TypeError, match="labels: expected a list of strings"):
        save_tagger(tmp_path, model, ["O", "B", 3], tokenizer)
    with pytest.raises(ValueError, match="labels: '人' is not a tag; expected O, or B, I"):
        save_tagger(tmp_path, model, ["O", "B-人", "人"], tokenizer)
    with pytest.raises(ValueError, match=r"begins with keras\.Input"):
        save_tagger(tmp_path, keras.Sequential([keras.layers.Dense(3)]), ["O"], tokenizer)
    assert list(tmp_path.iterdir()) == []
    save_tagger(tmp_path, model, ["O", "B", "I"], tokenizer)
    for wrong in ("{", '["O"]', '{"O": 1}', '["O", "B-人", "人"]'):
        (tmp_path / "labels.json").write_text(wrong)
        with pytest.raises(ValueError, match=r"labels\.json"):
            load(TINY, ner=tmp_path)


LOSSY = {
    "first and last": lambda x: x[:, 1:-1],
    "convolution": keras.layers.Conv1D(3, 3, padding="valid"),
    "pooling": keras.layers.MaxPooling1D(2),
    "first": lambda x: x[:, :1],
}


@pytest.mark.parametrize("lossy", LOSSY)
def test_a_tagger_that_scores_fewer_tokens_than_it_gets(lossy, tokenizer, tmp_path):
    base = build_transformer_model(TINY)
    model = keras.Model(base.inputs, keras.layers.Dense(3)(LOSSY[lossy](base.output)))
    with pytest.raises(ValueError, match=r"labels: 3 labels .* for 5 tokens; expected logits"):
        save_tagger(tmp_path, model, ["O", "B", "I"], tokenizer)
    assert list(tmp_path.iterdir()) == []


def test_a_tagger_that_scores_fewer_tokens_of_long_texts_alone(tokenizer, tmp_path):
    base = build_transformer_model(TINY)
    model = keras.Model(base.inputs, keras.layers.Dense(3)(base.output[:, :10]))
    save_tagger(tmp_path, model, ["O", "B", "I"], tokenizer)
    with asking(create_app(load(TINY, ner=tmp_path))) as client:
        answer(client, "entities", texts=["天地"])
        response = client.post("/v1/entities", json={"texts": ["天地" * 6]})
    assert "the shape (10, 3) for 14 tokens" in error(response, 500)["message"]


def save_fine_tuned(kind, labels, directory, tokenizer, **options):
    """Writes Hugging Face's files of a classifier; returns its `Transformer`."""
    options |= {"with_classifier": kind, "labels": labels, "new_classifier": True}
    transformer = build_transformer_model(TINY, return_keras_model=False, **options)
    kernel = transformer.variables[f"{kind}_classifier/kernel"]
    kernel.assign(np.random.RandomState(0).standard_normal(kernel.shape))
    transformer.save_checkpoint(directory, "hf", vocab=tokenizer)
    return transformer


@pytest.mark.parametrize("served_itself", [True, False])
def test_labels_of_texts_and_pairs(tokenizer, tmp_path, served_itself):
    labels = ["差评", "中评", "好评"]
    transformer = save_fine_tuned("text", labels, tmp_path, tokenizer)
    served = load(tmp_path) if served_itself else load(TINY, classifier=tmp_path)
    texts, seconds = ["天地不是人", "大"], ["大", "天地不是人天地不是人"]
    with asking(create_app(served)) as client:
        for second_texts in (None, seconds):
            fields = {"texts": texts, "top": 2}
            fields |= {} if second_texts is None else {"second_texts": second_texts}
            items = texts if second_texts is None else list(zip(texts, seconds, strict=True))
            results = answer(client, "classify", **fields)["results"]
            expected = classify(transformer, items, tokenizer, top_k=2)
            for answers, pairs in zip(results, expected, strict=True):
                assert [x["label"] for x in answers] == [name for name, _ in pairs]
                probs = [x["probability"] for x in answers]
                np.testing.assert_allclose(probs, [p for _, p in pairs], atol=1e-5)
        one = {"texts": texts, "second_texts": ["大"]}
        found = error(client.post("/v1/classify", json=one), 422)
        assert found["field"] == "second_texts" and "1 texts; expected 2" in found["message"]
        half = json.dumps({"texts": ["天"], "second_texts": ["\ud800"]})
        headers = {"Content-Type": "application/json"}
        response = client.post("/v1/classify", content=half, headers=headers)
        assert "half of a surr" in error(response, 422)["message"]
        model = client.get("/v1/model").json()
        assert model["labels"] == labels
        assert ("fill-mask" in model["cannot"]) == served_itself


def test_a_served_classifier_of_tokens_finds_entities(tokenizer, tmp_path):
    labels = ["O", "B-人", "I-人"]
    transformer = save_fine_tuned("tokens", labels, tmp_path, tokenizer)
    with asking(create_app(load(tmp_path))) as client:
        (found,) = answer(client, "entities", texts=["天地不是人"])["results"]
        spans = extract_entities(transformer.model, labels, tokenizer, "天地不是人")
        assert [(x["start"], x["end"], x["kind"]) for x in found] == spans and spans
        assert client.get("/v1/model").json()["entities"] == labels
        vectors = answer(client, "vectors", texts=["天"])["vectors"]
        assert len(vectors[0]) == 16


@pytest.mark.parametrize("served_itself", [True, False])
def test_passages_are_ranked(tokenizer, tmp_path, served_itself):
    transformer = save_fine_tuned("text", ["LABEL_0"], tmp_path, tokenizer)
    served = load(tmp_path) if served_itself else load(TINY, reranker=tmp_path)
    query, passages = "天地", ["人不是天地大小", "大", "人不是"]
    expected = rerank(transformer, query, passages, tokenizer)
    probs = rerank(transformer, query, passages, tokenizer, normalize=True)
    with asking(create_app(served)) as client:
        results = answer(client, "rerank", query=query, passages=passages)["results"]
        assert [x["position"] for x in results] == [x.position for x in expected]
        assert [x["passage"] for x in results] == [x.passage for x in expected]
        for key, values in (("score", expected), ("probability", probs)):
            np.testing.assert_allclose(
                [x[key] for x in results], [x.score for x in values], atol=1e-5
            )
        assert answer(client, "rerank", query=query, passages=passages, top=1) == {
            "results": results[:1]
        }
        for body, field, words in (
            ({"query": "天" * 2001, "passages": ["大"]}, "query", "2001 characters; at most 2000"),
            ({"query": "天", "passages": ["大"] * 33}, "passages", "33 texts; at most 32"),
            ({"query": "天", "passages": ["大", "天" * 2000]}, "passages[1]", "2001 characters"),
            ({"query": "", "passages": ["大"]}, "passages[0]", "query or the passage is empty"),
            ({"query": "天", "passages": ["大"], "top": 0}, "top", "greater than or equal to 1"),
            ({"query": "天", "passages": []}, "passages", "at least 1 item"),
            ({"query": ["天"], "passages": ["大"]}, "query", "valid string"),
            ({"query": "\ud800", "passages": ["大"]}, "query", "half of a surrogate pair"),
        ):
            content = json.dumps(body)
            headers = {"Content-Type": "application/json"}
            found = error(client.post("/v1/rerank", content=content, headers=headers), 422)
            assert found["field"] == field and words in found["message"]


def test_several_labels_rank_nothing(tokenizer, tmp_path):
    save_fine_tuned("text", ["差评", "好评"], tmp_path, tokenizer)
    assert "has 2 labels; expected one" in load(tmp_path).cannot["rerank"]


@pytest.fixture(scope="module")
def pointers(tokenizer, tmp_path_factory):
    """A directory with two pointers, which find something in most texts; its `Transformer`."""
    directory = tmp_path_factory.mktemp("pointers")
    return directory, save_fine_tuned("spans", None, directory, tokenizer, model="ernie")


SCHEMA = {"地": ["大", "小"], "人[天,地]": None}


@pytest.mark.parametrize("served_itself", [True, False])
def test_a_schema_is_extracted(pointers, tokenizer, served_itself):
    directory, transformer = pointers
    served = load(directory) if served_itself else load(TINY, extractor=directory)
    with asking(create_app(served, Limits(texts=4))) as client:
        for texts, schema in ((TEXTS, SCHEMA), (["天地不是人" * 130], "人[天,地]")):
            expected = extract_information(transformer, texts, schema, tokenizer)
            results = answer(client, "extract-information", texts=texts, schema=schema)["results"]
            assert results == rounded(expected, results)
            assert any(expected)
            is_deep = any("relations" in x for found in expected for x in found.get("地", []))
            assert is_deep == (schema == SCHEMA)


def test_a_threshold_is_that_of_the_request(extracting, pointers, tokenizer):
    fields, counts = {"texts": TEXTS[:1], "schema": "地"}, []
    for threshold in (0.0, 0.3, 0.9, 1.0):
        expected = extract_information(
            pointers[1], **fields, tokenizer=tokenizer, threshold=threshold
        )
        results = answer(extracting, "extract-information", **fields, threshold=threshold)[
            "results"
        ]
        assert results == rounded(expected, results)
        counts.append(sum(map(len, results[0].values())))
    assert counts[0] > counts[-1] == 0
    for wrong in (-0.1, 1.1, "0.5", None):
        body = fields | {"threshold": wrong}
        response = extracting.post("/v1/extract-information", json=body)
        assert error(response, 422)["field"] == "threshold"


def test_only_an_ernie_is_taken_for_a_uie(tokenizer, tmp_path):
    """Pointers of other models find answers to questions, without prompts."""
    save_fine_tuned("spans", None, tmp_path, tokenizer)
    assert "extract-information needs a UIE" in load(tmp_path).cannot["extract-information"]
    assert "extract-information" in load(TINY, extractor=tmp_path).abilities


def test_a_served_name_is_asked_for_its_modules(monkeypatch):
    asked = []

    def local_directory(name, needs=()):
        asked.append((name, needs))
        return TINY

    monkeypatch.setattr(abilities, "local_directory", local_directory)
    load("hfl/sentences")
    assert asked == [("hfl/sentences", ["modules.json"])]


def rounded(expected, results):
    """The expected answers, with the probabilities of equal results."""
    assert len(expected) == len(results)
    for ours, theirs in zip(expected, results, strict=True):
        assert [*ours] == [*theirs]
        for name in ours:
            for first, second in zip(ours[name], theirs[name], strict=True):
                assert abs(first["probability"] - second["probability"]) < 1e-5
                first["probability"] = second["probability"]
                rounded([first.get("relations", {})], [second.get("relations", {})])
    return expected


@pytest.fixture(scope="module")
def extracting(pointers):
    with asking(create_app(load(pointers[0]), Limits(prompts=3))) as client:
        yield client


def test_schemas_that_ask_too_much(extracting):
    deep = "人"
    for _ in range(60):
        deep = {"人": deep}
    for body, field, words in (
        ({"texts": ["天"], "schema": 3}, "schema", "expected a name, a list or a dict of"),
        ({"texts": ["天"], "schema": {}}, "schema", "expected a name, a list or a dict of"),
        ({"texts": ["天"], "schema": {"人": [float("nan")]}}, "schema", "got nan"),
        ({"texts": ["天"]}, "schema", "Field required"),
        ({"texts": ["天"], "names": "人"}, "names", "Extra inputs"),
        ({"texts": ["天"], "schema": [*"天地大小"]}, "schema", "4 prompts, each with a part"),
        ({"texts": [*"天地大小"], "schema": "人"}, "schema", "at most 3 are asked"),
        ({"texts": ["天地" * 999], "schema": "人"}, "schema", "at most 3 are asked"),
        ({"texts": ["天地不是人" * 9], "schema": deep}, "schema", "at most 3 are asked"),
        ({"texts": ["天"], "schema": "人" * 600}, "schema", "leaves no room for a text"),
        ({"texts": ["天"], "schema": "人" * 2000}, "schema", "2002 characters; at most"),
        ({"texts": ["天"] * 33, "schema": "人"}, "texts", "33 texts; at most 32"),
        ({"texts": ["天" * 2001], "schema": "人"}, "texts[0]", "2001 characters; at most"),
        ({"texts": ["天"], "schema": "\ud800"}, "schema", "half of a surrogate pair"),
    ):
        content = json.dumps(body)
        headers = {"Content-Type": "application/json"}
        response = extracting.post("/v1/extract-information", content=content, headers=headers)
        found = error(response, 422)
        assert found["field"] == field and words in found["message"], found


def test_what_a_checkpoint_cannot_do(client, writer, bert, tmp_path):
    missing = {"generate", "chat", "classify", "rerank", "entities", "extract-information"}
    assert set(client.get("/v1/model").json()["cannot"]) == missing
    assert (
        "cannot generate" in error(client.post("/v1/generate", json={"text": "天"}), 404)["message"]
    )
    assert "--ner" in error(client.post("/v1/entities", json={"texts": ["天"]}), 404)["message"]
    reason = error(client.post("/v1/classify", json={"texts": ["天"]}), 404)["message"]
    assert "--classifier" in reason
    reason = error(client.post("/v1/rerank", json={"query": "天", "passages": ["大"]}), 404)
    assert "rerank needs a reranker. Serve one, or start the server with --reranker" in str(reason)
    health = writer.get("/health").json()
    assert (health["status"], health["abilities"]) == (
        "ready",
        ["generate", "vectors", "attention"],
    )
    error(writer.post("/v1/fill-mask", json={"texts": ["[MASK]"]}), 404)
    headless = build_transformer_model(TINY, return_keras_model=False)
    headless.save_checkpoint(tmp_path, "hf")
    shutil.copy(TINY / "vocab.txt", tmp_path)
    reason = load(tmp_path).cannot["fill-mask"]
    assert "lm_dense" in reason and "model.safetensors" in reason and str(tmp_path) not in reason
    assert "has no masked-language-model head" in load(TINY, with_lm=False).cannot["fill-mask"]


def test_a_model_that_can_have_no_head_gives_its_vectors(tokenizer, tmp_path):
    transformer = build_transformer_model(
        **{"model": "roformer_v2", "vocab_size": tokenizer.vocab_size, "hidden_size": 16},
        **{"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16},
        **{"embedding_size": 8, "return_keras_model": False},
    )
    transformer.save_checkpoint(tmp_path, "tf", vocab=tokenizer)
    found = load(tmp_path)
    assert {"vectors", "attention"} == set(found.abilities)
    assert "needs embeddings of hidden_size" in found.cannot["fill-mask"]


def test_what_has_no_place_in_utf_8_is_told_without(served):
    halved = Served(served.transformer, served.tokenizer, {}, {"vectors": "no \udcff"})
    with asking(create_app(halved, name="\udcff")) as client:
        model = client.get("/v1/model").json()
        assert (model["name"], model["cannot"]) == ("?", {"vectors": "no ?"})
        assert client.get("/openapi.json").json()["info"]["title"] == "?"
        assert client.get("/health").json().keys() == {"status", "waiting", "running", "abilities"}


@pytest.mark.parametrize(("length", "fits"), [(10, 32), (40, 24), (63, 1)])
def test_what_is_written_without_a_wish_fits_the_positions(served_writer, length, fits):
    ability = served_writer.abilities["generate"]
    text = "天" * (length - 1)  # the start token comes before it
    assert ability.prepare(text, 32, shorten=True).new_tokens == fits
    with pytest.raises(InvalidRequest, match="64 tokens and max_new_tokens=1"):
        ability.prepare("天" * 63, 32, shorten=True)


def test_a_request_without_a_wish_is_written(writer):
    found = answer(writer, "generate", text="天" * 50)
    assert found["reason"] in ("stop", "length") and found["tokens"] <= 13


@pytest.mark.parametrize("application", ["unilm", "t5.1.1"])
def test_models_that_answer(application, tokenizer, tmp_path):
    sizes = {"vocab_size": tokenizer.vocab_size, "hidden_size": 16, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 16, "max_position": 64}
    kind = {"model": application} if application == "t5.1.1" else {"with_mlm": True}
    transformer = build_transformer_model(**sizes, **kind, return_keras_model=False)
    transformer.save_checkpoint(tmp_path, format="tf", vocab=tokenizer)
    options = {} if application == "t5.1.1" else {"application": "unilm"}
    served = load(tmp_path, **options)
    assert {"generate", "vectors", "attention"} <= set(served.abilities)
    expected = "".join(stream(served.transformer, tokenizer, "天地", 4))
    with asking(create_app(served)) as client:
        assert not client.get("/v1/model").json()["continues"]
        assert answer(client, "generate", text="天地", max_new_tokens=4)["text"] == expected


# ---------------------------------------------------------------- bad requests


@pytest.mark.parametrize(
    ("path", "body", "field", "words"),
    [
        ("fill-mask", {}, "texts", "required"),
        ("fill-mask", {"texts": []}, "texts", "at least 1"),
        ("fill-mask", {"texts": "天[MASK]"}, "texts", "list"),
        ("fill-mask", {"texts": ["[MASK]", 3]}, "texts[1]", "string"),
        ("fill-mask", {"texts": ["[MASK]", "天"]}, "texts[1]", "0 times [MASK]"),
        ("fill-mask", {"texts": ["[MASK]" * 17]}, "texts[0]", "17 times [MASK]"),
        ("fill-mask", {"texts": ["[MASK]"], "top": 0}, "top", "greater than or equal to 1"),
        ("fill-mask", {"texts": ["[MASK]"], "top": "5"}, "top", "integer"),
        ("fill-mask", {"texts": ["[MASK]"], "tpo": 5}, "tpo", "not permitted"),
        ("fill-mask", {"texts": ["[MASK]" + "天" * 2001]}, "texts[0]", "at most 2000"),
        ("fill-mask", {"texts": ["[MASK]" + "天" * 600]}, "texts[0]", "tokens; at most"),
        ("vectors", {"texts": ["天"] * 33}, "texts", "at most 32"),
        ("vectors", {"texts": ["天", " \n"]}, "texts[1]", "the text is empty"),
        ("vectors", {"texts": ["天"], "pooling": "max"}, "pooling", "'mean' or 'cls'"),
        ("attention", {"text": "天", "layers": [0, 2]}, "layers[1]", "expected 0 to 1"),
        ("attention", {"text": "天", "heads": [-1]}, "heads[0]", "expected 0 to 3"),
        ("attention", [1], None, "JSON object"),
    ],
)
def test_a_bad_request_names_the_field(client, path, body, field, words):
    found = error(client.post(f"/v1/{path}", json=body), 422)
    assert found["field"] == field and words in found["message"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"text": "天", "max_new_tokens": 33}, "max_new_tokens"),
        ({"text": "天", "max_new_tokens": 0}, "max_new_tokens"),
        ({"text": "天" * 40, "max_new_tokens": 32}, "text"),
        ({"text": "天", "top_k": 5}, "top_k"),
        ({"text": "天", "sample": True, "top_p": 1.5}, "top_p"),
        ({"text": "天", "sample": True, "temperature": 0}, "temperature"),
        ({"text": "天", "seed": -1}, "seed"),
        ({"text": "天", "no_repeat_ngram_size": 65}, "no_repeat_ngram_size"),
        ({"text": "天", "stream": "yes"}, "stream"),
    ],
)
def test_a_bad_wish_names_the_field(writer, body, field):
    assert error(writer.post("/v1/generate", json=body), 422)["field"] == field


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b'{"texts": ["\xff"]}', 400),
        (b'{"texts": ["\\ud800[MASK]"]}', 422),
        (b'{"texts": NaN}', 422),
        (b'{"texts": ["[MASK]"], "top": NaN}', 422),
        (b'{"texts": ["' + b"a" * (1 << 20) + b'"]}', 413),
        (b"[" * 100_000, 400),
    ],
)
def test_a_body_that_is_no_request(client, content, status):
    headers = {"Content-Type": "application/json"}
    error(client.post("/v1/fill-mask", content=content, headers=headers), status)


def test_other_paths_and_methods(client):
    error(client.get("/nothing"), 404)
    error(client.get("/../abilities.py"), 404)
    error(client.get("/v1/fill-mask"), 405)
    described = client.get("/openapi.json").json()["paths"]
    assert {"/health", "/v1/model", "/v1/generate", "/v1/attention"} <= set(described)


def test_the_page_needs_nothing_from_elsewhere(client):
    index = client.get("/")
    assert index.headers["content-type"].startswith("text/html")
    for name in re.findall(r'(?:href|src)="([^#"]+)"', index.text):
        assert client.get(f"/{name}").status_code == 200, name
    for path in PAGE.iterdir():
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "//" not in text.replace("// ", ""), path.name  # no address; comments aside
    assert "script-src 'self'" in index.text and "innerHTML" not in (PAGE / "page.js").read_text()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
FIELDS = [
    "text", "texts", "top", "pooling", "layers", "heads", "sample", "seed", "max_new_tokens",
    "query", "passages", "schema", "threshold", "messages", "variables",
]  # fmt: skip
PATHS = [
    "fill-mask", "vectors", "similarity", "attention", "classify", "rerank", "entities",
    "extract-information", "generate", "chat",
]  # fmt: skip


@examples(max_examples=100)
@given(
    path=st.sampled_from(PATHS),
    body=anything | st.dictionaries(st.sampled_from(FIELDS), anything, max_size=4),
)
def test_whatever_is_sent_gets_a_clear_answer(client, path, body):
    content = json.dumps(body)  # NaN and Infinity too, which are no JSON
    response = client.post(
        f"/v1/{path}", content=content, headers={"Content-Type": "application/json"}
    )
    if response.status_code != 200:
        assert response.status_code in (400, 404, 422), response.text
        error(response, response.status_code)


@examples(max_examples=60)
@given(schema=anything | st.text(max_size=9) | st.dictionaries(st.text(max_size=3), anything))
def test_whatever_is_a_schema_gets_a_clear_answer(extracting, schema):
    content = json.dumps({"texts": ["天"], "schema": schema})
    headers = {"Content-Type": "application/json"}
    response = extracting.post("/v1/extract-information", content=content, headers=headers)
    if response.status_code != 200:
        assert response.status_code in (400, 422), response.text
        error(response, response.status_code)


@examples(max_examples=40)
@given(text=st.text(max_size=40))
def test_whatever_is_typed_gets_an_answer(client, text):
    for path, body in (
        ("fill-mask", {"texts": [text + "[MASK]"]}),
        ("vectors", {"texts": [text]}),
        ("attention", {"text": text, "layers": [0]}),
    ):
        response = client.post(f"/v1/{path}", json=body)
        if response.status_code != 200:
            error(response, 422)


# ---------------------------------------------------------------- the worker


class Characters(str):
    """A text whose characters are its tokens."""

    @property
    def ids(self):
        return list(self)


class Vector(tuple):
    """The vector of a text without tokens, to be echoed."""

    ids = ()


class Echo:
    """Gives back what it gets, slowly if told to; keeps what shared a pass."""

    generates, example = False, "a"

    def __init__(self, seconds=0.0, wrong=None):
        self.seconds, self.wrong, self.batches = seconds, wrong, []

    def prepare(self, text):
        if text == self.wrong:
            raise InvalidRequest("wrong")
        return Characters(text)

    def key(self, item):
        return len(item)

    def program(self, jobs):
        self.batches.append([job.item for job in jobs])
        time.sleep(self.seconds)
        if self.wrong in self.batches[-1]:
            raise KeyError("inside")
        for job in jobs:
            job.emit(job.item)
            job.end()
        yield


class Counter(Echo):
    """Tells 0, 1, 2, ... to each job, one a step."""

    generates = True
    steps = 0

    def program(self, jobs):
        self.batches.append([job.item for job in jobs])
        for i in range(10_000):
            time.sleep(self.seconds)
            self.steps += 1
            for job in jobs:
                job.emit(str(i))
                job.so_far = lambda: GeneratedText("time", self.steps, -1.0, "")
            yield


@contextmanager
def working(**limits):
    worker = Worker(Limits(**limits))
    worker.start()
    try:
        yield worker
    finally:
        worker.close()
        assert not worker.thread.is_alive()


def run(worker, *jobs, seconds=30):
    """The results, or errors, of jobs given as (ability, item) and submitted together."""

    async def all_of_them():
        made = [Job(ability, item, seconds) for ability, item in jobs]
        worker.submit(made)
        return await asyncio.gather(*(job.result() for job in made), return_exceptions=True)

    return asyncio.run(all_of_them())


def test_jobs_of_one_key_share_passes():
    ability, other = Echo(), Echo()
    items = ["a", "bb", "c", "dd", "e", "f", "g"]
    jobs = [(ability, item) for item in items] + [(other, "a")]
    with working(batch=4) as worker:
        assert run(worker, *jobs) == [*items, "a"]
    assert ability.batches == [["a", "c", "e", "f"], ["bb", "dd"], ["g"]]
    assert other.batches == [["a"]]


def test_a_job_alone_waits_no_longer_than_the_limit():
    with working(wait=0.2) as worker:
        begin = time.monotonic()
        run(worker, (Echo(), "a"))
        assert 0.2 <= time.monotonic() - begin < 5


def test_a_full_queue_turns_all_of_a_request_away():
    ability = Echo(seconds=0.5)

    async def crowd(worker):
        first = Job(ability, "a", 30)
        worker.submit([first])
        while not ability.batches:  # the first one is running now
            await asyncio.sleep(0.01)
        waiting = [Job(ability, "b", 30) for _ in range(3)]
        worker.submit(waiting)
        with pytest.raises(Overloaded):
            worker.submit([Job(ability, "c", 30), Job(ability, "c", 30)])
        worker.submit([Job(ability, "d", 30)])
        await asyncio.gather(*(job.result() for job in waiting))

    with working(waiting=4, wait=0) as worker:
        asyncio.run(crowd(worker))
    assert not any("c" in batch for batch in ability.batches)


def test_an_error_in_one_batch_leaves_the_others():
    ability = Echo(wrong="aa")
    with working() as worker:
        wrong, right = run(worker, (ability, "aa"), (ability, "b"))
        assert isinstance(wrong, RuntimeError) and right == "b"
        assert run(worker, (ability, "c")) == ["c"]


def test_one_pass_does_not_wait_for_long_texts():
    counter, echo = Counter(seconds=0.01), Echo()

    async def both(worker):
        long = [Job(counter, item, 30) for item in ("a", "bb", "ccc")]
        worker.submit(long)
        while len(counter.batches) < 2:
            await asyncio.sleep(0.01)
        for _ in range(5):
            job = Job(echo, "x", 30)
            worker.submit([job])
            assert await job.result() == "x"
        assert len(counter.batches) == 2  # the third has to wait for one of them
        before = counter.steps
        long[0].cancel()
        while len(counter.batches) < 3:
            await asyncio.sleep(0.01)
        assert counter.steps > before
        for job in long:
            job.cancel()

    with working(writing=2) as worker:
        asyncio.run(both(worker))


def test_time_runs_out_waiting_and_writing():
    counter = Counter(seconds=0.01)

    async def timed_out(worker):
        jobs = [Job(counter, "a", 0.3), Job(counter, "bb", 0.3)]
        worker.submit(jobs)
        told = []
        with pytest.raises(Timeout):
            async for update in jobs[0]:
                told.append(update)
        assert told[:3] == ["0", "1", "2"]
        with pytest.raises(Timeout):
            await jobs[1].result()

    with working(writing=1) as worker:
        asyncio.run(timed_out(worker))
    assert counter.batches == [["a"]]


def test_a_text_whose_time_is_over_is_told_with_its_tokens_and_all_of_its_end(
    served_writer, monkeypatch
):
    ability = served_writer.abilities["generate"]
    monkeypatch.setattr(ability.tokenizer, "decode_stable", lambda ids: "")
    ids = ability.tokenizer.tokens_to_ids(["天", "地"])

    async def told(*found):
        job = Job(ability, ability.prepare("天"), 0.2)
        for one in found:
            ability.emit(job, TextStream(ability.tokenizer), one, 2)
        return [update async for update in following.updates(job, 7)]

    text, end = asyncio.run(told(Generated(np.array(ids), -1.5, False)))
    assert (text, end.text, end.reason) == ("天地", "天地", "time")
    assert (end.tokens, end.score, end.seed) == (2, -1.5, 7)
    with pytest.raises(Timeout):
        asyncio.run(told())


def test_an_application_whose_lifespan_does_not_run_says_so(served):
    client = asking(create_app(served))  # not entered
    health = client.get("/health")
    assert (health.status_code, health.json()["status"]) == (503, "not started")
    response = client.post("/v1/vectors", json={"texts": ["天"]})
    assert "must run this application's lifespan" in error(response, 500)["message"]


def test_a_thread_that_ends_by_an_error_is_noticed(bert, tokenizer, caplog, monkeypatch):
    app = create_app(echoing(bert, tokenizer, Echo()))
    worker = app.state.worker
    with asking(app) as client:
        answer(client, "vectors", texts=["天"])

        def overflow(jobs):
            raise OverflowError

        monkeypatch.setattr(worker, "_advance", lambda *run: overflow(run))
        assert (
            "OverflowError"
            in error(client.post("/v1/vectors", json={"texts": ["天"]}), 500)["message"]
        )
        worker.thread.join(30)
        assert client.get("/health").status_code == 503
        assert client.get("/health").json()["status"] == "failed"
        assert (
            "Restart" in error(client.post("/v1/vectors", json={"texts": ["天"]}), 500)["message"]
        )
    assert "OverflowError" in caplog.text


def test_closing_finishes_what_was_taken():
    ability = Echo(seconds=0.1)

    async def close_early(worker):
        jobs = [Job(ability, "a" * n, 30) for n in range(1, 5)]
        worker.submit(jobs)
        closing = asyncio.create_task(asyncio.to_thread(worker.close))
        await asyncio.sleep(0.05)
        with pytest.raises(Overloaded, match="shutting down"):
            worker.submit([Job(ability, "z", 30)])
        assert [await job.result() for job in jobs] == ["a", "aa", "aaa", "aaaa"]
        await closing

    with working(wait=5.0) as worker:
        asyncio.run(close_early(worker))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"character": 5}, "expected one of characters"),
        ({"texts": 0}, "a whole number from 1 to 2147483647"),
        ({"texts": 10**400}, "texts=<an integer of 1329 bits>: expected"),
        ({"texts": True}, "texts=True: expected"),
        ({"batch": 2.5}, "a whole number"),
        ({"batch": 10.0}, "a whole number"),
        ({"new_tokens": 32.0}, "a whole number"),
        ({"new_tokens": 2**30}, "to 1048576"),
        ({"seconds": "9"}, "expected a number"),
        ({"seconds": float("nan")}, "from 1.0 to 86400.0"),
        ({"wait": 1e10}, "from 0.0 to 86400.0"),
        ({"wait": 9.0, "seconds": 9.0}, "wait=9.0: expected less than the limit seconds, 9.0"),
        ({"tokens": 0}, "tokens=0: expected"),
        ({"idle_seconds": float("inf")}, "from 0.1 to 86400.0"),
    ],
)
def test_limits_that_make_no_sense(values, words):
    with pytest.raises(ValueError, match=words):
        Limits.of(values)


# ---------------------------------------------------------------- on loopback


@contextmanager
def listening(app):
    """A real server in a thread; gives its address and itself."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        server = Server(config(app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{place.getsockname()[1]}", server
        server.should_exit = True
        thread.join(600)
        assert not thread.is_alive()


def echoing(transformer, tokenizer, ability):
    """A checkpoint whose vectors, or texts, come from a stand-in."""
    name = "generate" if ability.generates else "vectors"
    if ability.generates:
        ability.prepare = lambda text, **settings: Characters(text)
    else:
        ability.prepare = lambda text, pooling="mean": Vector((1.0, 1.0))
    return Served(transformer, tokenizer, {name: ability}, {})


def test_many_at_once_lose_nothing_and_get_their_own_answers(served, client):
    texts = ["人不是天地大小"[i % 7 :][: 1 + i % 5] * (1 + i % 4) for i in range(30)]
    masked = [f"{text}[MASK]大" for text in texts]
    alone = [answer(client, "vectors", texts=[text])["vectors"][0] for text in texts]
    filled = [answer(client, "fill-mask", texts=[text], top=50)["results"][0] for text in masked]

    async def ask(client, path, text, **more):
        response = await client.post(f"/v1/{path}", json={"texts": [text], **more})
        assert response.status_code == 200, response.text
        return response.json()

    async def crowd(address):
        limits = httpx.Limits(max_connections=20)
        async with httpx.AsyncClient(base_url=address, limits=limits, timeout=600) as client:
            vectors = [ask(client, "vectors", text) for text in texts]
            masks = [ask(client, "fill-mask", text, top=50) for text in masked]
            return await asyncio.gather(*vectors), await asyncio.gather(*masks)

    app = create_app(served)
    passes = []
    outputs = pipelines_base.Pipeline.outputs
    with pytest.MonkeyPatch.context() as patch, listening(app) as (address, _):
        patch.setattr(
            pipelines_base.Pipeline,
            "outputs",
            lambda self, rows, *more, **options: (
                passes.append(len(rows)) or outputs(self, rows, *more, **options)
            ),
        )
        vectors, masks = asyncio.run(crowd(address))
    assert sum(passes) == 60 and len(passes) < 60
    np.testing.assert_allclose([found["vectors"][0] for found in vectors], alone, atol=CLOSE)
    for found, expected in zip(masks, filled, strict=True):
        shares, wanted = (
            {one["token"]: one["probability"] for one in result["masks"][0]}
            for result in (found["results"][0], expected)
        )
        assert shares == pytest.approx(wanted, abs=CLOSE)


def test_texts_written_side_by_side_are_those_written_alone(served_writer, writer):
    bodies = [
        {"text": text, "max_new_tokens": count, "sample": True, "temperature": 3.0, "seed": seed}
        for seed, (text, count) in enumerate([("天", 8), ("大人", 20), ("不是", 3), ("天地人", 9)])
    ]
    alone = [answer(writer, "generate", **body) for body in bodies]

    async def crowd(address):
        async with httpx.AsyncClient(base_url=address, timeout=600) as client:
            posts = (client.post("/v1/generate", json=body) for body in bodies)
            return await asyncio.gather(*posts)

    batches, program = [], TextGenerator.program
    with pytest.MonkeyPatch.context() as patch:
        counted = lambda self, jobs: batches.append(len(jobs)) or program(self, jobs)  # noqa: E731
        patch.setattr(TextGenerator, "program", counted)
        with listening(create_app(served_writer, Limits(wait=0.5))) as (address, _):
            together = [response.json() for response in asyncio.run(crowd(address))]
    assert batches == [4]
    for one, other in zip(together, alone, strict=True):
        assert one.pop("score") == pytest.approx(other.pop("score"), abs=1e-4)
        assert one == other


def test_a_client_that_leaves_stops_its_text(bert, tokenizer):
    counter = Counter(seconds=0.01)

    async def leave(address):
        async with httpx.AsyncClient(base_url=address) as client:
            body = {"text": "a", "stream": True}
            async with client.stream("POST", "/v1/generate", json=body) as response:
                async for line in response.aiter_lines():
                    if "3" in line:
                        break
            with pytest.raises(httpx.ReadTimeout):
                await client.post("/v1/generate", json={"text": "a"}, timeout=0.3)

    with listening(create_app(echoing(bert, tokenizer, counter))) as (address, _):
        asyncio.run(leave(address))
        while httpx.get(f"{address}/health").json()["running"]:
            time.sleep(0.02)
        before = counter.steps
        time.sleep(0.1)
    # the pass that runs when a text is given up runs to its end
    assert counter.steps <= before + 1 and len(counter.batches) == 2


def test_too_many_are_told_to_come_back(bert, tokenizer):
    async def crowd(address):
        async with httpx.AsyncClient(base_url=address, timeout=600) as client:
            posts = (client.post("/v1/vectors", json={"texts": ["a"]}) for _ in range(8))
            return await asyncio.gather(*posts)

    served = echoing(bert, tokenizer, Echo(seconds=0.3))
    app = create_app(served, Limits(waiting=2, batch=1))
    with listening(app) as (address, _):
        responses = asyncio.run(crowd(address))
    codes = sorted(response.status_code for response in responses)
    assert codes[0] == 200 and codes[-1] == 503 and set(codes) == {200, 503}
    refused = next(response for response in responses if response.status_code == 503)
    assert "later" in error(refused, 503)["message"] and refused.headers["retry-after"] == "1"


def test_shutting_down_finishes_the_texts_that_have_begun(bert, tokenizer):
    app = create_app(echoing(bert, tokenizer, Counter(seconds=0.01)), Limits(seconds=1.5))
    with listening(app) as (address, server), httpx.Client(base_url=address) as client:
        body = {"text": "a", "stream": True}
        with client.stream("POST", "/v1/generate", json=body) as response:
            lines = response.iter_lines()
            next(lines)
            server.should_exit = True
            rest = list(lines)
    assert json.loads(rest[-2].removeprefix("data: "))["reason"] == "time"


def test_a_body_that_never_comes(bert, tokenizer):
    with (
        listening(create_app(echoing(bert, tokenizer, Echo()), Limits(body_seconds=1))) as (
            address,
            _,
        ),
        socket.create_connection(("127.0.0.1", int(address.rsplit(":")[-1]))) as connection,
    ):
        head = "POST /v1/vectors HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: 99\r\n\r\n{{".encode())
        connection.settimeout(600)
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_the_warm_up_has_room_whatever_the_limit(served):
    with asking(create_app(served, Limits(waiting=1), warm_up=True)) as client:
        while client.get("/health").json()["waiting"]:
            time.sleep(0.01)
        assert len(answer(client, "vectors", texts=["天"])["vectors"]) == 1


def test_the_example_asks(served, served_writer):
    command = [sys.executable, str(ROOT / "examples/basic_serving_client.py"), "--address"]
    for what, expected in ((served, "7 requests at once"), (served_writer, "\n今天天气")):
        with listening(create_app(what, Limits(new_tokens=40))) as (address, _):
            done = subprocess.run([*command, address], capture_output=True, encoding="utf-8")
        assert expected in done.stdout and done.returncode == 0, done.stderr


@pytest.mark.parametrize("token", ["12345678", ""])
def test_the_example_brings_the_token_and_tells_what_is_wrong(bert, tokenizer, token):
    class Broken(Counter):
        def program(self, jobs):
            raise Failed("wrong")
            yield

    app = create_app(echoing(bert, tokenizer, Broken()), token="12345678")
    with listening(app) as (address, _):
        command = [sys.executable, str(ROOT / "examples/basic_serving_client.py")]
        done = subprocess.run(
            [*command, "--address", address, "--token", token],
            capture_output=True,
            encoding="utf-8",
        )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert ("wrong" if token else "with the token of this server") in done.stderr


# ---------------------------------------------------------------- the command


def test_no_character_ends_a_line_within_an_event():
    data = {"text": "".join(map(chr, range(0x2100)))}
    told = following.event("piece", data)
    kind, line, nothing = told.splitlines()
    assert (kind, nothing) == ("event: piece", "")
    assert json.loads(line.removeprefix("data: ")) == data


@pytest.mark.parametrize(
    ("path", "name"), [(".", TINY.name), ("..", TINY.parent.name), ("/", "model")]
)
def test_a_model_is_called_as_its_directory(path, name, monkeypatch):
    called = []
    monkeypatch.chdir(TINY)
    monkeypatch.setattr(abilities, "load", lambda *arguments, **more: Served(None, None, {}, {}))
    monkeypatch.setattr(server, "run", lambda *arguments, **more: called.append(arguments[4]))
    main(["serve", path])
    assert called == [name]


def test_a_model_without_a_name(served):
    for name in ("", None):
        with pytest.raises(ValueError, match="name: expected a name for the model, got"):
            create_app(served, name=name)


def test_the_command_serves_until_it_is_told_to_stop():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = str(place.getsockname()[1])
    command = [sys.executable, "-m", "bert4keras_lite", "serve", str(TINY), "--port", port]
    with subprocess.Popen(
        [*command, "--limit", "characters=9"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert f"http://127.0.0.1:{port}/" in process.stdout.readline()
        transport = httpx.HTTPTransport(retries=5)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", transport=transport) as client:
            assert client.get("/health").json()["status"] == "ready"
            assert client.get("/v1/model").json()["name"] == TINY.name
            assert error(client.post("/v1/vectors", json={"texts": ["天" * 10]}), 422)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) in (0, 130)
        assert "Traceback" not in process.stderr.read()


def test_without_fastapi_it_says_what_to_install(capsys, monkeypatch):
    for module in ("app", "server"):
        monkeypatch.delitem(sys.modules, f"bert4keras_lite.applications.serving.{module}")
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert main(["serve", str(TINY)]) == 1
    assert "bert4keras_lite[serve]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--limit", "character=9"], "expected one of characters"),
        (["--limit", "characters"], "expected NAME=VALUE"),
        (["--ner", str(FOLDER)], "no model.keras"),
        (["--set", "hiden_size=3"], "did you mean 'hidden_size'"),
    ],
)
def test_a_mistake_is_one_line(capsys, arguments, words):
    assert main(["serve", str(TINY), *arguments]) == 1
    printed = capsys.readouterr().err
    assert words in printed and "Traceback" not in printed
