"""Calls that were announced by a webhook and whose media stream has not come yet.

What joins the two is a token: made at the webhook, given to the carrier in its answer, and handed in at the stream's
start. It is bound to one call, works once and lives for a minute. Time is an argument everywhere.
"""

import hmac
import math
import secrets
from collections.abc import Callable
from typing import Final

import attrs

from patter_trio.abc import CallInfo
from patter_trio.errors import PatterError

TOKEN_LIFETIME_S: Final = 60.0
"""How long a stream may take to come; carriers open it within seconds of the webhook's answer."""
MAX_PENDING_CALLS: Final = 1000
"""Calls announced within a minute; every one that is due costs a session when it connects, so more would not be served."""


class TooManyPending(PatterError):
    """As many calls are announced as may be."""


@attrs.define
class PendingCall:
    """A call that was announced. ``expires`` is on the server's clock."""

    info: CallInfo
    token: str = attrs.field(repr=False)
    expires: float


class PendingCalls:
    """The announced calls of one server, by the carrier's call id."""

    def __init__(self, *, limit: int = MAX_PENDING_CALLS, new_token: Callable[[], str] = secrets.token_urlsafe) -> None:
        self._calls: dict[str, PendingCall] = {}
        self._limit = limit
        self._new_token = new_token

    def __repr__(self) -> str:
        return f"<PendingCalls {len(self)} of {self._limit}>"

    def __len__(self) -> int:
        return len(self._calls)

    def __contains__(self, call_id: str) -> bool:
        return call_id in self._calls

    @property
    def next_expiry(self) -> float:
        """When the first of them is due to be given up; infinite when there is none."""
        return min((call.expires for call in self._calls.values()), default=math.inf)

    def announce(self, info: CallInfo, now: float) -> PendingCall:
        """Take a call in and give it a token.

        A webhook that is tried again renews the token of the call that is there already: the carrier did not see the
        first answer, and only the newest token is good.

        Raises:
            TooManyPending: the call is new and there is no room.
        """
        call = self._calls.get(info.call_id)
        if call is not None:
            call.token, call.expires = self._new_token(), now + TOKEN_LIFETIME_S
            return call
        if len(self._calls) >= self._limit:
            raise TooManyPending(f"{self._limit} calls are announced and not connected")
        call = PendingCall(info, self._new_token(), now + TOKEN_LIFETIME_S)
        self._calls[info.call_id] = call
        return call

    def claim(self, call_id: str, token: str, now: float) -> PendingCall | None:
        """Return the call and forget it; None when it is not announced, the token is another's or its time is over."""
        call = self._calls.get(call_id)
        if call is None or now >= call.expires:
            return None
        if not hmac.compare_digest(call.token.encode(), token.encode(errors="replace")):
            return None
        return self._calls.pop(call_id)

    def expire(self, now: float) -> list[PendingCall]:
        """Forget the calls whose time is over, and return them: they never connected."""
        over = [call for call in self._calls.values() if now >= call.expires]
        for call in over:
            del self._calls[call.info.call_id]
        return over
