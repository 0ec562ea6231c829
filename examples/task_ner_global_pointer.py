"""Finds entities, also nested ones: a Chinese BERT with GlobalPointer.

    python examples/task_ner_global_pointer.py [--checkpoint DIR] [--data DIR] [--seeds N]

For each type, every pair of tokens gets a score: does an entity go from this one to that one? The
pairs with a score above 0 are the answer. Rotary positions tell the scores how far apart two
tokens are; the first of the three rows does without. The efficient form finds the pairs once for
all types, and tells these apart by two numbers a token.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: a directory with the train and dev files of CLUENER (JSON lines), or of People's Daily,
    Weibo or MSRA (a character and its tag a line). Without it, the sample in examples/data.

Reference: Su et al., "Global Pointer", arXiv 2208.03054; https://kexue.fm/archives/8373, 8877.
"""

from functools import partial

import keras
import numpy as np
from labeling import Spans, read_entities, read_splits, show, straight_down
from trials import DATA, OUTPUT, KeepBest, arguments, compare

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.layers import EfficientGlobalPointer, GlobalPointer
from bert4keras_lite.losses import multilabel_categorical_crossentropy
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


def target(spans, size, length):
    """1 for each type and pair of first and last token of an entity: `(types, length, length)`."""
    target = np.zeros((len(kinds), length, length), "float32")
    for start, end, kind in spans:
        target[kinds.index(kind), start, end - 1] = 1
    return target


train = Spans(samples["train"], tokenizer, args, target, shuffle=True)
valid, test = (Spans(samples[split], tokenizer, args) for split in ("valid", "test"))


def pairs_loss(y_true, scores):
    """For each type, the pairs that are an entity against all others; summed over the types."""
    rows = keras.ops.shape(scores)[:2]
    y_true, scores = (keras.ops.reshape(x, (*rows, -1)) for x in (y_true, scores))
    return keras.ops.sum(multilabel_categorical_crossentropy(y_true, scores), axis=-1)


models = {}


def fit(layer, **options):
    """Trains one model; gives its decoding and its F1."""
    bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
    pointers = layer(len(kinds), 64, name="pointers", **options)
    model = keras.Model(bert.inputs, pointers(bert.output))

    def decode(inputs):
        found = [set() for _ in inputs[0]]
        scores = model.predict_on_batch(inputs)
        for row, kind, start, last in np.argwhere(scores > 0).tolist():
            found[row].add((start, last + 1, kinds[kind]))
        return found

    schedule = straight_down(args.epochs, train.batches)
    model.compile(AdamW(args.learning_rate, lr_schedule=schedule), pairs_loss)
    model.optimizer.build(model.trainable_variables)  # one trace
    keep_best = KeepBest(lambda: {"f1": valid.score(decode)}, "pointers")
    model.fit(train.batches, epochs=args.epochs, callbacks=[keep_best])
    models[layer] = model
    return decode, test.score(decode)


decoders, scores = compare(
    {
        "without rotary positions": partial(fit, GlobalPointer, RoPE=False),
        "GlobalPointer": partial(fit, GlobalPointer),
        "EfficientGlobalPointer": partial(fit, EfficientGlobalPointer),
    },
    args.seeds,
    metric="F1",
)
for text, spans in list(zip(test.texts, test.predict(decoders["GlobalPointer"]), strict=True))[:5]:
    show(text, spans)
save_tagger(OUTPUT / "pointers", models[GlobalPointer], kinds, tokenizer)
print(
    f"For a server: python -m bert4keras_lite serve {args.checkpoint} --ner {OUTPUT / 'pointers'}"
)
