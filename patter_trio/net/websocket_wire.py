"""What lies under the WebSocket library: the stream that it writes to and reads from, and the request that it begins with.

The library writes pongs by itself, so a stream that broke has to refuse them here.
"""

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote, unquote, urlsplit

import attrs
import trio
from wsproto.frame_protocol import Opcode

from patter_trio.errors import WireError
from patter_trio.net.proxies import basic_credentials
from patter_trio.net.response_head import ResponseHead, receive_head
from patter_trio.net.websocket import MAX_MESSAGE_BYTES, READ_BYTES

SEND_TIMEOUT_S: Final = 5.0
"""Seconds that a message may take to be handed to the network: a peer that does not read for so long is gone."""
MAX_MESSAGE_WIRE_BYTES: Final = 2 * MAX_MESSAGE_BYTES + 64 * 1024
"""Bytes that may come before another message is taken: two of the largest size, for one may wait in the library's queue,
and the frames around them. Pings alone need a day for it."""
SWITCHING_PROTOCOLS: Final = 101
_URI_CHARACTERS: Final = "%/?:@!$&'()*+,;=~-._[]"
"""What stays as it is when a target is made ASCII: reserved and unreserved characters (RFC 3986), and escapes."""


class Wire(trio.abc.Stream):
    """The stream under the library: it judges the answer to the handshake, and once broken it carries nothing more."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._head_due = True
        self._received = 0
        self.refusal: ResponseHead | None = None
        """The answer to the handshake, where it is not 101."""
        self.fault: WireError | None = None
        """How the peer broke HTTP, or our bounds."""
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
        self.on_end: Callable[[], None] = lambda: None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write a frame. The deadline is here, too: the library's reader writes the answers to pings by itself."""
        if self.broken:
            raise trio.BrokenResourceError("the connection is closed")
        whole = False
        try:
            with trio.move_on_after(SEND_TIMEOUT_S) as patience:
                await self._stream.send_all(data)
                whole = True
        finally:
            if not whole:  # half a frame may be on the wire: whatever came behind it would be read as its rest
                self.late = trio.current_time() >= patience.deadline
                await self.break_off()
        if not whole:
            raise trio.BrokenResourceError("the peer does not read")
        self.written = True
        # The library writes one frame at a time; the request for the handshake begins with "G", which is no close frame.
        self.close_sent = self.close_sent or data[0] & 0x0F == Opcode.CLOSE

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            data = await self._receive_answer() if self._head_due else await self._stream.receive_some(max_bytes)
            self._count(len(data))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._end()
            raise
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
        if self._received > MAX_MESSAGE_WIRE_BYTES:
            raise WireError(f"{MAX_MESSAGE_WIRE_BYTES} bytes came without completing a message")

    def message_came(self) -> None:
        """Count the bytes of the next message from here."""
        self._received = 0

    async def aclose(self) -> None:
        """Note that the library has done with the stream. Closing it is the shell's, which may have something to read yet."""
        self.on_end()
        await trio.lowlevel.checkpoint()

    def _end(self) -> None:
        self.ended = True
        self.on_end()

    async def linger(self) -> None:
        """Read until the peer's end: closing TCP with unread input makes a reset, which can overtake our close frame."""
        try:
            while not self.broken and await self._stream.receive_some(READ_BYTES):
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def break_off(self) -> None:
        """Close TCP at once."""
        self.broken = True
        self._end()
        await trio.aclose_forcefully(self._stream)


@attrs.frozen
class HandshakeRequest:
    """The request for the handshake."""

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
            fields["Authorization"] = basic_credentials(unquote(parts.username), unquote(parts.password or ""))
        fields |= headers
        return cls(
            host if parts.port in (None, default) else f"{host}:{parts.port}",
            quote(target, safe=_URI_CHARACTERS),
            [(name.encode(), value.encode()) for name, value in fields.items()],
        )
