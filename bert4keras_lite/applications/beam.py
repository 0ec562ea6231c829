"""Labels and vectors of texts, and reranking, in Apache Beam: handlers for `RunInference`.

    with beam.Pipeline(options=options) as pipeline:
        lines = pipeline | ReadFromText("texts.txt")
        lines | RunInference(EncodeTexts("models/bge-small-zh-v1.5")) | ...

The model runs in a process of its own, which the handler starts in every worker. If that process
dies, the handler starts another one and tries the batch again; if the worker dies, that is up to
the runner.
"""

import logging
import multiprocessing
import multiprocessing.connection
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from ..arguments import MOST, check_number, check_options
from ..parsing import shown
from ..types import PathLike

try:
    from apache_beam.ml.inference.base import ModelHandler, PredictionResult
except ImportError:
    raise ImportError(
        "bert4keras_lite.applications.beam needs Apache Beam; install it with: pip install "
        '"bert4keras_lite[beam]".'
    ) from None

__all__ = ["ClassifyTexts", "EncodeTexts", "InvalidText", "RerankPassages", "serve"]

logger = logging.getLogger(__name__)

BATCHES = 16  # forward passes for the texts that Beam hands over together, sorted by their length


class InvalidText(NamedTuple):
    """What a handler with `errors="return"` gives for an element that it cannot answer."""

    element: Any
    message: str


class TextHandler(ModelHandler):
    """Base class of the handlers.

    Args:
        model: a directory that each worker can read, or the name of a model on a hub.
        batch_size: maximum number of texts in a forward pass; default 32.
        attempts: how often a batch is tried when the process of the model dies; default 3.
        errors: `"raise"` (default) stops the pipeline at an invalid text; `"return"` answers it
            with an `InvalidText`.
        **settings: arguments of the task.

    Raises:
        TypeError: a setting does not exist.
        ValueError: a number is out of its range, or `errors` is unknown.
    """

    task: ClassVar[str]
    known_settings: ClassVar[tuple] = ()

    def __init__(
        self,
        model: PathLike,
        batch_size: int = 32,
        attempts: int = 3,
        errors: str = "raise",
        **settings: Any,
    ) -> None:
        super().__init__()
        check_number("batch_size", batch_size, 1, MOST)
        check_number("attempts", attempts, 1, 100)
        check_options(type(self).__name__, settings, self.known_settings)
        for name in {"top_k", "maxlen"} & settings.keys():
            if settings[name] is not None:
                check_number(name, settings[name], 1, MOST)
        if errors not in ("raise", "return"):
            raise ValueError(f"errors: expected 'raise' or 'return', got {shown(errors)}.")
        self.model, self.batch_size, self.attempts = str(model), batch_size, attempts
        self.errors, self.settings = errors, settings

    def load_model(self) -> "ModelProcess":
        task = (self.task, self.model, self.settings, self.batch_size, self.errors)
        return ModelProcess(task, self.attempts)

    def run_inference(
        self, batch: Sequence, model: "ModelProcess", inference_args: Any = None
    ) -> Iterable:
        answers = model.answers(list(batch))
        return [
            PredictionResult(element, answer, self.model)
            for element, answer in zip(batch, answers, strict=True)
        ]

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        return {"min_batch_size": self.batch_size, "max_batch_size": BATCHES * self.batch_size}

    def validate_inference_args(self, inference_args: Any) -> None:
        if inference_args:
            raise ValueError("inference_args: expected none. Pass settings to the handler.")

    def get_metrics_namespace(self) -> str:
        return f"bert4keras_lite_{self.task}"


class ClassifyTexts(TextHandler):
    """Labels of texts: see `pipelines.classify`. Elements are texts, or pairs of texts.

    Answers are pairs `(label, probability)`, or lists of them.
    """

    task = "classify"
    known_settings = ("top_k", "maxlen")


class EncodeTexts(TextHandler):
    """Vectors of texts: see `SentenceEncoder.encode`. Elements are texts, answers arrays."""

    task = "encode"
    known_settings = ("prompt_name", "prompt")


class RerankPassages(TextHandler):
    """Passages by how well they answer a query: see `pipelines.rerank`.

    Elements are pairs of a query and a list of passages; answers are lists of
    `(index, score, passage)`, best first.
    """

    task = "rerank"
    known_settings = ("top_k", "maxlen", "normalize")


def _is_text_or_pair(element):
    return isinstance(element, str) or (isinstance(element, tuple) and _are_texts(element))


def _is_query(element):
    """Whether an element is a query and a list of passages, not one passage alone."""
    if not isinstance(element, tuple | list) or len(element) != 2:
        return False
    query, passages = element
    return isinstance(query, str) and isinstance(passages, tuple | list) and _are_texts(passages)


def _are_texts(values):
    return all(isinstance(value, str) for value in values)


# Keras is imported in the process of the model alone, so inside these functions.


def _check(elements, is_valid, expected):
    """Raises `InvalidRequest` if an element is not what a task takes."""
    from ..pipelines import InvalidRequest

    for element in elements:
        if not is_valid(element):
            raise InvalidRequest(f"{shown(element)}: expected {expected}.")


def _classifier(model, settings, batch_size):
    from ..pipelines import TextClassifier, load_classifier

    classifier = TextClassifier(*load_classifier(model))

    def answer(texts):
        _check(texts, _is_text_or_pair, "a text, or a pair of texts")
        answers = classifier(texts, batch_size, **settings)
        return [
            [tuple(label) for label in each] if isinstance(each, list) else tuple(each)
            for each in answers
        ]

    return answer


def _encoder(model, settings, batch_size):
    from ..pipelines import SentenceEncoder

    encoder = SentenceEncoder(model)

    def answer(texts):
        _check(texts, lambda text: isinstance(text, str), "a text")
        return list(encoder.encode(texts, batch_size, **settings))

    return answer


def _reranker(model, settings, batch_size):
    from ..pipelines import Reranker, load_classifier
    from ..pipelines.reranking import ranked

    model, labels, tokenizer, _ = load_classifier(model)
    top_k = settings.get("top_k")
    reranker = Reranker(
        model, labels, tokenizer, **{k: v for k, v in settings.items() if k != "top_k"}
    )

    def answer(elements):
        _check(elements, _is_query, "a query and a list of passages")
        pairs = [(query, passage) for query, passages in elements for passage in passages]
        results = iter(reranker(pairs, batch_size))  # short passages of all queries share batches
        return [
            [tuple(each) for each in ranked([next(results) for _ in passages], passages, top_k)]
            for _, passages in elements
        ]

    return answer


# task -> function of model, settings and batch size, which returns a function from a list of
# elements to their answers
TASKS: dict[str, Callable] = {"classify": _classifier, "encode": _encoder, "rerank": _reranker}


class ModelProcess:
    """A model in a process of its own, which answers one batch at a time, from any thread.

    Args:
        task: key of `TASKS`, its arguments, and `errors` of the handler.
        attempts: how often a batch is tried.
        module: whose function `serve` the process runs.
    """

    def __init__(self, task: tuple, attempts: int, module: str = __name__) -> None:
        self.task, self.attempts, self.module = task, attempts, module
        self.lock, self.process = threading.Lock(), None

    def answers(self, batch: list) -> list:
        """Returns the answers to the elements of a batch.

        Raises:
            RuntimeError: the process died in each of the attempts.
            Exception: what the task raises.
        """
        with self.lock:
            for _ in range(self.attempts):
                try:
                    is_answer, content = self._reply(batch)
                except (EOFError, ConnectionError):
                    code = self._stop()
                    logger.warning(
                        "The process of the model died with exit code %s, on a batch of %d.",
                        *(code, len(batch)),
                    )
                    continue
                if is_answer:
                    return content
                raise content
        raise RuntimeError(
            f"{self.task[1]}: the process of the model died {self.attempts} times, with exit code "
            f"{code}, on a batch of {len(batch)}; a code of -9 usually means that memory ran out. "
            "Use a smaller batch_size, or workers with more memory."
        )

    def _reply(self, batch):
        """Sends a batch to the process, which is started if need be, and returns what it sends.

        If anything interrupts this, such as the user, the process is ended: otherwise its late
        answer would be taken for the one to the next batch.
        """
        try:
            if self.process is None:
                self._start()
            self.connection.send(batch)
            return self.connection.recv()
        except BaseException as error:
            if self.process is not None and not isinstance(error, EOFError | ConnectionError):
                self.process.kill()
                self._stop()
            raise

    def _start(self):
        """Starts the process. It does not import the user's script, as multiprocessing would."""
        self.connection, other_end = multiprocessing.Pipe()
        number = other_end.fileno()
        command = f"from {self.module} import serve; serve({number})"
        self.process = subprocess.Popen([sys.executable, "-c", command], pass_fds=[number])
        other_end.close()  # then its death is the end of the connection
        self.connection.send(self.task)

    def _stop(self):
        """Waits for the end of the process, and returns its exit code."""
        self.connection.close()
        process, self.process = self.process, None
        return process.wait()


def serve(number: int) -> None:
    """Runs in the process of a model: answers batches until the handler is gone.

    Args:
        number: file descriptor of the connection. What is pickled comes from the handler alone.
    """
    connection = multiprocessing.connection.Connection(number)
    try:
        task, *arguments, errors = connection.recv()
        answer = None
        while True:
            batch = connection.recv()
            try:
                answer = answer or TASKS[task](*arguments)
                result = True, _answers(answer, batch, errors)
            except Exception as error:
                result = False, _portable(error)
            connection.send(result)
    except (EOFError, ConnectionError):
        return


def _answers(answer, batch, errors):
    """Returns the answers to a batch; with `errors="return"`, invalid texts are answers, too."""
    from ..pipelines import InvalidOutput, InvalidRequest

    try:
        return answer(batch)
    except (InvalidRequest, InvalidOutput) as error:
        if errors == "raise":
            raise
        if len(batch) == 1:
            return [InvalidText(batch[0], str(error))]
    middle = len(batch) // 2
    return [x for half in (batch[:middle], batch[middle:]) for x in _answers(answer, half, errors)]


def _portable(error):
    """Returns the error if it can be sent, or one with its message."""
    try:
        is_whole = str(type(error)(*error.args)) == str(error)
    except Exception:
        is_whole = False
    name = type(error).__module__.partition(".")[0]
    known = name in ("builtins", __name__.partition(".")[0])
    return error if is_whole and known else RuntimeError(f"{type(error).__name__}: {error}")
