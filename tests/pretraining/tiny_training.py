"""Trains a tiny masked language model as one of several ways says; run by `test_distribution.py`.

    python tiny_training.py DIRECTORY JSON

JSON is a list of runs, each a dict of settings (`devices`, `model_parallel`, ...) and of
`checkpoint` (to start from), `dropout`, `steps`, `optimizer` (arguments of AdamW), `rows` (of the
global batch), `broken` (a step with a loss that is no number in its first row), `state` (where
to go on from, and to save to) and `export` (a directory for the model, for which the second host is
asked at the last step). Losses and variables of run `i` go to `DIRECTORY/i.npz`.
"""

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[2]))

if os.environ["KERAS_BACKEND"] == "tensorflow":  # before anything asks for a device
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * int(os.environ["VIRTUAL_DEVICES"]),
    )

import keras
import numpy as np

from bert4keras_lite.optimizers import AdamW
from pretraining import distribution, loop, objectives
from pretraining.checkpointing import Checkpoints, gather

LENGTH, PREDICTIONS, VOCABULARY = 12, 3, 32
MODEL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 8}
MODEL |= {"intermediate_size": 32, "max_position": LENGTH}


def batches(step, rows=8, broken=None, hosts=1, host=0):
    """Rows of the global batches from a step on; the number of predictions differs by row."""
    while True:
        draw = np.random.default_rng(step)
        ids = draw.integers(1, VOCABULARY, (rows, LENGTH), dtype="int32")
        ids[np.arange(LENGTH) >= draw.integers(4, LENGTH + 1, (rows, 1))] = 0
        positions = np.sort(draw.integers(1, 4, (rows, PREDICTIONS), dtype="int32"), axis=1)
        targets = draw.integers(1, VOCABULARY, (rows, PREDICTIONS), dtype="int32")
        weights = (np.arange(PREDICTIONS) < draw.integers(0, PREDICTIONS + 1, (rows, 1))) * 1.0
        weights[0, 0] = np.inf if step == broken else weights[0, 0]
        inputs = {"token_ids": ids, "segment_ids": ids * 0, "masked_positions": positions}
        part = slice(rows // hosts * host, rows // hosts * (host + 1))
        yield keras.tree.map_structure(
            lambda x, part=part: x[part], (inputs, targets, weights.astype("float32"))
        )
        step += 1


def train(run):
    """Losses, one a step, and the variables at the end."""
    devices = {field.name for field in dataclasses.fields(distribution.DeviceSettings)}
    settings = distribution.DeviceSettings(**{k: v for k, v in run.items() if k in devices})
    checkpoint, dropout = run.get("checkpoint"), {"dropout_rate": run.get("dropout", 0.0)}
    shape = ({} if checkpoint else MODEL) | dropout
    steps, losses = run.get("steps", 4), []
    keras.utils.set_random_seed(0)
    with distribution.scope(settings):
        objective = objectives.build("mlm", VOCABULARY, model=shape, checkpoint=checkpoint)
        model = objective.model
        distribution.check(objective.transformer, settings.model_parallel or 1)
        model.compile(AdamW(1e-2, **run.get("optimizer", {})))
        model.optimizer.build(model.trainable_variables)
        states = Checkpoints(run["state"]) if "state" in run else None
        begin = states.restore(model) if states else 0
        arguments = run.get("rows", 8), run.get("broken"), *distribution.hosts()
        data = distribution.make_dataset(lambda step: batches(step, *arguments), begin)
        log = keras.callbacks.LambdaCallback(on_epoch_end=lambda _, logs: losses.append(logs))
        callbacks = [log]
        if "export" in run:
            nothing = SimpleNamespace(files={})
            callbacks.append(loop.ExportOnSignal(objective, run["export"], nothing, begin))
            if settings.process_id == 1:  # the other is to take part unasked
                ask = lambda epoch, _: epoch == steps - 1 and os.kill(os.getpid(), signal.SIGUSR1)  # noqa: E731
                callbacks.append(keras.callbacks.LambdaCallback(on_epoch_begin=ask))
        model.fit(data, epochs=steps, steps_per_epoch=1, verbose=0, callbacks=callbacks)
        if states:
            states.save(begin + steps, model)
            states.wait()
        variables = model.variables + model.optimizer.variables
        arrays = {v.path: gather(v) for v in variables if "seed" not in v.path}
    return {"losses": np.array([logs["loss"] for logs in losses])} | arrays


if __name__ == "__main__":
    directory, runs = Path(sys.argv[1]), json.loads(sys.argv[2])
    for i, run in enumerate(runs):
        np.savez(directory / f"{i}.npz", **train(run))
