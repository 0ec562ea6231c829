"""Layers with windows, distances in buckets, masked convolution, shared heads, the hook."""

import json

import keras
import numpy as np
import pytest
from goldens.recipes import FOLDER
from running import outputs_of
from test_families import SIZES, build, inputs_of

from bert4keras_lite.configs.published import translate
from bert4keras_lite.layers import (
    Convolution,
    DistanceVectors,
    MultiHeadAttention,
    RotaryAngles,
    WindowBias,
)
from bert4keras_lite.models import Transformer, build_transformer_model

SLIDING = {
    "layer_kinds": ("full", "sliding"),
    "position": "rotary",
    "segment_vocab_size": 0,
    "with_nsp": False,
}


def test_a_window_as_wide_as_the_text_is_full_attention():
    full = build("bert", **SLIDING | {"layer_kinds": ("full",)})
    wide = build("bert", **SLIDING, window=9)
    narrow = build("bert", **SLIDING, window=1)
    inputs = inputs_of(full)
    first, second, third = (outputs_of(t.model, inputs)[0] for t in (full, wide, narrow))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - third)[0].max() > 1e-2


def test_a_token_sees_what_is_in_the_windows_of_all_layers():
    transformer = build("bert", **SLIDING | {"layer_kinds": ("sliding",)}, window=1)
    (tokens,) = inputs_of(transformer, padded=False)
    changed = tokens.copy()
    changed[:, 4] = 1 + changed[:, 4] % 58
    before, after = (outputs_of(transformer.model, [x])[0] for x in (tokens, changed))
    moved = (np.abs(before - after).max((0, 2)) > 1e-6).nonzero()[0]
    assert moved.tolist() == [2, 3, 4, 5, 6]  # two layers with one token on each side


def test_window_bias():
    layer = WindowBias(window=1)
    bias = np.array([[0, 0, 0, -1e9]], "float32")[:, None, None]
    y = keras.ops.convert_to_numpy(layer(bias, np.arange(2)[None] + 1, np.arange(4)[None]))
    expected = [[0, 0, 0, -1e9], [-1e9, 0, 0, -1e9]]
    np.testing.assert_array_equal(y[0, 0], np.array(expected, "float32"))


@pytest.mark.once
@pytest.mark.parametrize("case", json.loads((FOLDER / "buckets.json").read_text()), ids=str)
def test_buckets_are_those_of_transformers(case):
    layer = DistanceVectors(4, case["buckets"], case["max_distance"])
    farthest = len(case["rows"]) // 2
    _, rows = layer(np.arange(2 * farthest + 1)[None], np.array([[farthest]]))
    assert keras.ops.convert_to_numpy(rows)[:, 0].tolist() == case["rows"]


def test_padding_is_zero_in_a_convolution():
    layer = Convolution(3, 3, kernel_initializer="ones")
    x = np.ones((1, 4, 1), "float32")
    bias = np.array([[[[0, 0, -1e9, 0]]]], "float32")
    y = keras.ops.convert_to_numpy(layer(x, bias))
    np.testing.assert_array_equal(y[0, :, 0], [2, 2, 0, 1])


@pytest.mark.parametrize("options", [{"convolution": 3}, {"position": "learned"}])
def test_padding_changes_nothing_in_deberta(options):
    transformer = build("deberta_v2", **options)
    (tokens,) = inputs_of(transformer, padded=False)
    longer = np.pad(tokens, ((0, 0), (0, 5)))
    (short,), (long,) = (outputs_of(transformer.model, [x]) for x in (tokens, longer))
    np.testing.assert_allclose(short, long[:, :9], atol=1e-4)


@pytest.mark.parametrize("kv_heads", [1, 2, 3])
def test_shared_heads_are_repeated_heads(kv_heads):
    x = np.random.RandomState(0).standard_normal((2, 5, 24)).astype("float32")
    shared = MultiHeadAttention(6, 4, num_kv_heads=kv_heads, initializer_range=0.3)
    shared.build(x.shape)
    plain = MultiHeadAttention(6, 4)
    plain.build(x.shape)

    def repeated(array):
        heads = np.reshape(array, (*array.shape[:-1], kv_heads, 4))
        return np.repeat(heads, 6 // kv_heads, axis=-2).reshape(*array.shape[:-1], 24)

    for name in ("query", "key", "value", "output_dense"):
        weights = [w + 0.1 for w in getattr(shared, name).get_weights()]
        getattr(shared, name).set_weights(weights)
        is_shared = name in ("key", "value")
        getattr(plain, name).set_weights([repeated(w) if is_shared else w for w in weights])
    y, z = (keras.ops.convert_to_numpy(layer(x)) for layer in (shared, plain))
    np.testing.assert_allclose(y, z, atol=1e-5)
    assert shared.cache_shapes(2, 7)[0] == (2, kv_heads, 4, 7)


@pytest.mark.parametrize("shares", [False, True])
def test_the_hook_is_called_after_each_block(shares):
    called = []

    class Hooked(Transformer):
        def after_block(self, i, x, embeddings, context):
            called.append(i)
            return x

    build_transformer_model(model=Hooked, **SIZES | {"share_blocks": shares})
    assert called == [0, 1]


@pytest.mark.once
@pytest.mark.parametrize(
    ("config", "kinds", "window"),
    [
        ({"layer_types": ["full_attention", "sliding_attention"] * 2}, ("full", "sliding"), None),
        ({"layer_types": ["sliding_attention"] * 3, "local_attention": 8}, ("sliding",), 4),
        ({"global_attn_every_n_layers": 3, "local_attention": 7}, ("full", *["sliding"] * 2), 3),
        ({"global_attn_every_n_layers": 3, "layer_types": ["full_attention"] * 2}, ("full",), None),
    ],
)
def test_kinds_of_layers_in_configs(config, kinds, window):
    values = translate(config)
    assert (values["layer_kinds"], values.get("window")) == (kinds, window)


GEMMA = {"model_type": "gemma3_text", "num_hidden_layers": 4, "num_attention_heads": 2}


@pytest.mark.once
@pytest.mark.parametrize(
    ("config", "kinds", "window"),
    [
        ({}, (*["sliding"] * 5, "full"), 4095),
        ({"sliding_window_pattern": 2, "sliding_window": 512}, ("sliding", "full"), 511),
        ({"layer_types": ["full_attention"] * 4, "sliding_window": None}, ("full",), None),
        ({"layer_kinds": ["sliding"], "window": 4095}, ["sliding"], 4095),  # of our own files
    ],
)
def test_kinds_of_layers_of_gemma(config, kinds, window):
    values = translate(GEMMA | config)
    assert (values["layer_kinds"], values.get("window")) == (kinds, window)
    assert (values["attention_head_size"], values["attention_scalar"]) == (256, 256)


@pytest.mark.once
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping is 50.0; expected no value"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention is True; expected"),
        (
            {"sliding_window_pattern": 0},
            "sliding_window_pattern is 0; expected a whole number from 1",
        ),
        ({"rope_parameters": {"rope_theta": 5.0}}, "expected an object for 'full_attention'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5; expected 1, or a model_t"),
        ({"mlp_bias": True}, "mlp_bias is true; expected false, or a model_type of llama"),
        ({"text_config": {}, "model_type": "gemma3"}, "text_config is {}; expected no value"),
        ({"query_pre_attn_scalar": 0.5}, "query_pre_attn_scalar is 0.5; expected an integer"),
    ],
)
def test_configs_of_gemma_that_cannot_be_read(config, message):
    with pytest.raises(ValueError, match=message):
        translate(GEMMA | config)


@pytest.mark.once
def test_the_rotated_part_of_a_head_in_configs():
    glm = {"model_type": "glm4"}
    assert "rotary_share" not in translate(glm)  # the family says it
    for told in (
        {"partial_rotary_factor": 0.25},
        {"rope_parameters": {"partial_rotary_factor": 0.25, "rope_theta": 5.0}},
    ):
        assert translate(glm | told)["rotary_share"] == 0.25
    both = {"partial_rotary_factor": 0.5, "rope_parameters": {"partial_rotary_factor": 0.25}}
    with pytest.raises(ValueError, match="partial_rotary_factor of rope_parameters is"):
        translate(glm | both)


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotary_share": 0.1}, "expected an even number of rotated entries of a head, got 0"),
        ({"rotary_share": 0.4}, "expected an even number of rotated entries of a head, got 3"),
        (
            {
                "rotary_scaling": {
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 8,
                }
            },
            "rotary_share=0.5: a part of each head is rotated; expected rotary positions, and no",
        ),
        ({"rotary_share": 2.0}, "rotary_share is 2.0; expected a number from"),
        ({"attention": "nystrom", "attend": "all"}, "an attention_scalar or a rotary_share"),
    ],
)
def test_parts_of_a_head_that_cannot_be_rotated(options, message):
    with pytest.raises(ValueError, match=message):
        build_transformer_model(model="glm", **SIZES | options)


@pytest.mark.once
def test_biases_that_a_config_cannot_say(tmp_path):
    transformer = build("glm", without_bias=("attention/query",))
    with pytest.raises(ValueError, match=r"says by attention_bias which layers have a bias; exp"):
        transformer.save_checkpoint(tmp_path, "hf")


REQUIRED = {
    "relative_attention": True, "position_biased_input": False, "share_att_key": True,
    "norm_rel_ebd": "layer_norm", "pos_att_type": "p2c|c2p", "position_buckets": 8,
}  # fmt: skip


@pytest.mark.once
@pytest.mark.parametrize("key", sorted(REQUIRED.keys() - {"position_biased_input"}))
def test_a_missing_key_of_deberta_is_another_architecture(key):
    config = {"model_type": "deberta-v2", "vocab_size": 60}
    assert translate(config | REQUIRED)["position"] == "none"
    present = {name: value for name, value in REQUIRED.items() if name != key}
    with pytest.raises(ValueError, match=f"^the config: {key} is missing, which means"):
        translate(config | present)


@pytest.mark.once
def test_ntk_scaling_is_that_of_the_published_code():
    """Frequencies of gte's NTKScalingRotaryEmbedding, which multiplies the base by the factor."""
    sizes = {"hidden_size": 768, "num_attention_heads": 12, "rope_theta": 20_000}
    values = translate(sizes | {"rope_scaling": {"type": "ntk", "factor": 8.0}})
    exponents = np.arange(0, 64, 2) / 64
    expected = (20_000 * 8.0) ** -exponents / 8.0 ** (2 / 64)
    layer = RotaryAngles(64, values["rotary_base"], values["rotary_scaling"])
    angles = keras.ops.convert_to_numpy(layer(np.array([[1]])))[0, 0]
    np.testing.assert_allclose(angles, expected, rtol=1e-6)


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}


@pytest.mark.once
@pytest.mark.parametrize(
    ("rope", "problem"),
    [
        ({"rope_type": "yarn", "factor": 4.0}, "expected original_max_position_embeddings for"),
        ({**YARN, "factor": "4"}, "expected for factor a number from"),
        ({**YARN, "factor": float("nan")}, "expected for factor a number from"),
        ({**YARN, "beta_fast": 1}, "expected a beta_slow below beta_fast"),
        ({**YARN, "truncate": 1}, "expected true or false for truncate"),
        (
            {**YARN, "low_freq_factor": 1.0},
            "expected no 'low_freq_factor' for the rope_type 'yarn'",
        ),
        ({"rope_type": "linear"}, "expected factor for the rope_type 'linear'"),
        ({"rope_type": "longrope", "factor": 4.0}, "expected an object with rope_theta and a"),
        (
            {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0}
            | {"original_max_position_embeddings": 8},
            "expected a low_freq_factor below high_freq_factor",
        ),
    ],
)
def test_scaling_that_is_not_understood(rope, problem):
    with pytest.raises(ValueError, match=problem):
        translate({"model_type": "llama", "rope_scaling": rope})


@pytest.mark.once
def test_windows_of_causal_models():
    sizes = {"num_hidden_layers": 3, "sliding_window": 5}
    found = [
        translate({"model_type": name, **sizes, **more})
        for name, more in (
            ("mistral", {}),
            ("qwen2", {}),
            ("qwen2", {"use_sliding_window": True, "max_window_layers": 1}),
            ("qwen3", {"use_sliding_window": True, "max_window_layers": 3}),
        )
    ]
    kinds = [(values.get("layer_kinds"), values.get("window")) for values in found]
    sliding = ("full", "sliding", "sliding")
    assert kinds == [(("sliding",), 4), (None, None), (sliding, 4), (None, 4)]


@pytest.mark.once
def test_scaling_that_cannot_be_read():
    """The first is read by transformers 4 as no scaling, by 5 as that of both kinds of layers."""
    both = {"model_type": "modernbert", "rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    with pytest.raises(ValueError, match=r"rope_scaling is .*; expected an object for 'full_atten"):
        translate(both)
    sizes = {"hidden_size": 1, "num_attention_heads": 10_000, "rope_theta": 20_000}
    with pytest.raises(
        ValueError, match="rope_scaling has the type 'ntk'; expected rope_theta, hidden"
    ):
        translate(sizes | {"rope_scaling": {"type": "ntk", "factor": 1e6}})


@pytest.mark.once
def test_names_of_llama_do_not_tell_its_bidirectional_kin(tmp_path):
    transformer = build("eurobert")
    transformer.save_checkpoint(tmp_path, "hf")
    config = json.loads((tmp_path / "config.json").read_text())
    del config["model_type"], config["architectures"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="is a layer of Llama and its kin"):
        build_transformer_model(tmp_path)
    build_transformer_model(tmp_path, model="eurobert")
