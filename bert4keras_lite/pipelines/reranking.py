"""Reranking: how well passages answer a query, by a cross-encoder that reads both together."""

from os import PathLike as AnyPath
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np

from ..arguments import MOST, check_list, check_number, checks_flags
from ..parsing import shown
from ..tokenizers import TokenizerBase
from .base import InvalidRequest, UnsupportedTask, finite
from .classifiers import Classified, TextClassifier, given_tokenizer, load_classifier
from .taggers import classifier_of

if TYPE_CHECKING:
    from ..models import Transformer
    from ..types import PathLike

__all__ = ["Ranked", "Reranker", "ranked", "rerank"]

MAXLEN = 512  # of the published rerankers in training


class Ranked(NamedTuple):
    """A passage: its position in the request, its logit (or probability), and itself."""

    position: int
    score: float
    passage: str


@checks_flags
def rerank(
    model: "PathLike | keras.Model | Transformer",
    query: str,
    passages: list[str],
    tokenizer: TokenizerBase | None = None,
    top_k: int | None = None,
    maxlen: int = MAXLEN,
    normalize: bool = False,
    batch_size: int = 32,
) -> list[Ranked]:
    """Ranks passages by how well they answer a query.

    For many calls keep a `Reranker`, whose model is compiled once.

    Args:
        model: the directory of a reranker (bge-reranker, bce-reranker), or its name on a hub; or a
            model of `build_transformer_model` with `with_classifier="text"` and one label.
        query: a text.
        passages: list of texts.
        tokenizer: the `Tokenizer` of the model; None (default): that of the directory.
        top_k: number of passages to return; None (default): all.
        maxlen: maximum number of tokens of query and passage together; default 512. A longer
            passage loses its end; the query may have three quarters of them.
        normalize: whether to return probabilities (sigmoid of the logits); default False.
        batch_size: maximum number of passages in a forward pass; default 32.

    Returns:
        A list of `Ranked`, best first.

    Raises:
        TypeError: the query is not a string, or `passages` not a list of strings.
        ValueError: the model has no classifier of texts with one label, a text has no tokens, or
            the model's output is not finite.

    Example:
        >>> rerank("bge-reranker-base", "熊猫吃什么", ["天气很好", "竹子"], top_k=1)
        [Ranked(position=1, score=4.2, passage='竹子')]
    """
    check_list("passages", passages)
    passages = list(passages)
    if top_k is not None:
        check_number("top_k", top_k, 1, MOST)
    if isinstance(model, str | AnyPath):
        model, labels, own_tokenizer, _ = load_classifier(model)
        tokenizer = tokenizer or own_tokenizer
    else:
        model, labels, _ = classifier_of(model, "text")
    reranker = Reranker(model, labels, given_tokenizer(tokenizer), maxlen, normalize)
    results = reranker([(query, passage) for passage in passages], batch_size)
    return ranked(results, passages, top_k)


def ranked(results: list[float], passages: list[str], top_k: int | None = None) -> list[Ranked]:
    """Returns the passages in the order of their results, best first: at most `top_k`."""
    order = sorted(range(len(passages)), key=lambda i: -results[i])[:top_k]
    return [Ranked(i, results[i], passages[i]) for i in order]


class Reranker(TextClassifier):
    """Logits of pairs of a query and a passage; see `rerank`.

    Args:
        model, labels, tokenizer: see `save_classifier`; there is one label.
        maxlen, normalize: see `rerank`.

    Call arguments:
        texts: a pair `(query, passage)` or a list of them.

    Returns:
        A float for each pair.

    Raises:
        UnsupportedTask: the model has several labels; see also `TextClassifier`.
    """

    example = ("今天天气如何", "今天天气真好")

    @checks_flags
    def __init__(
        self,
        model: keras.Model,
        labels: Any,
        tokenizer: TokenizerBase,
        maxlen: int = MAXLEN,
        normalize: bool = False,
    ) -> None:
        check_number("maxlen", maxlen, 16, MOST)
        if len(labels) != 1:
            raise UnsupportedTask(
                f"the classifier has {len(labels)} labels; expected one, as a reranker has. Use "
                "classify."
            )
        super().__init__(model, labels, tokenizer, "regression")
        self.normalize = normalize
        self.maxlen = maxlen if self.longest is None else min(maxlen, self.longest)

    def prepare(self, text: Any) -> Classified:  # type: ignore[override]
        if not isinstance(text, tuple) or not all(isinstance(part, str) for part in text):
            raise TypeError(
                f"texts: expected pairs (query, passage) of strings, got {shown(text)}."
            )
        query, passage = text
        # the query keeps three quarters of the tokens, the passage gets the rest
        around = len(self.tokenizer.tokenize(""))  # start and end token
        specials = len(self.tokenizer.encode("", "")[0])
        query_tokens = self.tokenizer.tokenize(query, around + self.maxlen * 3 // 4)
        room = self.maxlen - specials - (len(query_tokens) - around)
        passage_tokens = self.tokenizer.tokenize(passage, around + room)
        if around in (len(query_tokens), len(passage_tokens)):
            raise InvalidRequest("the query or the passage is empty; expected at least one token.")
        ids, segments = self.tokenizer.encode(query_tokens, passage_tokens)
        return Classified(text, self.checked_ids(ids), segments, None)

    def answer(self, item: Classified, output: np.ndarray) -> float:
        logit = float(finite(output)[0])
        return float(np.exp(-np.logaddexp(0, -logit))) if self.normalize else logit
