"""Loss and accuracy on held-out text: each example once, the same each time, in the log."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops

from pretraining import corpus, loop, objectives, validation
from pretraining.checkpointing import Checkpoints
from pretraining.config import Settings
from pretraining.log import read_log
from pretraining.validation import Validation

MODEL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
MODEL |= {"intermediate_size": 32, "max_position": 32}
STEPS = [4, 8, 10]


@pytest.fixture(scope="session")
def make_corpus(tmp_path_factory, documents, vocab):
    """A function from texts and the length of rows to a corpus."""

    def make(texts, length=32):
        folder = tmp_path_factory.mktemp("corpus")
        (folder / "text.txt").write_text("\n\n".join(texts), "utf-8")
        flags = ["--input", str(folder / "text.txt"), "--output", str(folder / "made")]
        flags += ["--mode", "mlm", "--vocab", vocab, "--sequence-length", str(length)]
        assert corpus.main([*flags, "--shards", "1", "--workers", "1"]) == 0
        return str(folder / "made")

    return make


@pytest.fixture(scope="session")
def corpora(make_corpus, documents):
    """Corpora to train on and to measure on."""
    return make_corpus(documents[5:15]), make_corpus(documents[:5])


@pytest.fixture(scope="session")
def settings(corpora):
    return Settings(
        corpus=corpora[0], validation=corpora[1], model=MODEL, batch_size=4, steps=10,
        learning_rate=0.01, log_every=2, save_every=4, peak_flops=1e12,
    )  # fmt: skip


@pytest.fixture(scope="session")
def run(settings, tmp_path_factory):
    directory = tmp_path_factory.mktemp("validated")
    return loop.run(replace(settings, output=str(directory)), stream=None), directory


def test_each_prediction_counts_once(settings, corpora):
    count = len(Validation(corpora[1], "mlm", 1))
    sums = []
    for batch_size in (count // 2 + 1, count + 1):  # neither divides the examples
        check = Validation(corpora[1], "mlm", batch_size)
        keras.utils.set_random_seed(1)
        vocab_size = check.examples.manifest["vocab_size"]
        model = objectives.build("mlm", vocab_size, model=settings.model).model
        model.compile()
        losses, right, total = 0.0, 0.0, 0.0
        for inputs, targets, weights in check.batches():
            scores = np.asarray(ops.convert_to_numpy(model(inputs)), "float64")
            top = scores.max(-1, keepdims=True)
            logs = scores - top - np.log(np.exp(scores - top).sum(-1, keepdims=True))
            of_target = np.take_along_axis(logs, targets[..., None], -1)[..., 0]
            losses -= (of_target * weights).sum()
            right += ((scores.argmax(-1) == targets) * weights).sum()
            total += weights.sum()
        found = check(model)
        assert found["loss"] == pytest.approx(losses / total, rel=1e-5)
        assert found["accuracy"] == pytest.approx(right / total, rel=1e-5)
        assert check(model) == found
        sums.append((total, found["loss"]))
    assert sums[0] == pytest.approx(sums[1], rel=1e-5)


def test_a_run_measures_what_it_is_not_trained_on(run, settings, corpora, tmp_path, capsys):
    objective, directory = run
    rows = read_log(directory / "log.csv")
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10]
    assert [row["step"] for row in rows if "val_loss" in row] == STEPS
    found = Validation(corpora[1], "mlm", 4)(objective.model)
    assert rows[-1]["val_loss"] == pytest.approx(found["loss"], rel=1e-5)
    flags = ["--checkpoint", str(directory / "model" / "hf"), "--corpus", corpora[1]]
    assert validation.main([*flags, "--batch_size", "5"]) == 0
    assert f": loss {found['loss']:.4f}, accuracy" in capsys.readouterr().out
    losses = {row["step"]: row["val_loss"] for row in rows if "val_loss" in row}
    checkpoints = Checkpoints(directory / "checkpoints", keep=1, best="val_loss")
    assert checkpoints.best_step() == min(losses, key=losses.get)


def test_measuring_changes_nothing(run, settings, tmp_path):
    objective, directory = run
    plain = replace(settings, validation=None, output=str(tmp_path))
    other = loop.run(plain, stream=None)
    here, there = (read_log(path / "log.csv") for path in (directory, tmp_path))
    for name in ("loss", "accuracy"):
        assert [row[name] for row in here] == [row[name] for row in there]
    for variable, same in zip(objective.model.variables, other.model.variables, strict=True):
        if "metric" not in variable.path:
            np.testing.assert_array_equal(*map(ops.convert_to_numpy, (variable, same)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validate_every": 3}, "validate_every=3 .*: expected a multiple of log_every=2"),
        ({"validation": "nowhere"}, "nowhere has no corpus.json"),
        ({"sequence": 16}, "validation: .* has sequence_length 16, and the corpus has 32"),
    ],
)
def test_what_does_not_fit_is_said(settings, make_corpus, documents, tmp_path, change, message):
    if "sequence" in change:
        change = {"validation": make_corpus(documents[:2], change["sequence"])}
    with pytest.raises(ValueError, match=message):
        loop.run(replace(settings, output=str(tmp_path), **change), stream=None)
    assert keras.config.dtype_policy().name == "float32"


def test_the_perplexity_of_a_very_large_loss():
    assert validation.perplexity(0.0) == 1.0
    assert validation.perplexity(1000.0) == np.inf


def test_the_command_line_says_what_is_missing(capsys):
    assert validation.main(["--checkpoint", "x"]) == 2
    assert "error: --corpus: expected a directory." in capsys.readouterr().err
    assert validation.main(["--help"]) == 0
