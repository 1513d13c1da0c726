"""Rule for reopening a lost connection to a vendor; it is pure, and takes the time as an argument."""

from typing import Final

import attrs

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


@attrs.define
class Outage:
    """Time since a vendor last worked, over all connections that were lost, or refused, since then.

    An attempt that succeeds does not end the outage, because a vendor that accepts connections and drops them has not
    come back; :meth:`end` does, and the session calls it when a connection has done its work.
    """

    _began: float | None = None
    _attempts: int = 0

    @property
    def began(self) -> float | None:
        """The instant of the first loss; None if the vendor works."""
        return self._began

    def lost(self, now: float) -> float | None:
        """Count a loss or a failed attempt; return the pause before the next attempt, or None if the time is up."""
        if self._began is None:
            self._began = now
        pause = RETRY_PAUSES_S[min(self._attempts, len(RETRY_PAUSES_S) - 1)]
        self._attempts += 1
        return pause if now + pause < self._began + OUTAGE_TIMEOUT_S else None

    def attempt_timeout(self, now: float) -> float:
        """Return the seconds that an attempt which begins now may take."""
        began = now if self._began is None else self._began
        return min(ATTEMPT_TIMEOUT_S, began + OUTAGE_TIMEOUT_S - now)

    def end(self) -> None:
        """Count the vendor as working again."""
        self._began, self._attempts = None, 0
