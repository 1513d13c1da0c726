"""A call, in three rings, each of which may outlive the one inside it by a stated bound.

::

    observers (the server's nursery)         the application's callbacks
    └─ leg: reader, writer                   the carrier's socket; can still apologise when the ring inside has crashed
       └─ conversation                       listening, hearing, replies, and the session loop

The session loop awaits nothing but its inbox; those who fill the inbox never await it (a full one is a bug, and ends
the call). Every input carries the instant at which it happened. The turn machine decides what they mean, and its
actions are carried out by plain functions: a barge-in is over before anything else can happen.
"""

import logging
import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import attrs
import trio

from patter_trio.abc import AudioReceived, CallInfo, DigitPressed, MarkReached, StreamStopped
from patter_trio.agent.agent import Agent
from patter_trio.audio.media_clock import MediaClock
from patter_trio.call.backend import Backend, CallServices
from patter_trio.call.control import CallControl, Handle
from patter_trio.call.engine import EngineBackend
from patter_trio.call.input.voice_activity import VoiceActivityStage
from patter_trio.call.keepalive import PING_AFTER_S, wait_until_dead
from patter_trio.call.leg import MediaLeg
from patter_trio.call.limits import Limits
from patter_trio.call.output import reply as replies
from patter_trio.call.output.writer import CarrierWriter, Stalled
from patter_trio.call.pipeline import PipelineBackend
from patter_trio.call.responder.on_message import MessageHandler
from patter_trio.call.tools.runner import ToolRunner
from patter_trio.call.tools.webhooks import ToolWebhooks
from patter_trio.call.transfers import TransferCall, Transfers
from patter_trio.conversation import actions as do
from patter_trio.conversation import inputs
from patter_trio.conversation.history import History
from patter_trio.conversation.machine import TurnMachine
from patter_trio.conversation.playback import HeardSpeech, Media
from patter_trio.errors import CallEnded, ProviderError, WireError, leaves
from patter_trio.events.callbacks import CallbackQueue, open_callbacks
from patter_trio.events.payloads import ConversationStateSnapshot
from patter_trio.events.reporter import CallReporter, Fired
from patter_trio.metrics.internal_events import CallFailed, InternalEvent, ReplyEnded, ReplyHeard, TtsChunk
from patter_trio.metrics.public_events import DigitReceived, SpeechEdge
from patter_trio.net.websocket import SocketClosed

MAX_INBOX_INPUTS: Final = 1024
"""Inputs that may wait. The loop takes microseconds for each: a full inbox means that it is stuck."""
APOLOGY_TIMEOUT_S: Final = 8.0
"""Seconds that a crashed conversation's apology may take."""
CLOSE_TIMEOUT_S: Final = 0.15
"""Seconds that closing the stream may take: flushing the recogniser and this must fit into one second together."""
MAX_BAD_MESSAGES: Final = 100
"""Messages that its protocol does not allow after which a carrier's stream is given up."""
NORMAL_CLOSE_CODES: Final = (1000, 1001)
"""Close codes of a stream that ended as it should (RFC 6455, section 7.4.1)."""
LLM_REPLY_TIMEOUT_S: Final = 15.0
ON_MESSAGE_REPLY_TIMEOUT_S: Final = replies.ON_MESSAGE_TIMEOUT_S + 10.0
"""Longest wait for a reply's first audio; ``on_message`` has a deadline of its own, and the voice comes behind it."""

_log = logging.getLogger("patter_trio.call")


@attrs.frozen
class CallOptions:
    """What the server gives to each call."""

    agent: Agent
    """As the server has it; voice activity, turn detection and the turn's numbers are this one's."""
    settled: Callable[[], Awaitable[Agent]]
    """Waits for what ``on_call_start`` has to say, and returns the agent for this call."""
    on_message: MessageHandler | None
    transfer_call: TransferCall
    webhooks: ToolWebhooks


class Call(Handle):
    """A live call. ``data`` is the application's own; everything else is only to be read."""

    def __init__(self, leg: MediaLeg, options: CallOptions, reporter: CallReporter, media: MediaClock) -> None:
        self.info: CallInfo = leg.info
        self.data: dict[str, Any] = {}
        self.outcome: str = ""
        """How it ended; empty while it lives."""
        self.control: CallControl = CallControl(self)
        self._leg = leg
        self._options = options
        self._reporter = reporter
        self._media = media
        self._send, self._inbox = trio.open_memory_channel[tuple[inputs.Input | Fired, float]](MAX_INBOX_INPUTS)
        self._writer = CarrierWriter(leg.socket, leg.codec, self._post)
        self._writer.sent = self._sent
        self._machine: TurnMachine | None = None
        self._history = History()
        self._tools = ToolRunner(self, self._history, self._emit_fact, self._post, options.webhooks)
        self._backend = self._backend_of(options)
        self._voice_activity = VoiceActivityStage(
            options.agent.vad,
            self._media,
            self._post,
            self._backend.hear,
            remember=options.agent.turn_detector is not None,
        )
        self._reply: replies.Reply | None = None
        self._caller_here = trio.CancelScope()
        self._error = ""
        self._bad_messages = 0
        self._limits = Limits()
        self.transfers: Transfers = Transfers(self.call_id, options.transfer_call, self._demand, self._post)

    def _backend_of(self, options: CallOptions) -> Backend:
        about = self.info.payload("call_id", "caller", "callee")
        services = CallServices(
            self,
            self.control,
            about,
            self._history,
            self._reporter,
            self._emit_fact,
            self._tools,
            self._writer,
            self._post,
        )
        if options.agent.engine is not None:
            return EngineBackend(services, options.agent.engine)
        return PipelineBackend(services, options.on_message)

    def __repr__(self) -> str:
        return f"<Call {self.call_id} {self.direction}, {self._machine!r}, {self._writer!r}>"

    @property
    def conversation_state(self) -> ConversationStateSnapshot:
        """``{"user": ..., "agent": ...}`` at this moment."""
        return self._reporter.state.copy()

    @property
    def turn_idx(self) -> int:
        """How many utterances of the caller were over so far."""
        return self._reporter.turn_idx

    @property
    def history(self) -> list[dict[str, Any]]:
        """The conversation so far: role, text (of the agent's what was heard) and Unix timestamp."""
        return [dict(entry) for entry in self._history.shown()]

    def say(self, text: str, *, interruptible: bool = True, interrupt: bool = False) -> None:
        """Have the agent say ``text``: behind what it is saying, or at once with ``interrupt``.

        Raises:
            CallEnded: the call is over.
        """
        self._demand(inputs.Say(text, interruptible, interrupt))

    def hang_up(self) -> None:
        """End the call after what is being said was played (10 s at most).

        Raises:
            CallEnded: the call is over.
        """
        self._demand(inputs.HangUp("agent_hung_up"))

    def emit_edge(self, edge: SpeechEdge) -> None:
        """Tell a speech edge in the place of the pipeline; for adapters, by ``phone.speech_events``."""
        self._post(Fired(edge))

    def _demand(self, event: inputs.Input) -> None:
        if self.outcome:
            raise CallEnded(f"call {self.call_id} is over ({self.outcome})")
        self._post(event)

    def _post(self, event: inputs.Input | Fired) -> None:
        """Put an input into the inbox, stamped; what comes after the end is for nobody."""
        if not self.outcome:
            self._send.send_nowait((event, trio.current_time()))

    def _emit_fact(self, event: InternalEvent) -> None:
        self._reporter.emit_fact(event, trio.current_time())

    def _sent(self, media: Media) -> None:
        reply = self._reply
        if reply is not None and reply.number == media.reply and self._reporter.wants(TtsChunk):
            reply.emit_fact(TtsChunk(reply.number, reply.turn, media.audio))

    # The leg ----------------------------------------------------------------------------------------------------------
    async def read(self) -> None:
        """Take what the carrier sends, until its end; awaits nothing but the socket."""
        try:
            while True:
                message = await self._leg.socket.receive()
                try:
                    event = self._leg.codec.receive(message)
                except WireError as error:
                    self._malformed(error)
                    continue
                match event:
                    case AudioReceived():
                        self._voice_activity.put(self._media.samples, event.audio)
                        self._media.arrived(len(event.audio), trio.current_time())
                    case MarkReached():
                        self._writer.reached(event.name, trio.current_time())
                    case DigitPressed():
                        self._reporter.emit_event(DigitReceived(event.digit), trio.current_time())
                    case StreamStopped():
                        self._leg_down("caller_hung_up")
                        return
        except SocketClosed as closed:
            self._closed(closed)

    def _closed(self, closed: SocketClosed) -> None:
        lost = closed.code not in NORMAL_CLOSE_CODES
        if lost:
            self._fail(f"the carrier's stream was lost: {closed}", "SocketClosed")
        self._leg_down("failed" if lost else "caller_hung_up")

    def _malformed(self, error: WireError) -> None:
        self._bad_messages += 1
        if self._bad_messages == 1:
            _log.warning("call %s: ignoring what its stream may not send: %s", self.call_id, error)
        if self._bad_messages == MAX_BAD_MESSAGES:
            self._fail(
                f"the carrier's stream sent {MAX_BAD_MESSAGES} messages that its protocol does not allow", "WireError"
            )
            raise SocketClosed(1008, "protocol")

    async def write(self) -> None:
        """Send to the carrier, until its end."""
        try:
            await self._writer.write()
        except SocketClosed as closed:  # whoever of the two sees it first
            self._closed(closed)
        except Stalled as error:
            self._fail(str(error), "Stalled")
            self._leg_down("failed")

    async def watch(self) -> None:
        """Give a carrier up that says nothing, not even when it is asked whether it is there."""
        await wait_until_dead(self._leg.socket, self._writer.wake)
        self._fail(f"the carrier said nothing for {2 * PING_AFTER_S:g} s", "Silent")
        self._leg_down("failed")

    def _leg_down(self, reason: str) -> None:
        self._caller_here.cancel(reason="caller left")
        self._post(inputs.LegDown(reason))

    async def close(self, close_timeout: float) -> None:
        """Close the carrier's stream, within ``patience`` seconds."""
        await self._leg.socket.aclose(close_timeout=close_timeout)

    def _fail(self, why: str, kind: str) -> None:
        """Remember what went wrong first, and say it once; ``kind`` is what it is called where ``why`` says too much."""
        if not self._error and not self.outcome:
            self._error = why
            self._emit_fact(CallFailed(kind))
            _log.warning("call %s: %s", self.call_id, why)

    # The conversation -------------------------------------------------------------------------------------------------
    async def converse(self) -> None:
        """Hold the conversation, from the first frame to the last word."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._guarded, "voice detector", self._voice_activity.run)
            nursery.start_soon(self._guarded, "voice", self._prepare, nursery)
            self._tools.nursery = nursery
            await self._loop(nursery)
            await self._backend.user_turns.last()
            nursery.cancel_scope.cancel(reason="conversation over")

    async def _guarded(self, name: str, part: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Run a part that a provider's failure ends: the caller is told, and the call with it."""
        try:
            await part(*arguments)
        except* ProviderError as failures:
            failure = next(leaves(failures))
            self._fail(f"{name}: {failure}", type(failure).__name__)
            agent = self._backend.agent
            if self._backend.can_speak and agent is not None:
                self._post(inputs.Say(agent.error_message, interruptible=False, interrupt=True))
            self._post(inputs.HangUp("failed"))

    async def _prepare(self, nursery: trio.Nursery) -> None:
        agent = self._backend.agent = await self._options.settled()
        self._emit_fact(self._backend.parts(agent))

        async def hold() -> None:
            self._post(inputs.Ready())
            if agent.first_message:
                self._post(inputs.Say(agent.filled(agent.first_message)))
            await self._limits.keep(agent.silence_timeout, agent.max_call_duration, self._post)

        await self._backend.run(agent, nursery, self._guarded, hold)

    async def _loop(self, nursery: trio.Nursery) -> None:
        agent = self._options.agent
        patience = LLM_REPLY_TIMEOUT_S if self._options.on_message is None else ON_MESSAGE_REPLY_TIMEOUT_S
        machine = self._machine = TurnMachine(agent.policy(reply=patience), detector=agent.turn_detector is not None)
        while not machine.ended:
            event, at = await self._next(machine.deadline)
            fired = event if isinstance(event, Fired) else None
            for action in machine.step(None if isinstance(event, Fired) else event, at):
                self._perform(action, nursery)
            self._tools.set_floor(free=machine.has_floor)
            if fired is not None and not machine.ended:
                self._reporter.fired(fired, at)

    async def _next(self, deadline: float) -> tuple[inputs.Input | Fired | None, float]:
        """Return the next input and its instant, or nothing when the machine's deadline is there first."""
        try:
            return self._inbox.receive_nowait()  # even when the deadline is over: what happened before it counts first
        except trio.WouldBlock:
            with trio.CancelScope(deadline=deadline):
                return await self._inbox.receive()
            return None, trio.current_time()

    def _perform(self, action: do.Action, nursery: trio.Nursery) -> None:
        """Carry out one decision: a plain function, so that nothing happens between its parts."""
        match action:
            case do.StateChanged():
                self._reporter.state_is(action.user, action.agent)
                self._limits.state_is(action.user, action.agent)
            case do.UserSpeechStarted():
                self._backend.on_voice_started()
                offset = action.onset - (self._media.start or 0.0)
                self._reporter.user_started(action.at, offset, action.confidence)
            case do.UserSpeechEnded():
                offset = action.end - (self._media.start or 0.0)
                self._reporter.user_ended(action.at, offset, action.seconds, action.confidence)
            case do.CommitUser():
                self._backend.user_turns.commit(action)
            case do.DropUser():
                self._backend.drop_utterance()
            case do.AmendUser():
                self._backend.user_turns.amend(action)
            case do.AppendUser():
                self._backend.user_turns.append(action)
            case do.StartReply():
                self._reply = self._backend.start(action, nursery)
            case do.OpenPlayout() if self._reply is not None:
                self._writer.open(self._reply.playout)
            case do.ReportToken():
                self._reporter.token(action.at, action.turn, *self._backend.names())
            case do.ReportAudio():
                self._reporter.audio(action.at, action.turn, self._backend.audio_provider())
            case do.ReportAgentStarted():
                self._reporter.agent_started(action.at, action.turn, self._backend.speaker())
            case do.CutReply():
                self._cut(action)
            case do.FinishReply():
                self._finish(action)
            case do.AskDetector():
                nursery.start_soon(
                    self._voice_activity.ask_detector, self._options.agent.turn_detector, action.generation
                )
            case do.FlushRecognizer():
                self._voice_activity.finish(self._backend.flush)
            case do.HangUpLeg():
                self._writer.hang_up()
            case do.TransferLeg():
                nursery.start_soon(self.transfers.run, (self._backend.agent or self._options.agent).error_message)
            case do.EndCall():
                self.outcome = action.reason

    def _finish(self, action: do.FinishReply) -> None:
        """A reply was played to its end."""
        heard, reply, self._reply = self._writer.close(), self._reply, None
        if reply is None:
            return
        if action.started:
            self._report_heard(reply, action.at, heard, interrupted=False)
        self._backend.end_reply(reply, heard, "played")
        self._over(reply, "played")
        self._tools.played(reply)

    def _cut(self, action: do.CutReply) -> None:
        """Silence a reply: its lane, the carrier's buffer, and everything that was still being made for it."""
        reply, self._reply = self._reply, None
        if reply is None:
            return
        heard = self._writer.cut(trio.current_time()) if action.opened else HeardSpeech(0.0, "")
        reply.playout.cut()
        reply.scope.cancel(reason=action.reason)
        self._tools.cut(reply)
        self._backend.end_reply(reply, heard, action.reason)
        if action.started:
            self._report_heard(reply, action.at, heard, interrupted=True)
            self._reporter.interruption(action.at, action.turn, heard.seconds, heard.text, action.reason)
        self._over(reply, action.reason)

    def _over(self, reply: replies.Reply, reason: str) -> None:
        ended = ReplyEnded(reply.number, reply.turn, reason)
        self._backend.user_turns.after_user_turn(partial(reply.emit_fact, ended))

    def _report_heard(self, reply: replies.Reply, at: float, heard: HeardSpeech, *, interrupted: bool) -> None:
        self._reporter.agent_ended(at, reply.turn, heard.seconds, interrupted=interrupted)
        if heard.text:
            self._backend.user_turns.after_user_turn(partial(self._enter_heard, at, heard.text, reply))

    def _enter_heard(self, at: float, text: str, reply: replies.Reply) -> None:
        reply.emit_fact(ReplyHeard(reply.number, reply.turn))
        self._history.add("assistant", text, self._reporter.unix(at))
        self._reporter.transcript(at, "assistant", text, self._history.shown())

    # The end ----------------------------------------------------------------------------------------------------------
    def crashed(self, bugs: BaseExceptionGroup[Any]) -> None:
        """Take note of a bug, for the log and for ``on_call_end``."""
        _log.error("call %s: a bug ended it", self.call_id, exc_info=bugs)
        bug = next(leaves(bugs))
        self._fail(f"{type(bug).__name__}: {bug}", type(bug).__name__)

    async def apologise(self) -> None:
        """Say that something went wrong, after the conversation crashed; bounded, and without the conversation."""
        self.freeze()
        agent = self._backend.agent or self._options.agent
        reply = replies.Reply(0, 0)
        self._caller_here.deadline = trio.current_time() + APOLOGY_TIMEOUT_S
        with self._caller_here:
            try:
                await self._backend.apologise(agent, reply)
            except ProviderError as error:
                _log.warning("call %s: no apology: %s", self.call_id, error)
            await self._writer.wait_for_room(reply.playout, 1)
            await trio.sleep_until(self._writer.playback.end)

    def shielded_in(self, nursery: trio.Nursery) -> None:
        """Run tools that outlive the call there."""
        self._tools.shield_nursery = nursery

    def freeze(self) -> None:
        """Cut what is being said without telling anybody: what was heard of it belongs into the transcript."""
        reply, self._reply = self._reply, None
        if reply is None:
            return
        heard = self._writer.cut(trio.current_time())
        if heard.text:
            self._history.add("assistant", heard.text, self._reporter.unix(trio.current_time()))

    def end(self, *, cancelled: bool) -> None:
        """Tell the end of the call, once, whatever ended it."""
        self._backend.user_turns.settle("the call is over")
        self.freeze()
        calls, now = self._tools.close(), trio.current_time()
        if not self.outcome:
            self.outcome = "failed" if self._error else "cancelled"
        self.transfers.close(self.outcome)
        transcript = self._history.whole()
        self._reporter.ended(now, self.outcome, transcript, self._error, tool_calls=calls, cancelled=cancelled)


async def run_call(call: Call, callback_queue: CallbackQueue, nursery: trio.Nursery) -> None:
    """Run a call from its first frame to its last; ``nursery`` is the server's, and outlives it."""
    call.shielded_in(nursery)
    async with open_callbacks(nursery, callback_queue):
        # The one boundary, once for each ring: a bug ends its call, not the server.
        try:
            async with trio.open_nursery() as leg:
                leg.start_soon(call.read)
                leg.start_soon(call.write)
                leg.start_soon(call.watch)
                try:
                    await call.converse()
                except* Exception as bugs:  # noqa: BLE001
                    call.crashed(bugs)
                    await call.apologise()
                leg.cancel_scope.cancel(reason="call over")
        except* Exception as bugs:  # noqa: BLE001 (in the leg, or in what was to apologise)
            call.crashed(bugs)
        finally:
            cancelled = trio.current_effective_deadline() == -math.inf
            try:
                await call.close(CLOSE_TIMEOUT_S)
            finally:  # closing a stream ends with a checkpoint, and the server may be being cancelled
                call.end(cancelled=cancelled)
