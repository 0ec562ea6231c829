"""Trains a model on a corpus.

    python -m pretraining.train --config tiny --corpus CORPUS --output RUN --vocab VOCAB

`--config` is a YAML file or the name of a recipe in `pretraining/recipes`; every setting of
`config.Settings` is a flag that overrides it (`--steps 100`, `--model.hidden_size 256`). The same
command resumes an interrupted run. `--export DIR` writes the model of the last checkpoint without
training. On SIGUSR1, a run writes its current model to `RUN/model-<step>` and continues.
"""

import os
import sys

from bert4keras_lite.arguments import complain

from . import config
from .files import MISTAKES

__all__ = ["main"]


def main(arguments=None):
    """Runs the command line; returns the exit status. Errors are one line."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    try:
        options, flags = split(arguments)
        settings = config.load(options.get("config"), flags)
        if settings.backend:
            os.environ["KERAS_BACKEND"] = settings.backend
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        from . import loop  # imports Keras, which reads the backend at import

        loop.run(settings, options.get("export"))
    except (*MISTAKES, FloatingPointError) as error:
        complain(error)
        return 2
    return 0


def split(arguments):
    """Returns `--config` and `--export` as a dict, and the list of all other flags."""
    options, flags = {}, []
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.removeprefix("--").partition("=")
        if argument.startswith("--") and name in ("config", "export"):
            options[name] = value if equals else next(rest, None)
            if not options[name]:
                raise ValueError(f"--{name}: expected a value after it.")
        else:
            flags.append(argument)
    return options, flags


if __name__ == "__main__":
    sys.exit(main())
