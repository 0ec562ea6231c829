"""Seconds a fine-tuning step: BERT-base, two classes on the [CLS] vector, batch 16 x 128.

    python benchmarks/finetune.py CONTENDER

Trains on random tokens, all of them real (no padding), and prints one line of JSON. `run.py`
starts it once for each contender, so that each has a process of its own.
"""

import json
import os
import sys
import time

BATCH, LENGTH, VOCABULARY = 16, 128, 21128
BASE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
WARMUP, STEPS = 2, 5


def keras_step(model, optimizer, keras, inputs, labels, **compilation):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **compilation)
    return lambda: model.train_on_batch(inputs, labels)


def ours(ids, labels, policy="float32", **compilation):
    import keras

    from bert4keras_lite import build_transformer_model

    keras.config.set_dtype_policy(policy)
    bert = build_transformer_model(**BASE, dropout_rate=0.1, attention_dropout_rate=0.1)
    x = keras.layers.Dense(2, dtype="float32")(bert.output[:, 0])
    model = keras.Model(bert.inputs, x)
    optimizer = keras.optimizers.AdamW(2e-5)
    return keras_step(model, optimizer, keras, [ids, ids * 0], labels, **compilation)


def keras_hub(ids, labels, policy="float32"):
    import keras
    from keras_hub.models import BertBackbone, BertTextClassifier

    keras.config.set_dtype_policy(policy)
    backbone = BertBackbone(
        VOCABULARY, num_layers=12, num_heads=12, hidden_dim=768, intermediate_dim=3072, dropout=0.1
    )
    model = BertTextClassifier(backbone, num_classes=2, dropout=0.0)
    inputs = {"token_ids": ids, "segment_ids": ids * 0, "padding_mask": ids * 0 + 1}
    return keras_step(model, keras.optimizers.AdamW(2e-5), keras, inputs, labels)


def bert4keras(ids, labels):
    import tf_keras as keras

    # without this, none of its optimizers or models works on a current TensorFlow
    keras.optimizers.Optimizer = keras.optimizers.legacy.Optimizer
    from bert4keras.models import build_transformer_model

    bert = build_transformer_model(
        **BASE, hidden_act="gelu", max_position=512, dropout_rate=0.1, attention_dropout_rate=0.1
    )
    x = keras.layers.Dense(2)(keras.layers.Lambda(lambda x: x[:, 0])(bert.output))
    model = keras.models.Model(bert.inputs, x)
    optimizer = keras.optimizers.legacy.Adam(2e-5)
    return keras_step(model, optimizer, keras, [ids, ids * 0], labels)


def transformers(ids, labels):
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    model = BertForSequenceClassification(BertConfig(**BASE)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)
    ids, labels = torch.tensor(ids).long(), torch.tensor(labels).long()

    def step():
        optimizer.zero_grad()
        loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


# name -> (environment, how to make the step)
CONTENDERS = {
    "ours, TensorFlow": ({"KERAS_BACKEND": "tensorflow"}, ours),
    "ours, JAX": ({"KERAS_BACKEND": "jax"}, ours),
    "ours, PyTorch": ({"KERAS_BACKEND": "torch"}, ours),
    "ours, TensorFlow, bfloat16": (
        {"KERAS_BACKEND": "tensorflow"},
        lambda *data: ours(*data, "mixed_bfloat16", jit_compile=False),
    ),
    "transformers": ({}, transformers),
    "keras-hub, TensorFlow": ({"KERAS_BACKEND": "tensorflow"}, keras_hub),
    "keras-hub, JAX": ({"KERAS_BACKEND": "jax"}, keras_hub),
    "keras-hub, TensorFlow, bfloat16": (
        {"KERAS_BACKEND": "tensorflow"},
        lambda *data: keras_hub(*data, "mixed_bfloat16"),
    ),
    "bert4keras": ({"TF_USE_LEGACY_KERAS": "1", "TF_KERAS": "1"}, bert4keras),
}


def main(contender):
    environment, make_step = CONTENDERS[contender]
    os.environ.update({"TF_CPP_MIN_LOG_LEVEL": "3", **environment})
    import numpy as np

    random = np.random.RandomState(0)
    ids = random.randint(1, VOCABULARY, (BATCH, LENGTH)).astype("int32")
    step = make_step(ids, random.randint(0, 2, (BATCH,)).astype("int32"))
    for _ in range(WARMUP):
        step()
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        float(np.asarray(step()).ravel()[0])
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"contender": contender, "seconds": sorted(seconds)}))


if __name__ == "__main__":
    main(sys.argv[1])
