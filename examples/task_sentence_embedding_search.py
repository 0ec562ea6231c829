"""Finds the sentences that mean the same as a question, among many.

    python examples/task_sentence_embedding_search.py [--checkpoint DIR] [--data DIR] [--query ...]

A sentence is its mean token vector. In a BERT that was not trained for it all vectors point almost
the same way; whitening, a shift and a matrix found from the vectors themselves, makes their
coordinates independent and alike in size (Su et al., arXiv 2103.15316), with fewer of them on demand.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--weights: what task_sentence_embedding_simcse.py or task_text_matching_cosent.py saved.
--data: a directory of STS-B's, LCQMC's or AFQMC's files: see sentence_vectors.py. All their sentences
    are searched.
--size: how many coordinates whitening keeps.
"""

import argparse

import numpy as np
from sentence_vectors import read, sentence_model, spearman
from trials import DATA

from bert4keras_lite import load_tokenizer
from bert4keras_lite.data import Batches

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--checkpoint")
parser.add_argument("--weights")
parser.add_argument("--data", default=DATA / "sts")
parser.add_argument("--query", nargs="*")
parser.add_argument("--size", type=int, help="256, or 64 for tiny-zh")
parser.add_argument("--maxlen", type=int, default=64)
parser.add_argument("--batch-size", type=int, default=64)
args = parser.parse_args()
checkpoint = args.checkpoint or "tiny-zh"
size = args.size or (256 if args.checkpoint else 64)

tokenizer = load_tokenizer(checkpoint)
model = sentence_model(checkpoint, dropout_rate=0.0)
if args.weights:
    model.load_weights(args.weights)


def vectors_of(texts):
    """`(texts, hidden_size)`."""
    samples = [(tokenizer.encode(text, maxlen=args.maxlen),) for text in texts]
    batches = Batches(samples, args.batch_size, buckets=4)
    return batches.restore(model.predict(batches, verbose=0))


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


train, test = read(args.data)
pairs = train + test
sentences = sorted({text for *pair, _ in pairs for text in pair})
number = {text: i for i, text in enumerate(sentences)}
vectors = vectors_of(sentences)
mean = vectors.mean(axis=0)
# of the largest variances first: each coordinate divided by its deviation
axes, variances, _ = np.linalg.svd(np.cov(vectors.T))
matrix = (axes / np.sqrt(variances + 1e-6))[:, :size]
SPACES = {
    "mean vectors": lambda x: unit(x),
    f"whitened to {size}": lambda x: unit((x - mean) @ matrix),
}

# two sentences of a test pair that mean the same should find one another
highest = max(likeness for *_, likeness in test)
same = [(number[a], number[b]) for a, b, likeness in test if likeness == highest and a != b]
scores = {}
print(f"{len(sentences)} sentences; {len(same)} pairs that mean the same")
for name, space in SPACES.items():
    index = space(vectors)
    cosines = [index[number[a]] @ index[number[b]] for a, b, _ in test]
    found = []
    for a, b in same:
        order = np.argsort(-(index @ index[a]), kind="stable")
        found.append(np.where(order[order != a] == b)[0][0])
    found = np.array(found)
    correlation = spearman(cosines, [likeness for *_, likeness in test])
    scores[name] = {
        "spearman": correlation,
        "first": (found < 1).mean(),
        "ten": (found < 10).mean(),
    }
    print(
        f"{name:15} Spearman {correlation:.3f}, partner found first {(found < 1).mean():.1%}, "
        f"among ten {(found < 10).mean():.1%}"
    )

queries = args.query or [test[0][0], test[1][0]]
index = SPACES[f"whitened to {size}"]
for query, vector in zip(queries, index(vectors_of(queries)), strict=True):
    cosines = index(vectors) @ vector
    print(f"\n{query}")
    others = [i for i in np.argsort(-cosines) if sentences[i] != query]
    for i in others[:5]:
        print(f"  {cosines[i]:.2f}  {sentences[i]}")
