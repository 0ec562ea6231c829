"""Reranking: how well passages answer a query, by a model that reads both together.

The model is a classifier with one label, or a causal language model that is asked for "yes" or
"no" (Qwen3-Reranker).
"""

from os import PathLike as AnyPath
from os.path import lexists
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np
from keras import ops

from ..arguments import MOST, check_list, check_number, checks_flags
from ..hub import local_directory
from ..layers.pooling import TokenPooling
from ..loading import transformer_of
from ..models import build_transformer_model
from ..parsing import read_json, shown
from ..tokenizers import TokenizerBase, load_tokenizer
from .base import InvalidRequest, UnsupportedTask, encoder_of, finite
from .classifiers import Classified, TextClassifier, given_tokenizer, load_classifier
from .taggers import classifier_of

if TYPE_CHECKING:
    from ..models import Transformer
    from ..types import PathLike

__all__ = ["Ranked", "Reranker", "load_reranker", "ranked", "rerank", "reranker_of"]

MAXLEN = 512  # of the published rerankers in training
# The text of Qwen3-Reranker, https://huggingface.co/Qwen/Qwen3-Reranker-0.6B
PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and"
    ' the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
)
BODY = "<Instruct>: {}\n<Query>: {}\n<Document>: {}"
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
LEAST_BODY = 16  # tokens


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
    instruction: str | None = None,
) -> list[Ranked]:
    """Ranks passages by how well they answer a query.

    For many calls keep a `Reranker`, whose model is compiled once.

    Args:
        model: the directory of a reranker (bge-reranker, bce-reranker, Qwen3-Reranker), or its name
            on a hub; or a model of `build_transformer_model` with `with_classifier="text"` and one
            label, or with `instruction` a causal language model.
        query: a text.
        passages: list of texts.
        tokenizer: the `Tokenizer` of the model; None (default): that of the directory.
        top_k: number of passages to return; None (default): all.
        maxlen: maximum number of tokens of query and passage together; default 512. A longer
            passage loses its end; the query may have three quarters of them.
        normalize: whether to return probabilities (sigmoid of the logits); default False.
        batch_size: maximum number of passages in a forward pass; default 32.
        instruction: what the passages are for, such as `"Given a web search query, retrieve
            relevant passages that answer the query"`: the texts get the form of Qwen3-Reranker,
            whose body alone (instruction, query and passage) is truncated. A language model is
            asked for "yes" or "no"; the logit is that of "yes" less that of "no", so that
            `normalize` gives the probability of "yes" among the two. Default None: the texts are a
            pair, for a classifier.

    Returns:
        A list of `Ranked`, best first.

    Raises:
        TypeError: the query is not a string, or `passages` not a list of strings.
        ValueError: the model has no classifier of texts with one label (with `instruction`: nor a
            language model with "yes" and "no"), a text has no tokens, or the model's output is not
            finite.

    Example:
        >>> rerank("bge-reranker-base", "熊猫吃什么", ["天气很好", "竹子"], top_k=1)
        [Ranked(position=1, score=4.2, passage='竹子')]

    Reference:
        Zhang et al., "Qwen3 Embedding", arXiv 2506.05176, for `instruction`.
    """
    check_list("passages", passages)
    passages = list(passages)
    if top_k is not None:
        check_number("top_k", top_k, 1, MOST)
    if isinstance(model, str | AnyPath):
        model, labels, own_tokenizer = load_reranker(model, instruction)
        tokenizer = given_tokenizer(tokenizer or own_tokenizer)
    else:
        tokenizer = given_tokenizer(tokenizer)
        model, labels = reranker_of(model, tokenizer, instruction)
    reranker = Reranker(model, labels, tokenizer, maxlen, normalize, instruction)
    results = reranker([(query, passage) for passage in passages], batch_size)
    return ranked(results, passages, top_k)


def load_reranker(
    directory: "PathLike", instruction: str | None = None
) -> tuple[keras.Model, Any, TokenizerBase]:
    """Loads a reranker.

    Args:
        directory, instruction: see `rerank`.

    Returns:
        `(model, labels, tokenizer)`, as `Reranker` takes them.

    Raises:
        FileNotFoundError, ValueError: a file is missing, or the model is none of a reranker.
    """
    if instruction is None:
        return load_classifier(directory)[:3]
    directory = Path(local_directory(directory))
    tokenizer = load_tokenizer(directory, special_tokens_in_text=True)
    if _is_classifier(directory):
        return *load_classifier(directory)[:2], tokenizer
    built = build_transformer_model(directory, return_keras_model=False)
    return *reranker_of(built, tokenizer, instruction), tokenizer


def _is_classifier(directory):
    """Returns whether a directory has a classifier, by the classes that its config names."""
    if not lexists(directory / "config.json"):
        return True
    values = read_json(directory / "config.json")
    names = values.get("architectures") if isinstance(values, dict) else None
    names = names if isinstance(names, list) else ()  # others are errors when the model is built
    return any(str(name).endswith("ForSequenceClassification") for name in names)


def reranker_of(
    model: "keras.Model | Transformer", tokenizer: TokenizerBase, instruction: str | None = None
) -> tuple[keras.Model, Any]:
    """Returns a model of one logit for each text, and its label: see `rerank`.

    Raises:
        UnsupportedTask: the model has no classifier of texts, and with `instruction` no causal
            language model either, or the tokenizer has no tokens "yes" and "no".
    """
    transformer = transformer_of(model)
    c = transformer.config
    if instruction is None or c.with_classifier:
        return classifier_of(transformer, "text")[:2]
    if not c.with_lm or c.attend != "lm" or c.stacks != "one":
        raise UnsupportedTask(
            f"{c.family}: the model has neither a classifier nor a causal language model; expected "
            "one of them, to use instruction. Build it with its language-model head."
        )
    yes, no = (_id_of(tokenizer, token) for token in ("yes", "no"))
    if None in (yes, no):
        raise UnsupportedTask(
            f"tokenizer: {'no' if no is None else 'yes'!r} is not one token; expected 'yes' and "
            "'no', by which the language model answers. Use the tokenizer of this checkpoint."
        )
    encoder = encoder_of(transformer)
    filler = int(_plain_ids(tokenizer, SUFFIX)[-1] == 0)  # any id but that of the last token
    pool = TokenPooling("last", filler, dtype=encoder.output.dtype)
    last = ops.expand_dims(pool(encoder.output, encoder.inputs[0]), 1)
    logits = ops.cast(transformer.token_logits(last)[:, 0], "float32")
    judge = keras.Model(encoder.inputs, logits[:, yes : yes + 1] - logits[:, no : no + 1])
    judge.filler = filler
    return judge, ["yes"]


def _id_of(tokenizer, token):
    """Returns the id of a token, or None if it is not in the vocabulary."""
    i = tokenizer.token_to_id(token)  # perhaps that of the unknown token
    return i if i is not None and tokenizer.id_to_token(i) == token else None


def _plain_ids(tokenizer, text):
    """Returns the ids of a text, without the start and end token of the tokenizer."""
    ids = tokenizer.encode(text)[0]
    return ids[tokenizer.token_start is not None : len(ids) - (tokenizer.token_end is not None)]


def ranked(results: list[float], passages: list[str], top_k: int | None = None) -> list[Ranked]:
    """Returns the passages in the order of their results, best first: at most `top_k`."""
    order = sorted(range(len(passages)), key=lambda i: -results[i])[:top_k]
    return [Ranked(i, results[i], passages[i]) for i in order]


class Reranker(TextClassifier):
    """Logits of pairs of a query and a passage; see `rerank`.

    Args:
        model, labels, tokenizer: see `save_classifier`; there is one label.
        maxlen, normalize, instruction: see `rerank`.

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
        instruction: str | None = None,
    ) -> None:
        check_number("maxlen", maxlen, 16, MOST)
        if not isinstance(instruction, str | None):
            raise TypeError(f"instruction: expected a text or None, got {shown(instruction)}.")
        if len(labels) != 1:
            raise UnsupportedTask(
                f"the classifier has {len(labels)} labels; expected one, as a reranker has. Use "
                "classify."
            )
        super().__init__(model, labels, tokenizer, "regression")
        self.normalize = normalize
        self.maxlen = maxlen if self.longest is None else min(maxlen, self.longest)
        self.instruction = instruction
        self.filler = getattr(model, "filler", self.filler)  # of a language model
        if instruction is not None:
            self._set_frame()

    def _set_frame(self):
        """Sets the ids around the body of a text.

        Raises:
            ValueError: the tokenizer has no chat tokens, or they leave no room for a body.
        """
        self.prefix, self.suffix = (_plain_ids(self.tokenizer, x) for x in (PREFIX, SUFFIX))
        if self.prefix[0] != _id_of(self.tokenizer, "<|im_start|>"):
            raise UnsupportedTask(
                "tokenizer: '<|im_start|>' in a text is not one token; expected the tokens of a "
                "chat, to use instruction. Load it with special_tokens_in_text=True."
            )
        least = len(self.prefix) + len(self.suffix) + LEAST_BODY
        if self.maxlen < least:
            raise ValueError(
                f"maxlen: {self.maxlen}; expected at least {least}, with the tokens around the "
                "body of a text. Raise it."
            )

    def prepare(self, text: Any, instruction: str | None = None) -> Classified:  # type: ignore[override]
        if not isinstance(text, tuple) or not all(isinstance(part, str) for part in text):
            raise TypeError(
                f"texts: expected pairs (query, passage) of strings, got {shown(text)}."
            )
        query, passage = text
        if self.instruction is not None:
            given = self.instruction if instruction is None else instruction
            return self._instructed(text, given)
        if instruction is not None:
            raise ValueError(
                "instruction: the reranker was made without one; expected None. Pass one to"
                " Reranker."
            )
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

    def _instructed(self, text, instruction):
        """Tokenizes a pair in the form of Qwen3-Reranker; the body alone is truncated."""
        if not all(text):
            raise InvalidRequest("the query or the passage is empty; expected at least one token.")
        body = _plain_ids(self.tokenizer, BODY.format(instruction, *text))
        room = self.maxlen - len(self.prefix) - len(self.suffix)
        if len(body) > room:
            before = _plain_ids(self.tokenizer, BODY.format(instruction, text[0], ""))
            if len(before) >= room:
                raise InvalidRequest(
                    f"instruction and query leave none of {self.maxlen} tokens for the passage; "
                    "expected shorter ones."
                )
        ids = [*self.prefix, *body[:room], *self.suffix]
        return Classified(text, self.checked_ids(ids), [0] * len(ids), None)

    def answer(self, item: Classified, output: np.ndarray) -> float:
        logit = float(finite(output)[0])
        return float(np.exp(-np.logaddexp(0, -logit))) if self.normalize else logit
