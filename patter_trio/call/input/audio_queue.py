"""A bounded hand-over between two tasks of a call that never holds up the first: when full, the oldest goes."""

from collections import deque
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class DropOldestChannel(Generic[T]):
    """A queue of at most ``bound`` items. Losing old speech is better than delaying marks, hang-ups and new speech."""

    def __init__(self, bound: int) -> None:
        self._items: deque[T] = deque(maxlen=bound)
        self._taker: trio.lowlevel.Task | None = None
        """Who waits in :meth:`take`. An event would do, but 100 times a second and call its cost is worth saving."""
        self.dropped: int = 0

    def __repr__(self) -> str:
        return f"<Feed {len(self._items)}/{self._items.maxlen}, {self.dropped} dropped>"

    @property
    def waiting(self) -> int:
        """The number of items that nobody has taken yet."""
        return len(self._items)

    def put(self, item: T, *, wake: bool = True) -> None:
        """Add an item; drops the oldest when full. With ``wake`` false, one who waits waits for the next item, too."""
        if len(self._items) == self._items.maxlen:
            self.dropped += 1
        self._items.append(item)
        if wake and self._taker is not None:
            taker, self._taker = self._taker, None
            trio.lowlevel.reschedule(taker)

    async def take(self) -> list[T]:
        """Return everything that is there, at least one item, oldest first; for one task at a time."""
        if self._items:
            await trio.lowlevel.checkpoint()
        else:
            await self._wait()
        return self.take_nowait()

    def take_nowait(self) -> list[T]:
        """Return everything that is there, oldest first; it may be nothing."""
        items = list(self._items)
        self._items.clear()
        return items

    async def _wait(self) -> None:
        if self._taker is not None:
            raise trio.BusyResourceError("another task takes from this feed")
        self._taker = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self._taker = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
