"""The example that fine-tunes a chat model: with a chat template, and without one."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from running import outputs_of

from bert4keras_lite import build_transformer_model, load_tokenizer

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position": 128,
}
TEMPLATE = (
    "{% for message in messages %}[CLS]{{ message.role }}:{{ message.content }}[SEP]{% endfor %}"
    "{% if add_generation_prompt %}[CLS]assistant:{% endif %}"
)
ROW = {"instruction": "8加9等于多少？", "output": "17"}


@pytest.fixture
def chat_model(tmp_path):
    """The directory of a small Qwen3 with a chat template, whose tokens are characters."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "user", "assistant", "：", ":", "？"]
    tokens += [*"0123456789加等于多少", *(f"##{digit}" for digit in range(10))]
    folder = tmp_path / "chat"
    transformer = build_transformer_model(
        model="qwen3", vocab_size=len(tokens), return_keras_model=False, **SIZES
    )
    transformer.save_checkpoint(folder, "hf")
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


@pytest.fixture
def sums(tmp_path):
    """A directory with a sum in each split."""
    folder = tmp_path / "sums"
    folder.mkdir()
    for name in ("train", "valid", "test"):
        (folder / f"{name}.json").write_text(json.dumps(ROW) + "\n", encoding="utf-8")
    return folder


def test_chat_lora_quickly(quick, chat_model, sums, replace, capsys, tmp_path):
    pytest.importorskip("jinja2")
    options = {"rank": 8, "epochs": 6, "learning_rate": 3e-2, "max_new_tokens": 4}
    example = quick("task_chat_lora", checkpoint=chat_model, data=sums, **options)
    shown = capsys.readouterr().out
    assert "7 layers with products" in shown
    assert "test: perplexity of answers " in shown and "\n  right: 17\n" in shown

    tokenizer, pair = example["tokenizer"], (ROW["instruction"], ROW["output"])
    ids, begin = example["encode"](pair)
    text = "[CLS]user:8加9等于多少？[SEP][CLS]assistant:17[SEP]"
    assert ids == tokenizer.encode_markup(text)
    assert ids[begin:] == [*tokenizer.encode_markup("17"), tokenizer.token_end_id]
    rows, labels = example["collate"]([example["encode"](pair)], len(ids) + 2)
    assert rows.shape == (1, len(ids) + 2)
    assert labels[labels >= 0].tolist() == ids[begin:]
    assert np.flatnonzero(labels[0] >= 0).tolist() == [*range(begin - 1, len(ids) - 1)]

    merged = load_and_compare(tmp_path / "output" / "chat", example, np.array([ids]))
    assert not any("lora" in variable.path for variable in merged.variables)

    logits = np.zeros((1, len(ids), tokenizer.vocab_size), "float32")
    uniform = SimpleNamespace(predict_on_batch=lambda inputs: logits[:, : inputs[0].shape[1]])
    perplexity = replace(example["perplexity"], model=uniform)
    assert math.isclose(perplexity([pair]), tokenizer.vocab_size, rel_tol=1e-5)
    score = replace(example["score"], answers=lambda pairs: ["17"], perplexity=lambda pairs: 1.0)
    assert score("known") == ["17"]
    assert "known: perplexity of answers 1.000, exact answers 1.000" in capsys.readouterr().out


def load_and_compare(folder, example, ids):
    """Loads the saved model, and asserts that it computes what the merged one does."""
    model = build_transformer_model(folder, with_lm="linear")
    (found,), (expected,) = (outputs_of(m, [ids]) for m in (model, example["model"]))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert load_tokenizer(folder).chat_templates == example["tokenizer"].chat_templates
    return model


@pytest.mark.long
def test_chat_lora(run, rows, capsys):
    """The included model learns the instructions of one kind that has few answers."""
    example = run("task_chat_lora", data=rows("instructions", 320, 40), epochs=4, scored=40)
    shown = capsys.readouterr().out
    before, after = (
        float(line.split("answers ")[1].split(",")[0])
        for line in shown.splitlines()
        if "perplexity" in line
    )
    assert before > 100 and after < 12, shown
    assert len(example["paths"]) == 24
