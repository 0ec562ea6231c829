"""One thread owns the model; requests that arrive together share its forward passes."""

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, fields

from .. import arguments

logger = logging.getLogger(__name__)

NOT_STARTED = (
    "the thread of the model was not started: the ASGI server must run this application's lifespan, "
    "or, if it is mounted, the lifespan of the outer application must enter it"
)
TIME_IS_OVER = "the time for this request is over"

# the least and the most of limits, where it is not 1 to a day of seconds, or 1 to 2**31 - 1
DAY = 86400.0
RANGES = {
    "wait": (0.0, DAY),
    "new_tokens": arguments.RANGES["max_new_tokens"],
    **dict.fromkeys(("header_seconds", "body_seconds", "read_seconds", "idle_seconds"), (0.1, DAY)),
}


@dataclass(frozen=True)
class Limits:
    """What the server takes on.

    Attributes:
        characters: of one text.
        tokens: of one text, the start and end tokens included.
        texts: in one request.
        body: bytes of one request.
        new_tokens: that may be written for one request.
        seconds: from a request, once its body is there, to the last of its answer.
        waiting: texts that wait for the model; more are turned away.
        batch: texts in one forward pass.
        wait: seconds that a text waits for others to share its pass.
        writing: batches of texts that are written side by side.
        numbers: in one answer; of entities, characters too.
        connections: that are open at the same time; more are turned away.
        header_seconds: in which the header of a request must arrive, all of it.
        body_seconds: in which its body must arrive, all of it.
        read_seconds: that the server waits for a client to read an answer, all of them together.
        idle_seconds: that a connection stays open without a request.
    """

    characters: int = 2000
    tokens: int = 1024
    texts: int = 32
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
    def of(cls, values):
        """Limits of that name, and the usual ones.

        Raises:
            ValueError: there is no limit of a name, or a value is out of its range.
        """
        for name in values.keys() - (known := [field.name for field in fields(cls)]):
            raise ValueError(f"limit {name}: expected one of {', '.join(known)}.")
        return cls(**values)

    def __post_init__(self):
        for field in fields(self):
            usual = (1, 2**31 - 1) if field.type is int else (1.0, DAY)
            value = getattr(self, field.name)
            least, most = RANGES.get(field.name, usual)
            arguments.check_number(f"limit {field.name}", value, least, most)
        if self.wait >= self.seconds:
            raise ValueError(
                f"limit wait={self.wait}: expected less than the limit seconds, {self.seconds}, "
                "after which the time for a request is over."
            )


class Overloaded(Exception):
    """There is no room for this request now."""


class Timeout(Exception):
    """The time for this request is over."""


class Failed(RuntimeError):
    """Something went wrong in the model."""


def failure(error, ability):
    """What a client is told of an error: itself, or its kind alone; then the log has the rest."""
    if isinstance(error, Failed):
        return error
    logger.error("%s", type(ability).__name__, exc_info=error)
    return Failed(f"{type(error).__name__} in the model")


class Job:
    """One text on its way through the worker, awaited in the event loop that it was made in.

    Args:
        ability: gives `key(item)`: jobs of one ability and one key may share a pass; and
            `program(jobs)`: a generator that takes them on step by step, and says what it has by
            `job.emit` and `job.end`.
        item: what the ability needs to know of the text.
        seconds: that there are for it.

    Attributes:
        over: whether all is told, or nobody waits for more.
        tokens: that were generated for it so far.
        so_far: a function without arguments that gives, when the time is over, what of the answer
            is there; None: nothing that is of use.
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
        """A part of the answer; from the worker's thread."""
        try:
            self.loop.call_soon_threadsafe(self.updates.put_nowait, update)
        except RuntimeError:  # the loop is closed: nobody listens
            self.over = True

    def end(self, error=None):
        """All was told, or this happened instead."""
        self.over = True
        self.emit(*([] if error is None else [error]))

    @contextlib.contextmanager
    def errors(self):
        """What goes wrong within ends this job, and no other one of its batch."""
        try:
            yield
        except Exception as error:
            self.end(failure(error, self.ability))

    def cancel(self):
        """Nobody waits for the answer any more."""
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
        """What is told next, within the time that there is: a pass may take longer.

        Raises:
            Timeout: nothing is.
        """
        if not self.updates.empty():
            return self.updates.get_nowait()
        try:
            return await asyncio.wait_for(self.updates.get(), self.deadline - time.monotonic())
        except asyncio.TimeoutError:
            self.cancel()
            raise Timeout(TIME_IS_OVER) from None

    async def result(self):
        """The answer, if it is told at once."""
        async for update in self:
            result = update
        return result


class Worker:
    """Takes jobs in the order in which they come, several at a time.

    Each turn begins at most one batch of jobs and brings every one that has begun a step further,
    so that those who wait for a long text and those who wait for one pass do not wait for each
    other.

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
        """`"ready"`, `"closing"`, `"failed"` (its thread has ended by an error), `"not started"`."""
        if self.failed:
            return "failed"
        if self.closing:
            return "closing"
        return "not started" if self.thread.ident is None else "ready"

    def start(self, jobs=()):
        """Starts the thread, with jobs before all others, whatever the limits are."""
        self.waiting.extend(jobs)
        self.thread.start()

    def check_room(self, count):
        """Looks whether so many jobs could be submitted now.

        Raises:
            Overloaded: there is no room.
            Failed: the thread of the model has ended, or was never started.
        """
        if self.status == "not started":
            raise Failed(NOT_STARTED)
        if self.failed:
            raise Failed("the thread of the model has ended by an error; restart the server")
        if self.closing:
            raise Overloaded("the server is shutting down")
        if self.counts()[0] + count > self.limits.waiting:
            raise Overloaded("too many requests are waiting")

    def submit(self, jobs):
        """All of these jobs, or none.

        Raises:
            Overloaded, Failed: see `check_room`.
        """
        with self.changed:
            self.check_room(len(jobs))
            self.waiting.extend(jobs)
            self.changed.notify()

    def counts(self):
        """How many jobs wait, and how many run, for which somebody waits."""
        with self.changed:
            waiting, running = list(self.waiting), list(self.running)
        return tuple(sum(not job.over for job in jobs) for jobs in (waiting, running))

    def close(self):
        """Takes no more jobs, finishes those that it has, and ends the thread."""
        with self.changed:
            self.closing = True
            self.changed.notify()
        self.thread.join(self.limits.seconds + 5)

    def _work(self):
        try:
            self._take_turns()
        except BaseException as error:  # it would end, and nobody would be told
            logger.critical("the thread of the model has ended", exc_info=True)
            with self.changed:
                self.failed = True
                for job in [*self.waiting, *self.running]:
                    if not job.over:
                        job.end(Failed(f"{type(error).__name__} in the thread of the model"))

    def _take_turns(self):
        while True:
            jobs = self._next_batch()
            if jobs:
                self.runs.append((jobs, jobs[0].ability.program(jobs)))
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
        """Jobs that share a key; none where nothing is due and there is other work, or no more."""
        with self.changed:
            while True:
                now = time.monotonic()
                self.waiting = [job for job in self.waiting if self._alive(job, now)]
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
        """The job that waits the longest and may begin, and those that can share its pass."""
        writing = sum(jobs[0].ability.generates for jobs, _ in self.runs)
        full = writing >= self.limits.writing
        first = next((job for job in self.waiting if not (full and job.ability.generates)), None)
        if first is None:
            return []
        return [job for job in self.waiting if job.key == first.key][: self.limits.batch]

    def _alive(self, job, now):
        if not job.over and now > job.deadline:
            job.end(Timeout(TIME_IS_OVER))
        return not job.over

    def _advance(self, jobs, program):
        """Brings a batch a step further; whether there is more to do."""
        now = time.monotonic()
        if not [job for job in jobs if self._alive(job, now)]:
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
