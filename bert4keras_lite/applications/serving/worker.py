"""The model's thread, with dynamic batching: requests that arrive together share forward passes."""

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ... import arguments
from ...pipelines import InvalidOutput

__all__ = ["Failed", "Job", "Limits", "Overloaded", "Timeout", "Worker"]

logger = logging.getLogger(__name__)

NOT_STARTED = (
    "the model's thread was not started: the ASGI server must run this application's lifespan, or, "
    "if it is mounted, the lifespan of the outer application must enter it."
)
TIME_IS_OVER = "the time for this request is over."

# ranges of limits; the others are 1 second to a day, or 1 to 2**31 - 1
DAY = 86400.0
RANGES = {
    "wait": (0.0, DAY),
    "new_tokens": arguments.RANGES["max_new_tokens"],
    **dict.fromkeys(("header_seconds", "body_seconds", "read_seconds", "idle_seconds"), (0.1, DAY)),
}


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Attributes:
        characters: characters of a text, of a message, or of the JSON of a schema.
        tokens: tokens of a text or conversation, with start and end tokens.
        texts: texts in a request.
        messages: messages of a conversation.
        prompts: prompts of a request to extract information, each with a part of a text.
        body: bytes of a request.
        new_tokens: new tokens generated for a request.
        seconds: time from the end of a request's body to the end of its answer.
        waiting: texts that wait for the model; more are rejected.
        batch: texts in a forward pass.
        wait: seconds that a text waits for others to share its forward pass.
        writing: batches of texts that are generated concurrently.
        numbers: numbers in an answer; for spans, characters count as well.
        connections: open connections; more are rejected.
        header_seconds: time in which a complete request header must arrive.
        body_seconds: time in which a complete request body must arrive.
        read_seconds: total time that the server waits for a client to read an answer.
        idle_seconds: time that a connection stays open without a request.

    Raises:
        ValueError: a limit is out of its range.
    """

    characters: int = 2000
    tokens: int = 1024
    texts: int = 32
    messages: int = 64
    prompts: int = 256
    body: int = 1 << 20
    new_tokens: int = 256
    seconds: float = 60.0
    waiting: int = 256
    batch: int = 16
    wait: float = 0.005
    writing: int = 4
    numbers: int = 2_500_000  # all heads of a BERT of base shape for 128 tokens
    connections: int = 256
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    read_seconds: float = 60.0
    idle_seconds: float = 5.0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Limits":
        """Returns the given limits, and the defaults of the others.

        Args:
            values: dict of name -> value.

        Raises:
            ValueError: a name is unknown, or a value is out of its range.
        """
        for name in values.keys() - (known := [field.name for field in fields(cls)]):
            raise ValueError(f"limit {name}: expected one of {', '.join(known)}.")
        return cls(**values)

    def __post_init__(self):
        for field in fields(self):
            default = (1, 2**31 - 1) if field.type is int else (1.0, DAY)
            value = getattr(self, field.name)
            least, most = RANGES.get(field.name, default)
            arguments.check_number(f"limit {field.name}", value, least, most)
        if self.wait >= self.seconds:
            raise ValueError(
                f"limit wait={self.wait}: expected less than the limit seconds, {self.seconds}."
            )


class Overloaded(Exception):
    """The server cannot accept a request now."""


class Timeout(Exception):
    """The time for a request is over."""


class Failed(RuntimeError):
    """The model failed."""


def failure(error, ability):
    """Returns the error for the client; details of unexpected errors are logged only."""
    if isinstance(error, Failed | InvalidOutput):
        return Failed(*error.args)
    logger.error("%s", type(ability).__name__, exc_info=error)
    return Failed(f"{type(error).__name__} in the model.")


class Job:
    """One text in the worker; its result is awaited in the event loop that created it.

    Args:
        ability: a pipeline: its jobs with equal keys share a forward pass; or an object with
            `key(item)`, too, and `program(jobs)`: a generator that processes jobs step by step,
            and reports by `job.emit` and `job.end`.
        item: the prepared text, as returned by the ability's `prepare`.
        seconds: time limit.

    Attributes:
        over: whether all results were emitted, or the client no longer waits.
        tokens: number of tokens generated so far.
        so_far: function without arguments that returns the partial result when the time is over;
            None: there is none.
    """

    def __init__(self, ability, item, seconds):
        self.ability, self.item = ability, item
        self.key = (ability, ability.key(item))
        self.since = time.monotonic()
        self.deadline = self.since + seconds
        self.over = False
        self.tokens, self.so_far = 0, None
        self.loop = asyncio.get_running_loop()
        self.updates = asyncio.Queue()

    def emit(self, *update):
        """Passes a part of the result to the event loop; called in the worker's thread."""
        try:
            self.loop.call_soon_threadsafe(self.updates.put_nowait, update)
        except RuntimeError:  # the loop is closed
            self.over = True

    def end(self, error=None):
        """Ends the job, with an error or after its last result."""
        self.over = True
        self.emit(*([] if error is None else [error]))

    @contextlib.contextmanager
    def errors(self):
        """Makes exceptions in the context end this job only, not its whole batch."""
        try:
            yield
        except Exception as error:
            self.end(failure(error, self.ability))

    def cancel(self):
        """Marks that the client no longer waits."""
        self.over = True

    async def __aiter__(self):
        while True:
            update = await self._update()
            if not update:
                return
            if isinstance(update[0], Exception):
                raise update[0]
            yield update[0]

    async def _update(self):
        """Returns the next update within the time limit, even during a long forward pass.

        Raises:
            Timeout: there is none in time.
        """
        if not self.updates.empty():
            return self.updates.get_nowait()
        try:
            return await asyncio.wait_for(self.updates.get(), self.deadline - time.monotonic())
        except asyncio.TimeoutError:
            self.cancel()
            raise Timeout(TIME_IS_OVER) from None

    async def result(self):
        """Returns the last update, the result of jobs that have a single one."""
        async for update in self:
            result = update
        return result


def single_pass(jobs):
    """Answers the jobs of a pipeline in one step, as a generator."""
    pipeline = jobs[0].ability
    outputs = pipeline.predicted([job.item for job in jobs])
    for job, output in zip(jobs, outputs, strict=True):
        with job.errors():
            job.emit(pipeline.answer(job.item, output))
            job.end()
    yield


class Worker:
    """Runs jobs in batches, in the order of their arrival, in one thread.

    Each turn starts at most one batch of jobs and advances every running batch by one step, so
    that long generations and single forward passes do not block each other.

    Args:
        limits: `Limits`.
    """

    def __init__(self, limits):
        self.limits = limits
        self.waiting = []
        self.running = []
        self.runs = deque()
        self.changed = threading.Condition()
        self.closing = self.failed = False
        self.thread = threading.Thread(target=self._work, name="model", daemon=True)

    @property
    def status(self):
        """`"ready"`, `"closing"`, `"failed"` (its thread ended with an error), `"not started"`."""
        if self.failed:
            return "failed"
        if self.closing:
            return "closing"
        return "not started" if self.thread.ident is None else "ready"

    def start(self, jobs=()):
        """Starts the thread, with initial jobs that ignore the limits."""
        self.waiting.extend(jobs)
        self.thread.start()

    def check_room(self, count):
        """Checks that so many jobs could be submitted now.

        Raises:
            Overloaded: the queue has no room for them, or the server is shutting down.
            Failed: the model's thread has ended, or was never started.
        """
        if self.status == "not started":
            raise Failed(NOT_STARTED)
        if self.failed:
            raise Failed("the model's thread has ended with an error. Restart the server.")
        if self.closing:
            raise Overloaded("the server is shutting down.")
        if self.counts()[0] + count > self.limits.waiting:
            raise Overloaded("too many requests are waiting.")

    def submit(self, jobs):
        """Submits all of these jobs, or none.

        Raises:
            Overloaded, Failed: see `check_room`.
        """
        with self.changed:
            self.check_room(len(jobs))
            self.waiting.extend(jobs)
            self.changed.notify()

    def counts(self):
        """Returns the numbers of waiting and of running jobs that are not over."""
        with self.changed:
            waiting, running = list(self.waiting), list(self.running)
        return tuple(sum(not job.over for job in jobs) for jobs in (waiting, running))

    def close(self):
        """Rejects new jobs, finishes the submitted ones, and ends the thread."""
        with self.changed:
            self.closing = True
            self.changed.notify()
        self.thread.join(self.limits.seconds + 5)

    def _work(self):
        try:
            self._take_turns()
        except BaseException as error:  # or clients would wait for a thread that has ended
            logger.critical("the model's thread has ended", exc_info=True)
            with self.changed:
                self.failed = True
                for job in [*self.waiting, *self.running]:
                    if not job.over:
                        job.end(Failed(f"{type(error).__name__} in the model's thread."))

    def _take_turns(self):
        while True:
            jobs = self._next_batch()
            if jobs:
                program = getattr(jobs[0].ability, "program", single_pass)
                self.runs.append((jobs, program(jobs)))
            elif not self.runs:
                return
            for _ in range(len(self.runs)):
                run = self.runs.popleft()
                if self._advance(*run):
                    self.runs.append(run)
                else:
                    with self.changed:
                        self.running = [job for job in self.running if job not in run[0]]

    def _next_batch(self):
        """Returns jobs with equal keys; none if no batch is due and others run, or at the end."""
        with self.changed:
            while True:
                now = time.monotonic()
                self.waiting = [job for job in self.waiting if self._is_active(job, now)]
                batch = self._first_batch()
                due = batch and batch[0].since + self.limits.wait
                if batch and (now >= due or len(batch) == self.limits.batch or self.closing):
                    self.waiting = [job for job in self.waiting if job not in batch]
                    self.running = self.running + batch
                    return batch
                if self.runs or (self.closing and not self.waiting):
                    return []
                self.changed.wait(due - now if batch else None)

    def _first_batch(self):
        """Returns the first waiting job that may start, and those that can share its pass."""
        generating = sum(jobs[0].ability.generates for jobs, _ in self.runs)
        full = generating >= self.limits.writing
        first = next((job for job in self.waiting if not (full and job.ability.generates)), None)
        if first is None:
            return []
        return [job for job in self.waiting if job.key == first.key][: self.limits.batch]

    def _is_active(self, job, now):
        """Returns whether a job is not over; ends it if its time is over."""
        if not job.over and now > job.deadline:
            job.end(Timeout(TIME_IS_OVER))
        return not job.over

    def _advance(self, jobs, program):
        """Advances a batch by one step; returns whether it has more steps."""
        now = time.monotonic()
        if not [job for job in jobs if self._is_active(job, now)]:
            program.close()
            return False
        try:
            next(program)
            return True
        except StopIteration:
            error = None
        except Exception as caught:
            error = failure(caught, jobs[0].ability)
        for job in jobs:
            if not job.over:
                job.end(error)
        return False
