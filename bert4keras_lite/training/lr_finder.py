"""Learning rate range test."""

import math
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import keras
import numpy as np
from keras import ops

from ..types import PathLike

__all__ = ["LearningRates", "find_learning_rate"]


@dataclass(frozen=True)
class LearningRates:
    """Result of `find_learning_rate`.

    Attributes:
        rates: the learning rates tried, in order.
        losses: the smoothed loss at each rate, before the step with it.
        best: the rate at which the loss falls fastest.
    """

    rates: list
    losses: list
    best: float

    def plot(self, path):
        """Plots losses over rates into an image file. Needs matplotlib.

        Args:
            path: the file.

        Raises:
            ImportError: matplotlib is not installed.
        """
        _check_matplotlib()
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.rates, self.losses)
        axes.axvline(self.best, linestyle="--", color="gray", label=f"{self.best:.1e}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss (smoothed)")
        axes.legend()
        figure.savefig(path)


def find_learning_rate(
    model: keras.Model,
    data: Any,
    lowest: float = 1e-7,
    highest: float = 1.0,
    steps: int = 100,
    smoothing: float = 0.9,
    picture: PathLike | None = None,
) -> LearningRates:
    """Trains with increasing learning rates, and restores the model afterwards.

    The rate grows by the same factor each step, until the smoothed loss is four times its minimum
    or not finite.

    Args:
        model: compiled, with a number as learning rate.
        data: batches as `fit` takes them: a `PyDataset`, or an iterable of `(inputs, labels)` or
            `(inputs, labels, weights)` that can be iterated several times.
        lowest, highest: first and last learning rate.
        steps: number of rates.
        smoothing: momentum of the smoothed loss, from 0 to below 1.
        picture: file to plot the curve into, such as `"rates.png"`; needs matplotlib.

    Returns:
        A `LearningRates`. Its `best` is a starting point: a lower rate is often better with
        pretrained weights.

    Raises:
        ImportError: `picture` is given and matplotlib is not installed.
        ValueError: the model's learning rate is a schedule, an argument is out of its range, `data`
            is empty, or the loss diverges at `lowest`.

    Example:
        >>> find_learning_rate(model, batches, picture="rates.png").best

    Reference:
        Smith, "Cyclical Learning Rates for Training Neural Networks", arXiv 1506.01186, section
        3.3.
    """
    if picture is not None:
        _check_matplotlib()
    if not 0 < lowest < highest or steps < 2 or not 0 <= smoothing < 1:
        raise ValueError(
            f"lowest={lowest}, highest={highest}, steps={steps}, smoothing={smoothing}: expected "
            "0 < lowest < highest, 2 steps or more, and 0 <= smoothing < 1."
        )
    optimizer = model.optimizer
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    variables = [*model.variables, *optimizer.variables]
    before = [ops.convert_to_numpy(v).copy() for v in variables]
    rates, average = [], 0.0
    losses: list[float] = []
    try:
        for rate, batch in zip(np.geomspace(lowest, highest, steps), _forever(data), strict=False):
            _set_rate(optimizer, rate)
            x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
            model.reset_metrics()
            loss = float(model.train_on_batch(x, y, weight, return_dict=True)["loss"])
            average = smoothing * average + (1 - smoothing) * loss
            smooth = average / (1 - smoothing ** (len(losses) + 1))
            if not math.isfinite(smooth) or smooth > 4 * min([*losses, smooth]):
                break
            rates.append(float(rate))
            losses.append(smooth)
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
        model.reset_metrics()
    if len(losses) < 2:
        raise ValueError(
            f"lowest={lowest}: the loss diverges at this learning rate already. Use a lower one."
        )
    slopes = np.gradient(losses, np.log(rates))
    result = LearningRates(rates, losses, rates[int(np.argmin(slopes))])
    if picture is not None:
        result.plot(picture)
    return result


def _forever(data):
    while True:
        empty = True
        indexed = hasattr(data, "__getitem__")
        for batch in (data[i] for i in range(len(data))) if indexed else data:
            empty = False
            yield batch
        if empty:
            raise ValueError("data: expected batches, got none or an exhausted iterator.")


def _set_rate(optimizer, rate):
    try:
        optimizer.learning_rate = rate
    except TypeError:
        raise ValueError(
            "learning_rate: expected a number, got a schedule. Compile the model with a number."
        ) from None


def _check_matplotlib():
    if find_spec("matplotlib") is None:
        raise ImportError(
            "plot: matplotlib is not installed. Install it with python -m pip install "
            "'bert4keras_lite[plots]'."
        )
