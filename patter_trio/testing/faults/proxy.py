"""A proxy on loopback that turns any working server into a fake vendor that misbehaves.

The proxy knows just enough of HTTP to answer with a status and to separate the head of an answer from the rest::

    vendor = partial(disturbed, serve_my_fake, lambda fake: fake.url, unknown=text_frame('{"type": "news"}'))
    await check_stt(make, vendor=vendor)
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, TypeVar
from urllib.parse import urlsplit

import attrs
import trio

from patter_trio.testing.servers.fake_vendor import CLIENT_LEFT_ENTRY, Misbehaviour

# The proxy works on bytes, with any protocol: it forwards the beginning of a connection up to the end of
# the answer's head, so that handshakes succeed, and misbehaves from there on. What needs the protocol,
# such as an unknown message, is passed in.

READ_BYTES: Final = 65536
SLOW_DELAY_S: Final = 0.2
"""Seconds by which a slow vendor delays each piece."""
_STATUS: Final = {
    Misbehaviour.UNAUTHORIZED: "401 Unauthorized",
    Misbehaviour.RATE_LIMITED: "429 Too Many Requests",
    Misbehaviour.UNAVAILABLE: "503 Service Unavailable",
}
# Each begins an answer; they differ in what comes then.
_CUTTING_KINDS: Final = (Misbehaviour.STALLED, Misbehaviour.CLOSED, Misbehaviour.GARBAGE)

F = TypeVar("F")


def text_frame(text: str) -> bytes:
    """Return the WebSocket frame in which a server sends a short text (RFC 6455 section 5.2).

    Raises:
        ValueError: the text is longer than 125 bytes.
    """
    data = text.encode()
    if len(data) > 125:  # noqa: PLR2004 (the limit of the RFC)
        raise ValueError(f"the text of a short frame must be at most 125 bytes, got {len(data)}")
    return bytes([0x81, len(data)]) + data


@attrs.define
class FaultProxy:
    """A running proxy; see :class:`~patter_trio.testing.servers.fake_vendor.FakeVendor`."""

    address: str
    seen: list[object]
    """The bytes that clients sent, and :data:`~patter_trio.testing.servers.fake_vendor.CLIENT_LEFT_ENTRY` for each
    client that left.
    """
    _upstream: tuple[str, int]
    _unknown: bytes
    _kind: str = ""

    def misbehave(self, kind: str) -> None:
        """Misbehave in this way from now on; an empty ``kind`` restores normal behaviour.

        Raises:
            ValueError: the kind is unknown, or ``disturbed`` was given no unknown message.
        """
        # An empty message would make the check pass without having tested anything.
        if kind == Misbehaviour.UNKNOWN and not self._unknown:
            raise ValueError("disturbed() needs unknown=, the bytes of an undocumented message, for this misbehaviour")
        self._kind = Misbehaviour(kind) if kind else ""

    async def _serve(self, client: trio.SocketStream) -> None:
        try:
            async with client:
                await self._answer(client)
        # The client left in the middle, or the server is gone. Both directions may find out at once; hence ``except*``.
        except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass
        finally:
            # Whatever happened: to a check, this entry shows that the vendor was informed.
            self.seen.append(CLIENT_LEFT_ENTRY)

    async def _answer(self, client: trio.SocketStream) -> None:
        head = b""
        # A half-open vendor takes everything and answers nothing, until the client leaves.
        while b"\r\n\r\n" not in head or self._kind == Misbehaviour.HALF_OPEN:
            data = await client.receive_some(READ_BYTES)
            if not data:
                return
            head += data
        self.seen.append(head)
        if self._kind in _STATUS:
            status = _STATUS[Misbehaviour(self._kind)]
            await client.send_all(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await client.receive_some(
                READ_BYTES
            )  # closing while the request's body is unread would send a reset, which can overtake the answer
            return
        # Only now: a connection that is refused or half-open never reaches the server.
        async with await trio.open_tcp_stream(*self._upstream) as server, trio.open_nursery() as nursery:
            await server.send_all(head)
            # Both directions at once: either side may speak at any time on a WebSocket.
            nursery.start_soon(self._back, server, client, nursery.cancel_scope)
            while data := await client.receive_some(READ_BYTES):
                self.seen.append(data)
                await server.send_all(data)
            nursery.cancel_scope.cancel(reason="the client has left")

    async def _back(self, server: trio.SocketStream, client: trio.SocketStream, scope: trio.CancelScope) -> None:
        """Forward the server's answer, altered by the current misbehaviour."""
        head = b""
        # The head of the answer passes unharmed, so that the fault strikes the answer and not the handshake.
        while b"\r\n\r\n" not in head:
            data = await server.receive_some(READ_BYTES)
            if not data:
                break
            head += data
        end = head.find(b"\r\n\r\n") + 4
        await client.send_all(head[:end])
        # What came with the head is already part of the answer.
        data = head[end:] or await server.receive_some(READ_BYTES)
        while data:
            # Asked for each piece: a test may change the behaviour while an answer is under way.
            if self._kind == Misbehaviour.SLOW:
                await trio.sleep(SLOW_DELAY_S)
            if self._kind == Misbehaviour.UNKNOWN:
                await client.send_all(self._unknown)
            if self._kind in _CUTTING_KINDS:
                await client.send_all(data[: len(data) // 2])  # half, because an answer may come in one piece
                break
            await client.send_all(data)
            data = await server.receive_some(READ_BYTES)
        if self._kind == Misbehaviour.GARBAGE:
            # Neither UTF-8, nor JSON, nor a WebSocket frame.
            await client.send_all(b"\xff}{" * 30)
        if self._kind == Misbehaviour.STALLED:
            # Until the client leaves: the other direction then cancels this task.
            await trio.sleep_forever()
        # A vendor's end is the client's: the connection closes in both directions.
        scope.cancel(reason="the server has left")


@asynccontextmanager
async def disturbed(
    serve: Callable[[], AbstractAsyncContextManager[F]], url: Callable[[F], str], *, unknown: bytes = b""
) -> AsyncIterator[FaultProxy]:
    """Start a server and the proxy in front of it.

    Args:
        serve: starts the server, on loopback, without TLS.
        url: returns the address at which the server listens.
        unknown: bytes of a message that the protocol allows and no documentation mentions; the proxy sends it before
            each piece of an answer.
    """
    async with serve() as server:
        parts = urlsplit(url(server))
        # By address: a name would be looked up in a thread, which would hold a mock clock.
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        address = f"{parts.scheme}://127.0.0.1:{port}{parts.path}"
        proxy = FaultProxy(address, [], (parts.hostname or "", parts.port or 80), unknown)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.serve_listeners, proxy._serve, [listener]))  # noqa: SLF001 (our own)
            try:
                yield proxy
            finally:
                nursery.cancel_scope.cancel(reason="the test is over")
