"""Methods that change the loss of a training step, or where its gradient is taken."""

from functools import partial

import keras
from keras import ops

from ..arguments import checks_flags
from .step import Step, replicas, value_and_gradients

# Methods that move the embeddings


@checks_flags
def adversarial_training(model, embedding, epsilon=1.0, clean=True):
    """Trains on the embeddings as they are, and as they would be worst (FGM).

    The worst place, by the gradient `g` of the loss: `epsilon * g / |g|` away, `g` and its norm
    being those of the whole embedding matrix, as in bert4keras' example (the paper moves the
    vectors of each text). Both passes use the same dropout. A step costs about two plain ones.

    Args:
        model: a `keras.Model`.
        embedding: name of the embedding layer, such as `"token_embedding"`. It may be frozen.
        epsilon: how far the matrix is moved.
        clean: whether the loss without perturbation counts, too, as in the paper; the loss shown
            is the sum. Without it, a step is that of bert4keras' example.

    Raises:
        ValueError: no embedding has that name, or the model has another such method already.

    Example:
        >>> model.compile("adamw", loss)
        >>> adversarial_training(model, "token_embedding", epsilon=0.5)
        >>> model.fit(batches)

    Reference:
        Miyato et al., "Adversarial Training Methods for Semi-Supervised Text Classification",
        arXiv 1605.07725, section 3.
    """
    projected_adversarial_training(model, embedding, epsilon, epsilon, 1, clean)


@checks_flags
def projected_adversarial_training(
    model, embedding, epsilon=1.0, step_size=0.3, steps=3, clean=True
):
    """Adversarial training with the worst place sought in several steps (PGD).

    Each step goes `step_size` along the normalized gradient, and back onto the ball of radius
    `epsilon` (in the Euclidean norm of the whole matrix) if it left it.

    Args:
        model, embedding, clean: see `adversarial_training`.
        epsilon: radius of the ball.
        step_size: of each step.
        steps: how many; a training step costs one plain one more than that.

    Raises:
        ValueError: see `adversarial_training`; or `steps` is below 1.

    Example:
        >>> projected_adversarial_training(model, "token_embedding", epsilon=1.0, steps=3)

    Reference:
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks",
        arXiv 1706.06083, section 2.1; begun at the weights, not at a random place.
    """
    if steps < 1:
        raise ValueError(f"steps={steps}: expected 1 or more.")
    step = Step.of(model)
    table = step.add_table(embedding)
    if step.gradients != step.plain_gradients:
        raise ValueError("The model has adversarial training already; build it anew to change it.")

    def gradients(values, batch):
        here = step.index(table)
        first = step.plain_gradients if clean else partial(step.gradient_of_one, here)
        result, found = first(values, batch)
        uphill, moved = found[here], 0.0
        for n in range(steps):
            if n:
                there = [ops.stop_gradient(v) for v in step.moved(values, here, moved)]
                uphill = step.gradient_of_one(here, there, batch)[1][here]
            moved = _within(moved + step_size * _unit(uphill, table), epsilon)
        worst, adversarial = step.plain_gradients(step.moved(values, here, moved), batch)
        if not clean:
            return result._replace(loss=worst.loss), adversarial
        total = [b if a is None else a + b for a, b in zip(found, adversarial, strict=True)]
        return result._replace(loss=result.loss + worst.loss), total

    step.gradients = gradients


def gradient_penalty(model, embedding, weight=1.0):
    """Adds `weight / 2` times the squared norm of the loss' gradient by the embeddings.

    It is the leading term of what adversarial training adds, and a derivative of second order is
    taken of it. The norm is that of the gradient by the matrix, where a token that occurs several
    times counts by the sum of its gradients (bert4keras' example sums squares by occurrence).

    Args:
        model, embedding: see `adversarial_training`.
        weight: of the penalty.

    Raises:
        ValueError: no embedding has that name.

    Example:
        >>> gradient_penalty(model, "token_embedding", weight=0.5)

    Reference:
        https://kexue.fm/archives/7234
    """
    step = Step.of(model)
    table = step.add_table(embedding)
    inner = step.objective

    def objective(values, batch):
        here = step.index(table)

        def scaled(moved):
            result = inner([*values[:here], *moved, *values[here + 1 :]], batch)
            return result.loss * batch.scale, result

        (_, result), (gradient,) = value_and_gradients(scaled, [values[here]], create_graph=True)
        devices = replicas()  # which divide the loss among them
        squares = ops.square(ops.cast(_given(gradient, table), "float32") / batch.scale * devices)
        return result._replace(loss=result.loss + 0.5 * weight * ops.sum(squares) / devices)

    step.objective = objective


def virtual_adversarial_training(
    model,
    embedding,
    unlabelled=None,
    batch_size=32,
    epsilon=1.0,
    weight=1.0,
    xi=10.0,
    iterations=1,
    divergence=None,
):
    """Asks that a small change of the embeddings does not change what is predicted (VAT).

    The change sought is the worst of its size for the Kullback-Leibler divergence from the clean
    prediction, by power iteration; no labels are needed for it. All passes over the same texts use
    the same dropout, so that without a change the divergence is nothing.

    Args:
        model, embedding: see `adversarial_training`.
        unlabelled: texts that need no labels: one array for each input of the model, as a list,
            tuple or dict like the inputs of `fit`, with all rows of one length. Each training step
            draws `batch_size` rows of it. If the labelled texts are to count, too, put them in.
            None: the labelled texts of the batch are all there is.
        epsilon: how far the embedding matrix is moved, in its Euclidean norm.
        weight: of the divergence beside the loss.
        xi: length of the step with which the worst direction is felt for.
        iterations: of the power iteration.
        divergence: see `r_drop`.

    Raises:
        ValueError: no embedding has that name, or `unlabelled` has arrays that differ in length.

    Example:
        >>> virtual_adversarial_training(model, "token_embedding", [token_ids, segment_ids])
        >>> model.fit(labelled)

    Reference:
        Miyato et al., "Virtual Adversarial Training", arXiv 1704.03976, algorithm 1.
    """
    step = Step.of(model)
    table = step.add_table(embedding)
    inner = step.objective
    rows = None if unlabelled is None else _rows(unlabelled)
    # where Keras keeps seeds: on JAX, what a compiled step changes must belong to the model
    seed = model.virtual_adversarial_seed = keras.random.SeedGenerator()

    def draw():
        chosen = keras.random.randint((batch_size,), 0, rows, seed=seed)
        return keras.tree.map_structure(lambda x: ops.take(x, chosen, axis=0), unlabelled)

    def objective(values, batch):
        here = step.index(table)
        result = inner(values, batch)
        x, state = keras.utils.unpack_x_y_sample_weight(batch.data)[0], result.state
        still = [ops.stop_gradient(v) for v in values]
        shape = tuple(table.shape)
        direction, state = step.run(
            still, state, lambda: keras.random.normal(shape, dtype="float32", seed=seed)
        )
        if unlabelled is not None:
            x, state = step.run(still, state, draw)
        clean, after = step.run(still, state, lambda: model(x, training=True))
        clean = keras.tree.map_structure(ops.stop_gradient, clean)

        def divergence_at(values):
            y, _ = step.run(values, state, lambda: model(x, training=True))
            return step.divergence(clean, y, divergence)

        def scaled(moved):
            d = divergence_at([*still[:here], *moved, *still[here + 1 :]])
            return d * batch.scale, None

        for _ in range(iterations):
            felt = ops.cast(xi * _unit(direction, table), table.dtype)
            _, (direction,) = value_and_gradients(scaled, [still[here] + felt])
        worst = epsilon * _unit(ops.stop_gradient(direction), table)
        loss = result.loss + weight * divergence_at(step.moved(values, here, worst))
        return result._replace(loss=loss, state=after)

    step.objective = objective


# Methods that let each text pass twice


def r_drop(model, weight=4.0, divergence=None):
    """Lets each text pass twice, and asks that dropout makes no difference (R-Drop).

    The loss is the mean over both passes, and `weight` times the mean of the two
    Kullback-Leibler divergences between them, as in the authors' code. Sample weights and masks
    hold for the divergence as they do for the loss. Metrics are those of the first pass.

    Args:
        model: a `keras.Model`, with dropout in it.
        weight: of the divergence.
        divergence: function of two outputs, `(batch, ..., dim)` each, that gives `(batch, ...)`;
            one of `kl_of_scores`, `kl_of_probabilities`, `kl_of_binary_scores`,
            `kl_of_binary_probabilities`, or your own. When left out, the compiled loss tells, if
            it is one of Keras' cross entropies.

    Raises:
        ValueError: in `fit`: the compiled loss does not tell which divergence is meant.

    Example:
        >>> r_drop(model, weight=4.0)
        >>> model.fit(batches)

    Reference:
        Liang et al., "R-Drop", arXiv 2106.14448, section 2.1.
    """
    step = Step.of(model)
    inner = step.objective

    def objective(values, batch):
        data = _twice(batch.data)
        result = inner(values, batch._replace(data=data))
        other = keras.tree.map_structure(_swap, result.y_pred)
        sample_weight = keras.utils.unpack_x_y_sample_weight(data)[2]
        difference = step.divergence(other, result.y_pred, divergence, sample_weight)
        return result._replace(
            loss=result.loss + weight * difference, y_pred=_first_of_two(result.y_pred)
        )

    step.objective = objective


def dropout_pairs(model):
    """Lets each text pass twice with different dropout, for a contrastive loss (SimCSE).

    The loss gets two rows for each text, one after the other, of outputs, labels and weights:
    what `losses.simcse` takes. Metrics see the first of the two.

    Args:
        model: a `keras.Model`, with dropout in it.

    Example:
        >>> model.compile("adamw", simcse)
        >>> dropout_pairs(model)
        >>> model.fit([token_ids, segment_ids], labels_that_are_not_used)

    Reference:
        Gao et al., "SimCSE", arXiv 2104.08821, section 3.
    """
    step = Step.of(model)
    inner = step.objective

    def objective(values, batch):
        result = inner(values, batch._replace(data=_twice(batch.data)))
        return result._replace(y_pred=_first_of_two(result.y_pred))

    step.objective = objective


def _twice(data):
    """Each row of a batch, and the same again after it."""
    return keras.tree.map_structure(
        lambda x: None if x is None else ops.repeat(x, 2, axis=0), data, none_is_leaf=True
    )


def _first_of_two(outputs):
    """Of each two rows the first, with its mask, which Keras hangs on the tensor."""

    def first(y):
        mask, y = getattr(y, "_keras_mask", None), y[::2]
        if mask is not None:
            y._keras_mask = mask[::2]
        return y

    return keras.tree.map_structure(first, outputs)


def _swap(y):
    """Neighbouring rows in each other's place."""
    return ops.reshape(ops.stack([y[1::2], y[::2]], axis=1), ops.shape(y))


def _rows(arrays):
    """How many rows all the arrays have."""
    counts = {len(x) for x in keras.tree.flatten(arrays)}
    if len(counts) != 1:
        raise ValueError(
            f"unlabelled: expected arrays with as many rows each, got {sorted(counts)} rows."
        )
    return counts.pop()


def _given(gradient, table):
    if gradient is None:
        raise ValueError(f"The loss does not depend on {table.path}.")
    return gradient


def _norm(x):
    return ops.sqrt(ops.sum(ops.square(x)))


def _unit(gradient, table):
    """Brought to length 1, in float32; nothing stays nothing, and overflow becomes nothing."""
    x = ops.cast(_given(gradient, table), "float32")
    norm = _norm(x)
    return ops.where(ops.isfinite(norm), x / ops.maximum(norm, 1e-12), 0.0)


def _within(x, radius):
    """Brought back onto a ball, if outside."""
    return x * ops.minimum(1.0, radius / ops.maximum(_norm(x), 1e-12))
