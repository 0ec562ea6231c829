"""Low-rank adaptation (LoRA): freezes a model, and trains low-rank products added to its kernels.

The products are those of Keras (`Dense.enable_lora`, `Embedding.enable_lora`). Added here: layers
chosen by path, everything else frozen, and saved files that hold a plain model with the products
merged.

Reference:
    Hu et al., "LoRA", arXiv 2106.09685. All linear layers: Dettmers et al., "QLoRA", arXiv
    2305.14314, section 4.
"""

from contextlib import ExitStack, contextmanager

import keras
import numpy as np
from keras import ops

from .arguments import check_number, checks_flags
from .patterns import search

__all__ = ["enable_lora", "folded", "merge_lora", "own_variables", "reset_lora"]


MOST_RANK = 1 << 14


@checks_flags
def enable_lora(
    model: keras.Model,
    rank: int,
    pattern: str | None = None,
    alpha: float | None = None,
    train_bias: bool = False,
) -> list[str]:
    """Freezes a model and adds trainable low-rank products to some of its kernels.

    A kernel `W` becomes `W + alpha / rank * A B`, where `A` is `(inputs, rank)`, initialized
    randomly, and `B` is `(rank, outputs)`, initialized to zero: before training, nothing changes.
    Call it before `compile`. Layers added to the model afterwards, such as a classifier, are
    trained as usual.

    `Transformer.save_checkpoint`, `model.save` and `model.save_weights` save kernels with the
    products merged, which load as a model without LoRA.

    Args:
        model: a `keras.Model`.
        rank: rank of the products, 1 to 16384.
        pattern: regular expression, searched in the path of each layer, such as
            `"block_0/attention/query"`. Default None: the projections to queries and values; in a
            causal model with gated feed-forward layers (Llama, Mistral, Qwen2, Qwen3, ...), all
            linear layers of the blocks.
        alpha: numerator of the factor `alpha / rank`, 1e-6 to 1e6. Defaults to `rank`.
        train_bias: whether the biases of dense layers are trained as well.

    Returns:
        The sorted paths of the layers with a product.

    Raises:
        ValueError: a number is out of its range, no trainable layer matches the pattern, the model
            has products already, or layers are quantized.

    Example:
        >>> bert = build_transformer_model(directory)
        >>> enable_lora(bert, rank=8)
        >>> y = keras.layers.Dense(15, "softmax")(bert.output[:, 0])
        >>> model = keras.Model(bert.inputs, y)
    """
    check_number("rank", rank, 1, MOST_RANK)
    if alpha is not None:
        check_number("alpha", alpha, 1e-6, 1e6)
    if _adapted(model):
        raise ValueError(
            "enable_lora: the model has LoRA products already. Call merge_lora(model) first."
        )
    candidates = {
        layer.path: layer
        for layer in model._flatten_layers()
        if hasattr(layer, "enable_lora") and layer.trainable_variables
    }
    if pattern is None:
        matches = map(_targets(model).__contains__, candidates)
    else:
        (matches,) = search("pattern", [pattern], candidates)
    chosen = {
        path: layer
        for (path, layer), matched in zip(candidates.items(), matches, strict=True)
        if matched
    }
    if not chosen:
        raise ValueError(
            f"pattern={pattern!r} matches none of the {len(candidates)} trainable layers that "
            "support LoRA; expected a part of a path such as "
            f"{', '.join(list(candidates)[:: max(len(candidates) // 8, 1)])}."
        )
    quantized = [path for path, layer in chosen.items() if layer.quantization_mode]
    if quantized:
        raise ValueError(
            f"{quantized[0]} is quantized; LoRA products cannot be merged into it. Enable LoRA on "
            "the model before quantization, and quantize after merge_lora(model)."
        )
    for variable in model.trainable_variables:
        if not (train_bias and variable.path.endswith("/bias")):
            variable.trainable, variable.frozen_by_lora = False, True
    for layer in chosen.values():
        layer.enable_lora(rank, lora_alpha=alpha)
        _save_folded(layer)
    _forget_programs(model)
    return sorted(chosen)


def _targets(model):
    """Returns the paths of the projections that get products by default.

    Those to queries and values, as in the paper of LoRA; in a causal model of one stack with gated
    feed-forward layers (Llama and its heirs), all projections of the blocks, as in that of QLoRA.
    """
    layers = model._flatten_layers()
    masks = {getattr(layer, "attend", None) for layer in layers}
    is_causal = "lm" in masks and not masks & {"all", "unilm"}
    is_gated = any(getattr(layer, "gated", False) for layer in layers)
    is_crossed = any(getattr(layer, "cross", None) for layer in layers)
    everywhere = is_causal and is_gated and not is_crossed
    return {
        f"{layer.path}/{name}"
        for layer in layers
        for name in getattr(layer, "split" if everywhere else "lora_targets", ())
    }


def merge_lora(model: keras.Model) -> None:
    """Merges the products into the kernels, and makes the weights that LoRA froze trainable again.

    The model computes the same as before, up to rounding, as fast as without LoRA. Compile it again
    before further training.

    Args:
        model: a `keras.Model` after `enable_lora`, or one that contains it.

    Raises:
        ValueError: the model has no products.
    """
    layers = _adapted(model)
    if not layers:
        raise ValueError("merge_lora: the model has no LoRA products. Call enable_lora first.")
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
    """Context in which the kernels include the products, for code that reads them."""
    with ExitStack() as stack:
        for layer in _adapted(model):
            stack.enter_context(_folded(layer))
        yield


def reset_lora(model):
    """Resets the products to zero, after the kernels got the values of a whole model."""
    for layer in _adapted(model):
        factor = _factors(layer)[1]
        factor.assign(ops.zeros(factor.shape))


def own_variables(layer):
    """Returns the variables that Keras saves of a layer itself, without products.

    Returns:
        A dict of key in Keras' files -> variable.
    """
    if getattr(layer, "lora_enabled", False):
        variables = layer._trainable_variables + layer._non_trainable_variables
        plain = [variable for variable in variables if "/lora_" not in variable.path]
        return {str(i): variable for i, variable in enumerate(plain)}
    store = {}
    layer.save_own_variables(store)
    return store


@contextmanager
def _folded(layer):
    kernel = _kernel(layer)
    values = np.array(ops.convert_to_numpy(kernel))  # a copy: it may be the variable's own memory
    kernel.assign(_sum(layer))
    layer.lora_enabled = False
    try:
        yield
    finally:
        layer.lora_enabled = True
        kernel.assign(values)


def _adapted(model):
    return [layer for layer in model._flatten_layers() if getattr(layer, "lora_enabled", False)]


def _of_embedding(layer):
    return isinstance(layer, keras.layers.Embedding)


def _kernel(layer):
    """Returns the frozen variable; `layer.kernel` includes the product."""
    return layer._embeddings if _of_embedding(layer) else layer._kernel


def _factors(layer):
    if _of_embedding(layer):
        return layer.lora_embeddings_a, layer.lora_embeddings_b
    return layer.lora_kernel_a, layer.lora_kernel_b


def _sum(layer):
    """Returns the kernel plus the product, in float32: Keras' sum is rounded to half precision."""
    product = layer.lora_alpha / layer.lora_rank * ops.matmul(*_factors(layer))
    return ops.cast(_kernel(layer), "float32") + product


OVERRIDDEN = "get_config", "save_own_variables", "load_own_variables"


def _save_folded(layer):
    """Makes a layer save itself as if it had no product, and load such files.

    Otherwise Keras saves the sum in the precision of the computation, and enables LoRA when the
    file is loaded, with both factors zero: they could not be trained.
    """
    cls = type(layer)

    def get_config():
        config = cls.get_config(layer)
        return {name: config[name] for name in config if name not in ("lora_rank", "lora_alpha")}

    def save_own_variables(store):
        with _folded(layer):
            cls.save_own_variables(layer, store)

    def load_own_variables(store):
        factor = np.array(ops.convert_to_numpy(_factors(layer)[0]))
        cls.load_own_variables(layer, store)
        _factors(layer)[0].assign(factor)

    for method in (get_config, save_own_variables, load_own_variables):
        setattr(layer, method.__name__, method)


def _forget_programs(model):
    """Discards compiled functions, which would use the layers as they were before."""
    model.train_function = model.test_function = model.predict_function = None
