"""The words are jieba's own, whatever the text."""

import jieba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretraining.segmentation import CUT, LONGEST, Segmenter

pytestmark = pytest.mark.once


@pytest.fixture(scope="module", params=[True, False], ids=["new words", "dictionary"])
def segmenter(request):
    segmenter = Segmenter(new_words=request.param)
    segmenter.new_words = request.param
    return segmenter


def starts_by_jieba(text, new_words, tokenizer=jieba.dt):
    starts, at = np.zeros(len(text), bool), 0
    for word in tokenizer.lcut(text, HMM=new_words):
        starts[at] = True
        at += len(word)
    assert at == len(text)
    return starts


def assert_same(segmenter, text):
    expected = starts_by_jieba(text, segmenter.new_words)
    np.testing.assert_array_equal(segmenter.word_starts(text), expected, err_msg=text)


def test_real_text(segmenter, documents):
    text = "\n".join(documents)[:60_000]
    assert_same(segmenter, text)
    assert 0.5 < segmenter.word_starts(text).mean() < 0.8


@pytest.mark.parametrize(
    "text",
    [
        "",
        "一",
        "𠀀𠀀北京한국 é\u0301Σς\U0001f600",
        "iPhone7和3.14%的C++以及50%...--a_b-c &#",
        "他来到了网易杭研大厦，乔布斯说：AT&T很贵。",
        "丨丶丿乚",
        "北京" * LONGEST + "，" + "a1" * LONGEST + "，我们在野生动物园玩",
    ],
)
def test_corners(segmenter, text):
    assert_same(segmenter, text)


CHARACTERS = st.text(
    st.one_of(
        st.characters(min_codepoint=0x4E00, max_codepoint=0x9FD5),
        st.sampled_from(
            "的一是了我不人在他有这个上们来到时大地为子中你说生国年着就那和要她出也得里后自以会"
        ),
        st.sampled_from("aZ09+#&._%- ，。\n龦鿿㐀𠀀é"),
    ),
    max_size=30,
)


@settings(max_examples=300)
@given(data=st.data())
def test_any_text(segmenter, data):
    frequent = ["北京", "大学", "中国人民", "研究生命", "T恤", "卡拉OK", "起源", "不好意思"]
    parts = data.draw(st.lists(st.one_of(CHARACTERS, st.sampled_from(frequent)), max_size=8))
    text = "".join(parts)
    assert_same(segmenter, text)


def test_words_of_the_dictionary(segmenter):
    words = sorted(jieba.dt.FREQ)[::211]
    text = "".join(words)
    for begin in range(0, len(text), CUT):  # longer stretches are cut
        assert_same(segmenter, text[begin : begin + CUT])
    assert_same(segmenter, "，".join(words))


@pytest.mark.parametrize("new_words", [True, False])
def test_another_dictionary(tmp_path, new_words):
    path = tmp_path / "words.txt"
    path.write_text("甲乙 3\n乙丙丁 50\n丁 2\n甲乙丙丁戊己庚 1\n", "utf-8")
    tokenizer = jieba.Tokenizer(str(path))
    tokenizer.tmp_dir = str(tmp_path)
    segmenter = Segmenter(new_words, tokenizer)
    for text in ("甲乙丙丁", "甲乙丙丁戊己庚甲", "戊丁丁甲乙", "甲乙丙丁戊己"):
        expected = starts_by_jieba(text, new_words, tokenizer)
        np.testing.assert_array_equal(segmenter.word_starts(text), expected, err_msg=text)


def test_stretches_without_end_are_cut(segmenter):
    """Rare characters, among which jieba would look for new words in quadratic time."""
    text = "龘龖" * CUT
    pieces = [text[i : i + CUT] for i in range(0, len(text), CUT)]
    expected = np.concatenate([starts_by_jieba(piece, segmenter.new_words) for piece in pieces])
    np.testing.assert_array_equal(segmenter.word_starts(f"{text}，北京")[: len(text)], expected)
