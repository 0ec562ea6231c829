"""Sentence vectors from sentences alone, without labels: unsupervised SimCSE.

    python examples/task_sentence_embedding_simcse.py [--checkpoint DIR] [--data DIR]

Each sentence goes through the model twice, and dropout makes two vectors of it. Each vector must be
closest to its twin among all vectors of the batch (in-batch negatives; Gao et al., arXiv
2104.08821). The vectors are tested on scored pairs, before and after the training.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: a directory with train.txt, dev.txt and test.txt of STS-B, LCQMC or AFQMC, whose lines are
    text TAB text TAB similarity (0 to 5, or 0 or 1). The first of these files is for training, the
    last for testing.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches, read_tsv
from bert4keras_lite.layers import GlobalAveragePooling1D
from bert4keras_lite.losses import simcse
from bert4keras_lite.metrics import spearman
from bert4keras_lite.training import dropout_pairs

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA / "sts")
parser.add_argument("--dropout-rate", type=float, default=0.1)
parser.add_argument("--maxlen", type=int, default=64)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--epochs", type=int, help="1, or 3 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="1e-5, or 3e-4 for tiny-zh")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
epochs = args.epochs or (3 if is_small else 1)
learning_rate = args.learning_rate or (3e-4 if is_small else 1e-5)
keras.utils.set_random_seed(args.seed)
tokenizer = load_tokenizer(args.checkpoint)

# the data
files = [Path(args.data) / f"{split}.txt" for split in ("train", "dev", "test")]
files = [file for file in files if file.is_file()]
if len(files) < 2:
    raise SystemExit(f"{args.data}: expected two or more of train.txt, dev.txt and test.txt.")
train, test = (read_tsv(files[i], (str, str, float)) for i in (0, -1))
sentences = sorted({text for *pair, _ in train for text in pair})
# Keras needs a label, the loss does not
rows = [(tokenizer.encode(text, maxlen=args.maxlen), 0) for text in sentences]
batches = Batches(rows, args.batch_size, shuffle=True, buckets=4)
print(f"{len(sentences)} sentences without a score to train on")

# the model
bert = build_transformer_model(args.checkpoint, dropout_rate=args.dropout_rate)
encoder = keras.Model(bert.inputs, GlobalAveragePooling1D()(bert.output))
encoder.compile(keras.optimizers.AdamW(learning_rate), simcse)
encoder.optimizer.build(encoder.trainable_variables)  # one trace
dropout_pairs(encoder)


def cosines(pairs):
    """The cosine of the two vectors of each pair, `(pairs,)`."""
    texts = [text for pair in pairs for text in pair[:2]]
    rows = [(tokenizer.encode(text, maxlen=args.maxlen),) for text in texts]
    vectors = encoder.predict(Batches(rows, args.batch_size), verbose=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors[::2] * vectors[1::2]).sum(axis=1)


def evaluate(pairs):
    """Spearman's rank correlation of the cosines with the similarities."""
    return spearman(cosines(pairs), [similarity for *_, similarity in pairs])


# the training
print(f"before training: {evaluate(test):.4f}")
encoder.fit(batches, epochs=epochs)
OUTPUT.mkdir(exist_ok=True)
encoder.save_weights(OUTPUT / "simcse.weights.h5")

# the result
print(f"test Spearman's rank correlation: {evaluate(test):.4f}")
print("\ntrue | cosine | texts")
for (first, second, similarity), value in zip(test[:8], cosines(test[:8]), strict=True):
    print(f"{similarity:g} | {value:.2f} | {first} / {second}")
