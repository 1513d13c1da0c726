"""Calls that a page of our own begins, and the ticket that the browser phone gets for each."""

from typing import Protocol

import attrs


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
