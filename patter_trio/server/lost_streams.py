"""The live calls of a server whose media streams are lost, until they go on over others.

The call itself waits (``call/streams.py``); this module has the carrier open the next stream, with a one-time token as
for the first one. A carrier that asks how a call continues gets a document; one that follows requests gets a request,
again until a stream has come. The old token stays used. Each wait has one token, which opens one stream: a stream that
takes its time is accepted, whatever was requested or asked meanwhile.
"""

import logging
import math
import sys
from collections.abc import Callable
from typing import Final

import attrs
import trio

from patter_trio.abc import CallInfo, Carrier
from patter_trio.call.leg import CALLER_HUNG_UP
from patter_trio.call.streams import RECONNECT_TIMEOUT_S
from patter_trio.errors import CallEnded, PatterError
from patter_trio.server.carrier_border import carrier_border
from patter_trio.server.pending import PendingCall, PendingCalls

# Judged: a carrier opens a stream within a second; what lies between us and it may take longer to start again. Twice as
# long each time, because the next request may end what the carrier has begun: a stream that takes 3 s comes as well.
RETRY_WAIT_S: Final = 2.0
"""Seconds after the first request for a stream that has not come; then it is requested again."""
FAILED_WAIT_S: Final = 0.5
"""The same after the carrier has reported that it could not open the stream."""
# Judged: the way of a webhook. A carrier that gets no answer says to the caller that something went wrong.
RETURN_TIMEOUT_S: Final = 1.0
"""Seconds after the end of a call in which a carrier may still ask how it continues; a drain waits for that."""

_log = logging.getLogger("patter_trio.call")


@attrs.define(eq=False)
class _LostStream:
    stream: str
    """The reference of the stream that is lost."""
    awaited: PendingCall
    on_over: Callable[[str], None]
    """Called with the outcome if the carrier says that the call is over."""
    asking: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    failed: trio.Event = attrs.field(factory=trio.Event)


class LostStreams:
    """The calls of one server that wait for another stream.

    Args:
        carrier: opens the streams.
        stream_url: returns the URL of a call's stream.
        nursery: runs the requests; it outlives the calls.
        on_return: called when the carrier has asked about a call that is over.
    """

    def __init__(
        self,
        carrier: Carrier,
        stream_url: Callable[[str], str],
        nursery: trio.Nursery,
        on_return: Callable[[], None] = lambda: None,
    ) -> None:
        self._carrier = carrier
        self._stream_url = stream_url
        self._nursery = nursery
        self._on_return = on_return
        self._lost: dict[str, _LostStream] = {}
        self._returns: dict[str, float] = {}
        """The calls that we ended, each with the instant until which the carrier may ask how it continues."""
        # Bounded by the live calls: each has one token at most.
        self._tokens = PendingCalls(limit=sys.maxsize, lifetime=RECONNECT_TIMEOUT_S)

    def __repr__(self) -> str:
        return f"<LostStreams {len(self._lost)}>"

    def __contains__(self, call_id: str) -> bool:
        return call_id in self._lost

    def begin(self, info: CallInfo, stream: str, on_over: Callable[[str], None]) -> None:
        """Note that a live call has lost this stream, and request another one from a carrier that follows requests."""
        # The carrier's own word about the loss may be faster than the socket's.
        if info.call_id in self._lost:
            return
        awaited = self._tokens.announce(info, trio.current_time())
        lost = self._lost[info.call_id] = _LostStream(stream, awaited, on_over)
        if self._carrier.acts_on_request:
            self._nursery.start_soon(self._request, lost)

    def over(self, call_id: str) -> None:
        """Forget a call, which has another stream or is over."""
        self._tokens.give_up(call_id)
        lost = self._lost.pop(call_id, None)
        if lost is not None:
            lost.asking.cancel(reason="the call waits for no stream")

    def hung_up(self, call_id: str, now: float) -> None:
        """Expect that the carrier asks how a call continues that we have ended, if it is one that asks."""
        # It may have asked already: its webhook is faster than the end of a call.
        if self._carrier.hang_up_document() and call_id not in self._returns:
            self._expect(call_id, now + RETURN_TIMEOUT_S, now)

    def returned(self, call_id: str, now: float) -> None:
        """Note that the carrier has asked about a call that is over, or about to end."""
        self._expect(call_id, now, now)
        self._on_return()

    def _expect(self, call_id: str, until: float, now: float) -> None:
        # Those that are over as well for a while: a call that has returned may end behind that.
        self._returns = {call: until for call, until in self._returns.items() if now < until + RETURN_TIMEOUT_S}
        self._returns[call_id] = until

    @property
    def last_return(self) -> float:
        """The instant until which a carrier may ask about a call that is over; minus infinity without one."""
        return max(self._returns.values(), default=-math.inf)

    def document(self, call_id: str, stream: str) -> str:
        """Return the document that has the carrier open another stream of a call, the same throughout a wait.

        Empty: the call waits for none, or ``stream`` is neither the lost one nor the awaited one, which did not open.
        """
        lost = self._lost.get(call_id)
        if lost is None or stream not in (lost.stream, lost.awaited.reference):
            return ""
        return self._carrier.connect(*self._order(lost))

    def failed(self, call_id: str) -> None:
        """Note that the carrier could not open a stream."""
        lost = self._lost.get(call_id)
        if lost is not None:
            lost.failed.set()

    def claim(self, call_id: str, token: str) -> CallInfo | None:
        """Return the facts about the call whose stream is lost and that this token is for, once; None without one."""
        call = self._tokens.claim(call_id, token, trio.current_time())
        if call is None:
            return None
        self.over(call_id)
        return call.info

    def _order(self, lost: _LostStream) -> tuple[str, dict[str, str]]:
        """Return the URL of another stream, and the parameters that it has to bring back."""
        return self._stream_url(lost.awaited.info.call_id), {"token": lost.awaited.token}

    async def _request(self, lost: _LostStream) -> None:
        info, wait = lost.awaited.info, RETRY_WAIT_S
        # Ends with the wait of the call, which has a deadline.
        with lost.asking:
            while True:
                lost.failed = trio.Event()
                try:
                    with carrier_border(self._carrier, info.call_id):
                        await self._carrier.reconnect(info, *self._order(lost))
                except CallEnded:
                    lost.on_over(CALLER_HUNG_UP)
                    return
                except PatterError as error:
                    _log.warning("call %s: no other stream: %s", info.call_id, error)
                # A carrier that reports the failure is asked again before the time is over.
                with trio.move_on_after(wait):
                    await lost.failed.wait()
                wait *= 2
                if lost.failed.is_set():
                    await trio.sleep(FAILED_WAIT_S)
