"""A task that runs beside a block of code and ends with it; how it hands over what it makes, and how that is taken."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import attrs
import trio

from patter_trio.errors import ProviderError

T = TypeVar("T")


@asynccontextmanager
async def run_beside(task: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Run a task beside the ``async with`` block; it is cancelled when the block ends.

    A failure of the task cancels the block. A single failure, of either, leaves bare and with its cause, so that
    callers can catch it by its type; trio's own groups would hide a ProviderError from ``except ProviderError``.
    """
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task)
            try:
                yield
            finally:
                nursery.cancel_scope.cancel(reason="the block beside it has ended")
    except BaseExceptionGroup as group:
        match group.exceptions:
            case [failure]:
                raise failure from failure.__cause__
            case _:
                raise


async def hand_over(channel: trio.MemorySendChannel[T], item: T) -> None:
    """Put an item into a channel, and wait only where it is full.

    ``send`` gives way to other tasks each time, which costs a turn of the event loop. This is for a task that gives way
    in any case, where it waits for what it hands over.

    Raises:
        trio.BrokenResourceError: nobody will take it.
        trio.ClosedResourceError: the channel was closed.
    """
    try:
        channel.send_nowait(item)
    except trio.WouldBlock:
        await channel.send(item)


@attrs.frozen(eq=False)
class ResultStream(AsyncIterator[T]):
    """Iterates over a session's results; raises the session's failure, if any, at their end. It may be left anywhere."""

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
