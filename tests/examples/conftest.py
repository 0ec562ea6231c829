"""How the examples are run: on one batch, or until they learn their sample."""

import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from running import without_tracing

from bert4keras_lite import build_transformer_model

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
SAMPLE = EXAMPLES / "data"
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position": 128,
}


@pytest.fixture(scope="session", autouse=True)
def _importable():
    """The modules that the examples share are found, as they are by the examples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        yield


class Runner:
    """Runs examples, and looks at their training.

    Attributes:
        losses: for each `fit` the list of its losses, one an epoch.
        traces: for each optimizer how often Python ran through an update: on TensorFlow, how often
            the training step was traced.
    """

    def __init__(self, patch, output):
        self.patch, self.losses, self.traces = patch, [], {}
        import sample
        import small_t5

        for module in (sample, small_t5):
            patch.setattr(module, "OUTPUT", output)
        # so little training does not pay for several lengths of batches, nor for XLA
        patch.setattr("bert4keras_lite.data.choose_buckets", lambda lengths, _: [max(lengths)])
        if keras.backend.backend() == "tensorflow":
            self.without_xla()
        self.watch()

    def without_xla(self):
        import tensorflow as tf

        from bert4keras_lite.generation import compiled_loop

        self.patch.setattr("keras.src.trainers.trainer.model_supports_jit", lambda model: False)
        self.patch.setattr(
            compiled_loop,
            "compiled_by_shape",
            lambda function, variables: tf.function(function, autograph=False),
        )

    def watch(self):
        """Notes the losses of each `fit`, and the passes of Python through each optimizer."""
        fit, apply = keras.Model.fit, keras.optimizers.Optimizer.apply

        def watched_fit(model, *arguments, **options):
            history = fit(model, *arguments, **options)
            self.losses.append(history.history["loss"])
            return history

        def watched_apply(optimizer, *arguments, **options):
            self.traces[optimizer] = self.traces.get(optimizer, 0) + 1
            return apply(optimizer, *arguments, **options)

        self.patch.setattr(keras.Model, "fit", watched_fit)
        self.patch.setattr(keras.optimizers.Optimizer, "apply", watched_apply)

    def __call__(self, name, *flags, **options):
        """Runs a script; gives its variables.

        Args:
            name: of the file, without `.py`.
            *flags: of the command line, as they are.
            **options: of the command line.
        """
        self.set_arguments(name, *flags, **options)
        return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")

    def set_arguments(self, name, *flags, **options):
        words = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
        self.patch.setattr(sys, "argv", [name, *map(str, flags), *words])

    def data_of(self, name, **options):
        """Runs a script up to its model; gives its variables."""
        self.set_arguments(name, **options)
        path = EXAMPLES / f"{name}.py"
        source, *rest = re.split("^# the (?:model|classifier)", path.read_text("utf-8"), flags=re.M)
        assert rest
        variables = {"__name__": "__main__", "__doc__": None}
        exec(compile(source, path, "exec"), variables)
        return variables


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A `Runner` for a training to a score; on TensorFlow no step may be traced twice."""
    runner = Runner(monkeypatch, tmp_path / "output")
    yield runner
    if keras.backend.backend() == "tensorflow":
        assert set(runner.traces.values()) <= {1}, (
            "optimizer.build is missing before the first step"
        )


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """A `Runner` for a few steps; on TensorFlow without tracing, which takes longer than they do.

    Give it data of one batch: then each epoch sees the same, and its loss has to fall; from 20
    epochs on, its mean over a third of them, because dropout makes single losses uncertain.
    """
    runner = Runner(monkeypatch, tmp_path / "output")
    with without_tracing():
        yield runner
    for losses in runner.losses:
        few = len(losses) // 3 if len(losses) >= 20 else 1
        assert np.mean(losses[-few:]) < 0.98 * np.mean(losses[:few]), losses


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Gives a directory with a small random model and a vocabulary.

    Args: `family`, the lines of `vocab`, or None for the sample's vocabulary, the format of its
    files, and sizes or other options of `build_transformer_model`.
    """
    made = {}

    def checkpoint(family="bert", vocab=None, file_format="tf", **options):
        vocab = tuple(vocab or (SAMPLE / "vocab.txt").read_text(encoding="utf-8").splitlines())
        key = (family, vocab, json.dumps(options, sort_keys=True))
        if key not in made:
            keras.utils.set_random_seed(0)
            transformer = build_transformer_model(
                model=family,
                vocab_size=len(vocab),
                return_keras_model=False,
                **SIZES | options,
            )
            made[key] = tmp_path_factory.mktemp(family.replace(".", "_"))
            transformer.save_checkpoint(made[key], format=file_format)
            (made[key] / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
            # as our own directories and Hugging Face's have it: no script may take it for the
            # config
            (made[key] / "tokenizer_config.json").write_text('{"do_lower_case": true}')
        return made[key]

    return checkpoint


@pytest.fixture
def rows(tmp_path):
    """Copies files of the sample, cut to their first lines.

    Args: `source`, a folder of the sample or a pattern of its files; lines of the files for
    training, and of the others.
    """

    def rows(source, train=8, others=4):
        to = tmp_path / "data"
        to.mkdir(exist_ok=True)
        folder = SAMPLE / source
        for path in folder.rglob("*") if folder.is_dir() else SAMPLE.glob(source):
            if path.is_dir():
                continue
            target = to / (path.relative_to(folder) if folder.is_dir() else path.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            split = {"train": train, "valid": others, "dev": others, "test": others}
            most = next((n for name, n in split.items() if name in path.name), None)
            if most is None:
                shutil.copy(path, target)
            else:
                lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
                target.write_text("".join(lines[:most]), encoding="utf-8")
        return to

    return rows


@pytest.fixture
def replace(monkeypatch):
    """Replaces values that a function of a script uses; gives the function."""

    def replace(function, **values):
        for name, value in values.items():
            monkeypatch.setitem(function.__globals__, name, value)
        return function

    return replace
