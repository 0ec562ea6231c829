"""Trains a small Chinese model that writes, on the sample corpus: about a minute on two cores.

    python examples/tiny_writer.py FAMILY [OUTPUT_DIRECTORY]

FAMILY: gpt2, gpt2_ml, nezha, t5.1.1, ... The result is a directory with config, checkpoint and
vocabulary, as the published ones; the examples that write use it when they are given no other.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from tiny_bert import DATA, OUTPUT, pack

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.configs import ARCHITECTURES
from bert4keras_lite.data import sequence_padding

LENGTH = 32
# what a family that does not write by itself is built with
WRITES = {"nezha": {"application": "lm", "segment_vocab_size": 0}}


def continued(tokenizer):
    """Rows of text; each token is to be followed by the next."""
    rows = pack(DATA / "corpus.txt", tokenizer, LENGTH + 1)
    return rows[:, :-1], rows[:, 1:]


def halves(tokenizer):
    """Beginnings of sentences, for an encoder, and what follows, for a decoder."""
    random, sources, targets = np.random.default_rng(0), [], []
    for line in (DATA / "corpus.txt").read_text(encoding="utf-8").split("\n"):
        start, *ids, end = tokenizer.encode(line, maxlen=LENGTH)[0]
        if len(ids) > 5:
            cut = random.integers(2, len(ids) - 2)
            sources.append([start, *ids[:cut], end])
            targets.append([start, *ids[cut:], end])
    sources, targets = sequence_padding(sources), sequence_padding(targets)
    return [sources, targets[:, :-1]], targets[:, 1:]


def train(family, directory, epochs=3, learning_rate=4e-3, rows=12000):
    """Trains a small model of a family, and saves it to `directory`.

    Args:
        rows: how many to learn from.
    """
    keras.utils.set_random_seed(1)
    tokenizer = load_tokenizer(DATA)
    transformer = build_transformer_model(
        model=family,
        vocab_size=tokenizer.vocab_size,
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=512,
        max_position=128,
        with_lm="linear",
        return_keras_model=False,
        **WRITES.get(family, {}),
    )
    read = halves if ARCHITECTURES[family].get("stacks") == "both" else continued
    inputs, targets = read(tokenizer)
    order = np.random.default_rng(0).permutation(len(targets))[:rows]
    inputs, targets = keras.tree.map_structure(lambda x: x[order], (inputs, targets))
    steps = epochs * -(-len(targets) // 64)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=learning_rate, warmup_steps=min(50, steps // 2)
    )
    model = transformer.model
    model.compile(
        keras.optimizers.AdamW(schedule, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    model.optimizer.build(model.trainable_variables)  # one trace
    inputs = inputs if isinstance(inputs, list) else [inputs]
    weights = (targets != 0).astype("float32")
    model.fit(inputs, targets, sample_weight=weights, batch_size=64, epochs=epochs)
    transformer.save_checkpoint(directory, format="tf", vocab=tokenizer)


def tiny_writer(family):
    """The directory of the small model of a family; trains it if it is not there yet."""
    directory = OUTPUT / f"tiny_{family}"
    if not (directory / "tokenizer_config.json").is_file():  # written last
        print(f"No checkpoint given: training a small {family} on the sample corpus first.")
        train(family, directory)
    return directory


if __name__ == "__main__":
    family, *rest = sys.argv[1:]
    train(family, Path(rest[0]) if rest else OUTPUT / f"tiny_{family}")
