"""A connection to OpenAI's Realtime API: opened, set up, and held until it is left."""

import logging
from collections.abc import Mapping
from typing import Final

import attrs
import trio

from patter_trio.errors import ProviderError, ProviderTimeout, WireError
from patter_trio.net.websocket_client import WebSocketClient, open_websocket
from patter_trio.wire import openai_realtime as wire

SESSION_SETUP_TIMEOUT_S: Final = 5.0
"""Seconds that a session may take to be ready, once it is connected."""
MAX_BAD_MESSAGES: Final = 100
"""Messages that the protocol does not allow after which the vendor has failed."""

_log = logging.getLogger("patter_trio.engines")


class Expired(ProviderError):
    """The vendor has ended a session that was too old."""


@attrs.define(eq=False)
class EventReader:
    """Reads what the vendor sends, over all connections of one session; ``bad`` counts what the protocol does not allow."""

    bad: int = 0

    def of(self, message: str | bytes) -> wire.Event | None:
        """Return what a message means; None: nothing that is of interest.

        Raises:
            ProviderError: too many have no meaning.
        """
        try:
            return wire.receive(message)
        except WireError as error:
            self.bad += 1
            if self.bad == 1:
                _log.warning("ignoring what OpenAI may not send: %s", error)
            if self.bad == MAX_BAD_MESSAGES:
                raise ProviderError(f"OpenAI sent {MAX_BAD_MESSAGES} messages that cannot be understood") from error
            return None


class RealtimeConnection:
    """One connection that is set up; ``since`` is when, on trio's clock."""

    def __init__(self, socket: WebSocketClient) -> None:
        self.socket = socket
        self.since: float = trio.current_time()
        self._left = trio.Event()

    def __repr__(self) -> str:
        return f"<Connection {self.socket!r}>"

    @property
    def usable(self) -> bool:
        """Whether it is there, as far as is known."""
        return self.socket.usable and not self._left.is_set()

    def leave(self) -> None:
        """Have it closed: nobody needs it any more."""
        self._left.set()

    async def left(self) -> None:
        """Wait until nobody needs it."""
        await self._left.wait()


@attrs.frozen
class ConnectionAttempt:
    """How a session's connections are opened.

    Args:
        url: of the WebSocket.
        headers: of its handshake.
        setup: what sets it up.
        understanding: reads what comes.
    """

    url: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    setup: str = attrs.field(repr=False)
    understanding: EventReader = attrs.field(factory=EventReader)

    async def hold(self, connect_timeout: float, *, task_status: trio.TaskStatus[RealtimeConnection]) -> None:
        """Open a connection within so many seconds, set it up, give it to who starts this, and hold it until it is left.

        Raises:
            ProviderError: it cannot be had.
        """
        async with open_websocket(self.url, headers=self.headers, connect_timeout=connect_timeout) as socket:
            try:
                with trio.fail_after(SESSION_SETUP_TIMEOUT_S):
                    await self._await_session(socket, updated=False)
                    await socket.send(self.setup)
                    await self._await_session(socket, updated=True)
            except trio.TooSlowError as error:
                raise ProviderTimeout(f"OpenAI's session was not ready within {SESSION_SETUP_TIMEOUT_S:g} s") from error
            connection = RealtimeConnection(socket)
            task_status.started(connection)
            await connection.left()

    async def _await_session(self, socket: WebSocketClient, *, updated: bool) -> None:
        while True:
            event = self.understanding.of(await socket.receive())
            if isinstance(event, wire.Refused):
                raise event.error()
            if isinstance(event, wire.SessionReady) and event.updated is updated:
                return


class ConnectionUse:
    """The use of one connection: how it ended, and the one that is to take its place, as soon as there is one."""

    def __init__(self) -> None:
        self.scope: trio.CancelScope = trio.CancelScope()
        self.lost: ProviderError | None = None
        self.failure: ProviderError | None = None
        self.spare: RealtimeConnection | None = None

    def keep(self, spare: RealtimeConnection) -> None:
        """Take the connection that is to be next, in the place of one that was lost while it waited."""
        if self.spare is not None:
            self.spare.leave()
        self.spare = spare

    def lose(self, error: ProviderError) -> None:
        """The connection is over."""
        self.lost = self.lost or error
        self.scope.cancel(reason="the connection is lost")

    def fail(self, error: ProviderError) -> None:
        """No other would be better."""
        self.failure = self.failure or error
        self.scope.cancel(reason="the vendor has failed")
