"""Options of a call server: those from its phone, and the seams for tests."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import trio

from patter_trio.abc import CallInfo, Carrier
from patter_trio.agent.agent import Agent
from patter_trio.call.recording import GrowingWav, RecordingFile
from patter_trio.call.session import CallSession
from patter_trio.call_log.phone_log import PhoneLog
from patter_trio.errors import ConfigurationError
from patter_trio.events.call_events import Subscribers
from patter_trio.events.callback_registry import CallbackRegistry
from patter_trio.events.payloads import Tap
from patter_trio.events.records import EventRecorder, RecordSink
from patter_trio.events.reporter import CallObserver
from patter_trio.metrics.meter import Meter
from patter_trio.net.address_guard import Guard
from patter_trio.pricing import Pricing
from patter_trio.server.access import NOBODY, Access
from patter_trio.server.admission import Admission, measure
from patter_trio.server.context import ServerContext
from patter_trio.server.listening import Listening
from patter_trio.server.outbound import Dialler
from patter_trio.server.page_calls import AnnouncedPageCalls

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp

SendDigitsOverride = Callable[[CallInfo, str], Awaitable[bool]]
"""A function that sends DTMF digits to the other side of a call, as ``Carrier.send_digits`` does."""


class RunningServer(Protocol):
    """A running call server, as its phone uses it."""

    dialler: Dialler
    """Places calls."""
    context: ServerContext
    """The state that its connections share."""
    token: trio.lowlevel.TrioToken
    """The trio run that it belongs to."""

    @property
    def draining(self) -> bool:
        """True if it accepts no more calls."""

    @property
    def lag(self) -> float | None:
        """The lag of the event loop, in seconds; None: it is not measured."""

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 (a grace, not a deadline)
        """Accept no more calls, and wait at most ``timeout`` seconds for the live ones to end."""


def calling_server(servers: Sequence[RunningServer]) -> RunningServer:
    """Return the server that places calls: the newest one that takes some.

    Raises:
        ConfigurationError: none is running.
    """
    if not servers:
        raise ConfigurationError(
            "to place calls, the phone must be served, because the carrier asks there what to do when somebody "
            "answers: run phone.serve beside it, such as by `await nursery.start(phone.serve, agent)`"
        )
    taking = [server for server in servers if not server.draining]
    return (taking or servers)[-1]


@attrs.frozen(kw_only=True, eq=False)
class ServeOptions:
    """All options that a call server receives from its phone and from ``phone.serve``.

    Attributes:
        agent: the agent that answers the calls.
        carrier: the carrier of the calls.
        public_url: the URL at which the carrier reaches us: ``https://host``.
        callbacks: the application's functions; those passed to ``serve`` take precedence over those set on the phone.
        subscribers: the subscriptions to events of all calls of the phone.
        live: the phone's live calls by id; the server adds and removes its own.
        call_servers: the phone's running servers, oldest first; a server adds itself, and removes itself when it
            closes.
        pricing: prices by provider and model: the list prices, overridden by those of the application.
        guard: decides which addresses the URLs of tools may lead to.
        voicemail_message: what placed calls say to a machine that answers, if they have no message of their own.
        max_calls: number of live and announced calls at which new callers hear busy; None: no limit.
        max_lag: seconds of event loop lag above which new callers hear busy; None: no limit.
        on_message_secret: signs requests to the application's URLs; empty: ``PATTER_WEBHOOK_SECRET``, or unsigned if
            that is not set.
        recorder: records the events of all calls of the phone, for windows and the call log.
        call_log: the phone's call log; None: calls are not logged.
        record_to: the folder of our own recordings; None: calls are not recorded there.
        recording: True: the carrier records each call.
        page_calls: announces the calls of the browser phone; None: only carriers bring calls.
        routes: the routes of windows, served beside the server's own, after them. The access rule is applied before
            each; a route checks nothing itself.
        open_routes: routes of windows for everybody, such as the login.
        listening: the listeners of live calls; None: nobody may listen.
        access: what the access rule uses; by default nobody may look.
        app: the application's own ASGI application, for all paths that no route has; None: it has none.
        app_state: what the lifespan of ``app`` has set for its requests.
        call_observers: make an observer of each call; they get every event, internal ones included.
        record_sinks: get the records of events while the server runs.
        carrier_failed: called with the names of the carrier and of the error for each request to it that failed.
    """

    agent: Agent
    carrier: Carrier
    public_url: str
    callbacks: CallbackRegistry
    subscribers: Subscribers
    live: MutableMapping[str, CallSession]
    call_servers: list[RunningServer]
    pricing: Pricing
    guard: Guard
    voicemail_message: str = ""
    max_calls: int | None = None
    max_lag: float | None = None
    on_message_secret: str = attrs.field(default="", repr=False)
    recorder: EventRecorder = attrs.field(factory=EventRecorder)
    call_log: PhoneLog | None = None
    record_to: Path | None = None
    recording: bool = False
    page_calls: AnnouncedPageCalls | None = None
    routes: Sequence["BaseRoute"] = ()
    open_routes: Sequence["BaseRoute"] = ()
    listening: Listening | None = None
    access: Access = NOBODY
    app: "ASGIApp | None" = None
    app_state: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    call_observers: Sequence[Callable[[CallInfo], CallObserver]] = ()
    record_sinks: Sequence[RecordSink] = ()
    carrier_failed: Callable[[str, str], None] = lambda _, __: None


def _unchanged(agent: Agent) -> Agent:
    return agent


@attrs.frozen(kw_only=True)
class Seams:
    """Seams for tests and simulated calls: replacements for clock and carrier, and taps; the defaults change nothing.

    Attributes:
        epoch: Unix time, in seconds, of zero on trio's clock; None: from the machine's clock when the server opens.
        tap: called with each callback event of every call: name, call time in seconds, payload.
        bus_tap: called with each event of the bus; with it, events are published even without a subscriber.
        send_digits: sends DTMF digits instead of the carrier; None: the carrier sends them.
        observers: receive each event of every call, internal ones included.
        meter: makes the meter of a call.
        measure_lag: measures the event loop for admission, until cancelled.
        open_recording: makes the file of a recording.
        adapted: changes the agent of each call: the served one, and the one with the overrides of ``on_call_start``.
        tells_edges: False: the callbacks of speech edges are not called, because nobody speaks.
        take_over: called with number and briefing in the place of the call to a person who is to take a call over; the
            person accepts at once.
    """

    # The machine's clock by default. Tests set it, so that payloads are the same in each run.
    epoch: float | None = None
    tap: Tap | None = None
    bus_tap: Tap | None = None
    send_digits: SendDigitsOverride | None = None
    observers: Sequence[CallObserver] = ()
    meter: Callable[..., Meter] = Meter
    measure_lag: Callable[[Admission, Callable[[], int]], Awaitable[None]] = measure
    open_recording: Callable[[Path], RecordingFile] = GrowingWav
    adapted: Callable[[Agent], Agent] = _unchanged
    tells_edges: bool = True
    take_over: Callable[[str, str], None] | None = None
