"""Makes `tokenizers_hf.json` and `tokenizers_bert4keras.json`, against which the tests compare.

Run it where Hugging Face `tokenizers` is installed (0.23.3 made the file here), and once more
where bert4keras 0.11.5 is, with TensorFlow and TF_USE_LEGACY_KERAS=1 TF_KERAS=1. Each run writes
the file of the library that it finds.

Texts and vocabulary are made up for this purpose. The texts keep to characters on which the
Unicode tables of both libraries and of all supported Python versions agree.
"""

import json
import re
import tempfile
import unicodedata
from importlib.util import find_spec
from itertools import product
from pathlib import Path

TEXTS = [
    "今天天气不错，我们去公园散步吧！",
    "他说：“这本书的价格是38.5元，不算贵。”",
    "我在用BERT做文本分类，learning rate设为2e-5。",
    "The cat didn't sit on the mat; it's outside, I'm sure they've seen it.",
    "  前后都有空格 \t 中间有制表符\n还有换行\r\n",
    "Café Résumé naïve ÀÉÎÕÜ ñandú",
    "Cafe\u0301 e\u0301te\u0301 a\u0300\u0301\u0327",
    "İstanbul'da ILIK straße GROß ẞ",
    "αβγ ΣΑΣ λόγος",
    "한국어 문장도 섞여 있다",
    "\u1112\u1161\u11ab\u1100\u1173\u11af",
    "ひらがなとカタカナ、がぎぐげご パピプ",
    "ＡＢＣ　１２３　ｆｕｌｌｗｉｄｔｈ％＄＃＋～",
    "表情😀😃👍🏽和👨\u200d👩\u200d👧一家",
    "零宽\u200b空格\ufeff和\u00ad软连字符\x07响铃\x00空\ufffd字符",
    "a\u00a0b\u2003c\u3000d\u2028e\u2029f",
    "①②③ ½ ™ © € £ ¥ § ° ±",
    "繁體中文與简体中文，豈更車賈滑",
    "𠀀𠮷野家𪚥",
    "≠ ≮ \u037e \u0387 \u1fef",
    "www.example.com/路径?a=1&b=2#片段 user_name@mail.cn",
    "2023年12月31日23:59:59，温度-3.5℃，涨幅+12.34%",
    "[注意] {集合} <标签> `代码` ^_^ ~~~ ……——",
    "超" * 30 + "长" + "supercalifragilisticexpialidocious" * 2,
    "",
    " \n ",
    "，",
    "x",
    "unaffordable unwanted playing played player",
    "мир Ёлка й ҐЄІЇ",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "《书名》（括号）【方】〔龟〕「角」好？",
    "Ǆ ǅ ǆ ﬁ ﬂ Å Ω K",
]
WORDS = """
the cat did ##n ##t sit on mat it is out ##side sure they have seen learning rate bert be ##rt
cafe res ##ume naive na ##ive is ##tan ##bul ##bu ##l stra ##sse ##ße gro un ##afford ##able
##want ##ed play ##ing ##er user name mail example com ex ##ample ww ##w full ##width ##wi ##dth
20 ##23 12 31 23 59 38 5 2e 公园 天气 文本分类 λο ##γος super ##cali ##fragil ##istic Ca ##t The ##a
"""
UNKNOWN = set("吧贵x😃豈ス½ґ")  # characters left out of the vocabulary, to meet unknown words


def make_vocab():
    """Special tokens, the characters of the texts alone and within words, and some pieces."""
    raw = "".join(TEXTS)
    chars = set(raw) | set(unicodedata.normalize("NFD", raw.lower()))
    chars = sorted(c for c in chars if not c.isspace() and c.isprintable() and c not in UNKNOWN)
    start = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return list(dict.fromkeys(start + chars + [f"##{c}" for c in chars[::2]] + WORDS.split()))


VOCAB = make_vocab()


def words_of_two(text):
    """A stand-in for a word segmenter: Chinese characters in twos."""
    return re.findall("[一-鿿]{1,2}|[^一-鿿]+", text)


def from_hugging_face():
    from tokenizers import BertWordPieceTokenizer

    vocab = {token: i for i, token in enumerate(VOCAB)}
    golden = {"vocab": VOCAB, "texts": TEXTS}
    for lowercase in (True, False):
        encodings = BertWordPieceTokenizer(vocab, lowercase=lowercase).encode_batch(TEXTS)
        name = "uncased" if lowercase else "cased"
        golden[f"{name}_ids"] = [encoding.ids for encoding in encodings]
        golden[f"{name}_offsets"] = [encoding.offsets for encoding in encodings]
    return golden


def from_bert4keras():
    from bert4keras.tokenizers import Tokenizer, load_vocab

    vocab = {token: i for i, token in enumerate(VOCAB)}
    golden = {"vocab": VOCAB, "texts": TEXTS}
    for name, lower in (("uncased", True), ("cased", False)):
        tokenizer = Tokenizer(vocab, do_lower_case=lower)
        golden[f"{name}_tokens"] = [tokenizer.tokenize(text) for text in TEXTS]
        golden[f"{name}_decoded"] = [tokenizer.decode(tokenizer.encode(t)[0]) for t in TEXTS]
    tokenizer = Tokenizer(
        vocab,
        do_lower_case=True,
        pre_tokenize=words_of_two,
        token_translate={"天气": "今", "，": "[unused1]"},
    )
    golden["words_of_two_tokens"] = [tokenizer.tokenize(text) for text in TEXTS]

    golden["encoded"] = []
    pairs = [(TEXTS[0], TEXTS[2]), (TEXTS[6], TEXTS[0]), (TEXTS[1], None), (TEXTS[27], TEXTS[26])]
    patterns, sides = ["S*E*E", "S*ES*E"], ["right", "left", 2, -3, [1, -2]]
    for pair, maxlen, pattern, side in product(pairs, [None, 17, 8], patterns, sides):
        arguments = {"maxlen": maxlen, "pattern": pattern, "truncate_from": side}
        tokenizer = Tokenizer(vocab, do_lower_case=True)
        golden["encoded"].append([pair, arguments, tokenizer.encode(*pair, **arguments)])
    golden["without_start_and_end"] = Tokenizer(
        vocab, do_lower_case=True, token_start=None, token_end=None
    ).encode(TEXTS[0], TEXTS[2])

    golden["decoded_tokens"] = [
        [tokens.split(), tokenizer.decode(None, tokens.split())]
        for tokens in [
            "they ' ve seen it ' s 3 . 5 元 ， ok ( a + b ) = c / d",
            "[CLS] 价 格 ： 12 . 5 % ， bert ##s 好 [UNK] ！ the end . [SEP] [PAD]",
            "##开 头 《 书 》 a · b — — c … … d",
            " ".join("“引号”‘单’「角」『双』（括）【方】〔龟〕〈尖〉～－／：；？") + " word [ x ]",
        ]
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "vocab.txt")
        path.write_text("\n".join(f"{token} 7" for token in VOCAB), "utf-8")
        start = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
        golden["simplified"] = load_vocab(str(path), simplified=True, startswith=start)
    return golden


if __name__ == "__main__":
    for library, make in (("tokenizers", from_hugging_face), ("bert4keras", from_bert4keras)):
        if find_spec(library):
            name = "hf" if library == "tokenizers" else library
            path = Path(__file__).with_name(f"tokenizers_{name}.json")
            path.write_text(json.dumps(make(), ensure_ascii=True, separators=(",", ":")) + "\n")
            print(f"wrote {path.name}, {path.stat().st_size} bytes")
