"""Nurseries wrap what goes wrong in exception groups; here a lone exception comes out as itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


def lone(error: BaseException) -> BaseException:
    """Return the one exception in a group that has only one, however deep; otherwise what was given."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


@asynccontextmanager
async def open_flat_nursery() -> AsyncIterator[trio.Nursery]:
    """Open a nursery out of which a lone exception comes as itself instead of in a group."""
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        failure = lone(group)
    # Outside of the handler, so that the group does not become the context of its own member.
    if failure is not None:
        raise failure
