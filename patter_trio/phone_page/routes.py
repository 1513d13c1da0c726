"""The browser phone's page, what it asks about the program, and the tickets for its calls.

::

    GET  /phone/                    the page, and its files below it
    GET  /phone/program.json        the program that is served, its recordings, and whether it is being loaded anew
    GET  /phone/recordings/N.wav    a recorded caller
    GET  /phone/timelines/ID        the picture of a call that a page holds, or has held: a ``CallTimeline``
    POST /phone/calls               a ticket for one call: {"call_id", "ticket"}; 503 with {"error"}: busy
    POST /phone/texts               a call in text, as a stream of its events; the first one has {"call_id", "ticket"}
    POST /phone/texts/ID            {"ticket", "text" | "keys" | "hang_up": true}: what its caller does

The page opens the media stream at ``/ws/browser/stream/CALL_ID`` (``wire/browser.py``) and follows the call at
``/api/live``. The server applies the rule of access, and that of ``Origin`` for each POST, before it calls a route.
"""

from pathlib import Path
from typing import Final

import trio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from patter_trio.abc import PageCalls
from patter_trio.errors import CallEnded, PatterError
from patter_trio.pages.assets import HEADERS, asset_route
from patter_trio.phone_page.live_timelines import LiveTimelines
from patter_trio.phone_page.page import PhonePage
from patter_trio.phone_page.text_calls import TextCallsOfPages
from patter_trio.server.event_streams import EventStreamResponse
from patter_trio.server.json_body import json_object

PHONE_PREFIX: Final = "/phone/"
"""The path of the page."""
STATIC: Final = Path(__file__).parent / "static"
# Judged: a page of text, as in the terminal. A paste of a whole book would cost a fortune at an LLM.
MAX_TEXT_CHARACTERS: Final = 10_000
"""Longest text that a caller may type, in characters."""
NO_STORE: Final = {"cache-control": "no-store"}
"""The headers of what changes from one moment to the next."""


def phone_routes(
    page: PhonePage, calls: PageCalls, texts: TextCallsOfPages, timelines: LiveTimelines
) -> list[BaseRoute]:
    """Return the routes of the browser phone.

    Args:
        page: what is shown.
        calls: gives the tickets.
        texts: the calls in text.
        timelines: the pictures of calls.
    """

    async def program(request: Request) -> Response:  # noqa: ARG001 (Starlette passes it)
        return JSONResponse(page.to_dict(), headers=NO_STORE)

    async def recording(request: Request) -> Response:
        number: int = request.path_params["number"]
        if number >= len(page.recordings):
            raise HTTPException(404)
        try:
            # In a thread, because a file may lie on a slow disk while other calls are live.
            content = await trio.Path(page.recordings[number]).read_bytes()
        except OSError as error:
            raise HTTPException(404, f"the recording cannot be read: {error.strerror}") from error
        return Response(content, 200, HEADERS, "audio/wav")

    async def call(request: Request) -> Response:  # noqa: ARG001 (Starlette passes it)
        try:
            ticket = calls.announce()
        except PatterError as busy:
            return JSONResponse({"error": str(busy)}, 503)
        return JSONResponse({"call_id": ticket.call_id, "ticket": ticket.ticket}, headers=NO_STORE)

    async def timeline(request: Request) -> Response:
        found = timelines.timeline(request.path_params["call_id"])
        if found is None:
            raise HTTPException(404, "no such call is kept")
        return JSONResponse(found, headers=NO_STORE)

    async def text_call(request: Request) -> Response:  # noqa: ARG001 (Starlette passes it)
        if why := texts.refusal():
            return JSONResponse({"error": why}, 503)
        return EventStreamResponse(texts.held)

    async def typed(request: Request) -> Response:
        body = json_object(await request.body())
        try:
            call = texts.call(request.path_params["call_id"], str(body.get("ticket", "")))
            match body:
                case {"text": str() as text} if len(text) <= MAX_TEXT_CHARACTERS:
                    call.say(text)
                case {"keys": str() as keys}:
                    await call.press(keys)
                case {"hang_up": True}:
                    call.hang_up()
                case _:
                    wanted = f"text (of at most {MAX_TEXT_CHARACTERS} characters), keys or hang_up"
                    raise HTTPException(400, f"the body must have {wanted}")
        except CallEnded as ended:
            raise HTTPException(404, "no such call in text is live") from ended
        except PatterError as wrong:
            raise HTTPException(400, str(wrong)) from wrong
        return JSONResponse({}, 202)

    async def without_slash(request: Request) -> Response:  # noqa: ARG001 (Starlette passes it)
        # Relative, because a proxy in front may have added a prefix.
        return Response(status_code=307, headers={"location": "phone/"})

    return [
        Route(PHONE_PREFIX.rstrip("/"), without_slash, methods=["GET"]),
        Route(f"{PHONE_PREFIX}program.json", program, methods=["GET"]),
        Route(f"{PHONE_PREFIX}recordings/{{number:int}}.wav", recording, methods=["GET"]),
        Route(f"{PHONE_PREFIX}timelines/{{call_id}}", timeline, methods=["GET"]),
        Route(f"{PHONE_PREFIX}calls", call, methods=["POST"]),
        Route(f"{PHONE_PREFIX}texts", text_call, methods=["POST"]),
        Route(f"{PHONE_PREFIX}texts/{{call_id}}", typed, methods=["POST"]),
        asset_route(PHONE_PREFIX, STATIC),
    ]
