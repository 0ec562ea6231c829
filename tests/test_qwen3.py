"""Qwen3-Embedding and Qwen3-Reranker from directories like theirs, and Qwen3 in bfloat16."""

import json

import keras
import numpy as np
import pytest
from goldens import make_qwen3
from goldens.make_qwen3 import GOLDEN, INSTRUCTION, MAXLEN, PASSAGES, QUERY, TEXTS

from bert4keras_lite import (
    SentenceEncoder,
    build_transformer_model,
    generate,
    load_tokenizer,
    rerank,
)
from bert4keras_lite.applications.cli import main
from bert4keras_lite.checkpoints import CheckpointError, open_checkpoint, save_checkpoint
from bert4keras_lite.pipelines import Reranker, UnsupportedTask
from bert4keras_lite.pipelines.reranking import load_reranker
from bert4keras_lite.tokenizers import ByteBPETokenizer
from bert4keras_lite.tokenizers.byte_bpe import ALPHABET

FROZEN = np.load(GOLDEN)
INDEX = "model.safetensors.index.json"
SIZES = {
    "vocab_size": 9,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position": 16,
}


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


def test_logits_in_bfloat16(directory):
    """Weights of bfloat16 give exact numbers in float32; in bfloat16, at most twice the error."""
    folder = directory("reranker")
    with_half_weights(folder)
    ids = FROZEN["reranker_ids"][None]
    exact, theirs = FROZEN["logits_rounded"], FROZEN["logits_bfloat16"]

    def logits(dtype):
        model = build_transformer_model(folder, with_lm="linear", dtype=dtype)
        assert {v.dtype for v in model.trainable_variables} == {dtype}
        return keras.ops.convert_to_numpy(model.predict(ids, verbose=0))[0, -len(exact) :]

    np.testing.assert_allclose(logits("float32"), exact, rtol=1e-5, atol=1e-5)
    ours = logits("bfloat16")
    assert ours.dtype == np.float32  # the activation of a head
    errors = [np.sqrt(np.mean((x - exact) ** 2)) for x in (ours, theirs)]
    assert 0 < errors[0] < 2 * errors[1], errors


def with_half_weights(folder):
    """Rounds the weights in a directory to bfloat16."""
    checkpoint = open_checkpoint(folder)
    arrays = {name: checkpoint[name].astype("bfloat16") for name in checkpoint}
    save_checkpoint(folder / "model.safetensors", arrays, "safetensors")


def with_shards(folder, sizes):
    """Splits the weights in a directory into files of so many tensors; returns the index."""
    checkpoint, files, names = open_checkpoint(folder), {}, []
    names = sorted(checkpoint, reverse=True)  # no order that a reader might expect
    for number, size in enumerate(sizes, 1):
        file, names_of_file, names = f"part {number}.safetensors", names[:size], names[size:]
        arrays = {name: checkpoint[name] for name in names_of_file}
        save_checkpoint(folder / file, arrays, "safetensors")
        files |= dict.fromkeys(names_of_file, file)
    assert not names
    (folder / "model.safetensors").unlink()
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": files}), "utf-8")
    return files


def test_odd_shards(directory):
    """One tensor in a file, many, none; blocks torn apart; both dtypes."""
    folder = directory("reranker")
    ids = FROZEN["reranker_ids"][None]

    def load(dtype):
        model = build_transformer_model(folder, with_lm="linear", dtype=dtype)
        return keras.ops.convert_to_numpy(model.predict(ids, verbose=0))

    dtypes = "float32", "bfloat16"
    whole = [load(dtype) for dtype in dtypes]
    with_shards(folder, [1, 13, 0, 3, 7])
    for dtype, expected in zip(dtypes, whole, strict=True):
        np.testing.assert_array_equal(load(dtype), expected)


@pytest.mark.once
def test_shards_that_do_not_match_their_index(directory):
    folder = directory("reranker")
    files = with_shards(folder, [10, 14])
    name = next(iter(files))
    wrong = {**files, name: "part 2.safetensors"}
    (folder / INDEX).write_text(json.dumps({"weight_map": wrong}), "utf-8")
    with pytest.raises(CheckpointError, match=rf"part 2\.safetensors: '{name}' should be in this"):
        build_transformer_model(folder)
    del wrong[name]  # the index leaves out what the model needs
    (folder / INDEX).write_text(json.dumps({"weight_map": wrong}), "utf-8")
    with (
        pytest.warns(UserWarning, match=rf"1 tensors, such as '{name}', are not listed in"),
        pytest.raises(CheckpointError, match=rf"- {name}"),
    ):
        build_transformer_model(folder)
    (folder / "part 2.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"part 2\.safetensors: this shard, listed in"):
        build_transformer_model(folder)


def test_bfloat16_is_saved_as_it_is(directory, tmp_path_factory):
    folder = directory("reranker")
    with_half_weights(folder)
    options = {"with_lm": "linear", "return_keras_model": False}
    model = build_transformer_model(folder, dtype="bfloat16", **options)
    again = tmp_path_factory.mktemp("again")
    model.save_checkpoint(again, "hf")
    read, written = open_checkpoint(folder), open_checkpoint(again)
    assert read.keys() == written.keys()
    for name in read:
        assert written.dtype(name) == "bfloat16"
        np.testing.assert_array_equal(written[name], read[name])


def test_generation_in_bfloat16(directory):
    """The same tokens as in float32, as far as they are clear, whatever else is in the batch."""
    folder = directory("reranker")
    with_half_weights(folder)
    prompts = [FROZEN["reranker_ids"][-40:].tolist(), [5, 6, 7]]
    model = build_transformer_model(folder, with_lm="linear", dtype="bfloat16")
    rows = generate(model, prompts, 5)
    assert [len(row[0].ids) for row in rows] == [5, 5]
    exact = build_transformer_model(folder, with_lm="linear", dtype="float32")
    for prompt, (row,) in zip(prompts, rows, strict=True):
        ids = [*prompt, *row.ids]
        logits = keras.ops.convert_to_numpy(exact.predict(np.array([ids]), verbose=0))[0]
        logits = logits[len(prompt) - 1 : -1]
        lost = logits.max(-1) - logits[np.arange(5), row.ids]
        assert lost.max() < 0.1, lost


@pytest.mark.once
def test_dtypes_that_are_none():
    with pytest.raises(ValueError, match=r"dtype: 'half'; expected one of float32, bfloat16"):
        build_transformer_model(**SIZES, dtype="half")


def test_dtype_of_new_layers():
    """The option wins over Keras' policy, and leaves that as it is."""
    model = build_transformer_model(**SIZES, with_pool=True, dtype="mixed_bfloat16")
    assert {v.dtype for v in model.variables} == {"float32"}
    assert model.output.dtype == "bfloat16" and keras.config.dtype_policy().name == "float32"


def test_reranker_of_a_model(directory):
    folder = directory("reranker")
    model = build_transformer_model(folder, with_lm="linear")
    tokenizer = load_tokenizer(folder, special_tokens_in_text=True)
    vocab = {token: i for i, token in enumerate([*ALPHABET, "yes", "no"])}
    plain = ByteBPETokenizer(vocab, [], token_unk=None, token_pad=None)
    options = {"instruction": INSTRUCTION, "maxlen": MAXLEN, "normalize": True}
    results = sorted(rerank(model, QUERY, PASSAGES, tokenizer, **options))
    np.testing.assert_allclose([r.score for r in results], FROZEN["reranker"], atol=1e-6)
    with pytest.raises(UnsupportedTask, match=r"'<\|im_start\|>' in a text is not one token"):
        rerank(model, QUERY, PASSAGES, plain, **options)
    unknown = ByteBPETokenizer(
        {**vocab, "<unk>": len(vocab)}, [], token_unk="<unk>", token_pad=None
    )
    unknown_yes = ByteBPETokenizer({"<unk>": 0, "no": 1}, [], token_unk="<unk>", token_pad=None)
    for tokenizer, said in ((unknown, "im_start"), (unknown_yes, "'yes' is not one token")):
        with pytest.raises(UnsupportedTask, match=said):
            rerank(model, QUERY, PASSAGES, tokenizer, **options)
    encoder = build_transformer_model(folder, with_lm=False)
    with pytest.raises(UnsupportedTask, match=r"neither a classifier nor a causal language"):
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


def test_instructions_of_a_server(directory):
    """The text of a served reranker, and that of a request; numbers are those of `rerank`."""
    serving = pytest.importorskip("bert4keras_lite.applications.serving")
    client_of = pytest.importorskip("fastapi.testclient").TestClient
    create_app = pytest.importorskip("bert4keras_lite.applications.serving.app").create_app
    folder = directory("reranker")
    other = f"{INSTRUCTION}, please"
    body = {"query": QUERY, "passages": PASSAGES}
    for served in (
        serving.load(folder, instruction=INSTRUCTION),
        serving.load("tiny-zh", reranker=folder, instruction=INSTRUCTION),
    ):
        app = create_app(served)
        with client_of(app, base_url="http://localhost") as client:
            for given, instruction in (({}, INSTRUCTION), ({"instruction": other}, other)):
                results = client.post("/v1/rerank", json={**body, **given}).json()["results"]
                expected = rerank(folder, QUERY, PASSAGES, instruction=instruction)
                assert [r["position"] for r in results] == [r.position for r in expected]
                scores = [[r["score"] for r in results], [r.score for r in expected]]
                np.testing.assert_allclose(*scores, rtol=1e-4, atol=1e-5)
            long = client.post("/v1/rerank", json={**body, "instruction": "天" * 1900})
            assert long.status_code == 422 and "leave none of" in long.text
    assert "rerank needs a reranker" in serving.load(folder).cannot["rerank"]


def test_instructions_of_the_command_line(directory, capsys):
    folder = directory("reranker")
    command = ["rerank", str(folder), QUERY, *PASSAGES, "--maxlen", str(MAXLEN), "--normalize"]
    assert main([*command, "--instruction", INSTRUCTION]) == 0
    best = FROZEN["reranker"].max()
    assert float(capsys.readouterr().out.split()[0]) == pytest.approx(best, abs=1e-4)
    assert main(command) == 1 and "instruction" in capsys.readouterr().err


@pytest.mark.parametrize("names", [5, "x", [5]])
def test_a_reranker_with_other_names_of_classes(directory, names):
    folder = directory("reranker")
    values = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**values, "architectures": names}), "utf-8")
    try:
        load_reranker(folder, INSTRUCTION)
    except ValueError as error:
        assert "config.json: " in str(error)
