"""What a checkpoint can do for a request: each ability looks at texts, and answers batches of them.

An ability is made of a model or says why it cannot be (`UnsupportedTask`). `prepare` turns a text into what
the model needs to know of it, or says what is wrong with it (`InvalidRequest`); `key` tells which of these
may share a forward pass; `program` answers the jobs of a `Worker`.
Numbers are checked here: of what is not finite, no answer is made.
"""

import os
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from .. import layers
from ..checkpoints import CheckpointError
from ..data import sequence_padding
from ..generation.generate import (
    PROGRAMS,
    STEP,
    GenerationRequest,
    TextStream,
    prompt_of,
    text_options,
    transformer_of,
)
from ..hub import local_directory
from ..metrics import bio_spans
from ..models import build_transformer_model
from ..tokenizers import load_tokenizer
from ..tokenizers.added import AddedToken, Finder, parts
from .attention import attention_model
from .entities import are_logits, decoder_of, load_tagger
from .worker import Failed

EXAMPLE = "今天天气真好"  # what a server tries at its start
SPANS = 100_000  # that are looked at in one text
MASKS = 16  # in one text
CANDIDATES = 50  # for a mask
SHORTEST = 16  # tokens of the shortest batches
LONGEST_LOOK = 128  # tokens of a text whose attention is shown: the numbers grow with the square
# layers of taggers that keep to the mask, do so if it comes to them, or look at each token by itself
MASKED = {
    keras.layers.InputLayer,
    layers.ConditionalRandomField,
    layers.EfficientGlobalPointer,
    layers.GlobalPointer,
    layers.MaximumEntropyMarkovModel,
    layers.PositionEmbedding,
    layers.Positions,
    layers.RelativeVectors,
    layers.RotaryAngles,
}
RECURRENT = {
    keras.layers.Bidirectional,
    keras.layers.GRU,
    keras.layers.LSTM,
    keras.layers.SimpleRNN,
}
TOKEN_BY_TOKEN = {
    layers.Dropout,
    layers.FeedForward,
    layers.LayerNormalization,
    layers.ScaleOffset,
    keras.layers.Activation,
    keras.layers.Add,
    keras.layers.BatchNormalization,
    keras.layers.Concatenate,
    keras.layers.Dense,
    keras.layers.Dropout,
    keras.layers.GaussianNoise,
    keras.layers.LayerNormalization,
    keras.layers.LeakyReLU,
    keras.layers.Multiply,
    keras.layers.ReLU,
    keras.layers.SpatialDropout1D,
}


class UnsupportedTask(ValueError):
    """What this checkpoint cannot do, and why."""


class InvalidRequest(ValueError):
    """What is wrong with a text or a setting."""


class Encoded(NamedTuple):
    """A text in tokens.

    Attributes:
        text: as it came.
        ids: of the tokens.
        offsets: where each token starts and ends in the text; None where nobody asked.
    """

    text: str
    ids: list
    offsets: list | None = None


class Masked(NamedTuple):
    """A text with masks, in tokens.

    Attributes:
        text, ids: see `Encoded`.
        places: which of the tokens are masks.
    """

    text: str
    ids: list
    places: list


class Inspected(NamedTuple):
    """A text whose attention is asked for.

    Attributes:
        text, ids, offsets: see `Encoded`.
        layers, heads: the numbers of those that are given, in this order.
    """

    text: str
    ids: list
    offsets: list
    layers: list
    heads: list


class OnePass:
    """What is answered by one forward pass.

    Args:
        model: a `keras.Model` of token ids and, if it wants them, segment ids, and so on.
        tokenizer: of the model.
        longest: how many tokens a text may have; None: any number.
        filler: the id that fills up batches, which the model's tokens do not see; None: there is
            none, and the texts of a batch have one length.

    Raises:
        UnsupportedTask: the model takes texts of one length only, and nothing fills them up.
    """

    writes = False
    example = EXAMPLE

    def __init__(self, model, tokenizer, longest=None, filler=None):
        self.model, self.tokenizer, self.longest, self.filler = model, tokenizer, longest, filler
        self.fixed = model.inputs[0].shape[1]  # the length of all texts; None: any
        if self.fixed is not None:
            if filler is None:
                raise UnsupportedTask(
                    f"the model is for texts of {self.fixed} tokens and has no padding; build it "
                    "without sequence_length."
                )
            self.longest = min(longest or self.fixed, self.fixed)
        tables = token_tables(model)
        self.vocab_size = tables[0].input_dim if tables else None
        self.shapes = set()  # those of inputs for which there are compiled programs
        if keras.backend.backend() == "tensorflow":
            model.compile(jit_compile=False)  # XLA would compile for seconds at each new shape

    def prepare(self, text):
        ids, _, offsets = self.tokenizer.encode(text, return_offsets=True)
        if not any(start < end for start, end in offsets):
            raise InvalidRequest("there is nothing to read in this text.")
        return Encoded(text, self.fitting(ids), offsets)

    def fitting(self, ids):
        if self.longest is not None and len(ids) > self.longest:
            raise InvalidRequest(f"{len(ids)} tokens; at most {self.longest} fit.")
        if self.vocab_size is not None:
            check_ids(ids, self.vocab_size, self.tokenizer)
        return ids

    def key(self, item):
        """Lengths of batches are powers of two, so that compiled programs are few."""
        if self.fixed is not None:
            return self.fixed
        if self.filler is None:
            return len(item.ids)
        length = max(SHORTEST, power_of_two(len(item.ids)))
        return length if self.longest is None else min(length, self.longest)

    def program(self, jobs):
        for job, output in zip(jobs, self.predicted([job.item for job in jobs]), strict=True):
            with job.errors():
                job.tell(self.answer(job.item, output))
                job.end()
        yield

    def predicted(self, items):
        """What `answer` needs of the model's outputs, for each item."""
        return self.outputs([item.ids for item in items], self.key(items[0]))

    def outputs(self, rows, length, *more):
        """The model's outputs for rows of ids; `more` arrays go in behind ids and segments."""
        ids = sequence_padding(rows, length=length, value=self.filler or 0)
        inputs = [ids, np.zeros_like(ids)][: len(self.model.inputs) - len(more)]
        inputs = [filled_up(x) for x in (*inputs, *more)]
        self.shapes.add(inputs[0].shape)
        if len(self.shapes) > PROGRAMS:  # clients choose the lengths, and a program takes megabytes
            self.model.make_predict_function(force=True)
            self.shapes = {inputs[0].shape}
        return ops.convert_to_numpy(self.model.predict_on_batch(inputs))[: len(rows)]


def token_tables(model):
    """The layers that look up the vectors of tokens, also those of models within the model."""
    return [x for x in model._flatten_layers() if isinstance(x, layers.TokenEmbedding)]


def check_ids(ids, vocab_size, tokenizer):
    """Raises where the model has no vector of a token, or there is no token.

    Raises:
        InvalidRequest: names the token.
    """
    if None in ids:
        raise InvalidRequest(
            f"a character is not in the vocabulary, which has no {tokenizer.token_unk}."
        )
    if max(ids) >= vocab_size:
        raise InvalidRequest(
            f"token {tokenizer.id_to_token(max(ids))!r} has the id {max(ids)}; the model has "
            f"vectors up to {vocab_size - 1}."
        )


def finite(array):
    """The array.

    Raises:
        Failed: some of its numbers are not finite.
    """
    if not np.isfinite(array).all():
        raise Failed("the model gives numbers that are not finite: its weights may hold NaN")
    return array


def power_of_two(count):
    """The least one that is not smaller."""
    return 1 << (count - 1).bit_length()


def filled_up(rows):
    """As many rows as the next power of two: the last one again and again."""
    rows = np.asarray(rows)
    return rows[np.minimum(np.arange(power_of_two(len(rows))), len(rows) - 1)]


def longest_of(transformer):
    """How many tokens a text may have for this model; None: any number."""
    c = transformer.config
    learned = c.position == "learned"
    return c.max_position ** (2 if c.hierarchical_position else 1) if learned else None


def encoder_of(transformer):
    """A model from token ids and segment ids to the last hidden states."""
    c = transformer.config
    if transformer.more_inputs or c.custom_position_ids or c.shared_segment_embeddings:
        raise UnsupportedTask("this model takes more than a text.")
    if c.stacks == "decoder":
        raise UnsupportedTask(f"{c.family}: a decoder without its encoder reads no text.")
    if c.stacks != "one":
        model = transformer.model if c.stacks == "encoder" else transformer.encoder
        return keras.Model(model.inputs, model.output)
    states = transformer.hidden_states[-1]
    if c.final_norm:
        states = transformer.normalize("final_norm", states)
    return keras.Model(transformer.inputs, states)


class FillMask(OnePass):
    """What could stand at each [MASK] of a text.

    Args:
        transformer, tokenizer: of the checkpoint.
        masks: that a text may have.
        top: candidates for a mask.
    """

    def __init__(self, transformer, tokenizer, masks=MASKS, top=CANDIDATES):
        self.most_masks, self.top = masks, top
        c = transformer.config
        if c.stacks != "one" or c.attend == "lm":
            raise UnsupportedTask(
                f"{c.family}: this model sees nothing of what follows a mask; it writes."
            )
        if not c.with_lm:
            raise UnsupportedTask(f"{c.family}: there is no masked-language-model head.")
        if tokenizer.token_mask_id is None:
            raise UnsupportedTask(f"the vocabulary has no {tokenizer.token_mask}.")
        mask = tokenizer.token_mask
        if others := [k for k, v in tokenizer.special_tokens.items() if v == mask and k != "mask"]:
            raise UnsupportedTask(
                f"{mask} is not for masks alone: it is the tokenizer's token_{others[0]}."
            )
        self.finder = Finder({mask: tokenizer.added_tokens.get(mask, AddedToken(mask))})
        self.example = f"{mask} {EXAMPLE}"
        states = encoder_of(transformer).output
        # the vocabulary is scored at the masks alone
        places = keras.Input((masks,), dtype="int32", name="places")
        states = ops.take_along_axis(states, ops.expand_dims(places, -1), axis=1)
        scores = transformer.token_scores(states)
        shares = keras.layers.Softmax(dtype="float32")(scores)
        model = keras.Model([*transformer.inputs, places], shares)
        super().__init__(model, tokenizer, longest_of(transformer), c.filler)

    def prepare(self, text):
        t = self.tokenizer
        masks = self.finder.find(text)
        if not 1 <= len(masks) <= self.most_masks:
            raise InvalidRequest(
                f"{len(masks)} times {t.token_mask}; expected 1 to {self.most_masks}, each "
                "where a token is to be found."
            )
        start = [] if t.token_start is None else [t.token_start_id]
        end = [] if t.token_end is None else [t.token_end_id]
        ids, places = [*start], []
        for begin, stop, mask in parts(text, masks):
            row = t.encode(text[begin:stop])[0]
            places += [len(ids)] if mask else []
            ids += [t.token_mask_id] if mask else row[len(start) : len(row) - len(end)]
        return Masked(text, self.fitting([*ids, *end]), places)

    def predicted(self, items):
        padded = sequence_padding([item.places for item in items], length=self.most_masks)
        return self.outputs([item.ids for item in items], self.key(items[0]), padded)

    def answer(self, item, probs):
        return [self.candidates(row) for row in finite(probs[: len(item.places)])]

    def candidates(self, probs):
        """`(token, probability)` of the likeliest tokens, the best first."""
        probs = probs[: self.tokenizer.vocab_size]  # the model may have more rows than tokens
        count = min(self.top, len(probs))
        best = np.argpartition(-probs, count - 1)[:count]
        best = best[np.argsort(-probs[best], kind="stable")]
        return [(self.tokenizer.id_to_token(int(i)), float(probs[i])) for i in best]


class SentenceVectors(OnePass):
    """The mean of the last hidden states of a text's tokens, and the first of these states."""

    def __init__(self, transformer, tokenizer):
        filler = transformer.config.filler
        super().__init__(encoder_of(transformer), tokenizer, longest_of(transformer), filler)

    def answer(self, item, states):
        states = states[: len(item.ids)].astype("float32")
        words = [start < end for start, end in item.offsets]
        # a copy: a view would keep all the states
        return {"mean": finite(states[words].mean(axis=0)), "cls": finite(states[0].copy())}


class Attention(OnePass):
    """How much each token attends to each other one: `(layers, heads, tokens, tokens)`."""

    def __init__(self, transformer, tokenizer):
        encoder_of(transformer)
        try:
            model = attention_model(transformer)
        except ValueError as error:
            raise UnsupportedTask(str(error)) from None
        if (transformer.config.sequence_length or 0) > LONGEST_LOOK:
            raise UnsupportedTask(
                f"attention is shown of {LONGEST_LOOK} tokens; the model takes more."
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


class Entities(OnePass):
    """Spans `(start, end, kind)` of characters, by a fine-tuned model.

    Args:
        model, labels, tokenizer: see `save_tagger`.

    Raises:
        UnsupportedTask: the model takes more than a text; or see `OnePass`.
    """

    def __init__(self, model, labels, tokenizer):
        self.labels, self.decoder = labels, decoder_of(model)
        if len(model.inputs) > 2:
            names = ", ".join(x.name for x in model.inputs)
            raise UnsupportedTask(f"the model takes {names}; expected token ids and segment ids.")
        fixed = model.inputs[0].shape[1] is not None
        hidden = {table.pad_token_id for table in token_tables(model)}
        filler = hidden.pop() if len(hidden) == 1 else -1
        # layers beside and on top of the blocks may see more than the tokens do: only what nothing
        # sees fills up, or what was seen in training, too
        known = filler >= 0 and (fixed or sees_no_padding(model, filler))
        super().__init__(model, tokenizer, positions_of(model), filler if known else None)

    def predicted(self, items):
        """The scores of each item, and its likeliest tags; None if they are scores of spans."""
        scores, tokens = super().predicted(items), self.key(items[0])
        if not are_logits(scores.shape, len(self.labels), tokens):
            raise Failed(f"the model gives {scores.shape[1:]} numbers for {tokens} tokens")
        tags = [None] * len(items) if scores.ndim == 4 else self.tags(scores)
        return zip(scores, tags, strict=True)

    def tags(self, scores):
        if self.decoder is None:
            return scores.argmax(-1)
        for weight in self.decoder.weights:
            possible(ops.convert_to_numpy(weight))
        # for the NaN of one text, `decode` would refuse the whole batch
        return ops.convert_to_numpy(self.decoder.decode(np.where(np.isnan(scores), 0, scores)))

    def answer(self, item, output):
        (scores, tags), size = output, len(item.ids)
        if tags is None:
            spans = self.spans(possible(scores[:, :size, :size]))
        else:
            possible(scores[:size])
            spans = bio_spans(self.names(tags[:size], item))
        return self.in_text(spans, item)

    def names(self, tags, item):
        """The names of tags; `"O"` of special tokens, which belong to no span, and hidden ones."""
        return [
            self.labels[tag] if tag >= 0 and start < end else "O"
            for tag, (start, end) in zip(tags, item.offsets, strict=True)
        ]

    def spans(self, scores):
        """Where the scores `(kinds, tokens, tokens)` are above 0."""
        places = np.argwhere(scores > 0)
        if len(places) > SPANS:
            raise Failed(f"the model finds {len(places)} spans in a text; at most {SPANS} are read")
        return {(start, last + 1, self.labels[kind]) for kind, start, last in places.tolist()}

    @staticmethod
    def in_text(spans, item):
        """Spans of tokens as spans of characters, in order; none of special tokens."""
        words = [start < end for start, end in item.offsets]
        return sorted(
            (item.offsets[start][0], item.offsets[end - 1][1], kind)
            for start, end, kind in spans
            if start < end and words[start] and words[end - 1]
        )


def positions_of(model):
    """How many tokens a tagger has positions for; None: any number."""
    tables = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, layers.PositionEmbedding) and layer.name.endswith("position_embedding")
    ]
    return min((x.input_dim ** (2 if x.alpha else 1) for x in tables), default=None)


def sees_no_padding(model, pad_token_id):
    """Whether what a tagger gives for a token is known not to depend on padding.

    So it is if all layers are known to keep to the mask or to look at each token by itself.
    """
    waiting, seen = [origin(x) for x in model.outputs], set()
    while waiting:
        operation = waiting.pop()
        if operation is None or operation in seen:
            continue
        if not keeps_to_mask(operation, pad_token_id):
            return False
        seen.add(operation)
        for node in operation._inbound_nodes:  # what makes masks is no layer
            values = {k: v for k, v in node.arguments.kwargs.items() if k != "mask"}
            waiting += map(origin, keras.tree.flatten((node.arguments.args, values)))
    return True


def keeps_to_mask(operation, pad_token_id):
    """Whether what an operation gives for a token is known not to depend on padding."""
    kind, calls = type(operation), [node.arguments.kwargs for node in operation._inbound_nodes]
    if kind in (layers.TokenEmbedding, layers.AttentionBias):
        return operation.pad_token_id == pad_token_id
    if kind is layers.TransformerBlock:
        return all(isinstance(origin(call.get("bias")), layers.AttentionBias) for call in calls)
    if kind in RECURRENT:
        # the inner layer of Bidirectional that reads backwards gives its states in order
        reader = getattr(operation, "forward_layer", operation)
        return not reader.go_backwards and all(call.get("mask") is not None for call in calls)
    if kind in TOKEN_BY_TOKEN:
        last_axis = np.ravel(getattr(operation, "axis", -1)).tolist() in ([-1], [2])
        return last_axis and is_activation(getattr(operation, "activation", "linear"))
    return kind in MASKED


def is_activation(function):
    """Whether a function, or its name, is one of Keras' or this toolkit's activations."""
    name = getattr(function, "__name__", "")
    return isinstance(function, str) or getattr(keras.activations, name, None) is function


def origin(tensor):
    """The operation that gives a tensor of a graph; None for what is none."""
    return tensor._keras_history.operation if isinstance(tensor, keras.KerasTensor) else None


def possible(scores):
    """The scores, if all are finite but those of what cannot be: minus infinity."""
    finite(scores[scores != -np.inf])
    return scores


@dataclass(frozen=True)
class Wanted:
    """A text to be written.

    Attributes:
        ids: of the prompt's tokens.
        room: new tokens that there is room for.
        new_tokens: how many to write at most.
        seed: of random choices.
        settings: other arguments of `generate`, as pairs.
    """

    ids: tuple
    room: int
    new_tokens: int
    seed: int
    settings: tuple


@dataclass(frozen=True)
class Written:
    """The end of a text, and all of it: `reason` is `"stop"` (a stop token), `"length"` or `"time"`."""

    reason: str
    tokens: int
    score: float
    text: str


class Writer:
    """Continues texts, or answers them; tells strings and, at the end, a `Written`."""

    writes = True
    example = EXAMPLE

    def __init__(self, transformer, tokenizer, new_tokens):
        try:
            self.transformer = transformer_of(transformer)
        except ValueError as error:
            raise UnsupportedTask(str(error)) from None
        encoder_of(transformer)
        self.tokenizer, self.new_tokens = tokenizer, new_tokens

    def prepare(self, text, new_tokens=STEP, seed=0, shorten=False, **settings):
        """Looks at a text; `shorten` writes fewer tokens where there are positions for fewer."""
        prompt = tuple(prompt_of(self.transformer, self.tokenizer, text))
        if not prompt:
            raise InvalidRequest("there is nothing to read in this text.")
        check_ids(prompt, self.transformer.config.vocab_size, self.tokenizer)
        pad = self.transformer.config.pad_token_id
        if prompt[0] == pad != self.tokenizer.token_start_id or prompt[:2] == (pad, pad):
            raise InvalidRequest(
                f"begins with the model's padding, {self.tokenizer.id_to_token(pad)!r}."
            )
        one = self.transformer.config.stacks == "one"
        longest = longest_of(self.transformer) if one else None
        if shorten and longest is not None:
            new_tokens = min(new_tokens, max(1, longest - len(prompt)))
        # room in a few sizes, so that compiled programs are few
        room = min(max(STEP, power_of_two(new_tokens)), max(self.new_tokens, new_tokens))
        if longest is not None:
            if len(prompt) + new_tokens > longest:
                raise InvalidRequest(
                    f"{len(prompt)} tokens and max_new_tokens={new_tokens}; together at most "
                    f"{longest} fit."
                )
            if STEP * steps(len(prompt)) + room > longest:
                room = new_tokens
        return Wanted(prompt, room, new_tokens, seed, tuple(sorted(settings.items())))

    def key(self, item):
        return item.settings, item.room, steps(len(item.ids))

    def program(self, jobs):
        items = [job.item for job in jobs]
        rows = filled_up(np.arange(len(items)))
        first = items[0]
        options = text_options(self.transformer, self.tokenizer, dict(first.settings))
        prompts = [list(items[row].ids) for row in rows]
        task = GenerationRequest(self.transformer, prompts, first.room, **options)
        if options.get("do_sample"):  # what a text gets must not depend on its neighbours
            shape = task.sampling_params["noise"].shape[1:]
            noise = [
                np.random.default_rng(items[row].seed).random(shape, "float32") for row in rows
            ]
            task.sampling_params["noise"] = np.stack(noise)
        texts = [TextStream(self.tokenizer) for _ in jobs]
        for count, state in enumerate(task.steps(), 1):
            for i, ((found,), job) in enumerate(
                zip(task.results(state)[: len(jobs)], jobs, strict=True)
            ):
                if not job.over:
                    with job.errors():
                        self.tell(job, texts[i], found, count)
            yield

    def tell(self, job, stream, found, count):
        """Tells a job what is new after so many tokens."""
        finite(found.score)
        job.tokens, job.so_far = len(found.ids), partial(self.written, found, "time")
        ends = found.finished or count == job.item.new_tokens
        if piece := stream.piece(found.ids, ends):
            job.tell(piece)
        if ends:
            job.tell(self.written(found, "stop" if found.finished else "length"))
            job.end()

    def written(self, found, reason):
        """The end of a text for that reason."""
        return Written(reason, len(found.ids), found.score, self.tokenizer.decode(found.ids))


def steps(length):
    return -(-length // STEP)


@dataclass(frozen=True)
class Served:
    """A checkpoint, and what it can do.

    Attributes:
        transformer, tokenizer: of the checkpoint.
        abilities: name -> the ability.
        cannot: name -> why there is no such ability.
    """

    transformer: object
    tokenizer: object
    abilities: dict
    cannot: dict


def load(path, ner=None, model="auto", new_tokens=256, **settings):
    """A checkpoint, with all that it can do for requests.

    Args:
        path: see `build_transformer_model`.
        ner: a directory of `save_tagger`.
        model, **settings: see `build_transformer_model`.
        new_tokens: that are written for one request at most.

    Returns:
        `Served`.
    """
    path = local_directory(path)
    more, no_head = {"model": model, "return_keras_model": False, **settings}, None
    try:
        transformer = build_transformer_model(path, **({"with_lm": True} | more))
    except (CheckpointError, ValueError) as error:  # if it is not the head, it is raised again
        transformer, no_head = build_transformer_model(path, **more), error
    tokenizer = load_tokenizer(path)
    makers = {
        "fill-mask": lambda: FillMask(transformer, tokenizer),
        "generate": lambda: Writer(transformer, tokenizer, new_tokens),
        "vectors": lambda: SentenceVectors(transformer, tokenizer),
        "attention": lambda: Attention(transformer, tokenizer),
        "entities": lambda: tagger_of(ner),
    }
    abilities, cannot = {}, {}
    for name, make in makers.items():
        try:
            abilities[name] = make()
        except UnsupportedTask as error:
            needs_head = no_head is not None and name in ("fill-mask", "generate")
            reason = f"{error} {no_head}" if needs_head else str(error)
            cannot[name] = reason.replace(f"{path}{os.sep}", "")  # clients need not know it
    return Served(transformer, tokenizer, abilities, cannot)


def tagger_of(directory):
    if directory is None:
        raise UnsupportedTask(
            "a checkpoint finds no entities by itself; start with --ner DIRECTORY."
        )
    return Entities(*load_tagger(directory))
