"""Conversations as the text that a model was trained on: messages, and the templates of files.

| file | what is read |
|---|---|
| `chat_template.jinja` | the template |
| `additional_chat_templates/*.jinja` | templates of other names, such as `tool_use` |
| `tokenizer_config.json` | `chat_template`: a template, or a list; not if there is a file |
"""

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from os.path import lexists
from typing import Any

from ..arguments import checks_flags
from ..parsing import listed, nearest, read_bytes, shown

__all__ = [
    "ChatMethods",
    "FileTemplate",
    "read_chat_templates",
    "where_of",
    "written_chat_templates",
]

DEFAULT, TOOL_USE = "default", "tool_use"  # names of templates
DEEPEST = 50  # lists and objects within each other in a message
MOST_TEMPLATES = 100  # of a checkpoint
ROLES = ("system", "user", "assistant", "tool", "developer", "function", "observation", "ipython")
# names under which the reasoning of an answer is given; templates read the first, or the second
REASONING = ("reasoning_content", "thinking", "reasoning")
KEYS = ("role", "content", "tool_calls", "tool_call_id", "name", *REASONING)


class FileTemplate(str):
    """A template of a file; `where` names it in messages."""

    where = "chat_template"

    @classmethod
    def of(cls, text, where):
        template = cls(text)
        template.where = where
        return template


class ChatMethods:
    """The methods of tokenizers for conversations.

    Attributes:
        chat_templates, chat_tokens: see `TokenizerBase`.
    """

    chat_templates: Mapping[str, str] = {}
    chat_tokens: Mapping[str, str] = {}

    @cached_property
    def _markup_tokenizer(self):
        """A tokenizer that matches all special and added tokens in a text."""
        other = copy.copy(self)
        other._read_in_text = set(self._markup)
        other._set_finders(self._markup)
        return other

    def encode_markup(self, text: str) -> list[int]:
        """Returns the ids of a text in which special tokens are written, such as a conversation.

        Args:
            text: a text, as `apply_chat_template` returns it.

        Returns:
            A list of ids. All special and added tokens in the text are matched; none are put
            around it.

        Raises:
            TypeError: `text` is not a string.

        Example:
            >>> tokenizer.encode_markup("<|im_start|>user\\n你好<|im_end|>\\n")
        """
        if not isinstance(text, str):
            raise TypeError(f"encode_markup: expected a string, got {type(text).__name__}.")
        return list(self._markup_tokenizer._encode(text))

    @checks_flags
    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **variables: Any,
    ) -> str:
        """Returns a conversation as the text that the model was trained on, by its chat template.

        The texts are those of transformers. `encode_markup` returns their ids. What looks like a
        special token in a message becomes one, too, as in transformers: remove it from messages of
        people you do not trust.

        Args:
            messages: list of dicts with a `role` (`"system"`, `"user"`, `"assistant"`, `"tool"`, or
                another one that the template names) and a `content`: a text, or a list of dicts if
                the template reads such lists. An answer may have `tool_calls` and
                `reasoning_content`. Keys whose value is None are left out.
            add_generation_prompt: whether the text ends with the beginning of an answer, to
                generate it. Default False.
            tools: list of JSON schemas of functions that the model may call. Default None.
            **variables: of the template, such as `enable_thinking=False` for Qwen3.

        Returns:
            A string.

        Raises:
            ImportError: jinja2 is not installed.
            TypeError: a message has another type.
            ValueError: there is no template, no message, a role or content is invalid, or the
                template rejects the messages, is invalid or takes too much time or memory.

        Example:
            >>> messages = [{"role": "user", "content": "你好"}]
            >>> tokenizer.apply_chat_template(messages, add_generation_prompt=True)
            '<|im_start|>user\\n你好<|im_end|>\\n<|im_start|>assistant\\n'
        """
        template = chat_template_of(self.chat_templates, tools)
        variables = {**self.chat_tokens, **variables}
        variables["add_generation_prompt"] = add_generation_prompt
        return chat_text(template, messages, tools, variables)


def read_chat_templates(folder, path, value):
    """Returns the chat templates of a checkpoint, a dict name -> template; empty if it has none.

    Args:
        folder: the `Path` of the directory.
        path: the `Path` of `tokenizer_config.json`.
        value: its `chat_template`, or None.

    Raises:
        ValueError: a file is invalid.
    """
    files = {DEFAULT: folder / "chat_template.jinja"}
    for file in sorted((folder / "additional_chat_templates").glob("*.jinja"))[:MOST_TEMPLATES]:
        files[file.name.removesuffix(".jinja")] = file
    files = {name: file for name, file in files.items() if lexists(file)}
    if files:  # as in transformers, they replace those of `tokenizer_config.json`
        return {name: FileTemplate.of(_read_text(file), str(file)) for name, file in files.items()}
    if value is None:
        return {}
    items = [{"name": DEFAULT, "template": value}] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(
        isinstance(item, dict)
        and isinstance(item.get("name"), str)
        and isinstance(item.get("template"), str)
        for item in items
    ):
        raise ValueError(
            f"{path}: chat_template is {shown(value)}; expected a text, or a list of objects with a"
            " name and a template."
        )
    return {
        item["name"]: FileTemplate.of(item["template"], f"{path}: chat_template")
        for item in items[:MOST_TEMPLATES]
    }


def written_chat_templates(templates):
    """Returns the value of `chat_template` in `tokenizer_config.json`."""
    if templates.keys() == {DEFAULT}:
        return templates[DEFAULT]
    return [{"name": name, "template": text} for name, text in templates.items()]


def _read_text(path):
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected text in UTF-8, got {error.reason} at byte {error.start}."
        ) from None


def chat_template_of(templates, tools):
    """Returns the template of a tokenizer for a conversation: `tool_use` if there are tools.

    Args:
        templates: dict name -> template.
        tools: a list, or None.

    Raises:
        ValueError: there is no such template.
    """
    name = TOOL_USE if tools is not None and TOOL_USE in templates else DEFAULT
    if name not in templates:
        raise ValueError(
            "chat_template: the checkpoint has none: the model is not one for conversations;"
            f" expected {DEFAULT!r}, got {listed(list(templates)) or 'none'}. Load a model that was"
            " trained for them, or set chat_templates of the tokenizer."
        )
    return templates[name]


def chat_text(template, messages, tools, variables):
    """Returns the text of a conversation; see `TokenizerBase.apply_chat_template`."""
    messages = checked_messages(messages, template)
    if tools is not None and not (
        isinstance(tools, list | tuple) and all(isinstance(tool, dict) for tool in tools)
    ):
        raise TypeError(f"tools: expected a list of dicts, their JSON schemas, got {shown(tools)}.")
    given = {name: plain(name, value) for name, value in variables.items()}
    try:
        from .templates import RejectedError, render
    except ImportError as error:
        raise ImportError(
            f"apply_chat_template: it needs jinja2 ({error}). Run: pip install"
            " 'bert4keras_lite[chat]'."
        ) from None
    values = {"documents": None, **given, "messages": messages, "tools": plain("tools", tools)}
    try:
        return render(template, values)
    except RejectedError as error:
        raise ValueError(
            f"messages: the chat template rejects them: {str(error)[:300].removesuffix('.')}."
        ) from None
    except ValueError as error:
        raise ValueError(
            f"{where_of(template)}: {str(error).removesuffix('.')}; expected a template that can"
            " render these messages. Check the messages, or get the file again."
        ) from None


def where_of(template):
    """Returns the name of a template in messages: that of its file, if it is from one."""
    return getattr(template, "where", FileTemplate.where)


def plain(where, value, depth=0):
    """Returns a copy of JSON-like data; other values would give a template access to their methods.

    Raises:
        TypeError: there is another value, or a key that is not a string.
        ValueError: lists and objects are nested too deeply.
    """
    if depth > DEEPEST:
        raise ValueError(f"{where:.200}: expected lists and dicts at most {DEEPEST} deep.")
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, list | tuple):
        return [plain(f"{where}[{i}]", item, depth + 1) for i, item in enumerate(value)]
    if isinstance(value, dict) and all(type(key) is str for key in value):
        return {key: plain(f"{where}.{key:.50}", x, depth + 1) for key, x in value.items()}
    raise TypeError(
        f"{where:.200}: expected text, numbers, lists, or dicts with strings as keys, got"
        f" {type(value).__name__} {shown(value)}."
    )


def checked_messages(messages, template):
    """Returns the messages of a conversation in the form that a template gets.

    Args:
        messages: a list of dicts; see `TokenizerBase.apply_chat_template`.
        template: the template; the roles that it names are allowed.

    Raises:
        TypeError: the messages are not a list of dicts, or a value has another type.
        ValueError: there is no message, or one has no content or another role.
    """
    if not isinstance(messages, list | tuple):
        raise TypeError(f"messages: expected a list of dicts, got {shown(messages)}.")
    if not messages:
        raise ValueError("messages: expected at least one message, got none.")
    result = []
    for i, message in enumerate(messages):
        where = f"messages[{i}]"
        if not isinstance(message, dict):
            raise TypeError(
                f"{where}: expected a dict such as {{'role': 'user', 'content': '你好'}}, got"
                f" {shown(message)}."
            )
        # as in transformers: a key with None is an absent key
        message = {k: v for k, v in plain(where, message).items() if v is not None}
        _check_role(where, message.get("role"), template)
        _check_content(where, message)
        reasoning = next((message[key] for key in REASONING if key in message), None)
        if reasoning is not None:
            message = {"thinking": reasoning, **message, "reasoning_content": reasoning}
        result.append(message)
    return result


def _check_role(where, role, template):
    if not isinstance(role, str) or not (
        role in ROLES or f"'{role}'" in template or f'"{role}"' in template
    ):
        near = nearest(role, ROLES) if isinstance(role, str) else []
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"{where}: the role is {shown(role)}; expected one of {', '.join(ROLES)}, or one that"
            f" the chat template names.{hint}"
        )


def _check_content(where, message):
    content, calls = message.get("content"), message.get("tool_calls")
    if content is None and not calls:
        misspelt = [
            (key, near) for key in message for near in nearest(key, KEYS) if key not in KEYS
        ]
        hint = f" Did you mean {misspelt[0][1]!r} by {misspelt[0][0]!r:.50}?" if misspelt else ""
        raise ValueError(
            f"{where}: there is no content; expected the keys role and content, got"
            f" {listed(list(message))}.{hint}"
        )
    if not isinstance(content, str | list | None) or (
        isinstance(content, list) and not all(isinstance(part, dict) for part in content)
    ):
        raise TypeError(
            f"{where}.content: expected a text, or a list of dicts such as {{'type': 'text',"
            f" 'text': '你好'}}, got {shown(content)}."
        )
    if calls is not None and not (
        isinstance(calls, list) and all(isinstance(call, dict) for call in calls)
    ):
        raise TypeError(f"{where}.tool_calls: expected a list of dicts, got {shown(calls)}.")
