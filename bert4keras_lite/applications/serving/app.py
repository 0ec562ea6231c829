"""The ASGI application: validates requests, submits them to the worker, and answers.

Requests are handled in one event loop; what takes long runs in other threads. Errors have the form
`{"error": {"status", "field", "message"}}`; docs/serving.md lists the statuses.
"""

import asyncio
import contextlib
import random
import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException

from ...arguments import checks_flags
from ...pipelines import InvalidRequest, SentenceEncoder
from ...pipelines.classifiers import probabilities_of
from ...pipelines.information import Extraction
from ...pipelines.reranking import ranked
from . import guards, metrics, schemas
from .abilities import Conversation, Served
from .answers import (
    RequestProblem,
    array_pieces,
    as_json,
    in_utf8,
    list_pieces,
    object_pieces,
    problem,
    respond,
)
from .bodies import parsed
from .following import Events, complete_answer, results, until_disconnect
from .worker import Failed, Job, Limits, Overloaded, Timeout, Worker

__all__ = ["create_app"]

PAGE = Path(__file__).with_name("page")
RETRY_AFTER = {"Retry-After": "1"}
USUAL_NEW_TOKENS = 64
WARM_UP_SECONDS = 600  # the warm-up compiles, so it may take longer than a request


@checks_flags
def create_app(
    served: Served,
    limits: Limits | None = None,
    name: str = "model",
    warm_up: bool = False,
    hosts: Sequence[str] = (),
    token: str | None = None,
) -> FastAPI:
    """Creates the application, for any ASGI server.

    Args:
        served: a `Served` of `load`; only this application may use its model while it runs.
        limits: `Limits`; None: the defaults.
        name: name of the model.
        warm_up: compile at the start instead of at the first requests.
        hosts: host names of the server, besides those of loopback.
        token: token that requests must have in `Authorization: Bearer`; None: no token.

    Returns:
        A `FastAPI`, with the web page at `/` and its description at `/openapi.json`.

    Raises:
        ValueError: `name`, a host name or the token is invalid.
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"name: expected a name for the model, got {name!r:.200}.")
    limits, name = limits or Limits(), in_utf8(name)
    worker, counts = Worker(limits), metrics.Metrics()

    @contextlib.asynccontextmanager
    async def lifespan(app):
        jobs = []
        for ability in served.abilities.values() if warm_up else ():
            with contextlib.suppress(InvalidRequest):  # a model with very few positions
                jobs.append(Job(ability, ability.prepare(ability.example), WARM_UP_SECONDS))
        worker.start(jobs)
        yield
        await asyncio.to_thread(worker.close)

    codes = (400, 401, 404, 408, 413, 421, 422, 503, 504)
    problems = {status: {"model": schemas.ProblemAnswer} for status in codes}
    # FastAPI's documentation pages would load scripts from other servers
    app = FastAPI(title=name, lifespan=lifespan, docs_url=None, redoc_url=None, responses=problems)
    app.state.worker, app.state.limits, app.state.metrics = worker, limits, counts
    for error_class, handler in HANDLERS.items():
        app.add_exception_handler(error_class, handler)

    def post(path, request_schema, answer_schema):
        """Registers an endpoint: a coroutine of a request and its body, parsed by a schema."""
        schema = {"application/json": {"schema": request_schema.model_json_schema()}}

        def register(function):
            async def endpoint(request: Request) -> Any:
                return await function(request, await parsed(request, request_schema))

            endpoint.__name__, endpoint.__doc__ = function.__name__, function.__doc__
            body = {"requestBody": {"required": True, "content": schema}}
            app.post(path, response_model=answer_schema, openapi_extra=body)(endpoint)
            return function

        return register

    def ability_of(name):
        if name not in served.abilities:
            raise HTTPException(404, f"{name}: {served.cannot[name]}")
        return served.abilities[name]

    def check_text(field, text):
        """Checks a text of a request, before anything is made of it."""
        if len(text) > limits.characters:
            message = f"{len(text)} characters; at most {limits.characters} are read."
            raise RequestProblem(field, message)
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise RequestProblem(field, "half of a surrogate pair; expected whole characters.")

    def check_count(field, texts):
        most = min(limits.texts, limits.waiting)  # more can never be in the queue
        if len(texts) > most:
            message = f"{len(texts)} texts; at most {most} are read at once."
            raise RequestProblem(field, message)

    def prepare(ability, field, text, settings):
        """Prepares a text for an ability; `field` is its place in the request."""
        if not isinstance(text, Conversation):
            check_text(field, "".join(text))  # of a text, or a pair of texts
        try:
            item = ability.prepare(text, **settings)
        except InvalidRequest as error:
            raise RequestProblem(field, str(error)) from None
        if len(item.ids) > limits.tokens:
            message = f"{len(item.ids)} tokens; at most {limits.tokens} are read."
            raise RequestProblem(field, message)
        return item

    async def prepared(name, texts, begin=None, **settings):
        """Makes a job of each text; tokenizes in another thread, as that takes long.

        Args:
            name: name of the ability.
            texts: list of `(field, text)`.
            begin: when the time of the request began; None: now.
            **settings: arguments of the ability's `prepare`.
        """
        ability = ability_of(name)
        worker.check_room(len(texts))
        begin = time.monotonic() if begin is None else begin
        items = await asyncio.to_thread(
            lambda: [prepare(ability, field, text, settings) for field, text in texts]
        )
        left = begin + limits.seconds - time.monotonic()
        return [Job(ability, item, left) for item in items]

    async def submitted(request, jobs):
        """Submits jobs and returns their results."""
        worker.submit(jobs)
        return await until_disconnect(request, jobs, results(jobs))

    async def answers(request, name, texts, field="texts", **settings):
        """Submits a job for each text of a field and returns their results."""
        ability_of(name)
        check_count(field, texts)
        fields = [(f"{field}[{i}]", text) for i, text in enumerate(texts)]
        return await submitted(request, await prepared(name, fields, **settings))

    def check_size(field, numbers, advice):
        if numbers > limits.numbers:
            message = f"an answer of {numbers} numbers; at most {limits.numbers} are sent. {advice}"
            raise RequestProblem(field, message)

    @app.get("/health")
    async def health() -> schemas.Health:
        """Whether the server takes requests; 503 if it is closing, or its model has failed."""
        waiting, running = worker.counts()
        state = schemas.Health(
            status=worker.status,
            waiting=waiting,
            running=running,
            abilities=list(served.abilities),
        )
        return JSONResponse(state.model_dump(), 200 if state.status == "ready" else 503)

    @app.get("/metrics", response_class=Response)
    async def figures():
        """Counts and durations, in the text format of Prometheus."""
        waiting, running = worker.counts()
        text = counts.text(
            texts_waiting=("Texts waiting for the model.", waiting),
            texts_running=("Texts being processed by the model.", running),
        )
        return Response(text, media_type=metrics.CONTENT_TYPE)

    @app.get("/v1/model")
    async def model() -> schemas.Model:
        """The served model, its abilities, and the limits."""
        c = served.transformer.config
        entities, classifier = map(served.abilities.get, ("entities", "classify"))
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
            entities=list(map(in_utf8, entities.labels)) if entities else [],
            labels=list(map(in_utf8, classifier.labels)) if classifier else [],
            backend=keras.config.backend(),
            limits=asdict(limits),
            abilities=list(served.abilities),
            cannot={name: in_utf8(reason) for name, reason in served.cannot.items()},
        )

    @post("/v1/fill-mask", schemas.FillMaskRequest, schemas.FillMaskAnswer)
    async def fill_mask(request, body):
        """The most likely tokens at each mask of the texts."""
        predictions = await answers(request, "fill-mask", body.texts)
        numbers = body.top * sum(map(len, predictions))
        check_size("top", numbers, "Ask for fewer candidates.")

        def mask_pieces(candidates):
            pairs = [{"token": token, "probability": p} for token, p in candidates[: body.top]]
            yield as_json(pairs)

        filled = (
            object_pieces("masks", list_pieces(map(mask_pieces, masks)), text=text)
            for text, masks in zip(body.texts, predictions, strict=True)
        )
        return respond(object_pieces("results", list_pieces(filled)), numbers)

    async def vectors_of(request, body):
        settings = {} if body.pooling is None else {"pooling": body.pooling}
        if settings and isinstance(ability_of("vectors"), SentenceEncoder):
            message = "the pooling is that of the model's modules.json. Leave it out."
            raise RequestProblem("pooling", message)
        return np.stack(await answers(request, "vectors", body.texts, **settings))

    @post("/v1/vectors", schemas.VectorsRequest, schemas.VectorsAnswer)
    async def vectors(request, body):
        """A vector for each text."""
        array = await vectors_of(request, body)
        check_size("texts", array.size, "Send fewer texts.")
        return respond(object_pieces("vectors", array_pieces(array)), array.size)

    @post("/v1/similarity", schemas.VectorsRequest, schemas.SimilarityAnswer)
    async def similarity(request, body):
        """The cosine similarities of the texts' vectors."""
        check_size("texts", len(body.texts) ** 2, "Send fewer texts.")
        array = (await vectors_of(request, body)).astype("float64")  # squares cannot overflow
        array = array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), 1e-12)
        array = await asyncio.to_thread(np.matmul, array, array.T)
        return respond(object_pieces("similarity", array_pieces(array)), array.size)

    @post("/v1/classify", schemas.ClassifyRequest, schemas.ClassifyAnswer)
    async def classify(request, body):
        """The most likely labels of texts, or of pairs of texts."""
        texts, seconds = body.texts, body.second_texts
        if seconds is not None and len(seconds) != len(texts):
            message = f"{len(seconds)} texts; expected {len(texts)}, one for each of texts."
            raise RequestProblem("second_texts", message)
        items = texts if seconds is None else list(zip(texts, seconds, strict=True))
        labels_of_texts = await answers(request, "classify", items, top_k=body.top)

        def label_pieces(labels):
            yield as_json([{"label": in_utf8(name), "probability": p} for name, p in labels])

        numbers = sum(map(len, labels_of_texts))
        check_size("top", numbers, "Ask for fewer labels.")
        rows = list_pieces(map(label_pieces, labels_of_texts))
        return respond(object_pieces("results", rows), numbers)

    @post("/v1/rerank", schemas.RerankRequest, schemas.RerankAnswer)
    async def rerank(request, body):
        """Passages by how well they answer a query, best first."""
        check_text("query", body.query)
        settings = {}
        if body.instruction is not None:
            check_text("instruction", body.instruction)
            if ability_of("rerank").instruction is None:
                message = "the server was started without --instruction. Leave it out."
                raise RequestProblem("instruction", message)
            settings["instruction"] = body.instruction
        pairs = [(body.query, passage) for passage in body.passages]
        logits = await answers(request, "rerank", pairs, "passages", **settings)
        check_size("passages", len(logits), "Send fewer passages.")
        probs = probabilities_of(np.array(logits)[:, None])[:, 0].tolist()
        results = [
            {"position": i, "score": score, "probability": probs[i], "passage": passage}
            for i, score, passage in ranked(logits, body.passages, body.top)
        ]
        return respond(object_pieces("results", [as_json(results)]), len(results))

    @post("/v1/entities", schemas.EntitiesRequest, schemas.EntitiesAnswer)
    async def entities(request, body):
        """Entities that the model of `--ner` finds in the texts."""
        spans_of_texts = await answers(request, "entities", body.texts)
        numbers = await asyncio.to_thread(size_of, spans_of_texts)  # may be millions of spans
        check_size("texts", numbers, "Send fewer texts, or shorter ones.")

        def span_pieces(text, spans):
            for start, end, kind in spans:
                part, kind = text[start:end], in_utf8(kind)
                yield [as_json({"start": start, "end": end, "text": part, "kind": kind})]

        pairs = zip(body.texts, spans_of_texts, strict=True)
        marked = (list_pieces(span_pieces(*pair)) for pair in pairs)
        return respond(object_pieces("results", list_pieces(marked)), numbers)

    @post("/v1/extract-information", schemas.ExtractRequest, schemas.ExtractAnswer)
    async def extract_information(request, body):
        """What a schema names in the texts: spans, their relations, chosen options."""
        name, begin = "extract-information", time.monotonic()
        extractor = ability_of(name)
        check_count("texts", body.texts)
        for i, text in enumerate(body.texts):
            check_text(f"texts[{i}]", text)
        start = asyncio.to_thread(begun, extractor, body.texts, body.names, limits.prompts)
        extraction, schema = await start
        check_text("schema", schema)
        while parts := await asyncio.to_thread(parts_of, extraction):
            spans_of_parts, most = [], min(limits.texts, limits.waiting)
            for start in range(0, len(parts), most):
                fields = [("schema", pair) for pair in parts[start : start + most]]
                jobs = await prepared(name, fields, begin, threshold=body.threshold)
                spans_of_parts += await submitted(request, jobs)
            await asyncio.to_thread(extraction.take, spans_of_parts)
        results = extraction.results
        numbers = await asyncio.to_thread(size_of_answers, results)
        check_size("texts", numbers, "Send fewer texts, or shorter ones.")
        pieces = ([as_json(of_text)] for of_text in results)
        return respond(object_pieces("results", list_pieces(pieces)), numbers)

    @post("/v1/attention", schemas.AttentionRequest, schemas.AttentionAnswer)
    async def attention(request, body):
        """The attention probabilities between the tokens of a text."""
        ability = ability_of("attention")
        layers = selected("layers", body.layers, ability.blocks)
        heads = selected("heads", body.heads, ability.heads)
        jobs = await prepared("attention", [("text", body.text)], layers=layers, heads=heads)
        item = jobs[0].item
        numbers = len(layers) * len(heads) * len(item.ids) ** 2
        check_size("layers", numbers, "Ask for fewer layers or heads, or send a shorter text.")
        (weights,) = await submitted(request, jobs)
        tokens = served.tokenizer.ids_to_tokens(item.ids)
        tokens = [
            {"token": token, "start": start, "end": end}
            for token, (start, end) in zip(tokens, item.offsets, strict=True)
        ]
        rows = array_pieces(weights, digits=4)
        pieces = object_pieces("weights", rows, tokens=tokens, layers=layers, heads=heads)
        return respond(pieces, numbers)

    async def generated(request, body, name, field, text):
        """Answers with a generated text; with `stream`, piece by piece as it is generated."""
        new_tokens = body.max_new_tokens or min(USUAL_NEW_TOKENS, limits.new_tokens)
        if new_tokens > limits.new_tokens:
            message = f"{new_tokens}; at most {limits.new_tokens} are generated per request."
            raise RequestProblem("max_new_tokens", message)
        for option in ("top_k", "top_p"):
            if getattr(body, option) is not None and not body.sample:
                raise RequestProblem(option, "expected none without sample=true.")
        if body.min_new_tokens > new_tokens:
            message = f"{body.min_new_tokens}; expected at most {new_tokens}, the max_new_tokens."
            raise RequestProblem("min_new_tokens", message)
        for i, word in enumerate(body.bad_words):
            check_text(f"bad_words[{i}]", word)
        bad_words: tuple = ()
        if body.bad_words:
            bad_words = await asyncio.to_thread(bad_words_of, ability_of(name), body.bad_words)
        seed = random.getrandbits(32) if body.seed is None else body.seed
        (job,) = await prepared(
            name,
            [(field, text)],
            new_tokens=new_tokens,
            shorten=body.max_new_tokens is None,
            seed=seed,
            do_sample=body.sample,
            temperature=body.temperature,
            top_k=body.top_k,
            top_p=body.top_p,
            repetition_penalty=body.repetition_penalty,
            no_repeat_ngram_size=body.no_repeat_ngram_size,
            min_new_tokens=body.min_new_tokens,
            bad_words_ids=bad_words,
        )
        worker.submit([job])
        seed = seed if body.sample else None
        if body.stream:
            return Events(job, seed, counts)
        try:
            answer = await until_disconnect(request, [job], complete_answer(job, seed))
        finally:
            counts.tokens += job.tokens
        return Response(answer.model_dump_json(), media_type="application/json")

    @post("/v1/generate", schemas.GenerateRequest, schemas.GenerateAnswer)
    async def generate(request, body):
        """A text's continuation or answer; with `stream`, piece by piece as it is generated."""
        ability_of("generate")
        return await generated(request, body, "generate", "text", body.text)

    @post("/v1/chat", schemas.ChatRequest, schemas.GenerateAnswer)
    async def chat(request, body):
        """The answer to a conversation; with `stream`, piece by piece as it is generated."""
        ability_of("chat")
        if len(body.messages) > limits.messages:
            message = f"{len(body.messages)} messages; at most {limits.messages} are read."
            raise RequestProblem("messages", message)
        for i, message in enumerate(body.messages):
            check_text(f"messages[{i}].content", message.content)
        check_text("variables", as_json(body.variables))
        messages = [message.model_dump() for message in body.messages]
        conversation = Conversation(messages, body.variables)
        return await generated(request, body, "chat", "messages", conversation)

    @app.get("/", include_in_schema=False)
    async def page():
        return FileResponse(PAGE / "index.html")

    app.mount("/page", StaticFiles(directory=PAGE))
    for route in app.routes:  # the `$` of starlette's patterns also matches before a final newline
        route.path_regex = re.compile(route.path_regex.pattern.removesuffix("$") + r"\Z")
    paths = [route.path for route in app.routes]
    for guard, settings in (  # from the inside out
        (guards.BodyLimits, {"limits": limits}),
        (guards.BearerToken, {"token": guards.token_bytes(token)}),
        (guards.KnownHosts, {"hosts": guards.host_names(hosts)}),
        (guards.JsonProblems, {}),
        (guards.HeadAsGet, {}),
        (guards.Watch, {"metrics": counts, "paths": paths}),
    ):
        app.add_middleware(guard, **settings)
    return app


def size_of(spans_of_texts):
    """Returns the size of an answer with spans: their numbers and characters."""
    return sum(2 + end - start for spans in spans_of_texts for start, end, _ in spans)


def size_of_answers(results):
    """Returns the size of an `Extraction`'s results: their numbers and characters."""
    answers = [answer for result in results for of_name in result.values() for answer in of_name]
    inner = [answer["relations"] for answer in answers if "relations" in answer]
    return sum(3 + len(answer["text"]) for answer in answers) + (
        size_of_answers(inner) if inner else 0
    )


@contextlib.contextmanager
def schema_problems():
    """Makes errors about a schema those of the field."""
    try:
        yield
    except (InvalidRequest, TypeError) as error:
        raise RequestProblem("schema", str(error).removeprefix("schema: ")) from None


def begun(extractor, texts, schema, most):
    """Returns an `Extraction` and its schema as JSON, for another thread."""
    with schema_problems():
        extraction = Extraction(extractor, texts, schema, most)
    return extraction, as_json(schema)  # of strings alone, as `Extraction` checks


def parts_of(extraction):
    """Returns the next parts of an `Extraction`, for another thread."""
    with schema_problems():
        return extraction.parts()


def bad_words_of(generator, words):
    """Returns the ids of bad words, for another thread."""
    try:
        return generator.bad_words(words)
    except ValueError as error:
        raise RequestProblem("bad_words", str(error).removeprefix("bad_words: ")) from None


def selected(field, indices, count):
    """Returns the requested indices of layers or heads, after a check; None: all of them."""
    if indices is None:
        return list(range(count))
    seen = set()
    for i, number in enumerate(indices):
        if not 0 <= number < count:
            raise RequestProblem(f"{field}[{i}]", f"{number}; expected 0 to {count - 1}.")
        if number in seen:
            raise RequestProblem(f"{field}[{i}]", f"{number} again; expected each once.")
        seen.add(number)
    return indices


# ---------------------------------------------------------------- errors


async def http_problem(request, error):
    return problem(error.status_code, str(error.detail), headers=error.headers)


async def invalid_request(request, error):
    field, message = error.args
    return problem(422, message, field)


async def overloaded(request, error):
    return problem(503, f"{error} Try again later.", headers=RETRY_AFTER)


async def timed_out(request, error):
    return problem(504, str(error), headers=RETRY_AFTER)


async def failed(request, error):
    return problem(500, str(error))


HANDLERS = {
    StarletteHTTPException: http_problem,
    RequestProblem: invalid_request,
    Overloaded: overloaded,
    Timeout: timed_out,
    Failed: failed,
}
