"""Losses: of sequences, of several labels at once, of sentence vectors, for rare classes.

Plain functions `(y_true, y_pred)` of Keras tensors, for `model.compile(loss=...)`, for a `Loss`
layer or for a loss of your own (see docs/losses.md), which can be saved inside a `.keras` file.

Every loss takes scores: no softmax, no sigmoid before it. It is computed in float32 whatever the
model's precision. An integer label of -1 does not count: what is computed there is 0, without
gradient, and marked, so that the mean Keras takes is the mean over the labels that count.
"""

import keras
import numpy as np
from keras import ops
from keras.src.backend import get_keras_mask, set_keras_mask

from .arguments import check_number, checks_flags
from .layers.values import at_hand, check_shape, extent, mark_wrong, whole_numbers

register = keras.saving.register_keras_serializable("bert4keras_lite")

HIDDEN = -1e9  # next to it, any score is large; and it is finite
HIDDEN_SPAN = -2.9e4  # above what `GlobalPointer` gives hidden spans, in float16, too
RANGES = {
    "smoothing": (0.0, 1.0),
    "gamma": (0.0, 1000.0),
    "alpha": (0.0, 1e6),
    "scale": (1e-6, 1e6),
    "temperature": (1e-6, 1e6),
    "weight": (0.0, 1e6),
    "chunk": (1, 2**31 - 1),
}


def masked_mean(values, counted=None):
    """The mean of the values that count; 0 when none does.

    Args:
        values: any shape.
        counted: which ones count, booleans or numbers (weights) of the same shape; None: all.

    Returns:
        A scalar, float32.

    Raises:
        ValueError: `counted` has another shape.

    Example:
        >>> loss = masked_mean(sequence_crossentropy(labels, scores), labels >= 0)
    """
    values = ops.cast(values, "float32")
    if counted is None:
        return ops.mean(values)
    counted = ops.cast(counted, "float32")
    check_shape("counted", counted, values.shape, "Give one for each value.")
    return ops.divide_no_nan(ops.sum(values * counted), ops.sum(counted))


@register
def sequence_crossentropy(y_true, y_pred, weights=None):
    """Cross entropy of integer labels, such as the next token at each position.

    Probabilities are never made: it is the logarithm of the sum of exponentials, less the
    label's score.

    Args:
        y_true: integers `(...)`; -1 does not count.
        y_pred: scores `(..., classes)`; or `(...)` or `(..., 1)`, one score for two classes.
        weights: what each label counts, `(...)`, numbers or booleans; what weighs 0 is left out
            of the mean. Axes of size 1 are stretched: `(batch, 1)` weighs texts.

    Returns:
        `(...)`, 0 where nothing counts.

    Raises:
        ValueError: labels or weights are not of the shape of the scores, or labels are no classes,
            in an eager call; in a compiled program the loss is NaN for the latter.

    Example:
        >>> model = build_transformer_model(directory, application="lm", with_lm="linear")
        >>> model.compile("adam", sequence_crossentropy)
    """
    labels, scores = _labels_and_scores(y_true, y_pred)
    return _where_counted(_crossentropy(labels, scores), labels, weights)


@register
def label_smoothed(y_true, y_pred, smoothing=0.1):
    """Cross entropy with a target that leaves a share of the probability to all classes alike.

    Args:
        y_true, y_pred: see `sequence_crossentropy`.
        smoothing: that share.

    Returns:
        `(...)`, 0 where the label is -1.

    Reference:
        Szegedy et al., "Rethinking the Inception Architecture", arXiv 1512.00567, section 7.
    """
    _check_options(smoothing=smoothing)
    labels, scores = _labels_and_scores(y_true, y_pred)
    expected = (1 - smoothing) * _score_of(labels, scores)
    expected = expected + smoothing * ops.mean(scores, axis=-1)
    return _where_counted(ops.logsumexp(scores, axis=-1) - expected, labels)


@register
def focal(y_true, y_pred, gamma=2.0, alpha=None):
    """Cross entropy that fades for examples that are classified well already.

    `-alpha_t (1 - p_t) ** gamma log(p_t)`, where `p_t` is the probability of the true class.

    Args:
        y_true, y_pred: see `sequence_crossentropy`.
        gamma: how much it fades; 0 gives cross entropy.
        alpha: the weight of each class, a list of numbers; None: 1.

    Returns:
        `(...)`, 0 where the label is -1.

    Reference:
        Lin et al., "Focal Loss for Dense Object Detection", arXiv 1708.02002, equation 5.
    """
    _check_options(gamma=gamma)
    labels, scores = _labels_and_scores(y_true, y_pred)
    if alpha is not None:
        _check_options(alpha=alpha)
        alpha = ops.convert_to_tensor(alpha, dtype="float32")
        check_shape("alpha", alpha, scores.shape[-1:], "Give a weight for each class.")
    others = ops.where(_is_label(labels, scores), HIDDEN, scores)
    total = ops.logsumexp(scores, axis=-1)
    # log(1 - p) as a sum of the other classes: 1 - p itself would round to 0
    fading = ops.exp(gamma * (ops.logsumexp(others, axis=-1) - total))
    losses = fading * (total - _score_of(labels, scores))
    if alpha is not None:
        losses = losses * ops.take(alpha, ops.maximum(labels, 0), axis=0)
    return _where_counted(losses, labels)


def projected_crossentropy(y_true, x, table, bias=None, weights=None, chunk=4096):
    """`sequence_crossentropy` of the scores `x @ table.T + bias`, without ever holding them.

    The scores, and their gradient, are made for one part of the vocabulary at a time and thrown
    away; the backward pass makes them again. So they take as much memory as one part of them, at
    the price of computing them twice. The gradient cannot be differentiated again.

    Args:
        y_true: integers `(...)`; -1 does not count.
        x: what would be projected to scores, `(..., dim)`.
        table: `(classes, dim)`, such as the `embeddings` of a `TokenEmbedding`.
        bias: `(classes,)` or None.
        weights: see `sequence_crossentropy`.
        chunk: how many classes at a time.

    Returns:
        `(...)`, as `sequence_crossentropy`.

    Example:
        >>> losses = projected_crossentropy(token_ids[:, 1:], x[:, :-1], embedding.embeddings)
    """
    _check_options(chunk=chunk)
    labels, table = whole_numbers(y_true), ops.convert_to_tensor(table)
    classes, dim = table.shape
    check_shape("x", x, (*labels.shape, dim), "Give a vector of the table's size for each label.")
    bias = ops.zeros((classes,)) if bias is None else ops.convert_to_tensor(bias)
    check_shape("bias", bias, (classes,), "Give one for each row of the table.")
    parts = -(-classes // chunk)
    fill = -classes % parts  # all parts have one size; what is filled in scores nothing
    total = _log_sums(
        ops.reshape(x, (-1, dim)),
        ops.pad(table, [(0, fill), (0, 0)]),
        ops.pad(ops.cast(bias, "float32"), [(0, fill)], constant_values=HIDDEN),
        parts,
    )
    total = ops.reshape(total, ops.shape(labels))
    mark = _mark_beyond(labels, classes)
    known = ops.clip(labels, 0, classes - 1)
    own = ops.cast(ops.take(table, known, axis=0), x.dtype)
    own = ops.sum(ops.cast(x * own, "float32"), axis=-1)
    own = own + ops.cast(ops.take(bias, known, axis=0), "float32")
    return _where_counted(mark(total - own), labels, weights)


@register
def multilabel_categorical_crossentropy(y_true, y_pred):
    """Any number of classes out of many: those with a score above 0.

    `log(1 + sum of e^s over the negative classes) + log(1 + sum of e^-s over the positive ones)`:
    every positive score is pushed above every negative one, and 0 between them.

    Args:
        y_true: `(..., classes)`, 1 for each class that is meant, 0 for the others, or the
            probability in between; -1: this class does not count.
        y_pred: scores `(..., classes)`; a class whose score is minus infinity does not count.

    Returns:
        `(...)`.

    Raises:
        ValueError: a class is meant that `GlobalPointer` hides (a span in the padding, cut off, or
            that ends before it begins), in an eager call; in a compiled program the loss is NaN.

    Reference:
        Su et al., "ZLPR", arXiv 2208.02955; https://kexue.fm/archives/7359, and for
        probabilities https://kexue.fm/archives/9064.
    """
    y_true, y_pred = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
    check_shape("y_true", y_true, y_pred.shape, "Give a label for each class.")
    finite = ops.not_equal(y_pred, -float("inf"))
    hidden = ops.logical_and(finite, y_pred <= HIDDEN_SPAN)
    mark = mark_wrong(
        ops.any(ops.logical_and(hidden, y_true > 0), axis=-1),
        lambda: (
            "y_true: a class is meant whose score is hidden; expected none of padding, of what was "
            "cut off, or that ends before it begins. Leave such spans out of the labels."
        ),
    )
    counted = ops.logical_and(ops.logical_not(y_true < 0), finite)  # NaN gives NaN
    # behind `where`, also the gradient of what does not count is 0, and not "infinity times 0"
    y_true, y_pred = ops.where(counted, y_true, 0.0), ops.where(counted, y_pred, 0.0)

    def one_and(exponents, shares):
        exponents = exponents + ops.log(shares)
        return _log_one_and_sum(ops.where(counted, exponents, -float("inf")))

    losses = one_and(y_pred, 1 - y_true) + one_and(-y_pred, y_true)
    return _marked(mark(losses), ops.any(counted, axis=-1))


@register
@checks_flags
def sparse_multilabel_categorical_crossentropy(y_true, y_pred, mask_zero=False):
    """`multilabel_categorical_crossentropy` of the ids of the positive classes.

    The negative classes are summed as they are, where bert4keras subtracts the positive ones from
    the sum of all: there, once the positive scores are large, nothing is left of the others.

    Args:
        y_true: ids `(..., positives)`, in any order, filled up with -1; a repeated one counts
            once.
        y_pred: scores `(..., classes)`.
        mask_zero: whether the ids are filled up with 0, and class 0 is none.

    Returns:
        `(...)`.

    Reference:
        https://kexue.fm/archives/7359
    """
    ids, classes = whole_numbers(y_true), ops.shape(y_pred)[-1]
    check_shape(
        "y_true",
        ids,
        (*y_pred.shape[:-1], ids.shape[-1]),
        "Give ids of classes for each row of scores.",
    )
    mark = _mark_beyond(ids, classes, axis=-1)
    ids = ops.where(ids >= (1 if mask_zero else 0), ids, classes)  # a column more, for filling
    rows = ops.reshape(ids, (-1, ops.shape(ids)[-1]))
    numbers = ops.broadcast_to(ops.arange(ops.shape(rows)[0])[:, None], ops.shape(rows))
    places = ops.stack([ops.reshape(numbers, (-1,)), ops.reshape(rows, (-1,))], axis=-1)
    labels = ops.zeros((ops.shape(rows)[0], classes + 1), "float32")
    labels = ops.scatter_update(labels, places, ops.ones_like(places[:, 0], dtype="float32"))
    labels = ops.reshape(labels[:, :classes], ops.shape(y_pred))
    if mask_zero:
        labels = ops.where(ops.arange(classes) == 0, -1.0, labels)
    losses = multilabel_categorical_crossentropy(labels, y_pred)
    return _marked(mark(losses), get_keras_mask(losses))


@register
def cosent(y_true, y_pred, scale=20.0):
    """Cosines in the order of the labels: for each two pairs, the one more alike comes first.

    `log(1 + sum of e^(scale (cos_j - cos_i)) over all i, j with label_i > label_j)`.

    Args:
        y_true: how alike each pair is, numbers of any scale, `(pairs,)` or `(pairs, 1)`; beside
            vectors `(2 pairs, 1)`, of which every second is read.
        y_pred: cosines `(pairs,)` or `(pairs, 1)`; or vectors `(2 pairs, dim)`, where each two
            rows are a pair.
        scale: of the cosines.

    Returns:
        A scalar.

    Reference:
        Su, "CoSENT", 2022, https://kexue.fm/archives/8847
    """
    _check_options(scale=scale)
    labels, cosines = ops.reshape(y_true, (-1,)), ops.cast(y_pred, "float32")
    if len(cosines.shape) == 2 and cosines.shape[-1] != 1:
        vectors = _normalized(cosines)
        _mark_pairs(vectors)  # in a program the shapes of the next line differ
        labels, cosines = labels[::2], ops.sum(vectors[::2] * vectors[1::2], axis=-1)
    cosines = scale * ops.reshape(cosines, (-1,))
    check_shape("y_true", labels, cosines.shape, "Give a label for each pair.")
    mark = mark_wrong(
        ops.any(ops.not_equal(labels, labels)),
        lambda: "y_true: labels that are NaN; expected numbers. Leave such pairs out.",
    )
    differences = cosines[None, :] - cosines[:, None]
    wrong = ops.where(labels[:, None] > labels[None, :], differences, -float("inf"))
    return mark(_log_one_and_sum(ops.reshape(wrong, (-1,))))


@register
def info_nce(y_true, y_pred, temperature=0.05):
    """Each vector's own key against the keys of the others.

    Args:
        y_true: keys `(keys, dim)`, at least as many as vectors: row `i` belongs to vector `i`,
            every other row is a negative (rows beyond the vectors are hard negatives).
        y_pred: vectors `(batch, dim)`.
        temperature: divides the cosines.

    Returns:
        `(batch,)`.

    Reference:
        van den Oord et al., arXiv 1807.03748, equation 4; Gao et al., "SimCSE",
        arXiv 2104.08821, equations 1 and, with hard negatives, 5.
    """
    _check_options(temperature=temperature)
    count, keys = ops.shape(y_pred)[0], ops.shape(y_true)[0]
    mark = _mark_rows(
        count > keys,
        y_pred,
        lambda: f"y_true: {keys} keys for {count} vectors; expected one for each, or more.",
    )
    cosines = ops.matmul(_normalized(y_pred), ops.transpose(_normalized(y_true)))
    return mark(_crossentropy(ops.arange(count), cosines / temperature))


@register
def simcse(y_true, y_pred, temperature=0.05):
    """Each text's vector against those of the others, computed a second time with other dropout.

    Args:
        y_true: is not used (Keras asks for one).
        y_pred: vectors `(2 texts, dim)`, where each two rows are the same text.
        temperature: divides the cosines.

    Returns:
        `(texts,)`.

    Reference:
        Gao et al., "SimCSE", arXiv 2104.08821, equation 4.
    """
    mark = _mark_pairs(y_pred)
    return mark(info_nce(y_pred[1::2], y_pred[::2], temperature))


def electra_loss(y_true, y_pred, weight=50.0):
    """The generator's loss, and `weight` times the discriminator's.

    Args:
        y_true: two of integers `(batch, length)`: the original tokens where they were masked, -1
            elsewhere; and 1 where the generator replaced a token, 0 where not, -1 at padding.
        y_pred: the generator's scores `(batch, length, vocab_size)`, and the discriminator's,
            `(batch, length)` or `(batch, length, 1)`.
        weight: of the discriminator.

    Returns:
        A scalar.

    Reference:
        Clark et al., "ELECTRA", arXiv 2003.10555, section 2 and, for the weight, appendix A.
    """
    _check_options(weight=weight)
    generator, discriminator = (
        masked_mean(sequence_crossentropy(labels, scores), labels >= 0)
        for labels, scores in zip(y_true, y_pred, strict=True)
    )
    return generator + weight * discriminator


def _log_sums(x, table, bias, parts):
    """`logsumexp(x @ table.T + bias)`, `(tokens,)`, made in equal parts of the vocabulary.

    A loop, and its gradient by hand: the compilers run the parts of an unrolled loop, or of its
    own gradient, all at once, or keep every part for the way back.
    """
    dim, size = table.shape[1], table.shape[0] // parts

    def part(i, x, table, bias):
        rows = ops.cast(ops.slice(table, (i * size, 0), (size, dim)), x.dtype)
        scores = ops.cast(ops.matmul(x, ops.transpose(rows)), "float32")
        return rows, scores + ops.slice(bias, (i * size,), (size,))

    @ops.custom_gradient
    def log_sums(x, table, bias):
        def add_part(i, total):
            _, scores = part(i, x, table, bias)
            return ops.logaddexp(total, ops.logsumexp(scores, axis=-1))

        total = ops.fori_loop(0, parts, add_part, ops.full_like(x[:, 0], HIDDEN, dtype="float32"))

        def gradient(*upstream_last, upstream=None):
            upstream = upstream_last[-1] if upstream is None else upstream

            def add_gradient(i, gradients):
                of_x, of_table, of_bias = gradients
                rows, scores = part(i, x, table, bias)
                shares = ops.exp(scores - total[:, None]) * upstream[:, None]
                of_rows = ops.cast(
                    ops.matmul(ops.transpose(shares), ops.cast(x, "float32")), table.dtype
                )
                return (
                    of_x + ops.matmul(shares, ops.cast(rows, "float32")),
                    ops.slice_update(of_table, (i * size, 0), of_rows),
                    ops.slice_update(of_bias, (i * size,), ops.sum(shares, axis=0)),
                )

            zeros = ops.zeros_like(x, dtype="float32"), ops.zeros_like(table), ops.zeros_like(bias)
            of_x, of_table, of_bias = ops.fori_loop(0, parts, add_gradient, zeros)
            return ops.cast(of_x, x.dtype), of_table, of_bias

        return total, gradient

    return log_sums(x, table, bias)


def _labels_and_scores(y_true, y_pred):
    """Integers `(...)` and float32 scores `(..., classes)`; one score is that of class 1 of 2."""
    labels, scores = whole_numbers(y_true), ops.cast(y_pred, "float32")
    ranks = len(labels.shape), len(scores.shape)
    if ranks[0] == ranks[1] and scores.shape[-1] != 1 and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, axis=-1)  # as Keras hands over labels `(batch,)`
    elif ranks[0] == ranks[1]:
        scores = scores[..., None]
    if scores.shape[-1] == 1:
        scores = ops.concatenate([ops.zeros_like(scores), scores], axis=-1)
    check_shape("y_true", labels, scores.shape[:-1], "Give a label for each row of scores.")
    mark = _mark_beyond(labels[..., None], scores.shape[-1])
    return labels, mark(scores)


def _check_options(**options):
    """Raises where a number is not within its range in `RANGES`; tensors, which may be learned, pass."""
    for name, value in options.items():
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, np.generic) or not hasattr(number, "shape"):
                check_number(name, number, *RANGES[name])


def _mark_rows(wrong, vectors, error):
    """See `mark_wrong`: for the number of vectors, which a program may know while it is traced.

    An error there would be too early: Keras traces losses with the rows as they come, before
    `dropout_pairs` doubles them.
    """
    if at_hand(vectors):
        return mark_wrong(wrong, error)
    return lambda x: ops.where(wrong, float("nan"), x)


def _mark_pairs(vectors):
    """See `_mark_rows`: for vectors of which each two are a pair."""
    count = ops.shape(vectors)[0]
    return _mark_rows(
        count % 2 == 1,
        vectors,
        lambda: f"y_pred: {count} vectors; expected an even number, as each two are a pair.",
    )


def _mark_beyond(labels, classes, axis=None):
    """See `mark_wrong`: for labels, or rows of them along an axis, that are no class."""
    wrong = labels >= classes
    return mark_wrong(
        wrong if axis is None else ops.any(wrong, axis=axis),
        lambda: (
            f"y_true: labels beyond the classes; expected at most {int(classes) - 1}, got "
            f"{extent(labels)}. Give the last layer as many units as there are classes."
        ),
    )


def _crossentropy(labels, scores):
    return ops.logsumexp(scores, axis=-1) - _score_of(labels, scores)


def _score_of(labels, scores):
    known = ops.maximum(labels, 0)[..., None]
    return ops.squeeze(ops.take_along_axis(scores, known, axis=-1), axis=-1)


def _is_label(labels, scores):
    return ops.arange(scores.shape[-1]) == labels[..., None]


def _where_counted(losses, labels, weights=None):
    """The losses, 0 and marked as hidden where the label is -1 or weighs nothing."""
    counted = labels >= 0
    if weights is not None:
        weights = ops.cast(weights, "float32")
        if len(weights.shape) == len(labels.shape) + 1 and weights.shape[-1] == 1:
            weights = ops.squeeze(weights, axis=-1)  # as labels `(batch, 1)` are
        check_shape("weights", weights, labels.shape, "Give one for each label.", stretches=True)
        counted, losses = ops.logical_and(counted, weights != 0), losses * weights
    return _marked(ops.where(counted, losses, 0.0), counted)


def _marked(losses, counted):
    """The losses, which Keras will average over what counts alone."""
    set_keras_mask(losses, counted)
    return losses


def _log_one_and_sum(exponents):
    """`log(1 + sum(e ** exponents))` along the last axis."""
    zero = ops.zeros_like(exponents[..., :1])
    return ops.logsumexp(ops.concatenate([exponents, zero], axis=-1), axis=-1)


def _normalized(vectors):
    return ops.normalize(ops.cast(vectors, "float32"), axis=-1)
