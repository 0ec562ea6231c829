"""Makes pretraining/tensorflow.tfrecord, written by TensorFlow itself, and what it holds.

    python tests/goldens/make_tfrecord.py

Made with TensorFlow 2.21.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

FOLDER = Path(__file__).with_name("pretraining")


def int64_list(values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def main():
    rng = np.random.RandomState(0)
    rows = [rng.randint(0, 21128, size) for size in (1, 5, 64, 200)]
    rows.append(np.array([0, 127, 128, 2**14, 2**63 - 1, -1, -(2**63)]))
    with tf.io.TFRecordWriter(str(FOLDER / "tensorflow.tfrecord")) as writer:
        for row in rows:
            feature = {"token_ids": int64_list(row), "word_starts": int64_list(row % 2)}
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString(deterministic=True))
    token_ids = np.concatenate(rows)
    np.savez(
        FOLDER / "tensorflow.npz",
        token_ids=token_ids,
        word_starts=token_ids % 2,
        lengths=[len(row) for row in rows],
    )


if __name__ == "__main__":
    main()
