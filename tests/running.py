"""How the tests run a model on one batch, and which parameters of a test `make test` runs."""

import contextlib
import re

import keras
import numpy as np
import pytest
from goldens.make_chat import write
from keras import ops

from bert4keras_lite.generation import compiled_loop, request
from bert4keras_lite.models import build_transformer_model
from bert4keras_lite.tokenizers import load_tokenizer


def outputs_of(model, inputs, compiled=False):
    """What a model makes of a batch: a flat list of arrays.

    Operation by operation, since to compile each of the hundreds of small models takes far longer
    than to run it once; `compiled`: as one program, as `predict` has it.
    """
    outputs = model.predict_on_batch(list(inputs)) if compiled else model(list(inputs))
    return [ops.convert_to_numpy(y) for y in keras.tree.flatten(outputs)]


@contextlib.contextmanager
def without_tracing():
    """Within it TensorFlow traces no function, which takes longer than to run one a few times."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def predict_always(model, label):
    """Makes a classifier predict the same label for every text."""
    kernel, bias = model.get_layer("classifier").get_weights()
    bias = 9 * np.eye(len(bias))[label]
    model.get_layer("classifier").set_weights([np.zeros_like(kernel), bias])


def score_of(capsys):
    """The number in the last line printed that begins with "test"."""
    shown = capsys.readouterr().out
    return float(re.findall(r"^test .+?: (-?\d+\.\d+)", shown, re.MULTILINE)[-1])


def operation_by_operation(monkeypatch):
    """Within the test, generation compiles nothing, as in `outputs_of`."""

    class Uncompiled(compiled_loop.CompiledLoop):
        def __init__(self, transformer, search):
            super().__init__(transformer, search)
            self.begin, self.step, self.run = self._begin, self._step, self._run_step_by_step

    monkeypatch.setattr(compiled_loop, "CompiledLoop", Uncompiled)
    monkeypatch.setattr(request, "CompiledLoop", Uncompiled)


def write_chat_model(folder):
    """Writes the checkpoint of a small Qwen3 with random weights, and with a chat template."""
    write(folder, "chatml")
    keras.utils.set_random_seed(7)
    transformer = build_transformer_model(
        model="qwen3",
        vocab_size=load_tokenizer(folder).vocab_size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        attention_head_size=8,
        max_position=512,
        initializer_range=0.5,
        with_lm="linear",
        return_keras_model=False,
    )
    transformer.save_checkpoint(folder, "hf")


# the argument `compiled`: `make test` runs a test with False, `make test-all` also with True
in_both_ways = pytest.mark.parametrize(
    "compiled", [False, pytest.param(True, marks=pytest.mark.long)], ids=["plain", "compiled"]
)


def long_but(kept, values):
    """Parameters of which `make test` runs those that are kept, `make test-all` the others too.

    Args:
        kept: some of the values.
        values: all of them.
    """
    missing = [value for value in kept if value not in values]
    assert not missing, f"{missing} are no parameters"
    rows = ((v, v if isinstance(v, tuple) else (v,)) for v in values)  # a tuple: several arguments
    return [v if v in kept else pytest.param(*row, marks=pytest.mark.long) for v, row in rows]
