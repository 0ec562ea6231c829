"""What differs between TensorFlow, JAX and PyTorch, all in this file.

Other modules call these functions and know no backend; `tests/test_structure.py` has the few
exceptions.
"""

import sys
import warnings
from contextlib import nullcontext
from functools import partial
from math import prod
from types import SimpleNamespace

import keras
import ml_dtypes
import numpy as np
from keras import ops

__all__ = [
    "Recorded",
    "affine",
    "all_finite",
    "assign_rows",
    "assign_shared",
    "by_rows",
    "check_strategy",
    "clip_by_global_norm",
    "compiled",
    "compiled_by_shape",
    "compiles_each_shape",
    "compiles_loops",
    "cond_with_variables",
    "copy_values",
    "current_values",
    "dense_gradient",
    "each_row_once",
    "empty",
    "fast_attention",
    "fast_dropout",
    "fused_adam",
    "gelu",
    "is_concrete",
    "last_state",
    "layer_norm",
    "may_be_fused",
    "mean_in_forward_pass",
    "predict_without_xla",
    "quick_ops",
    "random_state",
    "replicas",
    "runs_on_cpu",
    "set_random_state",
    "set_to_zero",
    "small_tensors",
    "trains_functionally",
    "value_and_gradients",
    "varying_batches",
    "where",
    "without_gradients",
    "without_xla",
    "write_at",
]

BACKEND = keras.backend.backend()
if BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "jax":
    import jax
elif BACKEND == "torch":
    import torch
    from torch.multiprocessing.reductions import StorageWeakRef
    from torch.utils import _pytree as pytree
    from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode

# A block of up to 32 MiB that is freed once makes glibc reuse as much memory instead of returning
# it to the system, which would clear each page again: an eighth of the time of a forward pass.
np.empty(31 << 20, "uint8")

# Values and arrays

ALIGNMENT = 64  # of memory that TensorFlow and JAX share with NumPy, in bytes
BLOCK = 64  # rows and columns of a matrix that are transposed at a time
SHARED_DTYPES = {"float16", "bfloat16", "float32", "float64"}


def is_concrete(x):
    """Returns whether the values of a tensor are known now, without waiting for a device.

    They are unknown while a program is traced or compiled, and on PyTorch on a GPU.
    """
    if isinstance(x, np.ndarray | np.generic | bool):
        return True
    if isinstance(x, keras.KerasTensor):
        return False
    if BACKEND == "tensorflow":
        return hasattr(x, "numpy")
    if BACKEND == "jax":
        return not isinstance(x, jax.core.Tracer)
    recorded = _get_current_dispatch_mode() is not None  # by `make_fx` or `torch.export`
    return _is_eager(x) and x.device.type == "cpu" and not (torch.jit.is_tracing() or recorded)


def _is_eager(x):
    """Returns whether a value is a plain PyTorch tensor, and no program is compiled."""
    return type(x) is torch.Tensor and not torch.compiler.is_compiling()


def empty(shape, dtype):
    """Returns a tensor whose values will be overwritten, in no time."""
    if BACKEND == "tensorflow":
        return tf.raw_ops.Empty(shape=shape, dtype=dtype)
    # The system provides these zeros on first access, so they cost nothing. They must not be
    # uninitialized: hosts would differ.
    return ops.convert_to_tensor(_shared(_aligned(np.zeros, shape, dtype)))


def assign_shared(variable, array, private_view):
    """Assigns an array to a variable, with as few copies as possible.

    Args:
        variable: a `keras.Variable`.
        array: its new value, possibly of another dtype, or a view on a file. It is not used
            afterwards.
        private_view: function that returns a view with the values of an array that nothing else
            has, so that the variable can keep it as its memory; or None if there is none.
    """
    can_share = (
        variable.dtype in SHARED_DTYPES and array.dtype.name == variable.dtype and array.ndim
    )
    if BACKEND == "torch":
        view = private_view(array) if can_share and variable.value.device.type == "cpu" else None
        if view is None:
            variable.assign(_shared(array))
        else:
            _share_with_parameter(variable.value, _shared(view))
    else:
        view = private_view(array) if can_share and _is_aligned(array) else None
        variable.assign(_shared(_aligned_copy(array) if view is None else view))


def _share_with_parameter(parameter, tensor):
    """Makes a tensor the memory of a PyTorch parameter, before training a contiguous one.

    A transposed matrix is as good as any for products, but slows down optimizers.
    """
    parameter.data = tensor
    if parameter.is_contiguous() or not parameter.requires_grad:
        return

    def with_gradient(gradient):
        hook.remove()
        parameter.data = parameter.data.contiguous()
        return gradient.contiguous()

    hook = parameter.register_hook(with_gradient)


def _is_aligned(array):
    """Whether TensorFlow and JAX can use the memory of an array: TensorFlow aborts at any other."""
    return array.flags.c_contiguous and array.ctypes.data % ALIGNMENT == 0


def _aligned_copy(array):
    """Returns a copy that `_is_aligned`; of a transposed matrix block by block, for the cache."""
    copy = _aligned(np.empty, array.shape, array.dtype)
    if array.ndim != 2 or array.strides[0] >= array.strides[1]:
        copy[...] = array
        return copy
    for i in range(0, len(array), BLOCK):
        for j in range(0, array.shape[1], BLOCK):
            copy[i : i + BLOCK, j : j + BLOCK] = array[i : i + BLOCK, j : j + BLOCK]
    return copy


def _aligned(create, shape, dtype):
    """Returns an array at an aligned address.

    Args:
        create: `np.zeros` or `np.empty`.
        shape, dtype: of the array.
    """
    dtype = np.dtype(dtype)
    size = prod(shape) * dtype.itemsize
    memory = create(size + ALIGNMENT, "uint8")
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def _shared(array):
    """Returns a tensor in the memory of an array, where the backend can have one.

    PyTorch shares arrays of floats, TensorFlow and JAX on a CPU aligned ones; else it returns the
    array.
    """
    is_bfloat16 = array.dtype == ml_dtypes.bfloat16
    if BACKEND == "jax":
        return jax.device_put(array, may_alias=True)
    if array.dtype.name not in SHARED_DTYPES:
        return array
    bits = array.view("int16") if is_bfloat16 else array
    if BACKEND == "tensorflow":
        if not (_is_aligned(array) and array.size and array.ndim):
            return array
        tensor = tf.experimental.dlpack.from_dlpack(bits.__dlpack__())
        return tf.bitcast(tensor, tf.bfloat16) if is_bfloat16 else tensor
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        tensor = torch.from_numpy(bits)
    return tensor.view(torch.bfloat16) if is_bfloat16 else tensor


def write_at(array, new, index):
    """Returns an array with `new` written from `index` of the last axis on; PyTorch changes it."""
    if BACKEND == "torch":  # slice_update would copy the whole array
        positions = ops.cast(index, "int64") + ops.arange(new.shape[-1], dtype="int64")
        return array.index_copy_(-1, positions, ops.cast(new, array.dtype))
    start = (0,) * (len(array.shape) - 1) + (index,)
    return ops.slice_update(array, start, new)


# Layers


def gelu(x):
    """Computes the exact GELU."""
    # Keras' version cannot be exported to ONNX on TensorFlow, and is a fifth slower
    if BACKEND == "tensorflow":
        return x * (0.5 + 0.5 * ops.erf(x * 0.5**0.5))
    return keras.activations.gelu(x, approximate=False)


def affine(x, kernel, bias):
    """Computes `x @ kernel + bias`; on PyTorch by one kernel, as two would write the sum twice."""
    if BACKEND == "torch" and bias is not None:
        x, kernel, bias = (ops.convert_to_tensor(y) for y in (x, kernel, bias))
        if x.dtype == kernel.dtype == bias.dtype:
            return torch.nn.functional.linear(x, kernel.T, bias)
    y = ops.matmul(x, kernel)
    return y if bias is None else ops.add(y, bias)


def fast_attention(query, key, value, bias, grouped):
    """Computes `softmax(Q K^T + bias) V` without keeping the probabilities.

    PyTorch has a kernel for it, which wants the vectors of keys in adjacent memory; those of a
    `Cache` are not. Its gradients are wrong where no key is visible: it keeps the logarithm of the
    sum of the weights, which vanishes next to so large a bias. On JAX on a CPU, outputs are
    divided by the sums of their weights instead of the weights, which saves a third of the time
    with 256 tokens.

    Args:
        query: `(batch, queries, num_heads, size)`, multiplied by its scale.
        key, value: `(batch, kv_heads, size, keys)`.
        bias: broadcasts to `(batch, num_heads, queries, keys)`, or None.
        grouped: whether there are fewer heads of keys than of queries.

    Returns:
        `(batch, queries, num_heads, size)`; None: there is nothing faster than the plain way.
    """
    is_adjacent = BACKEND == "torch" and key.stride(2) == value.stride(2) == 1
    if is_adjacent and not torch.is_grad_enabled():
        query, key, value = query.transpose(1, 2), key.transpose(2, 3), value.transpose(2, 3)
        bias = None if bias is None else bias.to(query.dtype)
        y = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, bias, scale=1.0, enable_gqa=grouped
        )
        return y.transpose(1, 2)
    if BACKEND == "jax" and query.dtype == "float32" and not grouped and runs_on_cpu():
        logits = ops.matmul(ops.transpose(query, (0, 2, 1, 3)), key)
        logits = logits if bias is None else logits + bias
        weights = ops.exp(logits - jax.lax.stop_gradient(ops.max(logits, -1, keepdims=True)))
        y = ops.matmul(weights, ops.transpose(value, (0, 1, 3, 2)))
        return ops.transpose(y / ops.sum(weights, -1, keepdims=True), (0, 2, 1, 3))
    return None


def layer_norm(x, dim, epsilon, gamma=None, beta=None):
    """Computes layer normalization over the last axis, on PyTorch by one kernel.

    Args:
        x: `(..., dim)`.
        dim: size of the last axis.
        epsilon: added to the variance.
        gamma, beta: `(dim,)`, or None: without.
    """
    if BACKEND == "torch":
        return torch.nn.functional.layer_norm(x, (dim,), gamma, beta, epsilon)
    x = x - ops.mean(x, axis=-1, keepdims=True)
    x = x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + epsilon)
    x = x if gamma is None else x * gamma
    return x if beta is None else x + beta


def fast_dropout(x, rate):
    """Applies dropout with few random bits; None: `x` is not an eager PyTorch tensor on a CPU.

    Args:
        x: floating-point tensor.
        rate: from 0 to 1, both excluded; rounded to 1/65,536, as 16 bits decide for each number.
    """
    if BACKEND != "torch" or not _is_eager(x) or x.device.type != "cpu":
        return None
    levels, count = 2**16, prod(x.shape)
    dropped = round(rate * levels)
    words = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[:count].view(x.shape)
    mask = torch.empty(x.shape, dtype=x.dtype)
    torch.ge(bits, dropped - levels // 2, out=mask)
    return x * mask.mul_(levels / (levels - dropped))


def mean_in_forward_pass(name):
    """Returns a metric, a mean, that layers may update when they are called."""
    return (_HostMean if BACKEND == "jax" else keras.metrics.Mean)(name=name)


class _HostMean(keras.metrics.Metric):
    """Running mean kept on the host; a compiled JAX step updates and reads it by callbacks.

    Keras' JAX trainer discards what a layer writes to a metric's variables in the forward pass.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.reset_state()

    def reset_state(self):
        self.total, self.count = 0.0, 0

    def update_state(self, value):
        jax.debug.callback(self.add, value)

    def add(self, value):
        self.total += float(value)
        self.count += 1

    def mean(self):
        return np.float32(self.total / max(self.count, 1))

    def result(self):
        return jax.experimental.io_callback(self.mean, jax.ShapeDtypeStruct((), "float32"))


# Gradients and random numbers


def value_and_gradients(function, values, create_graph=False):
    """Returns a function's value, and the gradients of its first part.

    Args:
        function: function of a list of tensors that returns a scalar and something else.
        values: the tensors.
        create_graph: whether the gradients will be differentiated (needed on torch).

    Returns:
        The result of the function, and a list of gradients, None where it does not depend on a
        value (zeros on JAX).
    """
    if BACKEND == "jax":
        return jax.value_and_grad(function, has_aux=True)(values)
    if BACKEND == "tensorflow":
        with tf.GradientTape() as tape:
            tape.watch(values)
            result = function(values)
        gradients = tape.gradient(result[0], values)
        # gradients of embeddings are IndexedSlices, which cannot be added
        return result, [None if g is None else tf.convert_to_tensor(g) for g in gradients]
    values = [v if v.requires_grad else v.detach().requires_grad_() for v in values]
    result = function(values)
    return result, torch.autograd.grad(
        result[0], values, allow_unused=True, create_graph=create_graph
    )


def without_gradients():
    """Returns a context in which PyTorch records no operations for gradients."""
    if BACKEND != "torch":
        return nullcontext()
    return torch.no_grad()


def current_values(variables):
    """Returns the values of variables, which later assignments do not change on TensorFlow."""
    if BACKEND == "tensorflow":
        return [tf.convert_to_tensor(v.value) for v in variables]
    return [v.value for v in variables]


def trains_functionally():
    """Returns whether Keras passes the values of variables to `train_step`, as on JAX."""
    return BACKEND == "jax"


def random_state():
    """Returns the state of torch's generators; the other backends use Keras' seeds only."""
    if BACKEND != "torch":
        return None
    return torch.get_rng_state(), torch.cuda.get_rng_state_all()


def set_random_state(state):
    """Restores the state of `random_state`."""
    if state is not None:
        torch.set_rng_state(state[0])
        torch.cuda.set_rng_state_all(state[1])


def replicas():
    """Returns the number of devices among which TensorFlow splits a batch, and Keras its loss."""
    if BACKEND != "tensorflow":
        return 1
    return tf.distribute.get_strategy().num_replicas_in_sync


# Compiled programs


def check_strategy():
    """Raises if a strategy of TensorFlow with several devices is active on another backend.

    Raises:
        ValueError: Keras would train on one device only, without a word.
    """
    strategy = "tensorflow" in sys.modules and sys.modules["tensorflow"].distribute.get_strategy()
    if BACKEND != "tensorflow" and strategy and strategy.num_replicas_in_sync > 1:
        raise ValueError(
            f"{type(strategy).__name__} distributes training on TensorFlow only; the backend is"
            f" {BACKEND}. Set KERAS_BACKEND=tensorflow, or remove the strategy and, on JAX, call"
            " keras.distribution.set_distribution(keras.distribution.DataParallel()) before the"
            " model is built."
        )


def compiled(function):
    """Compiles a function of tensors, on TensorFlow for all shapes; PyTorch just calls it."""
    if BACKEND == "jax":
        return jax.jit(function)
    if BACKEND == "torch":
        return without_gradients()(function)
    return tf.function(function, autograph=False, reduce_retracing=True)


def compiled_by_shape(function, variables):
    """Compiles a function of tensors, once for each set of shapes.

    JAX and TensorFlow compile it with XLA; PyTorch records its operations and replays them, as a
    Keras layer costs about 50 microseconds of Python per call, more than the arithmetic of one
    token.

    Args:
        function: takes and returns nested dicts and lists of tensors. Its control flow must not
            depend on the values of tensors.
        variables: list of the Keras variables it uses; their values are read at each call.
    """
    if BACKEND == "tensorflow":
        return tf.function(function, jit_compile=True, autograph=False)
    if BACKEND == "torch":
        program = Recorded(function, lambda: variables, _stateless, _torchscript)
        return without_gradients()(program)

    @jax.jit
    def program(values, *arguments):
        with _stateless(variables, values):
            return function(*arguments)

    return lambda *arguments: program([v.value for v in variables], *arguments)


def compiles_each_shape():
    """Returns whether `predict` compiles a program for each shape of the inputs."""
    return BACKEND == "jax"


def runs_on_cpu():
    """Returns whether tensors are in the memory of a CPU."""
    if BACKEND == "tensorflow":
        return {device.device_type for device in tf.config.list_logical_devices()} == {"CPU"}
    if BACKEND == "jax":
        return jax.default_backend() == "cpu"
    return ops.zeros(()).device.type == "cpu"


def compiles_loops():
    """Returns whether a compiled function may have `ops.while_loop`; PyTorch's unrolls it."""
    return BACKEND != "torch"


class Recorded:
    """A function whose operations are recorded once for each set of shapes (PyTorch).

    Args:
        function: takes and returns nested dicts and lists of tensors.
        variables: function that returns the list of Keras variables it uses, when it is recorded;
            their values are read at each call.
        with_values: function of these variables and values that returns a context in which the
            variables have the values.
        compile: function of the recorded operations and their arguments, all tensors, that returns
            what is called in their place.
        tracing_mode: of `make_fx`; "fake" computes no values.
    """

    def __init__(self, function, variables, with_values, compile, tracing_mode="real"):
        self.function, self.variables, self.with_values = function, variables, with_values
        self.compile, self.tracing_mode, self.programs = compile, tracing_mode, {}

    def __call__(self, *arguments):
        tensors, structure = pytree.tree_flatten(arguments)
        key = (structure, *((t.shape, t.dtype) for t in tensors))
        if key not in self.programs:
            self.programs[key] = self.record(tensors, structure)
        program, variables, results = self.programs[key]
        values = [v.value.detach() for v in variables]
        return pytree.tree_unflatten(list(program(*values, *tensors)), results)

    def record(self, tensors, structure):
        """Returns the program of flat tensors, its variables, and the structure of its results."""
        from torch.fx.experimental.proxy_tensor import make_fx  # its import takes a second

        variables, structures = self.variables(), []

        def flat(*everything):
            values, tensors = everything[: len(variables)], everything[len(variables) :]
            with self.with_values(variables, values):
                results = self.function(*pytree.tree_unflatten(list(tensors), structure))
            results, nested = pytree.tree_flatten(results)
            structures.append(nested)
            return tuple(results)

        everything = [*(v.value.detach() for v in variables), *tensors]
        operations = make_fx(flat, tracing_mode=self.tracing_mode)(*everything)
        return self.compile(operations, everything), variables, structures[0]


def _stateless(variables, values):
    return keras.StatelessScope(list(zip(variables, values, strict=True)))


def _torchscript(operations, arguments):
    """Compiles recorded operations with PyTorch's tracer, for less Python per operation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.trace(operations, arguments, check_trace=False)


def last_state(step, state, inputs, when):
    """Returns the state after all steps, or the first state if `when` is False.

    Used instead of `ops.scan`, whose gradient XLA cannot compile on TensorFlow, and which takes
    quadratic time on PyTorch.

    Args:
        step: function of a state and an entry of `inputs` that returns the next state.
        state: the first state.
        inputs: `(steps, ...)`.
        when: boolean scalar, whether to take the steps at all.
    """
    if BACKEND == "jax":
        return ops.cond(
            when,
            lambda: ops.scan(
                lambda state, step_input: (step(state, step_input), None), state, inputs
            )[0],
            lambda: state,
        )
    if BACKEND == "torch":
        for step_input in ops.unstack(inputs) if when else ():
            state = step(state, step_input)
        return state
    steps = tf.shape(inputs)[0]
    return tf.while_loop(
        lambda i, _: tf.logical_and(when, i < steps),
        lambda i, state: (i + 1, step(state, inputs[i])),
        (0, state),
        maximum_iterations=steps,
    )[1]


def _torch_scan(step, state, inputs, reverse=False):
    """Works like `keras.ops.scan`, which takes quadratic time on PyTorch."""
    rows = inputs.unbind()
    outputs = []
    for row in reversed(rows) if reverse else rows:
        state, output = step(state, row)
        outputs.append(output)
    outputs = outputs[::-1] if reverse else outputs
    return state, torch.stack(outputs) if rows else state.new_zeros((0, *state.shape))


# `keras.ops`; on PyTorch, functions that a loop calls many times go without Keras' dispatch, which
# takes longer than the arithmetic of a step
quick_ops = ops
if BACKEND == "torch":
    quick_ops = SimpleNamespace(
        **vars(ops)
        | {
            "argmax": lambda x, axis, keepdims: torch.argmax(x, axis, keepdims),
            "max": lambda x, axis, keepdims: torch.amax(x, axis, keepdims),
            "reshape": torch.reshape,
            "scan": _torch_scan,
            "take": lambda x, rows, axis: x.index_select(axis, rows.ravel()).unflatten(
                axis, rows.shape
            ),
            "take_along_axis": lambda x, i, axis: torch.take_along_dim(x, i.long(), axis),
            "where": torch.where,
        }
    )


# Models of Keras


def small_tensors(most_bytes):
    """Context that limits the memory of tensors when shapes are inferred on PyTorch.

    Keras infers most shapes on PyTorch's device "meta", with tensors that have no values; if an
    operation fails there, it runs the whole layer with values, of which `most_bytes` may exist at a
    time. For other backends this does nothing.

    Raises:
        MemoryError: in the context: there are more.
    """
    if BACKEND != "torch":
        return nullcontext()

    # operations that need the values, and whose result is not larger
    needs_values = {
        torch.ops.aten._local_scalar_dense,
        torch.ops.aten.equal,
        torch.ops.aten.is_nonzero,
    }

    def tensors_in(value):
        return (x for x in pytree.tree_leaves(value) if isinstance(x, torch.Tensor))

    def without_values(value):
        if isinstance(value, torch.Tensor):
            return value.to("meta")
        if isinstance(value, torch.Generator):
            return None
        return torch.device("meta") if isinstance(value, torch.device) else value

    class SmallTensors(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.sizes = {}  # weak reference to a storage -> bytes

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            device = kwargs.get("device")
            inputs = [*tensors_in((args, kwargs))]
            is_meta = device.type == "meta" if device else all(x.is_meta for x in inputs) and inputs
            if not is_meta and function.overloadpacket not in needs_values:
                arguments, options = pytree.tree_map(without_values, (args, kwargs))
                self.check_room(function(*arguments, **options))
            result = function(*args, **kwargs)
            for tensor in tensors_in(result):
                if not tensor.is_meta:
                    storage = tensor.untyped_storage()
                    self.sizes[StorageWeakRef(storage)] = storage.nbytes()
            return result

        def check_room(self, outputs):
            self.sizes = {ref: size for ref, size in self.sizes.items() if not ref.expired()}
            size = sum(x.untyped_storage().nbytes() for x in tensors_in(outputs))
            size += sum(self.sizes.values())
            if size > most_bytes:
                raise MemoryError(f"tensors of {size} bytes to infer a shape")

    return SmallTensors()


def predict_without_xla(model):
    """Makes `model.predict` skip XLA, which would compile for seconds at each new shape."""
    if BACKEND == "tensorflow":
        model.compile(jit_compile=False)


def without_xla(options):
    """Options of `compile`, by default without XLA where it would compile for each new shape."""
    return {"jit_compile": False, **options} if BACKEND == "tensorflow" else options


def varying_batches(batches):
    """Converts batches for `fit`, so that the sizes of all axes may vary.

    On TensorFlow, Keras takes sizes that are equal in the first two batches for constant. Targets
    `(batch, 1)` keep their 1, for which losses look.

    Args:
        batches: an iterator of tuples `(inputs,)`, `(inputs, targets)` or `(inputs, targets,
            weights)` of arrays in tuples or dicts.
    """
    if BACKEND != "tensorflow":
        return batches
    first = next(batches)

    def every():
        yield first
        yield from batches

    def spec(array, fixed):
        sizes = [size if size in fixed else None for size in array.shape]
        return tf.TensorSpec(sizes, array.dtype)

    signature = tuple(
        keras.tree.map_structure(partial(spec, fixed=fixed), part)
        for part, fixed in zip(first, ((), (1,), (1,)), strict=False)
    )
    return tf.data.Dataset.from_generator(every, output_signature=signature).prefetch(2)


# Updates of optimizers


def where(condition, yes, no):
    """Computes `ops.where`, also for variables, which JAX does not accept."""
    return ops.where(condition, ops.convert_to_tensor(yes), ops.convert_to_tensor(no))


def copy_values(variables, sources):
    """Copies the values of variables to others, also while a program is traced."""
    scope = nullcontext()
    if BACKEND == "tensorflow":
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
    if BACKEND == "jax":

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
    if BACKEND == "tensorflow":
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
    if BACKEND == "tensorflow":
        nonfinite = tf.cast(tf.logical_not(finite), "int32")
        replica = tf.distribute.get_replica_context()
        finite = tf.equal(replica.all_reduce(tf.distribute.ReduceOp.SUM, nonfinite), 0)
    return finite


def dense_gradient(gradient):
    """Converts a gradient to a dense tensor.

    Keras would square the rows of sparse ones before summing them.
    """
    if is_sparse(gradient):
        return tf.convert_to_tensor(gradient)
    return gradient


def each_row_once(gradient):
    """Sums duplicate rows of a sparse gradient at their first occurrence, and zeros the others."""
    if not is_sparse(gradient):
        return gradient
    ids, sums, first = row_sums(gradient)
    rows = tf.where(first[:, None], sums, 0)
    return tf.IndexedSlices(rows, ids, gradient.dense_shape)


def row_sums(gradient):
    """Returns sorted row indices, the sum of all rows with that index, and which are the first."""
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
        whole(dense_gradient(gradient))
    elif is_sparse(gradient):
        ids, sums, _ = row_sums(gradient)
        rows(ids, sums)
    elif BACKEND == "torch":
        with without_gradients():
            ids = gradient.any(1).nonzero()[:, 0]
            rows(ids, gradient[ids])
    else:
        whole(gradient)


def assign_rows(optimizer, table, ids, rows):
    """Assigns rows of a variable."""
    if BACKEND == "tensorflow":
        optimizer.assign(table, tf.IndexedSlices(rows, ids))
    else:
        table.value.index_copy_(0, ids, rows)


def clip_by_global_norm(gradients, limit):
    """Clips like Keras, but reads each gradient once and makes no copy of it (PyTorch)."""
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    return torch._foreach_mul(gradients, torch.clamp(limit / norm, max=1))


def may_be_fused(gradient, variable):
    """Returns whether `fused_adam` can update a variable: eager, float32 and contiguous."""
    if not _is_eager(gradient):
        return False
    value = variable.value
    return value.dtype == gradient.dtype == torch.float32 and value.is_contiguous()


def fused_adam(
    optimizer, gradients, variables, momentums, velocities, *, rate, correction, decay, finite
):
    """Updates many variables like Keras' Adam, in one pass over memory (PyTorch).

    Args:
        optimizer: has the constants `beta_1`, `beta_2` and `epsilon`.
        gradients: tensors of the shapes of the variables.
        variables, momentums, velocities: lists of `keras.Variable`.
        rate, correction: scalars; the learning rate, and its factor for the bias correction.
        decay: float, the weight decay.
        finite: boolean scalar, whether to update at all; None: update.
    """
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


def set_to_zero(variables, finite):
    """Sets variables to zero (PyTorch), unless `finite` is given and False."""
    values = [variable.value for variable in variables]
    if finite is None:
        torch._foreach_zero_(values)
    else:
        torch._foreach_mul_(values, torch.logical_not(finite))
