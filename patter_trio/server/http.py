"""HTTP over a connection whose first bytes were read already, by hypercorn's trio connection handler.

That handler is not a documented interface: hypercorn is pinned exactly, only this file touches it, and a test fails when
its constructor changes. What this file adds:

* **One request per connection.** Proxies that pool connections would otherwise send a media stream's upgrade down a
  connection that a webhook used before, where only HTTP is spoken.
* **HTTP/1.1 only**: a request's wish to change the protocol is dropped, which RFC 9110 section 7.8 permits.
* **Bounds.** hypercorn shields what it sends from cancellation; a send that makes no progress fails here instead.
* **Closing after the peer**, for half a second: closing with input unread resets the connection, which can destroy the
  answer on its way.
"""

import logging
import re
import socket
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

import trio

if TYPE_CHECKING:
    from hypercorn.config import Config
    from hypercorn.typing import ASGIFramework

REQUEST_TIMEOUT_S: Final = 15.0
"""How long a request and its answer may take; carriers wait no longer for the answer to a webhook (Twilio: 15 s)."""
SEND_TIMEOUT_S: Final = 5.0
LINGER_TIMEOUT_S: Final = 0.5

_UPGRADE: Final = re.compile(rb"(?im)^upgrade[ \t]*:[^\r\n]*\r\n")


def load_hypercorn() -> None:
    """Import hypercorn before the first connection: its 0.1 s would otherwise hold up a call that has begun."""
    import hypercorn.trio.tcp_server  # noqa: F401, PLC0415

    _config()


async def serve_http(app: "ASGIFramework", stream: trio.abc.Stream, head: bytes) -> bool:
    """Answer the one request that begins with ``head``. The stream is left to be closed by the caller.

    Returns whether the application was asked; False: it was no HTTP request, and its sender was told so.
    """
    from hypercorn.app_wrappers import ASGIWrapper  # noqa: PLC0415 (programs that only import us serve nothing)
    from hypercorn.trio.tcp_server import TCPServer  # noqa: PLC0415
    from hypercorn.trio.worker_context import WorkerContext  # noqa: PLC0415

    asked = False

    async def asking(scope: Any, receive: Any, send: Any) -> None:
        nonlocal asked
        asked = True
        await app(scope, receive, send)

    with trio.move_on_after(REQUEST_TIMEOUT_S):
        # Only WSGI applications and lifespans use the state; there is neither.
        await TCPServer(
            ASGIWrapper(asking),
            _config(),
            WorkerContext(None),
            {},
            cast(Any, _Replayed(stream, _without_upgrade(head))),
        ).run()
    return asked


@cache
def _config() -> "Config":
    from hypercorn.config import Config  # noqa: PLC0415

    config = Config()
    config.keep_alive_max_requests = 0
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("patter_trio.http")
    return config


def _without_upgrade(data: bytes) -> bytes:
    head, end, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"", head + end) + rest


class _Replayed:
    """The stream as hypercorn uses it, with the bytes that were read before."""

    def __init__(self, stream: trio.abc.Stream, head: bytes) -> None:
        self._stream = stream
        self._head = head
        self._closed = False
        self._stuck = False
        self._reading = trio.CancelScope()
        self.socket = _socket_of(stream)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._head:
            head, self._head = self._head, b""
            return head
        with self._scope():
            while True:
                data = await self._stream.receive_some(max_bytes)
                if not self._closed:
                    return bytes(data)
                if not data:
                    break
        raise trio.ClosedResourceError

    def _scope(self) -> trio.CancelScope:
        deadline = self._reading.deadline
        self._reading = trio.CancelScope(deadline=deadline)
        return self._reading

    async def send_all(self, data: bytes) -> None:
        if not self._stuck:
            with trio.move_on_after(SEND_TIMEOUT_S):
                await self._stream.send_all(data)
                return
            self._stuck = True
            self._end_reading(0)
        raise trio.BrokenResourceError("the peer does not read")

    async def send_eof(self) -> None:
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()

    async def aclose(self) -> None:
        """From now on input is thrown away, and for a bounded time only; the stream's owner closes it afterwards."""
        if not self._closed:
            self._end_reading(LINGER_TIMEOUT_S)
        await trio.lowlevel.checkpoint()

    def _end_reading(self, seconds: float) -> None:
        self._closed = True
        self._reading.deadline = trio.current_time() + seconds


class _NoSocket:
    """Stands in where a stream has no socket: a peer without an address."""

    family = socket.AF_UNSPEC

    def getpeername(self) -> str:
        return ""

    def getsockname(self) -> str:
        return ""


def _socket_of(stream: trio.abc.Stream) -> Any:
    return stream.socket if isinstance(stream, trio.SocketStream) else _NoSocket()
