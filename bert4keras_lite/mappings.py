"""Names of weights and config keys, ours and those of published files: tables without logic.

A row of a family's table is `(role, layer_path, TensorFlow, Hugging Face)`. `layer_path` is ours
(`{i}` counts the blocks, `{j}` those of a decoder); the other two are the prefixes of the layer's
variables in a checkpoint: one name, several (the first is written, all are read), or None where
that format stores the variables in another way. For each role, `ROLES` lists the variables of the
layer, how the name of each ends in a checkpoint, and how its array is stored there.
"""

from typing import NamedTuple, TypeAlias

__all__ = [
    "ACTIVATIONS_HF",
    "BART_KEYS",
    "BERT_KEYS",
    "BIASES",
    "BLOCK_PARTS",
    "CONFIG_GEOMETRY",
    "CONFIG_KEYS",
    "CONFIG_NOTES",
    "CONFIG_ONLY",
    "COPIES",
    "DECODER_IDS",
    "DECODER_IDS_READ",
    "DISTIL_KEYS",
    "FIXED_POSITIONS",
    "GPT_KEYS",
    "HEAD_NAMES",
    "LEFTOVERS",
    "LLAMA_KEYS",
    "LLAMA_NAMES",
    "MISSING",
    "NAMED_HF",
    "NAMED_HF_GPT",
    "OF_CLASSES",
    "OF_ONE_STACK",
    "OPTIONAL",
    "OTHER_ARCHITECTURES",
    "OTHER_CLASS",
    "PADDING_READ",
    "PAD_TOKEN_KEY",
    "PARTLY_ROTARY",
    "ROBERTA_HEAD",
    "ROLES",
    "ROPE_ONLY",
    "SKIPPABLE",
    "T5_KEYS",
    "TIED_HEADS",
    "UNSET",
    "WEIGHTS",
    "ZEROS",
]


class Storage(NamedTuple):
    """How a checkpoint stores a variable.

    Attributes:
        transpose: as its transpose.
        per_token: with one row (of the variable) for each token of the vocabulary.
        as_row: as the only row of a matrix.
    """

    transpose: bool = False
    per_token: bool = False
    as_row: bool = False


# names of a layer in a format, and a row of a table: role, layer path, TensorFlow, Hugging Face
Names: TypeAlias = str | tuple[str, ...] | None
Row: TypeAlias = tuple[str, str, Names, Names]

SAME = Storage()
TRANSPOSE = Storage(transpose=True)
PER_TOKEN = Storage(per_token=True)
PER_TOKEN_TRANSPOSE = Storage(per_token=True, transpose=True)
PER_TOKEN_ROW = Storage(per_token=True, as_row=True)

# Conditional normalization adds variables that start at zero and are in no published checkpoint:
# they are always written, and read if the file has them.
OPTIONAL = ["gamma_dense/kernel", "beta_dense/kernel", "hidden_dense/kernel"]
# family -> paths of variables that are zero if a checkpoint lacks them, as in transformers
ZEROS = {family: ["lm_bias/beta"] for family in ("bart", "pegasus", "cpt")}

_CONDITION_TF = [(name, ["/" + name], SAME) for name in OPTIONAL]
_CONDITION_HF = [(name, ["." + name.replace("/", ".")], SAME) for name in OPTIONAL]
_QKV = ["query", "key", "value"]

# role -> (variable, endings, storage[, (index, count) of the equal parts of the last axis])
ROLES: dict[str, dict[str, list[tuple]]] = {
    "tf": {
        "tokens": [("embeddings", [""], PER_TOKEN)],
        "tokens_out": [("embeddings", ["/kernel"], PER_TOKEN_TRANSPOSE)],
        "table": [("embeddings", [""], SAME)],
        "heads_table": [("embeddings", [""], TRANSPOSE)],
        "norm": [("gamma", ["/gamma"], SAME), ("beta", ["/beta"], SAME), *_CONDITION_TF],
        "scale": [("gamma", ["/scale"], SAME), *_CONDITION_TF],
        "linear": [("kernel", ["/kernel"], SAME), ("bias", ["/bias"], SAME)],
        "matrix": [("kernel", [""], SAME)],
        "pair": [("kernel", ["/output_weights"], TRANSPOSE), ("bias", ["/output_bias"], SAME)],
        "labels": [("kernel", ["output_weights"], TRANSPOSE), ("bias", ["output_bias"], SAME)],
        "token_bias": [("beta", ["/output_bias"], PER_TOKEN)],
    },
    "hf": {
        "tokens": [("embeddings", [".weight"], PER_TOKEN)],
        "tokens_out": [("embeddings", [".weight"], PER_TOKEN)],
        "table": [("embeddings", [".weight"], SAME)],
        "heads_table": [("embeddings", [".weight"], SAME)],
        "norm": [
            ("gamma", [".weight", ".gamma"], SAME), ("beta", [".bias", ".beta"], SAME),
            *_CONDITION_HF,
        ],
        "scale": [("gamma", [".weight"], SAME), *_CONDITION_HF],
        "linear": [("kernel", [".weight"], TRANSPOSE), ("bias", [".bias"], SAME)],
        "matrix": [("kernel", [".weight"], TRANSPOSE)],
        "pair": [("kernel", [".weight"], TRANSPOSE), ("bias", [".bias"], SAME)],
        "labels": [("kernel", [".weight"], TRANSPOSE), ("bias", [".bias"], SAME)],
        "qkv": [(f"{name}/kernel", [".weight"], TRANSPOSE, (i, 3)) for i, name in enumerate(_QKV)],
        "gated": [
            (f"{name}/kernel", [".weight"], TRANSPOSE, (i, 2))
            for i, name in enumerate(["input", "gate"])
        ],
        "qkv_linear": [
            *((f"{name}/kernel", [".weight"], TRANSPOSE, (i, 3)) for i, name in enumerate(_QKV)),
            *((f"{name}/bias", [".bias"], SAME, (i, 3)) for i, name in enumerate(_QKV)),
        ],
        "up_gate": [
            (f"{name}/kernel", [".weight"], TRANSPOSE, (i, 2))
            for i, name in enumerate(["gate", "input"])  # the second half is activated
        ],
        "conv1d": [("kernel", [".weight"], SAME), ("bias", [".bias"], SAME)],
        "qkv_conv1d": [
            *((f"{name}/kernel", [".weight"], SAME, (i, 3)) for i, name in enumerate(_QKV)),
            *((f"{name}/bias", [".bias"], SAME, (i, 3)) for i, name in enumerate(_QKV)),
        ],
        "token_bias": [("beta", [".bias", ".decoder.bias"], PER_TOKEN)],
        "token_bias_row": [("beta", [""], PER_TOKEN_ROW)],
    },
}  # fmt: skip
# Keras files have our own names, and store each variable as it is
ROLES["keras"] = {
    role: [
        (name, ["/" + name], Storage(per_token=storage.per_token))
        for name, _, storage, *_ in variables
    ]
    for role, variables in (ROLES["tf"] | ROLES["hf"]).items()
}

# family -> its table; `configs/architectures.py` has the rest of what a family is
WEIGHTS: dict[str, list[Row]] = {}

# ---------------------------------------------------------------- BERT, and families named like it

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

# of Google's run_classifier.py and run_squad.py; taggers on its code have the names of the first
_CLASSIFIERS = [
    ("labels", "text_classifier", "", "classifier"),
    ("labels", "tokens_classifier", "", "classifier"),
    ("labels", "spans_classifier", "cls/squad/", "qa_outputs"),
    ("labels", "choice_classifier", "", "classifier"),
]

_HEADS = [
    ("linear", "pooler", "bert/pooler/dense", "bert.pooler.dense"),
    ("pair", "nsp", "cls/seq_relationship", "cls.seq_relationship"),
    ("linear", "lm_dense", "cls/predictions/transform/dense", "cls.predictions.transform.dense"),
    ("norm", "lm_norm", "cls/predictions/transform/LayerNorm", "cls.predictions.transform.LayerNorm"),
    ("token_bias", "lm_bias", "cls/predictions", "cls.predictions"),
    ("tokens_out", "lm_head", "cls/predictions/decoder", "cls.predictions.decoder"),
    *_CLASSIFIERS,
]  # fmt: skip

# shared with families named like it: what BERT alone has is added to its own table
_BERT = [*_EMBEDDINGS, *_BLOCKS, *_HEADS]
WEIGHTS["bert"] = [*_BERT]


def _renamed(rows, *replacements):
    """Returns the rows with each `(old, new)` replaced in both columns of checkpoint names."""
    renamed = []
    for role, layer_path, *names in rows:
        for old, new in replacements:
            names = [name.replace(old, new) for name in names]
        renamed.append((role, layer_path, *names))
    return renamed


WEIGHTS["nezha"] = _renamed(_BERT, ("bert.", "nezha."))

# RoFormer and ELECTRA: a dense layer of their own before the last one (its TensorFlow name is ours)
_OF_TOKENS = [row for row in _CLASSIFIERS if row[1] in ("tokens_classifier", "spans_classifier")]
_DENSE_CLASSIFIER = [
    ("linear", "classifier_dense", "classifier/dense", "classifier.dense"),
    ("labels", "text_classifier", "", "classifier.out_proj"),
]

WEIGHTS["roformer"] = WEIGHTS["roformer_v2"] = [
    *(row for row in _renamed(_BERT, ("bert.", "roformer.")) if row not in _CLASSIFIERS),
    *_OF_TOKENS,
    *_DENSE_CLASSIFIER,
]

_ELECTRA_NAMES = (
    ("bert/", "electra/"),
    ("bert.", "electra."),
    ("encoder/embedding_hidden_mapping_in", "embeddings_project"),
)
WEIGHTS["electra"] = [
    *_renamed([*_EMBEDDINGS, *_BLOCKS], *_ELECTRA_NAMES),
    ("linear", "discriminator_dense", "discriminator_predictions/dense", "discriminator_predictions.dense"),
    ("linear", "discriminator_prediction", "discriminator_predictions/dense_1", "discriminator_predictions.dense_prediction"),
    *_OF_TOKENS,
    *_DENSE_CLASSIFIER,
    ("linear", "choice_dense", "sequence_summary/summary", "sequence_summary.summary"),
    ("labels", "choice_classifier", "", "classifier"),
]  # fmt: skip

# Google's file holds both networks; the generator has its own embeddings or shares them.
WEIGHTS["electra_generator"] = [
    *(
        (role, layer_path, (tf.replace("electra/", "generator/"), tf), hf)
        for role, layer_path, tf, hf in _renamed([*_EMBEDDINGS, *_BLOCKS], *_ELECTRA_NAMES)
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
WEIGHTS["albert"] = [
    *_renamed(_EMBEDDINGS, *_ALBERT_NAMES),
    *_ALBERT_BLOCK,
    *_renamed(_HEADS, *_ALBERT_NAMES),
]
# every block reads the one that is stored; trained without sharing, they are written like BERT's
WEIGHTS["albert_unshared"] = [
    *_renamed(_EMBEDDINGS, *_ALBERT_NAMES),
    *(
        (role, layer_path, (tf, shared_tf), (hf, shared_hf))
        for (role, layer_path, tf, hf), (_, _, shared_tf, shared_hf) in zip(
            _BLOCKS, _ALBERT_BLOCK, strict=True
        )
    ),
    *_renamed(_HEADS, *_ALBERT_NAMES),
]

WEIGHTS["gau_alpha"] = [
    *_EMBEDDINGS,
    ("linear", "block_{i}/attention/input", "GAU_alpha/encoder/layer_{i}/gau/i_dense", None),
    ("linear", "block_{i}/attention/output", "GAU_alpha/encoder/layer_{i}/gau/o_dense", None),
    ("norm", "block_{i}/attention/query_scale", "GAU_alpha/encoder/layer_{i}/gau/q_scaleoffset", None),
    ("norm", "block_{i}/attention/key_scale", "GAU_alpha/encoder/layer_{i}/gau/k_scaleoffset", None),
    ("norm", "block_{i}/attention_out_norm", "GAU_alpha/encoder/layer_{i}/gau/LayerNorm", None),
    *_HEADS,
]  # fmt: skip

_MODERNBERT = "model.layers.{i}"
WEIGHTS["modernbert"] = [
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
    *(("labels", layer_path, None, "classifier") for _, layer_path, *_ in _CLASSIFIERS),
]

# normalizes the inputs of the branches; there are no TensorFlow checkpoints
WEIGHTS["megatron_bert"] = [
    *((role, path, None, hf) for role, path, _, hf in _BERT if role != "norm" or path == "lm_norm"),
    ("norm", "block_{i}/attention_in_norm", None, "bert.encoder.layer.{i}.attention.ln"),
    ("norm", "block_{i}/ffn_in_norm", None, "bert.encoder.layer.{i}.ln"),
    ("norm", "final_norm", None, "bert.encoder.ln"),
]

# named like BERT, without TensorFlow checkpoints
WEIGHTS["ernie"] = [
    *((role, path, None, hf.replace("bert.", "ernie.", 1)) for role, path, _, hf in _BERT),
    ("table", "task_embedding", None, "ernie.embeddings.task_type_embeddings"),
]
WEIGHTS["fairseq_roberta"] = WEIGHTS["xlm_roberta"] = [
    *((role, path, None, hf.replace("bert.", "roberta.", 1)) for role, path, _, hf in [*_EMBEDDINGS[:-1], *_BLOCKS, _HEADS[0]]),
    ("linear", "lm_dense", None, "lm_head.dense"),
    ("norm", "lm_norm", None, "lm_head.layer_norm"),
    ("token_bias", "lm_bias", None, "lm_head"),
    ("tokens_out", "lm_head", None, "lm_head.decoder"),
    *((role, path, None, hf) for role, path, _, hf in _CLASSIFIERS if path != "text_classifier"),
    *((role, path, None, hf) for role, path, _, hf in _DENSE_CLASSIFIER),
]  # fmt: skip


def _without_tf(rows):
    """Returns the rows without TensorFlow's names."""
    return [(role, layer_path, None, hf) for role, layer_path, _, hf in rows]


_DEBERTA_NAMES = (
    ("bert.", "deberta."),
    *((f"attention.self.{name}", f"attention.self.{name}_proj") for name in _QKV),
)
WEIGHTS["deberta_v2"] = [
    *_without_tf(_renamed([*_EMBEDDINGS[:4], *_BLOCKS], *_DEBERTA_NAMES)),
    ("table", "relative_vectors", None, "deberta.encoder.rel_embeddings"),
    ("norm", "relative_norm", None, "deberta.encoder.LayerNorm"),
    ("linear", "convolution", None, "deberta.encoder.conv.conv"),
    ("norm", "convolution_norm", None, "deberta.encoder.conv.LayerNorm"),
    # the second names are those of Microsoft's files
    ("linear", "lm_dense", None, ("cls.predictions.transform.dense", "lm_predictions.lm_head.dense")),
    ("norm", "lm_norm", None, ("cls.predictions.transform.LayerNorm", "lm_predictions.lm_head.LayerNorm")),
    ("token_bias", "lm_bias", None, ("cls.predictions", "lm_predictions.lm_head")),
    ("tokens_out", "lm_head", None, "cls.predictions.decoder"),
    ("linear", "classifier_dense", None, "pooler.dense"),
    *_without_tf(_CLASSIFIERS),
]  # fmt: skip

_OUT = [*zip(_QKV, "qkv", strict=True), ("output", "out")]
_DISTIL = "distilbert.transformer.layer.{i}"
WEIGHTS["distilbert"] = [
    ("tokens", "token_embedding", None, "distilbert.embeddings.word_embeddings"),
    ("table", "position_embedding", None, "distilbert.embeddings.position_embeddings"),
    ("norm", "embedding_norm", None, "distilbert.embeddings.LayerNorm"),
    *(
        ("linear", f"block_{{i}}/attention/{ours}", None, f"{_DISTIL}.attention.{theirs}_lin")
        for ours, theirs in _OUT
    ),
    ("norm", "block_{i}/attention_out_norm", None, f"{_DISTIL}.sa_layer_norm"),
    ("linear", "block_{i}/ffn/input", None, f"{_DISTIL}.ffn.lin1"),
    ("linear", "block_{i}/ffn/output", None, f"{_DISTIL}.ffn.lin2"),
    ("norm", "block_{i}/ffn_out_norm", None, f"{_DISTIL}.output_layer_norm"),
    ("linear", "lm_dense", None, "vocab_transform"),
    ("norm", "lm_norm", None, "vocab_layer_norm"),
    ("token_bias", "lm_bias", None, "vocab_projector"),
    ("tokens_out", "lm_head", None, "vocab_projector"),
    ("linear", "classifier_dense", None, "pre_classifier"),
    *_without_tf(_CLASSIFIERS),
]

_LLAMA = "model.layers.{i}"
_LLAMA_BODY = [
    ("tokens", "token_embedding", None, "model.embed_tokens"),
    ("scale", "block_{i}/attention_in_norm", None, f"{_LLAMA}.input_layernorm"),
    *(
        ("linear", f"block_{{i}}/attention/{ours}", None, f"{_LLAMA}.self_attn.{theirs[0]}_proj")
        for ours, theirs in _OUT
    ),
    ("scale", "block_{i}/ffn_in_norm", None, f"{_LLAMA}.post_attention_layernorm"),
    ("linear", "block_{i}/ffn/input", None, f"{_LLAMA}.mlp.gate_proj"),
    ("linear", "block_{i}/ffn/gate", None, f"{_LLAMA}.mlp.up_proj"),
    ("linear", "block_{i}/ffn/output", None, f"{_LLAMA}.mlp.down_proj"),
    ("scale", "final_norm", None, "model.norm"),
    ("tokens_out", "lm_head", None, "lm_head"),
]
WEIGHTS["eurobert"] = [
    *_LLAMA_BODY,
    ("linear", "classifier_dense", None, "dense"),
    *_without_tf(_CLASSIFIERS[:2]),
]
WEIGHTS["llama"] = WEIGHTS["mistral"] = WEIGHTS["qwen2"] = [
    *_LLAMA_BODY,
    *(("labels", f"{kind}_classifier", None, "score") for kind in ("text", "tokens")),
]
_HEAD_NORMS = [
    ("scale", "block_{i}/attention/query_norm", None, f"{_LLAMA}.self_attn.q_norm"),
    ("scale", "block_{i}/attention/key_norm", None, f"{_LLAMA}.self_attn.k_norm"),
]
WEIGHTS["qwen3"] = [*WEIGHTS["llama"], *_HEAD_NORMS]
WEIGHTS["glm"] = [
    *(
        row
        for row in WEIGHTS["llama"]
        if row[1] not in ("block_{i}/ffn/input", "block_{i}/ffn/gate")
    ),
    ("gated", "block_{i}/ffn", None, f"{_LLAMA}.mlp.gate_up_proj"),
]
WEIGHTS["glm4"] = [
    *WEIGHTS["glm"],
    ("scale", "block_{i}/attention_added_norm", None, f"{_LLAMA}.post_self_attn_layernorm"),
    ("scale", "block_{i}/ffn_added_norm", None, f"{_LLAMA}.post_mlp_layernorm"),
]
# one name is Llama's of another place
WEIGHTS["gemma3_text"] = [
    *(
        row
        for row in WEIGHTS["llama"]
        if row[1] not in ("block_{i}/ffn_in_norm", "tokens_classifier")
    ),
    *_HEAD_NORMS,
    ("scale", "block_{i}/attention_added_norm", None, f"{_LLAMA}.post_attention_layernorm"),
    ("scale", "block_{i}/ffn_in_norm", None, f"{_LLAMA}.pre_feedforward_layernorm"),
    ("scale", "block_{i}/ffn_added_norm", None, f"{_LLAMA}.post_feedforward_layernorm"),
]

_GTE = "new.encoder.layer.{i}"
WEIGHTS["gte"] = [
    ("tokens", "token_embedding", None, "new.embeddings.word_embeddings"),
    ("table", "segment_embedding", None, "new.embeddings.token_type_embeddings"),
    ("norm", "embedding_norm", None, "new.embeddings.LayerNorm"),
    ("qkv_linear", "block_{i}/attention", None, f"{_GTE}.attention.qkv_proj"),
    ("linear", "block_{i}/attention/output", None, f"{_GTE}.attention.o_proj"),
    ("norm", "block_{i}/attention_out_norm", None, f"{_GTE}.attn_ln"),
    ("up_gate", "block_{i}/ffn", None, f"{_GTE}.mlp.up_gate_proj"),
    ("linear", "block_{i}/ffn/output", None, f"{_GTE}.mlp.down_proj"),
    ("norm", "block_{i}/ffn_out_norm", None, f"{_GTE}.mlp_ln"),
    ("linear", "pooler", None, "new.pooler.dense"),
    ("linear", "lm_dense", None, "lm_head.dense"),
    ("norm", "lm_norm", None, ("lm_head.norm", "lm_head.layer_norm")),
    ("token_bias", "lm_bias", None, "lm_head.decoder"),
    ("tokens_out", "lm_head", None, "lm_head.decoder"),
    *_without_tf(_CLASSIFIERS[:2]),
]

# ---------------------------------------------------------------- language models

_GPT_TF = (("bert/", "gpt/"), ("/encoder/", "/transformer/"))
_GPT_EMBEDDINGS = [
    ("tokens", "token_embedding", "gpt/embeddings/word_embeddings", "transformer.tokens_embed"),
    ("table", "segment_embedding", "gpt/embeddings/token_type_embeddings", None),
    ("table", "position_embedding", "gpt/embeddings/position_embeddings", "transformer.positions_embed"),
    ("tokens_out", "lm_head", "gpt/lm_head", "lm_head"),
]  # fmt: skip
_GPT_CLASSIFIER = ("labels", "text_classifier", None, "score")
_TOKENS_CLASSIFIER = ("labels", "tokens_classifier", None, "classifier")
_GPT_BLOCKS = [
    *((role, layer_path, tf, None) for role, layer_path, tf, _ in _renamed(_BLOCKS, *_GPT_TF)),
    ("qkv_conv1d", "block_{i}/attention", None, "transformer.h.{i}.attn.c_attn"),
    ("conv1d", "block_{i}/attention/output", None, "transformer.h.{i}.attn.c_proj"),
    ("conv1d", "block_{i}/ffn/input", None, "transformer.h.{i}.mlp.c_fc"),
    ("conv1d", "block_{i}/ffn/output", None, "transformer.h.{i}.mlp.c_proj"),
]
WEIGHTS["gpt"] = [
    *_GPT_EMBEDDINGS,
    *_GPT_BLOCKS,
    ("norm", "block_{i}/attention_out_norm", None, "transformer.h.{i}.ln_1"),
    ("norm", "block_{i}/ffn_out_norm", None, "transformer.h.{i}.ln_2"),
    _GPT_CLASSIFIER,
]
WEIGHTS["gpt2"] = [
    *_renamed(
        [row for row in _GPT_EMBEDDINGS if row[3]],
        ("tokens_embed", "wte"),
        ("positions_embed", "wpe"),
    ),
    *(row for row in _GPT_BLOCKS if row[0] != "norm"),
    ("norm", "block_{i}/attention_in_norm", "gpt/transformer/layer_{i}/attention/input/LayerNorm", "transformer.h.{i}.ln_1"),
    ("norm", "block_{i}/ffn_in_norm", "gpt/transformer/layer_{i}/input/LayerNorm", "transformer.h.{i}.ln_2"),
    ("norm", "final_norm", "gpt/output/LayerNorm", "transformer.ln_f"),
    _GPT_CLASSIFIER,
    _TOKENS_CLASSIFIER,
    ("labels", "spans_classifier", None, "qa_outputs"),
]  # fmt: skip
WEIGHTS["gpt2_ml"] = [
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
    """Returns T5's table.

    Args:
        norms, final_norms, inputs: names that differ between versions of T5; the first is written.
    """

    def stack(name, i, sublayers):
        tf, hf = f"{name}/block_{{{i}:03d}}/layer_", f"{name}.block.{{{i}}}.layer."
        rows = []
        for n, (ours, theirs) in enumerate(sublayers):
            layer_path = f"{name}_block_{{{i}}}/{ours}"
            tf_layer, hf_layer = f"{tf}{n:03d}", f"{hf}{n}"
            tf_norms = tuple(f"{tf_layer}/{norm}" for norm in norms)
            rows.append(("scale", f"{layer_path}_in_norm", tf_norms, f"{hf_layer}.layer_norm"))
            if ours == "ffn":
                parts = [("input", inputs), ("gate", ["wi_1"]), ("output", ["wo"])]
                role = "linear"
            else:
                parts = [(_QKV[k], "qkv"[k]) for k in range(3)] + [("output", "o")]
                role = "matrix"
            for part, letters in parts:
                tf_names = tuple(f"{tf_layer}/{theirs}/{letter}" for letter in letters)
                hf_names = tuple(f"{hf_layer}.{theirs}.{letter}" for letter in letters)
                rows.append((role, f"{layer_path}/{part}", tf_names, hf_names))
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
        _TOKENS_CLASSIFIER,
    ]  # fmt: skip


_T5_NORMS, _MT5_NORMS = ("layer_norm", "rms_norm"), ("rms_norm", "layer_norm")
_T5_FINALS, _MT5_FINALS = ("final_layer_norm", "rms_norm"), ("rms_norm", "final_layer_norm")
_PLAIN, _GATED = ("wi", "wi_0"), ("wi_0", "wi")

WEIGHTS["t5.1.0"] = _t5(_T5_NORMS, _T5_FINALS, _PLAIN)
WEIGHTS["t5.1.1"] = _t5(_T5_NORMS, _T5_FINALS, _GATED)
WEIGHTS["mt5.1.1"] = WEIGHTS["t5_pegasus"] = _t5(_MT5_NORMS, _MT5_FINALS, _GATED)


def _bart(norms):
    """Returns the table of BART's kin.

    Args:
        norms: rows of the normalizations.
    """
    stacks = {
        "encoder": ("i", {"attention": "self_attn"}),
        "decoder": ("j", {"attention": "self_attn", "cross": "encoder_attn"}),
    }
    parts: list[Row] = []
    for name, (counter, attentions) in stacks.items():
        ours, theirs = f"{name}_block_{{{counter}}}", f"model.{name}.layers.{{{counter}}}"
        parts += [
            *(
                ("linear", f"{ours}/{branch}/{part}", None, f"{theirs}.{attention}.{other}_proj")
                for branch, attention in attentions.items()
                for part, other in zip((*_QKV, "output"), (*"qkv", "out"), strict=True)
            ),
            ("linear", f"{ours}/ffn/input", None, f"{theirs}.fc1"),
            ("linear", f"{ours}/ffn/output", None, f"{theirs}.fc2"),
        ]
    return [
        (
            "tokens",
            "token_embedding",
            None,
            ("model.shared", "model.encoder.embed_tokens", "model.decoder.embed_tokens"),
        ),
        *parts,
        *norms,
        ("tokens_out", "lm_head", None, "lm_head"),
        ("token_bias_row", "lm_bias", None, "final_logits_bias"),
    ]


def _bart_norms(place):
    """Returns the rows of the normalizations of the blocks, at their `"in"` or their `"out"`."""
    return [
        ("norm", f"{ours}_block_{{{i}}}/{branch}_{place}_norm", None, f"model.{ours}.layers.{{{i}}}.{theirs}")
        for ours, i in (("encoder", "i"), ("decoder", "j"))
        for branch, theirs in (
            ("attention", "self_attn_layer_norm"), ("cross", "encoder_attn_layer_norm"), ("ffn", "final_layer_norm")
        )
        if (ours, branch) != ("encoder", "cross")
    ]  # fmt: skip


_STACK_NAMES = ("encoder", "decoder")
WEIGHTS["bart"] = _bart(
    [
        *(
            ("table", f"{name}_position_embedding", None, f"model.{name}.embed_positions")
            for name in _STACK_NAMES
        ),
        *(
            ("norm", f"{name}_embedding_norm", None, f"model.{name}.layernorm_embedding")
            for name in _STACK_NAMES
        ),
        *_bart_norms("out"),
    ]
)
WEIGHTS["pegasus"] = _bart(
    [
        *_bart_norms("in"),
        *(
            ("norm", f"{name}_final_norm", None, f"model.{name}.layer_norm")
            for name in _STACK_NAMES
        ),
    ]
)
# an encoder of BERT's names and a decoder of BART's; the three names of the table are of one array
WEIGHTS["cpt"] = [
    (
        "tokens",
        "token_embedding",
        None,
        ("model.shared", "model.encoder.embeddings.word_embeddings", "model.decoder.embed_tokens"),
    ),
    *(
        (role, path if path == "segment_embedding" else f"encoder_{path}", None, hf)
        for role, path, _, hf in _renamed(
            [*_EMBEDDINGS[1:4], *_BLOCKS], ("bert.", "model.encoder.")
        )
    ),
    *(
        row
        for row in WEIGHTS["bart"]
        if not row[1].startswith("encoder_") and row[1] != "token_embedding"
    ),
]

# ---------------------------------------------------------------- names of all families

# What a checkpoint may hold next to the model: variables of an optimizer, constants (patterns).
SKIPPABLE = [
    r"(^|.*/)(adam_m|adam_v|Adam(_\d+)?|AdamWeightDecayOptimizer(_\d+)?|LAMB\w*)$",
    r"(?s).*/\.OPTIMIZER_SLOT/.*",
    r"(^|.*/)(global_step|beta[12]_power|temperature|good_steps|loss_scale)$",
    r".*_slot_(v|vr|vc|m)$",
    r"(?s).*rng_(state|tracker_states).*",
    r".*embeddings\.(position_ids|token_type_ids)$",
    r"(.*\.)?attn\.(bias|masked_bias)$",  # GPT's causal mask, written out
    r"(?s).*relative_positions_encoding.*",
    r".*(en|de)coder\.embed_positions\.weight$",  # sines and cosines; see FIXED_POSITIONS
    r"mask_predictions\..*",  # a second head of Microsoft's DeBERTa
    r"(.*\.)?rotary_emb\.inv_freq$",
    r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight$",
]

# a fixed table of positions in some files, which must be the one that the model computes
FIXED_POSITIONS = r"(model\.)?(encoder|decoder)\.embed_positions\.weight"

# Copies of the token table in some files, and of a head that is tied to it; these must be equal.
COPIES = [
    r"(model\.)?(encoder|decoder)\.embed_tokens\.weight$",
    r"(model\.)?encoder\.embeddings\.word_embeddings\.weight$",
]
TIED_HEADS = [
    r"(cls\.)?predictions\.decoder\.weight$",
    r"(generator_lm_head|lm_head(\.decoder)?|vocab_projector|decoder)\.weight$",
    r"lm_head/embeddings$",  # in Keras files
    r"((cls|generator)(/|_)predictions/decoder|(gpt|newslm)/lm_head|decoder/logits)/kernel$",
]

# what heads are called, without the names of the layers that they share with the body (a pattern)
HEAD_NAMES = r"cls|(classifier|sequence_summary)[./]|(qa_outputs|score)\.|output_(weights|bias)$"

# Architectures of transformers that name their weights like BERT or GPT-2, except for a prefix or a
# head, but compute something else: prefixes and classes, in lower case and without underscores.
OTHER_ARCHITECTURES = (
    r"align|altclip|bertgeneration|bigbird|bliptext|bridgetower|bros|camembert|chineseclip|clap|convbert|"
    r"data2vectext|deberta|decisiontransformer|erniem|esm|fnet|git|gptbigcode|ibert|imagegpt|"
    r"layoutlm|layoutlmv2|layoutlmv3|lilt|longformer|luke|lxmert|markuplm|megatronbert|mobilebert|mpnet|mra|"
    r"nystromformer|qdqbert|rembert|robertaprelayernorm|rocbert|splinter|tapas|visualbert|"
    r"xlmrobertaxl|xmod|yoso"
)
OTHER_CLASS = (
    rf"(TF|Flax)?(?i:{OTHER_ARCHITECTURES})(PreTrained)?"
    r"(Model|Encoder|Decoder|For[A-Z]\w*|LMHead\w*)"
)
LLAMA_NAMES = r"(model\.)?layers\.\d+\.self_attn\.q_proj\."  # EuroBERT's, too
ROBERTA_HEAD = r"lm_head\.(dense|layer_norm)\..*"  # RoBERTa's

# ---------------------------------------------------------------- configs

# our key for `pad_token_id` in configs that we save: `pad_token_id` of other configs is often wrong
PAD_TOKEN_KEY = "attention_pad_token_id"

# key of a published config -> field of `Config`
CONFIG_KEYS = {
    PAD_TOKEN_KEY: "pad_token_id",
    "max_position_embeddings": "max_position",
    "n_positions": "max_position",
    "max_seq_length": "max_position",
    "type_vocab_size": "segment_vocab_size",
    "sent_type_vocab_size": "segment_vocab_size",  # of PaddleNLP
    "task_type_vocab_size": "task_vocab_size",
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
    "encoder_layers": "num_hidden_layers",
    "decoder_layers": "num_decoder_layers",
    "encoder_attention_heads": "num_attention_heads",
    "decoder_attention_heads": "num_decoder_attention_heads",
    "encoder_ffn_dim": "intermediate_size",
    "decoder_ffn_dim": "decoder_intermediate_size",
    "scale_embedding": "scale_embeddings",
    "init_std": "initializer_range",
    "decoder_start_token_id": "decoder_start_id",
    "forced_bos_token_id": "forced_start_id",
    "forced_eos_token_id": "forced_end_id",
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
    "local_rope_theta": "sliding_rotary_base",
    "clf_pooling": "classifier_pooling",
    "rope_theta": "rotary_base",
    "rope_local_base_freq": "sliding_rotary_base",
    "partial_rotary_factor": "rotary_share",
    "query_pre_attn_scalar": "attention_scalar",
    "rms_norm_eps": "norm_epsilon",
    "head_dim": "attention_head_size",
    "position_buckets": "relative_buckets",
    "max_relative_positions": "relative_max_distance",
    "conv_kernel_size": "convolution",
    "conv_act": "convolution_act",
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
    "activation": "hidden_act",
    "relative_attention_num_buckets": "relative_buckets",
    "relative_attention_max_distance": "relative_max_distance",
    "max_relative_position": "relative_max_distance",
    "rotary_value": "rotate_values",
    "tie_weights": "tie_word_embeddings",
    "with_mlm": "with_lm",
    "final_activation": "with_lm",
    "classifier_dropout_prob": "classifier_dropout",
}

# what UER's input embeddings are the sum of: tokens, positions, segments
UER_EMBEDDINGS = [
    *(["word", "pos", "seg"], ["word", "pos"], ["word", "seg"], ["word"]),
    *("word_pos_seg", "word_pos", "word_seg", "word"),
]

# Keys that change the architecture -> the values that this toolkit implements; or the type of the
# value, where `configs.published.translate` decides which values it supports.
CONFIG_ONLY = {
    "model_type": str,
    "architectures": list,
    "position_embedding_type": ["absolute", "rope"],
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
    "text_config": [],  # of a model of texts and images
    "rope_scaling": dict,
    "global_attn_every_n_layers": int,
    "local_attention": int,
    **dict.fromkeys(("attention_bias", "qkv_bias", "mlp_bias", "bias"), bool),
    **{key: [False] for key in ("norm_bias", "classifier_bias", "use_mrope")},
    "sliding_window": int,
    "sliding_window_pattern": int,
    "use_sliding_window": bool,
    "max_window_layers": int,
    "use_bidirectional_attention": [False],
    "attn_logit_softcapping": [],
    "final_logit_softcapping": [],
    "decoder_bias": [True],
    "use_task_id": bool,
    "pool_act": ["tanh"],
    "task_id": [0],
    "layer_types": list,
    "rope_parameters": dict,
    "relative_attention": [True],
    "position_biased_input": bool,
    "share_att_key": [True],
    "norm_rel_ebd": ["layer_norm"],
    "pooler_hidden_act": ["gelu"],
    "pos_att_type": ["c2p|p2c", "p2c|c2p", ["c2p", "p2c"], ["p2c", "c2p"]],
    "conv_groups": [1],
    "legacy": bool,
    "layer_norm_type": ["layer_norm"],
    **{key: [False] for key in ("logn_attention_scale", "logn_attention_clip1")},
    "pack_qkv": [True],
    "pretraining_tp": [1],
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

# keys of `rope_parameters`, other than numbers -> the values that this toolkit implements
ROPE_ONLY = {
    "rope_type": ["default", "linear", "ntk", "dynamic", "llama3", "yarn"],
    "type": ["default", "linear", "ntk", "dynamic", "llama3", "yarn"],
}

# model_type -> key -> what a missing one means to transformers, where that is another architecture
MISSING: dict[str, dict] = {
    "deberta-v2": {
        "relative_attention": False,
        "position_biased_input": True,
        "share_att_key": False,
        "norm_rel_ebd": "none",
        "pos_att_type": "none",
        "position_buckets": -1,
        "max_relative_positions": -1,
    },
    "qwen2": {"use_sliding_window": False},
    "qwen3": {"use_sliding_window": False},
    "internlm3": {"head_dim": 128},
    "glm": {"head_dim": 128, "num_key_value_heads": 2},
    "glm4": {"head_dim": 128, "num_key_value_heads": 2},
    "gemma3_text": {
        "head_dim": 256,
        "num_key_value_heads": 4,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "sliding_window_pattern": 6,
    },
}

# key -> the value with which it says that it is not used
UNSET = {"conv_kernel_size": 0, "max_relative_positions": -1}

# dense layers of a block, in which `Config.without_bias` names some
BLOCK_PARTS = (
    *(f"attention/{part}" for part in (*_QKV, "output")),
    *(f"ffn/{part}" for part in ("input", "gate", "output")),
)

# model_type of configs that say which of these have a bias -> key -> those that it is about
_ATTENTION, _FFN = {"attention_bias": BLOCK_PARTS[:4]}, {"mlp_bias": BLOCK_PARTS[4:]}
BIASES: dict[str, dict[str, tuple[str, ...]]] = {
    "llama": _ATTENTION | _FFN,
    "internlm3": {"qkv_bias": BLOCK_PARTS[:4], "bias": BLOCK_PARTS[4:]} | _ATTENTION | _FFN,
    "qwen3": _ATTENTION,
    "eurobert": _ATTENTION | _FFN,
    "glm": {"attention_bias": BLOCK_PARTS[:3]},
    "glm4": {"attention_bias": BLOCK_PARTS[:3]},
    "gemma3_text": _ATTENTION,
}

# model_type of configs whose `partial_rotary_factor` is read
PARTLY_ROTARY = ("glm", "glm4")

# model_type of configs whose `pad_token_id` is the one that texts are padded with
PADDING_READ = {"modernbert", "eurobert", "gte", "new", "bart", "pegasus", "cpt"}

# keys of ids of a decoder -> model_type of configs that say which ones generation begins and ends
# with; those of T5 have others than its vocabularies
DECODER_IDS = ("decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id")
DECODER_IDS_READ = {"bart", "pegasus", "cpt"}

# family -> keys that its code reads for one stack alone -> the value that the other one has
OF_ONE_STACK: dict[str, dict] = {"cpt": {"activation_function": "gelu", "scale_embedding": False}}

# model_type -> classes in `architectures` that are of another family (a pattern), and that family
OF_CLASSES = {"bart": (r"CPT(Model|For[A-Z]\w*)", "cpt")}

# model_type -> keys of converters that say what the family is; other values are another family,
# such as mBART
LEFTOVERS = {
    "bart": {
        "normalize_before": False,
        "add_final_layer_norm": False,
        "normalize_embedding": True,
        "static_position_embeddings": False,
        "add_bias_logits": False,
    },
    "pegasus": {
        "normalize_before": True,
        "add_final_layer_norm": True,
        "normalize_embedding": False,
        "static_position_embeddings": True,
        "add_bias_logits": False,
    },
}

LEFTOVERS["cpt"] = LEFTOVERS["bart"]

# keys that define an architecture, known or not (a pattern, in which `.` must match everything:
# otherwise `.*` starts again after each line break, which takes quadratic time)
CONFIG_GEOMETRY = (
    r".*_vocab_size|.*_layers?|.*_heads?|.*_groups?|.*_blocks?|.*_dim|hidden_.*|intermediate_.*|"
    r".*norm|.*norm_.*|rope.*|.*_scaling"
)

# keys that do not change what this toolkit computes (patterns)
CONFIG_NOTES = (
    r"_.*|.*token_ids?|.*_token|.*token_id.*|.*dropout.*|.*pdrop|summary_.*|pooler_.*|.*version|"
    r"attn_implementation|chunk_size_feed_forward|directionality|dtype|torch_dtype|"
    r"finetuning_task|task_specific_params|gradient_checkpointing|id2label|label2id|num_labels|"
    r"language|model_name|name|name_or_path|output_.*|problem_type|return_dict.*|"
    r"tokenizer_class|tokenizer_type|use_cache|use_bfloat16|torchscript|tie_encoder_decoder|initializer_factor|"
    r"n_ctx|predict_special_tokens|classifier_.*|deterministic_flash_attn|sinusoidal_pos_embds|tie_weights_|unpad_inputs|use_memory_efficient_attention|initializer_cutoff_factor|reference_compile|repad_logits_with_grad|sparse_pred.*|vocab_file|vocab_type|fp16|onnx_export|sop|"
    # Tencent's UER
    r"target|data_processor|"
    r"share_embedding|word_embedding|"
    # generation
    r"do_sample|early_stopping|length_penalty|max_length|min_length|no_repeat_ngram_size|num_beams|"
    r"num_beam_groups|num_return_sequences|prefix|repetition_penalty|temperature|top_k|top_p|"
    r"cache_implementation|typical_p|bad_words_ids|diversity_penalty|encoder_no_repeat_ngram_size|remove_invalid_values|"
    r"exponential_decay_length_penalty|suppress_tokens|begin_suppress_tokens|cross_attention_.*|"
    r"is_composition|tf_legacy_loss|"
    # transformers' own bookkeeping
    r"(en|de)coder_layerdrop|extra_pos_embeddings|force_bos_token_to_be_generated|"
    r"enable_recompute|init_class|fuse|auto_map|xla_device|loss_type|keys_to_ignore_at_inference|transformers\.js_config"
)

# field -> key in Google's, bert4keras' and many of transformers' config files (other fields: our own
# names)
BERT_KEYS = {
    "vocab_size": "vocab_size", "hidden_size": "hidden_size",
    "num_hidden_layers": "num_hidden_layers", "num_attention_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size", "hidden_act": "hidden_act",
    "max_position": "max_position_embeddings", "segment_vocab_size": "type_vocab_size",
    "dropout_rate": "hidden_dropout_prob", "attention_dropout_rate": "attention_probs_dropout_prob",
    "norm_epsilon": "layer_norm_eps", "initializer_range": "initializer_range",
    "tie_word_embeddings": "tie_word_embeddings",
}  # fmt: skip
GPT_KEYS = {
    "vocab_size": "vocab_size", "hidden_size": "n_embd", "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head", "max_position": "n_positions", "dropout_rate": "resid_pdrop",
    "attention_dropout_rate": "attn_pdrop", "norm_epsilon": "layer_norm_epsilon",
    "initializer_range": "initializer_range", "tie_word_embeddings": "tie_word_embeddings",
}  # fmt: skip
T5_KEYS = {
    "vocab_size": "vocab_size", "hidden_size": "d_model", "num_hidden_layers": "num_layers",
    "num_decoder_layers": "num_decoder_layers", "num_attention_heads": "num_heads",
    "attention_head_size": "d_kv", "intermediate_size": "d_ff", "dropout_rate": "dropout_rate",
    "norm_epsilon": "layer_norm_epsilon", "relative_buckets": "relative_attention_num_buckets",
    "relative_max_distance": "relative_attention_max_distance",
    "tie_word_embeddings": "tie_word_embeddings", "scale_decoder_outputs": "scale_decoder_outputs",
    "gated": "feed_forward_proj",
    "hidden_act": "feed_forward_proj", "classifier_dropout": "classifier_dropout",
}  # fmt: skip
BART_KEYS = {
    "vocab_size": "vocab_size", "hidden_size": "d_model", "num_hidden_layers": "encoder_layers",
    "num_attention_heads": "encoder_attention_heads", "intermediate_size": "encoder_ffn_dim",
    "hidden_act": "activation_function", "max_position": "max_position_embeddings",
    "dropout_rate": "dropout", "attention_dropout_rate": "attention_dropout",
    "initializer_range": "init_std", "scale_embeddings": "scale_embedding",
    "tie_word_embeddings": "tie_word_embeddings", "decoder_start_id": "decoder_start_token_id",
    "forced_start_id": "forced_bos_token_id", "forced_end_id": "forced_eos_token_id",
}  # fmt: skip
DISTIL_KEYS = {
    "vocab_size": "vocab_size", "hidden_size": "dim", "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads", "intermediate_size": "hidden_dim",
    "hidden_act": "activation", "max_position": "max_position_embeddings",
    "dropout_rate": "dropout", "attention_dropout_rate": "attention_dropout",
    "initializer_range": "initializer_range", "tie_word_embeddings": "tie_word_embeddings",
}  # fmt: skip
LLAMA_KEYS = {
    "vocab_size": "vocab_size", "hidden_size": "hidden_size",
    "num_hidden_layers": "num_hidden_layers", "num_attention_heads": "num_attention_heads",
    "num_key_value_heads": "num_key_value_heads", "attention_head_size": "head_dim",
    "intermediate_size": "intermediate_size", "hidden_act": "hidden_act",
    "max_position": "max_position_embeddings", "attention_dropout_rate": "attention_dropout",
    "norm_epsilon": "rms_norm_eps", "initializer_range": "initializer_range",
    "tie_word_embeddings": "tie_word_embeddings",
}  # fmt: skip
ACTIVATIONS_HF = {"gelu_erf": "gelu", "gelu_tanh": "gelu_new", "swish": "silu"}
# names of activations that both transformers (or its GPT) and this toolkit have
NAMED_HF = {
    *("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "silu", "relu", "relu6", "mish"),
    *("sigmoid", "tanh", "linear"),
}
NAMED_HF_GPT = {"gelu", "gelu_new", "silu", "relu"}
