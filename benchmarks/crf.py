"""Speed of one contender's conditional random field.

    python benchmarks/crf.py CONTENDER [--quick]

32 rows of up to 256 tokens, 30 tags, as a step of training sees them: the loss and its gradient
by scores and transitions, compiled where the contender can; and the best tags of every row, from
arrays to arrays. `pytorch-crf` is the peer.

Prints one line of JSON: the fastest of some calls, in seconds, and the loss, which is the same
for all. `--quick` times a single call.
"""

import argparse
import json
import os
import time

import numpy as np

ROWS, LENGTH, TAGS = 32, 256, 30
SECONDS, MOST = 10, 50  # time spent on the timed calls, and calls at most


def draw():
    random = np.random.RandomState(0)
    scores = random.standard_normal((ROWS, LENGTH, TAGS)).astype("float32")
    trans = (0.3 * random.standard_normal((TAGS, TAGS))).astype("float32")
    lengths = random.randint(LENGTH // 2, LENGTH + 1, (ROWS, 1))
    lengths[0] = LENGTH
    return scores, random.randint(0, TAGS, (ROWS, LENGTH)), np.arange(LENGTH) < lengths, trans


# Each contender imports what it needs and returns two functions: one gives the summed loss, its
# gradient being computed as well, the other the tags.


def ours(backend):
    os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    from keras import ops

    from bert4keras_lite.layers import ConditionalRandomField

    scores, labels, visible, trans = draw()
    crf = ConditionalRandomField()
    crf.build(scores.shape)
    crf.set_weights([trans])
    labels = np.where(visible, labels, -1)

    def loss(x):
        return ops.sum(crf.sparse_loss(labels, x))

    def tags():
        return ops.convert_to_numpy(crf.decode(scores, visible))

    def jax():
        import jax

        def of(x, weight):
            with keras.StatelessScope([(crf.weights[0], weight)]):
                return loss(x)

        step = jax.jit(jax.value_and_grad(of, argnums=(0, 1)))
        return lambda: float(jax.block_until_ready(step(scores, trans))[0])

    def tensorflow():
        import tensorflow as tf

        @tf.function(jit_compile=True)
        def step(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = loss(x)
            return value, tape.gradient(value, [x, crf.weights[0].value])

        x = tf.constant(scores)
        return lambda: float(step(x)[0])

    def torch():
        import torch

        x = torch.tensor(scores, requires_grad=True)

        def step():
            value = loss(x)
            torch.autograd.grad(value, [x, crf.weights[0].value])
            return value.item()

        return step

    return {"jax": jax, "tensorflow": tensorflow, "torch": torch}[backend](), tags


def pytorch_crf():
    import torch
    from torchcrf import CRF

    scores, labels, visible, trans = (torch.tensor(x) for x in draw())
    crf = CRF(TAGS, batch_first=True)
    with torch.no_grad():
        crf.transitions.copy_(trans)
        crf.start_transitions.zero_()
        crf.end_transitions.zero_()
    x = scores.clone().requires_grad_()

    def step():
        value = -crf(x, labels, visible)
        torch.autograd.grad(value, [x, crf.transitions])
        return value.item()

    def tags():
        with torch.no_grad():
            return crf.decode(scores, visible)

    return step, tags


def in_numpy():
    os.environ["KERAS_BACKEND"] = "jax"
    from bert4keras_lite.layers import ViterbiDecoder

    scores, _, visible, trans = draw()
    return None, lambda: ViterbiDecoder(trans).decode_batch(scores, visible)


CONTENDERS = {
    **{f"ours-{b}": lambda b=b: ours(b) for b in ("jax", "tensorflow", "torch")},
    "ours-numpy": in_numpy,
    "pytorch-crf": pytorch_crf,
}


def fastest(function, quick):
    """Seconds of the fastest call, after two that may compile."""
    function(), function()
    times = []
    while not times or (not quick and len(times) < MOST and sum(times) < SECONDS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    step, tags = CONTENDERS[arguments.contender]()
    result = {"contender": arguments.contender, "viterbi": fastest(tags, arguments.quick)}
    if step is not None:
        result |= {"loss": step(), "step": fastest(step, arguments.quick)}
    print(json.dumps(result))
