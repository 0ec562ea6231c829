"""The examples that generate text: with a checkpoint, and without one, with a small model."""

import importlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bert4keras_lite import build_transformer_model, load_tokenizer

ROOT = Path(__file__).resolve().parents[2]
generate_module = importlib.import_module("bert4keras_lite.generation.generate")
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
}


@pytest.fixture
def tasks(monkeypatch):
    """Every task that is run, cut to five tokens; `generated` has its results, prompt by prompt."""
    seen = []
    init, results = (
        generate_module.GenerationRequest.__init__,
        generate_module.GenerationRequest.results,
    )

    def short(self, model, inputs, max_new_tokens=None, **options):
        init(self, model, inputs, 5, **{**options, "min_new_tokens": 0})
        seen.append(self)

    def noted(self, state):
        generated = results(self, state)
        self.generated = [generated] if self.single else generated
        return generated

    monkeypatch.setattr(generate_module.GenerationRequest, "__init__", short)
    monkeypatch.setattr(generate_module.GenerationRequest, "results", noted)
    return seen


def published(directory, files, **options):
    """Gives a directory with a small random model and the files of a published tokenizer."""
    transformer = build_transformer_model(return_keras_model=False, **SMALL, **options)
    transformer.save_checkpoint(directory, format="tf")
    for file in files:
        shutil.copy(file, directory / file.name)
    return directory


def expected_lines(name, tasks, texts, tokenizer):
    """Yields the lines that a script should print of its texts and of what was generated."""
    for task in tasks:
        for sequences in task.generated:
            for i, sequence in enumerate(sequences):
                sequences[i] = replace(sequence, text=tokenizer.decode(sequence.ids))
    if name == "basic_language_model_gpt2_ml":
        for text, sequences in zip(texts, tasks[0].generated, strict=True):
            yield text
            for x in sequences:
                yield f"  {x.score:7.1f}  …{x.text}{'。' if x.finished else ''}"
    elif name == "basic_language_model_cpm_lm":
        for text, task in zip(texts, tasks, strict=True):
            yield from (text + task.generated[0][0].text, "")
    elif name == "basic_language_model_nezha_gen_gpt":
        for text, greedy, beams in zip(texts, tasks[::2], tasks[1::2], strict=True):
            yield from (text, f"  greedy  …{greedy.generated[0][0].text}")
            yield from (f"  beams   …{x.text}" for x in beams.generated[0])
    else:
        texts = [*texts, f"{texts[1]} (巴黎、伦敦、东京、罗马)"]
        generated = [sequences for task in tasks for sequences in task.generated]
        for text, sequences in zip(texts, generated, strict=True):
            yield text
            yield from (f"  {x.score:6.2f}  {x.text}" for x in sequences)


@pytest.mark.parametrize("name", FAMILIES)
def test_without_a_checkpoint(name, quick, tasks, tmp_path, capsys):
    checkpoint = "tiny-zh-gpt2"
    if FAMILIES[name] == "t5.1.1":  # the toolkit comes with none
        checkpoint = tmp_path / "t5"
        t5 = build_transformer_model(
            model="t5.1.1", vocab_size=2621, return_keras_model=False, **SMALL
        )
        t5.save_checkpoint(checkpoint, format="tf", vocab=load_tokenizer(EXAMPLES / "data"))
        quick.patch.setattr("small_t5.small_t5", lambda: checkpoint)
    example = quick(name)
    assert tasks
    shown = capsys.readouterr().out
    tokenizer, texts = load_tokenizer(checkpoint), example["texts"]
    assert shown.splitlines() == list(expected_lines(name, tasks, texts, tokenizer))
    for task in tasks:
        for prompt in task.prompts:
            assert len(prompt) > 1 and tokenizer.decode(prompt)[:2] in shown
    if FAMILIES[name] == "t5.1.1":
        names = {tokenizer.decode(sequence.ids) for sequence in tasks[-1].generated[0]}
        assert names == {"巴黎", "伦敦", "东京", "罗马"}


def test_gibbs_sampling(quick, checkpoint, capsys):
    text = "今天天气很好。"
    directory = checkpoint(with_mlm="linear", hidden_size=16, intermediate_size=32)
    quick("basic_gibbs_sampling_via_mlm", checkpoint=directory, text=text)
    rounds, halves = capsys.readouterr().out.split("other second halves\n")
    assert text in rounds and rounds.count("round ") == 5
    assert [line.strip()[:3] for line in halves.splitlines()] == [text[:3]] * 4
    assert "[" not in rounds.replace(text, "")


def test_gpt2_ml_is_prompted_with_bare_text(quick, checkpoint, tasks):
    directory = checkpoint("gpt2_ml", **SMALL)
    quick("basic_language_model_gpt2_ml", checkpoint=directory, text="今天天气")
    tokenizer = load_tokenizer(directory)
    assert tokenizer.decode(tasks[0].prompts[0]) == "今天天气"
    assert len(tasks[0].prompts[0]) == 4  # neither [CLS] nor [SEP]
    assert tasks[0].stop_ids == [tokenizer.token_to_id("。")]


def test_nezha_gen_is_a_bert_without_segments(quick, checkpoint, tasks):
    directory = checkpoint(application="lm", segment_vocab_size=0, **SMALL)
    quick("basic_language_model_nezha_gen_gpt", checkpoint=directory, text="北京")
    assert {task.config.family for task in tasks} == {"bert"}
    assert not any(task.config.has_segments for task in tasks)


@pytest.mark.skipif(not TOKENIZERS.is_dir(), reason="the published tokenizers are not here")
def test_cpm_ends_an_answer_with_its_line(quick, tasks, tmp_path):
    pytest.importorskip("jieba")
    model = TOKENIZERS / "cpm" / "chinese_vocab.model"
    published(tmp_path, [model], vocab_size=30000, model="gpt2")
    quick("basic_language_model_cpm_lm", checkpoint=tmp_path)
    assert tasks[0].stop_ids == [3]
    assert load_tokenizer(tmp_path).decode(tasks[0].prompts[0]).count("\n") == 3


@pytest.mark.skipif(not TOKENIZERS.is_dir(), reason="the published tokenizers are not here")
def test_mt5_fills_a_sentinel_with_one_of_the_names(quick, tasks, tmp_path, capsys):
    files = sorted((TOKENIZERS / "mt5_cn").glob("sentencepiece_cn*"))
    published(tmp_path, files, vocab_size=32598, model="mt5.1.1")
    quick("basic_text_generation_t5", checkpoint=tmp_path)
    sentinel = load_tokenizer(tmp_path).token_to_id("▁<extra_id_0>")
    for task in tasks:
        assert all(np.count_nonzero(np.equal(row, sentinel)) == 1 for row in task.prompts)
    *_, last = capsys.readouterr().out.split("法国的首都是 <extra_id_0>")
    written = {line.split("<extra_id_0>")[1].strip() for line in last.splitlines()[1:]}
    assert written == {"巴黎", "伦敦", "东京", "罗马"}
