"""What stands between a server and its application: each class is ASGI middleware with one job.

From the outside in: `Watch` (ids of requests, headers, access log, metrics), `HeadAsGet`,
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

logger = logging.getLogger(__name__)
access = logging.getLogger(f"{__package__}.access")

LOOPBACK = ("localhost", "127.0.0.1", "::1")
OPEN_PATHS = ("/", "/health")  # and the files of the page: they hold nothing of the model
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
    """The id that a request brings, if it has the form of one, or a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def log_request(client, method, path, status, seconds, name):
    """Writes a line of the access log: nothing in it may be what a client has made up."""
    access.info("%s %s %s %d %.3f s %s", client, method, path, status, seconds, name)


def path_of(scope):
    """The path of a request within the application."""
    return scope["path"].removeprefix(scope.get("root_path", ""))


class Watch:
    """Gives every answer an id and the headers of security; logs and counts it.

    Neither texts nor anything else that was sent gets into the log: of paths, those that the
    application has. An error that nobody has foreseen is logged, and answered 500.

    Args:
        app: the ASGI application within.
        metrics: `Metrics`.
        paths: of the application; all others are `other`.
    """

    def __init__(self, app, metrics, paths):
        self.app, self.metrics, self.paths = app, metrics, frozenset(paths)

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin, status, name = time.perf_counter(), 0, request_id(Headers(scope=scope))
        path = self.label(path_of(scope))  # now: routing changes the scope
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
                raise  # the answer has begun: the server cuts it
            await problem(500, "an error of the server.")(scope, receive, watched)
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
    """Answers as all problems what starlette answers in plain text, such as a wrong `Range`."""

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
    """Turns away requests to another name than the server's.

    A page from elsewhere can have its own name lead to this machine (DNS rebinding), and would be
    taken for a page of this server; but the `Host` of its requests gives it away.

    Args:
        app: the ASGI application within.
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
    """Names and addresses of a server, those of loopback among them, as they are compared.

    Raises:
        ValueError: one cannot be a name.
    """
    names = set()
    for host in (*LOOPBACK, *hosts):
        bare_address = host.count(":") > 1 and not host.startswith("[")
        name = host_name(f"[{host}]" if bare_address else host)
        if name is None:
            raise ValueError(f"hosts: expected names or addresses, got {host!r:.200}.")
        names.add(name)
    return names


def host_name(host):
    """A host's name without its port; None if there is none."""
    match = HOST.fullmatch(host)
    return match and (match["address"] or match["name"].removesuffix(".")).lower()


class BearerToken:
    """Asks for `Authorization: Bearer TOKEN`, but for the page itself and `/health`.

    Args:
        app: the ASGI application within.
        token: from `token_bytes`; None: nobody is asked.
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
    """A token as it is compared; None for None.

    Raises:
        ValueError: it cannot be one.
    """
    if token is not None and not TOKEN.fullmatch(token):  # not to be shown
        raise ValueError("token: expected at least 8 visible ASCII characters, without spaces.")
    return token and token.encode()


class BodyLimits:
    """Turns away bodies that are too large, or not there in time.

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
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > self.limits.body:
            await problem(413, self.too_large())(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        size, whole, deadline = 0, False, loop.time() + self.limits.body_seconds

        async def limited():
            nonlocal size, whole
            if whole:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0, deadline - loop.time()))
            except asyncio.TimeoutError:
                message = f"the body did not arrive within {self.limits.body_seconds:g} seconds."
                raise HTTPException(408, message, {"Connection": "close"}) from None
            size += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if size > self.limits.body:
                raise HTTPException(413, self.too_large())
            return message

        await self.app(scope, limited, send)

    def too_large(self):
        return f"the body has more than {self.limits.body} bytes."
