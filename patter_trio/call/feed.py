"""A bounded hand-over between two tasks of a call that never holds up the first: when full, the oldest goes."""

from collections import deque
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class Feed(Generic[T]):
    """A queue of at most ``bound`` items. Losing old speech is better than delaying marks, hang-ups and new speech."""

    def __init__(self, bound: int) -> None:
        self._items: deque[T] = deque(maxlen=bound)
        self._there = trio.Event()
        self.dropped: int = 0

    def __repr__(self) -> str:
        return f"<Feed {len(self._items)}/{self._items.maxlen}, {self.dropped} dropped>"

    def put(self, item: T) -> None:
        """Add an item; drops the oldest when full."""
        if len(self._items) == self._items.maxlen:
            self.dropped += 1
        self._items.append(item)
        self._there.set()

    async def take(self) -> list[T]:
        """Return everything that is there, at least one item, oldest first."""
        await self._there.wait()
        items = list(self._items)
        self._items.clear()
        self._there = trio.Event()
        return items
