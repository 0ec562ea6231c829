"""The doctor names each damage done to small models that were trained for this."""

import json
import re

import keras
import numpy as np
import pytest
from running import without_tracing

from bert4keras_lite.applications.doctor import SENTENCES, examine
from bert4keras_lite.models import build_transformer_model
from bert4keras_lite.tokenizers import Tokenizer, load_vocab, save_vocab

pytestmark = pytest.mark.once

SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position": 64,
}
NOISE = np.random.RandomState(1).standard_normal(64) / 4
CHARACTERS = sorted(set("".join(SENTENCES)))


def trained(directory, special, steps=160, **options):
    """A model that knows the doctor's sentences, saved with its vocabulary."""
    vocabulary = {token: i for i, token in enumerate([*special, *CHARACTERS])}
    keras.utils.set_random_seed(0)
    transformer = build_transformer_model(
        vocab_size=len(vocabulary), return_keras_model=False, with_lm="linear", **SIZES, **options
    )
    tokenizer = Tokenizer(vocabulary)
    rows = [tokenizer.encode(text)[0] for text in SENTENCES]
    length = max(map(len, rows))
    ids = np.array([row + [vocabulary["[PAD]"]] * (length - len(row)) for row in rows])
    present = (np.arange(length)[None] < np.array([[len(row)] for row in rows])).astype("float32")
    random = np.random.RandomState(0)
    model = transformer.model
    model.compile(
        keras.optimizers.Adam(4e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=keras.backend.backend() == "jax",
    )
    model.optimizer.build(model.trainable_variables)
    lm = transformer.config.attend == "lm"
    for _ in range(steps):
        inputs, weights = ids.copy(), present.copy()
        targets = ids
        if lm:
            targets = np.roll(ids, -1, 1)
            weights[:, :-1] = present[:, 1:]
            weights[:, -1] = 0
        else:
            chosen = (random.uniform(size=ids.shape) < 0.2) & (present > 0)
            chosen[:, 0] = False
            inputs[chosen] = vocabulary["[MASK]"]
            weights = chosen.astype("float32")
        feed = [inputs, inputs * 0][: len(model.inputs)]
        model.train_on_batch(feed, targets, sample_weight=weights)
    transformer.save_checkpoint(directory, vocab=vocabulary)
    return transformer


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    directory = tmp_path_factory.mktemp("masked")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return directory, trained(directory, special, hidden_act="relu")


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    directory = tmp_path_factory.mktemp("causal")
    special = ["[CLS]", "[PAD]", "[SEP]", "[UNK]"]
    return directory, trained(directory, special, steps=60, model="gpt")


@pytest.fixture
def damaged(masked, tmp_path):
    """Writes the masked model with some of its variables changed."""
    _, transformer = masked

    def damage(changes, config=None):
        before = {path: np.array(transformer.variables[path]) for path in changes}
        for path, change in changes.items():
            transformer.variables[path].assign(change(before[path].copy()))
        vocabulary = (masked[0] / "vocab.txt").read_text().split("\n")
        transformer.save_checkpoint(tmp_path, vocab={t: i for i, t in enumerate(vocabulary) if t})
        for path, array in before.items():
            transformer.variables[path].assign(array)
        file = tmp_path / "bert_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | (config or {})))
        return tmp_path

    return damage


def examined(directory, **options):
    """The doctor's report (every reading is another graph, and looked at once)."""
    with without_tracing():
        return examine(directory, **options)


def wrong(report):
    return " ".join(sentence for level, sentence in report.findings if level == "wrong")


def test_a_sound_model_is_sound(masked, causal):
    for directory, _ in (masked, causal):
        report = examined(directory)
        assert report.healthy, report.findings
        assert report.readings[0].perplexity < 60


def test_rows_of_a_model_without_padding_see_nothing_of_their_neighbours(masked):
    """Neither does it matter for which length the model was to be built."""
    report, texts = {}, SENTENCES[:6]
    for name, sentences in (("all", texts), *((text, [text]) for text in texts)):
        reading, *_ = examined(
            masked[0], sentences=sentences, pad_token_id=-1, sequence_length=5
        ).readings
        report[name] = reading.losses
    assert len({*map(len, texts)}) > 1
    alone = np.concatenate([report[text] for text in texts])
    np.testing.assert_allclose(report["all"], alone, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("changes", "config", "words"),
    [
        ({}, {"hidden_act": "gelu"}, "hidden_act='relu'"),
        ({"position_embedding/embeddings": lambda t: np.roll(t, 2, 0)}, None, "counted from 2"),
        pytest.param(
            {"position_embedding/embeddings": lambda t: np.roll(t, 1, 0)},
            None,
            "counted from 1",
            marks=pytest.mark.long,
        ),
        (
            {"segment_embedding/embeddings": lambda t: np.stack([t[0] + NOISE, t[0]])},
            None,
            "segment ids of 1",
        ),
        pytest.param(
            {
                "lm_norm/gamma": lambda g: g / 8,
                "lm_norm/beta": lambda b: b / 8,
                "lm_bias/beta": lambda b: b / 8,
            },
            None,
            "times sqrt",
            marks=pytest.mark.long,
        ),
        (
            {
                "lm_dense/kernel": lambda k: np.random.RandomState(0).normal(0, 0.02, k.shape),
                "lm_norm/gamma": np.ones_like,
                "lm_norm/beta": np.zeros_like,
                "lm_bias/beta": np.zeros_like,
            },
            None,
            "head was never trained",
        ),
        pytest.param(
            {"block_1/ffn/input/kernel": np.zeros_like},
            None,
            "block_1/ffn/input/kernel: all zeros",
            marks=pytest.mark.long,
        ),
        (
            {"block_0/attention/query/bias": lambda b: b * np.nan},
            None,
            "block_0/attention/query/bias: 64 values are not finite",
        ),
        ({"token_embedding/embeddings": lambda t: t[::-1].copy()}, None, "no better than chance"),
    ],
    ids=[
        "activation", "positions+2", "positions+1", "segments", "scale", "random head", "zeros",
        "nan", "another vocabulary",
    ],
)  # fmt: skip
def test_each_damage_is_named(damaged, changes, config, words):
    report = examined(damaged(changes, config))
    assert words in wrong(report), report.findings


def test_swapped_rows_are_named(causal, tmp_path):
    directory, transformer = causal
    lines = (directory / "vocab.txt").read_text().split("\n")
    lines[:2] = lines[1::-1]
    transformer.save_checkpoint(tmp_path)
    save_vocab(tmp_path / "vocab.txt", {t: i for i, t in enumerate(lines) if t})
    assert "rows 0 and 1 swapped" in wrong(examined(tmp_path))


def test_a_vocabulary_of_another_language(masked, tmp_path):
    _, transformer = masked
    transformer.save_checkpoint(tmp_path)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    save_vocab(tmp_path / "vocab.txt", {t: i for i, t in enumerate([*special, *"abcdefgh"])})
    assert "unknown" in wrong(examined(tmp_path))


@pytest.mark.parametrize("token", ["[CLS]", "[MASK]"])
def test_ids_without_a_row_are_not_given_to_the_model(masked, tmp_path, token):
    _, transformer = masked
    transformer.save_checkpoint(tmp_path)
    known = load_vocab(masked[0] / "vocab.txt")
    save_vocab(tmp_path / "vocab.txt", {"x" if t == token else t: i for t, i in known.items()})
    (tmp_path / "added_tokens.json").write_text(json.dumps({token: 99_999}))
    report = examined(tmp_path)
    assert "has the id 99999, but the token table has" in wrong(report) and not report.readings


def test_a_mask_that_is_the_unknown_token(masked, tmp_path):
    _, transformer = masked
    transformer.save_checkpoint(tmp_path, vocab=load_vocab(masked[0] / "vocab.txt"))
    (tmp_path / "tokenizer_config.json").write_text('{"mask_token": "[UNK]"}')
    where = re.escape(str(tmp_path))
    with pytest.raises(
        ValueError, match=rf"{where}: '\[UNK\]' is not for masks alone: .* token_unk, too"
    ):
        examine(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"mask_token": null}')
    with pytest.raises(ValueError, match=rf"{where}: the vocabulary has no mask token \(None\)"):
        examine(tmp_path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("t5_pegasus", "no better than chance"),
        ("electra", "there is no language-model head"),
        ("nezha", "no better than chance"),
        ("xlm_roberta", "no better than chance"),
    ],
)
def test_other_families(model, words, tmp_path):
    """Random weights predict nothing, and a model without a head is not made to."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    if model == "xlm_roberta":
        special[:2] = "[UNK]", "[PAD]"
    vocabulary = {token: i for i, token in enumerate([*special, *CHARACTERS])}
    options = {} if model == "electra" else {"with_lm": "linear"}
    transformer = build_transformer_model(
        vocab_size=len(vocabulary), model=model, return_keras_model=False, **SIZES, **options
    )
    format = "hf" if model == "xlm_roberta" else "tf"
    transformer.save_checkpoint(tmp_path, format, vocab=vocabulary)
    report = examined(tmp_path, sentences=SENTENCES[:8])
    assert words in " ".join(sentence for _, sentence in report.findings)


@pytest.mark.long
def test_exact_and_tanh_gelu_are_not_told_apart(tmp_path):
    """Perplexity cannot: the doctor says so, and takes neither for wrong."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trained(tmp_path, special, hidden_act="gelu_tanh")
    report = examined(tmp_path)
    own, exact = (
        next(r for r in report.readings if r.name == name)
        for name in ("as the config says", "activation gelu_erf")
    )
    assert 0 < abs(own.perplexity / exact.perplexity - 1) < 1e-4
    assert report.healthy
    assert any("could not be told apart" in s and "gelu_erf" in s for _, s in report.findings)


def test_activations_that_the_config_excludes(tmp_path):
    """ModernBERT's head has an activation in the config, which is no reading of another one."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {token: i for i, token in enumerate([*special, *CHARACTERS])}
    options = SIZES | {"vocab_size": len(vocabulary), "with_lm": "linear", "pad_token_id": 0}
    model = build_transformer_model(model="modernbert", return_keras_model=False, **options)
    model.save_checkpoint(tmp_path, "hf", vocab=vocabulary)
    report = examine(tmp_path, sentences=SENTENCES[:2])
    names = [reading.name for reading in report.readings]
    assert names[0] == "as the config says"
    assert not any(name.startswith("activation") for name in names)
