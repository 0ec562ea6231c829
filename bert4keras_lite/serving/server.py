"""The server by itself: uvicorn, whose connections end when a client is too slow.

An application cannot see a client that is slow with the header of a request, nor one that does not read
its answer, nor one that sends nothing: `Connection` can.
"""

import asyncio
import errno
import json
import logging
import secrets
import sys
from functools import partial
from http import HTTPStatus

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..arguments import checks_flags
from .app import create_app
from .guards import HEADERS, access, log_request
from .reading import SLICE, Requests, Turns
from .worker import Limits

logger = logging.getLogger(__name__)

BACKLOG = 128  # connections that may wait to be accepted
PATIENCE = 1.9  # times `body_seconds`: the application has said 408 long before
LINGER = 2.0  # seconds, at most, for what a client still sends when its answer is there
PROBES = 0.5  # seconds between signs of life to a client of which nothing else is seen
READ_AHEAD = (
    1 << 16
)  # bytes that a connection keeps before they can be taken; then it reads no more
NO_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Connection(H11Protocol):
    """A connection with deadlines, which takes what it reads in turns; all else is uvicorn's.

    It goes on reading while a request is answered, since only then is it seen that a client leaves.

    Args:
        limits: `Limits`.
        metrics: `Metrics`.
        turns: `Turns`, the same for all connections.
        **kwargs: of uvicorn.
    """

    def __init__(self, limits, metrics, turns, **kwargs):
        super().__init__(**kwargs)
        self.conn = Requests()
        self.limits, self.metrics, self.turns = limits, metrics, turns
        self.timers = {}
        self.pending, self.in_turn = bytearray(), False  # what was read and is not taken yet
        self.followed, self.body_left = None, 0  # the cycle that `follow` has seen
        self.read_left, self.stalled_since = limits.read_seconds, None
        self.client_closed = False
        self.within_body = False  # whether what is taken now begins within a body
        self.unfinished = False  # whether the client is within a request that gets no answer

    # ------------------------------------------------------------ what uvicorn and asyncio call

    def connection_made(self, transport):
        transport.set_write_buffer_limits(high=0)  # writing is paused until a client has read all
        self.wire = transport
        super().connection_made(Lingering(transport, self.linger, self.go_on))
        if len(self.connections) > self.limits.connections:
            self.metrics.cut["too many"] += 1
            self.send_problem(503, "too many connections; try again later.", "Retry-After: 1\r\n")
        else:
            self.start("idle", self.limits.idle_seconds, self.transport.close)

    def connection_lost(self, exc):
        for name in list(self.timers):
            self.stop(name)
        super().connection_lost(exc)

    def data_received(self, data):
        if self.transport.is_closing():
            return  # of what the client still sends, nothing counts
        self.stop("idle")
        self.pending += data
        if not self.is_answering():
            self.start("header", self.limits.header_seconds, self.header_is_late)
        self.go_on()

    def on_response_complete(self):
        if self.conn.our_state is self.conn.their_state is h11.DONE:
            self.pending[:0] = self.conn.trailing_data[0]  # of the next request
            self.conn = Requests()
        super().on_response_complete()
        self.follow()
        self.go_on()

    def eof_received(self):
        """The client sends no more, or has left: that shows when something is sent to it."""
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
        if self.is_answering():  # what is wrong is the body: the application need not wait for it
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.abort()
                return
        self.unfinished = True
        if self.within_body and not self.is_answering():
            self.transport.close()  # the request has its answer
        else:
            self.send_problem(400, self.conn.refusal or "expected a request in HTTP/1.1.")

    # ------------------------------------------------------------ taking what was read

    def can_take(self):
        """Whether there is something to take, and it belongs to what is to be read now."""
        answers = self.is_answering() and not self.body_is_coming()
        paused = self.flow.read_paused or self.transport.is_closing()
        return bool(self.pending) and not answers and not paused

    def go_on(self):
        """Does what is to be done next: waits for a turn, reads on, looks after the client."""
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
        """A request is there; its body waits until the application asks for it, or answers."""
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
        """Starts and stops timers, by what the client is to do now."""
        if self.transport.is_closing():
            return  # only `linger` ends it
        if self.cycle is not self.followed:
            self.begin()
        if self.is_answering():
            if "header" in self.timers:  # of this request: it is there
                self.stop("header")
                self.read_left = self.limits.read_seconds
        elif self.conn.trailing_data[0] or self.pending:  # the next request has begun to come
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
        """Whether the connection stays open for a moment, to be read from, when it is closed."""
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
        """Starts a timer, unless it runs."""
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
        """Ends the connection at once, whatever is still to be sent."""
        self.metrics.cut[reason] += 1
        self.transport.abort()

    def is_told_of_progress(self):
        """Whether the client understands a sign of life."""
        return self.scope["http_version"] == "1.1"

    def probe(self):
        """Sends a sign of life: if the client has left, the second one fails.

        Clients of HTTP/1.0 know none: they are taken for gone.
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
        """Answers what is no request, and closes."""
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
    """A transport that may stay open for reading when it is closed, and whose reading is not paused.

    A client that sends into a connection that is closed may lose the answer to what it sent before.

    Args:
        transport: of asyncio.
        lingers: a function without arguments: whether to stay open. Who says so will `abort`.
        resumes: a function without arguments, called when reading is to be resumed.
    """

    def __init__(self, transport, lingers, resumes):
        self.transport, self.lingers, self.closed = transport, lingers, False
        self.resume_reading = resumes

    def __getattr__(self, name):
        return getattr(self.transport, name)

    def write(self, data):
        if not self.is_closing():  # of data for a connection that is lost, asyncio complains
            self.transport.write(data)

    def pause_reading(self):
        """Nothing: `flow.read_paused` tells that nothing more is to be taken."""

    def is_closing(self):
        return self.closed or self.transport.is_closing()

    def close(self):
        if not self.is_closing() and self.transport.can_write_eof() and self.lingers():
            self.closed = True
            try:
                self.transport.write_eof()
            except OSError:  # the client has gone
                self.transport.abort()
        elif not self.closed:
            self.transport.close()


class Server(uvicorn.Server):
    """uvicorn's, which says in one line that there are no more file descriptors."""

    async def startup(self, sockets=None):
        asyncio.get_running_loop().set_exception_handler(OneLine())
        await super().startup(sockets)


class OneLine:
    """A loop's exception handler: asyncio says a hundred times a second that it cannot accept.

    And, if the server is closed within that second, as often that it cannot begin again.
    """

    last = -1.0

    def __call__(self, loop, context):
        error = context.get("exception")
        if "_start_serving" in context.get("message", ""):
            return  # it would accept again, a second later, but the server has been closed since
        if isinstance(error, OSError) and error.errno == errno.ENOTCONN:
            return  # the side of a client that has gone was to be closed
        if not (isinstance(error, OSError) and error.errno in NO_RESOURCES):
            loop.default_exception_handler(context)
        elif loop.time() > self.last + 1:
            self.last = loop.time()
            logger.error("no connection is accepted for a second: %s", error.strerror)


def config(app, host="127.0.0.1", port=8000):
    """uvicorn's configuration for an application of `create_app`."""
    limits = app.state.limits
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=partial(Connection, limits, app.state.metrics, Turns()),
        ws="none",
        lifespan="on",
        backlog=BACKLOG,
        log_level="error",  # what clients do wrong is counted, and not told line by line
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=limits.idle_seconds,
        timeout_graceful_shutdown=int(limits.seconds + limits.body_seconds) + 5,
    )


@checks_flags
def run(
    served,
    host="127.0.0.1",
    port=8000,
    limits=None,
    name="model",
    hosts=(),
    token=None,
    access_log=True,
):
    """Serves until interrupted; then what has begun is finished.

    Args:
        served, limits, name, token: see `create_app`.
        host, port: where to listen.
        hosts: names of the server, besides `host` and those of loopback.
        access_log: whether each request is a line on stderr.
    """
    app = create_app(served, limits or Limits(), name, True, (host, *hosts), token)
    if access_log:
        log_requests()
    Server(config(app, host, port)).run()


def log_requests():
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    access.addHandler(handler)
    access.setLevel(logging.INFO)
    access.propagate = False
