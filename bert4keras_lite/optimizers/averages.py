"""Callback that evaluates with the moving averages of the weights."""

from typing import Any

import keras

from .extended import OptimizerExtensions

__all__ = ["EvaluateAverages"]


class EvaluateAverages(keras.callbacks.Callback):
    """Evaluates, validates and predicts with the moving averages of the weights.

    After a validation, the averages stay in the model until all callbacks have seen the end of
    the epoch: what `ModelCheckpoint` saves and `EarlyStopping` restores is what was validated,
    whatever the order of the callbacks. Training continues from the raw weights. So does a training
    resumed from such a file with this callback, because the file has both (see
    `OptimizerExtensions.apply_ema_weights`). At the end of an epoch without validation
    (`validation_freq`), and in the middle of an epoch, callbacks find the raw weights.

    If a validation is interrupted (an error, Ctrl-C), the averages are still in the model (not on
    JAX): the next `fit` with this callback removes them, and so does
    `optimizer.reset_old_weights()`. An `evaluate` within `fit` needs its own instance.

    (`keras.callbacks.SwapEMAWeights` loses the weights on PyTorch on a CPU, where its copy shares
    their memory.)

    Raises:
        ValueError: when `fit`, `evaluate` or `predict` begins: the optimizer has no moving
            averages.

    Example:
        >>> model.compile(AdamW(1e-4, ema_momentum=0.999), ...)
        >>> best = keras.callbacks.ModelCheckpoint("best.keras", save_best_only=True)
        >>> model.fit(train, validation_data=valid, callbacks=[EvaluateAverages(), best])
    """

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self._fitting = self._put_in = False
        if not (isinstance(self._optimizer, OptimizerExtensions) and self._optimizer.use_ema):
            raise ValueError(
                "EvaluateAverages: the optimizer keeps no moving averages; expected one of "
                "bert4keras_lite.optimizers with ema_momentum, got "
                f"{type(self._optimizer).__name__}."
            )

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not self.model.optimizer.built:  # else TensorFlow traces the training step twice
            self.model.optimizer.build(self.model.trainable_variables)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._fitting = True
        if self._optimizer.averages_are_in:
            self._optimizer.reset_old_weights()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        optimizer = self._optimizer
        self._put_in = optimizer.built and not optimizer.averages_are_in
        if self._put_in:
            optimizer.apply_ema_weights(in_fit=self._fitting)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._put_in and not self._fitting:
            self._optimizer.reset_old_weights()

    on_predict_begin, on_predict_end = on_test_begin, on_test_end

    @property
    def _optimizer(self):
        optimizer = self.model.optimizer
        return getattr(optimizer, "inner_optimizer", optimizer)
