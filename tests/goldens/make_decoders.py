"""Freeze what bert4keras and transformers compute for GPT, GPT-2, GPT2-ML, T5, BART and CPT.

Two sub-commands, because the two libraries live in different environments; see README.md:

    TF_USE_LEGACY_KERAS=1 TF_KERAS=1 python tests/goldens/make_decoders.py bert4keras
    python tests/goldens/make_decoders.py transformers [CASES]

Each replaces its own library's entries of ``decoders/cases.json`` and ``decoders/outputs.npz`` (the
second only those whose names start with ``CASES``) and leaves the other's alone. The second needs
``finetune`` of a checkout of fastnlp/CPT on its path, see `cpt_reference.py`. Then, in the first
environment, with a checkout of imcaspar/gpt2-ml:

    TF_USE_LEGACY_KERAS=1 python tests/goldens/make_decoders.py gpt2-ml CHECKOUT
"""

import argparse
import json
import random
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
from cpt_reference import reference
from decoder_weights import (
    BART_TIED,
    CONDITION_SIZE,
    CPT_TIED,
    T5_1_0,
    T5_1_1,
    T5_TIED,
    WEIGHTS,
    gpt2_shapes,
    norm_scope,
    weights_here,
)
from recipes import named_weights

FOLDER = Path(__file__).resolve().parent / "decoders"
KEEP_TOKENS = [0, *(7 * i % 59 + 1 for i in range(43))]

# --- configurations, as published with the checkpoints ---

# beside TensorFlow names, for bert4keras
GPT_TF = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 24,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.02,
}
CDIAL_TF = {**GPT_TF, "type_vocab_size": 2, "shared_segment_embeddings": True}
T5_TF = {
    "vocab_size": 60,
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "attention_head_size": 4,
    "num_hidden_layers": 2,
    "hidden_act": "relu",
    "hidden_dropout_prob": 0.1,
}
T5_GATED_TF = {**T5_TF, "hidden_act": ["gelu", "linear"]}

# transformers' own
GPT2_HF = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "n_ctx": 24,
    "n_embd": 32,
    "n_head": 4,
    "n_inner": None,
    "n_layer": 2,
    "n_positions": 24,
    "vocab_size": 60,
    "bos_token_id": 50256,
    "eos_token_id": 50256,
}
OPENAI_GPT_HF = {
    "model_type": "openai-gpt",
    "architectures": ["OpenAIGPTLMHeadModel"],
    "afn": "gelu",
    "layer_norm_epsilon": 1e-5,
    "n_ctx": 23,
    "n_embd": 32,
    "n_head": 4,
    "n_layer": 2,
    "n_positions": 24,
    "n_special": 0,
    "vocab_size": 60,
}
T5_HF = {
    "model_type": "t5",
    "architectures": ["T5ForConditionalGeneration"],
    "vocab_size": 60,
    "d_model": 24,
    "d_kv": 4,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 32,
    "dropout_rate": 0.1,
    "layer_norm_epsilon": 1e-6,
    "is_encoder_decoder": True,
    "decoder_start_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
T5_1_1_HF = {**T5_HF, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
MT5_HF = {
    **T5_1_1_HF,
    "model_type": "mt5",
    "architectures": ["MT5ForConditionalGeneration"],
    "num_decoder_layers": 2,
    "relative_attention_max_distance": 128,
}
# as the files of fnlp, with what its converter left in them; the two stacks differ
BART_HF = {
    "model_type": "bart",
    "architectures": ["BartForConditionalGeneration"],
    "vocab_size": 60,
    "d_model": 24,
    "max_position_embeddings": 24,
    "num_hidden_layers": 2,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "encoder_layerdrop": 0.1,
    "decoder_layers": 3,
    "decoder_attention_heads": 3,
    "decoder_ffn_dim": 40,
    "decoder_layerdrop": 0.0,
    "activation_function": "gelu",
    "dropout": 0.1,
    "activation_dropout": 0.1,
    "attention_dropout": 0.1,
    "init_std": 0.02,
    "scale_embedding": False,
    "is_encoder_decoder": True,
    "decoder_start_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "forced_eos_token_id": 2,
    "pad_token_id": 0,
    "normalize_before": False,
    "add_final_layer_norm": False,
    "normalize_embedding": True,
    "static_position_embeddings": False,
    "add_bias_logits": False,
    "extra_pos_embeddings": 2,
    "force_bos_token_to_be_generated": False,
    "classif_dropout": 0.1,
}
# as the files of Randeng
PEGASUS_HF = {
    **BART_HF,
    "model_type": "pegasus",
    "architectures": ["PegasusForConditionalGeneration"],
    "activation_function": "relu",
    "scale_embedding": True,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "forced_eos_token_id": 1,
    "normalize_before": True,
    "add_final_layer_norm": True,
    "normalize_embedding": False,
    "static_position_embeddings": True,
    "extra_pos_embeddings": 1,
}
# as a directory that the authors of CPT fine-tuned
CPT_HF = {
    **BART_HF,
    "architectures": ["CPTForConditionalGeneration"],
    "num_hidden_layers": 4,
    "encoder_layers": 4,
    "classifier_dropout": 0.0,
    "early_stopping": True,
    "gradient_checkpointing": False,
}
LLAMA_HF = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 10,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500.0,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# as the files of Qwen2.5 are published, with a window that is not used
QWEN2_HF = {
    **LLAMA_HF,
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "use_sliding_window": False,
    "sliding_window": 4,
    "max_window_layers": 1,
}
QWEN3_HF = {
    **QWEN2_HF,
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "head_dim": 10,
    "attention_bias": False,
    "rope_scaling": None,
    "tie_word_embeddings": True,
}
MISTRAL_HF = {
    **LLAMA_HF,
    "model_type": "mistral",
    "architectures": ["MistralForCausalLM"],
    "sliding_window": 4,
}
LLAMA3_SCALING = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8,
    "rope_type": "llama3",
}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}
YARN_WHOLE = {
    **YARN,
    "rope_type": "yarn",
    "beta_fast": 16,
    "beta_slow": 2,
    "mscale": 1.2,
    "mscale_all_dim": 0.8,
    "truncate": False,
}
GLM_HF = {
    **LLAMA_HF,
    "model_type": "glm",
    "architectures": ["GlmForCausalLM"],
    "attention_bias": True,
    "head_dim": 12,
    "partial_rotary_factor": 0.5,
    "rms_norm_eps": 1.5625e-7,
    "pad_token_id": 59,
}
GLM4_HF = {**GLM_HF, "model_type": "glm4", "architectures": ["Glm4ForCausalLM"]}
# as the first files of Gemma 3 are published
GEMMA3_HF = {
    **LLAMA_HF,
    "model_type": "gemma3_text",
    "architectures": ["Gemma3ForCausalLM"],
    "attention_bias": False,
    "attn_logit_softcapping": None,
    "cache_implementation": "hybrid",
    "final_logit_softcapping": None,
    "head_dim": 10,
    "hidden_activation": "gelu_pytorch_tanh",
    "pad_token_id": 0,
    "query_pre_attn_scalar": 24,
    "rope_local_base_freq": 50.0,
    "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    "sliding_window": 4,
    "sliding_window_pattern": 3,
    "tie_word_embeddings": True,
}
# hparams.json of OpenAI's TensorFlow release
OPENAI_HPARAMS = {"n_vocab": 60, "n_ctx": 24, "n_embd": 32, "n_head": 4, "n_layer": 2}


# --- inputs ---


def make_inputs():
    """Every input array of every case, by name.

    ``tokens``: zeros are padding on the right. ``source``, for an encoder: a full row, 4 padded,
    all padding, a zero in the middle and 2 padded. ``target``, for its decoder: 0 first, none
    after.
    """
    generator = np.random.RandomState(21)

    def padded(array, lengths):
        return np.where(np.arange(array.shape[1]) < np.array(lengths)[:, None], array, 0)

    arrays = {}
    for name, lengths, width in (("4x13", [13, 9, 1, 11], 13), ("2x7", [7, 4], 7)):
        shape = (len(lengths), width)
        arrays[f"tokens_{name}"] = padded(generator.randint(1, 40, shape), lengths)
        turns = np.arange(width) >= np.array(lengths)[:, None] // 2
        arrays[f"segments_{name}"] = padded(turns.astype(int), lengths)
        arrays[f"speakers_{name}"] = padded(2 + turns, lengths)
        arrays[f"condition_{name}"] = generator.standard_normal((len(lengths), CONDITION_SIZE))
    for name, lengths, width in (
        ("4x13", [13, 9, 0, 11], 13),
        ("2x7", [7, 4], 7),
        ("1x150", [150], 150),
    ):
        arrays[f"source_{name}"] = padded(generator.randint(1, 40, (len(lengths), width)), lengths)
    arrays["source_4x13"][3, 5] = 0
    for name, lengths, width in (("4x9", [9, 5, 9, 2], 9), ("2x5", [5, 3], 5), ("1x3", [3], 3)):
        target = generator.randint(1, 40, (len(lengths), width))
        target[:, 0] = 0
        arrays[f"target_{name}"] = target
        arrays[f"padded_target_{name}"] = padded(target, lengths)
    arrays["target_1x140"] = np.pad(generator.randint(1, 40, (1, 139)), ((0, 0), (1, 0)))
    for name, shape in (("4x13", (4, 13, 24)), ("2x7", (2, 7, 24))):
        arrays[f"memory_{name}"] = generator.standard_normal(shape)
    return {k: v.astype("float32" if v.dtype.kind == "f" else "int32") for k, v in arrays.items()}


INPUTS = make_inputs()
LARGE, SMALL = ["tokens_4x13"], ["tokens_2x7"]
TALK_LARGE, TALK_SMALL = ["tokens_4x13", "speakers_4x13"], ["tokens_2x7", "speakers_2x7"]
PAIR_LARGE, PAIR_SMALL = ["source_4x13", "target_4x9"], ["source_2x7", "target_2x5"]
FROM_MEMORY = [["memory_4x13", "target_4x9"], ["memory_2x7", "target_2x5"]]


def conditioned(*inputs):
    size = inputs[0].split("_")[-1]
    return [*inputs, f"condition_{size}"]


# --- files ---


def library_of(case):
    return case["source"].split()[0]


def save(cases, outputs, start=""):
    """Replace the entries of one library in ``cases.json`` and ``outputs.npz``.

    Args:
        cases, outputs: as made.
        start: only the library's cases whose names start so are replaced.
    """
    library = library_of(cases[0])
    path = FOLDER / "cases.json"
    old = json.loads(path.read_text(encoding="utf-8"))["cases"] if path.exists() else []
    others = [
        case for case in old if library_of(case) != library or not case["name"].startswith(start)
    ]
    kept = {}
    if others:
        with np.load(FOLDER / "outputs.npz") as file:
            names = {case["name"] for case in others}
            kept = {key: file[key] for key in file if key.split("/")[0] in names}

    all_cases = sorted([*others, *cases], key=library_of)
    used = {case["weights"] for case in all_cases} - {None}
    used |= {WEIGHTS[name]["renames"] for name in used if "renames" in WEIGHTS[name]}
    lines = [f"{json.dumps(name)}: {json.dumps(WEIGHTS[name])}" for name in WEIGHTS if name in used]
    weights, texts = ",\n".join(lines), ",\n".join(json.dumps(case) for case in all_cases)
    path.write_text(
        f'{{"weights": {{\n{weights}\n}},\n"cases": [\n{texts}\n]}}\n', encoding="utf-8"
    )
    used_inputs = {key for case in all_cases for keys in case["inputs"] for key in keys}
    np.savez_compressed(
        FOLDER / "inputs.npz", **{k: v for k, v in INPUTS.items() if k in used_inputs}
    )
    np.savez_compressed(FOLDER / "outputs.npz", **dict(sorted({**kept, **outputs}.items())))


def make_case(name, model, weights, config, inputs, options=None, **fields):
    """A case of ``cases.json``, the defaults filled in.

    Args:
        name: of the case.
        model: family; the first of the options.
        weights: name in `WEIGHTS`.
        config: as published.
        inputs: for each batch, names in `INPUTS`.
        options: of ``build_transformer_model``.
        fields: any other key of a case.
    """
    causal = model in ("gpt", "gpt2", "gpt2_ml", *LLAMA_KIN)
    case = {
        "name": name,
        "source": None,
        "class_name": None,
        "config": config,
        "options": {"model": model, **(options or {})},
        "condition_size": CONDITION_SIZE if inputs[0][-1].startswith("condition") else None,
        "checkpoint": None,
        "weights": weights,
        "without": [],
        "inputs": inputs,
        "outputs": ["output"],
        "hidden_states": 0,
        "compare": "visible" if causal else "all",
        "table": None,
        "reference_config": None,
        "differs_from": None,
        "notes": "",
    }
    unknown = fields.keys() - case.keys()
    if unknown:
        raise TypeError(f"{name}: unknown fields {sorted(unknown)}")
    return {**case, **fields}


def batches(case):
    return [[INPUTS[key] for key in keys] for keys in case["inputs"]]


def exact(results, doubles):
    """What is kept: the float64 numbers, as float32."""
    return {
        key: value if key.split("/")[0] in FLOAT32_ONLY else doubles[key].astype("float32")
        for key, value in results.items()
    }


def outputs_by_inputs(results, case):
    """``{name of the first input: output}``: two cases may have other batches."""
    return {
        keys[0]: results[f"{case['name']}/output_0_batch_{i}"]
        for i, keys in enumerate(case["inputs"])
    }


def visible(case, tokens):
    """What a comparison looks at: all positions, or those whose token is not zero."""
    return INPUTS[tokens] != 0 if case["compare"] == "visible" else ...


def max_difference(results, case, other):
    """Largest difference between two cases, over the batches that both have."""
    a, b = outputs_by_inputs(results, case), outputs_by_inputs(results, other)
    return max(
        float(np.abs(a[k][visible(case, k)] - b[k][visible(case, k)]).max())
        for k in a.keys() & b.keys()
    )


# At a distance of 64 tokens T5's bucket is a logarithm that is whole. bert4keras in float64 gets
# 29.999... and takes the bucket below; in float32 it agrees with transformers.
FLOAT32_ONLY = ["t5.1.0_long"]


def check(results, doubles, cases):
    """Hold that arrays are sound and exact and that options matter, and say how much."""
    by_name = {case["name"]: case for case in cases}
    for key, value in results.items():
        assert value.dtype == np.float32 and np.isfinite(value).all(), key
        error = np.abs(value - doubles[key]).max() / max(1, value.std())
        assert error < 6e-6 or key.split("/")[0] in FLOAT32_ONLY, f"{key}: float64 {error:.1e}"
    for case in cases:
        name, other = case["name"], case["differs_from"]
        keys = [k for k in results if k.startswith(f"{name}/")]
        error = max(float(np.abs(results[k] - doubles[k]).max()) for k in keys)
        std = max(float(results[k].std()) for k in keys if "output" in k)
        line = f"{name:34} std {std:.3f}  float64 {error:.1e}"
        if other is not None:
            difference = max_difference(results, case, by_name[other])
            assert difference > 5e-5, f"{name} should differ from {other}: {difference}"
            line += f"  differs from {other}: {difference:.1e}"
        print(line)


# --- bert4keras ---

LLAMA_KIN = ("llama", "mistral", "qwen2", "qwen3", "glm", "glm4", "gemma3_text")
LINEAR = {"with_lm": "linear"}
TANH = {"hidden_act": "gelu_tanh", **LINEAR}
GPT_EPSILON = {"norm_epsilon": 1e-12}


def gpt_cases():
    """bert4keras' GPT; its norms have the epsilon of its BERT, not 1e-5."""
    talk = [TALK_LARGE, TALK_SMALL]

    def case(name, options, inputs=talk, weights="tf_gpt", config=CDIAL_TF, **fields):
        options = {**GPT_EPSILON, **options}
        return make_case(name, "gpt", weights, config, inputs, options, **fields)

    no_sharing = {k: v for k, v in CDIAL_TF.items() if k != "shared_segment_embeddings"}
    return [
        case("gpt", {"hidden_act": "gelu_erf", **LINEAR}, notes="segment ids are token ids"),
        case("gpt_tanh", TANH, differs_from="gpt"),
        case("gpt_probabilities", {"with_lm": True, "hidden_act": "gelu_tanh"}, [TALK_SMALL]),
        case(
            "gpt_hidden",
            {"with_lm": False, "hidden_act": "gelu_tanh"},
            [TALK_SMALL],
            hidden_states=3,
            notes="no head: the last block",
        ),
        case(
            "gpt_final_activation",
            {"final_activation": "linear", "hidden_act": "gelu_tanh"},
            [TALK_SMALL],
            notes="bert4keras' own spelling of with_lm",
        ),
        case(
            "gpt_segments",
            TANH,
            [["tokens_2x7", "segments_2x7"]],
            "tf_gpt_segments",
            no_sharing,
            notes="a segment table of its own",
        ),
        case(
            "gpt_no_segments",
            TANH | {"segment_vocab_size": 0},
            [SMALL],
            config=no_sharing,
        ),
        case("gpt_keep_tokens", TANH | {"keep_tokens": KEEP_TOKENS}, [TALK_SMALL]),
    ]


def gpt2_cases():
    def case(name, options=TANH, inputs=(LARGE, SMALL), weights="tf_gpt2", config=GPT_TF, **fields):
        return make_case(name, "gpt2", weights, config, list(inputs), options, **fields)

    tanh = {"hidden_act": "gelu_tanh"}
    return [
        case("gpt2", notes="CPM-LM's config says gelu and means tanh"),
        case("gpt2_erf", {"hidden_act": "gelu_erf", **LINEAR}, [LARGE], differs_from="gpt2"),
        case("gpt2_probabilities", {"with_lm": True, **tanh}, [SMALL]),
        case(
            "gpt2_hidden",
            {"with_lm": False, **tanh},
            [SMALL],
            hidden_states=3,
            notes="no head: after the last norm; hidden_states are before it",
        ),
        case("gpt2_keep_tokens", TANH | {"keep_tokens": KEEP_TOKENS}, [SMALL]),
        case(
            "gpt2_layer_norm_cond",
            TANH,
            [conditioned("tokens_2x7")],
            "tf_gpt2_conditional",
            notes="the last norm is conditional too",
        ),
    ]


def gpt2_ml_cases():
    def case(name, options, inputs=(LARGE, SMALL), weights="gpt2_ml", **fields):
        return make_case(name, "gpt2_ml", weights, GPT_TF, list(inputs), options, **fields)

    return [
        case("gpt2_ml", LINEAR, notes="gelu is erf"),
        case("gpt2_ml_probabilities", {"with_lm": True}, [SMALL]),
        case("gpt2_ml_hidden", {"with_lm": False}, [SMALL], hidden_states=3),
        case(
            "gpt2_ml_layer_norm_cond",
            LINEAR,
            [conditioned("tokens_2x7")],
            "gpt2_ml_conditional",
            notes="the norm of the embeddings is conditional too",
        ),
    ]


def t5_cases():
    scaled = {"scale_decoder_outputs": True}
    crossed, both = {"cross_position_bias": True}, [PAIR_LARGE, PAIR_SMALL]
    gated, rms = ("mesh_gated", T5_GATED_TF), ("mesh_rms", T5_GATED_TF)
    tanh = {"hidden_act": ["gelu_tanh", "linear"]}
    return [
        make_case("t5.1.0", "t5.1.0", "mesh", T5_TF, both, LINEAR),
        make_case(
            "t5.1.0_cross_position_bias",
            "t5.1.0",
            "mesh",
            T5_TF,
            both,
            LINEAR | crossed,
            differs_from="t5.1.0",
        ),
        make_case(
            "t5.1.0_padded_target",
            "t5.1.0",
            "mesh",
            T5_TF,
            [["source_4x13", "padded_target_4x9"]],
            LINEAR,
            notes="the decoder hides its zeros, the first excepted",
        ),
        make_case("t5.1.0_probabilities", "t5.1.0", "mesh", T5_TF, [PAIR_SMALL], {"with_lm": True}),
        make_case(
            "t5.1.0_hidden",
            "t5.1.0",
            "mesh",
            T5_TF,
            [PAIR_SMALL],
            {"with_lm": False, **scaled},
            notes="quirk: bert4keras rescales the hidden states too",
        ),
        make_case(
            "t5.1.0_keep_tokens",
            "t5.1.0",
            "mesh",
            T5_TF,
            [PAIR_SMALL],
            LINEAR | {"keep_tokens": KEEP_TOKENS},
        ),
        make_case("t5.1.0_long", "t5.1.0", "mesh", T5_TF, [["source_1x150", "target_1x3"]], LINEAR),
        make_case("t5.1.0_encoder", "t5.1.0_encoder", "mesh", T5_TF, [["source_4x13"]]),
        make_case("t5.1.0_decoder", "t5.1.0_decoder", "mesh", T5_TF, FROM_MEMORY, LINEAR),
        make_case(
            "t5.1.0_encoder_layer_norm_cond",
            "t5.1.0_encoder",
            "mesh_conditional",
            T5_TF,
            [["source_4x13", "condition_4x13"]],
        ),
        make_case(
            "t5.1.0_decoder_layer_norm_cond",
            "t5.1.0_decoder",
            "mesh_conditional",
            T5_TF,
            [["memory_2x7", "target_2x5", "condition_2x7"]],
            LINEAR,
        ),
        make_case(
            "t5.1.1_scaled",
            "t5.1.1",
            *gated,
            both,
            LINEAR | tanh | scaled,
            notes="quirk: bert4keras rescales for an untied head too",
        ),
        make_case("t5.1.1_encoder", "t5.1.1_encoder", *gated, [["source_4x13"]], tanh),
        make_case("mt5.1.1_scaled", "mt5.1.1", *rms, both, LINEAR | tanh | scaled),
        make_case(
            "t5_pegasus",
            "t5_pegasus",
            *rms,
            both,
            LINEAR,
            differs_from="mt5.1.1_scaled",
            notes="bert4keras' mt5.1.1 with its defaults; gelu is erf",
        ),
        make_case("t5_pegasus_probabilities", "t5_pegasus", *rms, [PAIR_SMALL], {"with_lm": True}),
        make_case("t5_pegasus_encoder", "t5_pegasus_encoder", *rms, [["source_4x13"]]),
        make_case("t5_pegasus_decoder", "t5_pegasus_decoder", *rms, FROM_MEMORY[1:], LINEAR),
        make_case(
            "t5_pegasus_keep_tokens",
            "t5_pegasus",
            *rms,
            [PAIR_SMALL],
            LINEAR | {"keep_tokens": KEEP_TOKENS},
            notes="rows of the token table and columns of the head",
        ),
    ]


def bert4keras_options(options):
    """bert4keras' words for our options."""
    options = dict(options)
    family = options["model"]
    with_lm = options.pop("with_lm", True)
    options.pop("norm_epsilon", None)
    options.pop("scale_decoder_outputs", None)
    if family.startswith("gpt"):
        options.setdefault("final_activation", "linear" if with_lm == "linear" else "softmax")
        return options
    pegasus = family.startswith("t5_pegasus")
    options["model"] = family.replace("t5_pegasus", "mt5.1.1")
    options["with_lm"] = with_lm
    options.setdefault("cross_position_bias", pegasus)
    return options


def build_bert4keras(case):
    """Build a case through bert4keras' public function, weights loaded from a plain dict."""
    from bert4keras.backend import keras
    from bert4keras.models import build_transformer_model

    keras.backend.clear_session()
    options = bert4keras_options(case["options"])
    if case["condition_size"]:
        condition = keras.layers.Input(shape=(case["condition_size"],), name="Input-Condition")
        options |= {"layer_norm_cond": condition, "additional_input_layers": condition}
    weights = named_weights(WEIGHTS, case["weights"])
    with tempfile.TemporaryDirectory() as folder:
        config_path = Path(folder) / "config.json"
        config_path.write_text(json.dumps(case["config"]))
        transformer = build_transformer_model(
            str(config_path), weights, return_keras_model=False, **options
        )
    if case["condition_size"]:
        set_condition_kernels(transformer, weights)
    return transformer.model


def set_condition_kernels(transformer, weights):
    """Give the conditional norms kernels other than the zeros they start with."""
    for name, variables in transformer.variable_mapping().items():
        scope = norm_scope(variables[-1])
        if scope and name in transformer.layers:
            layer = transformer.layers[name]
            np.testing.assert_array_equal(layer.gamma.numpy(), weights[variables[-1]])
            for part in ("beta_dense", "gamma_dense"):
                if hasattr(layer, part):
                    getattr(layer, part).kernel.assign(weights[f"{scope}/{part}/kernel"])


BLOCKS = {  # what comes before the first block, and out of each
    "gpt": ("Embedding-Position", "Transformer-{}-FeedForward-Norm"),
    "gpt2": ("Embedding-Position", "Transformer-{}-FeedForward-Add"),
    "gpt2_ml": ("Embedding-Norm", "Transformer-{}-FeedForward-Norm-1"),
}


def states_of(model, case):
    """The tensors of a bert4keras model that a case records, by the name of their kind."""
    outputs, family = {"output": model.outputs}, case["options"]["model"]
    if family in BLOCKS:
        first, block = BLOCKS[family]
        names = [first, *(block.format(i) for i in range(case["config"]["num_hidden_layers"]))]
        states = [model.get_layer(name).output for name in names]
        if not case["options"].get("with_lm", True):
            last = model.get_layer("Output-Norm").output if family == "gpt2" else states[-1]
            outputs["output"] = [last]
        outputs["hidden"] = states[: case["hidden_states"]]
    return outputs


def record_bert4keras(case, results):
    """Put a case's outputs into `results`."""
    from bert4keras.backend import keras

    model = build_bert4keras(case)
    for kind, tensors in states_of(model, case).items():
        if not tensors:
            continue
        part = keras.Model(model.inputs, tensors)
        for i, arrays in enumerate(batches(case)):
            found = part.predict_on_batch(arrays)
            for j, array in enumerate(found if isinstance(found, list) else [found]):
                results[f"{case['name']}/{kind}_{j}_batch_{i}"] = array


def run_bert4keras():
    import bert4keras
    from bert4keras.backend import keras

    cases = [*gpt_cases(), *gpt2_cases(), *gpt2_ml_cases(), *t5_cases()]
    results, doubles = {}, {}
    for precision, arrays in (("float64", doubles), ("float32", results)):
        keras.backend.set_floatx(precision)
        for case in cases:
            case["source"] = f"bert4keras {bert4keras.__version__}"
            record_bert4keras(case, arrays)
    check(results, doubles, cases)
    save(cases, exact(results, doubles))


# --- transformers ---

BUFFERS = re.compile(r"attn\.bias$|EncDecAttention\.relative_attention_bias\.weight$")
TIED = {"lm_head.weight", *T5_TIED, *BART_TIED, "transformer.encoder.embed_tokens.weight"}
TIED |= {*CPT_TIED, *(name.removeprefix("model.") for name in CPT_TIED)}
SINES = {
    f"{prefix}{stack}.embed_positions.weight"
    for prefix in ("", "model.")
    for stack in ("encoder", "decoder")
}


CLASSIFIER = {"with_classifier": True}
NAMES = ["差评", "中评", "好评"]
LABELS = {
    "id2label": {str(i): name for i, name in enumerate(NAMES)},
    "label2id": {name: i for i, name in enumerate(NAMES)},
    "pad_token_id": 0,
}


def transformers_classifier_cases():
    """Cases of fine-tuned classes: what they are is in `architectures`."""

    def case(name, model, class_name, config, inputs=(LARGE, SMALL), **fields):
        config = {**config, **LABELS, "architectures": [class_name]}
        fields = {"class_name": class_name, **fields}
        name = f"classifier_{name}"
        return make_case(name, model, name, config, list(inputs), CLASSIFIER, **fields)

    return [
        case("gpt2_text", "gpt2", "GPT2ForSequenceClassification", GPT2_HF),
        case("gpt2_tokens", "gpt2", "GPT2ForTokenClassification", GPT2_HF),
        case("gpt2_spans", "gpt2", "GPT2ForQuestionAnswering", GPT2_HF),
        case("openai_gpt_text", "gpt", "OpenAIGPTForSequenceClassification", OPENAI_GPT_HF),
        case(
            "t5_tokens",
            "t5.1.0_encoder",
            "T5ForTokenClassification",
            T5_HF,
            [["source_4x13"], ["source_2x7"]],
            notes="the names of the encoder begin with transformer.",
        ),
    ]


def transformers_gpt_cases():
    def gpt2(name, weights, options=LINEAR, config=None, **fields):
        fields = {"class_name": "GPT2LMHeadModel", "inputs": [LARGE, SMALL], **fields}
        config = GPT2_HF if config is None else config
        return make_case(name, "gpt2", weights, config, options=options, **fields)

    def gpt(name, weights, options=LINEAR, **fields):
        fields = {
            "class_name": "OpenAIGPTLMHeadModel",
            "inputs": [TALK_LARGE, TALK_SMALL],
            **fields,
        }
        return make_case(name, "gpt", weights, OPENAI_GPT_HF, options=options, **fields)

    def foreign(name, table, weights, config, options=LINEAR, **fields):
        fields = {"inputs": [SMALL], "reference_config": GPT2_HF, **fields}
        return gpt2(name, weights, options, config, table=table, **fields)

    talk, alone = {"shared_segment_embeddings": True}, {"segment_vocab_size": 0}
    body = {**GPT2_HF, "architectures": ["GPT2Model"]}
    return [
        gpt2("hf_gpt2", "hf_gpt2"),
        gpt2("hf_gpt2_probabilities", "hf_gpt2", {"with_lm": True}, inputs=[SMALL]),
        gpt2(
            "hf_gpt2_inner",
            "hf_gpt2_inner_56",
            config={**GPT2_HF, "n_inner": 56},
            inputs=[SMALL],
            differs_from="hf_gpt2",
        ),
        gpt2(
            "hf_gpt2_gelu",
            "hf_gpt2",
            config={**GPT2_HF, "activation_function": "gelu"},
            inputs=[SMALL],
            differs_from="hf_gpt2",
            notes="erf, as this config says",
        ),
        gpt2(
            "hf_gpt2_published",
            "hf_gpt2_published",
            inputs=[SMALL],
            notes="with the buffers and the tied copy of the head that old files have",
        ),
        gpt2(
            "hf_gpt2_model",
            "hf_gpt2_model",
            {"with_lm": False},
            config=body,
            class_name="GPT2Model",
            notes="names without a prefix",
        ),
        gpt("hf_openai_gpt", "hf_openai_gpt", LINEAR | alone, inputs=[LARGE, SMALL]),
        gpt(
            "hf_openai_gpt_segments",
            "hf_openai_gpt",
            LINEAR | talk,
            differs_from="hf_openai_gpt",
            notes="token_type_ids are token ids, as CDial-GPT has them",
        ),
        gpt(
            "hf_openai_gpt_model",
            "hf_openai_gpt_model",
            {"with_lm": False} | talk,
            inputs=[TALK_SMALL],
            class_name="OpenAIGPTModel",
        ),
        foreign(
            "openai_gpt2",
            "openai",
            "openai_gpt2",
            OPENAI_HPARAMS,
            notes="OpenAI's TensorFlow release with its hparams.json",
        ),
        foreign("uer_gpt2", "uer_gpt2", "uer_gpt2", GPT2_HF, notes="UER's names"),
        foreign(
            "gpt2_tf_names",
            "tf_gpt2",
            "tf_gpt2",
            GPT_TF,
            TANH,
            inputs=[LARGE],
            notes="bert4keras' names and case gpt2, computed by transformers",
        ),
    ]


def transformers_llama_cases():
    """Llama, Mistral, Qwen2 and Qwen3; 13 tokens are more than their 10 positions."""

    def case(name, config, weights=None, options=LINEAR, inputs=(LARGE,), **fields):
        model = config["model_type"]
        fields = {"class_name": config["architectures"][0], **fields}
        weights = weights or {"mistral": "llama"}.get(model, model)
        return make_case(name, model, weights, config, list(inputs), options, **fields)

    def scaled(name, rope, **fields):
        config = {**LLAMA_HF, "rope_scaling": rope}
        return case(f"llama_{name}", config, differs_from="llama", **fields)

    body = {**QWEN3_HF, "architectures": ["Qwen3Model"]}
    texts = {**LLAMA_HF, **LABELS, "architectures": ["LlamaForSequenceClassification"]}
    tokens = {**QWEN2_HF, **LABELS, "architectures": ["Qwen2ForTokenClassification"]}
    biases = {"attention_bias": True, "mlp_bias": True, "head_dim": 10, "tie_word_embeddings": True}
    nested = {"rope_theta": None, "rope_parameters": {**YARN_WHOLE, "rope_theta": 500.0}}
    return [
        case("llama", LLAMA_HF, inputs=[LARGE, SMALL]),
        case("llama_biases", {**LLAMA_HF, **biases}, "llama_biases"),
        case("llama_text", texts, "llama_text", CLASSIFIER),
        scaled("linear", {"type": "linear", "factor": 3.0}),
        scaled("dynamic", {"rope_type": "dynamic", "factor": 3.0}),
        scaled("llama3", LLAMA3_SCALING),
        scaled("yarn", YARN),
        case("llama_yarn_whole", {**LLAMA_HF, **nested}, notes="as transformers 5 writes it"),
        case("mistral", MISTRAL_HF, inputs=[LARGE, SMALL]),
        case("mistral_whole", {**MISTRAL_HF, "sliding_window": None}, differs_from="mistral"),
        case("qwen2", QWEN2_HF, inputs=[LARGE, SMALL]),
        case("qwen2_sliding", {**QWEN2_HF, "use_sliding_window": True}, differs_from="qwen2"),
        case("qwen2_tokens", tokens, "qwen2_tokens", CLASSIFIER),
        case("qwen3", QWEN3_HF, inputs=[LARGE, SMALL]),
        case("qwen3_model", body, "qwen3_model", {"with_lm": False}, notes="without a prefix"),
        case(
            "qwen3_biases",
            {**QWEN3_HF, "attention_bias": True, "tie_word_embeddings": False},
            "qwen3_biases",
        ),
    ]


def transformers_glm_and_gemma_cases():
    """GLM, GLM-4-0414 and Gemma 3; heads are larger than the hidden size says, windows shorter."""

    def case(name, config, weights=None, options=LINEAR, inputs=(LARGE,), **fields):
        fields = {"class_name": config["architectures"][0], **fields}
        weights = weights or name
        return make_case(
            name, config["model_type"], weights, config, list(inputs), options, **fields
        )

    def without(config, *keys):
        return {key: value for key, value in config.items() if key not in keys}

    both = [LARGE, SMALL]
    texts = {**LABELS, "architectures": ["GlmForSequenceClassification"]}
    plain = {**GLM_HF, "attention_bias": False, "head_dim": 16, "num_key_value_heads": 2}
    quarter = {"rope_theta": 500.0, "partial_rotary_factor": 0.25, "rope_type": "default"}
    linear = {**quarter, "rope_type": "linear", "factor": 3.0}
    plain = without(plain, "rope_theta", "partial_rotary_factor")
    body = {**GLM4_HF, "attention_bias": False, "architectures": ["Glm4Model"]}
    gemma_texts = {**LABELS, "architectures": ["Gemma3TextForSequenceClassification"]}
    nested = without(
        GEMMA3_HF, "rope_theta", "rope_local_base_freq", "rope_scaling", "sliding_window_pattern"
    )
    nested |= {
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 500.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
        },
        "use_bidirectional_attention": False,
    }
    return [
        case("glm", GLM_HF, inputs=both),
        case("glm_missing", without(GLM_HF, "attention_bias", "partial_rotary_factor"), "glm"),
        case("glm_text", {**GLM_HF, **texts, "pad_token_id": 0}, "glm_text", CLASSIFIER),
        case("glm_quarter", {**plain, "rope_parameters": quarter}, "glm_plain"),
        case(
            "glm_linear",
            {**plain, "rope_parameters": linear},
            "glm_plain",
            differs_from="glm_quarter",
        ),
        case("glm4", GLM4_HF, inputs=both),
        case("glm4_model", body, options={"with_lm": False}, notes="without a prefix"),
        case("gemma3", GEMMA3_HF, inputs=both),
        case(
            "gemma3_unscaled", {**GEMMA3_HF, "rope_scaling": None}, "gemma3", differs_from="gemma3"
        ),
        case("gemma3_wide", {**GEMMA3_HF, "sliding_window": 16}, "gemma3", differs_from="gemma3"),
        case(
            "gemma3_nested",
            nested,
            "gemma3",
            differs_from="gemma3_unscaled",
            notes="as transformers 5 writes it",
        ),
        case("gemma3_text", {**GEMMA3_HF, **gemma_texts}, "gemma3_text", CLASSIFIER),
        case("gemma3_biases", {**GEMMA3_HF, "attention_bias": True}, "gemma3_biases"),
    ]


def transformers_t5_cases():
    def t5(name, weights, config, options=LINEAR, inputs=(PAIR_LARGE, PAIR_SMALL), **fields):
        is_mt5 = config.get("model_type") == "mt5"
        model = fields.pop("model", "mt5.1.1" if is_mt5 else "t5.1.1")
        class_name = "MT5ForConditionalGeneration" if is_mt5 else "T5ForConditionalGeneration"
        fields = {"class_name": class_name, **fields}
        return make_case(name, model, weights, config, list(inputs), options, **fields)

    first, one, resaved = {"model": "t5.1.0"}, [PAIR_SMALL], {**T5_1_1_HF}
    resaved |= {"tie_word_embeddings": True, "scale_decoder_outputs": False}
    long = [["source_1x150", "target_1x3"], ["source_1x150", "target_1x140"]]
    gated = {"reference_config": T5_1_1_HF, "class_name": "T5ForConditionalGeneration"}
    tanh = {"hidden_act": ["gelu_tanh", "linear"], **LINEAR}
    relu = {**T5_HF, "feed_forward_proj": "relu"}
    return [
        t5("hf_t5", "hf_t5", T5_HF, **first, notes="a config of before feed_forward_proj"),
        t5("hf_t5_probabilities", "hf_t5", relu, {"with_lm": True}, one, **first),
        t5(
            "hf_t5_published",
            "hf_t5_published",
            relu,
            inputs=one,
            **first,
            notes="with tied copies and the junk tensor that old files have",
        ),
        t5(
            "hf_t5_model",
            "hf_t5",
            {**relu, "architectures": ["T5Model"]},
            {"with_lm": False, "scale_decoder_outputs": False},
            one,
            class_name="T5Model",
            **first,
            notes="transformers rescales in front of the head, not without one",
        ),
        t5("hf_t5.1.1", "hf_t5.1.1", T5_1_1_HF),
        t5(
            "hf_t5.1.1_resaved",
            "hf_t5.1.1",
            resaved,
            inputs=one,
            notes="the config as transformers 5 writes it: calls an untied head tied",
        ),
        t5(
            "hf_t5.1.1_tied",
            "hf_t5_tied_gated",
            {**T5_1_1_HF, "tie_word_embeddings": True},
            inputs=one,
            notes="gated, tied and rescaled",
        ),
        t5("hf_mt5", "hf_mt5", {**MT5_HF, "d_kv": 5, "num_layers": 1, "num_decoder_layers": 3}),
        t5(
            "hf_t5_buckets",
            "hf_t5_buckets",
            {
                **T5_1_1_HF,
                "relative_attention_num_buckets": 16,
                "relative_attention_max_distance": 10,
            },
            inputs=[PAIR_LARGE],
        ),
        t5("hf_t5_long", "hf_t5", T5_HF, inputs=long, **first),
        t5(
            "hf_t5_encoder",
            "hf_t5_encoder",
            {**T5_1_1_HF, "architectures": ["T5EncoderModel"]},
            {},
            [["source_4x13"], ["source_2x7"]],
            class_name="T5EncoderModel",
            model="t5.1.1_encoder",
            notes="the file holds an encoder alone",
        ),
        t5(
            "hf_t5_decoder",
            "hf_t5.1.1",
            T5_1_1_HF,
            inputs=FROM_MEMORY,
            model="t5.1.1_decoder",
        ),
        t5("mesh_t5.1.0", "mesh", T5_TF, **first, table="mesh", reference_config=T5_HF),
        t5(
            "mesh_t5.1.0_long",
            "mesh",
            T5_TF,
            inputs=long[:1],
            **first,
            table="mesh",
            reference_config=T5_HF,
        ),
        t5("mesh_t5.1.1", "mesh_gated", T5_GATED_TF, tanh, table="mesh", **gated),
        t5(
            "mesh_mt5.1.1",
            "mesh_rms",
            T5_GATED_TF,
            tanh,
            model="mt5.1.1",
            table="mesh_rms",
            **gated,
        ),
        t5(
            "uer_t5",
            "uer_t5_published",
            relu,
            LINEAR | {"scale_decoder_outputs": True},
            one,
            **first,
            table="uer_t5",
            reference_config=relu,
            notes="UER itself does not rescale; its export to transformers does",
        ),
        t5(
            "uer_t5.1.1",
            "uer_t5.1.1",
            T5_1_1_HF,
            inputs=one,
            table="uer_t5",
            reference_config=T5_1_1_HF,
            notes="linear_gate is the activated half",
        ),
    ]


def transformers_bart_cases():
    """BART, PEGASUS and CPT."""

    def bart(name, config, weights=None, options=LINEAR, inputs=(PAIR_SMALL,), **fields):
        family = name.split("_")[0]
        model = fields.pop("model", family)
        fields = {"class_name": config["architectures"][0], **fields}
        weights = weights or f"hf_{family}"
        return make_case(f"hf_{name}", model, weights, config, list(inputs), options, **fields)

    def both(name, config):
        """The cases of a family, on its config."""
        hidden = {"options": {"with_lm": False}}
        bare = {**config, "architectures": [config["architectures"][0].split("For")[0] + "Model"]}
        return [
            bart(name, config, inputs=[PAIR_LARGE, PAIR_SMALL]),
            bart(f"{name}_probabilities", config, options={"with_lm": True}),
            bart(f"{name}_model", bare, f"hf_{name}_model", **hidden, notes="without a prefix"),
            bart(
                f"{name}_encoder",
                config,
                options={},
                inputs=[["source_4x13"], ["source_2x7"]],
                model=f"{name}_encoder",
            ),
            bart(f"{name}_decoder", config, inputs=FROM_MEMORY, model=f"{name}_decoder"),
        ]

    scaled = {"scale_embedding": True, "activation_function": "gelu_new"}
    untied = {"reference_config": {**BART_HF, "tie_word_embeddings": False}}
    as_bart = {**CPT_HF, "architectures": ["BartForConditionalGeneration"]}
    even = {**CPT_HF, "num_hidden_layers": 3, "encoder_layers": 3}
    return [
        *both("bart", BART_HF),
        *both("pegasus", PEGASUS_HF),
        *both("cpt", CPT_HF),
        bart(
            "cpt_published",
            as_bart,
            "hf_cpt_published",
            class_name="CPTForConditionalGeneration",
            notes="with the tied copies, and told by the names of the weights alone",
        ),
        bart(
            "cpt_untied",
            {**CPT_HF, "tie_word_embeddings": False},
            "hf_cpt_untied_published",
        ),
        bart(
            "cpt_even",
            even,
            "hf_cpt_even",
            notes="the decoder attends to the embeddings of the source",
        ),
        bart("bart_scaled", {**BART_HF, **scaled}, differs_from="hf_bart"),
        bart(
            "bart_untied",
            {**BART_HF, "tie_word_embeddings": 0},
            "hf_bart_untied_published",
            **untied,
            notes="the number is UER's; its weights tell, and have the copies that the stacks read",
        ),
        bart("bart_published", BART_HF, "hf_bart_published", notes="with the tied copies"),
        bart(
            "pegasus_unscaled", {**PEGASUS_HF, "scale_embedding": False}, differs_from="hf_pegasus"
        ),
    ]


# --- CPM-1: a GPT-2 in two halves ---

CPM = FOLDER / "cpm_megatron"


def cpm_case():
    return make_case(
        "cpm_megatron",
        "gpt2",
        None,
        GPT_TF,
        [SMALL],
        TANH,
        class_name="GPT2LMHeadModel",
        checkpoint="decoders/cpm_megatron",
        reference_config=GPT2_HF,
        notes="CPM-1's two shards, float16; config.json is what bert4keras' users write",
    )


def cpm_weights():
    """What the two shards hold together: the weights of ``hf_gpt2``, rounded to float16."""
    weights = named_weights(WEIGHTS, "hf_gpt2")
    return {k: v.astype("float16").astype("float32") for k, v in weights.items()}


CPM_MODULES = {
    "wte": "word_embeddings",
    "wpe": "position_embeddings",
    "ln_1": "input_layernorm",
    "ln_2": "post_attention_layernorm",
    "attn.c_attn": "attention.query_key_value",
    "attn.c_proj": "attention.dense",
    "mlp.c_fc": "mlp.dense_h_to_4h",
    "mlp.c_proj": "mlp.dense_4h_to_h",
    "ln_f": "transformer.final_layernorm",
}


def cpm_shards(weights, ranks=2):
    """Split a GPT-2 as Megatron's ``mpu`` does: one dict of ``[out, in]`` matrices for each rank.

    Rows of the token table, of query, key, value and of the first feed-forward layer are divided;
    columns of the two layers after them; all else is in every shard.
    """
    shards = [{} for _ in range(ranks)]
    for name, array in weights.items():
        path, kind = name.removeprefix("transformer.").rsplit(".", 1)
        block = re.match(r"h\.(\d+)\.", path)
        module = path[block.end() :] if block else path
        turned = array.T if kind == "weight" and module.startswith(("attn", "mlp")) else array
        if module == "attn.c_attn":
            thirds = [np.split(x, ranks) for x in np.split(turned, 3)]
            parts = [np.concatenate(x) for x in zip(*thirds, strict=True)]
        elif module in ("wte", "mlp.c_fc"):
            parts = np.split(turned, ranks)
        elif module.endswith("c_proj") and kind == "weight":
            parts = np.split(turned, ranks, axis=1)
        else:
            parts = [turned] * ranks
        prefix = f"transformer.layers.{block[1]}." if block else ""
        for shard, part in zip(shards, parts, strict=True):
            shard[f"{prefix}{CPM_MODULES[module]}.{kind}"] = part
    return shards


def save_cpm(weights):
    """Write the files that DeepSpeed writes: the weights beside counters and random states."""
    import torch

    CPM.mkdir(exist_ok=True)
    (CPM / "config.json").write_text(json.dumps(GPT_TF, indent=2) + "\n")
    for rank, shard in enumerate(cpm_shards(weights)):
        module = {k: torch.tensor(np.ascontiguousarray(v)).half() for k, v in shard.items()}
        content = {
            "module": module,
            "optimizer": None,
            "lr_scheduler": {"num_iters": 80000, "start_lr": 0.00015},
            "csr_tensor_module_names": set(),
            "skipped_steps": 5,
            "global_steps": 80000,
            "dp_world_size": 32,
            "mp_world_size": 2,
            "iteration": 80000,
            "random_rng_state": random.Random(0).getstate(),
            "np_rng_state": np.random.RandomState(0).get_state(),
            "torch_rng_state": torch.Generator().manual_seed(0).get_state(),
        }
        torch.save(content, CPM / f"mp_rank_{rank:02d}_model_states.pt")


def shapes_here(case):
    """Shapes of transformers' tensors that a checkpoint of another kind holds."""
    shapes = {"gpt2": gpt2_shapes(), "t5.1.0": T5_1_0}
    return shapes.get(case["options"]["model"], T5_1_1)


def load_transformers(case, config, weights):
    """Load a model as a user does, from a directory."""
    import torch
    from safetensors.numpy import save_file

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        state = {k: np.ascontiguousarray(v) for k, v in weights.items()}
        save_file(state, Path(folder) / "model.safetensors", {"format": "pt"})
        model, info = reference(case["class_name"]).from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32, output_loading_info=True
        )
    fixed = SINES if config.get("model_type") == "pegasus" else set()
    assert set(info["missing_keys"]) <= TIED | fixed, info
    assert all(BUFFERS.search(k) for k in info["unexpected_keys"]), info
    assert not info["mismatched_keys"], info
    check_weights(model, weights)
    return model.eval()


def check_weights(model, weights):
    """Hold that no tensor of a model is other than the file's, an untied head least of all."""
    state = model.state_dict()
    for name, array in weights.items():
        if not BUFFERS.search(name):
            np.testing.assert_array_equal(state[name].numpy(), array, name)
    for name in TIED & state.keys() - weights.keys():
        source = "shared.weight" if "shared.weight" in weights else "transformer.wte.weight"
        source = source if source in weights else "transformer.tokens_embed.weight"
        source = source if source in weights else "transformer.shared.weight"
        source = source if source in weights else "model.embed_tokens.weight"
        source = source if source in weights else "model.shared.weight"
        np.testing.assert_array_equal(state[name].numpy(), weights[source], name)


def forward_transformers(model, case, arrays):
    """One batch. A T5 encoder's zeros are hidden, but never a row's first; a GPT's are not."""
    import torch
    from transformers.modeling_outputs import BaseModelOutput

    kinds = [name.split("_")[0] for name in case["inputs"][0]]
    tensors = {
        kind: torch.tensor(array, dtype=model.dtype if kind == "memory" else torch.long)
        for kind, array in zip(kinds, arrays, strict=True)
    }
    names = {"tokens": "input_ids", "speakers": "token_type_ids", "source": "input_ids"}
    given = {names[kind]: tensors[kind] for kind in kinds if kind in names}
    if "source" in tensors:
        given["attention_mask"] = (tensors["source"] != 0).long()
        given["attention_mask"][:, 0] = 1
    if "memory" in tensors:
        given["encoder_outputs"] = BaseModelOutput(tensors["memory"])
        if case["class_name"].startswith("CPT"):  # of such an object, it reads the hidden states
            given["encoder_outputs"] = tensors["memory"]
    if "target" in tensors:
        given["decoder_input_ids"] = tensors["target"]
    is_half = case["options"]["model"].endswith("_encoder") and "shared" in dir(model.base_model)
    model = model.get_encoder() if is_half else model
    with torch.no_grad():
        out = model(**given)
    if "start_logits" in out:
        return torch.stack([out.start_logits, out.end_logits], -1).numpy()
    found = out.logits if "logits" in out else out.last_hidden_state
    if case["options"].get("with_lm") is True:
        found = torch.softmax(found, -1)
    return found.numpy()


def state_of(case):
    """What transformers calls the weights of a case."""
    if case["weights"] is None:
        return cpm_weights()
    weights = named_weights(WEIGHTS, case["weights"])
    if case["table"] is None:
        return weights
    return weights_here(case["table"], shapes_here(case), weights)


def record_transformers(case, results, doubles):
    """Put a case's outputs into `results`, and what float64 gives into `doubles`."""
    model = load_transformers(case, case["reference_config"] or case["config"], state_of(case))
    for precision, arrays in (("float", results), ("double", doubles)):
        model = getattr(model, precision)()
        for i, batch in enumerate(batches(case)):
            found = forward_transformers(model, case, batch)
            arrays[f"{case['name']}/output_0_batch_{i}"] = found


def run_transformers(start=""):
    """`start`: of the names of the cases; the others are kept as they are."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    cases, results, doubles = [*transformers_gpt_cases(), *transformers_t5_cases()], {}, {}
    cases += [*transformers_classifier_cases(), *transformers_llama_cases(), cpm_case()]
    cases += transformers_glm_and_gemma_cases()
    cases += transformers_bart_cases()
    cases = [case for case in cases if case["name"].startswith(start)]
    save_cpm(cpm_weights())
    for case in cases:
        code = "modeling_cpt.py of fastnlp/CPT, " * case["class_name"].startswith("CPT")
        case["source"] = f"{code}transformers {transformers.__version__}"
        record_transformers(case, results, doubles)
    check(results, doubles, cases)
    save(cases, exact(results, doubles), start)
    compare_libraries()


# --- the two against each other ---


def compare_libraries():
    """Print a table: the same weights and inputs through both libraries."""
    cases = json.loads((FOLDER / "cases.json").read_text(encoding="utf-8"))["cases"]
    by_name = {case["name"]: case for case in cases}
    with np.load(FOLDER / "outputs.npz") as file:
        results = dict(file)
    print("| bert4keras | transformers | max abs diff | std |")
    print("|---|---|---|---|")
    for ours, theirs, scale in (
        ("gpt2", "gpt2_tf_names", 1),
        ("t5.1.0", "mesh_t5.1.0", 1),
        ("t5.1.0_long", "mesh_t5.1.0_long", 1),
        ("t5.1.1_scaled", "mesh_t5.1.1", 24**0.5),
        ("mt5.1.1_scaled", "mesh_mt5.1.1", 24**0.5),
    ):
        if ours in by_name:
            a = {k: v * scale for k, v in results.items() if k.startswith(f"{ours}/")}
            difference = max_difference({**results, **a}, by_name[ours], by_name[theirs])
            std = results[f"{theirs}/output_0_batch_0"].std()
            print(f"| {ours} | {theirs} | {difference:.1e} | {std:.2f} |")


def run_gpt2_ml(checkout):
    """Print how far bert4keras' GPT2-ML is from the graph it was trained with."""
    import tensorflow.compat.v1 as tf

    tf.disable_v2_behavior()
    sys.path.insert(0, str(checkout))
    from train.modeling import GroverConfig, GroverModel

    with np.load(FOLDER / "outputs.npz") as file:
        results = dict(file)
    case = next(case for case in gpt2_ml_cases() if case["name"] == "gpt2_ml")
    weights = named_weights(WEIGHTS, case["weights"])
    for i, (tokens,) in enumerate(batches(case)):
        with tf.Graph().as_default(), tf.Session() as session:
            config = GroverConfig.from_dict(case["config"])
            model = GroverModel(config, False, tf.constant(tokens), chop_off_last_token=False)
            variables = {variable.op.name: variable for variable in tf.global_variables()}
            assert variables.keys() == weights.keys()
            session.run([tf.assign(variables[name], weights[name]) for name in weights])
            logits = session.run(model.logits_flat).reshape(*tokens.shape, -1)
        difference = np.abs(logits - results[f"gpt2_ml/output_0_batch_{i}"])[tokens != 0].max()
        print(f"gpt2_ml, batch {i}: max abs diff {difference:.1e}, std {logits.std():.2f}")
        assert difference < 1e-5


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    libraries = parser.add_subparsers(dest="library", required=True)
    libraries.add_parser("bert4keras")
    libraries.add_parser("transformers").add_argument("cases", nargs="?", default="")
    libraries.add_parser("gpt2-ml").add_argument("checkout", type=Path)
    arguments = parser.parse_args()
    if arguments.library == "bert4keras":
        run_bert4keras()
    elif arguments.library == "gpt2-ml":
        run_gpt2_ml(arguments.checkout)
    else:
        run_transformers(arguments.cases)


if __name__ == "__main__":
    main()
