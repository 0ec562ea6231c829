"""Makes `tokenizers_files.json`: ids of directories as transformers reads them.

Each case is a directory of files, written by `write_case` here and in the test. The ids of the 300
lines of `odd_lines.py` stand in the golden file, for vocabularies that are made of them or stand
in `tokenizers_subword.json`. Where the shared vocabularies and data sets are, hashes of the ids of
10,000 real lines are frozen too, a hash for every hundred lines; they hold none of that text.

    python -m goldens.make_tokenizers_files        # in tests, with each of the two versions

With transformers 5.23.0 (tokenizers 0.23.3, jieba 0.42.1, sentencepiece 0.2.3) it makes the cases
whose reference is `AutoTokenizer`; with transformers 4.49.0 those of the slow tokenizers of T5,
which call sentencepiece itself, as ours do. transformers 5 has none of these: it cuts at white
space first, knows no byte fallback, and so differs.

`calls` has hashes of ids, segments and offsets, of texts and of pairs of neighbouring lines, for
the cases of transformers 5. `differing` lists the lines of XLM-R that sentencepiece itself, with
which the model was trained, cuts into other pieces than `tokenizers` does: two cuts have the same
sum of scores (10,000 real lines have two such ones), or characters are replaced at other
boundaries. These lines are empty in the golden file.

What is not transformers':

- CPM's directories are read by CPM's own rule (`data_utils/tokenization_gpt2.py` of
  TsinghuaAI/CPM-1-Generate), three lines below. transformers strips accents and newlines that CPM
  was trained with, and appends `<sep><cls>`.
- Words by jieba are WoBERT's own rule, in bert4keras 0.11.5 (installed beside transformers 4).
  RoFormer's tokenizer in transformers 4 cuts before it lower-cases, with the dictionary of rjieba;
  the one in transformers 5.23.0 looks the words up in the path of the vocabulary file.
"""

import base64
import hashlib
import json
import sys
import tempfile
import unicodedata
from array import array
from functools import cache
from pathlib import Path
from unittest.mock import MagicMock

from bert4keras_lite.protobuf import encode_field, read_fields

from .make_tokenizers_subword import words_vocab
from .odd_lines import ADDED, LINES

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[2] / "shared"
GOLDEN = HERE / "tokenizers_files.json"
DATA = (
    "ape210k/valid.ape.json",
    "classical_modern/pairs.tsv",
    "cluener/dev.json",
    "couplets_test/in.txt",
    "lcqmc_dev_test/dev.txt",
    "lm_cluecorpus_sample/CLUECorpusSmall_sampled.txt",
    "lm_laws/text.txt",
    "poetry/song_ci.jsonl",
    "smp2020_ewect/usual_dev.tsv",
    "thucnews_titles/dev.txt",
)
BLOCK = 100
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
OTHER_SPECIALS = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
NAMES = ["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"]
FLAGS = {
    "</e>": {"special": True, "normalized": False},
    "<e>": {"normalized": False},
    "<e>!": {"normalized": False},
    "<l>": {"lstrip": True, "normalized": False},
    "<r>": {"rstrip": True, "normalized": False},
    "Qux": {"single_word": True},
}


@cache
def real_lines():
    """10,000 lines of ten data sets, none longer than 100 characters."""
    texts = [(SHARED / "data" / name).read_text("utf-8") for name in DATA]
    return [line[:100] for text in texts for line in text.split("\n")[:1000]]


def hashed(rows):
    """A short SHA-256 of the numbers of each block of rows."""
    hashes = []
    for start in range(0, len(rows), BLOCK):
        digest = hashlib.sha256()
        for row in rows[start : start + BLOCK]:
            digest.update(array("i", [len(row), *row]))
        hashes.append(digest.hexdigest()[:8])
    return hashes


# Vocabularies


def _odd_vocab(specials):
    """Tokens for the odd lines: their characters, alone and within words, and some pieces."""
    raw = "".join(LINES).replace("\ufffd", "")
    chars = set(raw) | set(unicodedata.normalize("NFD", raw.lower()))
    chars = sorted(char for char in chars if char.isprintable() and not char.isspace())
    pieces = ["ab", "##ab", "##cd", "##bc", "今天", "好", "new", "york", "qux", "##er", "##天气"]
    tokens = [*specials, *chars[::7], *chars, *(f"##{char}" for char in chars[::2]), *pieces]
    known = dict.fromkeys(tokens)
    for unknown in chars[3::11]:
        known.pop(unknown)
    return {token: i for i, token in enumerate(known)}


def _real_vocab(name, specials=SPECIALS):
    """The dict of a shared vocabulary, with its special tokens renamed."""
    lines = (SHARED / "tokenizers" / name).read_text("utf-8").rstrip("\n").split("\n")
    renamed = dict(zip(SPECIALS, specials, strict=True))
    return {renamed.get(token, token): i for i, token in enumerate(lines)}


class Odd:
    """Small vocabularies, for the odd lines."""

    small = json.loads((HERE / "tokenizers_subword.json").read_text("utf-8"))

    def wordpiece(self, specials):
        return _odd_vocab(specials)

    def words(self):
        return _odd_vocab(SPECIALS)

    def bpe(self):
        return self.small["bpe"]

    def model(self, name):
        return base64.b64decode(self.small["models"][name])


class Real:
    """The shared vocabularies, for real lines."""

    def wordpiece(self, specials):
        return _real_vocab("bert_chinese_vocab/vocab.txt", specials)

    def words(self):
        return words_vocab(self.wordpiece(SPECIALS))

    def bpe(self):
        folder = SHARED / "tokenizers/gpt2_openai"
        lines = (folder / "vocab.bpe").read_text("utf-8").split("\n")[1:]
        vocab = json.loads((folder / "encoder.json").read_text("utf-8"))
        return {"vocab": vocab, "merges": [line.split() for line in lines if line]}

    def model(self, name):
        path = {
            "t5": "xlnet_chinese/spiece.model",
            "mt5": "mt5_cn/sentencepiece_cn.model",
            "cpm_new": "cpm/chinese_vocab.model",
        }[name]
        return (SHARED / "tokenizers" / path).read_bytes()


# Directories


def _added(rows):
    """The added tokens by id, from `rows` on, with all their flags."""
    return {
        str(rows + i): {
            "content": token,
            "lstrip": False,
            "rstrip": False,
            "single_word": False,
            "normalized": True,
            "special": False,
            **FLAGS.get(token, {}),
        }
        for i, token in enumerate(ADDED)
    }


def _one_file(model, parts, added, specials):
    """The contents of a `tokenizer.json`; parts are normalizer, pre-tokenizer, decoder."""
    vocab = model["vocab"]
    listed = [
        {"id": vocab[t], **_added(0)["0"], "content": t, "normalized": False, "special": True}
        for t in specials
    ]
    listed += [{"id": int(i), **token} for i, token in added.items()]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": listed} | {
        **parts,
        "model": model,
    }


def _bert(vocab, config=None, **files):
    lines = sorted(vocab, key=vocab.get)
    return {
        "config.json": {"model_type": "bert"},
        "tokenizer_config.json": {"tokenizer_class": "BertTokenizer", **(config or {})},
        "vocab.txt": "".join(f"{token}\n" for token in lines),
        **files,
    }


def _bert_one_file(vocab):
    parts = {
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
            ],
            "pair": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 1}},
            ],
            "special_tokens": {
                t: {"id": t, "ids": [vocab[t]], "tokens": [t]} for t in ("[CLS]", "[SEP]")
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
    }
    model = {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": vocab,
    }
    return {
        "config.json": {"model_type": "bert"},
        "tokenizer.json": _one_file(model, parts, _added(len(vocab)), SPECIALS),
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"},
    }


def _gpt2(bpe, config=None, **files):
    merges = [" ".join(pair) for pair in bpe["merges"]]
    return {
        "config.json": {"model_type": "gpt2"},
        "tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer", **(config or {})},
        "vocab.json": bpe["vocab"],
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
        **files,
    }


def _gpt2_one_file(bpe):
    parts = {
        "normalizer": None,
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": True,
        },
        "post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True},
    }
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "vocab": bpe["vocab"],
        "merges": [" ".join(pair) for pair in bpe["merges"]],
    }
    end = "<|endoftext|>"
    return {
        "config.json": {"model_type": "gpt2"},
        "tokenizer.json": _one_file(model, parts, _added(len(bpe["vocab"])), [end]),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": end,
            "bos_token": end,
            "eos_token": end,
        },
    }


def _t5(model, config=None, **files):
    return {
        "config.json": {"model_type": "t5"},
        "tokenizer_config.json": {
            "tokenizer_class": "T5Tokenizer",
            "extra_ids": 0,
            **(config or {}),
        },
        "spiece.model": model,
        **files,
    }


# What published files of RoBERTa, Qwen, Llama 3, ModernBERT, XLM-R and BGE-M3 have
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA_PATTERN = QWEN_PATTERN.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)
FAIRSEQ = ["<s>", "<pad>", "</s>", "<unk>"]
MASK = {
    "__type": "AddedToken",
    "content": "<mask>",
    "lstrip": True,
    "rstrip": False,
    "single_word": False,
    "normalized": False,
}
GENERIC = {"tokenizer_class": "PreTrainedTokenizerFast"}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}


def _with_fairseq(bpe):
    """The vocabulary of a byte-level BPE after the four tokens of fairseq, and with `<mask>`."""
    tokens = [token for token in bpe["vocab"] if token != "<|endoftext|>"]
    return {
        "vocab": {token: i for i, token in enumerate([*FAIRSEQ, *tokens, "<mask>"])},
        "merges": bpe["merges"],
    }


def _roberta(bpe):
    config = {"tokenizer_class": "RobertaTokenizer", "mask_token": MASK}
    return _gpt2(_with_fairseq(bpe), config)


def _bpe_one_file(bpe, specials, parts, config=None, ignore_merges=False):
    """A directory with a `tokenizer.json` alone, whose special tokens follow the vocabulary."""
    vocab = dict(bpe["vocab"])
    new = [token for token in specials if token not in vocab]
    ids = vocab | {token: len(vocab) + i for i, token in enumerate(new)}
    flags = _added(0)["0"]
    added = [
        {"id": ids[token], **flags, "normalized": False, "special": True, **how, "content": token}
        for token, how in specials.items()
    ]
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": ignore_merges,
        "vocab": vocab,
        "merges": [list(pair) for pair in bpe["merges"]],
    }
    content = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added}
    parts = {"decoder": BYTE_LEVEL, **parts(ids)}
    return {
        "config.json": {},
        "tokenizer.json": {**content, **parts, "model": model},
        "tokenizer_config.json": {**GENERIC, **(config or {})},
    }


def _split(pattern):
    return {
        "type": "Sequence",
        "pretokenizers": [
            {
                "type": "Split",
                "pattern": {"Regex": pattern},
                "behavior": "Isolated",
                "invert": False,
            },
            {**BYTE_LEVEL, "use_regex": False},
        ],
    }


def _template(ids, single, pair):
    """A post-processor; each item is a name, and its segment after a colon."""
    tokens = {item.partition(":")[0] for item in single + pair} - {"A", "B"}

    def read(items):
        for item in items:
            name, _, segment = item.partition(":")
            kind = "Sequence" if name in ("A", "B") else "SpecialToken"
            yield {kind: {"id": name, "type_id": int(segment or 0)}}

    return {
        "type": "TemplateProcessing",
        "single": list(read(single)),
        "pair": list(read(pair)),
        "special_tokens": {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in sorted(tokens)},
    }


def _roberta_one_file(bpe):
    def parts(ids):
        return {
            "normalizer": None,
            "pre_tokenizer": {**BYTE_LEVEL, "trim_offsets": True, "use_regex": True},
            "post_processor": {
                "type": "RobertaProcessing",
                "sep": ["</s>", ids["</s>"]],
                "cls": ["<s>", ids["<s>"]],
                "trim_offsets": True,
                "add_prefix_space": False,
            },
        }

    specials = {token: {} for token in FAIRSEQ} | {"<mask>": {"lstrip": True}}
    names = {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>", "pad_token": "<pad>"}
    return _bpe_one_file(_with_fairseq(bpe), specials, parts, names)


QWEN_TOKENS = {
    "<|endoftext|>": {},
    "<|im_start|>": {},
    "<|im_end|>": {},
    "<tool_call>": {"special": False},
}


def _qwen(bpe):
    tokens = [token for token in bpe["vocab"] if token != "<|endoftext|>"]
    vocab = {token: i for i, token in enumerate(tokens)}
    flags = {**_added(0)["0"], "normalized": False, "special": True}
    decoder = {
        str(len(vocab) + i): {**flags, **how, "content": token}
        for i, (token, how) in enumerate(QWEN_TOKENS.items())
    }
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "added_tokens_decoder": decoder,
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "bos_token": None,
        "unk_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
    }
    return _gpt2({"vocab": vocab, "merges": bpe["merges"]}, config)


def _qwen_one_file(bpe):
    parts = {
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": _split(QWEN_PATTERN),
        "post_processor": {**BYTE_LEVEL, "use_regex": False},
    }
    return _bpe_one_file(bpe, QWEN_TOKENS, lambda ids: parts)


def _llama3_one_file(bpe):
    bos = "<|begin_of_text|>"

    def parts(ids):
        template = _template(ids, [bos, "A"], [bos, "A", f"{bos}:1", "B:1"])
        byte_level = {**BYTE_LEVEL, "add_prefix_space": True, "use_regex": True}
        return {
            "normalizer": None,
            "pre_tokenizer": _split(LLAMA_PATTERN),
            "post_processor": {"type": "Sequence", "processors": [byte_level, template]},
        }

    # words that no merges join
    vocab = dict(bpe["vocab"])
    words = [word for word in ("qux", "\u0120York", "bcab") if word not in vocab]
    vocab |= {word: len(vocab) + i for i, word in enumerate(words)}
    bpe = {**bpe, "vocab": vocab}
    end = "<|eot_id|>"
    return _bpe_one_file(bpe, {bos: {}, end: {}}, parts, {"pad_token": end}, ignore_merges=True)


def _modernbert_one_file(bpe):
    around = ["[CLS]", "A", "[SEP]"]

    def parts(ids):
        return {
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {**BYTE_LEVEL, "trim_offsets": True, "use_regex": True},
            "post_processor": _template(ids, around, [*around, "B", "[SEP]"]),
        }

    specials = {token: {} for token in SPECIALS[:4]} | {"[MASK]": {"lstrip": True}}
    specials |= {"Qux": {"normalized": True, "special": False}, "\u00e9t": {"normalized": True}}
    names = dict(zip(NAMES, SPECIALS, strict=True))
    return _bpe_one_file(bpe, specials, parts, names)


def fairseq_model(model):
    """A sentencepiece model that begins like XLM-R's; only pieces of text are kept."""
    pieces, rest = [], b""
    for number, value, start, end in read_fields(model):
        if number != 1:
            rest += b"" if number == 4 else model[start:end]
        elif dict(field[:2] for field in read_fields(value)).get(3, 1) == 1:
            pieces.append(model[start:end])

    def piece(text, kind):
        return encode_field(
            1, encode_field(1, text.encode()) + b"\x15\0\0\0\0" + encode_field(3, kind)
        )

    return b"".join([piece("<unk>", 2), piece("<s>", 3), piece("</s>", 3), *pieces, rest])


def _xlm_roberta(model, **files):
    return {
        "config.json": {"model_type": "xlm-roberta"},
        "tokenizer_config.json": {
            "tokenizer_class": "XLMRobertaTokenizer",
            "mask_token": MASK,
            "model_max_length": 512,
        },
        "sentencepiece.bpe.model": fairseq_model(model),
        **files,
    }


def _scores(model):
    """The pieces and scores of an XLM-R, in the order of its ids."""
    import sentencepiece

    spm = sentencepiece.SentencePieceProcessor(model_proto=fairseq_model(model))
    pieces = [[spm.id_to_piece(i), spm.get_score(i)] for i in range(3, spm.get_piece_size())]
    return [*([token, 0.0] for token in FAIRSEQ), *pieces, ["<mask>", 0.0]]


def _characters(model):
    """How a model replaces characters, as the normalizer of a `tokenizer.json`."""
    settings = b"".join(value for number, value, *_ in read_fields(model) if number == 3)
    found = dict(field[:2] for field in read_fields(settings)).get(2, b"")
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(found).decode()}


def _xlm_roberta_json(model, normalizers, pretokenizers):
    """The `tokenizer.json` of an XLM-R."""
    scores = _scores(model)
    ids = {piece: i for i, (piece, _) in enumerate(scores)}
    flags = {**_added(0)["0"], "normalized": False, "special": True}
    names = [*FAIRSEQ, "<mask>"]
    added = [{"id": ids[t], **flags, "lstrip": t == "<mask>", "content": t} for t in names]
    single, pair = ["<s>", "A", "</s>"], ["<s>", "A", "</s>", "</s>", "B", "</s>"]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [_characters(model), *normalizers]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": pretokenizers},
        "post_processor": _template(ids, single, pair),
        "decoder": METASPACE,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": scores, "byte_fallback": False},
    }


METASPACE = {
    "type": "Metaspace",
    "replacement": "\u2581",
    "prepend_scheme": "always",
    "split": True,
}


def _xlm_roberta_one_file(model):
    content = _xlm_roberta_json(model, [], [{"type": "WhitespaceSplit"}, METASPACE])
    names = {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>", "pad_token": "<pad>"}
    return {
        "config.json": {},
        "tokenizer.json": content,
        "tokenizer_config.json": {**GENERIC, **names},
    }


def _bge_m3(model):
    """A file with other rules for spaces than its class has; those of the class count."""
    spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    content = _xlm_roberta_json(model, [spaces], [METASPACE])
    return _xlm_roberta(model, **{"tokenizer.json": content})


XLM = ("xlm_roberta", "xlm_roberta_one_file", "bge_m3")


def _pieces(model):
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_proto=model).get_piece_size()


def _with_added(make, vocab, rows, **config):
    return make(vocab, {"added_tokens_decoder": _added(rows), **config})


def _ids_of_added(rows):
    return {token: rows + i for i, token in enumerate(ADDED)}


def _specials_map(specials):
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    named = dict(zip(NAMES, specials, strict=True))
    return {**named, "mask_token": {"content": named["mask_token"], **flags}}


# case -> (the reference, the files of its directory)
CASES = {
    "uncased": ("5", lambda v: _bert(v.wordpiece(SPECIALS), {"do_lower_case": True})),
    "cased": ("5", lambda v: _bert(v.wordpiece(SPECIALS), {"do_lower_case": False})),
    "accents": (
        "5",
        lambda v: _bert(v.wordpiece(SPECIALS), {"do_lower_case": True, "strip_accents": False}),
    ),
    "stripped": (
        "5",
        lambda v: _bert(v.wordpiece(SPECIALS), {"do_lower_case": False, "strip_accents": True}),
    ),
    "unsplit": (
        "5",
        lambda v: _bert(
            v.wordpiece(SPECIALS), {"do_lower_case": True, "tokenize_chinese_chars": False}
        ),
    ),
    "names": (
        "5",
        lambda v: _bert(
            v.wordpiece(OTHER_SPECIALS),
            {"do_lower_case": True, **dict(zip(NAMES, OTHER_SPECIALS, strict=True))},
        ),
    ),
    "names_in_map": (
        "5",
        lambda v: _bert(
            v.wordpiece(OTHER_SPECIALS),
            {"do_lower_case": True},
            **{"special_tokens_map.json": _specials_map(OTHER_SPECIALS)},
        ),
    ),
    "added_tokens": (
        "5",
        lambda v: _bert(
            vocab := v.wordpiece(SPECIALS),
            {"do_lower_case": True},
            **{"added_tokens.json": _ids_of_added(len(vocab))},
        ),
    ),
    "added_tokens_cased": (
        "5",
        lambda v: _with_added(
            _bert, vocab := v.wordpiece(SPECIALS), len(vocab), do_lower_case=False
        ),
    ),
    "added_tokens_decoder": (
        "5",
        lambda v: _with_added(
            _bert, vocab := v.wordpiece(SPECIALS), len(vocab), do_lower_case=True
        ),
    ),
    "one_file": ("5", lambda v: _bert_one_file(v.wordpiece(SPECIALS))),
    "words": (
        "bert4keras",
        lambda v: _bert(v.words(), {"do_lower_case": True, "tokenizer_class": "RoFormerTokenizer"}),
    ),
    "gpt2": ("5", lambda v: _gpt2(v.bpe())),
    "gpt2_added_tokens": (
        "5",
        lambda v: _gpt2(bpe := v.bpe(), **{"added_tokens.json": _ids_of_added(len(bpe["vocab"]))}),
    ),
    "gpt2_added_tokens_decoder": (
        "5",
        lambda v: _with_added(_gpt2, bpe := v.bpe(), len(bpe["vocab"])),
    ),
    "gpt2_one_file": ("5", lambda v: _gpt2_one_file(v.bpe())),
    "t5": ("4", lambda v: _t5(v.model("t5"), {"extra_ids": 100})),
    "t5_added_tokens": (
        "4",
        lambda v: _t5(m := v.model("t5"), **{"added_tokens.json": _ids_of_added(_pieces(m))}),
    ),
    "t5_added_tokens_decoder": (
        "4",
        lambda v: _t5(
            m := v.model("t5"),
            {
                "added_tokens_decoder": {
                    # The slow tokenizers of transformers 4 ask for white space around it, and cut
                    # the text also where they then do not read it.
                    i: {**token, "single_word": False}
                    for i, token in _added(_pieces(m)).items()
                }
            },
        ),
    ),
    "byte_fallback": ("4", lambda v: _t5(v.model("mt5"))),
    "cpm": ("cpm", lambda v: {"spiece.model": v.model("cpm_new")}),
    "roberta": ("5", lambda v: _roberta(v.bpe())),
    "roberta_one_file": ("5", lambda v: _roberta_one_file(v.bpe())),
    "qwen2": ("5", lambda v: _qwen(v.bpe())),
    "qwen2_one_file": ("5", lambda v: _qwen_one_file(v.bpe())),
    "llama3_one_file": ("5", lambda v: _llama3_one_file(v.bpe())),
    "modernbert_one_file": ("5", lambda v: _modernbert_one_file(v.bpe())),
    "xlm_roberta": ("5", lambda v: _xlm_roberta(v.model("t5"))),
    "xlm_roberta_one_file": ("5", lambda v: _xlm_roberta_one_file(v.model("t5"))),
    "bge_m3": ("5", lambda v: _bge_m3(v.model("t5"))),
}


def write_case(folder, name, vocabularies):
    """Writes the directory of a case.

    Args:
        folder: where to; it exists.
        name: a key of `CASES`.
        vocabularies: `Odd()` or `Real()`.
    """
    for file, content in CASES[name][1](vocabularies).items():
        if isinstance(content, dict):
            content = json.dumps(content, ensure_ascii=False)
        if isinstance(content, str):
            content = content.encode()
        Path(folder, file).write_bytes(content)


# References


def _cpm(folder):
    import jieba
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_file=str(Path(folder, "spiece.model")))
    marks = str.maketrans(" \n", "\u2582\u2583")
    return lambda text: model.encode(" ".join(word.translate(marks) for word in jieba.cut(text)))


def _wobert(folder):
    """WoBERT's own code, with a stand-in for the framework that bert4keras wants to see."""
    import jieba

    sys.modules["bert4keras.backend"] = MagicMock()
    from bert4keras.tokenizers import Tokenizer

    path = str(Path(folder, "vocab.txt"))
    tokenizer = Tokenizer(path, True, pre_tokenize=lambda text: jieba.cut(text, HMM=False))
    return lambda text: tokenizer.encode(text)[0]


def _reference(name, folder):
    """The function text -> ids of a case, or None if another version is its reference."""
    import transformers

    wanted = CASES[name][0]
    version = transformers.__version__.split(".")[0]
    if wanted == "cpm" and version == "5":
        return _cpm(folder)
    if wanted == "bert4keras" and version == "4":
        return _wobert(folder)
    if not wanted == "4" == version:
        return None
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, use_fast=False)
    end = [tokenizer.eos_token_id]  # which it leaves out after a text that ends with it
    return lambda text: tokenizer(text, add_special_tokens=False).input_ids + end


def pairs_of(lines):
    """Each line with the next one."""
    return list(zip(lines, [*lines[1:], *lines[:1]], strict=True))


def numbers_of(ids, segments, offsets):
    """All numbers of a tokenized text in one list."""
    return [*ids, *segments, *(i for span in offsets for i in span)]


def _rows(tokenizer, *texts):
    """Returns ids, segments and offsets of each text or pair."""
    found = tokenizer(*texts, return_offsets_mapping=True, return_token_type_ids=True)
    return list(zip(found.input_ids, found.token_type_ids, found.offset_mapping, strict=True))


def without_lines(lines, numbers):
    """The lines, some of them empty."""
    return ["" if i in numbers else line for i, line in enumerate(lines)]


def _differing(model, lines, rows):
    """The numbers of lines that sentencepiece cuts into other pieces than an XLM-R's reference.

    And of those that begin with a control character, which the reference leaves out of offsets.
    """
    import sentencepiece

    spm = sentencepiece.SentencePieceProcessor(model_proto=fairseq_model(model))
    spaces = dict.fromkeys(map(ord, "\v\f\x85"), " ")  # for `tokenizers`

    def cut(line):
        return [i + 1 if i else 3 for i in spm.encode(line.translate(spaces))]

    def is_left_out(line):
        return not line[:1].isspace() and unicodedata.category(line[:1] or "a") in ("Cc", "Cf")

    return [
        i
        for i, (line, (ids, *_)) in enumerate(zip(lines, rows, strict=True))
        if not any(token in line for token in (*FAIRSEQ, "<mask>"))
        and (ids[1:-1] != cut(line) or is_left_out(line))
    ]


def _make(golden, part, case, vocabularies, lines):
    """Puts ids and hashes of a case into the golden dict, if this version is its reference."""
    with tempfile.TemporaryDirectory() as folder:
        write_case(folder, case, vocabularies)
        if CASES[case][0] != "5" and (encode := _reference(case, folder)):
            ids = [encode(line) for line in lines]
        elif CASES[case][0] == "5" and transformers.__version__.startswith("5"):
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            if case in XLM:
                rows = _rows(tokenizer, lines)
                found = _differing(vocabularies.model("t5"), lines, rows)
                golden["differing"].setdefault(case, {})[part] = found
                lines = without_lines(lines, found)
            texts = _rows(tokenizer, lines)
            pairs = _rows(tokenizer, *map(list, zip(*pairs_of(lines), strict=True)))
            hashes = {"texts": texts, "pairs": pairs}
            golden["calls"].setdefault(case, {})[part] = {
                name: hashed([numbers_of(*row) for row in rows]) for name, rows in hashes.items()
            }
            ids = [row[0] for row in texts]
        else:
            return
    golden[part][case] = ids if part == "odd" else hashed(ids)
    print(case, part, flush=True)


if __name__ == "__main__":
    import transformers

    golden = json.loads(GOLDEN.read_text("utf-8")) if GOLDEN.exists() else {}
    golden = {key: golden.get(key, {}) for key in ("odd", "real", "calls", "differing")}
    for case in sys.argv[1:] or CASES:
        _make(golden, "odd", case, Odd(), LINES)
        if SHARED.exists():
            _make(golden, "real", case, Real(), real_lines())
    golden = {key: {c: rows[c] for c in CASES if c in rows} for key, rows in golden.items()}
    text = json.dumps(golden, ensure_ascii=True, separators=(",", ":"))
    GOLDEN.write_text(text + "\n", "utf-8")
    print(f"wrote {GOLDEN.name}, {GOLDEN.stat().st_size} bytes")
