"""Freeze what bert4keras and transformers compute for the BERT graph, on tiny random weights.

Two sub-commands, because the two libraries live in different environments; see README.md:

    TF_USE_LEGACY_KERAS=1 TF_KERAS=1 python tests/goldens/make_bert.py bert4keras
    python tests/goldens/make_bert.py transformers

Each replaces its own library's entries of ``bert/cases.json`` and ``bert/outputs.npz`` and leaves
the other's alone.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from recipes import named_weights, random_weights, renamed_weights

FOLDER = Path(__file__).resolve().parent / "bert"

CONFIG = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 24,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.02,
}
CONDITION_SIZE, CONDITION_HIDDEN_SIZE = 8, 12
KEEP_TOKENS = [0, *(7 * i % 59 + 1 for i in range(43))]
COMPOUND_LISTS = [[3, 7], [11, 5, 29]]
COMPOUND_WEIGHTED = [([3, 7], [0.25, 0.75]), [4, 9], ([11, 5, 29], [1, 2, 5])]


# --- weights: names and shapes of a checkpoint as Google's code writes it ---


def bert_shapes(
    vocab=60,
    embedding=32,
    hidden=32,
    layers=3,
    heads=4,
    head=8,
    key=8,
    intermediate=64,
    positions=24,
):
    """Names and shapes of a whole checkpoint, pre-training heads included."""
    shapes = {}

    def norm(scope, size):
        shapes[f"{scope}/LayerNorm/beta"] = shapes[f"{scope}/LayerNorm/gamma"] = [size]

    def dense(scope, inputs, outputs):
        shapes[f"{scope}/kernel"], shapes[f"{scope}/bias"] = [inputs, outputs], [outputs]

    shapes["bert/embeddings/word_embeddings"] = [vocab, embedding]
    shapes["bert/embeddings/position_embeddings"] = [positions, embedding]
    shapes["bert/embeddings/token_type_embeddings"] = [2, embedding]
    norm("bert/embeddings", embedding)
    if embedding != hidden:
        dense("bert/encoder/embedding_hidden_mapping_in", embedding, hidden)
    for i in range(layers):
        scope = f"bert/encoder/layer_{i}"
        dense(f"{scope}/attention/self/query", hidden, heads * key)
        dense(f"{scope}/attention/self/key", hidden, heads * key)
        dense(f"{scope}/attention/self/value", hidden, heads * head)
        dense(f"{scope}/attention/output/dense", heads * head, hidden)
        norm(f"{scope}/attention/output", hidden)
        dense(f"{scope}/intermediate/dense", hidden, intermediate)
        dense(f"{scope}/output/dense", intermediate, hidden)
        norm(f"{scope}/output", hidden)
    dense("bert/pooler/dense", hidden, hidden)
    dense("cls/predictions/transform/dense", hidden, embedding)
    norm("cls/predictions/transform", embedding)
    shapes["cls/predictions/output_bias"] = [vocab]
    shapes["cls/seq_relationship/output_weights"] = [2, hidden]
    shapes["cls/seq_relationship/output_bias"] = [2]
    return shapes


def condition_shapes(hidden_size=None):
    """Kernels of conditional layer normalization, under our names: no checkpoint has them."""
    width = hidden_size or CONDITION_SIZE
    shapes = {}
    for name, shape in BASE_SHAPES.items():
        if name.endswith("LayerNorm/gamma"):
            scope = name.removesuffix("/gamma")
            for part in ("beta_dense", "gamma_dense"):
                shapes[f"{scope}/{part}/kernel"] = [width, *shape]
            if hidden_size:
                shapes[f"{scope}/hidden_dense/kernel"] = [CONDITION_SIZE, hidden_size]
    return shapes


def variation(shapes):
    """What `shapes` adds to the base weights or changes in them."""
    changed = {k: v for k, v in shapes.items() if BASE_SHAPES.get(k) != v}
    return {"extends": "base", "seed": 0, "shapes": changed}


BASE_SHAPES = bert_shapes()
TINY = {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 32, "vocab_size": 40}
TINY_SHAPES = bert_shapes(
    vocab=40, embedding=16, hidden=16, layers=2, head=4, key=4, intermediate=32
)
WEIGHTS = {
    "base": {"seed": 0, "shapes": BASE_SHAPES},
    "embedding_16": variation(bert_shapes(embedding=16)),
    "intermediate_56": variation(bert_shapes(intermediate=56)),
    "head_size_6": variation(bert_shapes(head=6, key=6)),
    "head_size_6_key_size_12": variation(bert_shapes(head=6, key=12)),
    "key_size_12": variation(bert_shapes(key=12)),
    "conditional": variation(condition_shapes()),
    "conditional_hidden": variation(condition_shapes(CONDITION_HIDDEN_SIZE)),
}


# --- inputs ---


def make_inputs():
    """Every input array of every case, by name.

    Rows of ``4x13``: full; 4 padded; all padding; a zero in the middle and 2 padded.
    """
    random = np.random.RandomState(20)

    def padded(array, lengths):
        return np.where(np.arange(array.shape[1]) < np.array(lengths)[:, None], array, 0)

    def batch(lengths, width, segment_starts):
        """Tokens 1..39 and segments that turn to 1 at a given place of each row."""
        tokens = padded(random.randint(1, 40, (len(lengths), width)), lengths)
        segments = np.arange(width) >= np.array(segment_starts)[:, None]
        return tokens, padded(segments.astype(int), lengths)

    arrays = {}
    shapes = {
        "4x13": ([13, 9, 0, 11], 13, [6, 4, 0, 8]),
        "2x7": ([7, 4], 7, [3, 2]),
        "2x40": ([40, 31], 40, [20, 9]),
    }
    for name, (lengths, width, starts) in shapes.items():
        tokens, segments = batch(lengths, width, starts)
        if name == "4x13":
            tokens[3, 5] = 0
        arrays[f"tokens_{name}"], arrays[f"segments_{name}"] = tokens, segments
        # bert4keras reads "shared" segment ids from the token table: two speakers, tokens 2 and 3
        arrays[f"speakers_{name}"] = padded(segments + 2, lengths)
        arrays[f"positions_{name}"] = random.randint(0, 24, tokens.shape)
        arrays[f"far_positions_{name}"] = random.randint(0, 24 * 24, tokens.shape)
        arrays[f"condition_{name}"] = random.standard_normal((len(tokens), CONDITION_SIZE))
        for kind, first, count in (
            ("compound_tokens", CONFIG["vocab_size"], len(COMPOUND_LISTS)),
            ("weighted_tokens", CONFIG["vocab_size"], len(COMPOUND_WEIGHTED)),
            ("kept_compound_tokens", len(KEEP_TOKENS), len(COMPOUND_LISTS)),
        ):
            extended = tokens.copy()
            extended[[0, -1], 1 : 1 + count] = first + np.arange(count)
            arrays[f"{kind}_{name}"] = extended
    return {k: v.astype("float32" if v.dtype.kind == "f" else "int32") for k, v in arrays.items()}


INPUTS = make_inputs()


# --- files ---


def library_of(case):
    return case["source"].split()[0]


def save(cases, outputs):
    """Replace the entries of one library in ``cases.json`` and ``outputs.npz``."""
    library = library_of(cases[0])
    path = FOLDER / "cases.json"
    old = json.loads(path.read_text(encoding="utf-8"))["cases"] if path.exists() else []
    others = [case for case in old if library_of(case) != library]
    kept = {}
    if others:
        with np.load(FOLDER / "outputs.npz") as file:
            names = {case["name"] for case in others}
            kept = {key: file[key] for key in file if key.split("/")[0] in names}

    all_cases = sorted([*others, *cases], key=library_of)
    used = {case["weights"] for case in all_cases} | {"base"}
    document = {
        "weights": {k: v for k, v in {**WEIGHTS, **hf_weights()}.items() if k in used},
        "cases": all_cases,
    }
    path.write_text(one_line_leaves(document) + "\n", encoding="utf-8")
    used_inputs = {key for case in all_cases for keys in case["inputs"] for key in keys}
    np.savez_compressed(
        FOLDER / "inputs.npz", **{k: v for k, v in INPUTS.items() if k in used_inputs}
    )
    np.savez_compressed(FOLDER / "outputs.npz", **dict(sorted({**kept, **outputs}.items())))


def one_line_leaves(document):
    """JSON with one case, or one set of weights, a line: small, and a diff stays readable."""
    weights = ",\n".join(
        f"{json.dumps(k)}: {json.dumps(v)}" for k, v in document["weights"].items()
    )
    cases = ",\n".join(json.dumps(case) for case in document["cases"])
    return f'{{"weights": {{\n{weights}\n}},\n"cases": [\n{cases}\n]}}'


def output_names(options):
    """What a model gives, in bert4keras' order: any head takes the sequence's place."""
    names = []
    if options.get("with_nsp") or options.get("with_pool"):
        names.append("nsp" if options.get("with_nsp") else "pool")
    if options.get("with_mlm") or options.get("application") in ("lm", "unilm"):
        names.append("mlm")
    return names or ["sequence"]


def make_case(
    name, options=None, kinds=("tokens", "segments"), sizes=("4x13", "2x7"), config=None, **fields
):
    """A case of ``cases.json``, the defaults filled in.

    Args:
        name: of the case.
        options: of ``build_transformer_model``.
        kinds, sizes: which of `INPUTS`: one batch for each size.
        config: what differs from `CONFIG`.
        fields: any other key of a case.
    """
    options = options or {}
    case = {
        "name": name,
        "source": None,
        "class_name": None,
        "config": {**CONFIG, **(config or {})},
        "options": options,
        "condition_size": CONDITION_SIZE if "condition" in kinds else None,
        "checkpoint": None,
        "weights": "base",
        "without": [],
        "inputs": [[f"{kind}_{size}" for kind in kinds] for size in sizes],
        "outputs": output_names(options),
        "hidden_states": 0,
        "differs_from": None,
        "notes": "",
    }
    unknown = fields.keys() - case.keys()
    if unknown:
        raise TypeError(f"{name}: unknown fields {sorted(unknown)}")
    return {**case, **fields}


def batches(case):
    return [[INPUTS[key] for key in keys] for keys in case["inputs"]]


def outputs_by_shape(results, name):
    """A case's outputs as ``{(output, shape): array}``: two cases may have other batches."""
    found = {}
    for key, value in results.items():
        case, array = key.split("/")
        if case == name and array.startswith("output_"):
            found[array.split("_")[1], value.shape] = value
    return found


def max_difference(results, name, other):
    """Largest difference between two cases, over the batches that both have."""
    a, b = outputs_by_shape(results, name), outputs_by_shape(results, other)
    return max(float(np.abs(a[key] - b[key]).max()) for key in a.keys() & b.keys())


def check(results, cases):
    """Hold that every array is sound and that every option changes the output, and say how much."""
    for key, value in results.items():
        assert value.dtype == np.float32 and np.isfinite(value).all(), key
    for case in cases:
        name, other = case["name"], case["differs_from"]
        line = f"{name:34} std {results[f'{name}/output_0_batch_0'].std():.3f}"
        if other is not None:
            difference = max_difference(results, name, other)
            assert difference > 5e-5, f"{name} should differ from {other}: {difference}"
            line += f"  differs from {other}: {difference:.1e}"
        print(line)


# --- bert4keras ---

MLM = {"with_mlm": "linear"}
LM = {"application": "lm", **MLM}
NO_SEGMENTS = {"without": ["bert/embeddings/token_type_embeddings"]}


def bert4keras_cases():
    conditional = ("tokens", "segments", "condition")
    hidden_condition = {"layer_norm_cond_hidden_size": CONDITION_HIDDEN_SIZE}
    plain, logits = {"differs_from": "encoder"}, {"differs_from": "mlm_linear"}
    small, long = {"sizes": ["2x7"]}, {"sizes": ["2x40", "2x7"]}
    return [
        make_case("encoder", hidden_states=4),
        # heads
        make_case("pool_tanh", {"with_pool": True}),
        make_case("pool_linear", {"with_pool": "linear"}, differs_from="pool_tanh"),
        make_case("pool_relu", {"with_pool": "relu"}, differs_from="pool_tanh"),
        make_case("nsp", {"with_nsp": True}, notes="nsp takes the place of pool"),
        make_case("nsp_pool_linear", {"with_nsp": True, "with_pool": "linear"}, differs_from="nsp"),
        make_case("mlm", {"with_mlm": True}, **small, **logits, notes="probabilities"),
        make_case("mlm_linear", MLM, notes="logits"),
        make_case("pool_mlm", {"with_pool": True, **MLM}, **small),
        make_case("nsp_mlm", {"with_nsp": True, "with_mlm": True}, **small),
        # what a position sees
        make_case("lm", LM, **logits),
        make_case("lm_default", {"application": "lm"}, **small, notes="with_mlm becomes True"),
        make_case("unilm", {"application": "unilm", **MLM}, differs_from="lm"),
        # vocabulary
        make_case("keep_tokens", {"keep_tokens": KEEP_TOKENS, **MLM}),
        make_case(
            "compound_tokens",
            {"compound_tokens": COMPOUND_LISTS},
            kinds=("compound_tokens", "segments"),
            **plain,
        ),
        make_case(
            "compound_tokens_weighted",
            {"compound_tokens": COMPOUND_WEIGHTED},
            kinds=("weighted_tokens", "segments"),
            **small,
            differs_from="compound_tokens",
            notes="an item is a list of ids or a tuple (ids, weights); JSON turns tuples to lists",
        ),
        make_case(
            "keep_and_compound_tokens",
            {
                "keep_tokens": KEEP_TOKENS,
                "compound_tokens": COMPOUND_WEIGHTED[: len(COMPOUND_LISTS)],
                **MLM,
            },
            kinds=("kept_compound_tokens", "segments"),
            **small,
            notes="compound tokens are made of ids of the kept vocabulary",
        ),
        # sizes
        make_case(
            "embedding_size", {"embedding_size": 16, **MLM}, weights="embedding_16", **logits
        ),
        make_case(
            "attention_head_size",
            {"attention_head_size": 6},
            weights="head_size_6",
            **small,
            **plain,
        ),
        make_case("attention_key_size", {"attention_key_size": 12}, weights="key_size_12", **plain),
        make_case(
            "attention_head_and_key_size",
            {"attention_head_size": 6, "attention_key_size": 12},
            weights="head_size_6_key_size_12",
            differs_from="attention_key_size",
        ),
        make_case("sequence_length", {"sequence_length": 13}, sizes=["4x13"]),
        # positions and segments
        make_case(
            "hierarchical_position", {"hierarchical_position": True}, **long, notes="alpha is 0.4"
        ),
        make_case(
            "hierarchical_position_0.3",
            {"hierarchical_position": 0.3},
            sizes=["2x40"],
            differs_from="hierarchical_position",
        ),
        make_case(
            "custom_position_ids",
            {"custom_position_ids": True},
            kinds=("tokens", "segments", "positions"),
            **plain,
        ),
        make_case(
            "custom_hierarchical_position",
            {"custom_position_ids": True, "hierarchical_position": True},
            kinds=("tokens", "segments", "far_positions"),
            differs_from="custom_position_ids",
            notes="positions up to 24 * 24 - 1",
        ),
        make_case(
            "shared_segment_embeddings",
            {"shared_segment_embeddings": True},
            kinds=("tokens", "speakers"),
            **NO_SEGMENTS,
            **plain,
            notes="segment ids are token ids",
        ),
        make_case(
            "shared_segment_embeddings_zero",
            {"shared_segment_embeddings": True},
            **NO_SEGMENTS,
            differs_from="shared_segment_embeddings",
            notes="quirk: a zero segment id hides the key too, for the shared table masks zeros",
        ),
        make_case(
            "segment_vocab_size_0",
            {"segment_vocab_size": 0},
            kinds=["tokens"],
            **NO_SEGMENTS,
            **plain,
        ),
        make_case(
            "segment_vocab_size_0_lm",
            {"segment_vocab_size": 0, **LM},
            kinds=["tokens"],
            **small,
            **NO_SEGMENTS,
            differs_from="lm",
        ),
        # inside a block
        make_case(
            "residual_attention_scores",
            {"residual_attention_scores": True},
            **plain,
            notes="quirk: a layer adds the scores of the one before it alone, no running sum",
        ),
        make_case("layer_norm_cond", kinds=conditional, weights="conditional", **plain),
        make_case(
            "layer_norm_cond_mlm",
            MLM,
            kinds=conditional,
            **small,
            weights="conditional",
            **logits,
            notes="the norm of the MLM head is conditional too",
        ),
        make_case(
            "layer_norm_cond_hidden",
            {**hidden_condition, "layer_norm_cond_hidden_act": "relu"},
            kinds=conditional,
            weights="conditional_hidden",
            differs_from="layer_norm_cond",
        ),
        make_case(
            "layer_norm_cond_hidden_linear",
            hidden_condition,
            kinds=conditional,
            **small,
            weights="conditional_hidden",
            notes="the hidden activation is linear unless given",
        ),
        make_case(
            "relu",
            MLM,
            config={"hidden_act": "relu", "intermediate_size": 56},
            weights="intermediate_56",
            **logits,
        ),
        make_case("swish", MLM, config={"hidden_act": "swish"}, **small, **logits),
        make_case(
            "gelu_tanh",
            MLM,
            config={"hidden_act": "gelu_tanh"},
            **logits,
            notes="the same as hidden_act gelu after set_gelu('tanh')",
        ),
        # base weights fitted to another size
        make_case(
            "autoresize_smaller",
            {"autoresize_weights": True},
            config={"hidden_size": 16, "intermediate_size": 40},
        ),
        make_case(
            "autoresize_larger",
            {"autoresize_weights": True, "with_nsp": True, **MLM},
            **long,
            config={"hidden_size": 48, "intermediate_size": 96, "max_position_embeddings": 40},
        ),
        make_case(
            "autoresize_relu",
            {"autoresize_weights": True},
            **small,
            config={"hidden_size": 48, "intermediate_size": 32, "hidden_act": "relu"},
            notes="quirk: with relu, no feed-forward weight is rescaled by sqrt(width ratio)",
        ),
    ]


def build_bert4keras(case):
    """Build a case through bert4keras' public function, weights loaded from a plain dict."""
    from bert4keras.backend import keras
    from bert4keras.models import build_transformer_model

    keras.backend.clear_session()
    options = dict(case["options"])
    if case["condition_size"]:
        condition = keras.layers.Input(shape=(case["condition_size"],), name="Input-Condition")
        options |= {"layer_norm_cond": condition, "additional_input_layers": condition}
    weights = named_weights(WEIGHTS, case["weights"])
    weights = {k: v for k, v in weights.items() if k not in case["without"]}
    with tempfile.TemporaryDirectory() as folder:
        config_path = Path(folder) / "bert_config.json"
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
        if name.endswith("-Norm") and name in transformer.layers:
            layer = transformer.layers[name]
            scope = variables[0].removesuffix("/beta")
            np.testing.assert_array_equal(layer.beta.numpy(), weights[variables[0]])
            np.testing.assert_array_equal(layer.gamma.numpy(), weights[variables[1]])
            for part in ("beta_dense", "gamma_dense", "hidden_dense"):
                if hasattr(layer, part):
                    getattr(layer, part).kernel.assign(weights[f"{scope}/{part}/kernel"])


def predict(model, arrays):
    outputs = model.predict_on_batch(arrays)
    return outputs if isinstance(outputs, list) else [outputs]


def hidden_model(model):
    """The same graph, ending in the embeddings and in every block."""
    from bert4keras.backend import keras

    blocks = [f"Transformer-{i}-FeedForward-Norm" for i in range(CONFIG["num_hidden_layers"])]
    layers = ["Embedding-Norm", *blocks]
    return keras.Model(model.inputs, [model.get_layer(name).output for name in layers])


def run_bert4keras():
    import bert4keras
    from bert4keras.backend import set_gelu

    cases, results = bert4keras_cases(), {}
    for case in cases:
        case["source"] = f"bert4keras {bert4keras.__version__}"
        models = {"output": build_bert4keras(case)}
        assert len(models["output"].outputs) == len(case["outputs"]), case["name"]
        if case["hidden_states"]:
            models["hidden"] = hidden_model(models["output"])
        for i, arrays in enumerate(batches(case)):
            for kind, model in models.items():
                for j, array in enumerate(predict(model, arrays)):
                    results[f"{case['name']}/{kind}_{j}_batch_{i}"] = array

    check(results, cases)
    assert max_difference(results, "sequence_length", "encoder") < 1e-6
    set_gelu("tanh")
    case = make_case("gelu after set_gelu('tanh')", MLM)
    (again,) = predict(build_bert4keras(case), batches(case)[0])
    np.testing.assert_array_equal(again, results["gelu_tanh/output_0_batch_0"])
    save(cases, results)


# --- transformers ---


def tf_name(name):
    """The TensorFlow name of a Hugging Face tensor, and whether its layout is turned."""
    tied = {
        "cls.predictions.decoder.weight": "bert/embeddings/word_embeddings",
        "cls.predictions.decoder.bias": "cls/predictions/output_bias",
        "cls.predictions.bias": "cls/predictions/output_bias",
        "cls.seq_relationship.weight": "cls/seq_relationship/output_weights",
        "cls.seq_relationship.bias": "cls/seq_relationship/output_bias",
    }
    if name in tied:
        return tied[name], False
    if not name.startswith("cls."):
        name = "bert." + name.removeprefix("bert.")
    path, kind = name.rsplit(".", 1)
    path = path.replace(".layer.", ".layer_").replace(".", "/")
    if path.endswith("_embeddings"):
        return path, False
    if path.endswith("LayerNorm"):
        return f"{path}/{'gamma' if kind == 'weight' else 'beta'}", False
    return f"{path}/{'kernel' if kind == 'weight' else 'bias'}", kind == "weight"


def hf_names(prefix="bert.", heads=(), layers=CONFIG["num_hidden_layers"]):
    """Names in the state dict of a Hugging Face class, in no special order."""
    names = [
        f"{prefix}embeddings.{x}_embeddings.weight" for x in ("word", "position", "token_type")
    ]
    modules = [f"{prefix}embeddings.LayerNorm"]
    for i in range(layers):
        layer = f"{prefix}encoder.layer.{i}"
        modules += [f"{layer}.attention.self.{x}" for x in ("query", "key", "value")]
        modules += [f"{layer}.attention.output.dense", f"{layer}.attention.output.LayerNorm"]
        modules += [
            f"{layer}.intermediate.dense",
            f"{layer}.output.dense",
            f"{layer}.output.LayerNorm",
        ]
    if "pooler" in heads:
        modules.append(f"{prefix}pooler.dense")
    if "mlm" in heads:
        names.append("cls.predictions.bias")
        modules += ["cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm"]
        modules.append("cls.predictions.decoder")
    if "nsp" in heads:
        modules.append("cls.seq_relationship")
    return names + [f"{module}.{kind}" for module in modules for kind in ("weight", "bias")]


HF_CLASSES = {
    "BertModel": "hf_model",
    "BertForPreTraining": "hf_pretraining",
    "BertForMaskedLM": "hf_masked_lm",
    "BertLMHeadModel": "hf_masked_lm",
}


def hf_weights():
    """One entry of ``"weights"`` for each class, which renames the base weights."""
    heads = {
        "hf_model": hf_names("", ["pooler"]),
        "hf_pretraining": hf_names(heads=["pooler", "mlm", "nsp"]),
        "hf_masked_lm": hf_names(heads=["mlm"]),
    }
    return {
        key: {"renames": "base", "names": {name: list(tf_name(name)) for name in names}}
        for key, names in heads.items()
    }


def transformers_cases():
    def hf_case(name, class_name, options=None, act="gelu", epsilon=1e-12, **fields):
        config = {"hidden_act": act, "layer_norm_eps": epsilon}
        fields |= {"class_name": class_name, "weights": HF_CLASSES[class_name]}
        return make_case(name, options, config=config, **fields)

    small, large = {"sizes": ["2x7"]}, {"sizes": ["4x13"]}
    plain, logits = {"differs_from": "hf_model_gelu"}, {"differs_from": "hf_masked_lm"}
    pool, heads = {"with_pool": True}, {"with_nsp": True, **MLM}
    nsp = {"notes": "nsp: softmax of seq_relationship_logits, which are kept as nsp_logits_batch_*"}
    return [
        hf_case("hf_model_gelu", "BertModel", hidden_states=4, **large),
        hf_case("hf_model_gelu_new", "BertModel", act="gelu_new", **large, **plain),
        hf_case("hf_model_relu", "BertModel", act="relu", **large, **plain),
        hf_case("hf_model_silu", "BertModel", act="silu", **large, **plain),
        hf_case("hf_model_eps_1e-5", "BertModel", epsilon=1e-5, **large, **plain),
        hf_case("hf_pool", "BertModel", pool),
        hf_case(
            "hf_pool_gelu_new_eps_1e-5", "BertModel", pool, "gelu_new", 1e-5, differs_from="hf_pool"
        ),
        hf_case("hf_pretraining", "BertForPreTraining", heads, **small, **nsp),
        hf_case(
            "hf_pretraining_gelu_new_eps_1e-5",
            "BertForPreTraining",
            heads,
            "gelu_new",
            1e-5,
            **small,
            differs_from="hf_pretraining",
            **nsp,
        ),
        hf_case("hf_masked_lm", "BertForMaskedLM", MLM),
        hf_case("hf_masked_lm_silu", "BertForMaskedLM", MLM, "silu", **small, **logits),
        hf_case("hf_masked_lm_gelu_new", "BertForMaskedLM", MLM, "gelu_new", **small),
        hf_case(
            "hf_masked_lm_relu_eps_1e-5", "BertForMaskedLM", MLM, "relu", 1e-5, **small, **logits
        ),
        hf_case(
            "hf_lm",
            "BertLMHeadModel",
            LM,
            **large,
            **logits,
            notes="is_decoder=True",
        ),
    ]


def load_transformers(class_name, config, weights, attention="eager"):
    """Build a class and give it every tensor of its state dict."""
    import torch
    import transformers

    config = transformers.BertConfig(**config, is_decoder=class_name == "BertLMHeadModel")
    model = getattr(transformers, class_name)._from_config(config, attn_implementation=attention)
    model.load_state_dict({k: torch.tensor(v) for k, v in weights.items()}, strict=True)
    return model.eval()


def forward_transformers(model, tokens, segments):
    """Named outputs for one batch; the toolkit's mask rule in transformers' terms.

    A zero token is hidden, but the first token of a row never is, as in bert4keras.
    """
    import torch

    visible = tokens != 0
    visible[:, 0] = True
    with torch.no_grad():
        out = model(
            input_ids=torch.tensor(tokens, dtype=torch.long),
            token_type_ids=torch.tensor(segments, dtype=torch.long),
            attention_mask=torch.tensor(visible, dtype=torch.long),
            output_hidden_states=True,
        )
    found = {f"hidden_{i}": x for i, x in enumerate(out.hidden_states)}
    if "last_hidden_state" in out:
        found["sequence"], found["pool"] = out.last_hidden_state, out.pooler_output
    if "prediction_logits" in out:
        found["mlm"], found["nsp_logits"] = out.prediction_logits, out.seq_relationship_logits
        found["nsp"] = torch.softmax(out.seq_relationship_logits, -1)
    elif "logits" in out:
        found["mlm"] = out.logits
    return {k: v.numpy() for k, v in found.items()}


def record_transformers(case, model, results):
    """Put a case's outputs into `results`."""
    name = case["name"]
    for i, arrays in enumerate(batches(case)):
        found = forward_transformers(model, *arrays)
        for j, kind in enumerate(case["outputs"]):
            results[f"{name}/output_{j}_batch_{i}"] = found[kind]
        for j in range(case["hidden_states"]):
            results[f"{name}/hidden_{j}_batch_{i}"] = found[f"hidden_{j}"]
        if "nsp" in case["outputs"]:
            results[f"{name}/nsp_logits_batch_{i}"] = found["nsp_logits"]


def run_transformers():
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    cases, results, by_sdpa = transformers_cases(), {}, {}
    table = {**WEIGHTS, **hf_weights()}
    for case in cases:
        class_name, config = case["class_name"], case["config"]
        weights = named_weights(table, case["weights"])
        for attention, arrays in (("eager", results), ("sdpa", by_sdpa)):
            model = load_transformers(class_name, config, weights, attention)
            record_transformers(case, model, arrays)
    worst = max(float(np.abs(results[k] - by_sdpa[k]).max()) for k in results)
    print(f"sdpa and eager attention differ by {worst:.1e}, padded rows included")
    assert worst < 1e-5

    for seed, (name, save_model) in enumerate(TINY_DIRECTORIES.items(), start=1):
        case = tiny_case(name)
        weights = random_weights(TINY_SHAPES, seed)
        weights = renamed_weights(
            {name: tf_name(name) for name in hf_names(heads=["pooler", "mlm", "nsp"], layers=2)},
            weights,
        )
        model = load_transformers("BertForPreTraining", case["config"], weights)
        record_transformers(case, model, results)
        save_model(model, FOLDER / name)
        write_vocabulary(FOLDER / name)
        cases.append(case)

    for case in cases:
        case["source"] = f"transformers {transformers.__version__}"
    check(results, cases)
    save(cases, results)
    compare_libraries()


def tiny_case(name):
    """A whole directory with a pre-training model of 2 layers."""
    return make_case(
        name,
        {"with_nsp": True, **MLM},
        sizes=["2x7"],
        config=TINY,
        weights=None,
        checkpoint=f"bert/{name}",
        notes="a directory as users have it: its own config.json holds",
    )


def write_vocabulary(folder):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = "一二三四五六七八九十上下左右中大小日月山水火土人口手天地不很好是的，。"
    words = [*special, *characters][: TINY["vocab_size"]]
    assert len(set(words)) == TINY["vocab_size"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")


def save_safetensors(model, folder):
    """As transformers 5 saves: tied tensors left out."""
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)


def save_bin(model, folder):
    """As the early hub files are: gamma/beta, tied copies, the position_ids buffer, old pickle."""
    import torch

    folder.mkdir(exist_ok=True)
    state = {"bert.embeddings.position_ids": torch.arange(CONFIG["max_position_embeddings"])[None]}
    for name, tensor in model.state_dict().items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        state[name.replace("LayerNorm.bias", "LayerNorm.beta")] = tensor
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    config = {
        "architectures": ["BertForMaskedLM"],
        **CONFIG,
        **TINY,
        "directionality": "bidi",
        "layer_norm_eps": 1e-12,
        "model_type": "bert",
        "pad_token_id": 0,
        "pooler_fc_size": 16,
        "pooler_type": "first_token_transform",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


TINY_DIRECTORIES = {"hf_tiny_safetensors": save_safetensors, "hf_tiny_bin": save_bin}


# --- the two against each other ---


def compare_libraries():
    """Print a table: the same weights and inputs through both libraries."""
    with np.load(FOLDER / "outputs.npz") as file:
        results = dict(file)
    print("| bert4keras | transformers | max abs diff | std |")
    print("|---|---|---|---|")
    for ours, theirs in (
        ("encoder", "hf_model_gelu"),
        ("pool_tanh", "hf_pool"),
        ("nsp", "hf_pretraining"),
        ("mlm_linear", "hf_masked_lm"),
        ("swish", "hf_masked_lm_silu"),
        ("gelu_tanh", "hf_masked_lm_gelu_new"),
        ("lm", "hf_lm"),
    ):
        if f"{ours}/output_0_batch_0" in results:
            difference = max_difference(results, ours, theirs)
            std = results[f"{ours}/output_0_batch_0"].std()
            print(f"| {ours} | {theirs} | {difference:.1e} | {std:.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = {"bert4keras": run_bert4keras, "transformers": run_transformers}
    parser.add_argument("library", choices=commands)
    commands[parser.parse_args().library]()


if __name__ == "__main__":
    main()
