"""On one topic, on one event? Six sub-tasks of matching news, one model that is told which it does.

    python examples/task_sohu_matching.py [--checkpoint DIR] [--data DIR] [--seeds N]

Two news, short or long: short-short, short-long, long-long; are they on one topic (A), on one event
(B)? The sub-task is the condition of every layer normalization of a Chinese BERT: its embedding
moves their scales and offsets, so that one model is six. Beside it, each sub-task is learned by a
model of its own. The score is F1 of the matching pairs, averaged over the sub-tasks. Matching pairs are
few, so from which score on a pair is called matching is chosen for each sub-task, on valid.

What is too long is shortened to whole sentences: the first, then those that share most with the
other text, in their order.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: a directory of the Sohu 2021 contest, with a folder a sub-task (`短短匹配A类/train.txt`), or
    of the short-short files as `A_train.jsonl`. Lines are {"source": ..., "target": ..., "labelA":
    "1"}; "label" and "labelB" are known too. Where there is no test file with labels, every second
    pair of the valid file takes its place. Without --data, the sample in examples/data.

Reference: the contest, https://www.biendata.xyz/competition/sohu_2021/; normalization with a
condition, https://kexue.fm/archives/7124.
"""

import re
from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
from json_lines import read_lines
from labeling import straight_down
from pairs import compared
from trials import DATA, KeepBest, arguments, compare

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches
from bert4keras_lite.optimizers import AdamW
from bert4keras_lite.training import TaskBatches

BUCKETS = 4  # so many lengths of batches
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
    def pair(row):
        if not row["source"] or not row["target"]:
            raise ValueError("an empty text")
        label = row["label"] if "label" in row else row[f"label{kind}"]
        if str(label) not in ("0", "1"):
            raise ValueError(f"the label is {label!r}, not 0 or 1")
        return [(row["source"], row["target"], int(label))]

    expected = f'{{"source": text, "target": text, "label{kind}": 0 or 1}}'
    return read_lines(path, pair, expected)


def shorten(text, other, room):
    """The sentences of a text that say most of what the other says, in at most `room` characters.

    The first sentence stays. The others are taken in the order of how many pairs of neighbouring
    characters they share with the other text, as long as they fit.
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
    """Token ids and segments; a text has half of the room, or what the other leaves of it."""
    room = args.maxlen - 3  # [CLS] source [SEP] target [SEP]
    rooms = [max(room // 2, room - len(other)) for other in (target, source)]
    source, target = shorten(source, target, rooms[0]), shorten(target, source, rooms[1])
    return tokenizer.encode(source, target, maxlen=args.maxlen)


def batches(rows, **options):
    samples = [(encode(source, target), label) for source, target, label in rows]
    return Batches(samples, args.batch_size, buckets=BUCKETS, **options)


def f1(labels, found):
    labels, found = np.array(labels, bool), np.array(found, bool)
    return 2 * (labels & found).sum() / max(labels.sum() + found.sum(), 1)


def best_threshold(labels, scores):
    """The score from which on a pair is called matching, so that F1 is the highest there is."""
    return max(sorted({*scores}), key=lambda threshold: f1(labels, scores >= threshold))


class Matcher:
    """A BERT for some of the sub-tasks; for a single one its condition is a constant."""

    def __init__(self, names):
        self.names = names
        task = keras.Input((), dtype="int32", name="task")
        condition = keras.layers.Embedding(len(names), 128, name="condition")(task)
        bert = build_transformer_model(
            args.checkpoint,
            dropout_rate=0.1,
            layer_norm_cond=condition,
            additional_input_layers=task,
        )
        token_ids, segment_ids, _ = bert.inputs
        x = keras.layers.Dropout(0.1)(compared(bert.output, token_ids, segment_ids))
        scores = {name: keras.layers.Dense(1, name=name)(x) for name in names}
        self.model = keras.Model(bert.inputs, scores)

    def fit(self):
        train = {name: batches(samples[name]["train"], shuffle=True) for name in self.names}
        train = TaskBatches(train)
        loss = {name: keras.losses.BinaryCrossentropy(from_logits=True) for name in self.names}
        optimizer = AdamW(args.learning_rate, lr_schedule=straight_down(args.epochs, train))
        self.model.compile(optimizer, loss, jit_compile=args.jit_compile)
        self.model.optimizer.build(self.model.trainable_variables)  # one trace
        inputs, targets, _ = train[0]
        self.model.compute_loss(y=targets, y_pred=self.model(inputs))  # of several losses, too
        name = "sohu" if len(self.names) > 1 else f"sohu_{self.names[0]}"
        best = KeepBest(lambda: {"f1": np.mean(self.choose_thresholds())}, name)
        self.model.fit(train, epochs=args.epochs, callbacks=[best])
        self.choose_thresholds()  # for the weights that were kept

    def predict(self, name, data):
        """The scores of the pairs of a sub-task, logits that they match."""
        found = []
        for i in range(len(data)):
            inputs = data[i][0]
            task = np.full(len(inputs[0]), self.names.index(name), "int32")
            found += list(self.model.predict_on_batch([*inputs, task])[name][:, 0])
        return np.array(data.restore(found))

    def choose_thresholds(self):
        """On valid. Returns F1 of each sub-task there."""
        scores = {name: self.predict(name, valid[name]) for name in self.names}
        self.thresholds = {n: best_threshold(labels_of(valid[n]), scores[n]) for n in scores}
        return [f1(labels_of(valid[n]), scores[n] >= self.thresholds[n]) for n in scores]

    def scores(self, data):
        """F1 of each sub-task."""
        return [
            f1(labels_of(data[n]), self.predict(n, data[n]) >= self.thresholds[n])
            for n in self.names
        ]


def held_out(split):
    """Batches of each sub-task that know their rows."""
    found = {}
    for name, splits in samples.items():
        found[name] = batches(splits[split])
        found[name].rows = splits[split]
    return found


def labels_of(data):
    return [label for *_, label in data.rows]


def fit_one():
    """One model for all sub-tasks."""
    matcher = Matcher([*samples])
    matcher.fit()
    each["one for all"] = matcher.scores(test)
    return matcher, np.mean(each["one for all"])


def fit_each():
    """A model for each sub-task."""
    each["one for each"] = []
    for name in samples:
        print(f"\n{name} alone")
        matcher = Matcher([name])
        matcher.fit()
        each["one for each"] += matcher.scores(test)
    return None, np.mean(each["one for each"])


if __name__ == "__main__":
    args = arguments(
        __doc__,
        seeds=3,
        data=DATA / "sohu",
        maxlen=(256, 96),
        batch_size=16,
        epochs=(3, 8),
        learning_rate=(2e-5, 1e-3),
    )
    tokenizer = load_tokenizer(args.checkpoint)
    samples = read(args.data)
    for splits in samples.values():
        if "test" not in splits:
            splits["valid"], splits["test"] = splits["valid"][::2], splits["valid"][1::2]
            print(
                "no test file with labels: every second pair of the valid file is put aside for it"
            )
    valid, test = held_out("valid"), held_out("test")

    each = {}  # method -> F1 of each sub-task, of the last seed
    models, scores = compare(
        {"one for each": fit_each, "one for all": fit_one}, args.seeds, metric="macro F1"
    )

    print(f"\n{'F1, last seed':14} | {' | '.join(each)} | all called matching")
    for i, name in enumerate(samples):
        labels = labels_of(test[name])
        numbers = [*(values[i] for values in each.values()), f1(labels, np.ones(len(labels)))]
        print(f"{name:14} | {' | '.join(f'{number:.3f}' for number in numbers)}")
    for name, data in test.items():
        matcher = models["one for all"]
        found = matcher.predict(name, data)
        print(f"\n{name}: right | found | probability | texts")
        for (source, target, label), score in list(zip(data.rows, found, strict=True))[:3]:
            called, probability = int(score >= matcher.thresholds[name]), 1 / (1 + np.exp(-score))
            print(f"  {label} | {called} | {probability:.2f} | {source[:40]} / {target[:40]}")
