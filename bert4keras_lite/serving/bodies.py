"""What comes in a request: read as JSON, held against a schema, at a cost that has a bound."""

import asyncio
import json

from fastapi import HTTPException
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from ..parsing import RepeatedKeyError, parse_json
from .answers import GONE, RequestProblem

LARGE = 1 << 14  # bytes of a body that another thread reads


async def parsed(request, schema):
    """The body of a request.

    Args:
        schema: a `schemas.Request`.

    Raises:
        RequestProblem: no JSON, or not as the schema says; of several things the first.
        HTTPException: it cannot be decoded, or the client leaves.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if (
        media_type != "application/json"
    ):  # also keeps pages of other sites from asking without leave
        raise RequestProblem(None, "expected a JSON object, with Content-Type: application/json.")
    try:
        body = await request.body()
    except ClientDisconnect:
        raise HTTPException(GONE, "the client has left.") from None
    if len(body) > LARGE:
        return await asyncio.to_thread(read, body, schema)
    return read(body, schema)


def read(body, schema):
    try:
        value = parse_json(body, halves=True)
    except json.JSONDecodeError as error:
        raise RequestProblem(None, f"no JSON: {error.msg}, at character {error.pos}.") from None
    except RepeatedKeyError as error:
        raise RequestProblem(None, f"{error}; expected one value.") from None
    except ValueError:
        message = "the body cannot be read; expected JSON in UTF-8."
        raise HTTPException(400, message) from None
    if not isinstance(value, dict):
        raise RequestProblem(None, "expected a JSON object.")
    for name in value:  # here, as pydantic would list all of them
        if name not in schema.model_fields:
            raise RequestProblem(name, "Extra inputs are not permitted.")
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        # without the values, which may be large, and need not be good JSON
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = "".join(f"[{x}]" if isinstance(x, int) else f".{x}" for x in first["loc"])
    raise RequestProblem(field.removeprefix(".") or None, f"{first['msg']}.")
