"""Backend-specific parts of the optimizer update."""

from contextlib import nullcontext

import keras
from keras import ops


def where(condition, yes, no):
    """Computes `ops.where`, also for variables, which JAX does not accept."""
    return ops.where(condition, ops.convert_to_tensor(yes), ops.convert_to_tensor(no))


def fill(variables, sources):
    """Copies the values of variables to others, also while a program is traced."""
    scope = nullcontext()
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        scope = tf.init_scope()
    with scope:
        for variable, source in zip(variables, sources, strict=True):
            variable.assign(ops.copy(source))  # JAX may donate the memory of one


def cond_with_variables(condition, yes, no, tensors, variables):
    """Works like `ops.cond`, for branches that assign to variables.

    Args:
        condition: function without arguments that returns a boolean tensor.
        yes, no: functions of the tensors.
        tensors: list of arguments of the branches.
        variables: all variables that the branches read or assign to.
    """
    if keras.backend.backend() == "jax":

        def pure(function):
            def branch():
                with keras.StatelessScope(zip(variables, values, strict=True)) as scope:
                    function(*tensors)
                return [scope.get_current_value(v) for v in variables]

            return branch

        values = [v.value for v in variables]
        changed = ops.cond(condition(), pure(yes), pure(no))
        for variable, value in zip(variables, changed, strict=True):
            variable.assign(value)
        return
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        replica = tf.distribute.get_replica_context()
        if replica and tf.distribute.has_strategy():

            def of_all_replicas(strategy, *tensors):
                call = strategy.extended.call_for_each_replica
                ops.cond(condition(), lambda: call(yes, tensors), lambda: call(no, tensors))

            replica.merge_call(of_all_replicas, tuple(tensors))
            return
    ops.cond(condition(), lambda: yes(*tensors), lambda: no(*tensors))


def is_sparse(gradient):
    """Returns whether a gradient is sparse: TensorFlow's `IndexedSlices`."""
    return hasattr(gradient, "indices") and hasattr(gradient, "dense_shape")


def all_finite(gradients):
    """Returns whether all gradients are finite, on all replicas.

    It tests sums: a sum is finite only if all terms are.
    """
    parts = [g.values if is_sparse(g) else g for g in gradients]
    sums = [ops.sum(ops.cast(part, "float32")) for part in parts]
    finite = ops.all(ops.isfinite(ops.stack(sums)))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        nonfinite = tf.cast(tf.logical_not(finite), "int32")
        replica = tf.distribute.get_replica_context()
        finite = tf.equal(replica.all_reduce(tf.distribute.ReduceOp.SUM, nonfinite), 0)
    return finite


def dense(gradient):
    """Converts a gradient to a dense tensor.

    Keras would square the rows of sparse ones before summing them.
    """
    if is_sparse(gradient):
        import tensorflow as tf

        return tf.convert_to_tensor(gradient)
    return gradient


def each_row_once(gradient):
    """Sums duplicate rows of a sparse gradient at their first occurrence, and zeros the others."""
    if not is_sparse(gradient):
        return gradient
    import tensorflow as tf

    ids, sums, first = row_sums(gradient)
    rows = tf.where(first[:, None], sums, 0)
    return tf.IndexedSlices(rows, ids, gradient.dense_shape)


def row_sums(gradient):
    """Returns sorted row indices, the sum of all rows with that index, and which are the first."""
    import tensorflow as tf

    order = tf.argsort(gradient.indices)
    ids = tf.gather(gradient.indices, order)
    first = tf.concat([[True], ids[1:] != ids[:-1]], 0)
    segments = tf.cumsum(tf.cast(first, "int32")) - 1
    rows = tf.gather(gradient.values, order)
    sums = tf.math.unsorted_segment_sum(rows, segments, tf.shape(ids)[0])
    return ids, tf.gather(sums, segments), first


def by_rows(gradient, rows, whole):
    """Calls `rows(ids, gradients)` for the rows with a gradient, or `whole(gradient)`.

    The second is for `rows=None`, and for backends whose gradients have all rows.
    """
    if rows is None:
        whole(dense(gradient))
    elif is_sparse(gradient):
        ids, sums, _ = row_sums(gradient)
        rows(ids, sums)
    elif keras.backend.backend() == "torch":
        import torch

        with torch.no_grad():
            ids = gradient.any(1).nonzero()[:, 0]
            rows(ids, gradient[ids])
    else:
        whole(gradient)


def write_rows(optimizer, table, ids, rows):
    """Assigns rows of a variable."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        optimizer.assign(table, tf.IndexedSlices(rows, ids))
    else:
        table.value.index_copy_(0, ids, rows)


# Fused operations of PyTorch


def clip_by_global_norm(gradients, limit):
    """Clips like Keras, but reads each gradient once and makes no copy of it."""
    import torch

    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    return torch._foreach_mul(gradients, torch.clamp(limit / norm, max=1))


def may_be_fused(gradient, variable):
    """Returns whether `fused_adam` can update a variable: eager, float32 and contiguous."""
    import torch

    if type(gradient) is not torch.Tensor or torch.compiler.is_compiling():
        return False
    value = variable.value
    return value.dtype == gradient.dtype == torch.float32 and value.is_contiguous()


def fused_adam(
    optimizer, gradients, variables, momentums, velocities, *, rate, correction, decay, finite
):
    """Updates many variables like Keras' Adam, in one pass over memory.

    Args:
        optimizer: has the constants `beta_1`, `beta_2` and `epsilon`.
        gradients: tensors of the shapes of the variables.
        variables, momentums, velocities: lists of `keras.Variable`.
        rate, correction: scalars; the learning rate, and its factor for the bias correction.
        decay: float, the weight decay.
        finite: boolean scalar, whether to update at all; None: update.
    """
    import torch

    values, momentums, velocities = (
        [variable.value for variable in column] for column in (variables, momentums, velocities)
    )
    if decay:
        kept = 1 - rate * decay
        torch._foreach_mul_(values, kept if finite is None else torch.where(finite, kept, 1))
    # The kernel adds epsilon before the bias correction, Keras after it. So the rate includes the
    # correction, and an infinite step count turns off that of the kernel.
    torch._fused_adam_(
        values,
        [gradient.contiguous() for gradient in gradients],
        momentums,
        velocities,
        [],
        [torch.full_like(rate, float("inf"))] * len(values),
        lr=rate * correction,
        beta1=optimizer.beta_1,
        beta2=optimizer.beta_2,
        weight_decay=0,
        eps=optimizer.epsilon,
        amsgrad=False,
        maximize=False,
        found_inf=None if finite is None else torch.logical_not(finite).float(),
    )


def clear(sums, finite):
    """Sets variables to zero, unless `finite` is given and False."""
    import torch

    values = [variable.value for variable in sums]
    if finite is None:
        torch._foreach_zero_(values)
    else:
        torch._foreach_mul_(values, torch.logical_not(finite))
