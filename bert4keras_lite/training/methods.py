"""Training methods that change the loss of a step, or where its gradient is taken."""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
from keras import ops

from ..arguments import checks_flags
from ..backend import replicas, value_and_gradients
from .step import Step

__all__ = [
    "adversarial_training",
    "dropout_pairs",
    "gradient_penalty",
    "projected_adversarial_training",
    "r_drop",
    "virtual_adversarial_training",
]

# Methods that perturb the embeddings


@checks_flags
def adversarial_training(
    model: keras.Model, embedding: str, epsilon: float = 1.0, clean: bool = True
) -> None:
    """Adds adversarial training to a model: embeddings are perturbed along the gradient (FGM).

    The perturbation is `epsilon * g / |g|`, with the gradient `g` of the loss and its norm over the
    whole embedding matrix, as in bert4keras' example (the paper perturbs the vectors of each text).
    Both passes use the same dropout. A step costs about two plain ones.

    Args:
        model: a `keras.Model`.
        embedding: name of the embedding layer, such as `"token_embedding"`. It may be frozen.
        epsilon: norm of the perturbation.
        clean: whether to add the loss without perturbation, as in the paper; the reported loss
            is the sum. False gives the step of bert4keras' example.

    Raises:
        ValueError: no embedding has that name, or the model has such a method already.

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
    model: keras.Model,
    embedding: str,
    epsilon: float = 1.0,
    step_size: float = 0.3,
    steps: int = 3,
    clean: bool = True,
) -> None:
    """Adds adversarial training whose perturbation is found in several steps (PGD).

    Each step adds `step_size` along the normalized gradient, and projects back onto the ball of
    radius `epsilon` (in the Euclidean norm of the whole matrix) if necessary.

    Args:
        model, embedding, clean: see `adversarial_training`.
        epsilon: radius of the ball.
        step_size: length of each step.
        steps: number of steps; a training step costs `steps + 1` plain ones.

    Raises:
        ValueError: see `adversarial_training`; or `steps` is below 1.

    Example:
        >>> projected_adversarial_training(model, "token_embedding", epsilon=1.0, steps=3)

    Reference:
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks",
        arXiv 1706.06083, section 2.1; started at the weights, not at a random point.
    """
    if steps < 1:
        raise ValueError(f"steps={steps}: expected 1 or more.")
    step = Step.of(model)
    table = step.add_table(embedding)
    if step.gradients != step.plain_gradients:
        raise ValueError(
            "model: adversarial training was added already. Build a new model to change it."
        )

    def gradients(values, batch):
        index = step.index(table)
        first = step.plain_gradients if clean else partial(step.gradient_of_value, index)
        result, clean_gradients = first(values, batch)
        gradient, perturbation = clean_gradients[index], 0.0
        for n in range(steps):
            if n:
                shifted = [ops.stop_gradient(v) for v in step.shifted(values, index, perturbation)]
                gradient = step.gradient_of_value(index, shifted, batch)[1][index]
            perturbation = _within(perturbation + step_size * _unit(gradient, table), epsilon)
        worst, adversarial = step.plain_gradients(step.shifted(values, index, perturbation), batch)
        if not clean:
            return result._replace(loss=worst.loss), adversarial
        total = [
            b if a is None else a + b for a, b in zip(clean_gradients, adversarial, strict=True)
        ]
        return result._replace(loss=result.loss + worst.loss), total

    step.gradients = gradients


def gradient_penalty(model: keras.Model, embedding: str, weight: float = 1.0) -> None:
    """Adds `weight / 2` times the squared norm of the loss gradient by the embeddings.

    This is the leading term of what adversarial training adds; it needs second-order derivatives.
    The norm is that of the gradient by the matrix, in which a token that occurs several times
    counts with the sum of its gradients (bert4keras' example sums squares over occurrences).

    Args:
        model, embedding: see `adversarial_training`.
        weight: weight of the penalty.

    Raises:
        ValueError: no embedding has that name.

    Example:
        >>> gradient_penalty(model, "token_embedding", weight=0.5)

    Reference:
        https://kexue.fm/archives/7234
    """
    step = Step.of(model)
    table = step.add_table(embedding)
    inner_objective = step.objective

    def objective(values, batch):
        index = step.index(table)

        def scaled(embeddings):
            result = inner_objective([*values[:index], *embeddings, *values[index + 1 :]], batch)
            return result.loss * batch.scale, result

        (_, result), (gradient,) = value_and_gradients(scaled, [values[index]], create_graph=True)
        devices = replicas()  # the loss is divided by their number
        squares = ops.square(ops.cast(_checked(gradient, table), "float32") / batch.scale * devices)
        return result._replace(loss=result.loss + 0.5 * weight * ops.sum(squares) / devices)

    step.objective = objective


def virtual_adversarial_training(
    model: keras.Model,
    embedding: str,
    unlabelled: Any = None,
    batch_size: int = 32,
    epsilon: float = 1.0,
    weight: float = 1.0,
    xi: float = 10.0,
    iterations: int = 1,
    divergence: Callable | None = None,
) -> None:
    """Adds virtual adversarial training (VAT) to a model.

    It penalizes the Kullback-Leibler divergence between the predictions with and without a small
    perturbation of the embeddings: the one of its size with the largest divergence, found by power
    iteration, without labels. All passes over the same texts use the same dropout, so without a
    perturbation the divergence is zero.

    Args:
        model, embedding: see `adversarial_training`.
        unlabelled: texts without labels: one array for each input of the model, as a list, tuple or
            dict like the inputs of `fit`, all with the same number of rows, padded to one length.
            Each training step draws `batch_size` rows. To use the labelled texts as well, include
            them. None: the labelled texts of the batch are used.
        batch_size: number of rows of `unlabelled` per step.
        epsilon: norm of the perturbation of the embedding matrix (Euclidean).
        weight: weight of the divergence relative to the loss.
        xi: size of the finite-difference step of the power iteration.
        iterations: number of power iterations.
        divergence: see `r_drop`.

    Raises:
        ValueError: no embedding has that name, or `unlabelled` has arrays of different lengths.

    Example:
        >>> virtual_adversarial_training(model, "token_embedding", [token_ids, segment_ids])
        >>> model.fit(labelled)

    Reference:
        Miyato et al., "Virtual Adversarial Training", arXiv 1704.03976, algorithm 1.
    """
    step = Step.of(model)
    table = step.add_table(embedding)
    inner_objective = step.objective
    rows = None if unlabelled is None else _rows(unlabelled)
    # an attribute of the model: on JAX, a compiled step can only change state of the model
    seed = model.virtual_adversarial_seed = keras.random.SeedGenerator()

    def draw_rows():
        indices = keras.random.randint((batch_size,), 0, rows, seed=seed)
        return keras.tree.map_structure(lambda x: ops.take(x, indices, axis=0), unlabelled)

    def objective(values, batch):
        index = step.index(table)
        result = inner_objective(values, batch)
        x, state = keras.utils.unpack_x_y_sample_weight(batch.data)[0], result.state
        constant = [ops.stop_gradient(v) for v in values]
        shape = tuple(table.shape)
        direction, state = step.run(
            constant, state, lambda: keras.random.normal(shape, dtype="float32", seed=seed)
        )
        if unlabelled is not None:
            x, state = step.run(constant, state, draw_rows)
        clean, after = step.run(constant, state, lambda: model(x, training=True))
        clean = keras.tree.map_structure(ops.stop_gradient, clean)

        def divergence_at(values):
            y, _ = step.run(values, state, lambda: model(x, training=True))
            return step.divergence(clean, y, divergence)

        def scaled(embeddings):
            d = divergence_at([*constant[:index], *embeddings, *constant[index + 1 :]])
            return d * batch.scale, None

        for _ in range(iterations):
            probe = ops.cast(xi * _unit(direction, table), table.dtype)
            _, (direction,) = value_and_gradients(scaled, [constant[index] + probe])
        worst = epsilon * _unit(ops.stop_gradient(direction), table)
        loss = result.loss + weight * divergence_at(step.shifted(values, index, worst))
        return result._replace(loss=loss, state=after)

    step.objective = objective


# Methods with two forward passes for each text


def r_drop(model: keras.Model, weight: float = 4.0, divergence: Callable | None = None) -> None:
    """Adds R-Drop to a model: two forward passes, with a KL penalty between their predictions.

    The loss is the mean over both passes, plus `weight` times the mean of the two Kullback-Leibler
    divergences between them, as in the authors' code. Sample weights and masks apply to the
    divergence as to the loss. Metrics are those of the first pass.

    Args:
        model: a `keras.Model` with dropout.
        weight: weight of the divergence.
        divergence: function of two outputs, `(batch, ..., dim)` each, that returns `(batch, ...)`;
            one of `kl_of_scores`, `kl_of_probabilities`, `kl_of_binary_scores`,
            `kl_of_binary_probabilities`, or your own. Defaults to the one that matches the compiled
            loss, if that is one of Keras' cross entropies.

    Raises:
        ValueError: in `fit`: no divergence matches the compiled loss.

    Example:
        >>> r_drop(model, weight=4.0)
        >>> model.fit(batches)

    Reference:
        Liang et al., "R-Drop", arXiv 2106.14448, section 2.1.
    """
    step = Step.of(model)
    inner_objective = step.objective

    def objective(values, batch):
        data = _twice(batch.data)
        result = inner_objective(values, batch._replace(data=data))
        swapped = keras.tree.map_structure(_swap, result.y_pred)
        sample_weight = keras.utils.unpack_x_y_sample_weight(data)[2]
        difference = step.divergence(swapped, result.y_pred, divergence, sample_weight)
        return result._replace(
            loss=result.loss + weight * difference, y_pred=_first_of_two(result.y_pred)
        )

    step.objective = objective


def dropout_pairs(model: keras.Model) -> None:
    """Passes each text twice with different dropout, for a contrastive loss (SimCSE).

    The loss gets two consecutive rows for each text, of outputs, labels and weights, as
    `losses.simcse` expects. Metrics use the first of the two.

    Args:
        model: a `keras.Model` with dropout.

    Example:
        >>> model.compile("adamw", simcse)
        >>> dropout_pairs(model)
        >>> model.fit([token_ids, segment_ids], labels_that_are_not_used)

    Reference:
        Gao et al., "SimCSE", arXiv 2104.08821, section 3.
    """
    step = Step.of(model)
    inner_objective = step.objective

    def objective(values, batch):
        result = inner_objective(values, batch._replace(data=_twice(batch.data)))
        return result._replace(y_pred=_first_of_two(result.y_pred))

    step.objective = objective


def _twice(data):
    """Repeats each row of a batch, the copy directly after it."""
    return keras.tree.map_structure(
        lambda x: None if x is None else ops.repeat(x, 2, axis=0), data, none_is_leaf=True
    )


def _first_of_two(outputs):
    """Keeps the first row of each pair, and its Keras mask."""

    def first(y):
        mask, y = getattr(y, "_keras_mask", None), y[::2]
        if mask is not None:
            y._keras_mask = mask[::2]
        return y

    return keras.tree.map_structure(first, outputs)


def _swap(y):
    """Swaps the rows of each pair."""
    return ops.reshape(ops.stack([y[1::2], y[::2]], axis=1), ops.shape(y))


def _rows(arrays):
    """Returns the number of rows, which all arrays must share."""
    counts = {len(x) for x in keras.tree.flatten(arrays)}
    if len(counts) != 1:
        raise ValueError(
            f"unlabelled: expected arrays with the same number of rows, got {sorted(counts)} rows."
        )
    return counts.pop()


def _checked(gradient, table):
    if gradient is None:
        raise ValueError(
            f"{table.path}: the loss does not depend on this embedding. Choose one that the "
            "outputs are computed from."
        )
    return gradient


def _norm(x):
    return ops.sqrt(ops.sum(ops.square(x)))


def _unit(gradient, table):
    """Scales to unit norm, in float32; zero stays zero, and a non-finite norm gives zero."""
    x = ops.cast(_checked(gradient, table), "float32")
    norm = _norm(x)
    return ops.where(ops.isfinite(norm), x / ops.maximum(norm, 1e-12), 0.0)


def _within(x, radius):
    """Projects onto a ball around zero."""
    return x * ops.minimum(1.0, radius / ops.maximum(_norm(x), 1e-12))
