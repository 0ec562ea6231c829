"""Computing again instead of keeping: memory for time."""

import keras


def rematerialized(layer, x, context):
    """`layer(x, training=True, **context)`, of which the backward pass computes all again.

    Only `x` and the context are kept. What is computed twice is a function of the layer's weights
    and of the state of its random numbers, so dropout is the same both times.
    (`keras.RematScope` leaves that state where it is: JAX refuses it, and elsewhere the second
    pass draws other numbers.)

    Reference:
        Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174.
    """
    weights = {id(v) for v in layer.weights}
    random = [v for v in layer.variables if id(v) not in weights]
    state = [keras.ops.copy(v) for v in random]  # as it is now

    def pure(values, x, context):
        pairs = zip([*layer.weights, *random], [*values, *state], strict=True)
        with keras.StatelessScope(pairs) as scope:
            layer.inside_remat = True
            try:
                y = layer(x, training=True, **context)
            finally:
                layer.inside_remat = False
        return y, [scope.get_current_value(v) for v in random]

    values = [keras.ops.convert_to_tensor(v) for v in layer.weights]
    y, after = keras.remat(pure)(values, x, context)
    for variable, value in zip(random, after, strict=True):
        variable.assign(value)
    return y
