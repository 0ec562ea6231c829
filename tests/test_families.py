"""Every row of `ARCHITECTURES`: its numbers, its files both ways, its masks, half precision.

A new row is tested by being there.
"""

import functools
import json

import keras
import numpy as np
import pytest
from goldens.recipes import FOLDER, load_cases
from running import outputs_of

from bert4keras_lite import mappings
from bert4keras_lite.checkpoints import CheckpointError, open_checkpoint
from bert4keras_lite.checkpoints.dialects import DIALECTS, adapt
from bert4keras_lite.checkpoints.matching import gather
from bert4keras_lite.configs import ARCHITECTURES, Config
from bert4keras_lite.configs.architectures import HUGGING_FACE, MODEL_TYPES
from bert4keras_lite.configs.published import translate
from bert4keras_lite.configs.recognition import MEASURED, recognize, resolve_ambiguities
from bert4keras_lite.configs.written import config_json
from bert4keras_lite.layers import MultiHeadAttention, NystromAttention
from bert4keras_lite.models import build_transformer_model

CASES = {
    f"{folder}/{case.name}": case
    for folder in ("encoders", "decoders")
    for case in load_cases(FOLDER / folder)
}
CONFIG_KEYS = json.loads((FOLDER / "hf_keys.json").read_text())
# the first case of each family
FIRST = {case.options["model"]: name for name, case in reversed(CASES.items())}.values()
SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position": 40,
}
# rows with a graph of their own (not the same under another name, nor half of one)
WHOLE = [n for n in ARCHITECTURES if n != "roberta" and not n.endswith(("_encoder", "_decoder"))]
# heads of a family: the options that build them, beside what its row has
HEADS = {
    "electra": {"with_discriminator": "linear"},
    "electra_generator": {"with_lm": "linear", "embedding_size": 16},
    "albert": {"with_lm": "linear", "with_nsp": "linear", "embedding_size": 16},
    "albert_unshared": {"with_lm": "linear", "with_nsp": "linear", "embedding_size": 16},
    "nezha": {"with_lm": "linear", "with_pool": True},
    "bert": {"with_lm": "linear", "with_nsp": "linear"},
    "roberta": {"with_lm": "linear"},
    "modernbert": {"with_lm": "linear", "window": 2, "num_hidden_layers": 3},
    "deberta_v2": {"with_lm": "linear", "relative_buckets": 8, "relative_max_distance": 12},
    "eurobert": {"with_lm": "linear", "num_key_value_heads": 2},
    "ernie": {"with_lm": "linear", "with_nsp": "linear", "task_vocab_size": 3},
}


def build(name, **options):
    """A small random model with its heads, each weight moved away from where it starts."""
    row = ARCHITECTURES[name]
    heads = {} if row.get("stacks") == "encoder" else HEADS.get(name, {"with_lm": "linear"})
    transformer = build_transformer_model(
        model=name, return_keras_model=False, **(SIZES | heads | options)
    )
    random = np.random.RandomState(0)
    for path, variable in sorted(transformer.variables.items()):
        noise = 0.2 * random.standard_normal(variable.shape)
        variable.assign(noise + (1 if path.endswith("gamma") else 0))
    return transformer


built = functools.cache(build)  # for tests that change nothing of it


def padding_of(transformer):
    """The id that pads the rows of a model."""
    return max(transformer.config.pad_token_id, 0)


def inputs_of(transformer, length=9, seed=0, padded=True):
    """An array for each input of a model; the last rows are padded."""
    random, padding = np.random.RandomState(seed), padding_of(transformer)
    inputs = []
    for tensor in transformer.inputs:
        array = random.randint(1, 60, (3, length)).astype("int32")
        array[array == padding] = 59
        if "memory" in tensor.name:
            array = random.standard_normal((3, length, 32)).astype("float32")
        elif "segment" in tensor.name:
            array = np.repeat((np.arange(length) > length // 2)[None], 3, 0).astype("int32")
        elif padded:
            array[1, length - 3 :] = padding
            array[2, 1:] = padding
        inputs.append(array)
    return inputs


@pytest.fixture
def build_case(tmp_path):
    """Makes the `Transformer` of a golden case."""

    def build(case):
        options = dict(case.options)
        if "bert4keras" in case.source and case.config.get("hidden_act") == "gelu":
            options.setdefault("hidden_act", "gelu_erf")  # what bert4keras means by it everywhere
        if case.condition_size:
            condition = keras.Input((case.condition_size,), name="condition")
            options |= {"layer_norm_cond": condition, "additional_input_layers": condition}
        path = tmp_path / "case_config.json"
        path.write_text(json.dumps(case.config))
        weights = FOLDER / case.checkpoint if case.checkpoint else case.weights
        return build_transformer_model(path, weights, return_keras_model=False, **options)

    return build


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_same_numbers_as_the_reference(name, build_case):
    case = CASES[name]
    transformer = build_case(case)
    for inputs, expected in zip(case.inputs, case.outputs, strict=True):
        outputs = outputs_of(transformer.model, inputs, compiled=name in FIRST)
        assert len(outputs) == len(expected)
        for output, golden in zip(outputs, expected, strict=True):
            if case.compare == "visible" and output.ndim == 3:
                visible = inputs[-1 if "decoder" in transformer.inputs[-1].name else 0] != 0
                output, golden = output[visible], golden[visible]
            assert output.shape == golden.shape
            scale = max(1, float(np.abs(golden).max()))
            np.testing.assert_allclose(output, golden, rtol=0, atol=1e-5 * scale)


@pytest.mark.once
@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_the_family_is_recognized(name, tmp_path):
    """`model="auto"` finds what the case was built as, or says that it cannot know."""
    case = CASES[name]
    names = list(
        adapt(open_checkpoint(FOLDER / case.checkpoint) if case.checkpoint else case.weights)
    )
    asked = case.options["model"]
    row = ARCHITECTURES[asked]
    try:
        found = recognize(translate(case.config), names)
    except ValueError as error:
        assert asked in str(error), error
        return
    like = {"t5_pegasus": "mt5.1.1", "albert_unshared": "albert", "roberta": "bert"}
    base, found = (n.removesuffix("_encoder").removesuffix("_decoder") for n in (asked, found))
    t5 = row.get("stacks")
    if any("discriminator_predictions" in n for n in names):  # a file of both networks
        base = "electra"
    assert found == like.get(base, base) or (t5 and "t5" in found)


@pytest.mark.once
@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("format", ["tf", "hf", "keras"])
@pytest.mark.filterwarnings("ignore:.*left unused", "ignore:.*never trained")
def test_saved_and_loaded_is_bit_equal(name, format, tmp_path):
    transformer = built(name)
    if format == "hf" and transformer.config.family not in HUGGING_FACE:
        with pytest.raises(ValueError, match="Use format='tf' or 'keras'"):
            transformer.save_checkpoint(tmp_path / "a", format)
        return
    if format == "tf" and not any(tf for _, _, tf, _ in transformer.table):
        with pytest.raises(CheckpointError, match="Use format='hf' or 'keras'"):
            transformer.save_checkpoint(tmp_path / "a", format)
        return
    padding = padding_of(transformer)
    vocabulary = {"[PAD]": padding, "a": 1 - padding}
    transformer.save_checkpoint(tmp_path / "a", format, vocab=vocabulary)
    options = {k: v for k, v in HEADS.get(name, {"with_lm": "linear"}).items() if "with" in k}
    if ARCHITECTURES[name].get("stacks") == "encoder":
        options = {}
    # a Keras file, and half of a family's names, do not say which family it is
    known = "auto" if format == "tf" and name != "electra_generator" else name
    again = build_transformer_model(
        tmp_path / "a", model=known, return_keras_model=False, **options
    )
    for path, variable in transformer.variables.items():
        np.testing.assert_array_equal(np.array(variable), np.array(again.variables[path]), path)
    inputs = inputs_of(transformer)
    for first, second in zip(
        outputs_of(transformer.model, inputs), outputs_of(again.model, inputs), strict=True
    ):
        np.testing.assert_array_equal(first, second)
    if format != "keras":
        again.save_checkpoint(tmp_path / "b", format, vocab=vocabulary)
        for file in sorted(path.name for path in (tmp_path / "a").iterdir()):
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.once
@pytest.mark.parametrize(
    "name", [n for n, row in ARCHITECTURES.items() if row["family"] in HUGGING_FACE]
)
def test_transformers_reads_every_value(name, tmp_path):
    """What we write as config.json is in its words: it would pass over any other."""
    values = {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "vocab_size": 60,
        "max_position_embeddings": 40,
    }
    keys = HUGGING_FACE[ARCHITECTURES[name]["family"]].keys
    values |= {"norm_epsilon": 3e-5} if "norm_epsilon" in keys else {}
    options = {"intermediate_size": 128} | (
        {"dropout_rate": 0.15} if "dropout_rate" in keys else {}
    )
    if "t5" in name:  # has one rate
        del values["max_position_embeddings"]
    else:
        options["attention_dropout_rate"] = 0.15
    transformer = build_transformer_model(
        model=name, return_keras_model=False, **(values | options)
    )
    transformer.save_checkpoint(tmp_path, "hf")
    written = json.loads((tmp_path / "config.json").read_text())
    known = CONFIG_KEYS[written["model_type"]]
    names = known["defaults"].keys() | known["aliases"].keys()
    ours = {"architectures", "model_type", "decoder_start_token_id", "scale_decoder_outputs"}
    assert written.keys() - ours <= names
    found = known["defaults"] | {known["aliases"].get(k, k): v for k, v in written.items()}
    for key, value in values.items():
        key = known["aliases"].get(key, key)
        if key == "norm_epsilon":
            (key,) = names & {"layer_norm_eps", "layer_norm_epsilon", "norm_eps", "rms_norm_eps"}
        assert found[key] == value, key
    rates = {
        k for k in known["defaults"] if k.endswith(("_pdrop", "_dropout_prob", "dropout_rate"))
    }
    for key in rates - {"classifier_dropout_prob"}:
        assert found[key] == 0.15, key


@pytest.mark.once
@pytest.mark.parametrize("family", HUGGING_FACE)
def test_keys_that_are_left_out_mean_what_they_mean_to_transformers(family):
    """All but rates of dropout, and what the weights tell: sizes, and a head of its own."""
    model_type, names = HUGGING_FACE[family].model_type, HUGGING_FACE[family].keys
    family = MODEL_TYPES[model_type][0]
    defaults = CONFIG_KEYS[model_type]["defaults"]
    required = mappings.MISSING.get(model_type, {})
    written = config_json(Config.from_values(SIZES | ARCHITECTURES[family]), "hf")
    config = {"model_type": model_type} | {key: written[key] for key in required if key in written}
    values, _ = resolve_ambiguities(family, translate(config))
    ours = Config.from_values(SIZES | ARCHITECTURES[family] | values)
    theirs = translate({key: defaults[key] for key in names.values() if key in defaults} | config)
    told = names.keys() & theirs.keys() - MEASURED - SIZES.keys()
    same = {"attention_head_size", "num_decoder_layers", "tie_word_embeddings"}
    # "cls" is the first token, as None is; None heads of keys are as many as of queries
    same |= {"num_key_value_heads", "classifier_dropout", "classifier_pooling"}
    # always written; that of the English vocabulary is no default of ours
    same |= {"num_decoder_attention_heads", "forced_end_id"}
    for name in told - same:
        if not name.endswith("dropout_rate"):
            expected, got = (
                {"gelu_new": "gelu_tanh"}.get(x, x) for x in (theirs[name], getattr(ours, name))
            )
            assert got == expected, name


@pytest.mark.once
@pytest.mark.parametrize("config", [{}, {"model_type": "albert"}])
def test_albert_has_the_tanh_form_of_gelu_unless_told_otherwise(config):
    albert = built("albert")
    functions = gather(albert.variables, albert.table, mappings.ROLES, "tf", {"i": 1, "j": 1})
    weights = {name: np.asarray(read()) for name, read in functions.items()}
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4}
    read = functools.partial(build_transformer_model, return_keras_model=False)
    assert read(config | sizes, weights).config.hidden_act == "gelu_tanh"
    assert read(model="albert_unshared", **SIZES).config.hidden_act == "gelu_tanh"
    exact = read(config | sizes, weights, hidden_act="gelu_erf")
    assert exact.config.hidden_act == "gelu_erf"


@pytest.mark.once
def test_what_t5_means_by_its_keys():
    told = {"model_type": "t5", "dense_act_fn": "gelu_new", "is_gated_act": True}
    for config in (told, told | {"feed_forward_proj": "gated-gelu"}):
        values = translate(config)
        assert (values["hidden_act"], values["gated"]) == ("gelu_new", True)


def test_mt5_of_transformers_scales_nothing(tmp_path):
    transformer = build("mt5.1.1", num_hidden_layers=1, scale_decoder_outputs=True)
    with pytest.raises(ValueError, match=r"scale_decoder_outputs=True\. Use format='tf'"):
        transformer.save_checkpoint(tmp_path, "hf")


@pytest.mark.once
@pytest.mark.parametrize("name", WHOLE)
def test_keras_file(name, tmp_path):
    transformer = built(name)
    model, inputs = transformer.model, inputs_of(transformer)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    trained, trained_again = ([v.path for v in m.trainable_variables] for m in (model, again))
    assert trained_again == trained
    for first, second in zip(outputs_of(model, inputs), outputs_of(again, inputs), strict=True):
        np.testing.assert_array_equal(first, second)


def write_by_the_framework(model, directory):
    """Saves a model as those do who use the backend itself; gives a function that restores one."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        def manager(model):
            checkpoint = tf.train.Checkpoint(model=model)
            return tf.train.CheckpointManager(checkpoint, str(directory), max_to_keep=1)

        manager(model).save()
        return lambda model: manager(model).restore_or_initialize()
    import torch

    torch.save(model.state_dict(), directory / "model.pt")
    return lambda model: model.load_state_dict(torch.load(directory / "model.pt"))


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="has no checkpoints of its own")
@pytest.mark.parametrize("name", WHOLE)
def test_checkpoint_of_the_framework(name, tmp_path):
    model = built(name).model
    restore = write_by_the_framework(model, tmp_path)
    again = build(name)
    for variable in again.model.variables:
        variable.assign(np.zeros(variable.shape))
    restore(again.model)
    for expected, found in zip(model.variables, again.model.variables, strict=True):
        np.testing.assert_array_equal(np.array(found), np.array(expected), found.path)


@pytest.mark.parametrize("name", [n for n, r in ARCHITECTURES.items() if r.get("first_position")])
def test_padding_on_the_left_changes_nothing(name):
    transformer = built(name)
    (tokens,) = inputs_of(transformer, padded=False)
    longer = np.pad(tokens, ((0, 0), (5, 0)), constant_values=padding_of(transformer))
    (short,), (long,) = (outputs_of(transformer.model, [x]) for x in (tokens, longer))
    np.testing.assert_allclose(short, long[:, 5:], atol=1e-4 * max(1, np.std(short)))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_padding_changes_nothing(name):
    transformer = built(name)
    inputs = inputs_of(transformer, padded=False)
    longer = [
        np.pad(x, ((0, 0), (0, 5)), constant_values=padding_of(transformer) * ("token" in t.name))
        if x.ndim == 2
        else x
        for x, t in zip(inputs, transformer.inputs, strict=True)
    ]
    for short, long in zip(
        outputs_of(transformer.model, inputs), outputs_of(transformer.model, longer), strict=True
    ):
        long = long[:, : short.shape[1]] if long.ndim == 3 else long
        # a longer row is summed in another order: far more than rounding would be a leak
        np.testing.assert_allclose(short, long, atol=1e-4 * max(1, np.std(short)))


def writers():
    for name, row in ARCHITECTURES.items():
        if row.get("stacks") in ("both", "decoder") or row.get("attend") == "lm":
            yield name, "encoder"
        elif not row.get("stacks") and name != "electra":
            yield name, "lm"
            if row.get("segment_vocab_size", 2) > 1:
                yield name, "unilm"


@pytest.mark.parametrize(("name", "application"), list(writers()))
def test_nothing_later_is_seen(name, application):
    transformer = build(name, application=application, with_pool=False, with_nsp=False)
    inputs = inputs_of(transformer, padded=False)
    target = next(
        i for i, t in reversed(list(enumerate(transformer.inputs))) if "token_ids" in t.name
    )
    changed = [x.copy() for x in inputs]
    changed[target][:, 7] = 1 + changed[target][:, 7] % 58
    before, after = (outputs_of(transformer.model, x)[0] for x in (inputs, changed))
    np.testing.assert_allclose(before[:, :7], after[:, :7], atol=1e-5)
    assert (np.abs(before[:, 7:] - after[:, 7:]).max(-1) > 1e-5).all()


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision(name, policy):
    single = built(name)
    keras.config.set_dtype_policy(policy)
    try:
        half = build(name)
    finally:
        keras.config.set_dtype_policy("float32")
    inputs = inputs_of(single)
    for golden, output in zip(
        outputs_of(single.model, inputs), outputs_of(half.model, inputs), strict=True
    ):
        output = output.astype("float32")
        assert np.isfinite(output).all()
        assert np.abs(output - golden).mean() < 0.15 * np.abs(golden).mean()


@pytest.mark.parametrize("name", WHOLE)
def test_every_weight_is_trained(name):
    transformer = build(name, num_hidden_layers=1)
    model = transformer.model
    model.compile(keras.optimizers.SGD(1e-2), "mse", run_eagerly=True)  # a single step
    inputs = inputs_of(transformer)
    targets = [np.ones(y.shape) for y in outputs_of(model, inputs)]
    before = [np.array(w) for w in model.trainable_weights]
    model.train_on_batch(inputs, targets if len(targets) > 1 else targets[0])
    for weight, old in zip(model.trainable_weights, before, strict=True):
        if "key/bias" not in weight.path:  # softmax does not see it
            assert not np.array_equal(np.array(weight), old), weight.path


@pytest.mark.parametrize(
    "name", [n for n, row in ARCHITECTURES.items() if row.get("stacks") == "both"]
)
def test_halves_of_an_encoder_decoder(name):
    transformer = build(name)
    token_ids, decoder_ids = inputs_of(transformer, padded=False)
    whole = outputs_of(transformer.model, [token_ids, decoder_ids])[0]
    (memory,) = outputs_of(transformer.encoder, [token_ids])
    # rounding alone, far less than any part left out would make
    np.testing.assert_allclose(
        outputs_of(transformer.decoder, [memory, decoder_ids])[0],
        whole,
        atol=1e-4 * max(1, np.std(whole)),
    )


def test_a_row_says_which_names_it_uses():
    for name, row in ARCHITECTURES.items():
        config = Config.from_values(SIZES | row)
        assert config.family in mappings.WEIGHTS, name


# ---------------------------------------------------------------- long input


@pytest.mark.parametrize("name", ["bert", "roformer", "albert", "electra"])
def test_landmarks_are_exact_where_they_equal_the_length(name):
    full = build(name)
    few = build(name, attention="nystrom", num_landmarks=9)
    inputs = inputs_of(full)
    for first, second in zip(
        outputs_of(full.model, inputs), outputs_of(few.model, inputs), strict=True
    ):
        np.testing.assert_array_equal(first, second)


def test_landmarks_follow_the_full_attention():
    """Padding has no say, and more landmarks come nearer."""
    random = np.random.RandomState(0)
    # neighbours are alike, as in text: that is what landmarks live on
    x = np.repeat(random.standard_normal((2, 12, 16)), 4, 1) + 0.1 * random.standard_normal(
        (2, 48, 16)
    )
    x = x.astype("float32")
    bias = np.zeros((2, 1, 1, 48), "float32")
    bias[1, ..., 40:] = -1e9
    full = MultiHeadAttention(2, 8, initializer_range=0.3)
    golden = np.asarray(keras.ops.convert_to_numpy(full(x, bias=bias)))
    errors = []
    for landmarks in (4, 12, 24):
        layer = NystromAttention(
            2, 8, num_landmarks=landmarks, iterations=12, initializer_range=0.3
        )
        layer.build(x.shape)
        layer.set_weights(full.get_weights())
        y = keras.ops.convert_to_numpy(layer(x, bias=bias))
        errors.append(np.abs(y - golden)[0].mean() / np.abs(golden[0]).mean())
        short = keras.ops.convert_to_numpy(layer(x[1:, :40], bias=bias[1:, ..., :40]))
        # an iterated inverse makes more of rounding
        np.testing.assert_allclose(y[1:, :40], short, atol=1e-4 * np.abs(y).max())
    assert errors[1] < 0.05 and errors[1] < errors[0] and errors[2] < 2 * errors[1]


def test_a_text_of_as_many_tokens_as_landmarks_gets_full_attention_whatever_its_padding():
    model = build("bert", attention="nystrom", num_landmarks=5).model
    text, longer = [1, 5, 6, 7, 2], [1, 5, 6, 7, 8, 9, 7, 2]
    alone, together = (
        outputs_of(model, [np.array(rows), np.zeros_like(rows)])[0][0, :5]
        for rows in ([text], [[*text, 0, 0, 0], longer])
    )
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"application": "lm"}, {"model": "nezha"}, {"residual_attention_scores": True}]
)
def test_landmarks_refuse_what_they_cannot_do(options):
    with pytest.raises(ValueError, match="nystrom"):
        build_transformer_model(attention="nystrom", **(SIZES | options))


@pytest.mark.parametrize(
    "options",
    [
        {"model": "gau_alpha", "residual_attention_scores": True},
        {"model": "gau_alpha", "position": "buckets"},
        {"model": "t5.1.0", "attention": "gau"},
    ],
)
def test_gated_attention_refuses_what_it_cannot_do(options):
    with pytest.raises(
        ValueError, match="attention='gau' is for models of one stack with absolute"
    ):
        build_transformer_model(**(SIZES | options))


# ---------------------------------------------------------------- what can go wrong


def saved(name, tmp_path, format="tf", **options):
    transformer = build(name, **options)
    transformer.save_checkpoint(tmp_path, format)
    return transformer


def test_config_and_weights_of_different_families(tmp_path):
    saved("electra", tmp_path, "hf")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "albert"}))
    with pytest.raises(ValueError, match=r"model_type='albert'.*electra"):
        build_transformer_model(tmp_path)


def test_another_family_than_the_config_says(tmp_path):
    saved("nezha", tmp_path)
    with pytest.raises(ValueError, match=r"model_type is 'nezha', but model='roformer'"):
        build_transformer_model(tmp_path, model="roformer")


def test_nezha_and_roformer_cannot_be_told_apart_by_names(tmp_path):
    saved("nezha", tmp_path)
    config = json.loads((tmp_path / "bert_config.json").read_text())
    del config["model_type"]
    (tmp_path / "bert_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"both nezha and roformer.*model='nezha'"):
        build_transformer_model(tmp_path)


def test_half_a_checkpoint():
    transformer = build("t5.1.1")
    arrays = {path: np.array(v) for path, v in transformer.variables.items()}
    lazy = gather(arrays, transformer.table, mappings.ROLES, "tf", transformer.config.block_counts)
    half = {name: give() for name, give in lazy.items() if "decoder/" not in name}
    with pytest.raises(CheckpointError, match=r"- decoder/block_000"):
        build_transformer_model(None, half, model="t5.1.1", **SIZES)
    half_model = build_transformer_model(None, half, model="t5.1.1_encoder", num_attention_heads=4)
    assert half_model.output_shape == (None, None, 32)


def test_sizes_are_read_off_the_arrays(tmp_path):
    transformer = build("t5.1.1", attention_head_size=6, num_decoder_layers=3)
    transformer.save_checkpoint(tmp_path)
    (tmp_path / "config.json").unlink()
    again = build_transformer_model(None, tmp_path / "model.ckpt", return_keras_model=False)
    for field in ("vocab_size", "hidden_size", "num_hidden_layers", "num_decoder_layers"):
        assert getattr(again.config, field) == getattr(transformer.config, field)
    assert again.config.head_size == 6 and again.config.gated


def test_a_head_of_its_own_is_found():
    tied = build("gpt2")
    arrays = {path: np.array(v) for path, v in tied.variables.items()}
    lazy = gather(arrays, tied.table, mappings.ROLES, "hf", tied.config.block_counts)
    weights = {name: give() for name, give in lazy.items()}
    sizes = {"num_attention_heads": 4}
    table = weights["transformer.wte.weight"]
    copy = build_transformer_model(
        None, weights | {"lm_head.weight": table}, return_keras_model=False, **sizes
    )
    assert copy.config.tie_word_embeddings
    apart = build_transformer_model(
        None, weights | {"lm_head.weight": table + 1}, return_keras_model=False, **sizes
    )
    assert not apart.config.tie_word_embeddings
    with pytest.raises(CheckpointError, match="tie_word_embeddings=False"):
        build_transformer_model(
            None, weights | {"lm_head.weight": table + 1}, tie_word_embeddings=True, **sizes
        )


def test_a_gpt_config_in_bert4keras_form_means_tanh(tmp_path):
    saved("gpt2", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["model_type"]
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_act": "gelu"}))
    with pytest.warns(UserWarning, match="gelu_erf") as warned:
        transformer = build_transformer_model(tmp_path, return_keras_model=False)
    assert transformer.config.hidden_act == "gelu_tanh"
    assert {warning.filename for warning in warned} == {__file__}


def test_an_untrained_head_is_told():
    transformer = build("bert")
    transformer.variables["lm_norm/gamma"].assign(np.ones(32))
    transformer.variables["lm_norm/beta"].assign(np.zeros(32))
    arrays = {path: np.array(v) for path, v in transformer.variables.items()}
    lazy = gather(arrays, transformer.table, mappings.ROLES, "tf", {"i": 2, "j": 2})
    weights = {name: give() for name, give in lazy.items()}
    with pytest.warns(UserWarning, match="never trained"):
        build_transformer_model(None, weights, with_mlm=True, num_attention_heads=4)


def test_a_vocabulary_of_another_size(tmp_path):
    saved("bert", tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(f"t{i}" for i in range(61)) + "\n")
    with pytest.raises(ValueError, match=r"vocab\.txt: has 61 tokens; expected at most 60"):
        build_transformer_model(tmp_path)


@pytest.mark.parametrize("name", ["gpt", "gpt2"])
def test_id_0_is_a_token_where_it_is_none_of_padding(name):
    transformer = build(name)
    ids = np.array([[3, 0, 5, 7]])
    for changed in ([[3, 1, 5, 7]], [[9, 0, 5, 7]]):
        before, after = (outputs_of(transformer.model, [np.asarray(x)])[0] for x in (ids, changed))
        assert np.abs(before[0, 3] - after[0, 3]).max() > 1e-3


def test_a_vocabulary_of_t5_pegasus_is_told():
    transformer = build("mt5.1.1", vocab_size=50000, num_hidden_layers=1)
    arrays = {path: np.array(v) for path, v in transformer.variables.items()}
    lazy = gather(arrays, transformer.table, mappings.ROLES, "tf", {"i": 1, "j": 1})
    with pytest.warns(UserWarning, match="model='t5_pegasus'"):
        build_transformer_model(None, {name: give() for name, give in lazy.items()})


def test_the_names_of_tensorflow_2s_bert():
    """Model garden's, with an axis for the heads, give what Google's names give."""
    case = CASES["encoders/labse_encoder"]
    official = {}
    for name, array in case.weights.items():
        for old, new in (
            ("bert/embeddings/word_embeddings", "word_embeddings/embeddings"),
            ("bert/embeddings/position_embeddings", "position_embedding/embeddings"),
            ("bert/embeddings/token_type_embeddings", "type_embeddings/embeddings"),
            ("bert/embeddings/LayerNorm", "embeddings/layer_norm"),
            ("bert/encoder", "transformer"),
            ("attention/self", "self_attention"),
            ("attention/output/dense", "self_attention/attention_output"),
            ("attention/output/LayerNorm", "self_attention_layer_norm"),
            ("output/LayerNorm", "output_layer_norm"),
            ("intermediate/dense", "intermediate"),
            ("output/dense", "output"),
            ("bert/pooler/dense", "pooler_transform"),
        ):
            name = name.replace(old, new)
        official[name] = array
    assert not any(name.startswith("bert/") for name in official)
    model = build_transformer_model(None, official, **(case.config | {"num_attention_heads": 4}))
    np.testing.assert_allclose(
        outputs_of(model, case.inputs[0])[0], case.outputs[0][0], rtol=0, atol=1e-5
    )


def test_uers_own_config(tmp_path):
    case = CASES["encoders/uer_bert"]
    config = {
        "emb_size": 32, "feedforward_size": 64, "hidden_size": 32, "hidden_act": "gelu",
        "heads_num": 4, "layers_num": 2, "max_seq_length": 24, "dropout": 0.0,
        "data_processor": "mlm", "embedding": ["word", "pos", "seg"], "encoder": "transformer",
        "mask": "fully_visible", "target": ["mlm", "sp"], "tie_weights": True,
    }  # fmt: skip
    config["layers_num"] = case.config["num_hidden_layers"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    transformer = build_transformer_model(
        tmp_path / "config.json", case.weights, return_keras_model=False, **case.options
    )
    for output, golden in zip(
        outputs_of(transformer.model, case.inputs[0]), case.outputs[0], strict=True
    ):
        np.testing.assert_allclose(output, golden, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("case", "name", "ours"),
    [
        ("encoders/uer_bert", "target.mlm.linear_2.weight", "cls/predictions/decoder/kernel"),
        ("decoders/uer_gpt2", "target.output_layer.weight", "gpt/lm_head/kernel"),
    ],
)
def test_a_head_of_its_own_in_uers_files(case, name, ours):
    """It is read, or an error: UER ties it to the table with `tie_weights` alone."""
    case = CASES[case]
    table = case.weights["embedding.word.embedding.weight"]
    load = functools.partial(build_transformer_model, return_keras_model=False, **case.options)
    tied = load(case.config, case.weights | {name: table})
    assert tied.config.tie_word_embeddings
    for tells in ({}, {"tie_weights": False}):
        own = load(case.config | tells, case.weights | {name: table + 1})
        np.testing.assert_array_equal(own.variables["lm_head/embeddings"], table + 1)
    with pytest.raises(
        CheckpointError, match=f"! {ours}: differs from .*tie_word_embeddings=False"
    ):
        load(case.config | {"tie_weights": True}, case.weights | {name: table + 1})


def test_a_decoders_table_of_its_own_in_uers_t5():
    case = CASES["decoders/uer_t5"]
    name = "tgt_embedding.word.embedding.weight"
    with pytest.raises(
        CheckpointError, match=r"! decoder\.embed_tokens\.weight: differs from shared"
    ):
        weights = case.weights | {name: case.weights[name] + 1}
        build_transformer_model(case.config, weights, **case.options)


@pytest.mark.parametrize("model", ["bert", "gpt", "gpt2_ml", "t5.1.1", "electra_generator"])
def test_a_head_of_its_own_that_a_config_ties(model, tmp_path):
    options = HEADS.get(model, {"with_lm": "linear"})
    saved(model, tmp_path, tie_word_embeddings=False)
    with pytest.raises(CheckpointError, match=r"decoder|head|logits.*: differs from"):
        build_transformer_model(tmp_path, model=model, **(options | {"tie_word_embeddings": True}))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_dialect_leaves_an_array_out(dialect):
    assert all(isinstance(there, str) for _, there, _ in dialect.rules)


def test_the_second_stage_of_a_head_is_told():
    name = "cls/predictions/output_bias"
    built_here = built("bert", with_lm="linear")
    arrays = {path: np.array(v) for path, v in built_here.variables.items()}
    stored = gather(arrays, built_here.table, mappings.ROLES, "tf", {"i": 2})
    stored = {n: give() for n, give in stored.items()}
    stored |= {"cls/predictions/output_prev_bias": stored[name], name: stored[name] + 1}
    with pytest.warns(UserWarning, match="unused, 1 arrays: cls/predictions/second_stage/output_b"):
        built_here.load_checkpoint(stored)


SHARED = FOLDER.parents[2] / "shared/checkpoints/index_only"
RELEASED = {
    "chinese_rbt3": {"with_mlm": True, "with_nsp": True},
    "albert_tiny_zh": {"with_mlm": True, "with_nsp": True},
    "albert_tiny_zh_google": {"with_mlm": True, "with_nsp": True},
    "bert_domain": {},
    "t5_mtf_tiny": {"num_attention_heads": 2},
}


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the index files of real releases")
@pytest.mark.parametrize("name", RELEASED)
@pytest.mark.filterwarnings("ignore")
def test_names_and_shapes_of_real_releases_fit(name):
    """Zeros in the shapes of a released file find their places, all of them."""
    folder = SHARED / name
    config = next(iter(sorted(folder.glob("*config*.json"))), None)
    variables = json.loads((folder / "variables.json").read_text())
    weights = {name: np.zeros(shape, "float32") for name, (shape, _) in variables.items()}
    transformer = build_transformer_model(
        config, weights, return_keras_model=False, **RELEASED[name]
    )
    assert transformer.model.outputs


@pytest.mark.parametrize("option", ["with_lm", "with_pool", "with_nsp"])
def test_a_head_that_the_family_never_has(option, tmp_path):
    saved("electra", tmp_path)
    with pytest.raises(CheckpointError, match=r"checkpoints of this family.*no such weights"):
        build_transformer_model(tmp_path, **{option: True})
    with pytest.warns(UserWarning, match="ignored, as requested"):
        build_transformer_model(tmp_path, ignore_invalid_weights=True, **{option: True})


@pytest.mark.once
def test_config_of_modernbert():
    """transformers 5 nests the base of the angles; early configs have an unused epsilon."""
    rope = {"full_attention": {"rope_theta": 5e5, "rope_type": "default"}}
    every = {"model_type": "modernbert", "layer_types": ["full_attention"] * 2}
    values = translate(every | {"rope_parameters": rope, "norm_eps": 1e-4, "layer_norm_eps": 1e-12})
    assert (values["rotary_base"], values["norm_epsilon"]) == (5e5, 1e-4)
    assert translate(every | {"layer_norm_eps": 1e-4, "norm_eps": None})["norm_epsilon"] == 1e-4
    of_bert = {"model_type": "bert", "layer_norm_eps": 1e-4}
    assert translate(of_bert | {"norm_eps": None})["norm_epsilon"] == 1e-4
    with pytest.raises(
        ValueError, match=r"layer_norm_eps is 0\.0001, and norm_eps is 1e-12; expect"
    ):
        translate(of_bert | {"norm_eps": 1e-12})


@pytest.mark.once
def test_the_head_of_modernbert_has_an_activation_of_its_own():
    config = {**SIZES, "model_type": "modernbert"}
    for acts in (
        {"classifier_activation": "relu"},
        {"hidden_activation": "silu"},  # gelu is transformers' default for the head
        {"hidden_activation": "silu", "classifier_activation": "gelu"},
    ):
        build_transformer_model(config | acts)
        with pytest.raises(ValueError, match=r"classifier_activation is .*; expected the same"):
            build_transformer_model(config | acts, with_lm="linear")
    for act in ("gelu", "silu"):
        same = {"hidden_activation": act, "classifier_activation": act}
        model = build_transformer_model(config | same, with_lm=True, return_keras_model=False)
        assert config_json(model.config, "hf").items() >= same.items()
    build_transformer_model(config | {"hidden_act": "silu"}, with_lm=True)  # as saved here


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "activation", "message"),
    [
        ("bert", "elu", "bert has no hidden_act='elu'. Use"),
        ("gpt", "tanh", "openai-gpt has no hidden_act='tanh'. Use"),
        ("t5.1.1", "softplus", "t5 has no hidden_act='softplus'. Use"),
        ("electra_generator", "relu", "hidden_act='relu': .* the language-model head with gelu"),
    ],
)
def test_an_activation_that_transformers_computes_otherwise(name, activation, message, tmp_path):
    options = {"hidden_act": activation} | ({} if "t5" in name else {"with_lm": True})
    with pytest.raises(ValueError, match=message):
        build(name, **options).save_checkpoint(tmp_path / "hf", "hf")
    build(name, **options).save_checkpoint(tmp_path / "tf")
    build(name, hidden_act="relu", with_lm=False).save_checkpoint(tmp_path / "hf", "hf")


@pytest.mark.once
def test_an_electra_generator_of_hugging_face_has_gelu_in_its_head(tmp_path):
    build("electra_generator").save_checkpoint(tmp_path, "hf")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    with pytest.raises(CheckpointError, match="hidden_act is 'relu'; expected 'gelu', with which"):
        build_transformer_model(tmp_path, with_lm=True)
    build_transformer_model(tmp_path)
    build("electra_generator", hidden_act="relu").save_checkpoint(tmp_path / "tf")
    of_google = {"model": "electra_generator", "with_lm": True}  # whose head has the model's
    build_transformer_model(tmp_path / "tf", **of_google)


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "bias"),
    [
        ("bert", "cls.predictions.decoder.bias"),
        ("albert", "predictions.decoder.bias"),
        ("modernbert", "decoder.bias"),
        ("electra_generator", "generator_lm_head.bias"),
    ],
)
def test_the_bias_of_a_head_of_its_own_is_written_as_transformers_reads_it(name, bias, tmp_path):
    transformer = build(name, tie_word_embeddings=False)
    transformer.save_checkpoint(tmp_path, "hf")
    beta = np.array(transformer.variables["lm_bias/beta"])
    np.testing.assert_array_equal(open_checkpoint(tmp_path)[bias], beta)
    again = build_transformer_model(tmp_path, return_keras_model=False, with_lm=True)
    np.testing.assert_array_equal(again.variables["lm_bias/beta"], beta)


def test_a_checkpoint_of_a_format_that_the_family_does_not_have(tmp_path):
    built("bert").save_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="checkpoints of this family and format have no such"):
        build_transformer_model(None, tmp_path / "bert_model.ckpt", model="modernbert", **SIZES)
