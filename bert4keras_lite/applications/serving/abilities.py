"""Abilities of a served checkpoint: the pipelines that it supports, attention and generation.

`pipelines.base` describes `prepare`, `key` and `answer` of a pipeline. `TextGenerator` has a
`program` instead, which answers the jobs of a `Worker` token by token.
"""

import os
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ...checkpoints import CheckpointError
from ...configs.architectures import FAMILIES
from ...configs.classifiers import named_kind
from ...configs.published import find_files
from ...configs.sentences import MODULES, has_modules
from ...generation.decoding import generating_transformer
from ...generation.generate import TextStream, prompt_of, text_options, word_ids
from ...generation.request import STEP, GenerationRequest
from ...hub import local_directory
from ...models import build_transformer_model
from ...parsing import shown
from ...pipelines import (
    EntityExtractor,
    FeatureExtractor,
    FillMask,
    InformationExtractor,
    InvalidRequest,
    Reranker,
    SentenceEncoder,
    TextClassifier,
    UnsupportedTask,
    attention_model,
    load_classifier,
    load_tagger,
)
from ...pipelines.base import (
    EXAMPLE,
    Pipeline,
    check_ids,
    encoder_of,
    finite,
    longest_of,
    pad_batch,
    power_of_two,
)
from ...pipelines.chat import chat_options, chat_prompt, chatting_transformer
from ...pipelines.reranking import load_reranker, reranker_of
from ...pipelines.taggers import published_classifier
from ...tokenizers import TokenizerBase, load_tokenizer
from ...tokenizers.chat import where_of
from ...types import PathLike

__all__ = ["CANDIDATES", "Conversation", "GeneratedText", "Served", "load"]

MASKS = 16  # maximum number of masks in a text
CANDIDATES = 50  # maximum number of candidates for a mask
LONGEST_BAD_WORD = 32  # tokens: few lengths compile
LONGEST_LOOK = 128  # tokens of a text whose attention is returned: its size is quadratic


class Inspected(NamedTuple):
    """A tokenized text for which attention weights are requested.

    Attributes:
        text, ids, offsets: see `Encoded`.
        layers, heads: indices of the layers and heads to return, in this order.
    """

    text: str
    ids: list
    offsets: list
    layers: list
    heads: list


class Attention(Pipeline):
    """Attention probabilities of a text, `(layers, heads, tokens, tokens)`."""

    def __init__(self, transformer, tokenizer):
        encoder_of(transformer)
        try:
            model = attention_model(transformer)
        except ValueError as error:
            raise UnsupportedTask(str(error)) from None
        if (transformer.config.sequence_length or 0) > LONGEST_LOOK:
            raise UnsupportedTask(
                f"attention is returned for at most {LONGEST_LOOK} tokens; the model takes "
                f"{transformer.config.sequence_length}."
            )
        longest = min(LONGEST_LOOK, longest_of(transformer) or LONGEST_LOOK)
        super().__init__(model, tokenizer, longest, transformer.config.filler)
        self.blocks, self.heads = model.output_shape[1:3]

    def prepare(self, text, layers=(0,), heads=(0,)):
        return Inspected(*super().prepare(text), list(layers), list(heads))

    def answer(self, item, weights):
        size = len(item.ids)
        # a copy: a view would keep the whole batch as long as the client is slow to read
        return finite(weights[:, :, :size, :size][np.ix_(item.layers, item.heads)])


@dataclass(frozen=True)
class GenerationInput:
    """A prompt to generate from.

    Attributes:
        ids: token ids of the prompt.
        room: number of new tokens that arrays have room for.
        new_tokens: maximum number of new tokens.
        seed: seed of the samples.
        settings: other arguments of `generate`, as pairs.
    """

    ids: tuple
    room: int
    new_tokens: int
    seed: int
    settings: tuple


@dataclass(frozen=True)
class GeneratedText:
    """A complete generated text; `reason` is `"stop"` (a stop token), `"length"` or `"time"`."""

    reason: str
    tokens: int
    score: float
    text: str


class TextGenerator:
    """Text generation; emits pieces of text and, at the end, a `GeneratedText`."""

    generates = True
    example = EXAMPLE

    def __init__(self, transformer, tokenizer, new_tokens):
        try:
            self.transformer = generating_transformer(transformer)
        except ValueError as error:
            raise UnsupportedTask(str(error)) from None
        encoder_of(transformer)
        self.tokenizer, self.new_tokens = tokenizer, new_tokens

    def prompt(self, text, new_tokens):
        """Returns the token ids of a prompt or source."""
        return prompt_of(self.transformer, self.tokenizer, text)

    def options(self, settings):
        """Returns the options of `generate`, with the defaults of the tokenizer."""
        return text_options(self.transformer, self.tokenizer, settings)

    def bad_words(self, words):
        """Returns the ids of texts that are not to be generated, as tuples of tuples.

        Raises:
            ValueError: a text is empty, has other characters than the vocabulary, or is too long.
        """
        sequences = word_ids(self.tokenizer, words)
        for ids in sequences:
            check_ids(ids, self.transformer.config.vocab_size, self.tokenizer)
            if len(ids) > LONGEST_BAD_WORD:
                raise ValueError(
                    f"bad_words: one has {len(ids)} tokens; expected at most {LONGEST_BAD_WORD}."
                )
        return tuple(map(tuple, sequences))

    def prepare(self, text, new_tokens=STEP, seed=0, shorten=False, **settings):
        """Tokenizes a prompt.

        Args:
            text: the prompt, or source.
            new_tokens: maximum number of new tokens.
            seed: seed of the samples.
            shorten: generate fewer tokens if the model has fewer positions, instead of an error.
            **settings: other arguments of `generate`.

        Raises:
            InvalidRequest: the prompt has no tokens, begins with padding, or is too long.
        """
        prompt = tuple(self.prompt(text, 1 if shorten else new_tokens))
        if not prompt:
            raise InvalidRequest("the text is empty; expected at least one token.")
        check_ids(prompt, self.transformer.config.vocab_size, self.tokenizer)
        pad = self.transformer.config.pad_token_id
        if prompt[0] == pad != self.tokenizer.token_start_id or prompt[:2] == (pad, pad):
            raise InvalidRequest(
                "the text begins with the padding token of the model, "
                f"{shown(self.tokenizer.id_to_token(pad))}."
            )
        one_stack = self.transformer.config.stacks == "one"
        longest = longest_of(self.transformer) if one_stack else None
        if shorten and longest is not None:
            new_tokens = min(new_tokens, max(1, longest - len(prompt)))
        if settings.get("min_new_tokens", 0) > new_tokens:
            raise InvalidRequest(
                f"{len(prompt)} tokens and min_new_tokens={settings['min_new_tokens']}; together"
                f" at most {longest} fit."
            )
        # few sizes, so that few programs are compiled
        room = min(max(STEP, power_of_two(new_tokens)), max(self.new_tokens, new_tokens))
        if longest is not None:
            if len(prompt) + new_tokens > longest:
                raise InvalidRequest(
                    f"{len(prompt)} tokens and max_new_tokens={new_tokens}; together at most "
                    f"{longest} fit."
                )
            if STEP * steps(len(prompt)) + room > longest:
                room = new_tokens
        return GenerationInput(prompt, room, new_tokens, seed, tuple(sorted(settings.items())))

    def key(self, item):
        return item.settings, item.room, steps(len(item.ids))

    def program(self, jobs):
        items = [job.item for job in jobs]
        rows = pad_batch(np.arange(len(items)))
        first = items[0]
        options = self.options(dict(first.settings))
        prompts = [list(items[row].ids) for row in rows]
        request = GenerationRequest(self.transformer, prompts, first.room, **options)
        if options.get("do_sample"):  # a text's samples must not depend on others in the batch
            shape = request.sampling_params["noise"].shape[1:]
            noise = [
                np.random.default_rng(items[row].seed).random(shape, "float32") for row in rows
            ]
            request.sampling_params["noise"] = np.stack(noise)
        streams = [TextStream(self.tokenizer) for _ in jobs]
        for count, state in enumerate(request.steps(), 1):
            for i, ((generated,), job) in enumerate(
                zip(request.results(state)[: len(jobs)], jobs, strict=True)
            ):
                if not job.over:
                    with job.errors():
                        self.emit(job, streams[i], generated, count)
            yield

    def emit(self, job, stream, generated, count):
        """Emits the new text of a job after step `count`, and its end."""
        finite(generated.score)
        job.tokens, job.so_far = len(generated.ids), partial(self.complete, generated, "time")
        ends = generated.finished or count == job.item.new_tokens
        if piece := stream.piece(generated.ids, ends):
            job.emit(piece)
        if ends:
            job.emit(self.complete(generated, "stop" if generated.finished else "length"))
            job.end()

    def complete(self, generated, reason):
        """Returns the `GeneratedText` of a sequence that ends for a reason."""
        text = self.tokenizer.decode(generated.ids)
        return GeneratedText(reason, len(generated.ids), generated.score, text)


@dataclass(frozen=True)
class Conversation:
    """Messages, and variables of the chat template."""

    messages: list
    variables: dict


class ChatGenerator(TextGenerator):
    """Answers to conversations, generated like other texts."""

    example: Any = Conversation([{"role": "user", "content": EXAMPLE}], {})

    def __init__(self, transformer, tokenizer, new_tokens):
        chatting_transformer(transformer, tokenizer)
        super().__init__(transformer, tokenizer, new_tokens)
        try:
            self.prompt(self.example, 1)
        except ImportError as error:
            raise UnsupportedTask(str(error)) from None
        except InvalidRequest:
            pass  # a template for other conversations, or a model with very few positions

    def prompt(self, conversation, new_tokens):
        try:
            return chat_prompt(
                *(self.transformer, self.tokenizer, conversation.messages, new_tokens),
                variables=conversation.variables,
            )
        except ValueError as error:
            message = str(error).removeprefix("messages: ")
            for template in self.tokenizer.chat_templates.values():  # not for clients to know
                message = message.replace(where_of(template), "chat_template")
            raise InvalidRequest(message) from None

    def options(self, settings):
        return chat_options(self.transformer, self.tokenizer, settings)


def steps(length):
    """Returns the number of steps of `STEP` tokens that a length takes."""
    return -(-length // STEP)


@dataclass(frozen=True)
class Served:
    """A checkpoint and its abilities.

    Attributes:
        transformer, tokenizer: model and tokenizer of the checkpoint.
        abilities: name -> the ability.
        cannot: name -> why the checkpoint does not have the ability.
    """

    transformer: Any
    tokenizer: TokenizerBase
    abilities: dict
    cannot: dict


def load(
    path: PathLike,
    ner: PathLike | None = None,
    model: str = "auto",
    new_tokens: int = 256,
    classifier: PathLike | None = None,
    reranker: PathLike | None = None,
    extractor: PathLike | None = None,
    instruction: str | None = None,
    **settings: Any,
) -> Served:
    """Loads a checkpoint with all abilities that it supports, to serve it.

    Args:
        path: see `build_transformer_model`; a fine-tuned classifier of texts, tokens or spans is
            built.
        ner: a directory for `load_tagger`; None: the model itself, if it classifies tokens.
        model, **settings: see `build_transformer_model`.
        new_tokens: maximum number of new tokens for one request.
        classifier: a directory for `load_classifier`; None: the model itself, if it classifies
            texts.
        reranker: a directory for `rerank`; None: the model itself, if it is a reranker.
        extractor: a directory for `extract_information`; None: the model itself, if it is an ERNIE
            with two pointers, as every UIE is.
        instruction: see `rerank`, which with it takes a causal language model as well; a request
            may have another. None: the reranker is a classifier of pairs.

    Returns:
        A `Served`.

    Raises:
        CheckpointError, ValueError, OSError: see `build_transformer_model` and `load_tagger`.
    """
    path = local_directory(path, needs=[MODULES])
    options, no_head = {"model": model, "return_keras_model": False, **settings}, None
    first = {"with_lm": True}
    if named_kind(find_files(path, None)[0]) in ("text", "tokens", "spans"):
        first = {"with_classifier": True}
    try:
        transformer = build_transformer_model(path, **(first | options))
    except (CheckpointError, ValueError) as error:  # raised again below if not due to the head
        transformer, no_head = build_transformer_model(path, **options), error
    tokenizer = load_tokenizer(path)
    tuned = partial(fine_tuned, transformer, tokenizer)
    builders = {
        "fill-mask": lambda: FillMask(transformer, tokenizer, CANDIDATES, MASKS),
        "generate": lambda: TextGenerator(transformer, tokenizer, new_tokens),
        "chat": lambda: ChatGenerator(transformer, tokenizer, new_tokens),
        "vectors": lambda: vectors_of(path, transformer, tokenizer),
        "attention": lambda: Attention(transformer, tokenizer),
        "classify": lambda: TextClassifier(*tuned("classify", classifier)),
        "rerank": lambda: (
            Reranker(*tuned("rerank", reranker)[:3])
            if instruction is None
            else instructed(path, transformer, reranker, instruction)
        ),
        "entities": lambda: EntityExtractor(*tuned("entities", ner)[:3]),
        "extract-information": lambda: InformationExtractor(
            *tuned("extract-information", extractor)[::2]
        ),
    }
    abilities, cannot = {}, {}
    for name, build in builders.items():
        try:
            abilities[name] = build()
        except UnsupportedTask as error:
            needs_head = no_head is not None and name in ("fill-mask", "generate", "chat")
            reason = f"{error} {no_head}" if needs_head else str(error)
            cannot[name] = reason.replace(f"{path}{os.sep}", "")  # not for clients to know
    return Served(transformer, tokenizer, abilities, cannot)


def vectors_of(directory, transformer, tokenizer):
    """Returns the encoder of a directory of sentence-transformers, else that of the model."""
    if not has_modules(directory):
        return FeatureExtractor(transformer, tokenizer)
    try:
        return SentenceEncoder(directory, transformer=transformer)
    except (CheckpointError, OSError, ValueError) as error:
        raise UnsupportedTask(str(error)) from None


def instructed(path, transformer, directory, instruction):
    """Returns the `Reranker` of a directory, or of the served model, with an instruction."""
    if directory is not None:
        parts = load_reranker(directory, instruction)
    else:  # with a tokenizer of its own, which finds the tokens of a chat in texts
        tokenizer = load_tokenizer(path, special_tokens_in_text=True)
        parts = *reranker_of(transformer, tokenizer, instruction), tokenizer
    return Reranker(*parts, instruction=instruction)


def load_extractor(directory):
    """Loads a UIE; see `load_classifier`."""
    return published_classifier(local_directory(directory), "spans")


# ability -> kind of its classifier, how a directory with one is loaded, and what it needs
FINE_TUNED = {
    "classify": ("text", load_classifier, "a fine-tuned classifier of texts", "--classifier"),
    "rerank": ("text", load_classifier, "a reranker", "--reranker"),
    "entities": ("tokens", load_tagger, "a fine-tuned tagger", "--ner"),
    "extract-information": ("spans", load_extractor, "a UIE", "--extractor"),
}
# Every UIE is an ERNIE. Other models with two pointers find answers to questions: they have not
# learned prompts, and are taken for a UIE only if the user says so.
FAMILIES_OF = {"extract-information": ("ernie",)}


def fine_tuned(transformer, tokenizer, ability, directory):
    """Returns `(model, labels, tokenizer, problem_type)` for an ability, as `load_classifier` does.

    Args:
        transformer, tokenizer: the served model, which is taken without a directory.
        ability: a key of `FINE_TUNED`.
        directory: directory with another model; None: there is none.

    Raises:
        UnsupportedTask: the model has no such classifier.
    """
    kind, load_parts, needed, option = FINE_TUNED[ability]
    if directory is not None:
        return load_parts(directory)
    config = transformer.config
    if config.with_classifier != kind or config.family not in FAMILIES_OF.get(ability, FAMILIES):
        raise UnsupportedTask(
            f"{ability} needs {needed}. Serve one, or start the server with {option} DIRECTORY."
        )
    return transformer.model, config.labels, tokenizer, config.problem_type
