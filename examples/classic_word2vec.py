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
from numpy.lib.stride_tricks import sliding_window_view
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

# the words
jieba.setLogLevel("ERROR")
with open(args.data, encoding="utf-8") as file:
    lines = [jieba.lcut(line.strip()) for line in file][: args.lines]
counts = Counter(chain.from_iterable(lines))
known = [word for word, count in counts.most_common() if count >= args.min_count and word.strip()]
ids = {word: i for i, word in enumerate(known, 1)}  # 0: no word
lines = [[word for word in line if word in ids] for line in lines]
# so many zeros after each line that no window reaches the next
text = np.array([i for line in lines for i in [*map(ids.get, line), *[0] * args.window]], "int32")
print(f"{len(known):,} words, {np.count_nonzero(text):,} in the text")
frequency = np.array([counts[word] for word in known])
frequency = frequency / frequency.sum()
kept = args.sample / frequency
kept = np.array([1, *(np.sqrt(kept) + kept)])  # probability that a word is kept; 0 always is
cumulative = np.cumsum(frequency**0.75)  # probability to be drawn as a wrong word
cumulative /= cumulative[-1]


class Windows(keras.utils.PyDataset):
    """What a word is guessed from, and the candidates, the right word first.

    A sample is a word and all words around it (`bag`: CBOW), or two words (skip-gram).
    """

    def __init__(self, bag):
        super().__init__()
        self.bag, self.size = bag, None
        self.on_epoch_end()

    def on_epoch_end(self):
        """Another choice of frequent words, and of widths."""
        words = text[np.random.random(len(text)) < kept[text]]
        width = np.random.randint(1, args.window + 1, len(words))
        around = sliding_window_view(np.pad(words, args.window), 2 * args.window + 1)
        distance = abs(np.arange(-args.window, args.window + 1))
        near = (distance > 0) & (distance <= width[:, None])
        around = around * (near & (words > 0)[:, None])
        if self.bag:
            rows = around.any(axis=1)
            self.given, self.right = around[rows], words[rows]
        else:
            rows, columns = np.nonzero(around)
            self.given, self.right = words[rows, None], around[rows, columns]
        # as many batches in each epoch as in the first: Keras counts them once
        if self.size is None:
            self.size = max(1, len(self.right) // args.batch_size) * args.batch_size
        order = np.resize(np.random.permutation(len(self.right)), self.size)
        self.given, self.right = self.given[order], self.right[order]

    def __len__(self):
        return self.size // args.batch_size

    def __getitem__(self, index):
        rows = slice(index * args.batch_size, (index + 1) * args.batch_size)
        drawn = 1 + np.searchsorted(cumulative, np.random.random((args.batch_size, args.negative)))
        candidates = np.column_stack([self.right[rows], drawn]).astype("int32")
        labels = np.eye(1, 1 + args.negative, dtype="float32").repeat(args.batch_size, axis=0)
        # a word that was drawn for itself is not a wrong one
        counted = np.maximum(labels, candidates != candidates[:, :1])
        return (self.given[rows], candidates), labels[..., None], counted


# the model
def word2vec(bag, epochs):
    """The vectors of the words, `(words + 1, size)`, and the seconds of an epoch."""
    keras.utils.set_random_seed(args.seed)
    given = keras.Input((2 * args.window + 1 if bag else 1,), dtype="int32")
    candidates = keras.Input((args.negative + 1,), dtype="int32")
    # small random vectors on this side, nothing on the other, as in the original
    small = keras.initializers.RandomUniform(-0.5 / args.size, 0.5 / args.size)
    table = keras.layers.Embedding(len(ids) + 1, args.size, embeddings_initializer=small)
    other = keras.layers.Embedding(len(ids) + 1, args.size, embeddings_initializer="zeros")
    is_word = ops.expand_dims(ops.cast(ops.not_equal(given, 0), "float32"), -1)
    mean = ops.sum(table(given) * is_word, axis=1) / ops.sum(is_word, axis=1)
    logits = ops.einsum("bd,bcd->bc", mean, other(candidates))
    model = keras.Model([given, candidates], ops.expand_dims(logits, -1))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(args.learning_rate), loss)
    model.optimizer.build(model.trainable_variables)  # one trace
    seconds = []
    timer = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seconds.append(-time.perf_counter()),
        on_epoch_end=lambda epoch, logs: seconds.append(seconds.pop() + time.perf_counter()),
    )
    model.fit(Windows(bag), epochs=epochs, callbacks=[timer])
    return ops.convert_to_numpy(table.embeddings), min(seconds)


def gensim_word2vec(bag, epochs):
    """The same by gensim, in one thread."""
    from gensim.models import Word2Vec

    options = {"vector_size": args.size, "window": args.window, "sample": args.sample}
    options |= {"min_count": args.min_count, "negative": args.negative}
    model = Word2Vec(**options, sg=not bag, workers=1, seed=args.seed)
    model.build_vocab(lines)
    start = time.perf_counter()
    model.train(lines, total_examples=len(lines), epochs=epochs)
    seconds = (time.perf_counter() - start) / epochs
    return np.concatenate([np.zeros((1, args.size)), model.wv[known]]), seconds


# the result
def neighbours(vectors, word, among, number=5):
    """The words whose vectors point the most alike."""
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    among = [other for other in among if other != word]
    alike = vectors[[ids[other] for other in among]] @ vectors[ids[word]]
    return [(among[i], alike[i]) for i in alike.argsort()[::-1][:number]]


def share_of_kind(vectors):
    """How much of the nearest five neighbours, among all words with a kind, is of the same kind."""
    words = [word for kind in kinds for word in kind]
    nearest = [(kind, neighbours(vectors, word, words)) for kind in kinds for word in kind]
    return np.mean([other in kind for kind, others in nearest for other, _ in others])


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
