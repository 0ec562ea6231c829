"""Which array of a checkpoint goes into which variable: decided in full before anything is read.

Works on names, shapes and tables alone (see `mappings.py`); knows no framework.
"""

import re
import warnings
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import ml_dtypes
import numpy as np

from ..parsing import excerpt, first_lines, shown
from .base import CheckpointError, FormatError, release

COLUMN = {"keras": 1, "tf": 2, "hf": 3}  # of a row: (role, here, TensorFlow, Hugging Face)
MOST_BLOCKS = 128  # of a stack, that a checkpoint is searched for and a model may have
PIECE = 1 << 20  # values of an array that are looked at at a time
STACKS = ("encoder_", "decoder_")  # begin the names of the layers of an encoder-decoder


class Slot(NamedTuple):
    """A place a table names: a variable here, and how a checkpoint holds it."""

    here: str
    names: tuple  # spellings, the one we write first
    how: str  # "same", "turn", "rows" or "turned rows"
    part: tuple | None  # (which, of how many) equal parts of the last axis, turned

    def loaded(self, array):
        """What is stored, as the variable."""
        array = array.T if "turn" in self.how else array
        return np.split(array, self.part[1], axis=-1)[self.part[0]] if self.part else array

    def loaded_shape(self, shape):
        shape = shape[::-1] if "turn" in self.how else shape
        return (*shape[:-1], shape[-1] / self.part[1]) if self.part and shape else shape


def slots(table, roles, format, sizes):
    """All `Slot`s of a table, in the spelling of `format`.

    Args:
        sizes: how many blocks each counter of the table runs over, e.g. `{"i": 12}`.
    """
    for row in table:
        role, here, there = row[0], row[1], row[COLUMN[format]]
        if there is None:
            continue
        spelled = (there,) if isinstance(there, str) else there
        counter = re.search(r"{(\w)}", here)
        for n in range(sizes[counter[1]]) if counter else [0]:
            count = {counter[1]: n} if counter else {}
            prefixes = [prefix.format(**count) for prefix in spelled]
            for variable, endings, how, *part in roles[format][role]:
                yield Slot(
                    f"{here.format(**count)}/{variable}",
                    tuple(prefix + ending for prefix in prefixes for ending in endings),
                    how,
                    part[0] if part else None,
                )


def layers_of(table, roles):
    """The layers of a table and their variables in files of Keras, of as many blocks as there may be.

    Returns:
        Path of a layer -> key in the file -> path of the variable.
    """
    layers = {}
    for slot in slots(table, roles, "keras", {"i": MOST_BLOCKS, "j": MOST_BLOCKS}):
        paths = layers.setdefault(slot.here.rpartition("/")[0], {})
        if slot.here not in paths.values():
            paths[str(len(paths))] = slot.here
    return layers


def detect_format(names):
    """`"keras"` for a file of Keras; else `"tf"` or `"hf"`, by the separator in the names."""
    if getattr(names, "format", None) == "keras":
        return "keras"
    names = list(names)
    return "hf" if sum("." in n for n in names) > sum("/" in n for n in names) else "tf"


def canonical_names(names, slots):
    """Maps the spelling of the tables to the names in the file.

    Files of a bare model lack the prefix (`bert.`) that task models carry, and files of some ports
    carry another family's. (For those of wrappers see `foreign.unwrapped`.) One prefix counts for a
    whole file: what stands behind others is another model, and keeps its names.
    """
    slots = list(slots)
    prefix = slots[0].names[0].split(".")[0] + "." if slots else ""
    body = {n for slot in slots for n in slot.names if n.startswith(prefix)}
    exact, bare, others = {}, {}, {}
    for name in names:
        first, _, rest = name.partition(".")
        if name in body:
            exact[name] = name
        elif prefix + name in body:
            bare[name] = prefix + name
        elif prefix + rest in body:
            others.setdefault(first, {})[name] = prefix + rest
    one_other = next(iter(others.values())) if len(others) == 1 else {}
    meant = exact or bare or one_other
    return {meant.get(name, name): name for name in names}


def block_counts(table, format, names):
    """How many blocks the names of a checkpoint have, for each counter of the table."""
    counts = {}
    for counter, pattern in _block_patterns(table, format):
        found = [int(m[1]) + 1 for m in map(pattern.match, names) if m]
        counts[counter] = max([counts.get(counter, 0), *found])
    return counts


class Located(NamedTuple):
    """Where a table's variable is in a checkpoint, and how to read it.

    Attributes:
        name: of the array.
        stored: its shape.
        shape: as a variable.
        read: gives the variable.
    """

    name: str
    stored: tuple
    shape: tuple
    read: callable


def locate(checkpoint, table, roles):
    """Everything of a checkpoint that a table has a place for, whatever the size of the model.

    Returns:
        path -> `Located`, and the count of blocks for each counter of the table.
    """
    format = detect_format(checkpoint)
    known = list(slots(table, roles, format, {"i": MOST_BLOCKS, "j": MOST_BLOCKS}))
    found = canonical_names(checkpoint, known)
    located = {}
    for slot in known:
        name = next((found[n] for n in slot.names if n in found), None)
        if name is not None:
            stored = tuple(_shape(checkpoint, name))
            read = partial(_loaded, checkpoint, name, slot)
            located[slot.here] = Located(name, stored, slot.loaded_shape(stored), read)
    return located, block_counts(table, format, found)


def has_names(paths, checkpoint, table, roles, sizes, optional=()):
    """Whether a checkpoint has a name for each of these variables that a table has a place for.

    Args:
        paths: of the variables; table, roles, sizes, optional: see `match`.
    """
    known = list(slots(table, roles, detect_format(checkpoint), sizes))
    found = canonical_names(checkpoint, known)
    return all(
        any(name in found for name in slot.names)
        for slot in known
        if slot.here in paths and not slot.here.endswith(tuple(optional))
    )


def unknown_names(checkpoint, table, roles, known_elsewhere):
    """The names of a checkpoint that neither a table nor the patterns of `known_elsewhere` have."""
    format = detect_format(checkpoint)
    known = list(slots(table, roles, format, {"i": MOST_BLOCKS, "j": MOST_BLOCKS}))
    spelled = {name for slot in known for name in slot.names}
    return [
        name
        for there, name in canonical_names(checkpoint, known).items()
        if there not in spelled and not any(re.fullmatch(p, there) for p in known_elsewhere)
    ]


def _loaded(checkpoint, name, slot):
    return slot.loaded(np.asarray(checkpoint[name]))


def _shape(checkpoint, name):
    return checkpoint.shape(name) if hasattr(checkpoint, "shape") else np.shape(checkpoint[name])


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
        ids, weights = _ids_and_weights(item)
        appended.append(np.average(array[list(ids)].astype("float32"), axis=0, weights=weights))
    return np.concatenate([array, np.asarray(appended, array.dtype)])


def _ids_and_weights(item):
    return item if isinstance(item, tuple) and len(item) == 2 else (item, None)


def check_rows(count, keep_tokens=None, compound_tokens=None):
    """Raises unless `keep_tokens` and `compound_tokens` are ids of rows.

    Args:
        count: of the rows that there are.
        keep_tokens, compound_tokens: see `take_rows`.

    Raises:
        ValueError: names the argument.
    """

    def check(name, ids, count):
        try:
            found = np.asarray(list(ids))
        except (TypeError, ValueError):
            found = np.array(None)
        whole = found.ndim == 1 and found.dtype.kind in "iu"
        if not whole or not 0 <= found.min() <= found.max() < count:
            raise ValueError(
                f"{name}: expected a list of ids from 0 to {count - 1}, got {shown(ids)}."
            )

    if keep_tokens is not None:
        check("keep_tokens", keep_tokens, count)
        count = len(keep_tokens)
    if not isinstance(compound_tokens, list | tuple | None):
        raise ValueError(
            f"compound_tokens: expected a list of lists, got {shown(compound_tokens)}."
        )
    for number, item in enumerate(compound_tokens or ()):
        ids, weights = _ids_and_weights(item)
        check(f"compound_tokens, number {number}", ids, count)
        if weights is not None and not _are_weights(weights, len(ids)):
            raise ValueError(
                f"compound_tokens, number {number}: expected {len(ids)} weights whose sum is not 0, "
                f"got {shown(weights)}."
            )


def _are_weights(values, count):
    """Whether values are numbers to average so many rows by."""
    try:
        found = np.asarray(list(values))
    except (TypeError, ValueError):
        return False
    numbers = found.shape == (count,) and found.dtype.kind in "iuf"
    return numbers and bool(np.isfinite(found).all() and found.sum())


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
    kept = np.linalg.norm(array)
    return array * (norm / kept) if kept else array  # zeros, as many biases are, stay zeros


def match(
    variables,
    checkpoint,
    table,
    roles,
    sizes,
    optional=(),
    skippable=(),
    copies=(),
    elsewhere=(),
    without=(),
    dtypes=MappingProxyType({}),
    keep_tokens=None,
    compound_tokens=None,
    resize=None,
    ignore_invalid=False,
    where="the checkpoint",
    hint=lambda: "",
):
    """Pairs variables with the arrays of a checkpoint, strictly and by name.

    Args:
        variables: path -> shape, of the model.
        checkpoint: mapping name -> array; one with `.shape(name)` is not read here.
        table, roles, optional, skippable, copies: from `mappings.py`.
        elsewhere: names of layers that some family's table has: if this one lacks it, its
            variables are missing. (Layers of a user's own start at random.)
        without: layer -> option that leaves it out of the model, for messages.
        sizes: number of blocks of the model, for each counter of the table.
        dtypes: path -> dtype of a variable, where that is not float32.
        keep_tokens, compound_tokens: see `take_rows`.
        resize: `(path, array, shape) -> array`, for arrays of another shape; None: an error.
        ignore_invalid: leave out what is missing or of another shape, with a warning.
        where: the checkpoint, in messages.
        hint: `() -> str`, what else to say when names do not fit at all.

    Returns:
        path -> function without arguments that reads the array for that variable.

    Raises:
        CheckpointError: lists what is missing (`-`), what does not belong to a model of this
            size (`+`) and what has another shape, or other numbers (`!`).
    """
    format = detect_format(checkpoint)
    known = list(slots(table, roles, format, sizes))
    if format == "keras":  # which also holds what is in no table
        own = (Slot(path, (path,), "same", None) for path in variables)
        known = list({slot.here: slot for slot in (*own, *known)}.values())
    found = canonical_names(checkpoint, known)
    minus, wrong, plan, used = {}, [], {}, set()

    unbuilt = []
    for slot in known:
        name = next((found[n] for n in slot.names if n in found), None)
        if slot.here not in variables:
            layer = slot.here.split("/")[0]
            if name is not None and layer not in without and not layer.startswith(STACKS):
                unbuilt.append(name)
            continue
        if name is None and slot.here.endswith(tuple(optional)):
            continue
        if name is None:
            place = f"  (for {slot.here})" if slot.names[0] != slot.here else ""
            minus[slot.here] = f"- {slot.names[0]}{place}"
            continue
        used.add(name)
        if unfit := _unfit_numbers(checkpoint, name, dtypes.get(slot.here, "float32")):
            wrong.append(f"! {excerpt(name)}: {unfit}")
            continue
        wrong += _differing_spellings(checkpoint, name, slot, found)
        shape, stored = tuple(variables[slot.here]), tuple(_shape(checkpoint, name))
        loaded = slot.loaded_shape(stored)
        expected = shape
        if "rows" in slot.how and loaded and (keep_tokens is not None or compound_tokens):
            check_rows(loaded[0], keep_tokens, compound_tokens)
            kept = loaded[0] if keep_tokens is None else len(keep_tokens)
            if kept + len(compound_tokens or ()) == shape[0]:
                expected = (loaded[0], *shape[1:])
        resizable = len(loaded) == len(expected) and all(n > 0 and n == int(n) for n in loaded)
        if loaded != expected and not (resize and resizable):
            wrong.append(
                f"! {excerpt(name)}: {stored} in the checkpoint, {_stored(slot, expected)} in the model"
            )
            continue

        def read(name=name, slot=slot, shape=shape):
            array = _loaded(checkpoint, name, slot)
            if "rows" in slot.how:
                array = take_rows(array, keep_tokens, compound_tokens)
            return array if array.shape == shape else resize(slot.here, array, shape)

        plan[slot.here] = read

    placed = {slot.here for slot in known}
    minus |= {
        path: f"- {path}: checkpoints of this family and format have no such weights"
        for path in variables
        if path not in placed and path.split("/")[0] in elsewhere
    }

    tokens = next((found[n] for slot in known[:1] for n in slot.names if n in found), None)
    for name in checkpoint:
        if name in used or not any(re.fullmatch(pattern, name) for pattern in copies):
            continue
        if tokens is not None and not is_copy(checkpoint, name, tokens):
            wrong.append(
                f"! {excerpt(name)}: differs from {excerpt(tokens)}, of which it should be a copy; if it is a head of "
                "its own, build with tie_word_embeddings=False"
            )

    names = {n for slot in known for n in slot.names}
    known_elsewhere = [*skippable, *copies]
    plus = [
        n for n in found if n not in names and not any(re.fullmatch(p, n) for p in known_elsewhere)
    ]
    deeper = [pattern for _, pattern in _block_patterns(table, format)]
    too_deep = [f"+ {excerpt(found[n])}" for n in plus if any(p.match(n) for p in deeper)]

    if (minus or wrong) and ignore_invalid:
        lines = [*minus.values(), *wrong]
        warnings.warn(f"{where}: ignored, as asked:\n" + "\n".join(lines), stacklevel=2)
    elif minus or wrong or too_deep:
        lines = [*minus.values(), *wrong, *(too_deep or [f"+ {excerpt(found[n])}" for n in plus])]
        raise CheckpointError(
            f"{where} does not fit the model (- missing, + left over, ! another shape):\n"
            + first_lines(lines)
            + (_too_deep(sizes) if too_deep else hint() or _hint(plan, minus, without))
        )
    elif plus or unbuilt:
        unused = sorted({*(found[n] for n in plus), *unbuilt} - used)
        if unused:
            some = ", ".join(map(excerpt, unused[:8])) + ", ..." * (len(unused) > 8)
            warnings.warn(f"{where}: left unused, {len(unused)} arrays: {some}", stacklevel=2)
    return plan


def _unfit_numbers(checkpoint, name, dtype):
    """What to say of an array with numbers that a variable of `dtype` cannot hold, or None.

    The values are looked at only if their own dtype has a wider range.
    """
    lazy = hasattr(checkpoint, "dtype")
    stored = np.dtype(checkpoint.dtype(name) if lazy else np.asarray(checkpoint[name]).dtype)
    dtype = np.dtype(dtype)
    if (stored.kind == "O" and lazy) or not _is_floating(dtype):  # the one is an error when read
        return None
    if not _is_floating(stored):
        return f"holds numbers of dtype {stored}; expected floating point numbers"
    if ml_dtypes.finfo(stored).max > ml_dtypes.finfo(dtype).max:
        array = np.asarray(checkpoint[name])
        wide = overflows(array, dtype)
        release(array)
        if wide:
            return f"holds numbers of dtype {stored} that are infinite in {dtype}"
    return None


def overflows(array, dtype):
    """Whether some finite values of an array are infinite in another dtype."""
    with np.errstate(over="ignore"):
        return any((np.isinf(p.astype(dtype)) & ~np.isinf(p)).any() for p in pieces(array))


def _is_floating(dtype):
    return re.match("b?float", dtype.name) is not None  # NumPy has no kind for all of ml_dtypes'


def _differing_spellings(checkpoint, name, slot, found):
    """What to say of a slot's array that is there under other spellings, too, with other values.

    Names that begin otherwise are not its spellings: Google's ELECTRA holds a generator as well.
    """
    model = re.split(r"[./]", slot.names[0])[0]
    spelled = {found[n] for n in slot.names if n in found and re.split(r"[./]", n)[0] == model}
    return [
        f"! {excerpt(name)}: differs from {excerpt(other)}, which is another name of it; leave out one of them"
        for other in sorted(spelled - {name})
        if name in spelled and not is_copy(checkpoint, other, name)
    ]


def is_copy(checkpoint, name, original):
    """Whether two arrays of a checkpoint are equal; a kernel is held against a table turned."""
    turned = name.endswith("/kernel") and not original.endswith("/kernel")
    shape = tuple(_shape(checkpoint, name))
    if (shape[::-1] if turned else shape) != tuple(_shape(checkpoint, original)):
        return False
    first, second = (np.asarray(checkpoint[n]) for n in (name, original))
    first = first.T if turned else first
    equal = all(np.array_equal(*pair) for pair in zip(pieces(first), pieces(second), strict=True))
    release(first)
    release(second)
    return equal


def pieces(array):
    """The rows of an array, some at a time: what is computed of all values would take much memory."""
    array = np.atleast_1d(array)
    rows = max(1, PIECE * len(array) // max(1, array.size))
    return (array[i : i + rows] for i in range(0, len(array), rows))


def gather(arrays, table, roles, format, sizes):
    """What a checkpoint of `format` holds: the name it is written by -> a function that gives it.

    Args:
        arrays: mapping path here -> array; may be lazy.
        table, roles, sizes: see `match`.

    Raises:
        FormatError: the format has no name for one of the arrays.
    """
    places = {}
    for slot in slots(table, roles, format, sizes):
        if slot.here in arrays:
            places.setdefault(slot.names[0], []).append(slot)
    nameless = arrays.keys() - {slot.here for group in places.values() for slot in group}
    if nameless:
        raise FormatError(
            f"format={format!r} has no name for {', '.join(sorted(nameless)[:5])}: use "
            + ("format='tf' or 'keras'." if format == "hf" else "format='hf' or 'keras'.")
        )

    def stored(group):
        parts = [np.asarray(arrays[slot.here]) for slot in group]
        array = np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
        return array.T if "turn" in group[0].how else array

    return {name: partial(stored, group) for name, group in places.items()}


def _stored(slot, shape):
    """The shape that a checkpoint would have to hold for a variable."""
    shape = (*shape[:-1], shape[-1] * slot.part[1]) if slot.part else shape
    return shape[::-1] if "turn" in slot.how else shape


def _block_patterns(table, format):
    """For every row of a block: its counter, and what matches its names in a block of any number."""
    for row in table:
        counter, there = re.search(r"{(\w)}", row[1]), row[COLUMN[format]]
        for prefix in (there,) if isinstance(there, str) else there or ():
            if counter and "{" in prefix:
                escaped = re.sub(r"\\{\w(:[^}]*)?\\}", r"(\\d{1,9})", re.escape(prefix))
                yield counter[1], re.compile(escaped + r"([./]|$)")


def _too_deep(sizes):
    blocks = " and ".join(str(n) for n in sizes.values())
    return f"\nThe checkpoint has more blocks than the config's num_hidden_layers={blocks}."


def _hint(plan, minus, without):
    if not plan:
        return "\nNo family of this toolkit has such names: is this the right file?"
    layers = {path.split("/")[0] for path in minus}
    options = sorted({without[layer] for layer in layers & set(without)})
    leave_out = f"pass {', '.join(options)} to leave out what is missing, or " if options else ""
    return (
        f"\nMost names fit: {leave_out}pass ignore_invalid_weights=True to start those weights at "
        "random."
    )
