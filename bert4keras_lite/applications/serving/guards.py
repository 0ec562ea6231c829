"""ASGI middleware of the application.

From the outside in: `Watch` (request ids, headers, access log, metrics), `HeadAsGet`,
`JsonProblems`, `KnownHosts`, `BearerToken`, `BodyLimits`.
"""

import asyncio
import hmac
import logging
import re
import secrets
import time
from http import HTTPStatus

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect

from .answers import GONE, problem

__all__ = [
    "HEADERS",
    "BearerToken",
    "BodyLimits",
    "HeadAsGet",
    "JsonProblems",
    "KnownHosts",
    "Watch",
    "access",
    "host_names",
    "log_request",
    "token_bytes",
]

logger = logging.getLogger(__name__)
access = logging.getLogger(f"{__package__}.access")

LOOPBACK = ("localhost", "127.0.0.1", "::1")
OPEN_PATHS = ("/", "/health")  # and the page's files: they reveal nothing about the model
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
HOST = re.compile(r"(\[(?P<address>[0-9a-fA-F:.]+)\]|(?P<name>[^\s:/@\[\]]+))(:\d{1,5})?", re.ASCII)
TOKEN = re.compile(r"[!-~]{8,}")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def request_id(headers):
    """Returns the id in a request's headers if it is valid, or a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def log_request(client, method, path, status, seconds, name):
    """Writes a line of the access log; no argument may be free text of a client."""
    access.info("%s %s %s %d %.3f s %s", client, method, path, status, seconds, name)


def path_of(scope):
    """Returns the path of a request within the application."""
    return scope["path"].removeprefix(scope.get("root_path", ""))


class Watch:
    """Adds an id and security headers to every answer; logs and counts requests.

    Neither texts nor other content of requests gets into the log, and only paths of the
    application. Unexpected errors are logged and answered with 500.

    Args:
        app: the inner ASGI application.
        metrics: `Metrics`.
        paths: paths of the application; all others are logged as `other`.
    """

    def __init__(self, app, metrics, paths):
        self.app, self.metrics, self.paths = app, metrics, frozenset(paths)

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin, status, name = time.perf_counter(), 0, request_id(Headers(scope=scope))
        path = self.label(path_of(scope))  # before routing, which changes the scope
        method = scope["method"] if scope["method"] in METHODS else "other"

        async def watched(message):
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                headers.update({**HEADERS, "X-Request-ID": name})
                message["headers"] = headers.raw
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except ClientDisconnect:
            status = status or GONE
        except Exception:
            logger.exception("request %s", name)
            if status:
                raise  # the answer has started: the server aborts it
            await problem(500, "internal server error.")(scope, receive, watched)
        finally:
            seconds = time.perf_counter() - begin
            self.metrics.request(path, status, seconds)
            client = (scope.get("client") or ["-"])[0]
            log_request(client, method, path, status, seconds, name)

    def label(self, path):
        return "/page" if path.startswith("/page/") else path if path in self.paths else "other"


class HeadAsGet:
    """Answers HEAD with the headers of the answer to GET."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def headers_only(message):
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self.app({**scope, "method": "GET"}, receive, headers_only)


class JsonProblems:
    """Converts starlette's plain-text errors, such as for a wrong `Range`, to the JSON form."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        replaced = False

        async def send_json(message):
            nonlocal replaced
            if message["type"] == "http.response.start" and message["status"] >= 400:
                headers = MutableHeaders(raw=list(message.get("headers", [])))
                replaced = headers.get("content-type") != "application/json"
                if replaced:
                    del headers["content-type"], headers["content-length"]
                    status = message["status"]
                    answer = problem(status, f"{HTTPStatus(status).phrase}.", headers=headers)
                    await answer(scope, receive, send)
            if not replaced:
                await send(message)

        await self.app(scope, receive, send_json)


class KnownHosts:
    """Rejects requests for another host name than the server's.

    A foreign web page can make its own host name resolve to this machine (DNS rebinding), so that
    browsers treat it as a page of this server; but the `Host` of its requests is that name.

    Args:
        app: the inner ASGI application.
        hosts: from `host_names`.
    """

    def __init__(self, app, hosts):
        self.app, self.hosts = app, hosts

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            given = Headers(scope=scope).getlist("host")
            if len(given) != 1 or host_name(given[0]) not in self.hosts:
                message = "Host: expected a name of this server. Start it with --allow-host NAME."
                await problem(421, message)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def host_names(hosts):
    """Returns the normalized names and addresses of a server, including those of loopback.

    Raises:
        ValueError: one is not a host name or address.
    """
    names = set()
    for host in (*LOOPBACK, *hosts):
        bare_address = host.count(":") > 1 and not host.startswith("[")
        name = host_name(f"[{host}]" if bare_address else host)
        if name is None:
            raise ValueError(f"hosts: expected host names or addresses, got {host!r:.200}.")
        names.add(name)
    return names


def host_name(host):
    """Returns the host name of `HOST[:PORT]`, normalized; None if it is invalid."""
    match = HOST.fullmatch(host)
    return match and (match["address"] or match["name"].removesuffix(".")).lower()


class BearerToken:
    """Requires `Authorization: Bearer TOKEN`, except for the page itself and `/health`.

    Args:
        app: the inner ASGI application.
        token: from `token_bytes`; None: no token is required.
    """

    def __init__(self, app, token):
        self.app, self.token = app, token

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and not self.may_pass(scope):
            headers = {"WWW-Authenticate": "Bearer"}
            message = "expected the header Authorization: Bearer with the token of this server."
            await problem(401, message, headers=headers)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def may_pass(self, scope):
        path = path_of(scope)
        if self.token is None or path in OPEN_PATHS or path.startswith("/page/"):
            return True
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("latin-1"), self.token)
        return same and scheme.lower() == "bearer"


def token_bytes(token):
    """Returns a token as bytes, to be compared; None for None.

    Raises:
        ValueError: the token is too short or has other characters.
    """
    if token is not None and not TOKEN.fullmatch(token):  # a secret: the message must not quote it
        raise ValueError("token: expected at least 8 visible ASCII characters, without spaces.")
    return token and token.encode()


class BodyLimits:
    """Rejects bodies that are too large or arrive too late.

    Args:
        app: the inner ASGI application.
        limits: `Limits`.
    """

    def __init__(self, app, limits):
        self.app, self.limits = app, limits

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > self.limits.body:
            await problem(413, self.too_large())(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        size, complete, deadline = 0, False, loop.time() + self.limits.body_seconds

        async def limited():
            nonlocal size, complete
            if complete:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0, deadline - loop.time()))
            except asyncio.TimeoutError:
                message = f"the body did not arrive within {self.limits.body_seconds:g} seconds."
                raise HTTPException(408, message, {"Connection": "close"}) from None
            size += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if size > self.limits.body:
                raise HTTPException(413, self.too_large())
            return message

        await self.app(scope, limited, send)

    def too_large(self):
        return f"the body has more than {self.limits.body} bytes."
