"""The call server: it runs each call, with the phone's agent and the application's callbacks.

There are two nurseries. The inner one serves connections, and each call runs in the task of its connection. The outer
one, opened here, holds the tasks of observers, which may outlive their calls by the times in ``events/callbacks.py``.
"""

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio

from patter_trio.abc import CallInfo, CallReturned, CarrierReport, WebhookKind
from patter_trio.call.announced import PendingControl
from patter_trio.call.control import CallControl
from patter_trio.call.leg import MediaLeg
from patter_trio.call.responder.on_message import MessageHandler
from patter_trio.call.session import CallSession
from patter_trio.call.tools.webhooks import ToolWebhooks
from patter_trio.call_log.writer import LogWriter
from patter_trio.events.callback_registry import Callback
from patter_trio.logs import mask_logs
from patter_trio.metrics.summary import summary
from patter_trio.net.http import shared_client
from patter_trio.net.pulse import Pulse
from patter_trio.server.admission import Admission
from patter_trio.server.announced import AnnouncedCalls
from patter_trio.server.answerer import Answering, answerer_of, message_handler_of
from patter_trio.server.call_events_source import CallEventsSource
from patter_trio.server.carrier_facts import CarrierFacts
from patter_trio.server.carrier_reports import CarrierReports
from patter_trio.server.context import ServerContext
from patter_trio.server.draining import Draining
from patter_trio.server.ended import EndedCalls
from patter_trio.server.hang_ups import HangUps
from patter_trio.server.logged import logged_in, open_log, recordings_into
from patter_trio.server.lost_streams import LostStreams
from patter_trio.server.machines import on_finding
from patter_trio.server.options import Seams, ServeOptions
from patter_trio.server.outbound import Dialler
from patter_trio.server.pending import PendingCall, PendingCalls
from patter_trio.server.placed import CallRequest, PlacedCall
from patter_trio.server.recorders import Recorders
from patter_trio.server.schedule_host import host_schedules
from patter_trio.server.second_legs import SecondLegs
from patter_trio.server.sessions import ReadyCall, Sessions
from patter_trio.server.starting import StartingCall
from patter_trio.tracing.setup import OpenTrace, opened_tracing
from patter_trio.user_code.urls import secret_of

_log = logging.getLogger("patter_trio.call")


class CallServer:
    """The server of a phone's calls, each from its announcement to its end.

    Args:
        options: the agent, the carrier, the callbacks and the limits.
        seams: replacements for clock, carrier and observers, for tests and simulated calls.
        nursery: runs the tasks of observers; it outlives the calls.
        messages: answers callers instead of an LLM; None: the agent's ``llm`` or ``engine`` answers.
        webhooks: calls the tools behind URLs.
        admission: decides whether to accept another call.
        tracing: opens the trace of a call; None: tracing is off.
        neighbours: the servers of other calls behind the same port.
        log: writes the call log; None: calls are not logged.
    """

    def __init__(
        self,
        options: ServeOptions,
        seams: Seams,
        nursery: trio.Nursery,
        *,
        messages: MessageHandler | None,
        webhooks: ToolWebhooks,
        admission: Admission,
        tracing: OpenTrace | None,
        neighbours: tuple[ServerContext, ...] = (),
        log: LogWriter | None = None,
    ) -> None:
        self._options = options
        self._answering = Answering(options.agent, messages, options.callbacks)
        self._nursery = nursery
        self._webhooks = webhooks
        self._admission = admission
        self._seams = seams
        self._hang_ups = HangUps(options.carrier, nursery)
        self._events = CallEventsSource(options, seams, nursery)
        self._live: dict[str, CallSession] = {}
        self._ended = EndedCalls()
        self._handed_over = EndedCalls()
        """The calls that were transferred: they go on at the carrier without us."""
        self.token: trio.lowlevel.TrioToken = trio.lowlevel.current_trio_token()
        """The trio run that the server belongs to."""
        self._call_over = Pulse()
        self.dialler: Dialler = Dialler(options.carrier, self, nursery)
        self.closed: trio.Event = trio.Event()
        """Set when :meth:`drain` has finished and the server can be closed."""
        self.context: ServerContext = self._context(neighbours)
        self._announced = AnnouncedCalls(
            self.context,
            nursery,
            self._events,
            self._ended,
            self._hang_ups,
            find=self.callback,
            tracing=tracing,
            tap=seams.tap,
            on_over=self._never_connected,
        )
        self._lost = LostStreams(options.carrier, self.context.stream_url, nursery, self._call_over.fire)
        self._draining = Draining(self._live, self.dialler, self.context.pending, self._lost, self._call_over)
        recording_url = self.context.webhook_url("recording")
        self._recorders = Recorders(options, seams, nursery, recording_url, recordings_into(log))
        self._facts = CarrierFacts(
            options.carrier, nursery, self._events.of_call, options.subscribers, is_logged=log is not None
        )
        self._reports = CarrierReports(
            self.context.pending,
            nursery,
            dialler=self.dialler,
            announced=self._announced,
            live=self._live,
            ended=self._ended,
            hang_ups=self._hang_ups,
            facts=self._facts,
            lost=self._lost,
        )
        self._sessions = Sessions(
            options,
            seams,
            nursery,
            self.context,
            self.callback,
            webhooks=webhooks,
            second_legs=SecondLegs(self.dialler, nursery),
            lost=self._lost,
            recorders=self._recorders,
            on_report=self.on_report,
        )

    def _context(self, neighbours: tuple[ServerContext, ...]) -> ServerContext:
        """Return what connections know of this server, and what they may ask of it."""
        options = self._options
        return ServerContext(
            carrier=options.carrier,
            public_url=options.public_url,
            pending=PendingCalls(),
            refusal=self.refusal,
            on_announced=self.on_announced,
            run_call=self.run_call,
            on_report=self.on_report,
            command=self.command,
            knows=self.knows,
            unix_time=self._events.unix_time,
            on_refused=self.on_refused,
            on_answered=self.dialler.on_offered,
            end_stray=self.end_stray,
            on_returned=self.on_returned,
            claim_lost=self.claim_lost,
            is_lost=lambda call_id: call_id in self._lost,
            neighbours=neighbours,
            routes=options.routes,
            open_routes=options.open_routes,
            listening=options.listening,
            access=options.access,
            app=options.app,
            app_state=options.app_state,
        )

    def __repr__(self) -> str:
        return f"<CallServer {len(self._live)} calls{', draining' if self.draining else ''}>"

    @property
    def draining(self) -> bool:
        """True if no more calls are accepted."""
        return self._draining.has_begun

    @property
    def lag(self) -> float | None:
        """The lag of the event loop, in seconds; None: it is not measured."""
        return self._admission.lag if self._admission.measures else None

    def callback(self, name: str) -> Callback | None:
        """Return the application's callback of that name that is set now, or None."""
        return self._answering.callbacks.find(name)

    def knows(self, call_id: str) -> bool:
        """Return True if a call is live, or was, or was refused: a webhook that announces it is a repetition."""
        return call_id in self._live or self._ended.remembers(call_id, trio.current_time())

    def end_stray(self, call_id: str) -> None:
        """Hang up an answered call in the background, unless it is a repetition about a call that goes on."""
        owned = call_id in self._live or call_id in self.context.pending or call_id in self.dialler
        if not owned and not self._handed_over.remembers(call_id, trio.current_time()):
            self._nursery.start_soon(self.dialler.end_stray, call_id)

    def refusal(self, call_id: str) -> str:
        """Return the reason to refuse a call that is announced for the first time; empty: it is accepted."""
        # Also a call that is live: a repeated webhook must not make a second session for it.
        if call_id in self._live:
            return "the call is live already"
        now, pending = trio.current_time(), self.context.pending
        if self._ended.remembers(call_id, now):
            return "the call is over already"
        # It was judged when it was dialled.
        if call_id in self.dialler:
            return ""
        if self.draining:
            return "the server is draining"
        # Calls that ring occupy room: each may be answered at the same moment.
        ringing = self.dialler.waiting
        return self._admission.refusal(
            live=len(self._live),
            announced=len(pending) + ringing,
            connecting=pending.expected(now) + ringing,
            now=now,
        )

    # Calls that we place ----------------------------------------------------------------------------------------------
    def answering(self, request: CallRequest) -> Answering:
        """Return what talks in a call that is to be placed.

        Raises:
            ConfigurationError: nothing answers for the agent, or the URL of one of its tools is not allowed.
        """
        if request.agent is None:
            return self._answering.instead(None, request.first_message)
        if request.second_leg is not None:
            return self._answering.briefing(request.agent)
        # Before the dial: the person who answers must not be the one to find it out.
        self._webhooks.check(request.agent.tools)
        return self._answering.instead(request.agent, request.first_message)

    @property
    def voicemail_message(self) -> str:
        """The message for a machine that answers a placed call, if the call has none of its own."""
        return self._options.voicemail_message

    def begin(self, placed: PlacedCall, info: CallInfo) -> CallControl:
        """Call ``on_call_start`` for a call that the carrier has taken; return its control."""
        # Until somebody answers, a hang-up stops the ringing.
        control = PendingControl(info, partial(self.dialler.cancel_unanswered, placed))
        self._announced.begin(info, placed.answering.agent, control)
        return control.control

    def give_up(self, info: CallInfo, outcome: str, why: str) -> None:
        """End a call that we placed and that is not live."""
        self.context.pending.give_up(info.call_id)
        self._announced.never_connected(info, outcome, why)

    def webhook_url(self, kind: WebhookKind, dial: str = "") -> str:
        """Return the URL of one of our webhooks, for the call with that reference."""
        return self.context.webhook_url(kind, dial)

    async def measure(self, scope: trio.CancelScope) -> None:
        """Measure the event loop for :meth:`refusal`, until ``scope`` is cancelled."""
        with scope:
            await self._seams.measure_lag(self._admission, self._live.__len__)

    async def expire_pending(self, scope: trio.CancelScope) -> None:
        """Give up announced calls that never connect, each when its token expires, until ``scope`` is cancelled."""
        await self._announced.expire(scope)

    def on_announced(self, call: PendingCall) -> None:
        """Call ``on_call_start`` for a call as soon as it is announced, before its audio arrives."""
        # WARNING: nothing here may await: the webhook's answer follows, and the media stream may arrive right behind
        # it.
        self._announced.watch_expiry()
        # A call that we placed has begun already.
        if call.info.call_id not in self.dialler:
            self._announced.begin(call.info, self._answering.agent, PendingControl(call.info))

    def command(self, info: CallInfo, request: Callable[[], Awaitable[None]]) -> None:
        """Send a request about an announced call to the carrier, in the background.

        If it fails, the call is given up.
        """
        self._nursery.start_soon(self._reports.send, info, request)

    def on_report(self, report: CarrierReport) -> None:
        """Act on what the carrier reports about a call."""
        self._reports.take(report)

    def on_returned(self, report: CallReturned) -> str:
        """Return the document with which a call continues whose stream is over; empty: it is over."""
        return self._reports.returned(report)

    def claim_lost(self, call_id: str, token: str) -> CallInfo | None:
        """Return the facts about a live call that waits for another stream, once for a token; None without one."""
        return self._lost.claim(call_id, token)

    def on_refused(self, info: CallInfo, why: str) -> None:
        """Publish that a call hears busy, unless it is a live or ended call that is announced again."""
        now = trio.current_time()
        if info.call_id not in self._live and not self._ended.remembers(info.call_id, now):
            self._ended.add(info.call_id, now)
            self._events.of_call(info.call_id).never_connected("busy", why, info)

    def _never_connected(self, call_id: str, outcome: str) -> None:
        self.dialler.over(call_id, outcome)
        # It may be the last call that a drain waits for.
        self._call_over.fire()

    async def run_call(self, leg: MediaLeg) -> None:
        """Run a call from the start of its media stream to its end; one that is live goes on over this stream."""
        info = leg.info
        if (live := self._live.get(info.call_id)) is not None:
            await live.streams.attach(leg)
            return
        starting = self._announced.connected(info.call_id)
        events = starting.events
        # Before anything of the call runs: user code, wherever it is called, reads the call from the context.
        events.enter()
        placed = self.dialler.on_live(info.call_id)
        answering = self._answering if placed is None else placed.answering
        hang_up = self._hang_ups.once(info.call_id, lambda: call.streams.is_lost)
        ready = self._sessions.of_call(leg, starting, answering, placed=placed, on_hang_up=hang_up)
        call = ready.session
        events.exit_by(call.exit)
        self._facts.begin(info.call_id, events, ready.reporter)
        self._live[info.call_id] = self._options.live[info.call_id] = call
        _log.info("call %s: started, %s", info.call_id, info.direction)
        if self._seams.tap is not None:
            self._seams.tap(0.0, "call_start", info.payload())
        events.connected(starting.media, info)
        if placed is not None:
            self._take_findings(call, placed)
        try:
            # Of a call that we placed: its owner may end it at once.
            with trio.CancelScope() if placed is None else placed.running:
                await call.run(ready.callback_queue)
        finally:
            self._over(ready, starting, hang_up)

    def _over(self, ready: ReadyCall, starting: StartingCall, hang_up: Callable[[], None]) -> None:
        """End what belongs to a call that has run, and announce its end. It awaits nothing, so it runs completely."""
        call = ready.session
        call_id, now = call.info.call_id, trio.current_time()
        # WARNING: the order matters. The subscriptions end first, so that nothing is delivered about a call that is no
        # longer listed; its end is announced last, because that may end the server.
        starting.events.close()
        ready.recorded.end()
        self._facts.over(call_id)
        # "failed" stands only if no event has reported the call's end; a trace that has ended keeps its outcome.
        starting.give_up("call over", "failed")
        del self._live[call_id]
        self._lost.over(call_id)
        del self._options.live[call_id]
        self._ended.add(call_id, now)
        self.dialler.over(call_id, call.outcome)
        # A call that was handed over goes on without us. Also for a caller who has hung up: the carrier's stream may
        # have ended by itself.
        if call.is_handed_over:
            self._handed_over.add(call_id, now)
        else:
            hang_up()
            # After the caller's own hang-up, nobody hears the answer.
            if call.outcome != "caller_hung_up":
                self._lost.hung_up(call_id, now)
        # Closed with the last event, so that these are the metrics that on_call_end got.
        _log.info("call %s: ended, %s", call_id, summary(call.outcome, ready.reporter.metrics(now)))
        self._call_over.fire()

    def _take_findings(self, call: CallSession, placed: PlacedCall) -> None:
        """Report the person to the transfer that waits for one, and act on what the carrier has found out already."""
        placed.request.met_by(call)
        for finding in tuple(placed.findings):
            on_finding(call, placed, finding, self._nursery)

    def expire_all(self) -> None:
        """Give up all announced and dialled calls, because the server closes and cannot answer them."""
        self.dialler.close()
        self._announced.expire_all()

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 (a grace, not a deadline)
        """Accept no more calls, and wait at most ``timeout`` seconds for the live and announced ones to end.

        An announced call is waited for as long as it is expected to connect: its caller already waits for the agent. A
        carrier that asks how a call continues, which the agent has ended, gets its answer.
        """
        await self._draining.wait(timeout)
        # Only now: until here the streams of events show the calls that go on, and a page may connect again.
        self.context.streams.draining.set()
        # In any case: after the timeout the server closes, and the remaining calls are ended by cancellation.
        self.closed.set()

    async def end_now(self) -> None:
        """Accept no more calls, end the live ones at once, and shorten the time of the last callbacks."""
        self.shorten_grace()
        await self.drain(0.0)

    def close(self) -> None:
        """End the tasks of handlers once each queued event has been delivered. Call it when all calls are over."""
        self._events.close()
        self._recorders.close()
        self._facts.close()

    def shorten_grace(self) -> None:
        """Shorten the callbacks' time, because the server is being cancelled."""
        self._events.shorten_grace()


@asynccontextmanager
async def open_call_server(
    options: ServeOptions, seams: Seams | None = None, neighbours: tuple[ServerContext, ...] = ()
) -> AsyncIterator[CallServer]:
    """Open a call server; on exit, wait for the last callbacks, each within its time limit.

    Args:
        options: the agent, the carrier, the callbacks and the limits.
        seams: replacements for tests and simulated calls.
        neighbours: the servers of other calls behind the same port, which are open as long as this one.

    Raises:
        ConfigurationError: the agent does not have exactly one of ``llm=`` and ``on_message=``, or the URL of a tool
            leads to an address that the phone does not allow.
    """
    # Before anything can be logged: the application may have set up its logging after importing this package.
    mask_logs()
    # All checks before the first resource is opened: an error then comes bare, without a group or a clean-up.
    agent, callbacks = answerer_of(options.agent, options.callbacks)
    options = attrs.evolve(options, agent=agent, callbacks=callbacks)
    messages = message_handler_of(callbacks.own.get("on_message"), options.on_message_secret)
    webhooks = ToolWebhooks(secret_of(options.on_message_secret), options.guard)
    webhooks.check(agent.tools)
    admission = Admission(max_calls=options.max_calls, max_lag=options.max_lag, now=trio.current_time())
    # WARNING: the order matters. The clients are opened first and so closed last: a shielded tool or a callback that
    # outlives its call, in the nursery, may still use them. Three, because each has its own rule for proxies and
    # addresses. The call log before them: it takes what the last callbacks lead to.
    async with (
        open_log(options) as log,
        shared_client(),
        shared_client(direct=True),
        shared_client(webhooks.guard),
        trio.open_nursery() as nursery,
    ):
        call_server = CallServer(
            logged_in(options, log),
            seams or Seams(),
            nursery,
            messages=messages,
            webhooks=webhooks,
            admission=admission,
            tracing=opened_tracing(),
            neighbours=neighbours,
            log=log,
        )
        # Before the first connection: ``phone.drain`` must reach a server that has just begun. The last one places
        # calls, so a call in text, whose carrier calls nobody, does not come behind the servers of carriers.
        place = len(options.call_servers) if seams is None or seams.tells_edges else 0
        options.call_servers.insert(place, call_server)
        forgetting, measuring = trio.CancelScope(), trio.CancelScope()
        nursery.start_soon(call_server.expire_pending, forgetting)
        if admission.measures:
            nursery.start_soon(call_server.measure, measuring)
        try:
            async with host_schedules(call_server.context.unix_time):
                yield call_server
        # Also for an error, which ends the server just the same. The time is shortened before the nursery waits for
        # callbacks.
        except BaseException:
            call_server.shorten_grace()
            raise
        finally:
            # Cancelled, although no exception says so: the block ended without passing a checkpoint.
            if trio.current_effective_deadline() == -math.inf:
                call_server.shorten_grace()
            # No await in this block: it runs completely, although the server may be cancelled.
            options.call_servers.remove(call_server)
            call_server.expire_all()
            call_server.close()
            forgetting.cancel(reason="the call server is closed")
            measuring.cancel(reason="the call server is closed")
