"""Report what happens in a call to everyone who observes it, in the order in which it happens.

Everything passes through here: **public events** (``metrics/public_events.py``), for the application's callbacks, and
**internal events** (``metrics/internal_events.py``), for metrics and tracing. The trace and the meter get both, at
once; so does the event bus, which publishes the classes of ``events/kinds.PUBLISHED``. An event becomes a payload, a
dict, only for the application (``events/rendering.py``) and for the test kit's tap.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import attrs

from patter_trio.abc import CallInfo
from patter_trio.audio.media_clock import MediaClock
from patter_trio.conversation.history import Entry
from patter_trio.events.call_events import CallEvents
from patter_trio.events.callbacks import CallbackQueue
from patter_trio.events.edges import EdgeRules, complete_edge
from patter_trio.events.payloads import ConversationStateSnapshot, Tap
from patter_trio.events.rendering import callback_payload
from patter_trio.metrics.internal_events import (
    CallEvent,
    InternalEvent,
    ReplyInterrupted,
    UtteranceOver,
    VoiceOnset,
)
from patter_trio.metrics.meter import Meter
from patter_trio.metrics.metering import Metering
from patter_trio.metrics.public_events import (
    AgentSpeechEnded,
    AgentSpeechStarted,
    AudioOut,
    CallOver,
    InterimTranscript,
    LlmToken,
    PublicEvent,
    SpeechEdge,
    TranscriptCommitted,
    UserSpeechEnded,
    UserSpeechEos,
    UserSpeechStarted,
)
from patter_trio.metrics.results import CallMetrics, CostBreakdown


class CallObserver(Protocol):
    """An observer of every event of one call; it neither waits nor raises."""

    # Asked before an event is made: audio and tokens come up to a hundred times a second, and
    # most calls have nobody for them.
    def wants(self, kind: type[CallEvent]) -> bool:
        """Return True if the observer uses events of a class; internal events without an observer are not reported."""

    # With the instant beside it: by the time an observer runs, the clock may have gone on.
    def on_event(self, event: CallEvent, at: float) -> None:
        """Take an event and its instant on the call's clock, in seconds."""


@attrs.frozen(eq=False)
class _OnBus:
    """The event bus as an observer: it publishes each event with the public states as they are then."""

    events: CallEvents
    state: Callable[[], ConversationStateSnapshot]

    def wants(self, kind: type[CallEvent]) -> bool:
        return self.events.wants(kind)

    def on_event(self, event: CallEvent, at: float) -> None:
        # Asked again: the reporter makes an event if any observer wants it.
        if self.events.wants(type(event)):
            self.events.on_event(event, at, self.state())


@attrs.frozen
class Fired:
    """A speech edge from an adapter: it is reported in its place among the inputs; the turn machine ignores it."""

    edge: SpeechEdge


class CallReporter:
    """The reporter of one call's events, each with the public states at its instant.

    Args:
        callback_queue: the events for the application's callbacks.
        info: the facts of the call.
        media: the clock of the caller's audio.
        epoch: Unix time of the clock's zero, in seconds.
        tap: gets every public event at once; for the test kit.
        observers: get every event, in this order.
        events: the call on the event bus, which gets events after the observers.
        meter: measures the call; it gets events last.
    """

    def __init__(
        self,
        callback_queue: CallbackQueue,
        info: CallInfo,
        media: MediaClock,
        *,
        epoch: float,
        tap: Tap | None,
        observers: Sequence[CallObserver] = (),
        events: CallEvents | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._events = events
        # It gets emit_event and not the reporter: a turn that is over is the only thing that it reports.
        self._metering = None if meter is None else Metering(info.call_id, meter, self.emit_event)
        self._observers: tuple[CallObserver, ...] = (
            *observers,
            # A function for the states, because the observer is made before the rules that hold them.
            *(() if events is None else (_OnBus(events, lambda: self.state),)),
            # Last, because the others must get the turn that it reports after the event that ended the turn.
            *(() if self._metering is None else (self._metering,)),
        )
        self._callback_queue = callback_queue
        self._info = info
        self._media = media
        self._epoch = epoch
        self._tap = tap
        self._edges = EdgeRules()
        self._fired_turns = 0
        """Turns that adapters have committed (:meth:`fired`); the turn machine does not count them."""

    @property
    def state(self) -> ConversationStateSnapshot:
        """The public states."""
        return ConversationStateSnapshot(user=self._edges.user, agent=self._edges.agent)

    @property
    def turn_idx(self) -> int:
        """The number of utterances of the caller that have ended."""
        return self._edges.turn_idx

    def metrics(self, at: float) -> CallMetrics | None:
        """Return what was measured up to that instant."""
        return None if self._metering is None else self._metering.so_far(at)

    def cost(self, at: float) -> CostBreakdown | None:
        """Return the cost up to that instant; None: it is not measured."""
        return None if self._metering is None else self._metering.cost(at)

    def unix(self, at: float) -> float:
        """Return the Unix time, in seconds, of an instant on the call's clock."""
        return self._epoch + at

    def _unix_ms(self, at: float) -> int:
        return _ms(self.unix(at))

    def emit_event(self, event: PublicEvent, at: float) -> None:
        """Report a public event; ``at`` is its instant on the call's clock."""
        # First the tap, then the observers, then the callbacks: whatever a callback does, the
        # others have the event by then.
        payload = self._render(event, at)
        self._notify(event, at)
        self._callback_queue.put(event.name, payload, self.state)

    def emit_fact(self, event: InternalEvent, at: float) -> None:
        """Report an internal event; ``at`` is its instant on the call's clock."""
        # An internal event without an observer goes nowhere; callers of many of them ask wants() before they make one.
        if self.wants(type(event)):
            self._notify(event, at)

    def wants(self, kind: type[InternalEvent]) -> bool:
        """Return True if an observer uses internal events of a class; others need not be made."""
        return any(observer.wants(kind) for observer in self._observers)

    def _render(self, event: PublicEvent, at: float) -> Mapping[str, Any]:
        """Return an event's payload; the tap sees it before anyone else."""
        payload = callback_payload(event, self._info.call_id)
        if self._tap is not None:
            # A copy, because a tap keeps what it gets, and the payload goes on to the callbacks.
            self._tap(at - (at if self._media.start is None else self._media.start), event.name, dict(payload))
        return payload

    def _notify(self, event: CallEvent, at: float) -> None:
        for observer in self._observers:
            observer.on_event(event, at)

    def _edge(self, edge: SpeechEdge, at: float) -> None:
        # An adapter may have fired llm_token or audio_out of this turn already: only the first one is reported.
        if self._edges.count(edge.name):
            self.emit_event(edge, at)

    def fired(self, fired: Fired, at: float) -> None:
        """Report an edge from an adapter and move the states; the pipeline does not repeat the edge in its turn.

        ``user_speech_eos`` leaves the agent as it is: the call answers only what its own turn machine commits, so
        nothing would end a ``thinking`` that an adapter began.
        """
        edge = fired.edge
        if isinstance(edge, LlmToken) and self._edges.was_counted(AudioOut.name):
            return  # too late: within a turn, llm_token comes before audio_out
        # The turn machine goes on counting by itself, so the turns of an adapter are added to its numbers.
        self._fired_turns += isinstance(edge, UserSpeechEos)
        agent = self._edges.agent
        # Before the report: observers read the states that the edge leads to.
        self._edges.move(edge.name)
        if isinstance(edge, UserSpeechEos):
            self._edges.set_states(self._edges.user, agent)
        offset = None if self._media.start is None else _ms(at - self._media.start)
        self._edge(complete_edge(edge, self._unix_ms(at), self._edges.turn_idx, offset), at)

    def turn_of_reply(self, turn: int) -> int:
        """Return the public number of the turn that a reply begins in, which its events keep.

        Args:
            turn: the turn machine's number; it does not count the turns that adapters have committed.
        """
        return turn + self._fired_turns

    def state_is(self, user: str, agent: str) -> None:
        """Set the public states."""
        self._edges.set_states(user, agent)

    def partial(self, at: float, text: str) -> None:
        """Report an interim result of the STT."""
        self.emit_event(InterimTranscript(self._unix_ms(at), text), at)

    def user_started(self, at: float, offset: float, confidence: float | None) -> None:
        """Report user_speech_started; ``offset`` in seconds since the first media frame."""
        # Before the edge: the meter uses the exact value for the edge that follows, which rounds to milliseconds.
        self.emit_fact(VoiceOnset(offset), at)
        edge = UserSpeechStarted(timestamp_ms=self._unix_ms(at), audio_offset_ms=_ms(offset), vad_confidence=confidence)
        self._edge(edge, at)

    def user_ended(self, at: float, offset: float, seconds: float, confidence: float | None) -> None:
        """Report user_speech_ended, after ``seconds`` of voice."""
        edge = UserSpeechEnded(
            timestamp_ms=self._unix_ms(at),
            speech_duration_ms=_ms(seconds),
            audio_offset_ms=_ms(offset),
            vad_confidence=confidence,
        )
        self._edge(edge, at)

    def eos(self, at: float, trigger: str, silence: float, text: str) -> None:
        """Report user_speech_eos, ``silence`` seconds after the last voice."""
        # Before the edge, as in user_started().
        self.emit_fact(UtteranceOver(silence), at)
        edge = UserSpeechEos(
            timestamp_ms=self._unix_ms(at),
            trigger=trigger,
            trailing_silence_ms=_ms(silence),
            transcript_so_far=text or None,
        )
        self._edge(edge, at)

    def token(self, at: float, turn: int, provider: str, model: str) -> None:
        """Report llm_token."""
        self._edge(LlmToken(timestamp_ms=self._unix_ms(at), turn_idx=turn, llm_provider=provider, model=model), at)

    def audio(self, at: float, turn: int, provider: str) -> None:
        """Report audio_out."""
        self._edge(AudioOut(timestamp_ms=self._unix_ms(at), turn_idx=turn, tts_provider=provider), at)

    def agent_started(self, at: float, turn: int, speaker: AgentSpeechStarted) -> None:
        """Report agent_speech_started; ``speaker`` has the provider that speaks, but not the time and the turn."""
        self._edge(attrs.evolve(speaker, timestamp_ms=self._unix_ms(at), turn_idx=turn), at)

    def agent_ended(self, at: float, turn: int, seconds: float, *, interrupted: bool) -> None:
        """Report agent_speech_ended, after ``seconds`` were played."""
        edge = AgentSpeechEnded(
            timestamp_ms=self._unix_ms(at),
            turn_idx=turn,
            speech_duration_ms=_ms(seconds),
            interrupted=interrupted,
        )
        self._edge(edge, at)

    def interruption(self, at: float, turn: int, seconds: float, text: str, reason: str) -> None:
        """Report that a reply was cut after the caller had heard ``text``, in ``seconds``."""
        self.emit_fact(ReplyInterrupted(turn, text, _ms(seconds), reason), at)

    def transcript(
        self,
        at: float,
        role: Literal["user", "assistant"],
        text: str,
        history: Sequence[Entry],
        *,
        revises: bool = False,
    ) -> None:
        """Report on_transcript; with ``revises``, the words take the place of those reported before."""
        self.emit_event(TranscriptCommitted(role, text, list(history), revises), at)

    def ended(
        self,
        at: float,
        outcome: str,
        transcript: Sequence[Entry],
        error: str,
        *,
        tool_calls: Sequence[Mapping[str, Any]] = (),
        cancelled: bool,
    ) -> None:
        """Report on_call_end, the last event."""
        event = CallOver(
            info=self._info,
            ended_at=self.unix(at),
            transcript=list(transcript),
            # Before the end is reported, because closing the meter reports the turn that is still open.
            metrics=None if self._metering is None else self._metering.close(at),
            tool_calls=[dict(call) for call in tool_calls],
            outcome=outcome,
            error=error,
        )
        # Not through emit_event(): the queue has to know that this is the last event, and start its time limits.
        payload = self._render(event, at)
        self._notify(event, at)
        self._callback_queue.end(payload, self.state, cancelled=cancelled)
        if self._events is not None:
            # After the event, so that subscriptions to this call alone still get it.
            self._events.close()


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
