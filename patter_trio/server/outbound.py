"""Calls that we place, from the dial until somebody answers, or until it is known that nobody will.

Each call has a reference of our own, which the carrier's webhooks bring back: they may overtake the answer to the
request that places the call, and some carriers give the call's id only in them. All state is in the
:class:`PlacedCall`; the calls of a server share nothing but two tables to find it.

A call begins when the carrier has taken it and its id is known: then ``on_call_start`` is called, and ``on_call_end``
will be. It is answered when the carrier asks what to do with it, and live when its media stream has begun; from there
on it is a call like any other (``server/calls.py``).

Nothing is dialled twice: a request whose answer was lost is not repeated. If its call exists after all, the webhook
that announces its answer is the first that we hear of it, and the call is hung up.
"""

import logging
from contextvars import copy_context
from typing import Final, Protocol

import attrs
import trio

from patter_trio.abc import (
    CallInfo,
    CallOffered,
    CallRinging,
    CallStatus,
    Carrier,
    DialRequest,
    MachineDetected,
    WebhookKind,
)
from patter_trio.call.control import CallControl
from patter_trio.errors import CallEnded, PatterError, ProviderTimeout
from patter_trio.phone_numbers import mask_number
from patter_trio.server.answerer import Answering
from patter_trio.server.carrier_border import carrier_border, carrier_failures
from patter_trio.server.placed import CallRequest, PlacedCall

# Twilio may add 5 s to the time that it was asked for (twilio.com/docs/voice/api/call-resource, "Timeout"); the rest is
# judged, for the way of the webhook.
RING_MARGIN_S: Final = 10.0
"""Seconds after the ring timeout for the carrier's own report; then we give the call up."""
# Twilio begins one call a second by default and keeps the others in a queue (support.twilio.com, "calls per second").
# Judged: a hundred calls at once wait that long.
QUEUE_TIMEOUT_S: Final = 120.0
"""Seconds more for a call until the carrier reports that it rings."""
# Judged: longer than the 4 s for the head of an answer and as much for its body (``carriers/rest.py``).
DIAL_TIMEOUT_S: Final = 10.0
"""Seconds for the request that places a call."""
# Judged: longer than the 4 s of ``carriers/rest.py``, and within the 7 s in which a cancelled server ends.
HANG_UP_TIMEOUT_S: Final = 5.0
"""Seconds for the request that ends a call."""
# Judged: a carrier has two or three for a call.
MAX_FINDINGS: Final = 16
"""Most findings about who has answered a call; further ones are ignored."""
# Judged: such references are those of requests whose answers were lost; a handful, unless the carrier is down.
MAX_ABANDONED: Final = 1000
"""Largest number of references that are remembered of dials that failed; beyond it, the oldest is forgotten."""

_log = logging.getLogger("patter_trio.call")


class Calls(Protocol):
    """The call server, as far as placed calls need it."""

    def refusal(self, call_id: str) -> str:
        """Return the reason to refuse one more call; empty: there is room."""

    @property
    def voicemail_message(self) -> str:
        """The message for a machine that answers a placed call, if the call has none of its own."""

    def answering(self, request: CallRequest) -> Answering:
        """Return what talks in a call that is to be placed."""

    def begin(self, placed: PlacedCall, info: CallInfo) -> CallControl:
        """Call ``on_call_start`` for a call that the carrier has taken; return its control."""

    def give_up(self, info: CallInfo, outcome: str, why: str) -> None:
        """End a call that has begun and is not live; call ``on_call_end``, and :meth:`Dialler.over`."""

    def webhook_url(self, kind: WebhookKind, dial: str = "") -> str:
        """Return the URL of one of our webhooks, for the call with that reference."""


class Dialler:
    """The calls that one server has placed.

    Args:
        carrier: the carrier.
        calls: the call server.
        nursery: the server's, which outlives the calls.
    """

    def __init__(self, carrier: Carrier, calls: Calls, nursery: trio.Nursery) -> None:
        self._carrier = carrier
        self._calls = calls
        self._nursery = nursery
        self._by_reference: dict[str, PlacedCall] = {}
        self._by_id: dict[str, PlacedCall] = {}
        self._abandoned: dict[str, None] = {}
        self._closed = False
        # Of the server, not of the code that places a call: a callback does so in the context of its own call, with its
        # id for the log, its span, and what the application keeps there.
        self._context = copy_context()
        # The same for what counts the carrier's failures.
        self._carrier_failed = carrier_failures.get()

    def __repr__(self) -> str:
        return f"<Dialler {len(self._by_reference)} calls>"

    def __contains__(self, call_id: str) -> bool:
        return call_id in self._by_id

    def __len__(self) -> int:
        return len(self._by_reference)

    @property
    def waiting(self) -> int:
        """The number of calls that nobody has answered yet."""
        return sum(not placed.is_answered for placed in self._by_reference.values())

    async def call(self, request: CallRequest) -> PlacedCall:
        """Place a call; return when the carrier has taken it and its id is known.

        Raises:
            ConfigurationError: nothing answers for the agent, or this carrier cannot place calls.
            PatterError: the server drains or is full; the carrier did not take the call, for one of the reasons in
                :class:`~patter_trio.abc.Carrier`; or the server was closed meanwhile.
        """
        answering = self._calls.answering(request)
        # That of a second leg has the providers of the call that is transferred.
        if request.agent is not None and request.second_leg is None:
            # Before the dial: nobody must wait on the telephone while a model loads.
            await answering.agent.prewarm()
        # Without an await from here to the entry in the table: the limit holds for calls that are placed at once.
        why = self._calls.refusal("")
        if why:
            raise PatterError(f"the call to {mask_number(request.to)} was not placed: {why}")
        if request.machine_detection and not request.voicemail_message:
            request = attrs.evolve(request, voicemail_message=self._calls.voicemail_message)
        placed = PlacedCall(request, answering)
        # Before the request: a webhook may overtake the answer to it.
        self._by_reference[placed.reference] = placed
        try:
            await self._dial(placed)
            # A cancellation that came during the shielded request.
            await trio.lowlevel.checkpoint_if_cancelled()
            await self._wait_for_id(placed)
        except BaseException:
            self._end(placed, "cancelled", "placing it was cancelled or failed")
            # In this task, for the server's nursery may be closed.
            await self._hang_up(placed)
            raise
        return placed

    async def _dial(self, placed: PlacedCall) -> None:
        """Send the request; return if it was taken."""
        order = placed.request
        request = DialRequest(
            to=order.to,
            from_number=order.from_number,
            reference=placed.reference,
            voice_url=self._calls.webhook_url("voice", placed.reference),
            status_url=self._calls.webhook_url("status", placed.reference),
            amd_url=self._calls.webhook_url("amd", placed.reference),
            machine_detection=order.detection,
            ring_timeout=order.ring_timeout,
        )
        # Shielded, within its limit: a request that is given up halfway may have placed a call that nobody owns.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + DIAL_TIMEOUT_S) as limit:
            try:
                with carrier_border(self._carrier, failed=self._carrier_failed):
                    dialled = await self._carrier.dial(request)
            except PatterError:
                # A report was faster, and the answer was lost: the call exists all the same.
                if placed.info is not None:
                    return
                self._abandon(placed)
                raise
        if limit.cancelled_caught:
            self._abandon(placed)
            raise ProviderTimeout(f"{self._carrier.name} did not take the call within {DIAL_TIMEOUT_S:g} s")
        placed.take(dialled)
        if self._closed:
            raise PatterError(f"the call to {mask_number(order.to)} was ended: the server was closed meanwhile")
        if dialled.call_id:
            self._known(placed, dialled.call_id)

    async def _wait_for_id(self, placed: PlacedCall) -> None:
        seconds = placed.request.ring_timeout + QUEUE_TIMEOUT_S
        with trio.move_on_after(seconds):
            await placed.known.wait()
        if not placed.known.is_set():
            raise ProviderTimeout(f"{self._carrier.name} reported nothing about the call within {seconds:g} s")

    def _abandon(self, placed: PlacedCall) -> None:
        self._end(placed, "failed", "the carrier did not take it")
        # Without an id, nothing can be asked for.
        placed.claim_hang_up()
        placed.released.set()
        self._abandoned[placed.reference] = None
        if len(self._abandoned) > MAX_ABANDONED:
            del self._abandoned[next(iter(self._abandoned))]

    def _known(self, placed: PlacedCall, call_id: str) -> None:
        """Begin a call, because its id is known now."""
        if placed.info is not None or placed.over.is_set() or self._closed:
            return
        order = placed.request
        info = CallInfo(call_id, order.from_number, order.to, "outbound", dict(order.custom_params), self._carrier.name)
        self._by_id[call_id] = placed
        _log.info("call %s: dialled, to %s", call_id, mask_number(order.to))
        # For a call that waits in the carrier's queue; on_ringing() counts anew.
        placed.ringing.deadline = trio.current_time() + order.ring_timeout + QUEUE_TIMEOUT_S
        # Its tasks inherit the context in which they are started.
        self._context.copy().run(self._begin, placed, info)

    def _begin(self, placed: PlacedCall, info: CallInfo) -> None:
        placed.begin(info, self._calls.begin(placed, info))
        self._nursery.start_soon(self._wait_for_answer, placed)

    async def _wait_for_answer(self, placed: PlacedCall) -> None:
        with placed.ringing:
            await placed.settled.wait()
        if not placed.settled.is_set():
            why = f"nobody answered within {placed.request.ring_timeout} s, and no report came"
            self._end_and_hang_up(placed, "no_answer", why)

    # What the carrier reports -----------------------------------------------------------------------------------------
    def find(self, dial: str, call_id: str) -> PlacedCall | None:
        """Return the call with that reference, or with that id; its id is known from here on."""
        placed = self._by_reference.get(dial) or self._by_id.get(call_id)
        if placed is not None:
            self._known(placed, call_id)
        return placed

    def on_offered(self, offered: CallOffered) -> CallInfo | None:
        """Return the facts about a call that somebody has answered; None: it is not one of ours, or no more."""
        placed = self.find(offered.dial, offered.info.call_id)
        if placed is None or placed.info is None or placed.info.call_id != offered.info.call_id:
            return None
        placed.answer()
        return placed.info

    def on_ringing(self, report: CallRinging) -> None:
        """Count the ring timeout from now on."""
        if report.dial in self._abandoned:
            self._nursery.start_soon(self.end_stray, report.call_id)
            return
        placed = self.find(report.dial, report.call_id)
        if placed is not None and not placed.settled.is_set():
            placed.ringing.deadline = trio.current_time() + placed.request.ring_timeout + RING_MARGIN_S

    def on_machine(self, finding: MachineDetected) -> PlacedCall | None:
        """Return the call that a finding is about; None: it is not ours, or the finding is a repetition."""
        placed = self.find(finding.dial, finding.call_id)
        if placed is None or finding in placed.findings or len(placed.findings) == MAX_FINDINGS:
            return None
        placed.findings.append(finding)
        return placed

    def on_status(self, status: CallStatus) -> bool:
        """End a call that is not live, because the carrier says that it is over; return False if it is not ours."""
        placed = self.find(status.dial, status.call_id)
        if placed is None:
            return False
        # A live call ends by its stream, which has the last words; a webhook about it may overtake them.
        if not placed.is_live:
            self._end(placed, status.outcome, "the carrier reports the end of the call")
            placed.released.set()
        return True

    # The life of a call -----------------------------------------------------------------------------------------------
    def on_live(self, call_id: str) -> PlacedCall | None:
        """Return the call whose media stream has begun; None: we did not place it."""
        placed = self._by_id.get(call_id)
        if placed is not None:
            placed.go_live()
        return placed

    def over(self, call_id: str, outcome: str) -> None:
        """Forget a call, because it is over."""
        placed = self._by_id.pop(call_id, None)
        if placed is not None:
            self._by_reference.pop(placed.reference, None)
            placed.end(outcome)
            # Else _end() has begun it, and a request to the carrier follows.
            if not placed.is_ending:
                placed.released.set()

    def cancel(self, placed: PlacedCall, why: str) -> None:
        """End a call at once: hang up while it rings, or cancel it while it is live."""
        if placed.over.is_set():
            return
        if placed.is_live:
            placed.running.cancel(reason=why)
        else:
            self._end_and_hang_up(placed, "cancelled", why)

    def cancel_unanswered(self, placed: PlacedCall) -> bool:
        """End a call if nobody has answered it; return False if somebody has."""
        if placed.is_answered:
            return False
        self.cancel(placed, "it was hung up before anybody answered")
        return True

    def _end_and_hang_up(self, placed: PlacedCall, outcome: str, why: str) -> None:
        """End a call that is not live, and ask the carrier in the background to end it, too."""
        if not placed.over.is_set():
            self._end(placed, outcome, why)
            self._nursery.start_soon(self._hang_up, placed)

    def _end(self, placed: PlacedCall, outcome: str, why: str) -> None:
        """End a call that is not live; the carrier does not know it yet."""
        if placed.over.is_set():
            return
        placed.begin_end()
        if placed.info is None:
            self._by_reference.pop(placed.reference, None)
            placed.end(outcome)
        else:
            _log.info("call %s: %s: %s", placed.info.call_id, outcome, why)
            # Calls back over().
            self._calls.give_up(placed.info, outcome, why)

    async def _hang_up(self, placed: PlacedCall) -> None:
        """Ask the carrier to end a call, once."""
        if placed.claim_hang_up():
            call_id = placed.taken_id if placed.info is None else placed.info.call_id
            await self._request_end(call_id, placed.request_id)
            placed.released.set()

    async def end_stray(self, call_id: str) -> None:
        """Hang up a call that reached somebody although nobody here owns it."""
        await self._request_end(call_id, "")

    async def _request_end(self, call_id: str, request_id: str) -> None:
        if not call_id and not request_id:
            return
        # Shielded, within its limit: a server that is being cancelled still hangs up the phones that ring.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + HANG_UP_TIMEOUT_S) as limit:
            try:
                with carrier_border(self._carrier, call_id or request_id, self._carrier_failed):
                    await self._carrier.hang_up(call_id, request_id)
            # It is over, which is what was wanted.
            except CallEnded:
                pass
            # Best effort: the ring timeout at the carrier ends the call at last.
            except PatterError as error:
                _log.warning("call %s: hang-up failed: %s", call_id or request_id, error)
        if limit.cancelled_caught:
            _log.warning("call %s: hang-up was not confirmed within %g s", call_id or request_id, HANG_UP_TIMEOUT_S)

    def close(self) -> None:
        """End all calls that are not live, because the server closes."""
        self._closed = True
        for placed in tuple(self._by_reference.values()):
            # A request that is under way ends its call itself, when it has the id.
            if placed.info is not None and not placed.is_live:
                self._end_and_hang_up(placed, "cancelled", "the server was closed")
