"""The HTTP API of listening to live calls: the tickets for its sockets."""

from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from patter_trio.errors import CallEnded
from patter_trio.server.application import LOGIN_KEY
from patter_trio.server.listening import Listening


def listen_routes(listening: Listening) -> Sequence[BaseRoute]:
    """Return the route of the tickets.

    Args:
        listening: gives them.
    """

    async def ticket(request: Request) -> Response:
        call_id = request.path_params["call_id"]
        try:
            return JSONResponse({"call_id": call_id, "ticket": listening.ticket(call_id, request.scope.get(LOGIN_KEY))})
        except CallEnded as ended:
            raise HTTPException(404, str(ended)) from ended

    return [Route("/api/live/{call_id}/listen", ticket, methods=["POST"])]
