"""Sequence tagging layers: CRF, MEMM, and Viterbi decoding.

Tags are integers from 0. A token that is ignored, such as padding, has `NEG_INF` in logits and -1
in tags; the tokens before and after it are then neighbours.
"""

import functools
import types
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.src.backend.common import global_state

from ..backend import compiled, last_state, quick_ops
from ..parsing import shown
from ..types import Shape, Tensor
from .base import Layer, register
from .embeddings import count_positions
from .values import NEG_INF, integer_labels, raise_or_nan, value_range

__all__ = [
    "CRFLoss",
    "ConditionalRandomField",
    "MaximumEntropyMarkovModel",
    "Tagger",
    "ViterbiDecoder",
    "log_partition",
]

NAN_MESSAGE = (
    "decode: the scores are NaN; expected numbers. Check the inputs and the weights of the model."
)
NAMED = "bert4keras_lite/tagger/{}"  # Keras' global state, per thread, with weak references


# files of version 0.1 name it so, for accuracies as well
@keras.saving.register_keras_serializable("bert4keras_lite", name="OfTagger")
class CRFLoss(keras.losses.Loss):
    """The loss of a tagger, `ConditionalRandomField` or `MaximumEntropyMarkovModel`, for `compile`.

    A tagger has it as `sparse_loss` and `dense_loss`. Called with labels and logits, it returns a
    value for each sequence; with weights, as Keras calls a loss, their mean. A saved model finds
    the layer again by its name.

    Args:
        crf: the layer.
        sparse: whether labels are integers `(batch, length)`, -1 (or less) at tokens that are
            removed from the sequence; False: one-hot `(batch, length, tags)`, all zeros at these.

    Raises:
        ValueError: when called with weights for each token.
    """

    def __init__(self, crf: "Tagger", sparse: bool = True) -> None:
        super().__init__(name="sparse_loss" if sparse else "dense_loss")
        self.crf_name, self.sparse = crf.name, sparse
        # a method: Keras would follow an attribute that is the layer when it saves a model
        self.losses_of = crf.losses_of

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return self.losses_of(y_true if self.sparse else one_hot_to_labels(y_true), y_pred)

    def __call__(self, y_true: Tensor, y_pred: Tensor, *sample_weight: Tensor) -> Tensor:
        if not sample_weight:
            return self.call(y_true, y_pred)
        (weight,) = sample_weight
        if weight is None:
            return super().__call__(y_true, y_pred)
        rank = ops.ndim(weight)  # unknown in `fit` on TensorFlow, where `reshape` raises
        if rank is not None and rank > 1 and weight.shape[-1] != 1:
            raise ValueError(
                f"sample_weight: expected one for each sequence, as {self.name} returns one value "
                f"per sequence, got shape {tuple(weight.shape)}. To ignore tokens, use label -1."
            )
        return super().__call__(y_true, y_pred, ops.reshape(weight, ops.shape(y_pred)[:1]))

    def get_config(self) -> dict[str, Any]:
        return {"tagger": self.crf_name, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CRFLoss | Callable":
        name = config["name"]
        if name in ACCURACIES:
            return ACCURACIES[name]
        crf = Tagger.last_from_config(config["tagger"])
        if crf is None:
            raise ValueError(
                f"{name}: the model has no layer {shown(config['tagger'])}, of which this is the "
                "loss. Load it with compile=False, and compile it with the loss of its layer."
            )
        return cls(crf, sparse=name != "dense_loss")


@register
def sparse_accuracy(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Returns the accuracy of the tags with the largest logits, without transitions.

    A metric has no access to transitions: Keras' JAX trainer hides weights from it.

    Args:
        y_true: integers `(batch, length)`; tokens with -1 (or less) are ignored.
        y_pred: output of a tagger, `(batch, length, tags)`.

    Returns:
        `(batch,)`; the mean is the accuracy over the tokens of the batch.
    """
    labels, logits, mask, nan_where_wrong = prepare(y_true, y_pred)
    best = ops.cast(ops.argmax(logits, axis=-1), labels.dtype)
    return nan_where_wrong(mean_over_tokens(ops.equal(best, labels), mask))


@register
def dense_accuracy(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Computes `sparse_accuracy` of one-hot tags; all zeros: ignored."""
    return sparse_accuracy(one_hot_to_labels(y_true), y_pred)


ACCURACIES = {"sparse_accuracy": sparse_accuracy, "dense_accuracy": dense_accuracy}


class Tagger(Layer):
    """Base class of the taggers: masking, accuracy, decoding.

    The call only masks tokens. Transitions are used in losses and in `decode`.
    """

    sparse_accuracy = staticmethod(sparse_accuracy)
    dense_accuracy = staticmethod(dense_accuracy)

    def __init__(self, lr_multiplier: float = 1, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.lr_multiplier = lr_multiplier

    @property
    def sparse_loss(self) -> CRFLoss:
        """The `CRFLoss` of integer tags `(batch, length)`; -1 (or less): ignored."""
        return CRFLoss(self)

    @property
    def dense_loss(self) -> CRFLoss:
        """The `CRFLoss` of one-hot tags `(batch, length, tags)`; all zeros: ignored."""
        return CRFLoss(self, sparse=False)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Tagger":
        tagger = super().from_config(config)
        global_state.set_global_attribute(NAMED.format(tagger.name), weakref.ref(tagger))
        return tagger

    @staticmethod
    def last_from_config(name: str) -> "Tagger | None":
        """Returns the last layer of that name from a config in this thread; None: there is none.

        Keras creates the layers of a model before its losses. It can share objects between them in
        `.keras` files only, not in `clone_model` and HDF5 files, so a loss has the name.
        """
        reference = global_state.get_global_attribute(NAMED.format(name))
        return reference and reference()

    def add_transitions(self, name: str, shape: tuple) -> keras.Variable:
        """Adds transitions, stored divided by `lr_multiplier` to make them learn faster."""
        limit = (6 / sum(shape)) ** 0.5 / self.lr_multiplier
        initializer = keras.initializers.RandomUniform(-limit, limit)
        return self.add_weight(name=name, shape=shape, initializer=initializer)

    def call(
        self, scores: Tensor, visible: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        scores = at_least_float32(scores)
        visible = mask if visible is None else visible
        if visible is None:
            return scores
        return ops.where(ops.cast(visible, "bool")[..., None], scores, NEG_INF)

    def compute_mask(self, scores: Tensor, previous_mask: Tensor | None = None) -> Tensor | None:
        return None

    def decode(self, scores: Tensor, visible: Tensor | None = None, n_best: int = 1) -> Tensor:
        """Returns the most likely tags of each row, computed on the device for the whole batch.

        Args:
            scores: output of the layer, `(batch, length, tags)`, an array or a tensor.
            visible: bool `(batch, length)`, for logits in which no tokens are masked.
            n_best: number of paths per row.

        Returns:
            Integers `(batch, length)`, -1 at masked tokens; with `n_best` above 1
            `(batch, n_best, length)`, the best first, all -1 where there are no more paths.

        Raises:
            ValueError: unmasked logits are NaN.
        """
        scores = ops.convert_to_tensor(scores)
        mask = unmasked_tokens(scores)
        if visible is not None:
            mask = ops.logical_and(mask, ops.cast(ops.convert_to_tensor(visible), "bool"))
        raise_or_nan(
            ops.logical_and(ops.any(ops.isnan(scores), axis=-1), mask), lambda: NAN_MESSAGE
        )
        cls: Any = type(self)  # mypy sees the hash of its objects
        program = viterbi_program(cls, scores.shape[-1], n_best)
        paths = program(scores, mask, ops.convert_to_tensor(self.trans))
        return paths[:, 0] if n_best == 1 else paths


@register
class ConditionalRandomField(Tagger):
    """Linear-chain conditional random field: logits of tags, and a score of each tag after another.

    The probability of tags `y` is `exp(sum_t s[t, y_t] + sum_t A[y_(t-1), y_t]) / Z`. Losses
    (see `CRFLoss`), accuracy and decoding are those of the layer:

        logits = keras.layers.Dense(num_tags)(bert.output)
        crf = ConditionalRandomField(lr_multiplier=100)
        model = keras.Model(bert.inputs, crf(logits))
        model.compile(optimizer, loss=crf.sparse_loss, metrics=[crf.sparse_accuracy])
        tags = crf.decode(model.predict(batch))

    Args:
        lr_multiplier: factor of the learning rate of the transitions (with an Adam-like optimizer).
            They are stored divided by it; `trans` has the true values.

    Call arguments:
        scores: logits of the tags (emission scores), `(batch, length, tags)`.
        visible: bool `(batch, length)`, True at tokens to tag. Defaults to Keras' implicit mask.

    Returns:
        The logits in float32 at least, `NEG_INF` at masked tokens.

    Reference:
        Lafferty et al., "Conditional Random Fields", ICML 2001; the multiplier:
        https://kexue.fm/archives/7196
    """

    def build(self, scores_shape: Shape) -> None:
        self._trans = self.add_transitions("trans", (scores_shape[-1], scores_shape[-1]))

    @property
    def trans(self) -> Tensor:
        """Transition scores, `(tags, tags)`: of tags (columns) after tags (rows)."""
        return self.lr_multiplier * ops.convert_to_tensor(self._trans)

    def losses_of(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Returns the negative log-likelihood of the tags of each row.

        Args:
            y_true: integers `(batch, length)`; tokens with -1 (or less) are removed from the
                sequence.
            y_pred: output of the layer, `(batch, length, tags)`.

        Returns:
            `(batch,)`; 0 for a row without any tag.
        """
        labels, logits, mask, nan_where_wrong = prepare(y_true, y_pred)
        trans = ops.cast(self.trans, logits.dtype)
        previous, _ = neighbours(mask)
        current = one_hot(labels, logits)
        preceding = one_hot(take_labels(labels, previous), logits)
        path_score = ops.sum(current * (logits + ops.matmul(preceding, trans)), axis=(1, 2))
        return nan_where_wrong(log_partition(logits, mask, trans) - path_score)

    @staticmethod
    def nodes(logits: Tensor, mask: Tensor | None, trans: Tensor) -> Tensor:
        """Returns the scores that Viterbi adds at each token, in addition to the transitions."""
        return logits


@register
class MaximumEntropyMarkovModel(Tagger):
    """Bidirectional maximum-entropy Markov model of tags; trains faster than a CRF.

    Each tag is a softmax given the tag of its neighbour: `p(y_t | y_(t-1)) = softmax((s[t] +
    A[y_(t-1)]) / 2)`, and backward the same with `A` transposed. The methods are those of
    `ConditionalRandomField`.

    Args:
        lr_multiplier: see `ConditionalRandomField`.
        hidden_dim: if given, `A` is a product of two matrices of this rank, for many tags.

    Call arguments:
        scores, visible: see `ConditionalRandomField`.

    Returns:
        See `ConditionalRandomField`.

    Reference:
        McCallum et al., "Maximum Entropy Markov Models", ICML 2000; both directions:
        https://kexue.fm/archives/7213
    """

    def __init__(
        self, lr_multiplier: float = 1, hidden_dim: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(lr_multiplier, **kwargs)
        self.hidden_dim = hidden_dim

    def build(self, scores_shape: Shape) -> None:
        tags = scores_shape[-1]
        if self.hidden_dim is None:
            self._trans = self.add_transitions("trans", (tags, tags))
        else:
            self._l_trans = self.add_transitions("l_trans", (tags, self.hidden_dim))
            self._r_trans = self.add_transitions("r_trans", (tags, self.hidden_dim))

    @property
    def trans(self) -> Tensor:
        """Transition scores, `(tags, tags)`: of tags (columns) after tags (rows)."""
        if self.hidden_dim is None:
            return self.lr_multiplier * ops.convert_to_tensor(self._trans)
        return ops.matmul(self.l_trans, ops.transpose(self.r_trans))

    @property
    def l_trans(self) -> Tensor:
        """Left factor of `trans`, `(tags, hidden_dim)`."""
        return self.lr_multiplier * ops.convert_to_tensor(self._l_trans)

    @property
    def r_trans(self) -> Tensor:
        """Right factor of `trans`, transposed, `(tags, hidden_dim)`."""
        return self.lr_multiplier * ops.convert_to_tensor(self._r_trans)

    def losses_of(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Returns the cross entropy of the tokens, averaged over both directions.

        Args:
            y_true: integers `(batch, length)`; tokens with -1 (or less) are removed from the
                sequence.
            y_pred: output of the layer, `(batch, length, tags)`.

        Returns:
            `(batch,)`; the mean is that of all tokens of the batch.
        """
        labels, logits, mask, nan_where_wrong = prepare(y_true, y_pred)
        current = one_hot(labels, logits)

        def cross_entropy(conditional_logits):
            return mean_over_tokens(
                -ops.sum(current * ops.log_softmax(conditional_logits), axis=-1), mask
            )

        return nan_where_wrong(sum(map(cross_entropy, self.conditional(labels, logits, mask))) / 2)

    def conditional(self, labels: Tensor, logits: Tensor, mask: Tensor | None) -> Tensor:
        """Yields the logits given the preceding tag, then those given the following tag.

        Both are `(batch, length, tags)`.
        """
        for direction, positions in zip((1, -1), neighbours(mask), strict=True):
            neighbour = take_labels(labels, positions)
            trans = ops.cast(self.take_trans(ops.maximum(neighbour, 0), direction), logits.dtype)
            yield (logits + ops.where(neighbour[..., None] >= 0, trans, logits)) / 2

    def take_trans(self, labels: Tensor, direction: int) -> Tensor:
        """Returns rows (1) or columns (-1) of the transitions, for given labels."""
        if self.hidden_dim is None:
            trans = self.trans if direction == 1 else ops.transpose(self.trans)
            return ops.take(trans, labels, axis=0)
        left, right = (self.l_trans, self.r_trans)[::direction]
        return ops.matmul(ops.take(left, labels, axis=0), ops.transpose(right))

    @staticmethod
    def nodes(logits: Tensor, mask: Tensor | None, trans: Tensor) -> Tensor:
        """Returns the scores that Viterbi adds at each token, in addition to the transitions.

        The normalizer of each softmax depends on a token and on the tag of one neighbour; it is
        added at that neighbour. So both directions together form a chain, as in a CRF.
        """
        before, after = neighbours(mask)

        def normalizers(trans, positions):
            total = log_matmul(logits / 2, trans / 2)
            neighbour = ops.take_along_axis(total, ops.maximum(positions, 0)[..., None], axis=1)
            return ops.where(positions[..., None] >= 0, neighbour, -logits / 2)

        return logits - normalizers(ops.transpose(trans), after) - normalizers(trans, before)


def at_least_float32(x):
    """Casts to float32, unless the precision is higher."""
    return ops.cast(x, keras.backend.result_type(x.dtype, "float32"))


def unmasked_tokens(logits):
    """Returns which tokens a tagger did not mask, `(batch, length)`; NaN counts as unmasked."""
    return ops.any(ops.logical_not(at_least_float32(logits) <= NEG_INF / 2), axis=-1)


def one_hot_to_labels(one_hot):
    """Converts one-hot tags to integers; -1 where all are zero."""
    return ops.where(ops.any(one_hot > 0, axis=-1), ops.argmax(one_hot, axis=-1), -1)


def prepare(y_true, y_pred):
    """Prepares the arguments of a loss.

    Returns:
        Labels, -1 where ignored; logits, 0 there; a mask of the tokens that count; and a function
        that sets results of rows with labels beyond the tags to NaN.

    Raises:
        ValueError: labels are not tags or not whole numbers, in an eager call; or their shape does
            not match that of `y_pred`.
    """
    logits = at_least_float32(y_pred)
    expected, got = tuple(logits.shape[:-1]), tuple(y_true.shape)
    if got[2:] not in ((), (1,)) or any(
        None not in sizes and sizes[0] != sizes[1] for sizes in zip(expected, got, strict=False)
    ):
        raise ValueError(
            f"y_true: labels of shape {got}; expected {expected}, one for each token. Pad them to "
            "the length of the token ids, with -1."
        )
    labels = integer_labels(ops.reshape(y_true, ops.shape(logits)[:-1]))
    mask = ops.logical_and(unmasked_tokens(logits), labels >= 0)
    tags = logits.shape[-1]
    nan_where_wrong = raise_or_nan(
        ops.any(ops.logical_and(mask, labels >= tags), axis=1),
        lambda: (
            f"y_true: labels that are not tags; expected 0 to {tags - 1}, or -1 to ignore a token, "
            f"got {value_range(labels)}. Give the previous layer one unit for each tag."
        ),
    )
    labels = ops.where(mask, labels, -1)
    return labels, ops.where(mask[..., None], logits, 0.0), mask, nan_where_wrong


def one_hot(labels, logits):
    """Returns one-hot labels `(batch, length, tags)` in the dtype of the logits; zeros for -1."""
    tags = ops.arange(logits.shape[-1], dtype=labels.dtype)
    return ops.cast(ops.equal(labels[..., None], tags), logits.dtype)


def take_labels(labels, positions):
    """Returns the labels at positions, both `(batch, length)`; -1 where the position is -1."""
    taken = ops.take_along_axis(labels, ops.maximum(positions, 0), axis=1)
    return ops.where(positions >= 0, taken, -1)


def mean_over_tokens(values, mask):
    """Returns `(batch,)` numbers whose mean is the mean of `(batch, length)` values over tokens."""
    values = at_least_float32(values)
    total = ops.sum(ops.where(mask, values, 0.0), axis=1)
    rows, tokens = (ops.sum(ops.cast(x, values.dtype)) for x in (total * 0 + 1, mask))
    return total * rows / ops.maximum(tokens, 1.0)


def neighbours(mask):
    """Returns the positions of the unmasked tokens before and after each unmasked one; -1: none."""
    nowhere = 1 << 30
    order = ops.sort(ops.where(mask, count_positions(mask), nowhere), axis=1)
    order = ops.where(order < nowhere, order, -1)
    order = ops.pad(order, ((0, 0), (1, 1)), constant_values=-1)
    rank = ops.cumsum(ops.cast(mask, "int32"), axis=1)
    before = ops.take_along_axis(order, ops.maximum(rank - 1, 0), axis=1)
    return before, ops.take_along_axis(order, rank + 1, axis=1)


def log_matmul(x, y):
    """Returns `log(exp(x) @ exp(y))`, for `x` of `(..., n)` and `y` of `(n, m)`."""
    x_max, y_max = ops.max(x, axis=-1, keepdims=True), ops.max(y, axis=0)
    product = ops.matmul(ops.exp(x - x_max), ops.exp(y - y_max))
    return ops.log(ops.maximum(product, 1e-37)) + x_max + y_max


def time_major(logits, mask, ops=ops):
    """Returns the inputs of a recursion over tokens, `(length, batch, tags + 2)`; see `split_step`.

    It is one tensor: on TensorFlow, `ops.scan` takes several only if their length is known.
    """
    count = ops.cumsum(ops.cast(mask, "int32"), axis=1)
    first = ops.logical_and(mask, count == 1)
    flags = ops.cast(ops.stack([mask, first], axis=-1), logits.dtype)
    return ops.swapaxes(ops.concatenate([logits, flags], axis=-1), 0, 1)


def split_step(inputs):
    """Splits an input into logits `(batch, tags)`, mask and first-token flag, `(batch, 1)` each."""
    return inputs[:, :-2], inputs[:, -2:-1] > 0, inputs[:, -1:] > 0


def log_partition(logits, mask, trans):
    """Returns the log of the sum over all paths, by the forward algorithm.

    A step sums over the previous tag. As a matrix product that takes `tags` exponentials a row
    instead of `tags ** 2`. The product is exact unless a transition is so much less likely than
    another to the same tag (a forbidden one) that float32 cannot hold both; then each sum is
    computed separately.

    Args:
        logits: `(batch, length, tags)`, finite everywhere.
        mask: bool `(batch, length)`.
        trans: `(tags, tags)`.

    Returns:
        `(batch,)`; 0 for a row without unmasked tokens.
    """
    start, inputs = ops.zeros_like(logits[:, 0]), time_major(logits, mask)

    def run(sums, when):
        def step(state, step_input):
            logits, mask, first = split_step(step_input)
            return ops.where(mask, logits + ops.where(first, 0.0, sums(state, trans)), state)

        return last_state(step, start, inputs, when)

    spread = ops.max(ops.max(trans, axis=0) - ops.min(trans, axis=0))
    narrow = spread < 60
    state = ops.where(narrow, run(log_matmul, narrow), run(log_sums, ops.logical_not(narrow)))
    return ops.where(ops.any(mask, axis=1), ops.logsumexp(state, axis=1), 0.0)


@keras.remat
def log_sums(x, y):
    """Computes `log_matmul` for numbers of any range."""
    return ops.logsumexp(x[:, :, None] + y, axis=1)


def best_paths(logits, mask, trans, n_best=1, ops=quick_ops):
    """Returns the paths with the largest sums of logits and transitions, by the Viterbi algorithm.

    A state is one of the `n_best` paths to a tag, numbered `tag * n_best + rank`. Unmasked tokens
    are moved to the front of a row, so that each but the first follows another.

    Args:
        logits: `(batch, length, tags)`, finite everywhere.
        mask: bool `(batch, length)`.
        trans: `(tags, tags)`.
        n_best: number of paths.
        ops: `quick_ops`, or `NUMPY`.

    Returns:
        Tags `(batch, n_best, length)`, -1 at masked tokens and where there is no path.
    """
    tags, positions = logits.shape[-1], ops.arange(ops.shape(mask)[1])
    states = (-1, tags * n_best)
    count = ops.cumsum(ops.cast(mask, "int32"), axis=1)
    order = ops.argsort(positions + ops.where(mask, 0, ops.shape(mask)[1]), axis=1)
    nodes = ops.swapaxes(ops.take_along_axis(logits, order[..., None], axis=1), 0, 1)[..., None]
    trans_to = ops.repeat(ops.transpose(trans), n_best, axis=1)  # tags, states before
    only_first = ops.convert_to_tensor([0.0] + [-np.inf] * (n_best - 1), dtype=logits.dtype)

    def step(old, node):
        new = ops.reshape(node + top_values(old[:, None] + trans_to, n_best, ops), states)
        return new, new

    def back(state, step_input):
        # recomputed for one tag of each path: cheaper than to store backpointers of all tags
        old, at_end = step_input[:, :-1], step_input[:, -1:] > 0
        candidates = old[:, None] + ops.take(trans_to, state // n_best, axis=0)
        earlier = top_indices(candidates, n_best, ops)
        if n_best > 1:
            earlier = ops.take_along_axis(earlier, (state % n_best)[..., None], axis=-1)
        state = ops.where(at_end, last, earlier[..., 0])
        return state, state

    first = ops.reshape(nodes[0] + only_first, states)
    _, totals = ops.scan(step, first, nodes[1:])
    totals = ops.concatenate([first[None], totals], axis=0)
    end = ops.maximum(count[:, -1] - 1, 0)
    total = ops.take_along_axis(totals, end[None, :, None], axis=0)[0]
    last, total = top_indices(total, n_best, ops), top_values(total, n_best, ops)
    # one tensor: on TensorFlow, `ops.scan` takes several only if their length is known
    at_end = ops.cast(positions[:, None] >= end, logits.dtype)[..., None]
    _, path = ops.scan(back, last, ops.concatenate([totals, at_end], axis=-1), reverse=True)
    index = ops.maximum(count - 1, 0)[:, None]  # of each token among the unmasked ones
    path = ops.take_along_axis(ops.transpose(path, (1, 2, 0)) // n_best, index, axis=2)
    return ops.where(ops.logical_and(mask[:, None], (total > -np.inf)[..., None]), path, -1)


def top_values(x, count, ops):
    """Returns the largest numbers of the last axis, the largest first."""
    if count == 1:  # top_k sorts
        return ops.max(x, axis=-1, keepdims=True)
    return ops.top_k(x, count)[0]


def top_indices(x, count, ops):
    """Returns the indices of the largest numbers of the last axis, the largest first."""
    if count == 1:
        return ops.argmax(x, axis=-1, keepdims=True)
    return ops.cast(ops.top_k(x, count)[1], "int32")


def np_scan(step, state, inputs, reverse=False):
    """Works like `keras.ops.scan`, in NumPy."""
    outputs = [None] * len(inputs)
    for i in reversed(range(len(inputs))) if reverse else range(len(inputs)):
        state, outputs[i] = step(state, inputs[i])
    return state, np.stack(outputs) if outputs else np.zeros((0, *state.shape), state.dtype)


def np_top_k(x, count):
    """Works like `keras.ops.top_k`; `count` may be the size of the axis."""
    indices = np.argpartition(x, -count, axis=-1)[..., -count:]
    values = np.take_along_axis(x, indices, axis=-1)
    order = np.argsort(-values, axis=-1)
    return tuple(np.take_along_axis(part, order, axis=-1) for part in (values, indices))


# the functions of `keras.ops` in `best_paths`, for arrays: eager tensors are slower on a CPU, and
# programs would be compiled for each length of a text
NUMPY = types.SimpleNamespace(
    **vars(np) | {"cast": np.asarray, "convert_to_tensor": np.asarray},
    scan=np_scan,
    top_k=np_top_k,
)


@functools.cache
def viterbi_program(cls, tags, n_best):
    """Returns the Viterbi algorithm for a tagger class, compiled where the backend can.

    There is one program for each number of tags, so that TensorFlow's serves all batch sizes and
    lengths.
    """

    def decode(logits, mask, trans):
        logits = ops.where(mask[..., None], at_least_float32(logits), 0.0)
        trans = ops.cast(trans, logits.dtype)
        return best_paths(cls.nodes(logits, mask, trans), mask, trans, n_best)

    return compiled(decode)


class ViterbiDecoder:
    """Viterbi algorithm in NumPy, for a text or a batch.

    Args:
        trans: `(tags, tags)`, the scores of tags (columns) after tags (rows). The attribute may be
            assigned later.
        starts: the tags that a text may begin with; None: any.
        ends: the tags that a text may end with; None: any.

    Example:

        decoder = ViterbiDecoder(crf.trans, starts=[0])
        tags = decoder.decode_batch(model.predict(batch))
    """

    def __init__(
        self, trans: Tensor, starts: Sequence[int] | None = None, ends: Sequence[int] | None = None
    ) -> None:
        self.trans = trans
        self.num_labels = len(trans)
        self.starts = self.barred(starts)
        self.ends = self.barred(ends)

    def barred(self, allowed: Iterable[int] | None) -> np.ndarray:
        """Returns 0 for allowed tags, minus infinity for the others."""
        if allowed is None:
            return np.zeros(self.num_labels)
        return np.where(np.isin(np.arange(self.num_labels), list(allowed)), 0.0, -np.inf)

    def decode(self, nodes: Tensor) -> np.ndarray:
        """Returns the best tags of one text.

        Args:
            nodes: logits, `(length, tags)`.

        Returns:
            Integers `(length,)`.
        """
        return self.decode_batch(nodes[None], np.ones((1, len(nodes)), bool))[0]

    def decode_batch(
        self, nodes: Tensor, visible: Tensor | None = None, n_best: int = 1
    ) -> np.ndarray:
        """Returns the best tags of each text.

        Args:
            nodes: logits, `(batch, length, tags)`.
            visible: bool `(batch, length)`; None: all tokens that a tagger did not mask.
            n_best: number of paths per text.

        Returns:
            Integers `(batch, length)`, -1 at masked tokens; with `n_best` above 1
            `(batch, n_best, length)`, the best first. All -1 where there is no (other) path.

        Raises:
            ValueError: unmasked logits are NaN.
        """
        nodes, trans = ops.convert_to_numpy(nodes), ops.convert_to_numpy(self.trans)
        if visible is None:
            visible = ~(nodes <= NEG_INF / 2).all(-1)
        visible = np.asarray(visible, bool)
        if np.isnan(nodes[visible]).any():
            raise ValueError(NAN_MESSAGE)
        nodes = np.where(visible[..., None], nodes, 0.0).astype("float64")
        count = visible.cumsum(axis=1)
        first, last = visible & (count == 1), visible & (count == count[:, -1:])
        nodes[first] += self.starts
        nodes[last] += self.ends
        tags = best_paths(nodes, visible, trans, n_best, NUMPY).astype("int64")
        return tags[:, 0] if n_best == 1 else tags
