"""Picks the tokenizer of a checkpoint by the files beside it."""

import json
import re
from pathlib import Path

from ..hub import local_directory
from .byte_bpe import ByteBPETokenizer
from .sentencepiece import CpmTokenizer, SpTokenizer
from .wordpiece import Tokenizer, load_vocab
from .words import jieba_words

_LOOKED_FOR = (
    "vocab.txt (WordPiece), vocab.json with merges.txt or encoder.json with vocab.bpe (byte-level"
    " BPE), spiece.model, sentencepiece.model or another *.model (sentencepiece), tokenizer.json"
)
# Words of two or more Chinese characters; capitalized words, which lower-cased text never yields
_CHINESE_WORD = re.compile("[\u4e00-\u9fff]{2,}")
_CAPITALIZED = re.compile("[A-Z][a-z]+")


def _find(folder, *patterns):
    """The file of a folder that fits the first pattern that any file fits, or None."""
    for pattern in patterns:
        found = sorted(path for path in folder.glob(pattern) if path.is_file())
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise ValueError(
                f"{folder} holds several files of one kind ({names}); give the right one to"
                " Tokenizer, SpTokenizer or ByteBPETokenizer"
            )
        if found:
            return found[0]
    return None


def _read_json(path):
    """The contents of a JSON file; an empty dict if there is none."""
    if path is None or not path.is_file():
        return {}
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error})") from None


def _many(pattern, token_dict):
    """Whether more than one token in a hundred fits a pattern: not a few strays."""
    return sum(map(bool, map(pattern.fullmatch, token_dict))) > len(token_dict) / 100


def _wordpiece(token_dict, settings, options):
    found = {"do_lower_case": settings.get("do_lower_case", not _many(_CAPITALIZED, token_dict))}
    if _many(_CHINESE_WORD, token_dict):
        found["pre_tokenize"] = jieba_words
    elif "[speaker1]" in token_dict:
        found["pre_tokenize"] = list
    return Tokenizer(token_dict, **{**found, **options})


def _sentencepiece(path, folder, settings, options):
    found = {}
    if keep_tokens := _find(folder, "*keep_tokens*.json"):
        found["keep_tokens"] = _read_json(keep_tokens)
    plain = SpTokenizer(path, token_end=None)
    has = plain.is_known
    if has("▂") or str(settings.get("tokenizer_class")).startswith("Cpm"):
        return CpmTokenizer(path, **{**found, **options})
    if has("[CLS]") and has("[SEP]"):
        found |= {"token_start": "[CLS]", "token_end": "[SEP]"}
    elif not has("</s>"):
        found["token_end"] = None
    config = _read_json(folder / "config.json")
    # T5's 100 sentinels are in no file; its table has room for them.
    has_room = config.get("vocab_size", 0) >= plain.vocab_size + 100
    is_t5 = config.get("model_type") == "t5" and has_room and not has("<extra_id_0>")
    found["extra_ids"] = settings.get("extra_ids", 100 if is_t5 else 0)
    return SpTokenizer(path, **{**found, **options})


def _from_tokenizer_json(path, settings, options):
    """WordPiece or byte-level BPE out of Hugging Face's one-file format."""
    content = _read_json(path)
    model, normalizer = content.get("model") or {}, content.get("normalizer") or {}
    if model.get("type") == "WordPiece":
        lower = normalizer.get("lowercase")
        settings = settings if lower is None else {"do_lower_case": lower, **settings}
        return _wordpiece(model["vocab"], settings, options)
    if model.get("type") == "BPE" and "ByteLevel" in json.dumps(content.get("pre_tokenizer")):
        merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        added = {token["content"]: token["id"] for token in content.get("added_tokens", [])}
        return ByteBPETokenizer({**model["vocab"], **added}, merges, **options)
    raise ValueError(
        f"{path}: expected a model of type WordPiece or byte-level BPE, got {model.get('type')!r};"
        " put the file that it was made of beside it, e.g. spiece.model"
    )


def load_tokenizer(directory, **options):
    """The tokenizer of a checkpoint, by the files in its directory.

    | files | tokenizer |
    |---|---|
    | `vocab.txt`, or the only `*vocab*.txt` | `Tokenizer` |
    | `merges.txt` or `vocab.bpe`, with `vocab.json`, `encoder.json` or `vocab.txt` | `ByteBPETokenizer` |
    | `spiece.model`, `sentencepiece.model`, or the only `*.model` | `SpTokenizer` |
    | the same with a piece `▂`, or `CpmTokenizer` in `tokenizer_config.json` | `CpmTokenizer` |
    | `tokenizer.json` and none of these | `Tokenizer` or `ByteBPETokenizer` |

    What else it finds out:

    - `do_lower_case` is that of `tokenizer_config.json`. Without one, text is lower-cased
      unless over 1 % of the vocabulary are capitalized words (`The`).
    - A WordPiece vocabulary of which over 1 % are Chinese words of several characters (WoBERT,
      WoNEZHA, word-level RoFormer, T5-PEGASUS) gets `pre_tokenize=jieba_words`. The
      vocabularies of characters have none at all.
    - One with `[speaker1]` (CDial-GPT) gets `pre_tokenize=list`: English in single letters.
    - `*keep_tokens*.json` gives `keep_tokens`.
    - `extra_ids`, the number of T5's sentinels, is that of `tokenizer_config.json`; without
      one, 100 if `config.json` says `t5` and its `vocab_size` has room for them.

    Args:
        directory: the directory of the checkpoint, or the name of a model on a hub.
        **options: arguments of the tokenizer; they go before what is found.

    Returns:
        A `Tokenizer`, `SpTokenizer`, `CpmTokenizer` or `ByteBPETokenizer`.

    Raises:
        ValueError: no tokenizer's files, or those of several.

    Example:
        >>> tokenizer = load_tokenizer("chinese_roberta_wwm_ext_L-12_H-768_A-12")
    """
    folder = Path(local_directory(directory))
    if not folder.is_dir():
        raise ValueError(f"{folder} is no directory; expected one with {_LOOKED_FOR}")
    merges = _find(folder, "merges.txt", "vocab.bpe", "*merges*.txt", "*.bpe")
    json_vocab = _find(folder, "vocab.json", "encoder.json") if merges else None
    vocab = _find(folder, "vocab.txt", "*vocab*.txt")
    model = _find(folder, "spiece.model", "sentencepiece.model", "*.model")
    settings = _read_json(folder / "tokenizer_config.json")

    if merges and not json_vocab:
        json_vocab, vocab = vocab, None
        if json_vocab is None:
            raise ValueError(f"{merges} needs vocab.json, encoder.json or vocab.txt beside it")
    kinds = [path for path in (merges, vocab, model) if path]
    if len(kinds) > 1:
        names = " and ".join(path.name for path in kinds)
        raise ValueError(
            f"{folder} holds the files of several tokenizers ({names}); give the right one to"
            " Tokenizer (vocab.txt), ByteBPETokenizer (merges) or SpTokenizer (*.model)"
        )
    if merges:
        return ByteBPETokenizer(json_vocab, merges, **options)
    if vocab:
        return _wordpiece(load_vocab(vocab), settings, options)
    if model:
        return _sentencepiece(model, folder, settings, options)
    if one_file := _find(folder, "tokenizer.json"):
        return _from_tokenizer_json(one_file, settings, options)
    raise ValueError(f"{folder} holds no tokenizer; looked for {_LOOKED_FOR}")
