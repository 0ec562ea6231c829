"""Continues a text in the style of its books: a Chinese BERT as a language model.

    python examples/task_language_model.py [--checkpoint DIR] [--data PATH] [--text 春天]

With `application="lm"` no token sees a later one, and a BERT trained to fill masks learns to
predict the next token. The score is the perplexity of texts that it was not trained on: the number
of equally likely next tokens that would be as hard to predict.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: a .txt file (a novel), a .jsonl file of poems (objects with `paragraphs`, a list of lines),
    or a directory of such files.
--scored: number of texts for the perplexity.
"""

import argparse

import keras
import numpy as np
from keras import ops
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import (
    Batches,
    next_token_labels,
    read_json_lines,
    read_splits,
    sequence_padding,
    text_segmentate,
)
from bert4keras_lite.generation import generate_all
from bert4keras_lite.losses import sequence_crossentropy
from bert4keras_lite.optimizers import AdamW, linear_decay
from bert4keras_lite.training import BestEpoch

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA / "corpus.txt")
parser.add_argument("--maxlen", type=int, help="256, or 48 for tiny-zh")
parser.add_argument("--max-new-tokens", type=int, help="128, or 40 for tiny-zh")
parser.add_argument("--batch-size", type=int, help="16, or 64 for tiny-zh")
parser.add_argument("--epochs", type=int, help="5, or 2 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="2e-5, or 2e-3 for tiny-zh")
parser.add_argument("--scored", type=int, default=1000)
parser.add_argument("--text", default="我们坐高铁,这家饭店,春天")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
args.maxlen = args.maxlen or (48 if is_small else 256)
args.max_new_tokens = args.max_new_tokens or (40 if is_small else 128)
args.batch_size = args.batch_size or (64 if is_small else 16)
args.epochs = args.epochs or (2 if is_small else 5)
args.learning_rate = args.learning_rate or (2e-3 if is_small else 2e-5)
keras.utils.set_random_seed(args.seed)
# without the third of the vocabulary that Chinese texts do not need
tokenizer, keep_tokens = load_tokenizer(args.checkpoint).simplified()


# the data
def read(path):
    """The texts of a file, or of all files in a directory, in pieces that fit into a row."""
    if path.is_dir():
        files = sorted([*path.rglob("*.txt"), *path.rglob("*.jsonl")])
        return [piece for file in files for piece in read(file)]
    if path.suffix == ".jsonl":
        texts = read_json_lines(path, lambda row: "\n".join(row["paragraphs"]))
    else:  # an empty line separates documents
        texts = path.read_text(encoding="utf-8").split("\n\n")
    return [
        piece
        for text in texts
        if text.strip()
        for piece in text_segmentate(text, args.maxlen - 2, "\n。！？；，")
    ]


def batches(texts, **options):
    """Batches in which every token is to be predicted."""
    rows = [tokenizer.encode(text, maxlen=args.maxlen)[0] for text in texts]
    return Batches(rows, args.batch_size, collate, buckets=4, length=len, **options)


def collate(rows, length):
    ids = sequence_padding(rows, length).astype("int32")
    return (ids, np.zeros_like(ids)), next_token_labels(ids, ids > 0)


samples = read_splits(args.data, read)
last = "valid" if samples["test"] is samples["valid"] else "test"

# the model
model = build_transformer_model(
    args.checkpoint,
    application="lm",
    with_lm="linear",
    keep_tokens=keep_tokens,
    dropout_rate=0.1,
)


def log_likelihood(texts):
    """The mean log-probability of a token."""
    total = count = 0
    for inputs, labels in batches(texts):
        losses = sequence_crossentropy(labels, model.predict_on_batch(inputs))
        total -= float(ops.sum(losses))
        count += np.count_nonzero(labels >= 0)
    return total / count


# the training
train = batches(samples["train"], shuffle=True)
schedule = linear_decay(args.epochs * len(train))
optimizer = AdamW(args.learning_rate, weight_decay=0.01, lr_schedule=schedule)
model.compile(optimizer, sequence_crossentropy)
model.optimizer.build(model.trainable_variables)  # one trace
best = BestEpoch(
    lambda: {"log_likelihood": log_likelihood(samples["valid"][: args.scored])},
    OUTPUT / "language_model.weights.h5",
)
model.fit(train, epochs=args.epochs, callbacks=[best])

# the result
texts = args.text.split(",")
rows = generate_all(
    model,
    [tokenizer.encode(text)[0][:-1] for text in texts],
    args.max_new_tokens,
    args.batch_size,
    stop_ids=tokenizer.token_end_id,
    do_sample=True,
    top_p=0.9,
    num_return_sequences=3,
    seed=args.seed,
)
for text, row in zip(texts, rows, strict=True):
    print(text, *(f"  …{tokenizer.decode(generated.ids)}" for generated in row), sep="\n")
print(f"{last} perplexity: {np.exp(-log_likelihood(samples['test'][: args.scored])):.2f}")
