"""BGE-M3: dense, sparse and multi-vector representations of texts, by one forward pass."""

from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from ..arguments import MOST, check_list, check_number, checks_flags
from ..configs.sentences import M3_FILES, read_m3_files
from ..hub import local_directory
from ..models import build_transformer_model
from ..tokenizers import load_tokenizer
from ..types import PathLike
from .base import Encoded, Pipeline, encoder_of, finite, longest_of, padding_of
from .sentences import check_text, dense_layer

__all__ = ["M3Encoder", "M3Similarity", "M3Vectors"]


class M3Similarity(NamedTuple):
    """Three similarities of a query and a passage.

    Attributes:
        dense: from -1 to 1.
        sparse: 0 or more.
        multi: from -1 to 1.
    """

    dense: float
    sparse: float
    multi: float


class M3Vectors(NamedTuple):
    """The representations of a text.

    Attributes:
        dense: `(hidden_size,)`, of length 1.
        sparse: dict token id -> weight, above 0. Start, end, padding and unknown token have none.
        multi: `(tokens, size)`, each of length 1: a vector for each token but the first.
    """

    dense: np.ndarray
    sparse: dict[int, float]
    multi: np.ndarray

    def similarity(self, passage: "M3Vectors") -> M3Similarity:
        """Computes the similarities of this query to a passage.

        Args:
            passage: the representations of the passage.

        Returns:
            An `M3Similarity`: the dot product of the dense vectors; that of the sparse ones; and
            the mean, over the tokens of the query, of the largest dot product with a token of the
            passage.
        """
        common = sorted(self.sparse.keys() & passage.sparse.keys())
        return M3Similarity(
            float(self.dense @ passage.dense),
            sum((self.sparse[i] * passage.sparse[i] for i in common), 0.0),
            float((self.multi @ passage.multi.T).max(axis=1).mean()),
        )


class M3Encoder(Pipeline):
    """Computes dense, sparse and multi-vector representations of texts with BGE-M3.

    Special tokens such as `<mask>` in a text become these tokens.

    Args:
        directory: a directory with the files of the model, `sparse_linear.pt` and
            `colbert_linear.pt`; or its name on a hub.
        maxlen: the most tokens of a text; longer texts lose their ends. None (default) for what
            the directory says: 8192 for BGE-M3.
        **options: see `build_transformer_model`.

    Attributes:
        model: a `keras.Model` of token ids with three outputs: the dense vectors
            `(batch, hidden_size)`, the weights of the tokens `(batch, length, 1)` and their
            vectors `(batch, length, size)`.
        transformer: the `Transformer` in it.
        longest: the most tokens of a text.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: one of them does not belong to the model, or is invalid.

    Example:
        >>> encoder = M3Encoder("BAAI/bge-m3")
        >>> query, passage = encoder.encode(["熊猫吃什么", "大熊猫以竹子为食"])
        >>> query.similarity(passage).dense

    Reference:
        Chen et al., "BGE M3-Embedding", arXiv 2402.03216.
    """

    def __init__(self, directory: PathLike, maxlen: int | None = None, **options: Any) -> None:
        if maxlen is not None:
            check_number("maxlen", maxlen, 2, MOST)
        directory = Path(local_directory(directory, needs=M3_FILES))
        options = {**options, "return_keras_model": False}
        transformer = build_transformer_model(directory, **options)
        tokenizer = load_tokenizer(directory, special_tokens_in_text=True)
        encoder = encoder_of(transformer)
        states = encoder.output
        sparse, multi = read_m3_files(directory, states.shape[-1])
        normalize = keras.layers.UnitNormalization(dtype="float32")
        outputs = [
            normalize(states[:, 0]),
            dense_layer(sparse, states),
            normalize(dense_layer(multi, states)),
        ]
        limits = (longest_of(transformer), maxlen or tokenizer.model_max_length)
        longest = min((limit for limit in limits if limit is not None), default=None)
        model = keras.Model(encoder.inputs, outputs)
        super().__init__(model, tokenizer, longest, padding_of(transformer, tokenizer))
        self.transformer = transformer
        names = ("token_start_id", "token_end_id", "token_pad_id", "token_unk_id")
        self._without_weight = {getattr(tokenizer, name) for name in names}

    @checks_flags
    def encode(
        self, texts: str | list[str], batch_size: int = 64, progress: bool = False
    ) -> M3Vectors | list[M3Vectors]:
        """Computes the representations of texts.

        Args:
            texts: a text or a list of texts.
            batch_size: maximum number of texts in a forward pass; default 64.
            progress: whether to show a progress bar for a list of texts. Default False.

        Returns:
            A list of `M3Vectors`; for a single text, its `M3Vectors`.

        Raises:
            TypeError: `texts` is neither a string nor a list of strings.
            ValueError: the model's output is not finite.
        """
        if isinstance(texts, str):
            return self(texts, batch_size)
        check_list("texts", texts)
        parts = self.in_parts(texts, batch_size, progress)
        return [vectors for part in parts for vectors in part]

    def prepare(self, text: str) -> Encoded:
        check_text(text)
        return Encoded(text, self.truncated_ids(text))

    def predicted(self, items: list) -> Any:
        return zip(*super().predicted(items), strict=True)

    def answer(self, item: Encoded, outputs: tuple) -> M3Vectors:
        dense, sparse, multi = outputs
        count = len(item.ids)
        # copies: views would keep the whole batch
        dense, multi = (finite(x.astype("float32")) for x in (dense, multi[1:count]))
        weights: dict[int, float] = {}
        for token, weight in zip(item.ids, finite(sparse[:count, 0]).tolist(), strict=True):
            if token not in self._without_weight and weight > weights.get(token, 0.0):
                weights[token] = weight
        return M3Vectors(dense, weights, multi)
