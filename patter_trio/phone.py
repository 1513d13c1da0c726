"""The phone, ``Patter``: it makes agents, serves calls and holds the live ones."""

import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from patter_trio.abc import CallArchive, Carrier
from patter_trio.agent.agent import Agent
from patter_trio.call.control import CallControl
from patter_trio.call.recording import checked_folder
from patter_trio.call.session import CallSession
from patter_trio.call_log.options import CallLog, checked_log
from patter_trio.call_log.phone_log import PhoneLog
from patter_trio.carriers.local import LocalCarrier
from patter_trio.dashboard.log_lines import LogLines
from patter_trio.dashboard.windows import with_dashboard
from patter_trio.errors import ConfigurationError
from patter_trio.events.bus import EventBus, subscribers_of
from patter_trio.events.callback_registry import Callback, CallbackRegistry, SpeechCallbacks
from patter_trio.events.feed import EventFeed
from patter_trio.events.payloads import EDGES, ConversationStateSnapshot, seen_state
from patter_trio.events.records import EventRecorder
from patter_trio.events.speech_events import PhoneSpeechEvents, SpeechEvents
from patter_trio.logs import shown_value
from patter_trio.net.address_guard import Guard
from patter_trio.net.tasks import bare_failure
from patter_trio.phone_numbers import E164_FORM, checked_number, is_number, load_numbering_plans
from patter_trio.phone_page.live_timelines import LiveTimelines
from patter_trio.phone_page.page import PhonePage
from patter_trio.phone_page.windows import with_browser_phone
from patter_trio.pricing import Pricing, merge_pricing
from patter_trio.providers.keyword_hints import with_hints, with_parameters_of
from patter_trio.providers.misuse import for_await, for_block
from patter_trio.providers.other_names import keywords_of
from patter_trio.server.admission import MAX_LAG_S
from patter_trio.server.answerer import with_keys
from patter_trio.server.calls import open_call_server
from patter_trio.server.context import checked_public_url, doubt_about
from patter_trio.server.in_process import hold_call
from patter_trio.server.listeners import check_port, listening_address, open_listeners
from patter_trio.server.options import RunningServer, ServeOptions, calling_server
from patter_trio.server.outbound_call import OutboundCall, ended_with_block
from patter_trio.server.page_calls import PAGE_CALLER
from patter_trio.server.placed import CallRequest, WhoAnswers, checked_detection
from patter_trio.server.serve_checks import check_agent, check_kinds, check_limits, check_scheduler, checked_windows
from patter_trio.server.served_elsewhere import ServedElsewhere
from patter_trio.server.serving import serve_until_drained
from patter_trio.server.signals import StopRequest, stop_signals
from patter_trio.server.tunnel import Tunnel, check_installed, checked_tunnel, open_tunnel
from patter_trio.server.windows import NO_WINDOWS, Windows, access_of, open_windows
from patter_trio.text_chat import TextCall
from patter_trio.text_chat._call import text_line
from patter_trio.timeline.observed import observed
from patter_trio.user_code.urls import is_exposed

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_log = logging.getLogger("patter_trio.server")

# Judged: time for an ordinary call to come to its end. Docker kills a process 10 s after SIGTERM and Kubernetes after
# 30 s by default.
DRAIN_TIMEOUT_S = 30.0
"""Seconds that live calls have to finish after SIGTERM."""


def _places() -> dict[str, str]:
    """Return where each option of a phone, its agents and its servers belongs."""
    owners: dict[str, Callable[..., Any]] = {
        "Patter(...)": Patter,
        "phone.serve(...)": Patter.serve,
        "phone.agent(...)": Agent,
    }
    return {
        **{f"on_{edge}": f"the phone: phone.on_{edge} = ..." for edge in EDGES},
        **{name: place for place, owner in owners.items() for name in keywords_of(owner)},
    }


def _check_number(phone_number: object) -> None:
    # Empty: the phone only takes calls, and each call names the number that was called.
    if not isinstance(phone_number, str):
        raise ConfigurationError(f"phone_number must be a string, got {type(phone_number).__name__}")
    if phone_number and not is_number(phone_number):
        raise ConfigurationError(f"phone_number must be E.164, {E164_FORM}, got {phone_number!r}")


class Patter(SpeechCallbacks):
    """A phone: a number at a carrier, and the agents that answer it.

    Args:
        carrier: the carrier of the calls, such as ``Twilio()``; None: the local development carrier, which only the
            simulator of this package can call.
        phone_number: the number, E.164.
        webhook_url: the address at which the carrier reaches us: a host (with https) or a URL; empty: the address that
            :meth:`serve` listens on.
        tunnel: the program that makes a public address for :meth:`serve`, instead of ``webhook_url``: ``"cloudflared"``
            or ``"ngrok"``, or True for whichever is on PATH; or the hostname of a tunnel that runs already.
        pricing: the application's own prices, which override the list prices, in the form that
            :func:`~patter_trio.pricing.merge_pricing` takes; None: the list prices.
        allow_private_hosts: names of hosts that a tool's ``webhook_url`` may lead to although their addresses are
            private, such as ``localhost``.
        persist: the call log: True for ``patter.db`` in the folder ``PATTER_LOG_DIR`` (else ``calls``), a path, a URL
            (``postgresql://...``), or a :class:`~patter_trio.CallLog`; None or False: calls are not logged.

    Raises:
        MissingExtraError: a package that the call log needs is not installed.
        ConfigurationError: ``carrier`` is not a carrier, ``pricing`` is not a table of prices, or
            ``allow_private_hosts`` is not a list of names; ``phone_number`` is not a number, or ``webhook_url`` not a
            string; or both ``webhook_url`` and ``tunnel`` are given.
    """

    # With slots, setting a misspelled callback is an error instead of a callback that is never called.
    __slots__ = (
        "__weakref__",
        "_call_servers",
        "_feed",
        "_guard",
        "_live",
        "_log",
        "_recorder",
        "_tunnels",
        "carrier",
        "events",
        "phone_number",
        "pricing",
        "speech_events",
        "tunnel",
        "webhook_url",
    )

    @with_hints(_places)
    def __init__(
        self,
        carrier: Carrier | None = None,
        phone_number: str = "",
        webhook_url: str = "",
        *,
        tunnel: Tunnel = None,
        pricing: Pricing | None = None,
        allow_private_hosts: Iterable[str] = (),
        persist: bool | str | Path | CallLog | None = None,
    ) -> None:
        _check_number(phone_number)
        if not isinstance(webhook_url, str):
            raise ConfigurationError(f"webhook_url must be a string, got {type(webhook_url).__name__}")
        if carrier is not None and not isinstance(carrier, Carrier):
            raise ConfigurationError(f"carrier must be a carrier such as Twilio(), got {shown_value(carrier)}")
        if tunnel and webhook_url:
            raise ConfigurationError("give either webhook_url= or tunnel=, not both: each is the public address")
        super().__init__(CallbackRegistry())
        self.carrier: Carrier | None = carrier
        self.phone_number: str = phone_number
        self.webhook_url: str = webhook_url
        self.tunnel: Tunnel = checked_tunnel(tunnel)
        self._tunnels: dict[tuple[str, int], str] = {}
        """The public URLs of open tunnels, by the address of the server that each leads to."""
        self._guard: Guard = Guard(allow_private_hosts)
        """The guard that decides which addresses the URLs of tools may lead to."""
        self.events: EventBus = EventBus()
        """The event bus, which publishes the events of all calls of this phone."""
        # The phone's, because it numbers the events of all servers.
        self._recorder: EventRecorder = EventRecorder(observed)
        self._feed: EventFeed = EventFeed(self._recorder)
        """The streams of records for windows."""
        # The phone's, not a server's: callbacks and speech events find the calls of all its servers here.
        self._live: dict[str, CallSession] = {}
        """The live calls by id, oldest first; the call servers add and remove them."""
        # The lookup, not the dict: speech events can find a call and do nothing else with it.
        self.speech_events: SpeechEvents = PhoneSpeechEvents(self._callbacks, self._live.get)
        """The speech edges, which adapters of the application can fire."""
        log = checked_log(persist)
        self._log: PhoneLog | None = None if log is None else PhoneLog(log)
        self.pricing: dict[str, dict[str, Any]] = merge_pricing(pricing)
        """The prices by provider and model."""
        self._call_servers: list[RunningServer] = []

    def __repr__(self) -> str:
        carrier = self.carrier.name if self.carrier else "local"
        return f"<Patter {carrier} {self.phone_number or 'without number'}, {len(self._live)} calls>"

    @property
    def calls(self) -> tuple[CallControl, ...]:
        """The live calls, oldest first: the same objects that callbacks receive as ``call_control``."""
        return tuple(call.control for call in self._live.values())

    @property
    def call_log(self) -> CallArchive | None:
        """The calls in the call log, those that are live included; None without ``persist=``."""
        return None if self._log is None else self._log.archive

    @property
    def conversation_state(self) -> ConversationStateSnapshot:
        """The state of the newest live call; within a callback, as it was when the callback's event fired."""
        # In a callback the state is the one of its event: by now the call may be two turns further.
        seen = seen_state.get()
        if seen is not None:
            return ConversationStateSnapshot(user=seen["user"], agent=seen["agent"])
        newest = next(reversed(self._live.values()), None)
        return self.speech_events.conversation_state if newest is None else newest.conversation_state

    @with_parameters_of(Agent)
    def agent(self, *arguments: Any, **options: Any) -> Agent:
        """Make an agent, like :class:`~patter_trio.Agent`."""
        return Agent(*arguments, **options)

    @with_hints(_places)
    async def serve(
        self,
        agent: Agent,
        port: int = 8000,
        *,
        host: str = "",
        on_call_start: Callback | None = None,
        on_call_end: Callback | None = None,
        on_transcript: Callback | None = None,
        on_message: Callback | str | None = None,
        on_message_secret: str = "",
        on_metrics: Callback | None = None,
        on_dtmf: Callback | None = None,
        voicemail_message: str = "",
        max_calls: int | None = None,
        max_lag: float | None = MAX_LAG_S,
        drain_timeout: float = DRAIN_TIMEOUT_S,
        handle_signals: bool = True,
        tunnel: Tunnel = None,
        record_to: str | Path | None = None,
        recording: bool = False,
        dashboard: bool = False,
        dashboard_token: str = "",
        app: "ASGIApp | None" = None,
        browser_phone: PhonePage | bool = False,
        task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Answer calls until cancelled, or until drained by SIGTERM, SIGHUP or :meth:`drain`.

        Cancelling ``serve`` ends all calls: it hangs up and runs the last callbacks, within 7 s. ``await
        nursery.start(phone.serve, agent)`` returns the bound ``(host, port)`` as soon as the server listens.

        Args:
            agent: the agent that answers the calls.
            port: TCP port; 0: the system chooses a free one.
            host: address to listen on; empty: ``PATTER_BIND_HOST``, or 127.0.0.1 if that is not set.
            on_call_start: called when a call is announced; a dict that it returns changes the agent for this call.
            on_call_end: called once for each announced call, also if it never connected.
            on_transcript: called with each utterance of either side.
            on_message: answers the caller, instead of ``llm``: a function of ``(event)`` or ``(event, call_control)``
                that returns text or None, an async generator of text, or an http(s) or ws(s) URL.
            on_message_secret: the key that signs requests to such a URL, and to URLs of tools; empty:
                ``PATTER_WEBHOOK_SECRET``, or unsigned if that is not set.
            on_metrics: called after each turn, with its latencies and the cost of the call so far.
            on_dtmf: called with each key that the caller presses.
            voicemail_message: what calls that ask for ``machine_detection`` say to a machine, if they have no message
                of their own.
            max_calls: maximum number of calls, announced ones included; further callers hear busy. 0: each
                caller hears busy; None: no limit.
            max_lag: seconds of event loop lag above which new callers hear busy. They also hear busy if another call is
                expected to keep the loop busy for more than 85 % of the time. None: neither limit applies.
            drain_timeout: seconds that live calls have to finish after SIGTERM or SIGHUP; 0: they end at once. The
                second signal ends them at once, and the last callbacks run within 7 s. Each signal counts for all
                phones of the process.
            handle_signals: False: leave the signals to the application, which then calls :meth:`drain` itself. Signals
                are also left alone outside of the main thread, and where they are ignored.
            tunnel: as for :class:`Patter`, and in place of its ``tunnel`` and ``webhook_url``; the tunnel is stopped
                when the last call is over.
            record_to: a folder in which each call is recorded as ``<call_id>.wav``, while it goes on: on the left what
                the caller said, on the right what the caller heard. It is made if it is missing; None: no recording.
            recording: True: the carrier records each call, at its own price; the event RECORDING_SAVED says where.
            dashboard: True: show the calls, and let them be steered, under ``/dashboard/``, ``/api/`` and ``/metrics``.
            dashboard_token: the token that those who look must have, at least 16 characters; empty: only this machine
                may look, at a server on loopback that neither a tunnel nor a public ``webhook_url`` leads to.
            app: an ASGI application of your own, which gets each request that is for no path of this server, and
                upgrades outside of ``/ws/`` and ``/webhooks/``. It runs on trio. What it raises ends its own request.
            browser_phone: True: serve a page at ``/phone/`` that calls the agent by microphone and speaker, to browsers
                of this machine; or what that page shows about the program, as ``patter-trio dev`` gives it.
            task_status: for ``nursery.start``.

        Raises:
            ConfigurationError: the port is in use; ``webhook_url`` is not a URL; a callback is not callable
                (``on_message`` may also be a URL); a tool's URL leads to a private address that is not in
                ``allow_private_hosts``; the agent does not have exactly one of ``llm=`` and ``on_message=``; no program
                for tunnels is on PATH; ``dashboard_token`` is unfit; or ``app`` has failed to start.
            PatterConnectionError: the tunnel was not opened, or has ended.
        """
        check_scheduler()
        callbacks = {
            "on_call_start": on_call_start,
            "on_call_end": on_call_end,
            "on_transcript": on_transcript,
            "on_message": on_message,
            "on_metrics": on_metrics,
            "on_dtmf": on_dtmf,
        }
        # All checks before the first await and the first socket: a mistake is reported at once, and nothing is left
        # open.
        self._check(agent, callbacks)
        check_port(port)
        check_limits(max_calls, max_lag, drain_timeout)
        check_kinds(voicemail_message, recording)
        token = checked_windows(dashboard, dashboard_token, app)
        folder = checked_folder(record_to)
        tunnel = checked_tunnel(tunnel) or self.tunnel
        check_installed(tunnel)
        # WARNING: the order matters. Models load before the port opens: a call that came meanwhile would have to wait
        # for them.
        await agent.prewarm()
        load_numbering_plans()
        # 127.0.0.1, not 0.0.0.0: a server is open to a network only if somebody says so.
        listeners = await open_listeners(host or os.environ.get("PATTER_BIND_HOST", "127.0.0.1"), port)
        # Python delivers signals to the main thread alone.
        handled = handle_signals and threading.current_thread() is threading.main_thread()
        try:
            # WARNING: the order matters. Outermost the signals: one that comes while the last callbacks run, or while a
            # tunnel is opened or stopped, must not end the process. Then the tunnel, over which the last calls end.
            with stop_signals() if handled else nullcontext() as stop:
                async with self._reachable(tunnel, listening_address(listeners), stop) as public_url:
                    windows, timelines = NO_WINDOWS, LiveTimelines()
                    if dashboard or browser_phone:
                        windows = self._windows(listeners, tunnel, token, timelines, dashboard=dashboard)
                    options = self._serve_options(
                        agent,
                        public_url=public_url,
                        windows=windows,
                        app=app,
                        callbacks=callbacks,
                        voicemail_message=voicemail_message,
                        max_calls=max_calls,
                        max_lag=max_lag,
                        on_message_secret=on_message_secret,
                        record_to=folder,
                        recording=recording,
                    )
                    if browser_phone:
                        hold_text = partial(self._held_in_text, agent, callbacks, PAGE_CALLER, {}, on_message_secret)
                        options = with_browser_phone(options, browser_phone, hold_text, timelines)
                    with windows.served():
                        await serve_until_drained(options, listeners, stop, drain_timeout, task_status)
        finally:
            # Without an await, because ``serve`` may be cancelled. trio has closed them already if serving began; this
            # is for a failure in between.
            for listener in listeners:
                listener.socket.close()

    def asgi(self) -> "ASGIApp":
        """Return an ASGI application with the webhooks and windows of this phone, for another server.

        That server must run on trio, such as ``hypercorn -k trio``, and :meth:`serve` in the same run, because it keeps
        the media streams: carriers open them at its port. Windows then need ``dashboard_token=``. Without a running
        :meth:`serve`, each request gets status 503 and one line that says so.
        """
        return ServedElsewhere(self._call_servers)

    @with_hints(_places)
    @for_block("phone.text_call(...) takes `async with ... as call`")
    @asynccontextmanager
    async def text_call(
        self,
        agent: Agent,
        *,
        caller: str = "",
        custom_params: Mapping[str, str] | None = None,
        on_call_start: Callback | None = None,
        on_call_end: Callback | None = None,
        on_transcript: Callback | None = None,
        on_message: Callback | str | None = None,
        on_message_secret: str = "",
        on_metrics: Callback | None = None,
        on_dtmf: Callback | None = None,
    ) -> AsyncIterator[TextCall]:
        """Hold a call in text with an agent, for the time of a block: lines in, events out, no carrier and no voice.

        It is the call as it is, with text in the place of STT and TTS: tools, hooks, guardrails, callbacks and the
        event bus work. Playback takes no time, speech edges have no callbacks, and the limits of silence do not count.
        Transfers, DTMF and placed calls are events that say what the carrier would do. At the end of the block the
        caller hangs up.

        Args:
            agent: the agent; its LLM, its engine or ``on_message`` answers.
            caller: the caller's number, E.164; empty: a caller who withholds it.
            custom_params: the parameters of the call.
            on_call_start: as for :meth:`serve`, and likewise the other callbacks.
            on_call_end: as for :meth:`serve`.
            on_transcript: as for :meth:`serve`.
            on_message: as for :meth:`serve`.
            on_message_secret: as for :meth:`serve`.
            on_metrics: as for :meth:`serve`.
            on_dtmf: as for :meth:`serve`.

        Raises:
            ConfigurationError: as for :meth:`serve`; or ``caller`` is not a number.
            ProviderError: the LLM or the engine cannot be used.
        """
        callbacks = {
            "on_call_start": on_call_start,
            "on_call_end": on_call_end,
            "on_transcript": on_transcript,
            "on_message": on_message,
            "on_metrics": on_metrics,
            "on_dtmf": on_dtmf,
        }
        held = self._held_in_text(agent, callbacks, caller, custom_params or {}, on_message_secret)
        async with held as call:
            yield call

    @asynccontextmanager
    async def _held_in_text(
        self,
        agent: Agent,
        callbacks: Mapping[str, Any],
        caller: str,
        custom_params: Mapping[str, str],
        on_message_secret: str,
    ) -> AsyncIterator[TextCall]:
        """Hold a call in text for the time of a block; see :meth:`text_call`."""
        check_scheduler()
        check_agent(agent, callbacks)
        if caller:
            checked_number(caller, "caller")
        # Before the line: its agent decides how long the caller waits for keys.
        line = text_line(
            with_keys(agent, callbacks),
            caller=caller,
            callee=self.phone_number,
            custom_params=custom_params,
            unix_time=time.time,
        )
        # Before the server: the call begins with it, and must not wait for a model.
        await line.agent.prewarm()
        options = self._serve_options(
            line.agent,
            public_url="http://localhost",
            carrier=line.carrier,
            callbacks=callbacks,
            on_message_secret=on_message_secret,
        )
        # An application's ``except`` is for the failure, and not for the group that a nursery puts it into.
        with bare_failure():
            async with (
                open_call_server(options, line.seams) as call_server,
                line.held(partial(hold_call, call_server.context), self._control_of) as call,
            ):
                yield call

    def _control_of(self, call_id: str) -> CallControl | None:
        live = self._live.get(call_id)
        return None if live is None else live.control

    @with_hints(_places)
    @for_await("phone.call(...) takes `await`; the block is `async with phone.dial(...) as call`")
    async def call(  # noqa: PLR0917 (the interface that programs know)
        self,
        to: str,
        agent: Agent | None = None,
        first_message: str = "",
        from_number: str = "",
        machine_detection: WhoAnswers | None = None,
        on_machine_detection: Callback | None = None,
        voicemail_message: str = "",
        ring_timeout: int = 25,
        custom_params: Mapping[str, str] | None = None,
        wait: bool = False,
    ) -> OutboundCall:
        """Call a number; return when the carrier has taken the call and it has an id.

        It needs a running :meth:`serve` of this phone, because the carrier asks there what to do when somebody answers.
        ``on_call_start`` is called when the carrier has taken the call, and ``on_call_end`` when it is over, answered
        or not. The call goes on when ``call`` is cancelled after it has returned; :meth:`dial` ends it with a block.

        Args:
            to: the number, E.164.
            agent: the agent that talks; None: the one that is served.
            first_message: what the agent says first, instead of its own ``first_message``.
            from_number: the number that is shown, one of the account at the carrier; empty: ``phone_number``.
            machine_detection: True: ask the carrier whether a machine has answered, for which it may charge;
                ``"acoustic"``: find out by the sound of the line, without the carrier. A machine hears
                ``voicemail_message`` after its greeting; without one, the call is hung up; both with the outcome
                ``voicemail``. With ``on_machine_detection``, and without a message, that function decides. None: True
                if one of these two is given, else False.
            on_machine_detection: called with each finding: ``answered_by`` (``human``, ``machine``, ``fax``,
                ``screening``, ``unknown``) and ``greeting_ended``; not together with ``machine_detection=False``.
            voicemail_message: what is said to a machine; not together with ``machine_detection=False``. Empty: that of
                :meth:`serve`.
            ring_timeout: seconds that the phone rings at most, from 1 to 600; the carrier may add 5 s.
            custom_params: the application's own parameters of the call, which callbacks receive.
            wait: return only when the call is over; if the wait is cancelled, the call ends at once, as with
                :meth:`dial`.

        Raises:
            ConfigurationError: no server of this phone is running, a number cannot be dialled, options are wrong or
                contradict each other, or nothing answers for the agent. Nothing was sent.
            PatterError: the server is full or drains, and nothing was sent; or the carrier did not take the call. After
                a :class:`~patter_trio.errors.ProviderTimeout` it is unknown whether it did; if so, the call is hung up
                as soon as it is answered.
        """
        # By type: "no" would count as True.
        if not isinstance(wait, bool):
            raise ConfigurationError(f"wait must be True or False, got {wait!r}")
        request = CallRequest(
            to=checked_number(to, "to"),
            from_number=checked_number(from_number or self.phone_number or None, "from_number (or phone_number)"),
            agent=agent,
            first_message=first_message,
            ring_timeout=ring_timeout,
            custom_params=custom_params or {},
            machine_detection=checked_detection(
                machine_detection,
                found_for="voicemail_message"
                if voicemail_message
                else ("" if on_machine_detection is None else "on_machine_detection"),
            ),
            on_machine_detection=on_machine_detection,
            voicemail_message=voicemail_message,
        )
        dialler = calling_server(self._call_servers).dialler
        call = OutboundCall(dialler, await dialler.call(request))
        if wait:
            # Who waits owns the call: it does not ring on for a task that is cancelled.
            async with ended_with_block(call):
                await call.ended()
        return call

    @with_hints(_places)
    @for_block("phone.dial(...) takes `async with ... as call`; to await, write `await phone.call(...)`")
    @asynccontextmanager
    async def dial(  # noqa: PLR0917 (as for call)
        self,
        to: str,
        agent: Agent | None = None,
        first_message: str = "",
        from_number: str = "",
        machine_detection: WhoAnswers | None = None,
        on_machine_detection: Callback | None = None,
        voicemail_message: str = "",
        ring_timeout: int = 25,
        custom_params: Mapping[str, str] | None = None,
    ) -> AsyncIterator[OutboundCall]:
        """Call a number as :meth:`call` does, for the time of a block: its end ends the call.

        The call ends after the current speech, 10 s at most. If the block raises or is cancelled, it ends at once: the
        phone stops ringing, or the line is closed, within 6 s in any case.
        """
        call = await self.call(
            to,
            agent,
            first_message,
            from_number,
            machine_detection,
            on_machine_detection,
            voicemail_message,
            ring_timeout,
            custom_params,
        )
        async with ended_with_block(call):
            yield call

    def _windows(
        self,
        listeners: Sequence[trio.SocketListener],
        tunnel: Tunnel,
        token: str,
        timelines: LiveTimelines,
        *,
        dashboard: bool,
    ) -> Windows:
        """Return the windows of a server: the API, and the dashboard."""
        access = access_of(
            (listener.socket.getsockname()[0] for listener in listeners),
            token=token,
            webhook_url=self.webhook_url,
            has_tunnel=bool(tunnel),
        )
        if not (token or access.is_private):
            _log.warning("the windows answer nobody: others can reach the server, so give dashboard_token=")
        archive = self.call_log
        lines = LogLines()

        def deleted(call_id: str) -> None:
            # Both keep words of a call in memory; without this, they would outlive the call's deletion.
            lines.forget(call_id)
            timelines.forget(call_id)

        windows = open_windows(self._live, self._feed, self._call_servers, access, archive=archive, deleted=deleted)
        return with_dashboard(windows, lines, deleted, has_log=archive is not None) if dashboard else windows

    def _check(self, agent: Agent, callbacks: Mapping[str, Any]) -> None:
        """Check what can be checked before a port is open."""
        check_agent(agent, callbacks)
        # The address without ``webhook_url`` is known only afterwards.
        if self.webhook_url:
            url = checked_public_url(self._given_url())
            if self.carrier is not None and is_exposed(url):
                _log.warning("webhook_url begins with http: carriers open media streams by wss alone, so give https")
            elif self.carrier is not None and url.startswith("https:") and (doubt := doubt_about(url)):
                _log.warning("webhook_url %s %s", url, doubt)

    @asynccontextmanager
    async def _reachable(
        self, tunnel: Tunnel, address: tuple[str, int], stop: StopRequest | None = None
    ) -> AsyncIterator[str]:
        """Yield the public URL of a server at ``address``, to which a tunnel leads while the block runs."""
        if tunnel:
            # A stop signal that comes first is obeyed as soon as the server runs, which needs no tunnel for that.
            async with open_tunnel(tunnel, address, unless=None if stop is None else stop.drain) as url:
                self._tunnels[address] = url
                try:
                    yield url
                finally:
                    del self._tunnels[address]
            return
        public_url = self.public_url(address)
        if self.carrier is not None and not self.webhook_url:
            _log.warning(
                "webhook_url is not set: the carrier must reach us at %s, which is probably not a public address",
                public_url,
            )
        yield public_url

    def _serve_options(
        self,
        agent: Agent,
        *,
        public_url: str,
        carrier: Carrier | None = None,
        windows: Windows = NO_WINDOWS,
        app: "ASGIApp | None" = None,
        callbacks: Mapping[str, Any] | None = None,
        voicemail_message: str = "",
        max_calls: int | None = None,
        max_lag: float | None = None,
        on_message_secret: str = "",
        record_to: Path | None = None,
        recording: bool = False,
    ) -> ServeOptions:
        """Return the options for a call server of this phone.

        Args:
            agent: the agent that answers.
            public_url: the URL at which the carrier reaches us.
            carrier: a carrier to use instead of the phone's own.
            windows: the windows of the server.
            app: as for :meth:`serve`.
            callbacks: the application's functions by name (``on_call_start`` ...); they take precedence over
                the phone's.
            voicemail_message: as for :meth:`serve`.
            max_calls: as for :meth:`serve`.
            max_lag: as for :meth:`serve`.
            on_message_secret: as for :meth:`serve`.
            record_to: as for :meth:`serve`, a folder that exists.
            recording: as for :meth:`serve`.
        """
        return ServeOptions(
            agent=with_keys(agent, callbacks or {}),
            carrier=carrier or self.carrier or LocalCarrier(),
            public_url=public_url,
            callbacks=CallbackRegistry(callbacks, beneath=self._callbacks),
            subscribers=subscribers_of(self.events),
            live=self._live,
            call_servers=self._call_servers,
            pricing=self.pricing,
            guard=self._guard,
            voicemail_message=voicemail_message,
            max_calls=max_calls,
            max_lag=max_lag,
            on_message_secret=on_message_secret,
            recorder=self._recorder,
            call_log=self._log,
            record_to=record_to,
            recording=recording,
            routes=windows.routes,
            open_routes=windows.open_routes,
            listening=windows.listening,
            access=windows.access,
            call_observers=windows.call_observers,
            record_sinks=windows.record_sinks,
            carrier_failed=windows.carrier_failed,
            app=app,
        )

    def _without_carrier(self) -> None:
        """Let only the browser phone call, whatever carrier the program names; for the launcher."""
        self.carrier = None
        self._reached_at("")

    def _reached_at(self, url: str) -> None:
        """Let the carrier reach the phone at another URL than that of the program; for the launcher."""
        self.webhook_url = url
        self.tunnel = None

    def public_url(self, address: tuple[str, int]) -> str:
        """Return the public URL of a server at ``address``: its tunnel's, ``webhook_url``, or the address itself."""
        if address in self._tunnels:
            return self._tunnels[address]
        if not self.webhook_url:
            host, port = address
            # An IPv6 address stands in brackets (RFC 3986, section 3.2.2).
            return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        return self._given_url()

    def _given_url(self) -> str:
        # https, because a carrier refuses ``ws`` for a stream (Twilio: error 31922).
        url = self.webhook_url if "://" in self.webhook_url else f"https://{self.webhook_url}"
        return url.rstrip("/")

    async def drain(self, timeout: float = DRAIN_TIMEOUT_S) -> None:  # noqa: ASYNC109 (a grace, not a deadline)
        """Accept no more calls, give the live ones ``timeout`` seconds to finish, then end :meth:`serve`.

        Args:
            timeout: with 0, the calls end at once.
        """
        # All at once: one server after another would take the timeout once for each.
        async with trio.open_nursery() as nursery:
            for call_server in tuple(self._call_servers):
                nursery.start_soon(partial(call_server.drain, timeout))
