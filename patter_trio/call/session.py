"""One call, in three rings. Each ring may outlive the one inside it by a stated time.

::

    observers (the server's nursery)         the application's callbacks
    └─ leg: reader, writer, keep-alive       the carrier's socket; can still apologise after the conversation crashed
       └─ conversation                       VAD, STT, replies, tools, and the session loop

The session loop awaits nothing but its inbox, and no task waits to fill it: a full inbox is a bug, and ends the call.
Every input carries the instant at which it happened. The turn machine decides what the inputs mean, and plain functions
carry out its actions, so that a barge-in is complete before anything else can happen.
"""

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio

from patter_trio.abc import CallInfo
from patter_trio.agent.menu import Menu
from patter_trio.audio import g711
from patter_trio.audio.media_clock import MediaClock
from patter_trio.call.announced import PendingControl
from patter_trio.call.backend import CallServices, StartPart
from patter_trio.call.backends import backend_of
from patter_trio.call.bridge import Bridge, BridgeEnd
from patter_trio.call.control import CallControl
from patter_trio.call.failover import Failover
from patter_trio.call.hold import Hold
from patter_trio.call.inbox import Inbox
from patter_trio.call.input.voice_activity import VoiceActivityStage
from patter_trio.call.last_words import apologise
from patter_trio.call.leg import MediaLeg
from patter_trio.call.limits import Limits
from patter_trio.call.live_reply import LiveReply
from patter_trio.call.menus import MenuRunner
from patter_trio.call.options import CallOptions
from patter_trio.call.output.digits import DigitsRequest, DigitsSender
from patter_trio.call.output.writer import CarrierWriter
from patter_trio.call.streams import CallStreams
from patter_trio.call.tools.runner import ToolRunner
from patter_trio.call.transfer_request import TransferRequest
from patter_trio.call.transfers import TRANSFER_TIMEOUT_S, Transfers
from patter_trio.conversation import actions as do
from patter_trio.conversation import inputs
from patter_trio.conversation.history import Entry, History
from patter_trio.conversation.machine import TurnMachine
from patter_trio.conversation.playback import Media
from patter_trio.errors import CallEnded, ProviderError, leaves
from patter_trio.events.callbacks import CallbackQueue, open_callbacks
from patter_trio.events.payloads import ConversationStateSnapshot
from patter_trio.events.reporter import CallReporter, Fired
from patter_trio.metrics.internal_events import CallFailed, InternalEvent
from patter_trio.metrics.public_events import DigitReceived, MachineFound, SpeechEdge
from patter_trio.metrics.results import CallMetrics
from patter_trio.net.tasks import split_failure

_log = logging.getLogger("patter_trio.call")


class CallSession:
    """One live call: its state, its parts and its end. The application controls it through a :class:`CallControl`.

    Args:
        stream: the carrier's media stream, started.
        options: the options that the server gives to each call.
        pending: the announced call; its control and its data are carried over.
        reporter: emits the call's events.
        media: the clock of the caller's audio.
        server_nursery: the server's, which outlives the call: for its callbacks and its shielded tools.
    """

    def __init__(
        self,
        stream: MediaLeg,
        options: CallOptions,
        pending: PendingControl,
        reporter: CallReporter,
        media: MediaClock,
        *,
        server_nursery: trio.Nursery,
    ) -> None:
        self.info: CallInfo = stream.info
        self.data: dict[str, Any] = pending.data
        self._outcome = ""
        """The outcome of the call, from the end of the conversation on."""
        self.control: CallControl = pending.control
        self._options = options
        self._agent = options.agent
        """The served agent; from the result of ``on_call_start`` on, the agent of this call."""
        self._reporter = reporter
        self._media = media
        self._server_nursery = server_nursery
        self._inbox = Inbox(self.info.call_id)
        self._recorded = options.recorded
        self._writer = CarrierWriter(
            stream.socket,
            stream.codec,
            self._post,
            self._on_sent,
            on_heard=self._on_heard,
            recording=self._recorded.file,
        )
        self.streams: CallStreams = CallStreams(stream, self._writer, self, media, self._on_stream_lost)
        self._machine: TurnMachine | None = None
        self._history = History()
        self._tools = ToolRunner(
            self, self._history, self._emit_fact, self._post, options.webhooks, shield_nursery=server_nursery
        )
        self._backend = backend_of(
            CallServices(
                self, self.control, self._history, reporter, self._emit_fact, self._tools, self._writer, self._post
            ),
            options,
        )
        self._voice_activity = VoiceActivityStage(
            options.agent.vad,
            self._media,
            self._post,
            self._backend.hear,
            remember=options.agent.turn_detector is not None,
        )
        # Made here although only the apology enters it: a scope that is cancelled before it is entered ends its block
        # at once, so no apology is made for a caller who has left.
        self._caller_here, self._apology = trio.CancelScope(), trio.CancelScope()
        self._apologised: trio.Event | None = None
        """Set when the apology after a crash of the conversation is over; None before it begins."""
        self._error = ""
        self._ignores_voice = options.is_deaf
        self._limits = Limits()
        self._bridge = BridgeEnd()
        self._hold = Hold(
            self.info, self.control, self, self._writer, limits=self._limits, place=options.place_second_leg
        )
        self.transfers: Transfers = Transfers(
            self.info.call_id,
            options.transfer_call,
            self._hold.connect,
            self._demand,
            self._post,
            takes_back=options.takes_back,
            on_refused=self.streams.transfer_failed,
        )
        self._failover = Failover(self.info.call_id, self.transfers)
        self._menu = MenuRunner(self.control, self._limits)
        self._digits = DigitsSender(self.info.call_id, options.send_digits, self._say)
        self._live_reply = LiveReply(
            self._backend,
            self._writer,
            self._reporter,
            self._history,
            self._post,
            tools=self._tools,
            digits=self._digits,
            recorded=self._recorded,
            failover=self._failover,
        )
        # Last, because this carries out the deferred commands, which need every part above.
        pending.connect(self)

    def __repr__(self) -> str:
        return f"<CallSession {self.info.call_id} {self.info.direction}, {self._machine!r}, {self._writer!r}>"

    # What CallControl forwards to -------------------------------------------------------------------------------------
    @property
    def outcome(self) -> str:
        """The outcome of the call; empty while it lives, with the agent or with the other party of a bridge."""
        return "" if self._bridge.is_up else self._outcome

    @property
    def conversation_state(self) -> ConversationStateSnapshot:
        """The public states at this moment."""
        return self._reporter.state.copy()

    @property
    def turn_idx(self) -> int:
        """The number of the caller's utterances that are over."""
        return self._reporter.turn_idx

    @property
    def history(self) -> list[dict[str, Any]]:
        """The conversation so far; a copy."""
        return [dict(entry) for entry in self._history.shown()]

    @property
    def metrics(self) -> CallMetrics | None:
        """The metrics measured so far."""
        return self._reporter.metrics(trio.current_time())

    @property
    def cost_usd(self) -> float | None:
        """The cost so far, in US dollars; None: it is not measured. Cheaper than :attr:`metrics`."""
        cost = self._reporter.cost(trio.current_time())
        return None if cost is None else cost.total

    @property
    def started_at(self) -> float:
        """The Unix time, in seconds, at which the call's media began; before that, of now."""
        # By the call's own clock, which does not jump when the system's is set.
        start = self._media.start
        return self._reporter.unix(trio.current_time() if start is None else start)

    @property
    def seconds(self) -> float:
        """The seconds since the call's media began."""
        return 0.0 if self._media.start is None else max(0.0, trio.current_time() - self._media.start)

    @property
    def newest_entry(self) -> Entry | None:
        """The newest entry of the conversation; None: nobody has said anything."""
        return self._history.newest()

    @property
    def silence(self) -> float:
        """The seconds since either side spoke."""
        since = self._limits.silent_since
        return 0.0 if since is None else trio.current_time() - since

    def say(self, text: str, *, interruptible: bool = True, interrupt: bool = False) -> None:
        """Make the agent say ``text``; errors are those of :meth:`CallControl.say`."""
        self._say(inputs.Say(text, interruptible, interrupt))

    def _say(self, say: inputs.Say) -> None:
        queued = 0 if self._machine is None else self._machine.waiting_texts
        if not self._outcome:
            self._inbox.check_room_for_text(queued)
        self._demand(say)

    def send_digits(self, order: DigitsRequest) -> None:
        """Send DTMF digits after what the agent is saying; errors are those of :meth:`say`."""
        self._digits.place(order)

    def hang_up(self) -> None:
        """End the call after the current speech was played; errors are those of :meth:`CallControl.hang_up`."""
        if self._bridge.is_up:
            self._bridge.end()
        else:
            self._demand(inputs.HangUp("agent_hung_up"))

    def send_text(self, text: str) -> None:
        """Take ``text`` as a message of the caller's."""
        self._demand(inputs.TextTyped(text))

    def place_transfer(self, order: TransferRequest) -> None:
        """Carry out a transfer; errors are those of :meth:`Transfers.place`."""
        self.transfers.place(order)

    # What a bridge to another call uses -------------------------------------------------------------------------------
    @property
    def dropped_frames(self) -> int:
        """The number of the caller's frames that were dropped because the VAD was too slow."""
        return self._voice_activity.dropped

    @property
    def is_handed_over(self) -> bool:
        """True if the carrier has connected the caller with somebody else: the call goes on there, without us."""
        return self.outcome == inputs.TRANSFERRED_REASON and not self._bridge.was_joined

    @property
    def can_join(self) -> bool:
        """True while the party is there and the conversation with the agent goes on."""
        return not self._outcome and not self._caller_here.cancel_called and not self._bridge.was_joined

    def join(self, bridge: Bridge, pass_on: Callable[[bytes], None]) -> None:
        """End the conversation with the agent, and pass the party's audio on from here on."""
        self._bridge.join(bridge, pass_on)
        self._post(inputs.Joined())

    def hear(self, audio: bytes) -> None:
        """Play audio of the other party, mu-law; never waits."""
        self._writer.relay(audio)

    def exit(self, why: str) -> None:
        """Apologise and hang up, because code of the application raised SystemExit for this call."""
        # Once: a hook that raises it with each frame must not begin the apology again and again.
        if not self._error and not self._outcome:
            self._give_up_for(why, "SystemExit")

    def emit_edge(self, edge: SpeechEdge) -> None:
        """Emit a speech edge in the pipeline's place; for adapters, through ``phone.speech_events``."""
        if not self._outcome:
            self._inbox.put_for_application(Fired(edge))

    # Inputs -----------------------------------------------------------------------------------------------------------
    def _demand(self, event: inputs.Input) -> None:
        if self._outcome:
            what = "is connected with another call" if self._bridge.is_up else "is over"
            raise CallEnded(f"call {self.info.call_id} {what} ({self._outcome})")
        self._inbox.put_for_application(event)

    def _post(self, event: inputs.Input) -> None:
        """Put an input into the inbox with its instant; inputs after the call's end are dropped."""
        if isinstance(event, inputs.FinalWords) and event.finished:
            # The end of a turn is often reported before the VAD is sure of the end of the voice.
            event = attrs.evolve(event, quiet_since=self._voice_activity.quiet_since)
        if not self._outcome:
            self._inbox.put(event)

    def _emit_fact(self, event: InternalEvent) -> None:
        self._reporter.emit_fact(event, trio.current_time())

    def _on_sent(self, media: Media) -> None:
        self._live_reply.on_sent(media)

    def _on_heard(self) -> None:
        self._live_reply.on_heard()

    # What the leg reports ---------------------------------------------------------------------------------------------
    def on_audio(self, audio: bytes) -> None:
        """Pass the caller's audio to the VAD."""
        self._take(audio, audio)

    def on_gap(self, silence: bytes) -> None:
        """Pass silence to the VAD in the place of audio that was lost; it does not show who has answered."""
        self._take(silence, b"")

    def _take(self, audio: bytes, sound: bytes) -> None:
        if self._bridge.pass_on(audio):
            # The agent hears nothing more: what the two say to each other is theirs.
            self._media.arrived(len(audio), trio.current_time())
            self._recorded.said(audio)
            return
        # The position before arrived() counts this frame.
        # A machine's greeting must not be answered; silence in its place keeps the clock of the audio running.
        heard = bytes([g711.SILENCE_BYTE]) * len(audio) if self._ignores_voice else audio
        self._voice_activity.put(self._media.samples, heard)
        self._media.arrived(len(audio), trio.current_time())
        self._recorded.said(audio)
        if self._options.on_audio is not None:
            self._options.on_audio(sound)

    def on_digit(self, digit: str) -> None:
        """Emit on_dtmf, and collect the digit."""
        self._reporter.emit_event(DigitReceived(digit), trio.current_time())
        self._limits.key_pressed()
        if self._options.agent.dtmf is not None:
            self._post(inputs.KeyPressed(digit))

    def machine_found(self, answered_by: str, *, greeting_ended: bool) -> None:
        """Emit on_machine_detection."""
        self._reporter.emit_event(MachineFound(answered_by, greeting_ended), trio.current_time())

    def fall_silent(self) -> None:
        """Stop talking and listening at once, because a machine plays its greeting."""
        self._ignores_voice = True
        self._post(inputs.Say("", interruptible=False, interrupt=True))

    def leave_message(self, text: str) -> None:
        """Say ``text``, which nobody can interrupt, and hang up with the outcome ``voicemail``.

        Empty: hang up at once.
        """
        self._ignores_voice = True
        self._post(inputs.Say(text, interruptible=False, interrupt=True))
        self._post(inputs.HangUp("voicemail"))

    def _on_stream_lost(self) -> None:
        if self._apologised is not None:
            self._apology.cancel(reason="the stream is lost")
        self._options.on_stream_lost()

    def on_leg_down(self, reason: str) -> None:
        """End the conversation, and an apology, because the caller is gone."""
        # Before the input: after a crash, no loop is left to read it.
        self._caller_here.cancel(reason="caller left")
        self._hold.end()
        self._bridge.end()
        self._post(inputs.LegDown(reason))

    def may_wait(self) -> bool:
        """Return True if the call goes on over another stream when it loses the one it has."""
        # A call that has failed ends with its apology, unless a person takes over.
        if self.outcome or (self._error and not self._agent.failure_destination):
            return False
        # The conversation of a call that is connected with another one, or has crashed, is over.
        goes_on = self._bridge.is_up or self.transfers.is_open or self._apologised is not None
        return goes_on or self._machine is None or self._machine.may_wait

    async def connect_on_failure(self) -> bool:
        """Connect the caller with ``on_failure``, because no stream has come; True if the carrier has done so."""
        if self._apologised is not None:
            # It connects the caller itself, and must not be broken off.
            await self._apologised.wait()
            return False
        # A transfer that is under way decides by itself what becomes of the call.
        if self.transfers.is_under_way:
            return False
        if destination := self._agent.failure_destination:
            with trio.move_on_after(TRANSFER_TIMEOUT_S):
                return await self.transfers.hand_over(destination)
        return False

    def may_come_back(self) -> bool:
        """Return True if the stream may end although the call does not: its carrier transfers it."""
        return self.transfers.is_open

    def fail(self, why: str, kind: str) -> None:
        """Record and log the first failure; ``kind`` is its public name, without the details in ``why``."""
        if not self._error and not self._outcome:
            self._error = why
            self._emit_fact(CallFailed(kind))  # without ``why``, which may quote words of the call
            _log.warning("call %s: %s", self.info.call_id, why)

    # The conversation -------------------------------------------------------------------------------------------------
    async def _converse(self) -> None:
        """Run the conversation from the first frame to the last word."""
        async with trio.open_nursery() as nursery:

            def start(name: str, part: Callable[..., Awaitable[None]], *arguments: object) -> None:
                nursery.start_soon(self._guard, name, part, *arguments)

            # Before the backend is open, so that the caller's first words are not lost; they wait in its queues.
            start("VAD", self._voice_activity.run)
            start("backend", self._talk, start)
            with self._tools.open(nursery):
                await self._loop(nursery)
                # Before the cancellation: the last words still go through after_transcribe into the transcript.
                await self._backend.user_turns.last()
            nursery.cancel_scope.cancel(reason="conversation over")

    async def _guard(self, name: str, part: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Run a part of the call; a provider's failure in it ends the call, not the server."""
        try:
            await part(*arguments)
        except* ProviderError as failures:
            # A group, because parts run nurseries of their own. Any other exception is a bug and passes on to run().
            self._give_up(name, next(leaves(failures)))

    def _give_up(self, name: str, failure: BaseException) -> None:
        """Apologise to the caller, if anything can speak, and hang up."""
        self._give_up_for(f"{name}: {failure}", type(failure).__name__)

    def _give_up_for(self, why: str, kind: str) -> None:
        self.fail(why, kind)
        if self._backend.can_speak:
            # Not interruptible: the call ends with this sentence, and the caller must learn why.
            self._post(inputs.Say(self._agent.error_message, interruptible=False, interrupt=True))
        if not self._outcome and self._failover.hand_over(self._agent):
            # A provider may have failed before all of them were open; the transfer must not wait for the others.
            # Ignored by a call that has begun.
            self._post(inputs.Ready())
        # Behind the apology in the inbox; the machine hangs up once that was played, or if the transfer fails.
        # Patient: a person can take over from an agent that has failed.
        self._post(inputs.HangUp("failed", patient=True))

    async def _talk(self, start: StartPart) -> None:
        """Open the backend for the call's agent, and keep it open until the conversation is cancelled."""
        # First, because on_call_start may replace the providers that are opened next.
        agent = self._agent = await self._options.settled()
        self._emit_fact(self._backend.parts(agent))
        # Only now: on_call_start may have given the variables.
        for complaint in agent.unfilled():
            _log.warning("call %s: %s", self.info.call_id, complaint)
        async with self._backend.open(agent, start) as failure:
            # Before Ready, which begins the first text: the notice comes even before those that on_call_start asked
            # for.
            if failure is None and (notice := self._recorded.notice(agent)):
                self._post(notice)
            self._post(inputs.Ready())
            # Behind the input: whatever this lets others ask for comes after it.
            self._options.on_open()
            if failure is not None:
                self._give_up("engine", failure)
                await trio.sleep_forever()  # the apology needs the open backend
            # The served agent's, like the turn machine's policy: on_call_start cannot replace it.
            if isinstance(menu := self._options.agent.dtmf, Menu):
                start("menu", self._menu.run, menu, agent.greeting, agent.error_message)
            elif greeting := agent.greeting:
                self._post(inputs.Say(greeting))
            # Never returns, and that keeps the backend open until the conversation is cancelled.
            await self._limits.keep(agent.silence_timeout, agent.max_call_duration, self._post)

    async def _loop(self, nursery: trio.Nursery) -> None:
        agent = self._options.agent
        # The served agent, not that of on_call_start: the loop runs before that callback has returned.
        policy = agent.policy(reply=self._options.reply_timeout, takes_back=self._options.takes_back)
        machine = self._machine = TurnMachine(policy, detector=agent.turn_detector is not None)
        # The only await of the loop is the one for the next input, so its actions are carried out without interruption.
        while not machine.ended:
            event, at = await self._inbox.next(machine.deadline)
            fired = event if isinstance(event, Fired) else None
            for action in machine.step(None if isinstance(event, Fired) else event, at):
                self._perform(action, nursery)
            # After the actions, and after every input: whatever the machine has just decided,
            # tools must not start against it.
            self._tools.set_floor(free=machine.has_floor)
            # After step(): deadlines that were due before this edge have fired, so the edge has its place in the order.
            if fired is not None and not machine.ended:
                self._reporter.fired(fired, at)

    def _perform(self, action: do.Action, nursery: trio.Nursery) -> None:
        """Carry out one action. It is a plain function, so that nothing happens between its steps."""
        match action:
            case do.StateChanged():
                self._reporter.state_is(action.user, action.agent)
                self._limits.state_is(action.user, action.agent)
            case do.EmitSpeechStarted():
                self._backend.on_voice_started()
                offset = action.onset - (self._media.start or 0.0)
                self._reporter.user_started(action.at, offset, action.confidence)
            case do.EmitSpeechEnded():
                offset = action.end - (self._media.start or 0.0)
                self._reporter.user_ended(action.at, offset, action.seconds, action.confidence)
            case do.CommitUser():
                self._backend.user_turns.commit(action)
            case do.DropUser():
                self._backend.drop_utterance()
            case do.ReviseUser():
                self._backend.user_turns.revise(action)
            case do.ResumeGoodbye():
                self._tools.resume()
            case do.DropGoodbye():
                self._tools.give_up()
            case do.Choose():
                self._menu.choose(action.keys)
            case do.AskForWords():
                self._backend.ask_for_words()
            case do.StartReply():
                self._start_reply(action, nursery)
            case do.OpenPlayout():
                self._live_reply.open()
            case do.ReportToken():
                self._reporter.token(action.at, self._live_reply.turn, *self._backend.names())
            case do.ReportAudio():
                self._reporter.audio(action.at, self._live_reply.turn, self._backend.audio_provider())
            case do.ReportAgentStarted():
                self._live_reply.sounds(action.at)
            case do.CutReply():
                self._live_reply.cut(action)
            case do.FinishReply():
                self._live_reply.finish(action)
            case do.AskDetector():
                # A model takes time: the task posts its verdict to the inbox.
                nursery.start_soon(
                    self._voice_activity.ask_detector, self._options.agent.turn_detector, action.generation
                )
            case do.FlushTranscripts():
                self._voice_activity.finish(self._backend.flush)
            case do.HangUpLeg():
                self._hang_up_leg()
            case do.TransferLeg():
                # A request to the carrier takes time: the task posts its result to the inbox.
                nursery.start_soon(self.transfers.run, self._agent)
            # From here on _post() drops inputs: nothing that parts report while they end can reopen the call.
            case do.EndCall():
                self._outcome = action.reason

    def _hang_up_leg(self) -> None:
        self._hold.end()
        self._writer.hang_up()
        # Now, not when the call is over: for some carriers the end of the stream is not the end of the call.
        self._options.on_hang_up()
        self.streams.hung_up()

    def _start_reply(self, action: do.StartReply, nursery: trio.Nursery) -> None:
        self._live_reply.start(action, nursery, self._agent)
        # To words that came before the machine was found: cut before it has a sound.
        if self._live_reply.is_answer and self._ignores_voice:
            self._post(inputs.Say("", interruptible=False, interrupt=True))

    # The call's life --------------------------------------------------------------------------------------------------
    async def run(self, callback_queue: CallbackQueue) -> None:
        """Run the call from its first frame to its last."""
        async with open_callbacks(self._server_nursery, callback_queue):
            # The boundary for bugs, once for each ring: a bug ends its call, not the server. A provider of the
            # application's own may raise anything, SystemExit included.
            try:
                async with trio.open_nursery() as leg:
                    leg.start_soon(self.streams.run)
                    try:
                        await self._converse()
                    except BaseException as error:  # noqa: BLE001 (a bug ends its own call only)
                        self._record_bug(error)
                        # Inside the leg's nursery: reader and writer still run and send the apology.
                        if not self._bridge.is_up:
                            await self._apologise()
                    # The leg outlives the conversation for as long as both parties hear each other.
                    await self._bridge.last(self._limits.ends_at)
                    # The keep-alive never ends by itself, nor does a reader whose carrier has gone silent.
                    leg.cancel_scope.cancel(reason="call over")
            except BaseException as error:  # noqa: BLE001 (in the leg, or in the apology)
                self._record_bug(error)
            finally:
                # A deadline of minus infinity means that a scope around the call is cancelled: the server stops.
                cancelled = trio.current_effective_deadline() == -math.inf
                # Also when this call is cancelled: the other party has nobody to talk to.
                self._bridge.end()
                try:
                    await self.streams.close()
                finally:  # closing a stream ends with a checkpoint, which raises if the server is being cancelled
                    self._end(cancelled=cancelled)

    def _record_bug(self, error: BaseException) -> None:
        """Record a bug for the log and for ``on_call_end``.

        Raise the cancellation that came with it or instead of it.
        """
        passing, bugs = split_failure(error)
        if bugs is not None:
            _log.error("call %s: ended by a bug", self.info.call_id, exc_info=bugs)
            bug = next(leaves(bugs))
            self.fail(f"{type(bug).__name__}: {bug}", type(bug).__name__)
        if passing is not None:
            raise passing

    async def _apologise(self) -> None:
        """Say the error message after the conversation crashed, and connect the caller with ``on_failure``."""
        self._live_reply.freeze()  # first, because the apology needs the writer, which plays one reply at a time
        self._apologised = trio.Event()
        if self.streams.waits_until is not None:
            self._apology.cancel(reason="the stream is lost")
        try:
            if await apologise(
                self._backend,
                self._agent,
                self._writer,
                self.transfers,
                caller_here=self._caller_here,
                heard=self._apology,
            ):
                self._outcome = inputs.TRANSFERRED_REASON
        finally:
            self._apologised.set()

    def _end(self, *, cancelled: bool) -> None:
        """Emit on_call_end, once, whatever ended the call."""
        # In the order of the transcript: the caller's last words, then what was heard of the agent's last reply.
        self._backend.user_turns.settle("the call is over")
        self._live_reply.freeze()
        calls, now = self._tools.close(), trio.current_time()
        if not self._outcome:
            self._outcome = "failed" if self._error else "cancelled"
        self.transfers.close(self._outcome)  # after the outcome is set: it decides whether the transfer succeeded
        self._digits.close(self._outcome)
        transcript = self._history.whole()
        self._reporter.ended(now, self._outcome, transcript, self._error, tool_calls=calls, cancelled=cancelled)
