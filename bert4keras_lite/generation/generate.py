"""Text generation: `generate` on token ids, `generate_text` and `stream` on texts."""

import inspect
import math
from dataclasses import dataclass, replace

import keras
import numpy as np
from keras import ops

from .. import loading
from ..arguments import (
    check_flags,
    check_list,
    check_options,
    check_ranges,
    check_right_padding,
    integers,
)
from ..data import sequence_padding
from .compiled_loop import CompiledLoop
from .search import BARRED, NEG_INF, DecodingConfig

MOST = 512  # new tokens, if neither the caller nor the positions set a limit
MOST_PENALTY = 1e30  # largest length ** length_penalty: float32 ends at 3e38
PROGRAMS = 64  # compiled loops kept by a model
LEAST_LIKELIEST = 64  # at least this many tokens are sorted for top_k, so that few sizes compile
STEP = 32  # lengths are rounded up to a multiple, so that similar lengths share a compiled loop


@dataclass(frozen=True)
class Generated:
    """One generated sequence.

    Attributes:
        ids: the new tokens, without the stop token; int32 `(length,)`.
        score: sum of the model's log-probabilities of the new tokens, the stop token included.
            In beam search, they are taken after the repetition penalty, and the sum is divided by
            length**length_penalty.
        finished: whether it ended with a stop token.
        text: the decoded text; None without a tokenizer.
    """

    ids: np.ndarray
    score: float
    finished: bool
    text: str | None = None


def generate(model, inputs, max_new_tokens=None, **options):
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
        stop_ids: a token, or several, that end a sequence.
        allowed_tokens: the ids that may be generated; or a function of the new ids so far (a
            list) that returns them, such as a `Trie`; or a list of such functions, one for each
            prompt.
        segment_ids: segment ids of the prompts, in the shape of `inputs`; 0 by default. New
            tokens get the last one, and 1 for `"unilm"`.
        start_ids: first ids of a decoder; `[0]` by default.
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


def generate_text(model, tokenizer, texts, max_new_tokens=None, **options):
    """Generates texts from texts; like `generate`, with a tokenizer.

    Args:
        model, max_new_tokens, **options: see `generate`. By default, `stop_ids` are those of the
            tokenizer (its end token and the checkpoint's `eos_token_id`), and `allowed_tokens` all
            ids of the tokenizer, as the model's vocabulary may be larger.
        tokenizer: has `encode`, `decode` and the ids of its special tokens.
        texts: a text or a list of texts: prompts, or sources.

    Returns:
        The same as `generate`, with `Generated.text`.

    Raises:
        TypeError, ValueError: see `generate`.

    Example:
        >>> generate_text(gpt, tokenizer, "今天天气", 20)[0].text
    """
    check_options("generate_text", options, OPTIONS, OTHER_NAMES)
    single = isinstance(texts, str)
    transformer = transformer_of(model)
    prompts = [prompt_of(transformer, tokenizer, text) for text in ([texts] if single else texts)]
    options = text_options(transformer, tokenizer, options)
    results = [
        [replace(sequence, text=tokenizer.decode(sequence.ids)) for sequence in row]
        for row in generate(transformer, prompts, max_new_tokens, **options)
    ]
    return results[0] if single else results


def stream(model, tokenizer, text, max_new_tokens=None, **options):
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
    check_options("stream", options, OPTIONS, OTHER_NAMES)
    transformer = transformer_of(model)
    options = text_options(transformer, tokenizer, options)
    prompt = prompt_of(transformer, tokenizer, text)
    request = GenerationRequest(transformer, prompt, max_new_tokens, **options)
    if request.search.kind == "beams" or request.copies > 1:
        raise ValueError(
            "stream: streaming supports one sequence without beam search. Use num_beams=1, "
            "num_return_sequences=1 and another early_stopping than 'best'."
        )
    yield from pieces(tokenizer, (request.results(state)[0].ids for state in request.steps()))


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


def transformer_of(model):
    """Returns the `Transformer` of a model that can generate text.

    Raises:
        ValueError: the model cannot generate text.
    """
    transformer = model if hasattr(model, "decode_step") else loading.transformer_of(model)
    config = transformer.config
    if config.stacks in ("encoder", "decoder"):
        raise ValueError(
            f"{config.family}: this is only the {config.stacks} of an encoder-decoder. Build the "
            "full model to generate."
        )
    if config.stacks == "one" and config.attend == "all":
        raise ValueError(
            f"{config.family}: a bidirectional encoder cannot generate text. Build it with "
            "application='lm' or 'unilm', or fill in masks with gibbs_sample."
        )
    if not config.with_lm:
        raise ValueError(
            f"{config.family}: the model has no language-model head. Build it with with_lm=True."
        )
    return transformer


def prompt_of(transformer, tokenizer, text):
    """Returns the ids of a source or prompt; a prompt for a causal model has no end token."""
    ids = list(tokenizer.encode(text)[0])
    causal = transformer.config.stacks == "one" and transformer.config.attend == "lm"
    if causal and tokenizer.token_end is not None and ids[-1] == tokenizer.token_end_id:
        ids.pop()
    return ids


def text_options(transformer, tokenizer, options):
    """Fills in the tokenizer's defaults of `stop_ids`, `allowed_tokens` and `start_ids`."""
    options = {"stop_ids": getattr(tokenizer, "stop_ids", tokenizer.token_end_id), **options}
    size = getattr(tokenizer, "vocab_size", transformer.config.vocab_size)
    if options.get("allowed_tokens") is None and size < transformer.config.vocab_size:
        options["allowed_tokens"] = np.arange(size)
    if transformer.config.stacks == "both" and tokenizer.token_start is not None:
        options.setdefault("start_ids", [tokenizer.token_start_id])
    return options


# names of transformers and bert4keras -> our option
OTHER_NAMES = {
    "max_length": "max_new_tokens",
    "max_tokens": "max_new_tokens",
    "min_length": "min_new_tokens",
    "eos_token_id": "stop_ids",
    "decoder_start_token_id": "start_ids",
    "bad_words_ids": "allowed_tokens",
    "suppress_tokens": "allowed_tokens",
    "prefix_allowed_tokens_fn": "allowed_tokens",
    "topk": "num_beams",
}


class GenerationRequest:
    """One call of `generate`: checks its arguments, makes arrays of them, and runs the loop."""

    def __init__(
        self,
        model,
        inputs,
        max_new_tokens=None,
        *,
        num_beams=1,
        early_stopping=False,
        do_sample=False,
        top_k=None,
        top_p=None,
        temperature=1.0,
        repetition_penalty=1.0,
        length_penalty=1.0,
        min_new_tokens=0,
        num_return_sequences=1,
        stop_ids=None,
        allowed_tokens=None,
        segment_ids=None,
        start_ids=(0,),
        more_inputs=(),
        seed=None,
    ):
        check_ranges(
            num_beams=num_beams,
            num_return_sequences=num_return_sequences,
            min_new_tokens=min_new_tokens,
            temperature=temperature,
            repetition_penalty=repetition_penalty,
            length_penalty=length_penalty,
            max_new_tokens=max_new_tokens,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
        )
        check_flags({"do_sample": True}, {"do_sample": do_sample})
        self.transformer = transformer_of(model)
        self.config = self.transformer.config
        check_list("inputs", inputs)
        self.single = len(inputs) > 0 and np.ndim(inputs[0]) == 0
        self.copies = num_return_sequences if do_sample else 1  # each sample is a row of the batch
        rows = [inputs] if self.single else list(inputs)
        self.given_lengths = self._copied(list(map(np.size, rows)))
        self.prompts = self._copied(self._rows(rows))
        stop_ids = [] if stop_ids is None else np.ravel(stop_ids)
        self.stop_ids = sorted(set(self._ids(stop_ids, "stop_ids").tolist()))
        self.count = num_return_sequences
        if not isinstance(early_stopping, bool) and early_stopping not in ("never", "best"):
            raise ValueError(
                f"early_stopping={early_stopping!r}: expected False, True, 'never' or 'best'."
            )
        if do_sample and num_beams > 1:
            raise ValueError(
                "do_sample, num_beams: sampling and beam search exclude each other. Choose one."
            )
        if not do_sample and (top_k or top_p):
            raise ValueError("top_k, top_p: they are for do_sample=True. Set it, or omit them.")
        most = 1 if early_stopping == "best" else num_beams
        if num_return_sequences > most and not do_sample:
            raise ValueError(
                f"num_return_sequences={num_return_sequences}: "
                + (
                    "early_stopping='best' returns one sequence."
                    if early_stopping == "best"
                    else f"expected at most num_beams={num_beams}. Raise num_beams, or use "
                    "do_sample=True."
                )
            )
        self.most = self._most(max_new_tokens)
        with_beams = num_beams > 1 or early_stopping == "best"
        if num_beams > 1 and self.most ** abs(length_penalty) > MOST_PENALTY:
            limit = math.log(MOST_PENALTY, self.most)
            raise ValueError(
                f"length_penalty={length_penalty}: expected {-limit:.3g} to {limit:.3g} for "
                f"max_new_tokens={self.most}, as scores are float32."
            )
        self.search = DecodingConfig(
            kind="sample" if do_sample else "beams" if with_beams else "greedy",
            width=num_beams,
            early_stopping=with_beams and early_stopping,
            likeliest=self._likeliest(top_k, top_p),
            penalized=repetition_penalty != 1,
            candidates=max(2, 1 + len(self.stop_ids)) if with_beams else 2,
        )
        self._constrain(allowed_tokens)
        size = self.config.vocab_size
        shape = (self._room(self.most), len(self.prompts), self.search.width)
        noise = (
            np.random.default_rng(seed).random(shape, "float32") if do_sample else np.zeros(shape)
        )
        stops = np.zeros(size, bool)
        stops[self.stop_ids] = True
        self.sampling_params = {
            "most": np.int32(self.most),
            "least": np.int32(min_new_tokens),
            "stops": stops,
            "temperature": np.float32(temperature),
            "top_k": np.int32(min(top_k or size, size)),
            "top_p": np.float32(np.inf if top_p in (None, 1) else top_p),
            "repetition_penalty": np.float32(repetition_penalty),
            "length_penalty": np.float32(length_penalty),
            "noise": noise.transpose(1, 2, 0).astype("float32"),
        }
        self.arrays = self._arrays(segment_ids, start_ids, more_inputs)

    def run(self):
        """Generates all tokens; returns the last state."""
        if self.choices:
            *_, state = self.steps()
            return state
        loop = self._program()
        prompt, sampling_params = self._tensors(
            self.arrays, self.sampling_params | {"bias": self.bias}
        )
        fixed, state = loop.begin(prompt, sampling_params)
        return loop.run(fixed, state, sampling_params)

    def steps(self):
        """Generates token by token; yields the state after each."""
        loop = self._program()
        prompt, sampling_params = self._tensors(
            self.arrays, self.sampling_params | {"bias": self.bias}
        )
        if self.choices:
            no_tokens = np.zeros((len(self.prompts), self.search.width, 0), "int32")
            sampling_params["bias"] = self._bias_of(no_tokens)
        fixed, state = loop.begin(prompt, sampling_params)
        yield state
        for count in range(1, self.most):
            if not ops.convert_to_numpy(state["open"]).any():
                return
            if self.choices:
                tokens = ops.convert_to_numpy(state["tokens"])[:, :, :count]
                sampling_params["bias"] = self._bias_of(tokens)
            state = loop.step(fixed, state, sampling_params)
            yield state

    def results(self, state):
        """Converts a state to the `Generated` sequences that `generate` returns."""
        with_beams = self.search.kind == "beams"
        names = ("ended_tokens", "ended_scores") if with_beams else ("tokens", "score")
        tokens, scores, lengths = (ops.convert_to_numpy(state[n]) for n in (*names, "lengths"))
        tokens, scores, lengths = (  # all sequences of a prompt in one row
            x.reshape(-1, self.copies * self.search.width, *x.shape[2:])
            for x in (tokens, scores, lengths)
        )
        results = []
        for row in range(len(scores)):
            ranked = []
            for i in np.argsort(-scores[row], kind="stable")[: self.count]:
                ids = tokens[row, i, : lengths[row, i]]
                finished = bool(len(ids)) and int(ids[-1]) in self.stop_ids
                ids = ids[:-1] if finished else ids
                if not ranked or scores[row, i] > BARRED:  # drops sequences that are not allowed
                    ranked.append(Generated(ids, float(scores[row, i]), finished))
            results.append(ranked)
        return results[0] if self.single else results

    def _copied(self, rows):
        """Repeats each row as often as it is sampled."""
        return [row for row in rows for _ in range(self.copies)]

    def _likeliest(self, top_k, top_p):
        """Returns how many tokens to sort for `top_k` and `top_p`: few sizes, as each compiles."""
        size = self.config.vocab_size
        if top_k is None:
            return None if top_p in (None, 1) else size
        return min(max(LEAST_LIKELIEST, 1 << (int(top_k) - 1).bit_length()), size)

    def _program(self):
        """Returns the compiled loop, cached on the transformer while its variables are the same.

        The cache has the `PROGRAMS` most recently used ones, each for arrays of one set of shapes.
        """
        programs = vars(self.transformer).setdefault("programs", {})
        shapes = tuple(
            (name, np.shape(x)) for name, x in (self.arrays | self.sampling_params).items()
        )
        key = (self.search, shapes, tuple(map(id, self.transformer.model.variables)))
        program = programs.pop(key, None) or CompiledLoop(self.transformer, self.search)
        while len(programs) >= PROGRAMS:
            del programs[next(iter(programs))]
        programs[key] = program
        return program

    def _rows(self, rows):
        """Converts prompts to arrays of ids, without padding on the right."""
        if not rows:
            raise ValueError("inputs: expected at least one prompt, got none.")
        prompts = []
        for number, row in enumerate(rows):
            ids = self._ids(row, f"inputs, row {number}")
            while len(ids) > 1 and ids[-1] == self.config.pad_token_id:
                ids = ids[:-1]
            if not len(ids):
                raise ValueError(
                    f"inputs, row {number}: the prompt is empty. Begin with the start token."
                )
            prompts.append(ids)
        check_right_padding("inputs", prompts, self.config.pad_token_id)
        return prompts

    def _ids(self, ids, name, size=None):
        """Converts a list of ids to an int32 array, all below `size` (default: `vocab_size`)."""
        check_list(name, ids)
        ids = integers(name, ids)
        if ids.ndim != 1:
            raise ValueError(f"{name}: expected a list of ids, got an array of shape {ids.shape}.")
        size = size or self.config.vocab_size
        if len(ids) and not 0 <= ids.min() <= ids.max() < size:
            raise ValueError(
                f"{name}: expected ids from 0 to {size - 1}, got {ids.min()} to {ids.max()}."
            )
        return ids.astype("int32")

    def _most(self, max_new_tokens):
        """Returns the maximum number of new tokens."""
        c = self.config
        room = None
        if c.position == "learned" and c.stacks == "one":
            positions = c.max_position ** (2 if c.hierarchical_position else 1)
            longest = max(map(len, self.prompts))
            room = positions - longest
            if room < 1 or (max_new_tokens or 0) > room:
                requested = f" and max_new_tokens={max_new_tokens}" if max_new_tokens else ""
                raise ValueError(
                    f"inputs: a prompt of {longest} tokens{requested} need more than the "
                    f"{positions} positions of this model. Shorten it, or build with "
                    "hierarchical_position=True."
                )
        if max_new_tokens is None and not self.stop_ids:
            raise ValueError(
                "max_new_tokens, stop_ids: both are missing, so generation would never stop. Pass "
                "max_new_tokens, or the id of the end token as stop_ids."
            )
        return int(max_new_tokens or (MOST if room is None else min(room, MOST)))

    @staticmethod
    def _room(length):
        return -(-length // STEP) * STEP

    def _constrain(self, allowed):
        """Sets `bias`, or, for functions, `choices`: a function for each prompt."""
        self.choices, self.bias = None, np.zeros((1, 1, self.config.vocab_size), "float32")
        if allowed is None:
            return
        if not callable(allowed):
            check_list("allowed_tokens", allowed)
            allowed = list(allowed)
        if callable(allowed):
            self.choices = [allowed] * len(self.prompts)
        elif allowed and all(map(callable, allowed)):
            self.choices = self._copied(allowed)
            if len(self.choices) != len(self.prompts):
                raise ValueError(
                    f"allowed_tokens: expected {len(self.prompts) // self.copies} functions, one "
                    f"for each prompt, got {len(allowed)}."
                )
        else:
            ids = self._ids(allowed, "allowed_tokens")
            if not len(ids):
                raise ValueError("allowed_tokens: expected at least one id, got none.")
            self.bias += NEG_INF
            self.bias[..., [*ids, *self.stop_ids]] = 0

    def _bias_of(self, tokens):
        """Returns the bias on logits that allows what the functions return for the new tokens.

        Args:
            tokens: the new tokens so far, `(batch, width, length)`.

        Returns:
            float32 `(batch, width, vocab_size)`: 0 for allowed tokens, `NEG_INF` for others.
        """
        bias = np.full((*tokens.shape[:2], self.config.vocab_size), NEG_INF, "float32")
        for row, choice in enumerate(self.choices):
            for beam in range(tokens.shape[1]):
                ids = list(choice(tokens[row, beam].tolist()))
                if not ids and not self.stop_ids:
                    raise ValueError(
                        "allowed_tokens: the function allows no further token. Pass stop_ids, one "
                        "of which then ends the text."
                    )
                bias[row, beam, self._ids(ids or self.stop_ids, "allowed_tokens")] = 0
        return ops.convert_to_tensor(bias)

    def _arrays(self, segment_ids, start_ids, more_inputs):
        """Returns the input arrays of `CompiledLoop`, by name."""
        c, begin = self.config, self._ids(start_ids, "start_ids")
        if not len(begin):
            raise ValueError("start_ids: expected at least one id to start a decoder, got none.")
        if c.stacks == "both":
            lengths = np.array([[len(row)] for row in self.prompts], "int32")
            sources = sequence_padding(self.prompts, length=self._room(lengths.max()))
            arrays = {"source": sources, "lengths": lengths}
            arrays["tokens"] = np.tile(begin, (len(sources), 1))
            arrays["start"] = np.zeros((len(sources), 1), "int32")
        else:
            arrays = self._left_padded(self.prompts)
        if c.has_segments:
            arrays |= self._segments(segment_ids)
        elif segment_ids is not None:
            raise ValueError(f"segment_ids: {c.family} has no segments. Omit them.")
        return arrays | self._condition(more_inputs)

    def _left_padded(self, rows):
        """Pads rows on the left; returns the tokens and the position where each row starts."""
        length = self._room(max(map(len, rows)))
        tokens = np.zeros((len(rows), length), "int32")
        start = np.array([[length - len(row)] for row in rows], "int32")
        for padded, row in zip(tokens, rows, strict=True):
            padded[length - len(row) :] = row
        return {"tokens": tokens, "start": start}

    def _segments(self, segment_ids):
        c = self.config
        if segment_ids is None:
            if c.shared_segment_embeddings:
                raise ValueError(
                    "segment_ids: they are missing, and this model has token ids as segment ids. "
                    "Pass them."
                )
            rows = [np.zeros_like(row) for row in self.prompts]
        else:
            rows = [segment_ids] if self.single else segment_ids
            check_list("segment_ids", rows)
            size = c.vocab_size if c.shared_segment_embeddings else c.segment_vocab_size
            rows = self._copied(
                [self._ids(row, f"segment_ids, row {i}", size) for i, row in enumerate(rows)]
            )
            expected, lengths = list(map(len, self.prompts)), list(map(len, rows))
            if lengths not in (expected, self.given_lengths):
                raise ValueError("segment_ids: expected as many as there are ids in each prompt.")
            rows = [row[:length] for row, length in zip(rows, expected, strict=True)]
        length = self._room(max(map(len, rows)))
        segments = np.stack([np.pad(row, (length - len(row), 0)) for row in rows])
        following = np.ones_like(segments[:, -1:]) if c.attend == "unilm" else segments[:, -1:]
        return {"segments": segments, "next_segment": following}

    def _condition(self, more_inputs):
        """Computes the condition of conditional layer normalization from the additional inputs."""
        tensors = self.transformer.more_inputs
        check_list("more_inputs", more_inputs)
        arrays = list(more_inputs)
        if len(arrays) != len(tensors):
            raise ValueError(
                f"more_inputs: expected {len(tensors)} arrays "
                f"({', '.join(t.name for t in tensors) or 'none'}), got {len(arrays)}."
            )
        if self.transformer.condition is None:
            return {}
        arrays = [np.repeat(np.asarray(x), self.copies, axis=0) for x in arrays]
        for tensor, x in zip(tensors, arrays, strict=True):
            if len(x) != len(self.prompts):
                raise ValueError(
                    f"more_inputs, {tensor.name}: expected {len(self.prompts)} rows, one for each "
                    f"sequence, got {len(x)}."
                )
        model = keras.Model(tensors, self.transformer.condition)
        return {"condition": model.predict_on_batch(arrays)}

    @staticmethod
    def _tensors(*dicts):
        return [{name: ops.convert_to_tensor(x) for name, x in d.items()} for d in dicts]


OPTIONS = inspect.signature(GenerationRequest).parameters.keys() - {
    "model",
    "inputs",
    "max_new_tokens",
}
