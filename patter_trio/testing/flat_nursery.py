"""Nurseries wrap what goes wrong in exception groups; here a lone exception comes out as itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

import trio


def lone(error: BaseException) -> BaseException:
    """Return the one exception in a group that has only one, however deep; otherwise what was given."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def raise_lone(group: BaseExceptionGroup[BaseException]) -> NoReturn:
    """Raise what :func:`lone` returns, as it was first raised: without the groups as what it came from."""
    __tracebackhide__ = True  # pytest shows where it failed, not how it came here
    failure = lone(group)
    context = failure.__context__
    try:
        raise failure
    finally:
        failure.__context__ = context
        del failure, context, group


@asynccontextmanager
async def open_flat_nursery() -> AsyncIterator[trio.Nursery]:
    """Open a nursery out of which a lone exception comes as itself instead of in a group."""
    __tracebackhide__ = True
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        raise_lone(group)
