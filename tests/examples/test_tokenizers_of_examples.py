"""Whatever the checkpoint, an example cuts texts as the checkpoint was trained."""

import ast
import json
from pathlib import Path

import pytest

from bert4keras_lite import load_tokenizer, load_vocab
from bert4keras_lite.spans import character_spans, token_spans
from bert4keras_lite.tokenizers import Tokenizer, save_vocab

pytestmark = pytest.mark.once

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TEXT = "今天The天气不错，cafE去公园散步。"
SPECIALS = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CHARACTERS = [*"今天气不错去公园散步，。", "##天", "##气"]
LETTERS = ["the", "The", "##he", "ca", "##f", "##e", "##E", "cafe"]
KINDS = ("words", "cased", "one_file")


@pytest.fixture(params=KINDS)
def directory(request, tmp_path):
    """The tokenizer's files of a checkpoint: WoBERT's kind, a cased one, `tokenizer.json` alone."""
    folder = tmp_path / request.param
    folder.mkdir()
    words = ["今天", "天气", "公园", "散步", "不错"] if request.param == "words" else []
    tokens = [*SPECIALS, *CHARACTERS, *LETTERS, *words]
    vocab = {token: i for i, token in enumerate(tokens)}
    if request.param == "one_file":
        content = {
            "added_tokens": [{"id": len(vocab), "content": "E去", "normalized": False}],
            "normalizer": {
                "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                "lowercase": False,
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "BertProcessing",
                "cls": ["[CLS]", vocab["[CLS]"]], "sep": ["[SEP]", vocab["[SEP]"]],
            },
            "model": {
                "type": "WordPiece", "unk_token": "[UNK]", "max_input_chars_per_word": 100,
                "vocab": vocab,
            },
        }  # fmt: skip
        (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    else:
        config = json.dumps({"do_lower_case": request.param == "words"})
        save_vocab(folder / "vocab.txt", vocab)
        (folder / "tokenizer_config.json").write_text(config, "utf-8")
    return folder


TOKENS = {
    "words": "今天 the 天气 不错 ， cafe 去 公园 散步 。",
    "cased": "今 天 The 天 气 不 错 ， ca ##f ##E 去 公 园 散 步 。",
    "one_file": "今 天 The 天 气 不 错 ， ca ##f E去 公 园 散 步 。",
}


def names_called(path):
    calls = (n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Call))
    return {getattr(call.func, "id", getattr(call.func, "attr", None)) for call in calls}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_build_their_tokenizer_by_load_tokenizer_alone(path):
    tokenizers = {"Tokenizer", "SpTokenizer", "CpmTokenizer", "ByteBPETokenizer", "load_vocab"}
    assert not names_called(path) & tokenizers


def test_tokens_of_each_kind(directory):
    tokenizer = load_tokenizer(directory)
    assert tokenizer.tokenize(TEXT)[1:-1] == TOKENS[directory.name].split()


def test_simplified_vocabularies_keep_the_rules(directory):
    whole, (small, keep_tokens) = load_tokenizer(directory), load_tokenizer(directory).simplified()
    assert small.vocab_size == len(keep_tokens) < whole.vocab_size
    assert small.tokenize(TEXT) == whole.tokenize(TEXT)
    assert [keep_tokens[i] for i in small.encode(TEXT)[0]] == whole.encode(TEXT)[0]
    assert small.decode(small.encode(TEXT)[0]) == whole.decode(whole.encode(TEXT)[0])
    assert small.token_pad_id == 0
    assert small.token_mask_id is not None
    assert "[unused1]" not in small.token_dict


def test_simplified_as_load_vocab_does_it(directory):
    path = EXAMPLES / "data/vocab.txt"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    small, keep_tokens = Tokenizer(path).simplified()
    assert (small.token_dict, keep_tokens) == load_vocab(path, simplified=True, startswith=special)


def test_spans_of_characters_come_back(directory):
    *_, offsets = load_tokenizer(directory).encode(TEXT, return_offsets=True)
    words = ("今天", "The", "天气", "公园", "散步")
    spans = {(TEXT.index(word), TEXT.index(word) + len(word), word) for word in words}
    assert character_spans(token_spans(spans, offsets), offsets) == spans
