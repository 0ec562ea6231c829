"""What the examples of reading comprehension share: CMRC 2018, windows of passages, its scores.

A file is a JSON object as SQuAD has it: `data`, a list whose items have `paragraphs`, of which each
has `context` and `qas`: `question`, `id`, and `answers` of `text` and `answer_start`.
"""

import re
from dataclasses import dataclass

import numpy as np
from json_lines import reason
from seq2seq import BUCKETS, show

from bert4keras_lite.data import Batches, pad_samples
from bert4keras_lite.parsing import read_json

# --- the files -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """A question about a passage, and its answers: texts, the first of which is at `start`."""

    passage: str
    text: str
    answers: tuple
    start: int


def read_cmrc(path):
    """The questions of a file.

    Raises:
        SystemExit: it is no JSON, or something is missing; tells what and where.
    """
    try:
        data = read_json(path)
    except ValueError as error:
        raise SystemExit(f"{error} As in CMRC 2018, expected one JSON object.") from None
    questions, place = [], "data"
    try:
        for i, article in enumerate(data["data"]):
            for j, paragraph in enumerate(article["paragraphs"]):
                place = f"data[{i}].paragraphs[{j}]"
                for k, row in enumerate(paragraph["qas"]):
                    place = f"data[{i}].paragraphs[{j}].qas[{k}]"
                    questions.append(_question(paragraph["context"], row))
    except (AttributeError, LookupError, TypeError) as error:
        raise SystemExit(f"{path}, {place}: expected CMRC 2018's form; {reason(error)}.") from None
    return questions


def _question(passage, row):
    answers = tuple(answer["text"] for answer in row["answers"])
    start = row["answers"][0]["answer_start"]
    if not passage.startswith(answers[0], start):  # some starts are off by a few characters
        start = min(
            (found.start() for found in re.finditer(re.escape(answers[0]), passage)),
            key=lambda found: abs(found - start),
            default=-1,
        )
    return Question(passage, row["question"], answers, start)


# --- windows ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Window:
    """A part of a passage that fits into a row with its question.

    Attributes:
        number: of the question.
        question: token ids, with start and end tokens.
        passage: token ids.
        offsets: where each token of the passage stands in it, `(start, end)` in characters.
        answer: `(start, end)` in tokens of this window, or None where it is not in it.
    """

    number: int
    question: list
    passage: list
    offsets: list
    answer: tuple | None


def windows(questions, tokenizer, args, room=0):
    """The windows of all questions; two that follow each other overlap by half.

    Args:
        args: `maxlen` of a row and `maxquestion` of its question, in tokens.
        room: how many tokens a row needs beside question and passage.
    """
    found, known = [], {}
    for number, question in enumerate(questions):
        if question.passage not in known:
            ids, _, offsets = tokenizer.encode(question.passage, return_offsets=True)
            known = {question.passage: (ids[1:-1], offsets[1:-1])}  # those of a passage follow
        ids, offsets = known[question.passage]
        asked = tokenizer.encode(question.text, maxlen=args.maxquestion)[0]
        width = args.maxlen - len(asked) - 1 - room
        begins = range(0, max(1, len(ids) - width // 2), max(1, width // 2))
        for begin in begins:
            part = slice(begin, begin + width)
            answer = token_span(question, offsets[part])
            found.append(Window(number, asked, ids[part], offsets[part], answer))
    return found


def token_span(question, offsets):
    """The tokens of the first answer, `(start, end)`, if all of it is among them."""
    answer = question.answers[0]
    start = question.start + len(answer) - len(answer.lstrip())
    end = question.start + len(answer.rstrip())
    if question.start < 0 or not offsets or start < offsets[0][0] or end > offsets[-1][1]:
        return None
    inside = [i for i, (a, b) in enumerate(offsets) if b > start and a < end]
    return (inside[0], inside[-1] + 1) if inside else None


def row_batches(rows, args, **options):
    """Batches of rows `((token ids, segments), labels)`; all rows have as many labels.

    Args:
        **options: of `Batches`.
    """

    def collate(rows, length):
        inputs, labels = zip(*rows, strict=True)
        return pad_samples(inputs, length), np.array(labels, "int32")

    length = lambda row: len(row[0][0])  # noqa: E731
    return Batches(rows, args.batch_size, collate, buckets=BUCKETS, length=length, **options)


def best_answers(questions, parts, found):
    """For each question the text of the best of the answers found in its windows.

    Args:
        parts: the windows.
        found: for each window `(score, start, end)`, the span in tokens; empty: none.
    """
    answers, scores = [""] * len(questions), [-np.inf] * len(questions)
    for part, (score, start, end) in zip(parts, found, strict=True):
        if end > start and score > scores[part.number]:
            text = questions[part.number].passage
            answers[part.number] = text[part.offsets[start][0] : part.offsets[end - 1][1]]
            scores[part.number] = score
    return answers


# --- scores ----------------------------------------------------------------------------------------

MARKS = set("-:_*^/\\~`+=，。：？！“”；’《》……·、「」（）－～『』")


def without_marks(text):
    return "".join(char for char in text.lower().strip() if char not in MARKS)


def segments(text):
    """A text as CMRC 2018 counts it: without marks, Chinese by characters, the rest by words."""
    return re.findall(
        r"[\u4e00-\u9fa5]|[^\W\u4e00-\u9fa5]+(?:[.,'][^\W\u4e00-\u9fa5]+)*|\S", without_marks(text)
    )


def longest_common_run(first, second):
    """The length of the longest run of items that two lists share."""
    longest, before = 0, [0] * (len(second) + 1)
    for item in first:
        now = [0]
        for place, other in enumerate(second):
            now.append(before[place] + 1 if item == other else 0)
        longest, before = max(longest, *now), now
    return longest


def cmrc_scores(questions, answers):
    """CMRC 2018's F1 and exact match, from 0 to 1.

    An answer counts against the true one that it is nearest to. Its F1 is that of the longest run
    they share. Words that are not Chinese are cut by a rule here, by nltk in the official script,
    which can tell apart a few more signs.

    Args:
        questions: `Question`s.
        answers: a text for each.

    Reference:
        Cui et al., "A Span-Extraction Dataset for Chinese Machine Reading Comprehension", EMNLP
        2019, arXiv 1810.07366
    """
    f1 = exact = 0
    for question, answer in zip(questions, answers, strict=True):
        found = segments(answer)
        totals = []
        for truth in map(segments, question.answers):
            total = len(truth) + len(found)
            totals.append(2 * longest_common_run(truth, found) / total if total else 0.0)
        f1 += max(totals)
        exact += without_marks(answer) in map(without_marks, question.answers)
    return {"f1": f1 / len(questions), "exact_match": exact / len(questions)}


def show_answers(questions, answers):
    """Prints questions with what was found."""
    for question, answer in zip(questions, answers, strict=True):
        show(
            ("passage ", question.passage[:80]),
            ("question", question.text),
            ("answer  ", " / ".join(dict.fromkeys(question.answers))),
            ("found   ", answer),
        )
