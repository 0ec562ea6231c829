"""Lookahead (arXiv 1907.08610, Algorithm 1)."""

from numbers import Real

from keras import ops

from ...backend import copy_values, where
from ..keras_private import index_of
from .base import Feature

__all__ = ["SlowWeights"]


class SlowWeights(Feature):
    """Moves the slow weights toward the weights every few updates, and the weights to them.

    The slow weights are those before the first update, whatever was loaded after `build`.
    """

    state = ("_slow",)
    covers_all = True

    def __init__(self, optimizer, lookahead):
        super().__init__(optimizer)
        optimizer.lookahead = None if lookahead is None else period_and_step(lookahead)

    def config(self):
        return {"lookahead": self.optimizer.lookahead and list(self.optimizer.lookahead)}

    def plan(self, variables):
        return [self.optimizer.lookahead is not None] * len(variables)

    def build(self, variables):
        optimizer = self.optimizer
        if optimizer.lookahead:
            optimizer._slow = optimizer.add_optimizer_variables(variables, "slow")
            copy_values(optimizer._slow, variables)

    def update(self, gradient, variable, rate, inner):
        optimizer = self.optimizer
        before = ops.copy(variable)
        inner(gradient, variable, rate)
        period, step = optimizer.lookahead
        slow = optimizer._slow[index_of(optimizer, variable)]
        begin = where(ops.equal(optimizer.iterations, 0), before, slow)
        is_time = ops.equal((optimizer.iterations + 1) % period, 0)
        moved = ops.where(is_time, begin + step * ops.subtract(variable, begin), begin)
        optimizer.assign(slow, moved)
        optimizer.assign(variable, where(is_time, moved, variable))


def period_and_step(lookahead):
    """Returns the argument `lookahead` as a pair of an integer and a float.

    Raises:
        ValueError: it is not such a pair.
    """
    match lookahead:
        case [Real() as period, Real() as step] if (
            not isinstance(period, bool) and int(period) == period >= 1 and 0 < step <= 1
        ):
            return int(period), float(step)
    raise ValueError(
        f"lookahead={lookahead!r}: expected a period of at least 1 update and a step above 0 and "
        "at most 1."
    )
