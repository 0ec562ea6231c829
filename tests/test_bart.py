"""BART, PEGASUS and CPT beside their numbers: special ids, limits, what files hold and lack."""

import json
import warnings

import ml_dtypes
import numpy as np
import pytest
from keras import ops
from running import operation_by_operation, outputs_of
from test_families import build

from bert4keras_lite import generate
from bert4keras_lite.checkpoints import CheckpointError, open_checkpoint
from bert4keras_lite.generation.request import GenerationRequest
from bert4keras_lite.layers import SinusoidalPositions
from bert4keras_lite.models import build_transformer_model

FAMILIES = pytest.mark.parametrize("family", ["bart", "pegasus", "cpt"])
IDS = {"decoder_start_id": 3, "forced_start_id": 7, "forced_end_id": 5, "pad_token_id": 1}
PROMPTS = [[5, 9, 3, 17, 20], [7], [2, 30, 31]]
CONFIG = {
    "vocab_size": 40,
    "d_model": 8,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 8,
    "decoder_ffn_dim": 8,
    "max_position_embeddings": 20,
    "is_encoder_decoder": True,
}


def generated(transformer, prompts, most=None, **options):
    """The new tokens of each prompt."""
    rows = generate(transformer, prompts, most, **options)
    return [row.ids.tolist() for (row,) in rows]


def loaded(path, **options):
    return build_transformer_model(path, return_keras_model=False, **options)


def arrays_of(transformer, folder):
    """The arrays of a checkpoint of Hugging Face, and the path of its config."""
    transformer.save_checkpoint(folder, "hf")
    checkpoint = open_checkpoint(folder / "model.safetensors")
    return {name: np.array(checkpoint[name]) for name in checkpoint}, folder / "config.json"


# Ids of rows


@FAMILIES
def test_special_ids_move_with_their_rows(family, tmp_path, monkeypatch):
    operation_by_operation(monkeypatch)
    whole = build(family, **IDS)
    whole.save_checkpoint(tmp_path, "hf")
    keep = [1, *range(59, 1, -1)]
    moved = loaded(tmp_path, keep_tokens=keep, pad_token_id=0)
    found = {name: keep[getattr(moved.config, name)] for name in IDS}
    assert found == IDS
    rows = generated(moved, [[keep.index(i) for i in p] for p in PROMPTS], 6)
    expected = generated(whole, PROMPTS, 6, allowed_tokens=keep)
    assert [[keep[i] for i in row] for row in rows] == expected


def test_special_ids_that_are_not_kept(tmp_path):
    build("bart", **IDS).save_checkpoint(tmp_path, "hf")
    keep = [0, 1, 2, 3, 5, 8]
    message = "keep_tokens leaves out row 7, which is forced_bos_token_id; .*forced_start_id="
    with pytest.raises(ValueError, match=message):
        loaded(tmp_path, keep_tokens=keep)
    config = loaded(tmp_path, keep_tokens=keep, forced_start_id=5).config
    assert (config.decoder_start_id, config.forced_start_id, config.forced_end_id) == (3, 5, 4)
    encoder = loaded(tmp_path, keep_tokens=keep, model="bart_encoder").config
    assert (encoder.decoder_start_id, encoder.forced_start_id, encoder.forced_end_id) == (
        3,
        None,
        4,
    )


def test_the_padding_of_a_classifier_moves_with_its_row(tmp_path):
    options = {"with_classifier": "text", "labels": ("a", "b")}
    build("gpt2", with_lm=False, filler_id=9, **options).save_checkpoint(tmp_path, "hf")
    assert loaded(tmp_path, with_classifier=True, keep_tokens=[4, 9, 8, 0]).config.filler_id == 1
    assert (
        loaded(tmp_path, with_classifier=True, keep_tokens=[4, 8, 0], filler_id=2).config.filler_id
        == 2
    )
    with pytest.raises(ValueError, match=r"leaves out row 9, which is filler_id; .*filler_id="):
        loaded(tmp_path, with_classifier=True, keep_tokens=[4, 8, 0])


@pytest.mark.once
@FAMILIES
def test_ids_that_a_config_lacks(family):
    """transformers 5.23 forces none then, although its classes have a default for the last one.

    It refuses to generate without a first input of the decoder, which here is that of its class.
    """
    config = loaded({"model_type": family, **CONFIG}).config
    assert (config.forced_start_id, config.forced_end_id) == (None, None)
    assert config.decoder_start_id == {"bart": 2, "pegasus": 0, "cpt": 2}[family]
    config = loaded({"model_type": family, "forced_eos_token_id": None, **CONFIG}).config
    assert config.forced_end_id is None


# Generation


@FAMILIES
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True}])
def test_forced_tokens(family, options, monkeypatch):
    """With room for one token alone, transformers 5.23 makes it the last."""
    operation_by_operation(monkeypatch)
    transformer = build(family, **IDS)
    for most in (1, 2, 4):
        for row in generated(transformer, PROMPTS, most, **options):
            first = [] if most == 1 else [IDS["forced_start_id"]]
            assert len(row) == most
            assert (row[: len(first)], row[-1]) == (first, IDS["forced_end_id"])
    (row,) = generated(transformer, PROMPTS[:1], 4, stop_ids=[IDS["forced_start_id"]], **options)
    assert row == []  # it stops there, before the last


@FAMILIES
def test_limits_of_positions(family, monkeypatch):
    operation_by_operation(monkeypatch)
    transformer = build(family, max_position=6)
    ids = np.full((1, 6), 9)
    expected = outputs_of(transformer.model, [ids, ids])[-1]
    assert expected.shape == (1, 6, 60)
    longer = np.full((1, 7), 9)
    for inputs in ([longer, ids], [ids, longer]):
        with pytest.raises(ValueError, match=r"7 tokens.*6 positions"):
            transformer.model([ops.convert_to_tensor(x) for x in inputs])
    # the decoder never sees the last token
    assert [len(row) for row in generated(transformer, [[9] * 6], 6)] == [6]
    assert GenerationRequest(transformer, [[9]], stop_ids=[59]).most == 6
    for prompt, most in (([9] * 7, 1), ([9], 7)):
        with pytest.raises(ValueError, match="more than the 6 positions of this model"):
            generate(transformer, [prompt], most)


# Files


def test_positions_that_a_file_stores(tmp_path):
    whole = build("pegasus")
    arrays, config = arrays_of(whole, tmp_path)
    name = "model.decoder.embed_positions.weight"
    assert name not in arrays
    table = np.array(SinusoidalPositions(64, 32).embeddings)
    for stored in (
        table[:40],
        table,  # of more positions
        table[:9],
        table[:40].astype("float16"),
        table[:40].astype(ml_dtypes.bfloat16),
    ):
        build_transformer_model(config, {**arrays, name: stored})
    ids = np.array([[5, 6, 7]])
    expected = outputs_of(whole.model, [ids, ids])[-1]
    interleaved = np.stack([table[:40, :16], table[:40, 16:]], axis=-1).reshape(40, 32)
    damaged = table[:40] + 1e-4 * (np.arange(40) == 7)[:, None]
    for stored in (interleaved, damaged, table[:40, :30], table[0], table[:40] * np.nan):
        with pytest.raises(
            CheckpointError, match=r"decoder\.embed_positions\.weight': differs from"
        ):
            build_transformer_model(config, {**arrays, name: stored})
        with pytest.warns(UserWarning, match="differs from the sines and cosines"):
            model = build_transformer_model(
                config, {**arrays, name: stored}, with_lm="linear", ignore_invalid_weights=True
            )
        np.testing.assert_allclose(outputs_of(model, [ids, ids])[-1], expected, atol=1e-5)
    with pytest.raises(CheckpointError, match=r"dtype int32; expected floating point numbers"):
        build_transformer_model(config, {**arrays, name: table.astype("int32")})


@FAMILIES
def test_a_file_without_a_bias_of_the_logits(family, tmp_path):
    whole = build(family)
    arrays, config = arrays_of(whole, tmp_path)
    assert np.abs(arrays.pop("final_logits_bias")).max() > 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = loaded(config, checkpoint_path=arrays)
        whole.load_checkpoint(arrays)  # which has another one
    for transformer in (model, whole):
        bias = ops.convert_to_numpy(transformer.variables["lm_bias/beta"])
        np.testing.assert_array_equal(bias, np.zeros(60))
    arrays.pop("model.decoder.layers.1.fc1.bias")  # all others are needed
    with pytest.raises(CheckpointError, match=r"- model.decoder.layers.1.fc1.bias"):
        loaded(config, checkpoint_path=arrays)


LEFTOVERS = {
    "normalize_before": (False, True),
    "add_final_layer_norm": (False, True),
    "normalize_embedding": (True, False),
    "static_position_embeddings": (False, True),
    "add_bias_logits": (False, False),
}


@pytest.mark.once
@FAMILIES
@pytest.mark.parametrize("key", LEFTOVERS)
def test_keys_of_other_families(family, key, tmp_path):
    value = LEFTOVERS[key][family == "pegasus"]
    path = tmp_path / "config.json"
    for same in (value, None):
        path.write_text(json.dumps({"model_type": family, key: same, **CONFIG}))
        build_transformer_model(path)
    path.write_text(json.dumps({"model_type": family, key: not value, **CONFIG}))
    message = rf"config\.json: {key} is {not value}; expected {value}, as in every {family}\."
    with pytest.raises(ValueError, match=message):
        build_transformer_model(path)


@pytest.mark.once
@pytest.mark.parametrize(
    "model_type", ["mbart", "m2m_100", "marian", "blenderbot", "bigbird_pegasus"]
)
def test_other_families_with_the_same_names(model_type, tmp_path):
    arrays, _ = arrays_of(build("bart"), tmp_path / "bart")
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": model_type, **CONFIG}))
    for checkpoint in (None, arrays):
        with pytest.raises(ValueError, match=f"model_type is '{model_type}'; expected bart"):
            build_transformer_model(path, checkpoint)


@pytest.mark.once
@FAMILIES
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"encoder_layers": 0}, "encoder_layers is 0; expected an integer from 1 to"),
        ({"decoder_layers": 0}, "decoder_layers is 0; expected an integer from 1 to"),
        (
            {"encoder_attention_heads": 3},
            "hidden_size=8 is not a multiple of num_attention_heads=3",
        ),
        (
            {"decoder_attention_heads": 3},
            "num_decoder_attention_heads=3: expected a divisor of hidden_size=8",
        ),
        ({"decoder_ffn_dim": 0}, "decoder_ffn_dim is 0; expected an integer from 1"),
        (
            {"max_position_embeddings": 0},
            "max_position_embeddings is 0; expected an integer from 1",
        ),
        (
            {"decoder_start_token_id": -1},
            "decoder_start_token_id is -1; expected an integer from 0",
        ),
        ({"decoder_start_token_id": 40}, "decoder_start_id=40: expected an id of the vocabulary"),
        ({"forced_bos_token_id": 2.5}, r"forced_bos_token_id is 2\.5; expected an integer"),
        ({"forced_bos_token_id": 99}, "forced_start_id=99: expected an id of the vocabulary"),
        ({"forced_eos_token_id": [2]}, r"forced_eos_token_id is \[2\]; expected an integer"),
        ({"forced_eos_token_id": 40}, "forced_end_id=40: expected an id of the vocabulary"),
        ({"pad_token_id": 40}, "pad_token_id=40: expected an id of the vocabulary"),
    ],
)
def test_impossible_configs(family, wrong, message, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": family, **CONFIG, **wrong}))
    with pytest.raises(ValueError, match=rf"config\.json: {message}"):
        build_transformer_model(path)


# CPT, whose configs have the model_type of BART


PUBLISHED = {**CONFIG, "model_type": "bart", "encoder_layers": 2}


def renamed(config, **values):
    """Rewrites a config file with other values."""
    config.write_text(json.dumps(json.loads(config.read_text()) | values))


@pytest.mark.once
@pytest.mark.parametrize("architectures", [["CPTForConditionalGeneration"], None, ["BartModel"]])
def test_cpt_and_bart_are_told_by_their_weights(architectures, tmp_path):
    for family in ("cpt", "bart"):
        arrays, config = arrays_of(build(family), tmp_path / family)
        renamed(config, architectures=architectures)
        if family == "bart" and architectures == ["CPTForConditionalGeneration"]:
            with pytest.raises(CheckpointError, match="does not match the model"):
                loaded(config, checkpoint_path=arrays)
            continue
        assert loaded(config, checkpoint_path=arrays).config.family == family
        halves = {half: [n for n in arrays if half not in n] for half in ("encoder.", "decoder.")}
        for absent, stack in (("encoder.", "decoder"), ("decoder.", "encoder")):
            half = {name: arrays[name] for name in halves[absent] if "encoder_attn" not in name}
            half |= {name: arrays[name] for name in arrays if stack + "." in name}
            if family == "cpt" and architectures != ["CPTForConditionalGeneration"]:
                continue  # of a half, the classes tell alone
            config_of_half = loaded(config, checkpoint_path=half).config
            assert (config_of_half.family, config_of_half.stacks) == (family, stack)


@pytest.mark.once
def test_classes_of_cpt_in_a_config_alone():
    for name in ("CPTModel", "CPTForMaskedLM", "CPTForConditionalGeneration"):
        assert loaded(PUBLISHED | {"architectures": [name]}).config.family == "cpt"
    for name in ("BartModel", "CPTX", "XCPTModel"):
        assert loaded(PUBLISHED | {"architectures": [name]}).config.family == "bart"
    with pytest.raises(ValueError, match="model_type is 'cpt', but model='bart' was passed"):
        loaded(PUBLISHED | {"architectures": ["CPTModel"]}, model="bart")


@pytest.mark.once
@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [("activation_function", "relu", "'gelu'"), ("scale_embedding", True, "False")],
)
def test_keys_that_cpt_reads_for_its_decoder_alone(key, value, expected, tmp_path):
    arrays, config = arrays_of(build("cpt"), tmp_path)
    renamed(config, **{key: value, "architectures": ["BartForConditionalGeneration"]})
    message = rf"{key} is .*about the decoder alone; expected {expected}, as its encoder has it"
    with pytest.raises(ValueError, match=message):
        loaded(config, checkpoint_path=arrays)


def test_the_blocks_beside_a_decoder():
    """They are in the model, and neither change its outputs nor are trained."""
    whole = build("cpt", num_hidden_layers=3, num_decoder_layers=2)
    ids = [np.array([[5, 6, 7]]), np.array([[2, 9]])]
    before = outputs_of(whole.model, ids)[-1]
    trained = {variable.path.split("/")[0] for variable in whole.model.trainable_variables}
    for i, is_read in enumerate((True, False, False)):
        name = f"encoder_block_{i}"
        assert (name in trained) is is_read
        variable = whole.variables[f"{name}/ffn/output/kernel"]
        old = ops.convert_to_numpy(variable)
        variable.assign(old + 1)
        assert np.allclose(outputs_of(whole.model, ids)[-1], before, atol=1e-5) is not is_read
        variable.assign(old)
    encoder = build("cpt_encoder", num_hidden_layers=3, num_decoder_layers=2)
    assert all(block.trainable for block in encoder.layers.values())
    shared = build_like(whole, encoder.layers)
    assert all(shared.layers[f"encoder_block_{i}"].trainable for i in range(3))


def build_like(transformer, layers):
    """A `Transformer` of the same config, with layers of another one."""
    return type(transformer)(transformer.config, layers=layers)


@pytest.mark.once
@pytest.mark.parametrize(
    ("family", "wrong", "message"),
    [
        (
            "cpt",
            {"num_decoder_layers": 3},
            "parallel_decoder=True .* as many blocks as the decoder",
        ),
        ("cpt", {"share_blocks": True}, "parallel_decoder=True .* do not share weights"),
        ("cpt", {"fixed_segment": 2}, "fixed_segment=2: expected less than segment_vocab_size=2"),
        ("bert", {"parallel_decoder": True}, "parallel_decoder=True: bert has no decoder"),
        ("bert", {"decoder_norm_epsilon": 1e-5}, "decoder_norm_epsilon=1e-05: bert has no decoder"),
        ("bert", {"fixed_segment": 1, "application": "unilm"}, "got 2 and fixed_segment=1"),
    ],
)
def test_impossible_fields(family, wrong, message):
    with pytest.raises(ValueError, match=message):
        build(family, **wrong)


def test_a_fixed_segment_is_no_input():
    free, fixed = build("bert"), build("bert", fixed_segment=1)
    (tokens,) = fixed.inputs
    assert tokens.name == "token_ids"
    ids = np.array([[5, 6, 7]])
    for expected, output in zip(
        outputs_of(free.model, [ids, np.ones_like(ids)]),
        outputs_of(fixed.model, [ids]),
        strict=True,
    ):
        np.testing.assert_allclose(output, expected, atol=1e-5)
