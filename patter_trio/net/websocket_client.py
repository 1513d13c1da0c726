"""WebSockets to vendors and applications, as a client: our shell of ``net/websocket.py`` with what a client adds.

Why not ``trio-websocket``: after a send that was cancelled it stays open and goes on in the middle of a frame, it costs
twice the CPU per message (measured: 61 instead of 28 microseconds), and it cannot be run over a stream that a test
makes. The shell that carriers' streams run on has none of that, and one implementation is enough.

What is added here:

* **Somebody always reads**, so that pings are answered and a peer's end is noticed while nobody waits for a message. At
  most :data:`MOST_WAITING` messages wait to be taken; then the peer has to.
* **Several tasks may send**: whole messages, one after another.
* **Deadlines**, and errors in this package's terms.
* A send that was cancelled has broken the connection: :attr:`WebSocketClient.usable` is False from then on, and leaving
  the block only closes it.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import trio
from websockets.exceptions import InvalidStatus

from patter_trio.errors import ProviderError, ProviderTimeout, WireError
from patter_trio.net.http import origin_of, reason_of, status_error, tls_context
from patter_trio.net.tasks import hand_over, run_beside
from patter_trio.net.websocket import SocketClosed, WebSocket, connect

CONNECT_TIMEOUT_S: Final = 5.0
"""Seconds that opening may take, TLS and handshake included."""
SEND_TIMEOUT_S: Final = 5.0
"""Seconds that a message may take to be handed to the network: a peer that does not read for so long is gone."""
CLOSE_TIMEOUT_S: Final = 0.05
"""Seconds that a close waits for the peer's answer. All that is left of a call has to be gone within a second."""
MAX_WAITING_MESSAGES: Final = 64
"""Messages that wait to be taken."""

_log = logging.getLogger("patter_trio.net")

OpenStream = Callable[[str], Awaitable[trio.abc.Stream]]
"""Opens the connection that a URL names."""


class ConnectionOver(ProviderError):
    """The connection is over: ``code`` as in RFC 6455 section 7.4; 1006 without a close frame."""

    def __init__(self, who: str, closed: SocketClosed) -> None:
        super().__init__(f"the connection to {who} ended: {closed}")
        self.code: int = closed.code


class WebSocketClient:
    """An open connection; made by :func:`open_websocket`."""

    def __init__(self, socket: WebSocket, who: str) -> None:
        self._socket = socket
        self._who = who
        self._sending = trio.Lock()
        self._pinged = trio.Event()
        self._put, self._arrived = trio.open_memory_channel[str | bytes](MAX_WAITING_MESSAGES)
        self._over: SocketClosed | None = None
        self.abandoned: bool = False
        """Whether it was this side that had no more use for it."""
        self.ended: trio.Event = trio.Event()
        """Set when the peer has ended the connection, or it broke, or it was abandoned."""
        socket.share_sending(self._answer_wanted)

    def __repr__(self) -> str:
        return f"<WebSocketClient {self._who}{'' if self.usable else ' over'}>"

    @property
    def usable(self) -> bool:
        """Whether a message can be sent, as far as is known."""
        return self._over is None and not self.abandoned and not self._socket.broken

    async def send(self, message: str | bytes) -> None:
        """Send a message. Cancelling it while it is on its way breaks the connection.

        Raises:
            ProviderTimeout: the peer does not read.
            ConnectionOver: nothing can be sent any more.
        """
        await self._write(partial(self._socket.send, message))

    async def receive(self) -> str | bytes:
        """Return the next message; how long that may take is the caller's to say.

        Raises:
            ConnectionOver: there are none any more.
        """
        try:
            return await self._arrived.receive()
        except trio.EndOfChannel:
            raise ConnectionOver(self._who, self._over or SocketClosed(1006)) from self._over

    def discard(self) -> int:
        """Forget the messages that came and that nobody took; return how many there were."""
        count = 0
        while True:
            try:
                self._arrived.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                return count
            count += 1

    def abandon(self) -> None:
        """Let whoever holds the block know that nobody needs the connection any more: it is only to be closed."""
        self.abandoned = True
        self.ended.set()

    async def keep(self) -> None:
        """Read, and answer pings, until cancelled or until the connection is over."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._answer_pings)
            async with self._put:
                try:
                    while True:
                        await hand_over(self._put, await self._socket.receive())
                except SocketClosed as closed:
                    self._over = closed
                    self.ended.set()
            nursery.cancel_scope.cancel(reason="the connection is over")

    def _answer_wanted(self) -> None:
        self._pinged.set()

    async def _answer_pings(self) -> None:
        while True:
            await self._pinged.wait()
            self._pinged = trio.Event()
            try:
                await self._write(self._socket.flush)
            except ProviderError as error:  # whoever reads sees the end, too
                _log.debug("no answer to a ping: %s", error)
                return

    async def _write(self, write: Callable[[], Awaitable[None]]) -> None:
        """Write when it is this task's turn; each frame of a call's audio comes by here, so nothing waits without need."""
        await trio.lowlevel.checkpoint_if_cancelled()  # before anything is on its way: the connection stays whole
        with trio.CancelScope(deadline=trio.current_time() + SEND_TIMEOUT_S) as patience:
            try:
                self._sending.acquire_nowait()
            except trio.WouldBlock:
                await self._sending.acquire()
            try:
                await write()
            except SocketClosed as closed:
                raise ConnectionOver(self._who, closed) from closed
            finally:
                self._sending.release()
        if patience.cancelled_caught:
            raise ProviderTimeout(f"{self._who} has not read for {SEND_TIMEOUT_S:g} s")


@asynccontextmanager
async def open_websocket(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    connect_timeout: float = CONNECT_TIMEOUT_S,
    open_stream: OpenStream | None = None,
    why: str = "",
) -> AsyncIterator[WebSocketClient]:
    """Connect, and close the connection when the block is left: with a close frame, where that is still possible.

    Args:
        url: ``ws://`` or ``wss://``.
        headers: in addition to those that every handshake has.
        connect_timeout: seconds until it is open.
        open_stream: opens the stream instead of :func:`open_stream_to`.
        why: the header in which this vendor says why it refuses; it is told in the error.

    Raises:
        AuthenticationError: the handshake was answered with status 401 or 403.
        RateLimitError: with status 429.
        ProviderTimeout: it was not open in time.
        ProviderError: it was refused in another way, or nobody could be reached.
    """
    who = origin_of(url)
    socket = await _connected(url, who, headers or {}, connect_timeout, open_stream or open_stream_to, why=why)
    client = WebSocketClient(socket, who)
    try:
        async with run_beside(client.keep):
            yield client
    finally:
        await socket.aclose(close_timeout=CLOSE_TIMEOUT_S)


async def open_stream_to(url: str) -> trio.abc.Stream:
    """Open the TCP or TLS connection that a URL names.

    Raises:
        OSError: nobody could be reached.
    """
    parts = urlsplit(url)
    host, encrypted = parts.hostname or "", parts.scheme in ("wss", "https")
    port = parts.port or (443 if encrypted else 80)
    if not encrypted:
        return await trio.open_tcp_stream(host, port)
    stream = await trio.open_ssl_over_tcp_stream(host, port, ssl_context=tls_context(), https_compatible=True)
    try:
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


def _told(error: WireError, header: str) -> str:
    """What a refusal says in a header of its own, as the end of a sentence."""
    cause = error.__cause__
    reason = cause.response.headers.get(header, "") if header and isinstance(cause, InvalidStatus) else ""
    return f", {reason[:200]}" if reason else ""


async def _connected(
    url: str, who: str, headers: Mapping[str, str], connect_timeout: float, open_stream: OpenStream, *, why: str
) -> WebSocket:
    stream: trio.abc.Stream | None = None
    try:
        with trio.fail_after(connect_timeout):
            stream = await open_stream(url)
            return await connect(stream, url, headers)
    except BaseException as error:
        if stream is not None:
            await trio.aclose_forcefully(stream)
        if isinstance(error, trio.TooSlowError):
            raise ProviderTimeout(f"{who} could not be reached within {connect_timeout:g} s") from error
        if isinstance(error, (OSError, trio.BrokenResourceError)):
            raise ProviderError(f"{who} could not be reached: {reason_of(error)}") from error
        if isinstance(error, SocketClosed):
            raise ConnectionOver(who, error) from error
        if isinstance(error, WireError):
            refusal = _refusal(who, error)
            raise type(refusal)(f"{refusal}{_told(error, why)}") from error
        raise


def _refusal(who: str, error: WireError) -> ProviderError:
    cause = error.__cause__
    if isinstance(cause, InvalidStatus):
        status = cause.response.status_code
        return status_error(status)(f"{who} refused the connection: status {status}")
    return ProviderError(f"{who}: {error}")
