"""Who is meant? Finds the names in a text, and links each to one entry of a knowledge base.

    python examples/task_entity_linking.py [--checkpoint DIR] [--data DIR]

Several entries may have the same name. A Chinese BERT marks where mentions begin and end, with the
names of the knowledge base in the text as features. An index in memory gives the candidates of each
mention. Then the same BERT reads the text and the description of a candidate; the vector of the
mention is the condition of every layer normalization. Its logit and some features (how often the
name meant this entry, how many words and objects text and entry have in common) rank the
candidates.

The scores are F1 of the mentions, of linking the true mentions, and of both together.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: a directory of CCKS 2019, KgCLUE or NLPCC 2016 KBQA, or what prepare_entity_linking.py made
    of it.

Reference: the contest, https://www.biendata.xyz/competition/ccks_2019_el/; a baseline with marks,
candidates and prior features: https://github.com/bojone/el-2019-baseline; normalization with a
condition: https://kexue.fm/archives/7124.
"""

import argparse

import keras
import numpy as np
from entity_index import Knowledge
from keras import ops
from prepare_entity_linking import load
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches, sequence_padding
from bert4keras_lite.layers import GlobalAveragePooling1D
from bert4keras_lite.metrics import span_scores
from bert4keras_lite.optimizers import AdamW, linear_decay
from bert4keras_lite.spans import character_spans, token_spans
from bert4keras_lite.training import BestEpoch

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA / "linking")
parser.add_argument("--maxlen", type=int, help="64, or 48 for tiny-zh")
parser.add_argument("--maxpair", type=int, help="256, or 96 for tiny-zh")
parser.add_argument("--candidates", type=int, default=8)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--epochs", type=int, help="3, or 8 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="2e-5, or 1e-3 for tiny-zh")
parser.add_argument("--scored", type=int, default=1000, help="texts of valid, after each epoch")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
args.maxlen = args.maxlen or (48 if is_small else 64)
args.maxpair = args.maxpair or (96 if is_small else 256)
args.epochs = args.epochs or (8 if is_small else 3)
args.learning_rate = args.learning_rate or (1e-3 if is_small else 2e-5)
keras.utils.set_random_seed(args.seed)
tokenizer = load_tokenizer(args.checkpoint)
entries, samples = load(args.data)
known = Knowledge(entries, samples["train"], args.candidates)


# the data
def text_inputs(text, true=None):
    """Token ids, offsets, and for each token what the names of the knowledge base say."""
    ids, _, offsets = tokenizer.encode(text, maxlen=args.maxlen, return_offsets=True)
    features = np.zeros((args.maxlen, known.NAME_FEATURES), "float32")
    for first, after, share in token_spans({*known.names(text, true)}, offsets):
        features[first, 0] = features[after - 1, 1] = 1  # begins, ends
        features[first:after, 2:] = 1, share
    return ids, offsets, features


def pair_inputs(text, start, end, number, true=None):
    """Token ids and segments of text and entry, and what is known before reading."""
    ids, segments = tokenizer.encode(text, known.entries[number]["text"], maxlen=args.maxpair)
    return ids, segments, known.features(text, start, end, number, true)


def padded(rows, length):
    return sequence_padding(rows, length).astype("int32")


def link_inputs(pairs):
    ids, segments, features = zip(*pairs, strict=True)
    return {
        "pair_ids": padded(ids, args.maxpair),
        "pair_segments": padded(segments, args.maxpair),
        "pair_features": np.array(features, "float32"),
    }


def mark_inputs(texts):
    ids, _, features = zip(*texts, strict=True)
    return {"ids": padded(ids, args.maxlen), "name_features": np.stack(features)}


def training_batch(rows, _):
    """Texts, each with one of its mentions and a candidate, in half of them the right one."""
    texts, positions, pairs, fits = [], [], [], []
    ends = np.full((len(rows), args.maxlen, 2), -1.0, "float32")
    for i, (text, mentions, chosen) in enumerate(rows):
        texts.append(text_inputs(text, mentions))
        offsets = texts[-1][1]
        spans = token_spans({*mentions}, offsets)
        ends[i, : len(offsets)] = 0
        for first, after, _ in spans:
            ends[i, [first, after - 1], [0, 1]] = 1
        start, end, number = chosen
        positions += [(first, after - 1) for first, after, _ in token_spans({chosen}, offsets)]
        candidate = number
        if np.random.random() < 0.5:
            others = [other for other in known.candidates(text[start:end]) if other != number]
            others = others or [*known.entries]
            candidate = others[np.random.randint(len(others))]
        fits.append(candidate == number)
        pairs.append(pair_inputs(text, start, end, candidate, number))
    inputs = mark_inputs(texts) | link_inputs(pairs) | {"positions": np.array(positions, "int32")}
    return inputs, {"ends": ends, "fits": np.array(fits, "float32")[:, None]}


# the model
def ends_loss(y_true, logits):
    """Binary cross entropy of begin and end of each token; padding is marked by -1."""
    losses = ops.binary_crossentropy(ops.maximum(y_true, 0), logits, from_logits=True)
    return ops.sum(ops.where(y_true < 0, 0.0, losses), axis=-1)


CONDITION = 128  # numbers in the vector of a mention
condition = keras.Input((CONDITION,), name="mention")
bert = build_transformer_model(
    args.checkpoint, layer_norm_cond=condition, additional_input_layers=condition, dropout_rate=0.1
)
size = bert.output.shape[-1]
shapes = {"ids": args.maxlen, "positions": 2}
shapes |= dict.fromkeys(("pair_ids", "pair_segments"), args.maxpair)
inputs = {name: keras.Input((n,), dtype="int32", name=name) for name, n in shapes.items()}
inputs["name_features"] = keras.Input((args.maxlen, known.NAME_FEATURES), name="name_features")
inputs["pair_features"] = keras.Input((known.FEATURES,), name="pair_features")
states = keras.Input((args.maxlen, size), name="states")

# the text alone: no mention is asked about
nothing = ops.tile(ops.zeros_like(inputs["name_features"][:, 0, :1]), (1, CONDITION))
seen = bert([inputs["ids"], ops.zeros_like(inputs["ids"]), nothing])
rare = keras.initializers.Constant(-3.0)  # most tokens are not ends
mark = keras.layers.Dense(2, name="marks", bias_initializer=rare)
ends = mark(ops.concatenate([seen, inputs["name_features"]], axis=-1))
marker = keras.Model({name: inputs[name] for name in ("ids", "name_features")}, [seen, ends])

# a mention, and a candidate
vector = keras.layers.Dense(CONDITION, activation="tanh", name="mention_vector")
both_ends = ops.take_along_axis(states, inputs["positions"][:, :, None], axis=1)
mention = vector(ops.reshape(both_ends, (-1, 2 * size)))
read = bert([inputs["pair_ids"], inputs["pair_segments"], mention])
# [CLS]; difference and product of the mean vectors of both texts (arXiv 1908.10084, section 3)
segments = [ops.equal(inputs["pair_segments"], segment) for segment in (0, 1)]
masks = [(inputs["pair_ids"] > 0) & segment for segment in segments]
first, second = (GlobalAveragePooling1D()(read, mask) for mask in masks)
x = ops.concatenate([read[:, 0], ops.abs(first - second), first * second], axis=-1)
x = ops.concatenate([keras.layers.Dropout(0.1)(x), inputs["pair_features"]], axis=-1)
x = keras.layers.Dense(64, activation="gelu", name="weighed")(x)
fits = keras.layers.Dense(1, name="fits")(x)
names = ("positions", "pair_ids", "pair_segments", "pair_features")
linker = keras.Model({name: inputs[name] for name in names} | {"states": states}, fits)

# both, to train
linked = linker({name: inputs[name] for name in names} | {"states": seen})
model = keras.Model(inputs, {"ends": ends, "fits": linked})


# the scores
def chunks(rows, size=args.batch_size):
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def filled(rows):
    """As many rows as a batch has: one shape, one compiled program."""
    return [*rows, *rows[:1] * (args.batch_size - len(rows))]


def read_texts(texts):
    """For each text its token vectors, and its mentions `(start, end)` in tokens and characters."""
    rows_of_texts = []
    for chunk in chunks([(text, text_inputs(text)) for text in texts]):
        rows = filled([row for _, row in chunk])
        vectors, logits = marker.predict_on_batch(mark_inputs(rows))
        for (text, (_, offsets, _)), states, marks in zip(chunk, vectors, logits, strict=False):
            rows_of_texts.append((text, offsets, states, spans(marks[: len(offsets)] > 0, offsets)))
    return rows_of_texts


def spans(marks, offsets):
    """Each begin with the nearest end from there on; mentions do not overlap."""
    mentions, after = set(), 0
    for start in np.flatnonzero(marks[:, 0]):
        lasts = np.flatnonzero(marks[start:, 1])
        if start >= after and len(lasts) and offsets[start][1]:
            after = int(start + lasts[0] + 1)
            mentions.add((int(start), after, ""))
    return {(start, end) for start, end, _ in character_spans(mentions, offsets) if end > start}


def link(read, mentions):
    """For each text, from `read_texts`, its mentions `(start, end)` with the id that fits best."""
    rows = []
    for i, ((text, offsets, states, _), spans) in enumerate(zip(read, mentions, strict=True)):
        for first, after, (start, end) in token_spans({(*span, span) for span in spans}, offsets):
            for number in known.candidates(text[start:end]):
                pair = pair_inputs(text, start, end, number)
                rows.append(((i, start, end, number), states, (first, after - 1), pair))
    best = {}
    for chunk in chunks(rows):
        _, states, positions, pairs = zip(*filled(chunk), strict=True)
        batch = {"states": np.stack(states), "positions": np.array(positions, "int32")}
        logits = linker.predict_on_batch(batch | link_inputs(pairs))[:, 0]
        for ((*mention, number), *_), logit in zip(chunk, logits, strict=False):
            best[tuple(mention)] = max(best.get(tuple(mention), (-np.inf, "")), (logit, number))
    linked = [set() for _ in read]
    for (i, start, end), (_, number) in best.items():
        linked[i].add((start, end, number))
    return linked


def without_ids(rows):
    return [{(start, end, "mention") for start, end, *_ in row} for row in rows]


def score(rows):
    """F1 of both in a row, of finding mentions, of linking the true ones."""
    marked, both, linking = [], [], []
    for chunk in chunks(rows, 20 * args.batch_size):  # so that not all vectors are kept
        read = read_texts([text for text, _ in chunk])
        marked += [spans for *_, spans in read]
        both += link(read, marked[-len(chunk) :])
        linking += link(read, [{(start, end) for start, end, _ in true} for _, true in chunk])
    true = [mentions for _, mentions in rows]
    return {
        "both": span_scores(true, both).f1,
        "mentions": span_scores(without_ids(true), without_ids(marked)).f1,
        "linking": span_scores(true, linking).f1,
    }


# the training, for each mention that is not cut off
rows = [(text, mentions, chosen) for text, mentions in samples["train"] for chosen in mentions]
rows = [row for row in rows if token_spans({row[2]}, text_inputs(row[0])[1])]
batches = Batches(rows, args.batch_size, training_batch, shuffle=True)
schedule = linear_decay(args.epochs * len(batches))
model.compile(
    AdamW(args.learning_rate, weight_decay=0.01, lr_schedule=schedule),
    {"ends": ends_loss, "fits": keras.losses.BinaryCrossentropy(from_logits=True)},
)
model.optimizer.build(model.trainable_variables)  # one trace
some_inputs, targets = batches[0]
model.compute_loss(y=targets, y_pred=model(some_inputs))  # of several losses, too
best = BestEpoch(lambda: score(samples["valid"][: args.scored]), OUTPUT / "linking.weights.h5")
model.fit(batches, epochs=args.epochs, callbacks=[best])

# the result
texts, true = zip(*samples["test"], strict=True)
total = sum(map(len, true))
reachable = sum(m[2] in known.candidates(text[m[0] : m[1]])
                for text, row in samples["test"] for m in row)  # fmt: skip
print(f"\n{len(entries)} entries; of {total} mentions {reachable} have theirs among the candidates")
results = score(samples["test"])
matches = without_ids(map(known.names, texts))
usual = [{(a, b, known.most_met(text[a:b])) for a, b, _ in row} for text, row in samples["test"]]
results["mentions, all known names"] = span_scores(without_ids(true), matches).f1
results["linking, to what a name meant most"] = span_scores(true, usual).f1
for name, value in results.items():
    print(f"F1 of {name:36} {value:.4f}")

read_again = read_texts(texts[:5])
for text, row in zip(texts, link(read_again, [spans for *_, spans in read_again]), strict=False):
    print(f"\n{text}")
    for start, end, number in sorted(row):
        print(f"    {text[start:end]}: {number}, {known.entries[number]['text'][:60]}")
