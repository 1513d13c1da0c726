"""Reports of the carrier about the calls of a server, each handed to the part that it concerns."""

import logging
from collections.abc import Awaitable, Callable, Mapping

import trio

from patter_trio.abc import (
    CallInfo,
    CallReturned,
    CallRinging,
    CallStatus,
    CarrierReport,
    CostReported,
    MachineDetected,
    PartyReached,
    PartyUnreached,
    RecordingSaved,
    StreamFailed,
)
from patter_trio.call.leg import CALLER_HUNG_UP
from patter_trio.call.session import CallSession
from patter_trio.errors import CallEnded, PatterError
from patter_trio.server.announced import AnnouncedCalls
from patter_trio.server.carrier_border import carrier_border
from patter_trio.server.carrier_facts import CarrierFacts
from patter_trio.server.ended import EndedCalls
from patter_trio.server.hang_ups import HangUps
from patter_trio.server.lost_streams import LostStreams
from patter_trio.server.machines import on_finding
from patter_trio.server.outbound import Dialler
from patter_trio.server.pending import PendingCalls

_log = logging.getLogger("patter_trio.call")


class CarrierReports:
    """The reports about the calls of one server.

    Args:
        pending: the calls whose media stream is awaited.
        nursery: outlives the calls.
        dialler: has the calls that we placed.
        announced: has the calls that are not live yet.
        live: the live calls by id.
        ended: remembers the calls that are over.
        hang_ups: end calls that go on at the carrier.
        facts: publishes recordings and costs.
        lost: has the live calls whose streams are lost.
    """

    def __init__(
        self,
        pending: PendingCalls,
        nursery: trio.Nursery,
        *,
        dialler: Dialler,
        announced: AnnouncedCalls,
        live: Mapping[str, CallSession],
        ended: EndedCalls,
        hang_ups: HangUps,
        facts: CarrierFacts,
        lost: LostStreams,
    ) -> None:
        self._pending = pending
        self._nursery = nursery
        self._dialler = dialler
        self._announced = announced
        self._live = live
        self._ended = ended
        self._hang_ups = hang_ups
        self._facts = facts
        self._lost = lost

    def __repr__(self) -> str:
        return f"<CarrierReports on {len(self._live)} live calls, {len(self._pending)} pending>"

    async def send(self, info: CallInfo, request: Callable[[], Awaitable[None]]) -> None:
        """Send a request about an announced call to the carrier; if it fails, the call is given up."""
        try:
            with carrier_border(self._hang_ups.carrier, info.call_id):
                await request()
        except CallEnded as error:
            _log.info("call %s: %s", info.call_id, error)
            self.take(CallStatus(info.call_id, "cancelled"))
        except PatterError as error:
            _log.warning("call %s: %s", info.call_id, error)
            self.take(CallStatus(info.call_id, "failed"))
            # It is unknown what the carrier did; if it answered, the caller would hear silence.
            self._hang_ups.end(info.call_id)

    def take(self, report: CarrierReport) -> None:
        """Act on what the carrier reports about a call."""
        match report:
            case CallStatus():
                if report.cost_usd is not None:
                    self._facts.on_cost(report.call_id, report.cost_usd)
                # A live call ends by its stream, which has the last words; a webhook about it may overtake them. One
                # that has lost its stream ends by the webhook.
                # Its reference goes first: a report may name one call by that, and another by its id.
                of_placed = self._dialler.on_status(report)
                if (over := self._live.get(report.call_id)) is not None:
                    over.transfers.decide(reached=True)
                    over.streams.give_up(report.outcome)
                elif not of_placed:
                    self._on_status(report)
            case CallRinging():
                self._dialler.on_ringing(report)
            case MachineDetected():
                placed, live = self._dialler.on_machine(report), self._live.get(report.call_id)
                # It may overtake the media stream; then it is acted on when that begins.
                if placed is not None and live is not None:
                    on_finding(live, placed, report, self._nursery)
            case PartyReached() if (handed_over := self._live.get(report.call_id)) is not None:
                if handed_over.transfers.decide(reached=True):
                    handed_over.streams.give_up(CALLER_HUNG_UP)
            case PartyUnreached():
                self._unreached(report.call_id)
            case RecordingSaved():
                self._facts.on_recording(report)
            case CostReported():
                self._facts.on_cost(report.call_id, report.cost_usd)
            case StreamFailed():
                self._stream_failed(report, self._announced.abandon)

    def _stream_failed(self, report: StreamFailed, give_up: Callable[[CallInfo, str, str], None]) -> None:
        _log.warning("call %s: its media stream failed: %s", report.call_id, report.reason)
        self._lost.failed(report.call_id)
        call = self._pending.give_up(report.call_id)
        if call is not None:
            give_up(call.info, "failed", f"its media stream failed: {report.reason}")

    def _unreached(self, call_id: str) -> None:
        """Take a transferred call back whose party did not answer, at a carrier that does not ask how it continues."""
        call = self._live.get(call_id)
        if (
            call is not None
            and call.transfers.decide(reached=False)
            and call.streams.lose("nobody answered the transfer")
        ):
            self._lost.begin(call.info, "", call.streams.give_up)
        # Else its caller would be left on a silent line.
        elif call is None:
            self._hang_ups.end(call_id)

    def _on_status(self, status: CallStatus) -> None:
        """Give up an announced call, because the carrier says that it is over."""
        call = self._pending.give_up(status.call_id)
        if call is not None:
            why = "the call ended before its media stream connected"
            _log.info("call %s: %s", status.call_id, why)
            self._announced.never_connected(call.info, status.outcome, why)
        else:
            self._ended.add(status.call_id, trio.current_time())

    def returned(self, report: CallReturned) -> str:
        """Return the document with which a call continues whose stream is over; empty: it is over."""
        call = self._live.get(report.call_id)
        back = call is not None and report.is_unreached
        if call is not None and back:
            # Repeated, it gets the same answer as long as the call waits for the stream behind its transfer.
            back = call.transfers.decide(reached=False) or call.streams.is_transferred
        if report.is_over:
            # As the status would report it, which comes later or, if no webhook for it is set up, never.
            self.take(CallStatus(report.call_id, CALLER_HUNG_UP))
        # WARNING: only about the present stream, or the end of a transfer, once. A webhook that is repeated or late
        # must not end the stream that has come since, nor be answered with a token. Of a call that is being
        # transferred, only the end of the transfer is news.
        elif call is not None and (back or (not call.transfers.is_ringing and report.stream == call.streams.reference)):
            if call.streams.lose("the carrier's stream is over"):
                self._lost.begin(call.info, report.stream, call.streams.give_up)
        elif self._pending.awaits(report.call_id, report.stream):
            # Its first stream did not begin, which the carrier may report as well. The answer ends the call.
            failed = StreamFailed(report.call_id, "the carrier could not open it")
            self._stream_failed(failed, self._announced.never_connected)
        document = self._lost.document(report.call_id, report.stream)
        if not document and (call is None or report.stream == call.streams.reference):
            self._lost.returned(report.call_id, trio.current_time())
        return document
