"""Which call a task belongs to: set when the call begins, and inherited by every task that it starts."""

from contextvars import ContextVar

current_call: ContextVar[str] = ContextVar("current_call", default="-")
"""The call's id, ``-`` outside any call. Log lines of code that knows no call carry it."""
