"""The request of a generation: checked arguments, arrays made of them, and their results."""

import math
from dataclasses import KW_ONLY, dataclass

import keras
import numpy as np
from keras import ops

from ..arguments import MOST, check_flags, check_list, check_ranges, check_right_padding, integers
from ..data import sequence_padding
from ..layers.values import NEG_INF
from .compiled_loop import CompiledLoop
from .decoding import generating_transformer
from .forbidden import context_of, table_of, window_of
from .search import BARRED, DecodingConfig

__all__ = ["DEFAULT_NEW_TOKENS", "PROGRAMS", "STEP", "Generated", "GenerationRequest", "rounded_up"]

DEFAULT_NEW_TOKENS = 512  # at most, if neither the caller nor the positions set a limit
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


@dataclass(eq=False, repr=False)
class GenerationRequest:
    """One call of `generate`: checks its arguments, makes arrays of them, and runs the loop.

    Args: see `generate`.

    Attributes:
        transformer, config: of the model.
        single: whether `inputs` is one prompt.
        copies: number of rows of the batch for each prompt: each sample is a row.
        prompts: the ids of each row, without padding.
        begin: first ids of a decoder.
        most: maximum number of new tokens.
        search: the `DecodingConfig`.
        choices: for each row, the function that returns the allowed tokens; None: there is none.
        bias: on logits, `(1, 1, vocab_size)`, for allowed tokens that are the same everywhere.
        table: bad words of several tokens, see `table_of`.
        arrays, sampling_params: arrays of the prompts and of the options, by name: see
            `CompiledLoop` and `search.choose`.
        past: keys and values of the first tokens, see `CompiledLoop`; set by `Past`.

    Raises:
        ValueError, TypeError: see `generate`.
    """

    model: object
    inputs: object
    max_new_tokens: int | None = None
    _: KW_ONLY
    num_beams: int = 1
    early_stopping: bool | str = False
    do_sample: bool = False
    top_k: int | None = None
    top_p: float | None = None
    temperature: float = 1.0
    repetition_penalty: float = 1.0
    length_penalty: float = 1.0
    min_new_tokens: int = 0
    num_return_sequences: int = 1
    no_repeat_ngram_size: int = 0
    bad_words_ids: object = None
    suppress_tokens: object = None
    begin_suppress_tokens: object = None
    stop_ids: object = None
    allowed_tokens: object = None
    segment_ids: object = None
    start_ids: object = None
    more_inputs: object = ()
    seed: int | None = None

    def __post_init__(self):
        self._check_ranges()
        self.transformer = generating_transformer(self.model)
        self.config = self.transformer.config
        check_list("inputs", self.inputs)
        self.single = len(self.inputs) > 0 and np.ndim(self.inputs[0]) == 0
        self.copies = self.num_return_sequences if self.do_sample else 1
        rows = [self.inputs] if self.single else list(self.inputs)
        self.given_lengths = self._copied(list(map(np.size, rows)))
        self.prompts = self._copied(self._rows(rows))
        stop_ids = [] if self.stop_ids is None else np.ravel(self.stop_ids)
        self.stop_ids = sorted(set(self._ids(stop_ids, "stop_ids").tolist()))
        self.begin = self._begin()
        self._check_combinations()
        self.most = self._most()
        self._check_length_penalty()
        self._constrain()
        _suppress(self)
        self.search = self._search()
        self.arrays = self._arrays()
        self.sampling_params = self._sampling_params()
        self.past = []

    def _check_ranges(self):
        """Checks the options that are numbers, each by itself."""
        check_ranges(
            num_beams=self.num_beams,
            num_return_sequences=self.num_return_sequences,
            min_new_tokens=self.min_new_tokens,
            no_repeat_ngram_size=self.no_repeat_ngram_size,
            temperature=self.temperature,
            repetition_penalty=self.repetition_penalty,
            length_penalty=self.length_penalty,
            max_new_tokens=self.max_new_tokens,
            top_k=self.top_k,
            top_p=self.top_p,
            seed=self.seed,
        )
        check_flags({"do_sample": True}, {"do_sample": self.do_sample})

    def _check_combinations(self):
        """Checks the options of sampling and of beam search together."""
        early_stopping = self.early_stopping
        if not isinstance(early_stopping, bool) and early_stopping not in ("never", "best"):
            raise ValueError(
                f"early_stopping={early_stopping!r}: expected False, True, 'never' or 'best'."
            )
        if self.do_sample and self.num_beams > 1:
            raise ValueError(
                "do_sample, num_beams: sampling and beam search exclude each other. Choose one."
            )
        if not self.do_sample and (self.top_k or self.top_p):
            raise ValueError("top_k, top_p: they are for do_sample=True. Set it, or omit them.")
        most = 1 if early_stopping == "best" else self.num_beams
        if self.num_return_sequences > most and not self.do_sample:
            raise ValueError(
                f"num_return_sequences={self.num_return_sequences}: "
                + (
                    "early_stopping='best' returns one sequence."
                    if early_stopping == "best"
                    else f"expected at most num_beams={self.num_beams}. Raise num_beams, or use "
                    "do_sample=True."
                )
            )

    def _check_length_penalty(self):
        """Checks that the scores of the longest sequences are finite."""
        if self.num_beams > 1 and self.most ** abs(self.length_penalty) > MOST_PENALTY:
            limit = math.log(MOST_PENALTY, self.most)
            raise ValueError(
                f"length_penalty={self.length_penalty}: expected {-limit:.3g} to {limit:.3g} for "
                f"max_new_tokens={self.most}, as scores are float32."
            )

    def _search(self):
        """Returns the `DecodingConfig`."""
        with_beams = self.num_beams > 1 or self.early_stopping == "best"
        return DecodingConfig(
            kind="sample" if self.do_sample else "beams" if with_beams else "greedy",
            width=self.num_beams,
            early_stopping=with_beams and self.early_stopping,
            likeliest=self._likeliest(),
            penalized=self.repetition_penalty != 1,
            forced=self._forced_ids() != [-1, -1],
            candidates=max(2, 1 + len(self.stop_ids)) if with_beams else 2,
            forbids=bool(self.no_repeat_ngram_size or len(self.table)),
            ngram_window=self.no_repeat_ngram_size and window_of(self.no_repeat_ngram_size),
        )

    def _forced_ids(self):
        """Returns the ids of the first and of the last token that the config forces, or -1."""
        c = self.config
        ids = c.forced_start_id, c.forced_end_id
        return [-1 if c.stacks == "one" or i is None else i for i in ids]

    def _sampling_params(self):
        """Returns the arrays of the options, by name: see `search.choose`."""
        size = self.config.vocab_size
        shape = (rounded_up(self.most), len(self.prompts), self.search.width)
        noise = np.zeros(shape)
        if self.do_sample:
            noise = np.random.default_rng(self.seed).random(shape, "float32")
        stops, begin_suppressed = np.zeros((2, size), bool)
        stops[self.stop_ids] = True
        begin_suppressed[self.begin_suppress_tokens] = True
        forced_start, forced_end = self._forced_ids()
        return _forbidden(self) | {
            "most": np.int32(self.most),
            "least": np.int32(self.min_new_tokens),
            "stops": stops,
            "begin_suppressed": begin_suppressed,
            "temperature": np.float32(self.temperature),
            "top_k": np.int32(min(self.top_k or size, size)),
            "top_p": np.float32(np.inf if self.top_p in (None, 1) else self.top_p),
            "repetition_penalty": np.float32(self.repetition_penalty),
            "length_penalty": np.float32(self.length_penalty),
            "forced_start": np.int32(forced_start),
            "forced_end": np.int32(forced_end),
            "noise": noise.transpose(1, 2, 0).astype("float32"),
        }

    def run(self):
        """Generates all tokens; returns the last `State`."""
        if self.choices:
            *_, state = self.steps()
            return state
        loop = self._program()
        prompt, sampling_params = self._inputs()
        fixed, state = loop.begin(prompt, sampling_params)
        return loop.run(fixed, state, sampling_params)

    def steps(self):
        """Generates token by token; yields the `State` after each."""
        loop = self._program()
        prompt, sampling_params = self._inputs()
        if self.choices:
            no_tokens = np.zeros((len(self.prompts), self.search.width, 0), "int32")
            sampling_params["bias"] = self._bias_of(no_tokens)
        fixed, state = loop.begin(prompt, sampling_params)
        yield state
        for count in range(1, self.most):
            if not ops.convert_to_numpy(state.open).any():
                return
            if self.choices:
                tokens = ops.convert_to_numpy(state.tokens)[:, :, :count]
                sampling_params["bias"] = self._bias_of(tokens)
            state = loop.step(fixed, state, sampling_params)
            yield state

    def results(self, state):
        """Converts a `State` to the `Generated` sequences that `generate` returns."""
        with_beams = self.search.kind == "beams"
        names = ("ended_tokens", "ended_scores") if with_beams else ("tokens", "score")
        tokens, scores, lengths = (
            ops.convert_to_numpy(getattr(state, name)) for name in (*names, "lengths")
        )
        tokens, scores, lengths = (  # all sequences of a prompt in one row
            x.reshape(-1, self.copies * self.search.width, *x.shape[2:])
            for x in (tokens, scores, lengths)
        )
        results = []
        for row in range(len(scores)):
            ranked = []
            for i in np.argsort(-scores[row], kind="stable")[: self.num_return_sequences]:
                ids = tokens[row, i, : lengths[row, i]]
                finished = bool(len(ids)) and int(ids[-1]) in self.stop_ids
                ids = ids[:-1] if finished else ids
                if not ranked:
                    _check_allowed(self.search, scores[row, i], lengths[row, i])
                if not ranked or scores[row, i] > BARRED:  # drops sequences that are not allowed
                    ranked.append(Generated(ids, float(scores[row, i]), finished))
            results.append(ranked)
        return results[0] if self.single else results

    def _copied(self, rows):
        """Repeats each row as often as it is sampled."""
        return [row for row in rows for _ in range(self.copies)]

    def _likeliest(self):
        """Returns how many tokens to sort for `top_k` and `top_p`: few sizes, as each compiles."""
        size = self.config.vocab_size
        if self.top_k is None:
            return None if self.top_p in (None, 1) else size
        return min(max(LEAST_LIKELIEST, 1 << (int(self.top_k) - 1).bit_length()), size)

    def _program(self):
        """Returns the compiled loop, cached on the transformer while its variables are the same.

        The cache has the `PROGRAMS` most recently used ones, each for arrays of one set of shapes.
        """
        programs = vars(self.transformer).setdefault("programs", {})
        shapes = tuple(
            (name, np.shape(x)) for name, x in (self.arrays | self.sampling_params).items()
        )
        known = self.past[0][0].shape[-1] if self.past else 0
        key = (self.search, shapes, known, tuple(map(id, self.transformer.model.variables)))
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

    def _begin(self):
        """Returns the first ids of a decoder: those of `start_ids`, of the config, or 0."""
        ids = [self.config.decoder_start_id or 0] if self.start_ids is None else self.start_ids
        begin = self._ids(ids, "start_ids")
        if not len(begin):
            raise ValueError("start_ids: expected at least one id to start a decoder, got none.")
        return begin

    def _most(self):
        """Returns the maximum number of new tokens."""
        c, max_new_tokens = self.config, self.max_new_tokens
        room = None
        if c.most_tokens:
            positions = c.most_tokens
            longest = max(map(len, self.prompts))
            if c.stacks == "one":
                room = positions - longest
            else:  # the decoder never sees the last new token
                room = 0 if longest > positions else positions - len(self.begin) + 1
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
        default = DEFAULT_NEW_TOKENS if room is None else min(room, DEFAULT_NEW_TOKENS)
        most = int(max_new_tokens or default)
        if self.min_new_tokens > most:
            raise ValueError(
                f"min_new_tokens={self.min_new_tokens}: expected at most {most}, which is "
                "max_new_tokens, or the number of positions that are left."
            )
        return most

    def _constrain(self):
        """Sets `bias`, or, for functions, `choices`: a function for each prompt."""
        allowed = self.allowed_tokens
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
                ids = choice(tokens[row, beam].tolist())
                check_list("allowed_tokens, result of the function", ids)
                ids = list(ids)
                if not ids and not self.stop_ids:
                    raise ValueError(
                        "allowed_tokens: the function allows no further token. Pass stop_ids, one "
                        "of which then ends the text."
                    )
                bias[row, beam, self._ids(ids or self.stop_ids, "allowed_tokens")] = 0
        return ops.convert_to_tensor(np.minimum(bias, self.bias))

    def _arrays(self):
        """Returns the input arrays of `CompiledLoop`, by name."""
        c = self.config
        if c.stacks == "both":
            lengths = np.array([[len(row)] for row in self.prompts], "int32")
            length = min(rounded_up(lengths.max()), c.most_tokens or MOST)
            sources = sequence_padding(self.prompts, length=length)
            arrays = {"source": sources, "lengths": lengths}
            arrays["tokens"] = np.tile(self.begin, (len(sources), 1))
            arrays["start"] = np.zeros((len(sources), 1), "int32")
        else:
            arrays = _left_padded(self.prompts, rounded_up(max(map(len, self.prompts))))
        if c.has_segments:
            arrays |= self._segments()
        elif self.segment_ids is not None:
            raise ValueError(f"segment_ids: {c.family} has no segments. Omit them.")
        return arrays | self._condition()

    def _segments(self):
        """Returns the segment ids of the prompts, and that of new tokens."""
        c = self.config
        if self.segment_ids is None:
            if c.shared_segment_embeddings:
                raise ValueError(
                    "segment_ids: they are missing, and this model has token ids as segment ids. "
                    "Pass them."
                )
            rows = [np.zeros_like(row) for row in self.prompts]
        else:
            rows = [self.segment_ids] if self.single else self.segment_ids
            check_list("segment_ids", rows)
            size = c.vocab_size if c.shared_segment_embeddings else c.segment_vocab_size
            rows = self._copied(
                [self._ids(row, f"segment_ids, row {i}", size) for i, row in enumerate(rows)]
            )
            expected, lengths = list(map(len, self.prompts)), list(map(len, rows))
            if lengths not in (expected, self.given_lengths):
                raise ValueError("segment_ids: expected as many as there are ids in each prompt.")
            rows = [row[:length] for row, length in zip(rows, expected, strict=True)]
        length = rounded_up(max(map(len, rows)))
        segments = np.stack([np.pad(row, (length - len(row), 0)) for row in rows])
        following = np.ones_like(segments[:, -1:]) if c.attend == "unilm" else segments[:, -1:]
        return {"segments": segments, "next_segment": following}

    def _condition(self):
        """Computes the condition of conditional layer normalization from the additional inputs."""
        tensors = self.transformer.more_inputs
        check_list("more_inputs", self.more_inputs)
        arrays = list(self.more_inputs)
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

    def _inputs(self):
        """Returns the tensors of the prompts and of the options, by name: see `CompiledLoop`."""
        options = self.sampling_params | {"bias": self.bias}
        arrays = self.arrays | ({"past": self.past} if self.past else {})
        return keras.tree.map_structure(ops.convert_to_tensor, [arrays, options])


def rounded_up(length):
    """Returns the next multiple of `STEP`."""
    return -(-length // STEP) * STEP


def _suppress(request):
    """Adds what is forbidden to `bias`; sets `table`, the bad words of several tokens.

    A bad word that is a stop token alone does not bar it, as in transformers.
    """
    words = [] if request.bad_words_ids is None else request.bad_words_ids
    check_list("bad_words_ids", words)
    words = [request._ids(word, f"bad_words_ids, word {i}") for i, word in enumerate(words)]
    if any(not len(word) for word in words):
        raise ValueError("bad_words_ids: expected at least one id in each word, got none.")
    for name in ("suppress_tokens", "begin_suppress_tokens"):
        ids = getattr(request, name)
        setattr(request, name, request._ids([] if ids is None else ids, name))
    words = sorted({tuple(map(int, word)) for word in words})
    alone = [word[0] for word in words if len(word) == 1 and word[0] not in request.stop_ids]
    request.table = table_of([word for word in words if len(word) > 1])
    request.bias[..., [*request.suppress_tokens, *alone]] = NEG_INF
    remaining = np.delete(request.bias[0, 0], request.begin_suppress_tokens)
    if (remaining < 0).all():
        raise ValueError(
            "suppress_tokens, begin_suppress_tokens, bad_words_ids: they forbid all tokens "
            "that allowed_tokens allows. Forbid fewer."
        )


def _forbidden(request):
    """Returns the arrays of bad words and n-grams, by name: see `forbidden_tokens`."""
    if not request.search.forbids:
        return {}
    tokens, start = request.arrays["tokens"], request.arrays["start"]
    return {
        "bad_words": request.table,
        "ngram_size": np.int32(request.no_repeat_ngram_size),
        "context": context_of(tokens, start, request.search.ngram_window, request.table),
    }


def _check_allowed(search, score, length):
    """Raises if the score of the best sequence says that no token was allowed."""
    summed = search.kind != "beams" or search.early_stopping == "best"
    if score <= (NEG_INF / 2 if summed else BARRED):
        raise ValueError(
            f"generate: the options forbid every token within the first {length} new ones. "
            "Forbid fewer by no_repeat_ngram_size, bad_words_ids or suppress_tokens, or pass "
            "stop_ids or a smaller max_new_tokens."
        )


def _left_padded(rows, length):
    """Pads rows on the left to a length; returns the tokens and where each row starts."""
    tokens = np.zeros((len(rows), length), "int32")
    start = np.array([[length - len(row)] for row in rows], "int32")
    for padded, row in zip(tokens, rows, strict=True):
        padded[length - len(row) :] = row
    return {"tokens": tokens, "start": start}
