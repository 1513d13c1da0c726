"""A scripted server of OpenAI's Realtime protocol (GA) that hears a simulated caller and answers.

::

    async with serve_openai_realtime(FakeRealtime(replies=[RealtimeReply(text="Good morning.")])) as vendor:
        url = openai_realtime.socket_url(vendor.url, "gpt-realtime-2.1")

It listens on loopback, which works on an autojump clock as well; :meth:`RealtimeServer.serve` works over any stream.
The caller's words come with the audio, and so do those of its answers (see
:mod:`patter_trio.testing.scripted_providers.audible_text`). It keeps to the vendor's rules: it sends the first event,
generates audio faster than real time and one response at a time, transcribes independently of responses, refuses to
truncate audio that it has not sent, rejects the names of the beta, and accepts no other key than its own.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final
from urllib.parse import parse_qs, urlsplit

import trio

from patter_trio.errors import WireError
from patter_trio.net.websocket import SocketClosed, Upgrade, WebSocket, receive_upgrade
from patter_trio.testing.servers.loopback import READ_BYTES, on_loopback, read_head
from patter_trio.testing.servers.openai_realtime.script import Asked, FakeRealtime, RealtimeServerConnection
from patter_trio.testing.servers.openai_realtime.session import RealtimeServerSession

# Far more than the events of one call: a full channel means a writer that hangs, and the test shall fail at once.
MAX_WAITING_MESSAGES: Final = 4096
"""Maximum number of messages that wait to be sent; one more raises ``trio.WouldBlock`` in the test."""


class RealtimeServer:
    """The server; ``connections`` holds the accepted connections, ``refused`` counts the others."""

    def __init__(self, script: FakeRealtime, url: str = "ws://openai.test/v1") -> None:
        self.script: FakeRealtime = script
        self.url: str = url
        """The URL that a client gets instead of the vendor's address."""
        self.connections: list[RealtimeServerConnection] = []
        self.refused: int = 0
        self.asked: list[Asked] = []
        """The requests behind all responses, on all connections."""

    def __repr__(self) -> str:
        return f"<RealtimeServer {self.url}, {len(self.connections)} connections>"

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection, over any stream, until its end."""
        try:
            head = await read_head(stream)
            # Read on, so that the client's sends succeed: only the missing answer tells it that something is wrong.
            while self.script.half_open and head:
                head = bytes(await stream.receive_some(READ_BYTES))
            if head:
                await self._converse(await receive_upgrade(stream, head), stream)
        except (SocketClosed, WireError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client left, or does not speak the protocol
        finally:
            await trio.aclose_forcefully(stream)

    async def _converse(self, upgrade: Upgrade, stream: trio.abc.Stream) -> None:
        # Before a refusal, too: a slow vendor is slow to refuse.
        await trio.sleep(self.script.accepting)
        parts = urlsplit(upgrade.path)
        query = parse_qs(parts.query)
        if status := self.script.status or self._refusal(upgrade, parts.path, query):
            self.refused += 1
            await upgrade.refuse(status, "refused")
            return
        socket = await upgrade.accept()
        say, waiting = trio.open_memory_channel[str | bytes | int | None](MAX_WAITING_MESSAGES)
        connection = RealtimeServerConnection(
            # Only after the handshake's await, and appended before the next one: two clients never get the same number.
            len(self.connections),
            parts.path,
            query,
            dict(upgrade.headers.items()),
            trio.current_time(),
            say,
            stream,
            frozen=self.script.mute,  # a mute vendor does not even report the session
        )
        self.connections.append(connection)
        socket.share_sending(partial(say.send_nowait, None))  # only the writer task writes to the socket
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_write, socket, waiting)
                # In the nursery's own task: its end is the connection's, and takes along responses and transcripts.
                await RealtimeServerSession(connection, self.script, self.asked, nursery).run(socket)
                nursery.cancel_scope.cancel(reason="the client has left")
        # The listener's and the writer's, if both found out; either has the code with which the client closed.
        except* SocketClosed as group:
            connection.closed_by_client(next((e.code for e in group.exceptions if isinstance(e, SocketClosed)), 1006))
        # From the stream or the channel, past the socket that would have translated them:
        # the connection is over as well.
        except* (trio.ClosedResourceError, trio.BrokenResourceError):
            pass
        finally:
            connection.end()

    def _refusal(self, upgrade: Upgrade, path: str, query: dict[str, list[str]]) -> int:
        if upgrade.headers.get("Authorization") != f"Bearer {self.script.key}":
            return 401
        if not path.endswith("/realtime"):
            return 404
        # The beta is gone: a client that still asks for it is refused, as is one that names no model.
        return 400 if "OpenAI-Beta" in upgrade.headers or not query.get("model") else 0


@asynccontextmanager
async def serve_openai_realtime(script: FakeRealtime | None = None) -> AsyncIterator[RealtimeServer]:
    """Serve on loopback while the block runs; its end breaks all open connections."""
    server = RealtimeServer(script or FakeRealtime())
    async with on_loopback(server.serve) as port:
        server.url = f"ws://127.0.0.1:{port}/v1"
        yield server


async def _write(socket: WebSocket, waiting: trio.MemoryReceiveChannel[str | bytes | int | None]) -> None:
    async for message in waiting:
        if isinstance(message, int):
            # Only the frame: the listener reads on until the client has answered, and so gets the code.
            await socket.say_close(message)
            return
        if message is None:
            await socket.flush()
        else:
            await socket.send(message)
