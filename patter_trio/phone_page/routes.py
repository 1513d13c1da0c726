"""The browser phone's page, what it asks about the program, and the tickets for its calls.

::

    GET  /phone/                    the page, and its files below it
    GET  /phone/program.json        the program that is served, its recordings, and whether it is being loaded anew
    GET  /phone/recordings/N.wav    a recorded caller
    POST /phone/calls               a ticket for one call: {"call_id", "ticket"}; 503 with {"error"}: busy

The page opens the media stream at ``/ws/browser/stream/CALL_ID`` (``wire/browser.py``) and follows the call at
``/api/live``. The server applies the rule of access, and that of ``Origin`` for the POST, before it calls a route.
"""

from pathlib import Path
from typing import Final

import trio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from patter_trio.abc import PageCalls
from patter_trio.errors import PatterError
from patter_trio.pages.assets import HEADERS, asset_route
from patter_trio.phone_page.page import PhonePage

PHONE_PREFIX: Final = "/phone/"
"""The path of the page."""
STATIC: Final = Path(__file__).parent / "static"


def phone_routes(page: PhonePage, calls: PageCalls) -> list[BaseRoute]:
    """Return the routes of the browser phone.

    Args:
        page: what is shown.
        calls: gives the tickets.
    """

    async def program(request: Request) -> Response:  # noqa: ARG001 (Starlette passes it)
        return JSONResponse(page.to_dict(), headers={"cache-control": "no-store"})

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
        return JSONResponse({"call_id": ticket.call_id, "ticket": ticket.ticket}, headers={"cache-control": "no-store"})

    async def without_slash(request: Request) -> Response:  # noqa: ARG001 (Starlette passes it)
        # Relative, because a proxy in front may have added a prefix.
        return Response(status_code=307, headers={"location": "phone/"})

    return [
        Route(PHONE_PREFIX.rstrip("/"), without_slash, methods=["GET"]),
        Route(f"{PHONE_PREFIX}program.json", program, methods=["GET"]),
        Route(f"{PHONE_PREFIX}recordings/{{number:int}}.wav", recording, methods=["GET"]),
        Route(f"{PHONE_PREFIX}calls", call, methods=["POST"]),
        asset_route(PHONE_PREFIX, STATIC),
    ]
