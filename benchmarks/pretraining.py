"""Seconds a step of training BERT-base to fill masks, sequences of 512.

    KERAS_BACKEND=jax python benchmarks/pretraining.py {ours,transformers,keras-hub} [--quick]

The same model for all (12 layers of 768, a vocabulary of 21,128, dropout 0.1), the same batches
of random tokens without padding, of which 77 are to be predicted, AdamW, gradients clipped to a
norm of 1; each trained by its own loop: `pretraining`'s model and optimizer by `fit`, transformers'
`BertForMaskedLM` by its `Trainer`, keras-hub's `BertMaskedLM` by `fit`. What is done for the
predictions is as each does it: we and keras-hub score the 77 positions, transformers scores all
512 and leaves out the others afterwards.

`--bf16` trains in bfloat16 with float32 weights; `--compile` has PyTorch compile the model
(transformers only; TensorFlow and JAX always do). Prints one line of JSON: the median of the
seconds that a step took, and the share of the peak (`--peak`, floating point operations a
second), counted as `Objective.flops_per_example` does.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path[0] = str(Path(__file__).parents[1])  # where `pretraining` is the package, not this file

VOCABULARY, MASK = 21128, 103
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
BASE |= {"intermediate_size": 3072}
QUICK = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
QUICK |= {"intermediate_size": 64}
ROUNDS = 5  # the first, in which things are compiled, does not count


def batch(options):
    """Ids with masks, where these are, and what was there."""
    random = np.random.default_rng(0)
    targets = random.integers(1000, VOCABULARY, (options.batch, options.length), dtype="int32")
    masked = max(1, round(0.15 * options.length))
    places = np.argsort(random.random(targets.shape), axis=1)[:, :masked]
    places = np.sort(places, axis=1).astype("int32")
    ids = targets.copy()
    np.put_along_axis(ids, places, MASK, axis=1)
    return ids, places, targets


def settings(options):
    from pretraining.config import Settings

    shape = QUICK if options.quick else BASE
    dropout = {"dropout_rate": 0.1, "attention_dropout_rate": 0.1}
    model = shape | dropout | {"vocab_size": VOCABULARY, "max_position": options.length}
    return Settings(objective="mlm", model=model, steps=10**6)


def ours(options):
    import keras

    from pretraining import loop, objectives

    keras.config.set_dtype_policy("mixed_bfloat16" if options.bf16 else "float32")
    run = settings(options)
    model = objectives.build(**run.part("model")).model
    model.compile(loop.make_optimizer(**run.part("optimizer")))
    ids, places, targets = batch(options)
    inputs = {"token_ids": ids, "segment_ids": ids * 0, "masked_positions": places}
    return fitted(model, inputs, places, targets, options)


def keras_hub(options):
    import keras
    import keras_hub

    keras.config.set_dtype_policy("mixed_bfloat16" if options.bf16 else "float32")
    shape = settings(options).model
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=VOCABULARY,
        num_layers=shape["num_hidden_layers"],
        num_heads=shape["num_attention_heads"],
        hidden_dim=shape["hidden_size"],
        intermediate_dim=shape["intermediate_size"],
        dropout=0.1,
        max_sequence_length=options.length,
    )
    model = keras_hub.models.BertMaskedLM(backbone, preprocessor=None)
    model.compile(
        keras.optimizers.AdamW(1e-4, weight_decay=0.01, global_clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy()],
    )
    ids, places, targets = batch(options)
    inputs = {"token_ids": ids, "segment_ids": ids * 0, "padding_mask": ids * 0 + 1}
    return fitted(model, inputs | {"mask_positions": places}, places, targets, options)


def fitted(model, inputs, places, targets, options):
    """Seconds a step of `fit`, by round."""
    import keras

    ends = []
    clock = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(time.perf_counter()))
    wanted = np.take_along_axis(targets, places, axis=1)
    arrays = inputs, wanted, np.ones(wanted.shape, "float32")
    # keras-hub's `fit` takes arrays, of which it makes a tf.data pipeline, and no generators
    x, y, weights = keras.tree.map_structure(lambda a: np.tile(a, (options.steps, 1)), arrays)
    model.fit(
        x,
        y,
        sample_weight=weights,
        batch_size=options.batch,
        epochs=ROUNDS,
        verbose=0,
        shuffle=False,
        callbacks=[clock],
    )
    return np.diff(ends) / options.steps


def transformers(options):
    import torch
    from transformers import (
        BertConfig,
        BertForMaskedLM,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    shape = {name: value for name, value in settings(options).model.items() if "drop" not in name}
    shape["max_position_embeddings"] = shape.pop("max_position")
    ids, places, targets = (torch.as_tensor(x, dtype=torch.int64) for x in batch(options))
    labels = torch.full_like(targets, -100).scatter(1, places, targets.gather(1, places))
    rows = [{"input_ids": i, "labels": wanted} for i, wanted in zip(ids, labels, strict=True)]

    class Clock(TrainerCallback):
        ends = []  # noqa: RUF012

        def on_step_end(self, arguments, state, control, **_):
            if state.global_step % options.steps == 0:
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                self.ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as directory:
        arguments = TrainingArguments(
            output_dir=directory,
            max_steps=options.steps * ROUNDS,
            per_device_train_batch_size=options.batch,
            learning_rate=1e-4,
            weight_decay=0.01,
            bf16=options.bf16,
            use_cpu=not torch.cuda.is_available(),
            torch_compile=options.compile,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        model = BertForMaskedLM(BertConfig(**shape))
        Trainer(model, arguments, train_dataset=rows, callbacks=[Clock]).train()
    return np.diff(Clock.ends) / options.steps


CONTENDERS = {"ours": ours, "transformers": transformers, "keras-hub": keras_hub}


def flops(options):
    """Of a step, by the same count for all; see `Objective.flops_per_example`."""
    shape, masked = settings(options).model, max(1, round(0.15 * options.length))
    width, inner = shape["hidden_size"], shape["intermediate_size"]
    block = options.length * (4 * width**2 + 2 * width * inner) + 2 * options.length**2 * width
    head = masked * (width**2 + width * VOCABULARY)
    return 6 * options.batch * (shape["num_hidden_layers"] * block + head)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--steps", type=int, default=3, help="of a round")
    parser.add_argument("--quick", action="store_true", help="a tiny model: does it run?")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--peak", type=float, help="floating point operations a second")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    seconds = statistics.median(CONTENDERS[options.contender](options))
    backend = "torch"
    if options.contender != "transformers":
        import keras

        backend = keras.backend.backend()
    compiled = "-compiled" if options.compile else ""
    found = {"contender": f"{options.contender}-{backend}{compiled}", "seconds": seconds}
    if options.peak:
        found["utilization"] = flops(options) / seconds / options.peak
    print(json.dumps(found))


if __name__ == "__main__":
    main()
