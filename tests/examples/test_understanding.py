"""The examples that classify, match, explain and search: on one batch, and until they learn."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import keras
import numpy as np
import pytest
from running import predict_always, score_of

from bert4keras_lite import load_classifier
from bert4keras_lite.data import read_tsv

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
DATA = EXAMPLES / "data"
REAL = ROOT.parent / "shared" / "data"

needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="the data sets are not here")

ONE_BATCH = {"batch_size": 8, "maxlen": 16, "epochs": 6, "learning_rate": 1e-2}
# with small initial weights the vector of [CLS] hardly depends on the other tokens
LARGE_WEIGHTS = {"initializer_range": 0.5}
TRAINING = {"epochs": 5, "learning_rate": 3e-3, "batch_size": 16}


# --- one batch -----------------------------------------------------------------------------------


def test_albert_quickly(quick, rows, checkpoint, tmp_path, capsys):
    options = ONE_BATCH | {"checkpoint": checkpoint("albert", **LARGE_WEIGHTS)}
    options["epochs"] = 12  # dropout changes the first losses more than training does
    example = quick("task_sentiment_albert", **options, data=rows("sentiment.*"))
    assert example["albert"].get_layer("block").count_params()  # one for all
    assert (tmp_path / "output" / "sentiment_albert" / "labels.json").is_file()
    model, test, texts = example["model"], example["batches"]["test"], example["texts"]
    shown = capsys.readouterr().out.split("test accuracy: ")[1].splitlines()
    # the weights of the best epoch
    assert shown[0] == (
        f"{model.evaluate(test, verbose=0)[1]:.4f}, with {model.count_params():,} weights"
    )
    guesses = model.predict(example["tokenizer"].encode_batch(texts), verbose=0).argmax(axis=1)
    faces = ["😞😀"[guess] for guess in guesses]
    assert shown[1:] == [f"{face} {text}" for face, text in zip(faces, texts, strict=True)]
    predict_always(model, 1)
    inputs, labels = test[0]
    assert sorted(labels) == [0, 0, 1, 1]
    assert model.evaluate(test, verbose=0)[1] == 0.5
    assert model.evaluate(inputs, np.ones_like(labels), verbose=0)[1] == 1


def test_integrated_gradients_add_up_to_the_score(quick, rows, checkpoint, tmp_path, monkeypatch):
    texts = ["房间很干净，服务也很好。", "质量真的很差，非常失望。"]
    # not `--checkpoint`, for which the rate is too low to learn in so few steps
    small = checkpoint(**LARGE_WEIGHTS)
    monkeypatch.setattr("bert4keras_lite.hub.included", lambda _: small)
    options = {"data": rows("sentiment.*"), "maxlen": 16, "epochs": 24, "steps": 100}
    names = quick("task_sentiment_integrated_gradients", "--text", *texts, **options)
    contributions, color = names["contributions"], names["color"]
    added, score, score_of_zeros = contributions(texts[0])
    assert added.shape == (14,)
    assert score != score_of_zeros
    np.testing.assert_allclose(added.sum(), score - score_of_zeros, rtol=0.02, atol=2e-3)
    path = tmp_path / "output" / "integrated_gradients.svg"
    picture = ElementTree.parse(path).getroot()
    shown = "".join(
        text.text for text in picture.findall(".//{*}text") if text.get("text-anchor") == "middle"
    )
    assert shown.strip() == "".join(texts)
    assert [color(x) for x in (0, 1, -1)] == ["rgb(255,255,255)", "rgb(255,0,0)", "rgb(0,0,255)"]
    # a model that reads nothing
    predict_always(names["model"], 1)
    added, score, score_of_zeros = contributions(texts[0])
    assert not added.any() and score == score_of_zeros == 9


def test_tnews_quickly(quick, rows, checkpoint, tmp_path, capsys):
    options = ONE_BATCH | {"checkpoint": checkpoint(**LARGE_WEIGHTS), "data": rows("headlines")}
    example = quick("task_tnews", **options)
    saved, labels, *_ = load_classifier(tmp_path / "output" / "tnews")
    assert labels == [*example["names"].values()]
    predicted = (m.predict(example["test"], verbose=0) for m in (saved, example["model"]))
    np.testing.assert_array_equal(*predicted)
    names, samples, test = list(example["names"].values()), example["test_samples"], example["test"]
    (ids, segments), labels = test[0]
    assert labels.tolist() == [label for *_, label in samples]
    for row, segment_ids, (_, keywords, _) in zip(ids, segments, samples, strict=True):
        decoded = example["tokenizer"].decode(row[segment_ids == 1]).replace(" ", "")
        assert decoded and keywords.startswith(decoded)
    example["args"].keywords = "no"
    assert not example["batches"](samples)[0][0][1].any()

    model = example["model"]
    guesses = model.predict(test, verbose=0).argmax(axis=1)
    table = capsys.readouterr().out.split("class | correct | most often confused with\n")[1]
    *table, score = table.splitlines()
    assert score == f"test accuracy: {np.mean(guesses == labels):.4f}"
    for number, (name, line) in enumerate(zip(names, table, strict=True)):
        counts = Counter(guesses[labels == number].tolist())
        assert line.startswith(f"{name} | {counts.pop(number, 0)} of {sum(labels == number)} | ")
        others = {f"{names[i]} ({n})" for i, n in counts.items() if n == max(counts.values())}
        assert line.split(" | ")[2] in (others or {""})

    predict_always(model, 2)
    for labels, right in (("2222", 1), ("2022", 0.75), ("0220", 0.5), ("0137", 0)):
        answers = example["batches"]([(*samples[0][:2], int(label)) for label in labels])
        assert model.evaluate(answers, verbose=0)[1] == right


def test_ocnli_quickly(quick, rows, checkpoint, tmp_path, capsys):
    data = rows("inference")
    unsure = json.dumps({"sentence1": "一", "sentence2": "二", "label": "-"})
    for path in data.glob("*.json"):
        path.write_text(f"{unsure}\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
    options = ONE_BATCH | {"checkpoint": checkpoint(**LARGE_WEIGHTS), "data": data, "epochs": 10}
    example = quick("task_ocnli", **options)
    assert (tmp_path / "output" / "ocnli" / "labels.json").is_file()
    # the rows on which the annotators did not agree are left out
    train, test, names = example["train"], example["test"], example["NAMES"]
    assert (len(train), len(test)) == (8, 4)
    model, batches = example["model"], example["batches"]
    (ids, segments), labels = batches(test)[0]
    assert labels.tolist() == [label for *_, label in test]
    for row, segment_ids, (first, second, _) in zip(ids, segments, test, strict=True):
        assert first.startswith(example["tokenizer"].decode(row[segment_ids == 0])[:4])
        assert second.startswith(example["tokenizer"].decode(row[segment_ids == 1])[:4])
    guesses = model.predict(batches(test), verbose=0).argmax(axis=1)
    score, table = capsys.readouterr().out.split("\ntrue | predicted | sentences\n")
    assert score.endswith(f"test accuracy: {np.mean(guesses == labels):.4f}\n")
    for line, (first, second, label), guess in zip(table.splitlines(), test, guesses, strict=True):
        assert line == f"{names[label]} | {names[guess]} | {first} / {second}"

    predict_always(model, names.index("neutral"))
    first, second, _ = test[-1]
    for labels, right in (([1, 1, 1, 1], 1), ([0, 1, 1, 2], 0.5), ([1, 2, 0, 2], 0.25)):
        answers = batches([(first, second, label) for label in labels])
        assert model.evaluate(answers, verbose=0)[1] == right
    example["args"].sentences = "second"
    ids, segments = batches(test)[0][0]
    assert not segments.any()
    assert second.startswith(example["tokenizer"].decode(ids[-1])[:4])


def test_validation_split_quickly(quick, rows, checkpoint, tmp_path):
    data = rows("sentiment.*", train=8, others=8)
    options = ONE_BATCH | {"checkpoint": checkpoint(**LARGE_WEIGHTS), "data": data}
    names = quick("choose_validation_split", **options, folds=2, share=0.25)
    assert len(quick.losses) == 2
    train, valid = (read_tsv(tmp_path / "output" / f"chosen.{x}.tsv") for x in ("train", "valid"))
    given, (likeness, is_test) = names["train"], (names["likeness"], names["is_test"])
    assert sorted(train + valid) == sorted(given)
    assert len(valid) == 2
    # the chosen ones are those that look most like test
    of_train = dict(zip(given, likeness, strict=False))
    assert min(of_train[row] for row in valid) >= max(of_train[row] for row in train)

    area = names["area_under_curve"]
    above = likeness[is_test][:, None] - likeness[~is_test]
    assert names["auc"] == pytest.approx(np.mean((np.sign(above) + 1) / 2))
    is_positive = np.array([False, False, True, True])
    assert area(np.array([1.0, 2, 3, 4]), is_positive) == 1
    assert area(np.array([4.0, 3, 2, 1]), is_positive) == 0
    assert area(np.array([1.0, 1, 1, 1]), is_positive) == 0.5
    assert area(np.array([1.0, 3, 2, 4]), is_positive) == 0.75


def test_search_finds_what_is_nearly_the_same(quick, rows, checkpoint, capsys):
    data = rows("sts", train=40, others=40)
    texts = [text for text, *_ in read_tsv(data / "train.txt", (str, str, str)) if text[-1] == "。"]
    # half of the pairs mean the same
    same = [(text, f"{text[:-1]}！", 5) for text in texts[:6]]
    pairs = [*same, *((text, other[0], 0) for text, other in zip(texts[6:12], same, strict=True))]
    (data / "test.txt").write_text("".join(f"{a}\t{b}\t{n}\n" for a, b, n in pairs), "utf-8")
    query = texts[0][:-1]
    options = {"checkpoint": checkpoint(), "data": data, "query": query, "size": 16}
    names = quick("task_sentence_embedding_search", **options)
    whitened = names["whitened"](names["vectors"])
    assert whitened.shape[1] == 16
    np.testing.assert_allclose(np.linalg.norm(whitened, axis=1), 1, rtol=1e-5)
    # independent coordinates of the same size, before they are brought to length 1
    coordinates = (names["vectors"] - names["mean"]) @ names["matrix"]
    np.testing.assert_allclose(np.cov(coordinates.T), np.eye(16), atol=0.05)
    shown = capsys.readouterr().out.split(f"\n{query}\n")[1].strip().splitlines()
    assert any(line.endswith(f"  {query}。") for line in shown)

    # all six are found by their partners, and are more alike than the other pairs
    metrics = names["scores"]["mean vectors"]
    assert metrics["first"] == metrics["ten"] == 1
    assert metrics["spearman"] == pytest.approx(6 * 0.5 / np.std(np.arange(12)))


# --- trainings to a score ------------------------------------------------------------------------


@pytest.fixture
def reviews(tmp_path):
    """The sample's reviews; train and valid change places, as train has other words than test."""
    for split, source in (("train", "valid"), ("valid", "train"), ("test", "test")):
        shutil.copy(DATA / f"sentiment.{source}.tsv", tmp_path / f"sentiment.{split}.tsv")
    return tmp_path


@pytest.mark.long
def test_albert(run, checkpoint, reviews, capsys):
    # with a checkpoint, as without one the token vectors stay where they are
    options = {"checkpoint": checkpoint("albert"), "data": reviews, "batch_size": 16}
    keras.utils.set_random_seed(0)
    run("task_sentiment_albert", **options, epochs=6, learning_rate=3e-3)
    assert float(capsys.readouterr().out.split("test accuracy: ")[1][:6]) > 0.55


@pytest.mark.long
@pytest.mark.parametrize(("keywords", "least", "most"), [("no", 0, 0.8), ("yes", 0.7, 1)])
def test_tnews_needs_the_keywords(run, checkpoint, capsys, keywords, least, most):
    # a third of the headlines does not say what it is about; 0.125 by chance
    run("task_tnews", checkpoint=checkpoint(), **TRAINING, keywords=keywords)
    assert least < score_of(capsys) <= most


@pytest.mark.long
def test_ocnli(run, checkpoint, capsys):
    run("task_ocnli", checkpoint=checkpoint(), **TRAINING | {"epochs": 8})
    assert score_of(capsys) > 0.55  # 0.333 by chance


@pytest.mark.long
def test_validation_split_is_like_the_test(run, checkpoint, tmp_path):
    # train: the sample's train, and some reviews in the words of test
    rows = [read_tsv(DATA / f"sentiment.{split}.tsv") for split in ("train", "valid", "test")]
    parts = {"train": rows[0][:150] + rows[1][:40], "test": rows[2][:150]}
    for split, part in parts.items():
        text = "".join(f"{text}\t{label}\n" for text, label in part)
        (tmp_path / f"sentiment.{split}.tsv").write_text(text, encoding="utf-8")
    options = {"folds": 2, "epochs": 6, "learning_rate": 3e-3, "batch_size": 16}
    options |= {"checkpoint": checkpoint(), "data": tmp_path}
    names = run("choose_validation_split", **options)
    assert names["auc"] > 0.7
    output = tmp_path / "output"
    train, valid = (read_tsv(output / f"chosen.{name}.tsv") for name in ("train", "valid"))
    assert sorted(train + valid) == sorted(parts["train"])
    assert len(valid) == 38
    assert np.mean([row in rows[1] for row in valid]) > 0.6  # 0.21 by chance


# --- the sample, and real data -------------------------------------------------------------------


def test_the_sample_is_what_its_script_writes():
    subprocess.run([sys.executable, DATA / "make_understanding.py", "--check"], check=True)


def test_the_vocabulary_has_every_character_of_the_sample():
    known = {*(DATA / "vocab.txt").read_text(encoding="utf-8").split("\n"), "\n"}
    for path in (*(DATA / "headlines").glob("*.json"), *(DATA / "inference").glob("*.json")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        texts = [text for row in rows for key, text in row.items() if key != "label"]
        assert {c for text in texts for c in text} - set("entailmentcontradictionneutral,") <= known


@needs_real_data
def test_reading_ocnli(quick, checkpoint, tmp_path):
    """The rows without a label are left out."""
    lines = (REAL / "ocnli" / "dev.json").read_text(encoding="utf-8").splitlines()
    labels = [json.loads(line)["label"] for line in lines]
    (tmp_path / "dev.json").write_text("\n".join(lines) + "\n", encoding="utf-8")
    train = (REAL / "ocnli" / "train.10k.json").read_text(encoding="utf-8").splitlines()[:20]
    (tmp_path / "train.10k.json").write_text("\n".join(train) + "\n", encoding="utf-8")
    options = ONE_BATCH | {"batch_size": 1024, "checkpoint": checkpoint(**LARGE_WEIGHTS)}
    names = quick("task_ocnli", data=tmp_path, **options)
    assert len(names["test"]) == len(labels) - labels.count("-") < len(labels)
    assert [names["NAMES"][label] for *_, label in names["test"]] == [x for x in labels if x != "-"]
