"""The names of weights and of config keys, here and in the files people hold: data, no logic.

A row of a family's table is `(role, here, TensorFlow, Hugging Face)`. `here` is the path of a
layer (`{i}` counts the blocks, `{j}` those of a decoder); the other two are the prefixes of its
variables in a checkpoint: one spelling, several (the first is written, all are read), or None
where that format stores them otherwise. `ROLES` says, for each role, which variables the layer
has, how each ends in a checkpoint and how it is turned on the way.
"""

# how a stored array becomes a variable; each is its own inverse
SAME, TURN, ROWS, TURNED_ROWS = "same", "turn", "rows", "turned rows"  # rows: one for each token

# What a condition adds to a normalization starts at zero and is in no published checkpoint: it is
# written, and read where it is there.
OPTIONAL = ["gamma_dense/kernel", "beta_dense/kernel", "hidden_dense/kernel"]

_CONDITION_TF = [(name, ["/" + name], SAME) for name in OPTIONAL]
_CONDITION_HF = [(name, ["." + name.replace("/", ".")], SAME) for name in OPTIONAL]
_QKV = ["query", "key", "value"]

# role -> (variable, endings, how[, which of how many equal parts of the last axis])
ROLES = {
    "tf": {
        "tokens": [("embeddings", [""], ROWS)],
        "tokens_out": [("embeddings", ["/kernel"], TURNED_ROWS)],
        "table": [("embeddings", [""], SAME)],
        "heads_table": [("embeddings", [""], TURN)],
        "norm": [("gamma", ["/gamma"], SAME), ("beta", ["/beta"], SAME), *_CONDITION_TF],
        "scale": [("gamma", ["/scale"], SAME), *_CONDITION_TF],
        "linear": [("kernel", ["/kernel"], SAME), ("bias", ["/bias"], SAME)],
        "matrix": [("kernel", [""], SAME)],
        "pair": [("kernel", ["/output_weights"], TURN), ("bias", ["/output_bias"], SAME)],
        "token_bias": [("beta", ["/output_bias"], ROWS)],
    },
    "hf": {
        "tokens": [("embeddings", [".weight"], ROWS)],
        "tokens_out": [("embeddings", [".weight"], ROWS)],
        "table": [("embeddings", [".weight"], SAME)],
        "heads_table": [("embeddings", [".weight"], SAME)],
        "norm": [
            ("gamma", [".weight", ".gamma"], SAME), ("beta", [".bias", ".beta"], SAME),
            *_CONDITION_HF,
        ],
        "scale": [("gamma", [".weight"], SAME), *_CONDITION_HF],
        "linear": [("kernel", [".weight"], TURN), ("bias", [".bias"], SAME)],
        "matrix": [("kernel", [".weight"], TURN)],
        "pair": [("kernel", [".weight"], TURN), ("bias", [".bias"], SAME)],
        "qkv": [(f"{name}/kernel", [".weight"], TURN, (i, 3)) for i, name in enumerate(_QKV)],
        "gated": [
            (f"{name}/kernel", [".weight"], TURN, (i, 2)) for i, name in enumerate(["input", "gate"])
        ],
        "conv1d": [("kernel", [".weight"], SAME), ("bias", [".bias"], SAME)],
        "qkv_conv1d": [
            *((f"{name}/kernel", [".weight"], SAME, (i, 3)) for i, name in enumerate(_QKV)),
            *((f"{name}/bias", [".bias"], SAME, (i, 3)) for i, name in enumerate(_QKV)),
        ],
        "token_bias": [("beta", [".bias", ".decoder.bias"], ROWS)],
    },
}  # fmt: skip
# files of Keras have our own names
ROLES["keras"] = {
    role: [(name, ["/" + name], ROWS if "rows" in how else SAME) for name, _, how, *_ in variables]
    for role, variables in (ROLES["tf"] | ROLES["hf"]).items()
}

# ---------------------------------------------------------------- BERT and what is named like it

_EMBEDDINGS = [
    ("tokens", "token_embedding", "bert/embeddings/word_embeddings", "bert.embeddings.word_embeddings"),
    ("table", "segment_embedding", "bert/embeddings/token_type_embeddings", "bert.embeddings.token_type_embeddings"),
    ("table", "position_embedding", "bert/embeddings/position_embeddings", "bert.embeddings.position_embeddings"),
    ("norm", "embedding_norm", "bert/embeddings/LayerNorm", "bert.embeddings.LayerNorm"),
    ("linear", "embedding_projection", "bert/encoder/embedding_hidden_mapping_in", "bert.embeddings_project"),
]  # fmt: skip

_BLOCKS = [
    ("linear", "block_{i}/attention/query", "bert/encoder/layer_{i}/attention/self/query", "bert.encoder.layer.{i}.attention.self.query"),
    ("linear", "block_{i}/attention/key", "bert/encoder/layer_{i}/attention/self/key", "bert.encoder.layer.{i}.attention.self.key"),
    ("linear", "block_{i}/attention/value", "bert/encoder/layer_{i}/attention/self/value", "bert.encoder.layer.{i}.attention.self.value"),
    ("linear", "block_{i}/attention/output", "bert/encoder/layer_{i}/attention/output/dense", "bert.encoder.layer.{i}.attention.output.dense"),
    ("norm", "block_{i}/attention_out_norm", "bert/encoder/layer_{i}/attention/output/LayerNorm", "bert.encoder.layer.{i}.attention.output.LayerNorm"),
    ("linear", "block_{i}/ffn/input", "bert/encoder/layer_{i}/intermediate/dense", "bert.encoder.layer.{i}.intermediate.dense"),
    ("linear", "block_{i}/ffn/output", "bert/encoder/layer_{i}/output/dense", "bert.encoder.layer.{i}.output.dense"),
    ("norm", "block_{i}/ffn_out_norm", "bert/encoder/layer_{i}/output/LayerNorm", "bert.encoder.layer.{i}.output.LayerNorm"),
]  # fmt: skip

_HEADS = [
    ("linear", "pooler", "bert/pooler/dense", "bert.pooler.dense"),
    ("pair", "nsp", "cls/seq_relationship", "cls.seq_relationship"),
    ("linear", "lm_dense", "cls/predictions/transform/dense", "cls.predictions.transform.dense"),
    ("norm", "lm_norm", "cls/predictions/transform/LayerNorm", "cls.predictions.transform.LayerNorm"),
    ("token_bias", "lm_bias", "cls/predictions", "cls.predictions"),
    ("tokens_out", "lm_head", "cls/predictions/decoder", "cls.predictions.decoder"),
]  # fmt: skip

BERT = [*_EMBEDDINGS, *_BLOCKS, *_HEADS]


def _renamed(rows, *replacements):
    """The rows with `(old, new)` replaced in both columns of names."""
    renamed = []
    for role, here, *names in rows:
        for old, new in replacements:
            names = [name.replace(old, new) for name in names]
        renamed.append((role, here, *names))
    return renamed


NEZHA = _renamed(BERT, ("bert.", "nezha."))
ROFORMER = _renamed(BERT, ("bert.", "roformer."))

_ELECTRA_NAMES = (
    ("bert/", "electra/"),
    ("bert.", "electra."),
    ("encoder/embedding_hidden_mapping_in", "embeddings_project"),
)
ELECTRA = [
    *_renamed([*_EMBEDDINGS, *_BLOCKS], *_ELECTRA_NAMES),
    ("linear", "discriminator_dense", "discriminator_predictions/dense", "discriminator_predictions.dense"),
    ("linear", "discriminator_prediction", "discriminator_predictions/dense_1", "discriminator_predictions.dense_prediction"),
]  # fmt: skip

# Google's file holds both networks; the generator has its embeddings of its own or shares them.
ELECTRA_GENERATOR = [
    *(
        (role, here, (tf.replace("electra/", "generator/"), tf), hf)
        for role, here, tf, hf in _renamed([*_EMBEDDINGS, *_BLOCKS], *_ELECTRA_NAMES)
    ),
    ("linear", "lm_dense", "generator_predictions/dense", "generator_predictions.dense"),
    ("norm", "lm_norm", "generator_predictions/LayerNorm", "generator_predictions.LayerNorm"),
    ("token_bias", "lm_bias", "generator_predictions", "generator_lm_head"),
    ("tokens_out", "lm_head", "generator_predictions/decoder", "generator_lm_head"),
]  # fmt: skip

_ALBERT_TF = "bert/encoder/transformer/group_0/inner_group_0"
_ALBERT_HF = "albert.encoder.albert_layer_groups.0.albert_layers.0"
_ALBERT_BLOCK = [
    ("linear", "block/attention/query", f"{_ALBERT_TF}/attention_1/self/query", f"{_ALBERT_HF}.attention.query"),
    ("linear", "block/attention/key", f"{_ALBERT_TF}/attention_1/self/key", f"{_ALBERT_HF}.attention.key"),
    ("linear", "block/attention/value", f"{_ALBERT_TF}/attention_1/self/value", f"{_ALBERT_HF}.attention.value"),
    ("linear", "block/attention/output", f"{_ALBERT_TF}/attention_1/output/dense", f"{_ALBERT_HF}.attention.dense"),
    ("norm", "block/attention_out_norm", f"{_ALBERT_TF}/LayerNorm", f"{_ALBERT_HF}.attention.LayerNorm"),
    ("linear", "block/ffn/input", f"{_ALBERT_TF}/ffn_1/intermediate/dense", f"{_ALBERT_HF}.ffn"),
    ("linear", "block/ffn/output", f"{_ALBERT_TF}/ffn_1/intermediate/output/dense", f"{_ALBERT_HF}.ffn_output"),
    ("norm", "block/ffn_out_norm", f"{_ALBERT_TF}/LayerNorm_1", f"{_ALBERT_HF}.full_layer_layer_norm"),
]  # fmt: skip
_ALBERT_NAMES = (
    ("bert.", "albert."),
    (".embeddings_project", ".encoder.embedding_hidden_mapping_in"),
    (".pooler.dense", ".pooler"),
    ("cls.seq_relationship", "sop_classifier.classifier"),
    ("cls.predictions.transform.", "predictions."),
    ("cls.predictions", "predictions"),
)
ALBERT = [
    *_renamed(_EMBEDDINGS, *_ALBERT_NAMES),
    *_ALBERT_BLOCK,
    *_renamed(_HEADS, *_ALBERT_NAMES),
]
# every block reads the one that is stored; once trained apart, they are written as BERT's
ALBERT_UNSHARED = [
    *_renamed(_EMBEDDINGS, *_ALBERT_NAMES),
    *(
        (role, here, (tf, shared_tf), (hf, shared_hf))
        for (role, here, tf, hf), (_, _, shared_tf, shared_hf) in zip(
            _BLOCKS, _ALBERT_BLOCK, strict=True
        )
    ),
    *_renamed(_HEADS, *_ALBERT_NAMES),
]

GAU_ALPHA = [
    *_EMBEDDINGS,
    ("linear", "block_{i}/attention/input", "GAU_alpha/encoder/layer_{i}/gau/i_dense", None),
    ("linear", "block_{i}/attention/output", "GAU_alpha/encoder/layer_{i}/gau/o_dense", None),
    ("norm", "block_{i}/attention/query_scale", "GAU_alpha/encoder/layer_{i}/gau/q_scaleoffset", None),
    ("norm", "block_{i}/attention/key_scale", "GAU_alpha/encoder/layer_{i}/gau/k_scaleoffset", None),
    ("norm", "block_{i}/attention_out_norm", "GAU_alpha/encoder/layer_{i}/gau/LayerNorm", None),
    *_HEADS,
]  # fmt: skip

_MODERNBERT = "model.layers.{i}"
MODERNBERT = [
    ("tokens", "token_embedding", None, "model.embeddings.tok_embeddings"),
    ("scale", "embedding_norm", None, "model.embeddings.norm"),
    ("scale", "block_{i}/attention_in_norm", None, f"{_MODERNBERT}.attn_norm"),
    ("qkv", "block_{i}/attention", None, f"{_MODERNBERT}.attn.Wqkv"),
    ("matrix", "block_{i}/attention/output", None, f"{_MODERNBERT}.attn.Wo"),
    ("scale", "block_{i}/ffn_in_norm", None, f"{_MODERNBERT}.mlp_norm"),
    ("gated", "block_{i}/ffn", None, f"{_MODERNBERT}.mlp.Wi"),
    ("matrix", "block_{i}/ffn/output", None, f"{_MODERNBERT}.mlp.Wo"),
    ("scale", "final_norm", None, "model.final_norm"),
    ("matrix", "lm_dense", None, "head.dense"),
    ("scale", "lm_norm", None, "head.norm"),
    ("token_bias", "lm_bias", None, "decoder"),
    ("tokens_out", "lm_head", None, "decoder"),
]

# ---------------------------------------------------------------- language models

_GPT_TF = (("bert/", "gpt/"), ("/encoder/", "/transformer/"))
_GPT_EMBEDDINGS = [
    ("tokens", "token_embedding", "gpt/embeddings/word_embeddings", "transformer.tokens_embed"),
    ("table", "segment_embedding", "gpt/embeddings/token_type_embeddings", None),
    ("table", "position_embedding", "gpt/embeddings/position_embeddings", "transformer.positions_embed"),
    ("tokens_out", "lm_head", "gpt/lm_head", "lm_head"),
]  # fmt: skip
_GPT_BLOCKS = [
    *((role, here, tf, None) for role, here, tf, _ in _renamed(_BLOCKS, *_GPT_TF)),
    ("qkv_conv1d", "block_{i}/attention", None, "transformer.h.{i}.attn.c_attn"),
    ("conv1d", "block_{i}/attention/output", None, "transformer.h.{i}.attn.c_proj"),
    ("conv1d", "block_{i}/ffn/input", None, "transformer.h.{i}.mlp.c_fc"),
    ("conv1d", "block_{i}/ffn/output", None, "transformer.h.{i}.mlp.c_proj"),
]
GPT = [
    *_GPT_EMBEDDINGS,
    *_GPT_BLOCKS,
    ("norm", "block_{i}/attention_out_norm", None, "transformer.h.{i}.ln_1"),
    ("norm", "block_{i}/ffn_out_norm", None, "transformer.h.{i}.ln_2"),
]
GPT2 = [
    *_renamed(
        [row for row in _GPT_EMBEDDINGS if row[3]],
        ("tokens_embed", "wte"),
        ("positions_embed", "wpe"),
    ),
    *(row for row in _GPT_BLOCKS if row[0] != "norm"),
    ("norm", "block_{i}/attention_in_norm", "gpt/transformer/layer_{i}/attention/input/LayerNorm", "transformer.h.{i}.ln_1"),
    ("norm", "block_{i}/ffn_in_norm", "gpt/transformer/layer_{i}/input/LayerNorm", "transformer.h.{i}.ln_2"),
    ("norm", "final_norm", "gpt/output/LayerNorm", "transformer.ln_f"),
]  # fmt: skip
GPT2_ML = [
    ("tokens", "token_embedding", "newslm/embeddings/word_embed", None),
    ("table", "position_embedding", "newslm/embeddings/pos_embed", None),
    ("norm", "embedding_norm", "newslm/embeddings/LayerNorm_embed_norm", None),
    ("linear", "block_{i}/attention/query", "newslm/layer{i:02d}/query_layer", None),
    ("linear", "block_{i}/attention/key", "newslm/layer{i:02d}/key_layer", None),
    ("linear", "block_{i}/attention/value", "newslm/layer{i:02d}/value_layer", None),
    ("linear", "block_{i}/attention/output", "newslm/layer{i:02d}/context_projection_layer", None),
    ("norm", "block_{i}/ffn_in_norm", "newslm/layer{i:02d}/LayerNorm_mlp_ln0", None),
    ("linear", "block_{i}/ffn/input", "newslm/layer{i:02d}/intermediate", None),
    ("linear", "block_{i}/ffn/output", "newslm/layer{i:02d}/output", None),
    ("norm", "block_{i}/ffn_out_norm", "newslm/layer{i:02d}/LayerNorm_mlp_ln1", None),
    ("tokens_out", "lm_head", "newslm/lm_head", None),
]


def _t5(norms, final_norms, inputs):
    """T5's table. Names that changed from version to version: the first is written."""

    def stack(name, i, sublayers):
        tf, hf = f"{name}/block_{{{i}:03d}}/layer_", f"{name}.block.{{{i}}}.layer."
        rows = []
        for n, (ours, theirs) in enumerate(sublayers):
            here, tf_layer, hf_layer = f"{name}_block_{{{i}}}/{ours}", f"{tf}{n:03d}", f"{hf}{n}"
            spelled = tuple(f"{tf_layer}/{norm}" for norm in norms)
            rows.append(("scale", f"{here}_in_norm", spelled, f"{hf_layer}.layer_norm"))
            if ours == "ffn":
                parts = [("input", inputs), ("gate", ["wi_1"]), ("output", ["wo"])]
                role = "linear"
            else:
                parts = [(_QKV[k], "qkv"[k]) for k in range(3)] + [("output", "o")]
                role = "matrix"
            for part, letters in parts:
                tf_names = tuple(f"{tf_layer}/{theirs}/{letter}" for letter in letters)
                hf_names = tuple(f"{hf_layer}.{theirs}.{letter}" for letter in letters)
                rows.append((role, f"{here}/{part}", tf_names, hf_names))
        finals = tuple(f"{name}/{norm}" for norm in final_norms)
        rows.append(("scale", f"{name}_final_norm", finals, f"{name}.final_layer_norm"))
        first = f"{name}/block_000/layer_000", f"{name}.block.0.layer.0"
        rows.append(
            ("heads_table", f"{name}_relative_bias", f"{first[0]}/SelfAttention/relative_attention_bias", f"{first[1]}.SelfAttention.relative_attention_bias")
        )  # fmt: skip
        return rows

    attention, ffn = ("attention", "SelfAttention"), ("ffn", "DenseReluDense")
    return [
        ("tokens", "token_embedding", "shared/embedding", ("shared", "encoder.embed_tokens", "decoder.embed_tokens")),
        *stack("encoder", "i", [attention, ffn]),
        *stack("decoder", "j", [attention, ("cross", "EncDecAttention"), ffn]),
        ("tokens_out", "lm_head", "decoder/logits", "lm_head"),
    ]  # fmt: skip


_T5_NORMS, _MT5_NORMS = ("layer_norm", "rms_norm"), ("rms_norm", "layer_norm")
_T5_FINALS, _MT5_FINALS = ("final_layer_norm", "rms_norm"), ("rms_norm", "final_layer_norm")
_PLAIN, _GATED = ("wi", "wi_0"), ("wi_0", "wi")

# what `Config.family` may be
WEIGHTS = {
    "bert": BERT,
    "albert": ALBERT,
    "albert_unshared": ALBERT_UNSHARED,
    "nezha": NEZHA,
    "roformer": ROFORMER,
    "roformer_v2": ROFORMER,
    "gau_alpha": GAU_ALPHA,
    "modernbert": MODERNBERT,
    "electra": ELECTRA,
    "electra_generator": ELECTRA_GENERATOR,
    "gpt": GPT,
    "gpt2": GPT2,
    "gpt2_ml": GPT2_ML,
    "t5.1.0": _t5(_T5_NORMS, _T5_FINALS, _PLAIN),
    "t5.1.1": _t5(_T5_NORMS, _T5_FINALS, _GATED),
    "mt5.1.1": _t5(_MT5_NORMS, _MT5_FINALS, _GATED),
    "t5_pegasus": _t5(_MT5_NORMS, _MT5_FINALS, _GATED),
}

# What a checkpoint may hold beside the model: traces of an optimizer, constants.
SKIPPABLE = [
    r"(^|.*/)(adam_m|adam_v|Adam(_\d+)?|AdamWeightDecayOptimizer(_\d+)?|LAMB\w*)$",
    r"(?s).*/\.OPTIMIZER_SLOT/.*",
    r"(^|.*/)(global_step|beta[12]_power|temperature|good_steps|loss_scale)$",
    r".*_slot_(v|vr|vc|m)$",
    r"(?s).*rng_(state|tracker_states).*",
    r".*embeddings\.(position_ids|token_type_ids)$",
    r"(.*\.)?attn\.(bias|masked_bias)$",  # GPT's causal mask, written out
    r"(?s).*relative_positions_encoding.*",
    r".*encoder\.embed_positions\.weight$",
    r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight$",
]

# Copies of the token table that some files hold, and of a head that is tied to it: must be equal.
COPIES = [r"(encoder|decoder)\.embed_tokens\.weight$"]
TIED_HEADS = [
    r"(cls\.)?predictions\.decoder\.weight$",
    r"(generator_lm_head|lm_head|decoder)\.weight$",
    r"lm_head/embeddings$",  # in files of Keras
    r"((cls|generator)(/|_)predictions/decoder|(gpt|newslm)/lm_head|decoder/logits)/kernel$",
]

# How a family is known by the names of its weights: one name fits the first pattern and none the
# second; the first line that holds counts. The likeliest family is the first.
FINGERPRINTS = [
    (r"generator_(predictions|lm_head)", r"discriminator_predictions|electra/encoder", ["electra_generator"]),
    (r"electra[./]|discriminator_predictions", None, ["electra"]),
    (r"albert\.|.*/inner_group_0/|.*albert_layer_groups", None, ["albert", "albert_unshared"]),
    (r"newslm/", None, ["gpt2_ml"]),
    (r"GAU_alpha/", None, ["gau_alpha"]),
    (r"nezha\.", None, ["nezha"]),
    (r"(model\.)?layers\.\d+\.attn\.Wqkv", None, ["modernbert"]),
    (r"roformer\.", r".*(bias|LayerNorm)", ["roformer_v2"]),
    (r"roformer\.", None, ["roformer"]),
    (r"encoder/block_000/layer_001/DenseReluDense/wi_1", r".*layer_norm/", ["mt5.1.1", "t5_pegasus"]),
    (r".*(block_000/layer_00.|block\.0\.layer\..)[./]DenseReluDense[./]wi_1", None, ["t5.1.1", "mt5.1.1", "t5_pegasus"]),
    (r".*(block_000/layer_000|block\.0\.layer\.0)[./]SelfAttention", None, ["t5.1.0"]),
    (r"gpt/.*/attention/input/LayerNorm", None, ["gpt2"]),
    (r"gpt/|(transformer\.)?tokens_embed", None, ["gpt"]),
    (r"(transformer\.)?h\.\d+\.attn\.", None, ["gpt2"]),
    (r"(bert[./])?embeddings[./]word_embeddings", r".*(bias|LayerNorm|position_embeddings)", ["roformer_v2"]),
    (r"bert/embeddings/word_embeddings", r".*position_embeddings", ["nezha", "roformer"]),
    (r"(bert[./])?(encoder[./]layer[_.]\d+[./]|embeddings[./])", None, ["bert", "albert_unshared"]),
]  # fmt: skip

# Architectures of transformers whose weights are named like BERT's or GPT-2's, but for a prefix or a
# head, and that compute otherwise: prefixes and classes, in small letters and without underscores.
FOREIGN = (
    r"align|altclip|bertgeneration|bigbird|bliptext|bridgetower|bros|camembert|chineseclip|clap|convbert|"
    r"data2vectext|deberta|debertav2|decisiontransformer|ernie|erniem|esm|fnet|git|gptbigcode|ibert|imagegpt|"
    r"layoutlm|layoutlmv2|layoutlmv3|lilt|longformer|luke|lxmert|markuplm|megatronbert|mobilebert|mpnet|mra|"
    r"nystromformer|qdqbert|rembert|roberta|robertaprelayernorm|rocbert|splinter|tapas|visualbert|"
    r"xlmroberta|xlmrobertaxl|xmod|yoso"
)
FOREIGN_CLASS = (
    rf"(TF|Flax)?(?i:{FOREIGN})(PreTrained)?(Model|Encoder|Decoder|For[A-Z]\w*|LMHead\w*)"
)
FOREIGN_HEAD = r"lm_head\.(dense|layer_norm)\..*"  # RoBERTa's

# ---------------------------------------------------------------- configs

# `model_type` of a published config -> the families it may mean, the likeliest first. Our own
# configs say the family.
MODEL_TYPES = {
    "bert": ["bert"],
    "albert": ["albert", "albert_unshared"],
    "electra": ["electra", "electra_generator"],
    "nezha": ["nezha"],
    "modernbert": ["modernbert"],
    "roformer": ["roformer", "roformer_v2"],
    "openai-gpt": ["gpt"],
    "gpt2": ["gpt2"],
    "t5": ["t5.1.0", "t5.1.1", "mt5.1.1", "t5_pegasus"],
    "mt5": ["mt5.1.1", "t5.1.1", "t5.1.0", "t5_pegasus"],
}

# `pad_token_id` in the configs that are saved here: under that name, others' are often wrong
HIDDEN_TOKEN = "attention_pad_token_id"

# keys of published configs, and our names for them
CONFIG_KEYS = {
    HIDDEN_TOKEN: "pad_token_id",
    "max_position_embeddings": "max_position",
    "n_positions": "max_position",
    "max_seq_length": "max_position",
    "type_vocab_size": "segment_vocab_size",
    "n_vocab": "vocab_size",
    "n_embd": "hidden_size",
    "d_model": "hidden_size",
    "emb_size": "embedding_size",
    "n_layer": "num_hidden_layers",
    "num_layers": "num_hidden_layers",
    "layers_num": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "num_heads": "num_attention_heads",
    "heads_num": "num_attention_heads",
    "n_inner": "intermediate_size",
    "d_ff": "intermediate_size",
    "feedforward_size": "intermediate_size",
    "d_kv": "attention_head_size",
    "activation_function": "hidden_act",
    "afn": "hidden_act",
    "hidden_dropout_prob": "dropout_rate",
    "resid_pdrop": "dropout_rate",
    "dropout": "dropout_rate",
    "attention_probs_dropout_prob": "attention_dropout_rate",
    "attn_pdrop": "attention_dropout_rate",
    "layer_norm_eps": "norm_epsilon",
    "layer_norm_epsilon": "norm_epsilon",
    "norm_eps": "norm_epsilon",
    "hidden_activation": "hidden_act",
    "attention_dropout": "attention_dropout_rate",
    "mlp_dropout": "dropout_rate",
    "global_rope_theta": "rotary_base",
    "relative_attention_num_buckets": "relative_buckets",
    "relative_attention_max_distance": "relative_max_distance",
    "max_relative_position": "relative_max_distance",
    "rotary_value": "rotate_values",
    "tie_weights": "tie_word_embeddings",
    "with_mlm": "with_lm",
    "final_activation": "with_lm",
}

# what UER's inputs are the sum of: tokens, positions, segments
UER_EMBEDDINGS = [
    *(["word", "pos", "seg"], ["word", "pos"], ["word", "seg"], ["word"]),
    *("word_pos_seg", "word_pos", "word_seg", "word"),
]

# Keys that change the architecture, and the values of them that this toolkit computes; or their kind,
# where `configs.translate` tells which it understands.
CONFIG_ONLY = {
    "model_type": str,
    "architectures": list,
    "position_embedding_type": ["absolute"],
    "is_decoder": bool,
    "is_encoder_decoder": bool,
    "num_hidden_groups": [1],
    "inner_group_num": [1],
    "ln_type": ["postln"],
    "net_structure_type": [0],
    "num_memory_blocks": [0],
    "down_scale_factor": [1],
    "gap_size": [0],
    "add_cross_attention": [False],
    "scale_attn_weights": [True],
    "scale_attn_by_inverse_layer_idx": [False],
    "reorder_and_upcast_attn": [False],
    "pruned_heads": [{}],
    "rope_scaling": [],
    "global_attn_every_n_layers": [1],
    **{key: [False] for key in ("attention_bias", "mlp_bias", "norm_bias", "classifier_bias")},
    "decoder_bias": [True],
    "layer_types": list,
    "rope_parameters": dict,
    "n_special": int,
    "norm_type": ["layer_norm", "rms_norm"],
    "pooler_activation": str,
    "classifier_activation": str,
    # Tencent's UER
    "encoder": ["transformer", "bert"],
    "decoder": ["transformer"],
    "mask": ["fully_visible", "causal", "causal_with_prefix"],
    "embedding": UER_EMBEDDINGS,
    "tgt_embedding": UER_EMBEDDINGS,
    "use_relative_position": bool,
    "is_gated_act": bool,
    "dense_act_fn": str,
    "feed_forward_proj": str,
    "feed_forward": str,
}

# what is understood of `rope_parameters` and what is in them, beside `rope_theta`
ROPE_ONLY = {"rope_type": ["default"], "type": ["default"], "partial_rotary_factor": [1, 1.0]}

# keys that shape a model, known or not (a pattern, of which `.` is to match all: a line break after
# which `.*` has to begin again and again takes quadratic time)
CONFIG_GEOMETRY = (
    r".*_vocab_size|.*_layers?|.*_heads?|.*_groups?|.*_blocks?|.*_dim|hidden_.*|intermediate_.*|"
    r".*norm|.*norm_.*|rope.*|.*_scaling"
)

# keys that change nothing of what is computed here (patterns)
CONFIG_NOTES = (
    r"_.*|.*token_ids?|.*_token|.*token_id.*|.*dropout.*|.*pdrop|summary_.*|pooler_.*|.*version|"
    r"attn_implementation|chunk_size_feed_forward|directionality|dtype|torch_dtype|"
    r"finetuning_task|task_specific_params|gradient_checkpointing|id2label|label2id|num_labels|"
    r"language|model_name|name|name_or_path|output_.*|problem_type|return_dict.*|"
    r"tokenizer_class|tokenizer_type|use_cache|use_bfloat16|torchscript|tie_encoder_decoder|initializer_factor|"
    r"n_ctx|predict_special_tokens|classifier_.*|local_attention|local_rope_theta|deterministic_flash_attn|initializer_cutoff_factor|reference_compile|repad_logits_with_grad|sparse_pred.*|vocab_file|vocab_type|fp16|onnx_export|sop|"
    # Tencent's UER
    r"target|data_processor|"
    r"share_embedding|word_embedding|"
    # generation
    r"do_sample|early_stopping|length_penalty|max_length|min_length|no_repeat_ngram_size|num_beams|"
    r"num_beam_groups|num_return_sequences|prefix|repetition_penalty|temperature|top_k|top_p|"
    r"typical_p|bad_words_ids|diversity_penalty|encoder_no_repeat_ngram_size|remove_invalid_values|"
    r"exponential_decay_length_penalty|suppress_tokens|begin_suppress_tokens|cross_attention_.*|"
    r"is_composition|tf_legacy_loss|"
    # transformers' own bookkeeping
    r"auto_map|xla_device|loss_type|keys_to_ignore_at_inference|transformers\.js_config"
)

_BERT_KEYS = {
    "vocab_size": "vocab_size", "hidden_size": "hidden_size",
    "num_hidden_layers": "num_hidden_layers", "num_attention_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size", "hidden_act": "hidden_act",
    "max_position": "max_position_embeddings", "segment_vocab_size": "type_vocab_size",
    "dropout_rate": "hidden_dropout_prob", "attention_dropout_rate": "attention_probs_dropout_prob",
    "norm_epsilon": "layer_norm_eps", "initializer_range": "initializer_range",
    "tie_word_embeddings": "tie_word_embeddings",
}  # fmt: skip
_GPT_KEYS = {
    "vocab_size": "vocab_size", "hidden_size": "n_embd", "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head", "max_position": "n_positions", "dropout_rate": "resid_pdrop",
    "attention_dropout_rate": "attn_pdrop", "norm_epsilon": "layer_norm_epsilon",
    "initializer_range": "initializer_range", "tie_word_embeddings": "tie_word_embeddings",
}  # fmt: skip
_T5_KEYS = {
    "vocab_size": "vocab_size", "hidden_size": "d_model", "num_hidden_layers": "num_layers",
    "num_decoder_layers": "num_decoder_layers", "num_attention_heads": "num_heads",
    "attention_head_size": "d_kv", "intermediate_size": "d_ff", "dropout_rate": "dropout_rate",
    "norm_epsilon": "layer_norm_epsilon", "relative_buckets": "relative_attention_num_buckets",
    "relative_max_distance": "relative_attention_max_distance",
    "tie_word_embeddings": "tie_word_embeddings", "scale_decoder_outputs": "scale_decoder_outputs",
    "gated": "feed_forward_proj",
    "hidden_act": "feed_forward_proj",
}  # fmt: skip
_EMBEDDING_SIZE = {"embedding_size": "embedding_size"}
_MODERNBERT_KEYS = _BERT_KEYS | {
    "hidden_act": "hidden_activation", "dropout_rate": "mlp_dropout", "norm_epsilon": "norm_eps",
    "attention_dropout_rate": "attention_dropout", "rotary_base": "global_rope_theta",
}  # fmt: skip
del _MODERNBERT_KEYS["segment_vocab_size"]

# what Google's and bert4keras' config files call our fields (all others: our own names)
KEYS_TF = {k: v for k, v in _BERT_KEYS.items() if k != "norm_epsilon"} | {
    "norm_epsilon": "layer_norm_eps"
}

# family -> model_type; classes without a head, with the head for tokens, with all heads; what
# transformers calls our fields. Families that are not here have no Hugging Face form.
HUGGING_FACE = {
    "bert": ("bert", ["BertModel", "BertForMaskedLM", "BertForPreTraining"], _BERT_KEYS),
    "albert": (
        "albert",
        ["AlbertModel", "AlbertForMaskedLM", "AlbertForPreTraining"],
        _BERT_KEYS | _EMBEDDING_SIZE,
    ),
    "nezha": (
        "nezha",
        ["NezhaModel", "NezhaForMaskedLM", "NezhaForPreTraining"],
        _BERT_KEYS | {"relative_max_distance": "max_relative_position"},
    ),
    "roformer": (
        "roformer",
        ["RoFormerModel", "RoFormerForMaskedLM", "RoFormerForMaskedLM"],
        _BERT_KEYS | _EMBEDDING_SIZE | {"rotate_values": "rotary_value"},
    ),
    "modernbert": (
        "modernbert",
        ["ModernBertModel", *["ModernBertForMaskedLM"] * 2],
        _MODERNBERT_KEYS,
    ),
    "electra": (
        "electra",
        ["ElectraModel", "ElectraModel", "ElectraForPreTraining"],
        _BERT_KEYS | _EMBEDDING_SIZE,
    ),
    "electra_generator": (
        "electra",
        ["ElectraModel", "ElectraForMaskedLM", "ElectraForMaskedLM"],
        _BERT_KEYS | _EMBEDDING_SIZE,
    ),
    "gpt": (
        "openai-gpt",
        ["OpenAIGPTModel", "OpenAIGPTLMHeadModel", "OpenAIGPTLMHeadModel"],
        _GPT_KEYS | {"hidden_act": "afn"},
    ),
    "gpt2": (
        "gpt2",
        ["GPT2Model", "GPT2LMHeadModel", "GPT2LMHeadModel"],
        _GPT_KEYS | {"hidden_act": "activation_function", "intermediate_size": "n_inner"},
    ),
    "t5.1.0": ("t5", ["T5EncoderModel", *["T5ForConditionalGeneration"] * 2], _T5_KEYS),
    "t5.1.1": ("t5", ["T5EncoderModel", *["T5ForConditionalGeneration"] * 2], _T5_KEYS),
    "mt5.1.1": ("mt5", ["MT5EncoderModel", *["MT5ForConditionalGeneration"] * 2], _T5_KEYS),
}

ACTIVATIONS_HF = {"gelu_erf": "gelu", "gelu_tanh": "gelu_new", "swish": "silu"}
# the activations that are known to transformers and here, and to its GPT
TRANSFORMERS_KNOWS = {
    *("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "silu", "relu", "relu6", "mish"),
    *("sigmoid", "tanh", "linear"),
}
GPT_KNOWS = {"gelu", "gelu_new", "silu", "relu"}
