"""The examples on training methods and sentence vectors: on one batch, and until they learn."""

import json
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from running import predict_always, score_of

from bert4keras_lite import open_checkpoint, training

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
DATA = EXAMPLES / "data"
REAL = ROOT.parent / "shared" / "data"

needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="the data sets are not here")

# short texts, all cut to the same length
SMALL_BATCH = {"batch_size": 8, "maxlen": 8, "learning_rate": 3e-3}


# --- one batch -----------------------------------------------------------------------------------


@pytest.fixture
def apps(rows):
    """Eight descriptions of one kind of app to train on: few steps suffice; four to test."""
    data = rows("apps", train=320)
    lines = (data / "train.json").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if json.loads(line)["label_des"] == "购物"]
    (data / "train.json").write_text("\n".join(lines[:8]), encoding="utf-8")
    return data


def check_few(example, names, shown):
    """Asserts that an example shows what its classifier predicts of the first test texts.

    Args:
        example: the variables of the script.
        names: of the classes.
        shown: what the script printed.
    """
    few = example["samples"]["test"][:8]
    inputs = example["batches"](few)
    guesses = example["model"].predict(inputs, verbose=0).argmax(axis=1)
    labels = [label for _, label in few]
    score, table = shown.split("\ntrue | predicted | text\n")
    assert score.endswith(f"test accuracy: {np.mean(guesses == labels):.4f}\n")
    for line, (text, label), guess in zip(table.splitlines(), few, guesses, strict=True):
        assert line.startswith(f"{names[label]} | {names[guess]} | {text[:30]}")


def check_constant(example, label):
    """Asserts the accuracy of a model that predicts the label of half of the texts for all."""
    model, test = example["model"], example["samples"]["test"]
    predict_always(model, label)
    assert model.evaluate(example["batches"](test), verbose=0)[1] == 0.5
    texts = [(text, label) for text, _ in test]
    assert model.evaluate(example["batches"](texts), verbose=0)[1] == 1


def check_apps(example, directory, capsys):
    """Asserts what holds of all examples on the descriptions of apps."""
    test, names = example["samples"]["test"], example["names"]
    assert [names[label] for _, label in test] == ["购物", "购物", "天气", "运动健身"]
    assert list(directory.glob("*/labels.json"))
    check_few(example, names, capsys.readouterr().out)
    check_constant(example, names.index("购物"))


@pytest.fixture
def applied(monkeypatch):
    """Notes what a training method is given besides the model."""

    def applied(name):
        calls, method = [], getattr(training, name)

        def noting(model, *arguments, **options):
            calls.append((*arguments, options))
            method(model, *arguments, **options)

        monkeypatch.setattr(training, name, noting)
        return calls

    return applied


@pytest.mark.parametrize("epsilon", [0.03, 0])
def test_adversarial_training_quickly(quick, apps, checkpoint, applied, tmp_path, capsys, epsilon):
    options = SMALL_BATCH | {"checkpoint": checkpoint(), "data": apps, "epochs": 3}
    calls = applied("adversarial_training")
    example = quick("task_iflytek_adversarial_training", **options, epsilon=epsilon)
    assert calls == ([("token_embedding", 0.03, {})] if epsilon else [])
    check_apps(example, tmp_path / "output", capsys)


def test_gradient_penalty_quickly(quick, apps, checkpoint, applied, tmp_path, capsys):
    options = SMALL_BATCH | {"checkpoint": checkpoint(), "data": apps, "epochs": 3}
    calls = applied("gradient_penalty")
    example = quick("task_iflytek_gradient_penalty", **options, weight=0.1)
    assert calls == [("token_embedding", 0.1, {})]
    check_apps(example, tmp_path / "output", capsys)


@pytest.mark.parametrize(("method", "epochs"), [("theseus", [2, 4, 2]), ("small", [6])])
def test_theseus_quickly(quick, apps, checkpoint, tmp_path, monkeypatch, capsys, method, epochs):
    # each step with the same blocks, those of the small model
    monkeypatch.setattr(training, "theseus", partial(training.theseus, rate=1.0))
    options = SMALL_BATCH | {"checkpoint": checkpoint(num_hidden_layers=2), "data": apps}
    options |= {"epochs": 2, "layers": 1}
    example = quick("task_iflytek_bert_of_theseus", **options, method=method)
    check_apps(example, tmp_path / "output", capsys)
    assert [len(losses) for losses in quick.losses] == epochs
    # the small model begins as the first layer of the large one
    small = example["small_bert"]()
    assert small.config.num_hidden_layers == 1
    weights = open_checkpoint(options["checkpoint"])
    theirs = weights["bert/encoder/layer_0/intermediate/dense/kernel"]
    assert any(np.array_equal(ours, theirs) for ours in small.layers["block_0"].get_weights())


def test_virtual_adversarial_training_quickly(quick, rows, checkpoint, applied, tmp_path, capsys):
    options = SMALL_BATCH | {"checkpoint": checkpoint(), "data": rows("sentiment.*"), "epochs": 4}
    options["learning_rate"] = 1e-3
    calls = applied("virtual_adversarial_training")
    name = "task_sentiment_virtual_adversarial_training"
    example = quick(name, **options, labelled=6, epsilon=0.03)
    samples = example["samples"]
    assert len(example["labelled"]) == 6
    assert len(example["unlabelled"]) == 2 + len(samples["valid"]) == 6
    assert (tmp_path / "output" / "sentiment_vat" / "labels.json").is_file()
    shown = capsys.readouterr().out
    assert "6 texts with labels, 6 without" in shown
    assert [label for _, label in samples["test"]] == [1, 1, 0, 0]
    ((table, inputs, rows_a_step, settings),) = calls
    assert (table, rows_a_step, settings) == ("token_embedding", 8, {"epsilon": 0.03})
    assert [len(ids) for ids in inputs] == [6, 6]
    check_few(example, "😞😀", shown)
    check_constant(example, 1)


class CountedCharacters:
    """Has as the vector of a text how often each token is in it, without [CLS] and [SEP]."""

    def predict(self, batches, verbose):
        rows = [ids for i in range(len(batches)) for ids in batches[i][0][0]]
        return np.array(
            [np.bincount(ids[1 : np.flatnonzero(ids)[-1]], minlength=9000) for ids in rows],
            "float32",
        )


def check_sentence_vectors(example, directory, capsys, monkeypatch):
    """Asserts what holds of both examples on sentence vectors."""
    assert list(directory.glob("*.weights.h5"))
    test, cosines, evaluate = (example[name] for name in ("test", "cosines", "evaluate"))
    shown, table = capsys.readouterr().out.split("\ntrue | cosine | texts\n")
    assert "before training: " in shown
    assert shown.endswith(f"test Spearman's rank correlation: {evaluate(test):.4f}\n")
    lines = zip(table.splitlines(), test, cosines(test), strict=True)
    for line, (first, second, similarity), value in lines:
        assert line == f"{similarity:g} | {value:.2f} | {first} / {second}"
    # cosines 1, 0.5 and 0
    pairs = [("天天", "天"), ("天上", "天气"), ("天", "上")]
    monkeypatch.setitem(cosines.__globals__, "encoder", CountedCharacters())
    np.testing.assert_allclose(cosines([(*p, 0) for p in pairs]), [1, 0.5, 0], atol=1e-6)
    for order, score in (((5, 3, 0), 1), ((0, 3, 5), -1), ((5, 0, 3), 0.5)):
        scored = [(*pair, similarity) for pair, similarity in zip(pairs, order, strict=True)]
        assert evaluate(scored) == pytest.approx(score)


@pytest.mark.parametrize("method", ["CoSENT", "regression"])
def test_cosent_quickly(quick, rows, checkpoint, tmp_path, capsys, monkeypatch, method):
    options = SMALL_BATCH | {"checkpoint": checkpoint(), "data": rows("sts"), "epochs": 4}
    example = quick("task_text_matching_cosent", **options, method=method)
    check_sentence_vectors(example, tmp_path / "output", capsys, monkeypatch)
    # 0 to 5 in the file, 0 to 1 for the loss
    (*_, similarity), (*_, target) = example["train"][0], example["rows"][0]
    assert target == similarity / example["highest"]


def test_simcse_quickly(quick, rows, checkpoint, tmp_path, capsys, monkeypatch):
    options = SMALL_BATCH | {"checkpoint": checkpoint(), "data": rows("sts"), "epochs": 3}
    example = quick("task_sentence_embedding_simcse", **options | {"batch_size": 16})
    check_sentence_vectors(example, tmp_path / "output", capsys, monkeypatch)
    assert example["sentences"] == sorted({t for *pair, _ in example["train"] for t in pair})


COMPARED = SMALL_BATCH | {"seeds": 1, "epochs": 4}


@pytest.fixture
def does_pretraining_help(checkpoint, tmp_path, monkeypatch):
    """Runs the benchmark with a `Runner`; gives its variables."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))

    def does_pretraining_help(runner, **options):
        options |= {"checkpoint": checkpoint(), "output": tmp_path}
        return runner("../benchmarks/does_pretraining_help", **options)

    return does_pretraining_help


def test_does_pretraining_help_quickly(
    quick, does_pretraining_help, rows, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    options = COMPARED | {"data": rows("*.*.tsv")}
    does_pretraining_help(quick, **options, tasks="reviews")
    example = does_pretraining_help(quick, **options, tasks="pairs", rows=7, keep=1)
    shown = capsys.readouterr().out
    assert "No plot: it needs matplotlib" in shown
    assert "\naccuracy, mean and standard deviation over 1 seeds\nfrom scratch  " in shown
    saved = json.loads((tmp_path / "does_pretraining_help.json").read_text(encoding="utf-8"))
    assert saved == json.loads(json.dumps(example["results"]))
    sizes = {task: list(scores) for task, scores in saved.items()}
    assert sizes == {"reviews": ["8"], "pairs": ["7"]}
    check_comparison(example)
    # logits for 1 0 1 0: all are right, and half of them
    vector = keras.Input((4,))
    parts = example["classify"].__globals__
    monkeypatch.setitem(parts, "bert", lambda pretrained: None)
    monkeypatch.setitem(parts, "mean_vector", lambda body: keras.Model(vector, vector))
    for labels, score in (([1, 0, 1, 0], 1), ([1, 0, 0, 1], 0.5)):
        learned = np.eye(2)[[1, 0, 1, 0]], np.array(labels)
        monkeypatch.setitem(parts, "learn", lambda *_, learned=learned: learned)
        assert example["classify"](None, 1, True)[1] == score


def test_does_pretraining_help_with_names_quickly(quick, does_pretraining_help, rows, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    data = rows("entities")
    (data / "entities").mkdir()
    for path in data.glob("*.json"):
        path.rename(data / "entities" / path.name)
    example = does_pretraining_help(quick, **COMPARED, data=data, tasks="names")
    assert list(example["results"]["names"]) == ["8"]
    train, test = example["entities"]()
    assert (len(train), len(test)) == (8, 4)
    # all names are right, and half of them
    labels = {(0, 2, "name"), (3, 5, "city")}
    samples = [("马涛在武汉。", labels), ("无", {(0, 1, "name")})]
    tagging = example["Tagging"](samples)
    for type_, score in (("city", 1), ("name", 0.5)):
        _, tags = tagging.batches([(samples[0][0], {(0, 2, "name"), (3, 5, type_)})])[0]
        logits = np.eye(len(tagging.tags))[tags]
        model = SimpleNamespace(predict=lambda *_, logits=logits, **__: logits)
        assert tagging.f1(model, samples[:1]) == score


def check_comparison(example):
    """Asserts what holds of `does_pretraining_help.py`, however well it was trained."""
    # what "pretrained" starts from is always the same
    first, again = (example["bert"](True).weights[0] for _ in range(2))
    np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (first, again)))
    assert not np.allclose(
        *map(keras.ops.convert_to_numpy, (first, example["bert"](False).weights[0]))
    )
    random = np.random.default_rng(0)
    labels, margins = random.integers(0, 2, 50), random.integers(0, 9, 50)
    wins = [
        (yes > no) + (yes == no) / 2 for yes in margins[labels == 1] for no in margins[labels == 0]
    ]
    assert example["area"](labels, margins) == pytest.approx(np.mean(wins))
    labels = np.array([1, 0, 1, 0])
    assert example["area"](labels, labels) == 1
    assert example["area"](labels, np.ones(4)) == 0.5


# --- until they learn ----------------------------------------------------------------------------

# By chance the accuracy on the sixteen categories is 0.06, and 0.5 on reviews.


@pytest.fixture
def score(run, checkpoint, capsys):
    """Runs an example on its sample, or on the data given; gives its score."""

    def score(name, blocks=1, **options):
        usual = {"batch_size": 16, "learning_rate": 3e-3}
        usual["checkpoint"] = checkpoint(num_hidden_layers=blocks)
        run(name, **usual | options)
        return score_of(capsys)

    return score


@pytest.mark.long
def test_adversarial_training(score):
    assert score("task_iflytek_adversarial_training", epochs=5, epsilon=0.03) > 0.3


@pytest.mark.long
def test_gradient_penalty(score):
    assert score("task_iflytek_gradient_penalty", epochs=5, weight=0.003) > 0.3


@pytest.mark.long
def test_theseus(score):
    assert score("task_iflytek_bert_of_theseus", epochs=2, layers=1, blocks=2) > 0.3


@pytest.mark.long
def test_virtual_adversarial_training(score, tmp_path):
    # the words of the sample's train split are others than those of valid and test: swap the two
    for split, source in (("train", "valid"), ("valid", "train"), ("test", "test")):
        shutil.copy(DATA / f"sentiment.{source}.tsv", tmp_path / f"sentiment.{split}.tsv")
    name = "task_sentiment_virtual_adversarial_training"
    assert score(name, data=tmp_path, epochs=6, epsilon=0.03) > 0.6


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "epochs", "gain"),
    [("task_text_matching_cosent", 2, 0.1), ("task_sentence_embedding_simcse", 1, 0)],
)
def test_sentence_vectors_become_better(run, checkpoint, capsys, name, epochs, gain):
    options = {"checkpoint": checkpoint(), "batch_size": 32, "learning_rate": 3e-3}
    run(name, **options, epochs=epochs)
    shown = capsys.readouterr().out
    before = float(re.search(r"^before training: (.+)", shown, re.MULTILINE)[1])
    after = float(re.search(r"^test .+: (.+)", shown, re.MULTILINE)[1])
    assert after > before + gain


@pytest.mark.long
def test_does_pretraining_help(run, does_pretraining_help, tmp_path):
    options = {"seeds": 1, "learning_rate": 5e-3, "maxlen": 48}
    does_pretraining_help(run, **options, tasks="reviews,pairs", epochs=1)
    example = does_pretraining_help(run, **options, tasks="names", epochs=4, keep=1)
    saved = json.loads((tmp_path / "does_pretraining_help.json").read_text(encoding="utf-8"))
    assert saved == json.loads(json.dumps(example["results"]))
    assert {*saved} == {"reviews", "pairs", "names"}
    (names,) = saved["names"].values()
    assert {*names} == {"from scratch", "pretrained"}
    for (score,) in names.values():
        assert score > 0.2
    check_comparison(example)


# --- the sample, real data, and comparisons -------------------------------------------------------


@pytest.mark.parametrize("name", ["make_apps", "make_similar"])
def test_the_sample_is_what_its_script_writes(name):
    subprocess.run([sys.executable, DATA / f"{name}.py", "--check"], check=True)


def test_the_vocabulary_has_every_character_of_the_sample():
    known = {*(DATA / "vocab.txt").read_text(encoding="utf-8").split("\n"), "\n", "\t", " "}
    for path in (*(DATA / "apps").iterdir(), *(DATA / "sts").iterdir()):
        assert set(path.read_text(encoding="utf-8")) <= known, path.name


def test_test_texts_of_the_sample_are_not_in_train(quick, checkpoint):
    data = quick.data_of("task_iflytek_gradient_penalty", checkpoint=checkpoint())
    train, test = (data["samples"][split] for split in ("train", "test"))
    assert not {text for text, _ in train} & {text for text, _ in test}
    numbers = set(range(len(data["names"])))
    assert {label for _, label in train} == {label for _, label in test} == numbers
    data = quick.data_of("task_sentence_embedding_simcse", checkpoint=checkpoint())
    train, test = ({t for *pair, _ in data[split] for t in pair} for split in ("train", "test"))
    assert not train & test


CLUE = [
    f"task_iflytek_{x}" for x in ("adversarial_training", "gradient_penalty", "bert_of_theseus")
]


@needs_real_data
@pytest.mark.parametrize("name", CLUE)
@pytest.mark.parametrize(
    ("folder", "sizes"), [("raw_iflytek", (2000, 2000, 119)), ("raw_tnews", (10000, 2000, 15))]
)
def test_reading_clue(quick, checkpoint, name, folder, sizes):
    data = quick.data_of(name, checkpoint=checkpoint(), data=REAL / "dataclue" / folder)
    train, test = data["samples"]["train"], data["samples"]["test"]
    assert (len(train), len(test), len(data["names"])) == sizes
    for text, label in train + test:
        assert isinstance(text, str) and 0 <= label < sizes[-1]


@pytest.mark.parametrize("name", CLUE)
def test_clue_is_learned_from_the_first_file_and_tested_on_the_last(
    quick, checkpoint, tmp_path, name
):
    shutil.copy(DATA / "apps/labels.json", tmp_path)
    lines = (DATA / "apps/train.json").read_text(encoding="utf-8").splitlines(keepends=True)

    def sizes():
        samples = quick.data_of(name, checkpoint=checkpoint(), data=tmp_path)["samples"]
        return len(samples["train"]), len(samples["test"])

    for size, split in enumerate(("test_public", "dev", "train"), 1):
        (tmp_path / f"{split}.json").write_text("".join(lines[:size]), encoding="utf-8")
        if size > 1:
            assert sizes() == (size, 1)
            continue
        with pytest.raises(SystemExit, match="expected two or more of train, dev and test_public"):
            sizes()


@needs_real_data
@pytest.mark.parametrize(
    ("folder", "sizes", "most"),
    [("stsb_zh", (5231, 1361), 5), ("lcqmc_dev_test", (8802, 12500), 1)],
)
def test_reading_pairs(quick, checkpoint, folder, sizes, most):
    name = "task_sentence_embedding_search"
    data = quick.data_of(name, checkpoint=checkpoint(), data=REAL / folder)
    assert (len(data["train"]), len(data["test"])) == sizes
    assert {similarity for *_, similarity in data["train"]} == set(range(most + 1))


def test_reading_pairs_needs_two_files(quick, checkpoint, tmp_path):
    (tmp_path / "dev.txt").touch()
    with pytest.raises(SystemExit, match=r"expected two or more of train\.txt, dev\.txt"):
        quick.data_of("task_sentence_embedding_simcse", checkpoint=checkpoint(), data=tmp_path)


@needs_real_data
@pytest.mark.parametrize(
    ("folder", "sizes"),
    [("sentiment_bert4keras", (16883, 2111, 2111)), ("chnsenticorp", (9600, 1200, 1200))],
)
def test_reading_reviews(quick, checkpoint, folder, sizes):
    name = "task_sentiment_virtual_adversarial_training"
    samples = quick.data_of(name, checkpoint=checkpoint(), data=REAL / folder)["samples"]
    assert tuple(len(samples[split]) for split in ("train", "valid", "test")) == sizes
    for rows in samples.values():
        assert {label for _, label in rows} == {0, 1} and all(text for text, _ in rows)


def test_compare_runs_each_way_with_each_seed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "options = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n"
        "score = float(options['--gain']) + int(options['--seed']) + float(options['--base'])\n"
        "print('test accuracy: 9.0000', f'test F1: {score:.4f}', 'the end', sep='\\n')\n"
    )
    command = [sys.executable, ROOT / "benchmarks/compare.py", script, "--vary", "gain=0,0.25"]
    command += ["--base", "0.5", "--seeds", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *_, head, plain, better = done.stdout.splitlines()
    assert head == "F1, mean and standard deviation over 3 seeds"
    assert plain == "gain 0     1.5000 ± 0.8165  +0.0000  (0.5000 1.5000 2.5000)"
    assert better == "gain 0.25  1.7500 ± 0.8165  +0.2500  (0.7500 1.7500 2.7500)"
    script.write_text("print('no score')")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode and "expected a line such as" in done.stderr
