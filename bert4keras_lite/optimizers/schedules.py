"""Learning rate schedules, and layer-wise learning rates."""

import math
import re
from typing import Any

import keras
from keras import ops

from ..arguments import check_number
from ..parsing import shown
from ..types import Tensor

__all__ = ["MOST_RATE", "PACKAGE", "PiecewiseLinear", "layerwise_multipliers", "linear_decay"]

PACKAGE = "bert4keras_lite"
MOST_RATE = 1e12


@keras.saving.register_keras_serializable(PACKAGE)
class PiecewiseLinear(keras.optimizers.schedules.LearningRateSchedule):
    """Piecewise linear learning rate schedule.

    Args:
        rate: float, at least 0, multiplied by the factors.
        points: dict of update -> factor, at least 0. `{0: 0.0, 1000: 1.0, 10000: 0.1}` rises for
            1,000 updates, falls for 9,000, and stays constant. Without an update 0, it starts at 0.

    Raises:
        ValueError: `rate` is out of its range; `points` is not a dict of whole numbers from 0 to
            such factors, is empty, or has an update twice (as 2 and as `"2"`).

    Example:
        >>> schedule = PiecewiseLinear(2e-5, {100: 1.0, 1000: 0.0})
        >>> float(schedule(50))
        1e-05
    """

    def __init__(self, rate: float, points: dict) -> None:
        given = points
        try:
            points = {int(k): float(v) for k, v in given.items()}
            whole = len(points) == len(given) and all(float(k) == int(k) >= 0 for k in given)
        except (AttributeError, TypeError, ValueError, OverflowError):
            points, whole = {}, False
        if not points or not whole or not all(0 <= v < math.inf for v in points.values()):
            raise ValueError(
                f"lr_schedule={shown(given)}: expected a dict of update (0 or later) to factor (0 "
                "or more), such as {0: 0.0, 1000: 1.0}."
            )
        check_number("rate", rate, 0.0, MOST_RATE)
        self.rate = float(rate)
        self.points = dict(sorted(({0: 0.0} | points).items()))

    def __call__(self, step: Tensor) -> Tensor:
        step = ops.cast(step, "float32")
        (begin, factor), *others = self.points.items()
        value = ops.zeros_like(step) + factor
        for end, goal in others:
            fraction = ops.clip((step - begin) / (end - begin), 0, 1)
            value = ops.where(step > begin, (1 - fraction) * factor + fraction * goal, value)
            begin, factor = end, goal
        return self.rate * value

    def get_config(self) -> dict[str, Any]:
        return {"rate": self.rate, "points": self.json_points()}

    def json_points(self) -> dict[str, float]:
        """Returns the points with strings as keys, as in JSON."""
        return {str(k): v for k, v in self.points.items()}


def linear_decay(updates: int, warmup: float = 0.1) -> dict[int, float]:
    """Returns the points of a schedule with linear warm-up, then linear decay to 0.

    Args:
        updates: number of updates of the training, e.g. `epochs * len(batches)`.
        warmup: fraction of the updates during which the learning rate rises from 0. Default 0.1.

    Returns:
        dict for `lr_schedule`.

    Raises:
        ValueError: `updates` is below 1, or `warmup` is not from 0 to 1.

    Example:
        >>> linear_decay(100)
        {0: 0.0, 10: 1.0, 100: 0.0}
        >>> optimizer = AdamW(2e-5, lr_schedule=linear_decay(epochs * len(train)))
    """
    check_number("updates", updates, 1, 2**62)
    check_number("warmup", warmup, 0.0, 1.0)
    peak = min(max(int(updates * warmup), int(warmup > 0)), updates - 1)
    return {0: 0.0} | {peak: 1.0, updates: 0.0}


def layerwise_multipliers(model: keras.Model, decay: float) -> dict[str, float]:
    """Returns learning rate factors that decrease from the heads down to the embeddings.

    Args:
        model: a model with blocks named `block_0`, `block_1`, ... (each stack is counted
            separately).
        decay: float, the factor from one depth to the one below. Of n blocks, block i has
            `decay ** (n + 1 - i)`, so the top one `decay ** 2`; layers below all blocks have
            `decay ** (n + 2)`, heads have 1.

    Returns:
        dict for `lr_multipliers`.

    Raises:
        ValueError: the model has no numbered blocks (ALBERT's are one shared block).

    Reference:
        ELECTRA (arXiv 2003.10555, appendix B), with the exponents of its code:
        https://github.com/google-research/electra/blob/master/model/optimization.py
    """
    check_number("decay", decay, 0.0, 1000.0)
    paths = [variable.path for variable in model.trainable_variables]
    layers = {
        match[1]: int(match[2]) for p in paths if (match := re.match(r"(.*?block_(\d+))/", p))
    }
    if not layers:
        raise ValueError(
            f"{model.name}: the model has no numbered blocks; expected layers named block_0, "
            "block_1 and so on."
        )
    multipliers = {}
    for name, i in layers.items():
        stack = name.removesuffix(f"block_{i}")
        blocks = 1 + max(j for other, j in layers.items() if other == f"{stack}block_{j}")
        multipliers[f"^{re.escape(name)}/"] = decay ** (blocks + 1 - i)
    below = [p for p in paths if re.search("embedding|relative_bias", p.rpartition("/")[0])]
    below = [p for p in below if "block_" not in p]
    deepest = 3 + max(layers.values())
    return multipliers | {f"^{re.escape(p)}$": decay**deepest for p in below}
