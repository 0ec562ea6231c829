"""Finds names, places, companies in texts: a Chinese BERT with a conditional random field.

    python examples/task_sequence_labeling_ner_crf.py [--checkpoint DIR] [--data DIR]
        [--method softmax]

Each token has a tag: B-name where a name begins, I-name where it continues, O outside. With
softmax, each tag is chosen by itself; the conditional random field (CRF) learns which tag may
follow which, and chooses the tags of all tokens together.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: a directory with the train and dev files of CLUENER (JSON lines), or of People's Daily,
    Weibo or MSRA (a character and its tag a line).

Reference: Lafferty et al., "Conditional Random Fields", ICML 2001.
"""

import argparse
from itertools import accumulate

import keras
from keras import ops
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import (
    Batches,
    read_columns,
    read_json_lines,
    read_splits,
    sequence_padding,
)
from bert4keras_lite.layers import ConditionalRandomField
from bert4keras_lite.losses import sequence_crossentropy
from bert4keras_lite.metrics import bio_spans, span_scores
from bert4keras_lite.optimizers import AdamW, linear_decay
from bert4keras_lite.pipelines import save_tagger
from bert4keras_lite.spans import character_spans, token_spans
from bert4keras_lite.training import BestEpoch

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA / "entities")
parser.add_argument("--method", choices=["CRF", "softmax"], default="CRF")
parser.add_argument("--maxlen", type=int, default=128)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--epochs", type=int, help="5, or 10 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="2e-5, or 1e-3 for tiny-zh")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
epochs = args.epochs or (10 if is_small else 5)
learning_rate = args.learning_rate or (1e-3 if is_small else 2e-5)
keras.utils.set_random_seed(args.seed)
tokenizer = load_tokenizer(args.checkpoint)


# the data
def read(path):
    """(text, set of (start, end, type)) for each text of a file."""
    return read_json_lines(path, cluener) if path.suffix == ".json" else tagged(path)


def cluener(row):
    """A line of CLUENER, whose ends are included; None for those of its test file."""
    if "label" not in row:
        return None
    mentions = [(type_, spans) for type_, names in row["label"].items() for spans in names.values()]
    return row["text"], {
        (start, end + 1, type_) for type_, spans in mentions for start, end in spans
    }


def tagged(path):
    """A character and its tag a line; in Weibo with its place in the word, as in 科0 技1."""
    samples, sentences = [], read_columns(path)
    for line in (line for sentence in sentences for line in sentence if len(line) != 2):
        raise SystemExit(f"{path}: expected lines of a character and its tag, got {line}.")
    is_numbered = all(len(c) > 1 and c[-1].isdigit() for sentence in sentences for c, _ in sentence)
    for sentence in sentences:
        characters = [c[:-1] if is_numbered else c for c, _ in sentence]
        ends = [0, *accumulate(map(len, characters))]
        spans = bio_spans([tag for _, tag in sentence])
        spans = {(ends[start], ends[end], type_) for start, end, type_ in spans}
        samples.append(("".join(characters), spans))
    return samples


samples = read_splits(args.data, read)
last = "valid" if samples["test"] is samples["valid"] else "test"
types = sorted({type_ for _, spans in samples["train"] for *_, type_ in spans})
tags = ["O", *(f"{prefix}-{type_}" for type_ in types for prefix in "BI")]


def batches(samples, **options):
    """Batches of token ids and segment ids, and of the number of each token's tag."""
    rows = []
    for text, spans in samples:
        ids, segments, offsets = tokenizer.encode(text, maxlen=args.maxlen, return_offsets=True)
        labels = [0] * len(ids)
        for start, end, type_ in token_spans(spans, offsets):
            labels[start:end] = [tags.index(f"I-{type_}")] * (end - start)
            labels[start] = tags.index(f"B-{type_}")
        rows.append((ids, segments, labels))
    return Batches(rows, args.batch_size, collate, length=lambda row: len(row[0]), **options)


def collate(rows, length):
    ids, segments, labels = zip(*rows, strict=True)
    inputs = sequence_padding(ids, length), sequence_padding(segments, length)
    return inputs, sequence_padding(labels, length, value=-1)  # the losses ignore -1


# the model
bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
logits = keras.layers.Dense(len(tags), name="tag_scores")(bert.output)
if args.method == "CRF":
    # the transitions start from zero, and so have a learning rate of their own, 0.02
    crf = ConditionalRandomField(lr_multiplier=0.02 / learning_rate)
    model, loss, decode = keras.Model(bert.inputs, crf(logits)), crf.sparse_loss, crf.decode
else:
    model, loss = keras.Model(bert.inputs, logits), sequence_crossentropy
    decode = lambda logits: ops.argmax(logits, axis=-1)  # noqa: E731


def predict(samples):
    """The entities of each text, sets of (start, end, type)."""
    entities = []
    paths = ops.convert_to_numpy(decode(model.predict(batches(samples), verbose=0)))
    for (text, _), path in zip(samples, paths, strict=True):
        *_, offsets = tokenizer.encode(text, maxlen=args.maxlen, return_offsets=True)
        spans = bio_spans([tags[i] for i in path[: len(offsets)]])
        entities.append(character_spans(spans, offsets))
    return entities


def f1(samples):
    return span_scores([spans for _, spans in samples], predict(samples)).f1


# the training
train = batches(samples["train"], shuffle=True, buckets=4)
model.compile(AdamW(learning_rate, lr_schedule=linear_decay(epochs * len(train))), loss)
model.optimizer.build(model.trainable_variables)  # one trace
best = BestEpoch(lambda: {"f1": f1(samples["valid"])}, OUTPUT / "entities.weights.h5")
model.fit(train, epochs=epochs, callbacks=[best])

# the result
few = samples["test"][:5]
for (text, _), spans in zip(few, predict(few), strict=True):
    print(text)
    for start, end, type_ in sorted(spans):
        print(f"    {text[start:end]} ({type_})")
print(f"{last} F1: {f1(samples['test']):.4f}")
save_tagger(OUTPUT / "tagger", model, tags, tokenizer)
print(f"For a server: python -m bert4keras_lite serve {args.checkpoint} --ner {OUTPUT / 'tagger'}")
