"""The examples on training methods and sentence vectors: each learns its sample, with a tiny model."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4keras_lite import build_transformer_model

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
DATA = EXAMPLES / "data"
REAL = ROOT.parent / "shared" / "data"
sys.path.insert(0, str(EXAMPLES))

needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="the data sets are not here")


def random_bert(directory, blocks):
    """A directory with a small random BERT that has the sample's vocabulary."""
    vocab = DATA / "vocab.txt"
    transformer = build_transformer_model(
        vocab_size=len(vocab.read_text(encoding="utf-8").splitlines()),
        hidden_size=32,
        num_hidden_layers=blocks,
        num_attention_heads=2,
        intermediate_size=64,
        max_position=128,
        return_keras_model=False,
    )
    transformer.save_checkpoint(directory, format="tf")
    shutil.copy(vocab, directory)
    return directory


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs an example on its sample, or on the data given; gives its scores for one seed."""
    import trials

    # one length of batches: one shape to compile
    monkeypatch.setattr("bert4keras_lite.data.choose_buckets", lambda lengths, n: [max(lengths)])
    monkeypatch.setattr(trials, "OUTPUT", tmp_path)

    def run(name, *arguments, blocks=1):
        checkpoint = random_bert(tmp_path / "bert", blocks)
        monkeypatch.setattr(trials, "tiny_bert", lambda: checkpoint)
        options = ["--seeds", 1, "--batch-size", 16, "--learning-rate", 3e-3, *arguments]
        monkeypatch.setattr(sys, "argv", [name, *map(str, options)])
        names = runpy.run_path(str(EXAMPLES / f"{name}.py"))
        assert list(tmp_path.glob("*.weights.h5"))
        return {method: score for method, (score,) in names["scores"].items()}

    return run


# By chance the accuracy on the sixteen categories is 0.06, and 0.5 on reviews.


def test_adversarial_training(run):
    scores = run("task_iflytek_adversarial_training", "--epochs", 5, "--epsilon", 0.03)
    assert scores["adversarial"] > 0.3


def test_gradient_penalty(run):
    scores = run("task_iflytek_gradient_penalty", "--epochs", 5, "--weight", 0.003)
    assert scores["penalty"] > 0.3


def test_theseus(run):
    scores = run("task_iflytek_bert_of_theseus", "--epochs", 2, blocks=2)
    assert scores["small of Theseus"] > 0.3


def test_virtual_adversarial_training(run, tmp_path):
    # the words of the sample's train split are others than those of valid and test: swap the two
    for split, source in (("train", "valid"), ("valid", "train"), ("test", "test")):
        shutil.copy(DATA / f"sentiment.{source}.tsv", tmp_path / f"sentiment.{split}.tsv")
    name = "task_sentiment_virtual_adversarial_training"
    scores = run(name, "--data", tmp_path, "--epochs", 6, "--epsilon", 0.03)
    assert scores["VAT"] > 0.6


def test_cosent(run):
    scores = run("task_text_matching_cosent", "--epochs", 2, "--batch-size", 32)
    assert scores["CoSENT"] > scores["untrained"] + 0.1


def test_simcse(run):
    scores = run("task_sentence_embedding_simcse", "--epochs", 1, "--batch-size", 32)
    assert scores["SimCSE"] > scores["before"]


@pytest.fixture
def comparison(tmp_path, monkeypatch):
    """The names in `does_pretraining_help.py`, once it has run on its samples, in two parts."""
    import trials

    checkpoint = random_bert(tmp_path / "bert", blocks=1)
    monkeypatch.setattr("bert4keras_lite.data.choose_buckets", lambda lengths, n: [max(lengths)])
    monkeypatch.setattr("tiny_bert.OUTPUT", tmp_path)
    monkeypatch.setattr(trials, "tiny_bert", lambda: checkpoint)
    options = "--seeds 1 --learning-rate 5e-3 --maxlen 48"
    for more in ("--tasks reviews,pairs --epochs 1", "--tasks names --epochs 4 --keep 1"):
        monkeypatch.setattr(sys, "argv", ["does_pretraining_help", *f"{options} {more}".split()])
        found = runpy.run_path(str(EXAMPLES / "does_pretraining_help.py"))
    return found


def test_does_pretraining_help(comparison, tmp_path):
    saved = json.loads((tmp_path / "does_pretraining_help.json").read_text(encoding="utf-8"))
    assert saved == json.loads(json.dumps(comparison["results"]))
    assert {*saved} == {"reviews", "pairs", "names"}
    (names,) = saved["names"].values()
    assert {*names} == {"from scratch", "pretrained"}
    for (score,) in names.values():
        assert score > 0.2
    # what "pretrained" starts from is always the same
    first, again = (comparison["bert"](True).weights[0] for _ in range(2))
    np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (first, again)))
    assert not np.allclose(
        *map(keras.ops.convert_to_numpy, (first, comparison["bert"](False).weights[0]))
    )
    random = np.random.default_rng(0)
    labels, margins = random.integers(0, 2, 50), random.integers(0, 9, 50)
    wins = [
        (yes > no) + (yes == no) / 2 for yes in margins[labels == 1] for no in margins[labels == 0]
    ]
    assert comparison["area"](labels, margins) == pytest.approx(np.mean(wins))


# --- what they share ---


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_ranks_of_equals_are_the_mean_of_their_places(values):
    from sentence_vectors import ranks

    values = np.array(values)
    expected = [(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values]
    np.testing.assert_allclose(ranks(values), expected)


def test_spearman():
    from sentence_vectors import spearman

    assert spearman([1, 2, 3, 4], [10, 20, 30, 1000]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    # without equals: 1 - 6 sum(d^2) / (n (n^2 - 1)), here with d = 0 1 1 0 0
    assert spearman([1, 2, 3, 4, 5], [1, 3, 2, 4, 5]) == pytest.approx(1 - 6 * 2 / (5 * 24))


def test_compare_trains_each_way_from_each_seed(capsys):
    from trials import compare

    def fit(gain):
        score = float(keras.random.uniform(())) + gain  # the same draw for the same seed
        return f"model {gain}", score

    models, scores = compare({"plain": lambda: fit(0), "better": lambda: fit(0.25)}, 3, "points")
    assert models == {"plain": "model 0", "better": "model 0.25"}
    np.testing.assert_allclose(np.subtract(scores["better"], scores["plain"]), 0.25, rtol=1e-5)
    assert len(set(scores["plain"])) == 3
    *_, plain, better = capsys.readouterr().out.splitlines()
    assert plain.startswith("plain ") and " +0.0000 " in plain
    assert better.startswith("better ") and " +0.2500 " in better


def test_the_first_and_the_last_file_that_are_there(tmp_path):
    from trials import train_and_test

    names = ["train.txt", "dev.txt", "test.txt"]
    (tmp_path / "dev.txt").touch()
    with pytest.raises(SystemExit, match=r"expected at least two of train\.txt, dev\.txt"):
        train_and_test(tmp_path, names)
    (tmp_path / "test.txt").touch()
    assert [file.name for file in train_and_test(tmp_path, names)] == ["dev.txt", "test.txt"]
    (tmp_path / "train.txt").touch()
    assert [file.name for file in train_and_test(tmp_path, names)] == ["train.txt", "test.txt"]


@pytest.mark.parametrize("name", ["make_apps", "make_similar"])
def test_the_sample_is_what_its_script_writes(name):
    subprocess.run([sys.executable, DATA / f"{name}.py", "--check"], check=True)


def test_the_vocabulary_has_every_character_of_the_sample():
    known = {*(DATA / "vocab.txt").read_text(encoding="utf-8").split("\n"), "\n", "\t", " "}
    for path in (*(DATA / "apps").iterdir(), *(DATA / "sts").iterdir()):
        assert set(path.read_text(encoding="utf-8")) <= known, path.name


def test_test_texts_of_the_sample_are_not_in_train():
    import iflytek
    import sentence_vectors

    train, test, names = iflytek.read(DATA / "apps")
    assert not {text for text, _ in train} & {text for text, _ in test}
    assert {label for _, label in train} == {label for _, label in test} == set(range(len(names)))
    train, test = (
        {text for *pair, _ in rows for text in pair} for rows in sentence_vectors.read(DATA / "sts")
    )
    assert not train & test


@needs_real_data
@pytest.mark.parametrize(
    ("name", "sizes"), [("raw_iflytek", (2000, 2000, 119)), ("raw_tnews", (10000, 2000, 15))]
)
def test_reading_clue(name, sizes):
    from iflytek import read

    train, test, names = read(REAL / "dataclue" / name)
    assert (len(train), len(test), len(names)) == sizes
    assert all(isinstance(text, str) and 0 <= label < len(names) for text, label in train + test)


@needs_real_data
@pytest.mark.parametrize(
    ("name", "sizes", "most"), [("stsb_zh", (5231, 1361), 5), ("lcqmc_dev_test", (8802, 12500), 1)]
)
def test_reading_pairs(name, sizes, most):
    from sentence_vectors import read

    train, test = read(REAL / name)
    assert (len(train), len(test)) == sizes
    assert {likeness for *_, likeness in train} == set(range(most + 1))


@needs_real_data
def test_reading_reviews():
    from sentiment import read

    first = read(REAL / "sentiment_bert4keras", "train")
    second = read(REAL / "chnsenticorp", "valid", "dev")
    for rows in (first, second):
        assert {label for _, label in rows} == {0, 1} and all(text for text, _ in rows)
    with pytest.raises(SystemExit, match=r"no sentiment\.train\.tsv"):
        read(REAL / "stsb_zh", "train")
