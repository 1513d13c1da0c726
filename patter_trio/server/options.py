"""Options of a server of calls: those that its phone gives, and those that tests give."""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Protocol

import attrs

from patter_trio.abc import CallInfo, Carrier
from patter_trio.agent.agent import Agent
from patter_trio.call.session import CallSession
from patter_trio.events.call_events import Subscribers
from patter_trio.events.callback_registry import CallbackRegistry
from patter_trio.events.payloads import Tap
from patter_trio.events.reporter import CallObserver
from patter_trio.metrics.meter import Meter
from patter_trio.net.address_guard import Guard
from patter_trio.pricing import Pricing
from patter_trio.server.admission import Admission, measure

TransferOverride = Callable[[CallInfo, str], Awaitable[None]]
"""Connects the caller of a call with a number (E.164), as ``Carrier.transfer`` does."""


class Drainable(Protocol):
    """A running server of calls, as its phone sees it."""

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 (a grace, not a deadline)
        """Take no more calls, and wait ``timeout`` seconds at most for the running ones to end."""


@attrs.frozen(kw_only=True, eq=False)
class ServeOptions:
    """Everything that a server of calls takes over from its phone and from ``phone.serve``.

    Attributes:
        agent: answers the calls.
        carrier: brings the calls.
        public_url: where the carrier reaches us: ``https://host``.
        callbacks: the application's functions; those given to ``serve`` are its own, the phone's lie beneath.
        subscribers: who has subscribed to the events of all calls of the phone.
        live: the phone's live calls by id; the server adds and removes its own.
        call_servers: the phone's running servers; a server adds itself, and removes itself when it closes.
        pricing: list prices with the application's over them, by provider and model.
        guard: decides which addresses the URLs of tools may lead to.
        max_calls: live and announced calls from which new ones hear busy; None: no limit.
        max_lag: seconds of event loop lag from which new calls hear busy; None: never.
        on_message_secret: signs requests to the application's URLs; empty: ``PATTER_WEBHOOK_SECRET``, else unsigned.
    """

    agent: Agent
    carrier: Carrier
    public_url: str
    callbacks: CallbackRegistry
    subscribers: Subscribers
    live: MutableMapping[str, CallSession]
    call_servers: set[Drainable]
    pricing: Pricing
    guard: Guard
    max_calls: int | None = None
    max_lag: float | None = None
    on_message_secret: str = attrs.field(default="", repr=False)


@attrs.frozen(kw_only=True)
class Seams:
    """Seams for tests and simulated calls: replacements for clock and carrier, and taps; by default none is used.

    Attributes:
        epoch: Unix time, in seconds, of zero on trio's clock; None: from the machine's clock when the server opens.
        tap: sees every callback event of every call: its name, its call time in seconds, its payload.
        bus_tap: sees every event of the bus, which then is published whether or not anybody has subscribed.
        transfer: connects callers with a number in the carrier's place; None: the carrier does.
        observers: see every event of every call, internal ones included.
        meter: makes what measures a call.
        measure_lag: measures the event loop for the admission of calls, until cancelled.
    """

    epoch: float | None = None
    tap: Tap | None = None
    bus_tap: Tap | None = None
    transfer: TransferOverride | None = None
    observers: Sequence[CallObserver] = ()
    meter: Callable[..., Meter] = Meter
    measure_lag: Callable[[Admission, Callable[[], int]], Awaitable[None]] = measure
