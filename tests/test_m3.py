"""BGE-M3: dense, sparse and multi-vector representations, against FlagEmbedding's formulas."""

import keras
import numpy as np
import pytest
from goldens.make_m3 import FILES, GOLDEN, TEXTS, TOKENS, linear_files, write_m3
from goldens.make_sentences import safetensors

from bert4keras_lite import CheckpointError, SentenceEncoder
from bert4keras_lite.pipelines import InvalidOutput, M3Encoder
from bert4keras_lite.pipelines import base as pipelines_base

FROZEN = np.load(GOLDEN)


@pytest.fixture
def directory(tmp_path):
    write_m3(tmp_path, linear_files())
    return tmp_path


def close(found, expected):
    """Equal to 1e-5 of the largest number."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def over_the_vocabulary(vectors):
    sparse = np.zeros((len(vectors), len(TOKENS)))
    for row, one in zip(sparse, vectors, strict=True):
        row[[*one.sparse]] = [*one.sparse.values()]
    return sparse


def test_the_numbers_of_the_reference(directory):
    encoder = M3Encoder(directory)
    assert encoder.longest == 32
    for batch_size in (64, 1):
        vectors = encoder.encode(TEXTS, batch_size)
        close([one.dense for one in vectors], FROZEN["dense"])
        close(over_the_vocabulary(vectors), FROZEN["sparse"])
        close(np.concatenate([one.multi for one in vectors]), FROZEN["multi"][FROZEN["mask"]])
        found = [[query.similarity(passage) for passage in vectors] for query in vectors]
        for kind, expected in zip(np.moveaxis(found, 2, 0), FROZEN["similarity"], strict=True):
            close(kind, expected)
    assert {x.dtype for one in vectors for x in (one.dense, one.multi)} == {np.dtype("float32")}
    assert {type(weight) for one in vectors for weight in one.sparse.values()} == {float}


def test_one_text_and_none(directory):
    encoder = M3Encoder(directory)
    one, (same,) = encoder.encode(TEXTS[0]), encoder.encode(TEXTS[:1])
    np.testing.assert_array_equal(one.dense, same.dense)
    assert one.sparse == same.sparse and one.similarity(same)._fields == (
        "dense",
        "sparse",
        "multi",
    )
    assert encoder.encode([]) == encoder.encode([], progress=True) == []


def test_the_dense_vectors_are_those_of_a_sentence_encoder(directory):
    vectors = M3Encoder(directory).encode(TEXTS)
    encoder = SentenceEncoder(directory, pooling="cls", normalize=True)
    close(encoder.encode(TEXTS), [one.dense for one in vectors])


def test_longer_texts_lose_their_ends(directory):
    short = M3Encoder(directory, maxlen=6).encode(TEXTS[3])
    assert short.multi.shape == (5, 24)
    close(short.dense, M3Encoder(directory).encode("今天天").dense)
    with pytest.raises(ValueError, match=r"^maxlen=1: expected"):
        M3Encoder(directory, maxlen=1)


def test_a_progress_bar(directory, capsys, monkeypatch):
    encoder = M3Encoder(directory)
    monkeypatch.setattr(pipelines_base, "BATCHES", 1)
    shown = encoder.encode(TEXTS, 3, progress=True)
    assert f"{len(TEXTS)}/{len(TEXTS)}" in capsys.readouterr().out
    close([one.dense for one in shown], FROZEN["dense"])


def test_errors(directory):
    encoder = M3Encoder(directory)
    with pytest.raises(TypeError, match="texts: expected strings, got None"):
        encoder.encode(["大", None])
    with pytest.raises(TypeError, match=r"^texts: expected a list"):
        encoder.encode(None)
    with pytest.raises(ValueError, match=r"^batch_size=0: expected"):
        encoder.encode(["大"], batch_size=0)
    (kernel,) = (v for v in encoder.model.variables if v.shape == (16, 1))
    kernel.assign(np.full((16, 1), np.nan))
    with pytest.raises(InvalidOutput, match=r"^'大': the model's output is not finite"):
        encoder.encode("大")


@pytest.mark.once
@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(directory, name):
    (directory / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name}: no such file; expected sparse_linear"):
        M3Encoder(directory)


WEIGHT, BIAS = np.zeros((1, 16), "float32"), np.zeros(1, "float32")


@pytest.mark.once
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"weight": WEIGHT}, r"its weights are weight; expected weight, bias\."),
        ({"weight": WEIGHT, "bias": BIAS, "x": BIAS}, r"are bias, weight, x; expected weight, b"),
        (
            {"weight": WEIGHT.T, "bias": BIAS},
            r"\(16, 1\) and \(1,\); expected \(1, 16\) and \(1,\)",
        ),
        ({"weight": WEIGHT[:, :8], "bias": BIAS}, r"\(1, 8\) and \(1,\); expected \(1, 16\)"),
        ({"weight": np.zeros((2, 16), "float32"), "bias": np.zeros(2, "float32")}, r"\(2, 16\)"),
        ({"weight": WEIGHT, "bias": np.zeros((1, 1), "float32")}, r"\(1, 1\); expected"),
        ({"weight": WEIGHT[0], "bias": BIAS}, r"have the shapes \(16,\) and \(1,\); expected"),
        ({"weight": WEIGHT + np.nan, "bias": BIAS}, "weight has NaN or infinite numbers; expected"),
        ({"weight": WEIGHT, "bias": BIAS - np.inf}, "bias has NaN or infinite numbers; expected"),
    ],
)
def test_weights_that_do_not_belong_to_the_model(directory, weights, message):
    (directory / "sparse_linear.pt").write_bytes(safetensors(weights))
    with pytest.raises(ValueError, match=rf"sparse_linear\.pt: .*{message}"):
        M3Encoder(directory)


@pytest.mark.once
def test_vectors_of_another_size(directory):
    weights = {"weight": np.zeros((0, 16), "float32"), "bias": np.zeros(0, "float32")}
    (directory / "colbert_linear.pt").write_bytes(safetensors(weights))
    with pytest.raises(ValueError, match=r"colbert_linear\.pt: .*expected \(1, 16\) and \(1,\)"):
        M3Encoder(directory)


@pytest.mark.once
@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"\x80\x02}q\0."])
def test_files_of_another_format(directory, content):
    (directory / "colbert_linear.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"colbert_linear\.pt: "):
        M3Encoder(directory)


def test_the_model_is_saved(directory, tmp_path_factory):
    encoder = M3Encoder(directory)
    path = tmp_path_factory.mktemp("saved") / "encoder.keras"
    encoder.model.save(path)
    ids = np.array([[0, 5, 6, 2]])
    again = keras.models.load_model(path, compile=False)
    for first, second in zip(encoder.model.predict(ids), again.predict(ids), strict=True):
        np.testing.assert_array_equal(first, second)
