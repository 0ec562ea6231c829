import base64
import json
import marshal
import os
import pickle
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from goldens.make_tokenizers_subword import DATA, hashed, shared_lines, words_vocab
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4keras_lite import load_tokenizer
from bert4keras_lite.generation.generate import pieces
from bert4keras_lite.protobuf import encode_field
from bert4keras_lite.tokenizers import (
    ByteBPETokenizer,
    CpmTokenizer,
    SpTokenizer,
    Tokenizer,
    jieba_words,
    load_vocab,
    save_vocab,
)

pytestmark = pytest.mark.once

HERE = Path(__file__).resolve().parent
VOCABULARIES = HERE.parents[1] / "shared/tokenizers"
GOLDEN = json.loads((HERE / "goldens/tokenizers_subword.json").read_text("utf-8"))
BERT4KERAS = json.loads((HERE / "goldens/tokenizers_subword_bert4keras.json").read_text("utf-8"))
TEXTS = GOLDEN["texts"]
BPE = GOLDEN["bpe"]
KEEP_TOKENS = GOLDEN["keep_tokens"]

many = settings(max_examples=200)
needs_shared = pytest.mark.skipif(not VOCABULARIES.exists(), reason="needs the shared vocabularies")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with the small models, e.g. `t5.model`."""
    folder = tmp_path_factory.mktemp("models")
    for name, content in GOLDEN["models"].items():
        (folder / f"{name}.model").write_bytes(base64.b64decode(content))
    return folder


@pytest.fixture(scope="module")
def t5(models):
    return SpTokenizer(models / "t5.model")


@pytest.fixture(scope="module")
def mt5(models):
    return SpTokenizer(models / "mt5.model")


@pytest.fixture(scope="module")
def cpm(models):
    return CpmTokenizer(models / "cpm_new.model")


@pytest.fixture(scope="module")
def gpt2():
    return ByteBPETokenizer(BPE["vocab"], BPE["merges"])


def ids_of(tokenizer, texts=TEXTS):
    return [tokenizer.encode(text)[0] for text in texts]


# Texts that grow


@pytest.mark.parametrize("name", ["t5", "mt5", "mt5_reduced", "cpm_new", "gpt2"])
@many
@given(data=st.data())
def test_streamed_pieces_make_the_text(name, models, gpt2, data):
    """With bytes that are whole characters, half of them, or none."""
    if name == "gpt2":
        tokenizer = gpt2
    elif name == "cpm_new":
        tokenizer = CpmTokenizer(models / f"{name}.model")
    else:
        tokenizer = SpTokenizer(models / f"{name}.model", extra_ids=10 * (name == "t5"))
    tokens = st.integers(0, tokenizer.vocab_size - 1).map(lambda i: [i])
    characters = st.text("中é😀 a", max_size=2)
    if name == "gpt2":
        half = characters.map(lambda text: tokenizer.encode(text)[0][:-1])
        parts = tokens | characters.map(lambda text: tokenizer.encode(text)[0]) | half
    elif tokenizer.is_known("<0x00>"):
        whole = characters.map(
            lambda text: tokenizer.tokens_to_ids(f"<0x{byte:02X}>" for byte in text.encode())
        )
        parts = tokens | whole | whole.map(lambda ids: ids[:-1])
    else:
        parts = tokens
    ids = [i for part in data.draw(st.lists(parts, min_size=1, max_size=8)) for i in part]
    begun = (ids[: i + 1] for i in range(len(ids)))
    assert "".join(pieces(tokenizer, begun)) == tokenizer.decode(ids)


# sentencepiece


@pytest.mark.parametrize("name", ["t5", "mt5", "mt5_reduced"])
def test_sentencepiece_and_bert4keras(models, name):
    tokenizer = SpTokenizer(models / f"{name}.model")
    expected = GOLDEN["sentencepiece"][name]
    ids = ids_of(tokenizer)
    assert ids == [[*row, 1] for row in expected["ids"]] == BERT4KERAS[name]["ids"]
    assert [tokenizer.tokenize(text) for text in TEXTS] == BERT4KERAS[name]["tokens"]
    decoded = [tokenizer.decode(row) for row in ids]
    assert decoded == expected["decoded"] == BERT4KERAS[name]["decoded"]
    assert list(tokenizer.encode(TEXTS[0], TEXTS[1])) == BERT4KERAS[name]["pair"]


def test_special_tokens_of_a_model(t5, cpm, mt5):
    assert (t5.token_pad, t5.token_end, t5.token_unk) == ("<pad>", "</s>", "<unk>")
    assert (t5.token_pad_id, t5.token_end_id, t5.token_unk_id) == (0, 1, 2)
    assert t5.token_start is t5.token_start_id is t5.token_mask is t5.token_mask_id is None
    assert (cpm.token_pad_id, cpm.token_mask, cpm.token_end) == (5, "<mask>", None)
    assert t5.token_to_id("no such piece") == 2
    assert mt5.token_to_id("<extra_id_0>") == mt5.token_to_id("▁<extra_id_0>") != 2
    assert t5.id_to_token(np.int64(1)) == "</s>"
    for i in (-1, t5.vocab_size):
        with pytest.raises(ValueError, match=f"id {i} is not in the vocabulary"):
            t5.id_to_token(i)


def test_sentinels_of_hugging_face(models):
    tokenizer = SpTokenizer(models / "t5.model", extra_ids=100)
    texts = GOLDEN["sentinel_texts"]
    ids = ids_of(tokenizer, texts)
    assert ids == GOLDEN["transformers_t5"]["sentinel_ids"]
    assert tokenizer.token_to_id("<extra_id_0>") == tokenizer.vocab_size - 1
    assert tokenizer.id_to_token(tokenizer.vocab_size - 100) == "<extra_id_99>"
    assert tokenizer.decode(ids[0]) == texts[0].replace("，", ",")
    for text in texts:
        tokens = tokenizer.tokenize(text)
        offsets = tokenizer.encode(text, return_offsets=True)[2]
        for token, (start, end) in zip(tokens, offsets, strict=True):
            if "extra" in token:
                assert text[start:end] == token
    batch, _ = tokenizer.encode_batch([TEXTS[0], TEXTS[1]])
    assert batch[0].tolist()[: len(ids_of(tokenizer)[0])] == ids_of(tokenizer)[0]
    assert (
        tokenizer.encode("<extra_id_100>")[0][:-1]
        == SpTokenizer(models / "t5.model").encode("<extra_id_100>")[0][:-1]
    )


def test_reduced_vocabulary(models):
    """The same ids from the whole model, reduced here, as from the one that protobuf reduced."""
    there = SpTokenizer(models / "mt5_reduced.model", keep_tokens=KEEP_TOKENS)
    here = SpTokenizer(models / "mt5.model", keep_tokens=KEEP_TOKENS)
    plain = SpTokenizer(models / "mt5_reduced.model")
    assert ids_of(here) == ids_of(there) == ids_of(plain)
    assert here.vocab_size == there.vocab_size == len(KEEP_TOKENS) == plain.vocab_size + 2
    assert here.keep_tokens == KEEP_TOKENS
    whole = SpTokenizer(models / "mt5.model")
    for i, old in enumerate(KEEP_TOKENS[:-2]):
        assert here.id_to_token(i) == there.id_to_token(i) == whole.id_to_token(old)
    last = [here.vocab_size - 2, here.vocab_size - 1]
    assert [here.id_to_token(i) for i in last] == ["", ""]
    today = here.encode("今天")[0]
    assert here.decode([*today, *last]) == here.decode(today)


def test_reduction_may_reorder_pieces(models):
    whole = SpTokenizer(models / "t5.model")
    order = [0, 1, 2, *reversed(range(3, whole.vocab_size))]
    reordered = SpTokenizer(models / "t5.model", keep_tokens=order)
    for text, ids in zip(TEXTS, ids_of(reordered), strict=True):
        assert [order[i] for i in ids] == whole.encode(text)[0]


@pytest.mark.parametrize(
    ("keep_tokens", "message"),
    [
        ([0, 1, 2, 2], "none twice"),
        ([0, 1, 2, -1], "none negative"),
        ([0, 1, 10_000, 2], "ids beyond them at the end"),
        ([0, 1, 5], "the ids of <unk>"),
        ([], "is empty"),
    ],
)
def test_bad_keep_tokens(models, keep_tokens, message):
    with pytest.raises(ValueError, match=rf"keep_tokens.*{message}"):
        SpTokenizer(models / "mt5.model", keep_tokens=keep_tokens)


@pytest.mark.parametrize(
    ("more", "settings"),
    [
        ([], b""),
        ([("<unk>", 1)], b""),  # a piece like any other
        ([("<unk>", 4)], b""),
        ([], encode_field(2, encode_field(45, b"b"))),  # said to be a plain piece
        (
            [],
            encode_field(2, encode_field(45, b"<oov>")),
        ),  # said to be one that is not here
    ],
)
def test_unknown_piece_of_another_name(more, settings, tmp_path):
    field, content = encode_field, settings
    pieces = [("<s>", 3), ("</s>", 3), ("[UNK]", 2), ("▁", 1), ("a", 1), ("b", 1), *more]
    for i, (piece, kind) in enumerate(pieces):
        score = b"\x15" + np.float32(-i).tobytes()
        content += field(1, field(1, piece.encode()) + score + field(3, kind))
    (tmp_path / "spiece.model").write_bytes(content)
    model = sentencepiece.SentencePieceProcessor(str(tmp_path / "spiece.model"))
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.token_unk, tokenizer.token_unk_id) == ("[UNK]", 2)
    assert tokenizer.known_id("x") is None and tokenizer.token_to_id("x") == 2
    for text in ("a x b", "<unk> a", "[UNK]", "<oov>"):
        ids = tokenizer.encode(text)[0]
        assert ids == [*model.encode(text), 1]
        assert tokenizer.tokenize(text) == [*model.encode_as_pieces(text), "</s>"]
        assert tokenizer.decode(ids) == model.decode(model.encode(text))


def test_bad_models(models, tmp_path):
    bad, empty = tmp_path / "bad.model", tmp_path / "empty.model"
    bad.write_bytes(b"\x0a\xff\xff not a model")
    empty.touch()
    for path in (bad, empty):
        with pytest.raises(ValueError, match=f"{path.name} is not a sentencepiece model"):
            SpTokenizer(path)
    with pytest.raises(FileNotFoundError):
        SpTokenizer(tmp_path / "none.model")
    with pytest.raises(ValueError, match=r"token_end='\[SEP\]' is not in the vocabulary"):
        SpTokenizer(models / "t5.model", token_end="[SEP]")
    with pytest.raises(ValueError, match="extra_ids"):
        SpTokenizer(models / "mt5.model", keep_tokens=KEEP_TOKENS, extra_ids=100)


# CPM


def test_published_cpm(models, cpm):
    ids = ids_of(cpm)
    assert ids == GOLDEN["cpm"]["ids"]
    assert [cpm.decode(row) for row in ids] == GOLDEN["cpm"]["decoded"]


def test_newline_is_id_3_with_either_file_of_cpm(models, cpm):
    old = CpmTokenizer(models / "cpm_old.model")
    assert (old.id_to_token(3), cpm.id_to_token(3)) == ("<cls>", "▃")
    text = "今天天气不错。\n我们去公园"
    assert old.encode(text)[0].count(3) == 1
    assert ids_of(old) == ids_of(cpm) == BERT4KERAS["cpm_old"]["ids"]
    for text in TEXTS:
        ids = cpm.encode(text)[0]
        assert old.decode(ids) == cpm.decode(ids)
        assert old.encode(text, return_offsets=True) == cpm.encode(text, return_offsets=True)


# Chinese, letters, spaces and newlines that the small models know and no rule rewrites
LOSSLESS = "今天天气不错我们去公园散步。的了在是 \nabcdehilnost"


@many
@given(st.text(LOSSLESS, max_size=30))
def test_cpm_restores_spaces_and_newlines(cpm, text):
    assert cpm.decode(cpm.encode(text)[0]) == text


def test_offsets_of_cpm(cpm):
    text = "清华大学 在北京。\n我们走"
    tokens, (_, _, offsets) = cpm.tokenize(text), cpm.encode(text, return_offsets=True)
    by_token = dict(zip(tokens, offsets, strict=True))
    assert text[slice(*by_token["▂"])] == " "
    assert text[slice(*by_token["▃"])] == "\n"
    assert offsets[-1][1] == len(text)


# Byte-level BPE


def test_openai_and_hugging_face(gpt2):
    assert ids_of(gpt2) == GOLDEN["openai_gpt2"]["ids"]
    special = ByteBPETokenizer(BPE["vocab"], BPE["merges"], special_tokens_in_text=True)
    for text, ids, spans in zip(TEXTS, *GOLDEN["transformers_gpt2"].values(), strict=True):
        token_ids, _, offsets = special.encode(text, return_offsets=True)
        assert token_ids == ids
        assert offsets == [tuple(span) for span in spans]
    end = "<|endoftext|>"
    assert special.encode(f"a{end}b")[0] == [*special.encode("a")[0], 0, *special.encode("b")[0]]
    assert gpt2.encode(end)[0] != [0] == special.encode(end)[0]


texts = st.lists(
    st.one_of(st.sampled_from(TEXTS), st.characters(exclude_categories=["Cs"])), max_size=8
).map("".join)


@many
@given(texts)
def test_bytes_restore_any_text(gpt2, text):
    ids, _, offsets = gpt2.encode(text, return_offsets=True)
    assert ids == gpt2.tokens_to_ids(gpt2.tokenize(text)) == gpt2.encode(text)[0]
    assert gpt2.decode(ids) == text
    # A span holds its token's bytes, and spans leave nothing out.
    assert {i for start, end in offsets for i in range(start, end)} == set(range(len(text)))
    for i, (start, end) in zip(ids, offsets, strict=True):
        piece = gpt2.decode([i])
        assert piece == text[start:end] or "\ufffd" in piece


def slow_bpe(word, ranks):
    """One join at a time, the best pair found afresh."""
    symbols = list(word)
    while pairs := [(ranks[p], i) for i, p in enumerate(zip(symbols, symbols[1:])) if p in ranks]:  # noqa: B905, RUF007
        _, i = min(pairs)
        symbols[i : i + 2] = ["".join(symbols[i : i + 2])]
    return symbols


@many
@given(st.data())
def test_joins_are_those_of_the_plain_algorithm(data):
    symbols = list("abc")
    merges = []
    for _ in range(data.draw(st.integers(0, 12))):
        pair = data.draw(st.tuples(st.sampled_from(symbols), st.sampled_from(symbols)))
        if "".join(pair) not in symbols:
            merges.append(pair)
            symbols.append("".join(pair))
    vocab = {token: i for i, token in enumerate(["<|endoftext|>", *symbols])}
    tokenizer = ByteBPETokenizer(vocab, merges)
    word = data.draw(st.text("abc", max_size=25))
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    assert tokenizer.tokenize(word) == slow_bpe(word, ranks)


def test_decoding_of_cut_characters_and_added_tokens():
    vocab = {**BPE["vocab"], "[新]": 700}
    tokenizer = ByteBPETokenizer(vocab, BPE["merges"])
    ids = tokenizer.encode("好𠮷")[0]
    assert tokenizer.decode(ids[:-1]).startswith("好\ufffd")
    assert tokenizer.decode([700, 0, *ids]) == "[新]好𠮷"


def test_bpe_files(tmp_path, gpt2):
    files = {name: tmp_path / name for name in ("vocab.json", "vocab.txt", "merges.txt")}
    files["vocab.json"].write_text(json.dumps(BPE["vocab"]), "utf-8")
    save_vocab(files["vocab.txt"], BPE["vocab"])
    lines = "\n".join(["#version: 0.2", *map(" ".join, BPE["merges"]), ""])
    files["merges.txt"].write_text(lines, "utf-8")
    for vocab in ("vocab.json", "vocab.txt"):
        assert ids_of(ByteBPETokenizer(files[vocab], files["merges.txt"])) == ids_of(gpt2)

    bad = tmp_path / "bad.txt"
    bad.write_text("#version: 0.2\na b c\n")
    with pytest.raises(ValueError, match=r"bad\.txt, line 2: expected two symbols"):
        ByteBPETokenizer(BPE["vocab"], bad)
    other = tmp_path / "other.json"
    other.write_text('{"<|endoftext|>": 0}')
    with pytest.raises(ValueError, match=r"other\.json has no.*of one model"):
        ByteBPETokenizer(other, files["merges.txt"])
    other.write_text('["a"]')
    with pytest.raises(ValueError, match=r"other\.json: expected a JSON object"):
        ByteBPETokenizer(other, [])
    other.write_text("{")
    with pytest.raises(ValueError, match=r"other\.json: expected JSON"):
        ByteBPETokenizer(other, [])
    with pytest.raises(ValueError, match="lacks some of the 256 bytes"):
        ByteBPETokenizer({"a": 0}, [])


# What all of them share


@pytest.fixture(params=["t5", "mt5", "cpm", "gpt2"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


@many
@given(text=texts)
@pytest.mark.parametrize("name", ["t5", "mt5", "cpm", "gpt2"])
def test_offsets_and_rematch_agree(name, text, request):
    tokenizer = request.getfixturevalue(name)
    ids, segments, offsets = tokenizer.encode(text, return_offsets=True)
    assert (ids, segments) == tokenizer.encode(text)
    assert len(ids) == len(offsets) == len(segments)
    tokens = tokenizer.tokenize(text)
    assert ids == tokenizer.tokens_to_ids(tokens)
    assert tokenizer.rematch(text, tokens) == [list(range(*span)) for span in offsets]
    inner = offsets[: len(offsets) - (tokenizer.token_end is not None)]
    assert all(0 <= start <= end <= len(text) for start, end in inner)
    starts = [start for start, _ in inner]
    assert starts == sorted(starts)


def test_offsets_where_the_text_is_rewritten(t5, mt5):
    text = " ＡＢＣ  北京㎏"
    _, _, offsets = t5.encode(text, return_offsets=True)
    pieces = [text[start:end] for start, end in offsets]
    assert "".join(pieces).strip() == text.strip()
    assert text[slice(*offsets[t5.tokenize(text).index("北京")])] == "北京"
    tokens = mt5.tokenize("今天𠮷")
    assert tokens[-5:-1] == ["<0xF0>", "<0xA0>", "<0xAE>", "<0xB7>"]
    assert mt5.encode("今天𠮷", return_offsets=True)[2][-5:-1] == [(2, 3)] * 4


def test_rematch_of_foreign_tokens(tokenizer):
    text = "今天天气不错"
    tokens = tokenizer.tokenize(text)
    assert tokenizer.rematch(text, [*tokens, tokenizer.token_pad])[-1] == []
    middle = tokenizer.encode(text)[0][: len(tokens) - (tokenizer.token_end is not None)]
    with pytest.raises(ValueError, match="is not in the rest of the text"):
        tokenizer.rematch(text, tokenizer.ids_to_tokens(middle[::-1]))


def test_batches(tokenizer):
    seconds = TEXTS[1:] + TEXTS[:1]
    for second_texts, maxlen in [(None, None), (None, 9), (seconds, 12)]:
        token_ids, segment_ids = tokenizer.encode_batch(TEXTS, second_texts, maxlen=maxlen)
        for i, (row, segments) in enumerate(zip(token_ids, segment_ids, strict=True)):
            second = second_texts and second_texts[i]
            ids, expected_segments = tokenizer.encode(TEXTS[i], second, maxlen=maxlen)
            filled = [tokenizer.token_pad_id] * (len(row) - len(ids))
            assert row.tolist() == ids + filled
            assert segments.tolist() == expected_segments + [0] * len(filled)
    assert tokenizer.encode_batch([])[0].shape == (0, 0)
    tokens = tokenizer.tokenize(TEXTS[0])
    mixed = tokenizer.encode_batch([TEXTS[0], [t for t in tokens if t != tokenizer.token_end]])[0]
    assert (
        mixed[1, : len(tokens) - (tokenizer.token_end is not None)].tolist()
        == (mixed[0].tolist()[: len(tokens) - (tokenizer.token_end is not None)])
    )
    with pytest.raises(TypeError, match="expected a string or a list of tokens, got bytes"):
        tokenizer.encode_batch([b"x"])


def test_pickled_and_shared_by_threads(tokenizer):
    expected = ids_of(tokenizer)
    assert ids_of(pickle.loads(pickle.dumps(tokenizer))) == expected
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(tokenizer.encode, TEXTS * 5))
    assert [ids for ids, _ in rows] == expected * 5


def words_of_two(text):
    return re.findall("[一-鿿]{1,2}|[^一-鿿]+", text)


def test_pre_tokenize_and_translate(models):
    sp = SpTokenizer(models / "t5.model", pre_tokenize=words_of_two)
    plain = SpTokenizer(models / "t5.model")
    text = "今天天气 good"
    assert sp.encode(text)[0] == plain.encode("今天 天气  good")[0]
    assert sp.encode(text, return_offsets=True)[2][-2][1] == len(text)
    assert sp.encode_batch([text])[0][0].tolist() == sp.encode(text)[0]
    translated = SpTokenizer(models / "t5.model", token_translate={"北京": "花"})
    ids = translated.encode("去北京")[0]
    assert "花" in translated.ids_to_tokens(ids)
    assert translated.encode_batch(["去北京"])[0][0].tolist() == ids
    assert translated.decode(ids) == "去北京"

    bpe = ByteBPETokenizer(BPE["vocab"], BPE["merges"], pre_tokenize=words_of_two)
    assert bpe.decode(bpe.encode(text)[0]) == text
    assert bpe.encode(text, return_offsets=True)[2][-1][1] == len(text)
    shouting = SpTokenizer(models / "t5.model", pre_tokenize=lambda text: [text.upper()])
    with pytest.raises(ValueError, match="allows no offsets"):
        shouting.encode("abc", return_offsets=True)


# Words and letters in WordPiece


def test_words_stay_whole_if_the_vocabulary_has_them():
    tokens = ["[UNK]", "[CLS]", "[SEP]", "今天", "今", "天", "天气", "气", "公", "园"]
    tokenizer = Tokenizer({t: i for i, t in enumerate(tokens)}, pre_tokenize=jieba_words)
    assert tokenizer.tokenize("今天公园天气")[1:-1] == ["今天", "公", "园", "天气"]
    assert "".join(jieba_words("今天 天气\n不错")) == "今天 天气\n不错"


# load_tokenizer

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CHARACTERS = [chr(code) for code in range(0x4E00, 0x4E00 + 300)]


def write_vocab(folder, tokens, name="vocab.txt"):
    save_vocab(folder / name, {token: i for i, token in enumerate([*SPECIALS, *tokens])})


def write_json(folder, name, content):
    (folder / name).write_text(json.dumps(content), "utf-8")


def write_bpe(folder, vocab_name="vocab.json", merges_name="merges.txt"):
    write_json(folder, vocab_name, BPE["vocab"])
    merges = "\n".join(["#version: 0.2", *map(" ".join, BPE["merges"])])
    (folder / merges_name).write_text(merges, "utf-8")


def test_jieba_believes_no_cache(tmp_path):
    """Whoever may write to the directory for temporary files could say what words there are."""
    words = {"今": 0, "今天": 0, "今天天": 9, "气": 9}
    (tmp_path / "jieba.cache").write_bytes(marshal.dumps((words, 18)))
    code = (
        "from bert4keras_lite.metrics import words\n"
        "from bert4keras_lite.tokenizers import jieba_words\n"
        "print(jieba_words('今天天气'), words('今天天气'))"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUTF8": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True, text=True
    )
    assert done.stdout.strip() == "['今天天气'] ['今天天气']"
    assert [path.name for path in tmp_path.iterdir()] == ["jieba.cache"]


def test_load_wordpiece(tmp_path):
    write_vocab(tmp_path, CHARACTERS, "vocab_chinese.txt")
    tokenizer = load_tokenizer(tmp_path)
    assert type(tokenizer) is Tokenizer
    assert (tokenizer._do_lower_case, tokenizer._pre_tokenize) == (True, None)
    assert load_tokenizer(str(tmp_path), do_lower_case=False)._do_lower_case is False
    write_json(tmp_path, "tokenizer_config.json", {"do_lower_case": False})
    assert load_tokenizer(tmp_path)._do_lower_case is False
    assert load_tokenizer(tmp_path, do_lower_case=True)._do_lower_case is True
    assert load_tokenizer(tmp_path, token_start=None).encode("一")[0] == [5, 3]


def test_load_finds_words_letters_and_case_in_the_vocabulary(tmp_path):
    write_vocab(tmp_path, [*CHARACTERS, "The", "Aa"])
    assert load_tokenizer(tmp_path)._do_lower_case is True  # a stray or two
    write_vocab(tmp_path, [*CHARACTERS, *(f"A{chr(97 + i)}" for i in range(20))])
    assert load_tokenizer(tmp_path)._do_lower_case is False
    write_vocab(tmp_path, [*CHARACTERS, *(f"一{char}" for char in CHARACTERS[:20])])
    assert load_tokenizer(tmp_path)._pre_tokenize is jieba_words
    assert load_tokenizer(tmp_path, pre_tokenize=None)._pre_tokenize is None
    write_json(tmp_path, "tokenizer_config.json", {"tokenize_chinese_chars": False})
    assert load_tokenizer(tmp_path)._pre_tokenize is None
    (tmp_path / "tokenizer_config.json").unlink()
    write_vocab(tmp_path, [*CHARACTERS, "h", "i", "hi", "[speaker1]", "[speaker2]"])
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.tokenize("Hi 一")[1:-1] == ["h", "i", "一"]
    assert tokenizer.token_to_id("[speaker2]") == tokenizer.vocab_size - 1


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_load_byte_bpe(tmp_path, gpt2, names):
    write_bpe(tmp_path, *names)
    tokenizer = load_tokenizer(tmp_path, special_tokens_in_text=True)
    assert type(tokenizer) is ByteBPETokenizer
    assert ids_of(tokenizer) == GOLDEN["transformers_gpt2"]["ids"]


def test_load_byte_bpe_with_one_token_a_line(tmp_path, gpt2):
    write_bpe(tmp_path)
    (tmp_path / "vocab.json").unlink()
    with pytest.raises(ValueError, match=r"merges\.txt needs vocab\.json, encoder\.json or"):
        load_tokenizer(tmp_path)
    save_vocab(tmp_path / "vocab.txt", BPE["vocab"])
    assert ids_of(load_tokenizer(tmp_path)) == ids_of(gpt2)


def test_load_sentencepiece(models, tmp_path, t5):
    shutil.copy(models / "t5.model", tmp_path / "spiece.model")
    tokenizer = load_tokenizer(tmp_path)
    assert type(tokenizer) is SpTokenizer
    assert ids_of(tokenizer) == ids_of(t5)
    size = t5.vocab_size
    for config, settings_, extra_ids in [
        ({"model_type": "t5", "vocab_size": size + 128}, {}, 100),
        ({"model_type": "t5", "vocab_size": size + 50}, {}, 0),
        ({"model_type": "mt5", "vocab_size": size + 128}, {}, 0),
        ({"model_type": "t5", "vocab_size": size + 128}, {"extra_ids": 7}, 7),
    ]:
        write_json(tmp_path, "config.json", config)
        write_json(tmp_path, "tokenizer_config.json", settings_)
        assert load_tokenizer(tmp_path).vocab_size == size + extra_ids
    assert load_tokenizer(tmp_path, extra_ids=3).vocab_size == size + 3


def test_load_reduced_sentencepiece(models, tmp_path):
    shutil.copy(models / "mt5_reduced.model", tmp_path / "sentencepiece_cn.model")
    write_json(tmp_path, "sentencepiece_cn_keep_tokens.json", KEEP_TOKENS)
    assert load_tokenizer(tmp_path).keep_tokens == KEEP_TOKENS


@pytest.mark.parametrize("name", ["cpm_old", "cpm_new"])
def test_load_cpm(models, tmp_path, name):
    shutil.copy(models / f"{name}.model", tmp_path / "chinese_vocab.model")
    write_json(tmp_path, "vocab.json", {"<unk>": 0})  # CPM's, which no merges go with
    tokenizer = load_tokenizer(tmp_path)
    assert type(tokenizer) is CpmTokenizer
    assert ids_of(tokenizer) == GOLDEN["cpm"]["ids"]


def test_load_cpm_by_its_class(models, tmp_path):
    shutil.copy(models / "t5.model", tmp_path)
    write_json(tmp_path, "tokenizer_config.json", {"tokenizer_class": "CpmTokenizer"})
    with pytest.raises(ValueError, match="no piece '▂'"):
        load_tokenizer(tmp_path)


def test_load_one_file_of_hugging_face(tmp_path, gpt2):
    vocab = {token: i for i, token in enumerate([*SPECIALS, *CHARACTERS])}
    content = {
        "normalizer": {
            "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
            "lowercase": False,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "max_input_chars_per_word": 100,
            "vocab": vocab,
        },
    }  # fmt: skip
    write_json(tmp_path, "tokenizer.json", content)
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.token_dict, tokenizer._do_lower_case) == (vocab, False)
    for merges in (BPE["merges"], list(map(" ".join, BPE["merges"]))):
        end = {"id": 0, "content": "<|endoftext|>"}
        vocab = {token: i for token, i in BPE["vocab"].items() if i}
        content = {
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
            "model": {"type": "BPE", "vocab": vocab, "merges": merges},
            "added_tokens": [end],
        }
        write_json(tmp_path, "tokenizer.json", content)
        tokenizer = load_tokenizer(tmp_path)
        assert ids_of(tokenizer) == ids_of(gpt2)
        assert tokenizer.token_pad_id == 0
    write_json(tmp_path, "tokenizer.json", {"model": {"type": "Unigram"}})
    with pytest.raises(ValueError, match=r"tokenizer\.json: the model has no vocab"):
        load_tokenizer(tmp_path)


def test_load_nothing_or_too_much(models, tmp_path):
    with pytest.raises(ValueError, match=r"no tokenizer; looked for vocab\.txt.*tokenizer\.json"):
        load_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="is not a directory"):
        load_tokenizer(tmp_path / "none")
    write_vocab(tmp_path, CHARACTERS)
    shutil.copy(models / "t5.model", tmp_path / "spiece.model")
    with pytest.raises(ValueError, match=r"several tokenizers \(vocab\.txt and spiece\.model\)"):
        load_tokenizer(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    (tmp_path / "spiece.model").rename(tmp_path / "a.model")
    shutil.copy(models / "t5.model", tmp_path / "b.model")
    with pytest.raises(ValueError, match=r"files match \*\.model \(a\.model, b\.model\)"):
        load_tokenizer(tmp_path)
    (tmp_path / "b.model").unlink()
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer_config\.json: expected JSON"):
        load_tokenizer(tmp_path)


# Real vocabularies and text


def real_tokenizer(key):
    """The tokenizer of a key of the goldens."""
    if key == "words":
        vocab = words_vocab(load_vocab(VOCABULARIES / "bert_chinese_vocab/vocab.txt"))
        return Tokenizer(vocab, pre_tokenize=jieba_words)
    if key == "cdial_gpt":  # Hugging Face's ids
        return load_tokenizer(VOCABULARIES / key, drop_private_use=True)
    return load_tokenizer(VOCABULARIES / key.split("/")[0])


REAL = {**GOLDEN["real"], **BERT4KERAS["real"]}


@needs_shared
@pytest.mark.parametrize("key", sorted({key.split(" ")[0] for key in REAL}))
def test_ids_of_real_text(key):
    tokenizer = real_tokenizer(key)
    for name in DATA:
        lines = shared_lines(name)
        if isinstance(tokenizer, CpmTokenizer):
            lines = [a + "\n" + b for a, b in zip(lines[::2], lines[1::2], strict=False)]
        assert hashed(ids_of(tokenizer, lines)) == REAL[f"{key} {name}"]


@needs_shared
def test_rows_beyond_the_pieces_of_the_real_mt5():
    tokenizer = load_tokenizer(VOCABULARIES / "mt5_cn")
    assert (tokenizer.vocab_size, tokenizer.sp_model.get_piece_size()) == (32598, 32596)
    assert tokenizer.decode([32596, 32597]) == ""
    assert tokenizer.token_to_id("<extra_id_0>") == 32595


def real_lines():
    return [line for name in DATA for line in shared_lines(name)[:300]]


@needs_shared
@pytest.mark.parametrize("name", ["mt5_cn", "xlnet_chinese", "cluecorpus_spm"])
def test_sentencepiece_restores_what_it_normalizes_to(name):
    """Lossless but for NFKC, runs of spaces, and characters that the vocabulary lacks."""
    tokenizer = load_tokenizer(VOCABULARIES / name)
    restored = 0
    for line in real_lines():
        ids = tokenizer.encode(line)[0]
        if tokenizer.token_unk_id not in ids:
            restored += 1
            normalized = tokenizer.sp_model.normalize(line).replace("▁", " ").strip()
            assert tokenizer.decode(ids) == normalized
    assert restored == (len(real_lines()) if name == "mt5_cn" else restored) > 600


@needs_shared
@pytest.mark.parametrize("name", ["cpm", "pangu"])
def test_cpm_restores_real_text(name):
    """Lossless but for NFKC, white space other than spaces and newlines, unknown characters."""
    tokenizer = load_tokenizer(VOCABULARIES / name)
    restored = 0
    for line in real_lines():
        line = line.replace("\t", " ")
        text = tokenizer.sp_model.normalize(line.replace(" ", "▂")).lstrip("▁")
        if "▁" in text:
            continue
        ids = tokenizer.encode(line)[0]
        if tokenizer.token_unk_id not in ids:
            restored += 1
            assert tokenizer.decode(ids) == text.replace("▂", " ")
    assert restored > 300


@needs_shared
@pytest.mark.parametrize("name", ["gpt2", "gpt2_openai"])
def test_gpt2_restores_real_text(name):
    tokenizer = load_tokenizer(VOCABULARIES / name)
    for line in real_lines():
        assert tokenizer.decode(tokenizer.encode(line)[0]) == line


@needs_shared
@pytest.mark.parametrize(
    "path",
    [
        "bert_chinese_vocab/vocab.txt",
        "clue_vocab/clue-vocab.txt",
        "cdial_gpt/vocab.txt",
        *(f"bert_chinese_poem_vocab/google_zh_{n}_vocab.txt" for n in ("poem", "ancient")),
    ],
)
def test_wordpiece_restores_chinese(path):
    """Lossless on Chinese characters that the vocabulary has, and the punctuation of Chinese."""
    tokenizer = Tokenizer(VOCABULARIES / path)
    plain = re.compile("[一-鿿，。！？；、：]")
    known = set(filter(plain.fullmatch, tokenizer.token_dict))
    found = 0
    for line in real_lines():
        text = "".join(char for char in line if char in known)
        found += len(text)
        assert tokenizer.decode(tokenizer.encode(text)[0]) == text
    assert found > 10_000
