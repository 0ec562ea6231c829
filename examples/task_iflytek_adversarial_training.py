"""What is an app for? Classifies its description, with and without adversarial training.

    python examples/task_iflytek_adversarial_training.py [--checkpoint DIR] [--data DIR] [--seeds N]

Each batch is learnt twice: as it is, and with the token vectors moved, by `epsilon` in all, in the
direction that hurts the most (FGM: Miyato et al., arXiv 1605.07725).

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: a directory in the format of CLUE's IFLYTEK or TNEWS: see iflytek.py.
"""

from functools import partial

import keras
from iflytek import batches, classifier, read, show
from trials import DATA, arguments, compare, save

from bert4keras_lite import build_transformer_model
from bert4keras_lite.training import adversarial_training

args = arguments(
    __doc__,
    seeds=3,
    data=DATA / "apps",
    maxlen=128,
    batch_size=32,
    epochs=(5, 12),
    learning_rate=(2e-5, 1e-3),
    epsilon=0.5,
)
train, test, names = read(args.data)


def fit(epsilon=None):
    data = batches(train, args, shuffle=True)
    bert = build_transformer_model(args.checkpoint, dropout_rate=0.1)
    model = classifier(bert, keras.layers.Dense(len(names), name="classifier"))
    if epsilon:
        adversarial_training(model, "token_embedding", epsilon)
    model.compile(
        keras.optimizers.AdamW(args.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
        jit_compile=args.jit_compile,
    )
    model.optimizer.build(model.trainable_variables)  # one trace
    model.fit(data, epochs=args.epochs)
    return model, model.evaluate(batches(test, args), verbose=0)[1]


models, scores = compare(
    {"plain": fit, "adversarial": partial(fit, epsilon=args.epsilon)}, args.seeds
)
save(models["adversarial"], "iflytek_adversarial")
show(models, test[:8], names, args)
