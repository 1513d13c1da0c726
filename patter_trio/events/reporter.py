"""What happened in a call, put into words for observers: payloads, their instants, and the public states.

All that is told passes through here, in the order in which it happened, and with it facts that no callback is told but
that the measuring of a call is made of. :class:`CallObserver` objects see both, at once; so does the event bus, which
publishes those that ``event_types.PUBLISHED`` names.

========================  =====================================================================================
fact                      beside ``call_id``
========================  =====================================================================================
``agent_ready``           ``stt_provider``, ``stt_model``, ``tts_...``, ``llm_...``, ``provider_mode``, ``prompt_characters``
``voice_started``         ``offset``: seconds since the first media frame, exact
``words_final``           ``text``: the recogniser's final result
``utterance_over``        ``silence``: seconds since the caller's last voice, exact
``user_amended``          ``text``: late words have changed the newest utterance
``reply_started``         ``reply``, ``turn_idx``, ``mind``: ``llm``, ``on_message``, ``text`` or ``error``; with the
                          first two ``llm_provider`` and ``model``, as in ``llm_token``
``llm_started``           ``reply``, ``turn_idx``: the mind is asked
``llm_chunk``             ``reply``, ``turn_idx``, ``text``
``llm_finished``          ``reply``, ``turn_idx``
``llm_failed``            ``reply``, ``turn_idx``, ``error``: the class of what was raised
``sentence``              ``reply``, ``turn_idx``, ``text``: handed to the synthesiser
``tts_first_audio``       ``reply``, ``turn_idx``: the reply's first audio was made
``tts_finished``          ``reply``, ``turn_idx``: all of the reply is synthesised
``tts_failed``            ``reply``, ``turn_idx``, ``error``: the class of what was raised
``tts_chunk``             ``reply``, ``turn_idx``, ``audio``: mu-law at 8 kHz, written to the carrier
``usage``                 ``usage``: what a provider reports; ``reply``, ``turn_idx`` where it is a reply's
``reply_heard``           ``reply``, ``turn_idx``: what was heard of it is told next
``late_words``            the caller's words that are told next are those of an utterance before the newest
``reply_ended``           ``reply``, ``turn_idx``, ``reason``: ``played``, or why it was cut
``hook``                  ``name``, ``seconds``: a hook was asked, and how long it took
``tool_call_started``     ``name``, ``tool_call_id``, ``arguments``
``tool_call_completed``   the same, and ``result``, ``duration`` (s), and ``error`` where it failed
``vetoed``                ``reply``, ``turn_idx``: ``after_transcribe`` would have no answer
``guardrail``             ``reply``, ``turn_idx``, ``name``: a sentence was blocked
``interruption``          ``turn_idx``, ``text``, ``speech_duration_ms``, ``reason``: a reply that was heard was cut
``call_failed``           ``error``: the class of what went wrong first
========================  =====================================================================================
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs

from patter_trio.abc import CallInfo
from patter_trio.audio.media_clock import MediaClock
from patter_trio.conversation.history import Entry
from patter_trio.events.call_events import CallEvents
from patter_trio.events.callbacks import CallbackQueue
from patter_trio.events.edges import OF_A_TURN, EdgeRules
from patter_trio.events.payloads import ConversationStateSnapshot, Tap
from patter_trio.metrics.meter import Meter
from patter_trio.metrics.metering import Metering
from patter_trio.metrics.results import CallMetrics


class CallObserver(Protocol):
    """Sees all that is told of one call; it neither waits nor raises."""

    def wants(self, name: str) -> bool:
        """Return True if it uses facts of that name; others need not be put into words."""

    def on_event(self, name: str, at: float, payload: Mapping[str, Any]) -> None:
        """Take an event's or a fact's name, its instant on the call's clock, and what is said about it."""


@attrs.frozen(eq=False)
class _OnBus:
    """The event bus as an observer: it publishes each event with the public states as they are then."""

    events: CallEvents
    state: Callable[[], ConversationStateSnapshot]

    def wants(self, name: str) -> bool:
        return self.events.wants(name)

    def on_event(self, name: str, at: float, payload: Mapping[str, Any]) -> None:
        if self.events.wants(name):
            self.events.on_event(name, at, payload, self.state())


@attrs.frozen
class Fired:
    """An adapter fired a speech edge; it is told in its place among the inputs, and means nothing to the turn machine."""

    name: str
    payload: Mapping[str, Any]


class CallReporter:
    """Tells one call's events, each with the state as it is then.

    Args:
        callback_queue: takes what the application's callbacks are told.
        info: the facts of the call.
        media: the clock of the caller's audio.
        epoch: Unix time of the clock's zero.
        tap: sees every event at once; for the test kit.
        observers: see every event and fact.
        events: the call on the event bus, which comes behind the observers.
        meter: measures the call; comes last.
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
        self._metering = None if meter is None else Metering(info.call_id, meter, self.emit_event)
        self._observers: tuple[CallObserver, ...] = (
            *observers,
            *(() if events is None else (_OnBus(events, lambda: self.state),)),
            # Last: what it reports, the others must see behind the event that it was reported for.
            *(() if self._metering is None else (self._metering,)),
        )
        self._callback_queue = callback_queue
        self._info = info
        self._call_id = info.call_id
        self._media = media
        self._epoch = epoch
        self._tap = tap
        self._edges = EdgeRules()
        self._fired_turns = 0
        """Turns that adapters have committed (:meth:`fired`), of which the turn machine does not know."""

    @property
    def state(self) -> ConversationStateSnapshot:
        """The public states."""
        return ConversationStateSnapshot(user=self._edges.user, agent=self._edges.agent)

    @property
    def turn_idx(self) -> int:
        """How many utterances have been told to be over."""
        return self._edges.turn_idx

    def metrics(self, at: float) -> CallMetrics | None:
        """Return what was measured up to that instant."""
        return None if self._metering is None else self._metering.so_far(at)

    def unix(self, at: float) -> float:
        """Return the Unix time, in seconds, of an instant on the call's clock."""
        return self._epoch + at

    def emit_event(self, name: str, at: float, payload: Mapping[str, Any]) -> None:
        """Tell an event; ``at`` is its instant on the call's clock."""
        told = {"call_id": self._call_id, **payload}
        if self._tap is not None:
            self._tap(at - (at if self._media.start is None else self._media.start), name, told)
        self._notify(name, at, told)
        self._callback_queue.put(name, told, self.state)

    def emit_fact(self, fact: str, at: float, payload: Mapping[str, Any]) -> None:
        """Report a fact, which the observers see and no callback is told."""
        if self.wants(fact):
            self._notify(fact, at, {"call_id": self._call_id, **payload})

    def wants(self, fact: str) -> bool:
        """Return True if an observer uses a fact; others need not be put into words."""
        return any(observer.wants(fact) for observer in self._observers)

    def _notify(self, name: str, at: float, payload: Mapping[str, Any]) -> None:
        for observer in self._observers:
            observer.on_event(name, at, payload)

    def _edge(self, name: str, at: float, payload: Mapping[str, Any]) -> None:
        if self._edges.count(name):
            self.emit_event(name, at, {"timestamp_ms": round(self.unix(at) * 1000), **payload})

    def _of_turn(self, name: str, at: float, turn: int, payload: Mapping[str, Any]) -> None:
        self._edge(name, at, {"turn_idx": turn + self._fired_turns, **payload})

    def fired(self, edge: Fired, at: float) -> None:
        """Tell an edge that an adapter fired; the states follow it, and the pipeline does not tell it again in its turn."""
        name = edge.name
        if name == "llm_token" and self._edges.was_counted("audio_out"):
            return  # too late: within a turn it comes before audio_out
        self._fired_turns += name == "user_speech_eos"
        self._edges.move(name)
        turn = {"turn_idx": self._edges.turn_idx} if name in OF_A_TURN else {}
        if name in ("user_speech_started", "user_speech_ended") and self._media.start is not None:
            turn = {"audio_offset_ms": _ms(at - self._media.start)}
        self._edge(name, at, {**turn, **edge.payload})

    def state_is(self, user: str, agent: str) -> None:
        """Take note of the public states."""
        self._edges.set_states(user, agent)

    def partial(self, at: float, text: str) -> None:
        """Tell an interim result of the recogniser."""
        self.emit_event("transcript_partial", at, {"timestamp_ms": round(self.unix(at) * 1000), "text": text})

    def user_started(self, at: float, offset: float, confidence: float | None) -> None:
        """Tell user_speech_started; ``offset`` in seconds since the first media frame."""
        self.emit_fact("voice_started", at, {"offset": offset})
        self._edge("user_speech_started", at, {"audio_offset_ms": _ms(offset), **_confidence(confidence)})

    def user_ended(self, at: float, offset: float, seconds: float, confidence: float | None) -> None:
        """Tell user_speech_ended, after ``seconds`` of voice."""
        self._edge(
            "user_speech_ended",
            at,
            {"speech_duration_ms": _ms(seconds), "audio_offset_ms": _ms(offset), **_confidence(confidence)},
        )

    def eos(self, at: float, trigger: str, silence: float, text: str) -> None:
        """Tell user_speech_eos, ``silence`` seconds after the last voice."""
        self.emit_fact("utterance_over", at, {"silence": silence})
        self._edge(
            "user_speech_eos",
            at,
            {"trigger": trigger, "trailing_silence_ms": _ms(silence), **({"transcript_so_far": text} if text else {})},
        )

    def token(self, at: float, turn: int, provider: str, model: str) -> None:
        """Tell llm_token."""
        self._of_turn("llm_token", at, turn, {"llm_provider": provider, "model": model})

    def audio(self, at: float, turn: int, provider: str) -> None:
        """Tell audio_out."""
        self._of_turn("audio_out", at, turn, {"tts_provider": provider})

    def agent_started(self, at: float, turn: int, speaker: Mapping[str, str]) -> None:
        """Tell agent_speech_started; ``speaker`` is the payload's ``tts_provider`` or ``engine``."""
        self._of_turn("agent_speech_started", at, turn, speaker)

    def agent_ended(self, at: float, turn: int, seconds: float, *, interrupted: bool) -> None:
        """Tell agent_speech_ended, after ``seconds`` were played."""
        self._of_turn("agent_speech_ended", at, turn, {"speech_duration_ms": _ms(seconds), "interrupted": interrupted})

    def interruption(self, at: float, turn: int, seconds: float, text: str, reason: str) -> None:
        """Note that a reply of which ``text`` was heard, in ``seconds``, was cut."""
        about = {"turn_idx": turn + self._fired_turns, "text": text, "speech_duration_ms": _ms(seconds)}
        self.emit_fact("interruption", at, {**about, "reason": reason})

    def transcript(self, at: float, role: str, text: str, history: Sequence[Entry]) -> None:
        """Tell on_transcript."""
        self.emit_event("transcript", at, {"role": role, "text": text, "history": list(history)})

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
        """Tell on_call_end, the last event."""
        payload: dict[str, Any] = {
            **self._info.payload("caller", "callee", "direction"),
            "ended_at": self.unix(at),
            "transcript": list(transcript),
            "metrics": None if self._metering is None else self._metering.close(at),
            "tool_calls": list(tool_calls),
            "outcome": outcome,
        }
        if error:
            payload["error"] = error
        told = {"call_id": self._call_id, **payload}
        if self._tap is not None:
            self._tap(at - (at if self._media.start is None else self._media.start), "call_end", told)
        self._notify("call_end", at, told)
        self._callback_queue.end(told, self.state, cancelled=cancelled)
        if self._events is not None:
            self._events.close()


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _confidence(confidence: float | None) -> dict[str, Any]:
    return {} if confidence is None else {"vad_confidence": confidence}
