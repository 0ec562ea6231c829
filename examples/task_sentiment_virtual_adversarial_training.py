"""Is a review positive or negative? Learns from few labels and many texts without labels.

    python examples/task_sentiment_virtual_adversarial_training.py [--checkpoint DIR]
        [--data DIR] [--epsilon E]

Virtual adversarial training (VAT; Miyato et al., arXiv 1704.03976) needs no labels: it penalizes
how much the prediction changes when the token vectors of a text move by `epsilon` in the direction
in which it changes the most. `--epsilon 0` trains on the labelled texts alone.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: a directory with the train, valid (or dev) and test files of the reviews bert4keras ships
    (sentiment.train.data: text TAB label) or of ChnSentiCorp (train.tsv: label TAB text_a). Only
    the labels of the first `labelled` texts of train are used.
"""

import argparse

import keras
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer, save_classifier
from bert4keras_lite.data import Batches, read_splits, read_tsv
from bert4keras_lite.training import virtual_adversarial_training

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA)
parser.add_argument("--labelled", type=int, default=200)
parser.add_argument("--epsilon", type=float, default=1.0)
parser.add_argument("--maxlen", type=int, default=128)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--epochs", type=int, help="10, or 20 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="2e-5, or 1e-3 for tiny-zh")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
epochs = args.epochs or (20 if is_small else 10)
learning_rate = args.learning_rate or (1e-3 if is_small else 2e-5)
keras.utils.set_random_seed(args.seed)
tokenizer = load_tokenizer(args.checkpoint)


# the data
def read(path):
    """(text, label) pairs of a file of reviews; label 1 is positive."""
    if path.name.startswith("sentiment."):  # bert4keras: text TAB label
        return read_tsv(path)
    if path.name in ("train.tsv", "dev.tsv", "test.tsv"):  # ChnSentiCorp: label TAB text
        return [(text, label) for label, text in read_tsv(path, (int, str), header=True)]
    return []


def batches(samples, **options):
    rows = [(tokenizer.encode(text, maxlen=args.maxlen), label) for text, label in samples]
    return Batches(rows, args.batch_size, **options)


samples = read_splits(args.data, read)
last = "valid" if samples["test"] is samples["valid"] else "test"
labelled, others = samples["train"][: args.labelled], samples["train"][args.labelled :]
unlabelled = [text for text, _ in others + samples["valid"]]
print(f"{len(labelled)} texts with labels, {len(unlabelled)} without")

# the model
bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
x = bert.output[:, 0]  # the [CLS] vector
x = keras.layers.Dropout(0.1)(x)
x = keras.layers.Dense(2, name="classifier")(x)
model = keras.Model(bert.inputs, x)
if args.epsilon:
    inputs = tokenizer.encode_batch(unlabelled, maxlen=args.maxlen)
    virtual_adversarial_training(
        model, "token_embedding", inputs, args.batch_size, epsilon=args.epsilon
    )
model.compile(
    keras.optimizers.AdamW(learning_rate),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
)
model.optimizer.build(model.trainable_variables)  # one trace

# the training
model.fit(batches(labelled, shuffle=True, buckets=4), epochs=epochs)
save_classifier(OUTPUT / "sentiment_vat", model, ["negative", "positive"], tokenizer)

# the result
print(f"{last} accuracy: {model.evaluate(batches(samples['test']), verbose=0)[1]:.4f}")
few = samples["test"][:8]
print("\ntrue | predicted | text")
for (text, label), guess in zip(
    few, model.predict(batches(few), verbose=0).argmax(axis=1), strict=True
):
    print("😞😀"[label], "😞😀"[guess], text[:40], sep=" | ")
