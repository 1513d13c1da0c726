"""What a vendor's session tells, on its way from the task that reads to the one that takes it."""

from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import attrs
import trio

from patter_trio.errors import ProviderError

T = TypeVar("T")


@attrs.frozen(eq=False)
class Results(AsyncIterator[T]):
    """A session's results, and at their end what it failed with; a plain iterator, which may be left anywhere."""

    _channel: trio.MemoryReceiveChannel[T]
    _failure: Callable[[], ProviderError | None]

    async def __anext__(self) -> T:
        try:
            return await self._channel.receive()
        except trio.EndOfChannel:
            failure = self._failure()
        if failure:
            raise failure
        raise StopAsyncIteration
