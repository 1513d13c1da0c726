"""What a fake server of a vendor has to be, so that the conformance kit can use it.

A fake is started by an async context manager without arguments and gives a :class:`FakeVendor`; it listens on loopback,
by number (``127.0.0.1``: a name would be looked up in a thread). Leaving the context ends it and all its connections.
When it is well it answers everything: a flush of audio by final words, a question by at least three tokens, a text by
its speech; the same question always by the same. Answers are paced, so that one that was just begun lasts for another
0.1 s: there has to be something to stop.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Any, Final, Protocol

LEFT: Final = "left"
"""What :attr:`FakeVendor.seen` has for a connection that its client ended."""


class Misbehaviour(StrEnum):
    """In which ways a vendor misbehaves."""

    UNAUTHORIZED = "401"
    """Answers status 401, or what its protocol has for it."""
    RATE_LIMITED = "429"
    """Answers status 429, or what its protocol has for it."""
    UNAVAILABLE = "503"
    """Answers status 503, or what its protocol has for it."""
    HALF_OPEN = "half-open"
    """Takes the connection and all that is sent, and says nothing at all, not even to a handshake."""
    STALLED = "stalled"
    """Begins its answer and never goes on; the connection stands."""
    CLOSED = "closed"
    """Begins its answer and ends the connection."""
    GARBAGE = "garbage"
    """Begins its answer and goes on with what its protocol does not allow."""
    UNKNOWN = "unknown"
    """Sends messages and fields that are not in its documentation among those that are."""
    SLOW = "slow"
    """Is late: 0.2 s before each message."""


class FakeVendor(Protocol):
    """A fake vendor that is running."""

    @property
    def address(self) -> str:
        """The URL that a provider is given instead of the vendor's, such as ``ws://127.0.0.1:40123``."""

    @property
    def seen(self) -> Sequence[Any]:
        """What it was sent, oldest first, and :data:`LEFT` each time that a client ended a connection."""

    def misbehave(self, kind: str) -> None:
        """Misbehave from now on as :class:`Misbehaviour` says; with an empty ``kind``, be well again.

        Raises:
            ValueError: it cannot misbehave like that.
        """


ServeVendor = Callable[[], AbstractAsyncContextManager[FakeVendor]]
"""Starts a fake vendor."""
