"""Calls that a page of our own begins: by voice, with a ticket for each, and in text."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import attrs

from patter_trio.abc._windows import EventStream


@attrs.frozen
class CallTicket:
    """The right to open the media stream of one announced call, once, within 60 s.

    Attributes:
        call_id: the id of the call.
        ticket: the one-time token that the start message of the stream must have.
    """

    call_id: str
    # Out of the repr, and so out of logs: who has the ticket can take the call.
    ticket: str = attrs.field(repr=False)


class PageCalls(Protocol):
    """The source of tickets for calls of the browser phone."""

    def announce(self) -> CallTicket:
        """Announce a call from a page, and return the ticket for its stream.

        Raises:
            PatterError: the caller hears busy; the message is the reason.
        """


class PageTextCall(EventStream, Protocol):
    """A call that a page holds in text: a stream of its events, which ends with the call."""

    @property
    def call_id(self) -> str:
        """The id of the call."""

    def say(self, text: str) -> None:
        """Say a text as the caller.

        Raises:
            PatterError: the call is over, or the text is blank.
        """

    async def press(self, keys: str) -> None:
        """Press keys as the caller.

        Raises:
            PatterError: the call is over, or one of them is not a key of a telephone.
        """

    def hang_up(self) -> None:
        """Hang up as the caller; do nothing if the call is over."""


HoldPageText = Callable[[], AbstractAsyncContextManager[PageTextCall]]
"""Holds a new call in text for the time of a block, whose end hangs up; raises a PatterError if there can be none."""
