"""Announced calls: reported by a webhook, with a media stream that is not connected yet.

A token links webhook and media stream. We make it at the webhook and send it to the carrier in the answer, and the
carrier returns it in the stream's start message. It is valid for one call, once, and for 60 s. Time is an argument
everywhere.
"""

import hmac
import math
import secrets
from collections.abc import Callable
from typing import Final

import attrs

from patter_trio.abc import CallInfo, stream_reference
from patter_trio.errors import PatterError

# Judged: more than any carrier needs, and short enough that a leaked answer is worthless a minute later.
TOKEN_LIFETIME_S: Final = 60.0
"""Seconds for which a token is valid; carriers open the stream within seconds of the webhook's answer."""
# Judged: carriers open the stream within a second or two of the webhook's answer.
CONNECT_TIMEOUT_S: Final = 10.0
"""Seconds for which an announced call is expected to connect. It may do so later, but neither a drain nor the estimate
of the load waits for it any more."""
# Judged. Full: the caller hears busy (``webhooks.py``). Only signed webhooks add entries, so an attacker cannot fill
# it.
MAX_PENDING_CALLS: Final = 1000
"""Largest number of announced calls. Each needs a session when it connects, so one machine could not serve more."""


class TooManyPending(PatterError):
    """The limit of announced calls is reached."""


@attrs.define
class PendingCall:
    """An announced call. ``expires`` is an instant on the server's clock."""

    info: CallInfo
    # Out of the repr, and so out of logs and tracebacks: who has the token can take the call.
    token: str = attrs.field(repr=False)
    expires: float

    @property
    def reference(self) -> str:
        """Our reference of the awaited stream."""
        return stream_reference(self.token)

    @property
    def overdue(self) -> float:
        """The instant from which on the call is not expected to connect any more."""
        return self.expires - TOKEN_LIFETIME_S + CONNECT_TIMEOUT_S


class PendingCalls:
    """The announced calls of one server, by the carrier's call id."""

    # 32 bytes from the system's source of randomness: nobody guesses one within its minute. In hexadecimal digits:
    # Plivo brings back only letters and digits.
    def __init__(
        self,
        *,
        limit: int = MAX_PENDING_CALLS,
        lifetime: float = TOKEN_LIFETIME_S,
        new_token: Callable[[], str] = secrets.token_hex,
    ) -> None:
        self._lifetime = lifetime
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
        """The earliest instant at which a call expires; infinite if there are no calls."""
        # A search through all: there are few, and each is looked at once per announcement, not per frame.
        return min((call.expires for call in self._calls.values()), default=math.inf)

    def expected(self, now: float) -> int:
        """Return the number of calls that are expected to connect: those announced within :data:`CONNECT_TIMEOUT_S`."""
        return sum(now < call.overdue for call in self._calls.values())

    @property
    def last_overdue(self) -> float:
        """The instant at which the last call becomes overdue; minus infinity if there are no calls."""
        return max((call.overdue for call in self._calls.values()), default=-math.inf)

    def announce(self, info: CallInfo, now: float) -> PendingCall:
        """Add a call and give it a token.

        If the carrier repeats a webhook, because it did not receive the first answer, the call gets a new token. Only
        the newest token is valid.

        Raises:
            TooManyPending: the call is new and the limit is reached.
        """
        call = self._calls.get(info.call_id)
        if call is not None:
            call.token, call.expires = self._new_token(), now + self._lifetime
            return call
        if len(self._calls) >= self._limit:
            raise TooManyPending(f"the limit of {self._limit} announced calls is reached")
        call = PendingCall(info, self._new_token(), now + self._lifetime)
        self._calls[info.call_id] = call
        return call

    def claim(self, call_id: str, token: str, now: float) -> PendingCall | None:
        """Remove the call and return it; return None if it was not announced, has expired or has another token."""
        call = self._calls.get(call_id)
        if call is None or now >= call.expires:
            return None
        # Compared in constant time. ``replace``: a lone surrogate from JSON must be a wrong token, not an exception.
        if not hmac.compare_digest(call.token.encode(), token.encode(errors="replace")):
            return None
        # Removed at once: a token works once, even for a peer that read it on the wire.
        return self._calls.pop(call_id)

    def awaits(self, call_id: str, stream: str) -> bool:
        """Return True if the call is announced and the stream with this reference is the one that is awaited."""
        call = self._calls.get(call_id)
        return call is not None and call.reference == stream

    def give_up(self, call_id: str) -> PendingCall | None:
        """Remove a call that will not connect and return it; return None if it is not announced."""
        return self._calls.pop(call_id, None)

    def expire(self, now: float) -> list[PendingCall]:
        """Remove the expired calls, which never connected, and return them."""
        # The same comparison as in ``claim``: at the instant of expiry a call is either claimed or given up, never
        # both.
        over = [call for call in self._calls.values() if now >= call.expires]
        for call in over:
            del self._calls[call.info.call_id]
        return over
