"""Finds names, places, companies in texts: a Chinese BERT with a conditional random field.

    python examples/task_sequence_labeling_ner_crf.py [--checkpoint DIR] [--data DIR] [--seeds N]

Each token gets a tag, B-name where a name begins, I-name where it goes on, O outside. With softmax
every token decides for itself; the field learns which tag may follow which, and decides for all
tokens at once. Both are trained, with as many seeds as you like, and their F1 is printed.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: a directory with the train and dev files of CLUENER (JSON lines), or of People's Daily,
    Weibo or MSRA (a character and its tag a line). Without it, the sample in examples/data.

Reference: Lafferty et al., "Conditional Random Fields", ICML 2001.
"""

from functools import partial

import keras
import numpy as np
from labeling import (
    Spans,
    read_entities,
    read_splits,
    show,
    straight_down,
    without_padding,
)
from trials import DATA, OUTPUT, KeepBest, arguments, compare

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.layers import ConditionalRandomField
from bert4keras_lite.losses import sequence_crossentropy
from bert4keras_lite.metrics import bio_spans
from bert4keras_lite.optimizers import AdamW
from bert4keras_lite.pipelines import save_tagger

args = arguments(
    __doc__,
    seeds=3,
    data=DATA / "entities",
    maxlen=128,
    batch_size=16,
    epochs=(5, 10),
    learning_rate=(2e-5, 1e-3),
)
tokenizer = load_tokenizer(args.checkpoint)

# the data
samples = read_splits(args.data, read_entities)
kinds = sorted({kind for _, spans in samples["train"] for *_, kind in spans})
tags = ["O", *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")]


def target(spans, size, length):
    """The tag of every token, -1 for padding."""
    target = np.full(length, -1)
    target[:size] = 0
    for start, end, kind in spans:
        target[start:end] = tags.index(f"I-{kind}")
        target[start] = tags.index(f"B-{kind}")
    return target


train = Spans(samples["train"], tokenizer, args, target, shuffle=True)
valid, test = (Spans(samples[split], tokenizer, args) for split in ("valid", "test"))


def tagger(method):
    """A model that scores tags, its loss, and the function that picks the tags."""
    bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
    scores = keras.layers.Dense(len(tags), name="tag_scores")(bert.output)
    if method == "CRF":
        # transitions start from nothing, so they learn at a rate of their own, 0.02
        crf = ConditionalRandomField(lr_multiplier=0.02 / args.learning_rate)
        model = keras.Model(bert.inputs, crf(scores))
        return model, crf.sparse_loss, crf.decode
    model = keras.Model(bert.inputs, scores)
    return model, sequence_crossentropy, lambda scores: scores.argmax(axis=-1)


models = {}


def fit(method):
    """Trains one model; gives its decoding and its F1."""
    model, loss, pick = tagger(method)

    def decode(inputs):
        rows = pick(model.predict_on_batch(inputs))
        return [bio_spans([tags[i] for i in row]) for row in without_padding(rows, inputs)]

    schedule = straight_down(args.epochs, train.batches)
    model.compile(AdamW(args.learning_rate, lr_schedule=schedule), loss)
    model.optimizer.build(model.trainable_variables)  # one trace
    keep_best = KeepBest(lambda: {"f1": valid.score(decode)}, "entities")
    model.fit(train.batches, epochs=args.epochs, callbacks=[keep_best])
    models[method] = model
    return decode, test.score(decode)


decoders, scores = compare(
    {method: partial(fit, method) for method in ("softmax", "CRF")}, args.seeds, metric="F1"
)
for text, spans in list(zip(test.texts, test.predict(decoders["CRF"]), strict=True))[:5]:
    show(text, spans)
save_tagger(OUTPUT / "tagger", models["CRF"], tags, tokenizer)
print(f"For a server: python -m bert4keras_lite serve {args.checkpoint} --ner {OUTPUT / 'tagger'}")
