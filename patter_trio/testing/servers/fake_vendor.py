"""The interface of a fake vendor server, as the conformance kit uses it.

An async context manager without arguments starts a fake and yields a :class:`FakeVendor`. The fake listens on loopback,
under the address ``127.0.0.1`` (a name would be looked up in a thread). Leaving the context ends it and all its
connections. While it works normally it answers everything: a flush of audio with final words, a question with at least
three tokens, a text with its speech; the same question always in the same way. Answers are paced, so that an answer
that has just begun lasts at least 0.1 s more: otherwise there would be nothing to stop.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Any, Final, Protocol

CLIENT_LEFT_ENTRY: Final = "left"
"""The entry of :attr:`FakeVendor.seen` for a connection that its client ended."""


class Misbehaviour(StrEnum):
    """The ways in which a vendor can misbehave."""

    UNAUTHORIZED = "401"
    """Answer status 401, or the equivalent in its protocol."""
    RATE_LIMITED = "429"
    """Answer status 429, or the equivalent in its protocol."""
    UNAVAILABLE = "503"
    """Answer status 503, or the equivalent in its protocol."""
    HALF_OPEN = "half-open"
    """Accept the connection and all data, and send nothing at all, not even an answer to the handshake."""
    STALLED = "stalled"
    """Begin an answer and never continue; the connection stays open."""
    CLOSED = "closed"
    """Begin an answer and end the connection."""
    GARBAGE = "garbage"
    """Begin an answer and continue with data that its protocol does not allow."""
    UNKNOWN = "unknown"
    """Send undocumented messages and fields among the documented ones."""
    # Within every deadline of a provider, and longer than any latency that a fake has by itself.
    SLOW = "slow"
    """Be late: 0.2 s before each message."""


class FakeVendor(Protocol):
    """A running fake vendor."""

    @property
    def address(self) -> str:
        """The URL that a provider gets instead of the vendor's, such as ``ws://127.0.0.1:40123``."""

    @property
    def seen(self) -> Sequence[Any]:
        """The received data, oldest first, and :data:`CLIENT_LEFT_ENTRY` for each connection that a client ended."""

    def misbehave(self, kind: str) -> None:
        """Misbehave in this way from now on (see :class:`Misbehaviour`); an empty ``kind`` restores normal behaviour.

        Raises:
            ValueError: this fake cannot misbehave in that way.
        """


ServeVendor = Callable[[], AbstractAsyncContextManager[FakeVendor]]
"""A function that starts a fake vendor."""
