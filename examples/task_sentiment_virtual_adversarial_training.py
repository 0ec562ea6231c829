"""Is a review positive or negative? Learns from few labels and many texts without one.

    python examples/task_sentiment_virtual_adversarial_training.py [--checkpoint DIR] [--data DIR]

Virtual adversarial training (Miyato et al., arXiv 1704.03976) needs no label: the token vectors of
a text move in the direction in which the prediction changes the most, and the prediction shall not
change. So besides the labelled batches it learns from texts that nobody has labelled.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: a directory of ChnSentiCorp's or bert4keras' reviews: see sentiment.py. Labels of the first
    `labelled` texts of train are used; the other texts of train, and those of valid, are not told.
"""

from functools import partial

import keras
from sentiment import read
from trials import DATA, arguments, compare, save

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches
from bert4keras_lite.training import virtual_adversarial_training

args = arguments(
    __doc__,
    seeds=3,
    data=DATA,
    labelled=200,
    maxlen=128,
    batch_size=32,
    epochs=(10, 20),
    learning_rate=(2e-5, 1e-3),
    epsilon=1.0,
)
tokenizer = load_tokenizer(args.checkpoint)
train, valid, test = (read(args.data, *s) for s in (["train"], ["valid", "dev"], ["test"]))
unlabelled = [text for text, _ in train[args.labelled :] + valid]
train = train[: args.labelled]
print(f"{len(train)} texts with labels, {len(unlabelled)} without")


def batches(rows, **options):
    samples = [(tokenizer.encode(text, maxlen=args.maxlen), label) for text, label in rows]
    return Batches(samples, args.batch_size, buckets=4, **options)


def fit(epsilon=None):
    data = batches(train, shuffle=True)
    bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
    x = keras.layers.Dropout(0.1)(bert.output[:, 0])  # the [CLS] vector
    model = keras.Model(bert.inputs, keras.layers.Dense(2, name="classifier")(x))
    if epsilon:
        inputs = tokenizer.encode_batch(unlabelled, maxlen=args.maxlen)
        virtual_adversarial_training(
            model, "token_embedding", inputs, args.batch_size, epsilon=epsilon
        )
    model.compile(
        keras.optimizers.AdamW(args.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
        jit_compile=args.jit_compile,
    )
    model.optimizer.build(model.trainable_variables)  # one trace
    model.fit(data, epochs=args.epochs)
    return model, model.evaluate(batches(test), verbose=0)[1]


models, scores = compare({"plain": fit, "VAT": partial(fit, epsilon=args.epsilon)}, args.seeds)
save(models["VAT"], "sentiment_vat")
inputs = tokenizer.encode_batch([text for text, _ in test[:8]], maxlen=args.maxlen)
guesses = [model.predict(inputs, verbose=0).argmax(axis=1) for model in models.values()]
print(f"\nright | {' | '.join(models)} | text")
for (text, label), *found in zip(test[:8], *guesses, strict=True):
    print(*("😞😀"[i] for i in (label, *found)), text[:40], sep=" | ")
