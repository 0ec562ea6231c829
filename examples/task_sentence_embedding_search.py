"""Finds the sentences that mean the same as a question, among many.

    python examples/task_sentence_embedding_search.py [--checkpoint DIR] [--data DIR] [--query ...]

A sentence is represented by its mean token vector. In a BERT that was not trained for it, all
vectors point in almost the same direction; whitening, an offset and a matrix computed from the
vectors, makes their coordinates uncorrelated and of equal variance, and optionally fewer (Su et
al., arXiv 2103.15316).

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--weights: a file saved by task_sentence_embedding_simcse.py or task_text_matching_cosent.py.
--data: a directory with train.txt, dev.txt and test.txt of STS-B, LCQMC or AFQMC, whose lines are
    text TAB text TAB similarity (0 to 5, or 0 or 1). The first of these files is for training, the
    last for testing.
    All sentences are searched.
--size: number of coordinates after whitening.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from sample import DATA

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches, read_tsv
from bert4keras_lite.layers import GlobalAveragePooling1D
from bert4keras_lite.metrics import spearman

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--weights")
parser.add_argument("--data", default=DATA / "sts")
parser.add_argument("--query", nargs="*")
parser.add_argument("--size", type=int, help="256, or 64 for tiny-zh")
parser.add_argument("--maxlen", type=int, default=64)
parser.add_argument("--batch-size", type=int, default=64)
args = parser.parse_args()
size = args.size or (64 if args.checkpoint == "tiny-zh" else 256)
tokenizer = load_tokenizer(args.checkpoint)

# the data
files = [Path(args.data) / f"{split}.txt" for split in ("train", "dev", "test")]
files = [file for file in files if file.is_file()]
if len(files) < 2:
    raise SystemExit(f"{args.data}: expected two or more of train.txt, dev.txt and test.txt.")
train, test = (read_tsv(files[i], (str, str, float)) for i in (0, -1))
sentences = sorted({text for *pair, _ in train + test for text in pair})
number = {text: i for i, text in enumerate(sentences)}

# the model
bert = build_transformer_model(args.checkpoint)
encoder = keras.Model(bert.inputs, GlobalAveragePooling1D()(bert.output))
if args.weights:
    encoder.load_weights(args.weights)


def vectors_of(texts):
    """The mean token vector of each text, `(texts, hidden_size)`."""
    rows = [(tokenizer.encode(text, maxlen=args.maxlen),) for text in texts]
    batches = Batches(rows, args.batch_size, buckets=4)
    return batches.restore(encoder.predict(batches, verbose=0))


vectors = vectors_of(sentences)
mean = vectors.mean(axis=0)
# the coordinates of the largest variances, each divided by its standard deviation
axes, variances, _ = np.linalg.svd(np.cov(vectors.T))
matrix = (axes / np.sqrt(variances + 1e-6))[:, :size]


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def whitened(vectors):
    return unit((vectors - mean) @ matrix)


# the scores: the two sentences of a test pair that mean the same should find each other
highest = max(similarity for *_, similarity in test)
same = [(number[a], number[b]) for a, b, similarity in test if similarity == highest and a != b]
print(f"{len(sentences)} sentences; {len(same)} pairs that mean the same")
scores = {}
for name, index in (("mean vectors", unit(vectors)), (f"whitened to {size}", whitened(vectors))):
    cosines = [index[number[a]] @ index[number[b]] for a, b, _ in test]
    ranks = []
    for a, b in same:
        order = np.argsort(-(index @ index[a]), kind="stable")
        ranks.append(np.where(order[order != a] == b)[0][0])
    ranks = np.array(ranks)
    correlation = spearman(cosines, [similarity for *_, similarity in test])
    first, ten = (ranks < 1).mean(), (ranks < 10).mean()
    scores[name] = {"spearman": correlation, "first": first, "ten": ten}
    print(
        f"{name:15} Spearman {correlation:.3f}, partner found first {first:.1%}, "
        f"among ten {ten:.1%}"
    )

# the search
queries = args.query or [test[0][0], test[1][0]]
for query, vector in zip(queries, whitened(vectors_of(queries)), strict=True):
    cosines = whitened(vectors) @ vector
    print(f"\n{query}")
    others = [i for i in np.argsort(-cosines) if sentences[i] != query]
    for i in others[:5]:
        print(f"  {cosines[i]:.2f}  {sentences[i]}")
