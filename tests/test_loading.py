"""What is in people's directories: other prefixes, other keys, other files than a model needs."""

import json
import re
import warnings
from functools import partial

import keras
import numpy as np
import pytest

from bert4keras_lite import build_transformer_model
from bert4keras_lite.checkpoints import CheckpointError, open_checkpoint, save_checkpoint
from bert4keras_lite.checkpoints.dialects import adapt
from bert4keras_lite.checkpoints.matching import is_copy
from bert4keras_lite.checkpoints.torch_file import Storage, Tensor, named_tensors
from bert4keras_lite.mappings import SKIPPABLE
from bert4keras_lite.models import Transformer

pytestmark = [pytest.mark.once, pytest.mark.filterwarnings("ignore:.*never trained")]

SIZES = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position": 16,
}


def small(model="bert", **options):
    return build_transformer_model(model=model, return_keras_model=False, **(SIZES | options))


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A directory with a BERT in Hugging Face's form."""
    directory = tmp_path_factory.mktemp("bert")
    small(with_lm="linear").save_checkpoint(directory, "hf")
    return directory


@pytest.fixture
def rewritten(bert, tmp_path):
    """Gives a copy of `bert` with other names of weights, and more keys in its config.

    Args: `rename`, a function of a name; `arrays` to add, and `keys` of the config (None: take
        out).
    """

    def rewritten(rename=str, arrays=None, keys=None):
        weights = open_checkpoint(bert)
        tensors = {rename(name): weights[name] for name in weights} | (arrays or {})
        save_checkpoint(tmp_path / "model.safetensors", tensors, "safetensors")
        config = json.loads((bert / "config.json").read_text()) | (keys or {})
        config = {key: value for key, value in config.items() if value is not None}
        (tmp_path / "config.json").write_text(json.dumps(config))
        return tmp_path

    return rewritten


def load(directory, **options):
    return build_transformer_model(directory, return_keras_model=False, **options)


def assert_same_weights(first, second):
    for path, variable in second.variables.items():
        np.testing.assert_array_equal(first.variables[path], variable, path)


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "module.model.", "model._orig_mod."]
)
@pytest.mark.parametrize("keys", [{}, {"model_type": None}], ids=["config", "by names"])
def test_prefixes_of_wrappers(bert, rewritten, prefix, keys):
    again = load(rewritten(lambda name: prefix + name, keys=keys), with_lm="linear")
    assert_same_weights(again, load(bert, with_lm="linear"))


def test_a_name_with_and_without_a_prefix(rewritten):
    """Of two models in one file neither is taken for the other."""
    name = "bert.pooler.dense.weight"
    arrays = {name: np.ones((8, 8), "float32"), f"model.{name}": np.zeros((8, 8), "float32")}
    arrays |= {"bert.pooler.dense.bias": np.ones(8, "float32")}
    with pytest.warns(UserWarning, match=r"left unused, 1 arrays: model\.bert\.pooler"):
        pooled = load(rewritten(arrays=arrays), with_pool=True)
    np.testing.assert_array_equal(pooled.variables["pooler/kernel"], np.ones((8, 8)))


@pytest.mark.parametrize("first", [False, True])
def test_of_two_models_in_one_file_the_one_with_the_exact_names_counts(bert, rewritten, first):
    weights = open_checkpoint(bert)
    zeros = {f"teacher.{n.removeprefix('bert.')}": 0 * weights[n] for n in weights}
    arrays = {n: weights[n] for n in weights}
    arrays = zeros | arrays if first else arrays | zeros
    with pytest.warns(UserWarning, match=r"left unused, \d+ arrays: teacher\."):
        again = build_transformer_model(bert / "config.json", arrays, return_keras_model=False)
    assert_same_weights(load(bert), again)


def test_of_two_models_in_one_file_neither_is_guessed(bert):
    weights = open_checkpoint(bert)
    body = [n for n in weights if n.startswith("bert.")]
    arrays = {n.replace("bert", which, 1): weights[n] for which in ("query", "key") for n in body}
    with pytest.raises(CheckpointError, match=r"- bert\.embeddings.*"):
        build_transformer_model(bert / "config.json", arrays)


def test_weights_of_layers_that_are_built_without_them(bert):
    message = r"\+ bert\.encoder\.layer\.0[^+]*bias\n.*the parts of model='bert'\. Pass that"
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        load(bert, use_bias=False)
    with pytest.warns(UserWarning, match=r"(?s)ignored, as requested:\n\+ bert\.encoder.*bias"):
        load(bert, use_bias=False, ignore_invalid_weights=True)


TINY = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
TINY |= {"intermediate_size": 16, "num_key_value_heads": 1}
# a family, options, and what its blocks have that those of Llama lack
MORE_PARTS = [
    ("qwen2", {}, r"self_attn\.k_proj\.bias", "the parts of model='qwen2'"),
    ("qwen3", {}, r"self_attn\.k_norm\.weight", "the parts of model='qwen3'"),
    ("llama", {"use_bias": True}, r"mlp\.down_proj\.bias", "Pass the right model="),
]


@pytest.mark.parametrize("prefix", ["model.", "", "qwen."])
@pytest.mark.parametrize(("family", "options", "part", "hint"), MORE_PARTS)
def test_parts_of_a_block_that_the_model_lacks(family, options, part, hint, prefix, tmp_path):
    """Without a model_type, a directory opened as another family would give other numbers."""
    transformer = build_transformer_model(model=family, return_keras_model=False, **TINY, **options)
    transformer.save_checkpoint(tmp_path, "hf")
    values = json.loads((tmp_path / "config.json").read_text())
    config = {key: value for key, value in values.items() if "_bias" not in key}
    del config["model_type"], config["architectures"]
    checkpoint = open_checkpoint(tmp_path)
    weights = {n.replace("model.", prefix, 1): checkpoint[n] for n in checkpoint}
    weights["head.of.another_task"] = np.ones(2, "float32")
    build = partial(build_transformer_model, config, weights, model="llama")
    with pytest.raises(CheckpointError, match=rf"(?s)\+ \S*layers\.0\.{part}\n.*\n") as caught:
        build()
    assert "head.of" not in str(caught.value)
    weights.pop("head.of.another_task")
    with pytest.raises(CheckpointError, match=hint):
        build()
    with pytest.warns(UserWarning, match=rf"(?s)ignored, as requested:.*{part}"):
        build(ignore_invalid_weights=True)
    if not options:
        build_transformer_model(config, weights, model=family)


@pytest.mark.parametrize(
    "name, other",
    [
        ("bert.embeddings.LayerNorm.weight", "bert.embeddings.LayerNorm.gamma"),
        ("cls.predictions.bias", "cls.predictions.decoder.bias"),
    ],
)
def test_a_weight_under_two_spellings(bert, rewritten, name, other):
    values = open_checkpoint(bert)[name]
    again = load(rewritten(arrays={other: values}), with_lm="linear")
    assert_same_weights(again, load(bert, with_lm="linear"))
    said = f"! {name}: differs from {other}, which is another name of it"
    with pytest.raises(CheckpointError, match=re.escape(said)):
        load(rewritten(arrays={other: values + (np.arange(len(values)) == 7)}), with_lm="linear")


QUERY = "bert.encoder.layer.0.attention.self.query.weight"


@pytest.mark.parametrize("dtype", ["int8", "bool", "complex64", "int64"])
@pytest.mark.parametrize("name", [QUERY, "bert.embeddings.word_embeddings.weight"])
def test_weights_that_are_no_floating_point_numbers(bert, rewritten, name, dtype):
    values = np.ones(open_checkpoint(bert).shape(name), dtype)
    said = f"! {name}: holds numbers of dtype {dtype}; expected floating point numbers"
    with pytest.raises(CheckpointError, match=re.escape(said)):
        load(rewritten(arrays={name: values}))
    with pytest.warns(UserWarning, match=re.escape(said)):
        load(rewritten(arrays={name: values}), ignore_invalid_weights=True)


def test_numbers_that_only_a_wider_dtype_has(bert, rewritten):
    fits = open_checkpoint(bert)[QUERY].astype("float64")
    assert_same_weights(load(rewritten(arrays={QUERY: fits})), load(bert))
    fits[0, 0] = np.inf  # is what was saved
    load(rewritten(arrays={QUERY: fits}))
    fits[3, 5] = 1e300
    said = f"! {QUERY}: holds numbers of dtype float64 that are infinite in float32"
    with pytest.raises(CheckpointError, match=said):
        load(rewritten(arrays={QUERY: fits}))
    halves = {QUERY: fits.clip(-1, 1).astype("float16")}
    assert load(rewritten(arrays=halves)).variables["block_0/attention/query/kernel"].shape == (
        8,
        8,
    )
    keras.config.set_dtype_policy("float16")
    try:
        model = small()
    finally:
        keras.config.set_dtype_policy("float32")
    wide = np.full((8, 8), 1e5, "float32")
    with pytest.raises(
        CheckpointError, match=f"! {QUERY}: .* float32 that are infinite in float16"
    ):
        model.load_checkpoint(rewritten(arrays={QUERY: wide}))


def test_numbers_that_are_stored_otherwise(bert, tmp_path):
    """In another order of bytes, or as NumPy alone has them; objects of Python are no numbers."""
    weights = open_checkpoint(bert)
    for dtype in (">f4", ">f2", np.longdouble):
        arrays = {name: weights[name].astype(dtype) for name in weights}
        np.savez(tmp_path / "weights.npz", **arrays)
        for checkpoint in (arrays, tmp_path / "weights.npz"):
            query = build_transformer_model(
                bert / "config.json", checkpoint, return_keras_model=False
            ).variables["block_0/attention/query/kernel"]
            stored = np.asarray(arrays[QUERY].T, "float32")
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(query), stored)
    arrays[QUERY] = arrays[QUERY].astype(object)
    for prefix in ("", "module."):
        objects = {prefix + name: array for name, array in arrays.items()}
        with pytest.raises(
            CheckpointError, match=f"! {QUERY}: holds numbers of dtype object; expected"
        ):
            build_transformer_model(bert / "config.json", objects)
    np.savez(tmp_path / "objects.npz", **arrays)
    transformer = build_transformer_model(bert / "config.json", return_keras_model=False)
    before = transformer.model.get_weights()
    with pytest.raises(CheckpointError, match=f"'{QUERY}' holds values of dtype object"):
        transformer.load_checkpoint(tmp_path / "objects.npz")
    for weight, old in zip(transformer.model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_whole_numbers_that_are_no_weights(bert, rewritten):
    ids = {"bert.embeddings.position_ids": np.arange(16)[None], "global_step": np.int64(3)}
    assert_same_weights(load(rewritten(arrays=ids)), load(bert))


@pytest.mark.parametrize("row", [0, 1, 2, 4999])
def test_a_copy_is_compared_in_all_rows(row):
    table = np.random.default_rng(0).standard_normal((5000, 64), "float32")
    arrays = {"tokens": table, "copy": table.copy(), "head": table.copy(), "one": np.ones(())}
    arrays["head"][row, 3] += 1
    assert is_copy(arrays, "copy", "tokens") and is_copy(arrays, "one", "one")
    assert not is_copy(arrays, "head", "tokens")


TENSOR = Tensor(Storage("0", np.dtype("f4"), 4), np.dtype("f4"), 0, (4,), (1,))
WEIGHTS = {"a.weight": TENSOR, "a.bias": TENSOR}
ADAM = {"state": {0: {"exp_avg": TENSOR}}, "param_groups": [{"lr": 0.1}]}


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ({"net": WEIGHTS, "epoch": 1}, ["a.weight", "a.bias"]),
        ({"net": WEIGHTS, "optim": ADAM, "schedule": {"last_epoch": 3}}, ["a.weight", "a.bias"]),
        (
            {"checkpoint": {"model": WEIGHTS}},
            ["checkpoint.model.a.weight", "checkpoint.model.a.bias"],
        ),
        ({"module": {"net": WEIGHTS}}, ["a.weight", "a.bias"]),
        # which of the two is meant cannot be known
        ({"net": {"a": TENSOR}, "ema": {"a": TENSOR}}, ["net.a", "ema.a"]),
        ({"layer": {"a": TENSOR}, "bias": TENSOR}, ["layer.a", "bias"]),
    ],
)  # fmt: skip
def test_wrappers_in_a_pickle(value, names):
    assert list(named_tensors(value)) == names


@pytest.mark.parametrize(
    "name",
    [
        "bert.encoder.layer.0.output.dense.weight.absmax",
        "bert.encoder.layer.0.output.dense.weight.quant_state.bitsandbytes__nf4",
        "bert.encoder.layer.0.output.dense.SCB",
        "bert.encoder.layer.0.output.dense.weight_scale_inv",
        "bert.encoder.layer.0.output.dense.qweight",
    ],
)
def test_quantized_weights_are_refused_as_such(rewritten, name):
    directory = rewritten(arrays={name: np.ones(8, "float32")})
    with pytest.raises(
        CheckpointError, match=r"weights are quantized \(see 'bert\.encoder.*dequantize"
    ):
        load(directory)


def of_other_shapes(sign, shapes):
    """A checkpoint of a dialect, by one of its names, with zeros of these shapes."""
    return {name: np.zeros(shape, "float32") for name, shape in {sign: (1, 2), **shapes}.items()}


@pytest.mark.parametrize(
    "sign, name, shape, expected",
    [
        ("embedding.layer_norm.gamma", "embedding.seg.embedding.weight", (), "1 row or more"),
        ("embedding.layer_norm.gamma", "embedding.seg.embedding.weight", (0, 4), "1 row or more"),
        ("model/h0/attn/c_attn/w", "model/h0/mlp/c_fc/w", (), "1 row"),
        ("model/h0/mlp/c_fc/b", "model/h0/attn/c_attn/w", (2, 4, 4), "1 row"),
    ],
)
def test_shapes_that_a_dialect_does_not_have(sign, name, shape, expected):
    said = f"{name}': expected {expected}, got the shape {shape}"
    with pytest.raises(CheckpointError, match=re.escape(said)):
        adapt(of_other_shapes(sign, {name: shape}))


OFFICIAL = "transformer/layer_0/self_attention/query/kernel"


@pytest.mark.parametrize(
    "sign, first, second",
    [
        (OFFICIAL, OFFICIAL, f"Adam/m/{OFFICIAL}"),
        (OFFICIAL, OFFICIAL, f"{OFFICIAL}:0"),
        (OFFICIAL, "type_embeddings/embeddings", "bert/embeddings/token_type_embeddings"),
        (
            "embedding.layer_norm.gamma",
            "embedding.word.embedding.weight",
            "embedding.word_embedding.weight",
        ),
        (
            "decoder.transformer_decoder.0.context_attn.x",
            "encoder.block.0.layer.1.DenseReluDense.wi_1.weight",
            "encoder.block.0.layer.1.DenseReluDense.wi.weight",
        ),
    ],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_two_names_that_a_dialect_reads_as_one(sign, first, second, reverse):
    names = (second, first) if reverse else (first, second)
    with pytest.raises(CheckpointError, match="; expected one of them") as error:
        adapt(of_other_shapes(sign, dict.fromkeys(names, (2, 4))))
    assert repr(first) in str(error.value) and repr(second) in str(error.value)


@pytest.mark.parametrize("ending", ["", ":0", "/.ATTRIBUTES/VARIABLE_VALUE"])
def test_what_an_optimizer_keeps_of_the_official_bert(ending):
    """It is not taken for the weight, and needs no word."""
    slots = ["/adam_m", "/adam_v", "/.OPTIMIZER_SLOT/optimizer/m/.ATTRIBUTES/VARIABLE_VALUE"]
    weights = {OFFICIAL: np.ones((8, 2, 4)), "word_embeddings/embeddings": np.ones((20, 8))}
    weights = {f"model/{name}": array for name, array in weights.items()}
    moments = {name + slot: 0 * array for name, array in weights.items() for slot in slots}
    found = adapt({name + ending: array for name, array in weights.items()} | moments)
    query = found["bert/encoder/layer_0/attention/self/query/kernel"]
    np.testing.assert_array_equal(query, np.ones((8, 8)))
    np.testing.assert_array_equal(found["bert/embeddings/word_embeddings"], np.ones((20, 8)))
    assert all(any(re.fullmatch(p, name) for p in SKIPPABLE) for name in moments)


@pytest.mark.parametrize("model, format", [("bert", "hf"), ("gpt2", "hf"), ("albert", "tf")])
def test_an_axis_too_many_is_another_shape(tmp_path, model, format):
    """Only TensorFlow 2's BERT has one for the heads: others would be reshaped, not turned."""
    saved = small(model)
    saved.save_checkpoint(tmp_path, format)
    arrays = dict(open_checkpoint(tmp_path))
    for name, array in arrays.items():
        for shape in ((*array.shape, 1), (1, *array.shape), (array.size // 4, 2, 2)):
            with pytest.raises(CheckpointError, match=rf"! {re.escape(name)}: "):
                saved.load_checkpoint(arrays | {name: array.reshape(shape)})


def test_other_axes_than_those_of_heads(tmp_path):
    small().save_checkpoint(tmp_path, "tf")
    arrays = dict(open_checkpoint(tmp_path))
    attention = "bert/encoder/layer_0/attention/"
    split = {
        f"{attention}self/query/kernel": (8, 2, 4),
        f"{attention}self/key/bias": (2, 4),
        f"{attention}output/dense/kernel": (2, 4, 8),
    }
    fits = {name: arrays[name].reshape(shape) for name, shape in split.items()}
    again = build_transformer_model(tmp_path, arrays | fits, return_keras_model=False)
    assert_same_weights(again, load(tmp_path))
    for name, shape in (
        (f"{attention}self/query/kernel", (1, 8, 8, 1)),
        (f"{attention}output/dense/kernel", (2, 2, 8)),
        (f"{attention}output/dense/bias", (2, 4)),
        ("bert/pooler/dense/kernel", (8, 2, 4)),
    ):
        array = np.resize(arrays.get(name, np.zeros(64, "float32")), shape)
        options = {"with_pool": True} if "pooler" in name else {}
        with pytest.raises(CheckpointError, match=f"! {name}: "):
            build_transformer_model(tmp_path, arrays | {name: array}, **options)


def test_axes_of_heads_are_held_against_the_config(tmp_path):
    """Shapes that join to the same size would give other numbers without a word."""
    small().save_checkpoint(tmp_path, "tf")
    arrays = dict(open_checkpoint(tmp_path))
    prefix = "bert/encoder/layer_{}/attention/self/query/kernel"
    first, second = (prefix.format(i) for i in range(2))
    four = {name: arrays[name].reshape(8, 4, 2) for name in (first, second)}
    said = "axis for 4 heads, and the model has num_attention_heads=2"
    with pytest.raises(CheckpointError, match=said):
        build_transformer_model(tmp_path, arrays | four)
    two = {second: arrays[second].reshape(8, 2, 4)}
    with pytest.raises(
        CheckpointError, match=r"layer_0.* has 4 heads, .*layer_1.* has 2; expected"
    ):
        build_transformer_model(tmp_path, arrays | four | two)
    measured = build_transformer_model(None, arrays | four, return_keras_model=False)
    assert measured.config.num_attention_heads == 4


@pytest.mark.parametrize(
    "narrow, wide, said",
    [
        (
            (8, 2),
            (2,),
            "expected matrices to multiply, of one dtype, got the shapes (8, 2) and (2,)",
        ),
        ((), (2, 3), "got the shapes () and (2, 3)"),
        ((8, 2), (3, 4), "got the shapes (8, 2) and (3, 4)"),
        ((20_000, 1), (1, 20_000), "expected a product of at most 67108864 bytes"),
    ],
)
def test_tables_of_albert_that_cannot_be_multiplied(narrow, wide, said):
    table = "bert/embeddings/word_embeddings"
    arrays = {table: np.zeros(narrow, "float32"), f"{table}_2": np.zeros(wide, "float32")}
    with pytest.raises(CheckpointError, match=re.escape(said)) as error:
        adapt(arrays)
    assert f"the checkpoint: '{table}' and '{table}_2'" in str(error.value)
    with pytest.raises(CheckpointError, match=f"holds '{table}_2'; expected '{table}' as well"):
        adapt({f"{table}_2": arrays[f"{table}_2"]})


@pytest.mark.parametrize("size", [(312, 312, 1248), (768, 768, 3072), (2048, 2048, 8192)])
def test_tables_of_published_alberts_are_multiplied(size):
    hidden, _, intermediate = size
    block = "bert/encoder/layer_shared"
    shapes = {
        "bert/embeddings/word_embeddings": (21128, 128),
        "bert/embeddings/word_embeddings_2": (128, hidden),
        "bert/embeddings/position_embeddings": (512, hidden),
        "bert/pooler/dense/kernel": (hidden, hidden),
        f"{block}/attention/output/dense/kernel": (hidden, hidden),
        f"{block}/intermediate/dense/kernel": (hidden, intermediate),
        f"{block}/output/dense/kernel": (intermediate, hidden),
    }
    shapes |= {
        f"{block}/attention/self/{x}/kernel": (hidden, hidden) for x in ("query", "key", "value")
    }
    zero = np.zeros((), "float32")  # repeated
    found = adapt({name: np.broadcast_to(zero, shape) for name, shape in shapes.items()})
    assert found.shape("bert/embeddings/word_embeddings") == (21128, hidden)


@pytest.mark.parametrize("shape", [(), (5,)])
@pytest.mark.parametrize(
    "model, name",
    [
        ("bert", "bert.embeddings.word_embeddings.weight"),
        ("bert", "bert.encoder.layer.0.intermediate.dense.weight"),
        ("gpt2", "transformer.wte.weight"),
        ("t5.1.1", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
        ("t5.1.1", "encoder.block.0.layer.0.SelfAttention.q.weight"),
    ],
)
def test_a_matrix_without_two_axes(model, name, shape):
    values = {name: np.zeros(shape, "float32")}
    said = f"the checkpoint: '{name}': expected two axes, got the shape {shape}."
    with pytest.raises(CheckpointError, match=re.escape(said)):
        build_transformer_model(None, values, model)


def test_other_arrays_of_too_few_axes(tmp_path):
    small("gpt2").save_checkpoint(tmp_path, "hf")
    arrays = dict(open_checkpoint(tmp_path))
    name = "transformer.h.0.attn.c_attn.weight"
    for options in ({}, {"autoresize_weights": True}, {"keep_tokens": [1, 2]}):
        for shape in ((), (0, 5), (16, 5)):
            arrays[name] = np.zeros(shape, "float32")
            said = f"! {name}: {shape} in the checkpoint, "
            with pytest.raises(CheckpointError, match=re.escape(said)):
                build_transformer_model(tmp_path, arrays, **options)


def test_resizing_with_an_activation_that_is_a_function(tmp_path):
    # of a gated layer's input, all activations but relu take the square root of the growth
    small().save_checkpoint(tmp_path, "hf")
    found = [
        build_transformer_model(
            tmp_path, hidden_act=act, intermediate_size=40, autoresize_weights=True
        ).get_weights()
        for act in ("tanh", lambda x: keras.ops.tanh(x))
    ]
    for by_name, by_function in zip(*found, strict=True):
        assert np.isfinite(by_name).all()  # zeros stay zeros
        np.testing.assert_array_equal(by_name, by_function)


def test_a_state_file_that_names_an_absent_step(tmp_path):
    for step in (1, 2):
        save_checkpoint(tmp_path / f"model.ckpt-{step}", {"a": np.ones(1)})
    state = tmp_path / "checkpoint"
    state.write_text('model_checkpoint_path: "model.ckpt-3"\n')
    with pytest.raises(
        CheckpointError, match=r"checkpoint: names 'model\.ckpt-3', which.*ckpt-1, mod"
    ):
        open_checkpoint(tmp_path)


# --- configs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        {"auto_map": {"AutoModel": "x.Y"}},
        {"xla_device": True},
        {"loss_type": "ForMaskedLM"},
        {"transformers.js_config": {"dtype": "q8"}},
        {"keys_to_ignore_at_inference": ["x"]},
    ],
    ids=lambda keys: next(iter(keys)),
)
def test_bookkeeping_of_transformers_is_ignored(rewritten, keys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(rewritten(keys=keys))


@pytest.mark.parametrize(
    "keys",
    [{"label_map": {"a": 0}}, {"max_seq_len": 128}, {"emb_pooler": "cls"}, {"e": 1}, {"be": 1}],
)
def test_a_key_of_somebodys_own_is_a_warning_where_all_weights_fit(rewritten, keys):
    key = next(iter(keys))
    with pytest.warns(UserWarning, match=rf"config\.json: the key '{key}' .*is ignored"):
        load(rewritten(keys=keys))


def test_a_key_of_somebodys_own_is_an_error_without_weights_or_beside_strange_ones(rewritten):
    keys = {"fancy_gate": "on"}
    directory = rewritten(arrays={"bert.encoder.gate": np.ones(8, "float32")}, keys=keys)
    advice = r"config\.json: the key 'fancy_gate' .*may change the architecture.*remove it"
    with pytest.raises(ValueError, match=advice):
        load(directory)
    with pytest.raises(ValueError, match=advice):
        build_transformer_model(directory / "config.json")


@pytest.mark.parametrize(
    "key",
    [
        *("entity_vocab_size", "num_fusion_layers", "logit_scaling", "pooler"),
        *("num_attention_head", "intermediate_dim", "prelayernorm", "embeding_size"),
    ],
)
def test_a_key_that_shapes_the_model_is_always_an_error(rewritten, key):
    arrays = {"bert.pooler.dense.weight": np.ones((8, 8), "float32")}
    arrays |= {"bert.pooler.dense.bias": np.ones(8, "float32")}
    with pytest.raises(ValueError, match=f"the key '{key}'.*is part of the architecture") as caught:
        load(rewritten(arrays=arrays, keys={key: 2}))
    assert "remove it" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "ours", "theirs"),
    [
        ("type_vocab_size", "segment_vocab_size", 2),
        ("max_position_embeddings", "max_position", 16),
        ("num_hidden_layers", "num_hidden_layers", 2),
        ("intermediate_size", "intermediate_size", 16),
    ],
)
def test_a_size_that_is_not_that_of_the_weights_is_named(rewritten, key, ours, theirs):
    advice = rf"with {ours}={theirs}; this one has {ours}={theirs + 2}\. Correct the config"
    with pytest.raises(CheckpointError, match=advice):
        load(rewritten(keys={key: theirs + 2}))


def test_an_unknown_model_type_can_be_overruled(bert, rewritten):
    directory = rewritten(keys={"model_type": "our-bert"})
    with pytest.raises(ValueError, match=r"model_type is 'our-bert'.*pass it as model="):
        load(directory)
    assert_same_weights(load(directory, model="bert"), load(bert))


ROBERTA = {"model_type": "roberta", "pad_token_id": 1}


def test_roberta_is_another_graph(rewritten):
    """bert4keras' "roberta" is a BERT; the published type counts positions from 2."""
    directory = rewritten(keys=ROBERTA)
    assert load(directory).config.first_position == 2
    with pytest.raises(ValueError, match=r"model='roberta' \(a BERT, as in bert4keras\)"):
        load(directory, model="roberta")
    sizes = {"position_embeddings": (18, 8), "token_type_embeddings": (1, 8)}
    prefix = "bert.embeddings."
    arrays = {f"{prefix}{n}.weight": np.ones(s, "float32") for n, s in sizes.items()}
    no_sizes = {"max_position_embeddings": None, "type_vocab_size": None}
    directory = rewritten(arrays=arrays, keys={"model_type": None} | no_sizes)
    with pytest.raises(ValueError, match=r"18 positions and 1 segment .*Pass model='xlm_roberta'"):
        load(directory, model="roberta")
    assert load(directory, model="xlm_roberta").config.most_tokens == 16


@pytest.mark.parametrize("keys", [ROBERTA, {"model_type": None}], ids=["config", "names"])
def test_names_of_roberta(bert, rewritten, keys):
    directory = rewritten(lambda name: name.replace("bert.", "roberta."), keys=keys)
    again = load(directory)
    assert again.config.family == "fairseq_roberta"
    assert_same_weights(again, load(bert))


def test_padding_of_another_vocabulary_is_no_robertas(rewritten):
    """Positions are counted from the padding id, so another one would give other numbers."""
    with pytest.raises(ValueError, match="pad_token_id is 0; expected 1, from which roberta"):
        load(rewritten(keys=ROBERTA | {"pad_token_id": 0}))
    directory = rewritten(keys=ROBERTA)
    files = {
        "vocab.txt": ("[CLS]\n[PAD]\n[SEP]\n", "[PAD]\n[CLS]\n[SEP]\n"),
        "vocab.json": ('{"<s>": 0, "<pad>": 1}', '{"<pad>": 0}'),
        "tokenizer_config.json": (
            '{"pad_token": "<pad>", "added_tokens_decoder": {"1": {"content": "<pad>"}}}',
            '{"pad_token": {"content": "[P]"}, "added_tokens_decoder": {"0": {"content": "[P]"}}}',
        ),
    }
    for name, (right, wrong) in files.items():
        (directory / name).write_text(right)
        load(directory)
        (directory / name).write_text(wrong)
        with pytest.raises(ValueError, match=rf"{name}: the padding token has the id 0"):
            load(directory)
        (directory / name).unlink()


@pytest.mark.parametrize("prefix", ["ernie.", "bert.", ""])
@pytest.mark.parametrize("model_type", ["ernie", "bert", None])
def test_ernie_is_told_by_its_task_types(tmp_path, prefix, model_type):
    """The first revisions of ERNIE 3.0 say that they are a BERT."""
    whole = small("ernie", task_vocab_size=3)
    whole.save_checkpoint(tmp_path / "a", "hf")
    weights = open_checkpoint(tmp_path / "a")
    tensors = {prefix + name.removeprefix("ernie."): weights[name] for name in weights}
    config = json.loads((tmp_path / "a/config.json").read_text())
    (tmp_path / "b").mkdir()
    save_checkpoint(tmp_path / "b/model.safetensors", tensors, "safetensors")
    keys = {"model_type": model_type, "architectures": None}
    config = {key: value for key, value in (config | keys).items() if value is not None}
    (tmp_path / "b/config.json").write_text(json.dumps(config))
    again = load(tmp_path / "b")
    assert (again.config.family, again.config.task_vocab_size) == ("ernie", 3)
    assert_same_weights(again, whole)


def test_promised_task_types_that_are_missing(tmp_path):
    small("ernie").save_checkpoint(tmp_path, "hf")
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["use_task_id"] is False
    (tmp_path / "config.json").write_text(json.dumps(config | {"task_type_vocab_size": 3}))
    assert load(tmp_path).config.task_vocab_size == 0  # as transformers writes an ERNIE 1.0
    config |= {"use_task_id": True, "task_type_vocab_size": 3}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.warns(UserWarning, match="task_type_vocab_size is 3, but the weights have no task"):
        assert load(tmp_path).config.task_vocab_size == 0


def test_segments_that_the_config_has_none_of(tmp_path):
    small("bert").save_checkpoint(tmp_path, "hf")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"type_vocab_size": 0}))
    with pytest.raises(CheckpointError, match="has vectors of 2 segments, and type_vocab_size of"):
        load(tmp_path)
    assert load(tmp_path, segment_vocab_size=0).config.segment_vocab_size == 0


@pytest.mark.parametrize("prefix", ["deberta", "camembert", "erniem", "rembert"])
def test_names_of_another_graph_are_no_bert(bert, rewritten, prefix):
    """Their names are BERT's but for the prefix, their numbers are not."""

    def directory(prefix, **arrays):
        return rewritten(
            lambda name: name.replace("bert.", f"{prefix}."), arrays, {"model_type": None}
        )

    with pytest.raises(ValueError, match=f"begin with '{prefix}'.*pass it as model="):
        load(directory(prefix))
    assert_same_weights(load(directory(prefix), model="bert"), load(bert))
    assert_same_weights(load(directory("our_own")), load(bert))
    with pytest.warns(UserWarning, match=f"left unused, 1 arrays: {prefix}"):  # beside a BERT
        load(directory("bert", **{f"{prefix}.pooler.dense.bias": np.ones(8, "float32")}))


@pytest.mark.parametrize(
    "name",
    ["CamembertModel", "TFXLMRobertaXLForMaskedLM", "BertGenerationEncoder"],
)
def test_classes_of_another_graph_are_no_bert(rewritten, name):
    directory = rewritten(keys={"model_type": None, "architectures": [name]})
    with pytest.raises(ValueError, match=f"architectures has '{name}'"):
        load(directory)
    load(directory, model="bert")
    load(rewritten(keys={"model_type": None, "architectures": ["BertForMaskedLM", "Classifier"]}))


@pytest.mark.parametrize("name", ["XLMRobertaModel", "TFRobertaForMaskedLM", "RobertaLMHeadModel"])
def test_classes_tell_roberta_from_bert(rewritten, name):
    """A file of the model alone has exactly BERT's names."""
    bare = {"model_type": None, "architectures": [name], "pad_token_id": 1}
    family = load(rewritten(lambda name: name.removeprefix("bert."), keys=bare)).config.family
    assert family == ("xlm_roberta" if "XLM" in name else "fairseq_roberta")


def test_a_head_of_roberta_is_not_bert(rewritten):
    arrays = {"lm_head.dense.weight": np.ones((8, 8), "float32")}
    with pytest.raises(ValueError, match=r"'lm_head.dense.weight' is the head of a RoBERTa"):
        load(rewritten(arrays=arrays, keys={"model_type": None}))


# --- what a model is asked to be ------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"model": "mt5.1.1_encoder"}, {"with_lm": False}], ids=str)
def test_an_untied_head_that_is_not_built(tmp_path, options):
    whole = small("mt5.1.1", with_lm="linear")
    whole.save_checkpoint(tmp_path, "hf")
    part = load(tmp_path, **options)
    assert not any("lm_head" in path for path in part.variables)
    assert_same_weights(whole, part)


def test_an_untied_head_in_a_file_of_keras_is_told(tmp_path):
    small(with_lm="linear", tie_word_embeddings=False).model.save(tmp_path / "m.keras")
    with pytest.raises(CheckpointError, match="build with tie_word_embeddings=False"):
        build_transformer_model(None, tmp_path / "m.keras", model="bert", with_lm="linear", **SIZES)


def test_an_activation_that_is_given_needs_no_caution(tmp_path):
    small("albert", embedding_size=4).save_checkpoint(tmp_path)
    file = tmp_path / "bert_config.json"
    config = json.loads(file.read_text()) | {"hidden_act": "gelu"}
    del config["model_type"]
    file.write_text(json.dumps(config))
    with pytest.warns(UserWarning, match="tanh form"):
        load(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(tmp_path, hidden_act="gelu_erf").config.hidden_act == "gelu_erf"


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("gpt2", {"segment_vocab_size": 2}, "pass segment_vocab_size=0 to leave out"),
        ("bert", {"with_nsp": True}, "pass with_nsp=False, with_pool=False to leave out"),
    ],
)
def test_how_to_leave_out_what_is_missing(tmp_path, model, options, words):
    small(model).save_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match=words):
        load(tmp_path, **options)


@pytest.mark.parametrize("formats", [("hf", "tf"), ("tf", "hf"), ("hf", "keras"), ("keras", "tf")])
def test_a_directory_holds_one_format(tmp_path, formats):
    """Readers would take the weights of the one with the config and vocabulary of the other."""
    first, second = small(), small(num_attention_heads=4)
    first.save_checkpoint(tmp_path, formats[0])
    first.save_checkpoint(tmp_path, formats[0])  # over itself
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="of a checkpoint in another format"):
        second.save_checkpoint(tmp_path, formats[1])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# --- blocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["tf", "hf", "keras"])
@pytest.mark.parametrize("model", ["bert", "t5.1.1"])
def test_blocks_that_the_weights_lack_are_not_built(monkeypatch, tmp_path, model, format):
    small(model).save_checkpoint(tmp_path, format)
    claims = {"model": model} | ({"num_decoder_layers": 128} if model != "bert" else {})
    with pytest.warns(UserWarning, match="ignored, as requested"):  # which is another wish
        load(tmp_path, model=model, num_hidden_layers=3, ignore_invalid_weights=True)

    def block(self, name, **options):
        raise AssertionError(f"{name} is built")

    monkeypatch.setattr(Transformer, "block", block)
    with pytest.raises(CheckpointError, match=r"does not match the model .*\n- .*block_2") as error:
        load(tmp_path, num_hidden_layers=128, **claims)
    assert str(tmp_path) in str(error.value) and "... and" in str(error.value)
    size = "num_decoder_layers" if "num_decoder_layers" in claims else "num_hidden_layers"
    assert format == "keras" or f"{size}=128. Correct" in str(error.value)
