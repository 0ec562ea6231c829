"""Text from a model: `generate` on token ids, `generate_text` and `stream` on texts."""

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
from .program import Program
from .search import BARRED, HIDDEN, Search

MOST = 512  # new tokens, where neither the caller nor the positions set a limit
MOST_PENALTY = 1e30  # of a length to the power of the length penalty: float32 ends at 3e38
PROGRAMS = 64  # compiled ones that a model keeps
LEAST_LIKELIEST = 64  # tokens that are put in order to sample among the likeliest
STEP = 32  # prompts and answers are given room in steps, so that near lengths share a program


@dataclass(frozen=True)
class Generated:
    """One sequence that was written.

    Attributes:
        ids: the new tokens, without the stop token; int32 `(length,)`.
        score: the sum of the log-probabilities that the model gives the new tokens, the stop
            token included; of beam search, after the repetition penalty, and over the length to
            the power of the length penalty.
        finished: whether it ended with a stop token.
        text: the same as text; None where no tokenizer took part.
    """

    ids: np.ndarray
    score: float
    finished: bool
    text: str | None = None


def generate(model, inputs, max_new_tokens=None, **options):
    """Continues prompts, or answers sources.

    Args:
        model: what `build_transformer_model` gave: a model with a language-model head that is an
            encoder-decoder, or one stack that sees no later token (GPT, or `application="lm"` or
            `"unilm"`).
        inputs: token ids of a prompt, or a list of prompts of any lengths. For `"unilm"` and
            encoder-decoders, the source. Padding on the right is left out.
        max_new_tokens: how many to write at most; None: as many as there are positions for after
            the longest prompt, at most 512. So give it where an answer is not to depend on the
            other prompts.
        num_beams: width of the beam search; 1: none.
        early_stopping: when beam search closes a prompt. False: when the best running beam,
            judged by its length now, is worse than what ended; `"never"`: when it could not
            become better; True: as soon as `num_beams` sequences ended; these are transformers'
            rules. `"best"`: bert4keras': when the best beam ends; others that end are dropped.
        do_sample: draw each token at random instead of taking the best.
        top_k: draw among the `top_k` most likely tokens.
        top_p: draw among the fewest tokens that together have this probability, 0.001 to 1.
        temperature: the scores are divided by it before drawing, 0.001 to 100. Not 0: without
            `do_sample`, the most likely token is taken, whatever it is.
        repetition_penalty: above 1 lowers the scores of tokens that occurred; 0.001 to 100.
        length_penalty: of beam search: above 0 favours long sequences; -10 to 10, less for more
            than 1000 tokens.
        min_new_tokens: how many to write at least; fewer where `allowed_tokens` allows a stop
            token alone.
        num_return_sequences: how many to return for each prompt.
        stop_ids: a token, or several, that end a sequence.
        allowed_tokens: the ids that may be written; or a function of the new ids so far (a list)
            that gives them, such as a `Trie`; or a list of such functions, one for each prompt.
        segment_ids: of the prompts, in the shape of `inputs`; 0 when left out. New tokens get
            the last one, and for `"unilm"` 1.
        start_ids: what a decoder begins with; `[0]`.
        more_inputs: arrays for the model's additional inputs.
        seed: of the random choices, which are the same on every backend up to rounding.

    Returns:
        For each prompt a list of `num_return_sequences` `Generated`, best first; a single prompt
        gives its list.

    Raises:
        TypeError: an option that does not exist.
        ValueError: an option out of its range, a prompt too long, a model that cannot write.

    Example:
        >>> gpt = build_transformer_model("cpm-lm")
        >>> generate(gpt, tokenizer.encode("今天天气")[0], 20, stop_ids=tokenizer.token_end_id)
    """
    check_options("generate", options, OPTIONS, OTHER_NAMES)
    task = Task(model, inputs, max_new_tokens, **options)
    return task.results(task.run())


def generate_text(model, tokenizer, texts, max_new_tokens=None, **options):
    """`generate` for texts.

    Args:
        model, max_new_tokens, **options: see `generate`. `stop_ids` are the tokenizer's
            when left out, its end token and the checkpoint's `eos_token_id`, and `allowed_tokens`
            all that the tokenizer has: the model may have more rows.
        tokenizer: gives `encode`, `decode` and the ids of its special tokens.
        texts: a text, or a list of texts: beginnings, or sources.

    Returns:
        As `generate`, with `Generated.text`.

    Example:
        >>> generate_text(gpt, tokenizer, "今天天气", 20)[0].text
    """
    check_options("generate_text", options, OPTIONS, OTHER_NAMES)
    single = isinstance(texts, str)
    transformer = transformer_of(model)
    prompts = [prompt_of(transformer, tokenizer, text) for text in ([texts] if single else texts)]
    options = text_options(transformer, tokenizer, options)
    found = [
        [replace(one, text=tokenizer.decode(one.ids)) for one in row]
        for row in generate(transformer, prompts, max_new_tokens, **options)
    ]
    return found[0] if single else found


def stream(model, tokenizer, text, max_new_tokens=None, **options):
    """Writes like `generate_text`, and gives the text in pieces, as soon as they are decided.

    Args:
        text: one beginning, or source.
        others: see `generate_text`; one sequence, without beam search.

    Yields:
        Strings, never half a character nor what a later token changes; together they are the text
        that `generate_text` gives.
    """
    check_options("stream", options, OPTIONS, OTHER_NAMES)
    transformer = transformer_of(model)
    options = text_options(transformer, tokenizer, options)
    prompt = prompt_of(transformer, tokenizer, text)
    task = Task(transformer, prompt, max_new_tokens, **options)
    if task.search.kind == "beams" or task.copies > 1:
        raise ValueError(
            "stream: what beams will choose is known at the end only, and several samples cannot "
            "be told apart in one stream. Use num_beams=1 and num_return_sequences=1."
        )
    yield from pieces(tokenizer, (task.results(state)[0].ids for state in task.steps()))


def pieces(tokenizer, sequences):
    """The text in pieces, from sequences of ids each of which continues the last."""
    text, ids = TextStream(tokenizer), []
    for ids in sequences:
        if piece := text.piece(ids):
            yield piece
    if piece := text.piece(ids, last=True):
        yield piece


class TextStream:
    """The text of ids that grow, in pieces that no later id changes.

    Args:
        tokenizer: gives `decode` and `decode_stable`.
    """

    def __init__(self, tokenizer):
        self.tokenizer, self.length = tokenizer, 0

    def piece(self, ids, last=False):
        """What is new in the text of `ids`, all so far; with the `last` ones, all of the rest."""
        text = self.tokenizer.decode(ids) if last else self.tokenizer.decode_stable(ids)
        piece = text[self.length :]
        self.length += len(piece)
        return piece


def transformer_of(model):
    """The `Transformer` of a model that can write.

    Raises:
        ValueError: it cannot.
    """
    transformer = model if hasattr(model, "next_scores") else loading.transformer_of(model)
    config = transformer.config
    if config.stacks in ("encoder", "decoder"):
        raise ValueError(f"{config.family}: only half of the model is here; load it whole.")
    if config.stacks == "one" and config.attend == "all":
        raise ValueError(
            f"{config.family}: every token sees the later ones, so that it cannot write. Build it "
            "with application='lm' or 'unilm'; or fill in masks with gibbs_sample."
        )
    if not config.with_lm:
        raise ValueError(f"{config.family}: there is no language-model head; with_lm=True has it.")
    return transformer


def prompt_of(transformer, tokenizer, text):
    """The ids of a text that is a source, or of one to be continued."""
    ids = list(tokenizer.encode(text)[0])
    continued = transformer.config.stacks == "one" and transformer.config.attend == "lm"
    if continued and tokenizer.token_end is not None and ids[-1] == tokenizer.token_end_id:
        ids.pop()
    return ids


def text_options(transformer, tokenizer, options):
    """Options with what a tokenizer knows: where sequences end, what begins and what is a text."""
    options = {"stop_ids": getattr(tokenizer, "stop_ids", tokenizer.token_end_id), **options}
    size = getattr(tokenizer, "vocab_size", transformer.config.vocab_size)
    if options.get("allowed_tokens") is None and size < transformer.config.vocab_size:
        options["allowed_tokens"] = np.arange(size)
    if transformer.config.stacks == "both" and tokenizer.token_start is not None:
        options.setdefault("start_ids", [tokenizer.token_start_id])
    return options


# names that transformers and bert4keras give to what is an option here
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


class Task:
    """One call of `generate`: its arguments looked at, as arrays; and the way through it."""

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
        self.copies = num_return_sequences if do_sample else 1  # samples are rows like any other
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
            raise ValueError("do_sample and num_beams > 1 exclude each other: choose one.")
        if not do_sample and (top_k or top_p):
            raise ValueError("top_k and top_p are for do_sample=True.")
        most = 1 if early_stopping == "best" else num_beams
        if num_return_sequences > most and not do_sample:
            raise ValueError(
                f"num_return_sequences={num_return_sequences}: "
                + (
                    "early_stopping='best' gives one sequence."
                    if early_stopping == "best"
                    else f"there are {num_beams} beams; raise num_beams, or use do_sample=True."
                )
            )
        self.most = self._most(max_new_tokens)
        if min_new_tokens > self.most:
            raise ValueError(
                f"min_new_tokens={min_new_tokens}: expected at most {self.most}, which is "
                "max_new_tokens, or what the model has room for."
            )
        beams = num_beams > 1 or early_stopping == "best"
        if num_beams > 1 and self.most ** abs(length_penalty) > MOST_PENALTY:
            end = math.log(MOST_PENALTY, self.most)
            raise ValueError(
                f"length_penalty={length_penalty}: expected {-end:.3g} to {end:.3g} for "
                f"max_new_tokens={self.most}, as scores are float32."
            )
        self.search = Search(
            kind="sample" if do_sample else "beams" if beams else "greedy",
            width=num_beams,
            early_stopping=beams and early_stopping,
            likeliest=self._likeliest(top_k, top_p),
            penalized=repetition_penalty != 1,
            candidates=max(2, 1 + len(self.stop_ids)) if beams else 2,
        )
        self._constrain(allowed_tokens)
        size = self.config.vocab_size
        shape = (self._room(self.most), len(self.prompts), self.search.width)
        noise = (
            np.random.default_rng(seed).random(shape, "float32") if do_sample else np.zeros(shape)
        )
        stops = np.zeros(size, bool)
        stops[self.stop_ids] = True
        self.limits = {
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
        """The last state."""
        if self.choices:
            *_, state = self.steps()
            return state
        program = self._program()
        prompt, limits = self._tensors(self.arrays, self.limits | {"bias": self.bias})
        fixed, state = program.begin(prompt, limits)
        return program.run(fixed, state, limits)

    def steps(self):
        """The state after each token."""
        program = self._program()
        prompt, limits = self._tensors(self.arrays, self.limits | {"bias": self.bias})
        if self.choices:
            nothing = np.zeros((len(self.prompts), self.search.width, 0), "int32")
            limits["bias"] = self._bias_of(nothing)
        fixed, state = program.begin(prompt, limits)
        yield state
        for count in range(1, self.most):
            if not ops.convert_to_numpy(state["open"]).any():
                return
            if self.choices:
                tokens = ops.convert_to_numpy(state["tokens"])[:, :, :count]
                limits["bias"] = self._bias_of(tokens)
            state = program.step(fixed, state, limits)
            yield state

    def results(self, state):
        """What a state holds, as `generate` returns it."""
        beams = self.search.kind == "beams"
        names = ("ended_tokens", "ended_scores") if beams else ("tokens", "score")
        tokens, scores, lengths = (ops.convert_to_numpy(state[n]) for n in (*names, "lengths"))
        tokens, scores, lengths = (  # all sequences of a prompt in one row
            x.reshape(-1, self.copies * self.search.width, *x.shape[2:])
            for x in (tokens, scores, lengths)
        )
        found = []
        for row in range(len(scores)):
            ranked = []
            for i in np.argsort(-scores[row], kind="stable")[: self.count]:
                ids = tokens[row, i, : lengths[row, i]]
                finished = bool(len(ids)) and int(ids[-1]) in self.stop_ids
                ids = ids[:-1] if finished else ids
                if not ranked or scores[row, i] > BARRED:  # else no such sequence is allowed
                    ranked.append(Generated(ids, float(scores[row, i]), finished))
            found.append(ranked)
        return found[0] if self.single else found

    def _copied(self, rows):
        """Each row as often as it is to be sampled."""
        return [row for row in rows for _ in range(self.copies)]

    def _likeliest(self, top_k, top_p):
        """How many tokens `top_k` and `top_p` need in order: few sizes, as each is compiled."""
        size = self.config.vocab_size
        if top_k is None:
            return None if top_p in (None, 1) else size
        return min(max(LEAST_LIKELIEST, 1 << (int(top_k) - 1).bit_length()), size)

    def _program(self):
        """The compiled program, kept on the transformer while its variables are the same.

        Of these, the `PROGRAMS` that were used last are kept, each for arrays of one shape.
        """
        programs = vars(self.transformer).setdefault("programs", {})
        shapes = tuple((name, np.shape(x)) for name, x in (self.arrays | self.limits).items())
        key = (self.search, shapes, tuple(map(id, self.transformer.model.variables)))
        program = programs.pop(key, None) or Program(self.transformer, self.search)
        while len(programs) >= PROGRAMS:
            del programs[next(iter(programs))]
        programs[key] = program
        return program

    def _rows(self, rows):
        """Lists of ids; padding that fills up the rows of an array is taken off."""
        if not rows:
            raise ValueError("inputs: there is no prompt.")
        found = []
        for number, row in enumerate(rows):
            ids = self._ids(row, f"inputs, row {number}")
            while len(ids) > 1 and ids[-1] == self.config.pad_token_id:
                ids = ids[:-1]
            if not len(ids):
                raise ValueError(
                    f"inputs, row {number}: the prompt is empty; begin with the start token."
                )
            found.append(ids)
        check_right_padding("inputs", found, self.config.pad_token_id)
        return found

    def _ids(self, ids, name, size=None):
        """One row of ids below `size`, that of the vocabulary when left out."""
        check_list(name, ids)
        ids = integers(name, ids)
        if ids.ndim != 1:
            raise ValueError(f"{name}: expected a list of ids, got an array {ids.shape}.")
        size = size or self.config.vocab_size
        if len(ids) and not 0 <= ids.min() <= ids.max() < size:
            raise ValueError(
                f"{name}: the ids must be from 0 to {size - 1}; there are {ids.min()} to {ids.max()}."
            )
        return ids.astype("int32")

    def _most(self, max_new_tokens):
        """How many tokens to write at most."""
        c = self.config
        room = None
        if c.position == "learned" and c.stacks == "one":
            positions = c.max_position ** (2 if c.hierarchical_position else 1)
            longest = max(map(len, self.prompts))
            room = positions - longest
            if room < 1 or (max_new_tokens or 0) > room:
                wanted = f" and max_new_tokens={max_new_tokens}" if max_new_tokens else ""
                raise ValueError(
                    f"a prompt of {longest} tokens{wanted} need more than the {positions} positions "
                    "of this model: shorten it, or build with hierarchical_position=True."
                )
        if max_new_tokens is None and not self.stop_ids:
            raise ValueError(
                "there is no end: give max_new_tokens, or stop_ids (the id of the end token)."
            )
        return int(max_new_tokens or (MOST if room is None else min(room, MOST)))

    @staticmethod
    def _room(length):
        return -(-length // STEP) * STEP

    def _constrain(self, allowed):
        """Sets `bias`, or, for functions, `choices`: one for each prompt."""
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
                    f"allowed_tokens: {len(allowed)} functions for "
                    f"{len(self.prompts) // self.copies} prompts."
                )
        else:
            ids = self._ids(allowed, "allowed_tokens")
            if not len(ids):
                raise ValueError("allowed_tokens: no token is allowed.")
            self.bias += HIDDEN
            self.bias[..., [*ids, *self.stop_ids]] = 0

    def _bias_of(self, tokens):
        """What the functions allow after `tokens` `(batch, width, length)`, to add to scores."""
        bias = np.full((*tokens.shape[:2], self.config.vocab_size), HIDDEN, "float32")
        for row, choice in enumerate(self.choices):
            for beam in range(tokens.shape[1]):
                ids = list(choice(tokens[row, beam].tolist()))
                if not ids and not self.stop_ids:
                    raise ValueError(
                        "allowed_tokens allows nothing more: give stop_ids, which then end the text."
                    )
                bias[row, beam, self._ids(ids or self.stop_ids, "allowed_tokens")] = 0
        return ops.convert_to_tensor(bias)

    def _arrays(self, segment_ids, start_ids, more_inputs):
        """The inputs of `Program`."""
        c, begin = self.config, self._ids(start_ids, "start_ids")
        if not len(begin):
            raise ValueError("start_ids: expected at least one id, with which a decoder begins.")
        if c.stacks == "both":
            lengths = np.array([[len(row)] for row in self.prompts], "int32")
            sources = sequence_padding(self.prompts, length=self._room(lengths.max()))
            arrays = {"source": sources, "lengths": lengths}
            arrays["tokens"] = np.tile(begin, (len(sources), 1))
            arrays["start"] = np.zeros((len(sources), 1), "int32")
        else:
            arrays = self._filled_up(self.prompts)
        if c.has_segments:
            arrays |= self._segments(segment_ids)
        elif segment_ids is not None:
            raise ValueError(f"segment_ids: {c.family} has no segments.")
        return arrays | self._condition(more_inputs)

    def _filled_up(self, rows):
        """Rows that end at the same slot, and where each begins."""
        length = self._room(max(map(len, rows)))
        tokens = np.zeros((len(rows), length), "int32")
        start = np.array([[length - len(row)] for row in rows], "int32")
        for into, row in zip(tokens, rows, strict=True):
            into[length - len(row) :] = row
        return {"tokens": tokens, "start": start}

    def _segments(self, segment_ids):
        c = self.config
        if segment_ids is None:
            if c.shared_segment_embeddings:
                raise ValueError("segment_ids: this model takes tokens for them; give them.")
            rows = [np.zeros_like(row) for row in self.prompts]
        else:
            rows = [segment_ids] if self.single else segment_ids
            check_list("segment_ids", rows)
            size = c.vocab_size if c.shared_segment_embeddings else c.segment_vocab_size
            rows = self._copied(
                [self._ids(row, f"segment_ids, row {i}", size) for i, row in enumerate(rows)]
            )
            wanted, lengths = list(map(len, self.prompts)), list(map(len, rows))
            if lengths not in (wanted, self.given_lengths):
                raise ValueError("segment_ids: expected as many as there are ids in each prompt.")
            rows = [row[:length] for row, length in zip(rows, wanted, strict=True)]
        length = self._room(max(map(len, rows)))
        segments = np.stack([np.pad(row, (length - len(row), 0)) for row in rows])
        following = np.ones_like(segments[:, -1:]) if c.attend == "unilm" else segments[:, -1:]
        return {"segments": segments, "next_segment": following}

    def _condition(self, more_inputs):
        """What conditional normalization hangs on, computed once."""
        tensors = self.transformer.more_inputs
        check_list("more_inputs", more_inputs)
        more = list(more_inputs)
        if len(more) != len(tensors):
            raise ValueError(
                f"more_inputs: expected {len(tensors)} arrays "
                f"({', '.join(t.name for t in tensors) or 'none'}), got {len(more)}."
            )
        if self.transformer.condition is None:
            return {}
        more = [np.repeat(np.asarray(x), self.copies, axis=0) for x in more]
        for tensor, x in zip(tensors, more, strict=True):
            if len(x) != len(self.prompts):
                raise ValueError(
                    f"more_inputs, {tensor.name}: {len(x)} rows for {len(self.prompts)} sequences."
                )
        model = keras.Model(tensors, self.transformer.condition)
        return {"condition": model.predict_on_batch(more)}

    @staticmethod
    def _tensors(*dicts):
        return [{name: ops.convert_to_tensor(x) for name, x in d.items()} for d in dicts]


OPTIONS = inspect.signature(Task).parameters.keys() - {"model", "inputs", "max_new_tokens"}
