"""The connections of one Realtime session, one after another: a lost one is replaced, an old one is renewed.

* **Renewal.** The vendor ends a connection after an hour. Before that, once one is about to become too old, another is
  opened beside it. The session changes over when that one is ready and nothing is in progress, so nobody notices.
* **Loss.** A lost connection is replaced, at once and then again and again for as long as an :class:`Outage` may last;
  what was in progress begins again on the new one. A connection that stays open and mute counts as lost (see
  :class:`ConnectionUse`). If none works in time, the session ends.

The session decides what is in progress, and what the next connection has to be sent: see :class:`RenewableSession`.
"""

import logging
from collections.abc import Callable
from typing import Final, Protocol

import trio

from patter_trio.engines.openai_realtime._connection import ConnectionAttempt, ConnectionUse, RealtimeConnection
from patter_trio.errors import AuthenticationError, ProviderError
from patter_trio.net.websocket_client import CONNECT_TIMEOUT_S, WebSocketClient
from patter_trio.providers.outage import STEADY_AFTER_S, Outage
from patter_trio.user_code.context import current_call

# Judged. The last minutes of a connection's hour have room for several attempts.
RENEW_RETRY_S: Final = 30.0
"""Seconds between attempts to renew a connection. The vendor usually ends it only several minutes later."""
_log = logging.getLogger("patter_trio.engines")


class RenewableSession(Protocol):
    """A session, as its connections use it."""

    async def write(self, socket: WebSocketClient, use: ConnectionUse) -> None:
        """Send the queued messages, until cancelled or until the connection is lost."""

    async def read(self, socket: WebSocketClient, use: ConnectionUse) -> None:
        """Take the vendor's events, until cancelled or until the connection is lost."""

    async def rest(self) -> None:
        """Wait until nothing is in progress: a change of connections would lose or double it."""

    def keep_messages(self) -> None:
        """Keep messages for the next connection, from now on."""

    def lose(self, lost: ProviderError) -> None:
        """Prepare the queue for the next connection: what was in progress begins again."""

    def tell_so_far(self) -> None:
        """Queue the conversation, and the kept messages, ahead of everything else."""


class ConnectionSequence:
    """The connections of one session.

    Args:
        attempt: opens a connection.
        session: uses the connections.
        renew_after: seconds after which a connection is replaced in the next quiet moment.
    """

    def __init__(self, attempt: ConnectionAttempt, session: RenewableSession, renew_after: float) -> None:
        self._attempt = attempt
        self._session = session
        self._renew_after = renew_after
        self._used: ConnectionUse | None = None
        self._outage = Outage("OpenAI", current_call.get(), _log)

    def __repr__(self) -> str:
        return f"<ConnectionSequence {'not open' if self._used is None else 'open'}>"

    def give_up(self, error: ProviderError) -> None:
        """Count the present connection as lost: it is open, and the vendor is silent."""
        if self._used is not None:
            self._used.lose(error)

    def worked(self) -> None:
        """Count the vendor as working: it has done something that a caller can hear."""
        self._outage.worked()

    async def run(self, nursery: trio.Nursery, opened: Callable[[], None]) -> None:
        """Hold connections, one after another, in ``nursery``; call ``opened`` once the first one is ready.

        Raises:
            ProviderError: the vendor has failed.
        """
        # ``start``: it returns when the connection is configured, and raises here if it cannot be.
        connection: RealtimeConnection = await nursery.start(self._attempt.hold, CONNECT_TIMEOUT_S)
        opened()
        while True:
            use = await self._use(connection, nursery)
            # First: the task that holds it would keep the socket open until the end of the call.
            connection.leave()
            if use.failure is not None:
                raise use.failure
            pause = 0.0
            if use.lost is not None:
                if trio.current_time() - connection.since >= STEADY_AFTER_S:
                    self.worked()
                pause = self._outage.lost(use.lost)
                # WARNING: before the next connection is opened: what the call sends meanwhile has to queue behind what
                # is repeated.
                self._session.lose(use.lost)
            connection = use.spare if use.spare and use.spare.usable else await self._reopen(nursery, pause)
            # WARNING: after the opening, and with no await until the connection is used: the conversation must be the
            # first thing that it gets, and complete.
            self._session.tell_so_far()

    async def _use(self, connection: RealtimeConnection, nursery: trio.Nursery) -> ConnectionUse:
        """Use a connection until its end; connections that replace it are opened in ``nursery``."""
        use = self._used = ConnectionUse()
        with use.scope:
            # They end together: whatever ends one cancels the scope.
            async with trio.open_nursery() as tasks:
                tasks.start_soon(use.watch)
                tasks.start_soon(self._session.write, connection.socket, use)
                tasks.start_soon(self._session.read, connection.socket, use)
                tasks.start_soon(self._renew, connection, use, nursery)
        return use

    async def _renew(self, connection: RealtimeConnection, use: ConnectionUse, nursery: trio.Nursery) -> None:
        """Replace an old connection once another one is ready and nothing is in progress; it is used until then."""
        await trio.sleep_until(connection.since + self._renew_after)
        while True:
            await self._session.rest()
            if use.spare is not None and use.spare.usable:
                # No await from the check in ``rest`` to the cancellation below: nothing can begin in between.
                break
            try:
                use.keep(await nursery.start(self._attempt.hold, CONNECT_TIMEOUT_S))
            # The old connection still works, so this is not a failure yet.
            except ProviderError as error:
                _log.warning("OpenAI: the connection could not be renewed, keeping it: %s", error)
                await trio.sleep(RENEW_RETRY_S)
        self._session.keep_messages()
        use.scope.cancel(reason="the connection is renewed")

    async def _reopen(self, nursery: trio.Nursery, pause: float) -> RealtimeConnection:
        """Replace a connection, after a pause.

        Raises:
            ProviderError: it could not be replaced in time, or will not be.
        """
        while True:
            await trio.sleep(pause)
            timeout = self._outage.attempt_timeout()
            try:
                opened: RealtimeConnection = await nursery.start(self._attempt.hold, timeout)
            # A refused key is refused the next time, too.
            except AuthenticationError:
                raise
            except ProviderError as error:
                pause = self._outage.lost(error)
            else:
                return opened
