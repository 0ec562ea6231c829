"""Word vectors: word2vec in Keras, skip-gram and CBOW.

    python examples/classic_word2vec.py [--data FILE] [--kinds FILE] [--word 北京 苹果]

Skip-gram predicts the words around a word; CBOW (continuous bag of words) predicts a word from the
mean of those around it. Both classify whether a word belongs there: the right word, and a few words
sampled at random (negative sampling). Frequent words are skipped often, and near words count more,
as in the original.

Printed are the neighbours of some words, the fraction of the five nearest neighbours of a word that
are of its kind, and the speed. If gensim is installed (pip install gensim), it is measured on the
same words with the same settings, and once more with as many epochs as its speed allows.

--data: plain text, a sentence a line; jieba splits it into words.
--kinds: a file with words that belong together on each line. Without it, cities, fruits, and so on.

Reference: Mikolov et al., "Distributed Representations of Words and Phrases and their
Compositionality", arXiv 1310.4546; for Keras, https://kexue.fm/archives/4515
"""

import argparse
import time
from collections import Counter
from importlib.util import find_spec
from itertools import chain

import jieba
import keras
import numpy as np
from keras import ops
from sample import DATA

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--data", default=DATA / "corpus.txt")
parser.add_argument("--kinds", default=DATA / "kinds.txt")
parser.add_argument("--word", nargs="*", default=["北京", "苹果", "医生", "星期一", "画画"])
parser.add_argument("--lines", type=int, help="how many lines of the text to read: all")
parser.add_argument("--size", type=int, default=100, help="of the vectors: 100")
parser.add_argument("--window", type=int, default=5)
parser.add_argument("--negative", type=int, default=5, help="wrong words for a right one: 5")
parser.add_argument("--min-count", type=int, default=5, help="of words that are known: 5")
parser.add_argument("--sample", type=float, default=1e-3, help="frequency left out often: 1e-3")
parser.add_argument("--batch-size", type=int, default=2048)
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--learning-rate", type=float, default=5e-3)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()

# --- the words ------------------------------------------------------------------------------------

jieba.setLogLevel("ERROR")
with open(args.data, encoding="utf-8") as file:
    lines = [jieba.lcut(line.strip()) for line in file][: args.lines]
counts = Counter(chain.from_iterable(lines))
known = [word for word, count in counts.most_common() if count >= args.min_count and word.strip()]
ids = {word: i for i, word in enumerate(known, 1)}  # 0: no word
lines = [[word for word in line if word in ids] for line in lines]
frequency = np.array([0, *(counts[word] for word in known)], "float64")
frequency /= frequency.sum()
text = np.array([i for line in lines for i in [*(ids[word] for word in line), 0]])
print(f"{len(known):,} words, {np.count_nonzero(text):,} in the text")


class Windows(keras.utils.PyDataset):
    """What a word is guessed from, and the candidates, the right word first.

    Args:
        bag: whether a sample is a word and all words around it (CBOW), or two words (skip-gram).
    """

    def __init__(self, bag):
        super().__init__()
        self.bag, self.size = bag, None
        probs = frequency**0.75
        self.probs = np.cumsum(probs / probs.sum())
        self.on_epoch_end()

    def on_epoch_end(self):
        """Another choice of frequent words, and of widths."""
        with np.errstate(divide="ignore"):
            stays = np.sqrt(args.sample / frequency) + args.sample / frequency
        words = text[np.random.random(len(text)) < stays[text]]  # ends of lines always stay
        width = np.random.randint(1, args.window + 1, len(words))
        line = np.cumsum(words == 0)
        around = np.zeros((len(words), 2 * args.window), "int32")
        for step in range(1, min(args.window + 1, len(words))):
            near = (line[step:] == line[:-step]) & (words[:-step] != 0)
            around[:-step, 2 * step - 2] = words[step:] * (near & (width[:-step] >= step))
            around[step:, 2 * step - 1] = words[:-step] * (near & (width[step:] >= step))
        if self.bag:
            kept = (words != 0) & around.any(axis=1)
            self.given, self.right = around[kept], words[kept]
        else:
            rows, columns = np.nonzero(around * (words != 0)[:, None])
            self.given, self.right = words[rows][:, None], around[rows, columns]
        # as many batches in each epoch as in the first: Keras counts them once
        if self.size is None:
            self.size = max(1, len(self.right) // args.batch_size) * args.batch_size
        order = np.resize(np.random.permutation(len(self.right)), self.size)
        self.given, self.right = self.given[order].astype("int32"), self.right[order]

    def __len__(self):
        return self.size // args.batch_size

    def __getitem__(self, index):
        rows = slice(index * args.batch_size, (index + 1) * args.batch_size)
        drawn = np.searchsorted(self.probs, np.random.random((args.batch_size, args.negative)))
        candidates = np.column_stack([self.right[rows], drawn]).astype("int32")
        # a word that was drawn for itself is not a wrong one
        counted = np.pad(drawn != candidates[:, :1], [(0, 0), (1, 0)], constant_values=True)
        right = np.zeros(candidates.shape, "float32")
        right[:, 0] = 1
        return (self.given[rows], candidates), right[..., None], counted.astype("float32")


# --- the model ------------------------------------------------------------------------------------


def word2vec(bag, epochs):
    """The vectors of the words, `(words + 1, size)`, and the seconds of an epoch."""
    keras.utils.set_random_seed(args.seed)
    given = keras.Input((2 * args.window if bag else 1,), dtype="int32")
    candidates = keras.Input((args.negative + 1,), dtype="int32")
    # small random vectors on this side, nothing on the other, as in the original
    small = keras.initializers.RandomUniform(-0.5 / args.size, 0.5 / args.size)
    table = keras.layers.Embedding(len(ids) + 1, args.size, embeddings_initializer=small)
    other = keras.layers.Embedding(len(ids) + 1, args.size, embeddings_initializer="zeros")
    is_word = ops.expand_dims(ops.cast(ops.not_equal(given, 0), "float32"), -1)
    mean = ops.sum(table(given) * is_word, axis=1) / ops.sum(is_word, axis=1)
    scores = ops.einsum("bd,bcd->bc", mean, other(candidates))
    model = keras.Model([given, candidates], ops.expand_dims(scores, -1))
    model.compile(
        keras.optimizers.Adam(args.learning_rate),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    model.optimizer.build(model.trainable_variables)  # one trace
    windows = Windows(bag)
    timer = Timer()
    model.fit(windows, epochs=epochs, callbacks=[timer])
    return keras.ops.convert_to_numpy(table.embeddings), min(timer.seconds)


class Timer(keras.callbacks.Callback):
    seconds = ()

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds = [*self.seconds, time.perf_counter() - self.start]


def gensim_word2vec(bag, epochs):
    """The same by gensim, in one thread."""
    from gensim.models import Word2Vec

    model = Word2Vec(
        vector_size=args.size,
        window=args.window,
        min_count=args.min_count,
        sample=args.sample,
        sg=not bag,
        negative=args.negative,
        workers=1,
        seed=args.seed,
    )
    model.build_vocab(lines)
    start = time.perf_counter()
    model.train(lines, total_examples=len(lines), epochs=epochs)
    seconds = (time.perf_counter() - start) / epochs
    return np.concatenate([np.zeros((1, args.size)), model.wv[known]]), seconds


# --- what they are worth --------------------------------------------------------------------------


def neighbours(vectors, word, among, number=5):
    """The words whose vectors point the most alike."""
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    among = [other for other in among if other != word]
    alike = vectors[[ids[other] for other in among]] @ vectors[ids[word]]
    return [(among[i], alike[i]) for i in alike.argsort()[::-1][:number]]


def share_of_kind(vectors):
    """How much of the nearest five neighbours, among all words with a kind, is of the same kind."""
    words = [word for kind in kinds for word in kind]
    return np.mean(
        [
            np.mean([other in kind for other, _ in neighbours(vectors, word, words)])
            for kind in kinds
            for word in kind
        ]
    )


with open(args.kinds, encoding="utf-8") as file:
    kinds = [[word for word in line.split() if word in ids] for line in file]
kinds = [kind for kind in kinds if len(kind) > 5]
if len(kinds) < 2:
    raise SystemExit(f"{args.kinds}: {args.data} has not enough of its words to compare kinds.")

runs = {(name, args.epochs): word2vec for name in ("skip-gram", "CBOW")}
if find_spec("gensim"):
    for epochs in (args.epochs, 5 * args.epochs):
        runs |= {(f"gensim {name}", epochs): gensim_word2vec for name in ("skip-gram", "CBOW")}
else:
    print("gensim is not installed: nothing to compare with.")
vectors, rows = {}, {}
for (name, epochs), train in runs.items():
    print(f"\n--- {name}, {epochs} epochs")
    vectors[name], seconds = train(name.endswith("CBOW"), epochs)
    rows[name, epochs] = share_of_kind(vectors[name]), np.count_nonzero(text) / seconds

for name, table in vectors.items():
    print(f"\n{name}")
    for word in (word for word in args.word if word in ids):
        nearest = neighbours(table, word, known)
        print("   ", word, " ".join(f"{other} {alike:.2f}" for other, alike in nearest), sep="  ")
chance = np.mean([len(kind) - 1 for kind in kinds for _ in kind])
chance /= sum(map(len, kinds)) - 1
print(f"\nneighbours of the same kind (by chance {chance:.2f}), words of the text a second")
for (name, epochs), (share, speed) in rows.items():
    print(f"{name:16}  {epochs:3} epochs  {share:.3f}  {speed:10,.0f}")
