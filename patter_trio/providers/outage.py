"""Outages of a vendor during a call: the rule for trying again, and their lines in the log."""

import logging
from typing import Final

import attrs
import trio

from patter_trio.errors import ProviderError

# Judged: a restart of a vendor's server, or of a router, takes some seconds. A caller who waits longer than that gives
# up, and an apology is better.
OUTAGE_TIMEOUT_S: Final = 10.0
"""Seconds from the loss of a connection within which another one must work."""
# Judged: most losses are of one connection, so the first attempt comes at once. Then the pauses grow, so that a vendor
# that restarts is not flooded by all the calls that it lost; the last one repeats.
RETRY_PAUSES_S: Final = (0.0, 0.1, 0.25, 0.5, 1.0)
"""Seconds before each attempt."""
# Judged: a vendor that works answers a handshake in some hundred milliseconds. One that hangs must leave time for
# further attempts, which may reach another of its servers.
ATTEMPT_TIMEOUT_S: Final = 2.0
"""Seconds that one attempt may take."""


# Judged: as long as an outage may last. By then a vendor that accepts connections and drops them has dropped this one.
STEADY_AFTER_S: Final = OUTAGE_TIMEOUT_S
"""Seconds after which a connection counts as working, though nobody asked anything of it."""


@attrs.define
class Outage:
    """Time since a vendor last worked, over all connections that were lost, or refused, since then.

    An attempt that succeeds does not end the outage, because a vendor that accepts connections and drops them has not
    come back; :meth:`worked` does, and the session calls it when a connection has done its work.

    Args:
        vendor: the name in errors and log lines.
        call: the call's id, for the log.
        log: the logger of the kind of provider.
        warns: False if somebody else has a warning for each loss.
    """

    vendor: str
    call: str
    log: logging.Logger
    warns: bool = True
    _began: float | None = attrs.field(default=None, init=False)
    _attempts: int = attrs.field(default=0, init=False)

    def lost(self, reason: Exception) -> float:
        """Count a loss or a failed attempt; return the pause before the next attempt, in seconds.

        Raises:
            ProviderError: the vendor was gone for too long.
        """
        now = trio.current_time()
        first = self._began is None
        began = now if self._began is None else self._began
        pause = RETRY_PAUSES_S[min(self._attempts, len(RETRY_PAUSES_S) - 1)]
        self._began = began
        self._attempts += 1
        if now + pause >= began + OUTAGE_TIMEOUT_S:
            raise ProviderError(f"{self.vendor} did not work for {OUTAGE_TIMEOUT_S:g} s: {reason}") from reason
        # As a warning once for each outage: the reasons of the further attempts are seldom others.
        level = logging.WARNING if first and self.warns else logging.INFO
        self.log.log(level, "call %s: %s is gone, trying again: %s", self.call, self.vendor, reason)
        return pause

    def attempt_timeout(self) -> float:
        """Return the seconds that an attempt which begins now may take."""
        return min(ATTEMPT_TIMEOUT_S, self.left())

    def left(self) -> float:
        """Return the seconds within which the vendor must work again."""
        now = trio.current_time()
        return (now if self._began is None else self._began) + OUTAGE_TIMEOUT_S - now

    @property
    def lasts(self) -> bool:
        """True from the first loss until the vendor works."""
        return self._began is not None

    def worked(self) -> None:
        """Count the vendor as working (again)."""
        if self._began is not None:
            seconds = trio.current_time() - self._began
            self.log.info("call %s: %s works again after %.1f s", self.call, self.vendor, seconds)
            self._began, self._attempts = None, 0
