"""How similar are two sentences? Trains sentence vectors on scored pairs, with the CoSENT loss.

    python examples/task_text_matching_cosent.py [--checkpoint DIR] [--data DIR]
        [--method regression]

CoSENT (Su, https://kexue.fm/archives/8847) trains the order: a pair that is more similar than
another should have the larger cosine. To compare: `--method regression`, where the cosine should be
the score itself (Reimers and Gurevych, arXiv 1908.10084).

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
from bert4keras_lite.losses import cosent
from bert4keras_lite.metrics import spearman

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA / "sts")
parser.add_argument("--method", choices=["CoSENT", "regression"], default="CoSENT")
parser.add_argument("--maxlen", type=int, default=64)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--epochs", type=int, help="5, or 10 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="2e-5, or 5e-4 for tiny-zh")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
epochs = args.epochs or (10 if is_small else 5)
learning_rate = args.learning_rate or (5e-4 if is_small else 2e-5)
keras.utils.set_random_seed(args.seed)
tokenizer = load_tokenizer(args.checkpoint)

# the data
files = [Path(args.data) / f"{split}.txt" for split in ("train", "dev", "test")]
files = [file for file in files if file.is_file()]
if len(files) < 2:
    raise SystemExit(f"{args.data}: expected two or more of train.txt, dev.txt and test.txt.")
train, test = (read_tsv(files[i], (str, str, float)) for i in (0, -1))
highest = max(similarity for *_, similarity in train)
rows = []
for first, second, similarity in train:
    inputs = [tokenizer.encode(text, maxlen=args.maxlen) for text in (first, second)]
    rows.append(((*inputs[0], *inputs[1]), similarity / highest))
batches = Batches(rows, args.batch_size, shuffle=True, buckets=4)

# the model: both texts of a pair go through the same encoder
bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
encoder = keras.Model(bert.inputs, GlobalAveragePooling1D()(bert.output))
inputs = [keras.Input((None,), dtype="int32") for _ in range(4)]
cosine = keras.layers.Dot(axes=1, normalize=True)
model = keras.Model(inputs, cosine([encoder(inputs[:2]), encoder(inputs[2:])]))
loss = cosent if args.method == "CoSENT" else "mean_squared_error"
model.compile(keras.optimizers.AdamW(learning_rate), loss)
model.optimizer.build(model.trainable_variables)  # one trace


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
model.fit(batches, epochs=epochs)
OUTPUT.mkdir(exist_ok=True)
encoder.save_weights(OUTPUT / "cosent.weights.h5")

# the result
print(f"test Spearman's rank correlation: {evaluate(test):.4f}")
print("\ntrue | cosine | texts")
for (first, second, similarity), value in zip(test[:8], cosines(test[:8]), strict=True):
    print(f"{similarity:g} | {value:.2f} | {first} / {second}")
