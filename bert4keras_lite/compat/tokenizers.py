"""`bert4keras.tokenizers`: the tokenizers, with the defaults of bert4keras."""

from collections.abc import Sequence
from typing import Any

from .. import tokenizers
from ..tokenizers import SpTokenizer, TokenizerBase
from ..types import PathLike

__all__ = ["SpTokenizer", "Tokenizer", "TokenizerBase", "load_vocab", "save_vocab"]


class Tokenizer(tokenizers.Tokenizer):
    """`tokenizers.Tokenizer`, which does not lower-case by default."""

    def __init__(self, token_dict: Any, do_lower_case: bool = False, **kwargs: Any) -> None:
        super().__init__(token_dict, do_lower_case, **kwargs)

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
