"""Make the payloads for the application from the events of a call: the one place where an event becomes a dict.

Each payload is made as its TypedDict, so that the type checker sees a misspelt or a missing key.
"""

from collections.abc import Mapping
from typing import Any, Final, get_args

import attrs

from patter_trio.events.kinds import PublishedEvent
from patter_trio.events.payloads import (
    CallEndEvent,
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
    PublicEvent,
    SpeechEdge,
    TranscriptCommitted,
    TurnMeasured,
)

# Read once at import: attrs.fields() for each edge would cost more than making the dict.
_FIELDS: Final[Mapping[type[Any], tuple[str, ...]]] = {
    kind: tuple(field.name for field in attrs.fields(kind)) for kind in (*get_args(SpeechEdge), InterimTranscript)
}
"""The fields of each class whose fields are its payload's keys."""


def callback_payload(event: PublicEvent, call_id: str) -> Mapping[str, Any]:
    """Return the payload of the callback ``on_<event.name>``."""
    match event:
        case TranscriptCommitted():
            return _transcript(event, call_id)
        case DigitReceived():
            return DtmfEvent(call_id=call_id, digit=event.digit)
        case MachineFound():
            return MachineDetectionEvent(
                call_id=call_id, answered_by=event.answered_by, greeting_ended=event.greeting_ended
            )
        case TurnMeasured():
            return MetricsEvent(call_id=call_id, turn=event.turn, cost_so_far=event.cost_so_far)
        # The facts of the call in the form that on_call_start gets, so that both payloads stay the same.
        case CallConnected():
            return event.info.payload()
        case CallOver():
            return _call_end(event)
        # The edges and interim words, whose fields are their keys.
        case _:
            return {"call_id": call_id, **given_fields(event)}


def bus_payload(event: PublishedEvent, call_id: str, timestamp_ms: int) -> Mapping[str, Any]:
    """Return the payload of an event on the event bus; ``timestamp_ms`` is for the types that no callback has."""
    match event:
        case LlmChunk():
            return LlmChunkEvent(
                call_id=call_id,
                timestamp_ms=timestamp_ms,
                turn_idx=event.turn_idx,
                reply=event.reply,
                text=event.text,
            )
        case TtsChunk():
            return TtsChunkEvent(
                call_id=call_id,
                timestamp_ms=timestamp_ms,
                turn_idx=event.turn_idx,
                reply=event.reply,
                audio=event.audio,
            )
        case TurnStarted():
            return TurnStartedEvent(call_id=call_id, timestamp_ms=timestamp_ms, turn_idx=event.turn_idx)
        case TurnEnded():
            return TurnEndedEvent(
                call_id=call_id, timestamp_ms=timestamp_ms, turn_idx=event.turn_idx, reason=event.reason
            )
        case ReplyInterrupted():
            return InterruptionEvent(
                call_id=call_id,
                timestamp_ms=timestamp_ms,
                turn_idx=event.turn_idx,
                text=event.text,
                speech_duration_ms=event.speech_duration_ms,
                reason=event.reason,
            )
        case ToolCallStarted():
            return ToolCallStartedEvent(
                call_id=call_id,
                timestamp_ms=timestamp_ms,
                name=event.name,
                tool_call_id=event.tool_call_id,
                arguments=event.arguments,
            )
        case ToolCallCompleted():
            return _tool_call_completed(event, call_id, timestamp_ms)
        case RecordingReported():
            return _recording_saved(event, call_id, timestamp_ms)
        case CostKnown():
            return CostReportedEvent(call_id=call_id, timestamp_ms=timestamp_ms, cost_usd=event.cost_usd)
        case _:
            return callback_payload(event, call_id)


def given_fields(event: SpeechEdge | InterimTranscript) -> dict[str, Any]:
    """Return an event's fields, which are its payload's keys, without those that are None."""
    return {name: value for name in _FIELDS[type(event)] if (value := getattr(event, name)) is not None}


def _transcript(event: TranscriptCommitted, call_id: str) -> TranscriptEvent:
    payload = TranscriptEvent(call_id=call_id, role=event.role, text=event.text, history=event.history)
    if event.revises:
        payload["revises"] = True
    return payload


def _call_end(event: CallOver) -> CallEndEvent:
    payload = CallEndEvent(
        call_id=event.info.call_id,
        caller=event.info.caller,
        callee=event.info.callee,
        direction=event.info.direction,
        ended_at=event.ended_at,
        transcript=event.transcript,
        metrics=event.metrics,
        tool_calls=event.tool_calls,
        outcome=event.outcome,
    )
    # Absent rather than empty, like every key that does not apply.
    if event.error:
        payload["error"] = event.error
    return payload


def _recording_saved(event: RecordingReported, call_id: str, timestamp_ms: int) -> RecordingSavedEvent:
    payload = RecordingSavedEvent(
        call_id=call_id, timestamp_ms=timestamp_ms, recording_id=event.recording_id, url=event.url
    )
    if event.duration is not None:
        payload["duration"] = event.duration
    return payload


def _tool_call_completed(event: ToolCallCompleted, call_id: str, timestamp_ms: int) -> ToolCallCompletedEvent:
    payload = ToolCallCompletedEvent(
        call_id=call_id,
        timestamp_ms=timestamp_ms,
        name=event.name,
        tool_call_id=event.tool_call_id,
        arguments=event.arguments,
        result=event.result,
        duration=event.duration,
    )
    if event.error:
        payload["error"] = event.error
    return payload
