"""Parses HTTP requests in slices, connection by connection, so that no client blocks the others.

h11 parses all data it gets at once, and a body in chunks of one byte takes it a thousand times as
long as one in a single chunk.
"""

import asyncio
import re
import time
from collections import deque

import h11

__all__ = ["SLICE", "Requests", "Turns"]

SLICE = 1024  # bytes that are parsed at a time, except for bodies of known length
TURN = 0.002  # seconds of parsing before the event loop runs other tasks
HEADER = 1 << 14  # maximum bytes of a request header, a chunk header, and the trailer
FRAMING = 1 << 14  # maximum bytes of chunk headers in a body, plus an eighth of its content

ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)


class Turns:
    """A queue of connections that parse one slice per turn, with time for the event loop between.

    A connection has `take_slice()`, in which it may `add` itself again.
    """

    def __init__(self):
        self.waiting, self.scheduled = deque(), False

    def add(self, connection):
        self.waiting.append(connection)
        self.schedule()

    def schedule(self):
        if self.waiting and not self.scheduled:
            self.scheduled = True
            asyncio.get_running_loop().call_soon(self.take)

    def take(self):
        end = time.perf_counter() + TURN
        try:
            while self.waiting and time.perf_counter() < end:
                self.waiting.popleft().take_slice()
        finally:
            self.scheduled = False
            self.schedule()


class Requests(h11.Connection):
    """h11's request parser with stricter rules, and support of targets in absolute form.

    Attributes:
        refusal: message for the client if this class raised `h11.RemoteProtocolError`; else None.
    """

    def __init__(self):
        super().__init__(h11.SERVER, HEADER)
        self.refusal = None
        self.received = self.content = 0  # bytes after the header of a request, and of its content

    def receive_data(self, data):
        self.received += len(data)
        super().receive_data(data)

    def next_event(self):
        in_body = self.their_state is h11.SEND_BODY
        event = super().next_event()
        if isinstance(event, h11.Request):
            return self.begun(event)
        if isinstance(event, h11.Data):
            self.content += len(event.data)
        if in_body and self.received - self.content > FRAMING + self.content // 8:
            self.refuse("the body has too small chunks. Send larger ones.")
        return event

    def begun(self, request):
        """Checks a request whose header is complete, and returns it in origin form."""
        self.received, self.content = len(self.trailing_data[0]), 0
        if not request.http_version.startswith(b"1."):
            version = request.http_version.decode("ascii")
            self.refuse(f"HTTP/{version}: expected HTTP/1.1 or HTTP/1.0.")
        names = {name for name, _ in request.headers}
        if names >= {b"transfer-encoding", b"content-length"}:
            self.refuse("Transfer-Encoding and Content-Length: expected at most one of them.")
        return in_origin_form(request)

    def refuse(self, message):
        self.refusal = message
        raise h11.RemoteProtocolError(message)


def in_origin_form(request):
    """Converts a target in absolute form to `Host` and a target such as `/health`.

    Reference:
        RFC 9112, section 3.2.2.
    """
    match = ABSOLUTE.match(request.target)
    if not match:
        return request
    host, target = match.groups()
    headers = [(b"host", host)]
    headers += [(name, value) for name, value in request.headers if name != b"host"]
    return h11.Request(
        method=request.method,
        target=target if target.startswith(b"/") else b"/" + target,
        headers=headers,
        http_version=request.http_version,
    )
