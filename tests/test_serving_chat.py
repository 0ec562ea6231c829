"""The endpoint for conversations, and its limits."""

import pytest
from running import operation_by_operation, write_chat_model

from bert4keras_lite import build_transformer_model, chat, load_tokenizer
from bert4keras_lite.applications.serving import Limits, load
from bert4keras_lite.tokenizers.chat import FileTemplate

pytest.importorskip("jinja2", "3.1.6")
TestClient = pytest.importorskip("fastapi.testclient").TestClient
create_app = pytest.importorskip("bert4keras_lite.applications.serving.app").create_app

pytestmark = pytest.mark.filterwarnings("ignore:.*looks never trained:UserWarning")
HELLO = [{"role": "user", "content": "今天天气真好"}]
LIMITS = Limits(new_tokens=32, messages=3, characters=100, tokens=90)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen3")
    write_chat_model(folder)
    return folder


@pytest.fixture(scope="module")
def served(folder):
    return load(folder, new_tokens=32)


@pytest.fixture
def client(served, monkeypatch):
    operation_by_operation(monkeypatch)
    app = create_app(served, LIMITS, warm_up=False)
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def test_answers_are_those_of_chat(client, folder):
    model = build_transformer_model(folder, with_lm="linear")
    messages = [{"role": "system", "content": "foo"}, *HELLO]
    expected = chat(model, load_tokenizer(folder), messages, 12)
    body = {"messages": messages, "max_new_tokens": 12}
    answer = client.post("/v1/chat", json=body).json()
    assert answer["text"] == expected and answer["reason"] in ("length", "stop")
    streamed = client.post("/v1/chat", json={**body, "stream": True})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert "event: piece" in streamed.text and streamed.text.count("event: end") == 1
    sampled = {**body, "sample": True, "temperature": 5.0, "seed": 1}
    assert client.post("/v1/chat", json=sampled).json()["text"] != expected


def test_a_model_with_a_template_has_the_ability(client):
    description = client.get("/v1/model").json()
    assert "chat" in description["abilities"] and description["limits"]["messages"] == 3
    with TestClient(
        create_app(load("tiny-zh-gpt2"), warm_up=False), base_url="http://localhost"
    ) as c:
        assert "not one for conversations" in c.get("/v1/model").json()["cannot"]["chat"]
        assert c.post("/v1/chat", json={"messages": HELLO}).status_code == 404


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({}, "messages", "Field required"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": "hello"}, "messages", "valid list"),
        ({"messages": ["hello"]}, "messages[0]", "valid dictionary"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "Field required"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role", "'system', 'user'"),
        ({"messages": [{**HELLO[0], "name": "a"}]}, "messages[0].name", "Extra inputs"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content", "valid string"),
        ({"messages": HELLO * 4}, "messages", "4 messages; at most 3 are read"),
        (
            {"messages": [*HELLO, {"role": "user", "content": "天" * 101}]},
            "messages[1].content",
            "101 characters; at most 100 are read",
        ),
        (
            {"messages": [{"role": "user", "content": "天" * 90}] * 2},
            "messages",
            "tokens; at most 90 are read",
        ),
        ({"messages": HELLO, "variables": {"a": [1]}}, None, "variables"),
        *(
            ({"messages": HELLO, "variables": {name: True}}, None, f"'{name}' is an argument")
            for name in ("self", "messages", "tools", "add_generation_prompt")
        ),
        ({"messages": HELLO, "variables": {"a": "b" * 101}}, "variables", "characters; at most"),
        ({"messages": HELLO, "max_new_tokens": 33}, "max_new_tokens", "33; at most 32"),
        ({"messages": HELLO, "top_k": 3}, "top_k", "expected none without sample"),
        ({"messages": HELLO, "min_new_tokens": 33}, "min_new_tokens", "33; expected at most 32"),
        ({"messages": HELLO, "bad_words": ["a", " "]}, "bad_words", "expected texts, got ' '"),
        ({"messages": HELLO, "bad_words": ["a" * 101]}, "bad_words[0]", "101 characters"),
        ({"messages": HELLO, "bad_words": ["a"] * 17}, "bad_words", "at most 16"),
        (
            {"messages": HELLO, "bad_words": ["天地" * 20]},
            "bad_words",
            "tokens; expected at most 32",
        ),
    ],
)
def test_wrong_requests(client, body, field, said):
    response = client.post("/v1/chat", json=body)
    error = response.json()["error"]
    assert response.status_code == 422 and said in f"{error['field']} {error['message']}"
    assert field is None or error["field"] == field


def test_half_characters(client):
    content = '{"messages": [{"role": "user", "content": "\\ud800"}]}'
    headers = {"Content-Type": "application/json"}
    response = client.post("/v1/chat", content=content, headers=headers)
    assert response.status_code == 422 and "surrogate" in response.json()["error"]["message"]


def test_words_and_ends_that_are_not_generated(client, folder):
    model = build_transformer_model(folder, with_lm="linear")
    tokenizer = load_tokenizer(folder)
    options = {"min_new_tokens": 12, "bad_words": ["foo", "天"]}
    expected = chat(model, tokenizer, HELLO, 12, **options)
    body = {"messages": HELLO, "max_new_tokens": 12}
    answer = client.post("/v1/chat", json=body | options).json()
    assert (answer["text"], answer["tokens"]) == (expected, 12)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (FileTemplate.of("{{ 1 / 0 }}", "/secret/x.jinja"), "chat_template: ZeroDivisionError"),
        ("{{ raise_exception('no') }}", "the chat template rejects them: no"),
        (
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            "more t",
        ),
        ("", "no text of them"),
    ],
)
def test_templates_that_fail(client, served, monkeypatch, template, said):
    monkeypatch.setattr(served.tokenizer, "chat_templates", {"default": template})
    response = client.post("/v1/chat", json={"messages": HELLO})
    error = response.json()["error"]
    assert response.status_code == 422 and error["field"] == "messages" and said in error["message"]
    assert "secret" not in response.text
