"""Long texts: Nystrom attention beside full attention, seconds and memory of one forward pass.

    python benchmarks/long_input.py ATTENTION LENGTH    # on the backend KERAS_BACKEND names

Two layers of BERT-base's width, one text without padding, 64 landmarks, random weights. Prints
one line of JSON; memory is the peak of the process, in MiB, less what it held before the first
pass. How near the outputs are is not the point here.
"""

import json
import os
import statistics
import sys
import time

from loading import peak_memory

LENGTHS = [512, 2048, 8192]
BACKENDS = ["tensorflow", "jax"]
SECONDS, MOST = 10, 20  # time spent on one contender, and passes at most


def main(attention, length):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import numpy as np

    from bert4keras_lite import build_transformer_model

    model = build_transformer_model(
        vocab_size=1000,
        hidden_size=768,
        num_hidden_layers=2,
        num_attention_heads=12,
        intermediate_size=3072,
        max_position=length,
        attention=attention,
        num_landmarks=64,
    )
    ids = np.random.RandomState(0).randint(1, 1000, (1, length)).astype("int32")
    before = peak_memory()
    model.predict_on_batch([ids, ids * 0])  # compiles
    seconds = []
    while sum(seconds) < SECONDS and len(seconds) < MOST:
        start = time.perf_counter()
        model.predict_on_batch([ids, ids * 0])
        seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds), "memory": (peak_memory() - before) / 2**20}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
