"""Loss scaling that counts skipped steps."""

from typing import Any

import keras

from .keras_private import LossScalePrivateMethods
from .schedules import PACKAGE

__all__ = ["LossScaleOptimizer"]


@keras.saving.register_keras_serializable(PACKAGE)
class LossScaleOptimizer(LossScalePrivateMethods, keras.optimizers.LossScaleOptimizer):
    """Keras' loss scaling for float16, with a count of the skipped steps.

    A step whose gradients are not finite does not reach the inner optimizer, so its own `skipped`
    and `skipped_in_a_row` would stay at 0, as in the `LossScaleOptimizer` that Keras' `compile`
    adds. Some steps always overflow while the scale is adjusted (starting at 2 ** 15, it is halved
    each time). Saved files are those of Keras' class.

    Args:
        inner_optimizer: one of `bert4keras_lite.optimizers` with `skip_nonfinite=True`.
        kwargs: arguments of `keras.optimizers.LossScaleOptimizer`.

    Raises:
        ValueError: `inner_optimizer` does not count skipped steps.

    Example:
        >>> keras.config.set_dtype_policy("mixed_float16")
        >>> optimizer = LossScaleOptimizer(AdamW(1e-4, skip_nonfinite=True))
        >>> model.compile(optimizer, loss)
        >>> model.fit(batches)
        >>> int(optimizer.inner_optimizer.skipped)
    """

    def __init__(
        self, inner_optimizer: keras.optimizers.Optimizer, *args: Any, **kwargs: Any
    ) -> None:
        if not getattr(inner_optimizer, "skip_nonfinite", False):
            raise ValueError(
                "LossScaleOptimizer: inner_optimizer does not count skipped steps; expected one of "
                "bert4keras_lite.optimizers with skip_nonfinite=True, got "
                f"{inner_optimizer!r:.200}."
            )
        super().__init__(inner_optimizer, *args, **kwargs)

    def _on_nonfinite(self):
        self.inner_optimizer.skipped.assign_add(1)
        self.inner_optimizer.skipped_in_a_row.assign_add(1)
