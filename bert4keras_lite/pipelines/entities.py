"""Entities: spans of a text that a fine-tuned tagger finds."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from .. import layers
from ..metrics import bio_spans
from ..tokenizers import TokenizerBase
from .base import Encoded, InvalidOutput, Pipeline, UnsupportedTask, finite, token_tables
from .taggers import are_logits, decoder_of, is_tag

__all__ = ["EntityExtractor", "bare_model", "extract_entities", "filler_of", "positions_of"]

SPANS = 100_000  # maximum number of spans in a text
# layers of taggers that respect the mask, that do so if they get one, or that process each token
# separately
MASKED = {
    keras.layers.InputLayer,
    layers.ConditionalRandomField,
    layers.EfficientGlobalPointer,
    layers.GlobalPointer,
    layers.MaximumEntropyMarkovModel,
    layers.PositionEmbedding,
    layers.Positions,
    layers.RelativeVectors,
    layers.RotaryAngles,
}
RECURRENT = {
    keras.layers.Bidirectional,
    keras.layers.GRU,
    keras.layers.LSTM,
    keras.layers.SimpleRNN,
}
TOKEN_BY_TOKEN = {
    layers.Dropout,
    layers.FeedForward,
    layers.LayerNormalization,
    layers.ScaleOffset,
    keras.layers.Activation,
    keras.layers.Add,
    keras.layers.BatchNormalization,
    keras.layers.Concatenate,
    keras.layers.Dense,
    keras.layers.Dropout,
    keras.layers.GaussianNoise,
    keras.layers.LayerNormalization,
    keras.layers.LeakyReLU,
    keras.layers.Multiply,
    keras.layers.ReLU,
    keras.layers.SpatialDropout1D,
}


def extract_entities(
    model: keras.Model,
    labels: Sequence[str],
    tokenizer: TokenizerBase,
    texts: str | list[str],
    batch_size: int = 32,
) -> list:
    """Finds entities in texts by a fine-tuned tagger.

    For many calls keep an `EntityExtractor`, whose model is compiled once.

    Args:
        model, labels, tokenizer: see `save_tagger`; `load_tagger` returns them.
        texts: a text or a list of texts.
        batch_size: maximum number of texts in a forward pass; default 32.

    Returns:
        For each text a sorted list of `(start, end, kind)`: the entity is `text[start:end]`. If
        the labels are not BIO, BIOES or BMES, each token is a span, but for the label "O". For a
        single text, its list.

    Raises:
        TypeError: `texts` is neither a string nor a list.
        ValueError: the model has inputs besides token ids and segment ids, a text has no tokens or
            too many, or the model's output is not finite, or not that of a tagger.

    Example:
        >>> extract_entities(*load_tagger("tagger"), "小明在北京")  # [(0, 2, "name"), ...]
    """
    return EntityExtractor(model, labels, tokenizer)(texts, batch_size)


class EntityExtractor(Pipeline):
    """Entities of texts; see `extract_entities`.

    Args:
        model, labels, tokenizer: see `save_tagger`.

    Raises:
        UnsupportedTask: the model has inputs besides token ids and segment ids; see also
            `Pipeline`.
    """

    def __init__(self, model: keras.Model, labels: Sequence[str], tokenizer: TokenizerBase) -> None:
        self.labels, self.decoder = labels, decoder_of(model)
        self.have_spans = all(map(is_tag, labels))
        super().__init__(bare_model(model), tokenizer, positions_of(model), filler_of(model))

    def predicted(self, items: list[Encoded]) -> Iterable:
        """Returns pairs of each item's logits and its tags; tags are None for logits of spans."""
        logits, tokens = super().predicted(items), self.length_of(items)
        if not are_logits(logits.shape, len(self.labels), tokens):
            raise InvalidOutput(
                f"the model's output has the shape {logits.shape[1:]} for {tokens} tokens; "
                "expected logits of tags or spans."
            )
        tags = [None] * len(items) if logits.ndim == 4 else self.tags(logits)
        return zip(logits, tags, strict=True)

    def tags(self, logits: np.ndarray) -> np.ndarray:
        if self.decoder is None:
            return logits.argmax(-1)
        for weight in self.decoder.weights:
            check_logits(ops.convert_to_numpy(weight))
        # NaN in one text must not make `decode` raise for the whole batch
        return ops.convert_to_numpy(self.decoder.decode(np.where(np.isnan(logits), 0, logits)))

    def answer(self, item: Encoded, output: Any) -> Any:
        return self.in_text(self.token_spans(item, output), item)

    def token_spans(self, item: Encoded, output: Any) -> set[tuple[int, int, str]]:
        """Returns the spans of tokens, `(start, end, kind)`, in what `predicted` returns."""
        (logits, tags), size = output, len(item.ids)
        if tags is None:
            return self.spans(check_logits(logits[:, :size, :size]))
        check_logits(logits[:size])
        names = self.names(tags[:size], item)
        if self.have_spans:
            return bio_spans(names)
        return {(i, i + 1, name) for i, name in enumerate(names) if name != "O"}

    def names(self, tags: Iterable[int], item: Encoded) -> list[str]:
        """Returns the names of tags; `"O"` for special and masked tokens, which are in no span."""
        return [
            self.labels[tag] if tag >= 0 and start < end else "O"
            for tag, (start, end) in zip(tags, item.offsets, strict=True)
        ]

    def spans(self, logits: np.ndarray) -> set[tuple[int, int, str]]:
        """Returns the spans whose logits `(kinds, tokens, tokens)` are above 0."""
        indices = np.argwhere(logits > 0)
        if len(indices) > SPANS:
            raise InvalidOutput(
                f"the model finds {len(indices)} spans in a text; at most {SPANS} are read."
            )
        return {(start, last + 1, self.labels[kind]) for kind, start, last in indices.tolist()}

    @staticmethod
    def in_text(spans: Iterable[tuple[int, int, str]], item: Encoded) -> list[tuple[int, int, str]]:
        """Converts spans of tokens to sorted spans of characters, without special tokens."""
        words = [start < end for start, end in item.offsets]
        return sorted(
            (item.offsets[start][0], item.offsets[end - 1][1], kind)
            for start, end, kind in spans
            if start < end and words[start] and words[end - 1]
        )


def bare_model(model):
    """Returns a model of its own, as `Pipeline` compiles it, of token ids and segment ids.

    Raises:
        UnsupportedTask: the model has other inputs.
    """
    if len(model.inputs) > 2:
        names = ", ".join(x.name for x in model.inputs)
        raise UnsupportedTask(f"the model takes {names}; expected token ids and segment ids.")
    return keras.Model(model.inputs, model.output)


def filler_of(model):
    """Returns the id that pads the texts of a batch; None: the outputs might depend on padding.

    Layers outside the blocks may use padding: it is added only if no layer does, or if the model
    was trained with it (fixed length).
    """
    fixed = model.inputs[0].shape[1] is not None
    pad_ids = {table.pad_token_id for table in token_tables(model)}
    filler = pad_ids.pop() if len(pad_ids) == 1 else -1
    return filler if filler >= 0 and (fixed or ignores_padding(model, filler)) else None


def positions_of(model):
    """Returns the maximum number of tokens that a tagger has positions for; None: no maximum."""
    tables = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, layers.PositionEmbedding) and layer.name.endswith("position_embedding")
    ]
    rows = [x.input_dim ** (2 if x.alpha else 1) for x in tables]
    limits = [x.limit for x in model._flatten_layers() if isinstance(x, layers.Positions)]
    return min((most for most in rows + limits if most is not None), default=None)


def ignores_padding(model, pad_token_id):
    """Returns whether a tagger's outputs for tokens are known not to depend on padding.

    This is so if every layer is known to respect the mask or to process each token separately.
    """
    stack, seen = [origin(x) for x in model.outputs], set()
    while stack:
        operation = stack.pop()
        if operation is None or operation in seen:
            continue
        if not respects_mask(operation, pad_token_id):
            return False
        seen.add(operation)
        for node in operation._inbound_nodes:  # masks are not computed by layers
            values = {k: v for k, v in node.arguments.kwargs.items() if k != "mask"}
            stack += map(origin, keras.tree.flatten((node.arguments.args, values)))
    return True


def respects_mask(operation, pad_token_id):
    """Returns whether an operation's output for a token is known not to depend on padding."""
    cls, calls = type(operation), [node.arguments.kwargs for node in operation._inbound_nodes]
    if cls in (layers.TokenEmbedding, layers.AttentionBias):
        return operation.pad_token_id == pad_token_id
    if cls is layers.TransformerBlock:
        return all(isinstance(origin(call.get("bias")), layers.AttentionBias) for call in calls)
    if type(operation).__name__ == "GetItem":  # of the first token
        keys = [node.arguments.args[1] for node in operation._inbound_nodes]
        return all(isinstance(key, list | tuple) and [*key] == [slice(None), 0] for key in keys)
    if cls in RECURRENT:
        # Bidirectional reorders the states of its backward layer, so its forward layer is checked
        forward = getattr(operation, "forward_layer", operation)
        return not forward.go_backwards and all(call.get("mask") is not None for call in calls)
    if cls in TOKEN_BY_TOKEN:
        last_axis = np.ravel(getattr(operation, "axis", -1)).tolist() in ([-1], [2])
        return last_axis and is_activation(getattr(operation, "activation", "linear"))
    return cls in MASKED


def is_activation(function):
    """Returns whether a function, or its name, is an activation of Keras or of this toolkit."""
    name = getattr(function, "__name__", "")
    return isinstance(function, str) or getattr(keras.activations, name, None) is function


def origin(tensor):
    """Returns the operation that computes a tensor of a graph; None for other values."""
    return tensor._keras_history.operation if isinstance(tensor, keras.KerasTensor) else None


def check_logits(logits):
    """Returns the logits if all are finite or minus infinity (impossible tags).

    Raises:
        InvalidOutput: some are NaN or plus infinity.
    """
    finite(logits[logits != -np.inf])
    return logits
