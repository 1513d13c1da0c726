"""The end of a server: it accepts no more calls, and waits for those that it has."""

import math
from collections.abc import Sized

import trio

from patter_trio.net.pulse import Pulse
from patter_trio.server.lost_streams import LostStreams
from patter_trio.server.pending import PendingCalls


class Draining:
    """The wait of one server for its last calls.

    Args:
        live: the live calls.
        dialled: the calls that we have placed and nobody has answered; each ends by itself.
        pending: the announced calls, which are waited for as long as they are expected to connect.
        lost: knows until when a carrier may ask how a call continues.
        call_over: fires when a call is over.
    """

    def __init__(self, live: Sized, dialled: Sized, pending: PendingCalls, lost: LostStreams, call_over: Pulse) -> None:
        self._live = live
        self._dialled = dialled
        self._pending = pending
        self._lost = lost
        self._call_over = call_over
        self.has_begun: bool = False
        """True if no more calls are accepted."""

    def __repr__(self) -> str:
        return f"<Draining{', begun' if self.has_begun else ''}>"

    async def wait(self, timeout: float) -> None:  # noqa: ASYNC109 (a grace, not a deadline)
        """Accept no more calls, and wait at most ``timeout`` seconds until nothing is expected of any."""
        # First: from here on no webhook adds a call, so the wait below can only get shorter.
        self.has_begun = True
        with trio.move_on_after(timeout):
            while (last := self._last_expected()) > trio.current_time():
                # Without a live call nothing happens when an announced one becomes overdue; a dialled one ends itself.
                with trio.CancelScope(deadline=last):
                    # No await between the check of the calls and this wait, as Pulse requires.
                    await self._call_over.wait()

    def _last_expected(self) -> float:
        """Return the instant until which something is expected of a call; infinite while one is live or dialled."""
        busy = self._live or self._dialled
        return math.inf if busy else max(self._pending.last_overdue, self._lost.last_return)
