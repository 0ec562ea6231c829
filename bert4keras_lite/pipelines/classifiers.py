"""Labels of texts, or of pairs of texts, by a fine-tuned classifier; its files."""

import json
from collections.abc import Sequence
from os import PathLike as AnyPath
from os.path import lexists
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np

from ..arguments import MOST, check_number
from ..files import complete, saving, write_text
from ..hub import local_directory
from ..loading import read_keras_model
from ..parsing import read_json, shown
from ..tokenizers import TokenizerBase, load_tokenizer
from ..types import PathLike
from .base import InvalidOutput, InvalidRequest, Pipeline, UnsupportedTask, finite, padding_of
from .entities import EntityExtractor, bare_model, filler_of, positions_of
from .taggers import (
    LABELS,
    MODEL,
    TOKENS,
    check_names,
    check_outputs,
    classifier_of,
    load_tagger,
    output_shapes,
    published_classifier,
    unchanged_input,
)

if TYPE_CHECKING:
    from ..models import Transformer

__all__ = [
    "Classified",
    "Span",
    "Tagger",
    "TextClassifier",
    "classify",
    "given_tokenizer",
    "load_classifier",
    "probabilities_of",
    "save_classifier",
    "tag",
]

PROBLEMS = (None, "single_label_classification", "multi_label_classification", "regression")


class Label(NamedTuple):
    """A label and its probability (of a regression, its value)."""

    name: str
    probability: float


class Span(NamedTuple):
    """A span `text[start:end]`, its kind and its probability, or None if there is none."""

    start: int
    end: int
    kind: str
    probability: float | None


def classify(
    model: "PathLike | keras.Model | Transformer",
    texts: Any,
    tokenizer: TokenizerBase | None = None,
    top_k: int | None = None,
    maxlen: int | None = None,
    batch_size: int = 32,
) -> Any:
    """Classifies texts, or pairs of texts, by a fine-tuned classifier.

    For many calls keep a `TextClassifier`, whose model is compiled once.

    Args:
        model: a directory or a name on a hub, with Hugging Face's files of a fine-tuned classifier
            or those of `save_classifier`; or a model of `build_transformer_model` with
            `with_classifier="text"`, or its `Transformer`.
        texts: a text, a pair `(first, second)`, or a list of them.
        tokenizer: the `Tokenizer` of the model; None: that of the directory.
        top_k: number of labels for each text, the most likely first; None (default): the most
            likely one alone, or, if a text may have several labels, all with a probability of at
            least 0.5.
        maxlen: number of tokens to which texts are shortened; None (default): a text that is too
            long is an error.
        batch_size: maximum number of texts in a forward pass; default 32.

    Returns:
        For each text a `(label, probability)`; a list of them with `top_k`, or if a text may have
        several labels. For a single text, its answer.

    Raises:
        TypeError: `texts` is not as described, or there is no tokenizer.
        ValueError: the model has no classifier of texts, a text has no tokens or too many, or the
            model's output is not finite.

    Example:
        >>> label, probability = classify("uer/roberta-base-finetuned-jd-binary-chinese", "很好")
    """
    if isinstance(model, str | AnyPath):
        model, labels, own_tokenizer, problem_type = load_classifier(model)
        tokenizer = tokenizer or own_tokenizer
    else:
        model, labels, problem_type = classifier_of(model, "text")
    classifier = TextClassifier(model, labels, given_tokenizer(tokenizer), problem_type)
    return classifier(texts, batch_size, top_k=top_k, maxlen=maxlen)


def tag(
    model: "PathLike | keras.Model | Transformer",
    texts: str | list[str],
    tokenizer: TokenizerBase | None = None,
    batch_size: int = 32,
) -> list:
    """Finds spans in texts by a fine-tuned classifier of tokens, with their probabilities.

    For many calls keep a `Tagger`, whose model is compiled once.

    Args:
        model: a directory or a name on a hub, with Hugging Face's files of a fine-tuned classifier
            of tokens or those of `save_tagger`; or a model of `build_transformer_model` with
            `with_classifier="tokens"`, or its `Transformer`.
        texts: a text or a list of texts.
        tokenizer: the `Tokenizer` of the model; None: that of the directory.
        batch_size: maximum number of texts in a forward pass; default 32.

    Returns:
        For each text a sorted list of `(start, end, kind, probability)`: the span is
        `text[start:end]`, its probability the mean of those of its tokens; None if a
        `ConditionalRandomField`, a `MaximumEntropyMarkovModel` or a `GlobalPointer` found it. If
        the labels are not BIO, BIOES or BMES, each token is a span, but for the label "O". For a
        single text, its list.

    Raises:
        TypeError: `texts` is neither a string nor a list, or there is no tokenizer.
        ValueError: the model has no classifier of tokens, a text has no tokens or too many, or the
            model's output is not finite.

    Example:
        >>> tag("uer/roberta-base-finetuned-cluener2020-chinese", "小明在北京")
        [(0, 2, 'name', 0.99), (3, 5, 'address', 0.98)]
    """
    if isinstance(model, str | AnyPath):
        model, labels, own_tokenizer = load_tagger(model)
        tokenizer = tokenizer or own_tokenizer
    else:
        model, labels, _ = classifier_of(model, "tokens")
    return Tagger(model, labels, given_tokenizer(tokenizer))(texts, batch_size)


def given_tokenizer(tokenizer):
    """Returns a tokenizer; raises `TypeError` if there is none."""
    if not isinstance(tokenizer, TokenizerBase):
        raise TypeError(
            f"tokenizer: expected a Tokenizer, got {shown(tokenizer)}. Pass that of the model."
        )
    return tokenizer


def load_classifier(
    directory: PathLike,
) -> tuple[keras.Model, Sequence[str], TokenizerBase, str | None]:
    """Loads a classifier of texts: one of `save_classifier`, or Hugging Face's files of one.

    Args:
        directory: its directory, or a name on a hub.

    Returns:
        `(model, labels, tokenizer, problem_type)`, as `save_classifier` takes them.

    Raises:
        FileNotFoundError, ValueError: a file is missing, or does not match the others.
    """
    directory = Path(local_directory(directory))
    complete(directory)
    if not lexists(directory / LABELS):
        return published_classifier(directory, "text")
    content = read_json(directory / LABELS)
    content = {"labels": content} if isinstance(content, list) else content
    is_known = isinstance(content, dict) and content.keys() <= {"labels", "problem_type"}
    if not is_known or not isinstance(content.get("labels"), list):
        raise ValueError(
            f"{directory / LABELS}: expected a JSON list of names, or an object with labels and"
            f" problem_type, got {shown(content)}."
        )
    labels, problem_type = content["labels"], content.get("problem_type")
    model = read_keras_model(directory / MODEL, compile=False)
    _check(model, labels, problem_type, directory / LABELS)
    return model, labels, load_tokenizer(directory), problem_type


def save_classifier(
    directory: PathLike,
    model: keras.Model,
    labels: Sequence[str],
    tokenizer: TokenizerBase,
    problem_type: str | None = None,
) -> None:
    """Saves a classifier of texts for `load_classifier` and `classify`.

    Args:
        directory: directory for `model.keras`, `labels.json` and the tokenizer's files, which are
            written atomically (see `files.saving`); created if missing.
        model: a `keras.Model` from token ids and segment ids to logits `(batch, labels)`.
        labels: the names of the labels.
        tokenizer: the `Tokenizer` of the model.
        problem_type: None (default) or "single_label_classification": a text has one label;
            "multi_label_classification": it may have several; "regression": the outputs are values.

    Raises:
        ValueError: the number of labels differs from the model's output, or the model does not end
            in logits.
        TypeError: the labels are not strings, or the tokenizer is not one of this toolkit.
        OSError: a file cannot be written; existing files are unchanged.
    """
    check_names(labels, tokenizer)
    _check(model, labels, problem_type, "labels")
    content: Any = list(labels)
    if problem_type is not None:
        content = {"labels": content, "problem_type": problem_type}
    with saving(directory) as stage:
        write_text(stage / LABELS, json.dumps(content, ensure_ascii=False))
        tokenizer.save(stage)
        model.save(stage / MODEL)


def _check(model, labels, problem_type, where):
    """Checks that a model ends in logits of these labels; `where` begins the message."""
    if problem_type not in PROBLEMS:
        raise ValueError(f"{where}: problem_type is {shown(problem_type)}; expected {PROBLEMS}.")
    if not all(isinstance(label, str) for label in labels):
        raise ValueError(f"{where}: expected a list of names, got {shown(labels)}.")
    check_outputs(model, where)
    shapes = output_shapes(model, model.inputs[0].shape[1] or TOKENS)
    if shapes != [(None, len(labels))]:
        raise ValueError(
            f"{where}: {len(labels)} labels for a model whose output is "
            f"{', '.join(map(str, shapes)):.200}; expected logits (batch, labels)."
        )
    layer, output = None, model.outputs[0]
    while output is not None:
        layer, node, index = output._keras_history
        output = unchanged_input(layer, node, index)
    linear = getattr(layer, "activation", None) in (None, keras.activations.linear)
    if not linear or isinstance(layer, keras.layers.Softmax):
        raise ValueError(
            f"{where}: the model ends in {shown(layer.name)}, which has an activation; expected "
            "logits. Leave the activation out, and train with from_logits=True."
        )


class Classified(NamedTuple):
    """A tokenized text, or pair of texts.

    Attributes:
        text: the text, or the pair.
        ids, segments: token ids and segment ids.
        top_k: number of labels of the answer, or None.
    """

    text: Any
    ids: list
    segments: list
    top_k: int | None


class TextClassifier(Pipeline):
    """Labels of texts, or of pairs of texts; see `classify`.

    Args:
        model, labels, tokenizer, problem_type: see `save_classifier`.

    Raises:
        UnsupportedTask: the model has inputs besides token ids and segment ids, or outputs besides
            the logits of the labels; see also `Pipeline`.
    """

    takes_pairs = True

    def __init__(
        self,
        model: keras.Model,
        labels: Sequence[str],
        tokenizer: TokenizerBase,
        problem_type: str | None = None,
    ) -> None:
        self.labels, self.problem_type = labels, problem_type
        if len(model.outputs) != 1:
            raise UnsupportedTask(
                f"the model has {len(model.outputs)} outputs; expected the logits of the labels "
                "alone. Build it without other heads."
            )
        transformer = getattr(model, "transformer", None)
        if transformer is not None and transformer.config.with_classifier:
            filler = padding_of(transformer, tokenizer)
        else:
            filler = filler_of(model)
        super().__init__(bare_model(model), tokenizer, positions_of(model), filler)

    def prepare(self, text: Any, top_k: int | None = None, maxlen: int | None = None) -> Classified:
        if top_k is not None:
            check_number("top_k", top_k, 1, MOST)
        parts = text if isinstance(text, tuple) else (text,)
        if not 1 <= len(parts) <= 2 or not all(isinstance(part, str) for part in parts):
            raise TypeError(
                f"texts: expected strings, or pairs of them (first, second), got {shown(text)}."
            )
        first, second = (*parts, None)[:2]
        ids, segments, offsets = self.tokenizer.encode(first, second, maxlen, return_offsets=True)
        if not any(start < end for start, end in offsets):
            raise InvalidRequest("the text is empty; expected at least one token.")
        return Classified(text, self.checked_ids(ids), segments, top_k)

    def answer(self, item: Classified, output: np.ndarray) -> Any:
        if output.shape != (len(self.labels),):
            raise InvalidOutput(
                f"the model's output has the shape {output.shape}; expected logits of "
                f"{len(self.labels)} labels."
            )
        probs = probabilities_of(finite(output), self.problem_type)
        answers = [
            Label(self.labels[i], float(probs[i])) for i in np.argsort(-probs, kind="stable")
        ]
        if item.top_k is not None:
            return answers[: item.top_k]
        if self.problem_type == "multi_label_classification":
            return [label for label in answers if label.probability >= 0.5]
        return answers[0]


def probabilities_of(logits: np.ndarray, problem_type: str | None = None) -> np.ndarray:
    """Converts logits `(..., labels)` to probabilities, as transformers does.

    Args:
        logits: of the labels.
        problem_type: "regression": they are values, and returned as they are;
            "multi_label_classification", or a single label: sigmoid; otherwise: softmax.
    """
    x = logits.astype("float64")
    if problem_type == "regression":
        return x
    if problem_type == "multi_label_classification" or x.shape[-1] == 1:
        return np.exp(-np.logaddexp(0, -x))
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


class Tagger(EntityExtractor):
    """Spans of texts with their probabilities; see `tag`.

    Args:
        model, labels, tokenizer: see `save_tagger`; the labels need not be BIO, BIOES or BMES.

    Raises:
        UnsupportedTask: see `EntityExtractor`.
    """

    def answer(self, item: Any, output: Any) -> list[Span]:
        (logits, tags), probs = output, None
        if tags is not None and self.decoder is None:
            probs = probabilities_of(finite(logits[: len(item.ids)])).max(-1)  # of the best tags
        spans = []
        for start, end, kind in self.token_spans(item, output):
            prob = None if probs is None else float(probs[start:end].mean())
            spans += [Span(*span, prob) for span in self.in_text([(start, end, kind)], item)]
        return sorted(spans, key=lambda span: span[:3])
