"""Results that are due at instants known beforehand, as scripted providers tell them."""

import math
from collections.abc import AsyncIterator, Iterator
from heapq import heappop, heappush
from typing import Generic, TypeVar

import trio

from patter_trio.errors import ProviderError
from patter_trio.net.pulse import Pulse

T = TypeVar("T")


class TimedResults(Generic[T]):
    """Results by the instant at which each is told; iterating waits for the next, for ever. A failure is raised."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, T | ProviderError]] = []
        self._count = 0
        self._news = Pulse()

    def __repr__(self) -> str:
        return f"<Due {len(self._due)} results>"

    def put(self, at: float, result: T | ProviderError) -> None:
        """Have a result told at an instant, behind those that are due at the same."""
        self._count += 1
        heappush(self._due, (at, self._count, result))
        self._news.fire()

    def waiting(self) -> Iterator[T]:
        """Yield the results that are not told yet, in no order."""
        for _, _, result in self._due:
            if not isinstance(result, ProviderError):
                yield result

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        await trio.lowlevel.checkpoint()
        while not self._due or self._due[0][0] > trio.current_time():
            with trio.CancelScope(deadline=self._due[0][0] if self._due else math.inf):
                await self._news.wait()
        _, _, result = heappop(self._due)
        if isinstance(result, ProviderError):
            raise result
        return result
