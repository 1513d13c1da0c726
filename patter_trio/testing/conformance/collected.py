"""The results that a session yields while it is used, and whether more can come."""

from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

import attrs

from patter_trio.net.pulse import Pulse
from patter_trio.testing.conformance.bench import STEP_TIMEOUT_S, demand, finish_within

T = TypeVar("T")


@attrs.define(eq=False)
class Collected(Generic[T]):
    """The items that have come so far; ``what`` names them in a failure."""

    what: str
    items: list[T] = attrs.field(factory=list)
    ended: bool = False
    _news: Pulse = attrs.field(factory=Pulse)

    async def collect(self, source: AsyncIterator[T]) -> None:
        """Collect every item of ``source`` until it ends."""
        # In a task of its own, as in a call: a session whose results are not taken may stop taking audio.
        async for item in source:
            self.items.append(item)
            self._notify()
        self.ended = True
        self._notify()

    def _notify(self) -> None:
        self._news.fire()

    async def until(self, there: Callable[[], bool], what: str, demands: str) -> None:
        """Wait until ``there()`` is true.

        Raises:
            NotConforming: it does not become true in time, or the source has ended.
        """
        with finish_within(STEP_TIMEOUT_S, what, demands):
            # No await between check and wait, as Pulse requires. An end without the awaited
            # result fails at once, not at the limit.
            while not there():
                self.check_alive()
                await self._news.wait()

    def check_alive(self) -> None:
        """Demand that the source has not ended.

        Raises:
            NotConforming: it has ended.
        """
        demand(not self.ended, f"its {self.what} ended", "they go on for as long as the session is open")
