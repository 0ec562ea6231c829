"""Features: vectors of texts, or of their tokens."""

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import keras
import numpy as np

from ..loading import transformer_of
from ..parsing import shown
from ..tokenizers import TokenizerBase
from .base import Pipeline, encoder_of, finite, longest_of, padding_of

if TYPE_CHECKING:
    from ..models import Transformer

__all__ = ["FeatureExtractor", "extract_features"]


def extract_features(
    model: "keras.Model | Transformer",
    tokenizer: TokenizerBase,
    texts: str | list[str],
    pooling: Literal["mean", "cls"] | None = "mean",
    batch_size: int = 32,
) -> np.ndarray | list[np.ndarray]:
    """Computes vectors of texts: the last hidden states of a model.

    For many calls keep a `FeatureExtractor`, whose model is compiled once.

    Args:
        model: a model of `build_transformer_model`, or its `Transformer`; for an encoder-decoder,
            its encoder is used.
        tokenizer: the `Tokenizer` of the model.
        texts: a text or a list of texts.
        pooling: `"mean"` (default): the mean over the tokens of the text, without special tokens;
            `"cls"`: the vector of the first token; None: all vectors.
        batch_size: maximum number of texts in a forward pass; default 32.

    Returns:
        A float32 array `(texts, hidden_size)`; for `pooling=None`, a list of arrays
        `(tokens, hidden_size)`, with special tokens. For a single text, its array alone.

    Raises:
        TypeError: `texts` is neither a string nor a list.
        ValueError: `pooling` is unknown, the model has other inputs than a text determines, a text
            has no tokens or too many, or the model's output is not finite.

    Example:
        >>> model = build_transformer_model("tiny-zh")
        >>> extract_features(model, load_tokenizer("tiny-zh"), ["今天天气真好", "语言模型"])
    """
    if pooling not in ("mean", "cls", None):
        raise ValueError(f"pooling: expected 'mean', 'cls' or None, got {shown(pooling)}.")
    extractor = FeatureExtractor(model, tokenizer)
    vectors = extractor(texts, batch_size, pooling=pooling)
    if isinstance(texts, str) or pooling is None:
        return vectors
    return np.reshape(np.asarray(vectors, "float32"), (-1, extractor.model.output_shape[-1]))


class Pooled(NamedTuple):
    """A tokenized text whose vectors are requested.

    Attributes:
        text, ids, offsets: see `Encoded`.
        pooling: see `extract_features`.
    """

    text: str
    ids: list
    offsets: list
    pooling: str | None


class FeatureExtractor(Pipeline):
    """Vectors of texts, float32; see `extract_features`.

    Args:
        model, tokenizer: see `extract_features`.

    Raises:
        UnsupportedTask: the model has other inputs than a text determines, or is a decoder.
    """

    def __init__(self, model: "keras.Model | Transformer", tokenizer: TokenizerBase) -> None:
        transformer = transformer_of(model)
        filler = padding_of(transformer, tokenizer)
        super().__init__(encoder_of(transformer), tokenizer, longest_of(transformer), filler)

    def prepare(self, text: str, pooling: str | None = "mean") -> Any:
        return Pooled(**super().prepare(text)._asdict(), pooling=pooling)

    def answer(self, item: Any, states: np.ndarray) -> np.ndarray:
        states = states[: len(item.ids)].astype("float32")  # a copy: a view would keep the batch
        if item.pooling == "mean":
            states = states[[start < end for start, end in item.offsets]].mean(axis=0)
        elif item.pooling == "cls":
            states = states[0].copy()
        return finite(states)
