"""The examples that write: each runs to its end, without a checkpoint and with one of its kind."""

import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.generation import writing

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
TOKENIZERS = ROOT.parent / "shared" / "tokenizers"
FAMILIES = {
    "basic_language_model_gpt2_ml": "gpt2_ml",
    "basic_language_model_cpm_lm": "gpt2",
    "basic_language_model_nezha_gen_gpt": "nezha",
    "basic_text_generation_t5": "t5.1.1",
}
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position": 128,
    "with_lm": "linear",
    "return_keras_model": False,
}


@pytest.fixture(scope="module")
def examples():
    """What the examples share, importable as it is for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        import tiny_bert
        import tiny_writer

        yield {"tiny_bert": tiny_bert, "tiny_writer": tiny_writer}


@pytest.fixture
def tasks(monkeypatch):
    """Every task that is run, cut to five tokens."""
    seen = []
    init = writing.Task.__init__

    def short(self, model, inputs, max_new_tokens=None, **options):
        init(self, model, inputs, 5, **{**options, "min_new_tokens": 0})
        seen.append(self)

    monkeypatch.setattr(writing.Task, "__init__", short)
    return seen


def run(monkeypatch, name, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / f"{name}.py"))


def checkpoint(directory, files, **options):
    """A directory with a small random model and the files of a tokenizer."""
    transformer = build_transformer_model(**SMALL, **options)
    transformer.save_checkpoint(directory, format="tf")
    for file in files:
        shutil.copy(file, directory / file.name)
    return directory


@pytest.fixture
def sample(tmp_path):
    """The beginning of the sample, enough for two steps."""
    data = EXAMPLES / "data"
    directory = tmp_path / "data"
    directory.mkdir()
    shutil.copy(data / "vocab.txt", directory)
    lines = (data / "corpus.txt").read_text(encoding="utf-8").split("\n")[:600]
    (directory / "corpus.txt").write_text("\n".join(lines), encoding="utf-8")
    return directory


@pytest.mark.parametrize("name", FAMILIES)
def test_without_a_checkpoint(name, examples, sample, tasks, tmp_path, monkeypatch, capsys):
    family, module = FAMILIES[name], examples["tiny_writer"]
    directory = tmp_path / family

    def tiny_writer(asked):
        assert asked == family
        module.train(family, directory, epochs=1, rows=128)  # two steps
        return directory

    monkeypatch.setattr(module, "DATA", sample)
    monkeypatch.setattr(
        module, "build_transformer_model", lambda **o: build_transformer_model(**{**o, **SMALL})
    )
    monkeypatch.setattr(module, "tiny_writer", tiny_writer)
    run(monkeypatch, name)
    shown = capsys.readouterr().out
    tokenizer = load_tokenizer(directory)
    for task in tasks:
        for prompt in task.prompts:
            words = tokenizer.decode(prompt)
            assert len(prompt) > 1 and words[:2] in shown
    assert tasks


def test_gibbs_sampling_without_a_checkpoint(examples, tmp_path, monkeypatch, capsys):
    vocab = EXAMPLES / "data" / "vocab.txt"
    size = len(vocab.read_text(encoding="utf-8").split("\n")) - 1
    directory = checkpoint(tmp_path, [vocab], vocab_size=size)
    monkeypatch.setattr(examples["tiny_bert"], "tiny_bert", lambda: directory)
    text = "今天天气很好。"
    run(monkeypatch, "basic_gibbs_sampling_via_mlm", "--text", text)
    rounds, halves = capsys.readouterr().out.split("other second halves\n")
    assert text in rounds and rounds.count("round ") == 5
    assert [line.strip()[:3] for line in halves.splitlines()] == [text[:3]] * 4
    assert "[" not in rounds.replace(text, "")


def test_gpt2_ml_is_prompted_with_bare_text(tasks, tmp_path, monkeypatch):
    vocab = EXAMPLES / "data" / "vocab.txt"
    size = len(vocab.read_text(encoding="utf-8").split("\n")) - 1
    checkpoint(tmp_path, [vocab], vocab_size=size, model="gpt2_ml")
    name = "basic_language_model_gpt2_ml"
    run(monkeypatch, name, "--checkpoint", tmp_path, "--text", "今天天气")
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.decode(tasks[0].prompts[0]) == "今天天气"
    assert len(tasks[0].prompts[0]) == 4  # neither [CLS] nor [SEP]
    assert tasks[0].stop_ids == [tokenizer.token_to_id("。")]


def test_nezha_gen_is_a_bert_without_segments(tasks, tmp_path, monkeypatch):
    vocab = EXAMPLES / "data" / "vocab.txt"
    size = len(vocab.read_text(encoding="utf-8").split("\n")) - 1
    checkpoint(tmp_path, [vocab], vocab_size=size, application="lm", segment_vocab_size=0)
    run(monkeypatch, "basic_language_model_nezha_gen_gpt", "--checkpoint", tmp_path)
    assert {task.config.family for task in tasks} == {"bert"}
    assert not any(task.config.has_segments for task in tasks)


@pytest.mark.skipif(not TOKENIZERS.is_dir(), reason="the published tokenizers are not here")
def test_cpm_ends_an_answer_with_its_line(tasks, tmp_path, monkeypatch):
    pytest.importorskip("jieba")
    model = TOKENIZERS / "cpm" / "chinese_vocab.model"
    checkpoint(tmp_path, [model], vocab_size=30000, model="gpt2")
    run(monkeypatch, "basic_language_model_cpm_lm", "--checkpoint", tmp_path)
    assert tasks[0].stop_ids == [3]
    assert load_tokenizer(tmp_path).decode(tasks[0].prompts[0]).count("\n") == 3


@pytest.mark.skipif(not TOKENIZERS.is_dir(), reason="the published tokenizers are not here")
def test_mt5_fills_a_sentinel_with_one_of_the_names(tasks, tmp_path, monkeypatch, capsys):
    files = sorted((TOKENIZERS / "mt5_cn").glob("sentencepiece_cn*"))
    checkpoint(tmp_path, files, vocab_size=32598, model="mt5.1.1")
    run(monkeypatch, "basic_text_generation_t5", "--checkpoint", tmp_path)
    sentinel = load_tokenizer(tmp_path).token_to_id("▁<extra_id_0>")
    for task in tasks:
        assert all(np.count_nonzero(np.equal(row, sentinel)) == 1 for row in task.prompts)
    *_, last = capsys.readouterr().out.split("法国的首都是 <extra_id_0>")
    written = {line.split("<extra_id_0>")[1].strip() for line in last.splitlines()[1:]}
    assert written == {"巴黎", "伦敦", "东京", "罗马"}
