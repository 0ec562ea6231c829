"""Callback that keeps the best epoch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..files import saving
from ..parsing import shown

__all__ = ["BestEpoch"]


class BestEpoch(keras.callbacks.Callback):
    """Evaluates after each epoch, and restores the weights of the best one at the end.

    For metrics that Keras does not compute in `evaluate`, such as the F1 of spans or a ROUGE. They
    are shown with the loss, and are in the history as `val_<name>`.

    Args:
        evaluate: function without arguments that returns a dict of name -> number. The first one
            decides: the higher, the better.
        path: file for the weights, e.g. `"output/ner.weights.h5"`; its directory is created.

    Raises:
        ValueError: `path` does not end with `.weights.h5`.

    Example:
        >>> best = BestEpoch(lambda: {"f1": span_scores(true, predict()).f1}, "ner.weights.h5")
        >>> model.fit(train, epochs=5, callbacks=[best])
    """

    def __init__(self, evaluate: Callable[[], dict[str, float]], path: str | Path) -> None:
        super().__init__()
        if not str(path).endswith(".weights.h5"):
            raise ValueError(f"path={shown(path)}: expected a file whose name ends in .weights.h5.")
        self.evaluate, self.path, self.best = evaluate, Path(path), -np.inf

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.best = -np.inf

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        metrics = self.evaluate()
        if logs is not None:
            logs.update({f"val_{name}": value for name, value in metrics.items()})
        first = next(iter(metrics.values()))
        if first > self.best:
            self.best = first
            with saving(self.path.parent) as folder:
                self.model.save_weights(folder / self.path.name)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.best > -np.inf:
            self.model.load_weights(self.path)
