"""`bert4keras.tokenizers`: the tokenizers, with the defaults of bert4keras."""

from collections.abc import Sequence
from typing import Any

from .. import tokenizers
from ..tokenizers import SpTokenizer, TokenizerBase
from ..types import PathLike

__all__ = ["SpTokenizer", "Tokenizer", "TokenizerBase", "load_vocab", "save_vocab"]


class Tokenizer(tokenizers.Tokenizer):
    """`tokenizers.Tokenizer`, which does not lower-case by default.

    A vocabulary may lack the special tokens, if a script sets `_token_unk_id`: then they have that
    id.
    """

    def __init__(self, token_dict: Any, do_lower_case: bool = False, **kwargs: Any) -> None:
        vocabulary = token_dict if isinstance(token_dict, dict) else load_vocab(token_dict)
        self._options = {"do_lower_case": do_lower_case, **kwargs}
        specials = ["[UNK]", kwargs.get("token_start", "[CLS]"), kwargs.get("token_end", "[SEP]")]
        self._lacks = [t for t in specials if t is not None and t not in vocabulary]
        unknown = vocabulary.get("[UNK]", 0)
        super().__init__({**dict.fromkeys(self._lacks, unknown), **vocabulary}, **self._options)
        self._vocabulary = vocabulary
        self._knows_unknown = "[UNK]" in vocabulary

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_token_unk_id" and getattr(self, "_vocabulary", None) is not None:
            lacks = dict.fromkeys(["[UNK]", *self._lacks], value)
            vocabulary = self._vocabulary
            self._vocabulary = None
            super().__init__({**lacks, **vocabulary}, **self._options)
            self._vocabulary, self._knows_unknown = vocabulary, True
            return
        super().__setattr__(name, value)

    def token_to_id(self, token: str) -> int:
        """Returns the id of a token; see `encode`."""
        self._require_unknown()
        return super().token_to_id(token)

    def encode(self, *args: Any, **kwargs: Any) -> tuple:
        """Returns the ids of tokens and segments of one or two texts.

        Raises:
            ValueError: there is no `[UNK]`, and `_token_unk_id` was not set.
        """
        self._require_unknown()
        return super().encode(*args, **kwargs)

    def _require_unknown(self):
        if not self._knows_unknown:
            raise ValueError(
                "[UNK] is not in the vocabulary: set tokenizer._token_unk_id to the id of unknown"
                " tokens, or add it."
            )

    @staticmethod
    def stem(token: str) -> str:
        """Returns a token without the `##` that marks a continued word."""
        return token.removeprefix("##")


def load_vocab(
    dict_path: PathLike,
    encoding: str = "utf-8",
    simplified: bool = False,
    startswith: Sequence[str] | None = None,
) -> Any:
    """See `tokenizers.load_vocab`."""
    return tokenizers.load_vocab(dict_path, encoding, simplified, startswith)


def save_vocab(dict_path: PathLike, token_dict: dict[str, int], encoding: str = "utf-8") -> None:
    """See `tokenizers.save_vocab`."""
    tokenizers.save_vocab(dict_path, token_dict, encoding)
