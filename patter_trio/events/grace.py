"""How long the application's code that watches a call may run on after it.

Speech edges and other passing things have :data:`BACKLOG_GRACE_S` seconds, all that is kept :data:`LAST_EVENTS_GRACE_S` more
(:data:`CANCELLED_GRACE_S` when the server itself is being cancelled), the second half of them for the call's end alone, so
that nothing else can take its turn away.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

import trio

BACKLOG_GRACE_S: Final = 2.0
LAST_EVENTS_GRACE_S: Final = 30.0
CANCELLED_GRACE_S: Final = 5.0

DeliveryClass = Literal["edges", "kept", "end"]
"""Which of the bounds holds: for what passes, for what is kept, or for the call's end."""


class GracePeriods:
    """The bounds of one call; endless until :meth:`begin`."""

    def __init__(self) -> None:
        self._until: dict[DeliveryClass, float] = {"edges": math.inf, "kept": math.inf, "end": math.inf}
        self._last = LAST_EVENTS_GRACE_S
        self._scopes: set[tuple[DeliveryClass, trio.CancelScope]] = set()

    def __repr__(self) -> str:
        return f"<Bounds {', '.join(f'{patience} {until:.2f}' for patience, until in self._until.items())}>"

    def is_over(self, delivery_class: DeliveryClass) -> bool:
        """Return whether that time is over."""
        return trio.current_time() >= self._until[delivery_class]

    @contextmanager
    def limit(self, delivery_class: DeliveryClass, *, shield: bool = False) -> Iterator[trio.CancelScope]:
        """Run the block for no longer than that, whenever the call ends."""
        with trio.CancelScope(deadline=self._until[delivery_class], shield=shield) as scope:
            entry = (delivery_class, scope)
            self._scopes.add(entry)
            try:
                yield scope
            finally:
                self._scopes.discard(entry)

    def begin(self, *, cancelled: bool) -> None:
        """The call is over; ``cancelled``: so is the server."""
        if cancelled:
            self._last = CANCELLED_GRACE_S
        self._set(trio.current_time() + BACKLOG_GRACE_S)

    def shorten(self) -> None:
        """The server is being cancelled: what is kept has only :data:`CANCELLED_GRACE_S` seconds from here."""
        self._last = CANCELLED_GRACE_S
        now = trio.current_time()
        if now + CANCELLED_GRACE_S < self._until["end"] < math.inf:
            self._set(now)

    def _set(self, edges: float) -> None:
        end = edges + self._last
        self._until = {"edges": edges, "kept": end - self._last / 2, "end": end}
        for patience, scope in self._scopes:
            scope.deadline = self._until[patience]
