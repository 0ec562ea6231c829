"""Finds the words of Chinese texts: softmax, CRF or MEMM.

    python examples/task_sequence_labeling_cws_crf.py [--checkpoint DIR] [--data DIR]
        [--method MEMM]

A token is a word (S), or the begin (B), the middle (M) or the end (E) of one. With softmax, each
tag is chosen by itself. A conditional random field (CRF) scores whole sequences of tags against all
others; a maximum entropy Markov model (MEMM) predicts each tag given its neighbour, which is
cheaper to train. F1 of words, the time of an epoch and the speed of decoding are printed.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: a directory with the train and dev files of a treebank in CoNLL-U, or with words separated
    by spaces, as in SIGHAN.

Reference: Lafferty et al., "Conditional Random Fields", ICML 2001; McCallum et al., "Maximum
Entropy Markov Models", ICML 2000.
"""

import argparse
import re
import time
from itertools import pairwise

import keras
import numpy as np
from keras import ops
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches, read_columns, read_splits, sequence_padding
from bert4keras_lite.layers import ConditionalRandomField, MaximumEntropyMarkovModel
from bert4keras_lite.losses import sequence_crossentropy
from bert4keras_lite.metrics import span_scores
from bert4keras_lite.optimizers import AdamW, linear_decay
from bert4keras_lite.spans import character_spans, token_spans
from bert4keras_lite.training import BestEpoch

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA / "words")
parser.add_argument("--method", choices=["CRF", "MEMM", "softmax"], default="CRF")
parser.add_argument("--maxlen", type=int, default=256)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--epochs", type=int, help="4, or 8 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="2e-5, or 1e-3 for tiny-zh")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
epochs = args.epochs or (8 if is_small else 4)
learning_rate = args.learning_rate or (1e-3 if is_small else 2e-5)
keras.utils.set_random_seed(args.seed)
tokenizer = load_tokenizer(args.checkpoint)
S, B, M, E = range(4)


# the data
def read(path):
    """(text, set of (start, end, "word")) for each sentence of a file."""
    if not path.suffix.startswith(".conll"):
        sentences = [words for sentence in read_columns(path) for words in sentence]
        return [join_words(words) for words in sentences if words]
    samples = []
    for lines in read_columns(path, "\t"):
        lines = [line for line in lines if line[0].isdigit()]  # no comments, no ranges
        if any(len(line) < 2 for line in lines):
            raise SystemExit(f"{path}: expected words in the second column, between tabs.")
        if lines:
            samples.append(join_words([line[1] for line in lines]))
    return samples


def join_words(words):
    """A text without spaces between words, except Latin ones, and the spans of the words."""
    text, spans = "", set()
    for word in words:
        if re.fullmatch("[A-Za-z0-9]{2}", text[-1:] + word[0]):
            text += " "
        spans.add((len(text), len(text) + len(word), "word"))
        text += word
    return text, spans


def words_of(tags):
    """The spans of words in the tags from [CLS] to [SEP]: a word ends where a new one begins."""
    last = len(tags) - 1
    cuts = [1, *(i for i in range(2, last) if tags[i] in (S, B)), last]
    return {(start, end, "word") for start, end in pairwise(cuts) if start < end}


def batches(samples, **options):
    """Batches of token ids and segment ids, and of the tag of each token."""
    rows = []
    for text, spans in samples:
        ids, segments, offsets = tokenizer.encode(text, maxlen=args.maxlen, return_offsets=True)
        labels = [S] * len(ids)
        for start, end, _ in token_spans(spans, offsets):
            if end - start > 1:
                labels[start:end] = [B, *[M] * (end - start - 2), E]
        rows.append((ids, segments, labels))
    return Batches(rows, args.batch_size, collate, length=lambda row: len(row[0]), **options)


def collate(rows, length):
    ids, segments, labels = zip(*rows, strict=True)
    inputs = sequence_padding(ids, length), sequence_padding(segments, length)
    return inputs, sequence_padding(labels, length, value=-1)  # the losses ignore -1


samples = read_splits(args.data, read)
last = "valid" if samples["test"] is samples["valid"] else "test"

# the model
bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
logits = keras.layers.Dense(4, name="tag_scores")(bert.output)
if args.method == "softmax":
    model, loss = keras.Model(bert.inputs, logits), sequence_crossentropy
    decode = lambda logits: ops.argmax(logits, axis=-1)  # noqa: E731
else:
    layers = {"CRF": ConditionalRandomField, "MEMM": MaximumEntropyMarkovModel}
    # the transitions start from zero, and so have a learning rate of their own, 0.02
    chain = layers[args.method](lr_multiplier=0.02 / learning_rate)
    model, loss, decode = keras.Model(bert.inputs, chain(logits)), chain.sparse_loss, chain.decode


def predict(samples):
    """The words of each text, sets of (start, end, "word")."""
    words = []
    paths = ops.convert_to_numpy(decode(model.predict(batches(samples), verbose=0)))
    for (text, _), path in zip(samples, paths, strict=True):
        *_, offsets = tokenizer.encode(text, maxlen=args.maxlen, return_offsets=True)
        words.append(character_spans(words_of(path[: len(offsets)]), offsets))
    return words


def f1(samples):
    return span_scores([spans for _, spans in samples], predict(samples)).f1


class Stopwatch(keras.callbacks.Callback):
    """The seconds of the fastest epoch, in which nothing was compiled."""

    fastest = np.inf

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.fastest = min(self.fastest, time.perf_counter() - self.start)


# the training
train = batches(samples["train"], shuffle=True, buckets=4)
model.compile(AdamW(learning_rate, lr_schedule=linear_decay(epochs * len(train))), loss)
model.optimizer.build(model.trainable_variables)  # one trace
stopwatch = Stopwatch()
best = BestEpoch(lambda: {"f1": f1(samples["valid"])}, OUTPUT / "words.weights.h5")
model.fit(train, epochs=epochs, callbacks=[stopwatch, best])

# the result
inputs, _ = batches(samples["test"])[0]
logits, seconds = model.predict_on_batch(inputs), []
for _ in range(10):
    start = time.perf_counter()
    ops.convert_to_numpy(decode(logits))
    seconds.append(time.perf_counter() - start)
speed = np.count_nonzero(inputs[0]) / min(seconds)
print(f"{stopwatch.fastest:.2f} s an epoch, {speed:,.0f} tokens a second decoded")
few = samples["test"][:5]
for (text, _), spans in zip(few, predict(few), strict=True):
    print(" ".join(text[start:end] for start, end, _ in sorted(spans)))
print(f"{last} F1: {f1(samples['test']):.4f}")
