"""Settings: from files, recipes and flags; what is wrong with them is one sentence."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4keras_lite import patterns
from pretraining import config
from pretraining.config import RECIPES, Settings, load

pytestmark = pytest.mark.once

NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))
SMALL = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 24, "embedding_size": None, "max_position": 16}


def write(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_flags_alone_make_settings():
    settings = load(flags=["--steps", "10", "--model.hidden_size=128", "--learning_rate", "1e-3"])
    assert settings == Settings(steps=10, model={"hidden_size": 128}, learning_rate=0.001)
    settings = load(flags=["--devices", "auto", "--clipnorm", "null", "--remat", "true"])
    assert (settings.devices, settings.clipnorm, settings.remat) == ("auto", None, True)
    assert load(flags=["--devices=2"]).devices == 2
    assert load(flags=["--steps", "1e6"]).steps == 1_000_000


def test_flags_go_before_the_file(tmp_path):
    pytest.importorskip("yaml")
    path = write(
        tmp_path, "steps: 7\nlearning_rate: 1e-4\nmodel:\n  hidden_size: 64\n  norm: rms\n"
    )
    settings = load(path, ["--model.hidden_size", "32", "--masking.rate", "0.2"])
    assert settings.steps == 7 and settings.learning_rate == 1e-4  # YAML takes 1e-4 for a word
    assert settings.model == {"hidden_size": 32, "norm": "rms"}
    assert settings.masking == {"rate": 0.2}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--stpes", "10"], "no setting 'stpes'; did you mean 'steps'"),
        (
            ["--model.hiden_size", "10"],
            "model: there is no setting 'hiden_size'; did you mean 'hid",
        ),
        (["--corpus.size", "10"], "only model and masking have settings of their own"),
        (["--steps"], "--steps: expected a value"),
        (["--steps", "--remat"], "--steps: expected a value"),
        (["steps"], "steps: expected --name value"),
        (["--steps", "many"], "steps='many': expected int"),
        (["--steps", "true"], "steps=True: expected int"),
        (["--steps", "1.5"], "steps=1.5: expected int"),
        (["--learning_rate", "fast"], "learning_rate='fast': expected float"),
        (["--steps", "0"], "steps=0: expected a whole number from 1"),
        (["--remat", "1"], "remat=1: expected bool"),
        (["--model", "bert"], "model='bert': expected dict"),
        (["--model.family", "brt"], "model.family='brt': expected one of bert"),
        (["--model.hidden_size", "wide"], "model.hidden_size='wide': expected int"),
        (["--objective", "nsp"], "objective='nsp': expected one of mlm"),
        (["--warmup_steps", "1000"], "warmup_steps=1000: expected fewer than steps=1000"),
        (["--vocabulary_chunk", "-5"], "vocabulary_chunk=-5: expected a whole number from 1"),
        (["--learning_rate", "-1"], "learning_rate=-1.0: expected a number from 0.0"),
        (["--epsilon", "-1"], "epsilon=-1.0: expected a number"),
        (["--final_rate", "-1"], "final_rate=-1.0: expected a number"),
        (["--weight_decay", "-1"], "weight_decay=-1.0: expected a number"),
        (["--peak_flops", "0"], "peak_flops=0.0: expected a number from 1.0"),
        (["--batch_size", "1e9"], "batch_size=1000000000: expected a whole number"),
        (["--jit_compile", "foo"], "jit_compile='foo': expected a bool or 'auto'"),
        (["--devices", "foo"], "devices='foo': expected a whole number of at least 1"),
        (["--exclude_from_weight_decay", '["("]'], "'(': expected a regular expression"),
        (["--exclude_from_weight_decay", "[5]"], "5: expected a regular expression"),
        (["--exclude_from_weight_decay", '["((a{99}){99}){99}"]'], "no more than 1000 repeats"),
        (["--masking.foo", "1"], "masking of mlm: there is no setting 'foo'"),
        (["--masking.seed", "3"], "masking of mlm: there is no setting 'seed'"),
        (["--masking.rate", "x"], "masking.rate='x': expected float"),
        (["--checkpoint", '""'], "checkpoint='': expected a text that is not empty"),
        (["--objective", "lm", "--masking.rate", "0.1"], "masking of lm: there is no setting"),
        (["--batch_size", "9", "--accumulation_steps", "2"], "cannot be split into"),
    ],
)
def test_what_is_wrong_is_one_sentence(flags, message):
    with pytest.raises(ValueError) as caught:
        load(flags=flags)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["seed: !!timestamp foo\n", "model: 5\n", "masking: 5\n"])
def test_odd_values_of_a_file_are_one_error(tmp_path, text):
    pytest.importorskip("yaml")
    with pytest.raises(ValueError, match="expected"):
        load(write(tmp_path, text), ["--model.hidden_size", "32", "--masking.rate", "0.1"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model: " + "[" * 30 + "]" * 30, "it is nested too deeply"),
        ("corpus: " + "a" * 1001, "corpus='aaa.*: expected at most 1000 characters"),
        (f"corpus: {{{'a' * 1001}: 1}}", "corpus='aaa.*: expected at most 1000 characters"),
        ("exclude_from_weight_decay: ['a\ud800']", "unacceptable|can't decode|expected"),
    ],
)
def test_large_values_of_a_file_are_one_error(tmp_path, text, told):
    pytest.importorskip("yaml")
    path = tmp_path / "run.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=rf"run\.yaml: .*({told})") as caught:
        load(str(path))
    assert len(str(caught.value)) < 400 + len(str(path))


def test_expressions_of_a_file_do_not_take_minutes(tmp_path, monkeypatch):
    pytest.importorskip("yaml")
    monkeypatch.setattr(patterns, "SECONDS", 0.1)
    slow = "(?i)" + "[!-\uff5e]" * 100
    lines = [f"- '{slow}{i}'\n" for i in range(100)]
    with pytest.raises(ValueError, match=r"run\.yaml: exclude_from_weight_decay: .* 0\.1 seconds"):
        load(write(tmp_path, "exclude_from_weight_decay:\n" + "".join(lines)))


def test_masking_of_electra_has_the_options_of_mlm():
    flags = ["--objective", "electra", "--masking.rate", "0.2", "--masking.mask_share", "1"]
    assert load(flags=flags).masking == {"rate": 0.2, "mask_share": 1.0}


def test_what_is_wrong_with_a_file_names_it(tmp_path):
    pytest.importorskip("yaml")
    with pytest.raises(ValueError, match=r"run\.yaml.*'stpes'; did you mean 'steps'"):
        load(write(tmp_path, "stpes: 1"))
    with pytest.raises(ValueError, match=r"run\.yaml: steps=None: expected int"):
        load(write(tmp_path, "steps:"))
    with pytest.raises(ValueError, match=r"run\.yaml: expected a mapping"):
        load(write(tmp_path, "- steps"))
    with pytest.raises(ValueError, match=r"run\.yaml: expected YAML"):
        load(write(tmp_path, "a: [1"))
    with pytest.raises(ValueError, match=r"none of the recipes: .*tiny"):
        load("no_such")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("steps: 1\nseed: 2\nsteps: 3", "'steps' is there twice, again in line 3"),
        ("model: {family: bert, family: bert}", "'family' is there twice"),
        ('{"masking": {"rate": 0.1,\n"rate": 0.2}}', "'rate' is there twice, again in line 2"),
        ("corpus: {1: 1, 0x1: 2}", "1 is there twice"),
    ],
)
def test_a_setting_that_is_there_twice(tmp_path, text, told):
    pytest.importorskip("yaml")
    with pytest.raises(ValueError, match=rf"run\.yaml: expected YAML, but the key {told}"):
        load(write(tmp_path, text))


def test_a_flag_with_a_key_twice():
    with pytest.raises(ValueError, match=r"--model .*: the key 'family' is there twice"):
        load(flags=["--model", '{"family": "bert", "family": "gpt"}'])


def test_without_pyyaml_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    with pytest.raises(ImportError, match=r"bert4keras_lite\[pretraining\]"):
        load(write(tmp_path, "steps: 1"))
    assert load(flags=["--steps", "3"]).steps == 3


@given(
    st.integers(1, 10**9),
    st.floats(1e-9, 1, allow_nan=False),
    st.booleans(),
    st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
)
def test_settings_written_are_settings_read(steps, rate, remat, corpus):
    settings = Settings(steps=steps, learning_rate=rate, remat=remat, corpus=corpus)
    assert Settings(**json.loads(config.as_yaml(settings))) == settings


def test_settings_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().steps = 2


@pytest.mark.parametrize("name", NAMES)
def test_recipes_are_read_and_built(name):
    pytest.importorskip("yaml")
    from pretraining import loop, objectives

    settings = load(name)
    shape = SMALL | ({"embedding_size": 8} if "embedding_size" in settings.model else {})
    flags = [f"--model.{field}={json.dumps(value)}" for field, value in shape.items()]
    objective = objectives.build(**load(name, flags).part("model"))
    family = settings.model["family"]
    assert objective.transformer.config.family == family
    optimizer = loop.make_optimizer(**settings.part("optimizer"))
    optimizer.build(objective.model.trainable_variables)
    top = float(optimizer._learning_rate(settings.warmup_steps))
    assert top == pytest.approx(settings.learning_rate)
    comment = (RECIPES / f"{name}.yaml").read_text("utf-8")
    assert comment.startswith("# ") and ("arXiv" in comment or "github.com" in comment)


def test_recipes_are_those_promised():
    assert {"bert_base_zh", "roberta_wwm_ext", "bert4keras_lamb", "electra_small"} <= set(NAMES)
    assert {"t5_small", "gpt2_base", "tiny", "small"} <= set(NAMES)
