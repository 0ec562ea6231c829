"""Training methods: one line each, before or after `compile`; then `fit` works as ever.

    adversarial_training(model, "token_embedding", epsilon=1.0)
    model.fit(...)

A method changes how a model is trained, and nothing else: its layers, `evaluate`, `predict` and the
files saved are those of the plain model. Several methods may be joined (R-Drop with adversarial
training, for instance); of those that perturb the gradient's place, FGM and PGD, there is one.

Each is written once, for all backends, as a function of the values of the variables (`step.Step`),
so that a loss can be taken at weights that the model does not have, and with the same dropout.
"""

from .kl import (
    divergence_of,
    kl_of_binary_probabilities,
    kl_of_binary_scores,
    kl_of_probabilities,
    kl_of_scores,
)
from .lr_finder import LearningRates, find_learning_rate
from .methods import (
    adversarial_training,
    dropout_pairs,
    gradient_penalty,
    projected_adversarial_training,
    r_drop,
    virtual_adversarial_training,
)
from .multitask import TaskBatches
from .theseus import ModuleReplacement, theseus

__all__ = [
    "LearningRates",
    "ModuleReplacement",
    "TaskBatches",
    "adversarial_training",
    "divergence_of",
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
