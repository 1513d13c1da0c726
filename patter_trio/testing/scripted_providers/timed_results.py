"""Results of scripted providers that are due at known instants."""

import math
from collections.abc import AsyncIterator, Iterator
from heapq import heappop, heappush
from typing import Generic, TypeVar

import trio

from patter_trio.errors import ProviderError
from patter_trio.net.pulse import Pulse

T = TypeVar("T")


class TimedResults(Generic[T]):
    """Results in the order of their instants; iteration waits for the next one without end, and raises a failure."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, T | ProviderError]] = []
        self._count = 0
        self._news = Pulse()

    def __repr__(self) -> str:
        return f"<TimedResults: {len(self._due)} due>"

    def put(self, at: float, result: T | ProviderError) -> None:
        """Schedule a result for an instant, after those that are due at the same instant."""
        # The second key of the heap: equal instants keep their order, and results are never compared with each other.
        self._count += 1
        heappush(self._due, (at, self._count, result))
        # Also for a result that is due later than the first: the waiting task looks for itself.
        self._news.fire()

    def waiting(self) -> Iterator[T]:
        """Yield the results that are not due yet, in no particular order."""
        for _, _, result in self._due:
            if not isinstance(result, ProviderError):
                yield result

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        # Also if a result is due: an iteration that never yields could not be cancelled.
        await trio.lowlevel.checkpoint()
        while not self._due or self._due[0][0] > trio.current_time():
            # A result that is put meanwhile may be due earlier: ``put`` ends this wait.
            with trio.CancelScope(deadline=self._due[0][0] if self._due else math.inf):
                await self._news.wait()
        _, _, result = heappop(self._due)
        if isinstance(result, ProviderError):
            raise result
        return result
