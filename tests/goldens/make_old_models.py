"""Freeze the layers of bert4keras' models: their names, order and outputs, and files of weights.

Needs bert4keras 0.11.5 with TensorFlow 2.21 and tf_keras 2.21:

    python tests/goldens/make_old_models.py

writes ``old_models/NAME.h5``, which ``save_weights`` of Keras 2 wrote, and ``old_models/NAME.npz``:
the arguments as JSON, the names of the layers in their order, and the output of each layer for
``INPUTS``, one array for each call of it.
"""

import json
import os
import tempfile
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent / "old_models"
CONFIG = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "hidden_act": "gelu",
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.0,
}
MODELS = {
    "bert": ("bert", {"with_pool": True, "with_mlm": "linear"}),
    "bert_nsp": ("bert", {"with_nsp": True, "dropout_rate": 0.0}),
    "bert_unilm": ("bert", {"application": "unilm"}),
    "bert_lm": ("bert", {"application": "lm", "with_mlm": "linear"}),
    "bert_conditional": ("bert", {"condition": 4}),
    "albert": ("albert", {"embedding_size": 4}),
    "nezha": ("nezha", {"with_mlm": True}),
    "roformer": ("roformer", {"with_mlm": True}),
    "roformer_v2": ("roformer_v2", {}),
    "electra": ("electra", {"with_discriminator": True}),
    "gpt2_ml": ("gpt2_ml", {}),
    "t5": ("t5.1.1", {"hidden_act": ["gelu", "linear"]}),
    "classifier": ("bert", {"head": "classifier"}),
    "tagger": ("roformer", {"head": "tagger"}),
}
TOKENS = np.array([[2, 5, 7, 9, 3, 0], [2, 11, 12, 13, 14, 3]])
SEGMENTS = np.array([[0, 0, 0, 1, 1, 0], [0, 0, 1, 1, 1, 1]])
CONDITION = np.linspace(-1, 1, 8, dtype="float32").reshape(2, 4)


def build(models, layers, keras, name, **more):
    """Builds a model; also with the modules of `bert4keras_lite.compat`.

    Args:
        models, layers, keras: modules.
        name: of `MODELS`.
        **more: options of ``build_transformer_model``.

    Returns:
        The model, and its inputs.
    """
    family, options = MODELS[name]
    options = options | more
    head, size = options.pop("head", None), options.pop("condition", None)
    inputs = [TOKENS, SEGMENTS]
    if family.startswith("t5"):
        inputs = [TOKENS, TOKENS[:, :4]]
    elif family == "gpt2_ml":
        inputs = [TOKENS]
    if size:
        condition = keras.layers.Input(shape=(size,))
        options |= {"layer_norm_cond": condition, "additional_input_layers": condition}
        inputs.append(CONDITION)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "config.json")
        with open(path, "w") as file:
            json.dump(CONFIG, file)
        transformer = models.build_transformer_model(
            path, model=family, return_keras_model=False, **options
        )
    model = transformer.model
    if head == "classifier":
        x = layers.Lambda(lambda x: x[:, 0])(model.output)
        x = layers.Dense(5, activation="tanh")(x)
        model = models.Model(model.inputs, layers.Dense(3, activation="softmax")(x))
    if head == "tagger":
        x = layers.Dense(4)(model.output)
        model = models.Model(model.inputs, layers.ConditionalRandomField(lr_multiplier=2)(x))
    return model, inputs


def outputs_of(model, inputs):
    """Returns name -> list of the outputs of each call of a layer in the graph of the model."""
    tensors = {}
    for nodes in model._nodes_by_depth.values():
        for node in nodes:
            tensors.setdefault(node.layer.name, []).append((node, node.outputs))
    found = {}
    for layer in model.layers:
        calls = sorted(tensors[layer.name], key=lambda call: layer._inbound_nodes.index(call[0]))
        found[layer.name] = [
            np.asarray(type(model)(model.inputs, output)(inputs))
            for _, output in calls
            if not isinstance(output, list | tuple)
        ]
    return found


def main():
    os.environ |= {"TF_KERAS": "1", "TF_USE_LEGACY_KERAS": "1"}
    import tensorflow as tf

    tf.keras.optimizers.Optimizer = tf.keras.optimizers.legacy.Optimizer
    from bert4keras import layers, models
    from bert4keras.backend import keras

    FOLDER.mkdir(exist_ok=True)
    for name in MODELS:
        keras.backend.clear_session()
        model, inputs = build(models, layers, keras, name)
        random = np.random.RandomState(0)
        for w in model.trainable_weights:  # the others are computed
            keras.backend.set_value(w, w.numpy() + 0.3 * random.standard_normal(w.shape))
        model.save_weights(FOLDER / f"{name}.h5")
        found = outputs_of(model, inputs)
        arrays = {
            f"{layer}:{i}": x
            for layer, outputs in found.items()
            for i, x in enumerate(outputs)
            if x.dtype == np.float32
        }
        np.savez_compressed(FOLDER / f"{name}.npz", layers=list(found), **arrays)
        print(f"{name:20} {len(found)} layers, {len(arrays)} outputs")


if __name__ == "__main__":
    main()
