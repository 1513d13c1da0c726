"""The JSON object in the body of a request to the API."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request


async def json_body(request: Request) -> Mapping[str, Any]:
    """Return the JSON object in the body of a request; an empty body is an empty one.

    Raises:
        HTTPException: 400, it is not a JSON object; 415, it is of another type.
    """
    data = await request.body()
    if not data.strip():
        return {}
    # A form, which a page of another site can send without asking first, is of another type.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "the body must be application/json")
    return json_object(data)


def json_object(data: bytes) -> Mapping[str, Any]:
    """Return the JSON object that a body is.

    Raises:
        HTTPException: 400, it is not a JSON object.
    """
    try:
        body = json.loads(data)
    # RecursionError: a body has room for more brackets than Python's parser can follow.
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the body must be valid JSON") from error
    if not isinstance(body, dict):
        raise HTTPException(400, "the body must be a JSON object")
    return body
