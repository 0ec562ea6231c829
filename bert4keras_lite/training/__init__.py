"""Training methods: one line each, before or after `compile`, for use with `fit`.

    adversarial_training(model, "token_embedding", epsilon=1.0)
    model.fit(...)

A method changes only how a model is trained: its layers, `evaluate`, `predict` and saved files are
those of the plain model. Several methods may be combined (R-Drop with adversarial training, for
instance), but only one of those that change where the gradient is taken, FGM and PGD.

Each is implemented once for all backends, as a function of the values of the variables
(`step.Step`). So a loss can be computed at weights that the model does not have, and with the same
dropout.
"""

from .best_epoch import BestEpoch
from .kl import (
    kl_of_binary_probabilities,
    kl_of_binary_scores,
    kl_of_probabilities,
    kl_of_scores,
)
from .lr_finder import find_learning_rate
from .methods import (
    adversarial_training,
    dropout_pairs,
    gradient_penalty,
    projected_adversarial_training,
    r_drop,
    virtual_adversarial_training,
)
from .multitask import TaskBatches
from .theseus import theseus

__all__ = [
    "BestEpoch",
    "TaskBatches",
    "adversarial_training",
    "dropout_pairs",
    "find_learning_rate",
    "gradient_penalty",
    "kl_of_binary_probabilities",
    "kl_of_binary_scores",
    "kl_of_probabilities",
    "kl_of_scores",
    "projected_adversarial_training",
    "r_drop",
    "theseus",
    "virtual_adversarial_training",
]
