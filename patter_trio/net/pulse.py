"""An event that happens again and again, for tasks that wait for a condition."""

import trio


class Pulse:
    """Wake-up call for the tasks that wait at the moment of firing.

    A pulse is not kept: a task checks its condition, and waits if it does not hold, with no await in between. Where the
    check and the wait cannot be that close, a :class:`trio.Event` that its one waiter renews is right.
    """

    def __init__(self) -> None:
        self._next: trio.Event | None = None  # made by the first waiter, so that firing costs nothing when none waits

    def __repr__(self) -> str:
        waiting = 0 if self._next is None else self._next.statistics().tasks_waiting
        return f"<Pulse, {waiting} waiting>"

    def fire(self) -> None:
        """Wake all tasks that wait."""
        if self._next is not None:
            self._next.set()
            self._next = None

    async def wait(self) -> None:
        """Wait until the pulse fires next."""
        if self._next is None:
            self._next = trio.Event()
        await self._next.wait()
