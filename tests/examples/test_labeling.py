"""Examples of sequence labelling and relations: on one batch, until they learn the sample."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import score_of

from bert4keras_lite import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
SAMPLE = EXAMPLES / "data"
REAL = ROOT.parent / "shared" / "data"

# short texts, all cut to the same length
ONE_BATCH = {"batch_size": 8, "maxlen": 16, "epochs": 3, "learning_rate": 1e-2}
# relative positions are learned the soonest
FAMILY = "roformer"
WIDER = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}
TRAINING = {"batch_size": 25, "learning_rate": 4e-3}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(SAMPLE / "vocab.txt")


@pytest.fixture
def films(tmp_path):
    """Writes what the sample tells of films in single sentences: enough to learn from nothing.

    Args: the most lines of the file for training, and of the others.
    """

    def films(train=90, others=90):
        directory = tmp_path / "films"
        directory.mkdir()
        for path in (SAMPLE / "triples").iterdir():
            rows = path.read_text(encoding="utf-8").splitlines()
            rows = [x for x in rows if "《" in x and x.count("。") == 1 and "作者" not in x]
            lines = train if path.name == "train.json" else others
            (directory / path.name).write_text("\n".join(rows[:lines]), encoding="utf-8")
        return directory

    return films


# --- one batch -----------------------------------------------------------------------------------


def check_spans(example, text, spans, answers):
    """Asserts the F1 of some outputs of a model for a text whose spans are known.

    Args:
        example: the variables of the script.
        answers: pairs of an output and its F1.
    """
    model = example["model"]
    for output, f1 in answers:
        model.predict = lambda batches, verbose=0, output=output: output
        assert example["f1"]([(text, spans)]) == f1


@pytest.mark.parametrize("method", ["CRF", "softmax"])
def test_ner_crf_quickly(quick, rows, checkpoint, tmp_path, capsys, method):
    options = ONE_BATCH | {"checkpoint": checkpoint(FAMILY), "data": rows("entities")}
    example = quick("task_sequence_labeling_ner_crf", **options, method=method)
    tags, test = example["tags"], example["samples"]["test"]
    shown = capsys.readouterr().out
    assert f"\n{test[0][0]}\n" in shown
    assert f"\ntest F1: {example['f1'](test):.4f}\n" in shown
    saved = tmp_path / "output" / "tagger" / "labels.json"
    assert json.loads(saved.read_text(encoding="utf-8")) == tags
    # padding and the special tokens are no part of anything
    text, spans = "王芳在昆明，没有人知道这些。", {(0, 2, "name"), (3, 5, "address")}
    (ids, _), labels = example["batches"]([(text, spans), ("王芳", set())])[0]
    expected = ["O", "B-name", "I-name", "O", "B-address", "I-address", *["O"] * 10]
    assert [tags[i] for i in labels[0]] == expected
    assert labels[1].tolist() == [0] * 4 + [-1] * 12 and ids[1, 3:5].all() == 0

    answers = []
    for names, f1 in (
        ({(0, 2, "name"), (3, 5, "address")}, 1),
        ({(0, 2, "name"), (3, 5, "book")}, 0.5),
        ({(0, 1, "name"), (2, 5, "address")}, 0),
    ):
        _, labels = example["batches"]([(text, names)])[0]
        answers.append((99.0 * np.eye(len(tags), dtype="float32")[labels], f1))
    check_spans(example, text, spans, answers)


@pytest.mark.parametrize("method", ["CRF", "MEMM"])
def test_word_segmentation_quickly(quick, rows, checkpoint, capsys, method):
    data = rows("words", others=5)
    for path in data.iterdir():
        # the first six characters, and the spaces between them
        short = re.findall(r"^(?:\S ?){6}", path.read_text(encoding="utf-8"), re.MULTILINE)
        path.write_text("\n".join(short) + "\n", encoding="utf-8")
    options = ONE_BATCH | {"checkpoint": checkpoint(FAMILY), "data": data}
    example = quick("task_sequence_labeling_cws_crf", **options, method=method)
    shown, test = capsys.readouterr().out, example["samples"]["test"]
    assert re.search(r"\n[\d.]+ s an epoch, [\d,]+ tokens a second decoded\n", shown)
    *_, words, score = shown.splitlines()
    assert words.replace(" ", "") == test[4][0]
    assert score == f"test F1: {example['f1'](test):.4f}"

    @given(st.lists(st.integers(1, 4), min_size=1, max_size=9))
    def words_are_read_from_their_tags(lengths):
        text, spans = example["join_words"](["天" * length for length in lengths])
        (_, labels) = example["batches"]([(text, spans)])[0]
        in_tokens = {(start + 1, end + 1, "word") for start, end, _ in spans}
        kept = {span for span in in_tokens if span[1] < len(labels[0])}
        assert len(text) > 14 or example["words_of"](labels[0]) == kept == in_tokens

    words_are_read_from_their_tags()
    assert example["f1"]([("", set())]) == 1  # a text without tokens has no words

    text, spans = example["join_words"](["我们", "去", "昆明", "吧"])
    for tags, f1 in (("SBESBESS", 1), ("SBEBESSS", 0.5), ("SBMMMMES", 0)):
        output = 99.0 * np.eye(4, dtype="float32")[None, ["SBME".index(tag) for tag in tags]]
        check_spans(example, text, spans, [(output, f1)])


@pytest.mark.parametrize("method", ["GlobalPointer", "efficient"])
def test_global_pointer_quickly(quick, rows, checkpoint, tmp_path, method):
    options = ONE_BATCH | {"checkpoint": checkpoint(FAMILY), "data": rows("entities")}
    example = quick("task_ner_global_pointer", **options, method=method)
    types = example["types"]
    saved = tmp_path / "output" / "pointers" / "labels.json"
    assert json.loads(saved.read_text(encoding="utf-8")) == types

    # one entity within another
    text, spans = "昆明图书馆。", {(0, 2, "address"), (0, 5, "organization")}
    (_, labels) = example["batches"]([(text, spans)])[0]
    assert labels.shape == (1, len(types), 8, 8)
    assert {(types[i], start, last) for _, i, start, last in np.argwhere(labels)} == {
        ("address", 1, 2),
        ("organization", 1, 5),
    }
    for predicted, f1 in (
        ({(0, 2, "address"), (0, 5, "organization")}, 1),
        ({(0, 2, "address"), (0, 5, "address")}, 0.5),
        ({(0, 2, "organization"), (0, 5, "address")}, 0),
    ):
        (_, labels) = example["batches"]([(text, predicted)])[0]
        example["model"].predict_on_batch = lambda inputs, labels=labels: labels - 0.5
        assert example["f1"]([(text, spans)]) == f1


def test_information_extraction_quickly(quick, rows, checkpoint, tmp_path):
    options = ONE_BATCH | {"checkpoint": checkpoint(FAMILY), "data": rows("entities")}
    example = quick("task_information_extraction", **options, negatives=1)
    assert (tmp_path / "output" / "information" / "config.json").is_file()  # it was loaded, too

    text, spans = "王芳在昆明。", {(0, 2, "人名"), (3, 5, "地址")}
    assert example["prompts"](spans)[:2] == ["人名", "地址"]
    assert len(example["prompts"](spans)) == 3  # a name that is not in the text
    (inputs, labels) = example["batches"]([(text, spans)])[0]
    assert labels.shape == (3, *inputs[0].shape[1:], 2)
    # [CLS] 人 名 [SEP] 王 芳 在 昆 明
    assert np.argwhere(labels).tolist() == [[0, 4, 0], [0, 5, 1], [1, 7, 0], [1, 8, 1]]

    name, place = ({"start": start, "end": start + 2} for start in (0, 3))
    for found, f1 in (
        ({"人名": [name], "地址": [place]}, 1),
        ({"人名": [name], "地址": [name]}, 0.5),
        ({"人名": [place], "地址": []}, 0),
    ):
        example["extractor"].extract = lambda texts, schema, found=found: [found]
        assert example["f1"]([(text, spans)]) == f1


FILMS = "《城市》的导演是王芳。《河流》由李强导演，赵伟主演。"
TRIPLES = {("城市", "导演", "王芳"), ("河流", "导演", "李强"), ("河流", "主演", "赵伟")}


def test_relation_extraction_quickly(quick, films, checkpoint, tmp_path, capsys):
    options = ONE_BATCH | {"checkpoint": checkpoint(FAMILY), "maxlen": 32, "epochs": 5}
    example = quick("task_relation_extraction", **options, data=films(8, 2))
    assert (tmp_path / "output" / "relations.weights.h5").is_file()
    score = f"\ntest F1, moving average: {example['f1'](example['samples']['test']):.4f}\n"
    assert capsys.readouterr().out.endswith(score)

    # a batch tells of one subject, and of no other's objects
    train, predicates = example["train"], example["predicates"]
    inputs, targets = train[0]
    ids, _, chosen = inputs
    for i, size in enumerate(np.count_nonzero(ids, axis=1)):
        assert np.all(targets["subjects"][i, size:] == -1)
        assert np.all(targets["objects"][i, size:] == -1)
        start, last = chosen[i]
        assert targets["subjects"][i, start, 0] == targets["subjects"][i, last, 1] == 1
    text, seen = FILMS, set()
    ids, segments, offsets = example["encode"](text)
    row = (ids, segments, example["in_tokens"](text, TRIPLES, offsets))
    for _ in range(20):
        (_, _, [(start, last)]), targets = example["collate"]([row], len(ids))
        subject = text[start - 1 : last]  # [CLS] comes first
        objects = {o for s, _, o in TRIPLES if s == subject}
        seen.add(subject)
        begins, ends = np.moveaxis(targets["objects"][0].reshape(-1, len(predicates), 2) > 0, 2, 0)
        assert begins.sum() == ends.sum() == len(objects)
        for begin, predicate in np.argwhere(begins):
            end = np.flatnonzero(ends[:, predicate])[0]
            assert (subject, predicates[predicate], text[begin - 1 : end]) in TRIPLES
    assert seen == {"城市", "河流", text[1:14]}  # the last: the begin of one, the end of another

    # each begin goes with the nearest end; the last has none
    ends = np.full((6, 2), -1)
    ends[[0, 1, 2, 5], [0, 0, 1, 0]] = ends[3, 1] = 1
    assert example["spans"](ends) == [(0, 3), (1, 3)]
    size = len(ids)

    def mark(words, columns):
        """Logits above 0 at the begin and the end of words, each in its column."""
        logits = np.full((size, len(columns), 2), -1)
        for word, name in words:
            begin, column = text.index(word) + 1, columns.index(name)
            logits[[begin, begin + len(word) - 1], column, [0, 1]] = 1
        return logits.reshape(1, size, -1)

    for objects, f1 in (
        ({"城市": [("王芳", "导演")], "河流": [("李强", "导演"), ("赵伟", "主演")]}, 1),
        ({"城市": [("王芳", "导演")], "河流": []}, 0.5),  # one of three
        ({"城市": [("王芳", "主演")], "河流": [("王芳", "导演")]}, 0),
    ):

        def read(inputs, objects=objects):
            return np.zeros((1, size, 32)), mark([(word, "") for word in objects], [""])

        def find(inputs, objects=objects):
            [(start, last)] = inputs[1]
            return mark(objects[text[start - 1 : last]], predicates)

        example["reader"].predict_on_batch, example["finder"].predict_on_batch = read, find
        assert example["f1"]([(text, TRIPLES)]) == f1


def test_gplinker_quickly(quick, films, checkpoint, tmp_path, capsys):
    options = ONE_BATCH | {"checkpoint": checkpoint(FAMILY), "data": films(8, 2), "maxlen": 32}
    example = quick("task_relation_extraction_gplinker", **options)
    assert (tmp_path / "output" / "gplinker.weights.h5").is_file()
    score = f"\ntest F1, moving average: {example['f1'](example['samples']['test']):.4f}\n"
    assert capsys.readouterr().out.endswith(score)
    target, predicates = example["target"], example["predicates"]
    triples = {((1, 3), predicates[1], (5, 8)), ((5, 8), predicates[0], (1, 3))}
    pairs = {
        name: [[divmod(i, 10) for i in head if i >= 0] for head in heads.tolist()]
        for name, heads in target(triples, 10).items()
    }
    both = [(1, 2), (5, 7)]
    assert pairs["entities"] == [both, both]
    assert pairs["firsts"][:2] == [[(5, 1)], [(1, 5)]]
    assert pairs["lasts"][:2] == [[(7, 2)], [(2, 7)]]

    ids, _, offsets = example["encode"](FILMS)
    size = len(ids)

    def output(triples):
        """Logits above 0 at the pairs of tokens that triples have."""
        logits = {}
        for name, heads in target(example["in_tokens"](FILMS, triples, offsets), size).items():
            logits[name] = np.full((1, len(heads), size * size), -1)
            for row, numbers in zip(logits[name][0], heads, strict=True):
                row[numbers[numbers >= 0]] = 1
            logits[name] = logits[name].reshape(1, len(heads), size, size)
        return logits

    wrong = {("城市", "主演", "王芳"), ("河流", "导演", "王芳")}
    answers = [(output(TRIPLES), 1), (output({min(TRIPLES)}), 0.5), (output(wrong), 0)]
    # where the last tokens do not agree there is no triple
    answers.append((output(TRIPLES) | {"lasts": output(set())["lasts"]}, 0))
    for logits, f1 in answers:
        example["model"].predict_on_batch = lambda inputs, logits=logits: logits
        assert example["f1"]([(FILMS, TRIPLES)]) == f1


@pytest.mark.parametrize("name", ["task_relation_extraction", "task_relation_extraction_gplinker"])
def test_triples_come_back(quick, films, checkpoint, name):
    data = quick.data_of(name, checkpoint=checkpoint(FAMILY), data=films(8, 2))
    text = "《City》的作者是王芳，王芳还写了《河流》。"
    triples = {("City", "作者", "王芳"), ("河流", "作者", "王芳")}
    *_, offsets = data["encode"](text)
    in_tokens = data["in_tokens"](text, triples | {("不在", "作者", "王芳")}, offsets)
    assert len(in_tokens) == 2
    assert {span for *_, span in in_tokens} == {min(s for *_, s in in_tokens)}
    assert data["in_text"](text, in_tokens, offsets) == triples


# --- trainings to a score ------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(("method", "least"), [("softmax", 0.3), ("CRF", 0.5)])
def test_ner_crf(run, checkpoint, capsys, method, least):
    options = TRAINING | {"checkpoint": checkpoint(FAMILY, **WIDER), "method": method}
    run("task_sequence_labeling_ner_crf", **options, epochs=6)
    assert score_of(capsys) > least


@pytest.mark.long
@pytest.mark.parametrize(("method", "least"), [("CRF", 0.5), ("MEMM", 0.4)])
def test_word_segmentation(run, checkpoint, capsys, method, least):
    options = TRAINING | {"checkpoint": checkpoint(FAMILY, **WIDER), "method": method}
    run("task_sequence_labeling_cws_crf", **options, epochs=5)
    assert score_of(capsys) > least


@pytest.mark.long
@pytest.mark.parametrize("method", ["GlobalPointer", "efficient"])
def test_global_pointer(run, checkpoint, capsys, method):
    options = TRAINING | {"checkpoint": checkpoint(FAMILY, **WIDER), "method": method}
    run("task_ner_global_pointer", **options, epochs=6)
    assert score_of(capsys) > 0.4


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "epochs"),
    [("task_relation_extraction", 40), ("task_relation_extraction_gplinker", 30)],
)
def test_relations(run, films, checkpoint, capsys, name, epochs):
    options = TRAINING | {"checkpoint": checkpoint(FAMILY, **WIDER), "batch_size": 8}
    run(name, **options, data=films(), epochs=epochs, ema_momentum=0.9)
    shown = capsys.readouterr().out
    assert " / 导演 / " in shown
    assert float(shown.split()[-1]) > 0.3


# --- files ---------------------------------------------------------------------------------------


def write(directory, **files):
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text, encoding="utf-8")


NER = ("task_sequence_labeling_ner_crf", "task_ner_global_pointer")


@pytest.mark.parametrize("name", NER)
def test_cluener_is_read(quick, checkpoint, name, tmp_path):
    rows = [
        {
            "text": "王芳在昆明。",
            "label": {"name": {"王芳": [[0, 1]]}, "address": {"昆明": [[3, 4]]}},
        },
        {"text": "没有标注"},
    ]
    path = tmp_path / "dev.json"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    read = quick.data_of(name, checkpoint=checkpoint(FAMILY))["read"]
    assert read(path) == [("王芳在昆明。", {(0, 2, "name"), (3, 5, "address")})]
    for line in ('["label"]', '{"label": {}}', '{"label": [1]}',
                 '{"text": "a", "label": {"x": {"y": [[1, 2, 3]]}}}'):  # fmt: skip
        path.write_text(line)
        with pytest.raises(ValueError, match=r"dev\.json, line 1: expected JSON"):
            read(path)


@pytest.mark.parametrize("name", NER)
def test_bio_files_are_read(quick, checkpoint, name, tmp_path):
    plain = "王 B-PER\n芳 I-PER\n在 O\n昆 B-LOC\n明 I-LOC\n\n\n# O\n1 O\n\n"
    weibo = "王0\tB-PER.NAM\n芳1\tI-PER.NAM\n10\tO\n\n好0\tO\n"
    write(tmp_path, example__dev=plain, weibo__dev=weibo, wrong__dev="王 B-PER I-PER\n")
    read = quick.data_of(name, checkpoint=checkpoint(FAMILY))["read"]
    samples = read(tmp_path / "example.dev")
    assert samples == [("王芳在昆明", {(0, 2, "PER"), (3, 5, "LOC")}), ("#1", set())]
    samples = read(tmp_path / "weibo.dev")
    assert samples == [("王芳1", {(0, 2, "PER.NAM")}), ("好", set())]
    with pytest.raises(SystemExit, match="expected lines of a character and its tag"):
        read(tmp_path / "wrong.dev")


def test_words_are_read(quick, checkpoint, tmp_path):
    lines = ["# sent_id = 1", "1-2\t我们\t_", "1\t我\t_", "2\t们\t_", "2.1\t空\t_", "3\tNew\t_"]
    lines += ["4\tYork\t_", "5\t。\t_"]
    conll = "\n".join(lines) + "\n\n# x\n1\t好\t_\n\n"
    write(tmp_path, dev__conllu=conll, dev__txt="我们 去 Y2K\n \n\n", wrong__conllu="1\n2\n")
    read = quick.data_of("task_sequence_labeling_cws_crf", checkpoint=checkpoint(FAMILY))["read"]
    (text, spans), (second, _) = read(tmp_path / "dev.conllu")
    assert (text, second) == ("我们New York。", "好")
    assert [text[a:b] for a, b, _ in sorted(spans)] == ["我", "们", "New", "York", "。"]
    [(text, spans)] = read(tmp_path / "dev.txt")
    assert (text, spans) == ("我们去Y2K", {(0, 2, "word"), (2, 3, "word"), (3, 6, "word")})
    with pytest.raises(SystemExit, match="expected words in the second column"):
        read(tmp_path / "wrong.conllu")


@pytest.mark.parametrize("name", ["task_relation_extraction", "task_relation_extraction_gplinker"])
def test_duie_is_read(quick, checkpoint, name, tmp_path):
    triple = {"subject": "城市", "predicate": "作者", "object": "王芳", "object_type": "人物"}
    rows = [
        {"text": "王芳写了《城市》", "spo_list": [triple, triple]},
        {"text": "无", "postag": []},
    ]
    path = tmp_path / "train_data.json"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    read = quick.data_of(name, checkpoint=checkpoint(FAMILY))["read"]
    assert read(path) == [("王芳写了《城市》", {("城市", "作者", "王芳")})]
    path.write_text('{"text": "a", "spo_list": [{"a": 1}]}')
    with pytest.raises(ValueError, match=r"train_data\.json, line 1: expected JSON"):
        read(path)


# --- the sample, and real data -------------------------------------------------------------------


def test_sample_is_what_its_script_writes():
    command = [sys.executable, SAMPLE / "make_labeling.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("directory", "name"),
    [("entities", NER[0]), ("words", "task_sequence_labeling_cws_crf"),
     ("triples", "task_relation_extraction")],
)  # fmt: skip
def test_sample(quick, checkpoint, tokenizer, directory, name):
    splits = quick.data_of(name, checkpoint=checkpoint(FAMILY))["samples"]
    is_triples = directory == "triples"
    assert {split: len(rows) for split, rows in splits.items()} == {
        "train": 1000 if is_triples else 500,
        "valid": 100,
        "test": 200,
    }
    texts = [text for rows in splits.values() for text, _ in rows]
    assert len(set(texts)) == len(texts)
    for text in texts:
        assert tokenizer.token_unk_id not in tokenizer.encode(text)[0], text
    types = {split: {label[1 if is_triples else 2] for _, labels in rows for label in labels}
             for split, rows in splits.items()}  # fmt: skip
    assert types["train"] == types["valid"] == types["test"]


@pytest.mark.parametrize(
    ("directory", "name", "sizes", "labels"),
    [
        ("cluener", NER[0], (10748, 1343), 10),
        ("weibo_ner", NER[1], (1350, 270, 270), 8),
        ("cws_ud_chinese", "task_sequence_labeling_cws_crf", (3997, 500, 500), 1),
        ("duie_sample", "task_relation_extraction", (2601, 1000), 48),
    ],
)
def test_real_data(quick, checkpoint, directory, name, sizes, labels):
    if not (REAL / directory).is_dir():
        pytest.skip("the data set is not here")
    splits = quick.data_of(name, checkpoint=checkpoint(FAMILY), data=REAL / directory)["samples"]
    assert (len(splits["train"]), len(splits["valid"])) == sizes[:2]
    assert len(splits["test"]) == sizes[-1]
    place = 1 if directory == "duie_sample" else 2
    types = {label[place] for _, rows in splits["train"] for label in rows}
    assert len(types) == labels
    if place == 2:
        for text, spans in splits["train"]:
            assert all(text[start:end].strip() for start, end, _ in spans)


@pytest.mark.once
def test_files_that_are_no_text_are_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    read, path = importlib.import_module("question_answers").read_triples, tmp_path / "a.json"
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"a\.json: expected JSON"):
        read(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match="expected a file"):
        read(path)
