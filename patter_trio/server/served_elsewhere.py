"""The HTTP side of a phone as an ASGI application for another server, such as ``hypercorn -k trio``.

It answers webhooks and windows. The media streams of calls go to ``phone.serve``, which must run in the same trio run:
no ASGI server has the latencies of its sockets, and a call's state lives in one process.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from patter_trio.server.connection import http_application
from patter_trio.server.options import RunningServer
from patter_trio.server.refusals import current_peer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

NOT_SERVED: Final = "phone.asgi() needs phone.serve() in the same trio run, such as hypercorn -k trio with one worker"
"""The one line for somebody who has only half of it."""

NOT_ON_TRIO: Final = "phone.asgi() needs a server on trio, such as hypercorn -k trio with one worker; this one is not"
"""The one line for somebody whose server runs its applications on asyncio, as uvicorn does."""

_log = logging.getLogger("patter_trio.http")


class ServedElsewhere:
    """The ASGI application of a phone.

    Args:
        servers: the phone's running servers, oldest first; the phone keeps it up to date.
    """

    def __init__(self, servers: Sequence[RunningServer]) -> None:
        self._servers = servers
        self._made: tuple[RunningServer, ASGIApp] | None = None
        """The newest server, and the application that was made for it."""

    def __repr__(self) -> str:
        return f"<ServedElsewhere of {len(self._servers)} servers>"

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer one request, or one lifespan, for which there is nothing to do."""
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
            return
        app = self._application()
        if app is not None:
            # For the log of refusals, and the number of wrong tokens of a peer.
            current_peer.set((scope.get("client") or ("this peer",))[0])
            await app(scope, receive, send)
            return
        why = NOT_SERVED if trio.lowlevel.in_trio_run() else NOT_ON_TRIO
        if scope["type"] == "http":
            _log.warning("%s", why)
            await _answer(send, 503, f"{why}\n")
        else:
            # 1011: the server cannot do what it was asked for (RFC 6455, section 7.4.1).
            await send({"type": "websocket.close", "code": 1011, "reason": why})

    def _application(self) -> "ASGIApp | None":
        """Return the application of the newest server of this trio run."""
        # Asked first, because the next line raises outside of trio.
        if not trio.lowlevel.in_trio_run():
            return None
        here = trio.lowlevel.current_trio_token()
        server = next((server for server in reversed(self._servers) if server.token is here), None)
        if server is None:
            return None
        if self._made is None or self._made[0] is not server:
            context = server.context
            # Nobody knows from where the other server can be reached, so windows need a token. Without ``app``, which
            # may be what has this application in it.
            access = attrs.evolve(context.access, is_private=False)
            self._made = server, http_application(attrs.evolve(context, access=access, app=None))
        return self._made[1]


async def _answer(send: "Send", status: int, text: str) -> None:
    # Judged: a server that starts beside this one is there within 5 s.
    headers: list[tuple[bytes, Any]] = [(b"content-type", b"text/plain; charset=utf-8"), (b"retry-after", b"5")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
