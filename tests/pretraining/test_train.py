"""From a text file to a checkpoint that fills masks; runs that stop, go on and export."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops
from running import long_but

from bert4keras_lite.checkpoints import CheckpointError
from bert4keras_lite.models import build_transformer_model
from bert4keras_lite.optimizers import AdamW, LossScaleOptimizer
from bert4keras_lite.tokenizers import load_tokenizer
from pretraining import corpus, loop, train
from pretraining.batches import Examples
from pretraining.config import Settings
from pretraining.log import read_log

ROOT = Path(__file__).resolve().parents[2]
SENTENCE = "今天天气很好，我们去公园里玩。"
LENGTH = 2 + 2 * len(SENTENCE)
TINY = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
TINY |= {"intermediate_size": 64, "max_position": LENGTH, "initializer_range": 0.1}


@pytest.fixture(scope="session")
def make_corpus(tmp_path_factory, vocab):
    """A function from an objective to a corpus of one sentence, over and over."""
    folder = tmp_path_factory.mktemp("corpora")
    (folder / "text.txt").write_text(SENTENCE * 400, "utf-8")

    def make(mode, *more):
        flags = ["--input", str(folder / "text.txt"), "--output", str(folder / mode)]
        flags += ["--mode", mode, "--vocab", vocab, "--sequence-length", str(LENGTH)]
        assert corpus.main([*flags, "--shards", "1", "--workers", "1", *more]) == 0
        return str(folder / mode)

    return make


@pytest.fixture(scope="session")
def settings(make_corpus, vocab):
    return Settings(
        corpus=make_corpus("mlm"), vocab=vocab, model=TINY, batch_size=16, steps=30,
        learning_rate=0.02, warmup_steps=2, log_every=10, save_every=10, peak_flops=1e12,
    )  # fmt: skip


def weights(objective):
    return {v.path: np.array(ops.convert_to_numpy(v)) for v in objective.model.variables}


@pytest.fixture(scope="session")
def passes():
    """Gets an optimizer each time Python runs through its update."""
    return []


@pytest.fixture(scope="session")
def trained(settings, tmp_path_factory, passes):
    """A run of thirty steps, and its directory."""
    directory = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(0)
    apply = keras.optimizers.Optimizer.apply
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            keras.optimizers.Optimizer,
            "apply",
            lambda optimizer, *rest, **more: (
                passes.append(optimizer) or apply(optimizer, *rest, **more)
            ),
        )
        return loop.run(replace(settings, output=str(directory)), stream=None), directory


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow alone traces a step twice"
)
def test_a_step_is_traced_once(trained, passes):
    assert len(passes) == 1


@pytest.mark.parametrize("kind", ["tf", "hf"])
def test_a_text_becomes_a_checkpoint_that_fills_masks(trained, kind):
    _, directory = trained
    model = build_transformer_model(directory / "model" / kind, with_mlm=True)
    tokenizer = load_tokenizer(directory / "model" / kind)
    ids, segments = (np.array(x) for x in tokenizer.encode(SENTENCE * 2))
    rows = np.tile(ids, (len(SENTENCE), 1))
    places = np.arange(1, len(SENTENCE) + 1)
    rows[np.arange(len(places)), places] = tokenizer.token_to_id("[MASK]")
    found = model.predict([rows, np.tile(segments, (len(rows), 1))], verbose=0)
    guesses = found[np.arange(len(places)), places].argmax(-1)
    assert (guesses == ids[places]).mean() > 0.8  # one guess for all would be right for 2 of 15


def test_a_run_leaves_what_was_promised(trained, settings):
    objective, directory = trained
    rows = read_log(directory / "log.csv")
    assert [row["step"] for row in rows] == [10, 20, 30]
    assert rows[-1]["tokens"] == 30 * 16 * LENGTH
    assert rows[-1]["loss"] < rows[0]["loss"] and rows[-1]["accuracy"] > rows[0]["accuracy"]
    assert (directory / "settings.yaml").read_text("utf-8").startswith("{")
    loaded = build_transformer_model(directory / "model" / "tf", with_mlm="linear")
    for path, variable in loaded.transformer.variables.items():
        expected = ops.convert_to_numpy(objective.transformer.variables[path])
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), expected, err_msg=path)


def test_a_family_without_tensorflow_names_is_written_for_hugging_face(settings, tmp_path, capsys):
    model = {"family": "modernbert", "hidden_size": 16, "num_hidden_layers": 1}
    model |= {"num_attention_heads": 2, "intermediate_size": 16}
    own = replace(settings, output=str(tmp_path), model=model, steps=3, log_every=1)
    loop.run(own, stream=None)
    assert "Not written as tf: format='tf' has no name for" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["hf"]
    assert build_transformer_model(tmp_path / "model" / "hf").output_shape[-1] == 16


def test_a_run_that_was_cut_goes_on_as_if_it_had_not_been(trained, settings, tmp_path, monkeypatch):
    """Steps 1 to 13 and then the rest, which begins within a row of the log."""
    objective, directory = trained
    stopped = replace(settings, output=str(tmp_path))

    class Kill(loop.EachStep):
        def reach(self, step, logs=None):
            if step == 12:  # while step 13 runs
                os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(loop, "NonFinite", lambda *_: Kill())
    keras.utils.set_random_seed(0)
    with pytest.raises(SystemExit) as left:
        loop.run(stopped, stream=None)
    signal.signal(signal.SIGTERM, before)
    monkeypatch.undo()
    assert left.value.code == 143
    assert [row["step"] for row in read_log(tmp_path / "log.csv")] == [10]
    assert not (tmp_path / "model").exists()
    again = loop.run(stopped, stream=None)
    rows, expected = (read_log(d / "log.csv") for d in (tmp_path, directory))
    speed = {"tokens_per_second", "model_flops_utilization"}
    rows, expected = (
        [{name: row[name] for name in row.keys() - speed} for row in table]
        for table in (rows, expected)
    )
    assert rows == expected and [row["step"] for row in rows] == [10, 20, 30]
    for path, value in weights(objective).items():
        np.testing.assert_array_equal(weights(again)[path], value, err_msg=path)


def test_accumulated_parts_are_the_batch(settings, tmp_path):
    # with such an epsilon Adam does not blow up what rounding changes in gradients of nearly 0
    own = replace(settings, output=str(tmp_path / "1"), steps=4, epsilon=1.0)
    whole = loop.run(own, stream=None)
    cut = loop.run(replace(own, output=str(tmp_path / "2"), accumulation_steps=2), stream=None)
    assert int(cut.model.optimizer.iterations) == 4
    assert [row["step"] for row in read_log(tmp_path / "2" / "log.csv")] == [4]
    for path, value in weights(whole).items():
        if "seed" not in path:
            np.testing.assert_allclose(weights(cut)[path], value, atol=1e-5, err_msg=path)


@pytest.mark.parametrize("objective", long_but(["t5"], ["electra", "lm", "unilm", "t5"]))
def test_every_objective_learns_from_its_corpus(make_corpus, settings, tmp_path, objective):
    made = settings.corpus if objective == "electra" else make_corpus(objective)
    model = TINY | ({"family": "bert"} if objective == "lm" else {})
    own = replace(settings, objective=objective, corpus=made, model=model, steps=12, log_every=6)
    own = replace(own, output=str(tmp_path), vocabulary_chunk=None, generator_size=0.5)
    loop.run(own, stream=None)
    rows = read_log(tmp_path / "log.csv")
    assert rows[1]["loss"] < rows[0]["loss"]
    assert rows[1]["model_flops_utilization"] > 0
    assert list((tmp_path / "model" / "tf").rglob("vocab.txt"))


def test_averages_are_what_is_exported(settings, tmp_path):
    own = replace(settings, output=str(tmp_path), steps=3, ema_momentum=0.5)
    objective = loop.run(own, stream=None)
    path = "token_embedding/embeddings"
    now = ops.convert_to_numpy(objective.transformer.variables[path])
    with objective.model.optimizer.averaged_weights():
        average = np.array(ops.convert_to_numpy(objective.transformer.variables[path]))
    saved = build_transformer_model(tmp_path / "model" / "hf", return_keras_model=False)
    saved = ops.convert_to_numpy(saved.variables[path])
    np.testing.assert_array_equal(saved, average)
    assert np.abs(saved - now).max() > 1e-5


def test_a_signal_exports_without_a_stop(settings, tmp_path):
    own = replace(settings, output=str(tmp_path), steps=3)
    objective = loop.run(own, stream=None)
    callback = loop.ExportOnSignal(
        objective,
        tmp_path,
        loop.Vocabulary(own.vocab, None, own.corpus, Examples(own.corpus, "mlm", 16).manifest),
        start=0,
    )
    callback.set_model(objective.model)
    callback.on_train_begin()
    os.kill(os.getpid(), signal.SIGUSR1)
    callback.reach(3)
    callback.on_train_end()
    assert (tmp_path / "model-3" / "hf" / "model.safetensors").is_file()
    assert signal.getsignal(signal.SIGUSR1) != callback.request


def test_the_command_line_exports_and_says_what_is_wrong(trained, settings, tmp_path, capsys):
    _, directory = trained
    words = shutil.copyfile(settings.vocab, tmp_path / "words.txt")  # by any other name
    flags = ["--corpus", settings.corpus, "--output", str(directory), "--vocab", str(words)]
    flags += [f"--model.{name}={value}" for name, value in TINY.items()]
    assert train.main([*flags, "--export", str(tmp_path)]) == 0
    for name in ("vocab.txt", "model.safetensors", "config.json"):
        assert (tmp_path / "hf" / name).read_bytes() == (
            directory / "model" / "hf" / name
        ).read_bytes()
    for wrong, message in [
        ([], "corpus: expected a directory"),
        (["--stpes", "3"], "did you mean 'steps'"),
        (["--corpus", str(tmp_path), "--output", str(tmp_path / "x")], "has no corpus.json"),
        ([*flags, "--model.hidden_size=32"], "was saved by another model"),
        ([*flags, "--objective=lm"], "was made for 'mlm'"),
        ([*flags, "--model.max_position=8"], "positions. Set model.max_position"),
        ([*flags, "--vocab", str(ROOT)], "vocab"),
        ([*flags, "--config"], "--config: expected a value"),
    ]:
        assert train.main(wrong or ["--steps", "3"]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and message in said


def test_the_module_runs_from_the_repository_root():
    command = [sys.executable, "-m", "pretraining.train", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--config" in done.stdout


def test_float16_counts_what_it_skips(settings):
    options = settings.part("optimizer")
    made = loop.make_optimizer(**options | {"precision": "mixed_float16"})
    assert type(made) is LossScaleOptimizer and made.inner_optimizer.skip_nonfinite
    assert type(loop.make_optimizer(**options)) is AdamW


@pytest.mark.once
@pytest.mark.parametrize(
    "name", ["checkpoints", "model", "model-3", "model/hf", "model/tf/generator", "tensorboard"]
)
def test_links_of_a_run_lead_nowhere(settings, tmp_path, name):
    """A run that is begun again in a directory of strangers writes in no other one."""
    mine, link = tmp_path / "mine", tmp_path / "run" / name
    (mine / "step-00000001").mkdir(parents=True)
    link.parent.mkdir(parents=True)
    link.symlink_to(mine)
    with pytest.raises(CheckpointError, match=f"run/{name}: is a link; expected a directory"):
        loop.run(replace(settings, output=str(tmp_path / "run"), steps=3), stream=None)
    assert [path.name for path in mine.rglob("*")] == ["step-00000001"]
