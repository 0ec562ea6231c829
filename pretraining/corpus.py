"""Makes a pretraining corpus from text files.

    python -m pretraining.corpus --input 'texts/*.txt' --output corpus --mode mlm \\
        --vocab chinese_L-12_H-768_A-12 --sequence-length 512 --shards 16

Each shard is made from fixed byte ranges of the input files. So the examples are the same for any
number of processes, and with Apache Beam (`--runner DirectRunner`, `FlinkRunner`, ...; further
flags are passed to it). A shard gets its name when it is complete: after a crash, the same command
makes the missing shards.

The output is `shard-00000-of-00016.tfrecord`, ...: `tf.train.Example`s with `token_ids`, and
`word_starts` (mlm, electra) or `segment_ids` (unilm); their indexes; and `corpus.json`.
"""

import argparse
import dataclasses
import hashlib
import json
import multiprocessing
import os
import re
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import zip_longest
from multiprocessing import connection

import numpy as np

from bert4keras_lite.arguments import check_number, complain, within
from bert4keras_lite.parsing import excerpt, parse_json, shown

from . import duplicates, files
from .batches import LONGEST, read_manifest
from .documents import UNITS, Format, Part, Selection, divide, find_inputs, read_documents
from .packing import (
    COUNTS,
    MODES,
    WORDS,
    Packer,
    open_tokenizer,
    sentinel_ids,
    special_ids,
    vocabulary_hash,
)
from .shards import (
    MANIFEST,
    encode_examples,
    index_name,
    read_arrays,
    read_index,
    shard_name,
    write_arrays,
    write_shard,
)

__all__ = ["main"]

# To be increased when the same settings give different examples.
VERSION = 1
MOST_SHOWN = 10  # limit of the settings in a message
MOST_COUNTED = 1 << 60  # limit of the documents or tokens of a shard
# Files that a finished corpus does not need, and temporary files left by a crash
STRAY = re.compile(
    r"fingerprints-\d{5}\.npz"
    r"|(corpus\.json|fingerprints-\d{5}\.npz|shard-\d{5}-of-\d{5}\.(tfrecord|index\.npz))\.tmp-.*"
)
# Minimum and maximum of numbers
RANGES = {
    "sequence_length": (8, LONGEST),
    "shards": (1, 99_999),
    "seed": (0, 2**63 - 1),
    "min_characters": (0, 2**31 - 1),
    "min_chinese": (0.0, 1.0),
    "near_duplicates": (0.001, 1.0),
}


@dataclass(frozen=True)
class Settings:
    """Settings of a corpus: all that the examples depend on, besides the input."""

    output: str
    mode: str
    vocab: str
    sequence_length: int
    shards: int
    cased: bool = False
    words: str = "jieba"
    apart: bool = False
    separator: str | None = None
    seed: int = 0
    document: str = "paragraphs"
    text_key: str = "text"
    encoding: str = "utf-8"
    clean: bool = False
    min_characters: int = 1
    min_chinese: float = 0.0
    unique: bool = False
    near_duplicates: float | None = None

    def __post_init__(self):
        try:
            Format(encoding=self.encoding)
        except ValueError as error:
            raise ValueError(f"--{error}") from None
        for name, ends in RANGES.items():
            if getattr(self, name) is not None:
                check_number(f"--{name.replace('_', '-')}", getattr(self, name), *ends)

    @property
    def looks_for_duplicates(self):
        return self.unique or self.near_duplicates is not None


@dataclass(frozen=True)
class Task:
    """A shard to make.

    Attributes:
        settings: the `Settings` of the corpus.
        number: index of the shard.
        parts: the parts of files to read.
        dropped: a byte for each document, 1 for those to leave out; empty to keep all.
    """

    settings: Settings
    number: int
    parts: tuple[Part, ...]
    dropped: bytes = b""

    @property
    def path(self):
        return files.join(self.settings.output, shard_name(self.number, self.settings.shards))

    @property
    def fingerprints_path(self):
        return files.join(self.settings.output, f"fingerprints-{self.number:05d}.npz")

    def documents(self, advance):
        """Yields the documents of the shard."""
        settings = self.settings
        layout = Format(settings.document, settings.text_key, settings.encoding)
        select = Selection(settings.clean, settings.min_characters, settings.min_chinese)
        for part in self.parts:
            yield from filter(None, map(select, read_documents(part, layout, advance)))

    def kept_documents(self, advance):
        """Yields the documents of the shard that are not dropped."""
        documents = self.documents(advance)
        if not self.dropped:
            yield from documents
            return
        for text, dropped in zip_longest(documents, self.dropped):
            if text is None or dropped is None:
                raise ValueError(
                    f"{self.parts[0].path} has other documents than when duplicates were looked"
                    f" for; remove {self.fingerprints_path}: it is made again."
                )
            if not dropped:
                yield text


# Work on a shard


@lru_cache(maxsize=1)
def _packer(settings):
    tokenizer = open_tokenizer(settings.vocab, settings.cased)
    return Packer(
        tokenizer,
        settings.mode,
        settings.sequence_length,
        settings.words,
        settings.apart,
        settings.separator,
        settings.seed,
    )


def make_shard(task, advance=lambda number: None):
    """Makes a shard, and returns its counts, a dict name -> number."""
    packer = _packer(task.settings)

    def records():
        for features, lengths in packer.pack(task.kept_documents(advance), task.number):
            yield from encode_examples(features, lengths)

    def counts():
        return {**packer.counts, "dropped": sum(task.dropped)}

    write_shard(task.path, records(), counts)
    return counts()


def make_fingerprints(task, advance=lambda number: None):
    """Writes the fingerprints of a shard's documents, to find duplicates."""
    digests, signatures = bytearray(), bytearray()  # separate arrays take ten times the memory
    for text in task.documents(advance):
        digests += duplicates.digest(text).tobytes()
        if task.settings.near_duplicates is not None:
            signatures += duplicates.signature(text).tobytes()
    arrays = {"digests": np.frombuffer(digests, np.uint64).reshape(-1, 2)}
    if task.settings.near_duplicates is not None:
        shape = (-1, duplicates.ORDERS)
        arrays["signatures"] = np.frombuffer(signatures, np.uint32).reshape(shape)
    write_arrays(task.fingerprints_path, arrays)


# Runners: local processes, or Apache Beam


class Progress:
    """Progress line on standard error: how much input is done, speed, and remaining time."""

    def __init__(self, name, total):
        self._name, self._total, self._done = name, max(total, 1), 0
        self._begun = self._shown = time.monotonic()
        self._live = sys.stderr.isatty()

    def advance(self, number):
        """Adds a number of bytes to those done."""
        self.show(self._done + number)

    def show(self, done):
        """Sets the number of bytes done, and prints the line if it is due."""
        self._done, now = done, time.monotonic()
        if now - self._shown > (0.2 if self._live else 30):
            self._shown = now
            self._print("\r" if self._live else "\n")

    def end(self):
        """Prints the final line."""
        self._done = self._total
        self._print("\n")

    def _print(self, ending):
        fraction = min(self._done / self._total, 1)
        seconds = max(time.monotonic() - self._begun, 1e-6)
        bar = ("█" * round(30 * fraction)).ljust(30, "·")
        speed = f"{self._done / seconds / 1e6:.2f} MB/s"
        left = f"{seconds / fraction - seconds:,.0f} s left" if 0 < fraction < 1 else ""
        line = f"{self._name:10} {bar} {fraction:4.0%} {speed:>12} {left}"
        print(f"{line:78}", end=ending, file=sys.stderr, flush=True)


# In a worker process: the number of bytes that all workers have read, and the event to stop.
_advanced = _stopped = None


def _begin_worker(advanced, stopped):
    """Initializes a worker: shared progress, and an exit when the main process ends."""
    global _advanced, _stopped
    _advanced, _stopped = advanced, stopped

    def end_with_parent():
        connection.wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _advance(number):
    if _stopped.is_set():
        raise RuntimeError("another process has failed.")
    with _advanced.get_lock():
        _advanced.value += number


def _work(function, task):
    return function(task, _advance)


def _bytes_of(task):
    ends = [files.size(part.path) if part.end is None else part.end for part in task.parts]
    return sum(end - part.begin for part, end in zip(task.parts, ends, strict=True))


def run_processes(function, tasks, name, workers):
    """Calls a function for each task in several processes, and shows the progress.

    Args:
        function: a function `(task, advance)`.
        tasks: list of `Task`s.
        name: name of the work, for the progress line.
        workers: number of processes.

    Raises:
        RuntimeError: a process was killed.
    """
    progress = Progress(name, sum(map(_bytes_of, tasks)))
    if workers == 1:
        for task in tasks:
            function(task, progress.advance)
        return progress.end()
    # Spawned, as forked processes would inherit locks held by threads.
    context = multiprocessing.get_context("spawn")
    shared = context.Value("q", 0), context.Event()
    advanced, stopped = shared
    with ProcessPoolExecutor(min(workers, len(tasks)), context, _begin_worker, shared) as pool:
        try:
            waiting = {pool.submit(_work, function, task) for task in tasks}
            while waiting:
                done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                progress.show(advanced.value)
        except BrokenProcessPool:
            raise RuntimeError(
                "a process was ended from outside, perhaps for lack of memory; run the same command"
                " again: it makes what is missing (fewer --workers need less memory)."
            ) from None
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return progress.end()


def run_beam(function, tasks, name, runner, flags):
    """Calls a function for each task on a runner of Apache Beam.

    Raises:
        ImportError: Apache Beam is not installed.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise ImportError(
            '--runner needs Apache Beam; install it with: pip install "bert4keras_lite[beam]".'
        ) from None
    options = PipelineOptions([f"--runner={runner}", *flags])
    with beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | "tasks" >> beam.Create(tasks)
            | "spread" >> beam.Reshuffle()
            | name >> beam.Map(function)
        )


# Main process


def _identity(settings, inputs, tokenizer):
    """Returns a dict for JSON that identifies a corpus: version, vocabulary, input, settings."""
    described = dataclasses.asdict(settings)
    del described["output"], described["vocab"]
    listing = "".join(f"{os.path.basename(path)} {size}\n" for path, size in inputs)
    return {
        "version": VERSION,
        "vocabulary": vocabulary_hash(tokenizer),
        "input": f"{len(inputs)} files, {sum(size for _, size in inputs)} bytes, SHA-256 of names"
        f" and sizes {hashlib.sha256(listing.encode()).hexdigest()}",
        **described,
    }


def _write_json(path, content):
    with files.replacing(path) as file:
        file.write(json.dumps(content, ensure_ascii=False, indent=1).encode())


def _begin(settings, identity):
    """Writes the identity of a corpus to its output, or checks it against the one already there.

    Returns:
        The manifest if the corpus is finished, else None.

    Raises:
        ValueError: the output holds a corpus of other settings, or no corpus.
    """
    files.make_directory(settings.output)
    path = files.join(settings.output, MANIFEST)
    if not files.exists(path):
        _write_json(path, {"settings": identity})
        return None
    with files.open_binary(path) as file:
        try:
            manifest = parse_json(file.read())
            previous = dict(manifest["settings"])
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f"{path} is not a file of this program; expected a new or empty --output."
            ) from None
    differing = [k for k in {**previous, **identity} if previous.get(k) != identity.get(k)]
    if differing:
        changes = "; ".join(
            f"{excerpt(key)}: {shown(previous.get(key))} there, {identity.get(key)!r} now"
            for key in differing[:MOST_SHOWN]
        )
        raise ValueError(
            f"{settings.output} holds a corpus of {len(differing)} other settings ({changes});"
            " expected a new or empty --output, or the settings it was begun with."
        )
    if "shards" not in manifest:
        return None
    manifest, names = read_manifest(settings.output), [*COUNTS, "dropped", "padding"]
    totals = manifest.get("totals")
    if not isinstance(totals, dict) or not all(
        type(totals.get(name)) in (int, float) and 0 <= totals[name] <= MOST_COUNTED
        for name in names
    ):
        raise ValueError(
            f"{path}: totals: expected the numbers {', '.join(names)}, not below 0, got"
            f" {shown(totals)}; make the corpus again."
        )
    return manifest


def _without_duplicates(tasks):
    """Returns the tasks with `dropped` set, by their fingerprints.

    Raises:
        ValueError: a file of fingerprints is invalid.
    """
    settings, arrays = tasks[0].settings, []
    for task in tasks:
        fingerprints = read_arrays(task.fingerprints_path)
        rows = fingerprints["digests"].shape[:1] if "digests" in fingerprints else ()
        expected = {"digests": ("uint64", (*rows, 2))}
        if settings.near_duplicates is not None:
            expected["signatures"] = ("uint32", (*rows, duplicates.ORDERS))
        specs = {name: (array.dtype.name, array.shape) for name, array in fingerprints.items()}
        if specs != expected:
            raise ValueError(
                f"{task.fingerprints_path}: expected the arrays {expected}, got"
                f" {shown(specs)}. Remove the file: it is made again."
            )
        arrays.append(fingerprints)
    dropped = duplicates.repeated(np.concatenate([part["digests"] for part in arrays]))
    if settings.near_duplicates is not None:
        signatures = np.concatenate([part["signatures"] for part in arrays])
        dropped |= duplicates.nearly_repeated(signatures, settings.near_duplicates)
    ends = np.cumsum([len(part["digests"]) for part in arrays])
    parts = np.split(dropped, ends[:-1])
    return [
        dataclasses.replace(task, dropped=part.tobytes())
        for task, part in zip(tasks, parts, strict=True)
    ]


def _counts(task, record_length):
    """Returns the counts of a finished shard after checking them.

    Raises:
        ValueError: the counts do not belong to the shard.
    """
    offsets, counts = read_index(task.path)
    examples, dropped = len(offsets) - 1, sum(task.dropped)
    ranges = dict.fromkeys(COUNTS, (0, MOST_COUNTED)) | {
        "examples": (examples, examples),
        "places": (examples * record_length, examples * record_length),
        "filled": (examples, examples * record_length),
        "unknown": (0, counts.get("tokens", 0)),
        "dropped": (dropped, dropped),
    }
    problems = [
        f"{name} from {least} to {most}, got {shown(counts.get(name))}"
        for name, (least, most) in ranges.items()
        if not least <= counts.get(name, -1) <= most
    ]
    if counts.keys() != ranges.keys():
        problems = [f"the numbers {', '.join(sorted(ranges))}, got {shown(sorted(counts))}"]
    if problems:
        raise ValueError(
            f"{index_name(task.path)}: expected {problems[0]}. Remove it and its shard: they are"
            " made again."
        )
    return counts


def make_corpus(settings, inputs, run):
    """Makes a corpus, or the missing files of one.

    Args:
        settings: a `Settings`.
        inputs: list of glob patterns.
        run: a function `(function, tasks, name)` that calls the function for each task.

    Returns:
        The contents of `corpus.json`.

    Raises:
        ValueError: there is no input, or the settings do not match the vocabulary or the output.
    """
    inputs = find_inputs(inputs)
    packer = _packer(settings)
    tokenizer = packer.tokenizer
    identity = _identity(settings, inputs, tokenizer)
    finished = _begin(settings, identity)
    if finished:
        return finished

    groups = divide(inputs, settings.shards, settings.document)
    tasks = [Task(settings, i, tuple(parts)) for i, parts in enumerate(groups)]
    if settings.looks_for_duplicates:
        missing = [task for task in tasks if not files.exists(task.fingerprints_path)]
        if missing:
            run(make_fingerprints, missing, "duplicates")
        tasks = _without_duplicates(tasks)
    missing = [task for task in tasks if not files.exists(task.path)]
    if missing:
        run(make_shard, missing, "shards    ")

    counts = [_counts(task, packer.record_length) for task in tasks]
    totals = {name: sum(shard[name] for shard in counts) for name in counts[0]}
    if not totals["examples"]:
        raise ValueError("--input: all documents were empty or filtered out; expected text.")
    totals["padding"] = 1 - totals["filled"] / totals["places"]
    manifest = {
        "mode": settings.mode,
        "sequence_length": settings.sequence_length,
        "record_length": packer.record_length,
        "seed": settings.seed,
        "vocab_size": tokenizer.vocab_size,
        "vocabulary_sha256": identity["vocabulary"],
        "special_ids": special_ids(tokenizer),
        "sentinel_ids": sentinel_ids(tokenizer),
        "totals": totals,
        "shards": [
            {"name": shard_name(i, settings.shards), "examples": shard["examples"]}
            for i, shard in enumerate(counts)
        ],
        "settings": identity,
    }
    _write_json(files.join(settings.output, MANIFEST), manifest)
    for name in filter(STRAY.fullmatch, files.names_in(settings.output)):
        files.remove(files.join(settings.output, name))
    return manifest


def summary(manifest):
    """Returns a summary of a corpus as text."""
    totals = manifest["totals"]
    return "\n".join(
        [
            f"documents  {totals['documents']:15,}   duplicates left out {totals['dropped']:,}",
            f"tokens     {totals['tokens']:15,}   unknown"
            f" {totals['unknown'] / max(totals['tokens'], 1):.3%}",
            f"examples   {totals['examples']:15,}   padding {totals['padding']:.3%}",
        ]
    )


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.corpus",
        description=__doc__.split("\n\n")[0],
        epilog="File names may be scheme://...; these are opened with TensorFlow.",
    )
    add = parser.add_argument
    add(
        "--input", nargs="+", required=True, metavar="GLOB", help="*.txt, *.json(l); also .gz, .zst"
    )
    add("--output", required=True, metavar="DIR")
    add("--mode", required=True, choices=MODES)
    add("--vocab", required=True, help="a checkpoint's directory, vocab.txt or *.model")
    add("--cased", action="store_true", help="a vocab.txt of cased text")
    types = {name: within(*ends) for name, ends in RANGES.items()}
    add("--sequence-length", type=types["sequence_length"], default=512)
    add(
        "--shards",
        type=types["shards"],
        default=16,
        help="number of files to write; each is made by one process",
    )
    add("--words", choices=WORDS, default="jieba", help="what a whole word is (mlm, electra)")
    add("--apart", action="store_true", help="begin a new sequence with each document")
    add(
        "--separator", metavar="TOKEN", help="between documents; default: the tokenizer's end token"
    )
    add("--seed", type=types["seed"], default=0)
    add("--document", choices=UNITS, default="paragraphs", help="what a document is in plain text")
    add("--text-key", default="text", help="key of the text in JSON lines")
    add("--encoding", default="utf-8")
    add(
        "--clean",
        action="store_true",
        help="remove HTML, invisible characters, repeated signs, spaces",
    )
    add(
        "--min-characters",
        type=types["min_characters"],
        default=1,
        help="leave shorter documents out",
    )
    add(
        "--min-chinese",
        type=types["min_chinese"],
        default=0.0,
        help="least fraction of Chinese characters in a document",
    )
    add("--unique", action="store_true", help="leave out documents that occurred before")
    add(
        "--near-duplicates",
        type=types["near_duplicates"],
        metavar="SHARE",
        help="and those that are similar to one to this degree, e.g. 0.8",
    )
    add("--workers", type=within(1, 1 << 16), default=os.cpu_count(), help="processes")
    add("--runner", help="a runner of Apache Beam; further flags are passed to it")
    return parser


def main(arguments=None):
    """Runs the command line; returns the exit status."""
    options, others = _parser().parse_known_args(arguments)
    if others and not options.runner:
        _parser().error(f"unknown: {' '.join(others)} (further flags need --runner)")
    names = [field.name for field in dataclasses.fields(Settings)]
    if options.runner:
        run = partial(run_beam, runner=options.runner, flags=others)
    else:
        run = partial(run_processes, workers=options.workers)
    try:
        settings = Settings(**{name: getattr(options, name) for name in names})
        begun = time.monotonic()
        manifest = make_corpus(settings, options.input, run)
    except (*files.MISTAKES, RuntimeError) as error:
        complain(error)
        return 1
    seconds = time.monotonic() - begun
    print(summary(manifest))
    print(f"{options.output}: {len(manifest['shards'])} shards, {seconds:,.1f} s")
    return 0


if __name__ == "__main__":
    # Imported by its own name, so that functions pickled here are found in other processes.
    from pretraining.corpus import main as named_main

    sys.exit(named_main())
