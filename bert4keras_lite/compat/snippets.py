"""`bert4keras.snippets`: generators of batches, decoders, texts, files."""

import builtins
import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from multiprocessing import dummy as threads
from multiprocessing import pool as processes
from pathlib import Path
from typing import Any

import numpy as np

from .. import data, generation
from ..backend import predict_without_xla
from ..checkpoints.matching import orthogonally_resize
from ..data import sequence_padding
from ..layers import ViterbiDecoder
from .models import Model

__all__ = [
    "AutoRegressiveDecoder",
    "DataGenerator",
    "ViterbiDecoder",
    "WebServing",
    "basestring",
    "convert_to_str",
    "convert_to_unicode",
    "delete_arguments",
    "insert_arguments",
    "is_one_of",
    "is_py2",
    "is_string",
    "longest_common_subsequence",
    "longest_common_substring",
    "lowercase_and_normalize",
    "open",
    "orthogonally_resize",
    "parallel_apply",
    "parallel_apply_generator",
    "sequence_padding",
    "softmax",
    "strQ2B",
    "string_matching",
    "text_segmentate",
    "to_array",
    "truncate_sequences",
    "uniout",
]

is_py2 = False
basestring = str
uniout = None  # Python 3 prints Chinese


class AutoRegressiveDecoder(generation.AutoRegressiveDecoder):
    """`generation.AutoRegressiveDecoder`, whose models show no progress."""

    def last_token(self, model: Any) -> Model:
        """Returns a model that outputs the last position only; built once per model."""
        last = super().last_token(model)
        if not isinstance(last, Model):
            last = Model(last.inputs, last.outputs[0] if len(last.outputs) == 1 else last.outputs)
            predict_without_xla(last)
            self.models[id(model)] = model, last
        return last

    def random_sample(
        self,
        inputs: list,
        n: int,
        topk: int | None = None,
        topp: float | None = None,
        states: Any = None,
        temperature: float = 1,
        min_ends: int = 1,
    ) -> list[np.ndarray]:
        """Samples sequences; a `topp` of 1 or more leaves out nothing, as in bert4keras."""
        topp = None if topp is not None and topp >= 1 else topp
        return super().random_sample(inputs, n, topk, topp, states, temperature, min_ends)


def to_array(*args: Any) -> Any:
    """Converts to arrays: one array for one argument, else a list."""
    arrays = [np.array(x) for x in args]
    return arrays[0] if len(arrays) == 1 else arrays


def is_string(s: Any) -> bool:
    """Whether it is a string."""
    return isinstance(s, str)


def is_one_of(x: Any, ys: Iterable[Any]) -> bool:
    """Whether `x` is one of these objects."""
    return any(x is y for y in ys)


def strQ2B(ustring: str) -> str:
    """Converts full-width characters to half-width ones."""
    table = {12288: 32, **{code: code - 65248 for code in range(65281, 65375)}}
    return ustring.translate(table)


def string_matching(s: str, keywords: Iterable[str]) -> bool:
    """Whether one of the regular expressions is found in a string."""
    return any(re.search(keyword, s) for keyword in keywords)


def convert_to_unicode(text: Any, encoding: str = "utf-8", errors: str = "ignore") -> str:
    """Decodes bytes; strings stay as they are."""
    return text.decode(encoding, errors) if isinstance(text, bytes) else text


convert_to_str = convert_to_unicode


def lowercase_and_normalize(text: str) -> str:
    """Lower-cases a text, and strips accents."""
    text = unicodedata.normalize("NFD", text.lower())
    return "".join(char for char in text if unicodedata.category(char) != "Mn")


def text_segmentate(text: str, maxlen: int, seps: str = "\n", strips: str | None = None) -> list:
    """Splits a text at separators; see `data.text_segmentate`. Pieces are never truncated."""
    return data.text_segmentate(text, maxlen, seps, strips, truncate=False)


def truncate_sequences(maxlen: int, indices: Any, *sequences: list) -> list:
    """Removes elements of the longest lists, in place, until all have at most `maxlen` together."""
    kept = [sequence for sequence in sequences if sequence]
    indices = indices if isinstance(indices, list | tuple) else [indices] * len(kept)
    while sum(map(len, kept)) > maxlen:
        longest = int(np.argmax([len(sequence) for sequence in kept]))
        kept[longest].pop(indices[longest])
    return kept


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """Returns the softmax of an array."""
    x = np.exp(x - x.max(axis=axis, keepdims=True))
    return x / x.sum(axis=axis, keepdims=True)


def longest_common_substring(source: Sequence, target: Sequence) -> tuple[int, tuple]:
    """Returns the length of the first longest common part, and its bounds in both."""
    best, bounds = 0, (0, 0, 0, 0)
    lengths = [0] * (len(target) + 1)
    for i, x in enumerate(source, 1):
        before = 0
        for j, y in enumerate(target, 1):
            before, lengths[j] = lengths[j], before + 1 if x == y else 0
            if lengths[j] > best:
                best = lengths[j]
                bounds = (i - best, i, j - best, j)
    return best, bounds


def longest_common_subsequence(source: Sequence, target: Sequence) -> tuple[int, list]:
    """Returns the length of a longest common subsequence, and its pairs of indices."""
    lengths = np.zeros((len(source) + 1, len(target) + 1), dtype=int)
    for i, x in enumerate(source, 1):
        for j, y in enumerate(target, 1):
            neighbours = max(lengths[i, j - 1], lengths[i - 1, j])
            lengths[i, j] = lengths[i - 1, j - 1] + 1 if x == y else neighbours
    pairs: list[tuple[int, int]] = []
    i, j = len(source), len(target)
    while i and j:
        if source[i - 1] == target[j - 1]:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif lengths[i, j - 1] > lengths[i - 1, j]:
            j -= 1
        else:
            i -= 1
    return int(lengths[-1, -1]), pairs[::-1]


class open:
    """Opens a text file; with `indexable`, its lines can be taken by their numbers.

    Args:
        name: path of the file.
        mode, encoding, errors: see Python's `open`; the encoding is UTF-8 by default.
        indexable: whether to read the places of all lines; or the path of a JSON file to keep them
            in.
    """

    def __init__(
        self,
        name: Any,
        mode: str = "r",
        encoding: str | None = None,
        errors: str = "strict",
        indexable: Any = False,
    ) -> None:
        self.name = name
        text = {} if "b" in mode else {"encoding": encoding or "utf-8", "errors": errors}
        self.file: Any = builtins.open(name, mode, **text)  # type: ignore[call-overload]  # noqa: SIM115
        if not indexable:
            return
        if isinstance(indexable, str) and os.path.exists(indexable):
            self.offsets = json.loads(Path(indexable).read_text())
            return
        self.create_indexes()
        if isinstance(indexable, str):
            Path(indexable).write_text(json.dumps(self.offsets))

    def __getattr__(self, name):
        return getattr(self.file, name)

    def create_indexes(self) -> None:
        """Reads the places of all lines."""
        self.offsets = [self.file.tell()]
        while self.file.readline():
            self.offsets.append(self.file.tell())
        self.offsets.pop()
        self.file.seek(0)

    def __getitem__(self, key: int) -> str:
        self.file.seek(self.offsets[key])
        return self.file.readline()

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[str]:
        return iter(self.file)

    def __next__(self) -> str:
        return next(self.file)

    next = __next__

    def __enter__(self) -> "open":
        return self

    def __exit__(self, *error: Any) -> None:
        self.file.close()


def parallel_apply_generator(
    func: Callable,
    iterable: Iterable,
    workers: int,
    max_queue_size: int = 2000,
    dummy: bool = False,
    random_seeds: Any = True,
) -> Iterator[tuple[int, Any]]:
    """Applies a function in several processes, or threads; yields pairs of number and result.

    Results come in any order. At most `max_queue_size` items are waiting at a time.
    """
    pool_class = threads.Pool if dummy else processes.Pool
    numbered = enumerate(iterable)
    with pool_class(workers) as pool:
        while chunk := [item for _, item in zip(range(max_queue_size), numbered, strict=False)]:
            yield from pool.imap_unordered(_Numbered(func), chunk)


class _Numbered:
    """A function of pairs `(number, item)` that keeps the number."""

    def __init__(self, func):
        self.func = func

    def __call__(self, item):
        number, value = item
        return number, self.func(value)


def parallel_apply(
    func: Callable,
    iterable: Iterable,
    workers: int,
    max_queue_size: int = 2000,
    callback: Callable | None = None,
    dummy: bool = False,
    random_seeds: Any = True,
    unordered: bool = True,
) -> Any:
    """Applies a function in several processes, or threads.

    Returns:
        The results, in any order unless `unordered` is False; None if `callback` takes them.
    """
    results = parallel_apply_generator(func, iterable, workers, max_queue_size, dummy, random_seeds)
    if callback is not None:
        for _, result in results:
            callback(result)
        return None
    pairs = list(results) if unordered else sorted(results, key=lambda pair: pair[0])
    return [result for _, result in pairs]


class DataGenerator:
    """Template of a generator of batches: a script defines `__iter__(self, random=False)`.

    Args:
        data: a list of samples, or an iterable.
        batch_size: samples in a batch.
        buffer_size: number of samples to choose from if the number of all is not known; default
            1,000 batches.
    """

    def __init__(self, data: Any, batch_size: int = 32, buffer_size: int | None = None) -> None:
        self.data, self.batch_size = data, batch_size
        self.steps = -(-len(data) // batch_size) if hasattr(data, "__len__") else None
        self.buffer_size = buffer_size or batch_size * 1000

    def __len__(self) -> int:
        if self.steps is None:
            raise TypeError("DataGenerator: the data have no length. Pass steps_per_epoch.")
        return self.steps

    def _shuffled(self):
        if self.steps is not None:
            yield from (self.data[i] for i in np.random.permutation(len(self.data)))
            return
        waiting: list = []
        for sample in self.data:
            waiting.append(sample)
            if len(waiting) > self.buffer_size:
                yield waiting.pop(np.random.randint(len(waiting)))
        while waiting:
            yield waiting.pop(np.random.randint(len(waiting)))

    def sample(self, random: bool = False) -> Iterator[tuple[bool, Any]]:
        """Yields pairs of "is the last" and a sample."""
        samples = self._shuffled() if random else iter(self.data)
        try:
            current = next(samples)
        except StopIteration:
            return
        for following in samples:
            yield False, current
            current = following
        yield True, current

    def __iter__(self, random: bool = False) -> Iterator[Any]:
        raise NotImplementedError(
            f"{type(self).__name__}: define __iter__(self, random=False), which yields batches."
        )

    def forfit(self, random: bool = True) -> Iterator[Any]:
        """Yields batches for ever."""
        while True:
            yield from self.__iter__(random)

    def fortest(self, random: bool = False) -> Iterator[Any]:
        """Yields the inputs of batches for ever."""
        while True:
            for batch in self.__iter__(random):
                yield batch[0]

    def to_dataset(
        self, types: Any, shapes: Any, names: Any = None, padded_batch: bool = False
    ) -> Any:
        """Returns a `tf.data.Dataset` of samples that `__iter__` yields, in batches.

        Args:
            types, shapes: of a sample, as in `tf.data.Dataset.from_generator`.
            names: of inputs and targets, to yield dicts.
            padded_batch: whether to pad the samples of a batch.
        """
        import tensorflow as tf

        def named(names, values):
            if isinstance(names, str):
                return {names: values}
            if isinstance(names[0], str):
                return dict(zip(names, values, strict=True))
            return tuple(named(n, v) for n, v in zip(names, values, strict=True))

        def samples():
            for sample in self.forfit():
                yield sample if names is None else named(names, sample)

        if names is not None:
            types, shapes = named(names, types), named(names, shapes)
        options = {} if padded_batch else {"output_shapes": shapes}
        dataset = tf.data.Dataset.from_generator(samples, output_types=types, **options)
        if padded_batch:
            return dataset.padded_batch(self.batch_size, shapes)
        return dataset.batch(self.batch_size)


def insert_arguments(**arguments: Any) -> Callable:
    """Returns a decorator of `__init__` that adds keyword arguments, kept as attributes."""

    def decorator(function):
        @wraps(function)
        def new(self, *args, **kwargs):
            for name, default in arguments.items():
                setattr(self, name, kwargs.pop(name, default))
            return function(self, *args, **kwargs)

        return new

    return decorator


def delete_arguments(*arguments: str) -> Callable:
    """Returns a decorator of `__init__` that refuses keyword arguments."""

    def decorator(function):
        @wraps(function)
        def new(self, *args, **kwargs):
            for name in arguments:
                if name in kwargs:
                    raise TypeError(f"{type(self).__name__}: unexpected argument {name!r}.")
            return function(self, *args, **kwargs)

        return new

    return decorator


class WebServing:
    """Serves functions over HTTP, by FastAPI and uvicorn.

    Args:
        host, port: where to listen. The default host is this machine alone; `"0.0.0.0"` lets other
            machines in.
        server: ignored.

    Example:

        web = WebServing(port=8864)
        web.route("/gen_synonyms", gen_synonyms, {"text": (None, True), "n": (int, False)})
        web.start()
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 8000, server: str = "paste") -> None:
        self.host, self.port = host, port
        try:
            from fastapi import FastAPI
        except ImportError:
            raise ImportError("WebServing needs FastAPI: install bert4keras_lite[serve].") from None
        self.app = FastAPI()

    def wraps(self, func: Callable, arguments: dict[str, tuple], method: str = "GET") -> Callable:
        """Returns a function of the parameters of a request, as strings, that calls `func`.

        Args:
            func: its result must be possible in JSON.
            arguments: name -> pair of a conversion (or None), and whether it is required.
            method: `"GET"` or `"POST"`.

        Returns:
            It returns a dict with `code` (0: well; 1: an argument is missing; 2: an error), `desc`
            and `data`.
        """

        def answer(parameters):
            missing = [
                name
                for name, (_, is_required) in arguments.items()
                if is_required and name not in parameters
            ]
            if missing:
                return {"code": 1, "desc": f'lack of "{missing[0]}" argument', "data": {}}
            try:
                kwargs = {
                    name: parameters[name] if convert is None else convert(parameters[name])
                    for name, (convert, _) in arguments.items()
                    if name in parameters
                }
                return {"code": 0, "desc": "succeeded", "data": func(**kwargs)}
            except Exception as error:
                return {"code": 2, "desc": str(error), "data": {}}

        return answer

    def route(
        self, path: str, func: Callable, arguments: dict[str, tuple], method: str = "GET"
    ) -> None:
        """Serves a function at a path."""
        from fastapi import Request

        answer = self.wraps(func, arguments, method)

        async def endpoint(request):
            values = request.query_params if method == "GET" else await request.form()
            return answer(values)

        endpoint.__annotations__ = {"request": Request}
        self.app.add_api_route(path, endpoint, methods=[method])

    def start(self) -> None:
        """Serves until it is stopped."""
        import uvicorn

        uvicorn.run(self.app, host=self.host, port=self.port)
