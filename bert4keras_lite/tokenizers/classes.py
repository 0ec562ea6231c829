"""The tokenizer classes of transformers whose rules are known: a row of a table for each."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .splitting import GPT2, QWEN
from .words import jieba_words

__all__ = ["ALGORITHMS", "ROWS", "TokenizerClass", "row_of"]


@dataclass(frozen=True)
class TokenizerClass:
    """Rules of a tokenizer class that its vocabulary files do not contain.

    Attributes:
        algorithm: an item of `ALGORITHMS`.
        classes: pattern of the names that transformers gives the class, without `Fast`.
        names: dict argument of our tokenizer -> Hugging Face's name of the special token.
        model_types: pattern of the `model_type` that counts if no class is named. Default: none.
        specials: dict Hugging Face's name -> the special token that the class has by default; if
            `by_file`, only if the file adds this token.
        options: other arguments of our tokenizer.
        renamed: dict token of the vocabulary file -> Hugging Face's name of the special token that
            the class puts into its place.
        values: dict setting of `tokenizer_config.json` -> its values that change nothing for this
            class, in addition to those that hold for all.
        model_file: name of the vocabulary file that no other class has. Default: none.
        by_file: whether all rules stand in `tokenizer.json`, which then must exist.
    """

    algorithm: str
    classes: str
    names: Mapping[str, str]
    model_types: str = "(?!)"
    specials: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, tuple] = field(default_factory=dict)
    model_file: str = ""
    by_file: bool = False


_OTHERS = {"token_mask": "mask_token", "token_unk": "unk_token", "token_pad": "pad_token"}
_AROUND = {"token_start": "cls_token", "token_end": "sep_token"}
_PIECES = {"token_mask": "mask_token", "token_pad": "pad_token"}  # the model has `token_unk`
# fairseq puts the end token twice between two texts, and has no segments
_PAIR = {"token_second": "sep_token"}
_FAIRSEQ = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "cls_token": "<s>",
    "mask_token": "<mask>",
}
_BY_FILE = r"PreTrainedTokenizer|PythonBackend|TokenizersBackend"

# The first row of an algorithm counts for vocabulary files without any other.
ROWS = (
    TokenizerClass(
        "WordPiece",
        r"(Bert|ConvBert|DistilBert|Electra|Ernie|LayoutLM|Lxmert|MegatronBert|MobileBert|Nezha|"
        r"Realm|Retribert|RetriBert|RoFormer|SqueezeBert)Tokenizer",
        _AROUND | _OTHERS,
        model_types=r"(?!(funnel|mpnet|bert-japanese|canine|pegasus)$).*",
        specials={
            "sep_token": "[SEP]",
            "pad_token": "[PAD]",
            "cls_token": "[CLS]",
            "mask_token": "[MASK]",
        },
    ),
    TokenizerClass("WordPiece", _BY_FILE, _AROUND | _OTHERS, by_file=True),
    # a script of IDEA-CCNL has the name of transformers' class, whose file is of sentencepiece
    TokenizerClass(
        "WordPiece",
        r"PegasusTokenizer",
        {"token_end": "eos_token"} | _OTHERS,
        model_types=r"pegasus",
        specials={
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "pad_token": "<pad>",
            "mask_token": "<mask_2>",
            "mask_token_sent": "<mask_1>",
        },
        options={"token_start": None, "pre_tokenize": jieba_words, "word_maxlen": 100},
        renamed={
            "[PAD]": "pad_token",
            "[UNK]": "unk_token",
            "[unused1]": "eos_token",
            "[unused2]": "mask_token_sent",
            "[unused3]": "mask_token",
        },
        values={"mask_token_sent": ("<mask_1>",), "offset": (100,)},
    ),
    TokenizerClass(
        "byte-level BPE",
        r"GPT2Tokenizer|GPTNeoTokenizer",
        _OTHERS,
        model_types=r"gpt2",
        specials={"eos_token": "<|endoftext|>"},
        options={"patterns": (GPT2,), "normal_form": None},
    ),
    TokenizerClass(
        "byte-level BPE",
        r"RobertaTokenizer",
        _AROUND | _PAIR | _OTHERS,
        model_types=r"roberta",
        specials=_FAIRSEQ,
        options={
            "patterns": (GPT2,),
            "normal_form": None,
            "second_segment": 0,
            "trim_offsets": True,
        },
        values={"trim_offsets": (True,)},
    ),
    TokenizerClass(
        "byte-level BPE",
        r"Qwen2Tokenizer",
        _OTHERS,
        model_types=r"qwen[23](_moe)?",
        specials={
            "eos_token": "<|endoftext|>",
            "unk_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
        },
        options={"patterns": (QWEN,), "normal_form": "NFC"},
    ),
    TokenizerClass(
        "byte-level BPE",
        rf"{_BY_FILE}|LlamaTokenizer",
        _OTHERS,
        specials={
            "mask_token": "<mask>",
            "unk_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
        },
        by_file=True,
    ),
    TokenizerClass(
        "sentencepiece",
        r"T5Tokenizer|MT5Tokenizer|CpmTokenizer",
        {"token_end": "eos_token"} | _PIECES,
        model_types=r"bert|u?mt5.*|t5.*|gpt.*|cpm.*|pangu.*",
    ),
    TokenizerClass(
        "sentencepiece",
        r"XLMRobertaTokenizer",
        _AROUND | _PAIR | _PIECES,
        model_types=r"xlm-roberta",
        specials=_FAIRSEQ,
        options={"layout": "fairseq", "second_segment": 0, "trim_offsets": True},
        values={"add_prefix_space": (True,)},
        model_file="sentencepiece.bpe.model",
    ),
    TokenizerClass(
        "sentencepiece",
        _BY_FILE,
        {"token_end": "eos_token"} | _PIECES,
        options={"trim_offsets": True},
        by_file=True,
    ),
)
ALGORITHMS = tuple(dict.fromkeys(row.algorithm for row in ROWS))


def row_of(algorithm, name, model_type, model_file, has_json_file):
    """Returns the `TokenizerClass` of a checkpoint, or None if its rules are not known.

    Args:
        algorithm: an item of `ALGORITHMS`.
        name: the name of the class in the files, or None.
        model_type: that of `config.json`, or None; it counts only if no class is named.
        model_file: name of the vocabulary file, or None.
        has_json_file: whether there is a `tokenizer.json`.
    """
    rows = [r for r in ROWS if r.algorithm == algorithm and (has_json_file or not r.by_file)]
    if name:
        return _first(row for row in rows if _matches(rf"({row.classes})(Fast)?", name))
    by_file = _first(row for row in rows if row.by_file)
    by_type = _first(row for row in rows if _matches(row.model_types, model_type or ""))
    if by_type or model_type:
        return by_type or by_file
    return _first(row for row in rows if model_file == row.model_file) or by_file or rows[0]


def _matches(pattern, name):
    return re.fullmatch(pattern, name, re.DOTALL)


def _first(rows):
    return next(iter(rows), None)
