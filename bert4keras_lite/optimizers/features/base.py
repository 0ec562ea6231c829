"""What the features of an optimizer have in common."""

import re
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from keras import ops

from ...backend import where
from ...patterns import search
from ..keras_private import index_of, state_of

__all__ = [
    "Feature",
    "Names",
    "excluded",
    "matches",
    "pattern_list",
    "rows_of_matches",
    "surround_step",
    "surround_update",
    "unchanged_unless",
]


class Feature:
    """One feature of an optimizer: what it does around a step, and around one variable's update.

    Its constructor checks the options and stores them in attributes of the optimizer, where users
    read and change them. Variables are attributes of the optimizer, too, so that Keras saves them.

    Attributes:
        optimizer: the optimizer it belongs to.
        applies: after `plan`, for each weight whether the feature applies to it.
        state: names of attributes of the optimizer with a list of variables, one a weight.
        covers_all: whether it updates weights that have no gradient, too.
        fusable: whether `adam.update_at_once` does what `update` does.
    """

    state: tuple[str, ...] = ()
    covers_all = False
    fusable = False

    def __init__(self, optimizer):
        self.optimizer, self.applies = optimizer, []

    def config(self):
        """Returns a dict of the constructor's arguments that set this feature."""
        return {}

    def plan(self, variables):
        """Returns for each weight whether the feature applies; called before Keras' `build`."""
        raise NotImplementedError

    def build(self, variables):
        """Adds variables to the optimizer; called after Keras' `build`."""

    def step(self, gradients, variables, rate, inner):
        """Surrounds a step: calls `inner(gradients, variables, rate)`, if it updates anything."""
        inner(gradients, variables, rate)

    def update(self, gradient, variable, rate, inner):
        """Surrounds the update of a variable: calls `inner(gradient, variable, rate)`.

        Args:
            gradient: a tensor; None: the variable has none in this batch (only if `covers_all`).
            variable: the weight, on TensorFlow a `tf.Variable`.
            rate: scalar, the learning rate.
            inner: the update of the following features and of the Keras optimizer.
        """
        inner(gradient, variable, rate)


def surround_step(features, inner):
    """Returns `inner(gradients, variables, rate)` within features, the first one outermost."""
    for feature in reversed(features):
        if any(feature.applies):
            inner = partial(feature.step, inner=inner)
    return inner


def surround_update(features, index, inner):
    """Returns `inner(gradient, variable, rate)` within the features that apply to a weight."""
    for feature in reversed(features):
        if feature.applies[index]:
            inner = partial(feature.update, inner=inner)
    return inner


@contextmanager
def unchanged_unless(condition, optimizer, variable):
    """Reverts changes to a variable and its state made inside, unless the condition holds."""
    tables = [variable, *state_of(optimizer, index_of(optimizer, variable)).values()]
    before = [ops.copy(table) for table in tables]
    yield
    for table, old in zip(tables, before, strict=True):
        optimizer.assign(table, where(condition, table, old))


def pattern_list(patterns):
    """Returns one or several patterns as a list; None stays None."""
    return None if patterns is None else [patterns] if isinstance(patterns, str) else list(patterns)


class Names(NamedTuple):
    """What patterns are searched in.

    Attributes:
        names: one for each variable.
        as_in_bert4keras: whether case counts, and a pattern may match none of them.
    """

    names: list[str]
    as_in_bert4keras: bool = False


def rows_of_matches(argument, patterns, names):
    """Returns, for each pattern, a list of whether it matches each of the `Names`.

    Raises:
        ValueError: a pattern matches none of them, or they take more than five seconds.
    """
    rows = search(argument, patterns, names.names, ignore_case=not names.as_in_bert4keras)
    for pattern, row in zip(patterns, rows, strict=True):
        if not any(row) and not names.as_in_bert4keras:
            examples = ", ".join(names.names[:: max(1, len(names.names) // 8)])
            raise ValueError(
                f"{argument}: {pattern!r} matches no variable; expected a part of a path such as "
                f"{examples}."
            )
    return rows


def matches(argument, patterns, names):
    """Returns, for each of the `Names`, whether any pattern matches; see `rows_of_matches`."""
    rows = rows_of_matches(argument, patterns, names)
    return [any(column) for column in zip(*rows, strict=True)] or [False] * len(names.names)


def excluded(argument, patterns, variables, names):
    """Returns, for each variable, whether it is excluded; by default biases and normalizations."""
    if patterns is None:
        return [bool(re.search("norm|bias", variable.path)) for variable in variables]
    return matches(argument, patterns, names)
