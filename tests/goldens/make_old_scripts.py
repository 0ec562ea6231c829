"""Freeze the losses of bert4keras' own scripts, and compare migrated scripts with them.

Needs a checkout of bert4keras, whose scripts are run as they are but for the changes of
`old_scripts.py`. With bert4keras 0.11.5, TensorFlow 2.21 and tf_keras 2.21:

    python tests/goldens/make_old_scripts.py --scripts CHECKOUT shapes
    python tests/goldens/make_old_scripts.py --scripts CHECKOUT bert4keras [NAME ...]

writes ``old_scripts.npz`` and ``old_scripts.json``, or the rows of the named scripts in them. With
the packages of this project, and with the backend of ``KERAS_BACKEND``:

    python tests/goldens/make_old_scripts.py --scripts CHECKOUT compat [NAME ...]

runs the scripts as ``python -m bert4keras_lite migrate`` changes them, and prints the largest
difference of each (`difference`). The exit status is 1 if one is above 1e-4 or a script raises an
error.

Each script runs in a process of its own: dropout 0, float32, no shuffling, random numbers of NumPy
and Python seeded before the script, before each training and before each evaluation. Weights that
are in no checkpoint are set before the first training, by the class of their layer, its number and
the shape (`fill_new_weights`). Each call of ``fit`` runs `Script.steps` batches, each as an epoch
of its own, so that the loss of an epoch is that of a batch; then ``on_epoch_end`` of the script's
callbacks runs once. Results: ``NAME/losses``; ``NAME/predictions_0``, ... for scripts that train
nothing. What a script prints is compared by hashes of its lines, only for information.

bert4keras was written for Keras 2.3. Under tf_keras it is helped in two places: the class
``keras.optimizers.Optimizer`` is the legacy one, whose methods its optimizers override
(`import_bert4keras`), and batches are given as Keras 2.3 took them (`as_keras_2_3_did`): labels are
converted to floats, and ``None`` for labels is left out.
"""

import argparse
import contextlib
import glob
import hashlib
import importlib
import io
import itertools
import json
import os
import random
import re
import runpy
import subprocess
import sys
import tempfile
import traceback
import types
import zlib
from pathlib import Path

import numpy as np
from old_scripts import CHECKPOINTS, SCRIPTS, SHAPES, changed_text, prepare

__all__ = ["fill_new_weights", "main"]

FOLDER = Path(__file__).resolve().parent
ARRAYS, TEXTS = FOLDER / "old_scripts.npz", FOLDER / "old_scripts.json"
PACKAGE = "bert4keras_lite.compat"
TOLERANCE = 1e-4
PREDICTIONS = 8
OLD = {"TF_KERAS": "1", "TF_USE_LEGACY_KERAS": "1"}
QUIET = {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONHASHSEED": "0"}


def seed():
    np.random.seed(0)
    random.seed(0)


def fill_new_weights(layers, known):
    """Sets the weights that are in no checkpoint: function of layer, order and shape alone.

    Layers are counted among those of their class, in the order of their creation, which the numbers
    of Keras' automatic names show. Vectors of normalizations keep their initial values.

    Args:
        layers: of the model.
        known: set of ids of weights, to which those that are set are added.
    """
    order, counts = {}, {}
    for layer in layers:
        number = re.search(r"_(\d+)$", layer.name)
        kind = type(layer).__name__
        kind = "Functional" if kind == "Model" else kind  # as in tf_keras
        order[kind, int(number[1]) if number else 0, layer.name] = layer
    for (kind, _, _), layer in sorted(order.items()):
        weights = [w for w in layer.weights if id(w) not in known and "float" in str(w.dtype)]
        if not weights:
            continue
        index = counts[kind] = counts.get(kind, -1) + 1
        known.update(map(id, weights))
        for i, weight in enumerate(weights):
            if not re.search(r"\b(gamma|beta|moving_\w+)(:0)?$", weight.name):
                generator = np.random.RandomState(zlib.crc32(f"{kind}/{index}/{i}".encode()))
                assign(weight, 0.1 * generator.standard_normal(tuple(weight.shape)))


def assign(weight, value):
    from keras import backend

    if hasattr(backend, "set_value"):
        backend.set_value(weight, value.astype("float32"))
    else:
        weight.assign(value.astype("float32"))


def condition_weights(model, options):
    """The weights of a model that compute ``layer_norm_cond`` and what the normalizations need."""
    from keras.models import Model

    condition = options.get("layer_norm_cond")
    if condition is None:
        return []
    dense = [layer.hidden_dense for layer in model.layers if hasattr(layer, "hidden_dense")]
    own = Model(options["additional_input_layers"], condition).weights
    return own + [weight for layer in dense for weight in layer.weights]


class Images(types.ModuleType):
    """Stands in for cv2: draws an image by the name of its file; sizes are changed by indices."""

    BORDER_CONSTANT = 0

    def imread(self, path):
        generator = np.random.RandomState(zlib.crc32(Path(path).name.encode()))
        return generator.randint(0, 256, (40, 32, 3)).astype("uint8")

    def resize(self, image, size):
        rows, columns = (
            np.arange(n) * m // n for n, m in zip(size[::-1], image.shape, strict=False)
        )
        return image[rows][:, columns]

    def copyMakeBorder(self, image, top, bottom, left, right, borderType, value):
        return np.pad(image, ((top, bottom), (left, right), (0, 0)), constant_values=value[0])


class Recorder:
    """Replaces ``fit``, ``predict`` and ``summary`` of Keras' models while a script runs.

    Args:
        script: row of `SCRIPTS`.
        convert: function of the inputs and labels of a batch that returns what ``fit`` gets.
    """

    def __init__(self, script, convert):
        self.script, self.convert, self.known = script, convert, set()
        self.losses, self.predictions = [], []

    def build(self, original):
        """``build_transformer_model`` that remembers which weights a checkpoint gave."""

        def build_transformer_model(*args, **options):
            result = original(*args, **options)
            model = getattr(result, "model", result)
            self.known.update(map(id, model.weights))
            self.known.difference_update(map(id, condition_weights(model, options)))
            return result

        return build_transformer_model

    def batches(self, x, steps):
        """What ``fit`` gets, and the number of batches; a `tf.data.Dataset` stays as it is."""
        if hasattr(x, "element_spec"):
            return x, steps
        batches = itertools.islice(x, steps)
        batches = [self.convert(*b) if isinstance(b, tuple) else self.convert(b) for b in batches]
        return (batch for batch in batches), len(batches)

    def fit(self, original):
        def fit(model, x=None, *args, callbacks=(), **options):
            for name in ("steps_per_epoch", "epochs", "validation_data", "validation_steps"):
                options.pop(name, None)
            from keras.callbacks import LambdaCallback

            fill_new_weights(model.layers, self.known)
            seed()
            for callback in callbacks:
                callback.set_model(model)
                callback.on_train_begin()
            after = LambdaCallback(
                on_batch_end=lambda batch, logs: [c.on_batch_end(batch, logs) for c in callbacks]
            )
            x, count = self.batches(x, self.script.steps)
            history = original(
                model,
                x,
                *args,
                steps_per_epoch=1,
                epochs=count,
                callbacks=[after],
                **{**options, "verbose": 0},
            )
            self.losses += history.history["loss"]
            seed()
            for callback in callbacks:
                callback.on_epoch_end(0, {k: v[-1] for k, v in history.history.items()})
            return history

        return fit

    def predict(self, original):
        def predict(model, *args, **options):
            result = original(model, *args, **{**options, "verbose": 0})
            if not self.losses and len(self.predictions) < PREDICTIONS:
                self.predictions.append(result)
            return result

        return predict

    def install(self, keras, models):
        """Hooks into a Keras and into the module of ``build_transformer_model``."""
        models.build_transformer_model = self.build(models.build_transformer_model)
        for model in models_of(keras):
            model.fit, model.predict = self.fit(model.fit), self.predict(model.predict)
            model.summary = lambda *args, **options: None

    def results(self):
        arrays = {"losses": np.array(self.losses, "float64")} if self.losses else {}
        flat = [p if isinstance(p, (list, tuple)) else [p] for p in self.predictions]
        flat = [] if self.losses else list(itertools.chain(*flat))
        return {**arrays, **{f"predictions_{i}": np.asarray(p) for i, p in enumerate(flat)}}


class Progress:
    """Stands in for tqdm: prints nothing."""

    def __init__(self, iterable=(), **options):
        self.iterable = iterable

    def __iter__(self):
        return iter(self.iterable)

    def __getattr__(self, name):
        return lambda *args, **options: None


def stub_packages():
    """Gives the scripts modules that they import but that no environment need have."""

    class Rouge:
        def get_scores(self, hyps, refs):
            equal = float(hyps == refs)
            return [{f"rouge-{kind}": {"f": equal} for kind in "12l"}]

    class SmoothingFunction:
        method1 = None

    stubs = {
        "tqdm": {"tqdm": Progress},
        "rouge": {"Rouge": Rouge},
        "cchess": {},
        "jieba": {"initialize": lambda: None, "cut": lambda text, cut_all: list(text)},
        "pandas": {},
        "sympy": {"Integer": int},
        "nltk": {},
        "nltk.translate": {},
        "nltk.translate.bleu_score": {
            "SmoothingFunction": SmoothingFunction,
            "sentence_bleu": lambda references, hypothesis, **_: float(hypothesis in references),
        },
    }
    for name, members in stubs.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(members)
    sys.modules["cv2"] = Images("cv2")
    unsorted = glob.glob
    glob.glob = lambda pattern: sorted(unsorted(pattern))


def import_bert4keras(graph=False):
    import tensorflow as tf

    tf.keras.optimizers.Optimizer = tf.keras.optimizers.legacy.Optimizer
    if graph:
        tf.compat.v1.disable_eager_execution()
    from bert4keras import models
    from bert4keras.backend import keras

    keras.utils.set_random_seed(0)
    return keras, models


def as_keras_2_3_did(x, y=None):
    """A batch as tf_keras needs it: inputs alone in a tuple, labels as floats."""
    if isinstance(x, dict):
        return x if y is None else (x, y)
    if y is None:
        return (tuple(x),)
    return x, [np.asarray(v, "float32") for v in y] if isinstance(y, list) else y.astype("float32")


def as_it_is(*batch):
    return batch


def models_of(keras):
    """The classes whose methods are replaced: with tf_keras, that of graph mode too."""
    if os.environ.get("TF_KERAS") != "1":
        return [importlib.import_module(f"{PACKAGE}.models").Model]
    from tf_keras.src.engine import training_v1

    return [keras.Model, training_v1.Model]


def import_compat():
    import keras

    models = importlib.import_module(f"{PACKAGE}.models")
    keras.utils.set_random_seed(0)
    return keras, models


def migrated(text):
    """The script as `python -m bert4keras_lite migrate` changes it."""
    from bert4keras_lite.applications.migrate import migrate

    return migrate(text).text


def write_scripts(name, mode, checkout, work):
    """Writes a changed script, those that it needs and their files; returns their folder."""
    script, folder = SCRIPTS[name], work / "examples"
    folder.mkdir()
    for each in filter(None, (*script.modules, script.first, name)):
        place = next(Path(checkout).glob(f"*/{each}.py"))
        text = changed_text(each, place.read_text(encoding="utf-8"), work)
        prepare(each, text, work)
        text = text if mode == "bert4keras" else migrated(text)
        (folder / f"{each}.py").write_text(text, encoding="utf-8")
    return folder


def run(name, mode, checkout, recorder_class=Recorder):
    """Runs one script in this process.

    Returns:
        Dict of arrays, list of printed lines, and the text of an error or None.
    """
    script = SCRIPTS[name]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.chdir(write_scripts(name, mode, checkout, work))
        convert = as_keras_2_3_did if mode == "bert4keras" else as_it_is
        recorder, printed, error = recorder_class(script, convert), io.StringIO(), None
        if mode == "bert4keras":
            recorder.install(*import_bert4keras(script.graph))
        else:
            recorder.install(*import_compat())
        stub_packages()  # after Keras, which uses pandas where it is installed
        sys.path.insert(0, os.getcwd())
        try:
            with contextlib.redirect_stdout(printed):
                for each in filter(None, (script.first, name)):
                    recorder.losses, recorder.predictions = [], []
                    seed()
                    runpy.run_path(f"{each}.py", run_name="__main__")
        except Exception:
            error = traceback.format_exc()
        os.chdir(FOLDER)
    return recorder.results(), printed.getvalue().splitlines(), error


def hashes(printed):
    return [hashlib.sha256(line.encode()).hexdigest()[:8] for line in printed]


def run_apart(name, mode, checkout):
    """`run` in a process of its own; returns arrays, printed lines and error."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "result.npz"
        command = [sys.executable, __file__, "--scripts", str(checkout), "--write", str(target)]
        environment = {**os.environ, **QUIET, **(OLD if mode == "bert4keras" else {})}
        finished = subprocess.run(
            [*command, mode, name], env=environment, capture_output=True, text=True, check=False
        )
        if not target.exists():
            return {}, [], finished.stderr
        with np.load(target) as file:
            arrays = dict(file)
    printed, error = json.loads(str(arrays.pop("report")))
    return arrays, printed, error


def freeze(names, checkout):
    """Writes the golden files, keeping the rows of other scripts."""
    arrays = dict(np.load(ARRAYS)) if ARRAYS.exists() else {}
    texts = json.loads(TEXTS.read_text()) if TEXTS.exists() else {}
    for name in names:
        found, printed, error = run_apart(name, "bert4keras", checkout)
        last = error.strip().splitlines()[-1] if error else None
        losses = found.get("losses", np.zeros(1))
        print(f"{name:45} {len(losses)} {losses[0]:.4f} -> {losses[-1]:.4f} {error or ''}")
        arrays = {key: value for key, value in arrays.items() if key.split("/")[0] != name}
        arrays.update({f"{name}/{key}": value for key, value in found.items()})
        texts[name] = {"error": last, "printed": hashes(printed)}
        np.savez_compressed(ARRAYS, **dict(sorted(arrays.items())))
        rows = [f"{json.dumps(key)}: {json.dumps(texts[key])}" for key in sorted(texts)]
        TEXTS.write_text("{\n" + ",\n".join(rows) + "\n}\n")


def compare(names, checkout):
    """Prints how far migrated scripts are from the golden files; returns whether all are near."""
    golden, texts, near = dict(np.load(ARRAYS)), json.loads(TEXTS.read_text()), True
    for name in names:
        found, printed, error = run_apart(name, "compat", checkout)
        expected = {k.split("/")[1]: v for k, v in golden.items() if k.startswith(f"{name}/")}
        if not expected or found.keys() != expected.keys():
            worst = f"has {sorted(found)}, expected {sorted(expected)}"
            near = False
        else:
            keys = ["predictions_0"] if SCRIPTS[name].samples else expected
            worst = max((difference(k, found[k], expected[k]) for k in keys), default=0.0)
            near &= worst <= TOLERANCE
        same = "same" if hashes(printed) == texts[name]["printed"] else "other"
        print(f"{name:45} {worst}  printed: {same}  {error or ''}", flush=True)
        near &= not error
    return near


def difference(key, found, expected):
    """Largest difference, as a share of the largest value; losses below 1 count as 1."""
    if found.shape != expected.shape:
        return float("inf")
    scale = np.abs(expected).max(initial=1.0 if key == "losses" else 1e-30)
    return float(np.abs(found.astype("float64") - expected).max(initial=0.0) / scale)


def checkpoint_shapes(transformer):
    """Names and shapes of what a model of bert4keras reads; two kinds are read transposed."""
    shapes = {}
    for layer, names in transformer.variable_mapping().items():
        weights = transformer.layers[layer].trainable_weights if layer in transformer.layers else []
        for name, weight in zip(names, weights, strict=False):
            turned = re.search("seq_relationship/output_weights|relative_attention_bias", name)
            shapes[name] = weight.shape.as_list()[:: -1 if turned else 1]
    return shapes


def write_shapes():
    """Writes names and shapes of the weights that bert4keras reads from each checkpoint."""
    _, models = import_bert4keras()
    table = {}
    for kind, (model, options, config) in CHECKPOINTS.items():
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(config, file)
            file.flush()
            transformer = models.build_transformer_model(
                file.name, model=model, return_keras_model=False, **options
            )
        table[kind] = checkpoint_shapes(transformer)
    rows = [f"{json.dumps(kind)}: {json.dumps(shapes)}" for kind, shapes in table.items()]
    SHAPES.write_text("{\n" + ",\n".join(rows) + "\n}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scripts", required=True, help="checkout of bert4keras")
    parser.add_argument("--write", help="run one script here and write its results")
    parser.add_argument("mode", choices=["shapes", "bert4keras", "compat"])
    parser.add_argument("names", nargs="*", default=[])
    arguments = parser.parse_args()
    modules = {module for script in SCRIPTS.values() for module in script.modules}
    every = [name for name in SCRIPTS if name not in modules]
    names, checkout = arguments.names or every, Path(arguments.scripts).resolve()
    if arguments.mode == "shapes":
        os.environ.update(OLD)
        write_shapes()
    elif arguments.write:
        arrays, *report = run(names[0], arguments.mode, checkout)
        np.savez(arguments.write, report=json.dumps(report), **arrays)
    elif arguments.mode == "bert4keras":
        freeze(names, checkout)
    else:
        sys.exit(not compare(names, checkout))


if __name__ == "__main__":
    main()
