"""The examples that classify, match, explain and search: each learns its sample, with a tiny model."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from bert4keras_lite import build_transformer_model
from bert4keras_lite.data import read_tsv

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
DATA = EXAMPLES / "data"
REAL = ROOT.parent / "shared" / "data"
sys.path.insert(0, str(EXAMPLES))

needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="the data sets are not here")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs an example with a small random model; gives its variables."""
    import tiny_bert
    import trials

    # one length of batches: one shape to compile
    monkeypatch.setattr("bert4keras_lite.data.choose_buckets", lambda lengths, *_: [max(lengths)])
    for module in (tiny_bert, trials):
        monkeypatch.setattr(module, "OUTPUT", tmp_path)

    def random_model(family="bert"):
        transformer = build_transformer_model(
            model=family,
            vocab_size=len((DATA / "vocab.txt").read_text(encoding="utf-8").splitlines()),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            max_position=128,
            return_keras_model=False,
        )
        transformer.save_checkpoint(tmp_path / family, format="tf")
        shutil.copy(DATA / "vocab.txt", tmp_path / family)
        return tmp_path / family

    def run(name, *arguments):
        for module in (tiny_bert, trials):
            monkeypatch.setattr(module, "tiny_bert", random_model)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        return runpy.run_path(str(EXAMPLES / f"{name}.py"))

    run.random_model = random_model
    return run


@pytest.fixture
def reviews(tmp_path):
    """The sample's reviews; train and valid change places, as train has other words than test."""
    for split, source in (("train", "valid"), ("valid", "train"), ("test", "test")):
        shutil.copy(DATA / f"sentiment.{source}.tsv", tmp_path / f"sentiment.{split}.tsv")
    return tmp_path


def test_albert(run, reviews, capsys):
    # with a checkpoint, as without one the token vectors stay where they are
    options = ["--checkpoint", run.random_model("albert"), "--batch-size", 16]
    options += ["--epochs", 6, "--learning-rate", 3e-3]
    names = run("task_sentiment_albert", "--data", reviews, *options)
    assert names["albert"].get_layer("block").count_params()  # one for all
    assert float(capsys.readouterr().out.split("test accuracy: ")[1][:6]) > 0.55


def test_integrated_gradients_add_up_to_the_score(run, reviews):
    texts = ["房间很干净，服务也很好。", "质量很差，非常失望。"]
    options = ["--epochs", 2, "--steps", 100, "--text", *texts]
    names = run("task_sentiment_integrated_gradients", "--data", reviews, *options)
    added, full, nothing = names["contributions"](texts[0])
    assert added.shape == (14,)
    assert full != nothing
    np.testing.assert_allclose(added.sum(), full - nothing, rtol=0.02, atol=2e-3)
    picture = ElementTree.parse(reviews / "integrated_gradients.svg").getroot()
    shown = "".join(text.text for text in picture.iter() if text.get("fill") is None and text.text)
    assert shown.strip() == "".join(texts)


def test_tnews_needs_the_keywords(run):
    options = ["--seeds", 1, "--epochs", 5, "--learning-rate", 3e-3, "--batch-size", 16]
    scores = run("task_tnews", *options)["scores"]
    assert scores["headline"][0] < 0.8  # a third does not say what it is about
    assert scores["with keywords"][0] > 0.7  # 0.125 by chance


def test_ocnli(run):
    options = ["--seeds", 1, "--epochs", 5, "--learning-rate", 3e-3, "--batch-size", 16]
    assert run("task_ocnli", *options)["scores"]["both sentences"][0] > 0.55  # 0.333 by chance


def test_validation_split_is_like_the_test(run, tmp_path):
    # train: the sample's train, and some reviews in the words of test
    rows = [read_tsv(DATA / f"sentiment.{split}.tsv") for split in ("train", "valid", "test")]
    parts = {"train": rows[0][:150] + rows[1][:40], "test": rows[2][:150]}
    for split, part in parts.items():
        text = "".join(f"{text}\t{label}\n" for text, label in part)
        (tmp_path / f"sentiment.{split}.tsv").write_text(text, encoding="utf-8")
    options = ["--folds", 2, "--epochs", 6, "--learning-rate", 3e-3, "--batch-size", 16]
    names = run("choose_validation_split", "--data", tmp_path, *options)
    assert names["auc"] > 0.7
    train, valid = (read_tsv(tmp_path / f"chosen.{name}.tsv") for name in ("train", "valid"))
    assert sorted(train + valid) == sorted(parts["train"])
    assert len(valid) == 38
    assert np.mean([row in rows[1] for row in valid]) > 0.6  # 0.21 by chance


def test_area_under_curve(run):
    names = run("choose_validation_split", "--folds", 2, "--epochs", 1, "--batch-size", 64)
    area = names["area_under_curve"]
    is_positive = np.array([False, False, True, True])
    assert area(np.array([1.0, 2, 3, 4]), is_positive) == 1
    assert area(np.array([4.0, 3, 2, 1]), is_positive) == 0
    assert area(np.array([1.0, 1, 1, 1]), is_positive) == 0.5
    assert area(np.array([1.0, 3, 2, 4]), is_positive) == 0.75


def test_search_finds_what_is_nearly_the_same(run, capsys):
    query = next(text for text, *_ in read_tsv(DATA / "sts" / "test.txt", (str, str, str)))[:-1]
    names = run("task_sentence_embedding_search", "--size", 16, "--query", query)
    whitened = names["index"](names["vectors"])
    assert whitened.shape[1] == 16
    np.testing.assert_allclose(np.linalg.norm(whitened, axis=1), 1, rtol=1e-5)
    # independent coordinates of the same size, before they are brought to length 1
    coordinates = (names["vectors"] - names["mean"]) @ names["matrix"]
    np.testing.assert_allclose(np.cov(coordinates.T), np.eye(16), atol=0.05)
    found = capsys.readouterr().out.split(f"\n{query}\n")[1].strip().splitlines()
    assert any(line.endswith(f"  {query}。") for line in found)


def test_the_sample_is_what_its_script_writes():
    subprocess.run([sys.executable, DATA / "make_understanding.py", "--check"], check=True)


def test_the_vocabulary_has_every_character_of_the_sample():
    known = {*(DATA / "vocab.txt").read_text(encoding="utf-8").split("\n"), "\n"}
    for path in (*(DATA / "headlines").glob("*.json"), *(DATA / "inference").glob("*.json")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        texts = [text for row in rows for key, text in row.items() if key != "label"]
        assert {c for text in texts for c in text} - set("entailmentcontradictionneutral,") <= known


@needs_real_data
def test_reading_ocnli(run):
    """The rows without a label are left out."""
    lines = (REAL / "ocnli" / "dev.json").read_text(encoding="utf-8").splitlines()
    labels = [json.loads(line)["label"] for line in lines]
    names = run("task_ocnli", "--data", REAL / "ocnli", "--seeds", 1, "--epochs", 0)
    assert len(names["test"]) == len(labels) - labels.count("-") < len(labels)
    assert [names["NAMES"][label] for *_, label in names["test"]] == [x for x in labels if x != "-"]
