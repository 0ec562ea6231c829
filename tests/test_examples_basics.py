"""The basics and the classics: each runs on its sample, or a part of it, and learns it."""

import itertools
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import read_tsv

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
DATA = EXAMPLES / "data"
SMALL = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.fixture(scope="module", autouse=True)
def shared_modules():
    """What the examples share, importable as it is for them; one length of batches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        patch.setattr("bert4keras_lite.data.choose_buckets", lambda lengths, n: [max(lengths)])
        import tiny_bert
        import trials

        yield tiny_bert, trials


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A directory with a small random BERT that has the sample's vocabulary."""
    directory, vocab = tmp_path_factory.mktemp("bert"), DATA / "vocab.txt"
    transformer = build_transformer_model(
        vocab_size=len(vocab.read_text(encoding="utf-8").splitlines()),
        num_hidden_layers=1,
        max_position=128,
        return_keras_model=False,
        **SMALL,
    )
    transformer.save_checkpoint(directory, format="tf")
    shutil.copy(vocab, directory)
    return directory


@pytest.fixture
def run(shared_modules, tmp_path, monkeypatch):
    """Runs an example, or `only` some of its ways, and gives its variables."""
    tiny_bert, trials = shared_modules
    compare = trials.compare
    for module in (tiny_bert, trials):
        monkeypatch.setattr(module, "OUTPUT", tmp_path / "output")

    def run(name, *arguments, only=None):
        def compare_some(runs, *arguments, **keywords):
            return compare({name: runs[name] for name in only or runs}, *arguments, **keywords)

        monkeypatch.setattr(trials, "compare", compare_some)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        return runpy.run_path(str(EXAMPLES / f"{name}.py"))

    return run


def part(source, directory, train, test):
    """The first rows of a sample, as a sample of its own."""
    directory.mkdir()
    for split, size in (("train", train), ("valid", test), ("test", test)):
        name = f"sentiment.{split}.tsv"
        rows = (DATA / source / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (directory / name).write_text("".join(rows[:size]), encoding="utf-8")
    return directory


# --- basics ----------------------------------------------------------------------------------------


def test_cased_from_uncased(run, checkpoint, tmp_path, capsys):
    run("basic_make_uncased_model_cased", "--checkpoint", checkpoint)
    shown = capsys.readouterr().out
    assert "W ##e ##l ##c ##o ##m ##e" in shown and "B ##E ##I ##J ##I ##N ##G" in shown
    assert float(shown.split()[-1]) < 1e-5
    saved = tmp_path / "output" / "cased"
    tokenizer = load_tokenizer(saved)
    assert tokenizer.tokenize("AbC a") == ["[CLS]", "A", "##b", "##C", "a", "[SEP]"]
    table = build_transformer_model(saved).get_layer("token_embedding").get_weights()[0]
    assert len(table) == tokenizer.vocab_size
    capital, small = (tokenizer.token_to_id(token) for token in ("##C", "##c"))
    assert capital != small
    np.testing.assert_array_equal(table[capital], table[small])


def test_long_texts(run, checkpoint, tmp_path):
    data = part("long", tmp_path / "long", 256, 100)
    options = ["--data", data, "--positions", 32, "--maxlen", 110, "--batch-size", 16]
    options += ["--epochs", 6, "--learning-rate", 5e-3, "--checkpoint", checkpoint, "--seeds", 1]
    scores = run("basic_long_texts_hierarchical_position", *options, only=["hierarchical"])[
        "scores"
    ]
    assert scores["hierarchical"][0] > 0.62  # what is cut to 32 tokens tells nothing


@pytest.fixture
def taught(checkpoint, tmp_path):
    """A BERT that has learned something: what is frozen must be worth something."""
    bert = build_transformer_model(checkpoint, return_keras_model=False)
    x = keras.layers.Dense(1, "sigmoid")(bert.model.output[:, 0])
    model = keras.Model(bert.inputs, x)
    model.compile(keras.optimizers.Adam(5e-3), "binary_crossentropy", jit_compile=False)
    rows = read_tsv(DATA / "reviews" / "sentiment.train.tsv")[-256:]
    texts, labels = zip(*rows, strict=True)
    inputs = load_tokenizer(checkpoint).encode_batch(texts, maxlen=40)
    model.fit(inputs, np.array(labels), batch_size=16, epochs=3)
    bert.save_checkpoint(tmp_path / "taught")
    shutil.copy(checkpoint / "vocab.txt", tmp_path / "taught")
    return tmp_path / "taught"


def test_lora(run, taught, tmp_path):
    data = part("reviews", tmp_path / "reviews", 192, 100)
    options = ["--data", data, "--maxlen", 40, "--batch-size", 16, "--learning-rate", 5e-3]
    options += ["--lora-rate", 1e-2, "--epochs", 2, "--checkpoint", taught, "--seeds", 1]
    example = run("basic_lora", *options)
    assert example["scores"]["everything"][0] > 0.7
    assert example["scores"]["LoRA of rank 8"][0] > 0.7
    trained = example["trained"]
    assert trained[True] == 2 * 2 * 8 * 32 + 32 * 2 + 2 < trained[False] / 10
    np.testing.assert_allclose(example["before"], example["after"], atol=1e-5)
    # what is saved as a checkpoint is the same BERT, without LoRA
    bert = build_transformer_model(example["folder"])
    inputs, _ = example["test"][0]
    merged = example["model"].transformer.model
    np.testing.assert_allclose(
        bert.predict_on_batch(inputs), merged.predict_on_batch(inputs), atol=1e-5
    )
    assert "lora" not in " ".join(variable.path for variable in example["merged"].variables)


def test_several_devices(checkpoint, tmp_path):
    """In a process of its own: devices are counted once."""
    data = part("reviews", tmp_path / "reviews", 192, 96)
    pretend = [] if keras.backend.backend() == "torch" else ["--pretend", "2"]
    options = {"checkpoint": checkpoint, "data": data, "maxlen": 40, "batch-size": 16}
    options |= {"epochs": 4, "learning-rate": 5e-3}
    words = [f"--{name}={value}" for name, value in options.items()]
    done = subprocess.run(
        [sys.executable, EXAMPLES / "basic_several_devices.py", *words, *pretend],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    number = "2" if pretend else "1"
    score = re.search(rf"test accuracy on {number} device\(s\): ([\d.]+)", done.stdout)
    assert score, done.stderr
    assert float(score[1]) > 0.65


# --- classics --------------------------------------------------------------------------------------


def test_sentiment_lstm(run, tmp_path, capsys):
    data = part("reviews", tmp_path / "reviews", 256, 100)
    options = ["--data", data, "--size", 24, "--epochs", 4, "--learning-rate", 2e-2]
    example = run("classic_sentiment_lstm", *options, "--maxlen", 40)
    assert list(example["scores"]) == ["one-hot", "characters", "words"]
    assert all(score > 0.65 for (score,) in example["scores"].values())
    characters, words = example["characters"], example["words"]
    ids = words.encode("房间，!")
    assert len(ids) < len(characters.encode("房间，!")) == 4 and ids[-1] == 1
    assert characters.encode("") == [1]
    one_hot = example["models"]["one-hot"].layers[0].get_weights()[0]
    np.testing.assert_array_equal(one_hot, np.eye(len(characters.ids) + 2))
    assert capsys.readouterr().out.splitlines()[-1].endswith(example["texts"][-1])


def test_word2vec(run, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # no gensim
    options = ["--lines", 5000, "--size", 32, "--epochs", 3, "--batch-size", 512, "--min-count", 3]
    example = run("classic_word2vec", *options, "--window", 3, "--learning-rate", 1e-2)
    for share, speed in example["rows"].values():
        assert share > 1.7 * example["chance"] and speed > 0
    assert "gensim is not installed" in capsys.readouterr().out

    # with all words and full windows, the pairs are those that loops would give
    monkeypatch.setattr(np.random, "randint", lambda low, high, size: np.full(size, high - 1))
    monkeypatch.setattr(example["args"], "sample", 1e9)
    monkeypatch.setattr(example["args"], "batch_size", 1)
    text = example["text"]
    text = text[: np.flatnonzero(text == 0)[30] + 1]  # whole lines
    monkeypatch.setitem(example["Windows"].__init__.__globals__, "text", text)
    ends = [-1, *np.flatnonzero(text == 0)]
    lines = [text[a + 1 : b] for a, b in itertools.pairwise(ends)]
    expected = sorted(
        (int(line[i]), int(line[j]))
        for line in lines
        for i in range(len(line))
        for j in range(len(line))
        if 0 < abs(i - j) <= 3
    )
    pairs = example["Windows"](bag=False)
    given = pairs.given[:, 0]
    assert sorted(zip(given.tolist(), pairs.right.tolist(), strict=True)) == expected
    bags = example["Windows"](bag=True)
    from_bags = [
        (int(right), int(word))
        for row, right in zip(bags.given, bags.right, strict=True)
        for word in row
        if word
    ]
    assert sorted(from_bags) == expected


def write_cloze(directory, split, size, random):
    """Passages with one name, one city and one fruit, each said twice, one of them blank."""
    kinds = [
        ["小红", "小明", "小刚", "小丽"],
        ["北京", "上海", "广州"],
        ["苹果", "香蕉", "西瓜", "桃子"],
    ]
    questions, answers = [], []
    for number in range(size):
        words = [kind[random.integers(len(kind))] for kind in kinds]
        sentences = ["我 叫 {} 。", "我 在 {} 。", "我 爱 {} 。"]
        sentences = [sentences[i].format(words[i]) for i in random.permutation(3)]
        blank = random.integers(3)
        shown = [*words]
        shown[blank] = "XXXXX"
        sentences.insert(0, "{} 在 {} 吃 {} 。".format(*shown))
        numbered = "".join(f"{i} ||| {line}\n" for i, line in enumerate(sentences, 1))
        questions.append(f"{numbered}<qid_{number}> ||| {sentences[0]}\n")
        answers.append(f"<qid_{number}> ||| {words[blank]}\n")
    (directory / f"{split}.doc_query").write_text("".join(questions), encoding="utf-8")
    (directory / f"{split}.answer").write_text("".join(answers), encoding="utf-8")


def test_cloze_reading(run, tmp_path, capsys):
    random = np.random.default_rng(0)
    for split, size in (("train", 160), ("valid", 30), ("test", 30)):
        write_cloze(tmp_path, split, size, random)
    options = ["--data", tmp_path, "--size", 24, "--epochs", 8, "--batch-size", 16]
    example = run("classic_cloze_reading", *options, "--learning-rate", 1e-2)
    assert example["score"] > 0.3  # by chance 0.1
    assert "____" in capsys.readouterr().out

    candidates = example["candidates"](
        np.log([0.1, 0.2, 0.3, 1e-9, 0.25, 0.15, 1e-9, 1e-9]), (["甲", "乙", "甲"], ["乙", "丙"])
    )
    assert [word for word, _ in candidates] == ["乙", "甲", "丙"]
    np.testing.assert_allclose([share for _, share in candidates], [0.45, 0.4, 0.15], atol=1e-6)

    (before, behind), shares = example["collate"](
        [((["小红", "在"], ["小红"]), "小红"), (([], ["在", "天", "上"]), "月")], 4
    )
    ids = example["ids"]
    assert before.tolist() == [[ids["小红"], ids["在"], 0, 0], [1, 0, 0, 0]]
    assert behind.tolist() == [[ids["小红"], 0, 0, 0], [ids["在"], 1, 1, 0]]
    assert shares.tolist() == [[0.5, 0, 0, 0, 0.5, 0, 0, 0], [0] * 8]

    read_file, path = example["read_file"], tmp_path / "pd.doc_query"
    path.write_text(
        "1 ||| 天 很 XXXXX 。\n2 ||| 天 蓝 。\n\n<qid_7> ||| 天 很 XXXXX ||| 蓝\n", "utf-8"
    )
    assert read_file(path) == [(["天", "很", "XXXXX", "。", "天", "蓝", "。"], "蓝")]
    for text, message in (
        ("1 ||| 天 XXXXX\n<qid_7> ||| 天 XXXXX\n", r"line 2: <qid_7> has no answer"),
        ("1 ||| 天 蓝\n<qid_7> ||| 天 ||| 蓝\n", r"line 2: <qid_7> has no XXXXX in the passage"),
        ("天 蓝\n", r"line 1: expected 'number \|\|\| words', got '天 蓝'"),
    ):
        path.write_text(text, "utf-8")
        with pytest.raises(SystemExit, match=message):
            read_file(path)
    with pytest.raises(SystemExit, match=r"no file \*train\.doc_query"):
        example["read_cloze"](DATA / "words", "train")


# --- the sample ------------------------------------------------------------------------------------


def test_the_sample_is_what_its_script_writes():
    subprocess.run([sys.executable, DATA / "make_classic.py", "--check"], check=True)


def test_the_vocabulary_has_every_character_of_the_sample():
    known = {*(DATA / "vocab.txt").read_text(encoding="utf-8").split("\n"), "\n", "\t", " "}
    for name in ("kinds.txt", "reviews", "long", "cloze"):
        for path in (DATA / name).glob("*") if (DATA / name).is_dir() else [DATA / name]:
            assert set(path.read_text(encoding="utf-8")) <= known, path.name


def test_test_texts_are_not_in_train():
    for name in ("reviews", "long"):
        texts = [
            {row.split("\t")[0] for row in path.read_text(encoding="utf-8").splitlines()}
            for path in sorted((DATA / name).glob("*.tsv"))
        ]
        assert len(texts) == 3
        assert sum(map(len, texts)) == len(set().union(*texts))


def test_every_blank_of_the_sample_is_a_word_of_its_passage():
    for split in ("train", "valid", "test"):
        answers = (DATA / "cloze" / f"{split}.answer").read_text(encoding="utf-8").splitlines()
        passages = re.split(
            "<qid_.*\n", (DATA / "cloze" / f"{split}.doc_query").read_text(encoding="utf-8")
        )
        assert len(passages) == len(answers) + 1
        for passage, answer in zip(passages, answers, strict=False):
            assert answer.split(" ||| ")[1] in passage.split() and passage.count("XXXXX") == 1
