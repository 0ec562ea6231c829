"""Lazy updates of embeddings: only the rows with a gradient."""

from functools import partial

from keras import ops

from ...backend import by_rows, where
from .. import adam
from ..keras_private import index_of, state_of, weights
from .base import Feature, matches, pattern_list

__all__ = ["LazyRows"]


class LazyRows(Feature):
    """Leaves rows without a gradient unchanged, with their moments and decay."""

    def __init__(self, optimizer, lazy):
        super().__init__(optimizer)
        optimizer.lazy = pattern_list(lazy)

    def config(self):
        return {"lazy": self.optimizer.lazy}

    def plan(self, variables):
        hits = matches("lazy", self.optimizer.lazy, self.optimizer.names_of(variables))
        return [hit and len(v.shape) == 2 for hit, v in zip(hits, variables, strict=True)]

    def update(self, gradient, variable, rate, inner):
        optimizer, rows = self.optimizer, None
        if adam.is_plain(optimizer):
            rows = partial(adam.update_rows, optimizer, variable, rate)

        def whole(gradient):
            tables = [variable, *self._moments(variable)]
            before = [ops.copy(table) for table in tables]
            has_gradient = ops.any(ops.not_equal(gradient, 0), axis=1, keepdims=True)
            inner(gradient, variable, rate)
            for table, old in zip(tables, before, strict=True):
                optimizer.assign(table, where(has_gradient, table, old))

        by_rows(gradient, rows, whole)

    def _moments(self, variable):
        """Returns the variables of a weight's shape that the Keras optimizer keeps for it."""
        optimizer, index = self.optimizer, index_of(self.optimizer, variable)
        ours = {name for feature in optimizer.features for name in feature.state}
        shape = weights(optimizer)[index].shape
        state = state_of(optimizer, index)
        return [x for name, x in state.items() if name not in ours and x.shape == shape]
