"""Freeze the losses of small trainings by bert4keras, in scripts as people write them for it.

Needs bert4keras 0.11.5 with TensorFlow 2.21 and tf_keras 2.21, and ``old_models`` of
`make_old_models.py`:

    cd tests && python -m goldens.make_old_training

writes ``old_training.npz``: the losses of ``STEPS`` batches of each of ``TRAININGS``. The tests run
the same functions with `bert4keras_lite.compat`.
"""

import os
import types
from pathlib import Path

import numpy as np

from .make_old_models import build

FOLDER = Path(__file__).resolve().parent
STEPS = 12


def rows(count=16):
    """Rows of ids and labels, of different lengths."""
    random = np.random.RandomState(1)
    lengths = random.randint(4, 9, count)
    return [
        (
            random.randint(1, 20, n),
            np.arange(n) >= n // 2,
            random.randint(3),
            random.randint(4, size=n),
        )
        for n in lengths
    ]


def generator(b, collate):
    """A generator of batches of four rows, by the template of bert4keras."""

    class data_generator(b.snippets.DataGenerator):
        def __iter__(self, random=False):
            batch = []
            for is_end, row in self.sample(random):
                batch.append(row)
                if len(batch) == self.batch_size or is_end:
                    yield collate(batch)
                    batch = []

    return data_generator(rows(), batch_size=4)


def padded(b, batch, i):
    return b.snippets.sequence_padding([row[i].astype(int) for row in batch])


def started(b, name):
    """Loads the weights of `make_old_models.py`, and gives new layers fixed ones."""
    base, _ = build(b.models, b.layers, b.keras, name, dropout_rate=0.0)
    base.load_weights(str(FOLDER / "old_models" / f"{name}.h5"))
    return base


def fixed(layer):
    random = np.random.RandomState(2)
    layer.set_weights([0.2 * random.standard_normal(w.shape) for w in layer.get_weights()])


def fit(b, model, collate):
    data = generator(b, collate)
    history = model.fit(data.forfit(random=False), steps_per_epoch=1, epochs=STEPS, verbose=0)
    assert len(data) == 4
    return history.history["loss"]


def classifier(b):
    """A classifier, with a schedule of the rate."""
    model = started(b, "classifier")
    AdamLR = b.optimizers.extend_with_piecewise_linear_lr(b.optimizers.Adam, name="AdamLR")
    model.compile(
        loss="sparse_categorical_crossentropy",
        optimizer=AdamLR(learning_rate=1e-2, lr_schedule={4: 1, 10: 0.1}),
        metrics=["accuracy"],
    )

    def collate(batch):
        labels = b.snippets.sequence_padding([[row[2]] for row in batch])
        return [padded(b, batch, 0), padded(b, batch, 1)], b.as_labels(labels)

    return fit(b, model, collate)


def unilm(b):
    """A sequence-to-sequence model, with its loss in a layer."""
    K = b.backend.K

    class CrossEntropy(b.layers.Loss):
        def compute_loss(self, inputs, mask=None):
            y_true, y_mask, y_pred = inputs
            y_true = y_true[:, 1:]
            y_mask = y_mask[:, 1:]
            y_pred = y_pred[:, :-1]
            loss = K.sparse_categorical_crossentropy(y_true, y_pred)
            return K.sum(loss * y_mask) / K.sum(y_mask)

    base = started(b, "bert_unilm")
    output = CrossEntropy(2)(base.inputs + base.outputs)
    model = b.models.Model(base.inputs, output)
    model.compile(optimizer=b.optimizers.Adam(1e-2))
    return fit(b, model, lambda batch: b.inputs_alone([padded(b, batch, 0), padded(b, batch, 1)]))


def tagger(b):
    """A CRF on a layer found by its name."""
    base = started(b, "bert_nsp")
    output = base.get_layer("Transformer-1-FeedForward-Norm").output
    dense = b.layers.Dense(4)
    crf = b.layers.ConditionalRandomField(lr_multiplier=10)
    model = b.models.Model(base.inputs, crf(dense(output)))
    for layer in (dense, crf):
        fixed(layer)
    model.compile(
        loss=crf.sparse_loss, optimizer=b.optimizers.Adam(1e-2), metrics=[crf.sparse_accuracy]
    )

    def collate(batch):
        return [padded(b, batch, 0), padded(b, batch, 1)], b.as_labels(padded(b, batch, 3))

    return fit(b, model, collate)


def conditional(b):
    """A conditional normalization of a tensor found by its place, with two losses and a mask."""
    K, L = b.backend.K, b.layers

    class TotalLoss(L.Loss):
        def compute_loss(self, inputs, mask=None):
            labels, first, second, _ = inputs
            mask = 1.0 if mask[3] is None else K.cast(mask[3], K.floatx())
            loss = K.binary_crossentropy(labels, first) + K.binary_crossentropy(labels, second)
            loss = K.mean(loss, 2)
            return K.sum(loss * mask) / K.sum(mask)

    def subject(inputs):
        x, ids = inputs
        start = b.backend.batch_gather(x, ids[:, :1])
        end = b.backend.batch_gather(x, ids[:, 1:])
        return K.concatenate([start, end], 2)[:, 0]

    base = started(b, "roformer")
    labels = L.Input(shape=(None, 2), name="Labels")
    ids = L.Input(shape=(2,), name="Ids")
    hidden = base.get_layer("Transformer-1-FeedForward-Norm").output
    inner = base.layers[-6].get_output_at(-1)
    first = L.Dense(2, activation="sigmoid")
    norm = L.LayerNormalization(conditional=True)
    second = L.Dense(2, activation="sigmoid")
    one = L.Lambda(lambda x: x**2)(first(hidden))
    two = second(norm([inner, L.Lambda(subject)([inner, ids])]))
    outputs = TotalLoss([1, 2])([labels, one, two, hidden])
    model = b.models.Model([*base.inputs, labels, ids], outputs)
    for layer in (first, norm, second):
        fixed(layer)
    AdamEMA = b.optimizers.extend_with_exponential_moving_average(b.optimizers.Adam, name="EMA")
    model.compile(optimizer=AdamEMA(learning_rate=1e-2))

    def collate(batch):
        marks = b.snippets.sequence_padding([np.stack([row[1], ~row[1]], 1).astype("float32")
                                             for row in batch])  # fmt: skip
        places = np.array([[row[2], 3] for row in batch])
        return b.inputs_alone([padded(b, batch, 0), padded(b, batch, 1), marks, places])

    return fit(b, model, collate)


def pretraining(b):
    """Weight decay, layer adaptation and a schedule, as bert4keras' pretraining has them."""
    o = b.optimizers
    model = started(b, "bert_lm")
    output = b.layers.Activation("softmax")(model.output)
    model = b.models.Model(model.inputs, output)
    optimizer = o.extend_with_weight_decay(o.Adam)
    optimizer = o.extend_with_layer_adaptation(optimizer)
    optimizer = o.extend_with_piecewise_linear_lr(optimizer)
    model.compile(
        loss="sparse_categorical_crossentropy",
        optimizer=optimizer(
            learning_rate=1e-2,
            lr_schedule={3: 1.0, 12: 0.0},
            weight_decay_rate=0.01,
            exclude_from_weight_decay=["Norm", "bias"],
            exclude_from_layer_adaptation=["Norm", "bias"],
            bias_correction=False,
        ),
    )

    def collate(batch):
        ids = padded(b, batch, 0)
        return [ids, padded(b, batch, 1)], b.as_labels(ids)

    return fit(b, model, collate)


TRAININGS = [classifier, unilm, tagger, conditional, pretraining]


def main():
    os.environ |= {"TF_KERAS": "1", "TF_USE_LEGACY_KERAS": "1"}
    import tensorflow as tf

    tf.keras.optimizers.Optimizer = tf.keras.optimizers.legacy.Optimizer
    from bert4keras import backend, layers, models, optimizers, snippets

    b = types.SimpleNamespace(
        backend=backend,
        keras=backend.keras,
        layers=layers,
        models=models,
        optimizers=optimizers,
        snippets=snippets,
        # with tf_keras, labels are floats, and inputs alone a tuple
        as_labels=lambda labels: labels.astype("float32"),
        inputs_alone=lambda inputs: (tuple(inputs),),
    )
    found = {}
    for training in TRAININGS:
        backend.keras.backend.clear_session()
        found[training.__name__] = np.array(training(b))
        print(training.__name__, found[training.__name__].round(4))
    np.savez_compressed(FOLDER / "old_training.npz", **found)


if __name__ == "__main__":
    main()
