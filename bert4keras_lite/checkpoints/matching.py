"""Matches the arrays of a checkpoint to the variables of a model, before any array is read.

Uses names, shapes and tables only (see `mappings.py`), and no framework.
"""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from typing import NamedTuple

import ml_dtypes
import numpy as np

from ..parsing import excerpt, first_lines, shown
from .base import CheckpointError, FormatError, release

__all__ = [
    "EXACT",
    "MOST_BLOCKS",
    "LazyArrays",
    "MatchOptions",
    "ModelWeights",
    "check_rows",
    "detect_format",
    "gather",
    "has_names",
    "is_copy",
    "layers_of",
    "locate",
    "match",
    "orthogonally_resize",
    "pieces",
    "take_rows",
    "unfit_numbers",
    "unknown_names",
]

COLUMN = {"keras": 1, "tf": 2, "hf": 3}  # of a row: (role, layer_path, TensorFlow, Hugging Face)
MOST_BLOCKS = 128  # per stack, in a model and in the search through a checkpoint
PIECE = 1 << 20  # number of values that are compared at a time
STACKS = ("encoder_", "decoder_")  # prefixes of the layers of an encoder-decoder


class WeightEntry(NamedTuple):
    """A variable in a table, and how a checkpoint stores it.

    Attributes:
        path: of the variable.
        names: of the array in a checkpoint; the first is the one that we write.
        transpose: whether the array is the transpose of the variable.
        per_token: whether the variable has one row for each token of the vocabulary.
        as_row: whether the array is a matrix whose only row is the variable.
        part: `(index, count)`: the variable is one of `count` equal parts of the last axis, after
            transposing; None: it is the whole array.
    """

    path: str
    names: tuple
    transpose: bool = False
    per_token: bool = False
    as_row: bool = False
    part: tuple | None = None

    def loaded(self, array):
        """Converts an array of a checkpoint to the value of the variable."""
        array = array[0] if self.as_row else array
        array = array.T if self.transpose else array
        return np.split(array, self.part[1], axis=-1)[self.part[0]] if self.part else array

    def loaded_shape(self, shape):
        """The shape of `loaded(array)`, given that of the array."""
        if self.as_row:  # any other shape stays as it is, and fits no variable
            return shape[1:] if len(shape) == 2 and shape[0] == 1 else (0, *shape)
        shape = shape[::-1] if self.transpose else shape
        return (*shape[:-1], shape[-1] / self.part[1]) if self.part and shape else shape


def weight_entries(table, roles, format, sizes):
    """Yields each `WeightEntry` of a table, with the names of `format`.

    Args:
        table, roles: from `mappings.py`.
        format: `"keras"`, `"tf"` or `"hf"`.
        sizes: number of blocks for each counter of the table, e.g. `{"i": 12}`.
    """
    for row in table:
        role, layer_path, column = row[0], row[1], row[COLUMN[format]]
        if column is None:
            continue
        templates = (column,) if isinstance(column, str) else column
        counter = re.search(r"{(\w)}", layer_path)
        for n in range(sizes[counter[1]]) if counter else [0]:
            count = {counter[1]: n} if counter else {}
            prefixes = [template.format(**count) for template in templates]
            for variable, endings, storage, *part in roles[format][role]:
                yield WeightEntry(
                    f"{layer_path.format(**count)}/{variable}",
                    tuple(prefix + ending for prefix in prefixes for ending in endings),
                    *storage,
                    part[0] if part else None,
                )


def layers_of(table, roles):
    """Lists the layers of a table and their variables in Keras files, for `MOST_BLOCKS` blocks.

    Returns:
        Path of a layer -> key in the file -> path of the variable.
    """
    layers = {}
    for entry in weight_entries(table, roles, "keras", {"i": MOST_BLOCKS, "j": MOST_BLOCKS}):
        paths = layers.setdefault(entry.path.rpartition("/")[0], {})
        if entry.path not in paths.values():
            paths[str(len(paths))] = entry.path
    return layers


def detect_format(names):
    """Returns `"keras"` for a Keras file, else `"tf"` or `"hf"`, by the separator in the names."""
    if getattr(names, "format", None) == "keras":
        return "keras"
    names = list(names)
    return "hf" if sum("." in n for n in names) > sum("/" in n for n in names) else "tf"


def canonical_names(names, weight_entries):
    """Maps the names of the tables to the names in the file.

    Files of a bare model lack the prefix (`bert.`) that task models have, and some ports have the
    prefix of another family. (For prefixes of wrappers, see `dialects.unwrapped`.) One prefix
    counts for a whole file: names with another prefix belong to another model, and are kept.
    """
    weight_entries = list(weight_entries)
    prefix = weight_entries[0].names[0].split(".")[0] + "." if weight_entries else ""
    body = {n for entry in weight_entries for n in entry.names if n.startswith(prefix)}
    exact, bare, others = {}, {}, {}
    for name in names:
        first, _, rest = name.partition(".")
        if name in body:
            exact[name] = name
        elif prefix + name in body:
            bare[name] = prefix + name
        elif prefix + rest in body:
            others.setdefault(first, {})[name] = prefix + rest
    single_other = next(iter(others.values())) if len(others) == 1 else {}
    canonical = exact or bare or single_other
    return {canonical.get(name, name): name for name in names}


def block_counts(table, format, names):
    """Counts the blocks in the names of a checkpoint, for each counter of the table."""
    counts = {}
    for counter, pattern in _block_patterns(table, format):
        numbers = [int(m[1]) for m in map(pattern.match, names) if m]
        counts[counter] = max([counts.get(counter, 0), *(n + 1 for n in numbers)])
    return counts


class Located(NamedTuple):
    """The array of a checkpoint that holds a variable of a table.

    Attributes:
        name: of the array.
        stored: shape of the array.
        shape: shape of the variable.
        read: function without arguments that returns the value of the variable.
    """

    name: str
    stored: tuple
    shape: tuple
    read: Callable[[], np.ndarray]


def locate(checkpoint, table, roles):
    """Finds all arrays of a checkpoint that a table lists, for a model of any size.

    Returns:
        path -> `Located`, and the number of blocks for each counter of the table.
    """
    format = detect_format(checkpoint)
    known = list(weight_entries(table, roles, format, {"i": MOST_BLOCKS, "j": MOST_BLOCKS}))
    file_names = canonical_names(checkpoint, known)
    located = {}
    for entry in known:
        name = next((file_names[n] for n in entry.names if n in file_names), None)
        if name is not None:
            stored = tuple(_shape(checkpoint, name))
            read = partial(_loaded, checkpoint, name, entry)
            located[entry.path] = Located(name, stored, entry.loaded_shape(stored), read)
    return located, block_counts(table, format, file_names)


def has_names(paths, checkpoint, table, roles, sizes, optional=()):
    """Whether a checkpoint has an array for each of these variables that a table lists.

    Args:
        paths: of the variables.
        table, roles, sizes, optional: see `ModelWeights`.
    """
    known = list(weight_entries(table, roles, detect_format(checkpoint), sizes))
    file_names = canonical_names(checkpoint, known)
    return all(
        any(name in file_names for name in entry.names)
        for entry in known
        if entry.path in paths and not entry.path.endswith(tuple(optional))
    )


def unknown_names(checkpoint, table, roles, known_elsewhere):
    """Lists the names of a checkpoint that are not in a table or matched by `known_elsewhere`."""
    format = detect_format(checkpoint)
    known = list(weight_entries(table, roles, format, {"i": MOST_BLOCKS, "j": MOST_BLOCKS}))
    in_table = {name for entry in known for name in entry.names}
    return [
        name
        for canonical, name in canonical_names(checkpoint, known).items()
        if canonical not in in_table
        and not any(re.fullmatch(pattern, canonical) for pattern in known_elsewhere)
    ]


def _loaded(checkpoint, name, entry):
    return entry.loaded(np.asarray(checkpoint[name]))


def _shape(checkpoint, name):
    return checkpoint.shape(name) if hasattr(checkpoint, "shape") else np.shape(checkpoint[name])


def take_rows(array, keep_tokens=None, compound_tokens=None):
    """Selects and appends rows of a per-token array, for a smaller or larger vocabulary.

    Args:
        array: `(vocabulary, ...)`.
        keep_tokens: ids of the rows to keep, in their new order; None: all.
        compound_tokens: for each row to append, the ids whose rows it is the average of, or
            `(ids, weights)`; ids count after `keep_tokens`.

    Returns:
        `(new vocabulary, ...)`.
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
    """Checks that `keep_tokens` and `compound_tokens` are ids of rows.

    Args:
        count: number of rows.
        keep_tokens, compound_tokens: see `take_rows`.

    Raises:
        ValueError: an id is not one of a row, or weights are not numbers.
    """

    def check(name, ids, count):
        try:
            array = np.asarray(list(ids))
        except (TypeError, ValueError):
            array = np.array(None)
        are_integers = array.ndim == 1 and array.dtype.kind in "iu"
        if not are_integers or not 0 <= array.min() <= array.max() < count:
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
                f"compound_tokens, number {number}: expected {len(ids)} weights with a sum other "
                f"than 0, got {shown(weights)}."
            )


def _are_weights(values, count):
    """Whether values are `count` finite numbers with a sum other than 0."""
    try:
        array = np.asarray(list(values))
    except (TypeError, ValueError):
        return False
    are_numbers = array.shape == (count,) and array.dtype.kind in "iuf"
    return are_numbers and bool(np.isfinite(array).all() and array.sum())


def orthogonally_resize(array, shape, window=2):
    """Truncates or repeats each axis to a new length; the norm of the array stays the same.

    A longer axis repeats its entries in groups of `window`, so that an orthogonal matrix stays
    close to a multiple of an orthogonal matrix.

    Raises:
        ValueError: an axis is to be longer, and its length is not a multiple of `window`.

    Reference:
        https://kexue.fm/archives/8444
    """
    norm = np.linalg.norm(array)
    for axis, (old, new) in enumerate(zip(array.shape, shape, strict=True)):
        index = np.arange(old)
        if new > old:
            if old % window:
                raise ValueError(
                    f"axis {axis}: has the length {old}; expected a multiple of {window}, to "
                    f"repeat it up to {new}."
                )
            index = np.repeat(index.reshape(-1, window), -(-new // old), axis=0).reshape(-1)
        array = array.take(index[:new], axis)
    kept = np.linalg.norm(array)
    return array * (norm / kept) if kept else array  # zeros, as many biases are, stay zeros


@dataclass(frozen=True)
class ModelWeights:
    """The variables of a model, and what a checkpoint of its family may have.

    Attributes:
        shapes: path -> shape of the variable.
        table, roles: from `mappings.py`.
        sizes: number of blocks of the model, for each counter of the table.
        dtypes: path -> dtype of the variable, where that is not float32.
        optional: endings of the paths of variables that a checkpoint need not have.
        skippable: patterns of names that a checkpoint may have without a variable for them.
        copies: patterns of names of arrays that must be equal to the token table.
        elsewhere: names of layers that the table of some family has: if this table lacks them,
            their variables count as missing. (Other layers are the user's and start at random.)
        without: layer -> option that builds the model without it, for messages.
        resize: `(path, array, shape) -> array`, for `autoresize_weights`.
    """

    shapes: Mapping
    table: Sequence
    roles: Mapping
    sizes: Mapping
    dtypes: Mapping = field(default_factory=dict)
    optional: Sequence = ()
    skippable: Sequence = ()
    copies: Sequence = ()
    elsewhere: Set = frozenset()
    without: Mapping = field(default_factory=dict)
    resize: Callable | None = None

    def entries(self, format):
        """Lists each `WeightEntry` that a checkpoint of this format may have."""
        entries = list(weight_entries(self.table, self.roles, format, self.sizes))
        if format != "keras":
            return entries
        untabled = (WeightEntry(path, (path,)) for path in self.shapes)  # layers of no table
        return list({entry.path: entry for entry in (*untabled, *entries)}.values())


@dataclass(frozen=True)
class MatchOptions:
    """How the arrays of a checkpoint may differ from the variables of a model.

    Attributes:
        keep_tokens, compound_tokens: see `take_rows`.
        autoresize_weights: whether to resize arrays of another shape; False: these are errors.
        ignore_invalid_weights: whether to leave out, with a warning, what is missing or has another
            shape.
        new_classifier: whether the classifier of the model is not read.
    """

    keep_tokens: Sequence | None = None
    compound_tokens: Sequence | None = None
    autoresize_weights: bool = False
    ignore_invalid_weights: bool = False
    new_classifier: bool = False


EXACT = MatchOptions()


def match(model, checkpoint, options=EXACT, where="the checkpoint", hint=lambda: ""):
    """Matches variables to the arrays of a checkpoint, strictly by name.

    Names without a variable are left unused: with a warning those of layers that the model does not
    know, such as a classifier; without one `skippable` names, and heads that the model leaves out.
    Parts of a block are never: without them, the block computes something else.

    Args:
        model: a `ModelWeights`.
        checkpoint: mapping name -> array. If it has `.shape(name)`, no array is read.
        options: `MatchOptions`.
        where: the checkpoint, in messages.
        hint: `() -> str`, a hint to add to the error message.

    Returns:
        path -> function without arguments that reads the value of that variable.

    Raises:
        CheckpointError: lists the arrays that are missing (`-`), that do not belong to a model of
            this size or are parts of its blocks that it lacks (`+`), and that have a wrong shape or
            wrong values (`!`).
    """
    format = detect_format(checkpoint)
    known = model.entries(format)
    file_names = canonical_names(checkpoint, known)
    minus, wrong, plan, used, unbuilt = {}, [], {}, set(), []
    for entry in known:
        name = next((file_names[n] for n in entry.names if n in file_names), None)
        if entry.path not in model.shapes:
            layer = entry.path.split("/")[0]
            if name is not None and layer not in model.without and not layer.startswith(STACKS):
                unbuilt.append(name)
            continue
        if name is None:
            if not entry.path.endswith(tuple(model.optional)):
                purpose = f"  (for {entry.path})" if entry.names[0] != entry.path else ""
                minus[entry.path] = f"- {entry.names[0]}{purpose}"
            continue
        used.add(name)
        reason = unfit_numbers(checkpoint, name, model.dtypes.get(entry.path, "float32"))
        if not reason:
            wrong += _differing_duplicates(checkpoint, name, entry, file_names)
            reason = _unfit_shape(model, checkpoint, name, entry, options)
        if reason:
            wrong.append(f"! {excerpt(name)}: {reason}")
        else:
            plan[entry.path] = partial(_value, model, checkpoint, name, entry, options)
    minus |= _untabled(model, known)
    wrong += _differing_copies(model, checkpoint, known, file_names, used)
    plus = _unexpected(model, known, file_names)
    deeper = [pattern for _, pattern in _block_patterns(model.table, format)]
    too_deep = [name for name in plus if any(pattern.match(name) for pattern in deeper)]
    unused = sorted({*(file_names[name] for name in plus), *unbuilt} - used)
    blocks = tuple(_blocks(model.table, format, file_names, used))
    parts = [name for name in unused if name.startswith(blocks)]

    if (minus or wrong or parts) and options.ignore_invalid_weights:
        lines = [*minus.values(), *wrong, *(f"+ {excerpt(name)}" for name in parts)]
        warnings.warn(f"{where}: ignored, as requested:\n" + "\n".join(lines), stacklevel=2)
    elif minus or wrong or too_deep or parts:
        names = [file_names[name] for name in too_deep] or parts
        names = names or [file_names[name] for name in plus]
        unexpected = [f"+ {excerpt(name)}" for name in names]
        advice = hint() or _hint(plan, minus, parts, model.without)
        advice = _too_deep(model.sizes) if too_deep else advice
        raise CheckpointError(
            f"{where} does not match the model (- missing, + unexpected, ! wrong shape or "
            f"values):\n{first_lines([*minus.values(), *wrong, *unexpected])}{advice}"
        )
    elif unused:
        names = ", ".join(map(excerpt, unused[:8])) + ", ..." * (len(unused) > 8)
        warnings.warn(f"{where}: left unused, {len(unused)} arrays: {names}", stacklevel=2)
    return plan


def _value(model, checkpoint, name, entry, options):
    """Reads the value of a variable from the array of this name."""
    array, shape = _loaded(checkpoint, name, entry), tuple(model.shapes[entry.path])
    if entry.per_token:
        array = take_rows(array, options.keep_tokens, options.compound_tokens)
    return array if array.shape == shape else model.resize(entry.path, array, shape)


def _unfit_shape(model, checkpoint, name, entry, options):
    """Tells why a variable cannot have the shape of an array, or returns None."""
    keep, compound = options.keep_tokens, options.compound_tokens
    stored, shape = tuple(_shape(checkpoint, name)), tuple(model.shapes[entry.path])
    loaded, expected = entry.loaded_shape(stored), shape
    if entry.per_token and loaded and (keep is not None or compound):
        check_rows(loaded[0], keep, compound)
        kept = loaded[0] if keep is None else len(keep)
        if kept + len(compound or ()) == shape[0]:
            expected = (loaded[0], *shape[1:])
    resizable = len(loaded) == len(expected) and all(n > 0 and n == int(n) for n in loaded)
    if loaded == expected or (options.autoresize_weights and resizable):
        return None
    return f"{stored} in the checkpoint, {_stored(entry, expected)} in the model"


def _untabled(model, known):
    """Lists the variables that no checkpoint of this family has, as path -> line of a message."""
    tabled = {entry.path for entry in known}
    return {
        path: f"- {path}: checkpoints of this family and format have no such weights"
        for path in model.shapes
        if path not in tabled and path.split("/")[0] in model.elsewhere
    }


def _differing_copies(model, checkpoint, known, file_names, used):
    """Lists the arrays that should be copies of the token table and are not, for a message."""
    tokens = next(
        (file_names[n] for entry in known[:1] for n in entry.names if n in file_names), None
    )
    return [
        f"! {excerpt(name)}: differs from {excerpt(tokens)}, but should be a copy of it; "
        "if it is an untied head, build with tie_word_embeddings=False"
        for name in checkpoint
        if tokens is not None
        and name not in used
        and any(re.fullmatch(pattern, name) for pattern in model.copies)
        and not is_copy(checkpoint, name, tokens)
    ]


def _unexpected(model, known, file_names):
    """Lists the names, as in the tables, that no variable has and that may not be skipped."""
    names = {name for entry in known for name in entry.names}
    patterns = [*model.skippable, *model.copies]
    return [
        name
        for name in file_names
        if name not in names and not any(re.fullmatch(pattern, name) for pattern in patterns)
    ]


def unfit_numbers(checkpoint, name, dtype):
    """Tells why a variable of `dtype` cannot hold the numbers of an array, or returns None.

    The values are read only if their dtype has a wider range.
    """
    dtype = np.dtype(dtype)
    if not _is_floating(dtype):
        return None
    lazy = hasattr(checkpoint, "dtype") and checkpoint.dtype(name).kind != "O"
    # reading the objects of a file raises an error
    stored = np.dtype(checkpoint.dtype(name) if lazy else np.asarray(checkpoint[name]).dtype)
    if not _is_floating(stored):
        return f"holds numbers of dtype {stored}; expected floating point numbers"
    if ml_dtypes.finfo(stored).max > ml_dtypes.finfo(dtype).max:
        array = np.asarray(checkpoint[name])
        too_large = overflows(array, dtype)
        release(array)
        if too_large:
            return f"holds numbers of dtype {stored} that are infinite in {dtype}"
    return None


def overflows(array, dtype):
    """Whether any finite value of an array is infinite in another dtype."""
    with np.errstate(over="ignore"):
        return any((np.isinf(p.astype(dtype)) & ~np.isinf(p)).any() for p in pieces(array))


def _is_floating(dtype):
    return re.match("b?float", dtype.name) is not None  # `kind` is not "f" for all of ml_dtypes


def _differing_duplicates(checkpoint, name, entry, file_names):
    """Lists the arrays for the same variable, under other names, that differ from this one.

    Names that begin with another model do not count: Google's ELECTRA holds a generator as well.
    """
    model = re.split(r"[./]", entry.names[0])[0]
    same_model = [n for n in entry.names if re.split(r"[./]", n)[0] == model]
    duplicates = {file_names[n] for n in same_model if n in file_names}
    return [
        f"! {excerpt(name)}: differs from {excerpt(other)}, which is another name of it; leave out "
        "one of them"
        for other in sorted(duplicates - {name})
        if name in duplicates and not is_copy(checkpoint, other, name)
    ]


def is_copy(checkpoint, name, original):
    """Whether two arrays of a checkpoint are equal; a kernel equals the transpose of a table."""
    transpose = name.endswith("/kernel") and not original.endswith("/kernel")
    shape = tuple(_shape(checkpoint, name))
    if (shape[::-1] if transpose else shape) != tuple(_shape(checkpoint, original)):
        return False
    first, second = (np.asarray(checkpoint[n]) for n in (name, original))
    first = first.T if transpose else first
    equal = all(np.array_equal(*pair) for pair in zip(pieces(first), pieces(second), strict=True))
    release(first)
    release(second)
    return equal


def pieces(array):
    """Splits an array into groups of rows, so that computing with them takes little memory."""
    array = np.atleast_1d(array)
    rows = max(1, PIECE * len(array) // max(1, array.size))
    return (array[i : i + rows] for i in range(0, len(array), rows))


def gather(arrays, table, roles, format, sizes):
    """Converts the variables of a model to the arrays of a checkpoint, lazily.

    Args:
        arrays: mapping path -> value of the variable; may be lazy.
        table, roles, sizes: see `ModelWeights`.
        format: of the checkpoint, `"tf"` or `"hf"`.

    Returns:
        name -> function without arguments that returns the array.

    Raises:
        FormatError: the format has no name for one of the variables.
    """
    groups = {}
    for entry in weight_entries(table, roles, format, sizes):
        if entry.path in arrays:
            groups.setdefault(entry.names[0], []).append(entry)
    nameless = arrays.keys() - {entry.path for group in groups.values() for entry in group}
    if nameless:
        raise FormatError(
            f"format={format!r} has no name for {', '.join(sorted(nameless)[:5])}. Use "
            + ("format='tf' or 'keras'." if format == "hf" else "format='hf' or 'keras'.")
        )

    def stored(group):
        parts = [np.asarray(arrays[entry.path]) for entry in group]
        array = np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
        array = array[None] if group[0].as_row else array
        return array.T if group[0].transpose else array

    return {name: partial(stored, group) for name, group in groups.items()}


class LazyArrays(Mapping):
    """Mapping name -> array, computed on access.

    Args:
        functions: name -> function without arguments that returns the array, as from `match` and
            `gather`.
        dtype: of the arrays; None (default): as they are.
        progress: function that wraps the iterator over the names.

    Raises:
        CheckpointError: on access: an array has finite numbers that are infinite in `dtype`.
    """

    def __init__(self, functions, dtype=None, progress=iter):
        self.functions, self.dtype, self.progress = functions, dtype, progress

    def __getitem__(self, name):
        array = np.asarray(self.functions[name]())
        if self.dtype is None:
            return array
        if overflows(array, self.dtype):
            raise CheckpointError(
                f"dtype={np.dtype(self.dtype)}: {name!r:.200} has numbers of dtype {array.dtype} "
                "that are infinite in it; expected a wider dtype. Choose another, or None."
            )
        return array.astype(self.dtype)

    def __iter__(self):
        return iter(self.progress(self.functions))

    def __len__(self):
        return len(self.functions)

    def __contains__(self, name):
        return name in self.functions


def _stored(entry, shape):
    """The shape that an array must have in a checkpoint, for a variable of this shape."""
    shape = (*shape[:-1], shape[-1] * entry.part[1]) if entry.part else shape
    shape = (1, *shape) if entry.as_row else shape
    return shape[::-1] if entry.transpose else shape


def _block_patterns(table, format):
    """Yields `(counter, pattern)` for each name of a block; the pattern matches it in any block."""
    for row in table:
        counter, column = re.search(r"{(\w)}", row[1]), row[COLUMN[format]]
        for prefix in (column,) if isinstance(column, str) else column or ():
            if counter and "{" in prefix:
                escaped = re.sub(r"\\{\w(:[^}]*)?\\}", r"(\\d{1,9})", re.escape(prefix))
                yield counter[1], re.compile(escaped + r"([./]|$)")


def _blocks(table, format, file_names, used):
    """Yields what the names of the parts of each block begin with, in a file.

    Args:
        table: from `mappings.py`.
        format: of the file.
        file_names: name in the tables -> name in the file.
        used: names in the file, of arrays that the model has a variable for.
    """
    columns = [row[COLUMN[format]] or () for row in table if "block" in row[1].split("/")[0]]
    names = [name for names in columns for name in ([names] if isinstance(names, str) else names)]
    patterns = [
        re.sub(r"\\{\w(:.*)?$", r"\\d{1,9}[./]", re.escape(block))
        for block in {name.partition("}")[0] for name in names if "}" in name}
    ]
    if shared := [re.split("(?<=[./])", name) for name in names if "}" not in name]:
        same = takewhile(lambda parts: len(set(parts)) == 1, zip(*shared, strict=False))
        patterns.append(re.escape("".join(part for part, *_ in same)))
    for name, stored in file_names.items():
        if stored in used and (block := re.match("|".join(patterns), name)):
            yield stored[: len(stored) - len(name) + block.end()]


def _too_deep(sizes):
    blocks = " and ".join(str(n) for n in sizes.values())
    return f"\nThe checkpoint has more blocks than the config's num_hidden_layers={blocks}."


def _hint(plan, minus, parts, without):
    if not plan:
        return (
            "\nNo supported model family has these weight names; check that this is the right file."
        )
    if parts:
        return (
            "\nThe blocks of the checkpoint have parts that those of the model lack: without them, "
            "its numbers are others. Pass the right model=, or correct the config; "
            "ignore_invalid_weights=True leaves them out nevertheless."
        )
    layers = {path.split("/")[0] for path in minus}
    options = sorted({without[layer] for layer in layers & set(without)})
    leave_out = f"pass {', '.join(options)} to leave out what is missing, or " if options else ""
    return (
        f"\nMost names match: {leave_out}pass ignore_invalid_weights=True to initialize those "
        "weights at random."
    )
