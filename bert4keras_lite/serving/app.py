"""The server: what comes by HTTP is looked at here, given to the worker, and answered.

Everything runs in one event loop and the worker's thread. A problem is always
`{"error": {"status", "field", "message"}}` with the status: 404 for what this checkpoint cannot do,
400, 413 and 422 for what a request should not hold, 408, 503 and 504 for what comes too slowly, too much
at once, or takes too long.
"""

import asyncio
import json
import random
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException

from . import schemas
from .abilities import Refused, Written
from .worker import Busy, Job, Late, Limits, Worker

PAGE = Path(__file__).with_name("page")
RETRY_AFTER = {"Retry-After": "1"}
USUAL_NEW_TOKENS = 64
WARM_UP_SECONDS = 600  # what is tried at the start may take longer than a request
GONE = 499  # who would read it has left


def create_app(served, limits=None, name="model", warm_up=False):
    """The application, for any ASGI server.

    Args:
        served: from `load`; its model belongs to this application alone while that runs.
        limits: `Limits`.
        name: what to call the model.
        warm_up: whether to compile at the start, instead of at the first requests.

    Returns:
        A `FastAPI`, with the page at `/` and its description at `/openapi.json`.
    """
    limits = limits or Limits()
    worker = Worker(limits)

    @asynccontextmanager
    async def lifespan(app):
        worker.start()
        if warm_up:
            abilities = served.abilities.values()
            worker.submit([Job(a, a.prepare(a.example), WARM_UP_SECONDS) for a in abilities])
        yield
        await asyncio.to_thread(worker.close)

    problems = {status: {"model": schemas.ProblemAnswer} for status in (404, 413, 422, 503, 504)}
    # FastAPI's own pages of documentation load scripts from elsewhere
    app = FastAPI(title=name, lifespan=lifespan, docs_url=None, redoc_url=None, responses=problems)
    app.state.worker = worker
    app.add_middleware(BodyLimit, limits=limits)
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)

    def ability(name):
        if name not in served.abilities:
            raise HTTPException(404, f"{name}: {served.cannot[name]}")
        return served.abilities[name]

    def prepared(name, field, text, **settings):
        """A job of a text, looked at; `field` is where it stands in the request."""
        if len(text) > limits.characters:
            message = f"{len(text)} characters; at most {limits.characters} are read."
            raise RequestProblem(field, message)
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise RequestProblem(field, "half of a surrogate pair; expected whole characters.")
        wanted = ability(name)
        try:
            return Job(wanted, wanted.prepare(text, **settings), limits.seconds)
        except Refused as error:
            raise RequestProblem(field, str(error)) from None

    async def answers(request, name, texts):
        ability(name)
        if len(texts) > limits.texts:
            message = f"{len(texts)} texts; at most {limits.texts} are read at once."
            raise RequestProblem("texts", message)
        jobs = [prepared(name, f"texts[{i}]", text) for i, text in enumerate(texts)]
        worker.submit(jobs)
        return await while_there(request, jobs, asyncio.gather(*(job.result() for job in jobs)))

    @app.get("/health")
    async def health() -> schemas.Health:
        """Whether the server takes requests; 503 when it is closing."""
        found = schemas.Health(
            status="closing" if worker.closing else "ready",
            waiting=len(worker.waiting),
            running=len(worker.runs),
            abilities=list(served.abilities),
            cannot=served.cannot,
        )
        return JSONResponse(found.model_dump(), 503 if worker.closing else 200)

    @app.get("/v1/model")
    async def model() -> schemas.Model:
        """What is served, what it can do, and how much at once."""
        c = served.transformer.config
        entities = served.abilities.get("entities")
        return schemas.Model(
            name=name,
            family=c.family,
            blocks=c.block_counts["i"],
            heads=c.num_attention_heads,
            hidden_size=c.hidden_size,
            vocabulary=c.vocab_size,
            parameters=served.transformer.model.count_params(),
            mask=served.tokenizer.token_mask,
            continues=c.stacks == "one" and c.attend == "lm",
            entities=entities.labels if entities else [],
            backend=keras.config.backend(),
            limits=asdict(limits),
            abilities=list(served.abilities),
            cannot=served.cannot,
        )

    @app.post("/v1/fill-mask")
    async def fill_mask(body: schemas.FillMaskRequest, request: Request) -> schemas.FillMaskAnswer:
        """What could stand at each mask of the texts."""
        found = await answers(request, "fill-mask", body.texts)
        results = [
            {
                "text": text,
                "masks": [
                    [{"token": token, "probability": share} for token, share in mask[: body.top]]
                    for mask in masks
                ],
            }
            for text, masks in zip(body.texts, found, strict=True)
        ]
        return schemas.FillMaskAnswer(results=results)

    async def vectors_of(request, body):
        found = await answers(request, "vectors", body.texts)
        return np.stack([vectors[body.pooling] for vectors in found])

    @app.post("/v1/vectors")
    async def vectors(body: schemas.VectorsRequest, request: Request) -> schemas.VectorsAnswer:
        """A vector of each text."""
        return schemas.VectorsAnswer(vectors=(await vectors_of(request, body)).tolist())

    @app.post("/v1/similarity")
    async def similarity(
        body: schemas.VectorsRequest, request: Request
    ) -> schemas.SimilarityAnswer:
        """The cosines of the texts' vectors."""
        found = await vectors_of(request, body)
        found = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        return schemas.SimilarityAnswer(similarity=(found @ found.T).tolist())

    @app.post("/v1/entities")
    async def entities(body: schemas.EntitiesRequest, request: Request) -> schemas.EntitiesAnswer:
        """What the model of `--ner` finds in the texts."""
        found = await answers(request, "entities", body.texts)
        results = [
            [
                {"start": start, "end": end, "text": text[start:end], "kind": kind}
                for start, end, kind in spans
            ]
            for text, spans in zip(body.texts, found, strict=True)
        ]
        return schemas.EntitiesAnswer(results=results)

    @app.post("/v1/attention", response_model=schemas.AttentionAnswer)
    async def attention(body: schemas.AttentionRequest, request: Request):
        """How much each token of a text attends to each other one."""
        job = prepared("attention", "text", body.text)
        worker.submit([job])
        weights = await while_there(request, [job], job.result())
        layers = chosen("layers", body.layers, weights.shape[0])
        heads = chosen("heads", body.heads, weights.shape[1])
        weights = weights[np.ix_(layers, heads)].astype("float64").round(4)
        tokens = served.tokenizer.ids_to_tokens(job.item.ids)
        return JSONResponse(  # as it is: to check a million numbers one by one takes seconds
            {
                "tokens": [
                    {"token": token, "start": start, "end": end}
                    for token, (start, end) in zip(tokens, job.item.offsets, strict=True)
                ],
                "layers": layers,
                "heads": heads,
                "weights": weights.tolist(),
            }
        )

    @app.post("/v1/generate")
    async def generate(body: schemas.GenerateRequest, request: Request) -> schemas.GenerateAnswer:
        """A text's continuation or answer; with `stream`, piece by piece as it is written."""
        ability("generate")
        new_tokens = body.max_new_tokens or min(USUAL_NEW_TOKENS, limits.new_tokens)
        if new_tokens > limits.new_tokens:
            message = f"{new_tokens}; at most {limits.new_tokens} are written at once."
            raise RequestProblem("max_new_tokens", message)
        for field in ("top_k", "top_p"):
            if getattr(body, field) is not None and not body.sample:
                raise RequestProblem(field, "belongs to sample=true.")
        seed = random.getrandbits(32) if body.seed is None else body.seed
        job = prepared(
            "generate",
            "text",
            body.text,
            new_tokens=new_tokens,
            seed=seed,
            do_sample=body.sample,
            temperature=body.temperature,
            top_k=body.top_k,
            top_p=body.top_p,
            repetition_penalty=body.repetition_penalty,
        )
        worker.submit([job])
        seed = seed if body.sample else None
        if body.stream:
            headers = {"Cache-Control": "no-store"}
            return StreamingResponse(
                as_events(job, seed), media_type="text/event-stream", headers=headers
            )
        return await while_there(request, [job], whole(job, seed))

    @app.get("/", include_in_schema=False)
    async def page():
        return FileResponse(PAGE / "index.html")

    app.mount("/page", StaticFiles(directory=PAGE))
    return app


def run(served, host="127.0.0.1", port=8000, limits=None, name="model"):
    """Serves until interrupted; then what has begun is finished.

    Args:
        served, limits, name: see `create_app`.
        host, port: where to listen.
    """
    limits = limits or Limits()
    uvicorn.run(
        create_app(served, limits, name, warm_up=True),
        host=host,
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=int(limits.seconds) + 5,
    )


def chosen(field, wanted, count):
    """Which blocks or heads, of so many."""
    if wanted is None:
        return list(range(count))
    for i, number in enumerate(wanted):
        if not 0 <= number < count:
            raise RequestProblem(f"{field}[{i}]", f"{number}; expected 0 to {count - 1}.")
    return wanted


async def updates(job, seed):
    """What a writing job tells: strings, and at last an `Ending`."""
    try:
        async for update in job:
            if isinstance(update, Written):
                yield schemas.Ending(**asdict(update), seed=seed)
            else:
                yield update
    except Late:
        yield schemas.Ending(reason="time", seed=seed)


async def whole(job, seed):
    """All that a writing job tells, as one answer."""
    text = ""
    async for update in updates(job, seed):
        if isinstance(update, str):
            text += update
    return schemas.GenerateAnswer(text=text, **update.model_dump())


async def as_events(job, seed):
    """All that a writing job tells, as server-sent events. Leaving early stops the writing."""
    try:
        async for update in updates(job, seed):
            if isinstance(update, str):
                yield event("piece", schemas.Piece(text=update).model_dump())
            else:
                yield event("end", update.model_dump())
    except RuntimeError as error:
        yield event("error", {"status": 500, "field": None, "message": str(error)})
    finally:
        job.cancel()


def event(kind, data):
    return f"event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


async def while_there(request, jobs, answer):
    """What `answer` gives; if the client leaves before, its jobs are dropped."""
    answer, gone = asyncio.ensure_future(answer), asyncio.ensure_future(has_left(request))
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise HTTPException(GONE, "the client has left")
        return answer.result()
    finally:
        for task in (answer, gone):
            task.cancel()
        for job in jobs:
            job.cancel()


async def has_left(request):
    while (await request.receive())["type"] != "http.disconnect":
        pass


# ---------------------------------------------------------------- problems


class RequestProblem(Exception):
    """Something in a request: `field` and what is wrong with it."""


def problem(status, message, field=None, headers=None):
    field = field and field.encode("utf-8", "replace").decode()  # it may be anything that was sent
    error = schemas.Problem(status=status, field=field, message=message)
    return JSONResponse({"error": error.model_dump()}, status, headers)


async def http_problem(request, error):
    if error.status_code == 400:  # of FastAPI, when decoding fails
        return problem(400, "the body cannot be read; expected JSON in UTF-8.")
    return problem(error.status_code, str(error.detail), headers=error.headers)


async def unfit(request, error):
    field, message = error.args
    return problem(422, message, field)


async def invalid(request, error):
    """The first thing that is wrong, without the values, which need not be good JSON."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return problem(422, f"no JSON: {first.get('ctx', {}).get('error', 'it cannot be read')}")
    if first["loc"] == ("body",):
        return problem(422, "expected a JSON object, with Content-Type: application/json.")
    _, *path = first["loc"]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return problem(422, first["msg"] + ".", field.removeprefix(".") or None)


async def busy(request, error):
    return problem(503, f"{error}; try again later.", headers=RETRY_AFTER)


async def late(request, error):
    return problem(504, str(error), headers=RETRY_AFTER)


async def broken(request, error):
    return problem(500, str(error) if type(error) is RuntimeError else "an error of the server")


HANDLERS = {
    StarletteHTTPException: http_problem,
    RequestProblem: unfit,
    RequestValidationError: invalid,
    Busy: busy,
    Late: late,
    Exception: broken,
}


class BodyLimit:
    """Turns away bodies that are too large or come too slowly.

    Args:
        app: the ASGI application within.
        limits: `Limits`.
    """

    def __init__(self, app, limits):
        self.app, self.limits = app, limits

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        size, whole = 0, False

        async def limited():
            nonlocal size, whole
            if whole:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self.limits.seconds)
            except asyncio.TimeoutError:
                raise HTTPException(408, "the request did not arrive in time") from None
            size += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if size > self.limits.body:
                raise HTTPException(413, f"more than {self.limits.body} bytes")
            return message

        await self.app(scope, limited, send)
