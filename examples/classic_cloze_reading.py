"""Fills the blank in a passage with another word of the passage, without a pretrained model.

    python examples/classic_cloze_reading.py [--data DIR] [--epochs N]

The first iFLYTEK cup for Chinese reading comprehension (CMRC 2017, and People's Daily before it)
asks for the word of a blank. Two bidirectional LSTM layers encode the text before the blank and the
text after it. The mean of their last states is the query; its dot product with the state at each
word is the attention score. The probability of a word is the sum of the attention at its positions.

--data: a directory with files `*train.doc_query`, `*train.answer`, and the same for `valid` and
    `test`, in it or in subdirectories.

Reference: https://kexue.fm/archives/4564; Kadlec et al., "Text Understanding with the Attention Sum
Reader Network", arXiv 1603.01547; Cui et al., the data, LREC 2018.
"""

import argparse
from collections import Counter
from pathlib import Path

import keras
import numpy as np
from keras import ops
from sample import DATA, OUTPUT

from bert4keras_lite.data import Batches, sequence_padding
from bert4keras_lite.training import BestEpoch

BLANK = "XXXXX"


# --- the data -------------------------------------------------------------------------------------


def read_file(path):
    """`(words of the passage, answer)` of a file `*.doc_query` and its `*.answer`.

    A passage is lines `number ||| words`, then `<qid_n> ||| the sentence to fill`; its answer is
    `<qid_n> ||| word` in the other file, or after the sentence (People's Daily).
    """
    answers = {}
    if path.with_suffix(".answer").is_file():
        lines = path.with_suffix(".answer").read_text(encoding="utf-8").splitlines()
        answers = dict(line.split(" ||| ") for line in lines if line)
    samples, passage = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        name, *cells = line.split(" ||| ")
        if cells and not name.startswith("<qid_"):
            passage += cells[0].split()
        elif cells:
            answer = cells[1] if len(cells) > 1 else answers.get(name)
            if answer is None or BLANK not in passage:
                missing = "no answer" if answer is None else f"no {BLANK} in the passage"
                raise SystemExit(f"{path}, line {number}: {name} has {missing}.")
            samples.append((passage, answer.strip()))
            passage = []
        elif line.strip():
            raise SystemExit(
                f"{path}, line {number}: expected 'number ||| words', got {line!r:.60}"
            )
    return samples


def read_cloze(directory, split):
    """The samples of a split."""
    paths = sorted(Path(directory).rglob(f"*{split}.doc_query"))
    if not paths:
        raise SystemExit(f"{directory}: no file *{split}.doc_query in it or below it.")
    return [sample for path in paths for sample in read_file(path)]


def around(passage, maxlen):
    """The words before the blank and those after it, the nearest ones of each."""
    blank = passage.index(BLANK)
    return passage[:blank][-maxlen:], passage[blank + 1 :][:maxlen]


def collate(samples, length):
    """The ids of both sides, and the target attention at each position."""
    ids_of, is_answer = [], []
    for sides, answer in samples:
        ids_of.append([[ids.get(word, 1) for word in side] for side in sides])
        is_answer.append([[word == answer for word in side] for side in sides])
    # an empty side is one unknown word
    inputs = [
        sequence_padding([i or [1] for i in side], length) for side in zip(*ids_of, strict=True)
    ]
    is_answer = [
        sequence_padding(side, length, dtype="float32") for side in zip(*is_answer, strict=True)
    ]
    is_answer = np.concatenate(is_answer, axis=1)
    probs = is_answer / np.maximum(is_answer.sum(axis=1, keepdims=True), 1)
    return tuple(side.astype("int32") for side in inputs), probs


def batches(split, **options):
    passages = read_cloze(args.data, split)[: args.limit]
    samples = [(around(words, args.maxlen), answer) for words, answer in passages]
    return Batches(
        samples,
        args.batch_size,
        collate,
        buckets=3,
        length=lambda sample: max(map(len, sample[0])),
        **options,
    )


# --- the model ------------------------------------------------------------------------------------


def build(size):
    """From the two sides to the attention scores of their words, -1e9 at the padding."""
    embed = keras.layers.Embedding(len(ids) + 2, size, mask_zero=True)
    dropout = keras.layers.Dropout(0.3)
    first = keras.layers.Bidirectional(keras.layers.LSTM(size, return_sequences=True))
    second = keras.layers.Bidirectional(
        keras.layers.LSTM(size, return_sequences=True, return_state=True)
    )
    inputs = [keras.Input((None,), dtype="int32", name=name) for name in ("before", "after")]
    states, last = [], []
    for side in inputs:
        x, forward, _, backward, _ = second(first(dropout(embed(side))))
        states.append(x)
        last.append(ops.concatenate([forward, backward], axis=-1))
    question = (last[0] + last[1]) / 2
    scores = ops.einsum("bld,bd->bl", ops.concatenate(states, axis=1), question)
    is_word = ops.not_equal(ops.concatenate(inputs, axis=1), 0)
    # finite, as the loss multiplies it by 0
    return keras.Model(inputs, ops.where(is_word, scores, -1e9))


def candidates(scores, sides):
    """The words of a passage and their probabilities, the likeliest first."""
    attention = np.exp(scores - scores.max())
    attention /= attention.sum()
    words = Counter()
    for side, part in zip(sides, np.split(attention, 2), strict=True):
        for word, share in zip(side, part, strict=False):  # without the padding
            words[word] += share
    return words.most_common()


def read(model, batches):
    """The candidates of each passage."""
    scores = [row for i in range(len(batches)) for row in model.predict_on_batch(batches[i][0])]
    return [
        candidates(row, sides)
        for row, (sides, _) in zip(batches.restore(scores), batches.data, strict=True)
    ]


def accuracy(model, batches):
    return np.mean(
        [
            words[0][0] == answer
            for words, (_, answer) in zip(read(model, batches), batches.data, strict=True)
        ]
    )


# --- the training ---------------------------------------------------------------------------------

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--data", default=DATA / "cloze")
parser.add_argument("--maxlen", type=int, default=256, help="words on each side: 256")
parser.add_argument("--limit", type=int, help="how many passages of each split to use: all")
parser.add_argument("--size", type=int, default=64, help="of word vectors and of each LSTM: 64")
parser.add_argument("--min-count", type=int, default=2, help="of words that are known: 2")
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--epochs", type=int, default=12)
parser.add_argument("--learning-rate", type=float, default=3e-3)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()

keras.utils.set_random_seed(args.seed)
counts = Counter(word for passage, _ in read_cloze(args.data, "train") for word in passage)
known = [word for word, count in counts.items() if count >= args.min_count and word != BLANK]
ids = {word: i for i, word in enumerate(known, 2)}  # 0 is padding, 1 every other word
train, valid, test = batches("train", shuffle=True), batches("valid"), batches("test")

model = build(args.size)
model.compile(
    keras.optimizers.Adam(args.learning_rate, clipnorm=1.0),
    keras.losses.CategoricalCrossentropy(from_logits=True),
    # XLA compiles longer than this training takes
    jit_compile="auto" if keras.config.backend() == "jax" else False,
)
model.optimizer.build(model.trainable_variables)  # one trace
best = BestEpoch(lambda: {"accuracy": accuracy(model, valid)}, OUTPUT / "cloze.weights.h5")
model.fit(train, epochs=args.epochs, callbacks=[best])

score = accuracy(model, test)
print(f"test accuracy: {score:.4f}")
for (sides, answer), words in list(zip(test.data, read(model, test), strict=True))[:3]:
    print("".join(sides[0]), "____", "".join(sides[1]), sep="")
    print("   ", "  ".join(f"{word} {share:.2f}" for word, share in words[:5]), f"  ({answer})")
