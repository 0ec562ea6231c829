"""Fine-tunes a small share of a model's numbers (LoRA), and folds them into a plain model.

    python examples/basic_lora.py [--checkpoint DIR] [--data DIR] [--seeds N]

BERT is frozen; beside its kernels for queries and values come products of two narrow matrices, and
they are trained, and the classifier on top. It is compared with training everything. Then the
products are folded into the kernels, and the result is saved to examples/output/lora: the BERT as a
checkpoint that anyone can read, and the whole model as a Keras file that needs no LoRA any more.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: a directory with the train, valid and test files of sentiment.py. Without it, the sample in
    examples/data.

Reference: Hu et al., "LoRA", arXiv 2106.09685.
"""

from functools import partial

import keras
import numpy as np
from sentiment import read
from trials import DATA, OUTPUT, arguments, compare

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches
from bert4keras_lite.files import saving
from bert4keras_lite.lora import enable_lora, merge_lora

args = arguments(
    __doc__,
    seeds=1,
    data=DATA / "reviews",
    maxlen=128,
    batch_size=(32, 16),
    epochs=3,
    rank=8,
    learning_rate=(2e-5, 1e-3),
    lora_rate=(5e-4, 5e-3),
)
tokenizer = load_tokenizer(args.checkpoint)


def batches(split, **options):
    rows = read(args.data, split)
    samples = [(tokenizer.encode(text, maxlen=args.maxlen), label) for text, label in rows]
    return Batches(samples, args.batch_size, buckets=2, **options)


def number(variables):
    return sum(int(np.prod(variable.shape)) for variable in variables)


trained = {}


def fit(learning_rate, rank=0):
    transformer = build_transformer_model(
        args.checkpoint, dropout_rate=0.1, return_keras_model=False
    )
    if rank:
        enable_lora(transformer.model, rank)
    bert = transformer.model
    classifier = keras.layers.Dense(2, name="classifier")
    model = keras.Model(bert.inputs, classifier(bert.output[:, 0]))
    model.transformer = transformer
    trained[bool(rank)] = number(model.trainable_variables)
    model.compile(
        keras.optimizers.AdamW(learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
        jit_compile=args.jit_compile,
    )
    model.optimizer.build(model.trainable_variables)  # one trace
    model.fit(batches("train", shuffle=True), epochs=args.epochs)
    return model, model.evaluate(batches("test"), verbose=0)[1]


models, scores = compare(
    {
        "everything": partial(fit, args.learning_rate),
        f"LoRA of rank {args.rank}": partial(fit, args.lora_rate, args.rank),
    },
    args.seeds,
)
print(f"numbers trained: {trained[False]:,} of everything, {trained[True]:,} with LoRA")

model = models[f"LoRA of rank {args.rank}"]
test = batches("test")
before = model.predict(test, verbose=0)
merge_lora(model)
folder = OUTPUT / "lora"
with saving(folder) as new:  # both together, or neither
    model.transformer.save_checkpoint(new, vocab=tokenizer)
    model.save(new / "classifier.keras")
merged = keras.saving.load_model(folder / "classifier.keras", compile=False)
after = merged.predict(test, verbose=0)
print(f"{folder}: scores differ by {np.abs(before - after).max():.1e} from those before merging")
