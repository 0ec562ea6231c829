"""Losses for sequences, multi-label classification, sentence vectors and rare classes.

Plain functions `(y_true, y_pred)` of Keras tensors, for `model.compile(loss=...)`, for a `Loss`
layer or for your own loss (see docs/losses.md). They can be saved inside a `.keras` file.

All losses take logits, without softmax or sigmoid, and are computed in float32 whatever the
model's precision. An integer label of -1 is ignored: the loss there is 0, without gradient, and
masked, so that the mean that Keras takes is over the other labels.
"""

from collections.abc import Sequence

import numpy as np
from keras import ops
from keras.src.backend import get_keras_mask, set_keras_mask

from .arguments import check_number, checks_flags
from .backend import is_concrete
from .layers.base import register
from .layers.values import NEG_INF, check_shape, integer_labels, raise_or_nan, value_range
from .types import Tensor

__all__ = [
    "cosent",
    "electra_loss",
    "electra_losses",
    "focal",
    "info_nce",
    "label_smoothed",
    "masked_mean",
    "multilabel_categorical_crossentropy",
    "projected_crossentropy",
    "sequence_crossentropy",
    "simcse",
    "sparse_multilabel_categorical_crossentropy",
]

MASKED_LOGIT = -2.9e4  # greater than the logit of masked spans of `GlobalPointer`, float16 too
RANGES = {
    "smoothing": (0.0, 1.0),
    "gamma": (0.0, 1000.0),
    "alpha": (0.0, 1e6),
    "scale": (1e-6, 1e6),
    "temperature": (1e-6, 1e6),
    "weight": (0.0, 1e6),
    "chunk": (1, 2**31 - 1),
}


def masked_mean(values: Tensor, counted: Tensor | None = None) -> Tensor:
    """Returns the mean of the values that count; 0 if none does.

    Args:
        values: any shape.
        counted: bool mask or weights of the same shape; None: all values count.

    Returns:
        A scalar, float32.

    Raises:
        ValueError: `counted` has another shape.

    Example:
        >>> loss = masked_mean(sequence_crossentropy(labels, logits), labels >= 0)
    """
    values = ops.cast(values, "float32")
    if counted is None:
        return ops.mean(values)
    counted = ops.cast(counted, "float32")
    check_shape("counted", counted, values.shape, "Give one for each value.")
    return ops.divide_no_nan(ops.sum(values * counted), ops.sum(counted))


@register
def sequence_crossentropy(y_true: Tensor, y_pred: Tensor, weights: Tensor | None = None) -> Tensor:
    """Computes the cross entropy of integer labels, such as the next token at each position.

    Computed as the log-sum-exp of the logits minus the logit of the label, without probabilities.

    Args:
        y_true: integers `(...)`; -1 is ignored.
        y_pred: logits `(..., classes)`; or `(...)` or `(..., 1)`, one logit for two classes.
        weights: weight of each label, `(...)`, numbers or booleans; labels of weight 0 are
            ignored. Axes of size 1 are broadcast: `(batch, 1)` has a weight for each text.

    Returns:
        `(...)`, 0 where ignored.

    Raises:
        ValueError: labels or weights have another shape than the logits; or, in an eager call,
            labels are not classes or not whole numbers (in a compiled program the loss is NaN).

    Example:
        >>> model = build_transformer_model(directory, application="lm", with_lm="linear")
        >>> model.compile("adam", sequence_crossentropy)
    """
    labels, logits = _labels_and_logits(y_true, y_pred)
    return _mask_ignored(_crossentropy(labels, logits), labels, weights)


@register
def label_smoothed(y_true: Tensor, y_pred: Tensor, smoothing: float = 0.1) -> Tensor:
    """Computes the cross entropy with label smoothing.

    Args:
        y_true, y_pred: see `sequence_crossentropy`.
        smoothing: fraction of the probability that is spread evenly over all classes.

    Returns:
        `(...)`, 0 where the label is -1.

    Reference:
        Szegedy et al., "Rethinking the Inception Architecture", arXiv 1512.00567, section 7.
    """
    _check_options(smoothing=smoothing)
    labels, logits = _labels_and_logits(y_true, y_pred)
    expected = (1 - smoothing) * _label_logits(labels, logits)
    expected = expected + smoothing * ops.mean(logits, axis=-1)
    return _mask_ignored(ops.logsumexp(logits, axis=-1) - expected, labels)


@register
def focal(
    y_true: Tensor, y_pred: Tensor, gamma: float = 2.0, alpha: Sequence[float] | None = None
) -> Tensor:
    """Computes the focal loss: cross entropy that down-weights examples classified well.

    `-alpha_t (1 - p_t) ** gamma log(p_t)`, where `p_t` is the probability of the true class.

    Args:
        y_true, y_pred: see `sequence_crossentropy`.
        gamma: strength of the down-weighting; 0 gives cross entropy.
        alpha: weight of each class, a list of numbers; None: 1.

    Returns:
        `(...)`, 0 where the label is -1.

    Reference:
        Lin et al., "Focal Loss for Dense Object Detection", arXiv 1708.02002, equation 5.
    """
    _check_options(gamma=gamma)
    labels, logits = _labels_and_logits(y_true, y_pred)
    if alpha is not None:
        _check_options(alpha=alpha)
        alpha = ops.convert_to_tensor(alpha, dtype="float32")
        check_shape("alpha", alpha, logits.shape[-1:], "Give a weight for each class.")
    others = ops.where(_is_label(labels, logits), NEG_INF, logits)
    total = ops.logsumexp(logits, axis=-1)
    # log(1 - p) as a sum of the other classes: 1 - p itself would round to 0
    factor = ops.exp(gamma * (ops.logsumexp(others, axis=-1) - total))
    losses = factor * (total - _label_logits(labels, logits))
    if alpha is not None:
        losses = losses * ops.take(alpha, ops.maximum(labels, 0), axis=0)
    return _mask_ignored(losses, labels)


def projected_crossentropy(
    y_true: Tensor,
    x: Tensor,
    table: Tensor,
    bias: Tensor | None = None,
    weights: Tensor | None = None,
    chunk: int = 4096,
) -> Tensor:
    """Computes `sequence_crossentropy` of the logits `x @ table.T + bias` in chunks, to save
    memory.

    The logits and their gradient are computed for one chunk of the vocabulary at a time; the
    backward pass computes them again. So they need the memory of one chunk, at the price of
    computing them twice. The gradient cannot be differentiated again.

    Args:
        y_true: integers `(...)`; -1 is ignored.
        x: hidden states to project to logits, `(..., dim)`.
        table: `(classes, dim)`, such as the `embeddings` of a `TokenEmbedding`.
        bias: `(classes,)` or None.
        weights: see `sequence_crossentropy`.
        chunk: number of classes per chunk.

    Returns:
        `(...)`, see `sequence_crossentropy`.

    Example:
        >>> losses = projected_crossentropy(token_ids[:, 1:], x[:, :-1], embedding.embeddings)
    """
    _check_options(chunk=chunk)
    labels, table = integer_labels(y_true), ops.convert_to_tensor(table)
    classes, dim = table.shape
    check_shape("x", x, (*labels.shape, dim), "Give a vector of the table's dim for each label.")
    bias = ops.zeros((classes,)) if bias is None else ops.convert_to_tensor(bias)
    check_shape("bias", bias, (classes,), "Give one for each row of the table.")
    parts = -(-classes // chunk)
    padding = -classes % parts  # all parts have one size; the padding has probability 0
    total = _log_sums(
        ops.reshape(x, (-1, dim)),
        ops.pad(table, [(0, padding), (0, 0)]),
        ops.pad(ops.cast(bias, "float32"), [(0, padding)], constant_values=NEG_INF),
        parts,
    )
    total = ops.reshape(total, ops.shape(labels))
    nan_where_wrong = _check_labels(labels, classes)
    ids = ops.clip(labels, 0, classes - 1)
    label_logits = ops.cast(ops.take(table, ids, axis=0), x.dtype)
    label_logits = ops.sum(ops.cast(x * label_logits, "float32"), axis=-1)
    label_logits = label_logits + ops.cast(ops.take(bias, ids, axis=0), "float32")
    return _mask_ignored(nan_where_wrong(total - label_logits), labels, weights)


@register
def multilabel_categorical_crossentropy(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Computes a multi-label loss (ZLPR): classes with a logit above 0 are predicted.

    `log(1 + sum of e^s over the negative classes) + log(1 + sum of e^-s over the positive ones)`:
    every positive logit is pushed above every negative one, with 0 between them.

    Args:
        y_true: `(..., classes)`, 1 for positive classes, 0 for negative ones, or a probability;
            -1: the class is ignored.
        y_pred: logits `(..., classes)`; a class whose logit is minus infinity is ignored.

    Returns:
        `(...)`.

    Raises:
        ValueError: a positive class is a span that `GlobalPointer` masks (in padding, cut off, or
            ending before it begins), in an eager call; in a compiled program the loss is NaN.

    Reference:
        Su et al., "ZLPR", arXiv 2208.02955; https://kexue.fm/archives/7359, and for
        probabilities https://kexue.fm/archives/9064.
    """
    y_true, y_pred = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
    check_shape("y_true", y_true, y_pred.shape, "Give a label for each class.")
    finite = ops.not_equal(y_pred, -float("inf"))
    masked = ops.logical_and(finite, y_pred <= MASKED_LOGIT)
    nan_where_wrong = raise_or_nan(
        ops.any(ops.logical_and(masked, y_true > 0), axis=-1),
        lambda: (
            "y_true: a label is a masked span; expected no span in padding, in text that was cut "
            "off, or that ends before it begins. Remove such spans from the labels."
        ),
    )
    counted = ops.logical_and(ops.logical_not(y_true < 0), finite)  # NaN gives NaN
    # after `where`, the gradient of ignored classes is 0, not "infinity times 0"
    y_true, y_pred = ops.where(counted, y_true, 0.0), ops.where(counted, y_pred, 0.0)

    def log_one_and_sum(exponents, probs):
        exponents = exponents + ops.log(probs)
        return _log_one_and_sum(ops.where(counted, exponents, -float("inf")))

    losses = log_one_and_sum(y_pred, 1 - y_true) + log_one_and_sum(-y_pred, y_true)
    return _with_mask(nan_where_wrong(losses), ops.any(counted, axis=-1))


@register
@checks_flags
def sparse_multilabel_categorical_crossentropy(
    y_true: Tensor, y_pred: Tensor, mask_zero: bool = False
) -> Tensor:
    """Computes `multilabel_categorical_crossentropy` from the ids of the positive classes.

    The negative classes are summed directly, where bert4keras subtracts the positive ones from the
    sum of all: there, with large positive logits, the negative ones are lost to rounding.

    Args:
        y_true: ids `(..., positives)`, in any order, padded with -1; a repeated id counts once.
        y_pred: logits `(..., classes)`.
        mask_zero: whether the ids are padded with 0, and class 0 is not used.

    Returns:
        `(...)`.

    Raises:
        ValueError: see `multilabel_categorical_crossentropy` and `sequence_crossentropy`.

    Reference:
        https://kexue.fm/archives/7359
    """
    ids, classes = integer_labels(y_true), ops.shape(y_pred)[-1]
    shape = (*y_pred.shape[:-1], ids.shape[-1])
    check_shape("y_true", ids, shape, "Give the ids of classes for each row of logits.")
    nan_where_wrong = _check_labels(ids, classes, axis=-1)
    ids = ops.where(ids >= (1 if mask_zero else 0), ids, classes)  # an extra column for padding
    rows = ops.reshape(ids, (-1, ops.shape(ids)[-1]))
    row_indices = ops.broadcast_to(ops.arange(ops.shape(rows)[0])[:, None], ops.shape(rows))
    indices = ops.stack([ops.reshape(row_indices, (-1,)), ops.reshape(rows, (-1,))], axis=-1)
    labels = ops.zeros((ops.shape(rows)[0], classes + 1), "float32")
    labels = ops.scatter_update(labels, indices, ops.ones_like(indices[:, 0], dtype="float32"))
    labels = ops.reshape(labels[:, :classes], ops.shape(y_pred))
    if mask_zero:
        labels = ops.where(ops.arange(classes) == 0, -1.0, labels)
    losses = multilabel_categorical_crossentropy(labels, y_pred)
    return _with_mask(nan_where_wrong(losses), get_keras_mask(losses))


@register
def cosent(y_true: Tensor, y_pred: Tensor, scale: float = 20.0) -> Tensor:
    """Computes the CoSENT loss, which orders cosine similarities as the labels.

    `log(1 + sum of e^(scale (cos_j - cos_i)) over all i, j with label_i > label_j)`.

    Args:
        y_true: similarity of each pair, numbers on any scale, `(pairs,)` or `(pairs, 1)`; with
            vectors `(2 pairs, 1)`, where only the first of two rows is used.
        y_pred: cosines `(pairs,)` or `(pairs, 1)`; or vectors `(2 pairs, dim)`, where two
            consecutive rows are a pair.
        scale: factor of the cosines.

    Returns:
        A scalar.

    Reference:
        Su, "CoSENT", 2022, https://kexue.fm/archives/8847
    """
    _check_options(scale=scale)
    labels, cosines = ops.reshape(y_true, (-1,)), ops.cast(y_pred, "float32")
    if len(cosines.shape) == 2 and cosines.shape[-1] != 1:
        vectors = _normalized(cosines)
        _check_pairs(vectors)  # in a compiled program, the shapes of the next line differ
        labels, cosines = labels[::2], ops.sum(vectors[::2] * vectors[1::2], axis=-1)
    cosines = scale * ops.reshape(cosines, (-1,))
    check_shape("y_true", labels, cosines.shape, "Give a label for each pair.")
    nan_where_wrong = raise_or_nan(
        ops.any(ops.not_equal(labels, labels)),
        lambda: "y_true: some labels are NaN; expected numbers. Remove such pairs.",
    )
    differences = cosines[None, :] - cosines[:, None]
    wrong = ops.where(labels[:, None] > labels[None, :], differences, -float("inf"))
    return nan_where_wrong(_log_one_and_sum(ops.reshape(wrong, (-1,))))


@register
def info_nce(y_true: Tensor, y_pred: Tensor, temperature: float = 0.05) -> Tensor:
    """Computes the InfoNCE loss of each vector's key against all other keys of the batch.

    Args:
        y_true: keys `(keys, dim)`, at least as many as vectors: row `i` belongs to vector `i`,
            all other rows are negatives (rows beyond the vectors are hard negatives).
        y_pred: vectors `(batch, dim)`.
        temperature: divisor of the cosines.

    Returns:
        `(batch,)`.

    Reference:
        van den Oord et al., arXiv 1807.03748, equation 4; Gao et al., "SimCSE",
        arXiv 2104.08821, equations 1 and, with hard negatives, 5.
    """
    _check_options(temperature=temperature)
    count, keys = ops.shape(y_pred)[0], ops.shape(y_true)[0]
    nan_where_wrong = _check_rows(
        count > keys,
        y_pred,
        lambda: f"y_true: {keys} keys for {count} vectors; expected at least one for each vector.",
    )
    cosines = ops.matmul(_normalized(y_pred), ops.transpose(_normalized(y_true)))
    return nan_where_wrong(_crossentropy(ops.arange(count), cosines / temperature))


@register
def simcse(y_true: Tensor, y_pred: Tensor, temperature: float = 0.05) -> Tensor:
    """Computes the SimCSE loss of two vectors of each text, obtained with different dropout.

    Args:
        y_true: not used (Keras requires it).
        y_pred: vectors `(2 texts, dim)`, where two consecutive rows are of the same text.
        temperature: divisor of the cosines.

    Returns:
        `(texts,)`.

    Reference:
        Gao et al., "SimCSE", arXiv 2104.08821, equation 4.
    """
    nan_where_wrong = _check_pairs(y_pred)
    return nan_where_wrong(info_nce(y_pred[1::2], y_pred[::2], temperature))


def electra_loss(
    y_true: Sequence[Tensor], y_pred: Sequence[Tensor], weight: float = 50.0
) -> Tensor:
    """Returns the generator's loss plus `weight` times the discriminator's.

    Args:
        y_true: two integer arrays `(batch, length)`: the original tokens where masked, -1
            elsewhere; and 1 where the generator replaced a token, 0 where not, -1 at padding.
        y_pred: logits of the generator, `(batch, length, vocab_size)`, and of the discriminator,
            `(batch, length)` or `(batch, length, 1)`.
        weight: weight of the discriminator.

    Returns:
        A scalar.

    Reference:
        Clark et al., "ELECTRA", arXiv 2003.10555, section 2 and, for the weight, appendix A.
    """
    _check_options(weight=weight)
    generator, discriminator = electra_losses(y_true, y_pred)
    return generator + weight * discriminator


def electra_losses(y_true, y_pred, mean=masked_mean):
    """Returns the losses of the generator and of the discriminator.

    Args:
        y_true, y_pred: see `electra_loss`.
        mean: function `(losses, counted)` that averages the losses of the tokens that count.

    Returns:
        Two scalars.
    """
    return tuple(
        mean(sequence_crossentropy(labels, logits), labels >= 0)
        for labels, logits in zip(y_true, y_pred, strict=True)
    )


def _log_sums(x, table, bias, parts):
    """Returns `logsumexp(x @ table.T + bias)`, `(tokens,)`, in equal parts of the vocabulary.

    A loop with a custom gradient: the compilers run the parts of an unrolled loop, or of its
    own gradient, all at once, or keep every part for the backward pass.
    """
    dim, size = table.shape[1], table.shape[0] // parts

    def part(i, x, table, bias):
        rows = ops.cast(ops.slice(table, (i * size, 0), (size, dim)), x.dtype)
        logits = ops.cast(ops.matmul(x, ops.transpose(rows)), "float32")
        return rows, logits + ops.slice(bias, (i * size,), (size,))

    @ops.custom_gradient
    def log_sums(x, table, bias):
        def add_part(i, total):
            _, logits = part(i, x, table, bias)
            return ops.logaddexp(total, ops.logsumexp(logits, axis=-1))

        total = ops.fori_loop(0, parts, add_part, ops.full_like(x[:, 0], NEG_INF, dtype="float32"))

        def gradient(*upstream_last, upstream=None):
            upstream = upstream_last[-1] if upstream is None else upstream

            def add_gradient(i, gradients):
                x_gradient, table_gradient, bias_gradient = gradients
                rows, logits = part(i, x, table, bias)
                logits_gradient = ops.exp(logits - total[:, None]) * upstream[:, None]
                rows_gradient = ops.cast(
                    ops.matmul(ops.transpose(logits_gradient), ops.cast(x, "float32")), table.dtype
                )
                return (
                    x_gradient + ops.matmul(logits_gradient, ops.cast(rows, "float32")),
                    ops.slice_update(table_gradient, (i * size, 0), rows_gradient),
                    ops.slice_update(bias_gradient, (i * size,), ops.sum(logits_gradient, axis=0)),
                )

            zeros = ops.zeros_like(x, dtype="float32"), ops.zeros_like(table), ops.zeros_like(bias)
            x_gradient, table_gradient, bias_gradient = ops.fori_loop(0, parts, add_gradient, zeros)
            return ops.cast(x_gradient, x.dtype), table_gradient, bias_gradient

        return total, gradient

    return log_sums(x, table, bias)


def _labels_and_logits(y_true, y_pred):
    """Returns integers `(...)` and float32 logits `(..., classes)`.

    A single logit is that of class 1 of 2.
    """
    labels, logits = integer_labels(y_true), ops.cast(y_pred, "float32")
    ranks = len(labels.shape), len(logits.shape)
    if ranks[0] == ranks[1] and logits.shape[-1] != 1 and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, axis=-1)  # Keras adds an axis to labels `(batch,)`
    elif ranks[0] == ranks[1]:
        logits = logits[..., None]
    if logits.shape[-1] == 1:
        logits = ops.concatenate([ops.zeros_like(logits), logits], axis=-1)
    check_shape("y_true", labels, logits.shape[:-1], "Give a label for each row of logits.")
    nan_where_wrong = _check_labels(labels[..., None], logits.shape[-1])
    return labels, nan_where_wrong(logits)


def _check_options(**options):
    """Checks numbers against their range in `RANGES`; tensors, which may be learned, pass.

    Raises:
        ValueError: names the option and its range.
    """
    for name, value in options.items():
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, np.generic) or not hasattr(number, "shape"):
                check_number(name, number, *RANGES[name])


def _check_rows(wrong, vectors, error):
    """Checks the number of vectors; see `raise_or_nan`.

    A number that is known while a program is traced gives NaN, too, as an error would be too
    early: Keras traces losses with the rows of a batch before `dropout_pairs` doubles them.
    """
    if is_concrete(vectors):
        return raise_or_nan(wrong, error)
    return lambda x: ops.where(wrong, float("nan"), x)


def _check_pairs(vectors):
    """Checks that the number of vectors is even; see `_check_rows`."""
    count = ops.shape(vectors)[0]
    return _check_rows(
        count % 2 == 1,
        vectors,
        lambda: f"y_pred: {count} vectors; expected an even number, as two rows are a pair.",
    )


def _check_labels(labels, classes, axis=None):
    """Checks that labels, or rows of them along an axis, are classes; see `raise_or_nan`."""
    wrong = labels >= classes
    return raise_or_nan(
        wrong if axis is None else ops.any(wrong, axis=axis),
        lambda: (
            f"y_true: labels beyond the classes; expected at most {int(classes) - 1}, got "
            f"{value_range(labels)}. Give the last layer as many units as there are classes."
        ),
    )


def _crossentropy(labels, logits):
    return ops.logsumexp(logits, axis=-1) - _label_logits(labels, logits)


def _label_logits(labels, logits):
    ids = ops.maximum(labels, 0)[..., None]
    return ops.squeeze(ops.take_along_axis(logits, ids, axis=-1), axis=-1)


def _is_label(labels, logits):
    return ops.arange(logits.shape[-1]) == labels[..., None]


def _mask_ignored(losses, labels, weights=None):
    """Returns the losses, 0 and masked where the label is -1 or has weight 0."""
    counted = labels >= 0
    if weights is not None:
        weights = ops.cast(weights, "float32")
        if len(weights.shape) == len(labels.shape) + 1 and weights.shape[-1] == 1:
            weights = ops.squeeze(weights, axis=-1)  # as for labels `(batch, 1)`
        check_shape("weights", weights, labels.shape, "Give one for each label.", broadcast=True)
        counted, losses = ops.logical_and(counted, weights != 0), losses * weights
    return _with_mask(ops.where(counted, losses, 0.0), counted)


def _with_mask(losses, counted):
    """Attaches a mask to the losses, which Keras uses when it averages."""
    set_keras_mask(losses, counted)
    return losses


def _log_one_and_sum(exponents):
    """Returns `log(1 + sum(e ** exponents))` along the last axis."""
    zero = ops.zeros_like(exponents[..., :1])
    return ops.logsumexp(ops.concatenate([exponents, zero], axis=-1), axis=-1)


def _normalized(vectors):
    return ops.normalize(ops.cast(vectors, "float32"), axis=-1)
