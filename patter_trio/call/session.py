"""One call, in three rings. Each ring may outlive the one inside it by a stated time.

::

    observers (the server's nursery)         the application's callbacks
    └─ leg: reader, writer, keep-alive       the carrier's socket; can still apologise after the conversation crashed
       └─ conversation                       VAD, STT, replies, tools, and the session loop

This module has the two outer rings, the end of the call, and what others see of it: its control, the windows, its leg,
and the call that it is bridged with. The conversation is a ring of its own (``call/conversation_ring.py``).
"""

import logging
import math
from collections.abc import Callable
from typing import Any

import attrs
import trio

from patter_trio.abc import CallInfo
from patter_trio.audio.media_clock import MediaClock
from patter_trio.call.announced import PendingControl
from patter_trio.call.backend import CallServices
from patter_trio.call.bridge import Bridge, BridgeEnd
from patter_trio.call.control import CallControl
from patter_trio.call.conversation_ring import ConversationRing
from patter_trio.call.ending import Ending
from patter_trio.call.hold import Hold
from patter_trio.call.inbox import Inbox
from patter_trio.call.last_words import LastWords
from patter_trio.call.leg import MediaLeg
from patter_trio.call.limits import Limits
from patter_trio.call.options import CallOptions
from patter_trio.call.output.digits import DigitsRequest, DigitsSender
from patter_trio.call.output.writer import CarrierWriter
from patter_trio.call.streams import CallStreams
from patter_trio.call.tapes import Tapes
from patter_trio.call.tools.runner import ToolRunner
from patter_trio.call.transfer_request import TransferRequest
from patter_trio.call.transfers import TRANSFER_TIMEOUT_S, Transfers
from patter_trio.conversation import inputs
from patter_trio.conversation.history import Entry, History
from patter_trio.conversation.playback import Media
from patter_trio.errors import CallEnded, leaves
from patter_trio.events.callbacks import CallbackQueue, open_callbacks
from patter_trio.events.payloads import ConversationStateSnapshot
from patter_trio.events.reporter import CallReporter, Fired
from patter_trio.metrics.internal_events import InternalEvent
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
        self.control: CallControl = pending.control
        self._options = options
        self._reporter = reporter
        self._media = media
        self._server_nursery = server_nursery
        self._ending = Ending(self.info.call_id, self._emit_fact)
        self._inbox = Inbox(self.info.call_id)
        self.tapes: Tapes = Tapes(media, options.recorded.file)
        """Take the audio of both sides: for the recording, and for those who listen."""
        self._writer = CarrierWriter(
            stream.socket,
            stream.codec,
            self._post,
            self._on_sent,
            on_heard=self._on_heard,
            recording=self.tapes,
        )
        self.streams: CallStreams = CallStreams(stream, self._writer, self, media, self._on_stream_lost)
        self._history = History()
        tools = ToolRunner(
            self, self._history, self._emit_fact, self._post, options.webhooks, shield_nursery=server_nursery
        )
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
        self._digits = DigitsSender(self.info.call_id, options.send_digits, self._say)
        self._conversation = ConversationRing(
            CallServices(self, self.control, self._history, reporter, self._emit_fact, tools, self._writer, self._post),
            options,
            inbox=self._inbox,
            ending=self._ending,
            media=media,
            limits=self._limits,
            transfers=self.transfers,
            digits=self._digits,
            hang_up=self._hang_up_leg,
        )
        self._last_words = LastWords(self._conversation.backend, self._writer, self.transfers)
        # Last, because this carries out the deferred commands, which need every part above.
        pending.connect(self)

    def __repr__(self) -> str:
        machine = self._conversation.machine
        return f"<CallSession {self.info.call_id} {self.info.direction}, {machine!r}, {self._writer!r}>"

    # What CallControl forwards to -------------------------------------------------------------------------------------
    @property
    def outcome(self) -> str:
        """The outcome of the call; empty while it lives, with the agent or with the other party of a bridge."""
        return "" if self._bridge.is_up else self._ending.outcome

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
        if not self._ending.outcome:
            self._inbox.check_room_for_text(self._conversation.waiting_texts)
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
        return self._conversation.dropped_frames

    @property
    def is_handed_over(self) -> bool:
        """True if the carrier has connected the caller with somebody else: the call goes on there, without us."""
        return self.outcome == inputs.TRANSFERRED_REASON and not self._bridge.was_joined

    @property
    def can_join(self) -> bool:
        """True while the party is there and the conversation with the agent goes on."""
        return not self._ending.outcome and not self._last_words.caller_has_left and not self._bridge.was_joined

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
        if self._ending.is_open:
            self._conversation.give_up(why, "SystemExit")

    def emit_edge(self, edge: SpeechEdge) -> None:
        """Emit a speech edge in the pipeline's place; for adapters, through ``phone.speech_events``."""
        if not self._ending.outcome:
            self._inbox.put_for_application(Fired(edge))

    # Inputs -----------------------------------------------------------------------------------------------------------
    def _demand(self, event: inputs.Input) -> None:
        if self._ending.outcome:
            what = "is connected with another call" if self._bridge.is_up else "is over"
            raise CallEnded(f"call {self.info.call_id} {what} ({self._ending.outcome})")
        self._inbox.put_for_application(event)

    def _post(self, event: inputs.Input) -> None:
        """Put an input into the inbox with its instant; inputs after the call's end are dropped."""
        if isinstance(event, inputs.FinalWords) and event.finished:
            # The end of a turn is often reported before the VAD is sure of the end of the voice.
            event = attrs.evolve(event, quiet_since=self._conversation.quiet_since)
        if not self._ending.outcome:
            self._inbox.put(event)

    def _emit_fact(self, event: InternalEvent) -> None:
        self._reporter.emit_fact(event, trio.current_time())

    def _on_sent(self, media: Media) -> None:
        self._conversation.live_reply.on_sent(media)

    def _on_heard(self) -> None:
        self._conversation.live_reply.on_heard()

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
            self.tapes.said(audio)
            return
        # Before arrived(), which counts this frame: its position is that of its first sample.
        self._conversation.hear(audio)
        self._media.arrived(len(audio), trio.current_time())
        self.tapes.said(audio)
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
        self._conversation.fall_silent()

    def leave_message(self, text: str) -> None:
        """Say ``text``, which nobody can interrupt, and hang up with the outcome ``voicemail``.

        Empty: hang up at once.
        """
        self._conversation.leave_message(text)

    def _on_stream_lost(self) -> None:
        self._last_words.stream_is_lost()
        self._options.on_stream_lost()

    def on_leg_down(self, reason: str) -> None:
        """End the conversation, and an apology, because the caller is gone."""
        # Before the input: after a crash, no loop is left to read it.
        self._last_words.caller_left()
        self._hold.end()
        self._bridge.end()
        self._post(inputs.LegDown(reason))

    def may_wait(self) -> bool:
        """Return True if the call goes on over another stream when it loses the one it has."""
        # A call that has failed ends with its apology, unless a person takes over.
        if self.outcome or (self._ending.error and not self._conversation.agent.failure_destination):
            return False
        # The conversation of a call that is connected with another one, or has crashed, is over.
        goes_on = self._bridge.is_up or self.transfers.is_open or self._last_words.has_begun
        return goes_on or self._conversation.may_wait

    async def connect_on_failure(self) -> bool:
        """Connect the caller with ``on_failure``, because no stream has come; True if the carrier has done so."""
        if self._last_words.has_begun:
            # Nobody hears it any more. It connects the caller itself, which must not be broken off.
            self._last_words.stream_is_lost()
            await self._last_words.wait()
            return False
        # A transfer that is under way decides by itself what becomes of the call.
        if self.transfers.is_under_way:
            return False
        if destination := self._conversation.agent.failure_destination:
            with trio.move_on_after(TRANSFER_TIMEOUT_S):
                return await self.transfers.hand_over(destination)
        return False

    def may_come_back(self) -> bool:
        """Return True if the stream may end although the call does not: its carrier transfers it."""
        return self.transfers.is_open

    def is_being_transferred(self) -> bool:
        """Return True until it is known whether the party of a transfer answers."""
        return self.transfers.is_ringing

    def fail(self, why: str, kind: str) -> None:
        """Record and log the first failure; ``kind`` is its public name, without the details in ``why``."""
        self._ending.fail(why, kind)

    def _hang_up_leg(self) -> None:
        self._hold.end()
        self._writer.hang_up()
        # Now, not when the call is over: for some carriers the end of the stream is not the end of the call.
        self._options.on_hang_up()
        self.streams.hung_up()

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
                        await self._conversation.run()
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
        # First, because the apology needs the writer, which plays one reply at a time.
        self._conversation.live_reply.freeze()
        if await self._last_words.say(self._conversation.agent, has_stream=self.streams.waits_until is None):
            self._ending.end(inputs.TRANSFERRED_REASON)

    def _end(self, *, cancelled: bool) -> None:
        """Emit on_call_end, once, whatever ended the call."""
        calls, now = self._conversation.close(), trio.current_time()
        outcome = self._ending.settle()
        self.transfers.close(outcome)  # after the outcome is set: it decides whether the transfer succeeded
        self._digits.close(outcome)
        transcript = self._history.whole()
        self._reporter.ended(now, outcome, transcript, self._ending.error, tool_calls=calls, cancelled=cancelled)
