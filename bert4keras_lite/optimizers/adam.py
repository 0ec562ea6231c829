"""Adam's update in two faster forms: of many variables at once, and of some rows of a variable."""

import keras
from keras import ops

from ..backend import assign_rows, fused_adam, may_be_fused, set_to_zero
from .keras_private import adam_moments, gradient_sums, index_of, updates_like

__all__ = ["bias_correction", "is_plain", "update_at_once", "update_rows"]


def is_plain(optimizer):
    """Whether the Keras optimizer updates like Adam or AdamW without AMSGrad."""
    return updates_like(optimizer, keras.optimizers.Adam) and not optimizer.amsgrad


def bias_correction(optimizer, dtype):
    """Returns Adam's factor of the learning rate (arXiv 1412.6980, end of section 2)."""
    step = ops.cast(optimizer.iterations + 1, dtype)
    beta_1, beta_2 = (
        ops.power(ops.cast(beta, dtype), step) for beta in (optimizer.beta_1, optimizer.beta_2)
    )
    return ops.sqrt(1 - beta_2) / (1 - beta_1)


def update_rows(optimizer, variable, rate, ids, gradients):
    """Updates rows of a variable and its moments, with weight decay and bias correction.

    Args:
        optimizer: one that `is_plain`.
        variable: a matrix.
        rate: scalar tensor, the learning rate.
        ids: indices of the rows.
        gradients: the gradients of these rows.
    """
    index = index_of(optimizer, variable)
    tables = [variable, *(moments[index] for moments in adam_moments(optimizer))]
    old, m, v = (ops.take(table, ids, axis=0) for table in tables)
    m = m + (gradients - m) * (1 - optimizer.beta_1)
    v = v + (gradients * gradients - v) * (1 - optimizer.beta_2)
    decays = optimizer.weight_decays.applies[index]
    new = old - old * (rate * optimizer.weight_decay) if decays else old
    if optimizer.bias_correction:
        rate = rate * bias_correction(optimizer, variable.dtype)
    new = new - m * rate / (ops.sqrt(v) + optimizer.epsilon)
    for table, values in zip(tables, (new, m, v), strict=True):
        assign_rows(optimizer, table, ids, values)


def update_at_once(optimizer, pairs, learning_rate):
    """Updates variables with only fusable features by PyTorch's fused kernel.

    The kernel goes over memory once, where separate operations go over it many times. A compiler
    that is recording the step fuses operations itself.

    Args:
        optimizer: one that `is_plain`.
        pairs: gradients and variables of the same shapes, iterated once.
        learning_rate: a scalar tensor; with `skip_nonfinite`, a rate that is not finite leaves all
            unchanged.

    Returns:
        list of the pairs that are not updated yet.
    """
    groups, others = {}, []
    for gradient, variable in pairs:
        index = index_of(optimizer, variable)
        fusable = optimizer.fusable[index] and index not in optimizer.absent
        if fusable and may_be_fused(gradient, variable):
            key = (
                optimizer.learning_rates.multipliers[index],
                optimizer.weight_decays.applies[index],
            )
            groups.setdefault(key, []).append((gradient, variable, index))
        else:
            others.append((gradient, variable))
    finite = ops.isfinite(learning_rate) if optimizer.skip_nonfinite else None
    for (_, decays), group in groups.items():
        gradients, variables, indices = zip(*group, strict=True)
        momentums, velocities = adam_moments(optimizer)
        correction = bias_correction(optimizer, "float32") if optimizer.bias_correction else 1
        fused_adam(
            optimizer,
            gradients,
            variables,
            [momentums[i] for i in indices],
            [velocities[i] for i in indices],
            rate=learning_rate * optimizer.learning_rates.multiplier(indices[0], "float32"),
            correction=correction,
            decay=optimizer.weight_decay if decays else 0,
            finite=finite,
        )
        if optimizer.gradient_accumulation_steps:
            set_to_zero([gradient_sums(optimizer)[i] for i in indices], finite)
    return others
