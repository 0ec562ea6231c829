"""Answers: JSON in pieces, made outside the event loop, and problems in their one form."""

import json

from fastapi.responses import JSONResponse, Response, StreamingResponse

from . import schemas

SMALL = 4096  # numbers of an answer that is made at once, in the event loop
PIECE = 8192  # numbers that are made into JSON at a time: other threads wait meanwhile
CHUNK = 1 << 16  # characters that are sent at a time
CUT = 200  # characters of what was sent that a message repeats
GONE = 499  # who would read it has left


class RequestProblem(Exception):
    """Something in a request: `field` and what is wrong with it."""


def problem(status, message, field=None, headers=None):
    """A response that says what is wrong; what was sent is repeated in short only."""
    field = field and in_utf8(cut(field))  # field and message may hold anything that was sent
    message = in_utf8(cut(message))
    error = schemas.Problem(status=status, field=field, message=message)
    return JSONResponse({"error": error.model_dump()}, status, headers)


def in_utf8(text):
    """The text with `?` in place of what UTF-8 has no bytes for, such as of names of other files."""
    return text.encode("utf-8", "replace").decode()


def cut(text):
    if len(text) <= 2 * CUT:
        return text
    return f"{text[:CUT]}...{text[-CUT:]}"


def respond(pieces, numbers):
    """A response of JSON that comes in pieces.

    Args:
        pieces: a generator of strings. Large answers are made in other threads, chunk by chunk, as
            fast as the client reads them.
        numbers: how many there are in all of it, or as much.
    """
    if numbers <= SMALL:
        return Response("".join(pieces), media_type="application/json")
    return StreamingResponse(chunks(pieces), media_type="application/json")


def chunks(pieces):
    """Longer strings."""
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
    """JSON of a list, from that of its items, each of which comes in pieces."""
    yield "["
    for i, pieces in enumerate(items):
        if i:
            yield ","
        yield from pieces
    yield "]"


def array_pieces(array, digits=None):
    """JSON of an array as lists in lists.

    Args:
        digits: of the numbers; None: all.
    """
    if array.ndim > 1 and array.size > PIECE:
        yield from list_pieces(array_pieces(part, digits) for part in array)
    else:
        array = array if digits is None else array.astype("float64").round(digits)
        yield as_json(array.tolist())


def object_pieces(name, pieces, **others):
    """JSON of an object: `others` first, then a value that comes in pieces."""
    begin = as_json(others)[:-1]
    yield f"{begin}{',' if others else ''}{as_json(name)}:"
    yield from pieces
    yield "}"
