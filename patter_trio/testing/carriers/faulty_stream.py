"""The server's end of a connection on which faults can be injected; it behaves normally until then."""

import math
from collections.abc import Callable

import trio

from patter_trio.net.pulse import Pulse


class FaultyStream(trio.abc.HalfCloseableStream):
    """A stream as the server under test sees it, whose peer and network can misbehave at any moment.

    Every fault is a plain function that takes effect at once, also on a waiting read or write. Over memory streams and
    a mock clock each fault is exact.

    Args:
        stream: the server's end of a working connection.
    """

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._stream = stream
        # Renewed for each wait; a fault may cancel it before any read has begun, which does nothing.
        self._reading = trio.CancelScope()
        self._changed = Pulse()
        self._injected = bytearray()
        self._reset = self._ended = self._silent = self._deaf = self._swallowing = False
        # Larger than any read: the peer's data passes as it is.
        self._piece: tuple[int, float] = (65536, 0.0)
        self._closed = False
        self.operations: int = 0
        """Number of reads and writes that the server has begun so far."""
        self.before: Callable[[int], None] | None = None
        """Called with the number of each read or write (the first is 1) before it begins, to inject a fault at that
        very await.
        """

    def __repr__(self) -> str:
        faults = {"reset": self._reset, "ended": self._ended, "silent": self._silent, "deaf": self._deaf}
        return f"<FaultyStream {', '.join(name for name, is_so in faults.items() if is_so) or 'sound'}>"

    # Faults -----------------------------------------------------------------------------------------------------------
    def reset(self) -> None:
        """Reset the connection: every read and write fails."""
        self._reset = True
        self._change()

    def end(self) -> None:
        """End the peer's side of the connection without a close frame; writes still succeed."""
        # A peer that has ended its side can still be written to; what is sent to it goes nowhere.
        self._ended = self._swallowing = True
        self._change()

    def vanish(self) -> None:
        """Let the peer vanish without closing the connection: no data comes any more, and written data is lost."""
        self._silent = self._swallowing = True
        self._change()

    def stop_reading(self) -> None:
        """Stop the peer from reading, with all buffers full: writes wait."""
        self._deaf = True
        self._change()

    def freeze(self) -> None:
        """Stop the peer from sending and reading; the connection stays open."""
        self._silent = self._deaf = True
        self._change()

    def trickle(self, size: int, seconds: float = 0.0) -> None:
        """Deliver data in pieces of at most ``size`` bytes, one every ``seconds``."""
        self._piece = (size, seconds)
        self._change()

    def inject(self, data: bytes) -> None:
        """Make the server read these bytes next, before data that is on its way."""
        self._injected += data
        self._change()

    def _change(self) -> None:
        # A read that waits for the peer would not see the fault; a read under way takes
        # nothing from the stream when cancelled.
        self._reading.cancel()
        self._changed.fire()

    # The stream -------------------------------------------------------------------------------------------------------
    def _begins(self) -> None:
        self.operations += 1
        if self.before is not None:
            # Before anything else, so that the fault strikes this very read or write and not the next.
            self.before(self.operations)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Read, as :meth:`trio.abc.ReceiveStream.receive_some`; data and errors of the faults come first."""
        self._begins()
        while True:
            # Asked anew after each wait: the fault that ended it decides what comes next.
            data = self._given(max_bytes)
            if data is not None:
                # A stream's read is a checkpoint, also when data is there: a flood of faults must
                # not keep the server from its deadlines.
                await trio.lowlevel.checkpoint()
                return data
            # A fault cancels this scope, so that a waiting read starts again and sees the fault.
            with trio.CancelScope() as self._reading:
                size, seconds = self._piece
                # Within the scope: a silent peer may still be made to reset or to end the connection.
                await trio.sleep(math.inf if self._silent else seconds)
                return bytes(await self._stream.receive_some(min(max_bytes or size, size)))

    def _given(self, max_bytes: int | None) -> bytes | None:
        """Return the data that a fault puts in place of the peer's, or None without such a fault."""
        # Its own end first: after closing, no fault of the peer matters.
        if self._closed:
            raise trio.ClosedResourceError
        if self._reset:
            raise trio.BrokenResourceError("connection reset by peer")
        # Before the end: a truncated frame is data and then the end.
        if self._injected:
            size = min(max_bytes or self._piece[0], self._piece[0])
            data = bytes(self._injected[:size])
            del self._injected[:size]
            return data
        return b"" if self._ended else None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write, as :meth:`trio.abc.SendStream.send_all`."""
        self._begins()
        # Nothing is written while the peer does not read; each change of the faults wakes the writer to look again.
        while self._deaf and not (self._reset or self._closed):
            await self._changed.wait()
        # Closing ends a write that waits, as on a socket; otherwise the server's task would wait for ever.
        if self._closed:
            raise trio.ClosedResourceError
        if self._reset:
            await trio.lowlevel.checkpoint()
            raise trio.BrokenResourceError("connection reset by peer")
        if self._swallowing:
            await trio.lowlevel.checkpoint()
            return
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the stream might accept data."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """End the server's side of the connection."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the server's end of the connection."""
        self._closed = True
        # Before the inner stream closes: a read that waits must see that it was closed from this side.
        self._change()
        await self._stream.aclose()
