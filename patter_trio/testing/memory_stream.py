"""A pair of connected streams in memory, on which a send or a receive takes one step of the event loop.

The pair of ``trio.testing`` takes two more for each, to find tasks that use a stream at the same time. A simulated call
sends and receives 50 times a second in each direction, and the loop's rounds are most of what it costs.
"""

import operator

import trio

from patter_trio.net.pulse import Pulse


class _Pipe:
    """One direction."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._news = Pulse()
        self._ended = False
        self._unread = False
        self._reading = False

    def put(self, data: bytes | bytearray | memoryview) -> None:
        if self._ended:
            raise trio.ClosedResourceError
        if self._unread:
            raise trio.BrokenResourceError("the other end is closed")
        self._data += data
        self._news.fire()

    def end(self) -> None:
        """Send no more; what was sent can still be read."""
        self._ended = True
        self._news.fire()

    def discard(self) -> None:
        """Read no more."""
        self._unread = True
        self._data.clear()
        self._news.fire()

    @property
    def _is_readable(self) -> bool:
        return bool(self._data) or self._ended or self._unread

    async def take(self, max_bytes: int | None) -> bytes:
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError(f"max_bytes must be at least 1, got {max_bytes}")
        if self._reading:
            raise trio.BusyResourceError("another task reads from this stream")
        self._reading = True
        try:
            if self._is_readable:
                # Before the data is taken: a read that is cancelled here leaves it to the next one.
                await trio.lowlevel.checkpoint()
            # A loop: an empty send wakes the reader, too, and there is nothing to read.
            while not self._is_readable:
                await self._news.wait()
        finally:
            self._reading = False
        if self._unread:
            raise trio.ClosedResourceError
        size = len(self._data) if max_bytes is None else max_bytes
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of the pair that :func:`memory_stream_pair` returns."""

    def __init__(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._sending = False

    def __repr__(self) -> str:
        return "<MemoryStream>"

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of the data; never waits for the peer.

        Raises:
            trio.ClosedResourceError: this end is closed.
            trio.BrokenResourceError: the other end is closed.
            trio.BusyResourceError: another task sends.
        """
        if self._sending:
            raise trio.BusyResourceError("another task sends on this stream")
        self._sending = True
        try:
            # Before the data is sent: a send that is cancelled here has sent nothing.
            await trio.lowlevel.checkpoint()
        finally:
            self._sending = False
        self._outgoing.put(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Return at once, because sending never waits; raises as :meth:`send_all`."""
        await self.send_all(b"")

    async def send_eof(self) -> None:
        """Send no more; the peer reads what was sent, and then the end."""
        await trio.lowlevel.checkpoint()
        self._outgoing.end()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return data that has come, at most ``max_bytes``, or wait for it; empty: the peer sends no more.

        Raises:
            trio.ClosedResourceError: this end is closed.
            trio.BusyResourceError: another task receives.
        """
        return await self._incoming.take(max_bytes)

    async def aclose(self) -> None:
        """Close both directions of this end."""
        # First, because the close must not depend on the checkpoint.
        self._outgoing.end()
        self._incoming.discard()
        await trio.lowlevel.checkpoint()


def memory_stream_pair() -> tuple[MemoryStream, MemoryStream]:
    """Return two connected ends: what one sends, the other receives."""
    there, back = _Pipe(), _Pipe()
    return MemoryStream(back, there), MemoryStream(there, back)
