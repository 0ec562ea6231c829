"""Freezes what version 0.1.0 writes in Keras' formats, so that later versions go on reading it.

    KERAS_BACKEND=tensorflow python tests/goldens/make_version_1.py    # as of version 0.1.0
    KERAS_BACKEND=jax python tests/goldens/make_version_1.py
    KERAS_BACKEND=torch python tests/goldens/make_version_1.py

Each writes the archive `version_1/<backend>.tar.xz`. In it, for each of `FAMILIES`, is a folder
with a small model after two steps of training, as the checkpoint of a pretraining run,
`step-00000002`, which only the same backend reads; that of TensorFlow also has `model.keras` (with
`config.json` and the state of the optimizer) and `model.weights.h5`, with the same values, and
besides `int8.keras` (a quantized BERT) and `tagger` (RoFormer with a CRF). `outputs.npz` holds the
inputs, and what the models made of them. Keras was 3.15.1, TensorFlow 2.21.0, JAX 0.10.2, PyTorch
2.13.0.
"""

import os
import tarfile
import tempfile
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent / "version_1"
SIZES = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position": 8,
    "dropout_rate": 0.1,
}
# options of build_transformer_model, beside `SIZES`; conditional: normalization moved by an input
FAMILIES = {
    "bert": {"num_hidden_layers": 2, "with_mlm": "linear", "with_nsp": "linear"},
    "t5.1.1": {"num_hidden_layers": 1, "with_lm": "linear"},
    "gau_alpha": {
        "num_hidden_layers": 2,
        "with_lm": "linear",
        "attention_key_size": 4,
        "conditional": True,
    },
}
STEPS = 2
LABELS = ["O", "B-name", "I-name"]


def options_of(family):
    """The options that build a family's model, as version 0.1.0 takes them."""
    import keras

    options = {"model": family, **SIZES, **FAMILIES[family]}
    if options.pop("conditional", False):
        condition = keras.Input((3,), name="condition")
        options |= {"layer_norm_cond": condition, "additional_input_layers": condition}
    return options


def compile_like(model):
    """Compiles a model as the frozen ones were."""
    from bert4keras_lite.optimizers import AdamW

    optimizer = AdamW(0.01, weight_decay=0.05, ema_momentum=0.9, global_clipnorm=1.0)
    losses = "mse" if len(model.outputs) == 1 else ["mse"] * len(model.outputs)
    model.compile(optimizer, losses, jit_compile=False)
    optimizer.build(model.trainable_variables)


def inputs_of(model):
    """An array for each input, the second row padded."""
    random = np.random.RandomState(0)
    arrays = []
    for tensor in model.inputs:
        if "condition" in tensor.name:
            arrays.append(random.standard_normal((2, 3)).astype("float32"))
        elif "segment" in tensor.name:
            arrays.append(np.array([[0, 0, 1, 1, 1], [0, 0, 0, 0, 0]], "int32"))
        else:
            arrays.append(random.randint(1, 20, (2, 5)).astype("int32"))
            arrays[-1][1, 3:] = 0
    return arrays


def outputs_of(model, inputs):
    import keras

    return [keras.ops.convert_to_numpy(y) for y in keras.tree.flatten(model(inputs))]


def spread(model):
    """Moves every weight away from where it starts."""
    random = np.random.RandomState(0)
    for weight in model.weights:
        weight.assign(weight + 0.2 * random.standard_normal(weight.shape).astype("float32"))


def make_family(directory, family, results):
    import keras

    from bert4keras_lite import build_transformer_model
    from pretraining.checkpointing import Checkpoints

    keras.utils.set_random_seed(0)
    transformer = build_transformer_model(return_keras_model=False, **options_of(family))
    model = transformer.model
    spread(model)
    compile_like(model)
    inputs = inputs_of(model)
    targets = [np.ones(y.shape) for y in outputs_of(model, inputs)]
    for _ in range(STEPS):
        model.train_on_batch(inputs, targets if len(targets) > 1 else targets[0])
    folder = directory / family
    Checkpoints(folder, asynchronous=False).save(STEPS, model)
    if keras.backend.backend() == "tensorflow":
        transformer.save_checkpoint(folder, "keras")
        model.save_weights(folder / "model.weights.h5")
    record(family, results, inputs, outputs_of(model, inputs))


def make_int8(directory, results):
    from bert4keras_lite import build_transformer_model

    model = build_transformer_model(model="bert", num_hidden_layers=1, **SIZES)
    spread(model)
    model.quantize("int8")
    model.save(directory / "int8.keras")
    record("int8", results, inputs_of(model), outputs_of(model, inputs_of(model)))


def make_tagger(directory, results):
    import keras

    from bert4keras_lite import Tokenizer, build_transformer_model
    from bert4keras_lite.layers import ConditionalRandomField
    from bert4keras_lite.pipelines import save_tagger

    body = build_transformer_model(model="roformer", num_hidden_layers=1, **SIZES)
    logits = keras.layers.Dense(len(LABELS), name="tags")(body.output)
    model = keras.Model(body.inputs, ConditionalRandomField(name="crf")(logits))
    spread(model)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"甲乙丙丁戊己庚辛壬癸子丑寅卯辰"]
    tokenizer = Tokenizer({token: i for i, token in enumerate(tokens)})
    save_tagger(directory / "tagger", model, LABELS, tokenizer)
    record("tagger", results, inputs_of(model), outputs_of(model, inputs_of(model)))


def record(name, results, inputs, outputs):
    for kind, arrays in (("input", inputs), ("output", outputs)):
        results |= {f"{name}/{kind}_{i}": array for i, array in enumerate(arrays)}


def make(directory):
    import keras

    results = {}
    for family in FAMILIES:
        make_family(directory, family, results)
    if keras.backend.backend() == "tensorflow":
        make_int8(directory, results)
        make_tagger(directory, results)
    np.savez_compressed(directory / "outputs.npz", **results)
    FOLDER.mkdir(exist_ok=True)
    with tarfile.open(FOLDER / f"{keras.backend.backend()}.tar.xz", "w:xz") as archive:
        for path in sorted(directory.iterdir()):
            archive.add(path, path.name)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as directory:
        make(Path(directory))
