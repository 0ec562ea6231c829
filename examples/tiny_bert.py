"""Makes a small Chinese BERT from the sample corpus: two minutes of masked-language-model pretraining.

    python examples/tiny_bert.py [OUTPUT_DIRECTORY] [FAMILY]

FAMILY: bert, or another that predicts masked words (albert, nezha, roformer, ...). The result is a directory as Google publishes them: bert_config.json, bert_model.ckpt, vocab.txt.
The other examples use it when they are given no checkpoint.
"""

import sys
from pathlib import Path

import keras
import numpy as np

from bert4keras_lite import build_transformer_model, load_tokenizer

HERE = Path(__file__).parent
DATA = HERE / "data"
OUTPUT = HERE / "output"


class MaskedSentences(keras.utils.PyDataset):
    """Rows of corpus tokens with 15 % of the positions to predict, others in every epoch.

    Of the chosen tokens 80 % become [MASK], 10 % a random token and 10 % stay (Devlin et al.,
    arXiv 1810.04805, section 3.1). Inputs are the tokens, the segments and the chosen positions;
    targets are the tokens that stood there; a position that holds no word weighs nothing.
    """

    def __init__(self, rows, tokenizer, batch_size, **kwargs):
        super().__init__(**kwargs)
        self.rows, self.batch_size = rows, batch_size
        self.mask, self.vocab_size = tokenizer.token_mask_id, tokenizer.vocab_size
        self.on_epoch_end()

    def __len__(self):
        return len(self.rows) // self.batch_size

    def __getitem__(self, index):
        rows = self.order[index * self.batch_size :][: self.batch_size]
        tokens = self.rows[rows]
        is_word = tokens > self.mask
        score = np.random.random(tokens.shape) + is_word  # words first
        positions = np.argsort(-score, axis=1)[:, : round(0.15 * tokens.shape[1])]
        targets = np.take_along_axis(tokens, positions, axis=1)
        fate = np.random.random(positions.shape)
        shown = np.where(fate < 0.8, self.mask, targets)
        others = np.random.randint(self.mask + 1, self.vocab_size, positions.shape)
        shown = np.where(fate > 0.9, others, shown)
        weights = np.take_along_axis(is_word, positions, axis=1).astype("float32")
        shown = np.where(weights > 0, shown, targets)
        inputs = tokens.copy()
        np.put_along_axis(inputs, positions, shown, axis=1)
        return (inputs, np.zeros_like(inputs), positions), targets, weights

    def on_epoch_end(self):
        self.order = np.random.permutation(len(self.rows))


def pack(corpus, tokenizer, length):
    """The corpus as rows of `length` tokens: [CLS], sentences of one document, [SEP], padding."""
    rows, row = [], []
    for line in corpus.read_text(encoding="utf-8").split("\n"):
        tokens = tokenizer.encode(line)[0][1:-1]
        if row and (not tokens or len(row) + len(tokens) > length - 2):
            rows.append([tokenizer.token_start_id, *row[: length - 2], tokenizer.token_end_id])
            row = []
        row += tokens
    packed = np.zeros((len(rows), length), "int32")
    for i, row in enumerate(rows):
        packed[i, : len(row)] = row
    return packed


def pretrain(directory, family="bert", phases=((16, 128, 5), (32, 64, 1)), learning_rate=3e-3):
    """Trains on `examples/data/corpus.txt` and saves to `directory`.

    Args:
        directory: gets the config, the checkpoint and the vocabulary.
        family: the `model=` of `build_transformer_model`.
        phases: (tokens a row, rows a batch, epochs); short rows first, as they learn the fastest.
        learning_rate: the highest; rises at first, then falls to nothing.
    """
    keras.utils.set_random_seed(1)
    tokenizer = load_tokenizer(DATA)
    data = [
        (MaskedSentences(pack(DATA / "corpus.txt", tokenizer, length), tokenizer, batch), epochs)
        for length, batch, epochs in phases
    ]
    transformer = build_transformer_model(
        model=family,
        vocab_size=tokenizer.vocab_size,
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=512,
        max_position=128,
        with_mlm="linear",
        return_keras_model=False,
    )
    # the vocabulary is scored at the chosen positions alone: a sixth of the work
    positions = keras.Input((None,), dtype="int32", name="positions")
    chosen = keras.ops.take_along_axis(
        transformer.hidden_states[-1], keras.ops.expand_dims(positions, -1), axis=1
    )
    model = keras.Model([*transformer.inputs, positions], transformer.heads(chosen))
    steps = sum(epochs * len(rows) for rows, epochs in data)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - 50, warmup_target=learning_rate, warmup_steps=50
    )
    model.compile(
        keras.optimizers.AdamW(schedule, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    model.optimizer.build(model.trainable_variables)  # one trace
    for rows, epochs in data:
        model.fit(rows, epochs=epochs)
    transformer.save_checkpoint(directory, format="tf", vocab=tokenizer)


def tiny_bert(family="bert"):
    """The directory of the small BERT, or of a relative; trains it if it is not there yet."""
    directory = OUTPUT / f"tiny_{family}"
    if not any(directory.glob("*.ckpt.index")):
        print(f"No checkpoint given: pretraining a small {family} on the sample corpus first.")
        pretrain(directory, family)
    return directory


if __name__ == "__main__":
    pretrain(Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT / "tiny_bert", *sys.argv[2:])
