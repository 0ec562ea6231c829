"""Same topic, same event? Six sub-tasks of matching news, one model conditioned on the sub-task.

    python examples/task_sohu_matching.py [--checkpoint DIR] [--data DIR] [--models each]

Two news items, short or long (short-short, short-long, long-long): are they on the same topic (A),
on the same event (B)? The sub-task is the condition of every layer normalization of a Chinese BERT:
its embedding changes their scales and offsets. To compare: `--models each` trains a model for each
sub-task. The score is F1 of the matching pairs, averaged over the sub-tasks. Matching pairs are
few, so the threshold of a match is chosen for each sub-task, on valid. A text that is too long is
shortened to its first sentence, and those that share most with the other text.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: a directory of the Sohu 2021 contest, with a folder for each sub-task
    (`短短匹配A类/train.txt`), or with the short-short files as `A_train.jsonl`. Lines are
    {"source": ..., "target": ..., "labelA": "1"}, or with "label" or "labelB". Without a test file
    with labels, every second pair of the valid file is used for testing.

Reference: the contest, https://www.biendata.xyz/competition/sohu_2021/; conditional normalization,
https://kexue.fm/archives/7124.
"""

import argparse
import re
from functools import partial
from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
from keras import ops
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches, read_json_lines
from bert4keras_lite.layers import GlobalAveragePooling1D
from bert4keras_lite.optimizers import AdamW, linear_decay
from bert4keras_lite.training import BestEpoch, TaskBatches

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA / "sohu")
parser.add_argument("--models", choices=["one", "each"], default="one")
parser.add_argument("--maxlen", type=int, help="256, or 96 for tiny-zh")
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--epochs", type=int, help="3, or 8 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="2e-5, or 1e-3 for tiny-zh")
parser.add_argument("--seed", type=int, default=0)

# the data
LENGTHS = {"短短": "short_short", "短长": "short_long", "长长": "long_long"}
TASK = re.compile("(?:(短短|短长|长长)匹配)?([AB])[类_]")
SPLIT = re.compile("train|valid|test(?!_with_id)|round2")  # test_with_id: no labels; round2: train


def read(directory):
    """`{sub-task: {"train": [(source, target, label), ...], "valid": ..., "test": ...}}`."""
    samples = {}
    for path in sorted(Path(directory).rglob("*")):
        name = path.relative_to(directory).as_posix()
        task, split = TASK.search(name), SPLIT.search(name)
        if path.is_file() and task and split:
            length, kind = task.groups(default="短短")
            pairs = read_json_lines(path, partial(pair, kind=kind))
            task, split = f"{LENGTHS[length]}_{kind}", split[0].replace("round2", "train")
            samples.setdefault(task, {}).setdefault(split, []).extend(pairs)
    incomplete = [task for task, splits in samples.items() if not {"train", "valid"} <= {*splits}]
    if incomplete or not samples:
        raise SystemExit(
            f"{directory}: expected 短短匹配A类/train.txt, 短短匹配A类/valid.txt and so on, or "
            f"A_train.jsonl and A_valid.jsonl; {', '.join(incomplete) or 'there is none'}."
        )
    return samples


def pair(row, kind):
    """(source, target, label) of a line of a file."""
    label = row["label"] if "label" in row else row[f"label{kind}"]
    if str(label) not in ("0", "1"):
        raise ValueError(f"the label is {label!r}, not 0 or 1")
    if not row["source"] or not row["target"]:
        raise ValueError("an empty text")
    return row["source"], row["target"], int(label)


def shorten(text, other, room):
    """The first sentence, and those that share most with the other text, in `room` characters."""
    if len(text) <= room:
        return text
    sentences = re.findall(r"[^。！？!?\n]+[。！？!?\s]*", text) or [text]
    known = {*pairwise(other)}  # pairs of neighbouring characters
    shared = [len(known & {*pairwise(sentence)}) for sentence in sentences]
    chosen, left = [0], room - len(sentences[0])
    for i in sorted(range(1, len(sentences)), key=lambda i: -shared[i]):
        if len(sentences[i]) <= left:
            chosen.append(i)
            left -= len(sentences[i])
    return "".join(sentences[i] for i in sorted(chosen))[:room]


def encode(source, target):
    """Token ids and segment ids; a text has half of the length, or what the other does not need."""
    room = args.maxlen - 3  # [CLS] source [SEP] target [SEP]
    rooms = [max(room // 2, room - len(other)) for other in (target, source)]
    source, target = shorten(source, target, rooms[0]), shorten(target, source, rooms[1])
    return tokenizer.encode(source, target, maxlen=args.maxlen)


def batches(rows, task=(), **options):
    """Batches of pairs; `task` is the number of the sub-task, as the last input of the model."""
    samples = [((*encode(source, target), *task), label) for source, target, label in rows]
    return Batches(samples, args.batch_size, **options)


# the scores
def f1(labels, predicted):
    labels, predicted = np.array(labels, bool), np.array(predicted, bool)
    return 2 * (labels & predicted).sum() / max(labels.sum() + predicted.sum(), 1)


def best_threshold(labels, logits):
    """The logit from which on a pair is a match, so that F1 is highest; and this F1."""
    threshold = max(sorted({*logits}), key=lambda threshold: f1(labels, logits >= threshold))
    return threshold, f1(labels, logits >= threshold)


# the model
def build(names):
    """A BERT with a logit for each sub-task; for a single one the condition is constant."""
    task = keras.Input((), dtype="int32", name="task")
    condition = keras.layers.Embedding(len(names), 128, name="condition")(task)
    options = {"layer_norm_cond": condition, "additional_input_layers": task}
    bert = build_transformer_model(args.checkpoint, dropout_rate=0.1, **options)
    token_ids, segment_ids, _ = bert.inputs
    # [CLS]; difference and product of the mean vectors of both texts (arXiv 1908.10084, section 3)
    masks = [(token_ids > 0) & ops.equal(segment_ids, segment) for segment in (0, 1)]
    source, target = (GlobalAveragePooling1D()(bert.output, mask) for mask in masks)
    x = [bert.output[:, 0], ops.abs(source - target), source * target]
    x = keras.layers.Dropout(0.1)(ops.concatenate(x, axis=-1))
    return keras.Model(bert.inputs, {name: keras.layers.Dense(1, name=name)(x) for name in names})


def predict(model, samples, name, split):
    """The labels of the pairs of a sub-task, and their logits of a match."""
    pairs, task = samples[name][split], [*samples].index(name)
    logits = model.predict(batches(pairs, [task]), verbose=0)[name]
    return np.array([label for *_, label in pairs]), logits[:, 0]


def choose_thresholds(model, samples):
    """For each sub-task the threshold for the highest F1 on valid, and this F1."""
    return [best_threshold(*predict(model, samples, name, "valid")) for name in samples]


def train(samples, path):
    """A model for the sub-tasks in `samples`, with the weights of its best epoch."""
    model = build(samples)
    data = {name: batches(samples[name]["train"], shuffle=True, buckets=4) for name in samples}
    data = TaskBatches(data)  # adds the number of the sub-task
    loss = dict.fromkeys(samples, keras.losses.BinaryCrossentropy(from_logits=True))
    model.compile(AdamW(learning_rate, lr_schedule=linear_decay(epochs * len(data))), loss)
    model.optimizer.build(model.trainable_variables)  # one trace
    inputs, targets, _ = data[0]
    model.compute_loss(y=targets, y_pred=model(inputs))  # of several losses, too
    best = BestEpoch(lambda: {"f1": np.mean(choose_thresholds(model, samples), axis=0)[1]}, path)
    model.fit(data, epochs=epochs, callbacks=[best])
    return model


if __name__ == "__main__":
    args = parser.parse_args()
    is_small = args.checkpoint == "tiny-zh"
    args.maxlen = args.maxlen or (96 if is_small else 256)
    epochs = args.epochs or (8 if is_small else 3)
    learning_rate = args.learning_rate or (1e-3 if is_small else 2e-5)
    keras.utils.set_random_seed(args.seed)
    tokenizer = load_tokenizer(args.checkpoint)
    samples = read(args.data)
    for splits in samples.values():
        if "test" not in splits:
            splits["valid"], splits["test"] = splits["valid"][::2], splits["valid"][1::2]
            print("no test file with labels: every second pair of the valid file is for testing")

    each = {f"sohu_{name}": {name: splits} for name, splits in samples.items()}
    groups = each if args.models == "each" else {"sohu": samples}
    scores = []
    for file, group in groups.items():
        model = train(group, OUTPUT / f"{file}.weights.h5")
        for name, (threshold, _) in zip(group, choose_thresholds(model, group), strict=True):
            labels, logits = predict(model, group, name, "test")
            scores.append(f1(labels, logits >= threshold))
            print(f"\n{name}: true | predicted | probability | texts")
            pairs = group[name]["test"][:3]
            for (source, target, label), logit in zip(pairs, logits[:3], strict=True):
                guess, probability = int(logit >= threshold), 1 / (1 + np.exp(-logit))
                print(f"  {label} | {guess} | {probability:.2f} | {source[:40]} / {target[:40]}")
            all_match = f1(labels, np.ones(len(labels)))
            print(f"{name}: F1 {scores[-1]:.3f}, with all called matching {all_match:.3f}")
    print(f"test macro F1: {np.mean(scores):.4f}")
