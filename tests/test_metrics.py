"""Spans and triples against counting by hand; BLEU and ROUGE of Chinese against plain Python."""

import math
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4keras_lite import metrics as M

KINDS = ["PER", "LOC", "ORG.NOM"]
SPANS = st.sets(st.tuples(st.integers(0, 6), st.integers(1, 7), st.sampled_from(KINDS)))


def test_spans_by_hand():
    true = [{(0, 2, "PER"), (0, 5, "ORG"), (3, 5, "LOC")}, set(), {(1, 2, "PER")}]
    found = [[(0, 2, "PER"), (0, 5, "ORG"), (0, 5, "ORG"), (3, 4, "LOC")], [(0, 1, "PER")], []]
    scores = M.span_scores(true, found)
    assert (scores.true, scores.predicted, scores.correct) == (4, 4, 2)
    assert scores.precision == scores.recall == scores.f1 == 0.5
    assert scores.by_type == {
        "LOC": M.Scores(1, 1, 0),
        "ORG": M.Scores(1, 1, 1),
        "PER": M.Scores(2, 2, 1),
    }
    assert scores.by_type["LOC"].f1 == 0 and scores.by_type["ORG"].f1 == 1


@given(st.lists(st.tuples(SPANS, SPANS), max_size=4))
def test_spans_add_up(pairs):
    true, found = [t for t, _ in pairs], [f for _, f in pairs]
    scores = M.span_scores(true, found)
    assert scores.correct == sum(len(t & f) for t, f in pairs)
    assert scores.true == sum(map(len, true)) and scores.predicted == sum(map(len, found))
    for count in ("true", "predicted", "correct"):
        assert getattr(scores, count) == sum(getattr(s, count) for s in scores.by_type.values())
    swapped = M.span_scores(found, true)
    assert (swapped.precision, swapped.recall) == (scores.recall, scores.precision)
    assert 0 <= scores.f1 <= 1 and (scores.f1 == 1) == (true == found)
    if scores.correct:
        assert scores.f1 == pytest.approx(2 / (1 / scores.precision + 1 / scores.recall))
    elif true != found:
        assert scores.f1 == 0


def test_nothing_there_and_nothing_found():
    assert M.span_scores([], []).f1 == M.span_scores([[]], [[]]).precision == 1
    only_found = M.span_scores([[]], [[(0, 1, "PER")]])
    assert (only_found.precision, only_found.recall, only_found.f1) == (0, 0, 0)


def test_triples_by_predicate():
    true = [[("鲁迅", "作者", "呐喊"), ("鲁迅", "出生地", "绍兴")]]
    found = [[("鲁迅", "作者", "呐喊"), ("绍兴", "出生地", "鲁迅")]]
    scores = M.triple_scores(true, found)
    assert (scores.precision, scores.recall) == (0.5, 0.5)
    assert scores.by_type["作者"].f1 == 1 and scores.by_type["出生地"].f1 == 0


def test_texts_must_pair_up():
    with pytest.raises(ValueError, match=r"2 texts in `true`, but 1 in `predicted`"):
        M.span_scores([set(), set()], [set()])


# ---------------------------------------------------------------- tags


@st.composite
def sentences(draw):
    """The length of a text, and spans that do not overlap."""
    spans, i = set(), 0
    for gap, width in draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), max_size=6)):
        spans.add((i + gap, i + gap + width, draw(st.sampled_from(KINDS))))
        i += gap + width
    return i + draw(st.integers(0, 2)), spans


def written(length, spans, scheme):
    """The tags of spans: `scheme` says how the first, inner, last and only token are marked."""
    tags = ["O"] * length
    first, inner, last, only = scheme
    for start, end, kind in spans:
        marks = [first, *[inner] * (end - start - 2), last] if end - start > 1 else [only]
        tags[start:end] = [f"{mark}-{kind}" for mark in marks]
    return tags


@pytest.mark.parametrize("scheme", ["BIIB", "BIES", "BMES"])
@given(sentences())
def test_tags_and_back(scheme, sentence):
    assert M.bio_spans(written(*sentence, scheme)) == sentence[1]


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("", set()),
        ("O O", set()),
        ("I-A I-A O", {(0, 2, "A")}),
        ("B-A I-B I-B", {(0, 1, "A"), (1, 3, "B")}),
        ("B-A B-A", {(0, 1, "A"), (1, 2, "A")}),
        ("B-A M-A S-A", {(0, 2, "A"), (2, 3, "A")}),
        ("E-A E-A", {(0, 1, "A"), (1, 2, "A")}),
        ("B-A E-A I-A", {(0, 2, "A"), (2, 3, "A")}),
        ("B_A I_A", {(0, 2, "A")}),
        ("B-A-B I-A-B", {(0, 2, "A-B")}),
        ("B E S B M E", {(0, 2, ""), (2, 3, ""), (3, 6, "")}),
    ],
)
def test_tags_in_disorder(tags, spans):
    """Where the CoNLL evaluation says a span begins and ends."""
    assert M.bio_spans(tags.split()) == spans


@pytest.mark.parametrize("tag", ["", "PER", "X-PER", "BPER"])
def test_what_is_no_tag(tag):
    with pytest.raises(ValueError, match=f"tag 1 is {tag!r}; expected B, I, M, E, S or O"):
        M.bio_spans(["O", tag])


# ---------------------------------------------------------------- texts


def test_segments():
    text = "他用iPhone 15拍了1,000.5张，don't。naïve Ünder𠀀！"
    assert M.characters(text) == [
        *("他", "用", "iPhone", "15", "拍", "了", "1,000.5", "张", "，", "don't", "。"),
        *("naïve", "Ünder", "𠀀", "！"),
    ]
    assert M.words("我爱自然 语言处理") == ["我", "爱", "自然", "语言", "处理"]


def grams(tokens, n):
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def plain_bleu(references, texts):
    """Papineni et al., with the orders that occur; a text's nearest reference gives its length."""
    logs, length, wanted = [], sum(map(len, texts)), 0
    for refs, text in zip(references, texts, strict=True):
        wanted += min((abs(len(r) - len(text)), len(r)) for r in refs)[1]
    for n in range(1, 5):
        total, right = 0, 0
        for refs, text in zip(references, texts, strict=True):
            found, most = grams(text, n), Counter()
            for reference in refs:
                most |= grams(reference, n)
            total, right = total + found.total(), right + (found & most).total()
        if total:
            logs.append(math.log(right / total))
    return 100 * min(1, math.exp(1 - wanted / length)) * math.exp(sum(logs) / len(logs))


def plain_rouge(reference, text, n):
    """F1 of shared n-grams, or (n = 0) of the longest common subsequence."""
    if n:
        shared = (grams(reference, n) & grams(text, n)).total()
        sizes = len(reference) - n + 1, len(text) - n + 1
    else:
        rows = [[0] * (len(text) + 1) for _ in range(len(reference) + 1)]
        for i, a in enumerate(reference):
            for j, b in enumerate(text):
                rows[i + 1][j + 1] = (
                    rows[i][j] + 1 if a == b else max(rows[i][j + 1], rows[i + 1][j])
                )
        shared, sizes = rows[-1][-1], (len(reference), len(text))
    return 2 * shared / sum(sizes) if shared else 0.0


TRUE = ["今天天气很好，适合出门散步。", "北京是中国的首都", "模型BERT有1.1亿个参数"]
FOUND = ["今天天气很好，我们出门散步", "中国的首都是北京", "BERT模型有1.1亿个参数"]
SEGMENTS = [M.characters, M.words]


@pytest.mark.parametrize("segment", SEGMENTS)
def test_identical_chinese_is_perfect(segment):
    pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    for texts in (TRUE, ["好", "你好"], TRUE[:1]):
        assert M.bleu(texts, texts, segment) == pytest.approx(100)
        scores = M.rouge(texts, texts, segment)
        assert scores["rouge1"] == scores["rougeL"] == 1
    assert M.rouge(TRUE, TRUE, segment)["rouge2"] == 1


@pytest.mark.parametrize("segment", SEGMENTS)
def test_bleu_is_bleu(segment):
    pytest.importorskip("sacrebleu")
    expected = plain_bleu([[segment(t)] for t in TRUE], [segment(t) for t in FOUND])
    assert 10 < expected < 90
    assert M.bleu(TRUE, FOUND, segment) == pytest.approx(expected)
    assert M.bleu(TRUE, ["猫", "狗", "鸟"], segment) == 0
    assert M.bleu(TRUE[:1], [""], segment) == M.bleu([], [], segment) == 0


def test_bleu_with_several_references():
    pytest.importorskip("sacrebleu")
    several = [[TRUE[0], "今天天气很好，我们去散步"], [TRUE[1]], [TRUE[2], FOUND[2], TRUE[1]]]
    expected = plain_bleu(
        [[M.characters(r) for r in refs] for refs in several], [M.characters(t) for t in FOUND]
    )
    assert M.bleu(several, FOUND) == pytest.approx(expected)


@pytest.mark.parametrize("segment", SEGMENTS)
def test_rouge_is_rouge(segment):
    pytest.importorskip("rouge_score")
    scores = M.rouge(TRUE, FOUND, segment)
    for name, n in (("rouge1", 1), ("rouge2", 2), ("rougeL", 0)):
        each = [plain_rouge(segment(t), segment(f), n) for t, f in zip(TRUE, FOUND, strict=True)]
        assert 0 < sum(each) / 3 < 1
        assert scores[name] == pytest.approx(sum(each) / 3)
    best = M.rouge([["猫", FOUND[0]]], FOUND[:1], segment)
    assert set(best.values()) == {1.0}
    assert set(M.rouge(["猫"], [""], segment).values()) == {0.0}


@pytest.mark.parametrize(
    ("metric", "library"), [("bleu", "sacrebleu"), ("rouge", "rouge_score.rouge_scorer")]
)
def test_a_missing_library_names_the_extra(metric, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=r"pip install bert4keras_lite\[metrics\]"):
        getattr(M, metric)(TRUE, FOUND)


def test_metrics_load_no_framework():
    code = "import sys, bert4keras_lite.metrics; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"keras", "tensorflow", "torch", "jax", "sacrebleu", "rouge_score"}


def test_spearman():
    assert M.spearman([1, 2, 3, 4], [10, 20, 30, 1000]) == pytest.approx(1)
    assert M.spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    # without equals: 1 - 6 sum(d^2) / (n (n^2 - 1)), here with d = 0 1 1 0 0
    assert M.spearman([1, 2, 3, 4, 5], [1, 3, 2, 4, 5]) == pytest.approx(1 - 6 * 2 / (5 * 24))
    for x, y in (([1], [1]), ([1, 2], [1])):
        with pytest.raises(ValueError, match="expected two or more samples each"):
            M.spearman(x, y)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=30).filter(lambda row: len({*row}) > 1))
def test_equal_values_share_the_mean_of_their_ranks(values):
    values = np.array(values)
    ranks = [(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values]
    order = np.arange(len(values))
    assert M.spearman(values, order) == pytest.approx(np.corrcoef(ranks, order)[0, 1])


def test_cmrc_scores():
    true = ["田心车站", "田心站"]
    for answer, f1, exact in (
        ("田心车站", 1, 1),
        ("“田心车站”。", 1, 1),  # marks do not count
        ("是田心车站", 8 / 9, 0),
        ("田心", 4 / 5, 0),  # against the nearer of the two
        ("田车站心", 4 / 8, 0),  # a run, not a subsequence
        ("", 0, 0),
    ):
        assert M.cmrc_scores([true], [answer]) == pytest.approx({"f1": f1, "exact_match": exact})
    true = ["1995年12月"]
    assert M.cmrc_scores([true], ["nexon开发，1995年"])["f1"] == pytest.approx(2 * 2 / (4 + 5))
    assert M.cmrc_scores(true * 2, ["1995年12月", "12"]) == {"f1": 0.7, "exact_match": 0.5}
    with pytest.raises(ValueError, match="expected one or more answers"):
        M.cmrc_scores([], [])
