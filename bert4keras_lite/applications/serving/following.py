"""Waits for the results of jobs while their client is connected; server-sent events."""

import asyncio
from dataclasses import asdict

from fastapi import HTTPException
from fastapi.responses import StreamingResponse

from . import schemas
from .abilities import GeneratedText
from .answers import GONE, as_json
from .worker import Failed, Timeout

__all__ = ["Events", "complete_answer", "results", "until_disconnect"]

# characters that end a line for many clients, but not in server-sent events, and their JSON escapes
LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}


async def updates(job, seed):
    """Yields the updates of a generation job: strings, and at the end a `GenerateAnswer`.

    Raises:
        Timeout: the time was over before the first token.
    """
    text = ""
    try:
        async for update in job:
            if isinstance(update, GeneratedText):
                yield schemas.GenerateAnswer(**asdict(update), seed=seed)
            else:
                text += update
                yield update
    except Timeout:
        if job.so_far is None:
            raise
        generated = job.so_far()
        if rest := generated.text[len(text) :]:
            yield rest
        yield schemas.GenerateAnswer(**asdict(generated), seed=seed)


async def complete_answer(job, seed):
    """Returns the complete answer of a generation job."""
    async for update in updates(job, seed):
        answer = update
    return answer


class Events(StreamingResponse):
    """The updates of a generation job as server-sent events; a disconnect stops the job."""

    def __init__(self, job, seed, metrics):
        headers = {"Cache-Control": "no-store"}
        super().__init__(events(job, seed), media_type="text/event-stream", headers=headers)
        self.job, self.metrics = job, metrics

    async def __call__(self, scope, receive, send):
        try:
            await super().__call__(scope, receive, send)
        finally:  # not in the generator, which never starts if the client disconnects at once
            self.job.cancel()
            self.metrics.tokens += self.job.tokens


async def events(job, seed):
    try:
        async for update in updates(job, seed):
            if isinstance(update, str):
                yield event("piece", schemas.Piece(text=update).model_dump())
            else:
                yield event("end", update.model_dump(exclude={"text"}))
    except (Failed, Timeout) as error:
        status = 504 if isinstance(error, Timeout) else 500
        yield event("error", {"status": status, "field": None, "message": str(error)})


def event(name, data):
    return f"event: {name}\ndata: {as_json(data).translate(LINE_ENDS)}\n\n"


async def results(jobs):
    """Returns the results of jobs that have one each."""
    return [await job.result() for job in jobs]


async def until_disconnect(request, jobs, answer):
    """Awaits `answer`; cancels its jobs if the client disconnects before.

    Raises:
        HTTPException: the client has disconnected.
    """
    answer, disconnect = asyncio.ensure_future(answer), asyncio.ensure_future(disconnected(request))
    try:
        await asyncio.wait((answer, disconnect), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise HTTPException(GONE, "the client has disconnected.")
        return answer.result()
    finally:
        for job in jobs:
            job.cancel()
        for task in (answer, disconnect):
            task.cancel()
        await asyncio.wait((answer, disconnect))
        for task in (answer, disconnect):  # or asyncio logs that exceptions were never retrieved
            if not task.cancelled():
                task.exception()


async def disconnected(request):
    """Returns when the client has disconnected."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
