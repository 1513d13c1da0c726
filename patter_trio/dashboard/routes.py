"""The dashboard's pages, and what they ask about the phone beside the public API.

::

    GET /dashboard/             the pages, and their files below it
    GET /dashboard/facts.json   what is kept: {"kept": "log" | "memory", "max_calls": 200 | null}

All else the pages take from ``/api/``, like any other client. The server applies the rule of access before each route.
"""

from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from patter_trio.dashboard.recent_calls import MAX_ENDED_CALLS
from patter_trio.pages.assets import asset_route

DASHBOARD_PREFIX: Final = "/dashboard/"
"""The path of the pages."""
STATIC: Final = Path(__file__).parent / "static"


def dashboard_routes(*, has_log: bool) -> list[BaseRoute]:
    """Return the routes of the dashboard.

    Args:
        has_log: True if a call log keeps the calls; otherwise the memory keeps the newest.
    """
    facts = {"kept": "log" if has_log else "memory", "max_calls": None if has_log else MAX_ENDED_CALLS}

    async def told(request: Request) -> Response:  # noqa: ARG001 (Starlette passes it)
        return JSONResponse(facts, headers={"cache-control": "no-store"})

    async def without_slash(request: Request) -> Response:  # noqa: ARG001 (Starlette passes it)
        # Relative, because a proxy in front may have added a prefix.
        return Response(status_code=307, headers={"location": "dashboard/"})

    return [
        Route(DASHBOARD_PREFIX.rstrip("/"), without_slash, methods=["GET"]),
        Route(f"{DASHBOARD_PREFIX}facts.json", told, methods=["GET"]),
        asset_route(DASHBOARD_PREFIX, STATIC),
    ]
