"""The connections that have proved nothing yet, bounded in number so that calls have file descriptors left.

A connection proves itself by the start message of a media stream with the token of an announced call. Until then, and a
webhook for its whole short life, it is unproven. Anybody can open such connections and leave them idle. So at most half
of the process's descriptors are theirs, and at the limit a new one takes the place of the oldest: a carrier sends its
request at once and has its answer within milliseconds, and only idle connections grow old.
"""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import trio

# Judged: an operator sees it soon enough, and a flood that lasts for hours does not fill the log.
LOG_INTERVAL_S: Final = 60.0
"""Seconds between two log lines about the same shortage."""

_log = logging.getLogger("patter_trio.server")


def max_unproven_connections() -> int:
    """Return half of the file descriptors that this process may have."""
    try:
        import resource  # noqa: PLC0415 (only Unix has it)
    except ImportError:
        # Windows: the C runtime's own bound.
        return 4096
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The largest number that any system allows stands for no limit.
    return max(1, (2**20 if soft == resource.RLIM_INFINITY else soft) // 2)


class UnprovenConnections:
    """The unproven connections of one server, oldest first."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit = max_unproven_connections() if limit is None else limit
        # A dict for its order.
        self._scopes: dict[trio.CancelScope, None] = {}
        self._logged_at = -math.inf

    def __repr__(self) -> str:
        return f"<UnprovenConnections {len(self)} of {self._limit}>"

    def __len__(self) -> int:
        return len(self._scopes)

    @contextmanager
    def one(self) -> Iterator[Callable[[], None]]:
        """Count a connection as unproven within the block, which is left early if the connection must make room.

        Yield a function that counts it no more, because it has proved itself.
        """
        if len(self) >= self._limit:
            self.warn(f"{self._limit} connections have not authenticated (half of the limit of open files)")
            self.close_oldest()
        with trio.CancelScope() as scope:
            self._scopes[scope] = None
            try:
                yield partial(self._prove, scope)
            finally:
                self._scopes.pop(scope, None)

    def _prove(self, scope: trio.CancelScope) -> None:
        self._scopes.pop(scope, None)

    def close_oldest(self) -> None:
        """Close the connection that has been unproven for the longest time."""
        for scope in self._scopes:
            scope.cancel()
            # Out at once: the next newcomer must make the next one leave.
            del self._scopes[scope]
            return

    def warn(self, why: str) -> None:
        """Log that connections are closed because of a shortage, once per :data:`LOG_INTERVAL_S`."""
        now = trio.current_time()
        if now - self._logged_at >= LOG_INTERVAL_S:
            self._logged_at = now
            _log.warning("server: %s: the oldest is closed for each new one", why)
