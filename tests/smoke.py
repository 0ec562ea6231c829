"""Does it work here at all? Imports, a small model, a fine-tuning, a generation: within a minute.

make smoke BACKEND=jax
"""

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
start = time.time()


def done(text):
    print(f"{time.time() - start:5.1f} s  {text}", flush=True)


import keras  # noqa: E402
import numpy as np  # noqa: E402

from bert4keras_lite import Tokenizer, build_transformer_model, generate  # noqa: E402

done(f"imported: Keras {keras.version()} on {keras.backend.backend()}")
keras.utils.set_random_seed(0)
texts = [
    "今天天气很好",
    "房间非常干净",
    "服务特别周到",
    "质量实在太差",
    "我们非常失望",
    "味道令人难受",
]
labels = np.array([1, 1, 1, 0, 0, 0])
characters = sorted({*"".join(texts)})
tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]
tokenizer = Tokenizer({token: i for i, token in enumerate(tokens)})
sizes = {
    "vocab_size": len(tokens),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position": 32,
}

bert = build_transformer_model(**sizes)
inputs = tokenizer.encode_batch(texts)
assert bert.predict(inputs, verbose=0).shape == (6, 8, 32)
done(f"a BERT with {bert.count_params():,} weights reads {len(texts)} texts")

logits = keras.layers.Dense(2)(bert.output[:, 0])
classifier = keras.Model(bert.inputs, logits)
classifier.compile(
    keras.optimizers.Adam(5e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
)
classifier.optimizer.build(classifier.trainable_variables)
losses = classifier.fit(inputs, labels, epochs=20, verbose=0).history["loss"]
right = (classifier.predict(inputs, verbose=0).argmax(-1) == labels).mean()
assert losses[-1] < losses[0] / 2 and right == 1, (losses, right)
done(f"fine-tuned: loss {losses[0]:.2f} -> {losses[-1]:.2f}, {right:.0%} of its own texts right")

gpt = build_transformer_model(model="gpt2", with_lm="linear", return_keras_model=False, **sizes)
rows = np.array([tokenizer.encode(text)[0] for text in texts])
model = gpt.model
model.compile(
    keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
)
model.optimizer.build(model.trainable_variables)
model.fit(rows[:, :-1], rows[:, 1:], epochs=40, verbose=0)
[[written]] = generate(model, [rows[3, :3].tolist()], 10, stop_ids=tokenizer.token_end_id)
text = tokenizer.decode([*rows[3, :3], *written.ids])
assert text == texts[3], text
done(f"generated: {text}")
