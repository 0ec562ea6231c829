"""Evaluates loss and accuracy on held-out text.

    python -m pretraining.validation --checkpoint RUN/model/hf --corpus WORK/heldout --objective mlm

prints them for a model; the flags are settings of `pretraining.train`. All examples of the corpus
are read once, always with the same masks. Losses with different masking (`--masking.rate`,
`--masking.whole_words`) or vocabularies are not comparable.
"""

import math
import os
import sys

from bert4keras_lite.arguments import complain

from . import config
from .batches import Examples, fitting
from .files import MISTAKES

__all__ = ["Validation", "main"]

SEED = 0  # seed of the masks


class Validation:
    """Evaluates a model on all examples of a corpus.

    Every evaluation uses the same batches with the same masks. The last batch is padded with
    examples of weight 0.

    Args:
        corpus, objective, batch_size, cache, **masking_options: see `batches.Examples`.

    Raises:
        ValueError: see `batches.Examples`.

    Example:
        >>> Validation("corpus/heldout", "mlm", batch_size=32)(objective.model)
        {'loss': 2.41, 'accuracy': 0.52}
    """

    def __init__(self, corpus, objective, batch_size, cache=None, **masking_options):
        self.examples = Examples(
            corpus, objective, batch_size, SEED, cache=cache, **masking_options
        )
        self.batch_size = batch_size

    def __len__(self):
        """Returns the number of batches."""
        return math.ceil(len(self.examples) / self.batch_size)

    def batches(self):
        """Yields batches `(inputs, targets, weights)` with each example once."""
        count = len(self.examples)
        for step in range(len(self)):
            inputs, targets, weights = self.examples.batch(step)
            weights[count - step * self.batch_size :] = 0  # examples of the next epoch
            yield inputs, targets, weights

    def __call__(self, model, progress=None):
        """Returns a dict name -> mean over all predictions, for the loss and the metrics.

        Args:
            model: a compiled model, such as `Objective.model`. Its metrics are reset.
            progress: a function `(done, count)` that is called after each batch with the numbers
                of batches done and in total. Default None.
        """
        sums, total = {}, 0.0
        names = [tensor.name for tensor in model.inputs]
        for done, batch in enumerate(fitting(self.batches(), names), 1):
            inputs, targets, weights = batch
            model.reset_metrics()
            logs = model.test_on_batch(inputs, targets, weights, return_dict=True)
            weight = float(weights.sum())
            total += weight
            for name, value in logs.items():
                sums[name] = sums.get(name, 0.0) + weight * float(value)
            if progress:
                progress(done, len(self))
        model.reset_metrics()
        return {name: value / total for name, value in sums.items()}


def main(arguments=None):
    flags = list(sys.argv[1:] if arguments is None else arguments)
    if not flags or {"-h", "--help"} & set(flags):
        print(__doc__)
        return 0
    try:
        settings = config.load(None, flags)
        for name in ("checkpoint", "corpus"):
            if getattr(settings, name) is None:
                raise ValueError(f"--{name}: expected a directory.")
        if settings.backend:
            os.environ["KERAS_BACKEND"] = settings.backend
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        from . import objectives  # imports Keras, which reads the backend at import

        validation = Validation(
            settings.corpus,
            settings.objective,
            settings.batch_size,
            settings.cache,
            **settings.masking,
        )
        vocab_size = validation.examples.manifest["vocab_size"]
        objective = objectives.build(vocab_size=vocab_size, **settings.part("model"))
        objective.model.compile()
        metrics = validation(objective.model, progress=print_progress)
    except MISTAKES as error:
        complain(error)
        return 2
    cells = [f"{name} {metrics[name]:.4f}" for name in sorted(metrics, key=lambda n: n != "loss")]
    cells.append(f"perplexity {perplexity(metrics['loss']):.2f}")
    print(f"{len(validation.examples):,} examples: {', '.join(cells)}")
    return 0


def perplexity(loss):
    """Returns the perplexity of a loss in nats; infinity if it has no float."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def print_progress(done, count):
    """Prints the progress in place, if standard error is a terminal."""
    if sys.stderr.isatty():
        print(f"\r{done / count:.0%}", end="\n" if done == count else "", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
