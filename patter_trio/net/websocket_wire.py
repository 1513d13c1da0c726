"""The layers below the WebSocket library: the stream that it uses, and the request of its handshake.

The library writes pongs by itself, so a broken stream has to refuse them here.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, unquote, urlsplit

import attrs
import trio
from wsproto.frame_protocol import Opcode

from patter_trio.errors import WireError
from patter_trio.net.proxies import basic_credentials
from patter_trio.net.response_head import ResponseHead, receive_head
from patter_trio.net.websocket import MAX_MESSAGE_BYTES, READ_BYTES

# Judged. The kernel's buffers hold seconds of audio, so a peer that is only slow does not get here. The leg of a call
# uses the same time.
SEND_TIMEOUT_S: Final = 5.0
"""Seconds in which the network must accept a message: a peer that does not read for that long is gone."""
MAX_MESSAGE_WIRE_BYTES: Final = 2 * MAX_MESSAGE_BYTES + 64 * 1024
"""Most bytes before another message is taken: two of the largest size, because one may wait in the library's queue, and
the frames around them. Pings alone need a day to reach it."""
# RFC 6455, section 4.1: any other status is an answer of HTTP's own, such as a refusal.
SWITCHING_PROTOCOLS: Final = 101
_URI_CHARACTERS: Final = "%/?:@!$&'()*+,;=~-._[]"
"""Characters that stay when a target is made ASCII: reserved and unreserved characters (RFC 3986), and escapes."""


class Wire(trio.abc.Stream):
    """The stream below the library.

    It judges the answer to the handshake, and carries nothing more once it is broken.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._head_due = True
        self._received = 0
        self.refusal: ResponseHead | None = None
        """The answer to the handshake, if it is not 101."""
        self.fault: WireError | None = None
        """The peer's violation of HTTP, or of our limits."""
        self.broken: bool = False
        """True once a write was cut off or TCP was closed."""
        self.written: bool = False
        """True once anything was written."""
        self.ended: bool = False
        """True once nothing more can be read."""
        self.late: bool = False
        """True if a write took longer than :data:`SEND_TIMEOUT_S`."""
        self.close_sent: bool = False
        """True once a close frame was written."""
        self.handshake: trio.CancelScope = trio.CancelScope()
        """The scope for the wait for the handshake: the end of the stream cancels it, which the library overlooks."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write a frame. The deadline is enforced here because the library's reader writes pongs by itself."""
        # The library does not know: it would write a pong behind half a frame.
        if self.broken:
            raise trio.BrokenResourceError("the connection is closed")
        # A flag, because ``cancelled_caught`` is False for a cancellation from outside, which cuts a frame just the
        # same.
        whole = False
        try:
            with trio.move_on_after(SEND_TIMEOUT_S) as scope:
                await self._stream.send_all(data)
                whole = True
        finally:
            if not whole:  # half a frame may be on the wire: the peer would read the next one as its rest
                # Tells a peer that does not read from a task that was cancelled: the two are reported as different
                # errors.
                self.late = trio.current_time() >= scope.deadline
                await self.break_off()
        # Raised only for our own deadline: a cancellation passes through the ``finally`` above and goes on by itself.
        if not whole:
            raise trio.BrokenResourceError("the peer does not read")
        self.written = True
        # The library writes one frame at a time. The handshake's request begins with "G", whose low bits are not CLOSE.
        # Distinguished by the first byte, because wsproto does not say what it has written.
        self.close_sent = self.close_sent or data[0] & 0x0F == Opcode.CLOSE

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            # The answer is read here, not by the library: a refusal whose body never comes would keep the library
            # waiting for ever.
            data = await self._receive_answer() if self._head_due else await self._stream.receive_some(max_bytes)
            self._count(len(data))
        # Recorded first: the shell must not wait for an end that has come.
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._end()
            raise
        # Kept in ``fault``: the library turns what is raised below into its own error without a cause.
        except WireError as error:
            self.fault = error
            self._end()
            raise trio.BrokenResourceError("the peer broke the protocol") from error
        if not data:
            self._end()
        return bytes(data)

    async def _receive_answer(self) -> bytes:
        """Return the answer to the handshake, once it is known to be 101."""
        head = await receive_head(self._stream)
        self._head_due = False
        if head.status != SWITCHING_PROTOCOLS:
            self.refusal = head
            raise trio.BrokenResourceError("the handshake was refused")
        return head.received

    def _count(self, size: int) -> None:
        self._received += size
        # Counted here, below the library: a message of empty fragments, and input after a protocol error, are stored
        # there without a bound.
        if self._received > MAX_MESSAGE_WIRE_BYTES:
            raise WireError(f"a message must be complete within {MAX_MESSAGE_WIRE_BYTES} bytes")

    def message_came(self) -> None:
        """Restart the count of bytes for the next message."""
        self._received = 0

    async def aclose(self) -> None:
        """Record that the library is done with the stream. The shell closes it later: it may have to read more."""
        self.handshake.cancel(reason="the library is done with the stream")
        # A checkpoint, as trio requires of every ``aclose``.
        await trio.lowlevel.checkpoint()

    def _end(self) -> None:
        self.ended = True
        self.handshake.cancel(reason="the stream has ended")

    async def linger(self) -> None:
        """Read until the peer's end.

        Closing TCP with unread input sends a reset, which can overtake our close frame.
        """
        try:
            while not self.broken and await self._stream.receive_some(READ_BYTES):
                pass
        # The peer reset the connection instead of closing it: that is an end, too.
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    def refuse_writes(self) -> None:
        """Write nothing more; TCP is still to be closed, by :meth:`break_off`."""
        self.broken = True

    async def break_off(self) -> None:
        """Close TCP at once."""
        # WARNING: before the await, so that no other task writes while this one closes.
        self.broken = True
        self._end()
        await trio.aclose_forcefully(self._stream)


@attrs.frozen
class HandshakeRequest:
    """The request of the handshake."""

    host: str
    target: str
    headers: list[tuple[bytes, bytes]] = attrs.field(repr=False)

    @classmethod
    def of(cls, url: str, headers: Mapping[str, str]) -> "HandshakeRequest":
        parts = urlsplit(url)
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        default = {"ws": 80, "wss": 443}.get(parts.scheme)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        fields = {"User-Agent": "patter-trio"}
        if parts.username is not None:
            # RFC 3986 discourages this form, but servers of applications behind basic authentication are often given
            # so.
            fields["Authorization"] = basic_credentials(unquote(parts.username), unquote(parts.password or ""))
        fields |= headers
        return cls(
            # Without the default port, as browsers do: a vendor's router may compare the header with its own name.
            host if parts.port in (None, default) else f"{host}:{parts.port}",
            # Escaped, because wsproto encodes the target as ASCII and fails on any other character.
            quote(target, safe=_URI_CHARACTERS),
            [(name.encode(), value.encode()) for name, value in fields.items()],
        )
