"""Which characters made the model say so? Integrated gradients, as a picture.

    python examples/task_sentiment_integrated_gradients.py [--checkpoint DIR] [--data DIR] [--text ...]

A classifier is fine-tuned, or taken as task_sentiment_classification.py left it. Then each text is
read again and again, its token vectors growing from nothing to what they are; the mean gradient of
the score on the way, times the vector, is what a token adds to it. All tokens together add what the
score differs by between the text and nothing, up to the error of the sum (Sundararajan et al.,
arXiv 1703.01365, equations 1 and 3).

--checkpoint, --data: as for task_sentiment_classification.py.
--steps: how many readings.

The picture is examples/output/integrated_gradients.svg: red speaks for a positive review, blue
against it.
"""

import argparse

import keras
import numpy as np
import pictures
from keras import ops
from sentiment import read
from trials import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.backend import value_and_gradients
from bert4keras_lite.data import Batches

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA)
parser.add_argument("--text", nargs="*", help="what to explain; without it, reviews of the test")
parser.add_argument("--steps", type=int, default=50)
parser.add_argument("--maxlen", type=int, default=128)
parser.add_argument("--epochs", type=int, help="3, or 8 for tiny-zh")
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
tokenizer = load_tokenizer(args.checkpoint)

# the classifier
bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
x = keras.layers.Dropout(0.1)(bert.output[:, 0])
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
    samples = [
        (tokenizer.encode(text, maxlen=args.maxlen), label)
        for text, label in read(args.data, "train")
    ]
    epochs = args.epochs or (8 if is_small else 3)
    model.fit(Batches(samples, 32, shuffle=True, buckets=8), epochs=epochs)

# the same classifier, from the token vectors on
vectors = bert.get_layer("token_embedding").output
from_vectors = keras.Model([vectors, *bert.inputs], model.output)


def contributions(text):
    """What each token adds to the score of "positive", and the scores of the text and of nothing."""
    ids, segments = tokenizer.encode_batch([text], maxlen=args.maxlen)
    vectors = ops.convert_to_numpy(bert.get_layer("token_embedding")(ids))

    def score(values):
        many = [ops.convert_to_tensor(np.repeat(x, len(way), axis=0)) for x in (ids, segments)]
        logits = from_vectors([values[0], *many])
        return ops.sum(logits[:, 1] - logits[:, 0]), logits

    # the middles of `steps` pieces of the way, and its two ends
    way = np.append((np.arange(args.steps) + 0.5) / args.steps, [0, 1])
    values = ops.convert_to_tensor((way[:, None, None] * vectors).astype("float32"))
    (_, logits), (gradients,) = value_and_gradients(score, [values])
    gradients, logits = ops.convert_to_numpy(gradients), ops.convert_to_numpy(logits)
    added = (gradients[:-2].mean(axis=0) * vectors[0]).sum(axis=-1)
    nothing, full = logits[-2:, 1] - logits[-2:, 0]
    return added, full, nothing


texts = args.text or [text for text, _ in read(args.data, "test")[:8]]
parts, ends, errors = [], [], []
for row, text in enumerate(texts):
    added, full, nothing = contributions(text)
    errors.append(abs(added.sum() - (full - nothing)))
    strongest = np.abs(added[1:-1]).max()
    tokens = tokenizer.tokenize(text, maxlen=args.maxlen)[1:-1]
    tokens = [token.removeprefix("##") for token in tokens]
    shares = added[1:-1] / strongest
    marks = [(t, pictures.shade(share), "") for t, share in zip(tokens, shares, strict=True)]
    boxes, end = pictures.cells(70, 40 * row + 6, marks)
    parts += [pictures.said(10, 40 * row + 27, f"{full:+.1f}", 20), boxes]
    ends.append(end)
    codes = [41 if share > 0.3 else 44 if share < -0.3 else 0 for share in shares]
    shown = (f"\033[{code}m{token}\033[0m" for code, token in zip(codes, tokens, strict=True))
    print(f"{full:+5.1f} {''.join(shown)}")

picture = OUTPUT / "integrated_gradients.svg"
pictures.save(picture, max(ends) + 10, 40 * len(texts) + 10, parts)
print(f"the sums miss the scores by {max(errors):.4f} at most; the picture is {picture}")
