"""Makes `tokenizers_subword.json` and `tokenizers_subword_bert4keras.json`.

The first run, where sentencepiece, jieba, regex, `tokenizers` and transformers are installed
(0.2.3, 0.42.1, 2026.11.15, 0.23.3 and 5.23.0 made the file here), trains small models on the
sentences below, which are made up for this purpose, and asks the reference libraries for ids.
The two files named on the command line are the published code of GPT-2 and of CPM; in `tests`:

    python -m goldens.make_tokenizers_subword openai/gpt-2/src/encoder.py \\
        TsinghuaAI/CPM-1-Generate/data_utils/tokenization_gpt2.py

The second run, without arguments, where bert4keras 0.11.5 is (TF_USE_LEGACY_KERAS=1 TF_KERAS=1),
asks bert4keras about the same models.

Where the shared vocabularies and data sets are, both runs also freeze a SHA-256 of the ids that
the reference gives to real text. The hashes hold none of that text.
"""

import base64
import contextlib
import hashlib
import io
import json
import sys
import tempfile
import types
from array import array
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from itertools import pairwise
from pathlib import Path

from .make_tokenizers import TEXTS as PROBES

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[2] / "shared"
GOLDEN = HERE / "tokenizers_subword.json"
GOLDEN_BERT4KERAS = HERE / "tokenizers_subword_bert4keras.json"

SENTENCES = """\
今天天气不错，我们一起去公园散步。
明天可能会下雨，出门记得带上雨伞。
北京和上海都是中国的大城市。
清华大学在北京，复旦大学在上海。
这本书的价格是三十八元，不算太贵。
我们用语言模型做文本分类和机器翻译。
这个模型在中文文本上的效果很好。
他说：“昨天的电影很好看，你也去看看吧！”
妈妈做的菜很好吃，爸爸洗碗。
小猫在窗台上睡觉，小狗在院子里跑。
春天来了，花园里的花都开了。
秋天的山上有很多红叶，非常好看。
我喜欢在图书馆里看书，也喜欢听音乐。
学校的老师教我们数学、语文和英语。
火车从北京出发，五个小时以后到上海。
请问，最近的地铁站在哪里？
这家饭店的服务不好，下次不来了。
手机的电池不够用，需要换一个新的。
The weather is nice today, and we walk in the park.
A language model predicts the next word of a text.
She reads a book and he listens to the music.
The train leaves at nine and arrives at two.
We train small models on small texts, for the tests.
It's not what they've said, but I'm sure you'll see.
我在用Python写一个小程序，运行时间是 3.5 秒。
模型有 12 层，学习率是 2e-5，训练了 100 步。
ＡＢＣ　１２３，全角字符，要变成半角。
第一行
第二行 有空格
""".splitlines()
TEXTS = [
    *PROBES,
    *SENTENCES,
    "  the  train\n\n and\tthe park ",
    "清华大学 在北京。\n我们走！ hello  world",
    "it's we've I'm you'll he'd IT'S 's'S",
    "▁ ▂ ▃ ## <unk> </s> <pad> <|endoftext|> <cls>",
    "𠮷𠮷今天𠮷 ①② ㎏ e\u0301",
]
SENTINEL_TEXTS = [
    "今天<extra_id_0>不错，我们去<extra_id_1>散步。",
    "The <extra_id_0> is nice <extra_id_1>",
    "<extra_id_0><extra_id_99>today",
    "<extra_id_0> 公园 <extra_id_1> 的花",
]
KEEP_EVERY = 3  # every third ordinary piece goes, in the reduced model
DATA = ["lcqmc_dev_test/dev.txt", "csl_benchmark/ts_dev.tsv", "poetry/song_ci.jsonl"]
LINES = 1000
# A whole NFKC table would be a quarter megabyte in every model.
NFKC = {
    **{chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys("\t\n\r\u3000\u00a0\u2003\u2028", " "),
    **{"①": "1", "②": "2", "㎏": "kg", "e\u0301": "é", "\u200b": "", "\ufeff": "", "\x07": ""},
}


def hashed(rows):
    """A SHA-256 of lists of ids."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(array("i", [len(row), *row]))
    return digest.hexdigest()


def shared_lines(name):
    return (SHARED / "data" / name).read_text("utf-8").split("\n")[:LINES]


def words_vocab(vocab):
    """Stands in for a word-level vocabulary: jieba's most frequent words behind `vocab`."""
    import jieba

    with jieba.get_dict_file() as file:
        rows = [line.decode("utf-8").split() for line in file]
    words = [word for word, _, _ in sorted(rows, key=lambda row: (-int(row[1]), row[0]))]
    words = [word for word in words if len(word) > 1 and word not in vocab][:5000]
    return {**vocab, **{word: len(vocab) + i for i, word in enumerate(words)}}


# Training


def train_sentencepiece(sentences, **options):
    import sentencepiece

    # A relative path, as the model remembers it.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        rules = Path("rules.tsv")
        code = lambda text: " ".join(f"{ord(char):X}" for char in text)  # noqa: E731
        rules.write_text("".join(f"{code(a)}\t{code(b)}\n" for a, b in NFKC.items()), "utf-8")
        buffer = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences * 3),
            model_writer=buffer,
            normalization_rule_tsv=str(rules),
            hard_vocab_limit=False,
            num_threads=1,
            minloglevel=2,
            **options,
        )
    return buffer.getvalue()


def cpm_sentences():
    import jieba

    marks = str.maketrans(" \n", "▂▃")
    lines = [first + "\n" + second for first, second in pairwise(SENTENCES)]
    return [" ".join(word.translate(marks) for word in jieba.cut(line)) for line in lines]


def train_models():
    t5 = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    cpm = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": 4}
    return {
        "t5": train_sentencepiece(SENTENCES, vocab_size=400, character_coverage=0.995, **t5),
        "mt5": train_sentencepiece(
            SENTENCES,
            vocab_size=650,
            character_coverage=0.995,
            byte_fallback=True,
            user_defined_symbols=["▁<extra_id_1>", "▁<extra_id_0>"],
            **t5,
        ),
        "cpm": train_sentencepiece(
            cpm_sentences(),
            vocab_size=450,
            character_coverage=1.0,
            user_defined_symbols=["▃"],
            control_symbols=["<sep>", "<mask>", "<eod>"],
            **cpm,
        ),
    }


def train_bpe():
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        SENTENCES * 3, vocab_size=700, special_tokens=["<|endoftext|>"], show_progress=False
    )
    content = json.loads(tokenizer.to_str())["model"]
    return {"vocab": content["vocab"], "merges": content["merges"]}


def with_third_piece(model, old):
    """CPM's files: piece 3 is `▃`, or in the first of them the control symbol `<cls>`."""
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model)
    pieces = list(proto.pieces)
    (mark,) = (piece for piece in pieces if piece.piece == "▃")
    pieces.remove(mark)
    if old:
        mark.piece, mark.type = "<cls>", proto.SentencePiece.CONTROL
    del proto.pieces[:]
    proto.pieces.extend([*pieces[:3], mark, *pieces[3:]])
    return proto.SerializeToString()


def reduced(model):
    """Some of the pieces of a model: the new model and the old ids, by way of protobuf."""
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model)
    ordinary = proto.SentencePiece.NORMAL
    keep = [i for i, piece in enumerate(proto.pieces) if piece.type != ordinary or i % KEEP_EVERY]
    pieces = [proto.pieces[i] for i in keep]
    del proto.pieces[:]
    proto.pieces.extend(pieces)
    return proto.SerializeToString(), [*keep, keep[-1] + 1, keep[-1] + 2]


# References


def import_file(path):
    # CPM's imports a download helper from its package, which nothing here calls.
    sys.modules["package.file_utils"] = types.SimpleNamespace(cached_path=None)
    spec = spec_from_file_location(f"package.{Path(path).stem}", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def of_sentencepiece(model):
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    ids = [processor.encode(text) for text in TEXTS]
    return {"ids": ids, "decoded": [processor.decode(row) for row in ids]}


def of_transformers_t5(model):
    from transformers import T5Tokenizer

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "spiece.model").write_bytes(model)
        tokenizer = T5Tokenizer.from_pretrained(folder)
    return {"sentinel_ids": [tokenizer(text).input_ids for text in SENTINEL_TEXTS]}


def of_transformers_gpt2(vocab, merges, texts):
    from transformers import GPT2Tokenizer

    tokenizer = GPT2Tokenizer(vocab=vocab, merges=[tuple(pair) for pair in merges])
    rows = [tokenizer(text, return_offsets_mapping=True) for text in texts]
    return [row["input_ids"] for row in rows], [row["offset_mapping"] for row in rows]


def of_cpm(code, model):
    """The published tokenizer, with a model in memory."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "model").write_bytes(model)
        Path(folder, "vocab.json").write_text('{"<eod>": 7}')
        return code.GPT2Tokenizer(str(Path(folder, "vocab.json")), str(Path(folder, "model")))


def read_merges(path):
    return [tuple(line.split()) for line in path.read_text("utf-8").split("\n")[1:] if line]


def real_ids(openai, cpm):
    """Hashes of the ids of real text."""
    from transformers import BertTokenizer

    folder = SHARED / "tokenizers"
    vocab = json.loads((folder / "gpt2_openai/encoder.json").read_text("utf-8"))
    merges = read_merges(folder / "gpt2_openai/vocab.bpe")
    gpt2 = openai.Encoder(vocab, merges)
    roberta = (folder / "gpt2/vocab.txt").read_text("utf-8").split("\n")
    roberta = {token: i for i, token in enumerate(roberta) if token}
    cdial = BertTokenizer(str(folder / "cdial_gpt/vocab.txt"))
    hashes = {}
    for name in DATA:
        lines = shared_lines(name)
        rows = [gpt2.encode(line) for line in lines]
        assert rows == of_transformers_gpt2(vocab, merges, lines)[0]
        hashes[f"gpt2_openai {name}"] = hashed(rows)
        merges_roberta = read_merges(folder / "gpt2/merges.txt")
        hashes[f"gpt2 {name}"] = hashed(of_transformers_gpt2(roberta, merges_roberta, lines)[0])
        for model in ("cpm/chinese_vocab.model", "pangu/vocab.model"):
            tokenizer = of_cpm(cpm, (folder / model).read_bytes())
            pairs = [a + "\n" + b for a, b in zip(lines[::2], lines[1::2], strict=False)]
            hashes[f"{model} {name}"] = hashed(map(tokenizer.encode, pairs))
        letters = (" ".join(line.replace(" ", "")) for line in lines)
        hashes[f"cdial_gpt {name}"] = hashed(cdial(line).input_ids for line in letters)
    return hashes


def from_references(openai_path, cpm_path):
    openai, cpm = import_file(openai_path), import_file(cpm_path)
    models = train_models()
    cpm_model = models.pop("cpm")
    models["cpm_old"] = with_third_piece(cpm_model, old=True)
    models["cpm_new"] = with_third_piece(cpm_model, old=False)
    models["mt5_reduced"], keep_tokens = reduced(models["mt5"])
    bpe = train_bpe()
    merges = [tuple(pair) for pair in bpe["merges"]]
    encoder = openai.Encoder(bpe["vocab"], merges)
    gpt2_ids, gpt2_offsets = of_transformers_gpt2(bpe["vocab"], merges, TEXTS)
    tokenizer = of_cpm(cpm, models["cpm_new"])
    cpm_ids = [tokenizer.encode(text) for text in TEXTS]
    return {
        "models": {name: base64.b64encode(model).decode() for name, model in models.items()},
        "keep_tokens": keep_tokens,
        "bpe": bpe,
        "texts": TEXTS,
        "sentinel_texts": SENTINEL_TEXTS,
        "sentencepiece": {
            name: of_sentencepiece(models[name]) for name in ("t5", "mt5", "mt5_reduced")
        },
        "transformers_t5": of_transformers_t5(models["t5"]),
        "openai_gpt2": {"ids": [encoder.encode(text) for text in TEXTS]},
        "transformers_gpt2": {"ids": gpt2_ids, "offsets": gpt2_offsets},
        "cpm": {"ids": cpm_ids, "decoded": [tokenizer.decode(row) for row in cpm_ids]},
        "real": real_ids(openai, cpm) if SHARED.exists() else {},
    }


def from_bert4keras():
    import jieba
    from bert4keras.tokenizers import SpTokenizer, Tokenizer, load_vocab

    golden = json.loads(GOLDEN.read_text("utf-8"))
    result = {}

    def sp_tokenizer(model, **options):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model")
            path.write_bytes(model)
            return SpTokenizer(str(path), token_start=None, **options)

    def cpm_words(text):
        return [w.replace(" ", "▂").replace("\n", "▃") for w in jieba.cut(text, cut_all=False)]

    for name in ("t5", "mt5", "mt5_reduced"):
        tokenizer = sp_tokenizer(base64.b64decode(golden["models"][name]), token_end="</s>")
        ids = [tokenizer.encode(text)[0] for text in TEXTS]
        result[name] = {
            "tokens": [tokenizer.tokenize(text) for text in TEXTS],
            "ids": ids,
            "decoded": [tokenizer.decode(row) for row in ids],
            "pair": tokenizer.encode(TEXTS[0], TEXTS[1]),
        }
    tokenizer = sp_tokenizer(
        base64.b64decode(golden["models"]["cpm_old"]),
        token_end=None,
        pre_tokenize=cpm_words,
        token_translate={"▃": "<cls>"},
    )
    result["cpm_old"] = {"ids": [tokenizer.encode(text)[0] for text in TEXTS]}

    result["real"] = {}
    if SHARED.exists():
        folder = SHARED / "tokenizers"
        words = Tokenizer(
            words_vocab(load_vocab(str(folder / "bert_chinese_vocab/vocab.txt"))),
            do_lower_case=True,
            pre_tokenize=lambda text: jieba.cut(text, HMM=False),
        )
        tokenizers = {"words": words}
        for model in ("mt5_cn/sentencepiece_cn.model", "xlnet_chinese/spiece.model"):
            tokenizers[model] = sp_tokenizer((folder / model).read_bytes(), token_end="</s>")
        for name in DATA:
            for key, tokenizer in tokenizers.items():
                rows = (tokenizer.encode(line)[0] for line in shared_lines(name))
                result["real"][f"{key} {name}"] = hashed(rows)
    return result


if __name__ == "__main__":
    if find_spec("bert4keras"):
        path, content = GOLDEN_BERT4KERAS, from_bert4keras()
    else:
        path, content = GOLDEN, from_references(*sys.argv[1:])
    path.write_text(json.dumps(content, ensure_ascii=True, separators=(",", ":")) + "\n")
    print(f"wrote {path.name}, {path.stat().st_size} bytes")
