"""Which characters led to the prediction? Integrated gradients, as a picture.

    python examples/task_sentiment_integrated_gradients.py [--checkpoint DIR] [--data DIR]
        [--text ...]

The contribution of a token is its vector times the mean gradient of the score with respect to it,
over `steps` points between zero and the vector. The contributions of all tokens add up to the
difference between the scores of the text and of zero vectors, up to the error of the sum
(Sundararajan et al., arXiv 1703.01365, equations 1 and 3). The classifier is fine-tuned first; that
of tiny-zh is loaded if task_sentiment_classification.py has saved it.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: a directory with the train, valid (or dev) and test files of the reviews bert4keras ships
    (sentiment.train.data: text TAB label) or of ChnSentiCorp (train.tsv: label TAB text_a).
--text: texts to explain. Without it, reviews of the test file.

The picture is examples/output/integrated_gradients.svg: red characters speak for a positive review,
blue ones against it.
"""

import argparse
from html import escape

import keras
import numpy as np
from keras import ops
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.backend import value_and_gradients
from bert4keras_lite.data import Batches, read_splits, read_tsv

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA)
parser.add_argument("--text", nargs="*")
parser.add_argument("--steps", type=int, default=50)
parser.add_argument("--maxlen", type=int, default=128)
parser.add_argument("--epochs", type=int, help="3, or 8 for tiny-zh")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
epochs = args.epochs or (8 if is_small else 3)
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


samples = read_splits(args.data, read)

# the classifier
bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
x = keras.layers.Dropout(0.1)(bert.output[:, 0])  # the [CLS] vector
model = keras.Model(bert.inputs, keras.layers.Dense(2, name="classifier")(x))
trained = OUTPUT / "sentiment.weights.h5"
if args.epochs is None and trained.is_file() and is_small:
    model.load_weights(trained)
else:
    model.compile(
        keras.optimizers.AdamW(1e-3 if is_small else 2e-5),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
    )
    model.optimizer.build(model.trainable_variables)  # one trace
    rows = [(tokenizer.encode(text, maxlen=args.maxlen), label) for text, label in samples["train"]]
    model.fit(Batches(rows, 32, shuffle=True, buckets=8), epochs=epochs)

# the same classifier, from the token vectors to the logits
token_embedding = bert.get_layer("token_embedding")
from_vectors = keras.Model([token_embedding.output, *bert.inputs], model.output)


def contributions(text):
    """The contribution of each token to the score of "positive", the score, and that of zeros."""
    ids, segments = tokenizer.encode_batch([text], maxlen=args.maxlen)
    vectors = ops.convert_to_numpy(token_embedding(ids))
    # the middles of `steps` intervals from 0 to 1, and the two ends
    factors = np.append((np.arange(args.steps) + 0.5) / args.steps, [0, 1])

    def score(values):
        inputs = [np.repeat(x, len(factors), axis=0) for x in (ids, segments)]
        logits = from_vectors([values[0], *map(ops.convert_to_tensor, inputs)])
        return ops.sum(logits[:, 1] - logits[:, 0]), logits

    values = ops.convert_to_tensor((factors[:, None, None] * vectors).astype("float32"))
    (_, logits), (gradients,) = value_and_gradients(score, [values])
    gradients, logits = ops.convert_to_numpy(gradients), ops.convert_to_numpy(logits)
    added = (gradients[:-2].mean(axis=0) * vectors[0]).sum(axis=-1)
    of_zeros, of_text = logits[-2:, 1] - logits[-2:, 0]
    return added, of_text, of_zeros


def color(fraction):
    """White at 0, red at 1, blue at -1."""
    pale = round(255 * (1 - abs(fraction)))
    return f"rgb(255,{pale},{pale})" if fraction > 0 else f"rgb({pale},{pale},255)"


# the result
texts = args.text or [text for text, _ in samples["test"][:8]]
boxes, widths, errors = [], [], []
for row, text in enumerate(texts):
    added, score, score_of_zeros = contributions(text)
    errors.append(abs(added.sum() - (score - score_of_zeros)))
    fractions = added[1:-1] / np.abs(added[1:-1]).max()
    tokens = tokenizer.tokenize(text, maxlen=args.maxlen)[1:-1]
    tokens = [token.removeprefix("##") for token in tokens]

    x, y = 70, 40 * row + 6
    boxes.append(f'<text x="10" y="{y + 21}" font-size="20">{score:+.1f}</text>')
    for token, fraction in zip(tokens, fractions, strict=True):
        width = max(30, 9 + round(10.5 * len(token.encode("gb18030", "replace"))))
        boxes += [
            f'<rect x="{x}" y="{y}" width="{width - 2}" height="30" fill="{color(fraction)}"/>',
            f'<text x="{x + width / 2 - 1}" y="{y + 22}" font-size="20" text-anchor="middle">'
            f"{escape(token)}</text>",
        ]
        x += width
    widths.append(x)
    codes = [41 if fraction > 0.3 else 44 if fraction < -0.3 else 0 for fraction in fractions]
    colored = (f"\033[{code}m{token}\033[0m" for code, token in zip(codes, tokens, strict=True))
    print(f"{score:+5.1f} {''.join(colored)}")

svg = [
    f'<svg xmlns="http://www.w3.org/2000/svg" width="{max(widths) + 10}" '
    f'height="{40 * len(texts) + 10}" font-family="sans-serif">',
    '<rect width="100%" height="100%" fill="white"/>',
    *boxes,
    "</svg>\n",
]
OUTPUT.mkdir(exist_ok=True)
picture = OUTPUT / "integrated_gradients.svg"
picture.write_text("\n".join(svg), encoding="utf-8")
print(f"the sums miss the scores by {max(errors):.4f} at most; the picture is {picture}")
