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
    """A short SHA-256 of the ids of each block of lines."""
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
    if wanted == "4" == version:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, use_fast=False)
    elif wanted == "5" == version:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    else:
        return None
    if wanted == "4":  # which leaves out `</s>` after a text that ends with it
        end = [tokenizer.eos_token_id]
        return lambda text: tokenizer(text, add_special_tokens=False).input_ids + end
    return lambda text: tokenizer(text).input_ids


if __name__ == "__main__":
    golden = json.loads(GOLDEN.read_text("utf-8")) if GOLDEN.exists() else {}
    golden = {key: golden.get(key, {}) for key in ("odd", "real")}
    for case in sys.argv[1:] or CASES:
        with tempfile.TemporaryDirectory() as odd, tempfile.TemporaryDirectory() as real:
            write_case(odd, case, Odd())
            if encode := _reference(case, odd):
                golden["odd"][case] = [encode(line) for line in LINES]
                if SHARED.exists():
                    write_case(real, case, Real())
                    encode = _reference(case, real)
                    golden["real"][case] = hashed([encode(line) for line in real_lines()])
                print(case, flush=True)
    golden = {key: {c: rows[c] for c in CASES if c in rows} for key, rows in golden.items()}
    text = json.dumps(golden, ensure_ascii=True, separators=(",", ":"))
    GOLDEN.write_text(text + "\n", "utf-8")
    print(f"wrote {GOLDEN.name}, {GOLDEN.stat().st_size} bytes")
