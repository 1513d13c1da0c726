"""The call that a task belongs to: set when the call begins, inherited by every task that it starts."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

import trio

from patter_trio.net.run_local import run_local

# Shown in log lines in the place of an id, so that they all have the same form.
NO_CALL: Final = "-"
current_call: ContextVar[str] = ContextVar("current_call", default=NO_CALL)
"""The call's id, or :data:`NO_CALL` outside a call. Code that does not know its call puts it into log lines."""


MAX_THREADS: Final = 8
"""Threads that one call's code may occupy at once. A thread that hangs keeps its place until it ends."""
threads_of_call: ContextVar[trio.CapacityLimiter | None] = ContextVar("threads_of_call", default=None)
"""The limiter of the threads in which the application's code runs for the call; None outside a call."""
_threads_of_none: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("patter_trio_user_threads")


def threads_of_user_code() -> trio.CapacityLimiter:
    """Return the limiter of the threads in which the application's code runs, in this task."""
    return threads_of_call.get() or run_local(_threads_of_none, new_thread_limiter)


def new_thread_limiter() -> trio.CapacityLimiter:
    """Return the limiter for the threads of one call's code."""
    # Judged: several tools at once, and callbacks beside them. For each call, because threads of one that hang must not
    # keep another one waiting.
    return trio.CapacityLimiter(MAX_THREADS)


def no_exit(why: str) -> None:
    """End nothing: the code does not run for a call."""


exit_call: ContextVar[Callable[[str], None]] = ContextVar("exit_call", default=no_exit)
"""Ends the call, because code of the application raised SystemExit for it; its argument is the reason for the log."""
