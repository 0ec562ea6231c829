"""Question-answer generation, entity linking, Sohu matching; and the files that they read."""

import json
import re
import runpy
import subprocess
import sys
from functools import cache
from itertools import count, pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4keras_lite import generation
from bert4keras_lite.data import Batches

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
SAMPLE = EXAMPLES / "data"
REAL = ROOT.parent / "shared" / "data"
WIDER = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}


@pytest.fixture
def learn(run, checkpoint, tmp_path):
    """Runs an example until it has learned its sample; the weights of its best epoch are kept.

    The model is a RoFormer, whose relative positions are learned the soonest.
    """

    def learn(name, **options):
        usual = {"batch_size": 25, "learning_rate": 4e-3}
        model = checkpoint("roformer", with_lm="linear", **WIDER)
        example = run(name, checkpoint=model, **usual | options)
        assert list((tmp_path / "output").glob("*.weights.h5"))
        return example

    return learn


@pytest.fixture
def try_out(quick, checkpoint, tmp_path):
    """Runs an example for a few steps on one batch; the weights of its best epoch are kept."""

    def try_out(name, **options):
        usual = {"batch_size": 8, "learning_rate": 2e-3, "epochs": 4}
        model = checkpoint("roformer", with_lm="linear")
        example = quick(name, checkpoint=model, **usual | options)
        assert list((tmp_path / "output").glob("*.weights.h5"))
        return example

    return try_out


def predicting(function):
    """A model that predicts what `function` gives for its inputs."""
    return SimpleNamespace(predict_on_batch=function)


# --- Sohu ----------------------------------------------------------------------------------------

TASKS = ["short_short_A", "short_short_B"]


def short_pairs(kind, split):
    """Lines of the sample."""
    path = SAMPLE / f"sohu/短短匹配{kind}类/{split}.txt"
    return path.read_text(encoding="utf-8").splitlines(keepends=True)


@pytest.fixture
def short_data(tmp_path):
    """Writes the short pairs of the sample in the other form; all, or four of each label."""

    def short_data(most=None):
        data = tmp_path / "sohu"
        data.mkdir()
        for kind in "AB":
            for split in ("train", "valid"):
                lines = short_pairs(kind, split)
                if most:
                    groups = ([x for x in lines if f'"label{kind}": "{n}"' in x] for n in (1, 0))
                    lines = [line for group in groups for line in group[:most]]
                (data / f"{kind}_{split}.jsonl").write_text("".join(lines), encoding="utf-8")
        return data

    return short_data


def check_sohu(example, shown, least):
    assert [*example["samples"]] == TASKS
    for name in TASKS:
        assert re.search(rf"\n{name}: F1 [01]\.\d+, with all called matching 0\.\d+\n", shown)
    # the same pair is another question for another sub-task
    samples = dict.fromkeys(TASKS, example["samples"]["short_short_A"])
    (_, first), (_, second) = (
        example["predict"](example["model"], samples, name, "test") for name in TASKS
    )
    assert abs(first - second).max() > least


def test_sohu_matching_quickly(try_out, short_data, replace, capsys):
    example = try_out("task_sohu_matching", data=short_data(4), maxlen=32)
    shown = capsys.readouterr().out
    check_sohu(example, shown, least=0)
    assert shown.endswith(f"\ntest macro F1: {np.mean(example['scores']):.4f}\n")

    # of valid every second pair is for testing
    labels = [label for *_, label in example["samples"]["short_short_A"]["test"]]
    assert labels == [1, 1, 0, 0]
    for guesses, expected in (([1, 1, 0, 0], 1), ([1, 0, 0, 0], 2 / 3), ([1, 0, 1, 0], 0.5)):
        assert example["f1"](labels, guesses) == expected
    # on valid: both that match, and one more
    predict = lambda *_: (labels, np.array([3, -2, -1, -3]))  # noqa: E731
    choose_thresholds = replace(example["choose_thresholds"], predict=predict)
    assert choose_thresholds(None, example["samples"]) == [(-2, pytest.approx(0.8))] * 2


def test_sohu_matching_by_a_model_each(try_out, short_data, tmp_path):
    example = try_out("task_sohu_matching", data=short_data(4), maxlen=32, models="each")
    assert {file: [*group] for file, group in example["groups"].items()} == {
        f"sohu_{name}": [name] for name in TASKS
    }
    assert len(example["scores"]) == 2
    files = {path.name for path in (tmp_path / "output").glob("*.h5")}
    assert files == {f"sohu_{name}.weights.h5" for name in TASKS}


@pytest.mark.long
@pytest.mark.parametrize(("models", "least"), [("one", 0.62), ("each", 0.4)])
def test_sohu_matching(learn, short_data, capsys, models, least):
    options = {"data": short_data(), "epochs": 5, "batch_size": 10, "maxlen": 48}
    example = learn("task_sohu_matching", **options, models=models)
    # to call everything matching gives 0.57
    assert np.mean(example["scores"]) > least
    if models == "one":
        check_sohu(example, capsys.readouterr().out, least=0.1)


# --- questions and answers -----------------------------------------------------------------------


def few_questions(to, **sizes):
    """Copies the first questions of three kinds."""
    pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    to.mkdir()
    for split, size in sizes.items():
        lines = (SAMPLE / f"qa/{split}.json").read_text(encoding="utf-8").splitlines()
        lines = [line for line in lines if re.search("工作是什么|住在哪里|早上吃什么", line)]
        (to / f"{split}.json").write_text("\n".join(lines[:size]), encoding="utf-8")
    return to


def check_questions(example, shown):
    assert 0 <= example["results"]["answers drawn"]["in_the_passage"] <= 1
    assert "\nquestions to the true answers: " in shown
    assert f"\n{example['distinct'][0]}\n" in shown


def test_question_answer_generation_quickly(try_out, replace, tmp_path, capsys, monkeypatch):
    searched = generation.generate_all

    def generate(model, prompts, most, batch_size, do_sample=False, **options):
        """Draws known answers: the first two tokens of a passage, and its first token twice."""
        if not do_sample:
            return searched(model, prompts, most, batch_size, **options)
        assert (options["top_p"], options["num_return_sequences"]) == (0.9, 2)
        return [[SimpleNamespace(ids=ids) for ids in (row[1:3], row[1:2] * 2)] for row in prompts]

    monkeypatch.setattr(generation, "generate_all", generate)
    example = try_out(
        "task_question_answer_generation",
        data=few_questions(tmp_path / "qa", train=8, valid=2, test=2),
        learning_rate=1e-2,
        epochs=3,
        maxlen=16,
        max_answer=4,
        max_question=4,
        num_beams=1,
        answers=2,
    )
    check_questions(example, capsys.readouterr().out)
    assert example["results"]["answers drawn"] == {"in_the_passage": 0.5, "a_passage": 2}
    for passage, answer in example["pairs"]:
        assert answer == passage[0] + passage[(passage, answer) in example["made"]]

    # what is generated is what was trained: a source seen as a whole, then answer and question
    text, tokenizer, args = "志远是一名医生。", example["tokenizer"], example["args"]
    args.max_question = 16
    inputs, labels = example["writer_batches"]([(text, "医生", "志远做什么？")])[0]
    ids, segments = (x[0] for x in inputs)
    assert tokenizer.decode(ids[segments == 1]) == "医生志远做什么？"
    assert list(labels[0][labels[0] >= 0]) == list(ids[segments == 1])
    (row, segments), (first, last) = example["question_row"]("志远做什么？", text, "医生")
    assert tokenizer.decode(row[first : last + 1]) == "医生" and segments[first] == 1
    assert example["question_row"]("志远做什么？", text, "护士")[1] is None

    def pointing(batches, verbose):
        """Two logits for each token: the answer begins there, it ends there."""
        [((ids, _),)] = batches
        logits = np.zeros((len(ids), 2, ids.shape[1]))
        logits[:, 0, first] = logits[:, 1, last] = 1
        logits[1:, 0, last] = 9  # in all rows but the first, the answer is the last token alone
        return logits

    read = replace(example["read"], reader=SimpleNamespace(predict=pointing))
    assert read([text] * 2, ["志远做什么？"] * 2) == ["医生", "生"]
    agreement = example["agreement"](["医 生", "北京市"], ["医生", "北京"])
    assert agreement["exact_match"] == 0.5 and agreement["f1"] == pytest.approx(0.9)


@pytest.mark.long
def test_question_answer_generation(learn, tmp_path, capsys):
    data = few_questions(tmp_path / "qa", train=400, valid=20, test=25)
    example = learn("task_question_answer_generation", data=data, epochs=12, num_beams=2, answers=2)
    results = example["results"]
    # a question of another kind shares nothing but its mark
    assert results["questions to the true answers"]["rougeL"] > 0.4
    assert results["reader, true questions"]["exact_match"] > 0.4
    check_questions(example, capsys.readouterr().out)


# --- entity linking ------------------------------------------------------------------------------


@pytest.fixture
def linking(tmp_path):
    """Gives a directory with the sample, cut to its first texts."""

    def linking(**sizes):
        import prepare_entity_linking as prepare

        entries, samples = prepare.load(SAMPLE / "linking")
        samples = {split: rows[: sizes[split]] for split, rows in samples.items()}
        prepare.save(tmp_path / "linking", entries, samples)
        return tmp_path / "linking"

    return linking


def test_entity_linking_quickly(try_out, linking, replace, capsys, monkeypatch):
    monkeypatch.setattr(Batches, "__getitem__", cache(Batches.__getitem__))  # candidates drawn once
    options = {"data": linking(train=7, valid=2, test=4), "maxlen": 24, "maxpair": 48}
    example = try_out("task_entity_linking", candidates=2, **options)
    assert len(example["train"]) == 1
    assert "\nF1 of both " in capsys.readouterr().out

    text, mentions = example["samples"]["train"][0]
    assert mentions == [(11, 16, "10103")] and len(text) == 18
    inputs, targets, weights = example["training_row"](text, mentions, mentions[0])
    assert inputs["positions"].tolist() == [12, 16]
    assert np.argwhere(targets["ends"] == 1).tolist() == [[12, 0], [16, 1]]
    assert weights["ends"].tolist() == [1] * 20 + [0] * 4

    # begins at tokens 1 and 4, ends at 2 and 3: each begin has the nearest end from there on
    marks = np.zeros((24, 2), bool)
    marks[[1, 4, 6], 0] = marks[[2, 3, 7], 1] = True  # 6 and 7: after the text
    assert example["encode"].mentions("去长城吧", marks) == {(0, 2)}

    # of the candidates the one with the highest logit
    text, row = example["samples"]["test"][0]
    (start, end, _), *_ = row
    candidates = example["known"].candidates(text[start:end])
    assert len(candidates) == 2
    for step, best in ((1, candidates[-1]), (-1, candidates[0])):
        steps = count(0, step)
        logits = predicting(
            lambda batch, steps=steps: np.array([[next(steps)] for _ in batch["positions"]])
        )
        link = replace(example["link"], linker=logits)
        assert link([text], [{(start, end)}]) == [{(start, end, best)}]

    rows = [("长城很长", [(0, 2, "a")]), ("去长城", [(1, 3, "b")])]
    for spans, names, expected in (
        ([{(0, 2)}, {(1, 3)}], "ab", {"both": 1, "mentions": 1, "linking": 1}),
        ([{(0, 2)}, {(0, 1)}], "ab", {"both": 0.5, "mentions": 0.5, "linking": 1}),
        ([{(0, 2)}, {(1, 3)}], "aa", {"both": 0.5, "mentions": 1, "linking": 0.5}),
    ):
        score = replace(
            example["score"],
            find_mentions=lambda _, spans=spans: spans,
            link=lambda _, mentions, names=names: [
                {(*span, name) for span in row} for row, name in zip(mentions, names, strict=True)
            ],
        )
        assert score(rows) == expected


@pytest.mark.long
def test_entity_linking(learn, linking, capsys):
    data = linking(train=400, valid=20, test=60)
    example = learn("task_entity_linking", data=data, epochs=7, maxlen=40, maxpair=80)
    results = example["results"]
    assert results["mentions"] > 0.6
    assert results["linking"] > results["linking, to what a name meant most"]
    assert results["both"] > 0.5
    assert "\nF1 of both " in capsys.readouterr().out

    # which candidate it is, hangs on the text around the name
    texts = [text for text, _ in example["samples"]["test"]]
    linked = example["link"](texts, example["find_mentions"](texts))
    meant = {}
    for text, row in zip(texts, linked, strict=True):
        for start, end, number in row:
            meant.setdefault(text[start:end], set()).add(number)
    assert any(len(numbers) > 1 for numbers in meant.values())


# --- files: questions ----------------------------------------------------------------------------

QA = {
    "dureader": [{"context": "长江很长。", "answer": "长江", "question": "什么很长？", "id": 0}],
    "squad": {
        "version": "v1.0",
        "data": [
            {
                "paragraphs": [
                    {
                        "context": "长江很长。",
                        "qas": [
                            {"question": "什么很长？", "answers": [{"text": "长江"}], "id": "1"},
                            {"question": "谁？", "answers": [], "id": "2"},
                        ],
                    }
                ]
            }
        ],
    },
    "cmrc2018": [
        {
            "context_id": "1",
            "context_text": "长江很长。",
            "qas": [{"query_text": "什么很长？", "query_id": "1", "answers": ["长江", "江"]}],
        }
    ],
    "bert4keras": [
        {
            "question": "什么很长？",
            "passages": [
                {"passage": "长江很长。", "answer": "长江"},
                {"passage": "无", "answer": ""},
            ],
        }
    ],
    "webqa": {
        "Q_1": {
            "question": "什么很长？",
            "evidences": {
                "E_1": {"answer": ["长江"], "evidence": "长江很长。"},
                "E_2": {"answer": ["no_answer"], "evidence": "无"},
            },
        }
    },
}


@pytest.mark.parametrize("form", QA)
def test_questions_are_read(form, tmp_path, capsys):
    from question_answers import read_triples

    path = tmp_path / "train.json"
    path.write_text(json.dumps(QA[form], ensure_ascii=False, indent=1), encoding="utf-8")
    assert read_triples(path) == [("长江很长。", "长江", "什么很长？")]
    if form == "dureader":  # a line each, as it is published
        lines = (json.dumps(row) + "\n" for row in QA[form] * 3)
        path.write_text("\ufeff" + "".join(lines), encoding="utf-8")
        assert read_triples(path) == [("长江很长。", "长江", "什么很长？")] * 3
        assert read_triples(tmp_path) == read_triples(path)
        with path.open(
            "a", encoding="utf-8"
        ) as file:  # one without a question, as in the real file
            file.write(json.dumps(QA[form][0] | {"question": " "}))
        assert len(read_triples(path)) == 3
        assert "1 of 4 left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"context": "a", "answer": "b", "question": "c"}\n{"context": "a"}', "line 2: .*answer"),
        (
            '{"context": "a", "answer": "b", "question": "c"}\n{"context": "a",',
            "line 2: .*Expecting",
        ),
        ('{"context": "a", "answer": "b", "question": "c"}\n[1]', "line 2: expected"),
        ('[{"question": "a", "passages": [{"passage": "b"}]}]', "entry 1: .*answer"),
        ('[\n{"question": "a"}]', "entry 1: .*context"),
        ('[\n{"context": "a", "answer": 3, "question": "c"}]', "question 1: .*expected texts"),
        ("[\nno", "expected JSON"),
    ],
)
def test_malformed_questions(text, said, tmp_path):
    from question_answers import read_triples

    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"a.json.*{said}"):
        read_triples(path)


# --- files: a knowledge base and its texts -------------------------------------------------------

ENTRY = {
    "alias": ["江城"],
    "subject_id": "7",
    "subject": "武汉",
    "type": ["Place"],
    "data": [{"predicate": "简称", "object": "汉市"}, {"predicate": "摘要", "object": "在长江边"}],
}
TEXT = {"text_id": "1", "text": "我在武汉。", "mention_data": []}
MENTION = {"kb_id": "7", "mention": "武汉", "offset": "2"}


def write_ccks(directory, entries, texts):
    for name, rows in (("kb_data", entries), ("train.json", texts)):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (directory / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_ccks_is_read_and_written(tmp_path):
    from prepare_entity_linking import load, save

    text = TEXT | {"mention_data": [MENTION, {"kb_id": "NIL", "mention": "我", "offset": "0"}]}
    write_ccks(tmp_path, [ENTRY], [text] * 20)
    entries, samples = load(tmp_path)
    known = {"names": ["武汉", "江城"], "text": "简称：汉市；摘要：在长江边"}
    assert entries == [{"id": "7", **known, "values": ["在长江边", "汉市"]}]
    assert {split: len(rows) for split, rows in samples.items()} == {
        "train": 16,
        "valid": 2,
        "test": 2,
    }
    assert samples["test"] == [("我在武汉。", [(2, 4, "7")])] * 2
    save(tmp_path / "out", entries, samples)
    assert load(tmp_path / "out") == (entries, samples)


@pytest.mark.parametrize(
    ("entries", "texts", "said"),
    [
        ([ENTRY, "{"], [], "kb_data, line 2: .*Expecting"),
        ([ENTRY, ENTRY], [], "kb_data, line 2: .*subject_id 7 is there a second time"),
        ([{"subject_id": "7"}], [], "kb_data, line 1: .*no key 'data'"),
        ([ENTRY], [TEXT, {"text": "a"}], "train.json, line 2: .*no key 'mention_data'"),
        (
            [ENTRY],
            [TEXT, TEXT | {"mention_data": [MENTION | {"offset": "1"}]}],
            "train.json, line 2: .*at offset 1 is not '武汉' but '在武'",
        ),
        (
            [ENTRY],
            [TEXT | {"mention_data": [MENTION | {"kb_id": "8"}]}],
            "train.json, line 1: .*kb_id 8 is not in kb_data",
        ),
        ([ENTRY], [TEXT | {"mention_data": [MENTION | {"offset": "x"}]}], "line 1: .*'x'"),
        ([ENTRY], ["", "[]"], "train.json, line 2"),
    ],
)
def test_malformed_lines_are_named(entries, texts, said, tmp_path):
    from prepare_entity_linking import load

    write_ccks(tmp_path, entries, texts)
    with pytest.raises(ValueError, match=said):
        load(tmp_path)


def test_questions_with_triples_are_read(tmp_path, capsys):
    from prepare_entity_linking import load

    rows = [
        {"id": 0, "question": "RIO是谁代言的？", "answer": "rio（一种酒） ||| 代言人 ||| 周迅"},
        {"id": 1, "question": "网易的代码是什么？", "answer": "网易公司 ||| 代码 ||| NTES"},
        {"id": 2, "question": "这是哪里？", "answer": "长城 ||| 地点 ||| 北京"},
    ]
    for name in ("train", "dev", "test_public"):
        (tmp_path / f"{name}.json").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    entries, samples = load(tmp_path)
    assert "3 of 9 questions left out" in capsys.readouterr().out
    assert entries[0]["names"] == ["rio", "rio（一种酒）"]
    assert entries[0]["text"] == "名称：rio（一种酒）；代言人：周迅；代言人：周迅；代言人：周迅"
    assert samples["valid"] == [
        ("RIO是谁代言的？", [(0, 3, "rio（一种酒）")]),
        ("网易的代码是什么？", [(0, 2, "网易公司")]),
    ]


def test_tagged_questions(tmp_path):
    from prepare_entity_linking import read_tagged

    good = (
        "<question id=1>\t长城在哪里？\n<triple id=1>\t长城 ||| 地点 ||| 北京\n"
        "<answer id=1>\t北京\n==="
    )
    path = tmp_path / "training-data"
    path.write_text(good, encoding="utf-8")
    assert read_tagged(path) == [("长城在哪里？", ("长城", "地点", "北京"))]
    for bad, line in ((good + "\n<triple id=2>\ta ||| b ||| c", 5), (f"x\n{good}", 1)):
        path.write_text(bad, encoding="utf-8")
        with pytest.raises(SystemExit, match=f"training-data, line {line}: "):
            read_tagged(path)
    path.write_text(good.replace(" ||| 北京", ""), encoding="utf-8")
    with pytest.raises(SystemExit, match="line 2: expected"):
        read_tagged(path)


def test_what_no_data_set_looks_like(tmp_path):
    from prepare_entity_linking import load

    with pytest.raises(SystemExit, match=r"expected kb\.json"):
        load(tmp_path)


names = st.lists(st.text(st.sampled_from("长城江水aB"), min_size=2, max_size=4), min_size=1)


@given(names=names, text=st.text(st.sampled_from("长城江水aBb，"), max_size=20))
def test_index(names, text):
    from entity_index import Index

    index = Index([{"id": i, "names": [name]} for i, name in enumerate(names)])
    found = index.matches(text)
    known = {name.lower() for name in names}
    assert all(text[start:end].lower() in known for start, end in found)
    assert all(end <= start for (_, end), (start, _) in pairwise(found))
    for i in range(len(text)):  # no name is passed over but for one that began before it
        if not any(start <= i < end for start, end in found):
            assert not any(text[i:].lower().startswith(name) for name in known)
    for name in names:
        candidates = index.candidates(name, 5)
        same = [i for i, other in enumerate(names) if other.lower() == name.lower()]
        assert candidates[: len(same)] == same[:5] and len(candidates) == len({*candidates}) <= 5
        alike = {*pairwise(name.lower())}
        assert all(alike & {*pairwise(names[i].lower())} for i in candidates)


def test_knowledge_leaves_out_the_mention_itself():
    from entity_index import Knowledge

    entries = [
        {"id": "a", "names": ["长城"], "text": "在北京", "values": ["北京"]},
        {"id": "b", "names": ["长城汽车", "长城"], "text": "汽车公司", "values": []},
    ]
    samples = [("长城很长", [(0, 2, "a")]), ("长城的车", [(0, 2, "b")]), ("去长城", [])]
    known = Knowledge(entries, samples, 8)
    assert list(known.names("去长城")) == [(1, 3, 2.5 / 4)]
    assert list(known.names("去长城", true=[])) == [(1, 3, 2.5 / 3)]
    assert list(known.names("长城很长", true=[(0, 2, "a")])) == [(0, 2, 1.5 / 3)]
    assert known.candidates("长城") == ["a", "b"] and known.most_met("长城") == "a"
    assert known.most_met("没有") == ""
    share, before, first, named, value, _ = known.features("长城在北京", 0, 2, "a")
    assert (share, before, first, named, value) == (0.5, 1, 1, 1, 1)
    share, before, first, *_ = known.features("长城很长", 0, 2, "a", true="a")
    assert (share, before, first) == (0, 0, 1)  # else the answer would be told
    assert known.features("长城很长", 0, 2, "b", true="a")[:3] == [1, 1, 0]


# --- files: Sohu ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sohu():
    return runpy.run_path(str(EXAMPLES / "task_sohu_matching.py"))


def pair_line(kind="A", **values):
    return json.dumps({"source": "天气很好", "target": "下雨了", f"label{kind}": "1"} | values)


def test_sohu_folders_are_read(sohu, tmp_path):
    for name in ("train", "valid", "test_with_id"):
        path = tmp_path / "短长匹配B类" / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        line = pair_line("B") if name != "test_with_id" else '{"source": "", "id": "1"}'
        path.write_text(line + "\n\n", encoding="utf-8")
    more = tmp_path / "round2" / "短长匹配B类.txt"
    more.parent.mkdir()
    more.write_text(pair_line("B", labelB="0") + "\n", encoding="utf-8")
    (tmp_path / "README.txt").touch()
    row = ("天气很好", "下雨了")
    assert sohu["read"](tmp_path) == {
        "short_long_B": {"train": [(*row, 0), (*row, 1)], "valid": [(*row, 1)]}
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (pair_line(labelA="2"), "the label is '2', not 0 or 1"),
        (pair_line(target=""), "an empty text"),
        (pair_line("B"), "no key 'labelA'"),
        ("{", "Expecting"),
        ("3", "expected"),
    ],
)
def test_malformed_pairs(sohu, line, said, tmp_path):
    path = tmp_path / "A_train.jsonl"
    path.write_text(f"{pair_line()}\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"A_train.jsonl, line 2: .*{said}"):
        sohu["read"](tmp_path)


def test_sohu_needs_both_splits(sohu, tmp_path):
    with pytest.raises(SystemExit, match="there is none"):
        sohu["read"](tmp_path)
    (tmp_path / "B_train.jsonl").write_text(pair_line("B"), encoding="utf-8")
    with pytest.raises(SystemExit, match="short_short_B"):
        sohu["read"](tmp_path)


signs = st.text(st.sampled_from("天气好雨了。！\n"), max_size=60)


@given(text=signs, other=signs, room=st.integers(1, 60))
def test_shortened_texts(sohu, text, other, room):
    short = sohu["shorten"](text, other, room)
    assert len(short) <= room
    if len(text) <= room:
        assert short == text
    rest = iter(text)  # in their order
    assert all(sign in rest for sign in short)


def test_shortening_keeps_what_the_other_text_is_about(sohu):
    text = "本报记者报道。今天很热，人很多。足球队昨天夺冠。大家都很高兴。"
    assert sohu["shorten"](text, "足球队夺冠了", 20) == "本报记者报道。足球队昨天夺冠。"


def test_f1_of_matching(sohu):
    assert sohu["f1"]([1, 1, 0, 0], [1, 0, 1, 0]) == 0.5
    assert sohu["f1"]([0, 0], [0, 0]) == 0


def test_threshold_of_matching(sohu):
    scores = np.array([-3.0, -2.0, -1.0, -4.0, -1.5])
    threshold, f1 = sohu["best_threshold"]([0, 1, 1, 0, 0], scores)
    assert (threshold, f1) == (-2, pytest.approx(0.8))  # 0.67 from -1 on


# --- the samples, and real data ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["qa", "linking", "sohu"])
def test_sample_is_what_its_script_writes(name):
    command = [sys.executable, SAMPLE / f"make_{name}.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_samples_are_known_to_the_vocabulary():
    signs = {*(SAMPLE / "vocab.txt").read_text(encoding="utf-8").split("\n")}
    for path in (path for name in ("qa", "linking", "sohu") for path in (SAMPLE / name).rglob("*")):
        if path.is_file():
            unknown = {*path.read_text(encoding="utf-8").lower()} - signs - {" ", "\n"}
            assert not unknown, path


def test_samples_do_not_repeat_what_is_tested(sohu):
    from prepare_entity_linking import load
    from question_answers import read_triples

    _, linking = load(SAMPLE / "linking")
    qa = {split: read_triples(SAMPLE / f"qa/{split}.json") for split in ("train", "test")}
    for samples in (linking, qa, *sohu["read"](SAMPLE / "sohu").values()):
        train, test = ({str(row) for row in samples[split]} for split in ("train", "test"))
        assert not train & test


@pytest.mark.parametrize(
    ("path", "size"),
    [  # of 984, 3219 and 1002: some have an empty question
        ("dureader_qg_dev/dev.json", 983),
        ("cmrc2018/cmrc2018_dev.json", 3219),
        ("cmrc2018/cmrc2018_trial.json", 1000),
    ],
)
def test_real_questions(path, size):
    from question_answers import read_triples

    if not (REAL / path).is_file():
        pytest.skip("the data set is not here")
    assert len(read_triples(REAL / path)) == size


@pytest.mark.parametrize(
    ("directory", "sizes", "entries"),
    [("kgclue", (17997, 2000, 2000), 21977), ("nlpcc2016_kbqa", (13128, 1459, 9834), 18745)],
)
def test_real_knowledge_bases(directory, sizes, entries):
    from entity_index import Knowledge
    from prepare_entity_linking import load

    if not (REAL / directory).is_dir():
        pytest.skip("the data set is not here")
    base, samples = load(REAL / directory)
    assert tuple(len(samples[split]) for split in ("train", "valid", "test")) == sizes
    assert len(base) == entries
    known = Knowledge(base, samples["train"], 8)
    rows = samples["test"][:300]
    there = [row[0][2] in known.candidates(text[row[0][0] : row[0][1]]) for text, row in rows]
    assert sum(there) > 0.98 * len(rows)


def test_real_pairs(sohu):
    if not (REAL / "sohu2021_ss").is_dir():
        pytest.skip("the data set is not here")
    samples = sohu["read"](REAL / "sohu2021_ss")
    sizes = {task: [len(rows) for rows in splits.values()] for task, splits in samples.items()}
    assert sizes == {"short_short_A": [9867, 1645], "short_short_B": [9858, 1643]}
