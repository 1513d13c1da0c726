"""Server-sent events over HTTP: the events of an answer of ``net/http.py``."""

from collections import deque
from contextlib import suppress

import trio

from patter_trio.errors import ProviderError, WireError
from patter_trio.net.http import HttpAnswer
from patter_trio.wire.sse import MAX_EVENT_BYTES, EventDecoder, ServerEvent


class ServerEvents:
    """Iterator over the events of an answer.

    It is a class, not a generator, so that it may be left at any point without being closed, and :meth:`drain` can go
    on from there. A channel would cost each token a switch of tasks.

    Args:
        answer: the answer to read.
        max_bytes: most bytes of one event.
    """

    def __init__(self, answer: HttpAnswer, *, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._answer = answer
        self._pieces = answer.pieces()
        self._decoder = EventDecoder(max_bytes=max_bytes)
        self._ready: deque[ServerEvent] = deque()
        self._over = False

    def __repr__(self) -> str:
        return f"<ServerEvents of {self._answer!r}{', over' if self._over else ''}>"

    def __aiter__(self) -> "ServerEvents":
        return self

    async def __anext__(self) -> ServerEvent:
        """Return the next event.

        Raises:
            ProviderTimeout: no event came in time.
            ProviderError: an event is too long, or the connection broke.
        """
        while not self._ready:
            if self._over:
                raise StopAsyncIteration
            try:
                piece = await anext(self._pieces)
            except StopAsyncIteration:
                self._over = True
                # The end of the body also ends an event: some servers omit the blank line behind the last one.
                self._ready.extend(self._decoder.finish())
                continue
            try:
                self._ready.extend(self._decoder.feed(piece))
            # The decoder is pure and knows no vendor; this is where its error gets one.
            except WireError as error:
                raise ProviderError(f"{self._answer!r}: {error}") from error
        return self._ready.popleft()

    async def drain(self, drain_timeout: float) -> None:
        """Read the rest of the answer for at most ``drain_timeout`` seconds.

        The next request can then reuse the connection. Only an answer that was read to its end leaves its connection
        reusable. Errors are ignored: all events have been used.
        """
        # Suppressed: all events are used, so a failure here only costs the next request a new connection.
        with trio.move_on_after(drain_timeout), suppress(ProviderError):
            while not self._over:
                try:
                    await anext(self._pieces)
                # The end of the body is what was wanted.
                except StopAsyncIteration:
                    self._over = True
