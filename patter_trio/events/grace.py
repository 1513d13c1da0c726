"""How long the application's code that watches a call may run on after it.

Speech edges and other passing things have :data:`BACKLOG` seconds, all that is kept :data:`LAST` more
(:data:`LAST_CANCELLED` when the server itself is being cancelled), the second half of them for the call's end alone, so
that nothing else can take its turn away.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

import trio

BACKLOG: Final = 2.0
LAST: Final = 30.0
LAST_CANCELLED: Final = 5.0

Patience = Literal["edges", "kept", "end"]
"""Which of the bounds holds: for what passes, for what is kept, or for the call's end."""


class Bounds:
    """The bounds of one call; endless until :meth:`begin`."""

    def __init__(self) -> None:
        self._until: dict[Patience, float] = {"edges": math.inf, "kept": math.inf, "end": math.inf}
        self._last = LAST
        self._scopes: set[tuple[Patience, trio.CancelScope]] = set()

    def __repr__(self) -> str:
        return f"<Bounds {', '.join(f'{patience} {until:.2f}' for patience, until in self._until.items())}>"

    def over(self, patience: Patience) -> bool:
        """Return whether that time is over."""
        return trio.current_time() >= self._until[patience]

    @contextmanager
    def within(self, patience: Patience, *, shield: bool = False) -> Iterator[trio.CancelScope]:
        """Run the block for no longer than that, whenever the call ends."""
        with trio.CancelScope(deadline=self._until[patience], shield=shield) as scope:
            entry = (patience, scope)
            self._scopes.add(entry)
            try:
                yield scope
            finally:
                self._scopes.discard(entry)

    def begin(self, *, cancelled: bool) -> None:
        """The call is over; ``cancelled``: so is the server."""
        if cancelled:
            self._last = LAST_CANCELLED
        self._set(trio.current_time() + BACKLOG)

    def hurry(self) -> None:
        """The server is being cancelled: what is kept has only :data:`LAST_CANCELLED` seconds from here."""
        self._last = LAST_CANCELLED
        now = trio.current_time()
        if now + LAST_CANCELLED < self._until["end"] < math.inf:
            self._set(now)

    def _set(self, edges: float) -> None:
        end = edges + self._last
        self._until = {"edges": edges, "kept": end - self._last / 2, "end": end}
        for patience, scope in self._scopes:
            scope.deadline = self._until[patience]
