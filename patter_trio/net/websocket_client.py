"""Client WebSockets to vendors and applications: trio-websocket inside a shell that owns everything around it.

trio-websocket does the handshake, the frames and the answers to pings. The shell adds what a call needs beyond that:

* **A reader that always reads.** The library stops answering pings as soon as one message waits in its queue. A task
  here takes each message out and puts it into our own channel, which holds at most :data:`MAX_WAITING_MESSAGES`; then
  the peer has to wait.
* **One writer.** A send that is cancelled while it waits for the library's lock is lost without a trace, and the
  library writes on behind half a frame. Here a single task calls ``send_message``; senders queue, and a cancelled one
  takes its message back. The answer to a ping waits for at most one message, never for the queue.
* **A cut-off send ends the connection.** When a send is cancelled on its way, or takes longer than
  :data:`SEND_TIMEOUT_S`, the shell closes TCP at once, and nothing more is written, not even by the library: it writes
  through :class:`Wire`.
* **Deadlines**: for opening, for each send, for closing. Failures of the library end the connection, as our own errors
  and without an exception group.
* **Any stream.** ``open_stream`` may return one that a test made.

Faults of trio-websocket 0.12.2 that the shell works around, each with a test: a connection that ends during the
handshake leaves the opening waiting for ever; so does a refusal whose body never comes; a malformed handshake, and a
ping behind our close frame, crash its reader; after a protocol error it sends no close frame and stores all further
input without a bound; a message made of empty fragments is stored without a bound.
"""

import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Final, cast
from urllib.parse import urlsplit

import attrs
import h11
import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, wrap_client_stream
from wsproto.frame_protocol import FrameProtocol
from wsproto.utilities import ProtocolError

from patter_trio.errors import ProviderError, ProviderTimeout, leaves, reported
from patter_trio.net.http import Unreachable, origin_of, reason_of, status_error, tls_context
from patter_trio.net.proxies import environment_proxy, open_tunnel
from patter_trio.net.pulse import Pulse
from patter_trio.net.streams import start_tls
from patter_trio.net.tasks import hand_over, run_beside
from patter_trio.net.websocket import MAX_MESSAGE_BYTES, READ_BYTES, SocketClosed
from patter_trio.net.websocket_wire import SEND_TIMEOUT_S, HandshakeRequest, Wire

# As for HTTP: TCP repeats its first segment after 1 s and again 2 s later (RFC 6298), so two losses are survived. A
# caller should not wait longer than that in silence.
CONNECT_TIMEOUT_S: Final = 5.0
"""Seconds that opening may take, TLS and handshake included."""
# Judged: a round trip within one region. It is spent once per socket, one after another, in the second that a call has
# for its end.
CLOSE_TIMEOUT_S: Final = 0.05
"""Seconds that a close waits for the peer's answer. A call must have ended completely within a second."""
# Judged: a burst of results while the consumer is in one turn of the event loop. When it is full, ``_read`` waits,
# TCP's window closes, and the vendor has to wait; nothing is dropped.
MAX_WAITING_MESSAGES: Final = 64
"""Most received messages that wait to be taken."""
ABNORMAL_CLOSURE: Final = 1006
# RFC 6455, section 7.4.1.
MESSAGE_TOO_BIG: Final = 1009

_LIBRARY_ERRORS: Final = (ConnectionClosed, HandshakeError, ProtocolError, h11.ProtocolError, ValueError)
"""Exceptions that the library's reader lets out: its own, those of its dependencies, and those of decoding a header."""
_log = logging.getLogger("patter_trio.net")

OpenStream = Callable[[str], Awaitable[trio.abc.Stream]]
"""Function that opens the connection to a URL."""


class ConnectionOver(ProviderError):
    """The end of a connection: ``code`` as in RFC 6455 section 7.4; 1006 without a close frame."""

    def __init__(self, who: str, closed: SocketClosed) -> None:
        super().__init__(f"the connection to {who} ended: {closed}")
        self.code: int = closed.code


@attrs.define(eq=False)
class _Outgoing:
    """A message on its way to the writer."""

    message: str | bytes = attrs.field(repr=False)
    scope: trio.CancelScope = attrs.field(
        factory=lambda: trio.CancelScope(deadline=trio.current_time() + SEND_TIMEOUT_S)
    )
    begun: bool = False
    done: trio.Event = attrs.field(factory=trio.Event)
    failure: Exception | None = None

    def finish(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.done.set()


class WebSocketClient:
    """An open connection; made by :func:`open_websocket`."""

    def __init__(self, wire: Wire, who: str) -> None:
        self._wire = wire
        self._who = who
        self._connection: WebSocketConnection | None = None
        self._outbox: deque[_Outgoing] = deque()
        self._queued = Pulse()
        self._put, self._arrived = trio.open_memory_channel[str | bytes](MAX_WAITING_MESSAGES)
        self._over: SocketClosed | None = None
        self._lingers = False
        self._crash: BaseException | None = None
        self._opened = trio.Event()
        # The library's reader has to outlive a cancelled call by the closing handshake, so outer cancellation does not
        # reach it. Leaving the block cancels this scope after at most CLOSE_TIMEOUT_S seconds.
        self._life = trio.CancelScope(shield=True)
        # Two more scopes, because the end has an order: first reader and writer stop, then the library reads the peer's
        # close frame, then all of it is cancelled.
        self._work = trio.CancelScope()
        self._goodbye = trio.CancelScope()
        self.abandoned: bool = False
        """True once this side has no more use for the connection."""
        self.ended: trio.Event = trio.Event()
        """Event set when the peer has ended the connection, or it broke, or it was abandoned."""

    def __repr__(self) -> str:
        return f"<WebSocketClient {self._who}{'' if self.usable else ' over'}>"

    @property
    def usable(self) -> bool:
        """True if a message can be sent, as far as is known."""
        return self._is_open and not self.abandoned

    @property
    def _is_open(self) -> bool:
        return self._over is None and not self._wire.broken

    async def send(self, message: str | bytes) -> None:
        """Send a message. Cancelling a message on its way breaks the connection.

        Raises:
            ProviderTimeout: the peer does not read.
            ConnectionOver: nothing can be sent any more.
        """
        await trio.lowlevel.checkpoint_if_cancelled()  # before the message is queued: the connection stays intact
        if not self._is_open:
            raise self._end_error()
        # No await from here to the wait: the message is either queued for the writer or was never there.
        outgoing = _Outgoing(message)
        self._outbox.append(outgoing)
        self._queued.fire()
        try:
            await outgoing.done.wait()
        # Only ``Cancelled``: whatever else wakes the sender has set ``done``.
        except trio.Cancelled:
            self._take_back(outgoing)
            raise
        if outgoing.failure is not None:
            raise outgoing.failure

    def _take_back(self, outgoing: _Outgoing) -> None:
        """Withdraw a message. One that waits was never sent; one that is on its way breaks the connection."""
        # Cancelled at the same moment as it was finished: the message is sent, and the connection intact.
        if outgoing.done.is_set():
            return
        if outgoing.begun:
            self._wire.refuse_writes()  # from now on; the writer runs next and closes TCP
            outgoing.scope.cancel(reason="the send was cancelled")
        else:
            # The writer has not begun it, so the connection stays usable.
            self._outbox.remove(outgoing)

    async def receive(self) -> str | bytes:
        """Return the next message; the caller has to limit the wait.

        Raises:
            ConnectionOver: the connection has ended, and all messages were taken.
        """
        try:
            return await self._arrived.receive()
        # The channel is closed only by ``_settle``, after the reason has been set.
        except trio.EndOfChannel:
            raise self._end_error() from self._over

    def discard(self) -> int:
        """Drop the received messages that nobody took; return their number."""
        count = 0
        while True:
            try:
                self._arrived.receive_nowait()
            # Nothing is left to drop, for the moment or for good.
            except (trio.WouldBlock, trio.EndOfChannel):
                return count
            count += 1

    def abandon(self) -> None:
        """Tell the owner of the block that the connection is no longer needed, and only has to be closed."""
        self.abandoned = True
        self.ended.set()

    def _end_error(self) -> ConnectionOver:
        return ConnectionOver(self._who, self._over or SocketClosed(ABNORMAL_CLOSURE, "a send was cut off"))

    # The connection's tasks -------------------------------------------------------------------------------------------
    async def hold(self, request: HandshakeRequest) -> None:
        """Run the library, the reader and the writer, until the connection is over or :meth:`close` is called."""
        with self._life:
            try:
                async with trio.open_nursery() as library:
                    await self._run(library, request)
            # ``except*``: the library raises in its own task, and several of its tasks may fail at once. Errors of ours
            # pass.
            except* _LIBRARY_ERRORS as failures:
                self._crash = next(leaves(failures))
                # At the level of debug, and only the type: the vendor's behaviour is reported by ``opened`` or by the
                # next send, and the text may quote a header with a key.
                _log.debug("%s: the WebSocket library failed: %s", self._who, type(self._crash).__name__)
        # After the library's nursery, so that nothing of it can change the state that is announced here.
        self._settle()

    async def _run(self, library: trio.Nursery, request: HandshakeRequest) -> None:
        self._connection = await self._shake_hands(library, request)
        if self._connection is not None:
            self._opened.set()
            # A scope of its own: close() stops the reader and the writer, but not the library, which it still needs.
            with self._work:
                async with trio.open_nursery() as tasks:
                    # The writer runs beside the reader, which decides: the socket is over when there is nothing more to
                    # read.
                    tasks.start_soon(self._write, self._connection)
                    await self._read(self._connection)
                    tasks.cancel_scope.cancel(reason="the connection is over")
            if self._work.cancel_called:
                return  # keep the library's reader for the closing handshake
            await self._answer_violation()
        library.cancel_scope.cancel(reason="the connection is over")

    async def _shake_hands(self, library: trio.Nursery, request: HandshakeRequest) -> WebSocketConnection | None:
        """Return the connection; None if the stream ended first, after which the library would wait for ever."""
        with self._wire.handshake:
            return await wrap_client_stream(
                library,
                cast("trio.SocketStream", self._wire),  # any stream works
                request.host,
                request.target,
                extra_headers=request.headers,
                max_message_size=MAX_MESSAGE_BYTES,
                receive_buffer_size=READ_BYTES,
            )
        return None

    async def _read(self, connection: WebSocketConnection) -> None:
        try:
            while True:
                message = await connection.get_message()
                # Here, where the message leaves the library: the count of bytes is for one message.
                self._wire.message_came()
                # A full channel blocks here: TCP's flow control then makes the peer wait, and memory stays bounded.
                await hand_over(self._put, message)
        # The library's only way to say that the connection has ended.
        except ConnectionClosed as closed:
            self._over = self._end_of(closed)

    def _end_of(self, closed: ConnectionClosed) -> SocketClosed:
        reason = closed.reason
        if self._wire.fault is not None:
            return SocketClosed(MESSAGE_TOO_BIG, str(self._wire.fault))
        if reason is None or reason.code == ABNORMAL_CLOSURE:
            return SocketClosed(ABNORMAL_CLOSURE, "connection lost")
        return SocketClosed(int(reason.code), reason.reason or "")

    async def _write(self, connection: WebSocketConnection) -> None:
        while True:
            while self._outbox:
                outgoing = self._outbox[0]  # it stays queued until it is finished, so that none is forgotten
                outgoing.begun = True
                failure: ValueError | None = None
                try:
                    with outgoing.scope:  # its deadline counts from when it was queued
                        await connection.send_message(outgoing.message)
                except ConnectionClosed as closed:
                    # The first reason wins: the reader may have seen the peer's close frame before this write failed.
                    self._over = self._over or self._end_of(closed)
                except ValueError as error:  # not a valid message: nothing was written
                    failure = error
                # Half a frame may be on the wire: close TCP, before the next message could follow it.
                if outgoing.scope.cancelled_caught or self._wire.broken:
                    await self._wire.break_off()
                if self._wire.broken or self._over is not None:
                    self._fail_outbox()
                    # No more messages can be sent, but the reader goes on: it may still find the close frame with the
                    # reason.
                    return
                self._outbox.popleft().finish(failure)
            await self._queued.wait()

    def _fail_outbox(self) -> None:
        """Raise in all waiting senders.

        Whatever closes the connection may run first, so the clock tells whether the peer was late.
        """
        late = self._wire.late or (self._outbox and trio.current_time() >= self._outbox[0].scope.deadline)
        while self._outbox:
            failure = (
                ProviderTimeout(f"{self._who} did not read for {SEND_TIMEOUT_S:g} s") if late else self._end_error()
            )
            self._outbox.popleft().finish(failure)

    async def _answer_violation(self) -> None:
        """Send the close frame that the library omits when the peer broke the protocol (RFC 6455, section 7.1.7)."""
        over = self._over
        if over is None or self._wire.ended:
            return
        if self._wire.close_sent:
            # The library sent the frame itself. The rest of a message that is too big may still be on its way.
            self._lingers = over.code == MESSAGE_TOO_BIG
            return
        self._lingers = True
        # Bounded like any close: a peer that broke the protocol may not read, either.
        with trio.move_on_after(CLOSE_TIMEOUT_S):
            try:
                await self._wire.send_all(FrameProtocol(client=True, extensions=[]).close(over.code, over.reason))
            # The peer closed first: no frame is needed any more.
            except trio.BrokenResourceError:
                return

    def _settle(self) -> None:
        """Notify all tasks that wait for the connection of its end."""
        # The reason comes first: the tasks that wake below report it.
        self._over = self._over or SocketClosed(ABNORMAL_CLOSURE, "connection lost")
        self._fail_outbox()
        self._put.close()
        self.ended.set()
        self._opened.set()
        self._goodbye.cancel(reason="the library has ended and cannot see the peer's answer")

    # Its beginning and its end ----------------------------------------------------------------------------------------
    async def opened(self, *, reason_header: str) -> None:
        """Wait for the end of the handshake.

        Raises:
            ProviderError: the connection was refused, or lost.
        """
        # No deadline here: ``open_websocket`` has one for connecting and shaking hands together.
        await self._opened.wait()
        # From the most precise reason to the least: a refusal also ends the stream, and breaks the library.
        wire = self._wire
        if wire.refusal is not None:
            status = wire.refusal.status
            reason = wire.refusal.headers.get(reason_header, "") if reason_header else ""
            # The header is the vendor's, and has no limit of its own.
            detail = f", {reported(reason)}" if reason else ""
            raise status_error(status)(f"{self._who} refused the connection: status {status}{detail}")
        if self._connection is not None:
            return
        if wire.fault is not None:
            raise ProviderError(f"{self._who}: {wire.fault}") from wire.fault
        if self._crash is not None and not wire.written:  # not quoted: h11's text has the header, which may be a key
            raise ProviderError(f"{self._who}: the URL and the headers must have only characters that HTTP allows")
        if not wire.ended:
            raise ProviderError(f"{self._who} must answer the WebSocket handshake as RFC 6455 requires")
        raise self._end_error() from self._over

    async def close(self) -> None:
        """Close, with a close frame if possible, within :data:`CLOSE_TIMEOUT_S` seconds, even if cancelled."""
        # WARNING: the order matters. The reader and the writer stop first: a write of theirs behind the close frame
        # would break the protocol.
        self._work.cancel(reason="the connection is closed")
        with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):  # a cancelled call still sends its close frame
            if self._connection is not None and self._is_open:
                with self._goodbye:
                    await self._connection.aclose()
            # A reset would overtake our close frame. The library reads no more, so read the peer's end here, within the
            # same 50 ms.
            if self._lingers or (self._connection is not None and self._crash is not None):
                await self._wire.linger()
        # After the goodbye: this also cancels the library's reader, which took part in it.
        self._life.cancel(reason="the connection is closed")
        with trio.CancelScope(shield=True):  # closing by force never waits
            await self._wire.break_off()


@asynccontextmanager
async def open_websocket(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    connect_timeout: float = CONNECT_TIMEOUT_S,
    open_stream: OpenStream | None = None,
    why: str = "",
) -> AsyncIterator[WebSocketClient]:
    """Connect, and close the connection when the block is left: with a close frame if possible.

    Args:
        url: ``ws://`` or ``wss://``.
        headers: in addition to the headers of every handshake.
        connect_timeout: seconds until the connection must be open.
        open_stream: opens the stream instead of :func:`open_stream_to`.
        why: the header in which this vendor gives the reason of a refusal; the error quotes it.

    Raises:
        AuthenticationError: the handshake was answered with status 401 or 403.
        RateLimitError: the handshake was answered with status 429.
        ProviderTimeout: the connection was not open in time.
        Unreachable: no connection could be made.
        ProviderError: the server refused in another way.
    """
    # One deadline from here on: what TCP and TLS leave is for the handshake.
    who, deadline = origin_of(url), trio.current_time() + connect_timeout
    request = HandshakeRequest.of(url, headers or {})
    # Before the nursery: a failure to connect arrives bare, without an exception group around it.
    with _opening(who, connect_timeout), trio.fail_at(deadline):
        stream = await (open_stream or open_stream_to)(url)
    # No await until the block below: the stream always has an owner that closes it.
    client = WebSocketClient(Wire(stream), who)
    async with run_beside(partial(client.hold, request)):
        try:
            with _opening(who, connect_timeout), trio.fail_at(deadline):
                await client.opened(reason_header=why)
            yield client
        # Before the nursery cancels the library: its reader is needed for the closing handshake.
        finally:
            await client.close()


@contextmanager
def _opening(who: str, connect_timeout: float) -> Iterator[None]:
    try:
        yield
    # The deadline's owner is this module, so the error says the whole time that was allowed, not what was left of it.
    except trio.TooSlowError as error:
        raise ProviderTimeout(f"{who} could not be reached within {connect_timeout:g} s") from error
    # ``OSError``: names, routes, refused connections. ``BrokenResourceError``: TLS that failed.
    except (OSError, trio.BrokenResourceError) as error:
        raise Unreachable(f"{who} could not be reached: {reason_of(error)}") from error


async def open_stream_to(url: str) -> trio.abc.Stream:
    """Open the TCP or TLS connection to a URL, through the environment's proxy for it, if any.

    Raises:
        OSError: the server could not be reached.
        ProviderError: the proxy cannot be used.
    """
    return await _open_stream(url, environment_proxy(url))


async def open_direct_stream_to(url: str) -> trio.abc.Stream:
    """Open the TCP or TLS connection to a URL without a proxy.

    Raises:
        OSError: the server could not be reached.
    """
    return await _open_stream(url, None)


async def _open_stream(url: str, proxy: str | None) -> trio.abc.Stream:
    parts = urlsplit(url)
    host, encrypted = parts.hostname or "", parts.scheme in ("wss", "https")
    port = parts.port or (443 if encrypted else 80)
    stream: trio.abc.Stream
    if proxy is None:
        stream = await trio.open_tcp_stream(host, port)
    else:
        stream = await open_tunnel(proxy, host, port, tls_context())
    return await start_tls(stream, tls_context(), host) if encrypted else stream
