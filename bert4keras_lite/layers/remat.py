"""Gradient checkpointing (rematerialization) of a layer."""

import keras

__all__ = ["rematerialized"]


def rematerialized(layer, x, context):
    """Calls `layer(x, training=True, **context)` and recomputes it in the backward pass.

    Only `x` and the context are kept. The recomputation is a function of the layer's weights and of
    the state of its random number generators, so dropout is the same both times.
    (`keras.RematScope` does not handle that state: JAX raises an error, and elsewhere the second
    pass draws other numbers.)

    Reference:
        Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174.
    """
    weights = {id(v) for v in layer.weights}
    seeds = [v for v in layer.variables if id(v) not in weights]
    seed_values = [keras.ops.copy(v) for v in seeds]  # before this call

    def pure(values, x, context):
        pairs = zip([*layer.weights, *seeds], [*values, *seed_values], strict=True)
        with keras.StatelessScope(pairs) as scope:
            layer.inside_remat = True
            try:
                y = layer(x, training=True, **context)
            finally:
                layer.inside_remat = False
        return y, [scope.get_current_value(v) for v in seeds]

    values = [keras.ops.convert_to_tensor(v) for v in layer.weights]
    y, new_seed_values = keras.remat(pure)(values, x, context)
    for variable, value in zip(seeds, new_seed_values, strict=True):
        variable.assign(value)
    return y
