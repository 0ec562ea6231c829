"""Base of the pipelines: tokenized texts, batches of few shapes, and errors that name a text.

A pipeline is built from a model; `UnsupportedTask` says why it cannot be. `prepare` turns a text
into an input of the model, or raises `InvalidRequest`; inputs with the same `key` may share a
forward pass, `predicted`; `answer` makes an answer of the model's output for a text, or raises
`InvalidOutput`. Calling the pipeline does all of it for many texts.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from .. import layers
from ..arguments import MOST, check_list, check_number
from ..backend import compiles_each_shape, predict_without_xla, runs_on_cpu
from ..data import sequence_padding
from ..generation.request import PROGRAMS
from ..parsing import shown
from ..tokenizers import TokenizerBase

__all__ = [
    "EXAMPLE",
    "Encoded",
    "InvalidOutput",
    "InvalidRequest",
    "Pipeline",
    "UnsupportedTask",
    "check_ids",
    "encoder_of",
    "finite",
    "longest_of",
    "pad_batch",
    "padding_of",
    "power_of_two",
    "token_tables",
]

EXAMPLE = "今天天气真好"
SHORTEST = 16  # length in tokens of the shortest batches
PASS = 2048  # most tokens of a forward pass on a CPU; larger arrays do not fit into its caches
CHUNK = 50_000  # texts whose token ids are in memory at the same time
BATCHES = 32  # forward passes between two steps of a progress bar, at least


class UnsupportedTask(ValueError):
    """The checkpoint does not support a task; the message says why."""


class InvalidRequest(ValueError):
    """A text or an option of a request is invalid."""


class InvalidOutput(ValueError):
    """The model's output cannot be used, for example because it is not finite."""


class Encoded(NamedTuple):
    """A tokenized text.

    Attributes:
        text: the text of the request.
        ids: token ids.
        offsets: start and end of each token in the text; empty if not computed.
    """

    text: str
    ids: list
    offsets: Sequence = ()


class Pipeline:
    """Base class of pipelines, which answer a text by one forward pass.

    Args:
        model: a `keras.Model` of token ids and, if it has such inputs, segment ids and others.
        tokenizer: the tokenizer of the model.
        longest: maximum number of tokens of a text; None: no maximum.
        filler: padding id of batches, which no token attends to; None: there is none, and the
            texts of a batch have equal lengths.

    Raises:
        UnsupportedTask: the model takes texts of one length only, and there is no padding.
    """

    generates = False  # token by token
    takes_pairs = False  # of texts, as tuples
    example: Any = EXAMPLE  # a text that it takes, to compile its model

    def __init__(
        self,
        model: keras.Model,
        tokenizer: TokenizerBase,
        longest: int | None = None,
        filler: int | None = None,
    ) -> None:
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
        self.shapes: set[tuple] = set()  # input shapes for which there are compiled programs
        predict_without_xla(model)

    def __call__(self, texts: Any, batch_size: int = 32, **settings: Any) -> Any:
        """Answers texts.

        Args:
            texts: a text, or a list of texts; where `takes_pairs`, a pair of texts is a tuple.
            batch_size: maximum number of texts in a forward pass; default 32.
            **settings: other arguments of `prepare`.

        Returns:
            A list of the answers; for a single text, its answer.

        Raises:
            TypeError: `texts` is neither a string nor a list.
            ValueError: a text is invalid, or the model's output for it; names the text.
        """
        check_number("batch_size", batch_size, 1, MOST)
        if single := isinstance(texts, (str, tuple) if self.takes_pairs else str):
            texts = [texts]
        check_list("texts", texts)
        items, answers = [], {}
        for text in texts:
            with naming(text):
                items.append(self.prepare(text, **settings))
        for batch in self.batches(items, batch_size):
            outputs = self.predicted([items[row] for row in batch])
            for row, output in zip(batch, outputs, strict=True):
                with naming(items[row].text):
                    answers[row] = self.answer(items[row], output)
        return answers[0] if single else [answers[row] for row in range(len(items))]

    def batches(self, items: list, batch_size: int) -> Iterator[list[int]]:
        """Yields the numbers of items for each forward pass, of similar lengths.

        On a CPU there are at most `PASS` tokens in it, if there is more than one text.
        """
        sizes = [len(item.ids) for item in items]
        rows = sorted(range(len(items)), key=lambda row: sizes[row])
        most = PASS if runs_on_cpu() else math.inf
        while rows:
            length = self.length_of([items[rows[-1]]] * batch_size)
            fitting = int(min(batch_size, most // length))
            batch = rows[-max(1, power_of_two(fitting + 1) // 2) :]
            if self.filler is None:
                batch = [row for row in batch if sizes[row] == length]
            yield batch
            del rows[-len(batch) :]

    def in_parts(
        self, texts: list, batch_size: int, progress: bool, **settings: Any
    ) -> Iterator[list]:
        """Answers a long list of texts in parts: not all token ids are in memory at once.

        Args:
            texts, batch_size, **settings: see `__call__`.
            progress: whether to show a progress bar.

        Yields:
            The answers to the next texts, a list.
        """
        check_number("batch_size", batch_size, 1, MOST)
        bar = keras.utils.Progbar(len(texts), unit_name="text") if progress and len(texts) else None
        step = min(CHUNK, BATCHES * batch_size) if bar else CHUNK
        for start in range(0, len(texts), step):
            part = texts[start : start + step]
            yield self(part, batch_size, **settings)
            if bar:
                bar.update(start + len(part))

    def answer(self, item: Any, output: Any) -> Any:
        """Returns the answer to an item, from what `predicted` returns for it."""
        raise NotImplementedError

    def prepare(self, text: str) -> Any:
        """Tokenizes a text.

        Raises:
            InvalidRequest: the text has no tokens, is too long, or does not fit the vocabulary.
        """
        ids, _, offsets = self.tokenizer.encode(text, return_offsets=True)
        if not any(start < end for start, end in offsets):
            raise InvalidRequest("the text is empty; expected at least one token.")
        return Encoded(text, self.checked_ids(ids), offsets)

    def truncated_ids(self, text: str) -> list:
        """Tokenizes a text, which loses its end if it is too long.

        Raises:
            InvalidRequest: the text has no tokens, or does not fit the vocabulary.
        """
        ids = self.tokenizer.encode(text, maxlen=self.longest)[0]
        if not ids:
            raise InvalidRequest("the text is empty; expected at least one token.")
        return self.checked_ids(ids)

    def checked_ids(self, ids: list) -> list:
        if self.longest is not None and len(ids) > self.longest:
            raise InvalidRequest(f"{len(ids)} tokens; at most {self.longest} fit.")
        if self.vocab_size is not None:
            check_ids(ids, self.vocab_size, self.tokenizer)
        return ids

    def key(self, item: Any) -> int:
        """Returns the greatest padded length of those with which a text may share a batch."""
        if self.fixed is not None:
            return self.fixed
        if self.filler is None:
            return len(item.ids)
        length = max(SHORTEST, power_of_two(len(item.ids)))
        return length if self.longest is None else min(length, self.longest)

    def length_of(self, items: list) -> int:
        """Returns the padded length of a batch.

        Where each length needs a program of its own, small batches have a power of two, and large
        ones one of four lengths between two of them.
        """
        length = max(len(item.ids) for item in items)
        if self.fixed is not None or self.filler is None:
            return self.fixed or length
        step = 8
        if compiles_each_shape():
            is_small = 2 * len(items) * length < PASS
            step = max(SHORTEST, power_of_two(length) // (1 if is_small else 8))
        length = -(-length // step) * step
        return length if self.longest is None else min(length, self.longest)

    def predicted(self, items: list) -> Any:
        """Returns for each item the model's output, as `answer` takes it."""
        segments = [item.segments for item in items] if self.takes_pairs else None
        return self.outputs([item.ids for item in items], self.length_of(items), segments=segments)

    def outputs(
        self,
        rows: list[list[int]],
        length: int,
        *more_inputs: np.ndarray,
        segments: list[list[int]] | None = None,
    ) -> Any:
        """Runs the model on rows of ids padded to a length.

        Args:
            rows: lists of ids.
            length: length of the padded rows.
            *more_inputs: arrays for inputs after token ids and segment ids.
            segments: lists of segment ids; None: all are 0.

        Returns:
            An array with a row for each row of ids; of a model with several outputs, a list.
        """
        ids = sequence_padding(rows, length=length, value=self.filler or 0)
        segment_ids = np.zeros_like(ids)
        if segments is not None:
            segment_ids = sequence_padding(segments, length=length)
        inputs = [ids, segment_ids][: len(self.model.inputs) - len(more_inputs)]
        inputs = [*inputs, *more_inputs]
        if compiles_each_shape():
            inputs = [pad_batch(x) for x in inputs]
            self.forget_programs(tuple(x.shape for x in inputs))
        outputs = self.model.predict_on_batch(inputs)
        return keras.tree.map_structure(lambda x: ops.convert_to_numpy(x)[: len(rows)], outputs)

    def forget_programs(self, shapes: tuple) -> None:
        """Removes the compiled programs if there are too many, before one for `shapes` is needed.

        Clients of a server choose the lengths, and a program takes megabytes.
        """
        self.shapes.add(shapes)
        if len(self.shapes) > PROGRAMS:
            self.model.make_predict_function(force=True)
            self.shapes = {shapes}


@contextlib.contextmanager
def naming(text):
    """Puts a text before the messages of errors about it."""
    try:
        yield
    except (InvalidRequest, InvalidOutput) as error:
        raise type(error)(f"{shown(text)}: {error}") from None


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
            f"a character is not in the vocabulary, which has no {shown(tokenizer.token_unk)}."
        )
    if max(ids) >= vocab_size:
        raise InvalidRequest(
            f"token {shown(tokenizer.id_to_token(max(ids)))} has the id {max(ids)}; the model has "
            f"embeddings for ids up to {vocab_size - 1}."
        )


def finite(array):
    """Returns the array if all of its numbers are finite.

    Raises:
        InvalidOutput: some are not.
    """
    if not np.isfinite(array).all():
        raise InvalidOutput("the model's output is not finite: its weights may contain NaN.")
    return array


def power_of_two(count):
    """Returns the smallest power of two that is at least `count`."""
    return 1 << (count - 1).bit_length()


def pad_batch(rows):
    """Pads a batch to the next power of two by repeating its last row."""
    rows = np.asarray(rows)
    return rows[np.minimum(np.arange(power_of_two(len(rows))), len(rows) - 1)]


def padding_of(transformer, tokenizer):
    """Returns the id with which a pipeline pads; None: no token may follow a text.

    Raises:
        UnsupportedTask: positions are counted from another padding id than the tokenizer's.
    """
    c = transformer.config
    if c.first_position and tokenizer.token_pad_id not in (None, c.pad_token_id):
        raise UnsupportedTask(
            f"{c.family}: the tokenizer pads with {tokenizer.token_pad_id}, and positions are "
            f"counted from the padding id {c.pad_token_id}. Use the tokenizer of this checkpoint."
        )
    return c.filler


def longest_of(transformer):
    """Returns the maximum number of tokens that a model has positions for; None: no maximum."""
    return transformer.config.most_tokens


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
        return keras.Model(transformer.encoder.inputs, transformer.encoder.output)
    states = transformer.hidden_states[-1]
    if c.final_norm:
        states = transformer.normalize("final_norm", states)
    return keras.Model(transformer.inputs, states)
