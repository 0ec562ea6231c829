"""Parsing of request bodies: JSON, validated by a schema, at a bounded cost."""

import asyncio
import json

from fastapi import HTTPException
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from ...parsing import RepeatedKeyError, parse_json
from .answers import GONE, RequestProblem

__all__ = ["parsed"]

LARGE = 1 << 14  # larger bodies, in bytes, are parsed in another thread


async def parsed(request, schema):
    """Parses the body of a request.

    Args:
        request: a starlette request.
        schema: a class of `schemas`.

    Returns:
        An instance of `schema`.

    Raises:
        RequestProblem: the body is not JSON, or does not match the schema; names the first problem.
        HTTPException: the body cannot be decoded, or is beyond the limits of `parse_json`; or the
            client has disconnected.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # also blocks cross-site requests, which browsers send with other types without a preflight
    if media_type != "application/json":
        raise RequestProblem(None, "expected a JSON object, with Content-Type: application/json.")
    try:
        body = await request.body()
    except ClientDisconnect:
        raise HTTPException(GONE, "the client has disconnected.") from None
    if len(body) > LARGE:
        return await asyncio.to_thread(read, body, schema)
    return read(body, schema)


def read(body, schema):
    """Parses bytes; see `parsed`."""
    try:
        value = parse_json(body, halves=True)
    except json.JSONDecodeError as error:
        message = f"the body is not JSON: {error.msg}, at character {error.pos}."
        raise RequestProblem(None, message) from None
    except RepeatedKeyError as error:
        raise RequestProblem(None, f"{error}; expected one value.") from None
    except UnicodeDecodeError:
        message = "the body cannot be decoded; expected JSON in UTF-8."
        raise HTTPException(400, message) from None
    except ValueError as error:  # too deep, too many items, or an integer of too many digits
        raise HTTPException(400, f"the body: expected JSON, got {error!s:.200}.") from None
    if not isinstance(value, dict):
        raise RequestProblem(None, "expected a JSON object.")
    known = {field.alias or name for name, field in schema.model_fields.items()}
    for name in value:  # checked before pydantic, which would list all of them
        if name not in known:
            raise RequestProblem(name, "Extra inputs are not permitted.")
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        # without the values, which may be large, and need not be valid JSON
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = "".join(f"[{x}]" if isinstance(x, int) else f".{x}" for x in first["loc"])
    raise RequestProblem(field.removeprefix(".") or None, f"{first['msg']}.")
