"""Answers to conversations, with and without the keys and values of what was seen before."""

import keras
import numpy as np
import pytest
from goldens.make_chat import write
from running import long_but, operation_by_operation

from bert4keras_lite import build_transformer_model, chat, load_tokenizer
from bert4keras_lite.generation.request import STEP
from bert4keras_lite.pipelines.chat import ChatSession

pytest.importorskip("jinja2", "3.1.6")

HELLO = [{"role": "user", "content": "今天天气真好"}]
SIZES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position": 512,
    "with_lm": "linear",
    "return_keras_model": False,
}
# families with positions, queries, caches and attention masks of each kind
FAMILIES = {
    "qwen3": {"attention_head_size": 8},
    "mistral": {"layer_kinds": ("sliding",), "window": 20},
    "gpt2": {"num_key_value_heads": None},
}


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch, request):
    # JAX compiles faster than it runs single operations
    if "compiled" not in request.node.name and keras.backend.backend() != "jax":
        operation_by_operation(monkeypatch)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen")
    write(folder, "chatml")
    return load_tokenizer(folder)


def build(family, tokenizer):
    keras.utils.set_random_seed(7)
    options = {k: v for k, v in (SIZES | FAMILIES[family]).items() if v is not None}
    transformer = build_transformer_model(model=family, vocab_size=tokenizer.vocab_size, **options)
    for weight in transformer.model.trainable_variables:
        if len(weight.shape) > 1:  # sharp enough for texts without repetitions
            weight.assign(np.random.normal(0, 0.3, weight.shape))
    return transformer


@pytest.fixture(scope="module")
def model(tokenizer):
    return build("qwen3", tokenizer)


@pytest.mark.parametrize("family", long_but(["qwen3"], FAMILIES))
def test_a_session_answers_like_chat(family, tokenizer):
    transformer = build(family, tokenizer)
    session = ChatSession(transformer, tokenizer, 6)
    system = [{"role": "system", "content": "foo bar " * 20}]
    texts = []
    for content in ("今天天气", "hello", "真好 " * 30):
        messages = [*(session.messages or system), {"role": "user", "content": content}]
        texts.append(session.answer(messages))
        assert texts[-1] == chat(transformer, tokenizer, messages, 6)
        assert session.messages == [*messages, {"role": "assistant", "content": texts[-1]}]
        reused, old = session.reused, session.past.ids
    assert reused >= STEP and len(set(texts)) == 3
    # the keys and values are those of a pass over all tokens
    other = ChatSession(transformer, tokenizer, 6)
    other.answer(messages)
    np.testing.assert_array_equal(other.past.ids, old)
    for pair, expected in zip(session.past.caches, other.past.caches, strict=True):
        for ours, theirs in zip(pair, expected, strict=True):
            assert ours.shape == theirs.shape and ours.shape[-1] == len(old)
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.long
def test_a_compiled_session(model, tokenizer):
    session = ChatSession(model, tokenizer, 5)
    for content in ("hello foo " * 20, "真好", "bar"):
        messages = [*session.messages, {"role": "user", "content": content}]
        assert session.answer(messages) == chat(model, tokenizer, messages, 5)
    assert session.reused >= STEP


@pytest.mark.long
def test_sessions_of_other_conversations(model, tokenizer):
    session = ChatSession(model, tokenizer, 8)
    long = [{"role": "user", "content": "hello foo " * 30}]
    session.answer(long)
    assert session.answer(HELLO) == chat(model, tokenizer, HELLO, 8)  # nothing in common
    assert session.reused == 0
    session.answer(long)
    assert session.answer(long) == chat(model, tokenizer, long, 8)  # everything in common
    assert session.reused >= STEP
    shorter = [{"role": "user", "content": "hello foo " * 25}]
    assert session.answer(shorter) == chat(model, tokenizer, shorter, 8)


def test_streams_and_samples(model, tokenizer):
    options = {"do_sample": True, "seed": 3, "top_p": 0.9, "temperature": 2.0}
    whole = chat(model, tokenizer, HELLO, 20, **options)
    pieces = list(chat(model, tokenizer, HELLO, 20, stream=True, **options))
    assert "".join(pieces) == whole and len(pieces) > 3
    assert not any(piece.endswith("\ufffd") for piece in pieces[:-1])
    session = ChatSession(model, tokenizer, 20, **options)
    stream = session.ask("今天天气真好", stream=True)
    next(stream)
    assert session.messages == []  # until it ends
    list(stream)
    assert session.messages == [*HELLO, {"role": "assistant", "content": whole}]


def test_stop_ids(model, tokenizer):
    whole = chat(model, tokenizer, HELLO, 12)
    prompt = tokenizer.encode_markup(tokenizer.apply_chat_template(HELLO, True))
    session = ChatSession(model, tokenizer, 12)
    session.answer(HELLO)
    answer = session.past.ids[len(prompt) :]
    for stop in ({"stop_ids": int(answer[4])}, {}):
        first = answer.tolist().index(answer[4])
        if not stop:  # the token that the files name ends an answer, too
            tokenizer.chat_tokens = {"eos_token": tokenizer.id_to_token(int(answer[4]))}
        text = chat(model, tokenizer, HELLO, 12, **stop)
        assert text == tokenizer.decode(answer[:first]) and whole.startswith(text) and text != whole
    tokenizer.chat_tokens = {}


def test_variables_and_tools(model, tokenizer, monkeypatch):
    template = "{{ tools | tojson }}{{ mood }}{{ messages[0].content }}"
    monkeypatch.setattr(tokenizer, "chat_templates", {"default": template})
    tools = [{"type": "function", "function": {"name": "f"}}]
    session = ChatSession(model, tokenizer, 3, tools=tools, variables={"mood": "kind"})
    session.ask("a")
    text = tokenizer.decode(session.past.ids)
    assert text.startswith('[{"type": "function", "function": {"name": "f"}}]kinda')


def test_errors(model, tokenizer, monkeypatch):
    with pytest.raises(ValueError, match=r"messages: \d+ tokens, and 500 new ones; expected at mo"):
        chat(model, tokenizer, HELLO, 500)
    with pytest.raises(ValueError, match=r"messages: \d+ tokens.*Leave out the first messages\."):
        chat(model, tokenizer, [{"role": "user", "content": "hello " * 600}])
    with pytest.raises(TypeError, match="chat has no option 'max_length'; did you mean 'max_new"):
        chat(model, tokenizer, HELLO, max_length=3)
    with pytest.raises(ValueError, match="chat: it supports one sequence without beam search"):
        chat(model, tokenizer, HELLO, 3, num_beams=2)
    with pytest.raises(ValueError, match="max_new_tokens=0: expected a whole number"):
        chat(model, tokenizer, HELLO, 0)
    with pytest.raises(ValueError, match="stream='yes': expected True or False"):
        chat(model, tokenizer, HELLO, 3, stream="yes")
    with pytest.raises(TypeError, match="messages: expected a list of dicts"):
        chat(model, tokenizer, "hello")
    with pytest.raises(ValueError, match="temperature=0: expected a number"):
        chat(model, tokenizer, HELLO, 3, stream=True, temperature=0)  # before the first piece
    session = ChatSession(model, tokenizer, 3)
    with pytest.raises(TypeError, match="content: expected a text"):
        session.ask(3)
    assert session.messages == []
    encoder = build_transformer_model("tiny-zh", with_lm=True, return_keras_model=False)
    with pytest.raises(ValueError, match="a bidirectional encoder cannot generate text"):
        chat(encoder, tokenizer, HELLO)
    monkeypatch.setattr(tokenizer, "chat_templates", {})
    with pytest.raises(ValueError, match="the checkpoint has none"):
        chat(model, tokenizer, HELLO)
