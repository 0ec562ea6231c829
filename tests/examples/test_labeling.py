"""The examples of sequence labelling and relations: on one batch, and until they learn the sample."""

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import keras
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
ONE_BATCH = {"seeds": 1, "batch_size": 8, "maxlen": 16, "epochs": 3, "learning_rate": 1e-2}
SMALL_BATCH = {key: value for key, value in ONE_BATCH.items() if key != "seeds"}
# relative positions are learned the soonest
FAMILY = "roformer"
WIDER = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}
TRAINING = {"batch_size": 25, "learning_rate": 4e-3}


@pytest.fixture(scope="module")
def labeling():
    """What the examples share."""
    import labeling

    return labeling


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


def check_scores(example, model, decode, text, labels, answers):
    """Asserts the F1 of some outputs of a model for a text whose labels are known.

    Args:
        example: the variables of the script.
        model: what `decode` asks.
        answers: pairs of an output and its F1.
    """
    copies = len(example["test"].texts)  # a shape that `decode` knows
    test = type(example["test"])([(text, labels)] * copies, example["tokenizer"], example["args"])
    for output, f1 in answers:
        output = keras.tree.map_structure(lambda x: np.repeat(x, copies, axis=0), output)
        model.predict_on_batch = lambda inputs, output=output: output
        assert test.score(decode) == f1


def model_of(decode):
    return inspect.getclosurevars(decode).nonlocals["model"]


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
    options = SMALL_BATCH | {"checkpoint": checkpoint(FAMILY), "data": rows("entities")}
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


def test_word_segmentation_quickly(quick, rows, checkpoint, capsys):
    data = rows("words", others=5)
    for path in data.iterdir():
        # the first six characters, and the spaces between them
        short = re.findall(r"^(?:\S ?){6}", path.read_text(encoding="utf-8"), re.MULTILINE)
        path.write_text("\n".join(short) + "\n", encoding="utf-8")
    options = ONE_BATCH | {"checkpoint": checkpoint(FAMILY), "data": data}
    example = quick("task_sequence_labeling_cws_crf", **options, only=["CRF", "MEMM"])
    shown = capsys.readouterr().out
    for method in ("CRF", "MEMM"):
        assert re.search(rf"\n{method} +[\d.]+ s an epoch, [\d,]+ tokens a second decoded", shown)
    assert shown.splitlines()[-1].replace(" ", "") == example["test"].texts[4]

    @given(st.lists(st.integers(1, 4), min_size=1, max_size=9))
    def words_are_read_from_their_tags(lengths):
        ends = np.cumsum([1, *lengths]).tolist()
        spans = {(start, end, "word") for start, end in pairwise(ends)}
        tags = example["target"](spans, ends[-1] + 1, ends[-1] + 4)
        assert example["words"](tags[: ends[-1] + 1]) == spans
        assert set(tags[ends[-1] + 1 :]) == {-1}

    words_are_read_from_their_tags()

    text, labels = example["read_words"].__globals__["join_words"](["我们", "去", "昆明", "吧"])
    answers = [("SBESBESS", 1), ("SBEBESSS", 0.5), ("SBMMMMES", 0)]
    answers = [
        (99 * np.eye(4)[None, ["SBME".index(tag) for tag in tags]], f1) for tags, f1 in answers
    ]
    for decode in example["decoders"].values():
        check_scores(example, model_of(decode), decode, text, labels, answers)


def test_global_pointer_quickly(quick, rows, checkpoint, tmp_path):
    options = ONE_BATCH | {"checkpoint": checkpoint(FAMILY), "data": rows("entities")}
    methods = ["GlobalPointer", "EfficientGlobalPointer"]
    example = quick("task_ner_global_pointer", **options, only=methods)
    kinds = example["kinds"]
    saved = tmp_path / "output" / "pointers" / "labels.json"
    assert json.loads(saved.read_text(encoding="utf-8")) == kinds
    target = example["target"]({(1, 3, kinds[2]), (1, 5, kinds[0])}, 6, 8)
    assert np.argwhere(target).tolist() == [[0, 1, 4], [2, 1, 2]]

    # one entity within another
    text, labels = "昆明图书馆。", {(0, 2, "address"), (0, 5, "organization")}
    answers = [
        (example["target"](spans, 8, 8)[None] - 0.5, f1)
        for spans, f1 in (
            ({(1, 3, "address"), (1, 6, "organization")}, 1),
            ({(1, 3, "address"), (1, 6, "address")}, 0.5),
            ({(1, 3, "organization"), (1, 6, "address")}, 0),
        )
    ]
    for decode in example["decoders"].values():
        check_scores(example, model_of(decode), decode, text, labels, answers)


def test_relation_extraction_quickly(quick, films, checkpoint, tmp_path):
    options = ONE_BATCH | {"checkpoint": checkpoint(FAMILY), "maxlen": 32, "epochs": 5}
    example = quick("task_relation_extraction", **options, data=films(8, 2))
    assert (tmp_path / "output" / "relations.weights.h5").is_file()

    # a batch tells of one subject, and of no other's objects
    train, predicates = example["train"], example["predicates"]
    inputs, targets = train.batches[0]
    ids, _, chosen = inputs
    for i, size in enumerate(np.count_nonzero(ids, axis=1)):
        assert np.all(targets["subjects"][i, size:] == -1)
        assert np.all(targets["objects"][i, size:] == -1)
        start, last = chosen[i]
        assert targets["subjects"][i, start, 0] == targets["subjects"][i, last, 1] == 1
    text = "《城市》的导演是王芳。《河流》由李强导演，赵伟主演。"
    triples = {("城市", "导演", "王芳"), ("河流", "导演", "李强"), ("河流", "主演", "赵伟")}
    one = type(train)([(text, triples)], example["tokenizer"], example["args"])
    seen = set()
    for _ in range(20):
        (_, _, [(start, last)]), targets = one.batches[0]
        subject = text[start - 1 : last]  # [CLS] comes first
        objects = {o for s, _, o in triples if s == subject}
        seen.add(subject)
        begins, ends = np.moveaxis(targets["objects"][0].reshape(-1, len(predicates), 2) > 0, 2, 0)
        assert begins.sum() == ends.sum() == len(objects)
        for begin, predicate in np.argwhere(begins):
            end = np.flatnonzero(ends[:, predicate])[0]
            assert (subject, predicates[predicate], text[begin - 1 : end]) in triples
    assert seen == {"城市", "河流", text[1:14]}  # the last: the begin of one, the end of another

    # each begin goes with the nearest end; the last has none
    ends = np.full((6, 2), -1)
    ends[[0, 1, 2, 5], [0, 0, 1, 0]] = ends[3, 1] = 1
    assert example["spans"](ends) == [(0, 2), (1, 2)]
    extractor, size = example["extractor"], len(text) + 2

    def mark(words, columns):
        """Logits above 0 at the begin and the end of words, each in its column."""
        logits = np.full((size, len(columns), 2), -1)
        for word, name in words:
            begin, column = text.index(word) + 1, columns.index(name)
            logits[[begin, begin + len(word) - 1], column, [0, 1]] = 1
        return logits.reshape(1, size, -1)

    test = type(example["test"])([(text, triples)], example["tokenizer"], example["args"])
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

        extractor.reader.predict_on_batch, extractor.finder.predict_on_batch = read, find
        assert test.score(extractor.decode) == f1


def test_gplinker_quickly(quick, films, checkpoint, tmp_path):
    options = ONE_BATCH | {"checkpoint": checkpoint(FAMILY), "data": films(8, 2), "maxlen": 32}
    example = quick("task_relation_extraction_gplinker", **options)
    assert (tmp_path / "output" / "gplinker.weights.h5").is_file()
    target, predicates = example["target"], example["predicates"]
    triples = {((1, 3), predicates[1], (5, 8)), ((5, 8), predicates[0], (1, 3))}
    pairs = {
        name: [[divmod(i, 10) for i in head if i >= 0] for head in heads.tolist()]
        for name, heads in target(triples, 9, 10).items()
    }
    both = [(1, 2), (5, 7)]
    assert pairs["entities"] == [both, both]
    assert pairs["firsts"][:2] == [[(5, 1)], [(1, 5)]]
    assert pairs["lasts"][:2] == [[(7, 2)], [(2, 7)]]

    text = "《城市》的导演是王芳。《河流》由李强导演，赵伟主演。"
    triples = {("城市", "导演", "王芳"), ("河流", "导演", "李强"), ("河流", "主演", "赵伟")}
    size, test = len(text) + 2, type(example["test"])
    offsets = test([(text, triples)], example["tokenizer"], example["args"]).offsets[0]

    def output(triples):
        """Logits above 0 at the pairs of tokens that triples have."""
        logits = {}
        for name, heads in target(test.in_tokens(text, triples, offsets), size, size).items():
            logits[name] = np.full((1, len(heads), size * size), -1)
            for row, numbers in zip(logits[name][0], heads, strict=True):
                row[numbers[numbers >= 0]] = 1
            logits[name] = logits[name].reshape(1, len(heads), size, size)
        return logits

    wrong = {("城市", "主演", "王芳"), ("河流", "导演", "王芳")}
    answers = [(output(triples), 1), (output({min(triples)}), 0.5), (output(wrong), 0)]
    # where the last tokens do not agree there is no triple
    answers.append((output(triples) | {"lasts": output(set())["lasts"]}, 0))
    check_scores(example, example["model"], example["decode"], text, triples, answers)


# --- trainings to a score ------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(("method", "least"), [("softmax", 0.3), ("CRF", 0.5)])
def test_ner_crf(run, checkpoint, capsys, method, least):
    options = TRAINING | {"checkpoint": checkpoint(FAMILY, **WIDER), "method": method}
    run("task_sequence_labeling_ner_crf", **options, epochs=6)
    assert score_of(capsys) > least


@pytest.mark.long
def test_word_segmentation(run, checkpoint):
    options = TRAINING | {"seeds": 1, "checkpoint": checkpoint(FAMILY, **WIDER)}
    example = run("task_sequence_labeling_cws_crf", **options, only=["CRF", "MEMM"], epochs=5)
    scores = {method: score for method, (score,) in example["scores"].items()}
    assert scores["MEMM"] > 0.4 and scores["CRF"] > 0.5


@pytest.mark.long
def test_global_pointer(run, checkpoint):
    options = TRAINING | {"seeds": 1, "checkpoint": checkpoint(FAMILY, **WIDER)}
    methods = ["GlobalPointer", "EfficientGlobalPointer"]
    example = run("task_ner_global_pointer", **options, only=methods, epochs=6)
    scores = {method: score for method, (score,) in example["scores"].items()}
    assert scores["GlobalPointer"] > 0.4
    assert scores["EfficientGlobalPointer"] > 0.4


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "epochs"),
    [("task_relation_extraction", 40), ("task_relation_extraction_gplinker", 30)],
)
def test_relations(run, films, checkpoint, capsys, name, epochs):
    options = TRAINING | {"seeds": 1, "checkpoint": checkpoint(FAMILY, **WIDER), "batch_size": 8}
    example = run(name, **options, data=films(), epochs=epochs, ema_momentum=0.9)
    assert example["scores"]["moving average"][0] > 0.3
    assert " / 导演 / " in capsys.readouterr().out


# --- files ---------------------------------------------------------------------------------------


def write(directory, **files):
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text, encoding="utf-8")


def test_cluener_is_read(labeling, tmp_path):
    rows = [
        {
            "text": "王芳在昆明。",
            "label": {"name": {"王芳": [[0, 1]]}, "address": {"昆明": [[3, 4]]}},
        },
        {"text": "没有标注"},
    ]
    path = tmp_path / "dev.json"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    found = [("王芳在昆明。", {(0, 2, "name"), (3, 5, "address")})]
    assert labeling.read_entities(path) == found


def test_bio_files_are_read(labeling, tmp_path):
    plain = "王 B-PER\n芳 I-PER\n在 O\n昆 B-LOC\n明 I-LOC\n\n\n# O\n1 O\n\n"
    weibo = "王0\tB-PER.NAM\n芳1\tI-PER.NAM\n10\tO\n\n好0\tO\n"
    write(tmp_path, example__dev=plain, weibo__dev=weibo)
    samples = labeling.read_entities(tmp_path / "example.dev")
    assert samples == [("王芳在昆明", {(0, 2, "PER"), (3, 5, "LOC")}), ("#1", set())]
    samples = labeling.read_entities(tmp_path / "weibo.dev")
    assert samples == [("王芳1", {(0, 2, "PER.NAM")}), ("好", set())]


def test_words_are_read(labeling, tmp_path):
    lines = ["# sent_id = 1", "1-2\t我们\t_", "1\t我\t_", "2\t们\t_", "2.1\t空\t_", "3\tNew\t_"]
    lines += ["4\tYork\t_", "5\t。\t_"]
    write(
        tmp_path, dev__conllu="\n".join(lines) + "\n\n# x\n1\t好\t_\n\n", dev__txt="我们 去 Y2K\n\n"
    )
    (text, spans), (second, _) = labeling.read_words(tmp_path / "dev.conllu")
    assert (text, second) == ("我们New York。", "好")
    assert [text[a:b] for a, b, _ in sorted(spans)] == ["我", "们", "New", "York", "。"]
    [(text, spans)] = labeling.read_words(tmp_path / "dev.txt")
    assert (text, spans) == ("我们去Y2K", {(0, 2, "word"), (2, 3, "word"), (3, 6, "word")})


def test_duie_is_read(labeling, tmp_path):
    triple = {"subject": "城市", "predicate": "作者", "object": "王芳", "object_type": "人物"}
    rows = [
        {"text": "王芳写了《城市》", "spo_list": [triple, triple]},
        {"text": "无", "postag": []},
    ]
    path = tmp_path / "train_data.json"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert labeling.read_triples(path) == [("王芳写了《城市》", {("城市", "作者", "王芳")})]


def test_splits_are_found_by_their_names(labeling, tmp_path):
    for name in ("train_data.json", "my-dev.x", "test1_data.json", "developer.txt", "README.md"):
        (tmp_path / name).touch()
    splits = labeling.read_splits(tmp_path, lambda path: [path.name])
    assert splits == {"train": ["train_data.json"], "valid": ["my-dev.x"], "test": ["my-dev.x"]}
    with pytest.raises(SystemExit, match="no file with labels has train in its name"):
        labeling.read_splits(tmp_path, lambda path: [])


# --- spans ---------------------------------------------------------------------------------------

texts = st.text(st.sampled_from("王芳在昆明，。 ab12éＡ"), min_size=1, max_size=20)


@given(data=st.data(), text=texts)
def test_spans_of_tokens_come_back(labeling, tokenizer, data, text):
    *_, offsets = tokenizer.encode(text, return_offsets=True)
    tokens = range(1, len(offsets) - 1)
    if not tokens:
        return
    pairs = st.tuples(st.sampled_from(tokens), st.sampled_from(tokens), st.sampled_from("ab"))
    spans = data.draw(st.sets(pairs.map(lambda p: (*sorted((p[0], p[1] + 1)), p[2])), max_size=4))
    spans = {span for span in spans if span[0] < span[1]}
    in_text = labeling.character_spans(spans, offsets)
    assert labeling.token_spans(in_text, offsets) == spans


def test_spans_within_a_token_or_behind_the_cut_are_left_out(labeling):
    offsets = [(0, 0), (0, 1), (1, 5), (5, 6), (0, 0)]  # 在 2007 年, and no more
    spans = {(0, 1, "in"), (2, 3, "within"), (0, 8, "cut"), (6, 8, "cut")}
    assert labeling.token_spans(spans, offsets) == {(1, 2, "in")}


def test_triples_come_back(labeling, tokenizer):
    text = "《City》的作者是王芳，王芳还写了《河流》。"
    triples = {("City", "作者", "王芳"), ("河流", "作者", "王芳")}
    *_, offsets = tokenizer.encode(text, return_offsets=True)
    found = labeling.token_triples(text, triples | {("不在", "作者", "王芳")}, offsets)
    assert len(found) == 2 and {span for *_, span in found} == {min(s for *_, s in found)}
    assert labeling.text_triples(text, found, offsets) == triples


# --- the sample, and real data -------------------------------------------------------------------


def test_sample_is_what_its_script_writes():
    command = [sys.executable, SAMPLE / "make_labeling.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("directory", "read"),
    [("entities", "read_entities"), ("words", "read_words"), ("triples", "read_triples")],
)
def test_sample(labeling, tokenizer, directory, read):
    splits = labeling.read_splits(SAMPLE / directory, getattr(labeling, read))
    assert {name: len(rows) for name, rows in splits.items()} == {
        "train": 1000 if directory == "triples" else 500,
        "valid": 100,
        "test": 200,
    }
    texts = [text for rows in splits.values() for text, _ in rows]
    assert len(set(texts)) == len(texts)
    for text in texts:
        assert tokenizer.token_unk_id not in tokenizer.encode(text)[0], text
    kinds = {s: {label[-1 - (read == "read_triples")] for _, x in rows for label in x}
             for s, rows in splits.items()}  # fmt: skip
    assert kinds["train"] == kinds["valid"] == kinds["test"]


@pytest.mark.parametrize(
    ("directory", "read", "sizes", "labels"),
    [
        ("cluener", "read_entities", (10748, 1343), 10),
        ("weibo_ner", "read_entities", (1350, 270, 270), 8),
        ("cws_ud_chinese", "read_words", (3997, 500, 500), 1),
        ("duie_sample", "read_triples", (2601, 1000), 48),
    ],
)
def test_real_data(labeling, directory, read, sizes, labels):
    if not (REAL / directory).is_dir():
        pytest.skip("the data set is not here")
    splits = labeling.read_splits(REAL / directory, getattr(labeling, read))
    assert (len(splits["train"]), len(splits["valid"])) == sizes[:2]
    assert len(splits["test"]) == sizes[-1]
    place = 1 if read == "read_triples" else 2
    found = {label[place] for _, rows in splits["train"] for label in rows}
    assert len(found) == labels
    if place == 2:
        for text, spans in splits["train"]:
            assert all(text[start:end].strip() for start, end, _ in spans)


@pytest.mark.once
@pytest.mark.parametrize(
    ("reader", "line"),
    [
        *[("read_entities", line) for line in ('["label"]', '{"label": {}}', '{"label": [1]}')],
        ("read_entities", '{"text": "a", "label": {"x": {"y": [[1, 2, 3]]}}}'),
        ("read_triples", '{"text": "a", "spo_list": [{"a": 1}]}'),
    ],
)
def test_lines_of_another_form_are_named(tmp_path, monkeypatch, reader, line):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    (tmp_path / "train.json").write_text(line)
    with pytest.raises(SystemExit, match=r"train\.json, line 1: expected \{"):
        getattr(importlib.import_module("labeling"), reader)(tmp_path / "train.json")


@pytest.mark.once
@pytest.mark.parametrize(
    ("module", "reader", "name"),
    [
        ("labeling", "read_entities", "a.train"),
        ("labeling", "read_words", "a.train"),
        ("question_answers", "read_triples", "a.json"),
        ("titles", "read_titles", "a.tsv"),
    ],
)
def test_files_that_are_no_text_are_named(tmp_path, monkeypatch, module, reader, name):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    read, path = getattr(importlib.import_module(module), reader), tmp_path / name
    path.write_bytes(b"\xff")
    with pytest.raises(SystemExit, match="expected text in UTF-8"):
        read(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(SystemExit, match="expected a file"):
        read(path)


@pytest.mark.once
@pytest.mark.parametrize("context", [[1], None])
def test_passages_and_columns_of_another_form_are_named(tmp_path, monkeypatch, context):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    (tmp_path / "a.conllu").write_text("1\n2\n")
    with pytest.raises(SystemExit, match="expected words in the second column"):
        importlib.import_module("labeling").read_words(tmp_path / "a.conllu")
    question = {"question": "q", "id": "1", "answers": [{"text": "a", "answer_start": 0}]}
    passages = [{"context": context, "qas": [question]}]
    (tmp_path / "a.json").write_text(json.dumps({"data": [{"paragraphs": passages}]}))
    with pytest.raises(SystemExit, match="expected CMRC 2018's form"):
        importlib.import_module("reading").read_cmrc(tmp_path / "a.json")
