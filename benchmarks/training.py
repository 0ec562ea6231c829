"""Seconds a training step by method: four layers, 312 wide, two classes, batch 16 x 128.

    python benchmarks/training.py METHOD    # on the backend KERAS_BACKEND names; "plain" is none

Trains on random tokens, all of them real (no padding), in float32, and prints one line of JSON:
the median of some steps in seconds, and of the processor time of all threads, which other work on
the machine disturbs less.
"""

import json
import os
import statistics
import sys
import time

BATCH, LENGTH, VOCABULARY = 16, 128, 21128
TINY = {
    "vocab_size": VOCABULARY,
    "hidden_size": 312,
    "num_hidden_layers": 4,
    "num_attention_heads": 12,
    "intermediate_size": 1200,
    "dropout_rate": 0.1,
    "attention_dropout_rate": 0.1,
}
TABLE = "token_embedding"
# name -> function of bert4keras_lite.training, its arguments
METHODS = {
    "plain": None,
    "adversarial training": ("adversarial_training", TABLE),
    "projected, 3 steps": ("projected_adversarial_training", TABLE),
    "gradient penalty": ("gradient_penalty", TABLE),
    "virtual adversarial": ("virtual_adversarial_training", TABLE),
    "R-Drop": ("r_drop",),
}
WARMUP, STEPS = 3, 15


def main(method):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import numpy as np

    from bert4keras_lite import build_transformer_model, training

    bert = build_transformer_model(**TINY)
    model = keras.Model(bert.inputs, keras.layers.Dense(2)(bert.output[:, 0]))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(2e-5), loss)
    if METHODS[method]:
        name, *arguments = METHODS[method]
        getattr(training, name)(model, *arguments)
    random = np.random.RandomState(0)
    ids = random.randint(1, VOCABULARY, (BATCH, LENGTH)).astype("int32")
    labels = random.randint(0, 2, (BATCH,)).astype("int32")
    seconds, cpu = [], []
    for _ in range(WARMUP + STEPS):
        start, begin = time.perf_counter(), time.process_time()
        float(model.train_on_batch([ids, ids * 0], labels))
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - begin)
    return {
        "method": method,
        "backend": keras.backend.backend(),
        "median": statistics.median(seconds[WARMUP:]),
        "cpu": statistics.median(cpu[WARMUP:]),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
