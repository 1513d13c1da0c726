"""The results of a recogniser, on their way from the task that hears to the one that takes them."""

from collections.abc import AsyncIterator, Callable

import attrs
import trio

from patter_trio.abc import Transcript
from patter_trio.errors import ProviderError


@attrs.frozen(eq=False)
class Results(AsyncIterator[Transcript]):
    """A session's results, and at their end what it failed with; a plain iterator, which may be left anywhere."""

    _channel: trio.MemoryReceiveChannel[Transcript]
    _failure: Callable[[], ProviderError | None]

    async def __anext__(self) -> Transcript:
        try:
            return await self._channel.receive()
        except trio.EndOfChannel:
            failure = self._failure()
        if failure:
            raise failure
        raise StopAsyncIteration
