"""What was found against what is true: spans, triples, and texts.

`bleu` and `rouge` count with `sacrebleu` and `rouge-score` (`pip install bert4keras_lite[metrics]`),
but cut the texts themselves: rouge-score's own tokenizer drops every Chinese character, and
sacrebleu's standard one takes a sentence without spaces for a single word.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import regex

from .parsing import shown

CHARACTERS = regex.compile(
    r"\p{Latin}[\p{Latin}\p{M}]*(?:['’]\p{Latin}+)*"  # a Latin word
    r"|\d+(?:[.,]\d+)*"  # a number
    r"|\S"
)


@dataclass(frozen=True)
class Scores:
    """How many were found, and how many of those are right.

    Attributes:
        true, predicted, correct: how many there are, were found, and were found rightly.
        by_type: type -> `Scores` of that type alone.
        precision, recall, f1: from 0 to 1. Where nothing is to be found and nothing was found,
            all are 1.
    """

    true: int
    predicted: int
    correct: int
    by_type: dict = field(default_factory=dict)

    @property
    def precision(self):
        return self.correct / self.predicted if self.predicted else float(not self.true)

    @property
    def recall(self):
        return self.correct / self.true if self.true else float(not self.predicted)

    @property
    def f1(self):
        total = self.true + self.predicted
        return 2 * self.correct / total if total else 1.0


def span_scores(true, predicted):
    """Precision, recall and F1 of spans: right is what agrees in start, end and type.

    Args:
        true, predicted: for each text its spans, `(start, end, type)`; nested ones too, in any
            order, a repeated one counts once. See `bio_spans`.

    Returns:
        `Scores` over all spans (micro average), with `by_type`.

    Raises:
        ValueError: not the same number of texts.

    Example:
        >>> scores = span_scores([{(0, 2, "PER"), (5, 7, "LOC")}], [{(0, 2, "PER")}])
        >>> scores.f1, scores.by_type["LOC"].recall
        (0.6666666666666666, 0.0)
    """
    return _scores(true, predicted, type_at=2)


def triple_scores(true, predicted):
    """Precision, recall and F1 of relations: right is what agrees in all three parts.

    Args:
        true, predicted: for each text its triples `(subject, predicate, object)`, in any order;
            a repeated one counts once.

    Returns:
        `Scores` over all triples (micro average); `by_type` is by predicate.

    Raises:
        ValueError: not the same number of texts.
    """
    return _scores(true, predicted, type_at=1)


def _scores(true, predicted, type_at):
    totals = [Counter(), Counter(), Counter()]
    for pair in _pairs(true, predicted):
        truth, found = map(_triples, pair)
        for total, items in zip(totals, (truth, found, truth & found), strict=True):
            total.update(item[type_at] for item in items)
    types = sorted(totals[0].keys() | totals[1].keys(), key=str)
    by_type = {kind: Scores(*(total[kind] for total in totals)) for kind in types}
    return Scores(*(total.total() for total in totals), by_type)


def _triples(items):
    """The items of a text as a set of triples."""
    try:
        triples = [tuple(item) for item in items]
        if isinstance(items, str | dict) or any(len(triple) != 3 for triple in triples):
            raise TypeError
        return set(triples)
    except TypeError:
        raise ValueError(
            f"expected for each text its triples, of three parts each, got {shown(items)}."
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


def bio_spans(tags):
    """The spans that tags mark: BIO, BIOES, BMES and what is like them.

    As in the CoNLL evaluation, a span also begins where an `I` (`M`, `E`) follows nothing or
    another type, and ends where its type does.

    Args:
        tags: of one text, strings such as `"B-PER"`, `"I-PER"`, `"O"`; or, without types, `"B"`,
            `"M"`, `"E"`, `"S"` (word segmentation).

    Returns:
        A set of `(start, end, type)`, the end excluded; without types, the type is `""`.

    Raises:
        ValueError: a tag that begins with none of B, I, M, E, S, O.

    Example:
        >>> sorted(bio_spans(["B-PER", "I-PER", "O", "B-LOC"]))
        [(0, 2, 'PER'), (3, 4, 'LOC')]
    """
    if not isinstance(tags, Iterable):
        raise ValueError(f"tags={shown(tags)}: expected those of one text.")
    spans, start, open_type = set(), None, None
    for i, tag in enumerate([*tags, "O"]):
        place, kind = (tag[:1], tag[2:]) if isinstance(tag, str) else ("", "")
        if place not in tuple("BIMESO") or (tag[1:] and tag[1] not in "-_"):
            raise ValueError(
                f"tag {i} is {shown(tag)}; expected B, I, M, E, S or O, and for all but O a type "
                "after a hyphen, such as 'B-PER'."
            )
        if start is not None and (place in "BSO" or kind != open_type):
            spans.add((start, i, open_type))
            start = None
        if place != "O" and start is None:
            start, open_type = i, kind
        if place in "ES":
            spans.add((start, i + 1, open_type))
            start = None
    return spans


def characters(text):
    """A text as Chinese characters and punctuation marks, but Latin words and numbers whole.

    Example:
        >>> characters("用BERT打了99.5分")
        ['用', 'BERT', '打', '了', '99.5', '分']
    """
    return CHARACTERS.findall(_text(text))


def words(text):
    """A text as jieba's words."""
    from .tokenizers.words import jieba_new_words

    return [word for word in jieba_new_words(_text(text)) if not word.isspace()]


def _text(value):
    if not isinstance(value, str):
        raise ValueError(f"expected a text, got {shown(value)}.")
    return value


def bleu(true, predicted, segment=characters):
    """BLEU of a whole corpus, by `sacrebleu`.

    Args:
        true: for each text the reference, or a list of references.
        predicted: the texts.
        segment: text -> list of tokens: `characters`, `words`, or a function of your own.

    Returns:
        From 0 to 100; texts of less than four tokens count with the n-grams that they have.

    Raises:
        ImportError: `sacrebleu` is not installed.
        ValueError: not the same number of texts.

    Reference:
        Papineni et al., ACL 2002, https://aclanthology.org/P02-1040
    """
    sacrebleu, segment = _needed("sacrebleu"), _function(segment)
    references, texts = _segmented(true, predicted, lambda text: " ".join(segment(text)))
    most = max(map(len, references), default=0)
    # sacrebleu wants the first reference of every text, then the second, ...; None: no such
    streams = [[r[i] if i < len(r) else None for r in references] for i in range(most)]
    metric = sacrebleu.BLEU(tokenize="none", effective_order=True, force=True)
    return metric.corpus_score(texts, streams).score if texts else 0.0


def rouge(true, predicted, segment=characters):
    """ROUGE-1, ROUGE-2 and ROUGE-L, the mean F1 over the texts, by `rouge-score`.

    Args:
        true: for each text the reference, or a list of references, of which the best counts.
        predicted: the texts.
        segment: text -> list of tokens: `characters`, `words`, or a function of your own.

    Returns:
        A dict `"rouge1"`, `"rouge2"`, `"rougeL"` -> number from 0 to 1.

    Raises:
        ImportError: `rouge-score` is not installed.
        ValueError: not the same number of texts.

    Reference:
        Lin, 2004, https://aclanthology.org/W04-1013
    """
    kinds = ["rouge1", "rouge2", "rougeL"]
    scorer = _needed("rouge_score.rouge_scorer").RougeScorer(
        kinds, tokenizer=_Segments(_function(segment))
    )
    references, texts = _segmented(true, predicted, lambda text: text)
    scores = [scorer.score_multi(*pair) for pair in zip(references, texts, strict=True)]
    return {kind: sum(s[kind].fmeasure for s in scores) / max(len(scores), 1) for kind in kinds}


class _Segments:
    """What `rouge-score` takes for a tokenizer."""

    def __init__(self, tokenize):
        self.tokenize = tokenize


def _function(segment):
    if not callable(segment):
        raise ValueError(f"segment={shown(segment)}: expected a function from a text to a list.")
    return segment


def _segmented(true, predicted, segment):
    """For each text the references, as a list; and the texts."""
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
            f"{error.name} is not installed; it comes with: pip install bert4keras_lite[metrics]"
        ) from error
