"""Documents out of files and parts of files; cleaning; duplicates."""

import glob
import gzip
import html
import json
import os
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretraining import documents, duplicates, files
from pretraining.documents import (
    Format,
    Part,
    Selection,
    clean,
    divide,
    find_inputs,
    read_documents,
)
from pretraining.duplicates import (
    ORDERS,
    SHINGLE,
    digest,
    nearly_repeated,
    repeated,
    signature,
)

pytestmark = pytest.mark.once

# text of all that cleaning looks for
DIRTY = st.lists(
    st.sampled_from(
        [
            *[
                "<",
                ">",
                "</p>",
                "<!--",
                "--",
                "&",
                "&amp;",
                "amp;",
                "&#65",
                "&lt;b&gt;",
                "!",
                "!!!!!!!",
                "。",
                "a",
                "天地",
                "_",
                "1;",
                "𠀀",
            ],
            *("\n", "\r\n", " ", "\t", "\u3000", "\x7f", "\u200b", "\ud800"),
        ]
    ),
    max_size=40,
).map("".join)
LINE = st.text(st.sampled_from("天地人abc \t，𠀀\u2028"), max_size=12)


def read(path, unit="paragraphs", **options):
    return list(read_documents(Part(str(path)), Format(unit, **options)))


@settings(max_examples=60)
@given(
    contents=st.lists(st.lists(LINE, max_size=12), min_size=1, max_size=3),
    count=st.integers(1, 7),
    unit=st.sampled_from(["paragraphs", "line", "file"]),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_all_parts_together_give_each_document_once(
    tmp_path_factory, contents, count, unit, newline
):
    folder = tmp_path_factory.mktemp("texts")
    for number, lines in enumerate(contents):
        (folder / f"{number}.txt").write_bytes(newline.join(lines).encode())
    inputs = find_inputs([str(folder / "*.txt")])
    whole = [text for path, _ in inputs for text in read(path, unit)]
    groups = divide(inputs, count, unit)
    assert len(groups) == count
    told = []
    parts = [
        text
        for group in groups
        for part in group
        for text in read_documents(part, Format(unit), told.append)
    ]
    assert parts == whole
    expected = {
        "line": [line.strip() for lines in contents for line in lines],
        "file": ["\n".join(lines).strip() for lines in contents],
    }
    if unit != "paragraphs":
        assert whole == [text for text in expected[unit] if text]
    else:
        lines = [line.strip() for part in contents for line in part if line.strip()]
        assert [line for text in whole for line in text.split("\n")] == lines
    if unit != "file":
        assert sum(told) == sum(size for _, size in inputs)


def test_paragraphs(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n一\n二\n \n\t\n三\n\n\n", "utf-8")
    assert read(tmp_path / "a.txt") == ["一\n二", "三"]


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_text("天\n地", "utf-8-sig")
    assert read(tmp_path / "a.txt") == ["天\n地"]


def test_json_lines(tmp_path):
    texts = ["一行\n两行", "", "三"]
    lines = [json.dumps({"content": text, "id": 1}) for text in texts]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n\n")
    assert read(tmp_path / "a.jsonl", text_key="content") == ["一行\n两行", "三"]


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"other": ""}', '{"text": 3}'])
def test_bad_json_is_named(tmp_path, line):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "good"}\n' + line)
    with pytest.raises(ValueError, match=r"a\.jsonl, byte 17: .*'text'"):
        read(path)


def test_a_key_of_json_lines_that_is_there_twice(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1, "text": "good", "id": 1}\n{"text": "good", "text": "bad"}')
    with pytest.raises(ValueError, match=r"a\.jsonl, byte 35: .*the key 'text' is there twice"):
        read(path)


def packed(data, ending):
    if ending == ".gz":
        # two members, as when files were joined
        return gzip.compress(data[:50]) + gzip.compress(data[50:])
    zstandard = pytest.importorskip("zstandard")
    compress = zstandard.ZstdCompressor().compress
    return compress(data[:50]) + compress(data[50:])


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_compressed_files(tmp_path, ending):
    data = "\n\n".join(f"文{i}" * 99 for i in range(300)).encode()
    content = packed(data, ending)
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(content)
    assert "\n\n".join(read(path)).encode() == data
    # they can't be cut
    assert divide([(str(path), 100), ("b.txt", 100)], 2, "line") == [
        [Part(str(path))],
        [Part("b.txt", 0, 100)],
    ]
    for damaged in (content[:-3], content[:60], content[:30] + b"\xff" * 20 + content[50:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.txt.* is damaged or cut off"):
            read(path)


def test_a_line_of_any_length_of_a_plain_file(tmp_path):
    text = "天地" * 2_000_000  # 12 MB
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": text}, ensure_ascii=False), encoding="utf-8")
    assert read(path) == [text]
    parts = [Part(str(path), 0, 1000), Part(str(path), 1000)]
    assert [len(list(read_documents(part, Format()))) for part in parts] == [1, 0]


def test_what_grows_too_far_is_named(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"good\n\n" + b"a" * (9 << 20)))
    with pytest.raises(ValueError, match=r"a\.txt\.gz, byte 6: a line of .* bytes or more"):
        read(path)
    path.write_bytes(gzip.compress(b"good\n\n" + b"a\n" * 400_000 + b"\nb"))
    assert read(path) == ["good", "a\n" * 399_999 + "a", "b"]  # 0.8 MB in one document is nothing
    path.write_bytes(gzip.compress(b"a\n" * 2_000_000))
    with pytest.raises(ValueError, match=r"a\.txt\.gz, byte 0: a document .* give --document line"):
        read(path)
    path.write_bytes(gzip.compress(b"good\n\n" + b"a\n" * 800_000))
    for unit, at in (("paragraphs", 6), ("file", 0)):
        with pytest.raises(ValueError, match=rf"a\.txt\.gz, byte {at}: a document of more than"):
            read(path, unit)


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_compressed_files_unpack_to_what_texts_do(tmp_path, ending, monkeypatch):
    monkeypatch.setattr(documents, "UNPACKED_FREE", 1000)
    monkeypatch.setattr(documents, "UNPACKED_TIMES", 10)
    path = tmp_path / f"a.txt{ending}"
    line = b"a" * 19 + b"\n"
    path.write_bytes(packed(line * 55, ending))
    assert len(read(path, "line")) == 55
    path.write_bytes(packed(line * 500, ending))
    most = 1000 + 10 * path.stat().st_size
    with pytest.raises(
        ValueError, match=rf"a\.txt{ending}: holds more than {most} bytes, unpacked"
    ):
        read(path, "line")
    (tmp_path / "a.txt").write_bytes(line * 500)
    assert len(read(tmp_path / "a.txt", "line")) == 500


def test_encodings(tmp_path):
    (tmp_path / "a.txt").write_bytes("好\n天地".encode("gb18030"))
    assert read(tmp_path / "a.txt", "line", encoding="gb18030") == ["好", "天地"]
    with pytest.raises(ValueError, match=r"a\.txt is not utf-8 text.*byte 0.*--encoding"):
        read(tmp_path / "a.txt")


def test_no_input_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nothing\*'.*no such file"):
        find_inputs([str(tmp_path / "nothing*")])


def test_a_file_counts_once(tmp_path):
    (tmp_path / "a.txt").write_text("天")
    (tmp_path / "folder.txt").mkdir()
    patterns = [str(tmp_path / "*.txt"), str(tmp_path / "**" / "a.txt")]
    assert find_inputs(patterns) == [(str(tmp_path / "a.txt"), 3)]


def test_the_name_of_a_file_is_no_pattern(tmp_path):
    for name in ("a[1].txt", "a1.txt"):
        (tmp_path / name).write_text("天")
    assert files.find(str(tmp_path / "a[1].txt")) == [str(tmp_path / "a[1].txt")]


def test_any_number_of_directories(tmp_path, monkeypatch):
    for name in ("a.txt", "b/a.txt", "b/c/a.txt", "b/c/d.md", ".h/a.txt", "b[1]/a.txt", "b1/e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("天")
    monkeypatch.chdir(tmp_path)
    for above in ("", f"{tmp_path}/", "b[[]1]/", "b?*/", "none/"):
        for below in (
            "**/*.txt",
            "**",
            "**/b/**/a.txt",
            "*/**/*",
            "b/**",
            "**/c/../a.txt",
            "**.txt",
        ):
            paths = filter(os.path.isfile, glob.glob(above + below, recursive=True))
            assert files.find(above + below) == sorted({*paths}), above + below


def test_links_to_directories_above(tmp_path):
    deep = tmp_path.joinpath(*["d"] * 20)
    deep.mkdir(parents=True)
    for name in ("a", "b", "c"):
        (tmp_path / name).symlink_to(".")
        (deep / name).symlink_to(tmp_path)
    (deep / "text.txt").write_text("天")
    assert files.find(f"{tmp_path}/**/*.txt") == [str(deep / "text.txt")]


def test_files_behind_a_scheme(tmp_path):
    pytest.importorskip("tensorflow")
    text = "\n\n".join(f"第{i}篇\n内容" for i in range(2000))
    (tmp_path / "a.txt").write_text(text, "utf-8")
    inputs = find_inputs([f"file://{tmp_path}/*.txt"])
    groups = divide(inputs, 3, "paragraphs")
    assert [
        text for group in groups for part in group for text in read_documents(part, Format())
    ] == text.split("\n\n")


# Cleaning


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("<p class='a'>天&amp;地</p><br/>人", "天&地 人"),
        ("a < b，c > d", "a < b，c > d"),
        ("天\u200b地\ufeff\x00人\ue000", "天地人"),
        ("天 \u3000\t 地\r\n\n \n人  ", "天 地\n人"),
        ("好！！！！！！！！", "好！！！"),
        ("哈哈哈哈哈哈哈哈", "哈哈哈哈哈哈哈哈"),
        ("----------------", "---"),
        ("&#" + "1" * 5000 + "; &#65;&#0000000000000066;", "&#" + "1" * 5000 + "; AB"),
    ],
)
def test_cleaning(text, cleaned):
    assert clean(text) == cleaned
    assert clean(cleaned) == cleaned


def cleaned_at_once(text):
    """What `clean` promises, in patterns that take 80 bytes a character."""
    text = html.unescape(re.sub("&(?=#[0-9]{1000})", "&amp;", text))
    text = re.sub(r"<(?:/?[a-zA-Z][^<>]{0,200}|!--.{0,500}?--)>", " ", text)
    text = documents._INVISIBLE.sub("", text.replace("\r", "\n"))
    text = re.sub(r" ?\n[ \n]*", "\n", re.sub(r"[^\S\n]+", " ", text))
    return re.sub(r"([^\w\s])\1{5,}", r"\1\1\1", text).strip()


@settings(max_examples=300)
@given(text=DIRTY, piece=st.sampled_from([1, 2, 5, 1 << 16]))
def test_long_texts_are_cleaned_in_pieces(text, piece):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "PIECE", piece)
        assert clean(text) == cleaned_at_once(text)
        letters = "".join(text.split())
        assert documents.without_space(text) == letters
        assert documents.count_chinese(text) == letters.count("天") + letters.count("地")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a<!--" + "-" * 501 + "-->b", None),
        ("a<!--" + "x" * 500 + "-->b", "a b"),
        ("a<!--" + "x" * 501 + "-->b", None),
        ("a<!--<!--x-->b", "a b"),
        ("a<!--x\n-->b", "a<!--x\n-->b"),
        ("<!--" * 100_000 + "-->", None),
    ],
    ids=["hyphens", "500", "501", "nested", "two lines", "many"],
)
def test_comments(text, expected):
    """Of many that begin and do not end, all take linear time."""
    assert clean(text) == (cleaned_at_once(text) if expected is None else expected)


def test_selection():
    select = Selection(min_characters=3, min_chinese=0.5)
    assert select("天地人") == "天地人"
    assert select("天地") == select("abc天地") == ""
    assert select("ab 天地") == "ab 天地"
    assert Selection(cleaned=True)("<b>天</b>") == "天"


# Duplicates


def test_equal_documents():
    texts = ["天地人", "地", "天 地\n人", "人", "地"]
    found = repeated(np.array([digest(text) for text in texts]))
    assert found.tolist() == [False, False, True, False, True]


def shingles(text):
    return {text[i : i + SHINGLE] for i in range(len(text) - SHINGLE + 1)}


def test_signatures_estimate_what_is_common():
    rng = np.random.RandomState(0)
    base = "".join(map(chr, rng.randint(0x4E00, 0x9000, 1500)))
    for cut in (0, 100, 400, 750):
        other = base[cut:] + "".join(map(chr, rng.randint(0x4E00, 0x9000, cut)))
        a, b = shingles(base), shingles(other)
        estimate = (signature(base) == signature(other)).mean()
        # a standard deviation is at most 0.5 / 128 ** 0.5 = 0.044
        assert estimate == pytest.approx(len(a & b) / len(a | b), abs=0.13)
    assert len(signature("")) == len(signature("天")) == ORDERS


def test_near_duplicates(documents):
    texts = documents[:60]
    rng = np.random.RandomState(0)
    longest = sorted(texts, key=len)[-10:]
    changed = []
    for text in longest:
        at = rng.randint(len(text) - 20)
        changed.append(text[:at] + "改" + text[at + 1 :] + "完")
    signatures = np.array([signature(text) for text in texts + changed])
    found = nearly_repeated(signatures, 0.8)
    assert found[len(texts) :].all()
    for i in np.flatnonzero(found[: len(texts)]):
        common = [
            len(shingles(a) & shingles(b)) / max(len(shingles(a) | shingles(b)), 1)
            for a in map("".join, map(str.split, texts[:i]))
            for b in ["".join(texts[i].split())]
        ]
        assert max(common) > 0.6
    assert not nearly_repeated(signatures[: len(texts)], 1.01).any()


@pytest.mark.once
def test_signatures_of_long_texts(monkeypatch):
    """In parts they are the same, and take little memory."""
    text = "".join(map(chr, np.random.RandomState(0).randint(0x4E00, 0x4F00, 1_000_000)))
    tracemalloc.start()
    try:
        whole = signature(text)
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()
    monkeypatch.setattr(duplicates, "AT_ONCE", len(text))
    np.testing.assert_array_equal(signature(text), whole)
