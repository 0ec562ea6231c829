"""Trains a classifier on all devices of a machine at once, or on one.

    python examples/basic_several_devices.py [--checkpoint DIR] [--data DIR] [--pretend N]

Each device has the whole model and a part of every batch; the gradients are averaged. On JAX this
is `keras.distribution`, on TensorFlow `tf.distribute`; with both, what is special comes before the
model is built, and the rest of a script stays as it is. On PyTorch, one device is used: Keras
leaves `DistributedDataParallel` to the user.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: a directory with the train, valid (or dev) and test files of the reviews bert4keras ships
    (sentiment.train.data: text TAB label) or of ChnSentiCorp (train.tsv: label TAB text_a).
--pretend N: use a processor as N devices, to try it without any. On TensorFlow and JAX.
"""

import argparse
from contextlib import nullcontext

import keras
from sample import DATA

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches, read_splits, read_tsv

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA / "reviews")
parser.add_argument("--pretend", type=int, metavar="N")
parser.add_argument("--maxlen", type=int, default=128)
parser.add_argument("--batch-size", type=int, default=32, help="of all devices together: 32")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--learning-rate", type=float, help="2e-5, or 1e-3 for tiny-zh")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
learning_rate = args.learning_rate or (1e-3 if args.checkpoint == "tiny-zh" else 2e-5)


def on_jax():
    """The devices; all models built from now on are on every one of them."""
    import jax

    if args.pretend:
        jax.config.update("jax_num_cpu_devices", args.pretend)
    devices = keras.distribution.list_devices()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    return devices, nullcontext()


def on_tensorflow():
    """The devices; all models built in the context are on every one of them."""
    import tensorflow as tf

    if args.pretend:
        (processor,) = tf.config.list_physical_devices("CPU")
        parts = [tf.config.LogicalDeviceConfiguration()] * args.pretend
        tf.config.set_logical_device_configuration(processor, parts)
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    return strategy.extended.worker_devices, strategy.scope()


def on_torch():
    """The one device that Keras takes."""
    return [str(keras.ops.zeros(()).device)], nullcontext()


# before anything is computed
start = {"jax": on_jax, "tensorflow": on_tensorflow, "torch": on_torch}
devices, scope = start[keras.config.backend()]()
keras.utils.set_random_seed(args.seed)
print(f"{len(devices)} device(s):", *devices)
if args.batch_size % len(devices):
    raise SystemExit(f"--batch-size {args.batch_size} is not a multiple of {len(devices)} devices.")

tokenizer = load_tokenizer(args.checkpoint)


def read(path):
    """(text, label) pairs of a file of reviews; label 1 is positive."""
    if path.name.startswith("sentiment."):  # bert4keras: text TAB label
        return read_tsv(path)
    if path.name in ("train.tsv", "dev.tsv", "test.tsv"):  # ChnSentiCorp: label TAB text
        return [(text, label) for label, text in read_tsv(path, (int, str), header=True)]
    return []


splits = read_splits(args.data, read)
last = "valid" if splits["test"] is splits["valid"] else "test"


def batches(split, **options):
    """Whole batches, whose samples are split evenly."""
    rows = splits[split]
    samples = [(tokenizer.encode(text, maxlen=args.maxlen), label) for text, label in rows]
    samples = samples[: len(samples) // args.batch_size * args.batch_size]
    return Batches(samples, args.batch_size, buckets=2, **options)


with scope:
    bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
    x = keras.layers.Dense(2, name="classifier")(bert.output[:, 0])
    model = keras.Model(bert.inputs, x)
    model.compile(
        keras.optimizers.AdamW(learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
        jit_compile="auto" if keras.config.backend() == "jax" else False,
    )
    model.optimizer.build(model.trainable_variables)  # one trace

model.fit(batches("train", shuffle=True), epochs=args.epochs)
accuracy = model.evaluate(batches("test"), verbose=0)[1]
print(f"{last} accuracy on {len(devices)} device(s): {accuracy:.4f}")
