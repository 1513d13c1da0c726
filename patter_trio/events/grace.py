"""The time limits for the application's observers after the end of a call.

Speech edges and other lossy events have :data:`BACKLOG_GRACE_S` seconds. Kept events have :data:`LAST_EVENTS_GRACE_S`
more, or :data:`CANCELLED_GRACE_S` if the server itself is being cancelled. The second half of that time is for the
call's end alone, so that no other event can take its time.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

import trio

# Judged, like the other two; docs/design.md and docs/events.md promise them.
BACKLOG_GRACE_S: Final = 2.0
"""Seconds after the call for lossy events, which are worth little later."""
# Judged: a database or a CRM may be slow, or just restarting, and the end of a call is reported only once.
LAST_EVENTS_GRACE_S: Final = 30.0
"""Seconds more for kept events, and for ``on_call_end``."""
# Judged: whatever stops the server may kill it before long; Docker, for example, waits for 10 s.
CANCELLED_GRACE_S: Final = 5.0
"""Seconds instead of :data:`LAST_EVENTS_GRACE_S` if the server is being cancelled: it must stop soon."""

DeliveryClass = Literal["edges", "kept", "end"]
"""The class of an event: lossy (``edges``), kept, or the call's end."""


class GracePeriods:
    """The time limits of one call; infinite until :meth:`begin`."""

    def __init__(self) -> None:
        self._until: dict[DeliveryClass, float] = {"edges": math.inf, "kept": math.inf, "end": math.inf}
        self._last = LAST_EVENTS_GRACE_S
        # The scopes that are running: their deadlines are set when the call ends, which is
        # usually after they were entered.
        self._scopes: set[tuple[DeliveryClass, trio.CancelScope]] = set()

    def __repr__(self) -> str:
        return f"<GracePeriods {', '.join(f'{kind} {until:.2f}' for kind, until in self._until.items())}>"

    def is_over(self, delivery_class: DeliveryClass) -> bool:
        """Return True if the time limit of a class is over."""
        return trio.current_time() >= self._until[delivery_class]

    @contextmanager
    def limit(self, delivery_class: DeliveryClass, *, shield: bool = False) -> Iterator[trio.CancelScope]:
        """Run the block within the time limit of a class, also if the call ends only while it runs."""
        # Infinite while the call lives, even if it is a shield: begin() sets the deadline,
        # and every call ends with begin().
        with trio.CancelScope(deadline=self._until[delivery_class], shield=shield) as scope:
            entry = (delivery_class, scope)
            self._scopes.add(entry)
            try:
                yield scope
            finally:
                self._scopes.discard(entry)

    def begin(self, *, cancelled: bool) -> None:
        """Start the time limits, because the call is over; ``cancelled`` if the server is being cancelled."""
        if cancelled:
            self._last = CANCELLED_GRACE_S
        self._set(trio.current_time() + BACKLOG_GRACE_S)

    def shorten(self) -> None:
        """Shorten the limits to :data:`CANCELLED_GRACE_S` seconds from now, because the server is being cancelled."""
        self._last = CANCELLED_GRACE_S
        now = trio.current_time()
        # Only of a call that is over, and never to a later end than it has.
        if now + CANCELLED_GRACE_S < self._until["end"] < math.inf:
            self._set(now)

    def _set(self, edges: float) -> None:
        end = edges + self._last
        # Half, so that kept events which hang cannot take the whole time from on_call_end behind them.
        self._until = {"edges": edges, "kept": end - self._last / 2, "end": end}
        for kind, scope in self._scopes:
            scope.deadline = self._until[kind]
