"""The texts of labelled data sets, whatever file they stand in."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretraining.texts import main, read_texts, write_texts

pytestmark = pytest.mark.once

LONG, OTHER = "今天天气很好我们去公园", "昨天下雨大家都在家里"
chinese = st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5), min_size=6)
others = st.characters(codec="utf-8", exclude_characters="\t\r\n")
mixed = st.tuples(chinese, st.text(others)).map("".join)


def test_columns(tmp_path):
    path = tmp_path / "train.tsv"
    path.write_text(f"label\ttext_a\r\n1\t{LONG}\r\n0\t太短\t{OTHER}，真的\r\n", "utf-8")
    assert read_texts(path) == [LONG, f"{OTHER}，真的"]
    assert read_texts(path, min_chinese=2) == [LONG, "太短", f"{OTHER}，真的"]


def test_json_of_any_depth(tmp_path):
    path = tmp_path / "train.json"
    value = {"data": [{"context": LONG, "qas": [{"question": OTHER, "id": 7, "no": None}]}]}
    path.write_text(json.dumps(value, indent=1), "utf-8")
    assert read_texts(path) == [LONG, OTHER]


def test_json_lines(tmp_path):
    path = tmp_path / "train.json"
    rows = [{"text": LONG, "label": {"name": {OTHER: [[0, 2]]}}}, [OTHER], 5]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    assert read_texts(path) == [LONG, OTHER]  # a key of an object is no text


def test_a_string_in_quotes_is_a_column(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text(f'"{LONG}"\t1\n', "utf-8")
    assert read_texts(path) == [f'"{LONG}"']


@given(st.lists(mixed, min_size=1, max_size=5))
def test_the_same_from_every_format(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("formats")
    (folder / "a.json").write_text(json.dumps([{"t": text} for text in texts]), "utf-8")
    lines = "\n".join(json.dumps({"t": text}, ensure_ascii=False) for text in texts)
    (folder / "b.jsonl").write_text(lines, "utf-8", newline="")
    columns = "".join(f"{text}\t1\n" for text in texts)
    (folder / "c.tsv").write_text(columns, "utf-8", newline="")
    for name in ("a.json", "b.jsonl", "c.tsv"):
        assert read_texts(folder / name) == texts


def test_documents_without_those_of_the_test(tmp_path, capsys):
    lines = [LONG, OTHER, LONG, f"{LONG}多", "第一行文字很长\\n\\n第二行"]
    (tmp_path / "train.txt").write_text("\n".join(lines[:4]), "utf-8")
    (tmp_path / "more.train.json").write_text(f'["{lines[4]}"]', "utf-8")
    (tmp_path / "test.txt").write_text(f"0\t{OTHER}\n", "utf-8")
    out = tmp_path / "out.txt"
    patterns = ["--input", str(tmp_path / "*train*"), "--without", str(tmp_path / "test*")]
    assert main([*patterns, "--output", str(out)]) == 0
    assert capsys.readouterr().out == f"3 texts of 2 files in {out}\n"
    assert out.read_text("utf-8") == f"第一行文字很长\n第二行\n\n{LONG}\n\n{LONG}多\n\n"


def test_a_text_of_many_lines_is_not_kept_as_a_list(tmp_path):
    ends = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
    text = "".join(f"中{end}" for end in ends) * 100_000
    (tmp_path / "a.txt").write_text(json.dumps([text]), "utf-8")
    tracemalloc.start()
    assert write_texts([tmp_path / "a.txt"], [], tmp_path / "out.txt") == 1
    assert tracemalloc.get_traced_memory()[1] < (64 << 20)
    tracemalloc.stop()
    assert (tmp_path / "out.txt").read_text("utf-8") == "中\n" * 1_000_000 + "\n"


def test_errors_name_the_file(tmp_path, capsys):
    (tmp_path / "train.txt").write_bytes(LONG.encode("gb18030"))
    with pytest.raises(ValueError, match=r"train\.txt: expected JSON or lines of text in UTF-8"):
        write_texts([tmp_path / "train.txt"], [], tmp_path / "out.txt")
    (tmp_path / "twice.json").write_text(f'["甲"]\n{{"a": "{LONG}", "a": "{OTHER}"}}', "utf-8")
    with pytest.raises(ValueError, match=r"twice\.json: the key 'a' is there twice"):
        write_texts([tmp_path / "twice.json"], [], tmp_path / "out.txt")
    assert main(["--input", str(tmp_path / "dev*"), "--output", str(tmp_path / "out.txt")]) == 1
    assert "no such file" in capsys.readouterr().err
    assert not (tmp_path / "out.txt").exists()
