"""Generates a review with a given sentiment: a language model with conditional layer normalization.

    python examples/task_conditional_language_model.py [--checkpoint DIR] [--data DIR]

The embedding of the label, negative or positive, changes scale and offset of every layer
normalization of the model; the text stays as it is. So the model knows what to generate. It also
classifies, as a text has a probability given each label: the label that makes it more likely is the
prediction, which is scored.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: a directory with the train, valid (or dev) and test files of the reviews bert4keras ships
    (sentiment.train.data: text TAB label) or of ChnSentiCorp (train.tsv: label TAB text_a).
--scored: number of reviews for the scores.

Reference: Su, "Conditional text generation with conditional layer normalization", 2019,
https://kexue.fm/archives/7124
"""

import argparse

import keras
import numpy as np
from keras import ops
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches, next_token_labels, pad_samples, read_splits, read_tsv
from bert4keras_lite.generation import generate_all
from bert4keras_lite.losses import sequence_crossentropy
from bert4keras_lite.optimizers import AdamW, linear_decay
from bert4keras_lite.training import BestEpoch

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA)
parser.add_argument("--maxlen", type=int, help="128, or 64 for tiny-zh")
parser.add_argument("--max-new-tokens", type=int, help="128, or 64 for tiny-zh")
parser.add_argument("--batch-size", type=int, help="32, or 16 for tiny-zh")
parser.add_argument("--epochs", type=int, help="5, or 8 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="2e-5, or 1e-3 for tiny-zh")
parser.add_argument("--scored", type=int, default=500)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
args.maxlen = args.maxlen or (64 if is_small else 128)
args.max_new_tokens = args.max_new_tokens or (64 if is_small else 128)
args.batch_size = args.batch_size or (16 if is_small else 32)
args.epochs = args.epochs or (8 if is_small else 5)
args.learning_rate = args.learning_rate or (1e-3 if is_small else 2e-5)
keras.utils.set_random_seed(args.seed)
NAMES = ["negative", "positive"]
# without the third of the vocabulary that Chinese texts do not need
tokenizer, keep_tokens = load_tokenizer(args.checkpoint).simplified()


# the data
def read(path):
    """(text, label) pairs of a file of reviews; label 1 is positive."""
    if path.name.startswith("sentiment."):  # bert4keras: text TAB label
        return read_tsv(path)
    if path.name in ("train.tsv", "dev.tsv", "test.tsv"):  # ChnSentiCorp: label TAB text
        return [(text, label) for label, text in read_tsv(path, (int, str), header=True)]
    return []


def batches(samples, **options):
    """Batches of texts and labels, in which every token is to be predicted."""
    rows = [(tokenizer.encode(text, maxlen=args.maxlen)[0], label) for text, label in samples]
    return Batches(rows, args.batch_size, collate, buckets=4, **options)


def collate(rows, length):
    ids, labels = pad_samples(rows, length)
    return (ids, np.zeros_like(ids), labels), next_token_labels(ids, ids > 0)


samples = read_splits(args.data, read)
last = "valid" if samples["test"] is samples["valid"] else "test"

# the model
label = keras.Input((), dtype="int32", name="label")
model = build_transformer_model(
    args.checkpoint,
    application="lm",
    with_lm="linear",
    keep_tokens=keep_tokens,
    dropout_rate=0.1,
    layer_norm_cond=keras.layers.Embedding(len(NAMES), 128, name="label_vector")(label),
    additional_input_layers=label,
)


def log_likelihoods(samples):
    """The log-probability of each text given its label, and its length, `(samples, 2)`."""
    data, rows = batches(samples), []
    for inputs, labels in data:
        losses = sequence_crossentropy(labels, model.predict_on_batch(inputs))
        losses = ops.convert_to_numpy(losses)
        rows += zip(-losses.sum(axis=1), (labels >= 0).sum(axis=1), strict=True)
    return np.array(data.restore(rows))


def evaluate(samples):
    """Accuracy of the more likely label, and mean log-probability of a token given the true one."""
    texts, true = zip(*samples, strict=True)
    negative, positive = (log_likelihoods([(text, i) for text in texts]) for i in (0, 1))
    predicted = positive[:, 0] > negative[:, 0]
    total, count = np.where(np.array(true)[:, None] == 1, positive, negative).sum(axis=0)
    return {"accuracy": float(np.mean(predicted == true)), "log_likelihood": total / count}


# the training
train = batches(samples["train"], shuffle=True)
schedule = linear_decay(args.epochs * len(train))
optimizer = AdamW(args.learning_rate, weight_decay=0.01, lr_schedule=schedule)
model.compile(optimizer, sequence_crossentropy)
model.optimizer.build(model.trainable_variables)  # one trace
best = BestEpoch(
    lambda: evaluate(samples["valid"][: args.scored]),
    OUTPUT / "conditional_language_model.weights.h5",
)
model.fit(train, epochs=args.epochs, callbacks=[best])

# the result
rows = generate_all(
    model,
    [[tokenizer.token_start_id]] * len(NAMES),
    args.max_new_tokens,
    args.batch_size,
    stop_ids=tokenizer.token_end_id,
    more_inputs=[np.arange(len(NAMES))],
    do_sample=True,
    top_p=0.9,
    num_return_sequences=4,
    seed=args.seed,
)
for name, row in zip(NAMES, rows, strict=True):
    print(name, *(tokenizer.decode(generated.ids) for generated in row), sep="\n  ")
scores = evaluate(samples["test"][: args.scored])
print(f"{last}:", "  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
