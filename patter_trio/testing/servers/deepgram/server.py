"""The fake Deepgram server itself; a part of :mod:`.deepgram`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import parse_qs, urlsplit

import trio

from patter_trio.errors import WireError
from patter_trio.net.websocket import SocketClosed, Upgrade, WebSocket, receive_upgrade
from patter_trio.testing.servers.deepgram.listeners import FluxListener, NovaListener
from patter_trio.testing.servers.deepgram.script import DeepgramServerConnection, FakeDeepgram
from patter_trio.testing.servers.loopback import on_loopback, read_head

# Theory of operation. A connection has two tasks. The listener reads the socket and nothing else: results depend on the
# position in the audio, so a read that waited for a send would move their instants. Whatever is to be sent goes through
# one channel, with the instant at which it is due, and the writer sends it in that order. So results are exact on a
# mock clock, and none overtakes an earlier one.

# By hand, because ``Upgrade.refuse`` cannot add a header, and the vendor gives the reason of a refusal in ``dg-error``.
_REFUSAL: Final = b"HTTP/1.1 %d Refused\r\ndg-error: %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class DeepgramServer:
    """The server; ``script`` may be replaced at any time and applies to later connections."""

    def __init__(self, script: FakeDeepgram, url: str = "ws://deepgram.test") -> None:
        self.script = script
        self.url = url
        self.connections: list[DeepgramServerConnection] = []
        self.refused: int = 0

    def __repr__(self) -> str:
        return f"<DeepgramServer {self.url}, {len(self.connections)} connections>"

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection, over any stream, until its end."""
        try:
            if head := await read_head(stream):
                await self._converse(await receive_upgrade(stream, head), stream)
        except (SocketClosed, WireError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client left, or does not speak the protocol
        finally:
            await trio.aclose_forcefully(stream)

    async def _converse(self, upgrade: Upgrade, stream: trio.abc.Stream) -> None:
        script = self.script
        # Before a refusal, too: a slow vendor is slow to refuse.
        await trio.sleep(script.accepting)
        parts = urlsplit(upgrade.path)
        query = parse_qs(parts.query)
        status = script.status or self._refusal(upgrade, parts.path, query)
        if status:
            self.refused += 1
            await stream.send_all(_REFUSAL % (status, script.reason.encode()))
            return
        socket = await upgrade.accept()
        # Only after the handshake's await, and appended before the next one: two clients never get the same number.
        number = len(self.connections)
        connection = DeepgramServerConnection(
            number, parts.path, query, dict(upgrade.headers.items()), trio.current_time()
        )
        waiting = connection.open(stream)
        self.connections.append(connection)
        listener = NovaListener(connection, script) if parts.path == "/v1/listen" else FluxListener(connection, script)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_write, socket, waiting)
                # In the nursery's own task: its end is the connection's, and takes along a
                # writer that waits for a later instant.
                await listener.listen(socket)
                nursery.cancel_scope.cancel(reason="the client has left")
        # Either task, or both at once, may find the connection broken. Any other error is
        # a bug of the fake: the test fails.
        except* (SocketClosed, trio.ClosedResourceError, trio.BrokenResourceError):
            pass
        finally:
            # Also when the server is cancelled: a test that waits for ``ended`` must not wait for ever.
            connection.end()

    def _refusal(self, upgrade: Upgrade, path: str, query: dict[str, list[str]]) -> int:
        if upgrade.headers.get("Authorization") not in (f"Token {self.script.key}", f"Bearer {self.script.key}"):
            return 401
        if path not in ("/v1/listen", "/v2/listen"):
            return 404
        # The vendor takes other encodings, too. The simulated voice would be silence in
        # them, so the fake says no at once.
        audio = (query.get("encoding"), query.get("sample_rate"))
        flux = query.get("model", [""])[0].startswith("flux")
        return 0 if audio == (["mulaw"], ["8000"]) and flux == (path == "/v2/listen") else 400


@asynccontextmanager
async def serve_deepgram(script: FakeDeepgram | None = None) -> AsyncIterator[DeepgramServer]:
    """Serve on loopback while the block runs; its end breaks all open connections."""
    server = DeepgramServer(script or FakeDeepgram())
    async with on_loopback(server.serve) as port:
        server.url = f"ws://127.0.0.1:{port}"
        yield server


async def _write(socket: WebSocket, waiting: trio.MemoryReceiveChannel[tuple[float, str | bytes]]) -> None:
    async for due, message in waiting:
        await trio.sleep_until(due)
        if isinstance(message, bytes) and message.startswith(b"close "):
            await socket.aclose(int(message[6:]))
            return
        await socket.send(message)
