"""HTTP on a connection whose first bytes have already been read, served by hypercorn's connection handler for trio.

That handler is not a documented interface. So the exact version of hypercorn is pinned, only this file uses it, and a
test fails if its constructor changes. This file adds:

* **One request per connection.** A proxy that pools connections could otherwise send the upgrade of a media stream on a
  connection that has served a webhook, where hypercorn would not pass it to our WebSocket implementation.
* **HTTP/1.1 only.** We drop the ``Upgrade`` header of a request, which RFC 9110 section 7.8 permits, unless the
  request may become a WebSocket of the application.
* **Bounds.** A request must arrive, and a webhook must be answered, within :data:`REQUEST_TIMEOUT_S`. Other responses
  may last as long as the peer reads: hypercorn shields its sends from cancellation, so a send that makes no progress
  fails here after :data:`SEND_TIMEOUT_S`.
* **Nothing behind the request.** What a peer sends behind the end of its request is discarded. h11 takes it for an
  error where the connection is to be closed anyway, and the request would get no answer.
* **Lingering close.** We discard input for up to 0.5 s before closing. Closing a socket with unread input resets the
  connection, and a reset can destroy the answer on its way. hypercorn would keep the connection of a malformed request
  for the 5 s of an idle one.
"""

import logging
import math
import re
import socket
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

import trio

if TYPE_CHECKING:
    from hypercorn.config import Config
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# A later answer would reach nobody: the carrier has given the call up.
REQUEST_TIMEOUT_S: Final = 15.0
"""Seconds for a request, and for a webhook's answer; carriers wait no longer for it (Twilio: 15 s)."""
# Judged: an answer is a kilobyte, which any peer that reads takes at once.
SEND_TIMEOUT_S: Final = 5.0
"""Seconds for one send, so that a peer that does not read cannot hold the connection for the whole request time."""
# Judged: a few round trips. The answer has been acknowledged by then.
LINGER_TIMEOUT_S: Final = 0.5
"""Seconds for which input is discarded before the connection is closed."""

READ_BYTES: Final = 65536
"""Most bytes of one read: what hypercorn asks for."""

PROVEN_KEY: Final = "patter_trio.proven"
"""The key of a request's scope with a function that takes its connection out of those that make room for others."""
# To the line feed, not to a whole CRLF: h11 ends a line at a bare line feed, too.
_UPGRADE: Final = re.compile(rb"(?im)^upgrade[ \t]*:[^\n]*(?:\n|\Z)")
_LENGTH: Final = re.compile(rb"(?im)^content-length[ \t]*:[ \t]*([^\r\n]*)")
_CODED: Final = re.compile(rb"(?im)^transfer-encoding[ \t]*:")


def load_hypercorn() -> None:
    """Import hypercorn before the first connection: the import takes 0.1 s and would delay live calls."""
    import hypercorn.trio.tcp_server  # noqa: F401, PLC0415 (for the import alone, at start)

    _config()


async def serve_http(
    app: "ASGIApp",
    stream: trio.abc.Stream,
    head: bytes,
    *,
    may_upgrade: bool = False,
    proven: Callable[[], None] = lambda: None,
) -> bool:
    """Answer the one request that begins with ``head``, and leave the stream open for its owner to close.

    Return True if the application was called. If the request was not HTTP, the peer receives an error and the result is
    False.

    Args:
        app: the application; its scope has ``proven`` under :data:`PROVEN_KEY`.
        stream: the connection.
        head: what was read from it.
        may_upgrade: True: the request may become a WebSocket, which the application answers.
        proven: called by the application when a response begins that may last, for a peer that may have it.
    """
    from hypercorn.app_wrappers import ASGIWrapper  # noqa: PLC0415 (only servers need it)
    from hypercorn.trio.tcp_server import TCPServer  # noqa: PLC0415 (only servers need it)
    from hypercorn.trio.worker_context import WorkerContext  # noqa: PLC0415 (only servers need it)

    asked = False

    # Tells the caller that the request reached the application; hypercorn answers malformed requests itself.
    async def asking(scope: "Scope", receive: "Receive", send: "Send") -> None:
        nonlocal asked
        asked = True
        is_webhook = scope["path"].startswith("/webhooks/")
        if not is_webhook and not _has_body(scope):
            limit.deadline = math.inf

        async def receiving() -> "Message":
            message = await receive()
            # Complete: from here on only the answer is awaited. An application that leaves a body unread has the time
            # for receiving it, and no more.
            if message["type"] == "http.request" and not message.get("more_body", False) and not is_webhook:
                limit.deadline = math.inf
            return message

        async def answering(message: "Message") -> None:
            limit.deadline = _deadline(message, limit.deadline, trio.current_time())
            await send(message)

        await app({**scope, PROVEN_KEY: proven}, receiving, answering)

    def closed() -> None:
        # Of a request that is not HTTP: hypercorn has answered, and would keep an idle connection.
        if not asked:
            limit.deadline = min(limit.deadline, trio.current_time() + LINGER_TIMEOUT_S)

    replayed = _Replayed(
        stream,
        head if may_upgrade else _without_upgrade(head),
        # Behind the upgrade, a WebSocket goes on.
        None if may_upgrade else _missing(head),
        closed,
    )
    # Around everything, because hypercorn's own limits do not cover a body that arrives byte by byte.
    with trio.move_on_after(REQUEST_TIMEOUT_S) as limit:
        # The empty dict is the lifespan state, which the application passes on itself.
        await TCPServer(
            ASGIWrapper(cast(Any, asking)),
            _config(),
            WorkerContext(None),
            {},
            cast(Any, replayed),
        ).run()
    return asked


def _has_body(scope: "Scope") -> bool:
    """Return True if a request says that it has a body."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


def _deadline(message: "Message", deadline: float, now: float) -> float:
    """Return the deadline of a connection from a message of its response on."""
    kind = message["type"]
    if kind == "websocket.accept" or (kind == "http.response.body" and message.get("more_body", False)):
        # Each send is bounded; the whole lasts as long as the peer reads.
        return math.inf
    if kind in ("websocket.close", "http.response.body"):
        # The last message: hypercorn itself would wait until somebody takes the rest of a body that was refused
        # halfway, and nobody does.
        return now + SEND_TIMEOUT_S + LINGER_TIMEOUT_S
    return deadline


@cache
def _config() -> "Config":
    from hypercorn.config import Config  # noqa: PLC0415 (only servers need it)

    config = Config()
    # 0: hypercorn closes after the first answer, and says so in it.
    config.keep_alive_max_requests = 0
    config.include_server_header = False
    # Requests are logged where they are understood, in ``webhooks.py``, without the callers' numbers.
    config.accesslog = None
    config.errorlog = logging.getLogger("patter_trio.http")
    return config


def _without_upgrade(data: bytes) -> bytes:
    head, end, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"", head + end) + rest


def _missing(data: bytes) -> int | None:
    """Return the bytes between what was read and a request's end, negative behind it; None: its head does not say."""
    head, end, rest = data.partition(b"\r\n\r\n")
    lengths = _LENGTH.findall(head) or [b"0"]
    # Only the plain case; two lengths, for example, are for h11 to judge. It takes 20 digits at most.
    if not end or _CODED.search(head) or len(lengths) > 1 or not re.fullmatch(rb"[0-9]{1,20}[ \t]*", lengths[0]):
        return None
    return int(lengths[0]) - len(rest)


class _Replayed:
    """A stream for hypercorn that first returns the bytes that were read before, and ends input with the request.

    Args:
        stream: the connection.
        head: the bytes that were read before.
        missing: what the request lacks behind them, in bytes, negative for bytes that are not of it; None: unknown.
        closed: called when hypercorn closes the stream for the first time.
    """

    def __init__(self, stream: trio.abc.Stream, head: bytes, missing: int | None, closed: Callable[[], None]) -> None:
        self._stream = stream
        self._head = head[: len(head) + min(0, missing or 0)]
        self._missing = None if missing is None else max(0, missing)
        self._on_close = closed
        self._closed = False
        self._stuck = False
        # One scope per read, because a scope can be entered once. ``_end_reading`` changes the deadline of whichever is
        # open.
        self._reading = trio.CancelScope()
        self.socket = _socket_of(stream)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._head:
            head, self._head = self._head, b""
            return head
        with self._scope():
            while True:
                # Never behind the request's end; what is read there is discarded.
                data = await self._stream.receive_some(min(max_bytes or READ_BYTES, self._missing or READ_BYTES))
                # After the close nothing is returned: input is only read so that the end of TCP is not a reset.
                if self._closed:
                    if not data:
                        break
                # The end of input is passed on: the application may want to know that its peer is gone.
                elif self._missing != 0 or not data:
                    self._missing = None if self._missing is None else self._missing - len(data)
                    return bytes(data)
        # hypercorn's read loop ends at this type, as for a stream that was closed.
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
            # Remembered: hypercorn may send again behind a failed send, and that must fail at once, not 5 s later.
            self._stuck = True
            # The reading task would otherwise wait for a peer that is not interested.
            self._end_reading(0)
        raise trio.BrokenResourceError("the peer does not read")

    async def send_eof(self) -> None:
        # Before the await, as hypercorn only calls this before ``aclose``: an application may be cancelled in its last
        # send (Starlette's StreamingResponse is, because the end of the response counts as a disconnect to it), and
        # then ``aclose`` is never called.
        self._linger()
        # hypercorn calls this for every stream; one with TLS cannot close one side alone.
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()

    async def aclose(self) -> None:
        """Discard input from now on, for a bounded time; the stream's owner closes it afterwards."""
        self._linger()
        await trio.lowlevel.checkpoint()

    def _linger(self) -> None:
        # hypercorn closes more than once; the time must not start anew.
        if not self._closed:
            self._end_reading(LINGER_TIMEOUT_S)
            self._on_close()

    def _end_reading(self, seconds: float) -> None:
        self._closed = True
        self._reading.deadline = trio.current_time() + seconds


class _NoSocket:
    """A substitute for the socket of a stream that has none; its addresses are empty."""

    family = socket.AF_UNSPEC

    def getpeername(self) -> str:
        return ""

    def getsockname(self) -> str:
        return ""


def _socket_of(stream: trio.abc.Stream) -> Any:
    return stream.socket if isinstance(stream, trio.SocketStream) else _NoSocket()
