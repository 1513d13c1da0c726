"""The types of events on the event bus, each with its payload and the class of events that it publishes.

The payloads' shapes are in ``events/payloads.py``. A type that means the same as a callback carries the callback's
payload.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from patter_trio.errors import ConfigurationError
from patter_trio.events.payloads import (
    CallEndEvent,
    CallStartEvent,
    CostReportedEvent,
    DtmfEvent,
    InterruptionEvent,
    LlmChunkEvent,
    MachineDetectionEvent,
    MetricsEvent,
    RecordingSavedEvent,
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
    CostKnown,
    LlmChunk,
    RecordingReported,
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
    MachineFound,
    TranscriptCommitted,
    TurnMeasured,
)


# Strings, so that a type can be written as its name, and logs show it.
class PatterEventType(StrEnum):
    """The types of events on :class:`~patter_trio.EventBus`; each member is also a string, such as ``llm_chunk``."""

    TRANSCRIPT_PARTIAL = "transcript_partial"
    """An interim result of the STT."""
    TRANSCRIPT_FINAL = "transcript_final"
    """The event of ``on_transcript``: the caller's committed words, or the agent's words that the caller heard."""
    LLM_CHUNK = "llm_chunk"
    """A piece of text from the LLM or from ``on_message``; a fixed text, such as a greeting, has none."""
    TTS_CHUNK = "tts_chunk"
    """The agent's audio that was written to the carrier."""
    TOOL_CALL_STARTED = "tool_call_started"
    TOOL_CALL_COMPLETED = "tool_call_completed"
    TURN_STARTED = "turn_started"
    """The begin of a turn, at ``user_speech_eos``; of turn 0, if the agent speaks first, when that reply begins."""
    TURN_ENDED = "turn_ended"
    """The end of a turn: once for each turn that started, before the next one starts."""
    INTERRUPTION = "interruption"
    """The cut of a reply, after each ``agent_speech_ended`` that has ``interrupted``."""
    CALL_STARTED = "call_started"
    """The begin of the call's media."""
    CALL_ENDED = "call_ended"
    """The end of a call, also of one that was announced and never connected, or that was answered busy."""
    METRICS_COLLECTED = "metrics_collected"
    DTMF_RECEIVED = "dtmf_received"
    MACHINE_DETECTED = "machine_detected"
    """The finding of the carrier about who has answered a call that we placed."""
    RECORDING_SAVED = "recording_saved"
    """A recording that the carrier has made, once for each; most come after the call's end."""
    COST_REPORTED = "cost_reported"
    """What the carrier charges for the call, once for each amount; most come after the call's end."""


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
    PatterEventType.MACHINE_DETECTED: MachineDetectionEvent,
    PatterEventType.RECORDING_SAVED: RecordingSavedEvent,
    PatterEventType.COST_REPORTED: CostReportedEvent,
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
    | MachineFound
    | RecordingReported
    | CostKnown
)
"""An event of a call that appears on the event bus."""

# By class and not by name: the meter's and the tracer's tables work alike, and a misspelt class does not import.
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
    MachineFound: PatterEventType.MACHINE_DETECTED,
    RecordingReported: PatterEventType.RECORDING_SAVED,
    CostKnown: PatterEventType.COST_REPORTED,
}
"""The type under which each event of a call is published."""

# Up to fifty pieces of text and ten of audio a second. All others are rare, and made whether or not anybody listens.
FREQUENT_EVENTS: Final[Mapping[type[Any], PatterEventType]] = {
    LlmChunk: PatterEventType.LLM_CHUNK,
    TtsChunk: PatterEventType.TTS_CHUNK,
}
"""Events that come many times a second: without a subscriber they must cost nothing."""
# Interim words, too, although they are not frequent enough to be left unmade: the final ones replace them.
LOSSY_TYPES: Final = frozenset(
    {PatterEventType.TRANSCRIPT_PARTIAL, PatterEventType.LLM_CHUNK, PatterEventType.TTS_CHUNK}
)
"""Types that are worth little later: after the call, their backlog has the time limit of the speech edges."""


def event_type(given: PatterEventType | str) -> PatterEventType:
    """Return the event type with a name.

    Raises:
        ConfigurationError: there is no such type.
    """
    try:
        return PatterEventType(given)
    except ValueError:
        known = ", ".join(kind.name for kind in PatterEventType)
        # "from None": the enum's own error names the class and not the choices.
        raise ConfigurationError(f"the event type must be one of {known}, got {given!r}") from None
