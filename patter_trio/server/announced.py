"""Announced calls until they are live or given up: their ``on_call_start``, and the end if they never connect."""

import logging
import math
from collections.abc import Callable

import trio

from patter_trio.abc import CallInfo
from patter_trio.agent.agent import Agent
from patter_trio.audio.media_clock import MediaClock
from patter_trio.call.announced import PendingControl
from patter_trio.events.callback_registry import Callback
from patter_trio.events.callbacks import CallbackQueue
from patter_trio.events.payloads import Tap
from patter_trio.events.rendering import callback_payload
from patter_trio.metrics.public_events import CallOver
from patter_trio.server.call_events_source import CallEventsSource
from patter_trio.server.context import ServerContext
from patter_trio.server.ended import EndedCalls
from patter_trio.server.hang_ups import HangUps
from patter_trio.server.starting import StartingCall
from patter_trio.tracing.setup import OpenTrace

_log = logging.getLogger("patter_trio.call")


class AnnouncedCalls:
    """The announced calls of one server.

    Args:
        context: has the calls whose media stream is awaited.
        nursery: runs ``on_call_start`` and ``on_call_end``; it outlives the calls.
        events: makes the events of each call.
        ended: remembers the calls that are over.
        hang_ups: end calls that go on at the carrier.
        find: returns the application's callback of a name, or None.
        tracing: opens the trace of a call; None: tracing is off.
        tap: receives the event of each end; for tests.
        on_over: called with the id and the outcome of each call that never connected.
    """

    def __init__(
        self,
        context: ServerContext,
        nursery: trio.Nursery,
        events: CallEventsSource,
        ended: EndedCalls,
        hang_ups: HangUps,
        *,
        find: Callable[[str], Callback | None],
        tracing: OpenTrace | None,
        tap: Tap | None,
        on_over: Callable[[str, str], None],
    ) -> None:
        self._context = context
        self._nursery = nursery
        self._events = events
        self._ended = ended
        self._hang_ups = hang_ups
        self._find = find
        self._tracing = tracing
        self._tap = tap
        self._on_over = on_over
        # Until ``connected`` or ``never_connected`` takes it out; exactly one of them does, for each call.
        self._starting: dict[str, StartingCall] = {}
        self._news = trio.Event()

    def __repr__(self) -> str:
        return f"<AnnouncedCalls {len(self._starting)}>"

    def begin(self, info: CallInfo, agent: Agent, control: PendingControl) -> None:
        """Call ``on_call_start`` for a call that is announced, or that we have placed."""
        events = self._events.of_call(info.call_id)
        on_call_start = self._find("on_call_start")
        media, trace = MediaClock(), None
        if self._tracing is not None:
            # Opened at the webhook, so that the trace has the time before the audio, and ``on_call_start`` runs inside
            # it.
            trace = self._tracing(info, agent, media, at=trio.current_time(), epoch=events.epoch)
        starting = self._starting[info.call_id] = StartingCall(
            events, trio.CancelScope(), trio.Event(), media, trace, control
        )
        starting.events.exit_by(starting.call.exit)
        if on_call_start is None:
            starting.done.set()
            return
        # In the observers' nursery, not in the webhook's task: that one ends with its answer, long before this does.
        self._nursery.start_soon(starting.ask, on_call_start)

    def watch_expiry(self) -> None:
        """Take the expiry of a call into account that has just been announced."""
        self._news.set()

    def connected(self, call_id: str) -> StartingCall:
        """Return a call whose media stream has begun; from here on its session owns it."""
        # The claim of the token guarantees the entry: only an announced call has a token.
        return self._starting.pop(call_id)

    async def expire(self, scope: trio.CancelScope) -> None:
        """Give up calls that never connect, each when its token expires, until ``scope`` is cancelled."""
        pending = self._context.pending
        with scope:
            while True:
                # Renewed before the deadline is read: a call that is announced meanwhile sets the new event, and its
                # expiry counts.
                self._news = trio.Event()
                with trio.CancelScope(deadline=pending.next_expiry):
                    await self._news.wait()
                self._expire_due()

    def _expire_due(self) -> None:
        for call in self._context.pending.expire(trio.current_time()):
            _log.warning(
                "call %s: its media stream never connected (check that the carrier reaches %s)",
                call.info.call_id,
                self._context.stream_url(call.info.call_id),
            )
            self.abandon(call.info, "failed", "its media stream never connected")

    def expire_all(self) -> None:
        """Give up all of them, because the server closes and cannot answer them."""
        for call in self._context.pending.expire(math.inf):
            self.abandon(call.info, "cancelled", "the server was closed")

    def abandon(self, info: CallInfo, outcome: str, why: str) -> None:
        """Give up a call that goes on at the carrier, and end it there by request: no stream can end it."""
        self.never_connected(info, outcome, why)
        self._hang_ups.end(info.call_id, is_lost=True)

    def never_connected(self, info: CallInfo, outcome: str, why: str) -> None:
        """Give up a call that is over at the carrier, and report its end."""
        starting = self._starting.pop(info.call_id)
        starting.call.close(outcome)
        self._ended.add(info.call_id, trio.current_time())
        cancelled = self._events.grace_is_shortened
        over = starting.events.never_connected(outcome, why, info, cancelled=cancelled)
        starting.give_up("never connected", outcome)
        # In the observers' nursery: the end may be noticed by a webhook or by a server that closes.
        self._nursery.start_soon(self._report_end, starting, over)
        self._on_over(info.call_id, outcome)

    async def _report_end(self, starting: StartingCall, over: CallOver) -> None:
        """Call ``on_call_end`` for a call that never connected, after its ``on_call_start``."""
        events, call_id = starting.events, starting.call.info.call_id
        events.enter()
        # Shielded like the delivery, by the same limit: a cancelled server reports the ends of its calls.
        with events.grace.limit("end", shield=True):
            # Its function has been cancelled, and ends before what it opened is closed.
            await starting.done.wait()
        queue = CallbackQueue(call_id, self._find, events.grace, starting.call.control)
        payload = dict(callback_payload(over, call_id))
        if self._tap is not None:
            self._tap(0.0, over.name, payload)
        queue.end(payload, starting.call.conversation_state, cancelled=self._events.grace_is_shortened)
        # Here, and not in a task of the queue's own: this event is all that it will have.
        await queue.deliver()
