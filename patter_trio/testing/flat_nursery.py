"""Nurseries that raise a lone exception as itself instead of wrapped in an exception group."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

import trio


def lone(error: BaseException) -> BaseException:
    """Return the only exception in a group, however deeply nested; otherwise return the argument."""
    # Nested, because each nursery on the way adds a group. With two failures the group stays: neither may be hidden.
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def raise_lone(group: BaseExceptionGroup[BaseException]) -> NoReturn:
    """Raise the exception that :func:`lone` returns, with its own context instead of the groups around it."""
    __tracebackhide__ = True  # pytest shows the place of the failure, not this helper
    failure = lone(group)
    context = failure.__context__
    try:
        raise failure
    finally:
        # ``raise`` has set the context to the group that is being handled; the traceback shall show the original one.
        failure.__context__ = context
        del failure, context, group


@asynccontextmanager
async def open_flat_nursery() -> AsyncIterator[trio.Nursery]:
    """Open a nursery that raises a lone exception as itself instead of in a group."""
    __tracebackhide__ = True
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    # BaseException, because a lone ``Cancelled`` or ``KeyboardInterrupt`` comes in a group as well.
    except BaseExceptionGroup as group:
        raise_lone(group)
