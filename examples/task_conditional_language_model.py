"""Writes a review of the kind that is asked for: a language model whose normalization hangs on a label.

    python examples/task_conditional_language_model.py [--checkpoint DIR] [--data DIR]

The label, negative or positive, is looked up as a vector, and every layer normalization of the model
is moved by it. Nothing is added to the text. So the model knows what it is to write; and as it gives
every text a probability under either label, it also classifies: the likelier label is the answer,
which the example measures.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: a directory with the train, valid (or dev) and test files of the reviews bert4keras ships, or
    of ChnSentiCorp: see sentiment.py. Without it, the sample in examples/data.

Reference: Su, "Conditional text generation with conditional layer normalization", 2019,
https://kexue.fm/archives/7124
"""

import keras
import numpy as np
from sentiment import read
from seq2seq import BUCKETS, log_likelihoods, next_tokens, simplified, train, write_several
from trials import DATA, arguments, show_scores

from bert4keras_lite import build_transformer_model
from bert4keras_lite.data import Batches, pad_samples

args = arguments(
    __doc__,
    data=str(DATA),
    maxlen=(128, 64),
    max_new_tokens=(128, 64),
    batch_size=(32, 16),
    epochs=(5, 8),
    learning_rate=(2e-5, 1e-3),
    scored=500,
)
NAMES = ["negative", "positive"]

# the data
tokenizer, keep_tokens = simplified(args.checkpoint)


def collate(rows, length):
    ids, labels = pad_samples(rows, length)
    return (ids, np.zeros_like(ids), labels), next_tokens(ids, ids > 0)


def labelled(rows, **options):
    rows = [(tokenizer.encode(text, maxlen=args.maxlen)[0], label) for text, label in rows]
    return Batches(rows, args.batch_size, collate, buckets=BUCKETS, **options)


samples = {
    name: read(args.data, *splits)
    for name, splits in (("train", ["train"]), ("valid", ["valid", "dev"]), ("test", ["test"]))
}
batches = labelled(samples["train"], shuffle=True)

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


def score(rows):
    """How often the true label makes a text likelier, and how likely: of a token, in nats."""
    texts, true = zip(*rows[: args.scored], strict=True)
    found = [
        log_likelihoods(model, labelled([(text, label) for text in texts])) for label in (0, 1)
    ]
    guesses = found[1][:, 0] > found[0][:, 0]
    total, count = np.where(np.array(true)[:, None] == 1, found[1], found[0]).sum(axis=0)
    return {"accuracy": float(np.mean(guesses == true)), "log_likelihood": total / count}


train(model, batches, args, lambda: score(samples["valid"]), "conditional_language_model")

# the result
show_scores(score(samples["test"]))
written = write_several(
    model,
    [[tokenizer.token_start_id]] * len(NAMES),
    tokenizer,
    args,
    more_inputs=[np.arange(len(NAMES))],
    do_sample=True,
    top_p=0.9,
    num_return_sequences=4,
    seed=args.seed,
)
for name, texts in zip(NAMES, written, strict=True):
    print(name, *texts, sep="\n  ")
