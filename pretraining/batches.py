"""Training batches from a corpus: the examples of each step, in random order and masked."""

import os
import queue
import threading
from bisect import bisect_right
from itertools import accumulate, count

import numpy as np

from bert4keras_lite.arguments import check_number
from bert4keras_lite.parsing import is_file_name, parse_json, shown

from .files import copy, exists, is_remote, join, make_directory, open_binary
from .masking import FEATURES, NEEDED, OBJECTIVES, Rows, record_length
from .shards import MANIFEST, Shard, decode_examples, index_name
from .stateless_random import keys, permuted

__all__ = [
    "ALIKE",
    "LONGEST",
    "Examples",
    "decoded",
    "fitting",
    "manifests_of",
    "read_manifest",
    "shards_of",
]

# Purposes of random keys.
_ORDER, _MASKS = 0, 1
MOST = 1 << 24  # limit of the tokens of a vocabulary, and of the examples of a shard
LONGEST = 1 << 17  # limit of the tokens of a row
_NAMES, _PLACE = 1024, 16  # bytes of a record: fixed part, and for each token
# Fields that must be equal in corpora that are read together.
ALIKE = ("mode", "sequence_length", "record_length", "vocabulary_sha256", "special_ids")


def read_manifest(directory):
    """Reads the `corpus.json` of a finished corpus.

    Args:
        directory: the directory of the corpus.

    Returns:
        Its contents, a dict.

    Raises:
        ValueError: there is no such file, it is invalid, or the corpus is not finished.
    """
    path = join(directory, MANIFEST)
    if not exists(path):
        raise ValueError(
            f"{directory} has no {MANIFEST}; expected the --output of python -m pretraining.corpus."
        )
    with open_binary(path) as file:
        try:
            manifest = parse_json(file.read())
        except ValueError as error:
            raise ValueError(f"{path} is not JSON ({error}); make the corpus again.") from None
    if isinstance(manifest, dict) and "settings" in manifest and "shards" not in manifest:
        raise ValueError(
            f"{directory} is not finished; run the same python -m pretraining.corpus again: it"
            " makes what is missing."
        )
    problem = _problem_of(manifest)
    if problem:
        raise ValueError(f"{path}: {problem}; make the corpus again.")
    return manifest


def _problem_of(manifest):
    """Returns a description of the first error in a `corpus.json`, or None."""
    if not isinstance(manifest, dict):
        return f"expected an object, got {shown(manifest)}"

    def problem(name, expected):
        return f"{name}: expected {expected}, got {shown(manifest.get(name))}"

    def is_id(value):
        return type(value) is int and 0 <= value < manifest["vocab_size"]

    mode = manifest.get("mode")
    if mode not in list(FEATURES):
        return problem("mode", f"one of {', '.join(FEATURES)}")
    for name, most in (("sequence_length", LONGEST), ("vocab_size", MOST)):
        if not _is_count(manifest.get(name), 1, most):
            return problem(name, f"an integer from 1 to {most}")
    length = record_length(mode, manifest["sequence_length"])
    if not _is_count(manifest.get("record_length"), length, length):
        return problem("record_length", f"{length}, by its mode and sequence_length")
    if not isinstance(manifest.get("vocabulary_sha256"), str):
        return problem("vocabulary_sha256", "a string")
    special, sentinels = manifest.get("special_ids"), manifest.get("sentinel_ids")
    if (
        not isinstance(special, dict)
        or "pad" not in special
        or any(special.get(name) is None for name in NEEDED[mode])
        or not all(i is None or is_id(i) for i in special.values())
    ):
        named = ", ".join(["pad (or null)", *NEEDED[mode]])
        return problem("special_ids", f"ids below vocab_size, among them {named}")
    others = [name for name, i in special.items() if name != "mask" and i == special.get("mask")]
    if "mask" in NEEDED[mode] and others:
        return problem("special_ids", f"different ids for mask and {others[0]:.20}")
    if not isinstance(sentinels, list) or not all(map(is_id, sentinels)):
        return problem("sentinel_ids", "a list of ids below vocab_size")
    shards = manifest.get("shards")
    if not isinstance(shards, list):
        return problem("shards", "a list")
    names = set()
    for shard in shards:
        name = shard.get("name") if isinstance(shard, dict) else None
        if not is_file_name(name) or not name.endswith(".tfrecord") or name in names:
            return (
                'shards: expected objects, each with a different "name" of a file NAME.tfrecord in'
                f" the directory, got {shown(shard)}"
            )
        if not _is_count(shard.get("examples")):
            return f'shards: expected a number of "examples", got {shown(shard)}'
        names.add(name)
    return None


def _is_count(value, least=0, most=MOST):
    return type(value) is int and least <= value <= most


def _local(directory, cache, names):
    """Returns a local directory with the files of a corpus; copies a remote corpus to `cache`."""
    if not is_remote(directory):
        return directory
    if cache is None:
        raise ValueError(
            f"{directory} is remote and cannot be memory-mapped; expected cache=, a local directory"
            " to copy it to."
        )
    make_directory(cache)
    for name in names:
        # The shard comes last: if it exists, its index does too.
        for part in (index_name(name), name):
            if not exists(join(cache, part)):
                copy(join(directory, part), join(cache, part))
    return cache


def manifests_of(corpora):
    """Reads the manifests of corpora, and checks that they can be read together.

    Args:
        corpora: dict directory -> number of times that an epoch has its examples.

    Returns:
        A dict directory -> manifest.

    Raises:
        ValueError: an argument or a manifest is invalid, or corpora differ in their settings.
    """
    if not corpora:
        raise ValueError("corpus={}; expected a directory.")
    for directory, times in corpora.items():
        if not isinstance(directory, str | os.PathLike):
            raise ValueError(f"corpus: expected names of directories, got {shown(directory)}.")
        check_number(f"corpus: times of {directory}", times, 1, 1000)
    manifests = {directory: read_manifest(directory) for directory in corpora}
    first = next(iter(manifests))
    for directory, manifest in manifests.items():
        for name in ALIKE:
            if manifest[name] != manifests[first][name]:
                raise ValueError(
                    f"{directory} has {name} {shown(manifest[name])}, and {first} has"
                    f" {shown(manifests[first][name])}; expected corpora made with the same"
                    " settings."
                )
    return manifests


def shards_of(directory, manifest, cache=None):
    """Opens the shards of a corpus.

    Args:
        directory: the directory of the corpus.
        manifest: the contents of its `corpus.json`.
        cache: see `Examples`.

    Returns:
        A list of `Shard`s.

    Raises:
        ValueError: the shards have no examples, or another number than the manifest has.
    """
    names = [shard["name"] for shard in manifest["shards"]]
    local = _local(directory, cache, names)
    shards = [Shard(join(local, name)) for name in names]
    count, expected = sum(map(len, shards)), sum(shard["examples"] for shard in manifest["shards"])
    if not expected or count != expected:
        raise ValueError(
            f"{directory} has {count} examples and its {MANIFEST} says {expected}; expected the"
            " same number, at least 1."
        )
    return shards


def decoded(records, names, manifest, corpus):
    """Decodes records with `decode_examples`, and checks them against the manifest.

    Args:
        records, names: see `decode_examples`.
        manifest: the contents of `corpus.json`.
        corpus: name of the corpus, for error messages.

    Returns:
        `(features, lengths)`, see `decode_examples`.

    Raises:
        ValueError: a record is damaged, longer than the manifest says, or has ids out of range.
    """
    longest = manifest["record_length"]
    try:
        largest = max(map(len, records))
        if largest > _NAMES + _PLACE * longest:
            raise ValueError(f"a record of {largest} bytes; expected one of {longest} tokens.")
        features, lengths = decode_examples(records, names)
        for name, ids in features.items():
            size = manifest["vocab_size"] if name == "token_ids" else 2
            if ids.min(initial=0) < 0 or ids.max(initial=0) >= size:
                raise ValueError(f"{name}: expected numbers from 0 to {size - 1}.")
        if lengths.max(initial=0) > longest:
            raise ValueError(f"a record of {lengths.max()} tokens; expected {longest}.")
    except ValueError as error:
        problem = str(error).removesuffix(".")
        raise ValueError(f"{corpus}: {problem}; make the corpus again.") from None
    return features, lengths


class Examples:
    """Training batches, each of which depends only on corpus, seed and step.

    A run that resumes at step 1000 therefore sees the same batches as one that never stopped, and
    several hosts together see the same as a single one. Every epoch has another order and other
    masks; a batch may contain the end of an epoch and the beginning of the next.

    Args:
        corpus: directory made by `python -m pretraining.corpus`; or dict directory -> number of
            times that an epoch has its examples, with new masks each time, so that a small corpus
            can outweigh a large one.
        objective: `"mlm"`, `"electra"`, `"lm"`, `"unilm"` or `"t5"`; must be the corpus' mode,
            but corpora of `"mlm"` and `"electra"` serve either of the two.
        batch_size: number of examples in a step, on all hosts together.
        seed: seed of order and masks. Default 0.
        hosts, host: the number of hosts, and the index of this one, which gets its part of the
            rows. Default 1 and 0.
        cache: local directory to which corpora of `scheme://...` are copied. Default None.
        **masking_options: arguments of the objective's class in `masking`.

    Attributes:
        manifest: the contents of the (first) `corpus.json`.
        spec: `(inputs, targets, weights)`: shape and dtype of all arrays of a batch, inputs as a
            dict name -> `(shape, dtype)`.

    Raises:
        ValueError: a corpus is not finished, damaged, or made for another objective; corpora
            differ in vocabulary or length; an option is invalid; or `batch_size` is not divisible
            by `hosts`.

    Example:
        >>> examples = Examples("corpus", "mlm", batch_size=32)
        >>> inputs, targets, weights = examples.batch(0)
        >>> model.fit(examples.from_step(0), steps_per_epoch=1000)
    """

    def __init__(
        self, corpus, objective, batch_size, seed=0, hosts=1, host=0, cache=None, **masking_options
    ):
        if objective not in OBJECTIVES:
            raise ValueError(f"objective={objective!r}; expected one of {', '.join(OBJECTIVES)}.")
        corpora = corpus if isinstance(corpus, dict) else {corpus: 1}
        self._corpus = ", ".join(map(str, corpora))
        manifests = manifests_of(corpora)
        self.manifest = next(iter(manifests.values()))
        mode = self.manifest["mode"]
        if objective != mode and {objective, mode} != {"mlm", "electra"}:
            raise ValueError(
                f"objective={objective!r}, and {corpus} was made for {mode!r}; make a corpus with"
                f" --mode {objective}."
            )
        if batch_size < 1 or not 0 <= host < hosts or batch_size % hosts:
            raise ValueError(
                f"batch_size={batch_size!r}, hosts={hosts!r}, host={host!r}; expected a multiple of"
                " hosts, and a host from 0 to hosts - 1."
            )
        self._shards = []
        for number, (directory, manifest) in enumerate(manifests.items()):
            folder = cache if cache is None or len(corpora) == 1 else join(cache, str(number))
            self._shards += shards_of(directory, manifest, folder) * corpora[directory]
        self._ends = list(accumulate(map(len, self._shards)))
        self._names = FEATURES[objective]
        self._objective = OBJECTIVES[objective](self.manifest, **masking_options)
        self._length = self.manifest["record_length"]
        self._pad_id = self.manifest["special_ids"]["pad"] or 0
        self._batch_size, self._seed = batch_size, seed
        part = batch_size // hosts
        self._rows = np.arange(host * part, (host + 1) * part)
        inputs, targets, weights = self._objective.spec
        batched = {name: ((part, *shape), dtype) for name, (shape, dtype) in inputs.items()}
        self.spec = batched, *(((part, *shape), dtype) for shape, dtype in (targets, weights))

    def __len__(self):
        return self._ends[-1]

    def batch(self, step):
        """Returns this host's rows of the batch of a step: `(inputs, targets, weights)`."""
        epochs, positions = np.divmod(step * self._batch_size + self._rows, len(self))
        indices = np.empty_like(positions)
        for epoch in np.unique(epochs).tolist():
            of_epoch = epochs == epoch
            key = keys(self._seed, _ORDER, epoch)
            indices[of_epoch] = permuted(positions[of_epoch], len(self), key)
        records = [self._record(index) for index in indices.tolist()]
        features, lengths = decoded(records, self._names, self.manifest, self._corpus)
        rows = Rows(features, lengths, self._length, self._pad_id)
        return self._objective(rows, keys(self._seed, _MASKS, epochs, indices))

    def _record(self, index):
        number = bisect_right(self._ends, index)
        return self._shards[number][index - (self._ends[number - 1] if number else 0)]

    def from_step(self, step, ahead=4):
        """Yields the batches from `step` on, without end.

        Args:
            step: the first step.
            ahead: number of batches that a thread prepares in advance. Default 4.
        """
        prepared, stopped = queue.Queue(ahead), threading.Event()

        def put(item):
            while not stopped.is_set():
                try:
                    return prepared.put(item, timeout=0.1)
                except queue.Full:
                    continue

        def make():
            try:
                for number in count(step):
                    if stopped.is_set():
                        return
                    put(self.batch(number))
            except Exception as error:
                put(error)

        threading.Thread(target=make, daemon=True, name="examples").start()
        try:
            while True:
                item = prepared.get()
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            stopped.set()


def fitting(batches, names):
    """Yields batches with exactly the inputs of a model; missing ones are zeros.

    A next-token corpus, for example, has no segment ids.

    Args:
        batches: iterable of `(inputs, targets, weights)`.
        names: the names of the model's inputs.
    """
    for inputs, targets, weights in batches:
        zeros = np.zeros_like(next(iter(inputs.values())))
        yield {name: inputs.get(name, zeros) for name in names}, targets, weights
