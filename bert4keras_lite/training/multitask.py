"""Multi-task batches: interleaves the batches of several datasets."""

from typing import Any

import keras
import numpy as np

__all__ = ["TaskBatches"]


class TaskBatches(keras.utils.PyDataset):
    """Batches of several tasks in random order, for a model with one output for each task.

    Each batch is of one task. The index of the task is added as the last input of the model, so
    that an embedding of it can be the condition of all normalizations. The outputs of the other
    tasks get weight 0 (so pass metrics as `weighted_metrics`). The batches of a task come in their
    own order; the tasks are mixed at random.

    Args:
        tasks: dict of output name -> `PyDataset` (such as `data.Batches`) of `(inputs, labels)` or
            `(inputs, labels, weights)`. Tasks are numbered from 0 in this order. Inputs are a
            tuple, list or dict of arrays (to a dict, `"task"` is added).
        proportions: dict of output name -> proportion of the batches. By default, each batch of
            each task comes once in an epoch.
        steps: batches per epoch. Defaults to the number of batches of all tasks.
        seed: seed of the mixing; drawn from NumPy by default.
        **kwargs: arguments of `PyDataset`.

    Raises:
        ValueError: the names in `proportions` are not those of the tasks, or one is negative.

    Example:
        >>> task = keras.Input((), dtype="int32", name="task")
        >>> condition = keras.layers.Embedding(2, 64)(task)
        >>> bert = build_transformer_model(
        ...     directory, layer_norm_cond=condition, additional_input_layers=task)
        >>> topic = keras.layers.Dense(15, name="topic")(bert.output[:, 0])
        >>> mood = keras.layers.Dense(2, name="mood")(bert.output[:, 0])
        >>> model = keras.Model(bert.inputs, {"topic": topic, "mood": mood})
        >>> model.compile("adamw", {"topic": loss, "mood": loss})
        >>> model.fit(TaskBatches({"topic": topics, "mood": moods}, {"topic": 2, "mood": 1}))

    Reference:
        Conditional layer normalization, https://kexue.fm/archives/7124
    """

    def __init__(
        self,
        tasks: dict[str, Any],
        proportions: dict[str, float] | None = None,
        steps: int | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tasks = dict(tasks)
        self.samples = {name: self.part(name, 0) for name in self.tasks}
        proportions = proportions or {name: len(batches) for name, batches in self.tasks.items()}
        if proportions.keys() != self.tasks.keys() or min(proportions.values()) < 0:
            raise ValueError(
                f"proportions={proportions}: expected a number, 0 or more, for each of "
                f"{', '.join(self.tasks)}."
            )
        steps = steps or sum(len(batches) for batches in self.tasks.values())
        self.counts = _split_in_proportion([proportions[name] for name in self.tasks], steps)
        self.seed = np.random.randint(2**31) if seed is None else seed
        self.epoch = 0
        self.used = [0] * len(self.tasks)
        self.arrange()
        self.put_different_shapes_first()

    def arrange(self) -> None:
        """Draws the order of the (task, batch) pairs of this epoch."""
        random = np.random.default_rng([self.seed, self.epoch])
        turns = random.permutation(np.repeat(np.arange(len(self.tasks)), self.counts))
        following = list(self.used)
        self.order = []
        for task in turns:
            self.order.append((list(self.tasks)[task], following[task]))
            following[task] += 1

    def put_different_shapes_first(self) -> None:
        """Puts two batches of different lengths first, if there are any.

        On TensorFlow, Keras infers the shapes of a whole `fit` from the first two batches.
        """
        candidates = [i for i, (_, number) in enumerate(self.order) if number < 2]
        shapes = self.shapes(0)
        other = next((i for i in candidates if self.shapes(i) != shapes), None)
        if other is not None:
            self.order[1], self.order[other] = self.order[other], self.order[1]

    def shapes(self, index: int) -> list[tuple[int, ...]]:
        return [x.shape[1:] for x in keras.tree.flatten(self[index])]

    def part(self, name: str, number: int) -> tuple:
        """Returns inputs, labels and weights of a batch of a task; the first follows the last."""
        batches = self.tasks[name]
        return keras.utils.unpack_x_y_sample_weight(batches[number % len(batches)])

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> tuple:
        name, number = self.order[index]
        x, y, weight = self.part(name, number)
        rows, length = _extent(x)
        labels = {other: self.dummy_labels(other, rows, length) for other in self.tasks} | {name: y}
        weights = {
            other: np.zeros(self.weights_shape(other, labels[other])) for other in self.tasks
        }
        weights[name] = np.ones(self.weights_shape(name, y)) if weight is None else weight
        task = np.full(rows, list(self.tasks).index(name), "int32")
        return (x | {"task": task} if isinstance(x, dict) else (*x, task)), labels, weights

    def per_token(self, name: str) -> bool:
        """Returns whether a task has one label per token."""
        x, y, _ = self.samples[name]
        return y.ndim > 1 and y.shape[1] == _extent(x)[1]

    def weights_shape(self, name: str, y: np.ndarray) -> tuple[int, ...]:
        """Returns the shape of the weights; where Keras has a mask, it expects one per token."""
        return y.shape[:2] if self.per_token(name) else y.shape[:1]

    def dummy_labels(self, name: str, rows: int, length: int) -> np.ndarray:
        """Returns labels of weight 0."""
        _, y, _ = self.samples[name]
        shape = (rows, length, *y.shape[2:]) if self.per_token(name) else (rows, *y.shape[1:])
        return np.zeros(shape, y.dtype)

    def on_epoch_end(self) -> None:
        for batches in self.tasks.values():
            batches.on_epoch_end()
        self.epoch += 1
        self.used = [used + count for used, count in zip(self.used, self.counts, strict=True)]
        self.arrange()


def _extent(x):
    """Returns the number of rows and the length of the first input."""
    return keras.tree.flatten(x)[0].shape[:2]


def _split_in_proportion(proportions, total):
    """Splits `total` in proportion into integers; remainders go to the largest fractions."""
    exact = np.array(proportions, float) * total / sum(proportions)
    counts = np.floor(exact).astype(int)
    for i in np.argsort(counts - exact, kind="stable")[: total - counts.sum()]:
        counts[i] += 1
    return counts
