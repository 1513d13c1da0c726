"""The calls of the browser phone: announced at the request of a page of this server instead of by a webhook.

They have a call server of their own behind the same port, with :class:`~patter_trio.carriers.browser.BrowserPhone` as
its carrier, so that nothing in a call needs to know two carriers.
"""

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from patter_trio.abc import CallInfo, CallTicket
from patter_trio.errors import PatterError
from patter_trio.server.context import ServerContext

MAX_PAGE_CALLS: Final = 8
"""Most calls at once from pages, announced ones included: a developer and a few colleagues. Judged."""
PAGE_CALLER: Final = "+15550100001"
"""The number of callers from pages, from the range for fiction, as that of simulated callers."""
ID_BYTES: Final = 16
"""Bytes of randomness in a call's id, so that nobody guesses the path of a stream."""

_log = logging.getLogger("patter_trio.server")


class LineBusy(PatterError):
    """The refusal of a call from a page."""


class AnnouncedPageCalls:
    """Announces calls from pages, while a server serves them.

    Args:
        callee: the number that the callers dial; empty: the phone has none.
    """

    def __init__(self, callee: str = "") -> None:
        self._callee = callee
        self._servers: list[ServerContext] = []

    def __repr__(self) -> str:
        return f"<AnnouncedPageCalls of {len(self._servers)} servers>"

    @contextmanager
    def served_by(self, server: ServerContext) -> Iterator[None]:
        """Let a server take the calls, for the time of the block."""
        self._servers.append(server)
        try:
            yield
        finally:
            self._servers.remove(server)

    def announce(self) -> CallTicket:
        """Announce a call, and return the ticket for its stream.

        Raises:
            LineBusy: the caller hears busy.
        """
        if not self._servers:
            raise LineBusy("the server takes no calls yet")
        server = self._servers[-1]
        # As readable as a carrier's: the letters say where it comes from.
        call_id = f"BR{secrets.token_hex(ID_BYTES)}"
        if refusal := server.refusal(call_id):
            _log.warning("call %s: hears busy: %s", call_id, refusal)
            raise LineBusy(refusal)
        info = CallInfo(call_id, PAGE_CALLER, self._callee, "inbound", provider=server.carrier.name)
        call = server.pending.announce(info, trio.current_time())
        _log.info("call %s: announced, from a page", call_id)
        server.on_announced(call)
        return CallTicket(call_id, call.token)
