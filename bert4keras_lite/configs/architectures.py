"""The table of model families: each as its differences from BERT."""

_PLAIN = {"norm": "plain_rms", "use_bias": False, "position": "rotary"}

_LANGUAGE_MODEL = {"with_lm": True, "lm_transform": False, "lm_bias": False}

_GPT = _LANGUAGE_MODEL | {
    "family": "gpt",
    "hidden_act": "gelu_tanh",
    "norm_epsilon": 1e-5,
    "embedding_norm": False,
    "segment_vocab_size": 0,
    "pad_token_id": -1,
    "attend": "lm",
}

_GPT2 = _GPT | {"family": "gpt2", "norm_at": "pre", "final_norm": True, "max_position": 1024}

_GPT2_ML = _GPT2 | {
    "family": "gpt2_ml",
    "hidden_act": "gelu",
    "norm_at": "gpt2_ml",
    "embedding_norm": True,
    "final_norm": False,
    "pad_token_id": 0,
}

_T5 = _LANGUAGE_MODEL | {
    "family": "t5.1.0",
    "stacks": "both",
    "hidden_act": "relu",
    "position": "buckets",
    "relative_max_distance": 128,
    "segment_vocab_size": 0,
    "norm": "rms",
    "norm_at": "pre",
    "norm_epsilon": 1e-6,
    "embedding_norm": False,
    "final_norm": True,
    "use_bias": False,
    "attention_scale": False,
    "scale_decoder_outputs": "tied",
}

_T5_1_1 = _T5 | {
    "family": "t5.1.1",
    "hidden_act": "gelu_tanh",
    "gated": True,
    "tie_word_embeddings": False,
}

_MT5 = _T5_1_1 | {"family": "mt5.1.1"}

# Each family, as its differences from BERT.
ARCHITECTURES = {
    "bert": {},
    "roberta": {},
    "albert": {"family": "albert", "share_blocks": True},
    "albert_unshared": {"family": "albert_unshared"},
    "nezha": {"family": "nezha", "position": "relative"},
    "roformer": {"family": "roformer", "position": "rotary"},
    "roformer_v2": _PLAIN
    | {"family": "roformer_v2", "hidden_act": "relu", "lm_transform": False, "lm_bias": False},
    "gau_alpha": _PLAIN
    | {
        "family": "gau_alpha",
        "attention": "gau",
        "attention_key_size": 128,
        "num_attention_heads": 1,
        "hidden_act": "swish",
        "lm_transform": False,
        "lm_bias": False,
    },
    "modernbert": {
        "family": "modernbert",
        "position": "rotary",
        "rotary_halves": True,
        "rotary_base": 160_000.0,
        "segment_vocab_size": 0,
        "norm": "bias_free",
        "norm_at": "pre",
        "norm_epsilon": 1e-5,
        "first_norm": False,
        "final_norm": True,
        "use_bias": False,
        "gated": True,
    },
    "megatron_bert": {
        "family": "megatron_bert",
        "norm_at": "pre",
        "embedding_norm": False,
        "final_norm": True,
    },
    "electra": {"family": "electra"},
    "electra_generator": {"family": "electra_generator"},
    "gpt": _GPT,
    "gpt2": _GPT2,
    "gpt2_ml": _GPT2_ML,
    "t5.1.0": _T5,
    "t5.1.1": _T5_1_1,
    "mt5.1.1": _MT5,
    "t5_pegasus": _MT5
    | {
        "family": "t5_pegasus",
        "hidden_act": "gelu",
        "cross_position_bias": True,
        "scale_decoder_outputs": True,
    },
}

ARCHITECTURES |= {
    f"{name}_{stack}": row | {"stacks": stack}
    for name, row in ARCHITECTURES.items()
    if row.get("stacks") == "both"
    for stack in ("encoder", "decoder")
}

# As in bert4keras, generative models have the language-model head unless with_lm=False.
APPLICATIONS = {
    "encoder": {},
    "lm": {"attend": "lm", "with_lm": True},
    "unilm": {"attend": "unilm", "with_lm": True},
}
