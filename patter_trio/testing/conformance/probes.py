"""Probes of a trio run from outside: its tasks, sockets and memory channels, and each step that a task takes."""

import contextlib
import gc
import os
from collections.abc import Collection, Iterator
from typing import Final

import trio

_CHANNELS: Final = (trio.MemorySendChannel, trio.MemoryReceiveChannel)


def tasks_but(nurseries: Collection[trio.Nursery]) -> set[trio.lowlevel.Task]:
    """Return every task of this run except those below the given nurseries."""
    # From the root, not from the task of the check: a provider may start system tasks, which outlive every nursery.
    root = trio.lowlevel.current_root_task()
    return set() if root is None else {root, *_below(root, nurseries)}


def _below(task: trio.lowlevel.Task, but: Collection[trio.Nursery]) -> Iterator[trio.lowlevel.Task]:
    for nursery in task.child_nurseries:
        # With everything below: a connection's tasks are in nurseries of the fake's tasks.
        if nursery not in but:
            for child in nursery.child_tasks:
                yield child
                yield from _below(child, but)


def nurseries_of_this_task() -> list[trio.Nursery]:
    """Return the nurseries that are open in the current task."""
    return list(trio.lowlevel.current_task().child_nurseries)


def open_sockets() -> int:
    """Return the number of sockets that this process has open; 0 on a system without ``/proc``."""
    count = 0
    # No /proc outside of Linux; there the check counts nothing and passes.
    with contextlib.suppress(OSError):
        for entry in os.scandir("/proc/self/fd"):
            # A descriptor may have been closed since it was listed.
            with contextlib.suppress(OSError):
                count += os.readlink(entry.path).startswith("socket:")  # noqa: PTH115 (the text of a link, not a path)
    return count


def live_channels() -> int:
    """Return the number of ends of memory channels that are still referenced."""
    # Unreachable ends that wait for the collector are not leaks.
    gc.collect()
    # By the garbage collector's list, because trio keeps none. Channels are the sign of a
    # session that something holds on to.
    return sum(isinstance(thing, _CHANNELS) for thing in gc.get_objects())


class Steps(trio.abc.Instrument):
    """An instrument that counts the steps of the tasks below a nursery, and cancels a scope at the end of one."""

    def __init__(self, nursery: trio.Nursery, scope: trio.CancelScope, at: int) -> None:
        self._nursery = nursery
        self._scope = scope
        self._at = at
        self.count: int = 0
        self.cancelled_at: float | None = None
        """The instant of the cancellation on trio's clock."""

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count the step if its task is below the nursery."""
        if self._is_ours(task):
            self.count += 1
            # After the step, not in it: the scope is cancelled while the task is blocked, as by a caller who hangs up.
            if self.count == self._at:
                self.cancelled_at = trio.current_time()
                self._scope.cancel(reason="the conformance kit cancels at each step in turn")

    def _is_ours(self, task: trio.lowlevel.Task) -> bool:
        # Upwards, because tasks come and go with each step; a set of them would be out of date.
        above = task.parent_nursery
        while above is not None:
            if above is self._nursery:
                return True
            above = above.parent_task.parent_nursery
        return False
