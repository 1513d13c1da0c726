"""Tasks that run beside a block of code and end with it, and the channels through which they pass on their results."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

import attrs
import trio

from patter_trio.errors import ProviderError

T = TypeVar("T")


def split_failure(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Split an exception into the part that no border may keep, and the failure; either may be None.

    The first part is the cancellation of a scope around us, and KeyboardInterrupt. Everything else is a failure, also
    SystemExit, GeneratorExit, the ``CancelledError`` of asyncio, and a ``Cancelled`` although no scope is cancelled:
    an application can raise each of them, and raised on they would end the whole server.
    """
    # Outside of the event loop the interpreter discards a coroutine that never ended, by a GeneratorExit.
    if not trio.lowlevel.in_trio_task():
        return error, None
    passing: tuple[type[BaseException], ...] = (KeyboardInterrupt,)
    # Minus infinity stands for a cancelled scope around this task. Without one, nothing above would take the Cancelled.
    if trio.current_effective_deadline() == -math.inf:
        passing = (KeyboardInterrupt, trio.Cancelled)
    if isinstance(error, BaseExceptionGroup):
        return error.split(passing)
    return (error, None) if isinstance(error, passing) else (None, error)


@asynccontextmanager
async def run_beside(task: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Run a task beside the ``async with`` block, in a nursery of :func:`open_side_tasks`."""
    async with open_side_tasks() as nursery:
        nursery.start_soon(task)
        yield


@asynccontextmanager
async def open_side_tasks() -> AsyncIterator[trio.Nursery]:
    """Open a nursery for tasks beside the ``async with`` block; they are cancelled when the block ends.

    A failure of a task cancels the block. A single failure, of either, is raised bare and with its cause, so that
    callers can catch it by its type; trio's own groups would hide a ProviderError from ``except ProviderError``.
    """
    with bare_failure():
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            finally:
                # Also after an error of the block: the nursery would otherwise wait for a task that may never end.
                nursery.cancel_scope.cancel(reason="the block beside it has ended")


@contextmanager
def bare_failure() -> Iterator[None]:
    """Raise the only failure of a nursery in the block bare and with its cause, instead of in a group."""
    try:
        yield
    except BaseExceptionGroup as group:
        # Only a group of one is unwrapped: to choose one of several failures would hide the others.
        match group.exceptions:
            case [failure]:
                # ``from`` hides the group: as the failure's context it would print the same failure a second time.
                raise failure from failure.__cause__
            case _:
                raise


async def hand_over(channel: trio.MemorySendChannel[T], item: T) -> None:
    """Put an item into a channel, waiting only if it is full.

    ``send`` yields to other tasks each time, which costs a turn of the event loop. This function is for a task that
    yields anyway, while it waits for the items that it passes on.

    Raises:
        trio.BrokenResourceError: the receiving side is closed.
        trio.ClosedResourceError: the channel was closed.
    """
    try:
        channel.send_nowait(item)
    # Only a full channel waits, and with it the task that reads from the vendor: nothing is dropped here.
    except trio.WouldBlock:
        await channel.send(item)


@attrs.frozen(eq=False)
class ResultStream(AsyncIterator[T]):
    """Iterator over a session's results, which raises the session's failure, if any, at their end.

    It may be left at any point.
    """

    _channel: trio.MemoryReceiveChannel[T]
    _failure: Callable[[], ProviderError | None]

    async def __anext__(self) -> T:
        try:
            return await self._channel.receive()
        except trio.EndOfChannel:
            # Raised outside of this clause: the end of the channel is not the failure's cause.
            failure = self._failure()
        if failure:
            raise failure
        raise StopAsyncIteration
