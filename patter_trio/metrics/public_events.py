"""Public events of a call: what happened, before it becomes the payload of a callback or of the event bus.

``name`` is the callback's name without ``on_``; ``events/rendering.py`` makes the payload. Why these classes are in
``metrics``: see ``internal_events.py``. A field that is None is absent from the payload.
"""

from typing import Any, ClassVar, Literal

import attrs

from patter_trio.abc import CallInfo
from patter_trio.conversation.history import Entry
from patter_trio.metrics.results import CallMetrics, CostBreakdown, TurnMetrics


# Speech edges ---------------------------------------------------------------------------------------------------------
# An adapter builds them, too. It leaves out what it does not know, and the reporter fills in timestamp_ms and turn_idx.
@attrs.frozen(kw_only=True)
class UserSpeechStarted:
    """Voice activity began; it is not an utterance yet."""

    name: ClassVar[str] = "user_speech_started"
    timestamp_ms: int | None = None
    """Unix time in milliseconds."""
    audio_offset_ms: int | None = None
    """Where the voice begins: milliseconds since the first media frame."""
    vad_confidence: float | None = None
    """The detector's probability, 0 to 1."""


@attrs.frozen(kw_only=True)
class UserSpeechEnded:
    """Voice activity ended; the caller may go on in a moment."""

    name: ClassVar[str] = "user_speech_ended"
    timestamp_ms: int | None = None
    """Unix time in milliseconds."""
    speech_duration_ms: int
    """How long the voice lasted, in milliseconds."""
    audio_offset_ms: int | None = None
    """Where the voice ends: milliseconds since the first media frame."""
    vad_confidence: float | None = None
    """The detector's probability, 0 to 1."""


@attrs.frozen(kw_only=True)
class UserSpeechEos:
    """The utterance is over: the decision that the caller has finished."""

    name: ClassVar[str] = "user_speech_eos"
    timestamp_ms: int | None = None
    """Unix time in milliseconds."""
    trigger: str
    """What ended it: one of ``EouTrigger``, or an adapter's own word."""
    trailing_silence_ms: int | None = None
    """Milliseconds since the caller's last voice."""
    transcript_so_far: str | None = None
    """The words of the utterance, as far as they are known."""


@attrs.frozen(kw_only=True)
class LlmToken:
    """The first token of the turn's reply arrived, a text or a tool call."""

    name: ClassVar[str] = "llm_token"
    timestamp_ms: int | None = None
    """Unix time in milliseconds."""
    turn_idx: int | None = None
    llm_provider: str
    model: str


@attrs.frozen(kw_only=True)
class AudioOut:
    """The first audio of the turn's reply was made; it is not on the wire yet."""

    name: ClassVar[str] = "audio_out"
    timestamp_ms: int | None = None
    """Unix time in milliseconds."""
    turn_idx: int | None = None
    tts_provider: str


@attrs.frozen(kw_only=True)
class AgentSpeechStarted:
    """The first audio of the reply is on the wire."""

    name: ClassVar[str] = "agent_speech_started"
    timestamp_ms: int | None = None
    """Unix time in milliseconds."""
    turn_idx: int | None = None
    tts_provider: str | None = None
    """The TTS that speaks, if one does."""
    engine: str | None = None
    """The engine that speaks, if one does."""


@attrs.frozen(kw_only=True)
class AgentSpeechEnded:
    """The caller hears nothing more of the reply."""

    name: ClassVar[str] = "agent_speech_ended"
    timestamp_ms: int | None = None
    """Unix time in milliseconds."""
    turn_idx: int | None = None
    speech_duration_ms: int
    """How much of the reply was played, in milliseconds."""
    interrupted: bool = False


SpeechEdge = (
    UserSpeechStarted | UserSpeechEnded | UserSpeechEos | LlmToken | AudioOut | AgentSpeechStarted | AgentSpeechEnded
)
"""The seven speech edges."""


# The others -----------------------------------------------------------------------------------------------------------
@attrs.frozen
class InterimTranscript:
    """The STT's words so far; they may still change."""

    name: ClassVar[str] = "transcript_partial"
    timestamp_ms: int
    """Unix time in milliseconds."""
    text: str


@attrs.frozen
class TranscriptCommitted:
    """An utterance entered the history: the caller's words, or what the caller heard of the agent's."""

    name: ClassVar[str] = "transcript"
    role: Literal["user", "assistant"]
    text: str
    # A list of copies, made once for all receivers; each receiver then gets a copy of its own.
    history: list[Entry]
    """The newest entries of the history, this one included."""
    revises: bool = False
    """True if the words take the place of those of the caller's entry that was reported before."""


@attrs.frozen
class DigitReceived:
    """The caller pressed a key."""

    name: ClassVar[str] = "dtmf"
    digit: str


@attrs.frozen
class MachineFound:
    """The carrier's finding about who has answered a call that we placed."""

    name: ClassVar[str] = "machine_detection"
    answered_by: str
    """``human``, ``machine``, ``fax``, ``screening`` or ``unknown``."""
    greeting_ended: bool = False
    """True if a machine's greeting is over."""


@attrs.frozen
class TurnMeasured:
    """A turn is over and measured."""

    name: ClassVar[str] = "metrics"
    turn: TurnMetrics
    cost_so_far: CostBreakdown
    """What the call has cost up to this instant."""


@attrs.frozen
class CallConnected:
    """The call's media stream has begun."""

    name: ClassVar[str] = "call_start"
    info: CallInfo


@attrs.frozen(kw_only=True)
class CallOver:
    """The call has ended: the last event of a call."""

    name: ClassVar[str] = "call_end"
    info: CallInfo
    ended_at: float
    """Unix time in seconds."""
    outcome: str
    error: str = ""
    """What went wrong first; empty if nothing did."""
    # Without the bound of the other payloads: this one is for the record.
    transcript: list[Entry] = attrs.field(factory=list)
    """The whole conversation."""
    metrics: CallMetrics | None = None
    tool_calls: list[dict[str, Any]] = attrs.field(factory=list)
    """A summary of each tool call, oldest first."""


PublicEvent = (
    SpeechEdge
    | InterimTranscript
    | TranscriptCommitted
    | DigitReceived
    | MachineFound
    | TurnMeasured
    | CallConnected
    | CallOver
)
"""An event that has a callback, or is published under the name of one."""
