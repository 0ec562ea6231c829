"""The first steps, the basics and the classics: on one batch, and until they learn their sample."""

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import keras
import numpy as np
import pytest
from running import score_of

import bert4keras_lite
from bert4keras_lite import Tokenizer, build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches, read_tsv
from bert4keras_lite.hub import included

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
DATA = EXAMPLES / "data"

# short texts, all cut to the same length
ONE_BATCH = {"batch_size": 8, "maxlen": 8, "epochs": 4}


@pytest.fixture
def one_label(rows):
    """Copies files of the sample; eight texts of label 1 to train on: a few steps learn that."""

    def one_label(source, **lines):
        data = rows(source, train=100, **lines)
        for path in data.glob("*train.tsv"):
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            lines = [line for line in lines if line.endswith("\t1\n")]
            path.write_text("".join(lines[:8]), encoding="utf-8")
        return data

    return one_label


def accuracies(model, batches):
    """Makes a classifier predict 1 for every text; its accuracy, and that were all labels 1."""
    layer = model.get_layer("classifier")
    layer.set_weights([0 * layer.get_weights()[0], np.array([0, 9])])
    ones = Batches([(inputs, 1) for inputs, _ in batches.data], batches.batch_size, buckets=1)
    return [model.evaluate(rows, verbose=0)[1] for rows in (batches, ones)]


def probability(logits):
    """That of the second of two classes."""
    return 1 / (1 + np.exp(logits[0] - logits[1]))


# --- small models --------------------------------------------------------------------------------


TEXT = """\
今天天气很好，我们去公园。
我们在公园看花。

小明喜欢吃苹果，小红喜欢吃香蕉。
今天我们吃苹果。
"""


@pytest.fixture
def corpus(tmp_path):
    """A directory with a corpus of few words and its vocabulary."""
    directory = tmp_path / "corpus"
    directory.mkdir()
    (directory / "corpus.txt").write_text(TEXT, encoding="utf-8")
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({*TEXT} - {"\n"})]
    (directory / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    return directory


def test_small_t5(quick, corpus, tmp_path, monkeypatch, capsys):
    import small_t5

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes["intermediate_size"] = 32
    monkeypatch.setattr(small_t5, "DATA", corpus)
    monkeypatch.setattr(small_t5, "EPOCHS", 60)  # the rate rises for fifty steps
    monkeypatch.setattr(small_t5, "RATE", 3e-2)
    monkeypatch.setattr(
        small_t5,
        "build_transformer_model",
        lambda **options: build_transformer_model(**options | sizes),
    )
    for _ in range(2):
        assert small_t5.small_t5() == tmp_path / "output" / "small_t5"
    assert len(quick.losses) == 1  # the second time it is there
    assert capsys.readouterr().out.startswith("No checkpoint given: training a small T5 on")
    model = build_transformer_model(tmp_path / "output" / "small_t5", with_lm="linear")
    assert model.output_shape[-1] == load_tokenizer(corpus).vocab_size


def test_what_small_t5_learns_from(corpus, monkeypatch):
    import small_t5

    monkeypatch.setattr(small_t5, "DATA", corpus)
    tokenizer = Tokenizer(corpus / "vocab.txt")
    sources, targets = small_t5.halves(tokenizer)
    start, end = tokenizer.token_start_id, tokenizer.token_end_id
    texts = [text for text in TEXT.split("\n") if text]
    for source, target, text in zip(sources, targets, texts, strict=True):
        source, target = source[source > 0].tolist(), target[target > 0].tolist()
        assert (source[0], source[-1], target[0], target[-1]) == (start, end, start, end)
        assert min(len(source), len(target)) > 2
        assert [start, *source[1:-1], *target[1:]] == tokenizer.encode(text)[0]


# --- quickstart ----------------------------------------------------------------------------------


def test_quickstart(quick, one_label, checkpoint, tmp_path, monkeypatch, capsys):
    # its two epochs bring little at the rate of a published checkpoint
    adam = keras.optimizers.AdamW
    monkeypatch.setattr(keras.optimizers, "AdamW", lambda rate: adam(50 * rate))
    directory = checkpoint(with_mlm=True)
    example = quick("quickstart", checkpoint=directory, data=one_label("sentiment.*"))
    assert [len(losses) for losses in quick.losses] == [2, 2]
    shown = capsys.readouterr().out
    assert "pretraining" not in shown
    filled = re.findall(r"^  (\S*\[MASK\]\S+) (.*)$", shown, re.M)
    assert [text for text, _ in filled] == [
        "中华人民[MASK]和国", "学而时习[MASK]，不亦说乎？", "他高兴得跳了[MASK]来。", "春夏[MASK]冬"
    ]  # fmt: skip
    assert all(re.fullmatch(r"(\S+ \d\.\d\d ?){4}", guesses) for _, guesses in filled)
    assert list(example["curves"]) == ["random weights", directory.name]
    for way, points in example["curves"].items():
        assert [epoch for epoch, _ in points] == [0, 1, 2]
        value = points[-1][1]
        assert f"  {way:18s} {value:6.1%} {'█' * round(40 * value)}\n" in shown

    model, texts = example["model"], example["texts"]
    assert all(layer.trainable for layer in model.layers)
    pairs = zip(model.get_weights(), example["reloaded"].get_weights(), strict=True)
    assert all(np.array_equal(ours, theirs) for ours, theirs in pairs)
    for text, logits in zip(texts, example["scores"], strict=True):
        assert f"  {probability(logits):.2f} positive  {text}\n" in shown
    file = tmp_path / "output" / "sentiment.keras"
    assert file.is_file() and f"The model is {file}," in shown
    assert accuracies(model, example["test"]) == [0.5, 1]

    texts, polylines = picture(tmp_path / "output" / "quickstart.svg", example["lines"])
    ends = [text for text in texts if text.startswith(("random weights ", directory.name + " "))]
    assert sorted(ends) == sorted(
        f"{way} {points[-1][1]:.0%}" for way, points in example["curves"].items()
    )
    assert polylines == 2 and len(example["train"].data) == 8


def picture(path, lines):
    """The texts of a picture, and the number of its curves; below each character that the model
    missed stands its guess."""
    root = ElementTree.parse(path).getroot()
    texts = [
        (element.text, float(element.get("font-size"))) for element in root.findall(".//{*}text")
    ]
    large = [text for line in lines for text, *_ in line]
    assert [text for text, size in texts if size == pytest.approx(20.1)] == large
    small = [guess for line in lines for text, _, guess in line if guess != text]
    assert [text for text, size in texts if size == 13.5] == small and small
    assert len(root.findall(".//{*}rect")) == 1 + len(large)
    return [text for text, _ in texts], len(root.findall(".//{*}polyline"))


def test_quickstart_reads_on(quick, one_label, tmp_path, monkeypatch, capsys):
    """`pretraining` understands its commands; what they write is what it goes on with."""
    from pretraining import config, corpus

    commands, built = [], []

    def pretend(command, cwd, check):
        commands.append(command[1:])
        if "pretraining.train" in command:
            shutil.copytree(included("tiny-zh"), tmp_path / "output/reading/run/model/hf")
            log = "step,accuracy\n20,0.25\n40,0.5\n"
            (tmp_path / "output/reading/run/log.csv").write_text(log)

    def build(checkpoint, *arguments, **options):
        built.append(checkpoint)
        return build_transformer_model(checkpoint, *arguments, **options)

    monkeypatch.setattr(subprocess, "run", pretend)
    monkeypatch.setattr("bert4keras_lite.build_transformer_model", build)
    example = quick("quickstart", data=one_label("sentiment.*"))
    assert list(example["curves"]) == ["random weights", "tiny-zh"]
    assert built[-1] == tmp_path / "output/reading/run/model/hf"
    assert example["reading"] == [(20, 0.25), (40, 0.5)]
    (_, first, *flags), (_, second, *settings) = commands
    assert (first, second) == ("pretraining.corpus", "pretraining.train")
    shown = capsys.readouterr().out
    assert all(f"  python {' '.join(command)}\n" in shown for command in commands)
    made, read = corpus._parser().parse_args(flags), config.load(None, settings)
    assert made.output == read.corpus and made.vocab == read.checkpoint
    assert Path(made.vocab).name == "tiny-zh" and read.steps == 100

    before, after = example["before"], example["after"]  # the weights are the same here
    for ours, theirs in zip(before, after, strict=True):
        assert ours[::2] == theirs[::2] and ours[1] == pytest.approx(theirs[1], abs=1e-5)
    found = sum(character == guess for character, _, guess in before)
    assert 0 < found < len(before)
    assert all(f" {when}: {found} of {len(before)}\n" in shown for when in ("before", "after"))
    lines = [*example["lines"], before, after]
    texts, polylines = picture(tmp_path / "output" / "quickstart.svg", lines)
    assert "tiny-zh 50%" in texts and polylines == 3


# --- basics --------------------------------------------------------------------------------------


def test_extract_features(quick, checkpoint, capsys):
    example = quick("basic_extract_features", checkpoint=checkpoint())
    shown = capsys.readouterr().out.split("\n\n")
    assert shown[0].startswith("语言模型: 6 tokens, 32 numbers each\n")
    rows = [line.split() for line in shown[1].splitlines()]
    assert [text for *_, text in rows] == example["sentences"]
    cosines = np.array([row[:3] for row in rows], float)
    np.testing.assert_array_equal(cosines, cosines.T)
    np.testing.assert_array_equal(cosines.diagonal(), 1)
    # the same without padding
    token_ids, segment_ids = example["tokenizer"].encode(example["sentences"][0])
    inputs = [np.array([token_ids]), np.array([segment_ids])]
    mean = example["bert"].predict_on_batch(inputs)[0, 1:-1].mean(axis=0)
    np.testing.assert_allclose(example["means"][0], mean / np.linalg.norm(mean), atol=1e-5)


def test_masked_language_model(quick, checkpoint, monkeypatch, capsys):
    tokenizer = load_tokenizer(checkpoint(with_mlm=True))
    likely = dict(zip("东西南北中", (30, 25, 20, 15, 10), strict=True))  # percent

    def build(*arguments, **options):
        """A model that guesses these, wherever there is a mask."""
        model = build_transformer_model(*arguments, **options)
        bias = np.full(tokenizer.vocab_size, -30.0)
        for token, percent in likely.items():
            bias[tokenizer.token_to_id(token)] = np.log(percent)
        model.get_layer("lm_norm").set_weights([np.zeros(32), np.zeros(32)])
        model.get_layer("lm_bias").set_weights([bias])
        return model

    monkeypatch.setattr(bert4keras_lite, "build_transformer_model", build)
    options = {"checkpoint": checkpoint(with_mlm=True)}
    guesses = "    东 0.30  西 0.25  南 0.20  北 0.15  中 0.10"
    quick("basic_masked_language_model", "--text", "[MASK]京", "天气[MASK][MASK]。", **options)
    lines = ["[MASK]京", guesses, "天气[MASK][MASK]。", guesses, guesses]
    assert capsys.readouterr().out.splitlines() == lines


def test_cased_from_uncased(quick, checkpoint, tmp_path, capsys):
    quick("basic_make_uncased_model_cased", checkpoint=checkpoint())
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


@pytest.mark.parametrize("method", ["hierarchical", "repeat"])
def test_long_texts_quickly(quick, rows, checkpoint, method):
    options = ONE_BATCH | {"checkpoint": checkpoint(), "data": rows("long"), "maxlen": 24}
    options |= {"positions": 8, "learning_rate": 3e-3, "method": method}
    example = quick("basic_long_texts_hierarchical_position", **options)
    assert example["lengths"] == [24] * 4
    assert example["weights"][example["table"]].shape == (8, 32)
    recounted = build_transformer_model(
        checkpoint(),
        example["weights"],
        model=example["Recounted"],
        max_position=8,
        hierarchical_position=True,
        return_keras_model=False,
    )
    positions = keras.ops.convert_to_numpy(recounted.positions(np.ones((1, 12), "int32")))
    assert positions.ravel().tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3]
    test = example["batches"](example["samples"]["test"])
    assert accuracies(example["model"], test) == [0.5, 1]


@pytest.mark.long
def test_long_texts(run, rows, checkpoint, capsys):
    options = {"checkpoint": checkpoint(), "data": rows("long", 256, 100)}
    options |= {"positions": 32, "maxlen": 110, "batch_size": 16, "epochs": 6}
    run("basic_long_texts_hierarchical_position", **options, learning_rate=5e-3)
    assert score_of(capsys) > 0.62  # what is cut to 32 tokens tells nothing


def check_lora(example):
    """Asserts what holds of `basic_lora.py`, however well it was trained."""
    assert example["trained"] == 2 * 2 * 8 * 32 + 32 * 2 + 2
    np.testing.assert_allclose(example["before"], example["after"], atol=1e-5)
    # what is saved as a checkpoint is the same BERT, without LoRA
    bert = build_transformer_model(example["folder"])
    inputs, _ = example["test"][0]
    merged = example["transformer"].model
    np.testing.assert_allclose(
        bert.predict_on_batch(inputs), merged.predict_on_batch(inputs), atol=1e-5
    )
    assert "lora" not in " ".join(variable.path for variable in example["merged"].variables)


def test_lora_quickly(quick, one_label, checkpoint):
    options = ONE_BATCH | {"checkpoint": checkpoint(), "data": one_label("reviews")}
    check_lora(quick("basic_lora", **options, lora_rate=3e-2))
    example = quick("basic_lora", **options, learning_rate=3e-3, rank=0)
    assert example["trained"] == example["model"].count_params()
    assert accuracies(example["model"], example["test"]) == [0.25, 1]


@pytest.fixture
def taught(checkpoint, tmp_path):
    """A BERT that has learned something: what is frozen must be worth something."""
    bert = build_transformer_model(checkpoint(), return_keras_model=False)
    x = keras.layers.Dense(1, "sigmoid")(bert.model.output[:, 0])
    model = keras.Model(bert.inputs, x)
    model.compile(keras.optimizers.Adam(5e-3), "binary_crossentropy", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    rows = read_tsv(DATA / "reviews" / "sentiment.train.tsv")[-256:]
    texts, labels = zip(*rows, strict=True)
    inputs = load_tokenizer(checkpoint()).encode_batch(texts, maxlen=40)
    model.fit(inputs, np.array(labels), batch_size=16, epochs=3)
    bert.save_checkpoint(tmp_path / "taught")
    shutil.copy(checkpoint() / "vocab.txt", tmp_path / "taught")
    return tmp_path / "taught"


@pytest.mark.long
@pytest.mark.parametrize("rank", [0, 8])
def test_lora(run, rows, taught, capsys, rank):
    options = {"checkpoint": taught, "data": rows("reviews", 192, 100)}
    options |= {"maxlen": 40, "batch_size": 16, "epochs": 2}
    example = run("basic_lora", **options, learning_rate=5e-3, lora_rate=1e-2, rank=rank)
    assert score_of(capsys) > 0.7
    if rank:
        check_lora(example)


def test_several_devices_quickly(quick, one_label, checkpoint, capsys):
    """On the one that there is."""
    options = ONE_BATCH | {"checkpoint": checkpoint(), "data": one_label("reviews", others=8)}
    try:
        example = quick("basic_several_devices", **options, learning_rate=3e-3)
        # the distribution holds for the process
        (right, always) = accuracies(example["model"], example["batches"]("test"))
    finally:
        keras.distribution.set_distribution(None)
    shown = capsys.readouterr().out
    assert shown.startswith("1 device(s): ")
    assert f"test accuracy on 1 device(s): {example['accuracy']:.4f}" in shown
    labels = [label for _, label in example["batches"]("test").data]
    assert (right, always) == (labels.count(1) / 8, 1)


@pytest.mark.long
def test_several_devices(rows, checkpoint):
    """In a process of its own: devices are counted once."""
    pretend = [] if keras.backend.backend() == "torch" else ["--pretend", "2"]
    options = {"checkpoint": checkpoint(), "data": rows("reviews", 192, 96), "maxlen": 40}
    options |= {"batch-size": 16, "epochs": 4, "learning-rate": 5e-3}
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


# --- first tasks ---------------------------------------------------------------------------------


def test_sentence_similarity(quick, one_label, checkpoint, tmp_path, capsys):
    options = ONE_BATCH | {"checkpoint": checkpoint(), "data": one_label("matching.*")}
    name = "task_sentence_similarity"
    example = quick(name, **options, learning_rate=3e-3)
    assert (tmp_path / "output" / "similarity" / "labels.json").is_file()
    model, tokenizer, shown = example["model"], example["tokenizer"], capsys.readouterr().out
    test = example["batches"]["test"]
    first, second, label = read_tsv(options["data"] / "matching.test.tsv", (str, str, int))[0]
    assert test.data[0] == (tokenizer.encode(first, second, maxlen=8), label)
    pairs = example["pairs"]
    logits = model.predict(tokenizer.encode_batch(*zip(*pairs, strict=True)), verbose=0)
    *_, accuracy, one, two, three = shown.splitlines()
    for line, pair, row in zip((one, two, three), pairs, logits, strict=True):
        assert line == f"{probability(row):.2f} {' '.join(pair)}"
    assert accuracy == f"test accuracy: {model.evaluate(test, verbose=0)[1]:.4f}"
    assert accuracies(model, test) == [0.5, 1]


def test_the_files_of_sentence_similarity(quick, one_label, checkpoint, tmp_path, capsys):
    data = one_label("matching.*")
    options = ONE_BATCH | {"checkpoint": checkpoint(), "data": data, "learning_rate": 3e-3}
    (data / "matching.test.tsv").unlink()
    with pytest.warns(UserWarning, match="no test file with labels"):
        quick("task_sentence_similarity", **options)
    assert "\nvalid accuracy: " in capsys.readouterr().out


def test_sentiment_classification(quick, one_label, checkpoint, tmp_path, capsys):
    options = ONE_BATCH | {"checkpoint": checkpoint(), "data": one_label("sentiment.*")}
    example = quick("task_sentiment_classification", **options, learning_rate=3e-3)
    assert (tmp_path / "output" / "sentiment" / "labels.json").is_file()
    model, texts, test = example["model"], example["texts"], example["batches"]["test"]
    assert all(layer.trainable for layer in model.layers)
    guesses = model.predict(example["tokenizer"].encode_batch(texts), verbose=0).argmax(axis=1)
    *_, accuracy, one, two, three = capsys.readouterr().out.splitlines()
    for line, text, guess in zip((one, two, three), texts, guesses, strict=True):
        assert line == f"{'😞😀'[guess]} {text}"
    assert accuracy == f"test accuracy: {model.evaluate(test, verbose=0)[1]:.4f}"
    assert accuracies(model, test) == [0.5, 1]


# --- classics ------------------------------------------------------------------------------------


@pytest.mark.parametrize("units", ["one-hot", "words"])
def test_sentiment_lstm_quickly(quick, one_label, capsys, units):
    options = {"data": one_label("reviews"), "size": 8, "batch_size": 8, "maxlen": 5, "epochs": 3}
    example = quick("classic_sentiment_lstm", **options, learning_rate=5e-2, units=units)
    encode, model = example["encode"], example["model"]
    rows = encode("房间，!")
    assert rows[-1] == 1 and len(rows) == (3 if units == "words" else 4)
    assert encode("") == [1]
    if units == "one-hot":
        table = model.layers[0].get_weights()[0]
        np.testing.assert_array_equal(table, np.eye(len(example["ids"]) + 2))
    assert capsys.readouterr().out.splitlines()[-1].endswith(example["texts"][-1])
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([0 * kernel, bias + 9])
    test = example["batches"](example["samples"]["test"])
    assert model.evaluate(test, verbose=0)[1] == 0.25


@pytest.mark.long
@pytest.mark.parametrize("units", ["one-hot", "characters", "words"])
def test_sentiment_lstm(run, rows, capsys, units):
    options = {"data": rows("reviews", 256, 100), "size": 24, "epochs": 4, "maxlen": 40}
    run("classic_sentiment_lstm", **options, learning_rate=2e-2, units=units)
    assert score_of(capsys) > 0.65


CITIES = ["北京", "上海", "广州", "深圳", "成都", "重庆"]
FRUITS = ["苹果", "香蕉", "橙子", "葡萄", "西瓜", "草莓"]


def test_word2vec_quickly(quick, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # no gensim
    lines = [
        " ".join(words) for kind in (CITIES, FRUITS) for words in itertools.combinations(kind, 4)
    ]
    lines += ["苹果", " ".join(CITIES)]  # of one word, and longer than a window
    (tmp_path / "text.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    kinds = [" ".join(CITIES), " ".join(FRUITS), "桌子 椅子"]
    (tmp_path / "kinds.txt").write_text("\n".join(kinds), encoding="utf-8")
    options = {"data": tmp_path / "text.txt", "kinds": tmp_path / "kinds.txt", "size": 8}
    options |= {"window": 3, "sample": 9, "batch_size": 64, "epochs": 5, "learning_rate": 1e-1}
    example = quick("classic_word2vec", **options)
    assert list(example["rows"]) == [("skip-gram", 5), ("CBOW", 5)]
    assert all(speed > 0 for _, speed in example["rows"].values())
    shown = capsys.readouterr().out
    assert "gensim is not installed" in shown
    assert "12 words, 127 in the text" in shown
    # of the eleven other words five are of a word's kind
    assert example["chance"] == pytest.approx(5 / 11)
    vectors = np.zeros((13, 8))
    for word, i in example["ids"].items():
        vectors[i, int(word in CITIES)] = 1
    assert example["share_of_kind"](vectors) == 1
    # fruits that are nearer to every city than to one another
    for number, word in enumerate(FRUITS):
        vectors[example["ids"][word]] = 0.1 * np.eye(8)[1] + np.eye(8)[2 + number]
    assert example["share_of_kind"](vectors) == 0.5
    nearest = example["neighbours"](vectors, "苹果", ["苹果", "北京", "香蕉"])
    assert [word for word, _ in nearest] == ["北京", "香蕉"]
    np.testing.assert_allclose([cosine for _, cosine in nearest], [0.1 / 1.01**0.5, 0.01 / 1.01])

    # with all words and full windows, the pairs are those that loops would give
    monkeypatch.setattr(np.random, "randint", lambda low, high, size: np.full(size, high - 1))
    monkeypatch.setattr(example["args"], "batch_size", 1)
    text = example["text"]
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


@pytest.mark.long
def test_word2vec(run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # no gensim
    options = {"lines": 5000, "size": 32, "epochs": 3, "batch_size": 512, "min_count": 3}
    example = run("classic_word2vec", **options, window=3, learning_rate=1e-2)
    for share, _ in example["rows"].values():
        assert share > 1.7 * example["chance"]


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


class Attentive:
    """A model that gives these scores to the places of the passages."""

    def __init__(self, scores):
        self.scores = np.array(scores)

    def predict_on_batch(self, inputs):
        return self.scores


def test_cloze_reading_quickly(quick, tmp_path, capsys):
    random = np.random.default_rng(0)
    for split, size in (("train", 8), ("valid", 2), ("test", 2)):
        write_cloze(tmp_path, split, size, random)
    options = {"data": tmp_path, "size": 8, "epochs": 3, "batch_size": 8, "learning_rate": 1e-1}
    options["maxlen"] = 10
    example = quick("classic_cloze_reading", **options)
    assert (tmp_path / "output" / "cloze.weights.h5").is_file()
    shown = capsys.readouterr().out
    assert f"test accuracy: {example['score']:.4f}" in shown and "____" in shown

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

    samples = [((["天", "很"], ["天", "蓝"]), "天"), ((["花", "真"], ["红"]), "红")]
    batches = Batches(samples, 2, example["collate"], buckets=[2], length=lambda _: 2)
    # 很 has the highest score, but 天 is there twice
    first, padding = [1, 1.2, 1, 0], -1e9
    for second, accuracy in (([0, 1, 2, padding], 1), ([0, 2, 1, padding], 0.5)):
        assert example["accuracy"](Attentive([first, second]), batches) == accuracy


@pytest.mark.long
def test_cloze_reading(run, tmp_path):
    random = np.random.default_rng(0)
    for split, size in (("train", 160), ("valid", 30), ("test", 30)):
        write_cloze(tmp_path, split, size, random)
    options = {"data": tmp_path, "size": 24, "epochs": 8, "batch_size": 16}
    example = run("classic_cloze_reading", **options, learning_rate=1e-2)
    assert example["score"] > 0.3  # by chance 0.1


# --- the sample -----------------------------------------------------------------------------------


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
