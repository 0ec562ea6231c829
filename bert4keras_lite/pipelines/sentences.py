"""Sentence vectors by a directory of sentence-transformers: bge, m3e, e5, MiniLM, ..."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np

from ..arguments import check_list, check_number, checks_flags
from ..configs.published import warn
from ..configs.sentences import MODULES, POOLINGS, Dense, LayerNorm, Normalize, read_sentence_files
from ..hub import local_directory
from ..layers import ACTIVATIONS, SentencePooling
from ..models import build_transformer_model
from ..parsing import listed, shown
from ..tokenizers import load_tokenizer
from ..types import PathLike
from .base import Pipeline, encoder_of, finite, longest_of, padding_of

if TYPE_CHECKING:
    from ..models import Transformer

__all__ = ["SentenceEncoder", "check_text", "dense_layer"]


class Sentence(NamedTuple):
    """A tokenized text.

    Attributes:
        text: the text of the request, with its prompt.
        ids: token ids.
        skipped: number of tokens at the start that are not pooled.
    """

    text: str
    ids: list
    skipped: int


def dense_layer(dense: Dense, x: Any) -> Any:
    """Applies a dense layer of a file to a tensor.

    Raises:
        ValueError: its weights are for inputs of another size.
    """
    activation = ACTIVATIONS.get(dense.activation, dense.activation)
    layer = keras.layers.Dense(
        dense.kernel.shape[1], activation, use_bias=dense.bias is not None, dtype="float32"
    )
    return _with_weights(layer, x, dense.kernel, dense.bias)


def _layer_norm(norm, x):
    layer = keras.layers.LayerNormalization(epsilon=1e-5, dtype="float32")
    return _with_weights(layer, x, norm.gamma, norm.beta)


def _normalized(normalize, x):
    return keras.layers.UnitNormalization(dtype="float32")(x)


def _with_weights(layer, x, *weights):
    """Applies a layer to `x`, and gives it weights.

    Raises:
        ValueError: the weights are for inputs of another size.
    """
    weights = [w for w in weights if w is not None]
    if weights[0].shape[0] != x.shape[-1]:
        raise ValueError(
            f"modules.json: a module takes vectors of {weights[0].shape[0]} numbers; expected"
            f" {x.shape[-1]}, as the one before it returns. Get or copy the directory again."
        )
    y = layer(x)
    layer.set_weights(weights)
    return y


APPLY = {Dense: dense_layer, LayerNorm: _layer_norm, Normalize: _normalized}


class SentenceEncoder(Pipeline):
    """Computes vectors of texts as the library sentence-transformers does.

    The directory's `modules.json` determines the pooling and what follows it, such as
    normalization. Without this file, the vectors are the mean over all tokens, as in the library,
    and a warning says so. Special tokens such as `[MASK]` in a text become these tokens.

    Args:
        directory: a directory of sentence-transformers, or of any encoder; or the name of a model
            on a hub, or of one that is included in the toolkit.
        pooling: `"cls"`, `"max"`, `"mean"`, `"mean_sqrt_len_tokens"`, `"weightedmean"`,
            `"lasttoken"`, or a list of them; None (default) for what the directory says.
        normalize: whether vectors have length 1; None (default) for what the directory says.
        truncate_dim: the number of dimensions to keep, or None (default) for what the directory
            says, else all. Shorter vectors are not scaled to length 1 again.
        transformer: the `Transformer` of the directory, if it is built already; None (default)
            builds it.
        **options: see `build_transformer_model`.

    Attributes:
        model: a `keras.Model` of token ids, segment ids and a mask of the tokens to pool.
        transformer: the `Transformer` in it.
        pooling: list of the names of the poolings.
        prompts: dict name -> prompt.
        longest: the most tokens of a text; longer texts lose their ends.

    Raises:
        ValueError: a file is invalid or says something that is not supported.

    Example:
        >>> encoder = SentenceEncoder("bge-small-zh-v1.5")
        >>> vectors = encoder.encode(["今天天气真好", "语言模型"])
        >>> similarities = vectors @ vectors.T
    """

    def __init__(
        self,
        directory: PathLike,
        pooling: str | list[str] | None = None,
        normalize: bool | None = None,
        truncate_dim: int | None = None,
        transformer: "Transformer | None" = None,
        **options: Any,
    ) -> None:
        if truncate_dim is not None:
            check_number("truncate_dim", truncate_dim, 1, 1 << 20)
        directory = Path(local_directory(directory, needs=[MODULES]))
        files = read_sentence_files(directory)
        modules = _changed(files.modules, pooling, normalize)
        if transformer is None:
            options = {**options, "return_keras_model": False}
            transformer = build_transformer_model(files.checkpoint, **options)
        tokenizer = load_tokenizer(files.checkpoint, special_tokens_in_text=True)
        least = len(tokenizer.encode("")[0])
        if files.max_length is not None and files.max_length < least:
            raise ValueError(
                f"{files.limits}: max_seq_length is {files.max_length}; expected at least {least}, "
                "the special tokens of every text, or null."
            )
        if files.note and pooling is None:
            warn([files.note], directory)

        encoder = encoder_of(transformer)
        pooled = keras.Input(encoder.inputs[0].shape[1:], dtype="int32", name="pooled_tokens")
        first, *others = modules
        vectors = SentencePooling(first.modes, dtype="float32")(encoder.output, pooled)
        for module in others:
            vectors = APPLY[type(module)](module, vectors)
        limits = (longest_of(transformer), files.max_length or tokenizer.model_max_length)
        longest = min((limit for limit in limits if limit is not None), default=None)
        model = keras.Model([*encoder.inputs, pooled], vectors)
        super().__init__(model, tokenizer, longest, padding_of(transformer, tokenizer))
        self.transformer = transformer
        self.pooling, self._include_prompt = first
        self.prompts, self._default_prompt = dict(files.prompts), files.default_prompt
        self._lower = files.lower
        self._truncate_dim = truncate_dim or files.truncate_dim

    @property
    def dim(self) -> int:
        """The number of dimensions of the vectors."""
        return min(self.model.output_shape[-1], self._truncate_dim or self.model.output_shape[-1])

    @checks_flags
    def encode(
        self,
        texts: str | list[str],
        batch_size: int = 64,
        prompt_name: str | None = None,
        prompt: str | None = None,
        progress: bool = False,
    ) -> np.ndarray:
        """Computes vectors of texts.

        Args:
            texts: a text or a list of texts.
            batch_size: maximum number of texts in a forward pass; default 64.
            prompt_name: name of a prompt of the model, which is put before each text, e.g.
                `"query"`. Default None: the default prompt of the model, if it has one.
            prompt: a text to put before each text instead. Default None.
            progress: whether to show a progress bar for a list of texts. Default False.

        Returns:
            A float32 array `(texts, dim)`; for a single text, `(dim,)`.

        Raises:
            TypeError: `texts` is neither a string nor a list of strings, or `prompt` no string.
            ValueError: there is no such prompt, or the model's output is not finite.
        """
        prompt = self._prompt(prompt_name, prompt)
        if isinstance(texts, str):
            return self(texts, batch_size, prompt=prompt)
        check_list("texts", texts)
        texts = list(texts)
        vectors, end = np.zeros((len(texts), self.dim), "float32"), 0
        for part in self.in_parts(texts, batch_size, progress, prompt=prompt):
            start, end = end, end + len(part)
            vectors[start:end] = part
        return vectors

    def _prompt(self, name, prompt):
        """Returns the text of a prompt, `""` for none."""
        if prompt is not None:
            if not isinstance(prompt, str):
                raise TypeError(f"prompt: expected a text or None, got {shown(prompt)}.")
            return prompt
        name = self._default_prompt if name is None else name
        if name is None:
            return ""
        if name not in self.prompts:
            raise ValueError(
                f"prompt_name: {shown(name)}; expected"
                f" {listed(list(self.prompts)) or 'None: the model has no prompts'}."
            )
        return self.prompts[name]

    def prepare(self, text: str, prompt: str | None = None) -> Sentence:
        check_text(text)
        prompt = self._prompt(None, prompt)
        text = prompt + text
        if self._lower:
            text, prompt = self.tokenizer.lowered(text), self.tokenizer.lowered(prompt)
        ids, skipped = self.truncated_ids(text), 0
        if prompt and not self._include_prompt:
            only = self.tokenizer.encode(prompt, maxlen=self.longest)[0]
            skipped = len(only) - (self.tokenizer.token_end is not None)
        return Sentence(text, ids, skipped)

    def predicted(self, items: list) -> np.ndarray:
        length = self.length_of(items)
        pooled = np.zeros((len(items), length), "int32")
        for row, item in zip(pooled, items, strict=True):
            row[item.skipped : len(item.ids)] = 1
        return self.outputs([item.ids for item in items], length, pooled)

    def answer(self, item: Sentence, vector: np.ndarray) -> np.ndarray:
        return finite(vector[: self._truncate_dim].astype("float32"))


def check_text(text):
    """Raises TypeError unless a text is a string."""
    if not isinstance(text, str):
        raise TypeError(f"texts: expected strings, got {shown(text)}.")


def _changed(modules, pooling, normalize):
    """Returns the modules with another pooling or normalization, where these are given.

    Raises:
        ValueError: `pooling` is not known, or `normalize` is not a bool.
    """
    first, *others = modules
    if pooling is not None:
        modes = [pooling] if isinstance(pooling, str) else list(pooling)
        if not modes or not set(modes) <= {*POOLINGS}:
            raise ValueError(
                f"pooling: {shown(pooling)}; expected some of {', '.join(POOLINGS)}, or None."
            )
        first = first._replace(modes=modes)
    if normalize is not None:
        if not isinstance(normalize, bool):
            raise ValueError(f"normalize: {shown(normalize)}; expected True, False or None.")
        others = [module for module in others if not isinstance(module, Normalize)]
        others += [Normalize()] * normalize
    return [first, *others]
