"""The types of events on the event bus, and for each its payload and the event of a call that it is made from.

The payloads' shapes are in ``events/payloads.py``. A type that means the same as a callback carries the callback's payload.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from patter_trio.errors import ConfigurationError
from patter_trio.events.payloads import (
    CallEndEvent,
    CallStartEvent,
    DtmfEvent,
    InterruptionEvent,
    LlmChunkEvent,
    MetricsEvent,
    ToolCallCompletedEvent,
    ToolCallStartedEvent,
    TranscriptEvent,
    TranscriptPartialEvent,
    TtsChunkEvent,
    TurnEndedEvent,
    TurnStartedEvent,
)
from patter_trio.events.turns import TurnEnded, TurnStarted
from patter_trio.metrics.internal_events import (
    LlmChunk,
    ReplyInterrupted,
    ToolCallCompleted,
    ToolCallStarted,
    TtsChunk,
)
from patter_trio.metrics.public_events import (
    CallConnected,
    CallOver,
    DigitReceived,
    InterimTranscript,
    TranscriptCommitted,
    TurnMeasured,
)


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


PAYLOADS: Final[Mapping[PatterEventType, type]] = {
    PatterEventType.TRANSCRIPT_PARTIAL: TranscriptPartialEvent,
    PatterEventType.TRANSCRIPT_FINAL: TranscriptEvent,
    PatterEventType.LLM_CHUNK: LlmChunkEvent,
    PatterEventType.TTS_CHUNK: TtsChunkEvent,
    PatterEventType.TOOL_CALL_STARTED: ToolCallStartedEvent,
    PatterEventType.TOOL_CALL_COMPLETED: ToolCallCompletedEvent,
    PatterEventType.TURN_STARTED: TurnStartedEvent,
    PatterEventType.TURN_ENDED: TurnEndedEvent,
    PatterEventType.INTERRUPTION: InterruptionEvent,
    PatterEventType.CALL_STARTED: CallStartEvent,
    PatterEventType.CALL_ENDED: CallEndEvent,
    PatterEventType.METRICS_COLLECTED: MetricsEvent,
    PatterEventType.DTMF_RECEIVED: DtmfEvent,
}
"""The shape of each type's payload."""

PublishedEvent = (
    InterimTranscript
    | TranscriptCommitted
    | LlmChunk
    | TtsChunk
    | ToolCallStarted
    | ToolCallCompleted
    | TurnStarted
    | TurnEnded
    | ReplyInterrupted
    | CallConnected
    | CallOver
    | TurnMeasured
    | DigitReceived
)
"""An event of a call that appears on the event bus."""

PUBLISHED: Final[Mapping[type[Any], PatterEventType]] = {
    InterimTranscript: PatterEventType.TRANSCRIPT_PARTIAL,
    TranscriptCommitted: PatterEventType.TRANSCRIPT_FINAL,
    LlmChunk: PatterEventType.LLM_CHUNK,
    TtsChunk: PatterEventType.TTS_CHUNK,
    ToolCallStarted: PatterEventType.TOOL_CALL_STARTED,
    ToolCallCompleted: PatterEventType.TOOL_CALL_COMPLETED,
    TurnStarted: PatterEventType.TURN_STARTED,
    TurnEnded: PatterEventType.TURN_ENDED,
    ReplyInterrupted: PatterEventType.INTERRUPTION,
    CallConnected: PatterEventType.CALL_STARTED,
    CallOver: PatterEventType.CALL_ENDED,
    TurnMeasured: PatterEventType.METRICS_COLLECTED,
    DigitReceived: PatterEventType.DTMF_RECEIVED,
}
"""The type under which each event of a call is published."""

FREQUENT_EVENTS: Final[Mapping[type[Any], PatterEventType]] = {
    LlmChunk: PatterEventType.LLM_CHUNK,
    TtsChunk: PatterEventType.TTS_CHUNK,
}
"""Events that come many times a second: without a subscriber they must cost nothing."""
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
