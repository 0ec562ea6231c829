"""The commands as a user types them, and one line for a mistake."""

import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from goldens.make_sentences import GOLDEN, write_case
from goldens.recipes import FOLDER
from running import operation_by_operation, write_chat_model

from bert4keras_lite.applications.cli import main
from bert4keras_lite.checkpoints import open_checkpoint
from bert4keras_lite.generation import generate_text
from bert4keras_lite.models import build_transformer_model
from bert4keras_lite.parsing import printable
from bert4keras_lite.pipelines import chat, classify, extract_information, rerank, tag
from bert4keras_lite.tokenizers import Tokenizer, load_tokenizer

TINY = FOLDER / "bert/hf_tiny_safetensors"


@pytest.fixture
def run(capsys):
    """Runs a command; gives its status and what it printed to each stream."""

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_inspect(run):
    status, out, err = run("inspect", TINY)
    assert (status, err) == (0, "")
    assert "bert" in out and "safetensors, hf names" in out
    assert "bert.embeddings.word_embeddings.weight" in out and "(40, 16)" in out
    assert "masked language model     present" in out
    assert "layer.1." not in out
    assert "layer.1." in run("inspect", TINY, "--all")[1]


def test_inspect_a_file_with_and_without_its_config(run, tmp_path):
    assert "hidden size   16 in 4 heads" in run("inspect", TINY / "model.safetensors")[1]
    (tmp_path / "alone.safetensors").write_bytes((TINY / "model.safetensors").read_bytes())
    status, out, _ = run("inspect", tmp_path / "alone.safetensors")
    assert status == 0 and "no num_attention_heads" in out and "(40, 16)" in out


STRANGE = [
    "\x1b]0;owned\x07\x1b[2J", "bert/a\n  head: forged   there", "\x9b" * 900,
    f"bert.encoder.layer.{'1' * 5000}.x",  # more digits than Python reads
]  # fmt: skip


def is_harmless(printed):
    return not any(char in printed for char in "\x1b\x07\x9b") and "\n  head: forged" not in printed


def test_names_that_would_control_the_terminal(run, tmp_path):
    np.savez(tmp_path / "names.npz", **dict.fromkeys(STRANGE, np.zeros(3)))
    status, out, err = run("inspect", tmp_path / "names.npz")
    assert status == 0 and is_harmless(out + err)
    assert r"  \x1b]0;owned\x07\x1b[2J" in out and r"bert/a\n  head: forged" in out

    checkpoint = open_checkpoint(TINY)
    arrays = {name: checkpoint[name] for name in checkpoint if "layer.1.output" not in name}
    (tmp_path / "model").mkdir()
    np.savez(tmp_path / "model/model.npz", **arrays, **dict.fromkeys(STRANGE, np.zeros(3)))
    for name in ("config.json", "vocab.txt"):
        shutil.copy(TINY / name, tmp_path / "model" / name)
    for command in ("inspect", "fill-mask", "doctor"):
        status, out, err = run(command, tmp_path / "model", *["[MASK]"] * (command == "fill-mask"))
        assert is_harmless(out + err) and r"\x1b]0;owned" in out + err
        assert status == (command != "inspect")


def test_tokens_that_would_control_the_terminal(run, tmp_path):
    token = "\x1b]0;owned\x07"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (tmp_path / "vocab.txt").write_text("\n".join([*special, "今"]))
    (tmp_path / "added_tokens.json").write_text(json.dumps({token: 6}))
    status, out, err = run("tokenize", tmp_path, f"今{token}\u3000今")
    assert (status, err) == (0, "") and is_harmless(out)
    assert out.splitlines()[0] == r"[CLS] 今 \x1b]0;owned\x07 今 [SEP]"


def test_inspect_and_convert_need_no_framework(tmp_path):
    code = (
        "import sys; from bert4keras_lite.applications.cli import main;"
        f"main(['inspect', {str(TINY)!r}]);"
        f"main(['convert', {str(TINY)!r}, {str(tmp_path / 'o')!r}, '--to', 'tf']);"
        "print('LOADED', *(m for m in ('keras', 'tensorflow', 'torch', 'jax') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("LOADED")


def test_inspect_counts_beyond_64_bits(run, tmp_path):
    """Of arrays that cannot be read, shapes are as a file tells them."""
    tensors = {"w": {"dtype": "F4", "shape": [1 << 59, 1 << 59], "data_offsets": [0, 8]}}
    header = json.dumps(tensors).encode()
    (tmp_path / "model.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + bytes(8)
    )
    _, out, _ = run("inspect", tmp_path)
    assert f"{1 << 118:,} in 1 arrays" in out and "MiB" in out


def test_inspect_tells_what_is_missing(run, tmp_path):
    transformer = build_transformer_model(TINY, with_mlm=True, return_keras_model=False)
    transformer.save_checkpoint(tmp_path / "whole", "hf")
    checkpoint = open_checkpoint(tmp_path / "whole")
    weights = {n: checkpoint[n] for n in checkpoint if "layer.1.output.dense" not in n}
    (tmp_path / "half").mkdir()
    np.savez(tmp_path / "half/model.npz", **weights, odd=np.ones(3))
    (tmp_path / "half/config.json").write_bytes((tmp_path / "whole/config.json").read_bytes())
    _, out, _ = run("inspect", tmp_path / "half")
    assert "missing: block_1/ffn/output/kernel" in out
    assert "not known: odd (3,)" in out
    assert "next sentence (or order)  absent" in out


@pytest.mark.parametrize("to", ["tf", "keras"])
def test_convert_and_back_is_bit_equal(run, tmp_path, to):
    assert run("convert", TINY, tmp_path / "there", "--to", to)[0] == 0
    assert (tmp_path / "there/vocab.txt").read_bytes() == (TINY / "vocab.txt").read_bytes()
    assert run("convert", tmp_path / "there", tmp_path / "back", "--to", "hf")[0] == 0
    first, second = open_checkpoint(TINY), open_checkpoint(tmp_path / "back")
    assert set(first) == set(second)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def tiny_weights():
    checkpoint = open_checkpoint(TINY)
    return {name: np.array(checkpoint[name]) for name in checkpoint}


def without(weights, part):
    return {name: array for name, array in weights.items() if part not in name}


WORDS, NORM = "bert.embeddings.word_embeddings.weight", "bert.embeddings.LayerNorm.weight"


@pytest.mark.parametrize(
    "change, config, arguments, told",
    [
        (
            lambda w: w | {NORM.replace("weight", "gamma"): w[NORM] + 1},
            *({}, [], "differs from bert.embeddings.LayerNorm.gamma"),
        ),
        (
            lambda w: without(w, "1.output.dense.bias"),
            {},
            [],
            "(for block_1/ffn/output/bias)\nOnly a",
        ),
        (lambda w: without(w, "attention.self.key"), {}, [], "block_0/attention/key/kernel"),
        (lambda w: without(w, "cls.predictions.transform.dense"), {}, [], "--set with_lm=False"),
        (dict, {"num_hidden_layers": 3}, [], "this one has num_hidden_layers=3"),
        (dict, {"num_hidden_layers": 1}, [], "has more blocks than the config's"),
        (dict, {"hidden_size": 40}, [], "this one has hidden_size=40"),
        (lambda w: w | {NORM: w[NORM].astype("int32")}, {}, [], "holds numbers of dtype int32"),
        (
            lambda w: w | {"cls.predictions.decoder.weight": w[WORDS] + 1},
            *({}, [], f"differs from {WORDS}"),
        ),
        (lambda w: w | {WORDS: w[WORDS] + 1e6}, {}, ["--dtype", "float16"], "infinite in it"),
    ],
)
def test_convert_checks_what_loading_checks(run, tmp_path, change, config, arguments, told):
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in/model.npz", **change(tiny_weights()))
    values = json.loads((TINY / "config.json").read_text()) | config
    (tmp_path / "in/config.json").write_text(json.dumps(values))
    status, _, err = run("convert", tmp_path / "in", tmp_path / "out", "--to", "tf", *arguments)
    assert status == 1 and told in err
    assert not any((tmp_path / "out").glob("*"))


def test_convert_holds_the_axis_of_heads_against_the_config(run, tmp_path):
    assert run("convert", TINY, tmp_path / "tf", "--to", "tf")[0] == 0
    arrays = dict(open_checkpoint(tmp_path / "tf").items())
    name = "bert/encoder/layer_0/attention/self/query/bias"
    arrays[name] = arrays[name].reshape(1, -1)
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in/model.npz", **arrays)
    (tmp_path / "in/config.json").write_bytes((tmp_path / "tf/bert_config.json").read_bytes())
    status, _, err = run("convert", tmp_path / "in", tmp_path / "out", "--to", "hf")
    assert status == 1 and "have an axis for 1 heads" in err


def test_convert_tells_what_it_leaves_out(run, tmp_path):
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in/model.npz", **tiny_weights(), **{"classifier.weight": np.ones((2, 4))})
    (tmp_path / "in/config.json").write_bytes((TINY / "config.json").read_bytes())
    status, _, err = run("convert", tmp_path / "in", tmp_path / "out", "--to", "tf")
    assert status == 0 and "left unused, 1 arrays: classifier.weight" in err


def test_convert_to_half_precision(run, tmp_path):
    run("convert", TINY, tmp_path / "half", "--to", "hf", "--dtype", "bfloat16")
    checkpoint = open_checkpoint(tmp_path / "half")
    assert {str(checkpoint.dtype(name)) for name in checkpoint} == {"bfloat16"}


def test_tokenize(run):
    _, out, _ = run("tokenize", TINY, "天地不是人")
    tokens, ids = out.splitlines()
    assert tokens == "[CLS] 天 地 不 是 人 [SEP]"
    assert ids.split()[0] == "2" and len(ids.split()) == 7


def test_without_a_checkpoint_it_is_that_of_the_toolkit(run):
    for text in ("天地不是人", "2024年5月"):
        assert run("tokenize", text)[1] == run("tokenize", "tiny-zh", text)[1] != ""
    several = "天[MASK]不是人", "tiny zh", "2024年5月"  # the first is not a path, so it is a text
    assert run("tokenize", *several)[1] == run("tokenize", "tiny-zh", *several)[1] != ""
    assert "tiny-zh" in run("inspect")[1] and "tiny-zh-gpt2" not in run("inspect")[1]


def test_fill_mask_gives_the_models_probabilities(run):
    status, out, _ = run("fill-mask", TINY, "天[MASK]不是人", "--top", 3)
    assert status == 0 and out.splitlines()[0] == "天[MASK]不是人"
    model = build_transformer_model(TINY, with_mlm=True)
    vocabulary = (TINY / "vocab.txt").read_text().split("\n")
    ids = np.array(
        [[vocabulary.index(t) for t in ["[CLS]", "天", "[MASK]", "不", "是", "人", "[SEP]"]]]
    )
    best = np.asarray(model.predict_on_batch([ids, ids * 0]))[0, 2]
    shown = [line.split()[:2] for line in out.splitlines()[1:4]]
    for (token, share), i in zip(shown, np.argsort(-best)[:3], strict=True):
        assert token == vocabulary[i] and share == f"{best[i]:.1%}"


def save_classifier_of(kind, directory, **more_labels):
    """Writes Hugging Face's files of a classifier; returns its `Transformer`."""
    labels = {"text": ["差评", "中评", "好评"], "tokens": ["O", "B-人", "I-人"]} | more_labels
    options = {"with_classifier": kind, "labels": labels.get(kind), "new_classifier": True}
    transformer = build_transformer_model(TINY, return_keras_model=False, **options)
    kernel = transformer.variables[f"{kind}_classifier/kernel"]
    kernel.assign(np.random.RandomState(0).standard_normal(kernel.shape))
    transformer.save_checkpoint(directory, "hf", vocab=load_tokenizer(TINY))
    return transformer


def test_classify(run, tmp_path):
    transformer = save_classifier_of("text", tmp_path)
    status, out, err = run("classify", tmp_path, "天地\t不是人", "大", "--top", 2)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert [lines[0], lines[4]] == ["天地\t不是人", "大"] and len(lines) == 8
    pair, alone = classify(transformer, [("天地", "不是人"), "大"], load_tokenizer(TINY), top_k=2)
    for line, (name, prob) in zip([*lines[1:3], *lines[5:7]], [*pair, *alone], strict=True):
        assert line.split()[:2] == [name, f"{prob:.1%}"]
    assert run("classify", tmp_path, "天地" * 300, "--maxlen", 9)[0] == 0
    assert "602 tokens; at most" in run("classify", tmp_path, "天地" * 300)[2]
    assert "architectures is ['BertFor" in run("classify", TINY, "大")[2]
    assert run("classify", "天地不是人", "大")[0] == 1  # there is no default


def test_tag(run, tmp_path):
    transformer = save_classifier_of("tokens", tmp_path)
    text = "天地不是人"
    status, out, err = run("tag", tmp_path, text)
    assert (status, err) == (0, "")
    spans = tag(transformer, text, load_tokenizer(TINY))
    assert spans and out.splitlines()[0] == text
    for line, (start, end, kind, prob) in zip(out.splitlines()[1:], spans, strict=False):
        assert line.split() == [f"{start}-{end}", kind, f"{prob:.1%}", text[start:end]]
    assert "Use tag." in run("classify", tmp_path, text)[2]


def test_rerank(run, tmp_path):
    transformer = save_classifier_of("text", tmp_path, text=["LABEL_0"])
    query, passages = "天地", ["人不是天地大小", "大\n小", "人不是"]
    status, out, err = run("rerank", tmp_path, query, *passages)
    assert (status, err) == (0, "")
    expected = rerank(transformer, query, passages, load_tokenizer(TINY))
    assert out.splitlines() == [
        f"{x.score:8.4f} {x.position:4} {x.passage}".replace("\n", r"\n") for x in expected
    ]
    _, out, _ = run("rerank", tmp_path, query, *passages, "--top", 1, "--normalize")
    (line,) = out.splitlines()
    assert line.split()[0] == f"{1 / (1 + np.exp(-expected[0].score)):.4f}"
    assert run("rerank", tmp_path, query, "大" * 600)[0] == 0  # shortened
    told = run("rerank", tmp_path, query, "大", "--instruction", "找")[2]
    assert "not one token; expected the tokens of a chat, to use instruction" in told
    assert "the query or the passage is empty" in run("rerank", tmp_path, query, "")[2]
    save_classifier_of("text", tmp_path / "three")
    assert "has 3 labels; expected one" in run("rerank", tmp_path / "three", "天", "大")[2]


def test_extract_information(run, tmp_path):
    transformer = save_classifier_of("spans", tmp_path)
    texts, schema = ["天地不是人", "大\x1b人不小天"], {"地": ["大", "小"], "人[天,地]": None}
    options = ("--schema", json.dumps(schema), "--threshold", 0.3)
    status, out, err = run("extract-information", tmp_path, *texts, *options)
    assert (status, err) == (0, "") and is_harmless(out)
    lines = iter(out.splitlines())

    def compare(found, indent):
        for name, answers in found.items():
            for answer in answers:
                place = [f"{answer['start']}-{answer['end']}"] if "start" in answer else []
                shown = answer["text"].replace("\x1b", r"\x1b")
                line = next(lines)
                assert line.split() == [*place, name, f"{answer['probability']:.1%}", shown]
                assert line.startswith(indent)
                compare(answer.get("relations", {}), f"{indent}    ")

    expected = extract_information(transformer, texts, schema, load_tokenizer(TINY), 0.3)
    assert all(expected) and any("relations" in x for found in expected for x in found["地"])
    for text, found in zip(texts, expected, strict=True):
        assert next(lines) == text.replace("\x1b", r"\x1b")
        compare(found, "  ")
        assert next(lines) == ""
    for schema, words in (
        ("[", "--schema [: "),
        ("{}", "schema: expected a name, a list or a dict of names"),
        ('["a", NaN]', "schema: expected a name, a list or a dict of names, got nan"),
        ("人" * 600, "leaves no room for a text"),
    ):
        status, _, err = run("extract-information", tmp_path, "天", "--schema", schema)
        assert status == 1 and words in err and len(err.splitlines()) == 1, err
    kind = run("extract-information", TINY, "天", "--schema", "人")[2]
    assert "which names no classifier" in kind


@pytest.mark.parametrize("kind", ["text", "tokens"])
def test_a_classifier_is_inspected_and_converted(run, tmp_path, kind):
    transformer = save_classifier_of(kind, tmp_path / "hf")
    status, out, _ = run("inspect", tmp_path / "hf")
    labels = transformer.config.labels
    assert status == 0 and f"classifier    of {kind}\nlabels        3: {', '.join(labels)}" in out
    for source, target, to in (("hf", "tf", "tf"), ("tf", "again", "hf")):
        status, _, err = run("convert", tmp_path / source, tmp_path / target, "--to", to)
        assert (status, err) == (0, "")
    first, second = (open_checkpoint(tmp_path / name) for name in ("hf", "again"))
    assert {*first} == {*second}
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    config = json.loads((tmp_path / "again/config.json").read_text())
    assert [*config["id2label"].values()] == [*labels]
    assert run("convert", tmp_path / "hf", tmp_path / "keras", "--to", "keras")[0] == 0
    (tmp_path / "hf/config.json").write_text(json.dumps(config | {"id2label": {"5": "x"}}))
    status, out, _ = run("inspect", tmp_path / "hf")
    assert status == 0 and "expected a name for each number from 0" in out


def rewritten(folder, id2label=None, without=None):
    """Changes the labels of a classifier's config, or leaves out an array."""
    if id2label is not None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"id2label": id2label}))
    if without is not None:
        checkpoint = open_checkpoint(folder)
        arrays = {name: np.array(checkpoint[name]) for name in checkpoint if name != without}
        (folder / "model.safetensors").unlink()
        np.savez(folder / "model.npz", **arrays)


@pytest.mark.parametrize(
    ("kind", "change", "shown", "examined"),
    [
        (
            "text",
            {},
            "labels        3: 差评, 中评, 好评",
            "is complete; labels (3): 差评, 中评, 好评",
        ),
        ("tokens", {}, "classifier    of tokens", "is complete; labels (3): O, B-人, I-人"),
        ("spans", {}, "classifier    of spans", "the classifier of spans is complete."),
        ("choice", {}, "classifier    of choice", "the classifier of choice is complete."),
        (
            *("text", {"id2label": {"0": "差评", "1": "好评"}}),
            "problem       The classifier of the checkpoint has 3 labels; expected 2. Correct id2",
            "! the classifier of text (classifier.weight: (3, 16) in the checkpoint, (2, 16) in "
            "the model): The classifier of the checkpoint has 3 labels; expected 2. Correct",
        ),
        (
            *("tokens", {"without": "classifier.weight"}),
            "problem       The checkpoint has no classifier with_classifier='tokens'. Pass",
            "! the classifier of tokens (classifier.weight  (for tokens_classifier/kernel)): The "
            "checkpoint has no classifier with_classifier='tokens'",
        ),
        (
            *("text", {"id2label": {"5": "x"}}),
            "expected a name for each number from 0",
            "! the classifier of text: ",
        ),
    ],
)
def test_classifiers_are_examined(run, tmp_path, kind, change, shown, examined):
    save_classifier_of(kind, tmp_path)
    rewritten(tmp_path, **change)
    status, out, _ = run("inspect", tmp_path)
    assert status == 0 and shown in out and ("problem" in out) == ("problem" in shown)
    status, out, _ = run("doctor", tmp_path)
    assert status == 0 and examined in out
    assert ("! the classifier" in out) == bool(change)


def test_a_reranker_is_examined(run, tmp_path):
    save_classifier_of("text", tmp_path, text=["LABEL_0"])
    assert "classifier    of text\nlabels        1: LABEL_0" in run("inspect", tmp_path)[1]
    assert "classifier of text is complete; labels (1): LABEL_0" in run("doctor", tmp_path)[1]


def test_sentence_transformers_are_examined(run, tmp_path):
    write_case(tmp_path, "dense_tanh")
    assert "vectors       mean, Dense" in run("inspect", tmp_path)[1]
    sound = run("doctor", tmp_path)[1]
    assert "sentence vectors: mean, Dense." in sound
    (tmp_path / "1_Pooling/config.json").write_text('{"pooling_mode": "attention"}')
    words = "1_Pooling/config.json: the pooling 'attention' is not known; expected some of cls"
    _, out, _ = run("inspect", tmp_path)
    assert "problem       " in out and words in out
    _, out, _ = run("doctor", tmp_path)
    assert words in next(line for line in out.splitlines() if line.startswith("! /"))


def test_masks_of_the_texts_before_an_invalid_one_are_filled(run):
    status, out, err = run("fill-mask", TINY, "天[MASK]不是人", "没有")
    assert status == 1 and "'没有': 0 times [MASK]" in err
    assert out == run("fill-mask", TINY, "天[MASK]不是人")[1] != ""


def test_a_model_that_writes_fills_no_mask(run, tmp_path):
    sizes = {"vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    transformer = build_transformer_model(
        model="gpt2", return_keras_model=False, intermediate_size=16, max_position=16, **sizes
    )
    transformer.save_checkpoint(tmp_path, vocab=Tokenizer(TINY / "vocab.txt"))
    status, _, err = run("fill-mask", tmp_path, "天[MASK]不是人")
    assert status == 1 and "fill-mask needs a bidirectional model" in err


class Typed(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.filterwarnings("ignore:.*looks never trained:UserWarning")
def test_chat(run, tmp_path, monkeypatch):
    pytest.importorskip("jinja2", "3.1.6")
    operation_by_operation(monkeypatch)
    write_chat_model(tmp_path)
    model, tokenizer = build_transformer_model(tmp_path, with_lm="linear"), load_tokenizer(tmp_path)
    messages = [{"role": "system", "content": "foo"}, {"role": "user", "content": "天气"}]
    first = chat(model, tokenizer, messages, 5)
    command = ("chat", tmp_path, "--max-new-tokens", 5, "--system", "foo")
    monkeypatch.setattr("sys.stdin", io.StringIO("天气\n"))
    status, out, err = run(*command)
    assert (status, err, out) == (0, "", printable(first, keep="\n\t") + "\n")
    messages += [{"role": "assistant", "content": first}, {"role": "user", "content": "hello"}]
    second = chat(model, tokenizer, messages, 5)
    monkeypatch.setattr("sys.stdin", Typed(f"天气\n\nhello\n{'foo ' * 600}\n/exit\nbar\n"))
    status, out, err = run(*command)
    assert status == 0 and "Leave out the first messages." in err
    answers = [printable(text, keep="\n\t") for text in (first, second)]
    assert out.replace("> ", "") == "\n".join([*answers, ""])
    monkeypatch.setattr("sys.stdin", Typed(""))
    assert run(*command)[0] == 0
    status, _, err = run(*command, "--top-k", 3)
    assert status == 1 and "expected --sample" in err
    status, _, err = run("chat", "tiny-zh-gpt2")
    assert status == 1 and "not one for conversations" in err


def test_generate(run, tmp_path, monkeypatch):
    operation_by_operation(monkeypatch)
    tokenizer = Tokenizer(TINY / "vocab.txt")
    transformer = build_transformer_model(
        **{"vocab_size": tokenizer.vocab_size, "hidden_size": 16, "num_hidden_layers": 1},
        **{"num_attention_heads": 2, "intermediate_size": 16, "max_position": 64},
        **{"model": "gpt2", "with_lm": "linear", "return_keras_model": False},
    )
    transformer.save_checkpoint(tmp_path / "gpt2", format="tf", vocab=tokenizer)
    model = build_transformer_model(tmp_path / "gpt2", with_lm="linear")
    tokenizer = load_tokenizer(tmp_path / "gpt2")
    command = ("generate", tmp_path / "gpt2", "天地", "--max-new-tokens", 6)
    status, out, _ = run(*command)
    (greedy,) = generate_text(model, tokenizer, "天地", 6)
    assert status == 0 and out.rstrip() == f"天地{greedy.text}".rstrip()
    _, out, _ = run(*command, "--beams", 2)
    found = generate_text(model, tokenizer, "天地", 6, num_beams=2, num_return_sequences=2)
    assert [f"{one.score:.3f}" in out and one.text in out for one in found] == [True, True]
    first = tokenizer.decode(greedy.ids[:1])
    forbidden = ("--no-repeat-ngram-size", 2, "--min-new-tokens", 3)
    _, out, _ = run(*command, "--bad-word", first, "--bad-word", "小", *forbidden)
    options = {"no_repeat_ngram_size": 2, "min_new_tokens": 3, "bad_words": [first, "小"]}
    (other,) = generate_text(model, tokenizer, "天地", 6, **options)
    assert out.rstrip() == f"天地{other.text}".rstrip() != f"天地{greedy.text}".rstrip()
    sampled = {run(*command, "--sample", "--top-k", 5, "--seed", seed)[1] for seed in (1, 1, 2)}
    assert len(sampled) == 2
    status, _, error = run(*command, "--top-k", 5)
    assert status == 1 and "--sample" in error


def test_features(run, tmp_path):
    texts = ["天地", "大人不小"]
    run("features", TINY, *texts, "--pool", "none", "--output", tmp_path / "f.npz")
    with np.load(tmp_path / "f.npz") as file:
        rows = [file["text_0"], file["text_1"]]
    assert [row.shape for row in rows] == [(4, 16), (6, 16)]
    run("features", TINY, *texts, "--pool", "mean", "--output", tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz") as file:
        np.testing.assert_allclose(file["vectors"][1], rows[1][1:-1].mean(0), atol=1e-6)
    run("features", TINY, *texts, "--pool", "cls", "--output", tmp_path / "c.npz")
    with np.load(tmp_path / "c.npz") as file:
        np.testing.assert_allclose(file["vectors"][1], rows[1][0], atol=1e-6)
    assert len(run("features", TINY, "天地")[1].splitlines()) == 1


def test_features_of_sentence_transformers(run, tmp_path):
    write_case(tmp_path, "dense_tanh")
    run("features", tmp_path, "天地不是人", "大", "--output", tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz") as file:
        np.testing.assert_allclose(file["vectors"], np.load(GOLDEN)["dense_tanh"][:2], atol=2e-6)
    run("features", tmp_path, "大", "--pool", "cls", "--output", tmp_path / "c.npz")
    with np.load(tmp_path / "c.npz") as file:
        assert file["vectors"].shape == (1, 16)


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    """A directory with a small encoder-decoder whose padding is another id."""
    directory = tmp_path_factory.mktemp("t5")
    sizes = {"vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    transformer = build_transformer_model(
        model="t5.1.1", return_keras_model=False, intermediate_size=16, pad_token_id=3, **sizes
    )
    transformer.save_checkpoint(directory, vocab=Tokenizer(TINY / "vocab.txt"))
    return directory


def test_features_of_a_model_with_two_stacks_are_the_encoders(run, t5, tmp_path):
    texts = ["天地", "大人不小" * 9]
    status, _, err = run("features", t5, *texts, "--pool", "none", "--output", tmp_path / "f.npz")
    assert status == 0, err
    transformer = build_transformer_model(t5, return_keras_model=False)
    tokenizer = load_tokenizer(t5)
    with np.load(tmp_path / "f.npz") as file:
        for i, text in enumerate(texts):
            states = transformer.encoder.predict_on_batch(np.array([tokenizer.encode(text)[0]]))
            np.testing.assert_allclose(file[f"text_{i}"], np.asarray(states)[0], atol=1e-5)


def test_fill_mask_without_special_tokens(run, tmp_path):
    shutil.copytree(TINY, tmp_path / "m")
    config = {"tokenizer_class": "BertTokenizer", "cls_token": None, "sep_token": None}
    (tmp_path / "m/tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = load_tokenizer(tmp_path / "m", token_start=None, token_end=None)
    ids = np.array([tokenizer.tokens_to_ids(["天", "[MASK]", "地"])])
    tokenizer.save(tmp_path / "m")
    assert load_tokenizer(tmp_path / "m").token_start is None
    model = build_transformer_model(TINY, with_mlm=True)
    best = np.asarray(model.predict_on_batch([ids, ids * 0]))[0, 1].max()
    _, out, err = run("fill-mask", tmp_path / "m", "天[MASK]地", "--top", 1)
    assert f"{best:.1%}" in out, err
    status, out, _ = run("fill-mask", tmp_path / "m", "[MASK]", "--top", 1)
    assert status == 0 and len(out.splitlines()) == 3


def test_a_family_by_name_and_options(run, tmp_path):
    run("convert", TINY, tmp_path / "a", "--to", "tf", "--set", "hidden_act=relu")
    config = json.loads((tmp_path / "a/bert_config.json").read_text())
    assert config["hidden_act"] == "relu"


def test_a_conversion_that_was_interrupted_begins_again(run, tmp_path, monkeypatch):
    target = tmp_path / "a"

    def stop(source, to):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copy", stop)  # the last files
        status, _, _ = run("convert", TINY, target, "--to", "tf")
    assert status == 130
    assert not target.exists()
    (target / ".saving-0").mkdir(parents=True)  # what a kill leaves
    status, _, _ = run("convert", TINY, target, "--to", "tf")
    assert status == 0
    assert {"bert_config.json", "bert_model.ckpt.index", "vocab.txt"} <= set(os.listdir(target))
    assert not list(target.glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect", "no/such/place"], "no/such/place"),
        (["inspect", str(FOLDER / "README.md")], "README.md"),
        (["tokenize", str(FOLDER), "a"], str(FOLDER)),
        (["tokenize", str(TINY)], "expected a text, got a checkpoint. Write both, the text"),
        (["features", "hfl/rbt3"], "hfl/rbt3: expected a text, got a checkpoint"),
        (["fill-mask", "tiny-zh"], "tiny-zh: expected a text, got a checkpoint"),
        (["tokenize", "天/tiny", "地"], "天/tiny"),
        (["tokenize", "tinyzh", "地"], "tinyzh"),
        (["fill-mask", str(TINY), "没有"], "0 times [MASK]"),
        (["features", str(TINY), "天", "--set", "hidden_act"], "expected NAME=VALUE"),
        (["features", str(TINY), "天", "--set", "hiden_act=relu"], "did you mean 'hidden_act'"),
        (["features", str(TINY), "天", "--set", 'x={"a": 1, "a": 2}'], "'a' is there twice"),
        (["features", str(TINY), "天", "--output", str(FOLDER)], "--output"),
        (["convert", str(TINY), str(FOLDER), "--to", "tf"], "it exists already"),
        (["fill-mask", str(TINY), "天[MASK]", "--model", "t5.1.0"], "model_type is 'bert'"),
        (["fill-mask", str(TINY), "天[MASK]" * 300], "tokens; at most"),
        (["fill-mask", str(TINY), ""], "'': 0 times [MASK]"),
        (["features", str(TINY), "天", "大" * 600], "tokens; at most"),
        (["features", str(TINY), "天", ""], "'': the text is empty"),
        (["serve", str(TINY), "--limit", f"texts=1{'0' * 400}"], "limit texts=<an integer of"),
        (["serve", str(TINY), "--limit", "wait=1e10"], "limit wait=10000000000.0"),
    ],
)
def test_a_mistake_is_one_line(run, arguments, words):
    status, _, err = run(*arguments)
    assert status == 1 and words in err and err.startswith("error: ")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "m", "--port", "99999"], "--port: expected a whole number from 1 to 65535"),
        (["serve", "m", "--port", "x"], "--port: expected a whole number from 1 to 65535, got 'x'"),
        (["fill-mask", "m", "[MASK]", "--top", "0"], "--top: expected a whole number from 1"),
        (["fill-mask", "m", "[MASK]", "--top", "-1"], "--top: expected a whole number from 1"),
        (["rerank", "m", "天", "地", "--maxlen", "3"], "--maxlen: expected a whole number from 16"),
        (["extract-information", "m", "天", "--schema", "人", "--threshold", "2"], "--threshold: "),
        (["generate", "m", "天", "--beams", "100000"], "--beams: expected a whole number from 1"),
        (["generate", "m", "天", "--max-new-tokens", "9" * 5000], "--max-new-tokens: expected"),
        (["generate", "m", "天", "--sample", "--temperature", "0"], "--temperature: expected a"),
        (["generate", "m", "天", "--sample", "--top-p", "1e-50"], "--top-p: expected a number"),
        (["generate", "m", "天", "--sample", "--top-k", "0"], "--top-k: expected a whole number"),
        (["generate", "m", "天", "--sample", "--seed", "-1"], "--seed: expected a whole number"),
        (["generate", "m", "天", "--repetition-penalty", "nan"], "--repetition-penalty: expected"),
        (
            ["generate", "m", "天", "--no-repeat-ngram-size", "-1"],
            "--no-repeat-ngram-size: expected",
        ),
    ],
)
def test_an_argument_that_is_out_of_its_range(arguments, words, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    printed = capsys.readouterr().err
    assert end.value.code == 2 and words in printed and len(printed.splitlines()[-1]) < 500


@pytest.mark.once
def test_a_reader_that_has_enough_is_no_mistake():
    command = [sys.executable, "-m", "bert4keras_lite", "inspect", "--all", str(TINY)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 0


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("keep_tokens=[99999]", "keep_tokens: expected a list of ids"),
        ("keep_tokens=[-1]", "keep_tokens: expected a list of ids"),
        ("keep_tokens=3", "keep_tokens: expected a list"),
        ("compound_tokens=[[0], [999999]]", "compound_tokens, number 1: expected a list of ids"),
        ("compound_tokens=[[-1]]", "compound_tokens, number 0: expected a list of ids"),
        ("layer_norm_cond=3", "layer_norm_cond: expected a keras.Input"),
        ("application=[]", "application: expected a name, got []"),
        ("layers=5", "layers: expected a dict name -> layer, got 5"),
        ("compound_tokens=5", "compound_tokens: expected a list of lists, got 5"),
        ("prefix=5", "prefix: expected a string, got 5"),
        ("hidden_sizes=5", "has no option 'hidden_sizes'"),
    ],
)
def test_options_that_are_no_rows_and_no_tensor(run, option, words):
    status, _, told = run("fill-mask", TINY, "天[MASK]", "--set", option)
    assert status == 1 and words in told


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("n_embd=5", "hidden_size"),
        ("hidden_sizes=5", "convert has no option 'hidden_sizes'; did you mean 'hidden_size'?"),
        ("application=lm", "convert has no option 'application'"),
    ],
)
def test_settings_of_convert(run, option, words, tmp_path):
    status, _, told = run("convert", TINY, tmp_path / "out", "--to", "tf", "--set", option)
    assert status == 1 and words in told


def test_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "bert4keras_lite", "tokenize", str(TINY), "天"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("[CLS] 天 [SEP]")
