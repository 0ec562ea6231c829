"""What is an app for? Classifies its description, with and without a gradient penalty.

    python examples/task_iflytek_gradient_penalty.py [--checkpoint DIR] [--data DIR] [--seeds N]

Half the square of the loss's gradient in the token vectors, times `weight`, is added to the loss:
a text whose words change a little shall cost about the same (Su, https://kexue.fm/archives/7234).

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: a directory in the format of CLUE's IFLYTEK or TNEWS: see iflytek.py.
"""

from functools import partial

import keras
from iflytek import batches, classifier, read, show
from trials import DATA, arguments, compare, save

from bert4keras_lite import build_transformer_model
from bert4keras_lite.training import gradient_penalty

args = arguments(
    __doc__,
    seeds=3,
    data=DATA / "apps",
    maxlen=128,
    batch_size=32,
    epochs=(5, 12),
    learning_rate=(2e-5, 1e-3),
    weight=(1.0, 0.1),
)
train, test, names = read(args.data)


def fit(weight=None):
    data = batches(train, args, shuffle=True)
    bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
    model = classifier(bert, keras.layers.Dense(len(names), name="classifier"))
    if weight:
        gradient_penalty(model, "token_embedding", weight)
    model.compile(
        keras.optimizers.AdamW(args.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
        jit_compile=args.jit_compile,
    )
    model.optimizer.build(model.trainable_variables)  # one trace
    model.fit(data, epochs=args.epochs)
    return model, model.evaluate(batches(test, args), verbose=0)[1]


models, scores = compare({"plain": fit, "penalty": partial(fit, weight=args.weight)}, args.seeds)
save(models["penalty"], "iflytek_penalty")
show(models, test[:8], names, args)
