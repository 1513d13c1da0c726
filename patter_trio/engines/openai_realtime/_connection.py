"""Connections to OpenAI's Realtime API: opened, configured, and held until they are left."""

import logging
import math
from collections.abc import Mapping
from typing import Final

import attrs
import trio

from patter_trio.errors import ProviderError, ProviderTimeout, WireError
from patter_trio.net.websocket_client import WebSocketClient, open_websocket
from patter_trio.wire import openai_realtime as wire

# Judged: it takes two round trips; the same time again as for connecting.
SESSION_SETUP_TIMEOUT_S: Final = 5.0
"""Seconds that a session may take to be ready, once it is connected."""
# Judged: it takes a round trip, and the caller waits for the answer meanwhile.
CONFIRMATION_TIMEOUT_S: Final = 3.0
"""Seconds within which the vendor must send something once it was asked for something."""
# Judged: a single faulty message must not end a call; a hundred are a vendor that speaks another protocol.
MAX_BAD_MESSAGES: Final = 100
"""Invalid messages after which the vendor counts as failed."""

_log = logging.getLogger("patter_trio.engines")


class Expired(ProviderError):
    """A session that the vendor ended because it was too old."""


@attrs.define(eq=False)
class EventReader:
    """Decoder of the vendor's messages, over all connections of one session; ``bad`` counts the invalid ones."""

    bad: int = 0

    def of(self, message: str | bytes) -> wire.Event | None:
        """Return the event in a message; None if it has no event of interest.

        Raises:
            ProviderError: there were too many invalid messages.
        """
        try:
            return wire.receive(message)
        except WireError as error:
            self.bad += 1
            # Only the first is logged: they may come with each piece of audio.
            if self.bad == 1:
                _log.warning("OpenAI: ignoring an invalid message: %s", error)
            if self.bad == MAX_BAD_MESSAGES:
                raise ProviderError(f"OpenAI sent {MAX_BAD_MESSAGES} invalid messages") from error
            return None


class RealtimeConnection:
    """One configured connection; ``since`` is when it became ready, on trio's clock."""

    def __init__(self, socket: WebSocketClient) -> None:
        self.socket = socket
        self.since: float = trio.current_time()
        self._left = trio.Event()

    def __repr__(self) -> str:
        return f"<Connection {self.socket!r}>"

    @property
    def usable(self) -> bool:
        """True if the connection is open, as far as is known."""
        return self.socket.usable and not self._left.is_set()

    def leave(self) -> None:
        """Let the connection be closed: nothing needs it any more."""
        self._left.set()

    async def left(self) -> None:
        """Wait until nothing needs the connection any more."""
        await self._left.wait()


@attrs.frozen
class ConnectionAttempt:
    """The way to open a session's connections.

    Args:
        url: of the WebSocket.
        headers: of its handshake.
        setup: the message that configures it.
        understanding: decodes the vendor's messages.
    """

    url: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    setup: str = attrs.field(repr=False)
    understanding: EventReader = attrs.field(factory=EventReader)

    async def hold(self, connect_timeout: float, *, task_status: trio.TaskStatus[RealtimeConnection]) -> None:
        """Open and configure a connection, pass it to the starting task, and hold it until it is left.

        ``connect_timeout`` limits the opening, in seconds.

        Raises:
            ProviderError: the connection could not be opened or configured.
        """
        async with open_websocket(self.url, headers=self.headers, connect_timeout=connect_timeout) as socket:
            try:
                # Around the whole exchange, because the vendor's refusal may come instead of either event.
                with trio.fail_after(SESSION_SETUP_TIMEOUT_S):
                    # The vendor's first event must come before the configuration is sent, and its confirmation before
                    # any audio.
                    await self._await_session(socket, updated=False)
                    await socket.send(self.setup)
                    await self._await_session(socket, updated=True)
            except trio.TooSlowError as error:
                raise ProviderTimeout(f"OpenAI's session was not ready within {SESSION_SETUP_TIMEOUT_S:g} s") from error
            # Only now: the starting task gets a connection that is ready for audio.
            connection = RealtimeConnection(socket)
            task_status.started(connection)
            # Held open here, in the task that opened it: a cancel scope must be left where it was entered.
            await connection.left()

    async def _await_session(self, socket: WebSocketClient, *, updated: bool) -> None:
        while True:
            event = self.understanding.of(await socket.receive())
            # Any error is fatal during the setup: without its settings the session is not the one that was asked for.
            if isinstance(event, wire.Refused):
                raise event.error()
            # Other events are skipped: the vendor may announce limits before.
            if isinstance(event, wire.SessionReady) and event.updated is updated:
                return


class ConnectionUse:
    """The use of one connection: how it ended, and the one that will replace it, once there is one.

    A vendor that hangs keeps its connection open and says nothing. The vendor confirms at once that it has got an
    utterance or a request for an answer, however long the answer takes; if it does not, the connection is lost.
    """

    def __init__(self) -> None:
        # Its deadline is the instant at which the vendor must have sent something.
        self._patience = trio.CancelScope()
        self.scope: trio.CancelScope = trio.CancelScope()
        self.lost: ProviderError | None = None
        self.failure: ProviderError | None = None
        self.spare: RealtimeConnection | None = None

    def keep(self, spare: RealtimeConnection) -> None:
        """Store the next connection, in place of one that was lost while it waited."""
        # A spare that was lost while it waited costs nothing: it was not in use.
        if self.spare is not None:
            self.spare.leave()
        self.spare = spare

    def expect(self) -> None:
        """Count the connection as lost unless a message comes within :data:`CONFIRMATION_TIMEOUT_S` seconds."""
        self._patience.deadline = min(self._patience.deadline, trio.current_time() + CONFIRMATION_TIMEOUT_S)

    def received(self) -> None:
        """Note that a message came."""
        self._patience.deadline = math.inf

    async def watch(self) -> None:
        """Count the connection as lost when the message that is expected does not come in time."""
        with self._patience:
            await trio.sleep_forever()
        self.lose(ProviderTimeout(f"OpenAI confirmed nothing within {CONFIRMATION_TIMEOUT_S:g} s"))

    def lose(self, error: ProviderError) -> None:
        """Record that the connection is lost; another one can replace it."""
        # The first loss is the reason; reader and writer both report it.
        self.lost = self.lost or error
        self.scope.cancel(reason="the connection is lost")

    def fail(self, error: ProviderError) -> None:
        """Record a failure that another connection would not cure."""
        self.failure = self.failure or error
        self.scope.cancel(reason="the vendor has failed")
