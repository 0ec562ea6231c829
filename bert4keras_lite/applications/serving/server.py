"""The server: uvicorn with deadlines for slow clients.

An ASGI application cannot detect clients that send a request header slowly, do not read their
answer, or send nothing; `Connection` can.
"""

import asyncio
import errno
import gc
import json
import logging
import secrets
import sys
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ...arguments import checks_flags
from .abilities import Served
from .app import create_app
from .guards import HEADERS, access, log_request
from .reading import SLICE, Requests, Turns
from .worker import Limits

__all__ = ["run"]

logger = logging.getLogger(__name__)

BACKLOG = 128  # connections waiting to be accepted
PATIENCE = 1.9  # times `body_seconds`: the application answers 408 long before
LINGER = 2.0  # maximum seconds of reading what a client still sends after its answer
PROBES = 0.5  # seconds between probes of a client that may have disconnected
READ_AHEAD = 1 << 16  # bytes that a connection buffers before it stops reading
NO_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Connection(H11Protocol):
    """A connection of uvicorn with deadlines, which parses what it reads in turns.

    It keeps reading while a request is answered, as a disconnect is detected by reading only.

    Args:
        limits: `Limits`.
        metrics: `Metrics`.
        turns: `Turns`, shared by all connections.
        **kwargs: arguments of uvicorn's class.
    """

    def __init__(self, limits, metrics, turns, **kwargs):
        super().__init__(**kwargs)
        self.conn = Requests()
        self.limits, self.metrics, self.turns = limits, metrics, turns
        self.timers = {}
        self.pending, self.in_turn = bytearray(), False  # bytes that are read but not parsed yet
        self.followed, self.body_left = None, 0  # the cycle that `follow` has processed
        self.read_left, self.stalled_since = limits.read_seconds, None
        self.client_closed = False
        self.within_body = False  # whether the current slice starts within a body
        self.unfinished = False  # whether the client is sending a request that gets no answer

    # ------------------------------------------------------------ called by uvicorn and asyncio

    def connection_made(self, transport):
        transport.set_write_buffer_limits(high=0)  # pauses writing until the client has read all
        self.wire = transport
        super().connection_made(Lingering(transport, self.linger, self.go_on))
        if len(self.connections) > self.limits.connections:
            self.metrics.cut["too many"] += 1
            self.send_problem(503, "too many connections. Try again later.", "Retry-After: 1\r\n")
        else:
            self.start("idle", self.limits.idle_seconds, self.transport.close)

    def connection_lost(self, exc):
        for name in list(self.timers):
            self.stop(name)
        super().connection_lost(exc)

    def data_received(self, data):
        if self.transport.is_closing():
            return  # the rest of the client's data is ignored
        self.stop("idle")
        self.pending += data
        if not self.is_answering():
            self.start("header", self.limits.header_seconds, self.header_is_late)
        self.go_on()

    def on_response_complete(self):
        if self.conn.our_state is self.conn.their_state is h11.DONE:
            self.pending[:0] = self.conn.trailing_data[0]  # the start of the next request
            self.conn = Requests()
        super().on_response_complete()
        self.follow()
        self.go_on()

    def eof_received(self):
        """Notes that the client has closed its side; only writing shows if it has left."""
        if self.transport.is_closing() or self.scheme == "https":
            return None  # closes
        self.client_closed = True
        self.go_on()
        return True

    def pause_writing(self):
        super().pause_writing()
        self.stalled_since = self.loop.time()
        self.start("reading", max(0, self.read_left), self.cut, "reading")

    def resume_writing(self):
        if self.stalled_since is not None:
            self.read_left -= self.loop.time() - self.stalled_since
            self.stalled_since = None
        self.stop("reading")
        super().resume_writing()

    def send_400_response(self, msg):
        self.metrics.cut["no HTTP"] += 1
        if self.is_answering():  # the body is wrong: the application must not wait for it
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.abort()
                return
        self.unfinished = True
        if self.within_body and not self.is_answering():
            self.transport.close()  # the request is already answered
        else:
            self.send_problem(400, self.conn.refusal or "expected a request in HTTP/1.1.")

    # ------------------------------------------------------------ parsing in turns

    def can_take(self):
        """Returns whether there are bytes to parse, and no complete request is being answered."""
        waits = self.is_answering() and not self.body_is_coming()
        paused = self.flow.read_paused or self.transport.is_closing()
        return bool(self.pending) and not waits and not paused

    def go_on(self):
        """Queues for a turn, pauses or resumes reading, and probes the client, as needed."""
        if self.transport.is_closing():
            return
        if self.can_take() and not self.in_turn:
            self.in_turn = True
            self.turns.add(self)
        full = len(self.pending) > READ_AHEAD
        waits = self.is_answering() and not self.body_is_coming()
        if waits and (full or self.client_closed):
            self.start("probe", PROBES / 2 if self.is_told_of_progress() else LINGER, self.probe)
        if self.client_closed:
            if not waits and not self.pending:
                self.wire.close()
        elif full:
            self.wire.pause_reading()
        else:
            self.wire.resume_reading()

    def take_slice(self):
        """Parses the next slice."""
        self.in_turn = False
        if not self.can_take():
            return
        if self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
            self.pending = self.pending.lstrip(b"\r\n")  # empty lines before a request
        size = max(SLICE, self.body_left)
        data = bytes(self.pending[:size])
        del self.pending[:size]
        self.body_left = max(0, self.body_left - size)
        self.within_body = self.body_is_coming()
        if data:
            super().data_received(data)
        self.follow()
        self.go_on()

    def begin(self):
        """Starts a request: pauses its body until the application reads it, or answers."""
        self.followed = self.cycle
        length = dict(self.headers).get(b"content-length", b"0")
        self.body_left = int(length) if self.body_is_coming() else 0
        if self.body_is_coming():
            self.flow.pause_reading()

    # ------------------------------------------------------------ deadlines

    def is_answering(self):
        return self.cycle is not None and not self.cycle.response_complete

    def body_is_coming(self):
        return self.conn.their_state is h11.SEND_BODY

    def follow(self):
        """Starts and stops timers, by what the client has to do now."""
        if self.transport.is_closing():
            return  # only the timer `linger` is left
        if self.cycle is not self.followed:
            self.begin()
        if self.is_answering():
            if "header" in self.timers:  # the header of this request is complete
                self.stop("header")
                self.read_left = self.limits.read_seconds
        elif self.conn.trailing_data[0] or self.pending:  # the next request has started
            self._unset_keepalive_if_required()
            self.start("header", self.limits.header_seconds, self.header_is_late)
        if not self.body_is_coming():
            self.stop("body")
            self.stop("linger")
            return
        self.start("body", PATIENCE * self.limits.body_seconds, self.cut, "body")
        if not self.is_answering():
            self.start("linger", self.linger_seconds(), self.cut, "body")

    def linger(self):
        """Returns whether a closed connection is read for a while longer, and starts that timer."""
        if not self.unfinished and not self.body_is_coming():
            return False
        self.stop("linger")
        self.start("linger", self.linger_seconds(), self.transport.abort)
        self.pending.clear()
        if not self.client_closed:
            self.wire.resume_reading()
        return True

    def linger_seconds(self):
        return min(LINGER, self.limits.header_seconds / 2, self.limits.body_seconds / 2)

    def start(self, name, seconds, act, *args):
        """Starts a timer if it is not running: calls `act` after `seconds`."""
        if name not in self.timers and not self.transport.is_closing():
            self.timers[name] = self.loop.call_later(seconds, self.ring, name, act, *args)

    def stop(self, name):
        if name in self.timers:
            self.timers.pop(name).cancel()

    def ring(self, name, act, *args):
        del self.timers[name]
        act(*args)

    def header_is_late(self):
        if self.transport.is_closing():
            return
        self.metrics.cut["header"] += 1
        if self.conn.trailing_data[0]:
            seconds = self.limits.header_seconds
            self.unfinished = True
            self.send_problem(408, f"the header did not arrive within {seconds:g} seconds.")
        else:
            self.transport.close()

    def cut(self, reason):
        """Aborts the connection, even if data is still to be sent."""
        self.metrics.cut[reason] += 1
        self.transport.abort()

    def is_told_of_progress(self):
        """Returns whether the client understands interim responses (HTTP/1.1)."""
        return self.scope["http_version"] == "1.1"

    def probe(self):
        """Sends an interim response: if the client has left, the second one fails.

        Clients of HTTP/1.0 do not know interim responses, and are treated as disconnected.
        """
        waits = self.is_answering() and not self.cycle.response_started
        if not waits or self.transport.is_closing():
            return
        if self.is_told_of_progress():
            self.transport.write(b"HTTP/1.1 102 Processing\r\n\r\n")
            self.start("probe", PROBES, self.probe)
        else:
            self.cut("left")

    def send_problem(self, status, message, headers=""):
        """Answers an invalid request with an error, and closes."""
        error = {"error": {"status": status, "field": None, "message": message}}
        body, name = json.dumps(error), secrets.token_hex(8)
        log_request(self.client[0] if self.client else "-", "-", "-", status, 0.0, name)
        lines = {**HEADERS, "X-Request-ID": name}
        lines |= {"Content-Type": "application/json", "Content-Length": len(body)}
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        begin = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        self.transport.write(f"{begin}{text}{headers}Connection: close\r\n\r\n{body}".encode())
        self.transport.close()


class Lingering:
    """A transport that may be read for a while after it is closed.

    If a client is still sending when its connection is closed, it may lose the answer to what it
    sent before.

    Args:
        transport: a transport of asyncio.
        lingers: function without arguments that returns whether to keep reading; if so, its owner
            calls `abort` later.
        resumes: function without arguments, called to resume reading.
    """

    def __init__(self, transport, lingers, resumes):
        self.transport, self.lingers, self.closed = transport, lingers, False
        self.resume_reading = resumes

    def __getattr__(self, name):
        return getattr(self.transport, name)

    def write(self, data):
        if not self.is_closing():  # asyncio logs a warning for data to a lost connection
            self.transport.write(data)

    def pause_reading(self):
        """Does nothing: `flow.read_paused` stops parsing, while reading detects a disconnect."""

    def is_closing(self):
        return self.closed or self.transport.is_closing()

    def close(self):
        if not self.is_closing() and self.transport.can_write_eof() and self.lingers():
            self.closed = True
            try:
                self.transport.write_eof()
            except OSError:  # the client has disconnected
                self.transport.abort()
        elif not self.closed:
            self.transport.close()


class Server(uvicorn.Server):
    """uvicorn's server, with a short log message when file descriptors run out."""

    async def startup(self, sockets=None):
        asyncio.get_running_loop().set_exception_handler(OneLine())
        await super().startup(sockets)


class OneLine:
    """Exception handler of an event loop that logs resource errors once a second.

    asyncio reports about a hundred times a second that it cannot accept a connection, and, if the
    server is closed within that second, as often that it cannot start accepting again.
    """

    last = -1.0

    def __call__(self, loop, context):
        error = context.get("exception")
        if "_start_serving" in context.get("message", ""):
            return  # accepting should resume after a second, but the server is closed
        if isinstance(error, OSError) and error.errno == errno.ENOTCONN:
            return  # one side was closed after the client had disconnected
        if not (isinstance(error, OSError) and error.errno in NO_RESOURCES):
            loop.default_exception_handler(context)
        elif loop.time() > self.last + 1:
            self.last = loop.time()
            logger.error("no connection is accepted for a second: %s", error.strerror)


def config(app, host="127.0.0.1", port=8000):
    """Returns uvicorn's configuration for an application of `create_app`."""
    limits = app.state.limits
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=partial(Connection, limits, app.state.metrics, Turns()),
        ws="none",
        lifespan="on",
        backlog=BACKLOG,
        log_level="error",  # errors of clients are counted, not logged one by one
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=limits.idle_seconds,
        timeout_graceful_shutdown=int(limits.seconds + limits.body_seconds) + 5,
    )


@checks_flags
def run(
    served: Served,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    name: str = "model",
    hosts: Sequence[str] = (),
    token: str | None = None,
    access_log: bool = True,
) -> None:
    """Serves until interrupted; then finishes the running requests.

    Args:
        served, limits, name, token: see `create_app`.
        host, port: address to listen at.
        hosts: host names of the server, besides `host` and those of loopback.
        access_log: write a line to stderr for each request.

    Raises:
        ValueError: see `create_app`.
    """
    app = create_app(served, limits or Limits(), name, True, (host, *hosts), token)
    if access_log:
        log_requests()
    gc.freeze()  # or a large request makes Python look at all objects of the model, and all wait
    Server(config(app, host, port)).run()


def log_requests():
    """Writes the access log to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    access.addHandler(handler)
    access.setLevel(logging.INFO)
    access.propagate = False
