"""What this machine can do at most: the figures that explain the others.

    python benchmarks/limits.py

The speed of one matrix product of BERT-base under TensorFlow, the time to touch fresh memory of
BERT-base's size for the first time, and the time to build its graph without values.
"""

import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
import tensorflow as tf

from bert4keras_lite import build_transformer_model
from bert4keras_lite.layers.base import deferred_initialization

BASE = {
    "vocab_size": 21128,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}


def seconds(function, repeats):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def touch():
    """Writes to 175 fresh arrays of 2.3 MB, kept until the end: 413 MB."""
    return [np.full((768, 768), 1.0, "float32") for _ in range(175)]


def build():
    with deferred_initialization():
        return build_transformer_model(**BASE, with_pool=True)


a, b = tf.random.normal((2048, 768)), tf.random.normal((768, 3072))
product = tf.function(lambda: tf.matmul(a, b))
product().numpy()
rate = 2 * 2048 * 768 * 3072 / seconds(lambda: product().numpy(), 30)
print(f"matrix product 2048 x 768 x 3072: {rate / 1e12:.2f} TFLOP/s")
print(f"touching 413 MB of fresh memory: {seconds(touch, 1):.2f} s")
print(f"building BERT-base without values: {seconds(build, 1):.2f} s")
