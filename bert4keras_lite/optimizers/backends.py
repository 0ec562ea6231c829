"""What of an update differs between backends."""

from contextlib import nullcontext

import keras
from keras import ops


def where(condition, yes, no):
    """`ops.where`, which on JAX does not take variables."""
    return ops.where(condition, ops.convert_to_tensor(yes), ops.convert_to_tensor(no))


def fill(variables, sources):
    """Copies the values of variables into others, also while a program is being traced."""
    scope = nullcontext()
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        scope = tf.init_scope()
    with scope:
        for variable, source in zip(variables, sources, strict=True):
            variable.assign(ops.copy(source))  # JAX may give the memory of one away


def either(condition, yes, no, tensors, variables):
    """Calls `yes` or `no` on tensors; variables may change in both.

    Args:
        condition: function of nothing that gives a boolean tensor.
        yes, no: functions of the tensors.
        tensors: list.
        variables: all that they read or change.
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
    """Whether TensorFlow gave a gradient as rows and their numbers."""
    return hasattr(gradient, "indices") and hasattr(gradient, "dense_shape")


def all_finite(gradients):
    """Whether they are, on all replicas: a sum is finite only if all that it adds up is."""
    parts = [g.values if is_sparse(g) else g for g in gradients]
    sums = [ops.sum(ops.cast(part, "float32")) for part in parts]
    finite = ops.all(ops.isfinite(ops.stack(sums)))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        broken = tf.cast(tf.logical_not(finite), "int32")
        replica = tf.distribute.get_replica_context()
        finite = tf.equal(replica.all_reduce(tf.distribute.ReduceOp.SUM, broken), 0)
    return finite


def dense(gradient):
    """A gradient as an array. Keras squares the rows of sparse ones before it adds them up."""
    if is_sparse(gradient):
        import tensorflow as tf

        return tf.convert_to_tensor(gradient)
    return gradient


def each_row_once(gradient):
    """The same with each row's sum at its first place, and zeros where it comes again."""
    if not is_sparse(gradient):
        return gradient
    import tensorflow as tf

    ids, sums, first = row_sums(gradient)
    rows = tf.where(first[:, None], sums, 0)
    return tf.IndexedSlices(rows, ids, gradient.dense_shape)


def row_sums(gradient):
    """Numbers of rows, sorted; the sum of all that have the number; and whether it is the first."""
    import tensorflow as tf

    order = tf.argsort(gradient.indices)
    ids = tf.gather(gradient.indices, order)
    first = tf.concat([[True], ids[1:] != ids[:-1]], 0)
    segments = tf.cumsum(tf.cast(first, "int32")) - 1
    rows = tf.gather(gradient.values, order)
    sums = tf.math.unsorted_segment_sum(rows, segments, tf.shape(ids)[0])
    return ids, tf.gather(sums, segments), first


def by_rows(gradient, rows, whole):
    """Calls `rows(ids, gradients)` where that is possible, else `whole(gradient)`."""
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
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        optimizer.assign(table, tf.IndexedSlices(rows, ids))
    else:
        table.value.index_copy_(0, ids, rows)


# PyTorch, which fuses nothing by itself


def clip_by_global_norm(gradients, limit):
    """What Keras does for `global_clipnorm`, but reads a gradient once and makes no copy of it."""
    import torch

    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    return torch._foreach_mul(gradients, torch.clamp(limit / norm, max=1))


def may_be_fused(gradient, variable):
    """Whether `fused_adam` takes them: the kernel wants float32, one number after the other."""
    import torch

    if type(gradient) is not torch.Tensor or torch.compiler.is_compiling():
        return False
    value = variable.value
    return value.dtype == gradient.dtype == torch.float32 and value.is_contiguous()


def fused_adam(
    optimizer, gradients, variables, momentums, velocities, *, rate, correction, decay, finite
):
    """Updates many variables as Keras' Adam does, going over memory once.

    Args:
        optimizer: has the constants `beta_1`, `beta_2` and `epsilon`.
        gradients: tensors of the shapes of the variables.
        variables, momentums, velocities: lists of `keras.Variable`.
        rate, correction: scalars; the learning rate, and what the bias correction makes of it.
        decay: float, of the weights.
        finite: a boolean scalar, whether anything is updated at all; None: it is.
    """
    import torch

    values, momentums, velocities = (
        [variable.value for variable in column] for column in (variables, momentums, velocities)
    )
    if decay:
        kept = 1 - rate * decay
        torch._foreach_mul_(values, kept if finite is None else torch.where(finite, kept, 1))
    # the kernel's epsilon counts before the correction of the bias, Keras' after it: so the rate has
    # the correction, and the kernel is told that all steps are over
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
    """Sets variables to zero, unless `finite` is there and false."""
    import torch

    values = [variable.value for variable in sums]
    if finite is None:
        torch._foreach_zero_(values)
    else:
        torch._foreach_mul_(values, torch.logical_not(finite))
