"""A bounded hand-over between two tasks of a call that never delays the sender: when full, it drops the oldest item."""

from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class DropOldestChannel(Generic[T]):
    """A memory channel of at most ``bound`` items.

    Losing old speech is better than delaying marks, hang-ups and new speech.
    """

    def __init__(self, bound: int) -> None:
        self._bound = bound
        # Lists, because items that wait for one that wakes the task cross together: a channel costs by the send. One
        # more than the bound, because _buffered can miss one list while a cancellation is on its way to the task.
        self._send, self._receive = trio.open_memory_channel[list[T]](bound + 1)
        self._buffered = 0
        """Lists in the channel. Counted here, because asking the channel costs more than sending through it."""
        self._held: list[T] = []
        """Items that must not wake the task that waits. Empty unless one does, and then the channel is empty."""
        self._taking = False
        """A task waits in :meth:`take`, or was woken there and has not run yet."""
        self._waiting = False
        """That task has not been woken."""
        self.dropped: int = 0

    def __repr__(self) -> str:
        return f"<DropOldestChannel {len(self._held) + self._buffered}/{self._bound}, {self.dropped} dropped>"

    @property
    def handing_over(self) -> bool:
        """True while items have left the channel for a task that was woken and has not run yet."""
        return self._taking and not self._waiting

    @property
    def waiting(self) -> int:
        """The number of items that nobody has taken yet."""
        return len(self._held) + self._buffered

    def put(self, item: T, *, wake: bool = True) -> None:
        """Add an item; drop the oldest when full. With ``wake`` false, the item does not wake a task that waits."""
        if not self._waiting:
            self._buffer(item)
            return
        # The channel is empty while a task waits, so the bound applies to the held items alone.
        if len(self._held) == self._bound:
            # Costs a move of the list, but only in a queue that is already losing audio.
            del self._held[0]
            self.dropped += 1
        self._held.append(item)
        if wake:
            self._waiting = False
            self._send.send_nowait(self._held)  # straight to the task, so it does not count as buffered
            self._held = []

    def _buffer(self, item: T) -> None:
        if self._buffered >= self._bound:
            self.dropped += len(self._receive.receive_nowait())
            self._buffered -= 1
        self._send.send_nowait([item])
        self._buffered += 1

    async def take(self) -> list[T]:
        """Return everything that is there, oldest first; if nothing is, wait for an item that wakes.

        Raises:
            trio.BusyResourceError: another task waits.
        """
        if self._buffered:
            # Before anything is taken: a task that is cancelled here leaves all of it to the next one.
            await trio.lowlevel.checkpoint()
            return self.take_nowait()
        if self._taking:
            raise trio.BusyResourceError("Only one task at a time can wait for a channel's items; another one waits.")
        self._taking = self._waiting = True
        try:
            items = await self._receive.receive()
        except trio.Cancelled:
            # What was put after the cancellation and before this task learnt of it is in the channel, or was held.
            self._buffered = self._receive.statistics().current_buffer_used
            for item in self.take_nowait():
                self._buffer(item)
            raise
        finally:
            self._taking = self._waiting = False
        return items + self.take_nowait() if self._buffered else items

    def take_nowait(self) -> list[T]:
        """Return everything that is there, oldest first; it may be nothing.

        See :attr:`handing_over` for what is not.
        """
        items: list[T] = []
        for _ in range(self._buffered):
            items += self._receive.receive_nowait()
        self._buffered = 0
        items += self._held
        self._held = []
        return items
