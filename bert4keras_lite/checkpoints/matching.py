"""Which array of a checkpoint goes into which variable: decided in full before anything is read.

Works on names, shapes and tables alone (see `mappings.py`); knows no framework.
"""

import re
import warnings
from typing import NamedTuple

import numpy as np

from .base import CheckpointError


class Slot(NamedTuple):
    """A place a table names: a variable here, and how a checkpoint spells it."""

    here: str
    names: tuple  # spellings, the one we write first
    turn: str  # "same", "turn" or "rows"


def slots(table, roles, format, blocks):
    """All `Slot`s of a table for a model of `blocks` blocks, in the spelling of `format`."""
    column = {"tf": 2, "hf": 3}[format]
    for row in table:
        role, here, there = row[0], row[1], row[column]
        for i in range(blocks) if "{i}" in here else [0]:
            for variable, endings, turn in roles[format][role]:
                yield Slot(
                    f"{here.format(i=i)}/{variable}",
                    tuple(there.format(i=i) + ending for ending in endings),
                    turn,
                )


def detect_format(names):
    """`"tf"` or `"hf"`, by the separator in the names."""
    names = list(names)
    return "hf" if sum("." in n for n in names) > sum("/" in n for n in names) else "tf"


def canonical_names(names, slots):
    """Maps the spelling of the tables to the names in the file.

    Files of a bare model lack the prefix (`bert.`) that task models carry, and files saved from
    a data-parallel wrapper carry `module.` in front of everything.
    """
    spelled = {name for slot in slots for name in slot.names}
    prefix = next((n.split(".")[0] + "." for n in spelled if "embeddings." in n), "")
    found = {}
    for name in names:
        plain = name.removeprefix("module.")
        found[plain if plain in spelled or prefix + plain not in spelled else prefix + plain] = name
    return found


def take_rows(array, keep_tokens=None, compound_tokens=None):
    """Rows of a per-token array, for a smaller or larger vocabulary.

    Args:
        array: `(vocabulary, ...)`.
        keep_tokens: ids of the rows to keep, in their new order; all when None.
        compound_tokens: for each row to append, the ids (counted after `keep_tokens`) whose
            average it is, or `(ids, weights)`.
    """
    if keep_tokens is not None:
        array = array[np.asarray(keep_tokens)]
    if not compound_tokens:
        return array
    appended = []
    for item in compound_tokens:
        ids, weights = item if isinstance(item, tuple) else (item, None)
        appended.append(np.average(array[list(ids)].astype("float32"), axis=0, weights=weights))
    return np.concatenate([array, np.asarray(appended, array.dtype)])


def orthogonally_resize(array, shape, window=2):
    """Cuts or repeats every axis to a new length, keeping the norm of the whole.

    A longer axis repeats its entries in groups of `window`, so that an orthogonal matrix stays
    close to a multiple of one. From https://kexue.fm/archives/8444
    """
    norm = np.linalg.norm(array)
    for axis, (old, new) in enumerate(zip(array.shape, shape, strict=True)):
        index = np.arange(old)
        if new > old:
            if old % window:
                raise ValueError(f"an axis of {old} can't be repeated in groups of {window}")
            index = np.repeat(index.reshape(-1, window), -(-new // old), axis=0).reshape(-1)
        array = array.take(index[:new], axis)
    return array * (norm / np.linalg.norm(array))


def match(
    variables,
    checkpoint,
    table,
    roles,
    blocks,
    optional=(),
    skippable=(),
    fingerprints=(),
    keep_tokens=None,
    compound_tokens=None,
    resize=None,
    ignore_invalid=False,
    where="the checkpoint",
):
    """Pairs variables with the arrays of a checkpoint, strictly and by name.

    Args:
        variables: path -> shape, of the model.
        checkpoint: mapping name -> array; one with `.shape(name)` is not read here.
        table, roles, optional, skippable, fingerprints: from `mappings.py`.
        blocks: number of blocks of the model.
        keep_tokens, compound_tokens: see `take_rows`.
        resize: `(path, array, shape) -> array`, for arrays of another shape; None: an error.
        ignore_invalid: leave out what is missing or of another shape, with a warning.
        where: the checkpoint, in messages.

    Returns:
        path -> function without arguments that reads the array for that variable.

    Raises:
        CheckpointError: lists what is missing (`-`), what does not belong to a model of this
            size (`+`) and what has another shape (`!`).
    """
    format = detect_format(checkpoint)
    known = list(slots(table, roles, format, blocks))
    found = canonical_names(checkpoint, known)
    shape_of = getattr(checkpoint, "shape", lambda name: np.shape(checkpoint[name]))
    minus, wrong, plan = [], [], {}

    for slot in known:
        if slot.here not in variables:
            continue
        name = next((found[n] for n in slot.names if n in found), None)
        if name is None and slot.here.endswith(tuple(optional)):
            continue
        if name is None:
            minus.append(f"- {slot.names[0]}  (for {slot.here})")
            continue
        shape, stored = tuple(variables[slot.here]), tuple(shape_of(name))
        expected = shape[::-1] if slot.turn == "turn" else shape
        if slot.turn == "rows" and (keep_tokens is not None or compound_tokens):
            kept = stored[0] if keep_tokens is None else len(keep_tokens)
            expected = (
                (stored[0], *shape[1:]) if kept + len(compound_tokens or ()) == shape[0] else shape
            )
        fits = stored == expected
        if not fits and not (resize and len(stored) == len(expected)):
            wrong.append(f"! {name}: {stored} in the checkpoint, {expected} in the model")
            continue

        def read(name=name, slot=slot, shape=shape):
            array = np.asarray(checkpoint[name])
            if slot.turn == "turn":
                array = array.T
            elif slot.turn == "rows":
                array = take_rows(array, keep_tokens, compound_tokens)
            return array if array.shape == shape else resize(slot.here, array, shape)

        plan[slot.here] = read

    names = {n for slot in known for n in slot.names}
    plus = [n for n in found if n not in names and not any(re.fullmatch(p, n) for p in skippable)]
    deeper = _deeper(table, format)
    too_deep = [f"+ {found[n]}" for n in plus if deeper.fullmatch(n)]

    if (minus or wrong) and ignore_invalid:
        warnings.warn(f"{where}: ignored, as asked:\n" + "\n".join(minus + wrong), stacklevel=2)
    elif minus or wrong or too_deep:
        lines = minus + wrong + (too_deep or [f"+ {found[n]}" for n in plus])
        raise CheckpointError(
            f"{where} does not fit the model (- missing, + left over, ! another shape):\n"
            + "\n".join(lines[:40] + [f"... and {len(lines) - 40} more"] * (len(lines) > 40))
            + _hint(checkpoint, fingerprints, bool(plan), bool(too_deep), blocks)
        )
    elif plus:
        some = ", ".join(sorted(found[n] for n in plus)[:8]) + ", ..." * (len(plus) > 8)
        warnings.warn(f"{where}: left unused, {len(plus)} arrays: {some}", stacklevel=2)
    return plan


def _deeper(table, format):
    """Matches every name that a block of any number would have."""
    column = {"tf": 2, "hf": 3}[format]
    heads = [re.escape(row[column]).replace(r"\{i\}", r"\d+") for row in table if "{i}" in row[1]]
    return re.compile(f"({'|'.join(heads)})[./].*" if heads else "$^")


def _hint(checkpoint, fingerprints, some_fit, too_deep, blocks):
    if too_deep:
        return f"\nThe checkpoint has more blocks than the config's num_hidden_layers={blocks}."
    family = next(
        (
            family
            for pattern, family in fingerprints
            if any(re.match(pattern, n) for n in checkpoint)
        ),
        None,
    )
    if family and (not some_fit or family != "bert"):
        return f"\nThe names look like those of model={family!r}."
    if some_fit:
        return (
            "\nMost names fit: build without the heads that are missing, or pass "
            "ignore_invalid_weights=True to start those weights at random."
        )
    return "\nNo family of this toolkit has such names: is this the right file?"
