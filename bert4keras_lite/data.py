"""From files to padded batches: reading, padding, truncation, segmentation, length bucketing."""

import json
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from .arguments import MOST, check_number, checks_flags, expected_number
from .parsing import FREE, excerpt, naming, parse_json, read_json, shown, size_of
from .types import PathLike

__all__ = [
    "Batches",
    "Question",
    "choose_buckets",
    "next_token_labels",
    "pad_samples",
    "read_columns",
    "read_json_lines",
    "read_splits",
    "read_squad",
    "read_tsv",
    "sequence_padding",
    "text_segmentate",
    "truncate_sequences",
]

_LINE = 1 << 16  # bytes of a line of columns
_SEARCHED = 1 << 26  # characters of passages in which answers of a file are searched for
_SLOT = 24  # bytes of memory for an entry of a growing list, besides the item


def sequence_padding(
    inputs: Sequence,
    length: int | Sequence[int] | None = None,
    value: Any = 0,
    seq_dims: int = 1,
    mode: str = "post",
    dtype: Any = None,
) -> np.ndarray:
    """Pads sequences to a common length, as one array.

    Args:
        inputs: the sequences: ragged nested lists, or arrays. Axes after the first `seq_dims`
            must be the same in all of them.
        length: the length to pad to, one integer or one for each padded axis. Longer sequences
            lose their end, in both modes. Default None: the longest sequence, axis by axis.
        value: the padding value. Default 0.
        seq_dims: number of leading axes of each sequence to pad. Default 1.
        mode: side of the padding, `"post"` (right, default) or `"pre"` (left).
        dtype: dtype of the result. Default None: NumPy's result type of the non-empty sequences.

    Returns:
        An array of shape `(len(inputs), *length, *axes that are not padded)`.

    Raises:
        ValueError: `inputs` is empty, `mode` is unknown, or the axes of the sequences do not match
            `seq_dims`.

    Example:
    ```python
    sequence_padding([[1, 2, 3], [4]])                          # [[1, 2, 3], [4, 0, 0]]
    sequence_padding([[1, 2, 3], [4]], length=2, mode="pre")    # [[1, 2], [0, 4]]
    sequence_padding([[[1], [2, 3]], [[4]]], seq_dims=2).shape  # (2, 2, 2)
    ```
    """
    if mode not in ("post", "pre"):
        raise ValueError(f'mode must be "post" or "pre", not {mode!r}.')
    check_number("seq_dims", seq_dims, 1, 32)
    if not hasattr(inputs, "__len__") or len(inputs) == 0:
        raise ValueError(
            f"sequence_padding needs at least one sequence, got none: inputs={shown(inputs)}."
        )
    sequences = [_to_arrays(x, seq_dims) for x in inputs]
    if length is None:
        length = np.max([_extents(x, seq_dims) for x in sequences], axis=0).tolist()
    for number in np.ravel(length):
        check_number("length", number, 0, MOST)
    extents = np.broadcast_to(length, seq_dims)

    specs = {spec for x in sequences for spec in _specs(x, seq_dims)}
    trailing = {shape for shape, _ in specs} or {()}
    if len(trailing) > 1:
        raise ValueError(
            f"seq_dims={seq_dims} pads the first {seq_dims} axes; those after must be the same "
            f"in all sequences, and are {sorted(trailing)}."
        )
    if dtype is None:
        dtype = np.result_type(*{dtype for _, dtype in specs} or {np.asarray(value).dtype})
    _check_value(value, np.dtype(dtype))
    padded = np.full((len(sequences), *extents, *trailing.pop()), value, dtype)
    for target, sequence in zip(padded, sequences, strict=True):
        _fill(target, sequence, seq_dims, mode)
    return padded


def _check_value(value, dtype):
    """Raises ValueError if a dtype cannot hold the padding value, e.g. integers 1.5."""
    if _as_dtype(np.asarray(value), dtype) is None:
        raise ValueError(f"value={shown(value)}: expected one that sequences of {dtype} can hold.")


def _as_dtype(array, dtype):
    """Returns an array in a dtype; None if that cannot hold it: integers 1.5, float32 1e300."""
    if np.can_cast(array.dtype, dtype):
        return array.astype(dtype, copy=False)
    try:
        with np.errstate(invalid="ignore", over="ignore"):
            kept = array.astype(dtype)
        if kept.dtype.kind in "biu":
            fits = np.array_equal(kept, array)
        else:
            fits = kept.dtype.kind != "f" or np.array_equal(np.isinf(kept), np.isinf(array))
    except (TypeError, ValueError, OverflowError):
        return None
    return kept if fits else None


def _to_arrays(x, depth):
    """Returns `x` as nested lists of arrays, which hold the last padded axis and those after it."""
    if depth > 1 and isinstance(x, (list, tuple)):
        return [_to_arrays(child, depth - 1) for child in x]
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise ValueError("inputs: the sequences are ragged in more axes than seq_dims.") from error
    if array.ndim < depth:
        raise ValueError(
            f"inputs: expected a sequence of {depth} axes or more (seq_dims), got {x!r:.60}."
        )
    return array


def _extents(x, depth):
    if isinstance(x, np.ndarray):
        return x.shape[:depth]
    inner = [_extents(child, depth - 1) for child in x] or [(0,) * (depth - 1)]
    return len(x), *np.max(inner, axis=0)


def _specs(x, depth):
    """Yields the (trailing shape, dtype) of each array that is not empty."""
    if not isinstance(x, np.ndarray):
        for child in x:
            yield from _specs(child, depth - 1)
    elif x.size:
        yield x.shape[depth:], x.dtype


def _fill(target, x, depth, mode):
    n = min(len(x), len(target))
    target = target[:n] if mode == "post" else target[len(target) - n :]
    if depth == 1:
        if x.size:
            kept = _as_dtype(x[:n], target.dtype)
            if kept is None:
                raise ValueError(
                    f"inputs: expected items that {target.dtype} can hold, got {shown(x[:n])}. "
                    "Pass another dtype, or correct them."
                )
            target[...] = kept
    else:
        for row, child in zip(target, x[:n], strict=True):
            _fill(row, child, depth - 1, mode)


def truncate_sequences(
    maxlen: int, indices: int | list[int] | tuple[int, ...], *sequences: list
) -> list[list]:
    """Truncates sequences until their total length is at most `maxlen`.

    Items are removed one at a time from the sequence that is longest at that point (the first of
    equals). The sequences are changed in place.

    Args:
        maxlen: the largest total length.
        indices: the index of the item to remove: one for all sequences, or one for each that is
            not empty. `-2` keeps the final `[SEP]`; `1` keeps the `[CLS]` and drops from the left.
        *sequences: lists.

    Returns:
        The list of sequences that are not empty.

    Raises:
        ValueError: `maxlen` is negative, an index is outside of its sequence, or there are fewer
            indices than sequences.

    Example:
    ```python
    truncate_sequences(5, -1, [1, 2, 3, 4], [5, 6, 7])  # [[1, 2], [5, 6, 7]]
    ```
    """
    check_number("maxlen", maxlen, 0, MOST)
    for sequence in sequences:
        if not isinstance(sequence, list | None):
            raise ValueError(f"sequences: expected lists, got {shown(sequence)}.")
    kept = [s for s in sequences if s]
    if not isinstance(indices, (list, tuple)):
        indices = [indices] * len(kept)
    if len(indices) < len(kept):
        raise ValueError(
            f"indices={shown(indices)}: expected one index for each of {len(kept)} sequences."
        )
    for index in indices:
        check_number("indices", index, -MOST, MOST)
    for _ in range(sum(map(len, kept)) - maxlen):
        longest = max(range(len(kept)), key=lambda i: len(kept[i]))
        sequence, index = kept[longest], indices[longest]
        if not -len(sequence) <= index < len(sequence):
            raise ValueError(
                f"indices={shown(indices)}: expected one of the {len(sequence)} items of a"
                " sequence."
            )
        sequence.pop(index)
    return kept


@checks_flags
def text_segmentate(
    text: str, maxlen: int, seps: str = "\n", strips: str | None = None, truncate: bool = True
) -> list[str]:
    """Splits a text at its strongest separators into pieces of at most `maxlen` characters.

    The text is split at the first separator, and pieces that are still too long at the next one.
    Neighbouring pieces are joined again as long as they fit.

    Args:
        text: a string.
        maxlen: the most characters in a piece.
        seps: separators, the strongest first, e.g. `"\\n。！？；，"`. Default `"\\n"`.
        strips: characters to strip from the ends of every piece, besides white space. Default None.
        truncate: whether to split a piece without separators at `maxlen` characters (default).
            With False it stays too long, as in bert4keras.

    Returns:
        A list of strings.

    Example:
    ```python
    text_segmentate("今天下雨。我们在家看书，喝茶。", 8, "。，")
    # ["今天下雨。", "我们在家看书，", "喝茶。"]
    ```
    """
    check_number("maxlen", maxlen, 1, MOST)
    for name, value in (("text", text), ("strips", "" if strips is None else strips)):
        if not isinstance(value, str):
            raise ValueError(f"{name}={shown(value)}: expected a string.")
    if not isinstance(seps, str | list | tuple | None) or not all(
        isinstance(sep, str) and sep for sep in seps or ()
    ):
        raise ValueError(f"seps={shown(seps)}: expected a string, or non-empty strings.")
    text = text.strip().strip(strips)
    if len(text) <= maxlen:
        return [text]
    if not seps:
        return [text[i : i + maxlen] for i in range(0, len(text), maxlen)] if truncate else [text]
    groups = [""]
    for piece in text.split(seps[0]):
        if groups[-1] and piece and len(groups[-1]) + len(piece) + 1 > maxlen:
            groups.append("")
        groups[-1] += piece + seps[0]
    groups[-1] = groups[-1][:-1]  # the separator after the last piece is not in the text
    return [
        piece
        for group in groups
        if group
        for piece in text_segmentate(group, maxlen, seps[1:], strips, truncate)
    ]


@checks_flags
def read_tsv(
    path: PathLike, types: Sequence[Callable[[str], Any]] = (str, int), header: bool = False
) -> list[tuple]:
    """Reads a file of tab-separated columns, such as `text TAB label`.

    Args:
        path: a UTF-8 file, with or without a byte order mark, LF or CRLF. Empty lines are skipped.
        types: a function for each column, called on its text: `(str, int)` (default) for a
            labelled text, `(str, str, int)` for a labelled pair.
        header: whether the first line holds the names of the columns. Default False.

    Returns:
        A list of tuples, one for each line.

    Raises:
        ValueError: a line has another number of columns, a value cannot be converted, or there are
            so many short lines that they take far more memory than the size of the file; the
            message names file and line.

    Example:
    ```python
    read_tsv("sentiment.train.tsv")                        # [("房间很干净。", 1), ...]
    read_tsv("matching.train.tsv", (str, str, int))        # [("怎么退货？", "如何退货？", 1), ...]
    ```
    """
    if not isinstance(types, list | tuple) or not types or not all(map(callable, types)):
        raise ValueError(f"types={shown(types)}: expected one for each column, e.g. (str, int).")
    names = " TAB ".join(getattr(convert, "__name__", str(convert)) for convert in types)
    size = size_of(path)
    rows, room = [], _Room(path, size)
    # Only LF ends a line: str.splitlines would also split at U+2028 and others within a text.
    with naming(path), open(path, "rb") as file:
        for number, content in enumerate(file, 1):
            try:
                line = content.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path}, line {number}: expected text in UTF-8, got {error.reason} at byte"
                    f" {error.start} of the line."
                ) from None
            if not line or (header and number == 1):
                continue
            cells = line.split("\t", len(types))
            try:
                row = tuple(convert(cell) for convert, cell in zip(types, cells, strict=True))
            except (ValueError, LookupError, TypeError, ArithmeticError):
                raise ValueError(
                    f"{path}, line {number}: expected {names}, got {line!r:.80}."
                ) from None
            room.take(number, row)
            rows.append(row)
    return rows


class _Room:
    """Memory for the samples of a file: at most 64 MB and eight times its size."""

    def __init__(self, path, size):
        self.path, self.size, self.left = path, size, 2 * FREE + 8 * size

    def take(self, number, sample):
        """Counts the sample of a line.

        Raises:
            ValueError: the samples take too much memory; names file and line.
        """
        self.left -= _SLOT + _size(sample)
        if self.left < 0:
            raise ValueError(
                f"{self.path}, line {number}: expected rows that take no more memory than"
                f" {self.size} bytes explain, got too many short ones. Join them, or cut the file."
            )


def _size(value):
    """Returns the bytes of memory of a sample; none for small values, which Python shares."""
    if value is None or (type(value) is int and -5 <= value <= 256):
        return 0
    if isinstance(value, str) and value.isascii() and len(value) <= 1:
        return 0
    inner = value if isinstance(value, list | tuple | dict) else ()
    total = sys.getsizeof(value) + sum(map(_size, inner))
    return total + sum(map(_size, value.values())) if isinstance(value, dict) else total


def read_json_lines(path: str | Path, convert: Callable | None = None) -> list:
    """Reads a file of JSON objects, one a line, such as `{"text": "...", "label": 1}`.

    Args:
        path: a UTF-8 file, with or without a byte order mark. Empty lines are skipped.
        convert: a function from an object to a sample, or to None if the line has none (e.g. no
            labels). Default None: the object itself.

    Returns:
        A list of samples.

    Raises:
        ValueError: a line is not JSON, `convert` cannot read it, or there are so many short lines
            that they take far more memory than the size of the file; the message names file and
            line. Or the file is a directory or a pipe.

    Example:
    ```python
    read_json_lines("train.json", lambda row: (row["sentence"], int(row["label"])))
    ```
    """
    samples, room = [], _Room(path, size_of(path))
    with naming(path), open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                row = _parsed(text) if text else None
                sample = row if convert is None or row is None else convert(row)
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                reason = f"no key {error}" if isinstance(error, KeyError) else str(error)
                raise ValueError(
                    f"{path}, line {number}: expected JSON of the form of this data set"
                    f" ({excerpt(reason)}), got {excerpt(line.decode(errors='replace').strip())}."
                ) from None
            if sample is not None:
                room.take(number, sample)
                samples.append(sample)
    return samples


def _parsed(line):
    """Returns the value of a JSON text; a lone surrogate, such as `"\\ud800"`, becomes `?`."""
    row = parse_json(line.encode(), halves=True)
    if "\\ud" in line.lower():
        row = json.loads(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace"))
    return row


def read_columns(path: str | Path, separator: str | None = None) -> list[list[list[str]]]:
    """Reads sentences of a file with a word a line and an empty line after each sentence (CoNLL).

    Args:
        path: a UTF-8 file, with or without a byte order mark.
        separator: separator of the columns. Default None: white space.

    Returns:
        A list of sentences: lists of lines, which are lists of columns.

    Raises:
        ValueError: the file is not UTF-8 text, is a directory or a pipe, or has more columns than
            its size explains the memory of; or a line has more than 65,536 bytes.

    Example:
    ```python
    read_columns("example.dev")  # [[["王", "B-PER"], ["芳", "I-PER"]], ...]
    ```
    """
    sentences: list[list[list[str]]] = [[]]
    room = _Room(path, size_of(path))
    with naming(path), open(path, "rb") as file:
        for number, content in enumerate(iter(partial(file.readline, _LINE + 1), b""), 1):
            if len(content) > _LINE:
                raise ValueError(
                    f"{path}, line {number}: expected at most {_LINE} bytes, a word and its"
                    " labels, got more."
                )
            try:
                line = content.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path}, line {number}: expected text in UTF-8, got {error!s:.200}."
                ) from None
            columns = line.split(separator) if line else []
            if line:
                sentences[-1].append(columns)
            elif sentences[-1]:
                sentences.append([])
            room.take(number, columns)
    return sentences if sentences[-1] else sentences[:-1]


@dataclass(frozen=True)
class Question:
    """A question about a passage (see `read_squad`).

    Attributes:
        passage: text.
        text: the question.
        answers: tuple of texts.
        start: start of the first answer in the passage, in characters; -1 if it is not in it.
    """

    passage: str
    text: str
    answers: tuple[str, ...]
    start: int


def read_squad(path: str | Path) -> list[Question]:
    """Reads the questions of a file in the form of SQuAD, such as CMRC 2018.

    Args:
        path: a JSON file: `data`, a list whose items have `paragraphs`, each with `context` and
            `qas`: `question` and `answers`, each with `text` and `answer_start`.

    Returns:
        A list of `Question`. If the passage does not have the first answer at its start, `start`
        is the nearest position where it has.

    Raises:
        ValueError: the file is not JSON, or has another form; the message names the place.
    """
    data, questions, place, room = read_json(path), [], "data", _SEARCHED
    try:
        for i, article in enumerate(data["data"]):
            for j, paragraph in enumerate(article["paragraphs"]):
                place = f"data[{i}].paragraphs[{j}]"
                for k, row in enumerate(paragraph["qas"]):
                    place = f"data[{i}].paragraphs[{j}].qas[{k}]"
                    question, searched = _question(paragraph["context"], row)
                    questions.append(question)
                    room -= searched
                    if room < 0:
                        raise ValueError(
                            f"{path}, {place}: expected most answers at their answer_start, got"
                            " too many in long passages that are not there."
                        )
    except (AttributeError, LookupError, TypeError) as error:
        raise ValueError(
            f"{path}, {place}: expected the form of SQuAD, got another"
            f" ({type(error).__name__}: {excerpt(error)})."
        ) from None
    return questions


def _question(passage, row):
    """Returns a `Question`, and the characters in which its answer was searched for."""
    answers = tuple(answer["text"] for answer in row["answers"])
    start = row["answers"][0]["answer_start"]
    searched = 0
    if not passage.startswith(answers[0], start):  # some starts are off by a few characters
        start, searched = _nearest(passage, answers[0], start), len(passage)
    return Question(passage, row["question"], answers, start), searched


def _nearest(passage, answer, start):
    """Returns the place of an answer that is nearest to `start`; -1 if there is none."""
    starts = [passage.find(answer, max(start, 0))]
    head = passage[: max(start + len(answer), 0)]
    backwards = head[::-1].find(answer[::-1])  # `rfind` may take time with the square of its length
    starts.append(-1 if backwards < 0 else len(head) - len(answer) - backwards)
    return min((at for at in starts if at >= 0), key=lambda at: (abs(at - start), at), default=-1)


SPLITS = {"train": {"train"}, "valid": {"valid", "dev"}, "test": {"test"}}


def read_splits(path: str | Path, read: Callable[[Path], list]) -> dict[str, list]:
    """Reads the samples of a data set for training, validation and testing.

    Args:
        path: a directory with a file for each split, whose name has `train`, `valid` or `dev`, or
            `test` between dots, underscores or hyphens, e.g. `dev.json` or `train_data.json`. Or
            a file, or a directory without a file for training, of which the first eight tenths of
            the samples are for training, and a tenth for each of the others.
        read: a function from the `Path` of a file (or of the directory without splits) to a list
            of samples; an empty list for a file without labels, or of another data set, which is
            ignored.

    Returns:
        A dict with lists of samples for `"train"`, `"valid"` and `"test"`. Without a test file,
        `"test"` is the same list as `"valid"`, with a warning.

    Raises:
        ValueError: there is no such file, there are no samples for training or validation, or
            fewer than ten to split.

    Example:
    ```python
    samples = read_splits("ocnli", read_json_lines)
    ```
    """
    path = Path(path)
    splits: dict[str, list] = {}
    if not path.exists():
        raise ValueError(f"{path}: expected a file or a directory, got a path that does not exist.")
    if not path.is_dir():
        size_of(path)
        return _cut(path, read)
    files = sorted(file for file in path.iterdir() if file.is_file())
    if not any("train" in file.name for file in files):
        return _cut(path, read)
    for file in files:
        for split, names in SPLITS.items():
            if names & set(re.split("[._-]", file.name)):
                splits[split] = read(file) or splits.get(split, [])
    for split in ("train", "valid"):
        if not splits.get(split):
            raise ValueError(
                f"{path}: expected a file with labels that has {' or '.join(sorted(SPLITS[split]))}"
                f" in its name, got {excerpt([file.name for file in files])}."
            )
    if not splits.get("test"):
        warnings.warn(
            f"{path}: no test file with labels; test scores are those of the valid file.",
            stacklevel=2,
        )
        splits["test"] = splits["valid"]
    return splits


def _cut(path, read):
    expected = "a directory whose files have train and valid (or dev) in their names"
    try:
        samples = read(path)
    except (IsADirectoryError, ValueError) as error:
        if not path.is_dir():
            raise
        raise ValueError(f"{path}: expected {expected} ({error!s:.200}).") from None
    if len(samples) < 10:
        raise ValueError(
            f"{path}: expected at least ten samples, or {expected}, got {len(samples)} samples."
        )
    first, second = (len(samples) * tenths // 10 for tenths in (8, 9))
    return {"train": samples[:first], "valid": samples[first:second], "test": samples[second:]}


def choose_buckets(
    lengths: Sequence[int] | np.ndarray, max_buckets: int = 8, multiple: int = 8
) -> list[int]:
    """Chooses bucket lengths that minimize padding.

    Args:
        lengths: the lengths of the samples, integers of shape `(samples,)`.
        max_buckets: the most lengths to choose. Default 8.
        multiple: the lengths are multiples of this, except that the last is not longer than the
            longest sample. Default 8.

    Returns:
        A sorted list of integers, for which the number of tokens is minimal when each sample is
        padded to the next length in the list. (If the longest sample has more than 256 multiples,
        `multiple` is doubled until it has not.)

    Raises:
        ValueError: `lengths` is empty or not a list of integers, or another argument is below 1.
    """
    check_number("max_buckets", max_buckets, 1, MOST)
    check_number("multiple", multiple, 1, MOST)
    array = np.asarray(lengths)
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iu":
        raise ValueError(f"lengths={shown(array)}: expected integers, one for each sample.")
    array = np.maximum(array, 1)
    longest = int(array.max())
    while longest > 256 * multiple:
        multiple *= 2
    sizes, counts = np.unique(-(-array // multiple) * multiple, return_counts=True)
    sizes = np.minimum(sizes, longest)
    samples = np.concatenate([[0], np.cumsum(counts)])
    # tokens[i, j]: number of tokens if the samples of sizes i..j are padded to size j
    tokens = (samples[None, 1:] - samples[:-1, None]) * sizes.astype("float64")
    tokens[np.tril_indices(len(sizes), -1)] = np.inf
    # fewest[j]: fewest tokens of the first j sizes with the buckets so far; cuts hold where the
    # last bucket begins
    fewest, cuts = np.concatenate([[0], np.full(len(sizes), np.inf)]), []
    for _ in range(min(max_buckets, len(sizes))):
        candidates = fewest[:-1, None] + tokens
        cuts.append(candidates.argmin(axis=0))
        fewest = np.concatenate([[0], candidates.min(axis=0)])
    buckets, end = [], len(sizes)
    for cut in reversed(cuts):
        if end == 0:
            break
        buckets.append(int(sizes[end - 1]))
        end = cut[end - 1]
    return buckets[::-1]


def pad_samples(samples: list, length: int) -> Any:
    """Collates samples into a batch: pads sequences, and stacks everything else.

    Args:
        samples: a list of samples of the same structure: nested tuples and dicts whose leaves
            are numbers, lists or arrays. One-dimensional leaves of the inputs (the first item of a
            tuple, or the whole sample if it is not a tuple) are sequences. Those of targets and
            weights are sequences if in each sample they are as long as one of its inputs; otherwise
            they are stacked.
        length: length to which sequences are padded with zeros.

    Returns:
        The structure of a sample, with an array at each leaf: int32 for integers, float32 for
        floats.

    Raises:
        ValueError: a sequence is longer than `length`, or other leaves differ in shape.
    """
    if not isinstance(samples, list | tuple) or not samples:
        raise ValueError(f"samples={shown(samples)}: expected a list of one or more.")
    check_number("length", length, 0, MOST)
    return _padded(samples, length, sequence_leaves(samples))


def sequence_leaves(samples):
    """Returns the paths of the leaves that `pad_samples` pads.

    Args:
        samples: the samples, see `pad_samples`.

    Returns:
        A set of tuples of keys and indices.

    Raises:
        ValueError: the samples differ in structure.
    """
    paths = parts = None
    for i, sample in enumerate(samples):
        leaves = dict(_leaves(sample))
        if parts is None:
            parts = leaves.keys()
        elif parts != leaves.keys():
            raise ValueError(
                f"samples[{i}] has the parts {_named(leaves)}, and samples[0] has {_named(parts)}; "
                "expected the same in all samples."
            )
        lengths = {path: len(x) for path, x in leaves.items() if _rank(x, i, path) == 1}
        inputs = {n for path, n in lengths.items() if _is_input(sample, path)}
        sequences = {path for path, n in lengths.items() if n in inputs}
        paths = sequences if paths is None else paths & sequences
    return paths


def _named(paths):
    return ", ".join("/".join(map(str, path)) or "0" for path in paths)


def _rank(x, number, path):
    """Returns the number of axes of a leaf."""
    try:
        return np.ndim(x)
    except ValueError:
        raise ValueError(
            f"samples[{number}], part {_named([path])}: expected a number, a list of numbers or an "
            f"array, got {x!r:.80}. Pad it before, or give Batches a collate function."
        ) from None


def _is_input(sample, path):
    return not isinstance(sample, tuple) or path[0] == 0


def _leaves(sample, path=()):
    """Yields `(path, leaf)` for each leaf of a sample."""
    if not isinstance(sample, dict | tuple):
        yield path, sample
        return
    items = sample.items() if isinstance(sample, dict) else enumerate(sample)
    for key, x in items:
        yield from _leaves(x, (*path, key))


def _padded(samples, length, sequences, path=()):
    first = samples[0]
    if isinstance(first, dict):
        return {
            key: _padded([s[key] for s in samples], length, sequences, (*path, key))
            for key in first
        }
    if isinstance(first, tuple):
        return tuple(
            _padded(column, length, sequences, (*path, i))
            for i, column in enumerate(zip(*samples, strict=True))
        )
    if path in sequences:
        longest = max(map(len, samples))
        if longest > length:
            raise ValueError(f"a sequence of {longest} items does not fit in a batch of {length}.")
        array = sequence_padding(samples, length)
    else:
        shapes = {np.shape(sample) for sample in samples}
        if len(shapes) > 1:
            raise ValueError(
                f"samples, part {_named([path])}: shapes {sorted(shapes)}; expected "
                "the same in all samples, or the length of the sample's token ids. Pad it before, "
                "or give Batches a collate function."
            )
        array = np.stack(samples)
    if array.dtype.kind not in "biuf":
        other = next(x for x in samples if np.asarray(x).dtype.kind not in "biuf")
        raise ValueError(
            f"samples, part {_named([path])}: expected numbers, got {other!r:.80}. Remove it from"
            " the samples, or give Batches a collate function."
        )
    kind = array.dtype.kind
    if kind == "u" and array.dtype.itemsize > 2:  # pictures stay bytes
        kind = "i"
    narrow = {"i": "int32", "f": "float32"}.get(kind, array.dtype)
    kept = _as_dtype(array, np.dtype(narrow))
    if kept is None:
        numbers = "integers" if kind == "i" else "numbers"
        raise ValueError(
            f"samples, part {_named([path])}: {numbers} up to {np.abs(array).max()}; expected "
            f"{numbers} that fit into {narrow}."
        )
    return kept


def next_token_labels(token_ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns the labels of a language model: at each position the token after it.

    Args:
        token_ids: integers of shape `(batch, length)`.
        mask: bool of the same shape: the tokens to predict.

    Returns:
        Integers `(batch, length)`; -1, which `losses.sequence_crossentropy` ignores, where the
        token after a position is not to be predicted, and at the last position.

    Example:
    ```python
    next_token_labels(np.array([[2, 5, 6, 3]]), np.array([[0, 0, 1, 1]], bool))  # [[-1, 6, 3, -1]]
    ```
    """
    labels = np.full_like(token_ids, -1)
    labels[:, :-1] = np.where(mask, token_ids, -1)[:, 1:]
    return labels


def longest_sequence(sample):
    """Returns the length of the longest one-dimensional leaf of a sample (see `pad_samples`)."""
    if isinstance(sample, dict):
        sample = tuple(sample.values())
    if isinstance(sample, tuple):
        return max(map(longest_sequence, sample), default=0)
    return len(sample) if np.ndim(sample) == 1 else 0


def _longest_input(sample):
    return longest_sequence(sample[0] if isinstance(sample, tuple) else sample)


class Batches(keras.utils.PyDataset):
    """Dataset of padded batches, for `fit`, `evaluate` and `predict`.

    A sample has the structure that Keras expects of a batch: `(inputs,)`, `(inputs, targets)` or
    `(inputs, targets, sample_weights)`, where inputs may be a tuple or a dict.

    With `buckets`, samples of similar length share a batch, and a batch is padded to the smallest
    bucket that holds it. Few lengths mean few shapes, so XLA compiles rarely; similar lengths mean
    little padding. Only one batch an epoch is smaller than `batch_size`. Batches are still random:
    samples are shuffled, sorted by length within pools of 64 batches, and the batches shuffled.

    Bucketed batches are not in the order of the data, even without `shuffle`. `restore` puts
    predictions back into that order.

    Args:
        data: a sequence of samples.
        batch_size: samples in a batch. Default 32.
        collate: a function `collate(samples, length)` that returns a batch of a list of samples,
            padded to `length`. Default None: `pad_samples`, with the sequences determined from all
            the data, so a label such as `[1]`, or one number for each of 5 classes, is not a
            sequence. It pads with 0: for a model that masks another id (`pad_token_id`), pass a
            function of your own, or rows of `encode_batch`, which pads with the vocabulary's id.
        shuffle: whether to draw a new order at the end of each epoch. Default False.
        seed: seed of the shuffling; the order of an epoch depends only on it and the number of the
            epoch. Default None: drawn from NumPy, so `keras.utils.set_random_seed` determines it.
        buckets: the lengths to pad to, a list of integers; or the number of lengths to choose so
            that padding is minimal (see `choose_buckets`). Default None: keep the order of the
            data, and pad every batch to the longest sample.
        length: a function that returns the length of a sample. Default None: the longest
            one-dimensional leaf of the sample, or only of its inputs if there is no `collate`. A
            `collate` that tokenizes needs a function that never returns too small a length, e.g.
            `lambda sample: min(len(sample[0]) + 2, maxlen)`. A `collate` without `length` and
            `buckets` gets the length None, and should pad all batches to the same length: on
            TensorFlow, Keras assumes that an axis of equal size in the first two batches is fixed.
        **kwargs: `workers`, `use_multiprocessing` and `max_queue_size` of `PyDataset`.

    Raises:
        ValueError: `data` is empty, `batch_size` is below 1, buckets are not positive, a sample is
            longer than the largest bucket, or the lengths of the samples are not known.

    Example:
    ```python
    train = [(tokenizer.encode(text, maxlen=256), label) for text, label in read_tsv("train.tsv")]
    test = [(tokenizer.encode(text, maxlen=256),) for text in texts]

    model.fit(Batches(train, 32, shuffle=True, buckets=8))
    batches = Batches(test, 32, buckets=8)
    predictions = batches.restore(model.predict(batches))    # in the order of texts
    ```
    """

    POOL_BATCHES = 64

    @checks_flags
    def __init__(
        self,
        data: Sequence,
        batch_size: int = 32,
        collate: Callable[[list, int], Any] | None = None,
        shuffle: bool = False,
        seed: int | None = None,
        buckets: int | Sequence[int] | None = None,
        length: Callable[[Any], int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not hasattr(data, "__getitem__") or isinstance(data, str | dict) or len(data) == 0:
            raise ValueError(
                f"Batches needs at least one sample in a list, got none: data={shown(data)}."
            )
        check_number("batch_size", batch_size, 1, MOST)
        if seed is not None:
            check_number("seed", seed, 0, 2**64 - 1)
        self.data = data
        self.batch_size = batch_size
        self.collate = collate or partial(_padded, sequences=sequence_leaves(data))
        self.shuffle = shuffle
        self.seed = np.random.randint(2**31) if seed is None else seed
        self.epoch = 0
        self.sort = buckets is not None
        self.lengths = self.buckets = None
        if self.sort or length or collate is None:
            longest = longest_sequence if collate else _longest_input
            self.lengths = np.array([(length or longest)(sample) for sample in data])
            if self.sort and self.lengths.max() < 1:
                raise ValueError("the samples hold no sequences: give Batches a length function.")
            self.buckets = _fit_buckets(buckets if self.sort else 1, self.lengths)
        self._arrange()

    def _arrange(self):
        """Sets the samples and the padded length of each batch of this epoch."""
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.data)) if self.shuffle else np.arange(len(self.data))
        if self.sort:
            pool_size = self.POOL_BATCHES * self.batch_size if self.shuffle else len(order)
            pools = np.split(order, range(pool_size, len(order), pool_size))
            order = np.concatenate([p[self.lengths[p].argsort(kind="stable")] for p in pools])
        self._batches = np.split(order, range(self.batch_size, len(order), self.batch_size))
        if self.lengths is None:
            self._padded_lengths = [None] * len(self._batches)
            return

        longest = [self.lengths[batch].max() for batch in self._batches]
        padded_lengths = np.array(self.buckets)[np.searchsorted(self.buckets, longest)]
        # The smaller batch holds the longest samples of its pool. Padded to the largest bucket, it
        # has the same shape in every epoch.
        if len(self._batches[-1]) < self.batch_size:
            padded_lengths[-1] = self.buckets[-1]
        self._padded_lengths = padded_lengths.tolist()
        if self.sort:
            self._mix(rng)

    def _mix(self, rng):
        """Shuffles the batches, and puts two of different length first.

        On TensorFlow, Keras infers the shapes of a whole `fit` from the first two batches.
        """
        plan = list(zip(self._batches, self._padded_lengths, strict=True))
        if self.shuffle:
            plan = [plan[i] for i in rng.permutation(len(plan))]
        other = next((i for i, (_, length) in enumerate(plan) if length != plan[0][1]), None)
        if other is None:  # all have one length, which must not change in later epochs
            self.buckets = self.buckets[-1:]
        else:
            plan[1], plan[other] = plan[other], plan[1]
        self._batches, self._padded_lengths = map(list, zip(*plan, strict=True))

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Any:
        samples = [self.data[i] for i in self._batches[index]]
        return self.collate(samples, self._padded_lengths[index])

    def on_epoch_end(self) -> None:
        if self.shuffle:
            self.epoch += 1
            self._arrange()

    @property
    def order(self) -> np.ndarray:
        """The indices of the samples in the order of this epoch's batches."""
        return np.concatenate(self._batches)

    def restore(self, predictions: Any) -> Any:
        """Reorders predictions from the order of the batches to the order of the data.

        Args:
            predictions: an array of shape `(samples, ...)`, as returned by `model.predict`, or a
                list with one item for each sample.

        Returns:
            An array or a list in the order of the data.

        Raises:
            ValueError: the numbers of predictions and samples differ, or the batches are shuffled
                (their order changes after `predict`).
        """
        if self.shuffle:
            raise ValueError("the order of shuffled batches is lost: predict with shuffle=False.")
        count = len(predictions) if hasattr(predictions, "__len__") else shown(predictions)
        if count != len(self.data):
            raise ValueError(f"expected {len(self.data)} predictions, got {count}.")
        back = self.order.argsort()
        if isinstance(predictions, list):
            return [predictions[i] for i in back]
        return predictions[back]

    @property
    def num_tokens(self) -> int:
        """The number of tokens in this epoch's batches, padding included."""
        if self.lengths is None:
            raise ValueError("the length of the samples is not known: give Batches a length.")
        return sum(
            len(batch) * length
            for batch, length in zip(self._batches, self._padded_lengths, strict=True)
        )

    @property
    def padding_share(self) -> float:
        """The fraction of `num_tokens` that is padding, from 0 to 1."""
        num_tokens = self.num_tokens  # an error if the lengths are not known
        return 1 - float(np.sum(np.asarray(self.lengths))) / num_tokens


def _fit_buckets(buckets, lengths):
    """Returns the sorted lengths to pad to, without those longer than any sample needs."""
    several = isinstance(buckets, list | tuple | range | np.ndarray)
    numbers = buckets if several else [buckets]
    if len(numbers) == 0 or any(expected_number(number, 1, MOST) for number in numbers):
        raise ValueError(
            f"buckets must be positive lengths, or how many to choose, got {shown(buckets)}."
        )
    if not several:
        return choose_buckets(lengths, buckets)
    buckets = sorted(buckets)
    longest = int(lengths.argmax())
    if lengths[longest] > buckets[-1]:
        raise ValueError(
            f"data[{longest}] has length {lengths[longest]}, the largest bucket {buckets[-1]}: "
            f"truncate the samples, or add a bucket."
        )
    return buckets[: np.searchsorted(buckets, lengths[longest]) + 1]
