"""Classifiers of fine-tuned checkpoints: each kind of each family, their labels and their files."""

import json

import keras
import numpy as np
import pytest
from goldens.recipes import FOLDER, UER_MODULES, load_cases, uer_name
from keras import ops
from running import outputs_of

from bert4keras_lite import load_model
from bert4keras_lite.checkpoints import CheckpointError
from bert4keras_lite.configs import ARCHITECTURES, Config
from bert4keras_lite.configs.architectures import FAMILIES, HUGGING_FACE
from bert4keras_lite.configs.classifiers import named_kind
from bert4keras_lite.configs.recognition import recognize
from bert4keras_lite.configs.written import config_json
from bert4keras_lite.layers.pooling import TokenPooling
from bert4keras_lite.models import build_transformer_model

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position": 40,
}
NAMES = ("差评", "中评", "好评")
PAIRS = [(family, kind) for family, row in FAMILIES.items() for kind in row.heads]
# one pair for each way in which logits are computed
DISTINCT = list({FAMILIES[family].heads[kind]: (family, kind) for family, kind in PAIRS}.values())
CASES = {case.name: case for case in load_cases(FOLDER / "encoders")}


def build(family, kind, **options):
    """A small random model with a classifier, each weight moved away from where it starts."""
    options = {"with_classifier": kind, "num_hidden_layers": 1, **options}
    if kind in ("text", "tokens"):
        options.setdefault("labels", NAMES)
    if FAMILIES[family].heads[kind].position == "last":
        options.setdefault("filler_id", 0)
    if family == "albert":  # transformers has a projection even if both sizes are equal
        options["embedding_size"] = 16
    name = model_of(family)
    model = build_transformer_model(model=name, return_keras_model=False, **(SIZES | options))
    random = np.random.RandomState(0)
    for path, variable in sorted(model.variables.items()):
        noise = 0.2 * random.standard_normal(variable.shape)
        variable.assign(noise + (1 if path.endswith("gamma") else 0))
    return model


def model_of(family):
    return f"{family}_encoder" if ARCHITECTURES[family].get("stacks") else family


def inputs_of(transformer, lengths=(9, 6, 2), length=9):
    random = np.random.RandomState(1)
    ids = random.randint(1, 60, (len(lengths), length)).astype("int32")
    ids *= np.arange(length) < np.array(lengths)[:, None]
    return [ids, np.zeros_like(ids)][: len(transformer.inputs)]


def golden_weights(name, **changes):
    """The config and the weights of a golden case, with some arrays changed."""
    case = CASES[name]
    return dict(case.config), {**case.weights, **changes}


@pytest.mark.once
@pytest.mark.parametrize(("family", "kind"), PAIRS)
@pytest.mark.parametrize("format", ["tf", "hf", "keras"])
def test_saved_and_loaded_is_bit_equal(family, kind, format, tmp_path):
    transformer = build(family, kind)
    has_form = {
        "tf": all(tf is not None for _, path, tf, _ in transformer.table if kind in path),
        "hf": family in HUGGING_FACE,
        "keras": True,
    }
    if not has_form[format]:
        with pytest.raises(ValueError, match=r"Use format='(tf|hf)' or 'keras'\."):
            transformer.save_checkpoint(tmp_path / "a", format)
        return
    transformer.save_checkpoint(tmp_path / "a", format)
    known = "auto" if format == "tf" else model_of(family)
    again = build_transformer_model(
        tmp_path / "a", model=known, with_classifier=True, return_keras_model=False
    )
    assert again.config.labels == transformer.config.labels
    assert again.variables.keys() == transformer.variables.keys()
    for path, variable in transformer.variables.items():
        first, second = map(ops.convert_to_numpy, (variable, again.variables[path]))
        np.testing.assert_array_equal(first, second, path)
    if format != "keras":
        again.save_checkpoint(tmp_path / "b", format)
        for file in sorted(path.name for path in (tmp_path / "a").iterdir()):
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.once
@pytest.mark.parametrize(("family", "kind"), DISTINCT)
def test_keras_file(family, kind, tmp_path):
    model = build(family, kind).model
    model.save(tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras")
    inputs = inputs_of(model)
    np.testing.assert_array_equal(outputs_of(again, inputs)[0], outputs_of(model, inputs)[0])
    assert again.transformer.config == model.transformer.config


@pytest.mark.parametrize(("family", "kind"), DISTINCT)
def test_padding_changes_nothing(family, kind):
    model = build(family, kind).model
    short = inputs_of(model, lengths=(9, 9))
    padding = [max(model.transformer.config.pad_token_id, 0), 0]  # of tokens and of segments
    long = [
        np.pad(array, ((0, 0), (0, 5)), constant_values=value)
        for array, value in zip(short, padding, strict=False)
    ]
    first, second = (outputs_of(model, inputs)[0] for inputs in (short, long))
    second = second[:, :9] if kind in ("tokens", "spans") else second
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-5 * np.abs(first).max())


@pytest.mark.parametrize(("family", "kind"), DISTINCT)
def test_every_weight_is_trained(family, kind):
    model = build(family, kind).model
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.optimizer.build(model.trainable_variables)
    before = [ops.convert_to_numpy(v) for v in model.trainable_variables]
    inputs = inputs_of(model)
    model.train_on_batch(inputs, np.ones_like(outputs_of(model, inputs)[0]))
    for array, variable in zip(before, model.trainable_variables, strict=True):
        key_bias = variable.path.endswith("key/bias")  # a softmax does not depend on it
        assert key_bias or np.any(array != ops.convert_to_numpy(variable)), variable.path


@pytest.mark.parametrize(("family", "kind"), [("modernbert", "text"), ("gpt2", "text")])
def test_logits_are_float32_in_half_precision(family, kind):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build(family, kind).model
    finally:
        keras.config.set_dtype_policy("float32")
    exact = build(family, kind).model
    (logits,) = outputs_of(model, inputs_of(model))
    assert logits.dtype == "float32"
    (expected,) = outputs_of(exact, inputs_of(exact))
    assert np.abs(logits - expected).max() < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("position", "padding", "expected"),
    [
        ("first", 0, [0, 10, 20, 30]),
        ("last", 0, [3, 11, 20, 33]),
        ("last", -1, [3, 13, 23, 33]),
        ("mean", 0, [1.5, 10.5, 20, (30 + 32 + 33) / 3]),
        ("mean", -1, [1.5, 11.5, 21.5, 31.5]),
    ],
)
def test_the_token_of_a_classifier(position, padding, expected):
    ids = np.array([[5, 6, 7, 8], [5, 6, 0, 0], [0, 0, 0, 0], [5, 0, 7, 8]])
    x = np.arange(4) + 10 * np.arange(4)[:, None]
    x = np.stack([x, -x], -1).astype("float32")
    pooled = ops.convert_to_numpy(TokenPooling(position, padding)(x, ids))
    expected = np.array(expected)
    np.testing.assert_allclose(pooled, np.stack([expected, -expected], -1), rtol=1e-6)


@pytest.mark.once
def test_the_kind_is_that_of_the_architecture():
    config, weights = golden_weights("classifier_bert_tokens")
    auto = build_transformer_model(config, weights, with_classifier=True, return_keras_model=False)
    assert (auto.config.with_classifier, auto.config.labels) == ("tokens", NAMES)
    named = build_transformer_model(config, weights, with_classifier="tokens")
    assert named.output_shape == (None, None, 3)
    with pytest.raises(ValueError, match=r"architectures means with_classifier='tokens', got 'te"):
        build_transformer_model(config, weights, with_classifier="text")
    with pytest.raises(ValueError, match=r"with_classifier is 'words'; expected one of False, te"):
        build_transformer_model(config | {"architectures": []}, weights, with_classifier="words")
    with pytest.raises(ValueError, match=r"architectures is None, which names no classifier"):
        build_transformer_model(config | {"architectures": None}, weights, with_classifier=True)
    assert named_kind({"architectures": ["AForTokenClassification", "BertForMaskedLM"]}) == "tokens"


@pytest.mark.once
def test_a_classifier_that_is_not_built_is_told():
    config, weights = golden_weights("classifier_bert_text")
    with pytest.warns(UserWarning, match=r"left unused, 2 arrays: classifier\.bias, classifier\.w"):
        model = build_transformer_model(config, weights)
    assert model.output_shape == (None, None, 32)


@pytest.mark.once
@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (
            "roformer",
            {"with_classifier": "choice"},
            "roformer has no classifier of this kind, only",
        ),
        (
            "gpt2_ml",
            {"with_classifier": "text"},
            "gpt2_ml has no classifier of this kind, only Fal",
        ),
        ("t5.1.1", {"with_classifier": "tokens"}, r"Pass model='t5\.1\.1_encoder'"),
        ("gpt2", {"with_classifier": "text", "labels": NAMES}, "Pass it as filler_id="),
        ("bert", {"with_classifier": "text"}, "labels are unknown; expected their names"),
        (
            "bert",
            {"with_classifier": "text", "labels": [1, 2]},
            "labels is .*expected a list of na",
        ),
        ("bert", {"new_classifier": True}, "new_classifier=True: the model has no classifier"),
    ],
)
def test_a_classifier_that_cannot_be_built(model, options, message):
    with pytest.raises(ValueError, match=message):
        build_transformer_model(model=model, **SIZES, **options)


@pytest.mark.once
@pytest.mark.parametrize("id2label", [None, {}, {"1": "b", "0": "a", "2": "c"}, ["a", "b", "c"]])
def test_names_of_labels(id2label):
    config, weights = golden_weights("classifier_bert_text")
    config["id2label"] = id2label
    read = {"with_classifier": True, "return_keras_model": False}
    names = tuple("abc") if id2label else ("LABEL_0", "LABEL_1", "LABEL_2")
    assert build_transformer_model(config, weights, **read).config.labels == names
    given = build_transformer_model(config, weights, labels=["x", "y", "z"], **read)
    assert given.config.labels == ("x", "y", "z")


@pytest.mark.once
@pytest.mark.parametrize(
    "id2label",
    [
        3,
        "abc",
        {"x": "a"},
        {"0": "a", "2": "b", "3": "c"},
        {"0": "a", "00": "b", "1": "c", "2": "d"},
        {"0": "a", "1": "b", "2": None},
        ["a", "b", ["c"]],
    ],
)
def test_labels_that_have_no_numbers(id2label):
    config, weights = golden_weights("classifier_bert_text")
    config["id2label"] = id2label
    with pytest.raises(ValueError, match=r"id2label is .*; expected a name for each number"):
        build_transformer_model(config, weights, with_classifier=True)
    build_transformer_model(config, weights, with_classifier=True, labels=NAMES)
    with pytest.warns(UserWarning, match="left unused"):
        build_transformer_model(config, weights)  # which needs none


@pytest.mark.once
def test_another_number_of_labels():
    config, weights = golden_weights("classifier_bert_text")
    with pytest.raises(
        CheckpointError, match=r"has 3 labels; expected 4\. Correct id2label or lab"
    ):
        build_transformer_model(config, weights, with_classifier=True, labels=["a", "b", "c", "d"])


@pytest.mark.parametrize("of_keras", [False, True])
def test_a_new_classifier(of_keras, tmp_path):
    config, weights = golden_weights("classifier_bert_text")
    build_again = build_transformer_model
    first = build_again(config, weights, with_classifier=True, return_keras_model=False)
    if of_keras:
        first.save_checkpoint(tmp_path, "keras")
        config = weights = tmp_path
    new = {"with_classifier": "text", "labels": ["a", "b"], "new_classifier": True}
    second = build_again(config, weights, return_keras_model=False, **new)
    assert second.model.output_shape == (None, 2)
    for path, variable in second.variables.items():
        array = ops.convert_to_numpy(variable)
        if not path.startswith("text_classifier"):
            np.testing.assert_array_equal(array, ops.convert_to_numpy(first.variables[path]))
        elif path.endswith("kernel"):
            assert np.abs(array).min() > 0


@pytest.mark.once
def test_a_new_classifier_of_a_model_without_one():
    """The layers before it are read if the file has them, and are an error without the option."""
    config, weights = golden_weights("hf_electra_discriminator")
    new = {"with_classifier": "text", "labels": NAMES, "model": "electra"}
    with pytest.raises(CheckpointError, match="Pass new_classifier=True to start one at random"):
        build_transformer_model(config, weights, **new)
    model = build_transformer_model(
        config, weights, new_classifier=True, return_keras_model=False, **new
    )
    for name in ("classifier_dense", "text_classifier"):
        assert np.abs(ops.convert_to_numpy(model.variables[f"{name}/kernel"])).max() > 0


@pytest.mark.once
def test_a_bias_of_a_classifier_is_not_one_of_the_body():
    names = ["roformer.encoder.layer.0.attention.self.query.weight", "classifier.dense.weight"]
    names += ["classifier.out_proj.weight", "classifier.out_proj.bias"]
    assert recognize({"model_type": "roformer"}, names) == "roformer_v2"


@pytest.mark.parametrize("kind", ["text", "tokens", "spans"])
def test_names_of_google(kind):
    """Those of run_classifier.py and run_squad.py give what transformers' names give."""
    case = CASES[f"classifier_bert_{kind}"]
    config = {k: v for k, v in case.config.items() if k not in ("model_type", "architectures")}
    transformer = build_transformer_model(
        case.config, case.weights, with_classifier=True, return_keras_model=False
    )
    google = {}
    for role, path, tf, _ in transformer.table:
        for i in range(2 if "{i}" in path else 1):
            for variable, ending in {
                "norm": {"gamma": "/gamma", "beta": "/beta"},
                "labels": {"kernel": "output_weights", "bias": "output_bias"},
                "linear": {"kernel": "/kernel", "bias": "/bias"},
            }.get(role, {"embeddings": ""}).items():
                if (ours := f"{path.format(i=i)}/{variable}") in transformer.variables:
                    array = ops.convert_to_numpy(transformer.variables[ours])
                    name = tf.format(i=i) + ending
                    google[name] = array.T if role == "labels" and variable == "kernel" else array
    assert ("cls/squad/output_weights" if kind == "spans" else "output_weights") in google
    labels = {} if kind == "spans" else {"labels": NAMES}
    model = build_transformer_model(config, google, with_classifier=kind, **labels)
    (logits,), (golden,) = outputs_of(model, case.inputs[0]), case.outputs[0]
    np.testing.assert_allclose(logits, golden, rtol=0, atol=1e-5 * np.abs(golden).max())


@pytest.mark.parametrize(("kind", "last"), [("text", "output_layer_2"), ("tokens", "output_layer")])
def test_names_of_uer(kind, last):
    """Those of run_classifier.py and run_ner.py; its config has neither kind nor labels."""
    case = CASES[f"classifier_bert_{kind}"]
    modules = UER_MODULES | {"bert.pooler.dense": "output_layer_1", "classifier": last}
    uer = {uer_name(name, modules): array for name, array in case.weights.items()}
    segments = "embedding.seg.embedding.weight"
    uer[segments] = np.concatenate([np.full((1, 32), np.nan, "float32"), uer[segments]])
    assert f"{last}.weight" in uer and ("output_layer_1.weight" in uer) == (kind == "text")
    config = {
        "emb_size": 32, "feedforward_size": 64, "hidden_size": 32, "hidden_act": "gelu",
        "heads_num": 4, "layers_num": 2, "max_seq_length": 24, "dropout": 0.0,
        "data_processor": "mlm", "embedding": ["word", "pos", "seg"], "encoder": "transformer",
    }  # fmt: skip
    transformer = build_transformer_model(
        config, uer, with_classifier=kind, return_keras_model=False
    )
    assert transformer.config.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    (logits,), (golden,) = outputs_of(transformer.model, case.inputs[0]), case.outputs[0]
    np.testing.assert_allclose(logits, golden, rtol=0, atol=1e-5 * np.abs(golden).max())


@pytest.mark.once
@pytest.mark.parametrize(
    ("family", "format"), [("modernbert", "hf"), ("modernbert", "keras"), ("bert", "tf")]
)
def test_the_pooling_is_in_the_files(family, format, tmp_path):
    transformer = build(family, "text", classifier_pooling="mean")
    transformer.save_checkpoint(tmp_path, format)
    again = build_transformer_model(tmp_path, with_classifier=True, return_keras_model=False)
    assert again.config.classifier_pooling == "mean"
    if format == "tf":
        with pytest.raises(
            ValueError, match=r"Face.s bert has no classifier_pooling\. Use format="
        ):
            config_json(transformer.config, "hf")


@pytest.mark.once
@pytest.mark.parametrize(("family", "name"), [("eurobert", "bos"), ("modernbert", "cls")])
@pytest.mark.parametrize("given", ["bos", "cls"])
def test_the_first_token_has_the_name_that_transformers_knows(family, name, given):
    classifier = {"with_classifier": "text", "labels": ["a"], "classifier_pooling": given}
    config = Config.from_values(ARCHITECTURES[family] | SIZES | classifier)
    assert config_json(config, "hf")["classifier_pooling"] == name


@pytest.mark.once
@pytest.mark.parametrize(
    ("key", "value"),
    [("summary_type", "mean"), ("summary_use_proj", False), ("summary_activation", "tanh")],
)
def test_the_layer_before_a_choice_is_that_of_electra(key, value):
    config, weights = golden_weights("classifier_electra_choice")
    config |= {"summary_type": "first", "summary_use_proj": True, "summary_activation": "gelu"}
    build_transformer_model(config, weights, with_classifier=True)
    with pytest.raises(ValueError, match=f"{key} is .*; expected .*choices that is not implem"):
        build_transformer_model(config | {key: value}, weights, with_classifier=True)
    with pytest.warns(UserWarning, match="left unused"):
        build_transformer_model(config | {key: value}, weights)  # without the classifier


@pytest.mark.once
def test_config_of_a_classifier():
    """What a config of transformers says of it, read and written."""
    values = {
        **SIZES,
        "model_type": "bert",
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "a", "1": "b"},
        "problem_type": "multi_label_classification",
        "classifier_dropout": 0.3,
    }
    transformer = build_transformer_model(values, with_classifier=True, return_keras_model=False)
    config = transformer.config
    assert (config.problem_type, config.labels) == ("multi_label_classification", ("a", "b"))
    assert transformer.layers["classifier_dropout"].rate == 0.3
    written = config_json(config, "hf")
    for key in ("architectures", "id2label", "problem_type", "classifier_dropout"):
        assert written[key] == values[key]
    assert written["label2id"] == {"a": 0, "b": 1}
    with pytest.raises(ValueError, match="problem_type is 'ranking'; expected one of None, single"):
        build_transformer_model(values | {"problem_type": "ranking"})
    last = {"with_classifier": "text", "labels": ["a"], "filler_id": 7}
    gpt2 = Config.from_values(ARCHITECTURES["gpt2"] | SIZES | last)
    assert config_json(gpt2, "hf")["pad_token_id"] == 7 and gpt2.filler == 7
    assert json.loads(json.dumps(written)) == written
