"""What happened in a call, put into words for observers: payloads, their instants, and the public states.

All that is told passes through here, in the order in which it happened, and with it facts that no callback is told but
that the measuring of a call is made of. :class:`Watcher` objects see both, at once.

========================  =====================================================================================
fact                      beside ``call_id``
========================  =====================================================================================
``words_final``           ``text``: the recogniser's final result
``reply_started``         ``reply``, ``turn_idx``, ``mind``: ``llm``, ``on_message``, ``text`` or ``error``; with the
                          first two ``llm_provider`` and ``model``, as in ``llm_token``
``llm_started``           ``reply``, ``turn_idx``: the mind is asked
``llm_chunk``             ``reply``, ``turn_idx``, ``text``
``llm_finished``          ``reply``, ``turn_idx``
``llm_failed``            ``reply``, ``turn_idx``, ``error``: the class of what was raised
``sentence``              ``reply``, ``turn_idx``, ``text``: handed to the synthesiser
``tts_finished``          ``reply``, ``turn_idx``: all of the reply is synthesised
``tts_failed``            ``reply``, ``turn_idx``, ``error``: the class of what was raised
``tts_chunk``             ``reply``, ``turn_idx``, ``audio``: mu-law at 8 kHz, written to the carrier
``reply_ended``           ``reply``, ``turn_idx``, ``reason``: ``played``, or why it was cut
``call_failed``           ``error``: the class of what went wrong first
========================  =====================================================================================
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from patter_trio.audio.mediaclock import MediaClock
from patter_trio.call.observers import Observers
from patter_trio.conversation.history import Entry
from patter_trio.events import INITIAL, ConversationStateSnapshot, Tap


class Watcher(Protocol):
    """Sees all that is told of one call; it neither waits nor raises."""

    def saw(self, name: str, at: float, payload: Mapping[str, Any]) -> None:
        """Take an event's or a fact's name, its instant on the call's clock, and what is said about it."""


class Teller:
    """Tells one call's events, each with the state as it is then."""

    def __init__(
        self,
        observers: Observers,
        about: Mapping[str, Any],
        media: MediaClock,
        *,
        epoch: float,
        tap: Tap | None,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        self._watchers = watchers
        self._observers = observers
        self._about = dict(about)
        self._call_id = about["call_id"]
        self._media = media
        self._epoch = epoch
        self._tap = tap
        self.state: ConversationStateSnapshot = ConversationStateSnapshot(user=INITIAL["user"], agent=INITIAL["agent"])

    def unix(self, at: float) -> float:
        """Return the Unix time, in seconds, of an instant on the call's clock."""
        return self._epoch + at

    def tell(self, name: str, at: float, payload: Mapping[str, Any]) -> None:
        """Tell an event; ``at`` is its instant on the call's clock."""
        told = {"call_id": self._call_id, **payload}
        if self._tap is not None:
            self._tap(at - (at if self._media.start is None else self._media.start), name, told)
        self._watched(name, at, told)
        self._observers.tell(name, told, self.state)

    def note(self, fact: str, at: float, about: Mapping[str, Any]) -> None:
        """Let the watchers know a fact that no callback is told."""
        if self._watchers:
            self._watched(fact, at, {"call_id": self._call_id, **about})

    def _watched(self, name: str, at: float, payload: Mapping[str, Any]) -> None:
        for watcher in self._watchers:
            watcher.saw(name, at, payload)

    def _edge(self, name: str, at: float, payload: Mapping[str, Any]) -> None:
        self.tell(name, at, {"timestamp_ms": round(self.unix(at) * 1000), **payload})

    def state_is(self, user: str, agent: str) -> None:
        """Take note of the public states."""
        self.state = ConversationStateSnapshot(user=user, agent=agent)

    def user_started(self, at: float, offset: float, confidence: float | None) -> None:
        """Tell user_speech_started; ``offset`` in seconds since the first media frame."""
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
        self._edge(
            "user_speech_eos",
            at,
            {"trigger": trigger, "trailing_silence_ms": _ms(silence), "transcript_so_far": text},
        )

    def token(self, at: float, turn: int, provider: str, model: str) -> None:
        """Tell llm_token."""
        self._edge("llm_token", at, {"turn_idx": turn, "llm_provider": provider, "model": model})

    def audio(self, at: float, turn: int, provider: str) -> None:
        """Tell audio_out."""
        self._edge("audio_out", at, {"turn_idx": turn, "tts_provider": provider})

    def agent_started(self, at: float, turn: int, provider: str) -> None:
        """Tell agent_speech_started."""
        self._edge("agent_speech_started", at, {"turn_idx": turn, "tts_provider": provider})

    def agent_ended(self, at: float, turn: int, seconds: float, *, interrupted: bool) -> None:
        """Tell agent_speech_ended, after ``seconds`` were played."""
        self._edge(
            "agent_speech_ended",
            at,
            {"turn_idx": turn, "speech_duration_ms": _ms(seconds), "interrupted": interrupted},
        )

    def transcript(self, at: float, role: str, text: str, history: Sequence[Entry]) -> None:
        """Tell on_transcript."""
        self.tell("transcript", at, {"role": role, "text": text, "history": list(history)})

    def ended(self, at: float, outcome: str, transcript: Sequence[Entry], error: str, *, cancelled: bool) -> None:
        """Tell on_call_end, the last event."""
        payload: dict[str, Any] = {
            **{key: self._about[key] for key in ("caller", "callee", "direction")},
            "ended_at": self.unix(at),
            "transcript": list(transcript),
            "metrics": None,
            "tool_calls": [],
            "outcome": outcome,
        }
        if error:
            payload["error"] = error
        told = {"call_id": self._call_id, **payload}
        if self._tap is not None:
            self._tap(at - (at if self._media.start is None else self._media.start), "call_end", told)
        self._watched("call_end", at, told)
        self._observers.end(told, self.state, cancelled=cancelled)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _confidence(confidence: float | None) -> dict[str, Any]:
    return {} if confidence is None else {"vad_confidence": confidence}
