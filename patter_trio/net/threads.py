"""The only way into a thread.

Bare threads cause four problems, which are solved here once:

* *Too many*: inference that saturates every core makes the event loop late (measured: 90 ms with four threads on two
  cores, 5 ms with one core left to the loop). Per trio run, all threads of models share one limiter, of one thread less
  than there are cores. Threads of the application wait rather than compute, and may hang; each call has a limiter of
  its own for them, so that neither starves the models, trio's lookups of names, or other calls.
* *Hang-up*: a call must end at once, even while a model works for it. The thread is abandoned; it keeps its place in
  the limiter until it has really ended, so that abandoned work still counts as load.
* *Virtual time*: a clock that jumps when every task is blocked would jump while a thread works, and every timeout with
  it. Such a clock is held while any thread is needed, and released after the last one.
* *Exit*: an interpreter that ends while an abandoned thread is inside a model's runtime kills that thread in the middle
  of C++ code, which aborts the process. So the exit waits for such threads, for a few seconds at most.
"""

import atexit
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Protocol, TypeVar, TypeVarTuple, cast

import attrs
import trio

from patter_trio.net.run_local import run_local

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _JumpingClock(Protocol):
    """The part of :class:`trio.testing.MockClock` that is needed here."""

    autojump_threshold: float


@attrs.define
class _Hold:
    """The number of threads that hold the clock, and the threshold to restore."""

    count: int = 0
    threshold: float = math.inf


_limiter: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("patter_trio_threads")
_hold: trio.lowlevel.RunVar[_Hold] = trio.lowlevel.RunVar("patter_trio_clock_hold")


async def run_in_thread(function: Callable[[*Ts], T], *args: *Ts) -> T:
    """Return ``function(*args)``, run in a thread as soon as one is free.

    Cancellation takes effect at once and abandons the thread: the function must have no effect that matters once nobody
    waits for its result. Its exceptions are raised here.
    """
    _wait_at_exit()
    # Held while waiting for a free thread, too: that wait depends on real time.
    with clock_held():
        # The limiter is ours, not trio's: its places stay taken by abandoned threads until they have ended.
        return await trio.to_thread.run_sync(_at_work, function, *args, abandon_on_cancel=True, limiter=_threads())


async def run_in_own_thread(function: Callable[..., T], limiter: trio.CapacityLimiter) -> T:
    """Return ``function()``, run in a thread of the application's code, as soon as ``limiter`` allows.

    This is for code that waits rather than computes: a slow database must not keep the STT provider from its thread.
    Nor may it keep trio from its own threads, in which it looks up the names of servers: a thread that hangs keeps its
    place until it has ended. So trio's own limiter is never used.
    """
    with clock_held():
        # ``abandon_on_cancel``: a call that has ended must not wait for the application's database.
        return await trio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=limiter)


def waiting() -> int:
    """Return how many tasks of this run wait for a thread: above 0, the machine is overloaded."""
    return _threads().statistics().tasks_waiting


def available() -> int:
    """Return how many threads are free; optional work is left out at 0."""
    return int(_threads().available_tokens)


def _at_work(function: Callable[[*Ts], T], *args: *Ts) -> T:
    # Counted inside the thread: an abandoned thread still counts until it has really ended.
    _working.enter()
    try:
        return function(*args)
    finally:
        _working.leave()


@attrs.define
class _Working:
    """Counter of the threads of this process that are running a model."""

    _count: int = 0
    _changed: threading.Condition = attrs.field(factory=threading.Condition)

    def enter(self) -> None:
        with self._changed:
            self._count += 1

    def leave(self) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait_for_the_last(self) -> None:
        with self._changed:
            # Bounded: a model that hangs must not keep the process from ending.
            self._changed.wait_for(lambda: self._count == 0, timeout=_EXIT_WAIT_S)


# Judged: five times as long, for a machine that is busy.
_EXIT_WAIT_S = 5.0
"""Longest wait at exit, in seconds; the longest single inference takes about one."""
_working = _Working()


@cache
def _wait_at_exit() -> None:
    """Make the interpreter's exit wait for working threads, from the first one on."""
    # Once per process (``cache``), and only after the first thread: a program without models registers nothing.
    atexit.register(_working.wait_for_the_last)


def _threads() -> trio.CapacityLimiter:
    return run_local(_limiter, lambda: trio.CapacityLimiter(max(1, _cores() - 1)))


def _cores() -> int:
    # A container often has fewer cores than the machine; not every platform can report it.
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@contextmanager
def clock_held() -> Iterator[None]:
    """Keep a clock that jumps from jumping while a thread works."""
    clock = trio.lowlevel.current_clock()
    # By attribute, not by type: ``trio.testing`` is not imported in production, and the application may have a clock of
    # its own that jumps.
    if not hasattr(clock, "autojump_threshold"):
        yield
        return
    jumping = cast("_JumpingClock", clock)
    hold = run_local(_hold, _Hold)
    # Only the first holder saves the threshold, and only the last one restores it.
    if hold.count == 0:
        hold.threshold, jumping.autojump_threshold = jumping.autojump_threshold, math.inf
    hold.count += 1
    try:
        yield
    finally:
        hold.count -= 1
        if hold.count == 0:
            jumping.autojump_threshold = hold.threshold
