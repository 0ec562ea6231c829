"""Tasks of a served checkpoint: each ability tokenizes texts and computes answers in batches.

An ability is built from a model; `UnsupportedTask` says why it cannot be. `prepare` turns a text
into the input of the model, or raises `InvalidRequest`; inputs with the same `key` may share a
forward pass; `program` answers the jobs of a `Worker`. Outputs that are not finite raise `Failed`.
"""

import os
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from .. import layers
from ..backend import predict_without_xla
from ..checkpoints import CheckpointError
from ..data import sequence_padding
from ..generation.decoding import transformer_of
from ..generation.generate import TextStream, prompt_of, text_options
from ..generation.request import PROGRAMS, STEP, GenerationRequest
from ..hub import local_directory
from ..metrics import bio_spans
from ..models import build_transformer_model
from ..tokenizers import load_tokenizer
from ..tokenizers.added import AddedToken, Finder, parts
from .attention import attention_model
from .entities import are_logits, decoder_of, load_tagger
from .worker import Failed

EXAMPLE = "今天天气真好"  # text of the warm-up at the start of a server
SPANS = 100_000  # maximum number of spans in a text
MASKS = 16  # maximum number of masks in a text
CANDIDATES = 50  # maximum number of candidates for a mask
SHORTEST = 16  # length in tokens of the shortest batches
LONGEST_LOOK = 128  # tokens of a text whose attention is returned: its size is quadratic
# layers of taggers that respect the mask, that do so if they get one, or that process each token
# separately
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
    """The checkpoint does not support a task; the message says why."""


class InvalidRequest(ValueError):
    """A text or an option of a request is invalid."""


class Encoded(NamedTuple):
    """A tokenized text.

    Attributes:
        text: the text of the request.
        ids: token ids.
        offsets: start and end of each token in the text; None if not computed.
    """

    text: str
    ids: list
    offsets: list | None = None


class Masked(NamedTuple):
    """A tokenized text with masks.

    Attributes:
        text, ids: see `Encoded`.
        positions: positions of the masks among the tokens.
    """

    text: str
    ids: list
    positions: list


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


class SinglePass:
    """Base class of abilities that need one forward pass.

    Args:
        model: a `keras.Model` of token ids and, if it has such inputs, segment ids and others.
        tokenizer: the tokenizer of the model.
        longest: maximum number of tokens of a text; None: no maximum.
        filler: padding id of batches, which no token attends to; None: there is none, and the
            texts of a batch have equal lengths.

    Raises:
        UnsupportedTask: the model takes texts of one length only, and there is no padding.
    """

    generates = False
    example = EXAMPLE

    def __init__(self, model, tokenizer, longest=None, filler=None):
        self.model, self.tokenizer, self.longest, self.filler = model, tokenizer, longest, filler
        self.fixed = model.inputs[0].shape[1]  # the length of all texts; None: any length
        if self.fixed is not None:
            if filler is None:
                raise UnsupportedTask(
                    f"the model is for texts of {self.fixed} tokens and has no padding. Build it "
                    "without sequence_length."
                )
            self.longest = min(longest or self.fixed, self.fixed)
        tables = token_tables(model)
        self.vocab_size = tables[0].input_dim if tables else None
        self.shapes = set()  # input shapes for which there are compiled programs
        predict_without_xla(model)

    def prepare(self, text):
        """Tokenizes a text.

        Raises:
            InvalidRequest: the text has no tokens, is too long, or does not fit the vocabulary.
        """
        ids, _, offsets = self.tokenizer.encode(text, return_offsets=True)
        if not any(start < end for start, end in offsets):
            raise InvalidRequest("the text is empty; expected at least one token.")
        return Encoded(text, self.checked_ids(ids), offsets)

    def checked_ids(self, ids):
        if self.longest is not None and len(ids) > self.longest:
            raise InvalidRequest(f"{len(ids)} tokens; at most {self.longest} fit.")
        if self.vocab_size is not None:
            check_ids(ids, self.vocab_size, self.tokenizer)
        return ids

    def key(self, item):
        """Returns the padded length, a power of two, so that few programs are compiled."""
        if self.fixed is not None:
            return self.fixed
        if self.filler is None:
            return len(item.ids)
        length = max(SHORTEST, power_of_two(len(item.ids)))
        return length if self.longest is None else min(length, self.longest)

    def program(self, jobs):
        """Answers jobs in one step, as a generator; see `worker.Job`."""
        for job, output in zip(jobs, self.predicted([job.item for job in jobs]), strict=True):
            with job.errors():
                job.emit(self.answer(job.item, output))
                job.end()
        yield

    def predicted(self, items):
        """Returns for each item the model's output, as `answer` takes it."""
        return self.outputs([item.ids for item in items], self.key(items[0]))

    def outputs(self, rows, length, *more_inputs):
        """Runs the model on rows of ids padded to a length.

        Args:
            rows: lists of ids.
            length: length of the padded rows.
            *more_inputs: arrays for inputs after token ids and segment ids.

        Returns:
            An array with a row for each row of ids.
        """
        ids = sequence_padding(rows, length=length, value=self.filler or 0)
        inputs = [ids, np.zeros_like(ids)][: len(self.model.inputs) - len(more_inputs)]
        inputs = [pad_batch(x) for x in (*inputs, *more_inputs)]
        self.shapes.add(inputs[0].shape)
        if len(self.shapes) > PROGRAMS:  # clients choose the lengths, and a program takes megabytes
            self.model.make_predict_function(force=True)
            self.shapes = {inputs[0].shape}
        return ops.convert_to_numpy(self.model.predict_on_batch(inputs))[: len(rows)]


def token_tables(model):
    """Returns the token embedding layers of a model, including those of nested models."""
    return [x for x in model._flatten_layers() if isinstance(x, layers.TokenEmbedding)]


def check_ids(ids, vocab_size, tokenizer):
    """Raises if a token is unknown and there is no unknown token, or if it has no embedding.

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
            f"embeddings for ids up to {vocab_size - 1}."
        )


def finite(array):
    """Returns the array if all of its numbers are finite.

    Raises:
        Failed: some are not.
    """
    if not np.isfinite(array).all():
        raise Failed("the model's output is not finite: its weights may contain NaN.")
    return array


def power_of_two(count):
    """Returns the smallest power of two that is at least `count`."""
    return 1 << (count - 1).bit_length()


def pad_batch(rows):
    """Pads a batch to the next power of two by repeating its last row."""
    rows = np.asarray(rows)
    return rows[np.minimum(np.arange(power_of_two(len(rows))), len(rows) - 1)]


def longest_of(transformer):
    """Returns the maximum number of tokens that a model has positions for; None: no maximum."""
    c = transformer.config
    learned = c.position == "learned"
    return c.max_position ** (2 if c.hierarchical_position else 1) if learned else None


def encoder_of(transformer):
    """Returns a model from token ids and segment ids to the last hidden states.

    Raises:
        UnsupportedTask: the model has inputs that a text does not determine, or is a decoder.
    """
    c = transformer.config
    if transformer.more_inputs or c.custom_position_ids or c.shared_segment_embeddings:
        raise UnsupportedTask(
            f"{c.family}: the model has other inputs than tokens and their segments."
        )
    if c.stacks == "decoder":
        raise UnsupportedTask(
            f"{c.family}: a decoder alone cannot encode text. Load the full model."
        )
    if c.stacks != "one":
        model = transformer.model if c.stacks == "encoder" else transformer.encoder
        return keras.Model(model.inputs, model.output)
    states = transformer.hidden_states[-1]
    if c.final_norm:
        states = transformer.normalize("final_norm", states)
    return keras.Model(transformer.inputs, states)


class FillMask(SinglePass):
    """Predicts the tokens at each [MASK] of a text.

    Args:
        transformer, tokenizer: model and tokenizer of the checkpoint.
        masks: maximum number of masks in a text.
        top: number of candidates for a mask.

    Raises:
        UnsupportedTask: the model is causal or has no language-model head, or the tokenizer has no
            mask token of its own.
    """

    def __init__(self, transformer, tokenizer, masks=MASKS, top=CANDIDATES):
        self.most_masks, self.top = masks, top
        c = transformer.config
        if c.stacks != "one" or c.attend == "lm":
            raise UnsupportedTask(
                f"{c.family}: fill-mask needs a bidirectional model of one stack, such as BERT."
            )
        if not c.with_lm:
            raise UnsupportedTask(f"{c.family}: the model has no masked-language-model head.")
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
        # logits of the vocabulary are computed at the masks only
        positions = keras.Input((masks,), dtype="int32", name="places")
        states = ops.take_along_axis(states, ops.expand_dims(positions, -1), axis=1)
        logits = transformer.token_scores(states)
        probs = keras.layers.Softmax(dtype="float32")(logits)
        model = keras.Model([*transformer.inputs, positions], probs)
        super().__init__(model, tokenizer, longest_of(transformer), c.filler)

    def prepare(self, text):
        t = self.tokenizer
        masks = self.finder.find(text)
        if not 1 <= len(masks) <= self.most_masks:
            raise InvalidRequest(
                f"{len(masks)} times {t.token_mask}; expected 1 to {self.most_masks}, each "
                "where a token is to be predicted."
            )
        start = [] if t.token_start is None else [t.token_start_id]
        end = [] if t.token_end is None else [t.token_end_id]
        ids, positions = [*start], []
        for begin, stop, mask in parts(text, masks):
            row = t.encode(text[begin:stop])[0]
            positions += [len(ids)] if mask else []
            ids += [t.token_mask_id] if mask else row[len(start) : len(row) - len(end)]
        return Masked(text, self.checked_ids([*ids, *end]), positions)

    def predicted(self, items):
        padded = sequence_padding([item.positions for item in items], length=self.most_masks)
        return self.outputs([item.ids for item in items], self.key(items[0]), padded)

    def answer(self, item, probs):
        return [self.candidates(row) for row in finite(probs[: len(item.positions)])]

    def candidates(self, probs):
        """Returns `(token, probability)` of the most likely tokens, best first."""
        probs = probs[: self.tokenizer.vocab_size]  # the model may have more rows than tokens
        count = min(self.top, len(probs))
        best = np.argpartition(-probs, count - 1)[:count]
        best = best[np.argsort(-probs[best], kind="stable")]
        return [(self.tokenizer.id_to_token(int(i)), float(probs[i])) for i in best]


class SentenceVectors(SinglePass):
    """Sentence vectors: the mean of the last hidden states of a text, and the first of them."""

    def __init__(self, transformer, tokenizer):
        filler = transformer.config.filler
        super().__init__(encoder_of(transformer), tokenizer, longest_of(transformer), filler)

    def answer(self, item, states):
        states = states[: len(item.ids)].astype("float32")
        in_text = [start < end for start, end in item.offsets]  # not special tokens
        # a copy: a view would keep all the states
        return {"mean": finite(states[in_text].mean(axis=0)), "cls": finite(states[0].copy())}


class Attention(SinglePass):
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


class Entities(SinglePass):
    """Entities as spans `(start, end, kind)` of characters, by a fine-tuned model.

    Args:
        model, labels, tokenizer: see `save_tagger`.

    Raises:
        UnsupportedTask: the model has inputs besides token ids and segment ids; see also
            `SinglePass`.
    """

    def __init__(self, model, labels, tokenizer):
        self.labels, self.decoder = labels, decoder_of(model)
        if len(model.inputs) > 2:
            names = ", ".join(x.name for x in model.inputs)
            raise UnsupportedTask(f"the model takes {names}; expected token ids and segment ids.")
        fixed = model.inputs[0].shape[1] is not None
        pad_ids = {table.pad_token_id for table in token_tables(model)}
        filler = pad_ids.pop() if len(pad_ids) == 1 else -1
        # layers outside the blocks may use padding: it is added only if no layer does, or if the
        # model was trained with it (fixed length)
        pads = filler >= 0 and (fixed or ignores_padding(model, filler))
        super().__init__(model, tokenizer, positions_of(model), filler if pads else None)

    def predicted(self, items):
        """Returns pairs of each item's logits and its tags; tags are None for logits of spans."""
        logits, tokens = super().predicted(items), self.key(items[0])
        if not are_logits(logits.shape, len(self.labels), tokens):
            raise Failed(
                f"the model's output has the shape {logits.shape[1:]} for {tokens} tokens; "
                "expected logits of tags or spans."
            )
        tags = [None] * len(items) if logits.ndim == 4 else self.tags(logits)
        return zip(logits, tags, strict=True)

    def tags(self, logits):
        if self.decoder is None:
            return logits.argmax(-1)
        for weight in self.decoder.weights:
            check_logits(ops.convert_to_numpy(weight))
        # NaN in one text must not make `decode` raise for the whole batch
        return ops.convert_to_numpy(self.decoder.decode(np.where(np.isnan(logits), 0, logits)))

    def answer(self, item, output):
        (logits, tags), size = output, len(item.ids)
        if tags is None:
            spans = self.spans(check_logits(logits[:, :size, :size]))
        else:
            check_logits(logits[:size])
            spans = bio_spans(self.names(tags[:size], item))
        return self.in_text(spans, item)

    def names(self, tags, item):
        """Returns the names of tags; `"O"` for special and masked tokens, which are in no span."""
        return [
            self.labels[tag] if tag >= 0 and start < end else "O"
            for tag, (start, end) in zip(tags, item.offsets, strict=True)
        ]

    def spans(self, logits):
        """Returns the spans whose logits `(kinds, tokens, tokens)` are above 0."""
        indices = np.argwhere(logits > 0)
        if len(indices) > SPANS:
            raise Failed(
                f"the model finds {len(indices)} spans in a text; at most {SPANS} are read."
            )
        return {(start, last + 1, self.labels[kind]) for kind, start, last in indices.tolist()}

    @staticmethod
    def in_text(spans, item):
        """Converts spans of tokens to sorted spans of characters, without special tokens."""
        words = [start < end for start, end in item.offsets]
        return sorted(
            (item.offsets[start][0], item.offsets[end - 1][1], kind)
            for start, end, kind in spans
            if start < end and words[start] and words[end - 1]
        )


def positions_of(model):
    """Returns the maximum number of tokens that a tagger has positions for; None: no maximum."""
    tables = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, layers.PositionEmbedding) and layer.name.endswith("position_embedding")
    ]
    return min((x.input_dim ** (2 if x.alpha else 1) for x in tables), default=None)


def ignores_padding(model, pad_token_id):
    """Returns whether a tagger's outputs for tokens are known not to depend on padding.

    This is so if every layer is known to respect the mask or to process each token separately.
    """
    stack, seen = [origin(x) for x in model.outputs], set()
    while stack:
        operation = stack.pop()
        if operation is None or operation in seen:
            continue
        if not respects_mask(operation, pad_token_id):
            return False
        seen.add(operation)
        for node in operation._inbound_nodes:  # masks are not computed by layers
            values = {k: v for k, v in node.arguments.kwargs.items() if k != "mask"}
            stack += map(origin, keras.tree.flatten((node.arguments.args, values)))
    return True


def respects_mask(operation, pad_token_id):
    """Returns whether an operation's output for a token is known not to depend on padding."""
    cls, calls = type(operation), [node.arguments.kwargs for node in operation._inbound_nodes]
    if cls in (layers.TokenEmbedding, layers.AttentionBias):
        return operation.pad_token_id == pad_token_id
    if cls is layers.TransformerBlock:
        return all(isinstance(origin(call.get("bias")), layers.AttentionBias) for call in calls)
    if cls in RECURRENT:
        # Bidirectional reorders the states of its backward layer, so its forward layer is checked
        forward = getattr(operation, "forward_layer", operation)
        return not forward.go_backwards and all(call.get("mask") is not None for call in calls)
    if cls in TOKEN_BY_TOKEN:
        last_axis = np.ravel(getattr(operation, "axis", -1)).tolist() in ([-1], [2])
        return last_axis and is_activation(getattr(operation, "activation", "linear"))
    return cls in MASKED


def is_activation(function):
    """Returns whether a function, or its name, is an activation of Keras or of this toolkit."""
    name = getattr(function, "__name__", "")
    return isinstance(function, str) or getattr(keras.activations, name, None) is function


def origin(tensor):
    """Returns the operation that computes a tensor of a graph; None for other values."""
    return tensor._keras_history.operation if isinstance(tensor, keras.KerasTensor) else None


def check_logits(logits):
    """Returns the logits if all are finite or minus infinity (impossible tags).

    Raises:
        Failed: some are NaN or plus infinity.
    """
    finite(logits[logits != -np.inf])
    return logits


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
            self.transformer = transformer_of(transformer)
        except ValueError as error:
            raise UnsupportedTask(str(error)) from None
        encoder_of(transformer)
        self.tokenizer, self.new_tokens = tokenizer, new_tokens

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
        prompt = tuple(prompt_of(self.transformer, self.tokenizer, text))
        if not prompt:
            raise InvalidRequest("the text is empty; expected at least one token.")
        check_ids(prompt, self.transformer.config.vocab_size, self.tokenizer)
        pad = self.transformer.config.pad_token_id
        if prompt[0] == pad != self.tokenizer.token_start_id or prompt[:2] == (pad, pad):
            raise InvalidRequest(
                "the text begins with the padding token of the model, "
                f"{self.tokenizer.id_to_token(pad)!r}."
            )
        one_stack = self.transformer.config.stacks == "one"
        longest = longest_of(self.transformer) if one_stack else None
        if shorten and longest is not None:
            new_tokens = min(new_tokens, max(1, longest - len(prompt)))
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
        options = text_options(self.transformer, self.tokenizer, dict(first.settings))
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

    transformer: object
    tokenizer: object
    abilities: dict
    cannot: dict


def load(path, ner=None, model="auto", new_tokens=256, **settings):
    """Loads a checkpoint with all abilities that it supports, to serve it.

    Args:
        path: see `build_transformer_model`.
        ner: a directory of `save_tagger`; None: no `entities`.
        model, **settings: see `build_transformer_model`.
        new_tokens: maximum number of new tokens for one request.

    Returns:
        A `Served`.

    Raises:
        CheckpointError, ValueError, OSError: see `build_transformer_model` and `load_tagger`.
    """
    path = local_directory(path)
    options, no_head = {"model": model, "return_keras_model": False, **settings}, None
    try:
        transformer = build_transformer_model(path, **({"with_lm": True} | options))
    except (CheckpointError, ValueError) as error:  # raised again below if not due to the head
        transformer, no_head = build_transformer_model(path, **options), error
    tokenizer = load_tokenizer(path)
    builders = {
        "fill-mask": lambda: FillMask(transformer, tokenizer),
        "generate": lambda: TextGenerator(transformer, tokenizer, new_tokens),
        "vectors": lambda: SentenceVectors(transformer, tokenizer),
        "attention": lambda: Attention(transformer, tokenizer),
        "entities": lambda: entities_of(ner),
    }
    abilities, cannot = {}, {}
    for name, build in builders.items():
        try:
            abilities[name] = build()
        except UnsupportedTask as error:
            needs_head = no_head is not None and name in ("fill-mask", "generate")
            reason = f"{error} {no_head}" if needs_head else str(error)
            cannot[name] = reason.replace(f"{path}{os.sep}", "")  # not for clients to know
    return Served(transformer, tokenizer, abilities, cannot)


def entities_of(directory):
    if directory is None:
        raise UnsupportedTask(
            "entities need a fine-tuned tagger. Start the server with --ner DIRECTORY."
        )
    return Entities(*load_tagger(directory))
