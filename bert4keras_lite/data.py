"""From lists of samples to padded batches: padding, truncation, segmentation, length bucketing."""

import sys
from functools import partial

import keras
import numpy as np

from .arguments import check_number, checks_flags, expected_number
from .parsing import FREE, naming, shown, size_of

MOST = 2**31 - 1  # of a length, or of a number of things
_SLOT = 24  # bytes for a place in a list that grows, and between things


def sequence_padding(inputs, length=None, value=0, seq_dims=1, mode="post", dtype=None):
    """Pad sequences of different lengths into one array.

    Args:
        inputs: the sequences: ragged nested lists, or arrays. Axes after the first `seq_dims`
            must be the same in all of them.
        length: what to pad to, one integer or one for each padded axis. Longer sequences lose
            their end, in both modes. The default is the longest sequence, axis by axis.
        value: what to fill with.
        seq_dims: how many leading axes of each sequence are padded.
        mode: where the filling goes, `"post"` (right) or `"pre"` (left).
        dtype: of the result. The default is what NumPy finds in the sequences that are not empty.

    Returns:
        An array of shape `(len(inputs), *length, *axes that are not padded)`.

    Raises:
        ValueError: no sequences, an unknown `mode`, or sequences whose axes do not fit `seq_dims`.

    Example:
    ```python
    sequence_padding([[1, 2, 3], [4]])                          # [[1, 2, 3], [4, 0, 0]]
    sequence_padding([[1, 2, 3], [4]], length=2, mode="pre")    # [[1, 2], [0, 4]]
    sequence_padding([[[1], [2, 3]], [[4]]], seq_dims=2).shape  # (2, 2, 2)
    ```
    """
    if mode not in ("post", "pre"):
        raise ValueError(f'mode must be "post" or "pre", not {mode!r}')
    check_number("seq_dims", seq_dims, 1, 32)
    if not hasattr(inputs, "__len__") or len(inputs) == 0:
        raise ValueError(
            f"sequence_padding needs at least one sequence, got none: inputs={shown(inputs)}"
        )
    sequences = [_to_arrays(x, seq_dims) for x in inputs]
    if length is None:
        length = np.max([_extents(x, seq_dims) for x in sequences], axis=0)
    for number in np.ravel(length):
        check_number("length", number, 0, MOST)
    length = np.broadcast_to(length, seq_dims)

    kinds = {kind for x in sequences for kind in _kinds(x, seq_dims)}
    trailing = {shape for shape, _ in kinds} or {()}
    if len(trailing) > 1:
        raise ValueError(
            f"seq_dims={seq_dims} pads the first {seq_dims} axes; those after must be the same "
            f"in all sequences, and are {sorted(trailing)}"
        )
    if dtype is None:
        dtype = np.result_type(*{kind for _, kind in kinds} or {np.asarray(value).dtype})
    _check_value(value, np.dtype(dtype))
    padded = np.full((len(sequences), *length, *trailing.pop()), value, dtype)
    for target, sequence in zip(padded, sequences, strict=True):
        _fill(target, sequence, seq_dims, mode)
    return padded


def _check_value(value, dtype):
    """Raises if sequences of a dtype cannot be filled with a value: integers with 1.5, say."""
    if _as_dtype(np.asarray(value), dtype) is None:
        raise ValueError(f"value={shown(value)}: expected one that sequences of {dtype} can hold.")


def _as_dtype(array, dtype):
    """An array in a dtype; None where that cannot hold it: integers 1.5, float32 1e300."""
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
    """Nested lists down to the last padded axis, which becomes an array."""
    if depth > 1 and isinstance(x, (list, tuple)):
        return [_to_arrays(child, depth - 1) for child in x]
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise ValueError("the sequences are ragged in more axes than seq_dims") from error
    if array.ndim < depth:
        raise ValueError(f"expected a sequence of {depth} axes or more (seq_dims), got {x!r:.60}")
    return array


def _extents(x, depth):
    if isinstance(x, np.ndarray):
        return x.shape[:depth]
    inner = [_extents(child, depth - 1) for child in x] or [(0,) * (depth - 1)]
    return len(x), *np.max(inner, axis=0)


def _kinds(x, depth):
    """The (trailing shape, dtype) of each array that is not empty."""
    if not isinstance(x, np.ndarray):
        for child in x:
            yield from _kinds(child, depth - 1)
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
                    f"inputs: expected items that {target.dtype} can hold, got {shown(x[:n])}."
                )
            target[...] = kept
    else:
        for row, child in zip(target, x[:n], strict=True):
            _fill(row, child, depth - 1, mode)


def truncate_sequences(maxlen, indices, *sequences):
    """Shorten sequences until their total length is at most `maxlen`.

    One item at a time leaves the sequence that is longest just then (the first of equals).
    The sequences are changed in place; empty ones are left out of the result.

    Args:
        maxlen: the total length allowed.
        indices: which item to drop: one index for all sequences, or one for each that is not
            empty. `-2` keeps the final `[SEP]` in place; `1` drops from the front after `[CLS]`.
        *sequences: lists.

    Returns:
        The list of sequences that are not empty.

    Raises:
        ValueError: `maxlen` is negative.

    Example:
    ```python
    truncate_sequences(5, -1, [1, 2, 3, 4], [5, 6, 7])  # [[1, 2], [5, 6, 7]]
    ```
    """
    check_number("maxlen", maxlen, 0, MOST)
    for sequence in sequences:
        if not isinstance(sequence, list | None):
            raise ValueError(f"sequences: expected lists, got {shown(sequence)}.")
    sequences = [s for s in sequences if s]
    if not isinstance(indices, (list, tuple)):
        indices = [indices] * len(sequences)
    if len(indices) < len(sequences):
        raise ValueError(
            f"indices={shown(indices)}: expected one index for each of {len(sequences)} sequences."
        )
    for index in indices:
        check_number("indices", index, -MOST, MOST)
    for _ in range(sum(map(len, sequences)) - maxlen):
        longest = max(range(len(sequences)), key=lambda i: len(sequences[i]))
        sequence, index = sequences[longest], indices[longest]
        if not -len(sequence) <= index < len(sequence):
            raise ValueError(
                f"indices={shown(indices)}: expected one of the {len(sequence)} items of a sequence."
            )
        sequence.pop(index)
    return sequences


@checks_flags
def text_segmentate(text, maxlen, seps="\n", strips=None, truncate=True):
    """Cut a text into pieces of at most `maxlen` characters, at the best separators possible.

    The first separator is tried first; a piece that is still too long is cut at the next one.
    Neighbouring pieces are joined again as long as they fit.

    Args:
        text: a string.
        maxlen: the most characters a piece may have.
        seps: separators, the strongest first, e.g. `"\\n。！？；，"`.
        strips: characters to strip from the ends of every piece, besides white space.
        truncate: what to do where no separator helps: cut at `maxlen` characters, or, when
            False, leave the piece too long, as bert4keras does.

    Returns:
        A list of strings.

    Example:
    ```python
    text_segmentate("今天下雨。我们在家看书，喝茶。", 8, "。，")  # ["今天下雨。", "我们在家看书，", "喝茶。"]
    ```
    """
    check_number("maxlen", maxlen, 1, MOST)
    for name, value in (("text", text), ("strips", "" if strips is None else strips)):
        if not isinstance(value, str):
            raise ValueError(f"{name}={shown(value)}: expected a text.")
    if not isinstance(seps, str | list | tuple | None) or not all(
        isinstance(sep, str) and sep for sep in seps or ()
    ):
        raise ValueError(f"seps={shown(seps)}: expected a text, or texts that are not empty.")
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
    groups[-1] = groups[-1][:-1]  # the text does not end with a separator of ours
    return [
        piece
        for group in groups
        if group
        for piece in text_segmentate(group, maxlen, seps[1:], strips, truncate)
    ]


@checks_flags
def read_tsv(path, types=(str, int), header=False):
    """Read a file of tab-separated columns, such as `text TAB label`.

    Args:
        path: a UTF-8 file, with or without a byte order mark, LF or CRLF. Empty lines are skipped.
        types: what each column is, called on its text: `(str, int)` for a labelled text,
            `(str, str, int)` for a labelled pair.
        header: whether the first line holds the names of the columns.

    Returns:
        A list of tuples, one for each line.

    Raises:
        ValueError: a line that has another number of columns, or a value that its type refuses,
            or more short lines than the file explains; the message names file and line.

    Example:
    ```python
    read_tsv("sentiment.train.tsv")                        # [("房间很干净。", 1), ...]
    read_tsv("matching.train.tsv", (str, str, int))        # [("怎么退货？", "如何退货？", 1), ...]
    ```
    """
    if not isinstance(types, list | tuple) or not types or not all(map(callable, types)):
        raise ValueError(f"types={shown(types)}: expected one for each column, e.g. (str, int).")
    names = " TAB ".join(getattr(kind, "__name__", str(kind)) for kind in types)
    size = size_of(path)
    rows, room = [], 2 * FREE + 8 * size
    # Only LF ends a line: str.splitlines would also cut at U+2028 and other marks within a text.
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
                row = tuple(kind(cell) for kind, cell in zip(types, cells, strict=True))
            except (ValueError, LookupError, TypeError, ArithmeticError):
                raise ValueError(
                    f"{path}, line {number}: expected {names}, got {line!r:.80}"
                ) from None
            rows.append(row)
            room -= _SLOT + sys.getsizeof(row) + sum(map(_size, row))
            if room < 0:
                raise ValueError(
                    f"{path}, line {number}: expected rows that take no more memory than {size}"
                    " bytes explain, got too many short ones. Join them, or cut the file."
                )
    return rows


def _size(value):
    """The bytes of memory of a cell; small integers are there once for all."""
    return 0 if type(value) is int and -5 <= value <= 256 else sys.getsizeof(value)


def choose_buckets(lengths, max_buckets=8, multiple=8):
    """The few lengths to which samples are padded at the least cost.

    Args:
        lengths: the lengths of the samples, integers of shape `(samples,)`.
        max_buckets: how many lengths may be chosen.
        multiple: the lengths are multiples of this, except that the last is never longer than
            the longest sample.

    Returns:
        A sorted list of integers. Of all such lists it is the one with the fewest tokens after
        each sample is padded to the next length in it (for distributions with more than 256
        multiples, of the lists on a coarser grid).
    """
    check_number("max_buckets", max_buckets, 1, MOST)
    check_number("multiple", multiple, 1, MOST)
    lengths = np.asarray(lengths)
    if lengths.ndim != 1 or not lengths.size or lengths.dtype.kind not in "iu":
        raise ValueError(f"lengths={shown(lengths)}: expected integers, one for each sample.")
    lengths = np.maximum(lengths, 1)
    longest = int(lengths.max())
    while longest > 256 * multiple:
        multiple *= 2
    sizes, counts = np.unique(-(-lengths // multiple) * multiple, return_counts=True)
    sizes = np.minimum(sizes, longest)
    samples = np.concatenate([[0], np.cumsum(counts)])
    # tokens[i, j]: of the samples of sizes i..j-1, all padded to the largest of these sizes
    tokens = (samples[None, 1:] - samples[:-1, None]) * sizes.astype("float64")
    tokens[np.tril_indices(len(sizes), -1)] = np.inf
    # fewest[j]: tokens of the first j sizes with the buckets so far; cuts say where each begins
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


def pad_samples(samples, length):
    """Collate samples into a batch: stack what is fixed, pad what is one-dimensional.

    Args:
        samples: a list of samples of the same structure: nested tuples and dicts whose leaves
            are numbers, lists or arrays. One-dimensional leaves of inputs (the first part of a
            tuple, or all of another sample) are sequences. Those of targets and weights are, where
            in each sample they are as long as one of its inputs; others are stacked.
        length: what sequences are padded to, with zeros.

    Returns:
        The structure of one sample, with an array at each leaf: int32 or float32 where the
        samples hold integers or floats.

    Raises:
        ValueError: a sequence is longer than `length`, or other leaves differ in shape.
    """
    if not isinstance(samples, list | tuple) or not samples:
        raise ValueError(f"samples={shown(samples)}: expected a list of one or more.")
    check_number("length", length, 0, MOST)
    return _padded(samples, length, sequence_leaves(samples))


def sequence_leaves(samples):
    """The places of leaves that `pad_samples` pads, as a set of tuples of keys and indices."""
    places = parts = None
    for i, sample in enumerate(samples):
        leaves = dict(_leaves(sample))
        if parts is None:
            parts = leaves.keys()
        elif parts != leaves.keys():
            raise ValueError(
                f"samples[{i}] has the parts {_named(leaves)}, and samples[0] has {_named(parts)}; "
                "expected the same in all samples."
            )
        lengths = {place: len(x) for place, x in leaves.items() if _rank(x, i, place) == 1}
        inputs = {n for place, n in lengths.items() if _is_input(sample, place)}
        found = {p for p, n in lengths.items() if n in inputs}
        places = found if places is None else places & found
    return places


def _named(places):
    return ", ".join("/".join(map(str, place)) or "0" for place in places)


def _rank(x, number, place):
    """How many axes a leaf has."""
    try:
        return np.ndim(x)
    except ValueError:
        raise ValueError(
            f"samples[{number}], part {_named([place])}: expected a number, a list of numbers or an "
            f"array, got {x!r:.80}. Pad it before, or give Batches a collate function."
        ) from None


def _is_input(sample, place):
    return not isinstance(sample, tuple) or place[0] == 0


def _leaves(sample, place=()):
    """`(place, leaf)` of each leaf of a sample."""
    if not isinstance(sample, dict | tuple):
        yield place, sample
        return
    items = sample.items() if isinstance(sample, dict) else enumerate(sample)
    for key, x in items:
        yield from _leaves(x, (*place, key))


def _padded(samples, length, sequences, place=()):
    first = samples[0]
    if isinstance(first, dict):
        return {
            key: _padded([s[key] for s in samples], length, sequences, (*place, key))
            for key in first
        }
    if isinstance(first, tuple):
        return tuple(
            _padded(column, length, sequences, (*place, i))
            for i, column in enumerate(zip(*samples, strict=True))
        )
    if place in sequences:
        longest = max(map(len, samples))
        if longest > length:
            raise ValueError(f"a sequence of {longest} items does not fit in a batch of {length}")
        array = sequence_padding(samples, length)
    else:
        shapes = {np.shape(sample) for sample in samples}
        if len(shapes) > 1:
            raise ValueError(
                f"samples, part {_named([place])}: shapes {sorted(shapes)}; expected "
                "the same in all samples, or the length of the sample's token ids. Pad it before, "
                "or give Batches a collate function."
            )
        array = np.stack(samples)
    if array.dtype.kind not in "biuf":
        other = next(x for x in samples if np.asarray(x).dtype.kind not in "biuf")
        raise ValueError(
            f"samples, part {_named([place])}: expected numbers, got {other!r:.80}. Take it out of the "
            "samples, or give Batches a collate function."
        )
    kind = array.dtype.kind
    if kind == "u" and array.dtype.itemsize > 2:  # pictures stay bytes
        kind = "i"
    narrow = {"i": "int32", "f": "float32"}.get(kind, array.dtype)
    kept = _as_dtype(array, np.dtype(narrow))
    if kept is None:
        numbers = "integers" if kind == "i" else "numbers"
        raise ValueError(
            f"samples, part {_named([place])}: {numbers} up to {np.abs(array).max()}; expected what "
            f"fits into {narrow}."
        )
    return kept


def longest_sequence(sample):
    """The length of the longest one-dimensional leaf of a sample (see `pad_samples`)."""
    if isinstance(sample, dict):
        sample = tuple(sample.values())
    if isinstance(sample, tuple):
        return max(map(longest_sequence, sample), default=0)
    return len(sample) if np.ndim(sample) == 1 else 0


def _longest_input(sample):
    return longest_sequence(sample[0] if isinstance(sample, tuple) else sample)


class Batches(keras.utils.PyDataset):
    """Samples in padded batches, for `fit`, `evaluate` and `predict`.

    A sample is nested as Keras expects a batch to be: `(inputs,)`, `(inputs, targets)` or
    `(inputs, targets, sample_weights)`, where inputs may be a tuple or a dict.

    With `buckets`, samples of similar length share a batch, and a batch is padded to the smallest
    bucket that holds it. Few lengths mean few shapes, so XLA compiles rarely; similar lengths mean
    little padding. Only one batch an epoch is smaller than `batch_size`. Randomness is kept:
    samples are shuffled, sorted by length within pools of 64 batches, and the batches shuffled.

    Bucketed batches are not in the order of the data, even without `shuffle`. `restore` puts
    predictions back into it.

    Args:
        data: a sequence of samples.
        batch_size: samples a batch.
        collate: makes a batch of a list of samples and the length to pad to, as
            `collate(samples, length)`. The default is `pad_samples`, for which all the data tell
            what is a sequence: a label such as `[1]`, or one number for each of 5 classes, is none.
            It pads with 0: for a model that hides another id (`pad_token_id`), give a function of
            your own, or rows of `encode_batch`, which pads as the vocabulary says.
        shuffle: whether to draw a new order at the end of each epoch.
        seed: of the shuffling; the order of an epoch depends on it and on the epoch's number
            only. The default is drawn from NumPy, so `keras.utils.set_random_seed` governs it.
        buckets: the lengths to pad to, a list of integers; or how many lengths to choose so that
            padding is least (see `choose_buckets`). The default keeps the order of the data and
            pads every batch to the longest sample.
        length: a function that says how long a sample is. The default is its longest
            one-dimensional leaf (of its inputs, without `collate`). A collate that tokenizes needs one that is never too short, e.g.
            `lambda sample: min(len(sample[0]) + 2, maxlen)`. A collate without `length` and
            `buckets` gets the length None, and should pad all batches alike: on TensorFlow,
            Keras takes an axis on which the first two batches agree for fixed.
        **kwargs: `workers`, `use_multiprocessing` and `max_queue_size` of `PyDataset`.

    Raises:
        ValueError: no samples, `batch_size` below 1, buckets that are not positive, a sample
            longer than the largest bucket, or samples whose length is not known.

    Example:
    ```python
    train = [(tokenizer.encode(text, maxlen=256), label) for text, label in read_tsv("train.tsv")]
    test = [(tokenizer.encode(text, maxlen=256),) for text in texts]

    model.fit(Batches(train, 32, shuffle=True, buckets=8))
    batches = Batches(test, 32, buckets=8)
    scores = batches.restore(model.predict(batches))    # in the order of texts
    ```
    """

    POOL_BATCHES = 64

    @checks_flags
    def __init__(
        self,
        data,
        batch_size=32,
        collate=None,
        shuffle=False,
        seed=None,
        buckets=None,
        length=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not hasattr(data, "__getitem__") or isinstance(data, str | dict) or len(data) == 0:
            raise ValueError(
                f"Batches needs at least one sample in a list, got none: data={shown(data)}"
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
                raise ValueError("the samples hold no sequences: give Batches a length function")
            self.buckets = _fit_buckets(buckets if self.sort else 1, self.lengths)
        self._arrange()

    def _arrange(self):
        """Decide which samples make which batch of this epoch, and how long each batch is."""
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
        # The smaller batch holds the longest samples of its pool. Always as long as can be, it
        # is the same shape in every epoch.
        if len(self._batches[-1]) < self.batch_size:
            padded_lengths[-1] = self.buckets[-1]
        self._padded_lengths = padded_lengths.tolist()
        if self.sort:
            self._mix(rng)

    def _mix(self, rng):
        """Shuffle the batches, and show Keras at once that their length varies.

        On TensorFlow, Keras takes the shapes of a whole `fit` from the first two batches.
        """
        plan = list(zip(self._batches, self._padded_lengths, strict=True))
        if self.shuffle:
            plan = [plan[i] for i in rng.permutation(len(plan))]
        other = next((i for i, (_, length) in enumerate(plan) if length != plan[0][1]), None)
        if other is None:  # then it may not vary in later epochs either
            self.buckets = self.buckets[-1:]
        else:
            plan[1], plan[other] = plan[other], plan[1]
        self._batches, self._padded_lengths = map(list, zip(*plan, strict=True))

    def __len__(self):
        return len(self._batches)

    def __getitem__(self, index):
        samples = [self.data[i] for i in self._batches[index]]
        return self.collate(samples, self._padded_lengths[index])

    def on_epoch_end(self):
        if self.shuffle:
            self.epoch += 1
            self._arrange()

    @property
    def order(self):
        """The indices of the samples in the order in which this epoch's batches hold them."""
        return np.concatenate(self._batches)

    def restore(self, predictions):
        """Put predictions, one a sample in the order of the batches, into the order of the data.

        Args:
            predictions: an array of shape `(samples, ...)`, as `model.predict` returns it, or a
                list with one item a sample.

        Returns:
            An array or a list in the order of the data.

        Raises:
            ValueError: another number of predictions than samples, or batches that are shuffled
                (after `predict` their order is another).
        """
        if self.shuffle:
            raise ValueError("the order of shuffled batches is lost: predict with shuffle=False")
        count = len(predictions) if hasattr(predictions, "__len__") else shown(predictions)
        if count != len(self.data):
            raise ValueError(f"expected {len(self.data)} predictions, got {count}")
        back = self.order.argsort()
        if isinstance(predictions, list):
            return [predictions[i] for i in back]
        return predictions[back]

    @property
    def num_tokens(self):
        """How many tokens this epoch's batches hold, padding included."""
        if self.lengths is None:
            raise ValueError("the length of the samples is not known: give Batches a length")
        return sum(
            len(batch) * length
            for batch, length in zip(self._batches, self._padded_lengths, strict=True)
        )

    @property
    def padding_share(self):
        """How much of `num_tokens` is padding, from 0 to 1."""
        return 1 - float(self.lengths.sum()) / self.num_tokens


def _fit_buckets(buckets, lengths):
    """The lengths to pad to, sorted, none longer than the longest sample needs."""
    several = isinstance(buckets, list | tuple | range | np.ndarray)
    numbers = buckets if several else [buckets]
    if len(numbers) == 0 or any(expected_number(number, 1, MOST) for number in numbers):
        raise ValueError(
            f"buckets must be positive lengths, or how many to choose, got {shown(buckets)}"
        )
    if not several:
        return choose_buckets(lengths, buckets)
    buckets = sorted(buckets)
    longest = int(lengths.argmax())
    if lengths[longest] > buckets[-1]:
        raise ValueError(
            f"data[{longest}] has length {lengths[longest]}, the largest bucket {buckets[-1]}: "
            f"truncate the samples, or add a bucket"
        )
    return buckets[: np.searchsorted(buckets, lengths[longest]) + 1]
