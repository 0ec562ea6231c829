import json
import pickle
import subprocess
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from goldens.make_tokenizers import words_of_two
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from bert4keras_lite.tokenizers import Tokenizer, load_vocab, save_vocab
from bert4keras_lite.tokenizers.base import size_of

pytestmark = pytest.mark.once

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[1] / "shared"
HF = json.loads((HERE / "goldens/tokenizers_hf.json").read_text("utf-8"))
BERT4KERAS = json.loads((HERE / "goldens/tokenizers_bert4keras.json").read_text("utf-8"))
TEXTS = HF["texts"]
VOCAB = {token: i for i, token in enumerate(HF["vocab"])}
UNCASED = Tokenizer(VOCAB)
CASED = Tokenizer(VOCAB, do_lower_case=False)
CASES = [("uncased", UNCASED), ("cased", CASED)]

many = settings(max_examples=300)


# Google's algorithm, slow and plain: what the fast one must equal


def google_words(text, lower):
    spaced = ""
    for char in text:
        category, code = unicodedata.category(char), ord(char)
        if char in "\t\n\r" or category == "Zs":
            spaced += " "
        elif code in (0, 0xFFFD) or category in ("Cc", "Cf"):
            continue
        elif any(first <= code <= last for first, last in CHINESE):
            spaced += " " + char + " "
        else:
            spaced += char
    words = []
    for word in spaced.split():
        if lower:
            word = unicodedata.normalize("NFD", word.lower())
            word = "".join(c for c in word if unicodedata.category(c) != "Mn")
        for char in set(word):
            if char in ASCII_SYMBOLS or unicodedata.category(char)[0] == "P":
                word = word.replace(char, f" {char} ")
        words += word.split()
    return words


CHINESE = [
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0x2F800, 0x2FA1F),
]
ASCII_SYMBOLS = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"


def google_tokens(text, vocab, lower, word_maxlen=200):
    tokens = []
    for word in google_words(text, lower):
        pieces, rest = [], word
        while rest and len(word) <= word_maxlen:
            mark = "##" if pieces else ""
            ends = (end for end in range(len(rest), 0, -1) if mark + rest[:end] in vocab)
            end = next(ends, None)
            if end is None:
                break
            pieces.append(mark + rest[:end])
            rest = rest[end:]
        tokens += [word] if rest else pieces
    return tokens


def google_ids(text, vocab, lower, word_maxlen=200):
    tokens = google_tokens(text, vocab, lower, word_maxlen)
    return [vocab.get(token, vocab["[UNK]"]) for token in ["[CLS]", *tokens, "[SEP]"]]


# Characters with a story: case, accents, marks that NFD reorders, spaces, controls, sigmas and
# what they look through, compatibility ideographs, letters that fall apart.
TRICKY = (
    "aAbeéÉnñcçßẞİıIΑΣσς.:'·’：․ \t\n\r\u00a0\u2003\u3000\u2028\u2029\x00\x07\x1c\x85\u200b\u200d"
    "\u00ad\ufeff\ufffd中文字，。！（）《》“”…—·％＋Ａ１①½≠\u037e\u0300\u0301\u0327\u0345"
    "\u302e\u302f\u16ff0\U0001d165\U0001d16d\U0001d15f한글\u1112\u1161\u11abがぎ゛豈更𠮷𪚥\U0002f800"
    "😀🏽\ue000ǅﬁÅΩК123456##[MASK]_-"
)
texts = st.lists(
    st.one_of(
        st.sampled_from(TRICKY),
        st.sampled_from(sorted(t for t in VOCAB if not t.startswith("["))),
        st.characters(),
    ),
    max_size=25,
).map("".join)


@many
@given(text=texts, lower=st.booleans())
@example(text="ΑΣ.Β ΑΣ ΑΣ：Β ΣΑΣ\u200bΑ", lower=True)
@example(text="a\u302e\U0001d165b\U0001d15f\u302e\u0301\U0001d165", lower=True)
def test_same_tokens_as_the_reference_algorithm(text, lower):
    tokenizer = UNCASED if lower else CASED
    assert tokenizer.tokenize(text) == ["[CLS]", *google_tokens(text, VOCAB, lower), "[SEP]"]
    assert tokenizer.encode(text)[0] == google_ids(text, VOCAB, lower)


@pytest.mark.parametrize("lower", [True, False])
def test_every_character_in_context_as_the_reference_algorithm(lower):
    tokenizer = UNCASED if lower else CASED
    for code in (*range(0x3400), *range(0x9FF0, 0xFFFF), *range(0x10000, 0x30000, 7)):
        text = f"ΑΣ{chr(code)}Α"
        assert tokenizer.tokenize(text)[1:-1] == google_tokens(text, VOCAB, lower), hex(code)


def test_texts_in_which_characters_meet():
    """Pairs of tricky characters: whatever depends on a neighbour shows here."""
    for first in dict.fromkeys(TRICKY):
        for second in dict.fromkeys(TRICKY):
            text = f"xΣ{first}{second}Σy{first}"
            assert UNCASED.encode(text)[0] == google_ids(text, VOCAB, True), repr(text)


# Golden files


@pytest.mark.parametrize(("name", "tokenizer"), CASES)
def test_ids_and_offsets_of_hugging_face(name, tokenizer):
    for text, ids, offsets in zip(TEXTS, HF[f"{name}_ids"], HF[f"{name}_offsets"], strict=True):
        token_ids, segment_ids, spans = tokenizer.encode(text, return_offsets=True)
        assert token_ids == ids == tokenizer.encode(text)[0]
        assert segment_ids == [0] * len(ids)
        assert spans == [tuple(span) for span in offsets]


@pytest.mark.parametrize(("name", "tokenizer"), CASES)
def test_tokens_and_decoded_text_of_bert4keras(name, tokenizer):
    for text, tokens, decoded in zip(
        TEXTS, BERT4KERAS[f"{name}_tokens"], BERT4KERAS[f"{name}_decoded"], strict=True
    ):
        assert tokenizer.tokenize(text) == tokens
        assert tokenizer.decode(tokenizer.encode(text)[0]) == decoded


def test_pairs_and_truncation_of_bert4keras():
    for pair, arguments, expected in BERT4KERAS["encoded"]:
        assert list(UNCASED.encode(*pair, **arguments)) == expected
        as_tokens = [text and UNCASED.tokenize(text) for text in pair]
        before = [list(tokens or []) for tokens in as_tokens]
        assert list(UNCASED.encode(*as_tokens, **arguments)) == expected
        assert [tokens or [] for tokens in as_tokens] == before  # bert4keras shortens the caller's
    tokenizer = Tokenizer(VOCAB, token_start=None, token_end=None)
    assert list(tokenizer.encode(TEXTS[0], TEXTS[2])) == BERT4KERAS["without_start_and_end"]


def test_decoding_rules_of_bert4keras():
    for tokens, decoded in BERT4KERAS["decoded_tokens"]:
        assert UNCASED.decode(None, tokens) == decoded


def test_pre_tokenize_and_token_translate_of_bert4keras():
    translate = {"天气": "今", "，": "[unused1]"}
    tokenizer = Tokenizer(VOCAB, pre_tokenize=words_of_two, token_translate=translate)
    for text, tokens in zip(TEXTS, BERT4KERAS["words_of_two_tokens"], strict=True):
        assert tokenizer.tokenize(text) == tokens
        assert tokenizer.encode(text)[0] == tokenizer.tokens_to_ids(tokens)
    text = "今天气不错，"
    assert tokenizer.tokenize(text)[1:-1] == ["今", "天", "气", "不", "错", "[unused1]"]
    assert tokenizer.rematch(text, tokenizer.tokenize(text))[1:-1] == [[i] for i in range(6)]
    text = "天气，今"
    assert tokenizer.tokenize(text)[1:-1] == ["今", "[unused1]", "今"]
    assert tokenizer.rematch(text, tokenizer.tokenize(text))[1:-1] == [[0, 1], [2], [3]]
    assert tokenizer.encode(text, return_offsets=True)[2][1:-1] == [(0, 2), (2, 3), (3, 4)]


# Vocabulary files


def test_line_numbers_are_ids(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes(
        "\ufeff[PAD]\r\n\u2028\n中 123\n\n##\u2028\n\u4e00\t9\n中\n国\r\n\r\n\r\n".encode()
    )
    expected = {"[PAD]": 0, "": 3, "中": 6, "##": 4, "一": 5, "国": 7}
    assert load_vocab(path) == load_vocab(str(path)) == expected


def test_tokenizer_copes_with_rows_without_token(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("[PAD]\n[UNK]\n\u2028\n\u2029\n[CLS]\n[SEP]\n中\n", "utf-8", newline="")
    tokenizer = Tokenizer(path, pre_tokenize=lambda text: ["", *text, ""])
    assert tokenizer.vocab_size == tokenizer._vocab_size == 7
    assert tokenizer.encode("中 国")[0] == [4, 6, 1, 5]
    assert tokenizer.decode(range(7)) == "中"


def test_simplified_vocabulary_of_bert4keras(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("".join(f"{token} 7\n" for token in VOCAB), "utf-8")
    start = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    assert list(load_vocab(path, simplified=True, startswith=start)) == BERT4KERAS["simplified"]
    with pytest.raises(ValueError, match=r"vocab\.txt has no '\[sep\]'"):
        load_vocab(path, simplified=True, startswith=["[sep]"])


@given(
    token_dict=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
            lambda token: token.split() == [token] and token[0] != "\ufeff"
        ),
        st.integers(0, 300),
        min_size=1,
    )
)
def test_saved_vocabulary_is_read_back(token_dict, tmp_path_factory):
    assume(len(set(token_dict.values())) == len(token_dict))
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    save_vocab(path, token_dict)
    loaded = load_vocab(path)
    loaded.pop("", None)
    assert loaded == token_dict


def test_bad_vocabularies(tmp_path):
    gbk, empty, blank = tmp_path / "gbk.txt", tmp_path / "empty.txt", tmp_path / "blank.txt"
    gbk.write_text("[PAD]\n中国\n", "gb18030")
    empty.touch()
    blank.write_text("\n \n")
    with pytest.raises(ValueError, match=r"gbk\.txt is not utf-8 text.*encoding="):
        load_vocab(gbk)
    assert load_vocab(gbk, encoding="gb18030") == {"[PAD]": 0, "中国": 1}
    with pytest.raises(ValueError, match="encoding='gbk2': no encoding of characters"):
        load_vocab(gbk, encoding="gbk2")
    for path in (empty, blank):
        with pytest.raises(ValueError, match=f"{path.name} holds no tokens"):
            load_vocab(path)
    with pytest.raises(ValueError, match="is a directory"):
        load_vocab(tmp_path)
    with pytest.raises(FileNotFoundError, match="none"):
        Tokenizer(tmp_path / "none.txt")
    with pytest.raises(ValueError, match="id 0 to both 'a' and 'b'"):
        save_vocab(empty, {"a": 0, "b": 0})
    with pytest.raises(ValueError, match="white space"):
        save_vocab(empty, {"a b": 0})
    with pytest.raises(ValueError, match="'a' has the id -1"):
        save_vocab(empty, {"a": -1})
    with pytest.raises(TypeError, match=r"token_dict: expected a dict .*load_vocab"):
        save_vocab(blank, "vocab.txt")
    with pytest.raises(ValueError, match="encoding='utf-9': no encoding of characters"):
        save_vocab(blank, {"a": 0}, encoding="utf-9")
    assert blank.read_text() == "\n \n"
    with pytest.raises(ValueError, match=r"token_unk='\[UNK\]' is not in the vocabulary"):
        Tokenizer({"[CLS]": 0, "[SEP]": 1})
    with pytest.raises(ValueError, match=r"token_start='<s>'.*token_start=None"):
        Tokenizer(VOCAB, token_start="<s>")


# Positions


@many
@given(text=texts, lower=st.booleans())
@example(text="İstanbul ß  Café ΑΣ 한글  Ａ１👍🏽\u200b好", lower=True)
def test_rematch_finds_every_character(text, lower):
    tokenizer = UNCASED if lower else CASED
    tokens = tokenizer.tokenize(text)
    mapping = tokenizer.rematch(text, tokens)
    assert len(mapping) == len(tokens)
    assert mapping[0] == mapping[-1] == []
    # Only marks of one base character may change places.
    order = [i for positions in mapping for i in positions]
    if not any(unicodedata.combining(c) for c in unicodedata.normalize("NFD", text)):
        assert order == sorted(order)
    # Nothing but spaces and dropped characters is left out.
    kept = {i for i, char in enumerate(text) if google_words(char, lower)}
    assert set(order) == kept
    for token, positions in zip(tokens[1:-1], mapping[1:-1], strict=True):
        source = "".join(google_words("".join(text[i] for i in positions), lower))
        stem = token.removeprefix("##") if token in VOCAB else token
        assert same_letters(stem) <= same_letters(source)
        assert len(positions) == len(set(positions)) > 0


def same_letters(text):
    """A set that ignores the form of the sigma, which depends on more than its token."""
    return set(text.replace("ς", "σ"))


@many
@given(text=texts, second=st.none() | texts, maxlen=st.none() | st.integers(4, 30))
def test_offsets_are_those_of_rematch(text, second, maxlen):
    token_ids, segment_ids, offsets = UNCASED.encode(text, second, maxlen, return_offsets=True)
    assert (token_ids, segment_ids) == UNCASED.encode(text, second, maxlen)
    assert len(offsets) == len(token_ids)
    if second is None and maxlen is None:
        positions = UNCASED.rematch(text, UNCASED.tokenize(text))
        assert offsets == [(p[0], p[-1] + 1) if p else (0, 0) for p in positions]


@given(text=texts, pre_tokenize=st.sampled_from([list, words_of_two]), lower=st.booleans())
@example(text="天\x01地 a\u200b", pre_tokenize=list, lower=True)  # a token, and what is dropped
@example(text="AΣ\x98caféŸ", pre_tokenize=words_of_two, lower=True)  # final in its word alone
@example(text="ΑΣ\u200bβ İe\u0301", pre_tokenize=list, lower=True)
def test_offsets_are_those_of_the_words_of_pre_tokenize(text, pre_tokenize, lower):
    vocab = {**VOCAB, "\x01": len(VOCAB), "天\x01": len(VOCAB) + 1}
    tokenizer = Tokenizer(vocab, lower, pre_tokenize=pre_tokenize)
    ids, _, offsets = tokenizer.encode(text, return_offsets=True)
    assert ids == tokenizer.encode(text)[0] and len(offsets) == len(ids)
    positions = tokenizer.rematch(text, tokenizer.tokenize(text))
    assert offsets == [(p[0], p[-1] + 1) if p else (0, 0) for p in positions]


def test_a_word_with_a_character_that_cleaning_drops():
    tokenizer = Tokenizer({**VOCAB, "\x01": len(VOCAB)}, pre_tokenize=list)
    ids, _, offsets = tokenizer.encode("今\x01\x02天", return_offsets=True)
    assert tokenizer.ids_to_tokens(ids)[1:-1] == ["今", "\x01", "天"]
    assert offsets[1:-1] == [(0, 1), (1, 2), (3, 4)]


def test_positions_of_marks_that_change_places():
    tokenizer = Tokenizer({t: i for i, t in enumerate(["[UNK]", "a", "##\u302e", "##\U0001d165"])},
                          token_start=None, token_end=None)  # fmt: skip
    text = "xa \u0301a\u302e\U0001d165"
    assert tokenizer.tokenize(text) == ["xa", "a", "##\U0001d165", "##\u302e"]
    assert tokenizer.rematch(text, tokenizer.tokenize(text)) == [[0, 1], [4], [6], [5]]
    assert tokenizer.encode(text, return_offsets=True)[2] == [(0, 2), (4, 5), (6, 7), (5, 6)]
    vocab = {"[UNK]": 0, "a": 1, "##\U0001d165\u302e": 2}
    tokenizer = Tokenizer(vocab, token_start=None, token_end=None)
    assert tokenizer.encode(text, return_offsets=True) == (
        [0, 1, 2],
        [0] * 3,
        [(0, 2), (4, 5), (5, 7)],
    )


def test_rematch_of_ids_and_foreign_tokens():
    text = "x  CAFÉ吧 it"
    token_ids, _ = UNCASED.encode(text)
    tokens = UNCASED.ids_to_tokens(token_ids)
    assert tokens == ["[CLS]", "[UNK]", "cafe", "[UNK]", "it", "[SEP]"]
    assert UNCASED.rematch(text, tokens) == [[], [0], [3, 4, 5, 6], [7], [9, 10], []]
    assert UNCASED.rematch(text, ["it"]) == [[9, 10]]
    with pytest.raises(ValueError, match="'dog' is not in the rest"):
        UNCASED.rematch(text, ["dog"])


def test_offsets_of_texts_beyond_the_prepared_spans():
    text = "今天a" * 3000
    _, _, offsets = UNCASED.encode(text, return_offsets=True)
    assert offsets[1:-1] == [(i, i + 1) for i in range(len(text))]


# Truncation and batches


def shortened_one_by_one(sequences, maxlen, index):
    while sum(map(len, sequences)) > maxlen:
        longest = max(sequences, key=len)
        del longest[index]
    return sequences


@many
@given(
    lengths=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    maxlen=st.integers(3, 45),
    side=st.sampled_from(["left", "right"]),
)
def test_truncation_laws(lengths, maxlen, side):
    first, second = "今" * lengths[0], "好" * lengths[1]
    token_ids, segment_ids = UNCASED.encode(first, second, maxlen=maxlen, truncate_from=side)
    tokens = [UNCASED.tokenize(first), UNCASED.tokenize(second)]
    a, b = shortened_one_by_one(tokens, maxlen + 1, -2 if side == "right" else 1)
    assert token_ids == UNCASED.tokens_to_ids(a + b[1:])
    assert segment_ids == [0] * len(a) + [1] * (len(b) - 1)
    assert len(token_ids) == min(maxlen, sum(lengths) + 3)
    if side == "right" or maxlen >= 6:
        assert token_ids.count(UNCASED.token_end_id) == 2
    # A text is shortened only while it is not the shorter one.
    room = maxlen - 3
    assert len(a) - 2 >= min(lengths[0], room // 2)
    assert len(b) - 2 >= min(lengths[1], room // 2)
    single, _ = UNCASED.encode(first, maxlen=maxlen)
    assert single == UNCASED.tokens_to_ids(UNCASED.tokenize(first, maxlen=maxlen))
    assert single[-1] == UNCASED.token_end_id
    assert len(single) == min(maxlen, lengths[0] + 2)


def test_pair_without_start_token_keeps_to_maxlen():
    """bert4keras returns one id too many here."""
    tokenizer = Tokenizer(VOCAB, token_start=None)
    assert len(tokenizer.encode("今" * 9, "好" * 9, maxlen=10)[0]) == 10


def test_offsets_are_truncated_with_the_ids():
    ids, _, offsets = UNCASED.encode(
        "今天天气", maxlen=4, truncate_from="left", return_offsets=True
    )
    assert UNCASED.decode(ids) == "天气"
    assert offsets == [(0, 0), (2, 3), (3, 4), (0, 0)]


def test_encode_batch():
    rows = ["今天天气不错", "好", ""]
    token_ids, segment_ids = UNCASED.encode_batch(rows, ["是", "不是吗", "好"], maxlen=8)
    assert token_ids.dtype == segment_ids.dtype == np.int32
    assert token_ids.shape == segment_ids.shape == (3, 8)
    for row, second, ids, segments in zip(
        rows, ["是", "不是吗", "好"], token_ids, segment_ids, strict=True
    ):
        expected, expected_segments = UNCASED.encode(row, second, maxlen=8)
        n = len(expected)
        assert ids.tolist() == expected + [UNCASED.token_pad_id] * (8 - n)
        assert segments.tolist() == expected_segments + [0] * (8 - n)
    left, _ = UNCASED.encode_batch(rows, length=9, padding="left")
    assert left.shape == (3, 9)
    assert left[2].tolist() == [UNCASED.token_pad_id] * 7 + UNCASED.encode("")[0]
    other_pad = Tokenizer(VOCAB, token_pad="[unused1]")
    assert other_pad.encode_batch(["今", "今天"])[0][0, -1] == VOCAB["[unused1]"] != 0
    assert UNCASED.encode_batch([])[0].shape == (0, 0)
    with pytest.raises(ValueError, match="maxlen=4"):
        UNCASED.encode_batch(rows, length=4)
    with pytest.raises(ValueError, match="3 first_texts but 1 second_texts"):
        UNCASED.encode_batch(rows, ["是"])
    with pytest.raises(ValueError, match="padding='top'"):
        UNCASED.encode_batch(rows, padding="top")
    with pytest.raises(ValueError, match="token_pad='<pad>'"):
        Tokenizer(VOCAB, token_pad="<pad>").encode_batch(rows)


def test_a_call_encodes_a_text_or_a_list_of_texts():
    assert UNCASED("今天天气") == UNCASED.encode("今天天气")
    assert UNCASED("今天", "天气不好", maxlen=6) == UNCASED.encode("今天", "天气不好", maxlen=6)
    for texts, seconds in ((["今天", "是"], None), (["今天"], ["是"]), ([("今天", "是")], None)):
        called, expected = UNCASED(texts, seconds), UNCASED.encode_batch(texts, seconds)
        assert [x.tolist() for x in called] == [x.tolist() for x in expected]


def test_encode_batch_of_pairs():
    pairs = [("今天", "是"), ("天气", "不是吗")]
    found = UNCASED.encode_batch(pairs, maxlen=6)
    expected = UNCASED.encode_batch(["今天", "天气"], ["是", "不是吗"], maxlen=6)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    tokens = [["[CLS]", "今", "[SEP]"], ["[CLS]", "天", "[SEP]"]]
    assert (
        UNCASED.encode_batch(tokens)[0].tolist() == UNCASED.encode_batch(["今", "天"])[0].tolist()
    )
    for wrong, more in [
        ("今天", {}),
        (["今天"], {"second_texts": "是"}),
        ([("今", "天", "是")], {}),
        ([("今", "天"), "是"], {}),
        (pairs, {"second_texts": ["是", "是"]}),
        ([[5, 6]], {}),
        ([("今", 5)], {}),
        ([["今天气", "是吗"], ["天气好", "不是吗"]], {}),
    ]:
        with pytest.raises(TypeError, match=r"^encode.*expected .*, got .*\.$"):
            UNCASED.encode_batch(wrong, **more)


def test_a_batch_is_not_decoded():
    ids, _ = UNCASED.encode_batch(["今天", "天"])
    with pytest.raises(
        TypeError, match="expected a list or an array of ids of one text, got array"
    ):
        UNCASED.decode(ids)


def test_bad_arguments():
    with pytest.raises(TypeError, match=r"list of tokens, got a list with 5\."):
        UNCASED.encode([5, 6])
    with pytest.raises(ValueError, match="pattern='S'"):
        UNCASED.encode("今", "天", pattern="S")
    with pytest.raises(ValueError, match="truncate_from='top'"):
        UNCASED.encode("今", maxlen=3, truncate_from="top")
    with pytest.raises(ValueError, match="maxlen is too small"):
        UNCASED.encode("今天", maxlen=0)
    for texts, options in (
        (["今天今天"], {"maxlen": 1}),
        (["今天今天"], {"maxlen": 1, "truncate_from": "left"}),
        (["今天", "天今"], {"maxlen": 2}),
        (["今", "天今天今天"], {"maxlen": 3, "pattern": "S*ES*E"}),
    ):
        with pytest.raises(ValueError, match="maxlen is too small"):
            UNCASED.encode(*texts, **options)
    with pytest.raises(ValueError, match="maxlen is too small"):
        UNCASED.tokenize("今天", maxlen=1)
    assert UNCASED.encode("今天", maxlen=2)[0] == UNCASED.encode("")[0]
    assert len(UNCASED.encode("今天", maxlen=10**30)[0]) == 4
    for options, message in (
        ({"maxlen": True}, "maxlen=True: expected a whole number"),
        ({"maxlen": 3.0}, "maxlen=3.0: expected a whole number"),
        ({"pattern": "foo"}, "pattern='foo'; expected"),
        ({"truncate_from": None}, "truncate_from=None; expected"),
        ({"truncate_from": True}, "truncate_from=True; expected"),
    ):
        with pytest.raises(ValueError, match=message):
            UNCASED.encode("今天", **options)
    with pytest.raises(TypeError, match="expected a string or a list of tokens, got bytes"):
        UNCASED.encode("今".encode())
    with pytest.raises(TypeError, match="expected a string, got list"):
        UNCASED.encode(["今"], return_offsets=True)
    with pytest.raises(ValueError, match="id 99999 is not in the vocabulary"):
        UNCASED.decode([99999])
    with pytest.raises(ValueError, match="id -1 "):
        UNCASED.id_to_token(-1)


# Decoding


@given(st.text(st.sampled_from("今天气不错我们去公园散步他说这本书价格是，。！？：“”《》（）")))
def test_decoding_restores_chinese(text):
    token_ids, _ = UNCASED.encode(text)
    assert VOCAB["[UNK]"] not in token_ids
    assert UNCASED.decode(token_ids) == text
    assert UNCASED.decode(np.array(token_ids)) == text
    assert UNCASED.decode(UNCASED.encode_batch([text], length=99, maxlen=99)[0][0]) == text


def test_decoding_leaves_out_special_tokens_of_any_form():
    tokenizer = Tokenizer({**VOCAB, "<pad>": len(VOCAB)}, token_pad="<pad>")
    assert tokenizer.encode_batch(["今", "今天"])[0][0, -1] == len(VOCAB)
    assert tokenizer.decode([VOCAB["今"], len(VOCAB), VOCAB["[unused1]"]]) == "今"


# Options


def test_special_tokens_in_text():
    tokenizer = Tokenizer(VOCAB, special_tokens_in_text=True)
    text = "[CLS]今天[MASK][mask] it[SEP]"
    tokens = tokenizer.tokenize(text)
    middle = ["[CLS]", "今", "天", "[MASK]", "[", "mask", "]", "it", "[SEP]"]
    assert tokens == ["[CLS]", *middle, "[SEP]"]
    positions = tokenizer.rematch(text, tokens)
    assert positions[0] == positions[-1] == []
    assert ["".join(text[i] for i in p) for p in positions[1:-1]] == middle
    offsets = tokenizer.encode(text, return_offsets=True)[2]
    assert [text[start:end] for start, end in offsets[1:-1]] == middle
    assert UNCASED.tokenize("[MASK]")[1:-1] == ["[", "mask", "]"]
    cased_text = "[CLS] it"
    mapping = CASED.rematch(cased_text, CASED.tokenize(cased_text))
    assert mapping[:3] == [[], [0], [1, 2, 3]]


def test_word_maxlen_and_private_use():
    long = "a" * 201
    assert UNCASED.tokenize(long[:200])[1:3] == ["a", "##a"]
    assert UNCASED.tokenize(long)[1:-1] == [long]
    assert Tokenizer(VOCAB, word_maxlen=100).tokenize("a" * 101)[1:-1] == ["a" * 101]
    unknown = VOCAB["[UNK]"]
    assert UNCASED.encode("今\ue000天")[0][2] == unknown
    assert Tokenizer(VOCAB, drop_private_use=True).decode(UNCASED.encode("今\ue000天")[0]) == "今天"
    assert unknown not in Tokenizer(VOCAB, drop_private_use=True).encode("今\ue000天")[0]


def test_words_of_jieba():
    jieba = pytest.importorskip("jieba")
    vocab = {**VOCAB, "天气预报": len(VOCAB)}
    tokenizer = Tokenizer(vocab, pre_tokenize=lambda text: jieba.lcut(text, HMM=False))
    text = "今天\t天气预报ＣＡＦÉ"
    assert "天气预报" in tokenizer.tokenize(text)
    positions = tokenizer.rematch(text, tokenizer.tokenize(text))
    assert [3, 4, 5, 6] in positions
    offsets = tokenizer.encode(text, return_offsets=True)[2]
    assert (3, 7) in offsets


def test_names_that_scripts_use():
    for name in ("start", "end", "mask", "unk", "pad"):
        token = {"start": "[CLS]", "end": "[SEP]"}.get(name, f"[{name.upper()}]")
        assert getattr(UNCASED, f"token_{name}") == getattr(UNCASED, f"_token_{name}") == token
        ids = [getattr(UNCASED, f"{prefix}token_{name}_id") for prefix in ("", "_")]
        assert ids == [VOCAB[token]] * 2 == [UNCASED.token_to_id(token)] * 2
    assert UNCASED._token_dict is VOCAB
    assert UNCASED.id_to_token(np.int64(VOCAB["今"])) == "今"
    assert Tokenizer(VOCAB, token_mask="<mask>").token_mask_id is None


# Tables that fill themselves


def test_threads_share_a_tokenizer():
    tokenizer = Tokenizer(VOCAB)
    for table in (tokenizer._char_forms, tokenizer._word_ids, tokenizer._run_ids):
        table.limit = 1000  # cleared all the time
    lines = TEXTS * 20
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(tokenizer.encode, lines))
    assert [ids for ids, _ in results] == HF["uncased_ids"] * 20


def test_tables_stay_small():
    tokenizer = Tokenizer(VOCAB)
    tables = [table for table in vars(tokenizer).values() if hasattr(table, "limit")]
    assert len(tables) == 6
    for table in tables:
        table.limit = 5000
    for i in range(300):
        tokenizer.encode(f"{i}{chr(0x4E00 + i)}{chr(0xA000 + i)}x", return_offsets=True)
        tokenizer.tokenize("y" * 33 + str(i))
    for table in tables:
        assert 0 < sum(map(size_of, [*table, *table.values()])) < 5000
        assert 0 < table.size <= 5000
        assert all(isinstance(key, int) or len(key) <= 32 for key in table)


def test_tokenizer_can_be_pickled():
    UNCASED.encode(TEXTS[0])
    copy = pickle.loads(pickle.dumps(UNCASED))
    assert [copy.encode(text)[0] for text in TEXTS] == HF["uncased_ids"]


def test_imports_no_framework():
    code = (
        "import sys, bert4keras_lite.tokenizers\n"
        "print({'keras', 'tensorflow', 'torch', 'jax'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent, check=True)
    assert result.stdout.strip() == "set()"


# Against the Rust library and real data, where they are at hand


def test_where_hugging_face_reads_single_characters_differently():
    """Only private use, and marks and punctuation that one side's Unicode tables do not know."""
    tokenizers = pytest.importorskip("tokenizers")
    normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    dropping = Tokenizer(VOCAB, drop_private_use=True)
    different = {}
    for code in range(0x110000):
        if unicodedata.category(chr(code)) in ("Cs", "Cn"):
            continue
        text = f"x{chr(code)}y"
        split = pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text))
        if dropping._words(text) != [word for word, _ in split]:
            different.setdefault(unicodedata.category(chr(code)), []).append(code)
    assert different.pop("Lo", []) in ([], list(range(0x2B820, 0x2B920)))
    assert set(different) <= {"Cf", "Mc", "Mn", "Pd", "Pe", "Po", "Ps", "So", "Lu", "Ll"}
    assert sum(map(len, different.values())) < 1000


def shared_lines(limit):
    names = [
        "sentiment_bert4keras/sentiment.test.data",
        "chnsenticorp/dev.tsv",
        "lcqmc_dev_test/dev.txt",
        "lm_laws/text.txt",
    ]
    for name in names:
        yield from (SHARED / "data" / name).read_text("utf-8").splitlines()[:limit]


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared data sets")
def test_real_text_and_vocabulary():
    path = SHARED / "tokenizers/bert_chinese_vocab/vocab.txt"
    vocab = load_vocab(path)
    tokenizer = Tokenizer(path)
    assert (tokenizer.vocab_size, len(vocab)) == (21128, 21128)
    assert (vocab["[MASK]"], vocab[""], vocab["中"]) == (103, 343, 704)
    start = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    assert len(load_vocab(path, simplified=True, startswith=start)[0]) == 13584
    lines = list(shared_lines(250))
    for line in lines:
        assert tokenizer.encode(line)[0] == google_ids(line, vocab, True)
    try:
        from tokenizers import BertWordPieceTokenizer
    except ImportError:
        return
    rust = BertWordPieceTokenizer(str(path))
    tokenizer = Tokenizer(path, word_maxlen=100, drop_private_use=True)
    for line in lines:
        expected = rust.encode(line)
        token_ids, _, offsets = tokenizer.encode(line, return_offsets=True)
        assert token_ids == expected.ids
        assert offsets == expected.offsets
