"""The calls that pages hold in text: one response is one call, and a ticket lets its page type.

``POST /phone/texts`` answers with a stream of the call's events (``server/event_streams.py``). The first one has the
type ``ticket``. The call lasts as long as the page reads: a page that is closed hangs up.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

from patter_trio.abc import EventRecord, EventStream, HoldPageText, PageTextCall
from patter_trio.errors import CallEnded, PatterError

MAX_TEXT_CALLS: Final = 8
"""Most calls in text from pages at once, as many as by voice (``server/page_calls.py``)."""
# Judged: 128 bits, which nobody guesses while a call lasts.
TICKET_BYTES: Final = 16
"""Bytes of randomness in a ticket."""


class TextCallsOfPages:
    """The live calls in text of a server's pages.

    Args:
        hold: begins a call.
    """

    def __init__(self, hold: HoldPageText) -> None:
        self._hold = hold
        self._calls: dict[str, tuple[str, PageTextCall]] = {}
        """By id: the ticket, and the call."""
        # Apart from the calls: one that is being opened counts, too.
        self._taken = 0

    def __repr__(self) -> str:
        return f"<TextCallsOfPages {self._taken} of {MAX_TEXT_CALLS}>"

    def refusal(self) -> str:
        """Return the reason to refuse a call; empty: it may begin."""
        return f"{MAX_TEXT_CALLS} calls in text go on" if self._taken >= MAX_TEXT_CALLS else ""

    @asynccontextmanager
    async def held(self) -> AsyncIterator[EventStream]:
        """Hold a new call for the time of a block; yield its events, the ticket or a refusal first."""
        # Once more: between the answer's head and this, others may have begun.
        if why := self.refusal():
            yield _Announced(_record("refused", "", {"error": why}))
            return
        self._taken += 1
        try:
            async with AsyncExitStack() as stack:
                try:
                    call = await stack.enter_async_context(self._hold())
                except PatterError as error:
                    yield _Announced(_record("refused", "", {"error": str(error)}))
                    return
                ticket = secrets.token_hex(TICKET_BYTES)
                self._calls[call.call_id] = (ticket, call)
                # Taken out before the call is closed: nobody can type into one that ends.
                stack.callback(self._calls.pop, call.call_id)
                yield _Announced(_record("ticket", call.call_id, {"call_id": call.call_id, "ticket": ticket}), call)
        finally:
            self._taken -= 1

    def call(self, call_id: str, ticket: str) -> PageTextCall:
        """Return a live call of the page that has its ticket.

        Raises:
            CallEnded: there is none, or the ticket is another call's.
        """
        expected, call = self._calls.get(call_id, ("", None))
        # As bytes, because a ticket in a request may have any characters.
        if call is None or not secrets.compare_digest(expected.encode(), ticket.encode("utf-8", "surrogatepass")):
            raise CallEnded("no such call in text is live")
        return call


def _record(kind: str, call_id: str, data: dict[str, Any]) -> EventRecord:
    # Numbered 0, because the first event of the call itself has the number 1.
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return EventRecord(seq=0, call_id=call_id, type=kind, at_ms=0.0, time=now, data=data)


class _Announced:
    """A record, and the events behind it; an iterator and no generator, so that it may be left open."""

    def __init__(self, first: EventRecord, call: PageTextCall | None = None) -> None:
        self._first: EventRecord | None = first
        self._call = call

    @property
    def dropped(self) -> int:
        return 0 if self._call is None else self._call.dropped

    def __aiter__(self) -> "_Announced":
        return self

    async def __anext__(self) -> EventRecord:
        first, self._first = self._first, None
        if first is not None:
            return first
        if self._call is None:
            raise StopAsyncIteration
        return await anext(self._call)
