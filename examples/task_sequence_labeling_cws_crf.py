"""Finds the words of Chinese texts: CRF and MEMM side by side.

    python examples/task_sequence_labeling_cws_crf.py [--checkpoint DIR] [--data DIR] [--seeds N]

A token is a word (S), or the begin (B), the middle (M) or the end (E) of one. With softmax every
token decides for itself. A conditional random field (CRF) scores whole rows of tags against all
others; a maximum entropy Markov model (MEMM) predicts each tag from its neighbour's, which is
cheaper to train. All three are trained; F1 of words, the time of an epoch and the speed of
decoding are printed.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: a directory with the train and dev files of a treebank in CoNLL-U, or with words parted by
    spaces, as SIGHAN's. Without it, the sample in examples/data.

Reference: Lafferty et al., "Conditional Random Fields", ICML 2001; McCallum et al., "Maximum
Entropy Markov Models", ICML 2000.
"""

import time
from itertools import pairwise

import keras
import numpy as np
from labeling import Spans, read_splits, read_words, straight_down, without_padding
from trials import DATA, KeepBest, arguments, compare

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.layers import ConditionalRandomField, MaximumEntropyMarkovModel
from bert4keras_lite.losses import sequence_crossentropy
from bert4keras_lite.optimizers import AdamW

args = arguments(
    __doc__,
    seeds=3,
    data=DATA / "words",
    maxlen=256,
    batch_size=16,
    epochs=(4, 8),
    learning_rate=(2e-5, 1e-3),
)
tokenizer = load_tokenizer(args.checkpoint)
S, B, M, E = range(4)


# the data
def target(spans, size, length):
    """The tag of every token, -1 for padding."""
    target = np.full(length, -1)
    target[:size] = S
    for start, end, _ in spans:
        if end - start > 1:
            target[start:end] = [B, *[M] * (end - start - 2), E]
    return target


def words(tags):
    """The spans of words in the tags from [CLS] to [SEP]: a word ends where a new one begins."""
    last = len(tags) - 1
    cuts = [1, *(i for i in range(2, last) if tags[i] in (S, B)), last]
    return {(start, end, "word") for start, end in pairwise(cuts)}


samples = read_splits(args.data, read_words)
train = Spans(samples["train"], tokenizer, args, target, shuffle=True)
valid, test = (Spans(samples[split], tokenizer, args) for split in ("valid", "test"))


def tagger(kind):
    """A model that scores tags, its loss, and the function that picks the tags."""
    bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
    scores = keras.layers.Dense(4, name="tag_scores")(bert.output)
    if kind:
        # transitions start from nothing, so they learn at a rate of their own, 0.02
        chain = kind(lr_multiplier=0.02 / args.learning_rate)
        model = keras.Model(bert.inputs, chain(scores))
        return model, chain.sparse_loss, chain.decode
    model = keras.Model(bert.inputs, scores)
    return model, sequence_crossentropy, lambda scores: scores.argmax(axis=-1)


class Stopwatch(keras.callbacks.Callback):
    """The seconds of the fastest epoch, in which nothing was compiled."""

    fastest = np.inf

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.fastest = min(self.fastest, time.perf_counter() - self.start)


def decoding_speed(model, pick):
    """Tokens a second, of one batch: the fastest of ten times."""
    inputs, seconds = test.batches[0][0], []
    scores = model.predict_on_batch(inputs)
    for _ in range(10):
        start = time.perf_counter()
        keras.ops.convert_to_numpy(pick(scores))
        seconds.append(time.perf_counter() - start)
    return np.count_nonzero(inputs[0]) / min(seconds)


speeds = {}


def fit(method, kind=None):
    """Trains one model; gives its decoding and its F1."""
    model, loss, pick = tagger(kind)

    def decode(inputs):
        rows = pick(model.predict_on_batch(inputs))
        return [words(row) for row in without_padding(rows, inputs)]

    schedule = straight_down(args.epochs, train.batches)
    model.compile(AdamW(args.learning_rate, lr_schedule=schedule), loss)
    model.optimizer.build(model.trainable_variables)  # one trace
    stopwatch, keep_best = Stopwatch(), KeepBest(lambda: {"f1": valid.score(decode)}, "words")
    model.fit(train.batches, epochs=args.epochs, callbacks=[stopwatch, keep_best])
    speeds[method] = stopwatch.fastest, decoding_speed(model, pick)
    return decode, test.score(decode)


decoders, scores = compare(
    {
        "softmax": lambda: fit("softmax"),
        "CRF": lambda: fit("CRF", ConditionalRandomField),
        "MEMM": lambda: fit("MEMM", MaximumEntropyMarkovModel),
    },
    args.seeds,
    metric="F1",
)
for method, (epoch, decoded) in speeds.items():
    print(f"{method:8} {epoch:6.2f} s an epoch, {decoded:,.0f} tokens a second decoded")
for text, spans in list(zip(test.texts, test.predict(decoders["CRF"]), strict=True))[:5]:
    print(" ".join(text[start:end] for start, end, _ in sorted(spans)))
