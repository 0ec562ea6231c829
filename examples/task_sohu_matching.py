"""Same topic, same event? Six sub-tasks of matching news, one model conditioned on the sub-task.

    python examples/task_sohu_matching.py [--checkpoint DIR] [--data DIR] [--models each]

Two news items, short or long (short-short, short-long, long-long): are they on the same topic (A),
on the same event (B)? The sub-task is the condition of every layer normalization of a Chinese BERT:
its embedding changes their scales and offsets. To compare: `--models each` trains a model for each
sub-task. The score is F1 of the matching pairs, averaged over the sub-tasks. Matching pairs are
few, so the threshold of a match is chosen for each sub-task, on valid.

Texts that are too long are shortened to whole sentences: the first one, and those that share most
with the other text.

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
from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
from keras import ops
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches, read_json_lines
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
NAME = re.compile("(?P<length>短短|短长|长长)匹配(?P<kind>[AB])类|(?P<short>[AB])_")
SPLIT = re.compile("train|valid|test(?!_with_id)|round2")  # test_with_id has no labels


def read(directory):
    """`{sub-task: {"train": [(source, target, label), ...], "valid": ..., "test": ...}}`."""
    samples = {}
    for path in sorted(Path(directory).rglob("*")):
        name = path.relative_to(directory).as_posix()
        task, split = NAME.search(name), SPLIT.search(name)
        if not (path.is_file() and task and split):
            continue
        kind = task["kind"] or task["short"]
        task = f"{LENGTHS[task['length'] or '短短']}_{kind}"
        split = split[0].replace("round2", "train")  # more to train on, from the second round
        samples.setdefault(task, {}).setdefault(split, []).extend(read_pairs(path, kind))
    incomplete = [task for task, splits in samples.items() if not {"train", "valid"} <= {*splits}]
    if incomplete or not samples:
        raise SystemExit(
            f"{directory}: expected 短短匹配A类/train.txt, 短短匹配A类/valid.txt and so on, or "
            f"A_train.jsonl and A_valid.jsonl; {', '.join(incomplete) or 'there is none'}."
        )
    return samples


def read_pairs(path, kind):
    """(source, target, label) of each line of a file."""

    def pair(row):
        label = row["label"] if "label" in row else row[f"label{kind}"]
        if str(label) not in ("0", "1"):
            raise ValueError(f"the label is {label!r}, not 0 or 1")
        if not row["source"] or not row["target"]:
            raise ValueError("an empty text")
        return row["source"], row["target"], int(label)

    return read_json_lines(path, pair)


def shorten(text, other, room):
    """The first sentence, and those that share most with the other text, up to `room` characters.

    Sentences are chosen by the number of pairs of neighbouring characters they share with it.
    """
    if len(text) <= room:
        return text
    sentences = re.findall(r"[^。！？!?\n]+[。！？!?\s]*", text) or [text]
    known = {*pairwise(other)}
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
    """The logit from which on a pair is a match, so that F1 is highest."""
    return max(sorted({*logits}), key=lambda threshold: f1(labels, logits >= threshold))


def labels_of(rows):
    return [label for *_, label in rows]


# the model
class Matcher:
    """A BERT for some of the sub-tasks; for a single one the condition is constant."""

    def __init__(self, samples):
        self.samples, self.names = samples, [*samples]
        task = keras.Input((), dtype="int32", name="task")
        condition = keras.layers.Embedding(len(samples), 128, name="condition")(task)
        bert = build_transformer_model(
            args.checkpoint,
            dropout_rate=0.1,
            layer_norm_cond=condition,
            additional_input_layers=task,
        )
        token_ids, segment_ids, _ = bert.inputs
        # the [CLS] vector, and difference and product of the mean vectors of the two texts (Reimers
        # and Gurevych, arXiv 1908.10084, section 3)
        means = []
        for segment in (0, 1):
            mask = (token_ids > 0) & ops.equal(segment_ids, segment)
            mask = ops.cast(mask, bert.output.dtype)[:, :, None]
            means.append(ops.sum(bert.output * mask, axis=1) / ops.sum(mask, axis=1))
        source, target = means
        x = [bert.output[:, 0], ops.abs(source - target), source * target]
        x = keras.layers.Dropout(0.1)(ops.concatenate(x, axis=-1))
        logits = {name: keras.layers.Dense(1, name=name)(x) for name in samples}
        self.model = keras.Model(bert.inputs, logits)

    def fit(self):
        train = {
            name: batches(splits["train"], shuffle=True, buckets=4)
            for name, splits in self.samples.items()
        }
        train = TaskBatches(train)  # adds the number of the sub-task
        loss = {name: keras.losses.BinaryCrossentropy(from_logits=True) for name in self.names}
        optimizer = AdamW(learning_rate, lr_schedule=linear_decay(epochs * len(train)))
        self.model.compile(optimizer, loss)
        self.model.optimizer.build(self.model.trainable_variables)  # one trace
        inputs, targets, _ = train[0]
        self.model.compute_loss(y=targets, y_pred=self.model(inputs))  # of several losses, too
        file = "sohu" if len(self.names) > 1 else f"sohu_{self.names[0]}"
        best = BestEpoch(
            lambda: {"f1": np.mean(self.choose_thresholds())}, OUTPUT / f"{file}.weights.h5"
        )
        self.model.fit(train, epochs=epochs, callbacks=[best])
        self.choose_thresholds()  # for the weights of the best epoch

    def predict(self, name, rows):
        """The logit of a match of each pair of a sub-task."""
        data = batches(rows, [self.names.index(name)])
        return self.model.predict(data, verbose=0)[name][:, 0]

    def choose_thresholds(self):
        """Chooses the thresholds on valid; returns F1 of each sub-task there."""
        self.thresholds, scores = {}, []
        for name, splits in self.samples.items():
            labels, logits = labels_of(splits["valid"]), self.predict(name, splits["valid"])
            self.thresholds[name] = best_threshold(labels, logits)
            scores.append(f1(labels, logits >= self.thresholds[name]))
        return scores


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

    # the training
    if args.models == "one":
        groups = [samples]
    else:
        groups = [{name: splits} for name, splits in samples.items()]
    matchers = {}
    for group in groups:
        matcher = Matcher(group)
        matcher.fit()
        matchers |= dict.fromkeys(group, matcher)

    # the result
    scores = []
    for name, splits in samples.items():
        labels, logits = labels_of(splits["test"]), matchers[name].predict(name, splits["test"])
        threshold = matchers[name].thresholds[name]
        scores.append(f1(labels, logits >= threshold))
        print(f"\n{name}: true | predicted | probability | texts")
        for (source, target, label), logit in list(zip(splits["test"], logits, strict=True))[:3]:
            guess, probability = int(logit >= threshold), 1 / (1 + np.exp(-logit))
            print(f"  {label} | {guess} | {probability:.2f} | {source[:40]} / {target[:40]}")
        all_match = f1(labels, np.ones(len(labels)))
        print(f"{name}: F1 {scores[-1]:.3f}, with all called matching {all_match:.3f}")
    print(f"test macro F1: {np.mean(scores):.4f}")
