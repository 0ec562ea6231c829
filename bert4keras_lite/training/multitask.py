"""Several tasks, one model."""

import keras
import numpy as np


class TaskBatches(keras.utils.PyDataset):
    """Batches of several tasks by turns, for a model with an output for each of them.

    Each batch is of one task: its number goes to the model as the last input, so that, by way of an
    embedding, it can be the condition of every normalization; the outputs of the other tasks get
    weight 0 (so give metrics as `weighted_metrics`). Each task's batches come in their order, the
    tasks mixed at random.

    Args:
        tasks: dict of output name -> `PyDataset` (such as `data.Batches`) of `(inputs, labels)` or
            `(inputs, labels, weights)`. Tasks are numbered from 0 in this order. Inputs are a
            tuple, list or dict of arrays (to a dict, `"task"` is added).
        proportions: dict of output name -> share of the batches. When left out, each batch of each
            task comes once in an epoch.
        steps: batches an epoch; when left out, as many as all tasks have.
        seed: of the mixing; drawn from NumPy when left out.
        **kwargs: of `PyDataset`.

    Raises:
        ValueError: names in `proportions` that are no task's, or shares that are negative.

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

    def __init__(self, tasks, proportions=None, steps=None, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.tasks = dict(tasks)
        self.samples = {name: self.part(name, 0) for name in self.tasks}
        proportions = proportions or {name: len(batches) for name, batches in self.tasks.items()}
        if proportions.keys() != self.tasks.keys() or min(proportions.values()) < 0:
            raise ValueError(
                f"proportions={proportions}: expected a share, 0 or more, for each of "
                f"{', '.join(self.tasks)}."
            )
        steps = steps or sum(len(batches) for batches in self.tasks.values())
        self.counts = _deal([proportions[name] for name in self.tasks], steps)
        self.seed = np.random.randint(2**31) if seed is None else seed
        self.epoch = 0
        self.used = [0] * len(self.tasks)
        self.arrange()
        self.show_lengths()

    def arrange(self):
        """The (task, batch) pairs of this epoch."""
        random = np.random.default_rng([self.seed, self.epoch])
        turns = random.permutation(np.repeat(np.arange(len(self.tasks)), self.counts))
        following = list(self.used)
        self.order = []
        for task in turns:
            self.order.append((list(self.tasks)[task], following[task]))
            following[task] += 1

    def show_lengths(self):
        """Begins with two batches of different lengths, if there are.

        On TensorFlow, Keras takes the shapes of a whole `fit` from the first two batches.
        """
        candidates = [i for i, (_, number) in enumerate(self.order) if number < 2]
        shapes = self.shapes(0)
        other = next((i for i in candidates if self.shapes(i) != shapes), None)
        if other is not None:
            self.order[1], self.order[other] = self.order[other], self.order[1]

    def shapes(self, index):
        return [x.shape[1:] for x in keras.tree.flatten(self[index])]

    def part(self, name, number):
        """Inputs, labels and weights of a task's batch; after the last comes the first."""
        batches = self.tasks[name]
        return keras.utils.unpack_x_y_sample_weight(batches[number % len(batches)])

    def __len__(self):
        return len(self.order)

    def __getitem__(self, index):
        name, number = self.order[index]
        x, y, weight = self.part(name, number)
        rows, length = _extent(x)
        labels = {other: self.blank(other, rows, length) for other in self.tasks} | {name: y}
        weights = {other: np.zeros(self.weighed(other, labels[other])) for other in self.tasks}
        weights[name] = np.ones(self.weighed(name, y)) if weight is None else weight
        task = np.full(rows, list(self.tasks).index(name), "int32")
        return (x | {"task": task} if isinstance(x, dict) else (*x, task)), labels, weights

    def per_token(self, name):
        """Whether a task's labels are one a token."""
        x, y, _ = self.samples[name]
        return y.ndim > 1 and y.shape[1] == _extent(x)[1]

    def weighed(self, name, y):
        """The shape of weights: where Keras has a mask, it wants one a token."""
        return y.shape[:2] if self.per_token(name) else y.shape[:1]

    def blank(self, name, rows, length):
        """Labels that count for nothing."""
        _, y, _ = self.samples[name]
        shape = (rows, length, *y.shape[2:]) if self.per_token(name) else (rows, *y.shape[1:])
        return np.zeros(shape, y.dtype)

    def on_epoch_end(self):
        for batches in self.tasks.values():
            batches.on_epoch_end()
        self.epoch += 1
        self.used = [used + count for used, count in zip(self.used, self.counts, strict=True)]
        self.arrange()


def _extent(x):
    """Rows and length of the first input."""
    return keras.tree.flatten(x)[0].shape[:2]


def _deal(shares, total):
    """How many of `total` each gets, in proportion; what remains goes to the largest fractions."""
    exact = np.array(shares, float) * total / sum(shares)
    counts = np.floor(exact).astype(int)
    for i in np.argsort(counts - exact, kind="stable")[: total - counts.sum()]:
        counts[i] += 1
    return counts
