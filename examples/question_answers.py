"""Reads (passage, answer, question) of DuReader-QG, CMRC 2018 and WebQA, and compares answers."""

from difflib import SequenceMatcher
from pathlib import Path

import numpy as np

from bert4keras_lite.data import read_json_lines
from bert4keras_lite.parsing import parse_json, read_json, size_of


def read_triples(path, maxlen=None):
    """`(passage, answer, question)` for each answer in a file, or in the files of a directory.

    Of a passage of more than `maxlen` characters only a part is read, with the answer in its
    middle, or nearer to an end of the passage.

    The forms, distinguished by their keys, are DuReader-QG (JSON lines), CMRC 2018 as published and
    as SQuAD, WebQA as published and as bert4keras reads it (with SogouQA).

    Raises:
        ValueError: the file has another form; the message names file and line, or file and entry.
    """
    path = Path(path)
    if path.is_dir():
        return [row for file in sorted(path.glob("*.json")) for row in read_triples(file, maxlen)]
    if has_json_lines(path):
        triples = read_json_lines(path, lambda row: dureader(row)[0])
    else:
        triples = read_whole(path)
    for number, triple in enumerate(triples, 1):
        if not all(isinstance(part, str) for part in triple):
            raise ValueError(
                f"{path}, question {number}: expected texts for passage, answer and question, got "
                f"{triple!s:.80}."
            )
    whole = [triple for triple in triples if all(map(str.strip, triple))]
    if len(whole) < len(triples):
        print(f"{path}: {len(triples) - len(whole)} of {len(triples)} left out: a part is empty")
    return [
        (around(passage, answer, maxlen), answer, question) for passage, answer, question in whole
    ]


def around(passage, answer, maxlen):
    """A part of the passage that fits, with the answer in its middle if it does not begin there."""
    if maxlen is None:
        return passage
    begin = passage.find(answer) + len(answer) // 2 - maxlen // 2
    return passage[max(0, min(begin, len(passage) - maxlen)) :][:maxlen]


def has_json_lines(path):
    """Whether the first line of several is a JSON object."""
    size_of(path)
    with open(path, "rb") as file:
        first, second = file.readline(), file.readline()
    try:
        return bool(second.strip()) and isinstance(parse_json(first, halves=True), dict)
    except ValueError:
        return False


def read_whole(path):
    """The triples of a file that is one JSON value."""
    data = read_json(path)
    if isinstance(data, dict):
        data = data.get("data", [*data.values()])
    if not isinstance(data, list):
        raise ValueError(f"{path}: expected a list of entries, got {data!s:.80}.")
    triples = []
    for number, item in enumerate(data, 1):
        try:
            triples += entry(item)
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path}, entry {number}: expected the form of DuReader-QG, CMRC 2018 or WebQA "
                f"({error!r:.80}), got {item!s:.80}."
            ) from None
    return triples


def dureader(row):
    return [(row["context"], row["answer"], row["question"])]


def entry(item):
    """The triples of one passage (CMRC 2018) or one question (WebQA)."""
    if "paragraphs" in item:  # CMRC 2018 in SQuAD's form
        return [
            (paragraph["context"], qa["answers"][0]["text"], qa["question"])
            for paragraph in item["paragraphs"]
            for qa in paragraph["qas"]
            if qa["answers"]
        ]
    if "context_text" in item:  # CMRC 2018 as published
        return [
            (item["context_text"], qa["answers"][0], qa["query_text"])
            for qa in item["qas"]
            if qa["answers"]
        ]
    if "passages" in item:  # WebQA and SogouQA for bert4keras; "" where a passage has no answer
        return [
            (passage["passage"], passage["answer"], item["question"])
            for passage in item["passages"]
            if passage["answer"]
        ]
    if "evidences" in item:  # WebQA as published
        return [
            (evidence["evidence"], evidence["answer"][0], item["question"])
            for evidence in item["evidences"].values()
            if evidence["answer"][0] != "no_answer"
        ]
    return dureader(item)


def same(text):
    """A text for comparisons: without spaces, in lower case."""
    return "".join(text.lower().split())


def agreement(true, predicted):
    """The fraction of equal answers, and the mean F1 of their longest common substrings."""
    exact, f1 = [], []
    for first, second in zip(map(same, true), map(same, predicted), strict=True):
        exact.append(first == second)
        run = SequenceMatcher(None, first, second, autojunk=False).find_longest_match().size
        f1.append(2 * run / max(1, len(first) + len(second)))
    return {"exact_match": np.mean(exact or 0.0), "f1": np.mean(f1 or 0.0)}
