"""Classifies texts longer than those that a BERT can read, by hierarchical positions.

    python examples/basic_long_texts_hierarchical_position.py [--checkpoint DIR] [--data DIR] [--seeds N]

BERT has a vector for each of its n positions (512), and none beyond. With
`hierarchical_position=True` position i * n + j gets a vector made of those of i and j, so that n² come
from n, and the first n stay as they were. Compared are texts cut to n tokens, positions counted from 0
again after each n, and hierarchical positions.

--checkpoint: a Chinese BERT, Google's or Hugging Face's files. Without it, tiny-zh,
    whose rotary positions make way for a table of 32 new ones.
--data: a directory with the train, valid and test files of sentiment.py. Without it, the sample in
    examples/data, whose texts say only at their end whether something was good.

Reference: https://kexue.fm/archives/7947
"""

from functools import partial

import keras
import numpy as np
from sentiment import read
from trials import DATA, arguments, compare

from bert4keras_lite import (
    Transformer,
    build_transformer_model,
    load_tokenizer,
    open_checkpoint,
)
from bert4keras_lite.data import Batches
from bert4keras_lite.hub import local_directory
from bert4keras_lite.layers import GlobalMaxPooling1D

args = arguments(
    __doc__,
    seeds=1,
    data=DATA / "long",
    maxlen=(2048, 128),
    positions=(512, 32),
    batch_size=(8, 16),
    epochs=(3, 5),
    learning_rate=(2e-5, 1e-3),
)
tokenizer = load_tokenizer(args.checkpoint)
train, test = read(args.data, "train"), read(args.data, "test")

# the first n positions
weights = dict(open_checkpoint(local_directory(args.checkpoint)))
if args.checkpoint == "tiny-zh":  # a BERT but for its positions, which are new here
    weights = {name.replace("roformer.", "bert."): array for name, array in weights.items()}
    table = "bert.embeddings.position_embeddings.weight"
    weights[table] = np.random.default_rng(0).normal(0.0, 0.02, (args.positions, 256))
(table,) = (name for name in weights if "position_embeddings" in name)
weights[table] = weights[table][: args.positions]


class Recounted(Transformer):
    """Counts its positions from 0 again after each n."""

    def positions(self, token_ids):
        return super().positions(token_ids) % self.config.max_position


def batches(rows, maxlen, **options):
    samples = [(tokenizer.encode(text, maxlen=maxlen), label) for text, label in rows]
    return Batches(samples, args.batch_size, buckets=2, **options)


def fit(maxlen, kind="bert"):
    bert = build_transformer_model(
        args.checkpoint,
        weights,
        model=kind,
        max_position=args.positions,
        hierarchical_position=True,
        dropout_rate=0.1,
    )
    x = GlobalMaxPooling1D()(bert.output)
    model = keras.Model(bert.inputs, keras.layers.Dense(2, name="classifier")(x))
    model.compile(
        keras.optimizers.AdamW(args.learning_rate, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
        jit_compile=args.jit_compile,
    )
    model.optimizer.build(model.trainable_variables)  # one trace
    model.fit(batches(train, maxlen, shuffle=True), epochs=args.epochs)
    return model, model.evaluate(batches(test, maxlen), verbose=0)[1]


lengths = [len(tokenizer.encode(text, maxlen=args.maxlen)[0]) for text, _ in test]
print(f"texts have {np.mean(lengths):.0f} tokens, {max(lengths)} at most")
models, scores = compare(
    {
        f"cut to {args.positions}": partial(fit, args.positions),
        "from 0 again": partial(fit, args.maxlen, Recounted),
        "hierarchical": partial(fit, args.maxlen),
    },
    args.seeds,
)
