"""Fine-tunes a small fraction of a model's parameters (LoRA), and merges them into a plain model.

    python examples/basic_lora.py [--checkpoint DIR] [--data DIR] [--rank 0]

BERT is frozen; products of two narrow matrices are added to its query and value kernels, and
trained with the classifier. `--rank 0` trains all parameters instead. After the training, the
products are merged into the kernels, and the result is saved to examples/output/lora: the BERT as a
checkpoint that any program can read, and the whole model as a Keras file that does not need LoRA.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: a directory with the train, valid (or dev) and test files of the reviews bert4keras ships
    (sentiment.train.data: text TAB label) or of ChnSentiCorp (train.tsv: label TAB text_a).

Reference: Hu et al., "LoRA", arXiv 2106.09685.
"""

import argparse

import keras
import numpy as np
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches, read_splits, read_tsv
from bert4keras_lite.files import saving
from bert4keras_lite.lora import enable_lora, merge_lora

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA / "reviews")
parser.add_argument("--rank", type=int, default=8)
parser.add_argument("--maxlen", type=int, default=128)
parser.add_argument("--batch-size", type=int, help="32, or 16 for tiny-zh")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--learning-rate", type=float, help="2e-5, or 1e-3 for tiny-zh")
parser.add_argument("--lora-rate", type=float, help="the rate with LoRA: 5e-4, or 5e-3 for tiny-zh")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
batch_size = args.batch_size or (16 if is_small else 32)
if args.rank:
    learning_rate = args.lora_rate or (5e-3 if is_small else 5e-4)
else:
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
    return Batches(rows, batch_size, buckets=2, **options)


samples = read_splits(args.data, read)
last = "valid" if samples["test"] is samples["valid"] else "test"
train, test = batches(samples["train"], shuffle=True), batches(samples["test"])

# the model
transformer = build_transformer_model(args.checkpoint, dropout_rate=0.1, return_keras_model=False)
bert = transformer.model
if args.rank:
    enable_lora(bert, args.rank)
classifier = keras.layers.Dense(2, name="classifier")
model = keras.Model(bert.inputs, classifier(bert.output[:, 0]))
model.compile(
    keras.optimizers.AdamW(learning_rate),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
)
model.optimizer.build(model.trainable_variables)  # one trace
trained = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
print(f"{trained:,} trainable parameters of {model.count_params():,}")

# the training
model.fit(train, epochs=args.epochs)

# the result
print(f"{last} accuracy: {model.evaluate(test, verbose=0)[1]:.4f}")
before = model.predict(test, verbose=0)
if args.rank:
    merge_lora(model)
folder = OUTPUT / "lora"
with saving(folder) as new:  # both together, or neither
    transformer.save_checkpoint(new, vocab=tokenizer)
    model.save(new / "classifier.keras")
merged = keras.saving.load_model(folder / "classifier.keras", compile=False)
after = merged.predict(test, verbose=0)
print(f"{folder}: logits differ by {np.abs(before - after).max():.1e} from those before merging")
