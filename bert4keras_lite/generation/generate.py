"""Text generation: `generate` on token ids, `generate_text` and `stream` on texts."""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ..arguments import MOST, check_list, check_number, check_options
from ..parsing import shown
from .decoding import generating_transformer
from .request import Generated, GenerationRequest

if TYPE_CHECKING:
    from ..models import Transformer
    from ..tokenizers import TokenizerBase

__all__ = [
    "OPTIONS",
    "OTHER_NAMES",
    "TEXT_OPTIONS",
    "TextStream",
    "generate",
    "generate_all",
    "generate_text",
    "one_sequence",
    "pieces",
    "prompt_of",
    "stream",
    "text_options",
    "word_ids",
]


def generate(
    model: "keras.Model | Transformer",
    inputs: Any,
    max_new_tokens: int | None = None,
    **options: Any,
) -> list:
    """Generates token ids that continue prompts, or that an encoder-decoder predicts for sources.

    Args:
        model: a model of `build_transformer_model` with a language-model head: an
            encoder-decoder, or one stack that is causal (GPT, or `application="lm"`) or a prefix
            language model (`"unilm"`).
        inputs: token ids of a prompt, or a list of prompts of any lengths. For `"unilm"` and
            encoder-decoders, the source. Padding on the right is removed.
        max_new_tokens: maximum number of new tokens. By default as many as there are positions
            after the longest prompt, at most 512; pass it if a result must not depend on the
            other prompts.
        num_beams: width of the beam search; 1 (the default): no beam search.
        early_stopping: when beam search closes a prompt. False (the default): when the best
            running beam, scored at its current length, is worse than the sequences that ended;
            `"never"`: when it could not become better; True: as soon as `num_beams` sequences
            ended. These are the rules of transformers. `"best"`, the rule of bert4keras: when the
            best beam ends; others that end are dropped.
        do_sample: sample each token instead of taking the most likely one; False by default.
        top_k: sample from the `top_k` most likely tokens; None: from all.
        top_p: sample from the smallest set of tokens whose probability is at least this, 0.001
            to 1; None: from all.
        temperature: divides the logits before sampling, 0.001 to 100; 1 by default. It cannot be
            0: without `do_sample`, the most likely token is taken at any temperature.
        repetition_penalty: above 1 (the default) lowers the logits of tokens that occurred; 0.001
            to 100.
        length_penalty: for beam search: above 0 favours long sequences; 1 by default, -10 to 10,
            a smaller range above 1000 tokens.
        min_new_tokens: minimum number of new tokens, 0 by default; fewer if `allowed_tokens`
            allows stop tokens only.
        num_return_sequences: number of sequences to return for each prompt; 1 by default.
        no_repeat_ngram_size: no sequence of so many tokens occurs twice, the prompt (for an
            encoder-decoder, the start) included; 0 (the default): any may.
        bad_words_ids: lists of ids that are never generated, each as a whole; the first ids of one
            may be those of the prompt. A stop token alone is not a bad word, as in transformers.
        suppress_tokens, begin_suppress_tokens: ids that are never generated, and ids that are not
            the first new one.
        stop_ids: a token, or several, that end a sequence.
        allowed_tokens: the ids that may be generated; or a function of the new ids so far (a
            list) that returns them, such as a `Trie`; or a list of such functions, one for each
            prompt.
        segment_ids: segment ids of the prompts, in the shape of `inputs`; 0 by default. New
            tokens get the last one, and 1 for `"unilm"`.
        start_ids: first ids of a decoder; by default the `decoder_start_id` of the config, or 0.
        more_inputs: arrays for the model's additional inputs.
        seed: seed of the samples, which are the same on every backend up to rounding.

    Returns:
        For each prompt a list of `num_return_sequences` `Generated`, best first; for a single
        prompt, its list.

    Raises:
        TypeError: an option does not exist.
        ValueError: an option is out of its range, a prompt is too long, or the model cannot
            generate.

    Example:
        >>> gpt = build_transformer_model("cpm-lm")
        >>> generate(gpt, tokenizer.encode("今天天气")[0], 20, stop_ids=tokenizer.token_end_id)
    """
    check_options("generate", options, OPTIONS, OTHER_NAMES)
    request = GenerationRequest(model, inputs, max_new_tokens, **options)
    return request.results(request.run())


def generate_all(
    model: "keras.Model | Transformer",
    inputs: list,
    max_new_tokens: int,
    batch_size: int = 32,
    **options: Any,
) -> list[list[Generated]]:
    """Generates for a whole data set: `generate` in batches of prompts of similar length.

    All batches have the same size, so that one compiled program serves them all.

    Args:
        model, max_new_tokens: see `generate`.
        inputs: a list of prompts, which are lists of token ids.
        batch_size: prompts in a batch. Default 32.
        **options: of `generate`. `segment_ids`, a list of functions as `allowed_tokens`, and each
            array of `more_inputs` have an entry for each prompt.

    Returns:
        For each prompt a list of `Generated`, best first, in the order of the prompts.

    Raises:
        TypeError, ValueError: see `generate`; or an option has another number of entries.

    Example:
        >>> best, *_ = zip(*generate_all(gpt, prompts, 20, stop_ids=tokenizer.token_end_id))
    """
    check_number("batch_size", batch_size, 1, MOST)
    arrays, each = options.pop("more_inputs", ()), {}
    if options.get("segment_ids") is not None:
        each["segment_ids"] = options.pop("segment_ids")
    functions = options.get("allowed_tokens")
    if isinstance(functions, list | tuple) and any(map(callable, functions)):
        each["allowed_tokens"] = options.pop("allowed_tokens")
    for name, values in (*each.items(), *(("more_inputs", array) for array in arrays)):
        if len(values) != len(inputs):
            raise ValueError(
                f"{name}: expected {len(inputs)} entries, one for each prompt, got {len(values)}."
            )
    results: list[list[Generated]] = [[] for _ in inputs]
    order = sorted(range(len(inputs)), key=lambda i: len(inputs[i]))
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        filled = batch + batch[:1] * (batch_size - len(batch))
        rows = generate(
            model,
            [inputs[i] for i in filled],
            max_new_tokens,
            more_inputs=[np.asarray(array)[filled] for array in arrays],
            **{name: [values[i] for i in filled] for name, values in each.items()},
            **options,
        )
        for i, row in zip(batch, rows, strict=False):
            results[i] = row
    return results


def generate_text(
    model: "keras.Model | Transformer",
    tokenizer: "TokenizerBase",
    texts: str | list[str],
    max_new_tokens: int | None = None,
    **options: Any,
) -> list:
    """Generates texts from texts; like `generate`, with a tokenizer.

    Args:
        model, max_new_tokens, **options: see `generate`. By default, `stop_ids` are those of the
            tokenizer (its end token and the checkpoint's `eos_token_id`), and `allowed_tokens` all
            ids of the tokenizer, as the model's vocabulary may be larger. One more option is
            `bad_words`: a list of texts that are not generated, in each way that the tokenizer
            splits them (alone, after a space, after a character); longer words that contain one
            may have other tokens.
        tokenizer: has `encode`, `decode` and the ids of its special tokens.
        texts: a text or a list of texts: prompts, or sources.

    Returns:
        The same as `generate`, with `Generated.text`.

    Raises:
        TypeError, ValueError: see `generate`.

    Example:
        >>> generate_text(gpt, tokenizer, "今天天气", 20)[0].text
    """
    check_options("generate_text", options, TEXT_OPTIONS, OTHER_NAMES)
    single = isinstance(texts, str)
    transformer = generating_transformer(model)
    prompts = [prompt_of(transformer, tokenizer, text) for text in ([texts] if single else texts)]
    options = text_options(transformer, tokenizer, options)
    results = [
        [replace(sequence, text=tokenizer.decode(sequence.ids)) for sequence in row]
        for row in generate(transformer, prompts, max_new_tokens, **options)
    ]
    return results[0] if single else results


def stream(
    model: "keras.Model | Transformer",
    tokenizer: "TokenizerBase",
    text: str,
    max_new_tokens: int | None = None,
    **options: Any,
) -> Iterator[str]:
    """Generates like `generate_text`, and yields the text in pieces as soon as they are final.

    Args:
        model, tokenizer, max_new_tokens, **options: see `generate_text`; one sequence, without
            beam search.
        text: one prompt, or source.

    Yields:
        Strings. None has half a character, or text that a later token changes; joined, they are
        the text that `generate_text` returns.

    Raises:
        TypeError, ValueError: see `generate`.
    """
    check_options("stream", options, TEXT_OPTIONS, OTHER_NAMES)
    transformer = generating_transformer(model)
    options = text_options(transformer, tokenizer, options)
    prompt = prompt_of(transformer, tokenizer, text)
    request = one_sequence("stream", transformer, prompt, max_new_tokens, options)
    yield from pieces(tokenizer, (request.results(state)[0].ids for state in request.steps()))


def one_sequence(where, transformer, prompt, max_new_tokens, options):
    """Returns the `GenerationRequest` of one sequence, whose tokens are final when they are chosen.

    Raises:
        TypeError, ValueError: see `generate`; or the options are those of several sequences.
    """
    request = GenerationRequest(transformer, prompt, max_new_tokens, **options)
    if request.search.kind == "beams" or request.copies > 1:
        raise ValueError(
            f"{where}: it supports one sequence without beam search. Use num_beams=1, "
            "num_return_sequences=1 and another early_stopping than 'best'."
        )
    return request


def pieces(tokenizer, sequences):
    """Yields the text in pieces, from sequences of ids of which each continues the last."""
    text, ids = TextStream(tokenizer), []
    for ids in sequences:
        if piece := text.piece(ids):
            yield piece
    if piece := text.piece(ids, last=True):
        yield piece


class TextStream:
    """Decodes a growing sequence of ids into pieces of text that no later id changes.

    Args:
        tokenizer: has `decode` and `decode_stable`.
    """

    def __init__(self, tokenizer):
        self.tokenizer, self.length = tokenizer, 0

    def piece(self, ids, last=False):
        """Returns the new text of `ids`, which are all so far; with `last`, all the rest."""
        text = self.tokenizer.decode(ids) if last else self.tokenizer.decode_stable(ids)
        piece = text[self.length :]
        self.length += len(piece)
        return piece


def prompt_of(transformer, tokenizer, text):
    """Returns the ids of a source or prompt; a prompt for a causal model has no end token."""
    ids = list(tokenizer.encode(text)[0])
    causal = transformer.config.stacks == "one" and transformer.config.attend == "lm"
    if causal and tokenizer.token_end is not None and ids[-1] == tokenizer.token_end_id:
        ids.pop()
    return ids


def text_options(transformer, tokenizer, options):
    """Fills in the tokenizer's defaults; adds the ids of `bad_words` to `bad_words_ids`."""
    words = options.get("bad_words")
    options = {name: value for name, value in options.items() if name != "bad_words"}
    if words is not None:
        given = options.get("bad_words_ids")
        ids = word_ids(tokenizer, words)
        options["bad_words_ids"] = ids if given is None else [*given, *ids]
    options = {"stop_ids": getattr(tokenizer, "stop_ids", tokenizer.token_end_id), **options}
    size = getattr(tokenizer, "vocab_size", transformer.config.vocab_size)
    if options.get("allowed_tokens") is None and size < transformer.config.vocab_size:
        options["allowed_tokens"] = np.arange(size)
    config = transformer.config
    without_start = config.stacks == "both" and config.decoder_start_id is None
    if without_start and tokenizer.token_start is not None:
        options.setdefault("start_ids", [tokenizer.token_start_id])
    return options


def word_ids(tokenizer, words):
    """Returns the ids of words, as lists: alone, after a space, and after another character."""
    check_list("bad_words", words)
    unknown, sequences = tokenizer.token_unk_id, []
    for word in words:
        if not isinstance(word, str) or not word.strip():
            raise ValueError(f"bad_words: expected texts, got {shown(word)}.")
        after = tokenizer.encode_markup("。" + word)
        before = tokenizer.encode_markup("。")
        ways = [tokenizer.encode_markup(word), tokenizer.encode_markup(" " + word)]
        if after[: len(before)] == before:
            ways.append(after[len(before) :])
        if any(unknown is not None and unknown in ids for ids in ways):
            raise ValueError(
                f"bad_words: {shown(word)} has characters that are not in the vocabulary, so it is "
                "never generated. Remove it."
            )
        sequences += [ids for i, ids in enumerate(ways) if ids and ids not in ways[:i]]
    return sequences


# names of transformers and bert4keras -> our option
OTHER_NAMES = {
    "max_length": "max_new_tokens",
    "max_tokens": "max_new_tokens",
    "min_length": "min_new_tokens",
    "eos_token_id": "stop_ids",
    "decoder_start_token_id": "start_ids",
    "prefix_allowed_tokens_fn": "allowed_tokens",
    "topk": "num_beams",
}

OPTIONS = {field.name for field in fields(GenerationRequest)} - {
    "model",
    "inputs",
    "max_new_tokens",
}
TEXT_OPTIONS = OPTIONS | {"bad_words"}
