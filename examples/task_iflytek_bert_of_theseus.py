"""What is an app for? Classifies its description with a third of the layers (BERT of Theseus).

    python examples/task_iflytek_bert_of_theseus.py [--checkpoint DIR] [--data DIR] [--seeds N]

A large model learns the task. Then, in each training step, chance replaces some of its layers, group
by group, by the layers of a small model, which so learn to do their work, until only the small
model is left and is trained a little more (Xu et al., arXiv 2002.02925). It is compared with the
large one, and with the same first layers of the checkpoint trained as usual, for as many epochs.

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: a directory in the format of CLUE's IFLYTEK or TNEWS: see iflytek.py.
"""

from dataclasses import replace

import keras
from iflytek import batches, classifier, read, show
from trials import DATA, arguments, compare, save

from bert4keras_lite import build_transformer_model
from bert4keras_lite.training import theseus

args = arguments(
    __doc__,
    seeds=3,
    data=DATA / "apps",
    maxlen=128,
    batch_size=32,
    epochs=(5, 8),
    learning_rate=(2e-5, 1e-3),
    layers=(3, 1),
)
train, test, names = read(args.data)
usual_epochs, theseus_epochs = args.epochs, 2 * args.epochs


def large_bert():
    return build_transformer_model(args.checkpoint, dropout_rate=0.1, return_keras_model=False)


def small_bert():
    """The first layers of the checkpoint."""
    large = large_bert()
    config = replace(large.config, num_hidden_layers=args.layers)
    small = build_transformer_model(model=config, return_keras_model=False)
    for name, layer in small.layers.items():
        layer.set_weights(large.layers[name].get_weights())
    return small


def dense():
    return keras.layers.Dense(len(names), name="classifier")


def learn(bert, scores, epochs):
    """Trains a classifier, a dense layer on a BERT; gives it and its accuracy."""
    model = classifier(bert, scores)
    model.compile(
        keras.optimizers.AdamW(args.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
        jit_compile=args.jit_compile,
    )
    model.optimizer.build(model.trainable_variables)  # one trace
    model.fit(batches(train, args, shuffle=True), epochs=epochs)
    return model, model.evaluate(batches(test, args), verbose=0)[1]


def large():
    return learn(large_bert().model, dense(), usual_epochs)


def small():
    return learn(small_bert().model, dense(), theseus_epochs + usual_epochs)


def small_of_theseus():
    predecessor, successor = large_bert(), small_bert()
    scores = dense()
    learn(predecessor.model, scores, usual_epochs)
    scores.trainable = False
    learn(theseus(predecessor, successor), scores, theseus_epochs)
    scores.trainable = True
    return learn(successor.model, scores, usual_epochs)


models, scores = compare(
    {"small": small, "small of Theseus": small_of_theseus, "large": large}, args.seeds
)
save(models["small of Theseus"], "iflytek_theseus")
show(models, test[:8], names, args)
