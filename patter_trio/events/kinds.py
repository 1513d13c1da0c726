"""What the event bus carries: its types, the payload of each, and where in a call it comes from.

Every payload is a dict with ``call_id``. ``timestamp_ms`` is epoch milliseconds; ``reply`` is the number of the reply
within its call, so that what belongs to one that was taken back can be told from what belongs to the next. A type that
has a callback of the same meaning carries exactly the callback's payload.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Literal, NotRequired, TypedDict

from patter_trio.errors import ConfigurationError
from patter_trio.events.payloads import CallEndEvent, CallStartEvent, TranscriptEvent


class PatterEventType(StrEnum):
    """The types of events on :class:`~patter_trio.EventBus`; each is the text of its name, too."""

    TRANSCRIPT_PARTIAL = "transcript_partial"
    """An interim result of the recogniser."""
    TRANSCRIPT_FINAL = "transcript_final"
    """Told with ``on_transcript``, and exactly that: the caller's committed words, or what was heard of the agent."""
    LLM_CHUNK = "llm_chunk"
    """A piece of text of the model's or of ``on_message``'s; a fixed text, such as a greeting, has none."""
    TTS_CHUNK = "tts_chunk"
    """Audio of the agent's that was written to the carrier."""
    TOOL_CALL_STARTED = "tool_call_started"
    TOOL_CALL_COMPLETED = "tool_call_completed"
    TURN_STARTED = "turn_started"
    """At the instant of ``user_speech_eos``; turn 0, if the agent speaks first, when that reply is begun."""
    TURN_ENDED = "turn_ended"
    """Once for each turn that started, before the next one starts."""
    INTERRUPTION = "interruption"
    """Behind each ``agent_speech_ended`` that has ``interrupted``."""
    CALL_STARTED = "call_started"
    """The call's media has begun."""
    CALL_ENDED = "call_ended"
    """The call is over; also of a call that was announced and never connected, or that heard busy."""
    METRICS_COLLECTED = "metrics_collected"
    DTMF_RECEIVED = "dtmf_received"


class TranscriptPartial(TypedDict):
    """TRANSCRIPT_PARTIAL: words that may still change."""

    call_id: str
    timestamp_ms: int
    text: str


class LlmChunk(TypedDict):
    """LLM_CHUNK: a piece of the reply's text, as the mind gave it."""

    call_id: str
    timestamp_ms: int
    turn_idx: int
    reply: int
    text: str


class TtsChunk(TypedDict):
    """TTS_CHUNK: mu-law at 8 kHz, as it was written to the carrier."""

    call_id: str
    timestamp_ms: int
    turn_idx: int
    reply: int
    audio: bytes


class ToolCallStarted(TypedDict):
    """TOOL_CALL_STARTED: a tool is being called."""

    call_id: str
    timestamp_ms: int
    name: str
    tool_call_id: str
    arguments: Any
    """A dict; the text that the model wrote, where that is none."""


class ToolCallCompleted(TypedDict):
    """TOOL_CALL_COMPLETED: the tool has answered, ``duration`` seconds later; with ``error`` it failed, or was ended."""

    call_id: str
    timestamp_ms: int
    name: str
    tool_call_id: str
    arguments: Any
    result: Any
    duration: float
    error: NotRequired[str]


class TurnStarted(TypedDict):
    """TURN_STARTED."""

    call_id: str
    timestamp_ms: int
    turn_idx: int


TurnEndReason = Literal["completed", "interrupted", "continued", "failed", "call_ended"]
"""Why a turn was over: its reply was played (or there was nothing to say); it was cut by the caller or by ``say``; the
caller went on before it was heard, so that the next turn answers both; it failed, and so did the apology; the call ended.
"""


class TurnEnded(TypedDict):
    """TURN_ENDED."""

    call_id: str
    timestamp_ms: int
    turn_idx: int
    reason: TurnEndReason


class Interruption(TypedDict):
    """INTERRUPTION: ``text`` and ``speech_duration_ms`` are what was heard of the reply.

    ``reason`` is who cut it: the caller (``barge-in``), the application (``say``), the end of the call (``leg down``,
    ``goodbye``), or a failure (``failed``).
    """

    call_id: str
    timestamp_ms: int
    turn_idx: int
    text: str
    speech_duration_ms: int
    reason: str


class MetricsCollected(TypedDict):
    """METRICS_COLLECTED: what ``on_metrics`` is told."""

    call_id: str
    turn: Any
    cost_so_far: Any


class DtmfReceived(TypedDict):
    """DTMF_RECEIVED: what ``on_dtmf`` is told."""

    call_id: str
    digit: str


PAYLOADS: Final[Mapping[PatterEventType, type]] = {
    PatterEventType.TRANSCRIPT_PARTIAL: TranscriptPartial,
    PatterEventType.TRANSCRIPT_FINAL: TranscriptEvent,
    PatterEventType.LLM_CHUNK: LlmChunk,
    PatterEventType.TTS_CHUNK: TtsChunk,
    PatterEventType.TOOL_CALL_STARTED: ToolCallStarted,
    PatterEventType.TOOL_CALL_COMPLETED: ToolCallCompleted,
    PatterEventType.TURN_STARTED: TurnStarted,
    PatterEventType.TURN_ENDED: TurnEnded,
    PatterEventType.INTERRUPTION: Interruption,
    PatterEventType.CALL_STARTED: CallStartEvent,
    PatterEventType.CALL_ENDED: CallEndEvent,
    PatterEventType.METRICS_COLLECTED: MetricsCollected,
    PatterEventType.DTMF_RECEIVED: DtmfReceived,
}
"""The shape of each type's payload."""

PUBLISHED: Final[Mapping[str, PatterEventType]] = {
    "call_start": PatterEventType.CALL_STARTED,
    "call_end": PatterEventType.CALL_ENDED,
    "transcript": PatterEventType.TRANSCRIPT_FINAL,
    "metrics": PatterEventType.METRICS_COLLECTED,
    "dtmf": PatterEventType.DTMF_RECEIVED,
    "transcript_partial": PatterEventType.TRANSCRIPT_PARTIAL,
    "llm_chunk": PatterEventType.LLM_CHUNK,
    "tts_chunk": PatterEventType.TTS_CHUNK,
    "interruption": PatterEventType.INTERRUPTION,
    "tool_call_started": PatterEventType.TOOL_CALL_STARTED,
    "tool_call_completed": PatterEventType.TOOL_CALL_COMPLETED,
}
"""Which event or fact of ``events/reporter.py`` is published as what. Turns are published by ``events/call_events.py``."""

FREQUENT_EVENTS: Final = frozenset({"llm_chunk", "tts_chunk"})
"""Facts that come many times a second: without a subscriber they must cost nothing."""
LOSSY_TYPES: Final = frozenset(
    {PatterEventType.TRANSCRIPT_PARTIAL, PatterEventType.LLM_CHUNK, PatterEventType.TTS_CHUNK}
)
"""Types that are worth little later: after the call their backlog has the time of the speech edges."""


def event_type(given: PatterEventType | str) -> PatterEventType:
    """Return the type of that name.

    Raises:
        ConfigurationError: there is none.
    """
    try:
        return PatterEventType(given)
    except ValueError:
        known = ", ".join(kind.name for kind in PatterEventType)
        raise ConfigurationError(f"there is no event type {given!r}; there are {known}") from None
