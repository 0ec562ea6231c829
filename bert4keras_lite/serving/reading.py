"""What clients send is read in turns, a slice at a time: none of them keeps the others waiting.

h11 parses at once all that it is given, and a body in chunks of one byte takes it a thousand times
as long as one in a single piece.
"""

import asyncio
import re
import time
from collections import deque

import h11

SLICE = 1024  # bytes that are parsed at a time, but for bodies whose length is known
TURN = 0.002  # seconds of parsing, after which everything else gets its turn
HEADER = 1 << 14  # bytes of a request's header, of a chunk's, and of what follows the last chunk
FRAMING = 1 << 14  # bytes beside its content that a body may have, and an eighth of its content

ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)


class Turns:
    """Gives connections their turns, and the event loop time in between.

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
    """h11's parser of requests, which refuses more, and takes targets in absolute form.

    Attributes:
        refusal: what is wrong, if it is this class that has raised `h11.RemoteProtocolError`.
    """

    def __init__(self):
        super().__init__(h11.SERVER, HEADER)
        self.refusal = None
        self.received = self.content = 0  # bytes since the header of a request, and of its body

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
            self.refuse("the body comes in too small chunks; send larger ones.")
        return event

    def begun(self, request):
        """A request as it is to be seen by the application; its body is still to come."""
        self.received, self.content = len(self.trailing_data[0]), 0
        if not request.http_version.startswith(b"1."):
            version = request.http_version.decode("ascii")
            self.refuse(f"HTTP/{version}: this server speaks HTTP/1.1; send requests of HTTP/1.1.")
        names = {name for name, _ in request.headers}
        if names >= {b"transfer-encoding", b"content-length"}:
            self.refuse("Transfer-Encoding and Content-Length: expected at most one of them.")
        return in_origin_form(request)

    def refuse(self, message):
        self.refusal = message
        raise h11.RemoteProtocolError(message)


def in_origin_form(request):
    """The request with a target such as `/health`; a target with a host has it instead of `Host`.

    Reference: RFC 9112, section 3.2.2.
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
