"""Responses: JSON that is streamed in pieces, and the common form of errors."""

import json

from fastapi.responses import JSONResponse, Response, StreamingResponse

from . import schemas

__all__ = [
    "GONE",
    "RequestProblem",
    "array_pieces",
    "as_json",
    "in_utf8",
    "list_pieces",
    "object_pieces",
    "problem",
    "respond",
]

SMALL = 4096  # numbers of a response that is encoded at once, in the event loop
PIECE = 8192  # numbers that are encoded at a time: other threads cannot run meanwhile
CHUNK = 1 << 16  # characters that are sent at a time
CUT = 200  # characters of a request that a message quotes
GONE = 499  # status of requests whose client has disconnected


class RequestProblem(Exception):
    """A field of a request is invalid; arguments: `field`, or None, and the message."""


def problem(status, message, field=None, headers=None):
    """Returns the error response of a status; long quotes from the request are shortened."""
    field = field and in_utf8(cut(field))  # field and message may quote the request
    message = in_utf8(cut(message))
    error = schemas.Problem(status=status, field=field, message=message)
    return JSONResponse({"error": error.model_dump()}, status, headers)


def in_utf8(text):
    """Replaces what UTF-8 cannot encode, such as parts of some file names, by `?`."""
    return text.encode("utf-8", "replace").decode()


def cut(text):
    """Shortens a text to its first and last `CUT` characters."""
    if len(text) <= 2 * CUT:
        return text
    return f"{text[:CUT]}...{text[-CUT:]}"


def respond(pieces, numbers):
    """Returns a response of JSON that is generated in pieces.

    Args:
        pieces: a generator of strings. For large responses it runs in other threads, chunk by
            chunk, as fast as the client reads.
        numbers: total count of numbers in the response, as a measure of its size.
    """
    if numbers <= SMALL:
        return Response("".join(pieces), media_type="application/json")
    return StreamingResponse(chunks(pieces), media_type="application/json")


def chunks(pieces):
    """Joins strings to chunks of at least `CHUNK` characters (the last may be shorter)."""
    parts, size = [], 0
    for piece in pieces:
        parts.append(piece)
        size += len(piece)
        if size >= CHUNK:
            yield "".join(parts)
            parts, size = [], 0
    yield "".join(parts)


def as_json(value):
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def list_pieces(items):
    """Yields the JSON of a list in pieces, from generators of the JSON of its items."""
    yield "["
    for i, pieces in enumerate(items):
        if i:
            yield ","
        yield from pieces
    yield "]"


def array_pieces(array, digits=None):
    """Yields the JSON of an array as nested lists, in pieces.

    Args:
        array: a NumPy array.
        digits: digits after the decimal point; None: all.
    """
    if array.ndim > 1 and array.size > PIECE:
        yield from list_pieces(array_pieces(part, digits) for part in array)
    else:
        array = array if digits is None else array.astype("float64").round(digits)
        yield as_json(array.tolist())


def object_pieces(name, pieces, **others):
    """Yields the JSON of an object in pieces: `others` first, then `name` with its pieces."""
    begin = as_json(others)[:-1]
    yield f"{begin}{',' if others else ''}{as_json(name)}:"
    yield from pieces
    yield "}"
