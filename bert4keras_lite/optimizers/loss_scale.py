"""Loss scaling that counts."""

import keras

from .schedules import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class LossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Keras' loss scaling for float16, with a count of the steps that it leaves out.

    A step whose gradients are not finite never comes to the inner optimizer, so that its own
    `skipped` and `skipped_in_a_row` would stay at 0, as they do in the `LossScaleOptimizer` that
    Keras' `compile` puts around by itself. Some steps overflow whenever the scale is sought (from
    2 ** 15 on, it is halved each time). What is saved is what Keras' class saves.

    Args:
        inner_optimizer: one of `bert4keras_lite.optimizers` with `skip_nonfinite=True`.
        kwargs: of `keras.optimizers.LossScaleOptimizer`.

    Raises:
        ValueError: `inner_optimizer` does not count.

    Example:
        >>> keras.config.set_dtype_policy("mixed_float16")
        >>> optimizer = LossScaleOptimizer(AdamW(1e-4, skip_nonfinite=True))
        >>> model.compile(optimizer, loss)
        >>> model.fit(batches)
        >>> int(optimizer.inner_optimizer.skipped)
    """

    def __init__(self, inner_optimizer, *args, **kwargs):
        if not getattr(inner_optimizer, "skip_nonfinite", False):
            raise ValueError(
                "LossScaleOptimizer: the inner_optimizer does not count steps; expected one of "
                f"bert4keras_lite.optimizers with skip_nonfinite=True, got {inner_optimizer!r:.200}."
            )
        super().__init__(inner_optimizer, *args, **kwargs)

    def _stateful_handle_non_finite_grads(self):
        super()._stateful_handle_non_finite_grads()
        self._count()

    def _stateless_handle_non_finite_grads(self, optimizer_variables, trainable_variables):
        trainable, values = super()._stateless_handle_non_finite_grads(
            optimizer_variables, trainable_variables
        )
        pairs = list(zip(self.variables, values, strict=True))
        with keras.StatelessScope(pairs) as scope:
            self._count()
        return trainable, [scope.get_current_value(variable) for variable in self.variables]

    def _count(self):
        self.inner_optimizer.skipped.assign_add(1)
        self.inner_optimizer.skipped_in_a_row.assign_add(1)
