"""Freeze what bert4keras and pytorch-crf compute for taggers, pointers and poolings.

Two sub-commands, because the two libraries live in different environments:

    TF_USE_LEGACY_KERAS=1 TF_KERAS=1 python tests/goldens/make_outputs.py bert4keras
    python tests/goldens/make_outputs.py torchcrf

Each writes the file of its name under ``outputs/``. bert4keras is 0.11.5, with TensorFlow and
tf_keras 2.21; torchcrf is pytorch-crf 0.7.2 with PyTorch 2.13, its start and end scores being 0.
Weights of a layer are ``layer/weight_0``, ..., in Keras' order, as stored: transitions divided by
``lr_multiplier``, which is 10 except for the low-rank model.
"""

import argparse
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent / "outputs"
BATCH, LENGTH, TAGS, DIM = 4, 7, 5, 6
VISIBLE = np.arange(LENGTH) < np.array([[7], [4], [1], [6]])


def draw():
    """Scores, labels and vectors, and a function that draws weights of a shape."""
    random = np.random.RandomState(0)

    def weights(*shape):
        return random.standard_normal(shape).astype("float32")

    scores, x = weights(BATCH, LENGTH, TAGS), weights(BATCH, LENGTH, DIM)
    labels = random.randint(0, TAGS, (BATCH, LENGTH))
    return scores, labels, x, weights


def bert4keras():
    import tensorflow as tf
    from bert4keras import layers as b4k
    from bert4keras.backend import keras
    from bert4keras.snippets import ViterbiDecoder

    scores, labels, x, weights = draw()
    results = {"scores": scores, "labels": labels, "visible": VISIBLE, "x": x}
    mask = tf.constant(VISIBLE)

    def filled(name, layer, shape):
        """The layer, built and with drawn weights."""
        inputs = keras.layers.Input(shape[1:])
        layer(inputs)
        drawn = [weights(*w.shape) for w in layer.get_weights()]
        layer.set_weights(drawn)
        results.update({f"{name}/weight_{i}": w for i, w in enumerate(drawn)})
        return layer

    taggers = {
        "crf": b4k.ConditionalRandomField(lr_multiplier=10),
        "memm": b4k.MaximumEntropyMarkovModel(lr_multiplier=10),
        "memm_low_rank": b4k.MaximumEntropyMarkovModel(hidden_dim=2),
    }
    for name, layer in taggers.items():
        filled(name, layer, (None, LENGTH, TAGS))
        if layer.lr_multiplier != 1:  # random numbers ten times too large teach nothing
            small = [w / layer.lr_multiplier for w in layer.get_weights()]
            layer.set_weights(small)
            results.update({f"{name}/weight_{i}": w for i, w in enumerate(small)})
        y = layer.call(tf.constant(scores), mask)
        dense = tf.one_hot(labels, TAGS)
        for method, truth in [("sparse", tf.constant(labels)), ("dense", dense)]:
            for kind in ("loss", "accuracy"):
                found = getattr(layer, f"{method}_{kind}")(truth, y)
                results[f"{name}/{method}_{kind}"] = np.asarray(found)

    pointers = {
        "pointer": b4k.GlobalPointer(3, 8),
        "pointer_plain": b4k.GlobalPointer(3, 5, RoPE=False, use_bias=False, tril_mask=False),
        "efficient": b4k.EfficientGlobalPointer(3, 8),
        "efficient_plain": b4k.EfficientGlobalPointer(3, 5, RoPE=False, tril_mask=False),
    }
    for name, layer in pointers.items():
        filled(name, layer, (None, LENGTH, DIM))
        results[f"{name}/output"] = np.asarray(layer(tf.constant(x), mask=mask))

    for name, layer in [
        ("average", b4k.GlobalAveragePooling1D()),
        ("max", b4k.GlobalMaxPooling1D()),
    ]:
        results[f"{name}/output"] = np.asarray(layer.call(tf.constant(x), mask=mask))

    decoder = ViterbiDecoder(weights(TAGS, TAGS), starts=[0, 3], ends=[1, 3])
    tags = np.full(labels.shape, -1)
    for row, shown in enumerate(VISIBLE):
        tags[row, shown] = decoder.decode(scores[row, shown].copy())
    results |= {"viterbi/trans": decoder.trans, "viterbi/tags": tags}
    np.savez_compressed(FOLDER / "bert4keras.npz", **results)


def torchcrf():
    import torch
    from torchcrf import CRF

    scores, labels, _, weights = draw()
    trans = weights(TAGS, TAGS)
    crf = CRF(TAGS, batch_first=True)
    with torch.no_grad():
        crf.transitions.copy_(torch.tensor(trans))
        crf.start_transitions.zero_()
        crf.end_transitions.zero_()
        arguments = torch.tensor(scores), torch.tensor(labels), torch.tensor(VISIBLE)
        loss = -crf(*arguments, reduction="none")
        rows = crf.decode(arguments[0], arguments[2])
    tags = np.full(labels.shape, -1)
    for row, found in enumerate(rows):
        tags[row, : len(found)] = found
    np.savez_compressed(
        FOLDER / "torchcrf.npz",
        **{"scores": scores, "labels": labels, "visible": VISIBLE, "trans": trans},
        loss=loss.numpy(),
        tags=tags,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", choices=["bert4keras", "torchcrf"])
    FOLDER.mkdir(exist_ok=True)
    globals()[parser.parse_args().library]()
