"""Low-rank adaptation: a model is frozen, and small products beside its kernels are trained.

The products are Keras' own (`Dense.enable_lora`, `Embedding.enable_lora`). What is added here:
layers chosen by path, all else frozen, and files that hold a plain model with the products
folded in.

Reference:
    Hu et al., "LoRA", arXiv 2106.09685.
"""

from contextlib import ExitStack, contextmanager

import keras
import numpy as np
from keras import ops

from .arguments import checks_flags
from .patterns import search

# a gated attention unit makes its values, with gate and queries, by one `input` kernel
QUERY_AND_VALUE = r"(attention|cross)/(query|value|input)$"


@checks_flags
def enable_lora(model, rank, pattern=QUERY_AND_VALUE, alpha=None, train_bias=False):
    """Freezes a model and adds a trainable product of low rank to some of its kernels.

    A kernel `W` becomes `W + alpha / rank * A B`, where `A` is `(inputs, rank)`, at random, and
    `B` is `(rank, outputs)`, zero: before training, nothing changes. Call it before `compile`.
    Layers that are put on the model afterwards are trained as usual; so a classifier goes there.

    What is saved, by `Transformer.save_checkpoint`, `model.save` or `model.save_weights`, has
    the products folded in, and loads as a model without them.

    Args:
        model: a `keras.Model`.
        rank: of the products.
        pattern: regular expression, searched in the path of each layer, such as
            `"block_0/attention/query"`; the default: the projections to queries and values, of
            every family.
        alpha: of the factor `alpha / rank`; `rank` when left out.
        train_bias: whether the biases of dense layers are trained as well.

    Returns:
        The paths of the layers that got a product.

    Raises:
        ValueError: no trainable layer fits the pattern, the model has products already, or
            layers are quantized.

    Example:
        >>> bert = build_transformer_model(directory)
        >>> enable_lora(bert, rank=8)
        >>> y = keras.layers.Dense(15, "softmax")(bert.output[:, 0])
        >>> model = keras.Model(bert.inputs, y)
    """
    if _adapted(model):
        raise ValueError("The model has LoRA products already; merge_lora(model) folds them in.")
    able = {
        layer.path: layer
        for layer in model._flatten_layers()
        if hasattr(layer, "enable_lora") and layer.trainable_variables
    }
    fits = search("pattern", pattern, able)
    chosen = {path: layer for (path, layer), fit in zip(able.items(), fits, strict=True) if fit}
    if not chosen:
        raise ValueError(
            f"pattern={pattern!r} fits none of the {len(able)} trainable layers that can have a "
            f"LoRA product. Some of them: {', '.join(list(able)[:: max(len(able) // 8, 1)])}."
        )
    quantized = [path for path, layer in chosen.items() if layer.quantization_mode]
    if quantized:
        raise ValueError(
            f"{quantized[0]} is quantized, and products cannot be folded into it; enable LoRA on "
            "the model as it was before, and quantize after merge_lora(model)."
        )
    for variable in model.trainable_variables:
        if not (train_bias and variable.path.endswith("/bias")):
            variable.trainable, variable.frozen_by_lora = False, True
    for layer in chosen.values():
        layer.enable_lora(rank, lora_alpha=alpha)
        _save_folded(layer)
    _forget_programs(model)
    return sorted(chosen)


def merge_lora(model):
    """Folds the products into the kernels, and makes trainable again what LoRA had frozen.

    The model computes the same as before, to rounding, as fast as without LoRA. Compile it
    again before training goes on.

    Args:
        model: a `keras.Model` that went through `enable_lora`, or one that contains it.

    Raises:
        ValueError: it has no products.
    """
    layers = _adapted(model)
    if not layers:
        raise ValueError("The model has no LoRA products to merge.")
    for layer in layers:
        kernel, factors = _kernel(layer), _factors(layer)
        kernel.assign(_sum(layer))
        layer.lora_enabled, layer.lora_rank, layer.lora_alpha = False, None, None
        for factor in factors:
            layer._untrack_variable(factor)
            vars(layer).pop(factor.name)
        for method in OVERRIDDEN:
            vars(layer).pop(method)
    for variable in model.variables:
        if getattr(variable, "frozen_by_lora", False):
            variable.trainable, variable.frozen_by_lora = True, False
    _forget_programs(model)


@contextmanager
def folded(model):
    """Inside, the kernels hold the products, for whoever reads them; afterwards all is as before."""
    with ExitStack() as stack:
        for layer in _adapted(model):
            stack.enter_context(_folded(layer))
        yield


def start_anew(model):
    """Brings the products back to zero, for kernels that have got the values of a whole model."""
    for layer in _adapted(model):
        second = _factors(layer)[1]
        second.assign(ops.zeros(second.shape))


def own_variables(layer):
    """What Keras saves of a layer itself: key in its files -> variable, the products left out."""
    if getattr(layer, "lora_enabled", False):
        some = layer._trainable_variables + layer._non_trainable_variables
        plain = [variable for variable in some if "/lora_" not in variable.path]
        return {str(i): variable for i, variable in enumerate(plain)}
    store = {}
    layer.save_own_variables(store)
    return store


@contextmanager
def _folded(layer):
    kernel = _kernel(layer)
    own = np.array(ops.convert_to_numpy(kernel))  # a copy: it may be the variable's own memory
    kernel.assign(_sum(layer))
    layer.lora_enabled = False
    try:
        yield
    finally:
        layer.lora_enabled = True
        kernel.assign(own)


def _adapted(model):
    return [layer for layer in model._flatten_layers() if getattr(layer, "lora_enabled", False)]


def _of_embedding(layer):
    return isinstance(layer, keras.layers.Embedding)


def _kernel(layer):
    """The frozen variable; `layer.kernel` is the sum already."""
    return layer._embeddings if _of_embedding(layer) else layer._kernel


def _factors(layer):
    if _of_embedding(layer):
        return layer.lora_embeddings_a, layer.lora_embeddings_b
    return layer.lora_kernel_a, layer.lora_kernel_b


def _sum(layer):
    """The kernel with the product, in float32: Keras' own sum is rounded to half precision."""
    product = layer.lora_alpha / layer.lora_rank * ops.matmul(*_factors(layer))
    return ops.cast(_kernel(layer), "float32") + product


OVERRIDDEN = "get_config", "save_own_variables", "load_own_variables"


def _save_folded(layer):
    """Lets the layer be saved as if it had no product, and be loaded into with one.

    Left to itself, Keras saves the sum in the precision of the computation, and asks for LoRA
    when the file is loaded, which then sets both factors to zero: they could not be trained.
    """
    kind = type(layer)

    def get_config():
        config = kind.get_config(layer)
        return {name: config[name] for name in config if name not in ("lora_rank", "lora_alpha")}

    def save_own_variables(store):
        with _folded(layer):
            kind.save_own_variables(layer, store)

    def load_own_variables(store):
        first = np.array(ops.convert_to_numpy(_factors(layer)[0]))
        kind.load_own_variables(layer, store)
        _factors(layer)[0].assign(first)

    for method in (get_config, save_own_variables, load_own_variables):
        setattr(layer, method.__name__, method)


def _forget_programs(model):
    """What Keras has compiled would go on with the layers as they were."""
    model.train_function = model.test_function = model.predict_function = None
