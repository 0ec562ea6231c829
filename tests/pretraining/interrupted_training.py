"""A training that `test_state.py` kills, and starts again: `interrupted_training.py DIRECTORY`."""

import json
import os
import sys
import threading
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import keras
import numpy as np

from bert4keras_lite.optimizers import AdamW
from pretraining import checkpointing

STEPS, SAVE_EVERY, BROKEN = 20, 2, 7
JIT = keras.backend.backend() != "torch"  # there it takes a minute
OPTIONS = {
    "weight_decay": 0.05,
    "lr_schedule": {0: 0.2, 3: 1.0, 9: 0.1},
    "lookahead": (2, 0.5),
    "ema_momentum": 0.9,
    "global_clipnorm": 0.5,
    "gradient_accumulation_steps": 3,
    "skip_nonfinite": True,
}


def make_model(jit=JIT, rate=0.3, units=6, **options):
    """Dropout with and without a seed: PyTorch draws these from different generators."""
    keras.utils.set_random_seed(1)
    ids = keras.Input((4,), dtype="int32", name="token_ids")
    x = keras.layers.Embedding(20, units, name="token_embedding")(ids)
    x = keras.layers.Dropout(rate)(x)
    x = keras.layers.Dense(units, activation="tanh", name="dense")(keras.ops.sum(x, 1))
    x = keras.layers.Dropout(rate, seed=3)(x)
    model = keras.Model({"token_ids": ids}, keras.layers.Dense(3, name="classifier")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(AdamW(0.01, **OPTIONS | options), loss, jit_compile=jit)
    model.optimizer.build(model.trainable_variables)
    return model


def batch(step):
    draw = np.random.default_rng(step)
    weights = np.full(8, np.nan if step == BROKEN else 1, "float32")
    return {"token_ids": draw.integers(0, 20, (8, 4))}, draw.integers(0, 3, 8), weights


def batches(step):
    while True:
        yield batch(step)
        step += 1


def say(line):
    """At once and in one piece: two threads speak."""
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


class Losses(checkpointing.EachStep):
    """Writes down the loss of each step, and says that it is done."""

    def __init__(self, step, path):
        super().__init__(step)
        self.path = path

    def reach(self, step, logs=None):
        with open(self.path, "a") as file:
            file.write(f"{json.dumps([step, float(logs['loss'])])}\n")
        say(f"step {step}")


def train(model, directory, callbacks=()):
    """Goes on to `STEPS`, from the last checkpoint in a directory."""
    keras.utils.set_random_seed(2)
    checkpoints = checkpointing.Checkpoints(directory, keep=2, best="loss")
    start = checkpoints.restore(model)
    model.fit(
        batches(start),
        initial_epoch=start,
        epochs=STEPS,
        steps_per_epoch=1,
        callbacks=[
            Losses(start, Path(directory) / "losses.jsonl"),
            checkpoints.callback(SAVE_EVERY),
            *callbacks,
        ],
        verbose=0,
    )
    return model


def values(model):
    return {name: checkpointing.gather(v) for name, v in checkpointing.variables_of(model).items()}


def block_writes(step):
    """The write of a step's checkpoint stops in the middle of its large file, for good."""
    fsync = os.fsync

    def stuck(descriptor):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if f"step-{step:08d}" in path and checkpointing.VARIABLES in path:
            os.truncate(path, os.fstat(descriptor).st_size // 2)
            say(f"writing in {threading.current_thread().name}")
            time.sleep(600)
        fsync(descriptor)

    os.fsync = stuck


if __name__ == "__main__":
    if keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(1)  # as in the tests
    if len(sys.argv) > 2:
        block_writes(int(sys.argv[2]))
    stop = checkpointing.StopOnSignal()
    train(make_model(), sys.argv[1], [stop])
    sys.exit(stop.exit_code)
