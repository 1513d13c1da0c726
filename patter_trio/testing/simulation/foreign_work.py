"""The mock clock waits for work that takes real time: threads, and connections to peers outside of the test.

A clock that jumps as soon as no task can run would jump while a thread works or while another process prepares an
answer, and every deadline with it. While a task waits for either, the clock is held; each byte and each thread that
ends shows that the work goes on. If nothing comes for :data:`MAX_WAIT_S` seconds of real time, the test fails, and the
message names the task and what it waits for.
"""

import gc
import math
import socket
import time
import types
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final, Protocol, cast

import attrs
import trio
import trio.testing

from patter_trio.net.run_local import run_local

# Theory of operation. trio tells an instrument when it is about to wait for the network, too late to keep the clock
# from jumping in this round: it has decided already that it will. So the instrument does two things: it makes the clock
# jump only after MAX_WAIT_S of idleness, from the next round on, and it wakes the loop, so that this round is not idle.
# All of it is public: the threshold of MockClock, the hooks of an instrument, and a token's run_sync_soon.

# Settled with the kit's contract: a slow answer of a local server is there by then.
MAX_WAIT_S: Final = 2.0
"""Seconds of real time for which the clock is held without a byte, or the end of a thread."""
_OWN_WAITS: Final = 1
"""Tasks of trio itself that wait for a socket: the one that receives what threads hand over."""
# By the names of trio's functions: the frames of a task are what trio shows of it.
_IN_THREAD: Final = "to_thread_run_sync"
_IN_SOCKET: Final = ("wait_readable", "wait_writable")


class _JumpingClock(Protocol):
    autojump_threshold: float


class ForeignWorkError(AssertionError):
    """Work outside of the test took too long; the message names the task, and what it waits for."""


@attrs.define(eq=False)
class _Watched:
    """A block of a test that fails if the work takes too long."""

    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    stuck: str = ""


class _Steps(trio.abc.Instrument):
    """Where tasks wait, and whether the clock is held in vain; only in runs with threads or sockets."""

    def __init__(self, watched: Sequence[_Watched]) -> None:
        self._watched = watched
        self._work: Sequence[str] = ()
        self._idle_since = 0.0
        # A task that has not run since waits where it did: only those that ran are looked at again.
        self._waits: dict[trio.lowlevel.Task, list[FrameType]] = {}

    def waits_of(self, task: trio.lowlevel.Task) -> list[FrameType]:
        """Return the frames in which a task waits for a thread or a socket."""
        known = self._waits.get(task)
        if known is None:
            wanted = (_IN_THREAD, *_IN_SOCKET)
            known = [frame for frame in _frames(task.coro) if frame.f_code.co_name in wanted]
            self._waits[task] = known
        return known

    def waits_for(self, work: Sequence[str]) -> None:
        """Hold the clock in this round of the loop, because of work."""
        self._work = work
        self._idle_since = time.monotonic()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Forget where a task waited; after its last step it does not come back."""
        self._waits.pop(task, None)

    def after_io_wait(self, timeout: float) -> None:
        """Fail the watched blocks if the clock was held in vain."""
        work, self._work = self._work, ()
        # A little less: the system may wake the loop a moment early.
        if not work or timeout < MAX_WAIT_S or time.monotonic() - self._idle_since < MAX_WAIT_S * 0.99:
            return
        for watched in self._watched:
            watched.stuck = "; ".join(work)
            # This gives the loop something to run, so that the clock does not jump after all.
            watched.scope.cancel(reason="work outside of the test took too long")


class _Instrument(trio.abc.Instrument):
    """The instrument of one run, which holds its clock.

    It sees each round of the loop, so it does as little as possible in those in which the clock does not jump.
    """

    def __init__(self, clock: trio.abc.Clock) -> None:
        self.watched: list[_Watched] = []
        self._clock = clock
        self._usual = self._threshold
        self._token = trio.lowlevel.current_trio_token()
        # By the two addresses of a connection: whether its other end belongs to this run does not change.
        self._foreign: dict[tuple[object, object], bool] = {}
        self._steps: _Steps | None = None
        """What else is watched from the first thread or socket on."""

    def before_io_wait(self, timeout: float) -> None:
        """Hold the clock, or let it go, before it would jump."""
        # The whole number 0 if a task can run; before a jump it is the threshold, a float.
        if type(timeout) is int:
            return
        threshold = self._threshold
        # Held already by another, such as a model's thread: see ``net/threads.py``.
        if threshold == math.inf:
            return
        if threshold != MAX_WAIT_S:
            self._usual = threshold
        statistics = trio.lowlevel.current_statistics()
        # Something can run: the clock does not jump in this round.
        if statistics.tasks_runnable:
            return
        # Each once: a connection is read and written, and a coroutine may be found in two variables.
        work = list(dict.fromkeys(self._found(statistics.io_statistics)))
        wanted = MAX_WAIT_S if work else self._usual
        if threshold != wanted:
            self._set(wanted)
            # Wakes the loop, so that this round, whose timeout is decided, ends with something to do.
            self._token.run_sync_soon(_nothing)
        if self._steps is not None:
            self._steps.waits_for(work)

    def release(self) -> None:
        """Let the clock jump as it did before, unless another holds it."""
        if self._threshold == MAX_WAIT_S:
            self._set(self._usual)
        # What runs from here on is not seen.
        if self._steps is not None:
            trio.lowlevel.remove_instrument(self._steps)
            self._steps = None

    @property
    def _threshold(self) -> float:
        return cast("_JumpingClock", self._clock).autojump_threshold

    def _set(self, threshold: float) -> None:
        clock = cast("_JumpingClock", self._clock)
        clock.autojump_threshold = threshold

    def _found(self, waits: object) -> Iterator[str]:
        """Yield each task that waits for work outside of the run, with what it waits for."""
        threads = trio.testing.active_thread_count()
        # First what costs nothing, because this is asked at each step of the clock.
        sockets = getattr(waits, "tasks_waiting_read", 0) + getattr(waits, "tasks_waiting_write", 0) > _OWN_WAITS
        if not threads and not sockets:
            return
        if self._steps is None:
            self._steps = _Steps(self.watched)
            trio.lowlevel.add_instrument(self._steps)
        found = 0
        for task in _tasks(trio.lowlevel.current_root_task()):
            for frame in self._steps.waits_of(task):
                if frame.f_code.co_name == _IN_THREAD:
                    found += 1
                    yield f"the task {task.name} waits for {_function_in(frame)} in a thread"
                elif peer := self._peer(frame.f_locals.get("fd")):
                    yield f"the task {task.name} waits for {peer}"
        # In a coroutine that something unknown drives: the clock is held all the same.
        if threads > found:
            yield "a task waits for a thread"

    def _peer(self, descriptor: Any) -> str:
        """Return the address at the other end of a socket; empty for a listener, or if that end belongs to this run."""
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        # A second object for the same descriptor, which must not close it.
        duplicate = socket.socket(fileno=number)
        try:
            here = duplicate.getsockname()
            with suppress(OSError):
                there = duplicate.getpeername()
                return _shown(there) if self._is_foreign(here, there) else ""
            # Not connected: it listens, or still waits for the answer to its first packet.
            return "" if duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) else "a connection"
        # Another kind of descriptor, such as the end of a child process.
        except OSError:
            return ""
        finally:
            duplicate.detach()

    def _is_foreign(self, here: object, there: object) -> bool:
        if not there:
            return False  # a pair of sockets without names: both ends are in this process
        known = self._foreign.get((here, there))
        if known is None:
            # Where a task of this run has waited at the other end, there is nothing to look for.
            known = (there, here) not in self._foreign and there not in _addresses_of_trio()
            self._foreign[here, there] = known
        return known


def _addresses_of_trio() -> set[object]:
    """Return the own address of each socket that trio has in this process.

    Another library's sockets are not among them: a server in a thread of the test takes real time.
    """
    found: set[object] = set()
    # An instance refers to its class: the collector finds them faster than a loop over all objects would.
    for thing in gc.get_referrers(*_classes_of(trio.socket.SocketType)):
        # By type and not by isinstance, which asks proxies for their class.
        if issubclass(type(thing), trio.socket.SocketType):
            with suppress(OSError):
                found.add(thing.getsockname())
    return found


def _classes_of(base: type) -> list[type]:
    """Return a class and the classes derived from it."""
    derived: list[type] = base.__subclasses__()
    return [base, *(one for each in derived for one in _classes_of(each))]


def _tasks(root: trio.lowlevel.Task | None) -> Iterator[trio.lowlevel.Task]:
    todo = [] if root is None else [root]
    while todo:
        task = todo.pop()
        yield task
        for nursery in task.child_nurseries:
            todo.extend(nursery.child_tasks)


def _frames(coroutine: object) -> Iterator[FrameType]:
    """Yield the frames in which a coroutine waits, from its own to the innermost.

    :meth:`trio.lowlevel.Task.iter_await_frames` ends where a generator drives another coroutine by hand, as
    ``user_code/invoke.py`` does to time the application's steps; this goes on with the coroutines in its variables.
    """
    todo: list[object] = [coroutine]
    # Each once: a variable may hold a coroutine that is waited for further out.
    seen: set[int] = set()
    while todo:
        current = todo.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        frame, inner = _suspended(current)
        if frame is None:
            # An iterator over a coroutine, or a step of an async generator, which show it to nobody else.
            todo.extend(part for part in gc.get_referents(current) if isinstance(part, _AWAITED))
            continue
        yield frame
        todo.extend([inner] if inner is not None else [v for v in frame.f_locals.values() if isinstance(v, _AWAITED)])


def _suspended(awaitable: object) -> tuple[FrameType | None, object]:
    """Return the frame of a coroutine or generator, and what it waits for."""
    match awaitable:
        case types.CoroutineType():
            return awaitable.cr_frame, awaitable.cr_await
        case types.GeneratorType():
            return awaitable.gi_frame, awaitable.gi_yieldfrom
        case types.AsyncGeneratorType():
            return awaitable.ag_frame, awaitable.ag_await
        case _:
            return None, None


async def _coroutine() -> None:
    """Return nothing; its iterator has the type that Python does not name."""


async def _generator() -> AsyncIterator[None]:
    """Yield nothing; its step has the type that Python does not name."""
    yield None


def _unnamed_types() -> tuple[type, type]:
    coroutine, step = _coroutine(), _generator().__anext__()
    iterator = type(coroutine.__await__())
    # Otherwise Python would warn that they were never awaited; of a step, from 3.13 on.
    coroutine.close()
    step.close()  # type: ignore[attr-defined]  # an awaitable in the stubs, and a generator's step in fact
    return iterator, type(step)


_AWAITED: Final = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType, *_unnamed_types())


def _function_in(frame: FrameType) -> str:
    function = frame.f_locals.get("sync_fn")
    # A partial has no name of its own.
    return getattr(function, "__qualname__", None) or repr(function)


def _shown(address: Any) -> str:
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address)


def _nothing() -> None:
    """Give the loop something to do."""


_instrument: Final = trio.lowlevel.RunVar[_Instrument]("patter_trio_foreign_work")


@contextmanager
def foreign_work_awaited() -> Iterator[None]:
    """Hold a mock clock while a task of this run waits for a thread or for a peer outside of it.

    Raises:
        ForeignWorkError: nothing came for :data:`MAX_WAIT_S` seconds.
    """
    clock = trio.lowlevel.current_clock()
    # A real clock waits by itself.
    if not hasattr(clock, "autojump_threshold"):
        yield
        return
    watched = _Watched()
    instrument = run_local(_instrument, lambda: _Instrument(clock))
    # One for all calls of a run, from the first one's begin to the last one's end.
    if not instrument.watched:
        trio.lowlevel.add_instrument(instrument)
    instrument.watched.append(watched)
    try:
        with watched.scope:
            yield
    finally:
        instrument.watched.remove(watched)
        if not instrument.watched:
            trio.lowlevel.remove_instrument(instrument)
            instrument.release()
    if watched.stuck:
        raise ForeignWorkError(
            f"work outside of the test took more than {MAX_WAIT_S:g} s of real time, for which the clock stood still: "
            f"{watched.stuck}"
        )
