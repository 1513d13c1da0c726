"""A web server of the test's own, on loopback, that records its requests and when its clients left."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import attrs
import h11
import trio

from patter_trio.net.http import Client
from patter_trio.net.websocket import SocketClosed, Upgrade, WebSocket, receive_upgrade


@attrs.define
class Request:
    """One request, with the methods that answer it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int
    stream: trio.abc.Stream = attrs.field(repr=False)

    async def answer(
        self, body: bytes = b"", status: int = 200, content_type: str = "text/plain", **headers: str
    ) -> None:
        """Send a whole answer."""
        fields = {"Content-Type": content_type, "Content-Length": str(len(body)), **headers}
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items() if value]
        head = f"HTTP/1.1 {status} Reason\r\n" + "\r\n".join(lines) + "\r\n\r\n"
        await self.stream.send_all(head.encode() + body)

    async def head(self, content_type: str = "text/plain") -> None:
        """Begin an answer whose body comes in chunks."""
        await self.stream.send_all(
            f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )

    async def chunk(self, data: bytes) -> None:
        """Send a piece of the body; an empty one ends it."""
        await self.stream.send_all(b"%x\r\n%b\r\n" % (len(data), data))


async def fetch(
    client: Client, method: str, url: str, *, content: bytes = b"", head_timeout: float, max_bytes: int
) -> bytes:
    """Return the whole body of an answer; ``head_timeout`` also limits the wait for each piece of it."""
    async with client.stream(
        method,
        url,
        content=content,
        head_timeout=head_timeout,
        piece_timeout=head_timeout,
        max_bytes=max_bytes,
    ) as answer:
        return await answer.read()


Answer = Callable[[Request], Awaitable[None]]
Converse = Callable[[WebSocket, Upgrade], Awaitable[None]]


@attrs.define
class Web:
    """The record of the server."""

    url: str
    requests: list[Request] = attrs.field(factory=list)
    connections: int = 0
    left: list[float] = attrs.field(factory=list)
    """When each client ended its connection."""
    interrupted: list[str] = attrs.field(factory=list)
    """The targets of requests whose client left before they were answered."""


@asynccontextmanager
async def serving(answer: Answer | None = None, converse: Converse | None = None) -> AsyncIterator[Web]:
    """Serve HTTP by ``answer``, or WebSockets by ``converse``."""
    # By address: a name would be looked up in a thread, which would hold a mock clock.
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    web = Web(f"{'ws' if converse else 'http'}://127.0.0.1:{port}")
    handler = partial(_http, web, answer) if answer is not None else partial(_websocket, web, converse)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, handler, [listener]))
        try:
            yield web
        # Also when the test fails: its error must not wait for clients that stay.
        finally:
            nursery.cancel_scope.cancel()


@attrs.define
class Proxy:
    """The record of the proxy."""

    port: int
    heads: list[bytes] = attrs.field(factory=list)
    tunnelled: bytearray = attrs.field(factory=bytearray)
    """What the client sent through the tunnel."""


@asynccontextmanager
async def proxying(answer: bytes = b"HTTP/1.1 200 Connected\r\n\r\n", to: int = 0) -> AsyncIterator[Proxy]:
    """Answer each ``CONNECT`` with these bytes, and then connect it to a port of this machine, or to nothing at 0."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy = Proxy(listener.socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, partial(_proxy, proxy, answer, to), [listener]))
        try:
            yield proxy
        finally:
            nursery.cancel_scope.cancel()


async def _proxy(proxy: Proxy, answer: bytes, to: int, stream: trio.SocketStream) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        head += await stream.receive_some(65536)
    proxy.heads.append(head)
    await stream.send_all(answer)
    if to:
        await tunnel(stream, await trio.open_tcp_stream("127.0.0.1", to), proxy.tunnelled)
    else:
        # A proxy that accepted and then passes nothing on: the client's deadline has to end it.
        await trio.sleep_forever()


async def tunnel(client: trio.SocketStream, server: trio.SocketStream, sent: bytearray) -> None:
    """Pass on the data of either side until one side ends; ``sent`` collects the client's data."""

    async def copy(source: trio.SocketStream, target: trio.SocketStream, seen: bytearray) -> None:
        try:
            async for data in source:
                seen += data
                await target.send_all(data)
        # Either side may reset the connection; for the other, that is its end.
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        nursery.cancel_scope.cancel()

    async with client, server, trio.open_nursery() as nursery:
        nursery.start_soon(copy, client, server, sent)
        nursery.start_soon(copy, server, client, bytearray())


async def _http(web: Web, answer: Answer, stream: trio.SocketStream) -> None:
    web.connections += 1
    number, http = web.connections, h11.Connection(h11.SERVER)
    try:
        while True:
            request = await _request(http, stream, number)
            if request is None:
                # Between two requests: the client has closed a connection that it had kept open.
                web.left.append(trio.current_time())
                return
            web.requests.append(request)
            async with trio.open_nursery() as nursery:
                # Beside the answer, which may take for ever: the instant at which a
                # client leaves is what tests compare.
                nursery.start_soon(_watch, web, stream, request, nursery.cancel_scope)
                await answer(request)
                # Answered: the watch must not take the first byte of the next request.
                nursery.cancel_scope.cancel()
            # Anew for each request: the answers are written by hand, so h11 would never learn that its cycle is over.
            http = h11.Connection(h11.SERVER)
    except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
        web.left.append(trio.current_time())


async def _watch(web: Web, stream: trio.SocketStream, request: Request, scope: trio.CancelScope) -> None:
    try:
        # A client of the package never sends a request before it has read the answer to the last one.
        if await stream.receive_some(1):
            raise AssertionError("a second request before the first was answered")
    except trio.ClosedResourceError:  # by the answer itself
        return
    except trio.BrokenResourceError:
        pass
    web.interrupted.append(request.target)
    scope.cancel()


async def _request(http: h11.Connection, stream: trio.SocketStream, number: int) -> Request | None:
    head: h11.Request | None = None
    body = b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            data = await stream.receive_some(65536)
            # Between two requests, an end is no error. Within one, h11 raises.
            if not data and head is None:
                return None
            http.receive_data(bytes(data))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            headers = {name.decode(): value.decode() for name, value in head.headers}
            return Request(head.method.decode(), head.target.decode(), headers, body, number, stream)
        else:
            return None


async def _websocket(web: Web, converse: Converse, stream: trio.SocketStream) -> None:
    web.connections += 1
    head = b""
    while b"\r\n\r\n" not in head:
        head += await stream.receive_some(65536)
    upgrade = await receive_upgrade(stream, head)
    try:
        await converse(await upgrade.accept(), upgrade)
    except (SocketClosed, trio.BrokenResourceError):
        web.left.append(trio.current_time())
    finally:
        # Whatever the conversation did: a test that hangs in it must not leave the socket open.
        await trio.aclose_forcefully(stream)
