"""A connection on which things can go wrong: the server's end of it, which behaves until it is told otherwise."""

import math
from collections.abc import Callable

import trio

from patter_trio.net.pulse import Pulse


class FaultyStream(trio.abc.HalfCloseableStream):
    """A stream as the server under test sees it, with a peer and a network that can be made to misbehave at any moment.

    Every fault is a plain function that takes effect at once, also on a read or a write that is waiting. Over memory
    streams and a mock clock each is exact.

    Args:
        stream: the server's end of a connection that works.
    """

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._stream = stream
        self._reading = trio.CancelScope()
        self._changed = Pulse()
        self._injected = bytearray()
        self._reset = self._ended = self._silent = self._deaf = self._swallowing = False
        self._piece: tuple[int, float] = (65536, 0.0)
        self._closed = False
        self.operations: int = 0
        """How many reads and writes the server has begun so far."""
        self.before: Callable[[int], None] | None = None
        """Called with the number of each read or write (the first is 1) before it begins: to strike at that very await."""

    def __repr__(self) -> str:
        told = {"reset": self._reset, "ended": self._ended, "silent": self._silent, "deaf": self._deaf}
        return f"<FaultyStream {', '.join(name for name, is_so in told.items() if is_so) or 'sound'}>"

    # What goes wrong --------------------------------------------------------------------------------------------------
    def reset(self) -> None:
        """The connection is reset: whatever is read or written fails."""
        self._reset = True
        self._change()

    def end(self) -> None:
        """The peer ends its side of the connection without a word; what is written still goes somewhere."""
        self._ended = self._swallowing = True
        self._change()

    def vanish(self) -> None:
        """The peer is gone and nobody says so: nothing comes any more, and what is written is lost."""
        self._silent = self._swallowing = True
        self._change()

    def stop_reading(self) -> None:
        """The peer reads nothing any more, and all buffers are full: what is written waits."""
        self._deaf = True
        self._change()

    def freeze(self) -> None:
        """The peer neither sends nor reads any more; the connection stands."""
        self._silent = self._deaf = True
        self._change()

    def trickle(self, size: int, seconds: float = 0.0) -> None:
        """What comes, comes in pieces of ``size`` bytes at most, one every so many ``seconds``."""
        self._piece = (size, seconds)
        self._change()

    def inject(self, data: bytes) -> None:
        """Have the server read these bytes next, ahead of what is on its way."""
        self._injected += data
        self._change()

    def _change(self) -> None:
        self._reading.cancel()
        self._changed.fire()

    # The stream -------------------------------------------------------------------------------------------------------
    def _begins(self) -> None:
        self.operations += 1
        if self.before is not None:
            self.before(self.operations)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Read, as :meth:`trio.abc.ReceiveStream.receive_some`; what the faults say comes first."""
        self._begins()
        while True:
            data = self._given(max_bytes)
            if data is not None:
                await trio.lowlevel.checkpoint()
                return data
            with trio.CancelScope() as self._reading:
                size, seconds = self._piece
                await trio.sleep(math.inf if self._silent else seconds)
                return bytes(await self._stream.receive_some(min(max_bytes or size, size)))

    def _given(self, max_bytes: int | None) -> bytes | None:
        """Return what is to be read instead of what the peer sent; None: nothing is."""
        if self._closed:
            raise trio.ClosedResourceError
        if self._reset:
            raise trio.BrokenResourceError("connection reset by peer")
        if self._injected:
            size = min(max_bytes or self._piece[0], self._piece[0])
            data = bytes(self._injected[:size])
            del self._injected[:size]
            return data
        return b"" if self._ended else None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write, as :meth:`trio.abc.SendStream.send_all`."""
        self._begins()
        while self._deaf and not self._reset:
            await self._changed.wait()
        if self._reset:
            await trio.lowlevel.checkpoint()
            raise trio.BrokenResourceError("connection reset by peer")
        if self._swallowing:
            await trio.lowlevel.checkpoint()
            return
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the stream might take something."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """End the server's side."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the server's end."""
        self._closed = True
        self._change()
        await self._stream.aclose()
