"""Freeze the results of functions of Keras 2 and of bert4keras: of `K`, `backend` and `snippets`.

Needs bert4keras 0.11.5 with TensorFlow 2.21 and tf_keras 2.21:

    cd tests && python -m goldens.make_old_functions

writes ``old_functions.npz``: an array for each of ``CALLS``, which the tests call with
`bert4keras_lite.compat`.
"""

import os
import types
from pathlib import Path

import numpy as np

PATH = Path(__file__).resolve().parent / "old_functions.npz"
R = np.random.RandomState(0)
X = R.standard_normal((2, 3, 4)).astype("float32")
Y = R.standard_normal((2, 4, 5)).astype("float32")
M = R.standard_normal((2, 4)).astype("float32")
POSITIVE = np.abs(X) + 0.1
PROBABILITIES = POSITIVE / POSITIVE.sum(-1, keepdims=True)
MASK = np.array([[1, 1, 0], [1, 1, 1]], "float32")
IDS = np.array([[0, 2, 1], [3, 1, 0]], "float32")
TEXT = "Ａｂｃ　Äé１２！ 語言"
CALLS = {
    "abs": lambda b: b.K.abs(b.t(X)),
    "argmax": lambda b: b.K.argmax(b.t(X)),
    "batch_dot": lambda b: b.K.batch_dot(b.t(X), b.t(Y)),
    "batch_dot_axes": lambda b: b.K.batch_dot(b.t(X), b.t(X), axes=2),
    "batch_dot_2d": lambda b: b.K.batch_dot(b.t(M), b.t(M)),
    "batch_dot_3d_2d": lambda b: b.K.batch_dot(b.t(X), b.t(M), axes=(2, 1)),
    "binary_crossentropy": lambda b: b.K.binary_crossentropy(b.t(MASK), b.t(PROBABILITIES[..., 0])),
    "binary_crossentropy_of_small": lambda b: b.K.binary_crossentropy(
        b.t(MASK), b.t(np.array([[0, 1e-7, 1e-4], [1, 0.5, 1 - 1e-6]], "float32"))
    ),
    "categorical_crossentropy": lambda b: b.K.categorical_crossentropy(
        b.t(np.eye(4, dtype="float32")[IDS.astype(int)]), b.t(PROBABILITIES)
    ),
    "sparse_categorical_crossentropy": lambda b: b.K.sparse_categorical_crossentropy(
        b.t(IDS), b.t(PROBABILITIES)
    ),
    "sparse_categorical_crossentropy_logits": lambda b: b.K.sparse_categorical_crossentropy(
        b.t(IDS), b.t(X), from_logits=True
    ),
    "cast_mean": lambda b: b.K.mean(b.K.cast(b.K.equal(b.t(IDS), 0), b.K.floatx())),
    "concatenate": lambda b: b.K.concatenate([b.t(X), b.t(X)]),
    "cumsum": lambda b: b.K.cumsum(b.t(X), axis=1),
    "cumsum_default": lambda b: b.K.cumsum(b.t(X)),
    "cumprod_default": lambda b: b.K.cumprod(b.t(X)),
    "dot": lambda b: b.K.dot(b.t(X), b.t(Y[0])),
    "expand_dims": lambda b: b.K.expand_dims(b.t(X)),
    "flatten": lambda b: b.K.flatten(b.t(X)),
    "flatten_from": lambda b: b.K.flatten(b.t(X), 1),
    "flatten_last": lambda b: b.K.flatten(b.t(X), -2),
    "gather": lambda b: b.K.gather(b.t(M), b.K.constant([1, 0, 1], dtype="int32")),
    "hard_sigmoid": lambda b: b.K.hard_sigmoid(b.t(3 * X)),
    "l2_normalize": lambda b: b.K.l2_normalize(b.t(X), axis=-1),
    "logsumexp": lambda b: b.K.logsumexp(b.t(X), axis=1),
    "one_hot": lambda b: b.K.one_hot(b.K.cast(b.t(IDS), "int32"), 4),
    "permute_dimensions": lambda b: b.K.permute_dimensions(b.t(X), (0, 2, 1)),
    "pow": lambda b: b.K.pow(b.t(POSITIVE), 1.5),
    "prod": lambda b: b.K.prod(b.t(X), axis=1),
    "relu": lambda b: b.K.relu(b.t(X), alpha=0.1, max_value=1.0),
    "repeat": lambda b: b.K.repeat(b.t(M), 3),
    "repeat_elements": lambda b: b.K.repeat_elements(b.t(X), 2, 1),
    "reshape": lambda b: b.K.reshape(b.t(X), (2, -1)),
    "softmax": lambda b: b.K.softmax(b.t(X), axis=1),
    "sqrt": lambda b: b.K.sqrt(b.t(X)),
    "std": lambda b: b.K.std(b.t(X), axis=1),
    "var": lambda b: b.K.var(b.t(X), axis=-1, keepdims=True),
    "sum": lambda b: b.K.sum(b.t(X), axis=[1, 2]),
    "switch": lambda b: b.K.switch(b.K.greater(b.t(MASK), 0.5), b.t(IDS), -b.t(IDS)),
    "temporal_padding": lambda b: b.K.temporal_padding(b.t(X), (1, 2)),
    "tile": lambda b: b.K.tile(b.t(M), (1, 2)),
    "where": lambda b: b.K.where(b.K.greater(b.t(X), 0), b.t(X), b.t(0 * X)),
    "align": lambda b: b.backend.align(b.t(M), [0, 2], 4),
    "apply_rotary_position_embeddings": lambda b: b.backend.apply_rotary_position_embeddings(
        b.backend.sinusoidal_embeddings(b.K.arange(0, 3, dtype="float32")[None], 4), b.t(X)
    ),
    "attention_normalize": lambda b: b.backend.attention_normalize(b.t(Y[:, :3, :3]), b.t(MASK)),
    "squared_relu": lambda b: b.backend.attention_normalize(
        b.t(Y[:, :3, :3]), b.t(MASK), method="squared_relu"
    ),
    "softmax_plus": lambda b: b.backend.attention_normalize(
        b.t(Y[:, :3, :3]), b.t(MASK), method="softmax_plus"
    ),
    "batch_gather": lambda b: b.backend.batch_gather(b.t(Y), b.t(IDS)),
    "batch_gather_2d": lambda b: b.backend.batch_gather(b.t(M), b.t(IDS)),
    "divisible_temporal_padding": lambda b: b.backend.divisible_temporal_padding(b.t(X), 2),
    "gelu_erf": lambda b: b.backend.gelu_erf(b.t(X)),
    "gelu_tanh": lambda b: b.backend.gelu_tanh(b.t(X)),
    "leaky_relu": lambda b: b.backend.leaky_relu(b.t(X)),
    "multilabel": lambda b: b.backend.multilabel_categorical_crossentropy(
        b.t((X > 0.5).astype("float32")), b.t(X)
    ),
    "piecewise_linear": lambda b: b.backend.piecewise_linear(
        b.t(np.arange(8, dtype="float32")), {2: 1, 6: 0.5}
    ),
    "pool1d": lambda b: b.backend.pool1d(b.t(X), 2),
    "root_mean_square": lambda b: b.backend.root_mean_square(b.t(X), axis=-1),
    "sequence_masking": lambda b: b.backend.sequence_masking(b.t(X), b.t(MASK), -9.0, 1),
    "sinusoidal_embeddings": lambda b: b.backend.sinusoidal_embeddings(b.t(IDS), 6),
    "sparse_multilabel": lambda b: b.backend.sparse_multilabel_categorical_crossentropy(
        b.t(IDS[:, None, :2] + np.zeros((2, 3, 2), "float32")), b.t(X), mask_zero=True
    ),
    "swish": lambda b: b.backend.swish(b.t(X)),
    "strQ2B": lambda b: np.array(list(map(ord, b.strQ2B(TEXT)))),
    "lowercase_and_normalize": lambda b: np.array(
        list(map(ord, b.snippets.lowercase_and_normalize(TEXT)))
    ),
    "longest_common_subsequence": lambda b: np.array(
        b.snippets.longest_common_subsequence("abcbdab", "bdcaba")[1]
    ),
    "longest_common_substring": lambda b: np.array(
        b.snippets.longest_common_substring("xabcdy", "zbcdabc")[1]
    ),
    "sequence_padding": lambda b: b.snippets.sequence_padding([[1, 2], [3]], 3, -1, mode="pre"),
    "text_segmentate": lambda b: np.array(
        list(map(len, b.snippets.text_segmentate("一二。三四五，六。" * 3, 7, "。，")))
    ),
    "truncate_sequences": lambda b: np.array(
        [len(s) for s in b.snippets.truncate_sequences(7, -2, list(range(6)), list(range(5)))]
    ),
    "softmax_of_arrays": lambda b: b.snippets.softmax(X, axis=1),
}


def main():
    os.environ |= {"TF_KERAS": "1", "TF_USE_LEGACY_KERAS": "1"}
    import builtins

    import tensorflow as tf

    tf.keras.optimizers.Optimizer = tf.keras.optimizers.legacy.Optimizer
    builtins.unichr = chr  # bert4keras' strQ2B is written for Python 2
    from bert4keras import backend, snippets

    b = types.SimpleNamespace(
        K=backend.K,
        backend=backend,
        snippets=snippets,
        t=tf.constant,
        strQ2B=snippets.strQ2B,
    )
    found = {name: np.asarray(call(b)) for name, call in CALLS.items()}
    np.savez_compressed(PATH, **found)
    print(f"{len(found)} results")


if __name__ == "__main__":
    main()
