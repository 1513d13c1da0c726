"""The front desk: joins a phone, its agent and the application's callbacks to the calls that come in.

Two nurseries. The inner one is whoever serves connections; each call runs in the task of its connection. The outer one,
opened here, holds the observers: they outlive their calls by the bounds stated in ``call/observers.py``.
"""

import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

import attrs
import trio

from patter_trio.abc import usage_sink
from patter_trio.agent import Agent
from patter_trio.audio.mediaclock import MediaClock
from patter_trio.call import usercode
from patter_trio.call.announced import Announced
from patter_trio.call.bounds import Bounds
from patter_trio.call.control import steers
from patter_trio.call.delivery import Deliveries
from patter_trio.call.messages import Function, Messages
from patter_trio.call.metering import Metering
from patter_trio.call.observers import Observers
from patter_trio.call.publishing import CallEvents
from patter_trio.call.remote import checked_message_url, remote
from patter_trio.call.session import Call, CallOptions, run_call
from patter_trio.call.telling import Teller
from patter_trio.call.tool_webhooks import ToolWebhooks
from patter_trio.call.transferring import HandOver
from patter_trio.call.webhook import is_exposed, secret_of
from patter_trio.carriers import CallOffer, Carrier
from patter_trio.carriers.local import LocalCarrier
from patter_trio.errors import ConfigurationError
from patter_trio.events import Tap
from patter_trio.net.http import origin_of, shared_client
from patter_trio.server.admission import Admission, measure
from patter_trio.server.pending import PendingCall, PendingCalls
from patter_trio.server.site import MediaLeg, Site
from patter_trio.telemetry.meter import Meter
from patter_trio.telemetry.tracing import OpenTrace, opened_tracing

if TYPE_CHECKING:
    from patter_trio.client import Patter
    from patter_trio.telemetry.call_trace import CallTrace

Transfer = Callable[[CallOffer, str], Awaitable[None]]
"""Connects a caller with somebody else, as ``Carrier.transfer`` does."""

START_PATIENCE: Final = 2.0
"""Seconds after the media start that ``on_call_start`` has for its overrides."""

_log = logging.getLogger("patter_trio.call")
_events = logging.getLogger("patter_trio.events")


@attrs.define
class _Starting:
    """``on_call_start`` of one call, under way or done."""

    events: CallEvents
    scope: trio.CancelScope
    done: trio.Event
    trace: "CallTrace | None"
    call: Announced
    overrides: Mapping[str, Any] | None = None


class Desk:
    """What happens to a call from its announcement to its end."""

    def __init__(
        self,
        phone: "Patter",
        agent: Agent,
        nursery: trio.Nursery,
        *,
        carrier: Carrier,
        public_url: str,
        callbacks: Mapping[str, Any],
        messages: Messages | None,
        webhooks: ToolWebhooks,
        admission: Admission,
        epoch: float,
        tap: Tap | None,
        bus_tap: Tap | None,
        tracing: OpenTrace | None,
        transfer: Transfer | None = None,
    ) -> None:
        self._transfer = transfer
        self._tracing = tracing
        self._phone = phone
        self._agent = agent
        self._nursery = nursery
        self._callbacks = callbacks
        self._messages = messages
        self._webhooks = webhooks
        self._admission = admission
        self._epoch = epoch
        self._tap = tap
        self._bus_tap = bus_tap
        self._deliveries = Deliveries(nursery)
        # Weak: they live as long as there is something to be told of their call, which is longer than the call.
        self._bounds: WeakSet[Bounds] = WeakSet()
        self._hurried = False
        self._live: dict[str, Call] = {}
        self._draining = False
        self._idle = trio.Event()
        self._announced = trio.Event()
        self.closed: trio.Event = trio.Event()
        """Set when :meth:`drain` is through: nothing is to be served any more."""
        self.site: Site = Site(
            carrier=carrier,
            public_url=public_url,
            pending=PendingCalls(),
            refusal=self.refusal,
            incoming=self.incoming,
            answer=self.answer,
            refused=self.refused,
        )

    def __repr__(self) -> str:
        return f"<Desk {len(self._live)} calls{', draining' if self._draining else ''}>"

    def find(self, name: str) -> Any:
        """Return the application's callback of that name, as it is now; None where there is none."""
        return self._callbacks.get(name) or getattr(self._phone, name, None)

    def refusal(self, call_id: str) -> str:
        """Return why a call that is announced for the first time is not welcome; empty: it is."""
        if call_id in self._live:
            return "it is live already"
        if self._draining:
            return "no more calls are taken"
        return self._admission.refusal(live=len(self._live), announced=len(self.site.pending), now=trio.current_time())

    async def measure(self, scope: trio.CancelScope) -> None:
        """Measure the event loop for :meth:`refusal`, until ``scope`` is cancelled."""
        with scope:
            await measure(self._admission, self._live.__len__)

    async def forget(self, scope: trio.CancelScope) -> None:
        """Forget announced calls that never connect, each when its time is over, until ``scope`` is cancelled."""
        pending = self.site.pending
        with scope:
            while True:
                self._announced = trio.Event()
                with trio.CancelScope(deadline=pending.next_expiry):
                    await self._announced.wait()
                self._forget_expired()
                self._note_idle()

    def _forget_expired(self) -> None:
        for call in self.site.pending.expire(trio.current_time()):
            _log.warning("call %s: announced, but its media stream never came", call.call_id)
            self._never_connected(call, "failed", "its media stream never came")

    def incoming(self, call: PendingCall) -> None:
        """A call is announced: ask ``on_call_start`` already, before its audio is there."""
        self._announced.set()
        on_call_start = self.find("on_call_start")
        trace = None
        if self._tracing is not None:
            trace = self._tracing(self._about(call), self._agent, at=trio.current_time(), epoch=self._epoch)
        starting = call.context = _Starting(
            self._events_of(call.call_id), trio.CancelScope(), trio.Event(), trace, Announced(self._about(call))
        )
        if on_call_start is None:
            starting.done.set()
            return
        self._nursery.start_soon(self._ask_start, on_call_start, call, starting)

    def refused(self, offer: CallOffer, why: str) -> None:
        """A call hears busy: the bus is told; a live one that is announced again goes on."""
        if offer.call_id not in self._live:
            about = {"call_id": offer.call_id, "caller": offer.caller, "callee": offer.callee}
            events = self._events_of(offer.call_id)
            events.never_connected("busy", why, {**about, "direction": offer.direction})

    def _events_of(self, call_id: str) -> CallEvents:
        events = CallEvents(
            call_id, self._phone.events.everywhere, self._deliveries, epoch=self._epoch, tap=self._bus_tap
        )
        self._bounds.add(events.bounds)
        return events

    def _never_connected(self, call: PendingCall, outcome: str, why: str) -> None:
        call.context.call.close(outcome)
        call.context.events.never_connected(outcome, why, self._about(call), cancelled=self._hurried)
        self._give_up(call, "never connected", outcome)

    async def _ask_start(self, on_call_start: Any, call: PendingCall, starting: _Starting) -> None:
        starting.events.enter()
        if starting.trace is not None:
            starting.trace.attach()
        with starting.scope:
            try:
                more = (starting.call.control,) if steers(on_call_start) else ()
                answer = await usercode.call(on_call_start, self._about(call), *more)
            except usercode.ApplicationError as error:
                _events.warning("call %s: call_start: %s", call.call_id, error, exc_info=error.__cause__)
            else:
                if answer is None:
                    pass
                elif isinstance(answer, Mapping):
                    # Now: the application may fill in the same dicts for the next call.
                    starting.overrides = {
                        key: dict(value) if isinstance(value, Mapping) else value for key, value in answer.items()
                    }
                else:
                    _events.warning(
                        "call %s: %s must return a dict of overrides or None, not %s",
                        call.call_id,
                        usercode.name_of(on_call_start),
                        type(answer).__name__,
                    )
        starting.done.set()

    def _about(self, call: PendingCall) -> dict[str, Any]:
        return {
            "call_id": call.call_id,
            "caller": call.caller,
            "callee": call.callee,
            "direction": call.direction,
            "custom_params": dict(call.custom_params),
            "telephony_provider": call.provider,
        }

    async def _settled(self, call: PendingCall) -> Agent:
        """Return the agent for this call: as served, or as ``on_call_start`` would have it."""
        starting: _Starting = call.context
        with trio.move_on_after(START_PATIENCE):
            await starting.done.wait()
        if not starting.done.is_set():
            _events.warning(
                "call %s: on_call_start did not return within %g s of the call's start; going on without its answer",
                call.call_id,
                START_PATIENCE,
            )
            return self._agent
        agent, complaints = self._agent.overridden(starting.overrides or {})
        try:
            check_mind(agent, self._callbacks)
        except ConfigurationError as error:
            complaints.append(str(error))
            agent = attrs.evolve(agent, llm=self._agent.llm)
        for complaint in complaints:
            _events.warning("call %s: call_start: %s", call.call_id, complaint)
        return agent

    async def answer(self, leg: MediaLeg) -> None:
        """Run a call whose media stream has started, to its end."""
        pending = leg.call
        events: CallEvents = pending.context.events
        events.enter()
        observers = Observers(pending.call_id, self.find, events.bounds)
        about = self._about(pending)
        media = MediaClock()
        trace: CallTrace | None = pending.context.trace
        if trace is not None:
            trace.media = media
            trace.attach()
        watchers = () if trace is None else (trace,)
        teller = Teller(observers, about, media, epoch=self._epoch, tap=self._tap, watchers=watchers, events=events)
        teller.metering = self._metering(pending, media, teller)
        usage_sink.set(lambda usage: teller.note("usage", trio.current_time(), {"usage": usage}))
        options = CallOptions(
            agent=self._agent,
            settled=partial(self._settled, pending),
            on_message=self._messages,
            hand_over=self._hand_over(pending),
            webhooks=self._webhooks,
        )
        call = Call(leg, options, teller, media)
        observers.control = call.control
        pending.context.call.connect(call)
        self._live[pending.call_id] = self._phone.live[pending.call_id] = call
        _log.info("call %s: started, %s", pending.call_id, pending.direction)
        if self._tap is not None:
            self._tap(0.0, "call_start", about)
        events.connected(media, about)
        try:
            await run_call(call, observers, self._nursery)
        finally:
            events.close()
            self._give_up(pending, "call over", "failed")
            del self._live[pending.call_id]
            del self._phone.live[pending.call_id]
            _log.info("call %s: ended, %s", pending.call_id, call.outcome)
            self._note_idle()

    def _hand_over(self, call: PendingCall) -> HandOver:
        """Return what has the carrier connect the caller of that call with somebody else."""
        offer = CallOffer(call.call_id, call.caller, call.callee, call.direction)
        return partial(self._transfer or self.site.carrier.transfer, offer)

    def _metering(self, call: PendingCall, media: MediaClock, teller: Teller) -> Metering:
        meter = Meter(
            call.call_id,
            media,
            self._phone.pricing,
            began=trio.current_time(),
            epoch=self._epoch,
            carrier=call.provider,
            direction=call.direction,
        )
        return Metering(call.call_id, meter, teller.tell)

    def forget_all(self) -> None:
        """Nobody will answer the calls that are announced and not connected: ask no more about them."""
        for call in self.site.pending.expire(math.inf):
            self._never_connected(call, "cancelled", "the server was closed")

    def _give_up(self, call: PendingCall, reason: str, outcome: str) -> None:
        """Ask ``on_call_start`` no more; end the trace of a call whose end is not told."""
        starting: _Starting = call.context
        starting.scope.cancel(reason=reason)
        if starting.trace is not None:
            starting.trace.close(trio.current_time(), outcome, reason)

    def _note_idle(self) -> None:
        if self._draining and not self._live and not len(self.site.pending):
            self._idle.set()

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 (a grace, not a deadline)
        """Take no more calls, and wait ``timeout`` seconds at most for the running and announced ones to end."""
        self._draining = True
        self._note_idle()
        with trio.move_on_after(timeout):
            await self._idle.wait()
        self.closed.set()

    def close(self) -> None:
        """All calls are over: end when what waits was told."""
        self._deliveries.close()

    def hurry(self) -> None:
        """The server is being cancelled: shorten the callbacks' time."""
        self._hurried = True
        for bounds in tuple(self._bounds):
            bounds.hurry()


def check_mind(agent: Agent, callbacks: Mapping[str, Any]) -> None:
    """Make sure that one thing, and only one, answers the caller, and that the callbacks are functions.

    Raises:
        ConfigurationError: they are not, or an agent without an engine has not exactly one of ``llm=`` and
            ``on_message=``.
    """
    if not isinstance(agent, Agent):
        raise ConfigurationError(
            f"serve takes an agent made by phone.agent(...), not {type(agent).__name__}: {agent!r}"
        )
    for name, callback in callbacks.items():
        if name == "on_message" and isinstance(callback, str):
            checked_message_url(callback)
        elif callback is not None and not callable(callback):
            raise ConfigurationError(f"{name} must be a function, not {type(callback).__name__}: {callback!r}")
    if agent.engine is not None:
        return
    if (agent.llm is None) == (callbacks.get("on_message") is None):
        found = "neither" if agent.llm is None else "both"
        raise ConfigurationError(
            f"an agent needs exactly one of llm= (phone.agent's) and on_message= (serve's); this one has {found}"
        )


def messages_of(on_message: Any, secret: str) -> Messages | None:
    """Return what answers the messages of all calls, if the application does.

    Args:
        on_message: a function, or a URL that :func:`check_mind` has seen.
        secret: what requests to a URL are signed with; empty: ``PATTER_WEBHOOK_SECRET``.
    """
    if not isinstance(on_message, str):
        return None if on_message is None else Function(on_message, steers(on_message))
    if is_exposed(on_message):
        _log.warning("on_message: what callers say goes to %s unencrypted; use https or wss", origin_of(on_message))
    return remote(on_message, secret_of(secret))


@asynccontextmanager
async def open_desk(
    phone: "Patter",
    agent: Agent,
    *,
    public_url: str,
    carrier: Carrier | None = None,
    callbacks: Mapping[str, Any] | None = None,
    max_calls: int | None = None,
    max_lag: float | None = None,
    epoch: float | None = None,
    tap: Tap | None = None,
    bus_tap: Tap | None = None,
    on_message_secret: str = "",
    transfer: Transfer | None = None,
) -> AsyncIterator[Desk]:
    """Open the desk; leaving it waits until the last callback of the last call was told, or its time was over.

    Args:
        phone: whose calls they are.
        agent: who answers them.
        public_url: where the carrier reaches us.
        carrier: instead of the phone's own.
        callbacks: the application's functions by name (``on_call_start`` ...).
        max_calls: more at once hear busy.
        max_lag: new calls hear busy while the event loop is later than this, in seconds; None: however late it is.
        epoch: Unix time of the clock's zero; default: as it is now.
        tap: sees every event of every call.
        bus_tap: sees every event of the bus, which then is published whether or not anybody has subscribed.
        on_message_secret: as for ``Patter.serve``.
        transfer: connects callers with somebody else in the carrier's place; for simulated calls.

    Raises:
        ConfigurationError: the agent has not exactly one of ``llm=`` and ``on_message=``, or a tool of it is at an address
            that the phone does not allow.
    """
    callbacks = dict(callbacks or {})
    check_mind(agent, callbacks)
    if agent.engine is not None and callbacks.pop("on_message", None) is not None:
        _log.warning("on_message= is ignored: the agent has engine=, which answers by itself")
    messages = messages_of(callbacks.get("on_message"), on_message_secret)
    webhooks = ToolWebhooks(secret_of(on_message_secret), phone.guard)
    webhooks.check(agent.tools)
    if epoch is None:
        epoch = time.time() - trio.current_time()
    admission = Admission(max_calls=max_calls, max_lag=max_lag, now=trio.current_time())
    async with (
        shared_client(),
        shared_client(direct=True),
        shared_client(webhooks.guard),
        trio.open_nursery() as nursery,
    ):
        desk = Desk(
            phone,
            agent,
            nursery,
            carrier=carrier or phone.carrier or LocalCarrier(),
            public_url=public_url,
            callbacks=callbacks,
            messages=messages,
            webhooks=webhooks,
            admission=admission,
            epoch=epoch,
            tap=tap,
            bus_tap=bus_tap,
            tracing=opened_tracing(),
            transfer=transfer,
        )
        phone.desks.add(desk)
        forgetting, measuring = trio.CancelScope(), trio.CancelScope()
        nursery.start_soon(desk.forget, forgetting)
        if admission.measures:
            nursery.start_soon(desk.measure, measuring)
        try:
            yield desk
        except BaseException:
            desk.hurry()
            raise
        finally:
            if trio.current_effective_deadline() == -math.inf:  # also where the block ended without a checkpoint
                desk.hurry()
            phone.desks.discard(desk)
            desk.forget_all()
            desk.close()
            forgetting.cancel(reason="the desk is closed")
            measuring.cancel(reason="the desk is closed")
