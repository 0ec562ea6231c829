"""Tags of a sequence that depend on their neighbours: CRF, MEMM, and decoding both.

Tags are numbers from 0 on. A token that takes no part, padding above all, holds `NEG_INF` in scores
and -1 in tags; the tokens to either side of it are then neighbours.
"""

import functools
import weakref

import keras
import numpy as np
from keras import ops

from .base import Layer, register
from .embeddings import count_positions
from .values import integer_labels, raise_or_nan, value_range

NEG_INF = -1e9
NO_NUMBERS = "decode: the scores are NaN; expected numbers. Look at the inputs of the model, and at its weights."
LOADED = weakref.WeakValueDictionary()  # name -> tagger, the last one made from a config


@register
class OfTagger(keras.losses.Loss):
    """A tagger's method as a loss or a metric, which a saved model finds again in its layer.

    Called with labels and scores it gives a value for each sequence; with weights, as Keras calls
    a loss, the mean.

    Raises:
        ValueError: weights of tokens.
    """

    def __init__(self, tagger, name):
        super().__init__(name=name)
        # no attribute that Keras would walk through, back to the layer, when it saves a model
        self.call = functools.partial(getattr(type(tagger), name), tagger)
        self.of = tagger.name

    def __call__(self, y_true, y_pred, *sample_weight):
        if not sample_weight:
            return self.call(y_true, y_pred)
        (weight,) = sample_weight
        if weight is None:
            return super().__call__(y_true, y_pred)
        rank = ops.ndim(weight)  # not known in `fit` on TensorFlow, where `reshape` refuses them
        if rank is not None and rank > 1 and weight.shape[-1] != 1:
            raise ValueError(
                f"sample_weight: expected one for each sequence, which {self.name} gives a single "
                f"value, got the shape {tuple(weight.shape)}. Tokens are left out by the label -1."
            )
        return super().__call__(y_true, y_pred, ops.reshape(weight, ops.shape(y_pred)[:1]))

    def get_config(self):
        return {"tagger": self.of, "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(LOADED[config["tagger"]], config["name"])


class loss_or_metric:
    """Makes a method of a tagger, once it is looked up there, an `OfTagger`."""

    def __init__(self, method):
        self.method = method
        self.__doc__ = method.__doc__

    def __get__(self, tagger, kind):
        return self.method if tagger is None else OfTagger(tagger, self.method.__name__)


class Tagger(Layer):
    """What both kinds of taggers share: marking hidden tokens, accuracy, decoding.

    The call only marks hidden tokens. Transitions enter in losses and in `decode`.
    """

    def __init__(self, lr_multiplier=1, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.lr_multiplier = lr_multiplier

    @classmethod
    def from_config(cls, config):
        tagger = super().from_config(config)
        LOADED[tagger.name] = tagger
        return tagger

    def add_transitions(self, name, shape):
        """A weight stored `lr_multiplier` times too small, so that it moves so much faster."""
        limit = (6 / sum(shape)) ** 0.5 / self.lr_multiplier
        initializer = keras.initializers.RandomUniform(-limit, limit)
        return self.add_weight(name=name, shape=shape, initializer=initializer)

    def call(self, scores, visible=None, mask=None):
        scores = at_least_float32(scores)
        visible = mask if visible is None else visible
        if visible is None:
            return scores
        return ops.where(ops.cast(visible, "bool")[..., None], scores, NEG_INF)

    def compute_mask(self, scores, previous_mask=None):
        return None

    @loss_or_metric
    def dense_loss(self, y_true, y_pred):
        """`sparse_loss` of one-hot tags `(batch, length, tags)`; all zeros: ignored."""
        return self.sparse_loss(labels_of(y_true), y_pred)

    @loss_or_metric
    def sparse_accuracy(self, y_true, y_pred):
        """How often the best tag by the scores alone, without transitions, is right.

        A metric has no access to transitions: Keras' JAX trainer hides weights from it.

        Args:
            y_true: integers `(batch, length)`; tokens with -1 (or less) are ignored.
            y_pred: what the layer gives, `(batch, length, tags)`.

        Returns:
            `(batch,)`, of which the mean is the share of the batch's tokens.
        """
        labels, scores, visible, mark = prepared(y_true, y_pred)
        best = ops.cast(ops.argmax(scores, axis=-1), labels.dtype)
        return mark(share_of_tokens(ops.equal(best, labels), visible))

    @loss_or_metric
    def dense_accuracy(self, y_true, y_pred):
        """`sparse_accuracy` of one-hot tags `(batch, length, tags)`; all zeros: ignored."""
        return self.sparse_accuracy(labels_of(y_true), y_pred)

    def decode(self, scores, visible=None, n_best=1):
        """The likeliest tags of each row, found on the device for the whole batch.

        Args:
            scores: what the layer gives, `(batch, length, tags)`, an array or a tensor.
            visible: booleans `(batch, length)`, for scores in which hidden tokens are not marked.
            n_best: how many ways to tag a row to give.

        Returns:
            Integers `(batch, length)`, -1 at hidden tokens; with `n_best` above 1
            `(batch, n_best, length)`, the best first, all -1 where there are no more ways.

        Raises:
            ValueError: visible scores are NaN.
        """
        scores = ops.convert_to_tensor(scores)
        shown = shown_in(scores)
        if visible is not None:
            shown = ops.logical_and(shown, ops.cast(ops.convert_to_tensor(visible), "bool"))
        raise_or_nan(
            ops.logical_and(ops.any(ops.isnan(scores), axis=-1), shown), lambda: NO_NUMBERS
        )
        program = decoder(type(self), scores.shape[-1], n_best)
        paths = program(scores, shown, ops.convert_to_tensor(self.trans))
        return paths[:, 0] if n_best == 1 else paths


@register
class ConditionalRandomField(Tagger):
    """A linear-chain conditional random field: scores of tags, and of each tag after another.

    The probability of tags `y` is `exp(sum_t s[t, y_t] + sum_t A[y_(t-1), y_t]) / Z`. Losses,
    accuracy and decoding are methods:

        scores = keras.layers.Dense(num_tags)(bert.output)
        crf = ConditionalRandomField(lr_multiplier=100)
        model = keras.Model(bert.inputs, crf(scores))
        model.compile(optimizer, loss=crf.sparse_loss, metrics=[crf.sparse_accuracy])
        tags = crf.decode(model.predict(batch))

    Args:
        lr_multiplier: how many times as fast as the other weights the transitions learn (with an
            optimizer of Adam's kind). They are stored divided by it; `trans` has the true ones.

    Call arguments:
        scores: `(batch, length, tags)`.
        visible: booleans `(batch, length)`, which tokens are no padding; those of Keras' own mask
            when left out.

    Returns:
        The scores in float32 at least, `NEG_INF` at tokens that are not visible.

    Reference:
        Lafferty et al., "Conditional Random Fields", ICML 2001; the multiplier:
        https://kexue.fm/archives/7196
    """

    def build(self, scores_shape):
        self._trans = self.add_transitions("trans", (scores_shape[-1], scores_shape[-1]))

    @property
    def trans(self):
        """The scores of tags (columns) after tags (rows)."""
        return self.lr_multiplier * ops.convert_to_tensor(self._trans)

    @loss_or_metric
    def sparse_loss(self, y_true, y_pred):
        """Minus the log-probability of each row's tags.

        Args:
            y_true: integers `(batch, length)`; tokens with -1 (or less) are left out of the sequence.
            y_pred: what the layer gives, `(batch, length, tags)`.

        Returns:
            `(batch,)`; 0 for a row without any tag.
        """
        labels, scores, visible, mark = prepared(y_true, y_pred)
        trans = ops.cast(self.trans, scores.dtype)
        previous, _ = neighbours(visible)
        own = one_hot(labels, scores)
        before = one_hot(take(labels, previous), scores)
        found = ops.sum(own * (scores + ops.matmul(before, trans)), axis=(1, 2))
        return mark(log_partition(scores, visible, trans) - found)

    @staticmethod
    def nodes(scores, visible, trans):
        """The scores that Viterbi's algorithm adds along a path, beside the transitions."""
        return scores


@register
class MaximumEntropyMarkovModel(Tagger):
    """A Markov model of tags, read forward and backward; trains faster than a CRF.

    Each tag is a softmax given its neighbour's: `p(y_t | y_(t-1)) = softmax((s[t] + A[y_(t-1)])
    / 2)`, and backward the same with `A` transposed. Methods as of `ConditionalRandomField`.

    Args:
        lr_multiplier: see `ConditionalRandomField`.
        hidden_dim: when given, `A` is a product of two matrices so narrow, for many tags.

    Call arguments:
        scores, visible: see `ConditionalRandomField`.

    Returns:
        As `ConditionalRandomField`.

    Reference:
        McCallum et al., "Maximum Entropy Markov Models", ICML 2000; both directions:
        https://kexue.fm/archives/7213
    """

    def __init__(self, lr_multiplier=1, hidden_dim=None, **kwargs):
        super().__init__(lr_multiplier, **kwargs)
        self.hidden_dim = hidden_dim

    def build(self, scores_shape):
        tags = scores_shape[-1]
        if self.hidden_dim is None:
            self._trans = self.add_transitions("trans", (tags, tags))
        else:
            self._l_trans = self.add_transitions("l_trans", (tags, self.hidden_dim))
            self._r_trans = self.add_transitions("r_trans", (tags, self.hidden_dim))

    @property
    def trans(self):
        """The scores of tags (columns) after tags (rows)."""
        if self.hidden_dim is None:
            return self.lr_multiplier * ops.convert_to_tensor(self._trans)
        return ops.matmul(self.l_trans, ops.transpose(self.r_trans))

    @property
    def l_trans(self):
        """The left factor of `trans`, `(tags, hidden_dim)`."""
        return self.lr_multiplier * ops.convert_to_tensor(self._l_trans)

    @property
    def r_trans(self):
        """The right factor of `trans`, transposed, `(tags, hidden_dim)`."""
        return self.lr_multiplier * ops.convert_to_tensor(self._r_trans)

    @loss_or_metric
    def sparse_loss(self, y_true, y_pred):
        """The mean cross entropy of the batch's tokens, over both directions.

        Args:
            y_true: integers `(batch, length)`; tokens with -1 (or less) are left out of the sequence.
            y_pred: what the layer gives, `(batch, length, tags)`.

        Returns:
            `(batch,)`, of which the mean is the batch's.
        """
        labels, scores, visible, mark = prepared(y_true, y_pred)
        own = one_hot(labels, scores)

        def cross_entropy(logits):
            return share_of_tokens(-ops.sum(own * ops.log_softmax(logits), axis=-1), visible)

        return mark(sum(map(cross_entropy, self.conditional(labels, scores, visible))) / 2)

    def conditional(self, labels, scores, visible):
        """Logits given the tag before, and given the tag after, `(batch, length, tags)` each."""
        for direction, places in zip((1, -1), neighbours(visible), strict=True):
            known = take(labels, places)
            moved = ops.cast(self.moves(ops.maximum(known, 0), direction), scores.dtype)
            yield (scores + ops.where(known[..., None] >= 0, moved, scores)) / 2

    def moves(self, known, direction):
        """Rows (1) or columns (-1) of the transitions, for the tags that are known."""
        if self.hidden_dim is None:
            trans = self.trans if direction == 1 else ops.transpose(self.trans)
            return ops.take(trans, known, axis=0)
        left, right = (self.l_trans, self.r_trans)[::direction]
        return ops.matmul(ops.take(left, known, axis=0), ops.transpose(right))

    @staticmethod
    def nodes(scores, visible, trans):
        """What Viterbi's algorithm adds along a path, beside the transitions.

        The normalizer of each softmax depends on a token and on one neighbour's tag; it is
        counted with that neighbour. So both directions together are a chain like a CRF's.
        """
        before, after = neighbours(visible)

        def normalizers(trans, places):
            total = log_matmul(scores / 2, trans / 2)
            beside = ops.take_along_axis(total, ops.maximum(places, 0)[..., None], axis=1)
            return ops.where(places[..., None] >= 0, beside, -scores / 2)

        return scores - normalizers(ops.transpose(trans), after) - normalizers(trans, before)


def at_least_float32(x):
    return ops.cast(x, keras.backend.result_type(x.dtype, "float32"))


def shown_in(scores):
    """Which tokens a layer did not mark as hidden, `(batch, length)`; those with NaN are shown."""
    return ops.any(ops.logical_not(at_least_float32(scores) <= NEG_INF / 2), axis=-1)


def labels_of(one_hot):
    """One-hot tags to integers; -1 where all is zero."""
    return ops.where(ops.any(one_hot > 0, axis=-1), ops.argmax(one_hot, axis=-1), -1)


def prepared(y_true, y_pred):
    """Of a loss's arguments: labels (-1 where they do not count), scores (0 there), which count.

    The fourth puts NaN into what is computed of rows with labels beyond the tags.

    Raises:
        ValueError: there are such labels, or some that are no whole numbers, in an eager call; or
            their shape is another.
    """
    scores = at_least_float32(y_pred)
    expected, got = tuple(scores.shape[:-1]), tuple(y_true.shape)
    if got[2:] not in ((), (1,)) or any(
        None not in sizes and sizes[0] != sizes[1] for sizes in zip(expected, got, strict=False)
    ):
        raise ValueError(
            f"y_true: labels of shape {got}; expected {expected}, one for each token. Pad them as "
            "the token ids are padded, with -1."
        )
    labels = integer_labels(ops.reshape(y_true, ops.shape(scores)[:-1]))
    visible = ops.logical_and(shown_in(scores), labels >= 0)
    tags = scores.shape[-1]
    mark = raise_or_nan(
        ops.any(ops.logical_and(visible, labels >= tags), axis=1),
        lambda: (
            f"y_true: labels without a tag; expected 0 to {tags - 1}, or -1 for tokens that do not "
            f"count, got {value_range(labels)}. Give the layer before as many units as there are tags."
        ),
    )
    labels = ops.where(visible, labels, -1)
    return labels, ops.where(visible[..., None], scores, 0.0), visible, mark


def one_hot(labels, scores):
    """`(batch, length, tags)`, like the scores; zeros for -1."""
    tags = ops.arange(scores.shape[-1], dtype=labels.dtype)
    return ops.cast(ops.equal(labels[..., None], tags), scores.dtype)


def take(values, places):
    """Values `(batch, length)` at places `(batch, length)`; -1 where the place is -1."""
    taken = ops.take_along_axis(values, ops.maximum(places, 0), axis=1)
    return ops.where(places >= 0, taken, -1)


def share_of_tokens(values, visible):
    """Values `(batch, length)` to `(batch,)` whose mean is that of the visible tokens."""
    values = at_least_float32(values)
    total = ops.sum(ops.where(visible, values, 0.0), axis=1)
    rows, tokens = (ops.sum(ops.cast(x, values.dtype)) for x in (total * 0 + 1, visible))
    return total * rows / ops.maximum(tokens, 1.0)


def neighbours(visible):
    """Where the visible tokens before and after each visible one stand; -1: there is none."""
    nowhere = 1 << 30
    order = ops.sort(ops.where(visible, count_positions(visible), nowhere), axis=1)
    order = ops.where(order < nowhere, order, -1)
    order = ops.pad(order, ((0, 0), (1, 1)), constant_values=-1)
    rank = ops.cumsum(ops.cast(visible, "int32"), axis=1)
    before = ops.take_along_axis(order, ops.maximum(rank - 1, 0), axis=1)
    return before, ops.take_along_axis(order, rank + 1, axis=1)


def log_matmul(x, y):
    """`log(exp(x) @ exp(y))`, for `x` of `(..., n)` and `y` of `(n, m)`."""
    x_max, y_max = ops.max(x, axis=-1, keepdims=True), ops.max(y, axis=0)
    product = ops.matmul(ops.exp(x - x_max), ops.exp(y - y_max))
    return ops.log(ops.maximum(product, 1e-37)) + x_max + y_max


def by_time(scores, visible):
    """What a recursion reads at each token, `(length, batch, tags + 2)`; see `split`.

    One tensor: under TensorFlow, `ops.scan` takes several only if their length is known.
    """
    count = ops.cumsum(ops.cast(visible, "int32"), axis=1)
    first = ops.logical_and(visible, count == 1)
    flags = ops.cast(ops.stack([visible, first], axis=-1), scores.dtype)
    return ops.swapaxes(ops.concatenate([scores, flags], axis=-1), 0, 1)


def split(now):
    """Scores `(batch, tags)`, whether the token is visible and the first that is, `(batch, 1)`."""
    return now[:, :-2], now[:, -2:-1] > 0, now[:, -1:] > 0


def log_partition(scores, visible, trans):
    """The logarithm of the sum over all paths, by the forward algorithm.

    A step sums over the tag before. As a product of matrices that takes `tags` exponentials a
    row instead of `tags ** 2`. It loses nothing, unless a transition is so much less likely than
    another to the same tag (a forbidden one) that float32 cannot hold both; then each sum is
    taken by itself.

    Args:
        scores: `(batch, length, tags)`, finite everywhere.
        visible: booleans `(batch, length)`.
        trans: `(tags, tags)`.

    Returns:
        `(batch,)`; 0 for a row with no visible token.
    """
    start, inputs = ops.zeros_like(scores[:, 0]), by_time(scores, visible)

    def run(sums, when):
        def step(state, now):
            score, visible, first = split(now)
            return ops.where(visible, score + ops.where(first, 0.0, sums(state, trans)), state)

        return last_state(step, start, inputs, when)

    spread = ops.max(ops.max(trans, axis=0) - ops.min(trans, axis=0))
    narrow = spread < 60
    state = ops.where(narrow, run(log_matmul, narrow), run(log_sums, ops.logical_not(narrow)))
    return ops.where(ops.any(visible, axis=1), ops.logsumexp(state, axis=1), 0.0)


@keras.remat
def log_sums(x, y):
    """`log_matmul`, whatever the range of the numbers."""
    return ops.logsumexp(x[:, :, None] + y, axis=1)


def last_state(step, state, inputs, when):
    """The state after a step for each entry of the first axis of inputs, or as it was.

    This is `ops.scan`, of which XLA cannot compile the gradient under TensorFlow, and which takes
    quadratic time under PyTorch.

    Args:
        step: from a state and an entry to the next state.
        state: the first state.
        inputs: `(steps, ...)`.
        when: boolean scalar, whether to take the steps at all.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        return ops.cond(
            when,
            lambda: ops.scan(lambda state, now: (step(state, now), None), state, inputs)[0],
            lambda: state,
        )
    if backend == "torch":
        for now in ops.unstack(inputs) if when else ():
            state = step(state, now)
        return state

    import tensorflow as tf

    steps = tf.shape(inputs)[0]
    return tf.while_loop(
        lambda i, _: tf.logical_and(when, i < steps),
        lambda i, state: (i + 1, step(state, inputs[i])),
        (0, state),
        maximum_iterations=steps,
    )[1]


def best_paths(scores, visible, trans, n_best=1):
    """The paths with the largest sums of scores and transitions, by Viterbi's algorithm.

    A state is one of the `n_best` ways to a tag, numbered `tag * n_best + rank`.

    Args:
        scores: `(batch, length, tags)`, finite everywhere.
        visible: booleans `(batch, length)`.
        trans: `(tags, tags)`.
        n_best: how many paths.

    Returns:
        Tags `(batch, n_best, length)`, -1 at hidden tokens and where there is no path.
    """
    tags = scores.shape[-1]
    one_way = ops.convert_to_tensor([0.0] + [-np.inf] * (n_best - 1), dtype=scores.dtype)
    after = ops.repeat(ops.transpose(trans), n_best, axis=1)  # tags, states before

    def step(old, now):
        score, visible, first = (x[..., None] for x in split(now))
        best = highest(ops.reshape(old, (-1, 1, tags * n_best)) + after, n_best)
        new = ops.where(visible, score + ops.where(first, one_way, best), old)
        return new, new

    def back(state, now):
        # found again for one tag a path: cheaper than to keep where all tags came from
        old, visible, first = split(now)
        ways = old[:, None] + ops.take(after, state // n_best, axis=0)
        earlier = places_of_highest(ways, n_best)
        earlier = ops.take_along_axis(earlier, (state % n_best)[..., None], axis=-1)[..., 0]
        stays = ops.logical_or(first, ops.logical_not(visible))
        return ops.where(stays, state, earlier), state

    inputs = by_time(scores, visible)
    start = ops.repeat(ops.zeros_like(scores[:, 0])[..., None], n_best, axis=-1)
    total, totals = ops.scan(step, start, inputs)
    totals = ops.concatenate([start[None], totals[:-1]], axis=0)
    totals = ops.reshape(totals, (ops.shape(totals)[0], -1, tags * n_best))
    total = ops.reshape(total, (-1, tags * n_best))
    last, total = places_of_highest(total, n_best), highest(total, n_best)
    _, path = ops.scan(
        back, last, ops.concatenate([totals, inputs[..., -2:]], axis=-1), reverse=True
    )
    found = ops.logical_and(visible[:, None], (total > -np.inf)[..., None])
    return ops.where(found, ops.transpose(path, (1, 2, 0)) // n_best, -1)


def highest(x, count):
    """The largest numbers of the last axis, the largest first."""
    if count == 1:  # top_k sorts
        return ops.max(x, axis=-1, keepdims=True)
    return ops.top_k(x, count)[0]


def places_of_highest(x, count):
    """Where the largest numbers of the last axis stand, the largest first."""
    if count == 1:
        return ops.argmax(x, axis=-1, keepdims=True)
    return ops.cast(ops.top_k(x, count)[1], "int32")


@functools.cache
def decoder(kind, tags, n_best):
    """Viterbi's algorithm for a kind of tagger, as one program where the backend has such.

    There is one for each number of tags, so that TensorFlow's serves every batch and length.
    """

    def decode(scores, visible, trans):
        scores = ops.where(visible[..., None], at_least_float32(scores), 0.0)
        trans = ops.cast(trans, scores.dtype)
        return best_paths(kind.nodes(scores, visible, trans), visible, trans, n_best)

    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.jit(decode)
    if backend == "torch":
        import torch

        return torch.no_grad()(decode)

    import tensorflow as tf

    return tf.function(decode, autograph=False, reduce_retracing=True)


class ViterbiDecoder:
    """Viterbi's algorithm in NumPy, for a text or a batch.

    Args:
        trans: `(tags, tags)`, the scores of tags (columns) after tags (rows). May be set anew.
        starts: the tags that a text may begin with; None: any.
        ends: the tags that it may end with; None: any.

    Example:

        decoder = ViterbiDecoder(crf.trans, starts=[0])
        tags = decoder.decode_batch(model.predict(batch))
    """

    def __init__(self, trans, starts=None, ends=None):
        self.trans = trans
        self.num_labels = len(trans)
        self.starts = self.barred(starts)
        self.ends = self.barred(ends)

    def barred(self, allowed):
        """0 for each tag that is allowed, minus infinity for the others."""
        if allowed is None:
            return np.zeros(self.num_labels)
        return np.where(np.isin(np.arange(self.num_labels), list(allowed)), 0.0, -np.inf)

    def decode(self, nodes):
        """The best tags of one text.

        Args:
            nodes: scores, `(length, tags)`.

        Returns:
            Integers `(length,)`.
        """
        return self.decode_batch(nodes[None], np.ones((1, len(nodes)), bool))[0]

    def decode_batch(self, nodes, visible=None, n_best=1):
        """The best tags of each text.

        Args:
            nodes: scores, `(batch, length, tags)`.
            visible: booleans `(batch, length)`; None: all but what a layer marked as hidden.
            n_best: how many ways to tag a text to give.

        Returns:
            Integers `(batch, length)`, -1 at hidden tokens; with `n_best` above 1
            `(batch, n_best, length)`, the best first. All -1 where there is no (other) way.

        Raises:
            ValueError: visible scores are NaN.
        """
        nodes, trans = ops.convert_to_numpy(nodes), ops.convert_to_numpy(self.trans)
        if visible is None:
            visible = ~(nodes <= NEG_INF / 2).all(-1)
        visible = np.asarray(visible, bool)
        if np.isnan(nodes[visible]).any():
            raise ValueError(NO_NUMBERS)
        order = np.argsort(~visible, axis=1, kind="stable")
        nodes = np.take_along_axis(nodes, order[..., None], axis=1)
        path = self.paths(nodes, visible.sum(1), trans, n_best)
        found = np.empty_like(path)
        np.put_along_axis(found, np.broadcast_to(order[:, None], path.shape), path, axis=2)
        return found[:, 0] if n_best == 1 else found

    def paths(self, nodes, counts, trans, n_best):
        """Of the first so many tokens of each row: `(batch, n_best, length)`, -1 beyond.

        A state is one of the `n_best` ways to a tag, numbered `tag * n_best + rank`.
        """
        batch, length, tags = nodes.shape
        states = np.arange(tags * n_best).reshape(tags, n_best)
        total = np.full((batch, tags, n_best), -np.inf)
        total[:, :, 0] = nodes[:, 0] + self.starts
        came_from = np.empty((length, batch, tags, n_best), int)
        for t in range(1, length):
            ways = (total[:, None] + trans.T[:, :, None]).reshape(batch, tags, -1)
            best = largest(ways, n_best)
            inside = (t < counts)[:, None, None]
            came_from[t] = np.where(inside, best, states)
            grown = np.take_along_axis(ways, best, axis=-1) + nodes[:, t, :, None]
            total = np.where(inside, grown, total)

        total = (total + self.ends[:, None]).reshape(batch, -1)
        state = largest(total, n_best)
        possible = np.take_along_axis(total, state, axis=-1) > -np.inf
        path = np.full((batch, n_best, length), -1)
        for t in reversed(range(length)):
            inside = possible & (t < counts)[:, None]
            path[:, :, t] = np.where(inside, state // n_best, -1)
            if t:
                state = np.take_along_axis(came_from[t].reshape(batch, -1), state, axis=1)
        return path


def largest(x, count):
    """Where the largest numbers of the last axis stand, the largest first."""
    if count == 1:
        return x.argmax(-1)[..., None]
    places = np.argpartition(x, -count, axis=-1)[..., -count:]
    order = np.argsort(-np.take_along_axis(x, places, axis=-1), axis=-1)
    return np.take_along_axis(places, order, axis=-1)
