"""Does the second sentence follow from the first, contradict it, or neither?

    python examples/task_ocnli.py [--checkpoint DIR] [--data DIR] [--seeds N]

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: a directory of OCNLI's or CMNLI's files: train.json (or train.50k.json, .30k, .10k), dev.json;
    JSON lines with sentence1, sentence2 and label. Rows on which the annotators did not agree ("-")
    are left out. Without it, the sample in examples/data/inference.

The plain model is trained beside one that reads only the second sentence: what that one knows, the
writers of the sentences gave away.
"""

from functools import partial

import keras
from iflytek import classifier
from json_lines import read_lines
from trials import DATA, arguments, compare, save, train_and_test

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches

args = arguments(
    __doc__,
    seeds=3,
    data=DATA / "inference",
    maxlen=128,
    batch_size=32,
    epochs=(3, 8),
    learning_rate=(2e-5, 1e-3),
)
tokenizer = load_tokenizer(args.checkpoint)
NAMES = ["entailment", "neutral", "contradiction"]


def read(path):
    """(sentence, sentence, number of the label)."""
    rows = read_lines(path, lambda row: [row], '{"sentence1": ..., "sentence2": ..., "label": ...}')
    return [
        (row["sentence1"], row["sentence2"], NAMES.index(row["label"]))
        for row in rows
        if row["label"] in NAMES
    ]


files = [*(f"train{size}.json" for size in ("", ".50k", ".30k", ".10k")), "dev.json"]
train, test = map(read, train_and_test(args.data, files))


def batches(rows, both=True, **options):
    samples = [
        (tokenizer.encode(*([first, second] if both else [second]), maxlen=args.maxlen), label)
        for first, second, label in rows
    ]
    return Batches(samples, args.batch_size, buckets=4, **options)


def fit(both):
    bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
    model = classifier(bert, keras.layers.Dense(len(NAMES), name="classifier"))
    model.compile(
        keras.optimizers.AdamW(args.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
        jit_compile=args.jit_compile,
    )
    model.optimizer.build(model.trainable_variables)  # one trace
    model.fit(batches(train, both, shuffle=True), epochs=args.epochs)
    return model, model.evaluate(batches(test, both), verbose=0)[1]


models, scores = compare(
    {"second alone": partial(fit, False), "both sentences": partial(fit, True)}, args.seeds
)
save(models["both sentences"], "ocnli")
inputs = batches(test[:8])
guesses = inputs.restore(models["both sentences"].predict(inputs, verbose=0)).argmax(axis=1)
print("\nright | found | sentences")
for (first, second, label), guess in zip(test[:8], guesses, strict=True):
    print(f"{NAMES[label]} | {NAMES[guess]} | {first} / {second}")
