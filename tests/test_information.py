"""Information extraction: the pointers' spans, and what a schema makes of them."""

import time

import keras
import numpy as np
import pytest
from goldens.recipes import FOLDER

from bert4keras_lite import build_transformer_model, extract_information, load_tokenizer
from bert4keras_lite.pipelines import InformationExtractor, UnsupportedTask
from bert4keras_lite.pipelines.information import pointer_spans, tree

TINY = FOLDER / "bert/hf_tiny_safetensors"
TEXTS = ["天地不是人", "人不是天地大小" * 2, "大", "天地人"]
# what each prompt is answered with
FACTS = {
    "人物": ["李白", "杜甫"],
    "李白的出生地": ["碎叶城"],
    "李白的号": [],
    "杜甫的出生地": ["巩县"],
    "情感倾向[正向,负向]": ["正向"],
    "时间": ["上午"],
}


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(TINY)


@pytest.fixture(scope="module")
def transformer():
    options = {"with_classifier": "spans", "new_classifier": True, "return_keras_model": False}
    built = build_transformer_model(TINY, **options)
    kernel = built.variables["spans_classifier/kernel"]
    kernel.assign(np.random.RandomState(0).standard_normal(kernel.shape))
    return built


class Answering(InformationExtractor):
    """Finds what `FACTS` says, in a prompt with options or in the text."""

    def answer(self, item, logits):
        logits = np.full(logits.shape, -9.0)
        segment = 0 if "[" in item.prompt else 1
        source = (item.prompt, item.text)[segment]
        for answer in FACTS.get(item.prompt, []):
            start = source.find(answer)
            for token, (first, last) in enumerate(item.offsets):
                if start >= 0 and first < last and item.segments[token] == segment:
                    logits[token, 0] = 5 if first == start else logits[token, 0]
                    logits[token, 1] = 5 if last == start + len(answer) else logits[token, 1]
        return super().answer(item, logits)


@pytest.fixture(scope="module")
def answering(transformer, tokenizer):
    return Answering(transformer, tokenizer)


@pytest.mark.once
@pytest.mark.parametrize(
    ("starts", "ends", "spans"),
    [
        ([1], [3], [(1, 3)]),
        ([1], [1], [(1, 1)]),
        ([3], [1], []),
        ([1, 2], [4], [(2, 4)]),  # the last start before an end
        ([1], [3, 4], [(1, 3)]),  # a start has one end
        ([1, 4], [2, 5], [(1, 2), (4, 5)]),
        ([2, 3], [2, 3], [(2, 2), (3, 3)]),
        ([], [1], []),
    ],
)
def test_pointers_are_paired(starts, ends, spans):
    start, end = np.full(6, 0.25), np.full(6, 0.25)
    start[starts], end[ends] = 0.75, 1.0
    assert pointer_spans(start, end, 0.5) == [(*span, 0.75) for span in spans]


@pytest.mark.parametrize("batch_size", [1, 32])
def test_spans_are_those_of_the_models_logits(transformer, tokenizer, batch_size):
    extractor = InformationExtractor(transformer, tokenizer, threshold=0.3)
    answers = extractor([(text, "地") for text in TEXTS], batch_size)
    count = 0
    for text, found in zip(TEXTS, answers, strict=True):
        inputs = [np.array([row]) for row in tokenizer.encode("地", text)]
        logits = keras.ops.convert_to_numpy(transformer.model.predict_on_batch(inputs))[0]
        start, end = (1 / (1 + np.exp(-logits[3:-1]))).T  # [CLS] prompt [SEP] text [SEP]
        inner = {s["start"]: s for s in found}
        for first, last, prob in pointer_spans(start, end, 0.3):
            if first in inner and inner[first]["end"] == last + 1:
                assert inner[first]["text"] == text[first : last + 1]
                assert abs(inner[first]["probability"] - prob) < 1e-5
                count += 1
        assert all(start[s["start"]] > 0.3 and end[s["end"] - 1] > 0.3 for s in found)
    assert count > 3


def test_a_schema_of_relations(answering):
    text = "李白生于碎叶城，杜甫生于巩县"
    (found,) = [answering.extract(text, {"人物": ["出生地", "号"]})]
    assert [person["text"] for person in found["人物"]] == ["李白", "杜甫"]
    (first, second), place = found["人物"], text.index("碎")
    (born,) = first["relations"]["出生地"]
    assert (born["text"], born["start"], born["end"]) == ("碎叶城", place, place + 3)
    assert abs(born["probability"] - (1 / (1 + np.exp(-5))) ** 2) < 1e-9
    assert second["relations"]["出生地"][0]["text"] == "巩县"
    assert "号" not in first["relations"]
    for none in ([], {}, None):
        (person, _) = answering.extract(text, {"人物": none})["人物"]
        assert "relations" not in person


def test_a_name_that_is_there_twice(answering):
    text = "李白生于碎叶城，号青莲"
    both = [{"人物": "出生地"}, "人物", {"人物": {"出生地": None, "号": None}}]
    (found,) = answering.extract(iter([text]), both)
    assert found == answering.extract(text, {"人物": ["出生地", "号"]})
    assert found["人物"][0]["relations"].keys() == {"出生地"}


@pytest.mark.once
@pytest.mark.parametrize("more", [[], ["名"]])
def test_lists_within_lists_take_the_time_of_one(more):
    """No level goes through the names of the levels within it."""
    schema = {f"名{i}": "" for i in range(20_000)}
    names = {**schema, "名": ""}.keys() if more else schema.keys()
    for _ in range(90):
        schema = [schema, *more]
    begin = time.process_time()
    assert tree(schema).keys() == names
    assert time.process_time() - begin < 2


def test_options_and_full_width_prompts(answering):
    first, second = answering.extract(["很好", "上午"], ["情感倾向［正向，负向］", "时间"])
    name = "情感倾向［正向，负向］"
    assert first[name][0].keys() == {"text", "probability"}
    assert (first[name][0]["text"], second["时间"][0]["text"]) == ("正向", "上午")
    assert "时间" not in first


def test_a_long_text_is_read_in_parts(answering):
    text = "今天上午" + "啊" * (answering.width + 8) + "上午"
    found = answering.extract(text, "时间")["时间"]
    assert [text[span["start"] : span["end"]] for span in found] == ["上午", "上午"]
    assert found[1]["end"] == len(text)


def test_errors(transformer, tokenizer):
    for schema in ([], {}, "", 3, [[]], {"": "号"}, {3: "号"}):
        with pytest.raises(TypeError, match="schema: expected a name, a list or a dict of names"):
            extract_information(transformer, "天", schema, tokenizer)
    for texts in (3, ["天", None]):
        with pytest.raises(TypeError, match="texts: expected"):
            extract_information(transformer, texts, "人", tokenizer)
    with pytest.raises(TypeError, match="tokenizer: expected a Tokenizer"):
        extract_information(transformer, "天", "人")
    with pytest.raises(ValueError, match="leaves no room for a text"):
        extract_information(transformer, "天", "人" * 600, tokenizer)
    with pytest.raises(UnsupportedTask, match="with_classifier=False; expected 'spans'"):
        extract_information(build_transformer_model(TINY), "天", "人", tokenizer)


def test_a_directory(transformer, tokenizer, tmp_path):
    transformer.save_checkpoint(tmp_path, "hf", vocab=tokenizer)
    expected = extract_information(transformer, TEXTS, ["地", "人"], tokenizer, threshold=0.3)
    assert extract_information(tmp_path, TEXTS, ["地", "人"], threshold=0.3) == expected
