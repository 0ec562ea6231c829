"""Fill-mask: the tokens that a masked language model predicts at each `[MASK]`."""

from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np
from keras import ops

from ..arguments import MOST, check_number
from ..data import sequence_padding
from ..loading import transformer_of
from ..parsing import shown
from ..tokenizers import TokenizerBase
from ..tokenizers.added import AddedToken, Finder, parts
from .base import (
    EXAMPLE,
    InvalidRequest,
    Pipeline,
    UnsupportedTask,
    encoder_of,
    finite,
    longest_of,
    padding_of,
    power_of_two,
)

if TYPE_CHECKING:
    from ..models import Transformer

__all__ = ["FillMask", "fill_mask"]


def fill_mask(
    model: "keras.Model | Transformer",
    tokenizer: TokenizerBase,
    texts: str | list[str],
    top_k: int = 5,
    batch_size: int = 32,
) -> list:
    """Predicts the tokens at each `[MASK]` of texts.

    For many calls keep a `FillMask`, whose model is compiled once.

    Args:
        model: a model of `build_transformer_model` with a masked-language-model head
            (`with_mlm=True`), or its `Transformer`.
        tokenizer: the `Tokenizer` of the model.
        texts: a text or a list of texts, with the tokenizer's mask token where a token is to be
            predicted.
        top_k: number of candidates for each mask; default 5.
        batch_size: maximum number of texts in a forward pass; default 32.

    Returns:
        For each text a list with the candidates for each mask: a list of `(token, probability)`,
        most likely first. For a single text, its list.

    Raises:
        TypeError: `texts` is neither a string nor a list.
        ValueError: the model has no masked-language-model head or is causal, a text has no mask or
            too many tokens, or the model's output is not finite.

    Example:
        >>> model = build_transformer_model("tiny-zh", with_mlm=True)
        >>> fill_mask(model, load_tokenizer("tiny-zh"), "今天[MASK]气真好")[0][0]  # ("天", 0.9...)
    """
    return FillMask(model, tokenizer, top_k)(texts, batch_size)


class Masked(NamedTuple):
    """A tokenized text with masks.

    Attributes:
        text, ids: see `Encoded`.
        positions: positions of the masks among the tokens.
    """

    text: str
    ids: list
    positions: list


class FillMask(Pipeline):
    """Predicts the tokens at each [MASK] of a text.

    Args:
        model, tokenizer: see `fill_mask`.
        top_k: number of candidates for each mask; default 5.
        most_masks: maximum number of masks in a text; None (default): no maximum.

    Raises:
        UnsupportedTask: the model is causal or has no language-model head, or the tokenizer has no
            mask token of its own.
    """

    def __init__(
        self,
        model: "keras.Model | Transformer",
        tokenizer: TokenizerBase,
        top_k: int = 5,
        most_masks: int | None = None,
    ) -> None:
        check_number("top_k", top_k, 1, MOST)
        self.top_k, self.most_masks = top_k, most_masks
        transformer = transformer_of(model)
        c = transformer.config
        if c.stacks != "one" or c.attend == "lm":
            raise UnsupportedTask(
                f"{c.family}: fill-mask needs a bidirectional model of one stack, such as BERT."
            )
        if not c.with_lm:
            raise UnsupportedTask(f"{c.family}: the model has no masked-language-model head.")
        mask = tokenizer.token_mask
        if mask is None or tokenizer.token_mask_id is None:
            raise UnsupportedTask(f"the vocabulary has no mask token ({shown(mask)}).")
        if others := tokenizer.other_uses_of_mask():
            raise UnsupportedTask(
                f"{shown(mask)} is not for masks alone: it is the tokenizer's token_{others[0]}."
            )
        self.finder = Finder({mask: tokenizer.added_tokens.get(mask, AddedToken(mask))})
        self.example = f"{mask} {EXAMPLE}"
        states = encoder_of(transformer).output
        # logits of the vocabulary are computed at the masks only
        positions = keras.Input((most_masks,), dtype="int32", name="places")
        states = ops.take_along_axis(states, ops.expand_dims(positions, -1), axis=1)
        logits = transformer.token_logits(states)
        probs = keras.layers.Softmax(dtype="float32")(logits)
        filled = keras.Model([*transformer.inputs, positions], probs)
        filler = padding_of(transformer, tokenizer)
        super().__init__(filled, tokenizer, longest_of(transformer), filler)

    def prepare(self, text: str) -> Any:
        t = self.tokenizer
        masks = self.finder.find(text)
        if not 1 <= len(masks) <= (self.most_masks or len(masks)):
            expected = f"1 to {self.most_masks}" if self.most_masks else "at least 1"
            raise InvalidRequest(
                f"{len(masks)} times {t.token_mask:.200}; expected {expected}, each where a token "
                "is to be predicted."
            )
        start = [] if t.token_start is None else [t.token_start_id]
        end = [] if t.token_end is None else [t.token_end_id]
        ids, positions = [*start], []
        for begin, stop, mask in parts(text, masks):
            row = t.encode(text[begin:stop])[0]
            positions += [len(ids)] if mask else []
            ids += [t.token_mask_id] if mask else row[len(start) : len(row) - len(end)]
        return Masked(text, self.checked_ids([*ids, *end]), positions)

    def predicted(self, items: list) -> Any:
        rows = [item.positions for item in items]
        padded = sequence_padding(rows, self.most_masks or power_of_two(max(map(len, rows))))
        return self.outputs([item.ids for item in items], self.length_of(items), padded)

    def answer(self, item: Any, probs: np.ndarray) -> list[list[tuple[str, float]]]:
        return [self.candidates(row) for row in finite(probs[: len(item.positions)])]

    def candidates(self, probs: np.ndarray) -> list[tuple[str, float]]:
        """Returns `(token, probability)` of the most likely tokens, best first."""
        probs = probs[: self.tokenizer.vocab_size]  # the model may have more rows than tokens
        count = min(self.top_k, len(probs))
        best = np.argpartition(-probs, count - 1)[:count]
        best = best[np.argsort(-probs[best], kind="stable")]
        return [(self.tokenizer.id_to_token(int(i)), float(probs[i])) for i in best]
