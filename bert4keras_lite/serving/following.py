"""Waits for what the worker makes of jobs, as long as a client waits for it."""

import asyncio
from dataclasses import asdict

from fastapi import HTTPException
from fastapi.responses import StreamingResponse

from . import schemas
from .abilities import GeneratedText
from .answers import GONE, as_json
from .worker import Failed, Timeout

# what ends a line for many clients, but not in server-sent events, and how JSON may spell it
LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}


async def updates(job, seed):
    """What a generating job tells: strings, and at last a `GenerateAnswer`.

    Raises:
        Timeout: the time was over before there was anything.
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
        written = job.so_far()
        if rest := written.text[len(text) :]:
            yield rest
        yield schemas.GenerateAnswer(**asdict(written), seed=seed)


async def whole(job, seed):
    """All that a generating job tells, as one answer."""
    async for update in updates(job, seed):
        answer = update
    return answer


class Events(StreamingResponse):
    """All that a generating job tells, as server-sent events. Leaving early stops the job."""

    def __init__(self, job, seed, metrics):
        headers = {"Cache-Control": "no-store"}
        super().__init__(events(job, seed), media_type="text/event-stream", headers=headers)
        self.job, self.metrics = job, metrics

    async def __call__(self, scope, receive, send):
        try:
            await super().__call__(scope, receive, send)
        finally:  # not in the generator: of a client that leaves at once, it never begins
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
        yield event("error", {"status": status, "field": None, "message": f"{error}."})


def event(kind, data):
    return f"event: {kind}\ndata: {as_json(data).translate(LINE_ENDS)}\n\n"


async def results(jobs):
    """The answers of jobs that have one each."""
    return [await job.result() for job in jobs]


async def until_disconnect(request, jobs, answer):
    """What `answer` gives; if the client leaves before, its jobs are dropped."""
    answer, gone = asyncio.ensure_future(answer), asyncio.ensure_future(disconnected(request))
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise HTTPException(GONE, "the client has left.")
        return answer.result()
    finally:
        for job in jobs:
            job.cancel()
        for task in (answer, gone):
            task.cancel()
        await asyncio.wait((answer, gone))
        for task in (answer, gone):  # or asyncio tells of errors that nobody wanted to know
            if not task.cancelled():
                task.exception()


async def disconnected(request):
    while (await request.receive())["type"] != "http.disconnect":
        pass
