"""Chat templates: the texts and ids of transformers, checks of messages, and hostile templates."""

import json
import os
import re
import resource
from time import process_time

import pytest
from goldens.chat_templates import CASES, CHATML, WEATHER
from goldens.make_chat import GOLDEN, asked, write

from bert4keras_lite import load_tokenizer
from bert4keras_lite.tokenizers.settings import read_json

pytest.importorskip("jinja2", "3.1.6")
pytestmark = pytest.mark.once

FROZEN = json.loads(GOLDEN.read_text("utf-8"))
HELLO = [{"role": "user", "content": "你好"}]


@pytest.fixture
def tokenizer(tmp_path):
    write(tmp_path, "chatml")
    return load_tokenizer(tmp_path)


def with_template(tokenizer, template):
    tokenizer.chat_templates = {"default": template}
    return tokenizer


@pytest.mark.parametrize("name", CASES)
def test_texts_and_ids_are_those_of_transformers(name, tmp_path):
    write(tmp_path, name)
    tokenizer = load_tokenizer(tmp_path)
    assert len(FROZEN[name]) == 28 and any(FROZEN[name].values())
    for key, messages, options in asked():
        if FROZEN[name][key] is None:
            with pytest.raises(ValueError, match=r"^(.*chat_template(\.jinja)?|messages): .*\.$"):
                tokenizer.apply_chat_template(messages, **options)
            continue
        text, ids = FROZEN[name][key]
        assert tokenizer.apply_chat_template(messages, **options) == text, key
        assert tokenizer.encode_markup(text) == ids, key


def test_special_tokens_of_markup_are_tokens(tokenizer):
    ids = tokenizer.encode_markup("<|endoftext|>a<|im_end|>")
    ends = [tokenizer.token_to_id(token) for token in ("<|endoftext|>", "<|im_end|>")]
    assert [ids[0], ids[-1]] == ends
    assert tokenizer.encode("<|endoftext|>a")[0][0] != ends[0]  # elsewhere it is text
    with pytest.raises(TypeError, match="expected a string, got list"):
        tokenizer.encode_markup(["a"])


@pytest.mark.parametrize("name", ["turns", "named"])
def test_templates_are_saved_and_read_in_each_place(name, tmp_path):
    write(tmp_path, name, as_file=name == "turns")
    tokenizer = load_tokenizer(tmp_path)
    tokenizer.save(tmp_path / "saved")
    saved = load_tokenizer(tmp_path / "saved")
    assert saved.chat_templates == tokenizer.chat_templates
    assert len(saved.chat_templates) == (2 if name == "named" else 1)
    for options in ({}, {"tools": [WEATHER]}):
        text = saved.apply_chat_template(HELLO, **options)
        assert text == tokenizer.apply_chat_template(HELLO, **options)
        assert saved.encode_markup(text) == tokenizer.encode_markup(text)


def test_files_replace_the_templates_of_the_settings(tmp_path):
    write(tmp_path, "named")
    folder = tmp_path / "additional_chat_templates"
    folder.mkdir()
    (folder / "tool_use.jinja").write_text("tools", "utf-8")
    assert load_tokenizer(tmp_path).chat_templates == {"tool_use": "tools"}
    with pytest.raises(ValueError, match="expected 'default', got tool_use"):
        load_tokenizer(tmp_path).apply_chat_template(HELLO)
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"chat_template\.jinja: expected text in UTF-8"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("value", [1, {"default": "a"}, [1], [{"name": "default"}]])
def test_settings_with_another_value(value, tmp_path):
    write(tmp_path, "chatml")
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({**read_json(path), "chat_template": value}), "utf-8")
    with pytest.raises(ValueError, match=r"chat_template is .*; expected a text, or a list"):
        load_tokenizer(tmp_path)


def test_a_checkpoint_without_a_template():
    with pytest.raises(ValueError, match="the checkpoint has none: the model is not one for con"):
        load_tokenizer("tiny-zh-gpt2").apply_chat_template(HELLO)


@pytest.mark.parametrize(
    ("messages", "error", "said"),
    [
        ("你好", TypeError, "messages: expected a list of dicts, got '你好'"),
        (HELLO[0], TypeError, "messages: expected a list of dicts"),
        ([], ValueError, "messages: expected at least one message"),
        (["你好"], TypeError, r"messages\[0\]: expected a dict such as .*, got '你好'"),
        ([*HELLO, {"content": "a"}], ValueError, r"messages\[1\]: the role is None; expected one"),
        ([{"role": "asistant", "content": "a"}], ValueError, "Did you mean 'assistant'"),
        ([{"role": 1, "content": "a"}], ValueError, "the role is 1"),
        ([{"role": "user"}], ValueError, r"messages\[0\]: there is no content"),
        ([{"role": "user", "contents": "a"}], ValueError, "Did you mean 'content' by 'contents'"),
        ([{"role": "user", "content": 1}], TypeError, r"messages\[0\].content: expected a text"),
        ([{"role": "user", "content": ["a"]}], TypeError, "a list of dicts such as"),
        (
            [{"role": "assistant", "tool_calls": ["f"]}],
            TypeError,
            "tool_calls: expected a list of dicts",
        ),
        ([{"role": "user", "content": "a", "x": open}], TypeError, r"messages\[0\].x: expected t"),
        ([{"role": "user", "content": "a", 1: 2}], TypeError, "dicts with strings as keys"),
    ],
)
def test_wrong_messages(messages, error, said, tokenizer):
    with pytest.raises(error, match=said) as raised:
        tokenizer.apply_chat_template(messages)
    assert str(raised.value).endswith((".", "?"))


def test_wrong_arguments(tokenizer):
    for tools in ("f", [1], {"type": "function"}):
        with pytest.raises(TypeError, match="tools: expected a list of dicts"):
            tokenizer.apply_chat_template(HELLO, tools=tools)
    with pytest.raises(ValueError, match="add_generation_prompt='no': expected True or False"):
        tokenizer.apply_chat_template(HELLO, "no")
    with pytest.raises(TypeError, match="date: expected text, numbers"):
        tokenizer.apply_chat_template(HELLO, date=object())
    deep = []
    for _ in range(60):
        deep = [deep]
    with pytest.raises(ValueError, match="at most 50 deep"):
        tokenizer.apply_chat_template(HELLO, x=deep)


def test_roles_that_the_template_names(tokenizer):
    message = [{"role": "critic", "content": "a"}]
    with pytest.raises(ValueError, match="the role is 'critic'"):
        tokenizer.apply_chat_template(message)
    named = with_template(tokenizer, "{% if messages[0].role == 'critic' %}yes{% endif %}")
    assert named.apply_chat_template(message) == "yes"


def test_a_template_that_rejects_messages(tokenizer):
    with_template(tokenizer, "{{ raise_exception('roles must alternate') }}")
    with pytest.raises(ValueError, match=r"^messages: the chat template rejects them: roles must"):
        tokenizer.apply_chat_template(HELLO)


def test_the_time(tokenizer):
    year = with_template(tokenizer, "{{ strftime_now('%Y') }}").apply_chat_template(HELLO)
    assert year.isdecimal() and len(year) == 4


TEN = "{% set n = namespace(s='aaaaaaaaaa', l=[1], m=[1], i=3) %}"
LONG = "{% set s = 'a' * 4000000 %}"
HOSTILE = {
    "loops": "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "long_range": "{% for i in range(10000000000) %}{% endfor %}",
    "text": "{{ 'a' * 1000000000 }}",
    "list": "{% set l = [1] * 1000000000 %}",
    "power": "{{ 10 ** (10 ** 9) }}",
    "powers": "{{ ((10 ** 200) ** 200) }}",
    "integers": TEN + "{% for i in range(100) %}{% set n.i = n.i * n.i %}{% endfor %}",
    "joins": TEN + "{% for i in range(100) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "sums": TEN + "{% for i in range(100) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "blocks": TEN
    + "{% for i in range(100) %}{% set x %}{{ n.s }}{{ n.s }}{% endset %}{% set n.s = x %}"
    + "{% endfor %}",
    "output": "{% for i in range(100000) %}" + "x" * 10000 + "{% endfor %}",
    "constant_output": "{% for i in range(100000) %}{{ '" + "x" * 10000 + "' }}{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
    "{{ f(100) }}",
    "endless_macro": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "own_block": "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    "recursive_loop": "{% for i in [1] recursive %}{{ loop([1, 1]) }}{% endfor %}",
    "shared_lists": TEN
    + "{% for i in range(100) %}{% set n.l = [n.l, n.l] %}{% endfor %}{{ n.l }}",
    "equal_lists": TEN
    + "{% for i in range(60) %}{% set n.l = [n.l, n.l] %}{% set n.m = [n.m, n.m] %}{% endfor %}"
    + "{{ n.l == n.m }}",
    "keys": TEN
    + "{% for i in range(60) %}{% set n.l = (n.l, n.l) %}{% endfor %}{% set d = {n.l: 1} %}",
    "many_texts": TEN
    + "{% set s = 'a' * 100000 %}"
    + "{% for i in range(100000) %}{% set n.l = n.l + [s ~ i] %}{% endfor %}",
    "slices": TEN
    + "{% set l = range(50000) | list %}"
    + "{% for i in range(100000) %}{% set n.l = n.l + [l[1:]] %}{% endfor %}",
    "replace": LONG + "{{ s | replace('', s) }}",
    "replace_method": LONG + "{{ s.replace('a', s) }}",
    "join": LONG + "{{ s | list | join(s) }}",
    "join_method": "{% set s = 'a' * 10000 %}{{ s.join(s) }}",
    "searches": LONG + "{{ 'b' in s }}" * 4000,
    "finds": LONG + "{% for i in range(100000) %}{{ s.find('b') }}{% endfor %}",
    "selected": "{% set l = range(50000) | list %}{{ l | select('in', l[::-1]) | list | length }}",
    "mapped": "{% set l = range(100000) %}"
    "{% for i in l %}{{ l | map('string') | map('list') | list | length }}{% endfor %}",
    "condition": "{% for i in range(100000) if i in range(100000) | list %}{% endfor %}",
    "center": "{{ 'a' | center(1000000000) }}",
    "center_method": "{{ 'a'.center(1000000000) }}",
    "format": "{{ '{:1000000000}'.format(1) }}",
    "format_map": "{{ '{a:1000000000}'.format_map({'a': 1}) }}",
    "format_filter": "{{ '%1000000000d' | format(1) }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "indent": "{{ 'a' | indent(1000000000) }}",
    "json": "{{ [1] | tojson(indent=1000000000) }}",
    "time": "{{ strftime_now('%1000000000Y') }}",
    "words": "{{ lipsum(100000) }}",
    "class": "{{ ''.__class__.__mro__ }}",
    "globals": "{{ raise_exception.__globals__.os }}",
    "private": "{% set n = namespace(_x=1) %}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "changed": "{% set l = [1] %}{% for i in l %}{{ l.append(i) }}{% endfor %}",
    "parentheses": "{{ " + "(" * 20000 + "1" + ")" * 20000 + " }}",
    "conditions": "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    "nested_loops": "{% for i in [1] %}" * 30 + "{% endfor %}" * 30,
    "long_sum": "{{ " + " + ".join(["1"] * 20000) + " }}",
    "long": "x" * 200000,
    "syntax": "{% if %}",
    "unknown": "{{ 1 | unknown }}",
    "undefined": "{{ a.b.c }}",
    "zero": "{{ 1 / 0 }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_templates(name, tokenizer):
    with_template(tokenizer, HOSTILE[name])
    memory, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, process_time()
    with pytest.raises(ValueError, match=r"^chat_template: .*; expected a template that can"):
        tokenizer.apply_chat_template(HELLO)
    assert process_time() - begin < 8
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 300 << 10  # KiB


def test_long_conversations_are_within_the_limits(tokenizer):
    messages = [
        {"role": role, "content": "今天天气真好" * 20}
        for _ in range(500)
        for role in ("user", "assistant")
    ]
    assert len(tokenizer.apply_chat_template(messages)) > 100_000
    with_template(tokenizer, CASES["thinking"][0])
    assert len(tokenizer.apply_chat_template(messages)) > 100_000
    assert tokenizer.apply_chat_template(HELLO, True).endswith("<|im_start|>assistant\n")
    assert CHATML in CASES["named"][0][0]["template"]


@pytest.mark.parametrize("file", ["chat_template.jinja", "tokenizer_config.json: chat_template"])
def test_an_error_of_a_template_names_its_file(file, tmp_path):
    write(tmp_path, "chatml")
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    path = tmp_path / "tokenizer_config.json"
    values = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**values, "chat_template": "{{ 1 / 0 }}"}), "utf-8")
    if file.endswith(".jinja"):
        (tmp_path / file).write_text("{{ 1 / 0 }}", "utf-8")
    tokenizer = load_tokenizer(tmp_path)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / file}: ZeroDivisionError: ")):
        tokenizer.apply_chat_template(HELLO)


def test_a_template_that_is_no_file(tmp_path):
    write(tmp_path, "chatml")
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    os.mkfifo(tmp_path / "chat_template.jinja")
    with pytest.raises(ValueError, match=r"chat_template\.jinja: expected a file, and it is"):
        load_tokenizer(tmp_path)
