"""Documents in rows: no token lost, none twice, words where jieba has them."""

import io
from itertools import chain
from pathlib import Path

import jieba
import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4keras_lite.tokenizers import ByteBPETokenizer, SpTokenizer, Tokenizer
from bert4keras_lite.tokenizers.byte_bpe import ALPHABET
from pretraining import packing
from pretraining.masking import uncorrupted_length
from pretraining.packing import Packer, open_tokenizer, sentinel_ids, vocabulary_hash

pytestmark = pytest.mark.once


def joined(lists):
    return list(chain.from_iterable(lists))


def packed(packer, documents, number=0):
    """The rows of some documents: a list of dicts name -> list of numbers."""
    rows = []
    for features, lengths in packer.pack(documents, number):
        ends = np.cumsum(lengths)
        assert all(len(values) == ends[-1] for values in features.values())
        for begin, end in zip(ends - lengths, ends, strict=True):
            rows.append({name: values[begin:end].tolist() for name, values in features.items()})
    assert packer.counts["examples"] == len(rows)
    assert packer.counts["filled"] == sum(len(row["token_ids"]) for row in rows)
    return rows


TEXTS = st.lists(
    st.text(st.sampled_from("这款手机的拍照很差我们不知道abc12 ，。\n"), min_size=1, max_size=80),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60)
@given(
    texts=TEXTS,
    length=st.integers(8, 40),
    mode=st.sampled_from(["mlm", "electra", "lm", "unilm", "t5"]),
    apart=st.booleans(),
    together=st.sampled_from([7, 50, 1 << 18]),
)
def test_no_token_is_lost_and_none_twice(tokenizer, texts, length, mode, apart, together):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "_TOGETHER", together)
        packer = Packer(tokenizer, mode, length, words="tokens", apart=apart, seed=3)
        rows = packed(packer, texts)
        pieces = [[piece for piece, _ in packing._pieces(text)] for text in texts]
    assert list(map("".join, pieces)) == texts
    cls, sep = tokenizer.token_start_id, tokenizer.token_end_id
    documents = [joined(tokenizer.encode(piece)[0][1:-1] for piece in parts) for parts in pieces]
    documents = [ids for ids in documents if ids]
    assert packer.counts["documents"] == len(documents)
    assert packer.counts["tokens"] == sum(map(len, documents))
    if not apart or mode == "lm":
        documents = [[*ids, sep] for ids in documents]

    bodies = []
    for row in rows:
        ids = row["token_ids"]
        assert len(ids) <= packer.record_length
        if mode != "t5":
            assert ids.pop(0) == cls
        if mode in ("mlm", "electra", "unilm"):
            assert ids.pop() == sep
        if mode == "unilm":
            first = row["segment_ids"].index(1)
            assert row["segment_ids"] == [0] * first + [1] * (len(ids) + 2 - first)
            # [CLS] and some text, then a separator, behind which segment 1 begins
            assert first > 2 and ids.pop(first - 2) == sep
        bodies.append(ids)
    assert joined(bodies) == joined(documents)
    body = packer.record_length - {"mlm": 2, "electra": 2, "lm": 1, "unilm": 3, "t5": 0}[mode]
    if apart:
        sizes = [min(body, len(ids) - i) for ids in documents for i in range(0, len(ids), body)]
        assert list(map(len, bodies)) == sizes
    else:
        assert all(len(ids) == body for ids in bodies[:-1])


def test_words_are_those_of_jieba(tokenizer, documents):
    texts = documents[:100]
    packer = Packer(tokenizer, "mlm", 512, apart=True)
    rows = packed(packer, texts)
    assert len(rows) == len(texts)
    for text, row in zip(texts, rows, strict=True):
        ids, _, offsets = tokenizer.encode(text, return_offsets=True)
        begins, at = set(), 0
        for word in jieba.lcut(text):
            begins.add(at)
            at += len(word)
        goes_on = [token.startswith("##") for token in tokenizer.ids_to_tokens(ids)]
        expected = [
            int(begin in begins and not on)
            for (begin, _), on in zip(offsets[1:-1], goes_on[1:-1], strict=True)
        ]
        assert row["token_ids"] == ids
        assert row["word_starts"] == [1, *([1, *expected[1:]] if expected else []), 1]


VOCAB = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"我来到北京大学，p",
    "ip",
    "##hone",
    "##7",
    "3",
    ".",
    "14",
]


@pytest.mark.parametrize(
    ("words", "text", "expected"),
    [
        ("jieba", "我来到北京大学，iPhone7", "我 来到 北京大学 ， ip##hone##7"),
        ("tokens", "我来到北京大学，iPhone7", "我 来 到 北 京 大 学 ， ip##hone##7"),
        ("jieba", "3.14，ip\u0301hone", "3.14 ， ip##hone"),
        ("tokens", "3.14", "3 . 14"),
    ],
)
def test_words(words, text, expected):
    tokenizer = Tokenizer({token: i for i, token in enumerate(VOCAB)})
    (row,) = packed(Packer(tokenizer, "mlm", 32, words=words), [text])
    found = ""
    for token, start in list(
        zip(tokenizer.ids_to_tokens(row["token_ids"]), row["word_starts"], strict=True)
    )[1:-2]:
        found += " " * start + token
    assert found.strip() == expected


def test_the_first_token_of_a_row_begins_a_word(tokenizer):
    rows = packed(Packer(tokenizer, "mlm", 8), ["我们不知道手机" * 20])
    assert all(row["word_starts"][1] == 1 for row in rows)
    assert any(0 in row["word_starts"] for row in rows)


def test_batches_of_text_make_no_difference(tokenizer, documents, monkeypatch):
    rows = packed(Packer(tokenizer, "unilm", 64, seed=1), documents[:50], 2)
    monkeypatch.setattr(packing, "_TOGETHER", 2000)
    assert packed(Packer(tokenizer, "unilm", 64, seed=1), documents[:50], 2) == rows
    assert packed(Packer(tokenizer, "unilm", 64, seed=2), documents[:50], 2) != rows
    assert packed(Packer(tokenizer, "unilm", 64, seed=1), documents[:50], 3) != rows


def test_unknown_tokens_are_counted(tokenizer):
    packer = Packer(tokenizer, "lm", 16)
    packed(packer, ["手机龘龘", "   "])
    assert packer.counts == {
        "documents": 1,
        "tokens": 4,
        "unknown": 2,
        "examples": 1,
        "filled": 6,
        "places": 16,
    }


# Other tokenizers


@pytest.fixture(scope="module")
def byte_tokenizer():
    vocab = {token: i for i, token in enumerate([*ALPHABET, "<|endoftext|>"])}
    return ByteBPETokenizer(vocab, [])


@pytest.fixture(scope="module")
def sp_tokenizer(documents, tmp_path_factory):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(documents[:300]),
        model_writer=model,
        vocab_size=1500,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    path = tmp_path_factory.mktemp("sp") / "spiece.model"
    path.write_bytes(model.getvalue())
    return SpTokenizer(path, extra_ids=100)


def test_gpt2_has_no_start_token(byte_tokenizer):
    packer = Packer(byte_tokenizer, "lm", 16)
    rows = packed(packer, ["abc def", "手机"])
    ids = joined(row["token_ids"] for row in rows)
    end = byte_tokenizer.token_to_id("<|endoftext|>")
    assert ids == [
        *byte_tokenizer.encode("abc def")[0],
        end,
        *byte_tokenizer.encode("手机")[0],
        end,
    ]


def test_bytes_of_one_character_are_one_word(byte_tokenizer):
    options = {"token_start": "!", "token_end": '"', "token_mask": "#"}
    tokenizer = ByteBPETokenizer(byte_tokenizer.token_dict, [], **options)
    (row,) = packed(Packer(tokenizer, "mlm", 16, words="dictionary"), ["我来到"])
    assert row["word_starts"] == [1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1]


def test_t5(sp_tokenizer, documents):
    packer = Packer(sp_tokenizer, "t5", 64)
    assert packer.record_length == uncorrupted_length(64) > 64
    rows = packed(packer, documents[:30])
    assert {len(row["token_ids"]) for row in rows[:-1]} == {packer.record_length}
    ids = joined(row["token_ids"] for row in rows)
    assert ids == [i for text in documents[:30] for i in sp_tokenizer.encode(text)[0]]
    sentinels = sentinel_ids(sp_tokenizer)
    assert sp_tokenizer.ids_to_tokens(sentinels[:2]) == ["<extra_id_0>", "<extra_id_1>"]
    assert len(sentinels) == 100 and sentinels[0] == sp_tokenizer.vocab_size - 1


def test_sentinels_of_bert_vocabularies(tokenizer):
    assert tokenizer.ids_to_tokens(sentinel_ids(tokenizer)[:2]) == ["[unused1]", "[unused2]"]
    assert sentinel_ids(Tokenizer({t: i for i, t in enumerate(VOCAB)})) == []


@pytest.mark.parametrize(
    ("mode", "options", "message"),
    [
        ("bart", {}, "mode='bart'.*expected one of mlm"),
        ("mlm", {"words": "letters"}, "words='letters'"),
        ("lm", {"separator": "[EOT]"}, r"--separator \[EOT\]"),
        ("mlm", {"sequence_length": 3}, "no room"),
        ("t5", {}, "--mode t5 needs sentinels"),
    ],
)
def test_bad_settings(mode, options, message):
    tokenizer = Tokenizer({t: i for i, t in enumerate(VOCAB)})
    with pytest.raises(ValueError, match=message):
        Packer(tokenizer, mode, **{"sequence_length": 32, **options})


@pytest.mark.parametrize("mode", ["mlm", "electra"])
def test_a_mask_token_is_one_of_its_own(mode):
    vocab = {t: i for i, t in enumerate(VOCAB)}
    for name in ("UNK", "PAD", "SEP"):
        tokenizer = Tokenizer(vocab, token_mask=f"[{name}]")
        with pytest.raises(
            ValueError, match=r"needs a mask token of its own, and '\[\w+\]' is the"
        ):
            Packer(tokenizer, mode, 32)
    Packer(tokenizer, "unilm", 32)  # without masks


def test_a_vocabulary_must_have_what_the_mode_needs(sp_tokenizer, byte_tokenizer):
    with pytest.raises(ValueError, match=r"--mode mlm needs a start token such as \[CLS\]"):
        Packer(sp_tokenizer, "mlm", 32)
    with pytest.raises(ValueError, match=r"--mode t5 needs an end token"):
        Packer(byte_tokenizer, "t5", 32)


def test_open_tokenizer(vocab, tmp_path, tokenizer):
    (tmp_path / "vocab.txt").write_bytes(Path(vocab).read_bytes())
    for path, cased in ((vocab, False), (str(tmp_path), False), (vocab, True)):
        found = open_tokenizer(path, cased)
        assert vocabulary_hash(found) == vocabulary_hash(tokenizer)
        assert found.tokenize("ABC") != tokenizer.tokenize("ABC") if cased else True
    other = Tokenizer({**tokenizer.token_dict, "new": tokenizer.vocab_size})
    assert vocabulary_hash(other) != vocabulary_hash(tokenizer)
