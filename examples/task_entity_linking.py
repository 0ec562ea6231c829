"""Who is meant? Finds the names in a text, and links each to one entry of a knowledge base.

    python examples/task_entity_linking.py [--checkpoint DIR] [--data DIR]

Several entries may have the same name. A Chinese BERT marks where mentions begin and end, with the
names of the knowledge base in the text as features. An index gives the candidates of each mention.
Then the same BERT reads the text and the description of a candidate; the vector of the mention is
the condition of every layer normalization. Its logit and some features (how often the name meant
this entry, how many words and objects text and entry have in common) rank the candidates.

The scores are F1 of the mentions, of linking the true mentions, and of both together.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: a directory of CCKS 2019, KgCLUE or NLPCC 2016 KBQA, or what prepare_entity_linking.py made
    of it.

Reference: the contest, https://www.biendata.xyz/competition/ccks_2019_el/; a baseline with marks,
candidates and prior features: https://github.com/bojone/el-2019-baseline; normalization with a
condition: https://kexue.fm/archives/7124.
"""

import argparse
from itertools import starmap

import keras
import numpy as np
from entity_index import Inputs, Knowledge
from keras import ops
from prepare_entity_linking import load
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import Batches
from bert4keras_lite.layers import GlobalAveragePooling1D
from bert4keras_lite.metrics import span_scores
from bert4keras_lite.optimizers import AdamW, linear_decay
from bert4keras_lite.spans import token_spans
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
parser.add_argument("--epochs", type=int, help="3, or 4 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="2e-5, or 1e-3 for tiny-zh")
parser.add_argument("--scored", type=int, default=1000, help="texts of valid, after each epoch")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
args.maxlen = args.maxlen or (48 if is_small else 64)
args.maxpair = args.maxpair or (96 if is_small else 256)
args.epochs = args.epochs or (4 if is_small else 3)
args.learning_rate = args.learning_rate or (1e-3 if is_small else 2e-5)
keras.utils.set_random_seed(args.seed)
tokenizer = load_tokenizer(args.checkpoint)
entries, samples = load(args.data)
known = Knowledge(entries, samples["train"], args.candidates)
encode = Inputs(tokenizer, known, args.maxlen, args.maxpair)


# the data
def training_row(text, mentions, chosen):
    """A text, one of its mentions, and a candidate: in half of the rows the right one."""
    offsets, (*span, number), candidate = encode.offsets(text), chosen, chosen[2]
    ends = np.zeros((args.maxlen, 2), "float32")
    is_token = np.arange(args.maxlen) < len(offsets)
    for first, after, _ in token_spans({*mentions}, offsets):
        ends[[first, after - 1], [0, 1]] = 1
    if np.random.random() < 0.5:
        others = [other for other in known.candidates(text[slice(*span)]) if other != number]
        others = others or [*known.entries]
        candidate = others[np.random.randint(len(others))]
    inputs = encode.text(text, mentions) | encode.pair(text, span, candidate, number)
    targets = {"ends": ends, "fits": np.array([candidate == number], "float32")}
    return inputs, targets, {"ends": is_token.astype("float32"), "fits": np.float32(1)}


def batches(rows, function, **options):
    """Batches of what a function makes of each row: arrays of fixed shapes."""

    def collate(rows, _):
        return keras.tree.map_structure(lambda *x: np.stack(x), *starmap(function, rows))

    return Batches(rows, args.batch_size, collate, **options)


# the model
CONDITION = 128  # numbers in the vector of a mention
condition = keras.Input((CONDITION,), name="mention")
bert = build_transformer_model(
    args.checkpoint, layer_norm_cond=condition, additional_input_layers=condition, dropout_rate=0.1
)
lengths = {"ids": args.maxlen, "positions": 2, "pair_ids": args.maxpair}
lengths["pair_segments"] = args.maxpair
inputs = {name: keras.Input((n,), dtype="int32", name=name) for name, n in lengths.items()}
inputs["name_features"] = keras.Input((args.maxlen, known.NAME_FEATURES), name="name_features")
inputs["pair_features"] = keras.Input((known.FEATURES,), name="pair_features")

# the text alone: no mention is asked about
nothing = ops.tile(ops.zeros_like(inputs["ids"][:, :1], "float32"), (1, CONDITION))
states = bert([inputs["ids"], ops.zeros_like(inputs["ids"]), nothing])
rare = keras.initializers.Constant(-3.0)  # most tokens are not ends
mark = keras.layers.Dense(2, name="marks", bias_initializer=rare)
ends = mark(ops.concatenate([states, inputs["name_features"]], axis=-1))

# a mention, and a candidate
vector = keras.layers.Dense(CONDITION, activation="tanh", name="mention_vector")
both_ends = ops.take_along_axis(states, inputs["positions"][:, :, None], axis=1)
mention = vector(ops.reshape(both_ends, (-1, 2 * states.shape[-1])))
read = bert([inputs["pair_ids"], inputs["pair_segments"], mention])
# [CLS]; difference and product of the mean vectors of both texts (arXiv 1908.10084, section 3)
segments = [ops.equal(inputs["pair_segments"], segment) for segment in (0, 1)]
masks = [(inputs["pair_ids"] > 0) & segment for segment in segments]
first, second = (GlobalAveragePooling1D()(read, mask) for mask in masks)
x = ops.concatenate([read[:, 0], ops.abs(first - second), first * second], axis=-1)
x = ops.concatenate([keras.layers.Dropout(0.1)(x), inputs["pair_features"]], axis=-1)
x = keras.layers.Dense(64, activation="gelu", name="weighed")(x)
fits = keras.layers.Dense(1, name="fits")(x)

# both in training; in use first the one, then the other
model = keras.Model(inputs, {"ends": ends, "fits": fits})
marker = keras.Model({name: inputs[name] for name in ("ids", "name_features")}, ends)
linker = keras.Model({name: x for name, x in inputs.items() if name != "name_features"}, fits)


# the scores
def find_mentions(texts):
    """The mentions of each text, `(start, end)`."""
    data = batches([(text,) for text in texts], lambda text: (encode.text(text),), seed=args.seed)
    logits = np.concatenate([marker.predict_on_batch(inputs) for (inputs,) in data])
    return [encode.mentions(text, row > 0) for text, row in zip(texts, logits, strict=True)]


def link(texts, mentions):
    """The mentions of each text, with the candidate of the highest logit: `(start, end, id)`."""
    rows, best = [], [{} for _ in texts]
    for i, (text, spans) in enumerate(zip(texts, mentions, strict=True)):
        for *_, span in token_spans({(*span, span) for span in spans}, encode.offsets(text)):
            rows += [(i, span, number) for number in known.candidates(text[slice(*span)])]
    if rows:
        data = batches(rows, lambda i, *pair: (encode.pair(texts[i], *pair),), seed=args.seed)
        logits = np.concatenate([linker.predict_on_batch(inputs)[:, 0] for (inputs,) in data])
        for (i, span, number), logit in zip(rows, logits, strict=True):
            best[i][span] = max(best[i].get(span, (-np.inf, "")), (logit, number))
    return [{(*span, number) for span, (_, number) in row.items()} for row in best]


def without_ids(rows):
    return [{(start, end, "mention") for start, end, *_ in row} for row in rows]


def score(samples):
    """F1 of both in a row, of finding mentions, of linking the true ones."""
    texts, true = zip(*samples, strict=True)
    found = find_mentions(texts)
    linked = link(texts, [{(start, end) for start, end, _ in row} for row in true])
    return {
        "both": span_scores(true, link(texts, found)).f1,
        "mentions": span_scores(without_ids(true), without_ids(found)).f1,
        "linking": span_scores(true, linked).f1,
    }


# the training, for each mention that is not cut off
rows = [(text, mentions, chosen) for text, mentions in samples["train"] for chosen in mentions]
rows = [row for row in rows if token_spans({row[2]}, encode.offsets(row[0]))]
train = batches(rows, training_row, shuffle=True)
schedule = linear_decay(args.epochs * len(train))
optimizer = AdamW(args.learning_rate, weight_decay=0.01, lr_schedule=schedule)
losses = {name: keras.losses.BinaryCrossentropy(from_logits=True) for name in ("ends", "fits")}
model.compile(optimizer, losses, loss_weights={"ends": 2.0, "fits": 1.0})  # ends: a mean of two
model.optimizer.build(model.trainable_variables)  # one trace
some_inputs, targets, _ = train[0]
model.compute_loss(y=targets, y_pred=model(some_inputs))  # of several losses, too
best = BestEpoch(lambda: score(samples["valid"][: args.scored]), OUTPUT / "linking.weights.h5")
model.fit(train, epochs=args.epochs, callbacks=[best])

# the result
texts, true = zip(*samples["test"], strict=True)
names = [(text[a:b], number) for text, row in samples["test"] for a, b, number in row]
reachable = sum(number in known.candidates(name) for name, number in names)
print(f"\n{len(entries)} entries; {reachable} of {len(names)} mentions have theirs as a candidate")
results = score(samples["test"])
matches = without_ids(map(known.names, texts))
usual = [{(a, b, known.most_met(text[a:b])) for a, b, _ in row} for text, row in samples["test"]]
results["mentions, all known names"] = span_scores(without_ids(true), matches).f1
results["linking, to what a name meant most"] = span_scores(true, usual).f1
for name, value in results.items():
    print(f"F1 of {name:36} {value:.4f}")

few = texts[:5]
for text, row in zip(few, link(few, find_mentions(few)), strict=True):
    print(f"\n{text}")
    for start, end, number in sorted(row):
        print(f"    {text[start:end]}: {number}, {known.entries[number]['text'][:60]}")
