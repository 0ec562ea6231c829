"""The doors of bert4keras: its old names, and what each adds when its class is called without them."""

from functools import partial

from .extended import extend

OLD_NAMES = {
    "weight_decay_rate": "weight_decay",
    "grad_accum_steps": "gradient_accumulation_steps",
    "paramwise_lr_schedule": "lr_multipliers",
    "include_in_lazy_optimization": "lazy",
}


def _door(base, **defaults):
    if isinstance(base, partial):  # what another door gave
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


def extend_with_weight_decay(base, name=None):
    """`weight_decay_rate` (0.01) and `exclude_from_weight_decay`; see `Extended`."""
    return _door(base, weight_decay=0.01)


def extend_with_layer_adaptation(base, name=None):
    """`exclude_from_layer_adaptation`: LAMB, when `base` is Adam with weight decay."""
    return _door(base, layer_adaptation=True)


def extend_with_piecewise_linear_lr(base, name=None):
    """`lr_schedule`: points such as `{1000: 1, 10000: 0.1}`, by default `{0: 1}`."""
    return _door(base, lr_schedule={0: 1.0})


def extend_with_gradient_accumulation(base, name=None):
    """`grad_accum_steps`: one update for so many batches."""
    return _door(base)


def extend_with_lookahead(base, name=None):
    """`steps_per_slow_update` (5) and `slow_step_size` (0.5)."""
    return _door(base, lookahead=(5, 0.5))


def extend_with_lazy_optimization(base, name=None):
    """`include_in_lazy_optimization`: patterns of embeddings."""
    return _door(base)


def extend_with_exponential_moving_average(base, name=None):
    """`ema_momentum` (0.999), `apply_ema_weights` and `reset_old_weights`."""
    return _door(base, ema_momentum=0.999)


def extend_with_parameter_wise_lr(base, name=None):
    """`paramwise_lr_schedule`: pattern -> factor or points."""
    return _door(base)
