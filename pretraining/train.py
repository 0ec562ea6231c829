"""Trains a model on a corpus.

    python -m pretraining.train --config tiny --corpus CORPUS --output RUN --vocab VOCAB

`--config` is a YAML file or the name of a recipe in `pretraining/recipes`; every setting of
`config.Settings` is a flag that goes before it (`--steps 100`, `--model.hidden_size 256`). Started
again, it goes on where it was. `--export DIR` trains nothing and writes the model of the last
checkpoint; so does SIGUSR1, to `RUN/model-<step>`, of a run that goes on.
"""

import os
import sys

from bert4keras_lite.arguments import complain
from bert4keras_lite.checkpoints import CheckpointError

from . import config


def main(arguments=None):
    """The command line; what is wrong with the settings is said in one line."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    try:
        own, flags = split(arguments)
        settings = config.load(own.get("config"), flags)
        if settings.backend:
            os.environ["KERAS_BACKEND"] = settings.backend
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        from . import loop  # imports Keras, which asks for the backend once

        loop.run(settings, own.get("export"))
    except (ValueError, ImportError, OSError, FloatingPointError, CheckpointError) as error:
        complain(error)
        return 2
    return 0


def split(arguments):
    """`--config` and `--export` as a dict, and the other flags."""
    own, flags = {}, []
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.removeprefix("--").partition("=")
        if argument.startswith("--") and name in ("config", "export"):
            own[name] = value if equals else next(rest, None)
            if not own[name]:
                raise ValueError(f"--{name}: expected a value after it.")
        else:
            flags.append(argument)
    return own, flags


if __name__ == "__main__":
    sys.exit(main())
