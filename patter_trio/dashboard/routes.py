"""The dashboard's pages, and what they ask about the phone beside the public API.

::

    GET /dashboard/               the pages, and their files below it
    GET /dashboard/facts.json     what is kept: {"kept": "log" | "memory", "max_calls": 200 | null}
    GET /api/calls/{call_id}/log  the lines of the program's log about a call, the newest 200: {"lines": [...]}

All else the pages take from ``/api/``, like any other client. The server applies the rule of access before each route.
"""

from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from patter_trio.dashboard.log_lines import LogLines
from patter_trio.dashboard.recent_calls import MAX_ENDED_CALLS
from patter_trio.pages.assets import asset_route

DASHBOARD_PREFIX: Final = "/dashboard/"
"""The path of the pages."""
STATIC: Final = Path(__file__).parent / "static"


def dashboard_routes(lines: LogLines, *, has_log: bool) -> list[BaseRoute]:
    """Return the routes of the dashboard.

    Args:
        lines: the lines of the log by call.
        has_log: True if a call log keeps the calls; otherwise the memory keeps the newest.
    """
    facts = {"kept": "log" if has_log else "memory", "max_calls": None if has_log else MAX_ENDED_CALLS}

    async def told(request: Request) -> Response:  # noqa: ARG001 (Starlette passes it)
        return JSONResponse(facts, headers={"cache-control": "no-store"})

    async def log(request: Request) -> Response:
        return JSONResponse({"lines": lines.of_call(request.path_params["call_id"])})

    async def without_slash(request: Request) -> Response:  # noqa: ARG001 (Starlette passes it)
        # Relative, because a proxy in front may have added a prefix.
        return Response(status_code=307, headers={"location": "dashboard/"})

    return [
        Route(DASHBOARD_PREFIX.rstrip("/"), without_slash, methods=["GET"]),
        Route(f"{DASHBOARD_PREFIX}facts.json", told, methods=["GET"]),
        Route("/api/calls/{call_id}/log", log, methods=["GET"]),
        asset_route(DASHBOARD_PREFIX, STATIC),
    ]
