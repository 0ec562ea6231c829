"""What `tiny-zh` is trained on: texts, vocabulary, corpora."""

import json
from collections import Counter

import pytest

from bert4keras_lite.tokenizers import load_tokenizer
from pretraining import tiny_zh
from pretraining.batches import read_manifest

pytestmark = pytest.mark.once


@pytest.fixture
def data(tmp_path):
    for name in ("lm_laws", "classical_modern", "poetry"):
        (tmp_path / "data" / name).mkdir(parents=True)
    documents = [f"第{i}条\n公民有第{i}项权利。" for i in range(300)]
    (tmp_path / "data/lm_laws/text.txt").write_text("\n\n".join(documents) + "\n")
    pairs = [f"论语\t学而时习之{i}\t学了又时常温习{i}\n" for i in range(250)]
    (tmp_path / "data/classical_modern/pairs.tsv").write_text("".join(pairs))
    poem = {"title": "静夜思", "paragraphs": ["床前明月光，", "疑是地上霜。"], "author": "李白"}
    (tmp_path / "data/poetry/song_ci.jsonl").write_text(json.dumps(poem) + "\n")
    return tmp_path / "data"


def documents_of(folder, part):
    texts = [(folder / f"{part}-{kind}.txt").read_text() for kind in tiny_zh.KINDS]
    return [document for text in texts for document in text.strip().split("\n\n") if document]


def test_texts_are_held_out_by_themselves(data, tmp_path):
    characters = tiny_zh.write_texts(data, tmp_path / "texts")
    train, held_out = (documents_of(tmp_path / "texts", part) for part in ("train", "heldout"))
    assert len(train) + len(held_out) == 300 + 2 * 3 + 1
    assert 0 < len(held_out) < 20 and not {*train} & {*held_out}
    assert characters == Counter("".join(train).replace("\n", ""))
    assert "静夜思\n床前明月光，\n疑是地上霜。" in train + held_out

    (data / "lm_laws/text.txt").open("a").write("\n新的一条\n")
    tiny_zh.write_texts(data, tmp_path / "more")
    assert {*held_out} <= {*documents_of(tmp_path / "more", "heldout")}


def test_vocabulary():
    tokens = tiny_zh.vocabulary(Counter({"龘": 9, "权": 5, "ｘ": 1, "\u3000": 99}), 4000)
    assert tokens[:5] == tiny_zh.SPECIAL
    assert len(tokens) == len({*tokens}) < 4000
    assert {"龘", "权", "一", "a", "##a", "7", "##7", "，", "。"} <= {*tokens}
    assert not {" ", "A", "\u3000"} & {*tokens}
    assert len(tiny_zh.vocabulary(Counter(map(chr, range(0x4E00, 0x9FA0))))) == 7000


@pytest.mark.long
def test_corpora(data, tmp_path):
    assert tiny_zh.main(["--data", str(data), "--output", str(tmp_path / "work")]) == 0
    tokenizer = load_tokenizer(tmp_path / "work")
    for name in ("mlm", "lm", "heldout-mlm", "heldout-lm"):
        manifest = read_manifest(str(tmp_path / "work" / name))
        assert manifest["mode"] in name and manifest["vocab_size"] == tokenizer.vocab_size


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("lm_laws/text.txt", b"\xff\xfe", "text.txt: expected text in UTF-8"),
        (
            "classical_modern/pairs.tsv",
            b"a\tb\tc\na\tb\n",
            "pairs.tsv, line 2: 2 columns; expected",
        ),
        (
            "poetry/song_ci.jsonl",
            b"{}\n",
            "song_ci.jsonl, line 1: expected a JSON object with title",
        ),
        ("poetry/song_ci.jsonl", b"[" * 5000, "song_ci.jsonl, line 1: expected a JSON object with"),
        (
            "poetry/song_ci.jsonl",
            b'{"title": "a", "paragraphs": "b"}',
            "song_ci.jsonl, line 1: expected a JSON object with title",
        ),
    ],
)
def test_texts_of_another_layout(data, tmp_path, capsys, name, content, told):
    (data / name).write_bytes(content)
    assert tiny_zh.main(["--data", str(data), "--output", str(tmp_path / "work")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and told in error and len(error) < 600


def test_no_texts(tmp_path, capsys):
    with pytest.raises(SystemExit):
        tiny_zh.main(["--data", str(tmp_path), "--output", str(tmp_path / "work")])
    assert "expected one of lm_modern_prose/text.txt" in capsys.readouterr().err
