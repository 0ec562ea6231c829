"""Looks for silent wrong numbers: runs a checkpoint on everyday Chinese under every plausible reading.

A checkpoint read with the wrong activation, swapped rows or a head at another scale gives no
error, only worse predictions. So fifty sentences are predicted under each reading (masked tokens
one by one, or every next token), and what predicts best is held against what the config says.

Reference: pseudo-perplexity: Salazar et al., "Masked Language Model Scoring", arXiv 1910.14659.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import keras
import numpy as np

from .checkpoints import CheckpointError
from .data import sequence_padding
from .models import build_transformer_model
from .tokenizers import load_tokenizer

SENTENCES = Path(__file__).with_name("everyday.txt").read_text(encoding="utf-8").split()
TOGETHER = 64  # rows in a forward pass
MASK_EVERY = 6  # of the tokens of a sentence are masked at a time
CLEAR = 4.0  # standard errors by which a reading must be better to be believed,
LEAST = 0.02  # and nats for each token: below, a choice changes nothing that anybody would see
LEAST_SCALE = 0.7  # many a sound model would gain a little from sharper scores


@dataclass(frozen=True)
class Reading:
    """One way to understand the files, and how well it predicts.

    Attributes:
        name: what is read otherwise than the config says; `"as the config says"`.
        remedy: how to get this reading.
        losses: of each predicted token, in nats.
    """

    name: str
    remedy: str
    losses: np.ndarray

    @property
    def perplexity(self):
        return float(np.exp(min(self.losses.mean(), 80)))

    def beats(self, other):
        """Whether it clearly predicts better than another reading."""
        least = LEAST_SCALE if self.name.startswith("scores") else LEAST
        gain = other.losses.mean() - self.losses.mean()
        return bool(gain > least and self.advantage(other) > CLEAR)

    def advantage(self, other):
        """By how many standard errors it predicts better than another reading."""
        difference = other.losses - self.losses
        error = difference.std() / len(difference) ** 0.5
        return float(difference.mean() / error) if error else 0.0


@dataclass
class Report:
    """What was found. `findings`: `(level, sentence)`, level `"ok"`, `"look"` or `"wrong"`."""

    directory: str
    readings: list = field(default_factory=list)
    findings: list = field(default_factory=list)

    def add(self, level, sentence):
        self.findings.append((level, sentence))

    @property
    def healthy(self):
        return all(level == "ok" for level, _ in self.findings)


def examine(directory, progress=lambda what: None, sentences=SENTENCES, **options):
    """Examines a directory with config, weights and vocabulary.

    Args:
        directory: of the checkpoint.
        progress: is called with a few words before each step.
        sentences: the texts to predict.
        **options: of `build_transformer_model`, e.g. `model=`.

    Returns:
        A `Report`.

    Raises:
        ValueError, CheckpointError: the directory lacks a part, or its files do not fit together.
    """
    report = Report(str(directory))
    progress("reading the weights")
    transformer = _build(directory, options)
    _look_at_weights(report, transformer)
    progress("tokenizing")
    tokenizer = load_tokenizer(directory)
    rows = [tokenizer.encode(text)[0] for text in sentences]
    _look_at_vocabulary(report, tokenizer, rows, transformer.config)
    if not transformer.config.with_lm:
        report.add(
            "look", "there is no language-model head: only weights and vocabulary were examined."
        )
        return report
    filler = transformer.config.filler or 0
    if transformer.config.stacks != "one":
        batch = _sequence_to_sequence(rows, tokenizer, filler)
    elif transformer.config.attend == "lm":
        batch = _next_tokens(rows, filler)
    else:
        batch = _masked_tokens(rows, tokenizer, filler)
    for reading in _readings(directory, transformer, batch, options, progress):
        report.readings.append(reading)
    _judge(report, transformer)
    return report


def _build(directory, options):
    """The model with its language-model head if the files have one, for texts of any length."""
    options = options | {"sequence_length": None}
    try:
        return build_transformer_model(
            directory, return_keras_model=False, **({"with_lm": "linear"} | options)
        )
    except CheckpointError:  # no such head; whatever else is missing is raised again
        return build_transformer_model(directory, return_keras_model=False, **options)


# ---------------------------------------------------------------- weights and vocabulary


def _look_at_weights(report, transformer):
    for path, variable in transformer.variables.items():
        array = keras.ops.convert_to_numpy(variable).astype("float32")
        if not np.isfinite(array).all():
            count = int((~np.isfinite(array)).sum())
            report.add("wrong", f"{path}: {count} values are not finite; the file is damaged.")
        elif array.ndim > 1 and not array.any() and not path.endswith("dense/kernel"):
            report.add("wrong", f"{path}: all zeros; these weights were never trained or got lost.")
        elif array.ndim > 1 and path.endswith("kernel"):
            dead = int((~array.any(axis=0)).sum())
            if dead:
                report.add(
                    "look", f"{path}: {dead} of {array.shape[1]} units are dead (all zeros)."
                )
    if not report.findings:
        report.add("ok", "all weights are finite, none is dead.")


def _look_at_vocabulary(report, tokenizer, rows, config):
    ids = np.concatenate(rows)
    share = float(np.mean(ids == tokenizer.token_unk_id))
    largest = int(ids.max())
    if largest >= config.vocab_size:
        report.add(
            "wrong",
            f"the vocabulary gives id {largest}, the token table has {config.vocab_size} rows: it "
            "belongs to another checkpoint.",
        )
    elif share > 0.05:
        report.add(
            "wrong",
            f"{share:.0%} of the tokens of everyday sentences are unknown: this vocabulary is not "
            "for Chinese, or is read as another kind than it is.",
        )
    else:
        report.add("ok", f"{share:.1%} of the tokens are unknown.")


# ---------------------------------------------------------------- what is predicted


@dataclass(frozen=True)
class Batch:
    """Rows to feed, and where which token is to be predicted.

    Attributes:
        inputs: token ids, one array for each stack, `(rows, length)`.
        places: `(row, position)` of each predicted token, `(count, 2)`.
        targets: its id.
        lengths: of the rows of the first array, without what fills them up, `(rows,)`.
    """

    inputs: list
    places: np.ndarray
    targets: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, inputs, places, targets, filler):
        """The same, of lists of rows."""
        padded = [sequence_padding(rows, value=filler) for rows in inputs]
        lengths = np.array([len(row) for row in inputs[0]])
        return cls(padded, np.array(places), np.array(targets), lengths)

    def groups(self, by_length):
        """`(rows, length)`: rows that are predicted together, of one length if so wanted."""
        lengths = self.lengths if by_length else np.full_like(self.lengths, self.lengths.max())
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            for start in range(0, len(rows), TOGETHER):
                yield rows[start : start + TOGETHER], length


def _masked_tokens(rows, tokenizer, filler):
    mask, inputs, places, targets = tokenizer.token_mask_id, [], [], []
    if mask is None:
        raise ValueError(
            f"the vocabulary has no {tokenizer.token_mask}, which this model fills in: is it this "
            "checkpoint's?"
        )
    if others := tokenizer.other_uses_of_mask():
        raise ValueError(
            f"{tokenizer.token_mask} is not for masks alone: it is the tokenizer's token_{others[0]}, "
            "too; expected a token of its own. Correct the mask_token of the tokenizer's files."
        )
    for row in rows:
        for start in range(MASK_EVERY):
            masked = list(row)
            for i in range(1 + start, len(row) - 1, MASK_EVERY):
                masked[i] = mask
                places.append((len(inputs), i))
                targets.append(row[i])
            inputs.append(masked)
    return Batch.of([inputs], places, targets, filler)


def _next_tokens(rows, filler):
    places = [(r, i) for r, row in enumerate(rows) for i in range(len(row) - 1)]
    return Batch.of([rows], places, [rows[r][i + 1] for r, i in places], filler)


def _sequence_to_sequence(rows, tokenizer, filler):
    """The second half of each sentence, from the first; behind a sentinel, if there are any."""
    sentinel = tokenizer.token_to_id("<extra_id_0>")
    gap = [] if sentinel == tokenizer.token_unk_id else [sentinel]
    start = 0 if tokenizer.token_start_id is None else tokenizer.token_start_id
    sources, sentences, places, targets = [], [], [], []
    for row in rows:
        half = len(row) // 2
        sources.append([*row[:half], *gap, row[-1]])
        sentences.append([start, *gap, *row[half:]])
        for i in range(half, len(row)):
            places.append((len(sentences) - 1, len(gap) + i - half))
            targets.append(row[i])
    return Batch.of([sources, sentences], places, targets, filler)


# ---------------------------------------------------------------- readings


def _readings(directory, transformer, batch, options, progress):
    """Every plausible reading; the config's own first."""
    config = transformer.config
    progress("as the config says")
    logits = _logits(transformer, batch)
    yield Reading("as the config says", "", _losses(logits, batch.targets))

    root = config.hidden_size**0.5
    for factor, name in ((root, "times sqrt(hidden_size)"), (1 / root, "over sqrt(hidden_size)")):
        remedy = (
            f"scale_decoder_outputs={factor < 1}"
            if config.stacks != "one"
            else ("the head was rescaled: divide its weights by that factor")
        )
        yield Reading(f"scores {name}", remedy, _losses(logits * factor, batch.targets))

    if config.pad_token_id != 0:  # elsewhere row 0 is padding, and no text has it
        progress("rows 0 and 1 swapped")
        swapped = replace(
            batch, inputs=[_swap(x) for x in batch.inputs], targets=_swap(batch.targets)
        )
        yield Reading(
            "token rows 0 and 1 swapped",
            "use the vocab.txt that came with these weights, or swap its first two lines",
            _losses(_logits(transformer, swapped), swapped.targets),
        )
    if config.segment_vocab_size > 1 and not config.shared_segment_embeddings:
        progress("segment 1")
        yield Reading(
            "segment ids of 1",
            "feed segment id 1 where you fed 0",
            _losses(_logits(transformer, batch, segment=1), batch.targets),
        )
    if config.position == "learned":
        other = _build(directory, options | {"custom_position_ids": True, "with_lm": "linear"})
        for offset in (1, 2):
            progress(f"positions from {offset}")
            yield Reading(
                f"positions counted from {offset}",
                f"custom_position_ids=True, and feed positions from {offset}",
                _losses(_logits(other, batch, offset=offset), batch.targets),
            )
    for act in ("gelu_erf", "gelu_tanh", "relu", "silu"):
        if act != {"gelu": "gelu_erf", "gelu_new": "gelu_tanh"}.get(
            config.hidden_act, config.hidden_act
        ):
            progress(act)
            other = _build(directory, options | {"hidden_act": act, "with_lm": "linear"})
            yield Reading(
                f"activation {act}",
                f"hidden_act={act!r}",
                _losses(_logits(other, batch), batch.targets),
            )


def _swap(ids):
    return np.where(ids == 0, 1, np.where(ids == 1, 0, ids))


def _logits(transformer, batch, segment=0, offset=0):
    """Scores of all tokens at the places to predict, `(count, vocab_size)`."""
    arrays = []
    for tensor in transformer.inputs:
        name = tensor.name.removeprefix(transformer.prefix)
        if name == "segment_ids":
            arrays.append(np.full_like(batch.inputs[0], segment))
        elif name == "position_ids":
            count = np.arange(batch.inputs[0].shape[1]) + offset
            limit = transformer.config.max_position - 1
            arrays.append(np.minimum(count, limit)[None] + 0 * batch.inputs[0])
        else:
            arrays.append(batch.inputs[-1 if name == "decoder_token_ids" else 0])
    decoded = batch.inputs[-1] if len(batch.inputs) > 1 else None
    numbers, found = [], []
    for rows, length in batch.groups(by_length=transformer.config.filler is None):
        # what fills up a decoder's rows comes after the tokens that could see it
        part = [x[rows] if x is decoded else x[rows, :length] for x in arrays]
        outputs = keras.tree.flatten(transformer.model.predict_on_batch(part))[-1]
        here = np.flatnonzero(np.isin(batch.places[:, 0], rows))
        row, place = batch.places[here].T
        found.append(np.asarray(outputs)[np.searchsorted(rows, row), place])
        numbers.append(here)
    return np.concatenate(found)[np.argsort(np.concatenate(numbers))].astype("float64")


def _losses(logits, targets):
    top = logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
    return log_sum - logits[np.arange(len(targets)), targets]


def _judge(report, transformer):
    """Plain words on which reading fits."""
    config, (own, *others) = transformer.config, report.readings
    chance = np.log(config.vocab_size)
    if transformer.config.lm_transform and _random_head(transformer):
        report.add(
            "wrong",
            "the MLM head was never trained (its normalization is exactly 1 and 0): fine-tune it, "
            "or take another checkpoint, before masked words or generation are believed.",
        )
    better = [reading for reading in others if reading.beats(own)]
    best = min(better or [own], key=lambda reading: reading.losses.mean())
    if min(own.losses.mean(), best.losses.mean()) > 0.9 * chance:
        report.add(
            "wrong",
            f"it predicts no better than chance (perplexity {own.perplexity:.4g}, vocabulary "
            f"{config.vocab_size}) under any reading: the head is not trained, or the vocabulary "
            "or the weights belong to something else.",
        )
    elif better:
        report.add(
            "wrong",
            f"read with {best.name} it predicts better: perplexity {best.perplexity:.4g} instead of "
            f"{own.perplexity:.4g}. Remedy: {best.remedy}.",
        )
    else:
        report.add("ok", f"perplexity {own.perplexity:.4g}; no other reading is clearly better.")
        near = [r.name for r in others if not (own.beats(r) or r.name.startswith("scores"))]
        if near:
            report.add("ok", "could not be told apart from it: " + ", ".join(near) + ".")


def _random_head(transformer):
    values = {
        path: keras.ops.convert_to_numpy(v)
        for path, v in transformer.variables.items()
        if path.startswith("lm_norm/") and path.count("/") == 1
    }
    return bool(values) and all(
        np.all(array == (1 if path.endswith("gamma") else 0)) for path, array in values.items()
    )
