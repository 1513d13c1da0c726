"""Facts that the carrier reports about calls, mostly after their end: recordings and costs."""

import logging
from collections.abc import Callable
from typing import Final, TypeVar

import attrs
import trio

from patter_trio.abc import Carrier, RecordingSaved
from patter_trio.errors import PatterError
from patter_trio.events.call_events import CallEvents, Subscribers
from patter_trio.events.kinds import PatterEventType
from patter_trio.events.reporter import CallReporter
from patter_trio.metrics.internal_events import CostKnown, RecordingReported
from patter_trio.server.carrier_border import carrier_border

# Judged: as many as the ids of ended calls that a busy server gets within hours; a carrier repeats within minutes.
MAX_REMEMBERED_FACTS: Final = 10_000
"""Largest number of facts that are remembered, so that each is published once; beyond it, the oldest is forgotten."""
# Judged. Twilio prices a call some time after its end, without saying when
# (twilio.com/docs/voice/api/call-resource, "price").
COST_DELAYS_S: Final = (5.0, 60.0, 300.0)
"""Seconds to wait before each request for the cost of a call that is over."""
# Judged: longer than the 4 s for the head of an answer and as much for its body (``carriers/rest.py``).
COST_TIMEOUT_S: Final = 10.0
"""Seconds for one such request."""

Key = TypeVar("Key")

_log = logging.getLogger("patter_trio.call")


@attrs.frozen(eq=False)
class _LiveCall:
    events: CallEvents
    reporter: CallReporter


class CarrierFacts:
    """The facts about the calls of one server, each published once, whether the call lives or is over.

    Args:
        carrier: the carrier.
        nursery: the server's, which outlives the calls.
        events_of: makes the events of a call that is over.
        subscribers: the subscriptions to the events of all calls.
        is_logged: True if a call log keeps what calls cost.
    """

    def __init__(
        self,
        carrier: Carrier,
        nursery: trio.Nursery,
        events_of: Callable[[str], CallEvents],
        subscribers: Subscribers,
        *,
        is_logged: bool = False,
    ) -> None:
        self._carrier = carrier
        self._nursery = nursery
        self._events_of = events_of
        self._subscribers = subscribers
        self._is_logged = is_logged
        self._live: dict[str, _LiveCall] = {}
        self._published: dict[tuple[str, str | float], None] = {}
        self._priced: dict[str, None] = {}
        self._closed = trio.Event()

    def __repr__(self) -> str:
        return f"<CarrierFacts {len(self._live)} live calls, {len(self._published)} facts>"

    def begin(self, call_id: str, events: CallEvents, reporter: CallReporter) -> None:
        """Take facts about a call that is live from now on."""
        self._live[call_id] = _LiveCall(events, reporter)

    def over(self, call_id: str) -> None:
        """Ask the carrier what a call that is over has cost, unless the carrier has said so or nobody listens."""
        del self._live[call_id]
        can_tell = type(self._carrier).cost is not Carrier.cost
        # A request that nobody needs would only use up the account's rate limit.
        is_wanted = self._is_logged or PatterEventType.COST_REPORTED in self._subscribers
        if can_tell and call_id not in self._priced and is_wanted:
            self._nursery.start_soon(self._ask_cost, call_id)

    def on_recording(self, saved: RecordingSaved) -> None:
        """Publish a recording."""
        if self._is_new(saved.call_id, saved.recording_id):
            length = "" if saved.seconds is None else f", {saved.seconds:g} s"
            # Without its URL, which may be all that is needed to hear it.
            _log.info("call %s: recording %s saved by the carrier%s", saved.call_id, saved.recording_id, length)
            self._publish(saved.call_id, RecordingReported(saved.recording_id, saved.url, saved.seconds))

    def on_cost(self, call_id: str, cost_usd: float) -> None:
        """Publish what the carrier charges for a call; its metrics have it if the call is not over."""
        if self._is_new(call_id, cost_usd):
            _bounded(self._priced, call_id)
            self._publish(call_id, CostKnown(cost_usd))

    def close(self) -> None:
        """Ask for no more costs, because the server closes."""
        self._closed.set()

    def _is_new(self, call_id: str, fact: str | float) -> bool:
        new = (call_id, fact) not in self._published
        if new:
            _bounded(self._published, (call_id, fact))
        return new

    def _publish(self, call_id: str, event: RecordingReported | CostKnown) -> None:
        live = self._live.get(call_id)
        # Behind its last event, a call that is still being taken down is as one that is over.
        if live is not None and not live.events.over:
            live.reporter.emit_fact(event, trio.current_time())
        else:
            self._events_of(call_id).publish_afterwards(event)

    async def _ask_cost(self, call_id: str) -> None:
        for delay in COST_DELAYS_S:
            with trio.move_on_after(delay):
                await self._closed.wait()
            # It may have been reported meanwhile.
            if self._closed.is_set() or call_id in self._priced:
                return
            cost = None
            with trio.move_on_after(COST_TIMEOUT_S):
                try:
                    with carrier_border(self._carrier, call_id):
                        cost = await self._carrier.cost(call_id)
                except PatterError as error:
                    # Asked again after the next delay: a carrier may not know the call's price yet.
                    _log.info("call %s: %s did not tell its cost: %s", call_id, self._carrier.name, error)
            if cost is not None:
                self.on_cost(call_id, cost)
                return


def _bounded(facts: dict[Key, None], new: Key) -> None:
    """Remember a fact; forget the oldest beyond the limit."""
    facts[new] = None
    if len(facts) > MAX_REMEMBERED_FACTS:
        del facts[next(iter(facts))]
