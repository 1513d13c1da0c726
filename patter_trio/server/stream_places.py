"""The places for streams of events of one server: bounded in number, and given up when the server drains."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from patter_trio.net.pulse import Pulse

MAX_STREAMS: Final = 64
"""Most streams of events at once, which is a page for each of some dozens of people. Judged."""
# Judged: what is left to send is the end of a response, which a peer that reads takes at once.
END_TIMEOUT_S: Final = 1.0
"""Seconds for the streams to end when the server closes."""


class StreamPlaces:
    """The places of one server."""

    def __init__(self, limit: int = MAX_STREAMS) -> None:
        self._limit = limit
        self._taken = 0
        self._given_back = Pulse()
        self.draining: trio.Event = trio.Event()
        """Set when streams must end, and new ones are refused."""

    def __repr__(self) -> str:
        return f"<StreamPlaces {self._taken} of {self._limit}>"

    @property
    def taken(self) -> int:
        """The number of streams that are open."""
        return self._taken

    def refusal(self) -> str:
        """Return the reason to refuse a stream; empty: it may begin."""
        if self.draining.is_set():
            return "the server is draining"
        return f"{self._limit} streams of events are open" if self._taken >= self._limit else ""

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take a place for the time of a block. No await between :meth:`refusal` and this."""
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
            self._given_back.fire()

    async def all_over(self) -> None:
        """Wait until all streams are over, at most :data:`END_TIMEOUT_S`, after ``draining`` was set."""
        with trio.move_on_after(END_TIMEOUT_S):
            while self._taken:
                await self._given_back.wait()
