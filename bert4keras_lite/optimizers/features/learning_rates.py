"""Learning rates by variable."""

from keras import ops

from ...arguments import check_number
from ...parsing import shown
from ..keras_private import index_of
from ..schedules import MOST_RATE, PiecewiseLinear
from .base import Feature, rows_of_matches

__all__ = ["LearningRates"]


class LearningRates(Feature):
    """Multiplies the learning rate of each variable by its factor or schedule.

    Attributes:
        multipliers: after `plan`, a float or `PiecewiseLinear` for each weight.
    """

    fusable = True

    def __init__(self, optimizer, lr_multipliers):
        super().__init__(optimizer)
        if not isinstance(lr_multipliers, dict | None):
            raise ValueError(
                f"lr_multipliers={shown(lr_multipliers)}: expected a dict of pattern to factor."
            )
        optimizer.lr_multipliers = {
            pattern: PiecewiseLinear(1.0, rate).json_points() if isinstance(rate, dict) else rate
            for pattern, rate in (lr_multipliers or {}).items()
        }

    def config(self):
        return {"lr_multipliers": dict(self.optimizer.lr_multipliers)}

    def plan(self, variables):
        self.multipliers = [1.0] * len(variables)
        multipliers = self.optimizer.lr_multipliers
        names = self.optimizer.names_of(variables)
        rows = rows_of_matches("lr_multipliers", list(multipliers), names)
        for (pattern, rate), hits in reversed(list(zip(multipliers.items(), rows, strict=True))):
            if isinstance(rate, dict):
                rate = PiecewiseLinear(1.0, rate)
            else:
                check_number(f"lr_multipliers: {shown(pattern)}", rate, 0.0, MOST_RATE)
                rate = float(rate)
            self.multipliers = [
                rate if hit else old for hit, old in zip(hits, self.multipliers, strict=True)
            ]
        return [multiplier != 1.0 for multiplier in self.multipliers]

    def multiplier(self, index, dtype):
        """Returns the factor of a weight in this update."""
        multiplier = self.multipliers[index]
        if isinstance(multiplier, PiecewiseLinear):
            return ops.cast(multiplier(self.optimizer.iterations), dtype)
        return multiplier

    def update(self, gradient, variable, rate, inner):
        factor = self.multiplier(index_of(self.optimizer, variable), variable.dtype)
        inner(gradient, variable, rate * factor)
