"""Detects silently wrong checkpoints: compares perplexities under plausible interpretations.

A checkpoint that is loaded with a wrong activation, swapped rows or a head of another scale raises
no error; its predictions are just worse. So fifty everyday Chinese sentences are predicted under
each interpretation of the files ("reading"), masked tokens one by one or every next token, and the
best reading is compared with that of the config.

Reference:
    Pseudo-perplexity: Salazar et al., "Masked Language Model Scoring", arXiv 1910.14659.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import keras
import numpy as np

from ..checkpoints import CheckpointError
from ..configs.classifiers import named_kind
from ..configs.published import find_files
from ..configs.recognition import is_initial_norm
from ..configs.sentences import has_modules, read_sentence_files
from ..data import sequence_padding
from ..models import build_transformer_model
from ..parsing import listed, shown
from ..tokenizers import load_tokenizer

__all__ = ["SENTENCES", "Reading", "Report", "examine"]

SENTENCES = Path(__file__).with_name("everyday.txt").read_text(encoding="utf-8").split()
TOGETHER = 64  # rows in a forward pass
MASK_EVERY = 6  # every sixth token of a sentence is masked at a time
CLEAR = 4.0  # a reading is better if its loss is lower by this many standard errors,
LEAST = 0.02  # and by this many nats per token: smaller differences have no visible effect
LEAST_SCALE = 0.7  # the same for scaled logits: many correct models gain a little by sharper ones


@dataclass(frozen=True)
class Reading:
    """An interpretation of the files, and how well it predicts.

    Attributes:
        name: how it differs from the config; `"as the config says"` if it does not.
        remedy: how to get this reading.
        losses: loss of each predicted token, in nats.
    """

    name: str
    remedy: str
    losses: np.ndarray

    @property
    def perplexity(self):
        return float(np.exp(min(self.losses.mean(), 80)))

    def beats(self, other):
        """Returns whether it clearly predicts better than another reading."""
        least = LEAST_SCALE if self.name.startswith("logits") else LEAST
        gain = other.losses.mean() - self.losses.mean()
        return bool(gain > least and self.advantage(other) > CLEAR)

    def advantage(self, other):
        """Returns by how many standard errors it predicts better than another reading."""
        difference = other.losses - self.losses
        error = difference.std() / len(difference) ** 0.5
        return float(difference.mean() / error) if error else 0.0


@dataclass
class Report:
    """The results of an examination.

    Attributes:
        directory: the examined directory.
        readings: list of `Reading`.
        findings: list of `(level, sentence)`; the level is `"ok"`, `"look"` or `"wrong"`.
    """

    directory: str
    readings: list = field(default_factory=list)
    findings: list = field(default_factory=list)

    def add(self, level, sentence):
        self.findings.append((level, sentence))

    @property
    def healthy(self):
        return all(level == "ok" for level, _ in self.findings)


def examine(directory, progress=lambda what: None, sentences=SENTENCES, **options):
    """Examines a checkpoint: its weights, its vocabulary, and how well it predicts.

    Args:
        directory: directory with config, weights and vocabulary.
        progress: called with a short description before each step.
        sentences: the texts to predict.
        **options: options of `build_transformer_model`, e.g. `model=`.

    Returns:
        A `Report`.

    Raises:
        ValueError, CheckpointError: a file is missing, or the files do not match.
    """
    report = Report(str(directory))
    progress("reading the weights")
    transformer = _with_classifier(report, directory, options) or _build(directory, options)
    _look_at_weights(report, transformer)
    _look_at_modules(report, directory)
    progress("tokenizing")
    tokenizer = load_tokenizer(directory)
    rows = [tokenizer.encode(text)[0] for text in sentences]
    if not _look_at_vocabulary(report, tokenizer, rows, transformer.config):
        return report
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
        batch = _masked_tokens(directory, rows, tokenizer, filler)
    for reading in _readings(directory, transformer, batch, options, progress):
        report.readings.append(reading)
    _judge(report, transformer)
    return report


def _with_classifier(report, directory, options):
    """Builds the model with the classifier that its config names; None if there is no such one."""
    kind = named_kind(find_files(directory, None)[0])
    if kind is None:
        return None
    options = {"with_classifier": kind} | options | {"sequence_length": None}
    try:
        transformer = build_transformer_model(directory, return_keras_model=False, **options)
    except (CheckpointError, ValueError) as error:
        # of weights that do not match, the second line names the first one, and the last says why
        *details, reason = str(error).splitlines()
        weight = f" ({details[1][2:]})" if len(details) > 1 else ""
        report.add("wrong", f"the classifier of {kind}{weight}: {reason}")
        return None
    labels = transformer.config.labels
    names = (
        f"; labels ({len(labels)}): {listed(list(labels))}" if kind in ("text", "tokens") else ""
    )
    report.add("ok", f"the classifier of {kind} is complete{names}.")
    return transformer


def _build(directory, options):
    """Builds the model for texts of any length, with its language-model head if there is one."""
    options = options | {"sequence_length": None}
    try:
        return build_transformer_model(
            directory, return_keras_model=False, **({"with_lm": "linear"} | options)
        )
    except CheckpointError:  # no such head; any other problem is raised again below
        return build_transformer_model(directory, return_keras_model=False, **options)


# ---------------------------------------------------------------- weights and vocabulary


def _look_at_weights(report, transformer):
    for path, variable in transformer.variables.items():
        array = keras.ops.convert_to_numpy(variable).astype("float32")
        if not np.isfinite(array).all():
            count = int((~np.isfinite(array)).sum())
            report.add("wrong", f"{path}: {count} values are not finite; the file is damaged.")
        elif array.ndim > 1 and not array.any() and not path.endswith("dense/kernel"):
            report.add("wrong", f"{path}: all zeros; these weights were never trained, or lost.")
        elif array.ndim > 1 and path.endswith("kernel"):
            dead = int((~array.any(axis=0)).sum())
            if dead:
                report.add(
                    "look", f"{path}: {dead} of {array.shape[1]} units are dead (all zeros)."
                )
    if all(level == "ok" for level, _ in report.findings):
        report.add("ok", "all weights are finite, and no units are dead.")


def _look_at_modules(report, directory):
    """Adds a finding on the files of sentence-transformers, if there are any."""
    if not has_modules(directory):
        return
    try:
        report.add("ok", f"sentence vectors: {read_sentence_files(directory).summary()}.")
    except (CheckpointError, OSError, ValueError) as error:
        report.add("wrong", str(error))


def _look_at_vocabulary(report, tokenizer, rows, config):
    """Adds a finding on the ids of the texts; returns whether the model has rows for all."""
    ids = [i for row in rows for i in row]
    unknown = float(np.mean(np.array(ids) == tokenizer.token_unk_id))
    largest = max(*ids, tokenizer.token_mask_id or 0)
    if largest >= config.vocab_size:
        report.add(
            "wrong",
            f"the vocabulary has the id {largest}, but the token table has {config.vocab_size} "
            "rows: the vocabulary belongs to another checkpoint.",
        )
        return False
    if unknown > 0.05:
        report.add(
            "wrong",
            f"{unknown:.0%} of the tokens of everyday sentences are unknown: the vocabulary is not "
            "for Chinese, or was loaded as one of another type.",
        )
    else:
        report.add("ok", f"{unknown:.1%} of the tokens are unknown.")
    return True


# ---------------------------------------------------------------- batches


@dataclass(frozen=True)
class Batch:
    """Input rows, and the tokens to predict.

    Attributes:
        inputs: token ids, an array `(rows, length)` for each stack.
        positions: `(row, position)` of each token to predict, `(count, 2)`.
        targets: the ids of these tokens, `(count,)`.
        lengths: lengths of the rows of the first array without padding, `(rows,)`.
    """

    inputs: list
    positions: np.ndarray
    targets: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, inputs, positions, targets, filler):
        """Makes a batch from lists of rows, padded with `filler`."""
        padded = [sequence_padding(rows, value=filler) for rows in inputs]
        lengths = np.array([len(row) for row in inputs[0]])
        return cls(padded, np.array(positions), np.array(targets), lengths)

    def groups(self, by_length):
        """Yields `(rows, length)`: rows for one forward pass, of equal lengths if `by_length`."""
        lengths = self.lengths if by_length else np.full_like(self.lengths, self.lengths.max())
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            for start in range(0, len(rows), TOGETHER):
                yield rows[start : start + TOGETHER], length


def _masked_tokens(directory, rows, tokenizer, filler):
    mask, inputs, positions, targets = tokenizer.token_mask_id, [], [], []
    if mask is None:
        raise ValueError(
            f"{directory}: the vocabulary has no mask token ({shown(tokenizer.token_mask)}), which "
            "this model needs. Use the vocabulary of this checkpoint."
        )
    if others := tokenizer.other_uses_of_mask():
        raise ValueError(
            f"{directory}: {shown(tokenizer.token_mask)} is not for masks alone: it is the "
            f"tokenizer's token_{others[0]}, too; expected a separate token. Correct mask_token in "
            "the files of the tokenizer."
        )
    for row in rows:
        for start in range(MASK_EVERY):
            masked = list(row)
            for i in range(1 + start, len(row) - 1, MASK_EVERY):
                masked[i] = mask
                positions.append((len(inputs), i))
                targets.append(row[i])
            inputs.append(masked)
    return Batch.of([inputs], positions, targets, filler)


def _next_tokens(rows, filler):
    positions = [(r, i) for r, row in enumerate(rows) for i in range(len(row) - 1)]
    return Batch.of([rows], positions, [rows[r][i + 1] for r, i in positions], filler)


def _sequence_to_sequence(rows, tokenizer, filler):
    """Makes a batch to predict the second half of each sentence from the first.

    The second half follows the first sentinel if the vocabulary has sentinels.
    """
    sentinel = tokenizer.token_to_id("<extra_id_0>")
    gap = [] if sentinel == tokenizer.token_unk_id else [sentinel]
    start = 0 if tokenizer.token_start_id is None else tokenizer.token_start_id
    sources, sentences, positions, targets = [], [], [], []
    for row in rows:
        half = len(row) // 2
        sources.append([*row[:half], *gap, row[-1]])
        sentences.append([start, *gap, *row[half:]])
        for i in range(half, len(row)):
            positions.append((len(sentences) - 1, len(gap) + i - half))
            targets.append(row[i])
    return Batch.of([sources, sentences], positions, targets, filler)


# ---------------------------------------------------------------- readings


def _readings(directory, transformer, batch, options, progress):
    """Yields every plausible reading, first that of the config."""
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
        yield Reading(f"logits {name}", remedy, _losses(logits * factor, batch.targets))

    # otherwise one of the two rows is padding, which no text contains
    if config.pad_token_id != 0 and not config.first_position:
        progress("rows 0 and 1 swapped")
        swapped = replace(
            batch, inputs=[_swap(x) for x in batch.inputs], targets=_swap(batch.targets)
        )
        yield Reading(
            "token rows 0 and 1 swapped",
            "use the vocab.txt of these weights, or swap its first two lines",
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
            first = config.first_position + offset
            progress(f"positions from {first}")
            yield Reading(
                f"positions counted from {first}",
                f"custom_position_ids=True, and feed positions from {first}",
                _losses(_logits(other, batch, offset=offset), batch.targets),
            )
    for act in ("gelu_erf", "gelu_tanh", "relu", "silu"):
        other_config = replace(config, hidden_act=act, with_lm="linear")
        if other_config.fits_head_hf and act != {"gelu": "gelu_erf", "gelu_new": "gelu_tanh"}.get(
            config.hidden_act, config.hidden_act
        ):
            progress(act)
            try:
                other = _build(directory, options | {"hidden_act": act, "with_lm": "linear"})
            except ValueError:  # ModernBERT's config names the activation of its head, too
                continue
            yield Reading(
                f"activation {act}",
                f"hidden_act={act!r}",
                _losses(_logits(other, batch), batch.targets),
            )


def _swap(ids):
    return np.where(ids == 0, 1, np.where(ids == 1, 0, ids))


def _logits(transformer, batch, segment=0, offset=0):
    """Computes the logits at the positions to predict, float64 `(count, vocab_size)`."""
    arrays = []
    for tensor in transformer.inputs:
        name = tensor.name.removeprefix(transformer.prefix)
        if name == "segment_ids":
            arrays.append(np.full_like(batch.inputs[0], segment))
        elif name == "position_ids":
            first = transformer.config.first_position
            count = np.arange(batch.inputs[0].shape[1]) + offset + first
            limit = transformer.config.max_position - 1
            arrays.append(np.minimum(count, limit)[None] + 0 * batch.inputs[0])
        else:
            arrays.append(batch.inputs[-1 if name == "decoder_token_ids" else 0])
    decoder_inputs = batch.inputs[-1] if len(batch.inputs) > 1 else None
    indices, logits = [], []
    for rows, length in batch.groups(by_length=transformer.config.filler is None):
        # causal attention: no token of a decoder attends to the padding after it
        part = [x[rows] if x is decoder_inputs else x[rows, :length] for x in arrays]
        outputs = keras.tree.flatten(transformer.model.predict_on_batch(part))[-1]
        of_rows = np.flatnonzero(np.isin(batch.positions[:, 0], rows))
        row, position = batch.positions[of_rows].T
        logits.append(np.asarray(outputs)[np.searchsorted(rows, row), position])
        indices.append(of_rows)
    return np.concatenate(logits)[np.argsort(np.concatenate(indices))].astype("float64")


def _losses(logits, targets):
    top = logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
    return log_sum - logits[np.arange(len(targets)), targets]


def _judge(report, transformer):
    """Adds the findings on which reading predicts best."""
    config, (configured, *others) = transformer.config, report.readings
    chance = np.log(config.vocab_size)
    if transformer.config.lm_transform and _random_head(transformer):
        report.add(
            "wrong",
            "the MLM head was never trained (its normalization is exactly 1 and 0): fine-tune it, "
            "or use another checkpoint, before you rely on fill-mask or generation.",
        )
    better = [reading for reading in others if reading.beats(configured)]
    best = min(better or [configured], key=lambda reading: reading.losses.mean())
    if min(configured.losses.mean(), best.losses.mean()) > 0.9 * chance:
        report.add(
            "wrong",
            f"the model predicts no better than chance (perplexity {configured.perplexity:.4g}, "
            f"vocabulary {config.vocab_size}) under any reading: the head is not trained, or "
            "vocabulary and weights belong to different checkpoints.",
        )
    elif better:
        report.add(
            "wrong",
            f"the model predicts better with {best.name}: perplexity {best.perplexity:.4g} instead "
            f"of {configured.perplexity:.4g}. Remedy: {best.remedy}.",
        )
    else:
        report.add(
            "ok", f"perplexity {configured.perplexity:.4g}; no other reading is clearly better."
        )
        near = [r.name for r in others if not (configured.beats(r) or r.name.startswith("logits"))]
        if near:
            report.add("ok", "could not be told apart from it: " + ", ".join(near) + ".")


def _random_head(transformer):
    variables = transformer.variables
    paths = [path for path in ("lm_norm/gamma", "lm_norm/beta") if path in variables]
    return bool(paths) and is_initial_norm(
        *(keras.ops.convert_to_numpy(variables[path]) for path in paths)
    )
