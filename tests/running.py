"""How the tests run a model on one batch."""

import keras
from keras import ops


def outputs_of(model, inputs, compiled=False):
    """What a model makes of a batch: a flat list of arrays.

    Operation by operation, since to compile each of the hundreds of small models takes far longer
    than to run it once; `compiled`: as one program, as `predict` has it.
    """
    outputs = model.predict_on_batch(list(inputs)) if compiled else model(list(inputs))
    return [ops.convert_to_numpy(y) for y in keras.tree.flatten(outputs)]
