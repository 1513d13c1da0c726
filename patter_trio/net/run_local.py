"""Values that exist once in each trio run, such as a client that all calls share."""

from collections.abc import Callable
from typing import TypeVar

from trio.lowlevel import RunVar

T = TypeVar("T")


def run_local(var: RunVar[T], factory: Callable[[], T]) -> T:
    """Return the variable's value in this trio run; on first use, create it with ``factory``."""
    try:
        return var.get()
    # Safe without a lock: a trio run has one thread, and ``factory`` does not await.
    except LookupError:
        value = factory()
        var.set(value)
        return value
