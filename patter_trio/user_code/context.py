"""Which call a task belongs to: set when the call begins, and inherited by every task that it starts."""

from contextvars import ContextVar
from typing import Final

NO_CALL: Final = "-"
current_call: ContextVar[str] = ContextVar("current_call", default=NO_CALL)
"""The call's id, :data:`NO_CALL` outside any call. Log lines of code that knows no call carry it."""
