"""What the examples that train share: arguments, files, the best epoch, scores over a few seeds."""

import argparse

import keras
import numpy as np
from sample import DATA, OUTPUT  # noqa: F401

from bert4keras_lite.files import saving


def arguments(doc, seeds=None, small="tiny-zh", **defaults):
    """The command line: `--checkpoint DIR`, `--seed N`, and an option for each default.

    Args:
        doc: of the script, for `--help`.
        seeds: of a script that trains several times, from as many seeds: it has `--seeds N` in
            place of `--seed N`. Otherwise the random choices that follow hang on the seed.
        small: `checkpoint`, where none is given; None if the script has a model of its own then.
        **defaults: option -> value, or a pair: for models of the usual size, and for `small`.

    Returns:
        The values; and `jit_compile`, False for the small model but on JAX: XLA compiles longer
        than such short training takes.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default=small, help=f"a directory or a name ({small})")
    if seeds is None:
        parser.add_argument("--seed", type=int, default=0)
    else:
        said = f"how many times to train: {seeds}"
        parser.add_argument("--seeds", type=int, default=seeds, help=said)
    pairs = {k: v if isinstance(v, tuple) else (v, v) for k, v in defaults.items()}
    for name, (usual, little) in pairs.items():
        said = f"{usual}" if usual == little else f"{usual}; without --checkpoint {little}"
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(usual), help=said)
    args = parser.parse_args()
    is_small = args.checkpoint == small
    for name, pair in pairs.items():
        if getattr(args, name) is None:
            setattr(args, name, pair[is_small])
    args.jit_compile = False if is_small and keras.config.backend() != "jax" else "auto"
    if seeds is None:
        keras.utils.set_random_seed(args.seed)
    return args


def compare(runs, seeds, metric="accuracy"):
    """Train in several ways, each from the same seeds, and print the scores side by side.

    Args:
        runs: name -> a function that trains and returns `(model, score)`. The first is what the
            others are compared with.
        seeds: how many.
        metric: what the score is called.

    Returns:
        `(models, scores)`: name -> the model of the last seed, name -> one score a seed.
    """
    models, scores = {}, {name: [] for name in runs}
    for seed in range(seeds):
        for name, run in runs.items():
            print(f"\n--- {name}, seed {seed}")
            keras.utils.set_random_seed(seed)
            models[name], score = run()
            scores[name].append(score)
    width = max(map(len, runs))
    print(f"\n{metric}, mean and standard deviation over {seeds} seeds")
    first = np.array(next(iter(scores.values())))
    for name, values in scores.items():
        gain = np.mean(values - first)
        each = " ".join(f"{value:.4f}" for value in values)
        print(
            f"{name:{width}}  {np.mean(values):.4f} ± {np.std(values):.4f}  {gain:+.4f}  ({each})"
        )
    return models, scores


class KeepBest(keras.callbacks.Callback):
    """Shows scores after each epoch; at the end the model has the weights of the best one.

    Args:
        score: a function without arguments that gives name -> number. The first decides; the
            higher, the better.
        name: of the file of the weights.
    """

    def __init__(self, score, name):
        super().__init__()
        self.score, self.best = score, -np.inf
        self.path = OUTPUT / f"{name}.weights.h5"

    def on_epoch_end(self, epoch, logs=None):
        scores = self.score()
        logs.update({f"val_{name}": score for name, score in scores.items()})
        first = next(iter(scores.values()))
        if first > self.best:
            self.best = first
            with saving(OUTPUT) as folder:
                self.model.save_weights(folder / self.path.name)

    def on_train_end(self, logs=None):
        self.model.load_weights(self.path)


def show_scores(scores, name="test"):
    """Prints name -> number on a line."""
    print(f"{name}:", "  ".join(f"{key} {value:.4f}" for key, value in scores.items()))


def save(model, name):
    """The weights, to `examples/output`, from where `load_weights` brings them back."""
    with saving(OUTPUT) as folder:  # interrupted, it leaves what was there before
        model.save_weights(folder / f"{name}.weights.h5")
