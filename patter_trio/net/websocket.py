"""A WebSocket over any trio stream: the sans-I/O core of ``websockets``, with our own I/O around it.

Why not a ready-made connection class: a call needs that *nothing but the socket* can hold up its reader, that a send
can be cancelled, and that a stream whose send was cancelled is never written to again. Hence:

* One task reads (:meth:`WebSocket.receive`), one task writes (:meth:`WebSocket.send`). The reader never writes: answers
  to pings wait in ``pending``, the reader wakes the writer, and the writer sends them with its next message or by
  :meth:`WebSocket.flush`. Before :meth:`WebSocket.share_sending` nothing else writes, and the reader sends them itself.
* A cancelled send may have put half a frame on the wire. From then on the socket is ``broken``: no more sends, no close
  frame, only the forceful end of the stream.
* Closing sends a close frame, then reads until the peer's end for a bounded time: closing a TCP connection with unread
  input sends a reset, which can overtake the close frame.
* Text frames that have come whole, as nearly all of a carrier's do, skip the core
  (:mod:`patter_trio.wire.frame_input`): it took an eighth of a call's processor time for these.
* A peer cannot keep the event loop busy in one step: what was read is parsed in small slices, and each
  :data:`MAX_FRAMES_PER_STEP` frames the reader lets the other tasks run. A peer that has not authenticated has an
  :class:`Allowance` besides.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Final, Self

import attrs
import trio
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from patter_trio.errors import PatterConnectionError, WireError
from patter_trio.logs import ascii_line, mask_logs, one_line
from patter_trio.net.streams import receiver_of
from patter_trio.wire.frame_input import FrameInput

# The largest record of TLS (RFC 8446, section 5.1): one read of an encrypted stream returns no more.
READ_BYTES: Final = 16384
MAX_MESSAGE_BYTES: Final = 256 * 1024
"""Largest accepted message, in bytes: 24 s of mu-law in base64, far more than any carrier puts into one."""
# Judged: 516 pongs of the largest size. A peer that far behind does not read at all.
MAX_UNSENT_PONG_BYTES: Final = 64 * 1024
"""Most unsent answers to pings, in bytes, before the peer counts as hostile."""
# Measured: the core takes 37 microseconds for a ping, so this is 2 ms; a media message every 20 ms is one frame a step.
MAX_FRAMES_PER_STEP: Final = 50
"""Number of frames after which the reader of a flooded socket lets the other tasks run."""
# One media message of a carrier (about 380 bytes) fits; of the smallest frames, 85 do.
PARSE_BYTES: Final = 512
"""Bytes that the protocol core parses in one step."""
# Ten of the smallest frames: hardly more than an allowance has.
PARSE_BYTES_WITHIN_ALLOWANCE: Final = 64
"""The same for a peer that has not authenticated."""
# Judged: a slow round trip. A call's own leg has less time (``call/leg.py``).
CLOSE_TIMEOUT_S: Final = 0.5
"""Seconds that a close waits for the peer to end its side."""

_PROTOCOL_LOGGER: Final = logging.getLogger("patter_trio.websocket")
"""Logger of the protocol core. It would log every frame, speech included; only warnings pass unless the application
sets its level."""

_BAD_REQUEST: Final = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: "
    b"12\r\n\r\nBad Request\n"
)


@cache
def _quiet() -> logging.Logger:
    """Return the protocol's logger; on first use, limit it to warnings unless the application has set a level."""
    if _PROTOCOL_LOGGER.level == logging.NOTSET:
        _PROTOCOL_LOGGER.setLevel(logging.WARNING)
    mask_logs()
    return _PROTOCOL_LOGGER


class SocketClosed(PatterConnectionError):
    """The end of a WebSocket, with the peer's reason.

    ``code`` is as in RFC 6455 section 7.4 (1006: without a close frame). ``reason`` is as the peer wrote it; in the
    message it is escaped.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        # Escaped, because the peer wrote it, and the message goes into logs and to the application.
        super().__init__(f"websocket closed ({code}{f', {one_line(reason)}' if reason else ''})")
        self.code = code
        self.reason = reason


@attrs.define
class Allowance:
    """The number of frames, control frames included, and of bytes that a peer may send until it has authenticated."""

    frames: int
    bytes: int
    _frames_left: int = attrs.field(init=False, default=attrs.Factory(lambda self: self.frames, takes_self=True))
    _bytes_left: int = attrs.field(init=False, default=attrs.Factory(lambda self: self.bytes, takes_self=True))

    def take(self, *, frames: int = 0, size: int = 0) -> None:
        """Subtract what the peer has sent.

        Raises:
            WireError: the allowance does not cover it.
        """
        self._frames_left -= frames
        self._bytes_left -= size
        if self._frames_left < 0 or self._bytes_left < 0:
            # Both, so that the allowance stays spent whichever is asked for next.
            self._frames_left = self._bytes_left = -1
            raise WireError(f"the peer must authenticate within {self.frames} frames and {self.bytes} bytes")


class WebSocket:
    """An open WebSocket; made by :meth:`Upgrade.accept` or :func:`connect`.

    ``unparsed`` is input behind the handshake, and ``allowance`` bounds the input until :meth:`lift_allowance`.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        protocol: ServerProtocol | ClientProtocol,
        unparsed: bytes = b"",
        allowance: Allowance | None = None,
    ) -> None:
        self._stream = stream
        self._receive_some = receiver_of(stream)
        self._protocol = protocol
        self._input = FrameInput(unparsed)
        # Text frames that have come whole do not pass through the core. Of a client's socket the core has had input
        # already, so that nobody knows where its next frame begins; and the core's log of frames would miss them.
        self._may_skip_core = isinstance(protocol, ServerProtocol) and not protocol.debug
        self._allowance = allowance
        self._frames_in_step = 0
        self._said_close = False
        # Frames that came in one segment with the handshake have been decoded already.
        self._frames: deque[Frame] = deque(e for e in protocol.events_received() if isinstance(e, Frame))
        self._partial = bytearray()
        self._partial_text = True
        self._is_fragmented = False
        """True from the first fragment of a message to its last one."""
        self.pending: bytearray = bytearray()
        self._wake_writer: Callable[[], None] | None = None
        self.broken: bool = False
        # Begins at the opening, not at minus infinity: a peer is given as long for its first frame as for any other.
        self.heard_at: float = trio.current_time()
        """Time of the peer's last whole frame, on trio's clock."""

    def __repr__(self) -> str:
        return f"<WebSocket {self._protocol.state.name.lower()}{' broken' if self.broken else ''}>"

    def share_sending(self, wake: Callable[[], None]) -> None:
        """Leave sending to a writer in another task; ``wake`` tells it that ``pending`` holds something."""
        self._wake_writer = wake

    def lift_allowance(self) -> None:
        """Bound the peer's input no longer: it has authenticated."""
        self._allowance = None

    async def receive(self) -> str | bytes:
        """Return the next message.

        Raises:
            SocketClosed: the peer closed, or broke the protocol, or the connection is gone.
            WireError: the allowance of a peer that has not authenticated is spent.
        """
        while True:
            # Before a frame is taken: a cancellation here must not lose it.
            if self._frames_in_step >= MAX_FRAMES_PER_STEP:
                self._frames_in_step = 0
                await trio.lowlevel.checkpoint()
            if self._frames:
                if (message := self._take(self._frames.popleft())) is not None:
                    return message
                continue
            if (text := self._take_whole()) is not None:
                return text
            # Behind our own close frame, not before everything that was read is parsed: it came while the call lived.
            if self._protocol.state is not State.OPEN and not (self._said_close and self._input):
                # Hand over the answer to the peer's close frame first: no later call would do it.
                await self._answer()
                raise self._closed()
            if self._input:
                self._parse()
            else:
                await self._read()
            await self._answer()

    def _take_whole(self) -> str | None:
        """Return the next message if it is one whole frame of text; None: the core parses what comes next."""
        # Until the peer has authenticated, each piece is counted before it is parsed.
        if (
            not self._may_skip_core
            or self._allowance is not None
            or self._is_fragmented
            or self._protocol.state is not State.OPEN
        ):
            return None
        data = self._input.take_text()
        if data is None:
            return None
        self._frames_in_step += 1
        self.heard_at = trio.current_time()
        return self._decoded(data)

    async def _read(self) -> bool:
        """Read once; leave the input in ``_input``, or tell the core that it has ended and return False."""
        try:
            data = await self._receive_some(READ_BYTES)
        # The two ends of a trio stream, by the network or by our own close, are one to the readers of a socket.
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise SocketClosed(1006, "connection lost") from error
        self._frames_in_step = 0
        if data:
            self._input.put(bytes(data))
        else:
            # ``receive_eof`` lets the core decide whether the end was announced by a close frame.
            self._protocol.receive_eof()
            self._collect()
        return bool(data)

    def _parse(self) -> None:
        """Parse a slice of the input."""
        size = PARSE_BYTES if self._allowance is None else PARSE_BYTES_WITHIN_ALLOWANCE
        data = self._input.take(size)
        if self._allowance is not None:
            self._allowance.take(size=len(data))
        self._protocol.receive_data(data)
        self._collect()

    def _collect(self) -> None:
        before = len(self._frames)
        self._frames.extend(event for event in self._protocol.events_received() if isinstance(event, Frame))
        # A whole frame: a peer that sends half a frame and stalls has not been heard.
        if len(self._frames) > before:
            self.heard_at = trio.current_time()
        self._queue()
        # A peer that floods pings and never reads must not fill memory.
        if len(self.pending) > MAX_UNSENT_PONG_BYTES:
            raise SocketClosed(1008, "too many unanswered pings")

    def _queue(self) -> None:
        """Move the protocol's output into ``pending``. An empty piece asks to end the stream, which closing does."""
        for piece in self._protocol.data_to_send():
            self.pending += piece

    async def _answer(self) -> None:
        # Most reads produce no output: do not wake the writer's task for them.
        if not self.pending:
            return
        if self._wake_writer is None:
            await self.flush()
        else:
            self._wake_writer()

    def _take(self, frame: Frame) -> str | bytes | None:
        self._frames_in_step += 1
        if self._allowance is not None:
            self._allowance.take(frames=1)
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._partial_text = frame.opcode is Opcode.TEXT
        elif frame.opcode is not Opcode.CONT:
            # A ping, a pong or a close frame: the core has queued its answer, and ``receive`` looks at the state.
            return None
        if not frame.fin or self._partial:
            self._partial += frame.data
        self._is_fragmented = not frame.fin
        if not frame.fin:
            return None
        message, self._partial = bytes(self._partial or frame.data), bytearray()
        # Text is decoded only when complete: a character may be divided between fragments.
        if not self._partial_text:
            return message
        return self._decoded(message)

    def _decoded(self, text: bytes) -> str | None:
        """Return the text of a message; None if it is not UTF-8, which ends the connection."""
        try:
            return text.decode()
        except UnicodeDecodeError:
            self._protocol.fail(1007, "not UTF-8")
            self._frames.clear()  # frames behind an invalid one do not count
            self._queue()
            return None

    def _closed(self) -> SocketClosed:
        sent, received = self._protocol.close_sent, self._protocol.close_rcvd
        # The peer's code first: it gives the reason, ours mostly repeats it.
        close = received or sent
        return SocketClosed(close.code, close.reason) if close else SocketClosed(1006, "connection lost")

    async def send(self, message: str | bytes) -> None:
        """Send a message, after everything that waits in ``pending``. A cancelled send breaks the socket.

        Raises:
            SocketClosed: nothing can be sent any more.
        """
        if self.broken or self._protocol.state is not State.OPEN:
            # A loop that sends must be cancellable here, too: no other checkpoint is passed.
            await trio.lowlevel.checkpoint_if_cancelled()
            raise self._closed()
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(message)
        await self.flush()

    async def flush(self) -> None:
        """Send what waits in ``pending``.

        Raises:
            SocketClosed: nothing can be sent any more.
        """
        self._queue()
        if self.broken:
            raise SocketClosed(1006, "a send was cut off")
        # Taken before the await: what the reader adds meanwhile belongs to the next flush.
        data, self.pending = bytes(self.pending), bytearray()
        if not data:
            return
        # Broken until the write is complete: a cancelled or failed write may have left half a frame on the wire.
        self.broken = True
        try:
            await self._stream.send_all(data)
        # ``broken`` stays True: nobody knows how much was written.
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise SocketClosed(1006, "connection lost") from error
        self.broken = False

    def ping(self) -> None:
        """Put a ping into ``pending``; its answer updates ``heard_at``. Do nothing if nothing can be sent any more."""
        if self._protocol.state is State.OPEN and not self.broken:
            # No data in the ping: any frame of the peer counts as a sign of life, so the answer needs no identity.
            self._protocol.send_ping(b"")
            self._queue()

    async def say_close(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame from the writing task; the reading task sees the end when the peer answers.

        Raises:
            SocketClosed: nothing can be sent any more.
        """
        if self._protocol.state is State.OPEN and not self.broken:
            self._protocol.send_close(code, reason)
            self._said_close = True
        await self.flush()

    async def aclose(self, code: int = 1000, reason: str = "", *, close_timeout: float = CLOSE_TIMEOUT_S) -> None:
        """Close, with a close frame if possible, within ``close_timeout`` seconds, even if cancelled."""
        try:
            # Shielded, so that a cancelled call still says goodbye; bounded, because the peer may never answer.
            with trio.move_on_after(close_timeout, shield=True):
                await self._say_goodbye(code, reason)
        # The peer was faster, or the network is gone: either way there is nobody to say goodbye to.
        except SocketClosed:
            pass  # already closed
        finally:
            # By force: nothing more is expected of the peer, and an orderly end of TLS could block on a full socket.
            await trio.aclose_forcefully(self._stream)

    async def _say_goodbye(self, code: int, reason: str) -> None:
        # WARNING: after half a frame a close frame would be read as the rest of it.
        if self.broken:
            return
        await self.say_close(code, reason)
        try:
            # Until the peer's close frame, not until the end of TCP: some peers keep TCP open after it.
            while self._protocol.close_rcvd is None:
                if self._input:
                    await self._skim()
                elif not await self._read():
                    return
        # ``BusyResourceError``: the call's reader still waits in the same stream. It is about to be cancelled, and
        # the peer's answer is its business.
        except (SocketClosed, trio.BusyResourceError):
            return

    async def _skim(self) -> None:
        """Parse a slice of the input, only for the peer's close frame."""
        try:
            self._parse()
            frames = len(self._frames)
            self._frames.clear()
            if self._allowance is not None:
                self._allowance.take(frames=frames)
        # The peer has sent too much without authenticating: from here on its input is discarded.
        except WireError:
            self._input = FrameInput()
            return
        self._frames_in_step += frames
        if self._frames_in_step >= MAX_FRAMES_PER_STEP:
            self._frames_in_step = 0
            await trio.lowlevel.checkpoint()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class Upgrade:
    """A client's request for a WebSocket, to be accepted or refused; ``path`` includes the query."""

    def __init__(self, stream: trio.abc.Stream, protocol: ServerProtocol, request: Request, rest: bytes) -> None:
        self._stream = stream
        self._protocol = protocol
        self._rest = rest
        self._request = request
        self.path: str = request.path
        self.headers: Headers = request.headers

    async def accept(self, allowance: Allowance | None = None) -> WebSocket:
        """Answer 101, or the error in the request; ``allowance`` bounds what the peer may send at first.

        Raises:
            WireError: the request is not a WebSocket handshake; the client has got the HTTP error.
            SocketClosed: the client is gone.
        """
        response = self._protocol.accept(self._request)
        self._protocol.send_response(response)
        await _send_all(self._stream, self._protocol.data_to_send())
        # After the answer was sent: the core's answer to a bad handshake tells the client what was wrong.
        problem = self._protocol.handshake_exc
        if problem is not None:
            raise WireError(f"the request must be a WebSocket handshake: {ascii_line(str(problem))}") from problem
        # Behind the handshake only: a ping in the rest must not be answered before it.
        return WebSocket(self._stream, self._protocol, self._rest, allowance)

    async def refuse(self, status: int, text: str) -> None:
        """Answer with an HTTP status and a line of text instead; after that, the connection is of no use.

        Raises:
            SocketClosed: the client is gone.
        """
        self._protocol.send_response(self._protocol.reject(status, text))
        await _send_all(self._stream, self._protocol.data_to_send())


async def receive_upgrade(stream: trio.abc.Stream, head: bytes) -> Upgrade:
    """Return the upgrade request whose head (and perhaps more) was read from ``stream`` as ``head``.

    Raises:
        WireError: the request cannot begin a WebSocket; the client has got the HTTP error.
        SocketClosed: the client is gone.
    """
    # Without extensions: compression would cost processor time for each of the 50 messages that a call brings per
    # second.
    protocol = ServerProtocol(max_size=MAX_MESSAGE_BYTES, logger=_quiet())
    end = head.find(b"\r\n\r\n") + 4
    # Only the head: the core would decode the bytes behind it as frames before the handshake was accepted.
    protocol.receive_data(head[:end])
    why = "the head must be complete"
    for event in protocol.events_received():
        # Older versions of the core decode a target with surrogateescape. Such a text could not be encoded again,
        # neither for the signature nor for the log.
        if isinstance(event, Request) and event.path.isascii():
            return Upgrade(stream, protocol, event, head[end:])
        why = "the request target must be ASCII"
    await _send_all(stream, [_BAD_REQUEST])
    raise WireError(f"the request must be a WebSocket handshake: {ascii_line(str(protocol.handshake_exc or why))}")


async def connect(stream: trio.abc.Stream, url: str, headers: Mapping[str, str] | None = None) -> WebSocket:
    """Open a WebSocket as a client over a connected stream.

    Raises:
        WireError: the server refused; the message has its status.
        SocketClosed: the server is gone.
    """
    protocol = ClientProtocol(parse_uri(url), max_size=MAX_MESSAGE_BYTES, logger=_quiet())
    request = protocol.connect()
    request.headers.update(headers or {})
    protocol.send_request(request)
    await _send_all(stream, protocol.data_to_send())
    while protocol.state is State.CONNECTING:
        try:
            data = await stream.receive_some(READ_BYTES)
        # As in ``receive``.
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise SocketClosed(1006, "connection lost") from error
        if data:
            protocol.receive_data(bytes(data))
        else:
            protocol.receive_eof()
        # Before the end of data is judged: a refusal often ends the connection in the same segment.
        if protocol.handshake_exc is not None:
            raise WireError(f"the server refused the WebSocket: {protocol.handshake_exc}") from protocol.handshake_exc
        if not data:
            raise SocketClosed(1006, "connection lost")
    return WebSocket(stream, protocol)


async def _send_all(stream: trio.abc.Stream, pieces: Iterable[bytes]) -> None:
    try:
        await stream.send_all(b"".join(pieces))
    # As in ``receive``: one type of error for the caller.
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise SocketClosed(1006, "connection lost") from error
