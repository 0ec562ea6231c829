"""Evaluation metrics: span and triple F1, CMRC's F1, rank correlation, BLEU, ROUGE.

`bleu` and `rouge` use `sacrebleu` and `rouge-score` (`pip install bert4keras_lite[metrics]`), but
their own tokenization: rouge-score's tokenizer drops all Chinese characters, and sacrebleu's
standard one takes a sentence without spaces for a single word.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

import numpy as np
import regex

from .parsing import shown

__all__ = [
    "Scores",
    "bio_spans",
    "bleu",
    "characters",
    "cmrc_scores",
    "rouge",
    "span_scores",
    "spearman",
    "triple_scores",
    "words",
]

CHARACTERS = regex.compile(
    r"\p{Latin}[\p{Latin}\p{M}]*(?:['’]\p{Latin}+)*"  # a Latin word
    r"|\d+(?:[.,]\d+)*"  # a number
    r"|\S"
)
# CMRC 2018: a Chinese character, or a word with points and commas within it
ANSWER_TOKENS = regex.compile(
    r"[\u4e00-\u9fa5]|[^\W\u4e00-\u9fa5]+(?:[.,'][^\W\u4e00-\u9fa5]+)*|\S"
)
CMRC_MARKS = set("-:_*^/\\~`+=，。：？！“”；’《》……·、「」（）－～『』")


@dataclass(frozen=True)
class Scores:
    """Counts of true, predicted and correct items, and the metrics derived from them.

    Attributes:
        true, predicted, correct: number of true items, predicted items, and correct predictions.
        by_type: type -> `Scores` of that type only.
        precision, recall, f1: from 0 to 1. If there are neither true nor predicted items, all
            are 1.
    """

    true: int
    predicted: int
    correct: int
    by_type: dict = field(default_factory=dict)

    @property
    def precision(self) -> float:
        return self.correct / self.predicted if self.predicted else float(not self.true)

    @property
    def recall(self) -> float:
        return self.correct / self.true if self.true else float(not self.predicted)

    @property
    def f1(self) -> float:
        total = self.true + self.predicted
        return 2 * self.correct / total if total else 1.0


def span_scores(true: Sequence[Iterable[tuple]], predicted: Sequence[Iterable[tuple]]) -> Scores:
    """Computes precision, recall and F1 of spans; start, end and type must all be correct.

    Args:
        true, predicted: for each text its spans, `(start, end, type)`; nested ones too, in any
            order, a repeated one counts once. See `bio_spans`.

    Returns:
        `Scores` over all spans (micro average), with `by_type`.

    Raises:
        ValueError: the numbers of texts differ, or an item is not a triple.

    Example:
        >>> scores = span_scores([{(0, 2, "PER"), (5, 7, "LOC")}], [{(0, 2, "PER")}])
        >>> scores.f1, scores.by_type["LOC"].recall
        (0.6666666666666666, 0.0)
    """
    return _scores(true, predicted, type_at=2)


def triple_scores(true: Sequence[Iterable[tuple]], predicted: Sequence[Iterable[tuple]]) -> Scores:
    """Computes precision, recall and F1 of relations; all three parts must be correct.

    Args:
        true, predicted: for each text its triples `(subject, predicate, object)`, in any order;
            a repeated one counts once.

    Returns:
        `Scores` over all triples (micro average); `by_type` is by predicate.

    Raises:
        ValueError: the numbers of texts differ, or an item is not a triple.
    """
    return _scores(true, predicted, type_at=1)


def _scores(true, predicted, type_at):
    totals = [Counter(), Counter(), Counter()]
    for pair in _pairs(true, predicted):
        truth, prediction = map(_triples, pair)
        for total, items in zip(totals, (truth, prediction, truth & prediction), strict=True):
            total.update(item[type_at] for item in items)
    types = sorted(totals[0].keys() | totals[1].keys(), key=str)
    by_type = {type_: Scores(*(total[type_] for total in totals)) for type_ in types}
    return Scores(*(total.total() for total in totals), by_type)


def _triples(items):
    """Returns the items of a text as a set of triples."""
    try:
        triples = [tuple(item) for item in items]
        if isinstance(items, str | dict) or any(len(triple) != 3 for triple in triples):
            raise TypeError
        return set(triples)
    except TypeError:
        raise ValueError(
            "true, predicted: expected a list of tuples of length 3 for each text, got "
            f"{shown(items)}."
        ) from None


def _pairs(true, predicted):
    for name, texts in (("true", true), ("predicted", predicted)):
        if isinstance(texts, str) or not isinstance(texts, Iterable):
            raise ValueError(f"{name}={shown(texts)}: expected one entry for each text.")
    true, predicted = list(true), list(predicted)
    if len(true) != len(predicted):
        raise ValueError(
            f"{len(true)} texts in `true`, but {len(predicted)} in `predicted`; give one entry "
            "for each text, in the same order."
        )
    return zip(true, predicted, strict=True)


def bio_spans(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """Returns the spans marked by tags in BIO, BIOES, BMES or similar schemes.

    As in the CoNLL evaluation, a span also begins where an `I` (`M`, `E`) follows `O` or another
    type, or begins the text; and a span ends where its type does.

    Args:
        tags: tags of one text, strings such as `"B-PER"`, `"I-PER"`, `"O"`; or, without types,
            `"B"`, `"M"`, `"E"`, `"S"` (word segmentation).

    Returns:
        A set of `(start, end, type)`, the end excluded; without types, the type is `""`.

    Raises:
        ValueError: a tag does not begin with B, I, M, E, S or O.

    Example:
        >>> sorted(bio_spans(["B-PER", "I-PER", "O", "B-LOC"]))
        [(0, 2, 'PER'), (3, 4, 'LOC')]
    """
    if not isinstance(tags, Iterable):
        raise ValueError(f"tags={shown(tags)}: expected a list of the tags of one text.")
    spans, start, open_type = set(), -1, ""  # -1: outside of a span
    for i, tag in enumerate([*tags, "O"]):
        prefix, type_ = (tag[:1], tag[2:]) if isinstance(tag, str) else ("", "")
        if prefix not in tuple("BIMESO") or (tag[1:] and tag[1] not in "-_"):
            raise ValueError(
                f"tag {i} is {shown(tag)}; expected B, I, M, E, S or O, and for all but O a type "
                "after a hyphen, such as 'B-PER'."
            )
        if start >= 0 and (prefix in "BSO" or type_ != open_type):
            spans.add((start, i, open_type))
            start = -1
        if prefix != "O" and start < 0:
            start, open_type = i, type_
        if prefix in "ES":
            spans.add((start, i + 1, open_type))
            start = -1
    return spans


def cmrc_scores(true: list, predicted: list[str]) -> dict[str, float]:
    """Computes F1 and exact match of answers, as for CMRC 2018.

    An answer is compared with the reference that is most similar. Its F1 is that of the longest
    common substring of characters and words, without punctuation. Latin words and numbers are
    split by a rule here, by nltk in the official script, which also splits a few other marks.

    Args:
        true: for each question the reference, or a list of references.
        predicted: the answers, `""` for none.

    Returns:
        A dict `"f1"`, `"exact_match"` -> number from 0 to 1.

    Raises:
        ValueError: the numbers of questions differ, or there are none.

    Example:
        >>> cmrc_scores([["田心车站", "田心站"]], ["田心"])
        {'f1': 0.8, 'exact_match': 0.0}

    Reference:
        Cui et al., "A Span-Extraction Dataset for Chinese Machine Reading Comprehension", EMNLP
        2019, arXiv 1810.07366
    """
    references, texts = _segmented(true, predicted, _without_marks)
    if not texts:
        raise ValueError("predicted: expected one or more answers, got none.")
    f1, exact = [], []
    for answers, text in zip(references, texts, strict=True):
        tokens = ANSWER_TOKENS.findall(text)
        f1.append(max(_run_f1(ANSWER_TOKENS.findall(answer), tokens) for answer in answers))
        exact.append(text in answers)
    return {"f1": sum(f1) / len(texts), "exact_match": sum(exact) / len(texts)}


def _without_marks(text):
    return "".join(char for char in text.lower().strip() if char not in CMRC_MARKS)


def _run_f1(first, second):
    """Returns the F1 of the longest run of tokens that two lists share."""
    run = SequenceMatcher(None, first, second, autojunk=False).find_longest_match()
    return 2 * run.size / max(len(first) + len(second), 1)


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Computes Spearman's rank correlation; equal values share the mean of their ranks.

    Args:
        x, y: numbers of shape `(samples,)`.

    Returns:
        A float from -1 to 1; NaN if all values of one are equal.

    Raises:
        ValueError: the numbers of samples differ, or are below 2.

    Example:
        >>> spearman([0.1, 0.2, 0.9], [0, 3, 5])
        1.0
    """
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(f"x, y: expected two or more samples each, got {len(x)} and {len(y)}.")
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _ranks(values):
    """Returns 1 for the smallest value, and so on; the mean of their ranks for equal values."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[index]


def characters(text: str) -> list[str]:
    """Splits a text into Chinese characters, punctuation marks, Latin words and numbers.

    Example:
        >>> characters("用BERT打了99.5分")
        ['用', 'BERT', '打', '了', '99.5', '分']
    """
    return CHARACTERS.findall(_text(text))


def words(text: str) -> list[str]:
    """Splits a text into words with jieba."""
    from .tokenizers.words import jieba_new_words

    return [word for word in jieba_new_words(_text(text)) if not word.isspace()]


def _text(value):
    if not isinstance(value, str):
        raise ValueError(f"text: expected a string, got {shown(value)}.")
    return value


def bleu(
    true: Sequence[str | list[str]],
    predicted: Sequence[str],
    segment: Callable[[str], list[str]] = characters,
) -> float:
    """Computes corpus-level BLEU with `sacrebleu`.

    Args:
        true: for each text the reference, or a list of references.
        predicted: the texts.
        segment: function from a text to a list of tokens: `characters`, `words`, or your own.

    Returns:
        A number from 0 to 100. Texts shorter than four tokens count with the n-grams they have.

    Raises:
        ImportError: `sacrebleu` is not installed.
        ValueError: the numbers of texts differ.

    Reference:
        Papineni et al., ACL 2002, https://aclanthology.org/P02-1040
    """
    sacrebleu, segment = _needed("sacrebleu"), _function(segment)
    references, texts = _segmented(true, predicted, lambda text: " ".join(segment(text)))
    most = max(map(len, references), default=0)
    # sacrebleu takes the first references of all texts, then the second, ...; None: missing
    streams = [[r[i] if i < len(r) else None for r in references] for i in range(most)]
    metric = sacrebleu.BLEU(tokenize="none", effective_order=True, force=True)
    return metric.corpus_score(texts, streams).score if texts else 0.0


def rouge(
    true: Sequence[str | list[str]],
    predicted: Sequence[str],
    segment: Callable[[str], list[str]] = characters,
) -> dict[str, float]:
    """Computes ROUGE-1, ROUGE-2 and ROUGE-L with `rouge-score`: the mean F1 over the texts.

    Args:
        true: for each text the reference, or a list of references, of which the best counts.
        predicted: the texts.
        segment: function from a text to a list of tokens: `characters`, `words`, or your own.

    Returns:
        A dict `"rouge1"`, `"rouge2"`, `"rougeL"` -> number from 0 to 1.

    Raises:
        ImportError: `rouge-score` is not installed.
        ValueError: the numbers of texts differ.

    Reference:
        Lin, 2004, https://aclanthology.org/W04-1013
    """
    names = ["rouge1", "rouge2", "rougeL"]
    scorer = _needed("rouge_score.rouge_scorer").RougeScorer(
        names, tokenizer=_Segments(_function(segment))
    )
    references, texts = _segmented(true, predicted, lambda text: text)
    scores = [scorer.score_multi(*pair) for pair in zip(references, texts, strict=True)]
    return {name: sum(s[name].fmeasure for s in scores) / max(len(scores), 1) for name in names}


class _Segments:
    """Tokenizer interface of `rouge-score`."""

    def __init__(self, tokenize):
        self.tokenize = tokenize


def _function(segment):
    if not callable(segment):
        raise ValueError(
            f"segment={shown(segment)}: expected a function from a text to a list of tokens."
        )
    return segment


def _segmented(true, predicted, segment):
    """Returns the segmented references of each text, as a list, and the segmented texts."""
    pairs = list(_pairs(true, predicted))
    references = [[t] if isinstance(t, str) else t for t, _ in pairs]
    for number, (texts, (_, text)) in enumerate(zip(references, pairs, strict=True)):
        if not isinstance(text, str):
            raise ValueError(f"predicted[{number}]: expected a text, got {shown(text)}.")
        if (
            not isinstance(texts, list | tuple)
            or not texts
            or not all(isinstance(reference, str) for reference in texts)
        ):
            raise ValueError(
                f"true[{number}]: expected a text, or a list of one or more, got {shown(texts)}."
            )
    return [[*map(segment, texts)] for texts in references], [segment(text) for _, text in pairs]


def _needed(module):
    from importlib import import_module

    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{error.name} is not installed. Install it with pip install bert4keras_lite[metrics]."
        ) from error
