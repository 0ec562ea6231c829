"""Freeze what the published code computes for the encoder families, on tiny random weights.

Sub-commands, because the references live in different environments; see README.md:

    TF_USE_LEGACY_KERAS=1 TF_KERAS=1 python tests/goldens/make_encoders.py bert4keras
    TF_USE_LEGACY_KERAS=1 TF_KERAS=1 python tests/goldens/make_encoders.py gau_alpha CHECKOUT
    TF_USE_LEGACY_KERAS=1 python tests/goldens/make_encoders.py albert_zh CHECKOUT
    python tests/goldens/make_encoders.py transformers [CASES]
    python tests/goldens/make_encoders.py transformers4 [CASES]

Each replaces its own entries of ``encoders/cases.json`` and ``encoders/outputs.npz``; the last two
only those whose names start with ``CASES``.
"""

import argparse
import importlib
import json
import re
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
from making import check, make_case, record, save
from recipes import named_weights, random_tensor, uer_name

FOLDER = Path(__file__).resolve().parent / "encoders"
CONDITION_SIZE = 8
MLM, LM = {"with_mlm": "linear"}, {"application": "lm", "with_mlm": "linear"}
UNILM = {"application": "unilm", "with_mlm": "linear"}

# --- configurations, as published beside the checkpoints ---

TF = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 24,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.02,
}
NEZHA = {**TF, "max_position_embeddings": 128, "use_relative_position": True}
GAU = {
    **{k: v for k, v in TF.items() if k != "num_attention_heads"},
    "num_attention_heads": 1,
    "attention_key_size": 8,
    "hidden_act": "swish",
}
HF = {**TF, "layer_norm_eps": 1e-12, "pad_token_id": 0}
HF_ALBERT = {
    **HF,
    "model_type": "albert",
    "hidden_act": "gelu_new",
    "embedding_size": 16,
    "inner_group_num": 1,
    "num_hidden_groups": 1,
}
HF_ELECTRA = {**HF, "model_type": "electra", "embedding_size": 16}
HF_ROFORMER = {**HF, "model_type": "roformer", "embedding_size": 32, "rotary_value": False}
HF_NEZHA = {
    **HF,
    "model_type": "nezha",
    "max_position_embeddings": 128,
    "max_relative_position": 64,
    "use_relative_position": True,
}
HF_MEGATRON_BERT = {**HF, "model_type": "megatron-bert"}
HF_ERNIE = {
    **HF,
    "model_type": "ernie",
    "type_vocab_size": 4,
    "layer_norm_eps": 1e-5,
    "use_task_id": True,
    "task_type_vocab_size": 3,
}
HF_ERNIE_1 = {**HF_ERNIE, "hidden_act": "relu", "type_vocab_size": 2, "use_task_id": False}
HF_ROBERTA = {
    **HF,
    "model_type": "roberta",
    "type_vocab_size": 1,
    "max_position_embeddings": 18,
    "layer_norm_eps": 1e-5,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
}
HF_XLM_ROBERTA = {**HF_ROBERTA, "model_type": "xlm-roberta"}
HF_MODERNBERT = {
    **{k: v for k, v in TF.items() if k not in ("hidden_act", "type_vocab_size")},
    "model_type": "modernbert",
    "hidden_activation": "gelu",
    "intermediate_size": 48,
    "global_attn_every_n_layers": 1,
    "reference_compile": False,
    **{f"{name}_token_id": i for i, name in enumerate(["pad", "bos", "eos", "cls", "sep"])},
}
HF_SLIDING = {
    **{k: v for k, v in HF_MODERNBERT.items() if k != "global_attn_every_n_layers"},
    "num_hidden_layers": 4,
    "local_attention": 7,
}
HF_DEBERTA = {
    **HF,
    "model_type": "deberta-v2",
    "type_vocab_size": 0,
    "layer_norm_eps": 1e-7,
    "relative_attention": True,
    "position_biased_input": False,
    "position_buckets": 8,
    "max_relative_positions": -1,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "c2p|p2c",
}
HF_DISTILBERT = {
    "model_type": "distilbert",
    "vocab_size": 60,
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 64,
    "activation": "gelu",
    "max_position_embeddings": 24,
    "pad_token_id": 0,
}
HF_EUROBERT = {
    "model_type": "eurobert",
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "rope_theta": 250_000.0,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
HF_GTE = {
    **HF,
    "model_type": "gte",
    "type_vocab_size": 1,
    "intermediate_size": 48,
    "rope_parameters": {"rope_type": "linear", "rope_theta": 160_000.0, "factor": 8 ** (2 / 8)},
}
ROPE = {
    kind: {"rope_type": "default", "rope_theta": 10_000.0}
    for kind in ("full_attention", "sliding_attention")
}
JUNNYU_V2 = {
    **HF_ROFORMER,
    "hidden_act": "relu",
    "norm_type": "rms_norm",
    "use_bias": False,
}


# --- inputs ---


def make_inputs():
    """Every input array, by name.

    Rows of ``4x13``: full; 4 padded; all padding; a zero in the middle and 2 padded. ``2x7``: full;
    3 padded. ``1x80`` is longer than NEZHA's largest distance. ``2x21``: full; 3 padded, more than
    the 16 positions below which GAU-alpha's softmax doesn't count them.

    ``pad1_*``: the tokens of the first two for RoBERTa, where 1 is padding and 0 is no padding;
    ``left1_*``: the same with the padding on the left.
    """
    random = np.random.RandomState(30)
    arrays = {}
    for lengths, width, borders in (
        ([13, 9, 0, 11], 13, [6, 4, 0, 8]),
        ([7, 4], 7, [3, 2]),
        ([80], 80, [37]),
        ([21, 18], 21, [9, 8]),
    ):
        size = f"{len(lengths)}x{width}"
        visible = np.arange(width) < np.array(lengths)[:, None]
        tokens = random.randint(1, 60, visible.shape) * visible
        if size == "4x13":
            tokens[3, 5] = 0
        arrays[f"tokens_{size}"] = tokens
        arrays[f"segments_{size}"] = (np.arange(width) >= np.array(borders)[:, None]) * visible
        arrays[f"positions_{size}"] = random.randint(0, 24, visible.shape)
        arrays[f"condition_{size}"] = random.standard_normal((len(lengths), CONDITION_SIZE))
    for size in ("4x13", "2x7"):
        tokens = arrays[f"tokens_{size}"]
        right = np.where(tokens == 0, 1, np.where(tokens == 1, 0, tokens))
        left = np.ones_like(right)
        for row, ids in zip(left, right, strict=True):
            kept = ids[: np.max(np.flatnonzero(ids != 1), initial=-1) + 1]  # with a hole in it
            row[len(row) - len(kept) :] = kept
        arrays |= {f"pad1_{size}": right, f"left1_{size}": left}
    return {k: v.astype("float32" if v.dtype.kind == "f" else "int32") for k, v in arrays.items()}


INPUTS = make_inputs()
LARGE, SMALL, LONG, MIDDLE = "4x13", "2x7", "1x80", "2x21"


def output_names(options):
    """What a model gives, in bert4keras' order: any head takes the sequence's place."""
    heads = ("with_pool", "with_nsp", "with_classifier", "with_mlm", "with_discriminator")
    names = [head.removeprefix("with_") for head in heads if options.get(head)]
    if "nsp" in names and "pool" in names:
        names.remove("pool")
    return names or ["sequence"]


def case(name, model, config, options=None, weights=None, sizes=(LARGE,), kinds=None, **fields):
    """A case of one of the families, over batches of token and segment ids."""
    kinds = kinds or ("tokens", "segments")
    options = {"model": model, **(options or {})}
    if "condition" in kinds:
        fields["condition_size"] = CONDITION_SIZE
    inputs = [[f"{kind}_{size}" for kind in kinds] for size in sizes]
    return make_case(
        name, config, options, weights or model, inputs, output_names(options), **fields
    )


def batches(case):
    return [[INPUTS[key] for key in keys] for keys in case["inputs"]]


def visible(tokens, padding=0):
    """The toolkit's mask: padding is hidden, but the first token of a row never is.

    Where positions are counted from the padding id, as for RoBERTa, it is hidden there, too.
    """
    mask = (tokens != padding).astype("int32")
    if padding == 0:
        mask[:, 0] = 1
    return mask


# --- bert4keras ---

CONDITIONAL = {"kinds": ("tokens", "segments", "condition")}
POSITIONS = {"kinds": ("tokens", "segments", "positions")}
NO_SEGMENTS = {"kinds": ("tokens",), "without": ["bert/embeddings/token_type_embeddings"]}
STATES = {"hidden_states": 3, "sizes": (SMALL,)}
HEADS = {"with_nsp": True, "with_mlm": True}

# key of the table of weights -> the model that has all of them
BERT4KERAS_MODELS = {
    "albert": ("albert", TF, HEADS),
    "albert_16": ("albert", {**TF, "embedding_size": 16}, HEADS),
    "nezha": ("nezha", NEZHA, HEADS),
    "roformer": ("roformer", TF, HEADS),
    "roformer_16": ("roformer", {**TF, "embedding_size": 16}, HEADS),
    "roformer_v2": ("roformer_v2", {**TF, "hidden_act": "relu"}, {"with_mlm": True}),
    "electra": ("electra", TF, {"with_discriminator": True}),
    "electra_16": ("electra", {**TF, "embedding_size": 16}, {"with_discriminator": True}),
    "bert": ("bert", TF, HEADS),
}


def usual_cases(family, config, **encoder):
    """The cases that every family with BERT's heads has."""
    plain, logits = {"differs_from": f"{family}_encoder"}, {"differs_from": f"{family}_mlm"}
    return [
        case(f"{family}_encoder", family, config, **encoder),
        case(f"{family}_pool", family, config, {"with_pool": True}, **STATES),
        case(f"{family}_mlm", family, config, MLM),
        case(f"{family}_mlm_softmax", family, config, {"with_mlm": True}, sizes=[SMALL]),
        case(f"{family}_lm", family, config, LM, **logits),
        case(f"{family}_unilm", family, config, UNILM, differs_from=f"{family}_lm"),
        case(
            f"{family}_layer_norm_cond",
            family,
            config,
            weights=f"{family}_conditional",
            **CONDITIONAL,
            **plain,
        ),
    ]


def bert4keras_cases():
    nsp = {"with_pool": True, "with_nsp": True}
    sim = {"with_pool": "linear", **UNILM}
    relu = {**TF, "hidden_act": "relu"}
    long = {"sizes": (LARGE, LONG)}
    return [
        *usual_cases("albert", TF),
        case("albert_nsp", "albert", TF, nsp, sizes=[SMALL]),
        case(
            "albert_embedding_size",
            "albert",
            {**TF, "embedding_size": 16},
            MLM,
            weights="albert_16",
        ),
        case("albert_relu", "albert", relu, differs_from="albert_encoder"),
        case("albert_unshared_encoder", "albert_unshared", TF, weights="albert"),
        case("albert_unshared_mlm", "albert_unshared", TF, MLM, weights="albert"),
        *usual_cases("nezha", NEZHA, **long),
        case("nezha_nsp", "nezha", NEZHA, nsp, sizes=[SMALL]),
        *usual_cases("roformer", TF),
        case(
            "roformer_embedding_size",
            "roformer",
            {**TF, "embedding_size": 16},
            MLM,
            weights="roformer_16",
        ),
        case("roformer_sim", "roformer", TF, sim),
        case(
            "roformer_pool_linear",
            "roformer",
            TF,
            {"with_pool": "linear"},
            sizes=(SMALL, LARGE),
            differs_from="roformer_pool",
        ),
        case(
            "roformer_custom_position_ids",
            "roformer",
            TF,
            {"custom_position_ids": True},
            **POSITIONS,
            differs_from="roformer_encoder",
        ),
        case("roformer_v2_encoder", "roformer_v2", relu),
        case("roformer_v2_mlm_softmax", "roformer_v2", relu, {"with_mlm": True}, **STATES),
        case("roformer_v2_mlm", "roformer_v2", relu, MLM),
        case("roformer_v2_lm", "roformer_v2", relu, LM, differs_from="roformer_v2_mlm"),
        case("roformer_v2_unilm", "roformer_v2", relu, UNILM, differs_from="roformer_v2_lm"),
        case("electra_encoder", "electra", TF),
        case(
            "electra_embedding_size",
            "electra",
            {**TF, "embedding_size": 16},
            weights="electra_16",
            sizes=[LARGE],
        ),
        case("electra_discriminator", "electra", TF, {"with_discriminator": True}, **STATES),
        case(
            "electra_discriminator_linear",
            "electra",
            TF,
            {"with_discriminator": "linear"},
            sizes=(SMALL, LARGE),
            differs_from="electra_discriminator",
        ),
        case("simbert", "bert", TF, sim),
        case(
            "nezha_gen",
            "bert",
            TF,
            {"segment_vocab_size": 0, **LM},
            **NO_SEGMENTS,
            notes="Huawei's GPT is a BERT body: absolute positions, no segments",
        ),
        case(
            "labse",
            "bert",
            TF,
            {"with_pool": "linear"},
            weights="labse",
            notes="kernels of attention are stored with an axis of heads",
        ),
        case("labse_encoder", "bert", TF, weights="labse", sizes=[SMALL]),
    ]


def checkpoint_shapes(transformer):
    """Names and shapes that a bert4keras model reads from a checkpoint."""
    mapping, shapes = transformer.variable_mapping(), {}
    for name, layer in transformer.layers.items():
        if name.startswith("Input-"):
            continue  # a tensor
        names = mapping.get(name, [])
        assert len(names) == len(layer.trainable_weights), f"{name} reads {names}"
        for variable, weight in zip(names, layer.trainable_weights, strict=True):
            shape = weight.shape.as_list()
            turned = variable == "cls/seq_relationship/output_weights"
            shapes[variable] = shape[::-1] if turned else shape
    return shapes


def condition_shapes(shapes):
    """Kernels of conditional norms, under names of our own: no checkpoint has them."""
    found = {}
    for name, shape in shapes.items():
        if name.endswith("/gamma"):
            for part in ("beta_dense", "gamma_dense"):
                found[f"{name.removesuffix('gamma')}{part}/kernel"] = [CONDITION_SIZE, *shape]
    return found


def split_heads(shapes):
    """Shapes of attention's kernels and biases with the 4 heads of 8 on an axis of their own."""
    split = {}
    for name, shape in shapes.items():
        if "/attention/self/" in name:
            shape = [*shape[:-1], 4, 8]
        elif name.endswith("attention/output/dense/kernel"):
            shape = [4, 8, *shape[1:]]
        split[name] = shape
    return split


def bert4keras_weights():
    table = {}
    for key, (model, config, options) in BERT4KERAS_MODELS.items():
        transformer = build_bert4keras(config, {"model": model, **options})
        table[key] = {"seed": 0, "shapes": checkpoint_shapes(transformer)}
    for family in ("albert", "nezha", "roformer"):
        shapes = condition_shapes(table[family]["shapes"])
        table[f"{family}_conditional"] = {"extends": family, "seed": 0, "shapes": shapes}
    table["labse"] = {"seed": 0, "shapes": split_heads(table["bert"]["shapes"])}
    return table


def build_bert4keras(config, options, weights=None):
    """Build through bert4keras' public function; weights come from a plain dict."""
    from bert4keras.backend import keras
    from bert4keras.models import build_transformer_model

    keras.backend.clear_session()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bert_config.json"
        path.write_text(json.dumps(config))
        return build_transformer_model(str(path), weights, return_keras_model=False, **options)


def build_case(case, weights, **options):
    from bert4keras.backend import keras

    options = {**case["options"], **options}
    if case["condition_size"]:
        condition = keras.layers.Input(shape=(case["condition_size"],), name="Input-Condition")
        options |= {"layer_norm_cond": condition, "additional_input_layers": condition}
    if case["weights"] == "labse":
        weights = {
            name: w.reshape([32, 32][: w.ndim - 1]) if "/attention/" in name and w.ndim > 1 else w
            for name, w in weights.items()
        }
    transformer = build_bert4keras(case["config"], options, weights)
    if case["condition_size"]:
        set_condition_kernels(transformer, weights)
    return transformer


def set_condition_kernels(transformer, weights):
    """Give the conditional norms kernels other than the zeros they start with."""
    for name, variables in transformer.variable_mapping().items():
        if name.endswith("-Norm") and name in transformer.layers:
            layer, scope = transformer.layers[name], variables[0].removesuffix("/beta")
            np.testing.assert_array_equal(layer.gamma.numpy(), weights[variables[1]])
            for part in ("beta_dense", "gamma_dense"):
                getattr(layer, part).kernel.assign(weights[f"{scope}/{part}/kernel"])


def hidden_model(transformer):
    """The same graph, ending in the embeddings and in every block."""
    from bert4keras.backend import keras

    def outputs(name):
        layer = transformer.layers[name]
        return [layer.get_output_at(i) for i in range(len(layer.inbound_nodes))]

    last = "GatedAttentionUnit" if "gau" in transformer.name else "FeedForward"
    shared = f"Transformer-{last}-Norm"
    names = [f"Transformer-{i}-{last}-Norm" for i in range(transformer.num_hidden_layers)]
    tensors = outputs("Embedding-Norm")
    for name in [shared] if shared in transformer.layers else names:
        tensors += outputs(name)
    return keras.Model(transformer.model.inputs, tensors)


def predict(model, arrays):
    outputs = model.predict_on_batch(arrays)
    return outputs if isinstance(outputs, list) else [outputs]


def record_bert4keras(cases, table, **options):
    """The outputs of cases, in float32 and in float64."""
    from bert4keras.backend import keras

    found = []
    for precision in ("float32", "float64"):
        keras.backend.set_floatx(precision)
        results = {}
        for case in cases:
            name = case["options"]["model"]
            weights = named_weights(table, case["weights"])
            weights = {k: v for k, v in weights.items() if k not in case["without"]}
            transformer = build_case(case, weights, name=name, **options)
            hidden = hidden_model(transformer) if case["hidden_states"] else None
            for i, arrays in enumerate(batches(case)):
                states = predict(hidden, arrays) if hidden else ()
                record(results, case, i, predict(transformer.model, arrays), states)
        found.append(results)
    keras.backend.set_floatx("float32")
    return found


def run_bert4keras():
    import bert4keras

    cases, table = bert4keras_cases(), bert4keras_weights()
    for each in cases:
        each["source"] = f"bert4keras {bert4keras.__version__}"
    results, precise = record_bert4keras(cases, table)
    check(cases, results, precise)
    save(FOLDER, "bert4keras", cases, results, table, INPUTS)


# --- GAU-alpha: its own class under bert4keras ---


def run_gau_alpha(checkout):
    """`checkout`: folder of ZhuiyiTechnology/GAU-alpha."""
    import bert4keras

    sys.path.insert(0, checkout)
    GAU_alpha = importlib.import_module("models").GAU_alpha
    shapes = checkpoint_shapes(build_bert4keras(GAU, {"model": GAU_alpha, "with_mlm": True}))
    table = {"gau_alpha": {"seed": 0, "shapes": shapes}}
    cases = [
        case("gau_alpha_encoder", "gau_alpha", GAU, sizes=(LARGE, MIDDLE)),
        case("gau_alpha_mlm", "gau_alpha", GAU, MLM),
        case("gau_alpha_mlm_softmax", "gau_alpha", GAU, {"with_mlm": True}, **STATES),
        case(
            "gau_alpha_lm",
            "gau_alpha",
            GAU,
            LM,
            sizes=(LARGE, MIDDLE),
            differs_from="gau_alpha_mlm",
        ),
        case(
            "gau_alpha_unilm",
            "gau_alpha",
            GAU,
            UNILM,
            sizes=(LARGE, MIDDLE),
            differs_from="gau_alpha_lm",
        ),
    ]
    for each in cases:
        each["source"] = f"GAU-alpha on bert4keras {bert4keras.__version__}"
    results, precise = record_bert4keras(cases, table, model=GAU_alpha)
    check(cases, results, precise)
    save(FOLDER, "gau_alpha", cases, results, table, INPUTS)


# --- brightmart's first ALBERT: its own TensorFlow 1 code ---


def layer_norm(inputs, begin_norm_axis, begin_params_axis, scope):
    """tf.contrib.layers.layer_norm over the last axis, which TensorFlow 2 has no more."""
    import tensorflow.compat.v1 as tf

    with tf.variable_scope(scope, "LayerNorm"):
        width = inputs.shape[-1:]
        beta = tf.get_variable("beta", width, initializer=tf.zeros_initializer())
        gamma = tf.get_variable("gamma", width, initializer=tf.ones_initializer())
        mean, variance = tf.nn.moments(inputs, [-1], keepdims=True)
        return tf.nn.batch_normalization(inputs, mean, variance, beta, gamma, 1e-12)


def import_albert_zh(checkout):
    """Its `modeling` and `run_pretraining`, which get TensorFlow 1's names from TensorFlow 2."""
    import tensorflow.compat.v1 as tf

    tf.disable_eager_execution()
    tf.contrib = types.SimpleNamespace(layers=types.SimpleNamespace(layer_norm=layer_norm))
    sys.path.insert(0, checkout)
    real, sys.modules["tensorflow"] = sys.modules["tensorflow"], tf
    try:
        return importlib.import_module("modeling"), importlib.import_module("run_pretraining")
    finally:
        sys.modules["tensorflow"] = real


def albert_zh_graph(modeling, run_pretraining, config, tokens, segments, mask):
    """Every output of the published graph, by name."""
    import tensorflow.compat.v1 as tf

    config = modeling.BertConfig.from_dict(config)
    tokens, segments, mask = (tf.constant(array) for array in (tokens, segments, mask))
    model = modeling.BertModel(config, False, tokens, mask, segments)
    everywhere = tf.tile(tf.range(tokens.shape[1])[None], [tokens.shape[0], 1])
    dummy = tf.zeros(tokens.shape, tf.int32)
    log_probabilities = run_pretraining.get_masked_lm_output(
        config,
        model.get_sequence_output(),
        model.get_embedding_table(),
        model.get_embedding_table_2(),
        everywhere,
        dummy,
        tf.cast(dummy, tf.float32),
    )[2]
    nsp = run_pretraining.get_next_sentence_output(
        config, model.get_pooled_output(), tf.zeros(tokens.shape[:1], tf.int32)
    )[2]
    # what enters the softmax is an operation of the graph, not an output of the function
    logits = log_probabilities.op.inputs[0]
    return {
        "sequence": model.get_sequence_output(),
        "pool": model.get_pooled_output(),
        "nsp": tf.exp(nsp),
        "mlm": tf.reshape(logits, [*tokens.shape, config.vocab_size]),
        "hidden": [model.get_embedding_output(), *model.get_all_encoder_layers()],
    }


def run_albert_zh(checkout):
    """`checkout`: folder of brightmart/albert_zh."""
    import tensorflow.compat.v1 as tf

    modules = import_albert_zh(checkout)
    config = {**TF, "embedding_size": 16, "ln_type": "postln"}
    cases = [
        case("albert_zh_encoder", "albert", config, weights="albert_zh"),
        case("albert_zh_pool", "albert", config, {"with_pool": True}, "albert_zh", **STATES),
        case("albert_zh_nsp_mlm", "albert", config, {"with_nsp": True, **MLM}, weights="albert_zh"),
    ]
    results, shapes = {}, {}
    for each in cases:
        each["source"] = "brightmart/albert_zh modeling.py on tensorflow " + tf.__version__
        for i, (tokens, segments) in enumerate(batches(each)):
            with tf.Graph().as_default(), tf.Session() as session:
                found = albert_zh_graph(*modules, config, tokens, segments, visible(tokens))
                shapes = {v.op.name: v.shape.as_list() for v in tf.trainable_variables()}
                for variable in tf.trainable_variables():
                    variable.load(random_tensor(variable.op.name, variable.shape), session)
                outputs = session.run([found[kind] for kind in each["outputs"]])
                states = session.run(found["hidden"]) if each["hidden_states"] else ()
                record(results, each, i, outputs, states)
    check(cases, results)
    save(FOLDER, "albert_zh", cases, results, {"albert_zh": {"seed": 0, "shapes": shapes}}, INPUTS)


# --- transformers, and the packages built on it ---


def hf_case(name, class_name, config, options=None, **fields):
    """A case named after its class. Weights are its own state dict unless another file is named."""
    fields = {"class_name": class_name, "weights": name, **fields}
    return case(name, fields.pop("model", config["model_type"]), config, options, **fields)


CLASSIFIERS = {
    "text": "ForSequenceClassification",
    "tokens": "ForTokenClassification",
    "spans": "ForQuestionAnswering",
    "choice": "ForMultipleChoice",
}
NAMES = ["差评", "中评", "好评"]
LABELS = {
    "id2label": {str(i): name for i, name in enumerate(NAMES)},
    "label2id": {name: i for i, name in enumerate(NAMES)},
}


def classifier_case(name, stem, config, kind, **fields):
    """A case of a fine-tuned class: its kind is in `architectures`."""
    class_name = stem + CLASSIFIERS[kind]
    labels = LABELS if kind in ("text", "tokens") else {}
    config = {**config, **labels, "architectures": [class_name]}
    name = f"classifier_{name}_{kind}"
    return hf_case(name, class_name, config, {"with_classifier": True}, **fields)


def classifier_cases(name, stem, config, heads=tuple(CLASSIFIERS), **fields):
    return [classifier_case(name, stem, config, head, **fields) for head in heads]


def transformers_classifier_cases():
    bert = {**HF, "model_type": "bert"}
    tokens, megatron = {"kinds": ("tokens",)}, {"model": "megatron_bert"}
    deberta = {"model": "deberta_v2", "compare": "visible", **tokens}
    bos = {**HF_EUROBERT, "classifier_pooling": "bos"}
    mean = {**HF_MODERNBERT, "classifier_pooling": "mean"}
    two = {**bert, "architectures": ["BertForSequenceClassification"]}
    left, right = {"kinds": ("left1",)}, {"kinds": ("pad1",)}
    return [
        *classifier_cases("bert", "Bert", bert),
        *classifier_cases("albert", "Albert", HF_ALBERT),
        *classifier_cases("electra", "Electra", HF_ELECTRA),
        *classifier_cases("megatron_bert", "MegatronBert", HF_MEGATRON_BERT, **megatron),
        *classifier_cases("modernbert", "ModernBert", HF_MODERNBERT, **tokens),
        *classifier_cases("roformer", "RoFormer", HF_ROFORMER, ("text", "tokens", "spans")),
        *classifier_cases("ernie", "Ernie", HF_ERNIE),
        *classifier_cases("roberta", "Roberta", HF_ROBERTA, model="fairseq_roberta", **left),
        *classifier_cases("xlm", "XLMRoberta", HF_XLM_ROBERTA, model="xlm_roberta", **right),
        classifier_case("roformer_relu", "RoFormer", {**HF_ROFORMER, "hidden_act": "relu"}, "text"),
        classifier_case("electra_relu", "Electra", {**HF_ELECTRA, "hidden_act": "relu"}, "text"),
        classifier_case("modernbert_mean", "ModernBert", mean, "text", **tokens),
        *classifier_cases("deberta_v2", "DebertaV2", HF_DEBERTA, **deberta),
        *classifier_cases("distilbert", "DistilBert", HF_DISTILBERT, **tokens),
        *classifier_cases("eurobert", "EuroBert", HF_EUROBERT, ("text", "tokens"), **tokens),
        classifier_case("eurobert_bos", "EuroBert", bos, "text", **tokens),
        *classifier_cases("gte", "Gte", HF_GTE, ("text", "tokens"), **tokens),
        hf_case(
            "classifier_bert_two_labels",
            "BertForSequenceClassification",
            two,
            {"with_classifier": True},
            sizes=[SMALL],
            notes="transformers writes neither id2label nor label2id for two labels",
        ),
    ]


def transformers_cases():
    relu = {**HF_ALBERT, "hidden_act": "relu"}
    equal = {**HF_ALBERT, "embedding_size": 32}
    heads = {"with_nsp": True, **MLM}
    discriminator = {"with_discriminator": "linear"}
    narrow = {**HF_ELECTRA, "hidden_size": 16, "embedding_size": 32, "num_attention_heads": 2}
    tf_large = {**TF, "embedding_size": 32}
    tf_narrow = {**tf_large, "hidden_size": 16, "num_attention_heads": 2}
    rotary = {**HF_ROFORMER, "embedding_size": 16, "rotary_value": True}
    generator, megatron = {"model": "electra_generator"}, {"model": "megatron_bert"}
    roberta, xlm = {"model": "fairseq_roberta"}, {"model": "xlm_roberta"}
    right, left = {"kinds": ("pad1",), "sizes": (LARGE, SMALL)}, {"kinds": ("left1",)}
    pool = {"with_pool": True}
    tokens = {"kinds": ("tokens",)}
    long = {"sizes": (LARGE, LONG), **tokens}
    # each window has a token: transformers gives NaN for others in float64
    sliding = {"sizes": (SMALL, MIDDLE, LONG), **tokens}
    # transformers masks the queries of padding, too, which changes nothing but their own rows
    deberta = {"model": "deberta_v2", "compare": "visible", **tokens}
    convolution = {**HF_DEBERTA, "conv_kernel_size": 3, "conv_act": "gelu"}
    biased = {**HF_DEBERTA, "position_biased_input": True, "max_relative_positions": 12}
    return [
        *transformers_classifier_cases(),
        hf_case("hf_albert", "AlbertModel", HF_ALBERT),
        hf_case("hf_albert_relu_pool", "AlbertModel", relu, {"with_pool": True}, **STATES),
        hf_case("hf_albert_pretraining", "AlbertForPreTraining", HF_ALBERT, heads, sizes=[SMALL]),
        hf_case("hf_albert_pretraining_relu", "AlbertForPreTraining", relu, heads, sizes=[SMALL]),
        hf_case(
            "hf_albert_equal_sizes",
            "AlbertModel",
            equal,
            sizes=[SMALL],
            notes="transformers maps embeddings to blocks also where the widths are equal",
        ),
        hf_case("hf_roformer", "RoFormerModel", HF_ROFORMER),
        hf_case("hf_roformer_mlm", "RoFormerForMaskedLM", HF_ROFORMER, MLM),
        hf_case("hf_roformer_rotary_value", "RoFormerForMaskedLM", rotary, MLM),
        hf_case("hf_modernbert", "ModernBertModel", HF_MODERNBERT, kinds=("tokens",)),
        hf_case(
            "hf_modernbert_mlm",
            "ModernBertForMaskedLM",
            {**HF_MODERNBERT, "rope_parameters": ROPE},
            MLM,
            kinds=("tokens",),
            sizes=(LARGE, LONG),
        ),
        hf_case(
            "hf_modernbert_sliding",
            "ModernBertModel",
            HF_SLIDING,
            **sliding,
            notes="the window is 3 on each side; layers 0 and 3 are full",
        ),
        hf_case(
            "hf_modernbert_sliding_mlm",
            "ModernBertForMaskedLM",
            {**HF_SLIDING, "local_rope_theta": 300.0},
            MLM,
            **(sliding | {"sizes": (SMALL, MIDDLE)}),
        ),
        hf_case("hf_distilbert", "DistilBertModel", HF_DISTILBERT, **tokens),
        hf_case("hf_distilbert_mlm", "DistilBertForMaskedLM", HF_DISTILBERT, MLM, **tokens),
        hf_case(
            "hf_deberta_v2",
            "DebertaV2Model",
            convolution,
            **(deberta | {"sizes": (LARGE, LONG)}),
            notes="80 tokens are beyond the last bucket on both sides",
        ),
        hf_case("hf_deberta_v2_mlm", "DebertaV2ForMaskedLM", convolution, MLM, **deberta),
        hf_case(
            "hf_deberta_v2_tanh",
            "DebertaV2Model",
            {**HF_DEBERTA, "conv_kernel_size": 5},
            **deberta,
            notes="the activation of the convolution is transformers' default",
        ),
        hf_case(
            "hf_deberta_v2_microsoft",
            "DebertaV2ForMaskedLM",
            {**HF_DEBERTA, "legacy": False},
            MLM,
            **deberta,
            notes="other names of the head, and no convolution, as in Microsoft's files",
        ),
        hf_case("hf_deberta_v2_positions", "DebertaV2Model", biased, **deberta),
        hf_case("hf_eurobert", "EuroBertModel", HF_EUROBERT, **long),
        hf_case(
            "hf_eurobert_mlm",
            "EuroBertForMaskedLM",
            {**HF_EUROBERT, "num_key_value_heads": 4},
            MLM,
            **tokens,
        ),
        hf_case(
            "hf_gte",
            "GteModel",
            HF_GTE,
            **long,
            notes="as gte-multilingual-base, whose NTK scaling by 8 is this linear one",
        ),
        hf_case("hf_gte_mlm", "GteForMaskedLM", HF_GTE, MLM, **tokens),
        hf_case("hf_megatron_bert", "MegatronBertModel", HF_MEGATRON_BERT, **megatron),
        hf_case(
            "hf_megatron_bert_pretraining",
            "MegatronBertForPreTraining",
            HF_MEGATRON_BERT,
            heads,
            **megatron,
        ),
        hf_case("hf_ernie", "ErnieModel", HF_ERNIE, sizes=(LARGE, SMALL)),
        hf_case("hf_ernie_pretraining", "ErnieForPreTraining", HF_ERNIE, heads),
        hf_case("hf_ernie_1_mlm", "ErnieForMaskedLM", HF_ERNIE_1, MLM, **STATES),
        hf_case(
            "hf_ernie_says_bert",
            "ErnieModel",
            {**HF_ERNIE, "model_type": "bert"},
            model="ernie",
            weights="hf_ernie",
            notes="the first revisions of ERNIE 3.0: the task types tell",
        ),
        hf_case("hf_roberta", "RobertaModel", HF_ROBERTA, **roberta, **right),
        hf_case(
            "hf_roberta_left", "RobertaModel", HF_ROBERTA, **roberta, **left, weights="hf_roberta"
        ),
        hf_case("hf_roberta_mlm", "RobertaForMaskedLM", HF_ROBERTA, MLM, **roberta, **right),
        hf_case("hf_xlm_roberta", "XLMRobertaModel", HF_XLM_ROBERTA, pool, **xlm, **right),
        hf_case("hf_xlm_roberta_mlm", "XLMRobertaForMaskedLM", HF_XLM_ROBERTA, MLM, **xlm, **left),
        hf_case(
            "hf_xlm_roberta_lm",
            "XLMRobertaForCausalLM",
            {**HF_XLM_ROBERTA, "is_decoder": True},
            LM,
            **xlm,
            **right,
        ),
        hf_case("hf_electra", "ElectraModel", HF_ELECTRA),
        hf_case("hf_electra_discriminator", "ElectraForPreTraining", HF_ELECTRA, discriminator),
        hf_case(
            "hf_electra_generator", "ElectraForMaskedLM", HF_ELECTRA, MLM, **generator, **STATES
        ),
        hf_case("hf_electra_narrow", "ElectraForMaskedLM", narrow, MLM, **generator, sizes=[SMALL]),
        hf_case(
            "electra_tf_discriminator",
            "ElectraForPreTraining",
            {**tf_large, "model_type": "electra"},
            discriminator,
            weights="electra_tf",
            notes="one checkpoint holds both nets",
        ),
        hf_case(
            "electra_tf_generator",
            "ElectraForMaskedLM",
            {**tf_narrow, "model_type": "electra"},
            MLM,
            weights="electra_tf",
            **generator,
            notes="narrower than its embeddings, which it shares with the discriminator",
        ),
        hf_case(
            "electra_tf_untied_generator",
            "ElectraForMaskedLM",
            {**tf_narrow, "model_type": "electra"},
            MLM,
            weights="electra_tf_untied",
            **generator,
            notes="untied embeddings: the generator has its own",
        ),
        hf_case(
            "uer_bert",
            "BertForPreTraining",
            {**TF, "model_type": "bert"},
            heads,
            weights="uer_bert",
            notes="segment row 0 is unused; the MLM kernel is in the file, a tied copy",
        ),
    ]


def transformers4_cases():
    clipped = {**HF_NEZHA, "max_relative_position": 5}
    heads = {"with_nsp": True, **MLM}
    return [
        *classifier_cases("nezha", "Nezha", HF_NEZHA),
        hf_case("hf_nezha", "NezhaModel", HF_NEZHA, sizes=(LARGE, LONG)),
        hf_case("hf_nezha_pool", "NezhaModel", HF_NEZHA, {"with_pool": True}, **STATES),
        hf_case("hf_nezha_pretraining", "NezhaForPreTraining", HF_NEZHA, heads, sizes=[SMALL]),
        hf_case("hf_nezha_clipped", "NezhaModel", clipped),
        hf_case("hf_nezha_pretraining_clipped", "NezhaForPreTraining", clipped, heads),
        hf_case("junnyu_roformer_v2", "RoFormerModel", JUNNYU_V2, model="roformer_v2"),
        hf_case(
            "junnyu_roformer_v2_mlm", "RoFormerForMaskedLM", JUNNYU_V2, MLM, model="roformer_v2"
        ),
    ]


CONSTANT = "roformer.encoder.embed_positions.weight"


def own_tensors(model):
    """Names and shapes of a state dict without tied copies and constants."""
    found = {}
    heads_last = sorted(model.state_dict().items(), key=lambda item: "lm_head" in item[0])
    for name, tensor in heads_last:  # which XLM-R has first, with a copy of the table
        if not CONSTANT.endswith(name):
            found.setdefault(tensor.data_ptr(), (name, list(tensor.shape)))
    return dict(found.values())


def electra_tf_name(net, embeddings, name):
    """The TensorFlow name of a tensor of one of the two nets, and whether its layout is turned."""
    if name == "generator_lm_head.bias":
        return "generator_predictions/output_bias", False
    path, kind = name.replace("dense_prediction", "dense_1").rsplit(".", 1)
    path = re.sub(r"\.layer\.(\d+)\.", r".layer_\1.", path).replace(".", "/")
    path = re.sub("^electra", embeddings if "/embeddings/" in path else net, path)
    if path.endswith("_embeddings"):
        return path, False
    if path.endswith("LayerNorm"):
        return f"{path}/{'gamma' if kind == 'weight' else 'beta'}", False
    return f"{path}/{'kernel' if kind == 'weight' else 'bias'}", kind == "weight"


def foreign_name(case, name):
    """Where a state dict's tensor is in the file of the case: its name and whether it is turned."""
    net = "generator" if case["options"]["model"] == "electra_generator" else "electra"
    return {
        "electra_tf": lambda: electra_tf_name(net, "electra", name),
        "electra_tf_untied": lambda: electra_tf_name(net, net, name),
        "uer_bert": lambda: (uer_name(name), False),
    }.get(case["weights"], lambda: (name, False))()


def load_class(case):
    import torch
    import transformers

    torch.manual_seed(0)
    package = transformers
    if case["options"]["model"] == "roformer_v2":
        # moved, or gone and not used by these classes, since the package was written
        for name in ("apply_chunking_to_forward", "prune_linear_layer", "SequenceSummary"):
            vars(transformers.modeling_utils)[name] = getattr(
                transformers.pytorch_utils, name, None
            )
        vars(transformers.modeling_utils)["find_pruneable_heads_and_indices"] = None
        package = importlib.import_module("roformer")
        config = package.RoFormerConfig(**case["config"])
    else:
        model_type = "ernie" if "Ernie" in case["class_name"] else case["config"]["model_type"]
        config = transformers.AutoConfig.for_model(**case["config"] | {"model_type": model_type})
    config._attn_implementation = "eager"
    return getattr(package, case["class_name"])(config).eval()


def hf_weights(cases):
    """The table of weights: what each class has in its state dict, under the names of the file."""
    table = {}
    for each in cases:
        entry = table.setdefault(each["weights"], {"seed": 0, "shapes": {}})
        own = tensors_of_file(each) if is_packed(each) else own_tensors(load_class(each))
        for name, shape in own.items():
            there, turned = foreign_name(each, name)
            entry["shapes"][there] = shape[::-1] if turned else shape
    if uer := table.pop("uer_bert", None):
        words, copy = "embedding.word.embedding.weight", "target.mlm.linear_2.weight"
        uer["shapes"]["embedding.seg.embedding.weight"] = [3, 32]
        names = {name: [name, False] for name in uer["shapes"]} | {copy: [words, False]}
        table |= {"uer_base": uer, "uer_bert": {"renames": "uer_base", "names": names}}
    return table


def is_packed(case):
    """Whether the file of the case has other arrays than the state dict: queries, keys, values."""
    return case["class_name"].startswith("Gte")


def tensors_of_file(case):
    """Names and shapes of the arrays that `save_pretrained` writes."""
    from safetensors import safe_open

    with tempfile.TemporaryDirectory() as folder:
        load_class(case).save_pretrained(folder)
        with safe_open(f"{folder}/model.safetensors", "numpy") as file:
            names = file.keys()
            shapes = {name: file.get_slice(name).get_shape() for name in names}
    if case["outputs"] == ["mlm"]:  # as in published files
        shapes = {name.replace("gte.", "new."): shape for name, shape in shapes.items()}
    return shapes


def load_file(case, weights):
    """A model that transformers loads from a file of these weights."""
    import transformers
    from safetensors.numpy import save_file

    with tempfile.TemporaryDirectory() as folder:
        save_file(weights, f"{folder}/model.safetensors", {"format": "pt"})
        (Path(folder) / "config.json").write_text(json.dumps(case["config"]))
        model, found = getattr(transformers, case["class_name"]).from_pretrained(
            folder, output_loading_info=True, attn_implementation="eager"
        )
    assert not any(found.values()), found
    return model.eval()


def load_weights(case, model, weights):
    """Give a model its weights; nothing but tied copies and constants may be missing."""
    import torch

    state, own = {}, own_tensors(model)
    for name, shape in own.items():
        there, turned = foreign_name(case, name)
        array = weights[there].T if turned else weights[there]
        state[name] = torch.tensor(array[-shape[0] :])  # UER has a segment row before
    found = model.load_state_dict(state, strict=False)
    assert not found.unexpected_keys and not own.keys() & set(found.missing_keys)


def forward(model, tokens, segments=None):
    """Named outputs for one batch."""
    import torch

    name = type(model).__name__
    mask = visible(tokens, 1 if "roberta" in model.config.model_type else 0)
    given = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": segments}
    given = {key: torch.tensor(array).long() for key, array in given.items() if array is not None}
    if name.endswith(CLASSIFIERS["choice"]):  # one choice in a row
        given = {key: ids[:, None] for key, ids in given.items()}
    with torch.no_grad():
        out = model(output_hidden_states=True, **given)
    if name.endswith(CLASSIFIERS["spans"]):
        return {"classifier": torch.stack([out.start_logits, out.end_logits], -1)}, ()
    if name.endswith(tuple(CLASSIFIERS.values())):
        return {"classifier": out.logits}, ()
    if "ForPreTraining" in name and "logits" in out:
        return {"discriminator": out.logits[..., None]}, out.hidden_states
    kinds = {
        "last_hidden_state": "sequence",
        "pooler_output": "pool",
        "prediction_logits": "mlm",
        "logits": "mlm",
        "seq_relationship_logits": "nsp",
        "sop_logits": "nsp",
    }
    found = {kinds[key]: value for key, value in out.items() if key in kinds}
    if "nsp" in found:
        found["nsp"] = torch.softmax(found["nsp"], -1)
    return found, out.hidden_states


def run_transformers(maker, cases, start):
    """`start`: of the names of the cases; the others of this maker are kept as they are."""
    import transformers

    cases = [each for each in cases if each["name"].startswith(start)]
    transformers.logging.set_verbosity_error()
    table, results, precise = hf_weights(cases), {}, {}
    for each in cases:
        each["source"] = f"transformers {transformers.__version__}"
        if each["options"]["model"] == "roformer_v2":
            each["source"] = "roformer 0.4.3 on " + each["source"]
        weights = named_weights(table, each["weights"])
        model = load_file(each, weights) if is_packed(each) else load_class(each)
        if not is_packed(each):
            load_weights(each, model, weights)
        for found, dtype in ((results, "float"), (precise, "double")):
            network = getattr(model, dtype)()
            for i, arrays in enumerate(batches(each)):
                outputs, states = forward(network, *arrays)
                outputs = [outputs[kind].numpy() for kind in each["outputs"]]
                states = [s.numpy() for s in states] if each["hidden_states"] else ()
                record(found, each, i, outputs, states)
    check(cases, results, precise)
    save(FOLDER, maker, cases, results, table, INPUTS, start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="maker", required=True)
    commands.add_parser("bert4keras")
    for name in ("transformers", "transformers4"):
        commands.add_parser(name).add_argument("cases", nargs="?", default="")
    for name in ("gau_alpha", "albert_zh"):
        commands.add_parser(name).add_argument("checkout")
    arguments = parser.parse_args()
    if arguments.maker == "bert4keras":
        run_bert4keras()
    elif arguments.maker == "gau_alpha":
        run_gau_alpha(arguments.checkout)
    elif arguments.maker == "albert_zh":
        run_albert_zh(arguments.checkout)
    else:
        makers = {"transformers": transformers_cases, "transformers4": transformers4_cases}
        run_transformers(arguments.maker, makers[arguments.maker](), arguments.cases)


if __name__ == "__main__":
    main()
