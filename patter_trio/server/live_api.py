"""The HTTP API of live calls: a snapshot, streams of events, and control."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from patter_trio.abc import LiveCalls
from patter_trio.errors import CallEnded, ConfigurationError, PatterError
from patter_trio.server.event_streams import EventStreamResponse
from patter_trio.server.json_body import json_body
from patter_trio.server.json_response import TolerantJSONResponse
from patter_trio.server.openapi import openapi_document

# Judged: what an agent says for some minutes.
MAX_TEXT_CHARACTERS: Final = 5000
"""Most characters of a text to say or to send."""

Steer = Callable[[str, Mapping[str, Any]], Awaitable[None]]
"""Carries out an order for the call with an id; the mapping is the body of the request."""


def live_routes(live: LiveCalls) -> Sequence[BaseRoute]:
    """Return the routes of ``/api/live`` and of the API's description.

    Args:
        live: the live calls.
    """

    async def snapshot(_: Request) -> Response:
        return TolerantJSONResponse({"calls": [call.to_dict() for call in live.calls()]})

    async def events(request: Request) -> Response:
        after, chunks = _position(request), request.query_params.get("chunks") == "1"
        call_id = request.path_params.get("call_id", "")
        # Here, because the stream's status is sent before it is opened.
        if call_id and live.call(call_id) is None:
            raise HTTPException(404, "no such call is live")
        return EventStreamResponse(lambda: live.subscribe(call_id, after=after, chunks=chunks))

    async def say(call_id: str, body: Mapping[str, Any]) -> None:
        live.say(call_id, _text(body, "text"), interrupt=body.get("interrupt") is True)

    async def hang_up(call_id: str, _: Mapping[str, Any]) -> None:
        live.hang_up(call_id)

    async def transfer(call_id: str, body: Mapping[str, Any]) -> None:
        await live.transfer(call_id, _text(body, "to"))

    async def send_text(call_id: str, body: Mapping[str, Any]) -> None:
        live.send_text(call_id, _text(body, "text"))

    async def openapi(_: Request) -> Response:
        return JSONResponse(openapi_document())

    orders = {"say": say, "hang_up": hang_up, "transfer": transfer, "text": send_text}
    return [
        Route("/api/openapi.json", openapi),
        Route("/api/live", snapshot),
        Route("/api/live/events", events),
        Route("/api/live/{call_id}/events", events),
        *(Route(f"/api/live/{{call_id}}/{name}", _order(order), methods=["POST"]) for name, order in orders.items()),
    ]


def _order(steer: Steer) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        body = await json_body(request)
        try:
            await steer(request.path_params["call_id"], body)
        except CallEnded as ended:
            raise HTTPException(404, "no such call is live") from ended
        except ConfigurationError as wrong:
            raise HTTPException(400, str(wrong)) from wrong
        # Too many texts wait, or a transfer is under way.
        except PatterError as refused:
            raise HTTPException(409, str(refused)) from refused
        # 202: the call carries it out after its current speech.
        return JSONResponse({"call_id": request.path_params["call_id"]}, 202)

    return endpoint


def _text(body: Mapping[str, Any], name: str) -> str:
    text = body.get(name)
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_TEXT_CHARACTERS:
        raise HTTPException(400, f"{name} must be a text of 1 to {MAX_TEXT_CHARACTERS} characters")
    return text


def _position(request: Request) -> int | None:
    """Return the number of the last event that a client got; None: it begins.

    Raises:
        HTTPException: 400, ``after`` is not such a number.
    """
    # A browser repeats the header by itself, also that of another server behind the same address: such an id is no
    # reason to refuse it.
    given = request.headers.get("last-event-id")
    if given:
        return int(given) if _is_position(given) else None
    # For clients that are no EventSource.
    after = request.query_params.get("after", "")
    if after and not _is_position(after):
        raise HTTPException(400, f"after must be the number of an event, got {after[:40]!r}")
    return int(after) if after else None


def _is_position(text: str) -> bool:
    # The length first: a number of thousands of digits takes time to parse.
    return len(text) <= len(str(2**63)) and text.isascii() and text.isdigit()
