"""bert4keras-compatible names: `extend_with_...`, and the defaults that each of them adds."""

from functools import partial

import keras

from .extended import extend

__all__ = [
    "extend_with",
    "extend_with_exponential_moving_average",
    "extend_with_gradient_accumulation",
    "extend_with_layer_adaptation",
    "extend_with_lazy_optimization",
    "extend_with_lookahead",
    "extend_with_parameter_wise_lr",
    "extend_with_piecewise_linear_lr",
    "extend_with_weight_decay",
]

OLD_NAMES = {
    "weight_decay_rate": "weight_decay",
    "grad_accum_steps": "gradient_accumulation_steps",
    "paramwise_lr_schedule": "lr_multipliers",
    "include_in_lazy_optimization": "lazy",
}


def extend_with(base, **defaults):
    """Returns a class like `base` that takes old names of options, with other defaults."""
    if isinstance(base, partial):  # the result of another `extend_with_...`
        base, defaults = base.args[0], base.keywords | defaults
    return partial(_from_old_names, extend(base), **defaults)


def _from_old_names(
    cls, *args, steps_per_slow_update=None, slow_step_size=None, lookahead=None, **options
):
    options = {OLD_NAMES.get(name, name): value for name, value in options.items()}
    if lookahead is not None:
        period, step = lookahead
        lookahead = (
            period if steps_per_slow_update is None else steps_per_slow_update,
            step if slow_step_size is None else slow_step_size,
        )
    if options.get("gradient_accumulation_steps") == 1:
        del options["gradient_accumulation_steps"]
    return cls(*args, lookahead=lookahead, **options)


def extend_with_weight_decay(
    base: type[keras.optimizers.Optimizer], name: str | None = None
) -> type[keras.optimizers.Optimizer]:
    """Adds `weight_decay_rate` (0.01) and `exclude_from_weight_decay`."""
    return extend_with(base, weight_decay=0.01)


def extend_with_layer_adaptation(
    base: type[keras.optimizers.Optimizer], name: str | None = None
) -> type[keras.optimizers.Optimizer]:
    """Adds `exclude_from_layer_adaptation`: LAMB, if `base` is Adam with weight decay."""
    return extend_with(base, layer_adaptation=True)


def extend_with_piecewise_linear_lr(
    base: type[keras.optimizers.Optimizer], name: str | None = None
) -> type[keras.optimizers.Optimizer]:
    """Adds `lr_schedule`: points such as `{1000: 1, 10000: 0.1}`, by default `{0: 1}`."""
    return extend_with(base, lr_schedule={0: 1.0})


def extend_with_gradient_accumulation(
    base: type[keras.optimizers.Optimizer], name: str | None = None
) -> type[keras.optimizers.Optimizer]:
    """Adds `grad_accum_steps`: the number of batches per update."""
    return extend_with(base)


def extend_with_lookahead(
    base: type[keras.optimizers.Optimizer], name: str | None = None
) -> type[keras.optimizers.Optimizer]:
    """Adds `steps_per_slow_update` (5) and `slow_step_size` (0.5)."""
    return extend_with(base, lookahead=(5, 0.5))


def extend_with_lazy_optimization(
    base: type[keras.optimizers.Optimizer], name: str | None = None
) -> type[keras.optimizers.Optimizer]:
    """Adds `include_in_lazy_optimization`: patterns of embeddings."""
    return extend_with(base)


def extend_with_exponential_moving_average(
    base: type[keras.optimizers.Optimizer], name: str | None = None
) -> type[keras.optimizers.Optimizer]:
    """Adds `ema_momentum` (0.999), `apply_ema_weights` and `reset_old_weights`."""
    return extend_with(base, ema_momentum=0.999)


def extend_with_parameter_wise_lr(
    base: type[keras.optimizers.Optimizer], name: str | None = None
) -> type[keras.optimizers.Optimizer]:
    """Adds `paramwise_lr_schedule`: pattern -> factor or points."""
    return extend_with(base)
