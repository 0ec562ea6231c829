"""Information extraction by prompts: a UIE model finds in a text what a schema names."""

from collections import Counter
from os import PathLike as AnyPath
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np

from ..arguments import check_list, check_number
from ..hub import local_directory
from ..loading import transformer_of
from ..parsing import shown
from ..spans import sliding_windows
from ..tokenizers import TokenizerBase
from .base import InvalidRequest, Pipeline, UnsupportedTask, finite, longest_of, padding_of
from .classifiers import given_tokenizer
from .entities import bare_model
from .taggers import classifier_of, published_classifier

if TYPE_CHECKING:
    from ..models import Transformer
    from ..types import PathLike

__all__ = ["Extraction", "InformationExtractor", "extract_information"]

MAXLEN = 512  # tokens in training, though there are 2048 positions
# full-width forms of ASCII, which prompts had as ASCII in training
ASCII = {0x3000: 0x20} | {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}


def extract_information(
    model: "PathLike | keras.Model | Transformer",
    texts: str | list[str],
    schema: str | list | dict,
    tokenizer: TokenizerBase | None = None,
    threshold: float = 0.5,
    batch_size: int = 32,
) -> Any:
    """Finds in texts what a schema names: entities, their relations, or one of several options.

    For many calls keep an `InformationExtractor`, whose model is compiled once.

    Args:
        model: the directory of a UIE, or its name on a hub; or a model of
            `build_transformer_model` with `with_classifier="spans"`, or its `Transformer`.
        texts: a text or a list of texts. A text that is too long is read in parts.
        schema: what to look for: a name (`"时间"`); a list of them; a dict of a name and what to
            look for about each one that is found (`{"人物": ["国籍", "出生地"]}`); or options
            (`"情感倾向[正向,负向]"`).
        tokenizer: the `Tokenizer` of the model; None (default): that of the directory.
        threshold: probability above which a token is a start or an end; default 0.5.
        batch_size: maximum number of prompts in a forward pass; default 32.

    Returns:
        For each text a dict: name -> list of dicts with `text`, `start`, `end`, `probability`, and
        `relations`, a dict like this one, if the schema asks for them and there are any. An option
        has no `start` and `end`. For a single text, its dict.

    Raises:
        TypeError: `texts` or `schema` has another type, a name is empty, or there is no tokenizer.
        ValueError: the model has no pointers, a prompt leaves no room for a text, or the model's
            output is not finite.

    Example:
        >>> extract_information("uie_base_pytorch", "李白生于碎叶城", {"人物": "出生地"})

    Reference:
        Lu et al., "Unified Structure Generation for Universal Information Extraction", arXiv
        2203.12277; the pointers are those of PaddleNLP's `UIE`.
    """
    if isinstance(model, str | AnyPath):
        directory = Path(local_directory(model))
        model, _, own_tokenizer, _ = published_classifier(directory, "spans")
        tokenizer = tokenizer or own_tokenizer
    extractor = InformationExtractor(model, given_tokenizer(tokenizer), threshold)
    return extractor.extract(texts, schema, batch_size)


class Prompted(NamedTuple):
    """A tokenized prompt and text.

    Attributes:
        text, prompt: the two texts.
        ids, segments, offsets: of their tokens; segments are 0 in the prompt.
        threshold: probability above which a token is a start or an end.
    """

    text: str
    prompt: str
    ids: list
    segments: list
    offsets: list
    threshold: float


class InformationExtractor(Pipeline):
    """Finds what a prompt names in a text; `extract` does so for a schema.

    Args:
        model, tokenizer, threshold: see `extract_information`.

    Call arguments:
        pairs: list of `(text, prompt)`, each short enough for the model.

    Returns:
        For each pair a list of dicts with `text`, `start`, `end` and `probability`.

    Raises:
        UnsupportedTask: the model has no pointers.
    """

    takes_pairs = True
    example = ("今天天气真好", "时间")

    def __init__(
        self,
        model: "keras.Model | Transformer",
        tokenizer: TokenizerBase,
        threshold: float = 0.5,
    ) -> None:
        check_number("threshold", threshold, 0.0, 1.0)
        transformer = transformer_of(model)
        model, _, _ = classifier_of(transformer, "spans")
        if not transformer.config.has_segments:
            raise UnsupportedTask(
                f"{transformer.config.family}: the model has no segment ids, which tell the prompt "
                "from the text; expected a UIE."
            )
        self.threshold = threshold
        self.width = min(MAXLEN, longest_of(transformer) or MAXLEN)
        filler = padding_of(transformer, tokenizer)
        super().__init__(bare_model(model), tokenizer, self.width, filler)

    def extract(self, texts: str | list[str], schema: Any, batch_size: int = 32) -> Any:
        """Finds in texts what a schema names; see `extract_information`."""
        if single := isinstance(texts, str):
            texts = [texts]
        extraction = Extraction(self, texts, schema)
        while parts := extraction.parts():
            extraction.take(self(parts, batch_size))
        return extraction.results[0] if single else extraction.results

    def room(self, prompt: str) -> int:
        """Returns the number of tokens that a prompt leaves for a text.

        Raises:
            InvalidRequest: it leaves none.
        """
        room = self.width - len(self.tokenizer.encode(prompt, "")[0])
        if room < 1:
            raise InvalidRequest(f"the prompt {shown(prompt)} leaves no room for a text.")
        return room

    def prepare(self, text: Any, threshold: float | None = None) -> Prompted:
        """Tokenizes a pair of text and prompt; `threshold`: None for that of the extractor."""
        if not isinstance(text, tuple) or not all(isinstance(part, str) for part in text):
            raise TypeError(f"texts: expected pairs (text, prompt) of strings, got {shown(text)}.")
        text, prompt = text
        ids, segments, offsets = self.tokenizer.encode(
            prompt, text, maxlen=self.width, return_offsets=True
        )
        threshold = self.threshold if threshold is None else threshold
        return Prompted(text, prompt, self.checked_ids(ids), segments, offsets, threshold)

    def answer(self, item: Any, logits: np.ndarray) -> list[dict]:
        x = finite(logits[: len(item.ids)]).astype("float64")
        start_probs, end_probs = np.exp(-np.logaddexp(0, -x)).T
        answers = []
        for first, last, probability in pointer_spans(start_probs, end_probs, item.threshold):
            start, end = item.offsets[first][0], item.offsets[last][1]
            in_prompt = item.segments[first] == 0
            same = item.segments[first] == item.segments[last]
            options = item.prompt.endswith("]") and start > item.prompt.find("[") >= 0
            if start >= end or not same or (in_prompt and not options):
                continue  # special tokens; a span over prompt and text; one in a mere name
            span = {} if in_prompt else {"start": start, "end": end}
            source = item.prompt if in_prompt else item.text
            answers.append({"text": source[start:end], **span, "probability": probability})
        return answers


class Target(NamedTuple):
    """What is asked next: names, in a text or about an answer in it.

    Attributes:
        text: index of the text.
        before: what precedes the names in prompts: nothing, or the answer and "的".
        holder: dict that gets what is found, as `relations`.
        names: name -> names to ask for about each answer.
    """

    text: int
    before: str
    holder: dict
    names: dict


class Extraction:
    """What a schema names, found level by level: `parts` to answer and `take` alternate.

    Args:
        extractor: the `InformationExtractor`.
        texts: list of texts.
        schema: see `extract_information`.
        most: maximum number of parts, on all levels together; default None: any number.

    Raises:
        TypeError: see `extract_information`.
    """

    def __init__(
        self,
        extractor: InformationExtractor,
        texts: list[str],
        schema: Any,
        most: int | None = None,
    ) -> None:
        check_list("texts", texts)
        texts = list(texts)
        if wrong := [text for text in texts if not isinstance(text, str)]:
            raise TypeError(f"texts: expected strings, got {shown(wrong[0])}.")
        names = tree(schema)
        self.extractor, self.texts, self.most = extractor, texts, most
        self.roots: list[dict] = [{} for _ in texts]
        self.targets = [Target(i, "", root, names) for i, root in enumerate(self.roots)]
        self.asked = 0  # parts so far
        self.owners: list[tuple[int, int]] = []  # of each part: its question, its start in the text

    @property
    def results(self) -> list[dict]:
        """What was found in each text; see `extract_information`."""
        return [root.get("relations", {}) for root in self.roots]

    def parts(self) -> list[tuple[str, str]]:
        """Returns pairs `(part of a text, prompt)` for the extractor; none at the end.

        Raises:
            InvalidRequest: there are more than `most`, or a prompt leaves no room for a text.
        """
        self._check(sum(len(target.names) for target in self.targets))
        parts: list[tuple[str, str]] = []
        self.owners = []
        for owner, (target, name) in enumerate(self._questions()):
            prompt, text = (target.before + name).translate(ASCII), self.texts[target.text]
            room = self.extractor.room(prompt)
            windows = sliding_windows(len(text), room, room)
            self._check(len(parts) + len(windows))
            parts += [(text[start:end], prompt) for start, end in windows]
            self.owners += [(owner, start) for start, _ in windows]
        self.asked += len(parts)
        return parts

    def take(self, answers: list[list[dict]]) -> None:
        """Takes the extractor's answers to all parts."""
        questions = self._questions()
        answers_of: list[list[dict]] = [[] for _ in questions]
        for (owner, shift), spans in zip(self.owners, answers, strict=True):
            for span in spans:
                moved = {key: span[key] + shift for key in ("start", "end") if key in span}
                answers_of[owner].append(span | moved)
        self.targets = []
        for (target, name), of_parts in zip(questions, answers_of, strict=True):
            if of_question := voted(of_parts):
                target.holder.setdefault("relations", {})[name] = of_question
            if inner := target.names[name]:
                self.targets += [
                    Target(target.text, f"{answer['text']}的", answer, inner)
                    for answer in of_question
                ]

    def _questions(self):
        return [(target, name) for target in self.targets for name in target.names]

    def _check(self, count):
        """Checks that so many parts may be asked."""
        if self.most is not None and self.asked + count > self.most:
            raise InvalidRequest(
                f"{self.asked + count} prompts, each with a part of a text; at most {self.most} "
                "are asked. Ask for less, or send fewer or shorter texts."
            )


def tree(schema):
    """Returns a schema as nested dicts: name -> names to look for about each answer.

    A name that a list has several times gets what all of them look for.

    Raises:
        TypeError: the schema has anything but names, lists and dicts of them.
    """
    names = {}
    _add_names(names, schema)
    return names


def _add_names(names, schema):
    """Adds the names of a schema to nested dicts, in time proportional to its size."""
    if isinstance(schema, str) and schema:
        names.setdefault(schema, {})
    elif isinstance(schema, dict) and schema and all(_is_name(name) for name in schema):
        for name, inside in schema.items():
            below = names.setdefault(name, {})
            if inside not in ("", [], {}, None):  # no relations
                _add_names(below, inside)
    elif isinstance(schema, list) and schema:
        for part in schema:
            _add_names(names, part)
    else:
        raise TypeError(f"schema: expected a name, a list or a dict of names, got {shown(schema)}.")


def _is_name(name):
    return isinstance(name, str) and name != ""


def pointer_spans(start, end, threshold):
    """Pairs starts with ends: each end with the last start after the end before it.

    Args:
        start, end: probabilities of each token, `(length,)`.
        threshold: above which a token is a start or an end.

    Returns:
        A list of `(first, last, probability)`, the last token included.
    """
    spans, before = [], -1
    starts = np.flatnonzero(start > threshold)
    for last in np.flatnonzero(end > threshold):
        inside = starts[(starts > before) & (starts <= last)]
        if len(inside):
            spans.append((int(inside[-1]), int(last), float(start[inside[-1]] * end[last])))
        before = last
    return spans


def voted(answers):
    """Returns the answers of all parts of a text; of options, the one that most parts chose."""
    options = [answer for answer in answers if "start" not in answer]
    if not options:
        return answers
    counts, sums = Counter(), Counter()
    for answer in options:
        counts[answer["text"]] += 1
        sums[answer["text"]] += answer["probability"]
    best = max(counts, key=lambda text: (counts[text], sums[text]))
    return [{"text": best, "probability": sums[best] / counts[best]}]
