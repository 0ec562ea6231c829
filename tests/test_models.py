"""The BERT graph against bert4keras 0.11.5 and transformers, and what can be done with it."""

import errno
import functools
import inspect
import json
import os
import warnings
from typing import get_args

import keras
import numpy as np
import pytest
from goldens.recipes import FOLDER, load_cases
from running import long_but, outputs_of

from bert4keras_lite import mappings, models, weights_io
from bert4keras_lite.checkpoints import CheckpointError, open_checkpoint
from bert4keras_lite.configs import published
from bert4keras_lite.configs.config import CHOICES, SOURCE_KEYS
from bert4keras_lite.files import COMMITTED
from bert4keras_lite.layers.base import get_activation
from bert4keras_lite.layers.blocks import ATTENTIONS, NORM_SLOTS
from bert4keras_lite.layers.normalization import NORMS
from bert4keras_lite.models import Config, Transformer, build_transformer_model
from bert4keras_lite.tokenizers import load_tokenizer, load_vocab

CASES = {case.name: case for case in load_cases()}
COMPILED = ("encoder", "nsp_mlm", "unilm", "layer_norm_cond", "hf_pretraining")
TINY = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 56,
    "max_position": 24,
}


@pytest.fixture
def build(tmp_path):
    """Makes the `Transformer` of a golden case."""

    def build(case, **more):
        options = case.options | more
        if case.condition_size:
            condition = keras.Input((case.condition_size,), name="condition")
            options |= {"layer_norm_cond": condition, "additional_input_layers": condition}
        if case.checkpoint:
            paths = (FOLDER / case.checkpoint, None)
        else:
            paths = (tmp_path / "case_config.json", case.weights)
            paths[0].write_text(json.dumps(case.config))
        return build_transformer_model(*paths, return_keras_model=False, **options)

    return build


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:.*left unused")
def test_same_numbers_as_the_reference(name, build):
    case = CASES[name]
    transformer = build(case)
    for inputs, expected in zip(case.inputs, case.outputs, strict=True):
        outputs = outputs_of(transformer.model, inputs, compiled=name in COMPILED)
        assert len(outputs) == len(expected)
        for output, golden in zip(outputs, expected, strict=True):
            assert output.shape == golden.shape
            np.testing.assert_allclose(output, golden, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if any(case.hidden_states)])
@pytest.mark.filterwarnings("ignore:.*left unused")
def test_hidden_states_of_every_block(name, build):
    case = CASES[name]
    transformer = build(case)
    model = keras.Model(transformer.inputs, transformer.hidden_states)
    for inputs, expected in zip(case.inputs, case.hidden_states, strict=True):
        states = outputs_of(model, inputs)
        assert len(states) == case.config["num_hidden_layers"]
        for state, golden in zip(states, expected[1:], strict=True):
            np.testing.assert_allclose(state, golden, rtol=0, atol=1e-5)


# the names that weights had in a checkpoint are not in a Keras file
@pytest.mark.once
@pytest.mark.parametrize(
    "name",
    long_but(
        ["layer_norm_cond_hidden", "embedding_size", "residual_attention_scores"],
        [name for name in CASES if not name.startswith("hf_")],
    ),
)
@pytest.mark.filterwarnings("ignore:.*left unused")
def test_keras_file_round_trip(name, build, tmp_path):
    case = CASES[name]
    model = build(case).model
    model.save(tmp_path / "once.keras")
    keras.saving.load_model(tmp_path / "once.keras").save(tmp_path / "twice.keras")
    reloaded = keras.saving.load_model(tmp_path / "twice.keras")
    for output, golden in zip(
        outputs_of(reloaded, case.inputs[0]), outputs_of(model, case.inputs[0]), strict=True
    ):
        np.testing.assert_array_equal(output, golden)


@pytest.mark.parametrize("application", ["encoder", "lm", "unilm"])
def test_half_precision_stays_finite(application):
    """Also in a row of padding alone. (The mixed precisions: in test_families.)"""
    keras.config.set_dtype_policy("float16")
    try:
        model = build_transformer_model(
            **TINY, with_mlm=True, with_pool=True, application=application
        )
    finally:
        keras.config.set_dtype_policy("float32")
    ids = np.random.RandomState(0).randint(1, 60, (4, 9))
    ids[1, 4:] = 0
    ids[2] = 0  # nothing but padding
    segments = np.repeat([[0] * 4 + [1] * 5], 4, axis=0)
    pooled, probabilities = outputs_of(model, [ids, segments])
    assert np.isfinite(pooled).all()
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-3)


def test_half_precision_is_near_single_precision(build):
    case = CASES["encoder"]
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build(case).model
    finally:
        keras.config.set_dtype_policy("float32")
    output = outputs_of(model, case.inputs[0])[0].astype("float32")
    golden = case.outputs[0][0]
    assert np.abs(output - golden).mean() < 0.03 * np.abs(golden).mean()


@pytest.mark.once
@pytest.mark.parametrize("format", ["tf", "hf"])
@pytest.mark.parametrize("name", ["nsp_mlm", "hf_pretraining", "gelu_tanh"])
def test_saved_checkpoint_is_bit_equal(format, name, build, tmp_path):
    case = CASES[name]
    transformer = build(case)
    transformer.save_checkpoint(tmp_path / "saved", format=format, vocab={"[PAD]": 0, "a": 1})
    again = build_transformer_model(tmp_path / "saved", return_keras_model=False, **case.options)
    written, read = vars(transformer.config), vars(again.config)
    assert get_activation(written["hidden_act"]) is get_activation(read["hidden_act"])
    assert read == written | {"hidden_act": read["hidden_act"]}
    for path, variable in transformer.variables.items():
        np.testing.assert_array_equal(variable.numpy(), again.variables[path].numpy())
    # the weights are the model's own: training leaves the file alone
    again.model.compile("sgd", "mse", run_eagerly=True)
    outputs = again.model.outputs
    again.model.train_on_batch(
        list(case.inputs[0]), [np.ones(y.shape) for y in outputs_of(again.model, case.inputs[0])]
    )
    assert outputs and not np.array_equal(
        again.variables["token_embedding/embeddings"].numpy(),
        transformer.variables["token_embedding/embeddings"].numpy(),
    )
    reread = open_checkpoint(tmp_path / "saved")
    for array in reread:
        assert np.isfinite(reread[array]).all()
    assert (tmp_path / "saved/vocab.txt").read_text() == "[PAD]\na\n"


@pytest.mark.parametrize("format", ["tf", "hf", "keras"])
@pytest.mark.parametrize(("family", "pad"), [("bert", 3), ("bert", -1), ("gpt2", 0), ("gpt2", -1)])
def test_the_padding_id_is_saved(family, pad, format, tmp_path):
    sizes = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 32, "max_position": 8, "return_keras_model": False}
    build_transformer_model(model=family, pad_token_id=pad, **sizes).save_checkpoint(
        tmp_path, format
    )
    loaded = build_transformer_model(tmp_path, return_keras_model=False)
    assert loaded.config.pad_token_id == pad


@pytest.mark.once
def test_a_vocabulary_whose_padding_is_another_id_is_told(tmp_path):
    sizes = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 32, "max_position": 8, "return_keras_model": False}
    build_transformer_model(**sizes).save_checkpoint(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"a\r\nb\r\n[PAD]\r\nc\r\n")
    with pytest.warns(
        UserWarning, match=r"vocab\.txt.*\[PAD\] has the id 2, but the model masks 0"
    ):
        build_transformer_model(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_transformer_model(tmp_path, pad_token_id=2)
        build_transformer_model(tmp_path, pad_token_id=-1)


def test_padding_moves_with_the_rows_that_are_kept(tmp_path):
    transformer = build_transformer_model(**TINY | {"vocab_size": 8}, return_keras_model=False)
    vocab = {token: i for i, token in enumerate(["[PAD]", *"abcdefg"])}
    transformer.save_checkpoint(tmp_path, vocab=vocab)

    def padding(keep, **options):
        options |= {"keep_tokens": keep, "return_keras_model": False}
        return build_transformer_model(tmp_path, **options).config.pad_token_id

    keep = np.array([2, 3, 0, 4])
    with pytest.warns(UserWarning, match="makes row 0, the padding, row 2: .* pad_token_id=2"):
        model = build_transformer_model(tmp_path, keep_tokens=keep)
    whole, ids = build_transformer_model(tmp_path), np.array([[3, 2, 4, 0, 0]])
    moved = np.array([[1, 0, 3, 2, 2]])  # of which row 0 is a token
    found, expected = (
        m.predict([x, 0 * x], verbose=0)[:, :3] for m, x in ((model, moved), (whole, ids))
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.warns(UserWarning, match="leaves out row 0, the padding"):
        assert padding([1, 2, 3]) == -1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert padding([0, 2, 1]) == 0
        assert (padding(keep, pad_token_id=2), padding(keep, pad_token_id=-1)) == (2, -1)
        # where the file of the tokenizer, not the config, tells what padding is
        (tmp_path / "vocab.txt").write_text("a\nb\n[PAD]\nc\n")
        assert padding([2, 0, 1]) == 0


def test_roberta_counts_from_2_wherever_its_padding_is(tmp_path):
    transformer = build_transformer_model(**TINY, model="xlm_roberta", return_keras_model=False)
    assert [x.name for x in transformer.inputs] == ["token_ids"]  # one segment is no choice
    assert transformer.config.most_tokens == 22
    transformer.model(np.full((1, 22), 5))
    with pytest.raises(ValueError, match=r"23 tokens.*22 positions"):
        transformer.model(np.full((1, 23), 5))
    ids = np.array([[0, 5, 6, 1, 1], [0, 7, 2, 8, 9]])
    transformer.save_checkpoint(tmp_path, "hf")
    with pytest.warns(UserWarning, match="makes row 1, the padding, row 0"):
        moved = build_transformer_model(
            tmp_path, keep_tokens=[1, 0, *range(2, 12)], return_keras_model=False
        )
    swapped = np.where(ids < 2, 1 - ids, ids)
    (expected,), (y,) = outputs_of(transformer.model, [ids]), outputs_of(moved.model, [swapped])
    np.testing.assert_allclose(y, expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"from pad_token_id \+ 1; expected pad_token_id=1, got 0"):
        moved.save_checkpoint(tmp_path / "b", "hf")
    with pytest.raises(CheckpointError, match="format"):
        moved.save_checkpoint(tmp_path / "b", "tf")


@pytest.mark.once
@pytest.mark.parametrize(
    "options",
    [
        {"hierarchical_position": True},
        {"pad_token_id": -1},
        {"first_position": 24},
        {"position": "rotary"},
    ],
    ids=str,
)
def test_positions_of_roberta_need_a_table_and_a_padding_id(options):
    with pytest.raises(ValueError, match="is for learned positions of one stack, without"):
        build_transformer_model(**TINY, model="xlm_roberta", **options)


def test_a_padding_id_beyond_the_vocabulary():
    with pytest.raises(ValueError, match=r"pad_token_id=20: expected an id .* at most 19, or -1"):
        Config(20, 8, 1, 2, 32, pad_token_id=20)


@pytest.mark.parametrize("format", ["tf", "hf", "keras"])
def test_a_save_that_fails_changes_nothing(format, tmp_path, monkeypatch):
    """Wrong arguments, and a disk that is full at the last file."""
    transformer = build_transformer_model(**TINY, return_keras_model=False)
    vocabulary = {"[PAD]": 0, "a": 1}
    for wrong, error, told in [
        (
            "vocab.txt",
            TypeError,
            "vocab: expected a dict token -> id or a Tokenizer, got 'vocab.txt'",
        ),
        (["[PAD]"], TypeError, "vocab: expected"),
        ({"[PAD]": "0"}, TypeError, "vocab: expected"),
        ({"a b": 0}, ValueError, "vocab: 'a b' contains white space"),
        ({"a": 0, "b": 0}, ValueError, "vocab gives id 0 to both"),
        ({"a": 60}, ValueError, "vocab: has 61 tokens; expected at most 60"),
    ]:
        with pytest.raises(error, match=told):
            transformer.save_checkpoint(tmp_path / "new", format, vocab=wrong)
    with pytest.raises(ValueError, match="format='onnx'"):
        transformer.save_checkpoint(tmp_path / "new", "onnx", vocab=vocabulary)
    assert not (tmp_path / "new").exists()
    transformer.save_checkpoint(tmp_path / "old", format, vocab=vocabulary)
    before = {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()}

    def full(path, text):
        path.write_text(text[:1])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(weights_io, "write_text", full)
    for name in ("old", "new"):
        with pytest.raises(
            CheckpointError, match=rf"{name}.vocab\.txt: .*: No space left"
        ) as raised:
            transformer.save_checkpoint(tmp_path / name, format, vocab={"[PAD]": 1})
        assert ".saving" not in str(raised.value)
    assert {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()} == before
    assert not (tmp_path / "new").exists()


@pytest.mark.once
def test_a_model_and_its_vocabulary_are_one_save(tmp_path, monkeypatch):
    """Killed between two names: who reads next gets all of the new save."""
    transformer = build_transformer_model(**TINY, return_keras_model=False)
    larger = build_transformer_model(**TINY | {"vocab_size": 70}, return_keras_model=False)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {token: i for i, token in enumerate(special + [f"t{i}" for i in range(66)])}
    small = {token: i for token, i in vocabulary.items() if i < 60}
    for readable in (open_checkpoint, build_transformer_model, load_tokenizer):
        transformer.save_checkpoint(tmp_path, "hf", vocab=small)
        moves = [0]

        def replace(source, target, moves=moves, move=os.replace, **held):
            there = os.fstat(held["dst_dir_fd"])
            moves[0] += os.path.samestat(there, os.stat(tmp_path))
            if moves[0] == 2:
                raise KeyboardInterrupt
            move(source, target, **held)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, "replace", replace)
            larger.save_checkpoint(tmp_path, "hf", vocab=vocabulary)
        assert (tmp_path / COMMITTED).exists()
        readable(tmp_path)
        assert not (tmp_path / COMMITTED).exists()
        assert open_checkpoint(tmp_path).shape("bert.embeddings.word_embeddings.weight") == (70, 32)
        assert load_vocab(tmp_path / "vocab.txt") == vocabulary


def test_conditional_weights_survive_a_checkpoint(build, tmp_path):
    case = CASES["layer_norm_cond_hidden"]
    transformer = build(case)
    transformer.save_checkpoint(tmp_path)
    names = set(open_checkpoint(tmp_path))
    assert "bert/embeddings/LayerNorm/gamma_dense/kernel" in names


def test_same_names_as_google(tmp_path):
    transformer = build_transformer_model(
        **TINY, with_nsp=True, with_mlm=True, return_keras_model=False
    )
    transformer.save_checkpoint(tmp_path)
    published = {n for n in CASES["nsp_mlm"].weights if "/layer_2/" not in n}
    assert set(open_checkpoint(tmp_path)) == published


def test_a_directory_is_enough():
    model = build_transformer_model(FOLDER / "bert/hf_tiny_safetensors")
    assert model.output_shape == (None, None, model.get_layer("embedding_norm").gamma.shape[0])


def test_dropout_only_in_training():
    model = build_transformer_model(**TINY, dropout_rate=0.3, attention_dropout_rate=0.3)
    ids = np.ones((2, 7), "int32")
    first, second, again = (
        keras.ops.convert_to_numpy(model([ids, ids * 0], training=t)) for t in (False, True, False)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - second).max() > 0.01


def test_every_weight_is_trained_beside_residual_scores():
    """One step moves every variable that the output depends on. (The families: test_families.)"""
    model = build_transformer_model(**TINY, with_nsp="linear", residual_attention_scores=True)
    model.compile("sgd", "mse", run_eagerly=True)  # a single step
    before = [np.array(w) for w in model.trainable_weights]
    ids = np.random.RandomState(0).randint(1, 60, (4, 8))
    targets = [np.ones(y.shape) for y in outputs_of(model, [ids, ids % 2])]
    model.train_on_batch([ids, ids % 2], targets if len(targets) > 1 else targets[0])
    for weight, old in zip(model.trainable_weights, before, strict=True):
        if "key/bias" not in weight.path:  # softmax does not see it
            assert not np.array_equal(np.array(weight), old), weight.path


def test_unilm_source_sees_all_of_itself():
    model = build_transformer_model(**TINY, application="unilm", with_mlm="linear")
    ids = np.random.RandomState(0).randint(1, 60, (1, 10))
    segments = np.array([[0] * 4 + [1] * 6])
    changed = ids.copy()
    changed[0, 3] = 1 + changed[0, 3] % 58
    difference = np.subtract(*(outputs_of(model, [i, segments])[0] for i in (ids, changed)))
    assert (np.abs(difference[0]).max(-1) > 1e-5).all()


def test_keras_mask_reaches_what_stands_on_top():
    model = build_transformer_model(**TINY)
    pooled = keras.layers.GlobalAveragePooling1D()(model.output)
    model = keras.Model(model.inputs, [model.output, pooled])
    ids = np.array([[5, 6, 7, 0, 0], [1, 2, 3, 4, 5]])
    states, pooled = outputs_of(model, [ids, ids * 0])
    np.testing.assert_allclose(pooled[0], states[0, :3].mean(0), atol=1e-6)


def test_layers_shared_between_two_models():
    encoder = build_transformer_model(**TINY, return_keras_model=False)
    writer = build_transformer_model(**TINY, application="lm", layers=encoder.layers)
    names = {layer.name for layer in encoder.model.layers if layer.weights}
    shared = [layer for layer in writer.layers if layer.name in names]
    assert len(shared) == len(names)
    assert all(encoder.layers[layer.name] is layer for layer in shared)
    # what has no weights is each model's own: the writer sees nothing of what follows
    ids = np.array([[5, 6, 7, 8], [5, 6, 7, 9]])
    now, other = np.asarray(writer.predict_on_batch([ids, ids * 0]))[:, :3]
    np.testing.assert_array_equal(now, other)
    now, other = np.asarray(encoder.model.predict_on_batch([ids, ids * 0]))[:, :3]
    assert abs(now - other).max() > 1e-4


@pytest.mark.parametrize(
    "options",
    [
        {"hidden_act": functools.partial(keras.activations.gelu, approximate=True)},
        {"hidden_act": keras.layers.LeakyReLU(0.3)},
    ],
)
def test_activations_without_a_name(options):
    with pytest.raises(ValueError, match=r"hidden_act is .*; expected a name or a function"):
        build_transformer_model(**TINY | options)


def test_numbers_of_numpy_in_options(tmp_path):
    sizes = {name: np.int64(value) for name, value in TINY.items() if type(value) is int}
    options = TINY | sizes | {"norm_epsilon": np.float32(1e-6)}
    transformer = build_transformer_model(**options, return_keras_model=False)
    transformer.save_checkpoint(tmp_path)
    assert build_transformer_model(tmp_path).output_shape == transformer.model.output_shape


def test_two_models_in_one_graph():
    first = build_transformer_model(**TINY, prefix="first_")
    second = build_transformer_model(**TINY, prefix="second_")
    both = keras.Model(
        first.inputs + second.inputs, keras.layers.Add()([first.output, second.output])
    )
    ids = np.ones((1, 4))
    assert outputs_of(both, [ids, ids * 0] * 2)[0].shape == (1, 4, 32)


def test_a_subclass_as_model():
    class WithoutPositions(Transformer):
        def embed(self, token_ids, segment_ids=None, position_ids=None):
            super().embed(token_ids, segment_ids)
            return self.normalize("embedding_norm", self.layers["token_embedding"](token_ids))

    model = build_transformer_model(**TINY, model=WithoutPositions)
    ids = np.array([[1, 2, 3, 4]])
    forward, backward = (
        outputs_of(model, [i, i * 0])[0] for i in (ids, np.ascontiguousarray(ids[:, ::-1]))
    )
    np.testing.assert_allclose(forward, backward[:, ::-1], atol=1e-6)


def test_a_config_as_model():
    config = Config(**TINY, with_pool=True)
    assert build_transformer_model(model=config).output_shape == (None, 32)


def test_random_start_is_random_and_loading_is_not():
    fresh = build_transformer_model(**TINY, return_keras_model=False).variables
    kernel = fresh["block_1/ffn/input/kernel"].numpy()
    assert 0.015 < kernel.std() < 0.025 and np.abs(kernel).max() <= 0.0401


# ---------------------------------------------------------------- what can go wrong


def test_missing_weights_are_listed_and_nothing_is_assigned():
    case = CASES["encoder"]
    weights = {k: v for k, v in case.weights.items() if "layer_1/output" not in k}
    transformer = build_transformer_model(**case.config, return_keras_model=False)
    before = {path: v.numpy() for path, v in transformer.variables.items()}
    with pytest.raises(CheckpointError, match=r"- bert/encoder/layer_1/output/dense/kernel"):
        transformer.load_checkpoint(weights)
    for path, variable in transformer.variables.items():
        np.testing.assert_array_equal(before[path], variable.numpy())


def test_another_shape_is_named():
    case = CASES["encoder"]
    with pytest.raises(CheckpointError, match=r"! .*word_embeddings: \(60, 32\).*\(61, 32\)"):
        build_transformer_model(None, case.weights, **(case.config | {"vocab_size": 61}))


def test_more_blocks_than_the_config_says():
    case = CASES["encoder"]
    config = {k: v for k, v in case.config.items() if k != "num_hidden_layers"}
    with pytest.raises(CheckpointError, match="num_hidden_layers=2"):
        build_transformer_model(None, case.weights, **config, num_hidden_layers=2)


def test_left_over_weights_are_a_warning():
    case = CASES["encoder"]
    extra = case.weights | {"classifier/kernel": np.ones((2, 2)), "global_step": np.array(1)}
    with pytest.warns(UserWarning, match=r"left unused.*classifier/kernel") as caught:
        build_transformer_model(None, extra, **case.config)
    assert "global_step" not in str(caught[0].message)


def test_ignore_invalid_weights():
    case = CASES["encoder"]
    weights = {k: v for k, v in case.weights.items() if "layer_1/output/dense" not in k}
    with pytest.warns(UserWarning, match=r"ignored, as requested"):
        transformer = build_transformer_model(
            None, weights, ignore_invalid_weights=True, return_keras_model=False, **case.config
        )
    kernel = transformer.variables["block_1/ffn/output/kernel"].numpy()
    assert 0.01 < kernel.std() < 0.03  # drawn, not left at zero
    table = transformer.variables["token_embedding/embeddings"].numpy()
    np.testing.assert_array_equal(table, weights["bert/embeddings/word_embeddings"])


@pytest.mark.parametrize(
    ("names", "family"),
    [
        (["electra/embeddings/word_embeddings"], "electra"),
        (["albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.weight"], "albert"),
        (["shared/embedding", "encoder/block_000/layer_000/SelfAttention/q"], "t5.1.0"),
    ],
)
def test_the_family_of_a_foreign_checkpoint_is_named(names, family):
    with pytest.raises(CheckpointError, match=f"model='{family}'"):
        build_transformer_model(None, {n: np.ones((2, 2)) for n in names}, model="bert", **TINY)


def test_unknown_option_suggests_the_nearest():
    with pytest.raises(TypeError, match=r"with_mlmm.*did you mean 'with_mlm'"):
        build_transformer_model(**TINY, with_mlmm=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected JSON"),
        ("[]", "expected a JSON object"),
        ('{"hidden_size": 32}', "no vocab_size, num_hidden_layers"),
        ('{"model_type": "mbart"}', "model_type is 'mbart'"),
        ('{"num_hidden_groups": 2}', "num_hidden_groups is 2"),
        ('{"use_alibi": true}', "the key 'use_alibi'.*is unknown"),
        ('{"position_embedding_type": "relative_key"}', "position_embedding_type"),
        (
            json.dumps(TINY | {"norm": "layernorm"}),
            "norm is 'layernorm'; expected one of layer, rms",
        ),
        (json.dumps(TINY | {"attention": "sdpa"}), "attention is 'sdpa'; expected one of full"),
        (json.dumps(TINY | {"hidden_size": "32"}), "hidden_size is '32'; expected an integer"),
        (json.dumps(TINY | {"use_bias": "no"}), "use_bias is 'no'; expected True or False"),
        (json.dumps(TINY | {"dropout_rate": "0.1"}), "dropout_rate is '0.1'; expected a number"),
        (
            json.dumps(TINY | {"hidden_act": "nope"}),
            "hidden_act is 'nope'; expected the name of an",
        ),
        (json.dumps(TINY | {"with_nsp": "nope"}), "with_nsp is 'nope'; expected the name of an"),
        (json.dumps(TINY | {"feed_forward_proj": "gated-"}), "feed_forward_proj is 'gated-'; exp"),
        (json.dumps(TINY | {"hidden_act": "leaky_relu"}), "'leaky_relu', whose slope is 0.2 in"),
        *(
            (
                json.dumps({"hidden_act": "gelu_new", "feed_forward_proj": "gated-gelu"} | change),
                f"{key} is .*, which means .* expected the same",
            )
            for change, key in (
                ({"hidden_act": "relu"}, "feed_forward_proj"),
                ({"feed_forward": "gated-relu"}, "feed_forward"),
                ({"dense_act_fn": "relu"}, "dense_act_fn"),
                ({"is_gated_act": False}, "is_gated_act"),
            )
        ),
        (json.dumps(TINY | {"hidden_dropout_prob": 2}), "hidden_dropout_prob is 2; .* from 0 to 1"),
        (json.dumps({"n_layer": 2000}), "n_layer is 2000; expected an integer from 1 to 128"),
        (
            json.dumps({"num_decoder_layers": 129}),
            "layers is 129; expected an integer from 1 to 128",
        ),
        (json.dumps(TINY | {"layer_norm_eps": 10**400}), r"layer_norm_eps is 10+; .* to 1e\+30"),
        (json.dumps(TINY | {"initializer_range": float("nan")}), "initializer_range is nan"),
        (json.dumps(TINY | {"hidden_act": "glu"}), "hidden_act is 'glu'; .* that keeps the shape"),
        (
            json.dumps(TINY | {"hidden_act": "threshold"}),
            "hidden_act is 'threshold'; .* that keeps the shape",
        ),
        (
            json.dumps(TINY | {"hierarchical_position": 1.0}),
            "hierarchical_position is 1.0; .* 0.999",
        ),
        (json.dumps(TINY | {"rotary_base": 0}), "rotary_base is 0; expected a number from 1"),
        (
            json.dumps(TINY | {"model_type": "nezha", "max_relative_position": 2**31 - 1}),
            "max_relative_position is 2147483647; expected an integer from 1 to 65536",
        ),
        (
            json.dumps(TINY | {"model_type": "t5", "relative_attention_num_buckets": 3}),
            "relative_attention_num_buckets is 3; expected an integer from 4",
        ),
        (
            json.dumps(TINY | {"model_type": "t5", "relative_attention_max_distance": 16}),
            "relative_max_distance=16: .* expected more than 16",
        ),
        *(
            (
                json.dumps(TINY | {"model_type": model, "attention_head_size": 3} | more),
                "expected an even head size, got 3",
            )
            for model, more in (
                ("roformer", {}),
                ("nezha", {}),
                ("gau_alpha", {"attention_key_size": 3}),
            )
        ),
        (
            json.dumps(TINY | {"model_type": "nezha", "attention_key_size": 2}),
            "attention_key_size=2: this model encodes positions in the values",
        ),
        (
            '{"layer_types": ["chunked_attention"]}',
            "layer_types is .*chunked.*; expected a list of",
        ),
        (
            json.dumps(TINY | {"layer_types": ["full_attention"] * 3}),
            "layer_types has 3 names, and",
        ),
        (json.dumps(TINY | {"layer_types": ["sliding_attention"] * 2}), "expected a window"),
        ('{"global_attn_every_n_layers": 0}', "global_attn_every_n_layers is 0; expected"),
        ('{"local_attention": 1}', "local_attention is 1; expected"),
        (
            json.dumps(TINY | {"num_key_value_heads": 3}),
            "num_key_value_heads=3: expected a divisor",
        ),
        (json.dumps(TINY | {"conv_kernel_size": 4}), "convolution=4: .* an odd kernel size"),
        (json.dumps(TINY | {"rope_theta": 5e5}), "rope_theta is 500000.0, .*no rotary positions"),
        ('{"rope_parameters": {"rope_type": "su"}}', "rope_parameters is {'rope_type': 'su'}"),
        ('{"rope_parameters": 7}', "rope_parameters is 7; expected an object"),
        *(
            (
                json.dumps({"rope_scaling": rope}),
                "expected one type, and no factor without one",
            )
            for rope in ({"factor": 2.0}, {"rope_type": "linear", "type": "ntk", "factor": 2.0})
        ),
        (
            '{"rope_parameters": {"rope_theta": 1e4}, "rope_scaling": {"type": "linear"}}',
            "rope_parameters is {'rope_theta': 10000.0}, and rope_scaling is .*; expected the same",
        ),
        ('{"local_attention": 8, "window": 3}', "local_attention is 8, which means window=4, and"),
        ('{"position_biased_input": true, "position": "none"}', "which means position='learned'"),
        *(
            (
                json.dumps({"rope_parameters": rope}),
                "rope_parameters is .*; expected an object with",
            )
            for rope in (
                {"rope_theta": 1e4, "partial_rotary_factor": 1.5},
                {"rope_theta": "10000"},
                {"type": "longrope", "factor": 2.0},
                {"rope_type": "yarn", "full_attention": {"rope_theta": 1e4}},
                {"full_attention": {"rope_theta": 1e4, "rope_type": "su"}},
            )
        ),
        (
            '{"global_rope_theta": 10000.0, "rope_parameters": {"rope_theta": 2e4}}',
            "rope_theta of rope_parameters is 20000.0, and global_rope_theta is 10000.0; expected",
        ),
        ('{"norm_type": "batch"}', r"norm_type is 'batch'; expected \['layer_norm'"),
        (json.dumps(TINY | {"is_decoder": True}), "is_decoder is true.*expected application='lm'"),
        (json.dumps(TINY | {"mask": "causal"}), "mask is causal.*expected application='lm'"),
        (
            json.dumps(TINY | {"mask": "causal_with_prefix"}),
            "mask is causal_with_prefix, which .* the first text; expected application='unilm'",
        ),
        ('{"encoder": "lstm"}', "encoder is 'lstm'; expected \\["),
        (
            '{"embedding": ["word", "sinusoidalpos"]}',
            "embedding is .*'sinusoidalpos'.*; expected \\[",
        ),
        *(
            (
                json.dumps(TINY | {"model_type": model_type, key: value}),
                f"{key} is {value!r}, and model_type is '{model_type}'; expected",
            )
            for model_type, key, value in (
                ("bert", "norm_type", "rms_norm"),
                ("roformer_v2", "norm_type", "layer_norm"),
                ("nezha", "use_relative_position", False),
                ("roformer", "use_relative_position", True),
            )
        ),
        *(
            (
                json.dumps(TINY | {"pooler_activation": "relu", head: True}),
                "pooler_activation is 'relu'; exp",
            )
            for head in ("with_pool", "with_nsp")
        ),
        ('{"n_embd": 1e400}', "n_embd is inf; expected an integer from 1 to 2147483647"),
        (
            json.dumps(TINY | {f"no_{i}_key": 1 for i in range(201)}),
            "201 keys are unknown, such as 'no_0_key'",
        ),
    ],
)
def test_bad_config_file(content, message, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        build_transformer_model(tmp_path / "config.json")
    assert "config.json" in str(caught.value)


def kinds_of(key):
    """The types of values that a key of a config may have."""
    only = mappings.CONFIG_ONLY.get(key)
    if only is not None:
        return {only} if isinstance(only, type) else {type(choice) for choice in only}
    field = mappings.CONFIG_KEYS.get(key, "max_position" if key == "n_ctx" else key)
    annotation = Config.__dataclass_fields__[field].type
    kinds = {*(get_args(annotation) or [annotation])}
    in_json = {float: int, tuple: list}
    return kinds | {in_json[kind] for kind in kinds & in_json.keys()}


READ_KEYS = {*mappings.CONFIG_KEYS, *mappings.CONFIG_ONLY, *Config.__dataclass_fields__, "n_ctx"}


@pytest.mark.once
@pytest.mark.parametrize("value", ["false", None, [], {}, 1.5, -1, True, [1], {"a": 1}], ids=str)
@pytest.mark.parametrize("model_type", ["bert", "roberta", "ernie", "t5", "mt5", "modernbert"])
def test_every_key_of_a_config_has_a_kind(model_type, value):
    """A value of another kind is an error that names the key; null is as if it were not there."""
    base = {"model_type": model_type, "layer_types": ["full_attention"]}
    not_read = {*base, *mappings.DECODER_IDS}
    not_read |= set() if model_type == "modernbert" else {"pad_token_id"}
    for key in READ_KEYS - not_read:
        try:
            values = published.translate(base | {key: value})
        except ValueError as error:
            assert value is not None and f"the config: {key} is " in str(error)
        else:
            values.pop(SOURCE_KEYS)
            told = {name: values[name] for name in values if values[name] is not None}
            unchanged = told.items() <= published.translate(base).items()
            assert unchanged if value is None else type(value) in kinds_of(key)


def test_no_config_and_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="no bert_config"):
        build_transformer_model(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"missing.json: no such config file"):
        build_transformer_model(tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"application": "unilm", "segment_vocab_size": 0}, "segment_vocab_size of at least 2"),
        ({"application": "unilm", "segment_vocab_size": 1}, "segment_vocab_size of at least 2"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0; expected an integer from 1 to 128"),
        (
            {"model": "t5.1.1", "num_decoder_layers": 0},
            "num_decoder_layers is 0; expected an integer",
        ),
        ({"application": "seq2seq"}, "expected one of encoder, lm, unilm"),
        ({"model": "mbart"}, "expected 'auto', one of bert, roberta"),
        ({"hidden_size": 30}, "not a multiple"),
        ({"hidden_size": True}, "the options: hidden_size is True; expected an integer"),
        ({"with_nsp": []}, r"with_nsp is \[\]; expected True, False, a name or a function"),
        ({"scale_decoder_outputs": "false"}, "is 'false'; expected one of False, True, tied"),
        ({"scale_decoder_outputs": 1}, "is 1; expected one of False, True, tied"),
        ({"num_attention_heads": 0}, "heads is 0; expected an integer from 1 to 2147483647"),
        ({"norm_at": "before"}, "norm_at is 'before'; expected one of post, pre, pre_ffn, gpt2_ml"),
    ],
)
def test_impossible_options(options, error):
    with pytest.raises(ValueError, match=error):
        build_transformer_model(**(TINY | options))


OPTIONS = {*Config.__dataclass_fields__, *models.LOADING_OPTIONS, "with_mlm", "n_embd"}
OPTIONS |= inspect.signature(Transformer.__init__).parameters.keys() - {"self", "config"}
OPTIONS |= inspect.signature(build_transformer_model).parameters.keys() - {"options"}


@pytest.mark.once
@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_every_option_has_a_kind(name):
    same = {"n_embd": "hidden_size"}.get(name, name)
    sizes = {key: value for key, value in TINY.items() if key != same}
    for value in (object(), [["a"]], {1.5}):
        with pytest.raises((ValueError, TypeError), match=rf"\b{name}\b.*expected"):
            build_transformer_model(**(sizes | {name: value}))


def test_an_option_under_two_names():
    with pytest.raises(TypeError, match="hidden_size and n_embd both mean hidden_size"):
        build_transformer_model(**TINY, n_embd=32)


@pytest.mark.parametrize(
    ("compound", "message"),
    [
        (5, "compound_tokens: expected a list of lists, got 5"),
        ([5], "number 0: expected a list of ids"),
        ([[1], ([1, 2], [1])], "number 1: expected 2 weights with a sum other than 0, got"),
        ([([1, 2], [1, -1])], "number 0: expected 2 weights"),
        ([([1, 2], "ab")], "number 0: expected 2 weights"),
    ],
)
def test_compound_tokens_that_are_none(compound, message):
    with pytest.raises(ValueError, match=message):
        build_transformer_model(**TINY, compound_tokens=compound)
    with pytest.raises(ValueError, match="vocab_size is '11'; expected an integer"):
        build_transformer_model(**(TINY | {"vocab_size": "11"}), compound_tokens=[[1]])


def test_choices_are_those_of_the_layers():
    tables = {"norm": NORMS, "norm_at": NORM_SLOTS, "attention": ATTENTIONS}
    assert {name: tuple(table) for name, table in tables.items()}.items() <= CHOICES.items()


def test_too_long_an_input_is_an_error():
    model = build_transformer_model(**TINY)
    ids = np.ones((1, 25), "int32")
    with pytest.raises(Exception, match=r"(?i)25|incompatible|indices"):
        outputs_of(model, [ids, ids])


@pytest.mark.parametrize(
    ("options", "jit"),
    long_but([({}, False)], [({}, False), ({"model": "t5.1.1"}, True), ({"model": "nezha"}, True)]),
)
def test_remat_changes_nothing(options, jit):
    """The same weights after training, dropout included; compiled by XLA where the backend does."""
    jit = jit and keras.backend.backend() != "torch"
    ids = np.random.RandomState(0).randint(1, 30, (4, 8))
    found = []
    for remat in (False, True):
        keras.utils.set_random_seed(0)
        model = build_transformer_model(
            **{"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "with_lm": "linear"},
            **{"num_attention_heads": 2, "intermediate_size": 32, "max_position": 16},
            **{"dropout_rate": 0.3, "attention_dropout_rate": 0.3, "remat": remat},
            **options,
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1), loss, jit_compile=jit)
        model.optimizer.build(model.trainable_variables)
        inputs = [ids, ids] if options.get("model") == "t5.1.1" else [ids, 0 * ids]
        model.fit(inputs, ids, epochs=3, verbose=0, batch_size=2, shuffle=False)
        found.append([keras.ops.convert_to_numpy(v) for v in model.weights])
    for plain, again in zip(*found, strict=True):
        np.testing.assert_allclose(again, plain, atol=1e-6)


@pytest.mark.once
def test_an_adapter_beside_the_weights_is_told(tmp_path):
    sizes = {"vocab_size": 50, "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    sizes |= {"intermediate_size": 16, "max_position": 16}
    built = build_transformer_model(model="bert", return_keras_model=False, **sizes)
    built.save_checkpoint(tmp_path, "hf")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_transformer_model(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2}')
    with pytest.warns(UserWarning, match=r"adapter_config\.json: the adapter .* is not loaded"):
        build_transformer_model(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no bert_config\.json or config\.json"):
        build_transformer_model(tmp_path)


def test_parts_under_their_names_of_version_0_1():
    from bert4keras_lite.models import Transformer

    with pytest.warns(DeprecationWarning, match=r"Old\.heads is called output_heads now"):

        class Old(Transformer):
            def heads(self, x):
                return [2 * y for y in super().heads(x)]

    sizes = {"vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 4, "max_position": 4, "with_pool": True}
    old = build_transformer_model(model=Old, **sizes)
    new = build_transformer_model(**sizes)
    new.set_weights(old.get_weights())
    ids = np.array([[1, 2, 3]])
    twice, once = (model.predict([ids, 0 * ids], verbose=0) for model in (old, new))
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-6)


def test_names_of_version_0_1_in_mixins_and_of_subclasses():
    from bert4keras_lite.models import Transformer

    class Mixin:
        def heads(self, x):
            return ["old", *super().heads(x)]

    class New(Transformer):
        def output_heads(self, x):
            return ["new"]

    with pytest.warns(DeprecationWarning, match=r"Mixin\.heads is called output_heads now"):

        class Both(Mixin, New):
            pass

    both = Both.__new__(Both)
    assert both.output_heads(None) == both.heads(None) == ["old", "new"]
    assert New.heads is New.output_heads
