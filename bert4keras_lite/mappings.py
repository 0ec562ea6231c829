"""The names of weights, here and in the checkpoints people hold: data, no logic.

A row of a family's table is `(role, here, TensorFlow, Hugging Face)`. `here` is the path of a
layer (`{i}` counts the blocks); the other two are the prefixes of its variables in a checkpoint.
`ROLES` says, for each role, which variables the layer has, how each ends in a checkpoint (the
first spelling is written, all are read) and how it is turned on the way.
"""

# how a stored array becomes a variable; each is its own inverse
SAME, TURN, ROWS = "same", "turn", "rows"  # as it is; transposed; one row for each token

# What a condition adds to a normalization starts at zero and is in no published checkpoint: it is
# written, and read where it is there.
OPTIONAL = ["gamma_dense/kernel", "beta_dense/kernel", "hidden_dense/kernel"]

_NORM_TF = [("gamma", ["/gamma"], SAME), ("beta", ["/beta"], SAME)]
_NORM_TF += [(name, ["/" + name], SAME) for name in OPTIONAL]
_LINEAR_TF = [("kernel", ["/kernel"], SAME), ("bias", ["/bias"], SAME)]
_NORM_HF = [("gamma", [".weight", ".gamma"], SAME), ("beta", [".bias", ".beta"], SAME)]
_NORM_HF += [(name, ["." + name.replace("/", ".")], SAME) for name in OPTIONAL]
_LINEAR_HF = [("kernel", [".weight"], TURN), ("bias", [".bias"], SAME)]

ROLES = {
    "tf": {
        "tokens": [("embeddings", [""], ROWS)],
        "table": [("embeddings", [""], SAME)],
        "norm": _NORM_TF,
        "linear": _LINEAR_TF,
        "next_sentence": [
            ("kernel", ["/output_weights"], TURN),
            ("bias", ["/output_bias"], SAME),
        ],
        "token_bias": [("beta", ["/output_bias"], ROWS)],
    },
    "hf": {
        "tokens": [("embeddings", [".weight"], ROWS)],
        "table": [("embeddings", [".weight"], SAME)],
        "norm": _NORM_HF,
        "linear": _LINEAR_HF,
        "next_sentence": _LINEAR_HF,
        "token_bias": [("beta", [".bias", ".decoder.bias"], ROWS)],
    },
}

BERT = [
    ("tokens", "token_embedding", "bert/embeddings/word_embeddings", "bert.embeddings.word_embeddings"),
    ("table", "segment_embedding", "bert/embeddings/token_type_embeddings", "bert.embeddings.token_type_embeddings"),
    ("table", "position_embedding", "bert/embeddings/position_embeddings", "bert.embeddings.position_embeddings"),
    ("norm", "embedding_norm", "bert/embeddings/LayerNorm", "bert.embeddings.LayerNorm"),
    ("linear", "embedding_projection", "bert/encoder/embedding_hidden_mapping_in", "bert.embeddings_project"),
    ("linear", "block_{i}/attention/query", "bert/encoder/layer_{i}/attention/self/query", "bert.encoder.layer.{i}.attention.self.query"),
    ("linear", "block_{i}/attention/key", "bert/encoder/layer_{i}/attention/self/key", "bert.encoder.layer.{i}.attention.self.key"),
    ("linear", "block_{i}/attention/value", "bert/encoder/layer_{i}/attention/self/value", "bert.encoder.layer.{i}.attention.self.value"),
    ("linear", "block_{i}/attention/output", "bert/encoder/layer_{i}/attention/output/dense", "bert.encoder.layer.{i}.attention.output.dense"),
    ("norm", "block_{i}/attention_norm", "bert/encoder/layer_{i}/attention/output/LayerNorm", "bert.encoder.layer.{i}.attention.output.LayerNorm"),
    ("linear", "block_{i}/ffn/input", "bert/encoder/layer_{i}/intermediate/dense", "bert.encoder.layer.{i}.intermediate.dense"),
    ("linear", "block_{i}/ffn/output", "bert/encoder/layer_{i}/output/dense", "bert.encoder.layer.{i}.output.dense"),
    ("norm", "block_{i}/ffn_norm", "bert/encoder/layer_{i}/output/LayerNorm", "bert.encoder.layer.{i}.output.LayerNorm"),
    ("linear", "pooler", "bert/pooler/dense", "bert.pooler.dense"),
    ("next_sentence", "nsp", "cls/seq_relationship", "cls.seq_relationship"),
    ("linear", "mlm_dense", "cls/predictions/transform/dense", "cls.predictions.transform.dense"),
    ("norm", "mlm_norm", "cls/predictions/transform/LayerNorm", "cls.predictions.transform.LayerNorm"),
    ("token_bias", "mlm_bias", "cls/predictions", "cls.predictions"),
]  # fmt: skip

WEIGHTS = {"bert": BERT}

# What a checkpoint may hold beside the model: traces of an optimizer, constants, copies.
SKIPPABLE = [
    r"(^|.*/)(adam_m|adam_v|Adam(_\d+)?|AdamWeightDecayOptimizer(_\d+)?|LAMB\w*)$",
    r"(^|.*/)(global_step|beta[12]_power|temperature|good_steps|loss_scale)$",
    r".*embeddings\.(position_ids|token_type_ids)$",
    r"cls\.predictions\.decoder\.(weight|bias)$",
]

# A name that only this family's checkpoints have, first match wins; for the hint in an error.
FINGERPRINTS = [
    (r"albert\.|.*/transformer/group_0/|.*/layer_shared/", "albert"),
    (r"electra[./]|discriminator_predictions|generator_predictions", "electra"),
    (r"newslm/", "gpt2_ml"),
    (r"roformer\.", "roformer"),
    (r"nezha\.", "nezha"),
    (r"(encoder/block_000/|shared/embedding|encoder\.block\.0\.|shared\.weight)", "t5"),
    (r"gpt/|transformer\.h\.\d+\.|h\.\d+\.attn\.", "gpt2"),
    (r"(bert[./])?(encoder[./]layer[_.]\d+[./]|embeddings[./])", "bert"),
]

# keys of published configs, and our names for them
CONFIG_KEYS = {
    "max_position_embeddings": "max_position",
    "type_vocab_size": "segment_vocab_size",
    "hidden_dropout_prob": "dropout_rate",
    "attention_probs_dropout_prob": "attention_dropout_rate",
    "layer_norm_eps": "norm_epsilon",
}

# keys of published configs that do not change what this toolkit computes
CONFIG_NOTES = {
    "_name_or_path", "add_cross_attention", "architectures", "attn_implementation", "bos_token_id",
    "chunk_size_feed_forward", "classifier_dropout", "directionality", "dtype", "eos_token_id",
    "finetuning_task", "gradient_checkpointing", "id2label", "is_decoder", "label2id", "language",
    "model_type", "name", "output_attentions", "output_hidden_states", "output_past",
    "pad_token_id", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers",
    "pooler_size_per_head", "pooler_type", "position_embedding_type", "problem_type",
    "return_dict", "sep_token_id", "cls_token_id", "tie_word_embeddings", "tokenizer_class",
    "torch_dtype", "transformers_version", "use_cache",
}  # fmt: skip

# fields of `Config` that every config file names, and those that none does (how it is used)
CONFIG_ALWAYS = {
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "hidden_act", "max_position", "segment_vocab_size", "dropout_rate", "attention_dropout_rate",
    "norm_epsilon", "initializer_range",
}  # fmt: skip
CONFIG_OF_USE = {
    "attend", "custom_position_ids", "sequence_length", "with_pool", "with_nsp", "with_mlm",
}  # fmt: skip

ACTIVATIONS_HF = {"gelu_erf": "gelu", "gelu_tanh": "gelu_new", "swish": "silu"}
