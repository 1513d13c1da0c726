"""A task that runs beside a block of code and ends with it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def running(task: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
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
