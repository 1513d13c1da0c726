"""The time limit for opening a provider's session."""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, TypeVar

import trio

from patter_trio.errors import PatterError, ProviderTimeout, leaves

# Judged: twice the 5 s that connecting may take (net/websocket_client.py), and about as
# long as a caller holds the line.
SESSION_OPEN_TIMEOUT_S: Final = 10.0
"""Seconds that a provider has to open its session; the caller hears nothing meanwhile."""

S = TypeVar("S")


@asynccontextmanager
async def open_with_timeout(
    session: AbstractAsyncContextManager[S],
    provider: str,
    within: float = SESSION_OPEN_TIMEOUT_S,
    failed: Callable[[BaseException], None] = lambda _: None,
) -> AsyncIterator[S]:
    """Open a provider's session within ``within`` seconds; using it has no deadline.

    ``failed`` is called with the reason why it could not be opened.

    Raises:
        ProviderTimeout: opening took longer.
    """
    is_open = False
    try:
        # The scope encloses the whole use: a session that opens a nursery must be left before the scope is.
        with trio.CancelScope(deadline=trio.current_time() + within) as scope:
            async with session as ready:
                scope.deadline = math.inf  # the session is open: the limit was for opening alone
                is_open = True
                yield ready
    except BaseException as error:
        # Neither what its user raises, nor the end of a call while it is being opened.
        if not is_open and (reason := next((one for one in leaves(error) if isinstance(one, PatterError)), None)):
            failed(reason)
        raise
    if scope.cancelled_caught:
        slow = ProviderTimeout(f"{provider} was not ready within {within:g} s")
        failed(slow)
        raise slow
