"""Reader of Megatron's model-parallel checkpoints (CPM-1), which have a file for each rank.

Arrays are joined lazily. Queries, keys and values are stacked within each rank, so they are split
first: `...query_key_value.weight` becomes `...query_key_value.query.weight` and so on.

Reference:
    Shoeybi et al., "Megatron-LM", arXiv 1909.08053, section 3.
"""

import re
from functools import partial

import numpy as np

from ..parsing import shown
from .base import CheckpointError, Entry
from .matching import pieces

__all__ = ["FILES", "read_entries"]

FILES = "mp_rank_*_model_states.pt"

# pattern of arrays that are split among the ranks -> the axis; others are the same in every rank
SHARED = [
    (r".*\bword_embeddings\.weight$", 0),
    (r".*\.mlp\.dense_h_to_4h\.(weight|bias)$", 0),
    (r".*\.(attention\.dense|mlp\.dense_4h_to_h)\.weight$", 1),
]
# Arrays that are the same in every rank drift apart a little in training; a difference of more than
# this fraction of the norm has another cause
MOST_DRIFT = 0.1
MOST = 1e4  # larger numbers are constants, not trained weights: every rank has the same
FUSED = re.compile(r"(.*\.query_key_value)\.(weight|bias)$")


def read_entries(ranks, path):
    """Joins the ranks: returns name -> `Entry` of the whole model.

    Args:
        ranks: the `Checkpoint` of each rank, in order.
        path: of their directory, for messages.

    Raises:
        CheckpointError: the ranks are not of one model.
    """
    _check_counters(ranks, path)
    if any(set(rank) != set(ranks[0]) for rank in ranks):
        raise CheckpointError(
            f"{path}: the files {FILES} hold different names; expected all ranks of one model."
        )
    entries = {}

    def add(name, entry):
        if name in entries:
            raise CheckpointError(
                f"{path}: two tensors are named {name!r:.200}; expected a name for each. Rename "
                "one of them, and save again."
            )
        entries[name] = entry

    for name in ranks[0]:
        shape, dtype = ranks[0].shape(name), ranks[0].dtype(name)
        if any((rank.shape(name), rank.dtype(name)) != (shape, dtype) for rank in ranks):
            raise CheckpointError(
                f"{path}: the files {FILES} hold {name!r:.200} in different shapes; expected the "
                "same."
            )
        fused = FUSED.match(name)
        axis = next((axis for pattern, axis in SHARED if re.match(pattern, name)), None)
        if len(shape) <= (0 if fused else -1 if axis is None else axis) or (fused and shape[0] % 3):
            raise CheckpointError(
                f"{path}: {name!r:.200} has the shape {shape!s:.200}, which cannot be shared among "
                "ranks."
            )
        if fused:
            part = (len(ranks) * shape[0] // 3, *shape[1:])
            for i, layer in enumerate(("query", "key", "value")):
                entry = Entry(part, dtype, partial(_joined_part, ranks, name, i))
                add(f"{fused[1]}.{layer}.{fused[2]}", entry)
            continue
        if axis is not None:
            shape = (*shape[:axis], shape[axis] * len(ranks), *shape[axis + 1 :])
        read = partial(_common, path) if axis is None else partial(_joined, axis=axis)
        add(name, Entry(shape, dtype, partial(read, ranks=ranks, name=name)))
    return entries


def _check_counters(ranks, path):
    """Checks that the counters next to the weights are those of one checkpoint.

    Raises:
        CheckpointError: they are not.
    """
    names = sorted({name for rank in ranks for name in rank.counters})
    for name in names:
        counters = [rank.counters.get(name) for rank in ranks]
        expected = {"mp_world_size": len(ranks), "checkpoint_version": 0}.get(name, counters[0])
        other = next((value for value in counters if value != expected), expected)
        if other != expected:
            raise CheckpointError(
                f"{path}: {name} is {shown(other)} in one of the files {FILES}; expected"
                f" {shown(expected)} in each of these {len(ranks)}. Get all files of one"
                " checkpoint, in the layout of version 0."
            )


def _common(path, ranks, name):
    """Reads an array that is the same in every rank.

    Raises:
        CheckpointError: it is not.
    """
    first = ranks[0][name]
    for rank in ranks[1:]:
        if not _is_like(first, rank[name]):
            raise CheckpointError(
                f"{path}: {name!r:.200} is not the same in all of the files {FILES}; expected "
                "files of one checkpoint. Get all of them again."
            )
    return first


def _is_like(first, second):
    """Whether two arrays differ at most by `MOST_DRIFT`; numbers above `MOST` must be equal."""
    if first.dtype.kind in "biuc":
        return np.array_equal(first, second)
    difference = total = 0.0
    for pair in zip(pieces(first), pieces(second), strict=True):
        x, y = (piece.astype("float64") for piece in pair)
        usual = (abs(x) < MOST) & (abs(y) < MOST)  # False for NaN
        if not np.array_equal(x[~usual], y[~usual], equal_nan=True):
            return False
        x, y = x[usual], y[usual]
        total += np.vdot(x, x)
        difference += np.vdot(x - y, x - y)
    return difference <= MOST_DRIFT**2 * total


def _joined(ranks, name, axis):
    """Reads an array that is split among the ranks."""
    return np.concatenate([rank[name] for rank in ranks], axis=axis)


def _joined_part(ranks, name, i):
    """Reads the queries (i = 0), keys (1) or values (2) of a fused array."""
    return np.concatenate([np.split(np.asarray(rank[name]), 3)[i] for rank in ranks])
