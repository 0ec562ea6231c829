"""What the limits on files of strangers do; hostile files themselves are in `tests/hostile.py`."""

import json
import os

import pytest

from bert4keras_lite.configs.published import read_config
from bert4keras_lite.data import read_tsv
from bert4keras_lite.parsing import (
    excerpt,
    first_lines,
    parse_json,
    printable,
    read_bytes,
    read_json,
    shown,
)
from bert4keras_lite.protobuf import read_fields
from bert4keras_lite.tokenizers import ByteBPETokenizer, load_tokenizer
from pretraining.checkpointing import fingerprint
from pretraining.config import load as load_recipe
from pretraining.documents import Format, Part, read_documents
from pretraining.texts import read_texts

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    "value",
    [
        *("长", b"ab", 0, -1.5, None, True, (), (1,), (1, "a"), [], [[]], {}, {"a": [1, {}]}, 1j),
        *("a" * 150, "'", "a\nb", {None: (), (1, 2): {}}, 1 << 900),
    ],
)
def test_shown_is_repr(value):
    assert shown(value) == repr(value)[:200]


def test_shown_is_cut():
    tuples, lists, dictionary = (), [], {}
    for _ in range(100):
        tuples, lists = (tuples, tuples), [lists, lists]
    dictionary["a"] = [dictionary]
    assert shown(tuples).startswith("((((") and len(shown(tuples)) == 200
    assert shown(lists).startswith("[[[[") and len(shown(lists)) == 200
    assert shown(dictionary).startswith("{'a': [{'a': [")
    assert shown("a" * (1 << 24)) == "'" + "a" * 199
    assert shown([1 << 100_000]) == "[<an integer of 100001 bits>]"


@pytest.mark.parametrize("keep", ["", "\n"])
def test_printable(keep):
    text = "今天 é 😂\u3000\x1b[2J\r\x9b\0\u202e\ud800\nhead: forged"
    shown = printable(text, keep)
    escapes = r"\x1b[2J\r\x9b\x00\u202e\ud800"
    assert shown == f"今天 é 😂\u3000{escapes}" + (r"\n", "\n")[bool(keep)] + "head: forged"


def test_fields_of_protocol_buffers():
    negative = b"\xff" * 9 + b"\x01"
    assert [field[:2] for field in read_fields(b"\x0a\x01a\x10" + negative)] == [
        (1, b"a"),
        (2, (1 << 64) - 1),
    ]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x9a\x80\x80\x80\x10\x00", "field 536870915"),  # 3 in the lowest 32 bits
        (b"\x02\x00", "field 0"),
        (b"\x9a\x00\x00", "more bytes than it needs"),
        (b"\x1a\x80\x00", "more bytes than it needs"),
        (b"\x08" + b"\xff" * 9 + b"\x02", "more than 64 bits"),
        (b"\x08" + b"\xff" * 10, "more than 64 bits"),
    ],
)
def test_fields_that_other_parsers_read_otherwise(data, problem):
    with pytest.raises(ValueError, match=problem):
        list(read_fields(data))


def test_keys_that_are_there_twice(tmp_path):
    equal, other = b'{"a": [1], "a": [1], "b": 2}', b'{"b": {"a": [1], "a": [2]}}'
    assert parse_json(equal) == {"a": [1], "b": 2}
    with pytest.raises(ValueError, match="the key 'a' is there twice"):
        parse_json(other)
    with pytest.raises(ValueError, match="the key 'a' is there twice"):
        parse_json(equal, "none")
    (tmp_path / "x.json").write_bytes(other)
    message = (
        r"x\.json: expected JSON, got the key 'a' is there twice, with the values \[1\] and \[2\]"
    )
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "x.json")


SIZES = {"hidden_size": 8, "num_attention_heads": 2}


def test_a_config_that_contradicts_itself(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(SIZES)[:-1] + ', "hidden_size": 16}')
    with pytest.raises(
        ValueError, match=r"config\.json: .* 'hidden_size' is there twice, with the va"
    ):
        read_config(path)
    for more in ({"n_head": 4}, {"n_head": 3}):
        path.write_text(json.dumps(SIZES | more))
        with pytest.raises(
            ValueError,
            match=r"config.json: num_attention_heads is 2, and n_head is \d; expected th",
        ):
            read_config(path)
    path.write_text(json.dumps({"d_model": None} | SIZES | {"n_head": 2, "n_embd": None}))
    assert read_config(path).items() >= SIZES.items()
    path.write_text(json.dumps({"with_mlm": True, "final_activation": "softmax"}))
    assert read_config(path)["with_lm"] is True


def test_a_tokenizer_that_contradicts_itself(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nA\na\n")
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text('{"do_lower_case": true, "do_lower_case": false}')
    with pytest.raises(ValueError, match=r"_config\.json: .* 'do_lower_case' is there twice"):
        load_tokenizer(tmp_path)
    settings.write_text('{"do_lower_case": true, "do_lower_case": true}')
    assert load_tokenizer(tmp_path).tokenize("A") == ["[CLS]", "a", "[SEP]"]


@pytest.mark.parametrize(
    ("vocab", "message"),
    [
        ('{"a": 0, "b": 1, "c": 1}', "'b' and 'c' have the id 1; expected a different id for each"),
        ('{"a": 0, "b": 1, "a": 2}', "the key 'a' is there twice, with the values 0 and 2"),
    ],
)
def test_a_vocabulary_that_contradicts_itself(tmp_path, vocab, message):
    (tmp_path / "vocab.json").write_text(vocab)
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(ValueError, match=rf"vocab\.json: .*{message}"):
        ByteBPETokenizer(tmp_path / "vocab.json", tmp_path / "merges.txt")


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="a file of Linux")
@pytest.mark.parametrize(
    "read",
    [
        *(read_bytes, read_json, read_config, read_tsv),
        *(fingerprint, load_recipe, lambda path: read_texts(str(path))),
        lambda path: list(read_documents(Part(str(path)), Format())),
    ],
)
def test_an_error_of_reading_names_the_file(tmp_path, read):
    """The first bytes of such a file cannot be read: the system refuses that without a name."""
    path = tmp_path / "config.json"
    path.symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match=r"Input/output error: '.*config\.json'"):
        read(path)


def test_texts_of_files_in_messages():
    assert excerpt("a\x1b[31m\n" + "x" * 1000) == ("a\\x1b[31m\\n" + "x" * 1000)[:200]
    assert len(excerpt("\x1b" * 1000)) == 200
    assert first_lines(["a", "b"], 2) == "a\nb"
    assert first_lines(["a", "b", "c", "d"], 2) == "a\nb\n... and 2 more"
