"""The lifespan of the application's own ASGI application: its start before the first request, its end after the last.

The protocol is ASGI's: https://asgi.readthedocs.io/en/latest/specs/lifespan.html
"""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from patter_trio.errors import ConfigurationError
from patter_trio.user_code import invoke

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message

# Judged: connections to databases are open by then, and a program that hangs is noticed.
STARTUP_TIMEOUT_S: Final = 60.0
"""Seconds for the application to start."""
# Judged, as for the last callbacks of calls, and below the 10 s of Docker.
SHUTDOWN_TIMEOUT_S: Final = 5.0
"""Seconds for the application to end."""

_log = logging.getLogger("patter_trio.http")


@attrs.define(eq=False)
class _Lifespan:
    """The messages between the server and the application."""

    app: "ASGIApp"
    state: dict[str, Any] = attrs.field(factory=dict)
    started: trio.Event = attrs.field(factory=trio.Event)
    ending: trio.Event = attrs.field(factory=trio.Event)
    ended: trio.Event = attrs.field(factory=trio.Event)
    # Shielded: a server that is cancelled lets the application close its database, too. Its owner ends it.
    scope: trio.CancelScope = attrs.field(factory=lambda: trio.CancelScope(shield=True))
    failure: str | None = None
    """The application's own message about its failed start."""
    has_asked: bool = False

    async def run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            with self.scope, invoke.contained("the lifespan of app="):
                await self.app(scope, self._receive, self._send)
        except invoke.ApplicationError as error:
            if self.failure is None and self.started.is_set():
                _log.error("%s", error, exc_info=error.__cause__)
            # Before its start, an exception means that the application has no lifespan (ASGI), or a failure that it
            # has reported.
            elif self.failure is None:
                _log.info("app= has no lifespan: %s", error)
        finally:
            self.started.set()
            self.ended.set()

    async def _receive(self) -> "Message":
        if not self.has_asked:
            self.has_asked = True
            return {"type": "lifespan.startup"}
        await self.ending.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: "Message") -> None:
        match message["type"]:
            case "lifespan.startup.complete":
                self.started.set()
            case "lifespan.startup.failed":
                self.failure = str(message.get("message", "")).strip().rpartition("\n")[2]
                self.started.set()
            case "lifespan.shutdown.complete":
                self.ended.set()
            case "lifespan.shutdown.failed":
                _log.error("app= failed to end: %s", message.get("message", ""))
                self.ended.set()
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def run_lifespan(app: "ASGIApp | None") -> AsyncIterator[Mapping[str, Any]]:
    """Start an application, yield the state for its requests, and end it with the block.

    Raises:
        ConfigurationError: the application has failed to start, or has not started within :data:`STARTUP_TIMEOUT_S`.
    """
    if app is None:
        yield {}
        return
    lifespan = _Lifespan(app)
    refusal = ""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lifespan.run)
        try:
            with trio.move_on_after(STARTUP_TIMEOUT_S) as limit:
                await lifespan.started.wait()
            if limit.cancelled_caught:
                refusal = f"app= must start within {STARTUP_TIMEOUT_S:g} s"
            elif lifespan.failure is not None:
                refusal = f"app= has failed to start: {lifespan.failure}"
            else:
                try:
                    yield lifespan.state
                finally:
                    lifespan.ending.set()
                    # Shielded, as the application is, and for a stated time.
                    with trio.move_on_after(SHUTDOWN_TIMEOUT_S, shield=True):
                        await lifespan.ended.wait()
        finally:
            lifespan.scope.cancel(reason="the server has ended")
    if refusal:
        raise ConfigurationError(refusal)
