"""Products of low rank on every family: what is trained, what is saved, what is computed."""

import keras
import numpy as np
import pytest
from keras import ops
from running import long_but, outputs_of
from test_families import WHOLE, build, inputs_of

from bert4keras_lite.checkpoints import open_checkpoint
from bert4keras_lite.lora import enable_lora, folded, merge_lora
from bert4keras_lite.models import build_transformer_model

HIDDEN_SIZE, MIDDLE = 32, 128  # of `build`


def values(model):
    return {v.path: np.array(ops.convert_to_numpy(v)) for v in model.variables}


def train(model, inputs, steps, rate=1.0):
    """Towards ones; gives the loss of each step."""
    model.compile(keras.optimizers.SGD(rate), "mse", run_eagerly=True)  # a few steps
    targets = [np.ones(y.shape, "float32") for y in outputs_of(model, inputs)]
    targets = targets if len(targets) > 1 else targets[0]
    return [float(np.ravel(model.train_on_batch(inputs, targets))[0]) for _ in range(steps)]


def set_factors(model, scale=0.05):
    """Products such as training might leave."""
    random = np.random.RandomState(1)
    for variable in model.variables:
        if "/lora_" in variable.path:
            variable.assign(scale * random.standard_normal(variable.shape))


def expected_weights(config, rank):
    """How many numbers the products of queries and values, or of all linear layers, hold."""
    if config.attention == "gau":
        return config.block_counts["i"] * rank * (HIDDEN_SIZE + 2 * MIDDLE + config.key_size)
    heads = config.num_attention_heads
    query = rank * (HIDDEN_SIZE + heads * config.key_size)
    value = rank * (HIDDEN_SIZE + config.kv_heads * config.head_size)
    if config.attend == "lm" and config.gated:
        key = rank * (HIDDEN_SIZE + config.kv_heads * config.key_size)
        output = rank * (heads * config.head_size + HIDDEN_SIZE)
        ffn = 3 * rank * (HIDDEN_SIZE + MIDDLE)
        return config.block_counts["i"] * (query + key + value + output + ffn)
    blocks = 1 if config.share_blocks else config.memory_blocks  # others are not trained
    if config.stacks == "both":
        blocks += 2 * config.block_counts["j"]  # a decoder attends twice
    return blocks * (query + value)


@pytest.mark.parametrize(
    "name", long_but(["bert", "albert", "gau_alpha", "t5.1.1", "qwen3"], WHOLE)
)
@pytest.mark.filterwarnings("ignore:You are using a softmax over axis -1")
def test_every_family(name, tmp_path):
    transformer = build(name)
    model, inputs = transformer.model, inputs_of(transformer)
    before, weights = outputs_of(model, inputs), values(model)
    trainable = [v.path for v in model.trainable_variables]

    paths = enable_lora(model, 3, alpha=6)
    everywhere = transformer.config.attend == "lm" and transformer.config.gated
    allowed = ("attention", "cross", "ffn") if everywhere else ("attention", "cross")
    assert paths and all(path.split("/")[1] in allowed for path in paths)
    for output, golden in zip(outputs_of(model, inputs), before, strict=True):
        # kernels in other memory may be summed in another order
        np.testing.assert_allclose(output, golden, rtol=0, atol=1e-5)
    products = model.trainable_variables
    assert all("/lora_" in v.path for v in products)
    assert sum(np.prod(v.shape) for v in products) == expected_weights(transformer.config, 3)

    set_factors(model)
    adapted = outputs_of(model, inputs)
    assert max(np.abs(a - b).max() for a, b in zip(adapted, before, strict=True)) > 1e-3
    model.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras")
    assert not any("/lora_" in v.path for v in reloaded.variables)
    merge_lora(model)
    for other in (model, reloaded):
        assert [v.path for v in other.trainable_variables] == trainable
        for output, golden in zip(outputs_of(other, inputs), adapted, strict=True):
            np.testing.assert_allclose(output, golden, rtol=1e-4, atol=1e-4)
    changed = {path for path, array in values(model).items() if (array != weights[path]).any()}
    assert changed == {f"{path}/kernel" for path in paths}


@pytest.mark.parametrize("name", long_but(["albert"], ["bert", "albert", "t5.1.1"]))
@pytest.mark.filterwarnings("ignore:You are using a softmax over axis -1")
def test_only_products_are_trained(name):
    transformer = build(name)
    model, inputs = transformer.model, inputs_of(transformer)
    enable_lora(model, 2)
    before = values(model)
    losses = train(model, inputs, steps=3)
    assert losses[-1] < losses[0]
    after = values(model)
    moved = {path for path in after if "/lora_" in path and (after[path] != before[path]).any()}
    assert moved == {v.path for v in model.trainable_variables}
    for path in after.keys() - moved:
        if "/lora_" not in path and path in before:
            np.testing.assert_array_equal(after[path], before[path])


def test_the_product_is_the_papers():
    model = build("bert").model
    old = values(model)
    enable_lora(model, 4, pattern="block_1/ffn/output", alpha=2)
    set_factors(model)
    a, b = (np.array(ops.convert_to_numpy(v)) for v in model.trainable_variables)
    assert a.shape == (MIDDLE, 4) and b.shape == (4, HIDDEN_SIZE)
    merge_lora(model)
    path = "block_1/ffn/output/kernel"
    np.testing.assert_allclose(values(model)[path], old[path] + 2 / 4 * a @ b, atol=1e-6)


@pytest.mark.parametrize("format", ["tf", "hf", "keras"])
def test_saved_checkpoints_are_merged(format, tmp_path):
    transformer = build("bert")
    model, inputs = transformer.model, inputs_of(transformer)
    enable_lora(model, 2)
    set_factors(model)
    adapted, factors = outputs_of(model, inputs), values(model)
    transformer.save_checkpoint(tmp_path, format=format)
    assert not any("lora" in name for name in open_checkpoint(tmp_path))
    again = build_transformer_model(tmp_path, with_lm="linear", with_nsp="linear")
    for output, golden in zip(outputs_of(again, inputs), adapted, strict=True):
        np.testing.assert_allclose(output, golden, atol=1e-5)
    # saving leaves no trace
    for path, array in values(model).items():
        np.testing.assert_array_equal(array, factors[path])
    for output, golden in zip(outputs_of(model, inputs), adapted, strict=True):
        np.testing.assert_array_equal(output, golden)


@pytest.mark.parametrize(
    ("name", "options", "everywhere"),
    [
        ("mistral", {"num_key_value_heads": 2}, True),
        ("qwen2", {}, True),
        ("modernbert", {"application": "lm", "with_lm": "linear"}, True),
        ("modernbert", {}, False),
        ("gpt2", {}, False),
        ("t5.1.1", {}, False),
        ("t5.1.1_decoder", {}, False),
    ],
)
def test_which_layers_get_products(name, options, everywhere):
    paths = enable_lora(build(name, **options).model, 2)
    of_block = sorted(path.partition("block_0/")[2] for path in paths if "block_0" in path)
    attention = ["attention/query", "attention/value"]
    parts = ["attention/key", "attention/output", "ffn/gate", "ffn/input", "ffn/output"]
    assert set(of_block) >= set(attention)
    assert set(of_block) & set(parts) == (set(parts) if everywhere else set())


def test_folded_is_undone_after_an_error():
    transformer = build("bert")
    enable_lora(transformer.model, 2)
    set_factors(transformer.model)
    before = values(transformer.model)
    with pytest.raises(KeyError), folded(transformer.model):
        inside = values(transformer.model)
        raise KeyError
    path = "block_0/attention/query/kernel"
    assert (inside[path] != before[path]).any()
    np.testing.assert_array_equal(values(transformer.model)[path], before[path])
    assert transformer.model.trainable_variables


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_saved_in_full_precision(policy, tmp_path):
    """Keras alone would round the kernels of a model in mixed precision when it saves them."""
    keras.config.set_dtype_policy(policy)
    try:
        model = build("bert").model
    finally:
        keras.config.set_dtype_policy("float32")
    inputs = [np.ones((2, 5), "int32"), np.zeros((2, 5), "int32")]
    before, plain = values(model), outputs_of(model, inputs)
    enable_lora(model, 2)
    for output, golden in zip(outputs_of(model, inputs), plain, strict=True):
        np.testing.assert_array_equal(output, golden)
    model.save(tmp_path / "model.keras")
    saved = keras.saving.load_model(tmp_path / "model.keras").get_weights()
    for array, golden in zip(saved, before.values(), strict=True):
        np.testing.assert_array_equal(array, golden)
        assert array.dtype == golden.dtype
    merge_lora(model)
    for path, array in values(model).items():
        np.testing.assert_array_equal(array, before[path])


def test_layers_of_the_model_itself_and_weights_files(tmp_path):
    """Tables, and dense layers that are not part of a block: their configs ask for no LoRA."""
    transformer = build("bert")
    model, inputs = transformer.model, inputs_of(transformer)
    paths = enable_lora(model, 2, pattern="token_embedding|pooler|lm_dense")
    assert paths == ["lm_dense", "pooler", "token_embedding"]
    losses = train(model, inputs, 3, rate=0.02)
    assert losses[-1] < losses[0]
    adapted = outputs_of(model, inputs)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert len(again.trainable_variables) == len(build("bert").model.trainable_variables)
    for output, golden in zip(outputs_of(again, inputs), adapted, strict=True):
        np.testing.assert_allclose(output, golden, atol=1e-5)
    # the best weights, as `ModelCheckpoint` writes them, come back and can be trained on
    model.save_weights(tmp_path / "best.weights.h5")
    train(model, inputs, 2, rate=0.02)
    model.load_weights(tmp_path / "best.weights.h5")
    for output, golden in zip(outputs_of(model, inputs), adapted, strict=True):
        np.testing.assert_allclose(output, golden, atol=1e-5)
    losses = train(model, inputs, 3, rate=0.02)
    assert losses[-1] < losses[0]
    merge_lora(model)
    assert not any("/lora_" in v.path for v in model.variables)


def test_a_classifier_on_top_is_trained_and_merged_through():
    bert = build("bert", with_lm=None, with_nsp=None).model
    enable_lora(bert, 2)
    model = keras.Model(bert.inputs, keras.layers.Dense(3, name="classes")(bert.output[:, 0]))
    trained = {v.path for v in model.trainable_variables if "/lora_" not in v.path}
    assert trained == {"classes/kernel", "classes/bias"}
    merge_lora(model)
    assert len(model.trainable_variables) == len(model.variables)


def test_biases_too():
    model = build("bert").model
    enable_lora(model, 2, train_bias=True)
    kinds = {v.path.rsplit("/", 1)[1] for v in model.trainable_variables}
    assert kinds == {"lora_kernel_a", "lora_kernel_b", "bias"}


def test_what_was_frozen_stays_frozen():
    model = build("bert").model
    model.get_layer("block_0").trainable = False
    paths = enable_lora(model, 2)
    assert paths == ["block_1/attention/query", "block_1/attention/value"]
    assert len(model.trainable_variables) == 4
    merge_lora(model)
    assert not any("block_0" in v.path for v in model.trainable_variables)
    assert any("block_1" in v.path for v in model.trainable_variables)


def test_what_keras_compiled_before_is_compiled_anew():
    transformer = build("bert")
    model, inputs = transformer.model, inputs_of(transformer)
    plain = model.predict(inputs, verbose=0)[0]
    enable_lora(model, 2)
    set_factors(model)
    adapted = model.predict(inputs, verbose=0)[0]
    assert np.abs(adapted - plain).max() > 1e-3
    merge_lora(model)
    np.testing.assert_allclose(model.predict(inputs, verbose=0)[0], adapted, atol=1e-5)


# ---------------------------------------------------------------- what can go wrong


def test_a_pattern_that_fits_nothing_names_some_layers():
    model = build("t5.1.1").model
    trainable = len(model.trainable_variables)
    with pytest.raises(
        ValueError, match=r"'query_dense' matches none .*encoder_block_0/attention/"
    ):
        enable_lora(model, 2, pattern="query_dense")
    assert len(model.trainable_variables) == trainable


@pytest.mark.parametrize(
    ("name", "value"),
    [("rank", 0), ("rank", True), ("rank", 2.5), ("rank", 10**9)]
    + [("alpha", value) for value in (0.0, -1.0, np.nan, np.inf, "1")],
)
def test_wrong_numbers_change_nothing(name, value):
    model = build("bert").model
    trainable = len(model.trainable_variables)
    with pytest.raises(ValueError, match=f"{name}=.*: expected a (whole )?number from"):
        enable_lora(model, **{"rank": 2, name: value})
    assert len(model.trainable_variables) == trainable


def test_twice_and_never():
    model = build("bert").model
    with pytest.raises(ValueError, match="no LoRA products"):
        merge_lora(model)
    enable_lora(model, 2)
    with pytest.raises(ValueError, match="has LoRA products already"):
        enable_lora(model, 2)
    merge_lora(model)
    enable_lora(model, 4, pattern="ffn")
    assert all(4 in v.shape for v in model.trainable_variables)


def test_quantized_layers_are_refused():
    model = build("bert", with_lm=None, with_nsp=None).model
    for layer in model._flatten_layers():
        if layer.path == "block_1/attention/query":
            layer.quantize("int8")
    with pytest.raises(ValueError, match=r"block_1/attention/query is quantized.*merge_lora"):
        enable_lora(model, 2)
