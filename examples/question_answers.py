"""Reads (passage, answer, question) from the files of DuReader-QG, CMRC 2018 and WebQA."""

from pathlib import Path

from json_lines import parsed, read_lines, read_text, reason


def read_triples(path):
    """`(passage, answer, question)` of all that is answered in a file, or in a directory's files.

    Known are DuReader-QG (JSON lines), CMRC 2018 as it came out and in SQuAD's form, WebQA as it
    came out and as bert4keras reads it (with SogouQA). Which one it is, is seen by its keys.

    Raises:
        SystemExit: something is not as in any of them; file and line, or file and entry, are named.
    """
    path = Path(path)
    if path.is_dir():
        return [triple for file in sorted(path.glob("*.json")) for triple in read_triples(file)]
    text = read_text(path)
    first, _, rest = text.strip().partition("\n")
    if rest and is_json(first):
        triples = read_lines(path, dureader, '{"context": ..., "answer": ..., "question": ...}')
    else:
        triples = read_whole(path, text)
    for number, triple in enumerate(triples, 1):
        if not all(isinstance(part, str) for part in triple):
            raise SystemExit(
                f"{path}, question {number}: expected texts for passage, answer and question, found "
                f"{triple!s:.80}."
            )
    whole = [triple for triple in triples if all(map(str.strip, triple))]
    if len(whole) < len(triples):
        print(f"{path}: {len(triples) - len(whole)} of {len(triples)} left out: a part is empty")
    return whole


def is_json(text):
    try:
        return isinstance(parsed(text), dict)
    except ValueError:
        return False


def read_whole(path, text):
    """The triples of a file that is one JSON value."""
    try:
        data = parsed(text)
    except ValueError as error:
        raise SystemExit(
            f"{path}: expected JSON, or a JSON object a line; {reason(error)}."
        ) from None
    if isinstance(data, dict):
        data = data.get("data", [*data.values()])
    if not isinstance(data, list):
        raise SystemExit(f"{path}: expected a list of entries, found {data!s:.80}.")
    triples = []
    for number, item in enumerate(data, 1):
        try:
            triples += entry(item)
        except (LookupError, TypeError, AttributeError) as error:
            raise SystemExit(
                f"{path}, entry {number}: expected the form of DuReader-QG, CMRC 2018 or WebQA; "
                f"{reason(error)}: {item!s:.80}"
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
    if "context_text" in item:  # CMRC 2018 as it came out
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
    if "evidences" in item:  # WebQA as it came out
        return [
            (evidence["evidence"], evidence["answer"][0], item["question"])
            for evidence in item["evidences"].values()
            if evidence["answer"][0] != "no_answer"
        ]
    return dureader(item)
