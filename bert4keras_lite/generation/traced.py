"""PyTorch: a function recorded once as a list of its tensor operations, and replayed.

A Keras layer costs some 50 microseconds of Python a call, more than the arithmetic of one token.
"""

import warnings

import keras
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree


def traced(variables, function):
    """The function, recorded for each set of shapes at its first call.

    Args:
        variables: list of Keras variables that it uses; their values are read at each call.
        function: of nested dicts and lists of tensors, giving such. What depends on the value
            of a tensor must be an operation on it.
    """
    recordings = {}

    @torch.no_grad()
    def replay(*arguments):
        tensors, structure = pytree.tree_flatten(arguments)
        key = (structure, *((t.shape, t.dtype) for t in tensors))
        values = [v.value.detach() for v in variables]
        if key not in recordings:
            recordings[key] = _recorded(variables, function, values, tensors, structure)
        operations, results = recordings[key]
        return pytree.tree_unflatten(list(operations(*values, *tensors)), results)

    return replay


def _recorded(variables, function, values, tensors, structure):
    """The operations on flat tensors, and how their results are nested."""
    shape_of_results = []

    def flat(*everything):
        values, tensors = everything[: len(variables)], everything[len(variables) :]
        with keras.StatelessScope(list(zip(variables, values, strict=True))):
            results = function(*pytree.tree_unflatten(list(tensors), structure))
        results, nested = pytree.tree_flatten(results)
        shape_of_results.append(nested)
        return tuple(results)

    everything = [*values, *tensors]
    operations = make_fx(flat)(*everything)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        operations = torch.jit.trace(operations, everything, check_trace=False)
    return operations, shape_of_results[0]
