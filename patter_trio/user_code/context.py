"""The call that a task belongs to: set when the call begins, inherited by every task that it starts."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

# Shown in log lines in the place of an id, so that they all have the same form.
NO_CALL: Final = "-"
current_call: ContextVar[str] = ContextVar("current_call", default=NO_CALL)
"""The call's id, or :data:`NO_CALL` outside a call. Code that does not know its call puts it into log lines."""


def no_exit(why: str) -> None:
    """End nothing: the code does not run for a call."""


exit_call: ContextVar[Callable[[str], None]] = ContextVar("exit_call", default=no_exit)
"""Ends the call, because code of the application raised SystemExit for it; its argument is the reason for the log."""
