"""Learning rates: over time, and over depth."""

import math
import re

import keras
from keras import ops

from ..arguments import check_number
from ..parsing import shown

PACKAGE = "bert4keras_lite"
MOST_RATE = 1e12


@keras.saving.register_keras_serializable(PACKAGE)
class PiecewiseLinear(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that goes in straight lines from point to point.

    Args:
        rate: float, 0 or more, what the factors are multiplied with.
        points: dict of update -> factor, 0 or more. `{0: 0.0, 1000: 1.0, 10000: 0.1}` rises for
            1,000 updates, falls for 9,000, and stays. Without an update 0, it begins at 0.

    Raises:
        ValueError: other values, or an update that is there twice (as 2 and as `"2"`).

    Example:
        >>> schedule = PiecewiseLinear(2e-5, {100: 1.0, 1000: 0.0})
        >>> float(schedule(50))
        1e-05
    """

    def __init__(self, rate, points):
        told = points
        try:
            points = {int(k): float(v) for k, v in told.items()}
            whole = len(points) == len(told) and all(float(k) == int(k) >= 0 for k in told)
        except (AttributeError, TypeError, ValueError, OverflowError):
            points, whole = {}, False
        if not points or not whole or not all(0 <= v < math.inf for v in points.values()):
            raise ValueError(
                f"lr_schedule={shown(told)}: expected updates, 0 or later, with a factor of 0 or more "
                "each, such as {0: 0.0, 1000: 1.0}."
            )
        check_number("rate", rate, 0.0, MOST_RATE)
        self.rate = float(rate)
        self.points = dict(sorted(({0: 0.0} | points).items()))

    def __call__(self, step):
        step = ops.cast(step, "float32")
        (begin, factor), *others = self.points.items()
        value = ops.zeros_like(step) + factor
        for end, goal in others:
            share = ops.clip((step - begin) / (end - begin), 0, 1)
            value = ops.where(step > begin, (1 - share) * factor + share * goal, value)
            begin, factor = end, goal
        return self.rate * value

    def get_config(self):
        return {"rate": self.rate, "points": self.written_points()}

    def written_points(self):
        """The points as JSON has them, whose keys are texts."""
        return {str(k): v for k, v in self.points.items()}


def layerwise_multipliers(model, decay):
    """Returns learning rate factors that fall from the heads down to the embeddings.

    Args:
        model: a model with blocks named `block_0`, `block_1`, ... (each stack on its own).
        decay: float, the factor from one depth to the one below. Of n blocks, block i has
            `decay ** (n + 1 - i)`, so the top one `decay ** 2`; what is below all blocks has
            `decay ** (n + 2)`, heads have 1.

    Returns:
        dict for `lr_multipliers`.

    Raises:
        ValueError: the model has no such blocks (ALBERT's are one).

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
        raise ValueError(f"{model.name} has no blocks with numbers, so no depth to go by.")
    multipliers = {}
    for name, i in layers.items():
        stack = name.removesuffix(f"block_{i}")
        blocks = 1 + max(j for other, j in layers.items() if other == f"{stack}block_{j}")
        multipliers[f"^{re.escape(name)}/"] = decay ** (blocks + 1 - i)
    below = [p for p in paths if re.search("embedding|relative_bias", p.rpartition("/")[0])]
    below = [p for p in below if "block_" not in p]
    deepest = 3 + max(layers.values())
    return multipliers | {f"^{re.escape(p)}$": decay**deepest for p in below}
