"""Conversations: `chat` answers one; `ChatSession` keeps what the model has seen of it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..arguments import check_options, checks_flags
from ..generation.decoding import generating_transformer
from ..generation.generate import OTHER_NAMES, TEXT_OPTIONS, one_sequence, pieces, text_options
from ..generation.past import Past
from ..generation.request import DEFAULT_NEW_TOKENS
from ..tokenizers import TokenizerBase
from .base import UnsupportedTask

if TYPE_CHECKING:
    import keras

    from ..models import Transformer

__all__ = ["ChatSession", "chat", "chat_options", "chat_prompt", "chatting_transformer"]

Messages = Sequence[Mapping[str, Any]]
RESERVED = {"self", "messages", "add_generation_prompt", "tools"}


@checks_flags
def chat(
    model: "keras.Model | Transformer",
    tokenizer: TokenizerBase,
    messages: Messages,
    max_new_tokens: int | None = None,
    stream: bool = False,
    tools: Messages | None = None,
    variables: Mapping[str, Any] | None = None,
    **options: Any,
) -> str | Iterator[str]:
    """Generates the answer to a conversation.

    Args:
        model: a causal language model of `build_transformer_model`, trained for conversations.
        tokenizer: its tokenizer, of `load_tokenizer`, with the chat template.
        messages: list of dicts with `role` and `content`; see
            `TokenizerBase.apply_chat_template`. The last one is usually the user's.
        max_new_tokens: maximum number of new tokens. By default as many as there are positions
            left, at most 512.
        stream: whether to return an iterator of pieces of the text. Default False.
        tools: list of JSON schemas of functions that the model may call. Default None.
        variables: dict of variables of the chat template, such as `{"enable_thinking": False}` for
            Qwen3. Default None.
        **options: see `generate`, for one sequence without beam search. By default the most likely
            tokens are taken, and the answer ends with a stop token of the tokenizer, or with the
            `eos_token` of its files.

    Returns:
        The answer, a string; with `stream`, an iterator of strings, none of which has half a
        character. Reasoning and calls of tools are part of the text, as the model writes them.

    Raises:
        ImportError: jinja2 is not installed.
        TypeError, ValueError: the model is not causal, there is no chat template, a message is
            invalid, the conversation is too long, or an option is invalid; see
            `apply_chat_template` and `generate`.

    Example:
        >>> model = build_transformer_model("Qwen/Qwen3-0.6B", with_lm="linear")
        >>> tokenizer = load_tokenizer("Qwen/Qwen3-0.6B")
        >>> chat(model, tokenizer, [{"role": "user", "content": "你好"}])
    """
    session = ChatSession(
        model, tokenizer, max_new_tokens, tools=tools, variables=variables, **options
    )
    return session.answer(messages, stream)


class ChatSession:
    """A conversation that goes on: the tokens that the model has seen are not computed again.

    The keys and values of the last conversation are kept, on the host; the next prompt takes them
    for the tokens with which both begin. The answers are those of `chat`, up to rounding.

    Args:
        model, tokenizer, max_new_tokens, tools, variables, **options: see `chat`.
        messages: the messages so far, such as a system prompt. Default: none.

    Attributes:
        messages: the messages so far, with the answers.
        reused: number of tokens of the last prompt that were not computed again.

    Raises:
        TypeError, ValueError: see `chat`.

    Example:
        >>> session = ChatSession(model, tokenizer)
        >>> session.ask("你好")
        >>> session.ask("为什么?")
    """

    def __init__(
        self,
        model: "keras.Model | Transformer",
        tokenizer: TokenizerBase,
        max_new_tokens: int | None = None,
        messages: Messages = (),
        *,
        tools: Messages | None = None,
        variables: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        check_options("chat", options, TEXT_OPTIONS, OTHER_NAMES)
        self.transformer = chatting_transformer(model, tokenizer)
        self.tokenizer, self.max_new_tokens = tokenizer, max_new_tokens
        self.messages = list(messages)
        self.tools, self.variables = tools, dict(variables or {})
        self.options = chat_options(self.transformer, tokenizer, options)
        self.past: Past | None = None
        self.reused = 0

    @checks_flags
    def ask(self, content: str, stream: bool = False) -> str | Iterator[str]:
        """Answers a further message of the user; both are then part of `messages`.

        Args:
            content: the message.
            stream: as in `chat`; `messages` then grow when the iterator ends.

        Returns:
            See `chat`.

        Raises:
            TypeError, ValueError: see `chat`; the messages are then as before.
        """
        return self.answer([*self.messages, {"role": "user", "content": content}], stream)

    @checks_flags
    def answer(self, messages: Messages, stream: bool = False) -> str | Iterator[str]:
        """Answers a conversation, of which any number of messages may be new; see `ask`."""
        given = (self.max_new_tokens, self.tools, self.variables)
        prompt = chat_prompt(self.transformer, self.tokenizer, messages, *given)
        room = self.transformer.config.max_position - len(prompt)
        most = self.max_new_tokens
        most = min(room, DEFAULT_NEW_TOKENS) if most is None else most
        request = one_sequence("chat", self.transformer, prompt, most, self.options)
        self.reused = 0 if self.past is None else self.past.give(request)
        answer = self._pieces(request, list(messages))
        return answer if stream else "".join(answer)

    def _pieces(self, request, messages):
        """Yields the pieces of an answer, and keeps it."""
        state, texts = None, []

        def sequences():
            nonlocal state
            for state in request.steps():
                yield request.results(state)[0].ids

        for piece in pieces(self.tokenizer, sequences()):
            texts.append(piece)
            yield piece
        self.past = Past.of(request, state)
        self.messages = [*messages, {"role": "assistant", "content": "".join(texts)}]


def chatting_transformer(model, tokenizer):
    """Returns the `Transformer` of a model that can answer conversations.

    Raises:
        UnsupportedTask: the model is not a causal language model, or there is no chat template.
    """
    try:
        transformer = generating_transformer(model)
    except ValueError as error:
        raise UnsupportedTask(str(error)) from None
    c = transformer.config
    if c.stacks != "one" or c.attend != "lm" or transformer.more_inputs:
        raise UnsupportedTask(
            f"{c.family}: chat needs a causal language model; expected one stack with"
            " application='lm' and no other inputs than token ids. Use generate_text."
        )
    if not tokenizer.chat_templates:
        raise UnsupportedTask(
            "chat_template: the checkpoint has none: the model is not one for conversations. Use"
            " generate_text, or set chat_templates of the tokenizer."
        )
    return transformer


def chat_options(transformer, tokenizer, options):
    """Fills in the defaults of `text_options`; the `eos_token` of the files ends an answer, too."""
    end = tokenizer.chat_tokens.get("eos_token")
    ends = [] if end is None else [tokenizer.token_to_id(end)]
    stop_ids = sorted({*tokenizer.stop_ids, *ends})
    return text_options(transformer, tokenizer, {"stop_ids": stop_ids, **options})


def chat_prompt(transformer, tokenizer, messages, max_new_tokens, tools=None, variables=None):
    """Returns the ids of a conversation with the beginning of an answer.

    Raises:
        TypeError, ValueError: a message is invalid, or the conversation is too long; see `chat`.
    """
    for name in RESERVED & {*(variables or {})}:
        raise ValueError(
            f"variables: {name!r} is an argument of apply_chat_template; expected variables of the"
            " chat template. Give it another way, or leave it out."
        )
    text = tokenizer.apply_chat_template(messages, True, tools, **(variables or {}))
    ids = tokenizer.encode_markup(text)
    c, new = transformer.config, max_new_tokens or 1
    if not ids:
        raise ValueError("messages: the chat template makes no text of them; expected some tokens.")
    if None in ids or not 0 <= min(ids) <= max(ids) < c.vocab_size:
        raise ValueError(
            f"messages: their ids are not all below {c.vocab_size}, the vocabulary of the model;"
            " expected tokenizer and model of one checkpoint."
        )
    if isinstance(new, int) and len(ids) + new > c.max_position:
        raise ValueError(
            f"messages: {len(ids)} tokens, and {new} new ones; expected at most {c.max_position},"
            " for which the model was trained. Leave out the first messages."
        )
    return ids
