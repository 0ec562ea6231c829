"""Nobody let in: what clients that are hostile, slow or gone get from the server, and what not.

No model takes part: abilities are stand-ins, so that what is tried is the server alone.
"""

import asyncio
import contextlib
import errno
import json
import logging
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4keras_lite.applications.cli import main
from bert4keras_lite.applications.serving import Limits
from bert4keras_lite.applications.serving.abilities import GeneratedText, Served
from bert4keras_lite.pipelines.base import Encoded

httpx = pytest.importorskip("httpx")
uvicorn = pytest.importorskip("uvicorn")
TestClient = pytest.importorskip("fastapi.testclient").TestClient
from bert4keras_lite.applications.serving import answers, guards, reading  # noqa: E402
from bert4keras_lite.applications.serving.app import create_app  # noqa: E402
from bert4keras_lite.applications.serving.server import Lingering, OneLine, Server, config  # noqa: E402

TOKEN = "a-token-of-the-tests"
HEAD = "POST /v1/vectors HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BODY = json.dumps({"texts": ["a"]})
WHOLE = f"{HEAD}Content-Length: {len(BODY)}\r\n\r\n{BODY}"
LONG = 60  # seconds, against hanging alone


class Ability:
    """Answers each text with a value.

    Args:
        value: what each text gets.
        held: an event, for which a forward pass waits.
    """

    generates, example = False, "a"

    def __init__(self, value, held=None):
        self.value, self.held, self.began = value, held, threading.Event()

    def prepare(self, text, **settings):
        return Encoded(text, list(range(len(text))), [(i, i + 1) for i in range(len(text))])

    def key(self, item):
        return 1

    def program(self, jobs):
        self.began.set()
        if self.held is not None:
            self.held.wait(LONG)
        for job in jobs:
            job.emit(self.value)
            job.end()
        yield


class Matrices(Ability):
    """Answers each text with those of some matrices that are asked for."""

    def __init__(self, value):
        super().__init__(value)
        self.all, (self.blocks, self.heads) = value, value.shape[:2]

    def prepare(self, text, layers=(0,), heads=(0,)):
        self.value = self.all[np.ix_(layers, heads)]
        return super().prepare(text)


class Talker(Ability):
    """Generates a text in many pieces, of so many characters, as long as somebody listens."""

    generates = True

    def __init__(self, size=1):
        super().__init__("x" * size)

    def prepare(self, text, **settings):
        return Encoded(text, [0])

    def program(self, jobs):
        for count in range(1, 10_000):
            for job in jobs:
                job.tokens = count
                job.emit(self.value)
            time.sleep(0.005)
            yield


class Tokens:
    token_mask = "[MASK]"

    def ids_to_tokens(self, ids):
        return [str(i) for i in ids]


def app_of(limits=None, hosts=(), token=None, **abilities):
    """An application with stand-ins for abilities."""
    abilities = {name.replace("_", "-"): ability for name, ability in abilities.items()}
    return create_app(
        Served(SimpleNamespace(), Tokens(), abilities, {}), limits, hosts=hosts, token=token
    )


VECTOR = np.ones(3, "float32")


def vectors(limits=None, **settings):
    return app_of(limits, vectors=Ability(VECTOR), **settings)


@contextlib.contextmanager
def asking(app, **settings):
    with TestClient(app, base_url="http://localhost", **settings) as client:
        yield client


@contextlib.contextmanager
def listening(app, settings=config):
    """A real server in a thread; gives its port."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        server = Server(settings(app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield place.getsockname()[1]
        server.should_exit = True
        thread.join(LONG)
        assert not thread.is_alive()


def connect(port, data=b""):
    connection = socket.create_connection(("127.0.0.1", port), LONG)
    connection.sendall(data if isinstance(data, bytes) else data.encode())
    return connection


def rest_of(connection):
    """All that is still sent until the connection ends, however it ends."""
    parts = []
    try:
        while part := connection.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def error(response, status):
    assert response.status_code == status, response.text
    assert len(response.text) < 2000
    return response.json()["error"]


def until(condition):
    """Waits for something that happens elsewhere."""
    for _ in range(int(LONG / 0.01)):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


# ---------------------------------------------------------------- one request


@pytest.fixture(scope="module")
def matrices():
    """Attention of 24 blocks, 24 heads, 30 tokens."""
    return np.random.default_rng(0).random((24, 24, 30, 30), "float32")


def test_a_text_has_a_limit_of_tokens_whatever_the_model(matrices):
    tokens = Ability(VECTOR)
    app = app_of(Limits(tokens=5), attention=Matrices(matrices), vectors=tokens, generate=Talker())
    with asking(app) as client:
        for path, body in (("attention", {"text": "a" * 6}), ("vectors", {"texts": ["a" * 6]})):
            found = error(client.post(f"/v1/{path}", json=body), 422)
            assert found["message"] == "6 tokens; at most 5 are read."
        assert not tokens.began.is_set()
        assert client.post("/v1/vectors", json={"texts": ["a" * 5]}).status_code == 200


def test_more_texts_than_may_wait_are_no_reason_to_come_back():
    with asking(vectors(Limits(waiting=2))) as client:
        found = error(client.post("/v1/vectors", json={"texts": ["a"] * 3}), 422)
        assert found["message"] == "3 texts; at most 2 are read at once."
        assert client.post("/v1/vectors", json={"texts": ["a"] * 2}).status_code == 200


@pytest.mark.parametrize("field", ["layers", "heads"])
def test_lists_are_short_and_without_repeats(matrices, field):
    with asking(app_of(attention=Matrices(matrices))) as client:
        for numbers, where, words in (
            ([0] * 200_000, field, "at most 256"),
            (["a"] * 200_000, field, "at most 256"),
            ([3, 1, 3], f"{field}[2]", "3 again; expected each once"),
            ([24], f"{field}[0]", "expected 0 to 23"),
            ([10**4000], f"{field}[0]", "expected 0 to 23"),
        ):
            found = error(client.post("/v1/attention", json={"text": "a", field: numbers}), 422)
            assert found["field"] == where and words in found["message"]


def test_large_answers_are_made_in_pieces_and_are_right(matrices, monkeypatch):
    made = []
    monkeypatch.setattr(
        answers, "as_json", lambda x, f=answers.as_json: made.append(f(x)) or made[-1]
    )
    with asking(app_of(attention=Matrices(matrices))) as client:
        found = client.post("/v1/attention", json={"text": "a" * 30, "heads": [5, 2]}).json()
        assert found["heads"] == [5, 2] and len(found["tokens"]) == 30
        np.testing.assert_array_equal(
            found["weights"], matrices[:, [5, 2]].astype("float64").round(4)
        )
        whole = client.post("/v1/attention", json={"text": "a" * 30}).json()["weights"]
    assert np.shape(whole) == matrices.shape
    assert max(map(len, made)) < 16 * answers.PIECE  # no longer does the loop wait for a thread


class Asked(Ability):
    """Has room for texts of 99 tokens after each prompt."""

    def room(self, prompt):
        return 99


def test_an_answer_has_a_limit(matrices):
    spans = [(0, 9, "k")] * 10
    found = {"text": "aaaa", "start": 0, "end": 4, "probability": 0.5}
    masks = [[("t", 0.5)] * 50] * 3
    app = app_of(
        Limits(numbers=99),
        attention=Matrices(matrices),
        vectors=Ability(np.ones(50)),
        entities=Ability(spans),
        extract_information=Asked([found] * 9),
        fill_mask=Ability(masks),
    )
    texts = ["aaaaaaaaaa"] * 2
    with asking(app) as client:
        for path, body, field in (
            ("attention", {"text": "a" * 2}, "layers"),
            ("vectors", {"texts": texts}, "texts"),
            ("similarity", {"texts": texts * 5}, "texts"),
            ("entities", {"texts": texts}, "texts"),
            ("extract-information", {"texts": texts, "schema": "k"}, "texts"),
            ("fill-mask", {"texts": texts, "top": 50}, "top"),
        ):
            found = error(client.post(f"/v1/{path}", json=body), 422)
            assert found["field"] == field and "at most 99 are sent" in found["message"]
        assert client.post("/v1/vectors", json={"texts": ["a"]}).status_code == 200


class Held:
    """A matrix that is not given before it is let go; knows who asks for it."""

    shape = (1, 1, 100, 100)
    ndim, size = 4, 10_000

    def __init__(self):
        self.asked, self.let_go = threading.Event(), threading.Event()

    def __getitem__(self, where):
        return self  # whatever is asked for

    def __iter__(self):
        self.asked.set()
        assert self.let_go.wait(LONG)
        return iter(np.ones(self.shape, "float32"))


@pytest.mark.parametrize("what", ["answer", "text"])
def test_health_is_told_while_another_request_keeps_a_thread_busy(what):
    held = Held()
    ability = Matrices(held)
    if what == "text":
        ability.all = np.ones(held.shape)
        prepare = ability.prepare
        ability.prepare = lambda text, **settings: iter(held) and prepare(text, **settings)
    with listening(app_of(attention=ability)) as port:
        address, found = f"http://127.0.0.1:{port}", []
        body = {"text": "a" * 100}
        ask = lambda: found.append(httpx.post(f"{address}/v1/attention", json=body, timeout=LONG))  # noqa: E731
        thread = threading.Thread(target=ask)
        thread.start()
        assert held.asked.wait(LONG)
        assert httpx.get(f"{address}/health", timeout=LONG).status_code == 200
        held.let_go.set()
        thread.join()
    assert np.shape(found[0].json()["weights"]) == held.shape


class Silent(Talker):
    """Generates nothing before it is let on."""

    def program(self, jobs):
        self.held.wait(LONG)
        yield


def test_a_pass_that_takes_longer_than_a_request_may_is_told_in_time():
    held = threading.Event()
    silent = Silent()
    silent.held = held
    limits = Limits(seconds=1, wait=0)
    bodies = [
        ("vectors", {"texts": ["a"]}),
        ("generate", {"text": "a"}),
        ("generate", {"text": "a", "stream": True}),
    ]
    for first in ("vectors", "generate"):
        held.clear()
        app = app_of(limits, vectors=Ability(VECTOR, held), generate=silent)
        with asking(app) as client:
            try:
                answers = [
                    client.post(f"/v1/{path}", json=body)
                    for path, body in sorted(bodies, key=lambda pair: pair[0] != first)
                ]
            finally:
                held.set()
        streamed = [one for one in answers if "event-stream" in one.headers["content-type"]]
        assert len(streamed) == 1 and '"status":504' in streamed[0].text
        assert sum(one.status_code == 504 for one in answers) == 2


def test_tokenizing_takes_of_the_seconds_of_a_request():
    ability = Ability(VECTOR)
    prepare = ability.prepare
    ability.prepare = lambda text, **settings: time.sleep(1.2) or prepare(text)
    with asking(app_of(Limits(seconds=1), vectors=ability)) as client:
        assert client.post("/v1/vectors", json={"texts": ["a"]}).status_code == 504


def test_cosines_of_large_vectors():
    with asking(app_of(vectors=Ability(np.full(3, 1e30, "float32")))) as client:
        found = client.post("/v1/similarity", json={"texts": ["a", "b"]}).json()["similarity"]
    np.testing.assert_allclose(found, np.ones((2, 2)))


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"texts": [1] * 300_000}, 422, "texts[0]"),
        ({"texts": ["a"] * 200_000}, 422, "texts"),
        ({f"key{i}": i for i in range(45_000)}, 422, "key0"),
        ({"x" * 900_000: 1}, 422, None),
        ({"texts": ["a"], "pooling": "m" * 900_000}, 422, "pooling"),
        ({"texts": ["a" * 900_000]}, 422, "texts[0]"),
        ({"texts": {"a": ["b"] * 200_000}}, 422, "texts"),
        (b'{"texts": ' + b"[" * 900_000, 400, "a JSON text with 900001 items"),
        (b'{"texts": ' + b"[" * 101 + b"]" * 101 + b" " * 900_000 + b"}", 400, "100 deep within"),
        (b'{"texts": ["' + b"\xff" * 900_000 + b'"]}', 400, "cannot be decoded"),
        (b'{"texts": ' + b"1" * 900_000 + b"}", 400, None),
        (b"[" + b"1," * 400_000 + b"1]", 422, None),
    ],
)
def test_a_huge_body_gets_a_short_answer(body, status, field):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert len(content) > 500_000
    with asking(vectors()) as client:
        headers = {"Content-Type": "application/json"}
        found = error(client.post("/v1/vectors", content=content, headers=headers), status)
    assert field is None or field in (found["field"] or found["message"])


class Passages(Ability):
    instruction = None


HELLO = {"role": "user", "content": "a"}


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("chat", {"messages": [HELLO] * 20_000}, "messages"),
        ("chat", {"messages": [1] * 300_000}, "messages[0]"),
        ("chat", {"messages": [{**HELLO, "content": "a" * 900_000}]}, "messages[0].content"),
        ("chat", {"messages": [{**HELLO, "role": "a" * 900_000}]}, "messages[0].role"),
        ("chat", {"messages": [HELLO], "variables": {"a": "b" * 900_000}}, "variables"),
        ("chat", {"messages": [HELLO], "variables": {f"{i}": i for i in range(50_000)}}, "variab"),
        ("chat", {"messages": [HELLO], "bad_words": ["a"] * 200_000}, "bad_words"),
        ("chat", {"messages": [HELLO], "bad_words": ["a" * 900_000]}, "bad_words[0]"),
        ("rerank", {"query": "a" * 900_000, "passages": ["b"]}, "query"),
        ("rerank", {"query": "a", "passages": ["b"] * 200_000}, "passages"),
        ("rerank", {"query": "a", "passages": ["b" * 900_000]}, "passages[0]"),
        ("rerank", {"query": "a", "passages": [1] * 300_000}, "passages[0]"),
        ("rerank", {"query": "a", "passages": ["b"], "instruction": "c" * 900_000}, "instruction"),
        ("rerank", {"query": "a", "passages": ["b"], "instruction": "c"}, "instruction"),
    ],
)
def test_huge_conversations_and_passages(path, body, field):
    with asking(app_of(chat=Talker(), rerank=Passages(0.5))) as client:
        found = error(client.post(f"/v1/{path}", json=body), 422)
        assert found["field"].startswith(field)
        fine = client.post("/v1/rerank", json={"query": "a", "passages": ["b"]})
        assert fine.json()["results"][0]["score"] == 0.5


@pytest.mark.parametrize("disconnects", [False, True])
def test_a_conversation_that_nobody_reads_ends(disconnects):
    with listening(app := app_of(Limits(read_seconds=1), chat=Talker(size=1 << 20))) as port:
        body = json.dumps({"messages": [HELLO], "stream": True})
        head = HEAD.replace("vectors", "chat")
        connection = connect(port, f"{head}Content-Length: {len(body)}\r\n\r\n{body}")
        until(lambda: app.state.worker.counts() == (0, 1))
        if disconnects:
            connection.close()
        until(lambda: app.state.worker.counts() == (0, 0))
        assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=LONG).status_code == 200


def test_a_field_that_is_there_twice():
    with asking(vectors()) as client:
        headers = {"Content-Type": "application/json"}
        body = b'{"texts": ["a"], "texts": ["b"]}'
        found = error(client.post("/v1/vectors", content=body, headers=headers), 422)
    assert found["message"].startswith("the key 'texts' is there twice")


def test_json_must_be_called_json(monkeypatch):
    with asking(vectors()) as client:
        for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
            headers = {"Content-Type": kind} if kind else {}
            response = client.post("/v1/vectors", content=BODY, headers=headers)
            assert "application/json" in error(response, 422)["message"]


@pytest.mark.parametrize("name", ["temperature", "top_p", "repetition_penalty"])
def test_sampling_parameters_have_bounds(name):
    with asking(app_of(generate=Talker())) as client:
        for value in ("1e-45", "0.0009", "-1", "101", "1e999", "NaN", '"1"'):
            content = f'{{"text": "a", "sample": true, "{name}": {value}}}'
            headers = {"Content-Type": "application/json"}
            response = client.post("/v1/generate", content=content, headers=headers)
            assert error(response, 422)["field"] == name


# ---------------------------------------------------------------- slow clients


async def trickle(port, begin, byte):
    """Sends a byte every now and then until the server ends it; all that it has said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(begin)

    async def listen():
        parts = []
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(4096):
                parts.append(part)
        return b"".join(parts)

    answer = asyncio.ensure_future(listen())
    while not answer.done():
        await asyncio.wait([answer], timeout=0.1)
        writer.write(byte)
    writer.close()
    return answer.result()


async def many(*coroutines):
    return await asyncio.wait_for(asyncio.gather(*coroutines), LONG)


def test_two_hundred_slow_clients_are_sent_away():
    limits = Limits(header_seconds=2, body_seconds=2)
    header = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
    body = f"{HEAD}Content-Length: 999\r\n\r\n"
    with listening(app := vectors(limits)) as port:
        slow = [trickle(port, header, b"a") for _ in range(100)]
        slow += [trickle(port, body.encode(), b" ") for _ in range(100)]
        ends = asyncio.run(many(*slow))
        assert rest_of(connect(port, WHOLE.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")))
    for end, name in zip(ends, ["header"] * 100 + ["body"] * 100, strict=True):
        assert end.startswith(b"HTTP/1.1 408 ") and b"did not arrive within 2 seconds" in end
        assert name.encode() in end and b"x-request-id:" in end.lower()
    assert app.state.metrics.cut == {"header": 100}
    assert app.state.metrics.requests["/v1/vectors", 408] == 100


def test_a_slow_body_ends_with_any_server():
    plain = lambda app: uvicorn.Config(app, log_config=None)  # noqa: E731
    body = f"{HEAD}Content-Length: 999\r\n\r\n".encode()
    with listening(vectors(Limits(body_seconds=0.3)), plain) as port:
        (end,) = asyncio.run(many(trickle(port, body, b" ")))
    assert end.startswith(b"HTTP/1.1 408 ")


def test_a_body_that_goes_on_after_its_answer_ends():
    body = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode()
    refused = body.replace(b"/v1/vectors", b"/nothing")
    with listening(app := vectors(Limits(body_seconds=1))) as port:
        (end,) = asyncio.run(many(trickle(port, refused, b"1\r\na\r\n")))
    assert end.startswith(b"HTTP/1.1 404 ") and app.state.metrics.cut == {"body": 1}


def test_a_connection_on_which_nothing_is_sent_is_idle():
    app = vectors(Limits(header_seconds=LONG, idle_seconds=0.3))
    with listening(app) as port:
        begin = time.monotonic()
        assert rest_of(connect(port)) == b"" and time.monotonic() - begin < LONG / 2
        assert app.state.metrics.cut["header"] == 0


def test_a_connection_without_a_request_ends():
    limits = Limits(header_seconds=1, idle_seconds=0.3)
    with listening(vectors(limits)) as port:
        assert rest_of(connect(port)) == b""  # nothing was ever sent
        kept = rest_of(connect(port, WHOLE))
        assert kept.startswith(b"HTTP/1.1 200 ") and kept.count(b"HTTP/1.1") == 1
        half = rest_of(connect(port, WHOLE + "GET / HT"))  # the next one only begins
        assert half.startswith(b"HTTP/1.1 200 ") and b"HTTP/1.1 408 " in half


def test_a_slow_reader_is_cut():
    limits = Limits(read_seconds=0.3, new_tokens=10)
    with listening(app := app_of(limits, generate=Talker(size=1 << 20))) as port:
        body = json.dumps({"text": "a", "stream": True})
        head = HEAD.replace("vectors", "generate")
        connection = connect(port, f"{head}Content-Length: {len(body)}\r\n\r\n{body}")
        until(lambda: app.state.metrics.cut == {"reading": 1})
        until(lambda: app.state.worker.counts() == (0, 0))
        assert not rest_of(connection).endswith(b"0\r\n\r\n")
    assert app.state.metrics.tokens > 0


def test_connections_have_a_limit():
    with listening(app := vectors(Limits(connections=5))) as port:
        open_ones = [connect(port) for _ in range(5)]
        answer = rest_of(connect(port))
        assert answer.startswith(b"HTTP/1.1 503 ") and b"Retry-After: 1" in answer
        assert app.state.metrics.cut == {"too many": 1}
        open_ones.pop().close()
        until(lambda: b" 200 " in ask_and_close(port))
        for connection in open_ones:
            connection.close()


def ask_and_close(port, whole=WHOLE):
    try:
        return rest_of(connect(port, whole.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")))
    except OSError:  # closed before all was sent
        return b""


def test_what_is_no_http_gets_an_answer(caplog):
    caplog.set_level(logging.INFO, guards.access.name)
    with listening(app := vectors()) as port:
        answer = rest_of(connect(port, "天地不是人\r\n\r\n"))
    head, body = answer.split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ") and json.loads(body)["error"]["status"] == 400
    assert app.state.metrics.cut == {"no HTTP": 1}
    name = re.search(rb"(?i)x-request-id: (\w+)", head)[1].decode()
    assert [record.getMessage() for record in caplog.records] == [
        f"127.0.0.1 - - 400 0.000 s {name}"
    ]


@pytest.mark.parametrize(
    "nonsense", ["nonsense\r\n\r\n", f"{HEAD}Transfer-Encoding: chunked\r\n\r\nnone\r\n"]
)
@pytest.mark.parametrize("half_closed", [False, True])
def test_who_stays_after_nonsense_is_sent_away(nonsense, half_closed):
    limits = Limits(connections=2, header_seconds=0.2)
    with listening(vectors(limits)) as port:
        staying = [connect(port, nonsense) for _ in range(2)]
        for connection in staying:
            if half_closed:
                connection.shutdown(socket.SHUT_WR)
            assert rest_of(connection).startswith(b"HTTP/1.1 400 ")
        until(lambda: b" 200 " in ask_and_close(port))
        for connection in staying:
            connection.close()


def test_a_body_that_is_no_http(caplog):
    with listening(app := vectors()) as port:
        answer = rest_of(
            connect(port, f"{HEAD}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\nnone\r\n")
        )
        assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1 ") == 1
        until(lambda: app.state.metrics.requests["/v1/vectors", 499] == 1)
    assert caplog.records == []


def test_that_there_are_no_descriptors_is_one_line(caplog):
    asked = []
    loop = SimpleNamespace(time=lambda: 7.0, default_exception_handler=asked.append)
    handle = OneLine()
    for _ in range(100):
        handle(loop, {"message": "", "exception": OSError(errno.EMFILE, "Too many open files")})
        handle(
            loop, {"message": "Exception in callback _start_serving()", "exception": ValueError()}
        )
    (record,) = caplog.records
    assert "no connection is accepted for a second: Too many" in record.getMessage()
    handle(loop, other := {"message": "other", "exception": ValueError()})
    assert asked == [other]


# ---------------------------------------------------------------- bodies in chunks, odd requests


CHUNKED = f"{HEAD}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"


def in_chunks(body, size):
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    return "".join(f"{len(part):x}\r\n{part}\r\n" for part in parts) + "0\r\n\r\n"


@pytest.fixture
def parsed(monkeypatch):
    """The sizes of what h11 is given at a time."""
    sizes, receive = [], reading.Requests.receive_data
    monkeypatch.setattr(
        reading.Requests,
        "receive_data",
        lambda self, data: sizes.append(len(data)) or receive(self, data),
    )
    return sizes


def answer_to(port, data):
    """All that comes back, though the server may refuse to read all of it."""
    connection = connect(port)
    with contextlib.suppress(ConnectionError):
        connection.sendall(data.encode())
    return rest_of(connection)


def test_chunks_of_one_byte_are_refused(parsed):
    body = json.dumps({"texts": ["a"] * 4})
    with listening(app := vectors(Limits(body=1 << 21))) as port:
        assert answer_to(port, CHUNKED + in_chunks(body, 1)).startswith(b"HTTP/1.1 200 ")
        parsed.clear()
        answer = answer_to(port, CHUNKED + in_chunks(" " * 300_000, 1))
        assert answer.startswith(b"HTTP/1.1 400 ") and b"too small chunks" in answer
        assert sum(parsed) < 8 * reading.FRAMING and max(parsed) <= reading.SLICE
        until(lambda: app.state.metrics.requests["/v1/vectors", 499] == 1)
        parsed.clear()
        large = CHUNKED + in_chunks(body + " " * 300_000, 1024)
        assert answer_to(port, large).startswith(b"HTTP/1.1 200 ")
        assert sum(parsed) == len(large) and max(parsed) <= reading.SLICE
        parsed.clear()
        head = f"{HEAD}Connection: close\r\nContent-Length: 300000\r\n\r\n"
        assert answer_to(port, head + body.ljust(300_000)).startswith(b"HTTP/1.1 200 ")
        assert max(parsed) > 1 << 14  # of a known length, all that is there


@pytest.mark.parametrize(("host", "status"), [("localhost", 401), ("evil.example.com", 421)])
def test_a_body_is_not_read_before_host_and_token(host, status, parsed):
    head = CHUNKED.replace("localhost", host)
    with listening(vectors(token=TOKEN)) as port:
        answer = answer_to(port, head + in_chunks(" " * 100_000, 1))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()) and answer.count(b"HTTP/1.1 ") == 1
    assert parsed == [reading.SLICE]  # closed without taking any more


def test_others_get_their_turn_in_between():
    """A connection that always has more to take keeps neither others nor the loop waiting."""
    taken = []

    class Greedy:
        def __init__(self, name):
            self.name = name

        def take_slice(self):
            taken.append(self.name)
            turns.add(self)

    async def run():
        for name in "ab":
            turns.add(Greedy(name))
        for _ in range(10):
            await asyncio.sleep(0)
        turns.waiting.clear()

    turns = reading.Turns()
    asyncio.run(run())
    assert taken[::2] == ["a"] * len(taken[::2]) and taken[1::2] == ["b"] * len(taken[1::2])


def test_a_connection_that_fails_in_its_turn_stops_no_other():
    taken = threading.Event()
    failing = SimpleNamespace(take_slice=lambda: 1 / 0)

    async def run():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        turns.add(failing)
        turns.add(SimpleNamespace(take_slice=taken.set))
        for _ in range(4):
            await asyncio.sleep(0)

    turns = reading.Turns()
    asyncio.run(run())
    assert taken.is_set()


def test_a_header_has_a_limit(parsed):
    with listening(vectors()) as port:
        answer = answer_to(port, "GET /health HTTP/1.1\r\nHost: localhost\r\n" + "a:\n" * 100_000)
        assert answer.startswith(b"HTTP/1.1 400 ") and sum(parsed) < reading.HEADER + 9000
        trailer = "a:\n" * 100_000
        answer = answer_to(port, CHUNKED + f"1\r\n1\r\n0\r\n{trailer}\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")


GET = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def test_two_lengths_are_refused():
    both = f"{HEAD}Content-Length: {len(BODY)}\r\nTransfer-Encoding: chunked\r\n\r\n"
    for body in (BODY, in_chunks(BODY, 99)):
        with listening(app := vectors()) as port:
            answer = answer_to(port, both + body + GET)
        assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1 ") == 1
        assert b"at most one of them" in answer and not app.state.metrics.requests


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://localhost/health", 200),
        ("HTTP://LOCALHOST:8000/health?a=b", 200),
        ("http://localhost", 200),
        ("http://localhost?a", 200),
        ("https://127.0.0.1/nothing", 404),
        ("http://evil.example.com/health", 421),
        ("http://localhost@evil.example.com/health", 421),
        ("http:///health", 421),
        ("http://localhost/metrics", 401),
        ("ftp://localhost/health", 401),
    ],
)
def test_targets_with_a_host(target, status):
    """The host of the target counts, whatever `Host` says (RFC 9112, section 3.2.2)."""
    for host in ("localhost", "evil.example.com"):
        if status == 401 and target.startswith("ftp") and host != "localhost":
            continue
        with listening(vectors(token=TOKEN)) as port:
            request = GET.replace("/health", target).replace("Host: localhost", f"Host: {host}")
            if status == 404:
                request = request.replace("\r\n\r\n", f"\r\nAuthorization: Bearer {TOKEN}\r\n\r\n")
            answer = answer_to(port, request)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize("version", ["0.9", "1.2", "2.0", "9.9"])
@pytest.mark.parametrize("whole", [GET, WHOLE.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")])
def test_other_versions_of_http(whole, version):
    """A later version of HTTP/1 is taken for HTTP/1.1 (RFC 9110, section 2.5)."""
    with listening(app := vectors()) as port:
        answer = answer_to(port, whole.replace("HTTP/1.1", f"HTTP/{version}"))
    status = 200 if version == "1.2" else 400
    assert answer.startswith(start := f"HTTP/1.1 {status} ".encode()) and answer.count(start) == 1
    if status == 400:
        message = json.loads(answer.split(b"\r\n\r\n")[1])["error"]["message"]
        assert message.startswith(f"HTTP/{version}: ") and not app.state.metrics.requests


@pytest.mark.parametrize("end", ["%0a", "%0d%0a", "%0a%0a", "%0d", "%00", "%0b", "%e2%80%a8"])
def test_a_path_with_a_line_break_is_another_path(end):
    with asking(app := vectors()) as client:
        for path in ("/health", "/v1/model", "/metrics", "/openapi.json", "/", "/page/page.js"):
            error(client.get(path + end), 404)
        error(client.post(f"/v1/vectors{end}", json={"texts": ["a"]}), 404)
    assert {path for path, _ in app.state.metrics.requests} == {"other", "/page"}


def test_empty_lines_before_a_request():
    with listening(vectors()) as port:
        for lines in ("\r\n", "\r\n\r\n\r\n", "\n"):
            assert answer_to(port, lines + GET).startswith(b"HTTP/1.1 200 ")
        connection = connect(port, "\r")
        time.sleep(0.05)
        connection.sendall(f"\n{WHOLE}\r\n{GET}".encode())
        assert rest_of(connection).count(b"HTTP/1.1 200 ") == 2


@pytest.mark.parametrize(
    "value", ["bytes=9999999-", "bytes=a-b", "nonsense", "bytes=" + "0-0," * 200]
)
def test_wrong_ranges_are_problems_like_all_others(value):
    with asking(vectors()) as client:
        for path in ("/", "/page/page.js"):
            found = client.get(path, headers={"Range": value})
            if found.status_code >= 400:
                assert error(found, found.status_code)["message"]
                assert found.headers["content-type"] == "application/json"
            head = client.head(path, headers={"Range": value})
            assert (head.status_code, head.content) == (found.status_code, b"")
    assert value != "bytes=9999999-" or found.headers["content-range"].startswith("bytes */")


# ---------------------------------------------------------------- clients that leave


@pytest.mark.parametrize(
    ("more", "version"),
    [
        ("", "1.1"),
        ("G", "1.1"),
        (WHOLE * 3, "1.1"),
        (" " * 400_000, "1.1"),
        ("", "1.0"),
        ("G", "1.0"),
    ],
)
def test_who_leaves_is_noticed(more, version, caplog):
    """Also after the beginning of another request, and with HTTP/1.0."""
    held = threading.Event()
    request = WHOLE.replace("HTTP/1.1", f"HTTP/{version}")
    with listening(app := app_of(vectors=Ability(VECTOR, held))) as port:
        connection = connect(port, request)
        until(lambda: app.state.worker.counts() == (0, 1))
        connection.sendall(more.encode())
        time.sleep(0.05)
        connection.close()
        until(lambda: app.state.worker.counts() == (0, 0))
        held.set()
        until(lambda: app.state.metrics.requests["/v1/vectors", 499] == 1)
    assert caplog.records == []


def test_half_closed_clients_of_http_1_0_get_their_answer():
    with listening(vectors()) as port:
        long = WHOLE.replace(BODY, BODY.ljust(100_000)).replace(str(len(BODY)), "100000")
        for request in (WHOLE, long):
            connection = connect(port, request.replace("HTTP/1.1", "HTTP/1.0"))
            connection.shutdown(socket.SHUT_WR)
            assert rest_of(connection).startswith(b"HTTP/1.1 200 ")


def test_who_closes_its_side_gets_the_answers_of_all_requests(caplog):
    with listening(vectors()) as port:
        connection = connect(port, WHOLE * 20)
        connection.shutdown(socket.SHUT_WR)
        assert rest_of(connection).count(b"HTTP/1.1 200 ") == 20
        for half in (WHOLE[:-3], WHOLE[:30], f"{HEAD}Content-Length: 5\r\n\r\n", CHUNKED + "5\r\n"):
            for path in ("/v1/vectors", "/nothing", "/health"):
                connection = connect(port, half.replace("/v1/vectors", path))
                connection.shutdown(socket.SHUT_WR)
                rest_of(connection)
    assert caplog.records == []


def test_a_client_that_is_gone_when_its_side_is_closed(caplog):
    aborted = []

    class Gone:
        is_closing = can_write_eof = lambda self: not isinstance(self, Gone)
        abort = lambda self: aborted.append(True)  # noqa: E731

        def write_eof(self):
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    gone = Gone()
    gone.can_write_eof = lambda: True
    Lingering(gone, lambda: True, None).close()
    assert aborted == [True]
    loop = SimpleNamespace(time=lambda: 7.0, default_exception_handler=aborted.append)
    OneLine()(loop, {"message": "", "exception": OSError(errno.ENOTCONN, "")})
    assert aborted == [True] and caplog.records == []


def test_nothing_is_written_when_the_connection_is_lost(caplog):
    async def run():
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        theirs.close()
        lingering = Lingering(transport, lambda: False, None)
        for _ in range(20):  # asyncio complains of the sixth
            lingering.write(b"a")
        assert lingering.is_closing()

    asyncio.run(run())
    assert caplog.records == []


def test_a_half_closed_client_gets_its_answer():
    held = threading.Event()
    ability = Ability(VECTOR, held)
    with listening(app_of(vectors=ability)) as port:
        connection = connect(port, WHOLE)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b"HTTP/1.1 102 Processing\r\n\r\n"  # a sign of life
        held.set()
        answer = rest_of(connection).replace(b"HTTP/1.1 102 Processing\r\n\r\n", b"")
    head, body = answer.split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ") and json.loads(body) == {"vectors": [[1, 1, 1]]}


def test_who_has_left_is_not_counted(caplog):
    held = threading.Event()
    ability = Ability(VECTOR, held)
    app = app_of(Limits(batch=1, waiting=3), vectors=ability)
    with listening(app) as port:
        clients = [connect(port, WHOLE) for _ in range(3)]
        until(lambda: app.state.worker.counts() == (2, 1))
        for client in clients:
            client.close()
        until(lambda: app.state.worker.counts() == (0, 0))
        health = httpx.get(f"http://127.0.0.1:{port}/health").json()
        assert (health["waiting"], health["running"]) == (0, 0)
        held.set()
        body = {"texts": ["a"] * 3}  # there is room for all of them
        assert httpx.post(f"http://127.0.0.1:{port}/v1/vectors", json=body).status_code == 200
        until(lambda: app.state.metrics.requests["/v1/vectors", 499] == 3)
    assert [record.getMessage() for record in caplog.records if record.name != "httpx"] == []


def test_who_leaves_before_the_first_piece_stops_the_text():
    body = json.dumps({"text": "a", "stream": True})
    head = HEAD.replace("vectors", "generate")
    with listening(app := app_of(generate=Talker())) as port:
        for _ in range(20):
            connect(port, f"{head}Content-Length: {len(body)}\r\n\r\n{body}").close()
        until(lambda: sum(app.state.metrics.requests.values()) == 20)
        assert app.state.worker.counts() == (0, 0)


def test_who_leaves_within_a_body_is_counted_and_nothing_more(caplog):
    with listening(app := vectors()) as port:
        connect(port, f"{HEAD}Content-Length: 99\r\n\r\n{{").close()
        until(lambda: app.state.metrics.requests["/v1/vectors", 499] == 1)
    assert caplog.records == []


# ---------------------------------------------------------------- who may ask


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("LOCALHOST:8000", True),
        ("127.0.0.1:80", True),
        ("[::1]:8000", True),
        ("model.example.com:1", True),
        ("localhost.", True),
        ("evil.example.com", False),
        ("localhost.evil.example.com", False),
        ("localhost@evil.example.com", False),
        ("127.0.0.1.nip.io", False),
        ("::1", False),
        ("localhost:80:80", False),
        ("localhost:", False),
        ("", False),
    ],
)
def test_only_its_own_names_are_answered(host, allowed):
    with asking(vectors(hosts=["Model.example.com"])) as client:
        for path in ("/", "/health", "/page/page.js", "/nothing"):
            response = client.get(path, headers={"Host": host})
            if allowed:
                assert response.status_code in (200, 404)
            else:
                assert "--allow-host" in error(response, 421)["message"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hosts": [""]}, "names or addresses"),
        ({"hosts": ["http://a"]}, "names or addresses"),
        ({"token": ""}, "at least 8 visible"),
        ({"token": "short"}, "at least 8 visible"),
        ({"token": "with a space"}, "at least 8 visible"),
    ],
)
def test_names_and_tokens_that_cannot_be(settings, words):
    with pytest.raises(ValueError, match=words) as raised:
        vectors(**settings)
    assert not settings.get("token") or settings["token"] not in str(raised.value)


def test_a_token_is_asked_for(caplog, capfd):
    caplog.set_level(logging.DEBUG)
    with asking(vectors(token=TOKEN)) as client:
        right = {"Authorization": f"Bearer {TOKEN}"}
        for path in ("/", "/page/page.js", "/health"):
            assert client.get(path).status_code == 200
        for path in ("/metrics", "/openapi.json", "/nothing", "http://localhost//health", "/page"):
            for headers in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": TOKEN}):
                response = client.get(path, headers=headers, follow_redirects=False)
                error(response, 401)
                assert response.headers["www-authenticate"] == "Bearer"
            assert client.get(path, headers=right, follow_redirects=False).status_code != 401
        error(client.post("/v1/vectors", json={"texts": ["a"]}), 401)
        error(client.post("/v1/vectors", content=b"[" * 9_999_999), 401)  # it is not even read
        odd = {"Authorization": "Bearer 天地".encode()}
        error(client.post("/v1/vectors", json={"texts": ["a"]}, headers=odd), 401)
        assert client.post("/v1/vectors", json={"texts": ["a"]}, headers=right).status_code == 200
        assert TOKEN not in client.get("/metrics", headers=right).text
    with asking(app := vectors(token=TOKEN), root_path="/page") as client:
        error(client.get("/page/openapi.json"), 401)
    assert app and TOKEN not in caplog.text + "".join(capfd.readouterr())


def test_the_commands_options_reach_the_server(monkeypatch, capsys, tmp_path):
    from bert4keras_lite.applications import serving

    runs = []
    monkeypatch.setattr(serving, "load", lambda *_, **__: Served(None, None, {}, {}), raising=False)
    monkeypatch.setattr(serving, "run", lambda *a, **k: runs.append((a, k)), raising=False)
    monkeypatch.setenv("BERT4KERAS_LITE_TOKEN", TOKEN)
    command = ["serve", str(tmp_path), "--host", "0.0.0.0", "--allow-host", "a", "--allow-host=b"]
    assert main(command) == 0 and main([*command, "--token", "another-token", "--quiet"]) == 0
    (_, first), (_, second) = runs
    assert first == {"hosts": ["a", "b"], "token": TOKEN, "access_log": True}
    assert (second["token"], second["access_log"]) == ("another-token", False)
    monkeypatch.delenv("BERT4KERAS_LITE_TOKEN")
    assert main(command) == 0
    printed = "".join(capsys.readouterr())
    assert TOKEN not in printed and "another-token" not in printed and "see --token" in printed


# ---------------------------------------------------------------- headers, logs, figures


def test_every_answer_has_the_headers_of_security(matrices):
    with asking(app_of(vectors=Ability(VECTOR), generate=Talker())) as client:
        found = [client.get(path) for path in ("/", "/page/page.js", "/health", "/nothing")]
        found += [client.post("/v1/vectors", json={"texts": texts}) for texts in ([], ["a"])]
        found += [client.get("/health", headers={"Host": "evil"}), client.put("/health")]
    for response in found:
        assert {name: response.headers[name] for name in guards.HEADERS} == guards.HEADERS
        assert re.fullmatch("[0-9a-f]{16}", response.headers["x-request-id"])
        assert "server" not in response.headers
    policy = guards.HEADERS["Content-Security-Policy"]
    meta = re.search('Content-Security-Policy" content="([^"]+)"', found[0].text)[1]
    assert policy == f"{meta}; frame-ancestors 'none'"
    assert not re.search(
        r"<script>|<style>|style=|\son\w+=", found[0].text
    )  # the policy forbids it


def test_ids_of_requests():
    with asking(vectors()) as client:
        given = {"X-Request-ID": "my-id_1.2"}
        assert client.get("/health", headers=given).headers["x-request-id"] == "my-id_1.2"
        for odd in ("a b", "x" * 65, "天".encode(), "a\tb", "<a>"):
            answered = client.get("/health", headers={"X-Request-ID": odd}).headers["x-request-id"]
            assert re.fullmatch("[0-9a-f]{16}", answered)


@given(text=st.text(alphabet="天地\r\n\x1b %/?#ab", min_size=1, max_size=20))
def test_no_text_gets_into_the_log(text):
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    guards.access.addHandler(handler)
    guards.access.setLevel(logging.INFO)
    scope = {"type": "http", "method": text, "path": f"/v1/{text}", "headers": [], "client": None}
    scope["query_string"] = text.encode()

    async def nothing(*_):
        return None

    try:
        watch = guards.Watch(nothing, SimpleNamespace(request=lambda *_: None), ["/health"])
        asyncio.run(watch(scope, None, None))
    finally:
        guards.access.removeHandler(handler)
        guards.access.setLevel(logging.NOTSET)
    (line,) = lines
    assert re.fullmatch(r"- other other 0 0\.\d{3} s [0-9a-f]{16}", line)


def test_the_log_tells_of_each_request(caplog):
    caplog.set_level(logging.INFO, guards.access.name)
    with asking(vectors()) as client:
        client.post(
            "/v1/vectors?key=secret", json={"texts": ["天地"]}, headers={"X-Request-ID": "7"}
        )
    (record,) = [record for record in caplog.records if record.name == guards.access.name]
    assert re.fullmatch(r"testclient POST /v1/vectors 200 0\.\d{3} s 7", record.getMessage())


def test_an_error_that_nobody_foresaw(caplog):
    ability = Ability(VECTOR)
    ability.prepare = lambda text, **settings: 1 / 0
    with asking(app_of(vectors=ability)) as client:
        response = client.post("/v1/vectors", json={"texts": ["天地"]})
        assert error(response, 500)["message"] == "internal server error."
    assert response.headers["x-request-id"] in caplog.text and "天地" not in caplog.text


def test_figures_in_the_form_of_prometheus():
    app = app_of(Limits(seconds=1), vectors=Ability(VECTOR), generate=Talker())
    with asking(app) as client:
        for path in ("/health", "/health", "/nothing", "/v1/天地", "/page/page.js"):
            client.get(path)
        client.post("/v1/vectors", json={"texts": ["a"]})
        client.post("/v1/generate", json={"text": "a"})
        found = client.get("/metrics")
    assert found.headers["content-type"].startswith("text/plain; version=0.0.4")
    values = {}
    label = r"\w+=\"[\w/.+-]+\""
    pattern = rf"(# (HELP|TYPE) \w+ .+)|(\w+(?:\{{{label}(?:,{label})*\}})?) ([\d.]+)"
    for line in found.text.splitlines():
        match = re.fullmatch(pattern, line)
        assert match, line
        if match[3]:
            values[match[3].removeprefix("bert4keras_lite_")] = float(match[4])
    assert values['requests_total{path="/health",status="200"}'] == 2
    assert values['requests_total{path="other",status="404"}'] == 2
    assert values['requests_total{path="/page",status="200"}'] == 1
    assert values['requests_total{path="/v1/vectors",status="200"}'] == 1
    assert values['request_seconds_count{path="/health"}'] == 2
    assert values['request_seconds_bucket{path="/health",le="+Inf"}'] == 2
    assert values['request_seconds_bucket{path="/v1/generate",le="0.5"}'] == 0
    assert values["generated_tokens_total"] > 0
    assert values["texts_waiting"] == values["texts_running"] == 0


def test_head_is_get_without_a_body():
    with asking(vectors()) as client:
        for path in ("/", "/page/page.css", "/health", "/metrics", "/openapi.json", "/nothing"):
            found, whole = client.head(path), client.get(path)
            assert (found.status_code, found.content) == (whole.status_code, b"")
            same = ["content-type", "content-length"][: 1 if path == "/metrics" else 2]
            assert [found.headers[name] for name in same] == [whole.headers[name] for name in same]
        assert client.head("/v1/vectors").status_code == 405
    with listening(vectors()) as port:
        answer = ask_and_close(port, "HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\n\r\n")


def test_a_written_end_counts_its_tokens():
    class Poet(Talker):
        def program(self, jobs):
            for job in jobs:
                job.tokens = 3
                job.emit("abc")
                job.emit(GeneratedText("stop", 3, -1.0, "abc"))
                job.end()
            yield

    with asking(app := app_of(generate=Poet())) as client:
        for stream in (False, True):
            body = {"text": "a", "stream": stream}
            assert "abc" in client.post("/v1/generate", json=body).text
    assert app.state.metrics.tokens == 6


@pytest.mark.long
def test_a_little_load():
    program = Path(__file__).with_name("load.py")
    done = subprocess.run(
        [sys.executable, str(program), "--requests", "60", "--clients", "10"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "54, 54 answered as alone" in done.stdout
