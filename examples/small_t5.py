"""A small T5, for the examples that need one and are given none: the toolkit comes without.

Trained for a minute on examples/data/corpus.txt, it predicts the end of a sentence from its
beginning. It is saved in the published form: config, weights, vocabulary.
"""

import keras
import numpy as np
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import sequence_padding

LENGTH, ROWS, EPOCHS, RATE = 32, 12000, 3, 4e-3


def halves(tokenizer):
    """Beginnings of sentences, and what follows: arrays `(sentences, length)`."""
    random, beginnings, ends = np.random.default_rng(0), [], []
    for line in (DATA / "corpus.txt").read_text(encoding="utf-8").split("\n"):
        start, *ids, end = tokenizer.encode(line, maxlen=LENGTH)[0]
        if len(ids) > 5:
            cut = random.integers(2, len(ids) - 2)
            beginnings.append([start, *ids[:cut], end])
            ends.append([start, *ids[cut:], end])
    return sequence_padding(beginnings), sequence_padding(ends)


def train(directory):
    """Trains, and saves to `directory`."""
    keras.utils.set_random_seed(1)
    tokenizer = load_tokenizer(DATA)
    t5 = build_transformer_model(
        model="t5.1.1",
        vocab_size=tokenizer.vocab_size,
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=512,
        with_lm="linear",
        return_keras_model=False,
    )
    sources, targets = (rows[:ROWS] for rows in halves(tokenizer))
    steps = EPOCHS * -(-len(targets) // 64)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=RATE, warmup_steps=50
    )
    t5.model.compile(
        keras.optimizers.AdamW(schedule, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    t5.model.optimizer.build(t5.model.trainable_variables)  # one trace
    inputs, labels = [sources, targets[:, :-1]], targets[:, 1:]
    counted = (labels != 0).astype("float32")
    t5.model.fit(inputs, labels, sample_weight=counted, batch_size=64, epochs=EPOCHS)
    t5.save_checkpoint(directory, format="tf", vocab=tokenizer)


def small_t5():
    """The directory of the small T5; trains it if it is not there yet."""
    directory = OUTPUT / "small_t5"
    if not (directory / "tokenizer_config.json").is_file():  # written last
        print("No checkpoint given: training a small T5 on the sample corpus first.")
        train(directory)
    return directory
