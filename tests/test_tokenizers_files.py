"""What stands beside a vocabulary: added tokens, settings, names of special tokens."""

import base64
import json
import shutil
import unicodedata

import numpy as np
import pytest
import regex
import sentencepiece
from goldens import make_pegasus_tokenizer
from goldens.make_tokenizers_files import (
    BLOCK,
    CASES,
    FAIRSEQ,
    GOLDEN,
    SHARED,
    Odd,
    Real,
    hashed,
    numbers_of,
    pairs_of,
    real_lines,
    without_lines,
    write_case,
)
from goldens.odd_lines import ADDED, LINES
from hypothesis import given
from hypothesis import strategies as st

from bert4keras_lite import load_tokenizer
from bert4keras_lite.hub import CONFIG, TOKENIZER_FILE, VOCABULARY
from bert4keras_lite.tokenizers import (
    ByteBPETokenizer,
    SpTokenizer,
    Tokenizer,
    jieba_words,
    settings,
    splitting,
)
from bert4keras_lite.tokenizers.added import WHITE_SPACE, AddedToken, Finder, parts
from bert4keras_lite.tokenizers.byte_bpe import ALPHABET
from bert4keras_lite.tokenizers.loading import FILES
from bert4keras_lite.tokenizers.splitting import GPT2, QWEN, checked_pattern, composed, cut_by_all

pytestmark = pytest.mark.once

FROZEN = json.loads(GOLDEN.read_text("utf-8"))
ODD = Odd()


def load(folder, case, **options):
    """Reads the directory of a case as its reference does."""
    if CASES[case][0] in ("4", "5"):
        options["special_tokens_in_text"] = True
    if (folder / "vocab.txt").exists() and CASES[case][0] == "5":
        options |= {"word_maxlen": 100, "drop_private_use": True}
    return load_tokenizer(folder, **options)


@pytest.fixture
def directory(tmp_path):
    """Writes the directory of a case, with the small vocabularies, and changes in its files."""

    def write(case, **changes):
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        write_case(tmp_path, case, ODD)
        for name, change in changes.items():
            path = tmp_path / f"{name}.json"
            content = json.loads(path.read_text("utf-8")) if path.exists() else {}
            path.write_text(json.dumps({**content, **change}), "utf-8")
        return tmp_path

    return write


# Ids of transformers, bert4keras and CPM


def test_odd_lines():
    assert len(LINES) == len(set(LINES)) == 300
    assert FROZEN["odd"].keys() == FROZEN["real"].keys() == CASES.keys()
    assert FROZEN["calls"].keys() == {case for case, (by, _) in CASES.items() if by == "5"}


def comparable(lines, case, part):
    """The lines, empty where sentencepiece and `tokenizers` cut differently."""
    return without_lines(lines, FROZEN["differing"].get(case, {}).get(part, ()))


@pytest.mark.parametrize("case", CASES)
def test_ids_of_odd_lines(case, directory):
    tokenizer = load(directory(case), case)
    lines = comparable(LINES, case, "odd")
    for line, ids in zip(lines, FROZEN["odd"][case], strict=True):
        assert tokenizer.encode(line)[0] == ids, line
        assert tokenizer.encode(line, return_offsets=True)[0] == ids, line
    batch = tokenizer.encode_batch(lines[:40], length=40, maxlen=40)[0]
    for row, ids in zip(batch, FROZEN["odd"][case][:40], strict=True):
        assert row[: len(ids)].tolist() == ids


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared vocabularies and data sets")
@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[pytest.mark.long] * (c in ("words", "cpm"))) for c in CASES]
)
def test_ids_of_ten_thousand_real_lines(case, tmp_path):
    write_case(tmp_path, case, Real())
    tokenizer = load(tmp_path, case)
    lines = comparable(real_lines(), case, "real")
    hashes = hashed([tokenizer.encode(line)[0] for line in lines])
    assert len(lines) == len(hashes) * BLOCK == 10_000
    wrong = [i for i, pair in enumerate(zip(hashes, FROZEN["real"][case], strict=True))
             if len(set(pair)) > 1]  # fmt: skip
    assert not wrong, f"blocks of lines: {wrong}"


def calls(tokenizer, lines):
    """Hashes of ids, segments and offsets of lines and of pairs, as in the golden file."""

    def rows(texts):
        return [numbers_of(*tokenizer.encode(*text, return_offsets=True)) for text in texts]

    return {
        "texts": hashed(rows((line,) for line in lines)),
        "pairs": hashed(rows(pairs_of(lines))),
    }


@pytest.mark.parametrize("case", FROZEN["calls"])
def test_segments_and_offsets_of_odd_lines(case, directory):
    tokenizer = load(directory(case), case)
    assert calls(tokenizer, comparable(LINES, case, "odd")) == FROZEN["calls"][case]["odd"]


@pytest.mark.long
@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared vocabularies and data sets")
@pytest.mark.parametrize("case", [c for c, parts in FROZEN["calls"].items() if "real" in parts])
def test_segments_and_offsets_of_ten_thousand_real_lines(case, tmp_path):
    write_case(tmp_path, case, Real())
    lines = comparable(real_lines(), case, "real")
    assert calls(load(tmp_path, case), lines) == FROZEN["calls"][case]["real"]


def test_lines_that_differ_are_ties(tmp_path):
    """Two real lines have two cuts with the same sum of scores; sentencepiece's is ours."""
    for case in ("xlm_roberta", "xlm_roberta_one_file", "bge_m3"):
        assert len(FROZEN["differing"].get(case, {}).get("real", ())) <= 2


# Added tokens

WITH_ADDED = [case for case in CASES if "added" in case or case in ("one_file", "gpt2_one_file")]


FEW = st.text("ab<^]-\\天𝄞\n", max_size=12)


@given(st.sets(FEW.filter(bool), min_size=1), FEW)
def test_added_tokens_are_found_as_by_an_expression(contents, text):
    finder = Finder({content: AddedToken(content) for content in contents})
    longest_first = sorted(contents, key=len, reverse=True)
    pattern = regex.compile("|".join(map(regex.escape, longest_first)))
    spans = [match.span() for match in pattern.finditer(text)]
    assert [(start, end) for start, end, _ in finder.find(text)] == spans
    assert all(token.content == text[start:end] for start, end, token in finder.find(text))
    assert finder.is_in(text) == bool(spans)


def test_added_tokens_of_many_lengths():
    """Each of them would be looked for at each place of a text."""
    finder = Finder({"a" * i: AddedToken("a" * i) for i in range(1, 141)})
    assert [end - start for start, end, _ in finder.find("a" * 300)] == [140, 140, 20]
    with pytest.raises(ValueError, match=r"begin with 'a' have 141 lengths, 10011 characters"):
        Finder({"a" * i: AddedToken("a" * i) for i in range(1, 142)})
    with pytest.raises(ValueError, match=r"begin with 'b' have 1 lengths, 10001 characters"):
        Finder({"a": AddedToken("a"), "b" * 10_001: AddedToken("b")})


def parts_one_by_one(text, found):
    """What `parts` returns, in the plainest way."""
    result, done = [], 0
    for start, end, token in found:
        if token.lstrip:
            start = max(done, len(text[:start].rstrip()))
        if token.rstrip:
            end = len(text) - len(text[end:].lstrip())
        result += [(done, start, None)] * (done < start) + [(start, end, token)]
        done = end
    return result + [(done, len(text), None)] * (done < len(text) or not text)


@given(
    st.sets(st.text("a \u3000\n.", min_size=1, max_size=3), min_size=1, max_size=4),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    st.text("ab \u3000\n.", max_size=12),
)
def test_white_space_of_added_tokens(contents, flags, text):
    finder = Finder({content: AddedToken(content, None, *flags) for content in contents})
    found = finder.find(text)
    assert parts(text, found) == parts_one_by_one(text, found)
    if flags[2]:
        edges = {(text[:start][-1:], text[end:][:1]) for start, end, _ in found}
        assert not any(regex.search(r"\w", before + after) for before, after in edges)


def test_white_space_is_that_of_unicode():
    """Python counts four separators (U+001C to U+001F), which `tokenizers` leaves to the text."""
    space = [c for c in map(chr, range(0x110000)) if regex.match(r"\p{White_Space}", c)]
    assert sorted(WHITE_SPACE) == space
    token = AddedToken("x", None, lstrip=True, rstrip=True)
    text = "\x1f x\u3000\x1f"
    found = parts(text, Finder({"x": token}).find(text))
    assert [text[start:end] for start, end, _ in found] == ["\x1f", " x\u3000", "\x1f"]


class CountingText(str):
    """Counts the characters that are taken out of it."""

    count = 0

    def __getitem__(self, place):
        piece = super().__getitem__(place)
        self.count += len(piece)
        return piece


@pytest.mark.parametrize("content", [" ", "x", "x "])
@pytest.mark.parametrize("flag", ["lstrip", "rstrip", "single_word"])
def test_flags_of_added_tokens_take_linear_time(flag, content):
    finder = Finder({content: AddedToken(content, **{flag: True})})
    text = CountingText(content * 10_000)
    assert parts(text, finder.find(text))[-1][1] == len(text)
    assert text.count <= 4 * len(text)


def test_an_empty_added_token_is_an_error():
    with pytest.raises(ValueError, match="added_tokens: one of them is empty"):
        Tokenizer({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}, added_tokens={"": 3})


@pytest.mark.parametrize("case", WITH_ADDED)
def test_added_tokens_everywhere(case, directory):
    tokenizer = load_tokenizer(directory(case))
    rows = tokenizer.vocab_size - len(ADDED)
    for i, token in enumerate(ADDED):
        assert tokenizer.token_to_id(token) == rows + i
        assert tokenizer.id_to_token(np.int64(rows + i)) == token
    text = "今天<e>!x <l> New York</e>"
    ids, _, offsets = tokenizer.encode(text, return_offsets=True)
    spans = {
        tokenizer.id_to_token(i): text[slice(*span)] for i, span in zip(ids, offsets, strict=True)
    }
    for token in ("<e>!", "<l>", "New York", "</e>"):
        assert spans[token].strip() == token
    assert tokenizer.encode_batch([text])[0][0].tolist() == ids
    tokens = tokenizer.tokenize(text)
    assert tokenizer.tokens_to_ids(tokens) == ids
    places = tokenizer.rematch(text, tokens)
    place = places[tokens.index("New York")]
    assert text[place[0] : place[-1] + 1] == "New York"


@pytest.mark.parametrize("case", WITH_ADDED)
def test_decoding_keeps_added_tokens_and_drops_special_ones(case, directory):
    tokenizer = load_tokenizer(directory(case))
    decoded = tokenizer.decode(tokenizer.encode("ab<e>ab</e>")[0])
    is_special = tokenizer.added_tokens["</e>"].special
    assert is_special == (case not in ("added_tokens", "gpt2_added_tokens", "t5_added_tokens"))
    assert decoded.replace(" ", "") == ("ab<e>ab" if is_special else "ab<e>ab</e>")
    assert "New York" in tokenizer.decode(tokenizer.encode("New York")[0])


def test_special_tokens_in_a_text_are_text_unless_asked_for(directory):
    folder = directory("one_file")  # lists [MASK] among its added tokens
    assert load_tokenizer(folder).tokenize("[MASK]")[1:-1] == ["[", "M", "A", "S", "K", "]"] or (
        "[MASK]" not in load_tokenizer(folder).tokenize("[MASK]")
    )
    assert load_tokenizer(folder, special_tokens_in_text=True).tokenize("[MASK]")[1] == "[MASK]"
    sp = load_tokenizer(directory("t5"), special_tokens_in_text=True)
    assert sp.encode("<pad>")[0] == [sp.token_pad_id, sp.token_end_id]
    assert load_tokenizer(directory("t5")).encode("<pad>")[0][0] != sp.token_pad_id


def test_added_tokens_as_an_argument():
    vocab = {t: i for i, t in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "<", ">", "e"])}
    tokenizer = Tokenizer(vocab, added_tokens={"<e>": 8, "a": 4})
    assert tokenizer.encode("a<e>aa")[0] == [2, 4, 8, 4, 4, 3]
    assert tokenizer.vocab_size == 9
    assert tokenizer.decode([4, 8]) == "a <e>"
    with pytest.raises(ValueError, match="'a' is given the id 9; expected 4"):
        Tokenizer(vocab, added_tokens={"a": 9})
    with pytest.raises(ValueError, match="id 4 of '<e>' is that of 'a'"):
        Tokenizer(vocab, added_tokens={"<e>": 4})
    translated = Tokenizer(vocab, added_tokens={"<e>": 8}, token_translate={"<e>": "a"})
    assert translated.encode("<e>")[0] == [2, 4, 3]


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("flags", [{"lstrip": True}, {"rstrip": True}, {"lstrip": 1, "rstrip": 1}])
def test_rematch_of_added_tokens_that_take_white_space(normalized, flags):
    vocab = {t: i for i, t in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b"])}
    added = AddedToken("<e>", 6, normalized=normalized, **flags)
    tokenizer = Tokenizer(vocab, added_tokens=[added])
    text = "a  <e>   b"
    tokens = tokenizer.tokenize(text)
    assert tokens == ["[CLS]", "a", "<e>", "b", "[SEP]"]
    assert tokenizer.rematch(text, tokens) == [[], [0], [3, 4, 5], [9], []]


@pytest.mark.parametrize(
    ("text", "normalized", "positions"),
    [
        ("a<E\u0301\u0301\u0301>b", True, [1, 2, 6]),
        ("a \u200b<\u200bé\u200b> b", True, [3, 5, 7]),
        ("a <é>  b", False, [2, 3, 4]),
    ],
)
def test_rematch_of_added_tokens_that_are_normalized(text, normalized, positions):
    vocab = {t: i for i, t in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b"])}
    for flags in ({}, {"lstrip": True}, {"rstrip": True}, {"lstrip": True, "rstrip": True}):
        added = AddedToken("<é>", 6, normalized=normalized, **flags)
        tokenizer = Tokenizer(vocab, added_tokens=[added])
        tokens = tokenizer.tokenize(text)
        assert tokens == ["[CLS]", "a", "<é>", "b", "[SEP]"]
        assert tokenizer.rematch(text, tokens)[2] == positions


@pytest.mark.parametrize(
    ("content", "text", "tokens", "positions"),
    [
        ("a: ", "a:今天", ["a: ", "今", "天"], [0, 1]),
        (" b", "今b天", ["今", " b", "天"], [1]),
        ("  ", "今天", ["今", "  ", "天"], [1]),
    ],
)
def test_added_tokens_with_spaces_beside_chinese(content, text, tokens, positions):
    vocab = {t: i for i, t in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "今", "天"])}
    tokenizer = Tokenizer(vocab, added_tokens=[AddedToken(content, 6, normalized=True)])
    assert tokenizer.tokenize(text)[1:-1] == tokens
    assert tokenizer.encode(text)[0][1:-1] == [vocab.get(token, 6) for token in tokens]
    found = tokenizer.rematch(text, tokens)
    assert found[tokens.index(content)] == positions
    assert {i for part in found for i in part} == set(range(len(text)))


def test_ids_of_the_files_agree(directory):
    odd = {"added_tokens": {"<e>": 4000}}
    with pytest.raises(ValueError, match=r"the files give '<e>' the ids \d+ and 4000"):
        load_tokenizer(directory("added_tokens_decoder", **odd))
    folder = directory("one_file")
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[SEP]\n[CLS]\n", "utf-8")
    with pytest.raises(
        ValueError, match=r"vocab\.txt gives '\[SEP\]' the id 2, .*tokenizer\.json 3"
    ):
        load_tokenizer(folder)
    vocab = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    (folder / "vocab.txt").write_text("\n".join(vocab), "utf-8")
    assert load_tokenizer(folder, drop_private_use=True).encode("<e>") == (
        load_tokenizer(directory("one_file")).encode("<e>")
    )


def test_tokens_that_are_only_named_get_the_next_ids(directory):
    more = {"additional_special_tokens": ["<x>", {"content": "好", "special": True}, "<y>"]}
    tokenizer = load_tokenizer(directory("uncased", tokenizer_config=more))
    rows = tokenizer.vocab_size
    assert tokenizer.tokenize("<x>好<y>")[1:-1] == ["<x>", "好", "<y>"]
    assert tokenizer.tokens_to_ids(["<x>", "<y>"]) == [rows - 2, rows - 1]
    assert tokenizer.decode(tokenizer.encode("a<x>a")[0]) == "a a"


# The directories of `NEXT_IDS` have this vocabulary; the ids are those of transformers 5.24
FEW = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]
NEXT_IDS = {
    "mask": ({"mask_token": "<m>"}, {"<m>": 6, "<x>": 7}),
    "no_mask": ({"mask_token": None}, {"<x>": 6}),
    "pad": ({"pad_token": "<p>", "cls_token": "<c>"}, {"<p>": 6, "<c>": 7, "<x>": 8}),
    "order": ({"eos_token": "<e>", "bos_token": "<b>"}, {"<b>": 6, "<e>": 7, "<x>": 8}),
    "twice": ({"eos_token": "<e>", "cls_token": "<e>"}, {"<e>": 6, "<x>": 7}),
    "one_of_the_vocabulary": ({"eos_token": "a"}, {"<x>": 6}),
    "models_own": ({"extra_special_tokens": {"image_token": "<i>"}}, {"<i>": 6, "<x>": 7}),
    "models_own_key": ({"image_token": "<i>"}, {"<i>": 6, "<x>": 7}),
    "numbered": (
        {"mask_token": "<m>", "added_tokens_decoder": {"6": {"content": "<y>"}}},
        {"<y>": 6, "<m>": 7, "<x>": 8},
    ),
}


def few_tokens(folder, config, vocab=FEW):
    (folder / "vocab.txt").write_text("\n".join(vocab) + "\n", "utf-8")
    content = {"tokenizer_class": "BertTokenizer", "additional_special_tokens": ["<x>"]} | config
    (folder / "tokenizer_config.json").write_text(json.dumps(content), "utf-8")
    return load_tokenizer(folder)


@pytest.mark.parametrize("case", NEXT_IDS)
def test_special_tokens_that_the_vocabulary_lacks_come_first(case, tmp_path):
    config, ids = NEXT_IDS[case]
    tokenizer = few_tokens(tmp_path, config)
    assert {token: tokenizer.known_id(token) for token in tokenizer.added_tokens} == ids
    assert tokenizer.tokenize("a<x>")[1:-1] == ["a", "<x>"]


def test_special_tokens_of_a_class_that_the_vocabulary_lacks(tmp_path):
    """They are numbered as well, where there are additional ones."""
    no_mask = [*FEW[:4], "b", "a"]
    assert few_tokens(tmp_path, {}, no_mask).tokens_to_ids(["[MASK]", "<x>"]) == [6, 7]
    none = few_tokens(tmp_path, {"additional_special_tokens": []}, no_mask)
    assert (none.vocab_size, none.token_mask_id) == (6, None)
    with pytest.raises(ValueError, match="token_unk='<u>' is not in the vocabulary"):
        few_tokens(tmp_path, {"unk_token": "<u>"})


def test_special_tokens_of_cpm_are_its_own(directory):
    folder = directory("cpm", tokenizer_config={"mask_token": "<no piece>"})
    assert load_tokenizer(folder).known_id("<no piece>") is None


# Writing


@pytest.mark.parametrize("case", CASES)
def test_saved_tokenizer_is_read_back(case, directory, tmp_path_factory):
    tokenizer = load(directory(case), case)
    folder = tmp_path_factory.mktemp("saved") / "new"
    tokenizer.save(folder)
    again = load(folder, case)
    assert type(again) is type(tokenizer)
    assert again.special_tokens == tokenizer.special_tokens
    assert again.vocab_size == tokenizer.vocab_size
    # A `tokenizer.json` lists special tokens of the vocabulary among the added ones.
    assert again.added_tokens.keys() - FAIRSEQ == tokenizer.added_tokens.keys() - FAIRSEQ
    assert again.token_second == tokenizer.token_second
    for texts in (("a <mask> b天", "今天"), ("", " é")):
        assert again.encode(*texts, return_offsets=True) == (
            tokenizer.encode(*texts, return_offsets=True)
        )
    for line, ids in zip(comparable(LINES, case, "odd"), FROZEN["odd"][case], strict=True):
        assert again.encode(line)[0] == ids, line
        assert again.decode(ids) == tokenizer.decode(ids)


def test_what_is_saved_of_arguments(tmp_path):
    vocab = {t: i for i, t in enumerate(["[PAD]", "[UNK]", "a", "今天", "##b"])}
    Tokenizer(vocab, False, 7, token_start=None, token_end=None, pre_tokenize=jieba_words).save(
        tmp_path
    )
    again = load_tokenizer(tmp_path)
    assert (again._rules.lower, again._word_maxlen, again.token_start) == (False, 7, None)
    assert again._pre_tokenize is jieba_words
    spaced = Tokenizer({**vocab, "a b": 5}, token_start=None, token_end=None)
    with pytest.raises(ValueError, match="'a b' contains white space"):
        spaced.save(tmp_path)


def test_tokens_of_white_space_in_both_files(directory, tmp_path_factory):
    """Google's Chinese vocabulary has such tokens; `vocab.txt` names them by its first column."""
    folder = directory("one_file")
    content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    vocab = content["model"]["vocab"]
    sizes = len(vocab), len(vocab) + 11  # after the added tokens
    vocab |= {"\u2028": sizes[1], "##\u2028": sizes[1] + 1, "ab ": sizes[1] + 2}
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    tokenizer = load_tokenizer(folder)
    names = [tokenizer.id_to_token(sizes[1] + i) for i in range(3)]
    assert names == ["", "##", "ab "] and tokenizer.token_to_id("ab") == vocab["ab"]
    del vocab["ab "]
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    lines = {i: token for token, i in vocab.items()}
    rows = [lines.get(i, f"[unused{i}]") for i in range(max(lines) + 1)]
    saved = tmp_path_factory.mktemp("saved")
    load_tokenizer(folder).save(saved)
    again = load_tokenizer(saved)
    assert (again.vocab_size, again.token_to_id("##")) == (len(rows), sizes[1] + 1)


@pytest.mark.parametrize("case", CASES)
def test_files_that_belong_to_a_tokenizer(case, directory):
    """What the command line copies to a converted checkpoint, and the hub downloads."""
    for path in directory(case).iterdir():
        assert path.name == "config.json" or any(path.match(pattern) for pattern in FILES)
        patterns = (CONFIG, VOCABULARY, TOKENIZER_FILE)
        assert any(pattern.fullmatch(path.name) for pattern in patterns)


# Settings


def test_settings_that_are_null_are_none(directory):
    config = {"do_lower_case": None, "strip_accents": None, "tokenize_chinese_chars": None}
    folder = directory("uncased", tokenizer_config=config)
    assert load_tokenizer(folder).encode("É天B") == load_tokenizer(directory("uncased")).encode(
        "É天B"
    )


def test_without_start_and_end_token(directory):
    config = {"cls_token": None, "sep_token": None}
    assert load_tokenizer(directory("uncased", tokenizer_config=config)).tokenize("好") == ["好"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"do_basic_tokenize": False}, r"do_basic_tokenize is False; expected True"),
        ({"never_split": ["好"]}, r"the key 'never_split'"),
        ({"casing": "upper"}, r"the key 'casing' \(value 'upper'\) is not understood"),
        ({"tokenizer_class": "BertJapaneseTokenizer"}, r"its tokenizer is 'BertJapaneseTokenizer'"),
        ({"split_special_tokens": True}, r"split_special_tokens is True"),
        ({"do_lower_case": "false"}, r"do_lower_case is 'false'; expected true or false"),
        ({"strip_accents": 0}, r"strip_accents is 0; expected true or false"),
        ({"max_input_chars_per_word": "9"}, r"_word is '9'; expected a whole number"),
        ({"mask_token": 3}, r"mask_token is 3; expected a token"),
        ({"additional_special_tokens": [""]}, r"holds an empty token"),
        (
            {"added_tokens_decoder": {"x": {"content": "<e>"}}},
            r"'x' of added_tokens_decoder is not an id",
        ),
        ({"added_tokens_decoder": []}, r"added_tokens_decoder is \[\]; expected an object id"),
        ({"additional_special_tokens": "<e>"}, r"_special_tokens is '<e>'; expected a list"),
        ({"extra_special_tokens": "<e>"}, r"extra_special_tokens is '<e>'; expected a list"),
        ({"add_bos_token": "false"}, r"add_bos_token is 'false'; expected true or false"),
        ({"add_eos_token": "false"}, r"add_eos_token is 'false'; expected true or false"),
        ({"never_split": True}, r"never_split is True; expected a list of tokens"),
        ({"never_split": [[]]}, r"the key 'never_split'"),
    ],
)
def test_settings_that_are_not_understood(directory, config, message):
    with pytest.raises(ValueError, match=rf"(tokenizer_config\.json|test_sett).*{message}"):
        load_tokenizer(directory("uncased", tokenizer_config=config))


@pytest.mark.parametrize(
    "value", ["false", [], {}, 1.5, -1, True, False, 0, "", [1], {"a": 1}, ["x"]]
)
def test_every_setting_has_a_kind(directory, value):
    """A value of another kind is an error that names the key, or changes nothing."""
    text = "天气 false É [MASK] 好"
    ids = load_tokenizer(directory("uncased")).encode(text)
    kinds = dict.fromkeys(settings._FLAGS.split("|"), bool) | dict.fromkeys(settings._COUNTS, int)
    for key in {*kinds, *settings._TYPES, *settings._ONLY} - {"tokenizer_class"}:  # a name
        folder = directory("uncased", tokenizer_config={key: value})
        try:
            found = load_tokenizer(folder).encode(text)
        except ValueError as error:
            assert key in str(error) and "settings of a tokenizer" not in str(error)
        else:
            assert found == ids or type(value) is kinds.get(key)


@pytest.mark.parametrize(
    ("config", "generation", "others"),
    [
        ({}, None, []),
        ({"eos_token_id": None}, {}, []),
        ({"eos_token_id": 7}, {}, [7]),
        ({"eos_token_id": 7}, {"eos_token_id": [8, 9, 8]}, [8, 9]),
        ({"eos_token_id": [50256, -1, 7]}, None, [7]),
    ],
)
def test_what_ends_a_text(directory, tmp_path, config, generation, others):
    folder = directory("uncased")
    (folder / "config.json").write_text(json.dumps(config))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.stop_ids == [tokenizer.token_end_id, *others]
    tokenizer.save(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again").stop_ids == tokenizer.stop_ids
    smaller, keep_tokens = tokenizer.simplified()
    assert {keep_tokens[i] for i in smaller.stop_ids} <= {*tokenizer.stop_ids}


def test_the_end_of_bytes_is_their_unknown_token(directory):
    folder = directory("gpt2_one_file")
    end = load_tokenizer(folder).token_to_id("<|endoftext|>")
    (folder / "config.json").write_text(json.dumps({"eos_token_id": end}))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.stop_ids == [end] == [tokenizer.token_unk_id]


def test_an_unknown_token_ends_no_text(directory):
    folder = directory("uncased")
    unknown = load_tokenizer(folder).token_unk_id
    (folder / "config.json").write_text(json.dumps({"eos_token_id": unknown}))
    assert load_tokenizer(folder).stop_ids == [load_tokenizer(folder).token_end_id]


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("told", ["</s>", 1.0, True, [None], {"a": 1}])
def test_ids_of_what_ends_a_text(directory, name, told):
    folder = directory("uncased")
    (folder / name).write_text(json.dumps({"eos_token_id": told}))
    with pytest.raises(
        ValueError, match=rf"/{name}: eos_token_id is .*; expected an id, or a list"
    ):
        load_tokenizer(folder)


@pytest.mark.parametrize("i", ["5", None, 1.5, True, -1, []])
def test_ids_of_added_tokens(directory, i):
    folder = directory("uncased")
    (folder / "added_tokens.json").write_text(json.dumps({"<e>": i}), "utf-8")
    with pytest.raises(ValueError, match=r"added_tokens\.json: <e> is .*; expected a whole number"):
        load_tokenizer(folder)


def test_bookkeeping_passes(directory):
    config = {
        "model_max_length": 512,
        "clean_up_tokenization_spaces": True,
        "padding_side": "left",
        "name_or_path": "x",
        "never_split": None,
        "do_basic_tokenize": True,
        "chat_template": "{{ x }}",
        "special_tokens_map_file": "/x",
        "init_inputs": [],
        "legacy": True,
    }
    folder = directory("uncased", tokenizer_config=config)
    assert load_tokenizer(folder).encode("天气") == load_tokenizer(directory("uncased")).encode(
        "天气"
    )


def test_class_of_words(directory):
    assert load_tokenizer(directory("words"))._pre_tokenize is jieba_words


@pytest.fixture
def pegasus(tmp_path):
    """Writes a directory with the files of IDEA-CCNL's PEGASUS, in which only one tells so."""

    def write(vocab, settings):
        (tmp_path / "vocab.txt").write_text("\n".join(vocab) + "\n", "utf-8")
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
        model_type = None if settings else "pegasus"
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
        return tmp_path

    return write


@pytest.mark.parametrize(
    "settings", [{}, make_pegasus_tokenizer.SETTINGS | {"tokenizer_class": "PegasusTokenizer"}]
)
def test_ids_of_pegasus(pegasus, tmp_path_factory, settings):
    tokenizer = load_tokenizer(pegasus(make_pegasus_tokenizer.vocabulary(), settings))
    lines = make_pegasus_tokenizer.lines()
    expected = json.loads(make_pegasus_tokenizer.GOLDEN.read_text("utf-8"))
    saved = tmp_path_factory.mktemp("saved")
    tokenizer.save(saved)
    for again in (tokenizer, load_tokenizer(saved)):
        for line, ids in zip(lines, expected, strict=True):
            assert again.encode(line)[0] == ids, line
        assert (again.token_pad_id, again.stop_ids, again.token_start) == (0, [1], None)
        assert again.decode(expected[0]) == tokenizer.decode(expected[0])


def test_special_tokens_of_pegasus_that_are_in_the_file(pegasus):
    """As its class writes the vocabulary; and one that has both."""
    named = {"tokenizer_class": "PegasusTokenizer", "eos_token": "<end>"}
    vocab = ["<pad>", "<end>", "<mask_1>", "<mask_2>", "<unk>", "[unused1]", "[PAD]", "今天"]
    tokenizer = load_tokenizer(pegasus(vocab, named))
    assert tokenizer.encode("今天很") == ([7, 4, 1], [0, 0, 0])
    assert tokenizer.token_to_id("[unused1]") == 5


def test_pegasus_without_an_end_token(pegasus):
    folder = pegasus(["[PAD]", "[UNK]", "[unused2]", "[unused3]", "今天"], {})
    with pytest.raises(ValueError, match=r"neither '\[unused1\]' nor '</s>'; expected one of them"):
        load_tokenizer(folder)
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "天"]  # BERT's, if it says so
    folder = pegasus(vocab, {"tokenizer_class": "BertTokenizer"})
    assert load_tokenizer(folder).encode("天")[0] == [2, 4, 3]


@pytest.mark.parametrize(("key", "place"), [("add_bos_token", 0), ("add_eos_token", -1)])
def test_start_and_end_token_of_gpt2(directory, key, place):
    tokenizer = load_tokenizer(directory("gpt2", tokenizer_config={key: True}))
    assert tokenizer.tokenize("abc")[place] == "<|endoftext|>"


# tokenizer.json


def split(pattern, **changes):
    """A pre-tokenizer that splits by a pattern."""
    part = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    return {
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{**part, **changes}, byte_level]}
    }


TEMPLATE = {"type": "TemplateProcessing", "special_tokens": {
    t: {"id": t, "ids": [i], "tokens": [t]} for i, t in ((2, "[CLS]"), (3, "[SEP]"))
}}  # fmt: skip
CLS, SEP, SEP_1 = (
    {"SpecialToken": {"id": t, "type_id": i}} for t, i in (("[CLS]", 0), ("[SEP]", 0), ("[SEP]", 1))
)
A, B = ({"Sequence": {"id": t, "type_id": i}} for i, t in enumerate("AB"))
BOTH = {"single": [CLS, A, SEP], "pair": [CLS, A, SEP, B, SEP_1]}
NORMALIZER = {
    "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": True,
}  # fmt: skip
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False}


def template(special_tokens=None, **templates):
    """A post-processor that puts `[CLS]` and `[SEP]` around texts, but for changes."""
    special_tokens = {**TEMPLATE["special_tokens"], **(special_tokens or {})}
    return {"post_processor": {**TEMPLATE, **BOTH, **templates, "special_tokens": special_tokens}}


def without(part, key):
    return {name: value for name, value in part.items() if name != key}


@pytest.mark.parametrize(
    ("case", "change", "message"),
    [
        ("gpt2_one_file", {"normalizer": {"type": "NFKC"}}, "the normalizer is NFKC"),
        ("gpt2_one_file", split({"Regex": r"\w"}), r"has .* at position 0; expected only elements"),
        ("gpt2_one_file", split({"Regex": "a)"}), "is not a regular expression"),
        ("gpt2_one_file", split({"Regex": "a" * 1001}), "expected a regular expression of at most"),
        ("gpt2_one_file", split({"Regex": "(a{99}){99}"}), "repeats too much"),
        ("gpt2_one_file", split({"Rex": "a"}), "the pattern of a Split is"),
        ("gpt2_one_file", split("a"), "the pattern of a Split is 'a'"),
        ("gpt2_one_file", split({"Regex": "a"}, behavior="Removed"), "behavior of the pre_token"),
        ("gpt2_one_file", split({"Regex": "a"}, invert=True), "invert of the pre_token"),
        (
            "gpt2_one_file",
            {"pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": split({"Regex": "a"})["pre_tokenizer"]["pretokenizers"][::-1],
            }},
            "the pre_tokenizer is ByteLevel and Split; expected ByteLevel as the last part",
        ),
        ("gpt2_one_file", {"pre_tokenizer": None}, "the pre_tokenizer is None"),
        (
            "gpt2_one_file",
            {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}},
            "add_prefix_space of the pre_tokenizer is True",
        ),
        (
            "gpt2_one_file",
            {"pre_tokenizer": {"type": "ByteLevel"}},
            "add_prefix_space of the pre_tokenizer is missing; expected False",
        ),
        (
            "gpt2_one_file",
            {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [BYTE_LEVEL, BYTE_LEVEL]}},
            "the pre_tokenizer is ByteLevel and ByteLevel",
        ),
        (
            "gpt2_one_file",
            {"pre_tokenizer": {"type": "Sequence", "normalizers": [BYTE_LEVEL]}},
            "the pre_tokenizer is Sequence",
        ),
        ("gpt2_one_file", {"decoder": {"type": "BPEDecoder"}}, "the decoder is BPEDecoder"),
        ("gpt2_one_file", {"post_processor": {"type": "RobertaProcessing"}}, "'cls'"),
        (
            "gpt2_one_file",
            {"post_processor": {"type": "RobertaProcessing", "cls": ["a", 9999], "sep": ["a", 1]}},
            "the post_processor is",
        ),
        ("one_file", {"normalizer": None}, "the normalizer is None"),
        (
            "one_file",
            {"normalizer": {**NORMALIZER, "clean_text": False}},
            "clean_text of the normalizer is False",
        ),
        (
            "one_file",
            {"normalizer": without(NORMALIZER, "lowercase")},
            "lowercase of the normalizer is missing; expected True or False",
        ),
        (
            "one_file",
            {"normalizer": {"type": "Sequence", "normalizers": [NORMALIZER, NORMALIZER]}},
            "the normalizer is BertNormalizer and BertNormalizer",
        ),
        ("one_file", {"pre_tokenizer": {"type": "Whitespace"}}, "pre_tokenizer is Whitespace"),
        (
            "one_file",
            {"post_processor": {**TEMPLATE, "single": [CLS, CLS, A, SEP], "pair": [A, B]}},
            "the post_processor is",
        ),
        (
            "one_file",
            template(pair=[CLS, A, SEP, SEP, B]),
            "the post_processor is",
        ),
        ("one_file", {"model": {"type": "WordLevel", "vocab": {}}}, "got 'WordLevel'"),
        ("one_file", {"model": {"type": "WordPiece"}}, "the model has no vocab"),
        *(
            ("one_file", change, "the post_processor is .*; expected a TemplateProcessing")
            for change in (
                template({"[CLS]": {"id": "[CLS]", "ids": [2, 4], "tokens": ["[CLS]", "[MASK]"]}}),
                template({"[CLS]": {"id": "[CLS]", "ids": [4], "tokens": ["[CLS]"]}}),
                template(single=[B, SEP]),
                template(single=[CLS, A, SEP_1]),
                template(pair=[CLS, A, SEP, {"Sequence": {"id": "B", "type_id": 0}}, SEP_1]),
                template(pair=[CLS, A, SEP, {"Sequence": {"id": "B", "type_id": 0}}, SEP]),
                template(pair=[CLS, A, SEP, SEP_1, B, SEP_1]),
                template(pair=[CLS, A, SEP, {"Sequence": {"id": "B", "type_id": 2}}]),
                template(pair=[CLS, A, SEP, A, SEP_1]),
                template(pair=[CLS, A, SEP, B]),
                template(pair=[CLS, A, SEP, SEP_1, SEP_1, B, SEP_1]),
                template(pair=[CLS, A, SEP, B, B, SEP_1]),
                template(pair=[CLS, {"Sequence": {"id": "B", "type_id": 0}}, SEP,
                               {"Sequence": {"id": "A", "type_id": 1}}, SEP_1]),
                {"post_processor": {
                    "type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["a", 2]}},
                {"post_processor": {
                    "type": "Sequence", "processors": [template()["post_processor"]] * 2}},
            )
        ),
    ],
)  # fmt: skip
def test_parts_that_are_not_understood(directory, case, change, message):
    with pytest.raises(ValueError, match=rf"tokenizer\.json: .*{message}"):
        load_tokenizer(directory(case, tokenizer=change))


@pytest.mark.parametrize(
    ("case", "key"),
    [("one_file", key) for key in ("normalizer", "pre_tokenizer")]
    + [("gpt2_one_file", "pre_tokenizer")],
)
def test_parts_that_are_missing(directory, case, key):
    path = directory(case) / "tokenizer.json"
    path.write_text(json.dumps(without(json.loads(path.read_text("utf-8")), key)), "utf-8")
    with pytest.raises(ValueError, match=rf"tokenizer\.json: the {key} is None"):
        load_tokenizer(path.parent)


@pytest.mark.parametrize(
    ("case", "change", "message"),
    [
        ("one_file", {"unk_token": None}, "unk_token of the model is None; expected a token"),
        ("one_file", {"unk_token": "[unknown]"}, r"unk_token of the model is '\[unknown\]'"),
        ("one_file", {"max_input_chars_per_word": None}, "max_input_chars_per_word is None"),
        ("gpt2_one_file", {"fuse_unk": True}, "fuse_unk of the model is True; expected False"),
        ("gpt2_one_file", {"vocab": {"a": 0}}, "unk_token of the model is None; expected a token"),
    ],
)
def test_models_that_are_not_understood(directory, case, change, message):
    path = directory(case) / "tokenizer.json"
    content = json.loads(path.read_text("utf-8"))
    content["model"] |= change
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(ValueError, match=rf"tokenizer\.json: .*{message}"):
        load_tokenizer(path.parent)


def test_options_of_one_file(directory):
    tokenizer = load_tokenizer(directory("one_file"))
    assert tokenizer.tokenize("É" * 101)[1:-1] == ["e" * 101] != tokenizer.tokenize("É" * 100)[1:-1]
    assert (tokenizer.token_start, tokenizer.token_end) == ("[CLS]", "[SEP]")
    only_end = template(single=[A, SEP], pair=[A, SEP, B, SEP_1])
    tokenizer = load_tokenizer(directory("one_file", tokenizer=only_end))
    assert tokenizer.tokenize("a") == ["a", "[SEP]"]
    folder = directory("one_file", tokenizer={"post_processor": None})
    assert load_tokenizer(folder).tokenize("a") == ["a"]
    content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps(without(content, "post_processor")), "utf-8")
    assert load_tokenizer(folder).tokenize("a") == ["a"]


# of spaces, what sentencepiece does by default
SPACES = {
    "type": "Sequence",
    "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁"}],
}


def scored(tokenizer):
    """The pieces of a sentencepiece tokenizer, as `tokenizer.json` has them."""
    model = tokenizer.sp_model
    return [[model.id_to_piece(i), model.get_score(i)] for i in range(model.get_piece_size())]


def charsmap(tokenizer):
    """How a sentencepiece tokenizer normalizes, as `tokenizer.json` has it."""
    encoded = base64.b64encode(tokenizer.rules()["precompiled_charsmap"]).decode()
    return {"type": "Precompiled", "precompiled_charsmap": encoded}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"normalizer": None}, "precompiled_charsmap"),
        ({"model": {"unk_id": 5}}, "unk_id"),
        ({"model": {"byte_fallback": True}}, "byte_fallback"),
        ({"pre_tokenizer": SPACES["pretokenizers"][0]}, "add_dummy_prefix"),
        ({"pre_tokenizer": SPACES["pretokenizers"][1]}, "remove_extra_whitespaces"),
    ],
)
def test_rules_that_contradict_a_model(directory, change, name):
    folder = directory("t5", tokenizer_config={"extra_ids": 0})
    tokenizer = load_tokenizer(folder)
    model = {"type": "Unigram", "vocab": scored(tokenizer), "unk_id": tokenizer.token_unk_id}
    content = {
        "pre_tokenizer": SPACES,
        "normalizer": charsmap(tokenizer),
        "model": model,
    }
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    load_tokenizer(folder)
    content |= change | {"model": model | change.get("model", {})}
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(ValueError, match=rf"tokenizer\.json: {name} is .*expected the same"):
        load_tokenizer(folder)


STRIPPED = [
    {"type": "Strip", "strip_left": False, "strip_right": True},
    {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"},
]


@pytest.mark.parametrize(
    ("trained", "name"),
    [
        ({}, None),
        ({"add_dummy_prefix": False}, "add_dummy_prefix"),
        ({"remove_extra_whitespaces": False}, "remove_extra_whitespaces"),
        ({"treat_whitespace_as_suffix": True}, "treat_whitespace_as_suffix"),
        ({"control_symbols": ["<s>"]}, None),
        ({"control_symbols": ["天气"]}, "'天气' as a piece that never matches text"),
    ],
)
def test_settings_of_a_model_that_contradict_one_file(tmp_path, trained, name):
    path = tmp_path / "spiece.model"
    with open(path, "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["今天天气不错 hello world", "我们去公园"] * 9),
            **{"model_writer": file, "vocab_size": 99, "hard_vocab_limit": False},
            **{"model_type": "unigram", "minloglevel": 5, "num_threads": 1, "bos_id": -1},
            **trained,
        )
    tokenizer = load_tokenizer(tmp_path)
    model = {"type": "Unigram", "vocab": scored(tokenizer), "unk_id": tokenizer.token_unk_id}
    content = {
        "pre_tokenizer": SPACES["pretokenizers"][1],
        "normalizer": {"type": "Sequence", "normalizers": [charsmap(tokenizer), *STRIPPED]},
        "model": model,
    }
    write = (tmp_path / "tokenizer.json").write_text
    write(json.dumps(content), "utf-8")
    if name is None:
        load_tokenizer(tmp_path)
        content["normalizer"]["normalizers"].reverse()  # a space of the charsmap stays where it is
        write(json.dumps(content), "utf-8")
        name = "remove_extra_whitespaces"
    with pytest.raises(ValueError, match=rf"{name}.*expected the same"):
        load_tokenizer(tmp_path)


def test_t5_that_begins_no_word_behind_a_sentinel(directory):
    for legacy in (True, None, False):
        folder = directory("t5", tokenizer_config={"extra_ids": 2, "legacy": legacy})
        if legacy is not False:
            assert load_tokenizer(folder).tokenize("a<extra_id_0>a").count("<extra_id_0>") == 1
    with pytest.raises(ValueError, match="legacy is False, and there is no tokenizer"):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (-1.5, r"spiece\.model gives .* the score .*tokenizer\.json -1\.5; expected the same"),
        (None, "the score of .* is None; expected a number"),
        ("-1", "the score of .* is '-1'; expected a number"),
        (
            10**400,
            r"the score of .* is <an integer of 1329 bits>; expected a number",
        ),
    ],
)
def test_scores_that_contradict_a_model(directory, score, message):
    folder = directory("t5", tokenizer_config={"extra_ids": 0})
    tokenizer = load_tokenizer(folder)
    vocab = scored(tokenizer)
    content = {
        "normalizer": charsmap(tokenizer),
        "pre_tokenizer": SPACES,
        "model": {"type": "Unigram", "vocab": vocab},
    }
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    load_tokenizer(folder)
    vocab[-1][1] = score
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(ValueError, match=message):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("vocab", "processor", "message"),
    [
        ({"ab": 1}, None, "the vocab of the model is {'ab': 1}; expected a list of pairs"),
        (["ab", "cd"], None, "the vocab of the model is .*'ab', 'cd'.*; expected a list of pairs"),
        ([["a", 1, 2]], None, "the vocab of the model is .*; expected a list of pairs"),
        (None, {"cls": ["a"], "sep": ["b", 1]}, "the post_processor is .*; expected a Template"),
        (None, {"cls": ["a", 1], "sep": ""}, "the post_processor is .*; expected a Template"),
        (None, {"cls": ["a", 1], "sep": None}, "the post_processor is .*; expected a Template"),
    ],
)
def test_lists_of_other_lengths_name_the_file(directory, vocab, processor, message):
    folder = directory("t5", tokenizer_config={"extra_ids": 0})
    content = {
        "normalizer": charsmap(load_tokenizer(folder)),
        "pre_tokenizer": SPACES,
        "model": {"type": "Unigram", "vocab": vocab or scored(load_tokenizer(folder))},
        "post_processor": processor and {"type": "BertProcessing", **processor},
    }
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(ValueError, match=rf"tokenizer\.json: {message}"):
        load_tokenizer(folder)


@pytest.mark.parametrize("text", ["é", "A"])
def test_charsmap_that_is_not_base64(directory, text):
    folder = directory("t5", tokenizer_config={"extra_ids": 0})
    content = {
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": text},
        "pre_tokenizer": SPACES,
        "model": {"type": "Unigram", "vocab": scored(load_tokenizer(folder))},
    }
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(ValueError, match=r"tokenizer\.json: expected a precompiled_charsmap"):
        load_tokenizer(folder)


@pytest.mark.parametrize("change", [reversed, lambda merges: merges[:-1]])
def test_merges_that_contradict_each_other(directory, change):
    folder = directory("gpt2_one_file")
    content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    pairs = [
        pair.split(" ") if isinstance(pair, str) else pair for pair in content["model"]["merges"]
    ]
    (folder / "vocab.json").write_text(json.dumps(content["model"]["vocab"]), "utf-8")
    (folder / "merges.txt").write_text("\n".join(map(" ".join, pairs)), "utf-8")
    load_tokenizer(folder)
    (folder / "merges.txt").write_text("\n".join(map(" ".join, change(pairs))), "utf-8")
    with pytest.raises(
        ValueError, match=r"merges\.txt has .* as merge number .*tokenizer\.json .*same"
    ):
        load_tokenizer(folder)


def test_what_is_around_a_text_of_sentencepiece(directory):
    """The post-processor of `tokenizer.json` says it, not the pieces of the model."""
    folder = directory("t5", tokenizer_config={"extra_ids": 0})
    tokenizer = load_tokenizer(folder)
    end = {"id": "</s>", "ids": [tokenizer.token_end_id], "tokens": ["</s>"]}
    texts = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
    after = {"SpecialToken": {"id": "</s>", "type_id": 0}}
    content = {
        "normalizer": charsmap(tokenizer),
        "pre_tokenizer": SPACES,
        "post_processor": {
            "type": "TemplateProcessing", "special_tokens": {"</s>": end},
            "single": [texts[0], after], "pair": [texts[0], after, texts[1], after],
        },
        "model": {
            "type": "Unigram",
            "vocab": scored(tokenizer),
        },
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    assert load_tokenizer(folder).encode("a b") == tokenizer.encode("a b")
    (folder / "tokenizer.json").write_text(json.dumps(without(content, "post_processor")), "utf-8")
    assert load_tokenizer(folder).encode("a b")[0] == tokenizer.encode("a b")[0][:-1]


def test_the_class_determines_how_words_are_split(directory):
    """GPT-2 and Qwen have the same files, and split words by other patterns."""
    text = "12 Ab'S e\u0301\n\n x"
    config = {"tokenizer_class": "Qwen2Tokenizer"}
    qwen = load_tokenizer(directory("gpt2", tokenizer_config=config)).encode(text)
    gpt2 = load_tokenizer(directory("gpt2")).encode(text)
    assert qwen != gpt2
    folder = directory("gpt2", config={"model_type": "qwen2"})
    (folder / "tokenizer_config.json").unlink()
    assert load_tokenizer(folder).encode(text) == qwen
    (folder / "config.json").write_text(json.dumps({"model_type": "bloom"}))
    with pytest.raises(ValueError, match=r"its tokenizer is 'bloom'.*Qwen2Tokenizer"):
        load_tokenizer(folder)


def test_a_file_that_contradicts_the_class(directory):
    content = json.loads((directory("qwen2_one_file") / "tokenizer.json").read_text("utf-8"))
    named = directory("qwen2_one_file", tokenizer_config={"tokenizer_class": "Qwen2Tokenizer"})
    load_tokenizer(named)
    content["normalizer"] = None
    (named / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(ValueError, match=r"make normal_form None, and Qwen2Tokenizer has 'NFC'"):
        load_tokenizer(named)


def test_fairseq(directory):
    """XLM-R's ids are those of its pieces plus one, with four others in front."""
    tokenizer = load_tokenizer(directory("xlm_roberta"))
    assert tokenizer.ids_to_tokens(range(4)) == FAIRSEQ
    assert tokenizer.id_to_token(tokenizer.vocab_size - 1) == "<mask>" == tokenizer.token_mask
    assert (tokenizer.token_pad_id, tokenizer.token_unk_id) == (1, 3)
    assert tokenizer.model_max_length == 512
    assert set(tokenizer.encode("a", "a")[1]) == {0}
    kept = [0, 1, 2, 3, *tokenizer.encode("天")[0][1:-1], tokenizer.token_mask_id]
    kept = list(dict.fromkeys(kept))
    fewer = load_tokenizer(directory("xlm_roberta"), keep_tokens=kept)
    assert [kept[i] for i in fewer.encode("天")[0]] == tokenizer.encode("天")[0]
    folder = directory("xlm_roberta", tokenizer_config={"tokenizer_class": None})
    assert load_tokenizer(folder).encode("a天") == tokenizer.encode("a天")
    (folder / "config.json").unlink()
    assert load_tokenizer(folder).encode("a天") == tokenizer.encode("a天")


def test_fairseq_of_other_files(directory):
    folder = directory("xlm_roberta", tokenizer_config={"tokenizer_class": "T5Tokenizer"})
    with pytest.raises(ValueError, match=r"bpe\.model is a file of XLMRobertaTokenizer; expected"):
        load_tokenizer(folder)
    folder = directory("t5", tokenizer_config={"tokenizer_class": "CamembertTokenizerFast"})
    with pytest.raises(ValueError, match="its tokenizer is 'CamembertTokenizerFast'"):
        load_tokenizer(folder)
    folder = directory("t5", tokenizer_config={"tokenizer_class": "XLMRobertaTokenizer"})
    with pytest.raises(ValueError, match=r"its pieces begin with .*; expected <unk>, <s>, </s>"):
        load_tokenizer(folder)
    with pytest.raises(ValueError, match="layout='xlm'; expected 'fairseq' or None"):
        SpTokenizer(folder / "spiece.model", layout="xlm")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unk_id": None}, "unk_id of the model is None; expected the id of one of its"),
        ({"unk_id": -1}, "unk_id of the model is -1"),
        ({"unk_id": True}, "unk_id of the model is True"),
        ({"byte_fallback": True}, "<0x00>|byte"),
        ({"vocab": [["<unk>", 0], ["a", -1], ["a", -2], ["b", -3]]}, "vocab .* has 'a' twice"),
    ],
)
def test_one_file_of_pieces_that_is_invalid(directory, change, message):
    folder = directory("xlm_roberta_one_file")
    content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    content["model"] |= change
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(ValueError, match=message):
        load_tokenizer(folder)


def test_one_file_of_pieces_that_keeps_spaces(directory):
    change = {"pre_tokenizer": SPACES["pretokenizers"][1]}
    with pytest.raises(ValueError, match=r"keep spaces .* set tokenizer_class"):
        load_tokenizer(directory("xlm_roberta_one_file", tokenizer=change))


# Splitting


@pytest.mark.parametrize("pattern", [GPT2, QWEN, r"\p{N}{1,3}", "[^\\r\\n]+", r"(?<!a)b|\u4e00"])
def test_patterns_that_are_understood(pattern):
    assert cut_by_all([checked_pattern(pattern)], "") == []


@pytest.mark.parametrize(
    "pattern", [r"\h", r"\w+", "a$", "[a&&b]", "(?<n>a)", "[[:alpha:]]", r"\b"]
)
def test_patterns_that_may_mean_something_else(pattern):
    with pytest.raises(ValueError, match=r"at position .; expected only elements that mean"):
        ByteBPETokenizer(*FEW_BYTES, patterns=[pattern])


FEW_BYTES = {char: i for i, char in enumerate(ALPHABET)}, []


@given(st.text("ab1 \n'天", max_size=20), st.sampled_from([GPT2, QWEN, "a(b)", "b*", "[a1]+"]))
def test_pieces_are_the_text(text, pattern):
    pieces = cut_by_all([checked_pattern(pattern)], text)
    assert "".join(pieces) == text and all(pieces)
    found = [m[0] for m in regex.finditer(pattern, text) if m[0]]
    rest = iter(pieces)
    assert all(piece in rest for piece in found)  # in this order


def test_a_pattern_that_takes_too_long(monkeypatch):
    monkeypatch.setattr(splitting, "SECONDS", 0.05)
    with pytest.raises(ValueError, match=r"takes more than 0\.05 seconds, here for 4001 charac"):
        cut_by_all([checked_pattern("(?:a|a|aa)+b")], "a" * 4000 + "c")


def test_patterns_that_take_too_long_together(monkeypatch):
    """Each of the pieces of the first pattern takes a tenth of the time at most."""
    monkeypatch.setattr(splitting, "SECONDS", 0.5)
    patterns = [checked_pattern(pattern) for pattern in ("a{16}", "(?:a|a)*[bc]")]
    assert len(cut_by_all(patterns, "a" * 32)) == 2
    with pytest.raises(ValueError, match=r"with those before it, takes more than 0\.5 seconds"):
        cut_by_all(patterns, "a" * 16_000)


def test_too_many_patterns_or_groups(directory):
    split = {"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Isolated", "invert": False}
    parts = {"type": "Sequence", "pretokenizers": [*[split] * 17, BYTE_LEVEL]}
    folder = directory("qwen2_one_file", tokenizer={"pre_tokenizer": parts})
    with pytest.raises(ValueError, match=r"tokenizer\.json: has 17 regular expressions"):
        load_tokenizer(folder)
    with pytest.raises(ValueError, match=r"patterns: has 17 regular expressions .* at most 16"):
        ByteBPETokenizer(*FEW_BYTES, patterns=["a"] * 17)
    with pytest.raises(ValueError, match=r"is not a regular expression .* few groups within each"):
        ByteBPETokenizer(*FEW_BYTES, patterns=["(" * 490 + ")" * 490])


MARKS = st.text(
    "ea中\u0301\u0300\u0315\u1112\u1161\u11ab\uac00\u0958\u09c7\u09be\u2126 ", max_size=8
)


@given(MARKS)
def test_composed_characters(text):
    found, origins = composed(text, "NFC")
    assert found == unicodedata.normalize("NFC", text)
    assert list(origins) == sorted(origins) and len(origins) == len(found)
    assert all(0 <= i < len(text) for i in origins)


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("e\u0301", [0]),
        ("ae\u0301b", [0, 1, 3]),
        ("e\u0301\u0315x", [0, 2, 3]),
        ("\u1112\u1161\u11aba", [0, 3]),
    ],
)
def test_origins_of_composed_characters(text, origins):
    """As in `tokenizers` 0.23.3."""
    assert list(composed(text, "NFC")[1]) == origins


@pytest.mark.parametrize(
    ("case", "model_type"),
    [("t5", "albert"), ("t5", "xlnet"), ("t5", "pegasus"), ("uncased", "funnel")],
)
def test_the_model_tells_the_class_of_a_tokenizer(directory, case, model_type):
    """ALBERT changes letters, XLNet ends a text in `<sep> <cls>`: with the same files."""
    no_class = {"config": {"model_type": model_type}, "tokenizer_config": {"tokenizer_class": None}}
    folder = directory(case, **no_class)
    with pytest.raises(ValueError, match=f"its tokenizer is '{model_type}'"):
        load_tokenizer(folder)
    for known in ("t5", "mt5") if case == "t5" else ("bert", "albert", "our-bert"):
        (folder / "config.json").write_text(json.dumps({"model_type": known}), "utf-8")
        load_tokenizer(folder)


@pytest.mark.parametrize("place", ["config", "tokenizer_config"])
def test_a_class_without_rules_leaves_them_to_one_file(directory, place):
    text = "ABC É天 abc"
    rules = {"do_lower_case": False, "tokenize_chinese_chars": False, "max_input_chars_per_word": 1}
    named = directory("one_file", tokenizer_config=rules | {"tokenizer_class": "BertTokenizerFast"})
    theirs = load_tokenizer(named).encode(text)
    ours = load_tokenizer(directory("one_file")).encode(text)
    files = {"tokenizer_config": rules | {"tokenizer_class": None}}
    files[place] = files.get(place, {}) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    assert load_tokenizer(directory("one_file", **files)).encode(text) == ours != theirs


def test_lower_case_is_no_setting_of_sentencepiece(directory):
    with pytest.raises(ValueError, match="do_lower_case is true; expected false"):
        load_tokenizer(directory("t5", tokenizer_config={"do_lower_case": True}))
