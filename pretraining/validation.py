"""Loss and accuracy on text that is not trained on.

    python -m pretraining.validation --checkpoint RUN/model/hf --corpus WORK/heldout --objective mlm

prints them for a model; the flags are settings of `pretraining.train`. All examples of the corpus are
read once, masked the same way every time. Losses with other masks (`--masking.rate`,
`--masking.whole_words`) cannot be compared, nor can those of other vocabularies.
"""

import math
import os
import sys

from bert4keras_lite.arguments import complain
from bert4keras_lite.checkpoints import CheckpointError

from . import config
from .batches import Examples, fitting

SEED = 0  # of the masks


class Validation:
    """Measures a model on all examples of a corpus.

    Every pass reads the same batches with the same masks. The last batch is filled up with examples
    that weigh nothing.

    Args:
        corpus, objective, batch_size, cache, **masking_options: see `batches.Examples`.

    Raises:
        ValueError: as `Examples`.

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
        """How many batches there are."""
        return math.ceil(len(self.examples) / self.batch_size)

    def batches(self):
        """Each example once: `(inputs, targets, weights)`."""
        count = len(self.examples)
        for step in range(len(self)):
            inputs, targets, weights = self.examples.batch(step)
            weights[count - step * self.batch_size :] = 0  # those of the next epoch
            yield inputs, targets, weights

    def __call__(self, model, progress=None):
        """The means over all predictions, of loss and metrics, by name.

        Args:
            model: compiled, such as `Objective.model`. Its metrics are reset.
            progress: called with the batches done and those that there are, after each.
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
        from . import objectives  # imports Keras, which asks for the backend once

        validation = Validation(
            settings.corpus,
            settings.objective,
            settings.batch_size,
            settings.cache,
            **settings.masking,
        )
        objective = objectives.build(settings, validation.examples.manifest["vocab_size"])
        objective.model.compile()
        measured = validation(objective.model, progress=print_progress)
    except (ValueError, ImportError, OSError, CheckpointError) as error:
        complain(error)
        return 2
    said = [f"{name} {measured[name]:.4f}" for name in sorted(measured, key=lambda n: n != "loss")]
    said.append(f"perplexity {math.exp(measured['loss']):.2f}")
    print(f"{len(validation.examples):,} examples: {', '.join(said)}")
    return 0


def print_progress(done, count):
    """The share that is done, in place, where someone looks."""
    if sys.stderr.isatty():
        print(f"\r{done / count:.0%}", end="\n" if done == count else "", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
