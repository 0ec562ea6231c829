"""Time of an update of a table of 50,000 token vectors: AdamW on all of it, or lazily.

    KERAS_BACKEND=jax python benchmarks/optimizers.py {plain,ours,lazy}

A model of an embedding (50,000 x 256) and a mean is trained on batches of 16 x 128 tokens, so that
the update is nearly all of a step. `plain` is Keras' AdamW, `ours` the extended one, `lazy` the
same with rows without a gradient left alone. Prints one line of JSON: the median of 20 steps in
seconds.
"""

import argparse
import json
import os
import statistics
import time

import numpy as np

ROWS, WIDTH, BATCH, LENGTH = 50000, 256, 16, 128


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["plain", "ours", "lazy"])
    kind = parser.parse_args().kind
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    from bert4keras_lite.optimizers import AdamW

    ids = keras.Input((LENGTH,), dtype="int32")
    vectors = keras.layers.Embedding(ROWS, WIDTH, name="token_embedding")(ids)
    model = keras.Model(ids, keras.ops.mean(vectors, axis=1))
    options = {"lazy": "token_embedding"} if kind == "lazy" else {}
    made = keras.optimizers.AdamW if kind == "plain" else AdamW
    model.compile(made(1e-3, weight_decay=0.01, **options), "mse")
    random = np.random.default_rng(0)
    target = np.zeros((BATCH, WIDTH), "float32")
    times = []
    for step in range(23):
        batch = random.integers(0, ROWS, (BATCH, LENGTH))
        start = time.perf_counter()
        model.train_on_batch(batch, target)
        if step > 2:  # the first ones compile
            times.append(time.perf_counter() - start)
    backend = keras.backend.backend()
    print(json.dumps({"contender": f"{backend}-{kind}", "seconds": statistics.median(times)}))


if __name__ == "__main__":
    main()
